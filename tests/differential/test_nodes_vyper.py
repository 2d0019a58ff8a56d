"""Every kind of node in the contract gives the element that bisection/cut.py defines, on hostile tensors of every type."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bisection.merkle import LEAF_BYTES
from bisection.nodes import DTYPES, Dot, Gather, Map, Node, Read, Reduce, ScatterAdd
from bisection.scalar import MAX_INSTRUCTIONS, ScalarProgram
from bisection.witness import NO_LEAF, ElementWitness, RunWitness, judge
from tests.differential.evm import Contract
from tests.differential.scene import COMPUTING, Scene, ask, program_around
from tests.support.programs import hostile, random_scalar

NODES = 200
POSITIONS = 4


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


def compare(referee: Contract, scene: Scene, seed: int) -> list[ElementWitness | RunWitness]:
    """The first, the last and some other elements of the scene's node agree. Returns the witnesses."""
    rng = np.random.default_rng(seed)
    witnesses = []
    output = int(rng.integers(len(scene.node.outputs)))
    count = scene.node.outputs[output].count
    for position in {0, count - 1, *rng.integers(0, count, POSITIONS - 2).tolist()}:
        w = scene.witness(output, position)
        expected = scene.expected(output, position)
        verdict = judge(scene.roots, w)
        assert (verdict.claimed, verdict.correct) == expected, f"judge differs from the cut at seed {seed}, position {position}"
        assert ask(referee, scene.roots, w) == expected, f"the contract differs at seed {seed}, position {position}"
        witnesses.append(w)
    return witnesses


def features(scene: Scene, w: ElementWitness | RunWitness) -> set[str]:
    """What is hard about a witness, by name."""
    found = {f"{ref.dtype} input" for ref in scene.node.inputs} | {f"{ref.dtype} output" for ref in scene.node.outputs}
    partial = [opening for opening in (*w.inputs, w.claim) if len(opening.data) % LEAF_BYTES]
    found |= {"partial last leaf"} if partial else set()
    if isinstance(w, ElementWitness):
        found |= {"a read that gives 0"} if NO_LEAF in w.inputs else set()
    else:
        found |= {"a run over two leaves"} if any(len(run.data) > LEAF_BYTES for run in w.inputs) else set()
        found |= {"a run that begins inside a tensor"} if any(run.range_proof for run in w.inputs) else set()
    return found


INTEGERS = {"i8", "i16", "i32", "i64"}
EVERY = INTEGERS | {"f32"}
HARD = {
    Map: {f"{t} {side}" for t in EVERY for side in ("input", "output")} | {"partial last leaf", "a read that gives 0"},
    Gather: {f"{t} {side}" for t in EVERY for side in ("input", "output")} | {"partial last leaf", "a read that gives 0"},
    Reduce: {f"{t} input" for t in INTEGERS} | {"i32 output", "i64 output"},
    Dot: {f"{t} input" for t in INTEGERS - {"i64"}},
    ScatterAdd: {f"{t} input" for t in INTEGERS},
}
RUNS = {"partial last leaf", "a run over two leaves", "a run that begins inside a tensor"}


@pytest.mark.parametrize("kind", COMPUTING, ids=lambda kind: kind.NAME)
def test_a_node_agrees_with_its_definition(referee: Contract, kind: type[Node]) -> None:
    met: Counter[str] = Counter()
    for seed in range(NODES):
        scene = Scene.random(kind, seed)
        met.update({name for w in compare(referee, scene, seed) for name in features(scene, w)})
    hard = HARD[kind] | (RUNS if kind in (Reduce, Dot, ScatterAdd) else set())
    assert {name for name in hard if met[name] < 5} == set(), "the random nodes are too easy"


@pytest.mark.deep
@pytest.mark.parametrize("kind", COMPUTING, ids=lambda kind: kind.NAME)
def test_a_node_agrees_with_its_definition_on_many_more(referee: Contract, kind: type[Node]) -> None:
    for seed in range(NODES, 20 * NODES):
        compare(referee, Scene.random(kind, seed), seed)


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64"])
@pytest.mark.parametrize("length", [1, 2, 1000, 1023, 1024])
def test_the_shortest_and_the_longest_runs(referee: Contract, dtype: str, length: int) -> None:
    rng = np.random.default_rng(length)
    inputs, wide = [(dtype, 3 * length)], [("i64", 3)]
    programs = [program_around(Reduce, inputs, wide, "sum", length)]
    if dtype in ("i32", "i64"):
        programs.append(program_around(Reduce, inputs, [(dtype, 3)], "max", length))
    if dtype != "i64":
        programs += [
            program_around(Dot, [(dtype, 3 * length), (other, length)], wide, 3, 1, length) for other in ("i8", "i16", "i32")
        ]
    programs += [program_around(ScatterAdd, [(dtype, 3 * length), (other, length)], wide, length, 1) for other in ("i8", "i64")]
    for program in programs:
        compare(referee, Scene.of(program, {}, rng), length)


