// Sixteen messages at a time with AVX-512.
#if defined(__x86_64__)
#include <cstddef>
#include <cstdint>
#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw")
#include <immintrin.h>
#endif
#include "sha256_lanes.hpp"

namespace {

struct Avx512 {
    using T = __m512i;
    static constexpr size_t LANES = 16;
    static inline T all(uint32_t x) { return _mm512_set1_epi32(int(x)); }
    static inline T load(const uint32_t *from) { return _mm512_load_si512(from); }
    static inline void store(uint32_t *to, T x) { _mm512_store_si512(to, x); }
    static inline T add(T a, T b) { return _mm512_add_epi32(a, b); }
    template <int N> static inline T rotate(T x) { return _mm512_ror_epi32(x, N); }
    template <int N> static inline T shift(T x) { return _mm512_srli_epi32(x, N); }
    static inline T xor3(T a, T b, T c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
    static inline T choose(T e, T f, T g) { return _mm512_ternarylogic_epi32(e, f, g, 0xca); }
    static inline T majority(T a, T b, T c) { return _mm512_ternarylogic_epi32(a, b, c, 0xe8); }
    static inline T with_top_byte(T x, uint8_t byte) {
        return _mm512_or_si512(_mm512_and_si512(x, all(0x00ffffff)), all(uint32_t(byte) << 24));
    }

    // The 16 big-endian words from byte at-1 of each row, transposed: within 128-bit quarters first, then the quarters.
    static inline void words(const uint8_t *const *rows, size_t at, T (&w)[16]) {
        const T swap = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
        T x[16], y[16];
        for (int i = 0; i < 16; i++) x[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(rows[i] + at - 1), swap);
        for (int i = 0; i < 16; i += 2) {
            y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
            y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {
            x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
            x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
            x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
            x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
        }
        for (int i = 0; i < 4; i++) {
            const T a = _mm512_shuffle_i32x4(x[i], x[4 + i], 0x88), b = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0x88);
            const T c = _mm512_shuffle_i32x4(x[i], x[4 + i], 0xdd), d = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0xdd);
            w[i] = _mm512_shuffle_i32x4(a, b, 0x88);
            w[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
            w[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
            w[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
        }
    }
};

}  // namespace

void sha256::hash_avx512(const uint8_t *bodies, size_t count, size_t blocks, uint8_t prefix, uint8_t *digests) {
    Lanes<Avx512>::hash(bodies, count, blocks, prefix, digests);
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
