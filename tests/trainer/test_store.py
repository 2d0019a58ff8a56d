"""The store gives back what was put, under its root, or one clear error: never other bytes."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.boundary import tensor_bytes
from bisection.errors import NumericsMismatch, UnavailableError, UsageError, VerificationError
from bisection.merkle import EMPTY, Tree, blob_root
from bisection.program import Program
from tests.support.programs import counting_program
from trainer.store import Store, byte_view, verified_program

PROGRAM, STATE, DATA = counting_program()


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path / "store" if request.param == "folder" else f"memory://{tmp_path}")


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@given(st.binary(max_size=2000))
def test_a_blob_comes_back_from_its_merkle_root(data: bytes) -> None:
    store = Store("memory://blobs")
    root = store.put_blob(data)
    assert root == blob_root(data)
    assert store.get_blob(root) == store.get_blob(root, len(data)) == data
    assert store.blob_size(root) == len(data)


@pytest.mark.parametrize("parts", [[], [b""], [b"abc"], [b"x" * 255, b"", memoryview(b"y" * 2), b"z" * 5000]])
def test_a_blob_may_come_in_parts(store: Store, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert store.put_parts(parts) == store.put_blob(whole) == store.put_parts(parts) == blob_root(whole)
    assert store.get_blob(blob_root(whole)) == whole


def test_only_the_blobs_that_are_named_stay(store: Store) -> None:
    store.keep_only([])
    program, leaves = store.put_program(PROGRAM), [bytes([i]) * 32 for i in range(3)]
    roots = [store.put_blob(bytes([i]) * 1000) for i in range(5)]
    digests = store.put_digests(leaves)
    store.keep_only(roots[1:3])
    for i, root in enumerate(roots):
        if i in (1, 2):
            assert store.get_blob(root) == bytes([i]) * 1000
        else:
            with pytest.raises(UnavailableError, match="holds nothing under"):
                store.get_blob(root)
    assert store.get_program(program) == PROGRAM and store.get_digests(digests, 3) == leaves


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=20))
def test_a_digest_list_comes_back_from_its_root_and_count(leaves: list[bytes]) -> None:
    store = Store("memory://digests")
    root = store.put_digests(leaves)
    assert root == Tree(leaves).root
    assert store.get_digests(root, len(leaves)) == leaves


def test_a_program_comes_back_from_its_root(store: Store) -> None:
    assert store.get_program(store.put_program(PROGRAM)) == PROGRAM


def test_lists_of_different_depth_under_one_root_are_kept_apart(store: Store) -> None:
    """The root of two digests is also the root of the list that holds only that root; the count says which is meant."""
    pair = [bytes([1]) * 32, bytes([2]) * 32]
    root = store.put_digests(pair)
    assert store.put_digests([root]) == root
    assert store.get_digests(root, 1) == [root]
    assert store.get_digests(root, 2) == pair


def test_an_empty_list_has_the_empty_root(store: Store) -> None:
    assert store.put_digests([]) == EMPTY
    assert store.get_digests(EMPTY, 0) == []


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i8", ">i2", "<i1"])
def test_the_bytes_of_a_tensor_are_the_committed_ones_whatever_its_layout(dtype: str) -> None:
    array = np.arange(24, dtype=dtype).reshape(4, 6)
    for view in (array, array.T, array[::2, 1:], array[0, 0]):
        assert bytes(byte_view(view)) == tensor_bytes(view)


def test_what_is_absent_is_said_to_be_absent(store: Store) -> None:
    for get in (store.get_blob, store.get_program, store.blob_size, lambda root: store.get_digests(root, 3)):
        with pytest.raises(UnavailableError, match="holds nothing under"):
            get(bytes(32))


@pytest.mark.parametrize("root", [b"", bytes(31), bytes(33), b"../../../../etc/passwd"])
def test_a_root_that_is_none_is_refused(store: Store, root: bytes) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        store.get_blob(root)


@pytest.mark.parametrize("damage", ["flip", "truncate", "extend"])
@pytest.mark.parametrize("kind", ["blobs", "digests", "programs"])
def test_damage_on_the_disk_is_found_and_mended_by_writing_again(tmp_path: Path, kind: str, damage: str) -> None:
    store = Store(tmp_path)

    def put() -> bytes:
        return {
            "blobs": lambda: store.put_blob(b"weights" * 100),
            "digests": lambda: store.put_digests([bytes([i]) * 32 for i in range(5)]),
            "programs": lambda: store.put_program(PROGRAM),
        }[kind]()

    get = {"blobs": store.get_blob, "digests": lambda root: store.get_digests(root, 5), "programs": store.get_program}[kind]
    root = put()
    good = get(root)
    (path,) = files_of(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= damage == "flip"
    path.write_bytes({"flip": data, "truncate": data[:-1], "extend": data + b"!"}[damage])
    with pytest.raises(VerificationError):
        get(root)
    assert put() == root
    assert get(root) == good


def test_every_flipped_byte_of_a_program_is_caught() -> None:
    good = PROGRAM.encode()
    for at in range(0, len(good), 3):
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises((VerificationError, NumericsMismatch)):
            verified_program(bad, PROGRAM.root)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"[16]", b"[Infinity]"), (b"[16]", b"[-1,-16]"), (b'["table",', b'["index",'), (b'"weights"', b'"__metadata__"')],
)
def test_a_program_that_no_array_fits_is_refused(old: bytes, new: bytes) -> None:
    """The root alone does not make a program good: a requester can commit to any bytes."""
    header = PROGRAM.header.replace(old, new)
    encoded = PROGRAM.encode()
    bad = encoded[:4] + len(header).to_bytes(4, "big") + header + encoded[8 + len(PROGRAM.header) :]
    try:
        root = Program.decode(bad).root
    except Exception:
        root = PROGRAM.root
    with pytest.raises(VerificationError):
        verified_program(bad, root)


def test_a_size_that_is_not_the_expected_one_is_refused_before_reading(store: Store) -> None:
    root = store.put_blob(b"12345")
    with pytest.raises(VerificationError, match="5 bytes"):
        store.get_blob(root, 4)


def test_writing_what_is_there_touches_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_blob(b"x" * 1000)
    (path,) = files_of(tmp_path)
    before = path.stat()
    store.put_blob(b"x" * 1000)
    assert path.stat() == before and files_of(tmp_path) == [path]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write of a big blob fails in the middle."""
    store = Store(tmp_path)
    small = store.put_blob(b"small")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        for put in (store.put_blob, lambda data: store.put_parts([data[:1000], data])):
            with pytest.raises(UnavailableError, match="no room left"):
                put(os.urandom(1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in files_of(tmp_path)] == [small.hex()]
    assert store.get_blob(small) == b"small"


def test_a_folder_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot be written"):
        Store(tmp_path / "file" / "store").put_blob(b"x")


def test_a_file_system_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="no store can be opened"):
        Store("gopher://somewhere")
