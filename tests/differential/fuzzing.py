"""Whole random programs, run by the numpy reference, and questions about them that the referee must answer as the reference did.

A seed gives everything: the program, its hostile state and data, the places that are asked about, and how a claim is altered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from bisection import reference
from bisection.boundary import Array, next_state, tensor_bytes
from bisection.cut import Fetch, element, load, part_count, part_result, run_starts, takes_max
from bisection.errors import IllegalMove
from bisection.merkle import LEAF_BYTES, Tree, blob_tree
from bisection.nodes import DTYPES, MAX_LENGTH, Dot, Gather, Input, Map, Node, Output, Read, Reduce, RunNode, ScatterAdd
from bisection.program import Program, TensorSpec
from bisection.reference import NUMPY_TYPES
from bisection.scalar import INSTRUCTIONS, Instruction, Op, ScalarProgram
from bisection.witness import (
    NO_LEAF,
    BoundaryWitness,
    Leaf,
    PartWitness,
    RunPlace,
    StepRoots,
    Witness,
    boundary_witness,
    judge_part,
    locate_run,
    part_witness,
    witness,
)
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import Answer, answer, judgement
from tests.support.chains import INTEGER, Maker, Tensor
from tests.support.programs import FLOAT_EDGES, hostile, random_map

__all__ = ["NARROW", "Posed", "Question", "World", "differences", "posed", "questions"]

NODES = (4, 12)  # computing nodes of a program, from and below
LONG = (MAX_LENGTH + 1, 3 * MAX_LENGTH)  # elements of a long run
STORED = {"F": ("f32",), "W": ("i32",), "L": ("i64",)}  # element types that fill a view
PLACES = 3  # of an output that are asked about
SHIFTS = ("shl", "shr", "ushr")
NARROW = ("i8", "i16", "i32")


def edges_of(dtype: str) -> Array:
    """The least and the greatest values of an element type, and those about zero; of floats every kind of pattern."""
    if dtype == "f32":
        return np.array(FLOAT_EDGES, np.uint32).view(np.float32)
    least = -(1 << (8 * DTYPES[dtype].size - 1))
    return np.array([0, 1, -1, least, -least - 1], NUMPY_TYPES[dtype])


# Programs ---------------------------------------------------------------------------------------------------------------


class HostileMaker(Maker):
    """Adds nodes that a lowered model would not have: any instruction on any operands, any reads, runs of any length."""

    def given(self, dtype: str, shape: tuple[int, ...], low: int | None = None, high: int = 0, source: str = "data") -> Tensor:
        """A tensor of the data or the state: hostile, or integers from ``low`` up to ``high``."""
        specs, count = self.specs[source], prod(shape)
        name = f"{source}{len(specs)}"
        value = hostile(self.rng, dtype, count)
        if low is not None:
            value = self.rng.integers(low, high, count).astype(value.dtype)
        specs.append(TensorSpec(name, dtype, (count,)))
        self.values[source][name] = value
        (ref,) = self.b.add(Input, (), [(dtype, count)], source, len(specs) - 1)
        return self.keep(ref, shape)

    def instruction(self) -> None:
        """One instruction on tensors that hold the edges of its operands' views, element by element."""
        row: Instruction = self.pick(INSTRUCTIONS)
        count = int(self.rng.integers(1, 150 if self.chance(0.5) else 1_500))
        inputs = [self.operand(row, place, count) for place in range(len(row.operands))]
        reads = tuple(self.same_place(count) for _ in inputs)
        scalar = ScalarProgram(len(inputs), 1, (), (Op(row.code, *range(len(inputs))),), (len(inputs) + 1,))
        outputs = [(self.pick((*STORED[row.result], *DTYPES)), count)]
        (made,) = self.b.add(Map, tuple(t.ref for t in inputs), outputs, (count,), reads, scalar)
        self.keep(made, (count,))

    def operand(self, row: Instruction, place: int, count: int) -> Tensor:
        """Operand number ``place`` of an instruction: anything, or near where shifts and scalings change."""
        (dtype,) = STORED[row.operands[place]]
        if place == 1 and row.name.startswith(SHIFTS) and self.chance(0.5):
            return self.given(dtype, (count,), -3, 70)
        if place == 1 and row.name in ("ldexp", "scaled") and self.chance(0.5):
            return self.given(dtype, (count,), -300, 300)
        tensor = self.given(dtype, (count,))
        if self.chance(0.5):
            self.values["data"][self.specs["data"][-1].name] = self.rng.choice(edges_of(dtype), count)
        return tensor

    @staticmethod
    def same_place(count: int) -> Read:
        """Element i for index i, or the only one."""
        return Read(0, (1,) if count > 1 else (0,))

    def any_map(self) -> None:
        """Any scalar program over any affine reads of what there is."""
        inputs = tuple(self.find(tuple(DTYPES)).ref for _ in range(int(self.rng.integers(0, 5))))
        made = random_map(self.rng, self.b, inputs)
        node = self.b.nodes[-1]
        for ref in made:
            self.keep(ref, node.shape)

    def any_gather(self) -> None:
        """Rows of a table of any type, by indices of any type, some outside."""
        width, rows, count = (int(n) for n in self.rng.integers(1, 40, 3))
        dtype = self.pick(tuple(DTYPES))
        table = self.given(dtype, (rows, width))
        index = self.given(self.pick(INTEGER), (count,), *(() if self.chance(0.3) else (-2, rows + 2)))
        (made,) = self.b.add(Gather, (table.ref, index.ref), [(dtype, count * width)], width)
        self.keep(made, (count, width))

    def any_run(self) -> None:
        """A reduce, dot or scatter_add, short or long, over integers of any types."""
        length = int(self.rng.integers(*LONG)) if self.chance(0.5) else int(self.rng.integers(1, 90))
        rows, columns = (int(n) for n in self.rng.integers(1, 4, 2))
        kind = self.pick((Reduce, Dot, ScatterAdd))
        if kind is Reduce:
            op = self.pick(("sum", "max"))
            below = (-100, -1) if self.chance(0.3) else ()
            x = self.given(self.pick(INTEGER if op == "sum" else ("i32", "i64")), (rows, length), *below)
            (made,) = self.b.add(Reduce, (x.ref,), [("i64" if op == "sum" else x.ref.dtype, rows)], op, length)
        elif kind is Dot:
            x, y = self.given(self.pick(NARROW), (rows, length)), self.given(self.pick(NARROW), (columns, length))
            (made,) = self.b.add(Dot, (x.ref, y.ref), [("i64", rows * columns)], rows, columns, length)
        else:
            x = self.given(self.pick(INTEGER), (rows, length))
            y = self.given(self.pick(INTEGER), (length,), *(() if self.chance(0.3) else (-1, columns + 1)))
            (made,) = self.b.add(ScatterAdd, (x.ref, y.ref), [("i64", rows * columns)], length, columns)
        self.keep(made, (made.count,))


