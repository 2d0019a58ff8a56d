"""Elementary functions: error in ulp against binary64, limits, infinities, NaN, and room for the referee."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bisection.reference import run_scalar
from bisection.scalar import MAX_INSTRUCTIONS
from trainer.lowering.assembly import assemble
from trainer.lowering.expression import Affine, Load, Slot
from trainer.lowering.functions import FUNCTIONS, gelu_gradient, gelu_tanh_gradient

NAN, INFINITY = float("nan"), float("inf")
Array = np.ndarray


def in_binary64(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Array], Array]:
    return lambda x: function(torch.from_numpy(x.astype(np.float64))).numpy()


def distribution(x: torch.Tensor) -> torch.Tensor:
    """Φ(x), keeping the digits of small values."""
    return 0.5 * torch.special.erfc(-x * 0.5**0.5)


def tanh_argument(x: torch.Tensor) -> torch.Tensor:
    return (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)


EXACT: dict[str, Callable[[Array], Array]] = {
    "exp": in_binary64(torch.exp),
    "expm1": in_binary64(torch.expm1),
    "log": in_binary64(torch.log),
    "log1p": in_binary64(torch.log1p),
    "sigmoid": in_binary64(torch.sigmoid),
    "silu": in_binary64(lambda x: x * torch.sigmoid(x)),
    "tanh": in_binary64(torch.tanh),
    "erf": in_binary64(torch.erf),
    "gelu": in_binary64(lambda x: x * distribution(x)),
    "gelu_tanh": in_binary64(lambda x: x * torch.sigmoid(2 * tanh_argument(x))),
    "sin": lambda x: np.sin(x.astype(np.float64)),
    "cos": lambda x: np.cos(x.astype(np.float64)),
    "sqrt": lambda x: np.sqrt(x.astype(np.float64)),
    "rsqrt": lambda x: 1 / np.sqrt(x.astype(np.float64)),
    "reciprocal": lambda x: 1 / x.astype(np.float64),
}


def run(function: Callable, x: Array) -> Array:
    """``function`` of the floats ``x`` on the reference's instructions."""
    scalar = assemble([function(Load(Slot("f32", 1), Affine(0, ())))], ()).scalar
    (result,) = run_scalar(scalar, [np.asarray(x, np.float32).view(np.int32).astype(np.int64)], [])
    return result if result.dtype == np.float32 else result.astype(np.int32).view(np.float32)


def ulps(found: Array, exact: Array) -> Array:
    """|found - exact| in units of the last place of ``exact``; an overflow to infinity is exact from 2^128 - 2^103 on."""
    unit = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(exact), 2.0**-126))) - 23)
    overflow = np.isinf(found) & (np.abs(exact) >= 2.0**128 - 2.0**103) & (np.sign(found) == np.sign(exact))
    return np.where(overflow | (found == exact), 0, np.abs(found.astype(np.float64) - exact) / unit)


def samples(count: int, seed: int) -> Array:
    """Floats of every exponent and floats of ordinary size, signed zeros and subnormals among them."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ordinary = np.concatenate([rng.normal(size=count) * scale for scale in (0.3, 1, 3, 10, 40)]).astype(np.float32)
    edges = np.array([0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 1.0, -1.0], np.float32)
    return np.concatenate([patterns[np.isfinite(patterns)], ordinary, edges])


def worst(name: str, x: Array) -> float:
    """The largest error of a function over ``x``; NaN must come exactly where the exact function has no value."""
    with np.errstate(all="ignore"):
        exact, found = EXACT[name](x), run(FUNCTIONS[name].expression, x)
        assert np.array_equal(np.isnan(exact), np.isnan(found))
        known = ~np.isnan(exact)
        return float(ulps(found[known], exact[known]).max())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_error_is_below_the_figure_beside_the_function(name: str) -> None:
    assert worst(name, samples(60_000, 0)) <= FUNCTIONS[name].ulp


@pytest.mark.deep
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_error_is_below_the_figure_on_millions_of_values(name: str) -> None:
    assert max(worst(name, samples(1_000_000, seed)) for seed in range(1, 4)) <= FUNCTIONS[name].ulp


LIMITS = {  # function: values at 0, -0, infinity, -infinity, NaN
    "exp": [1, 1, INFINITY, 0, NAN],
    "expm1": [0, -0.0, INFINITY, -1, NAN],
    "log": [-INFINITY, -INFINITY, INFINITY, NAN, NAN],
    "log1p": [0, -0.0, INFINITY, NAN, NAN],
    "sigmoid": [0.5, 0.5, 1, 0, NAN],
    "silu": [0, -0.0, INFINITY, -0.0, NAN],
    "tanh": [0, -0.0, 1, -1, NAN],
    "erf": [0, -0.0, 1, -1, NAN],
    "gelu": [0, -0.0, INFINITY, -0.0, NAN],
    "gelu_tanh": [0, -0.0, INFINITY, -0.0, NAN],
    "sin": [0, -0.0, NAN, NAN, NAN],
    "cos": [1, 1, NAN, NAN, NAN],
    "sqrt": [0, -0.0, INFINITY, NAN, NAN],
    "rsqrt": [INFINITY, -INFINITY, 0, NAN, NAN],
    "reciprocal": [INFINITY, -INFINITY, 0, -0.0, NAN],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_limits(name: str) -> None:
    expected = np.array(LIMITS[name], np.float32)
    with np.errstate(all="ignore"):
        found = run(FUNCTIONS[name].expression, np.array([0.0, -0.0, INFINITY, -INFINITY, NAN], np.float32))
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    known = ~np.isnan(expected)
    assert np.array_equal(found[known].view(np.int32), expected[known].view(np.int32))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_fits_one_map(name: str) -> None:
    assembly = assemble([FUNCTIONS[name].expression(Load(Slot("f32", 1), Affine(0, ())))], ())
    assert assembly.fits and len(assembly.scalar.ops) <= MAX_INSTRUCTIONS


@pytest.mark.parametrize(("gradient", "approximate"), [(gelu_gradient, "none"), (gelu_tanh_gradient, "tanh")])
def test_gradients_of_gelu(gradient: Callable, approximate: str) -> None:
    """To 4e-7 of 1, the size of the gradient."""
    x = np.random.default_rng(0).normal(size=50_000).astype(np.float32) * 3
    leaf = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    torch.nn.functional.gelu(leaf, approximate=approximate).sum().backward()
    assert leaf.grad is not None
    assert float(np.abs(run(gradient, x) - leaf.grad.numpy()).max()) < 4e-7
