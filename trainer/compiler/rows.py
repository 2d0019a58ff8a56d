"""Rows: how the elements of tensors belong to the rows of a group (docs/executor.md).

A tensor of a group with ``rows`` rows is seen as [outer, rows, inner]: row r holds the elements (o, r, i). A node is *row-local* if
row r of its output needs only row r of the tensors that the group makes. Then the group can run all of its nodes on one row after
the other, and in any order of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod

from bisection.nodes import Dot, Gather, Map, Node, Reduce, RunNode, ScatterAdd

__all__ = ["Nest", "View", "coarser_rows", "local_view", "natural_rows", "split_map"]

MOST_ACROSS = 64  # distant rows joined into one


@dataclass(frozen=True, slots=True)
class View:
    """A tensor as [outer, rows, inner], given the rows of its group."""

    outer: int
    inner: int

    @property
    def each(self) -> int:
        """The number of elements in one row."""
        return self.outer * self.inner

    def coarser(self, across: int, along: int) -> View:
        """The view when ``along`` neighbouring rows, and then ``across`` distant ones, become one."""
        return View(self.outer * across, self.inner * along)


@dataclass(slots=True)
class Nest:
    """The loops of a ``map``: sizes from the outermost, and affine functions of the loop indices as one coefficient each.

    ``functions`` are the addresses of the reads, then their conditions, then the node's own indices. ``first`` and ``last`` bound
    the loops over rows: those before are outer ones, those after inner ones.
    """

    sizes: list[int]
    functions: list[list[int]]
    first: int = 0
    last: int = 0

    def split(self, loop: int, inner: int) -> bool:
        """Make two loops of one, the inner of size ``inner``. False if it does not divide the size."""
        if self.sizes[loop] % inner:
            return False
        self.sizes[loop : loop + 1] = [self.sizes[loop] // inner, inner]
        for f in self.functions:
            f[loop : loop + 1] = [f[loop] * inner, f[loop]]
        return True

    @property
    def view(self) -> View:
        """The view of an output."""
        return View(prod(self.sizes[: self.first]), prod(self.sizes[self.last :]))


def nest_of(node: Map) -> Nest:
    """The loops of ``node`` as the program gives them, without those of size 1."""
    kept = [d for d, size in enumerate(node.iteration) if size > 1]
    functions = [read.strides for read in node.reads]
    functions += [condition.coefficients for read in node.reads for condition in read.conditions]
    functions += [tuple(int(d == own) for d in range(len(node.iteration))) for own in range(len(node.iteration))]
    return Nest([node.iteration[d] for d in kept], [[f[d] for d in kept] for f in functions])


def split_map(node: Map, rows: int, views: Mapping[int, View]) -> Nest | None:
    """The loops of ``node`` parted into outer ones, rows and inner ones; None if the node is not row-local.

    ``views`` are those of the tensors that the group makes, by number; one that reads none of them takes the view of its output.
    """
    nest = nest_of(node)
    internal = [(i, views[ref.tensor]) for i, ref in enumerate(node.inputs) if ref.tensor in views]
    if not internal:
        own = views.get(node.outputs[0].tensor)
        return nest if _parted(nest, own.outer if own else 1, rows) else None
    for i, view in internal:
        for boundary in (view.inner, rows * view.inner):
            if not _part(nest, i, boundary):
                return None
    found = {_row_loops(nest, i, view, rows, node.reads[i].base) for i, view in internal}
    bounds = found.pop()
    if found or bounds is None:
        return None
    nest.first, nest.last = bounds
    return nest


def _parted(nest: Nest, outer: int, rows: int) -> bool:
    """Part loops that depend on nothing: ``outer`` ones, then rows."""
    first = _leading(nest, 0, outer)
    last = first if first is None else _leading(nest, first, rows)
    if first is None or last is None:
        return False
    nest.first, nest.last = first, last
    return True


def _leading(nest: Nest, start: int, count: int) -> int | None:
    """Where the loops end that, from ``start`` on, make ``count`` turns together; the last of them may be split."""
    while count > 1:
        if start == len(nest.sizes):
            return None
        size = nest.sizes[start]
        if count % size and (size % count or not nest.split(start, size // count)):
            return None
        count //= nest.sizes[start]
        start += 1
    return start


def _part(nest: Nest, function: int, boundary: int) -> bool:
    """Split the loop along which an address crosses a multiple of ``boundary``, so that no loop does. None may run backwards."""
    strides = nest.functions[function]
    if min(strides, default=0) < 0:
        return False
    for loop, (size, stride) in enumerate(zip(nest.sizes, strides, strict=True)):
        if 0 < stride < boundary < stride * size:
            return boundary % stride == 0 and nest.split(loop, boundary // stride)
    return True


def _row_loops(nest: Nest, read: int, view: View, rows: int, base: int) -> tuple[int, int] | None:
    """The loops that run over the rows of a tensor in ``view`` as rows do, if the read stays within its row."""
    block = rows * view.inner
    strides = nest.functions[read]
    if base < 0 or base % block >= view.inner:
        return None
    reach = base % block + sum(s * (n - 1) for n, s in zip(nest.sizes, strides, strict=True) if s < view.inner)
    along = [d for d, s in enumerate(strides) if view.inner <= s < block]
    if reach >= view.inner or any(s >= block and s % block for s in strides):
        return None
    if not along:
        return (0, 0) if rows == 1 else None
    if along != list(range(along[0], along[-1] + 1)) or prod(nest.sizes[d] for d in along) != rows:
        return None
    expected = view.inner
    for d in reversed(along):
        if strides[d] != expected:
            return None
        expected *= nest.sizes[d]
    return along[0], along[-1] + 1


# Every kind -------------------------------------------------------------------------------------------------------------

Views = Mapping[int, View]


def _along(node: Node, rows: int, views: Views, length: int, result: int) -> View | None:
    """A node that turns each run of ``length`` elements of its first input into ``result`` elements and reads the others whole."""
    first, *others = node.inputs
    if any(ref.tensor in views for ref in others):
        return None
    runs = first.count // length
    source = views.get(first.tensor) or (View(1, first.count // rows) if runs % rows == 0 else None)
    if source is None or source.inner % length:
        return None
    return View(source.outer, source.inner // length * result)


def local_view(node: Node, rows: int, views: Views) -> View | None:
    """The view of ``node``'s outputs in a group of ``rows`` rows that makes the tensors in ``views``; None if not row-local."""
    match node:
        case Map():
            nest = split_map(node, rows, views)
            return nest.view if nest else None
        case Reduce():
            return _along(node, rows, views, node.length, 1)
        case Dot():
            return _along(node, rows, views, node.k, node.n)
        case Gather():
            table, index = node.inputs
            if table.tensor in views:
                return None
            source = views.get(index.tensor) or (View(1, index.count // rows) if index.count % rows == 0 else None)
            return View(source.outer, source.inner * node.width) if source else None
        case ScatterAdd():
            return _along(node, rows, views, node.length, node.bins)
    return None


def natural_rows(node: Node) -> int:
    """The most rows that ``node`` alone can have."""
    if isinstance(node, RunNode):
        return node.inputs[0].count // node.length
    return node.inputs[1].count if isinstance(node, Gather) else node.outputs[0].count


def coarser_rows(node: Node, rows: int, views: Views) -> Sequence[tuple[int, int]]:
    """Ways (across, along) to join rows that may make ``node`` row-local, the mildest first."""
    if isinstance(node, Map):
        sizes = nest_of(node).sizes
        prefixes = {prod(sizes[:d]) for d in range(len(sizes) + 1)}
        shifts = {
            rows * views[ref.tensor].inner // read.base
            for ref, read in zip(node.inputs, node.reads, strict=True)
            if ref.tensor in views and read.base >= views[ref.tensor].inner
        }
        across = sorted({1, *(a for a in prefixes | shifts if 1 < a <= MOST_ACROSS)})
        ways = {(a, rows // (a * p)) for a in across for p in prefixes if rows % (a * p) == 0}
        ways |= {(a, 1) for a in across if rows % a == 0}
        return sorted(ways, key=lambda way: (way[0] * way[1], way[0]))
    first = node.inputs[1 if isinstance(node, Gather) else 0]
    if isinstance(node, RunNode) and first.tensor in views:
        along = node.length // gcd(node.length, views[first.tensor].inner)
        return [(1, along)] if rows % along == 0 else []
    return [(1, 1)]
