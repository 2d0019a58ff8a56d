"""What a figure of a sweep shows: which numbers, put together how, with what uncertainty. Drawing them is sims/drawing.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bisection.errors import UsageError
from sims.plots import Plot
from sims.quantities import PLAIN, Meaning, Quantity, Scale, natural_scale, quantity, rounded, written
from sims.result import Column, Table, Value

__all__ = [
    "UNITS_SAID",
    "Grid",
    "Line",
    "Lines",
    "Panel",
    "Plot",
    "Run",
    "Spot",
    "arrange",
    "crosses_zero",
    "crossings",
    "interval",
    "varied",
]

MOST_SERIES = 8  # so many a reader can tell apart
GROUPS = 4  # of a parameter that takes more values than that
MOST_PANELS = 6
MOST_ON_AXIS = 60  # distinct values of an axis before they are put into bins
LINE_BINS = 16
LEAST_BINS, MOST_BINS, RUNS_IN_CELL = 6, 20, 12
UNITS_SAID = ("s", "min", "h", "days", "wei", "gwei", "ETH")  # beside each value, where others are said once
STUDENT = (  # 97.5 %, from 1 degree
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
)  # fmt: skip
NORMAL = 1.959964
CONFIDENCE = "95 % confidence interval"
RANGE = "central 90 % of the runs"


@dataclass(frozen=True)
class Run:
    """One finished point of a sweep: all parameters of its kind, the metrics, and the tables by name."""

    key: str
    seed: int
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Value]
    tables: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Spot:
    """The runs at one ``x``: their mean, the interval around it, of each run the value, the place, whether it crossed its bound.

    ``bound`` is the least that one of them had to keep, ``closest`` the largest share of its bound that one reached.
    """

    x: float | str
    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    places: tuple[float | str, ...]
    crossed: tuple[bool, ...]
    bound: float | None = None
    closest: float | None = None
    expected: float | None = None


@dataclass(frozen=True)
class Line:
    """One series. ``label`` tells it from the others and is empty if it is the only one; ``value`` is what it is the label of."""

    label: str
    value: Value
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class Lines:
    """Series over a common axis. ``band`` says what the interval around a mean is; ``grouped``: each is over a range of ``by``."""

    lines: tuple[Line, ...]
    x: Quantity
    y: Quantity
    by: Quantity | None
    x_scale: Scale
    y_scale: Scale
    band: str
    bound: Quantity | None = None
    expected: Quantity | None = None
    grouped: bool = False

    def table(self) -> Table:
        """The numbers behind the lines, in the units in which they were stored."""
        columns = [Column(self.by.name, self.by.unit)] if self.by else []
        columns += [Column(self.x.name, self.x.unit), Column(self.y.name, self.y.unit, "mean")]
        columns += [Column("low", self.y.unit, self.band), Column("high", self.y.unit, self.band), Column("runs")]
        columns += [Column(one.name, one.unit) for one in (self.bound, self.expected) if one]
        rows: list[tuple[Value, ...]] = []
        for line in self.lines:
            for spot in line.spots:
                row: list[Value] = [line.value] if self.by else []
                row += [spot.x, spot.mean, spot.low, spot.high, len(spot.values)]
                row += [spot.bound] if self.bound else []
                row += [spot.expected] if self.expected else []
                rows.append(tuple(row))
        return Table(tuple(columns), tuple(rows))


@dataclass(frozen=True)
class Grid:
    """Means of ``z`` and the interval around them, each of shape (len(ys), len(xs)), NaN where there is no run."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    runs: NDArray[np.int64]
    x: Quantity
    y: Quantity
    z: Quantity
    x_scale: Scale
    y_scale: Scale
    band: str

    def table(self) -> Table:
        """The numbers behind the colours."""
        columns = (
            Column(self.x.name, self.x.unit),
            Column(self.y.name, self.y.unit),
            Column(self.z.name, self.z.unit, "mean"),
            Column("low", self.z.unit, self.band),
            Column("high", self.z.unit, self.band),
            Column("runs"),
        )
        rows = [
            (x, y, float(self.mean[j, i]), float(self.low[j, i]), float(self.high[j, i]), int(self.runs[j, i]))
            for j, y in enumerate(self.ys)
            for i, x in enumerate(self.xs)
            if self.runs[j, i]
        ]
        return Table(columns, tuple(rows))


