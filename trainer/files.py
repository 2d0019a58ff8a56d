"""Local files: written wholly or not at all, mapped instead of read, and hashed once for as long as they stay the same."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from bisection.errors import UnavailableError
from trainer.kernels.hashing import Bytes, roots_of

__all__ = ["TEMPORARY", "FilePart", "KnownRoots", "file_part", "map_file", "threads_here", "unwritable", "write_atomically"]

log = logging.getLogger(__name__)

TEMPORARY = ".tmp"
"""How the name of a file ends that is not wholly written."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SETTLED_NS = 2_000_000_000  # a file changed later than this before it was read could change again and show the same times
WORTH_KNOWING = 1 << 20  # bytes; hashing fewer is faster than asking which file they are from


def threads_here() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Writing ----------------------------------------------------------------------------------------------------------------


def unwritable(where: Any, error: OSError) -> UnavailableError:
    """The error of a place that cannot be written to, as one sentence."""
    if error.errno in FULL:
        return UnavailableError(f"there is no room left at {where}: free some space and start again; nothing is half-written")
    return UnavailableError(f"{where} cannot be written to: {error.strerror or error}")


def write_atomically(path: Path, *parts: Bytes) -> None:
    """Write a local file so that it is either wholly there, and on the disk, or not at all: ``parts``, one behind the other.

    Raises UnavailableError when the disk is full or refuses.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}{TEMPORARY}")
    try:
        write_file(temporary, parts)
        move_file(temporary, path)
    except OSError as error:
        raise unwritable(path.parent, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_file(path: Path, parts: Sequence[Bytes]) -> None:
    """Write a new file and bring it to the disk. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as file:
        for part in parts:
            rest = memoryview(part).cast("B")
            while rest:
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def move_file(source: Path, target: Path) -> None:
    """Give a file its name, on the disk too. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# Mapping ----------------------------------------------------------------------------------------------------------------


def map_file(path: Path) -> memoryview:
    """A file's bytes, read-only, in memory only as far as they are looked at. Raises OSError.

    They stay what they are when the file is replaced or removed. Whoever shortens it meanwhile ends this process.
    """
    return np.memmap(path, np.uint8, "r").data if path.stat().st_size else memoryview(b"")


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes ``offset`` … of a file as it is now. Two equal ones hold the same bytes, if the file was ``settled``. Times in ns."""

    inode: int
    file_bytes: int
    modified: int
    changed: int
    offset: int
    nbytes: int

    def settled(self, time_ns: int) -> bool:
        """Whether a change after ``time_ns`` would show in the file's times."""
        return max(self.modified, self.changed) < time_ns - SETTLED_NS


def file_part(data: Bytes) -> FilePart | None:
    """Which part of which file ``data`` is. None where it is none that is mapped read-only, or where the system does not tell."""
    array = np.frombuffer(data, np.uint8)
    first, last = array.ctypes.data, array.ctypes.data + array.nbytes
    try:
        with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                span, access, offset, _, inode, *path = line.rstrip("\n").split(maxsplit=5)
                start, end = (int(word, 16) for word in span.split("-"))
                if start <= first and last <= end:
                    if "w" in access or inode == "0" or not path:
                        return None
                    found = Path(path[0]).stat()
                    if found.st_ino != int(inode):
                        return None
                    place = int(offset, 16) + first - start
                    return FilePart(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, place, array.nbytes)
    except OSError:
        pass
    return None


class KnownRoots:
    """Blob roots that are computed once: those of parts of files are remembered in the file ``path``, by the identity of the part.

    A file that was written to, replaced, or looked at too soon after it was changed is hashed again. ``path`` is believed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def roots_of(self, blobs: Sequence[Bytes]) -> list[bytes]:
        """The root of each blob."""
        parts = [file_part(blob) if len(memoryview(blob).cast("B")) >= WORTH_KNOWING else None for blob in blobs]
        known = self._read() if any(parts) else {}
        roots = [None if part is None else known.get(_key(part)) for part in parts]
        unknown, started = [i for i, root in enumerate(roots) if root is None], time.time_ns()
        computed = dict(zip(unknown, roots_of([blobs[i] for i in unknown], threads_here()), strict=True))
        lasting = {i: part for i in unknown if (part := parts[i]) and part.settled(started) and file_part(blobs[i]) == part}
        if lasting:
            self._write({**known, **{_key(part): computed[i] for i, part in lasting.items()}})
        return [computed[i] if root is None else root for i, root in enumerate(roots)]

    def _read(self) -> dict[str, bytes]:
        try:
            known = {key: bytes.fromhex(root) for key, root in json.loads(self._path.read_bytes()).items()}
            if any(len(root) != 32 for root in known.values()):
                raise ValueError("a root has 32 bytes")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError):
            log.warning("%s is damaged: what it knew is computed again", self._path)
            return {}
        return known

    def _write(self, known: Mapping[str, bytes]) -> None:
        document = {key: root.hex() for key, root in known.items()}
        try:
            write_atomically(self._path, json.dumps(document, indent=0).encode())
        except UnavailableError as error:
            log.warning("roots are computed again next time: %s", error)


def _key(part: FilePart) -> str:
    return " ".join(str(number) for number in astuple(part))
