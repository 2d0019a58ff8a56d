"""The parameters of a kind: a frozen dataclass whose fields each have a type, a default and metadata.

    @dataclass(frozen=True)
    class Fraud:
        stake: float = field(default=1.0, metadata={"help": "what the trainer stakes", "unit": "bounties", "least": 0})

Types are int, float, bool, str, Literals of text, and tuples of one of these. The metadata are ``help`` and, if needed, ``unit``,
``least`` and ``most`` (of a tuple: of its values). ``__post_init__`` may raise ValueError for values that do not fit each other.
"""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sims.kinds import nearest

__all__ = ["BadParameter", "Parameter", "build", "parameters_of", "values_of"]

_declared: dict[type[Any], Mapping[str, Parameter]] = {}  # what is asked for at every point of a sweep
NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class BadParameter(Exception):
    """A value that a parameter cannot have; ``name`` is the parameter's, or empty if values do not fit each other."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kind. ``type`` is that of each value if there are ``many``, ``length`` how many or None."""

    name: str
    default: Any
    type: type[Any]
    help: str = ""
    unit: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    many: bool = False
    length: int | None = None

    @property
    def expected(self) -> str:
        """What a value has to be, for a person: ``a number from 0 to 1``."""
        each = f"one of {', '.join(map(quoted, self.choices))}" if self.choices else NOUNS[self.type]
        least, most = (None if bound is None else written(bound) for bound in (self.least, self.most))
        if least is not None and most is not None:
            each += f" from {least} to {most}"
        elif least is not None:
            each += f", {least} or more"
        elif most is not None:
            each += f", {most} or less"
        if not self.many:
            return each
        return f"a list, of which each is {each}" if self.length is None else f"a list of {self.length}, of which each is {each}"

    def read(self, value: Any) -> Any:
        """``value`` in the parameter's type: a whole number may stand for a number, a list is a tuple. Raises BadParameter."""
        if not self.many:
            return self._one(value, value)
        if not isinstance(value, list | tuple) or self.length not in (None, len(value)):
            raise self._refused(value)
        return tuple(self._one(one, value) for one in value)

    def _one(self, value: Any, whole: Any) -> Any:
        if self.type is float and type(value) is int and abs(value) < 2**1000:
            value = float(value)
        if type(value) is not self.type or (self.choices and value not in self.choices):
            raise self._refused(whole)
        if self.type in (int, float) and not (
            math.isfinite(value) and (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        ):
            raise self._refused(whole)
        return value

    def _refused(self, value: Any) -> BadParameter:
        return BadParameter(self.name, f"{self.name} = {written(value)}; expected {self.expected}")


def parameters_of(cls: type[Any]) -> Mapping[str, Parameter]:
    """The parameters that a dataclass declares, by name and in order. Raises TypeError for a field of another type."""
    if cls not in _declared:
        hints = typing.get_type_hints(cls)
        _declared[cls] = {spec.name: _parameter(spec.name, hints[spec.name], spec.default, spec.metadata) for spec in fields(cls)}
    return _declared[cls]


def _parameter(name: str, hint: Any, default: Any, metadata: Mapping[str, Any]) -> Parameter:
    one, many, length = hint, False, None
    if typing.get_origin(hint) is tuple:
        arguments = [argument for argument in typing.get_args(hint) if argument is not Ellipsis]
        if len(set(arguments)) != 1:
            raise TypeError(f"{name}: a tuple has values of one type, not {hint}")
        one, many = arguments[0], True
        length = None if Ellipsis in typing.get_args(hint) else len(arguments)
    choices: tuple[str, ...] = ()
    if typing.get_origin(one) is Literal:
        choices, one = typing.get_args(one), str
    if one not in NOUNS or not all(isinstance(choice, str) for choice in choices):
        raise TypeError(f"{name}: a parameter cannot be of type {hint}")
    known = {key: metadata[key] for key in ("help", "unit", "least", "most") if key in metadata}
    return Parameter(name, default, one, choices=choices, many=many, length=length, **known)


def build(cls: type[Any], given: Mapping[str, Any]) -> Any:
    """An instance of ``cls`` with the values that are given, and its defaults. Raises BadParameter, also for an unknown name."""
    known = parameters_of(cls)
    for name in given:
        if name not in known:
            raise BadParameter(name, f"unknown parameter {name!r}{nearest(name, known)}")
    values = {name: known[name].read(value) for name, value in given.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise BadParameter("", str(error)) from None


def values_of(parameters: Any) -> dict[str, Any]:
    """The values of an instance, by name, all of them."""
    return {spec.name: getattr(parameters, spec.name) for spec in fields(parameters)}


def quoted(text: str) -> str:
    """A text as TOML has it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(written, value)) + "]"
    return repr(value) if isinstance(value, float) else str(value)