@dataclass(frozen=True)
class Panel:
    """One of a figure's axes; ``title`` is empty if it is the only one."""

    title: str
    content: Lines | Grid


@dataclass(frozen=True)
class _Row:
    """A run, or one row of a table of it: what was put in, and what came out."""

    parameters: Mapping[str, Any]
    results: Mapping[str, Any]

    def given(self, name: str) -> Any:
        value = self.parameters[name] if name in self.parameters else self.results.get(name)
        return written(value) if isinstance(value, list | tuple) else value

    def found(self, name: str) -> Any:
        return self.results[name] if name in self.results else self.parameters.get(name)

    def exceeds(self, name: str, bound: str) -> bool:
        """Compared exactly as measured."""
        value, most = self.found(name), self.found(bound) if bound else None
        return _is_number(value) and _is_number(most) and value > most


def varied(runs: Sequence[Run]) -> tuple[str, ...]:
    """The parameters that are not the same in all runs, in the order of their names."""
    names = sorted({name for run in runs for name in run.parameters})
    return tuple(name for name in names if len({repr(run.parameters.get(name)) for run in runs}) > 1)


def interval(values: Sequence[float], proportion: bool = False) -> tuple[float, float]:
    """The 95 % confidence interval of the mean: Student's, or Wilson's if the values are yes (1) and no (0).

    One value has no interval but itself.

    >>> [round(end, 3) for end in interval([1.0, 1.0, 0.0, 1.0], proportion=True)]
    [0.301, 0.954]
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return mean, mean
    if proportion:
        centre = (mean + NORMAL**2 / (2 * count)) / (1 + NORMAL**2 / count)
        half = NORMAL * math.sqrt(mean * (1 - mean) / count + NORMAL**2 / (4 * count**2)) / (1 + NORMAL**2 / count)
        return min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    freedom = count - 1
    factor = STUDENT[freedom - 1] if freedom <= len(STUDENT) else NORMAL + 2.4 / freedom
    half = factor * deviation / math.sqrt(count)
    return mean - half, mean + half


def crossings(plot: Plot, runs: Sequence[Run]) -> tuple[str, ...]:
    """The keys of the runs whose ``y`` exceeds the bound, compared exactly as they were measured."""
    if not plot.bound:
        return ()
    kept = _kept(plot, runs)
    return tuple(run.key for run in kept if any(row.exceeds(name, plot.bound) for row in _rows(plot, (run,)) for name in plot.y))


def arrange(plot: Plot, runs: Sequence[Run], meanings: Mapping[str, Meaning] | None = None) -> tuple[Panel, ...]:
    """Put the runs together for a plot. ``meanings`` say what the names of parameters and metrics do not.

    Raises UsageError if the runs have no such parameter or metric, or no numbers for it.
    """
    kept = _kept(plot, runs)
    rows = _rows(plot, kept)
    _demand_names(plot, rows)
    meanings = {**(meanings or {}), **_meanings_of_columns(plot, kept)}
    pooled = tuple(name for name in varied(kept) if name not in (*plot.names(), "seed"))
    split: list[tuple[str, list[_Row]]] = [("", rows)]
    if plot.panels:
        values = _ordered(row.given(plot.panels) for row in rows)
        if len(values) > MOST_PANELS:
            raise UsageError(f"figure {plot.name}: {plot.panels} has {len(values)} values; expected at most {MOST_PANELS} panels")
        named = quantity(plot.panels, meanings.get(plot.panels, PLAIN).unit)
        split = [
            (f"{named.label} {tick}", [row for row in rows if row.given(plot.panels) == value])
            for tick, value in zip(_ticks(values, named), values, strict=True)
        ]
    build = _grid if plot.is_map else _lines
    return tuple(Panel(title, build(plot, part, meanings, pooled)) for title, part in split)


def _kept(plot: Plot, runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if all(_equal(run.parameters.get(name), value) for name, value in plot.where.items())]


def _equal(value: Any, wanted: Any) -> bool:
    """Numbers of a logarithmic range need not be given with all their digits."""
    if isinstance(value, float) and _is_number(wanted):
        return math.isclose(value, wanted, rel_tol=1e-3)
    return bool(value == wanted)


def _rows(plot: Plot, runs: Iterable[Run]) -> list[_Row]:
    if not plot.table:
        return [_Row({**run.parameters, "seed": run.seed}, run.metrics) for run in runs]
    rows = []
    for run in runs:
        table = run.tables.get(plot.table)
        if table is None:
            raise UsageError(
                f"figure {plot.name}: no table {plot.table!r}; the runs have {', '.join(sorted(run.tables)) or 'none'}"
            )
        names = [column.name for column in table.columns]
        parameters = {**run.parameters, "seed": run.seed}
        for values in table.rows:
            columns = dict(zip(names, values, strict=True))
            rows.append(
                _Row({name: value for name, value in parameters.items() if name not in columns}, {**run.metrics, **columns})
            )
    return rows


def _demand_names(plot: Plot, rows: Sequence[_Row]) -> None:
    if not rows:
        raise UsageError(f"figure {plot.name}: no run has finished" + (f" with {dict(plot.where)}" if plot.where else ""))
    known = sorted({name for row in rows for name in (*row.parameters, *row.results)})
    for name in plot.names():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; the runs have {', '.join(known)}"
            raise UsageError(f"figure {plot.name}: no parameter or metric {name!r}{hint}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not (isinstance(value, float) and math.isnan(value))


def _meanings_of_columns(plot: Plot, runs: Iterable[Run]) -> dict[str, Meaning]:
    tables = [run.tables[plot.table] for run in runs if plot.table in run.tables]
    return {column.name: Meaning(column.unit, column.help) for table in tables[:1] for column in table.columns}


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Numbers by size; others as they came, which is the order in which the sweep names them."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(map(_is_number, distinct)) else distinct


def _ticks(values: Sequence[Any], named: Quantity, digits: int = 3) -> list[str]:
    """Values as words, numbers in the same unit but for those that are less than one of it."""
    numbers = [value for value in values if _is_number(value) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return [written(value).replace("_", " ") for value in values]
    common = named.drawn_in(numbers)
    units = [common if not value or abs(value) >= common.divisor else named.drawn_in((value,)) for value in numbers]
    names = ["" if unit.name == named.unit and unit.name not in UNITS_SAID else unit.name for unit in units]
    pairs = list(zip(numbers, units, strict=True))
    plain = [written(value) if unit.divisor == 1 else rounded(value / unit.divisor, digits) for value, unit in pairs]
    return [f"{one} {name}".strip() for one, name in zip(plain, names, strict=True)]


def _lines(plot: Plot, rows: Sequence[_Row], meanings: Mapping[str, Meaning], pooled: tuple[str, ...]) -> Lines:
    x = quantity(plot.x, plot.x_unit or meanings.get(plot.x, PLAIN).unit, plot.x_label)
    y = quantity(plot.y[0], plot.y_unit or meanings.get(plot.y[0], PLAIN).unit, plot.y_label)
    rows = [row for row in rows if row.given(plot.x) is not None]
    series: list[tuple[str, Value, str, list[_Row]]] = [("", None, plot.y[0], list(rows))]
    by: Quantity | None = None
    if plot.by:
        by = quantity(plot.by, meanings.get(plot.by, PLAIN).unit)
        series = [(label, value, plot.y[0], part) for label, value, part in _series(plot, rows, by)]
    elif len(plot.y) > 1:
        by = Quantity("series", "")
        series = [(quantity(name).label, name, name, list(rows)) for name in plot.y]
        y = Quantity("value", plot.y_label or _common_words([label for label, *_ in series]), y.unit)
    numeric = plot.kind != "bars" and all(_is_number(row.given(plot.x)) and not isinstance(row.given(plot.x), bool) for row in rows)
    xs = {row.given(plot.x) for row in rows}
    scale: Scale = (plot.x_scale or meanings.get(plot.x, PLAIN).scale or natural_scale(xs)) if numeric else "linear"
    edges = _edges(xs, scale, LINE_BINS) if numeric and len(xs) > MOST_ON_AXIS and not plot.table else None
    grouped = bool(plot.by) and len({row.given(plot.by) for row in rows}) > MOST_SERIES
    pool = bool(pooled) or edges is not None or grouped
    drawn = [Line(label, value, _spots(plot, name, part, edges, scale, numeric, pool)) for label, value, name, part in series]
    lines = tuple(
        Line(line.label, line.value, _within_one(line.spots) if _is_share(y) else line.spots) for line in drawn if line.spots
    )
    spots = [spot for line in lines for spot in line.spots]
    if not spots:
        raise UsageError(f"figure {plot.name}: {plot.y[0]} is nowhere a number")
    bound = quantity(plot.bound, y.unit) if plot.bound else None
    expected = quantity(plot.expected, y.unit) if plot.expected else None
    heights = [spot.mean for spot in spots] + [spot.bound for spot in spots if spot.bound is not None]
    wide = min(heights) > 0 and min(spot.low for spot in spots) > 0 and max(heights) / min(heights) > 300 and plot.kind != "bars"
    return Lines(
        lines,
        x,
        y,
        by,
        scale,
        plot.y_scale or ("log" if wide else "linear"),
        RANGE if pool and not _are_truths(rows, plot.y) else CONFIDENCE,
        bound,
        expected,
        grouped,
    )


def crosses_zero(values: NDArray[np.float64]) -> bool:
    """Whether numbers below and above zero are among these."""
    return bool((values < 0).any() and (values > 0).any())


def _is_share(named: Quantity) -> bool:
    return named.unit == "probability" or named.unit.startswith("of ")


def _within_one(spots: Sequence[Spot]) -> tuple[Spot, ...]:
    """No share is below zero or above one, whatever Student's interval says."""
    if any(not 0 <= value <= 1 for spot in spots for value in spot.values):
        return tuple(spots)
    return tuple(replace(spot, low=max(0.0, spot.low), high=min(1.0, spot.high)) for spot in spots)


