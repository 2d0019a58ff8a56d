"""Witnesses: the openings that let a stranger recompute one element, and the judgement over them (docs/protocol.md, "Verdict").

``judge`` is what the referee contract does, in Python: a challenger can call it before it spends gas, and the contract is tested
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from bisection.cut import Fetch, element, load, part_count, part_result, takes_max
from bisection.errors import IllegalMove, ProgramError, VerificationError
from bisection.merkle import LEAF_BYTES, Content, blob_tree, depth_of, fold, fold_range, leaf_count, leaf_digest
from bisection.nodes import DTYPES, MAX_LENGTH, Gather, Input, Map, Node, Output, Ref, RunNode
from bisection.program import Program

__all__ = [
    "Boundary",
    "BoundaryWitness",
    "ElementWitness",
    "Leaf",
    "NodeProof",
    "PartWitness",
    "Run",
    "RunPlace",
    "RunWitness",
    "Source",
    "StepRoots",
    "Verdict",
    "Witness",
    "boundary",
    "boundary_witness",
    "judge",
    "judge_part",
    "locate",
    "locate_run",
    "node_proof",
    "part_witness",
    "witness",
]


@dataclass(frozen=True, slots=True)
class StepRoots:
    """Everything that is committed about one step."""

    program_root: bytes
    node_count: int
    trace_root: bytes
    tensor_count: int
    state_before: bytes
    state_after: bytes
    state_count: int
    data_root: bytes
    data_count: int


@dataclass(frozen=True, slots=True)
class NodeProof:
    """One encoded node of the program and its path to the program root."""

    index: int
    code: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a tensor: the tensor's root with its path to the trace root, the bytes with their path to the tensor's root."""

    root: bytes
    trace_proof: tuple[bytes, ...]
    data: bytes
    leaf_proof: tuple[bytes, ...]


NO_LEAF = Leaf(bytes(32), (), b"", ())


@dataclass(frozen=True, slots=True)
class Run:
    """The neighbouring leaves that hold one run of elements."""

    root: bytes
    trace_proof: tuple[bytes, ...]
    data: bytes
    range_proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BoundaryWitness:
    """Shows the tensor of an input or output node and the component of state or data that it must equal."""

    node: NodeProof
    tensor_root: bytes
    trace_proof: tuple[bytes, ...]
    component_root: bytes
    component_proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ElementWitness:
    """Shows one element of a map or gather node and the single elements that determine it."""

    node: NodeProof
    output: int
    position: int
    claim: Leaf
    inputs: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class RunWitness:
    """Shows one element of a reduce, dot or scatter_add node and the runs that determine it."""

    node: NodeProof
    output: int
    position: int
    claim: Leaf
    inputs: tuple[Run, ...]


Witness = BoundaryWitness | ElementWitness | RunWitness


@dataclass(frozen=True, slots=True)
class PartWitness:
    """Shows part number ``part`` of the run of one element of a reduce, dot or scatter_add node."""

    node: NodeProof
    position: int
    part: int
    inputs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class RunPlace:
    """One claimed element of a reduce, dot or scatter_add node: its value as a register, the number of its tensor in the trace, how
    many parts its run is judged in, and whether it is a maximum."""

    claimed: int
    tensor: int
    parts: int
    takes_max: bool


class Source(IntEnum):
    """What a boundary node joins its tensor to."""

    BEFORE = 0
    DATA = 1
    AFTER = 2


