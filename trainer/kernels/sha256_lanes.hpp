// SHA-256 of V::LANES messages side by side: lane l of every vector belongs to message l.
#pragma once

#include "sha256.hpp"

namespace sha256 {

template <class V>
struct Lanes {
    using T = typename V::T;
    static constexpr size_t N = V::LANES;

    // 16 rounds: the first ones (EXPAND false) take the block's words, the others make the next 16 of them.
    template <bool EXPAND>
    static inline void rounds(T (&s)[8], T (&w)[16], const uint32_t *keys) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            T &a = s[(16 - i) & 7], &b = s[(17 - i) & 7], &c = s[(18 - i) & 7], &d = s[(19 - i) & 7];
            T &e = s[(20 - i) & 7], &f = s[(21 - i) & 7], &g = s[(22 - i) & 7], &h = s[(23 - i) & 7];
            if (EXPAND) {
                const T old = w[(i + 1) & 15], late = w[(i + 14) & 15];
                const T s0 = V::xor3(V::template rotate<7>(old), V::template rotate<18>(old), V::template shift<3>(old));
                const T s1 = V::xor3(V::template rotate<17>(late), V::template rotate<19>(late), V::template shift<10>(late));
                w[i] = V::add(V::add(w[i], s0), V::add(w[(i + 9) & 15], s1));
            }
            const T sum1 = V::xor3(V::template rotate<6>(e), V::template rotate<11>(e), V::template rotate<25>(e));
            const T sum0 = V::xor3(V::template rotate<2>(a), V::template rotate<13>(a), V::template rotate<22>(a));
            const T keyed = V::add(h, V::add(w[i], V::all(keys[i])));
            const T first = V::add(keyed, V::add(sum1, V::choose(e, f, g)));
            d = V::add(d, first);
            h = V::add(first, V::add(sum0, V::majority(a, b, c)));
        }
    }

    // 64 rounds over one block of each message; `w` holds its 16 words.
    static inline void compress(T (&state)[8], T (&w)[16]) {
        T s[8];
        for (int i = 0; i < 8; i++) s[i] = state[i];
        rounds<false>(s, w, K);
        for (int t = 16; t < 64; t += 16) rounds<true>(s, w, K + t);
        for (int i = 0; i < 8; i++) state[i] = V::add(state[i], s[i]);
    }

    static inline void hash(const uint8_t *bodies, size_t count, size_t blocks, uint8_t prefix, uint8_t *digests) {
        const size_t length = BLOCK * blocks;
        for (size_t at = 0; at < count; at += N) {
            const size_t here = count - at < N ? count - at : N;
            const uint8_t *rows[N];  // lanes beyond the last message do its work again
            for (size_t lane = 0; lane < N; lane++) rows[lane] = bodies + (at + (lane < here ? lane : here - 1)) * length;
            T state[8], w[16];
            for (int i = 0; i < 8; i++) state[i] = V::all(START[i]);
            for (size_t block = 0; block < blocks; block++) {
                V::words(rows, BLOCK * block, w);
                if (block == 0) w[0] = V::with_top_byte(w[0], prefix);
                compress(state, w);
            }
            alignas(64) uint32_t ends[N];
            for (size_t lane = 0; lane < N; lane++) ends[lane] = uint32_t(rows[lane][length - 1]) << 24 | 0x800000;
            w[0] = V::load(ends);
            for (int i = 1; i < 15; i++) w[i] = V::all(0);
            w[15] = V::all(tail_bits(blocks));
            compress(state, w);
            alignas(64) uint32_t words[8][N];
            for (int i = 0; i < 8; i++) V::store(words[i], state[i]);
            for (size_t lane = 0; lane < here; lane++)
                for (int i = 0; i < 8; i++) {
                    const uint32_t word = __builtin_bswap32(words[i][lane]);
                    __builtin_memcpy(digests + (at + lane) * DIGEST + 4 * i, &word, 4);
                }
        }
    }
};

}  // namespace sha256
