"""Elementary functions as scalar programs over the instruction table (docs/numerics.md, "Functions").

Every function takes and gives expressions of binary32 values. Nothing is fused: a·b + c rounds twice. ``ERRORS`` holds the largest
error of each in units in the last place (ulp) of the exact result, as measured by tests/trainer/test_functions.py; where the result
is subnormal the unit is 2^-149.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.lowering.expression import Const, Expr, apply, real

__all__ = ["FUNCTIONS", "exp", "log", "reciprocal", "rsqrt", "sigmoid", "sqrt"]

NAN = Const(0x7FC00000)
INFINITY = Const(0x7F800000)
MAGNITUDE = 0x7FFFFFFF
SIGN = -(1 << 31)


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


def choose(condition: Expr, a: Expr, b: Expr) -> Expr:
    """``a`` where ``condition``, else ``b``."""
    return apply("select32", condition, a, b)


def magnitude(x: Expr) -> Expr:
    """|x|."""
    return apply("and32", x, MAGNITUDE)


def negative(x: Expr) -> Expr:
    """-x, sign bit flipped."""
    return apply("xor32", x, SIGN)


def polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """Σ coefficients[i]·x^i by Horner's rule."""
    *rest, top = coefficients
    total: Expr = real(top)
    for c in reversed(rest):
        total = add(mul(total, x), real(c))
    return total


def exp(x: Expr) -> Expr:
    """e^x: x = n·ln 2 + r with |r| ≤ ln 2 / 2, a polynomial in r, then an exact scaling by 2^n."""
    x = choose(apply("flt", x, real(-104.0)), real(-104.0), x)
    x = choose(apply("flt", real(89.0), x), real(89.0), x)
    n = apply("round", mul(x, real(1.4426950408889634)))
    whole = apply("scaled", n, 0)
    r = sub(sub(x, mul(whole, real(0.693145751953125))), mul(whole, real(1.428606765330187e-06)))
    tail = polynomial(r, (0.5, 0.16666665459, 0.041665795, 0.008333452, 0.0013981999, 0.00019875691))
    return apply("ldexp", add(add(mul(mul(r, r), tail), r), real(1.0)), n)


def log(x: Expr) -> Expr:
    """Natural logarithm: x = m·2^k with m in √½ … √2, then a series in s = f/(2+f), f = m - 1."""
    tiny = apply("lt32", x, 0x00800000)
    scaled = choose(tiny, mul(x, real(2.0**25)), x)
    shifted = apply("sub32", scaled, 0x3F3504F3)
    k = apply("shr32", shifted, 23)
    m = apply("sub32", scaled, apply("shl32", k, 23))
    k = choose(tiny, apply("sub32", k, 25), k)
    result = _log_of(sub(m, real(1.0)), apply("scaled", k, 0), None)
    result = choose(apply("feq", x, INFINITY), INFINITY, result)
    result = choose(apply("feq", x, real(0.0)), negative(INFINITY), result)
    return choose(apply("fle", real(0.0), x), result, NAN)


def _log_of(f: Expr, k: Expr, correction: Expr | None) -> Expr:
    """ln(1 + f) + k·ln 2 (+ ``correction``) for f in √½ - 1 … √2 - 1 and a small integer k held as a float."""
    s = div(f, add(real(2.0), f))
    z = mul(s, s)
    r = mul(z, polynomial(z, (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841)))
    half = mul(mul(real(0.5), f), f)
    low = mul(k, real(9.0580006145e-06))
    if correction is not None:
        low = add(low, correction)
    return add(add(sub(add(mul(s, add(half, r)), low), half), f), mul(k, real(6.9313812256e-01)))


def reciprocal(x: Expr) -> Expr:
    """1 / x, correctly rounded."""
    return div(real(1.0), x)


def rsqrt(x: Expr) -> Expr:
    """1 / √x, both correctly rounded."""
    return div(real(1.0), apply("fsqrt", x))


def sqrt(x: Expr) -> Expr:
    """√x, correctly rounded."""
    return apply("fsqrt", x)


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e^-x), as e^-|x| or 1 over 1 + e^-|x| so that no sum overflows and small results keep their digits."""
    power = exp(negative(magnitude(x)))
    return div(choose(apply("flt", x, real(0.0)), power, real(1.0)), add(real(1.0), power))


FUNCTIONS = {"exp": exp, "log": log, "reciprocal": reciprocal, "rsqrt": rsqrt, "sqrt": sqrt, "sigmoid": sigmoid}
