"""The report of a sweep as one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from sims.figures import Lines
from sims.quantities import Meaning, Quantity, Unit, quantity, written
from sims.result import Column, Table, Value
from sims.study import Figure, Study, cell, runs_table

__all__ = ["RUNS", "page"]

RUNS = "runs.csv"
MOST_ROWS = 400  # of a table in the page; the CSV beside it has all

CSS = """
:root { color-scheme: light; --ink: #222; --grey: #666; --line: #ddd; --blue: #0072b2; --bad: #b03a00; --wash: #f6f7f8; }
body { margin: 0 auto; max-width: 880px; padding: 2rem 1.25rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .4rem; }
a { color: var(--blue); }
p.about, figcaption, .facts dt { color: var(--grey); }
.facts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.4rem 0; }
.facts div { flex: 1 1 8rem; background: var(--wash); border-radius: 8px; padding: .6rem .9rem; }
.facts dt { font-size: .82rem; } .facts dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
.facts .bad { background: #fdeee6; } .bad dd, strong.bad { color: var(--bad); }
nav ol { padding-left: 1.3rem; columns: 2; column-gap: 2rem; font-size: .95rem; }
figure { margin: 0 0 .6rem; } figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: .88rem; margin-top: .3rem; }
details { margin: .5rem 0; font-size: .9rem; } summary { cursor: pointer; color: var(--blue); }
.scroll { overflow: auto; max-height: 26rem; border: 1px solid var(--line); border-radius: 6px; margin-top: .4rem; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; width: 100%; }
th { text-align: left; position: sticky; top: 0; background: var(--wash); font-weight: 600; }
th small { display: block; color: var(--grey); font-weight: 400; }
th, td { padding: .28rem .6rem; border-bottom: 1px solid #eee; white-space: nowrap; }
td.number, th.number { text-align: right; } td.long { white-space: normal; }
pre { background: var(--wash); border-radius: 6px; padding: .8rem 1rem; overflow: auto; font-size: .82rem; }
@media (max-width: 640px) { nav ol { columns: 1; } body { padding: 1rem .8rem; } }
@media print { details { display: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


def page(study: Study, figures: Sequence[Figure], drawn: Mapping[str, str]) -> str:
    """The report as HTML, with ``drawn`` holding each figure's SVG by the name of its plot."""
    parts = [_head(study, figures), _failures(study)]
    if len(figures) > 2:
        links = "".join(f'<li><a href="#{escape(figure.plot.name)}">{escape(figure.title)}</a></li>' for figure in figures)
        parts.append(f'<nav aria-label="Figures"><ol>{links}</ol></nav>')
    parts += [_section(figure, drawn[figure.plot.name]) for figure in figures]
    parts += [_bounds(figures), _parameters(study), _metrics(study), _all_runs(study), _again(study)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(study.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body>\n</html>\n"
    )


def _head(study: Study, figures: Sequence[Figure]) -> str:
    points = len({json.dumps(run.parameters, sort_keys=True) for run in study.runs})
    bounded = [figure for figure in figures if figure.plot.bound]
    crossed = len({key for figure in bounded for key in figure.crossed})
    facts = [
        ("runs", f"{len(study.runs):,}", False),
        ("points", f"{points:,}", False),
        ("seeds at each", f"{study.repeats:,}", False),
    ]
    facts += [("failed", f"{len(study.failed):,}", True)] if study.failed else []
    facts += [("runs beyond a bound", f"{crossed:,}", crossed > 0)] if bounded else []
    tiles = "".join(f"<div{' class=bad' if bad else ''}><dt>{name}</dt><dd>{value}</dd></div>" for name, value, bad in facts)
    attack = f", attack {study.attack} of docs/attacks.md" if study.attack is not None else ""
    versions = ", ".join(f"{name} {version}" for name, version in study.versions.items())
    vary = ", ".join(f"<code>{escape(name)}</code>" for name in study.vary) or "nothing"
    return (
        f"<h1>{escape(study.title)}</h1>\n"
        f'<p class="about">Scenario <code>{escape(study.scenario)}</code> of kind <code>{escape(study.kind)}</code>{attack}. '
        f"Varied: {vary}. Seed {study.seed}. {escape(versions)}.</p>\n"
        f'<dl class="facts">{tiles}</dl>'
    )


def _failures(study: Study) -> str:
    if not study.failed:
        return ""
    names = [name for name in study.vary if any(name in one["parameters"] for one in study.failed)]
    columns = [Column(name, study.unit(name)) for name in names] + [Column("seed"), Column("error")]
    rows = [(*(cell(one["parameters"].get(name)) for name in names), one["seed"], one["error"]) for one in study.failed]
    count = len(rows)
    failed, again = ("1 run failed</strong> and is", "it") if count == 1 else (f"{count:,} runs failed</strong> and are", "them")
    return (
        f'<p><strong class="bad">{failed} in no figure. The same command tries {again} again.</p>'
        f"{_html_table(Table(tuple(columns), tuple(rows)))}"
    )


def _section(figure: Figure, drawn: str) -> str:
    name = escape(figure.plot.name)
    table = figure.table()
    return (
        f'<section>\n<h2 id="{name}">{escape(figure.title)}</h2>\n<figure>\n{drawn}\n'
        f"<figcaption>{escape(figure.caption)}</figcaption>\n</figure>\n"
        f"<details><summary>The numbers ({len(table.rows):,} rows)</summary>{_html_table(table)}"
        f'<p>Beside this page: <a href="{name}.csv">{name}.csv</a>, <a href="{name}.png">{name}.png</a></p></details>\n</section>'
    )


def _bounds(figures: Sequence[Figure]) -> str:
    bounded = [figure for figure in figures if figure.plot.bound]
    if not bounded:
        return ""
    columns = (
        Column("figure"),
        Column("value"),
        Column("bound"),
        Column("closest", "%", "the largest value in per cent of its bound"),
        Column("crossed", "runs"),
    )
    rows = []
    for figure in bounded:
        spots = [
            spot
            for panel in figure.panels
            if isinstance(panel.content, Lines)
            for line in panel.content.lines
            for spot in line.spots
        ]
        closest = max((100 * spot.closest for spot in spots if spot.closest is not None), default=None)
        rows.append((figure.title, ", ".join(figure.plot.y), figure.plot.bound, closest, len(figure.crossed)))
    return f"<h2>Bounds</h2>{_html_table(Table(columns, tuple(rows)))}"


def _parameters(study: Study) -> str:
    columns = (Column("parameter"), Column("value"), Column("unit"), Column("meaning"))
    rows = []
    for name in sorted(study.runs[0].parameters, key=lambda name: (name not in study.vary, name)):
        meaning = study.meanings.get(name, Meaning())
        unit = _read_in(quantity(name, meaning.unit), [run.parameters.get(name) for run in study.runs])
        rows.append((name, _values(study, name, unit), unit.name, meaning.help))
    return f"<h2>Parameters</h2><p>What was varied comes first.</p>{_html_table(Table(columns, tuple(rows)))}"


def _read_in(named: Quantity, values: Sequence[object]) -> Unit:
    """Wei are hard to read; other values are shown as they are stored, and are given."""
    numbers = [value for value in values if isinstance(value, int | float)]
    return named.drawn_in(numbers) if named.unit == "wei" and len(numbers) == len(values) else Unit(1, named.unit)


def _values(study: Study, name: str, unit: Unit) -> str:
    found = [run.parameters[name] for run in study.runs]
    values = list(dict.fromkeys(cell(value if unit.divisor == 1 else value / unit.divisor) for value in found))
    if all(isinstance(value, int | float) for value in values):
        values.sort(key=lambda value: float(value) if isinstance(value, int | float) else math.inf)
        if len(values) > 8:
            return f"{written(values[0])} to {written(values[-1])} ({len(values):,} values)"
    return ", ".join(written(value) for value in values)


def _metrics(study: Study) -> str:
    columns = (Column("metric"), Column("unit"), Column("least"), Column("mean"), Column("most"))
    rows: list[tuple[Value, ...]] = []
    for name in sorted({name for run in study.runs for name in run.metrics}):
        values = [run.metrics.get(name) for run in study.runs]
        numbers = [value for value in values if isinstance(value, int | float)]
        unit = _read_in(quantity(name, study.unit(name)), numbers)
        if numbers:
            mean = math.fsum(numbers) / len(numbers)
            least, most = (value if unit.divisor == 1 else value / unit.divisor for value in (min(numbers), max(numbers)))
            rows.append((name, unit.name, least, mean / unit.divisor, most))
        elif any(value is not None for value in values):
            texts = sorted({str(value) for value in values if value is not None})
            rows.append((name, unit.name, ", ".join(texts[:4]) + (" …" if len(texts) > 4 else ""), None, None))
    return f"<details><summary>All metrics over all runs</summary>{_html_table(Table(columns, tuple(rows)))}</details>"


def _all_runs(study: Study) -> str:
    table = runs_table(study)
    beside = f'<p>Beside this page: <a href="{RUNS}">{RUNS}</a></p>'
    return f"<details><summary>All runs ({len(table.rows):,})</summary>{_html_table(table)}{beside}</details>"


def _again(study: Study) -> str:
    command = "refstep sims sweep sweep.toml --out AGAIN\nrefstep sims report AGAIN"
    text = f"<details><summary>sweep.toml</summary><pre>{escape(study.sweep)}</pre></details>" if study.sweep else ""
    return f"<h2>Again</h2><p>The same versions give the same bytes, on any number of workers.</p><pre>{command}</pre>{text}"


def _html_table(table: Table) -> str:
    numeric = [_is_numeric(row[index] for row in table.rows) for index in range(len(table.columns))]
    heads = []
    for column, right in zip(table.columns, numeric, strict=True):
        unit = f"<small>{escape(column.unit)}</small>" if column.unit else ""
        told = f' title="{escape(column.help)}"' if column.help else ""
        heads.append(f"<th{' class=number' if right else ''}{told}>{escape(column.name.replace('_', ' '))}{unit}</th>")
    body = []
    for row in table.rows[:MOST_ROWS]:
        cells = [
            f"<td{_class(value, right)}>{escape(_shown(column, value))}</td>"
            for column, value, right in zip(table.columns, row, numeric, strict=True)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    more = f"<p>The first {MOST_ROWS:,} of {len(table.rows):,} rows.</p>" if len(table.rows) > MOST_ROWS else ""
    rows = "\n".join(body)
    return f'<div class="scroll"><table><thead><tr>{"".join(heads)}</tr></thead><tbody>\n{rows}\n</tbody></table></div>{more}'


def _shown(column: Column, value: Value) -> str:
    """A cell in words. Seeds are given to --seed as they stand here."""
    return str(value) if column.name == "seed" else written(value)


def _is_numeric(values: Iterable[Value]) -> bool:
    """Whether a column is of numbers: words may stand among them."""
    kept = [value for value in values if value is not None]
    return not kept or any(isinstance(value, int | float) and not isinstance(value, bool) for value in kept)


def _class(value: Value, right: bool) -> str:
    return " class=number" if right else " class=long" if isinstance(value, str) and len(value) > 40 else ""
