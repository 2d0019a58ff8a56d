"""Those who do not keep to the protocol, or try to live off those who do: trainers, services, challengers.

Everything that they do is a legal transaction. Randomness comes from seeds, and the same state gives the same choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bisection.agent import Answers, Nothing
from bisection.agent import Defender as Agent
from bisection.descent import Descent, parts_payload
from bisection.game import (
    Conclude,
    Demand,
    DemandTensor,
    Game,
    Move,
    Owed,
    Pick,
    PostTrace,
    Reveal,
    ShowStep,
    StepOpening,
    Timeout,
    TreeKind,
)
from bisection.merkle import LEAF_BYTES, blob_tree
from bisection.nodes import DTYPES, MAX_LENGTH, Input, Output, RunNode
from bisection.numbers import wrap
from bisection.solver import own_parts, parts_below
from bisection.trace import Trace
from bisection.witness import Leaf, Witness, boundary_witness, node_proof, witness
from contracts.bindings import BLIND, step_commitment
from contracts.jobs import Job
from contracts.sender import Call
from sims.chain.actors import JOB, Conduct, Defending, Service, Watcher, live_games, opened, over
from sims.chain.runs import Posted
from sims.chain.seat import Seat
from sims.chain.world import Transaction, View

__all__ = [
    "CONDUCTS",
    "GRIEFS",
    "SERVICES",
    "Copycat",
    "Crashing",
    "Fabricating",
    "Friend",
    "Garbling",
    "Sybils",
    "service",
]

# Trainers ---------------------------------------------------------------------------------------------------------------


class Silent:
    """Answers as it should so many times in each game, and then no more."""

    def __init__(self, answers: int = 0) -> None:
        self._answers = answers

    def play(self, seat: Seat, game: int, span: Posted) -> None:
        """See Conduct."""
        known = len(seat.revelations(game)) + (seat.game(game).trace_root is not None)
        if seat.game(game).owed == Owed.NOTHING or known < self._answers:
            Agent(seat, span).play(game)

    def due(self, seat: Seat, game: int) -> int | None:
        """See Conduct."""
        return Defending().due(seat, game)


class Stalling:
    """Answers as it should, but after a ``share`` of the time that is left; with all of it in the last block that will do."""

    def __init__(self, share: float = 0.5) -> None:
        self._share = share

    def play(self, seat: Seat, game: int, span: Posted) -> None:
        """See Conduct."""
        if seat.game(game).owed == Owed.NOTHING or seat.now() >= self._when(seat, game):
            Agent(seat, span).play(game)

    def due(self, seat: Seat, game: int) -> int | None:
        """See Conduct."""
        return Defending().due(seat, game) if seat.game(game).owed == Owed.NOTHING else self._when(seat, game)

    def _when(self, seat: Seat, game: int) -> int:
        moved, last = seat.game(game).moved_at, seat.world.limit(game) - 2 * seat.world.block_seconds + 1
        return moved + int(self._share * max(0, last - moved))


class _Relay:
    """A seat whose moves are changed on the way."""

    def __init__(self, seat: Seat, change: Callable[[Game, Move], Move]) -> None:
        self._seat, self._change = seat, change

    def now(self) -> int:
        return self._seat.now()

    def game(self, game: int) -> Game:
        return self._seat.game(game)

    def revelations(self, game: int) -> Any:
        return self._seat.revelations(game)

    def open(self, claim: Any, opening: StepOpening | None) -> int | None:
        return self._seat.open(claim, opening)

    def move(self, game: int, move: Move) -> None:
        self._seat.move(game, self._change(self._seat.game(game), move))


class Garbling(Defending):
    """Reveals garbage in place of one tree; None: of all."""

    def __init__(self, tree: TreeKind | None = None) -> None:
        self._tree = tree

    def play(self, seat: Seat, game: int, span: Posted) -> None:
        """See Conduct."""
        Agent(_Relay(seat, self._garbled), span).play(game)

    def _garbled(self, game: Game, move: Move) -> Move:
        tree = TreeKind.TRACE if isinstance(move, PostTrace) or game.descent is None else game.descent.tree
        if isinstance(move, Reveal | PostTrace) and self._tree in (None, tree):
            return replace(move, payload=bytes(byte ^ 0xFF for byte in move.payload))
        return move


class Fabricating(Defending):
    """Defends a wrong element of a long run with partial results that combine to it."""

    def play(self, seat: Seat, game: int, span: Posted) -> None:
        """See Conduct."""
        state = seat.game(game)
        d = state.descent
        if state.owed != Owed.PARTS or d is None:
            super().play(seat, game, span)
            return
        parts = list(parts_below(own_parts(state, span), d))
        if d.takes_max:
            parts = [d.value, *(min(part, d.value) for part in parts[1:])]
        else:
            parts[0] = wrap(d.value - sum(parts[1:]), 64)
        seat.move(game, Reveal(d.trail, d.picked, parts_payload(parts)))


CONDUCTS: Mapping[str, Callable[[], Conduct]] = {
    "defend": Defending,
    "fabricate": Fabricating,
    "silent": Silent,
    "falls-silent": lambda: Silent(2),
    "stall": Stalling,
    "last-second": lambda: Stalling(1.0),
    "garbage": Garbling,
    "garbage-history": lambda: Garbling(TreeKind.HISTORY),
    "garbage-trace": lambda: Garbling(TreeKind.TRACE),
    "garbage-tensor": lambda: Garbling(TreeKind.TENSOR),
}
"""How a trainer plays the games about its segments, by name."""


# What a trainer's data service tells ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Telling:
    """A service that tells of some trees of a trace; what it ``garbles`` it tells wrongly."""

    trace: Trace
    tells: frozenset[TreeKind]
    garbles: bool = False

    def history(self) -> Sequence[bytes] | None:
        """See Served."""
        return self._told(TreeKind.HISTORY, lambda: self.trace.history().levels[0][: self.trace.history().count])

    def trace_of(self, step: int) -> Sequence[bytes] | None:
        """The leaves of a step's trace."""
        return self._told(TreeKind.TRACE, lambda: self.trace.tensors(step).levels[0][: self.trace.tensors(step).count])

    def state(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        return self._told(TreeKind.STATE, lambda: self.trace.state(step).levels[0][: self.trace.state(step).count])

    def tensor(self, step: int, number: int) -> bytes | None:
        """See Served."""
        if TreeKind.TENSOR not in self.tells:
            return None
        data = bytes(self.trace.tensor(step, number)[: self.trace.program.tensors[number].nbytes])
        return bytes(byte ^ 0xFF for byte in data) if self.garbles else data

    def _told(self, kind: TreeKind, leaves: Callable[[], Sequence[bytes]]) -> Sequence[bytes] | None:
        if kind not in self.tells:
            return None
        return [bytes(32), *leaves()[1:]] if self.garbles else leaves()


class Told:
    """A Telling, with the names that bisection.agent.Served gives to questions."""

    def __init__(self, telling: Telling) -> None:
        self.history, self.trace, self.state, self.tensor = telling.history, telling.trace_of, telling.state, telling.tensor


ALL = frozenset(TreeKind)
SERVICES: Mapping[str, Callable[[Trace], Answers]] = {
    "all": lambda trace: Told(Telling(trace, ALL)),
    "nothing": lambda trace: Nothing(),
    "history": lambda trace: Told(Telling(trace, frozenset({TreeKind.HISTORY}))),
    "no-history": lambda trace: Told(Telling(trace, ALL - {TreeKind.HISTORY})),
    "no-trace": lambda trace: Told(Telling(trace, ALL - {TreeKind.TRACE})),
    "no-tensors": lambda trace: Told(Telling(trace, ALL - {TreeKind.TENSOR})),
    "lies": lambda trace: Told(Telling(trace, ALL, garbles=True)),
}
"""What a trainer's data service tells of its trace, by name."""


def service(name: str, spans: Sequence[Posted], refused: Iterable[str] = ()) -> Service:
    """A trainer's data service over its own segments, which tells those in ``refused`` nothing."""
    shut = frozenset(refused)

    def answers(asker: str, own: Posted) -> Answers:
        theirs = next(span for span in spans if span.first == own.first)
        return Nothing() if asker in shut else SERVICES[name](theirs)

    return answers


# Challengers ------------------------------------------------------------------------------------------------------------


class Crashing(Watcher):
    """A watcher whose machine is down from time to time, and knows nothing but the chain when it is up again.

    ``outages`` are (first, last) seconds, counted from the offer.
    """

    def __init__(
        self, seat: Seat, spans: Sequence[Posted], service: Service, delay: int = 0, outages: Sequence[tuple[int, int]] = ()
    ) -> None:
        super().__init__(seat, spans, service, delay)
        self._outages = outages
        self._down = False
        self._start: int | None = None

    def act(self, view: View) -> Iterable[Transaction]:
        """See Actor."""
        self._start = view.now if self._start is None else self._start
        down = any(first <= view.now - self._start <= last for first, last in self._outages)
        if self._down and not down:
            self.seat = Seat(self.seat.world, self.seat.name, self.seat.fee)
            self.forget()
        self._down = down
        return [] if down else super().act(view)

    def due(self) -> int | None:
        """See Actor."""
        if not self._down or self._start is None:
            return super().due()
        return min((self._start + last + 1 for _, last in self._outages if self._start + last >= self.seat.now()), default=None)


class Friend(Watcher):
    """The trainer's friend, who knows the lie before anybody else and bids more.

    It takes the lowest rank at the lie's place. Then it does nothing, or ``convicts`` the trainer itself, for the reward.
    """

    def __init__(self, seat: Seat, spans: Sequence[Posted], service: Service, convicts: bool) -> None:
        super().__init__(seat, spans, service)
        self._convicts = convicts

    def _contest(self, dispute: Any, view: View) -> None:
        if self._convicts or dispute.game is None:
            super()._contest(dispute, view)

    def due(self) -> int | None:
        """See Actor."""
        return super().due() if self._convicts else None


class Copycat:
    """Computes nothing: whatever somebody else hands in about games, it repeats in its own name and bids more."""

    def __init__(self, seat: Seat, victims: Sequence[str], also_commitments: bool = True) -> None:
        self.seat, self._victims, self._also = seat, victims, also_commitments
        self._seen: set[int] = set()
        self._wanted: dict[tuple[int, int], tuple[str, bytes]] = {}  # by segment and step, the opening seen

    def act(self, view: View) -> Iterable[Transaction]:
        """See Actor."""
        world = self.seat.world
        if opened(world):
            job = world.job(JOB)
            for tx in view.pool:
                if tx.number not in self._seen and tx.sender in self._victims and tx.call.to == world.deployment.game.address:
                    self._seen.add(tx.number)
                    self._see(tx, job)
            if job.status.disputable:
                self._open(job)
            elif over(job):
                self._reclaim()
        return self.seat.take()

    def due(self) -> int | None:
        """See Actor."""
        return None

    def _see(self, tx: Transaction, job: Job) -> None:
        call, seat = tx.call, self.seat
        if call.name == "commit" and self._also:
            seat.hand_in(replace(call, place=None), f"copy of {tx.number}")
        elif call.name in ("open_step", "open_blind"):
            segment = int.from_bytes(call.data[36:68], "big")
            step = int.from_bytes(call.data[68:100], "big") if call.name == "open_step" else BLIND
            self._wanted[segment, step] = (call.name, call.data)
        elif call.name not in ("commit", "reclaim", "timeout", "contend"):
            for game in live_games(seat.world, job):
                if seat.world.eyes.view(game).challenger == seat.address:
                    data = call.data[:4] + game.to_bytes(32, "big") + call.data[36:]
                    seat.hand_in(Call(call.name, call.to, data), f"copy of {tx.number} in {game}")

    def _open(self, job: Job) -> None:
        """Open what others have opened, with a commitment of its own."""
        seat, games = self.seat, self.seat.world.deployment.game
        for (segment, step), (name, data) in self._wanted.items():
            salt = bytes(32)
            committed, opening = f"commit {job.attempt} {segment} {step}", f"open {job.attempt} {segment} {step}"
            if seat.acted(committed).done is None:
                seat.hand_in(games.call("commit", step_commitment(seat.address, JOB, segment, step, salt)), committed)
            elif seat.acted(opening).done is None:
                seat.hand_in(Call(name, games.address, _salted(name, data, salt), games.bond), opening)

    def _reclaim(self) -> None:
        world = self.seat.world
        for game in world.index.games[JOB]:
            view = world.eyes.view(game)
            if view.challenger == self.seat.address and view.phase.live:
                self.seat.hand_in(world.deployment.game.call("reclaim", game), f"reclaim {game}")


def _salted(name: str, data: bytes, salt: bytes) -> bytes:
    """The calldata of an opening with another salt: in both functions it is the last word of the head."""
    at = 4 + 32 * (3 if name == "open_blind" else 6)
    return data[:at] + salt + data[at + 32 :]


GRIEFS = ("point", "wander", "silent", "stall")
"""How false challenges are played.

    point    points at a step, and has a right element judged
    wander   opens blind, has everything revealed that can be, and then has an element judged
    silent   opens blind, and does nothing more
    stall    as wander, in the last second each time
"""


class Sybils:
    """Many accounts with one purse, which challenge what is right: ``style`` is one of GRIEFS.

    ``spans`` is what the trainer has posted. With ``late`` they all open in the last blocks of the window.
    """

    def __init__(
        self, seats: Sequence[Seat], spans: Sequence[Posted], style: str, seed: int = 0, segment: int = 0, late: bool = False
    ) -> None:
        self.seats, self._spans, self._style, self._seed = seats, spans, style, seed
        self._segment, self._late = segment, late
        self._opened: dict[str, int | None] = {}

    def act(self, view: View) -> Iterable[Transaction]:
        """See Actor."""
        world = self.seats[0].world
        if opened(world) and (job := world.job(JOB)).status.disputable and job.posted > self._segment:
            for number, seat in enumerate(self.seats):
                self._play(number, seat, view)
        elif opened(world) and over(world.job(JOB)):
            for seat in self.seats:
                self._reclaim(seat)
        return [tx for seat in self.seats for tx in seat.take()]

    def due(self) -> int | None:
        """See Actor."""
        seat = self.seats[0]
        world = seat.world
        if not opened(world) or not (job := world.job(JOB)).status.disputable or job.posted <= self._segment:
            return None
        dues = [self._opening_time()] if self._late else []
        if self._style == "stall":
            mine = {s.address for s in self.seats}
            games = [game for game in live_games(world, job) if world.eyes.view(game).challenger in mine]
            dues += [self._when(seat, game) for game in games if seat.game(game).owed == Owed.NOTHING]
        return min((due for due in dues if due > seat.now()), default=None)

    def _opening_time(self) -> int:
        """When to commit, so that the opening comes in the last block of the window."""
        world = self.seats[0].world
        return world.segment(JOB, self._segment).window_end - 3 * world.block_seconds

    def _when(self, seat: Seat, game: int) -> int:
        """The last moment at which a move can be handed in; what time is left is spread over some moves."""
        moved, last = seat.game(game).moved_at, seat.world.limit(game) - 2 * seat.world.block_seconds + 1
        return moved + max(0, last - moved) // 4

    def _play(self, number: int, seat: Seat, view: View) -> None:
        world, span = seat.world, self._spans[self._segment]
        rng = np.random.default_rng([self._seed, number])
        window_end = world.segment(JOB, self._segment).window_end
        if self._opened.get(seat.name) is None:
            if view.now > window_end or (self._late and view.now < self._opening_time()):
                return
            claim = world.claim(JOB, self._segment)
            opening = opening_of(span, int(rng.integers(span.length))) if self._style == "point" else None
            self._opened[seat.name] = seat.open(claim, opening)
            return
        game = seat.own(world.claim(JOB, self._segment))
        if game is None or seat.answered(game) or self._style == "silent":
            return
        state = seat.game(game)
        if state.owed != Owed.NOTHING:
            if view.now > world.limit(game):
                seat.move(game, Timeout())
        elif self._style != "stall" or view.now >= self._when(seat, game):
            seat.move(game, _false_move(state, span, self._style, [self._seed, number]))

    def _reclaim(self, seat: Seat) -> None:
        for game in seat.world.index.games[JOB]:
            view = seat.world.eyes.view(game)
            if view.challenger == seat.address and view.phase.live:
                seat.hand_in(seat.world.deployment.game.call("reclaim", game), f"reclaim {game}")


def opening_of(span: Posted, step: int) -> StepOpening:
    """A step as it is posted."""
    history = span.history()
    return StepOpening(step, history.node(0, step), history.node(0, step + 1), tuple(history.prove_range(step, 2)))


def _false_move(game: Game, span: Posted, style: str, seed: Sequence[int]) -> Move:
    """The next move of a challenge of what is right; the same in the same state."""
    d = game.descent
    rng = np.random.default_rng([*seed, len(game.demanded), 0 if d is None else d.height])
    if d is not None and style != "point" and (children := _pickable(d)):
        return Pick(d.seal(game.claim.trainer), int(rng.integers(children)))
    if game.step is None:
        return ShowStep(opening_of(span, int(rng.integers(span.length))))
    if style != "point" and (demand := _demand(game, span, rng)) is not None:
        return demand
    return Conclude(_right_witness(span, game.step, rng))


def _pickable(d: Descent) -> int:
    """How many items can be picked of what was revealed last; none at the leaves."""
    return 0 if d.levels == 0 or (d.levels == d.height and d.tree != TreeKind.TENSOR) else d.within


def _demand(game: Game, span: Posted, rng: np.random.Generator) -> Move | None:
    """A tree that has not been demanded yet."""
    assert game.step is not None
    program, tensors = span.program, span.tensors(game.step)
    for tree, count in ((TreeKind.TRACE, tensors.count), (TreeKind.STATE, span.state(game.step + 1).count)):
        if tree not in game.demanded and count > 1:
            return Demand(tree)
    if TreeKind.TENSOR in game.demanded:
        return None
    tensor = int(rng.integers(len(program.tensors)))
    number = program.producer[tensor]
    output = tensor - program.nodes[number].outputs[0].tensor
    return DemandTensor(node_proof(program, number), output, tensors.node(0, tensor), tuple(tensors.prove(tensor)))


def _right_witness(span: Posted, step: int, rng: np.random.Generator) -> Witness:
    """A true witness of a random element of a random node that one verdict is enough for."""
    program, tree = span.program, span.tensors(step)
    numbers = [k for k, node in enumerate(program.nodes) if not (isinstance(node, RunNode) and node.length > MAX_LENGTH)]
    number = int(rng.choice(numbers))
    node = program.nodes[number]
    if isinstance(node, Input | Output):
        tensor = node.outputs[0].tensor if isinstance(node, Input) else node.inputs[0].tensor
        source = span.data() if isinstance(node, Input) and node.source == "data" else span.state(step + isinstance(node, Output))
        component = (source.node(0, node.index), source.prove(node.index))
        return boundary_witness(program, number, (tree.node(0, tensor), tree.prove(tensor)), component)
    ref = node.outputs[int(rng.integers(len(node.outputs)))]
    position = int(rng.integers(ref.count))
    data = span.tensor(step, ref.tensor)
    leaf, blobs = position * DTYPES[ref.dtype].size // LEAF_BYTES, blob_tree(data)
    shown = data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
    claim = Leaf(blobs.root, tuple(tree.prove(ref.tensor)), shown, tuple(blobs.prove(leaf)))
    return witness(program, ref.tensor, position, claim, lambda n: span.tensor(step, n), tree.prove)