def random_program(rng: np.random.Generator) -> tuple[Program, dict[str, Array], dict[str, Array]]:
    """A program, its state and its data: nodes that read each other as a model's do, and nodes that no model has."""
    maker = HostileMaker(rng)
    kept = maker.given("f32", (3, 17), source="state").ref
    model = [maker.map, maker.map, maker.reduce, maker.dot, maker.gather, maker.scatter_add]
    strange = [maker.instruction] * 5 + [maker.any_map, maker.any_map, maker.any_gather, maker.any_run, maker.any_run]
    for _ in range(int(rng.integers(*NODES))):
        maker.pick(model if maker.chance(0.25) else strange)()
    made = [ref for node in maker.b.nodes if not isinstance(node, Input) for ref in node.outputs]
    for ref in (made[-1], maker.pick(made)):
        i = len(maker.specs["state"])
        maker.specs["state"].append(TensorSpec(f"s{i}", ref.dtype, (ref.count,)))
        maker.values["state"][f"s{i}"] = hostile(rng, ref.dtype, ref.count)
        maker.b.add(Output, (ref,), [], i)
    maker.b.add(Output, (kept,), [], 0)
    program = Program(tuple(maker.b.nodes), tuple(maker.specs["state"]), tuple(maker.specs["data"]))
    return program, maker.values["state"], maker.values["data"]


