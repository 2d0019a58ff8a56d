"""The reference executor: a program run on numpy, one tensor at a time (docs/numerics.md, "Executors").

Slow and plain. Its bits are what every fast executor is tested against, and its own are tested against bisection/cut.py. Tensors of
a trace are flat arrays, in the trace's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bisection.boundary import Array, bind, metrics_of, next_state
from bisection.cut import part_length, takes_max
from bisection.errors import ProgramError
from bisection.nodes import Dot, Gather, Input, Map, Node, Output, Read, Reduce, RunNode, ScatterAdd
from bisection.program import Program
from bisection.scalar import BY_CODE, ScalarProgram

__all__ = ["INSTRUCTIONS", "NUMPY_TYPES", "part_results", "run_node", "run_scalar", "step", "trace"]

Tamper = Callable[[int, list[Array]], list[Array]]
"""Replaces a node's outputs, given its number: how tests and the demo play a dishonest trainer."""

NUMPY_TYPES: dict[str, Any] = {"f32": np.float32, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64}
_VIEWS: dict[str, Any] = {"F": np.float32, "W": np.int32, "L": np.int64}

# Instructions -----------------------------------------------------------------------------------------------------------


def _canonical(x: Array) -> Array:
    """The floats ``x`` with every NaN made the canonical one."""
    return np.where(np.isnan(x), np.float32(np.nan), x)


def _power(k: Array) -> Array:
    """2^k in binary64; the clamp leaves every binary32 result as it is."""
    return np.asarray(np.ldexp(np.float64(1), np.clip(k, -600, 600).astype(np.int32)))


def _ldexp(x: Array, k: Array) -> Array:
    return _canonical((x.astype(np.float64) * _power(k)).astype(np.float32))


def _round(x: Array) -> Array:
    whole = np.rint(np.where(np.isnan(x), np.float32(0), x).astype(np.float64))
    return np.asarray(np.clip(whole, -(2.0**31), 2.0**31 - 1), np.int32)


def _scaled(c: Array, k: Array) -> Array:
    # Beyond 2^53 the low 11 bits are folded into a sticky bit (rounding to odd), so that only the last conversion rounds.
    large = (c >= 1 << 53) | (c <= -(1 << 53))
    odd = np.where(large, (c >> 11) | ((c & 2047) != 0), c)
    exponent = np.clip(k, -600, 600) + np.where(large, 11, 0)
    return (odd.astype(np.float64) * _power(exponent)).astype(np.float32)


