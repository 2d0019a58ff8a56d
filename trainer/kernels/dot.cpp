// Exact integer matrix products: see dot.hpp for the interface.
//
// The blocking is the usual one (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008): B lies packed in
// panels of a few vectors; a block of A's rows is packed into a buffer that the second-level cache holds; a tile of sums stays in
// registers while it runs along k. Both packed forms are made of 32-bit words, each holding `Kernel::PER_WORD` neighbours along k:
//   A  [unit][segment][UNIT][SEGMENT]   words widened to 64 bits by the kernels of 32-bit operands
//   B  [panel][word][PANEL]             and after each panel the largest magnitude in it
#include "dot.hpp"

#include <algorithm>

#include "dot_vectors.hpp"

namespace {

constexpr int UNIT = 12;              // rows of A packed together; every tile's height divides it
constexpr int SEGMENT = 16;           // words of a row that stay together
constexpr int BLOCK = 8 * UNIT;       // rows of A packed at a time
constexpr int64_t BUFFER_ROW = 2048;  // bytes of a packed row of A: longer ones are cut into chunks of k
constexpr bool WIDE = LANES == 16;    // 32 vector registers, else 16
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

// ---------------------------------------------------------------------------------------------------------------------------------
// Kernels: how one vector of sums is kept. A kernel adds GROUP steps (a word of A times a vector of words of B) and then settles.
// A word of B, or of A before it is widened, holds PER_WORD elements; words are padded to a multiple of ALIGN.

template <class SumVector>
struct Kernel {
    struct Sum {
        SumVector low;
    };
    static constexpr int GROUP = 1, ALIGN = 1, ROWS = WIDE ? 12 : 6, COLUMNS = LANES;
    static U32 packed(U32 b) { return b; }
    static void account(const void*, int64_t, uint32_t*) {}
    static Sum start(uint32_t, int64_t) { return Sum{}; }
    static void settle(Sum&) {}
};

#if DOT_BYTES
// 8 bits, by the four-way product of signed A with unsigned B: B is packed as b + 128, and the sum starts at -128·Σa. A chunk of
// k is too short for 255·128 times its length to leave 32 bits.
struct Bytes : Kernel<U32> {
    using Element = int8_t;
    using Part = int8_t;
    using Word = int32_t;
    using Vector = U32;
    static constexpr int PER_WORD = 4;
    static U32 packed(U32 b) { return b ^ 0x80808080; }
    // 128·Σa of each row of a unit.
    static void account(const int32_t* unit, int64_t words, uint32_t* accounts) {
        for (int first = 0; first < UNIT; first += LANES) {
            U32 sums[LANES]{}, total{};
            for (int64_t segment = 0; segment < words; segment += SEGMENT) {
                for (int r = 0; r < LANES && first + r < UNIT; r++) {
                    const int32_t* a = unit + segment * UNIT + (first + r) * SEGMENT;
                    for (int i = 0; i < SEGMENT; i += LANES)
                        sums[r] = multiply_bytes(sums[r], U32{} + 0x80808080, load<U32>(a + i));
                }
            }
            transpose(sums);
            for (U32 part : sums) total += part;
            store(accounts + first, total);
        }
    }
    static Sum start(uint32_t account, int64_t) { return {U32{} - account}; }
    static U32 read(const uint32_t* b) { return load<U32>(b); }
    static U32 spread(const int32_t* a) { return U32{} + load<uint32_t>(a); }
    static void step(Sum& sum, U32 b, U32 a) { sum.low = multiply_bytes(sum.low, b, a); }
    template <class Out>
    static void finish(const Sum& sum, Out out) {
        out.narrow((I32)sum.low);
    }
};
#endif

// 16 bits, by the two-way product. The sum is high·2^16 + low with low kept in [-2^16, -1] by a carry into high after every GROUP
// steps; with low there, 2·GROUP products cannot leave 32 bits if
//     2·GROUP·max|a|·max|b| <= 2^31 - 2^16.
// GROUP = 4 serves operands up to 16383 (15 bits). GROUP = 1 serves all: two products lie in [-2^31 + 2^16, 2^31], as only
// (-2^15)² reaches 2^30, and low's place below zero makes room for just that. A carry is at most 2^15, so that high cannot leave
// 32 bits within a chunk of k. CARRY = 0 never carries: for sums that fit 32 bits as they are.
template <class T, int CARRY>
struct Halves : Kernel<U32> {
    using Element = T;
    using Part = int16_t;
    using Word = int32_t;
    using Vector = U32;
    struct Sum {
        U32 low, high;
    };
    static constexpr uint32_t MINUS = 0xffff0000;
    static constexpr int PER_WORD = 2, GROUP = CARRY ? CARRY : 1, ALIGN = 4, ROWS = (WIDE ? 12 : 6) / (CARRY ? 2 : 1);
    static Sum start(uint32_t, int64_t words) {
        // Each carry leaves 1 too little in high, since what stays in low is negative: added here beforehand.
        if (CARRY) return {U32{} + MINUS, U32{} + (uint32_t)(words / GROUP + 1)};
        return Sum{};
    }
    static U32 read(const uint32_t* b) { return load<U32>(b); }
    static U32 spread(const int32_t* a) { return U32{} + load<uint32_t>(a); }
    static void step(Sum& sum, U32 b, U32 a) { sum.low = multiply_halves(sum.low, b, a); }
    static void settle(Sum& sum) {
        if (!CARRY) return;
        sum.high += (U32)((I32)sum.low >> 16);
        sum.low |= MINUS;
    }
    template <class Out>
    static void finish(const Sum& sum, Out out) {
        if (CARRY)
            out.carried((I32)sum.high, (I32)sum.low);
        else
            out.narrow((I32)sum.low);
    }
};

// 32 bits whose sums stay within 2^51, so that doubles hold every one of them exactly.
struct Doubles : Kernel<F64> {
    using Element = int32_t;
    using Part = double;
    using Word = double;
    using Vector = F64;
    static constexpr int PER_WORD = 1, COLUMNS = HALF;
    static constexpr double LIMIT = 0x1p51, MAGIC = 0x1.8p52;  // MAGIC + x holds the integer x in its low bits
    static F64 read(const uint32_t* b) { return __builtin_convertvector(load<HalfI32>(b), F64); }
    static F64 spread(const double* a) { return F64{} + *a; }
    static void step(Sum& sum, F64 b, F64 a) { sum.low = multiply_double(sum.low, b, a); }
    template <class Out>
    static void finish(const Sum& sum, Out out) {
        out.wide((I64)(sum.low + MAGIC) - (I64)(F64{} + MAGIC));
    }
};

// 32 bits, any values.
struct Longs : Kernel<U64> {
    using Element = int32_t;
    using Part = int64_t;
    using Word = int64_t;
    using Vector = I64;
    static constexpr int PER_WORD = 1, COLUMNS = HALF;
    static I64 read(const uint32_t* b) { return __builtin_convertvector(load<HalfI32>(b), I64); }
    static I64 spread(const int64_t* a) { return I64{} + *a; }
    static void step(Sum& sum, I64 b, I64 a) { sum.low = multiply_int32(sum.low, b, a); }
    template <class Out>
    static void finish(const Sum& sum, Out out) {
        out.wide((I64)sum.low);
    }
};

// What a type is packed for.
#if DOT_BYTES
using Type1 = Bytes;
#else
using Type1 = Halves<int8_t, 0>;
#endif
using Type2 = Halves<int16_t, 1>;
using Type4 = Longs;

// ---------------------------------------------------------------------------------------------------------------------------------
// Tiles: R rows times V vectors of columns.

// Where a vector of finished sums goes: the first `count` of them, added to what is there but for the first chunk of k.
template <class Out>
struct Writer {
    Out* to;
    int64_t count;
    bool add;

