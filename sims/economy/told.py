"""Means with their uncertainty as metrics, and rows of tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sims.economy.draws import Moments, interval, rounded
from sims.result import Column, Table, Value

__all__ = ["mean_of", "share_of", "table", "value"]


def value(x: float | None) -> float | None:
    """A number as results have it: ten digits."""
    return None if x is None else rounded(float(x))


def mean_of(name: str, moments: Moments) -> dict[str, Value]:
    """``name`` with ``name_low`` and ``name_high``, the bounds of its 95 % confidence interval; None without a sample."""
    return _with_bounds(name, moments, interval(moments))


def share_of(name: str, moments: Moments) -> dict[str, Value]:
    """The same of a share of episodes."""
    return _with_bounds(name, moments, interval(moments, share=True))


def _with_bounds(name: str, moments: Moments, bounds: tuple[float, float]) -> dict[str, Value]:
    low, high = bounds
    found = moments.count > 0
    return {
        name: value(moments.mean) if found else None,
        f"{name}_low": value(low) if found else None,
        f"{name}_high": value(high) if found else None,
    }


def table(columns: Iterable[Column], rows: Iterable[Mapping[str, Value]]) -> Table:
    """A table from rows by name of column, floats with ten digits."""
    columns = tuple(columns)
    cells = (tuple(row[column.name] for column in columns) for row in rows)
    return Table(columns, tuple(tuple(value(cell) if isinstance(cell, float) else cell for cell in row) for row in cells))
