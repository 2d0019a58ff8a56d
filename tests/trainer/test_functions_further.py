"""Further elementary functions: errors in ulp against binary64, limits, special values; powers, remainders and rounding exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.support.lowering import Workbench
from tests.trainer.test_functions import Array, run, samples, ulps
from trainer.lowering import rounding
from trainer.lowering.assembly import assemble
from trainer.lowering.builder import Value
from trainer.lowering.circular import FURTHER, atan2
from trainer.lowering.expression import Affine, Expr, Load, Slot
from trainer.lowering.powers import power

NAN, INFINITY = float("nan"), float("inf")
NAMES = {"log2": "log2", "log10": "log10", "asin": "arcsin", "acos": "arccos", "atan": "arctan"}
NAMES |= {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}
LIMITS = {  # function: values at 0, -0, 1, -1, infinity, -infinity, NaN
    "exp2": [1, 1, 2, 0.5, INFINITY, 0, NAN],
    "log2": [-INFINITY, -INFINITY, 0, NAN, INFINITY, NAN, NAN],
    "log10": [-INFINITY, -INFINITY, 0, NAN, INFINITY, NAN, NAN],
    "tan": [0, -0.0, np.tan(1.0), -np.tan(1.0), NAN, NAN, NAN],
    "atan": [0, -0.0, np.pi / 4, -np.pi / 4, np.pi / 2, -np.pi / 2, NAN],
    "asin": [0, -0.0, np.pi / 2, -np.pi / 2, NAN, NAN, NAN],
    "acos": [np.pi / 2, np.pi / 2, 0, np.pi, NAN, NAN, NAN],
    "cosh": [1, 1, np.cosh(1.0), np.cosh(1.0), INFINITY, INFINITY, NAN],
    "sinh": [0, -0.0, np.sinh(1.0), -np.sinh(1.0), INFINITY, -INFINITY, NAN],
    "asinh": [0, -0.0, np.arcsinh(1.0), -np.arcsinh(1.0), INFINITY, -INFINITY, NAN],
    "acosh": [NAN, NAN, 0, NAN, INFINITY, NAN, NAN],
    "atanh": [0, -0.0, INFINITY, -INFINITY, NAN, NAN, NAN],
}
EDGES = np.array(
    [
        0.0,
        -0.0,
        1,
        -1,
        INFINITY,
        -INFINITY,
        NAN,
        2,
        -2,
        0.5,
        -0.5,
        3,
        -3,
        2.5,
        1e30,
        -1e30,
        1e-30,
        1e-45,
        16777217,
        8388607.5,
        3.4e38,
    ],
    np.float32,
)


def inputs(name: str) -> Array:
    x = samples(60_000, 0)
    near = np.random.default_rng(1).uniform(-1, 1, 40_000).astype(np.float32)
    return np.concatenate([x, near, 1 + np.abs(near) ** 3])


@pytest.mark.parametrize("name", FURTHER)
def test_the_error_is_below_the_figure_beside_the_function(name: str) -> None:
    x = inputs(name)
    with np.errstate(all="ignore"):
        exact, found = getattr(np, NAMES.get(name, name))(x.astype(np.float64)), run(FURTHER[name].expression, x)
        assert np.array_equal(np.isnan(exact), np.isnan(found))
        known = ~np.isnan(exact)
        assert float(ulps(found[known], exact[known]).max()) <= FURTHER[name].ulp


@pytest.mark.parametrize("name", FURTHER)
def test_limits(name: str) -> None:
    with np.errstate(all="ignore"):
        found = run(FURTHER[name].expression, np.array([0.0, -0.0, 1, -1, INFINITY, -INFINITY, NAN], np.float32))
    expected = np.array(LIMITS[name], np.float32)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    known = ~np.isnan(expected)
    assert np.array_equal(np.signbit(found[known]), np.signbit(expected[known]))
    assert np.allclose(found[known], expected[known], rtol=3e-7, atol=0)


@pytest.mark.parametrize("name", FURTHER)
def test_every_function_fits_one_map(name: str) -> None:
    assert assemble([FURTHER[name].expression(Load(Slot("f32", 1), Affine(0, ())))], ()).fits


def test_powers_of_two_have_whole_logarithms() -> None:
    n = np.arange(-149, 128)
    assert np.array_equal(run(FURTHER["log2"].expression, np.ldexp(np.float32(1), n)), n)


# Functions of two floats


def of_two(function: Callable[[Expr, Expr], Expr], x: Array, y: Array) -> Array:
    bench = Workbench()
    a, b = bench.tensor(x), bench.tensor(y)
    with np.errstate(all="ignore"):
        return bench.run(Value(x.shape, "f32", function(a.expr, b.expr)))[0]


def pairs(seed: int) -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 2**32, (2, 40_000), dtype=np.uint64).astype(np.uint32).view(np.float32)
    ordinary = (rng.normal(size=(2, 40_000)) * [[30], [1]]).astype(np.float32)
    edges = np.stack([a.ravel() for a in np.meshgrid(EDGES, EDGES)])
    return [(patterns[0], patterns[1]), (ordinary[0], ordinary[1]), (edges[0].copy(), edges[1].copy())]


def same(found: Array, exact: Array) -> bool:
    """Equal, zeros with their signs, any NaN for a NaN."""
    known = ~np.isnan(exact)
    return np.array_equal(np.isnan(found), ~known) and np.array_equal(found[known].view(np.int32), exact[known].view(np.int32))


def test_powers() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.lognormal(0, scale, 60_000) for scale in (0.1, 1, 20)] + [-rng.lognormal(0, 1, 60_000)])
    y = np.concatenate(
        [rng.normal(0, 100, 60_000), rng.normal(0, 3, 60_000), rng.normal(0, 0.5, 60_000), rng.integers(-9, 9, 60_000)]
    )
    x, y = x.astype(np.float32), y.astype(np.float32)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
        assert float(ulps(of_two(power, x, y), exact).max()) <= 1.5


def test_special_values_of_powers() -> None:
    x, y = pairs(0)[2]
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    found = of_two(power, x, y)
    near = np.isclose(found, exact, rtol=3e-7, atol=0) & (np.signbit(found) == np.signbit(exact))
    assert np.array_equal(np.isnan(found), np.isnan(exact))
    assert (near | np.isnan(exact)).all()


def test_angles() -> None:
    for y, x in pairs(3):
        with np.errstate(all="ignore"):
            exact = np.arctan2(y.astype(np.float64), x.astype(np.float64))
        found = of_two(atan2, y, x)
        known = ~np.isnan(exact)
        assert np.array_equal(np.isnan(found), ~known)
        normal = np.abs(exact[known]) > 2.0**-120  # the quotient of subnormals has lost digits
        assert float(ulps(found[known][normal], exact[known][normal]).max()) <= 3


def test_remainders_are_exact() -> None:
    for x, y in pairs(1):
        with np.errstate(all="ignore"):
            assert same(of_two(rounding.fmod, x, y), np.fmod(x, y))
            quotient = torch.div(torch.from_numpy(x), torch.from_numpy(y), rounding_mode="floor").numpy()
            found = of_two(rounding.floor_quotient, x, y)
            assert ((found == quotient) | (np.isnan(found) & np.isnan(quotient))).all()
            finite = np.isfinite(x) & np.isfinite(y) & (y != 0)
            rest = of_two(rounding.remainder, x[finite], y[finite])
            exact = np.fmod(x[finite], y[finite])
            exact = np.where((exact != 0) & (np.signbit(exact) != np.signbit(y[finite])), exact + y[finite], exact)
            assert (rest == exact).all()


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "rint"])
def test_rounding_is_exact(name: str) -> None:
    form = {"floor": rounding.floor, "ceil": rounding.ceil, "trunc": rounding.trunc, "rint": rounding.nearest}[name]
    x = np.concatenate([samples(60_000, 2), EDGES, np.arange(-4, 4.25, 0.25, np.float32)])
    with np.errstate(all="ignore"):
        assert same(run(form, x), getattr(np, name)(x))
