"""The plan of one worker: which part of every node it runs, and where the workers exchange data.

``shard`` goes through the program once. The split starts where the examples of a batch are looked up: each worker takes an equal
range of them. From there on every node is computed in the way that costs least, given how its inputs are held. The decisions depend
on the program and the number of workers alone; the rank only sets which part of each tensor is meant.

Exchanges wait until something needs them and are made together. A step has as many rounds of them as the longest chain of exchanges
that depend on each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import Any, Literal

from bisection.errors import UsageError
from bisection.nodes import DTYPES, Dot, Gather, Input, Map, Node, Output, Reduce, Ref, ScatterAdd
from bisection.program import Program
from trainer.parallel.maps import part_of_map, split_map
from trainer.parallel.mesh import Cuts, Held, Mesh, Option, Scribe
from trainer.parallel.reductions import gather_some, split_dot, split_gather, split_reduce, split_scatter_add

__all__ = ["Collect", "Combine", "Plan", "Round", "options", "shard", "work"]

BYTE = 16
"""How many multiply-adds cost as much as one byte sent: on the fast side for processors, on the slow side for accelerators."""


@dataclass(frozen=True)
class Collect:
    """``target`` becomes the whole tensor of which each worker's ``source`` is the part that ``cuts`` gives it.

    ``wire`` is the element type to send: a narrower one that is known to hold every element, or their own.
    """

    source: Ref
    target: Ref
    cuts: Cuts
    wire: str


@dataclass(frozen=True)
class Combine:
    """``target`` becomes the elementwise sum or maximum of all workers' ``source``. A sum adds bits as integers and wraps."""

    source: Ref
    target: Ref
    op: Literal["sum", "max"]
    wire: str


@dataclass(frozen=True)
class Round:
    """Nodes to run in order, then exchanges to make. The exchanges of one round do not depend on each other."""

    nodes: tuple[Node, ...]
    collects: tuple[Collect, ...]
    combines: tuple[Combine, ...]

    @property
    def exchanged(self) -> set[int]:
        """The tensors of which something is sent."""
        return {c.source.tensor for c in self.collects} | {c.source.tensor for c in self.combines}


@dataclass(frozen=True)
class Plan:
    """What one worker does in a step. Its nodes number the worker's own tensors.

    ``boundary``: the tensors that hold a state or data tensor, with (source, index). ``held``: for every tensor of the program the
    worker's tensor and how it is cut. ``state`` and ``metrics``: the whole tensors that the step results in.
    """

    mesh: Mesh
    rank: int
    boundary: tuple[tuple[Ref, Literal["state", "data"], int], ...]
    rounds: tuple[Round, ...]
    held: tuple[tuple[Ref, Held], ...]
    state: tuple[Ref, ...]
    metrics: Mapping[str, Ref]

    @property
    def sent(self) -> int:
        """The bytes that this worker sends in a step, with exchanges around a ring."""
        others, world = self.mesh.world - 1, self.mesh.world
        collected = sum(c.source.count * DTYPES[c.wire].size for r in self.rounds for c in r.collects)
        combined = sum(c.source.count * DTYPES[c.wire].size for r in self.rounds for c in r.combines)
        return collected * others + 2 * combined * others // world

    def work(self, kind: type[Node] = Node) -> int:
        """What the nodes of ``kind`` cost this worker, as ``work`` counts it."""
        return sum(work(node) for r in self.rounds for node in r.nodes if isinstance(node, kind))


def work(node: Node) -> int:
    """A measure of a node's cost: multiply-adds of a dot, instructions and reads of a map, else elements; 0 at the boundary."""
    match node:
        case Dot():
            return node.outputs[0].count * node.k
        case Map():
            return prod(node.iteration) * (len(node.scalar.ops) + len(node.reads))
        case Reduce() | ScatterAdd():
            return node.inputs[0].count
        case Gather():
            return node.outputs[0].count
    return 0


def shard(program: Program, world: int, rank: int) -> Plan:
    """The plan of worker ``rank`` of ``world``.

    Raises UsageError when the examples of a batch cannot be cut into ``world`` equal parts, or the program looks up none.
    """
    if not 0 <= rank < world:
        raise UsageError(f"there is no worker {rank} of {world}: ranks count from 0")
    planner = _Planner(program, Mesh.of(world), rank)
    for node in program.nodes:
        planner.take(node)
    return planner.finish()


