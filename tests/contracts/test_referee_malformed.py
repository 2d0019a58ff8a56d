"""A node that no program would hold is refused, whatever else is in order; and so is every opening that proves nothing.

``FUZZ_CALLS`` says how many questions the deep test asks, ``FUZZ_SEED`` which.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bisection.merkle import Tree, leaf_digest
from bisection.nodes import KINDS, Dot, Gather, Input, Map, Node, Read, Reduce, ScatterAdd
from bisection.scalar import Op, ScalarProgram
from bisection.witness import NodeProof, Run, RunWitness
from tests.contracts.malformed import malformed_nodes, malformed_openings
from tests.contracts.tally import GAS_BOUND, Tally
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import COMPUTING, BoundaryScene, Scene, ask, judgement, program_around


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


# Nodes that contradict themselves; each row: kind, inputs, outputs, fields. Where a register is named, 0 is the input, 1 the index.
def scalar(*ops: Op, constants: int = 0, results: tuple[int, ...] = (0,)) -> ScalarProgram:
    return ScalarProgram(1, 1, (0,) * constants, ops, results)


X, EACH, COPY = [("i32", 8)], (Read(0, (1,)),), scalar()
ADD = 0x10
MALFORMED: dict[str, tuple[type[Node], list[tuple[str, int]], list[tuple[str, int]], tuple[Any, ...]]] = {
    "a map of another shape": (Map, X, X, ((9,), EACH, COPY)),
    "a map with an empty dimension": (Map, X, X, ((0,), EACH, COPY)),
    "a map of nine dimensions": (Map, X, X, ((1,) * 8 + (8,), (Read(0, (1,) * 9),), COPY)),
    "a map that names a register not yet written": (Map, X, X, ((8,), EACH, scalar(Op(ADD, 0, 2)))),
    "a map that names a first register not yet written": (Map, X, X, ((8,), EACH, scalar(Op(ADD, 2, 0)))),
    "a map that names a third register not yet written": (Map, X, X, ((8,), EACH, scalar(Op(0x1E, 0, 0, 2)))),
    "a map whose result is no register": (Map, X, X, ((8,), EACH, scalar(Op(ADD, 0, 1), results=(3,)))),
    "a map of 129 instructions": (Map, X, X, ((8,), EACH, scalar(*[Op(ADD, 0, 1)] * 129))),
    "a map of 257 registers": (Map, X, X, ((8,), EACH, scalar(*[Op(ADD, 0, 1)] * 100, constants=155))),
    "a map of 257 registers, all but the indices constants": (
        Map, [], X, ((1,) * 7 + (8,), (), ScalarProgram(0, 8, (0,) * 249, (), (0,))),
    ),
    "a gather of broken rows": (Gather, [("f32", 7), ("i32", 4)], [("f32", 8)], (2,)),
    "a gather of another shape": (Gather, [("f32", 6), ("i32", 5)], [("f32", 8)], (2,)),
    "a gather of no width": (Gather, [("f32", 6), ("i32", 4)], [("f32", 8)], (0,)),
    "a gather of another type": (Gather, [("f32", 6), ("i32", 4)], [("i32", 8)], (2,)),
    "a gather of words as floats": (Gather, [("i32", 6), ("i32", 4)], [("f32", 8)], (2,)),
    "a gather with floats for indices": (Gather, [("f32", 6), ("f32", 4)], [("f32", 8)], (2,)),
    "a gather of one input": (Gather, [("f32", 6)], [("f32", 8)], (2,)),
    "a gather of three inputs": (Gather, [("f32", 6), ("i32", 4), ("i32", 4)], [("f32", 8)], (2,)),
    "a gather of two outputs": (Gather, [("f32", 6), ("i32", 4)], [("f32", 8), ("f32", 8)], (2,)),
    "a sum of floats": (Reduce, [("f32", 8)], [("i64", 4)], ("sum", 2)),
    "a sum into words": (Reduce, [("i32", 8)], [("i32", 4)], ("sum", 2)),
    "a maximum of another type": (Reduce, [("i32", 8)], [("i64", 4)], ("max", 2)),
    "a maximum of bytes": (Reduce, [("i8", 8)], [("i8", 4)], ("max", 2)),
    "a maximum of short words": (Reduce, [("i16", 8)], [("i16", 4)], ("max", 2)),
    "a sum of another shape": (Reduce, [("i32", 8)], [("i64", 4)], ("sum", 3)),
    "a sum of fewer elements": (Reduce, [("i32", 8)], [("i64", 4)], ("sum", 1)),
    "a sum of nothing": (Reduce, [("i32", 8)], [("i64", 4)], ("sum", 0)),
    "a sum of two inputs": (Reduce, [("i32", 8), ("i32", 8)], [("i64", 4)], ("sum", 2)),
    "a dot of floats": (Dot, [("i32", 6), ("f32", 6)], [("i64", 4)], (2, 2, 3)),
    "a dot of longs": (Dot, [("i32", 6), ("i64", 6)], [("i64", 4)], (2, 2, 3)),
    "a dot of longs and words": (Dot, [("i64", 6), ("i32", 6)], [("i64", 4)], (2, 2, 3)),
    "a dot of words and floats": (Dot, [("f32", 6), ("i32", 6)], [("i64", 4)], (2, 2, 3)),
    "a dot into words": (Dot, [("i32", 6), ("i32", 6)], [("i32", 4)], (2, 2, 3)),
    "a dot of another shape": (Dot, [("i32", 6), ("i32", 7)], [("i64", 4)], (2, 2, 3)),
    "a dot of a shorter operand": (Dot, [("i32", 6), ("i32", 5)], [("i64", 4)], (2, 2, 3)),
    "a dot of a longer first operand": (Dot, [("i32", 7), ("i32", 6)], [("i64", 4)], (2, 2, 3)),
    "a dot of a shorter first operand": (Dot, [("i32", 5), ("i32", 6)], [("i64", 4)], (2, 2, 3)),
    "a dot of half a batch": (Dot, [("i32", 2), ("i32", 2)], [("i64", 2)], (2, 2, 2)),
    "a dot of a broken batch": (Dot, [("i32", 6), ("i32", 6)], [("i64", 5)], (2, 2, 3)),
    "a dot without rows": (Dot, [("i32", 6), ("i32", 6)], [("i64", 4)], (0, 2, 3)),
    "a dot without columns": (Dot, [("i32", 6), ("i32", 6)], [("i64", 4)], (2, 0, 3)),
    "a dot of nothing": (Dot, [("i32", 6), ("i32", 6)], [("i64", 4)], (2, 2, 0)),
    "a scatter_add of floats": (ScatterAdd, [("f32", 6), ("i32", 3)], [("i64", 8)], (3, 4)),
    "a scatter_add by floats": (ScatterAdd, [("i32", 6), ("f32", 3)], [("i64", 8)], (3, 4)),
    "a scatter_add into words": (ScatterAdd, [("i32", 6), ("i32", 3)], [("i32", 8)], (3, 4)),
    "a scatter_add of too many indices": (ScatterAdd, [("i32", 6), ("i32", 4)], [("i64", 8)], (3, 4)),
    "a scatter_add of too few indices": (ScatterAdd, [("i32", 6), ("i32", 2)], [("i64", 8)], (3, 4)),
    "a scatter_add into fewer bins": (ScatterAdd, [("i32", 6), ("i32", 3)], [("i64", 7)], (3, 4)),
    "a scatter_add of no length": (ScatterAdd, [("i32", 6), ("i32", 3)], [("i64", 8)], (0, 4)),
    "a scatter_add of broken rows": (ScatterAdd, [("i32", 8), ("i32", 6)], [("i64", 4)], (6, 3)),
    "a scatter_add of another shape": (ScatterAdd, [("i32", 6), ("i32", 3)], [("i64", 9)], (3, 4)),
    "a scatter_add without bins": (ScatterAdd, [("i32", 6), ("i32", 3)], [("i64", 8)], (3, 0)),
}  # fmt: skip

LONG: dict[str, tuple[type[Node], list[tuple[str, int]], list[tuple[str, int]], tuple[Any, ...]]] = {
    "a sum of 1,025 elements": (Reduce, [("i8", 2050)], [("i64", 2)], ("sum", 1025)),
    "a dot of 1,025 elements": (Dot, [("i8", 1025), ("i8", 1025)], [("i64", 1)], (1, 1, 1025)),
    "a scatter_add of 1,025 elements": (ScatterAdd, [("i8", 1025), ("i8", 1025)], [("i64", 1)], (1025, 1)),
}


def in_the_place_of_a_map(kind: type[Node], inputs: list[tuple[str, int]], outputs: list[tuple[str, int]], *fields: Any) -> Any:
    """A question about a node that no Program would hold, with the claim in order and the inputs not opened."""
    reads = tuple(Read(0, (0,)) for _ in inputs)
    program = program_around(
        Map, inputs, outputs, (outputs[0][1],), reads, ScalarProgram(len(inputs), 1, (), (), (0,) * len(outputs))
    )
    scene = Scene.of(program, {}, np.random.default_rng(0))
    w = scene.witness(0, 0)
    if kind not in (Map, Gather):
        w = RunWitness(w.node, 0, 0, w.claim, tuple(Run(bytes(32), (), b"", ()) for _ in inputs))
    return scene, w, kind(scene.node.inputs, scene.node.outputs, *fields).encode()


@pytest.mark.parametrize("what", MALFORMED)
def test_a_node_that_contradicts_itself_is_refused(referee: Contract, what: str) -> None:
    kind, inputs, outputs, kind_fields = MALFORMED[what]
    scene, w, code = in_the_place_of_a_map(kind, inputs, outputs, *kind_fields)
    with pytest.raises(Reverted, match="referee: malformed node"):
        ask(referee, *scene.recoded(code, w))
    assert judgement(*scene.recoded(code, w)) == "refused"


@pytest.mark.parametrize("what", LONG)
def test_a_run_that_one_verdict_cannot_read_is_refused_whole(referee: Contract, what: str) -> None:
    kind, inputs, outputs, kind_fields = LONG[what]
    scene, w, code = in_the_place_of_a_map(kind, inputs, outputs, *kind_fields)
    with pytest.raises(Reverted, match="referee: run too long"):
        ask(referee, *scene.recoded(code, w))
    assert judgement(*scene.recoded(code, w)) == "refused"


def test_a_map_whose_second_output_has_another_count_is_refused(referee: Contract) -> None:
    scene, w, code = in_the_place_of_a_map(Map, X, [*X, *X], (8,), EACH, scalar(results=(0, 1)))
    assert ask(referee, *scene.recoded(code, scene.witness(0, 0))) == judgement(*scene.recoded(code, scene.witness(0, 0)))
    first, second = scene.node.outputs
    code = Map(scene.node.inputs, (first, replace(second, count=9)), (8,), EACH, scalar(results=(0, 1))).encode()
    with pytest.raises(Reverted, match="referee: malformed node"):
        ask(referee, *scene.recoded(code, w))


@pytest.mark.parametrize("kind", COMPUTING, ids=lambda kind: kind.NAME)
def test_a_node_with_bytes_too_many_or_too_few_is_refused(referee: Contract, kind: type[Node]) -> None:
    scene = Scene.random(kind, 0)
    w = scene.witness(0, 0)
    for code in (w.node.code + b"\0", w.node.code[:-1], w.node.code[:20], w.node.code[:6], b""):
        with pytest.raises(Reverted):
            ask(referee, *scene.recoded(code, w))


def test_leaves_committed_too_long_are_refused(referee: Contract) -> None:
    """Four bytes more in the last leaf of a tensor leave its number of leaves and every depth as they are."""
    programs = [
        program_around(Map, X, X, (8,), EACH, COPY),
        program_around(Reduce, X, [("i64", 8)], "sum", 1),
    ]
    for program in programs:
        honest = Scene.of(program, {}, np.random.default_rng(0))
        for ref in (*honest.node.inputs, *honest.node.outputs):
            contents = list(honest.contents)
            contents[ref.tensor] += bytes(4)
            scene = Scene(program, honest.number, contents)
            with pytest.raises(Reverted, match="referee: opening of another length"):
                ask(referee, scene.roots, scene.witness(0, 7))


def test_an_empty_tensor_is_refused(referee: Contract) -> None:
    """No program has one, and a read of it would need no opening."""
    scene, w, code = in_the_place_of_a_map(Map, X, X, (8,), EACH, COPY)
    assert ask(referee, *scene.recoded(code, w)) == scene.expected(0, 0)
    (empty,) = (replace(ref, count=0) for ref in scene.node.inputs)
    with pytest.raises(Reverted, match="referee: malformed node"):
        ask(referee, *scene.recoded(Map((empty,), scene.node.outputs, (8,), EACH, COPY).encode(), w))


def test_an_input_node_of_neither_state_nor_data_is_refused(referee: Contract) -> None:
    step = BoundaryScene()
    number = next(i for i in step.boundary if isinstance(step.program.nodes[i], Input))
    w = step.witness(number)
    for source, reason in ((1, "merkle: proof of another"), (2, "referee: malformed node")):
        code = w.node.code[:-5] + bytes([source]) + w.node.code[-4:]
        leaves = list(step.program.tree.levels[0])
        leaves[number] = leaf_digest(code)
        tree = Tree(leaves)
        proof = NodeProof(number, code, tuple(tree.prove(number)))
        with pytest.raises(Reverted, match=reason):
            ask(referee, replace(step.roots, program_root=tree.root), replace(w, node=proof))


# Campaigns

SEED = int(os.environ.get("FUZZ_SEED", "1"))
CALLS = int(os.environ.get("FUZZ_CALLS", "6000"))
FIELDS = (
    "kind", "number of inputs or outputs", "tensor", "element type", "element count", "rank", "dimension", "register",
    "number of constants", "constant", "number of instructions", "instruction", "number of conditions", "base", "stride",
    "condition", "length", "operation", "source", "component",
)  # fmt: skip
NODE_DAMAGE = {"truncated", "extended", "noise", "bytes lost or doubled"} | {f"{name} altered" for name in FIELDS}


def assert_clean(tally: Tally) -> None:
    assert tally.findings == []
    assert tally.most_gas < GAS_BOUND


def damages(tally: Tally) -> set[str]:
    return {damage for _, damage in (*tally.refused, *tally.answered)}


def test_damaged_nodes_mean_what_they_spell_or_nothing(referee: Contract) -> None:
    """Every field of every kind of node, absurd counts and strides among them."""
    tally = malformed_nodes(referee, 1_500, 0)
    assert_clean(tally)
    assert damages(tally) == NODE_DAMAGE
    assert {target for target, _ in tally.refused} == {f"{kind.NAME} node" for kind in KINDS.values()}


def test_damaged_openings_prove_nothing(referee: Contract) -> None:
    """Proofs, contents, positions and numbers of every kind of question about honest steps."""
    tally = malformed_openings(referee, 1_500, 0)
    assert_clean(tally)
    for proof in ("proof", "trace proof", "leaf proof", "range proof", "component proof"):
        assert {f"{proof}: {how}" for how in ("one more", "one less", "empty", "two swapped", "one changed")} <= damages(tally)
    for number in ("index", "output", "position", "part"):
        assert {f"{number}: absurd", f"{number}: another"} <= damages(tally)
    assert tally.refused.total() > 5 * tally.answered.total()


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_very_many_damaged_questions(referee: Contract) -> None:
    assert_clean(malformed_nodes(referee, CALLS // 2, SEED))
    assert_clean(malformed_openings(referee, CALLS // 2, SEED))
