"""Lowering: views are exact, expressions of any size are cut into maps without changing a bit, nodes are not computed twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisection.nodes import MAX_INPUTS, Map
from bisection.program import Program
from bisection.reference import run_scalar
from bisection.scalar import INSTRUCTIONS, MAX_INSTRUCTIONS
from tests.support.lowering import Workbench
from trainer.lowering.assembly import assemble
from trainer.lowering.builder import Value
from trainer.lowering.expression import Const, Expr, apply, leaves, real
from trainer.lowering.views import expand, narrow, pad, permute, position, reshape, unsqueeze


def maps(program: Program) -> list[Map]:
    return [node for node in program.nodes if isinstance(node, Map)]


# Views


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_chains_of_views_pick_the_elements_that_numpy_picks(data: st.DataObject) -> None:
    bench = Workbench()
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4), label="shape"))
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    value, expected = bench.tensor(array), array
    for _ in range(data.draw(st.integers(1, 5), label="views")):
        rank = expected.ndim
        kind = data.draw(st.sampled_from(["permute", "narrow", "expand", "unsqueeze", "reshape"]), label="kind")
        if kind == "permute":
            dims = data.draw(st.permutations(range(rank)))
            value, expected = permute(value, dims), expected.transpose(dims)
        elif kind == "narrow":
            d = data.draw(st.integers(0, rank - 1))
            start = data.draw(st.integers(0, expected.shape[d] - 1))
            step = data.draw(st.sampled_from([1, 2, -1]))
            picked = np.arange(start, -1, -1) if step < 0 else np.arange(start, expected.shape[d], step)
            value, expected = narrow(value, d, start, len(picked), step), expected.take(picked, axis=d)
        elif kind == "expand":
            wider = (2, *(3 if size == 1 else size for size in expected.shape))
            if np.prod(wider) < 2000:
                value, expected = expand(bench.builder, value, wider), np.broadcast_to(expected, wider)
        elif kind == "unsqueeze":
            d = data.draw(st.integers(0, rank))
            value, expected = unsqueeze(value, d), np.expand_dims(expected, d)
        else:
            sizes = data.draw(st.permutations(expected.shape))
            joined = (*sizes[2:], int(np.prod(sizes[:2])))
            value, expected = reshape(bench.builder, value, joined), expected.reshape(joined)
    plus_one = Value(value.shape, "i32", apply("add32", value.expr, 1))
    (found,) = bench.run(plus_one)
    assert np.array_equal(found, expected + 1)


def test_a_view_of_arithmetic_is_fused_with_it() -> None:
    bench = Workbench()
    x = bench.tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    doubled = Value(x.shape, "f32", apply("fadd", x.expr, x.expr))
    program = bench.compile(reshape(bench.builder, permute(doubled, [1, 0]), (3, 2)))
    assert len(maps(program)) == 1


def test_a_reshape_that_is_not_affine_stores_first() -> None:
    bench = Workbench()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    (found,) = bench.run(reshape(bench.builder, permute(bench.tensor(array), [1, 0]), (6,)))
    assert np.array_equal(found, array.T.reshape(6))


def test_expanding_something_costly_computes_it_once() -> None:
    bench = Workbench()
    expr = bench.tensor(np.ones(3, np.float32)).expr
    for _ in range(5):
        expr = apply("fsqrt", expr)
    program = bench.compile(expand(bench.builder, Value((3,), "f32", expr), (50, 3)))
    assert [node.iteration for node in maps(program)] == [(3,), (50, 3)]


@pytest.mark.parametrize("fill", [0, 7])
def test_padding_gives_the_fill_outside(fill: int) -> None:
    bench = Workbench()
    x = bench.tensor(np.array([1, 2, 3], np.int32))
    maps_ = [position((7,), 0).expr.value]
    shifted = [type(maps_[0])(-2, (1,))]
    plus = Value(x.shape, "i32", apply("add32", x.expr, 10))
    (found,) = bench.run(pad(plus, (7,), shifted, [(shifted[0], 3)], fill))
    assert found.tolist() == [fill, fill, 11, 12, 13, fill, fill]


# Cutting


def random_expression(rng: np.random.Generator, loads: list[Expr], size: int) -> Expr:
    nodes: list[Expr] = [*loads, Const(int(rng.integers(-(2**40), 2**40))), real(float(rng.normal()))]
    for _ in range(size):
        row = INSTRUCTIONS[rng.integers(len(INSTRUCTIONS))]
        recent = nodes[-12:] if rng.random() < 0.8 else nodes
        nodes.append(apply(row.name, *(recent[rng.integers(len(recent))] for _ in row.operands)))
    total = nodes[-1]
    for node in nodes[-6:-1] + loads:
        total = apply("xor64", total, node)
    return total


@pytest.mark.parametrize("seed", range(12))
def test_expressions_of_any_size_are_cut_without_changing_a_bit(seed: int) -> None:
    """Against the whole expression as one scalar program, which no node could hold."""
    rng = np.random.default_rng(seed)
    bench = Workbench()
    count = int(rng.integers(2, 20))
    arrays = [rng.integers(-(2**63), 2**63, 5) for _ in range(count)]
    values = [bench.tensor(array) for array in arrays]
    whole = random_expression(rng, [value.expr for value in values], int(rng.integers(100, 500)))
    (found,) = bench.run(Value((5,), "i64", whole))
    slots = [leaves(value.expr)[0].slot for value in values]
    assembly = assemble([whole], (5,))
    with np.errstate(all="ignore"):
        (expected,) = run_scalar(assembly.scalar, [arrays[slots.index(slot)] for slot in assembly.slots], [np.arange(5)])
    assert np.array_equal(found, expected)
    assert bench.program is not None
    for node in maps(bench.program):
        assert len(node.inputs) <= MAX_INPUTS and len(node.scalar.ops) <= MAX_INSTRUCTIONS


def test_many_reads_become_few_maps() -> None:
    bench = Workbench()
    total: Expr = Const(0)
    for i in range(40):
        total = apply("add64", total, bench.tensor(np.full(3, i)).expr)
    (found,) = bench.run(Value((3,), "i64", total))
    assert found.tolist() == [780] * 3
    assert bench.program is not None and len(maps(bench.program)) <= 7


# Sharing


def test_the_same_value_is_computed_once() -> None:
    bench = Workbench()
    x = bench.tensor(np.arange(4, dtype=np.float32))
    twice = [bench.builder.materialise([Value((4,), "f32", apply("fmul", x.expr, real(3.0)))])[0] for _ in range(2)]
    bench.compile(*twice)
    assert bench.program is not None and len(maps(bench.program)) == 1


def test_a_map_gains_the_outputs_that_read_what_it_writes() -> None:
    bench = Workbench()
    x = bench.tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    (root,) = bench.builder.materialise([Value((2, 3), "f32", apply("fsqrt", x.expr))])
    bits = Value((6,), "i32", apply("and32", reshape(bench.builder, root, (6,)).expr, 0x7FFFFF))
    found = bench.run(root, bits)
    assert bench.program is not None
    (node,) = maps(bench.program)
    assert len(node.outputs) == 2
    assert np.array_equal(found[1], np.sqrt(np.arange(6, dtype=np.float32)).view(np.int32) & 0x7FFFFF)


def test_what_nothing_needs_is_left_out() -> None:
    bench = Workbench()
    x = bench.tensor(np.arange(4, dtype=np.float32))
    bench.builder.materialise([Value((4,), "f32", apply("fmul", x.expr, real(3.0)))])
    program = bench.compile(Value((4,), "f32", apply("fadd", x.expr, real(1.0))))
    assert len(maps(program)) == 1


def test_dimensions_that_reads_do_not_tell_apart_are_joined() -> None:
    bench = Workbench()
    x, y = bench.tensor(np.ones((2, 3, 4), np.float32)), bench.tensor(np.ones((1, 1, 4), np.float32))
    program = bench.compile(Value((2, 3, 4), "f32", apply("fadd", x.expr, expand(bench.builder, y, (2, 3, 4)).expr)))
    assert maps(program)[0].iteration == (6, 4)


def test_positions_survive_the_joining_of_dimensions() -> None:
    bench = Workbench()
    (found,) = bench.run(position((2, 3, 4), 1))
    assert np.array_equal(found, np.broadcast_to(np.arange(3)[:, None], (2, 3, 4)))
