"""Exact integer products C[m,n] = Σ_k A[m,k]·B[n,k] by compiled kernels: the Python face of dot.cpp. See dot.hpp."""

from __future__ import annotations

import ctypes
import itertools
from functools import cache

import numpy as np

from trainer.kernels.toolchain import KERNELS, Toolchain

__all__ = ["declare", "load", "probe", "product", "reference"]

_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
_SIGNATURES = {
    "dot_packed_bytes": (_LONG, [_INT, _LONG, _LONG]),
    "dot_panel": (_LONG, [_INT]),
    "dot_pack": (None, [_INT, _POINTER, _LONG, _LONG, _LONG, _LONG, _POINTER]),
    "dot_rows": (None, [_INT, _POINTER, _LONG, _LONG, _POINTER, _LONG, _LONG, _POINTER, _LONG, _INT]),
}


@cache
def load(toolchain: Toolchain, flags: tuple[str, ...] | None = None) -> ctypes.CDLL:
    """The kernels compiled by ``toolchain``, for its instruction set or with ``flags`` in its place, their C types declared.

    Raises UnavailableError when they cannot be compiled. The caller checks with ``probe`` that this machine runs them rightly.
    """
    return declare(toolchain.build([KERNELS / "dot.cpp"], flags))


def declare(made: ctypes.CDLL) -> ctypes.CDLL:
    """``made``, which holds dot.cpp and perhaps more, with the C types of dot.hpp declared."""
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(made, name)
        function.restype, function.argtypes = result, arguments
    return made


def product(made: ctypes.CDLL, a: np.ndarray, b: np.ndarray, out: type = np.int64) -> np.ndarray:
    """``reference(a, b)`` by the kernels ``made``. i8, i16 and i32 may be mixed: the narrower operand is widened.

    ``out`` int32 gives the sums modulo 2^32.
    """
    dtype = np.result_type(a, b)
    a, b = np.ascontiguousarray(a, dtype), np.ascontiguousarray(b, dtype)
    (m, k), n, size = a.shape, len(b), dtype.itemsize
    packed = np.empty(made.dot_packed_bytes(size, n, k), np.uint8)
    made.dot_pack(size, b.ctypes.data, n, k, 0, n, packed.ctypes.data)
    c: np.ndarray = np.empty((m, n), out)
    made.dot_rows(size, a.ctypes.data, k, m, packed.ctypes.data, n, k, c.ctypes.data, n, c.itemsize)
    return c


def reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The meaning: a[m,k] times b[n,k] transposed, integers in, i64 out, wrapping as two's complement does."""
    return a.astype(np.int64) @ b.astype(np.int64).T


def probe(made: ctypes.CDLL) -> list[str]:
    """What this machine computes wrongly with the kernels ``made``, on operands chosen to overflow or round: [] if nothing.

    Every route is taken with the largest magnitudes that it accepts and with the smallest that it refuses.
    """
    wrong = []
    for dtype, values in _WORST.items():
        for x, y in itertools.product(values, values):
            a, b = _pattern(x, dtype, 14), _pattern(y, dtype, 33)
            if not np.array_equal(product(made, a, b), reference(a, b)):
                wrong.append(f"the product of {a.dtype} {x} with {y} is wrong")
    return wrong


_WORST: dict[type, list[int | tuple[int, int]]] = {
    np.int8: [-128, 127, 80, (-128, 127), (80, -80)],
    np.int16: [-32768, 32767, 16383, 16384, -16384, 2857, -2858, (-32768, 32767), (-16383, 16383), (255, -255)],
    np.int32: [-(2**31), 2**31 - 1, 2**19 - 1, -(2**19), 2965820, -2965821, (-(2**31), 2**31 - 1), (2**24 + 1, -1)],
}
"""Repeated along k: ends of the types, operands of 15 and 20 bits, and values about where one route gives way to another."""


def _pattern(values: int | tuple[int, int], dtype: type, rows: int) -> np.ndarray:
    return np.resize(np.array(values, dtype), (rows, 263))
