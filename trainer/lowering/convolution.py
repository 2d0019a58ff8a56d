"""Convolution and its gradients as exact integer products.

Each tensor is quantised once, elementwise in its own layout; windows are views of the integers. Three products serve everything:

- ``_forward``: x, w → y. One scale for each sample of x and for each output channel of w.
- ``_adjoint``: y, w → x, the gradient by x, and the transposed convolution. A stride becomes phases on the side of the kernel
  ("sub-pixel convolution", Shi and others, CVPR 2016): no zeros are multiplied. One scale for each sample of y and each input
  channel of w.
- ``_weights``: y, x → w, the gradient by w. One scale for each channel of both.

Shapes: x [batch, in channels, *inputs], y [batch, out channels, *outputs], w [out channels, in channels / groups, *sizes]. A
transposed convolution is called with the roles of x and y exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Affine, Const, Expr, apply
from trainer.lowering.reductions import (
    check_length,
    chunk_sum,
    chunks_of,
    largest_magnitude,
    operand,
    scaled,
    sum_over,
    to_fixed,
)
from trainer.lowering.table import Context, lowers
from trainer.lowering.verdicts import longest_run
from trainer.lowering.views import expand, narrow, pad, permute, reshape
from trainer.lowering.windows import Axis, affine, join_phases, windows

__all__: list[str] = []


# Products over several dimensions


def _quantised(builder: Builder, value: Value, over: Sequence[int], operand_bits: int) -> tuple[Value, Value]:
    """(integers of ``operand_bits`` in the shape of ``value``, magnitudes of size 1 along ``over``). Stored once."""
    value = builder.keep(value)
    magnitudes = largest_magnitude(builder, value, over)
    integers = operand(value.shape, to_fixed(builder, value, magnitudes, operand_bits - 1), operand_bits)
    return builder.materialise([integers])[0], magnitudes


def _tiled(builder: Builder, value: Value, batch: int, tail: int) -> Value:
    """[*batch dims, *rows, *tail dims] integers → [batch, chunks, rows, size]: the last ``tail`` dimensions in runs that a dot may
    have, each a block of whole inner dimensions."""
    first = len(value.shape) - tail
    sizes, most = value.shape[first:], longest_run(value.dtype, value.dtype)
    at = next((i for i in range(tail) if prod(sizes[i:]) <= most), tail)  # dimensions from here on stay whole
    cut = max(at - 1, 0)
    number, size = chunks_of(sizes[cut], max(most // prod(sizes[cut + 1 :]), 1))
    outer, inner = sizes[:cut], sizes[cut + 1 :]
    groups, rows = value.shape[:batch], value.shape[batch:first]
    shape = (*groups, *outer, number, *rows, size, *inner)
    rank, b, r = len(shape), batch + cut, batch + cut + 1
    joint = affine(rank, [(b, size), (r + len(rows), 1)])
    maps: list[Affine] = [affine(rank, [(d, 1)]) for d in range(batch)]
    maps += [affine(rank, [(r + d, 1)]) for d in range(len(rows))]
    maps += [affine(rank, [(batch + d, 1)]) for d in range(cut)]
    maps += [joint] + [affine(rank, [(r + len(rows) + 1 + d, 1)]) for d in range(len(inner))]
    inside = [(joint, sizes[cut])] if number * size != sizes[cut] else []
    blocks = pad(value, shape, maps, inside)
    return reshape(builder, blocks, (prod(groups), prod(outer) * number, prod(rows), size * prod(inner)))


def _product(builder: Builder, a: Value, b: Value, tail: int, operand_bits: int) -> Value:
    """a [groups, *M, *K] · b [groups, *N, *K] → exact sums [groups, *M, *N] (i64), with ``tail`` dimensions in K."""
    first_a, first_b = len(a.shape) - tail, len(b.shape) - tail
    check_length(prod(a.shape[first_a:]), operand_bits)
    partial = builder.dot(_tiled(builder, a, 1, tail), _tiled(builder, b, 1, tail))
    shape = (a.shape[0], *partial.shape[2:])
    total = Value(shape, "i64", chunk_sum(builder, partial))
    return reshape(builder, total, (*a.shape[:first_a], *b.shape[1:first_b]))


def _along(builder: Builder, value: Value, shape: tuple[int, ...], *dims: int) -> Expr:
    """``value``, of the sizes of ``dims`` of ``shape``, at the index along those dimensions."""
    ones = tuple(size if d in dims else 1 for d, size in enumerate(shape))
    return expand(builder, reshape(builder, value, ones), shape).expr


def _scaled_back(total: Value, operand_bits: int, *magnitudes: Expr) -> Value:
    return Value(total.shape, "f32", scaled(total.expr, operand_bits - 1, magnitudes))


def _grouped(builder: Builder, value: Value, dim: int, groups: int) -> Value:
    """Channels ``dim`` as (groups, channels of a group), the groups first."""
    size = value.shape[dim] // groups
    split = reshape(builder, value, (*value.shape[:dim], groups, size, *value.shape[dim + 1 :]))
    rest = [d for d in range(len(split.shape)) if d != dim]
    return permute(split, [dim, *rest])


# The three products


def _forward(builder: Builder, x: Value, w: Value, axes: Sequence[Axis], groups: int, operand_bits: int) -> Value:
    """y [groups, batch, *outputs, channels of a group]."""
    n = len(axes)
    qx, mx = _quantised(builder, x, range(1, n + 2), operand_bits)
    qw, mw = _quantised(builder, w, range(1, n + 2), operand_bits)
    a = windows(_grouped(builder, qx, 1, groups), axes)  # groups, batch, channels, *outputs, *sizes
    a = permute(a, [0, 1, *range(3, n + 3), 2, *range(n + 3, 2 * n + 3)])
    total = _product(builder, a, _grouped(builder, qw, 0, groups), n + 1, operand_bits)
    rows, columns = _along(builder, mx, total.shape, 1), _along(builder, mw, total.shape, 0, n + 2)
    return _scaled_back(total, operand_bits, rows, columns)


def _adjoint(builder: Builder, y: Value, w: Value, axes: Sequence[Axis], groups: int, operand_bits: int) -> Value:
    """x [groups, batch, channels of a group, *inputs]: every y spread over its window with the weights w."""
    n = len(axes)
    qy, my = _quantised(builder, y, range(1, n + 2), operand_bits)
    qw, mw = _quantised(builder, _grouped(builder, w, 0, groups), [1, *range(3, n + 3)], operand_bits)
    for i, axis in enumerate(axes):
        if axis.stride > 1 and axis.dilation > 1:
            qw = _dilated(builder, qw, 3 + i, axis)
    taps = [-(-qw.shape[3 + i] // axis.stride) for i, axis in enumerate(axes)]
    phases = [min(axis.stride, qw.shape[3 + i]) for i, axis in enumerate(axes)]
    steps = [axis.dilation if axis.stride == 1 else 1 for axis in axes]
    a = _backward_windows(_grouped(builder, qy, 1, groups), axes, taps, steps)
    b = _phases(qw, axes, taps, phases)
    total = _product(builder, a, b, n + 1, operand_bits)  # groups, batch, *places, channels, *phases
    rows = _along(builder, my, total.shape, 1)
    result = _scaled_back(total, operand_bits, rows, _along(builder, mw, total.shape, 0, n + 2))
    return join_phases(builder, permute(result, [0, 1, n + 2, *range(2, n + 2), *range(n + 3, 2 * n + 3)]), axes)


def _dilated(builder: Builder, w: Value, dim: int, axis: Axis) -> Value:
    """The kernel with its dilation filled in by zeros along ``dim``."""
    shape = (*w.shape[: dim + 1], axis.dilation, *w.shape[dim + 1 :])
    rank = len(shape)
    maps = [affine(rank, [(d if d <= dim else d + 1, 1)]) for d in range(len(w.shape))]
    spread = pad(w, shape, maps, [(affine(rank, [(dim + 1, 1)]), 1)])
    joined = reshape(builder, spread, (*w.shape[:dim], axis.size * axis.dilation, *w.shape[dim + 1 :]))
    return narrow(joined, dim, 0, axis.reach)


def _backward_windows(y: Value, axes: Sequence[Axis], taps: Sequence[int], steps: Sequence[int]) -> Value:
    """[groups, batch, channels, *outputs] → [groups, batch, *places, channels, *taps]: element q - step·j for each tap j."""
    n = len(axes)
    shape = (*y.shape[:2], *(axis.places for axis in axes), y.shape[2], *taps)
    rank = len(shape)
    places = [affine(rank, [(2 + i, 1), (n + 3 + i, -step)]) for i, step in enumerate(steps)]
    maps = [affine(rank, [(0, 1)]), affine(rank, [(1, 1)]), affine(rank, [(n + 2, 1)]), *places]
    return pad(y, shape, maps, [(place, axis.outputs) for place, axis in zip(places, axes, strict=True)])


def _phases(w: Value, axes: Sequence[Axis], taps: Sequence[int], phases: Sequence[int]) -> Value:
    """[groups, out, in, *sizes] → [groups, in, *phases, out, *taps]: element stride·j + t of the kernel for tap j and phase t."""
    n = len(axes)
    shape = (w.shape[0], w.shape[2], *phases, w.shape[1], *taps)
    rank = len(shape)
    places = [affine(rank, [(2 + i, 1), (n + 3 + i, axis.stride)]) for i, axis in enumerate(axes)]
    maps = [affine(rank, [(0, 1)]), affine(rank, [(n + 2, 1)]), affine(rank, [(1, 1)]), *places]
    return pad(w, shape, maps, [(place, w.shape[3 + i]) for i, place in enumerate(places)])


def _weights(builder: Builder, y: Value, x: Value, axes: Sequence[Axis], groups: int, operand_bits: int) -> Value:
    """w [out channels, in channels of a group, *sizes]."""
    n = len(axes)
    over = [0, *range(2, n + 2)]
    qy, my = _quantised(builder, y, over, operand_bits)
    qx, mx = _quantised(builder, x, over, operand_bits)
    spatial = range(3, n + 3)
    a = permute(_grouped(builder, qy, 1, groups), [0, 2, 1, *spatial])
    b = windows(_grouped(builder, qx, 1, groups), axes)  # groups, batch, channels, *outputs, *sizes
    b = permute(b, [0, 2, *range(n + 3, 2 * n + 3), 1, *spatial])
    total = _product(builder, a, b, n + 1, operand_bits)  # groups, out, in, *sizes
    result = _scaled_back(total, operand_bits, _along(builder, my, total.shape, 0, 1), _along(builder, mx, total.shape, 0, 2))
    return reshape(builder, result, (y.shape[1], *result.shape[2:]))


# The operators


def _axes(x: Value, y: tuple[int, ...], w: Value, *forms: Sequence[int]) -> list[Axis]:
    """The axes of the convolution that takes x to y. ``forms`` are stride, padding and dilation, for all axes or for each."""
    n = len(x.shape) - 2
    each = [list(numbers) * n if len(numbers) == 1 else list(numbers) for numbers in forms]
    return [Axis(*sizes) for sizes in zip(x.shape[2:], y[2:], w.shape[2:], *each, strict=True)]


def _ungrouped(builder: Builder, value: Value) -> Value:
    """[groups, batch, channels, …] → [batch, groups·channels, …]."""
    groups, batch, channels, *rest = value.shape
    return reshape(builder, permute(value, [1, 0, *range(2, len(value.shape))]), (batch, groups * channels, *rest))


def _check(ctx: Context, x: Value) -> None:
    if x.dtype != "f32":
        ctx.refuse("a convolution takes float32")
    if len(x.shape) > 4:
        ctx.refuse("convolutions of one and two dimensions have a lowering")


@lowers("aten.convolution.default")
def _convolution(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    """Convolution or transposed convolution of one or two dimensions, with groups."""
    _check(ctx, x)
    builder, rank = ctx.builder, len(x.shape)
    if transposed:
        inner = Value(ctx.shape, "f32", Const(0))
        axes = _axes(inner, x.shape, weight, stride, padding, dilation)
        result = _adjoint(builder, x, weight, axes, groups, ctx.operand_bits)
    else:
        axes = _axes(x, ctx.shape, weight, stride, padding, dilation)
        last = _forward(builder, x, weight, axes, groups, ctx.operand_bits)
        result = permute(last, [0, 1, rank, *range(2, rank)])
    if bias is not None:
        channels = reshape(builder, bias, (groups, ctx.shape[1] // groups))
        result = Value(result.shape, "f32", apply("fadd", result.expr, _along(builder, channels, result.shape, 0, 2)))
    return _ungrouped(builder, result)


@lowers("aten.convolution_backward.default")
def _convolution_backward(
    ctx: Context,
    gradient: Value,
    x: Value,
    weight: Value,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    """The gradients of a convolution by its input, weight and bias."""
    _check(ctx, x)
    builder, bits, rank = ctx.builder, ctx.operand_bits, len(x.shape)
    gradient = builder.keep(gradient)
    wide, narrow_ = (gradient, x) if transposed else (x, gradient)
    axes = _axes(wide, narrow_.shape, weight, stride, padding, dilation)
    by_x = by_weight = by_bias = None
    if wanted[0] and transposed:
        last = _forward(builder, gradient, weight, axes, groups, bits)
        by_x = _ungrouped(builder, permute(last, [0, 1, rank, *range(2, rank)]))
    elif wanted[0]:
        by_x = _ungrouped(builder, _adjoint(builder, gradient, weight, axes, groups, bits))
    if wanted[1]:
        by_weight = _weights(builder, narrow_, wide, axes, groups, bits)
    if wanted[2]:
        total = sum_over(builder, gradient, [0, *range(2, rank)])
        by_bias = reshape(builder, total, (total.count,))
    return by_x, by_weight, by_bias
