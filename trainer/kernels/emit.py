"""From a scalar program to the C++ of one fused loop (docs/numerics.md, "Executors").

A kernel computes the outputs of a ``map`` for ``n`` neighbouring elements. Each of its inputs is a vector (the elements lie side
by side), a scalar (the same for all of them) or an index (a scalar plus a table of int32). Equal programs over inputs of the same
kinds share one kernel, whatever their shapes and strides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bisection.scalar import BY_CODE, Instruction, ScalarProgram
from bisection.scalar import read as view_of

__all__ = ["KernelInput", "kernel_source"]

C_TYPES = {"f32": "float", "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t"}
REGISTER_TYPES = {"F": "float", "W": "int32_t", "L": "int64_t"}
_HELD_AS = {"f32": "F", "i8": "W", "i16": "W", "i32": "W", "i64": "L"}

_CONVERSIONS: dict[tuple[str, str], str] = {
    ("F", "W"): "as_word({})",
    ("F", "L"): "(int64_t)as_word({})",
    ("W", "F"): "as_float({})",
    ("W", "L"): "(int64_t){}",
    ("L", "W"): "(int32_t){}",
    ("L", "F"): "as_float((int32_t){})",
}


@dataclass(frozen=True, slots=True)
class KernelInput:
    """What one read or index register of a scalar program is to a kernel: its element type, and "vector", "scalar" or "index"."""

    dtype: str
    kind: str


@dataclass(frozen=True, slots=True)
class _Register:
    """A C++ expression of one type, and whether it may be any NaN."""

    text: str
    held: str
    loose: bool = False

    def seen_as(self, view: str) -> str:
        if view == self.held:
            return self.text
        text = f"canonical({self.text})" if self.loose else self.text
        return _CONVERSIONS[self.held, view].format(text)


def kernel_source(scalar: ScalarProgram, inputs: Sequence[KernelInput | None], outputs: Sequence[str | None]) -> str:
    """The C++ text of ``extern "C" void kernel(int64_t n, const char* const* in, char* const* out)``.

    ``inputs`` has one entry for each read and index register, None where the program never looks at it; ``outputs`` the element
    type in which each result is wanted, None where it is not. Pointers come in the order of the entries that are not None; an
    index takes two, the start (int64) and the table.
    """
    needed = _needed(scalar, outputs)
    before: list[str] = []
    registers: list[_Register] = []
    pointer = 0
    for i, given in enumerate(inputs):
        if given is None or i not in needed:
            registers.append(_Register("0", "L"))
            pointer += 0 if given is None else 1 + (given.kind == "index")
            continue
        registers.append(_INPUTS[given.kind](i, pointer, given, before))
        pointer += 1 + (given.kind == "index")
    registers += [_Register(str(constant), "constant") for constant in scalar.constants]
    body = _instructions(scalar, needed, registers)
    slot = 0
    for number, dtype in zip(scalar.results, outputs, strict=True):
        if dtype is None:
            continue
        before.append(f"{C_TYPES[dtype]}* __restrict y{slot} = ({C_TYPES[dtype]}*)out[{slot}];")
        value = _operand(registers[number], _HELD_AS[dtype])
        value = f"canonical({value})" if dtype == "f32" and registers[number].loose else value
        body.append(f"y{slot}[j] = ({C_TYPES[dtype]}){value};")
        slot += 1
    lines = [*(f"    {line}" for line in before), "#pragma GCC ivdep", "    for (int64_t j = 0; j < n; j++) {"]
    lines += [*(f"        {line}" for line in body), "    }"]
    head = 'extern "C" void kernel(int64_t n, const char* const* in, char* const* out) {'
    return "\n".join(['#include "scalar.hpp"', head, *lines, "}", ""])


def _needed(scalar: ScalarProgram, outputs: Sequence[str | None]) -> set[int]:
    """The registers that the wanted outputs depend on."""
    needed = {r for r, dtype in zip(scalar.results, outputs, strict=True) if dtype is not None}
    first = scalar.reads + scalar.rank + len(scalar.constants)
    for i in reversed(range(len(scalar.ops))):
        if first + i in needed:
            needed.update(scalar.ops[i].operands)
    return needed


def _vector(i: int, pointer: int, given: KernelInput, before: list[str]) -> _Register:
    kind = C_TYPES[given.dtype]
    before.append(f"const {kind}* __restrict x{i} = (const {kind}*)in[{pointer}];")
    # Bits read from memory may be any NaN pattern, and loading keeps them: the pattern is the register.
    return _Register(f"x{i}[j]", _HELD_AS[given.dtype])


def _scalar(i: int, pointer: int, given: KernelInput, before: list[str]) -> _Register:
    kind = C_TYPES[given.dtype]
    before.append(f"const {kind} x{i} = *(const {kind}*)in[{pointer}];")
    return _Register(f"x{i}", _HELD_AS[given.dtype])


def _index(i: int, pointer: int, given: KernelInput, before: list[str]) -> _Register:
    before.append(f"const int64_t x{i} = *(const int64_t*)in[{pointer}];")
    before.append(f"const int32_t* __restrict t{i} = (const int32_t*)in[{pointer + 1}];")
    return _Register(f"(x{i} + t{i}[j])", "L")


_INPUTS: dict[str, Callable[[int, int, KernelInput, list[str]], _Register]] = {
    "vector": _vector,
    "scalar": _scalar,
    "index": _index,
}


def _instructions(scalar: ScalarProgram, needed: set[int], registers: list[_Register]) -> list[str]:
    body = []
    first = len(registers)
    for i, op in enumerate(scalar.ops):
        row = BY_CODE[op.code]
        if first + i not in needed:
            registers.append(_Register("0", "L"))
            continue
        operands = [registers[r] for r in op.operands]
        result = _float_choice(row, operands) or _Register(_call(row, operands), row.result, row.result == "F")
        body.append(f"const {REGISTER_TYPES[result.held]} r{i} = {result.text};")
        registers.append(_Register(f"r{i}", result.held, result.loose))
    return body


def _call(row: Instruction, operands: Sequence[_Register]) -> str:
    special = _SPECIAL.get(row.name)
    text = special(operands) if special else None
    return text or f"{row.name}({', '.join(_operand(x, view) for x, view in zip(operands, row.operands, strict=True))})"


def _ldexp(operands: Sequence[_Register]) -> str | None:
    """By a constant power that a float holds: one multiplication, which rounds once."""
    x, k = operands
    power = _float_power(k)
    return f"({_operand(x, 'F')} * {power})" if power else None


def _scaled(operands: Sequence[_Register]) -> str | None:
    """Of a word: no bit is lost on the way. A word that is not 0 stays normal under these powers, so only its conversion rounds."""
    c, k = operands
    if c.held != "W":
        return None
    power = _float_power(k, 96)
    return f"((float){c.text} * {power})" if power else f"scaled_word({c.text}, {_operand(k, 'W')})"


def _float_power(k: _Register, most: int = 127) -> str | None:
    if k.held != "constant" or not -126 <= (value := view_of(int(k.text), "W")) <= most:
        return None
    return f"as_float((int32_t)0x{(value + 127) << 23:08x}u)"


_SPECIAL: dict[str, Callable[[Sequence[_Register]], str | None]] = {"ldexp": _ldexp, "scaled": _scaled}


def _float_choice(row: Instruction, operands: Sequence[_Register]) -> _Register | None:
    """A choice between floats stays a float: its bits are needed as rarely as those of other floats."""
    if row.name != "select32" or not all(x.held in {"F", "constant"} for x in operands[1:]):
        return None
    loose = [x for x in operands[1:] if x.loose]
    if not loose:
        return None
    condition, *both = operands
    all_loose = all(x.loose or (x.held == "constant" and not _is_nan(int(x.text))) for x in both)
    a, b = (_operand(x, "F") if all_loose or not x.loose else f"canonical({x.text})" for x in both)
    return _Register(f"({_operand(condition, 'W')} != 0 ? {a} : {b})", "F", all_loose)


def _is_nan(pattern: int) -> bool:
    return (pattern & 0x7FFFFFFF) > 0x7F800000


def _operand(register: _Register, view: str) -> str:
    if register.held != "constant":
        return register.seen_as(view)
    value = view_of(int(register.text), view)
    if view == "F":
        return f"as_float((int32_t)0x{value:08x}u)"
    return f"(int32_t)0x{value & 0xFFFFFFFF:08x}u" if view == "W" else f"(int64_t)0x{value & (1 << 64) - 1:016x}ull"
