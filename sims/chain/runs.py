"""Jobs on small programs, and executions of them, all in memory. What a dishonest one claims: sims/chain/lies.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from bisection import reference
from bisection.boundary import Array, next_state, state_roots, tensor_bytes, tensor_roots
from bisection.errors import UsageError
from bisection.merkle import Tree
from bisection.nodes import MAX_LENGTH, Dot, Node, Reduce, ScatterAdd
from bisection.program import NUMERICS_VERSION, Program
from bisection.trace import Trace
from contracts.jobs import JobSpec
from sims.chain.programs import counting_program, run_program

__all__ = ["PROGRAMS", "Execution", "Posted", "Span", "State", "Work", "posting_of", "work"]

State = Mapping[str, Array]


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

    def values(self, at: int) -> State:
        """The state before step ``at``."""
        return self._states[at]

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


def _digits(size: int) -> tuple[Program, State, State]:
    """The demo's job as it is captured, whatever the ``size``."""
    from sims import digits  # and torch, which the other programs do without

    captured = digits.job(seed=0)[1]
    return captured.program, captured.state, captured.data


PROGRAMS: Mapping[str, Callable[[int], tuple[Program, State, State]]] = {
    "counting": lambda size: counting_program(8 * -(-size // 8)),
    "dot": _runs(Dot),
    "reduce": _runs(Reduce),
    "scatter_add": _runs(ScatterAdd),
    "long-dot": lambda size: run_program(np.random.default_rng(0), Dot, max(size, MAX_LENGTH + 1), rows=1),
    "digits": _digits,
}
"""Programs by name, of a size: elements of the largest state tensor (counting), or of a run; digits is what it is."""


@lru_cache(maxsize=64)
def work(program: str, size: int, steps: int, segment_length: int) -> Work:
    """Work on one of PROGRAMS. Raises UsageError where there is no such program."""
    if program not in PROGRAMS:
        raise UsageError(f"there is no program {program!r}; there are {', '.join(PROGRAMS)}")
    return Work(*_made(program, size), steps, segment_length)


@lru_cache(maxsize=8)
def _made(program: str, size: int) -> tuple[Program, State, State]:
    return PROGRAMS[program](size)
