"""From expressions to the scalar program and the reads of one ``map`` node: register allocation and the limits of the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from bisection.nodes import MAX_INPUTS, MAX_NODE_BYTES, MAX_RANK, Read
from bisection.scalar import BY_NAME, MAX_INSTRUCTIONS, MAX_REGISTERS, Op, ScalarProgram
from trainer.lowering.expression import Affine, Apply, Const, Expr, Load, Position, Slot, reindex, topological
from trainer.lowering.verdicts import MOST_GAS, map_gas

__all__ = ["Assembly", "assemble"]

Symbol = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Assembly:
    """One ``map`` node without tensor numbers: the tensors read, the iteration shape, the reads and the scalar program."""

    slots: tuple[Slot, ...]
    iteration: tuple[int, ...]
    reads: tuple[Read, ...]
    scalar: ScalarProgram

    @property
    def encoded_bytes(self) -> int:
        """The size of the encoded node (``Node.encode``)."""
        rank, s = len(self.iteration), self.scalar
        boundary = 7 + 13 * len(self.slots) + 9 * len(s.results)
        code = 3 + 4 * rank + len(s.results) + 8 * len(s.constants) + 4 * len(s.ops)
        return boundary + code + sum(9 + 8 * rank + len(read.conditions) * (16 + 8 * rank) for read in self.reads)

    @property
    def fits(self) -> bool:
        """Whether the format allows this as one node, and a verdict about it is not too dear."""
        s, rank = self.scalar, len(self.iteration)
        registers = s.reads + rank + len(s.constants) + len(s.ops)
        code, written = self.encoded_bytes, 8 * prod(self.iteration)  # as if all of it were i64
        return (
            max(len(self.slots), len(s.results)) <= MAX_INPUTS
            and rank <= MAX_RANK
            and len(s.ops) <= MAX_INSTRUCTIONS
            and registers <= MAX_REGISTERS
            and code <= MAX_NODE_BYTES
            and map_gas(s, code, [written, *(slot.nbytes for slot in self.slots)]) <= MOST_GAS
        )


def merged(roots: Sequence[Expr], shape: Sequence[int]) -> tuple[list[Expr], tuple[int, ...]]:
    """The same elements in C order with as few dimensions as the reads allow: sizes of 1 dropped, adjacent dimensions joined."""
    affines: list[Affine] = []
    for node in topological(roots):
        if isinstance(node, Load):
            affines += [node.address, *(a for a, _ in node.conditions)]
        elif isinstance(node, Position):
            affines.append(node.value)
    kept = [d for d, size in enumerate(shape) if size > 1]
    groups: list[list[int]] = []
    for d in kept:
        joins = bool(groups) and all(a.coefficients[groups[-1][-1]] == a.coefficients[d] * shape[d] for a in affines)
        if joins:
            groups[-1].append(d)
        else:
            groups.append([d])
    sizes = []
    # Old dimension groups[g][-1] takes the joined index, the ones before it in the group 0: their coefficients agree.
    maps = [Affine(0, (0,) * len(groups))] * len(shape)
    for g, group in enumerate(groups):
        size = 1
        for d in group:
            size *= shape[d]
        sizes.append(size)
        maps[group[-1]] = Affine(0, tuple(int(j == g) for j in range(len(groups))))
    return reindex(roots, maps, sizes), tuple(sizes)


class _Registers:
    """Symbols for the values of one scalar program, equal computations under one symbol."""

    def __init__(self) -> None:
        self.loads: dict[tuple[Slot, Read], Symbol] = {}
        self.constants: dict[int, Symbol] = {}
        self.ops: dict[tuple[int, tuple[Symbol, ...]], Symbol] = {}

    def load(self, slot: Slot, read: Read) -> Symbol:
        return self.loads.setdefault((slot, read), ("read", len(self.loads)))

    def constant(self, value: int) -> Symbol:
        return self.constants.setdefault(value, ("constant", len(self.constants)))

    def op(self, code: int, operands: tuple[Symbol, ...]) -> Symbol:
        return self.ops.setdefault((code, operands), ("op", len(self.ops)))

    def position(self, value: Affine) -> Symbol:
        total: Symbol | None = None
        for d, factor in enumerate(value.coefficients):
            if factor:
                index: Symbol = ("index", d)
                term = index if factor == 1 else self.op(BY_NAME["mul64"].code, (index, self.constant(factor)))
                total = term if total is None else self.op(BY_NAME["add64"].code, (total, term))
        if total is None:
            return self.constant(value.offset)
        return total if value.offset == 0 else self.op(BY_NAME["add64"].code, (total, self.constant(value.offset)))


def assemble(roots: Sequence[Expr], shape: Sequence[int]) -> Assembly:
    """The ``map`` over ``shape`` that computes ``roots``. It need not fit (``Assembly.fits``)."""
    flat, iteration = merged(roots, shape)
    registers = _Registers()
    symbols: dict[int, Symbol] = {}
    for node in topological(flat):
        match node:
            case Const(value):
                symbols[id(node)] = registers.constant(value)
            case Load():
                symbols[id(node)] = registers.load(node.slot, node.read)
            case Position(affine):
                symbols[id(node)] = registers.position(affine)
            case Apply(row, operands):
                symbols[id(node)] = registers.op(row.code, tuple(symbols[id(x)] for x in operands))
    reads, rank, constants = len(registers.loads), len(iteration), len(registers.constants)
    base = {"read": 0, "index": reads, "constant": reads + rank, "op": reads + rank + constants}

    def number(symbol: Symbol) -> int:
        return base[symbol[0]] + symbol[1]

    ops = tuple(Op(code, *(number(x) for x in operands)) for code, operands in registers.ops)
    results = tuple(number(symbols[id(root)]) for root in flat)
    scalar = ScalarProgram(reads, rank, tuple(registers.constants), ops, results)
    return Assembly(tuple(slot for slot, _ in registers.loads), iteration, tuple(read for _, read in registers.loads), scalar)
