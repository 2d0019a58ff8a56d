"""Operands for every scalar instruction: edge cases, their combinations, and random values where rounding is hard.

One generator serves all the faces of an instruction (numpy, compiled kernels, the contract), so that each is tried on the same
cases. Values are in the instruction's own views: a binary32 pattern for F, a signed 32-bit integer for W, 64-bit for L.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from bisection.scalar import BY_NAME

__all__ = ["EDGES", "cases", "seed_of"]

_POSITIVE_FLOATS = [
    0x00000000,  # zero
    0x00000001,  # the least subnormal
    0x00000002,
    0x00000003,
    0x00400000,  # half the least normal
    0x007FFFFF,  # the greatest subnormal
    0x00800000,  # the least normal
    0x00800001,
    0x00FFFFFF,
    0x01000000,
    0x33800000,  # 2^-24: half the last place of 1 below it
    0x33800001,
    0x34000000,  # 2^-23: the last place of 1
    0x3EFFFFFF,  # below a half
    0x3F000000,  # a half
    0x3F000001,
    0x3F7FFFFF,  # below 1
    0x3F800000,
    0x3F800001,
    0x3F97868C,  # these two have square roots just above a half-way point
    0x3FB5AD95,
    0x3FC00000,  # 1.5, 2.5, 3.5: ties to even of `round`
    0x40200000,
    0x40600000,
    0x4AFFFFFF,  # 2^23 - 0.5
    0x4B000000,  # 2^23
    0x4B7FFFFF,  # 2^24 - 1
    0x4B800000,
    0x4EFFFFFF,  # the greatest float below 2^31
    0x4F000000,  # 2^31
    0x4F000001,
    0x5EFFFFFF,
    0x7F000000,  # 2^127
    0x7F7FFFFF,  # the greatest finite
    0x7F800000,  # infinity
    0x7F800001,  # signalling NaN, quiet NaN, NaN with a payload
    0x7FC00000,
    0x7FFFFFFF,
]


def _integer_edges(width: int) -> list[int]:
    half = 1 << (width - 1)
    middle = {
        0,
        1,
        2,
        3,
        7,
        31,
        32,
        33,
        63,
        64,
        65,
        255,
        256,
        257,
        0xFFFF,
        0x10000,
        1 << 24,
        (1 << 24) + 1,
        half >> 1,
        half - 2,
        half - 1,
    }
    if width == 64:
        middle |= {(1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, (1 << 53) + 1}
    return sorted(middle | {-x for x in middle} | {-half})


EDGES: dict[str, list[int]] = {
    "F": [pattern | sign for pattern in _POSITIVE_FLOATS for sign in (0, 1 << 31)],
    "W": _integer_edges(32),
    "L": _integer_edges(64),
}

_SHIFTS = {"shl32", "shr32", "ushr32", "shl64", "shr64", "ushr64"}
_SCALINGS = {"ldexp", "scaled"}


def seed_of(name: str) -> int:
    """A seed of its own for each instruction."""
    return BY_NAME[name].code


def cases(name: str, n: int, seed: int) -> list[tuple[int, ...]]:
    """``n`` operand tuples for instruction ``name``: at most half of them combinations of edges, the rest random."""
    rng = np.random.default_rng([seed, BY_NAME[name].code])
    views = BY_NAME[name].operands
    combined = _combined_edges(views, n // 2, rng)
    count = n - len(combined)
    columns = [_column(name, place, view, count, rng) for place, view in enumerate(views)]
    if len(views) == 2 and views[0] == views[1]:
        columns[1] = np.where(rng.random(count) < 0.3, _neighbours(columns[0], views[0], rng), columns[1])
    rows = np.concatenate([combined, np.stack(columns, axis=1)])
    return [tuple(row) for row in rows.tolist()]


def _combined_edges(views: str, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """All combinations of edges, or ``most`` of them where there are more."""
    edges = [np.array(EDGES[view], dtype=np.int64) for view in views]
    total = prod(len(edge) for edge in edges)
    chosen = np.unravel_index(rng.choice(total, min(most, total), replace=False), [len(edge) for edge in edges])
    return np.stack([edge[place] for edge, place in zip(edges, chosen, strict=True)], axis=1)


def _column(name: str, place: int, view: str, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """One operand's random values: a shift amount or a power of two near where it matters, else any number of the view."""
    if place == 1 and name in _SHIFTS:
        return _mixed([rng.integers(-3, 70, count), _integers(view, count, rng)], [0.8, 0.2], rng)
    if place == 1 and name in _SCALINGS:
        return _mixed([rng.integers(-330, 330, count), _integers(view, count, rng)], [0.9, 0.1], rng)
    return _floats(count, rng) if view == "F" else _integers(view, count, rng)


def _mixed(families: list[NDArray[np.int64]], weights: list[float], rng: np.random.Generator) -> NDArray[np.int64]:
    """Each value from one of the families."""
    chosen = rng.choice(len(families), len(families[0]), p=weights)
    return np.choose(chosen, families).astype(np.int64)


def _floats(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Patterns: any bits; moderate exponents; few significant bits, which make ties; subnormals; whole numbers and halves."""
    sign = rng.integers(0, 2, count) << 31
    fraction = rng.integers(0, 1 << 23, count)
    exponent = rng.integers(112, 142, count) << 23
    sparse = fraction >> rng.integers(10, 23, count) << rng.integers(0, 23, count) & 0x7FFFFF
    halves = (rng.integers(-(1 << 24), 1 << 24, count) / 2.0).astype(np.float32).view(np.uint32).astype(np.int64)
    return _mixed(
        [
            rng.integers(0, 1 << 32, count),
            sign | exponent | fraction,
            sign | exponent | sparse,
            sign | fraction >> rng.integers(0, 23, count),
            halves,
        ],
        [0.35, 0.25, 0.2, 0.1, 0.1],
        rng,
    )


def _integers(view: str, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Integers of every bit length, and powers of two with a neighbour."""
    width = 32 if view == "W" else 64
    whole = rng.integers(-(1 << 63), (1 << 63) - 1, count, endpoint=True) >> (64 - width)
    powers = (np.int64(1) << rng.integers(0, width - 1, count)) + rng.integers(-1, 2, count)
    return _mixed([whole, whole >> rng.integers(0, width, count), powers, -powers], [0.4, 0.4, 0.1, 0.1], rng)


def _neighbours(column: NDArray[np.int64], view: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Values near those of ``column``, half of them negated, so that sums cancel and comparisons are close."""
    count = len(column)
    if view == "F":
        near = np.clip(column + rng.integers(-2, 3, count), 0, (1 << 32) - 1)
        return near ^ (rng.integers(0, 2, count) << 31)
    width = 32 if view == "W" else 64
    near = column + rng.integers(-2, 3, count)  # wraps at 64 bits, as it should
    near = np.where(rng.random(count) < 0.5, near, -near)
    return near << (64 - width) >> (64 - width)
