"""Pooling over windows of the last two dimensions, and its gradients.

Where the windows of an adaptive pooling do not all have the same form, elements are picked by computed indices (``gather``);
everything else is affine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import Any

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Expr, Position, apply, real
from trainer.lowering.extremes import key_parts, maximum_key
from trainer.lowering.reductions import merge_last, reduce_last
from trainer.lowering.table import Context, lowers
from trainer.lowering.views import pad, permute, position
from trainer.lowering.windows import INLINE, Axis, affine, each_of, join_phases, picked, window_sum, windows

__all__: list[str] = []

_INLINE_PAIRS = INLINE // 2  # terms that one map combines itself, if each is read from two tensors
_LOWEST = -(1 << 63)


def _larger(a: Expr, b: Expr) -> Expr:
    return apply("select64", apply("lt64", a, b), b, a)


def _windows_max(builder: Builder, value: Value, last: int) -> Value:
    """[…, *sizes] i64 → […]: the largest."""
    first = len(value.shape) - last
    if prod(value.shape[first:]) <= INLINE:
        return Value(value.shape[:first], "i64", reduce(_larger, each_of(builder, value, last)))
    return reduce_last(builder, "max", merge_last(builder, value, range(first, len(value.shape))), _LOWEST)


def _flat_position(shape: tuple[int, ...], last: int) -> Expr:
    """The joint position within the ``last`` dimensions of ``shape``."""
    rank = len(shape)
    strides = [(d, prod(shape[d + 1 :])) for d in range(rank - last, rank)]
    return Position(affine(rank, strides))


# Windows of one form


def _axes(x: Sequence[int], y: Sequence[int], size: Any, stride: Any, padding: Any, dilation: Any = 1, n: int = 2) -> list[Axis]:
    """The ``n`` axes of the pooling that takes [..., *x] to [..., *y]; numbers are given for all axes or for each."""
    size, stride = list(size), list(stride) or list(size)
    each = [[v] * n if isinstance(v, int) else list(v) * (n // len(v)) for v in (size, stride, padding, dilation)]
    return [Axis(*numbers) for numbers in zip(x[-n:], y[-n:], *each, strict=True)]


def _covering(value: Value, axes: Sequence[Axis], exact: bool) -> Value:
    """[…, *outputs] → […, *places, *phases, *taps]: for each input the outputs whose windows may reach it, 0 where there is none.

    With ``exact``, for windows without dilation, 0 also for an output whose window ends before the input.
    """
    n, first = len(axes), len(value.shape) - len(axes)
    taps = [-(-axis.reach // axis.stride) for axis in axes]
    shape = (*value.shape[:first], *(axis.places for axis in axes), *(axis.stride for axis in axes), *taps)
    rank = len(shape)
    outputs = [affine(rank, [(first + i, 1), (first + 2 * n + i, -1)]) for i in range(n)]
    inside = [(place, axis.outputs) for place, axis in zip(outputs, axes, strict=True)]
    if exact:
        inside += [(affine(rank, [(first + n + i, 1), (first + 2 * n + i, axis.stride)]), axis.size) for i, axis in enumerate(axes)]
    return pad(value, shape, [affine(rank, [(d, 1)]) for d in range(first)] + outputs, inside)


@lowers("aten.max_pool2d_with_indices.default")
def _max_pool(
    ctx: Context, x: Value, size: Sequence[int], stride: Sequence[int] = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
) -> tuple[Value, Value]:
    """The largest element of each window of the last two dimensions, and its place; one dimension is a window of height 1."""
    shape = tuple(ctx.result[0].shape)
    axes = _axes(x.shape, shape, size, stride, padding, dilation)
    builder = ctx.builder
    x = builder.keep(x)
    keys = Value(x.shape, "i64", maximum_key(x.expr, _flat_position(x.shape, 2)))
    if axes[0].size * axes[1].size <= INLINE:
        best = _windows_max(builder, windows(keys, axes, _LOWEST), 2)
    else:  # first along the rows, then along the columns
        high, wide = axes
        turned = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        rows = builder.materialise([_windows_max(builder, windows(keys, [wide], _LOWEST), 1)])[0]
        best = permute(_windows_max(builder, windows(permute(rows, turned), [high], _LOWEST), 1), turned)
    value, place = key_parts(best.expr)
    both = builder.materialise([Value(shape, "f32", value), Value(shape, "i64", place)])
    return both[0], both[1]


@lowers("aten.max_pool2d_with_indices_backward.default")
def _max_pool_backward(
    ctx: Context,
    gradient: Value,
    x: Value,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Any,
    dilation: Any,
    ceil: bool,
    places: Value,
) -> Value:
    """The gradient of max_pool2d_with_indices: each element collects from the windows that name its place."""
    axes = _axes(x.shape, gradient.shape, size, stride, padding, dilation)
    given, named = (_covering(ctx.builder.keep(v), axes, False) for v in (gradient, places))
    return _collected(ctx, given, named, axes)


def _collected(ctx: Context, given: Value, named: Value, axes: Sequence[Axis]) -> Value:
    """The sum over the taps of what is ``given`` where the place that is ``named`` is one's own."""
    first, rank = len(given.shape) - 6, len(given.shape)
    high, wide = axes
    across = [(first + 1, wide.stride), (first + 3, 1)]
    down = [(first, high.stride * wide.inputs), (first + 2, wide.inputs)]
    own = Position(affine(rank, [*down, *across], -high.padding * wide.inputs - wide.padding))
    mine = Value(given.shape, "f32", apply("select32", apply("eq64", named.expr, own), given.expr, 0))
    return join_phases(ctx.builder, window_sum(ctx.builder, mine, 2, _INLINE_PAIRS), axes)


