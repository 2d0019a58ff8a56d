// Merkle trees over SHA-256, as bisection/merkle.py defines them, on as many threads as wanted.
#include "sha256_lanes.hpp"

#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sha256 {
namespace {

constexpr size_t LEAF = 256;
constexpr int CHUNK_HEIGHT = 12;  // a thread takes 2^12 leaves at a time: 1 MiB, whose digests stay in its cache
constexpr size_t CHUNK_LEAVES = size_t(1) << CHUNK_HEIGHT;
constexpr int MOST_LEVELS = 64;

// One message ----------------------------------------------------------------------------------------------------------

inline uint32_t word_at(const uint8_t *bytes) {
    uint32_t word;
    std::memcpy(&word, bytes, 4);
    return __builtin_bswap32(word);
}

// N messages at a time in the compiler's own vectors, which every processor can do somehow.
template <size_t N, class Vector>
struct Plain {
    using T = Vector;
    static constexpr size_t LANES = N;
    static inline T all(uint32_t x) { return T{} + x; }
    static inline T load(const uint32_t *from) {
        T x;
        std::memcpy(&x, from, sizeof x);
        return x;
    }
    static inline void store(uint32_t *to, T x) { std::memcpy(to, &x, sizeof x); }
    static inline T add(T a, T b) { return a + b; }
    template <int BY> static inline T rotate(T x) { return x >> BY | x << (32 - BY); }
    template <int BY> static inline T shift(T x) { return x >> BY; }
    static inline T xor3(T a, T b, T c) { return a ^ b ^ c; }
    static inline T choose(T e, T f, T g) { return (e & (f ^ g)) ^ g; }
    static inline T majority(T a, T b, T c) { return (a & b) | (c & (a | b)); }
    static inline T with_top_byte(T x, uint8_t byte) { return (x & 0x00ffffff) | uint32_t(byte) << 24; }

    static inline void words(const uint8_t *const *rows, size_t at, T (&w)[16]) {
        for (int i = 0; i < 16; i++) {
            uint32_t row[N];
            for (size_t lane = 0; lane < N; lane++) row[lane] = word_at(rows[lane] + at + 4 * i - 1);
            w[i] = load(row);
        }
    }
};

typedef uint32_t Four __attribute__((vector_size(16)));
using OneLane = Lanes<Plain<1, uint32_t>>;
using FourLanes = Lanes<Plain<4, Four>>;

// The digest of a prefix byte and a body of at most LEAF bytes.
void hash_one(uint8_t prefix, const uint8_t *body, size_t length, uint8_t *digest) {
    uint8_t message[LEAF + BLOCK] = {prefix};
    if (length) std::memcpy(message + 1, body, length);
    message[1 + length] = 0x80;
    const size_t size = (1 + length + 9 + BLOCK - 1) / BLOCK * BLOCK;
    const uint32_t bits = __builtin_bswap32(uint32_t(8 * (1 + length)));
    std::memcpy(message + size - 4, &bits, 4);
    uint32_t state[8], words[16];
    std::memcpy(state, START, sizeof state);
    for (size_t at = 0; at < size; at += BLOCK) {
        for (int i = 0; i < 16; i++) words[i] = word_at(message + at + 4 * i);
        OneLane::compress(state, words);
    }
    for (int i = 0; i < 8; i++) {
        const uint32_t word = __builtin_bswap32(state[i]);
        std::memcpy(digest + 4 * i, &word, 4);
    }
}

// What this processor has ----------------------------------------------------------------------------------------------

enum Backend { NI, AVX512, AVX2, PORTABLE };

#if defined(__x86_64__)
// What the processor has and the system keeps: vectors of 256 and 512 bits count only if a change of threads saves them.
bool x86_has(int backend) {
    unsigned a, b, c, d, features, saved = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    if (c >> 27 & 1) asm volatile("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    const bool sse = (c >> 9 & 1) && (c >> 19 & 1);  // SSSE3 and SSE4.1
    if (!__get_cpuid_count(7, 0, &a, &features, &b, &d)) return false;
    switch (backend) {
        case NI: return sse && (features >> 29 & 1);
        case AVX512: return (saved & 0xe6) == 0xe6 && (features >> 16 & 1) && (features >> 30 & 1);
        case AVX2: return (saved & 6) == 6 && (features >> 5 & 1);
    }
    return false;
}
#endif

bool has(int backend) {
#if defined(__x86_64__)
    if (x86_has(backend)) return true;
#endif
    return backend == PORTABLE;
}

Hash *hash_of(int backend) {
#if defined(__x86_64__)
    switch (backend) {
        case NI: return hash_ni;
        case AVX512: return hash_avx512;
        case AVX2: return hash_avx2;
    }
#endif
    return hash_portable;
}

// Trees ----------------------------------------------------------------------------------------------------------------

size_t leaves_of(size_t size) { return size ? (size + LEAF - 1) / LEAF : 1; }

size_t chunks_of(size_t size) { return (leaves_of(size) + CHUNK_LEAVES - 1) / CHUNK_LEAVES; }

int depth_of(size_t count) {
    int depth = 0;
    while ((size_t(1) << depth) < count) depth++;
    return depth;
}

// The digests above `count` digests; an odd one has the empty digest at its right. Returns how many there are.
size_t parents(Hash *hash, const uint8_t *below, size_t count, uint8_t *above) {
    hash(below, count / 2, 1, 1, above);
    if (count % 2) {
        uint8_t pair[2 * DIGEST] = {};
        std::memcpy(pair, below + (count - 1) * DIGEST, DIGEST);
        hash_one(1, pair, sizeof pair, above + count / 2 * DIGEST);
    }
    return (count + 1) / 2;
}

// The digests of the leaves of `size` bytes. The byte before them is read unless they are the `first` of their blob.
void leaves(Hash *hash, const uint8_t *data, size_t size, bool first, uint8_t *digests) {
    size_t whole = size / LEAF, at = 0;
    if (first && whole) {
        hash_one(0, data, LEAF, digests);
        at = 1;
    }
    hash(data + at * LEAF, whole - at, LEAF / BLOCK, 0, digests + at * DIGEST);
    if (size % LEAF || !size) hash_one(0, data + whole * LEAF, size % LEAF, digests + whole * DIGEST);
}

// All levels up to `height` over one chunk of a blob; levels[h] is where its digests of height h go.
void subtree(Hash *hash, const uint8_t *data, size_t size, bool first, int height, uint8_t *const *levels) {
    leaves(hash, data, size, first, levels[0]);
    size_t count = leaves_of(size);
    for (int h = 0; h < height; h++) count = parents(hash, levels[h], count, levels[h + 1]);
}

// Calls work(i) for every i below `count`, on at most `threads` threads, this one among them.
template <class Work>
void each(size_t count, size_t threads, const Work &work) {
    std::atomic<size_t> next{0};
    const auto run = [&] {
        for (size_t i; (i = next++) < count;) work(i);
    };
    std::vector<std::thread> others;
    try {
        while (others.size() + 1 < threads && others.size() + 1 < count) others.emplace_back(run);
    } catch (const std::system_error &) {
        // The system has no more threads to give: those that there are do it.
    }
    run();
    for (std::thread &other : others) other.join();
}

struct Chunk {
    size_t blob, number;
};

}  // namespace

void hash_portable(const uint8_t *bodies, size_t count, size_t blocks, uint8_t prefix, uint8_t *digests) {
    FourLanes::hash(bodies, count, blocks, prefix, digests);
}

}  // namespace sha256

