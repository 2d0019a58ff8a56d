# pragma version 0.4.3
# @title binary32 arithmetic in integers, rounded once to nearest, ties to even
# @license Apache-2.0
# @notice The functions of bisection/numbers.py under the same names. A float is its 32-bit pattern in a uint256.
# @custom:security Arithmetic is unchecked: significands stay below 2^128 and exponents within +-1,500, so nothing wraps.
#                  A shift by 256 or more gives 0 on the EVM; every shift amount here is clamped below that.

NAN: constant(uint256) = 2143289344  # 0x7fc00000, the one NaN that arithmetic produces
INFINITY: constant(uint256) = 255 << 23
SIGN: constant(uint256) = 1 << 31
MAGNITUDE: constant(uint256) = SIGN - 1
FRACTION: constant(uint256) = (1 << 23) - 1
FAR: constant(int256) = 600  # scaling by 2^600 or more takes every number to infinity, by 2^-600 to zero


@internal
@pure
def bit_length(x: uint256) -> int256:
    """
    @notice The number of bits of `x`, 0 < x < 2^128.
    """
    n: uint256 = convert(x >= 2**64, uint256) << 6
    n |= convert((x >> n) >= 2**32, uint256) << 5
    n |= convert((x >> n) >= 2**16, uint256) << 4
    n |= convert((x >> n) >= 2**8, uint256) << 3
    n |= convert((x >> n) >= 2**4, uint256) << 2
    n |= convert((x >> n) >= 2**2, uint256) << 1
    n |= (x >> n) >> 1
    return convert(unsafe_add(n, 1), int256)


@internal
@pure
def shift_to_even(x: uint256, cut: uint256) -> uint256:
    """
    @notice x / 2^cut rounded to nearest, ties to even; 0 < cut < 256, x < 2^128.
    """
    half: uint256 = 1 << unsafe_sub(cut, 1)
    return unsafe_add(unsafe_add(x, unsafe_sub(half, 1)), (x >> cut) & 1) >> cut


@internal
@pure
def pack(sign: uint256, m: uint256, e: int256) -> uint256:
    """
    @notice The pattern of m * 2^e, rounded once, with the sign bit `sign` (0 or SIGN). An inexact m has at least 26 bits, of which the
            lowest says that something was cut off. m is below 2^96.
    """
    if m == 0:
        return sign
    # Thirty-two zeros below m make sure that there is always something to drop, hence one rounding rule.
    wide: uint256 = m << 32
    low: int256 = unsafe_sub(e, 32)
    # 24 significant bits stay, fewer once the exponent is at its floor.
    drop: int256 = max(unsafe_sub(self.bit_length(wide), 24), unsafe_sub(-149, low))
    cut: uint256 = convert(min(drop, 255), uint256)
    kept: uint256 = self.shift_to_even(wide, cut)
    # A carry out of the significand is a carry into the exponent, as it should be.
    exponent: uint256 = convert(unsafe_add(unsafe_add(low, drop), 149), uint256)
    return sign | min(unsafe_add(exponent << 23, kept), INFINITY)


@internal
@pure
def unpack(a: uint256) -> (uint256, int256):
    """
    @notice (m, e) with |a| = m * 2^e for a finite pattern.
    """
    exponent: uint256 = (a >> 23) & 255
    m: uint256 = (a & FRACTION) | (min(exponent, 1) << 23)
    return m, unsafe_sub(convert(max(exponent, 1), int256), 150)


@internal
@pure
def is_nan(a: uint256) -> bool:
    """
    @notice Whether the pattern is any NaN.
    """
    return (a & MAGNITUDE) > INFINITY


@internal
@pure
def f32_add(a: uint256, b: uint256) -> uint256:
    """
    @notice a + b. Exact zero is +0 unless both operands are -0; inf - inf is NaN.
    """
    x: uint256 = a & MAGNITUDE
    y: uint256 = b & MAGNITUDE
    if max(x, y) >= INFINITY:
        if max(x, y) > INFINITY or (x == y and a != b):
            return NAN
        return a if x == INFINITY else b
    big: uint256 = a
    small: uint256 = b
    if x < y:
        big = b
        small = a
    m: uint256 = 0
    e: int256 = 0
    m, e = self.unpack(big)
    n: uint256 = 0
    f: int256 = 0
    n, f = self.unpack(small)
    # Forty places apart, the smaller operand is less than 2^-16 of the last place: only its sign counts, and that it is not zero.
    apart: uint256 = convert(min(unsafe_sub(e, f), 40), uint256)
    m <<= apart
    m = unsafe_add(m, n) if (a ^ b) & SIGN == 0 else unsafe_sub(m, n)
    if m == 0:
        return a & b & SIGN
    return self.pack(big & SIGN, m, unsafe_sub(e, convert(apart, int256)))


