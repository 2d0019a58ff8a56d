"""The torch face of every scalar instruction: the same bits as bisection/reference.py, on any device and thread count.

Only torch functions whose result IEEE 754 or integer arithmetic fixes are called here; docs/numerics.md lists the ones that vary.
Operands are float32 (F), int32 (W) or int64 (L) tensors that broadcast together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["INSTRUCTIONS", "TORCH_TYPES", "VIEWS", "canonical", "face_of", "view"]

VIEWS = {"F": torch.float32, "W": torch.int32, "L": torch.int64}
TORCH_TYPES = {"f32": torch.float32, "i8": torch.int8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64}

Face = Callable[..., Tensor]


def canonical(x: Tensor) -> Tensor:
    """The floats ``x`` with every NaN made the canonical one."""
    return torch.where(torch.isnan(x), torch.nan, x)


def view(register: Tensor, kind: str) -> Tensor:
    """A register in one of the views F, W, L; see bisection.scalar."""
    wanted = VIEWS[kind]
    if register.dtype == wanted:
        return register
    if kind == "F":
        return view(register, "W").view(torch.float32)
    bits = register.view(torch.int32) if register.dtype == torch.float32 else register
    return bits.to(wanted)


def _power(k: Tensor) -> Tensor:
    """2^k in binary64, put together from its bits: torch.ldexp goes through pow, which may be off."""
    return ((k.to(torch.int64) + 1023) << 52).view(torch.float64)


def _ldexp(x: Tensor, k: Tensor) -> Tensor:
    return (x.double() * _power(k.clamp(-600, 600))).float()


def _sqrt(x: Tensor) -> Tensor:
    # torch.sqrt is off by an ulp on some ISAs; through binary64 the error is too small to reach the binary32 result.
    return x.double().sqrt().float()


def _round(x: Tensor) -> Tensor:
    whole = torch.where(torch.isnan(x), 0.0, x).double().round()
    return whole.clamp(-(2.0**31), 2.0**31 - 1).to(torch.int32)


def _scaled(c: Tensor, k: Tensor) -> Tensor:
    # Beyond 2^53 the low 11 bits are folded into a sticky bit (rounding to odd), so that only the last conversion rounds.
    large = (c >= 1 << 53) | (c <= -(1 << 53))
    odd = torch.where(large, (c >> 11) | ((c & 2047) != 0), c)
    exponent = k.clamp(-600, 600) + torch.where(large, 11, 0)
    return (odd.double() * _power(exponent)).float()


def _integer_family(suffix: str) -> dict[str, Face]:
    width = int(suffix)
    least = -(1 << (width - 1))

    def inside(b: Tensor) -> Tensor:
        return (b >= 0) & (b < width)

    def shr(a: Tensor, b: Tensor) -> Tensor:
        return a >> torch.where(inside(b), b, width - 1)

    def ushr(a: Tensor, b: Tensor) -> Tensor:
        by = b.clamp(1, width - 1)
        cleared = (a >> by) & ~(torch.full_like(by, least) >> (by - 1))
        return torch.where(b == 0, a, torch.where(inside(b), cleared, 0))

    def safe(b: Tensor) -> Tensor:
        return torch.where((b == 0) | (b == -1), 1, b)

    def div(a: Tensor, b: Tensor) -> Tensor:
        quotient = torch.div(a, safe(b), rounding_mode="floor")
        return torch.where(b == 0, 0, torch.where(b == -1, -a, quotient))

    def mod(a: Tensor, b: Tensor) -> Tensor:
        return torch.where((b == 0) | (b == -1), 0, torch.remainder(a, safe(b)))

    family: dict[str, Face] = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "and": torch.bitwise_and,
        "or": torch.bitwise_or,
        "xor": torch.bitwise_xor,
        "shl": lambda a, b: torch.where(inside(b), a << b.clamp(0, width - 1), 0),
        "shr": shr,
        "ushr": ushr,
        "div": div,
        "mod": mod,
        "lt": torch.lt,
        "le": torch.le,
        "eq": torch.eq,
        "select": lambda c, a, b: torch.where(c != 0, a, b),
    }
    return {name + suffix: face for name, face in family.items()}


INSTRUCTIONS: dict[str, Face] = {
    "fadd": torch.add,
    "fsub": torch.sub,
    "fmul": torch.mul,
    "fdiv": torch.div,
    "fsqrt": _sqrt,
    "ldexp": _ldexp,
    "flt": torch.lt,
    "fle": torch.le,
    "feq": torch.eq,
    "round": _round,
    "scaled": _scaled,
    **_integer_family("32"),
    **_integer_family("64"),
}
"""By name. A NaN result may have any bits: the executor makes it canonical where the bits can be seen."""


def face_of(name: str, amount: int | None = None) -> Face:
    """The face of instruction ``name``; ``amount`` is the second operand where it is a constant, which makes shifts cheap."""
    kind, width = name[:-2], 64 if name.endswith("64") else 32
    if amount is None or kind not in ("shl", "shr", "ushr") or not 0 < amount < width:
        return INSTRUCTIONS[name]
    if kind == "shl":
        return lambda a, b: a << amount
    if kind == "shr":
        return lambda a, b: a >> amount
    low_bits = (1 << (width - amount)) - 1
    return lambda a, b: (a >> amount) & low_bits
