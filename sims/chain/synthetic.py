"""A training job of any size, known in a few numbers: real programs, states, tensors and openings, for disputes at full scale.

Nothing in it is made up. The program multiplies two matrices and stores the product as the next state. Both matrices repeat one
random line of 256 bytes, so that all elements of the product are equal, and so are all states from the first one on. So each tree
is exactly the one that a real execution has, and a tree of 2^32 leaves is known by one digest for each level, apart from the paths
to what differs. The dishonest trainer makes one element of one step's product wrong; the step after it is right again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bisection.merkle import EMPTY, LEAF_BYTES, Blob, Content, Tree, blob_root, blob_tree, depth_of, leaf_count, leaf_digest, parent
from bisection.nodes import Dot, Input, Map, Node, Output, Read, Ref
from bisection.numbers import wrap
from bisection.program import Program, TensorSpec
from bisection.scalar import BY_NAME, Op, ScalarProgram

__all__ = ["LINE", "Scale", "Shown", "SyntheticTrace", "Uniform", "UniformTree"]

LINE = 256  # bytes that repeat in every large tensor
OPERAND, PRODUCT = "i16", "i64"
LEFT, RIGHT = 0, 1  # the tensors that are multiplied


class UniformTree(Tree):
    """A tree of ``count`` leaves that are all ``leaf``, but for ``others`` by index. It holds a few digests for each level."""

    def __init__(self, count: int, leaf: bytes, others: Mapping[int, bytes] | None = None) -> None:
        self.count, self.depth = count, depth_of(count)
        self._uniform, self._others = [leaf], [dict(others or {})]
        for height in range(self.depth):
            width = -(-count >> height)
            above = {position >> 1 for position in self._others[-1]} | ({width >> 1} if width % 2 else set())
            pairs = {at: parent(self.node(height, 2 * at), self.node(height, 2 * at + 1)) for at in above}
            self._uniform.append(parent(self._uniform[-1], self._uniform[-1]))
            self._others.append(pairs)

    def node(self, height: int, position: int) -> bytes:
        """See Tree."""
        if position << height >= self.count:
            return EMPTY
        return self._others[height].get(position, self._uniform[height])


@dataclass(frozen=True)
class Uniform:
    """A bisection.merkle.Blob of ``size`` bytes that repeat ``line``, but for ``changes``: bytes by the place where they stand."""

    size: int
    line: bytes
    changes: Mapping[int, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self.size)
        skipped = start % len(self.line)
        lines = -(-(stop - start + skipped) // len(self.line))
        data = bytearray((self.line * lines)[skipped : skipped + stop - start])
        for place, changed in self.changes.items():
            low, high = max(place, start), min(place + len(changed), stop)
            if low < high:
                data[low - start : high - start] = changed[low - place : high - place]
        return bytes(data)

    def tree(self) -> Tree:
        """See Blob."""
        leaves = leaf_count(self.size)
        changed = {leaves - 1} | {
            leaf
            for place, data in self.changes.items()
            for leaf in range(place // LEAF_BYTES, (place + len(data) - 1) // LEAF_BYTES + 1)
        }
        others = {leaf: leaf_digest(self[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]) for leaf in changed}
        return UniformTree(leaves, leaf_digest(self.line * (LEAF_BYTES // len(self.line))), others)


@dataclass(frozen=True)
class Scale:
    """How large a job is. ``nodes`` is also how many tensors a step has; ``length`` is that of the runs that are multiplied.

    ``elements`` of the product and ``length`` are powers of two, the latter at least a line of operands. The dispute is about
    element ``position`` of the product of step ``step``.
    """

    steps: int = 1 << 20
    nodes: int = 1 << 14
    elements: int = 1 << 30
    length: int = 1 << 20

    @property
    def step(self) -> int:
        """The step in dispute: neither at the ends of the history nor in its middle."""
        return self.steps * 5 // 7

    @property
    def position(self) -> int:
        """The element in dispute."""
        return self.elements * 5 // 7

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the product."""
        rows = 1 << (self.elements.bit_length() // 2)
        return rows, self.elements // rows

    @cached_property
    def program(self) -> Program:
        """The program: the product stands among nodes that add one to a number."""
        rows, columns = self.shape
        sizes = [(OPERAND, rows * self.length), (OPERAND, columns * self.length), ("i64", 1)]
        nodes: list[Node] = [Input((), (Ref(i, *size),), "data", i) for i, size in enumerate(sizes)]
        left, right, number = (node.outputs[0] for node in nodes)
        tensors = len(nodes)
        add = Op(BY_NAME["add64"].code, 0, 1)

        def count_on(outputs: int) -> None:
            nonlocal number, tensors
            refs = tuple(Ref(tensors + i, "i64", 1) for i in range(outputs))
            nodes.append(Map((number,), refs, (), (Read(0, ()),), ScalarProgram(1, 0, (1,), (add,), (2, 0)[:outputs])))
            number, tensors = refs[0], tensors + outputs

        count_on(2)  # makes up for the last node, which writes none
        while len(nodes) < self.nodes * 5 // 8:
            count_on(1)
        product = Ref(tensors, PRODUCT, self.elements)
        nodes.append(Dot((left, right), (product,), rows, columns, self.length))
        tensors += 1
        while len(nodes) < self.nodes - 1:
            count_on(1)
        nodes.append(Output((product,), (), 0))
        return Program(
            tuple(nodes),
            (TensorSpec("product", PRODUCT, (rows, columns)),),
            (
                TensorSpec("left", OPERAND, (rows, self.length)),
                TensorSpec("right", OPERAND, (columns, self.length)),
                TensorSpec("number", "i64", (1,)),
            ),
        )

    @cached_property
    def lines(self) -> tuple[bytes, bytes]:
        """The line that each matrix repeats. The products are negative, so that the words of partial results hold few zeros."""
        rng = np.random.default_rng(0)
        while True:
            left, right = rng.integers(-(2**15), 2**15, (2, LINE // 2)).astype("<i2")
            if int(left.astype(np.int64) @ right.astype(np.int64)) < 0:
                return left.tobytes(), right.tobytes()

    @cached_property
    def value(self) -> int:
        """Every element of the product."""
        left, right = (np.frombuffer(line, "<i2").astype(np.int64) for line in self.lines)
        return wrap(int(left @ right) * (self.length // len(left)), 64)


class SyntheticTrace:
    """An execution of a job, as bisection.trace.Trace: honest, or with ``lie`` added to the disputed element."""

    def __init__(self, scale: Scale, lie: int = 0) -> None:
        self._scale, self._lie = scale, lie
        self._trees: dict[bool, Tree] = {}
        rows, columns = scale.shape
        self._operands = [Uniform(2 * count * scale.length, line) for count, line in zip((rows, columns), scale.lines, strict=True)]

    @property
    def program(self) -> Program:
        """See Trace."""
        return self._scale.program

    @property
    def product_node(self) -> int:
        """The number of the node that multiplies."""
        return self.program.producer[self.program.nodes[-1].inputs[0].tensor]

    def history(self) -> Tree:
        """See Trace."""
        step = self._scale.step
        return UniformTree(self._scale.steps + 1, self.state(0).root, {step + 1: self.state(step + 1).root})

    def state(self, step: int) -> Tree:
        """See Trace. The first state is the product already."""
        return Tree([self._product(step - 1).tree().root])

    def data(self) -> Tree:
        """See Trace."""
        return Tree([*(operand.tree().root for operand in self._operands), blob_root(self._number(0))])

    def tensors(self, step: int) -> Tree:
        """See Trace."""
        wrong = self._wrong(step)
        if wrong not in self._trees:
            contents = (self.tensor(step, number) for number in range(len(self.program.tensors)))
            self._trees[wrong] = Tree([blob_tree(data).root for data in contents])
        return self._trees[wrong]

    def tensor(self, step: int, number: int) -> Content:
        """See Trace."""
        if number in (LEFT, RIGHT):
            return self._operands[number]
        product = self.program.nodes[-1].inputs[0].tensor
        if number == product:
            return self._product(step)
        return self._number(self._numbers[number])

    @cached_property
    def _numbers(self) -> dict[int, int]:
        """What the small tensors hold, by number."""
        held = {2: 0}
        for node in self.program.nodes:
            if isinstance(node, Map):
                before = held[node.inputs[0].tensor]
                held |= {ref.tensor: before + 1 - i for i, ref in enumerate(node.outputs)}
        return held

    def _wrong(self, step: int) -> bool:
        return bool(self._lie) and step == self._scale.step

    def _product(self, step: int) -> Blob:
        """The product of a step."""
        size, value = 8, self._scale.value
        line = value.to_bytes(size, "little", signed=True) * (LINE // size)
        wrong = wrap(value + self._lie, 64).to_bytes(size, "little", signed=True)
        changes = {size * self._scale.position: wrong} if self._wrong(step) else {}
        return Uniform(size * self._scale.elements, line, changes)

    @staticmethod
    def _number(number: int) -> bytes:
        return number.to_bytes(8, "little", signed=True)


class Shown:
    """A data service that shows an execution as it is, as bisection.agent.Answers."""

    def __init__(self, trace: SyntheticTrace) -> None:
        self._trace = trace

    def history(self) -> Tree:
        """See Answers."""
        return self._trace.history()

    def trace(self, step: int) -> Tree:
        """See Answers."""
        return self._trace.tensors(step)

    def state(self, step: int) -> Tree:
        """See Answers."""
        return self._trace.state(step)

    def tensor(self, step: int, number: int) -> Content:
        """See Answers."""
        return self._trace.tensor(step, number)
