"""Whole random programs, run by the numpy reference, and questions about them that the referee must answer as the reference did.

A seed gives everything: the program, its hostile state and data, the places that are asked about, and how a claim is altered.
``coverage`` names what is hard about a question. The corpus holds questions that together meet all that ``WANTED`` names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bisection import reference
from bisection.boundary import Array, next_state, tensor_bytes
from bisection.cut import Fetch, address, element, load, part_count, part_length, part_result, run_starts, takes_max, unravel
from bisection.errors import IllegalMove
from bisection.merkle import LEAF_BYTES, Tree, blob_tree
from bisection.nodes import DTYPES, MAX_LENGTH, Dot, Gather, Input, Map, Node, Output, Read, Reduce, RunNode, ScatterAdd
from bisection.numbers import wrap
from bisection.program import Program, TensorSpec
from bisection.reference import NUMPY_TYPES
from bisection.scalar import BY_CODE, INSTRUCTIONS, Instruction, Op, ScalarProgram, read, store
from bisection.witness import (
    Leaf,
    RunPlace,
    StepRoots,
    boundary_witness,
    judge_part,
    locate_run,
    part_witness,
    witness,
)
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import answer, judgement
from tests.support.chains import INTEGER, Maker, Tensor
from tests.support.programs import FLOAT_EDGES, hostile, random_map

__all__ = ["WANTED", "Question", "World", "corpus", "coverage", "differences", "failures", "questions", "write_corpus"]

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
        count = int(self.rng.integers(1, 150))
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
        width, rows, count = (int(n) for n in self.rng.integers(1, 12, 3))
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
            x = self.given(self.pick(INTEGER if op == "sum" else ("i32", "i64")), (rows, length))
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


# Answers ----------------------------------------------------------------------------------------------------------------


def differences(referee: Contract, world: World, q: Question) -> list[str]:
    """Where the referee or Python's judge says something else than follows from the reference's run. None, if all is well."""
    node = world.program.nodes[q.node]
    if isinstance(node, Input | Output):
        return _of_boundary(referee, world, q, node)
    return _of_element(referee, world, q, node)


def _or_refused(judged: Callable[[], Any]) -> Any:
    """What a judge says, or "refused": honest openings never are."""
    try:
        return judged()
    except (IllegalMove, Reverted):
        return "refused"


def _told(world: World, q: Question, what: str, found: object, expected: object) -> list[str]:
    return [] if found == expected else [f"seed {world.seed}, {q}: {what} says {found} instead of {expected}"]


def _of_boundary(referee: Contract, world: World, q: Question, node: Input | Output) -> list[str]:
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
    w = boundary_witness(
        world.program, q.node, (tensors[ref.tensor], Tree(tensors).prove(ref.tensor)),
        (components[node.index], Tree(components).prove(node.index)),
    )  # fmt: skip
    roots = world.rooted(tensors, after)
    return [
        *_told(world, q, "the judge", judgement(roots, w), not q.altered),
        *_told(world, q, "the referee", answer(referee, roots, w), not q.altered),
    ]


def _of_element(referee: Contract, world: World, q: Question, node: Node) -> list[str]:
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
    roots = world.rooted(tensors, world.after)
    leaf = q.position * size // LEAF_BYTES
    data = content[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
    claim = Leaf(tree.root, tuple(trace.prove(ref.tensor)), data, tuple(tree.prove(leaf)))
    claimed = load(content[q.position * size : (q.position + 1) * size], ref.dtype)[0]
    correct = world.stored(node, q.output, q.position)
    found = _told(world, q, "the definition", element(node, q.output, q.position, world.fetch(node)), correct)
    if q.part is not None:
        assert isinstance(node, RunNode)
        return found + _of_part(referee, world, q, roots, trace, claim, claimed)
    w = witness(world.program, ref.tensor, q.position, claim, world.contents.__getitem__, trace.prove)
    return [
        *found,
        *_told(world, q, "the judge", judgement(roots, w), (claimed, correct)),
        *_told(world, q, "the referee", answer(referee, roots, w), (claimed, correct)),
    ]


def _of_part(referee: Contract, world: World, q: Question, roots: StepRoots, trace: Tree, claim: Leaf, claimed: int) -> list[str]:
    """A part has its right partial result whatever is claimed; the claimed element is what the run's place says."""
    node = world.program.nodes[q.node]
    assert isinstance(node, RunNode) and q.part is not None
    inputs = [world.arrays[ref.tensor] for ref in node.inputs]
    correct = reference.part_results(node, inputs, q.position)[q.part]
    w = part_witness(world.program, q.node, q.position, q.part, world.contents.__getitem__, trace.prove)
    place = RunPlace(claimed, node.outputs[0].tensor, part_count(node), takes_max(node))
    own_place = _or_refused(lambda: locate_run(roots, w.node, q.position, claim))
    located = _or_refused(lambda: RunPlace(*referee.call("locate_run", roots, w.node, q.position, claim)))
    judged = _or_refused(lambda: referee.call("judge_part", roots, w.node, q.position, q.part, w.inputs))
    return [
        *_told(world, q, "the definition", part_result(node, q.position, q.part, world.fetch(node)), correct),
        *_told(world, q, "the judge", _or_refused(lambda: judge_part(roots, w)), correct),
        *_told(world, q, "the referee", judged, correct),
        *_told(world, q, "the judge's place", own_place, place),
        *_told(world, q, "the referee's place", located, place),
    ]