def _common_words(labels: Sequence[str]) -> str:
    """The words with which all labels end."""
    ends = [label.split()[::-1] for label in labels]
    common: list[str] = []
    for words in zip(*ends, strict=False):
        if len(set(words)) > 1:
            break
        common.insert(0, words[0])
    return " ".join(common)


def _series(plot: Plot, rows: Sequence[_Row], by: Quantity) -> list[tuple[str, Value, list[_Row]]]:
    values = _ordered(row.given(by.name) for row in rows)
    if len(values) <= MOST_SERIES:
        ticks = _ticks(values, by)
        return [
            (tick, value, [row for row in rows if row.given(by.name) == value]) for tick, value in zip(ticks, values, strict=True)
        ]
    if not all(map(_is_number, values)):
        raise UsageError(f"figure {plot.name}: {by.name} has {len(values)} values; expected at most {MOST_SERIES} series")
    cuts = [round(index * len(values) / GROUPS) for index in range(GROUPS + 1)]
    groups = [(values[low], values[high - 1]) for low, high in pairwise(cuts)]
    labels = [" – ".join(_ticks(group, by, 2)) for group in groups]
    return [
        (label, label, [row for row in rows if low <= row.given(by.name) <= high])
        for label, (low, high) in zip(labels, groups, strict=True)
    ]


