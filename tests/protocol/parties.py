"""The parties of one history: their jobs, their executions, the agents that play for them, and what honest ones must do by when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from bisection.agent import Challenger, Defender
from bisection.game import Claim, Game, Move, Owed, Revelation, StepOpening
from contracts.bindings import BLIND, step_commitment
from contracts.jobs import JobStatus, claim_commitment
from sims.chain.runs import Span
from tests.protocol.actors import Service
from tests.protocol.deployed import BOND, Deployed
from tests.protocol.executions import Execution, Work, digest
from tests.protocol.model import Job
from tests.protocol.model_games import ENDS, GameRecord, packed
from tests.protocol.world import World
from tests.support.liar import Liar, balanced

__all__ = ["Due", "Parties", "Watch"]

HONEST = ("honest", "watcher")


class Seat:
    """The chain as one party sees it: bisection.agent.Chain. ``wanted`` is how it wants to open: (step,) or (None,)."""

    def __init__(self, parties: Parties, who: str) -> None:
        self._parties, self._who = parties, who
        self.wanted: tuple[StepOpening | None] | None = None

    def now(self) -> int:
        return self._parties.world.chain.time

    def game(self, game: int) -> Game:
        games = self._parties.world.games
        return games.timed(games.games[game])

    def revelations(self, game: int) -> list[Revelation]:
        return self._parties.world.games.games[game].revelations

    def open(self, claim: Claim, opening: StepOpening | None) -> int:
        self.wanted = (opening,)
        return 0

    def move(self, game: int, move: Move) -> None:
        record = self._parties.world.games.games[game]
        if self._who in HONEST and self._parties.world.calendar.paused and isinstance(move, ENDS):
            return  # nothing is settled during a pause: it waits
        if self._parties.world.move(self._who, game, move) or self._who not in HONEST:
            return
        over = not self._parties.job(record.job).disputable(record.attempt)
        assert over, f"{self._who} makes only legal moves, unless a copy of it has been mined first: {move}"


@dataclass
class Watch:
    """One challenger that replays one posted segment. ``opening`` is the step to open a game at, None for blind."""

    who: str
    job: int
    attempt: int
    segment: int
    agent: Challenger
    opening: StepOpening | None
    window_end: int
    salt: bytes
    game: int | None = None


@dataclass(frozen=True)
class Due:
    """What an honest party must have done in this second of protocol time at the latest."""

    second: int
    act: Callable[[], None]


@dataclass
class Attempt:
    """One trainer at work on a job."""

    who: str
    execution: Execution
    service: str
    defenders: dict[int, Liar] = field(default_factory=dict)  # by game


class Parties:
    """Everybody, in one world."""

    def __init__(self, chain: Deployed, tally: Counter[str]) -> None:
        self.world, self.tally = World(chain, tally), tally
        self.world.judged = self.judged
        self.works: dict[int, Work] = {}
        self.watched: set[int] = set()
        self.attempts: dict[tuple[int, int], Attempt] = {}
        self.watches: list[Watch] = []
        self.censored: dict[str, int] = {}  # until when nothing of somebody is mined before it must be
        self._salts = 0

    # Jobs

    def job(self, number: int) -> Job:
        return self.world.registry.jobs[number]

    def attempt(self, number: int) -> Attempt | None:
        """The trainer at work on a job, if it ever had one."""
        return self.attempts.get((number, self.job(number).attempt))

    def span(self, number: int, attempt: int, segment: int) -> Span:
        """A segment as an attempt's trainer has executed it."""
        return self.attempts[number, attempt].execution.span(*self.works[number].segments[segment])

    def salt(self) -> bytes:
        self._salts += 1
        return digest("salt", self._salts)

    def fitting(self, number: int) -> list[Execution]:
        """The executions that go on from where the job stands: from the right state, or from that of a fraud which is final."""
        job, work = self.job(number), self.works[number]
        done = sum(steps for _, steps in work.segments[: job.finalised])
        made = [self.attempts[key].execution for key in self.attempts if key[0] == number]
        return [execution for execution in (work.honest, *made) if execution.root(done) == job.state]

    def claim(self, number: int, who: str, random: Random) -> None:
        """Commit to a claim, or make the one that was committed to; an honest trainer only claims what it can go on with."""
        job, work = self.job(number), self.works[number]
        if who == "honest" and work.honest not in self.fitting(number):
            self.tally["refused a job that stands at a wrong state"] += 1
            return
        salt, world = digest("claim", number, who), self.world
        commitment = claim_commitment(world.address(who), number, salt)
        if not world.registry.commitments.alive(commitment):
            world.act(who, "TaskRegistry", "commit", commitment)
            return
        value = job.terms.value(job.terms.stake)
        if not world.act(
            who,
            "TaskRegistry",
            "claim",
            number,
            world.chain.view("TaskRegistry", "job", number).offer,
            salt,
            "https://trainer.example",
            value=value,
        ):
            return
        execution = work.honest
        if who != "honest":
            lie = work.lie(random.randrange(work.variety))
            done = sum(steps for _, steps in work.segments[: job.finalised])
            execution = lie if lie.root(done) == job.state else self.fitting(number)[-1]
        service = "truthful" if who == "honest" else random.choice(("truthful", "silent", "lying", "roots only"))
        self.attempts[number, job.attempt] = Attempt(who, execution, service)
        self.tally[f"attempt {job.attempt} of {who}"] += 1

    def post(self, number: int) -> None:
        """The trainer of a job posts its next segment."""
        job, attempt = self.job(number), self.attempt(number)
        assert attempt is not None
        segment = len(job.segments)
        span = self.span(number, job.attempt, segment)
        allowed = self.world.act(attempt.who, "TaskRegistry", "post_segment", number, *span.posting())
        assert allowed or attempt.who != "honest", "an honest trainer can post"
        if allowed and number in self.watched:
            self.watch("watcher", number, segment)

    def defend(self, number: int) -> None:
        """The trainer of a game makes the move that its execution has for it, if it has one."""
        game = self.world.games.games[number]
        attempt = self.attempts[game.job, game.attempt]
        seat, span = Seat(self, attempt.who), self.span(game.job, game.attempt, game.segment)
        if attempt.who == "honest":
            Defender(seat, span).play(number)
            return
        choose = lambda parts, value, maximum: balanced(parts, 0, value, maximum)  # noqa: E731
        attempt.defenders.setdefault(number, Liar(seat, span, choose)).play(number)

    def judged(self, number: int) -> None:
        """Whoever is convicted by a verdict has posted a wrong segment, or the trace of another execution."""
        game = self.world.games.games[number]
        span = self.span(game.job, game.attempt, game.segment)
        assert game.state.step is not None
        told = self.world.games.traces[game.place] == span.tensors(game.state.step).root
        assert not (told and span.whole.right(span.first, span.length)), "nobody is convicted of what is right"

    # Challengers

    def watch(self, who: str, number: int, segment: int) -> Watch | None:
        """Have somebody replay a posted segment; None where there is nothing to dispute."""
        job, work = self.job(number), self.works[number]
        posted, spec = job.segments[segment], job.spec
        start = job.segments[segment - 1].end_state if segment else spec.initial_state
        if start != work.honest.root(posted.first):
            return None  # the lie is in an earlier segment
        claim = Claim(
            number, job.attempt, segment, packed(job.trainer), posted.first, posted.steps, posted.history_root, spec.program_root,
            spec.node_count, spec.tensor_count, spec.state_count, spec.data_root, spec.data_count,
        )  # fmt: skip
        attempt = self.attempts[number, job.attempt]
        seat = Seat(self, who)
        served = Service(self.span(number, job.attempt, segment), attempt.service)
        agent = Challenger(seat, work.honest.span(*work.segments[segment]), claim, served)
        agent.open()
        if seat.wanted is None:
            return None
        assert attempt.who != "honest", "nobody has a case against an honest trainer"
        watch = Watch(who, number, job.attempt, segment, agent, seat.wanted[0], posted.window_end, self.salt())
        self.watches.append(watch)
        return watch

    def commitment(self, watch: Watch) -> bytes:
        step = BLIND if watch.opening is None else watch.opening.step
        return step_commitment(self.world.address(watch.who), watch.job, watch.segment, step, watch.salt)

    def history_root(self, watch: Watch) -> bytes:
        """The history that is disputed; zeros where it is no longer posted."""
        segments = self.job(watch.job).segments
        return segments[watch.segment].history_root if watch.segment < len(segments) else bytes(32)

    def open(self, watch: Watch) -> None:
        """Commit to the opening of a game, or open the one that was committed to."""
        world, opening = self.world, watch.opening
        if not world.games.commitments.alive(self.commitment(watch)):
            world.act(watch.who, "DisputeGame", "commit", self.commitment(watch))
            return
        if opening is None:
            args = watch.job, watch.segment, self.history_root(watch), watch.salt
            allowed = world.act(watch.who, "DisputeGame", "open_blind", *args, value=BOND)
        else:
            allowed = world.open_step(watch.who, watch.job, watch.segment, opening, watch.salt)
        if allowed:
            watch.game = len(world.games.games)

    def pursue(self, watch: Watch) -> bool:
        """The challenger's next act in its dispute; whether there was one."""
        if not self.job(watch.job).disputable(watch.attempt):
            return False
        if watch.game is None:
            if self.world.clock > watch.window_end or self.world.calendar.paused:
                return False
            self.open(watch)
            return True
        game = self.world.games.games[watch.game]
        if watch.who == "watcher" and self.world.games.due(game):
            assert self.world.act(watch.who, "DisputeGame", "contend", watch.game)
            self.tally["contended when due"] += 1
        before = game.state
        watch.agent.play(watch.game)
        return game.state != before

    # What honest parties must do, and by when

    def dues(self) -> Iterator[Due]:
        """The last seconds of all that honest parties have to do. A censor can hold them back until then, and no longer."""
        for number, job in self.world.registry.jobs.items():
            attempt = self.attempt(number)
            if attempt is not None and attempt.who == "honest" and job.status == JobStatus.TRAINING:
                yield Due(job.deadline, lambda number=number: self.post(number))  # type: ignore[misc]
        for number, game in self.world.games.games.items():
            if game.live and self.job(game.job).disputable(game.attempt):
                yield from self._due_in(number, game)
        for watch in self.watches:
            if watch.who == "watcher" and watch.game is None and self.job(watch.job).disputable(watch.attempt):
                yield Due(self._last_second(watch), lambda watch=watch: self.open(watch))  # type: ignore[misc]
        for number, demand in self.world.delivery.demands.items():
            job = self.job(demand.job)
            if demand.open and not job.settled and job.trainer == self.world.address("honest"):
                yield Due(demand.answer_by, lambda number=number: self.answer("honest", number))  # type: ignore[misc]

    def _due_in(self, number: int, game: GameRecord) -> Iterator[Due]:
        state = game.state
        trainers = state.owed != Owed.NOTHING
        if trainers and self.attempts[game.job, game.attempt].who == "honest":
            yield Due(self.world.last_second(number), lambda: self.defend(number))
        watch = next((watch for watch in self.watches if watch.game == number), None)
        if not trainers and watch is not None and watch.who == "watcher":
            yield Due(self.world.last_second(number), lambda: self._insist(watch))

    def _insist(self, watch: Watch) -> None:
        assert self.pursue(watch) or not self.job(watch.job).disputable(watch.attempt), "an honest challenger always has a move"

    def _last_second(self, watch: Watch) -> int:
        """Two blocks are needed to open at a step; one second in reserve is for a pause that outlasts the commitment."""
        commitments = self.world.games.commitments
        if not commitments.alive(self.commitment(watch)):
            return watch.window_end - 2
        return watch.window_end - 1 if commitments.usable(self.commitment(watch)) else self.world.clock + 1

    def pass_time(self, seconds: int) -> None:
        """Let time pass, in which honest parties do at the last moment what they have not done before."""
        world, target = self.world, self.world.chain.time + seconds
        while world.chain.time < target:
            if world.calendar.paused:
                world.mine(min(target, world.calendar.paused_until))
                self.tally["a pause has ended by itself"] += not world.calendar.paused
                continue
            due = min(self.dues(), key=lambda due: due.second, default=None)
            when = target if due is None else world.chain.time + due.second - world.clock
            if due is not None and when <= world.chain.time:
                self.tally["at the last moment"] += 1
                due.act()
                continue
            world.mine(min(target, when))

    def free(self, who: str) -> bool:
        """Whether a miner includes what somebody sends at once."""
        return self.world.clock >= self.censored.get(who, 0)

    # Delivery

    def answer(self, who: str, number: int, wrong: bool = False) -> None:
        """Show the leaf that was demanded, or another one."""
        demand = self.world.delivery.demands[number]
        assert demand.seed is not None
        execution = self.attempts[demand.job, self.job(demand.job).attempt].execution
        shown = execution.shown(demand.component, demand.seed + wrong)
        args = (shown.node, shown.tensor_root, shown.component_proof, shown.data, shown.leaf_proof)
        allowed = self.world.act(who, "Delivery", "answer", number, *args)
        assert allowed or who != "honest", "who has the model can show it"

    def over(self) -> bool:
        """Whether nothing is under way any more."""
        games = any(game.live for game in self.world.games.games.values())
        demands = any(demand.open for demand in self.world.delivery.demands.values())
        return not games and not demands and not any(job.escrow for job in self.world.registry.jobs.values())
