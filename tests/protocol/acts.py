"""What a party can do: every act of the protocol, honest or hostile, on the deployed contracts and on the model at once.

An act is a method with a condition under which it makes sense, and a weight. About what it is (which job, game,
element, amount) it draws from the ``Random`` that it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, TypeVar

from bisection.game import Move, Owed, Pick, PostTrace, Refute, Reveal, StepOpening, Timeout
from bisection.solver import defend
from contracts.bindings import BLIND, step_commitment
from contracts.jobs import NATIVE, NOBODY, JobStatus, Terms
from tests.protocol.actors import downward_move, garbled, hostile_move, misplaced, mutated, opening_of, random_trainer_move
from tests.protocol.deployed import BOND, PARAMETERS, Deployed
from tests.protocol.executions import WORKS, digest
from tests.protocol.sights import CHALLENGERS, UNDER_WAY, Sights

__all__ = ["ACTS", "Acts"]

MOST_JOBS, MOST_GAMES = 4, 12
SHORT, LONG = (1, 1, 1, 2, 12, 12, 60, 150), (399, 601, 700, 1_000, 2_500, 5_001)
ANYBODY = {
    "TaskRegistry": ("finalise", "expire", "release"),
    "DisputeGame": ("reclaim", "timeout"),
    "Delivery": ("give_up", "reclaim"),
}


@dataclass(frozen=True)
class Act:
    """Something that a party can do."""

    name: str
    weight: int
    sensible: Callable[[Acts], object]
    do: Callable[[Acts, Random], None]


ACTS: list[Act] = []
T = TypeVar("T", bound=Callable[["Acts", Random], None])


def act(weight: int, sensible: Callable[[Acts], object] = lambda self: True) -> Callable[[T], T]:
    """The method is an act."""

    def register(method: T) -> T:
        ACTS.append(Act(method.__name__, weight, sensible, method))
        return method

    return register


class Acts(Sights):
    """What is done in one history."""

    def __init__(self, chain: Deployed, tally: Counter[str]) -> None:
        super().__init__(chain, tally)
        self.world.before_move = self.copy_a_move
        self.done = 0
        self.never: set[str] = set()
        self.copies = 0  # how many of the moves to come the copycat makes first

    def one_of(self, seed: int) -> None:
        """Let somebody do something sensible. The same seed does not lead to the same twice in a history."""
        self.done += 1
        random = Random(hash((seed, self.done)))
        acts = [act for act in ACTS if act.name not in self.never and act.sensible(self)]
        if acts:
            (act,) = random.choices(acts, [act.weight for act in acts])
            before = (self.world.sent, self.world.chain.time)
            act.do(self, random)
            effective = (self.world.sent, self.world.chain.time) != before
            self.tally["acts" if effective else "acts that send nothing"] += 1
            self.tally[f"act: {act.name}"] += 1

    # The requester

    @act(6, lambda self: len(self.world.registry.jobs) < MOST_JOBS)
    def open_job(self, random: Random) -> None:
        work, parent = random.choice(WORKS), random.choice((0, 0, 0, 1))
        parents = [number for number, job in self.world.registry.jobs.items() if job.state == WORKS[-1].spec.initial_state]
        if parents and random.random() < 0.7:
            work, parent = WORKS[-1], random.choice(parents)
        retained = random.choice((0, 2_500, 10_000))
        terms = Terms(
            token=random.choice(self.world.chain.tokens),  # type: ignore[arg-type]
            stake=random.choice((1, 3, 10_001, 10**18 + 7)),
            trainer=random.choice((NOBODY, NOBODY, NOBODY, self.world.address("honest"))),  # type: ignore[arg-type]
            game=self.world.chain.game,  # type: ignore[arg-type]
            attempts=random.choice((1, 2, 3)),
            segment_period=random.choice((700, 10_000)),
            challenge_window=random.choice((60, 2_000, 5_000)),
            retained_share=retained,
            delivery_period=random.choice((700, 5_000)) if retained else 0,
        )
        bounty = random.choice((0, 1, 7, 10**18 + 1))
        value = terms.value(bounty) + (random.random() < 0.1)
        if self.world.act("requester", "TaskRegistry", "open_job", work.spec, terms, bounty, parent, "", value=value):
            number = len(self.world.registry.jobs)
            self.parties.works[number] = work
            if random.random() < 0.6:
                self.parties.watched.add(number)

    @act(1, lambda self: self.jobs(JobStatus.OPEN))
    def cancel(self, random: Random) -> None:
        who = random.choice(("requester", "liar", "anyone"))
        self.world.act(who, "TaskRegistry", "cancel", random.choice(list(self.world.registry.jobs)))

    # Trainers

    @act(12, lambda self: self.jobs(JobStatus.OPEN))
    def claim(self, random: Random) -> None:
        """Commit to a claim and make it in the next block, or do one of the two."""
        number, who = random.choice(self.jobs(JobStatus.OPEN)), random.choice(("honest", "liar", "liar"))
        self.parties.claim(number, who, random)
        if random.random() < 0.8:
            self.parties.pass_time(1)
            if self.parties.job(number).status == JobStatus.OPEN:
                self.parties.claim(number, who, random)

    @act(6, lambda self: self.spoilt())
    def look_at_a_spoilt_job(self, random: Random) -> None:
        """The honest trainer is offered a job that it cannot go on with."""
        self.parties.claim(random.choice(self.spoilt()), "honest", random)

    @act(10, lambda self: self.training("honest") and self.acting("honest") and not self.world.calendar.paused)
    def post_honestly(self, random: Random) -> None:
        self.parties.post(random.choice(self.training("honest")))

    @act(10, lambda self: self.training("liar"))
    def post_a_lie(self, random: Random) -> None:
        self.parties.post(random.choice(self.training("liar")))

    @act(1, lambda self: self.jobs(JobStatus.TRAINING))
    def post_badly(self, random: Random) -> None:
        number = random.choice(self.jobs(JobStatus.TRAINING))
        job, attempt = self.parties.job(number), self.parties.attempt(number)
        assert attempt is not None
        root, start, end, proof = posting = self.parties.span(number, job.attempt, len(job.segments)).posting()
        bad = [(digest("no root"), start, end, proof), (root, start, digest("no end"), proof), (root, (*start, root), end, proof)]
        who, args = random.choice([("anyone", posting), *((attempt.who, args) for args in bad)])
        assert not self.world.act(who, "TaskRegistry", "post_segment", number, *args)

    @act(20, lambda self: self.owing("honest") and self.acting("honest"))
    def defend_honestly(self, random: Random) -> None:
        self.parties.defend(random.choice(self.owing("honest")))

    @act(20, lambda self: self.owing("liar"))
    def defend_a_lie(self, random: Random) -> None:
        self.parties.defend(random.choice(self.owing("liar")))

    @act(3, lambda self: self.owing("liar"))
    def say_anything(self, random: Random) -> None:
        number = random.choice(self.owing("liar"))
        self.world.move("liar", number, random_trainer_move(self.game(number).state, random))

    @act(3, lambda self: self.owing("liar"))
    def garble_an_answer(self, random: Random) -> None:
        """What its execution has, but for one byte."""
        number = random.choice(self.owing("liar"))
        self.world.move("liar", number, garbled(self.answer_of(number, random), random))

    @act(5, lambda self: self.owing("liar") + self.owing("honest"))
    def answer_badly(self, random: Random) -> None:
        """An answer with something about it wrong, or somebody else's, or to something else."""
        number = random.choice(self.owing("liar") + self.owing("honest"))
        move = self.answer_of(number, random)
        if random.random() < 0.2:
            self.world.move(random.choice(("anyone", "hostile", "watcher")), number, move)
        elif isinstance(move, PostTrace) and random.random() < 0.5:
            self.world.misplaced(self.trainer(number), number, move, misplaced(self.world.told(number, move), random))
        elif self.trainer(number) == "liar":
            self.world.move("liar", number, mutated(move, random))

    def answer_of(self, number: int, random: Random) -> Move:
        """What the execution of a game's trainer has for it to say; anything where that is nothing."""
        game = self.game(number)
        decision = defend(game.state, self.parties.span(game.job, game.attempt, game.segment), game.state.moved_at)
        move = decision.action
        return move if isinstance(move, Reveal | PostTrace) else random_trainer_move(game.state, random)

    @act(1, lambda self: self.disputed())
    def call_silence(self, random: Random) -> None:
        """End a game whose mover seems to be silent."""
        self.world.move("anyone", random.choice([n for n in self.disputed() if self.silent(n)] or self.disputed()), Timeout())

    # Challengers

    @act(20, lambda self: self.watches("watcher") and self.acting("watcher"))
    def challenge_honestly(self, random: Random) -> None:
        self.parties.pursue(random.choice(self.watches("watcher")))

    @act(3, lambda self: self.lies() and len(self.parties.watches) < MOST_GAMES)
    def befriend(self, random: Random) -> None:
        """Somebody in league with the trainer disputes the same lie in the right way, to be first."""
        who = random.choice(CHALLENGERS)
        watch = self.parties.watch(who, *random.choice(self.lies()))
        if watch is not None:
            self.parties.pursue(watch)

    @act(10, lambda self: self.watches(*CHALLENGERS))
    def challenge_as_a_friend(self, random: Random) -> None:
        self.parties.pursue(random.choice(self.watches(*CHALLENGERS)))

    @act(6, lambda self: self.in_window() and len(self.world.games.games) < MOST_GAMES)
    def open_for_nothing(self, random: Random) -> None:
        number, segment = random.choice(self.in_window())
        who = random.choice(CHALLENGERS)
        bond = BOND + (random.random() < 0.1)
        span = self.parties.span(number, self.parties.job(number).attempt, segment)
        opening = None if random.random() < 0.4 else opening_of(span, random.randrange(span.length))
        self.open(who, number, segment, opening, bond)

    @act(12, lambda self: self.disputed())
    def play_on(self, random: Random) -> None:
        """Some moves in a row in one game, so that games are not only begun."""
        number = random.choice(self.disputed())
        for _ in range(random.randrange(2, 10)):
            if number not in self.disputed() or not self.take_turn(number, random):
                return
            self.parties.pass_time(1)

    def take_turn(self, number: int, random: Random) -> bool:
        """A move of whoever's turn it is in a game; whether there was one."""
        game = self.game(number)
        state, span = game.state, self.parties.span(game.job, game.attempt, game.segment)
        if state.owed != Owed.NOTHING:
            if self.trainer(number) == "liar" and random.random() < 0.1:
                return self.world.move("liar", number, garbled(self.answer_of(number, random), random))
            self.parties.defend(number)
            return game.state != state
        watch = next((watch for watch in self.parties.watches if watch.game == number), None)
        if watch is not None:
            return self.parties.pursue(watch)
        move = downward_move(state, span, random)
        return move is not None and self.world.move(self.world.name(game.challenger), number, move)

    @act(3, lambda self: self.disputed())
    def copy_an_opening(self, random: Random) -> None:
        """Every opening is public: the copy is at the same place."""
        game = self.game(random.choice(self.disputed()))
        span, step = self.parties.span(game.job, game.attempt, game.segment), game.state.step
        self.open("copycat", game.job, game.segment, None if step is None else opening_of(span, step))

    @act(8, lambda self: self.pending())
    def overtake_an_opening(self, random: Random) -> None:
        """The miner holds back an opening that it has seen, and the copycat commits to it and opens first."""
        watch = random.choice(self.pending())
        self.open("copycat", watch.job, watch.segment, watch.opening)

    def open(self, who: str, number: int, segment: int, opening: StepOpening | None, bond: int = BOND) -> None:
        """Commit to an opening, blind where it is None, if that is not done, and open in the next block."""
        if self.commit(who, number, segment, opening):
            self.parties.pass_time(1)
        salt = digest("salt of", who)
        if opening is None:
            segments = self.parties.job(number).segments
            root = segments[segment].history_root if segment < len(segments) else bytes(32)
            self.world.act(who, "DisputeGame", "open_blind", number, segment, root, salt, value=bond)
        else:
            self.world.open_step(who, number, segment, opening, salt, bond)

    def commit(self, who: str, number: int, segment: int, opening: StepOpening | None) -> bool:
        """Commit to an opening; False where that has been done."""
        step = BLIND if opening is None else opening.step
        commitment = step_commitment(self.world.address(who), number, segment, step, digest("salt of", who))
        if self.world.games.commitments.alive(commitment):
            return False
        return self.world.act(who, "DisputeGame", "commit", commitment)

    @act(1, lambda self: self.in_window())
    def open_badly(self, random: Random) -> None:
        """An opening that nobody has committed to, or that of another history."""
        number, segment = random.choice(self.in_window())
        root, salt = self.parties.job(number).segments[segment].history_root, digest("salt of", "hostile")
        if random.random() < 0.5:
            self.world.act("hostile", "DisputeGame", "open_blind", number, segment, root, digest("no salt"), value=BOND)
            return
        if self.commit("hostile", number, segment, None):
            self.parties.pass_time(1)
        self.world.act("hostile", "DisputeGame", "open_blind", number, segment, digest("no history"), salt, value=BOND)

    @act(1, lambda self: any(self.world.name(self.game(n).challenger) == "copycat" for n in self.disputed()))
    def listen_to_the_mempool(self, random: Random) -> None:
        """The copycat sees what others send next, and its copy is mined first."""
        self.copies = 3

    def copy_a_move(self, who: str, number: int, move: Move) -> None:
        """The copycat makes the move that somebody else has sent, in its own games at the same place, and is mined first."""
        if self.copies == 0 or who in ("copycat", "liar", "honest") or isinstance(move, Timeout) or number not in self.disputed():
            return
        self.copies -= 1
        place, copycat = self.game(number).place, self.world.address("copycat")
        for other in [n for n in self.disputed() if self.game(n).challenger == copycat and self.game(n).place == place]:
            if other in self.disputed() and self.world.move("copycat", other, move):
                self.tally["copied moves"] += 1

    @act(8, lambda self: self.hostile_games())
    def move_for_nothing(self, random: Random) -> None:
        """Any move at all, in a game of anybody hostile."""
        self.hostile(random, lambda move: move)

    @act(3, lambda self: self.hostile_games())
    def move_badly(self, random: Random) -> None:
        self.hostile(random, lambda move: mutated(move, random))

    @act(2, lambda self: self.hostile_games())
    def move_elsewhere(self, random: Random) -> None:
        """A move that says of the step what is so of another one."""
        number = random.choice(self.hostile_games())
        game = self.game(number)
        move = hostile_move(game.state, self.parties.span(game.job, game.attempt, game.segment), random)
        if told := self.world.told(number, move):
            self.world.misplaced(self.world.name(game.challenger), number, move, misplaced(told, random))

    @act(4, lambda self: self.refutable())
    def refute(self, random: Random) -> None:
        """Say of what was revealed that it is not what was picked, or something like it."""
        number = random.choice(self.refutable())
        game = self.game(number)
        d = game.state.descent
        assert d is not None and d.below is not None
        refutation: Move = Refute(d.origin, d.first, d.above, d.below)
        who = self.world.name(game.challenger) if random.random() < 0.9 else "anyone"
        self.world.move(who, number, mutated(refutation, random) if random.random() < 0.5 else refutation)

    @act(5, lambda self: any(self.game(n).answered for n in self.disputed()))
    def go_back(self, random: Random) -> None:
        """What would have answered something that was revealed before, or the answer itself once more."""
        number = random.choice([n for n in self.disputed() if self.game(n).answered])
        game = self.game(number)
        d = random.choice(game.answered)
        assert d.below is not None
        challenger, trainer = self.world.name(game.challenger), self.trainer(number)
        if game.state.owed != Owed.NOTHING:
            if trainer == "liar":
                self.world.move(trainer, number, Reveal(d.trail, d.picked, d.below))
        elif challenger != "watcher":
            pick = Pick(d.seal(game.state.claim.trainer), random.randrange(1 << d.levels))
            refutation = Refute(d.origin, d.first, d.above, d.below)
            self.world.move(challenger, number, random.choice((pick, refutation, refutation)))

    @act(3, lambda self: any(game.live for game in self.world.games.games.values()))
    def contend(self, random: Random) -> None:
        number = random.choice([n for n, game in self.world.games.games.items() if game.live])
        self.world.act(random.choice(("anyone", "copycat")), "DisputeGame", "contend", number)

    @act(3, lambda self: self.past())
    def go_on_after_the_end(self, random: Random) -> None:
        """Any move at all in a game whose attempt is over: it settles nothing."""
        number = random.choice(self.past())
        game = self.game(number)
        if game.state.owed == Owed.NOTHING:
            move = hostile_move(game.state, self.parties.span(game.job, game.attempt, game.segment), random)
            self.world.move(self.world.name(game.challenger), number, move)
        else:
            self.world.move(random.choice(("honest", "liar")), number, self.answer_of(number, random))

    def hostile(self, random: Random, change: Callable[[Move], Move]) -> None:
        number = random.choice(self.hostile_games())
        game = self.game(number)
        span = self.parties.span(game.job, game.attempt, game.segment)
        who = self.world.name(game.challenger) if random.random() < 0.9 else "anyone"
        self.world.move(who, number, change(hostile_move(game.state, span, random)))

    # Delivery

    @act(25, lambda self: self.delivering())
    def demand(self, random: Random) -> None:
        number = random.choice(self.delivering() if random.random() < 0.9 else self.jobs(JobStatus.COMPLETED))
        liars = [number for number in self.delivering() if self.parties.job(number).trainer == self.world.address("liar")]
        if liars and random.random() < 0.7:
            number = random.choice(liars)
        component = random.randrange(self.parties.job(number).spec.state_count + 1)
        bond = PARAMETERS.delivery_bond + (random.random() < 0.1)
        self.demand_of(number, component, random.choice(("hostile", "requester")), bond)

    @act(3, lambda self: any(demand.open for demand in self.world.delivery.demands.values()))
    def answer(self, random: Random) -> None:
        number = random.choice([n for n, demand in self.world.delivery.demands.items() if demand.open])
        self.parties.answer(random.choice(("liar", "anyone")), number, wrong=random.random() < 0.3)

    # Anybody

    @act(4)
    def bring_about_an_end(self, random: Random) -> None:
        under_way = {
            "TaskRegistry": self.jobs(*UNDER_WAY, JobStatus.COMPLETED),
            "DisputeGame": [number for number, game in self.world.games.games.items() if game.live],
            "Delivery": [number for number, demand in self.world.delivery.demands.items() if demand.open],
        }
        contract = random.choice([contract for contract, numbers in under_way.items() if numbers] or ["TaskRegistry"])
        number = random.choice(under_way[contract] if random.random() < 0.95 and under_way[contract] else [1])
        name = random.choice(ANYBODY[contract])
        if name == "timeout":
            self.world.move("anyone", number, Timeout())
        else:
            self.world.act("anyone", contract, name, number)

    @act(15, lambda self: self.ready())
    def finalise(self, random: Random) -> None:
        self.world.act("anyone", "TaskRegistry", "finalise", random.choice(self.ready()))

    @act(3, lambda self: self.creditors())
    def withdraw(self, random: Random) -> None:
        contract = random.choice(self.creditors())
        ledger, accounts = self.world.models[contract], self.world.chain.accounts.values()
        owed = [(token, account) for (token, account), amount in ledger.credits.items() if amount and account in accounts]
        token, account = random.choice(owed or [(NATIVE, self.world.address("anyone"))])
        if random.random() < 0.2 and contract == "TaskRegistry":
            self.world.act("anyone", contract, "burn", token)
        else:
            self.world.act(self.world.name(account), contract, "withdraw", token)

    @act(1, lambda self: self.world.registry.jobs)
    def impersonate(self, random: Random) -> None:
        """Only the contracts may call each other."""
        number = random.choice(list(self.world.registry.jobs))
        calls: list[tuple[Any, ...]] = [
            ("game_opened", number, 0), ("game_closed", number, 1, 0), ("convict", number, 1, self.world.address("hostile")),
            ("demand_opened", number), ("demand_closed", number), ("withhold", number),
        ]  # fmt: skip
        name, *args = random.choice(calls)
        self.world.refused("hostile", "TaskRegistry", name, *args)

    # Time, the miner and the owner

    @act(4)
    def wait(self, random: Random) -> None:
        self.parties.pass_time(random.choice(SHORT if self.disputed() and random.random() < 0.9 else LONG))

    @act(4, lambda self: self.boundaries())
    def try_at_a_boundary(self, random: Random) -> None:
        """In the second before, of, or after one in which something ends, try what depends on it."""
        soon = sorted(self.boundaries(), key=lambda boundary: boundary[0])[:4]
        second, attempt = random.choice(soon)
        if self.in_window() and random.random() < 0.3:  # a blind opening needs a commitment of an earlier block
            self.commit("hostile", *random.choice(self.in_window()), None)
        self.parties.pass_time(max(1, second - self.world.clock + random.choice((-1, 0, 1))))
        attempt()

    def boundaries(self) -> list[tuple[int, Callable[[], object]]]:
        """Seconds of protocol time that are the last ones for something, and what depends on that."""
        if self.world.calendar.paused:
            return []

        def anyone(contract: str, name: str, number: int) -> Callable[[], object]:
            return lambda: self.world.act("anyone", contract, name, number)

        found: list[tuple[int, Callable[[], object]]] = []
        for number, job in self.world.registry.jobs.items():
            found.append((job.delivery_end, anyone("TaskRegistry", "release", number)))
            found.append((job.delivery_end, lambda number=number: self.demand_of(number, 0)))  # type: ignore[misc]
            found.append((job.deadline, anyone("TaskRegistry", "expire", number)))
            if number in self.training("liar"):
                found.append((job.deadline, lambda number=number: self.post_late(number)))  # type: ignore[misc]
            for at, segment in enumerate(job.segments):
                found.append((segment.window_end, anyone("TaskRegistry", "finalise", number)))
                found.append((segment.window_end, partial(self.open, "hostile", number, at, None)))
        for number in self.disputed():
            last = self.world.last_second(number)
            found.append((last, lambda number=number: self.world.move("anyone", number, Timeout())))  # type: ignore[misc]
            if number in self.owing("liar"):
                found.append((last, lambda number=number: self.parties.defend(number)))  # type: ignore[misc]
        for number, demand in self.world.delivery.demands.items():
            if demand.open:
                found.append((demand.answer_by, anyone("Delivery", "give_up", number)))
                found.append((demand.answer_by, lambda number=number: self.parties.answer("anyone", number)))  # type: ignore[misc]
        return [(second, attempt) for second, attempt in found if second >= self.world.clock]

    def post_late(self, number: int) -> None:
        if number in self.training("liar"):
            self.parties.post(number)

    def demand_of(self, number: int, component: int, who: str = "hostile", bond: int = PARAMETERS.delivery_bond) -> None:
        """Demand a leaf; which one it is, the chain's beacon says."""
        if self.world.act(who, "Delivery", "demand", number, component, value=bond):
            at = len(self.world.delivery.demands)
            self.world.delivery.demands[at].seed = self.world.chain.view("Delivery", "demand_of", at)[3]

    @act(2, lambda self: any(True for _ in self.parties.dues()))
    def censor(self, random: Random) -> None:
        """The miner leaves out what somebody honest sends, until it must be in."""
        self.parties.censored[random.choice(("honest", "watcher"))] = self.world.clock + random.choice((30, 500, 5_000))

    @act(1, lambda self: not self.world.calendar.paused)
    def pause(self, random: Random) -> None:
        self.world.act(random.choice(("owner", "owner", "owner", "liar")), "TaskRegistry", "pause")

    @act(4, lambda self: self.world.calendar.paused)
    def unpause(self, random: Random) -> None:
        self.world.act(
            random.choice(("owner", "owner", "owner", "liar")), "TaskRegistry", random.choice(("unpause", "unpause", "pause"))
        )
