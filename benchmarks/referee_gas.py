"""What the referee costs: gas of every scalar instruction and of whole verdict transactions for every kind of node.

Gas of a verdict is that of a transaction of its own that calls the referee: base fee of 21,000, calldata and its floor (EIP-7623)
included. Tensors are opened by paths of random siblings, so that any depth costs nothing to set up, and all bytes are random, so
that next to no calldata is zero.

    python -m benchmarks.referee_gas [--write]    # --write: into benchmarks/results/referee_gas.json, which a test compares
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from bisection.cut import part_length, run_starts
from bisection.merkle import LEAF_BYTES, Tree, depth_of, fold, fold_range, leaf_digest
from bisection.nodes import DTYPES, Condition, Dot, Gather, Input, Map, Node, Output, Read, Reduce, Ref, RunNode, ScatterAdd
from bisection.scalar import BY_NAME, INSTRUCTIONS, Op, ScalarProgram
from bisection.witness import Leaf, NodeProof, Run, StepRoots
from contracts.build import artifact
from tests.differential.evm import Contract
from tests.differential.operands import cases
from trainer.lowering.verdicts import GAME, HANDED_ON, MOST_GAS, longest_run, map_gas

SNAPSHOT = Path(__file__).parent / "results" / "referee_gas.json"
COMPONENTS = 200  # tensors of the state
LONG = 1 << 20  # elements of a run that is judged in parts


@dataclass(frozen=True)
class Size:
    """How large the step around a node is: tensors in its trace, nodes in its program, elements of four bytes in a large tensor."""

    tensors: int
    nodes: int
    large: int


SMALL = Size(200, 1000, 64 << 14)  # a trace of depth 8, a program of depth 10, tensors of depth 14
LARGE = Size(1 << 14, 1 << 14, 64 << 18)  # the largest that capture counts on (trainer/lowering/verdicts.py)


@dataclass
class Scene:
    """One node and its tensors, in the middle of a program and of a trace; openings are made up as they are asked for."""

    size: Size = SMALL
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    roots: dict[int, bytes] = field(default_factory=dict)
    openings: dict[int, tuple[bytes, tuple[bytes, ...]]] = field(default_factory=dict)

    def open(self, ref: Ref, first: int, count: int = 1, data: bytes | None = None) -> None:
        """Make up the leaves of ``ref`` that hold ``count`` elements from ``first`` on."""
        size = DTYPES[ref.dtype].size
        low, high = first * size // LEAF_BYTES, -(-(first + count) * size // LEAF_BYTES)
        length = min(ref.nbytes, high * LEAF_BYTES) - low * LEAF_BYTES
        data = self.rng.bytes(length) if data is None else data * (length // len(data))
        digests = [leaf_digest(data[at : at + LEAF_BYTES]) for at in range(0, length, LEAF_BYTES)]
        leaves = -(-ref.nbytes // LEAF_BYTES)
        depth = depth_of(leaves)
        siblings, a, b = [], low, high
        for _ in range(depth):
            siblings += [self.rng.bytes(32)] * (a % 2) + [self.rng.bytes(32)] * (b % 2)
            a, b = a // 2, (b + 1) // 2
        self.roots[ref.tensor] = fold_range(digests, low, depth, siblings)
        self.openings[ref.tensor] = data, tuple(siblings)

    def path(self, leaves: int) -> tuple[bytes, ...]:
        """A path of made-up siblings in a tree of so many leaves."""
        return tuple(self.rng.bytes(32) for _ in range(depth_of(leaves)))

    def step(self, node: Node, state: bytes = bytes(32)) -> tuple[StepRoots, NodeProof, Tree]:
        """The roots around ``node``, its proof, and the trace with all that is open by now."""
        code, nodes, tensors = node.encode(), self.size.nodes, self.size.tensors
        trace = Tree([self.roots.get(number, self.rng.bytes(32)) for number in range(tensors)])
        path = self.path(nodes + 1)
        program_root = fold(leaf_digest(code), nodes // 2, path)
        step = StepRoots(program_root, nodes, trace.root, tensors, state, state, COMPONENTS, bytes(32), 1)
        return step, NodeProof(nodes // 2, code, path), trace

    def opened(self, trace: Tree, ref: Ref, kind: type[Leaf] | type[Run]) -> Leaf | Run:
        """What was opened of ``ref``."""
        data, siblings = self.openings[ref.tensor]
        return kind(self.roots[ref.tensor], tuple(trace.prove(ref.tensor)), data, siblings)

    def verdict(self, contract: Contract, node: Node, output: int, position: int) -> int:
        """The gas of the verdict on one element. Inputs must be open."""
        claimed = node.outputs[output]
        self.open(claimed, position)
        step, proof, trace = self.step(node)
        is_element = isinstance(node, Map | Gather)
        inputs = [self.opened(trace, ref, Leaf if is_element else Run) for ref in node.inputs]
        claim = self.opened(trace, claimed, Leaf)
        contract.call("judge_element" if is_element else "judge_run", step, proof, output, position, claim, inputs)
        return contract.gas

    def part(self, contract: Contract, node: RunNode, position: int, part: int) -> int:
        """The gas of the verdict on one part of the run of an element."""
        length = part_length(node)
        for ref, start in zip(node.inputs, run_starts(node, position), strict=True):
            self.open(ref, start + part * length, min(length, node.length - part * length))
        step, proof, trace = self.step(node)
        contract.call("judge_part", step, proof, position, part, [self.opened(trace, ref, Run) for ref in node.inputs])
        return contract.gas

    def located(self, contract: Contract, node: RunNode, position: int) -> int:
        """The gas of the question what the run of an element is."""
        self.open(node.outputs[0], position)
        step, proof, trace = self.step(node)
        contract.call("locate_run", step, proof, position, self.opened(trace, node.outputs[0], Leaf))
        return contract.gas

    def joined(self, contract: Contract, node: Input | Output) -> tuple[int, int]:
        """The gas of the question what a boundary node joins, and of the verdict on it."""
        (ref,) = node.outputs or node.inputs
        root, path = self.rng.bytes(32), self.path(COMPONENTS)
        self.roots[ref.tensor] = root
        step, proof, trace = self.step(node, fold(root, node.index, path))
        contract.call("boundary", step, proof)
        asked = contract.gas
        assert contract.call("judge_boundary", step, proof, root, trace.prove(ref.tensor), root, path)
        return asked, contract.gas


def refs(first: int, *rows: tuple[str, int]) -> tuple[Ref, ...]:
    """Tensors numbered from ``first`` on, from (element type, count)."""
    return tuple(Ref(first + i, dtype, count) for i, (dtype, count) in enumerate(rows))


def map_node(
    inputs: int, instructions: int, outputs: int = 1, names: tuple[str, ...] = ("fmul", "fadd"), size: Size = SMALL, spread: int = 0
) -> Map:
    """A map over large f32 tensors, as lowered elementwise code is: a chain of the given instructions. ``spread`` more dimensions
    of size 2, with two conditions on every read, make its encoding long, as windows do."""
    rows = ("f32", size.large)
    rank = 2 + spread
    spare = inputs + rank + 2
    ops = []
    for i in range(instructions):
        row = BY_NAME[names[i % len(names)]]
        registers = [i % spare, max(spare + i - 1, 0), (i + 1) % spare][: len(row.operands)]
        ops.append(Op(row.code, *registers))
    results = tuple(spare + instructions - 1 - i for i in range(outputs))
    scalar = ScalarProgram(inputs, rank, (0x3F666666, 0x3DCCCCCD), tuple(ops), results)
    iteration = (*[2] * spread, size.large // 1024 >> spread, 1024)
    inside = Condition(0, size.large, (1,) * rank)
    strides = (*(size.large >> 1 + d for d in range(spread)), 1024, 1)
    read = Read(0, strides, (inside,) * (2 if spread else 0))
    return Map(refs(100, *[rows] * inputs), refs(150, *[rows] * outputs), iteration, (read,) * inputs, scalar)


# The mix of an AdamW update: moments, bias correction, square root, division, decay.
ADAMW = ("fmul", "fmul", "fadd", "fmul", "fsub", "fmul", "fadd", "fsqrt", "fadd", "fdiv")


def map_gas_of(contract: Contract, node: Map, size: Size = SMALL) -> int:
    """The gas of a verdict about an element of a map that reads large tensors."""
    position, scene = 123_456, Scene(size)
    for ref in node.inputs:
        scene.open(ref, position)
    return scene.verdict(contract, node, 0, position)


def gather_gas(contract: Contract) -> int:
    """The gas of a verdict about an element of a gather."""
    row, column = 482, 64
    table, index = refs(100, ("f32", SMALL.large), ("i32", 4096))
    scene = Scene()
    scene.open(table, 3 * 256 + column)
    scene.open(index, row, data=(3).to_bytes(4, "little"))
    return scene.verdict(contract, Gather((table, index), refs(150, ("f32", 4096 * 256)), 256), 0, row * 256 + column)


def reduce_gas(contract: Contract, op: Literal["sum", "max"], dtype: str, length: int, size: Size = SMALL) -> int:
    """The gas of a verdict about a sum or maximum of ``length`` elements."""
    rows = size.large >> 8
    x = Ref(100, dtype, length * rows)
    scene = Scene(size)
    scene.open(x, 1234 * length, length)
    return scene.verdict(contract, Reduce((x,), refs(150, ("i64" if op == "sum" else dtype, rows)), op, length), 0, 1234)


def dot_gas(contract: Contract, dtype: str, length: int, size: Size = SMALL) -> int:
    """The gas of a verdict about a product of two runs of ``length`` elements."""
    rows = size.large >> 10
    a, b = refs(100, (dtype, rows * length), (dtype, rows * length))
    scene = Scene(size)
    scene.open(a, 120 * length, length)
    scene.open(b, 576 * length, length)
    node = Dot((a, b), refs(150, ("i64", rows * 1024)), 1024, 1024, length)
    return scene.verdict(contract, node, 0, 120 * 1024 + 576)


def scatter_gas(contract: Contract, dtype: str, index_dtype: str, length: int, size: Size = SMALL) -> int:
    """The gas of a verdict about a bin of a scatter_add of ``length`` elements."""
    rows = size.large >> 10
    values, index = refs(100, (dtype, rows * length), (index_dtype, length))
    scene = Scene(size)
    scene.open(values, 70 * length, length)
    scene.open(index, 0, length)
    return scene.verdict(contract, ScatterAdd((values, index), refs(150, ("i64", rows * 64)), length, 64), 0, 70 * 64 + 3)


def long_runs() -> Sequence[tuple[str, RunNode]]:
    """(what, node) of nodes whose runs are judged in parts, by the types that make the longest and the widest parts."""
    rows = 64
    products, bins = refs(150, ("i64", rows * rows)), refs(150, ("i64", rows * 64))
    pairs = refs(100, ("i16", rows * LONG), ("i16", rows * LONG))
    words = refs(100, ("i32", rows * LONG), ("i32", rows * LONG))
    return [
        ("sum, i8", Reduce(refs(100, ("i8", rows * LONG)), refs(150, ("i64", rows)), "sum", LONG)),
        ("sum, i64", Reduce(refs(100, ("i64", rows * LONG)), refs(150, ("i64", rows)), "sum", LONG)),
        ("max, i32", Reduce(refs(100, ("i32", rows * LONG)), refs(150, ("i32", rows)), "max", LONG)),
        ("dot, i16", Dot(pairs, products, rows, rows, LONG)),
        ("dot, i32", Dot(words, products, rows, rows, LONG)),
        ("scatter_add, i64", ScatterAdd(refs(100, ("i64", rows * LONG), ("i32", LONG)), bins, LONG, 64)),
    ]


def boundaries() -> Sequence[Input | Output]:
    """A node of either kind."""
    ref = Ref(100, "f32", SMALL.large)
    return [Input((), (ref,), "state", 123), Output((ref,), (), 123)]


def verdicts(contract: Contract) -> Iterator[tuple[str, int]]:
    """(what, gas) of whole verdict transactions and of the referee's other answers, at the limits of the format."""
    for boundary in boundaries():
        asked, judged = Scene().joined(contract, boundary)
        yield f"{boundary.NAME}", judged
        yield f"what an {boundary.NAME} joins", asked
    yield "map, 1 input, 1 instruction", map_gas_of(contract, map_node(1, 1))
    yield "map, 3 inputs, 37 instructions", map_gas_of(contract, map_node(3, 37))
    yield "AdamW: map, 6 inputs, 40 instructions, 3 outputs", map_gas_of(contract, map_node(6, 40, 3, ADAMW))
    yield "map, 8 inputs, 128 instructions", map_gas_of(contract, map_node(8, 128, 1, ADAMW))
    yield "gather", gather_gas(contract)
    for op, dtype in (("sum", "i8"), ("sum", "i32"), ("max", "i32"), ("sum", "i64")):
        yield f"{op} of 1,024 {dtype}", reduce_gas(contract, op, dtype, 1024)  # type: ignore[arg-type]
    for dtype in ("i8", "i16", "i32"):
        yield f"dot of 1,024 {dtype} pairs", dot_gas(contract, dtype, 1024)
    yield "scatter_add of 1,024 i64", scatter_gas(contract, "i64", "i32", 1024)
    for what, node in long_runs():
        yield f"{part_length(node):,} of a long {what}", Scene().part(contract, node, 29, 777)
        yield f"what a long {what} is", Scene().located(contract, node, 29)


