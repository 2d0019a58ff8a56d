"""Random programs of many nodes that read each other in all the ways that a lowered model does, and in some that none would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from bisection.nodes import MAX_LENGTH, Condition, Dot, Gather, Input, Map, Output, Read, Reduce, Ref, ScatterAdd
from bisection.program import Program, TensorSpec
from bisection.scalar import BY_NAME, Op, ScalarProgram
from tests.support.programs import Builder, hostile

__all__ = ["Job", "random_job"]

SIZES = (1, 2, 3, 5, 7, 16, 17, 31, 33, 48, 97)
MOST = 20_000  # elements of a tensor
Job = tuple[Program, dict[str, np.ndarray[Any, Any]], dict[str, np.ndarray[Any, Any]]]
"""A program, a state and data."""


@dataclass(frozen=True)
class Tensor:
    """A tensor with the shape that its maker had in mind."""

    ref: Ref
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Formula:
    """A scalar program over ``reads``, each of element types to choose from, with an index of the iteration or without."""

    reads: tuple[tuple[str, ...], ...]
    constants: tuple[int, ...]
    ops: tuple[tuple[str, tuple[int | str, ...]], ...]  # operands: "x0" a read, "i" an index, "c0" a constant, a number a step
    results: tuple[tuple[int | str, tuple[str, ...]], ...]

    def program(self, rank: int, axis: int) -> ScalarProgram:
        """For an iteration of ``rank`` loops, of which ``axis`` is "i"."""
        reads = len(self.reads)

        def register(name: int | str) -> int:
            if isinstance(name, int):
                return reads + rank + len(self.constants) + name
            kind, number = name[0], int(name[1:] or 0)
            return {"x": number, "i": reads + axis, "c": reads + rank + number}[kind]

        ops = tuple(Op(BY_NAME[name].code, *map(register, operands)) for name, operands in self.ops)
        return ScalarProgram(reads, rank, self.constants, ops, tuple(register(name) for name, _ in self.results))


FLOAT, NARROW, INTEGER = ("f32",), ("i8", "i16", "i32"), ("i8", "i16", "i32", "i64")
FORMULAS = [
    Formula((FLOAT,), (), (), (("x0", FLOAT),)),
    Formula((INTEGER,), (), (), (("x0", ("i32", "i8")),)),
    Formula((FLOAT,), (5,), (("ldexp", ("x0", "c0")), ("round", (0,))), ((1, NARROW),)),
    Formula((("i64", "i32"),), (-9,), (("scaled", ("x0", "c0")),), ((0, FLOAT),)),
    Formula((FLOAT, FLOAT), (), (("fmul", ("x0", "x1")), ("fadd", (0, "x0"))), ((1, FLOAT),)),
    Formula((FLOAT, FLOAT), (4,), (("fsub", ("x0", "x1")), ("ldexp", (0, "c0")), ("round", (1,))), ((0, FLOAT), (2, ("i16",)))),
    Formula((("i64",), ("i64",), ("i64",)), (), (("add64", ("x0", "x1")), ("add64", (0, "x2"))), ((1, ("i64",)),)),
    Formula((FLOAT,), (11,), (("lt64", ("i", "c0")), ("select32", (0, "x0", "c0"))), ((1, FLOAT),)),
    Formula((("i32",),), (3,), (("mul32", ("i", "c0")), ("add32", (0, "x0"))), ((1, ("i32",)),)),
]
"""Few, so that programs share their kernels."""


@dataclass
class Maker:
    """Adds random nodes that read earlier ones."""

    rng: np.random.Generator
    b: Builder = field(default_factory=Builder)
    specs: dict[str, list[TensorSpec]] = field(default_factory=lambda: {"state": [], "data": []})
    values: dict[str, dict[str, np.ndarray[Any, Any]]] = field(default_factory=lambda: {"state": {}, "data": {}})
    known: list[Tensor] = field(default_factory=list)

    def pick(self, options: Sequence[Any]) -> Any:
        """One of ``options``."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        """True that often."""
        return bool(self.rng.random() < probability)

    def given(self, dtype: str, shape: tuple[int, ...], low: int | None = None, high: int = 0) -> Tensor:
        """A data tensor: hostile, or integers from ``low`` up to ``high``."""
        name, count = f"x{len(self.specs['data'])}", prod(shape)
        self.specs["data"].append(TensorSpec(name, dtype, (count,)))
        value = hostile(self.rng, dtype, count)
        if dtype == "f32" and self.chance(0.7):  # infinities and NaNs would soon be all that is left
            value = self.rng.standard_normal(count).astype(np.float32)
        self.values["data"][name] = value if low is None else self.rng.integers(low, high, count).astype(value.dtype)
        (ref,) = self.b.add(Input, (), [(dtype, count)], "data", len(self.specs["data"]) - 1)
        return self.keep(ref, shape)

    def keep(self, ref: Ref, shape: tuple[int, ...]) -> Tensor:
        """``ref`` for later nodes to read."""
        self.known.append(Tensor(ref, shape))
        return self.known[-1]

    def find(self, dtypes: Sequence[str], rank: int = 0) -> Tensor:
        """A tensor of one of the types, the last ones most often, or a new one."""
        fitting = [
            t for t in self.known if t.ref.dtype in dtypes and len(t.shape) >= rank and max(t.shape, default=1) <= MAX_LENGTH
        ]
        if not fitting or self.chance(0.05):
            return self.given(self.pick(dtypes), tuple(self.pick(SIZES[:-2]) for _ in range(max(rank, 2))))
        return fitting[-1] if self.chance(0.5) else self.pick(fitting)

    # Reads

    def read(self, tensor: Tensor, shape: tuple[int, ...]) -> Read:
        """An affine read of ``tensor`` over ``shape``, rarely of one element only."""
        read = self.any_read(tensor, shape)
        while prod(shape) > 1 and not any(read.strides) and not self.chance(0.1):
            read = self.any_read(tensor, shape)
        return read

    def any_read(self, tensor: Tensor, shape: tuple[int, ...]) -> Read:
        """An affine read: the same place, or each axis of ``tensor`` along a loop, a window or nothing."""
        if tensor.shape == shape and self.chance(0.6):
            return Read(0, tuple(prod(shape[d + 1 :]) for d in range(len(shape))))
        base, strides, conditions = 0, [0] * len(shape), []
        free = list(range(len(shape)))
        for axis, size in enumerate(tensor.shape):
            stride = prod(tensor.shape[axis + 1 :])
            same = [d for d in free if shape[d] == size] or [d for d in free if shape[d] <= size]
            way = self.rng.random()
            if way < 0.75 and same:
                loop = same[0] if self.chance(0.7) else self.pick(same)
                free.remove(loop)
                offset = int(self.rng.integers(0, size - shape[loop] + 1))
                reverse = self.chance(0.15)
                base += stride * (offset + (shape[loop] - 1 if reverse else 0))
                strides[loop] += -stride if reverse else stride
            elif way < 0.9 and shape:
                loops = {self.pick(range(len(shape))): 1, self.pick(range(len(shape))): self.pick((1, 2))}
                offset = int(self.rng.integers(-2, 2))
                base += stride * offset
                for loop, by in loops.items():
                    strides[loop] += stride * by
                conditions.append(Condition(offset, size, tuple(loops.get(d, 0) for d in range(len(shape)))))
            else:
                base += stride * int(self.rng.integers(0, size))
        if self.chance(0.03):
            base += int(self.rng.integers(-5, 6))  # may leave the tensor
        return Read(base, tuple(strides), tuple(conditions))

    # Nodes

    def map(self, shape: tuple[int, ...] | None = None) -> None:
        """A formula over a shape like that of its first input, turned or spread."""
        formula: Formula = self.pick(FORMULAS)
        inputs = [self.find(dtypes) for dtypes in formula.reads]
        if shape is None:
            shape = inputs[0].shape
            if len(shape) > 1 and self.chance(0.25):
                shape = tuple(shape[d] for d in self.rng.permutation(len(shape)))
            elif len(shape) < 4 and self.chance(0.2):
                at = int(self.rng.integers(0, len(shape) + 1))
                shape = (*shape[:at], self.pick((2, 3, 4)), *shape[at:])
            if prod(shape) > MOST:
                shape = shape[1:]
        axis = len(shape) - 1 if self.chance(0.7) else 0
        if not shape:
            shape, axis = (1,), 0
        reads = tuple(self.read(t, shape) for t in inputs)
        outputs = [(self.pick(dtypes), prod(shape)) for _, dtypes in formula.results]
        for ref in self.b.add(Map, tuple(t.ref for t in inputs), outputs, shape, reads, formula.program(len(shape), axis)):
            self.keep(ref, shape)

    def reduce(self) -> None:
        """The last axis, summed or its maximum."""
        op = self.pick(("sum", "max"))
        x = self.find(INTEGER if op == "sum" else ("i32", "i64"), 1)
        (y,) = self.b.add(Reduce, (x.ref,), [("i64" if op == "sum" else x.ref.dtype, prod(x.shape[:-1]))], op, x.shape[-1])
        self.keep(y, x.shape[:-1])

    def quantised(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """``x`` over ``shape`` as narrow integers."""
        formula = FORMULAS[2] if x.ref.dtype == "f32" else FORMULAS[1]
        (_, dtypes), *_ = formula.results
        program = formula.program(len(shape), len(shape) - 1)
        (y,) = self.b.add(Map, (x.ref,), [(self.pick(dtypes), prod(shape))], shape, (self.read(x, shape),), program)
        return self.keep(y, shape)

    def dot(self) -> None:
        """Two tensors, quantised on the way, or one that is quantised already; the long sum in chunks or as a whole."""
        a = self.find(("f32", *NARROW), 2)
        *lead, m, k = a.shape
        n, batch = int(self.pick(SIZES[:-1])), prod(lead)
        chunks = next((c for c in (2, 3, 4) if k % c == 0), 1) if self.chance(0.4) else 1
        if chunks > 1:
            whole = (batch * m, chunks, k // chunks)
            turned = (chunks, batch * m, k // chunks)
            reads = (Read(0, (whole[2], k, 1)),)
            source = a if a.ref.dtype in NARROW else self.quantised(a, a.shape)
            copied = ScalarProgram(1, 3, (), (), (0,))
            (ref,) = self.b.add(Map, (source.ref,), [(source.ref.dtype, prod(turned))], turned, reads, copied)
            left, lead, m = self.keep(ref, turned), [chunks], batch * m
            k, batch = k // chunks, chunks
        else:
            left = a if a.ref.dtype in NARROW and self.chance(0.7) else self.quantised(a, a.shape)
        shape = (*lead, n, k)
        right = self.given(self.pick(NARROW), shape) if self.chance(0.5) else self.quantised(self.find(("f32", *NARROW), 1), shape)
        (y,) = self.b.add(Dot, (left.ref, right.ref), [("i64", batch * m * n)], m, n, k)
        made = self.keep(y, (*lead, m, n))
        if chunks > 1:
            self.add_chunks(made)

    def add_chunks(self, x: Tensor) -> None:
        """The sum of the parts along the first axis."""
        chunks, *rest = x.shape
        size = prod(rest)
        power, total = chunks + 2, chunks + 3  # registers: the chunks, two indices, a constant, and then the results
        ops = [Op(BY_NAME["add64"].code, total + c - 2 if c > 1 else 0, c) for c in range(1, chunks)]
        ops.append(Op(BY_NAME["scaled"].code, total + chunks - 2, power))
        program = ScalarProgram(chunks, 2, (-12,), tuple(ops), (total + chunks - 1,))
        reads = tuple(Read(c * size, (rest[1], 1)) for c in range(chunks))
        (y,) = self.b.add(Map, (x.ref,) * chunks, [("f32", size)], tuple(rest), reads, program)
        self.keep(y, tuple(rest))

    def gather(self) -> None:
        """Rows of a tensor by indices that are given or computed."""
        table = self.find(("f32", "i16"), 1)
        width = table.shape[-1]
        rows = prod(table.shape) // width
        index = self.given("i32", (self.pick(SIZES[:-2]),), -1, rows + 1) if self.chance(0.6) else self.find(("i32", "i8"), 1)
        if prod(index.shape) * width > MOST:
            return
        (y,) = self.b.add(Gather, (table.ref, index.ref), [(table.ref.dtype, prod(index.shape) * width)], width)
        self.keep(y, (*index.shape, width))

    def scatter_add(self) -> None:
        """Sums of the last axis by indices."""
        values = self.find(INTEGER, 1)
        *lead, length = values.shape
        bins = int(self.pick(SIZES[:-3]))
        index = self.given(self.pick(("i32", "i64", "i8")), (length,), -1, bins + 1)
        (y,) = self.b.add(ScatterAdd, (values.ref, index.ref), [("i64", prod(lead) * bins)], length, bins)
        self.keep(y, (*lead, bins))


def random_job(rng: np.random.Generator, nodes: int) -> Job:
    """A program with about ``nodes`` computing nodes, several outputs and a metric, and hostile tensors for it."""
    maker = Maker(rng)
    flat = (maker.pick(SIZES), maker.pick(SIZES))
    deep = (maker.pick((1, 2, 3)), maker.pick(SIZES[:9]), maker.pick(SIZES[:9]))
    maker.given("f32", flat if maker.chance(0.5) else deep)
    kinds = [maker.map] * 5 + [maker.reduce, maker.reduce, maker.dot, maker.dot, maker.gather, maker.scatter_add]
    for _ in range(nodes):
        maker.pick(kinds)()
    maker.map()
    inputs = {node.outputs[0].tensor for node in maker.b.nodes if isinstance(node, Input)}
    made = [t for t in maker.known if t.ref.tensor not in inputs]
    outputs = [made[-1], *(maker.pick(made) for _ in range(int(rng.integers(0, 4))))]
    for i, tensor in enumerate(outputs):
        maker.b.add(Output, (tensor.ref,), [], i)
        maker.specs["state"].append(TensorSpec(f"s{i}", tensor.ref.dtype, (tensor.ref.count,)))
        maker.values["state"][f"s{i}"] = hostile(rng, tensor.ref.dtype, tensor.ref.count)
    metrics = {"last": maker.pick(made).ref.tensor}
    program = Program(tuple(maker.b.nodes), tuple(maker.specs["state"]), tuple(maker.specs["data"]), metrics)
    return program, maker.values["state"], maker.values["data"]
