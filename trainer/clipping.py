"""Gradient clipping, as torch.nn.utils.clip_grad_norm_ and clip_grad_value_ do it, over all gradients of a step."""

from __future__ import annotations

from collections.abc import Mapping

from bisection.numbers import INFINITY
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Expr, apply, real
from trainer.lowering.reductions import SUM_BITS, fixed, sum_
from trainer.lowering.views import expand, reshape

__all__ = ["by_norm", "by_value"]

EPSILON = 1e-6  # PyTorch's


def by_norm(builder: Builder, gradients: Mapping[str, Value], most: float) -> tuple[dict[str, Value], Value]:
    """(gradients times min(1, most / (norm + 1e-6)), norm): the norm is that of all gradients together, an f32 scalar.

    A norm of infinity makes finite gradients 0 and infinite ones NaN; a norm of NaN makes all NaN.
    """
    kept = {name: builder.keep(g) for name, g in gradients.items()}
    squares = [builder.keep(_square_sum(builder, g)).expr for g in kept.values()]
    while len(squares) > 1:  # in pairs, so that few roundings lie between any term and the total
        squares = [
            apply("fadd", *pair) if len(pair) == 2 else pair[0] for pair in (squares[i : i + 2] for i in range(0, len(squares), 2))
        ]
    norm = apply("fsqrt", squares[0])
    factor = apply("fdiv", real(most), apply("fadd", norm, real(EPSILON)))
    held = apply("select32", apply("flt", real(1.0), factor), real(1.0), factor)
    total, scale = builder.materialise([Value((), "f32", norm), Value((), "f32", held)])
    clipped = {name: Value(g.shape, "f32", apply("fmul", g.expr, expand(builder, scale, g.shape).expr)) for name, g in kept.items()}
    return clipped, total


def _square_sum(builder: Builder, gradient: Value) -> Value:
    """The sum of the squares of all elements; infinite (rather than NaN, as sums are) if a square is and none is NaN."""
    squares = Value(gradient.shape, "f32", apply("fmul", gradient.expr, gradient.expr))
    row = builder.keep(reshape(builder, squares, (gradient.count,)))
    if row.count == 1:
        return reshape(builder, row, ())
    _, magnitudes = fixed(builder, row, SUM_BITS)
    largest = reshape(builder, magnitudes, ()).expr
    return Value((), "f32", apply("select32", apply("eq32", largest, INFINITY), INFINITY, sum_(builder, row).expr))


def by_value(gradients: Mapping[str, Value], most: float) -> dict[str, Value]:
    """Every element of the gradients held in -most … most; NaN stays."""

    def held(x: Expr) -> Expr:
        x = apply("select32", apply("flt", x, real(-most)), real(-most), x)
        return apply("select32", apply("flt", real(most), x), real(most), x)

    return {name: Value(g.shape, "f32", held(g.expr)) for name, g in gradients.items()}
