"""What trainers claim to have computed: honest runs of small programs, and runs with one lie in them. All kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial

import numpy as np

from bisection import reference
from bisection.boundary import Array, tensor_bytes
from bisection.errors import ProgramError
from bisection.merkle import LEAF_BYTES, Tree, blob_tree
from bisection.nodes import Output, Reduce
from bisection.program import Program
from bisection.witness import NodeProof, node_proof
from sims.chain import runs
from tests.support.programs import counting_program, run_program

__all__ = ["WORKS", "Execution", "Shown", "Work", "digest"]

State = Mapping[str, Array]
LONG = 256 * 80  # elements of the long run: 80 parts, so that its descent takes two reveals


def digest(*name: object) -> bytes:
    """A digest that nothing hashes to."""
    return reference_digest(repr(name))


@cache
def reference_digest(name: str) -> bytes:
    return blob_tree(name.encode()).root


@dataclass(frozen=True)
class Shown:
    """What answers a demand for a leaf of a state component, in the order of Delivery.answer's arguments."""

    node: NodeProof
    tensor_root: bytes
    component_proof: tuple[bytes, ...]
    data: bytes
    leaf_proof: tuple[bytes, ...]


class Execution(runs.Execution):
    """One party's run of a whole job, with what the state machine asks about it besides."""

    def __init__(
        self,
        program: Program,
        start: State,
        data: State,
        steps: int,
        at: int | None = None,
        tamper: reference.Tamper | None = None,
        restate: Callable[[State], State] | None = None,
        nonsense: bytes | None = None,
    ) -> None:
        super().__init__(program, start, data, steps, at, tamper, restate, nonsense)
        self._at, self._last = at, (0 if at is None else at) + (nonsense is not None)
        self.span = cache(super().span)  # type: ignore[method-assign]  # asked for at every step of the machine
        self.blob = cache(self._blob)

    def _blob(self, step: int, number: int) -> Tree:
        return blob_tree(self.tensor(step, number))

    @property
    def end(self) -> State:
        """The state after the last step."""
        return self._states[-1]

    def right(self, first: int, length: int) -> bool:
        """Whether all states of a segment follow from its first one."""
        return self._at is None or not (first <= self._last and self._at < first + length)

    @cache  # noqa: B019 -- executions live as long as the tests
    def shown(self, component: int, seed: int) -> Shown:
        """Leaf number ``seed`` modulo the leaves of a component of the final state."""
        node = next(i for i, node in enumerate(self.program.nodes) if isinstance(node, Output) and node.index == component)
        data = tensor_bytes(self._states[-1][self.program.state[component].name])
        tree = blob_tree(data)
        leaf = seed % tree.count
        proof, path = tuple(self.state(self.steps).prove(component)), tuple(tree.prove(leaf))
        return Shown(node_proof(self.program, node), tree.root, proof, data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES], path)


# Lies -------------------------------------------------------------------------------------------------------------------


def flipped(array: Array, rng: np.random.Generator) -> Array:
    """The array with one bit changed."""
    changed = bytearray(tensor_bytes(array))
    bit = int(rng.integers(8 * len(changed)))
    changed[bit // 8] ^= 1 << bit % 8
    return np.frombuffer(bytes(changed), array.dtype).reshape(array.shape).copy()


def wrong_tensor(program: Program, tensor: int, seed: int) -> reference.Tamper:
    """One wrong bit in a tensor of the trace."""
    number = program.producer[tensor]
    output = tensor - program.nodes[number].outputs[0].tensor

    def tamper(node: int, outputs: list[Array]) -> list[Array]:
        if node == number:
            outputs = list(outputs)
            outputs[output] = flipped(outputs[output], np.random.default_rng(seed))
        return outputs

    return tamper


@dataclass(frozen=True)
class Work(runs.Work):
    """A program to run for so many steps, segment by segment, with what can be claimed of it."""

    _lies: dict[int, Execution] = field(default_factory=dict)

    @cached_property
    def honest(self) -> Execution:
        """The right execution."""
        return Execution(self.program, self.start, self.data, self.steps)

    @property
    def follow_up(self) -> tuple[Program, State, State]:
        """Program, start and data of work that goes on from where this one ends."""
        return self.program, self.honest.end, self.data

    @property
    def variety(self) -> int:
        """How many lies there are: one about every tensor, one about every component of the state, and nonsense."""
        return len(self.program.tensors) + len(self.program.state) + 1

    def lie(self, number: int) -> Execution:
        """One of the lies. All of them change the history."""
        number %= self.variety
        if number not in self._lies:
            self._lies[number] = self._told(number)
        return self._lies[number]

    def _told(self, number: int) -> Execution:
        program, step = self.program, (number * 7 + 3) % self.steps
        tensors, components = len(program.tensors), len(program.state)
        told = partial(Execution, program, self.start, self.data, self.steps)
        if number == tensors + components:
            return told(at=self.steps // 2, nonsense=digest("no state"))
        if number >= tensors:
            name = program.state[number - tensors].name
            return told(at=step, restate=lambda state: {**state, name: flipped(state[name], np.random.default_rng(number))})
        for seed in range(1_000):
            made = told(at=step, tamper=wrong_tensor(program, number, seed))
            if made.root(step + 1) != self.honest.root(step + 1):
                return made
        raise ProgramError(f"no bit of tensor {number} reaches the state")

    @property
    def segments(self) -> list[tuple[int, int]]:
        """(first step, steps) of each segment."""
        return [(at, min(self.segment_length, self.steps - at)) for at in range(0, self.steps, self.segment_length)]


def _works() -> list[Work]:
    counting = counting_program(80)
    long_run = run_program(np.random.default_rng(7), Reduce, LONG, ("i64", "i64"), rows=1)
    short = Work(*counting, 1, 1)
    return [Work(*counting, 5, 2), Work(*counting, 70, 66), Work(*long_run, 2, 1), short, Work(*short.follow_up, 3, 2)]


WORKS = _works()
