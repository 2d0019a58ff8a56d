"""Generated kernels on their own: many in one library, for every instruction set that this processor has."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisection.boundary import LITTLE_ENDIAN
from trainer.kernels.toolchain import KERNEL_FLAGS, Toolchain, toolchain

__all__ = ["ISAS", "Kernels", "chain_for", "features"]

ISAS = {"native": "", "haswell": "avx2", "x86-64-v2": "sse4_2", "x86-64": "sse2"}
"""Instruction set → the feature that a processor needs to run it."""

Array = np.ndarray[Any, Any]


def features() -> set[str]:
    """What the processor has, by Linux's names."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def chain_for(isa: str) -> Toolchain:
    """This machine's compiler for ``isa``. Skips the test where it has none, or no such processor."""
    chain = toolchain()
    if isinstance(chain, str):
        pytest.skip(chain)
    if ISAS[isa] and ISAS[isa] not in features():
        pytest.skip(f"this processor has no {ISAS[isa]}")
    return replace(chain, isa=isa)


class Kernels:
    """Kernels by name, compiled as one unit: one start of the compiler for all."""

    def __init__(self, chain: Toolchain, sources: Mapping[str, str]) -> None:
        text = "\n".join(source.replace("void kernel(", f"void kernel_{name}(") for name, source in sources.items())
        self._library = chain.build([text], extra=KERNEL_FLAGS)

    def run(self, name: str, count: int, inputs: Sequence[Array], outputs: Sequence[str], piece: int | None = None) -> list[Array]:
        """``count`` elements of each output (by element type). ``inputs`` of one element stay where they are when only ``piece``
        elements are computed in a call; the others move on."""
        kernel = getattr(self._library, f"kernel_{name}")
        results = [np.zeros(count, LITTLE_ENDIAN[dtype]) for dtype in outputs]
        step = piece or count
        for first in range(0, count, step):
            places = [x.ctypes.data + (first * x.itemsize if x.size > 1 else 0) for x in inputs]
            targets = [y.ctypes.data + first * y.itemsize for y in results]
            kernel(
                ctypes.c_int64(min(step, count - first)),
                (ctypes.c_void_p * max(len(places), 1))(*places),
                (ctypes.c_void_p * len(targets))(*targets),
            )
        return results
