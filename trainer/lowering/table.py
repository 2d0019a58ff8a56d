"""The one table of PyTorch operators that can be lowered, and what a lowering may use.

A lowering is a function of a ``Context`` and the operator's own arguments, tensors given as ``Value``. It is entered under the
names that PyTorch's tracer prints, and its docstring is the operator's line in docs/operators.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from bisection.errors import UnsupportedOperator
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import Const, Expr, apply, real
from trainer.lowering.views import expand

__all__ = ["DTYPES", "OPERATORS", "Context", "Lowering", "constant", "convert", "lowers", "select", "truncated"]

DTYPES = {
    torch.float32: "f32",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "bool",
}

Lowering = Callable[..., Any]
OPERATORS: dict[str, Lowering] = {}


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Enter a function in the table as the lowering of ``names``, such as ``aten.add.Tensor``."""

    def enter(function: Lowering) -> Lowering:
        for name in names:
            assert name not in OPERATORS, name
            OPERATORS[name] = function
        return function

    return enter


@dataclass(frozen=True, slots=True)
class Context:
    """Where a lowering stands: the program under construction, the operator's name and place, and what PyTorch says it returns.

    ``key`` is the i64 scalar that a random operator draws from; it depends on seed, step, micro-batch and operator.
    """

    builder: Builder
    operand_bits: int
    name: str
    place: str
    result: Any  # a fake tensor, or a tuple of them
    key: Value | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple(self.result.shape)

    @property
    def dtype(self) -> str:
        """The element type of the result."""
        return self.element_type(self.result.dtype)

    def element_type(self, dtype: torch.dtype) -> str:
        """The name of ``dtype`` here. Raises UnsupportedOperator for one that no program holds."""
        if dtype not in DTYPES:
            self.refuse(f"it works on {dtype}, which has no lowering: use float32")
        return DTYPES[dtype]

    def refuse(self, reason: str) -> NoReturn:
        """Raise UnsupportedOperator for this use of the operator."""
        raise UnsupportedOperator(f"{self.name} {self.place} cannot be lowered: {reason}")

    def common_type(self, a: Any, b: Any) -> str:
        """The element type in which PyTorch computes with the operands ``a`` and ``b`` (Values or numbers)."""
        return self.element_type(torch.result_type(*(_stand_in(x) if isinstance(x, Value) else x for x in (a, b))))

    def expand(self, x: Any, dtype: str, shape: Sequence[int] | None = None) -> Expr:
        """``x``, a Value or a number, converted to ``dtype`` and broadcast to ``shape`` (that of the result unless given)."""
        target = self.shape if shape is None else tuple(shape)
        if not isinstance(x, Value):
            return constant(x, dtype)
        return convert(expand(self.builder, x, target).expr, x.dtype, dtype)

    def value(self, expr: Expr) -> Value:
        """``expr`` as the result."""
        return Value(self.shape, self.dtype, expr)


def _stand_in(value: Value) -> torch.Tensor:
    dtype = next(dtype for dtype, name in DTYPES.items() if name == value.dtype)
    return torch.empty((1,) * len(value.shape), dtype=dtype, device="meta")


def constant(number: float | int | bool, dtype: str) -> Const:
    """``number`` as a register of ``dtype``."""
    return real(float(number)) if dtype == "f32" else Const(int(number))


def select(dtype: str, condition: Expr, a: Expr, b: Expr) -> Expr:
    """The register a of ``dtype`` where ``condition`` is not 0, else b."""
    return apply("select64" if dtype == "i64" else "select32", condition, a, b)


def convert(x: Expr, source: str, target: str) -> Expr:
    """``x`` of type ``source`` as ``target``, as PyTorch converts: floats to integers towards zero, NaN and overflow to 0."""
    if source == target:
        return x
    if target == "f32":
        return apply("scaled", x, 0)
    if target == "bool":
        zero = apply("feq", x, real(0.0)) if source == "f32" else apply("eq64", x, 0)
        return apply("xor32", zero, 1)
    long = truncated(x) if source == "f32" else x
    if target == "u8":
        return apply("and64", long, 255)
    width = {"i8": 8, "i16": 16, "i32": 32, "i64": 64}[target]
    return apply("shr64", apply("shl64", long, 64 - width), 64 - width) if width < 64 else long


def truncated(x: Expr) -> Expr:
    """A float rounded towards zero, as a long; 0 for NaN and from 2^63 on."""
    exponent = apply("and32", apply("shr32", x, 23), 255)
    significand = apply("or32", apply("and32", x, 0x7FFFFF), 0x800000)
    whole = apply("shl64", significand, apply("sub64", exponent, 150))
    part = apply("ushr64", significand, apply("sub64", 150, exponent))
    size = apply("select64", apply("lt32", exponent, 150), part, whole)
    size = apply("select64", apply("lt32", exponent, 127 + 63), size, 0)
    return apply("select64", apply("lt32", x, 0), apply("sub64", 0, size), size)
