"""Times, amounts and strangers' text as people read them: what every view of the chain is written with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from textwrap import wrap

from contracts.jobs import NATIVE

__all__ = [
    "ETHER_COIN",
    "LINE",
    "UNKNOWN_COIN",
    "Coin",
    "counted",
    "duration",
    "fold_line",
    "harmless",
    "moment",
    "percent",
    "relative",
    "short",
    "table",
]

LINE = 120  # the longest line
BRIEF_PLACES = 4
MOST_BRIEF = 11  # digits and commas before the point
UNITS = ((24 * 60 * 60, "d"), (60 * 60, "h"), (60, "min"), (1, "s"))


# Times ------------------------------------------------------------------------------------------------------------------


def moment(timestamp: int) -> str:
    """A second of the chain in UTC."""
    try:
        return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"second {timestamp}"  # beyond the calendar


def duration(seconds: int) -> str:
    """A length of time in its two largest units that are not zero, rounded down: ``3 h 12 min``."""
    parts = []
    for size, name in UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:,} {name}")
    return " ".join(parts[:2]) or "0 s"


def relative(seconds: int) -> str:
    """How far away something is: ``in 3 h 12 min``, ``12 s ago``, ``now``."""
    if seconds == 0:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"


# Amounts ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coin:
    """Ether or a token: its address, and with how many decimal places people write it.

    Without decimals (None) the token says nothing sensible, and its amounts are told in its smallest units.
    """

    address: str
    decimals: int | None

    @property
    def name(self) -> str:
        """What the amounts are called. What a token calls itself is nobody's word, so that its address names it."""
        return "ETH" if self.address == NATIVE else short(self.address)

    def number(self, units: int) -> str:
        """An amount without its name, exactly."""
        if not self.decimals:
            return f"{units:,}"
        whole, rest = divmod(units, 10**self.decimals)
        return f"{whole:,}" + f".{rest:0{self.decimals}}".rstrip("0").rstrip(".")

    def amount(self, units: int) -> str:
        """An amount, exactly."""
        return f"{self.number(units)} {self._unit}"

    def brief(self, units: int) -> str:
        """An amount without its name and in few digits; where others are left out it ends in an ellipsis."""
        whole, _, places = self.number(units).partition(".")
        if len(whole) > MOST_BRIEF:
            return f"{Decimal(whole.replace(',', '')):.3e}…"
        kept = places[:BRIEF_PLACES].rstrip("0")
        return whole + ("." if kept else "") + kept + ("…" if len(places) > BRIEF_PLACES else "")

    def told(self, units: int) -> str:
        """An amount in few digits, with its name."""
        return f"{self.brief(units)} {self._unit}"

    @property
    def _unit(self) -> str:
        if self.decimals is None:
            return f"units of {self.name}"
        return self.name if self.address == NATIVE else f"of {self.name}"


ETHER_COIN = Coin(NATIVE, 18)
UNKNOWN_COIN = Coin("an unknown token", None)


def percent(basis_points: int) -> str:
    """A share: ``12.5%``."""
    return f"{basis_points / 100:g}%"


# Text -------------------------------------------------------------------------------------------------------------------


def short(address: str) -> str:
    """An address for a line that has no room for all of it. Whoever acts on it looks it up in full."""
    return f"{address[:6]}…{address[-4:]}" if address.startswith("0x") else address


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or noun + 's'}"


def harmless(text: str) -> str:
    """A stranger's text, without what would move a terminal's cursor or turn the direction of writing."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def fold_line(label: str, text: str, indent: int) -> list[str]:
    """A label and a text behind it, which begins at column ``indent``, on as many lines as it needs."""
    first = f"{label:<{indent - 1}} "
    lines = wrap(text, LINE, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False)
    return lines or [label]


def table(head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 0) -> list[str]:
    """Rows under a head, moved in by ``left`` columns. What is under a head that ends in a blank is set right, the rest left.

    The last column takes what room there is, and more lines where that is too little.
    """
    cells = [[name.strip() for name in head], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head) - 1)]
    indent = left + sum(widths) + 2 * len(widths)
    lines = []
    for row in cells:
        placed = (
            f"{cell:>{w}}" if name.endswith(" ") else f"{cell:<{w}}" for name, cell, w in zip(head, row, widths, strict=False)
        )
        lines += fold_line(" " * left + "  ".join(placed) + " ", row[-1], indent)
    return [line.rstrip() for line in lines]
