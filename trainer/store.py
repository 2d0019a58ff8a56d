"""The content-addressed store: blobs, digest lists and programs under the roots that commit to them.

A blob's address is its Merkle root (``bisection.merkle.blob_root``), so a tensor's address is its tensor root. A digest list's
address is the root of its tree together with its count, because only the count tells how deep that tree is. A program's address
is its program root. Nothing read here is believed: every ``get`` hashes what it read before returning it. The functions that do so
serve every other source too.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from bisection.boundary import Array
from bisection.errors import ProgramError, UnavailableError, UsageError, VerificationError
from bisection.merkle import Tree
from bisection.program import Program
from trainer.files import (
    TEMPORARY,
    KnownRoots,
    map_file,
    move_file,
    threads_here,
    unwritable,
    write_atomically,
    write_file,
)
from trainer.kernels.hashing import Bytes, root_of

__all__ = [
    "DIGEST_BYTES",
    "Source",
    "Store",
    "byte_view",
    "unwritable",
    "verified_blob",
    "verified_digests",
    "verified_program",
    "write_atomically",
]

DIGEST_BYTES = 32

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where verified content comes from: a Store, or a data service over HTTP."""

    def get_program(self, root: bytes) -> Program:
        """The program under ``root``."""

    def get_digests(self, root: bytes, count: int) -> list[bytes]:
        """The ``count`` leaves of the digest tree under ``root``."""

    def get_blob(self, root: bytes, size: int | None = None) -> Bytes:
        """The bytes under ``root``, which are ``size`` long where that is known."""


# Verification: pure -----------------------------------------------------------------------------------------------------


def byte_view(array: Array) -> memoryview:
    """A tensor's committed bytes (little-endian, C order), without a copy where the array already holds them so."""
    array = np.ascontiguousarray(array)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data


def verified_blob(data: Bytes, root: bytes) -> Bytes:
    """``data``, when it hashes to ``root``. Raises VerificationError otherwise."""
    if root_of(data, threads_here()) != root:
        raise VerificationError(f"{len(data)} bytes were given for blob {root.hex()}, but they do not hash to it")
    return data


def verified_digests(data: Bytes, root: bytes, count: int) -> list[bytes]:
    """The ``count`` digests that ``data`` holds, when their tree has ``root``. Raises VerificationError otherwise."""
    if len(data) != count * DIGEST_BYTES:
        raise VerificationError(f"{len(data)} bytes were given for a list of {count} digests")
    leaves = [bytes(data[at : at + DIGEST_BYTES]) for at in range(0, len(data), DIGEST_BYTES)]
    if Tree(leaves).root != root:
        raise VerificationError(f"{count} digests were given for the tree {root.hex()}, but they do not hash to it")
    return leaves


def verified_program(data: Bytes, root: bytes) -> Program:
    """The program that ``data`` encodes, when its root is ``root``.

    Raises VerificationError otherwise, NumericsMismatch for a version that this build does not speak.
    """
    try:
        program = Program.decode(bytes(data))
    except ProgramError as error:
        raise VerificationError(f"the bytes given for program {root.hex()} are no program: {error}") from None
    if program.root != root:
        raise VerificationError(f"a program was given for {root.hex()}, but its root is {program.root.hex()}")
    return program


# Files ------------------------------------------------------------------------------------------------------------------