def _edges(values: Iterable[float], scale: Scale, count: int) -> NDArray[np.float64]:
    low, high = min(values), max(values)
    return np.geomspace(low, high, count + 1) if scale == "log" else np.linspace(low, high, count + 1)


def _centre(value: float, edges: NDArray[np.float64], scale: Scale) -> float:
    index = min(max(int(np.searchsorted(edges, value, side="right")) - 1, 0), len(edges) - 2)
    low, high = float(edges[index]), float(edges[index + 1])
    return math.sqrt(low * high) if scale == "log" else (low + high) / 2


def _spots(
    plot: Plot,
    name: str,
    rows: Sequence[_Row],
    edges: NDArray[np.float64] | None,
    scale: Scale,
    numeric: bool,
    pool: bool,
) -> tuple[Spot, ...]:
    at: dict[Any, list[_Row]] = {}
    for row in rows:
        if _is_number(row.found(name)):
            x = row.given(plot.x)
            at.setdefault(x if edges is None else _centre(x, edges, scale), []).append(row)
    spots = []
    for x in _ordered(at):
        values = tuple(float(row.found(name)) for row in at[x])
        bounds = _numbers(at[x], plot.bound)
        likely = _numbers(at[x], plot.expected)
        shares = [row.found(name) / row.found(plot.bound) for row in at[x] if bounds and row.found(plot.bound)]
        spots.append(
            Spot(
                x if numeric else written(x),
                *_summary(at[x], name, pool),
                values,
                tuple(row.given(plot.x) if numeric else written(row.given(plot.x)) for row in at[x]),
                tuple(row.exceeds(name, plot.bound) for row in at[x]),
                min(bounds, default=None),
                max(shares, default=None),
                math.fsum(likely) / len(likely) if likely else None,
            )
        )
    return tuple(spots)


