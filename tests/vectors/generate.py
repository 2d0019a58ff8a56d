"""Golden vectors of numerics version 1: python -m tests.vectors.generate

They pin what a number, a program and a commitment are. A change of golden.json is a new numerics version, never a fix.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bisection.cut import element, part_count, part_result
from bisection.descent import extended, parts_payload
from bisection.merkle import Tree, blob_root, leaf_digest
from bisection.nodes import DTYPES, Dot, Reduce, Ref, RunNode, ScatterAdd
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


def runs() -> dict[str, Any]:
    """Long nodes: their encoding, the last element, the partial results of its parts, and the trail that begins with these."""
    table = {}
    for name, (node, inputs) in long_nodes().items():

        def fetch(i: int, first: int, count: int, inputs: list[list[int]] = inputs) -> list[int]:
            return inputs[i][first : first + count]

        position = node.outputs[0].count - 1
        parts = [part_result(node, position, part, fetch) for part in range(part_count(node))]
        table[name] = {
            "encoding": node.encode().hex(),
            "element": element(node, 0, position, fetch),
            "parts": parts,
            "trail of the parts": extended(bytes(32), 0, parts_payload(parts)).hex(),
        }
    return table


def long_nodes() -> dict[str, tuple[RunNode, list[list[int]]]]:
    """Nodes over runs of 3,000 elements by name, with their inputs: residues about zero, large enough that i64 sums wrap."""

    def ref(tensor: int, dtype: str, count: int) -> tuple[Ref, list[int]]:
        reach = 1 << (8 * DTYPES[dtype].size - 1)
        return Ref(tensor, dtype, count), [i * 0x9E3779B97F4A7C15 % (2 * reach) - reach for i in range(count)]

    length = 3000
    x64, x32, y32, x8 = ref(0, "i64", 2 * length), ref(0, "i32", 2 * length), ref(1, "i32", 2 * length), ref(0, "i8", 2 * length)
    bins = Ref(1, "i16", length), [i % 7 - 2 for i in range(length)]
    return {
        "sum": (Reduce((x64[0],), (Ref(1, "i64", 2),), "sum", length), [x64[1]]),
        "max": (Reduce((x32[0],), (Ref(1, "i32", 2),), "max", length), [x32[1]]),
        "dot": (Dot((x32[0], y32[0]), (Ref(2, "i64", 4),), 2, 2, length), [x32[1], y32[1]]),
        "scatter_add": (ScatterAdd((x8[0], bins[0]), (Ref(2, "i64", 6),), length, 3), [x8[1], bins[1]]),
    }


def vectors() -> dict[str, Any]:
    """All of them."""
    return {
        "numerics": NUMERICS_VERSION,
        "instructions": instructions(),
        "trees": trees(),
        "program": program(),
        "long runs": runs(),
    }


if __name__ == "__main__":
    lines = json.dumps(vectors(), indent=1).replace(",\n     ", ", ").replace("[\n     ", "[").replace("\n    ]", "]")
    GOLDEN.write_text(lines + "\n")
