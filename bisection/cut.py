"""The one-element cut: which input elements determine one output element, and how (docs/program.md, "One element").

This is the meaning of a node, in exact integers and one element at a time; the referee contract computes the same. An element is
a *register*: the stored bits as a signed integer (the pattern of an f32 sign-extended from 32 bits).

A run of more than MAX_LENGTH elements is more than one verdict can read. It is cut into *parts*, each with a *partial result*, an
i64; an element is the combination of the partial results of all parts of its run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch

from bisection.nodes import DTYPES, MAX_LENGTH, Dot, Gather, Map, Node, Read, Reduce, RunNode, ScatterAdd
from bisection.numbers import wrap

__all__ = [
    "PART_LENGTH",
    "Fetch",
    "address",
    "combined",
    "element",
    "load",
    "part_count",
    "part_length",
    "part_result",
    "partial",
    "run_starts",
    "takes_max",
    "unravel",
]

PART_LENGTH = 256  # elements that a part of a longer run has

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
def _(node: Gather, output: int, position: int, fetch: Fetch) -> int:
    row, column = divmod(position, node.width)
    index = fetch(1, row, 1)[0]
    inside = 0 <= index < node.inputs[0].count // node.width
    return fetch(0, index * node.width + column, 1)[0] if inside else 0


@element.register(Reduce)
@element.register(Dot)
@element.register(ScatterAdd)
def _(node: RunNode, output: int, position: int, fetch: Fetch) -> int:
    return partial(node, position, 0, node.length, fetch)


# Runs -------------------------------------------------------------------------------------------------------------------


def part_length(node: RunNode) -> int:
    """How many elements a part of a run of ``node`` has (the last may have fewer). What one verdict reads whole is one part."""
    return node.length if node.length <= MAX_LENGTH else PART_LENGTH


def part_count(node: RunNode) -> int:
    """How many parts a run of ``node`` has."""
    return -(-node.length // part_length(node))


def takes_max(node: RunNode) -> bool:
    """Whether an element of ``node`` is a maximum; else it is a sum."""
    return isinstance(node, Reduce) and node.op == "max"


def run_starts(node: RunNode, position: int) -> tuple[int, ...]:
    """For each input of ``node``, where the run of element ``position`` begins in it."""
    if isinstance(node, Reduce):
        return (position * node.length,)
    if isinstance(node, ScatterAdd):
        return position // node.bins * node.length, 0
    batch, row, column = unravel(position, node.shape)
    return (batch * node.m + row) * node.k, (batch * node.n + column) * node.k


def partial(node: RunNode, position: int, first: int, count: int, fetch: Fetch) -> int:
    """The partial result of element ``position`` over elements first … first+count-1 of its run."""
    runs = [fetch(i, start + first, count) for i, start in enumerate(run_starts(node, position))]
    if isinstance(node, Reduce):
        return combined(runs[0], takes_max(node))
    x, y = runs
    if isinstance(node, Dot):
        return wrap(sum(a * b for a, b in zip(x, y, strict=True)), 64)
    bin_ = position % node.bins
    return wrap(sum(value for value, index in zip(x, y, strict=True) if index == bin_), 64)


def part_result(node: RunNode, position: int, part: int, fetch: Fetch) -> int:
    """The partial result of element ``position`` over part number ``part`` of its run."""
    size = part_length(node)
    return partial(node, position, part * size, min(size, node.length - part * size), fetch)


def combined(results: Sequence[int], maximum: bool) -> int:
    """The partial result over neighbouring parts: the maximum of theirs, or the sum, wrapping in i64."""
    return max(results) if maximum else wrap(sum(results), 64)
