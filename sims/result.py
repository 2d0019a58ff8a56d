"""What a simulation says: metrics and tables, and the bytes that they are kept as.

Names of metrics and columns are in snake_case and end with the unit where there is one: ``delay_seconds``, ``attacker_profit_wei``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

__all__ = ["Column", "Outcome", "Result", "Table", "Value", "canonical", "versions"]

Value = int | float | bool | str | None
"""A number, truth or text; None where there is none, such as the delay of a dispute that nobody opened."""


def _plain(value: Any, where: str) -> Value:
    """``value`` without NumPy's types, None for NaN. Raises ValueError, or TypeError, for what JSON has no name for."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, bool | int | float | str | None):
        raise TypeError(f"{where} is a {type(value).__name__}: only numbers, truths, texts and None can be kept")
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"{where} is infinite: give None where there is no number")
    return value


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, the unit of its values, and a sentence about it."""

    name: str
    unit: str = ""
    help: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of values, each as long as ``columns``. Raises ValueError for a row of another length and for infinite numbers."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} values in a table of {len(self.columns)} columns")
        names = [column.name for column in self.columns]
        rows = tuple(tuple(_plain(value, name) for name, value in zip(names, row, strict=True)) for row in self.rows)
        object.__setattr__(self, "rows", rows)


@dataclass(frozen=True)
class Outcome:
    """What one run of a kind found: single values by name, and tables by name. Raises ValueError for infinite numbers."""

    metrics: Mapping[str, Value]
    tables: Mapping[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", {name: _plain(value, name) for name, value in self.metrics.items()})


@cache
def versions() -> Mapping[str, str | int]:
    """What determines a result besides scenario and seed."""
    from bisection.program import NUMERICS_VERSION

    return {"refstep": version("refstep"), "numerics": NUMERICS_VERSION, "numpy": np.__version__}


def canonical(document: Any) -> bytes:
    """A document as JSON in one line, without the line's end: equal bytes for equal documents. Raises ValueError for infinities."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@dataclass(frozen=True)
class Result:
    """One run, with all that is needed to repeat it."""

    scenario: str
    kind: str
    seed: int
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Value]
    tables: Mapping[str, Table] = field(default_factory=dict)
    versions: Mapping[str, str | int] = field(default_factory=versions)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON has it: a table is an object with ``columns`` and ``rows``."""
        return asdict(self)

    def to_bytes(self) -> bytes:
        """The result as one line of JSON with sorted keys; equal results have equal bytes."""
        return canonical(self.to_json()) + b"\n"
