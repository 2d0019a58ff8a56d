// Exact integer products C[m,n] = Σ_k A[m,k]·B[n,k], both operands K-contiguous, wrapping in i64 as two's complement does.
//
// Any values of the type are right, on any instruction set: the bits never depend on how the kernels were compiled.
// All functions are re-entrant and start no threads. `type` is the size of an element of A and B in bytes: 1, 2 or 4.
#pragma once

#include <cstdint>

extern "C" {

// The size in bytes of the packed form of B[n,k]. It need not be aligned, but is read faster at a multiple of 64.
int64_t dot_packed_bytes(int type, int64_t n, int64_t k);

// How many rows of B are packed together.
int64_t dot_panel(int type);

// Packs rows n0 to n1 of B, row-major n x k; n0 is a multiple of dot_panel, n1 too or else n. Several threads may pack ranges of
// their own. Every range is to be packed before dot_rows begins.
void dot_pack(int type, const void* b, int64_t n, int64_t k, int64_t n0, int64_t n1, void* packed);

// out[r·ldo + j] = Σ_i a[r·lda + i]·B[j,i] for r < rows, j < n. `out_type` is the size of an element of out in bytes, 8 or 4;
// with 4, the sum modulo 2^32 is written. Nothing outside the rows of A and of out is touched. Blocks of 96 rows are fastest, and
// any multiple of 12 is fast. A thread keeps 200 KB for itself.
void dot_rows(int type, const void* a, int64_t lda, int64_t rows, const void* packed, int64_t n, int64_t k, void* out, int64_t ldo,
              int out_type);
}
