"""Writing a scalar program without numbering its registers: constants may come up at any time."""

from __future__ import annotations

from bisection.scalar import BY_NAME, Op, ScalarProgram

__all__ = ["Register", "Tape"]

Register = tuple[str, int]
"""What a tape hands out: a kind (input, constant, op) and a number within it."""


class Tape:
    """A scalar program under construction, over ``reads`` values and ``rank`` indices."""

    def __init__(self, reads: int, rank: int) -> None:
        self.reads, self.rank = reads, rank
        self._constants: list[int] = []
        self._ops: list[tuple[int, tuple[Register, ...]]] = []

    def read(self, number: int) -> Register:
        """The value of read ``number``."""
        return "input", number

    def index(self, dimension: int) -> Register:
        """The index along ``dimension``."""
        return "input", self.reads + dimension

    def constant(self, value: int) -> Register:
        """A register that holds ``value``."""
        self._constants.append(value)
        return "constant", len(self._constants) - 1

    def op(self, name: str, *operands: Register) -> Register:
        """The result of the instruction ``name``."""
        return self.code(BY_NAME[name].code, *operands)

    def code(self, code: int, *operands: Register) -> Register:
        """The result of the instruction with this code."""
        self._ops.append((code, operands))
        return "op", len(self._ops) - 1

    def finish(self, *results: Register) -> ScalarProgram:
        """The scalar program."""
        inputs = self.reads + self.rank
        start = {"input": 0, "constant": inputs, "op": inputs + len(self._constants)}

        def number(register: Register) -> int:
            return start[register[0]] + register[1]

        ops = tuple(Op(code, *(number(operand) for operand in operands)) for code, operands in self._ops)
        return ScalarProgram(self.reads, self.rank, tuple(self._constants), ops, tuple(number(result) for result in results))
