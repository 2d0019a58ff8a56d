"""Jobs on small programs, and what trainers claim to have computed of them: honest runs, and runs with one lie. All in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np

from bisection import reference
from bisection.boundary import Array, next_state, state_roots, state_tensors, tensor_bytes, tensor_roots
from bisection.errors import UsageError
from bisection.merkle import Tree, blob_tree
from bisection.nodes import MAX_LENGTH, Dot, Input, Map, Node, Output, Reduce, ScatterAdd
from bisection.program import NUMERICS_VERSION, Program
from bisection.trace import Trace
from contracts.jobs import JobSpec
from sims.chain.programs import counting_program, run_program

__all__ = ["LIES", "PROGRAMS", "Execution", "Lie", "Posted", "Span", "Work", "lying", "posting_of", "work"]

State = Mapping[str, Array]

NODE_LIES = ("map", "dot", "reduce", "gather", "scatter_add", "input")
LIES = (*NODE_LIES, "element", "state", "skipped-step", "old-checkpoint", "other-constant", "nonsense")
"""How a run can depart from its program, at one step.

    map … input       one number of what a node of this kind makes is wrong
    element           the same of any tensor
    state             the trace is right, but the state after the step is not what it says
    skipped-step      the state after the step is the one before it
    old-checkpoint    the state after the step is the first one of the run
    other-constant    the step is run with another constant in a map, such as a learning rate
    nonsense          in place of the state after the step stands a root of which nobody can show anything
"""
TRIES = 64  # different numbers falsified before a node kind is given up: a change can vanish in a rounding or a maximum


class Execution:
    """One party's run of a whole job, with everything that can be asked about it.

    At step ``at``, ``tamper`` changes the tensors and ``restate`` the state after it, or ``other`` is run in place of the program.
    ``nonsense`` stands in for the root of that state.
    """

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
        other: Program | None = None,
    ) -> None:
        self.program, self.steps = program, steps
        self._data, self._nonsense = data, {} if at is None or nonsense is None else {at + 1: nonsense}
        self._states: list[State] = [start]
        self._traces: list[Sequence[Array]] = []
        for step in range(steps):
            ran = other if other is not None and step == at else program
            tensors = reference.trace(ran, self._states[step], data, tamper if step == at else None)
            after: State = next_state(program, tensors)
            self._states.append(restate(after) if restate is not None and step == at else after)
            self._traces.append(tensors)
        self._roots = [self._nonsense.get(k) or Tree(state_roots(program, state)).root for k, state in enumerate(self._states)]
        self._trees: dict[tuple[str, int], Tree] = {}

    @cached_property
    def data(self) -> Tree:
        """The tree over the roots of the data tensors."""
        return Tree(tensor_roots([self._data[spec.name] for spec in self.program.data]))

    def root(self, at: int) -> bytes:
        """The root of the state before step ``at``, as this party commits it."""
        return self._roots[at]

    def state(self, at: int) -> Tree:
        """The tree over the roots of the state tensors before step ``at``."""
        return self._kept("state", at, lambda: state_roots(self.program, self._states[at]))

    def tensors(self, step: int) -> Tree:
        """The tree over the roots of all tensors of a step's trace."""
        return self._kept("trace", step, lambda: tensor_roots(self._traces[step]))

    def tensor(self, step: int, number: int) -> bytes:
        """The bytes of a tensor of a step's trace."""
        return tensor_bytes(self._traces[step][number])

    def span(self, first: int, length: int) -> Span:
        """This party's execution of one segment."""
        return Span(self, first, Tree(self._roots[first : first + length + 1]))

    def first_difference(self, other: Execution) -> int | None:
        """The first step after which the two states differ; None where they are equal throughout."""
        return next((k - 1 for k, (a, b) in enumerate(zip(self._roots, other._roots, strict=True)) if a != b), None)

    def _kept(self, name: str, at: int, leaves: Callable[[], list[bytes]]) -> Tree:
        if (name, at) not in self._trees:
            self._trees[name, at] = Tree(leaves())
        return self._trees[name, at]