# Questions --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """One thing to ask about a node of a world. ``part`` is None where the whole element is judged.

    An altered question is about a trainer that claims something else in that place, and is honest in all others.
    """

    node: int
    output: int = 0
    position: int = 0
    part: int | None = None
    altered: bool = False


class World:
    """One step of the random program of a seed, as the reference runs it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.program, self.state, self.data = random_program(np.random.default_rng(seed))
        self.arrays = reference.trace(self.program, self.state, self.data)
        self.contents = [tensor_bytes(array) for array in self.arrays]
        self.trees = [blob_tree(content) for content in self.contents]
        self.before = [blob_tree(tensor_bytes(self.state[spec.name])).root for spec in self.program.state]
        after = next_state(self.program, self.arrays)
        self.after = [blob_tree(tensor_bytes(after[spec.name])).root for spec in self.program.state]
        self.given = [blob_tree(tensor_bytes(self.data[spec.name])).root for spec in self.program.data]
        self.roots = self.rooted([tree.root for tree in self.trees], self.after)

    def rooted(self, tensors: list[bytes], after: list[bytes]) -> StepRoots:
        """What is committed about the step, with these tensors in the trace and this state after it."""
        return StepRoots(
            self.program.root, len(self.program.nodes), Tree(tensors).root, len(tensors), Tree(self.before).root,
            Tree(after).root, len(self.before), Tree(self.given).root, len(self.given),
        )  # fmt: skip

    def fetch(self, node: Node) -> Fetch:
        """The elements of a node's inputs."""

        def fetched(i: int, first: int, count: int) -> Sequence[int]:
            ref = node.inputs[i]
            size = DTYPES[ref.dtype].size
            return load(self.contents[ref.tensor][first * size : (first + count) * size], ref.dtype)

        return fetched

    def damaged(self, q: Question) -> None:
        """Have the reference say something else of the element in question, as if it computed wrongly."""
        ref = self.program.nodes[q.node].outputs[q.output]
        size = DTYPES[ref.dtype].size
        self.contents[ref.tensor] = another(self.contents[ref.tensor], q.position * size, size, np.random.default_rng(0))
        self.trees[ref.tensor] = blob_tree(self.contents[ref.tensor])

    def stored(self, node: Node, output: int, position: int) -> int:
        """The element that the reference has computed, as a register."""
        ref = node.outputs[output]
        size = DTYPES[ref.dtype].size
        return load(self.contents[ref.tensor][position * size : (position + 1) * size], ref.dtype)[0]


def questions(world: World) -> Iterator[Question]:
    """Every boundary, some elements of every tensor and, of long runs, some parts; each honest and altered."""
    rng = np.random.default_rng([world.seed, 1])
    for number, node in enumerate(world.program.nodes):
        if isinstance(node, Input | Output):
            yield Question(number)
            yield Question(number, altered=True)
        for output, ref in enumerate(node.outputs if not isinstance(node, Input) else ()):
            places = {0, ref.count - 1, *rng.integers(0, ref.count, PLACES).tolist()}
            for position in rng.permutation(sorted(places))[:PLACES].tolist():
                for part in _parts(node, rng):
                    yield Question(number, output, position, part)
                    yield Question(number, output, position, part, altered=True)


def _parts(node: Node, rng: np.random.Generator) -> tuple[int | None, ...]:
    """Which parts of a run to ask about: the first, the last and another. None, for the whole, where the run is short."""
    if not isinstance(node, RunNode) or node.length <= MAX_LENGTH:
        return (None,)
    return tuple(sorted({0, part_count(node) - 1, int(rng.integers(part_count(node)))}))


def another(data: bytes, at: int, size: int, rng: np.random.Generator) -> bytes:
    """``data`` with the ``size`` bytes from ``at`` on changed: one bit, the lowest one, or all of them."""
    element = int.from_bytes(data[at : at + size], "little")
    change = (1, 1 << int(rng.integers(8 * size)), int(rng.integers(1, 1 << min(8 * size, 62))))[int(rng.integers(3))]
    return data[:at] + (element ^ change).to_bytes(size, "little") + data[at + size :]


# Posing ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Posed:
    """A question with all openings. ``claim`` opens the claimed element, whose register is ``claimed``; a boundary has none."""

    roots: StepRoots
    witness: Witness | PartWitness
    claim: Leaf = NO_LEAF
    claimed: int = 0


def posed(world: World, q: Question) -> Posed:
    """The question as a challenger would put it to the referee."""
    node = world.program.nodes[q.node]
    return _boundary(world, q, node) if isinstance(node, Input | Output) else _element(world, q, node)


