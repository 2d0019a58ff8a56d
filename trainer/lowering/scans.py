"""Running sums and products, and products over dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Const, Expr, apply, real
from trainer.lowering.reductions import SUM_BITS, fixed, merge_last, scaled
from trainer.lowering.shapes import dimension
from trainer.lowering.table import Context, lowers
from trainer.lowering.views import expand, pad, permute, reshape
from trainer.lowering.windows import affine

__all__ = ["scan"]

_RADIX = 8  # elements that one map reads


def _times(dtype: str) -> Callable[[Expr, Expr], Expr]:
    name = "fmul" if dtype == "f32" else "mul64"
    return lambda a, b: apply(name, a, b)


def scan(builder: Builder, value: Value, combine: Callable[[Expr, Expr], Expr], fill: int) -> Value:
    """Along the last dimension, each element combined with all before it. ``fill`` is neutral.

    Pass n combines the elements at 0, 1, … 7 times 8^n before, each of which stands for the 8^n elements up to it.
    """
    shape = value.shape
    rank, distance = len(shape), 1
    while distance < shape[-1]:
        value = builder.materialise([value])[0]
        terms = []
        for back in range(0, min(_RADIX * distance, shape[-1]), distance):
            maps = [affine(rank, [(d, 1)], -back if d == rank - 1 else 0) for d in range(rank)]
            terms.append(pad(value, shape, maps, [(maps[-1], shape[-1])], fill).expr)
        value = Value(shape, value.dtype, reduce(combine, terms))
        distance *= _RADIX
    return value


def _along(value: Value, dim: int) -> tuple[Value, list[int]]:
    """(``value`` with ``dim`` last, the order that puts it back)."""
    rank = len(value.shape)
    d = dimension(dim, rank)
    order = [*(i for i in range(rank) if i != d), d]
    return permute(value, order), [order.index(i) for i in range(rank)]


@lowers("aten.cumsum.default")
def _cumsum(ctx: Context, a: Value, dim: int, **_: Any) -> Value:
    """Sums of the elements up to each one along a dimension, exact before one rounding."""
    typed = Value(a.shape, ctx.dtype, ctx.expand(a, ctx.dtype))
    if not a.shape:
        return typed
    moved, back = _along(ctx.builder.keep(typed), dim)

    def added(x: Expr, y: Expr) -> Expr:
        return apply("add64", x, y)

    if ctx.dtype != "f32":
        return permute(scan(ctx.builder, Value(moved.shape, "i64", moved.expr), added, 0), back)
    integers, magnitudes = fixed(ctx.builder, moved, SUM_BITS)
    total = scan(ctx.builder, Value(moved.shape, "i64", integers), added, 0)
    row = expand(ctx.builder, magnitudes, moved.shape).expr
    return permute(Value(moved.shape, "f32", scaled(total.expr, SUM_BITS, [row])), back)


@lowers("aten.cumprod.default")
def _cumprod(ctx: Context, a: Value, dim: int, **_: Any) -> Value:
    """Products of the elements up to each one along a dimension."""
    typed = Value(a.shape, ctx.dtype, ctx.expand(a, ctx.dtype))
    if not a.shape:
        return typed
    moved, back = _along(typed, dim)
    one = real(1.0).value if ctx.dtype == "f32" else 1
    return permute(scan(ctx.builder, moved, _times(ctx.dtype), one), back)


@lowers("aten.prod.default", "aten.prod.dim_int")
def _prod(ctx: Context, a: Value, dim: int | None = None, keepdim: bool = False, **_: Any) -> Value:
    """The product over a dimension, or of all elements."""
    builder = ctx.builder
    over: Sequence[int] = [dimension(dim, len(a.shape))] if isinstance(dim, int) and a.shape else range(len(a.shape))
    one: Const = real(1.0) if ctx.dtype == "f32" else Const(1)
    value = merge_last(builder, Value(a.shape, ctx.dtype, ctx.expand(a, ctx.dtype, a.shape)), over)
    while (length := value.shape[-1]) > 1:
        value = builder.keep(value)
        kept, rank = value.shape[:-1], len(value.shape)
        shape = (*kept, -(-length // _RADIX))
        terms = []
        for i in range(min(_RADIX, length)):
            maps = [*(affine(rank, [(d, 1)]) for d in range(rank - 1)), affine(rank, [(rank - 1, _RADIX)], i)]
            terms.append(pad(value, shape, maps, [(maps[-1], length)], one.value).expr)
        value = Value(shape, ctx.dtype, reduce(_times(ctx.dtype), terms))
    return reshape(builder, value, ctx.shape) if value.count else ctx.value(one)
