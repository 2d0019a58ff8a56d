"""Compiled hashing says what bisection.merkle says: every backend that is here, at every size, on any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import UsageError
from bisection.merkle import blob_root, blob_tree
from trainer.kernels import hashing
from trainer.kernels.hashing import HASHLIB, NATIVE, backends, root_of, roots_of, tree_of, why_hashlib

RANDOM = np.random.default_rng(3).integers(0, 256, 4 << 20, dtype=np.uint8).tobytes()
LEAF, CHUNK = 256, 1 << 20
COUNTS = (0, 1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 18, 31, 32, 33, 34, 64, 65)
EDGES = sorted({max(0, count * LEAF + off) for count in COUNTS for off in (-1, 0, 1, 7)} | {*range(0, 300, 7), 8191 * 32 + 5})


@pytest.fixture(params=NATIVE)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param not in backends():
        pytest.skip(f"this machine has no {request.param}: {why_hashlib() or 'not in this processor'}")
    return str(request.param)


def test_every_size_around_an_edge(backend: str) -> None:
    blobs = [RANDOM[size : 2 * size] for size in EDGES]
    expected = [blob_root(blob) for blob in blobs]
    assert roots_of(blobs, 1, backend) == roots_of(blobs, 3, backend) == expected
    assert [tree_of(blob, 2, backend).levels for blob in blobs] == [blob_tree(blob).levels for blob in blobs]


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + LEAF, 2 * CHUNK + 17 * LEAF + 3, 3 * CHUNK])
def test_blobs_of_many_chunks(backend: str, size: int) -> None:
    tree = blob_tree(RANDOM[:size])
    for threads in (1, 2, 7):
        assert roots_of([b"x" * 5000, RANDOM[:size], b""], threads, backend)[1] == tree.root
        found = tree_of(RANDOM[:size], threads, backend)
        assert found.levels == tree.levels and found.depth == tree.depth and found.count == tree.count
    assert root_of(RANDOM[:size], backend=HASHLIB) == tree.root


@given(st.binary(max_size=3000), st.integers(1, 4))
def test_any_bytes_with_any_backend(data: bytes, threads: int) -> None:
    for name in backends():
        assert root_of(data, threads, name) == blob_root(data)


def test_places_that_no_vector_is_aligned_to(backend: str) -> None:
    for at in range(1, 70, 3):
        view = memoryview(RANDOM)[at : at + 40 * LEAF + at]
        assert root_of(view, backend=backend) == blob_root(view)


def test_nothing_around_the_bytes_is_read() -> None:
    """The blob fills pages that stand between two that cannot be read."""
    code = """
import ctypes, mmap
from bisection.merkle import blob_root
from trainer.kernels.hashing import backends, root_of, tree_of
page = mmap.PAGESIZE
area = mmap.mmap(-1, 5 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
for at in (0, 4):
    assert protect(start + at * page, page, 0) == 0
for size in (3 * page, 2 * page + 100, page + 256):
    for at in (page, 4 * page - size):
        view = memoryview(area)[at : at + size]
        for name in backends():
            assert root_of(view, 2, name) == tree_of(view, 2, name).root == blob_root(bytes(view))
print("unharmed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "unharmed\n", done.stderr


def test_no_blob_and_empty_blobs() -> None:
    assert roots_of([]) == []
    for name in backends():
        assert roots_of([b"", memoryview(b"")], 2, name) == [blob_root(b"")] * 2
        assert tree_of(b"", 1, name).levels == blob_tree(b"").levels


def test_other_threads_run_meanwhile(backend: str) -> None:
    """The interpreter's lock is free while the library hashes."""
    data, ticks = memoryview(bytearray(64 << 20)), 0
    hasher = Thread(target=lambda: root_of(data, 1, backend))
    hasher.start()
    while hasher.is_alive():
        ticks += 1
        time.sleep(0.0005)
    assert ticks >= 8


def test_a_backend_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot hash with 'abacus'"):
        root_of(b"", backend="abacus")


def test_without_a_compiler_hashlib_says_the_same() -> None:
    code = """
from trainer.kernels.hashing import backends, root_of, tree_of, why_hashlib
print(backends(), why_hashlib(), root_of(bytes(5000)).hex(), tree_of(bytes(5000)).root.hex())
"""
    environment = {**os.environ, "REFSTEP_CXX": "none"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    root = blob_root(bytes(5000)).hex()
    assert done.stdout == f"('hashlib',) REFSTEP_CXX is none {root} {root}\n"


def test_hashlib_in_chunks_gives_the_root_of_the_whole_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "CHUNK", 1024)
    for size in (0, 1023, 1024, 1025, 4096, 5000):
        assert root_of(RANDOM[:size], backend=HASHLIB) == blob_root(RANDOM[:size])
