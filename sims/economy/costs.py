"""What transactions cost in gas and how many a dispute has, as measured on the real contracts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from bisection.errors import UsageError

__all__ = ["Costs", "Side", "costs", "read"]

MEASURED = Path(__file__).parent.parent / "data" / "costs.json"
PARTS = ("gas", "transactions")


@dataclass(frozen=True)
class Side:
    """One side of a dispute on one path: its gas, and the number of its transactions."""

    gas: int
    transactions: int


@dataclass(frozen=True)
class Costs:
    """Gas of the transactions of a job, and of a dispute at full scale (2^20 steps, 2^14 tensors, 2^30 elements, runs of 2^20).

    A dispute counts from the commitment to the verdict.
    """

    open_job: int
    claim: int
    post_segment: int
    finalise: int
    commit: int
    open_step: int
    open_blind: int
    verdict: int
    fast_challenger: Side
    fast_trainer: Side
    slow_challenger: Side
    slow_trainer: Side

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

    Other fields are ignored. Raises UsageError for a field that is missing or holds no count.
    """
    given: dict[str, Any] = {}
    for name, kind in get_type_hints(Costs).items():
        found = document.get(name)
        counts = [found.get(part) for part in PARTS] if kind is Side and isinstance(found, Mapping) else [found]
        if len(counts) != (len(PARTS) if kind is Side else 1) or not all(type(count) is int and count > 0 for count in counts):
            raise UsageError(f"{name} = {found!r}; expected {' and '.join(PARTS) if kind is Side else 'gas'} above 0")
        given[name] = kind(*counts)
    return Costs(**given)


@cache
def costs(path: Path = MEASURED) -> Costs:
    """The costs that were measured at chain level. Raises UsageError for a file that is missing or holds anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, Mapping):
            raise UsageError(f"a {type(document).__name__}; expected an object")
        return read(document)
    except OSError as error:
        reason = str(error.strerror)
    except ValueError as error:
        reason = f"no JSON, {error}"
    except UsageError as error:
        reason = str(error)
    raise UsageError(f"the measured costs {path}: {reason}; python -m sims.chain.measure writes them")
