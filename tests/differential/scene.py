"""One node of a program, the tensors around it and their trees: all that a verdict on it needs, built from any bytes.

Questions are asked of the contract and of its definition in bisection/witness.py alike; each answers or refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np

from bisection.boundary import tensor_bytes
from bisection.cut import element, load
from bisection.encoding import Reader
from bisection.errors import IllegalMove, ProgramError
from bisection.merkle import LEAF_BYTES, Tree, blob_tree, leaf_digest
from bisection.nodes import DTYPES, KINDS, Dot, Gather, Input, Map, Node, Output, Reduce, Ref, ScatterAdd
from bisection.program import Program, TensorSpec
from bisection.trace import MemoryTrace
from bisection.witness import (
    BoundaryWitness,
    ElementWitness,
    Leaf,
    NodeProof,
    PartWitness,
    RunWitness,
    StepRoots,
    Witness,
    boundary_witness,
    judge,
    judge_part,
    part_witness,
    witness,
)
from tests.differential.evm import Contract, Reverted
from tests.support.programs import Builder, counting_program, hostile, random_node

__all__ = ["COMPUTING", "Answer", "BoundaryScene", "Scene", "answer", "ask", "judgement", "parse", "program_around"]

W = TypeVar("W", ElementWitness, RunWitness, PartWitness)
COMPUTING = (Map, Reduce, Dot, Gather, ScatterAdd)
Answer = tuple[int, int] | int | bool | str
"""(claimed, correct) of an element, the partial result of a part, whether a boundary holds, or "refused"."""


class Scene:
    """A step in which everything is committed. What the node under test wrote is arbitrary, as a dishonest trainer's would be."""

    def __init__(self, program: Program, number: int, contents: Sequence[bytes]) -> None:
        self.program, self.number, self.contents = program, number, list(contents)
        self.node = program.nodes[number]
        self.trees = [blob_tree(content) for content in self.contents]
        self.trace = Tree([tree.root for tree in self.trees])
        self.roots = StepRoots(
            program.root, len(program.nodes), self.trace.root, len(self.contents), bytes(32), bytes(32), 1, bytes(32), 1
        )

    @classmethod
    def of(cls, program: Program, data: dict[str, np.ndarray], rng: np.random.Generator) -> Scene:
        """The last node that computes, over the data as given; whatever else the trace holds is hostile."""
        contents = [tensor_bytes(hostile(rng, ref.dtype, ref.count)) for ref in program.tensors]
        for node in program.nodes:
            if isinstance(node, Input) and node.source == "data" and program.data[node.index].name in data:
                contents[node.outputs[0].tensor] = tensor_bytes(data[program.data[node.index].name])
        number = max(i for i, node in enumerate(program.nodes) if not isinstance(node, Input) and node.outputs)
        return cls(program, number, contents)

    @classmethod
    def random(cls, kind: type[Node], seed: int) -> Scene:
        """A random node of a kind over hostile data."""
        rng = np.random.default_rng([seed, kind.KIND])
        return cls.of(*random_node(rng, kind), rng)

    def leaf(self, tensor: int, dtype: str, position: int) -> Leaf:
        """The opening of the leaf that holds one element."""
        index = position * DTYPES[dtype].size // LEAF_BYTES
        data = self.contents[tensor][index * LEAF_BYTES : (index + 1) * LEAF_BYTES]
        return Leaf(self.trees[tensor].root, tuple(self.trace.prove(tensor)), data, tuple(self.trees[tensor].prove(index)))

    def witness(self, output: int, position: int) -> ElementWitness | RunWitness:
        """All openings for one element of the node."""
        ref = self.node.outputs[output]
        claim = self.leaf(ref.tensor, ref.dtype, position)
        return witness(self.program, ref.tensor, position, claim, self.contents.__getitem__, self.trace.prove)

    def part(self, position: int, part: int) -> PartWitness:
        """All openings for one part of the run of one element of the node."""
        return part_witness(self.program, self.number, position, part, self.contents.__getitem__, self.trace.prove)

    def fetch(self, i: int, first: int, count: int) -> Sequence[int]:
        """Elements of the node's input i, straight from the bytes."""
        ref = self.node.inputs[i]
        size = DTYPES[ref.dtype].size
        return load(self.contents[ref.tensor][first * size : (first + count) * size], ref.dtype)

    def expected(self, output: int, position: int) -> tuple[int, int]:
        """The claimed and the correct element, by the definition of the node."""
        ref = self.node.outputs[output]
        size = DTYPES[ref.dtype].size
        claimed = load(self.contents[ref.tensor][position * size : (position + 1) * size], ref.dtype)[0]
        return claimed, element(self.node, output, position, self.fetch)

    def recoded(self, code: bytes, w: W) -> tuple[StepRoots, W]:
        """The same openings in a program that has ``code`` in the node's place."""
        leaves = list(self.program.tree.levels[0])
        leaves[self.number] = leaf_digest(code)
        tree = Tree(leaves)
        node = NodeProof(self.number, code, tuple(tree.prove(self.number)))
        return replace(self.roots, program_root=tree.root), replace(w, node=node)