def test_the_extremes_of_every_integer_type_sum_exactly(referee: Contract) -> None:
    """1,024 times the least value, and products of least values: the largest sums there are, wrapped in i64 alone."""
    for dtype in ("i8", "i16", "i32", "i64"):
        size = DTYPES[dtype].size
        least = (-(1 << (8 * size - 1))).to_bytes(size, "little", signed=True)
        programs = [program_around(Reduce, [(dtype, 1024)], [("i64", 1)], "sum", 1024)]
        if dtype != "i64":
            programs.append(program_around(Dot, [(dtype, 1024), (dtype, 1024)], [("i64", 1)], 1, 1, 1024))
        for program in programs:
            contents = [least * ref.count if ref.dtype == dtype else bytes(ref.nbytes) for ref in program.tensors]
            scene = Scene(program, len(program.nodes) - 2, contents)
            assert ask(referee, scene.roots, scene.witness(0, 0)) == scene.expected(0, 0)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 1023, 1024])
def test_extremes_of_both_signs_sum_exactly_at_every_length(referee: Contract, length: int) -> None:
    """Each pair by itself, and all pairs alike: no product may disturb another that is added in the same multiplication."""
    rng = np.random.default_rng(length)
    for dtype in ("i8", "i16", "i32"):
        most = (1 << (8 * DTYPES[dtype].size - 1)) - 1
        extremes = np.array([-most - 1, -most, -1, 0, 1, most], f"<i{DTYPES[dtype].size}")
        programs = [
            program_around(Reduce, [(dtype, length)], [("i64", 1)], "sum", length),
            program_around(Dot, [(dtype, length), (dtype, length)], [("i64", 1)], 1, 1, length),
        ]
        for program in programs:
            pairs = [(x, y) for x in extremes for y in extremes if {x, y} <= {-most - 1, -1, most}]
            contents = [[rng.choice(extremes, length).tobytes() for _ in "xy"] for _ in range(3)]
            contents += [[np.full(length, value).tobytes() for value in pair] for pair in pairs]
            for operands in contents:
                given = iter(operands)
                data = [next(given) if ref.dtype == dtype else bytes(ref.nbytes) for ref in program.tensors]
                scene = Scene(program, len(program.nodes) - 2, data)
                assert ask(referee, scene.roots, scene.witness(0, 0)) == scene.expected(0, 0)


@pytest.mark.parametrize("seed", range(40))
def test_a_map_may_use_all_that_the_encoding_allows(referee: Contract, seed: int) -> None:
    """Eight dimensions, eight inputs, eight outputs, 128 instructions, and as many constants as there is room for."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.permutation([1, 1, 2, 2, 3, 1, 2, 4]))
    inputs = [(str(rng.choice(sorted(EVERY))), int(rng.integers(1, 300))) for _ in range(8)]
    outputs = [(str(rng.choice(sorted(EVERY))), int(np.prod(shape))) for _ in range(8)]
    reads = tuple(Read(int(rng.integers(-5, 20)), tuple(int(s) for s in rng.integers(-9, 40, 8))) for _ in inputs)
    like = random_scalar(rng, 8 + 60, 8, 8, MAX_INSTRUCTIONS)  # 60 of its reads become constants
    constants = (*hostile(rng, "i64", 60).tolist(), *like.constants)
    scalar = ScalarProgram(8, 8, constants, like.ops, like.results)
    program = program_around(Map, inputs, outputs, shape, reads, scalar)
    compare(referee, Scene.of(program, {}, rng), seed)


def test_an_address_may_come_near_the_limits(referee: Contract) -> None:
    """Strides and offsets of 2^61 cancel, or lead far outside: both have a meaning."""
    rng = np.random.default_rng(0)
    far = 1 << 60
    for base, strides in [(0, (far, -far)), (far, (-far, 0)), (-far, (far, 0)), (far, (far, far)), (5, (0, 0))]:
        scalar = random_scalar(rng, 1, 2, 1, 3)
        program = program_around(Map, [("f32", 100)], [("i64", 4)], (2, 2), (Read(base, strides),), scalar)
        compare(referee, Scene.of(program, {}, rng), 0)
