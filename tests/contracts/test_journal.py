"""The record of what was signed: exclusive, durable, and never contradicted."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import TransactionFailed, UnavailableError, UsageError
from contracts.journal import Entry, Journal, State

TRAINER, CHALLENGER = "0x" + 40 * "1", "0x" + 40 * "2"
CHAIN, GENESIS = 31337, bytes(32)
MOVE = Entry(0, "game 12: answer to aa", "reveal", "0x" + 40 * "7", b"\1" * 32, b"\2" * 32, b"raw")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with opened(path) as journal:
        yield journal


def opened(path: Path) -> Journal:
    journal = Journal(path)
    journal.enter(TRAINER, CHAIN, GENESIS)
    return journal


def other(entry: Entry = MOVE, **changes: object) -> Entry:
    """Another signed transaction: at least its hash differs."""
    return replace(entry, hash=bytes(32), **changes)  # type: ignore[arg-type]


# What is kept


def test_what_was_recorded_is_there_after_a_restart(path: Path) -> None:
    with opened(path) as journal:
        journal.record(MOVE)
    with opened(path) as journal:
        (found,) = journal.sent()
    assert replace(found, time=0.0) == MOVE and found.time > 1_700_000_000


def test_a_transaction_with_higher_fees_replaces_the_first_and_both_stay_known(journal: Journal) -> None:
    journal.record(MOVE)
    dearer = other(raw=b"dearer")
    journal.record(dearer)
    assert [entry.hash for entry in journal.sent()] == [dearer.hash]
    assert [(entry.hash, entry.state) for entry in journal.versions(MOVE)] == [
        (MOVE.hash, State.REPLACED),
        (dearer.hash, State.SENT),
    ]
    journal.settle(0, MOVE.hash, State.MINED, 7)
    assert journal.sent() == []
    assert [(entry.hash, entry.state, entry.block) for entry in journal.versions(MOVE)] == [
        (MOVE.hash, State.MINED, 7),
        (dearer.hash, State.REPLACED, None),
    ]
    assert [entry.hash for entry in journal.mined(0)] == [MOVE.hash] and journal.mined(1) == []


@pytest.mark.parametrize("scope", [(CHALLENGER, CHAIN, GENESIS), (TRAINER, 1, GENESIS), (TRAINER, CHAIN, b"\1" * 32)])
def test_another_account_or_chain_is_not_bound_by_it(journal: Journal, scope: tuple[str, int, bytes]) -> None:
    journal.record(MOVE)
    journal.enter(*scope)
    assert journal.sent() == [] and journal.answer(MOVE.place or "") is None
    journal.record(other(digest=b"\3" * 32))
    journal.settle(0, MOVE.hash, State.DROPPED)
    journal.enter(TRAINER, CHAIN, GENESIS)
    assert [entry.hash for entry in journal.sent()] == [MOVE.hash]


# Places


@pytest.mark.parametrize("state", [State.SENT, State.MINED])
@pytest.mark.parametrize("contradiction", [{"digest": b"\3" * 32, "name": "timeout"}, {"nonce": 1, "name": "reveal"}])
def test_a_place_is_answered_once(journal: Journal, state: State, contradiction: dict[str, object]) -> None:
    journal.record(MOVE)
    journal.settle(0, MOVE.hash, state)
    refused = (
        rf"^{contradiction['name']}: refused, because game 12: answer to aa is answered already, by reveal in transaction 0x0202"
    )
    with pytest.raises(TransactionFailed, match=refused):
        journal.record(other(**contradiction))
    assert [entry.hash for entry in journal.versions(MOVE)] == [MOVE.hash]
    assert journal.answer("game 12: answer to aa") is not None


@pytest.mark.parametrize("state", [State.FAILED, State.DROPPED])
def test_a_place_whose_answer_came_to_nothing_is_free(journal: Journal, state: State) -> None:
    journal.record(MOVE)
    journal.settle(0, MOVE.hash, state)
    assert journal.answer("game 12: answer to aa") is None
    journal.record(other(nonce=1, digest=b"\3" * 32))


def test_other_places_and_none_are_free(journal: Journal) -> None:
    journal.record(MOVE)
    journal.record(other(nonce=1, place="game 12: answer to bb", digest=b"\3" * 32))
    for nonce in (2, 3):
        journal.record(other(nonce=nonce, place=None, digest=bytes([nonce]) * 32))
    assert [entry.nonce for entry in journal.sent()] == [0, 1, 2, 3]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([None, State.MINED, State.FAILED, State.DROPPED]))))
def test_no_history_lets_a_place_have_two_answers(history: list[tuple[int, int, State | None]]) -> None:
    """Of any transactions about three places that do three different things, with each ending in any way."""
    with TemporaryDirectory() as folder, opened(Path(folder) / "journal.sqlite") as journal:
        bound: dict[str, int] = {}
        for nonce, (place, deed, end) in enumerate(history):
            entry = Entry(nonce, f"place {place}", "move", None, bytes([deed]), nonce.to_bytes(32), b"raw")
            if entry.place in bound:
                with pytest.raises(TransactionFailed, match="nothing is answered twice"):
                    journal.record(entry)
                continue
            journal.record(entry)
            if end is not None:
                journal.settle(nonce, entry.hash, end)
            if end in (None, State.MINED):
                bound[f"place {place}"] = deed
        for name, deed in bound.items():
            answer = journal.answer(name)
            assert answer is not None and answer.digest == bytes([deed])


# Salts


def test_a_salt_is_drawn_once_and_survives_a_restart(path: Path) -> None:
    with opened(path) as journal:
        assert not journal.has_salt("job 1")
        salt, another = journal.salt("job 1"), journal.salt("job 2")
        assert len(salt) == 32 and salt != another and journal.has_salt("job 1")
    with opened(path) as journal:
        assert journal.salt("job 1") == salt
        journal.forget_salt("job 1")
        assert journal.salt("job 1") != salt


def test_nobody_else_can_read_it(path: Path) -> None:
    with opened(path) as journal:
        journal.salt("job 1")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    path.chmod(0o644)
    with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# Files that cannot be used

HOLD = """
import pathlib, sys
from contracts.journal import Journal
journal = Journal(pathlib.Path(sys.argv[1]))
print("held", flush=True)
input()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match="another process uses the journal"):
            Journal(path)
        first.kill()
    Journal(path).close()


