"""What all figures have in common: colours, type, scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullLocator

from sims.figures import Grid, Lines, Panel
from sims.quantities import Scale, Unit, rounded

__all__ = [
    "ALARM",
    "FAINT",
    "FONT",
    "GREY",
    "HEIGHT",
    "INK",
    "MOST_TICKS",
    "PAPER",
    "WIDTH",
    "Shared",
    "set_scale",
    "styled",
    "wrapped",
]

INK, GREY, FAINT, PAPER, ALARM = "#222222", "#666666", "#d9d9d9", "#ffffff", "#c00000"
WIDTH, HEIGHT = 8.0, 4.7  # inches; at the width of a page its text is as large as the page's
FONT = 10.5
MOST_TICKS = 9
TICK_DIGITS = 4
DECADES = 4  # along an axis of more, powers of ten are written as such
LETTERS, LINES = 78.0, 20.0  # of tick labels, along axes that are as wide and as high as a figure
HOURS = (3, 6, 12, 24)  # between ticks
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": FONT,
    "axes.titlesize": FONT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": FONT - 1,
    "ytick.labelsize": FONT - 1,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "path",
    "svg.hashsalt": "refstep",
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.color": INK,
}


def styled() -> AbstractContextManager[None]:
    """The style of the figures, whatever the user's own settings are."""
    plain = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith(("backend", "interactive"))}
    return mpl.rc_context({**plain, **STYLE})


def wrapped(text: str, width: int) -> str:
    """``text`` in lines of at most ``width`` characters, unless a word is longer."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return "\n".join(lines)


class Shared:
    """What all panels have in common: units, and the ends of the colour scale."""

    def __init__(self, panels: Sequence[Panel]) -> None:
        contents = [panel.content for panel in panels]
        self.z, self.least, self.most = Unit(), 0.0, 1.0
        first = contents[0]
        if isinstance(first, Grid):
            grids = [content for content in contents if isinstance(content, Grid)]
            self.x = first.x.drawn_in(x for grid in grids for x in grid.xs)
            self.y = first.y.drawn_in(y for grid in grids for y in grid.ys)
            found = np.concatenate([grid.mean[np.isfinite(grid.mean)] for grid in grids])
            self.z = first.z.drawn_in(float(value) for value in found)
            self.least, self.most = float(found.min()) / self.z.divisor, float(found.max()) / self.z.divisor
        else:
            spots = [spot for content in contents if isinstance(content, Lines) for line in content.lines for spot in line.spots]
            self.x = first.x.drawn_in(spot.x for spot in spots if not isinstance(spot.x, str))
            self.y = first.y.drawn_in(
                value for spot in spots for value in (spot.mean, *(() if spot.bound is None else (spot.bound,)))
            )


def set_scale(axes: Axes, which: str, scale: Scale, values: Sequence[float], unit: Unit, ticked: bool = True) -> None:
    """Scale an axis on which ``values`` of this unit are drawn; if they are few and ``ticked``, its ticks are these."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    change = axes.set_xscale if which == "x" else axes.set_yscale
    distinct = sorted(set(values))
    if scale == "symlog":
        least = min((abs(value) for value in distinct if value), default=1.0)
        change("symlog", linthresh=least, linscale=0.5)
    elif scale == "log":
        change("log")
    form = FuncFormatter(lambda value, _: rounded(value))
    axis.set_major_formatter(form)
    if (
        ticked
        and 1 <= len(distinct) <= MOST_TICKS
        and _round(distinct)
        and _apart(distinct, scale, _room(axes, which), which == "x")
    ):
        axis.set_major_locator(FixedLocator(distinct))
        axis.set_major_formatter(FuncFormatter(lambda value, _: rounded(value, TICK_DIGITS)))
        axis.set_minor_locator(NullLocator())
    elif scale == "log":
        low, high = (axes.get_xlim if which == "x" else axes.get_ylim)()
        decades = math.log10(high / low) if low > 0 else 9
        axis.set_major_locator(
            LogLocator(subs=(1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0), numticks=12)
        )
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        if which == "x" and decades > DECADES:
            axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    elif scale == "linear":
        axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
        span = distinct[-1] - distinct[0] if distinct else 0
        whole = next((step for step in HOURS if span <= 8 * step), None)
        if unit.name == "h" and span > HOURS[0] and whole:
            axis.set_major_locator(MultipleLocator(whole))


def _power(value: float) -> str:
    """A power of ten as one."""
    return "10" + str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _round(values: Sequence[float]) -> bool:
    """Whether the values can be written in few digits."""
    return all(math.isclose(value, float(f"{value:.{TICK_DIGITS}g}"), rel_tol=1e-9) for value in values)


def _room(axes: Axes, which: str) -> float:
    """About how many letters stand beside each other along an axis, or lines above each other."""
    place = axes.get_subplotspec()
    rows, columns = (1, 1) if place is None else place.get_gridspec().get_geometry()
    return LETTERS / columns if which == "x" else LINES / rows


def _apart(distinct: Sequence[float], scale: Scale, room: float, beside: bool) -> bool:
    """Whether labels at these values would not touch: there is ``room`` for so many letters ``beside`` each other, or for lines."""
    if scale == "symlog":
        places = [float(index) for index in range(len(distinct))]
    else:
        places = [math.log(value) for value in distinct] if scale == "log" else list(distinct)
    lengths = [len(rounded(value, TICK_DIGITS)) if beside else 1 for value in distinct]
    needed = [(before + after) / 2 + 1 for before, after in pairwise(lengths)]
    steps = [(high - low) / (places[-1] - places[0]) * room for low, high in pairwise(places)]
    return all(step >= need for step, need in zip(steps, needed, strict=True))
