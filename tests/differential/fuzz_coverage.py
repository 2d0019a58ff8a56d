"""What is hard about the questions of tests/differential/fuzzing.py, and the corpus: few questions that together meet all of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bisection.cut import address, part_count, part_length, run_starts, takes_max, unravel
from bisection.merkle import LEAF_BYTES
from bisection.nodes import DTYPES, Gather, Input, Map, Output, Read, RunNode, ScatterAdd
from bisection.numbers import wrap
from bisection.scalar import BY_CODE, INSTRUCTIONS, ScalarProgram, read, store
from tests.differential.fuzzing import NARROW, Question, World, questions
from tests.support.chains import INTEGER

__all__ = ["WANTED", "corpus", "coverage", "failures", "write_corpus"]


def coverage(world: World, q: Question) -> set[str]:
    """What is hard about a question, by name."""
    node = world.program.nodes[q.node]
    found = {f"{node.NAME}, {'altered' if q.altered else 'honest'}"}
    if isinstance(node, Input | Output):
        return found | ({f"input of {node.source}"} if isinstance(node, Input) else set())
    ref = node.outputs[q.output]
    run = "long " if q.part is not None else ""
    found |= {f"{run}{node.NAME}: {source.dtype} as input {i}" for i, source in enumerate(node.inputs[:2])}
    found |= {f"{run}{node.NAME}: {ref.dtype} out"}
    if (q.position + 1) * DTYPES[ref.dtype].size > ref.nbytes // LEAF_BYTES * LEAF_BYTES:
        found.add("the claim in a partial leaf")
    if q.position * DTYPES[ref.dtype].size >= LEAF_BYTES:
        found.add("the claim beyond the first leaf")
    if isinstance(node, Map):
        return found | _of_map(world, q, node)
    if isinstance(node, Gather):
        index = world.fetch(node)(1, q.position // node.width, 1)[0]
        inside = 0 <= index < node.inputs[0].count // node.width
        found |= {"gather: just beyond the table"} if index == node.inputs[0].count // node.width else set()
        return found | {"gather: inside" if inside else "gather: negative" if index < 0 else "gather: beyond the table"}
    assert isinstance(node, RunNode)
    return found | _of_run(world, q, node)


def _of_run(world: World, q: Question, node: RunNode) -> set[str]:
    found = {f"{node.NAME}: {'a maximum' if takes_max(node) else 'a sum'}"}
    run = "long " if q.part is not None else ""
    length, first = (node.length, 0) if q.part is None else (part_length(node), q.part * part_length(node))
    count = min(length, node.length - first)
    if q.part is not None:
        found |= {"a last part that is shorter"} if count < length else set()
        found |= {"the first part"} if q.part == 0 else {"the last part"} if q.part == part_count(node) - 1 else {"a middle part"}
    for start, ref in zip(run_starts(node, q.position), node.inputs, strict=True):
        size = DTYPES[ref.dtype].size
        low, high = (start + first) * size, (start + first + count) * size
        found |= {"a run that begins inside a leaf"} if low % LEAF_BYTES else set()
        found |= {"a run over several leaves"} if -(-high // LEAF_BYTES) - low // LEAF_BYTES > 1 else set()
        found |= {"a run to the end of a partial leaf"} if high == ref.nbytes and high % LEAF_BYTES else set()
    runs = [world.fetch(node)(i, start + first, count) for i, start in enumerate(run_starts(node, q.position))]
    found |= {f"{run}reduce: a maximum below zero"} if takes_max(node) and max(runs[0]) < 0 else set()
    if isinstance(node, ScatterAdd):
        found |= {"scatter_add: a negative index"} if min(runs[1]) < 0 else set()
        found |= {"scatter_add: an index beyond the bins"} if max(runs[1]) >= node.bins else set()
        found |= set() if q.position % node.bins in runs[1] else {"scatter_add: an empty bin"}
    exact = sum(runs[0]) if len(runs) == 1 else sum(a * b for a, b in zip(*runs, strict=True))
    if not takes_max(node) and not isinstance(node, ScatterAdd) and exact != wrap(exact, 64):
        found.add(f"{node.NAME}: a sum that wraps")
    return found


def _of_map(world: World, q: Question, node: Map) -> set[str]:
    indices = unravel(q.position, node.iteration)
    found, values = {f"map: {len(node.iteration)} dimensions"}, []
    for i, (affine, ref) in enumerate(zip(node.reads, node.inputs, strict=True)):
        at = address(affine, indices, ref.count)
        values.append(0 if at is None else world.fetch(node)(i, at, 1)[0])
        if at is not None and at * DTYPES[ref.dtype].size >= LEAF_BYTES:
            found.add("map: a read beyond the first leaf")
        found |= {f"map: {name}" for name in _edges(affine, indices, ref.count)}
        free = at is not None or address(Read(affine.base, affine.strides), indices, ref.count) is None
        found.add("map: a read inside" if at is not None else "map: a read outside" if free else "map: a condition fails")
    return found | _of_scalar(node.scalar, q.output, values, indices)


def _edges(affine: Read, indices: Sequence[int], count: int) -> set[str]:
    """Which bounds of an affine read are met exactly, or missed by one, where all its others hold."""
    rows = [(affine.base, affine.strides, count, "address")]
    rows += [(c.offset, c.coefficients, c.size, "condition") for c in affine.conditions]
    reaches = [(start + sum(f * i for f, i in zip(factors, indices, strict=True)), n, what) for start, factors, n, what in rows]
    found = set()
    for number, (at, size, what) in enumerate(reaches):
        if all(0 <= other < bound for i, (other, bound, _) in enumerate(reaches) if i != number):
            found |= {f"{what} {at}"} if at in (-1, 0) else {f"{what} at its bound"} if at == size else set()
            found |= {f"{what} below its bound"} if at == size - 1 else set()
    return found


def _of_scalar(scalar: ScalarProgram, output: int, values: Sequence[int], indices: Sequence[int]) -> set[str]:
    """The classes of the operands of all instructions on which the output depends."""
    registers, base = [*values, *indices, *scalar.constants], scalar.reads + scalar.rank + len(scalar.constants)
    needed = {scalar.results[output]}
    for at in reversed(range(len(scalar.ops))):
        if base + at in needed:
            needed |= set(scalar.ops[at].operands)
    found = set()
    for at, op in enumerate(scalar.ops):
        row = BY_CODE[op.code]
        operands = [read(registers[r], view) for r, view in zip(op.operands, row.operands, strict=True)]
        registers.append(store(row.meaning(*operands), row.result))
        if base + at in needed:
            classes = [class_of(x, view) for x, view in zip(operands, row.operands, strict=True)]
            found |= {f"{row.name}: {name} as operand {i}" for i, name in enumerate(classes)}
    return found


def class_of(value: int, view: str) -> str:
    """What kind of an operand this is."""
    if view == "F":
        exponent, fraction = value >> 23 & 255, value & 0x7FFFFF
        if exponent == 255:
            return "NaN" if fraction else "infinity"
        return "finite" if exponent else "subnormal" if fraction else "zero"
    least = -(1 << (31 if view == "W" else 63))
    edges = {0: "zero", 1: "one", -1: "minus one", least: "the least", -least - 1: "the greatest"}
    return edges.get(value, "negative" if value < 0 else "positive")


FLOATS = ("NaN", "infinity", "finite", "subnormal", "zero")
INTEGERS = ("zero", "minus one", "the least", "the greatest", "negative", "positive")


def _wanted() -> frozenset[str]:
    found = {
        f"{row.name}: {name} as operand {i}"
        for row in INSTRUCTIONS
        for i, view in enumerate(row.operands)
        for name in (FLOATS if view == "F" else INTEGERS)
    }
    kinds = ("input", "output", "map", "gather", "reduce", "dot", "scatter_add")
    found |= {f"{kind}, {how}" for kind in kinds for how in ("honest", "altered")}
    found |= {"input of state", "input of data"}
    found |= {f"map: {dtype} {side}" for dtype in DTYPES for side in ("as input 0", "as input 1", "out")}
    found |= {f"gather: {dtype} {side}" for dtype in DTYPES for side in ("as input 0", "out")}
    found |= {f"gather: {dtype} as input 1" for dtype in INTEGER}
    for run in ("", "long "):
        found |= {f"{run}reduce: {dtype} as input 0" for dtype in INTEGER} | {
            f"{run}reduce: {dtype} out" for dtype in ("i32", "i64")
        }
        found |= {f"{run}dot: {dtype} as input {i}" for dtype in NARROW for i in range(2)}
        found |= {f"{run}scatter_add: {dtype} as input {i}" for dtype in INTEGER for i in range(2)}
    found |= {f"map: {rank} dimensions" for rank in range(5)}
    found |= {f"map: {what}" for what in ("a read inside", "a read outside", "a condition fails")}
    edges = ("-1", "0", "below its bound", "at its bound")
    found |= {f"map: {what} {edge}" for what in ("address", "condition") for edge in edges}
    found |= {"reduce: a maximum below zero", "long reduce: a maximum below zero", "gather: just beyond the table"}
    found |= {f"gather: {what}" for what in ("inside", "negative", "beyond the table")}
    found |= {"reduce: a maximum", "reduce: a sum", "reduce: a sum that wraps", "dot: a sum that wraps"}
    found |= {f"scatter_add: {what}" for what in ("a negative index", "an index beyond the bins", "an empty bin")}
    found |= {"the first part", "a middle part", "the last part", "a last part that is shorter"}
    found |= {"a run that begins inside a leaf", "a run over several leaves", "a run to the end of a partial leaf"}
    found |= {"the claim in a partial leaf", "the claim beyond the first leaf", "map: a read beyond the first leaf"}
    return frozenset(found)


WANTED = _wanted()
"""All that the corpus must meet: every instruction with every class of each operand, kinds by element types, and edges."""


# The corpus -------------------------------------------------------------------------------------------------------------

CORPUS = Path(__file__).parents[1] / "vectors" / "fuzz_corpus.json"


def corpus() -> dict[int, dict[int, frozenset[str]]]:
    """seed → number of a question among ``questions`` → what it was chosen for."""
    document = json.loads(CORPUS.read_text(encoding="utf-8"))
    rows: dict[int, dict[int, frozenset[str]]] = {}
    for seed, number, names in document["questions"]:
        rows.setdefault(seed, {})[number] = frozenset(names)
    return rows


def failures() -> list[int]:
    """The seeds in which something differed once."""
    return list(json.loads(CORPUS.read_text(encoding="utf-8"))["failures"])


def chosen(seeds: Sequence[int]) -> tuple[list[tuple[int, int, list[str]]], frozenset[str]]:
    """Few questions of these seeds that together meet all that is wanted, as (seed, number, what for); and what none meets."""
    met = {
        (seed, number): coverage(world, q) & WANTED
        for seed in seeds
        for world in [World(seed)]
        for number, q in enumerate(questions(world))
    }
    rows, missing = [], set(WANTED)
    while missing:
        place = max(met, key=lambda at: len(met[at] & missing))
        found = met[place] & missing
        if not found:
            break
        rows.append((*place, sorted(found)))
        missing -= found
    return sorted(rows), frozenset(missing)


def write_corpus(seeds: Sequence[int]) -> int:
    """Choose the corpus anew among ``seeds``; how many questions it has. Raises ValueError where they do not meet all."""
    rows, missing = chosen(seeds)
    if missing:
        raise ValueError(f"no question of these seeds meets: {', '.join(sorted(missing))}")
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    CORPUS.write_text(f'{{"questions": [\n{lines}\n],\n"failures": {json.dumps(failures())}}}\n', encoding="utf-8")
    return len(rows)
