// The kernels of dot.cpp: how one vector of COLUMNS sums is kept exact. A kernel adds GROUP steps, each a word of A times a vector
// of words of B, and then settles. A word holds PER_WORD neighbours along k, in PLANES pieces; words are padded to a multiple of
// ALIGN. A tile of ROWS rows and two vectors fits the registers. What a kernel assumes of the length of a chunk, dot.cpp asserts.
#pragma once

#include "dot_vectors.hpp"

namespace {

constexpr int UNIT = 12;            // rows of A packed together; every tile's height divides it
constexpr int SEGMENT = 16;         // words of a row that stay together
constexpr bool WIDE = LANES == 16;  // 32 vector registers, else 16

template <class SumVector>
struct Kernel {
    struct Sum {
        SumVector low;
    };
    static constexpr int GROUP = 1, ALIGN = 1, PLANES = 1, ROWS = WIDE ? 12 : 6, COLUMNS = LANES;
    static void pack(const U32* b, uint32_t* to) { store(to, *b); }
    static void account(const void*, int64_t, uint32_t*) {}
    static Sum start(uint32_t, int64_t) { return Sum{}; }
    static void settle(Sum&) {}
};

template <class Part, int COUNT, class Element>
inline void convert(const Element* from, void* to) {
    for (int i = 0; i < COUNT; i++) ((Part*)to)[i] = from[i];
}

#if DOT_BYTES
// 8 bits, by the four-way product of signed A with unsigned B: B is packed as b + 128, and the sum starts at -128·Σa. A chunk of
// k is too short for 255·128 times its length to leave 32 bits.
struct Bytes : Kernel<U32> {
    using Element = int8_t;
    using Word = int32_t;
    using Vector = U32;
    static constexpr int PER_WORD = 4;
    static void pack(const U32* b, uint32_t* to) { store(to, *b ^ 0x80808080); }
    static void fill(const Element* from, Word* to) { memcpy(to, from, SEGMENT * PER_WORD); }
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
        out.narrow(sum.low);
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
    using Word = int32_t;
    using Vector = U32;
    struct Sum {
        U32 low, high;
    };
    static constexpr uint32_t MINUS = 0xffff0000;
    static constexpr int PER_WORD = 2, GROUP = CARRY ? CARRY : 1, ALIGN = 4, ROWS = (WIDE ? 12 : 6) / (CARRY ? 2 : 1);
    static void fill(const Element* from, Word* to) { convert<int16_t, SEGMENT * PER_WORD>(from, to); }
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
            out.combined(8, sum.high, U32{}, sum.low);
        else
            out.narrow(sum.low);
    }
};

// 20 bits, by three two-way products in place of four (Karatsuba and Ofman 1962): with x = 2^10·high + low and both = high + low,
//     a·b = 2^20·high·high + 2^10·(both·both - high·high - low·low) + low·low.
// |high|, |low| <= 2^9 and |both| <= 2^10, so that a chunk of less than 2^11 products leaves none of the sums' 32 bits.
struct Split : Kernel<U32> {
    using Element = int32_t;
    using Word = int32_t;
    struct Vector {
        U32 high, low, both;
    };
    using Sum = Vector;
    static constexpr uint32_t LIMIT = (1 << 19) - 1;
    static constexpr int PER_WORD = 2, PLANES = 3, ROWS = WIDE ? 4 : 2;
    template <class T>
    static T high(T x) {
        return (x + 512) >> 10;
    }
    static void pack(const U32* b, uint32_t* to) {
        U32 high[] = {(U32)Split::high((I32)b[0]), (U32)Split::high((I32)b[1])};
        U32 low[] = {b[0] - (high[0] << 10), b[1] - (high[1] << 10)};
        auto pair = [](U32 first, U32 second) { return (first & 0xffff) | second << 16; };
        store(to, pair(high[0], high[1]));
        store(to + 2 * COLUMNS, pair(low[0], low[1]));
        store(to + 4 * COLUMNS, pair(high[0] + low[0], high[1] + low[1]));
    }
    static void fill(const Element* from, Word* to) {
        int16_t planes[PLANES][SEGMENT * PER_WORD];
        for (int i = 0; i < SEGMENT * PER_WORD; i++) {
            planes[0][i] = high(from[i]);
            planes[1][i] = from[i] - high(from[i]) * 1024;
            planes[2][i] = planes[0][i] + planes[1][i];
        }
        memcpy(to, planes, sizeof planes);
    }
    static Sum start(uint32_t, int64_t) { return Sum{}; }
    static Vector read(const uint32_t* b) { return {load<U32>(b), load<U32>(b + 2 * COLUMNS), load<U32>(b + 4 * COLUMNS)}; }
    static Vector spread(const int32_t* a) {
        auto plane = [a](int i) { return U32{} + load<uint32_t>(a + i * SEGMENT); };
        return {plane(0), plane(1), plane(2)};
    }
    static void step(Sum& sum, const Vector& b, const Vector& a) {
        sum.high = multiply_halves(sum.high, b.high, a.high);
        sum.low = multiply_halves(sum.low, b.low, a.low);
        sum.both = multiply_halves(sum.both, b.both, a.both);
    }
    static void settle(Sum&) {}
    template <class Out>
    static void finish(const Sum& sum, Out out) {
        out.combined(10, sum.high, sum.both - sum.high - sum.low, sum.low);
    }
};

// 32 bits whose sums stay within 2^51, so that doubles hold every one of them exactly.
struct Doubles : Kernel<F64> {
    using Element = int32_t;
    using Word = double;
    using Vector = F64;
    static constexpr int PER_WORD = 1, COLUMNS = HALF;
    static constexpr double LIMIT = 0x1p51, MAGIC = 0x1.8p52;  // MAGIC + x holds the integer x in its low bits
    static void fill(const Element* from, Word* to) { convert<Word, SEGMENT>(from, to); }
    static F64 read(const uint32_t* b) { return __builtin_convertvector(load<HalfI32>(b), F64); }
    static F64 spread(const double* a) { return F64{} + *a; }
    static void step(Sum& sum, F64 b, F64 a) { sum.low = multiply_double(sum.low, b, a); }
    template <class Out>
    static void finish(const Sum& sum, Out out) {
        out.wide((U64)(sum.low + MAGIC) - (U64)(F64{} + MAGIC));
    }
};

// 32 bits, any values.
struct Longs : Kernel<U64> {
    using Element = int32_t;
    using Word = int64_t;
    using Vector = I64;
    static constexpr int PER_WORD = 1, COLUMNS = HALF;
    static void fill(const Element* from, Word* to) { convert<Word, SEGMENT>(from, to); }
    static I64 read(const uint32_t* b) { return __builtin_convertvector(load<HalfI32>(b), I64); }
    static I64 spread(const int64_t* a) { return I64{} + *a; }
    static void step(Sum& sum, I64 b, I64 a) { sum.low = multiply_int32(sum.low, b, a); }
    template <class Out>
    static void finish(const Sum& sum, Out out) {
        out.wide(sum.low);
    }
};

}  // namespace
