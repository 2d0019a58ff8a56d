"""Runs of small programs in segments, right and wrong in every way that a game is played about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bisection.game import TreeKind
from bisection.merkle import Tree
from bisection.nodes import Dot, Output
from bisection.program import Program
from bisection.trace import MemoryTrace
from tests.support.arena import TheTrainer
from tests.support.liar import Liar, balanced
from tests.support.programs import counting_program, run_program

__all__ = ["COUNTING", "LONG", "SEGMENT", "Fabricator", "Misstated", "run_of"]

SEGMENT = 4
Job = tuple[Program, Mapping[str, np.ndarray[Any, Any]], Mapping[str, np.ndarray[Any, Any]]]
COUNTING: Job = counting_program()
LONG: Job = run_program(np.random.default_rng(0), Dot, 40_000, rows=1)  # one element of 157 parts: two reveals of partial results


def run_of(segments: int, lie: int | None = None, seed: int = 0, job: Job = COUNTING) -> list[MemoryTrace]:
    """The traces of all segments of a run that falsifies one number of a next state at step ``lie``, if any."""
    traces: list[MemoryTrace] = []
    program, state, data = job
    for segment in range(segments):
        step = None if lie is None else lie - segment * SEGMENT
        tamper = {step: _tampering(program, seed)} if step is not None and 0 <= step < SEGMENT else None
        traces.append(MemoryTrace(program, state, data, SEGMENT, tamper))
        state = traces[-1]._states[-1]
    return traces


def _tampering(program: Program, seed: int) -> Callable[[int, list[np.ndarray[Any, Any]]], list[np.ndarray[Any, Any]]]:
    """A lie in one number of the longest state tensor."""
    tensor = max((n.inputs[0] for n in program.nodes if isinstance(n, Output)), key=lambda ref: ref.count).tensor

    def tamper(number: int, outputs: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        if number == program.producer[tensor]:
            outputs = [outputs[0].copy(), *outputs[1:]]
            outputs[0][seed % outputs[0].size] += 1
        return outputs

    return tamper


class Misstated(MemoryTrace):
    """A run whose last state is not what the last step has made."""

    def state(self, step: int) -> Tree:
        right = super().state(step).levels[0][: len(self.program.state)]
        return Tree([*right[:-1], bytes(32 * [7])]) if step == SEGMENT else Tree(right)


class Fabricator(TheTrainer):
    """A trainer that defends a wrong element of a long run with partial results that combine to it."""

    def start(self) -> None:
        super().start()
        self._liars: dict[int, Liar] = {}

    def _play(self, game: int, trace: Any) -> None:
        if TreeKind.RUN not in self.chain.game(game).demanded:
            super()._play(game, trace)
        elif not self.chain.answered(game):
            self._liars.setdefault(game, Liar(self.chain, trace, lambda *parts: balanced(parts[0], 0, parts[1], parts[2]))).play(
                game
            )
