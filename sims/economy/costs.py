"""What transactions cost in gas and how many a dispute has, as measured on the real contracts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from bisection.errors import UsageError

__all__ = ["Costs", "Side", "costs", "read"]

MEASURED = Path(__file__).parent.parent / "data" / "costs.json"


@dataclass(frozen=True)
class Side:
    """One side of a dispute on one path: its gas, and the number of its transactions."""

    gas: int
    transactions: int


@dataclass(frozen=True)
class Costs:
    """Gas of the transactions of a job, and of a dispute at full scale (2^20 steps, 2^14 tensors, 2^30 elements, runs of 2^20).

    Without other measurements, the figures of docs/gas.md and of a play of ``benchmarks.scale``. A dispute counts from the
    commitment to the verdict.
    """

    open_job: int = 284_934
    claim: int = 82_691
    post_segment: int = 128_219
    finalise: int = 129_231
    commit: int = 50_922
    open_step: int = 221_568
    open_blind: int = 191_893
    verdict: int = 395_560
    fast_challenger: Side = Side(888_784, 5)
    fast_trainer: Side = Side(180_729, 3)
    slow_challenger: Side = Side(1_475_949, 17)
    slow_trainer: Side = Side(991_671, 15)

    def challenger(self, path: str) -> Side:
        """The challenger's side of a dispute on the ``fast`` or ``slow`` path."""
        return self.fast_challenger if path == "fast" else self.slow_challenger

    def trainer(self, path: str) -> Side:
        """The trainer's side."""
        return self.fast_trainer if path == "fast" else self.slow_trainer

    def opening(self, path: str) -> int:
        """What it costs to open a game and make no other move in it."""
        return self.commit + (self.open_step if path == "fast" else self.open_blind)


def read(document: Mapping[str, Any]) -> Costs:
    """The costs that a document gives: an object with the fields of ``Costs``, a side as ``{"gas": …, "transactions": …}``.

    What it leaves out has its default, and other fields are ignored. Raises UsageError for what is no count.
    """
    given: dict[str, Any] = {}
    for spec in fields(Costs):
        if spec.name not in document:
            continue
        value = document[spec.name]
        side = isinstance(getattr(Costs, spec.name), Side)
        counts = (value.get("gas"), value.get("transactions")) if isinstance(value, Mapping) and side else (value,)
        if len(counts) != 1 + side or not all(type(count) is int and count > 0 for count in counts):
            raise UsageError(
                f"the costs have {spec.name} = {value!r}; expected {'gas and transactions' if side else 'gas'} above 0"
            )
        given[spec.name] = Side(*counts) if side else value
    return Costs(**given)


@cache
def costs(path: Path = MEASURED) -> Costs:
    """The costs measured at chain level, where they are shipped. Raises UsageError for a file that cannot be read as such."""
    if not path.exists():
        return Costs()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from None
    if not isinstance(document, Mapping):
        raise UsageError(f"{path} holds no object")
    return read(document)
