"""Runs tests on mutants, each in a fork of one process that has imported and collected them all.

A fork compiles the mutated source in a folder of its own through contracts.build, so that the tests see it as they see any contract
and the repository stays as it is. It ends at the first failure.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import Phase, settings
from vyper.exceptions import VyperException
from vyper.ir import optimizer

from benchmarks._mutants import Mutant
from contracts import build

__all__ = ["Outcome", "Suite", "run"]

BYTECODE_METADATA_LENGTH = 2  # the last bytes of a deployment's code say how long the metadata is, they themselves apart


@dataclass(frozen=True)
class Suite:
    """The test files that can tell a mutant of ``file`` from the original, fastest first. ``units`` of them use mocks only; the
    deployable ``contracts`` and the ``mocks`` are those that hold code of the file."""

    file: str
    tests: tuple[str, ...]
    units: frozenset[str]
    contracts: tuple[str, ...]
    mocks: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """``status``: killed, timeout, survived, equivalent (the same bytecode), stillborn (it does not compile) or broken
    (the fork itself failed). ``by``: the test that failed, or what the compiler or Python complained of.
    ``seconds`` passed, of which a core computed for ``processor``."""

    status: str
    by: str
    seconds: float
    processor: float


class Ended(Exception):
    """The fork knows its outcome."""


@dataclass
class Run:
    """A fork at work."""

    mutant: Mutant | None
    process: int
    output: int
    slot: Path
    started: float


class Forks:
    """The plugin that takes the place of pytest's own loop over the tests."""

    def __init__(
        self, work: Iterable[tuple[Mutant | None, Suite]], jobs: int, limit: float, done: Callable[[Mutant | None, Outcome], None]
    ) -> None:
        self._work, self._jobs, self._limit, self._done = iter(work), jobs, limit, done
        self._originals: dict[str, dict[str, str]] = {}
        self._failed = ""
        self._kills: dict[str, Counter[str]] = defaultdict(Counter)  # what killed one mutant of a file is tried first on the next

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """The same examples for every mutant; no time spent on making a failing one small."""
        settings.register_profile(
            "mutation", deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
        )
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Fork for every mutant, as many at a time as there are jobs."""
        optimizer._optimize = _remembering(optimizer._optimize)
        gc.freeze()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no fork outlives this process
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            slots = [Path(folder) / str(i) for i in range(self._jobs)]
            for slot in slots:
                shutil.copytree(build.ROOT, slot, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
            running: list[Run] = []
            try:
                while True:
                    while slots and (task := next(self._work, None)):
                        running.append(self._start(session, slots.pop(), *task))
                    if not running:
                        return True
                    for ended in self._wait(running):
                        running.remove(ended)
                        slots.append(ended.slot)
            finally:
                for run in running:
                    os.kill(run.process, signal.SIGKILL)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """In a fork: remember the failure that ends it."""
        if report.failed:
            self._failed = report.nodeid

    def _start(self, session: pytest.Session, slot: Path, mutant: Mutant | None, suite: Suite) -> Run:
        for name in (*suite.contracts, *suite.mocks):
            if name not in self._originals:
                self._originals[name] = build._compile(build._source(name))
        if mutant:
            (slot / mutant.file).write_text(mutant.apply((build.ROOT / mutant.file).read_text()))
        output, inlet = os.pipe()
        process = os.fork()
        if process == 0:
            self._child(session, slot, mutant, suite, inlet)
        os.close(inlet)
        return Run(mutant, process, output, slot, monotonic())

    def _wait(self, running: Sequence[Run]) -> Iterator[Run]:
        """Those that have ended, or have taken too long."""
        ready = select.select([run.output for run in running], [], [], 1)[0]
        for run in list(running):
            seconds = monotonic() - run.started
            if run.output not in ready and seconds < self._limit:
                continue
            late = run.output not in ready
            if late:
                os.kill(run.process, signal.SIGKILL)
            with os.fdopen(run.output, "rb") as pipe:
                said = pipe.read()
            usage = os.wait4(run.process, 0)[2]
            status, by = ("timeout", "") if late else json.loads(said or '["broken", "the process ended"]')
            if run.mutant:
                shutil.copy(build.ROOT / run.mutant.file, run.slot / run.mutant.file)
                if status == "killed":
                    self._kills[run.mutant.file][by] += 1
            self._done(run.mutant, Outcome(status, by, round(seconds, 2), round(usage.ru_utime + usage.ru_stime, 2)))
            yield run

    def _child(self, session: pytest.Session, slot: Path, mutant: Mutant | None, suite: Suite, inlet: int) -> None:
        """Everything that a fork does; it never returns."""
        status, by = "broken", ""
        try:
            gc.disable()
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            compiled = Compiled(slot, suite, self._originals)
            compiled.take_over()
            try:
                self._tests(session, mutant, suite, compiled)
                status = "survived"
            except Ended as ended:
                status, by = ended.args
        except BaseException as error:
            by = repr(error)[:300]
        finally:
            with os.fdopen(inlet, "w") as pipe:
                pipe.write(json.dumps([status, by]))
            os._exit(0)

    def _tests(self, session: pytest.Session, mutant: Mutant | None, suite: Suite, compiled: Compiled) -> None:
        """Run them, the units first, then what kills most. Raises Ended where they need not all be run."""
        rank = {file: i for i, file in enumerate(suite.tests)}
        kills = self._kills[suite.file]
        items = sorted(
            (item for item in session.items if _file(item) in rank),
            key=lambda item: (_file(item) not in suite.units, -kills[item.nodeid], rank[_file(item)]),
        )
        compared = mutant is None
        for i, item in enumerate(items):
            if not compared and _file(item) not in suite.units:
                compiled.compare()
                compared = True
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=items[i + 1] if i + 1 < len(items) else None)
            if self._failed and not compiled.complaint:
                # Some tests follow the wall clock, which a busy machine stretches: a failure counts when it comes again.
                self._failed = ""
                item._initrequest()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if compiled.complaint:
                raise Ended("stillborn", compiled.complaint)
            if self._failed:
                raise Ended("killed", self._failed)


class Compiled:
    """What stands in the place of contracts.build's cache in a fork."""

    def __init__(self, slot: Path, suite: Suite, originals: dict[str, dict[str, str]]) -> None:
        self._suite, self._originals, self._compile = suite, originals, build._compile
        self._mutated: dict[str, dict[str, str]] = {}
        self._slot = slot
        self.complaint = ""

    def take_over(self) -> None:
        """Have ``contracts.build`` compile the mutated sources, and those contracts alone that hold the mutated file."""
        affected = {*self._suite.contracts, *self._suite.mocks}
        load, original_root = build._load, build.ROOT

        def source(name: str) -> Path:
            for folder in (self._slot, self._slot / "mocks") if name in affected else (original_root, original_root / "mocks"):
                if (folder / f"{name}.vy").is_file():
                    return folder / f"{name}.vy"
            raise AssertionError(f"no contract {name}")

        def compiled(path: Path) -> dict[str, str]:
            return self.of(path.stem)

        build._source = source
        build._load = lambda entry: None if entry.name.rpartition("-")[0] in affected else load(entry)
        build._save = lambda entry, stored: None
        build._compile = compiled
        build.artifact.cache_clear()

    def of(self, name: str) -> dict[str, str]:
        """The compiled contract. Where it does not compile, ``complaint`` says why and the test fails."""
        if name not in self._mutated:
            build.ROOT, original = self._slot, build.ROOT
            try:
                self._mutated[name] = self._compile(build._source(name))
            except VyperException as error:
                self.complaint = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                raise
            finally:
                build.ROOT = original
        return self._mutated[name]

    def compare(self) -> None:
        """Raises Ended when no deployable contract differs from the original, or one does not compile."""
        try:
            same = [_code(self.of(name)) == _code(self._originals[name]) for name in self._suite.contracts]
        except VyperException:
            raise Ended("stillborn", self.complaint) from None
        if all(same):
            raise Ended("equivalent", "")


