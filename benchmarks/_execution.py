"""Runs of a segment in memory, and runs that are wrong: in a single number, or in several that do not hang together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from bisection.boundary import Array, state_roots, state_tensors, tensor_bytes, tensor_roots
from bisection.merkle import Tree
from bisection.nodes import Input, Output
from bisection.program import Program
from bisection.reference import Tamper
from trainer.executor import Executor

__all__ = ["CHANGES", "Execution", "Forgery", "Place", "draw", "incoherent", "places"]

State = Mapping[str, Array]
Rng = np.random.Generator
Traced = tuple[Sequence[Array], Tree]  # all tensors of a step, flat, and the tree over their roots
UNSIGNED = {"f32": np.uint32, "i8": np.uint8, "i16": np.uint16, "i32": np.uint32, "i64": np.uint64}


class Execution:
    """A run of one segment, as bisection.trace.Trace. ``states`` are those before each step and the last; ``trees`` are theirs.

    ``tampers`` maps a step to what its execution does to the outputs of nodes, ``asserted`` to a trace that was never executed.
    """

    def __init__(
        self,
        executor: Executor,
        data: Tree,
        states: list[State],
        trees: list[Tree],
        *,
        tampers: Mapping[int, Tamper] | None = None,
        asserted: Mapping[int, Traced] | None = None,
    ) -> None:
        self.states, self.trees = states, trees
        self._executor, self._data, self._tampers, self._asserted = executor, data, dict(tampers or {}), dict(asserted or {})
        self._traced = lru_cache(maxsize=2)(self._trace)

    @classmethod
    def honest(cls, executor: Executor, state: State, data: Mapping[str, Array], steps: int) -> Execution:
        """The run of ``steps`` steps from ``state`` as the program has it."""
        program = executor.program
        trees = [Tree(state_roots(program, state))]
        run = cls(executor, Tree(tensor_roots([data[spec.name] for spec in program.data])), [state], trees)
        run.extend(steps)
        return run

    def extend(self, steps: int) -> None:
        """Run on until there are ``steps`` steps."""
        for step in range(len(self.states) - 1, steps):
            state, _ = self._executor.step(self.states[step], self._tampers.get(step))
            self.states.append(state)
            self.trees.append(Tree(state_roots(self.program, state)))

    def tampered(self, step: int, tamper: Tamper) -> Execution | None:
        """A run that deviates in the execution of ``step`` and goes on from there; None where no committed state notices."""
        fork = Execution(self._executor, self._data, self.states[: step + 1], self.trees[: step + 1], tampers={step: tamper})
        fork.extend(step + 1)
        return fork if self._differs(fork, step) else None

    def asserted(self, step: int, state: State, arrays: Sequence[Array] | None = None) -> Execution:
        """A run that goes on from ``state`` after ``step``, and says that ``arrays`` are the trace of that step."""
        states, trees = [*self.states[: step + 1], state], [*self.trees[: step + 1], Tree(state_roots(self.program, state))]
        asserted = {step: (arrays, Tree(tensor_roots(arrays)))} if arrays is not None else {}
        return Execution(self._executor, self._data, states, trees, asserted=asserted)

    def _differs(self, fork: Execution, step: int) -> bool:
        return fork.trees[step + 1].root != self.trees[step + 1].root

    @property
    def steps(self) -> int:
        """How many steps were run."""
        return len(self.states) - 1

    @property
    def program(self) -> Program:
        """See Trace."""
        return self._executor.program

    @cached_property
    def _history(self) -> Tree:
        return Tree([tree.root for tree in self.trees])

    def history(self) -> Tree:
        """See Trace. Ask only once all steps are run."""
        return self._history

    def state(self, step: int) -> Tree:
        """See Trace."""
        return self.trees[step]

    def data(self) -> Tree:
        """See Trace."""
        return self._data

    def tensors(self, step: int) -> Tree:
        """See Trace."""
        return self._traced(step)[1]

    def tensor(self, step: int, number: int) -> bytes:
        """See Trace."""
        return tensor_bytes(self.array(step, number))

    def array(self, step: int, number: int) -> Array:
        """One tensor of ``step``'s trace, flat."""
        return self._traced(step)[0][number]

    def _trace(self, step: int) -> Traced:
        if step in self._asserted:
            return self._asserted[step]
        arrays = self._executor.trace(self.states[step], self._tampers.get(step))
        return arrays, Tree(tensor_roots(arrays))


