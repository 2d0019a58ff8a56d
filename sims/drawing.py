"""Figures of a sweep as SVG and PNG. The same numbers give the same bytes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from sims.figures import Grid, Line, Lines, Panel, Plot
from sims.quantities import Scale, Unit, quantity, rounded

__all__ = ["draw", "png", "svg"]

INK, GREY, FAINT, PAPER = "#222222", "#666666", "#d9d9d9", "#ffffff"
# Okabe and Ito's colours, which people of any colour vision tell apart; yellow is left out, being too pale for a line.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f7f7f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
ORDERED = LinearSegmentedColormap.from_list("ordered", ("#0b2a5b", "#2b5c9e", "#3a8fb7", "#46b29d", "#8fb339", "#d99a00"))
# With a leap at zero, since on which side a number is says the most.
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ((0, "#0b4f8a"), (0.25, "#5fa3d3"), (0.4999, "#cfe4f3"), (0.5001, "#fbe3d2"), (0.75, "#ec9a5e"), (1, "#b84a00"))
)
LOPSIDED = 3  # where one side of zero reaches farther than so many times the other, its colours end there
WIDTH, HEIGHT = 8.0, 4.7  # inches; at the width of a page its text is as large as the page's
TALLEST_BAR, LEAST_BAR = 0.52, 1.9
FONT = 10.5
DOTS = 200  # pixels per inch
MOST_DOTS = 400  # single runs that are drawn
MOST_TICKS = 9
MOST_CELLS = 90  # cells that have room for their numbers
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


def _styled() -> AbstractContextManager[None]:
    """The style of the figures, whatever the user's own settings are."""
    plain = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith(("backend", "interactive"))}
    return mpl.rc_context({**plain, **STYLE})


def draw(plot: Plot, panels: Sequence[Panel], caption: str = "", titled: bool = True) -> Figure:
    """Draw a plot's panels beside each other, with title and caption unless the page around it has them."""
    with _styled():
        columns = min(len(panels), 3 if len(panels) != 4 else 2)
        rows = math.ceil(len(panels) / columns)
        height = _height(panels) if rows == 1 else 3.1 * rows
        figure = Figure(figsize=(WIDTH, height + (0.5 if titled else 0)), layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.09, h_pad=0.07)  # type: ignore[union-attr,call-arg]
        axes = figure.subplots(rows, columns, squeeze=False, sharex=len(panels) > 1, sharey=len(panels) > 1)
        shared = _Shared(panels)
        for index, (place, panel) in enumerate(zip(axes.flat, panels, strict=False)):
            if panel.title:
                place.set_title(panel.title, loc="left", color=INK)
            last = index == len(panels) - 1
            if isinstance(panel.content, Grid):
                _draw_grid(figure, place, plot, panel.content, shared, len(panels))
            elif plot.kind == "bars" or isinstance(panel.content.lines[0].spots[0].x, str):
                _draw_bars(place, panel.content, shared, labelled=last)
            else:
                _draw_lines(place, plot, panel.content, shared, height / rows, labelled=last)
            place.label_outer() if len(panels) > 1 else None
        for place in axes.flat[len(panels) :]:
            place.set_visible(False)
        if titled:
            figure.suptitle(plot.title or plot.name, x=0.01, ha="left", fontsize=FONT + 2.5, fontweight="bold")
            if caption:
                figure.supxlabel(_wrapped(caption, 118), x=0.01, ha="left", fontsize=FONT - 2.5, color=GREY)
        return figure


def svg(figure: Figure, name: str, description: str = "") -> str:
    """The figure as an SVG element whose ids begin with ``name``, so that several can stand in one page."""
    buffer = io.StringIO()
    with _styled():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id=")', rf"\g<1>{name}-", text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{_escaped(description or name)}"', 1).strip()


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with _styled():
        figure.savefig(buffer, format="png", dpi=DOTS, metadata={"Software": None})
    return buffer.getvalue()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _wrapped(text: str, width: int) -> str:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return "\n".join(lines)


def _height(panels: Sequence[Panel]) -> float:
    first = panels[0].content
    if isinstance(first, Lines) and isinstance(first.lines[0].spots[0].x, str):
        names = len({spot.x for line in first.lines for spot in line.spots})
        return max(LEAST_BAR, 0.9 + names * max(TALLEST_BAR * 0.7, 0.2 * len(first.lines) + 0.14))
    return HEIGHT


class _Shared:
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