class _Planner:
    def __init__(self, program: Program, mesh: Mesh, rank: int) -> None:
        self._program, self._mesh, self._rank = program, mesh, rank
        self._scribe = Scribe(mesh, rank, self._put)
        self._level: list[int] = []  # of each of the worker's tensors: the round in which it is there
        self._rounds: list[tuple[list[Node], list[Collect], list[Combine]]] = []
        self._boundary: list[tuple[Ref, Literal["state", "data"], int]] = []
        self._parts: dict[int, tuple[Ref, Cuts]] = {}
        self._wholes: dict[int, Ref] = {}
        self._pending: dict[int, Map] = {}  # tensors not computed yet, as the first use decides whether whole or cut
        self._varies: set[int] = set()  # tensors that follow from the state
        self._batched = False

    # The worker's tensors

    def _new(self, dtype: str, count: int, level: int) -> Ref:
        while len(self._rounds) <= level:
            self._rounds.append(([], [], []))
        self._level.append(level)
        return Ref(len(self._level) - 1, dtype, count)

    def _put(self, kind: type[Node], inputs: tuple[Ref, ...], outputs: Sequence[tuple[str, int]], *own: Any) -> tuple[Ref, ...]:
        level = max((self._level[ref.tensor] for ref in inputs), default=0)
        refs = tuple(self._new(dtype, count, level) for dtype, count in outputs)
        node = kind(inputs, refs, *own)
        node.check()
        self._rounds[level][0].append(node)
        return refs

    def _wire(self, tensor: int) -> str:
        """The element type that a tensor of the program is sent as: i32 for longs that are known to fit."""
        ref = self._program.tensors[tensor]
        return "i32" if ref.dtype == "i64" and self._limit(tensor) < 1 << 31 else ref.dtype

    def _limit(self, tensor: int) -> int:
        """The largest magnitude that a tensor of integers can have, followed through sums and copies only."""
        node = self._program.nodes[self._program.producer[tensor]]
        match node:
            case Dot():
                return node.k * prod(1 << 8 * DTYPES[ref.dtype].size - 1 for ref in node.inputs)
            case Reduce():
                return self._limit(node.inputs[0].tensor) * (node.length if node.op == "sum" else 1)
            case Map() if len(node.inputs) == 1 and not node.scalar.ops and node.inputs[0].dtype == node.outputs[0].dtype:
                return self._limit(node.inputs[0].tensor) if not any(node.scalar.results) else 1 << 63
        return 1 << 8 * DTYPES[self._program.tensors[tensor].dtype].size - 1

    def _combined(self, tensor: int, source: Ref, op: Literal["sum", "max"]) -> Ref:
        level = self._level[source.tensor]
        target = self._new(source.dtype, source.count, level + 1)
        self._rounds[level][2].append(Combine(source, target, op, self._wire(tensor)))
        return target

    def _whole(self, tensor: int) -> Ref:
        """A tensor of the program, whole; collected from the workers once."""
        if tensor in self._pending:
            self._write(self._pending[tensor], None)
        if tensor not in self._wholes:
            source, cuts = self._parts[tensor]
            level = self._level[source.tensor]
            self._wholes[tensor] = self._new(source.dtype, source.count * self._mesh.world, level + 1)
            self._rounds[level][1].append(Collect(source, self._wholes[tensor], cuts, self._wire(tensor)))
        return self._wholes[tensor]

    # The program's nodes

    def take(self, node: Node) -> None:
        """Plan the next node of the program."""
        if isinstance(node, Output):
            return
        if isinstance(node, Input):
            (ref,) = node.outputs
            self._wholes[ref.tensor] = self._new(ref.dtype, ref.count, 0)
            self._boundary.append((self._wholes[ref.tensor], node.source, node.index))
            if node.source == "state":
                self._varies.add(ref.tensor)
            return
        if any(ref.tensor in self._varies for ref in node.inputs):
            self._varies.update(ref.tensor for ref in node.outputs)
        if isinstance(node, Map) and self._generates(node):
            self._pending.update((ref.tensor, node) for ref in node.outputs)
        else:
            self._write(node, self._first_split(node) or self._cheapest(node))

    def _generates(self, node: Map) -> bool:
        """Whether ``node`` makes much of little that every worker has, such as random numbers of a key."""
        inputs = {ref.tensor: ref.count for ref in node.inputs}
        return inputs.keys() <= self._wholes.keys() | self._pending.keys() and sum(inputs.values()) < node.outputs[0].count

    def _write(self, node: Node, option: Option | None) -> None:
        """Write the worker's nodes for ``node``, in the way of ``option`` or whole."""
        for ref in node.outputs:
            self._pending.pop(ref.tensor, None)
        if option is None:
            types = [(ref.dtype, ref.count) for ref in node.outputs]
            own = [getattr(node, field.name) for field in fields(node)[2:]]
            outputs = self._put(type(node), tuple(self._whole(ref.tensor) for ref in node.inputs), types, *own)
            self._wholes.update(zip((ref.tensor for ref in node.outputs), outputs, strict=True))
            return
        inputs = [
            self._parts[ref.tensor][0] if cuts else self._whole(ref.tensor)
            for ref, cuts in zip(node.inputs, option.wants, strict=True)
        ]
        for ref, output in zip(node.outputs, option.write(self._scribe, inputs), strict=True):
            if option.combine:
                self._wholes[ref.tensor] = self._combined(ref.tensor, output, option.combine)
            elif option.gives:
                self._parts[ref.tensor] = (output, option.gives)

    def _first_split(self, node: Node) -> Option | None:
        """The look-up of the batch's examples: rows of a data tensor, whole, by indices that follow from the state."""
        if not isinstance(node, Gather) or any(ref.tensor in self._parts for ref in node.inputs):
            return None
        table, index = node.inputs
        producer = self._program.nodes[self._program.producer[table.tensor]]
        if not (isinstance(producer, Input) and producer.source == "data" and index.tensor in self._varies and index.count > 1):
            return None
        world = self._mesh.world
        if index.count % world:
            raise UsageError(
                f"a batch of {index.count} examples cannot be cut into {world} equal parts: use a number of workers that divides it"
            )
        self._batched = True
        return gather_some(node, self._mesh.ranges(index.count // world), ready=False) if world > 1 else None

    def _cheapest(self, node: Node) -> Option | None:
        """The option that costs least; None to compute the whole node on every worker."""
        held = [self._parts[ref.tensor][1] if ref.tensor in self._parts else None for ref in node.inputs]
        if not any(held):
            return None
        tensors = [ref.tensor for ref in node.inputs]
        best: tuple[Option | None, int] = None, self._collecting(tensors) + work(node)
        for option in options(node, held, self._mesh):
            wanted = [tensor for tensor, cuts in zip(tensors, option.wants, strict=True) if cuts is None]
            combining = 2 * BYTE * sum(self._sent(ref.tensor) for ref in node.outputs) if option.combine else 0
            cost = self._collecting(wanted) + combining + work(node) // self._mesh.world
            if cost < best[1]:
                best = option, cost
        return self._cheapest(node) if best[0] and self._cut_pending(node, best[0]) else best[0]

    def _cut_pending(self, node: Node, option: Option) -> bool:
        """Compute pending inputs of ``node`` cut as ``option`` could use them. Whether there are any."""
        found = False
        for ref, cuts in zip(node.inputs, option.could, strict=bool(option.could)):
            if cuts and (pending := self._pending.get(ref.tensor)) and (part := part_of_map(pending, cuts, self._mesh)):
                self._write(pending, part)
                found = True
        return found

    def _collecting(self, tensors: Sequence[int]) -> int:
        missing = sorted(set(tensors) - self._wholes.keys() - self._pending.keys())
        return BYTE * sum(self._sent(tensor) for tensor in missing)

    def _sent(self, tensor: int) -> int:
        return self._program.tensors[tensor].count * DTYPES[self._wire(tensor)].size

    def finish(self) -> Plan:
        """The plan."""
        if not self._batched and self._mesh.world > 1:
            raise UsageError("this program looks up no batch of examples that workers could share: run it with one worker")
        program = self._program
        written = sorted((node.index, node.inputs[0].tensor) for node in program.nodes if isinstance(node, Output))
        state = tuple(self._whole(tensor) for _, tensor in written)
        metrics = {name: self._whole(tensor) for name, tensor in program.metrics.items()}
        for tensor in sorted(self._pending):
            self._whole(tensor)
        held = tuple(self._parts[i] if i in self._parts else (self._wholes[i], None) for i in range(len(program.tensors)))
        rounds = tuple(Round(tuple(nodes), tuple(collects), tuple(combines)) for nodes, collects, combines in self._rounds)
        return Plan(self._mesh, self._rank, tuple(self._boundary), rounds, held, state, metrics)


def options(node: Node, held: Sequence[Held], mesh: Mesh) -> list[Option]:
    """The ways to compute ``node`` in parts when its inputs are ``held`` so. What an option wants whole may be held cut."""
    match node:
        case Map():
            return list(split_map(node, held, mesh))
        case Reduce():
            return list(split_reduce(node, held, mesh))
        case Dot():
            return list(split_dot(node, held, mesh))
        case Gather():
            return list(split_gather(node, held, mesh))
        case ScatterAdd():
            return list(split_scatter_add(node, held, mesh))
    raise TypeError(f"a {node.NAME} node is a boundary and computes nothing")
