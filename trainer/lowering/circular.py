"""Further elementary functions, made of those in ``functions``: tangent, inverse circular, hyperbolic, bases 2 and 10.

``FURTHER`` holds their errors in ulp, as ``functions.FUNCTIONS`` does; a test measures them.
"""

from __future__ import annotations

from math import log, log2, log10, pi

from bisection.numbers import INFINITY, NAN
from trainer.lowering.arithmetic import add, choose, div, mul, signed_as, sub
from trainer.lowering.expression import Const, Expr, apply, real
from trainer.lowering.functions import Function, cos, exp, expm1, log1p, magnitude, sin
from trainer.lowering.functions import log as natural

__all__ = ["FURTHER", "atan2"]

ZERO, HALF, ONE, TWO = real(0.0), real(0.5), real(1.0), real(2.0)
_LARGE = 1e4  # beyond, √(x² ± 1) is |x| in binary32


# Bases 2 and 10


def exp2(x: Expr) -> Expr:
    """2^a."""
    held = choose(apply("flt", x, real(-300.0)), real(-300.0), x)
    held = choose(apply("flt", real(300.0), held), real(300.0), held)
    n = apply("round", held)
    return apply("ldexp", exp(mul(sub(held, apply("scaled", n, 0)), real(log(2)))), n)


def _based_log(x: Expr, high: float, low: float, factor: float) -> Expr:
    """k·(high + low) + factor·ln m, where x = m·2^k with m in √½ … √2."""
    tiny = apply("lt32", x, 0x00800000)
    normal = choose(tiny, mul(x, real(2.0**25)), x)
    k = apply("shr32", apply("sub32", normal, 0x3F3504F3), 23)
    m = apply("sub32", normal, apply("shl32", k, 23))
    whole = apply("scaled", choose(tiny, apply("sub32", k, 25), k), 0)
    ordinary = apply("and32", apply("flt", ZERO, x), apply("flt", x, Const(INFINITY)))
    part = natural(choose(ordinary, m, x))
    inside = add(mul(whole, real(high)), add(mul(whole, real(low)), mul(part, real(factor))))
    return choose(ordinary, inside, part)


def binary_log(x: Expr) -> Expr:
    """Logarithm to base 2; -infinity at 0, NaN below."""
    return _based_log(x, 1.0, 0.0, log2(2.718281828459045))


def decimal_log(x: Expr) -> Expr:
    """Logarithm to base 10; -infinity at 0, NaN below."""
    high = 2466 / 2**13  # few digits, so that its product with k is exact
    return _based_log(x, high, log10(2) - high, log10(2.718281828459045))


# Circular


def tan(x: Expr) -> Expr:
    """Tangent of an angle in radians; NaN for infinities."""
    return div(sin(x), cos(x))


_ARCTANGENT = (-0.3333331542360198, 0.19998484000381925, -0.14243738766597244, 0.10595139675270689, -0.060811557747501785)


def _arctangent(size: Expr) -> Expr:
    """arctan for size ≥ 0, from the nearest of 0, π/4 and π/2: tan(π/8) and tan(3π/8) separate them."""
    far, near = apply("flt", real(2.414213562373095), size), apply("flt", size, real(0.4142135623730950))
    middle = div(sub(size, ONE), add(size, ONE))
    r = choose(near, size, choose(far, div(real(-1.0), size), middle))
    z = mul(r, r)
    *rest, top = _ARCTANGENT
    series: Expr = real(top)
    for c in reversed(rest):
        series = add(mul(series, z), real(c))
    part = add(mul(mul(r, z), series), r)
    high, low = 1.5707963705062866, -4.371139000186241e-08  # π/2
    base = choose(near, 0, choose(far, real(high), real(high / 2)))
    return add(base, add(choose(near, 0, choose(far, real(low), real(low / 2))), part))


def atan(x: Expr) -> Expr:
    """Inverse tangent."""
    return signed_as(_arctangent(magnitude(x)), x)


