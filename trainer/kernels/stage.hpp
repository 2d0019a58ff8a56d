// Staging: an affine read, made dense in scratch memory (trainer/compiler/places.py says when).
#pragma once

#include "rows.hpp"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int MOST_LOOPS = 32, MOST_CONDITIONS = 260;  // a node of 2,048 bytes has fewer

struct Condition {
    Affine base;
    int64_t size = 0;
    const Word* coefficients = nullptr;  // one for each inner loop
    Condition() : base() {}
    Condition(Words& words, int rank) : base(words), size(words.next()), coefficients(words.at) { words.at += rank; }
};

// Keep of low … high - 1 the j for which 0 <= start + by·j < size.
inline void narrow(int64_t by, int64_t start, int64_t size, int64_t& low, int64_t& high) {
    if (by == 0) {
        if (start < 0 || start >= size) high = 0;
    } else if (by == 1) {
        low = std::max(low, -start);
        high = std::min(high, size - start);
    } else if (by > 0) {
        if (start < 0) low = std::max(low, (-start + by - 1) / by);
        high = start >= size ? 0 : std::min(high, (size - 1 - start) / by + 1);
    } else {
        if (start >= size) low = std::max(low, (start - size - by) / -by);
        high = start < 0 ? 0 : std::min(high, start / -by + 1);
    }
}

template <class T>
void stage_row(const T* from, T* to, int rank, const Word* sizes, const Word* strides, const Condition* conditions, int64_t* bases,
               int count) {
    if (rank == 0) {
        bool holds = true;
        for (int c = 0; c < count; c++) holds &= bases[c] >= 0 && bases[c] < conditions[c].size;
        *to = holds ? *from : T(0);
        return;
    }
    const int last = rank - 1;
    const int64_t length = sizes[last], stride = strides[last];
    int64_t digits[MOST_LOOPS] = {0};
    int64_t at = 0;
    for (;;) {
        int64_t low = 0, high = length;
        for (int c = 0; c < count; c++) narrow(conditions[c].coefficients[last], bases[c], conditions[c].size, low, high);
        low = std::min(low, std::max<int64_t>(high, 0));
        high = std::max(high, low);
        for (int64_t j = 0; j < low; j++) to[j] = 0;
        const T* source = from + at;
        if (stride == 1) {
            std::memcpy(to + low, source + low, (high - low) * sizeof(T));
        } else {
            for (int64_t j = low; j < high; j++) to[j] = source[j * stride];
        }
        for (int64_t j = high; j < length; j++) to[j] = 0;
        to += length;
        int d = last - 1;
        for (; d >= 0; d--) {
            digits[d]++;
            at += strides[d];
            for (int c = 0; c < count; c++) bases[c] += conditions[c].coefficients[d];
            if (digits[d] < sizes[d]) break;
            at -= sizes[d] * strides[d];
            for (int c = 0; c < count; c++) bases[c] -= sizes[d] * conditions[c].coefficients[d];
            digits[d] = 0;
        }
        if (d < 0) return;
    }
}

// 16 x 16 elements from rows `from_stride` apart to rows `to_stride` apart, transposed: squares as wide as a 16-byte vector, in
// which interleaving row i with row i + half, log2(width) times, is a transposition.
template <class T>
void transpose_tile(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
    typedef T Vector __attribute__((vector_size(16)));
    constexpr int WIDTH = 16 / sizeof(T);
    Vector low, high;  // masks: which elements of two rows, side by side, come first and which last
    for (int i = 0; i < WIDTH; i++) {
        low[i] = T(i / 2 + i % 2 * WIDTH);
        high[i] = T(low[i] + WIDTH / 2);
    }
    for (int64_t r0 = 0; r0 < 16; r0 += WIDTH)
        for (int64_t j0 = 0; j0 < 16; j0 += WIDTH) {
            Vector a[WIDTH], b[WIDTH];
#pragma GCC unroll 16
            for (int j = 0; j < WIDTH; j++) std::memcpy(&a[j], from + (j0 + j) * from_stride + r0, 16);
#pragma GCC unroll 4
            for (int round = 1; round < WIDTH; round *= 2) {
#pragma GCC unroll 8
                for (int j = 0; j < WIDTH / 2; j++) {
                    b[2 * j] = __builtin_shuffle(a[j], a[j + WIDTH / 2], low);
                    b[2 * j + 1] = __builtin_shuffle(a[j], a[j + WIDTH / 2], high);
                }
#pragma GCC unroll 16
                for (int j = 0; j < WIDTH; j++) a[j] = b[j];
            }
#pragma GCC unroll 16
            for (int r = 0; r < WIDTH; r++) std::memcpy(to + (r0 + r) * to_stride + j0, &a[r], 16);
        }
}

#if defined(__AVX512F__)
template <>
void transpose_tile(const int32_t* from, int64_t from_stride, int32_t* to, int64_t to_stride) {
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * from_stride);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    // a[4g + c], lane l: column 4l + c of rows 4g to 4g + 3
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        const __m512i low01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88), high01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
        const __m512i low23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88), high23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
        _mm512_storeu_si512(to + c * to_stride, _mm512_shuffle_i32x4(low01, low23, 0x88));
        _mm512_storeu_si512(to + (8 + c) * to_stride, _mm512_shuffle_i32x4(low01, low23, 0xdd));
        _mm512_storeu_si512(to + (4 + c) * to_stride, _mm512_shuffle_i32x4(high01, high23, 0x88));
        _mm512_storeu_si512(to + (12 + c) * to_stride, _mm512_shuffle_i32x4(high01, high23, 0xdd));
    }
}
#endif

