"""The exact dot kernels against torch float32 matmul: time ratios, packing included, one thread, medians of interleaved repeats.

Two ratios for each: all sums are kept in memory / blocks of 96 rows share one buffer, as when a caller uses them up at once.

python -m benchmarks.dot
"""

from __future__ import annotations

import ctypes
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

BLOCK = 96
REPEATS = 15


def main() -> None:
    """Print a table of ratios: below 1 is faster than float32."""
    torch.set_num_threads(1)
    chain = toolchain()
    if isinstance(chain, str):
        raise SystemExit(chain)
    made = dot.load(chain)
    lines = []
    for kind, shapes in SHAPES.items():
        for batch, m, n, k in shapes:
            exact = [_exact(made, bits, batch, m, n, k, rows) for bits in OPERANDS for rows in (m, BLOCK)]
            float32, *seconds = _medians([_float32(batch, m, n, k), *exact])
            ratios = [
                f"{kept / float32:.2f} / {blocks / float32:.2f}" for kept, blocks in zip(seconds[::2], seconds[1::2], strict=True)
            ]
            rate = 2e-9 * batch * m * n * k / float32
            shape = f"{batch} x " * (batch > 1) + f"{m} x {n} x {k}"
            lines.append((kind, shape, f"{rate:.0f}", *ratios))
    header = ("product", "m x n x k", "float32 GFLOP/s", *(f"{bits} bits" for bits in OPERANDS))
    print(table(header, lines))
    print(f"\n{machine()}")


def _float32(batch: int, m: int, n: int, k: int) -> Callable[[], None]:
    a, b, c = torch.randn(batch, m, k), torch.randn(batch, n, k).transpose(1, 2), torch.empty(batch, m, n)
    return lambda: torch.matmul(a, b, out=c)


def _exact(made: ctypes.CDLL, bits: int, batch: int, m: int, n: int, k: int, block: int) -> Callable[[], None]:
    """Packs and multiplies through the C interface, ``block`` rows at a time. Fewer rows than m all go to the same place."""
    rng, largest = np.random.default_rng(0), (1 << bits - 1) - 1
    operand_type, sum_type = (np.dtype(x) for x in OPERANDS[bits])
    size, kept = operand_type.itemsize, block == m
    a, b = (rng.integers(-largest, largest + 1, (batch, rows, k)).astype(operand_type) for rows in (m, n))
    c = np.empty((batch if kept else 1, block, n), sum_type)
    packed = np.empty(made.dot_packed_bytes(size, n, k), np.uint8)

    def run() -> None:
        for i in range(batch):
            made.dot_pack(size, b.ctypes.data + i * n * k * size, n, k, 0, n, packed.ctypes.data)
            out = c.ctypes.data + kept * i * c[0].nbytes
            for r in range(0, m, block):
                rows = a.ctypes.data + (i * m + r) * k * size
                made.dot_rows(size, rows, k, min(block, m - r), packed.ctypes.data, n, k, out, n, sum_type.itemsize)

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
