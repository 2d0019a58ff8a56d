"""Places: how an affine function looks from one row, and what that means for a read.

From a row, an affine read is a *scalar* (one element for the whole row), a *vector* (the row's elements side by side) or neither;
then it is *staged*: copied side by side into scratch memory first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bisection.nodes import Map
from trainer.compiler.rows import Nest, View

__all__ = ["Pattern", "RowAffine", "patterns"]


@dataclass(frozen=True, slots=True)
class RowAffine:
    """base + Σ stride·digit, where the digits of the row number (last first) have the sizes given."""

    base: int
    digits: tuple[tuple[int, int], ...]  # (size, stride)

    @property
    def words(self) -> list[int]:
        """As trainer/kernels/rows.cpp reads it."""
        return [self.base, len(self.digits), *(word for digit in self.digits for word in digit)]

    @property
    def stride(self) -> int | None:
        """From one row to the next, where that is always the same; a row that never moves has stride 0."""
        if not self.digits:
            return 0
        return self.digits[0][1] if len(self.digits) == 1 else None


@dataclass(frozen=True, slots=True)
class Condition:
    """0 <= value < size, the value being affine in the row and in the loops of a pattern."""

    row: RowAffine
    size: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One row of a read: where it begins, loops over it (sizes and strides), and conditions."""

    row: RowAffine
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    conditions: tuple[Condition, ...] = ()

    @property
    def scalar(self) -> bool:
        """Whether all elements of a row are one."""
        return not self.conditions and not any(self.strides)

    @property
    def vector(self) -> bool:
        """Whether the elements of a row lie side by side."""
        return not self.conditions and (self.strides == (1,) or self.sizes == ())


def patterns(node: Map, nest: Nest, stored: Sequence[View | None], rows: int) -> tuple[list[Pattern], list[Pattern]]:
    """(the reads of ``node``, its own indices) as seen from one row.

    ``stored`` gives for each read the view of a tensor that lies in scratch memory row by row, None for one that lies in C order.
    """
    conditions = sum(len(read.conditions) for read in node.reads)
    reads, own = nest.functions[: len(node.reads)], nest.functions[len(node.reads) + conditions :]
    next_condition = iter(nest.functions[len(node.reads) : len(node.reads) + conditions])
    found = []
    for read, ref, strides, view in zip(node.reads, node.inputs, reads, stored, strict=True):
        checks = [(c.offset, c.size, next(next_condition)) for c in read.conditions]
        low = read.base + sum(min(s * (n - 1), 0) for n, s in zip(nest.sizes, strides, strict=True))
        high = read.base + sum(max(s * (n - 1), 0) for n, s in zip(nest.sizes, strides, strict=True))
        if low < 0 or high >= ref.count:
            checks.append((read.base, ref.count, strides))
        if view is None:
            found.append(_pattern(nest, read.base, strides, checks))
        else:
            base, moved = _relocated(read.base, strides, view, rows)
            found.append(_pattern(nest, base, moved, checks, own_row=view.each))
    return found, [_pattern(nest, 0, f, []) for f in own]


def _relocated(base: int, strides: Sequence[int], view: View, rows: int) -> tuple[int, list[int]]:
    """An address in [outer, rows, inner] as one in a row of [outer, inner]: the row itself no longer counts."""
    block = rows * view.inner

    def place(step: int) -> int:
        return step // block * view.inner + (step if step < view.inner else 0)

    return base // block * view.inner + base % block, [place(s) for s in strides]


def _pattern(
    nest: Nest, base: int, strides: Sequence[int], checks: Sequence[tuple[int, int, Sequence[int]]], own_row: int | None = None
) -> Pattern:
    inside = [*range(nest.first), *range(nest.last, len(nest.sizes))]
    columns = [strides, *(f for _, _, f in checks)]
    sizes, merged = _merge([nest.sizes[d] for d in inside], [[f[d] for d in inside] for f in columns])
    row = RowAffine(base, ((0, own_row),)) if own_row is not None else _of_row(nest, base, strides)
    conditions = tuple(
        Condition(_of_row(nest, offset, f), size, tuple(g)) for (offset, size, f), g in zip(checks, merged[1:], strict=True)
    )
    return Pattern(row, tuple(sizes), tuple(merged[0]), conditions)


def _of_row(nest: Nest, base: int, strides: Sequence[int]) -> RowAffine:
    loops = list(range(nest.first, nest.last))
    sizes, merged = _merge([nest.sizes[d] for d in loops], [[strides[d] for d in loops]])
    digits = tuple(zip(reversed(sizes), reversed(merged[0]), strict=True))
    return RowAffine(base, () if len(digits) == 1 and digits[0][1] == 0 else digits)


def _merge(sizes: Sequence[int], columns: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The same loops with neighbours joined where every column allows it; one loop at least for a row, none for nothing."""
    out: list[int] = []
    kept: list[list[int]] = [[] for _ in columns]
    for d in reversed(range(len(sizes))):
        if out and all(f[d] == k[0] * out[0] for f, k in zip(columns, kept, strict=True)):
            out[0] *= sizes[d]
            continue
        out.insert(0, sizes[d])
        for f, k in zip(columns, kept, strict=True):
            k.insert(0, f[d])
    return out, kept
