"""The kinds of simulation, of both levels: ``economy`` and ``chain``. Each level has its own in ``sims/<level>/kinds.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any

from bisection.errors import UsageError
from sims.result import Outcome

__all__ = ["LEVELS", "Kind", "kind_named", "kinds", "nearest"]

LEVELS = ("economy", "chain")


@dataclass(frozen=True)
class Kind:
    """A simulation that scenarios are of.

    ``name`` begins with its level and a dot. ``parameters`` is a frozen dataclass as sims/parameters.py reads it. ``run`` takes an
    instance of it and a seed, and is a function of a module, so that other processes find it; equal arguments give equal outcomes.
    """

    name: str
    level: str
    parameters: type[Any]
    run: Callable[[Any, int], Outcome]
    summary: str


@cache
def _of_level(level: str) -> dict[str, Kind]:
    listed = import_module(f"sims.{level}.kinds").KINDS
    return {kind.name: kind for kind in (listed.values() if isinstance(listed, dict) else listed)}


def kinds() -> dict[str, Kind]:
    """All kinds, by name."""
    return {name: kind for level in LEVELS for name, kind in _of_level(level).items()}


def kind_named(name: str) -> Kind:
    """The kind of this name, importing only its level. Raises UsageError, naming the nearest."""
    level = name.partition(".")[0]
    known = _of_level(level) if level in LEVELS else kinds()
    if name not in known:
        raise UsageError(f"there is no kind {name!r}{nearest(name, kinds())}")
    return known[name]


def nearest(name: str, known: Any, listed: str = "") -> str:
    """The end of a sentence that says that ``name`` is not among ``known``: the nearest, else how they are ``listed``, or all."""
    names = sorted(known)
    found = get_close_matches(name, names, n=1)
    if found:
        return f"; did you mean {found[0]}?"
    all_of_them = listed or (f"there are {', '.join(names)}" if names else "")
    return f"; {all_of_them}" if all_of_them else ""
