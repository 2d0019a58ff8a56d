"""Figures with two axes and a colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from sims.drawing.style import FONT, INK, MOST_TICKS, PAPER, Shared, set_scale, wrapped
from sims.figures import Grid, crosses_zero
from sims.plots import Plot
from sims.quantities import Scale, quantity, rounded

__all__ = ["SIGNED", "draw_grid"]

# With a leap at zero, since on which side a number is says the most.
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ((0, "#0b4f8a"), (0.25, "#5fa3d3"), (0.4999, "#cfe4f3"), (0.5001, "#fbe3d2"), (0.75, "#ec9a5e"), (1, "#b84a00"))
)
HATCH = "#7a7a7a88"  # seen on the palest and on the darkest of these
UNEVEN = 1.7  # steps that differ by more would make cells of very different sizes
LOPSIDED = 3  # where one side of zero reaches farther than so many times the other, its colours end there
MOST_CELLS = 90  # cells that have room for their numbers


def _cell_edges(centres: Sequence[float], scale: Scale) -> NDArray[np.float64]:
    places = np.log(np.asarray(centres)) if scale == "log" else np.asarray(centres, float)
    if len(places) == 1:
        ends = np.array([places[0] - 0.5, places[0] + 0.5])
    else:
        middle = (places[1:] + places[:-1]) / 2
        ends = np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])
    return np.exp(ends) if scale == "log" else ends


def _places(values: NDArray[np.float64], scale: Scale) -> tuple[NDArray[np.float64], Scale, list[str]]:
    """Where the cells' centres are drawn. A few uneven values, or zero and then factors, are drawn in equal cells, with names."""
    steps = np.diff(np.log(values) if scale == "log" else values)
    uneven = len(values) > 2 and len(values) <= MOST_TICKS and steps.max() > UNEVEN * steps.min()
    if scale == "symlog" or uneven:
        return np.arange(len(values), dtype=np.float64), "linear", [rounded(float(value)) for value in values]
    return values, scale, []


def draw_grid(figure: Figure, axes: Axes, plot: Plot, grid: Grid, shared: Shared, panels: int) -> None:
    """A cell for each mean, with its number where there is room; a colour bar if it is the only one of ``panels``."""
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
    # Edges in the colours of their cells: between cells that only touch, viewers of SVG let the paper through.
    mesh = axes.pcolormesh(
        *edges, np.ma.masked_invalid(mean), cmap=colours, vmin=least, vmax=most, linewidth=0.4, edgecolors="face"
    )
    set_scale(axes, "x", x_scale, xs.tolist(), shared.x)
    set_scale(axes, "y", y_scale, ys.tolist(), shared.y)
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
    shared: Shared,
    panels: int,
) -> None:
    """A line where the mean is zero, dashed ones where an end of its interval is, the part below hatched, both parts named."""
    xs, ys = (np.concatenate([[edge[0]], centre, [edge[-1]]]) for centre, edge in zip(centres, edges, strict=True))
    fields = [
        np.pad(np.where(np.isfinite(part), part, np.nan) / shared.z.divisor, 1, mode="edge")
        for part in (grid.mean, grid.low, grid.high)
    ]
    if (fields[0] < 0).any():
        axes.contourf(xs, ys, fields[0], levels=[-math.inf, 0], colors="none", hatches=["///"]).set_edgecolor(HATCH)
    for part, width, style in zip(fields, (2.2, 1.0, 1.0), ("solid", "dashed", "dashed"), strict=True):
        if crosses_zero(part):
            axes.contour(xs, ys, part, levels=[0], colors=[INK], linewidths=width, linestyles=[style], zorder=3)
    axes.autoscale_view()
    label = quantity(plot.z, "", plot.z_label).label
    box = {"boxstyle": "round,pad=0.35", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.88}
    for inside, text in ((grid.mean < 0, plot.below or f"{label} < 0"), (grid.mean >= 0, plot.above or f"{label} ≥ 0")):
        place = _inmost(inside)
        if place is not None:
            middle = axes.transData.transform((centres[0][place[1]], centres[1][place[0]]))
            across, up = np.clip(axes.transAxes.inverted().transform(middle), (0.19, 0.09), (0.81, 0.91))
            axes.text(
                across,
                up,
                wrapped(text, 16 if panels == 1 else 12),
                transform=axes.transAxes,
                ha="center",
                va="center",
                fontsize=FONT - (0 if panels == 1 else 2),
                bbox=box,
                zorder=5,
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
