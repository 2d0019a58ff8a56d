"""Random operators: a counter-based generator inside the program, so that every draw can be computed again by itself.

Each random operator of each micro-batch of each step has a key of 64 bits: the finaliser of splitmix64 (``order.mix``), chained
over seed, step and the draw's number. Element i of the draw is mix(key ⊕ mix(key + i)): the finaliser as a keyed generator with the
position as its counter (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; counters as in
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), in two rounds, so that neither neighbouring counters nor
overlapping ranges of two keys show. Tests check it statistically (tests/trainer/test_randomness.py).

The values are not those of torch's generators; their distributions are.
"""

from __future__ import annotations

from math import pi
from typing import Any

from trainer.lowering import functions
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Affine, Const, Expr, Position, apply, real, strides_of
from trainer.lowering.order import mix, shuffled
from trainer.lowering.table import Context, lowers
from trainer.lowering.views import expand, position

__all__ = ["RANDOM", "keys"]

RANDOM = frozenset(
    f"aten.{name}"
    for name in (
        "bernoulli.Tensor",
        "bernoulli.p",
        "exponential.default",
        "normal.Tensor_Tensor",
        "normal.Tensor_float",
        "normal.float_Tensor",
        "normal.float_float",
        "normal_functional.default",
        "rand.default",
        "rand_like.default",
        "randint.low",
        "randint_like.default",
        "randint_like.low_dtype",
        "randn.default",
        "randn_like.default",
        "randperm.default",
        "uniform.default",
    )
)
"""The operators that draw random numbers, each of which needs a key."""

_DRAWS = 0x6A09E667F3BCC909  # the fraction of √2: separates the draws from the data order, which comes from the same seed


def keys(builder: Builder, step: Value, seed: int, draws: int) -> Value:
    """i64 [draws]: the key of every random operator of step ``step`` (an i64 scalar), micro-batch by micro-batch."""
    shape = (draws,)
    of_step = mix(apply("xor64", mix(apply("xor64", seed, _DRAWS)), expand(builder, step, shape).expr))
    return builder.materialise([Value(shape, "i64", mix(apply("add64", of_step, position(shape, 0).expr)))])[0]


def _word(ctx: Context) -> Expr:
    """64 random bits for every element of the result."""
    assert ctx.key is not None, f"{ctx.name} is missing in RANDOM"
    key = expand(ctx.builder, ctx.key, ctx.shape).expr
    return mix(apply("xor64", key, mix(apply("add64", key, Position(Affine(0, strides_of(ctx.shape)))))))


def _only_float32(ctx: Context) -> None:
    if ctx.dtype != "f32":
        ctx.refuse(f"draws of {ctx.dtype} have no lowering: draw float32 and convert")


def _uniform(word: Expr) -> Expr:
    """A float in 0 … 1 - 2^-24, as torch draws it: the upper 24 bits."""
    return apply("scaled", apply("ushr64", word, 40), -24)


def _positive(bits: Expr) -> Expr:
    """A float in 2^-33 … 1 from 32 bits: the middle of one of 2^32 intervals."""
    return apply("scaled", apply("add64", apply("shl64", bits, 1), 1), -33)


@lowers("aten.bernoulli.p")
def _bernoulli(ctx: Context, _: Value, p: float = 0.5) -> Value:
    """1 with probability p (to 2^-32), else 0: the mask of dropout."""
    hit = apply("lt64", apply("ushr64", _word(ctx), 32), round(p * (1 << 32)))
    return ctx.value(apply("select32", hit, real(1.0), real(0.0)) if ctx.dtype == "f32" else hit)


@lowers("aten.bernoulli.Tensor")
def _bernoulli_each(ctx: Context, _: Value, p: Value, **__: Any) -> Value:
    """1 with each element's own probability, else 0."""
    _only_float32(ctx)
    hit = apply("flt", _uniform(_word(ctx)), ctx.expand(p, "f32"))
    return ctx.value(apply("select32", hit, real(1.0), real(0.0)))


