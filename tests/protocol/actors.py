"""Who plays: services that tell the truth or not, and moves that nobody honest would make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from bisection.descent import owed_bytes, parts_of, span
from bisection.game import (
    Conclude,
    ConcludePart,
    Demand,
    DemandRun,
    DemandTensor,
    Game,
    Move,
    Owed,
    Pick,
    PostTrace,
    Refute,
    Reveal,
    ShowStep,
    StepOpening,
    TreeKind,
)
from bisection.merkle import LEAF_BYTES, depth_of
from bisection.nodes import DTYPES, MAX_LENGTH, Input, Output, RunNode
from bisection.witness import BoundaryWitness, Leaf, StepRoots, boundary_witness, node_proof, part_witness, witness
from sims.chain.runs import Span
from tests.protocol.executions import digest

__all__ = [
    "SERVICES",
    "Service",
    "downward_move",
    "garbled",
    "hostile_move",
    "misplaced",
    "mutated",
    "opening_of",
    "random_trainer_move",
]

SERVICES = ("truthful", "silent", "lying", "roots only")


@dataclass(frozen=True)
class Service:
    """A trainer's data service, as bisection.agent.Served."""

    span: Span
    mode: str

    def history(self) -> Sequence[bytes] | None:
        return self._digests(self.span.history().levels[0])

    def trace(self, step: int) -> Sequence[bytes] | None:
        return self._digests(self.span.tensors(step).levels[0])

    def state(self, step: int) -> Sequence[bytes] | None:
        return self._digests(self.span.state(step).levels[0])

    def tensor(self, step: int, number: int) -> bytes | None:
        return {"truthful": self.span.tensor(step, number), "lying": b"lie"}.get(self.mode)

    def _digests(self, leaves: Sequence[bytes]) -> Sequence[bytes] | None:
        if self.mode == "silent":
            return None
        return [digest("lie")] * len(leaves) if self.mode == "lying" else leaves


def opening_of(span: Span, step: int) -> StepOpening:
    """A step of a segment as its trainer has posted it."""
    tree = span.history()
    before, after = (tree.node(0, leaf) for leaf in (step, step + 1))
    return StepOpening(step, before, after, tuple(tree.prove_range(step, 2)))


# Challengers --------------------------------------------------------------------------------------------------------------


def hostile_move(game: Game, span: Span, random: Random) -> Move:
    """A move that may well be legal, but serves no purpose: about anything at all that the trainer with ``span`` has committed."""
    return random.choice(list(_candidates(game, span, random)))


def downward_move(game: Game, span: Span, random: Random) -> Move | None:
    """The same, but one that leads further down a tree if there is any."""
    ends = Conclude | ConcludePart | Refute
    found = [move for move in _candidates(game, span, random) if not isinstance(move, ends)]
    return random.choice(found) if found else None


def _candidates(game: Game, span: Span, random: Random) -> Iterator[Move]:
    d = game.descent
    if d is not None:
        for _ in range(3):
            yield Pick(d.seal(game.claim.trainer), random.randrange(1 << d.levels))
        if d.below is not None:
            yield Refute(d.origin, d.first, d.above, d.below)
    if game.step is None:
        yield ShowStep(opening_of(span, random.randrange(span.length)), random.random() < 0.5)
        return
    program, step = span.program, game.step
    trace = span.tensors(step)
    tensor = random.randrange(len(program.tensors))
    number = program.producer[tensor]
    output = tensor - program.nodes[number].outputs[0].tensor
    path = (span.tensors(step).node(0, tensor), tuple(trace.prove(tensor)))
    yield from (Demand(kind) for kind in (TreeKind.TRACE, TreeKind.STATE))
    yield DemandTensor(node_proof(program, number), output, *path)
    yield _conclusion(span, step, tensor, random)
    long = [i for i, node in enumerate(program.nodes) if isinstance(node, RunNode) and node.length > MAX_LENGTH]
    if long:
        node = program.nodes[long[0]]
        yield DemandRun(node_proof(program, long[0]), 0, _claim(span, step, node.outputs[0].tensor, 0))
        if d is not None and d.tree == TreeKind.RUN and d.below is not None and game.run is not None:
            child = random.randrange(len(parts_of(d.below)))
            part = min(d.position << d.levels | child, d.count - 1)
            w = part_witness(program, *game.run, part, lambda at: span.tensor(step, at), trace.prove)
            yield ConcludePart(w.node, d.trail, d.below, child, w.inputs)
    outputs = [i for i, node in enumerate(program.nodes) if isinstance(node, Output)]
    index = random.choice(outputs)
    component = program.nodes[index]
    assert isinstance(component, Output)
    after, at = span.state(step + 1), component.inputs[0].tensor
    joined = (after.node(0, component.index), after.prove(component.index))
    yield Conclude(boundary_witness(program, index, (trace.node(0, at), trace.prove(at)), joined))


