"""Merkle roots and trees of bytes at the speed of the processor. Their meaning is bisection.merkle, which they equal bit for bit.

``sha256*.cpp`` has four ways to compute SHA-256; the fastest that this processor has is taken. Without a compiler hashlib does
the same, slower. The C++ runs without the interpreter's lock, on as many threads as asked for.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from functools import cache

import numpy as np

from bisection.errors import UnavailableError, UsageError
from bisection.merkle import EMPTY, LEAF_BYTES, Tree, blob_tree, depth_of, leaf_count, parent
from trainer.kernels.toolchain import KERNELS, toolchain

__all__ = ["HASHLIB", "Bytes", "backends", "root_of", "roots_of", "tree_of", "why_hashlib"]

log = logging.getLogger(__name__)

Bytes = bytes | bytearray | memoryview

NATIVE = ("sha-ni", "avx512", "avx2", "c++")
"""The backends of sha256.cpp in its order, fastest first."""
HASHLIB = "hashlib"
SOURCES = [KERNELS / f"sha256{part}.cpp" for part in ("", "_ni", "_avx512", "_avx2")]
DIGEST_BYTES = 32
SMALL = 1 << 12  # bytes: fewer are hashed by hashlib as fast as the library can be called
CHUNK = 1 << 20  # bytes that hashlib's way takes at a time, so that a big blob's tree never stands in memory as a whole


def roots_of(blobs: Sequence[Bytes], threads: int = 1, backend: str | None = None) -> list[bytes]:
    """The root of each blob, in memory that does not grow with them.

    ``threads`` share all blobs. ``backend`` is one of ``backends()``; by default the first, or hashlib for a few bytes. Raises
    UsageError for a backend that is not there.
    """
    arrays = [np.frombuffer(blob, np.uint8) for blob in blobs]
    backend = _chosen(backend, sum(array.size for array in arrays))
    if backend == HASHLIB:
        return [_plain_root(array.data) for array in arrays]
    places = np.array([array.ctypes.data for array in arrays], np.uintp)
    sizes = np.array([array.size for array in arrays], np.uintp)
    roots = np.empty((len(arrays), DIGEST_BYTES), np.uint8)
    _loaded().refstep_sha256_roots(NATIVE.index(backend), threads, len(arrays), *(x.ctypes.data for x in (places, sizes, roots)))
    return [root.tobytes() for root in roots]


def root_of(blob: Bytes, threads: int = 1, backend: str | None = None) -> bytes:
    """The root of one blob; see ``roots_of``."""
    return roots_of([blob], threads, backend)[0]


def tree_of(blob: Bytes, threads: int = 1, backend: str | None = None) -> Tree:
    """The whole tree over one blob; see ``roots_of``."""
    data = np.frombuffer(blob, np.uint8)
    backend = _chosen(backend, data.size)
    if backend == HASHLIB:
        return blob_tree(data.data)
    counts = [leaf_count(data.size)]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // 2))
    digests = np.empty((1 + sum(counts), DIGEST_BYTES), np.uint8)  # the library reads a byte before the first digest
    _loaded().refstep_sha256_levels(NATIVE.index(backend), threads, data.ctypes.data, data.size, digests[1:].ctypes.data)
    return _Computed(np.split(digests[1:], np.cumsum(counts)[:-1]))


class _Computed(Tree):
    """A tree whose digests are known: one array of 32-byte rows for every level."""

    def __init__(self, levels: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> None:
        self.count, self.depth = len(levels[0]), len(levels) - 1
        self.levels = [[row.tobytes() for row in level] for level in levels]


@cache
def backends() -> tuple[str, ...]:
    """What this machine can hash with, fastest first. The last, hashlib, is there always."""
    library = _library()
    if isinstance(library, str):
        return (HASHLIB,)
    return (*(name for number, name in enumerate(NATIVE) if library.refstep_sha256_has(number)), HASHLIB)


def why_hashlib() -> str | None:
    """The reason why there is nothing faster than hashlib here; None where there is."""
    library = _library()
    return library if isinstance(library, str) else None


def _chosen(backend: str | None, size: int) -> str:
    if backend is None:
        return HASHLIB if size < SMALL else backends()[0]
    if backend not in backends():
        raise UsageError(f"this machine cannot hash with {backend!r}: choose one of {', '.join(backends())}")
    return backend


@cache
def _library() -> ctypes.CDLL | str:
    """The compiled library, or the reason why there is none."""
    chain = toolchain()
    if isinstance(chain, str):
        return chain
    try:
        library = chain.build(SOURCES, flags=[])  # each source names its own instruction set
    except (UnavailableError, UsageError) as error:
        log.warning("hashing goes on without compiled code: %s", error)
        return str(error)
    size, place = ctypes.c_size_t, ctypes.c_void_p
    library.refstep_sha256_roots.argtypes = [ctypes.c_int, size, size, place, place, place]
    library.refstep_sha256_levels.argtypes = [ctypes.c_int, size, place, size, place]
    library.refstep_sha256_roots.restype = library.refstep_sha256_levels.restype = None
    return library


def _loaded() -> ctypes.CDLL:
    library = _library()
    assert not isinstance(library, str), "backends() named a compiled one"
    return library


def _plain_root(view: memoryview) -> bytes:
    if len(view) <= CHUNK:
        return blob_tree(view).root
    roots = []
    for at in range(0, len(view), CHUNK):
        tree = blob_tree(view[at : at + CHUNK])
        root = tree.root
        for _ in range(tree.depth, depth_of(CHUNK // LEAF_BYTES)):
            root = parent(root, EMPTY)
        roots.append(root)
    return Tree(roots).root