def test_a_second_journal_in_the_same_process_is_refused(journal: Journal, path: Path) -> None:
    with pytest.raises(UsageError, match="another process uses the journal"):
        Journal(path)
    journal.record(MOVE)


def foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (text)")
    database.close()


def of_a_later_build(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()


def damaged(path: Path) -> None:
    with opened(path) as journal:
        for nonce in range(200):
            journal.record(other(nonce=nonce, place=None))
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.write_text("shopping list\n" * 100), "no journal, or a damaged one"),
        (foreign_database, "database of something else"),
        (of_a_later_build, "has format 2, this build writes format 1"),
        (damaged, "no journal, or a damaged one"),
    ],
)
def test_a_file_that_is_no_journal_is_left_as_it_is(path: Path, spoil: object, complaint: str) -> None:
    spoil(path)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(UsageError, match=complaint) as caught:
        Journal(path)
    assert path.read_bytes() == before and "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be made: No such file or directory"):
        Journal(tmp_path / "nowhere" / "journal.sqlite")


def test_an_empty_file_left_by_a_crash_is_made_a_journal(path: Path) -> None:
    path.touch()
    with opened(path) as journal:
        journal.record(MOVE)


def test_a_full_disk_is_told_and_leaves_what_was_there(journal: Journal, path: Path) -> None:
    journal.record(MOVE)
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UnavailableError, match=r"cannot be used .*full.*; nothing is sent until it can"):
        journal.record(other(nonce=1, place=None, raw=bytes(100_000)))
    assert [entry.hash for entry in journal.sent()] == [MOVE.hash]
    journal._database.execute("PRAGMA max_page_count = 1000000")
    journal.record(other(nonce=1, place=None, raw=bytes(100_000)))
