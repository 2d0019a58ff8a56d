"""Keys in encrypted files (the Web3 secret storage format), opened with a password that lies in a file of its own.

A key never appears on a command line, in a message or in a log.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from bisection.errors import KeyfileError

__all__ = ["create_key", "load_key"]

OWNER_ONLY = 0o600


def create_key(path: Path, password_file: Path) -> LocalAccount:
    """A new account, written to ``path`` for its owner alone, encrypted with the password in ``password_file``.

    Raises KeyfileError when there is a file at ``path`` already, when it cannot be written, or when there is no password.
    """
    password = _password(password_file)
    account: LocalAccount = Account.create()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(handle, "w") as out:
            json.dump(account.encrypt(password), out)
    except FileExistsError:
        raise KeyfileError(f"{path} exists already; a key is never overwritten, so choose another name") from None
    except OSError as error:
        raise KeyfileError(f"the key cannot be written to {path}: {error.strerror}") from None
    return account


def load_key(path: Path, password_file: Path) -> LocalAccount:
    """The account whose key lies encrypted at ``path``.

    Raises KeyfileError when a file is missing, is open to others, holds no key, or the password does not open it.
    """
    document = _read(path, "key file")
    if path.stat().st_mode & 0o077:
        raise KeyfileError(f"the key file {path} is open to other users; run: chmod 600 {path}")
    password = _password(password_file)
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(json.loads(document), password))
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise KeyfileError(f"the password in {password_file} does not open {path}") from None
        raise KeyfileError(f"{path} is not an encrypted key file") from None
    except (TypeError, KeyError, AttributeError, NotImplementedError):
        raise KeyfileError(f"{path} is not an encrypted key file") from None
    return account


def _password(path: Path) -> str:
    password = _read(path, "password file").rstrip("\r\n")
    if not password:
        raise KeyfileError(f"the password file {path} is empty")
    return password


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise KeyfileError(f"the {what} {path} is no text file") from None
    except OSError as error:
        raise KeyfileError(f"the {what} {path} cannot be read: {error.strerror}") from None