def _are_truths(rows: Sequence[_Row], names: Sequence[str]) -> bool:
    """Whether all that the rows have of these names is yes or no: their shares have Wilson's interval, whatever else varies."""
    found = [row.found(name) for row in rows for name in names]
    return all(isinstance(value, bool) for value in found if _is_number(value))


def _numbers(rows: Iterable[_Row], name: str) -> list[float]:
    return [float(row.found(name)) for row in rows if name and _is_number(row.found(name))]


def _summary(rows: Sequence[_Row], name: str, pool: bool) -> tuple[float, float, float]:
    """Mean and interval, made of the runs' own 95 % intervals where they say them, as ``NAME_low`` and ``NAME_high``."""
    found = [row.found(name) for row in rows]
    values = [float(value) for value in found]
    mean = math.fsum(values) / len(values)
    if pool and len(values) > 1 and not all(isinstance(value, bool) for value in found):
        low, high = np.quantile(values, (0.05, 0.95))
        return mean, float(low), float(high)
    own = [(row.found(f"{name}_low"), row.found(f"{name}_high")) for row in rows]
    if all(_is_number(low) and _is_number(high) for low, high in own):
        down = math.sqrt(math.fsum((value - low) ** 2 for value, (low, _) in zip(values, own, strict=True))) / len(values)
        up = math.sqrt(math.fsum((high - value) ** 2 for value, (_, high) in zip(values, own, strict=True))) / len(values)
        return mean, mean - down, mean + up
    return (mean, *interval(values, all(isinstance(value, bool) for value in found)))


def _grid(plot: Plot, rows: Sequence[_Row], meanings: Mapping[str, Meaning], pooled: tuple[str, ...]) -> Grid:
    x = quantity(plot.x, plot.x_unit or meanings.get(plot.x, PLAIN).unit, plot.x_label)
    y = quantity(plot.y[0], plot.y_unit or meanings.get(plot.y[0], PLAIN).unit, plot.y_label)
    z = quantity(plot.z, plot.z_unit or meanings.get(plot.z, PLAIN).unit, plot.z_label)
    rows = [
        row for row in rows if all(_is_number(row.given(name)) for name in (plot.x, plot.y[0])) and _is_number(row.found(plot.z))
    ]
    if not rows:
        raise UsageError(
            f"figure {plot.name}: {plot.x}, {plot.y[0]} and {plot.z} are nowhere all numbers; a {plot.kind} needs three"
        )
    places: list[list[float]] = []
    axes: list[list[float]] = []
    scales: list[Scale] = []
    binned = False
    bins = min(MOST_BINS, max(LEAST_BINS, round(math.sqrt(len(rows) / RUNS_IN_CELL))))
    for named, wanted in ((plot.x, plot.x_scale), (plot.y[0], plot.y_scale)):
        values = [float(row.given(named)) for row in rows]
        scale: Scale = wanted or meanings.get(named, PLAIN).scale or natural_scale(values)
        scales.append(scale)
        if len(set(values)) > MOST_ON_AXIS:
            binned = True
            edges = _edges(values, scale, bins)
            axes.append(sorted({_centre(float(edge), edges, scale) for edge in edges}))
            values = [_centre(value, edges, scale) for value in values]
        else:
            axes.append(sorted(set(values)))
        places.append(values)
    at: dict[tuple[int, int], list[_Row]] = {}
    for row, across, up in zip(rows, *places, strict=True):
        at.setdefault((axes[1].index(up), axes[0].index(across)), []).append(row)
    shape = (len(axes[1]), len(axes[0]))
    mean, low, high = (np.full(shape, np.nan) for _ in range(3))
    runs = np.zeros(shape, np.int64)
    for cell, members in at.items():
        mean[cell], low[cell], high[cell] = _summary(members, plot.z, bool(pooled) or binned)
        runs[cell] = len(members)
    band = RANGE if (pooled or binned) and not _are_truths(rows, (plot.z,)) else CONFIDENCE
    return Grid(tuple(axes[0]), tuple(axes[1]), mean, low, high, runs, x, y, z, scales[0], scales[1], band)
