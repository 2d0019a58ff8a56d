// The vectors that the dot kernels use: as wide as the instruction set has them, with the few operations that the language lacks.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512BW__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int HALF = LANES / 2;

// Sums are unsigned where they may wrap.
typedef uint32_t U32 __attribute__((vector_size(4 * LANES)));
typedef int32_t I32 __attribute__((vector_size(4 * LANES)));
typedef int32_t HalfI32 __attribute__((vector_size(4 * HALF)));
typedef uint64_t U64 __attribute__((vector_size(8 * HALF)));
typedef int64_t I64 __attribute__((vector_size(8 * HALF)));
typedef double F64 __attribute__((vector_size(8 * HALF)));

template <class Vector>
inline Vector load(const void* from) {
    Vector x;
    memcpy(&x, from, sizeof x);
    return x;
}

template <class Vector>
inline void store(void* to, Vector x) {
    memcpy(to, &x, sizeof x);
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define DOT_BYTES 1
// sum + the four products of bytes in each lane: b unsigned, a signed. Unlike vpmaddubsw, it does not saturate.
inline U32 multiply_bytes(U32 sum, U32 b, U32 a) {
    return (U32)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)b, (__m512i)a);
}
#elif defined(__AVXVNNI__) && !defined(__AVX512BW__)
#define DOT_BYTES 1
inline U32 multiply_bytes(U32 sum, U32 b, U32 a) {
    return (U32)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)b, (__m256i)a);
}
#else
#define DOT_BYTES 0
#endif

// sum + the two products of signed 16-bit halves in each lane, modulo 2^32.
inline U32 multiply_halves(U32 sum, U32 b, U32 a) {
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    return (U32)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)b, (__m512i)a);
#elif defined(__AVX512BW__)
    return sum + (U32)_mm512_madd_epi16((__m512i)b, (__m512i)a);
#elif defined(__AVXVNNI__)
    return (U32)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)b, (__m256i)a);
#elif defined(__AVX2__)
    return sum + (U32)_mm256_madd_epi16((__m256i)b, (__m256i)a);
#elif defined(__SSE2__)
    return sum + (U32)_mm_madd_epi16((__m128i)b, (__m128i)a);
#else
    U32 low = (U32)((I32)(b << 16) >> 16) * (U32)((I32)(a << 16) >> 16);
    return sum + low + (U32)((I32)b >> 16) * (U32)((I32)a >> 16);
#endif
}

// sum + a·b modulo 2^64, where every lane of a and b holds an int32.
inline U64 multiply_int32(U64 sum, I64 b, I64 a) {
#if defined(__AVX512BW__)
    return sum + (U64)_mm512_mul_epi32((__m512i)b, (__m512i)a);
#elif defined(__AVX2__)
    return sum + (U64)_mm256_mul_epi32((__m256i)b, (__m256i)a);
#elif defined(__SSE4_1__)
    return sum + (U64)_mm_mul_epi32((__m128i)b, (__m128i)a);
#else
    return sum + (U64)b * (U64)a;
#endif
}

// sum + a·b; whether it rounds once or twice does not matter where both are exact.
inline F64 multiply_double(F64 sum, F64 b, F64 a) {
#if defined(__AVX512BW__)
    return (F64)_mm512_fmadd_pd((__m512d)b, (__m512d)a, (__m512d)sum);
#elif defined(__AVX2__) && defined(__FMA__)
    return (F64)_mm256_fmadd_pd((__m256d)b, (__m256d)a, (__m256d)sum);
#else
    return sum + b * a;
#endif
}

// The lower (0) or upper (1) half of x, its signs extended.
template <int HIGH>
inline U64 widen(U32 x) {
#if defined(__AVX512BW__)
    return (U64)_mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64((__m512i)x, HIGH));
#elif defined(__AVX2__)
    return (U64)_mm256_cvtepi32_epi64(_mm256_extracti128_si256((__m256i)x, HIGH));
#else
    return (U64)__builtin_convertvector(load<HalfI32>((const char*)&x + HIGH * sizeof(HalfI32)), I64);
#endif
}

// x[i][j] becomes x[j][i]: blocks of ever smaller size trade places across the diagonal (Eklundh 1972).
inline void transpose(U32 (&x)[LANES]) {
#if defined(__AVX512BW__)
#pragma GCC unroll 4
    for (int d = LANES / 2; d; d /= 2) {
        U32 lane, first, second;
#pragma GCC unroll 16
        for (uint32_t j = 0; j < LANES; j++) lane[j] = j;
        first = (lane & d) ? lane + (LANES - d) : lane;
        second = (lane & d) ? lane + LANES : lane + d;
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            if (i & d) continue;
            __m512i upper = (__m512i)x[i], lower = (__m512i)x[i + d];
            x[i] = (U32)_mm512_permutex2var_epi32(upper, (__m512i)first, lower);
            x[i + d] = (U32)_mm512_permutex2var_epi32(upper, (__m512i)second, lower);
        }
    }
#else
    uint32_t from[LANES][LANES], to[LANES][LANES];
    memcpy(from, x, sizeof from);
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) to[j][i] = from[i][j];
    memcpy(x, to, sizeof to);
#endif
}

}  // namespace