class BoundaryScene:
    """Step 0 of a small program, honest but for what a test replaces."""

    def __init__(self) -> None:
        self.program, state, data = counting_program()
        trace = MemoryTrace(self.program, state, data, 1)
        self.trees = {"state": trace.state(0), "data": trace.data(), "after": trace.state(1)}
        self.tensors = trace.tensors(0)
        self.roots = StepRoots(
            self.program.root, len(self.program.nodes), self.tensors.root, len(self.program.tensors),
            self.trees["state"].root, self.trees["after"].root, len(self.program.state),
            self.trees["data"].root, len(self.program.data),
        )  # fmt: skip

    def witness(self, number: int) -> BoundaryWitness:
        """The openings at one input or output node."""
        node = self.program.nodes[number]
        tree = self.trees[node.source if isinstance(node, Input) else "after"]
        ref = node.outputs[0] if isinstance(node, Input) else node.inputs[0]
        component = tree.levels[0][node.index], tree.prove(node.index)
        return boundary_witness(
            self.program, number, (self.tensors.levels[0][ref.tensor], self.tensors.prove(ref.tensor)), component
        )

    @property
    def boundary(self) -> list[int]:
        """The numbers of the input and output nodes."""
        return [i for i, node in enumerate(self.program.nodes) if isinstance(node, Input | Output)]


def ask(referee: Contract, roots: StepRoots, w: Witness | PartWitness) -> Answer:
    """What the contract says. Raises Reverted."""
    if isinstance(w, PartWitness):
        result: int = referee.call("judge_part", roots, w.node, w.position, w.part, w.inputs)
        return result
    if isinstance(w, BoundaryWitness):
        holds: bool = referee.call("judge_boundary", roots, *(getattr(w, field.name) for field in fields(w)))
        return holds
    function = "judge_element" if isinstance(w, ElementWitness) else "judge_run"
    claimed, correct = referee.call(function, roots, w.node, w.output, w.position, w.claim, w.inputs)
    return claimed, correct


def answer(referee: Contract, roots: StepRoots, w: Witness | PartWitness) -> Answer:
    """What the contract says, or "refused"."""
    try:
        return ask(referee, roots, w)
    except Reverted:
        return "refused"


def judgement(roots: StepRoots, w: Witness | PartWitness) -> Answer:
    """What the definition says, or "refused"."""
    try:
        if isinstance(w, PartWitness):
            return judge_part(roots, w)
        verdict = judge(roots, w)
    except IllegalMove:
        return "refused"
    return verdict.claimed == verdict.correct if isinstance(w, BoundaryWitness) else (verdict.claimed, verdict.correct)


def parse(code: bytes) -> Node:
    """The node that ``code`` spells, whether or not its fields fit each other. Raises ProgramError where it spells none."""
    source = Reader(code)

    def ref(number: int, dtype: int, count: int) -> Ref:
        if dtype >= len(DTYPES):
            raise ProgramError(f"element type {dtype} does not exist")
        return Ref(number, list(DTYPES)[dtype], count)

    kind, n_inputs, n_outputs, first = source.u8(), source.u8(), source.u8(), source.u32()
    if kind not in KINDS:
        raise ProgramError(f"node kind {kind} does not exist")
    inputs = tuple(ref(source.u32(), source.u8(), source.u64()) for _ in range(n_inputs))
    outputs = tuple(ref(first + i, source.u8(), source.u64()) for i in range(n_outputs))
    node = KINDS[kind].read_body(source, inputs, outputs)
    source.end()
    return node


def program_around(kind: type[Node], inputs: list[tuple[str, int]], outputs: list[tuple[str, int]], *fields: object) -> Program:
    """The smallest program with one node. Its inputs, as (element type, count), come from the data; the state is a counter."""
    b = Builder()
    (counter,) = b.add(Input, (), [("i64", 1)], "state", 0)
    refs = [b.add(Input, (), [row], "data", i)[0] for i, row in enumerate(inputs)]
    b.add(kind, tuple(refs), outputs, *fields)
    b.add(Output, (counter,), [], 0)
    data = tuple(TensorSpec(f"x{i}", dtype, (count,)) for i, (dtype, count) in enumerate(inputs))
    return Program(tuple(b.nodes), (TensorSpec("step", "i64", ()),), data)
