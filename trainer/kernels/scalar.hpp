// The C++ face of every scalar instruction: the bits of bisection/scalar.py. trainer/kernels/emit.py writes programs over these.
//
// Operands come in their views: F as float, W as int32_t, L as int64_t. A float result may be any NaN: `canonical` makes it the
// one NaN where its bits can be seen. Everything is free of branches, so that compilers turn loops over it into vectors.
#pragma once

typedef __INT8_TYPE__ int8_t;
typedef __INT16_TYPE__ int16_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define FACE static inline __attribute__((always_inline))

// Views

FACE float as_float(int32_t w) { return __builtin_bit_cast(float, w); }
FACE int32_t as_word(float f) { return __builtin_bit_cast(int32_t, f); }
FACE float canonical(float x) { return x == x ? x : as_float(0x7fc00000); }

// Floats

FACE float fadd(float a, float b) { return a + b; }
FACE float fsub(float a, float b) { return a - b; }
FACE float fmul(float a, float b) { return a * b; }
FACE float fdiv(float a, float b) { return a / b; }
FACE float fsqrt(float a) { return __builtin_sqrtf(a); }
FACE int32_t flt(float a, float b) { return a < b; }
FACE int32_t fle(float a, float b) { return a <= b; }
FACE int32_t feq(float a, float b) { return a == b; }

// 2^k as a double, for |k| up to 600: far past what a float can feel, far inside what a double holds exactly.
FACE double power(int32_t k) {
    k = k < -600 ? -600 : k;
    k = k > 600 ? 600 : k;
    return __builtin_bit_cast(double, (int64_t)(k + 1023) << 52);
}

FACE float ldexp(float x, int32_t k) { return (float)((double)x * power(k)); }

FACE int32_t round(float x) {
    float inside = x == x ? x : 0.0f;
    inside = inside < -2147483648.0f ? -2147483648.0f : inside;
    inside = inside > 2147483520.0f ? 2147483520.0f : inside;  // the largest float below 2^31
    int32_t whole = (int32_t)__builtin_rintf(inside);
    return x >= 2147483648.0f ? 2147483647 : whole;
}

// c·2^k for an int32_t c, which a double holds exactly.
FACE float scaled_word(int32_t c, int32_t k) { return (float)((double)c * power(k)); }

// From 2^53 on the low 11 bits are folded into a sticky bit (rounding to odd), so that only the last conversion rounds.
FACE float scaled(int64_t c, int32_t k) {
    bool large = c >= (int64_t)1 << 53 || c <= -((int64_t)1 << 53);
    int64_t odd = large ? (c >> 11) | (int64_t)((c & 2047) != 0) : c;
    double value = (double)odd * power(k);
    return (float)(large ? value * 2048.0 : value);
}

// Integers, at 32 and at 64 bits. Arithmetic wraps, shift amounts are unsigned.

#define INTEGERS(BITS)                                                                                                          \
    FACE int##BITS##_t add##BITS(int##BITS##_t a, int##BITS##_t b) { return (uint##BITS##_t)a + (uint##BITS##_t)b; }            \
    FACE int##BITS##_t sub##BITS(int##BITS##_t a, int##BITS##_t b) { return (uint##BITS##_t)a - (uint##BITS##_t)b; }            \
    FACE int##BITS##_t mul##BITS(int##BITS##_t a, int##BITS##_t b) { return (uint##BITS##_t)a * (uint##BITS##_t)b; }            \
    FACE int##BITS##_t and##BITS(int##BITS##_t a, int##BITS##_t b) { return a & b; }                                            \
    FACE int##BITS##_t or##BITS(int##BITS##_t a, int##BITS##_t b) { return a | b; }                                             \
    FACE int##BITS##_t xor##BITS(int##BITS##_t a, int##BITS##_t b) { return a ^ b; }                                            \
    FACE int##BITS##_t shl##BITS(int##BITS##_t a, int##BITS##_t b) {                                                            \
        int##BITS##_t moved = (uint##BITS##_t)a << (b & (BITS - 1));                                                            \
        return (uint##BITS##_t)b < BITS ? moved : 0;                                                                            \
    }                                                                                                                           \
    FACE int##BITS##_t shr##BITS(int##BITS##_t a, int##BITS##_t b) { return a >> ((uint##BITS##_t)b < BITS ? b : BITS - 1); }   \
    FACE int##BITS##_t ushr##BITS(int##BITS##_t a, int##BITS##_t b) {                                                           \
        int##BITS##_t moved = (uint##BITS##_t)a >> (b & (BITS - 1));                                                            \
        return (uint##BITS##_t)b < BITS ? moved : 0;                                                                            \
    }                                                                                                                           \
    FACE int32_t lt##BITS(int##BITS##_t a, int##BITS##_t b) { return a < b; }                                                   \
    FACE int32_t le##BITS(int##BITS##_t a, int##BITS##_t b) { return a <= b; }                                                  \
    FACE int32_t eq##BITS(int##BITS##_t a, int##BITS##_t b) { return a == b; }                                                  \
    FACE int##BITS##_t select##BITS(int##BITS##_t c, int##BITS##_t a, int##BITS##_t b) { return c != 0 ? a : b; }

INTEGERS(32)
INTEGERS(64)

// Division floors, and by zero gives zero. It goes through doubles, which vectors can divide: a first quotient is off by at most
// 2^11, a second one of what is left by at most 1, which the last step repairs.

FACE int64_t near_quotient(int64_t a, int64_t b) {
    double q = (double)a / (double)b;
    q = q > 9223372036854774784.0 ? 9223372036854774784.0 : q;  // the largest double below 2^63
    return (int64_t)q;
}

FACE int64_t div64(int64_t a, int64_t b) {
    int64_t by = b == 0 || b == -1 ? 1 : b;
    int64_t q = near_quotient(a, by);
    int64_t rest = sub64(a, mul64(q, by));
    int64_t more = near_quotient(rest, by);
    q = add64(q, more);
    rest = sub64(rest, mul64(more, by));
    // Now |rest| <= |by|; the floored quotient leaves a rest of the divisor's sign (or 0) that is smaller than it.
    q = q + (by > 0 ? (int64_t)(rest >= by) : (int64_t)(rest <= by)) - (by > 0 ? (int64_t)(rest < 0) : (int64_t)(rest > 0));
    return b == 0 ? 0 : b == -1 ? sub64(0, a) : q;
}

FACE int64_t mod64(int64_t a, int64_t b) { return b == 0 ? 0 : sub64(a, mul64(div64(a, b), b)); }

FACE int32_t div32(int32_t a, int32_t b) {
    int32_t by = b == 0 || b == -1 ? 1 : b;
    int32_t q = (int32_t)__builtin_floor((double)a / (double)by);  // exact: a quotient that is no integer lies 2^-31 from any
    return b == 0 ? 0 : b == -1 ? sub32(0, a) : q;
}

FACE int32_t mod32(int32_t a, int32_t b) { return b == 0 ? 0 : sub32(a, mul32(div32(a, b), b)); }