    template <class Vector>
    void put(Vector x, int at) const {
        constexpr int WIDTH = sizeof(Vector) / sizeof(Out);
        Out* place = to + at;
        if (count >= at + WIDTH) {
            store(place, add ? x + load<Vector>(place) : x);
        } else {
            for (int i = 0; i < count - at; i++) place[i] = add ? place[i] + x[i] : x[i];
        }
    }
    void narrow(I32 x) const {
        if constexpr (sizeof(Out) == 4) {
            put((U32)x, 0);
        } else {
            put((U64)widen<0>(x), 0);
            put((U64)widen<1>(x), HALF);
        }
    }
    void carried(I32 high, I32 low) const {
        if constexpr (sizeof(Out) == 4) {
            put(((U32)high << 16) + (U32)low, 0);
        } else {
            put(((U64)widen<0>(high) << 16) + (U64)widen<0>(low), 0);
            put(((U64)widen<1>(high) << 16) + (U64)widen<1>(low), HALF);
        }
    }
    void wide(I64 x) const {
        if constexpr (sizeof(Out) == 4) {
            typedef uint32_t HalfU32 __attribute__((vector_size(4 * HALF)));
            put(__builtin_convertvector((U64)x, HalfU32), 0);
        } else {
            put((U64)x, 0);
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
        if (word % SEGMENT == 0 && word > 0) a += (UNIT - 1) * SEGMENT;
#pragma GCC unroll 4
        for (int step = 0; step < K::GROUP; step++) {
            typename K::Vector x[V];
#pragma GCC unroll 2
            for (int v = 0; v < V; v++) x[v] = K::read(b + v * K::COLUMNS);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                typename K::Vector y = K::spread(a + r * SEGMENT);
#pragma GCC unroll 2
                for (int v = 0; v < V; v++) K::step(sums[r][v], x[v], y);
            }
            a++;
            b += 2 * K::COLUMNS;
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
void tiles(const typename K::Word* a, const uint32_t* b, int64_t words, const uint32_t* accounts, Target<Out> target, int64_t rows) {
    for (; rows >= R; rows -= R, a += R * SEGMENT, accounts += R, target.out += R * target.stride)
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

// LANES words of a row, of which `left` elements are left; 0 beyond.
template <class K, bool WHOLE>
inline U32 words_of(const typename K::Element* row, int64_t left) {
    using T = typename K::Element;
    constexpr int COUNT = LANES * K::PER_WORD;
    typedef T Elements __attribute__((vector_size(COUNT * sizeof(T))));
    typedef int16_t Shorts __attribute__((vector_size(COUNT * 2)));
    Elements x{};
    memcpy(&x, row, WHOLE ? sizeof x : left * sizeof(T));
    if constexpr (sizeof x == sizeof(U32))
        return (U32)x;
    else
        return (U32)__builtin_convertvector(x, Shorts);
}

// Columns of words, lane r from row r, of which `left` elements are left. Lanes beyond the rows repeat the last one.
template <class K>
inline void columns_of(const typename K::Element* x, int64_t stride, int64_t rows, int64_t left, U32 (&columns)[LANES]) {
    if (left >= LANES * K::PER_WORD) {
#pragma GCC unroll 16
        for (int64_t r = 0; r < LANES; r++) columns[r] = words_of<K, true>(x + std::min(r, rows - 1) * stride, left);
    } else {
        for (int64_t r = 0; r < LANES; r++) columns[r] = words_of<K, false>(x + std::min(r, rows - 1) * stride, left);
    }
    transpose(columns);
}

// `words` words of up to UNIT rows of A, of which `left` elements are left.
template <class K>
void pack_unit(const typename K::Element* a, int64_t stride, int64_t rows, int64_t left, int64_t words, typename K::Word* to) {
    constexpr int COUNT = SEGMENT * K::PER_WORD;
    for (; words > 0; words -= SEGMENT, a += COUNT, left -= COUNT, to += UNIT * SEGMENT) {
        for (int64_t r = 0; r < rows; r++) {
            typename K::Element last[COUNT] = {};
            const typename K::Element* from = a + r * stride;
            if (left < COUNT) from = (typename K::Element*)memcpy(last, from, left * sizeof *from);
            auto* out = (typename K::Part*)(to + r * SEGMENT);
            for (int i = 0; i < COUNT; i++) out[i] = from[i];
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
    return all_words<K>(k) * PANEL<K> * 4 + TRAILER;
}

template <class K>
void pack_panel(const typename K::Element* b, int64_t rows, int64_t k, char* panel) {
    int64_t words = all_words<K>(k);
    auto* out = (uint32_t*)panel;
    for (int64_t part = 0; part < rows; part += LANES) {
        for (int64_t word = 0; word < words; word += LANES) {
            U32 columns[LANES];
            columns_of<K>(b + part * k + word * K::PER_WORD, k, rows - part, k - word * K::PER_WORD, columns);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                if (word + i == words) break;
                store(out + (word + i) * PANEL<K> + part, K::packed(columns[i]));
            }
        }
    }
    uint32_t largest = magnitude(b, rows * k);
    memcpy(panel + panel_bytes<K>(k) - TRAILER, &largest, sizeof largest);
}

template <class K>
uint32_t packed_magnitude(const char* packed, int64_t n, int64_t k) {
    uint32_t largest = 0;
    for (const char* end = packed + round_up(n, PANEL<K>) / PANEL<K> * panel_bytes<K>(k); packed < end;) {
        packed += panel_bytes<K>(k);
        largest = std::max(largest, load<uint32_t>(packed - TRAILER));
    }
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
constexpr int64_t CHUNK = BUFFER_ROW / sizeof(typename K::Word);

template <class K, class Out>
void block(const Problem& problem, const typename K::Element* a, int64_t rows, Out* out) {
    Buffer& buffer = buffer_of_thread();
    auto [lda, packed, n, k, ldo] = problem;
    int64_t words = all_words<K>(k), chunks = (words + CHUNK<K> - 1) / CHUNK<K>;
    int64_t chunk = round_up((words + chunks - 1) / chunks, SEGMENT);
    for (int64_t word = 0; word < words; word += chunk) {
        int64_t count = std::min(chunk, words - word), first = word * K::PER_WORD;
        auto unit = [&](int64_t r) { return (typename K::Word*)buffer.packed + r * chunk; };
        auto height = [&](int64_t r) { return std::min<int64_t>(UNIT, rows - r); };
        for (int64_t r = 0; r < rows; r += UNIT) {
            pack_unit<K>(a + r * lda + first, lda, height(r), k - first, count, unit(r));
            K::account(unit(r), count, buffer.accounts + r);
        }
        const char* panel = packed;
        for (int64_t j = 0; j < n; j += PANEL<K>, panel += panel_bytes<K>(k)) {
            auto* b = (const uint32_t*)panel + word * PANEL<K>;
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
    if (product * std::min<uint64_t>(problem.k, 2 * CHUNK<Halves<int16_t, 0>>) < 1ull << 31)
        block<Halves<int16_t, 0>>(problem, a, rows, out);
    else if (product * 8 <= (1ull << 31) - (1 << 16))
        block<Halves<int16_t, 4>>(problem, a, rows, out);
    else
        block<Halves<int16_t, 1>>(problem, a, rows, out);
}

template <class Out>
void block(const Problem& problem, const int32_t* a, int64_t rows, Out* out, uint32_t largest) {
    uint64_t product = (uint64_t)largest * magnitude(a, problem.lda, rows, problem.k);
    if (product <= Doubles::LIMIT / CHUNK<Doubles>)
        block<Doubles>(problem, a, rows, out);
    else
        block<Longs>(problem, a, rows, out);
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

int64_t dot_panel(int type) { return type == 1 ? PANEL<Type1> : type == 2 ? PANEL<Type2> : PANEL<Type4>; }

int64_t dot_packed_bytes(int type, int64_t n, int64_t k) {
    int64_t bytes = type == 1 ? panel_bytes<Type1>(k) : type == 2 ? panel_bytes<Type2>(k) : panel_bytes<Type4>(k);
    return round_up(n, dot_panel(type)) / dot_panel(type) * bytes;
}

void dot_pack(int type, const void* b, int64_t n, int64_t k, int64_t n0, int64_t n1, void* packed) {
    auto* chosen = type == 1 ? pack<Type1> : type == 2 ? pack<Type2> : pack<Type4>;
    chosen(b, n, k, n0, n1, (char*)packed);
}

void dot_rows(int type, const void* a, int64_t lda, int64_t rows, const void* packed, int64_t n, int64_t k, void* out, int64_t ldo,
              int out_type) {
    Problem problem{lda, (const char*)packed, n, k, ldo};
    auto* narrow = type == 1 ? all_blocks<Type1, uint32_t> : type == 2 ? all_blocks<Type2, uint32_t> : all_blocks<Type4, uint32_t>;
    auto* wide = type == 1 ? all_blocks<Type1, uint64_t> : type == 2 ? all_blocks<Type2, uint64_t> : all_blocks<Type4, uint64_t>;
    (out_type == 4 ? narrow : wide)(problem, a, rows, out);
}
}