def in_game(contract: Contract, inputs: int) -> int:
    """The gas of the last verdict, about a node of so many inputs, in a transaction that calls the game: that has its own work to
    do, but no more calldata."""
    return max(contract.gas, contract.executed + GAME + HANDED_ON * (1 + inputs))


def bound_of(node: Map) -> int:
    """The bound on the gas of a verdict about ``node`` (trainer/lowering/verdicts.py)."""
    return map_gas(node.scalar, len(node.encode()), [node.outputs[0].nbytes, *(ref.nbytes for ref in node.inputs)])


def captured_verdicts(contract: Contract, size: Size) -> Iterator[tuple[str, int]]:
    """(what, gas) of the dearest verdicts about nodes that capture makes (trainer/lowering/verdicts.py), with the game's part."""
    for inputs in (4, 6, 7):
        node = next(n for ops in range(128, 0, -1) if bound_of(n := map_node(inputs, ops, 1, ADAMW, size)) <= MOST_GAS)
        map_gas_of(contract, node, size)
        yield f"map, {inputs} inputs, {len(node.scalar.ops)} float instructions", in_game(contract, inputs)
    for dtype in ("i32", "i64"):
        length = longest_run(dtype)
        reduce_gas(contract, "sum", dtype, length, size)
        yield f"sum of {length:,} {dtype}", in_game(contract, 1)
    for dtype in ("i16", "i32"):
        length = longest_run(dtype, dtype)
        dot_gas(contract, dtype, length, size)
        yield f"dot of {length:,} {dtype} pairs", in_game(contract, 2)
    length = longest_run("i32", "i64")
    scatter_gas(contract, "i32", "i64", length, size)
    yield f"scatter_add of {length:,} i32 by i64", in_game(contract, 2)


