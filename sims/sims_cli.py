"""``refstep sims …``: simulated disputes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as Grid
from rich.text import Text

from bisection.errors import RefstepError, UsageError
from sims.kinds import kinds
from sims.parameters import parameters_of, values_of, written
from sims.quantities import Unit, quantity
from sims.quantities import written as spoken
from sims.result import Result, Table, Value
from sims.scenario import LARGEST_SEED, Scenario, names
from sims.sweep import Job, Sweep, sweep_names
from sims.sweeping import RESULTS, Untold, run_sweep
from sims.workers import Failure, Workers, in_processes, in_this_process, on_ray, processors

__all__ = ["add_commands"]

MOST_ROWS = 40  # of a table on a terminal; --json has them all
MOST_TOLD = 5  # failures that are told one by one
ENDS = ("_low", "_high")  # of a confidence interval, behind the metric's name


# Commands ---------------------------------------------------------------------------------------------------------------


def _list(arguments: Namespace) -> None:
    console = Console()
    _print_rows(console, ("kind", "simulates"), [(kind.name, kind.summary) for kind in kinds().values()])
    scenarios = sorted(map(Scenario.named, names()), key=lambda one: (one.attack is None, one.attack or 0, one.name))
    rows = [(one.name, "" if one.attack is None else str(one.attack), one.kind.level, one.title) for one in scenarios]
    _print_rows(console, ("scenario", "attack", "level", "asks"), rows)
    sweeps = [Sweep.named(name) for name in sweep_names()]
    _print_rows(
        console, ("sweep", "runs", "of", "asks"), [(one.name, str(one.size), one.scenario.name, one.title) for one in sweeps]
    )


def _show(arguments: Namespace) -> None:
    scenario = Scenario.found(arguments.name)
    if arguments.toml:
        print(scenario.to_toml(), end="")
        return
    console = Console()
    attack = "" if scenario.attack is None else f", attack {scenario.attack} of docs/attacks.md"
    _print(console, Text(scenario.title, style="bold"))
    _print(console, Text(f"{scenario.kind.name}{attack}: {scenario.kind.summary}\n", style="dim"))
    values = values_of(scenario.parameters)
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    for heading in ("parameter", "value", "", "meaning"):
        grid.add_column(heading, no_wrap=heading != "meaning")
    for name, one in parameters_of(scenario.kind.parameters).items():
        changed = values[name] != one.default
        default = f" (default: {written(one.default)})" if changed else ""
        grid.add_row(
            Text(name), Text(written(values[name]), style="bold" if changed else ""), Text(one.unit), Text(one.help + default)
        )
    console.print(grid)


def _run(arguments: Namespace) -> None:
    scenario = Scenario.found(arguments.name).set(arguments.set)
    seed = scenario.seed if arguments.seed is None else arguments.seed
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"--seed {seed}; expected a whole number from 0 to {LARGEST_SEED}")
    errors = Console(stderr=True)
    if errors.is_terminal:
        with errors.status(f"{scenario.name}, seed {seed}"):
            result = scenario.run(seed)
    else:
        result = scenario.run(seed)
    if arguments.json:
        sys.stdout.write(result.to_bytes().decode())
    else:
        _print_result(Console(), scenario, result)


def _sweep(arguments: Namespace) -> None:
    sweep = Sweep.found(arguments.name)
    folder = arguments.out or Path("sweeps") / sweep.name
    count = processors() if arguments.workers is None else arguments.workers
    if count < 1:
        raise UsageError(f"--workers {count}; expected a whole number, 1 or more")
    workers: Workers = on_ray() if arguments.ray else in_this_process if count == 1 else in_processes(count)
    with _progress(sweep) as told:
        failed = run_sweep(sweep, folder, workers, told)
    for one in failed[:MOST_TOLD]:
        print(f"failed: {one.reason}\n  again: {_again(sweep, one.job)}", file=sys.stderr)
    if failed:
        raise RefstepError(
            f"{len(failed)} of {sweep.size} runs failed; {folder / RESULTS} has the others, the same command tries again"
        )
    print(f"{folder / RESULTS}: {sweep.size} run{'s' if sweep.size > 1 else ''}; refstep sims report {folder} draws them")


def _report(arguments: Namespace) -> None:
    print(import_module("sims.report").write_report(arguments.folder))


def add_commands(commands: Any) -> None:
    """Add ``sims`` to the command line."""
    says = "simulate disputes and their economics: one scenario, or many with other parameters"
    group = commands.add_parser("sims", help=says, description=says).add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, start: Callable[[Namespace], None], help_text: str) -> ArgumentParser:
        parser: ArgumentParser = group.add_parser(name, help=help_text, description=help_text)
        parser.set_defaults(start=start)
        return parser

    command("list", _list, "the scenarios, kinds and sweeps that there are")
    shown = command("show", _show, "a scenario and its parameters")
    shown.add_argument("name", metavar="NAME", help="a scenario, a kind, or a TOML file")
    shown.add_argument("--toml", action="store_true", help="print it as a file to change, with what each parameter means")
    run = command("run", _run, "simulate a scenario once")
    run.add_argument("name", metavar="NAME_OR_FILE", help="a scenario, a kind, or a TOML file")
    run.add_argument("--seed", type=int, help="default: the scenario's")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a parameter; may be given again")
    run.add_argument("--json", action="store_true", help="print one JSON object: the same bytes for the same seed")
    sweep = command("sweep", _sweep, "simulate a scenario with many parameters, going on where an earlier call stopped")
    sweep.add_argument("name", metavar="NAME_OR_FILE", help="a sweep, or a TOML file")
    sweep.add_argument("--out", type=Path, metavar="DIR", help="where its results are kept (default: sweeps/NAME)")
    sweep.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each processor)")
    sweep.add_argument("--ray", action="store_true", help="run on the Ray cluster of RAY_ADDRESS, or on a local one")
    report = command("report", _report, "draw a sweep's figures: one HTML page, and PNG and CSV beside it")
    report.add_argument("folder", type=Path, metavar="DIR", help="where the sweep's results are")


# On a terminal ----------------------------------------------------------------------------------------------------------


class _Bar:
    """A sweep's progress on a terminal."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task, self._failed = bar, task, 0

    def begin(self, total: int, kept: int) -> None:
        """See Told."""
        self._bar.update(self._task, total=total, completed=kept)

    def finished(self, job: Job, failure: Failure | None) -> None:
        """See Told."""
        self._failed += failure is not None
        self._bar.update(self._task, advance=1, failed=f"[red]{self._failed} failed[/]" if self._failed else "")


