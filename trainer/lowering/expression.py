"""Scalar expressions over affine reads: what one element of a lowered tensor is, before it is cut into ``map`` nodes.

An expression is a small acyclic graph: constants, reads of tensors that exist, positions, and instructions from the table in
``bisection.scalar``. Building one costs nothing; views only rewrite the affine parts. Instructions on constants are folded at once
with the table's own meaning, so folding cannot change a bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from bisection.nodes import DTYPES, Condition, Read
from bisection.scalar import BY_NAME, Instruction
from bisection.scalar import read as view_of
from bisection.scalar import store as register_of

__all__ = [
    "Affine",
    "Apply",
    "Const",
    "Expr",
    "Load",
    "Position",
    "Slot",
    "apply",
    "cost",
    "leaves",
    "real",
    "reindex",
    "rewrite",
    "strides_of",
    "topological",
]


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """A tensor of the trace that has no number yet: element type and element count."""

    dtype: str
    count: int

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.count * DTYPES[self.dtype].size


@dataclass(frozen=True, slots=True)
class Affine:
    """offset + Σ coefficients·index."""

    offset: int
    coefficients: tuple[int, ...]

    def after(self, maps: Sequence[Affine], rank: int) -> Affine:
        """This function of old indices as a function of ``rank`` new ones, where old index d is ``maps[d]`` of the new."""
        offset = self.offset + sum(c * m.offset for c, m in zip(self.coefficients, maps, strict=True))
        columns = (sum(c * m.coefficients[j] for c, m in zip(self.coefficients, maps, strict=True)) for j in range(rank))
        return Affine(offset, tuple(columns))

    def bounds(self, shape: Sequence[int]) -> tuple[int, int]:
        """The least and the greatest value over the indices of ``shape``."""
        reach = [c * (n - 1) for c, n in zip(self.coefficients, shape, strict=True)]
        return self.offset + sum(min(r, 0) for r in reach), self.offset + sum(max(r, 0) for r in reach)


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A constant register."""

    value: int


@dataclass(frozen=True, slots=True)
class Load:
    """The element of ``slot`` at ``address``, or 0 where one of ``conditions`` (affine, size) is outside 0 … size-1."""

    slot: Slot
    address: Affine
    conditions: tuple[tuple[Affine, int], ...] = ()

    @property
    def read(self) -> Read:
        """The same, as the program format spells it."""
        conditions = tuple(Condition(a.offset, size, a.coefficients) for a, size in self.conditions)
        return Read(self.address.offset, self.address.coefficients, conditions)


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """An affine function of the element's own indices, as a long."""

    value: Affine


@dataclass(frozen=True, slots=True, eq=False)
class Apply:
    """One instruction applied to expressions."""

    row: Instruction
    operands: tuple[Expr, ...]


Expr = Const | Load | Position | Apply


def real(value: float) -> Const:
    """The constant ``value``, rounded to binary32."""
    try:
        return Const(struct.unpack("<i", struct.pack("<f", value))[0])
    except OverflowError:
        return real(float("inf") if value > 0 else float("-inf"))


def apply(name: str, *operands: Expr | int) -> Expr:
    """The instruction ``name`` applied to ``operands`` (an int stands for itself as a constant), folded if all are constant."""
    row = BY_NAME[name]
    exprs = tuple(Const(x) if isinstance(x, int) else x for x in operands)
    if all(isinstance(x, Const) for x in exprs):
        values = [view_of(x.value, view) for x, view in zip(exprs, row.operands, strict=True) if isinstance(x, Const)]
        return Const(register_of(row.meaning(*values), row.result))
    return Apply(row, exprs)


def topological(roots: Iterable[Expr]) -> list[Expr]:
    """Every expression below ``roots``, operands first, each once, in the order of a depth-first walk."""
    order: list[Expr] = []
    done: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, finished = stack.pop()
        if finished:
            order.append(node)
        elif id(node) not in done:
            done.add(id(node))
            stack.append((node, True))
            if isinstance(node, Apply):
                stack.extend((operand, False) for operand in reversed(node.operands) if id(operand) not in done)
    return order


def leaves(root: Expr) -> list[Load]:
    """The reads below ``root``."""
    return [node for node in topological([root]) if isinstance(node, Load)]


def cost(root: Expr) -> int:
    """The number of instructions below ``root``."""
    return sum(isinstance(node, Apply) for node in topological([root]))


def rewrite(roots: Sequence[Expr], leaf: Callable[[Expr], Expr]) -> list[Expr]:
    """``roots`` with every node for which ``leaf`` gives another expression replaced by that, folded anew where constants meet."""
    new: dict[int, Expr] = {}
    for node in topological(roots):
        replaced = leaf(node)
        if replaced is node and isinstance(node, Apply):
            operands = [new[id(operand)] for operand in node.operands]
            if any(a is not b for a, b in zip(operands, node.operands, strict=True)):
                replaced = apply(node.row.name, *operands)
        new[id(node)] = replaced
    return [new[id(root)] for root in roots]


def reindex(
    roots: Sequence[Expr], maps: Sequence[Affine], shape: Sequence[int], inside: Sequence[tuple[Affine, int]] = ()
) -> list[Expr]:
    """``roots`` over new indices of ``shape``: old index d is ``maps[d]`` of the new. Reads give 0 where ``inside`` fails.

    ``inside`` (over the new indices) applies to reads only; a caller that needs zeros elsewhere arranges for them.
    """
    rank = len(shape)

    def needed(condition: tuple[Affine, int]) -> bool:
        low, high = condition[0].bounds(shape)
        return low < 0 or high >= condition[1]

    def move(node: Expr) -> Expr:
        if isinstance(node, Load):
            carried = [(a.after(maps, rank), size) for a, size in node.conditions]
            conditions = tuple(dict.fromkeys(c for c in [*carried, *inside] if needed(c)))
            return Load(node.slot, node.address.after(maps, rank), conditions)
        if isinstance(node, Position):
            return Position(node.value.after(maps, rank))
        return node

    return rewrite(roots, move)


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a C-order tensor of ``shape``."""
    return tuple(accumulate(reversed(shape[1:]), mul, initial=1))[::-1] if shape else ()
