"""The ``[[figure]]`` tables of a sweep: what is asked to be drawn.

[[figure]]
name = "profit"                # its files are called by it
kind = "line"                  # or points, bars, heat, region
title = "Fraud stops to pay as the stake grows"
x = "stake"
y = "attacker_profit"
by = "audit_rate"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, get_args

from bisection.errors import UsageError
from sims.quantities import Scale

__all__ = ["Plot"]

Kind = Literal["line", "points", "bars", "heat", "region"]
KINDS: tuple[str, ...] = get_args(Kind)
SCALES: tuple[str, ...] = get_args(Scale)


@dataclass(frozen=True)
class Plot:
    """A ``[[figure]]`` of a sweep.

    ``line`` draws ``y`` over ``x`` with one line for each value of ``by`` (or for each of several ``y``), ``points`` every run as a
    point with a line through the means, ``bars`` one bar for each value of ``x``, ``heat`` ``z`` as a colour over ``x`` and ``y``,
    ``region`` the same with the part marked where ``z`` is below zero. ``bound`` is a metric that no run's ``y`` may exceed,
    ``expected`` one that ``y`` should equal, such as a closed form.
    ``panels`` draws one panel for each value of a parameter, ``where`` keeps the runs with these values, ``table`` takes ``x``,
    ``y`` and ``z`` from the columns of an outcome's table. ``below`` and ``above`` name the two parts of a region.
    """

    name: str
    x: str
    y: tuple[str, ...]
    kind: Kind = "line"
    z: str = ""
    by: str = ""
    bound: str = ""
    expected: str = ""
    table: str = ""
    panels: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    note: str = ""
    x_label: str = ""
    y_label: str = ""
    z_label: str = ""
    x_unit: str = ""
    y_unit: str = ""
    z_unit: str = ""
    x_scale: Scale | Literal[""] = ""
    y_scale: Scale | Literal[""] = ""
    below: str = ""
    above: str = ""

    @staticmethod
    def of(found: Mapping[str, Any]) -> Plot:
        """The plot that a ``[[figure]]`` describes; raises UsageError with what is wrong and what was expected."""
        name = found.get("name", "")
        if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"a [[figure]] is named {name!r}; expected letters, digits, - and _, since files are called by it")
        if name.lower() == "runs":
            raise UsageError(f"a [[figure]] is named {name!r}; expected another name, since runs.csv holds all runs")
        known = {one.name: one for one in fields(Plot)}
        for key, value in found.items():
            if key not in known:
                near = get_close_matches(key, known, 1)
                raise UsageError(f"figure {name}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
            if key == "where":
                right = isinstance(value, Mapping)
            elif key == "y":
                right = isinstance(value, str) or (
                    isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(one, str) for one in value)
                )
            else:
                right = isinstance(value, str)
            if not right:
                raise UsageError(f"figure {name}: {key} = {value!r}; expected {'a table' if key == 'where' else 'a string'}")
        for key, choices in (("kind", KINDS), ("x_scale", SCALES), ("y_scale", SCALES)):
            if found.get(key, choices[0]) not in choices:
                raise UsageError(f"figure {name}: {key} = {found[key]!r}; expected one of {', '.join(choices)}")
        needed = ("x", "y", "z") if found.get("kind") in ("heat", "region") else ("x", "y")
        for key in needed:
            if not found.get(key):
                raise UsageError(f"figure {name}: {key} is missing; expected the name of a parameter or metric")
        y = (found["y"],) if isinstance(found["y"], str) else tuple(found["y"])
        if len(y) > 1 and (found.get("by") or found.get("z")):
            raise UsageError(f"figure {name}: several y with by or z; expected one of them")
        return Plot(**{**found, "y": y})

    @property
    def heading(self) -> str:
        """What stands above it."""
        return self.title or self.name.replace("_", " ").replace("-", " ").capitalize()

    @property
    def is_map(self) -> bool:
        """Whether it has two axes and a colour."""
        return self.kind in ("heat", "region")

    def names(self) -> tuple[str, ...]:
        """The parameters, metrics and columns that it needs."""
        return tuple(
            name for name in (self.x, *self.y, self.z, self.by, self.bound, self.expected, self.panels, *self.where) if name
        )