# Lines


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
    ordered = content.by is not None and content.by.name != "series" and all(line.label[:1].isdigit() for line in content.lines)
    if ordered and count > 2:
        return [to_hex(ORDERED(index / (count - 1))) for index in range(count)]
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _draw_lines(axes: Axes, plot: Plot, content: Lines, shared: _Shared, height: float, labelled: bool) -> None:
    colours = _colours(content)
    runs = sum(len(spot.values) for line in content.lines for spot in line.spots)
    dotted = runs <= MOST_DOTS * 5 if plot.kind == "points" else runs <= MOST_DOTS and bool(plot.bound)
    for index, (line, colour) in enumerate(zip(content.lines, colours, strict=True)):
        xs = [float(spot.x) / shared.x.divisor for spot in line.spots]
        means, lows, highs = (
            [value / shared.y.divisor for value in values]
            for values in zip(*((spot.mean, spot.low, spot.high) for spot in line.spots), strict=True)
        )
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.2, linewidth=0)
        marker = MARKERS[index % len(MARKERS)] if len(xs) <= 30 and plot.kind == "line" else None
        axes.plot(
            xs,
            means,
            color=colour,
            linewidth=1.9,
            marker=marker,
            markersize=4.5,
            markeredgecolor=PAPER,
            markeredgewidth=0.6,
            zorder=3,
        )
        if dotted:
            dots = [(x, value / shared.y.divisor) for x, spot in zip(xs, line.spots, strict=True) for value in spot.values]
            axes.scatter([x for x, _ in dots], [y for _, y in dots], s=9, color=colour, alpha=0.5, linewidths=0, zorder=2)
    axes.grid(True, axis="y")
    _set_scale(axes, "x", content.x_scale, [float(spot.x) / shared.x.divisor for line in content.lines for spot in line.spots])
    _set_scale(axes, "y", content.y_scale, [])
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


def _bound_of(line: Line, shared: _Shared) -> list[tuple[float, float]]:
    return [(float(spot.x) / shared.x.divisor, spot.bound / shared.y.divisor) for spot in line.spots if spot.bound is not None]


def _draw_bound(axes: Axes, content: Lines, shared: _Shared, colours: Sequence[str]) -> list[_End]:
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
    for (place, end), moved in zip(wanted, _spread([place for place, _ in wanted], gap), strict=True):
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


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places at least ``gap`` apart, as near to the wanted ones (in ascending order) as pushing neighbours apart brings them."""
    clusters: list[tuple[float, int]] = []  # centre and size
    for place in wanted:
        centre, size = place, 1
        while clusters and clusters[-1][0] + (clusters[-1][1] + size) / 2 * gap > centre:
            before, count = clusters.pop()
            centre, size = (before * count + centre * size) / (count + size), count + size
        clusters.append((centre, size))
    return [centre + (index - (size - 1) / 2) * gap for centre, size in clusters for index in range(size)]


def _set_scale(axes: Axes, which: str, scale: Scale, values: Sequence[float]) -> None:
    """Scale an axis; if it has few values, its ticks are these."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    change = axes.set_xscale if which == "x" else axes.set_yscale
    distinct = sorted(set(values))
    if scale == "symlog":
        least = min((value for value in distinct if value > 0), default=1.0)
        change("symlog", linthresh=least, linscale=0.5)
    elif scale == "log":
        change("log")
    form = FuncFormatter(lambda value, _: rounded(value))
    axis.set_major_formatter(form)
    if 1 < len(distinct) <= MOST_TICKS and _apart(distinct, scale):
        axis.set_major_locator(FixedLocator(distinct))
        axis.set_minor_locator(NullLocator())
    elif scale == "log":
        low, high = (axes.get_xlim if which == "x" else axes.get_ylim)()
        decades = math.log10(high / low) if low > 0 else 9
        axis.set_major_locator(
            LogLocator(subs=(1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0), numticks=12)
        )
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    elif scale == "linear":
        axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))


def _apart(distinct: Sequence[float], scale: Scale) -> bool:
    """Whether labels at these values would not touch."""
    if scale == "symlog":
        return True
    places = [math.log(value) for value in distinct] if scale == "log" else list(distinct)
    return bool(min(np.diff(places)) > 0.07 * (places[-1] - places[0]))


# Bars


def _draw_bars(axes: Axes, content: Lines, shared: _Shared, labelled: bool) -> None:
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
    _set_scale(axes, "x", content.y_scale, [])
    axes.set_xlabel(content.y.titled(shared.y))
    if labelled and len(content.lines) > 1:
        handles = [
            mpl.patches.Patch(color=colour, alpha=0.85, label=line.label)
            for line, colour in zip(content.lines, colours, strict=True)
        ]
        heading = content.by.label if content.by and content.by.name != "series" else None
        axes.legend(handles=handles, title=heading, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, alignment="left")


# Maps


def _cell_edges(centres: Sequence[float], scale: Scale) -> NDArray[np.float64]:
    places = np.log(np.asarray(centres)) if scale == "log" else np.asarray(centres, float)
    if len(places) == 1:
        ends = np.array([places[0] - 0.5, places[0] + 0.5])
    else:
        middle = (places[1:] + places[:-1]) / 2
        ends = np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])
    return np.exp(ends) if scale == "log" else ends


