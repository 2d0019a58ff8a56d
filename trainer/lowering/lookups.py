"""Operators that pick or collect elements by an integer tensor: gather, embedding and their gradients."""

from __future__ import annotations

from typing import Any

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Const, Expr, apply
from trainer.lowering.reductions import SUM_BITS, fixed, scaled
from trainer.lowering.shapes import dimension
from trainer.lowering.table import Context, lowers
from trainer.lowering.verdicts import longest_run
from trainer.lowering.views import expand, narrow, permute, position, reshape

__all__ = ["row_index", "scattered_sums"]


def row_index(ctx: Context, index: Value, table: Value, dim: int) -> Value:
    """For ``torch.gather`` along ``dim``: the flat position in ``table`` of the element that ``index`` picks, -1 outside."""
    flat: Expr = Const(0)
    for d, size in enumerate(table.shape):
        at = index.expr if d == dim else position(index.shape, d).expr
        flat = apply("add64", apply("mul64", flat, size), at)
    inside = apply("and32", apply("le64", 0, index.expr), apply("lt64", index.expr, table.shape[dim]))
    return Value(index.shape, "i64", apply("select64", inside, flat, -1))


@lowers("aten.gather.default")
def _gather(ctx: Context, a: Value, dim: int, index: Value, **_: Any) -> Value:
    """Elements of a picked along one dimension; 0 outside."""
    flat = row_index(ctx, index, a, dimension(dim, len(a.shape)))
    return ctx.builder.gather(reshape(ctx.builder, a, (a.count,)), flat)


@lowers("aten.embedding.default")
def _embedding(ctx: Context, table: Value, index: Value, *_: Any) -> Value:
    """Rows of a table; zeros outside."""
    return ctx.builder.gather(table, index)


@lowers("aten.embedding_dense_backward.default")
def _embedding_backward(ctx: Context, gradient: Value, index: Value, rows: int, padding: int, by_frequency: bool) -> Value:
    """The gradient of embedding: for each row of the table the sum of the gradients at its indices."""
    if by_frequency:
        ctx.refuse("scale_grad_by_freq has no lowering")
    builder, width, length = ctx.builder, gradient.shape[-1], index.count
    kept = apply("select64", apply("eq64", index.expr, padding), -1, index.expr)
    places = builder.materialise([reshape(builder, Value(index.shape, "i64", kept), (length,))])[0]
    columns = permute(reshape(builder, builder.keep(gradient), (length, width)), [1, 0])
    return permute(scattered_sums(builder, columns, places, rows), [1, 0])


def scattered_sums(builder: Builder, columns: Value, places: Value, bins: int) -> Value:
    """columns [width, length] f32, places [length] → f32 [width, bins]: the sum of the elements whose place is the bin."""
    width, length = columns.shape
    places = builder.materialise([places])[0]
    integers, magnitudes = fixed(builder, columns, SUM_BITS)
    total: Expr = Const(0)
    most = longest_run("i32", places.storage)
    for start in range(0, length, most):
        size = min(most, length - start)
        part = narrow(Value((width, length), "i32", integers), 1, start, size)
        total = apply("add64", total, builder.scatter_add(part, narrow(places, 0, start, size), bins).expr)
    row = expand(builder, magnitudes, (width, bins)).expr
    return Value((width, bins), "f32", scaled(total, SUM_BITS, [row]))
