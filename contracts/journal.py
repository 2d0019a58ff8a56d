"""A record of every signed transaction, written before anybody else can see it, and of the salts of commitments.

A node that is killed at any moment finds here what it had signed. It broadcasts the same bytes again instead of signing others, and
answers no *place* twice: a place is what a transaction answers, such as one state of one game. The record is an SQLite database
that one process holds at a time. It knows no contract and asks no chain.

A record belongs to an account on one chain, told by its id and first block, so that a development chain that is started anew
meets none of the old ones.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

from bisection.errors import TransactionFailed, UnavailableError, UsageError

__all__ = ["Entry", "Journal", "State"]

OWNER_ONLY = 0o600
APPLICATION = 0x52656673  # what SQLite keeps in the file's header to tell whose it is: "Refs"
VERSION = 1
SALT_BYTES = 32
SCHEMA = """
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    chain_id INTEGER NOT NULL,
    genesis BLOB NOT NULL,
    nonce INTEGER NOT NULL,
    place TEXT,
    name TEXT NOT NULL,
    recipient TEXT,
    digest BLOB NOT NULL,
    hash BLOB NOT NULL,
    raw BLOB NOT NULL,
    state TEXT NOT NULL,
    block INTEGER,
    time REAL NOT NULL
) STRICT;
CREATE INDEX entries_by_nonce ON entries (account, nonce);
CREATE INDEX entries_by_place ON entries (place);
CREATE INDEX entries_by_state ON entries (state);
CREATE TABLE salts (name TEXT PRIMARY KEY, salt BLOB NOT NULL) STRICT;
"""
FIELDS = "nonce, place, name, recipient, digest, hash, raw, state, block, time"


class State(StrEnum):
    """What became of a signed transaction. The first two bind: the place that it answers is answered."""

    SENT = "sent"
    MINED = "mined"
    FAILED = "failed"  # mined, but reverted: it changed nothing
    REPLACED = "replaced"  # another one with the same nonce has its state
    DROPPED = "dropped"  # refused by the node, or its nonce went to a transaction that is not in the record


@dataclass(frozen=True)
class Entry:
    """One signed transaction.

    place      what it answers, if that may be answered only once
    digest     of its recipient, input and value: the same for all transactions that do the same
    hash, raw  the transaction itself
    block      where it was mined
    time       when it was signed, in seconds since 1970
    """

    nonce: int
    place: str | None
    name: str
    recipient: str | None
    digest: bytes
    hash: bytes
    raw: bytes
    state: str = State.SENT
    block: int | None = None
    time: float = 0.0


class Journal:
    """The record at ``path``, which is made where there is none, held by this process alone until ``close``.

    Raises UsageError when another process holds it, or when the file is damaged or something else: then nothing in it is touched.
    Every method raises UnavailableError when the file cannot be read or written. Any thread may call.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._scope: tuple[str, int, bytes] | None = None
        self._database = _open(path)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    # Transactions

    def enter(self, account: str, chain_id: int, genesis: bytes) -> None:
        """Say whose transactions, and on which chain, all other calls are about. ``genesis`` is the hash of its first block."""
        self._scope = (account, chain_id, genesis)

    def record(self, entry: Entry) -> None:
        """Write down what is about to be broadcast. It replaces what was sent with the same nonce.

        Raises TransactionFailed when its place is answered already, in another way or with another nonce.
        """
        with self._writing() as database:
            for known in self._select("place = ? AND state IN ('sent', 'mined')", entry.place):
                if (known.digest, known.nonce) != (entry.digest, entry.nonce):
                    raise TransactionFailed(contradiction(known, entry.name))
            database.execute(
                "UPDATE entries SET state = ? WHERE account = ? AND chain_id = ? AND genesis = ? AND nonce = ? AND state = ?",
                (State.REPLACED, *self._owner, entry.nonce, State.SENT),
            )
            row = (*self._owner, entry.nonce, entry.place, entry.name, entry.recipient, entry.digest, entry.hash, entry.raw)
            database.execute(
                f"INSERT INTO entries (account, chain_id, genesis, {FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, entry.state, entry.block, time.time()),
            )

    def settle(self, nonce: int, transaction: bytes, state: State, block: int | None = None) -> None:
        """Note what became of the transaction with this hash; the others that were sent with its nonce are replaced."""
        with self._writing() as database:
            mine = (*self._owner, nonce)
            database.execute(
                "UPDATE entries SET state = ? WHERE account = ? AND chain_id = ? AND genesis = ? AND nonce = ? "
                "AND state IN ('sent', 'mined')",
                (State.REPLACED, *mine),
            )
            database.execute(
                "UPDATE entries SET state = ?, block = ? WHERE account = ? AND chain_id = ? AND genesis = ? AND nonce = ? "
                "AND hash = ?",
                (state, block, *mine, transaction),
            )

    def sent(self) -> list[Entry]:
        """The transactions whose end is not known, by nonce; of several with the same nonce the last."""
        return self._select("state = 'sent' AND ?", True)

    def mined(self, least: int) -> list[Entry]:
        """The mined transactions with a nonce of at least ``least``, by nonce."""
        return self._select("state = 'mined' AND nonce >= ?", least)

    def answer(self, place: str) -> Entry | None:
        """What answers a place."""
        return next(iter(self._select("place = ? AND state IN ('sent', 'mined')", place)), None)

    def versions(self, entry: Entry) -> list[Entry]:
        """All transactions that did the same with the same nonce, for other fees, in the order in which they were signed."""
        return [one for one in self._select("nonce = ? AND state != 'dropped'", entry.nonce) if one.digest == entry.digest]

    # Salts

    def salt(self, name: str) -> bytes:
        """The 32 random bytes of this name: drawn and written down when they are first asked for, and the same ever after."""
        with self._writing() as database:
            database.execute("INSERT OR IGNORE INTO salts VALUES (?, ?)", (name, secrets.token_bytes(SALT_BYTES)))
            (row,) = database.execute("SELECT salt FROM salts WHERE name = ?", (name,))
        return bytes(row[0])

    def has_salt(self, name: str) -> bool:
        """Whether a salt of this name has been drawn."""
        with self._reading() as database:
            return database.execute("SELECT 1 FROM salts WHERE name = ?", (name,)).fetchone() is not None

    def forget_salt(self, name: str) -> None:
        """Have the next salt of this name be another one."""
        with self._writing() as database:
            database.execute("DELETE FROM salts WHERE name = ?", (name,))

    # The database

    @property
    def _owner(self) -> tuple[str, int, bytes]:
        assert self._scope is not None, "enter() says whose the record is"
        return self._scope

    def _select(self, condition: str, value: Any) -> list[Entry]:
        with self._reading() as database:
            rows = database.execute(
                f"SELECT {FIELDS} FROM entries WHERE account = ? AND chain_id = ? AND genesis = ? AND {condition} "
                "ORDER BY nonce, number",
                (*self._owner, value),
            ).fetchall()
        return [Entry(*row) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                raise UnavailableError(f"the journal {self.path} cannot be used ({error}); nothing is sent until it can") from None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the context ends, or not at all."""
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise


def contradiction(known: Entry, name: str) -> str:
    """Why a place that ``known`` answers is not answered by a call of this name."""
    return (
        f"{name}: refused, because {known.place} is answered already, by {known.name} in transaction 0x{known.hash.hex()}; "
        "nothing is answered twice"
    )


def _open(path: Path) -> sqlite3.Connection:
    try:
        # SQLite would make the file for everybody to read, and gives the files beside it the same mode.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY))
        database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    except OSError as error:
        raise UsageError(f"the journal {path} cannot be made: {error.strerror}") from None
    except sqlite3.Error as error:
        raise UsageError(f"the journal {path} cannot be opened: {error}") from None
    try:
        _claim(database, path)
    except sqlite3.Error as error:
        database.close()
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise UsageError(f"another process uses the journal {path}: stop it, or choose another folder") from None
        raise UsageError(
            f"{path} is no journal, or a damaged one ({' '.join(str(error).split())}). It says what must not be signed twice: "
            "restore it, or move it away once no transaction of its account is pending"
        ) from None
    except BaseException:
        database.close()
        raise
    return database


def _claim(database: sqlite3.Connection, path: Path) -> None:
    """Lock the file for good, see whose it is before anything is written, and make the tables in a fresh one."""
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("BEGIN EXCLUSIVE")
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        for statement in SCHEMA.strip().split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {VERSION}")
    elif application != APPLICATION:
        raise UsageError(f"{path} is a database of something else; choose another folder")
    elif version != VERSION:
        raise UsageError(f"the journal {path} has format {version}, this build writes format {VERSION}; use the build that made it")
    elif (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(found)
    database.execute("COMMIT")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    path.chmod(OWNER_ONLY)
