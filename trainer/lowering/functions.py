"""Elementary functions as scalar programs over the instruction table (docs/operators.md, "Functions").

Every function takes and gives expressions of binary32 values. Nothing is fused: a·b + c rounds twice. ``FUNCTIONS`` holds for each
a bound on its error in units in the last place (ulp) of the exact result, 2^-149 where that is subnormal; a test measures it
(tests/trainer/test_functions.py). Polynomials without a source are minimax fits of our own, with relative error below 0.15 ulp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log as natural_log
from math import pi, sqrt

from trainer.lowering.arithmetic import SIGN, add, choose, div, magnitude, mul, negative, signed_as, sub
from trainer.lowering.expression import Const, Expr, apply, real

__all__ = [
    "FUNCTIONS",
    "Function",
    "exp",
    "gelu",
    "gelu_gradient",
    "gelu_tanh",
    "gelu_tanh_gradient",
    "log",
    "magnitude",
    "negative",
]

NAN = Const(0x7FC00000)
INFINITY = Const(0x7F800000)
ZERO, HALF, ONE, TWO = real(0.0), real(0.5), real(1.0), real(2.0)


@dataclass(frozen=True, slots=True)
class Function:
    """An elementary function: its expression, its largest error in ulp, and the ATen operator that it lowers, if it is one."""

    expression: Callable[[Expr], Expr]
    ulp: float
    operator: str | None = None


def _polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """Σ coefficients[i]·x^i by Horner's rule."""
    *rest, top = coefficients
    total: Expr = real(top)
    for c in reversed(rest):
        total = add(mul(total, x), real(c))
    return total


# Powers of e


def _reduced(x: Expr) -> tuple[Expr, Expr]:
    """(n, r): x = n·ln 2 + r with n whole and |r| about ln 2 / 2 at most; x is held where e^x is not beyond doubt 0 or infinite."""
    x = choose(apply("flt", x, real(-126.0)), real(-126.0), x)
    x = choose(apply("flt", real(89.0), x), real(89.0), x)
    n = apply("round", mul(x, real(1.4426950408889634)))
    whole = apply("scaled", n, 0)
    # The first part of ln 2 has 15 bits, so that its product with n is exact (Cody and Waite, 1980).
    return n, sub(sub(x, mul(whole, real(0.693145751953125))), mul(whole, real(1.428606765330187e-06)))


def _power_minus_one(r: Expr) -> Expr:
    """e^r - 1 for -0.46 < r < 0.36."""
    tail = (
        0.5000000041699865,
        0.16666657357267992,
        0.04166636450608671,
        0.008335361339466121,
        0.0013940562516380538,
        0.00018843955801903876,
    )
    return add(r, mul(mul(r, r), _polynomial(r, tail)))


def exp(x: Expr) -> Expr:
    """e^a."""
    n, r = _reduced(x)
    return apply("ldexp", add(ONE, _power_minus_one(r)), n)


def expm1(x: Expr) -> Expr:
    """e^a - 1."""
    n, r = _reduced(x)
    p = _power_minus_one(r)
    small = add(apply("ldexp", p, n), sub(apply("ldexp", ONE, n), ONE))
    whole = choose(apply("lt32", n, 60), small, apply("ldexp", add(ONE, p), n))
    return choose(apply("feq", x, ZERO), x, whole)


