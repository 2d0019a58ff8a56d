"""Indexing by integer tensors, and its gradients: index, index_put, scatter.

What lies outside a tensor reads as 0 and is written nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Const, Expr, apply
from trainer.lowering.lookups import scattered_sums
from trainer.lowering.reductions import reduce_last, sum_
from trainer.lowering.shapes import dimension
from trainer.lowering.table import Context, constant, lowers, select
from trainer.lowering.views import expand, narrow, pad, permute, position, reshape, unsqueeze
from trainer.lowering.windows import affine

__all__: list[str] = []

_INLINE = 4  # writes along a dimension that one map chooses among itself


class _Indexed:
    """Where the dimensions of ``a`` go under ``indices`` (None or an integer tensor for each leading dimension): the indexed ones
    are looked up together, the others come along."""

    def __init__(self, ctx: Context, a: Value, indices: Sequence[Value | None]) -> None:
        self.builder = ctx.builder
        self.a = a
        self.dims = [d for d, index in enumerate(indices) if index is not None]
        self.rest = [d for d in range(len(a.shape)) if d not in self.dims]
        given = [index for index in indices if index is not None]
        if any(index.dtype in ("bool", "u8") for index in given):
            ctx.refuse("an index of truth values has no lowering: use torch.where")
        rank = max(len(index.shape) for index in given)
        padded = [(1,) * (rank - len(index.shape)) + index.shape for index in given]
        self.shape = tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*padded, strict=True))
        self.bins = prod(a.shape[d] for d in self.dims)
        self.width = prod(a.shape[d] for d in self.rest)
        flat: Expr = Const(0)
        inside: Expr = Const(1)
        for d, index in zip(self.dims, given, strict=True):
            at, size = expand(self.builder, index, self.shape).expr, a.shape[d]
            at = apply("select64", apply("lt64", at, 0), apply("add64", at, size), at)
            inside = apply("and32", inside, apply("and32", apply("le64", 0, at), apply("lt64", at, size)))
            flat = apply("add64", apply("mul64", flat, size), at)
        self.places = Value(self.shape, "i64", apply("select64", inside, flat, -1))

    @property
    def front(self) -> int:
        """Where the looked-up dimensions stand in the result: in place if they are neighbours, else first."""
        neighbours = self.dims == list(range(self.dims[0], self.dims[-1] + 1))
        return self.dims[0] if neighbours else 0

    def table(self) -> Value:
        """``a`` as [bins, width]."""
        return reshape(self.builder, permute(self.a, [*self.dims, *self.rest]), (self.bins, self.width))

    def picked(self, rows: Value) -> Value:
        """[*shape, width] as the result of indexing."""
        n, m = len(self.shape), len(self.rest)
        split = reshape(self.builder, rows, (*self.shape, *(self.a.shape[d] for d in self.rest)))
        return permute(split, [*range(n, n + self.front), *range(n), *range(n + self.front, n + m)])

    def rows(self, values: Value) -> Value:
        """Values in the shape of the result of indexing as [length, width]."""
        n, m = len(self.shape), len(self.rest)
        full = tuple(self.a.shape[d] for d in self.rest)
        wide = expand(self.builder, values, (*full[: self.front], *self.shape, *full[self.front :]))
        moved = permute(wide, [*range(self.front, self.front + n), *range(self.front), *range(self.front + n, n + m)])
        return reshape(self.builder, moved, (prod(self.shape), self.width))

    def back(self, table: Value) -> Value:
        """[bins, width] in the shape of ``a``."""
        order = [*self.dims, *self.rest]
        split = reshape(self.builder, table, tuple(self.a.shape[d] for d in order))
        return permute(split, [order.index(d) for d in range(len(order))])


@lowers("aten.index.Tensor")
def _index(ctx: Context, a: Value, indices: Sequence[Value | None]) -> Value:
    """The elements of a at integer indices, negative ones counted from the end; 0 outside."""
    at = _Indexed(ctx, a, indices)
    return at.picked(ctx.builder.gather(at.table(), at.places))


@lowers("aten.index_select.default")
def _index_select(ctx: Context, a: Value, dim: int, index: Value) -> Value:
    """Slices of a at integer indices along a dimension; 0 outside."""
    indices = [None] * dimension(dim, len(a.shape)) + [reshape(ctx.builder, index, (index.count,))]
    return reshape(ctx.builder, _index(ctx, reshape(ctx.builder, a, a.shape or (1,)), indices), ctx.shape)


@lowers("aten.index_put.default")
def _index_put(ctx: Context, a: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    """a with values put, or added, at integer indices; of several values for one place the last one stays, or all are added."""
    return _put_at(ctx, a, indices, values, accumulate)


def _put_at(ctx: Context, a: Value, indices: Sequence[Value | None], values: Value, accumulate: bool) -> Value:
    at = _Indexed(ctx, a, indices)
    rows = at.rows(values)
    places = reshape(ctx.builder, at.places, (rows.shape[0],))
    if accumulate:
        if ctx.dtype != "f32":
            ctx.refuse(f"adding {ctx.dtype} at indices has no lowering: convert to float32 first")
        total = scattered_sums(ctx.builder, permute(ctx.builder.keep(rows), [1, 0]), places, at.bins)
        return Value(a.shape, "f32", apply("fadd", a.expr, at.back(permute(total, [1, 0])).expr))
    return at.back(_written(ctx.builder, at.table(), places, rows))


@lowers("aten.put.default")
def _put(ctx: Context, a: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    """As index_put into the elements in C order."""
    flat, count = reshape(ctx.builder, a, (a.count,)), (index.count,)
    values, places = (reshape(ctx.builder, v, count) for v in (source, index))
    return reshape(ctx.builder, _put_at(ctx, flat, [places], values, accumulate), ctx.shape)


def _written(builder: Builder, table: Value, places: Value, rows: Value) -> Value:
    """``table`` [bins, width] with row i of ``rows`` written at places[i], later rows over earlier ones."""
    bins, length = table.shape[0], places.shape[0]
    places = builder.materialise([places])[0]
    shape = (bins, length)
    hit = apply("eq64", expand(builder, unsqueeze(places, 0), shape).expr, position(shape, 0).expr)
    latest = Value(shape, "i32", apply("select32", hit, apply("add64", position(shape, 1).expr, 1), 0))
    source = reduce_last(builder, "max", latest)
    found = builder.gather(rows, Value((bins,), "i64", apply("sub64", source.expr, 1)))
    written = expand(builder, unsqueeze(source, 1), table.shape).expr
    return Value(table.shape, table.dtype, select(table.dtype, written, found.expr, table.expr))


# Along one dimension: an element of the index says where the same element of the source goes along that dimension.


def _spread(value: Value, shape: tuple[int, ...], d: int, fill: int) -> Expr:
    """``value`` at every element of ``shape``, which has a dimension in place of ``d`` and perhaps d itself as one more at the end.
    ``value`` may be smaller elsewhere: ``fill`` there."""
    rank, n = len(shape), len(value.shape)
    maps = [affine(rank, [(n, 1)] if i == d and rank > n else [] if i == d else [(i, 1)]) for i in range(n)]
    inside = [(maps[i], value.shape[i]) for i in range(n) if i != d and value.shape[i] < shape[i]]
    return pad(value, shape, maps, inside, fill).expr


def _cut(value: Value, shape: Sequence[int]) -> Value:
    """The leading part of ``value`` that has ``shape``."""
    for d, size in enumerate(shape):
        value = narrow(value, d, 0, size)
    return value


@lowers("aten.scatter.src", "aten.scatter.value")
def _scatter(ctx: Context, a: Value, dim: int, index: Value, source: Any) -> Value:
    """a with elements of source, or a number, written along one dimension at the places that index gives; the last one stays."""
    builder, rank = ctx.builder, len(a.shape)
    if rank == 0:
        return ctx.value(ctx.expand(source, ctx.dtype))
    d = dimension(dim, rank)
    given = _cut(source, index.shape) if isinstance(source, Value) else Value(index.shape, ctx.dtype, constant(source, ctx.dtype))
    index, given = builder.keep(index), builder.keep(given)
    count, place = index.shape[d], position(a.shape, d).expr
    if count <= _INLINE:
        result = a.expr
        for j in range(count):
            hit = apply("eq64", _spread(narrow(index, d, j, 1), a.shape, d, -1), place)
            result = select(ctx.dtype, hit, _spread(narrow(given, d, j, 1), a.shape, d, 0), result)
        return ctx.value(result)
    shape = (*a.shape, count)
    hit = apply("eq64", _spread(index, shape, d, -1), position(shape, d).expr)
    number = apply("add64", position(shape, rank).expr, 1)
    latest = reduce_last(builder, "max", Value(shape, "i32", apply("select32", hit, number, 0))).expr
    flat: Expr = Const(0)
    for i in range(rank):
        at = apply("sub64", latest, 1) if i == d else position(a.shape, i).expr
        flat = apply("add64", apply("mul64", flat, given.shape[i]), at)
    chosen = builder.gather(reshape(builder, given, (given.count,)), Value(a.shape, "i64", flat))
    return ctx.value(select(ctx.dtype, latest, chosen.expr, a.expr))


@lowers("aten.scatter_add.default")
def _scatter_add(ctx: Context, a: Value, dim: int, index: Value, source: Value) -> Value:
    """a plus every element of source at the place along one dimension that index gives: Σ over the source of a choice."""
    rank = len(a.shape)
    if ctx.dtype != "f32" or rank == 0:
        ctx.refuse("it has a lowering for float32 of at least one dimension")
    d = dimension(dim, rank)
    shape = (*a.shape, index.shape[d])
    index, given = ctx.builder.keep(index), ctx.builder.keep(_cut(source, index.shape))
    hit = apply("eq64", _spread(index, shape, d, -1), position(shape, d).expr)
    added = sum_(ctx.builder, Value(shape, "f32", apply("select32", hit, _spread(given, shape, d, 0), 0)))
    return ctx.value(apply("fadd", a.expr, added.expr))