@dataclass(frozen=True, slots=True)
class Boundary:
    """What a boundary node joins: tensor number ``index`` of ``source`` and number ``tensor`` of the trace, of ``size`` bytes."""

    source: Source
    index: int
    tensor: int
    size: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judgement found. ``claimed`` and ``correct`` are registers, or at a boundary the two roots as integers."""

    node: int
    output: int
    position: int
    claimed: int
    correct: int

    @property
    def fraud(self) -> bool:
        """Whether the claim is wrong."""
        return self.claimed != self.correct


# Places -----------------------------------------------------------------------------------------------------------------


def _span(ref: Ref, first: int, count: int) -> tuple[int, int]:
    """(first leaf, number of leaves) that hold elements first … first+count-1."""
    size = DTYPES[ref.dtype].size
    low, high = first * size // LEAF_BYTES, (first + count) * size
    return low, -(-high // LEAF_BYTES) - low


def _elements(ref: Ref, data: bytes, leaf: int, first: int, count: int) -> list[int]:
    """Elements first … first+count-1, out of the bytes of the leaves from ``leaf`` on."""
    size = DTYPES[ref.dtype].size
    start = first * size - leaf * LEAF_BYTES
    return load(data[start : start + count * size], ref.dtype)


# Building ---------------------------------------------------------------------------------------------------------------


def node_proof(program: Program, index: int) -> NodeProof:
    """Node ``index`` with its path."""
    return NodeProof(index, program.nodes[index].encode(), tuple(program.tree.prove(index)))


def boundary_witness(
    program: Program, index: int, tensor: tuple[bytes, Sequence[bytes]], component: tuple[bytes, Sequence[bytes]]
) -> BoundaryWitness:
    """The witness at input or output node ``index``, from (root, path) of its tensor and of its component."""
    return BoundaryWitness(node_proof(program, index), tensor[0], tuple(tensor[1]), component[0], tuple(component[1]))


def witness(
    program: Program,
    tensor: int,
    position: int,
    claim: Leaf,
    read: Callable[[int], Content],
    prove: Callable[[int], Sequence[bytes]],
) -> ElementWitness | RunWitness:
    """The witness for element ``position`` of trace tensor ``tensor``.

    ``claim`` opens the leaf that holds it; ``read`` and ``prove`` give the bytes of a smaller-numbered tensor and its path to the
    trace root.
    """
    number = program.producer[tensor]
    node = program.nodes[number]
    output = tensor - node.outputs[0].tensor
    openings = _Openings(node, read, prove)
    element(node, output, position, openings.fetch)
    proof = node_proof(program, number)
    if isinstance(node, Map | Gather):
        leaves = tuple(openings.leaf(i) for i in range(len(node.inputs)))
        return ElementWitness(proof, output, position, claim, leaves)
    return RunWitness(proof, output, position, claim, openings.runs())


def part_witness(
    program: Program,
    index: int,
    position: int,
    part: int,
    read: Callable[[int], Content],
    prove: Callable[[int], Sequence[bytes]],
) -> PartWitness:
    """The witness for part ``part`` of the run of element ``position`` of node ``index``; see ``witness``."""
    node = program.nodes[index]
    assert isinstance(node, RunNode)
    openings = _Openings(node, read, prove)
    part_result(node, position, part, openings.fetch)
    return PartWitness(node_proof(program, index), position, part, openings.runs())


class _Openings:
    """Notes which elements of the inputs of ``node`` are fetched, and opens the leaves that hold them."""

    def __init__(self, node: Node, read: Callable[[int], Content], prove: Callable[[int], Sequence[bytes]]) -> None:
        self._node, self._prove = node, prove
        self._contents = [read(ref.tensor) for ref in node.inputs]
        self._spans: dict[int, tuple[int, int]] = {}

    def fetch(self, i: int, first: int, count: int) -> Sequence[int]:
        """See bisection.cut.Fetch."""
        ref = self._node.inputs[i]
        self._spans[i] = _span(ref, first, count)
        size = DTYPES[ref.dtype].size
        return load(self._contents[i][first * size : (first + count) * size], ref.dtype)

    def _opened(self, i: int) -> tuple[bytes, tuple[bytes, ...], bytes, tuple[bytes, ...]]:
        first, count = self._spans[i]
        data = self._contents[i][first * LEAF_BYTES : (first + count) * LEAF_BYTES]
        tree = blob_tree(self._contents[i])
        return tree.root, tuple(self._prove(self._node.inputs[i].tensor)), data, tuple(tree.prove_range(first, count))

    def leaf(self, i: int) -> Leaf:
        """The leaf of input ``i`` that holds the element fetched, if any was."""
        return Leaf(*self._opened(i)) if i in self._spans else NO_LEAF

    def runs(self) -> tuple[Run, ...]:
        """The leaves of each input that hold the elements fetched."""
        return tuple(Run(*self._opened(i)) for i in range(len(self._node.inputs)))


# Judging ----------------------------------------------------------------------------------------------------------------


def _expect(condition: bool, reason: str) -> None:
    if not condition:
        raise IllegalMove(f"referee: {reason}")


def _member(root: bytes, count: int, index: int, digest: bytes, proof: Sequence[bytes], what: str) -> None:
    _expect(index < count and len(proof) == depth_of(count) and fold(digest, index, proof) == root, f"bad {what} proof")


def _checked_node(roots: StepRoots, proof: NodeProof) -> Node:
    _expect(proof.index < roots.node_count, "no such node")
    _member(roots.program_root, roots.node_count + 1, proof.index, leaf_digest(proof.code), proof.proof, "node")
    try:
        return Node.decode(proof.code)
    except ProgramError as error:
        raise IllegalMove(f"referee: {error}") from None


def locate(roots: StepRoots, proof: NodeProof, output: int) -> tuple[int, int]:
    """(number in the trace, size in bytes) of a node's output.

    Raises IllegalMove when the proof is bad or there is no such output.
    """
    node = _checked_node(roots, proof)
    _expect(output < len(node.outputs), "no such output")
    return node.outputs[output].tensor, node.outputs[output].nbytes


def boundary(roots: StepRoots, proof: NodeProof) -> Boundary:
    """What an input or output node joins. Raises IllegalMove when the proof is bad or the node is of another kind."""
    node = _checked_node(roots, proof)
    if isinstance(node, Input):
        ref = node.outputs[0]
        return Boundary(Source.DATA if node.source == "data" else Source.BEFORE, node.index, ref.tensor, ref.nbytes)
    if isinstance(node, Output):
        return Boundary(Source.AFTER, node.index, node.inputs[0].tensor, node.inputs[0].nbytes)
    raise IllegalMove("referee: not a boundary node")


def locate_run(roots: StepRoots, proof: NodeProof, position: int, claim: Leaf) -> RunPlace:
    """The claimed element ``position`` of a reduce, dot or scatter_add node, and how its run is cut.

    Raises IllegalMove when an opening does not verify or the node is of another kind.
    """
    node = _checked_node(roots, proof)
    if not isinstance(node, RunNode):
        raise IllegalMove("referee: not a reduce, dot or scatter_add node")
    claimed = _claimed(roots, node.outputs[0], position, claim)
    return RunPlace(claimed, node.outputs[0].tensor, part_count(node), takes_max(node))


def _checked_bytes(roots: StepRoots, ref: Ref, opening: Leaf | Run, first: int, count: int) -> bytes:
    """The opened bytes of leaves first … first+count-1 of tensor ``ref``, verified up to the trace root."""
    _member(roots.trace_root, roots.tensor_count, ref.tensor, opening.root, opening.trace_proof, "trace")
    expected = min(ref.nbytes, (first + count) * LEAF_BYTES) - first * LEAF_BYTES
    _expect(len(opening.data) == expected, "wrong leaf length")
    digests = [leaf_digest(opening.data[at : at + LEAF_BYTES]) for at in range(0, expected, LEAF_BYTES)]
    siblings = opening.leaf_proof if isinstance(opening, Leaf) else opening.range_proof
    try:
        root = fold_range(digests, first, depth_of(leaf_count(ref.nbytes)), siblings)
    except VerificationError as error:
        raise IllegalMove(f"referee: {error}") from None
    _expect(root == opening.root, "bad leaf proof")
    return opening.data


def _claimed(roots: StepRoots, ref: Ref, position: int, claim: Leaf) -> int:
    """Element ``position`` of tensor ``ref`` as ``claim`` opens it."""
    _expect(position < ref.count, "no such element")
    first, _ = _span(ref, position, 1)
    return _elements(ref, _checked_bytes(roots, ref, claim, first, 1), first, position, 1)[0]


def _fetch(roots: StepRoots, node: Node, inputs: Sequence[Leaf | Run]) -> Fetch:
    """The elements that ``inputs`` open, each verified as it is fetched."""

    def fetch(i: int, start: int, count: int) -> Sequence[int]:
        ref = node.inputs[i]
        first, leaves = _span(ref, start, count)
        return _elements(ref, _checked_bytes(roots, ref, inputs[i], first, leaves), first, start, count)

    return fetch


def _judge_boundary(roots: StepRoots, w: BoundaryWitness) -> Verdict:
    joined = boundary(roots, w.node)
    root, count = {
        Source.BEFORE: (roots.state_before, roots.state_count),
        Source.DATA: (roots.data_root, roots.data_count),
        Source.AFTER: (roots.state_after, roots.state_count),
    }[joined.source]
    _member(roots.trace_root, roots.tensor_count, joined.tensor, w.tensor_root, w.trace_proof, "trace")
    _member(root, count, joined.index, w.component_root, w.component_proof, "component")
    after = joined.source == Source.AFTER
    claimed, correct = (w.component_root, w.tensor_root) if after else (w.tensor_root, w.component_root)
    return Verdict(w.node.index, 0, 0, int.from_bytes(claimed, "big"), int.from_bytes(correct, "big"))


def _judge_element(roots: StepRoots, w: ElementWitness | RunWitness) -> Verdict:
    node = _checked_node(roots, w.node)
    _expect(not isinstance(node, Input | Output), "a boundary node has no element")
    _expect(isinstance(node, Map | Gather) == isinstance(w, ElementWitness), "wrong kind of node")
    _expect(not isinstance(node, RunNode) or node.length <= MAX_LENGTH, "run too long")
    _expect(w.output < len(node.outputs) and len(w.inputs) == len(node.inputs), "wrong number of openings")
    claimed = _claimed(roots, node.outputs[w.output], w.position, w.claim)
    return Verdict(w.node.index, w.output, w.position, claimed, element(node, w.output, w.position, _fetch(roots, node, w.inputs)))


def judge(roots: StepRoots, w: Witness) -> Verdict:
    """The claimed and the correct value of what ``w`` opens.

    Raises IllegalMove when an opening does not verify, or a run is longer than one verdict reads.
    """
    return _judge_boundary(roots, w) if isinstance(w, BoundaryWitness) else _judge_element(roots, w)


def judge_part(roots: StepRoots, w: PartWitness) -> int:
    """The correct partial result of the part that ``w`` opens. Raises IllegalMove when an opening does not verify."""
    node = _checked_node(roots, w.node)
    if not isinstance(node, RunNode):
        raise IllegalMove("referee: not a reduce, dot or scatter_add node")
    _expect(len(w.inputs) == len(node.inputs), "wrong number of openings")
    _expect(w.position < node.outputs[0].count, "no such element")
    _expect(w.part < part_count(node), "no such part")
    return part_result(node, w.position, w.part, _fetch(roots, node, w.inputs))
