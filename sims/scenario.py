"""A scenario: what is simulated, with which parameters and seed. TOML in, results out.

kind = "economy.fraud"         # what is simulated: `refstep sims list` names the kinds
title = "Does fraud pay if one segment in ten is replayed?"
attack = 29                    # optional: its number in docs/attacks.md
seed = 0                       # optional
[parameters]                   # optional: those left out have their defaults
audit_rate = 0.1
"""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bisection.errors import UsageError
from sims.documents import Document, Where
from sims.kinds import Kind, kind_named, kinds, nearest
from sims.parameters import BadParameter, build, parameters_of, quoted, values_of, written
from sims.result import Outcome, Result

__all__ = ["LARGEST_SEED", "Scenario", "add_parameters", "is_file", "kind_at", "names", "seed_at"]

FOLDER = Path(__file__).parent / "scenarios"
KEYS = ("kind", "title", "attack", "seed", "parameters")
LISTED = "refstep sims list names them"
LARGEST_SEED = 2**53 - 1  # so that every reader of JSON has it exactly
WIDTH = 110


@dataclass(frozen=True)
class Scenario:
    """What is simulated. ``name`` is its file's stem; ``parameters`` is an instance of ``kind.parameters``."""

    name: str
    kind: Kind
    title: str
    parameters: Any
    seed: int = 0
    attack: int | None = None

    @classmethod
    def load(cls, path: Path) -> Scenario:
        """The scenario in a file. Raises UsageError: ``FILE:LINE: what was found; what was expected``."""
        return cls._of(Document.load(path), path.stem)

    @classmethod
    def named(cls, name: str) -> Scenario:
        """The scenario that Refstep ships under this name, or the kind of this name with its defaults. Raises UsageError."""
        if name in names():
            return cls.load(FOLDER / f"{name}.toml")
        if name.partition(".")[2]:
            kind = kind_named(name)
            return cls(name, kind, kind.summary, kind.parameters())
        raise UsageError(f"there is no scenario {name!r}{nearest(name, [*names(), *kinds()], LISTED)}")

    @classmethod
    def found(cls, name_or_file: str) -> Scenario:
        """The scenario in a file if that is what is named, else the one of this name. Raises UsageError."""
        return cls.load(Path(name_or_file)) if is_file(name_or_file) else cls.named(name_or_file)

    @classmethod
    def from_toml(cls, text: str, name: str) -> Scenario:
        """The scenario that ``text`` describes. Raises UsageError."""
        return cls._of(Document.parse(text, name), name)

    @classmethod
    def _of(cls, document: Document, name: str) -> Scenario:
        if "vary" in document.table:
            document.refuse(("vary",), "a sweep; expected a scenario, or refstep sims sweep to run it")
        document.only(KEYS)
        kind = kind_at(document)
        attack = document.get(("attack",), int)
        if attack is not None and attack < 1:
            document.refuse(("attack",), f"attack = {attack}; expected a number in docs/attacks.md")
        title = document.need(("title",), str)
        return cls(name, kind, title, add_parameters(document, kind), seed_at(document), attack)

    def to_toml(self) -> str:
        """The scenario with all its parameters, each with what it means; ``from_toml`` reads it."""
        lines = [f"kind = {quoted(self.kind.name)}", f"title = {quoted(self.title)}"]
        lines += [] if self.attack is None else [f"attack = {self.attack}"]
        lines += [f"seed = {self.seed}", "", "[parameters]"]
        values = values_of(self.parameters)
        for name, parameter in parameters_of(self.kind.parameters).items():
            unit = f" [{parameter.unit}]" if parameter.unit else ""
            said = f"{parameter.help}{unit}; {parameter.expected}" if parameter.help else f"{parameter.expected}{unit}"
            lines += textwrap.wrap(said, WIDTH, initial_indent="# ", subsequent_indent="# ")
            lines += [f"{name} = {written(values[name])}"]
        return "\n".join(lines) + "\n"

    def changed(self, changes: Mapping[str, Any], origin: str = "parameters") -> Scenario:
        """The scenario with some parameters changed. Raises UsageError, naming the origin of the change."""
        try:
            return replace(self, parameters=build(self.kind.parameters, {**values_of(self.parameters), **changes}))
        except BadParameter as error:
            raise UsageError(f"{origin}: {error}") from None

    def set(self, assignments: list[str]) -> Scenario:
        """The scenario with parameters changed as a command line says: ``key=value``, the value as in TOML or a bare text."""
        scenario = self
        for assignment in assignments:
            key, equals, value = assignment.partition("=")
            if not equals:
                raise UsageError(f"--set {assignment}: expected key=value")
            scenario = scenario.changed({key.strip(): _assigned(value)}, f"--set {assignment}")
        return scenario

    def run(self, seed: int | None = None) -> Result:
        """Simulate it. Equal scenarios and seeds give equal results."""
        used = self.seed if seed is None else seed
        return self.result(used, self.kind.run(self.parameters, used))

    def result(self, seed: int, outcome: Outcome) -> Result:
        """What was found with this seed, with all that is needed to repeat it."""
        return Result(self.name, self.kind.name, seed, values_of(self.parameters), outcome.metrics, outcome.tables)


def names() -> tuple[str, ...]:
    """The scenarios that Refstep ships, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def is_file(name_or_file: str) -> bool:
    """Whether this is meant as a file, not as the name of something that Refstep ships."""
    return name_or_file.endswith(".toml") or "/" in name_or_file or "\\" in name_or_file


def kind_at(document: Document) -> Kind:
    """The kind that a document names. Raises UsageError."""
    name = document.need(("kind",), str)
    try:
        return kind_named(name)
    except UsageError as error:
        document.refuse(("kind",), str(error))


def seed_at(document: Document) -> int:
    """The seed that a document names, by default 0. Raises UsageError."""
    seed: int = document.get(("seed",), int, 0)
    if not 0 <= seed <= LARGEST_SEED:
        document.refuse(("seed",), f"seed = {seed}; expected a whole number from 0 to {LARGEST_SEED}")
    return seed


def add_parameters(document: Document, kind: Kind, base: Any = None) -> Any:
    """The parameters in a document's table ``parameters``, the others as in ``base`` or as ``kind`` has them. Raises UsageError."""
    where: Where = ("parameters",)
    given = document.get(where, dict, {})
    try:
        return build(kind.parameters, ({} if base is None else values_of(base)) | given)
    except BadParameter as error:
        document.refuse((*where, error.name) if error.name else where, str(error))


def _assigned(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except ValueError:
        return text.strip()
    return table["value"] if len(table) == 1 else text
