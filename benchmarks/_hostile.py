"""Those who know that they are wrong: a challenger of an honest trainer, and trainers that answer falsely and serve lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from benchmarks._mutation import mutated, parts
from benchmarks._world import CLOCK_SECONDS, World
from bisection.agent import Chain, Defender
from bisection.descent import DIGEST_BYTES, Descent
from bisection.errors import IllegalMove, TransactionFailed
from bisection.game import (
    Claim,
    Conclude,
    Demand,
    DemandTensor,
    Game,
    Move,
    Outcome,
    Owed,
    Pick,
    PostTrace,
    Refute,
    Reveal,
    Revelation,
    ShowStep,
    StepOpening,
    Timeout,
    TreeKind,
)
from bisection.merkle import LEAF_BYTES, blob_tree
from bisection.nodes import DTYPES, Input, Output
from bisection.program import Program
from bisection.trace import Trace
from bisection.witness import (
    BoundaryWitness,
    ElementWitness,
    Leaf,
    RunWitness,
    Witness,
    boundary_witness,
    judge,
    node_proof,
    witness,
)
from tests.support.model_chain import HonestService, opening_of

__all__ = [
    "STYLES",
    "Erratic",
    "FalseChallenge",
    "Fibbing",
    "Garbling",
    "HostileChallenger",
    "honest_witness",
    "kinds",
    "nodes_of",
    "pickable",
]

T = TypeVar("T")
Rng = np.random.Generator


def kinds(program: Program) -> list[str]:
    """The kinds of node that a program has, by name, in the order of their first appearance."""
    return list(dict.fromkeys(node.NAME for node in program.nodes))


def nodes_of(program: Program, kind: str) -> list[int]:
    """The numbers of the nodes of a kind."""
    return [number for number, node in enumerate(program.nodes) if kind == node.NAME]


def pickable(d: Descent) -> list[int]:
    """What can be picked of what was revealed last; nothing at the leaves."""
    if d.levels == 0 or (d.levels == d.height and d.tree != TreeKind.TENSOR):
        return []
    return list(range(d.within))


def honest_witness(trace: Trace, step: int, number: int, rng: Rng) -> Witness:
    """A true witness of a random element of node ``number``."""
    program, tree = trace.program, trace.tensors(step)
    node = program.nodes[number]
    if isinstance(node, Input | Output):
        tensor = node.outputs[0].tensor if isinstance(node, Input) else node.inputs[0].tensor
        source = trace.data() if isinstance(node, Input) and node.source == "data" else trace.state(step + isinstance(node, Output))
        component = (source.node(0, node.index), source.prove(node.index))
        return boundary_witness(program, number, (tree.node(0, tensor), tree.prove(tensor)), component)
    ref = node.outputs[int(rng.integers(len(node.outputs)))]
    position = int(rng.choice([0, ref.count - 1, int(rng.integers(ref.count))]))
    data = trace.tensor(step, ref.tensor)
    leaf, blobs = position * DTYPES[ref.dtype].size // LEAF_BYTES, blob_tree(data)
    claim = Leaf(
        blobs.root,
        tuple(tree.prove(ref.tensor)),
        data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES],
        tuple(blobs.prove(leaf)),
    )
    return witness(program, ref.tensor, position, claim, lambda n: trace.tensor(step, n), tree.prove)


@dataclass
class FalseChallenge:
    """How a false challenge went. ``refused`` counts the messages that the contract turned away, by its reason; ``harmless`` those
    that changed only what no verdict depends on; ``findings`` is what must not be."""

    style: str
    kind: str
    outcome: Outcome = Outcome.LIVE
    moves: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    harmless: int = 0
    by_timeout: bool = False
    findings: list[str] = field(default_factory=list)


class HostileChallenger:
    """Challenges honest steps of one posted segment, by every means that the contracts offer."""

    def __init__(self, world: World, job: int, honest: Trace, rng: Rng, forgeries: int = 20) -> None:
        self._world, self._honest, self._rng, self._forgeries = world, honest, rng, forgeries
        self._chain: Chain = world.chains["challenger"]
        self._claim: Claim = world.chains["challenger"].claim(job, 0)
        self._defender = Defender(world.chains["trainer"], honest)

    def play(self, style: str, kind: str) -> FalseChallenge:
        """One whole game in a style, one of STYLES, about a node of ``kind``."""
        record = FalseChallenge(style, kind)
        game = self._open(record, blind=style == "wander" or self._rng.random() < 0.3)
        STYLES[style](self, record, game)
        if self._chain.game(game).outcome == Outcome.LIVE:
            self._world.pass_time(CLOCK_SECONDS + 1)
            self._defender.play(game)
            record.by_timeout = True
        record.outcome = self._chain.game(game).outcome
        if record.outcome != Outcome.ACQUITTED:
            record.findings.append(f"a false challenge ({style}, {kind}) ended {record.outcome.name}")
        self._refused(record, "a move after the end", lambda: self._chain.move(game, Timeout()))
        return record

    # Moves

    def _attempt(self, record: FalseChallenge, act: Callable[[], object]) -> bool:
        """Whether the contract lets ``act`` happen."""
        try:
            act()
        except TransactionFailed as error:
            record.refused[str(error).partition(": ")[2]] += 1
            return False
        record.moves += 1
        return True

    def _refused(self, record: FalseChallenge, what: str, act: Callable[[], object]) -> None:
        if self._attempt(record, act):
            record.findings.append(f"{what} was accepted")

    def _open(self, record: FalseChallenge, blind: bool) -> int:
        opening = self._opening()
        for _ in range(self._forgeries // 4):
            false = mutated(opening, self._rng)
            self._refused(record, f"the opening {false}", partial(self._chain.open, self._claim, false))
        game = self._chain.open(self._claim, None if blind else opening)
        record.moves += 1
        if self._chain.game(game).owed != Owed.NOTHING:
            self._refused(record, "a time-out before its time", lambda: self._chain.move(game, Timeout()))
            self._defender.play(game)
        return game

    def _opening(self) -> StepOpening:
        return opening_of(self._honest, int(self._rng.integers(self._claim.length)))

    def _move(self, record: FalseChallenge, game: int, move: Move) -> None:
        """A legal move and the trainer's answer."""
        self._chain.move(game, move)
        record.moves += 1
        self._defender.play(game)

    def _descend(self, record: FalseChallenge, game: int, most: int) -> None:
        """Pick at random, ``most`` times or until the leaves are there."""
        for _ in range(most):
            d = self._chain.game(game).descent
            if d is None:
                return
            self._refute(record, game, d)
            if not (children := pickable(d)):
                return
            self._move(record, game, Pick(d.seal(self._claim.trainer), int(self._rng.choice(children))))

    def _refute(self, record: FalseChallenge, game: int, d: Descent) -> None:
        """Try to refute what was truly revealed, with what was said and with something else."""
        assert d.below is not None
        true = Refute(d.origin, d.first, d.above, d.below)
        for told in (true, mutated(true, self._rng)):
            self._refused(record, f"the refutation {told}", partial(self._chain.move, game, told))

    def _shown(self, record: FalseChallenge, game: int) -> Game:
        """The game, once its step is shown and the trace known."""
        if self._chain.game(game).step is None:
            self._descend(record, game, int(self._rng.integers(3)))
            self._move(record, game, ShowStep(self._opening()))
        return self._chain.game(game)

    def _demands(self, record: FalseChallenge, game: int, step: int) -> None:
        """Have all three trees of the step revealed, in any order and as deep as it happens."""
        for tree in self._rng.permutation(np.array([TreeKind.TRACE, TreeKind.STATE, TreeKind.TENSOR])):
            self._move(record, game, self._demand_tensor(step) if tree == TreeKind.TENSOR else Demand(TreeKind(tree)))
            self._descend(record, game, int(self._rng.integers(4)))

    def _demand_tensor(self, step: int) -> DemandTensor:
        program, tree = self._honest.program, self._honest.tensors(step)
        tensor = int(self._rng.integers(len(program.tensors)))
        number = program.producer[tensor]
        output = tensor - program.nodes[number].outputs[0].tensor
        return DemandTensor(node_proof(program, number), output, tree.node(0, tensor), tuple(tree.prove(tensor)))

    def _forge(self, record: FalseChallenge, game: int, view: Game) -> None:
        """Have forged witnesses judged. The contract must refuse them, or find the trainer right."""
        assert view.step is not None
        here, elsewhere = view.step, (view.step + 1) % self._claim.length
        others = [self._true(step, str(self._rng.choice(kinds(self._honest.program)))) for step in (here, here, here, elsewhere)]
        donors = [part for other in others for part in parts(other)]
        for _ in range(self._forgeries):
            true = self._true(here, record.kind)
            forged = mutated(self._other_kind(true) if self._rng.random() < 0.1 else true, self._rng, donors)
            if self._attempt(record, partial(self._chain.move, game, Conclude(forged))):
                record.harmless += 1
                self._judged_alike(record, view, forged)
                return

    def _true(self, step: int, kind: str) -> Witness:
        """A true witness of any element of any node of ``kind``."""
        return honest_witness(self._honest, step, int(self._rng.choice(nodes_of(self._honest.program, kind))), self._rng)

    def _judged_alike(self, record: FalseChallenge, view: Game, accepted: Witness) -> None:
        """What the contract accepts, bisection.witness must accept too, and find no fraud in it."""
        try:
            fraud = judge(view.roots, accepted).fraud
        except IllegalMove as error:
            record.findings.append(f"the contract accepted a witness that Python refuses ({error}): {accepted}")
            return
        if fraud:
            record.findings.append(f"Python finds an honest trainer guilty: {accepted}")

    @staticmethod
    def _other_kind(true: Witness) -> Witness:
        """A witness of another type with the same contents, where the types allow it."""
        if isinstance(true, ElementWitness):
            return RunWitness(true.node, true.output, true.position, true.claim, true.inputs[:2])  # type: ignore[arg-type]
        if isinstance(true, RunWitness):
            return ElementWitness(true.node, true.output, true.position, true.claim, true.inputs)  # type: ignore[arg-type]
        return BoundaryWitness(true.node, true.component_root, true.component_proof, true.tensor_root, true.trace_proof)

    def _conclude(self, record: FalseChallenge, game: int, view: Game) -> None:
        if self._chain.game(game).outcome == Outcome.LIVE:
            assert view.step is not None
            self._move(record, game, Conclude(self._true(view.step, record.kind)))

    # Styles

    def conclude(self, record: FalseChallenge, game: int) -> None:
        """Have an element judged that is right."""
        self._conclude(record, game, self._shown(record, game))

    def wander(self, record: FalseChallenge, game: int) -> None:
        """Have everything revealed first."""
        view = self._shown(record, game)
        assert view.step is not None
        self._demands(record, game, view.step)
        self._conclude(record, game, view)

    def forge(self, record: FalseChallenge, game: int) -> None:
        """Try forged witnesses, then the true one."""
        view = self._shown(record, game)
        self._forge(record, game, view)
        self._conclude(record, game, view)

    def stall(self, record: FalseChallenge, game: int) -> None:
        """Fall silent at some point, with or without forged witnesses before."""
        if self._rng.random() < 0.3:
            return
        view = self._shown(record, game)
        assert view.step is not None
        if self._rng.random() < 0.5:
            self._demands(record, game, view.step)
        self._forge(record, game, view)


