"""The state machine: everybody does everything in any order, on the deployed contracts and on the model (tests/protocol/world.py).

A rule is one act of one party. What it is about is drawn as a number that a ``Random`` starts from, so that every example is short
and repeatable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bisection.game import Move, Owed, StepOpening, Timeout
from contracts.bindings import step_commitment
from contracts.jobs import NATIVE, NOBODY, JobStatus, Terms
from tests.protocol.actors import hostile_move, mutated, opening_of, random_trainer_move
from tests.protocol.deployed import BOND, NAMES, PARAMETERS, Deployed
from tests.protocol.executions import WORKS, digest
from tests.protocol.model_games import GameRecord
from tests.protocol.parties import Parties, Watch

__all__ = ["Protocol"]

T = TypeVar("T")
SEEDS = st.integers(0, 2**20).map(Random)
DAY = 24 * 60 * 60
CHALLENGERS = ("friend", "hostile", "copycat")
ANYBODY = {
    "TaskRegistry": ("finalise", "expire", "release"),
    "DisputeGame": ("reclaim", "timeout"),
    "Delivery": ("give_up", "reclaim"),
}
MOST_JOBS, MOST_GAMES = 4, 10


class Protocol(RuleBasedStateMachine):
    """Requesters, trainers, challengers, a miner and the owner."""

    def __init__(self, chain: Deployed, tally: Counter[str]) -> None:
        super().__init__()
        self.parties = Parties(chain, tally)
        self.world, self.tally = self.parties.world, tally
        self.world.before_move = self.copied
        self.front_runs = 0

    # Looking around

    def creditors(self) -> list[str]:
        """Contracts that owe something."""
        return [contract for contract, ledger in self.world.models.items() if any(ledger.credits.values())]

    def jobs(self, *statuses: JobStatus) -> list[int]:
        return [number for number, job in self.world.registry.jobs.items() if job.status in statuses]

    def disputed(self) -> list[int]:
        """Games that go on."""
        return [n for n, g in self.world.games.games.items() if g.live and self.parties.job(g.job).disputable(g.attempt)]

    def owing(self, who: str) -> list[int]:
        """Games in which it is a trainer's turn."""
        return [n for n in self.disputed() if self.trainer(n) == who and self.game(n).state.owed != Owed.NOTHING]

    def game(self, number: int) -> GameRecord:
        return self.world.games.games[number]

    def trainer(self, number: int) -> str:
        return self.parties.attempts[self.game(number).job, self.game(number).attempt].who

    def in_window(self) -> list[tuple[int, int]]:
        """Segments that can be disputed."""
        return [
            (number, k)
            for number in self.jobs(JobStatus.TRAINING, JobStatus.VERIFICATION)
            for k, segment in enumerate(self.parties.job(number).segments)
            if self.world.clock <= segment.window_end
        ]

    def training(self, who: str) -> list[int]:
        """Jobs whose trainer has a segment to post."""
        found = [(number, self.parties.attempt(number)) for number in self.jobs(JobStatus.TRAINING)]
        return [number for number, attempt in found if attempt is not None and attempt.who == who]

    def watches(self, who: str) -> list[Watch]:
        """Disputes that somebody pursues."""
        return [w for w in self.parties.watches if w.who == who and self.parties.job(w.job).disputable(w.attempt)]

    def counted(self, rule: str) -> None:
        self.tally["rules"] += 1
        self.tally[f"rule: {rule}"] += 1

    # The requester

    @initialize(random=SEEDS, who=st.sampled_from(["honest", "liar", "liar"]), segments=st.integers(0, 3))
    def begin(self, random: Random, who: str, segments: int) -> None:
        """A job that somebody has begun to work on."""
        self.open_job(random)
        for _ in range(2):
            if self.jobs(JobStatus.OPEN):
                self.parties.claim(1, who, random)
                self.parties.pass_time(1)
        for _ in range(segments):
            if self.training(who):
                self.parties.post(1)

    @precondition(lambda self: len(self.world.registry.jobs) < MOST_JOBS)
    @rule(random=SEEDS)
    def open_job(self, random: Random) -> None:
        self.counted("open_job")
        work = random.choice(WORKS)
        retained = random.choice((0, 0, 2_500, 10_000))
        terms = Terms(
            token=random.choice(self.world.chain.tokens),  # type: ignore[arg-type]
            stake=random.choice((1, 3, 10_001, 10**18 + 7)),
            trainer=random.choice((NOBODY, NOBODY, NOBODY, self.world.address("honest"))),  # type: ignore[arg-type]
            game=self.world.chain.game,  # type: ignore[arg-type]
            attempts=random.choice((1, 2, 3)),
            segment_period=random.choice((700, 10_000)),
            challenge_window=random.choice((60, 2_000, 5_000)),
            retained_share=retained,
            delivery_period=700 if retained else 0,
        )
        bounty = random.choice((0, 1, 7, 10**18 + 1))
        parent = random.choice((0, 0, 0, 1))
        value = terms.value(bounty) + random.choice((0, 0, 0, 0, 1))
        spec = replace(work.spec, numerics_version=1)
        if self.world.act("requester", "TaskRegistry", "open_job", spec, terms, bounty, parent, "", value=value):
            number = len(self.world.registry.jobs)
            self.parties.works[number] = work
            if random.random() < 0.7:
                self.parties.watched.add(number)

    @precondition(lambda self: self.jobs(JobStatus.OPEN) and self.world.chain.block % 7 == 0)
    @rule(random=SEEDS)
    def cancel(self, random: Random) -> None:
        self.counted("cancel")
        who = random.choice(("requester", "requester", "liar"))
        self.world.act(who, "TaskRegistry", "cancel", random.choice(list(self.world.registry.jobs)))

    # Trainers

    @precondition(lambda self: self.jobs(JobStatus.OPEN))
    @rule(random=SEEDS, who=st.sampled_from(["honest", "liar", "liar"]))
    def claim(self, random: Random, who: str) -> None:
        self.counted("claim")
        self.parties.claim(random.choice(self.jobs(JobStatus.OPEN)), who, random)

    @precondition(lambda self: self.training("honest") and not self.world.calendar.paused and self.parties.free("honest"))
    @rule(random=SEEDS)
    def post_honestly(self, random: Random) -> None:
        self.counted("post_honestly")
        self.parties.post(random.choice(self.training("honest")))

    @precondition(lambda self: self.training("liar"))
    @rule(random=SEEDS)
    def post_a_lie(self, random: Random) -> None:
        self.counted("post_a_lie")
        self.parties.post(random.choice(self.training("liar")))

    @precondition(lambda self: self.jobs(JobStatus.TRAINING))
    @rule(random=SEEDS)
    def post_badly(self, random: Random) -> None:
        self.counted("post_badly")
        number = random.choice(self.jobs(JobStatus.TRAINING))
        job, attempt = self.parties.job(number), self.parties.attempt(number)
        assert attempt is not None
        root, start, end, proof = self.parties.span(number, job.attempt, len(job.segments)).posting()
        args = random.choice([(digest("no root"), start, end, proof), (root, start, digest("no end"), proof), (root, (), end, proof)])
        who = attempt.who if random.random() < 0.7 else "anyone"
        if who != attempt.who:
            args = (root, start, end, proof)
        assert not self.world.act(who, "TaskRegistry", "post_segment", number, *args)

    @precondition(lambda self: self.owing("honest") and not self.world.calendar.paused and self.parties.free("honest"))
    @rule(random=SEEDS)
    def defend_honestly(self, random: Random) -> None:
        self.counted("defend_honestly")
        self.parties.defend(random.choice(self.owing("honest")))

    @precondition(lambda self: self.owing("liar"))
    @rule(random=SEEDS, thorough=st.booleans())
    def defend_a_lie(self, random: Random, thorough: bool) -> None:
        self.counted("defend_a_lie")
        self.parties.defend(random.choice(self.owing("liar")))

    @precondition(lambda self: self.owing("liar"))
    @rule(random=SEEDS)
    def say_anything(self, random: Random) -> None:
        self.counted("say_anything")
        number = random.choice(self.owing("liar"))
        self.world.move("liar", number, random_trainer_move(self.game(number).state, random))

    # Challengers

    @precondition(lambda self: self.watches("watcher") and self.parties.free("watcher"))
    @rule(random=SEEDS)
    def challenge_honestly(self, random: Random) -> None:
        self.counted("challenge_honestly")
        self.parties.pursue(random.choice(self.watches("watcher")))

    @precondition(lambda self: self.in_window())
    @rule(random=SEEDS)
    def befriend(self, random: Random) -> None:
        """Somebody in league with the trainer disputes the same lie in the right way, to be first."""
        self.counted("befriend")
        number, segment = random.choice(self.in_window())
        if self.parties.attempts[number, self.parties.job(number).attempt].who == "liar":
            self.parties.watch(random.choice(CHALLENGERS), number, segment)

    @precondition(lambda self: any(self.watches(who) for who in CHALLENGERS))
    @rule(random=SEEDS)
    def challenge_as_a_friend(self, random: Random) -> None:
        self.counted("challenge_as_a_friend")
        self.parties.pursue(random.choice([watch for who in CHALLENGERS for watch in self.watches(who)]))

    @precondition(lambda self: self.in_window() and len(self.world.games.games) < MOST_GAMES)
    @rule(random=SEEDS, who=st.sampled_from(CHALLENGERS))
    def open_for_nothing(self, random: Random, who: str) -> None:
        self.counted("open_for_nothing")
        number, segment = random.choice(self.in_window())
        span = self.parties.span(number, self.parties.job(number).attempt, segment)
        bond = BOND + random.choice((0, 0, 0, 0, 0, 1))
        if random.random() < 0.3:
            self.world.act(who, "DisputeGame", "open_blind", number, segment, value=bond)
            return
        self.open_step(who, number, segment, opening_of(span, random.randrange(span.length)), bond)

    def open_step(self, who: str, number: int, segment: int, opening: StepOpening, bond: int = BOND) -> None:
        """Commit to an opening, or open what was committed to."""
        salt = digest("salt of", who)
        commitment = step_commitment(self.world.address(who), number, segment, opening.step, salt)
        if not self.world.games.commitments.alive(commitment):
            self.world.act(who, "DisputeGame", "commit", commitment)
        else:
            self.world.open_step(who, number, segment, opening, salt, bond)

    @precondition(lambda self: any(self.game(n).state.step is not None for n in self.disputed()))
    @rule(random=SEEDS)
    def copy_an_opening(self, random: Random) -> None:
        """Every opening is public: the copy is at the same place."""
        self.counted("copy_an_opening")
        game = self.game(random.choice([n for n in self.disputed() if self.game(n).state.step is not None]))
        assert game.state.step is not None
        span = self.parties.span(game.job, game.attempt, game.segment)
        self.open_step("copycat", game.job, game.segment, opening_of(span, game.state.step))

    @precondition(lambda self: any(self.game(n).challenger == self.world.address("copycat") for n in self.disputed()))
    @rule()
    def listen_to_the_mempool(self) -> None:
        """From now on the copycat sees what others send, and its copy is mined first."""
        self.counted("listen_to_the_mempool")
        self.front_runs = 3

    def copied(self, who: str, number: int, move: Move) -> None:
        """Make somebody's move first, in all games of the copycat at the same place."""
        if self.front_runs == 0 or who in ("copycat", "liar", "honest") or isinstance(move, Timeout) or number not in self.disputed():
            return
        self.front_runs -= 1
        place, copycat = self.game(number).place, self.world.address("copycat")
        for other in [n for n in self.disputed() if self.game(n).challenger == copycat and self.game(n).place == place]:
            if other in self.disputed() and self.world.move("copycat", other, move):
                self.tally["copied moves"] += 1

    @precondition(lambda self: self.disputed())
    @rule(random=SEEDS)
    def move_for_nothing(self, random: Random) -> None:
        """Any legal move, in a game of anybody hostile."""
        self.counted("move_for_nothing")
        self.hostile(random, lambda move: move)

    @precondition(lambda self: self.disputed())
    @rule(random=SEEDS)
    def move_badly(self, random: Random) -> None:
        self.counted("move_badly")
        self.hostile(random, lambda move: mutated(move, random))

    def hostile(self, random: Random, change: Callable[[Move], Move]) -> None:
        honest = self.world.address("watcher")
        mine = [n for n in self.disputed() if self.game(n).challenger != honest]
        turn = [n for n in mine if self.game(n).state.owed == Owed.NOTHING]
        if not mine:
            return
        number = random.choice(turn or mine)
        game = self.game(number)
        span = self.parties.span(game.job, game.attempt, game.segment)
        who = self.world.name(game.challenger) if random.random() < 0.9 else "anyone"
        self.world.move(who, number, change(hostile_move(game.state, span, random)))

    # Delivery

    @precondition(lambda self: self.jobs(JobStatus.COMPLETED))
    @rule(random=SEEDS)
    def demand(self, random: Random) -> None:
        self.counted("demand")
        number = random.choice(self.jobs(JobStatus.COMPLETED))
        component = random.randrange(self.parties.job(number).spec.state_count + 1)
        bond = PARAMETERS.delivery_bond + random.choice((0, 0, 0, 0, 1))
        if self.world.act(random.choice(("hostile", "requester")), "Delivery", "demand", number, component, value=bond):
            at = len(self.world.delivery.demands)
            self.world.delivery.demands[at].seed = self.world.chain.view("Delivery", "demand_of", at)[3]

    @precondition(lambda self: self.world.delivery.demands)
    @rule(random=SEEDS, wrong=st.booleans())
    def answer(self, random: Random, wrong: bool) -> None:
        self.counted("answer")
        self.parties.answer(random.choice(("liar", "anyone")), random.choice(list(self.world.delivery.demands)), wrong)

    # Anybody, at any time

    @rule(random=SEEDS)
    def bring_about_an_end(self, random: Random) -> None:
        self.counted("bring_about_an_end")
        under_way: dict[str, Sequence[int]] = {
            "TaskRegistry": self.jobs(JobStatus.TRAINING, JobStatus.VERIFICATION, JobStatus.COMPLETED),
            "DisputeGame": [number for number, game in self.world.games.games.items() if game.live],
            "Delivery": [number for number, demand in self.world.delivery.demands.items() if demand.open],
        }
        contract = random.choice([contract for contract, numbers in under_way.items() if numbers] or ["TaskRegistry"])
        number = random.choice(under_way[contract] if random.random() < 0.9 and under_way[contract] else [1])
        name = random.choice(ANYBODY[contract])
        if name == "timeout":
            self.world.move("anyone", number, Timeout())
        else:
            self.world.act("anyone", contract, name, number)

    @precondition(lambda self: self.creditors())
    @rule(random=SEEDS)
    def withdraw(self, random: Random) -> None:
        self.counted("withdraw")
        contract = random.choice(self.creditors())
        ledger = self.world.models[contract]
        owed = [(token, account) for token, account in ledger.credits if ledger.credits[token, account]]
        mine = [(token, account) for token, account in owed if account in self.world.chain.accounts.values()]
        token, account = random.choice(mine or [(NATIVE, self.world.address("anyone"))])
        if random.random() < 0.2 and contract != "DisputeGame":
            self.world.act("anyone", contract, "burn", token)
        else:
            self.world.act(self.world.name(account), contract, "withdraw", token)

    # Time, the miner and the owner

    @rule(seconds=st.sampled_from([1, 1, 1, 12, 59, 60, 399, 600, 601, 700, 1_000, 2_500, 10_001]))
    def wait(self, seconds: int) -> None:
        self.counted("wait")
        self.parties.pass_time(seconds)

    @rule(random=SEEDS, after=st.sampled_from([-1, 0, 1]))
    def wait_for_a_boundary(self, random: Random, after: int) -> None:
        """Go to the second before, of, or after something that happens at a certain second."""
        seconds = [second + after - self.world.clock for second in self.boundaries() if second + after > self.world.clock]
        if self.world.calendar.paused:
            seconds = [self.world.calendar.paused_until + after - self.world.chain.time]
        if seconds and (wait := random.choice(seconds)) > 0:
            self.counted("wait_for_a_boundary")
            self.parties.pass_time(wait)

    def boundaries(self) -> set[int]:
        """Seconds of protocol time in which something ends."""
        found: set[int] = set()
        for job in self.world.registry.jobs.values():
            found |= {job.deadline, job.delivery_end, *(segment.window_end for segment in job.segments)}
        for game in self.world.games.games.values():
            state = game.state
            found.add(state.moved_at + (state.challenger_clock if state.owed == Owed.NOTHING else state.trainer_clock))
        return found | {demand.answer_by for demand in self.world.delivery.demands.values()}

    @precondition(lambda self: any(True for _ in self.parties.dues()))
    @rule(who=st.sampled_from(["honest", "watcher"]), seconds=st.sampled_from([30, 500, 5_000]))
    def censor(self, who: str, seconds: int) -> None:
        """The miner leaves out what somebody sends, until it must be in."""
        self.counted("censor")
        self.parties.censored[who] = self.world.clock + seconds

    @precondition(lambda self: self.world.calendar.paused or self.world.chain.block % 5 == 0)
    @rule(random=SEEDS)
    def pause(self, random: Random) -> None:
        self.counted("pause")
        name = "unpause" if self.world.calendar.paused and random.random() < 0.7 else "pause"
        self.world.act(random.choice(("owner", "owner", "owner", "liar")), "TaskRegistry", name)

    @precondition(lambda self: self.world.chain.block % 7 == 0)
    @rule(random=SEEDS)
    def impersonate(self, random: Random) -> None:
        """Only the contracts may call each other."""
        self.counted("impersonate")
        number = random.choice(list(self.world.registry.jobs) or [1])
        calls: list[tuple[Any, ...]] = [
            ("game_opened", number, 0), ("game_closed", number, 1, 0), ("convict", number, 1, self.world.address("hostile")),
            ("demand_opened", number), ("demand_closed", number), ("withhold", number),
        ]  # fmt: skip
        name, *args = random.choice(calls)
        self.world.refused("hostile", "TaskRegistry", name, *args)

    @invariant()
    def model_and_contracts_agree(self) -> None:
        self.world.check()

    # The end

    def teardown(self) -> None:
        try:
            self.settle()
            self.world.check()
            self.nobody_honest_has_lost()
        finally:
            self.world.close()

    def settle(self) -> None:
        """With nobody doing more than anybody may, everything ends, and everything is paid out."""
        self.tally["histories"] += 1
        for _ in range(60):
            for number in self.jobs(JobStatus.OPEN):
                self.world.act("requester", "TaskRegistry", "cancel", number)
            for number in [n for n, game in self.world.games.games.items() if game.live]:
                self.world.act("anyone", "DisputeGame", "reclaim", number)
                self.world.move("anyone", number, Timeout())
            for name in ("expire", "finalise", "release"):
                for number in self.jobs(JobStatus.TRAINING, JobStatus.VERIFICATION, JobStatus.COMPLETED):
                    self.world.act("anyone", "TaskRegistry", name, number)
            for number in [n for n, demand in self.world.delivery.demands.items() if demand.open]:
                for name in ("give_up", "reclaim"):
                    self.world.act("anyone", "Delivery", name, number)
            if self.parties.over():
                break
            self.parties.pass_time(14 * DAY if self.world.calendar.paused else 5_001)
        assert self.parties.over(), "everything ends"
        for contract, ledger in self.world.models.items():
            for token, account in list(ledger.credits):
                if account not in self.world.chain.accounts.values():
                    if ledger.credits[token, account]:
                        assert self.world.act("anyone", contract, "burn", token)
                elif ledger.credits[token, account]:
                    assert self.world.act(self.world.name(account), contract, "withdraw", token)
            for token in self.world.chain.tokens:
                assert self.world.chain.balance(token, self.world.chain.addresses[contract]) == 0, "nothing is left behind"

    def nobody_honest_has_lost(self) -> None:
        for who in NAMES:
            now, before = self.world.wealth(who), self.world.purses[who]
            if who in ("honest", "watcher", "anyone", "owner"):
                assert all(now[token] >= before[token] for token in now), f"{who} has lost money"
