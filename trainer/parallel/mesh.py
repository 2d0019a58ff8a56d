"""How tensors are cut among workers, and what it means to compute a node in parts.

The workers form a mesh, one axis for each prime factor of their number. A tensor is *whole* (every worker holds all of it) or
*cut*: for each axis, the worker with coordinate c holds the elements whose flat address has (address div block) mod size = c,
closed up in the order of their addresses. A batch cut into equal ranges is such a cut, and stays one when reshaped or transposed.

An ``Option`` is a way to compute a node from whole and cut inputs. Each is exact, since the pieces of a reduction are integers:
whatever runs nodes, with sums and maxima of integers over the workers, gives the bits of the unsplit node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from bisection.nodes import Map, Read, Ref
from trainer.parallel.tape import Tape

__all__ = ["Cuts", "Held", "Mesh", "Option", "Scribe", "Write"]

Cuts = tuple[int, ...]
"""The block of each mesh axis, in elements of the whole tensor."""

Held = Cuts | None
"""How a tensor is held: cut, or whole (None)."""


@dataclass(frozen=True)
class Dimension:
    """A dimension of a tensor viewed along its cuts: its strides in the whole and in a part; the axis that cuts it, or None."""

    size: int
    stride: int
    local: int
    axis: int | None


@dataclass(frozen=True)
class Mesh:
    """``sizes``: the primes whose product is the number of workers, largest first. A rank's first coordinate counts slowest."""

    sizes: tuple[int, ...]

    @staticmethod
    def of(world: int) -> Mesh:
        """The mesh of ``world`` workers."""
        sizes, prime = [], 2
        while world > 1:
            while world % prime == 0:
                sizes.append(prime)
                world //= prime
            prime += 1
        return Mesh(tuple(reversed(sizes)))

    @cached_property
    def world(self) -> int:
        """The number of workers."""
        return prod(self.sizes)

    def coordinates(self, rank: int) -> tuple[int, ...]:
        """Where ``rank`` stands on each axis."""
        found = []
        for size in reversed(self.sizes):
            found.append(rank % size)
            rank //= size
        return tuple(reversed(found))

    def ranges(self, block: int) -> Cuts:
        """The cuts that give each rank, in order, one range of ``block`` elements of every world·block."""
        return tuple(block * prod(self.sizes[axis + 1 :]) for axis in range(len(self.sizes)))

    def order(self, cuts: Sequence[int]) -> list[int]:
        """The axes that ``cuts`` cuts (a block of 0 does not), by falling block."""
        return sorted((axis for axis, block in enumerate(cuts) if block), key=lambda axis: -cuts[axis])

    def fits(self, count: int, cuts: Cuts) -> bool:
        """Whether ``cuts`` cut a tensor of ``count`` elements into equal parts, each inside the one before."""
        for axis in self.order(cuts):
            if cuts[axis] < 0 or count % (self.sizes[axis] * cuts[axis]):
                return False
            count = cuts[axis]
        return all(cuts)

    def layout(self, count: int, cuts: Sequence[int]) -> list[Dimension]:
        """The dimensions that view a tensor of ``count`` elements along its cuts, outermost first, without those of size 1."""
        sizes: list[tuple[int, int, int | None]] = []
        left = count
        for axis in self.order(cuts):
            period = self.sizes[axis] * cuts[axis]
            sizes += [(left // period, period, None), (self.sizes[axis], cuts[axis], axis)]
            left = cuts[axis]
        dimensions, local = [], 1
        for size, stride, cut_by in reversed([*sizes, (left, 1, None)]):
            if size == 1:
                continue
            dimensions.append(Dimension(size, stride, local if cut_by is None else 0, cut_by))
            local *= size if cut_by is None else 1
        return dimensions[::-1]


class Scribe:
    """Writes the nodes of one worker. ``put(kind, inputs, outputs, *fields)`` appends a node and gives its outputs."""

    def __init__(self, mesh: Mesh, rank: int, put: Callable[..., tuple[Ref, ...]]) -> None:
        self.mesh, self.put = mesh, put
        self.at = mesh.coordinates(rank)

    def own(self, whole: Ref, cuts: Cuts) -> Ref:
        """This worker's part of a whole tensor, by a copying map."""
        layout = self.mesh.layout(whole.count, cuts)
        base = sum(d.stride * self.at[d.axis] for d in layout if d.axis is not None)
        free = [d for d in layout if d.axis is None]
        shape = tuple(d.size for d in free)
        tape = Tape(1, len(shape))
        read = Read(base, tuple(d.stride for d in free))
        return self.put(Map, (whole,), [(whole.dtype, prod(shape))], shape, (read,), tape.finish(tape.read(0)))[0]

    def placed(self, part: Ref, cuts: Sequence[int], fill: int) -> Ref:
        """The whole tensor of which this worker's ``part`` (integers) is cut along the axes with a block; ``fill`` elsewhere."""
        if not any(cuts):
            return part
        count = part.count * prod(size for size, block in zip(self.mesh.sizes, cuts, strict=True) if block)
        layout = self.mesh.layout(count, cuts)
        tape = Tape(1, len(layout))
        result, other = tape.read(0), tape.constant(fill)
        for i, d in enumerate(layout):
            if d.axis is not None:
                result = tape.op("select64", tape.op("eq64", tape.index(i), tape.constant(self.at[d.axis])), result, other)
        read = Read(0, tuple(d.local for d in layout))
        shape = tuple(d.size for d in layout)
        return self.put(Map, (part,), [(part.dtype, count)], shape, (read,), tape.finish(result))[0]

    def own_rows(self, index: Ref, rows: int, cuts: Cuts) -> Ref:
        """Each index into a whole table of ``rows`` as an index into this worker's part of it; -1 where the row is not there."""
        tape = Tape(1, 1)
        local, absent = tape.constant(0), tape.constant(-1)
        inside = []
        for i, d in enumerate(self.mesh.layout(rows, cuts)):
            digit = tape.op("div64", tape.read(0), tape.constant(d.stride))
            if i:
                digit = tape.op("mod64", digit, tape.constant(d.size))
            if d.axis is None:
                local = tape.op("add64", local, tape.op("mul64", digit, tape.constant(d.local)))
            else:
                inside.append(tape.op("eq64", digit, tape.constant(self.at[d.axis])))
        for own in inside:
            local = tape.op("select64", own, local, absent)
        return self.put(Map, (index,), [("i64", index.count)], (index.count,), (Read(0, (1,)),), tape.finish(local))[0]


Write = Callable[[Scribe, Sequence[Ref]], tuple[Ref, ...]]
"""Appends one worker's nodes, given its parts of the inputs; gives its parts of the outputs."""


@dataclass(frozen=True)
class Option:
    """One way to compute a node in parts.

    ``wants``: how each input must be held. ``gives``: how the outputs are held. ``write`` writes one worker's nodes. With a
    ``combine`` its outputs have the size of the whole and are to be combined over all workers; then they are whole. ``could``,
    where it is given: for inputs that are wanted whole, cuts in which they would do too.
    """

    wants: tuple[Held, ...]
    gives: Held
    write: Write
    combine: Literal["sum", "max"] | None = None
    could: tuple[Held, ...] = ()
