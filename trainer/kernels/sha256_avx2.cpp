// Eight messages at a time with AVX2.
#if defined(__x86_64__)
#include <cstddef>
#include <cstdint>
#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#include <immintrin.h>
#endif
#include "sha256_lanes.hpp"

namespace {

struct Avx2 {
    using T = __m256i;
    static constexpr size_t LANES = 8;
    static inline T all(uint32_t x) { return _mm256_set1_epi32(int(x)); }
    static inline T load(const uint32_t *from) { return _mm256_load_si256((const T *)from); }
    static inline void store(uint32_t *to, T x) { _mm256_store_si256((T *)to, x); }
    static inline T add(T a, T b) { return _mm256_add_epi32(a, b); }
    template <int N> static inline T shift(T x) { return _mm256_srli_epi32(x, N); }
    template <int N> static inline T rotate(T x) { return _mm256_or_si256(_mm256_srli_epi32(x, N), _mm256_slli_epi32(x, 32 - N)); }
    static inline T xor3(T a, T b, T c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
    static inline T choose(T e, T f, T g) { return _mm256_xor_si256(_mm256_and_si256(e, _mm256_xor_si256(f, g)), g); }
    static inline T majority(T a, T b, T c) {
        return _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)));
    }
    static inline T with_top_byte(T x, uint8_t byte) {
        return _mm256_or_si256(_mm256_and_si256(x, all(0x00ffffff)), all(uint32_t(byte) << 24));
    }

    // The 16 big-endian words from byte at-1 of each row, transposed, eight at a time.
    static inline void words(const uint8_t *const *rows, size_t at, T (&w)[16]) {
        const T swap = _mm256_broadcastsi128_si256(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
        for (int half = 0; half < 2; half++) {
            T x[8], y[8];
            for (int i = 0; i < 8; i++)
                x[i] = _mm256_shuffle_epi8(_mm256_loadu_si256((const T *)(rows[i] + at + 32 * half - 1)), swap);
            for (int i = 0; i < 8; i += 2) {
                y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
                y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
            }
            for (int i = 0; i < 8; i += 4) {
                x[i] = _mm256_unpacklo_epi64(y[i], y[i + 2]);
                x[i + 1] = _mm256_unpackhi_epi64(y[i], y[i + 2]);
                x[i + 2] = _mm256_unpacklo_epi64(y[i + 1], y[i + 3]);
                x[i + 3] = _mm256_unpackhi_epi64(y[i + 1], y[i + 3]);
            }
            for (int i = 0; i < 4; i++) {
                w[8 * half + i] = _mm256_permute2x128_si256(x[i], x[4 + i], 0x20);
                w[8 * half + 4 + i] = _mm256_permute2x128_si256(x[i], x[4 + i], 0x31);
            }
        }
    }
};

}  // namespace

void sha256::hash_avx2(const uint8_t *bodies, size_t count, size_t blocks, uint8_t prefix, uint8_t *digests) {
    Lanes<Avx2>::hash(bodies, count, blocks, prefix, digests);
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