def _boundary(world: World, q: Question, node: Input | Output) -> Posed:
    """At an altered input the trace holds another tensor, at an altered output the state after the step does."""
    tensors, after = [tree.root for tree in world.trees], list(world.after)
    rng = np.random.default_rng([world.seed, q.node])
    ref = node.outputs[0] if isinstance(node, Input) else node.inputs[0]
    if q.altered:
        size = DTYPES[ref.dtype].size
        wrong = blob_tree(another(world.contents[ref.tensor], int(rng.integers(ref.count)) * size, size, rng)).root
        if isinstance(node, Input):
            tensors[ref.tensor] = wrong
        else:
            after[node.index] = wrong
    components = after if isinstance(node, Output) else world.before if node.source == "state" else world.given
    tensor = tensors[ref.tensor], Tree(tensors).prove(ref.tensor)
    component = components[node.index], Tree(components).prove(node.index)
    return Posed(world.rooted(tensors, after), boundary_witness(world.program, q.node, tensor, component))


def _element(world: World, q: Question, node: Node) -> Posed:
    ref = node.outputs[q.output]
    size = DTYPES[ref.dtype].size
    content, tree = world.contents[ref.tensor], world.trees[ref.tensor]
    tensors = [each.root for each in world.trees]
    if q.altered:
        rng = np.random.default_rng([world.seed, q.node, q.output, q.position])
        content = another(content, q.position * size, size, rng)
        tree = blob_tree(content)
        tensors[ref.tensor] = tree.root
    trace = Tree(tensors)
    leaf = q.position * size // LEAF_BYTES
    data = content[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
    claim = Leaf(tree.root, tuple(trace.prove(ref.tensor)), data, tuple(tree.prove(leaf)))
    claimed = load(content[q.position * size : (q.position + 1) * size], ref.dtype)[0]
    opened: Witness | PartWitness
    if q.part is None:
        opened = witness(world.program, ref.tensor, q.position, claim, world.contents.__getitem__, trace.prove)
    else:
        opened = part_witness(world.program, q.node, q.position, q.part, world.contents.__getitem__, trace.prove)
    return Posed(world.rooted(tensors, world.after), opened, claim, claimed)


# Answers ----------------------------------------------------------------------------------------------------------------


def differences(referee: Contract, world: World, q: Question) -> list[str]:
    """Where the referee or Python's judge says something else than follows from the reference's run. None, if all is well."""
    p = posed(world, q)

    def told(what: str, found: object, expected: object) -> list[str]:
        return [] if found == expected else [f"seed {world.seed}, {q}: {what} says {found} instead of {expected}"]

    if isinstance(p.witness, PartWitness):
        return _of_part(referee, world, q, p, p.witness, told)
    expected: Answer = not q.altered
    found = []
    if not isinstance(p.witness, BoundaryWitness):
        node = world.program.nodes[q.node]
        correct = world.stored(node, q.output, q.position)
        found = told("the definition", element(node, q.output, q.position, world.fetch(node)), correct)
        expected = p.claimed, correct
    return [
        *found,
        *told("the judge", judgement(p.roots, p.witness), expected),
        *told("the referee", answer(referee, p.roots, p.witness), expected),
    ]


def _of_part(
    referee: Contract, world: World, q: Question, p: Posed, w: PartWitness, told: Callable[[str, object, object], list[str]]
) -> list[str]:
    """A part has its right partial result whatever is claimed; the claimed element is what the run's place says."""
    node = world.program.nodes[q.node]
    assert isinstance(node, RunNode)
    starts = zip(node.inputs, run_starts(node, q.position), strict=True)
    runs = [world.arrays[ref.tensor][start : start + node.length] for ref, start in starts]
    correct = reference.part_results(node, runs, q.position)[w.part]
    place = RunPlace(p.claimed, node.outputs[0].tensor, part_count(node), takes_max(node))
    own_place = _or_refused(lambda: locate_run(p.roots, w.node, q.position, p.claim))
    located = _or_refused(lambda: RunPlace(*referee.call("locate_run", p.roots, w.node, q.position, p.claim)))
    judged = _or_refused(lambda: referee.call("judge_part", p.roots, w.node, q.position, w.part, w.inputs))
    return [
        *told("the definition", part_result(node, q.position, w.part, world.fetch(node)), correct),
        *told("the judge", _or_refused(lambda: judge_part(p.roots, w)), correct),
        *told("the referee", judged, correct),
        *told("the judge's place", own_place, place),
        *told("the referee's place", located, place),
    ]


def _or_refused(judged: Callable[[], Any]) -> Any:
    """What a judge says, or "refused": honest openings never are."""
    try:
        return judged()
    except (IllegalMove, Reverted):
        return "refused"
