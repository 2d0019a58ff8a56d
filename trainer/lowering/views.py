"""Views: tensors whose elements are those of another one at affine positions. None of them computes or moves anything.

Shapes are tuples of ints; dimensions count from 0. A view that would repeat costly arithmetic (``expand``) or that is not affine
(``reshape`` of a permuted tensor) stores its operand first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import (
    Affine,
    Const,
    Expr,
    Load,
    Position,
    apply,
    reindex,
    rewrite,
    strides_of,
    topological,
)

__all__ = ["expand", "narrow", "pad", "permute", "position", "reshape", "unsqueeze"]


def _unit(rank: int, d: int, factor: int = 1, offset: int = 0) -> Affine:
    return Affine(offset, tuple(factor * int(j == d) for j in range(rank)))


def _moved(value: Value, shape: tuple[int, ...], maps: Sequence[Affine]) -> Value:
    """``value`` over indices of ``shape``: old index d is ``maps[d]`` of the new."""
    (expr,) = reindex([value.expr], maps, shape)
    return Value(shape, value.dtype, expr)


def position(shape: tuple[int, ...], dim: int) -> Value:
    """The index along ``dim`` of every element of ``shape``, i64."""
    return Value(shape, "i64", Position(_unit(len(shape), dim)))


def permute(value: Value, dims: Sequence[int]) -> Value:
    """``value`` with dimension ``dims[i]`` as its dimension i."""
    rank = len(dims)
    maps = [_unit(rank, list(dims).index(d)) for d in range(rank)]
    shape = tuple(value.shape[d] for d in dims)
    return _moved(value, shape, maps)


def expand(builder: Builder, value: Value, shape: tuple[int, ...]) -> Value:
    """``value`` repeated to ``shape``, dimensions matched from the last (PyTorch's broadcasting)."""
    if shape == value.shape:
        return value
    if prod(shape) > value.count:
        value = builder.keep(value)
    rank, missing = len(shape), len(shape) - len(value.shape)
    maps = [_unit(rank, d + missing, int(size == shape[d + missing])) for d, size in enumerate(value.shape)]
    return _moved(value, shape, maps)


def unsqueeze(value: Value, dim: int) -> Value:
    """``value`` with a dimension of size 1 put in at ``dim``."""
    shape = (*value.shape[:dim], 1, *value.shape[dim:])
    maps = [_unit(len(shape), d + int(d >= dim)) for d in range(len(value.shape))]
    return _moved(value, shape, maps)


def narrow(value: Value, dim: int, start: int, length: int, step: int = 1) -> Value:
    """Elements start, start + step, … (``length`` of them) along ``dim``; a negative step runs backwards."""
    rank = len(value.shape)
    shape = (*value.shape[:dim], length, *value.shape[dim + 1 :])
    maps = [_unit(rank, d, step, start) if d == dim else _unit(rank, d) for d in range(rank)]
    return _moved(value, shape, maps)


def reshape(builder: Builder, value: Value, shape: tuple[int, ...]) -> Value:
    """The same elements in C order as ``shape``."""
    if shape == value.shape:
        return value
    groups = _groups(value.shape, shape)
    if not all(_joinable(a, value.shape, old) for a in _affines(value.expr) for old, _ in groups):
        (value,) = builder.materialise([value])
    maps = [Affine(0, (0,) * len(shape))] * len(value.shape)
    for old, new in groups:
        if old:  # the last dimension of the group takes the position within the group, the others follow from it
            strides = dict(zip(new, strides_of([shape[d] for d in new]), strict=True))
            maps[old[-1]] = Affine(0, tuple(strides.get(j, 0) for j in range(len(shape))))
    return _moved(value, shape, maps)


def _affines(root: Expr) -> list[Affine]:
    found: list[Affine] = []
    for node in topological([root]):
        if isinstance(node, Load):
            found += [node.address, *(a for a, _ in node.conditions)]
        elif isinstance(node, Position):
            found.append(node.value)
    return found


def _joinable(affine: Affine, shape: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether ``affine`` depends on ``dims`` only through their joint C-order position."""
    c = affine.coefficients
    return all(c[a] == c[b] * shape[b] for a, b in pairwise(dims))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The finest matching of runs of old and new dimensions (those of size 1 left out) that hold equally many elements."""
    rest_old = [d for d, size in enumerate(old) if size != 1]
    rest_new = [d for d, size in enumerate(new) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while rest_old:
        a, b = [rest_old.pop(0)], [rest_new.pop(0)]
        while (left := prod(old[d] for d in a)) != (right := prod(new[d] for d in b)):
            if left < right:
                a.append(rest_old.pop(0))
            else:
                b.append(rest_new.pop(0))
        groups.append((a, b))
    return groups


def pad(value: Value, shape: tuple[int, ...], maps: Sequence[Affine], inside: Sequence[tuple[Affine, int]], fill: int = 0) -> Value:
    """``value`` at the affine positions ``maps`` of ``shape`` where all of ``inside`` hold, the register ``fill`` elsewhere."""
    (moved,) = reindex([value.expr], maps, shape, inside)
    (outside,) = rewrite([moved], lambda node: Const(0) if isinstance(node, Load) and node.conditions else node)
    if not (isinstance(outside, Const) and outside.value == fill):
        holds: Expr = Const(1)
        for affine, size in inside:
            index = Position(affine)
            holds = apply("and32", holds, apply("and32", apply("le64", 0, index), apply("lt64", index, size)))
        choose = "select64" if value.dtype == "i64" else "select32"
        moved = apply(choose, holds, moved, fill)
    return Value(shape, value.dtype, moved)
