"""Operators that reduce: matrix products, sums, means, extremes, softmax and the losses built on them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from trainer.lowering import functions
from trainer.lowering.builder import Value
from trainer.lowering.expression import Expr, apply, real
from trainer.lowering.lookups import row_index
from trainer.lowering.powers import power
from trainer.lowering.reductions import amax, fixed_sum, integer_sum, matmul, merge_last, sum_over
from trainer.lowering.shapes import dimension
from trainer.lowering.table import Context, lowers
from trainer.lowering.views import expand, permute, position, reshape, unsqueeze

__all__: list[str] = []


# Matrix products: the right operand is transposed, as a dot runs along the last dimension of both.


def _product(ctx: Context, a: Value, b: Value) -> Value:
    if {a.dtype, b.dtype} != {"f32"}:
        ctx.refuse("a matrix product takes float32")
    rank = len(b.shape)
    return matmul(ctx.builder, a, permute(b, [*range(rank - 2), rank - 1, rank - 2]), ctx.operand_bits)


def _plus(ctx: Context, bias: Value, product: Expr, beta: float, alpha: float) -> Value:
    scaled = product if alpha == 1 else apply("fmul", product, real(alpha))
    added = ctx.expand(bias, "f32")
    return ctx.value(apply("fadd", scaled, added if beta == 1 else apply("fmul", added, real(beta))))


@lowers("aten.mm.default", "aten.bmm.default")
def _mm(ctx: Context, a: Value, b: Value) -> Value:
    """Matrix product, of a batch of matrices or one pair."""
    return _product(ctx, a, b)


@lowers("aten.addmm.default")
def _addmm(ctx: Context, bias: Value, a: Value, b: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    """beta·bias + alpha·(a · b)."""
    return _plus(ctx, bias, _product(ctx, a, b).expr, beta, alpha)


@lowers("aten.addmv.default")
def _addmv(ctx: Context, bias: Value, a: Value, b: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    """beta·bias + alpha·(a · b) for a vector b."""
    return _plus(ctx, bias, reshape(ctx.builder, _product(ctx, a, unsqueeze(b, 1)), ctx.shape).expr, beta, alpha)


# Sums


def _dims(value: Value, dims: Sequence[int] | int | None) -> list[int]:
    rank = len(value.shape)
    if dims is None or dims == []:
        return list(range(rank))
    return sorted(dimension(d, rank) for d in ([dims] if isinstance(dims, int) else dims)) if rank else []


def _total(ctx: Context, a: Value, dims: Sequence[int] | int | None, dtype: str) -> Value:
    """The sum over ``dims``, which go away."""
    over = _dims(a, dims)
    if a.row_sum is not None and over == [len(a.shape) - 1]:
        return a.row_sum
    if dtype == "f32":
        total = sum_over(ctx.builder, Value(a.shape, "f32", ctx.expand(a, "f32", a.shape)), over)
        return reshape(ctx.builder, total, tuple(size for d, size in enumerate(a.shape) if d not in over))
    return integer_sum(ctx.builder, merge_last(ctx.builder, a, over))


@lowers("aten.sum.dim_IntList")
def _sum(ctx: Context, a: Value, dims: Sequence[int] | int | None = None, keepdim: bool = False, **_: Any) -> Value:
    """The sum over some dimensions."""
    return reshape(ctx.builder, _total(ctx, a, dims, ctx.dtype), ctx.shape)


@lowers("aten.mean.default", "aten.mean.dim")
def _mean(ctx: Context, a: Value, dims: Sequence[int] | int | None = None, keepdim: bool = False, **_: Any) -> Value:
    """The mean over some dimensions."""
    count = prod(a.shape[d] for d in _dims(a, dims))
    total = reshape(ctx.builder, _total(ctx, a, dims, "f32"), ctx.shape)
    return ctx.value(apply("fdiv", total.expr, real(count)))


@lowers("aten.var.correction")
def _var(
    ctx: Context, a: Value, dims: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> Value:
    """The variance over some dimensions: Σ (a - mean)² over the count less the correction."""
    over = _dims(a, dims)
    value = ctx.builder.keep(a)
    centred = apply("fsub", value.expr, expand(ctx.builder, _mean_of(ctx, value, over), a.shape).expr)
    total = reshape(ctx.builder, _total(ctx, Value(a.shape, "f32", apply("fmul", centred, centred)), over, "f32"), ctx.shape)
    count = prod(a.shape[d] for d in over) - (1 if correction is None else correction)
    return ctx.value(apply("fdiv", total.expr, real(max(count, 0))))


@lowers("aten.linalg_vector_norm.default")
def _norm(ctx: Context, a: Value, order: float = 2, dims: Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Value:
    """The norm of any order over some dimensions; minus infinity gives the smallest size, 0 counts those not 0."""
    over, builder = _dims(a, dims), ctx.builder
    x = builder.keep(a)
    size = functions.magnitude(x.expr)
    if abs(order) == float("inf"):
        keys = size if order > 0 else functions.negative(size)
        best = reshape(builder, amax(builder, merge_last(builder, Value(a.shape, "f32", keys), over)), ctx.shape)
        return Value(ctx.shape, "f32", functions.magnitude(best.expr))
    if order == 0:
        count = integer_sum(builder, merge_last(builder, Value(a.shape, "bool", ctx.expand(a, "bool", a.shape)), over))
        return ctx.value(apply("scaled", reshape(builder, count, ctx.shape).expr, 0))
    terms = {1.0: size, 2.0: apply("fmul", x.expr, x.expr)}.get(order)
    total = _total(ctx, Value(a.shape, "f32", power(size, real(order)) if terms is None else terms), over, "f32")
    result = reshape(builder, total, ctx.shape).expr
    if order != 1:
        result = apply("fsqrt", result) if order == 2 else power(result, real(1 / order))
    return ctx.value(result)


@lowers("aten._weight_norm_interface_backward.default")
def _weight_norm_backward(
    ctx: Context, gradient: Value, direction: Value, length: Value, norms: Value, dim: int
) -> tuple[Value, Value]:
    """The gradients of weight normalisation, length · direction / |direction|, by both."""
    builder, shape = ctx.builder, direction.shape
    over = [d for d in range(len(shape)) if d != dim]
    product = Value(shape, "f32", apply("fmul", gradient.expr, direction.expr))
    along = sum_over(builder, product, over)
    norm = reshape(builder, norms, along.shape).expr
    by_length = builder.keep(Value(along.shape, "f32", apply("fdiv", along.expr, norm)))
    unit = expand(builder, Value(along.shape, "f32", apply("fdiv", by_length.expr, norm)), shape).expr
    ratio = expand(builder, Value(along.shape, "f32", apply("fdiv", reshape(builder, length, along.shape).expr, norm)), shape).expr
    by_direction = apply("fmul", ratio, apply("fsub", gradient.expr, apply("fmul", direction.expr, unit)))
    return Value(shape, "f32", by_direction), reshape(builder, by_length, length.shape)


@lowers("aten.amax.default")
def _amax(ctx: Context, a: Value, dims: Sequence[int] | int | None = None, keepdim: bool = False) -> Value:
    """The largest element over some dimensions."""
    return reshape(ctx.builder, amax(ctx.builder, merge_last(ctx.builder, ctx.builder.keep(a), _dims(a, dims))), ctx.shape)


@lowers("aten.any.default", "aten.any.dim", "aten.any.dims")
def _any(ctx: Context, a: Value, dims: Sequence[int] | int | None = None, keepdim: bool = False) -> Value:
    """Whether any element over some dimensions is not 0."""
    truth = Value(a.shape, "bool", ctx.expand(a, "bool", a.shape))
    return reshape(ctx.builder, amax(ctx.builder, merge_last(ctx.builder, truth, _dims(a, dims))), ctx.shape)


@lowers("aten.amin.default")
def _amin(ctx: Context, a: Value, dims: Sequence[int] | int | None = None, keepdim: bool = False) -> Value:
    """The smallest element over some dimensions."""
    if a.dtype != "f32":
        ctx.refuse(f"{a.dtype} has no lowering: convert to float32 first")
    flipped = Value(a.shape, "f32", functions.negative(a.expr))
    best = amax(ctx.builder, merge_last(ctx.builder, ctx.builder.keep(flipped), _dims(a, dims)))
    return reshape(ctx.builder, Value(best.shape, "f32", functions.negative(best.expr)), ctx.shape)


def _mean_of(ctx: Context, value: Value, over: Sequence[int]) -> Value:
    """The mean over ``over``, kept as dimensions of size 1."""
    shape = tuple(1 if d in over else size for d, size in enumerate(value.shape))
    total = reshape(ctx.builder, _total(ctx, value, over, "f32"), shape)
    count = prod(value.shape[d] for d in over)
    return ctx.builder.keep(Value(shape, "f32", apply("fdiv", total.expr, real(count))))


@lowers("aten.native_layer_norm.default")
def _layer_norm(
    ctx: Context, a: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value, Value, Value]:
    """(a - mean) / √(variance + eps) over the last dimensions, scaled and shifted; also the mean and 1 / √(variance + eps)."""
    over = list(range(len(a.shape) - len(shape), len(a.shape)))
    result, mean, inverse = _normalised(ctx, ctx.builder.keep(a), over, eps)
    if weight is not None:
        result = apply("fmul", result, expand(ctx.builder, weight, a.shape).expr)
    if bias is not None:
        result = apply("fadd", result, expand(ctx.builder, bias, a.shape).expr)
    return ctx.builder.keep(Value(a.shape, "f32", result)), mean, inverse


def _normalised(ctx: Context, value: Value, over: Sequence[int], eps: float) -> tuple[Expr, Value, Value]:
    """((x - mean) / √(variance + eps), mean, 1 / √(variance + eps)), the latter with dimensions of size 1 for ``over``."""
    mean = _mean_of(ctx, value, over)
    centred = apply("fsub", value.expr, expand(ctx.builder, mean, value.shape).expr)
    variance = _mean_of(ctx, Value(value.shape, "f32", apply("fmul", centred, centred)), over)
    inverse = Value(mean.shape, "f32", functions.rsqrt(apply("fadd", variance.expr, real(eps))))
    inverse = ctx.builder.materialise([inverse])[0]
    return apply("fmul", centred, expand(ctx.builder, inverse, value.shape).expr), mean, inverse


@lowers("aten.native_group_norm.default")
def _group_norm(
    ctx: Context, a: Value, weight: Value | None, bias: Value | None, n: int, channels: int, inner: int, groups: int, eps: float
) -> tuple[Value, Value, Value]:
    """As native_layer_norm over groups of channels, scaled and shifted by channel."""
    builder = ctx.builder
    value = reshape(builder, builder.keep(a), (n, groups, channels // groups * inner))
    normal, mean, inverse = _normalised(ctx, value, [2], eps)
    split = reshape(builder, Value(value.shape, "f32", normal), (n, channels, inner))
    result = split.expr
    if weight is not None:
        result = apply("fmul", result, expand(builder, unsqueeze(weight, 1), split.shape).expr)
    if bias is not None:
        result = apply("fadd", result, expand(builder, unsqueeze(bias, 1), split.shape).expr)
    whole = builder.keep(reshape(builder, Value(split.shape, "f32", result), a.shape))
    return whole, reshape(builder, mean, (n, groups)), reshape(builder, inverse, (n, groups))


# Softmax and what is built on it


def _softmax_parts(ctx: Context, a: Value, dim: int) -> tuple[Value, Value, int]:
    """(x - max, Σ exp(x - max) with ``dim`` kept as size 1, dim)."""
    d = dimension(dim, len(a.shape))
    value = ctx.builder.keep(Value(a.shape, "f32", ctx.expand(a, "f32", a.shape)))
    best = unsqueeze(amax(ctx.builder, merge_last(ctx.builder, value, [d])), d) if a.shape else value
    centred = Value(a.shape, "f32", apply("fsub", value.expr, expand(ctx.builder, best, a.shape).expr))
    powers = Value(a.shape, "f32", functions.exp(centred.expr))
    total = fixed_sum(ctx.builder, merge_last(ctx.builder, powers, [d] if a.shape else []))
    return centred, unsqueeze(total, d) if a.shape else total, d


@lowers("aten._softmax.default")
def _softmax(ctx: Context, a: Value, dim: int, half_to_float: bool = False) -> Value:
    """exp(a - max) over its sum along a dimension."""
    centred, total, _ = _softmax_parts(ctx, a, dim)
    return ctx.value(apply("fdiv", functions.exp(centred.expr), expand(ctx.builder, total, a.shape).expr))


@lowers("aten._log_softmax.default")
def _log_softmax(ctx: Context, a: Value, dim: int, half_to_float: bool = False) -> Value:
    """(a - max) - log Σ exp(a - max) along a dimension."""
    centred, total, _ = _softmax_parts(ctx, a, dim)
    log = Value(total.shape, "f32", functions.log(total.expr))
    return ctx.value(apply("fsub", centred.expr, expand(ctx.builder, log, a.shape).expr))


@lowers("aten._log_softmax_backward_data.default")
def _log_softmax_backward(ctx: Context, gradient: Value, output: Value, dim: int, _: Any) -> Value:
    """The gradient of _log_softmax: g - exp(output)·Σ g."""
    total = _kept_sum(ctx, gradient, dim)
    return ctx.value(apply("fsub", gradient.expr, apply("fmul", functions.exp(output.expr), total)))


@lowers("aten._softmax_backward_data.default")
def _softmax_backward(ctx: Context, gradient: Value, output: Value, dim: int, _: Any) -> Value:
    """The gradient of _softmax: output·(g - Σ g·output)."""
    product = Value(ctx.shape, "f32", apply("fmul", gradient.expr, output.expr))
    return ctx.value(apply("fmul", output.expr, apply("fsub", gradient.expr, _kept_sum(ctx, product, dim))))


def _kept_sum(ctx: Context, value: Value, dim: int) -> Expr:
    d = dimension(dim, len(value.shape))
    total = _total(ctx, value, [d], "f32")
    return expand(ctx.builder, unsqueeze(total, d) if value.shape else total, value.shape).expr


REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}


def _weights(ctx: Context, target: Value, weight: Value | None, ignore_index: int) -> Value:
    """The weight of each target: 0 where ignored or outside, else 1 or the class's weight."""
    counted = apply("xor32", apply("eq64", target.expr, ignore_index), 1)
    if weight is None:
        return Value(target.shape, "f32", apply("scaled", counted, 0))
    picked = ctx.builder.gather(weight, target)
    return Value(target.shape, "f32", apply("select32", counted, picked.expr, 0))