# Changes: (element, its new bits), or None where the tensor does not offer the change ----------------------------------

Change = Callable[[np.ndarray[Any, Any], str, Rng], tuple[int, int] | None]


def _any_element(words: np.ndarray[Any, Any], rng: Rng) -> int:
    return int(rng.integers(len(words)))


def _lowest_bit(words: np.ndarray[Any, Any], dtype: str, rng: Rng) -> tuple[int, int]:
    element = _any_element(words, rng)
    return element, int(words[element]) ^ 1


def _any_bit(words: np.ndarray[Any, Any], dtype: str, rng: Rng) -> tuple[int, int]:
    element = _any_element(words, rng)
    return element, int(words[element]) ^ 1 << int(rng.integers(8 * words.itemsize))


def _any_bits(words: np.ndarray[Any, Any], dtype: str, rng: Rng) -> tuple[int, int]:
    return _any_element(words, rng), int.from_bytes(rng.bytes(words.itemsize), "little")


def _sign_of_zero(words: np.ndarray[Any, Any], dtype: str, rng: Rng) -> tuple[int, int] | None:
    if dtype != "f32" or len(zeros := np.flatnonzero(words << np.uint32(1) == 0)) == 0:
        return None
    element = int(rng.choice(zeros))
    return element, int(words[element]) ^ 1 << 31


def _nan_payload(words: np.ndarray[Any, Any], dtype: str, rng: Rng) -> tuple[int, int] | None:
    """Some NaN, quiet or signalling; where there is a NaN already, one with other bits."""
    if dtype != "f32":
        return None
    found = np.flatnonzero(np.isnan(words.view(np.float32)))
    element = int(rng.choice(found)) if len(found) else _any_element(words, rng)
    return element, int(rng.integers(2)) << 31 | 0x7F800000 | int(rng.integers(1, 1 << 23))


CHANGES: dict[str, Change] = {
    "lowest bit": _lowest_bit,
    "any bit": _any_bit,
    "any bits": _any_bits,
    "sign of zero": _sign_of_zero,
    "NaN payload": _nan_payload,
}


def changed(array: Array, dtype: str, change: Change, rng: Rng) -> tuple[Array, int] | None:
    """``array`` with one element changed, and which; None where it cannot be, or the element came out as it was."""
    words = np.ascontiguousarray(array).reshape(-1).view(UNSIGNED[dtype]).copy()
    drawn = change(words, dtype, rng)
    if drawn is None or int(words[drawn[0]]) == drawn[1]:
        return None
    words[drawn[0]] = drawn[1]
    return words.view(array.dtype).reshape(array.shape), drawn[0]


# Forgeries --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a number can be wrong: tensor ``index`` of the trace, or component ``index`` of the state after the step."""

    state: bool
    index: int


def places(program: Program) -> list[Place]:
    """Every state tensor, and every tensor of the trace on which the next state depends."""
    live: set[int] = set()
    for node in reversed(program.nodes):
        if isinstance(node, Output) or any(ref.tensor in live for ref in node.outputs):
            live |= {ref.tensor for ref in node.inputs}
    return [Place(True, i) for i in range(len(program.state))] + [Place(False, tensor) for tensor in sorted(live)]


@dataclass(frozen=True)
class Forgery:
    """A trainer that commits to one wrong element at ``step``, and what the referee has to say about it.

    ``claimed`` and ``correct`` are registers, or at a boundary the roots of the trace's tensor and of the component.
    """

    trainer: Execution
    place: Place
    change: str
    step: int
    element: int
    node: int
    output: int
    claimed: int | bytes
    correct: int | bytes

    @property
    def kind(self) -> str:
        """The kind of the node that is wrong."""
        return self.trainer.program.nodes[self.node].NAME


