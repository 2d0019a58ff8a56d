"""Plans for several workers: every way of splitting a node has the reference's bits, and whole plans have every tensor's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from bisection import reference
from bisection.boundary import Array, next_state
from bisection.errors import UsageError
from bisection.nodes import DTYPES, Condition, Dot, Gather, Input, Map, Node, Output, Read, Reduce, Ref, ScatterAdd
from bisection.program import Program, TensorSpec
from bisection.scalar import BY_NAME, Op, ScalarProgram
from tests.support.jobs import JOBS
from tests.support.programs import Builder, counting_program, hostile, random_scalar
from tests.support.workers import assembled, places, simulate
from trainer.parallel.mesh import Cuts, Held, Mesh, Option, Scribe
from trainer.parallel.plan import options, shard, work


def all_cuts(count: int, mesh: Mesh) -> list[Cuts]:
    """Every way to cut ``count`` elements along all axes of ``mesh``."""

    def nested(axes: tuple[int, ...], size: int) -> Iterator[dict[int, int]]:
        if not axes:
            yield {}
        for axis in axes:
            rest = tuple(other for other in axes if other != axis)
            for block in range(1, size // mesh.sizes[axis] + 1):
                if size % (mesh.sizes[axis] * block) == 0:
                    yield from ({axis: block, **inner} for inner in nested(rest, block))

    axes = tuple(range(len(mesh.sizes)))
    return [tuple(cuts[axis] for axis in axes) for cuts in nested(axes, count)]


class Bench:
    """One worker: what it writes is run at once."""

    def __init__(self, mesh: Mesh, rank: int, parts: Sequence[Array], refs: Sequence[Ref]) -> None:
        self.tensors = list(parts)
        self.inputs = tuple(Ref(i, ref.dtype, part.size) for i, (ref, part) in enumerate(zip(refs, parts, strict=True)))
        self.scribe = Scribe(mesh, rank, self.put)

    def put(self, kind: type[Node], inputs: tuple[Ref, ...], outputs: list[tuple[str, int]], *own: Any) -> tuple[Ref, ...]:
        refs = tuple(Ref(len(self.tensors) + i, dtype, count) for i, (dtype, count) in enumerate(outputs))
        node = kind(inputs, refs, *own)
        node.check()
        self.tensors += reference.run_node(node, [self.tensors[ref.tensor] for ref in inputs])
        return refs

    def run(self, option: Option) -> list[Array]:
        return [self.tensors[ref.tensor] for ref in option.write(self.scribe, self.inputs)]


def assert_exact(node: Node, inputs: Sequence[Array], option: Option, mesh: Mesh) -> None:
    """The workers' parts of the outputs, put together or combined, are the reference's outputs."""
    workers = []
    for rank in range(mesh.world):
        parts = [x[places(x.size, cuts, mesh, rank)] for x, cuts in zip(inputs, option.wants, strict=True)]
        workers.append(Bench(mesh, rank, parts, node.inputs).run(option))
    for number, whole in enumerate(reference.run_node(node, inputs)):
        parts = [outputs[number] for outputs in workers]
        if option.combine:
            bits = np.stack(parts).view(f"i{whole.itemsize}")
            found = (bits.sum(0, dtype=bits.dtype) if option.combine == "sum" else bits.max(0)).view(whole.dtype)
        else:
            assert {part.size for part in parts} == {whole.size // mesh.world}
            found = assembled(parts, option.gives, mesh)
        assert found.tobytes() == whole.tobytes(), (node, option.wants)


def exact_options(rng: np.random.Generator, node: Node, mesh: Mesh, most: int = 12) -> int:
    """Check the options of ``node`` for random ways to hold its inputs; how many there were."""
    inputs = [hostile(rng, ref.dtype, ref.count) for ref in node.inputs]
    for number, ref in enumerate(node.inputs):
        if isinstance(node, Gather | ScatterAdd) and number == 1 and ref.dtype != "i8":
            inputs[1] = rng.integers(-2, 14, ref.count).astype(inputs[1].dtype)
    ways: list[list[Held]] = [[None, *all_cuts(ref.count, mesh)] for ref in node.inputs]
    seen = 0
    for _ in range(most):
        held = [own[int(rng.integers(len(own)))] for own in ways]
        for option in options(node, held, mesh):
            assert all(want in (None, cuts) for want, cuts in zip(option.wants, held, strict=True))
            assert_exact(node, inputs, option, mesh)
            seen += 1
    return seen


def dense_map(rng: np.random.Generator) -> Map:
    """A map as lowering makes them: reads that permute, slice, broadcast, pad, join and take windows of dense tensors."""
    shape = tuple(int(n) for n in rng.choice([1, 2, 3, 4, 4, 6, 8], int(rng.integers(1, 5))))
    refs, reads = [], []
    for number in range(int(rng.integers(1, 4))):
        base, count, strides, conditions = 0, 1, [0] * len(shape), []
        for d in rng.permutation(len(shape)):
            style = rng.random()
            if style < 0.2:
                continue  # broadcast
            if style < 0.35 and count > 1:
                strides[d] = 1  # a window over what the last dimension runs along
                continue
            low, size = (0, shape[d]) if style < 0.75 else (int(rng.integers(-2, 3)), shape[d] + int(rng.integers(-1, 3)))
            size = max(size, 1)
            strides[d] = count
            base += low * count
            if low < 0 or low + shape[d] > size:
                conditions.append(Condition(low, size, tuple(int(j == d) for j in range(len(shape)))))
            count *= size
        refs.append(Ref(number, str(rng.choice(list(DTYPES))), count))
        reads.append(Read(base, tuple(strides), tuple(conditions)))
    results = int(rng.integers(1, 3))
    scalar = random_scalar(rng, len(reads), len(shape), results, int(rng.integers(0, 12)))
    outputs = tuple(Ref(len(refs) + i, str(rng.choice(list(DTYPES))), int(np.prod(shape))) for i in range(results))
    return Map(tuple(refs), outputs, shape, tuple(reads), scalar)


def random_reduction(rng: np.random.Generator, kind: type[Node]) -> Node:
    def pick(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    run, rows, batch = pick(1, 2, 4, 6, 8, 12), pick(1, 2, 3, 4, 8), pick(1, 2, 4)
    if kind is Reduce:
        op, dtype = pick("sum", "max"), pick("i32", "i64")
        return Reduce((Ref(0, dtype, run * rows),), (Ref(1, "i64" if op == "sum" else dtype, rows),), op, run)
    if kind is Dot:
        m, n = rows, pick(1, 2, 3, 4)
        dtypes = [pick("i8", "i16", "i32") for _ in range(2)]
        inputs = Ref(0, dtypes[0], batch * m * run), Ref(1, dtypes[1], batch * n * run)
        return Dot(inputs, (Ref(2, "i64", batch * m * n),), m, n, run)
    if kind is Gather:
        dtype = pick(*DTYPES)
        inputs = Ref(0, dtype, pick(4, 8, 12) * rows), Ref(1, pick("i8", "i64"), run)
        return Gather(inputs, (Ref(2, dtype, run * rows),), rows)
    bins = pick(1, 3, 8)
    inputs = Ref(0, pick("i32", "i64"), rows * run), Ref(1, pick("i8", "i64"), run)
    return ScatterAdd(inputs, (Ref(2, "i64", rows * bins),), run, bins)


@pytest.mark.parametrize("world", [2, 3, 4, 6])
def test_every_way_to_split_a_map_is_exact(world: int) -> None:
    rng, mesh = np.random.default_rng(world), Mesh.of(world)
    assert sum(exact_options(rng, dense_map(rng), mesh) for _ in range(250)) > 100


@pytest.mark.parametrize("world", [2, 3, 4, 6])
@pytest.mark.parametrize("kind", [Reduce, Dot, Gather, ScatterAdd])
def test_every_way_to_split_a_reduction_is_exact(world: int, kind: type[Node]) -> None:
    rng, mesh = np.random.default_rng(world), Mesh.of(world)
    assert sum(exact_options(rng, random_reduction(rng, kind), mesh) for _ in range(60)) > 50


# Whole plans


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("job", JOBS)
def test_a_whole_plan_has_every_tensor_of_the_reference_and_splits_the_work(job: str, world: int) -> None:
    captured = JOBS[job]()
    program, state = captured.program, captured.state
    plans = [shard(program, world, rank) for rank in range(world)]
    for _ in range(2):
        expected = reference.trace(program, state, captured.data)
        for number, (a, b) in enumerate(zip(expected, simulate(plans, program, state, captured.data), strict=True)):
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), program.nodes[program.producer[number]]
        state = next_state(program, expected)
    dots = sum(work(node) for node in program.nodes if isinstance(node, Dot))
    assert plans[0].work(Dot) <= dots * (1 / world + 0.1)
    assert plans[0].work() <= sum(map(work, program.nodes)) * (1 / world + 0.1)


def test_what_follows_from_a_key_is_made_in_parts() -> None:
    """Random numbers follow from a key that all workers have: only the parts that are used are made."""
    b = Builder()
    (step,) = b.add(Input, (), [("i64", 1)], "state", 0)
    (table,) = b.add(Input, (), [("i32", 40)], "data", 0)
    counted = ScalarProgram(1, 1, (), (Op(BY_NAME["add64"].code, 0, 1),), (2,))
    one, each = Read(0, (0,)), Read(0, (1,))
    (index,) = b.add(Map, (step,), [("i64", 8)], (8,), (one,), counted)
    (rows,) = b.add(Gather, (table, index), [("i32", 32)], 4)
    (draws,) = b.add(Map, (step,), [("i64", 32)], (32,), (one,), counted)
    product = ScalarProgram(2, 1, (), (Op(BY_NAME["mul64"].code, 0, 1),), (3,))
    (drawn,) = b.add(Map, (rows, draws), [("i64", 32)], (32,), (each, each), product)
    b.add(Reduce, (drawn,), [("i64", 8)], "sum", 4)
    b.add(Output, (step,), [], 0)
    program = Program(tuple(b.nodes), (TensorSpec("step", "i64", ()),), (TensorSpec("table", "i32", (40,)),))
    state, data = {"step": np.array(1, np.int64)}, {"table": np.arange(40, dtype=np.int32)}
    plans = [shard(program, 4, rank) for rank in range(4)]
    assert plans[0].held[draws.tensor][1] == Mesh.of(4).ranges(8)
    expected = reference.trace(program, state, data)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(expected, simulate(plans, program, state, data), strict=True))


def test_workers_plan_alike() -> None:
    """Ranks differ in constants and addresses alone: in every round the same kinds of nodes, tensors and exchanges."""
    program = JOBS["transformer"]().program
    plans = [shard(program, 4, rank) for rank in range(4)]
    for rounds in zip(*(plan.rounds for plan in plans), strict=True):
        assert len({tuple((type(node), node.inputs, node.outputs) for node in work.nodes) for work in rounds}) == 1
        assert len({(work.collects, work.combines) for work in rounds}) == 1
    assert len({plan.held for plan in plans}) == 1
    assert shard(program, 4, 3) == plans[3]


def test_short_integers_are_sent_as_32_bits() -> None:
    """The dots of a job at 8 bits are i64 in the program, and half as wide on the wire."""
    rounds = shard(JOBS["transformer"]().program, 2, 0).rounds
    dots = {node.outputs[0].tensor for work in rounds for node in work.nodes if isinstance(node, Dot)}
    sums = [combine for work in rounds for combine in work.combines if combine.source.tensor in dots]
    assert sums and {(combine.source.dtype, combine.wire) for combine in sums} == {("i64", "i32")}


def test_a_batch_that_does_not_divide_is_refused() -> None:
    program = JOBS["mlp"](30).program
    with pytest.raises(UsageError, match="30 examples cannot be cut into 4 equal parts"):
        shard(program, 4, 0)
    assert shard(program, 3, 0).work(Dot) > 0


def test_a_program_without_a_batch_is_refused() -> None:
    program, _, _ = counting_program()
    with pytest.raises(UsageError, match="no batch"):
        shard(program, 2, 0)


def test_a_worker_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="no worker 2 of 2"):
        shard(counting_program()[0], 2, 2)


@pytest.mark.parametrize("world", range(1, 13))
def test_a_mesh_gives_every_rank_a_place_and_a_range(world: int) -> None:
    mesh = Mesh.of(world)
    assert mesh.world == world
    assert sorted(mesh.coordinates(rank) for rank in range(world)) == [mesh.coordinates(rank) for rank in range(world)]
    parts = [places(5 * world, mesh.ranges(5), mesh, rank) for rank in range(world)]
    assert np.array_equal(np.concatenate(parts), np.arange(5 * world))
