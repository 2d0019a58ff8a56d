"""What commitments cost: the rates of all ways to hash, and how much a step is slowed down by the hashing of a state beside it.

python -m benchmarks.hashing [state in MB] [seconds of a step] [pairs of steps]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch

from benchmarks._world import machine
from benchmarks.disputes import table
from bisection.boundary import Array
from trainer.commit import Beside
from trainer.files import threads_here
from trainer.kernels.hashing import HASHLIB, backends, roots_of, why_hashlib
from trainer.store import byte_view

TENSORS = 30
REPEATS = 5
HASHLIB_SHARE = 8  # hashlib gets one part in so many of the state: it takes ten times as long


def rates(state: Sequence[Array], repeats: int = REPEATS) -> list[tuple[str, int, float]]:
    """(backend, threads, best rate in MB a second), the repeats of all taken in turns."""
    rows = [
        (backend, threads)
        for backend in backends()
        for threads in sorted({1, threads_here()})
        if threads == 1 or backend != HASHLIB
    ]
    best = dict.fromkeys(rows, 0.0)
    for _ in range(repeats):
        for backend, threads in rows:
            part = state[:: HASHLIB_SHARE if backend == HASHLIB else 1]
            started = time.perf_counter()
            roots_of([byte_view(array) for array in part], threads, backend)
            rate = sum(array.nbytes for array in part) / (time.perf_counter() - started) / 1e6
            best[backend, threads] = max(best[backend, threads], rate)
    return [(*row, rate) for row, rate in best.items()]


def busy_step(seconds: float) -> Callable[[], None]:
    """A step that keeps all cores busy with matrix products for about so long."""
    a = torch.randn(1024, 1024)

    def step(products: int) -> None:
        for _ in range(products):
            torch.mm(a, a)

    step(20)
    started = time.perf_counter()
    step(20)
    return partial(step, max(1, round(20 * seconds / (time.perf_counter() - started))))


@dataclass(frozen=True)
class Overhead:
    """Medians over pairs of a step alone and the next one with hashing beside it: seconds of the first, ratios of second to first.

    ``wall`` is of the time that passed, ``work`` of the time that processors spent on this process.
    """

    seconds: float
    wall: float
    work: float


def overhead(state: Sequence[Array], seconds: float, pairs: int, threads: int) -> Overhead:
    """How much longer a step takes with the hashing of ``state`` beside it."""
    step = busy_step(seconds)

    def commit() -> None:
        roots_of([byte_view(array) for array in state], threads)

    def now() -> Array:
        return np.array([time.perf_counter(), time.process_time()])

    alone, ratios = [], []
    with Beside() as beside:
        for _ in range(pairs):
            started = now()
            step()
            between = now()
            beside.do(commit)
            step()
            beside.finish()
            alone.append((between - started)[0])
            ratios.append((now() - between) / (between - started))
    wall, work = np.median(ratios, 0)
    return Overhead(median(alone), float(wall), float(work))


def main() -> None:
    """Print the tables."""
    given = [float(word) for word in sys.argv[1:]]
    megabytes, seconds, pairs = (*given, *(120.0, 0.7, 15.0)[len(given) :])
    rng = np.random.default_rng(0)
    state = [rng.standard_normal(int(megabytes * 1e6 / 4 / TENSORS), dtype=np.float32) for _ in range(TENSORS)]
    found = rates(state)
    plain = next(rate for backend, _, rate in found if backend == HASHLIB)
    print(f"Merkle roots of a state of {megabytes:.0f} MB in {TENSORS} tensors, best of {REPEATS}:\n")
    print(table(("backend", "threads", "MB/s", "times hashlib"), [(b, t, f"{r:.0f}", f"{r / plain:.1f}") for b, t, r in found]))
    if (reason := why_hashlib()) is not None:
        print(f"\nNothing is compiled: {reason}")
    rows = []
    for threads in sorted({1, threads_here()}):
        cost = overhead(state, seconds, int(pairs), threads)
        rows.append((threads, f"{cost.seconds:.3f}", f"{100 * (cost.wall - 1):+.1f}", f"{100 * (cost.work - 1):+.1f}"))
    print(f"\nA step that keeps all cores busy, with the hashing beside it; medians of {pairs:.0f} pairs:\n")
    print(table(("hashing threads", "step alone, s", "time with hashing, %", "processor time, %"), rows))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
