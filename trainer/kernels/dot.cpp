// Exact integer matrix products: see dot.hpp for the interface.
//
// The blocking is the usual one (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008): B lies packed in
// panels of two vectors; a block of A's rows is packed into a buffer that the second-level cache holds; a tile of sums stays in
// registers while it runs along k. A word holds PER_WORD neighbours along k, in PLANES pieces of 32 or (A, for the kernels of wide
// operands) 64 bits. Packed, they lie like this:
//   A  [unit][segment][UNIT][PLANES][SEGMENT]
//   B  [panel][word][PLANES][PANEL]             and after each panel the largest magnitude in it
#include "dot.hpp"

#include <algorithm>

#include "dot_kernels.hpp"

namespace {

constexpr int BLOCK = 8 * UNIT;       // rows of A packed at a time
constexpr int64_t BUFFER_ROW = 2048;  // bytes of a packed row of A: longer ones are cut into chunks of k
constexpr int64_t TRAILER = 64;       // bytes after a panel that hold its largest magnitude

struct Buffer {
    alignas(64) char packed[BLOCK * BUFFER_ROW];
    uint32_t accounts[BLOCK + LANES];
};

inline Buffer& buffer_of_thread() {
    static thread_local Buffer buffer;
    return buffer;
}

inline int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// What the operands of a type are packed for. Those of 32 bits are packed twice, where Split is the faster of two ways.
#if DOT_BYTES
using Type1 = Bytes;
constexpr bool SPLITS = true;
#else
using Type1 = Halves<int8_t, 0>;
constexpr bool SPLITS = false;
#endif
using Type2 = Halves<int16_t, 1>;
using Type4 = Longs;

// ---------------------------------------------------------------------------------------------------------------------------------
// Tiles: R rows times V vectors of columns.

template <class Out>
__attribute__((noinline)) void put_part(Out* to, const Out* from, int64_t count, bool add) {
    for (int64_t i = 0; i < count; i++) to[i] = add ? to[i] + from[i] : from[i];
}

// Where a vector of finished sums goes: the first `count` of them, added to what is there but for the first chunk of k.
template <class Out>
struct Writer {
    Out* to;
    int64_t count;
    bool add;

    template <class Vector>
    void put(Vector x, int at) const {
        constexpr int WIDTH = sizeof(Vector) / sizeof(Out);
        if (count >= at + WIDTH)
            store(to + at, add ? x + load<Vector>(to + at) : x);
        else
            put_part(to + at, (const Out*)&x, count - at, add);
    }
    void narrow(U32 x) const {
        if constexpr (sizeof(Out) == 4) {
            put(x, 0);
        } else {
            put(widen<0>(x), 0);
            put(widen<1>(x), HALF);
        }
    }
    // high·2^(2·bits) + middle·2^bits + low.
    void combined(int bits, U32 high, U32 middle, U32 low) const {
        auto sum = [bits](auto x, auto y, auto z) { return (((x << bits) + y) << bits) + z; };
        if constexpr (sizeof(Out) == 4) {
            put(sum(high, middle, low), 0);
        } else {
            put(sum(widen<0>(high), widen<0>(middle), widen<0>(low)), 0);
            put(sum(widen<1>(high), widen<1>(middle), widen<1>(low)), HALF);
        }
    }
    void wide(U64 x) const {
        if constexpr (sizeof(Out) == 4) {
            typedef uint32_t HalfU32 __attribute__((vector_size(4 * HALF)));
            put(__builtin_convertvector(x, HalfU32), 0);
        } else {
            put(x, 0);
        }
    }
};

template <class Out>
struct Target {
    Out* out;
    int64_t stride;
    int64_t columns;
    bool add;
};

template <class K, class Out, int R, int V>
__attribute__((noinline)) void tile(const typename K::Word* a, const uint32_t* b, int64_t words, const uint32_t* accounts,
                                    const Target<Out>& target) {
    typename K::Sum sums[R][V];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) sums[r][v] = K::start(accounts[r], words);
    for (int64_t word = 0; word < words; word += K::GROUP) {
        if (word % SEGMENT == 0 && word > 0) a += (UNIT * K::PLANES - 1) * SEGMENT;
#pragma GCC unroll 4
        for (int step = 0; step < K::GROUP; step++) {
            typename K::Vector x[V];
#pragma GCC unroll 2
            for (int v = 0; v < V; v++) x[v] = K::read(b + v * K::COLUMNS);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                typename K::Vector y = K::spread(a + r * K::PLANES * SEGMENT);
#pragma GCC unroll 2
                for (int v = 0; v < V; v++) K::step(sums[r][v], x[v], y);
            }
            a++;
            b += K::PLANES * 2 * K::COLUMNS;
        }
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
            for (int v = 0; v < V; v++) K::settle(sums[r][v]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
        Out* line = target.out + r * target.stride;
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            K::finish(sums[r][v], Writer<Out>{line + v * K::COLUMNS, target.columns - v * K::COLUMNS, target.add});
    }
}

