"""Who plays: services that tell the truth or not, and moves that nobody honest would make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

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
    Reveal,
    RevealLeaf,
    RevealParts,
    ShowStep,
    StepOpening,
    TreeKind,
)
from bisection.merkle import LEAF_BYTES
from bisection.nodes import DTYPES, MAX_LENGTH, Input, Output, RunNode
from bisection.numbers import wrap
from bisection.witness import Leaf, boundary_witness, node_proof, part_witness, witness
from tests.protocol.executions import Span, digest

__all__ = ["SERVICES", "Service", "hostile_move", "mutated", "opening_of", "random_trainer_move"]

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
    return StepOpening(step, before, tuple(tree.prove(step)), after, tuple(tree.prove(step + 1)))


# Challengers --------------------------------------------------------------------------------------------------------------


def hostile_move(game: Game, span: Span, random: Random) -> Move:
    """A move that may well be legal, but serves no purpose: about anything at all that the trainer with ``span`` has committed."""
    return random.choice(list(_candidates(game, span, random)))


def _candidates(game: Game, span: Span, random: Random) -> Iterator[Move]:
    d = game.descent
    if d is not None:
        for _ in range(3):
            yield Pick(d.node, random.randrange(1 << d.levels))
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
        if d is not None and d.tree == TreeKind.RUN and game.run is not None:
            child = random.randrange(1 << d.levels)
            part = min(d.position << d.levels | child, d.count - 1)
            w = part_witness(program, *game.run, part, lambda at: span.tensor(step, at), trace.prove)
            shown = tuple(_parts(span, step, d.count)[d.position << d.levels : (d.position + 1) << d.levels])
            yield ConcludePart(w.node, child, shown, w.inputs)
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


def _parts(span: Span, step: int, count: int) -> list[int]:
    """Roughly the partial results of the long sum; a challenger that guesses."""
    data, each = span.tensor(step, 0), 2048
    return [
        wrap(sum(int.from_bytes(data[at + i : at + i + 8], "little", signed=True) for i in range(0, each, 8)), 64)
        for at in range(0, count * each, each)
    ]


# Trainers -----------------------------------------------------------------------------------------------------------------


def random_trainer_move(game: Game, random: Random) -> Move:
    """What a trainer says that has nothing to show."""
    lie = digest("lie", random.randrange(3))
    width = 1 << (min(5, game.descent.in_question[0]) if game.descent is not None else 1)
    return {
        Owed.NOTHING: PostTrace(lie),
        Owed.TRACE: PostTrace(lie),
        Owed.CHILDREN: Reveal((lie,) * width, (lie,) * 5),
        Owed.LEAF: RevealLeaf(lie, (lie,) * 5),
        Owed.PARTS: RevealParts((1,) * width, ()),
    }[game.owed]


def mutated(move: Move, random: Random) -> Move:
    """A move with something about it wrong; nearly always illegal."""
    wrong = digest("wrong")
    changes: list[dict[str, Any]]
    match move:
        case Pick():
            changes = [{"node": wrong}, {"child": move.child + 32}, {"child": 2**64}]
        case ShowStep(opening):
            steps = [{"step": opening.step + 1}, {"before_proof": ()}, {"after": wrong}, {"before": opening.after}]
            changes = [{"opening": replace(opening, **change)} for change in steps]
        case DemandTensor():
            changes = [{"output": move.output + 1}, {"tensor_root": wrong}, {"trace_proof": ()}]
        case DemandRun(_, position, claim):
            changes = [{"position": position + 1}, {"claim": replace(claim, data=bytes(len(claim.data)))}]
        case Conclude(w):
            changes = [{"witness": replace(w, node=replace(w.node, index=w.node.index + 1))}]
            changes += [{"witness": replace(w, node=replace(w.node, code=b"\x01" + w.node.code))}]
            changes += (
                [{"witness": replace(w, trace_proof=())}] if hasattr(w, "trace_proof") else [{"witness": replace(w, inputs=())}]
            )
        case ConcludePart():
            changes = [{"child": move.child + 1}, {"parts": (*move.parts[1:], 5)}, {"inputs": ()}]
        case Reveal(children, siblings):
            changes = [{"children": (wrong, *children[1:])}, {"children": (*children[:-1], wrong)}, {"children": children[1:]}]
            changes += [{"siblings": (*siblings, wrong)}, {"siblings": siblings[1:] if siblings else (wrong,)}]
        case RevealLeaf(data, _):
            changes = [{"data": data[:-1]}, {"data": bytes(len(data))}, {"siblings": (wrong,)}]
        case RevealParts(parts, _):
            changes = [{"parts": (*parts[1:], 7)}, {"parts": parts[1:]}, {"before": parts}]
        case PostTrace():
            changes = [{"root": bytes(32)}]
        case _:
            return move
    return replace(move, **random.choice(changes))
