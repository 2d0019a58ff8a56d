"""Resampling to another size: nearest neighbours and linear interpolation, and their gradients.

Where a source is not at affine places, elements are picked by computed indices (``gather``). Coordinates are computed in binary32
with PyTorch's formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Expr, apply, real
from trainer.lowering.table import Context, lowers, truncated
from trainer.lowering.views import expand, permute, position, reshape
from trainer.lowering.windows import Axis, picked, window_sum, windows

__all__: list[str] = []


# Nearest neighbours


def _nearest(inputs: Sequence[int], outputs: Sequence[int], scales: Sequence[float | None]) -> list[Callable[[Expr], Expr]]:
    """For each axis the source of an output, ⌊o·scale⌋ in binary32 as PyTorch computes it."""

    def source(count: int, out: int, scale: float | None) -> Callable[[Expr], Expr]:
        ratio = real(1 / scale if scale else count / out)

        def of(at: Expr) -> Expr:
            index = truncated(apply("fmul", apply("scaled", at, 0), ratio))
            return apply("select64", apply("lt64", index, count), index, count - 1)

        return of

    return [source(*numbers) for numbers in zip(inputs, outputs, scales, strict=True)]


def _factors(inputs: Sequence[int], outputs: Sequence[int], scales: Sequence[float | None]) -> list[Axis] | None:
    """The axes of an upsampling by whole factors, from its outputs back to its inputs."""
    pairs = list(zip(inputs, outputs, scales, strict=True))
    if any(o % i or (scale and scale != o // i) for i, o, scale in pairs):
        return None
    return [Axis(o, i, o // i, o // i) for i, o, _ in pairs]


@lowers("aten.upsample_nearest1d.default", "aten.upsample_nearest2d.default")
def _upsample_nearest(ctx: Context, x: Value, size: Sequence[int], *scales: float | None) -> Value:
    """Each element repeated, by the ratio of the sizes or the given factors."""
    n = len(x.shape) - 2
    inputs, outputs = x.shape[2:], ctx.shape[2:]
    given = [*scales, *[None] * (n - len(scales))]
    x = ctx.builder.keep(x)
    if axes := _factors(inputs, outputs, given):
        lead = x.shape[:2]
        ones = reshape(ctx.builder, x, (*lead, *(k for i in inputs for k in (i, 1))))
        wide = expand(ctx.builder, ones, (*lead, *(k for axis in axes for k in (axis.outputs, axis.size))))
        return reshape(ctx.builder, wide, ctx.shape)
    places = [(of(position(outputs, d).expr), apply("le64", 0, 0)) for d, of in enumerate(_nearest(inputs, outputs, given))]
    return picked(ctx.builder, x, places, outputs, n)


@lowers("aten.upsample_nearest1d_backward.default", "aten.upsample_nearest2d_backward.default")
def _upsample_nearest_backward(
    ctx: Context, gradient: Value, outputs: Sequence[int], inputs: Sequence[int], *scales: float | None
) -> Value:
    """The gradient of upsample_nearest: the sum over the copies of each element."""
    n = len(gradient.shape) - 2
    sizes, wide = ctx.shape[2:], gradient.shape[2:]
    given = [*scales, *[None] * (n - len(scales))]
    gradient = ctx.builder.keep(gradient)
    if axes := _factors(sizes, wide, given):
        return window_sum(ctx.builder, windows(gradient, axes), n)
    # The copies of i are among the outputs from ⌊i·O/I⌋ - 1 on; which, the forward formula says.
    reach = [-(-o // i) + 3 for i, o in zip(sizes, wide, strict=True)]
    shape = (*sizes, *reach)
    places = []
    for d, of in enumerate(_nearest(sizes, wide, given)):
        at = position(shape, d).expr
        start = apply("sub64", apply("div64", apply("mul64", at, wide[d]), sizes[d]), 1)
        index = apply("add64", start, position(shape, n + d).expr)
        inside = apply("and32", apply("le64", 0, index), apply("lt64", index, wide[d]))
        places.append((index, apply("and32", inside, apply("eq64", of(index), at))))
    return window_sum(ctx.builder, picked(ctx.builder, gradient, places, shape, n), n)


# Linear interpolation: between two neighbours, one dimension after the other


def _neighbours(o: Expr, inputs: int, outputs: int, corners: bool, scale: float | None) -> tuple[Expr, Expr, Expr]:
    """(i, j, λ): output o is (1 - λ)·x[i] + λ·x[j]."""
    if corners:
        ratio = real((inputs - 1) / (outputs - 1) if outputs > 1 else 0.0)
        place = apply("fmul", apply("scaled", o, 0), ratio)
    else:
        ratio = real(1 / scale if scale else inputs / outputs)
        place = apply("fsub", apply("fmul", apply("fadd", apply("scaled", o, 0), real(0.5)), ratio), real(0.5))
        place = apply("select32", apply("flt", place, real(0.0)), 0, place)
    low = truncated(place)
    first = apply("select64", apply("lt64", low, inputs - 1), low, inputs - 1)
    second = apply("select64", apply("lt64", first, inputs - 1), apply("add64", first, 1), first)
    return first, second, apply("fsub", place, apply("scaled", low, 0))


def _interpolated(builder: Builder, value: Value, d: int, outputs: int, corners: bool, scale: float | None) -> Value:
    """Dimension ``d`` interpolated to ``outputs``."""
    rank, inputs = len(value.shape), value.shape[d]
    moved = permute(builder.keep(value), [*(i for i in range(rank) if i != d), d])
    shape = (outputs, 2)
    first, second, _ = _neighbours(position(shape, 0).expr, inputs, outputs, corners, scale)
    index = apply("select64", position(shape, 1).expr, second, first)
    taps = picked(builder, moved, [(index, apply("le64", 0, 0))], shape, 1)
    share = _neighbours(position(taps.shape, rank - 1).expr, inputs, outputs, corners, scale)[2]
    weight = apply("select32", position(taps.shape, rank).expr, share, apply("fsub", real(1.0), share))
    total = window_sum(builder, Value(taps.shape, "f32", apply("fmul", taps.expr, weight)), 1)
    return permute(total, [*range(d), rank - 1, *range(d, rank - 1)])


def _interpolated_backward(builder: Builder, value: Value, d: int, inputs: int, corners: bool, scale: float | None) -> Value:
    """The adjoint: each input collects from the outputs that it is a neighbour of, some of those near ⌊i·O/I⌋."""
    rank, outputs = len(value.shape), value.shape[d]
    moved = permute(builder.keep(value), [*(i for i in range(rank) if i != d), d])
    steps = (outputs - 1) / max(inputs - 1, 1) if corners else scale or outputs / inputs
    reach = int(steps) + 2

    def candidate(shape: tuple[int, ...], at: int) -> tuple[Expr, Expr]:
        i = position(shape, at).expr
        middle = truncated(apply("fmul", apply("scaled", i, 0), real(steps)))
        o = apply("add64", middle, apply("sub64", position(shape, at + 1).expr, reach))
        return o, apply("and32", apply("le64", 0, o), apply("lt64", o, outputs))

    shape = (inputs, 2 * reach + int(steps) + 1)
    taps = picked(builder, moved, [candidate(shape, 0)], shape, 1)
    i, (o, _) = position(taps.shape, rank - 1).expr, candidate(taps.shape, rank - 1)
    first, second, share = _neighbours(o, inputs, outputs, corners, scale)
    left = apply("select32", apply("eq64", first, i), apply("fsub", real(1.0), share), 0)
    weight = apply("fadd", left, apply("select32", apply("eq64", second, i), share, 0))
    total = window_sum(builder, Value(taps.shape, "f32", apply("fmul", taps.expr, weight)), 1)
    return permute(total, [*range(d), rank - 1, *range(d, rank - 1)])


@lowers("aten.upsample_linear1d.default", "aten.upsample_bilinear2d.default")
def _upsample_linear(ctx: Context, x: Value, size: Sequence[int], corners: bool, *scales: float | None) -> Value:
    """Linear interpolation along the last one or two dimensions."""
    for d, outputs in enumerate(size, start=2):
        x = _interpolated(ctx.builder, x, d, outputs, corners, scales[d - 2] if scales else None)
    return x


@lowers("aten.upsample_linear1d_backward.default", "aten.upsample_bilinear2d_backward.default")
def _upsample_linear_backward(
    ctx: Context, gradient: Value, size: Sequence[int], inputs: Sequence[int], corners: bool, *scales: float | None
) -> Value:
    """The gradient of linear interpolation."""
    for d in range(len(inputs) - 1, 1, -1):
        gradient = _interpolated_backward(ctx.builder, gradient, d, inputs[d], corners, scales[d - 2] if scales else None)
    return gradient