def _places(values: NDArray[np.float64], scale: Scale) -> tuple[NDArray[np.float64], Scale, list[str]]:
    """Where the cells' centres are drawn. What begins at zero and then grows by factors is drawn in equal cells, with names."""
    if scale == "symlog":
        return np.arange(len(values), dtype=np.float64), "linear", [rounded(float(value)) for value in values]
    return values, scale, []


def _draw_grid(figure: Figure, axes: Axes, plot: Plot, grid: Grid, shared: _Shared, panels: int) -> None:
    xs, x_scale, x_names = _places(np.asarray(grid.xs) / shared.x.divisor, grid.x_scale)
    ys, y_scale, y_names = _places(np.asarray(grid.ys) / shared.y.divisor, grid.y_scale)
    mean = grid.mean / shared.z.divisor
    edges = (_cell_edges(xs.tolist(), x_scale), _cell_edges(ys.tolist(), y_scale))
    colours: Colormap = SIGNED if plot.kind == "region" else mpl.colormaps["cividis"]
    least, most = shared.least, shared.most
    if plot.kind == "region":
        sides = sorted((abs(least), abs(most)))
        most = (min(sides[1], LOPSIDED * sides[0]) if least < 0 < most else sides[1]) or 1.0
        least = -most
    axes.set_facecolor("#eeeeee")
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(mean), cmap=colours, vmin=least, vmax=most, linewidth=0)
    _set_scale(axes, "x", x_scale, xs.tolist())
    _set_scale(axes, "y", y_scale, ys.tolist())
    if x_names:
        axes.set_xticks(xs, x_names)
    if y_names:
        axes.set_yticks(ys, y_names)
    axes.set_xlabel(grid.x.titled(shared.x))
    axes.set_ylabel(grid.y.titled(shared.y))
    if plot.kind == "region":
        _draw_region(axes, plot, grid, (xs, ys), edges, shared, panels)
    elif mean.size <= MOST_CELLS and panels == 1 and len(xs) <= 10:
        middle = (shared.least + shared.most) / 2
        for j, y in enumerate(ys):
            for i, x in enumerate(xs):
                if np.isfinite(mean[j, i]):
                    ink = INK if mean[j, i] > middle else PAPER
                    axes.text(x, y, rounded(float(mean[j, i]), 2), ha="center", va="center", fontsize=FONT - 2, color=ink)
    if panels == 1:
        below, above = shared.least < least, shared.most > most
        extend = "both" if below and above else "min" if below else "max" if above else "neither"
        bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=28, extend=extend)
        bar.set_label(grid.z.titled(shared.z))
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rounded(value)))


def _draw_region(
    axes: Axes,
    plot: Plot,
    grid: Grid,
    centres: tuple[NDArray[np.float64], NDArray[np.float64]],
    edges: tuple[NDArray[np.float64], NDArray[np.float64]],
    shared: _Shared,
    panels: int,
) -> None:
    """A line where the mean is zero, dashed ones where an end of its interval is, the part below hatched, both parts named."""
    xs, ys = (np.concatenate([[edge[0]], centre, [edge[-1]]]) for centre, edge in zip(centres, edges, strict=True))
    fields = [
        np.pad(np.where(np.isfinite(part), part, np.nan) / shared.z.divisor, 1, mode="edge")
        for part in (grid.mean, grid.low, grid.high)
    ]
    if min(grid.mean.shape) > 1 and shared.least < 0 < shared.most:
        axes.contourf(xs, ys, fields[0], levels=[-math.inf, 0], colors="none", hatches=["///"]).set_edgecolor("#0b4f8a55")
        axes.contour(xs, ys, fields[0], levels=[0], colors=[INK], linewidths=2.2)
        for part in fields[1:]:
            if np.nanmin(part) < 0 < np.nanmax(part):
                axes.contour(xs, ys, part, levels=[0], colors=[INK], linewidths=1.0, linestyles=["dashed"])
    label = quantity(plot.z, "", plot.z_label).label
    box = {"boxstyle": "round,pad=0.35", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.88}
    for inside, text in ((grid.mean < 0, plot.below or f"{label} < 0"), (grid.mean >= 0, plot.above or f"{label} ≥ 0")):
        place = _inmost(inside)
        if place is not None:
            at = (centres[0][place[1]], centres[1][place[0]])
            axes.text(
                *at, _wrapped(text, 22), ha="center", va="center", fontsize=FONT - (0 if panels == 1 else 2), bbox=box, zorder=5
            )


def _inmost(inside: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The cell that is farthest from the outside, in shares of the map; None if fewer than one cell in twenty is inside."""
    if inside.sum() * 20 < inside.size:
        return None
    rows, columns = inside.shape
    outside = np.argwhere(~np.pad(inside, 1)) - 1
    cells = np.argwhere(inside)
    across = (cells[:, None, :] - outside[None, :, :]) / np.array([rows, columns * 0.45])  # names are wider than high
    row, column = cells[int(np.argmax((across**2).sum(-1).min(1)))]
    return int(row), int(column)
