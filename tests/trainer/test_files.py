"""Data that lie in files are mapped, not read, and hashed once for as long as the file stays the same."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from bisection.boundary import Array
from bisection.errors import UsageError, VerificationError
from bisection.merkle import blob_root
from bisection.nodes import Gather, Input, Output
from bisection.program import Program, TensorSpec
from bisection.trace import MemoryTrace
from tests.support.programs import Builder
from trainer import commit, files
from trainer.executor import Executor, compiled_route
from trainer.files import KnownRoots, file_part, map_file, write_atomically
from trainer.package import load, mirror, publish
from trainer.recorder import Recorder
from trainer.store import Store, byte_view
from trainer.tensorfile import file_parts, map_tensors, read_tensors

MIB = 1 << 20
BIG = 96 * MIB


@contextmanager
def at_most(nbytes: int) -> Iterator[None]:
    """Fails when more than ``nbytes`` are taken from the heap at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < nbytes
    finally:
        tracemalloc.stop()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what ``KnownRoots`` computed a root of."""
    sizes: list[int] = []
    compute = files.roots_of

    def counting(blobs: Any, *options: Any) -> list[bytes]:
        sizes.extend(len(blob) for blob in blobs)
        return compute(blobs, *options)

    monkeypatch.setattr(files, "roots_of", counting)
    return sizes


def file_of(path: Path, size: int, age: float = 60.0) -> Path:
    """A file of ``size`` bytes, most of it a hole. Only its time of modification can be set back: see ``settle``."""
    with path.open("wb") as file:
        file.write(b"\x01\x02\x03\x04" * 500)
        file.truncate(size)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the files of this test count as old."""
    return lambda: monkeypatch.setattr(files, "SETTLED_NS", -60_000_000_000)


def reading_program(rows: int) -> tuple[Program, dict[str, Array]]:
    """The state is four rows of a table of int32 rows, which are its data."""
    b = Builder()
    (index,) = b.add(Input, (), [("i32", 4)], "state", 0)
    (table,) = b.add(Input, (), [("i32", rows)], "data", 0)
    b.add(Output, b.add(Gather, (table, index), [("i32", 4)], 1), [], 0)
    program = Program(tuple(b.nodes), (TensorSpec("index", "i32", (4,)),), (TensorSpec("table", "i32", (rows,)),))
    return program, {"index": np.array([0, 1, 2, rows - 1], np.int32)}


class Reads:
    """Executes that program's steps without torch, and without looking at all of the table."""

    def __init__(self, data: Mapping[str, Array]) -> None:
        self._table = data["table"]

    def step(self, state: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, float]]:
        index = state["index"]
        inside = (index >= 0) & (index < len(self._table))
        return {"index": np.where(inside, self._table[np.where(inside, index, 0)], 0).astype(np.int32)}, {}

    def trace(self, state: Mapping[str, Array]) -> list[Array]:
        return [state["index"], self._table, self.step(state)[0]["index"]]


# Mapping ----------------------------------------------------------------------------------------------------------------


