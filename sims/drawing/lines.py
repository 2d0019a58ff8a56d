"""Figures with one axis of values: lines with bands, points, bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.patches import Patch

from sims.drawing.style import ALARM, FAINT, FONT, GREY, INK, PAPER, Shared, set_scale
from sims.figures import Line, Lines, Spot
from sims.plots import Plot

__all__ = ["COLOURS", "ORDERED", "bars_height", "draw_bars", "draw_lines", "spread"]

# Okabe and Ito's, which people of any colour vision tell apart, but for yellow, which is too pale for a line.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#661100")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
ORDERED = ListedColormap(
    colormaps["inferno"](np.linspace(0.1, 0.8, 256))
)  # its lightness grows as well; the palest part is left out
MOST_MARKERS = 30
MOST_DOTS = 400  # single runs that are drawn
TALLEST_BAR, LEAST_BAR = 0.52, 1.9


@dataclass(frozen=True)
class _End:
    """A name to be written beside the right end of a line, which is ``at``."""

    text: str
    at: tuple[float, float]
    colour: str
    of_series: bool = False
    heading: bool = False


def _colours(content: Lines) -> list[str]:
    """A ramp for a parameter that is a number, distinct colours for names."""
    count = len(content.lines)
    ordered = all(isinstance(line.value, int | float) and not isinstance(line.value, bool) for line in content.lines)
    if ordered and count > 2:
        return [to_hex(ORDERED(index / (count - 1))) for index in range(count)]
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def draw_lines(axes: Axes, plot: Plot, content: Lines, shared: Shared, height: float, labelled: bool) -> None:
    """Lines with their bands, the bound and what is expected; names at the right end if ``labelled``. ``height`` is in inches."""
    colours = _colours(content)
    runs = sum(len(spot.values) for line in content.lines for spot in line.spots)
    dotted = runs <= MOST_DOTS * 5 if plot.kind == "points" else runs <= MOST_DOTS and bool(plot.bound)
    for index, (line, colour) in enumerate(zip(content.lines, colours, strict=True)):
        xs = [float(spot.x) / shared.x.divisor for spot in line.spots]
        means, lows, highs = (
            [value / shared.y.divisor for value in values]
            for values in zip(*((spot.mean, spot.low, spot.high) for spot in line.spots), strict=True)
        )
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.2, linewidth=0, zorder=1)
        likely = [
            (x, spot.expected / shared.y.divisor) for x, spot in zip(xs, line.spots, strict=True) if spot.expected is not None
        ]
        if likely:
            axes.plot([x for x, _ in likely], [y for _, y in likely], color=colour, linewidth=1.3, alpha=0.8, zorder=2)
        axes.plot(
            xs,
            means,
            color=colour,
            linewidth=1.9,
            linestyle="none" if likely else "-",
            marker=MARKERS[index % len(MARKERS)] if likely or (len(xs) <= MOST_MARKERS and plot.kind == "line") else None,
            markersize=6 if likely else 4.5,
            markeredgecolor=PAPER,
            markeredgewidth=0.6,
            zorder=3,
        )
        if likely:
            axes.vlines(xs, lows, highs, color=colour, linewidth=1.2, zorder=3)
        if dotted:
            dots = [pair for spot in line.spots for pair in zip(spot.places, spot.values, strict=True)]
            across = [float(x) / shared.x.divisor for x, _ in dots]
            axes.scatter(across, [y / shared.y.divisor for _, y in dots], s=9, color=colour, alpha=0.45, linewidths=0, zorder=2)
    beyond = [pair for line in content.lines for spot in line.spots for pair in _crossed(spot)]
    if beyond:
        across, up = [float(x) / shared.x.divisor for x, _ in beyond], [y / shared.y.divisor for _, y in beyond]
        axes.scatter(across, up, s=55, marker="x", color=ALARM, linewidths=1.8, zorder=6)
    axes.grid(True, axis="y")
    set_scale(
        axes, "x", content.x_scale, [float(spot.x) / shared.x.divisor for line in content.lines for spot in line.spots], shared.x
    )
    set_scale(
        axes,
        "y",
        content.y_scale,
        [spot.mean / shared.y.divisor for line in content.lines for spot in line.spots],
        shared.y,
        ticked=False,
    )
    if content.y_scale == "linear" and all(
        value in (0, 1) for line in content.lines for spot in line.spots for value in spot.values
    ):
        axes.set_ylim(-0.03, 1.03)  # shares of runs
    elif content.y_scale == "linear" and axes.get_ylim()[0] > 0:
        axes.set_ylim(bottom=0, auto=True)  # small differences look small; the next panel may still raise the top
    axes.set_xlabel(content.x.titled(shared.x))
    axes.set_ylabel(content.y.titled(shared.y))
    bounds = _draw_bound(axes, content, shared, colours) if content.bound else []
    low, high = axes.get_ylim()
    if content.y_scale == "linear" and low < 0 < high:
        axes.axhline(0, color=GREY, linewidth=1)
    if labelled:
        drawn = [(line, line.spots[-1], colour) for line, colour in zip(content.lines, colours, strict=True) if line.label]
        heading = content.by.label if content.by and content.by.name != "series" else ""
        ends = [
            _End(line.label, (float(spot.x) / shared.x.divisor, spot.mean / shared.y.divisor), colour, of_series=True)
            for line, spot, colour in drawn
        ]
        _label_ends(axes, ends + bounds, heading, height)


def _crossed(spot: Spot) -> list[tuple[float | str, float]]:
    """The places and values of the runs beyond their bounds."""
    return [(place, value) for place, value, crossed in zip(spot.places, spot.values, spot.crossed, strict=True) if crossed]


def _bound_of(line: Line, shared: Shared) -> list[tuple[float, float]]:
    return [(float(spot.x) / shared.x.divisor, spot.bound / shared.y.divisor) for spot in line.spots if spot.bound is not None]


def _draw_bound(axes: Axes, content: Lines, shared: Shared, colours: Sequence[str]) -> list[_End]:
    """Draw the bound, one line if it is the same for all series, and hatch what lies above. Gives the labels of its ends."""
    assert content.bound is not None
    drawn = {tuple(_bound_of(line, shared)): colour for line, colour in zip(content.lines, colours, strict=True)}
    every = [at for bound in drawn for at in bound]
    if not every:
        return []
    together: dict[float, set[float]] = {}
    for x, y in every:
        together.setdefault(x, set()).add(y)
    label = content.bound.label
    if all(len(ys) == 1 for ys in together.values()):
        xs = sorted(together)
        ys = [min(together[x]) for x in xs]
        axes.plot(xs, ys, color=INK, linewidth=1.6, linestyle=(0, (5, 2)), zorder=4)
        bottom, top = axes.get_ylim()
        top = max(top, max(ys) + 0.12 * (max(ys) - bottom)) if content.y_scale == "linear" else max(top, max(ys) * 1.8)
        bottom = min(0, bottom) if content.y_scale == "linear" else bottom
        axes.set_ylim(bottom, top)
        if len(xs) > 1:
            axes.fill_between(xs, ys, 2 * top - bottom, facecolor="none", edgecolor=FAINT, hatch="////", linewidth=0, zorder=0)
        return [_End(label, (xs[-1], ys[-1]), INK)]
    for places, colour in drawn.items():
        axes.plot([x for x, _ in places], [y for _, y in places], color=colour, linewidth=1.4, linestyle=(0, (5, 2)), zorder=4)
    bottom, _ = axes.get_ylim()
    axes.set_ylim(bottom=min(0, bottom) if content.y_scale == "linear" else bottom)
    highest = max((places[-1] for places in drawn if places), key=lambda at: at[1])
    return [_End(f"{label} (dashed)", highest, GREY)]


def _label_ends(axes: Axes, ends: Sequence[_End], heading: str, height: float) -> None:
    """Write each series' name at its right end; names that would overlap are moved apart and tied to their ends."""
    if not ends:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    gap = 1.45 * FONT / 72 / (height * 0.8)
    wanted = [(min(max(float(to_axes.transform(end.at)[1]), 0.0), 1.0), end) for end in ends]
    if heading:
        highest = max(place for place, end in wanted if end.of_series)
        wanted.append((highest + 1.2 * gap, _End(heading, (0.0, 0.0), GREY, heading=True)))
    wanted.sort(key=lambda one: one[0])
    for (place, end), moved in zip(wanted, spread([place for place, _ in wanted], gap), strict=True):
        near = end.heading or abs(place - moved) < gap / 6
        tie = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.8, "alpha": 0.7, "shrinkA": 1, "shrinkB": 3}
        axes.annotate(
            end.text,
            xy=(0, 0) if near else end.at,
            xytext=(1.015 if near else 1.04, moved),
            textcoords="axes fraction",
            color=end.colour,
            va="center",
            ha="left",
            fontsize=FONT - 0.5,
            arrowprops=None if near else tie,
            annotation_clip=False,
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places at least ``gap`` apart, as near to the wanted ones (in ascending order) as pushing neighbours apart brings them."""
    clusters: list[tuple[float, int]] = []  # centre and size
    for place in wanted:
        centre, size = place, 1
        while clusters and clusters[-1][0] + (clusters[-1][1] + size) / 2 * gap > centre:
            before, count = clusters.pop()
            centre, size = (before * count + centre * size) / (count + size), count + size
        clusters.append((centre, size))
    return [centre + (index - (size - 1) / 2) * gap for centre, size in clusters for index in range(size)]


def draw_bars(axes: Axes, content: Lines, shared: Shared, labelled: bool) -> None:
    """A bar to each mean, with its interval, and one dot for each run: names of things are read from the left."""
    names = [str(spot.x) for spot in max(content.lines, key=lambda line: len(line.spots)).spots]
    names += sorted({str(spot.x) for line in content.lines for spot in line.spots} - set(names))
    colours = _colours(content)
    thick = 0.72 / len(content.lines)
    runs = sum(len(spot.values) for line in content.lines for spot in line.spots)
    for index, (line, colour) in enumerate(zip(content.lines, colours, strict=True)):
        shift = (index - (len(content.lines) - 1) / 2) * thick
        for spot in line.spots:
            up = names.index(str(spot.x)) + shift
            mean, low, high = (value / shared.y.divisor for value in (spot.mean, spot.low, spot.high))
            axes.barh(up, mean, height=thick * 0.86, color=colour, alpha=0.85, linewidth=0)
            axes.plot([low, high], [up, up], color=INK, linewidth=1.3, zorder=3, solid_capstyle="butt")
            if runs <= MOST_DOTS and len(spot.values) > 1:
                axes.scatter(
                    [value / shared.y.divisor for value in spot.values],
                    [up] * len(spot.values),
                    s=7,
                    color=INK,
                    alpha=0.55,
                    linewidths=0,
                    zorder=4,
                )
            if spot.bound is not None:
                bound = spot.bound / shared.y.divisor
                axes.plot([bound, bound], [up - thick / 2, up + thick / 2], color=INK, linewidth=2, linestyle=(0, (2, 1)), zorder=4)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    set_scale(axes, "x", content.y_scale, [], shared.y, ticked=False)
    axes.set_xlabel(content.y.titled(shared.y))
    if labelled and len(content.lines) > 1:
        handles = [Patch(color=colour, alpha=0.85, label=line.label) for line, colour in zip(content.lines, colours, strict=True)]
        heading = content.by.label if content.by and content.by.name != "series" else None
        axes.legend(handles=handles, title=heading, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, alignment="left")


def bars_height(content: Lines) -> float:
    """How high a figure of so many bars is, in inches."""
    names = len({spot.x for line in content.lines for spot in line.spots})
    return max(LEAST_BAR, 0.9 + names * max(TALLEST_BAR * 0.7, 0.2 * len(content.lines) + 0.14))
