"""Exact reductions: matrix products, float sums and maxima as integer nodes (docs/numerics.md, "Reductions").

Floats become integers by a power of two of their own row, chosen from the row's largest magnitude; integers are summed exactly, in
any order; the result is scaled back with one rounding. A row that holds an infinity or a NaN gives NaN. Runs longer than one
verdict can read are cut into chunks whose exact results are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

from bisection.errors import UsageError
from bisection.numbers import INFINITY, NAN
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Affine, Const, Expr, apply
from trainer.lowering.verdicts import longest_run
from trainer.lowering.views import expand, narrow, pad, permute, reshape

__all__ = [
    "OPERAND_BITS",
    "SUM_BITS",
    "amax",
    "check_length",
    "chunk_sum",
    "chunks_of",
    "fixed",
    "fixed_sum",
    "integer_sum",
    "largest_magnitude",
    "matmul",
    "merge_last",
    "operand",
    "ordered",
    "reduce_last",
    "scaled",
    "sum_",
    "sum_over",
    "to_fixed",
    "unordered",
]

OPERAND_BITS = range(2, 25)
SUM_BITS = 30  # magnitudes below 2^30 in a float sum; a binary32 significand has 24 bits
_INLINE_CHUNKS = 4  # partial dot products added while they are scaled, rather than by a node of their own
LOWEST = -(1 << 31)


def chunks_of(length: int, most: int) -> tuple[int, int]:
    """(number, size) of equal chunks of at most ``most`` that cover ``length``: a few more where that avoids padding."""
    number = -(-length // most)
    number = next((n for n in range(number, number + number // 2 + 1) if length % n == 0), number)
    return number, -(-length // number)


def chunked(value: Value, most: int, fill: int = 0) -> Value:
    """[…, L] as […, chunks, size] with size at most ``most``, the last chunk filled up with the register ``fill``."""
    *kept, length = value.shape
    number, size = chunks_of(length, most)
    shape = (*kept, number, size)
    rank = len(shape)
    maps = [Affine(0, tuple(int(j == d) for j in range(rank))) for d in range(len(kept))]
    joint = Affine(0, (*(0 for _ in kept), size, 1))
    inside = [(joint, length)] if number * size != length else []
    return pad(value, shape, [*maps, joint], inside, fill)


def reduce_last(builder: Builder, op: str, value: Value, fill: int = 0) -> Value:
    """``op`` over the last dimension of integers, of any length."""
    while value.shape[-1] > (most := longest_run(value.storage)):
        value = builder.reduce(op, chunked(value, most, fill))
        fill = 0 if op == "sum" else fill
    return builder.reduce(op, value)


def _reduce_over(builder: Builder, op: str, value: Value, dims: Sequence[int]) -> Value:
    """``op`` over ``dims`` of integers, which stay as dimensions of size 1. Neighbours among them are reduced together, the last
    first, so that what is not reduced in one go has become small before it is moved."""
    left = [d for d in dims if value.shape[d] > 1]
    while left:
        run = [left.pop()]
        while left and all(value.shape[d] == 1 for d in range(left[-1] + 1, run[0])):
            run.insert(0, left.pop())
        shape = tuple(1 if d in run else size for d, size in enumerate(value.shape))
        value = reshape(builder, reduce_last(builder, op, merge_last(builder, value, run)), shape)
    return value


def largest_magnitude(builder: Builder, value: Value, dims: Sequence[int]) -> Value:
    """The bits (i32) of the largest magnitude over ``dims``, which stay as dimensions of size 1. NaN is above infinity."""
    return _reduce_over(builder, "max", Value(value.shape, "i32", apply("and32", value.expr, 0x7FFFFFFF)), dims)


def to_fixed(builder: Builder, value: Value, magnitudes: Value, bits: int) -> Expr:
    """x·2^s rounded, with s from the magnitude that belongs to x such that every |x|·2^s < 2^bits."""
    shift = apply("sub32", bits + 126, apply("shr32", expand(builder, magnitudes, value.shape).expr, 23))
    return apply("round", apply("ldexp", value.expr, shift))


def fixed(builder: Builder, value: Value, bits: int) -> tuple[Expr, Value]:
    """(integers, magnitudes) of ``to_fixed`` for the rows of […, L]; magnitudes […, 1]."""
    magnitudes = largest_magnitude(builder, value, [len(value.shape) - 1])
    return to_fixed(builder, value, magnitudes, bits), magnitudes


def scaled(total: Expr, bits: int, magnitudes: Sequence[Expr]) -> Expr:
    """``total`` scaled back by each of the rows whose ``magnitudes`` are given, undoing ``fixed``; NaN where one is not finite."""
    exponent: Expr = apply("shr32", magnitudes[0], 23)
    for other in magnitudes[1:]:
        exponent = apply("add32", exponent, apply("shr32", other, 23))
    exponent = apply("sub32", exponent, len(magnitudes) * (bits + 126))
    finite = apply("lt32", magnitudes[0], INFINITY)
    for other in magnitudes[1:]:
        finite = apply("and32", finite, apply("lt32", other, INFINITY))
    return apply("select32", finite, apply("scaled", total, exponent), NAN)


# Matrix products


def operand(shape: tuple[int, ...], integers: Expr, operand_bits: int) -> Value:
    """``integers`` held within ``operand_bits``, in the smallest type that has them."""
    limit = (1 << (operand_bits - 1)) - 1
    low = apply("select32", apply("lt32", integers, -limit), -limit, integers)
    clamped = apply("select32", apply("lt32", limit, low), limit, low)
    return Value(shape, "i8" if operand_bits <= 8 else "i16" if operand_bits <= 16 else "i32", clamped)


def _quantised(builder: Builder, value: Value, operand_bits: int) -> tuple[Value, Value]:
    """[…, M, K] f32 → ([…, chunks, M, size] integers of ``operand_bits``, […, M, 1] magnitudes)."""
    integers, magnitudes = fixed(builder, value, operand_bits - 1)
    whole_rows = operand(value.shape, integers, operand_bits)
    parts = chunked(whole_rows, longest_run(whole_rows.dtype, whole_rows.dtype))
    rank = len(parts.shape)
    return permute(parts, [*range(rank - 3), rank - 2, rank - 3, rank - 1]), magnitudes


def check_length(k: int, operand_bits: int) -> None:
    """Raise UsageError if a product over ``k`` elements could overflow."""
    if 2 * operand_bits - 2 + k.bit_length() > 63:
        raise UsageError(f"a product over {k} elements of {operand_bits} bits could pass 2^63: use fewer operand bits")


def chunk_sum(builder: Builder, partial: Value) -> Expr:
    """[…, chunks, M, N] i64 → […, M, N]: the sum over the chunks."""
    *batch, number, m, n = partial.shape
    at = len(batch)
    if number > _INLINE_CHUNKS:
        return reduce_last(builder, "sum", permute(partial, [*range(at), at + 1, at + 2, at])).expr
    chunks = [reshape(builder, narrow(partial, at, s, 1), (*batch, m, n)).expr for s in range(number)]
    return reduce(lambda a, b: apply("add64", a, b), chunks)


def matmul(builder: Builder, a: Value, b: Value, operand_bits: int) -> Value:
    """a[…, M, K] · b[…, N, K] → f32 […, M, N]; leading dimensions are equal. Both are quantised row by row to ``operand_bits``."""
    *batch, m, k = a.shape
    n = b.shape[-2]
    if k == 0:
        return Value((*batch, m, n), "f32", Const(0))
    check_length(k, operand_bits)
    (qa, rows), (qb, columns) = (_quantised(builder, builder.keep(x), operand_bits) for x in (a, b))
    partial = builder.dot(qa, qb)
    shape, at = (*batch, m, n), len(batch)
    total = chunk_sum(builder, partial)
    magnitudes = [
        expand(builder, rows, shape).expr,
        expand(builder, permute(columns, [*range(at), at + 1, at]), shape).expr,
    ]
    return Value(shape, "f32", scaled(total, operand_bits - 1, magnitudes))


# Sums and maxima


def merge_last(builder: Builder, value: Value, dims: Sequence[int]) -> Value:
    """``value`` with ``dims`` moved to the end and joined into one dimension."""
    kept = [d for d in range(len(value.shape)) if d not in dims]
    moved = permute(value, [*kept, *dims])
    shape = tuple(value.shape[d] for d in kept)
    return reshape(builder, moved, (*shape, prod(value.shape[d] for d in dims)))


def sum_(builder: Builder, value: Value) -> Value:
    """[…, L] f32 → […] f32: the sum in fixed point, relative to the largest magnitude of each row, rounded once."""
    *kept, length = value.shape
    if length == 0:
        return Value(tuple(kept), "f32", Const(0))
    if length == 1:
        return reshape(builder, value, tuple(kept))
    value = builder.keep(value)
    integers, magnitudes = fixed(builder, value, SUM_BITS)
    total = reduce_last(builder, "sum", Value(value.shape, "i32", integers))
    row = reshape(builder, magnitudes, total.shape).expr
    return Value(total.shape, "f32", scaled(total.expr, SUM_BITS, [row]))


def sum_over(builder: Builder, value: Value, dims: Sequence[int]) -> Value:
    """As ``sum_``, over ``dims``, which stay as dimensions of size 1."""
    shape = tuple(1 if d in dims else size for d, size in enumerate(value.shape))
    if prod(value.shape[d] for d in dims) <= 1 or value.count == 0:
        return reshape(builder, sum_(builder, merge_last(builder, value, dims)), shape)
    value = builder.keep(value)
    magnitudes = largest_magnitude(builder, value, dims)
    integers = Value(value.shape, "i32", to_fixed(builder, value, magnitudes, SUM_BITS))
    total = _reduce_over(builder, "sum", integers, dims)
    return Value(shape, "f32", scaled(total.expr, SUM_BITS, [magnitudes.expr]))


def fixed_sum(builder: Builder, value: Value) -> Value:
    """As ``sum_`` for values known to lie in -1 … 1: no maximum is needed. NaN counts as 0."""
    integers = apply("round", apply("ldexp", value.expr, SUM_BITS))
    total = reduce_last(builder, "sum", Value(value.shape, "i32", integers))
    return Value(total.shape, "f32", apply("scaled", total.expr, -SUM_BITS))


def integer_sum(builder: Builder, value: Value) -> Value:
    """[…, L] integers or bool → […] i64, exact."""
    if value.shape[-1] == 0:
        return Value(value.shape[:-1], "i64", Const(0))
    return reduce_last(builder, "sum", value)


def ordered(x: Expr) -> Expr:
    """A float as an i32 that orders as floats do: -0 below +0, every NaN above infinity. ``unordered`` undoes it."""
    nan = apply("lt32", INFINITY, apply("and32", x, 0x7FFFFFFF))
    return apply("select32", nan, 0x7FFFFFFF, unordered(x))


def unordered(key: Expr) -> Expr:
    """The float whose key is ``key`` (its own inverse on all but NaN)."""
    return apply("xor32", key, apply("and32", apply("shr32", key, 31), 0x7FFFFFFF))


def amax(builder: Builder, value: Value) -> Value:
    """[…, L] → […]: the largest element, NaN if there is one. L is at least 1."""
    if value.dtype == "f32":
        keys = Value(value.shape, "i32", ordered(builder.keep(value).expr))
        best = reduce_last(builder, "max", keys, LOWEST)
        return Value(best.shape, "f32", unordered(best.expr))
    width = "i64" if value.dtype == "i64" else "i32"
    best = reduce_last(builder, "max", Value(value.shape, width, value.expr), -(1 << 63) if width == "i64" else LOWEST)
    return Value(best.shape, value.dtype, best.expr)