def _conclusion(span: Span, step: int, tensor: int, random: Random) -> Move:
    """The verdict on one element of a tensor, which is a boundary where the tensor is given."""
    program, trace = span.program, span.tensors(step)
    number = program.producer[tensor]
    node = program.nodes[number]
    if isinstance(node, Input):
        source = span.data() if node.source == "data" else span.state(step)
        proved = (trace.node(0, tensor), trace.prove(tensor))
        return Conclude(boundary_witness(program, number, proved, (source.node(0, node.index), source.prove(node.index))))
    position = random.randrange(program.tensors[tensor].count)
    claim = _claim(span, step, tensor, position)
    return Conclude(witness(program, tensor, position, claim, lambda at: span.tensor(step, at), trace.prove))


def _claim(span: Span, step: int, tensor: int, position: int) -> Leaf:
    """The opening of an element as the trainer has committed it."""
    tree, trace = span.whole.blob(span.first + step, tensor), span.tensors(step)
    leaf = position * DTYPES[span.program.tensors[tensor].dtype].size // LEAF_BYTES
    data = span.tensor(step, tensor)[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
    return Leaf(tree.root, tuple(trace.prove(tensor)), data, tuple(tree.prove(leaf)))


# Trainers -----------------------------------------------------------------------------------------------------------------


def random_trainer_move(game: Game, random: Random) -> Move:
    """What a trainer says that has nothing to show; mostly of the length that is owed."""
    d = game.descent
    if game.owed == Owed.TRACE:
        owed = 32 << span(depth_of(game.claim.tensor_count)) if TreeKind.TRACE in game.demanded else 0
        return PostTrace(digest("lie", random.randrange(3)), _garbage(owed, random))
    if d is None:
        return random.choice((PostTrace(digest("lie")), Reveal(bytes(32), 0, b"")))
    return Reveal(d.trail, d.picked, _garbage(owed_bytes(d), random))


def _garbage(length: int, random: Random) -> bytes:
    length = random.choice((length, length, length, max(length - 1, 0), length + 32))
    return random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))


def garbled(move: Move, random: Random) -> Move:
    """A trainer's move with one byte of its payload changed."""
    if not isinstance(move, Reveal | PostTrace) or not move.payload:
        return move
    at = random.randrange(len(move.payload))
    changed = bytes([move.payload[at] ^ random.randrange(1, 256)])
    return replace(move, payload=move.payload[:at] + changed + move.payload[at + 1 :])


def mutated(move: Move, random: Random) -> Move:
    """A move with something about it wrong; nearly always illegal."""
    wrong = digest("wrong")
    changes: list[dict[str, Any]]
    match move:
        case Pick():
            changes = [{"seal": wrong}, {"child": move.child + 64}, {"child": 2**64}]
        case ShowStep(opening):
            steps: list[dict[str, Any]] = [
                {"step": opening.step + 1},
                {"proof": ()},
                {"after": wrong},
                {"before": opening.after},
            ]
            changes = [{"opening": replace(opening, **change)} for change in steps]
        case DemandTensor():
            changes = [{"output": move.output + 1}, {"tensor_root": wrong}, {"trace_proof": ()}]
        case DemandRun(_, position, claim):
            changes = [{"position": position + 1}, {"claim": replace(claim, data=bytes(len(claim.data)))}]
        case Conclude(w):
            nodes = [replace(w.node, index=w.node.index + 1), replace(w.node, code=b"\x01" + w.node.code)]
            changes = [{"witness": replace(w, node=node)} for node in nodes]
            unproved: dict[str, Any] = {"trace_proof": ()} if isinstance(w, BoundaryWitness) else {"inputs": ()}
            changes.append({"witness": replace(w, **unproved)})
        case ConcludePart(_, _, parts):
            changes = [
                {"child": move.child + 1},
                {"parts": parts[8:]},
                {"parts": bytes(len(parts))},
                {"inputs": ()},
                {"trail": wrong},
                {"node": replace(move.node, index=move.node.index + 1)},
            ]
        case Refute(_, picked, above, below):
            changes = [{"trail": wrong}, {"picked": picked ^ 1}, {"above": above[32:]}, {"above": above + wrong}, {"above": below}]
            changes += [{"below": below[1:]}, {"below": bytes(len(below))}, {"below": below + b"\0"}, {"below": above}]
        case Reveal(_, picked, payload):
            changes = [{"trail": wrong}, {"picked": picked + 1}, {"payload": payload[1:]}, {"payload": payload + wrong}]
        case PostTrace():
            changes = [{"root": bytes(32)}, {"payload": move.payload + wrong}]
        case _:
            return move
    return replace(move, **random.choice(changes))


def misplaced(told: list[Any], random: Random) -> list[Any]:
    """What a move names for it to land nowhere else, but of another place."""
    (named,) = told
    if isinstance(named, bytes):
        return [digest("elsewhere")]
    assert isinstance(named, StepRoots)
    changes: list[dict[str, Any]] = [
        {field: digest("elsewhere")} for field in ("program_root", "trace_root", "state_before", "state_after", "data_root")
    ]
    changes += [{field: getattr(named, field) + 1} for field in ("node_count", "tensor_count", "state_count", "data_count")]
    return [replace(named, **random.choice(changes))]