// The rows of one unit, in tiles of R rows, then of fewer.
template <class K, class Out, int V, int R = K::ROWS>
void tiles(const typename K::Word* a, const uint32_t* b, int64_t words, const uint32_t* accounts, Target<Out> target,
           int64_t rows) {
    for (; rows >= R; rows -= R, a += R * K::PLANES * SEGMENT, accounts += R, target.out += R * target.stride)
        tile<K, Out, R, V>(a, b, words, accounts, target);
    if constexpr (R > 1) {
        if (rows > 0) tiles<K, Out, V, (R > 3 ? R / 3 : 1)>(a, b, words, accounts, target, rows);
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Packing.

template <class T>
uint32_t magnitude(const T* x, int64_t count) {
    T low = 0, high = 0;
    for (int64_t i = 0; i < count; i++) {
        low = std::min(low, x[i]);
        high = std::max(high, x[i]);
    }
    return std::max((uint32_t)high, -(uint32_t)low);
}

template <class T>
uint32_t magnitude(const T* x, int64_t stride, int64_t rows, int64_t k) {
    uint32_t largest = 0;
    for (int64_t r = 0; r < rows; r++) largest = std::max(largest, magnitude(x + r * stride, k));
    return largest;
}

// B is transposed in pieces of 32 bits, each of so many elements.
template <class K>
constexpr int PER_PIECE = std::min<int>(K::PER_WORD, 4 / sizeof(typename K::Element));

// LANES pieces of a row, of which `left` elements are left; 0 beyond.
template <class K, bool WHOLE>
inline U32 pieces_of(const typename K::Element* row, int64_t left) {
    using T = typename K::Element;
    constexpr int COUNT = LANES * PER_PIECE<K>;
    typedef T Elements __attribute__((vector_size(COUNT * sizeof(T))));
    typedef int16_t Shorts __attribute__((vector_size(COUNT * 2)));
    Elements x{};
    memcpy(&x, row, WHOLE ? sizeof x : left * sizeof(T));
    if constexpr (sizeof x == sizeof(U32))
        return (U32)x;
    else
        return (U32)__builtin_convertvector(x, Shorts);
}

// The same pieces of LANES rows, transposed: lane r from row r. Lanes beyond the rows repeat the last one.
template <class K>
inline void columns_of(const typename K::Element* x, int64_t stride, int64_t rows, int64_t left, U32 (&columns)[LANES]) {
    if (left >= LANES * PER_PIECE<K>) {
#pragma GCC unroll 16
        for (int64_t r = 0; r < LANES; r++) columns[r] = pieces_of<K, true>(x + std::min(r, rows - 1) * stride, left);
    } else {
        for (int64_t r = 0; r < LANES; r++) columns[r] = pieces_of<K, false>(x + std::min(r, rows - 1) * stride, left);
    }
    transpose(columns);
}

// `words` words of up to UNIT rows of A, of which `left` elements are left.
template <class K>
void pack_unit(const typename K::Element* a, int64_t stride, int64_t rows, int64_t left, int64_t words, typename K::Word* to) {
    constexpr int COUNT = SEGMENT * K::PER_WORD;
    for (; words > 0; words -= SEGMENT, a += COUNT, left -= COUNT, to += UNIT * K::PLANES * SEGMENT) {
        for (int64_t r = 0; r < rows; r++) {
            typename K::Element last[COUNT] = {};
            const typename K::Element* from = a + r * stride;
            if (left < COUNT) from = (typename K::Element*)memcpy(last, from, left * sizeof *from);
            K::fill(from, to + r * K::PLANES * SEGMENT);
        }
    }
}

template <class K>
constexpr int PANEL = 2 * K::COLUMNS;

template <class K>
int64_t all_words(int64_t k) {
    return round_up(k, K::PER_WORD * K::ALIGN) / K::PER_WORD;
}

template <class K>
int64_t panel_bytes(int64_t k) {
    return all_words<K>(k) * K::PLANES * PANEL<K> * 4 + TRAILER;
}

template <class K>
int64_t packed_bytes(int64_t n, int64_t k) {
    return round_up(n, PANEL<K>) / PANEL<K> * panel_bytes<K>(k);
}

template <class K>
void pack_panel(const typename K::Element* b, int64_t rows, int64_t k, char* panel) {
    constexpr int PIECES = K::PER_WORD / PER_PIECE<K>;
    int64_t words = all_words<K>(k);
    for (int64_t part = 0; part < rows; part += LANES) {
        auto* out = (uint32_t*)panel + part;
        for (int64_t word = 0; word < words; word += LANES / PIECES) {
            U32 columns[LANES];
            columns_of<K>(b + part * k + word * K::PER_WORD, k, rows - part, k - word * K::PER_WORD, columns);
#pragma GCC unroll 16
            for (int i = 0; i < LANES / PIECES; i++) {
                if (word + i == words) break;
                K::pack(columns + i * PIECES, out + (word + i) * K::PLANES * PANEL<K>);
            }
        }
    }
    uint32_t largest = magnitude(b, rows * k);
    memcpy(panel + panel_bytes<K>(k) - TRAILER, &largest, sizeof largest);
}

template <class K>
uint32_t packed_magnitude(const char* packed, int64_t n, int64_t k) {
    uint32_t largest = 0;
    for (int64_t end = panel_bytes<K>(k); end <= packed_bytes<K>(n, k); end += panel_bytes<K>(k))
        largest = std::max(largest, load<uint32_t>(packed + end - TRAILER));
    return largest;
}

// ---------------------------------------------------------------------------------------------------------------------------------
// The product of a block of rows of A with all of B.

struct Problem {
    int64_t lda;
    const char* packed;
    int64_t n, k;
    int64_t ldo;
};

// At most so many words of a row of A are packed at a time.
template <class K>
constexpr int64_t CHUNK = BUFFER_ROW / (K::PLANES * sizeof(typename K::Word)) / SEGMENT * SEGMENT;

template <class K>
constexpr int64_t LENGTH = CHUNK<K> * K::PER_WORD;
static_assert(128 * 255 * LENGTH<Type1> < 1ll << 31);
static_assert((CHUNK<Type2> + 1) << 15 < 1ll << 31);
static_assert(LENGTH<Split> << 20 < 1ll << 31);

template <class K, class Out>
void block(const Problem& problem, const typename K::Element* a, int64_t rows, Out* out) {
    Buffer& buffer = buffer_of_thread();
    auto [lda, packed, n, k, ldo] = problem;
    int64_t words = all_words<K>(k), chunks = (words + CHUNK<K> - 1) / CHUNK<K>;
    int64_t chunk = round_up((words + chunks - 1) / chunks, SEGMENT);
    for (int64_t word = 0; word < words; word += chunk) {
        int64_t count = std::min(chunk, words - word), first = word * K::PER_WORD;
        auto unit = [&](int64_t r) { return (typename K::Word*)buffer.packed + r * chunk * K::PLANES; };
        auto height = [&](int64_t r) { return std::min<int64_t>(UNIT, rows - r); };
        for (int64_t r = 0; r < rows; r += UNIT) {
            pack_unit<K>(a + r * lda + first, lda, height(r), k - first, count, unit(r));
            K::account(unit(r), count, buffer.accounts + r);
        }
        const char* panel = packed;
        for (int64_t j = 0; j < n; j += PANEL<K>, panel += panel_bytes<K>(k)) {
            auto* b = (const uint32_t*)panel + word * K::PLANES * PANEL<K>;
            auto chosen = n - j > K::COLUMNS ? tiles<K, Out, 2> : tiles<K, Out, 1>;
            for (int64_t r = 0; r < rows; r += UNIT)
                chosen(unit(r), b, count, buffer.accounts + r, {out + r * ldo + j, ldo, n - j, word > 0}, height(r));
        }
    }
}

template <class Out>
void block(const Problem& problem, const int8_t* a, int64_t rows, Out* out, uint32_t) {
    block<Type1>(problem, a, rows, out);
}

template <class Out>
void block(const Problem& problem, const int16_t* a, int64_t rows, Out* out, uint32_t largest) {
    uint64_t product = (uint64_t)largest * magnitude(a, problem.lda, rows, problem.k);
    if (product * std::min<uint64_t>(problem.k, LENGTH<Type2>) < 1ull << 31)
        block<Halves<int16_t, 0>>(problem, a, rows, out);
    else if (product * 8 <= (1ull << 31) - (1 << 16))
        block<Halves<int16_t, 4>>(problem, a, rows, out);
    else
        block<Halves<int16_t, 1>>(problem, a, rows, out);
}

template <class Out>
void block(Problem problem, const int32_t* a, int64_t rows, Out* out, uint32_t largest) {
    uint64_t own = magnitude(a, problem.lda, rows, problem.k);
    if (SPLITS && std::max<uint64_t>(own, largest) <= Split::LIMIT) {
        problem.packed += packed_bytes<Type4>(problem.n, problem.k);
        block<Split>(problem, a, rows, out);
    } else if (own * largest <= Doubles::LIMIT / LENGTH<Doubles>) {
        block<Doubles>(problem, a, rows, out);
    } else {
        block<Longs>(problem, a, rows, out);
    }
}

template <class K, class Out>
void all_blocks(const Problem& problem, const void* from, int64_t rows, void* to) {
    auto* a = (const typename K::Element*)from;
    auto* out = (Out*)to;
    uint32_t largest = packed_magnitude<K>(problem.packed, problem.n, problem.k);
    for (int64_t r = 0; r < rows; r += BLOCK)
        block(problem, a + r * problem.lda, std::min<int64_t>(BLOCK, rows - r), out + r * problem.ldo, largest);
}

template <class K>
void pack(const void* from, int64_t n, int64_t k, int64_t n0, int64_t n1, char* packed) {
    auto* b = (const typename K::Element*)from;
    for (int64_t j = n0; j < n1; j += PANEL<K>)
        pack_panel<K>(b + j * k, std::min<int64_t>(PANEL<K>, n - j), k, packed + j / PANEL<K> * panel_bytes<K>(k));
}

}  // namespace

extern "C" {

int64_t dot_panel(int type) {
    if (type == 4 && SPLITS) return PANEL<Split>;
    return type == 1 ? PANEL<Type1> : type == 2 ? PANEL<Type2> : PANEL<Type4>;
}

int64_t dot_packed_bytes(int type, int64_t n, int64_t k) {
    if (type == 4 && SPLITS) return packed_bytes<Type4>(n, k) + packed_bytes<Split>(n, k);
    return type == 1 ? packed_bytes<Type1>(n, k) : type == 2 ? packed_bytes<Type2>(n, k) : packed_bytes<Type4>(n, k);
}

void dot_pack(int type, const void* b, int64_t n, int64_t k, int64_t n0, int64_t n1, void* packed) {
    auto* chosen = type == 1 ? pack<Type1> : type == 2 ? pack<Type2> : pack<Type4>;
    chosen(b, n, k, n0, n1, (char*)packed);
    if (type == 4 && SPLITS) pack<Split>(b, n, k, n0, n1, (char*)packed + packed_bytes<Type4>(n, k));
}

void dot_rows(int type, const void* a, int64_t lda, int64_t rows, const void* packed, int64_t n, int64_t k, void* out, int64_t ldo,
              int out_type) {
    Problem problem{lda, (const char*)packed, n, k, ldo};
    auto* narrow = type == 1 ? all_blocks<Type1, uint32_t> : type == 2 ? all_blocks<Type2, uint32_t> : all_blocks<Type4, uint32_t>;
    auto* wide = type == 1 ? all_blocks<Type1, uint64_t> : type == 2 ? all_blocks<Type2, uint64_t> : all_blocks<Type4, uint64_t>;
    (out_type == 4 ? narrow : wide)(problem, a, rows, out);
}
}
