"""Operators that only change shape or pick elements: views, concatenation, padding, lookups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.lowering.builder import Value
from trainer.lowering.expression import Affine, Expr, apply
from trainer.lowering.table import Context, constant, lowers, select
from trainer.lowering.views import expand, narrow, pad, permute, position, reshape

__all__ = ["VIEWS"]

VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "alias.default",
        "expand.default",
        "permute.default",
        "select.int",
        "slice.Tensor",
        "squeeze.dims",
        "unsqueeze.default",
        "view.default",
    )
)
"""Operators whose result is another look at their operand, so that its users count as the operand's users."""


def dimension(dim: int, rank: int) -> int:
    """``dim`` counted from 0."""
    return dim % rank if rank else 0


@lowers("aten.view.default", "aten.squeeze.dims", "aten.unsqueeze.default")
def _view(ctx: Context, a: Value, *_: Any) -> Value:
    """The same elements in C order in another shape."""
    return reshape(ctx.builder, a, ctx.shape)


@lowers("aten.expand.default")
def _expand(ctx: Context, a: Value, *_: Any, **__: Any) -> Value:
    """a repeated along dimensions of size 1 and new ones."""
    return expand(ctx.builder, a, ctx.shape)


@lowers("aten.permute.default")
def _permute(ctx: Context, a: Value, dims: Sequence[int]) -> Value:
    """Dimensions in another order."""
    return permute(a, [dimension(d, len(a.shape)) for d in dims])


@lowers("aten.select.int")
def _select(ctx: Context, a: Value, dim: int, index: int) -> Value:
    """One index along a dimension, which goes away."""
    d = dimension(dim, len(a.shape))
    return reshape(ctx.builder, narrow(a, d, index % a.shape[d], 1), ctx.shape)


@lowers("aten.slice.Tensor")
def _slice(ctx: Context, a: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    """start:end:step along a dimension."""
    d = dimension(dim, len(a.shape))
    first, _, _ = slice(start, end, step).indices(a.shape[d])
    return narrow(a, d, first, ctx.shape[d], step)


@lowers("aten.flip.default")
def _flip(ctx: Context, a: Value, dims: Sequence[int]) -> Value:
    """Dimensions run backwards."""
    for dim in dims:
        d = dimension(dim, len(a.shape))
        a = narrow(a, d, a.shape[d] - 1, a.shape[d], -1)
    return a


@lowers("aten.split_with_sizes.default")
def _split(ctx: Context, a: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    """Consecutive pieces along a dimension."""
    d = dimension(dim, len(a.shape))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [narrow(a, d, start, size) for start, size in zip(starts, sizes, strict=True)]


def _shifted(value: Value, shape: tuple[int, ...], shifts: Sequence[int], fill: int = 0) -> Value:
    """``value`` put into ``shape`` with its first element at ``shifts``, the register ``fill`` around it."""
    rank = len(shape)
    maps = [Affine(-shift, tuple(int(j == d) for j in range(rank))) for d, shift in enumerate(shifts)]
    inside = [
        (m, size) for m, size, new, shift in zip(maps, value.shape, shape, shifts, strict=True) if shift > 0 or size < new - shift
    ]
    return pad(value, shape, maps, inside, fill) if inside else Value(shape, value.dtype, narrow_all(value, shape, shifts).expr)


def narrow_all(value: Value, shape: tuple[int, ...], shifts: Sequence[int]) -> Value:
    """The part of ``value`` that ``shape`` covers when its first element is at -``shifts``."""
    for d, (size, shift) in enumerate(zip(shape, shifts, strict=True)):
        value = narrow(value, d, -shift, size)
    return value


@lowers("aten.constant_pad_nd.default")
def _constant_pad(ctx: Context, a: Value, padding: Sequence[int], number: float = 0) -> Value:
    """A border of one number on each side, or a part cut off where the width is negative."""
    rank = len(a.shape)
    shifts = [0] * rank
    for i in range(len(padding) // 2):
        shifts[rank - 1 - i] = padding[2 * i]
    return _shifted(ctx.builder.keep(a), ctx.shape, shifts, constant(number, ctx.dtype).value)


@lowers("aten.cat.default")
def _cat(ctx: Context, pieces: Sequence[Value], dim: int = 0) -> Value:
    """Pieces one after the other along a dimension."""
    rank = len(ctx.shape)
    d = dimension(dim, rank)
    pieces = [piece for piece in pieces if len(piece.shape) == rank]
    index = position(ctx.shape, d).expr
    result: Expr | None = None
    start = 0
    for piece in pieces:
        shifts = [0] * rank
        shifts[d] = start
        typed = Value(piece.shape, ctx.dtype, ctx.expand(piece, ctx.dtype, piece.shape))
        part = _shifted(ctx.builder.keep(typed), ctx.shape, shifts).expr
        result = part if result is None else select(ctx.dtype, apply("lt64", index, start), result, part)
        start += piece.shape[d]
    if result is None:
        ctx.refuse("there is nothing to join")
    return ctx.value(result)


@lowers("aten.slice_scatter.default")
def _slice_scatter(
    ctx: Context, a: Value, source: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    """a with start:end along a dimension replaced by source."""
    d = dimension(dim, len(a.shape))
    first, last, _ = slice(start, end, step).indices(a.shape[d])
    if step == 1:
        return _replaced(ctx, a, source, d, first, last)
    part = _spread(ctx, source, d, a.shape[d], first, step)
    index = apply("sub64", position(a.shape, d).expr, first)
    held = apply("and32", apply("le64", 0, index), apply("lt64", index, step * source.shape[d]))
    held = apply("and32", held, apply("eq64", apply("mod64", index, step), 0))
    return ctx.value(select(ctx.dtype, held, part.expr, a.expr))


def _spread(ctx: Context, source: Value, d: int, size: int, first: int, step: int) -> Value:
    """``source`` along dimension d at first, first + step, … of ``size``, 0 between: index n is (n div step, n mod step)."""
    runs, phase = -(-size // step), first % step
    shape = (*source.shape[:d], runs, step, *source.shape[d + 1 :])
    rank = len(shape)
    unit = [Affine(0, tuple(int(j == i) for j in range(rank))) for i in range(rank)]
    run, within = Affine(-(first // step), unit[d].coefficients), Affine(-phase, unit[d + 1].coefficients)
    maps = [*unit[:d], run, *unit[d + 2 :]]
    placed = pad(ctx.builder.keep(source), shape, maps, [(run, source.shape[d]), (within, 1)])
    joined = reshape(ctx.builder, placed, (*source.shape[:d], runs * step, *source.shape[d + 1 :]))
    return narrow(joined, d, 0, size)


def _replaced(ctx: Context, a: Value, source: Value, d: int, first: int, last: int) -> Value:
    shifts = [0] * len(a.shape)
    shifts[d] = first
    part = _shifted(ctx.builder.keep(source), a.shape, shifts).expr
    index = position(a.shape, d).expr
    held = apply("and32", apply("le64", first, index), apply("lt64", index, last))
    return ctx.value(select(ctx.dtype, held, part, a.expr))


@lowers("aten.arange.start_step")
def _arange(ctx: Context, start: float, end: float, step: float = 1, **_: Any) -> Value:
    """Numbers at equal distances."""
    index = position(ctx.shape, 0).expr
    if ctx.dtype == "f32":
        steps = apply("fmul", apply("scaled", index, 0), constant(step, "f32"))
        return ctx.value(apply("fadd", constant(start, "f32"), steps))
    return ctx.value(apply("add64", int(start), apply("mul64", index, int(step))))
