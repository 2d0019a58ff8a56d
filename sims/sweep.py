"""A sweep: a scenario over a grid of parameters, or over random ones, each with several seeds. sims/sweeping.py runs it.

title = "Stake against audit rate"
scenario = "fraud"             # or a file beside this one, or kind = ...; [parameters] are changed before anything is varied
mode = "grid"                  # or "random", with samples = 1000
repeats = 3                    # seeds for each point
seed = 0
[vary]
audit_rate = [0.01, 0.1, 0.5]
stake = {from = 0.1, to = 10.0, points = 20, scale = "log"}     # mode "random" draws from the range
[[figure]]                     # see sims/plots.py
name = "profit"
x = "stake"
y = "attacker_profit"
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bisection.errors import UsageError
from sims.documents import Document, Where
from sims.kinds import nearest
from sims.parameters import BadParameter, Parameter, build, parameters_of, values_of, written
from sims.plots import Plot
from sims.result import Outcome, canonical, versions
from sims.scenario import LISTED, Scenario, add_parameters, is_file, kind_at, seed_at

__all__ = ["Axis", "Job", "Sweep", "sweep_names"]

FOLDER = Path(__file__).parent / "sweeps"
KEYS = ("title", "scenario", "kind", "parameters", "mode", "samples", "repeats", "seed", "vary", "figure")
SCENARIOS = "scenario"  # the folder beside a finished sweep's file
RANGE = ("from", "to", "points", "scale")
MOST_JOBS = 1_000_000
DIGITS = 12  # of a value computed from a range: few enough to be the same on every machine


@dataclass(frozen=True)
class Axis:
    """A parameter that is varied: over ``values``, or, in random mode, between ``ends`` where they are given."""

    parameter: Parameter
    values: tuple[Any, ...]
    ends: tuple[float, float] | None = None
    log: bool = False

    def at(self, fraction: float) -> Any:
        """The value at a place from 0 to 1, of which each part of the values has its share."""
        if self.ends is None:
            return self.values[min(int(fraction * len(self.values)), len(self.values) - 1)]
        return _between(self.parameter, *self.ends, fraction, self.log)


@dataclass(frozen=True)
class Job:
    """One run: a point with one of its seeds. ``key`` names kind, parameters, seed and versions: equal keys have equal results."""

    key: str
    parameters: Any
    seed: int
    repeat: int


@dataclass(frozen=True)
class Sweep:
    """Many runs of one kind. ``scenario`` is what is varied; ``figures`` are the ``[[figure]]`` tables as they were found.

    ``text`` is that of the file at ``path``. If it names a scenario's file, ``files`` has that file's text by its path from the
    folder that ``text`` is meant to be written into.
    """

    name: str
    title: str
    scenario: Scenario
    axes: tuple[Axis, ...]
    samples: int | None = None
    repeats: int = 1
    seed: int = 0
    figures: tuple[Mapping[str, Any], ...] = ()
    text: str = ""
    path: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Sweep:
        """The sweep in a file. Raises UsageError: ``FILE:LINE: what was found; what was expected``."""
        document = Document.load(path)
        if "attack" in document.table:
            document.refuse(("attack",), "a scenario; expected a sweep, or refstep sims run to run it")
        document.only(KEYS)
        scenario = _base(document, path)
        random = _choice(document, ("mode",), ("grid", "random")) == "random"
        samples = document.get(("samples",), int)
        if random:
            samples = document.need(("samples",), int)
        elif samples is not None:
            document.refuse(("samples",), 'samples without mode = "random"; expected none')
        repeats = document.get(("repeats",), int, 1)
        for key, count in (("samples", samples), ("repeats", repeats)):
            if count is not None and count < 1:
                document.refuse((key,), f"{key} = {count}; expected a whole number, 1 or more")
        figures = _figures(document)
        title = document.need(("title",), str)
        axes = _axes(document, scenario, random)
        text, files = _complete(document, path)
        seed = seed_at(document)
        sweep = cls(path.stem, title, scenario, axes, samples, repeats, seed, figures, text, str(path), files)
        if sweep.size > MOST_JOBS:
            document.refuse(("vary",), f"{sweep.size:,} runs; expected at most {MOST_JOBS:,}")
        try:
            sweep.check()
        except BadParameter as error:
            document.refuse(("vary",), str(error))
        return sweep

    @classmethod
    def named(cls, name: str) -> Sweep:
        """The sweep that Refstep ships under this name. Raises UsageError."""
        if name not in sweep_names():
            raise UsageError(f"there is no sweep {name!r}{nearest(name, sweep_names(), LISTED)}")
        return cls.load(FOLDER / f"{name}.toml")

    @classmethod
    def found(cls, name_or_file: str) -> Sweep:
        """The sweep in a file if that is what is named, else the one of this name. Raises UsageError."""
        return cls.load(Path(name_or_file)) if is_file(name_or_file) else cls.named(name_or_file)

    @property
    def size(self) -> int:
        """How many runs it has."""
        points = math.prod(len(axis.values) for axis in self.axes) if self.samples is None else self.samples
        return points * self.repeats

    def check(self) -> None:
        """Raise BadParameter if the parameters of a point do not fit each other."""
        for point in self._points():
            try:
                build(self.scenario.kind.parameters, point.parameters)
            except BadParameter as error:
                raise BadParameter("", f"at {written(point.varied)}: {error}") from None

    def check_figures(self, outcome: Outcome) -> None:
        """Raise UsageError if a figure needs what neither the parameters nor this outcome of a run have."""
        document = Document.parse(self.text, self.path)
        for index, plot in enumerate(map(Plot.of, self.figures)):
            columns = {column.name for column in outcome.tables[plot.table].columns} if plot.table in outcome.tables else set()
            known = {"seed", *values_of(self.scenario.parameters), *outcome.metrics, *columns}
            where = ("figure", index)
            if plot.table and not columns:
                document.refuse(where, f"figure {plot.name}: no table {plot.table!r}{nearest(plot.table, outcome.tables)}")
            for name in plot.names():
                if name not in known:
                    document.refuse(where, f"figure {plot.name}: no parameter or metric {name!r}{nearest(name, known)}")

    def jobs(self) -> Iterator[Job]:
        """All its runs, in the order of its results. A run's seed depends on the point alone, not on what else is swept."""
        base, kind = values_of(self.scenario.parameters), self.scenario.kind
        for point in self._points():
            values = base | point.varied
            parameters = build(kind.parameters, values)
            for repeat in range(self.repeats):
                seed = _number(self.seed, kind.name, point.label, repeat) >> 11
                key = sha256(canonical([versions(), kind.name, values, seed])).hexdigest()[:32]
                yield Job(key, parameters, seed, repeat)

    def _points(self) -> Iterator[_Point]:
        base, names = values_of(self.scenario.parameters), [axis.parameter.name for axis in self.axes]
        if self.samples is None:
            for values in product(*(axis.values for axis in self.axes)):
                varied = dict(zip(names, values, strict=True))
                yield _Point(varied, base | varied, base | varied)
        else:
            for index in range(self.samples):
                varied = {axis.parameter.name: axis.at(_fraction(self.seed, axis.parameter.name, index)) for axis in self.axes}
                yield _Point(varied, base | varied, index)


