"""The report of a sweep, written into its folder.

report.html        figures as SVG, the tables behind them, bounds, parameters, how to run it again
NAME.png NAME.csv  each figure, and its numbers
runs.csv           every run: parameters, seed, metrics
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from sims.documents import write_file
from sims.page import RUNS, page
from sims.result import Table
from sims.study import figures_of, read_study, runs_table

__all__ = ["PAGE", "write_report"]

PAGE = "report.html"


def write_report(folder: Path) -> Path:
    """Draw all figures of a finished sweep into its folder, and return the page's path.

    Raises UsageError for a folder without results and for a figure that cannot be drawn of them, UnavailableError if the folder
    cannot be written to.
    """
    from sims.drawing import draw, png, svg

    study = read_study(folder)
    figures = figures_of(study)
    drawn = {}
    for figure in figures:
        drawn[figure.plot.name] = svg(
            draw(figure.plot, figure.panels, titled=False), figure.plot.name, f"{figure.title}. {figure.caption}"
        )
        write_file(folder / f"{figure.plot.name}.png", png(draw(figure.plot, figure.panels, figure.caption)))
        write_file(folder / f"{figure.plot.name}.csv", _csv(figure.table()))
    write_file(folder / RUNS, _csv(runs_table(study)))
    write_file(folder / PAGE, page(study, figures, drawn).encode())
    return folder / PAGE


def _csv(table: Table) -> bytes:
    """A table with one line of names; numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{column.name} [{column.unit}]" if column.unit else column.name for column in table.columns])
    writer.writerows([["" if value is None else value for value in row] for row in table.rows])
    return text.getvalue().encode()
