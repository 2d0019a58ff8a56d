"""Witnesses: the openings that let a stranger recompute one element, and the judgement over them (docs/protocol.md, "Verdict").

``judge`` is what the referee contract does, in Python: a challenger can call it before it spends gas, and the contract is tested
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bisection.cut import element, load
from bisection.errors import IllegalMove, ProgramError, VerificationError
from bisection.merkle import LEAF_BYTES, blob_tree, depth_of, fold, fold_range, leaf_count, leaf_digest
from bisection.nodes import DTYPES, Gather, Input, Map, Node, Output, Ref
from bisection.program import Program

__all__ = [
    "BoundaryWitness",
    "ElementWitness",
    "Leaf",
    "NodeProof",
    "Run",
    "RunWitness",
    "StepRoots",
    "Verdict",
    "Witness",
    "boundary_witness",
    "judge",
    "locate",
    "node_proof",
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
    read: Callable[[int], bytes],
    prove: Callable[[int], Sequence[bytes]],
) -> ElementWitness | RunWitness:
    """The witness for element ``position`` of trace tensor ``tensor``.

    ``claim`` opens the leaf that holds it; ``read`` and ``prove`` give the bytes of a smaller-numbered tensor and its path to the
    trace root.
    """
    number = program.producer[tensor]
    node = program.nodes[number]
    output = tensor - node.outputs[0].tensor
    proof = node_proof(program, number)
    contents = [read(ref.tensor) for ref in node.inputs]
    trees = [blob_tree(content) for content in contents]
    openings: dict[int, tuple[int, int]] = {}

    def fetch(i: int, first: int, count: int) -> Sequence[int]:
        openings[i] = _span(node.inputs[i], first, count)
        size = DTYPES[node.inputs[i].dtype].size
        return load(contents[i][first * size : (first + count) * size], node.inputs[i].dtype)

    element(node, output, position, fetch)

    def opened(i: int) -> tuple[bytes, tuple[bytes, ...], bytes, tuple[bytes, ...]]:
        first, count = openings[i]
        data = contents[i][first * LEAF_BYTES : (first + count) * LEAF_BYTES]
        return trees[i].root, tuple(prove(node.inputs[i].tensor)), data, tuple(trees[i].prove_range(first, count))

    if isinstance(node, Map | Gather):
        leaves = tuple(Leaf(*opened(i)) if i in openings else NO_LEAF for i in range(len(node.inputs)))
        return ElementWitness(proof, output, position, claim, leaves)
    return RunWitness(proof, output, position, claim, tuple(Run(*opened(i)) for i in range(len(node.inputs))))


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


def _judge_boundary(roots: StepRoots, w: BoundaryWitness) -> Verdict:
    node = _checked_node(roots, w.node)
    if isinstance(node, Input):
        tensor = node.outputs[0].tensor
        root, count = (roots.data_root, roots.data_count) if node.source == "data" else (roots.state_before, roots.state_count)
    elif isinstance(node, Output):
        tensor, root, count = node.inputs[0].tensor, roots.state_after, roots.state_count
    else:
        raise IllegalMove("referee: not a boundary node")
    _member(roots.trace_root, roots.tensor_count, tensor, w.tensor_root, w.trace_proof, "trace")
    _member(root, count, node.index, w.component_root, w.component_proof, "component")
    claimed, correct = (w.tensor_root, w.component_root) if isinstance(node, Input) else (w.component_root, w.tensor_root)
    return Verdict(w.node.index, 0, 0, int.from_bytes(claimed, "big"), int.from_bytes(correct, "big"))


def _judge_element(roots: StepRoots, w: ElementWitness | RunWitness) -> Verdict:
    node = _checked_node(roots, w.node)
    _expect(not isinstance(node, Input | Output), "a boundary node has no element")
    _expect(isinstance(node, Map | Gather) == isinstance(w, ElementWitness), "wrong kind of node")
    _expect(w.output < len(node.outputs) and len(w.inputs) == len(node.inputs), "wrong number of openings")
    ref = node.outputs[w.output]
    _expect(w.position < ref.count, "no such element")
    first, _ = _span(ref, w.position, 1)
    claimed = _elements(ref, _checked_bytes(roots, ref, w.claim, first, 1), first, w.position, 1)[0]

    def fetch(i: int, start: int, count: int) -> Sequence[int]:
        first, leaves = _span(node.inputs[i], start, count)
        return _elements(node.inputs[i], _checked_bytes(roots, node.inputs[i], w.inputs[i], first, leaves), first, start, count)

    return Verdict(w.node.index, w.output, w.position, claimed, element(node, w.output, w.position, fetch))


def judge(roots: StepRoots, w: Witness) -> Verdict:
    """The claimed and the correct value of what ``w`` opens. Raises IllegalMove when an opening does not verify."""
    return _judge_boundary(roots, w) if isinstance(w, BoundaryWitness) else _judge_element(roots, w)