@dataclass(frozen=True)
class _Point:
    """Values of the axes, of all parameters, and what the point's seeds are derived from."""

    varied: dict[str, Any]
    parameters: dict[str, Any]
    label: Any


def sweep_names() -> tuple[str, ...]:
    """The sweeps that Refstep ships, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def _number(*about: Any) -> int:
    """A number of 64 bits that nothing but ``about`` determines."""
    return int.from_bytes(sha256(canonical(about)).digest()[:8])


def _fraction(seed: int, name: str, index: int) -> float:
    """A place from 0 to 1 on an axis, drawn anew for each axis and sample."""
    return float(np.random.Generator(np.random.PCG64(np.random.SeedSequence(_number(seed, name, index)))).random())


# Reading ----------------------------------------------------------------------------------------------------------------


def _choice(document: Document, where: Where, choices: tuple[str, ...]) -> str:
    found: str = document.get(where, str, choices[0])
    if found not in choices:
        document.refuse(where, f"{where[-1]} = {written(found)}; expected one of {', '.join(map(written, choices))}")
    return found


def _base(document: Document, path: Path) -> Scenario:
    """The scenario that is varied, with the document's own parameters."""
    name = document.get(("scenario",), str)
    if name is None:
        if "kind" not in document.table:
            document.refuse((), "neither scenario nor kind is there; expected one of them")
        kind = kind_at(document)
        return Scenario(kind.name, kind, kind.summary, add_parameters(document, kind))
    if "kind" in document.table:
        document.refuse(("kind",), "kind beside scenario; expected one of them")
    try:
        scenario = Scenario.load(path.parent / name) if is_file(name) else Scenario.named(name)
    except UsageError as error:
        document.refuse(("scenario",), str(error))
    parameters = add_parameters(document, scenario.kind, scenario.parameters)
    return Scenario(scenario.name, scenario.kind, scenario.title, parameters, scenario.seed, scenario.attack)


