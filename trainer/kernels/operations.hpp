// The operations on rows, other than staging. `trainer/compiler/plan.py` says what their words are.
#pragma once

#include "rows.hpp"

namespace {

// map

constexpr int MOST_POINTERS = 40;

void run_map(Words& words, const Block& block) {
    const Kernel kernel = (Kernel)words.next();
    const int inputs = (int)words.next(), outputs = (int)words.next();
    const bool flat = words.next();
    const int64_t length = words.next();
    std::vector<Place> places;
    places.reserve(inputs + outputs);
    for (int i = 0; i < inputs + outputs; i++) places.emplace_back(words);
    const char* in[MOST_POINTERS];
    char* out[MOST_POINTERS];
    int64_t values[MOST_POINTERS];
    const int64_t step = flat ? block.rows : 1;
    for (int64_t row = block.first; row < block.first + block.rows; row += step) {
        for (int i = 0; i < inputs; i++) {
            if (places[i].space == VALUE) {
                values[i] = places[i].address(row);
                in[i] = (const char*)&values[i];
            } else {
                in[i] = places[i](block, row);
            }
        }
        for (int i = 0; i < outputs; i++) out[i] = places[inputs + i](block, row);
        kernel(length * step, in, out);
    }
}

// reduce

template <class T>
void sum_runs(const char* from, char* to, int64_t length, int64_t runs) {
    const T* x = (const T*)from;
    int64_t* y = (int64_t*)to;
    for (int64_t i = 0; i < runs; i++, x += length) {
        uint64_t total = 0;
        for (int64_t j = 0; j < length; j++) total += (uint64_t)(int64_t)x[j];
        y[i] = (int64_t)total;
    }
}

template <class T>
void max_runs(const char* from, char* to, int64_t length, int64_t runs) {
    const T* x = (const T*)from;
    T* y = (T*)to;
    for (int64_t i = 0; i < runs; i++, x += length) {
        T best = x[0];
        for (int64_t j = 1; j < length; j++) best = x[j] > best ? x[j] : best;
        y[i] = best;
    }
}

void run_reduce(Words& words, const Block& block) {
    const Place from(words), to(words);
    const bool maximum = words.next();
    const int64_t length = words.next(), runs = words.next() * block.rows;  // the runs of all rows lie side by side
    with_type(from.size, [&](auto zero) {
        using T = decltype(zero);
        if (maximum)
            max_runs<T>(from(block, block.first), to(block, block.first), length, runs);
        else
            sum_runs<T>(from(block, block.first), to(block, block.first), length, runs);
    });
}

// dot: `outer` x `each` rows of A for every row, against the packed matrix of the batch that a row belongs to

void run_dot(Words& words, const Block& block) {
    const Place a(words), out(words);
    const int type = (int)words.next(), out_type = (int)words.next();
    const char* packed = block.tensors[words.next()];
    const int64_t matrix = words.next(), m = words.next(), n = words.next(), k = words.next();
    const int64_t total = words.next(), outer = words.next(), each = words.next();
    const int64_t a_row = words.next(), out_row = words.next();  // elements from one row to the next
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t row = block.first; row < block.first + block.rows;) {
            const char* from = a(block, row) + o * each * k * a.size;
            char* to = out(block, row) + o * each * n * out.size;
            int64_t done = 0, place = (o * total + row) * each;
            // Rows of one block follow each other evenly when each row holds one row of A; else a row is taken at a time.
            int64_t wanted = each == 1 ? block.first + block.rows - row : each;
            if (each == 1) wanted = std::min(wanted, m - place % m);
            while (done < wanted) {
                const int64_t take = std::min(wanted - done, m - (place + done) % m);
                block.call->dot_rows(type, from + done * (each == 1 ? a_row : k) * a.size, each == 1 ? a_row : k, take,
                                     packed + (place + done) / m * matrix, n, k, to + done * (each == 1 ? out_row : n) * out.size,
                                     each == 1 ? out_row : n, out_type);
                done += take;
            }
            row += each == 1 ? wanted : 1;
        }
    }
}

// gather, scatter_add, store

void run_gather(Words& words, const Block& block) {
    const Place index(words), out(words);
    const char* table = block.tensors[words.next()];
    const int64_t rows = words.next(), width = words.next(), each = words.next();  // width in bytes
    for (int64_t row = block.first; row < block.first + block.rows; row++) {
        const char* at = index(block, row);
        char* to = out(block, row);
        for (int64_t i = 0; i < each; i++) {
            const int64_t chosen = element(at + i * index.size, index.size);
            if (chosen >= 0 && chosen < rows)
                std::memcpy(to + i * width, table + chosen * width, width);
            else
                std::memset(to + i * width, 0, width);
        }
    }
}

void run_scatter(Words& words, const Block& block) {
    const Place values(words), out(words);
    const char* index = block.tensors[words.next()];
    const int64_t index_size = words.next(), length = words.next(), bins = words.next(), each = words.next();
    for (int64_t row = block.first; row < block.first + block.rows; row++) {
        const char* from = values(block, row);
        uint64_t* to = (uint64_t*)out(block, row);
        std::memset(to, 0, each * bins * 8);
        for (int64_t i = 0; i < each; i++)
            for (int64_t j = 0; j < length; j++) {
                const int64_t bin = element(index + j * index_size, index_size);
                if (bin >= 0 && bin < bins) to[i * bins + bin] += (uint64_t)element(from + (i * length + j) * values.size, values.size);
            }
    }
}

void run_store(Words& words, const Block& block) {
    const Place from(words);
    char* to = block.tensors[words.next()];
    const int64_t total = words.next(), outer = words.next(), inner = words.next();  // inner in bytes
    for (int64_t row = block.first; row < block.first + block.rows; row++)
        for (int64_t o = 0; o < outer; o++)
            std::memcpy(to + (o * total + row) * inner, from(block, row) + o * inner, inner);
}

// pack: rows are panels of all matrices of a batch

void run_pack(Words& words, const Block& block) {
    const int type = (int)words.next();
    const char* b = block.tensors[words.next()];
    char* packed = block.tensors[words.next()];
    const int64_t matrix = words.next(), n = words.next(), k = words.next(), panel = words.next(), panels = words.next();
    for (int64_t row = block.first; row < block.first + block.rows; row++) {
        const int64_t batch = row / panels, first = row % panels * panel;
        block.call->dot_pack(type, b + batch * n * k * type, n, k, first, std::min(first + panel, n), packed + batch * matrix);
    }
}

}  // namespace
