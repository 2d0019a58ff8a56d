"""Exact reductions: products, sums and maxima against numpy in binary64, of any length, with infinities and NaN that show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisection.errors import UsageError
from bisection.nodes import MAX_LENGTH, Dot, Reduce
from tests.support.lowering import Workbench
from trainer.lowering.builder import Value
from trainer.lowering.expression import apply
from trainer.lowering.reductions import amax, fixed_sum, integer_sum, matmul, merge_last, sum_

Array = np.ndarray


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def product(a: Array, b: Array, operand_bits: int = 15) -> Array:
    bench = Workbench()
    (found,) = bench.run(matmul(bench.builder, bench.tensor(a), bench.tensor(b), operand_bits))
    assert bench.program is not None
    assert all(node.k <= MAX_LENGTH for node in bench.program.nodes if isinstance(node, Dot))
    return found


def relative_error(found: Array, exact: Array) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - exact) / np.linalg.norm(exact))


def in_binary64(a: Array, b: Array) -> Array:
    return a.astype(np.float64) @ np.swapaxes(b.astype(np.float64), -1, -2)


# Products

ERRORS = [(4, 0.25), (8, 1.3e-2), (15, 1e-4), (20, 3.2e-6), (24, 2.5e-7)]


@pytest.mark.parametrize(("operand_bits", "bound"), ERRORS)
def test_products_have_the_error_of_their_operand_bits(operand_bits: int, bound: float) -> None:
    a, b = normal(17, 300), normal(23, 300, seed=1)
    assert relative_error(product(a, b, operand_bits), in_binary64(a, b)) < bound


@pytest.mark.parametrize("k", [1, 2, 1023, 1024, 1025, 2048, 4096, 5000, 9999])
def test_products_of_any_length(k: int) -> None:
    a, b = normal(3, k), normal(2, k, seed=1)
    assert relative_error(product(a, b), in_binary64(a, b)) < 3e-4


def test_batched_products() -> None:
    a, b = normal(2, 3, 5, 1100), normal(2, 3, 4, 1100, seed=1)
    assert relative_error(product(a, b), in_binary64(a, b)) < 3e-4


@given(st.integers(1, 24), st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_integers_that_fit_the_operand_bits_multiply_exactly(bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    limit = 2 ** min(bits, 10)
    a, b = (rng.integers(-limit + 1, limit, (3, 7)).astype(np.float32) for _ in range(2))
    exact = in_binary64(a, b)
    found = product(a, b, min(bits, 10) + 2)
    assert np.array_equal(found, exact.astype(np.float32))


def test_rows_of_very_different_size_keep_their_digits() -> None:
    """Each row has its own power of two."""
    scale = np.float32(10.0) ** np.arange(-30, 31, 10, dtype=np.float32)[:, None]
    a, b = normal(7, 64) * scale, normal(5, 64, seed=1)
    found, exact = product(a, b), in_binary64(a, b)
    assert max(relative_error(f, e) for f, e in zip(found, exact, strict=True)) < 1e-3


def test_zero_and_subnormal_rows() -> None:
    """Subnormal rows share one power of two, so they keep fewer digits."""
    a = np.zeros((3, 4), np.float32)
    a[1] = 1e-40
    a[2] = [1e-45, 0, -1e-45, 0]
    found = product(a, np.ones((2, 4), np.float32))
    assert np.array_equal(found[0], [0, 0])
    assert relative_error(found[1:2], np.full((1, 2), 4e-40)) < 5e-3
    assert np.array_equal(found[2], [0, 0])


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_gives_nan_and_spares_the_others(poison: float) -> None:
    a, b = normal(3, 8), normal(4, 8, seed=1)
    a[1, 5] = poison
    b[2, 3] = poison
    found = product(a, b)
    bad = np.isnan(found)
    assert bad[1].all() and bad[:, 2].all() and bad.sum() == 6


def test_a_product_that_overflows_is_infinite() -> None:
    a = np.full((1, 4), 3e38, np.float32)
    assert np.isposinf(product(a, a)).all()


def test_a_product_that_could_pass_2_to_the_63_is_refused() -> None:
    bench = Workbench()
    a = bench.tensor(np.zeros((1, 200_000), np.float32))
    with pytest.raises(UsageError, match="operand bits"):
        matmul(bench.builder, a, a, 24)


def test_operands_are_stored_in_the_smallest_type() -> None:
    for operand_bits, dtype in [(8, "i8"), (9, "i16"), (16, "i16"), (17, "i32")]:
        bench = Workbench()
        a = bench.tensor(normal(2, 3))
        program = bench.compile(matmul(bench.builder, a, a, operand_bits))
        (dot,) = (node for node in program.nodes if isinstance(node, Dot))
        assert [ref.dtype for ref in dot.inputs] == [dtype, dtype]


# Sums


def total(x: Array) -> Array:
    bench = Workbench()
    (found,) = bench.run(sum_(bench.builder, bench.tensor(x)))
    assert bench.program is not None
    assert all(node.length <= MAX_LENGTH for node in bench.program.nodes if isinstance(node, Reduce))
    return found


@pytest.mark.parametrize("length", [1, 2, 100, 1024, 1025, 3000, 70_001])
def test_sums_of_any_length_are_as_good_as_binary32_allows(length: int) -> None:
    x = normal(2, length)
    exact = x.astype(np.float64).sum(-1)
    assert (
        np.abs(total(x) - exact).max() <= np.spacing(np.abs(exact).astype(np.float32)).max() + 1e-8 * np.abs(x).max() * length**0.5
    )


def test_sums_do_not_depend_on_the_order() -> None:
    x = normal(1, 5000)
    shuffled = x[:, np.random.default_rng(3).permutation(5000)]
    assert np.array_equal(total(x), total(shuffled))


def test_a_sum_that_cancels_keeps_its_digits() -> None:
    assert total(np.array([[1e6, 1.0, -1e6]], np.float32)) == [1.0]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_sum_over_something_not_finite_is_nan(poison: float) -> None:
    x = normal(3, 1500)
    x[1, 1400] = poison
    assert np.isnan(total(x)).tolist() == [False, True, False]


def test_sums_over_any_dimensions() -> None:
    bench = Workbench()
    x = normal(3, 4, 5)
    (found,) = bench.run(sum_(bench.builder, merge_last(bench.builder, bench.tensor(x), [0, 2])))
    assert np.allclose(found, x.sum((0, 2), dtype=np.float64), rtol=1e-6)


def test_integer_sums_are_exact() -> None:
    bench = Workbench()
    x = np.random.default_rng(0).integers(-(2**60), 2**60, (2, 4000))
    (found,) = bench.run(integer_sum(bench.builder, bench.tensor(x)))
    assert np.array_equal(found, x.sum(-1))  # both wrap


def test_sums_of_values_up_to_one_need_no_maximum() -> None:
    bench = Workbench()
    x = np.random.default_rng(0).random((3, 2000)).astype(np.float32)
    (found,) = bench.run(fixed_sum(bench.builder, bench.tensor(x)))
    assert bench.program is not None
    assert not any(isinstance(node, Reduce) and node.op == "max" for node in bench.program.nodes)
    assert relative_error(found, x.astype(np.float64).sum(-1)) < 1e-7


# Maxima


@pytest.mark.parametrize("length", [1, 5, 1024, 1025, 4000])
def test_maxima_of_any_length(length: int) -> None:
    bench = Workbench()
    x = normal(4, length) - 10  # all negative: what fills the last chunk must not win
    (found,) = bench.run(amax(bench.builder, bench.tensor(x)))
    assert np.array_equal(found, x.max(-1))


def test_maxima_of_integers() -> None:
    for dtype in (np.int8, np.int32, np.int64):
        bench = Workbench()
        x = np.random.default_rng(0).integers(-100, -5, (3, 2000)).astype(dtype)
        (found,) = bench.run(amax(bench.builder, bench.tensor(x)))
        assert np.array_equal(found, x.max(-1))


def test_a_nan_is_the_maximum_and_zero_is_above_minus_zero() -> None:
    bench = Workbench()
    x = np.array([[1, -np.nan, np.inf], [-0.0, 0.0, -1.0], [-np.inf, -np.inf, -np.inf]], np.float32)
    (found,) = bench.run(amax(bench.builder, bench.tensor(x)))
    assert np.isnan(found[0]) and found[1].view(np.int32) == 0 and found[2] == -np.inf


def test_the_magnitudes_of_a_row_are_computed_once() -> None:
    """A product and a sum over the same rows share the map and the maximum."""
    bench = Workbench()
    x = bench.tensor(normal(4, 6))
    program = bench.compile(matmul(bench.builder, x, x, 15), sum_(bench.builder, x))
    assert sum(isinstance(node, Reduce) and node.op == "max" for node in program.nodes) == 1


def test_values_that_are_read_twice_are_stored_once() -> None:
    bench = Workbench()
    x = bench.tensor(normal(4, 6))
    expr = x.expr
    for _ in range(4):
        expr = apply("fsqrt", apply("fmul", expr, expr))
    program = bench.compile(matmul(bench.builder, Value(x.shape, "f32", expr), x, 15))
    roots = sum(op.code == 0x05 for node in program.nodes for op in getattr(getattr(node, "scalar", None), "ops", ()))
    assert roots == 4