@internal
@pure
def f32_mul(a: uint256, b: uint256) -> uint256:
    """
    @notice a * b. 0 * inf is NaN.
    """
    sign: uint256 = (a ^ b) & SIGN
    x: uint256 = a & MAGNITUDE
    y: uint256 = b & MAGNITUDE
    if max(x, y) >= INFINITY:
        return NAN if max(x, y) > INFINITY or min(x, y) == 0 else sign | INFINITY
    m: uint256 = 0
    e: int256 = 0
    m, e = self.unpack(a)
    n: uint256 = 0
    f: int256 = 0
    n, f = self.unpack(b)
    return self.pack(sign, unsafe_mul(m, n), unsafe_add(e, f))


@internal
@pure
def f32_div(a: uint256, b: uint256) -> uint256:
    """
    @notice a / b. x / 0 is a signed infinity; 0 / 0 and inf / inf are NaN.
    """
    sign: uint256 = (a ^ b) & SIGN
    x: uint256 = a & MAGNITUDE
    y: uint256 = b & MAGNITUDE
    if max(x, y) >= INFINITY:
        if max(x, y) > INFINITY or x == y:
            return NAN
        return sign | INFINITY if x == INFINITY else sign
    if y == 0:
        return NAN if x == 0 else sign | INFINITY
    m: uint256 = 0
    e: int256 = 0
    m, e = self.unpack(a)
    n: uint256 = 0
    f: int256 = 0
    n, f = self.unpack(b)
    m <<= 50
    sticky: uint256 = min(m % n, 1)
    return self.pack(sign, ((m // n) << 1) | sticky, unsafe_sub(unsafe_sub(e, f), 51))


@internal
@pure
def f32_sqrt(a: uint256) -> uint256:
    """
    @notice The square root. sqrt(-0) is -0; of any other negative number it is NaN.
    """
    if a & MAGNITUDE == 0 or a == INFINITY:
        return a
    if a > INFINITY:
        return NAN
    m: uint256 = 0
    e: int256 = 0
    m, e = self.unpack(a)
    odd: int256 = e & 1
    m <<= convert(unsafe_add(60, odd), uint256)
    root: uint256 = isqrt(m)
    sticky: uint256 = min(unsafe_sub(m, unsafe_mul(root, root)), 1)
    return self.pack(0, (root << 1) | sticky, unsafe_sub(unsafe_sub(unsafe_sub(e, 60), odd) >> 1, 1))


@internal
@pure
def f32_ldexp(a: uint256, k: int256) -> uint256:
    """
    @notice a * 2^k for any k. Zeros, infinities and NaN keep their kind.
    """
    if a & MAGNITUDE >= INFINITY:
        return NAN if self.is_nan(a) else a
    m: uint256 = 0
    e: int256 = 0
    m, e = self.unpack(a)
    return self.pack(a & SIGN, m, unsafe_add(e, max(-FAR, min(FAR, k))))


@internal
@pure
def f32_scaled(c: int256, k: int256) -> uint256:
    """
    @notice c * 2^k for any 64-bit c and any k. Zero gives +0.
    """
    sign: uint256 = SIGN if c < 0 else 0
    return self.pack(sign, convert(abs(c), uint256), max(-FAR, min(FAR, k)))


@internal
@pure
def f32_round(a: uint256) -> int256:
    """
    @notice The nearest 32-bit integer, ties to even, saturating at both ends; NaN gives 0.
    """
    if self.is_nan(a):
        return 0
    m: uint256 = 0
    e: int256 = 0
    m, e = self.unpack(a)
    whole: int256 = 2**31  # what every magnitude from 2^31 on saturates to, but for the sign
    if e < 8:
        # A 24-bit significand times 2^-30 or less rounds to zero, whatever the exponent.
        wide: uint256 = m << 38
        cut: uint256 = convert(unsafe_sub(38, max(e, -30)), uint256)
        whole = convert(self.shift_to_even(wide, cut), int256)
    return -whole if a & SIGN != 0 else min(whole, 2**31 - 1)


@internal
@pure
def order(a: uint256) -> int256:
    """
    @notice An integer that orders all patterns but NaN as the numbers they stand for, both zeros alike.
    """
    magnitude: int256 = convert(a & MAGNITUDE, int256)
    return -magnitude if a & SIGN != 0 else magnitude
