"""What became of hostile calls: how many of each class were refused, for which reasons, and how much gas they took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["GAS_BOUND", "Tally"]

GAS_BOUND = 3_000_000
"""What no call may use beyond what its sender pays for the calldata, whatever is sent: a tenth of a block."""


@dataclass
class Tally:
    """Counts by target and class, and all that should not have happened."""

    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    most_gas: int = 0

    def note(self, target: str, damage: str, reason: str | None, gas: int, findings: Iterable[str] = ()) -> None:
        """One call: refused for ``reason``, or answered where that is None."""
        (self.answered if reason is None else self.refused)[target, damage] += 1
        if reason is not None:
            self.reasons[reason or "none given: a bound of the ABI, or a check of the compiler's"] += 1
        self.most_gas = max(self.most_gas, gas)
        self.findings += findings
        if gas >= GAS_BOUND:
            self.findings.append(f"{target}, {damage}: {gas} gas")

    @property
    def calls(self) -> int:
        """All of them."""
        return self.refused.total() + self.answered.total()

    def rows(self) -> list[tuple[str, str, int, int]]:
        """(target, class, refused, answered), sorted."""
        return [(*key, self.refused[key], self.answered[key]) for key in sorted({*self.refused, *self.answered})]
