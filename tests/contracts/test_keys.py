"""Keys lie encrypted, for their owner alone, and are never shown."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account

from bisection.errors import KeyfileError
from contracts.keys import create_key, load_key

PASSWORD = "correct horse battery staple"
KEY = b"\1" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a password, and a key of another program that is quicker to open than ours."""
    place = tmp_path_factory.mktemp("keys")
    (place / "password").write_text(f"{PASSWORD}\n")
    (place / "key").write_text(json.dumps(Account.encrypt(KEY, PASSWORD, kdf="pbkdf2", iterations=1_000)))
    (place / "key").chmod(0o600)
    return place


def test_a_created_key_lies_encrypted_for_its_owner_and_can_be_loaded(folder: Path, tmp_path: Path) -> None:
    account = create_key(tmp_path / "key", folder / "password")
    assert load_key(tmp_path / "key", folder / "password") == account
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert account.key.hex() not in (tmp_path / "key").read_text()
    assert account.key.hex() not in repr(account) + str(account)


def test_key_files_of_other_programs_can_be_loaded(folder: Path) -> None:
    assert load_key(folder / "key", folder / "password").key == KEY


def test_a_key_is_never_overwritten(folder: Path) -> None:
    before = (folder / "key").read_bytes()
    with pytest.raises(KeyfileError, match="exists already"):
        create_key(folder / "key", folder / "password")
    assert (folder / "key").read_bytes() == before


def test_another_password_does_not_open_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("incorrect horse")
    with pytest.raises(KeyfileError, match="does not open") as caught:
        load_key(folder / "key", tmp_path / "wrong")
    assert "incorrect horse" not in "".join(traceback.format_exception(caught.value))


def test_a_file_that_is_open_to_others_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "key"
    copy.write_bytes((folder / "key").read_bytes())
    copy.chmod(0o644)
    with pytest.raises(KeyfileError, match="chmod 600"):
        load_key(copy, folder / "password")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"\xff\xfe", b"0x" + b"11" * 32, b'{"version": 3, "crypto": {}}', b'{"version": 9}']
)
def test_a_file_without_an_encrypted_key_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyfileError, match=r"no text file|not an encrypted key file"):
        load_key(path, folder / "password")


@pytest.mark.parametrize("act", [create_key, load_key])
@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_text("\n"), "is empty"),
    ],
)
def test_a_password_comes_from_a_file(
    folder: Path, tmp_path: Path, act: Callable[[Path, Path], object], prepare: Callable[[Path], object], reason: str
) -> None:
    prepare(tmp_path / "password")
    key = tmp_path / "new" if act is create_key else folder / "key"
    with pytest.raises(KeyfileError, match=reason):
        act(key, tmp_path / "password")
    assert not (tmp_path / "new").exists()


def test_missing_places_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyfileError, match=r"key file .*missing cannot be read"):
        load_key(tmp_path / "missing", folder / "password")
    with pytest.raises(KeyfileError, match="cannot be written"):
        create_key(tmp_path / "no" / "folder" / "key", folder / "password")
