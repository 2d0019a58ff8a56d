"""Values as the ABI has them, and as Python has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast, get_origin, get_type_hints

from eth_typing import ChecksumAddress
from web3 import Web3

__all__ = ["build", "plain"]

T = TypeVar("T")


def plain(value: Any) -> Any:
    """``value`` as the ABI encoder takes it: dataclasses as tuples, sequences as lists, enumerations as integers."""
    if is_dataclass(value):
        return tuple(plain(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def build(kind: type[T], value: Any) -> T:
    """``value`` from the ABI decoder as a ``kind``: a dataclass (from a tuple or mapping), enumeration, address, bytes or tuple."""
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        values = [value[name] for name in names] if isinstance(value, Mapping) else value
        hints = _hints(kind)
        return kind(**{name: build(hints[name], item) for name, item in zip(names, values, strict=True)})
    if kind is ChecksumAddress:
        return cast(T, Web3.to_checksum_address(value))
    if get_origin(kind) is tuple:
        return cast(T, tuple(value))
    if isinstance(kind, type) and issubclass(kind, Enum | bytes):
        return kind(value)
    return value  # type: ignore[no-any-return]