// Rows that lie beside each other in memory while their elements lie apart: a transposition, in tiles.
template <class T>
void stage_transposed(const T* from, int64_t stride, T* to, int64_t rows, int64_t length) {
    constexpr int64_t TILE = 16;
    for (int64_t j0 = 0; j0 < length; j0 += TILE) {
        const int64_t j1 = std::min(j0 + TILE, length);
        for (int64_t r0 = 0; r0 < rows; r0 += TILE) {
            const int64_t r1 = std::min(r0 + TILE, rows);
            if (j1 - j0 == TILE && r1 - r0 == TILE) {
                transpose_tile<T>(from + j0 * stride + r0, stride, to + r0 * length + j0, length);
                continue;
            }
            for (int64_t j = j0; j < j1; j++)
                for (int64_t r = r0; r < r1; r++) to[r * length + j] = from[j * stride + r];
        }
    }
}

// The same with loop `pivot` innermost on the way, where runs are longest: the loops inside it fill a tile, which is then transposed.
template <class T>
void stage_pivoted(const T* from, T* to, int rank, const Word* sizes, const Word* strides, const std::vector<Condition>& conditions,
                   int64_t* bases, int pivot) {
    const int count = (int)conditions.size(), inner = rank - pivot;
    int64_t length = 1, turns = 1;
    for (int d = pivot + 1; d < rank; d++) length *= sizes[d];
    for (int d = 0; d < pivot; d++) turns *= sizes[d];
    Word loops[MOST_LOOPS], steps[MOST_LOOPS], coefficients[MOST_CONDITIONS][MOST_LOOPS];
    Condition checks[MOST_CONDITIONS];
    auto rotate = [&](const Word* values, Word* to) {
        std::copy(values + pivot + 1, values + rank, to);
        to[inner - 1] = values[pivot];
    };
    rotate(sizes, loops);
    rotate(strides, steps);
    for (int c = 0; c < count; c++) {
        rotate(conditions[c].coefficients, coefficients[c]);
        checks[c].size = conditions[c].size;
        checks[c].coefficients = coefficients[c];
    }
    static thread_local std::vector<T> tile;
    if ((int64_t)tile.size() < length * sizes[pivot]) tile.resize(length * sizes[pivot]);
    for (int64_t turn = 0; turn < turns; turn++) {
        int64_t at = 0, here[MOST_CONDITIONS], rest = turn;
        std::copy(bases, bases + count, here);
        for (int d = pivot - 1; d >= 0; d--) {
            const int64_t digit = rest % sizes[d];
            rest /= sizes[d];
            at += digit * strides[d];
            for (int c = 0; c < count; c++) here[c] += digit * conditions[c].coefficients[d];
        }
        stage_row(from + at, tile.data(), inner, loops, steps, checks, here, count);
        stage_transposed<T>(tile.data(), sizes[pivot], to, sizes[pivot], length);
        to += sizes[pivot] * length;
    }
}

// The next `rows` rows, along which all functions are linear, with the rows innermost on the way. Gives `rows`.
template <class T>
int64_t stage_across(const T* from, T* to, int64_t rows, int rank, const Word* sizes, const Word* strides, const Affine& address,
                     const std::vector<Condition>& conditions, int64_t* bases) {
    Word loops[MOST_LOOPS], steps[MOST_LOOPS], coefficients[MOST_CONDITIONS][MOST_LOOPS];
    std::vector<Condition> checks(conditions);
    auto prepend = [&](Word first, const Word* values, Word* to) {
        to[0] = first;
        std::copy(values, values + rank, to + 1);
    };
    prepend(rows, sizes, loops);
    prepend(address.step(), strides, steps);
    for (size_t c = 0; c < conditions.size(); c++) {
        prepend(conditions[c].base.step(), conditions[c].coefficients, coefficients[c]);
        checks[c].coefficients = coefficients[c];
    }
    stage_pivoted(from, to, rank + 1, loops, steps, checks, bases, 0);
    return rows;
}

// `pivot` is the loop to run innermost; -1: the last as they stand; -2: the rows, up to each multiple of `neighbours`.
void run_stage(Words& words, const Block& block) {
    const Place from(words), to(words);
    const int64_t pivot = words.next(), neighbours = words.next();
    const int rank = (int)words.next();
    const Word* sizes = words.at;
    const Word* strides = words.at + rank;
    words.at += 2 * rank;
    const int count = (int)words.next();
    std::vector<Condition> conditions;
    conditions.reserve(count);
    for (int c = 0; c < count; c++) conditions.emplace_back(words, rank);
    int64_t bases[MOST_CONDITIONS];
    const bool plain = rank == 1 && count == 0 && from.address.step() == 1;
    const int64_t end = block.first + block.rows;
    with_type(from.size, [&](auto zero) {
        using T = decltype(zero);
        for (int64_t row = block.first; row < end;) {
            const T* source = (const T*)from(block, row);
            T* target = (T*)to(block, row);
            for (int c = 0; c < count; c++) bases[c] = conditions[c].base(row);
            if (pivot >= 0) {
                stage_pivoted(source, target, rank, sizes, strides, conditions, bases, (int)pivot);
            } else if (pivot == -1) {
                stage_row(source, target, rank, sizes, strides, conditions.data(), bases, count);
            } else {
                const int64_t left = std::min(end, row - row % neighbours + neighbours) - row;
                if (plain) {
                    stage_transposed(source, strides[0], target, left, sizes[0]);
                    row += left;
                } else {
                    row += stage_across(source, target, std::min<int64_t>(left, 64), rank, sizes, strides, from.address, conditions, bases);
                }
                continue;
            }
            row++;
        }
    });
}

}  // namespace
