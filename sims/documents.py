"""TOML files that people write: read with the line of whatever is wrong in them, written wholly or not at all."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from bisection.errors import UnavailableError, UsageError
from sims.kinds import nearest
from sims.parameters import written

__all__ = ["Document", "Where", "write_file"]

LARGEST = 1 << 20  # bytes
Where = Sequence[str | int]
"""The keys that lead to a value, and the indices in lists of tables."""

NOUNS = {str: "a text", int: "a whole number", bool: "true or false", dict: "a table", list: "a list"}


@dataclass(frozen=True)
class Document:
    """A TOML document, ``path`` being what it is called in errors."""

    path: str
    text: str
    table: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> Document:
        """The document in a file. Raises UsageError."""
        try:
            if path.stat().st_size > LARGEST:
                raise UsageError(f"{path} is larger than {LARGEST:,} bytes; expected a TOML file")
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise UsageError(f"{path}:{line}: bytes that are no UTF-8; expected a TOML file") from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, path: str) -> Document:
        """The document that ``text`` is. Raises UsageError."""
        text = text.replace("\r\n", "\n")
        try:
            return cls(path, text, tomllib.loads(text))
        except RecursionError:
            raise UsageError(f"{path} is nested too deeply; expected a TOML file") from None
        except ValueError as error:
            found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
            line = int(found[1]) if found and found[1] else text.count("\n") + 1
            what = str(error)[: found.start()] if found else str(error)
            raise UsageError(f"{path}:{line}: {what[:1].lower()}{what[1:]}; expected valid TOML") from None

    def refuse(self, where: Where, message: str) -> NoReturn:
        """Raise UsageError about the value at ``where``, with its line."""
        raise UsageError(f"{self.path}:{self.line(where)}: {message}")

    def line(self, where: Where) -> int:
        """The line, from 1, on which the value at ``where`` begins, or what there is of the way to it.

        Lines from the top that are valid TOML mean what they do in the whole. The value begins below the most of them without it.
        """
        while where and not _holds(self.table, where):
            where = where[:-1]
        if not where:
            return 1
        lines = self.text.split("\n")
        without, within = 0, len(lines)
        while True:
            middle = (without + within) // 2
            tried = [*range(middle, without, -1), *range(middle + 1, within)]
            count, table = next(((n, t) for n in tried if (t := _parsed(lines[:n])) is not None), (0, {}))
            if count == 0:
                return without + 1
            if _holds(table, where):
                within = count
            else:
                without = count

    def only(self, known: Sequence[str], where: Where = ()) -> None:
        """Refuse a key, in the table at ``where``, that is not known."""
        for key in self.at(where):
            if key not in known:
                self.refuse((*where, key), f"unknown key {key!r}{nearest(key, known)}")

    def at(self, where: Where) -> Any:
        """The value at ``where``, None if there is none."""
        value: Any = self.table
        for key in where:
            value = value[key] if _holds(value, (key,)) else None
        return value

    def get(self, where: Where, type_: type[Any], default: Any = None) -> Any:
        """The value at ``where``, of this type, or the default. Raises UsageError."""
        value = self.at(where)
        if value is None:
            return default
        if type(value) is not type_:
            self.refuse(where, f"{where[-1]} = {written(value)}; expected {NOUNS[type_]}")
        return value

    def need(self, where: Where, type_: type[Any]) -> Any:
        """As ``get``, of a value that has to be there."""
        value = self.get(where, type_)
        if value is None:
            self.refuse(where, f"{where[-1]} is missing; expected {NOUNS[type_]}")
        return value


def _holds(table: Any, where: Where) -> bool:
    for key in where:
        there = isinstance(table, list) and key < len(table) if isinstance(key, int) else isinstance(table, dict) and key in table
        if not there:
            return False
        table = table[key]
    return True


def _parsed(lines: Sequence[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("\n".join(lines))
    except ValueError:
        return None


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that it is either wholly there or not at all. Raises UnavailableError when the disk is full or refuses."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
