"""Runs of small programs in segments, right and wrong in every way that a game is played about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks._hostile import Relay
from bisection.agent import Chain, Defender
from bisection.game import Move, PostTrace, Reveal, TreeKind
from bisection.merkle import Tree
from bisection.nodes import Dot, Output
from bisection.program import Program
from bisection.trace import MemoryTrace
from tests.support.arena import TheTrainer
from tests.support.liar import Liar, balanced
from tests.support.programs import counting_program, run_program

__all__ = ["COUNTING", "LONG", "SEGMENT", "Fabricator", "Garbler", "Misstated", "run_of"]

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


class Spoilt(Relay):
    """A chain on which everything that is revealed of one tree is inverted."""

    def __init__(self, chain: Chain, tree: TreeKind) -> None:
        super().__init__(chain)
        self._tree = tree

    def move(self, game: int, move: Move) -> None:
        d = self._chain.game(game).descent
        tree = TreeKind.TRACE if isinstance(move, PostTrace) or d is None else d.tree
        if isinstance(move, Reveal | PostTrace) and tree == self._tree:
            move = replace(move, payload=bytes(byte ^ 0xFF for byte in move.payload))
        self._chain.move(game, move)


class Garbler(TheTrainer):
    """A trainer that reveals garbage of one of the trees, which one goes by the job."""

    TREES = (TreeKind.HISTORY, TreeKind.TRACE, TreeKind.TENSOR)

    def _play(self, game: int, trace: Any) -> None:
        if not self.chain.answered(game):
            tree = self.TREES[self.chain.view(game).job % len(self.TREES)]
            Defender(Spoilt(self.chain, tree), trace).play(game)
