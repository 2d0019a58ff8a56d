"""Splitting a ``map``: the part of the iteration that one worker runs, with its reads, conditions and indices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from bisection.errors import ProgramError
from bisection.nodes import Condition, Map, Read, Ref
from bisection.scalar import ScalarProgram
from trainer.parallel.mesh import Cuts, Held, Mesh, Option, Scribe, Write
from trainer.parallel.tape import Register, Tape

__all__ = ["part_of_map", "split_map"]


@dataclass(frozen=True)
class _Part:
    """A factor of an iteration dimension: index = Σ weight·part. A worker stands still on the parts that have an ``axis``."""

    dimension: int
    size: int
    weight: int
    axis: int | None


def split_map(node: Map, held: Sequence[Held], mesh: Mesh) -> Iterator[Option]:
    """The ways to run ``node`` over a part of its iteration on each worker."""
    suffix = _suffixes(node.iteration)
    for places in _places(node, held, mesh):
        parts = _parts(node.iteration, places, mesh)
        if parts is None:
            continue
        local = [
            _cut_address(read, parts, cuts, mesh) if cuts else None
            for read, ref, cuts in zip(node.reads, node.inputs, held, strict=True)
        ]
        wants = tuple(cuts if address else None for cuts, address in zip(held, local, strict=True))
        gives = tuple(run * suffix[d] for d, run in places)
        could = tuple(_possible_cuts(read, parts, ref.count, mesh) for read, ref in zip(node.reads, node.inputs, strict=True))
        option = Option(wants, gives, _writer(node, parts, local), could=could)
        if any(wants) and _fits(option, node, mesh):
            yield option


def part_of_map(node: Map, cuts: Cuts, mesh: Mesh) -> Option | None:
    """The way to compute the part of the outputs that ``cuts`` give each worker from whole inputs; None if there is none."""
    places = []
    for ways, block in zip(mesh.sizes, cuts, strict=True):
        runs = [(d, block // suffix) for d, suffix in enumerate(_suffixes(node.iteration)) if block % suffix == 0]
        fitting = [(d, run) for d, run in runs if run and node.iteration[d] % (ways * run) == 0]
        if not fitting:
            return None
        places.append(fitting[0])
    parts = _parts(node.iteration, places, mesh)
    if parts is None:
        return None
    option = Option((None,) * len(node.inputs), cuts, _writer(node, parts, [None] * len(node.inputs)))
    return option if _fits(option, node, mesh) else None


def _suffixes(shape: Sequence[int]) -> list[int]:
    return [prod(shape[d + 1 :]) for d in range(len(shape))]


def _writer(node: Map, parts: Sequence[_Part], local: Sequence[_Address | None]) -> Write:
    shape = tuple(part.size for part in parts if part.axis is None)

    def write(scribe: Scribe, inputs: Sequence[Ref]) -> tuple[Ref, ...]:
        reads = tuple(_local_read(read, address, parts, scribe.at) for read, address in zip(node.reads, local, strict=True))
        scalar = _local_scalar(node.scalar, parts, scribe.at)
        return scribe.put(Map, tuple(inputs), [(ref.dtype, prod(shape)) for ref in node.outputs], shape, reads, scalar)

    return write


def _places(node: Map, held: Sequence[Held], mesh: Mesh) -> list[tuple[tuple[int, int], ...]]:
    """For each axis the dimension and the run of indices that could be one worker's, as the strides over a cut input suggest."""
    found: dict[tuple[tuple[int, int], ...], None] = {}
    for read, cuts in zip(node.reads, held, strict=True):
        if cuts is None:
            continue
        choices = [
            [
                (d, block // stride)
                for d, (stride, size) in enumerate(zip(read.strides, node.iteration, strict=True))
                if stride > 0 and block % stride == 0 and size % (ways * (block // stride)) == 0
            ]
            for ways, block in zip(mesh.sizes, cuts, strict=True)
        ]
        found.update(dict.fromkeys(product(*choices)))
    return list(found)


def _parts(iteration: Sequence[int], places: Sequence[tuple[int, int]], mesh: Mesh) -> list[_Part] | None:
    """The iteration with every split dimension taken apart; None where two axes do not nest."""
    parts = []
    for d, size in enumerate(iteration):
        axes = sorted((axis for axis, (own, _) in enumerate(places) if own == d), key=lambda axis: -places[axis][1])
        left, split = size, []
        for axis in axes:
            run, ways = places[axis][1], mesh.sizes[axis]
            if left % (ways * run):
                return None
            split += [_Part(d, left // (ways * run), ways * run, None), _Part(d, ways, run, axis)]
            left = run
        split.append(_Part(d, left, 1, None))
        parts += [part for part in split if part.axis is not None or part.size > 1 or not axes]
    return parts


@dataclass(frozen=True)
class _Address:
    """Where a local read starts in a part of a cut tensor, and its strides over the parts that are not fixed."""

    base: int
    strides: tuple[int, ...]


def _cut_address(read: Read, parts: Sequence[_Part], cuts: Cuts, mesh: Mesh) -> _Address | None:
    """``read`` as an address in each worker's own part; None unless all that a worker reads is its own.

    The blocks cut an address into levels: multiples of the outermost period, what is below that block, and so on inwards. Every
    part of the iteration must move within one level, each level must stay below its block, and each axis must be moved by its own
    part of the iteration and by nothing else.
    """
    moved = {part.axis: read.strides[part.dimension] * part.weight for part in parts if part.axis is not None}
    if any(moved.get(axis) != block for axis, block in enumerate(cuts)):
        return None
    order = mesh.order(cuts)
    units = [mesh.sizes[axis] * cuts[axis] for axis in order] + [1]
    bounds = [cuts[axis] for axis in order]
    closing = [prod(mesh.sizes[axis] for axis in order[level:]) for level in range(len(units))]
    free = [part for part in parts if part.axis is None]
    strides = [read.strides[part.dimension] * part.weight for part in free]
    levels = [next(level for level, unit in enumerate(units) if stride % unit == 0) for stride in strides]
    reach = [_reach(level, levels, strides, read.conditions, parts) for level in range(len(units))]
    left, base = read.base, 0
    for level, unit in enumerate(units[:-1]):
        start = (left + reach[-1][0]) // unit * unit
        if level and not (start + reach[level][0] >= 0 and start + reach[level][1] < bounds[level - 1]):
            return None
        base, left = base + start // closing[level], left - start
    if left + reach[-1][0] < 0 or left + reach[-1][1] >= bounds[-1]:
        return None
    return _Address(base + left, tuple(stride // closing[level] for stride, level in zip(strides, levels, strict=True)))


def _possible_cuts(read: Read, parts: Sequence[_Part], count: int, mesh: Mesh) -> Held:
    """The cuts of a tensor of ``count`` elements under which each worker would read only its own; None if there are none."""
    moved = {part.axis: read.strides[part.dimension] * part.weight for part in parts if part.axis is not None}
    cuts = tuple(moved[axis] for axis in range(len(mesh.sizes)))
    return cuts if mesh.fits(count, cuts) and _cut_address(read, parts, cuts, mesh) else None


def _reach(
    level: int, levels: Sequence[int], strides: Sequence[int], conditions: Sequence[Condition], parts: Sequence[_Part]
) -> tuple[int, int]:
    """The least and the largest value of Σ stride·part over the parts of ``level``, where the conditions hold.

    A condition helps where the strides are a multiple of its coefficients; one that changes along an axis is left out.
    """
    free = [part for part in parts if part.axis is None]
    rest = {i for i, own in enumerate(levels) if own == level}
    low = high = 0
    for condition in conditions:
        if any(condition.coefficients[part.dimension] for part in parts if part.axis is not None):
            continue
        factors = {i: condition.coefficients[part.dimension] * part.weight for i, part in enumerate(free)}
        factors = {i: factor for i, factor in factors.items() if factor}
        ratios = {divmod(strides[i], factor) for i, factor in factors.items()}
        if not factors or not rest.issuperset(factors) or len(ratios) > 1 or next(iter(ratios))[1]:
            continue
        least = condition.offset + sum(min(factor * (free[i].size - 1), 0) for i, factor in factors.items())
        most = condition.offset + sum(max(factor * (free[i].size - 1), 0) for i, factor in factors.items())
        least, most = max(least, 0), min(most, condition.size - 1)
        if least > most:
            continue  # the read is always 0
        ratio = next(iter(ratios))[0]
        ends = sorted((ratio * (least - condition.offset), ratio * (most - condition.offset)))
        low, high, rest = low + ends[0], high + ends[1], rest - set(factors)
    for i in rest:
        end = strides[i] * (free[i].size - 1)
        low, high = low + min(end, 0), high + max(end, 0)
    return low, high


def _local_read(read: Read, address: _Address | None, parts: Sequence[_Part], at: Sequence[int]) -> Read:
    def local(start: int, factors: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        start += sum(factors[part.dimension] * part.weight * at[part.axis] for part in parts if part.axis is not None)
        return start, tuple(factors[part.dimension] * part.weight for part in parts if part.axis is None)

    conditions = []
    for condition in read.conditions:
        offset, coefficients = local(condition.offset, condition.coefficients)
        conditions.append(Condition(offset, condition.size, coefficients))
    base, strides = (address.base, address.strides) if address else local(read.base, read.strides)
    return Read(base, strides, tuple(conditions))


def _local_scalar(scalar: ScalarProgram, parts: Sequence[_Part], at: Sequence[int]) -> ScalarProgram:
    """The scalar program over the local indices. An index of a split dimension that it uses is put together first."""
    used = {register for row in scalar.ops for register in row.operands} | set(scalar.results)
    split = {part.dimension for part in parts if part.axis is not None}
    free = [part for part in parts if part.axis is None]
    tape = Tape(scalar.reads, len(free))

    def index(dimension: int) -> Register:
        places = [(tape.index(i), part.weight) for i, part in enumerate(free) if part.dimension == dimension]
        if dimension not in split:
            return places[0][0]
        if scalar.reads + dimension not in used:
            return tape.read(0)  # nothing looks at it
        fixed = (part.weight * at[part.axis] for part in parts if part.dimension == dimension and part.axis is not None)
        total = tape.constant(sum(fixed))
        for place, weight in places:
            total = tape.op("add64", total, place if weight == 1 else tape.op("mul64", place, tape.constant(weight)))
        return total

    registers = [tape.read(i) for i in range(scalar.reads)] + [index(d) for d in range(scalar.rank)]
    registers += [tape.constant(value) for value in scalar.constants]
    for row in scalar.ops:
        registers.append(tape.code(row.code, *(registers[operand] for operand in row.operands)))
    return tape.finish(*(registers[result] for result in scalar.results))


def _fits(option: Option, node: Map, mesh: Mesh) -> bool:
    """Whether the local map keeps to the limits of the format (rank, instructions, registers)."""

    def put(kind: type[Map], inputs: tuple[Ref, ...], outputs: list[tuple[str, int]], *fields: object) -> tuple[Ref, ...]:
        refs = tuple(Ref(i, dtype, count) for i, (dtype, count) in enumerate(outputs))
        kind(inputs, refs, *fields).check()  # type: ignore[arg-type]
        return refs

    try:
        option.write(Scribe(mesh, 0, put), node.inputs)
    except ProgramError:
        return False
    return True
