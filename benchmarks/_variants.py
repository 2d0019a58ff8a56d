"""The protocol with other constants: copies of the sources with another arity and leaf size, each played in its own process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bisection.errors import RefstepError

__all__ = ["ARITIES", "LEAF_SIZES", "ROOT", "Variant", "dispute_costs", "sources_of"]

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("bisection", "contracts", "trainer", "challenger", "sims", "benchmarks", "tests")
ARITIES = (2, 4, 8, 16, 32, 64, 128)
LEAF_SIZES = (256, 512, 1024, 2048, 4096)
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
        for name in FOLDERS:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for files, pattern, replacement, least in variant.replacements():
            found = 0
            for path in sorted(copy.glob(files)):
                text, times = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
                found += times
                path.write_text(text, encoding="utf-8")
            if found < least:
                raise RefstepError(f"{pattern!r} stands {found} times in {files}; at least {least} were expected")
        yield copy


def dispute_costs(variant: Variant, chain: str) -> dict[str, list[dict[str, object]]]:
    """The transactions of the dispute at full scale under ``variant``, by path, as benchmarks.scale prints them."""
    with sources_of(variant) as folder:
        command = [sys.executable, "-m", "benchmarks.scale", "--json", "--chain", chain]
        said = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    if said.returncode:
        raise RefstepError(f"the dispute under {variant} failed")
    return json.loads(said.stdout.splitlines()[-1])
