// Two messages at a time with the SHA instructions of x86: each waits for itself, so that two fill the unit.
//
// This file must not be compiled for AVX: the instructions have no VEX form, and mixing both costs a hundredfold.
#if defined(__x86_64__)
#include <cstddef>
#include <cstdint>
#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("sha,sse4.1,ssse3"))), apply_to = function)
#else
#pragma GCC target("sha,sse4.1,ssse3")
#include <immintrin.h>
#endif
#include "sha256.hpp"

namespace {

using T = __m128i;
constexpr int STREAMS = 2;

struct Stream {
    T abef, cdgh;
    T w[4];
};

inline void start(Stream &s) {
    s.abef = _mm_set_epi32(int(sha256::START[0]), int(sha256::START[1]), int(sha256::START[4]), int(sha256::START[5]));
    s.cdgh = _mm_set_epi32(int(sha256::START[2]), int(sha256::START[3]), int(sha256::START[6]), int(sha256::START[7]));
}

inline T swapped(T x) { return _mm_shuffle_epi8(x, _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3)); }

// 64 rounds over the block that each stream's w holds as big-endian words.
inline void compress(Stream (&streams)[STREAMS]) {
    T abef[STREAMS], cdgh[STREAMS];
    for (int j = 0; j < STREAMS; j++) abef[j] = streams[j].abef, cdgh[j] = streams[j].cdgh;
#pragma GCC unroll 16
    for (int t = 0; t < 16; t++) {
        const T key = _mm_load_si128((const T *)(sha256::K + 4 * t));
#pragma GCC unroll 2
        for (int j = 0; j < STREAMS; j++) {
            Stream &s = streams[j];
            T &w = s.w[t & 3];
            if (t >= 4) {
                const T &w1 = s.w[(t + 1) & 3], &w2 = s.w[(t + 2) & 3], &w3 = s.w[(t + 3) & 3];
                w = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w, w1), _mm_alignr_epi8(w3, w2, 4)), w3);
            }
            const T keyed = _mm_add_epi32(w, key);
            s.cdgh = _mm_sha256rnds2_epu32(s.cdgh, s.abef, keyed);
            s.abef = _mm_sha256rnds2_epu32(s.abef, s.cdgh, _mm_shuffle_epi32(keyed, 0x0e));
        }
    }
    for (int j = 0; j < STREAMS; j++) {
        streams[j].abef = _mm_add_epi32(streams[j].abef, abef[j]);
        streams[j].cdgh = _mm_add_epi32(streams[j].cdgh, cdgh[j]);
    }
}

inline void finish(const Stream &s, uint8_t *digest) {
    const T feba = _mm_shuffle_epi32(s.abef, 0x1b), dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);
    _mm_storeu_si128((T *)digest, swapped(_mm_blend_epi16(feba, dchg, 0xf0)));
    _mm_storeu_si128((T *)(digest + 16), swapped(_mm_alignr_epi8(dchg, feba, 8)));
}

}  // namespace

void sha256::hash_ni(const uint8_t *bodies, size_t count, size_t blocks, uint8_t prefix, uint8_t *digests) {
    const size_t length = BLOCK * blocks;
    for (size_t at = 0; at < count; at += STREAMS) {
        Stream streams[STREAMS];
        const uint8_t *rows[STREAMS];  // where one message is left, both do it
        for (int j = 0; j < STREAMS; j++) {
            rows[j] = bodies + (at + j < count ? at + j : at) * length;
            start(streams[j]);
        }
        for (size_t block = 0; block < blocks; block++) {
            for (int j = 0; j < STREAMS; j++)
                for (int i = 0; i < 4; i++)
                    streams[j].w[i] = swapped(_mm_loadu_si128((const T *)(rows[j] + BLOCK * block + 16 * i - 1)));
            if (block == 0)
                for (Stream &s : streams)
                    s.w[0] = _mm_or_si128(_mm_and_si128(s.w[0], _mm_set_epi32(-1, -1, -1, 0x00ffffff)), _mm_cvtsi32_si128(prefix << 24));
            compress(streams);
        }
        for (int j = 0; j < STREAMS; j++) {
            streams[j].w[0] = _mm_cvtsi32_si128(int(uint32_t(rows[j][length - 1]) << 24 | 0x800000));
            streams[j].w[1] = streams[j].w[2] = _mm_setzero_si128();
            streams[j].w[3] = _mm_set_epi32(int(tail_bits(blocks)), 0, 0, 0);
        }
        compress(streams);
        for (int j = 0; j < STREAMS && at + j < count; j++) finish(streams[j], digests + (at + j) * DIGEST);
    }
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
