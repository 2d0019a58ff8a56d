"""Scalar programs: the straight-line code inside a ``map`` node (docs/program.md, "Scalar programs").

A register holds 64 bits, read as a signed integer. Every instruction reads each operand in one of three views and writes its
result in one, so that every sequence of instructions has a meaning:

    F   a float: the low 32 bits, as a binary32 pattern
    W   a word: the low 32 bits, as a signed integer
    L   a long: all 64 bits, as a signed integer

A float or word result is stored sign-extended, which makes bitcasts and widening free. ``INSTRUCTIONS`` is the one definition
of each instruction; the numpy, torch and Vyper faces are tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bisection import numbers
from bisection.errors import ProgramError
from bisection.numbers import wrap

__all__ = ["BY_CODE", "BY_NAME", "INSTRUCTIONS", "Instruction", "Op", "ScalarProgram", "View", "read", "store"]

View = Literal["F", "W", "L"]

MAX_INSTRUCTIONS = 128
MAX_REGISTERS = 256


@dataclass(frozen=True, slots=True)
class Instruction:
    """One row of the instruction table.

    ``operands`` and ``result`` are views; ``meaning`` maps operand values (patterns for F, signed ints for W and L) to a result.
    """

    code: int
    name: str
    operands: str
    result: View
    meaning: Callable[..., int]


def _integer_family(code: int, view: View, suffix: str) -> list[Instruction]:
    """The integer instructions at one width: arithmetic wraps, shift amounts are unsigned, division by zero gives zero."""
    width = 32 if view == "W" else 64

    def wrapped(exact: Callable[[int, int], int]) -> Callable[[int, int], int]:
        return lambda a, b: wrap(exact(a, b), width)

    def past(b: int) -> bool:
        return not 0 <= b < width

    rows: list[tuple[str, str, View, Callable[..., int]]] = [
        ("add", view * 2, view, wrapped(lambda a, b: a + b)),
        ("sub", view * 2, view, wrapped(lambda a, b: a - b)),
        ("mul", view * 2, view, wrapped(lambda a, b: a * b)),
        ("and", view * 2, view, lambda a, b: a & b),
        ("or", view * 2, view, lambda a, b: a | b),
        ("xor", view * 2, view, lambda a, b: a ^ b),
        ("shl", view * 2, view, lambda a, b: 0 if past(b) else wrap(a << b, width)),
        ("shr", view * 2, view, lambda a, b: a >> (width - 1 if past(b) else b)),
        ("ushr", view * 2, view, lambda a, b: 0 if past(b) else wrap((a & ((1 << width) - 1)) >> b, width)),
        ("div", view * 2, view, lambda a, b: wrap(a // b, width) if b else 0),
        ("mod", view * 2, view, lambda a, b: a % b if b else 0),
        ("lt", view * 2, "W", lambda a, b: int(a < b)),
        ("le", view * 2, "W", lambda a, b: int(a <= b)),
        ("eq", view * 2, "W", lambda a, b: int(a == b)),
        ("select", view * 3, view, lambda c, a, b: a if c else b),
    ]
    return [Instruction(code + i, name + suffix, views, result, meaning) for i, (name, views, result, meaning) in enumerate(rows)]


INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction(0x01, "fadd", "FF", "F", numbers.f32_add),
    Instruction(0x02, "fsub", "FF", "F", numbers.f32_sub),
    Instruction(0x03, "fmul", "FF", "F", numbers.f32_mul),
    Instruction(0x04, "fdiv", "FF", "F", numbers.f32_div),
    Instruction(0x05, "fsqrt", "F", "F", numbers.f32_sqrt),
    Instruction(0x06, "ldexp", "FW", "F", numbers.f32_ldexp),
    Instruction(0x07, "flt", "FF", "W", numbers.f32_lt),
    Instruction(0x08, "fle", "FF", "W", numbers.f32_le),
    Instruction(0x09, "feq", "FF", "W", numbers.f32_eq),
    Instruction(0x0A, "round", "F", "W", numbers.f32_round),
    Instruction(0x0B, "scaled", "LW", "F", numbers.f32_scaled),
    *_integer_family(0x10, "W", "32"),
    *_integer_family(0x20, "L", "64"),
)
BY_CODE = {row.code: row for row in INSTRUCTIONS}
BY_NAME = {row.name: row for row in INSTRUCTIONS}


def read(register: int, view: str) -> int:
    """A register's value in ``view``."""
    if view == "F":
        return register & 0xFFFFFFFF
    return wrap(register, 32) if view == "W" else register


def store(value: int, view: str) -> int:
    """The register that holds ``value``, given in ``view``."""
    return wrap(value, 32) if view == "F" else value


@dataclass(frozen=True, slots=True)
class Op:
    """One instruction of a scalar program: ``code`` from the table; ``a``, ``b``, ``c`` are register numbers, 0 where unused."""

    code: int
    a: int
    b: int = 0
    c: int = 0

    @property
    def operands(self) -> tuple[int, ...]:
        """The registers that this instruction reads, in order."""
        return (self.a, self.b, self.c)[: len(BY_CODE[self.code].operands)]


@dataclass(frozen=True, slots=True)
class ScalarProgram:
    """Straight-line code in SSA form.

    Registers are numbered: ``reads`` values read from tensors, ``rank`` indices of the output element, the ``constants``, then
    one per instruction. ``results`` names the register of each output.
    """

    reads: int
    rank: int
    constants: tuple[int, ...]
    ops: tuple[Op, ...]
    results: tuple[int, ...]

    def check(self) -> None:
        """Raise ProgramError unless this is well formed."""
        base = self.reads + self.rank + len(self.constants)
        if len(self.ops) > MAX_INSTRUCTIONS or base + len(self.ops) > MAX_REGISTERS:
            raise ProgramError(
                f"a scalar program has {len(self.ops)} instructions over {base} other registers; 128 and 256 in all fit"
            )
        if any(constant != wrap(constant, 64) for constant in self.constants):
            raise ProgramError("a constant of a scalar program does not fit 64 bits")
        for at, op in enumerate(self.ops):
            if op.code not in BY_CODE:
                raise ProgramError(f"a scalar program uses instruction code {op.code:#04x}, which does not exist")
            spare = (op.a, op.b, op.c)[len(op.operands) :]
            if any(not 0 <= r < base + at for r in op.operands) or any(spare):
                raise ProgramError(f"instruction {at} of a scalar program names a register that is not yet written")
        if any(not 0 <= r < base + len(self.ops) for r in self.results):
            raise ProgramError("a result of a scalar program names a register that does not exist")

    def run(self, values: Sequence[int], indices: Sequence[int]) -> list[int]:
        """Each output's register, given the values read (as registers) and the element's indices. The definition of ``map``."""
        registers = [*values, *indices, *self.constants]
        for op in self.ops:
            row = BY_CODE[op.code]
            operands = [read(registers[r], view) for r, view in zip(op.operands, row.operands, strict=True)]
            registers.append(store(row.meaning(*operands), row.result))
        return [registers[r] for r in self.results]
