"""Settings of a command: flag before environment (``REFSTEP_*``) before TOML file before default.

A command declares a frozen dataclass whose fields are its settings; ``setting`` gives a field its help text. Values are str, int, float,
bool or Path, perhaps None.
"""

from __future__ import annotations

import os
import tomllib
import types
import typing
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from bisection.errors import UsageError

__all__ = ["ChainSettings", "KeySettings", "add_flags", "printable", "resolve", "setting"]

S = TypeVar("S")


def setting(help_text: str, default: Any = MISSING) -> Any:
    """A dataclass field with its help text; without a default it must be given."""
    return field(default=default, metadata={"help": help_text}, kw_only=True)


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


def _value_type(spec: Field[Any], hints: Mapping[str, Any]) -> type:
    hint = hints[spec.name]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    assert isinstance(hint, type)
    return hint


def add_flags(parser: ArgumentParser, cls: type[Any]) -> None:
    """Give ``parser`` a flag for each setting of ``cls``, ``--config FILE`` and ``--print-config``."""
    hints = typing.get_type_hints(cls)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with any of the settings below")
    parser.add_argument("--print-config", action="store_true", help="print the settings in force, and stop")
    for spec in fields(cls):
        flag, kind = "--" + spec.name.replace("_", "-"), _value_type(spec, hints)
        text = spec.metadata["help"] + ("" if spec.default in (MISSING, None) else f" (default: {spec.default})")
        if kind is bool:
            parser.add_argument(flag, default=None, action=BooleanOptionalAction, help=spec.metadata["help"])
        else:
            parser.add_argument(flag, default=None, metavar=kind.__name__.upper(), help=text.replace("%", "%%"))


def _converted(value: Any, kind: type, name: str, origin: str) -> Any:
    try:
        if kind is bool:
            if isinstance(value, str):
                return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[value.lower()]
            if not isinstance(value, bool):
                raise ValueError
            return value
        if isinstance(value, bool) or (kind in (str, Path) and not isinstance(value, str | Path)):
            raise ValueError
        return kind(value)
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{origin}: {name} must be a {kind.__name__}, not {value!r}") from None


def resolve(cls: type[S], arguments: Namespace, environment: Mapping[str, str] = os.environ) -> S:
    """The settings in force. Raises UsageError for an unknown, missing or malformed one, naming it and where it came from."""
    hints = typing.get_type_hints(cls)
    specs = {spec.name: spec for spec in fields(cls)}  # type: ignore[arg-type]
    table: dict[str, Any] = {}
    path: Path | None = arguments.config
    if path is not None:
        try:
            table = tomllib.loads(path.read_text())
        except OSError as error:
            raise UsageError(f"cannot read the configuration file {path}: {error.strerror}") from None
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"the configuration file {path} is no valid TOML: {error}") from None
        unknown = sorted(set(table) - set(specs))
        if unknown:
            raise UsageError(f"{path}: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(specs))}")
    values: dict[str, Any] = {}
    for name, spec in specs.items():
        kind, variable = _value_type(spec, hints), "REFSTEP_" + name.upper()
        flag = getattr(arguments, name)
        if flag is not None:
            values[name] = _converted(flag, kind, name, "--" + name.replace("_", "-"))
        elif variable in environment:
            values[name] = _converted(environment[variable], kind, name, variable)
        elif name in table:
            values[name] = _converted(table[name], kind, name, str(path))
        elif spec.default is MISSING:
            raise UsageError(f"{name} is not set: give --{name.replace('_', '-')}, {variable}, or {name} in a TOML file (--config)")
    return cls(**values)


def printable(settings: Any) -> str:
    """Settings as TOML. Keys and passwords are never among them, only the files that hold them."""
    lines = []
    for spec in fields(settings):
        value = getattr(settings, spec.name)
        if value is None:
            lines.append(f"# {spec.name} is not set")
        elif isinstance(value, bool):
            lines.append(f"{spec.name} = {str(value).lower()}")
        elif isinstance(value, int | float):
            lines.append(f"{spec.name} = {value}")
        else:
            escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{spec.name} = "{escaped}"')
    return "\n".join(lines)
