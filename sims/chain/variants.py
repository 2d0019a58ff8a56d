"""The protocol with other constants: copies of the sources with another arity and leaf size, in which disputes are played."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from bisection.descent import LEVELS
from bisection.errors import RefstepError
from bisection.merkle import LEAF_BYTES
from sims.chain.kinds import Design, Scaled, scaled
from sims.parameters import written
from sims.result import Outcome

__all__ = ["ROOT", "Variant", "played_in", "sources_of"]

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ("bisection", "contracts", "trainer", "challenger", "sims", "refstep.py")
RUN_BYTES = 8192  # of the longest run that one verdict reads
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Variant:
    """How many descendants a reveal gives, and how many bytes a leaf has. Both are powers of two."""

    arity: int
    leaf_bytes: int

    @property
    def levels(self) -> int:
        """How many levels a reveal goes down."""
        return self.arity.bit_length() - 1

    @property
    def payload(self) -> int:
        """The most bytes that a reveal shows: digests, or a leaf."""
        return max(DIGEST_BYTES * self.arity, self.leaf_bytes)

    def replacements(self) -> Iterator[tuple[str, str, str, int]]:
        """(files, what stands there, what shall stand there, how often at least)."""
        leaf, leaves = self.leaf_bytes, RUN_BYTES // self.leaf_bytes + 1
        contracts = "contracts/**/*.vy*"
        payload = "WIDTH * DIGEST" if self.payload == DIGEST_BYTES * self.arity else str(self.payload)
        yield "bisection/descent.py", r"^LEVELS = \d+", f"LEVELS = {self.levels}", 1
        yield "bisection/merkle.py", r"^LEAF_BYTES = \d+", f"LEAF_BYTES = {leaf}", 1
        yield contracts, r"^LEVELS: constant\(uint256\) = \d+", f"LEVELS: constant(uint256) = {self.levels}", 1
        yield contracts, r"^PAYLOAD: constant\(uint256\) = WIDTH \* DIGEST", f"PAYLOAD: constant(uint256) = {payload}", 1
        yield contracts, r"^LEAF_BYTES: constant\(uint256\) = \d+", f"LEAF_BYTES: constant(uint256) = {leaf}", 1
        yield contracts, r"\bBytes\[256\]", f"Bytes[{leaf}]", 4
        yield contracts, r"\bBytes\[8448\]", f"Bytes[{RUN_BYTES + leaf}]", 1
        yield contracts, r"leaf_digest\(data: Bytes\[2048\]", f"leaf_digest(data: Bytes[{max(2048, self.payload)}]", 1
        yield contracts, r"\bBytes\[8480\]", f"Bytes[{RUN_BYTES + leaf + 32}]", 2
        yield contracts, r"\bDynArray\[bytes32, 33\]", f"DynArray[bytes32, {leaves}]", 3
        yield contracts, r"\bbound=33\)", f"bound={leaves})", 1
        yield contracts, r"\bbound=17\)", f"bound={(leaves + 1) // 2})", 1


@contextmanager
def sources_of(variant: Variant) -> Iterator[Path]:
    """A folder with the sources of a variant. Raises RefstepError where a constant is not found as it is expected."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, copy / name)
        for files, pattern, replacement, least in variant.replacements():
            found = 0
            for path in sorted(copy.glob(files)):
                text, times = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
                found += times
                path.write_text(text, encoding="utf-8")
            if found < least:
                raise RefstepError(f"{pattern!r} stands {found} times in {files}; at least {least} were expected")
        yield copy


def played_in(p: Design, seed: int) -> Outcome:
    """Play a dispute at a size on a variant, in a process of its own. Raises RefstepError where that fails."""
    variant = Variant(p.arity, p.leaf_bytes)
    values = {field.name: getattr(p, field.name) for field in fields(Scaled)}
    if variant == Variant(1 << LEVELS, LEAF_BYTES):
        return Outcome(scaled(Scaled(**values), seed).metrics)
    with sources_of(variant) as folder:
        lines = ['kind = "chain.scale"', 'title = "A variant"', f"seed = {seed}", "[parameters]"]
        lines += [f"{name} = {written(value)}" for name, value in values.items()]
        (folder / "scenario.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "refstep", "sims", "run", "scenario.toml", "--json"]
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if said.returncode:
        raise RefstepError(f"the dispute under {variant} failed: {said.stderr.strip()[-400:]}")
    return Outcome(json.loads(said.stdout)["metrics"])
