"""The library route: the reference's bits by torch alone, on any device (docs/executor.md).

It needs no compiler. Construction turns every node into a prepared function from input tensors to output tensors; a step calls them
in order. Each node kind is one row of ``_PREPARE``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bisection.boundary import Array
from bisection.nodes import Dot, Gather, Input, Map, Node, Output, Read, Reduce, ScatterAdd
from bisection.program import Program
from bisection.reference import Tamper
from bisection.scalar import BY_CODE, ScalarProgram
from trainer.faces import TORCH_TYPES, VIEWS, canonical, face_of, view

__all__ = ["LibraryRoute", "prepare_scalar"]

Run = Callable[[Sequence[Tensor]], list[Tensor]]

_HALVES = 1 << 20  # products of halves of 16 bits that binary64 sums exactly, with room to spare


class LibraryRoute:
    """A program bound to ``data`` (flat arrays in its order) on a torch ``device``."""

    def __init__(self, program: Program, data: Sequence[Array], device: torch.device) -> None:
        torch.set_flush_denormal(False)  # subnormals count: flushing them would change bits
        self._program, self._device = program, device
        self._data = [self._tensor(array) for array in data]
        self._runs = [None if isinstance(n, Input | Output) else _PREPARE[type(n)](n, device) for n in program.nodes]

    def _tensor(self, array: Array) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the array cannot be written to: nothing here writes to it
            return torch.from_numpy(array.reshape(-1)).to(self._device)

    def trace(self, state: Sequence[Array], tamper: Tamper | None = None) -> list[Array]:
        """Every tensor of the step from ``state``, flat, in the trace's order. ``tamper`` may change each node's outputs."""
        before = [self._tensor(array) for array in state]
        tensors: list[Tensor] = []
        for number, (node, run) in enumerate(zip(self._program.nodes, self._runs, strict=True)):
            if isinstance(node, Output):
                continue
            if run is None:
                assert isinstance(node, Input)
                outputs = [(before if node.source == "state" else self._data)[node.index]]
            else:
                outputs = run([tensors[ref.tensor] for ref in node.inputs])
            if tamper is not None:
                outputs = [self._tensor(array) for array in tamper(number, [output.cpu().numpy() for output in outputs])]
            tensors += outputs
        return [tensor.cpu().numpy() for tensor in tensors]


# Map --------------------------------------------------------------------------------------------------------------------


def _prepare_map(node: Map, device: torch.device) -> Run:
    rank = len(node.iteration)
    grid = [
        torch.arange(size, device=device).reshape([size if axis == own else 1 for axis in range(rank)])
        for own, size in enumerate(node.iteration)
    ]
    reads = [_prepare_read(read, ref.count, node.iteration, grid) for read, ref in zip(node.reads, node.inputs, strict=True)]
    scalar = prepare_scalar(node.scalar, grid, device)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        results = scalar([_widened(read(x)) for read, x in zip(reads, inputs, strict=True)])
        return [
            _narrowed(register, ref.dtype).expand(node.iteration).reshape(-1)
            for register, ref in zip(results, node.outputs, strict=True)
        ]

    return run


def _prepare_read(read: Read, count: int, shape: Sequence[int], grid: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """A strided view where the read stays inside the tensor; else a look-up with a mask."""
    ends = [stride * (size - 1) for stride, size in zip(read.strides, shape, strict=True)]
    low = read.base + sum(min(end, 0) for end in ends)
    high = read.base + sum(max(end, 0) for end in ends)
    if not read.conditions and low >= 0 and high < count and min(read.strides, default=0) >= 0:
        sizes = [1 if stride == 0 else size for stride, size in zip(read.strides, shape, strict=True)]
        return lambda x: x.as_strided(sizes, read.strides, read.base)

    def affine(start: int, factors: Sequence[int]) -> Tensor:
        flat = torch.full([1] * len(shape), start, dtype=torch.int64, device=grid[0].device if grid else None)
        return sum((factor * axis for factor, axis in zip(factors, grid, strict=True)), flat)

    at = affine(read.base, read.strides)
    inside = (at >= 0) & (at < count)
    for c in read.conditions:
        where = affine(c.offset, c.coefficients)
        inside = inside & (where >= 0) & (where < c.size)
    at = torch.where(inside, at, 0)
    return lambda x: torch.where(inside, x[at], torch.zeros((), dtype=x.dtype, device=x.device))


Fetch = Callable[[Sequence[Tensor]], Tensor]


def prepare_scalar(scalar: ScalarProgram, grid: Sequence[Tensor], device: torch.device) -> Callable[[list[Tensor]], list[Tensor]]:
    """The scalar program as a function from the values read to the results, all as registers that broadcast together."""
    constants = [torch.tensor(c, dtype=torch.int64, device=device) for c in scalar.constants]
    fixed: list[Tensor] = [*grid, *constants]
    base = scalar.reads + len(fixed)
    known = dict(zip(range(base - len(constants), base), scalar.constants, strict=True))
    rows = [BY_CODE[op.code] for op in scalar.ops]
    # A float result whose bits are seen (stored, or read as an integer) must have the canonical NaN.
    seen = set(scalar.results)
    for op, row in zip(scalar.ops, rows, strict=True):
        seen |= {r for r, kind in zip(op.operands, row.operands, strict=True) if kind != "F"}

    def fetch(register: int, kind: str) -> Fetch:
        if register in known:
            value = view(constants[register - base], kind)
            return lambda registers: value
        return lambda registers: view(registers[register], kind)

    plan = [
        (
            face_of(row.name, known.get(op.b)),
            [fetch(r, kind) for r, kind in zip(op.operands, row.operands, strict=True)],
            VIEWS[row.result],
            row.result == "F" and base + i in seen,
        )
        for i, (op, row) in enumerate(zip(scalar.ops, rows, strict=True))
    ]

    def run(values: list[Tensor]) -> list[Tensor]:
        registers = [*values, *fixed]
        for face, operands, dtype, float_bits_seen in plan:
            value = face(*[operand(registers) for operand in operands])
            registers.append(canonical(value) if float_bits_seen else value.to(dtype))
        return [registers[r] for r in scalar.results]

    return run


def _widened(x: Tensor) -> Tensor:
    """A tensor's elements as registers."""
    return x if x.dtype in (torch.float32, torch.int64) else x.to(torch.int32)