def _logistic(low: Expr, n: Expr, r: Expr, factor: Expr) -> Expr:
    """factor / (1 + e^-x), given -|x| = n·ln 2 + r and whether x is ``low``, below 0.

    The power of two comes last, so that small results keep their digits.
    """
    significand = add(ONE, _power_minus_one(r))
    part = div(mul(factor, choose(low, significand, ONE)), add(ONE, apply("ldexp", significand, n)))
    return apply("ldexp", part, choose(low, n, Const(0)))


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e^-a)."""
    return _logistic(_below_zero(x), *_reduced(negative(magnitude(x))), ONE)


def _below_zero(x: Expr) -> Expr:
    return apply("flt", x, ZERO)


def _above(x: Expr) -> Expr:
    """x held above -200, for factors of something that is 0 there."""
    return choose(apply("flt", x, real(-200.0)), real(-200.0), x)


def silu(x: Expr) -> Expr:
    """a / (1 + e^-a)."""
    return _logistic(_below_zero(x), *_reduced(negative(magnitude(x))), _above(x))


def tanh(x: Expr) -> Expr:
    """Hyperbolic tangent."""
    size = magnitude(x)
    z = mul(x, x)
    series = (-0.3333328194317559, 0.1333144222319832, -0.05373971698290725, 0.020639093191676446, -0.005704993518003762)
    small = add(size, mul(mul(size, z), _polynomial(z, series)))
    large = sub(ONE, div(TWO, add(exp(mul(TWO, size)), ONE)))
    return signed_as(choose(apply("flt", size, real(0.625)), small, large), x)


# Logarithms


def _log_parts(x: Expr) -> tuple[Expr, Expr, Expr]:
    """(k, f, k as a float): x = (1 + f)·2^k with 1 + f in √½ … √2, for positive finite x."""
    tiny = apply("lt32", x, 0x00800000)
    normal = choose(tiny, mul(x, real(2.0**25)), x)
    shifted = apply("shr32", apply("sub32", normal, 0x3F3504F3), 23)
    f = sub(apply("sub32", normal, apply("shl32", shifted, 23)), ONE)
    k = choose(tiny, apply("sub32", shifted, 25), shifted)
    return k, f, apply("scaled", k, 0)


def _log_sum(f: Expr, k: Expr, low: Expr) -> Expr:
    """ln(1 + f) + k·ln 2 + low, by a series in s = f / (2 + f) (W. Kahan's and K. C. Ng's method in 4.4BSD's log)."""
    s = div(f, add(TWO, f))
    z = mul(s, s)
    r = mul(z, _polynomial(z, (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841)))
    half = mul(mul(HALF, f), f)
    rest = add(mul(s, add(half, r)), add(mul(k, real(9.0580006145e-06)), low))
    return add(add(sub(rest, half), f), mul(k, real(6.9313812256e-01)))


def _log_limits(x: Expr, pole: float, inside: Expr) -> Expr:
    """``inside`` with the limits of a logarithm whose pole is at x = ``pole``."""
    result = choose(apply("feq", x, INFINITY), INFINITY, inside)
    result = choose(apply("feq", x, real(pole)), negative(INFINITY), result)
    return choose(apply("fle", real(pole), x), result, NAN)


def log(x: Expr) -> Expr:
    """Natural logarithm; -infinity at 0, NaN below."""
    _, f, k = _log_parts(x)
    return _log_limits(x, 0.0, _log_sum(f, k, ZERO))


def log1p(x: Expr) -> Expr:
    """ln(1 + a)."""
    u = add(ONE, x)
    k, f, whole = _log_parts(u)
    lost = choose(apply("flt", u, TWO), sub(x, sub(u, ONE)), sub(ONE, sub(u, x)))  # what rounding 1 + a cut off
    near = apply("and32", apply("eq32", k, 0), apply("flt", magnitude(x), HALF))
    inside = _log_sum(choose(near, x, f), whole, choose(near, ZERO, div(lost, u)))
    return _log_limits(x, -1.0, choose(apply("feq", x, ZERO), x, inside))


# The normal distribution


def _bell(u: Expr) -> tuple[Expr, Expr]:
    """(m, n): e^(-u²/2) = m·2^n for u ≥ 0. As a rounding of the square would be felt, it is split: its first part has 12 bits."""
    u = choose(apply("flt", real(15.0), u), real(15.0), u)
    high = apply("and32", u, -(1 << 12))
    n, r = _reduced(mul(real(-0.5), mul(high, high)))
    rest = mul(mul(real(-0.5), sub(u, high)), add(u, high))
    return add(ONE, _power_minus_one(add(r, rest))), n


_TAIL = (
    *(0.75528513536, -0.60789658656, 0.38713690391, -0.18652348601, 0.06040376452),
    *(-0.00752500360, -0.00351207741, 0.00156958980, 0.00017837113, -0.00013243353),
)


def _tail_ratio(u: Expr) -> Expr:
    """Φ(-u) / e^(-u²/2) for u ≥ 0, where Φ is the normal distribution: p(q) / (u + 4) with q = (u - 4) / (u + 4)."""
    held = choose(apply("flt", real(15.0), u), real(15.0), u)
    above = add(held, real(4.0))
    q = div(sub(held, real(4.0)), above)
    return div(_polynomial(q, _TAIL), above)


def erf(x: Expr) -> Expr:
    """The error function."""
    size = magnitude(x)
    z = mul(x, x)
    series = (0.1283791657, -0.3761262582, 0.1128358514, -0.02685381179, 0.005188327477, -0.0008010192234, 7.853857903e-05)
    small = add(size, mul(size, _polynomial(z, series)))
    u = mul(size, real(sqrt(2.0)))
    m, n = _bell(u)
    large = sub(ONE, apply("ldexp", mul(m, _tail_ratio(u)), apply("add32", n, 1)))
    return signed_as(choose(apply("flt", size, ONE), small, large), x)


def _normal(x: Expr, factor: Expr) -> tuple[Expr, Expr]:
    """(factor·Φ(x), e^(-x²/2)). The power of two comes last, so that small results keep their digits."""
    u = magnitude(x)
    m, n = _bell(u)
    part = mul(m, _tail_ratio(u))
    above = mul(factor, sub(ONE, apply("ldexp", part, n)))
    return choose(apply("flt", x, ZERO), apply("ldexp", mul(factor, part), n), above), apply("ldexp", m, n)


def gelu(x: Expr) -> Expr:
    """a·Φ(a)."""
    return _normal(x, _above(x))[0]


def gelu_gradient(x: Expr) -> Expr:
    """The derivative of a·Φ(a): Φ(a) + a·φ(a)."""
    distribution, bell = _normal(x, ONE)
    return add(distribution, mul(x, mul(bell, real(1 / sqrt(2 * pi)))))


def _gelu_exponent(x: Expr) -> tuple[Expr, Expr]:
    """(n, r): -2|t| = n·ln 2 + r with t = √(2/π)·(x + 0.044715·x³).

    Computed in fixed point, since a rounding of the exponent would be multiplied by its size.
    """
    size = magnitude(x)
    held = choose(apply("flt", real(11.0), size), real(11.0), size)
    scale = 2 * sqrt(2 / pi)
    fixed = apply("round", apply("ldexp", held, 27))  # 27 binary places
    square = apply("shr64", apply("mul64", fixed, fixed), 27)
    growth = apply("shr64", apply("mul64", square, round(scale * 0.044715 * 2**31)), 29)  # 29 binary places
    slope = apply("add64", growth, round(scale * 2**29))
    t = apply("sub64", 0, apply("shr64", apply("mul64", fixed, slope), 29))  # -2|t|, 27 binary places
    n = apply("round", mul(apply("scaled", t, -27), real(1.4426950408889634)))
    rest = apply("sub64", apply("shl64", t, 20), apply("mul64", n, round(natural_log(2) * 2**47)))
    return n, choose(apply("feq", x, x), apply("scaled", rest, -47), NAN)


def gelu_tanh(x: Expr) -> Expr:
    """½a·(1 + tanh(√(2/π)·(a + 0.044715·a³)))."""
    return _logistic(_below_zero(x), *_gelu_exponent(x), _above(x))


def gelu_tanh_gradient(x: Expr) -> Expr:
    """The derivative of gelu_tanh: s(t) + a·2t'·s(t)·s(-t), where s(t) = ½(1 + tanh t)."""
    low, exponent = _below_zero(x), _gelu_exponent(x)
    s, rest = _logistic(low, *exponent, ONE), _logistic(apply("xor32", low, 1), *exponent, ONE)
    slope = add(real(2 * sqrt(2 / pi)), mul(real(6 * 0.044715 * sqrt(2 / pi)), mul(x, x)))
    return add(s, mul(mul(mul(x, s), rest), slope))


# Sine and cosine

_TWO_OVER_PI = int("A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A424DD2E006492EEA09D1921C", 16)
"""The first 384 bits of 2/π after the binary point."""


def _word(index: int) -> int:
    """Bits 64·index … of 2/π with 26 zeros before them, as a signed 64-bit word."""
    bits = (_TWO_OVER_PI << 64) >> (64 + 384 - 64 * (index + 1) + 26)
    return (bits + (1 << 63)) % (1 << 64) - (1 << 63)


def _quadrant(size: Expr) -> tuple[Expr, Expr]:
    """(k, r): size = k·π/2 + r with |r| ≤ π/4 and k modulo 4, for size ≥ 0 (Payne and Hanek, 1983, in 64-bit words).

    size = m·2^(e-150). The bits of 2/π that matter to m·2^(e-150)·2/π modulo 4 begin e - 126 bits into the padded table.
    """
    exponent = apply("shr32", size, 23)
    m = apply("or32", apply("and32", size, 0x7FFFFF), 0x800000)
    at = apply("sub32", exponent, 126)
    second, third = apply("le32", 64, at), apply("le32", 128, at)
    words = [apply("select64", third, _word(i + 2), apply("select64", second, _word(i + 1), _word(i))) for i in range(3)]
    shift = apply("and64", at, 63)
    back = apply("sub64", 64, shift)
    high, low = (apply("or64", apply("shl64", a, shift), apply("ushr64", b, back)) for a, b in pairwise(words))
    carried = apply("ushr64", apply("mul64", m, apply("ushr64", low, 32)), 32)
    turns = apply("add64", apply("mul64", m, high), carried)  # in quarters, 62 bits after the point, modulo 4
    k = apply("ushr64", apply("add64", turns, 1 << 61), 62)
    part = apply("sub64", turns, apply("shl64", k, 62))
    # part·π/2 with 61 binary places, in two halves, so that the only rounding is the last one
    angle = round(pi / 2 * (1 << 30))
    upper, lower = apply("shr64", part, 31), apply("and64", part, (1 << 31) - 1)
    product = apply("add64", apply("mul64", upper, angle), apply("shr64", apply("mul64", lower, angle), 31))
    r = apply("scaled", product, -61)
    near = apply("lt32", size, 0x3F490FDB)  # below π/4
    return apply("select64", near, 0, k), choose(near, size, r)


def _circular(x: Expr, ahead: int) -> Expr:
    """sin(|x| + ahead·π/2)."""
    size = magnitude(x)
    k, r = _quadrant(size)
    k = apply("add64", k, ahead)
    z = mul(r, r)
    sine = add(r, mul(mul(r, z), _polynomial(z, (-0.16666654536686068, 0.008332156056629745, -0.00019514632259923472))))
    cosine = add(
        sub(ONE, mul(HALF, z)),
        mul(mul(z, z), _polynomial(z, (0.041666645554684294, -0.0013887309876465615, 2.4432414047928517e-05))),
    )
    value = choose(apply("and64", k, 1), cosine, sine)
    value = apply("xor32", value, apply("shl32", apply("and64", k, 2), 30))
    return choose(apply("lt32", size, INFINITY), value, NAN)


def sin(x: Expr) -> Expr:
    """Sine of an angle in radians; NaN for infinities."""
    return apply("xor32", _circular(x, 0), apply("and32", x, SIGN))


def cos(x: Expr) -> Expr:
    """Cosine of an angle in radians; NaN for infinities."""
    return _circular(x, 1)


# Roots and quotients


def square_root(x: Expr) -> Expr:
    """√a, correctly rounded."""
    return apply("fsqrt", x)


def rsqrt(x: Expr) -> Expr:
    """1 / √a."""
    return div(ONE, apply("fsqrt", x))


def reciprocal(x: Expr) -> Expr:
    """1 / a, correctly rounded."""
    return div(ONE, x)


FUNCTIONS: dict[str, Function] = {
    "exp": Function(exp, 1.0, "aten.exp.default"),
    "expm1": Function(expm1, 1.5, "aten.expm1.default"),
    "log": Function(log, 0.9, "aten.log.default"),
    "log1p": Function(log1p, 0.9, "aten.log1p.default"),
    "sigmoid": Function(sigmoid, 2.5, "aten.sigmoid.default"),
    "silu": Function(silu, 3.3, "aten.silu.default"),
    "tanh": Function(tanh, 1.4, "aten.tanh.default"),
    "erf": Function(erf, 1.5, "aten.erf.default"),
    "gelu": Function(gelu, 5.2),
    "gelu_tanh": Function(gelu_tanh, 3.4),
    "sin": Function(sin, 1.7, "aten.sin.default"),
    "cos": Function(cos, 1.7, "aten.cos.default"),
    "sqrt": Function(square_root, 0.5, "aten.sqrt.default"),
    "rsqrt": Function(rsqrt, 1.5, "aten.rsqrt.default"),
    "reciprocal": Function(reciprocal, 0.5, "aten.reciprocal.default"),
}