STYLES: Mapping[str, Callable[[HostileChallenger, FalseChallenge, int], None]] = {
    "conclude": HostileChallenger.conclude,
    "wander": HostileChallenger.wander,
    "forge": HostileChallenger.forge,
    "stall": HostileChallenger.stall,
}


class Relay:
    """A chain, as bisection.agent.Chain, that hands everything on."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def now(self) -> int:
        """See bisection.agent.Chain."""
        return self._chain.now()

    def game(self, game: int) -> Game:
        """See bisection.agent.Chain."""
        return self._chain.game(game)

    def revelations(self, game: int) -> Sequence[Revelation]:
        """See bisection.agent.Chain."""
        return self._chain.revelations(game)

    def open(self, claim: Claim, opening: StepOpening | None) -> int | None:
        """See bisection.agent.Chain."""
        return self._chain.open(claim, opening)

    def move(self, game: int, move: Move) -> None:
        """See bisection.agent.Chain."""
        self._chain.move(game, move)


class Fibbing(Relay):
    """The chain as a dishonest trainer uses it: before each answer it tries one about something else, which must be refused.

    That is one after another trail or pick, or of another length: what else is wrong with a payload only the challenger says, and
    a trace root is a claim. ``refused`` and ``accepted`` count the answers tried.
    """

    def __init__(self, chain: Chain, rng: Rng) -> None:
        super().__init__(chain)
        self._rng = rng
        self.refused = self.accepted = 0

    def move(self, game: int, move: Move) -> None:
        """See bisection.agent.Chain."""
        if isinstance(move, Reveal | PostTrace):
            try:
                self._chain.move(game, self._misplaced(move))
                self.accepted += 1
                return
            except TransactionFailed:
                self.refused += 1
        self._chain.move(game, move)

    def _misplaced(self, move: Reveal | PostTrace) -> Move:
        payload = move.payload[:-1] if move.payload and self._rng.random() < 0.5 else move.payload + self._rng.bytes(1)
        longer = replace(move, payload=payload)
        if isinstance(move, PostTrace):
            return longer
        others = (mutated(Place(move.trail, move.picked), self._rng), longer)
        other = others[int(self._rng.integers(len(others)))]
        return Reveal(other.trail, other.picked, move.payload) if isinstance(other, Place) else other


@dataclass(frozen=True)
class Place:
    """What a reveal names."""

    trail: bytes
    picked: int


class Garbling(Relay):
    """The chain as a trainer uses it whose answer number ``which``, counted from 0, is wrong in one bit, or is nothing but noise.

    ``garbled`` says whether it has come to that answer.
    """

    def __init__(self, chain: Chain, rng: Rng, which: int) -> None:
        super().__init__(chain)
        self._rng, self._left, self.garbled = rng, which, False

    def move(self, game: int, move: Move) -> None:
        """See bisection.agent.Chain."""
        if isinstance(move, Reveal | PostTrace) and move.payload:
            if self._left == 0:
                self.garbled, move = True, replace(move, payload=garbled(move.payload, self._rng))
            self._left -= 1
        self._chain.move(game, move)


def garbled(payload: bytes, rng: Rng) -> bytes:
    """Another payload of the same length: one bit is flipped, one digest is exchanged, or all is noise."""
    kind = int(rng.integers(3))
    if kind == 0:
        return rng.bytes(len(payload))
    at = int(rng.integers(len(payload)))
    if kind == 1:
        return payload[:at] + bytes([payload[at] ^ 1 << int(rng.integers(8))]) + payload[at + 1 :]
    at = at // DIGEST_BYTES * DIGEST_BYTES
    return payload[:at] + rng.bytes(len(payload[at : at + DIGEST_BYTES])) + payload[at + DIGEST_BYTES :]


class Erratic:
    """A data service, as bisection.agent.Served, that tells the truth, nothing or a lie, each time anew."""

    def __init__(self, trace: Trace, rng: Rng) -> None:
        self._honest, self._rng = HonestService(trace), rng

    def _say(self, true: T, lie: T) -> T | None:
        return (true, lie, None)[int(self._rng.integers(3))]

    def history(self) -> Sequence[bytes] | None:
        """See Served."""
        return self._say(self._honest.history(), [self._rng.bytes(32) for _ in range(5)])

    def trace(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        roots = self._honest.trace(step)
        return self._say(roots, [self._rng.bytes(32) for _ in roots])

    def state(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        return self._say(self._honest.state(step), [])

    def tensor(self, step: int, number: int) -> bytes | None:
        """See Served."""
        data = self._honest.tensor(step, number)
        return self._say(data, data[:-1] + bytes([data[-1] ^ 1]))
