# pragma version 0.4.3
# @title The instructions of scalar programs
# @license Apache-2.0
# @notice The table of bisection/scalar.py. A register is an int256 that always holds a signed 64-bit value; an instruction reads it as
#         a float (the low 32 bits, a pattern), a word (the low 32 bits, signed) or a long (all 64), and stores its result sign-extended.
#         The pair of shifts `(x << 224) >> 224` extends the sign of the low 32 bits.

from modules import soft_float

LOW_32: constant(int256) = 2**32 - 1

# Bit c stands for instruction code c: 1 to 11 work on floats, 16 to 30 on words, 32 to 46 on longs.
INSTRUCTIONS: constant(uint256) = (2**12 - 2) + ((2**15 - 1) << 16) + ((2**15 - 1) << 32)


@internal
@pure
def wrap(x: int256, width: uint256) -> int256:
    """
    @notice The signed `width`-bit integer congruent to x modulo 2^width; 1 <= width <= 256.
    """
    spare: uint256 = unsafe_sub(256, width)
    return (x << spare) >> spare


@internal
@pure
def apply(code: uint256, x: int256, y: int256, z: int256) -> int256:
    """
    @notice The register that instruction `code` makes of the registers x, y and z. The functions below take existing codes only.
    """
    assert (INSTRUCTIONS >> code) & 1 == 1, "referee: unknown instruction"
    if code < 16:
        return self._float(code, x, y)
    if code < 32:
        return self._integer(unsafe_sub(code, 16), 32, (x << 224) >> 224, (y << 224) >> 224, (z << 224) >> 224)
    return self._integer(unsafe_sub(code, 32), 64, x, y, z)


@internal
@pure
def _float(code: uint256, x: int256, y: int256) -> int256:
    """
    @notice The instructions that read or write a float.
    """
    a: uint256 = convert(x & LOW_32, uint256)
    b: uint256 = convert(y & LOW_32, uint256)
    bits: uint256 = 0
    if code < 6:
        if code < 3:
            # A subtraction is an addition of the negated pattern; negating a NaN leaves a NaN.
            bits = soft_float.f32_add(a, b ^ (unsafe_sub(code, 1) << 31))
        elif code == 3:
            bits = soft_float.f32_mul(a, b)
        elif code == 4:
            bits = soft_float.f32_div(a, b)
        else:
            bits = soft_float.f32_sqrt(a)
    elif code == 6:
        bits = soft_float.f32_ldexp(a, (y << 224) >> 224)
    elif code == 11:
        bits = soft_float.f32_scaled(x, (y << 224) >> 224)
    elif code == 10:
        return soft_float.f32_round(a)
    else:
        if soft_float.is_nan(a) or soft_float.is_nan(b):
            return 0
        # Not a NaN: 7 less, 8 less or equal, 9 equal.
        return self._compare(unsafe_sub(code, 7), soft_float.order(a), soft_float.order(b))
    return (convert(bits, int256) << 224) >> 224


@internal
@pure
def _compare(relation: uint256, a: int256, b: int256) -> int256:
    """
    @notice Whether a < b (relation 0), a <= b (1) or a == b (2), as 1 or 0.
    """
    if a == b:
        return convert(relation != 0, int256)
    return convert(a < b and relation != 2, int256)


@internal
@pure
def _integer(operation: uint256, width: uint256, a: int256, b: int256, c: int256) -> int256:
    """
    @notice The integer instructions at one width, on operands of that width.
    @custom:security Arithmetic is unchecked: 64-bit operands keep every exact result below 2^127, and `wrap` cuts it to the width.
    """
    if operation < 6:
        if operation < 3:
            if operation == 0:
                return self.wrap(unsafe_add(a, b), width)
            if operation == 1:
                return self.wrap(unsafe_sub(a, b), width)
            return self.wrap(unsafe_mul(a, b), width)
        if operation == 3:
            return a & b
        if operation == 4:
            return a | b
        return a ^ b
    if operation < 9:
        # Past the width a shift by 255 does the same: it leaves nothing but the sign.
        amount: uint256 = 255
        if b >= 0 and b < convert(width, int256):
            amount = convert(b, uint256)
        if operation == 6:
            return self.wrap(a << amount, width)
        if operation == 7:
            return a >> amount
        low_bits: int256 = unsafe_sub(1 << width, 1)
        return self.wrap((a & low_bits) >> amount, width)
    if operation < 11:
        if b == 0:
            return 0
        # The EVM divides towards zero; these round down, so that the remainder has the sign of the divisor.
        remainder: int256 = a % b
        down: bool = remainder != 0 and (remainder ^ b) < 0
        if operation == 9:
            return self.wrap(unsafe_sub(unsafe_div(a, b), convert(down, int256)), width)
        return unsafe_add(remainder, b) if down else remainder
    if operation < 14:
        return self._compare(unsafe_sub(operation, 11), a, b)
    return b if a != 0 else c
