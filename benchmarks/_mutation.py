"""Small damage to any message of the game: one random place perturbed, or a part spliced in from another honest message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from bisection.merkle import EMPTY
from bisection.witness import Leaf, Run

__all__ = ["mutated", "parts"]

Rng = np.random.Generator
CONTENT = ("code", "data", "payload", "above", "below")  # bytes of any length; all other bytes are digests
SPLICE_SHARE = 0.3
LARGE = (1 << 8, 1 << 16, 1 << 32, 1 << 40, 1 << 64, (1 << 255) - 1, 1 << 255, (1 << 256) - 1)


def parts(message: Any) -> Iterator[Any]:
    """The dataclasses that a message consists of, itself apart."""
    if is_dataclass(message):
        for field in fields(message):
            part = getattr(message, field.name)
            for item in part if isinstance(part, tuple) else (part,):
                if is_dataclass(item):
                    yield item
                    yield from parts(item)


def mutated(message: Any, rng: Rng, donors: Sequence[Any] = ()) -> Any:
    """``message`` with one place changed. ``donors`` are parts of other messages, which may take the place of like ones."""
    while (changed := _dataclass(message, rng, donors)) == message:
        pass
    return changed


def _any(value: Any, name: str, rng: Rng, donors: Sequence[Any]) -> Any:
    if is_dataclass(value):
        return _dataclass(value, rng, donors)
    if isinstance(value, tuple):
        return _sequence(value, name, rng, donors)
    if isinstance(value, bytes):
        return _content(value, rng) if name in CONTENT else _digest(value, rng)
    return _number(value, rng)


def _dataclass(value: Any, rng: Rng, donors: Sequence[Any]) -> Any:
    like = [donor for donor in donors if _alike(donor, value)]
    if like and rng.random() < SPLICE_SHARE:
        donor = like[int(rng.integers(len(like)))]
        return type(value)(*[getattr(donor, field.name) for field in fields(donor)])
    field = fields(value)[int(rng.integers(len(fields(value))))]
    return replace(value, **{field.name: _any(getattr(value, field.name), field.name, rng, donors)})


def _alike(donor: Any, value: Any) -> bool:
    """Leaf and Run are of one shape: a hostile challenger tries each for the other."""
    return type(donor) is type(value) or (isinstance(donor, Leaf | Run) and isinstance(value, Leaf | Run))


def _sequence(value: tuple[Any, ...], name: str, rng: Rng, donors: Sequence[Any]) -> tuple[Any, ...]:
    row = list(value)
    kind = int(rng.integers(5))
    at = int(rng.integers(len(row))) if row else 0
    if not row or kind == 0:
        row.insert(at, row[at] if row and rng.random() < 0.5 else row[0] if row else EMPTY)
    elif kind == 1:
        del row[at]
    elif kind == 2:
        other = int(rng.integers(len(row)))
        row[at], row[other] = row[other], row[at]
    else:
        row[at] = _any(row[at], name, rng, donors)
    return tuple(row)


def _content(value: bytes, rng: Rng) -> bytes:
    kind = int(rng.integers(5))
    if not value or kind == 0:
        return value + rng.bytes(1)
    if kind == 1:
        return value[:-1]
    if kind == 2:
        return value[int(rng.integers(1, len(value) + 1)) :]
    return _flipped(value, rng)


def _digest(value: bytes, rng: Rng) -> bytes:
    kind = int(rng.integers(3))
    return EMPTY if kind == 0 else rng.bytes(32) if kind == 1 else _flipped(value, rng)


def _flipped(value: bytes, rng: Rng) -> bytes:
    bit = int(rng.integers(8 * len(value)))
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _number(value: int, rng: Rng) -> int:
    kind = int(rng.integers(4))
    if kind == 0:
        return int(rng.choice(np.array(LARGE, dtype=object)))
    return abs(value + int(rng.integers(-2, 3))) if kind == 1 else value ^ 1 << int(rng.integers(14)) if kind == 2 else 0
