// What the operations of a step share: words, places, and the block of rows that a thread works on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Word = int64_t;
using Kernel = void (*)(int64_t n, const char* const* in, char* const* out);
using DotRows = void (*)(int type, const void* a, int64_t lda, int64_t rows, const void* packed, int64_t n, int64_t k, void* out,
                         int64_t ldo, int out_type);
using DotPack = void (*)(int type, const void* b, int64_t n, int64_t k, int64_t n0, int64_t n1, void* packed);

struct Functions {
    DotRows dot_rows;
    DotPack dot_pack;
};

// One block of rows in the hands of one thread.
struct Block {
    char* const* tensors;
    char* scratch;
    int64_t first, rows;
    const Functions* call;
};

// Reads words one after the other.
struct Words {
    const Word* at;
    Word next() { return *at++; }
};

// An affine function of the row number, seen as mixed-radix digits: base + Σ stride·digit, the last digit first.
struct Affine {
    int64_t base;
    int digits;
    const Word* sizes_and_strides;

    Affine() : base(0), digits(0), sizes_and_strides(nullptr) {}
    explicit Affine(Words& words) : base(words.next()), digits((int)words.next()), sizes_and_strides(words.at) { words.at += 2 * digits; }

    int64_t operator()(int64_t row) const {
        if (digits == 1) return base + row * sizes_and_strides[1];
        int64_t value = base;
        for (int d = 0; d < digits; d++) {
            const int64_t size = sizes_and_strides[2 * d], up = row / size;
            value += (row - up * size) * sizes_and_strides[2 * d + 1];
            row = up;
        }
        return value;
    }

    // From one row to the next, as long as only the last digit changes.
    int64_t step() const { return digits ? sizes_and_strides[1] : 0; }
};

enum Space { TENSOR = 0, SCRATCH = 1, VALUE = 2 };

// Where an operand's row begins: in a tensor, in scratch memory, or the value of an affine function itself.
struct Place {
    Word space, slot, size;
    Affine address;

    explicit Place(Words& words) : space(words.next()), slot(words.next()), size(words.next()), address(words) {}

    char* operator()(const Block& block, int64_t row) const {
        if (space == TENSOR) return block.tensors[slot] + address(row) * size;
        return block.scratch + slot + address(row - block.first) * size;
    }
};

// Elements

int64_t element(const char* at, Word size) {
    switch (size) {
        case 1: return *(const int8_t*)at;
        case 2: return *(const int16_t*)at;
        case 4: return *(const int32_t*)at;
        default: return *(const int64_t*)at;
    }
}

template <class F>
void with_type(Word size, F&& f) {
    switch (size) {
        case 1: f((int8_t)0); break;
        case 2: f((int16_t)0); break;
        case 4: f((int32_t)0); break;
        default: f((int64_t)0);
    }
}

}  // namespace