@contextmanager
def _progress(sweep: Sweep) -> Iterator[_Bar | Untold]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Untold()
        return
    columns = (TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TextColumn("runs {task.fields[failed]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        yield _Bar(bar, bar.add_task(sweep.name, total=None, failed=""))


def _again(sweep: Sweep, job: Job) -> str:
    """The command that runs one run of a sweep alone."""
    base = values_of(sweep.scenario.kind.parameters())
    changed = {name: value for name, value in values_of(job.parameters).items() if value != base[name]}
    settings = "".join(f" --set '{name}={written(value)}'" for name, value in changed.items())
    return f"refstep sims run {sweep.scenario.kind.name} --seed {job.seed}{settings}"


def _print_result(console: Console, scenario: Scenario, result: Result) -> None:
    _print(console, Text(scenario.title, style="bold"))
    _print(console, Text(f"{result.kind}, seed {result.seed}\n", style="dim"))
    grid = Grid(box=None, pad_edge=False, show_header=False)
    for justify in ("left", "right", "left", "left"):
        grid.add_column(justify=justify, no_wrap=True)
    for name, value in result.metrics.items():
        if not _is_end(name, result.metrics):
            grid.add_row(*_metric(name, [value, *(result.metrics.get(f"{name}{end}") for end in ENDS)]))
    console.print(grid)
    for name, table in result.tables.items():
        _print_table(console, name, table)


def _is_end(name: str, metrics: Mapping[str, Value]) -> bool:
    """Whether it is an end of another metric's confidence interval."""
    return any(name.endswith(end) and name.removesuffix(end) in metrics for end in ENDS)


def _metric(name: str, values: Sequence[Value]) -> tuple[Text, ...]:
    """What a metric is called, its value, unit, and confidence interval if it has one: ``values`` are value, low and high."""
    meant = quantity(name)
    unit = meant.drawn_in(_numbers(values))
    value, low, high = (_cell(one, unit) for one in values)
    interval = Text() if values[1] is None or values[2] is None else Text(f"{low} … {high}", style="dim")
    return Text(meant.label), value, Text("" if values[0] is None else unit.name, style="dim"), interval


def _print_table(console: Console, name: str, table: Table) -> None:
    rows = table.rows[:MOST_ROWS]
    more = f", the first {len(rows)} of {len(table.rows)} rows" if len(table.rows) > len(rows) else ""
    console.print(Text(f"\n{name.replace('_', ' ')}{more}", style="bold"))
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    cells: list[list[Text]] = []
    for index, column in enumerate(table.columns):
        meant, values = quantity(column.name, column.unit), [row[index] for row in rows]
        unit = meant.drawn_in(_numbers(values))
        grid.add_column(Text(f"{meant.label}\n{unit.name}"), justify="left" if any(isinstance(v, str) for v in values) else "right")
        cells.append([_cell(value, unit) for value in values])
    for row in zip(*cells, strict=True):
        grid.add_row(*row)
    console.print(grid)


def _numbers(values: Sequence[Value]) -> list[float]:
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _cell(value: Value, unit: Unit) -> Text:
    """A value for a reader, in this unit."""
    if isinstance(value, bool):
        return Text("yes" if value else "no", style="green" if value else "red")
    if isinstance(value, int | float) and unit.divisor != 1:
        value /= unit.divisor
    return Text(spoken(value))


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)


def _print_rows(console: Console, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    for index, heading in enumerate(headings):
        grid.add_column(heading, no_wrap=index == 0, ratio=1 if index == len(headings) - 1 else None)
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)
    console.print()
