"""Sums over pairs of rows that are no matrix products: distances, and the products of bilinear layers."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.lowering import functions
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Expr, apply, real
from trainer.lowering.reductions import sum_, sum_over
from trainer.lowering.table import Context, lowers
from trainer.lowering.views import expand, permute, reshape, unsqueeze

__all__: list[str] = []


def _differences(ctx: Context, a: Value, b: Value, order: float) -> tuple[tuple[int, ...], Expr]:
    """(shape, x - y) for every row x of a […, P, M] and y of b […, R, M]: […, P, R, M]."""
    if order not in (1, 2):
        ctx.refuse(f"the norm of order {order} has no lowering here: orders 1 and 2 have")
    *lead, p, m = a.shape
    shape = (*lead, p, b.shape[-2], m)
    x, y = unsqueeze(ctx.builder.keep(a), len(lead) + 1), unsqueeze(ctx.builder.keep(b), len(lead))
    return shape, apply("fsub", expand(ctx.builder, x, shape).expr, expand(ctx.builder, y, shape).expr)


@lowers("aten._cdist_forward.default")
def _cdist(ctx: Context, a: Value, b: Value, order: float, _: int | None = None) -> Value:
    """The distance, of order 1 or 2, of every row of a from every row of b."""
    shape, difference = _differences(ctx, a, b, order)
    term = functions.magnitude(difference) if order == 1 else apply("fmul", difference, difference)
    total = sum_(ctx.builder, Value(shape, "f32", term)).expr
    return ctx.value(total if order == 1 else apply("fsqrt", total))


@lowers("aten._cdist_backward.default")
def _cdist_backward(ctx: Context, gradient: Value, a: Value, b: Value, order: float, distance: Value) -> Value:
    """The gradient of _cdist_forward by its first operand; 0 from rows at distance 0."""
    shape, difference = _differences(ctx, a, b, order)
    rank = len(shape)
    near = apply("feq", distance.expr, real(0.0))
    over = gradient.expr if order == 1 else apply("fdiv", gradient.expr, distance.expr)
    weights = ctx.builder.keep(Value(distance.shape, "f32", apply("select32", near, 0, over)))
    weight = expand(ctx.builder, unsqueeze(weights, rank - 1), shape).expr
    sign = apply("scaled", apply("sub32", apply("flt", real(0.0), difference), apply("flt", difference, real(0.0))), 0)
    term = Value(shape, "f32", apply("fmul", weight, sign if order == 1 else difference))
    return sum_(ctx.builder, permute(term, [*range(rank - 2), rank - 1, rank - 2]))


@lowers("aten._trilinear.default")
def _trilinear(
    ctx: Context,
    a: Value,
    b: Value,
    c: Value,
    expand_a: Sequence[int],
    expand_b: Sequence[int],
    expand_c: Sequence[int],
    over: Sequence[int],
    _: int = 1,
) -> Value:
    """The sum over some dimensions of a·b·c, each repeated along dimensions of its own: a bilinear layer."""
    values = [_with_ones(ctx.builder, v, dims) for v, dims in ((a, expand_a), (b, expand_b), (c, expand_c))]
    shape = tuple(max(sizes) for sizes in zip(*(v.shape for v in values), strict=True))
    x, y, z = (expand(ctx.builder, v, shape).expr for v in values)
    return reshape(ctx.builder, sum_over(ctx.builder, Value(shape, "f32", apply("fmul", apply("fmul", x, y), z)), over), ctx.shape)


def _with_ones(builder: Builder, value: Value, dims: Sequence[int]) -> Value:
    value = builder.keep(value)
    for d in sorted(dims):
        value = unsqueeze(value, d)
    return value