def _complete(document: Document, path: Path) -> tuple[str, dict[str, str]]:
    """The document's text, and the scenario's file if it names one, such that both can stand in another folder."""
    name = document.get(("scenario",), str, "")
    if not is_file(name):
        return document.text, {}
    file = path.parent / name
    beside = f"{SCENARIOS}/{file.name}"
    lines = document.text.split("\n")
    if name != beside:
        lines[document.line(("scenario",)) - 1] = f"scenario = {written(beside)}"
    return "\n".join(lines), {beside: Document.load(file).text}


def _axes(document: Document, scenario: Scenario, random: bool) -> tuple[Axis, ...]:
    known = parameters_of(scenario.kind.parameters)
    axes = []
    for name, found in document.get(("vary",), dict, {}).items():
        where: Where = ("vary", name)
        if name not in known:
            document.refuse(where, f"unknown parameter {name!r}{nearest(name, known)}")
        try:
            axes.append(_range(document, where, known[name], random) if isinstance(found, dict) else _list(known[name], found))
        except BadParameter as error:
            document.refuse(where, str(error))
    return tuple(axes)


def _list(parameter: Parameter, found: Any) -> Axis:
    if not isinstance(found, list) or not found:
        raise BadParameter(
            parameter.name, f"{parameter.name} = {written(found)}; expected a list of values or {{from, to, points, scale}}"
        )
    values = tuple(parameter.read(one) for one in found)
    twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if twice is not None:
        raise BadParameter(parameter.name, f"{parameter.name} has the value {written(twice)} twice; expected different ones")
    return Axis(parameter, values)


def _range(document: Document, where: Where, parameter: Parameter, random: bool) -> Axis:
    document.only(RANGE, where)
    if parameter.type not in (int, float) or parameter.many:
        raise BadParameter(
            parameter.name, f"a range for {parameter.name}, which is {parameter.expected}; expected a list of values"
        )
    for end in ("from", "to"):
        if document.at((*where, end)) is None:
            document.refuse(where, f"{parameter.name} has no {end!r}; expected from, to and points")
    low, high = (parameter.read(document.at((*where, end))) for end in ("from", "to"))
    log = _choice(document, (*where, "scale"), ("linear", "log")) == "log"
    if not low < high or (log and low <= 0):
        sign = "0 < from < to on a logarithmic scale" if log else "from < to"
        raise BadParameter(parameter.name, f"{parameter.name} runs from {written(low)} to {written(high)}; expected {sign}")
    if random:
        return Axis(parameter, (), (low, high), log)
    points = document.need((*where, "points"), int)
    if not 2 <= points <= MOST_JOBS:
        document.refuse((*where, "points"), f"points = {points}; expected a whole number from 2 to {MOST_JOBS}")
    values = [_between(parameter, low, high, index / (points - 1), log) for index in range(points)]
    return Axis(parameter, tuple(dict.fromkeys(values)))


def _between(parameter: Parameter, low: float, high: float, fraction: float, log: bool) -> Any:
    if fraction in (0, 1):
        return high if fraction else low
    value = low * (high / low) ** fraction if log else low + (high - low) * fraction
    if parameter.type is int:
        return round(value)
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def _figures(document: Document) -> tuple[Mapping[str, Any], ...]:
    figures = document.get(("figure",), list, [])
    for index, figure in enumerate(figures):
        where: Where = ("figure", index)
        if not isinstance(figure, dict):
            document.refuse(where, "figure is no table; expected [[figure]]")
        name = document.need((*where, "name"), str)
        if name in [other["name"] for other in figures[:index]]:
            document.refuse((*where, "name"), f"name = {written(name)} for a second figure; expected another")
        try:
            Plot.of(figure)
        except UsageError as error:
            document.refuse(where, str(error))
    return tuple(figures)