# Coverage ---------------------------------------------------------------------------------------------------------------


def coverage(world: World, q: Question) -> set[str]:
    """What is hard about a question, by name."""
    node = world.program.nodes[q.node]
    found = {f"{node.NAME}, {'altered' if q.altered else 'honest'}"}
    if isinstance(node, Input | Output):
        return found | ({f"input of {node.source}"} if isinstance(node, Input) else set())
    ref = node.outputs[q.output]
    run = "long " if q.part is not None else ""
    found |= {f"{run}{node.NAME}: {source.dtype} as input {i}" for i, source in enumerate(node.inputs[:2])}
    found |= {f"{run}{node.NAME}: {ref.dtype} out"}
    if (q.position + 1) * DTYPES[ref.dtype].size > ref.nbytes // LEAF_BYTES * LEAF_BYTES:
        found.add("the claim in a partial leaf")
    if isinstance(node, Map):
        return found | _of_map(world, q, node)
    if isinstance(node, Gather):
        index = world.fetch(node)(1, q.position // node.width, 1)[0]
        inside = 0 <= index < node.inputs[0].count // node.width
        return found | {"gather: inside" if inside else "gather: negative" if index < 0 else "gather: beyond the table"}
    assert isinstance(node, RunNode)
    return found | _of_run(world, q, node)


def _of_run(world: World, q: Question, node: RunNode) -> set[str]:
    found = {f"{node.NAME}: {'a maximum' if takes_max(node) else 'a sum'}"}
    length, first = (node.length, 0) if q.part is None else (part_length(node), q.part * part_length(node))
    count = min(length, node.length - first)
    if q.part is not None:
        found |= {"a last part that is shorter"} if count < length else set()
        found |= {"the first part"} if q.part == 0 else {"the last part"} if q.part == part_count(node) - 1 else {"a middle part"}
    for start, ref in zip(run_starts(node, q.position), node.inputs, strict=True):
        size = DTYPES[ref.dtype].size
        low, high = (start + first) * size, (start + first + count) * size
        found |= {"a run that begins inside a leaf"} if low % LEAF_BYTES else set()
        found |= {"a run over several leaves"} if -(-high // LEAF_BYTES) - low // LEAF_BYTES > 1 else set()
        found |= {"a run to the end of a partial leaf"} if high == ref.nbytes and high % LEAF_BYTES else set()
    runs = [world.fetch(node)(i, start + first, count) for i, start in enumerate(run_starts(node, q.position))]
    if isinstance(node, ScatterAdd):
        found |= {"scatter_add: a negative index"} if min(runs[1]) < 0 else set()
        found |= {"scatter_add: an index beyond the bins"} if max(runs[1]) >= node.bins else set()
        found |= set() if q.position % node.bins in runs[1] else {"scatter_add: an empty bin"}
    exact = sum(runs[0]) if len(runs) == 1 else sum(a * b for a, b in zip(*runs, strict=True))
    if not takes_max(node) and not isinstance(node, ScatterAdd) and exact != wrap(exact, 64):
        found.add(f"{node.NAME}: a sum that wraps")
    return found


def _of_map(world: World, q: Question, node: Map) -> set[str]:
    indices = unravel(q.position, node.iteration)
    found, values = {f"map: {len(node.iteration)} dimensions"}, []
    for i, (affine, ref) in enumerate(zip(node.reads, node.inputs, strict=True)):
        at = address(affine, indices, ref.count)
        values.append(0 if at is None else world.fetch(node)(i, at, 1)[0])
        free = at is not None or address(Read(affine.base, affine.strides), indices, ref.count) is None
        found.add("map: a read inside" if at is not None else "map: a read outside" if free else "map: a condition fails")
    return found | _of_scalar(node.scalar, q.output, values, indices)


def _of_scalar(scalar: ScalarProgram, output: int, values: Sequence[int], indices: Sequence[int]) -> set[str]:
    """The classes of the operands of all instructions on which the output depends."""
    registers, base = [*values, *indices, *scalar.constants], scalar.reads + scalar.rank + len(scalar.constants)
    needed = {scalar.results[output]}
    for at in reversed(range(len(scalar.ops))):
        if base + at in needed:
            needed |= set(scalar.ops[at].operands)
    found = set()
    for at, op in enumerate(scalar.ops):
        row = BY_CODE[op.code]
        operands = [read(registers[r], view) for r, view in zip(op.operands, row.operands, strict=True)]
        registers.append(store(row.meaning(*operands), row.result))
        if base + at in needed:
            classes = [class_of(x, view) for x, view in zip(operands, row.operands, strict=True)]
            found |= {f"{row.name}: {name} as operand {i}" for i, name in enumerate(classes)}
    return found


def class_of(value: int, view: str) -> str:
    """What kind of an operand this is."""
    if view == "F":
        exponent, fraction = value >> 23 & 255, value & 0x7FFFFF
        if exponent == 255:
            return "NaN" if fraction else "infinity"
        return "finite" if exponent else "subnormal" if fraction else "zero"
    least = -(1 << (31 if view == "W" else 63))
    edges = {0: "zero", 1: "one", -1: "minus one", least: "the least", -least - 1: "the greatest"}
    return edges.get(value, "negative" if value < 0 else "positive")


FLOATS = ("NaN", "infinity", "finite", "subnormal", "zero")
INTEGERS = ("zero", "minus one", "the least", "the greatest", "negative", "positive")


def _wanted() -> frozenset[str]:
    found = {
        f"{row.name}: {name} as operand {i}"
        for row in INSTRUCTIONS
        for i, view in enumerate(row.operands)
        for name in (FLOATS if view == "F" else INTEGERS)
    }
    kinds = ("input", "output", "map", "gather", "reduce", "dot", "scatter_add")
    found |= {f"{kind}, {how}" for kind in kinds for how in ("honest", "altered")}
    found |= {"input of state", "input of data"}
    found |= {f"map: {dtype} {side}" for dtype in DTYPES for side in ("as input 0", "as input 1", "out")}
    found |= {f"gather: {dtype} {side}" for dtype in DTYPES for side in ("as input 0", "out")}
    found |= {f"gather: {dtype} as input 1" for dtype in INTEGER}
    for run in ("", "long "):
        found |= {f"{run}reduce: {dtype} as input 0" for dtype in INTEGER} | {
            f"{run}reduce: {dtype} out" for dtype in ("i32", "i64")
        }
        found |= {f"{run}dot: {dtype} as input {i}" for dtype in NARROW for i in range(2)}
        found |= {f"{run}scatter_add: {dtype} as input {i}" for dtype in INTEGER for i in range(2)}
    found |= {f"map: {rank} dimensions" for rank in range(5)}
    found |= {f"map: {what}" for what in ("a read inside", "a read outside", "a condition fails")}
    found |= {f"gather: {what}" for what in ("inside", "negative", "beyond the table")}
    found |= {"reduce: a maximum", "reduce: a sum", "reduce: a sum that wraps", "dot: a sum that wraps"}
    found |= {f"scatter_add: {what}" for what in ("a negative index", "an index beyond the bins", "an empty bin")}
    found |= {"the first part", "a middle part", "the last part", "a last part that is shorter"}
    found |= {"a run that begins inside a leaf", "a run over several leaves", "a run to the end of a partial leaf"}
    return frozenset(found | {"the claim in a partial leaf"})


WANTED = _wanted()
"""All that the corpus must meet: every instruction with every class of each operand, kinds by element types, and edges."""


# The corpus -------------------------------------------------------------------------------------------------------------

CORPUS = Path(__file__).parents[1] / "vectors" / "fuzz_corpus.json"


def corpus() -> dict[int, dict[int, frozenset[str]]]:
    """seed → number of a question among ``questions`` → what it was chosen for."""
    document = json.loads(CORPUS.read_text(encoding="utf-8"))
    rows: dict[int, dict[int, frozenset[str]]] = {}
    for seed, number, names in document["questions"]:
        rows.setdefault(seed, {})[number] = frozenset(names)
    return rows


def failures() -> list[int]:
    """The seeds in which something differed once."""
    return list(json.loads(CORPUS.read_text(encoding="utf-8"))["failures"])


def chosen(seeds: Sequence[int]) -> tuple[list[tuple[int, int, list[str]]], frozenset[str]]:
    """Few questions of these seeds that together meet all that is wanted, as (seed, number, what for); and what none meets."""
    met = {
        (seed, number): coverage(world, q) & WANTED
        for seed in seeds
        for world in [World(seed)]
        for number, q in enumerate(questions(world))
    }
    rows, missing = [], set(WANTED)
    while missing:
        place = max(met, key=lambda at: len(met[at] & missing))
        found = met[place] & missing
        if not found:
            break
        rows.append((*place, sorted(found)))
        missing -= found
    return sorted(rows), frozenset(missing)


def write_corpus(seeds: Sequence[int]) -> int:
    """Choose the corpus anew among ``seeds``; how many questions it has. Raises ValueError where they do not meet all."""
    rows, missing = chosen(seeds)
    if missing:
        raise ValueError(f"no question of these seeds meets: {', '.join(sorted(missing))}")
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    CORPUS.write_text(f'{{"questions": [\n{lines}\n],\n"failures": {json.dumps(failures())}}}\n', encoding="utf-8")
    return len(rows)
