"""The one-element cut: which input elements determine one output element, and how (docs/program.md, "One element").

This is the meaning of a node, in exact integers and one element at a time; the referee contract computes the same. An element is
a *register*: the stored bits as a signed integer (the pattern of an f32 sign-extended from 32 bits).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch

from bisection.nodes import DTYPES, Dot, Gather, Map, Node, Read, Reduce, ScatterAdd
from bisection.numbers import wrap

__all__ = ["Fetch", "address", "element", "load", "unravel"]

Fetch = Callable[[int, int, int], Sequence[int]]
"""fetch(i, first, count): the elements first … first+count-1 of the node's input i, as registers."""


def load(data: bytes, dtype: str) -> list[int]:
    """The registers that little-endian ``data`` holds."""
    size = DTYPES[dtype].size
    return [int.from_bytes(data[at : at + size], "little", signed=True) for at in range(0, len(data), size)]


def narrow(register: int, dtype: str) -> int:
    """The register that remains of ``register`` once it is stored as ``dtype``: its low bits, sign-extended."""
    return wrap(register, 8 * DTYPES[dtype].size)


def unravel(position: int, shape: Sequence[int]) -> list[int]:
    """The indices of flat ``position`` in C order."""
    indices = []
    for size in reversed(shape):
        indices.append(position % size)
        position //= size
    return indices[::-1]


def address(read: Read, indices: Sequence[int], count: int) -> int | None:
    """The flat address that an affine read takes at ``indices`` of a tensor of ``count`` elements, or None where it reads 0."""
    for c in read.conditions:
        if not 0 <= c.offset + sum(f * i for f, i in zip(c.coefficients, indices, strict=True)) < c.size:
            return None
    at = read.base + sum(f * i for f, i in zip(read.strides, indices, strict=True))
    return at if 0 <= at < count else None


@singledispatch
def element(node: Node, output: int, position: int, fetch: Fetch) -> int:
    """Element ``position`` of output ``output`` of ``node``, as a register; ``fetch`` gives the input elements it needs."""
    raise TypeError(f"a {node.NAME} node is a boundary: it compares roots and computes no element")


@element.register
def _(node: Map, output: int, position: int, fetch: Fetch) -> int:
    indices = unravel(position, node.iteration)
    values = []
    for i, (read, ref) in enumerate(zip(node.reads, node.inputs, strict=True)):
        at = address(read, indices, ref.count)
        values.append(0 if at is None else fetch(i, at, 1)[0])
    return narrow(node.scalar.run(values, indices)[output], node.outputs[output].dtype)


@element.register
def _(node: Reduce, output: int, position: int, fetch: Fetch) -> int:
    run = fetch(0, position * node.length, node.length)
    return wrap(sum(run), 64) if node.op == "sum" else max(run)


@element.register
def _(node: Dot, output: int, position: int, fetch: Fetch) -> int:
    batch, row, column = unravel(position, node.shape)
    a = fetch(0, (batch * node.m + row) * node.k, node.k)
    b = fetch(1, (batch * node.n + column) * node.k, node.k)
    return wrap(sum(x * y for x, y in zip(a, b, strict=True)), 64)


@element.register
def _(node: Gather, output: int, position: int, fetch: Fetch) -> int:
    row, column = divmod(position, node.width)
    index = fetch(1, row, 1)[0]
    inside = 0 <= index < node.inputs[0].count // node.width
    return fetch(0, index * node.width + column, 1)[0] if inside else 0


@element.register
def _(node: ScatterAdd, output: int, position: int, fetch: Fetch) -> int:
    channel, bin_ = divmod(position, node.bins)
    values = fetch(0, channel * node.length, node.length)
    indices = fetch(1, 0, node.length)
    return wrap(sum(v for v, i in zip(values, indices, strict=True) if i == bin_), 64)
