"""A node's folder belongs to one process, one role and one deployment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bisection.errors import UnavailableError, UsageError
from contracts.deploy import AddressBook, Parameters
from trainer.folder import node_folder

BOOK = AddressBook(31337, "0x" + 40 * "1", "0x" + 40 * "2", "0x" + 40 * "3", "0x" + 40 * "4", 1, Parameters())


def test_a_folder_is_made_and_can_be_taken_again_once_it_is_free(tmp_path: Path) -> None:
    for _ in range(2):
        with node_folder(tmp_path / "a" / "b", "trainer", BOOK) as folder:
            assert (folder / "node.json").exists()


def test_a_folder_is_not_shared(tmp_path: Path) -> None:
    # flock tells two openings of a file apart, whether they are of one process or of two.
    with (
        node_folder(tmp_path, "trainer", BOOK),
        pytest.raises(UsageError, match="another process works in"),
        node_folder(tmp_path, "trainer", BOOK),
    ):
        pass


@pytest.mark.parametrize(
    ("role", "book"),
    [("challenger", BOOK), ("trainer", replace(BOOK, chain_id=1)), ("trainer", replace(BOOK, registry="0x" + 40 * "4"))],
)
def test_another_role_or_deployment_gets_another_folder(tmp_path: Path, role: str, book: AddressBook) -> None:
    with node_folder(tmp_path, "trainer", BOOK):
        pass
    before = (tmp_path / "node.json").read_bytes()
    with pytest.raises(UsageError, match="folder of another node"), node_folder(tmp_path, role, book):
        pass
    assert (tmp_path / "node.json").read_bytes() == before


def test_a_damaged_owner_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"), node_folder(tmp_path, "trainer", BOOK):
        pass


def test_a_place_that_cannot_be_written_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot be written to"), node_folder(tmp_path / "file" / "below", "trainer", BOOK):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
