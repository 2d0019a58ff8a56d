"""The exact dot kernels against torch float32 matmul: time ratios, packing included, one thread, medians of interleaved repeats.

python -m benchmarks.dot
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from benchmarks._world import machine
from benchmarks.disputes import table
from trainer.kernels import dot
from trainer.kernels.toolchain import toolchain

SHAPES = {
    "linear": [(1, 2048, 1152, 384), (1, 2048, 384, 1536), (1, 2048, 1536, 384)],
    "weight gradient": [(1, 384, 1536, 2048)],
    "attention": [(48, 256, 256, 64), (48, 256, 64, 256)],
}
"""(batch, m, n, k) in a GPT 384 wide, 2,048 tokens a step."""

OPERANDS = {8: (np.int8, np.int32), 15: (np.int16, np.int64), 20: (np.int32, np.int64)}
"""Operand bits → the types of operands and of sums."""

REPEATS = 15


def main() -> None:
    """Print a table of ratios: below 1 is faster than float32."""
    torch.set_num_threads(1)
    chain = toolchain()
    if isinstance(chain, str):
        raise SystemExit(chain)
    made = dot.library(chain)
    rows = []
    for kind, shapes in SHAPES.items():
        for batch, m, n, k in shapes:
            runs = [_float32(batch, m, n, k), *(_exact(made, bits, batch, m, n, k) for bits in OPERANDS)]
            float32, *exact = _medians(runs)
            rate = 2e-9 * batch * m * n * k / float32
            shape = f"{batch} x " * (batch > 1) + f"{m} x {n} x {k}"
            rows.append((kind, shape, f"{rate:.0f}", *(f"{seconds / float32:.2f}" for seconds in exact)))
    header = ("product", "m x n x k", "float32 GFLOP/s", *(f"{bits} bits" for bits in OPERANDS))
    print(table(header, rows))
    print(f"\n{machine()}")


def _float32(batch: int, m: int, n: int, k: int) -> Callable[[], None]:
    a, b, c = torch.randn(batch, m, k), torch.randn(batch, n, k).transpose(1, 2), torch.empty(batch, m, n)
    return lambda: torch.matmul(a, b, out=c)


def _exact(made: object, bits: int, batch: int, m: int, n: int, k: int) -> Callable[[], None]:
    """Packs and multiplies through the C interface."""
    rng, largest = np.random.default_rng(0), (1 << bits - 1) - 1
    types = [np.dtype(x) for x in OPERANDS[bits]]
    size, out_size = (x.itemsize for x in types)
    a, b = (rng.integers(-largest, largest + 1, (batch, rows, k)).astype(types[0]) for rows in (m, n))
    c, packed = np.empty((batch, m, n), types[1]), np.empty(made.dot_packed_bytes(size, n, k), np.uint8)
    places = [(x.ctypes.data, y.ctypes.data, z.ctypes.data) for x, y, z in zip(a, b, c, strict=True)]

    def run() -> None:
        for x, y, z in places:
            made.dot_pack(size, y, n, k, 0, n, packed.ctypes.data)
            made.dot_rows(size, x, k, m, packed.ctypes.data, n, k, z, n, out_size)

    run.operands = a, b, c  # the places point into them
    return run


def _medians(runs: list[Callable[[], None]]) -> list[float]:
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS):
        for run, times in zip(runs, taken, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [median(times) for times in taken]


if __name__ == "__main__":
    main()