def _code(stored: dict[str, str]) -> str:
    """What a deployment sends, without the metadata at its end, which hold the source's digest."""
    length = int(stored["bytecode"][-2 * BYTECODE_METADATA_LENGTH :], 16)
    return stored["bytecode"][: -2 * length]


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _remembering(optimize: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The compiler's optimiser, which is asked about the same subtrees again and again, with a memory: compiling takes a third
    of the time. Of the parent it looks at the value only."""

    def remembered(node: Any, parent: Any) -> Any:
        key = None if parent is None else parent.value
        memory = node.__dict__.setdefault("_remembered", {})
        if key not in memory:
            memory[key] = optimize(node, parent)
        return memory[key]

    return remembered


def run(
    files: Sequence[str],
    work: Iterable[tuple[Mutant | None, Suite]],
    jobs: int,
    limit: float,
    done: Callable[[Mutant | None, Outcome], None],
    deselected: Sequence[str] = (),
) -> None:
    """Collect the tests in ``files`` without the ``deselected``, run each mutant's suite, and say ``done`` of each.

    A mutant None stands for the sources as they are. ``limit``: the seconds after which one counts as a timeout.
    """
    aside = [f"--deselect={test}" for test in deselected]
    arguments = ["-q", "-s", "-p", "no:cacheprovider", "-m", "not deep", *aside, *files]
    pytest.main(arguments, plugins=[Forks(work, jobs, limit, done)])
