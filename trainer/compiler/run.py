"""Running a plan: its kernels compiled, its memory allocated, one call a step."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np

from bisection.errors import UnavailableError
from bisection.nodes import Node
from trainer.compiler.plan import Kernel, Place, make_plan
from trainer.kernels import dot
from trainer.kernels.toolchain import KERNEL_FLAGS, KERNELS, Toolchain

__all__ = ["Compiled"]


class Compiled:
    """``nodes`` compiled by ``toolchain``. A run gives the tensors ``wanted`` (by number); those that no node makes are given.

    Raises UnavailableError when the compiler fails, or this machine has too little memory.
    """

    def __init__(self, nodes: Sequence[Node], wanted: Collection[int], toolchain: Toolchain) -> None:
        products = dot.load(toolchain)
        self._driver = toolchain.build([KERNELS / "rows.cpp"])
        plan = make_plan(nodes, wanted, products)
        self.plan = plan
        self._scratch_bytes = max((stage.scratch_bytes for stage in plan.stages), default=0)
        _require(plan.memory + self._scratch_bytes * (os.cpu_count() or 1))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            libraries = list(pool.map(lambda source: toolchain.build([source], extra=KERNEL_FLAGS), plan.sources))
        self._kept = [products, *libraries]
        kernels = {
            source: ctypes.cast(made.kernel, ctypes.c_void_p).value for source, made in zip(plan.sources, libraries, strict=True)
        }
        words: list[int] = []
        rows: list[int] = []
        for stage in plan.stages:
            rows += [stage.rows, stage.block, len(words), len(stage.operations)]
            for operation in stage.operations:
                for word in operation:
                    if isinstance(word, Place):
                        words += word.words(stage.offsets)
                    else:
                        words.append(kernels[word.source] if isinstance(word, Kernel) else word)  # type: ignore[arg-type]
        self._words, self._groups = np.array(words, np.int64), np.array(rows, np.int64)
        calls = [ctypes.cast(f, ctypes.c_void_p).value for f in (products.dot_rows, products.dot_pack)]
        self._functions = (ctypes.c_void_p * 2)(*calls)
        self._turn = Lock()  # pointers and memory serve one run at a time
        self._memory = np.empty(plan.memory + 64, np.uint8)
        start = -self._memory.ctypes.data % 64 + self._memory.ctypes.data
        self._pointers = (ctypes.c_void_p * max(plan.slots, 1))()
        for slot, offset in plan.buffers.items():
            self._pointers[slot] = start + offset
        for slot, array in plan.constants.items():
            self._pointers[slot] = array.ctypes.data

    def run(
        self, given: Mapping[int, np.ndarray], wanted: Mapping[int, np.ndarray], threads: int, spent: np.ndarray | None = None
    ) -> None:
        """Compute the tensors ``wanted`` into its arrays from those ``given``. All are C-contiguous, by tensor number.

        To ``spent`` (int64, one for each operation of the plan in order) the nanoseconds are added that threads spend in it.
        """
        with self._turn:
            for slots, arrays in ((self.plan.given, given), (self.plan.wanted, wanted)):
                for tensor, slot in slots.items():
                    self._pointers[slot] = arrays[tensor].ctypes.data
            self._driver.run_groups(
                ctypes.c_void_p(self._groups.ctypes.data),
                ctypes.c_int64(len(self._groups) // 4),
                ctypes.c_void_p(self._words.ctypes.data),
                self._pointers,
                ctypes.c_int64(self._scratch_bytes),
                ctypes.c_int(threads),
                self._functions,
                None if spent is None else ctypes.c_void_p(spent.ctypes.data),
            )


def _require(wanted: int) -> None:
    """Raise UnavailableError unless this machine has ``wanted`` bytes of memory: asking for more could end the process."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > there:
        needs, has = (f"{size / 1e9:,.1f} GB" for size in (wanted, there))
        raise UnavailableError(f"a step needs {needs} of memory and this machine has {has}: use a larger one")
