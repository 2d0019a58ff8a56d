"""Windows over the last dimensions of a tensor, for convolution and pooling: affine views both ways.

The window of output o holds the inputs stride·o + dilation·k - padding for k = 0 … size-1. The other way round, input i lies in the
windows of the outputs o with i + padding = stride·o + dilation·k. Writing i + padding = stride·q + t with t < stride makes this
affine: without dilation o = q - j and k = stride·j + t, for j = 0 … ⌈size / stride⌉ - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Affine, Expr, apply
from trainer.lowering.reductions import merge_last, sum_
from trainer.lowering.views import narrow, pad, permute, reshape

__all__ = ["INLINE", "Axis", "affine", "collect", "each_of", "join_phases", "picked", "window_sum", "windows"]

INLINE = 8  # elements that one map combines itself; more go through a node that reduces


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial dimension of a window: how many inputs and outputs there are, and the form of the window."""

    inputs: int
    outputs: int
    size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """The distance from the first to the last element of a window, plus one."""
        return self.dilation * (self.size - 1) + 1

    @property
    def places(self) -> int:
        """How many values q has."""
        return (self.padding + self.inputs - 1) // self.stride + 1


def affine(rank: int, terms: Sequence[tuple[int, int]], offset: int = 0) -> Affine:
    """offset + Σ factor·index[dim] over the (dim, factor) of ``terms``, for indices of ``rank`` dimensions."""
    coefficients = [0] * rank
    for dim, factor in terms:
        coefficients[dim] += factor
    return Affine(offset, tuple(coefficients))


def windows(value: Value, axes: Sequence[Axis], fill: int = 0) -> Value:
    """[…, *inputs] → […, *outputs, *sizes]: the elements of every window, the register ``fill`` outside ``value``."""
    lead, n = value.shape[: len(value.shape) - len(axes)], len(axes)
    shape = (*lead, *(axis.outputs for axis in axes), *(axis.size for axis in axes))
    rank, first = len(shape), len(lead)
    places = [
        affine(rank, [(first + i, axis.stride), (first + n + i, axis.dilation)], -axis.padding) for i, axis in enumerate(axes)
    ]
    maps = [affine(rank, [(d, 1)]) for d in range(first)] + places
    return pad(value, shape, maps, [(place, axis.inputs) for place, axis in zip(places, axes, strict=True)], fill)


def join_phases(builder: Builder, value: Value, axes: Sequence[Axis]) -> Value:
    """[…, *places, *phases] → […, *inputs], zero at the phases t that ``value`` leaves out at the end."""
    n = len(axes)
    first = len(value.shape) - 2 * n
    pairs = [d for i in range(n) for d in (first + i, first + n + i)]
    value = permute(value, [*range(first), *pairs])
    lead = value.shape[:first]
    full = (*lead, *(size for axis in axes for size in (axis.places, axis.stride)))
    if full != value.shape:
        value = pad(
            value,
            full,
            [affine(len(full), [(d, 1)]) for d in range(len(full))],
            [(affine(len(full), [(d, 1)]), value.shape[d]) for d in range(first + 1, len(full), 2)],
        )
    value = reshape(builder, value, (*lead, *(axis.places * axis.stride for axis in axes)))
    for i, axis in enumerate(axes):
        value = narrow(value, first + i, axis.padding, axis.inputs)
    return value


def collect(builder: Builder, value: Value, axes: Sequence[Axis]) -> Value:
    """[…, *outputs, *sizes] → […, *inputs], the adjoint of ``windows``: each input sums its copies in the windows. No axis has both
    a stride and a dilation."""
    n = len(axes)
    first = len(value.shape) - 2 * n
    taps = [axis.size if axis.stride == 1 else -(-axis.size // axis.stride) for axis in axes]
    shape = (*value.shape[:first], *(axis.places for axis in axes), *(axis.stride for axis in axes), *taps)
    rank = len(shape)
    outputs = [affine(rank, [(first + i, 1), (first + 2 * n + i, -axis.dilation)]) for i, axis in enumerate(axes)]
    elements = [affine(rank, [(first + n + i, 1), (first + 2 * n + i, axis.stride)]) for i, axis in enumerate(axes)]
    inside = [(place, axis.outputs) for place, axis in zip(outputs, axes, strict=True)]
    inside += [(element, axis.size) for element, axis in zip(elements, axes, strict=True)]
    spread = pad(value, shape, [*(affine(rank, [(d, 1)]) for d in range(first)), *outputs, *elements], inside)
    return join_phases(builder, window_sum(builder, spread, n), axes)


def each_of(builder: Builder, value: Value, last: int) -> list[Expr]:
    """[…, *sizes] with ``last`` dimensions in sizes → the element […] at each index of them, in C order."""
    first = len(value.shape) - last
    result = []
    for index in product(*(range(size) for size in value.shape[first:])):
        part = value
        for d, i in enumerate(index):
            part = narrow(part, first + d, i, 1)
        result.append(reshape(builder, part, value.shape[:first]).expr)
    return result


def window_sum(builder: Builder, value: Value, last: int, inline: int = INLINE) -> Value:
    """[…, *sizes] f32 → […]: few elements added one after the other, many exactly."""
    first = len(value.shape) - last
    if prod(value.shape[first:]) <= inline:
        return Value(value.shape[:first], "f32", reduce(lambda a, b: apply("fadd", a, b), each_of(builder, value, last)))
    return sum_(builder, merge_last(builder, value, range(first, len(value.shape))))


def picked(builder: Builder, value: Value, places: Sequence[tuple[Expr, Expr]], shape: tuple[int, ...], last: int) -> Value:
    """[…, *inputs] → […, *shape]: the element at the ``places`` (index, whether it counts) over ``shape`` of each of the ``last``
    dimensions, 0 where one does not count."""
    first = len(value.shape) - last
    lead, inputs = value.shape[:first], value.shape[first:]
    flat, held = places[0]
    for (index, counts), size in zip(places[1:], inputs[1:], strict=True):
        flat, held = apply("add64", apply("mul64", flat, size), index), apply("and32", held, counts)
    rows = permute(value, [*range(first, len(value.shape)), *range(first)])
    table = reshape(builder, rows, (prod(inputs), prod(lead)))
    found = builder.gather(table, Value(shape, "i64", apply("select64", held, flat, -1)))
    split = reshape(builder, found, (*shape, *lead))
    return permute(split, [*range(len(shape), len(shape) + first), *range(len(shape))])
