"""What trainers claim to have computed: honest runs of small programs, and runs with one lie in them. All kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial

import numpy as np

from bisection import reference
from bisection.boundary import Array, next_state, state_roots, tensor_bytes
from bisection.errors import ProgramError
from bisection.merkle import LEAF_BYTES, Tree, blob_tree
from bisection.nodes import Output, Reduce
from bisection.program import Program
from bisection.witness import NodeProof, node_proof
from contracts.jobs import JobSpec
from sims.chain.runs import Span
from tests.support.programs import counting_program, run_program

__all__ = ["WORKS", "Execution", "Shown", "Work", "digest"]

State = Mapping[str, Array]
NUMERICS = 1
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


class Execution:
    """One party's run of a whole job, with everything that can be asked about it.

    ``lie`` is the step at which it departs from the program; None: nowhere. ``tamper`` changes that step's tensors, ``restate`` the
    state after it. Roots in ``nonsense`` stand in for the roots of states (by number) that nobody can show anything of.
    """

    def __init__(
        self,
        program: Program,
        start: State,
        data: State,
        steps: int,
        lie: int | None = None,
        tamper: reference.Tamper | None = None,
        restate: Callable[[State], State] | None = None,
        nonsense: Mapping[int, bytes] | None = None,
    ) -> None:
        self.program, self.lie, self.steps = program, lie, steps
        self._arrays, self._nonsense = data, dict(nonsense or {})
        self._states: list[State] = [start]
        self._traces: list[list[bytes]] = []
        for step in range(steps):
            tensors = reference.trace(program, self._states[step], data, tamper if step == lie else None)
            after: State = next_state(program, tensors)
            self._states.append(restate(after) if restate is not None and step == lie else after)
            self._traces.append([tensor_bytes(tensor) for tensor in tensors])
        self._spans: dict[tuple[int, int], Span] = {}
        self.state = cache(self._state)
        self.tensors = cache(self._tensors)
        self.blob = cache(self._blob)

    def _state(self, at: int) -> Tree:
        return Tree(state_roots(self.program, self._states[at]))

    def _tensors(self, step: int) -> Tree:
        return Tree([self.blob(step, number).root for number in range(len(self.program.tensors))])

    def _blob(self, step: int, number: int) -> Tree:
        return blob_tree(self.tensor(step, number))

    @cached_property
    def data(self) -> Tree:
        """The tree over the roots of the data tensors."""
        return Tree([blob_tree(tensor_bytes(self._arrays[spec.name])).root for spec in self.program.data])

    def tensor(self, step: int, number: int) -> bytes:
        """The bytes of a tensor of a step's trace."""
        return self._traces[step][number]

    def root(self, at: int) -> bytes:
        """The root of the state before step ``at``, as this party commits it."""
        return self._nonsense.get(at) or self.state(at).root

    @property
    def end(self) -> State:
        """The state after the last step."""
        return self._states[-1]

    def right(self, first: int, length: int) -> bool:
        """Whether all states of a segment follow from its first one."""
        return not any(at in self._nonsense for at in range(first, first + length + 1)) and (
            self.lie is None or not first <= self.lie < first + length
        )

    def span(self, first: int, length: int) -> Span:
        """This party's execution of one segment."""
        key = (first, length)
        if key not in self._spans:
            self._spans[key] = Span(self, first, Tree([self.root(at) for at in range(first, first + length + 1)]))
        return self._spans[key]

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


@dataclass
class Work:
    """A program to run for so many steps, segment by segment, with what can be claimed of it."""

    program: Program
    start: State
    data: State
    steps: int
    segment_length: int
    _lies: dict[int, Execution] = field(default_factory=dict)

    @cached_property
    def honest(self) -> Execution:
        """The right execution."""
        return Execution(self.program, self.start, self.data, self.steps)

    @cached_property
    def spec(self) -> JobSpec:
        """What a job says of this work."""
        p = self.program
        counts = (len(p.state), self.honest.data.root, len(p.data), self.steps, self.segment_length, NUMERICS)
        return JobSpec(p.root, len(p.nodes), len(p.tensors), self.honest.root(0), *counts)

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
            return told(nonsense={self.steps // 2 + 1: digest("no state")})
        if number >= tensors:
            name = program.state[number - tensors].name
            return told(lie=step, restate=lambda state: {**state, name: flipped(state[name], np.random.default_rng(number))})
        for seed in range(1_000):
            made = told(lie=step, tamper=wrong_tensor(program, number, seed))
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
