"""Operators that put elements elsewhere by a fixed pattern: rolling, repeating, diagonals, patches and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from trainer.lowering.builder import Value
from trainer.lowering.expression import Affine, apply
from trainer.lowering.reductions import sum_over
from trainer.lowering.shapes import dimension
from trainer.lowering.table import Context, lowers, select
from trainer.lowering.views import expand, narrow, pad, permute, position, reshape
from trainer.lowering.windows import Axis, affine, collect, windows

__all__: list[str] = []


@lowers("aten.roll.default")
def _roll(ctx: Context, a: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Elements moved along dimensions, those that leave coming in at the other end."""
    builder = ctx.builder
    value = builder.keep(a) if dims else builder.keep(reshape(builder, a, (a.count,)))
    for shift, dim in zip(shifts, dims or [0], strict=True):
        d = dimension(dim, len(value.shape))
        size = value.shape[d]
        first = shift % size if size else 0
        if first == 0:
            continue
        rank = len(value.shape)
        same: list[Affine] = [affine(rank, [(i, 1)]) for i in range(rank)]
        parts = []
        for offset in (-first, size - first):
            maps = [*same[:d], affine(rank, [(d, 1)], offset), *same[d + 1 :]]
            parts.append(pad(value, value.shape, maps, [(maps[d], size)]).expr)
        moved = select(value.dtype, apply("lt64", position(value.shape, d).expr, first), parts[1], parts[0])
        value = Value(value.shape, value.dtype, moved)
    return reshape(builder, value, ctx.shape)


@lowers("aten.repeat.default")
def _repeat(ctx: Context, a: Value, repeats: Sequence[int]) -> Value:
    """The whole tensor repeated along dimensions, new ones before the others."""
    sizes = (1,) * (len(repeats) - len(a.shape)) + a.shape
    split = reshape(ctx.builder, a, tuple(n for size in sizes for n in (1, size)))
    wide = expand(ctx.builder, split, tuple(n for times, size in zip(repeats, sizes, strict=True) for n in (times, size)))
    return reshape(ctx.builder, wide, ctx.shape)


# Diagonals


@lowers("aten.diagonal.default")
def _diagonal(ctx: Context, a: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The diagonal of two dimensions as the last one."""
    rank = len(a.shape)
    first, second = dimension(dim1, rank), dimension(dim2, rank)
    places = iter(range(rank - 2))
    starts = {first: max(-offset, 0), second: max(offset, 0)}
    maps = [affine(rank - 1, [(rank - 2 if d in starts else next(places), 1)], starts.get(d, 0)) for d in range(rank)]
    return pad(a, ctx.shape, maps, [])


@lowers("aten.diagonal_scatter.default")
def _diagonal_scatter(ctx: Context, a: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """a with the diagonal of two dimensions replaced by source."""
    rank = len(a.shape)
    first, second = dimension(dim1, rank), dimension(dim2, rank)
    rest = [d for d in range(rank) if d not in (first, second)]
    along = affine(rank, [(first, 1)], -max(-offset, 0))
    on = affine(rank, [(second, 1), (first, -1)], -offset)
    length = source.shape[-1]
    placed = pad(ctx.builder.keep(source), a.shape, [*(affine(rank, [(d, 1)]) for d in rest), along], [(along, length), (on, 1)])
    row, column = position(a.shape, first).expr, position(a.shape, second).expr
    held = apply("eq64", apply("sub64", column, row), offset)
    return ctx.value(select(ctx.dtype, held, placed.expr, a.expr))


# Patches


def _last(value: Value, dim: int) -> Value:
    """``value`` with a dimension moved to the end."""
    return permute(value, [*(i for i in range(len(value.shape)) if i != dim), dim])


@lowers("aten.unfold.default")
def _unfold(ctx: Context, a: Value, dim: int, size: int, step: int) -> Value:
    """Windows along a dimension, their elements as a last dimension."""
    if not a.shape:
        return reshape(ctx.builder, a, ctx.shape)
    d = dimension(dim, len(a.shape))
    moved = windows(_last(a, d), [Axis(a.shape[d], ctx.shape[d], size, step)])
    rank = len(moved.shape)
    return permute(moved, [*range(d), rank - 2, *range(d, rank - 2), rank - 1])


@lowers("aten.unfold_backward.default")
def _unfold_backward(ctx: Context, gradient: Value, shape: Sequence[int], dim: int, size: int, step: int) -> Value:
    """The gradient of unfold: each element collects from the windows that hold it."""
    rank = len(shape)
    if not rank:
        return reshape(ctx.builder, gradient, ())
    d = dimension(dim, rank)
    order = [*(i for i in range(rank) if i != d), d, rank]
    axis = Axis(shape[d], gradient.shape[d], size, step)
    total = collect(ctx.builder, permute(ctx.builder.keep(gradient), order), [axis])
    return permute(total, [*range(d), rank - 1, *range(d, rank - 1)])


def _patch_axes(
    shape: Sequence[int], size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> list[Axis]:
    return [
        Axis(n, (n + 2 * p - d * (k - 1) - 1) // s + 1, k, s, p, d)
        for n, k, d, p, s in zip(shape, size, dilation, padding, stride, strict=True)
    ]


@lowers("aten.im2col.default")
def _im2col(
    ctx: Context, a: Value, size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Value:
    """Patches of the last two dimensions as columns."""
    axes = _patch_axes(a.shape[-2:], size, dilation, padding, stride)
    found = windows(ctx.builder.keep(a), axes)
    rank = len(found.shape)
    return reshape(ctx.builder, permute(found, [*range(rank - 4), rank - 2, rank - 1, rank - 4, rank - 3]), ctx.shape)


@lowers("aten.col2im.default")
def _col2im(
    ctx: Context,
    a: Value,
    shape: Sequence[int],
    size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    """Columns added up where their patches lie: the gradient of im2col."""
    axes = _patch_axes(shape, size, dilation, padding, stride)
    if any(axis.stride > 1 and axis.dilation > 1 for axis in axes):
        ctx.refuse("a stride together with a dilation has no lowering here: use one of them")
    lead = a.shape[:-2]
    channels = a.shape[-2] // prod(size)
    split = reshape(ctx.builder, ctx.builder.keep(a), (*lead, channels, *size, *(axis.outputs for axis in axes)))
    rank = len(split.shape)
    moved = permute(split, [*range(rank - 4), rank - 2, rank - 1, rank - 4, rank - 3])
    return collect(ctx.builder, moved, axes)


@lowers("aten.replication_pad1d_backward.default", "aten.replication_pad2d_backward.default")
def _replication_pad_backward(ctx: Context, gradient: Value, a: Value, padding: Sequence[int]) -> Value:
    """The gradient of a border that repeats the edge."""
    value, rank = gradient, len(a.shape)
    for i in range(len(padding) // 2):
        value = _edge_backward(ctx, value, rank - 1 - i, padding[2 * i], a.shape[rank - 1 - i])
    return value


def _edge_backward(ctx: Context, value: Value, d: int, before: int, size: int) -> Value:
    """What a border along ``d`` gathered from the edges, added to them."""
    value = ctx.builder.keep(value)
    inner = narrow(value, d, before, size)
    index = position(inner.shape, d).expr
    result = inner.expr
    for start, length, edge in ((0, before, 0), (before + size, value.shape[d] - before - size, size - 1)):
        if length:
            total = expand(ctx.builder, sum_over(ctx.builder, narrow(value, d, start, length), [d]), inner.shape).expr
            result = apply("fadd", result, apply("select32", apply("eq64", index, edge), total, 0))
    return Value(inner.shape, "f32", result)