def asin(x: Expr) -> Expr:
    """Inverse sine; NaN outside -1 … 1."""
    size = magnitude(x)
    return signed_as(_arctangent(div(size, apply("fsqrt", mul(sub(ONE, size), add(ONE, size))))), x)


def acos(x: Expr) -> Expr:
    """Inverse cosine; NaN outside -1 … 1."""
    return mul(TWO, _arctangent(apply("fsqrt", div(sub(ONE, x), add(ONE, x)))))


def atan2(y: Expr, x: Expr) -> Expr:
    """The angle of the point (x, y), within 3 ulp, with the special values of IEEE 754's atan2."""
    a, b = magnitude(y), magnitude(x)
    both_infinite = apply("and32", apply("eq32", a, INFINITY), apply("eq32", b, INFINITY))
    ratio = choose(both_infinite, ONE, choose(apply("eq32", apply("or32", a, b), 0), 0, div(a, b)))
    angle = _arctangent(ratio)
    behind = sub(real(pi), add(angle, real(8.742277657347586e-08)))  # π is below its binary32
    result = signed_as(choose(apply("lt32", x, 0), behind, angle), y)
    defined = apply("and32", apply("le32", a, INFINITY), apply("le32", b, INFINITY))
    return choose(defined, result, NAN)


# Hyperbolic


def _half_power(size: Expr) -> Expr:
    """e^size / 2, without overflow before its time."""
    root = exp(mul(HALF, size))
    return mul(root, mul(HALF, root))


def cosh(x: Expr) -> Expr:
    """Hyperbolic cosine."""
    half = _half_power(magnitude(x))
    return add(half, div(real(0.25), half))


def sinh(x: Expr) -> Expr:
    """Hyperbolic sine."""
    size = magnitude(x)
    half, power = _half_power(size), expm1(size)
    small = mul(HALF, add(power, div(power, add(ONE, power))))
    return signed_as(choose(apply("flt", size, ONE), small, sub(half, div(real(0.25), half))), x)


def asinh(x: Expr) -> Expr:
    """Inverse hyperbolic sine."""
    size = magnitude(x)
    square = mul(size, size)
    inside = log1p(add(size, div(square, add(ONE, apply("fsqrt", add(ONE, square))))))
    large = add(natural(size), real(log(2)))
    return signed_as(choose(apply("flt", real(_LARGE), size), large, inside), x)


def acosh(x: Expr) -> Expr:
    """Inverse hyperbolic cosine; NaN below 1."""
    above = sub(x, ONE)
    inside = log1p(add(above, apply("fsqrt", mul(above, add(x, ONE)))))
    result = choose(apply("flt", real(_LARGE), x), add(natural(x), real(log(2))), inside)
    return choose(apply("fle", ONE, x), result, NAN)


def atanh(x: Expr) -> Expr:
    """Inverse hyperbolic tangent; NaN outside -1 … 1."""
    size = magnitude(x)
    return signed_as(mul(HALF, log1p(div(mul(TWO, size), sub(ONE, size)))), x)


FURTHER: dict[str, Function] = {
    "exp2": Function(exp2, 2.0, "aten.exp2.default"),
    "log2": Function(binary_log, 2.0, "aten.log2.default"),
    "log10": Function(decimal_log, 2.0, "aten.log10.default"),
    "tan": Function(tan, 3.9, "aten.tan.default"),
    "atan": Function(atan, 2.3, "aten.atan.default"),
    "asin": Function(asin, 4.0, "aten.asin.default"),
    "acos": Function(acos, 4.0, "aten.acos.default"),
    "cosh": Function(cosh, 4.0, "aten.cosh.default"),
    "sinh": Function(sinh, 4.0, "aten.sinh.default"),
    "asinh": Function(asinh, 4.0, "aten.asinh.default"),
    "acosh": Function(acosh, 4.0, "aten.acosh.default"),
    "atanh": Function(atanh, 4.0, "aten.atanh.default"),
}
