"""What a number is: binary32 and two's complement arithmetic on bit patterns (docs/numerics.md, "Numbers").

This module is the definition. It uses Python's unbounded integers only, so nothing here can round by accident; every
other executor is tested against it. A float is its 32-bit pattern as a non-negative int; an integer is a signed int.
"""

from __future__ import annotations

from math import isqrt

__all__ = [
    "NAN",
    "f32_add",
    "f32_div",
    "f32_eq",
    "f32_ldexp",
    "f32_le",
    "f32_lt",
    "f32_mul",
    "f32_round",
    "f32_scaled",
    "f32_sqrt",
    "f32_sub",
    "wrap",
]

NAN = 0x7FC00000  # the one NaN that arithmetic produces
INFINITY = 0x7F800000
SIGN = 0x80000000
MAGNITUDE = 0x7FFFFFFF

# Exponents beyond this give zero or infinity for every 64-bit integer and every binary32 significand.
FAR = 600


def wrap(value: int, width: int) -> int:
    """The signed ``width``-bit integer congruent to ``value`` modulo 2^width."""
    half = 1 << (width - 1)
    return ((value + half) & ((1 << width) - 1)) - half


def is_nan(a: int) -> bool:
    """Whether the pattern ``a`` is any NaN."""
    return (a & MAGNITUDE) > INFINITY


def is_infinite(a: int) -> bool:
    """Whether the pattern ``a`` is an infinity."""
    return (a & MAGNITUDE) == INFINITY


def unpack(a: int) -> tuple[int, int]:
    """(m, e) with |a| = m·2^e for a finite pattern ``a``; m is below 2^24 and e at least -149."""
    exponent, fraction = (a >> 23) & 0xFF, a & 0x7FFFFF
    return (fraction, -149) if exponent == 0 else (fraction | 0x800000, exponent - 150)


def signed(a: int) -> tuple[int, int]:
    """(m, e) with a = m·2^e for a finite pattern ``a``; m carries the sign."""
    m, e = unpack(a)
    return (-m if a & SIGN else m), e


def pack(sign: int, m: int, e: int) -> int:
    """The pattern of (-1)^sign · m·2^e, rounded once to nearest, ties to even (IEEE 754-2019, 4.3.1).

    ``m`` is any non-negative integer. A caller with an inexact m keeps at least 26 significant bits and sets the lowest bit to
    "something was cut off" (sticky).
    """
    sign_bit = sign << 31
    if m == 0:
        return sign_bit
    e = max(-FAR, min(FAR, e))
    drop = max(m.bit_length() - 24, -149 - e)  # 24 significant bits, fewer once the exponent is at its floor
    if drop > 0:
        rest, half = m & ((1 << drop) - 1), 1 << (drop - 1)
        m >>= drop
        m += rest > half or (rest == half and m & 1)
    else:
        m <<= -drop
    e += drop
    if m == 1 << 24:
        m, e = m >> 1, e + 1
    if m < 1 << 23:
        return sign_bit | m  # subnormal: e is -149
    return sign_bit | (INFINITY if e + 150 >= 255 else (e + 150) << 23 | (m - (1 << 23)))


def f32_add(a: int, b: int) -> int:
    """a + b, rounded once. Exact zero is +0 unless both operands are -0; inf - inf is NaN."""
    if is_nan(a) or is_nan(b):
        return NAN
    if is_infinite(a):
        return NAN if is_infinite(b) and a != b else a
    if is_infinite(b):
        return b
    (m, e), (n, f) = signed(a), signed(b)
    low = min(e, f)
    total = (m << (e - low)) + (n << (f - low))
    if total == 0:
        return a & b & SIGN
    return pack(int(total < 0), abs(total), low)


def f32_sub(a: int, b: int) -> int:
    """a - b, rounded once."""
    return f32_add(a, b ^ SIGN)


def f32_mul(a: int, b: int) -> int:
    """a · b, rounded once. 0 · inf is NaN."""
    sign = (a ^ b) >> 31
    if is_nan(a) or is_nan(b):
        return NAN
    if is_infinite(a) or is_infinite(b):
        zero = (a & MAGNITUDE) == 0 or (b & MAGNITUDE) == 0
        return NAN if zero else sign << 31 | INFINITY
    (m, e), (n, f) = unpack(a), unpack(b)
    return pack(sign, m * n, e + f)


def f32_div(a: int, b: int) -> int:
    """a / b, rounded once. x / 0 is a signed infinity; 0 / 0 and inf / inf are NaN."""
    sign = (a ^ b) >> 31
    if is_nan(a) or is_nan(b) or (is_infinite(a) and is_infinite(b)):
        return NAN
    if is_infinite(a):
        return sign << 31 | INFINITY
    if is_infinite(b):
        return sign << 31
    (m, e), (n, f) = unpack(a), unpack(b)
    if n == 0:
        return NAN if m == 0 else sign << 31 | INFINITY
    quotient, rest = divmod(m << 50, n)
    return pack(sign, quotient << 1 | int(rest != 0), e - f - 51)


def f32_sqrt(a: int) -> int:
    """The square root, rounded once. sqrt(-0) is -0; of any other negative number it is NaN."""
    if is_nan(a):
        return NAN
    if a & MAGNITUDE == 0 or a == INFINITY:
        return a
    if a & SIGN:
        return NAN
    m, e = unpack(a)
    shift = 60 + (e & 1)
    root = isqrt(m << shift)
    return pack(0, root << 1 | int(root * root != m << shift), ((e - shift) >> 1) - 1)


def f32_ldexp(a: int, k: int) -> int:
    """a · 2^k, rounded once, for any integer k. Zeros, infinities and NaN keep their kind."""
    if is_nan(a):
        return NAN
    if is_infinite(a):
        return a
    m, e = unpack(a)
    return pack(a >> 31, m, e + max(-FAR, min(FAR, k)))


def f32_lt(a: int, b: int) -> int:
    """1 if a < b, else 0. Zeros are equal; NaN compares false."""
    return int(not is_nan(a) and not is_nan(b) and order(a) < order(b))


def f32_le(a: int, b: int) -> int:
    """1 if a <= b, else 0. Zeros are equal; NaN compares false."""
    return int(not is_nan(a) and not is_nan(b) and order(a) <= order(b))


def f32_eq(a: int, b: int) -> int:
    """1 if a = b, else 0. Zeros are equal; NaN compares false."""
    return int(not is_nan(a) and not is_nan(b) and order(a) == order(b))


def order(a: int) -> int:
    """An integer that orders finite patterns and infinities as the numbers they stand for, both zeros alike."""
    return -(a & MAGNITUDE) if a & SIGN else a


def f32_round(a: int) -> int:
    """The nearest i32, ties to even, saturating at both ends; NaN gives 0."""
    if is_nan(a):
        return 0
    limit = -(1 << 31) if a & SIGN else (1 << 31) - 1
    if is_infinite(a):
        return limit
    m, e = unpack(a)
    if e >= 8:  # |a| >= 2^31, as m has 24 bits here
        return limit
    if e >= 0:
        whole = m << e
    else:
        drop = min(-e, 30)
        rest, half = m & ((1 << drop) - 1), 1 << (drop - 1)
        whole = m >> drop
        whole += rest > half or (rest == half and whole & 1)
    return -whole if a & SIGN else whole


def f32_scaled(c: int, k: int) -> int:
    """c · 2^k as a float, rounded once, for any i64 c and i32 k. Zero gives +0."""
    return pack(int(c < 0), abs(c), max(-FAR, min(FAR, k)))
