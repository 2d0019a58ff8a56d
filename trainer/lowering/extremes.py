"""Largest and smallest elements with their places, through integer keys that hold both."""

from __future__ import annotations

from collections.abc import Callable

from trainer.lowering import functions
from trainer.lowering.builder import Value
from trainer.lowering.expression import Expr, apply, real
from trainer.lowering.reductions import ordered, reduce_last, unordered
from trainer.lowering.shapes import dimension
from trainer.lowering.table import Context, Lowering, lowers
from trainer.lowering.views import permute, position, reshape

__all__ = ["key_parts", "maximum_key"]

_LOWEST = -(1 << 63)
_LAST = 0x7FFFFFFF  # the largest place


def maximum_key(x: Expr, place: Expr) -> Expr:
    """A long that orders floats as (x, then the smaller ``place``): the largest of some keys names the first of the largest x.

    ``place`` is in 0 … 2^31-1. NaN is largest and the zeros are equal.
    """
    return _joined(ordered(apply("fadd", x, real(0.0))), place)


def _joined(value: Expr, place: Expr) -> Expr:
    return apply("or64", apply("shl64", value, 32), apply("sub64", _LAST, place))


def key_parts(key: Expr) -> tuple[Expr, Expr]:
    """(x, place) of a key."""
    return unordered(apply("shr64", key, 32)), apply("sub64", _LAST, apply("and64", key, _LAST))


def _extreme(ctx: Context, a: Value, dim: int | None, smallest: bool) -> tuple[Value, Value]:
    """(largest or smallest element over ``dim``, which goes away, or over all; its place)."""
    builder = ctx.builder
    value = builder.keep(a if dim is not None and a.shape else reshape(builder, a, (a.count,)))
    d = dimension(dim or 0, len(value.shape))
    place = position(value.shape, d).expr
    if a.dtype == "f32":
        keys = maximum_key(functions.negative(value.expr) if smallest else value.expr, place)
    elif a.dtype == "i64":
        ctx.refuse("int64 has no lowering: convert to int32 first")
    else:  # -1 - x turns the order round without overflow
        keys = _joined(apply("xor64", value.expr, -1) if smallest else value.expr, place)
    moved = permute(Value(value.shape, "i64", keys), [*(i for i in range(len(value.shape)) if i != d), d])
    best = reduce_last(builder, "max", moved, _LOWEST)
    found, index = key_parts(best.expr)
    if a.dtype != "f32":
        found = apply("shr64", best.expr, 32)
        found = apply("xor64", found, -1) if smallest else found
    elif smallest:
        found = functions.negative(found)
    return Value(best.shape, a.dtype, found), Value(best.shape, "i64", index)


def _with_place(smallest: bool) -> Lowering:
    def lower(ctx: Context, a: Value, dim: int, keepdim: bool = False) -> tuple[Value, ...]:
        shape = tuple(ctx.result[0].shape)
        both = [reshape(ctx.builder, v, shape) for v in _extreme(ctx, a, dim, smallest)]
        return tuple(ctx.builder.materialise(both))

    lower.__doc__ = (
        f"The {'smallest' if smallest else 'largest'} element along a dimension, NaN before all, and the first place of it."
    )
    return lower


def _place(smallest: bool) -> Lowering:
    def lower(ctx: Context, a: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        return reshape(ctx.builder, _extreme(ctx, a, dim, smallest)[1], ctx.shape)

    lower.__doc__ = f"The first place of the {'smallest' if smallest else 'largest'} element along a dimension, or of all."
    return lower


def _of_all(smallest: bool) -> Lowering:
    def lower(ctx: Context, a: Value) -> Value:
        return reshape(ctx.builder, _extreme(ctx, a, None, smallest)[0], ctx.shape)

    lower.__doc__ = f"The {'smallest' if smallest else 'largest'} of all elements, NaN before all."
    return lower


_FORMS: dict[str, Callable[[bool], Lowering]] = {"{}.dim": _with_place, "arg{}.default": _place, "{}.default": _of_all}
for _form, _make in _FORMS.items():
    for _name in ("max", "min"):
        lowers("aten." + _form.format(_name))(_make(_name == "min"))
