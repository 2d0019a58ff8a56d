"""A node's folder: one process at a time works in it, always in the same role and for the same deployment."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bisection.errors import UsageError
from contracts.deploy import AddressBook
from trainer.store import unwritable, write_atomically

__all__ = ["node_folder"]


@contextmanager
def node_folder(folder: Path, role: str, book: AddressBook) -> Iterator[Path]:
    """Have ``folder``, which is made where it is not there, for this process alone.

    ``node.json`` says in it whose it is. Raises UsageError when another process has it or when it is another node's,
    UnavailableError when it cannot be written to.
    """
    owner = {"role": role, "chain_id": book.chain_id, "registry": book.registry}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process works in {folder}: stop it, or choose another folder") from None
        _claim(folder / "node.json", owner)
        yield folder
    finally:
        os.close(lock)


def _claim(path: Path, owner: dict[str, object]) -> None:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        write_atomically(path, json.dumps(owner, indent=1).encode())
        return
    except (OSError, ValueError):
        raise UsageError(f"{path} is damaged, so nobody can say whose folder this is: choose another folder") from None
    if found != owner:
        raise UsageError(f"{path.parent} is the folder of another node ({path.name} says which): choose another folder")
