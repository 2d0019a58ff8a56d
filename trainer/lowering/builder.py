"""A program under construction: values, the nodes that compute them, and how expressions are cut into ``map`` nodes.

Everything here is decided by the order of the calls and by counts, never by time, hashing order or a device, so the same calls
give the same program in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from bisection.errors import UnsupportedOperator
from bisection.nodes import MAX_INPUTS, MAX_RANK, Dot, Gather, Input, Map, Node, Output, Reduce, Ref, ScatterAdd
from bisection.program import Program, TensorSpec
from bisection.scalar import MAX_INSTRUCTIONS
from trainer.lowering.assembly import Assembly, assemble
from trainer.lowering.expression import Affine, Apply, Expr, Load, Position, Slot, cost, rewrite, strides_of, topological

__all__ = ["CHEAP", "Builder", "Value", "whole"]

CHEAP = 2  # instructions that are computed again rather than stored
_STORED_AS = {"F": "f32", "W": "i32", "L": "i64"}
_SIBLING_INSTRUCTIONS = 64  # a map grows by further outputs up to this size, so that one element stays cheap to check


@dataclass(frozen=True, slots=True)
class Value:
    """A lowered tensor: shape, element type (``f32 i64 i32 i16 i8``, or ``u8``/``bool`` held in wider integers), and the expression
    of the element at an index."""

    shape: tuple[int, ...]
    dtype: str
    expr: Expr
    row_sum: Value | None = None  # the sum over the last dimension, where it is known without adding

    @property
    def count(self) -> int:
        """Its number of elements."""
        return prod(self.shape)

    @property
    def storage(self) -> str:
        """The element type that holds it in a trace."""
        return {"bool": "i8", "u8": "i16"}.get(self.dtype, self.dtype)

    @property
    def cheap(self) -> bool:
        """Whether computing it again costs less than keeping it."""
        return cost(self.expr) <= CHEAP


@dataclass(eq=False, slots=True)
class _Draft:
    """A node without tensor numbers. A map keeps its expressions, to which outputs can still be added."""

    inputs: tuple[Slot, ...]
    outputs: list[Slot]
    make: Callable[[tuple[Ref, ...], tuple[Ref, ...]], Node] | None = None
    shape: tuple[int, ...] = ()
    roots: list[Expr] | None = None


class Builder:
    """Collects nodes; ``finish`` numbers the tensors and gives the program."""

    def __init__(self) -> None:
        self._drafts: list[_Draft] = []
        self._writer: dict[Slot, int] = {}
        self._known: dict[Any, list[Slot]] = {}

    # Nodes

    def input(self, source: str, index: int, dtype: str, shape: tuple[int, ...]) -> Value:
        """Tensor ``index`` of the ``source`` ("state" or "data")."""

        def make(inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Node:
            return Input(inputs, outputs, "data" if source == "data" else "state", index)

        (slot,) = self._node(("input", source, index), (), [(dtype, prod(shape))], make)
        return whole(slot, shape)

    def output(self, index: int, value: Value, dtype: str) -> None:
        """Write ``value`` as tensor ``index`` of the next state, of element type ``dtype``."""
        slot = self.dense(value, dtype)
        self._node(("output", index), (slot,), [], lambda inputs, outputs: Output(inputs, outputs, index))

    def reduce(self, op: str, value: Value) -> Value:
        """``sum`` (i64) or ``max`` over the last dimension, at most 1,024 long. ``value`` holds integers, for a max i32 or i64."""
        *kept, length = value.shape
        slot = self.dense(value)
        dtype = "i64" if op == "sum" else slot.dtype

        def make(inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Node:
            return Reduce(inputs, outputs, "max" if op == "max" else "sum", length)

        (out,) = self._node((op, slot, length), (slot,), [(dtype, prod(kept))], make)
        return whole(out, tuple(kept))

    def dot(self, a: Value, b: Value) -> Value:
        """[…, M, K] · [..., N, K] → [..., M, N], exact in i64."""
        *batch, m, k = a.shape
        n = b.shape[-2]
        slots = (self.dense(a), self.dense(b))
        (out,) = self._node(
            ("dot", slots, m, n, k),
            slots,
            [("i64", prod(batch) * m * n)],
            lambda inputs, outputs: Dot(inputs, outputs, m, n, k),
        )
        return whole(out, (*batch, m, n))

    def gather(self, table: Value, index: Value) -> Value:
        """The rows ``index`` (any shape) of ``table`` [rows, …]: shape index.shape + table.shape[1:]; 0 outside the table."""
        row = table.shape[1:]
        slots = (self.dense(table), self.dense(index))
        (out,) = self._node(
            ("gather", slots, prod(row)),
            slots,
            [(slots[0].dtype, index.count * prod(row))],
            lambda inputs, outputs: Gather(inputs, outputs, prod(row)),
        )
        return Value((*index.shape, *row), table.dtype, whole(out, (*index.shape, *row)).expr)

    def scatter_add(self, values: Value, index: Value, bins: int) -> Value:
        """values [channels, length], index [length] → i64 [channels, bins]: sums by index, at most 1,024 of them."""
        channels, length = values.shape
        slots = (self.dense(values), self.dense(index))
        (out,) = self._node(
            ("scatter_add", slots, bins),
            slots,
            [("i64", channels * bins)],
            lambda inputs, outputs: ScatterAdd(inputs, outputs, length, bins),
        )
        return whole(out, (channels, bins))

    def _node(
        self,
        key: tuple[Any, ...],
        inputs: tuple[Slot, ...],
        outputs: Sequence[tuple[str, int]],
        make: Callable[[tuple[Ref, ...], tuple[Ref, ...]], Node],
    ) -> list[Slot]:
        if key not in self._known:
            slots = [Slot(dtype, count) for dtype, count in outputs]
            self._append(_Draft(inputs, slots, make))
            self._known[key] = slots
        return self._known[key]

    def _append(self, draft: _Draft) -> None:
        for slot in draft.outputs:
            self._writer[slot] = len(self._drafts)
        self._drafts.append(draft)

    # Values into tensors

    def dense(self, value: Value, dtype: str | None = None) -> Slot:
        """The tensor that holds exactly ``value`` in C order, as ``dtype`` if one is asked for; computed now unless it exists."""
        expr = value.expr
        if isinstance(expr, Load) and _is_whole(expr, value.shape) and dtype in (None, expr.slot.dtype):
            return expr.slot
        return self._map([value], [dtype or value.storage])[0]

    def keep(self, value: Value) -> Value:
        """``value`` as a read of a tensor, computed now unless it is one already or is cheaper to compute again."""
        return value if value.cheap else self.materialise([value])[0]

    def materialise(self, values: Sequence[Value]) -> list[Value]:
        """Values of one shape, computed now in one map where the limits allow it."""
        slots = self._map(values, [value.storage for value in values])
        return [replace(v, expr=whole(slot, v.shape).expr) for v, slot in zip(values, slots, strict=True)]

    def _map(self, values: Sequence[Value], dtypes: Sequence[str]) -> list[Slot]:
        shape = values[0].shape
        roots = self._cut([value.expr for value in values], shape)
        assembly = assemble(roots, shape)
        key = ("map", assembly, tuple(dtypes))
        if key not in self._known:
            self._known[key] = self._sibling(roots, dtypes, shape) or self._new_map(assembly, roots, dtypes, shape)
        return self._known[key]

    def _new_map(self, assembly: Assembly, roots: list[Expr], dtypes: Sequence[str], shape: tuple[int, ...]) -> list[Slot]:
        slots = [Slot(dtype, prod(shape)) for dtype in dtypes]
        self._append(_Draft(assembly.slots, list(slots), shape=shape, roots=roots))
        return slots

    def _sibling(self, roots: list[Expr], dtypes: Sequence[str], shape: tuple[int, ...]) -> list[Slot] | None:
        """Further outputs of the map that wrote what ``roots`` read element by element, if there is one and it has room."""
        loads = [node for node in topological(roots) if isinstance(node, Load)]
        newest = max((self._writer[load.slot] for load in loads), default=-1)
        draft = self._drafts[newest] if newest >= 0 else None
        if draft is None or draft.roots is None or prod(draft.shape) != prod(shape):
            return None
        old = dict(zip(draft.outputs, draft.roots, strict=True))
        own = all(_is_whole(load, shape) for load in loads if load.slot in old)
        flat = all(load.slot in old for load in loads) and not any(isinstance(node, Position) for node in topological(roots))
        if not own or not (flat or draft.shape == shape):
            return None
        merged = [*draft.roots, *rewrite(roots, lambda node: old.get(node.slot, node) if isinstance(node, Load) else node)]
        assembly = assemble(merged, draft.shape)
        if not assembly.fits or len(assembly.scalar.ops) > _SIBLING_INSTRUCTIONS:
            return None
        slots = [Slot(dtype, prod(shape)) for dtype in dtypes]
        draft.inputs, draft.roots = assembly.slots, merged
        draft.outputs += slots
        for slot in slots:
            self._writer[slot] = newest
        return slots

    def _cut(self, roots: list[Expr], shape: tuple[int, ...]) -> list[Expr]:
        """Expressions for the same values that fit one map, after computing parts of them in maps of their own."""
        while not assemble(roots, shape).fits:
            part = _first_part(roots, shape)
            slots = self._map([Value(shape, _stored(node), node) for node in part], [_stored(node) for node in part])
            ready = {id(node): whole(slot, shape).expr for node, slot in zip(part, slots, strict=True)}
            roots = rewrite(roots, lambda node, ready=ready: ready.get(id(node), node))  # type: ignore[misc]
        return roots

    # The program

    def finish(
        self, state: Sequence[TensorSpec], data: Sequence[TensorSpec], metrics: Mapping[str, Value], notes: Mapping[str, Any]
    ) -> Program:
        """The program: nodes that nothing needs are left out, the others keep their order."""
        shown = {name: self.dense(value) for name, value in metrics.items()}
        needed = set(shown.values())
        live: list[_Draft] = []
        for draft in reversed(self._drafts):
            if draft.roots is not None:
                pairs = [(root, slot) for root, slot in zip(draft.roots, draft.outputs, strict=True) if slot in needed]
                draft.roots, draft.outputs = [root for root, _ in pairs], [slot for _, slot in pairs]
            unused = not needed.intersection(draft.outputs) if draft.outputs else draft.make is None
            if unused:
                continue
            if draft.roots is not None:
                draft.inputs = assemble(draft.roots, draft.shape).slots
            needed.update(draft.inputs)
            live.append(draft)
        numbers: dict[Slot, Ref] = {}
        nodes = []
        for draft in reversed(live):
            for slot in draft.outputs:
                numbers[slot] = Ref(len(numbers), slot.dtype, slot.count)
            nodes.append(_numbered(draft, numbers))
        return Program(tuple(nodes), tuple(state), tuple(data), {name: numbers[slot].tensor for name, slot in shown.items()}, notes)


def whole(slot: Slot, shape: tuple[int, ...]) -> Value:
    """All of ``slot``, in C order, as a tensor of ``shape``."""
    return Value(shape, slot.dtype, Load(slot, Affine(0, strides_of(shape))))


def _is_whole(load: Load, shape: tuple[int, ...]) -> bool:
    strides = strides_of(shape)
    same = all(size == 1 or a == b for size, a, b in zip(shape, load.address.coefficients, strides, strict=True))
    return same and load.address.offset == 0 and not load.conditions and load.slot.count == prod(shape)


def _stored(node: Expr) -> str:
    """The element type that holds any result of ``node``."""
    if isinstance(node, Apply):
        return _STORED_AS[node.row.result]
    return node.slot.dtype if isinstance(node, Load) else "i64"


def _first_part(roots: Sequence[Expr], shape: tuple[int, ...]) -> list[Expr]:
    """What to compute first: the values that the rest needs of a start of the instructions of ``roots``.

    The start is the longest that fits one map, or one at most a quarter shorter of which fewer values are needed.
    """
    instructions = [node for node in topological(roots) if isinstance(node, Apply)]
    place = {id(node): i for i, node in enumerate(instructions)}
    last_use = list(range(len(instructions)))
    reads: set[Load] = set()
    reads_before = [0]
    for i, node in enumerate(instructions):
        for operand in node.operands:
            if id(operand) in place:
                last_use[place[id(operand)]] = i
        reads.update(operand for operand in node.operands if isinstance(operand, Load))
        reads_before.append(len(reads))
    for root in roots:
        if id(root) in place:
            last_use[place[id(root)]] = len(instructions)

    def part(size: int) -> list[Expr]:
        return [node for i, node in enumerate(instructions[:size]) if last_use[i] >= size]

    def fits(size: int) -> bool:
        return reads_before[size] <= MAX_INPUTS and len(part(size)) <= MAX_INPUTS and assemble(part(size), shape).fits

    longest = next((size for size in range(min(len(instructions) - 1, MAX_INSTRUCTIONS), 0, -1) if fits(size)), None)
    if longest is None:
        raise UnsupportedOperator(f"a view of {len(shape)} dimensions does not fit one map of {MAX_RANK}: use fewer dimensions")
    useful = sorted(range(longest, 3 * longest // 4, -1), key=lambda size: len(part(size)))
    return part(next(size for size in useful if fits(size)))


def _numbered(draft: _Draft, numbers: Mapping[Slot, Ref]) -> Node:
    inputs, outputs = tuple(numbers[slot] for slot in draft.inputs), tuple(numbers[slot] for slot in draft.outputs)
    if draft.roots is None:
        assert draft.make is not None
        return draft.make(inputs, outputs)
    assembly = assemble(draft.roots, draft.shape)
    return Map(inputs, outputs, assembly.iteration, assembly.reads, assembly.scalar)
