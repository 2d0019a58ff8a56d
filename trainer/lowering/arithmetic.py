"""Arithmetic of binary32 expressions under short names: one instruction each."""

from __future__ import annotations

from trainer.lowering.expression import Expr, apply

__all__ = ["SIGN", "add", "choose", "div", "magnitude", "mul", "negative", "root", "signed_as", "sub"]

MAGNITUDE, SIGN = 0x7FFFFFFF, -(1 << 31)


def add(a: Expr, b: Expr) -> Expr:
    """a + b."""
    return apply("fadd", a, b)


def sub(a: Expr, b: Expr) -> Expr:
    """a - b."""
    return apply("fsub", a, b)


def mul(a: Expr, b: Expr) -> Expr:
    """a · b."""
    return apply("fmul", a, b)


def div(a: Expr, b: Expr) -> Expr:
    """a / b."""
    return apply("fdiv", a, b)


def root(a: Expr) -> Expr:
    """√a."""
    return apply("fsqrt", a)


def choose(condition: Expr, a: Expr | int, b: Expr | int) -> Expr:
    """a where the condition is not 0, else b."""
    return apply("select32", condition, a, b)


def magnitude(x: Expr) -> Expr:
    """|x|."""
    return apply("and32", x, MAGNITUDE)


def negative(x: Expr) -> Expr:
    """-x: the sign bit flipped."""
    return apply("xor32", x, SIGN)


def signed_as(size: Expr, x: Expr) -> Expr:
    """``size``, which is not negative, with the sign of ``x``."""
    return apply("or32", size, apply("and32", x, SIGN))
