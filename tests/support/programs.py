"""Random programs over every node kind, with hostile tensors; and the small programs that the simulations have disputes about."""

from __future__ import annotations

from typing import Any

import numpy as np

from bisection.nodes import DTYPES, Condition, Dot, Gather, Input, Map, Node, Output, Read, Reduce, Ref, ScatterAdd
from bisection.program import Program, TensorSpec
from bisection.scalar import INSTRUCTIONS, Op, ScalarProgram
from sims.chain.programs import FLOAT_EDGES, INTEGERS, Builder, counting_program, hostile, run_program

__all__ = [
    "FLOAT_EDGES",
    "Builder",
    "counting_program",
    "hostile",
    "random_map",
    "random_node",
    "random_scalar",
    "run_program",
]


def random_scalar(rng: np.random.Generator, reads: int, rank: int, results: int, length: int) -> ScalarProgram:
    """Any well-formed straight-line program."""
    constants = tuple(int(c) for c in hostile(rng, "i64", int(rng.integers(0, 4))))
    ops: list[Op] = []
    base = reads + rank + len(constants)
    if base == 0:
        constants, base = (7,), 1
    for at in range(length):
        row = INSTRUCTIONS[int(rng.integers(len(INSTRUCTIONS)))]
        operands = [int(rng.integers(base + at)) for _ in row.operands]
        ops.append(Op(row.code, *operands))
    total = base + len(ops)
    chosen = tuple(int(rng.integers(max(0, total - 6), total)) for _ in range(results))
    return ScalarProgram(reads, rank, constants, tuple(ops), chosen)


def random_map(rng: np.random.Generator, b: Builder, inputs: tuple[Ref, ...]) -> tuple[Ref, ...]:
    """A map with arbitrary affine reads, some conditional, some leaving their tensor."""
    rank = int(rng.integers(0, 4))
    shape = tuple(int(n) for n in rng.integers(1, 6, rank))
    reads = []
    for _ in inputs:
        conditions = tuple(
            Condition(int(rng.integers(-3, 4)), int(rng.integers(0, 6)), tuple(int(c) for c in rng.integers(-2, 3, rank)))
            for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.4 else 0)
        )
        reads.append(Read(int(rng.integers(-4, 12)), tuple(int(s) for s in rng.integers(-3, 20, rank)), conditions))
    n_outputs = int(rng.integers(1, 4))
    scalar = random_scalar(rng, len(inputs), rank, n_outputs, int(rng.integers(0, 30)))
    count = int(np.prod(shape, dtype=int))
    outputs = [(str(rng.choice(list(DTYPES))), count) for _ in range(n_outputs)]
    return b.add(Map, inputs, outputs, shape, tuple(reads), scalar)


def random_node(
    rng: np.random.Generator, kind: type[Node], length: int | None = None
) -> tuple[Program, dict[str, np.ndarray[Any, Any]]]:
    """A program whose last computing node is a random ``kind`` over hostile data; state is one counter that stays.

    Runs have ``length`` elements, or where it is None up to 300.
    """
    b = Builder()
    data: dict[str, np.ndarray[Any, Any]] = {}
    specs: list[TensorSpec] = []
    (counter,) = b.add(Input, (), [("i64", 1)], "state", 0)

    def tensor(dtype: str, count: int) -> Ref:
        name = f"x{len(specs)}"
        specs.append(TensorSpec(name, dtype, (count,)))
        data[name] = hostile(rng, dtype, count)
        return b.add(Input, (), [(dtype, count)], "data", len(specs) - 1)[0]

    def integers(*names: str) -> str:
        return str(rng.choice(names or INTEGERS))

    run = length or int(rng.integers(1, 40) if rng.random() < 0.7 else rng.integers(1, 300))
    if kind is Map:
        inputs = tuple(tensor(str(rng.choice(list(DTYPES))), int(rng.integers(1, 200))) for _ in range(int(rng.integers(0, 5))))
        random_map(rng, b, inputs)
    elif kind is Reduce:
        op = str(rng.choice(["sum", "max"]))
        x = tensor(integers() if op == "sum" else integers("i32", "i64"), run * int(rng.integers(1, 9)))
        b.add(Reduce, (x,), [("i64" if op == "sum" else x.dtype, x.count // run)], op, run)
    elif kind is Dot:
        batch, m, n = (int(v) for v in rng.integers(1, 4, 3))
        a, c = tensor(integers("i8", "i16", "i32"), batch * m * run), tensor(integers("i8", "i16", "i32"), batch * n * run)
        b.add(Dot, (a, c), [("i64", batch * m * n)], m, n, run)
    elif kind is Gather:
        width, rows, count = (int(v) for v in rng.integers(1, 30, 3))
        table, index = tensor(str(rng.choice(list(DTYPES))), rows * width), tensor(integers(), count)
        b.add(Gather, (table, index), [(table.dtype, count * width)], width)
    elif kind is ScatterAdd:
        channels, bins = (int(v) for v in rng.integers(1, 9, 2))
        values, index = tensor(integers(), channels * run), tensor(integers(), run)
        b.add(ScatterAdd, (values, index), [("i64", channels * bins)], run, bins)
    else:
        raise ValueError(f"no random nodes of kind {kind.__name__}")
    b.add(Output, (counter,), [], 0)
    program = Program(tuple(b.nodes), (TensorSpec("step", "i64", ()),), tuple(specs))
    return program, data
