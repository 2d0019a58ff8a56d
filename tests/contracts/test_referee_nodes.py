"""What the referee says of boundaries, long runs and heads of nodes, field by field, and the least damage that it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from bisection.cut import part_count, part_result
from bisection.errors import IllegalMove
from bisection.merkle import Tree, leaf_digest
from bisection.nodes import MAX_LENGTH, Condition, Dot, Gather, Input, Map, Node, Output, Read, Reduce, Ref, RunNode, ScatterAdd
from bisection.program import NUMERICS_VERSION
from bisection.scalar import Op, ScalarProgram
from bisection.witness import NodeProof, StepRoots, boundary, locate, locate_run, node_proof
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import BoundaryScene, Scene, ask, judgement, program_around

MALFORMED = "referee: malformed node"
NO_OPENING = (bytes(32), (), bytes(32), ())
"""The roots and paths of ``judge_boundary``, where the node is refused before they are looked at."""


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


@pytest.fixture(scope="module")
def step() -> BoundaryScene:
    return BoundaryScene()


def test_the_numerics_are_those_of_the_programs(referee: Contract) -> None:
    assert referee.call("numerics_version") == NUMERICS_VERSION


# Boundaries


def instead(step: BoundaryScene | Scene, number: int, code: bytes) -> tuple[StepRoots, NodeProof]:
    """The step, and the proof of ``code``, in a program that has it in the place of node ``number``."""
    leaves = list(step.program.tree.levels[0])
    leaves[number] = leaf_digest(code)
    tree = Tree(leaves)
    return replace(step.roots, program_root=tree.root), NodeProof(number, code, tuple(tree.prove(number)))


def boundary_node(step: BoundaryScene, kind: type[Node]) -> tuple[int, Any]:
    """The number of the second node of a kind, which joins the tensor of weights, and the node."""
    number = [i for i in step.boundary if isinstance(step.program.nodes[i], kind)][1]
    return number, step.program.nodes[number]


def test_a_boundary_is_told_field_by_field(referee: Contract, step: BoundaryScene) -> None:
    told = []
    for number in step.boundary:
        proof = node_proof(step.program, number)
        told.append(referee.call("boundary", step.roots, proof))
        assert told[-1] == astuple(boundary(step.roots, proof))
    assert {source for source, _, _, _ in told} == {0, 1, 2}
    number, node = boundary_node(step, Input)
    assert referee.call("boundary", step.roots, node_proof(step.program, number)) == (0, node.index, node.outputs[0].tensor, 800)


def test_a_boundary_joins_any_index(referee: Contract, step: BoundaryScene) -> None:
    for kind in (Input, Output):
        number, node = boundary_node(step, kind)
        roots, proof = instead(step, number, replace(node, index=0xFEDCBA98).encode())
        assert referee.call("boundary", roots, proof) == astuple(boundary(roots, proof))


def damaged_boundaries(step: BoundaryScene) -> dict[str, tuple[int, bytes]]:
    """Encodings of input and output nodes with a single fault, and the places they stand in."""
    reads, source = boundary_node(step, Input)
    writes, sink = boundary_node(step, Output)
    assert isinstance(source, Input) and isinstance(sink, Output)
    (written,), (read,) = source.outputs, sink.inputs
    other = Ref(written.tensor + 1, "i64", 4)
    code, end = source.encode(), sink.encode()
    return {
        "an input node that reads": (reads, replace(source, inputs=(other,)).encode()),
        "an input node that reads and writes twice": (reads, replace(source, inputs=(other,), outputs=(written, other)).encode()),
        "an input node that writes twice": (reads, replace(source, outputs=(written, other)).encode()),
        "an input node that writes nothing": (reads, replace(source, outputs=()).encode()),
        "an input node of the state after": (reads, code[:-5] + b"\2" + code[-4:]),
        "an input node of nothing known": (reads, code[:-5] + b"\3" + code[-4:]),
        "an input node with a byte more": (reads, code + b"\0"),
        "an input node with a byte less": (reads, replace(source, index=0).encode()[:-1]),
        "an output node that writes": (writes, replace(sink, outputs=(Ref(0, "i64", 1),)).encode()),
        "an output node that reads twice": (writes, replace(sink, inputs=(read, other)).encode()),
        "an output node that reads nothing": (writes, replace(sink, inputs=()).encode()),
        "an output node that reads nothing and writes": (writes, replace(sink, inputs=(), outputs=(written,)).encode()),
        "an output node with a byte more": (writes, end + b"\0"),
        "an output node with a byte less": (writes, replace(sink, index=0).encode()[:-1]),
    }


def test_a_damaged_boundary_is_refused(referee: Contract, step: BoundaryScene) -> None:
    for what, (number, code) in damaged_boundaries(step).items():
        roots, proof = instead(step, number, code)
        with pytest.raises(IllegalMove):
            boundary(roots, proof)
        for question in (("boundary", roots, proof), ("judge_boundary", roots, proof, *NO_OPENING)):
            with pytest.raises(Reverted) as refusal:
                referee.call(*question)
            assert str(refusal.value) == MALFORMED, what


def test_a_node_that_computes_is_no_boundary(referee: Contract, step: BoundaryScene) -> None:
    for number in set(range(len(step.program.nodes))) - set(step.boundary):
        with pytest.raises(Reverted, match="referee: not a boundary"):
            referee.call("boundary", step.roots, node_proof(step.program, number))


def test_a_node_of_its_head_alone_writes_nothing(referee: Contract, step: BoundaryScene) -> None:
    """``locate`` reads no further than the head, and yet some body must follow."""
    number, node = boundary_node(step, Input)
    head = len(node.encode()) - 5
    roots, proof = instead(step, number, node.encode()[:head])
    with pytest.raises(IllegalMove):
        locate(roots, proof, 0)
    with pytest.raises(Reverted, match=MALFORMED):
        referee.call("locate", roots, proof, 0)


# Lengths

Row = tuple[type[Node], list[tuple[str, int]], list[tuple[str, int]], tuple[Any, ...]]
"""Kind, inputs, outputs, fields."""
ROUND: dict[str, Row] = {
    "gather": (Gather, [("i8", 512), ("i32", 1)], [("i8", 256)], (256,)),
    "reduce": (Reduce, [("i16", 512)], [("i64", 2)], ("sum", 256)),
    "dot": (Dot, [("i16", 512), ("i16", 256)], [("i64", 2)], (2, 1, 256)),
    "scatter_add": (ScatterAdd, [("i16", 8), ("i8", 8)], [("i64", 256)], (8, 256)),
}
"""The last byte of their encodings is zero, as is whatever is read where it is cut off: the fields would mean the same."""


@pytest.mark.parametrize("what", ROUND)
def test_a_node_cut_short_by_a_zero_is_refused(referee: Contract, what: str) -> None:
    kind, inputs, outputs, fields = ROUND[what]
    scene = Scene.of(program_around(kind, inputs, outputs, *fields), {}, np.random.default_rng(0))
    w: Any = scene.witness(0, 1)
    assert ask(referee, scene.roots, w) == scene.expected(0, 1)
    for code in (w.node.code[:-1], w.node.code + b"\0"):
        damaged = scene.recoded(code, w)
        assert judgement(*damaged) == "refused"
        with pytest.raises(Reverted, match=MALFORMED):
            ask(referee, *damaged)


# Maps


def scene_of(kind: type[Node], inputs: list[tuple[str, int]], outputs: list[tuple[str, int]], *fields: Any) -> Scene:
    """A node over hostile data."""
    return Scene.of(program_around(kind, inputs, outputs, *fields), {}, np.random.default_rng(0))


def agrees(referee: Contract, scene: Scene, positions: Iterable[int]) -> bool:
    """Whether the contract gives these elements of the first output as they are defined."""
    return all(ask(referee, scene.roots, scene.witness(0, i)) == scene.expected(0, i) for i in positions)


@pytest.mark.parametrize("base", [-1, 0, 1])
def test_a_map_reads_up_to_the_end_of_a_tensor_and_zeros_behind_it(referee: Contract, base: int) -> None:
    copy = ScalarProgram(1, 1, (), (), (0,))
    assert agrees(referee, scene_of(Map, [("i32", 8)], [("i32", 8)], (8,), (Read(base, (1,)),), copy), range(8))


@pytest.mark.parametrize("start", [-1, 0, 1])
def test_a_condition_holds_from_zero_up_to_its_size(referee: Contract, start: int) -> None:
    """Of two conditions on different axes, either may be the one that fails."""
    copy = ScalarProgram(1, 2, (), (), (0,))
    reads = (Read(0, (4, 1), (Condition(start, 3, (1, 0)), Condition(-start, 4, (0, 1)))),)
    assert agrees(referee, scene_of(Map, [("i32", 12)], [("i32", 12)], (3, 4), reads, copy), range(12))


def test_a_map_may_have_256_registers(referee: Contract) -> None:
    """Filled by instructions, and by constants alone."""
    ops = (Op(0x20, 0, 1), *(Op(0x20, i, 155) for i in range(156, 255)))
    program = ScalarProgram(1, 1, tuple(range(154)), ops, (255,))
    assert agrees(referee, scene_of(Map, [("i32", 8)], [("i64", 8)], (8,), (Read(0, (1,)),), program), [0, 7])
    program = ScalarProgram(0, 8, tuple(range(248)), (), (255,))
    assert agrees(referee, scene_of(Map, [], [("i64", 8)], (1,) * 7 + (8,), (), program), [0, 7])


# Runs

OTHER_NUMBERS: dict[str, Row] = {
    "a sum of nothing": (Reduce, [], [("i64", 4)], ("sum", 2)),
    "a sum of two inputs": (Reduce, [("i32", 8)] * 2, [("i64", 4)], ("sum", 2)),
    "a sum written twice": (Reduce, [("i32", 8)], [("i64", 4)] * 2, ("sum", 2)),
    "a dot of one input": (Dot, [("i32", 8)], [("i64", 1)], (1, 1, 8)),
    "a dot of three inputs": (Dot, [("i32", 8)] * 3, [("i64", 1)], (1, 1, 8)),
    "a dot written twice": (Dot, [("i32", 8)] * 2, [("i64", 1)] * 2, (1, 1, 8)),
    "a scatter_add of one input": (ScatterAdd, [("i32", 8)], [("i64", 2)], (8, 2)),
    "a scatter_add of three inputs": (ScatterAdd, [("i32", 8)] * 3, [("i64", 2)], (8, 2)),
    "a scatter_add written twice": (ScatterAdd, [("i32", 8)] * 2, [("i64", 2)] * 2, (8, 2)),
}
"""Nodes whose shapes fit, but not the numbers of their tensors."""


@pytest.mark.parametrize("what", OTHER_NUMBERS)
def test_a_run_of_another_number_of_tensors_is_not_located(referee: Contract, what: str) -> None:
    kind, inputs, outputs, fields = OTHER_NUMBERS[what]
    reads, shape = tuple(Read(0, (0,)) for _ in inputs), (outputs[0][1],)
    copy = ScalarProgram(len(inputs), 1, (), (), (0,) * len(outputs))
    scene = Scene.of(program_around(Map, inputs, outputs, shape, reads, copy), {}, np.random.default_rng(0))
    roots, proof = instead(scene, scene.number, kind(scene.node.inputs, scene.node.outputs, *fields).encode())
    claim = scene.leaf(scene.node.outputs[0].tensor, "i64", 0)
    with pytest.raises(IllegalMove):
        locate_run(roots, proof, 0, claim)
    with pytest.raises(Reverted, match=MALFORMED):
        referee.call("locate_run", roots, proof, 0, claim)


LONG = MAX_LENGTH + 300
RUNS: dict[str, Row] = {
    "sum": (Reduce, [("i16", 2 * LONG)], [("i64", 2)], ("sum", LONG)),
    "max": (Reduce, [("i32", 2 * LONG)], [("i32", 2)], ("max", LONG)),
    "dot": (Dot, [("i8", 4 * LONG), ("i16", 6 * LONG)], [("i64", 12)], (2, 3, LONG)),
    "scatter_add": (ScatterAdd, [("i32", 2 * LONG), ("i8", LONG)], [("i64", 6)], (LONG, 3)),
}


def long_run(what: str) -> Scene:
    """One of RUNS over hostile data."""
    kind, inputs, outputs, fields = RUNS[what]
    return Scene.of(program_around(kind, inputs, outputs, *fields), {}, np.random.default_rng(len(what)))


@pytest.mark.parametrize("what", RUNS)
def test_a_long_run_is_told_field_by_field(referee: Contract, what: str) -> None:
    scene = long_run(what)
    ref, proof = scene.node.outputs[0], node_proof(scene.program, scene.number)
    for position in (0, ref.count - 1):
        claim = scene.leaf(ref.tensor, ref.dtype, position)
        told = referee.call("locate_run", scene.roots, proof, position, claim)
        assert told == astuple(locate_run(scene.roots, proof, position, claim))
        assert told == (scene.expected(0, position)[0], ref.tensor, 6, what == "max")
    with pytest.raises(Reverted, match="referee: position outside the tensor"):
        referee.call("locate_run", scene.roots, proof, ref.count, claim)


def test_a_run_may_be_as_long_as_its_field_can_say(referee: Contract) -> None:
    """The node alone says so: nobody holds a tensor of 2^31 elements here."""
    scene = scene_of(Reduce, [("i8", 4)], [("i64", 2)], "sum", 2)
    ref, length = scene.node.outputs[0], 2**31
    longer = Reduce((replace(scene.node.inputs[0], count=2 * length),), scene.node.outputs, "sum", length)
    roots, proof = instead(scene, scene.number, longer.encode())
    claim = scene.leaf(ref.tensor, "i64", 1)
    told = referee.call("locate_run", roots, proof, 1, claim)
    assert told == astuple(locate_run(roots, proof, 1, claim)) and told[2] == part_count(longer)


@pytest.mark.parametrize("what", RUNS)
def test_every_part_of_a_long_run_is_summed(referee: Contract, what: str) -> None:
    scene = long_run(what)
    node = scene.node
    assert isinstance(node, RunNode)
    for position in range(node.outputs[0].count):
        for part in range(part_count(node)) if position in (0, node.outputs[0].count - 1) else [1]:
            w = scene.part(position, part)
            assert ask(referee, scene.roots, w) == part_result(node, position, part, scene.fetch), (position, part)


@pytest.mark.parametrize("length", [1, 2, 4, 33])
def test_dots_of_any_two_types(referee: Contract, length: int) -> None:
    """Among them those where the count of one operand is the size of the other's elements."""
    for x, y in product(("i8", "i16", "i32"), repeat=2):
        assert agrees(referee, scene_of(Dot, [(x, length), (y, length)], [("i64", 1)], 1, 1, length), [0]), (x, y)


@pytest.mark.parametrize("what", RUNS)
def test_there_is_no_part_behind_the_last(referee: Contract, what: str) -> None:
    scene = long_run(what)
    assert isinstance(scene.node, RunNode)
    w, count = scene.part(0, 0), scene.node.outputs[0].count
    for question, reason in (
        (replace(w, part=part_count(scene.node)), "referee: no such part"),
        (replace(w, part=1 << 255), "referee: no such part"),
        (replace(w, position=count), "referee: position outside the tensor"),
        (replace(w, position=1 << 255), "referee: position outside the tensor"),
        (replace(w, inputs=()), "referee: openings for another number of inputs"),
    ):
        assert judgement(scene.roots, question) == "refused"
        with pytest.raises(Reverted) as refusal:
            ask(referee, scene.roots, question)
        assert str(refusal.value) == reason


def test_a_reduction_of_one_input_is_opened_once(referee: Contract) -> None:
    scene = long_run("sum")
    w = scene.part(0, 0)
    question = replace(w, inputs=w.inputs * 2)
    assert judgement(scene.roots, question) == "refused"
    with pytest.raises(Reverted, match="referee: openings for another number of inputs"):
        ask(referee, scene.roots, question)
