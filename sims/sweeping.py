"""Running a sweep into a folder, and going on where it was stopped.

sweep.toml     the sweep as it was asked for
scenario/      if that is of a scenario's file: this file
points.jsonl   one line for each finished run, in the order in which they finished: key, seed, repeat, parameters, metrics, tables
results.json   all runs in the sweep's own order, once there is nothing left to run: the same bytes however they were run
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from bisection.errors import UnavailableError, UsageError
from sims.documents import write_file
from sims.parameters import parameters_of, values_of
from sims.result import Column, Outcome, Table, canonical, versions
from sims.sweep import Job, Sweep
from sims.workers import Failure, Workers

__all__ = ["POINTS", "RESULTS", "SWEEP", "Failed", "Told", "Untold", "run_sweep"]

SWEEP, POINTS, RESULTS = "sweep.toml", "points.jsonl", "results.json"


@dataclass(frozen=True)
class Failed:
    """A run that ended without an outcome."""

    job: Job
    reason: str


class Told(Protocol):
    """Who is told how a sweep gets on."""

    def begin(self, total: int, kept: int) -> None:
        """There are so many runs, of which so many were finished before."""

    def finished(self, job: Job, failure: Failure | None) -> None:
        """One more has ended."""


class Untold:
    """Nobody is told."""

    def begin(self, total: int, kept: int) -> None:
        """See Told."""

    def finished(self, job: Job, failure: Failure | None) -> None:
        """See Told."""


def run_sweep(sweep: Sweep, folder: Path, workers: Workers, told: Told) -> tuple[Failed, ...]:
    """Do what is not yet done of a sweep, and put its results together. Returns what failed; a later call tries that again.

    Raises UsageError if another process works in the folder or, as soon as an outcome is there, if a figure asks for what there is
    not, and UnavailableError if the folder cannot be written to.
    """
    jobs = list(sweep.jobs())
    with _points(folder) as file:
        known = _finished(file)
        wanted = {job.key for job in jobs}
        lines = {key: line for key, line in known.items() if key in wanted}
        if lines:
            sweep.check_figures(_outcome(next(iter(lines.values()))))
        _remove(folder / RESULTS)
        write_file(folder / SWEEP, sweep.text.encode())
        for name, text in sweep.files.items():
            write_file(folder / name, text.encode())
        told.begin(len(jobs), sum(job.key in lines for job in jobs))
        missing = {job.key: job for job in jobs if job.key not in lines}  # two samples may have drawn the same
        failures: dict[str, Failure] = {}
        for job, found in workers(sweep.scenario.kind, missing.values()):
            if isinstance(found, Failure):
                failures[job.key] = found
            else:
                lines[job.key] = _line(job, found)
                _append(file, lines[job.key])
                if len(lines) == 1:
                    sweep.check_figures(found)
            told.finished(job, found if isinstance(found, Failure) else None)
        write_file(folder / RESULTS, _results(sweep, jobs, lines, failures))
    return tuple(Failed(job, failures[job.key].reason) for job in jobs if job.key in failures)


@contextmanager
def _points(folder: Path) -> Iterator[IO[bytes]]:
    """The file of finished runs, which no other process writes to meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / POINTS).open("a+b", buffering=0)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{folder} is no folder; name another with --out") from None
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be written to: {error.strerror}; name another folder with --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder} is in use by another process: wait for it, or name another folder") from None
        except OSError as error:
            raise UnavailableError(f"{folder} cannot be locked: {error.strerror}; name another folder with --out") from None
        yield file


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"{file} cannot be removed: {error.strerror}; name another folder with --out") from None


def _finished(file: IO[bytes]) -> dict[str, bytes]:
    """The finished runs' lines by key. What a crash left of a last line is cut off; lines that are none are passed over."""
    file.seek(0)
    data = file.read()
    whole = data.rfind(b"\n") + 1
    file.truncate(whole)
    found = {}
    for line in data[:whole].splitlines():
        try:
            document = json.loads(line)
            if isinstance(document["metrics"], dict) and isinstance(document["tables"], dict):
                found[document["key"]] = line
        except (ValueError, TypeError, KeyError):
            continue
    return found


def _line(job: Job, outcome: Outcome) -> bytes:
    run = {"key": job.key, "seed": job.seed, "repeat": job.repeat, "parameters": values_of(job.parameters)}
    return canonical(run | asdict(outcome))


def _outcome(line: bytes) -> Outcome:
    """What a finished run found, of its line."""
    run = json.loads(line)
    tables = {
        name: Table(tuple(Column(**column) for column in table["columns"]), tuple(map(tuple, table["rows"])))
        for name, table in run["tables"].items()
    }
    return Outcome(run["metrics"], tables)


def _append(file: IO[bytes], line: bytes) -> None:
    rest = memoryview(line + b"\n")
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise UnavailableError(f"a finished run cannot be kept: {error.strerror}; start again to go on from here") from None


def _results(sweep: Sweep, jobs: list[Job], lines: dict[str, bytes], failures: dict[str, Failure]) -> bytes:
    """All runs in order, one to a line, after what they have in common."""
    scenario = sweep.scenario
    head: dict[str, Any] = {
        "about": {
            name: {"help": parameter.help, "unit": parameter.unit}
            for name, parameter in parameters_of(scenario.kind.parameters).items()
        },
        "attack": scenario.attack,
        "failed": [
            {"error": failures[job.key].reason, "parameters": values_of(job.parameters), "repeat": job.repeat, "seed": job.seed}
            for job in jobs
            if job.key in failures
        ],
        "figures": sweep.figures,
        "kind": scenario.kind.name,
        "parameters": values_of(scenario.parameters),
        "repeats": sweep.repeats,
        "scenario": scenario.name,
        "seed": sweep.seed,
        "title": sweep.title,
        "vary": [axis.parameter.name for axis in sweep.axes],
        "versions": versions(),
    }
    points = b",\n".join(lines[job.key] for job in jobs if job.key in lines)
    return canonical(head)[:-1] + b',"points":[\n' + points + b"\n]}\n"