class Posted(Trace, Protocol):
    """An execution of one segment, as it is posted. Steps count from ``first``."""

    @property
    def first(self) -> int:
        """The step of the run that it begins with."""

    @property
    def length(self) -> int:
        """How many steps it has."""

    def posting(self) -> tuple[bytes, tuple[bytes, ...], bytes, tuple[bytes, ...]]:
        """What is posted of the segment: history root, path of the first state, the last state and its path."""


def posting_of(history: Tree) -> tuple[bytes, tuple[bytes, ...], bytes, tuple[bytes, ...]]:
    """What is posted of a segment with this history: its root, path of the first state, the last state and its path."""
    last = history.count - 1
    return history.root, tuple(history.prove(0)), history.node(0, last), tuple(history.prove(last))


class Run(Protocol):
    """What a span needs of the run of the whole job."""

    program: Program

    @property
    def data(self) -> Tree:
        """The tree over the roots of the data tensors."""

    def state(self, step: int, /) -> Tree:
        """The tree over the roots of the state's tensors before a step."""

    def tensors(self, step: int, /) -> Tree:
        """The tree over the roots of all tensors of a step's trace."""

    def tensor(self, step: int, number: int, /) -> bytes:
        """The bytes of one of them."""


@dataclass(frozen=True)
class Span:
    """An execution of one segment, as bisection.trace.Trace: steps count from its ``first``."""

    whole: Run
    first: int
    tree: Tree

    @property
    def program(self) -> Program:
        """See Trace."""
        return self.whole.program

    @property
    def length(self) -> int:
        """How many steps it has."""
        return self.tree.count - 1

    def history(self) -> Tree:
        """See Trace."""
        return self.tree

    def state(self, step: int) -> Tree:
        """See Trace."""
        return self.whole.state(self.first + step)

    def data(self) -> Tree:
        """See Trace."""
        return self.whole.data

    def tensors(self, step: int) -> Tree:
        """See Trace."""
        return self.whole.tensors(self.first + step)

    def tensor(self, step: int, number: int) -> bytes:
        """See Trace."""
        return self.whole.tensor(self.first + step, number)

    def posting(self) -> tuple[bytes, tuple[bytes, ...], bytes, tuple[bytes, ...]]:
        """What is posted of the segment: history root, path of the first state, the last state and its path."""
        return posting_of(self.tree)


@dataclass(frozen=True)
class Work:
    """A program to run for so many steps, segment by segment."""

    program: Program
    start: State
    data: State
    steps: int
    segment_length: int

    @cached_property
    def honest(self) -> Execution:
        """The right execution."""
        return Execution(self.program, self.start, self.data, self.steps)

    @cached_property
    def spec(self) -> JobSpec:
        """What a job says of this work."""
        p = self.program
        counts = (len(p.state), self.honest.data.root, len(p.data), self.steps, self.segment_length, NUMERICS_VERSION)
        return JobSpec(p.root, len(p.nodes), len(p.tensors), self.honest.root(0), *counts)

    def spans(self, execution: Execution) -> list[Span]:
        """An execution of this work, segment by segment."""
        length = self.segment_length
        return [execution.span(first, min(length, self.steps - first)) for first in range(0, self.steps, length)]


def _runs(kind: type[Node]) -> Callable[[int], tuple[Program, State, State]]:
    return lambda size: run_program(np.random.default_rng(1), kind, size)


