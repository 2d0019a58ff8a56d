"""Elementwise operators: every one becomes instructions inside a ``map``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.lowering import functions
from trainer.lowering.builder import Value
from trainer.lowering.circular import FURTHER, atan2
from trainer.lowering.expression import Const, Expr, apply, real
from trainer.lowering.powers import power
from trainer.lowering.table import Context, Lowering, constant, lowers, select

__all__: list[str] = []

WIDTH = {"i64": "64", "i32": "32", "bool": "32"}


def _integer(ctx: Context, name: str, dtype: str, *operands: Expr | int) -> Expr:
    if dtype not in WIDTH:
        ctx.refuse(f"arithmetic on {dtype} has no lowering: convert to float32, int32 or int64 first")
    return apply(name + WIDTH[dtype], *operands)


def _arithmetic(name: str, real_name: str, integer_name: str) -> Lowering:
    def lower(ctx: Context, a: Any, b: Any, alpha: float = 1) -> Value:
        dtype = ctx.dtype
        if dtype == "bool":
            return ctx.value(apply("or32" if integer_name == "add" else "and32", ctx.expand(a, dtype), ctx.expand(b, dtype)))
        x, y = ctx.expand(a, dtype), ctx.expand(b, dtype)
        if alpha != 1:
            y = apply("fmul", y, real(alpha)) if dtype == "f32" else _integer(ctx, "mul", dtype, y, int(alpha))
        return ctx.value(apply(real_name, x, y) if dtype == "f32" else _integer(ctx, integer_name, dtype, x, y))

    lower.__doc__ = f"{name}, float32 or integers; of truth values the sum is or, the product and."
    return lower


for _name, _real, _int, _overloads in [
    ("a + alpha·b", "fadd", "add", ("aten.add.Tensor", "aten.add.Scalar")),
    ("a - alpha·b", "fsub", "sub", ("aten.sub.Tensor", "aten.sub.Scalar")),
    ("a · b", "fmul", "mul", ("aten.mul.Tensor", "aten.mul.Scalar")),
]:
    lowers(*_overloads)(_arithmetic(_name, _real, _int))


@lowers("aten.div.Tensor", "aten.div.Scalar")
def _div(ctx: Context, a: Any, b: Any) -> Value:
    """a / b, correctly rounded; integers are converted first."""
    return ctx.value(apply("fdiv", ctx.expand(a, "f32"), ctx.expand(b, "f32")))


def _comparison(symbol: str, name: str, swap: bool, negate: bool) -> Lowering:
    def lower(ctx: Context, a: Any, b: Any) -> Value:
        dtype = ctx.common_type(a, b)
        x, y = ctx.expand(a, dtype), ctx.expand(b, dtype)
        if swap:
            x, y = y, x
        held = apply("f" + name, x, y) if dtype == "f32" else apply(name + "64", x, y)
        return ctx.value(apply("xor32", held, 1) if negate else held)

    lower.__doc__ = f"a {symbol} b, to bool."
    return lower


for _symbol, _overload, _base, _swap, _negate in [
    ("=", "eq", "eq", False, False),
    ("≠", "ne", "eq", False, True),
    ("<", "lt", "lt", False, False),
    ("≤", "le", "le", False, False),
    (">", "gt", "lt", True, False),
    ("≥", "ge", "le", True, False),
]:
    lowers(f"aten.{_overload}.Tensor", f"aten.{_overload}.Scalar")(_comparison(_symbol, _base, _swap, _negate))


def _logical(symbol: str, name: str) -> Lowering:
    def lower(ctx: Context, a: Any, b: Any) -> Value:
        return ctx.value(apply(name, ctx.expand(a, "bool"), ctx.expand(b, "bool")))

    lower.__doc__ = f"a {symbol} b of truth values."
    return lower


for _overload, _base in [("and", "and32"), ("or", "or32"), ("xor", "xor32")]:
    lowers(f"aten.logical_{_overload}.default")(_logical(_overload, _base))


def _bitwise(symbol: str, name: str) -> Lowering:
    def lower(ctx: Context, a: Any, b: Any) -> Value:
        return ctx.value(apply(name + "64", ctx.expand(a, ctx.dtype), ctx.expand(b, ctx.dtype)))

    lower.__doc__ = f"a {symbol} b, bit by bit."
    return lower


for _name in ("and", "or", "xor"):
    lowers(f"aten.bitwise_{_name}.Tensor", f"aten.bitwise_{_name}.Scalar")(_bitwise(_name, _name))


@lowers("aten.logical_not.default")
def _logical_not(ctx: Context, a: Value) -> Value:
    """not a, to bool."""
    return ctx.value(apply("xor32", ctx.expand(a, "bool"), 1))


@lowers("aten.bitwise_not.default")
def _bitwise_not(ctx: Context, a: Value) -> Value:
    """Every bit of a flipped (bool: not a)."""
    return ctx.value(apply("xor64", ctx.expand(a, a.dtype), {"bool": 1, "u8": 255}.get(a.dtype, -1)))


@lowers("aten.where.self")
def _where(ctx: Context, condition: Value, a: Any, b: Any) -> Value:
    """a where the condition holds, else b."""
    return ctx.value(select(ctx.dtype, ctx.expand(condition, "bool"), ctx.expand(a, ctx.dtype), ctx.expand(b, ctx.dtype)))


@lowers("aten.neg.default")
def _neg(ctx: Context, a: Value) -> Value:
    """-a."""
    x = ctx.expand(a, ctx.dtype)
    return ctx.value(functions.negative(x) if ctx.dtype == "f32" else _integer(ctx, "sub", ctx.dtype, 0, x))


@lowers("aten.abs.default")
def _abs(ctx: Context, a: Value) -> Value:
    """|a|."""
    x = ctx.expand(a, ctx.dtype)
    if ctx.dtype == "f32":
        return ctx.value(functions.magnitude(x))
    negative = apply("lt64", x, 0)
    width = WIDTH.get(ctx.dtype, "32")
    return ctx.value(apply("select" + width, negative, _integer(ctx, "sub", ctx.dtype, 0, x), x))


@lowers("aten.sign.default")
def _sign(ctx: Context, a: Value) -> Value:
    """-1, 0 or 1; 0 for NaN."""
    x = ctx.expand(a, ctx.dtype)
    if ctx.dtype != "f32":
        return ctx.value(apply("sub64", apply("lt64", 0, x), apply("lt64", x, 0)))
    return ctx.value(apply("scaled", apply("sub32", apply("flt", real(0.0), x), apply("flt", x, real(0.0))), 0))


@lowers("aten.relu.default")
def _relu(ctx: Context, a: Value) -> Value:
    """max(a, 0); NaN stays NaN."""
    x = ctx.expand(a, ctx.dtype)
    negative = apply("flt", x, real(0.0)) if ctx.dtype == "f32" else apply("lt64", x, 0)
    return ctx.value(select(ctx.dtype, negative, Const(0), x))


@lowers("aten.leaky_relu.default")
def _leaky_relu(ctx: Context, a: Value, negative_slope: float = 0.01) -> Value:
    """a where a > 0, else negative_slope·a."""
    x = ctx.expand(a, "f32")
    return ctx.value(apply("select32", apply("flt", real(0.0), x), x, apply("fmul", x, real(negative_slope))))


@lowers("aten.elu.default")
def _elu(ctx: Context, a: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Value:
    """scale·a where a > 0, else scale·alpha·(e^(input_scale·a) - 1)."""
    x = ctx.expand(a, "f32")
    low = apply("fmul", functions.expm1(apply("fmul", x, real(input_scale))), real(scale * alpha))
    return ctx.value(apply("select32", apply("flt", real(0.0), x), apply("fmul", x, real(scale)), low))


def _extreme(ctx: Context, a: Any, b: Any, larger: bool) -> Expr:
    dtype = ctx.dtype
    x, y = ctx.expand(a, dtype), ctx.expand(b, dtype)
    first, second = (y, x) if larger else (x, y)
    if dtype != "f32":
        return apply("select64", apply("lt64", first, second), x, y)
    # x unless y is strictly beyond it or is NaN; a NaN in x stays because every comparison with it is false.
    beyond = apply("or32", apply("flt", second, first), apply("xor32", apply("feq", y, y), 1))
    return apply("select32", beyond, y, x)


@lowers("aten.maximum.default")
def _maximum(ctx: Context, a: Any, b: Any) -> Value:
    """The larger of a and b; NaN if either is NaN."""
    return ctx.value(_extreme(ctx, a, b, True))


@lowers("aten.minimum.default")
def _minimum(ctx: Context, a: Any, b: Any) -> Value:
    """The smaller of a and b; NaN if either is NaN."""
    return ctx.value(_extreme(ctx, a, b, False))


@lowers("aten.clamp.default", "aten.clamp.Tensor", "aten.hardtanh.default")
def _clamp(ctx: Context, a: Value, low: Any = None, high: Any = None) -> Value:
    """a held between low and high; NaN stays NaN."""
    if ctx.name == "aten.hardtanh.default":
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    x = Value(ctx.shape, ctx.dtype, ctx.expand(a, ctx.dtype))
    if low is not None:
        x = ctx.value(_extreme(ctx, x, low, True))
    return x if high is None else ctx.value(_extreme(ctx, x, high, False))


@lowers("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def _pow(ctx: Context, a: Any, exponent: Any) -> Value:
    """a to the power b. Whole and half numbers of at most 8 in size, given as a number, by products, square root and division."""
    if not isinstance(exponent, Value) and 2 * exponent == int(2 * exponent) and abs(exponent) <= 8:
        return ctx.value(_small_power(ctx, ctx.expand(a, ctx.dtype), exponent))
    if ctx.dtype != "f32":
        ctx.refuse(f"{ctx.dtype} has no lowering here: convert to float32 first")
    return ctx.value(power(ctx.expand(a, "f32"), ctx.expand(exponent, "f32")))


def _small_power(ctx: Context, x: Expr, exponent: float) -> Expr:
    floats = ctx.dtype == "f32"
    if not floats and (exponent < 0 or exponent != int(exponent)):
        ctx.refuse(f"the exponent {exponent} on {ctx.dtype} has no lowering: convert to float32 first")
    result: Expr | None = apply("fsqrt", x) if int(2 * exponent) % 2 else None
    factor, left = x, int(abs(exponent))
    while left:
        if left % 2:
            result = factor if result is None else _times(ctx, result, factor)
        factor, left = _times(ctx, factor, factor), left // 2
    result = constant(1, ctx.dtype) if result is None else result
    return apply("fdiv", real(1.0), result) if exponent < 0 else result


def _times(ctx: Context, a: Expr, b: Expr) -> Expr:
    return apply("fmul", a, b) if ctx.dtype == "f32" else _integer(ctx, "mul", ctx.dtype, a, b)


def _function(function: Callable[[Expr], Expr]) -> Lowering:
    def lower(ctx: Context, a: Value) -> Value:
        return ctx.value(function(ctx.expand(a, "f32")))

    lower.__doc__ = function.__doc__
    return lower


for _entry in [*functions.FUNCTIONS.values(), *FURTHER.values()]:
    if _entry.operator is not None:
        lowers(_entry.operator)(_function(_entry.expression))


@lowers("aten.atan2.default")
def _atan2(ctx: Context, a: Any, b: Any) -> Value:
    """The angle of the point (b, a)."""
    return ctx.value(atan2(ctx.expand(a, "f32"), ctx.expand(b, "f32")))


@lowers("aten.gelu.default")
def _gelu(ctx: Context, a: Value, *, approximate: str = "none") -> Value:
    """a·Φ(a), exactly or by the tanh formula."""
    x = ctx.expand(a, "f32")
    return ctx.value(functions.gelu(x) if approximate == "none" else functions.gelu_tanh(x))


@lowers("aten.gelu_backward.default")
def _gelu_backward(ctx: Context, gradient: Value, a: Value, *, approximate: str = "none") -> Value:
    """The gradient of gelu, exact or of the tanh formula."""
    x = ctx.expand(a, "f32")
    slope = functions.gelu_gradient(x) if approximate == "none" else functions.gelu_tanh_gradient(x)
    return ctx.value(apply("fmul", ctx.expand(gradient, "f32"), slope))


@lowers("aten.hardshrink_backward.default", "aten.softshrink_backward.default")
def _shrink_backward(ctx: Context, gradient: Value, a: Value, bound: float) -> Value:
    """The gradient of hardshrink and softshrink: 0 where |a| ≤ bound."""
    small = apply("fle", functions.magnitude(ctx.expand(a, "f32")), real(bound))
    return ctx.value(apply("select32", small, 0, ctx.expand(gradient, "f32")))


@lowers("aten._to_copy.default")
def _to_copy(ctx: Context, a: Value, **_: Any) -> Value:
    """a in another element type; floats to integers towards zero."""
    return ctx.value(ctx.expand(a, ctx.dtype))


@lowers("aten.copy.default")
def _copy(ctx: Context, a: Value, b: Value, *_: Any) -> Value:
    """b in the shape and element type of a."""
    return ctx.value(ctx.expand(b, ctx.dtype))


@lowers("aten.alias.default", "aten.clone.default")
def _same(ctx: Context, a: Value, **_: Any) -> Value:
    """a itself."""
    return a


@lowers("aten.full.default", "aten.full_like.default")
def _full(ctx: Context, _: Any, number: float, **__: Any) -> Value:
    """One number everywhere."""
    return ctx.value(constant(number, ctx.dtype))


@lowers("aten.scalar_tensor.default")
def _scalar_tensor(ctx: Context, number: float, **_: Any) -> Value:
    """A number as a tensor."""
    return ctx.value(constant(number, ctx.dtype))


@lowers("aten.empty.memory_format", "aten.empty_permuted.default", "aten.new_empty_strided.default")
def _empty(ctx: Context, *_: Any, **__: Any) -> Value:
    """A tensor that is yet to be filled: zeros."""
    return ctx.value(constant(0, ctx.dtype))
