"""Golden vectors of numerics version 1: python -m tests.vectors.generate

They pin what a number, a program and a commitment are. A change of golden.json is a new numerics version, never a fix.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bisection.merkle import Tree, blob_root, leaf_digest
from bisection.program import NUMERICS_VERSION
from bisection.scalar import INSTRUCTIONS
from bisection.trace import MemoryTrace
from tests.differential.operands import cases
from tests.support.programs import counting_program

GOLDEN = Path(__file__).with_name("golden.json")
CASES = 60  # for each instruction
STEPS = 20


def instructions() -> dict[str, Any]:
    """For each instruction its code, and rows of operands and result in the instruction's views."""
    table = {}
    for row in INSTRUCTIONS:
        operands = cases(row.name, CASES, seed=NUMERICS_VERSION)
        table[row.name] = {"code": row.code, "rows": [[*case, row.meaning(*case)] for case in operands]}
    return table


def trees() -> dict[str, str]:
    """Roots of blobs of some sizes and of trees of some counts."""
    data = bytes(i % 251 for i in range(2000))
    blobs = {f"blob of {size}": blob_root(data[:size]).hex() for size in (0, 1, 255, 256, 257, 1024, 2000)}
    leaves = [leaf_digest(bytes([i])) for i in range(9)]
    return blobs | {f"tree of {count}": Tree(leaves[:count]).root.hex() for count in range(1, 10)}


def program() -> dict[str, str]:
    """A program with every kind of node: its bytes, and the roots of a short run."""
    built, state, data = counting_program()
    trace = MemoryTrace(built, state, data, STEPS)
    return {
        "encoding": built.encode().hex(),
        "program root": built.root.hex(),
        "data root": trace.data().root.hex(),
        "history root": trace.history().root.hex(),
        "last state": trace.state(STEPS).root.hex(),
        "trace root of step 7": trace.tensors(7).root.hex(),
    }


def vectors() -> dict[str, Any]:
    """All of them."""
    return {"numerics": NUMERICS_VERSION, "instructions": instructions(), "trees": trees(), "program": program()}


if __name__ == "__main__":
    lines = json.dumps(vectors(), indent=1).replace(",\n     ", ", ").replace("[\n     ", "[").replace("\n    ]", "]")
    GOLDEN.write_text(lines + "\n")
