"""Splitting the nodes that reduce or look up: what one worker computes of them, and what is added up over the workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Literal

from bisection.nodes import Dot, Gather, Reduce, Ref, ScatterAdd
from trainer.parallel.mesh import Cuts, Held, Mesh, Option, Scribe, Write

__all__ = ["gather_some", "split_dot", "split_gather", "split_reduce", "split_scatter_add"]

LOWEST = {"i32": -(1 << 31), "i64": -(1 << 63)}
ADDED_AS_BITS = ("f32", "i32", "i64")  # the element types whose bits collectives can add


def _ways(mesh: Mesh, blocks: Sequence[int]) -> int:
    """Into how many parts the axes with a block cut."""
    return prod(size for size, block in zip(mesh.sizes, blocks, strict=True) if block)


def _given(
    wants: tuple[Held, ...],
    blocks: Sequence[int],
    write: Write,
    combine: Literal["sum", "max"] = "sum",
) -> Option:
    """The option whose outputs are cut by ``blocks``, or partial along the axes whose block is 0."""
    if all(blocks):
        return Option(wants, tuple(blocks), write)

    def placed(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
        fill = 0 if combine == "sum" else LOWEST[inputs[0].dtype]
        return tuple(scribe.placed(part, blocks, fill) for part in write(scribe, inputs))

    return Option(wants, None, placed, combine)


def split_reduce(node: Reduce, held: Sequence[Held], mesh: Mesh) -> Iterator[Option]:
    """Whole runs on each worker, or a piece of every run, along each axis."""
    (cuts,) = held
    if cuts is None:
        return
    blocks = []
    for block, ways in zip(cuts, mesh.sizes, strict=True):
        if block % node.length == 0:
            blocks.append(block // node.length)
        elif node.length % (ways * block) == 0:
            blocks.append(0)
        else:
            return
    length = node.length * _ways(mesh, blocks) // mesh.world

    def write(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
        (x,) = inputs
        return scribe.put(Reduce, (x,), [(node.outputs[0].dtype, x.count // length)], node.op, length)

    yield _given((cuts,), blocks, write, node.op)


# Products -----------------------------------------------------------------------------------------------------------------


def split_dot(node: Dot, held: Sequence[Held], mesh: Mesh) -> Iterator[Option]:
    """Some of the matrices or a piece of every sum, as either operand is cut; or some of the rows or columns."""
    for lead in (0, 1):
        cuts = held[lead]
        if cuts is None:
            continue
        rows, others = (node.m, node.n) if lead == 0 else (node.n, node.m)
        yield from _matched(node, held, mesh, lead, cuts, rows, others)
        yield from _rows(node, mesh, lead, cuts, rows)


def _matched(node: Dot, held: Sequence[Held], mesh: Mesh, lead: int, cuts: Cuts, rows: int, others: int) -> Iterator[Option]:
    """Both operands cut alike, by matrices or along the sum. An operand that is not held so is gathered and cut."""
    blocks, other = [], []
    for block, ways in zip(cuts, mesh.sizes, strict=True):
        if block % (rows * node.k) == 0:
            matrices = block // (rows * node.k)
            blocks.append(matrices * node.m * node.n)
            other.append(matrices * others * node.k)
        elif node.k % (ways * block) == 0:
            blocks.append(0)
            other.append(block)
        else:
            return
    needed = tuple(other)
    k = node.k * _ways(mesh, blocks) // mesh.world
    ready = held[1 - lead] == needed
    wants = (cuts, needed if ready else None)

    def write(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
        pair = list(inputs)
        if not ready:
            pair[1 - lead] = scribe.own(pair[1 - lead], needed)
        count = node.outputs[0].count // _ways(mesh, blocks)
        return scribe.put(Dot, tuple(pair), [("i64", count)], node.m, node.n, k)

    yield _given(wants if lead == 0 else wants[::-1], blocks, write)


def _rows(node: Dot, mesh: Mesh, lead: int, cuts: Cuts, rows: int) -> Iterator[Option]:
    """The rows of one operand cut, the other operand whole."""
    if any(block % node.k or rows * node.k % (ways * block) for block, ways in zip(cuts, mesh.sizes, strict=True)):
        return
    blocks = tuple(block // node.k * (node.n if lead == 0 else 1) for block in cuts)
    m, n = (node.m // mesh.world, node.n) if lead == 0 else (node.m, node.n // mesh.world)

    def write(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
        return scribe.put(Dot, tuple(inputs), [("i64", node.outputs[0].count // mesh.world)], m, n, node.k)

    yield Option((cuts, None) if lead == 0 else (None, cuts), blocks, write)


# Look-ups -----------------------------------------------------------------------------------------------------------------


def split_gather(node: Gather, held: Sequence[Held], mesh: Mesh) -> Iterator[Option]:
    """Some of the indices on each worker; or a piece of the table, where each row is found by exactly one worker."""
    table, index = held
    if index is not None:
        yield gather_some(node, index)
    if table is None or node.outputs[0].dtype not in ADDED_AS_BITS or any(block % node.width for block in table):
        return
    blocks = tuple(block // node.width for block in table)

    def write(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
        piece, index = inputs
        rows = scribe.own_rows(index, node.inputs[0].count // node.width, blocks)
        return scribe.put(Gather, (piece, rows), [(piece.dtype, node.outputs[0].count)], node.width)

    yield Option((table, None), None, write, "sum")


def gather_some(node: Gather, index: Cuts, ready: bool = True) -> Option:
    """The look-ups of a part of the indices in a whole table. Indices that are not ``ready`` cut are whole, and cut first."""

    def write(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
        table, own = inputs
        if not ready:
            own = scribe.own(own, index)
        return scribe.put(Gather, (table, own), [(table.dtype, own.count * node.width)], node.width)

    return Option((None, index if ready else None), tuple(block * node.width for block in index), write)


def split_scatter_add(node: ScatterAdd, held: Sequence[Held], mesh: Mesh) -> Iterator[Option]:
    """Some of the channels on each worker, or a piece of every run of values with its indices."""
    values, index = held
    if values is None:
        return
    if all(block % node.length == 0 for block in values):

        def channels(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
            count = inputs[0].count // node.length * node.bins
            return scribe.put(ScatterAdd, tuple(inputs), [("i64", count)], node.length, node.bins)

        yield Option((values, None), tuple(block // node.length * node.bins for block in values), channels)
    if all(node.length % (ways * block) == 0 for block, ways in zip(values, mesh.sizes, strict=True)):
        ready = index == values

        def pieces(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
            own = inputs[1] if ready else scribe.own(inputs[1], values)
            pair = (inputs[0], own)
            return scribe.put(ScatterAdd, pair, [("i64", node.outputs[0].count)], node.length // mesh.world, node.bins)

        yield Option((values, values if ready else None), None, pieces, "sum")
