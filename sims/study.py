"""A finished sweep as its folder holds it, and its figures with the words that stand below them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisection.errors import UsageError
from sims.figures import UNITS_SAID, Grid, Lines, Panel, Run, arrange, crosses_zero, crossings, varied
from sims.plots import Plot
from sims.quantities import Meaning, Scale, quantity, written
from sims.result import Column, Table, Value

__all__ = ["Figure", "Study", "cell", "figures_of", "read_study", "runs_table"]

RESULTS, SWEEP = "results.json", "sweep.toml"
MONEY = (
    "profit",
    "advantage",
    "burnt",
    "stolen",
    "stake",
    "reward",
    "cost",
    "income",
    "loss",
)  # words for what the economy counts in bounties
SEPARATE = ("eth", "wei", "gwei", "rate", "share", "seconds")  # unless the name says another unit


@dataclass(frozen=True)
class Study:
    """A finished sweep as its folder holds it. ``meanings`` are those of parameters and metrics by name."""

    title: str
    kind: str
    scenario: str
    attack: int | None
    seed: int
    repeats: int
    vary: tuple[str, ...]
    runs: tuple[Run, ...]
    plots: tuple[Plot, ...]
    failed: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, Any]
    meanings: Mapping[str, Meaning]
    sweep: str

    def unit(self, name: str) -> str:
        """The unit of a parameter or metric whose name does not end with it, or an empty string."""
        return self.meanings[name].unit if name in self.meanings else ""


@dataclass(frozen=True)
class Figure:
    """A plot with its numbers: ``crossed`` are the keys of the runs beyond the bound."""

    plot: Plot
    panels: tuple[Panel, ...]
    caption: str
    crossed: tuple[str, ...]

    @property
    def title(self) -> str:
        """What stands above it."""
        return self.plot.heading

    def table(self) -> Table:
        """The numbers of all panels."""
        tables = [panel.content.table() for panel in self.panels]
        if len(tables) == 1:
            return tables[0]
        rows = [(panel.title, *row) for panel, table in zip(self.panels, tables, strict=True) for row in table.rows]
        return Table((Column("panel"), *tables[0].columns), tuple(rows))


def read_study(folder: Path) -> Study:
    """The sweep in a folder. Raises UsageError if it is not finished, or is none."""
    path = folder / RESULTS
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; expected one that refstep sims sweep has made")
    again = f"refstep sims sweep {folder / SWEEP} --out {folder} makes it anew"
    try:
        found = json.loads(path.read_bytes())
        sweep = (folder / SWEEP).read_text() if (folder / SWEEP).exists() else ""
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {RESULTS}; run refstep sims sweep FILE --out {folder} until it ends") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is damaged; {again}") from None
    try:
        runs = tuple(_run(point) for point in found["points"])
        study = Study(
            found["title"],
            found["kind"],
            found["scenario"],
            found["attack"],
            found["seed"],
            found["repeats"],
            tuple(found["vary"]),
            runs,
            tuple(Plot.of(figure) for figure in found["figures"]),
            tuple({"parameters": {}, **failed} for failed in found["failed"]),
            dict(found["versions"]),
            _meanings(found["kind"], found["about"], runs, _scales(sweep)),
            sweep,
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UsageError(f"{path} is not the result of a sweep of this version; {again}") from None
    if not study.runs:
        raise UsageError(f"{path} holds no finished run: nothing can be drawn")
    return study


def figures_of(study: Study) -> tuple[Figure, ...]:
    """Put the runs together for each figure of the sweep; without any, there is one of the first metric. Raises UsageError."""
    return tuple(_figure(study, plot) for plot in study.plots or _default_plots(study))


def _figure(study: Study, plot: Plot) -> Figure:
    panels = arrange(plot, study.runs, study.meanings)
    crossed = crossings(plot, study.runs)
    return Figure(plot, panels, _caption(study, plot, panels, crossed), crossed)


def _run(point: Mapping[str, Any]) -> Run:
    tables = {
        name: Table(tuple(Column(**column) for column in table["columns"]), tuple(tuple(row) for row in table["rows"]))
        for name, table in point["tables"].items()
    }
    return Run(point["key"], point["seed"], point["parameters"], point["metrics"], tables)


def _scales(sweep: str) -> dict[str, Scale]:
    """On which scale a sweep file draws from its ranges."""
    try:
        vary = tomllib.loads(sweep).get("vary", {})
    except ValueError:
        return {}
    ranges = {name: axis for name, axis in vary.items() if isinstance(axis, dict)}
    return {name: "log" if axis.get("scale") == "log" else "linear" for name, axis in ranges.items()}


def _meanings(kind: str, about: Mapping[str, Any], runs: Sequence[Run], scales: Mapping[str, Scale]) -> dict[str, Meaning]:
    metrics = sorted({name for run in runs for name in run.metrics})
    known = {name: Meaning("bounties") for name in metrics if kind.startswith("economy.") and _is_money(name)}
    return known | {name: Meaning(one["unit"], one["help"], scales.get(name, "")) for name, one in about.items()}


def _is_money(metric: str) -> bool:
    words = metric.split("_")
    return any(word in words for word in MONEY) and not any(word in words for word in SEPARATE)


def _default_plots(study: Study) -> tuple[Plot, ...]:
    metrics = [name for name, value in study.runs[0].metrics.items() if isinstance(value, int | float)]
    axes = [name for name in study.vary if name in varied(study.runs)]
    if not metrics or not axes:
        return ()
    by = axes[1] if len(axes) > 1 else ""
    return (Plot("result", axes[0], (sorted(metrics)[0],), by=by, title=study.title),)


# Words


def _caption(study: Study, plot: Plot, panels: Sequence[Panel], crossed: Sequence[str]) -> str:
    content = panels[0].content
    mean = {"heat": "Colour: mean", "region": "Colour: mean", "bars": "Bar: mean"}.get(
        plot.kind, "Points: mean" if plot.expected else "Line: mean"
    )
    said = [plot.note.strip().rstrip(".")] if plot.note else []
    counts = _counts(panels)
    each = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
    what = f"{mean} of {each} runs" if counts[-1] > 1 else f"{mean.partition(':')[0]}: the one run"
    said.append(f"{what} at each place{_interval_words(plot, panels)}")
    if isinstance(content, Lines) and content.grouped and content.by:
        said.append(f"Each is over a range of {content.by.label}")
    if isinstance(content, Lines) and content.expected:
        said.append(f"Line: {content.expected.label}, which the points should be on")
    if plot.bound:
        spots = [
            spot for panel in panels if isinstance(panel.content, Lines) for line in panel.content.lines for spot in line.spots
        ]
        total, named = sum(len(spot.values) for spot in spots), quantity(plot.bound).label
        kept = f"{f'{len(crossed):,}' if crossed else 'none'} of {total:,} runs {'cross' if len(crossed) > 1 else 'crosses'} it"
        bounded = any(spot.bound is not None for spot in spots)
        said.append(f"Dashed: {named}; {kept}" if bounded else f"No run has a number for {named}")
    if plot.where:
        said.append("Only " + ", ".join(_named(study, name, value) for name, value in plot.where.items()))
    kept_runs = [run for run in study.runs if all(run.parameters.get(name) == value for name, value in plot.where.items())]
    pooled = [name for name in varied(kept_runs) if name not in plot.names()]
    if pooled:
        said.append(f"Over all values of {', '.join(quantity(name).label for name in pooled)}")
    return ". ".join(said) + "."


def _named(study: Study, name: str, value: Any) -> str:
    """A parameter with its value, in a unit where it needs one."""
    named = quantity(name, study.unit(name))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{named.label} = {written(value)}"
    unit = named.drawn_in((value,))
    return f"{named.label} = {written(value / unit.divisor)} {unit.name if unit.name in UNITS_SAID else ''}".rstrip()


def _counts(panels: Sequence[Panel]) -> list[int]:
    """The smallest and the largest number of runs behind one mean."""
    counts: list[int] = []
    for panel in panels:
        if isinstance(panel.content, Grid):
            counts += [int(count) for count in panel.content.runs.flat if count]
        else:
            counts += [len(spot.values) for line in panel.content.lines for spot in line.spots]
    return [min(counts), max(counts)]


def _interval_words(plot: Plot, panels: Sequence[Panel]) -> str:
    content = panels[0].content
    if isinstance(content, Grid):
        if plot.kind != "region":
            return ""
        grids = [panel.content for panel in panels if isinstance(panel.content, Grid)]
        thick = "; the thick line: zero" if any(crosses_zero(grid.mean) for grid in grids) else ""
        ends = any(crosses_zero(end) and (grid.high > grid.low).any() for grid in grids for end in (grid.low, grid.high))
        dashed = f"; dashed: an end of the {content.band} is zero" if ends else ""
        hatched = "; hatched: below zero" if any((grid.mean < 0).any() for grid in grids) else ""
        return thick + dashed + hatched
    spread = any(spot.high > spot.low for line in content.lines for spot in line.spots)
    what = "line" if plot.kind == "bars" else "band"
    return f"; {what}: {content.band}" if spread else ""


# Tables


def runs_table(study: Study) -> Table:
    """All runs: what was varied, the seed, all metrics."""
    names = varied(study.runs)
    metrics = sorted({name for run in study.runs for name in run.metrics})
    columns = (
        [Column(name, study.unit(name)) for name in names] + [Column("seed")] + [Column(name, study.unit(name)) for name in metrics]
    )
    rows = []
    for run in study.runs:
        given = [cell(run.parameters.get(name)) for name in names]
        rows.append((*given, run.seed, *(run.metrics.get(name) for name in metrics)))
    return Table(tuple(columns), tuple(rows))


def cell(value: Any) -> Value:
    """A value as a table has it: lists in words."""
    return value if isinstance(value, bool | int | float | str) or value is None else written(value)