def _divisor(axes: Sequence[Axis], shape: tuple[int, ...], count_padding: bool) -> Expr:
    """How many elements the window of each output of ``shape`` counts, as a float: those within the padded input, or within the
    input."""
    count: Expr = real(1.0)
    for d, axis in zip(range(len(shape) - len(axes), len(shape)), axes, strict=True):
        low, high = (-axis.padding, axis.inputs + axis.padding) if count_padding else (0, axis.inputs)
        if (axis.outputs - 1) * axis.stride - axis.padding + axis.size <= high and low == -axis.padding:
            count = apply("fmul", count, real(axis.size))
            continue
        start = apply("sub64", apply("mul64", position(shape, d).expr, axis.stride), axis.padding)
        end = apply("add64", start, axis.size)
        end = apply("select64", apply("lt64", high, end), high, end)
        begin = apply("select64", apply("lt64", start, low), low, start)
        count = apply("fmul", count, apply("scaled", apply("sub64", end, begin), 0))
    return count


def _mean_axes(ctx: Context, x: Sequence[int], y: Sequence[int], size: Any, stride: Any, padding: Any) -> list[Axis]:
    return _axes(x, y, size, stride, padding, n=3 if "avg_pool3d" in ctx.name else 2)


@lowers("aten.avg_pool2d.default", "aten.avg_pool3d.default")
def _avg_pool(
    ctx: Context,
    x: Value,
    size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Any = 0,
    ceil: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """The mean of each window of the last two or three dimensions; one dimension is a window of height 1."""
    axes = _mean_axes(ctx, x.shape, ctx.shape, size, stride, padding)
    total = window_sum(ctx.builder, windows(ctx.builder.keep(x), axes), len(axes))
    divisor = real(divisor_override) if divisor_override else _divisor(axes, ctx.shape, count_include_pad)
    return ctx.value(apply("fdiv", total.expr, divisor))


@lowers("aten.avg_pool2d_backward.default", "aten.avg_pool3d_backward.default")
def _avg_pool_backward(
    ctx: Context,
    gradient: Value,
    x: Value,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Any,
    ceil: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Value:
    """The gradient of avg_pool2d and avg_pool3d."""
    axes = _mean_axes(ctx, x.shape, gradient.shape, size, stride, padding)
    divisor = real(divisor_override) if divisor_override else _divisor(axes, gradient.shape, count_include_pad)
    share = Value(gradient.shape, "f32", apply("fdiv", gradient.expr, divisor))
    return join_phases(ctx.builder, window_sum(ctx.builder, _covering(ctx.builder.keep(share), axes, True), len(axes)), axes)


# Windows of several forms


def _overlapping(builder: Builder, value: Value, outputs: Sequence[int]) -> Value:
    """[…, *inputs] → […, *outputs, *sizes]: for each output o of O the inputs i of I from ⌊o·I/O⌋ to ⌈(o+1)·I/O⌉ - 1, 0 after the
    last. The intervals [i/I, (i+1)/I) and [o/O, (o+1)/O) overlap, so the same with the roles exchanged is the way back."""
    n = len(outputs)
    inputs = value.shape[len(value.shape) - n :]
    sizes = [max(-(-(o + 1) * i // out) - o * i // out for o in range(out)) for i, out in zip(inputs, outputs, strict=True)]
    shape = (*outputs, *sizes)
    places = []
    for d, (i, out) in enumerate(zip(inputs, outputs, strict=True)):
        start, end = _interval(position(shape, d).expr, i, out)
        index = apply("add64", start, position(shape, n + d).expr)
        places.append((index, apply("lt64", index, end)))
    return picked(builder, value, places, shape, n)


def _interval(o: Expr, inputs: int, outputs: int) -> tuple[Expr, Expr]:
    """(⌊o·I/O⌋, ⌈(o+1)·I/O⌉)."""
    start = apply("div64", apply("mul64", o, inputs), outputs)
    end = apply("add64", apply("mul64", apply("add64", o, 1), inputs), outputs - 1)
    return start, apply("div64", end, outputs)


def _overlap_count(axes: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> Expr:
    """The number of elements in the adaptive window of each output of ``shape``, for (inputs, outputs) of the last dimensions."""
    count: Expr = real(1.0)
    for d, (i, out) in zip(range(len(shape) - len(axes), len(shape)), axes, strict=True):
        start, end = _interval(position(shape, d).expr, i, out)
        count = apply("fmul", count, apply("scaled", apply("sub64", end, start), 0))
    return count


def _even(x: Sequence[int], y: Sequence[int]) -> list[Axis] | None:
    """The axes of an adaptive pooling whose windows are all alike."""
    if any(i % o for i, o in zip(x[-2:], y[-2:], strict=True)):
        return None
    return [Axis(i, o, i // o, i // o) for i, o in zip(x[-2:], y[-2:], strict=True)]


@lowers("aten._adaptive_avg_pool2d.default")
def _adaptive_avg_pool(ctx: Context, x: Value, size: Sequence[int]) -> Value:
    """The mean of each of the given number of windows of the last two dimensions, which may overlap by one."""
    x = ctx.builder.keep(x)
    if axes := _even(x.shape, ctx.shape):
        total = window_sum(ctx.builder, windows(x, axes), 2)
        return ctx.value(apply("fdiv", total.expr, _divisor(axes, ctx.shape, True)))
    total = window_sum(ctx.builder, _overlapping(ctx.builder, x, ctx.shape[-2:]), 2)
    count = _overlap_count([*zip(x.shape[-2:], ctx.shape[-2:], strict=True)], ctx.shape)
    return ctx.value(apply("fdiv", total.expr, count))


@lowers("aten._adaptive_avg_pool2d_backward.default")
def _adaptive_avg_pool_backward(ctx: Context, gradient: Value, x: Value) -> Value:
    """The gradient of _adaptive_avg_pool2d."""
    if axes := _even(x.shape, gradient.shape):
        share = Value(gradient.shape, "f32", apply("fdiv", gradient.expr, _divisor(axes, gradient.shape, True)))
        return join_phases(ctx.builder, window_sum(ctx.builder, _covering(ctx.builder.keep(share), axes, True), 2), axes)
    count = _overlap_count([*zip(x.shape[-2:], gradient.shape[-2:], strict=True)], gradient.shape)
    share = Value(gradient.shape, "f32", apply("fdiv", gradient.expr, count))
    return window_sum(ctx.builder, _overlapping(ctx.builder, share, x.shape[-2:]), 2)


@lowers("aten.adaptive_max_pool2d.default")
def _adaptive_max_pool(ctx: Context, x: Value, size: Sequence[int]) -> tuple[Value, Value]:
    """The largest element of each of the given number of windows of the last two dimensions, and its place."""
    shape = tuple(ctx.result[0].shape)
    x = ctx.builder.keep(x)
    # Shifted by the lowest key, so that the 0 of what lies outside a window is the lowest.
    keys = Value(x.shape, "i64", apply("xor64", maximum_key(x.expr, _flat_position(x.shape, 2)), _LOWEST))
    axes = _even(x.shape, shape)
    found = windows(keys, axes) if axes else _overlapping(ctx.builder, keys, shape[-2:])
    moved = Value(found.shape, "i64", apply("xor64", found.expr, _LOWEST))
    value, place = key_parts(_windows_max(ctx.builder, moved, 2).expr)
    both = ctx.builder.materialise([Value(shape, "f32", value), Value(shape, "i64", place)])
    return both[0], both[1]


@lowers("aten.adaptive_max_pool2d_backward.default")
def _adaptive_max_pool_backward(ctx: Context, gradient: Value, x: Value, places: Value) -> Value:
    """The gradient of adaptive_max_pool2d."""
    builder = ctx.builder
    if axes := _even(x.shape, gradient.shape):
        given, named = (_covering(builder.keep(v), axes, False) for v in (gradient, places))
        return _collected(ctx, given, named, axes)
    given, named = (_overlapping(builder, v, x.shape[-2:]) for v in (gradient, places))
    rank = len(given.shape)
    own = Position(affine(rank, [(rank - 4, x.shape[-1]), (rank - 3, 1)]))
    return window_sum(builder, Value(given.shape, "f32", apply("select32", apply("eq64", named.expr, own), given.expr, 0)), 2)
