"""Rounding, remainders and classification: elementwise operators that pick whole numbers or take a float apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bisection.numbers import INFINITY, NAN
from trainer.lowering.builder import Value
from trainer.lowering.expression import Expr, apply, real
from trainer.lowering.functions import magnitude
from trainer.lowering.table import Context, Lowering, lowers

__all__ = ["ceil", "floor", "floor_quotient", "fmod", "nearest", "remainder", "trunc"]

SIGN = -(1 << 31)
_WHOLE = 0x4B000000  # 2^23: from here on every float is a whole number
_SHIFT = 38  # a remainder below 2^24 can be shifted by this much within a long


def _whole(form: Callable[[Expr], Expr]) -> Callable[[Expr], Expr]:
    """``form``, right below 2^23, for every float: the sign stays, and what is large, infinite or NaN."""

    def rounded(x: Expr) -> Expr:
        result = apply("or32", form(x), apply("and32", x, SIGN))
        return apply("select32", apply("lt32", magnitude(x), _WHOLE), result, x)

    return rounded


def _near(x: Expr) -> Expr:
    return apply("scaled", apply("round", x), 0)


def _down(x: Expr) -> Expr:
    near = _near(x)
    return apply("fsub", near, apply("scaled", apply("flt", x, near), 0))


def _up(x: Expr) -> Expr:
    near = _near(x)
    return apply("fadd", near, apply("scaled", apply("flt", near, x), 0))


floor, ceil, nearest = _whole(_down), _whole(_up), _whole(_near)
trunc = _whole(lambda x: _down(magnitude(x)))


def _rounding(form: Callable[[Expr], Expr], meaning: str) -> Lowering:
    def lower(ctx: Context, a: Value) -> Value:
        x = ctx.expand(a, ctx.dtype)
        return ctx.value(form(x) if ctx.dtype == "f32" else x)

    lower.__doc__ = meaning
    return lower


lowers("aten.floor.default")(_rounding(floor, "The largest whole number up to a."))
lowers("aten.ceil.default")(_rounding(ceil, "The smallest whole number from a on."))
lowers("aten.trunc.default")(_rounding(trunc, "a rounded towards zero."))
lowers("aten.round.default")(_rounding(nearest, "a rounded to the nearest whole number, ties to even."))


@lowers("aten.isnan.default")
def _isnan(ctx: Context, a: Value) -> Value:
    """Whether a is NaN."""
    x = ctx.expand(a, a.dtype)
    return ctx.value(apply("xor32", apply("feq", x, x), 1) if a.dtype == "f32" else apply("eq64", 0, 1))


@lowers("aten.isinf.default")
def _isinf(ctx: Context, a: Value) -> Value:
    """Whether a is an infinity."""
    x = ctx.expand(a, a.dtype)
    return ctx.value(apply("eq32", magnitude(x), INFINITY) if a.dtype == "f32" else apply("eq64", 0, 1))


# Remainders


def _parts(x: Expr) -> tuple[Expr, Expr]:
    """(m, e): |x| = m·2^(e - 150) with m below 2^24 and e at least 1."""
    exponent = apply("shr32", magnitude(x), 23)
    normal = apply("lt32", 0, exponent)
    m = apply("or32", apply("and32", x, 0x7FFFFF), apply("shl32", normal, 23))
    return m, apply("select32", normal, exponent, 1)


def fmod(a: Expr, b: Expr) -> Expr:
    """a - b·trunc(a / b), exactly: the significand of a, shifted by the difference of the exponents, modulo that of b."""
    (m, e), (n, f) = _parts(a), _parts(b)
    left = apply("sub32", e, f)
    smaller = apply("lt32", left, 0)
    left = apply("select32", smaller, 0, left)
    rest = apply("mod64", m, n)
    for _ in range(7):  # 7·38 is more than the exponents can differ
        step = apply("select32", apply("lt32", left, _SHIFT), left, _SHIFT)
        rest = apply("mod64", apply("shl64", rest, step), n)
        left = apply("sub32", left, step)
    size = apply("select32", smaller, magnitude(a), apply("scaled", rest, apply("sub32", f, 150)))
    signed = apply("or32", size, apply("and32", a, SIGN))
    defined = apply("and32", apply("lt32", magnitude(a), INFINITY), apply("lt32", 0, magnitude(b)))
    defined = apply("and32", defined, apply("le32", magnitude(b), INFINITY))
    return apply("select32", defined, signed, NAN)


def _shifts(rest: Expr, b: Expr) -> Expr:
    """Whether a remainder with the sign of the dividend is a divisor away from the one with the sign of b."""
    other = apply("lt32", apply("xor32", rest, b), 0)
    return apply("and32", other, apply("lt32", 0, magnitude(rest)))


def remainder(a: Expr, b: Expr) -> Expr:
    """a - b·⌊a / b⌋: fmod with the sign of b."""
    rest = fmod(a, b)
    return apply("select32", _shifts(rest, b), apply("fadd", rest, b), rest)


def floor_quotient(a: Expr, b: Expr) -> Expr:
    """⌊a / b⌋ as PyTorch and Python compute it: from the remainder, so that rounding a / b up to a whole number does no harm."""
    rest = fmod(a, b)
    quotient = apply("fdiv", apply("fsub", a, rest), b)
    quotient = apply("select32", _shifts(rest, b), apply("fsub", quotient, real(1.0)), quotient)
    down = floor(quotient)
    up = apply("flt", real(0.5), apply("fsub", quotient, down))
    near = apply("select32", up, apply("fadd", down, real(1.0)), down)
    return apply("select32", apply("feq", b, real(0.0)), apply("fdiv", a, b), near)


def _truncated_quotient(a: Expr, b: Expr) -> Expr:
    """Whole numbers divided, rounded towards zero; 0 by zero."""
    quotient = apply("div64", a, b)
    inexact = apply("xor32", apply("eq64", apply("mod64", a, b), 0), 1)
    return apply("add64", quotient, apply("and32", inexact, apply("lt64", apply("xor64", a, b), 0)))


def _operands(ctx: Context, a: Any, b: Any) -> tuple[Expr, Expr, bool]:
    if ctx.dtype not in ("f32", "i64", "i32"):
        ctx.refuse(f"arithmetic on {ctx.dtype} has no lowering: convert to float32, int32 or int64 first")
    return ctx.expand(a, ctx.dtype), ctx.expand(b, ctx.dtype), ctx.dtype == "f32"


@lowers("aten.remainder.Scalar", "aten.remainder.Tensor")
def _remainder(ctx: Context, a: Any, b: Any) -> Value:
    """a modulo b with the sign of b; integers modulo zero give 0."""
    x, y, floats = _operands(ctx, a, b)
    return ctx.value(remainder(x, y) if floats else apply("mod64", x, y))


@lowers("aten.fmod.Scalar", "aten.fmod.Tensor")
def _fmod_operator(ctx: Context, a: Any, b: Any) -> Value:
    """a modulo b with the sign of a; integers modulo zero give 0."""
    x, y, floats = _operands(ctx, a, b)
    if floats:
        return ctx.value(fmod(x, y))
    whole = apply("sub64", x, apply("mul64", y, _truncated_quotient(x, y)))
    return ctx.value(apply("select64", apply("eq64", y, 0), 0, whole))


@lowers("aten.div.Tensor_mode")
def _div_mode(ctx: Context, a: Any, b: Any, *, rounding_mode: str | None = None) -> Value:
    """a / b rounded down or towards zero; integers divided by zero give 0."""
    x, y, floats = _operands(ctx, a, b)
    if rounding_mode == "floor":
        return ctx.value(floor_quotient(x, y) if floats else apply("div64", x, y))
    if floats:
        quotient = apply("fdiv", x, y)
        return ctx.value(trunc(quotient) if rounding_mode == "trunc" else quotient)
    return ctx.value(_truncated_quotient(x, y))
