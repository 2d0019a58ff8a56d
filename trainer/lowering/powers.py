"""a to the power b, for any a and b."""

from __future__ import annotations

from math import log

from bisection.numbers import INFINITY, NAN
from trainer.lowering.expression import Const, Expr, apply, real
from trainer.lowering.functions import magnitude

__all__ = ["power"]

_PLACES = 36  # binary places of a logarithm
_WIDE = 160  # powers of two beyond this are 0 or infinite in binary32


def _log2(x: Expr) -> Expr:
    """log2 x for positive finite x, in fixed point with 36 places: by the series of 2·artanh(s), s = (m - 1) / (m + 1), for the
    significand m in √½ … √2. The error is below 2^-35."""
    tiny = apply("lt32", x, 0x00800000)
    normal = apply("select32", tiny, apply("fmul", x, real(2.0**25)), x)
    k = apply("shr32", apply("sub32", normal, 0x3F3504F3), 23)
    significand = apply("sub32", normal, apply("shl32", k, 23))  # the bits of m
    low = apply("lt32", significand, 0x3F800000)
    m = apply("or32", apply("and32", significand, 0x7FFFFF), 0x800000)
    m = apply("shl64", m, apply("xor32", low, 1))  # m·2^24
    one = 1 << 24
    s = apply("div64", apply("shl64", apply("sub64", m, one), 38), apply("add64", m, one))  # 38 places
    short = apply("shr64", s, 6)  # 32 places
    z = apply("shr64", apply("mul64", short, short), 34)  # 30 places
    series: Expr = Const(0)  # 34 places
    for n in range(7, 0, -1):
        series = apply("shr64", apply("mul64", apply("add64", series, round(2**34 / (2 * n + 1))), z), 30)
    whole = apply("add64", s, apply("shr64", apply("mul64", s, series), 34))  # artanh s, 38 places
    upper, lower = divmod(round(2 / log(2) * 2**48), 1 << 24)
    rest = apply("shr64", apply("mul64", whole, lower), 24)
    fraction = apply("shr64", apply("add64", apply("mul64", whole, upper), rest), 24 + 38 - _PLACES)
    exponent = apply("select32", tiny, apply("sub32", k, 25), k)
    return apply("add64", fraction, apply("shl64", exponent, _PLACES))


def _product(y: Expr, logarithm: Expr) -> Expr:
    """y·logarithm with 30 binary places, where that is below 2^8 in size; y is finite."""
    exponent = apply("shr32", magnitude(y), 23)
    m = apply("or32", apply("and32", y, 0x7FFFFF), 0x800000)
    high, low = apply("shr64", logarithm, 22), apply("and64", logarithm, (1 << 22) - 1)
    # m·logarithm·2^-22: y is m·2^(exponent - 150), so 30 places need a shift by exponent - 150 + 22 - 36 + 30
    product = apply("add64", apply("mul64", m, high), apply("shr64", apply("mul64", m, low), 22))
    shift = apply("sub32", exponent, 134)
    left = apply("shl64", product, apply("select32", apply("lt32", 0, shift), shift, 0))
    back = apply("sub32", 0, shift)
    size = apply("shr64", left, apply("select32", apply("lt32", 0, back), back, 0))
    return apply("select64", apply("lt32", y, 0), apply("sub64", 0, size), size)


def _power_of_two(t: Expr) -> Expr:
    """2^t for t with 30 binary places."""
    n = apply("shr64", apply("add64", t, 1 << 29), 30)
    r = apply("fmul", apply("scaled", apply("sub64", t, apply("shl64", n, 30)), -30), real(log(2)))
    tail: Expr = real(0.00018843955801903876)
    for c in (0.0013940562516380538, 0.008335361339466121, 0.04166636450608671, 0.16666657357267992, 0.5000000041699865):
        tail = apply("fadd", apply("fmul", tail, r), real(c))
    minus_one = apply("fadd", r, apply("fmul", apply("fmul", r, r), tail))
    return apply("ldexp", apply("fadd", real(1.0), minus_one), n)


def power(x: Expr, y: Expr) -> Expr:
    """x^y with the special values of IEEE 754's pow. Within 1.5 ulp for |y| up to 1,000; beyond, errors grow with |y|·2^-11 ulp."""
    size = magnitude(x)
    logarithm = _log2(size)
    rough = apply("fmul", y, apply("scaled", logarithm, -_PLACES))
    inside = _power_of_two(_product(y, logarithm))
    beyond = apply("select32", apply("flt", real(0.0), rough), INFINITY, 0)
    result = apply("select32", apply("flt", magnitude(rough), real(_WIDE)), inside, beyond)
    up, down = apply("lt32", y, 0), apply("xor32", apply("lt32", y, 0), 1)
    result = apply("select32", apply("eq32", size, 0), apply("select32", up, INFINITY, 0), result)
    result = apply("select32", apply("eq32", size, INFINITY), apply("select32", down, INFINITY, 0), result)
    # A negative x takes a whole y only, and gives its sign to an odd one. Floats from 2^24 on are even.
    large = apply("lt32", 0x4B7FFFFF, magnitude(y))
    near = apply("round", y)
    whole = apply("or32", large, apply("feq", apply("scaled", near, 0), y))
    odd = apply("select32", large, 0, apply("and32", apply("and32", near, 1), whole))
    negative = apply("lt32", x, 0)
    result = apply("or32", result, apply("shl32", apply("and32", negative, odd), 31))
    undefined = apply("and32", apply("and32", negative, apply("xor32", whole, 1)), apply("lt32", 0, size))
    undefined = apply("and32", undefined, apply("lt32", size, INFINITY))
    undefined = apply("or32", undefined, apply("or32", apply("lt32", INFINITY, size), apply("lt32", INFINITY, magnitude(y))))
    result = apply("select32", undefined, NAN, result)
    one = apply("or32", apply("eq32", magnitude(y), 0), apply("feq", x, real(1.0)))
    one = apply("or32", one, apply("and32", apply("eq32", magnitude(y), INFINITY), apply("feq", size, real(1.0))))
    return apply("select32", one, real(1.0), result)
