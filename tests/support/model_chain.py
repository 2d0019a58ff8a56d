"""A chain that is nothing but the game's state machine: for playing whole disputes without an EVM."""

from __future__ import annotations

from collections.abc import Sequence

from bisection.game import (
    Claim,
    Demanded,
    DemandRun,
    Game,
    Move,
    PostTrace,
    Reveal,
    Revealed,
    Revelation,
    RunDemanded,
    StepOpening,
    apply,
    open_blind,
    open_step,
)
from bisection.program import Program
from bisection.trace import Trace
from bisection.witness import StepRoots

TRAINER = bytes(range(20))


def claim_of(program: Program, trace: Trace, length: int) -> Claim:
    """The claim that a trainer with this trace posts, as segment 0 of the first attempt at job 0."""
    return Claim(
        0, 0, 0, TRAINER, 0, length, trace.history().root, program.root, len(program.nodes), len(program.tensors),
        len(program.state), trace.data().root, len(program.data),
    )  # fmt: skip


def roots_of(trace: Trace, step: int) -> StepRoots:
    """All that is committed about a step of an execution."""
    program = trace.program
    return StepRoots(
        program.root, len(program.nodes), trace.tensors(step).root, len(program.tensors), trace.state(step).root,
        trace.state(step + 1).root, len(program.state), trace.data().root, len(program.data),
    )  # fmt: skip


def opening_of(trace: Trace, step: int) -> StepOpening:
    """A step as the trainer with this trace has posted it."""
    history = trace.history()
    return StepOpening(step, history.node(0, step), history.node(0, step + 1), tuple(history.prove_range(step, 2)))


class ModelChain:
    """Implements bisection.agent.Chain over bisection.game. ``moves`` counts transactions."""

    CLOCKS = (1000, 1000)

    def __init__(self) -> None:
        self.games: list[Game] = []
        self.shown: list[list[Revelation]] = []
        self.time = 0
        self.moves = 0

    def now(self) -> int:
        return self.time

    def game(self, game: int) -> Game:
        return self.games[game]

    def revelations(self, game: int) -> Sequence[Revelation]:
        return self.shown[game]

    def open(self, claim: Claim, opening: StepOpening | None) -> int:
        self.moves += 1
        opened = open_blind(claim, self.CLOCKS, self.time) if opening is None else open_step(claim, opening, self.CLOCKS, self.time)
        self.games.append(opened)
        self.shown.append([])
        return len(self.games) - 1

    def move(self, game: int, move: Move) -> None:
        self.moves += 1
        before = self.games[game]
        after = self.games[game] = apply(before, move, self.time)
        d, shown = after.descent, self.shown[game]
        if after.demanded != before.demanded and d is not None:
            shown.append(Demanded(d.tree, d.tensor, d.above))
        if isinstance(move, DemandRun):
            assert d is not None
            shown.append(RunDemanded(d.tensor, move.claim.root, move.claim.trace_proof))
        if isinstance(move, Reveal | PostTrace) and d is not None and d.below is not None:
            shown.append(Revealed(d.tree, d.tensor, d.height, d.position, d.below))


class HonestService:
    """A data service that serves a trace as it is."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def history(self) -> Sequence[bytes]:
        return self._trace.history().levels[0]

    def trace(self, step: int) -> Sequence[bytes]:
        return self._trace.tensors(step).levels[0]

    def state(self, step: int) -> Sequence[bytes]:
        return self._trace.state(step).levels[0]

    def tensor(self, step: int, number: int) -> bytes:
        return self._trace.tensor(step, number)


__all__ = ["TRAINER", "HonestService", "ModelChain", "claim_of", "opening_of", "roots_of"]
