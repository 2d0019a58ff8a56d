"""Where the runs of a sweep happen: in this process, in several, or on a Ray cluster. Only the results' order depends on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import Any

from bisection.errors import UsageError
from sims.kinds import Kind
from sims.result import Outcome
from sims.sweep import Job

__all__ = ["Failure", "Finished", "Workers", "in_processes", "in_this_process", "on_ray", "processors"]

AHEAD = 4  # jobs handed out for each worker, so that none has to wait for the next
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # the processes share the cores already


@dataclass(frozen=True)
class Failure:
    """Why a run ended without an outcome."""

    reason: str


Finished = tuple[Job, Outcome | Failure]
Workers = Callable[[Kind, Iterable[Job]], Iterator[Finished]]


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def attempt(kind: Kind, parameters: Any, seed: int) -> Outcome | Failure:
    """One run. Whatever goes wrong in it is its own failure."""
    try:
        return kind.run(parameters, seed)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {' '.join(str(error).split())}")


def in_this_process(kind: Kind, jobs: Iterable[Job]) -> Iterator[Finished]:
    """One run after the other."""
    for job in jobs:
        yield job, attempt(kind, job.parameters, job.seed)


def in_processes(count: int) -> Workers:
    """Runs in so many processes of this machine. Those beside a run that ends its process are run again."""

    def run(kind: Kind, jobs: Iterable[Job]) -> Iterator[Finished]:
        queue, broken = iter(jobs), True
        while broken:
            suspects: list[Job] = []
            broken = False
            for job, found in _pooled(count, kind, queue):
                if isinstance(found, BrokenProcessPool):
                    suspects.append(job)
                else:
                    yield job, found
            for job in suspects:
                broken = True
                for _, found in _pooled(1, kind, iter([job])):
                    yield job, Failure("its process ended") if isinstance(found, BrokenProcessPool) else found

    return run


def _pooled(count: int, kind: Kind, queue: Iterator[Job]) -> Iterator[tuple[Job, Outcome | Failure | BrokenProcessPool]]:
    """Runs until the queue is empty or a process ended; then all that were handed out come back broken."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    # Spawned, not forked: a forked child would inherit threads' locks.
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin)
    futures: dict[Future[Outcome | Failure], Job] = {}
    try:
        broken = False
        while True:
            for job in islice(queue, 0 if broken else AHEAD * count - len(futures)):
                try:
                    with _uninterrupted():
                        futures[pool.submit(attempt, kind, job.parameters, job.seed)] = job
                except BrokenProcessPool as ended:
                    broken = True
                    yield job, ended
                    break
            if not futures:
                return
            done, _ = wait(futures, return_when=FIRST_COMPLETED)
            for future in done:
                job, error = futures.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    broken = True
                    yield job, error
                else:
                    yield job, Failure(f"{type(error).__name__}: {error}") if error else future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """An interrupt comes after this, and in a process that is started here when it begins: its imports could swallow it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Leave quietly when the person at the terminal interrupts."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))


def on_ray() -> Workers:
    """Runs on the Ray cluster that RAY_ADDRESS names, or on a local one. Raises UsageError if Ray is not installed."""
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed: pip install ray, or leave out --ray to use all cores of this machine") from None
    return partial(_on_ray, ray)


def _on_ray(ray: Any, kind: Kind, jobs: Iterable[Job]) -> Iterator[Finished]:
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level="error")
    try:
        remote = ray.remote(num_cpus=1)(attempt)
        ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        queue = iter(jobs)
        pending: dict[Any, Job] = {}
        while True:
            for job in islice(queue, ahead - len(pending)):
                pending[remote.remote(kind, job.parameters, job.seed)] = job
            if not pending:
                return
            for reference in ray.wait(list(pending), num_returns=1)[0]:
                job = pending.pop(reference)
                try:
                    found = ray.get(reference)
                except ray.exceptions.RayError as error:
                    found = Failure(f"{type(error).__name__}: {' '.join(str(error).split())}")
                yield job, found
    finally:
        if started:
            ray.shutdown()