def draw(honest: Execution, place: Place, change: str, rng: Rng) -> Forgery | None:
    """A forgery of a random element at a random step; None where it is none: a change that no committed state shows."""
    step = int(rng.integers(honest.steps))
    forgery = (_in_state if place.state else _in_trace)(honest, place, change, step, rng)
    if forgery is not None:
        forgery.trainer.extend(honest.steps)
    return forgery


def _in_state(honest: Execution, place: Place, change: str, step: int, rng: Rng) -> Forgery | None:
    """The step is executed as it should be, and another state committed to."""
    spec = honest.program.state[place.index]
    drawn = changed(honest.states[step + 1][spec.name], spec.dtype, CHANGES[change], rng)
    if drawn is None:
        return None
    trainer = honest.asserted(step, {**honest.states[step + 1], spec.name: drawn[0]})
    return _forgery(honest, trainer, place, change, step, drawn[1])


def _in_trace(honest: Execution, place: Place, change: str, step: int, rng: Rng) -> Forgery | None:
    """One node's output is wrong, and the rest of the step follows from it."""
    program = honest.program
    number = program.producer[place.index]
    output = place.index - program.nodes[number].outputs[0].tensor
    drawn = changed(honest.array(step, place.index), program.tensors[place.index].dtype, CHANGES[change], rng)
    if drawn is None:
        return None
    array, element = drawn

    def tamper(at: int, outputs: list[Array]) -> list[Array]:
        return [array if i == output else other for i, other in enumerate(outputs)] if at == number else outputs

    trainer = honest.tampered(step, tamper)
    return None if trainer is None else _forgery(honest, trainer, place, change, step, element)


def incoherent(honest: Execution, rng: Rng) -> Forgery | None:
    """A trainer that asserts a trace with up to four wrong elements from which nothing follows, and a state with up to three after
    it. What the referee must find is the first of them. None where the state came out right."""
    step, program = int(rng.integers(honest.steps)), honest.program
    wrong: dict[Place, int] = {}

    def altered(place: Place, dtype: str, array: Array) -> Array:
        array, wrong[place] = changed(array, dtype, CHANGES["any bits"], rng) or (array, 0)
        return array

    arrays, state = [honest.array(step, ref.tensor) for ref in program.tensors], dict(honest.states[step + 1])
    for tensor in _some(len(arrays), 4, rng):
        arrays[tensor] = altered(Place(False, tensor), program.tensors[tensor].dtype, arrays[tensor])
    for index in _some(len(program.state), 3, rng):
        spec = program.state[index]
        state[spec.name] = altered(Place(True, index), spec.dtype, state[spec.name])
    trainer = honest.asserted(step, state, arrays)
    if not honest._differs(trainer, step):
        return None
    trainer.extend(honest.steps)
    first = min(wrong, key=lambda place: (place.state, place.index))
    return _forgery(honest, trainer, first, "incoherent", step, wrong[first])


def _some(count: int, most: int, rng: Rng) -> list[int]:
    return sorted(int(i) for i in rng.choice(count, min(count, int(rng.integers(most + 1))), replace=False))


def _forgery(honest: Execution, trainer: Execution, place: Place, change: str, step: int, element: int) -> Forgery:
    """The forgery whose first wrong element is this one, with what the referee has to find."""
    program = honest.program
    if place.state:
        number = next(i for i, node in enumerate(program.nodes) if isinstance(node, Output) and node.index == place.index)
        tensor_root = honest.tensors(step).node(0, state_tensors(program)[place.index])
        return Forgery(trainer, place, change, step, element, number, 0, tensor_root, trainer.state(step + 1).node(0, place.index))
    number = program.producer[place.index]
    node = program.nodes[number]
    claimed, correct = (_register(run.array(step, place.index), element) for run in (trainer, honest))
    forgery = Forgery(trainer, place, change, step, element, number, place.index - node.outputs[0].tensor, claimed, correct)
    if isinstance(node, Input):
        source = honest.data() if node.source == "data" else honest.state(step)
        return replace(forgery, claimed=trainer.tensors(step).node(0, place.index), correct=source.node(0, node.index))
    return forgery


def _register(array: Array, element: int) -> int:
    return int(array.view(np.int32)[element]) if array.dtype == np.float32 else int(array[element])