@lowers("aten.nll_loss_forward.default")
def _nll_loss(
    ctx: Context, a: Value, target: Value, weight: Value | None, reduction: int, ignore_index: int
) -> tuple[Value, Value]:
    """Negative log likelihood of the target classes, [N, C] or [C]; also the total weight."""
    classes = len(a.shape) - 1
    flat = row_index(ctx, unsqueeze(target, classes), a, classes)
    picked = ctx.builder.gather(reshape(ctx.builder, a, (a.count,)), reshape(ctx.builder, flat, target.shape))
    counted = apply("xor32", apply("eq64", target.expr, ignore_index), 1)
    each = _weights(ctx, target, weight, ignore_index)
    lost = picked.expr if weight is None else apply("fmul", each.expr, picked.expr)
    losses = Value(target.shape, "f32", apply("select32", counted, functions.negative(lost), 0))
    if weight is None:
        count = integer_sum(ctx.builder, reshape(ctx.builder, Value(target.shape, "bool", counted), (target.count,)))
        total = Value((), "f32", apply("scaled", count.expr, 0))
    else:
        total = _total(ctx, each, None, "f32")
    if REDUCTIONS[reduction] == "none":
        return losses, Value((), "f32", real(0.0))
    summed = _total(ctx, losses, None, "f32")
    if REDUCTIONS[reduction] == "mean":
        summed = Value((), "f32", apply("fdiv", summed.expr, total.expr))
    return summed, total


@lowers("aten.nll_loss_backward.default")
def _nll_loss_backward(
    ctx: Context, gradient: Value, a: Value, target: Value, weight: Value | None, reduction: int, ignore_index: int, total: Value
) -> Value:
    """The gradient of nll_loss_forward: minus the weight at the target class, 0 elsewhere."""
    each = _weights(ctx, target, weight, ignore_index)
    upstream = expand(ctx.builder, gradient, target.shape).expr
    if REDUCTIONS[reduction] == "mean":
        upstream = apply("fdiv", upstream, expand(ctx.builder, total, target.shape).expr)
    classes = len(a.shape) - 1
    inside = apply("and32", apply("le64", 0, target.expr), apply("lt64", target.expr, a.shape[classes]))
    lost = functions.negative(apply("fmul", upstream, each.expr))
    sums = ctx.builder.keep(Value(target.shape, "f32", apply("select32", inside, lost, 0)))
    value, index = (expand(ctx.builder, unsqueeze(x, classes), a.shape) for x in (sums, target))
    hit = apply("eq64", index.expr, position(a.shape, classes).expr)
    return Value(a.shape, "f32", apply("select32", hit, value.expr, 0), row_sum=sums)
