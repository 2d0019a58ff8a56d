"""Recording without torch: the reference as an executor, and processes that record until they are killed or kill themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from bisection import reference
from bisection.boundary import Array, metrics_of, next_state
from bisection.program import Program
from tests.support.programs import counting_program
from trainer import commit, files, store
from trainer.recorder import Recorder


class ReferenceExecutor:
    """trainer.recorder.TakesTamper over bisection.reference. ``steps`` counts how many steps were run or traced."""

    def __init__(self, program: Program, data: Mapping[str, Array]) -> None:
        self.program, self.data, self.steps = program, data, 0

    def trace(self, state: Mapping[str, Array], tamper: reference.Tamper | None = None) -> list[Array]:
        self.steps += 1
        return reference.trace(self.program, state, self.data, tamper)

    def step(self, state: Mapping[str, Array], tamper: reference.Tamper | None = None) -> tuple[dict[str, Array], dict[str, float]]:
        tensors = self.trace(state, tamper)
        return next_state(self.program, tensors), metrics_of(self.program, tensors)


def record(folder: Path, until: int, checkpoint_every: int, **options: Any) -> None:
    """Record the counting program up to step ``until``: the target of processes that are killed on the way."""
    program, state, data = counting_program()
    executor = ReferenceExecutor(program, data)
    with Recorder(folder, program, state, data, executor, checkpoint_every=checkpoint_every, **options) as recorder:
        recorder.run(until)


def record_until_event(folder: Path, until: int, checkpoint_every: int, keep_checkpoints: int, last: int) -> None:
    """As ``record``, but the process kills itself at the ``last`` of all its moments that could matter.

    These are just before and after the hashing of tensors and of files, before every part of a file that is written, and before
    every other call that changes a file.
    """
    events = count(1)

    def event() -> None:
        if next(events) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(owner: Any, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            event()
            result = call(*arguments, **options)
            event()
            return result

        setattr(owner, name, watched)

    def parts(given: Sequence[Any]) -> Iterator[Any]:
        for part in given:
            event()
            yield part

    write_file = files.write_file
    files.write_file = store.write_file = lambda path, given: write_file(path, parts(given))  # type: ignore[assignment, arg-type]
    for owner, name in [
        (commit, "roots_of"),
        (store, "root_of"),
        (os, "pwrite"),
        (os, "fsync"),
        (os, "ftruncate"),
        (Path, "replace"),
        (Path, "unlink"),
        (LocalFileSystem, "rm_file"),
    ]:
        watch(owner, name)
    record(folder, until, checkpoint_every, keep_checkpoints=keep_checkpoints)
