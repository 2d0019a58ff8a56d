"""Settings of a command: flag before environment (``REFSTEP_*``) before TOML file before default.

A command declares a frozen dataclass whose fields are its settings; ``setting`` gives a field its help text. What types a setting
can have, and how each is read and written, is the table ``KINDS``; any of them can be None as well.
"""

from __future__ import annotations

import math
import os
import tomllib
import types
import typing
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from pathlib import Path
from typing import Any, TypeVar

from bisection.errors import UsageError

__all__ = ["ETHER", "ChainSettings", "KeySettings", "Wei", "add_flags", "format_ether", "gather", "printable", "resolve", "setting"]

S = TypeVar("S")
ETHER = 10**18
EXACT = Context(prec=100, traps=[InvalidOperation, Overflow, Inexact])


def setting(help_text: str, default: Any = MISSING, *, least: float | None = None) -> Any:
    """A dataclass field with its help text; without a default it must be given. Values below ``least`` are refused."""
    return field(default=default, metadata={"help": help_text, "least": least}, kw_only=True)


class Wei(int):
    """An amount of money in wei, which people write in ether."""


def format_ether(amount: int) -> str:
    """An amount in wei as ether, without trailing zeros."""
    whole, rest = divmod(amount, ETHER)
    return f"{whole}.{rest:018}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class ChainSettings:
    """Which chain, and which contracts on it."""

    rpc_url: str = setting("the Ethereum node's JSON-RPC address", "http://127.0.0.1:8545")
    chain_id: int | None = setting("refuse any chain but this; default: the one in the address book", None)
    contracts: Path = setting("the address book that `refstep chain deploy` wrote", Path("refstep-contracts.json"))


@dataclass(frozen=True)
class KeySettings:
    """Whose key signs."""

    keystore: Path = setting("an encrypted keystore file (make one with `refstep key new`)")
    password_file: Path = setting("a file that holds the keystore's password")


# The types of settings --------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _ether(value: Any) -> Wei:
    if isinstance(value, bool):
        raise TypeError
    amount = EXACT.multiply(EXACT.create_decimal(str(value)), Decimal(ETHER))
    if not amount.is_finite() or not 0 <= amount < 2**256 or amount != amount.to_integral_value():
        raise ValueError
    return Wei(amount)


def _switch(value: Any) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


@dataclass(frozen=True)
class Kind:
    """A type of setting: what it is called, how a flag, variable or TOML value is read, and how TOML writes it."""

    noun: str
    metavar: str
    read: Callable[[Any], Any]
    write: Callable[[Any], str]


def _quoted(value: Any) -> str:
    escapes = {"\\": "\\\\", '"': '\\"'}
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in str(value)) + '"'


def _bare(written: str) -> str:
    return written.strip('"')


KINDS: dict[type, Kind] = {
    str: Kind("a text", "TEXT", _text, _quoted),
    int: Kind("a whole number", "N", _whole, str),
    float: Kind("a number", "NUMBER", _number, repr),
    bool: Kind("true or false", "true|false", _switch, lambda value: str(value).lower()),
    Path: Kind("a path", "PATH", lambda value: Path(_text(value)).expanduser(), _quoted),
    Wei: Kind("an amount of ether such as 0.5", "ETHER", _ether, lambda value: _quoted(format_ether(value))),
}


@dataclass(frozen=True)
class Spec:
    """One setting of a command."""

    name: str
    kind: Kind
    help: str
    default: Any
    least: float | None

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its variable in the environment."""
        return "REFSTEP_" + self.name.upper()

    def read(self, value: Any, origin: str) -> Any:
        """``value`` in the setting's type. Raises UsageError, naming where it came from."""
        try:
            found = self.kind.read(value)
            if self.least is not None and found < self.least:
                raise ValueError
        except (ValueError, KeyError, TypeError, ArithmeticError):
            bound = "" if self.least is None else f", {_bare(self.kind.write(self.least))} or more"
            raise UsageError(f"{origin}: {self.name} must be {self.kind.noun}{bound}, not {value!r}") from None
        return found


def _specs(cls: type[Any]) -> list[Spec]:
    hints = typing.get_type_hints(cls)
    return [
        Spec(spec.name, KINDS[_type(hints[spec.name])], spec.metadata["help"], spec.default, spec.metadata["least"])
        for spec in fields(cls)
    ]


def _type(hint: Any) -> type:
    if isinstance(hint, types.UnionType):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    assert isinstance(hint, type)
    return hint


# Where they come from ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """A setting's value, and whether a flag, a variable, a file or the default gave it."""

    value: Any
    origin: str


def add_flags(parser: ArgumentParser, cls: type[Any]) -> None:
    """Give ``parser`` a flag for each setting of ``cls``, ``--config FILE`` and ``--print-config``."""
    parser.add_argument("--config", metavar="FILE", help="a TOML file with any of the settings below (or REFSTEP_CONFIG)")
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings in force and where they come from, and stop"
    )
    for spec in _specs(cls):
        known = "" if spec.default in (MISSING, None) else f" (default: {_bare(spec.kind.write(spec.default))})"
        text = "required: " + spec.help if spec.default is MISSING else spec.help + known
        parser.add_argument(spec.flag, metavar=spec.kind.metavar, help=text.replace("%", "%%"))


def gather(cls: type[Any], arguments: Namespace, environment: Mapping[str, str] = os.environ) -> dict[str, Given]:
    """The settings that are given, by name; those that still have to be are absent.

    A variable that is set to nothing counts as not set. Raises UsageError for an unknown or malformed setting.
    """
    specs = _specs(cls)
    path = arguments.config or environment.get("REFSTEP_CONFIG")
    table = _table(Path(path), specs) if path else {}
    given = {}
    for spec in specs:
        places = (
            (getattr(arguments, spec.name), spec.flag),
            (environment.get(spec.variable) or None, spec.variable),
            (table.get(spec.name), str(path)),
        )
        found = next((place for place in places if place[0] is not None), None)
        if found is not None:
            given[spec.name] = Given(spec.read(*found), found[1])
        elif spec.default is not MISSING:
            given[spec.name] = Given(spec.default, "default")
    return given


def resolve(cls: type[S], arguments: Namespace, environment: Mapping[str, str] = os.environ) -> S:
    """The settings in force. Raises UsageError for an unknown, malformed or missing one."""
    given = gather(cls, arguments, environment)
    missing = [spec for spec in _specs(cls) if spec.name not in given]
    if missing:
        names, first = " and ".join(spec.name for spec in missing), missing[0]
        raise UsageError(
            f"{names} must be set: by flag ({first.flag}), environment ({first.variable}) or in a TOML file (--config)"
        )
    return cls(**{name: one.value for name, one in given.items()})


def printable(cls: type[Any], given: Mapping[str, Given]) -> str:
    """Settings as TOML. Keys and passwords are never among them, only the files that hold them."""
    lines = []
    for spec in _specs(cls):
        one = given.get(spec.name)
        if one is None:
            lines.append(f"# {spec.name} must be set: {spec.help}")
        elif one.value is None:
            lines.append(f"# {spec.name} is not set: {spec.help}")
        else:
            lines.append(f"{spec.name} = {spec.kind.write(one.value)}  # {one.origin}")
    return "\n".join(lines)


def _table(path: Path, specs: Sequence[Spec]) -> dict[str, Any]:
    """The settings in a TOML file."""
    try:
        table = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise UsageError(f"the configuration file {path} is no valid TOML: {error}") from None
    names = {spec.name for spec in specs}
    if unknown := sorted(set(table) - names):
        raise UsageError(f"{path}: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(names))}")
    return table
