"""A job under way: its material, fetched and verified, and its recording. A thread does what takes long, so that the node can go
on looking at the chain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from bisection.errors import RefstepError, UnavailableError, UsageError, VerificationError
from contracts.jobs import Job, JobSpec
from trainer.fetch import open_source
from trainer.package import Material, load, mirror
from trainer.recorder import Progress, RecordedTrace, Recorder
from trainer.store import Store

__all__ = ["Task", "Work", "fetch_material", "recording_folder", "span", "under_way"]

T = TypeVar("T")
GRACE_SECONDS = 5.0


def span(spec: JobSpec, segment: int) -> tuple[int, int]:
    """(first step, number of steps) of a segment."""
    start = segment * spec.segment_length
    return start, min(spec.segment_length, spec.steps - start)


def recording_folder(folder: Path, number: int, job: Job) -> Path:
    """Where a node records job ``number``: after a reorganisation the number can be another job's."""
    return folder / f"job-{number}-{job.job_hash.hex()[:8]}"


def fetch_material(store: Store, spec: JobSpec, uris: Sequence[str]) -> Material:
    """A job's verified material, from ``store`` or else from the first of ``uris`` that has it; then it is in ``store``.

    Raises NumericsMismatch, UnavailableError when it may yet come, VerificationError or UsageError when it never will.
    """
    try:
        return load(store, spec)
    except (UnavailableError, VerificationError):
        pass  # not there yet, or damaged: publishing replaces it
    failures: list[RefstepError] = []
    for uri in uris:
        try:
            mirror(open_source(uri), store, spec)
            return load(store, spec)
        except (UnavailableError, VerificationError, UsageError) as error:
            failures.append(error)
    kinds = {type(failure) for failure in failures}
    kind = kinds.pop() if len(kinds) == 1 else UnavailableError
    raise kind("; ".join(f"{uri}: {failure}" for uri, failure in zip(uris, failures, strict=True)))


class Task(Generic[T]):
    """A call on a daemon thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.future: Future[T] = Future()
        threading.Thread(target=self._run, args=(call,), daemon=True).start()

    def _run(self, call: Callable[[], T]) -> None:
        try:
            self.future.set_result(call())
        except BaseException as error:
            self.future.set_exception(error)


class Work:
    """A job that is being got ready, and then recorded. ``job_hash`` says which.

    ``get_material`` and ``open_recorder`` run on a thread. All methods are for the thread that made it.
    """

    def __init__(
        self, job_hash: bytes, get_material: Callable[[], Material], open_recorder: Callable[[Material], Recorder]
    ) -> None:
        self.job_hash = job_hash
        self._stop = threading.Event()
        self._preparing = Task(partial(self._prepare, get_material, open_recorder))
        self._running: Task[None] | None = None
        self._told: Future[Any] | None = None
        self._traces: dict[int, RecordedTrace] = {}

    def _prepare(
        self, get_material: Callable[[], Material], open_recorder: Callable[[Material], Recorder]
    ) -> tuple[Material, Recorder]:
        material = get_material()
        if self._stop.is_set():
            raise UnavailableError("the node stops")
        return material, open_recorder(material)

    @property
    def ready(self) -> bool:
        """Whether it can be run. Raises what kept it from getting ready."""
        if not self._preparing.future.done():
            return False
        self._preparing.future.result()
        return True

    @property
    def material(self) -> Material:
        """The job's material."""
        return self._preparing.future.result()[0]

    @property
    def recorder(self) -> Recorder:
        """The job's recording."""
        return self._preparing.future.result()[1]

    def run(self, until: int, progress: Progress) -> bool:
        """Whether the recording stands at step ``until`` or later; if not, it is on its way. Raises what has stopped it."""
        if self._running is not None:
            if not self._running.future.done():
                return False
            ended, self._running = self._running, None
            ended.future.result()
        if self.recorder.step >= until:
            return True
        self._running = Task(partial(self.recorder.run, until, progress, self._stop.is_set))
        return False

    def trace(self, spec: JobSpec, segment: int) -> RecordedTrace | None:
        """The trace of a segment; None while it is not wholly recorded."""
        if segment not in self._traces:
            start, length = span(spec, segment)
            if self.recorder.step < start + length:
                return None
            self._traces[segment] = self.recorder.segment(start, length)
        return self._traces[segment]

    def news(self) -> Future[Any] | None:
        """What the thread is at, or came to the end of since this was asked last."""
        future = (self._running or self._preparing).future
        if future is self._told:
            return None
        if future.done():
            self._told = future
        return future

    def close(self) -> None:
        """End the step under way and give the folder free. What is still being fetched is left to itself."""
        self._stop.set()
        if self._running is not None:
            wait([self._running.future])
        preparing = self._preparing.future
        wait([preparing], GRACE_SECONDS)
        if preparing.done() and preparing.exception() is None:
            self.recorder.close()


def under_way(works: Iterable[Work], seconds: float) -> bool:
    """Whether a thread is at work, or has come to its end since this was asked last; waits at most ``seconds`` for the first."""
    futures = [future for future in [work.news() for work in works] if future is not None]
    if futures:
        wait(futures, seconds, FIRST_COMPLETED)
    return bool(futures)
