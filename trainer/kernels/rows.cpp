// Runs a step as trainer/plan.py lays it out: groups of operations over blocks of rows, on a few threads.
//
// A group has `rows` rows that do not depend on each other. Each thread takes blocks of rows and runs all operations of the group on
// one block before the next, so that what passes from one operation to the next stays in its scratch memory, in cache. Rows are
// the only unit of parallelism, and no result depends on how they are divided: every operation computes each row on its own.
//
// Programs are words (int64). `trainer/plan.py` writes them and says what each operation means.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <thread>
#include <unistd.h>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

// stage: an affine read, made dense in scratch memory

constexpr int MOST_LOOPS = 32, MOST_CONDITIONS = 260;  // a node of 2,048 bytes has fewer

struct Condition {
    Affine base;
    int64_t size = 0;
    const Word* coefficients = nullptr;  // one for each inner loop
    Condition() : base() {}
    Condition(Words& words, int rank) : base(words), size(words.next()), coefficients(words.at) { words.at += rank; }
};

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
        for (int c = 0; c < count; c++) {
            const int64_t by = conditions[c].coefficients[last], start = bases[c], size = conditions[c].size;
            if (by == 0) {
                if (start < 0 || start >= size) high = 0;
            } else if (by > 0) {
                if (start < 0) low = std::max(low, (-start + by - 1) / by);
                high = start >= size ? 0 : std::min(high, (size - 1 - start) / by + 1);
            } else {
                if (start >= size) low = std::max(low, (start - size - by) / -by);
                high = start < 0 ? 0 : std::min(high, start / -by + 1);
            }
        }
        low = std::min(low, std::max<int64_t>(high, 0));
        high = std::max(high, low);
        for (int64_t j = 0; j < low; j++) to[j] = 0;
        const T* source = from + at;
        if (stride == 1) {
            for (int64_t j = low; j < high; j++) to[j] = source[j];
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

void (*const OPERATIONS[])(Words&, const Block&) = {run_map, run_stage, run_reduce, run_dot, run_gather, run_scatter, run_store, run_pack};

// Subnormal numbers count, whatever the caller's thread is set to.
struct ExactFloats {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    ExactFloats() { _mm_setcsr(0x1F80); }
    ~ExactFloats() { _mm_setcsr(before); }
#endif
};

struct Group {
    int64_t rows, block, first_word, operations;
};

struct Job {
    const Word* words;
    char* const* tensors;
    const Functions* call;
    Group group;
    std::atomic<int64_t>* spent;  // nanoseconds of each operation over all threads, or null
    std::atomic<int64_t> next{0};
};

// The time this thread has been running: other processes do not count.
int64_t now() {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * (int64_t)1000000000 + time.tv_nsec;
}

void work(Job& job, char* scratch) {
    const ExactFloats exact;
    const Group& group = job.group;
    for (;;) {
        const int64_t first = job.next.fetch_add(1) * group.block;
        if (first >= group.rows) return;
        const Block block{job.tensors, scratch, first, std::min(group.block, group.rows - first), job.call};
        Words words{job.words + group.first_word};
        for (int64_t i = 0; i < group.operations; i++) {
            const int64_t begun = job.spent ? now() : 0;
            OPERATIONS[words.next()](words, block);
            if (job.spent) job.spent[i] += now() - begun;
        }
    }
}

// Threads that wait for groups. One pool serves the whole process; steps of several executors take turns.
class Pool {
  public:
    void run(Job& job, int threads, size_t scratch_bytes) {
        const int helpers = (int)std::min<int64_t>(threads, (job.group.rows + job.group.block - 1) / job.group.block) - 1;
        grow(helpers, scratch_bytes);
        if (helpers > 0) {
            {
                std::lock_guard<std::mutex> lock(mutex);
                current = &job;
                wanted = left = helpers;
                generation++;
            }
            wake.notify_all();
        }
        work(job, scratch[0]);
        if (helpers > 0) {
            for (int spin = 0; spin < 4000 && left.load() != 0; spin++) pause();
            std::unique_lock<std::mutex> lock(mutex);
            done.wait(lock, [&] { return left.load() == 0; });
        }
    }

    std::mutex turn;

  private:
    static void pause() {
#if defined(__x86_64__)
        _mm_pause();
#endif
    }

    void grow(int helpers, size_t bytes) {
        std::lock_guard<std::mutex> lock(mutex);
        if (bytes > scratch_bytes || (int)scratch.size() < helpers + 1) {
            for (char* old : scratch) std::free(old);
            scratch_bytes = std::max(bytes, scratch_bytes);
            scratch.assign(std::max<size_t>(scratch.size(), helpers + 1), nullptr);
            for (char*& memory : scratch) memory = (char*)std::aligned_alloc(64, (scratch_bytes + 127) / 64 * 64);
        }
        for (; started < helpers; started++) std::thread(&Pool::serve, this, started, generation).detach();
    }

    void serve(int number, int64_t seen) {
        for (;;) {
            Job* job;
            char* memory;
            {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return generation != seen; });
                seen = generation;
                if (number >= wanted) continue;
                job = current;
                memory = scratch[number + 1];
            }
            work(*job, memory);
            if (left.fetch_sub(1) == 1) {
                std::lock_guard<std::mutex> lock(mutex);
                done.notify_one();
            }
        }
    }

    std::mutex mutex;
    std::condition_variable wake, done;
    std::vector<char*> scratch;
    size_t scratch_bytes = 0;
    Job* current = nullptr;
    int wanted = 0, started = 0;
    std::atomic<int> left{0};
    int64_t generation = 0;
};

// One pool for each process: after a fork the threads are gone. It outlives those that wait in it.
Pool& pool() {
    static std::atomic<Pool*> it{nullptr};
    static std::atomic<pid_t> owner{0};
    if (owner.exchange(getpid()) != getpid()) it = new Pool;
    return *it;
}

}  // namespace

// Runs `groups` (four words each: rows, rows a block, first word, operations) of a step. `spent`, unless it is null, has one
// counter for each operation, to which the nanoseconds are added that threads spend in it.
extern "C" void run_groups(const Word* groups, int64_t count, const Word* words, char* const* tensors, int64_t scratch_bytes, int threads,
                           const Functions* call, int64_t* spent) {
    static_assert(sizeof(std::atomic<int64_t>) == sizeof(int64_t), "counters are plain words");
    std::lock_guard<std::mutex> turn(pool().turn);
    for (int64_t g = 0; g < count; g++) {
        Job job;
        job.words = words;
        job.tensors = tensors;
        job.call = call;
        job.group = Group{groups[4 * g], groups[4 * g + 1], groups[4 * g + 2], groups[4 * g + 3]};
        job.spent = (std::atomic<int64_t>*)spent;
        pool().run(job, threads, scratch_bytes);
        if (spent) spent += job.group.operations;
    }
}
