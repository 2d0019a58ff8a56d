"""The plan of a step: what trainer/kernels/rows.cpp does for every group, with which kernels, and where everything lies.

An operation is its code and its operands as words. Places say where the rows of an operand begin:

    map      kernel, number of inputs and outputs, flat, elements a row; inputs, outputs
    stage    from, to; loop to run innermost, rows that go together, loops (sizes, strides), conditions
    reduce   from, to; maximum, length, runs a row
    dot      a, out; types, packed matrices, their bytes, m, n, k, rows in all, outer, rows of A a row, elements from row to row
    gather   index, out; table, its rows, bytes of one, indices a row
    scatter  values, out; index, its type, length, bins, runs a row
    store    from; tensor, rows in all, outer, bytes of inner
    pack     type, matrices, packed, bytes of a packed one, n, k, rows of a panel, panels
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import gcd, prod
from typing import Any, Protocol

import numpy as np

from bisection.nodes import DTYPES, Dot, Gather, Map, Node, Reduce, Ref, ScatterAdd
from bisection.scalar import ScalarProgram
from trainer.compiler.groups import Group, form_groups
from trainer.compiler.memory import Buffer, assign
from trainer.compiler.places import Condition, Pattern, RowAffine, patterns
from trainer.compiler.rows import View, split_map
from trainer.kernels.emit import KernelInput, kernel_source

__all__ = ["Dots", "Plan", "make_plan"]

BLOCK_BYTES = 768 * 1024  # of scratch memory for a block of rows: about what a core's own cache holds
MOST_TILE = 1 << 20  # bytes of rows that are staged together
_TRANSPOSITION = 0.2  # what it costs, as _run_cost
STREAM_BYTES = 64 * 1024  # that a block moves where it needs no scratch memory
FEWEST_BLOCKS = 8  # where there is enough to do for several threads
_WORD_SUMS = (1 << 17) - 1  # products of i8 whose sum fits i32: one more, all (-128)², would reach 2^31
SMALL = 32 * 1024  # bytes; a group that moves fewer is one block


class Dots(Protocol):
    """What the plan asks of trainer/kernels/dot.cpp."""

    def dot_packed_bytes(self, type_: int, n: int, k: int, /) -> int:
        """Bytes of a packed matrix."""

    def dot_panel(self, type_: int, /) -> int:
        """Rows that are packed together."""


class Operation(IntEnum):
    """The codes of rows.cpp."""

    MAP, STAGE, REDUCE, DOT, GATHER, SCATTER, STORE, PACK = range(8)


@dataclass(eq=False, slots=True)
class Scratch:
    """A buffer of a group: bytes a row, and the operations that first and last use it."""

    row_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows begin: in the tensor of a slot, in a scratch buffer, or (where None) the affine value itself."""

    home: int | Scratch | None
    size: int  # bytes of an element
    row: RowAffine

    def words(self, offsets: Mapping[int, int]) -> list[int]:
        """As rows.cpp reads it, given the offset of each scratch buffer by id."""
        if self.home is None:
            return [2, 0, 8, *self.row.words]
        if isinstance(self.home, Scratch):
            return [1, offsets[id(self.home)], self.size, *self.row.words]
        return [0, self.home, self.size, *self.row.words]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A word that is the address of a compiled kernel."""

    source: str


Word = int | Place | Kernel


@dataclass(slots=True)
class Stage:
    """A group laid out: rows in all and in a block, its operations, and its scratch memory."""

    rows: int
    operations: list[list[Word]] = field(default_factory=list)
    scratch: list[Scratch] = field(default_factory=list)
    moved: int = 0  # bytes a row to or from memory
    block: int = 1
    offsets: dict[int, int] = field(default_factory=dict)
    scratch_bytes: int = 0

    def lay_out(self) -> None:
        """Choose the rows of a block and where its scratch buffers lie."""
        _, each = assign([Buffer(s.row_bytes, s.first, s.last) for s in self.scratch])
        target = BLOCK_BYTES // each if each else STREAM_BYTES // max(self.moved, 1)
        small = self.rows * (each + self.moved) <= SMALL
        target = self.rows if small else min(target, -(-self.rows // FEWEST_BLOCKS))
        whole = 48 if target >= 48 else 16  # rows of tiles and of products
        target = max(target // whole, 1) * whole if self.rows > 16 else self.rows
        self.block = max(1, min(target, self.rows))
        offsets, self.scratch_bytes = assign([Buffer(s.row_bytes * self.block, s.first, s.last) for s in self.scratch])
        self.offsets = {id(s): offset for s, offset in zip(self.scratch, offsets, strict=True)}


@dataclass(slots=True)
class Plan:
    """Stages in order, and the tensors that they keep in memory by slot.

    ``given`` and ``wanted`` map tensor numbers to slots that the caller fills with pointers; ``constants`` are slots with arrays of
    the plan's own; ``buffers`` are the slots that share one piece of memory, of ``memory`` bytes.
    """

    stages: list[Stage] = field(default_factory=list)
    slots: int = 0
    given: dict[int, int] = field(default_factory=dict)
    wanted: dict[int, int] = field(default_factory=dict)
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    buffers: dict[int, int] = field(default_factory=dict)  # slot: offset
    memory: int = 0

    @property
    def sources(self) -> list[str]:
        """The kernels, each once, in order."""
        words = (word for stage in self.stages for operation in stage.operations for word in operation)
        return list(dict.fromkeys(word.source for word in words if isinstance(word, Kernel)))


def make_plan(nodes: Sequence[Node], wanted: Collection[int], dots: Dots) -> Plan:
    """The plan that computes the tensors ``wanted`` by ``nodes``. Tensors that no node makes are given."""
    return _Planner(nodes, frozenset(wanted), dots).plan


class _Planner:
    """Knows which tensors need memory, hands out slots, and lays out one group after the other."""

    def __init__(self, nodes: Sequence[Node], wanted: frozenset[int], dots: Dots) -> None:
        self.nodes, self.wanted, self.dots = nodes, wanted, dots
        self.plan = Plan()
        self.groups = form_groups(nodes)
        self.maker = {ref.tensor: g for g, group in enumerate(self.groups) for n in group.nodes for ref in nodes[n].outputs}
        self.products = {ref.tensor: node for node in nodes if isinstance(node, Dot) for ref in node.outputs}
        self.outside = set(wanted)
        self.readers: dict[int, set[type[Node]]] = {}
        for g, group in enumerate(self.groups):
            for node in (nodes[n] for n in group.nodes):
                for ref in node.inputs:
                    self.readers.setdefault(ref.tensor, set()).add(type(node))
                    if self.maker.get(ref.tensor) != g:
                        self.outside.add(ref.tensor)
        self._slots: dict[Any, int] = {}  # by tensor, or by what a table or a packed matrix holds
        self._sizes: dict[int, int] = {}  # bytes of slots that share memory
        self._life: dict[int, tuple[int, int]] = {}
        for group in self.groups:
            _GroupPlanner(self, group).run()
        self._place_buffers()
        for stage in self.plan.stages:
            stage.lay_out()

    def stored_as(self, ref: Ref) -> str:
        """The element type that a tensor has in memory here: products of i8 that only maps and sums read fit i32."""
        node = self.products.get(ref.tensor)
        if node is None or ref.tensor in self.wanted or not self.readers.get(ref.tensor, set()) <= {Map}:
            return ref.dtype
        return "i32" if node.inputs[0].dtype == node.inputs[1].dtype == "i8" and node.k <= _WORD_SUMS else ref.dtype

    def slot(self, ref: Ref) -> int:
        """The slot of a tensor in memory."""
        if ref.tensor not in self._slots:
            slot = self._slots[ref.tensor] = self._new_slot()
            if ref.tensor not in self.maker:
                self.plan.given[ref.tensor] = slot
            elif ref.tensor in self.wanted:
                self.plan.wanted[ref.tensor] = slot
            else:
                self._sizes[slot] = ref.count * DTYPES[self.stored_as(ref)].size
        return self._used(self._slots[ref.tensor])

    def table(self, sizes: tuple[int, ...], strides: tuple[int, ...]) -> int:
        """The slot of a table of int32: Σ stride·index over loops of ``sizes``."""
        key = ("table", sizes, strides)
        if key not in self._slots:
            values = np.zeros(sizes, np.int64)
            for axis, stride in enumerate(strides):
                steps = np.arange(sizes[axis]) * stride
                values += steps.reshape([-1 if d == axis else 1 for d in range(len(sizes))])
            slot = self._slots[key] = self._new_slot()
            self.plan.constants[slot] = values.reshape(-1).astype(np.int32)
        return self._slots[key]

    def packed(self, node: Dot) -> tuple[int, int]:
        """(slot, bytes of one matrix) of the right operand of ``node``, packed."""
        ref, dtype = node.inputs[1], _common(node)
        size = DTYPES[dtype].size
        matrix = -(-self.dots.dot_packed_bytes(size, node.n, node.k) // 64) * 64
        key = ("packed", ref.tensor, dtype, node.n, node.k)
        if key not in self._slots:
            source = self.slot(ref) if ref.dtype == dtype else self._widened(ref, dtype)
            slot = self._slots[key] = self._new_slot()
            self._sizes[slot] = matrix * node.batch
            panel = self.dots.dot_panel(size)
            panels = -(-node.n // panel)
            stage = Stage(node.batch * panels, moved=2 * panel * node.k * size)
            stage.operations.append([Operation.PACK, size, source, self._used(slot), matrix, node.n, node.k, panel, panels])
            self._append(stage)
        return self._used(self._slots[key]), matrix

    def _widened(self, ref: Ref, dtype: str) -> int:
        slot = self._new_slot()
        self._sizes[slot] = ref.count * DTYPES[dtype].size
        row = RowAffine(0, ((0, 1),))
        stage = Stage(ref.count, moved=DTYPES[dtype].size)
        places = [Place(self.slot(ref), DTYPES[ref.dtype].size, row), Place(self._used(slot), DTYPES[dtype].size, row)]
        stage.operations.append([Operation.MAP, _copy(ref.dtype, dtype), 1, 1, 1, 1, *places])
        self._append(stage)
        return self._used(slot)

    def _append(self, stage: Stage) -> None:
        self.plan.stages.append(stage)

    def _new_slot(self) -> int:
        self.plan.slots += 1
        return self.plan.slots - 1

    def _used(self, slot: int) -> int:
        now = len(self.plan.stages)
        first, _ = self._life.get(slot, (now, now))
        self._life[slot] = (first, now)
        return slot

    def _place_buffers(self) -> None:
        shared = list(self._sizes)
        offsets, self.plan.memory = assign([Buffer(self._sizes[slot], *self._life[slot]) for slot in shared])
        self.plan.buffers = dict(zip(shared, offsets, strict=True))


def _common(node: Dot) -> str:
    """The wider element type of the operands."""
    return max((ref.dtype for ref in node.inputs), key=lambda name: DTYPES[name].size)


def _copy(source: str, target: str) -> Kernel:
    return Kernel(kernel_source(ScalarProgram(1, 0, (), (), (0,)), [KernelInput(source, "vector")], [target]))


class _GroupPlanner:
    """Lays out one group."""

    def __init__(self, planner: _Planner, group: Group) -> None:
        self.planner, self.group = planner, group
        self.stage = Stage(group.rows)
        self.homes: dict[int, Scratch] = {}
        self.staged: dict[tuple[int, Pattern], Scratch] = {}

    def run(self) -> None:
        """Append the group's stage, after those that pack matrices for it."""
        nodes = [self.planner.nodes[number] for number in self.group.nodes]
        for node in nodes:
            if isinstance(node, Dot):
                self.planner.packed(node)
        for node in nodes:
            _LAY_OUT[type(node)](self, node)
        self.planner._append(self.stage)

    # Operands

    def add(self, *words: Word) -> None:
        """Append an operation; what it uses of scratch memory lives until now at least."""
        now = len(self.stage.operations)
        for word in words:
            if isinstance(word, Place) and isinstance(word.home, Scratch):
                word.home.last = now
            elif isinstance(word, Place) and isinstance(word.home, int):
                self.stage.moved += word.size * max((stride for _, stride in word.row.digits), default=0)
        self.stage.operations.append(list(words))

    def scratch(self, row_bytes: int) -> Scratch:
        """A new buffer."""
        now = len(self.stage.operations)
        self.stage.scratch.append(Scratch(row_bytes, now, now))
        return self.stage.scratch[-1]

    def size(self, ref: Ref) -> int:
        """Bytes of an element of a tensor as it is stored."""
        return DTYPES[self.planner.stored_as(ref)].size

    def rows_of(self, ref: Ref) -> Place:
        """The rows of a tensor, each side by side."""
        view = self.group.views.get(ref.tensor) or View(1, ref.count // self.group.rows)
        home = self.homes.get(ref.tensor)
        return Place(self.planner.slot(ref) if home is None else home, self.size(ref), RowAffine(0, ((0, view.each),)))

    def result(self, ref: Ref) -> Place:
        """Where to write the rows of a tensor. ``finish`` follows."""
        view = self.group.views[ref.tensor]
        if ref.tensor not in self.planner.outside or view.outer > 1:
            self.homes[ref.tensor] = self.scratch(view.each * self.size(ref))
        return self.rows_of(ref)

    def finish(self, node: Node) -> None:
        """Copy results to memory that could not be written there at once."""
        for ref in node.outputs:
            view = self.group.views[ref.tensor]
            if ref.tensor in self.planner.outside and view.outer > 1:
                target, size = self.planner.slot(ref), self.size(ref)
                self.add(Operation.STORE, self.rows_of(ref), target, self.group.rows, view.outer, view.inner * size)

    # Kinds of node

    def map(self, node: Map) -> None:
        """A kernel over rows, with what it reads staged where it must be."""
        nest = split_map(node, self.group.rows, self.group.views)
        assert nest is not None, "a group holds only nodes that are local to its rows"
        stored = [self.group.views[ref.tensor] if ref.tensor in self.homes else None for ref in node.inputs]
        reads, own = patterns(node, nest, stored, self.group.rows)
        used = _used_registers(node.scalar)
        each = nest.view.each
        inputs: list[KernelInput | None] = []
        places: list[Place] = []
        for i, (ref, pattern) in enumerate(zip(node.inputs, reads, strict=True)):
            if i not in used:
                inputs.append(None)
                continue
            kind, place = self._operand(ref, pattern, each)
            inputs.append(KernelInput(self.planner.stored_as(ref), kind))
            places.append(place)
        flat = all(
            p.row.stride == (each if x and x.kind == "vector" else 0) for p, x in zip(places, filter(None, inputs), strict=True)
        )
        for i, pattern in enumerate(own, start=len(node.inputs)):
            if i not in used:
                inputs.append(None)
                continue
            flat = False
            places.append(Place(None, 8, pattern.row))
            if pattern.scalar:
                inputs.append(KernelInput("i64", "scalar"))
            else:
                inputs.append(KernelInput("i32", "index"))
                places.append(Place(self.planner.table(pattern.sizes, pattern.strides), 4, RowAffine(0, ())))
        results = [self.result(ref) for ref in node.outputs]
        kernel = Kernel(kernel_source(node.scalar, inputs, [ref.dtype for ref in node.outputs]))
        self.add(Operation.MAP, kernel, len(places), len(results), int(flat), each, *places, *results)
        self.finish(node)

    def _operand(self, ref: Ref, pattern: Pattern, each: int) -> tuple[str, Place]:
        """What a read is to a kernel, and where."""
        size = self.size(ref)
        home: int | Scratch | None = self.homes.get(ref.tensor)
        if home is None:
            home = self.planner.slot(ref)
        place = Place(home, size, pattern.row)
        if each == 1:
            kind = {0: "scalar", 1: "vector"}.get(pattern.row.stride if pattern.row.stride is not None else -1)
            if kind and not pattern.conditions:
                return kind, place
        elif pattern.scalar:
            return "scalar", place
        elif pattern.vector:
            return "vector", place
        dense = Place(self._staged(ref, pattern, place, each), size, RowAffine(0, ((0, each),)))
        return "vector", dense

    def _staged(self, ref: Ref, pattern: Pattern, source: Place, each: int) -> Scratch:
        key = (ref.tensor, pattern)
        if key not in self.staged:
            size = source.size
            target = self.staged[key] = self.scratch(each * size)
            words: list[Word] = [source, Place(target, size, RowAffine(0, ((0, each),))), *self._pivot(pattern, size)]
            words += [len(pattern.sizes), *pattern.sizes, *pattern.strides, len(pattern.conditions)]
            for condition in pattern.conditions:
                words += _condition_words(condition)
            self.add(Operation.STAGE, *words)
        return self.staged[key]

    def _pivot(self, pattern: Pattern, size: int) -> tuple[int, int]:
        """(the loop to run innermost while staging, up to which multiple rows go together), as rows.cpp takes them."""
        if not pattern.sizes:
            return -1, 0
        functions = [pattern.row, *(condition.row for condition in pattern.conditions)]
        together = gcd(*(f.digits[0][0] for f in functions if len(f.digits) > 1)) or self.group.rows
        step = pattern.row.digits[0][1] if pattern.row.digits else 0
        each = prod(pattern.sizes)
        ways = [(_run_cost(pattern.sizes[-1], pattern.strides[-1]), -1, 0)]
        plain = len(pattern.sizes) == 1 and not pattern.conditions and step == 1  # transposed without a tile in between
        if plain or each * min(together, 64) * size <= MOST_TILE:
            ways.append((_run_cost(together, step) + _TRANSPOSITION, -2, together))
        for loop in range(len(pattern.sizes) - 1):
            if prod(pattern.sizes[loop:]) * size <= MOST_TILE:
                ways.append((_run_cost(pattern.sizes[loop], pattern.strides[loop]) + _TRANSPOSITION, loop, 0))
        _, pivot, rows = min(ways)
        return pivot, rows

    def reduce(self, node: Reduce) -> None:
        """Runs side by side."""
        (x,), (y,) = node.inputs, node.outputs
        source, target = self.rows_of(x), self.result(y)
        self.add(Operation.REDUCE, source, target, int(node.op == "max"), node.length, self.group.views[y.tensor].each)
        self.finish(node)

    def dot(self, node: Dot) -> None:
        """Rows of A against packed matrices."""
        a, (y,) = node.inputs[0], node.outputs
        dtype = _common(node)
        packed, matrix = self.planner.packed(node)
        view = self.group.views[y.tensor]
        each = view.inner // node.n
        source = self.rows_of(a)
        if a.dtype != dtype:
            wide = Place(self.scratch(view.outer * each * node.k * DTYPES[dtype].size), DTYPES[dtype].size, source.row)
            self.add(Operation.MAP, _copy(a.dtype, dtype), 1, 1, 1, view.outer * each * node.k, source, wide)
            source = wide
        target = self.result(y)
        sizes = [packed, matrix, node.m, node.n, node.k, self.group.rows, view.outer, each]
        strides = [view.outer * each * node.k, view.each]
        self.add(Operation.DOT, source, target, DTYPES[dtype].size, target.size, *sizes, *strides)
        self.finish(node)

    def gather(self, node: Gather) -> None:
        """Rows of a table."""
        table, index = node.inputs
        (y,) = node.outputs
        source, target = self.rows_of(index), self.result(y)
        width = node.width * self.size(y)
        each = self.group.views[y.tensor].each // node.width
        self.add(Operation.GATHER, source, target, self.planner.slot(table), table.count // node.width, width, each)
        self.finish(node)

    def scatter_add(self, node: ScatterAdd) -> None:
        """Sums by index, one run after the other."""
        values, index = node.inputs
        (y,) = node.outputs
        source, target = self.rows_of(values), self.result(y)
        each = self.group.views[y.tensor].each // node.bins
        self.add(
            Operation.SCATTER, source, target, self.planner.slot(index), DTYPES[index.dtype].size, node.length, node.bins, each
        )
        self.finish(node)


_LAY_OUT: dict[type[Node], Callable[[_GroupPlanner, Any], None]] = {
    Map: _GroupPlanner.map,
    Reduce: _GroupPlanner.reduce,
    Dot: _GroupPlanner.dot,
    Gather: _GroupPlanner.gather,
    ScatterAdd: _GroupPlanner.scatter_add,
}


def _run_cost(length: int, stride: int) -> float:
    """What copying one element costs in runs of ``length``, roughly, in ns."""
    return 10 / length + (0.05 if stride == 1 else 0.5)


def _used_registers(scalar: ScalarProgram) -> set[int]:
    used = set(scalar.results)
    first = scalar.reads + scalar.rank + len(scalar.constants)
    for i in reversed(range(len(scalar.ops))):
        if first + i in used:
            used.update(scalar.ops[i].operands)
    return used


def _condition_words(condition: Condition) -> list[int]:
    size = min(max(condition.size, 0), 1 << 62)  # no address comes near, and sums of the two stay far from 2^63
    return [*condition.row.words, size, *condition.strides]