def test_a_job_on_data_in_a_file_takes_no_memory_for_them(tmp_path: Path) -> None:
    """From the requester's file through both stores into the trainer's recording, and back to any step."""
    program, state = reading_program(BIG // 4)
    data = {"table": np.memmap(file_of(tmp_path / "table", BIG), np.int32, "r")}
    with at_most(8 * MIB):
        spec = publish(Store(tmp_path / "requester"), program, state, data)
        mirror(Store(tmp_path / "requester"), Store(tmp_path / "trainer"), spec)
        found = load(Store(tmp_path / "trainer"), spec)
        with Recorder(tmp_path / "job", program, found.state, found.data, Reads(found.data)) as recording:
            recording.run(5)
            assert recording.data.tree.root == spec.data_root
            assert recording.segment(0, 5).state(3).root == recording.recording.leaves(3, 1)[0]
    assert not found.data["table"].flags.writeable and found.data["table"][1] == 0x04030201


def test_compiled_steps_read_mapped_data_where_they_are(tmp_path: Path) -> None:
    program, state = reading_program(BIG // 4)
    data = {"table": np.memmap(file_of(tmp_path / "table", BIG), np.int32, "r")}
    executor = Executor(program, data)
    if executor.route != "compiled":
        pytest.skip(f"there are no compiled steps here: {compiled_route()}")
    executor.step(state)
    with at_most(8 * MIB), Recorder(tmp_path / "job", program, state, data, executor) as recording:
        recording.run(3)
        assert recording.segment(0, 3).tensors(2).levels[0][1] == recording.data.tree.levels[0][0]


def test_looking_back_does_not_hash_the_data_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, state = reading_program(MIB)
    data = {"table": np.arange(MIB, dtype=np.int32)}
    sizes: list[int] = []
    compute = commit.roots_of
    with Recorder(tmp_path, program, state, data, Reads(data)) as recording:
        recording.run(3)
        monkeypatch.setattr(commit, "roots_of", lambda blobs, *rest: sizes.extend(map(len, blobs)) or compute(blobs, *rest))
        trace = recording.segment(0, 3)
        assert trace.tensors(1).levels == MemoryTrace(program, state, data, 3).tensors(1).levels
        assert sizes and max(sizes) < MIB and trace.data().levels[0] == [blob_root(data["table"].tobytes())]


def test_a_mapped_blob_is_verified(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    root = store.put_blob(bytes(3 * MIB))
    assert store.map_blob(root, 3 * MIB) == bytes(3 * MIB)
    with pytest.raises(VerificationError, match="damaged"):
        store.map_blob(root, 3 * MIB + 1)
    path = tmp_path / "store" / "blobs" / root.hex()[:2] / root.hex()
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"!")
    with pytest.raises(VerificationError, match="damaged"):
        store.map_blob(root, 3 * MIB)
    assert store.put_blob(bytes(3 * MIB)) == root
    assert store.map_blob(root) == bytes(3 * MIB)
    assert Store("memory://mapped").put_blob(b"x") and store.map_blob(store.put_blob(b"")) == b""


def test_mapped_bytes_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old" * 5000)
    data = map_file(path)
    write_atomically(path, b"new", b"er")
    assert data == b"old" * 5000 and map_file(path) == b"newer"
    path.unlink()
    assert data == b"old" * 5000


# Roots that are known ---------------------------------------------------------------------------------------------------


def test_the_root_of_a_file_is_computed_once(tmp_path: Path, hashed: list[int], settle: Callable[[], None]) -> None:
    settle()
    program, state = reading_program(MIB)
    file_of(tmp_path / "table", 4 * MIB)
    roots = set()
    for _ in range(3):
        data = {"table": np.memmap(tmp_path / "table", np.int32, "r")}
        with Recorder(tmp_path / "job", program, state, data, Reads(data)) as recording:
            roots.add(recording.data.tree.root)
    assert hashed == [4 * MIB] and roots == {blob_root((tmp_path / "table").read_bytes())}


def test_a_store_of_ones_own_may_know_its_blobs(tmp_path: Path, hashed: list[int], settle: Callable[[], None]) -> None:
    settle()
    root = Store(tmp_path / "store").put_blob(bytes(3 * MIB))
    for _ in range(2):
        store = Store(tmp_path / "store", KnownRoots(tmp_path / "known.json"))
        assert store.map_blob(root, 3 * MIB) == bytes(3 * MIB)
        with pytest.raises(VerificationError, match="damaged"):
            store.map_blob(root, 3 * MIB + 1)
    assert hashed == [3 * MIB]


def test_a_memory_that_cannot_be_written_is_done_without(
    tmp_path: Path, hashed: list[int], settle: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    settle()
    path, known = file_of(tmp_path / "file", 2 * MIB), KnownRoots(tmp_path / "file" / "known.json")
    assert known.roots_of([map_file(path)]) == [blob_root(path.read_bytes())] and "computed again" in caplog.text


@pytest.mark.parametrize("change", ["write", "replace", "touch", "part"])
def test_a_file_that_has_changed_is_hashed_again(
    tmp_path: Path, hashed: list[int], settle: Callable[[], None], change: str
) -> None:
    settle()
    path, known, start = file_of(tmp_path / "file", 2 * MIB), KnownRoots(tmp_path / "known.json"), 0
    assert known.roots_of([map_file(path)]) == known.roots_of([map_file(path)])
    assert hashed == [2 * MIB]
    if change == "write":
        with path.open("r+b") as file:
            file.write(b"other")
    elif change == "replace":
        write_atomically(path, bytes(2 * MIB))
    elif change == "touch":
        os.utime(path)
    else:
        start = MIB // 2
    assert known.roots_of([map_file(path)[start:]]) == [blob_root(path.read_bytes()[start:])]
    assert hashed[1:] == [2 * MIB - start]


def test_a_file_that_has_just_changed_could_change_again_unseen(tmp_path: Path, hashed: list[int]) -> None:
    path, known = file_of(tmp_path / "file", 2 * MIB), KnownRoots(tmp_path / "known.json")
    for _ in range(2):
        known.roots_of([map_file(path)])
    assert hashed == [2 * MIB, 2 * MIB] and not (tmp_path / "known.json").exists()


def test_only_what_nobody_here_can_write_to_is_known_by_its_file(
    tmp_path: Path, hashed: list[int], settle: Callable[[], None]
) -> None:
    settle()
    path, known = file_of(tmp_path / "file", 2 * MIB), KnownRoots(tmp_path / "known.json")
    (root,) = known.roots_of([map_file(path)])
    private = np.memmap(path, np.uint8, "c")
    private[0] ^= 1
    for blob in (private.data, path.read_bytes(), bytearray(2 * MIB)):
        assert file_part(blob) is None
        assert known.roots_of([blob]) == [blob_root(bytes(blob))]
    assert known.roots_of([map_file(path)]) == [root] and hashed == [2 * MIB] * 4


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"1 2 3": 4}', b'{"1 2 3": "00"}', b"\xff"])
def test_a_damaged_memory_is_forgotten(
    tmp_path: Path, hashed: list[int], settle: Callable[[], None], content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    settle()
    path, known = file_of(tmp_path / "file", 2 * MIB), KnownRoots(tmp_path / "known.json")
    (tmp_path / "known.json").write_bytes(content)
    assert known.roots_of([map_file(path)]) == known.roots_of([map_file(path)]) == [blob_root(path.read_bytes())]
    assert hashed == [2 * MIB] and "damaged" in caplog.text


# safetensors ------------------------------------------------------------------------------------------------------------


def tensors() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "odd": rng.integers(-128, 127, (3, 7), np.int8),
        "weights": rng.standard_normal((5, 4)).astype(np.float32).T,
        "step": np.array(7, np.int64),
        "none": np.zeros((0, 3), np.int16),
        "index": rng.integers(0, 9, 11, np.int32),
    }


def test_a_file_of_tensors_is_what_the_library_reads_and_maps(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    write_atomically(path, *file_parts(tensors()))
    for found in (safetensors.numpy.load(path.read_bytes()), read_tensors(path), map_tensors(path)):
        assert set(found) == set(tensors())
        for name, array in tensors().items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name
    assert all(array.flags.aligned and not array.flags.writeable for array in map_tensors(path).values())


def test_a_file_of_the_library_is_mapped(tmp_path: Path) -> None:
    big = {"table": np.arange(BIG // 4, dtype=np.int32), "labels": np.arange(100, dtype=np.int64)}
    safetensors.numpy.save_file(big, tmp_path / "data.safetensors")
    with at_most(MIB):
        found = map_tensors(tmp_path / "data.safetensors")
        assert found["table"][-1] == BIG // 4 - 1
    assert np.array_equal(found["labels"], big["labels"])
    assert file_part(byte_view(found["table"])) is not None


def test_a_state_is_saved_without_being_joined_in_memory(tmp_path: Path) -> None:
    state = {"a": np.ones(BIG // 8, np.float32), "b": np.ones(BIG // 8, np.float32)}
    with at_most(MIB):
        root = Store(tmp_path).put_parts(file_parts(state))
    assert np.array_equal(read_tensors(Store(tmp_path).local_blob(root))["b"], state["b"])


def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("some text, which is long enough to have a header")
    with pytest.raises(UsageError, match="cannot be read as a safetensors file"):
        map_tensors(tmp_path / "text")
    with pytest.raises(UsageError, match="cannot be read as a safetensors file"):
        map_tensors(tmp_path / "nothing")
    safetensors.numpy.save_file({"x": np.zeros(3, np.float64)}, tmp_path / "wide")
    with pytest.raises(UsageError, match="type 'F64'"):
        map_tensors(tmp_path / "wide")