PROGRAMS: Mapping[str, Callable[[int], tuple[Program, State, State]]] = {
    "counting": lambda size: counting_program(8 * -(-size // 8)),
    "dot": _runs(Dot),
    "reduce": _runs(Reduce),
    "scatter_add": _runs(ScatterAdd),
    "long-dot": lambda size: run_program(np.random.default_rng(0), Dot, max(size, MAX_LENGTH + 1), rows=1),
}
"""Small programs by name, of a size: elements of the largest state tensor (counting), or of a run."""


@lru_cache(maxsize=64)
def work(program: str, size: int, steps: int, segment_length: int) -> Work:
    """Work on one of PROGRAMS. Raises UsageError where there is no such program."""
    if program not in PROGRAMS:
        raise UsageError(f"there is no program {program!r}; there are {', '.join(PROGRAMS)}")
    return Work(*PROGRAMS[program](size), steps, segment_length)


# Lies -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lie:
    """A departure from the program at a step: ``kind`` is one of LIES, ``seed`` says which number is made wrong."""

    kind: str
    step: int
    seed: int = 0


def lying(job: Work, lie: Lie) -> Execution:
    """A run with one lie in it, after which every state is another one. Everything that follows from the lie is computed rightly.

    Where a kind of lie cannot be told of this work (no such node, or nothing changes), the state itself is falsified.
    Raises UsageError for an unknown kind or step.
    """
    if lie.kind not in LIES or not 0 <= lie.step < job.steps:
        raise UsageError(f"no lie of kind {lie.kind!r} at step {lie.step} of {job.steps}; there are {', '.join(LIES)}")
    for options in _attempts(job, lie):
        made = Execution(job.program, job.start, job.data, job.steps, lie.step, **options)
        if made.first_difference(job.honest) is not None:
            return made
    return lying(job, Lie("state", lie.step, lie.seed))


def _attempts(job: Work, lie: Lie) -> Iterable[dict[str, Any]]:
    """Ways to tell a lie, as arguments of Execution, of which the first that changes anything is told."""
    program, rng = job.program, np.random.default_rng([lie.seed, lie.step])
    if lie.kind == "nonsense":
        yield {"nonsense": blob_tree(b"no state" + lie.seed.to_bytes(8, "big")).root}
    elif lie.kind == "state":
        while True:
            name = program.state[int(rng.integers(len(program.state)))].name
            bit = rng.random()
            yield {"restate": lambda state, name=name, bit=bit: {**state, name: _flipped(state[name], bit)}}
    elif lie.kind in ("skipped-step", "old-checkpoint"):
        earlier = job.honest._states[lie.step if lie.kind == "skipped-step" else 0]
        yield {"tamper": _earlier(program, earlier)}
    elif lie.kind == "other-constant":
        for number in rng.permutation(
            [k for k, node in enumerate(program.nodes) if isinstance(node, Map) and node.scalar.constants]
        ):
            yield {"other": _with_other_constant(program, int(number))}
    else:
        for tensor in _candidates(program, lie.kind, rng):
            yield {"tamper": _wrong(program, tensor, rng.random())}


def _candidates(program: Program, kind: str, rng: np.random.Generator) -> list[int]:
    """TRIES tensors, with repetitions, that nodes of a kind make."""
    made = [
        ref.tensor
        for node in program.nodes
        if not isinstance(node, Output) and kind in ("element", node.NAME) and (kind == "input" or not isinstance(node, Input))
        for ref in node.outputs
    ]
    return [int(tensor) for tensor in rng.choice(made, TRIES)] if made else []


def _flipped(array: Array, which: float) -> Array:
    """The array with one bit changed, ``which`` of the way through it."""
    changed = bytearray(tensor_bytes(array))
    bit = int(which * 8 * len(changed))
    changed[bit // 8] ^= 1 << bit % 8
    return np.frombuffer(bytes(changed), array.dtype).reshape(array.shape).copy()


def _wrong(program: Program, tensor: int, which: float) -> reference.Tamper:
    """One wrong bit in a tensor of the trace."""
    number = program.producer[tensor]
    output = tensor - program.nodes[number].outputs[0].tensor

    def tamper(node: int, outputs: list[Array]) -> list[Array]:
        return [_flipped(x, which) if (node, k) == (number, output) else x for k, x in enumerate(outputs)]

    return tamper


def _with_other_constant(program: Program, number: int) -> Program:
    """The program with another last constant in one map: a float about an eighth larger or smaller, or another integer."""
    node = program.nodes[number]
    assert isinstance(node, Map)
    *rest, last = node.scalar.constants
    changed = replace(node, scalar=replace(node.scalar, constants=(*rest, last ^ (1 << 20 if last >> 24 else 1))))
    return replace(program, nodes=(*program.nodes[:number], changed, *program.nodes[number + 1 :]))


def _earlier(program: Program, state: State) -> reference.Tamper:
    """Every tensor that becomes the next state is what it was in ``state``."""
    places = {tensor: program.state[k].name for k, tensor in enumerate(state_tensors(program))}

    def tamper(node: int, outputs: list[Array]) -> list[Array]:
        refs = program.nodes[node].outputs
        made = zip(refs, outputs, strict=True)
        return [state[places[ref.tensor]].reshape(-1) if ref.tensor in places else x for ref, x in made]

    return tamper
