"""The files of one recording: whose it is, its history of state roots, and an index of its checkpoints.

    lock               held with flock while a process records here
    job.json           program root, initial state, data root, first step: written once
    history            C_start, C_start+1, …: 32 bytes each, appended
    checkpoints.json   step → blob root of the safetensors file, digest of the history up to there: replaced atomically
    store/             the checkpoints themselves, content-addressed
    data.json          roots of data that lie in files, by the identity of the file (trainer.files.KnownRoots)

A checkpoint enters the index only after the history before it and its bytes are on the disk, and its bytes are removed only after
it has left the index. So after a kill at any moment the files hold a whole number of checkpoints, and beyond them at worst some
leaves that will be computed again and a file that the next recorder sweeps away.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from bisection.boundary import Array
from bisection.errors import UnavailableError, UsageError
from trainer.files import unwritable, write_atomically
from trainer.kernels.hashing import Bytes
from trainer.store import DIGEST_BYTES, Store
from trainer.tensorfile import read_tensors

__all__ = ["Checkpoint", "Identity", "Recording", "kept"]

log = logging.getLogger(__name__)

NEWEST = 2  # checkpoints that are never thinned out: the last one, and the one before in case that it is damaged


def kept(steps: Iterable[int], start: int, every: int, most: int) -> list[int]:
    """Which of the checkpoints at ``steps`` to keep: at most ``most``, evenly spread, and the newest two.

    The recording is cut into spans of ``every`` · 2^k steps, with the least k that makes at most ``most`` of them; the first
    checkpoint of each span is kept. Spans only ever merge, so what is kept later was kept before, and from any step it is at most
    two spans back to a checkpoint.
    """
    ordered, span = sorted(steps), every
    while ordered and (ordered[-1] - start) // span >= most:
        span *= 2
    firsts = {(step - start) // span: step for step in reversed(ordered)}
    return sorted({*firsts.values(), *ordered[-NEWEST:]})


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose recording it is: roots as hexadecimal, and the number of the first step."""

    program: str
    initial_state: str
    data: str
    start: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved state: the root of its file in the store, and SHA-256 over the history's bytes up to and with that state's leaf."""

    blob: bytes
    history: bytes


class Recording:
    """The recording in ``folder``, which is made when it is not there. Steps are absolute.

    Raises UsageError when another process has the folder or when it belongs to another job, UnavailableError when it cannot be
    read or written.
    """

    def __init__(self, folder: str | Path, identity: Identity) -> None:
        self.folder = Path(folder)
        self.start = identity.start
        self._history = -1
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        try:
            self._take_lock()
            self._claim(identity)
            self.store = Store(self.folder / "store")
            self._history = os.open(self.folder / "history", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._checkpoints = self._read_index()
            self.truncate(os.fstat(self._history).st_size // DIGEST_BYTES)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the folder free."""
        for name in ("_history", "_lock"):
            if (file := getattr(self, name)) >= 0:
                os.close(file)
                setattr(self, name, -1)

    # Ownership

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is recording in {self.folder}: stop it, or choose another folder") from None

    def _claim(self, identity: Identity) -> None:
        path = self.folder / "job.json"
        if not path.exists():
            if (self.folder / "history").exists():
                raise UsageError(f"{self.folder} holds a history but no job.json that says whose: choose another folder")
            write_atomically(path, json.dumps(asdict(identity), indent=1).encode())
            return
        try:
            found = Identity(**json.loads(path.read_bytes()))
        except (ValueError, TypeError):
            raise UsageError(f"{path} is damaged, so nobody can say whose recording this is: choose another folder") from None
        names = {"program": "program", "initial_state": "initial state", "data": "data", "start": "first step"}
        different = [words for field, words in names.items() if getattr(found, field) != getattr(identity, field)]
        if different:
            words = ", ".join(different)
            raise UsageError(f"{self.folder} holds the recording of another job (not the same {words}): choose another folder")

    # History

    @property
    def count(self) -> int:
        """The number of leaves."""
        return self._count

    def append(self, leaf: bytes) -> None:
        """Add the next state's root. Raises UnavailableError, with no part of it written, when the disk refuses."""
        try:
            written = os.pwrite(self._history, leaf, self._count * DIGEST_BYTES)
            if written != DIGEST_BYTES:
                written += os.pwrite(self._history, leaf[written:], self._count * DIGEST_BYTES + written)
        except OSError as error:
            os.ftruncate(self._history, self._count * DIGEST_BYTES)
            raise unwritable(self.folder, error) from None
        self._digest.update(leaf)
        self._count += 1

    def leaves(self, first: int, count: int) -> list[bytes]:
        """The roots of the states before steps first … first+count-1. Raises UnavailableError where they are not recorded (yet)."""
        at = first - self.start
        if at < 0 or at + count > self._count:
            asked, held = f"{first} to {first + count - 1}", f"{self.start} to {self.start + self._count - 1}"
            raise UnavailableError(f"states {asked} are asked for, but {self.folder} holds {held}")
        try:
            data = os.pread(self._history, count * DIGEST_BYTES, at * DIGEST_BYTES)
        except OSError as error:
            raise UnavailableError(f"the history in {self.folder} cannot be read: {error.strerror or error}") from None
        return [data[i : i + DIGEST_BYTES] for i in range(0, len(data), DIGEST_BYTES)]

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` leaves, and no torn one behind them."""
        os.ftruncate(self._history, count * DIGEST_BYTES)
        self._count = count
        self._digest = sha256(os.pread(self._history, count * DIGEST_BYTES, 0))

    def history_digest(self, step: int) -> bytes:
        """SHA-256 over the history up to and with the state before ``step``."""
        return sha256(b"".join(self.leaves(self.start, step - self.start + 1))).digest()

    # Checkpoints

    @property
    def checkpoints(self) -> Mapping[int, Checkpoint]:
        """The checkpoints by step."""
        return self._checkpoints

    def save(self, parts: Sequence[Bytes], every: int, most: int) -> None:
        """Make ``parts``, one behind the other, the checkpoint of the last state, and thin out the older ones (``kept``).

        Raises UnavailableError when the disk refuses; the older ones stay.
        """
        try:
            os.fsync(self._history)
        except OSError as error:
            raise unwritable(self.folder, error) from None
        blob = self.store.put_parts(parts)
        rows = {**self._checkpoints, self.start + self._count - 1: Checkpoint(blob, self._digest.digest())}
        rows = {step: rows[step] for step in kept(rows, self.start, every, most)}
        document: dict[str, Any] = {str(step): {"blob": row.blob.hex(), "history": row.history.hex()} for step, row in rows.items()}
        write_atomically(self.folder / "checkpoints.json", json.dumps(document, indent=0).encode())
        self._checkpoints = rows
        self.sweep()

    def sweep(self) -> None:
        """Remove from the store whatever the index does not name."""
        self.store.keep_only([row.blob for row in self._checkpoints.values()])

    def load(self, step: int) -> dict[str, Array]:
        """The tensors of the checkpoint at ``step``. Raises UnavailableError, VerificationError, SafetensorError, OSError."""
        return read_tensors(self.store.local_blob(self._checkpoints[step].blob))

    def _read_index(self) -> dict[int, Checkpoint]:
        path = self.folder / "checkpoints.json"
        try:
            rows = json.loads(path.read_bytes())
            return {int(step): Checkpoint(bytes.fromhex(row["blob"]), bytes.fromhex(row["history"])) for step, row in rows.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("%s is damaged: recording starts over from the first state", path)
            return {}
