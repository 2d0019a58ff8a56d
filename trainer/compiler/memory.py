"""Memory: byte ranges for buffers that live from one moment to another, shared by those that never live at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ALIGNMENT", "Buffer", "assign"]

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Buffer:
    """``size`` bytes wanted from the moment ``first`` to the moment ``last``, both included."""

    size: int
    first: int
    last: int


def assign(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """(offset of each buffer, bytes in all): the largest buffers first, each at the lowest place that is free while it lives."""
    placed: list[tuple[int, int, Buffer]] = []  # (offset, end, buffer) by offset
    offsets = [0] * len(buffers)
    for number in sorted(range(len(buffers)), key=lambda i: -buffers[i].size):
        buffer = buffers[number]
        size = -(-buffer.size // ALIGNMENT) * ALIGNMENT
        at = 0
        for offset, end, other in placed:
            if other.last < buffer.first or buffer.last < other.first or end <= at:
                continue
            if offset >= at + size:
                break
            at = end
        offsets[number] = at
        placed.append((at, at + size, buffer))
        placed.sort(key=lambda row: row[0])
    return offsets, max((end for _, end, _ in placed), default=0)
