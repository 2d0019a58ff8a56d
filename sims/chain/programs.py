"""Small programs that a dispute can be about, and jobs on them: cheap to run, and with every kind of node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bisection.boundary import LITTLE_ENDIAN
from bisection.nodes import DTYPES, Dot, Gather, Input, Map, Node, Output, Read, Reduce, Ref, ScatterAdd
from bisection.program import Program, TensorSpec
from bisection.scalar import Op, ScalarProgram

__all__ = ["FLOAT_EDGES", "INTEGERS", "Builder", "counting_program", "hostile", "run_program"]

FLOAT_EDGES = (
    0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x3F800000, 0xBF800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000,
    0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x4F000000, 0xCF000000, 0x4B800001,
)  # fmt: skip
INTEGERS = ("i8", "i16", "i32", "i64")


def hostile(rng: np.random.Generator, dtype: str, count: int) -> np.ndarray[Any, Any]:
    """Any bit pattern at all, with edges and small integers well represented."""
    size = DTYPES[dtype].size
    words = np.frombuffer(rng.bytes(count * size), LITTLE_ENDIAN[dtype]).copy()
    pick = rng.random(count)
    if dtype == "f32":
        edges = np.array(FLOAT_EDGES, np.uint32).view(np.float32)
        words = np.where(pick < 0.2, rng.choice(edges, count), words)
        return np.where(pick > 0.6, rng.standard_normal(count).astype(np.float32), words).astype(np.float32)
    info = np.iinfo(words.dtype)
    edges = np.array([0, 1, -1, info.min, info.max], words.dtype)
    words = np.where(pick < 0.2, rng.choice(edges, count), words)
    return np.where(pick > 0.6, rng.integers(-3, 12, count), words).astype(words.dtype)


@dataclass
class Builder:
    """Collects nodes and numbers their tensors."""

    nodes: list[Node] = field(default_factory=list)
    tensors: list[Ref] = field(default_factory=list)

    def add(self, kind: type[Node], inputs: tuple[Ref, ...], outputs: list[tuple[str, int]], *fields: Any) -> tuple[Ref, ...]:
        """Append a node; returns its outputs."""
        first = len(self.tensors)
        refs = tuple(Ref(first + i, dtype, count) for i, (dtype, count) in enumerate(outputs))
        self.nodes.append(kind(inputs, refs, *fields))
        self.tensors.extend(refs)
        return refs


def counting_program(size: int = 200) -> tuple[Program, dict[str, np.ndarray[Any, Any]], dict[str, np.ndarray[Any, Any]]]:
    """A small program with every kind of node, and its state and data: enough for a whole dispute.

    State: step (i64), weights (f32[size]), totals (i64[4]). Data: table (f32[16]), index (i32[8]).
    """
    b = Builder()
    (step,) = b.add(Input, (), [("i64", 1)], "state", 0)
    (weights,) = b.add(Input, (), [("f32", size)], "state", 1)
    (totals,) = b.add(Input, (), [("i64", 4)], "state", 2)
    (table,) = b.add(Input, (), [("f32", 16)], "data", 0)
    (index,) = b.add(Input, (), [("i32", 8)], "data", 1)
    # next step = step + 1
    count_up = ScalarProgram(1, 0, (1,), (Op(0x20, 0, 1),), (2,))
    (next_step,) = b.add(Map, (step,), [("i64", 1)], (), (Read(0, ()),), count_up)
    (rows,) = b.add(Gather, (table, index), [("f32", 16)], 2)
    # weights quantised to i16: round(ldexp(w, 8))
    quantise = ScalarProgram(1, 1, (8,), (Op(0x06, 0, 2), Op(0x0A, 3)), (4,))
    (q,) = b.add(Map, (weights,), [("i16", size)], (size,), (Read(0, (1,)),), quantise)
    runs = size // 4
    (products,) = b.add(Dot, (q, q), [("i64", 16)], 4, 4, runs)
    (sums,) = b.add(Reduce, (q,), [("i64", 4)], "sum", runs)
    (largest,) = b.add(Reduce, (products,), [("i64", 1)], "max", 16)
    (binned,) = b.add(ScatterAdd, (products, index), [("i64", 4)], 8, 2)
    # new weights: w * 0.75 + rows[i mod 16] * 0.125; totals: totals + sums + binned + largest
    inputs = (weights, rows)
    wide = (size // 8, 8)
    reads = (Read(0, (8, 1)), Read(0, (0, 1)))
    blend = ScalarProgram(2, 2, (0x3F400000, 0x3E000000), (Op(0x03, 0, 4), Op(0x03, 1, 5), Op(0x01, 6, 7)), (8,))
    (next_weights,) = b.add(Map, inputs, [("f32", size)], wide, reads, blend)
    add = ScalarProgram(4, 1, (), (Op(0x20, 0, 1), Op(0x20, 5, 2), Op(0x20, 6, 3)), (7,))
    each, same = Read(0, (1,)), Read(0, (0,))
    (next_totals,) = b.add(Map, (totals, sums, binned, largest), [("i64", 4)], (4,), (each, each, each, same), add)
    for i, ref in enumerate((next_step, next_weights, next_totals)):
        b.add(Output, (ref,), [], i)
    program = Program(
        tuple(b.nodes),
        (TensorSpec("step", "i64", ()), TensorSpec("weights", "f32", (size,)), TensorSpec("totals", "i64", (4,))),
        (TensorSpec("table", "f32", (16,)), TensorSpec("index", "i32", (8,))),
        {"largest": largest.tensor},
    )
    rng = np.random.default_rng(0)
    state: dict[str, np.ndarray[Any, Any]] = {
        "step": np.array(0, np.int64),
        "weights": rng.standard_normal(size).astype(np.float32),
        "totals": np.zeros(4, np.int64),
    }
    data = {"table": rng.standard_normal(16).astype(np.float32), "index": np.array([3, 1, 7, 0, 0, -1, 99, 5], np.int32)}
    return program, state, data


def run_program(
    rng: np.random.Generator, kind: type[Node], length: int, dtypes: tuple[str, str] = ("i8", "i8"), op: str = "sum", rows: int = 2
) -> tuple[Program, dict[str, np.ndarray[Any, Any]], dict[str, np.ndarray[Any, Any]]]:
    """A program whose next state is what one reduce, dot or scatter_add over runs of ``length`` makes of hostile data.

    A reduce has ``rows`` elements, a dot that many squared, a scatter_add five for each. ``dtypes`` are those of the operands.
    """
    b = Builder()
    sizes = {Reduce: (rows * length,), Dot: (rows * length, rows * length), ScatterAdd: (rows * length, length)}[kind]
    data = {f"x{i}": hostile(rng, dtype, size) for i, (dtype, size) in enumerate(zip(dtypes, sizes, strict=False))}
    refs = tuple(b.add(Input, (), [(dtypes[i], size)], "data", i)[0] for i, size in enumerate(sizes))
    if kind is Reduce:
        (result,) = b.add(Reduce, refs, [(dtypes[0] if op == "max" else "i64", rows)], op, length)
    elif kind is Dot:
        (result,) = b.add(Dot, refs, [("i64", rows * rows)], rows, rows, length)
    else:
        (result,) = b.add(ScatterAdd, refs, [("i64", rows * 5)], length, 5)
    b.add(Output, (result,), [], 0)
    specs = tuple(TensorSpec(name, dtypes[i], (x.size,)) for i, (name, x) in enumerate(data.items()))
    program = Program(tuple(b.nodes), (TensorSpec("result", result.dtype, (result.count,)),), specs)
    return program, {"result": np.zeros(result.count, LITTLE_ENDIAN[result.dtype])}, data
