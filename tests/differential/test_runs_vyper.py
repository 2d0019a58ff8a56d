"""Long runs in the contract: their places, and the partial results of their parts, as bisection/cut.py defines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bisection.cut import combined, part_count, part_length, part_result
from bisection.merkle import LEAF_BYTES
from bisection.nodes import DTYPES, MAX_LENGTH, Dot, Gather, Map, Node, Reduce, RunNode, ScatterAdd
from bisection.witness import PartWitness, StepRoots, locate_run, node_proof
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import Scene, answer, ask, judgement, program_around
from tests.support.programs import run_program

LENGTHS = [1025, 1280, 2047, 2048, 2049, 3000, 5555]
KINDS: list[tuple[type[Node], str]] = [(Reduce, "sum"), (Reduce, "max"), (Dot, "sum"), (ScatterAdd, "sum")]


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


def scene(kind: type[Node], op: str, length: int, dtypes: tuple[str, str], seed: int = 0) -> Scene:
    """One long node over hostile data; what it wrote is hostile as well."""
    rng = np.random.default_rng(seed)
    program, _, data = run_program(rng, kind, length, dtypes, op)
    return Scene.of(program, data, rng)


def dtypes_of(kind: type[Node], op: str) -> list[str]:
    return ["i32", "i64"] if op == "max" else ["i8", "i16", "i32"] if kind is Dot else ["i8", "i16", "i32", "i64"]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("kind", "op"), KINDS, ids=lambda x: getattr(x, "NAME", x))
def test_parts_agree_with_their_definition(referee: Contract, kind: type[Node], op: str, length: int) -> None:
    rng = np.random.default_rng(length)
    for x in dtypes_of(kind, op):
        for y in [x] if kind is Reduce else dtypes_of(kind, op):
            it = scene(kind, op, length, (x, y), seed=length)
            node, position = it.node, int(rng.integers(it.node.outputs[0].count))
            assert isinstance(node, RunNode)
            count = part_count(node)
            for part in {0, count - 1, int(rng.integers(count))}:
                w = it.part(position, part)
                expected = part_result(node, position, part, it.fetch)
                assert ask(referee, it.roots, w) == judgement(it.roots, w) == expected, (x, y, position, part)


@pytest.mark.parametrize(("kind", "op"), KINDS, ids=lambda x: getattr(x, "NAME", x))
def test_all_parts_combine_to_the_element(referee: Contract, kind: type[Node], op: str) -> None:
    it = scene(kind, op, 3000, ("i32", "i16"))
    assert isinstance(it.node, RunNode)
    last = it.node.outputs[0].count - 1
    parts = [ask(referee, it.roots, it.part(last, part)) for part in range(part_count(it.node))]
    assert combined(parts, op == "max") == it.expected(0, last)[1]  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "parts"), [(1, 1), (1024, 1), (1025, 5), (1280, 5), (1281, 6), (70_000, 274)])
@pytest.mark.parametrize(("kind", "op"), KINDS, ids=lambda x: getattr(x, "NAME", x))
def test_a_run_is_located_with_its_claim(referee: Contract, kind: type[Node], op: str, length: int, parts: int) -> None:
    it = scene(kind, op, length, ("i32", "i8"), seed=1)
    ref, proof = it.node.outputs[0], node_proof(it.program, it.number)
    for position in (0, ref.count - 1):
        claim = it.leaf(ref.tensor, ref.dtype, position)
        place = locate_run(it.roots, proof, position, claim)
        expected = (place.claimed, place.tensor, place.parts, place.takes_max)
        assert referee.call("locate_run", it.roots, proof, position, claim) == expected
        assert (place.claimed, place.parts) == (it.expected(0, position)[0], parts)
        forged = replace(claim, data=bytes(byte ^ 1 for byte in claim.data))
        with pytest.raises(Reverted, match="merkle: proof of another root"):
            referee.call("locate_run", it.roots, proof, position, forged)
    with pytest.raises(Reverted, match="referee: position outside the tensor"):
        referee.call("locate_run", it.roots, proof, ref.count, claim)


@pytest.mark.parametrize("kind", [Map, Gather], ids=lambda kind: kind.NAME)
def test_only_reductions_have_runs(referee: Contract, kind: type[Node]) -> None:
    it = Scene.random(kind, 0)
    ref, proof = it.node.outputs[0], node_proof(it.program, it.number)
    for call in (
        ("locate_run", it.roots, proof, 0, it.leaf(ref.tensor, ref.dtype, 0)),
        ("judge_part", it.roots, proof, 0, 0, []),
    ):
        with pytest.raises(Reverted, match="referee: not a reduce, dot or scatter_add node"):
            referee.call(*call)


def test_the_extremes_of_every_type_sum_exactly_within_a_part(referee: Contract) -> None:
    for dtype in ("i8", "i16", "i32", "i64"):
        size = DTYPES[dtype].size
        least = (-(1 << (8 * size - 1))).to_bytes(size, "little", signed=True)
        programs = [program_around(Reduce, [(dtype, 4096)], [("i64", 1)], "sum", 4096)]
        if dtype != "i64":
            programs.append(program_around(Dot, [(dtype, 4096), (dtype, 4096)], [("i64", 1)], 1, 1, 4096))
        for program in programs:
            contents = [least * ref.count if ref.dtype == dtype else bytes(ref.nbytes) for ref in program.tensors]
            it = Scene(program, len(program.nodes) - 2, contents)
            assert ask(referee, it.roots, it.part(0, 3)) == judgement(it.roots, it.part(0, 3))


def test_a_run_of_more_than_1024_elements_is_not_judged_at_once(referee: Contract) -> None:
    for kind, op in KINDS:
        it = scene(kind, op, MAX_LENGTH + 1, ("i32", "i8"))
        w = it.witness(0, 0)
        assert judgement(it.roots, w) == "refused"
        with pytest.raises(Reverted, match="referee: run too long"):
            ask(referee, it.roots, w)


# Refusals -------------------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Callable[[StepRoots, PartWitness], tuple[StepRoots, PartWitness]], str]] = {
    "a part past the end": (lambda r, w: (r, replace(w, part=12)), "referee: no such part"),
    "a part of a huge number": (lambda r, w: (r, replace(w, part=2**256 - 1)), "referee: no such part"),
    "an element past the end": (lambda r, w: (r, replace(w, position=4)), "referee: position outside the tensor"),
    "another part": (lambda r, w: (r, replace(w, part=0)), "merkle: range proof of another depth"),
    "another element": (lambda r, w: (r, replace(w, position=0)), "referee: opening of another length"),
    "too few inputs": (lambda r, w: (r, replace(w, inputs=w.inputs[1:])), "referee: openings for another number of inputs"),
    "inputs in another order": (lambda r, w: (r, replace(w, inputs=w.inputs[::-1])), "referee: opening of another length"),
    "a short input": (
        lambda r, w: (r, replace(w, inputs=(replace(w.inputs[0], data=w.inputs[0].data[:-1]), w.inputs[1]))),
        "referee: opening of another length",
    ),
    "a whole leaf too many": (
        lambda r, w: (r, replace(w, inputs=(replace(w.inputs[0], data=w.inputs[0].data + bytes(LEAF_BYTES)), w.inputs[1]))),
        "referee: opening of another length",
    ),
    "an input deeper than its tensor": (
        lambda r, w: (r, replace(w, inputs=(replace(w.inputs[0], range_proof=(*w.inputs[0].range_proof, bytes(32))), w.inputs[1]))),
        "merkle: range proof of another depth",
    ),
    "another node": (
        lambda r, w: (r, replace(w, node=replace(w.node, code=w.node.code + b"\0"))), "merkle: proof of another root",
    ),
    "the header in the place of a node": (
        lambda r, w: (replace(r, node_count=w.node.index), w), "referee: node outside the program",
    ),
    "a trace of another size": (lambda r, w: (replace(r, tensor_count=1 << 20), w), "merkle: proof of another depth"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSALS)
def test_a_malformed_opening_of_a_part_is_refused_with_its_reason(referee: Contract, what: str) -> None:
    change, reason = REFUSALS[what]
    it = scene(Dot, "sum", 3000, ("i16", "i8"))
    w = it.part(3, 1)
    assert ask(referee, it.roots, w) == judgement(it.roots, w) != "refused"
    asked = change(it.roots, w)
    assert judgement(*asked) == "refused"
    with pytest.raises(Reverted, match=reason):
        ask(referee, *asked)


@pytest.mark.parametrize(("kind", "op"), KINDS, ids=lambda x: getattr(x, "NAME", x))
def test_a_part_of_a_short_run_is_the_whole_of_it(referee: Contract, kind: type[Node], op: str) -> None:
    it = scene(kind, op, 1000, ("i64" if kind is not Dot else "i32", "i8"))
    assert isinstance(it.node, RunNode) and part_length(it.node) == 1000
    assert answer(referee, it.roots, it.part(1, 0)) == it.expected(0, 1)[1]
    assert answer(referee, it.roots, replace(it.part(1, 0), part=1)) == "refused"
