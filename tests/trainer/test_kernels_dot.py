"""The dot kernels have numpy's integers: every type, shape, instruction set and way of calling them."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.kernels.dot import load, probe, product, reference
from trainer.kernels.toolchain import Toolchain, toolchain

CHAIN = toolchain()
TYPES = (np.int8, np.int16, np.int32)
ISAS = {
    "plain": ("sse2", "-march=x86-64 -U__SSE2__"),
    "x86-64": ("sse2", "-march=x86-64"),
    "x86-64-v2": ("sse4_2", "-march=x86-64-v2"),
    "haswell": ("avx2", "-march=haswell"),
    "x86-64-v4": ("avx512bw", "-march=x86-64-v4 -mprefer-vector-width=512"),
}
"""Name → the feature that a processor needs to run it, and the compiler's flags. ``plain`` is what other architectures get."""
GUARD = 77

pytestmark = pytest.mark.skipif(isinstance(CHAIN, str), reason=str(CHAIN))


def features() -> set[str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


@pytest.fixture(scope="module", params=["native", *ISAS])
def made(request: pytest.FixtureRequest) -> ctypes.CDLL:
    assert isinstance(CHAIN, Toolchain)
    if request.param == "native":
        return load(CHAIN)
    feature, flags = ISAS[request.param]
    if feature not in features():
        pytest.skip(f"this processor has no {feature}")
    return load(CHAIN, tuple(flags.split()))


def operand(rng: np.random.Generator, dtype: type, rows: int, k: int, bits: int) -> np.ndarray:
    """Random integers of some bits, with the ends of their range common."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    x = rng.integers(low, high + 1, (rows, k))
    return np.where(rng.random((rows, k)) < 0.3, rng.choice([low, high, -high], (rows, k)), x).astype(dtype)


def assert_right(made: ctypes.CDLL, a: np.ndarray, b: np.ndarray) -> None:
    expected = reference(a, b)
    assert np.array_equal(product(made, a, b), expected)
    assert np.array_equal(product(made, a, b, np.int32), expected.astype(np.int32))


def test_this_machine_computes_rightly(made: ctypes.CDLL) -> None:
    assert probe(made) == []


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 70), st.integers(1, 80), st.sampled_from(TYPES), st.data())
def test_random_products(made: ctypes.CDLL, seed: int, m: int, n: int, k: int, dtype: type, data: st.DataObject) -> None:
    rng, most = np.random.default_rng(seed), np.iinfo(dtype).bits
    a_bits, b_bits = (data.draw(st.integers(2, most)) for _ in range(2))
    assert_right(made, operand(rng, dtype, m, k, a_bits), operand(rng, dtype, n, k, b_bits))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bits", [8, 15, 20, 32])
def test_long_sums_and_many_rows(made: ctypes.CDLL, dtype: type, bits: int) -> None:
    """Several chunks of k, several blocks of rows."""
    rng, bits = np.random.default_rng(bits), min(bits, np.iinfo(dtype).bits)
    for m, n, k in ((3, 5, 4999), (2, 33, 2049), (205, 34, 300)):
        assert_right(made, operand(rng, dtype, m, k, bits), operand(rng, dtype, n, k, bits))


@pytest.mark.parametrize("value", [-128, -32768, -(2**31), 127, 511, -513, 32767, 16383, 16384, 2**19 - 1, 2**19, 2**31 - 1])
def test_one_value_throughout(made: ctypes.CDLL, value: int) -> None:
    for dtype in TYPES:
        if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            a, b = np.full((13, 2500), value, dtype), np.full((33, 2500), value, dtype)
            assert_right(made, a, b)
            assert_right(made, a, np.invert(b))


def test_mixed_types(made: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    for a_type in TYPES:
        for b_type in TYPES:
            a, b = operand(rng, a_type, 14, 37, np.iinfo(a_type).bits), operand(rng, b_type, 19, 37, np.iinfo(b_type).bits)
            assert np.array_equal(product(made, a, b), reference(a, b))


@pytest.mark.parametrize("dtype", TYPES)
def test_strides_parts_and_threads(made: ctypes.CDLL, dtype: type) -> None:
    """A and out are parts of wider matrices; panels are packed, and rows multiplied, by several threads at once, out of order."""
    rng, (m, n, k, size) = np.random.default_rng(4), (100, 75, 21, np.dtype(dtype).itemsize)
    a, b = operand(rng, dtype, m, k + 9, 8), operand(rng, dtype, n, k, 8)
    panel = made.dot_panel(size)
    packed = np.full(made.dot_packed_bytes(size, n, k) + 8, GUARD, np.uint8)
    out = np.full((m, n + 6), GUARD, np.int64)

    def pack(n0: int) -> None:
        made.dot_pack(size, b.ctypes.data, n, k, n0, min(n, n0 + panel), packed.ctypes.data)

    def multiply(r: int) -> None:
        rows = min(7, m - r)
        made.dot_rows(size, a[r, 4:].ctypes.data, k + 9, rows, packed.ctypes.data, n, k, out[r, 2:].ctypes.data, n + 6, 8)

    for work, starts in ((pack, range(0, n, panel)), (multiply, range(0, m, 7))):
        threads = [Thread(target=work, args=(start,)) for start in reversed(starts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert np.array_equal(out[:, 2:-4], reference(a[:, 4:-5], b))
    assert (out[:, :2] == GUARD).all() and (out[:, -4:] == GUARD).all() and (packed[-8:] == GUARD).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 5, 7, 64, 100])
def test_nothing_outside_the_operands_is_read(made: ctypes.CDLL, dtype: type, k: int) -> None:
    """The operands end where a page does that may not be read: a read beyond would end the process."""
    size, pages = np.dtype(dtype).itemsize, 3
    libc = ctypes.CDLL(None)
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
        whole = np.frombuffer(memory, np.uint8)
        end = (pages - 1) * mmap.PAGESIZE
        last = ctypes.c_void_p(whole.ctypes.data + end)
        assert libc.mprotect(last, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        x = whole[end - 5 * k * size : end].view(dtype).reshape(5, k)
        x[:] = operand(np.random.default_rng(k), dtype, 5, k, 8)
        assert_right(made, x, np.ones((3, k), dtype))
        assert_right(made, np.ones((3, k), dtype), x)
        libc.mprotect(last, ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE)
        del x, whole