def _narrowed(register: Tensor, dtype: str) -> Tensor:
    """A register's low bits as ``dtype``."""
    return view(register, "F") if dtype == "f32" else view(register, "L" if dtype == "i64" else "W").to(TORCH_TYPES[dtype])


# Reductions: on integers, so that order cannot matter -------------------------------------------------------------------


def _prepare_reduce(node: Reduce, device: torch.device) -> Run:
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        runs = inputs[0].view(-1, node.length)
        return [runs.sum(1, dtype=torch.int64) if node.op == "sum" else runs.amax(1)]

    return run


def _prepare_dot(node: Dot, device: torch.device) -> Run:
    def product(a: Tensor, b: Tensor) -> Tensor:
        return torch.bmm(a, b.transpose(1, 2)).to(torch.int64)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        a, b = inputs[0].view(-1, node.m, node.k), inputs[1].view(-1, node.n, node.k)
        if _partial_sums_below_2_53(a, b, node.k):
            return [product(a.double(), b.double()).view(-1)]
        total = torch.zeros(len(a), node.m, node.n, dtype=torch.int64, device=device)
        for first in range(0, node.k, _HALVES):
            total += by_halves(a[:, :, first : first + _HALVES], b[:, :, first : first + _HALVES])
        return [total.view(-1)]

    def by_halves(a: Tensor, b: Tensor) -> Tensor:
        # Halves of 16 bits: every product is at most 2^32, and int64 arithmetic wraps as the meaning does.
        a, b = a.to(torch.int64), b.to(torch.int64)
        high_a, low_a, high_b, low_b = ((x >> 16).double() for x in (a, a << 16 & 0xFFFFFFFF, b, b << 16 & 0xFFFFFFFF))
        middle = product(high_a, low_b) + product(low_a, high_b)
        return (product(high_a, high_b) << 32) + (middle << 16) + product(low_a, low_b)

    return run


def _partial_sums_below_2_53(a: Tensor, b: Tensor, k: int) -> bool:
    def largest(x: Tensor) -> int:
        bits = torch.iinfo(x.dtype).bits
        return 1 << (bits - 1) if bits <= 16 else max(-int(x.min()), int(x.max()))

    return largest(a) * largest(b) * k < 1 << 53


def _prepare_gather(node: Gather, device: torch.device) -> Run:
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        table, index = inputs[0].view(-1, node.width), inputs[1].to(torch.int64)
        inside = (index >= 0) & (index < len(table))
        rows = table.index_select(0, torch.where(inside, index, 0))
        return [torch.where(inside[:, None], rows, torch.zeros((), dtype=rows.dtype, device=device)).view(-1)]

    return run


def _prepare_scatter_add(node: ScatterAdd, device: torch.device) -> Run:
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        values, index = inputs[0].view(-1, node.length).to(torch.int64), inputs[1].to(torch.int64)
        inside = (index >= 0) & (index < node.bins)
        sums = torch.zeros(len(values), node.bins, dtype=torch.int64, device=device)
        return [sums.index_add_(1, index[inside], values[:, inside]).view(-1)]

    return run


_PREPARE: dict[type[Node], Callable[..., Run]] = {
    Map: _prepare_map,
    Reduce: _prepare_reduce,
    Dot: _prepare_dot,
    Gather: _prepare_gather,
    ScatterAdd: _prepare_scatter_add,
}