def instructions(contract: Contract, samples: int = 50) -> Iterator[tuple[str, int]]:
    """(name, mean gas) of each scalar instruction over mixed operands, call and dispatch included."""
    for row in INSTRUCTIONS:
        operands = [(*values, 0, 0)[:3] for values in cases(row.name, samples, seed=1)]
        yield row.name, sum(contract.call("cost", row.code, registers) for registers in operands) // samples


def snapshot() -> dict[str, dict[str, int]]:
    """Everything that the test compares: verdicts and the referee's other answers, and scalar instructions, by name."""
    return {"verdicts": dict(verdicts(Contract("Referee"))), "instructions": dict(instructions(Contract("scalar_mock")))}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if parser.parse_args().write:
        SNAPSHOT.write_text(json.dumps(snapshot(), indent=1) + "\n")
    for name in ("Referee", "scalar_mock"):
        print(f"{name}: {artifact(name).runtime_size:,} of 24,576 bytes")
    print()
    referee = Contract("Referee")
    tables = {
        "at the limits of the format": verdicts(referee),
        "that capture makes, in a small step": captured_verdicts(referee, SMALL),
        "that capture makes, in the largest step": captured_verdicts(referee, LARGE),
    }
    for title, rows in tables.items():
        print(f"Verdicts {title}")
        for what, gas in rows:
            print(f"{what:<50}{gas:>9,}")
        print()
    for name, gas in instructions(Contract("scalar_mock")):
        print(f"{name:<50}{gas:>9,}")


if __name__ == "__main__":
    main()
