"""How parameters and metrics are written for a reader: labels, units, scales, numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

__all__ = ["PLAIN", "Meaning", "Quantity", "Scale", "Unit", "natural_scale", "quantity", "rounded", "written"]

Scale = Literal["linear", "log", "symlog"]

SUFFIXES = {
    "_wei": "wei",
    "_gwei": "gwei",
    "_eth": "ETH",
    "_seconds": "s",
    "_minutes": "min",
    "_hours": "h",
    "_days": "days",
    "_months": "months",
    "_bytes": "B",
    "_gas": "gas",
}
WHOSE_GAS = ("requester", "trainer", "watchers", "honest", "attacker")  # behind ``gas_``
SAME_UNIT = {
    "second": "s",
    "seconds": "s",
    "sec": "s",
    "hours": "h",
    "minutes": "min",
    "bytes": "B",
    "eth": "ETH",
    "1": "",
    "none": "",
    "-": "",
}
# From the largest: a unit is used for values of which the largest is at least its threshold, in units of the base.
LADDERS: dict[str, tuple[tuple[float, float, str], ...]] = {
    "s": ((3 * 86400, 86400, "days"), (2 * 3600, 3600, "h"), (600, 60, "min"), (0, 1, "s")),
    "wei": ((1e14, 1e18, "ETH"), (1e6, 1e9, "gwei"), (0, 1, "wei")),
    "gas": ((1e6, 1e6, "million"), (1e4, 1e3, "thousand"), (0, 1, "")),
    "B": ((1e9, 1e9, "GB"), (1e6, 1e6, "MB"), (1e3, 1e3, "kB"), (0, 1, "B")),
}
LOG_SPAN = 20  # values that span less are told apart on a linear axis
EVEN_SPAN = 8  # and less of values whose ratios are about the same
EVEN_RATIO = 1.3
EXACT = 2.0**53  # whole numbers below this are themselves as floats


@dataclass(frozen=True)
class Meaning:
    """What is known of a name besides the name: its unit, a line about it, and the scale on which a sweep draws it at random."""

    unit: str = ""
    help: str = ""
    scale: Scale | Literal[""] = ""


PLAIN = Meaning()


@dataclass(frozen=True)
class Unit:
    """A unit to draw in: values are divided by ``divisor``."""

    divisor: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Quantity:
    """A parameter, metric or column: ``label`` in words, ``unit`` as its values are stored (an empty string if they have none)."""

    name: str
    label: str
    unit: str = ""

    def drawn_in(self, values: Iterable[float]) -> Unit:
        """The unit in which these values, given as stored, are easily read."""
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        for threshold, divisor, name in LADDERS.get(self.unit, ()):
            if largest >= threshold:
                return Unit(divisor, name)
        return Unit(1.0, self.unit)

    def titled(self, unit: Unit) -> str:
        """The label of an axis."""
        said = f" {self.label.removesuffix('s')}".endswith(f" {unit.name.removesuffix('s')}")
        return f"{self.label} ({unit.name})" if unit.name and not said else self.label


def quantity(name: str, unit: str = "", label: str = "") -> Quantity:
    """The quantity called ``name``, in ``unit`` if given, else in the unit that ends its name.

    >>> quantity("delay_seconds")
    Quantity(name='delay_seconds', label='delay', unit='s')
    """
    unit = SAME_UNIT.get(unit.strip().lower(), unit.strip())
    stem = name
    for suffix, meant in SUFFIXES.items():
        if name.endswith(suffix) and len(name) > len(suffix):
            unit = unit or meant
            stem = name.removesuffix(suffix) if unit == meant and suffix != "_gas" else name
    if name == "gas" or (name.startswith("gas_") and name.removeprefix("gas_") in WHOSE_GAS):
        unit = "gas"
    return Quantity(name, label or stem.replace("_", " ").replace(".", " "), unit)


def natural_scale(values: Iterable[float]) -> Scale:
    """The axis on which these values are told apart: ``symlog`` is logarithmic but for zero."""
    distinct = sorted(set(values))
    steps = [high - low for low, high in pairwise(distinct)]
    if len(steps) < 2 or max(steps) < EVEN_RATIO * min(steps):
        return "linear"
    positive = [value for value in distinct if value > 0]
    if len(positive) < 3 or distinct[0] < 0:
        return "linear"
    ratios = [high / low for low, high in pairwise(positive)]
    even = max(ratios) / min(ratios) < EVEN_RATIO and min(ratios) > EVEN_RATIO
    outer = len(positive) // 10  # a few of many random values may be extreme
    if positive[-1 - outer] / positive[outer] < (EVEN_SPAN if even else LOG_SPAN):
        return "linear"
    return "log" if distinct[0] > 0 else "symlog"


def rounded(value: float, digits: int = 3) -> str:
    """``value`` to so many significant digits, thousands apart, without an exponent where a person would write none."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "–")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -5 < exponent < 15:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.replace('-', '−')}e{int(power)}"
    text = f"{round(value, digits - 1 - exponent):,.{max(0, digits - 1 - exponent)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def written(value: object, digits: int = 4) -> str:
    """A cell of a table: whole numbers exactly, others rounded, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return written(int(value)) if value.is_integer() and abs(value) < EXACT else rounded(value, digits)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(written(one, digits) for one in value)
    return "–" if value is None else str(value)