using namespace sha256;

// Whether this processor can run the backend of that number.
extern "C" int refstep_sha256_has(int backend) { return has(backend); }

// The root of each of `count` blobs, 32 bytes each.
extern "C" void refstep_sha256_roots(int backend, size_t threads, size_t count, const uint8_t *const *data, const size_t *sizes,
                                     uint8_t *roots) {
    Hash *hash = hash_of(backend);
    std::vector<Chunk> chunks;
    std::vector<size_t> firsts(count);
    for (size_t blob = 0; blob < count; blob++) {
        firsts[blob] = chunks.size();
        for (size_t number = 0; number < chunks_of(sizes[blob]); number++) chunks.push_back({blob, number});
    }
    std::vector<uint8_t> tops(DIGEST + chunks.size() * DIGEST);  // each chunk's root; the byte before is read
    each(chunks.size(), threads, [&](size_t i) {
        static thread_local std::vector<uint8_t> scratch(DIGEST + 2 * CHUNK_LEAVES * DIGEST);
        const auto [blob, number] = chunks[i];
        const size_t at = number * CHUNK_LEAVES * LEAF, rest = sizes[blob] - at;
        const size_t size = rest < CHUNK_LEAVES * LEAF ? rest : CHUNK_LEAVES * LEAF;
        const int height = chunks_of(sizes[blob]) > 1 ? CHUNK_HEIGHT : depth_of(leaves_of(size));
        uint8_t *levels[CHUNK_HEIGHT + 1] = {scratch.data() + DIGEST};
        for (int h = 0; h < height; h++) levels[h + 1] = levels[h] + (CHUNK_LEAVES >> h) * DIGEST;
        subtree(hash, data[blob] + at, size, number == 0, height, levels);
        std::memcpy(tops.data() + DIGEST + i * DIGEST, levels[height], DIGEST);
    });
    for (size_t blob = 0; blob < count; blob++) {
        uint8_t *top = tops.data() + DIGEST + firsts[blob] * DIGEST;
        for (size_t left = chunks_of(sizes[blob]); left > 1;) left = parents(hash, top, left, top);
        std::memcpy(roots + blob * DIGEST, top, DIGEST);
    }
}

// All digests of one blob's tree, level by level from the leaves to the root. The byte before `digests` is read.
extern "C" void refstep_sha256_levels(int backend, size_t threads, const uint8_t *data, size_t size, uint8_t *digests) {
    Hash *hash = hash_of(backend);
    size_t counts[MOST_LEVELS] = {leaves_of(size)};
    uint8_t *levels[MOST_LEVELS] = {digests};
    const int depth = depth_of(counts[0]), height = depth < CHUNK_HEIGHT ? depth : CHUNK_HEIGHT;
    for (int h = 0; h < depth; h++) {
        counts[h + 1] = (counts[h] + 1) / 2;
        levels[h + 1] = levels[h] + counts[h] * DIGEST;
    }
    each(chunks_of(size), threads, [&](size_t number) {
        const size_t at = number * CHUNK_LEAVES * LEAF, rest = size - at;
        uint8_t *own[CHUNK_HEIGHT + 1];
        for (int h = 0; h <= height; h++) own[h] = levels[h] + number * (CHUNK_LEAVES >> h) * DIGEST;
        subtree(hash, data + at, rest < CHUNK_LEAVES * LEAF ? rest : CHUNK_LEAVES * LEAF, number == 0, height, own);
    });
    for (int h = height; h < depth; h++) parents(hash, levels[h], counts[h], levels[h + 1]);
}