class Store:
    """Content-addressed storage at ``location``: a local folder, or any fsspec URL (``memory://…``, ``s3://…``).

    Writes are atomic, and writing what is there already changes nothing; a damaged copy is replaced. Mapped blobs that ``known``
    knows are not hashed again: its file must be one that only the store's owner can write to. Raises UsageError for a location that
    no installed file system serves.
    """

    def __init__(self, location: str | Path, known: KnownRoots | None = None) -> None:
        self.location = str(location)
        try:
            self._fs, base = fsspec.core.url_to_fs(self.location)
        except (ValueError, ImportError, OSError) as error:
            raise UsageError(f"no store can be opened at {self.location!r}: {error}") from None
        self._base = str(base).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        self._known = known

    # Writing

    def put_blob(self, data: Bytes) -> bytes:
        """Keep ``data``; returns its blob root."""
        root = root_of(data, threads_here())
        if not self._holds(root, len(data)):
            self._write(self._path("blobs", root), data)
        return root

    def put_parts(self, parts: Sequence[Bytes]) -> bytes:
        """Keep ``parts``, one behind the other, as one blob; returns its root. For a folder they are not joined in memory."""
        if not self._local:
            return self.put_blob(b"".join(parts))
        temporary = Path(self._base) / "blobs" / f".{uuid4().hex}{TEMPORARY}"
        try:
            write_file(temporary, parts)
            data = map_file(temporary)
            root = root_of(data, threads_here())
            if not self._holds(root, len(data)):
                move_file(temporary, Path(self._path("blobs", root)))
        except OSError as error:
            raise unwritable(self.location, error) from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return root

    def keep_only(self, roots: Collection[bytes]) -> None:
        """Remove all blobs but these, and what was left half-written. Nobody else may be writing. What cannot be removed stays."""
        kept = {self._path("blobs", root) for root in roots}
        try:
            for path in self._fs.find(f"{self._base}/blobs"):
                if str(path) not in kept:
                    self._fs.rm_file(path)
        except OSError as error:
            log.warning("old blobs in %s cannot be removed: %s", self.location, error.strerror or error)

    def put_digests(self, leaves: Sequence[bytes]) -> bytes:
        """Keep the leaves of a digest tree; returns its root."""
        root = Tree(leaves).root
        self._put(self._path("digests", root, f".{len(leaves)}"), b"".join(leaves))
        return root

    def put_program(self, program: Program) -> bytes:
        """Keep a program; returns its root."""
        self._put(self._path("programs", program.root), program.encode())
        return program.root

    # Reading

    def get_blob(self, root: bytes, size: int | None = None) -> bytes:
        """The bytes under ``root``. Raises UnavailableError when absent, VerificationError when damaged or not ``size`` long."""
        path = self._path("blobs", root)
        if size is not None and (found := self._size(path)) != size:
            raise VerificationError(f"blob {root.hex()} has {found} bytes in the store at {self.location}, but {size} are expected")
        data = self._read(path)
        verified_blob(data, root)
        return data

    def map_blob(self, root: bytes, size: int | None = None) -> Bytes:
        """As ``get_blob``, but a folder's blob is mapped, read-only, and need not fit into memory (trainer.files.map_file)."""
        if not self._local:
            return self.get_blob(root, size)
        data = self._mapped(Path(self._path("blobs", root)))
        found = root_of(data, threads_here()) if self._known is None else self._known.roots_of([data])[0]
        if found != root or len(data) != (len(data) if size is None else size):
            raise VerificationError(f"blob {root.hex()} in the store at {self.location} is damaged")
        return data

    def local_blob(self, root: bytes) -> Path:
        """The file of a folder's blob, hashed now. Raises as ``get_blob``."""
        path = Path(self._path("blobs", root))
        verified_blob(self._mapped(path), root)
        return path

    def get_digests(self, root: bytes, count: int) -> list[bytes]:
        """The ``count`` leaves of the digest tree under ``root``. Raises UnavailableError or VerificationError."""
        return verified_digests(self._read(self._path("digests", root, f".{count}")), root, count)

    def get_program(self, root: bytes) -> Program:
        """The program under ``root``. Raises UnavailableError when absent, VerificationError when damaged, NumericsMismatch."""
        return verified_program(self._read(self._path("programs", root)), root)

    def blob_size(self, root: bytes) -> int:
        """The size in bytes of the blob under ``root``. Raises UnavailableError when absent."""
        return self._size(self._path("blobs", root))

    def read_blob(self, root: bytes, start: int, stop: int) -> bytes:
        """Bytes start … stop-1 of a blob, *not* verified: for a service whose clients verify. Raises UnavailableError."""
        return self._read(self._path("blobs", root), start, stop)

    # The file system

    def _path(self, kind: str, root: bytes, suffix: str = "") -> str:
        if len(root) != DIGEST_BYTES:
            raise UsageError(f"a root has {DIGEST_BYTES} bytes, not {len(root)}")
        name = root.hex()
        return f"{self._base}/{kind}/{name[:2]}/{name}{suffix}"

    def _absent(self, path: str) -> UnavailableError:
        kind, _, name = path.removeprefix(f"{self._base}/").split("/")
        return UnavailableError(f"the store at {self.location} holds nothing under {kind}/{name}")

    def _mapped(self, path: Path) -> memoryview:
        try:
            return map_file(path)
        except FileNotFoundError:
            raise self._absent(str(path)) from None
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"the store at {self.location} cannot be read: {error.strerror or error}")

    def _size(self, path: str) -> int:
        try:
            return int(self._fs.info(path)["size"])
        except FileNotFoundError:
            raise self._absent(path) from None
        except OSError as error:
            raise self._unreadable(error) from None

    def _read(self, path: str, start: int | None = None, stop: int | None = None) -> bytes:
        try:
            return bytes(self._fs.cat_file(path, start=start, end=stop))
        except FileNotFoundError:
            raise self._absent(path) from None
        except OSError as error:
            raise self._unreadable(error) from None

    def _holds(self, root: bytes, size: int) -> bool:
        """Whether a blob is there, undamaged."""
        try:
            self.map_blob(root, size)
        except (UnavailableError, VerificationError):
            return False
        return True

    def _put(self, path: str, data: Bytes) -> None:
        """Write unless the same bytes are there."""
        try:
            if self._read(path) == data:
                return
        except UnavailableError:
            pass
        self._write(path, data)

    def _write(self, path: str, data: Bytes) -> None:
        """An object store shows an object whole or not at all; a file needs the rename."""
        if self._local:
            write_atomically(Path(path), data)
            return
        try:
            self._fs.pipe_file(path, bytes(data))
        except OSError as error:
            raise unwritable(self.location, error) from None
