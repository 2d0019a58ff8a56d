"""What a party must be able to say about its own execution of a segment, and the simplest thing that can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from bisection import reference
from bisection.boundary import Array, next_state, state_roots, tensor_bytes, tensor_roots
from bisection.merkle import Content, Tree
from bisection.program import Program

__all__ = ["MemoryTrace", "Trace"]


class Trace(Protocol):
    """One party's own execution of one segment. ``step`` counts within the segment, from 0."""

    @property
    def program(self) -> Program:
        """The program."""

    def history(self) -> Tree:
        """The tree over the state roots C_0 … C_n."""

    def state(self, step: int) -> Tree:
        """The tree over the roots of the state tensors before ``step``."""

    def data(self) -> Tree:
        """The tree over the roots of the data tensors."""

    def tensors(self, step: int) -> Tree:
        """The tree over the roots of all tensors of ``step``'s trace."""

    def tensor(self, step: int, number: int) -> Content:
        """The bytes of one tensor of ``step``'s trace."""


class MemoryTrace:
    """A trace of ``steps`` steps on the reference executor, all states in memory. For small programs.

    ``tamper`` maps a step to a function (node number, outputs) → outputs: the execution of a dishonest trainer.
    """

    def __init__(
        self,
        program: Program,
        state: Mapping[str, Array],
        data: Mapping[str, Array],
        steps: int,
        tamper: Mapping[int, reference.Tamper] | None = None,
    ) -> None:
        self._program, self._data, self._tamper = program, data, dict(tamper or {})
        self._states: list[Mapping[str, Array]] = [state]
        self._tensors = lru_cache(maxsize=4)(self._run)
        for step in range(steps):
            self._states.append(next_state(program, self._tensors(step)))
        self._history = Tree([self.state(step).root for step in range(steps + 1)])

    def _run(self, step: int) -> Sequence[Array]:
        return reference.trace(self._program, self._states[step], self._data, self._tamper.get(step))

    @property
    def program(self) -> Program:
        """The program."""
        return self._program

    def history(self) -> Tree:
        """See Trace."""
        return self._history

    def state(self, step: int) -> Tree:
        """See Trace."""
        return Tree(state_roots(self._program, self._states[step]))

    def data(self) -> Tree:
        """See Trace."""
        return Tree(tensor_roots([self._data[spec.name] for spec in self._program.data]))

    def tensors(self, step: int) -> Tree:
        """See Trace."""
        return Tree(tensor_roots(self._tensors(step)))

    def tensor(self, step: int, number: int) -> bytes:
        """See Trace."""
        return tensor_bytes(self._tensors(step)[number])