def _integer_family(kind: str, suffix: str) -> dict[str, Callable[..., Array]]:
    signed: Any = _VIEWS[kind]
    unsigned: Any
    unsigned, width = (np.uint32, 32) if kind == "W" else (np.uint64, 64)

    def shift(b: Array) -> tuple[Array, Array]:
        return (b >= 0) & (b < width), np.clip(b, 0, width - 1).astype(signed)

    def shl(a: Array, b: Array) -> Array:
        inside, by = shift(b)
        return np.where(inside, a << by, signed(0))

    def shr(a: Array, b: Array) -> Array:
        inside, by = shift(b)
        return np.asarray(a >> np.where(inside, by, signed(width - 1)))

    def ushr(a: Array, b: Array) -> Array:
        inside, by = shift(b)
        cleared: Array = np.asarray(a.view(unsigned) >> by.astype(unsigned), unsigned).view(signed)
        return np.where(inside, cleared, signed(0))

    def safe(b: Array) -> Array:
        return np.where((b == 0) | (b == -1), signed(1), b)

    def div(a: Array, b: Array) -> Array:
        return np.where(b == 0, signed(0), np.where(b == -1, signed(0) - a, a // safe(b)))

    def mod(a: Array, b: Array) -> Array:
        return np.where((b == 0) | (b == -1), signed(0), a % safe(b))

    def select(c: Array, a: Array, b: Array) -> Array:
        return np.where(c != 0, a, b)

    family: dict[str, Callable[..., Array]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
        "shl": shl,
        "shr": shr,
        "ushr": ushr,
        "div": div,
        "mod": mod,
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "eq": lambda a, b: a == b,
        "select": select,
    }
    return {name + suffix: face for name, face in family.items()}


INSTRUCTIONS: dict[str, Callable[..., Array]] = {
    "fadd": lambda a, b: _canonical(a + b),
    "fsub": lambda a, b: _canonical(a - b),
    "fmul": lambda a, b: _canonical(a * b),
    "fdiv": lambda a, b: _canonical(a / b),
    "fsqrt": lambda a: _canonical(np.sqrt(a)),
    "ldexp": _ldexp,
    "flt": lambda a, b: a < b,
    "fle": lambda a, b: a <= b,
    "feq": lambda a, b: a == b,
    "round": _round,
    "scaled": _scaled,
    **_integer_family("W", "32"),
    **_integer_family("L", "64"),
}


def view(register: Array, kind: str) -> Array:
    """A register in one of the views F, W, L. Registers are float32, int32 or int64 arrays, as their writer left them."""
    if kind == "F":
        return register if register.dtype == np.float32 else view(register, "W").view(np.float32)
    bits = register.view(np.int32) if register.dtype == np.float32 else register
    return bits.astype(_VIEWS[kind])


def run_scalar(scalar: ScalarProgram, values: Sequence[Array], indices: Sequence[Array]) -> list[Array]:
    """Each output's register, given the values read and the indices as arrays that broadcast together."""
    registers: list[Array] = [*values, *indices, *(np.asarray(c, np.int64) for c in scalar.constants)]
    with np.errstate(all="ignore"):
        for op in scalar.ops:
            row = BY_CODE[op.code]
            operands = [view(registers[r], v) for r, v in zip(op.operands, row.operands, strict=True)]
            registers.append(np.asarray(INSTRUCTIONS[row.name](*operands)).astype(_VIEWS[row.result]))
    return [registers[r] for r in scalar.results]


# Nodes ------------------------------------------------------------------------------------------------------------------


def _widened(x: Array) -> Array:
    """A tensor's elements as registers."""
    return x if x.dtype == np.float32 else x.astype(np.int64)


def _narrowed(register: Array, dtype: str) -> Array:
    """A register's low bits as ``dtype``."""
    return view(register, "F") if dtype == "f32" else view(register, "L").astype(NUMPY_TYPES[dtype])


def _affine(start: int, factors: Sequence[int], grid: Sequence[Array]) -> Array:
    return np.asarray(sum((f * axis for f, axis in zip(factors, grid, strict=True) if f), np.asarray(start, np.int64)))


def _read(read: Read, x: Array, grid: Sequence[Array]) -> Array:
    """The values of an affine read over the iteration grid."""
    at = _affine(read.base, read.strides, grid)
    inside = (at >= 0) & (at < x.size)
    for c in read.conditions:
        where = _affine(c.offset, c.coefficients, grid)
        inside = inside & (where >= 0) & (where < c.size)
    return np.where(inside, x[np.where(inside, at, 0)], x.dtype.type(0))


@singledispatch
def run_node(node: Node, inputs: Sequence[Array]) -> list[Array]:
    """The flat outputs of ``node``, given its flat inputs."""
    raise TypeError(f"a {node.NAME} node is a boundary and computes nothing")


@run_node.register
def _(node: Map, inputs: Sequence[Array]) -> list[Array]:
    grid = np.meshgrid(*(np.arange(n, dtype=np.int64) for n in node.iteration), indexing="ij", sparse=True)
    values = [_widened(_read(read, x, grid)) for read, x in zip(node.reads, inputs, strict=True)]
    results = run_scalar(node.scalar, values, grid)
    return [
        np.broadcast_to(_narrowed(register, ref.dtype), node.iteration).reshape(-1).copy()
        for register, ref in zip(results, node.outputs, strict=True)
    ]


@run_node.register
def _(node: Reduce, inputs: Sequence[Array]) -> list[Array]:
    runs = inputs[0].reshape(-1, node.length)
    return [runs.sum(axis=1, dtype=np.int64) if node.op == "sum" else runs.max(axis=1)]


@run_node.register
def _(node: Dot, inputs: Sequence[Array]) -> list[Array]:
    a = inputs[0].reshape(node.batch, node.m, node.k).astype(np.int64)
    b = inputs[1].reshape(node.batch, node.n, node.k).astype(np.int64).transpose(0, 2, 1)
    if int(np.abs(a).max()) * int(np.abs(b).max()) * node.k < 1 << 53:  # then binary64 holds every partial sum exactly
        return [(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64).reshape(-1)]
    return [(a @ b).reshape(-1)]


@run_node.register
def _(node: Gather, inputs: Sequence[Array]) -> list[Array]:
    table, index = inputs[0].reshape(-1, node.width), inputs[1].astype(np.int64)
    inside = (index >= 0) & (index < len(table))
    return [np.where(inside[:, None], table[np.where(inside, index, 0)], table.dtype.type(0)).reshape(-1)]


@run_node.register
def _(node: ScatterAdd, inputs: Sequence[Array]) -> list[Array]:
    values, index = inputs[0].reshape(-1, node.length).astype(np.int64), inputs[1].astype(np.int64)
    inside = (index >= 0) & (index < node.bins)
    sums = np.zeros((node.bins, len(values)), np.int64)
    np.add.at(sums, index[inside], values[:, inside].T)
    return [np.ascontiguousarray(sums.T).reshape(-1)]


def part_results(node: RunNode, operands: Sequence[Array], position: int) -> list[int]:
    """The partial result of every part of the run of element ``position``, given that run of each of the inputs of ``node``."""
    runs = [operand.astype(np.int64) for operand in operands]
    firsts = np.arange(0, node.length, part_length(node))
    if takes_max(node):
        return [int(result) for result in np.maximum.reduceat(runs[0], firsts)]
    if isinstance(node, Dot):
        terms = runs[0] * runs[1]
    else:
        terms = runs[0] if isinstance(node, Reduce) else np.where(runs[1] == position % node.bins, runs[0], 0)
    return [int(result) for result in np.add.reduceat(terms, firsts)]


# Steps ------------------------------------------------------------------------------------------------------------------


def trace(
    program: Program, state: Mapping[str, Array], data: Mapping[str, Array], tamper: Tamper | None = None
) -> list[NDArray[Any]]:
    """Every tensor of one step, flat, in order. Raises ProgramError when state or data do not fit the program."""
    boundary = bind(program, state, data)
    tensors: list[Array] = []
    for number, node in enumerate(program.nodes):
        if isinstance(node, Output):
            continue
        if isinstance(node, Input):
            outputs = [boundary[node.source][node.index].reshape(-1)]
        else:
            outputs = run_node(node, [tensors[ref.tensor] for ref in node.inputs])
        tensors += tamper(number, outputs) if tamper else outputs
    for ref, array in zip(program.tensors, tensors, strict=True):
        if array.size != ref.count or array.dtype != NUMPY_TYPES[ref.dtype]:
            raise ProgramError(f"tensor {ref.tensor} came out as {array.dtype}[{array.size}] instead of {ref.dtype}[{ref.count}]")
    return tensors


def step(program: Program, state: Mapping[str, Array], data: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, float]]:
    """One step: (next state by name, metrics by name). Raises ProgramError when state or data do not fit the program."""
    tensors = trace(program, state, data)
    return next_state(program, tensors), metrics_of(program, tensors)