@lowers("aten.rand.default", "aten.rand_like.default")
def _rand(ctx: Context, *_: Any, **__: Any) -> Value:
    """Uniform in 0 … 1, 24 bits, 1 excluded."""
    _only_float32(ctx)
    return ctx.value(_uniform(_word(ctx)))


@lowers("aten.uniform.default")
def _uniform_between(ctx: Context, _: Value, low: float = 0.0, high: float = 1.0, **__: Any) -> Value:
    """Uniform between two numbers."""
    _only_float32(ctx)
    return ctx.value(apply("fadd", apply("fmul", _uniform(_word(ctx)), real(high - low)), real(low)))


def _normal(ctx: Context) -> Expr:
    """Standard normal by Box and Muller (1958): √(-2 ln u)·cos 2πv, u and v from the two halves of one word."""
    word = _word(ctx)
    u, v = apply("ushr64", word, 32), apply("and64", word, (1 << 32) - 1)
    radius = apply("fsqrt", apply("fmul", real(-2.0), functions.log(_positive(u))))
    return apply("fmul", radius, functions.cos(apply("fmul", apply("scaled", v, -32), real(2 * pi))))


@lowers("aten.randn.default", "aten.randn_like.default")
def _randn(ctx: Context, *_: Any, **__: Any) -> Value:
    """Standard normal; at most 6.8 in size."""
    _only_float32(ctx)
    return ctx.value(_normal(ctx))


def _normal_of(ctx: Context, mean: Any, std: Any) -> Value:
    _only_float32(ctx)
    return ctx.value(apply("fadd", apply("fmul", _normal(ctx), ctx.expand(std, "f32")), ctx.expand(mean, "f32")))


@lowers("aten.normal.float_float", "aten.normal.Tensor_float", "aten.normal.float_Tensor", "aten.normal.Tensor_Tensor")
def _normal_with(ctx: Context, mean: Any = 0.0, std: Any = 1.0, *_: Any, **__: Any) -> Value:
    """Normal of means and standard deviations."""
    return _normal_of(ctx, mean, std)


@lowers("aten.normal_functional.default")
def _normal_in_place(ctx: Context, _: Value, mean: float = 0.0, std: float = 1.0, **__: Any) -> Value:
    """Normal of a mean and a standard deviation."""
    return _normal_of(ctx, mean, std)


@lowers("aten.exponential.default")
def _exponential(ctx: Context, _: Value, rate: float = 1.0, **__: Any) -> Value:
    """Exponential of a rate: -ln u / rate."""
    _only_float32(ctx)
    low = functions.negative(functions.log(_positive(apply("ushr64", _word(ctx), 32))))
    return ctx.value(apply("fdiv", low, real(rate)))


@lowers("aten.randint.low", "aten.randint_like.low_dtype")
def _randint(ctx: Context, first: Any, *bounds: Any, **_: Any) -> Value:
    """Whole numbers from low to high - 1, for at most 2^31 of them."""
    low, high = (first, bounds[0]) if ctx.name == "aten.randint.low" else bounds[:2]
    return _between(ctx, low, high)


@lowers("aten.randint_like.default")
def _randint_like(ctx: Context, _: Value, high: int, **__: Any) -> Value:
    """Whole numbers from 0 to high - 1, for at most 2^31 of them."""
    return _between(ctx, 0, high)


def _between(ctx: Context, low: int, high: int) -> Value:
    if not 0 < high - low <= 1 << 31:
        ctx.refuse(f"whole numbers from {low} to {high} have no lowering: at most 2^31 different ones have")
    drawn = apply("add64", apply("ushr64", apply("mul64", apply("ushr64", _word(ctx), 32), high - low), 32), low)
    return ctx.value(apply("scaled", drawn, 0) if ctx.dtype == "f32" else drawn)


@lowers("aten.randperm.default")
def _randperm(ctx: Context, size: int, **_: Any) -> Value:
    """0 … size - 1 in random order: the shuffle of the data order (``order.shuffled``) under the draw's key."""
    assert ctx.key is not None
    key = expand(ctx.builder, ctx.key, ctx.shape).expr
    return ctx.value(shuffled(position(ctx.shape, 0).expr, Const(0), key, size))
