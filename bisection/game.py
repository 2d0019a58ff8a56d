"""The dispute game as a pure state machine (docs/protocol.md, "A game"). DisputeGame.vy is the same machine on chain.

A ``Game`` is immutable. ``open_step`` and ``open_blind`` start one, ``apply`` makes a move, and each raises IllegalMove where
the contract reverts. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import singledispatch
from hashlib import sha256

from bisection.descent import Descent, below, holds, owed_bytes, parts_of, start
from bisection.errors import IllegalMove, VerificationError
from bisection.merkle import EMPTY, depth_of, fold, fold_range, leaf_count
from bisection.moves import (
    Conclude,
    ConcludePart,
    Demand,
    Demanded,
    DemandRun,
    DemandTensor,
    Move,
    Pick,
    PostTrace,
    Refute,
    Reveal,
    Revealed,
    Revelation,
    RunDemanded,
    ShowStep,
    StepOpening,
    Timeout,
    TrainerMove,
    TreeKind,
)
from bisection.witness import PartWitness, StepRoots, Verdict, judge, judge_part, locate, locate_run

__all__ = [
    "Claim",
    "Conclude",
    "ConcludePart",
    "Demand",
    "DemandRun",
    "DemandTensor",
    "Demanded",
    "Descent",
    "Game",
    "Move",
    "Outcome",
    "Owed",
    "Pick",
    "PostTrace",
    "Refute",
    "Reveal",
    "Revealed",
    "Revelation",
    "RunDemanded",
    "ShowStep",
    "StepOpening",
    "Timeout",
    "TreeKind",
    "apply",
    "open_blind",
    "open_step",
]

NO_STEP = 2**256 - 1  # what stands for the step while none is shown


class Owed(IntEnum):
    """What the trainer owes; with NOTHING it is the challenger's turn."""

    NOTHING = 0
    CHILDREN = 1
    TRACE = 2
    LEAF = 3
    PARTS = 4


class Outcome(IntEnum):
    """How a game stands."""

    LIVE = 0
    CONVICTED = 1
    ACQUITTED = 2
    CANCELLED = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """A posted segment, with what its job fixes: the trainer's one claim."""

    job: int
    attempt: int
    segment: int
    trainer: bytes  # its address, 20 bytes
    start: int
    length: int
    history_root: bytes
    program_root: bytes
    node_count: int
    tensor_count: int
    state_count: int
    data_root: bytes
    data_count: int


@dataclass(frozen=True, slots=True)
class Game:
    """One claim against one challenger. ``step`` is None until shown; ``trace_root`` until posted.

    ``tensor`` is the number of the tensor demanded last, or of the one with the run. ``run`` is the element whose run was demanded:
    the number of its node and its position.
    """

    claim: Claim
    trainer_clock: int
    challenger_clock: int
    moved_at: int
    owed: Owed
    outcome: Outcome = Outcome.LIVE
    step: int | None = None
    before: bytes = bytes(32)
    after: bytes = bytes(32)
    trace_root: bytes | None = None
    descent: Descent | None = None
    demanded: frozenset[TreeKind] = frozenset()
    tensor: int = 0
    run: tuple[int, int] | None = None
    verdict: Verdict | None = None

    @property
    def roots(self) -> StepRoots:
        """What is committed about the disputed step. Needs the step and the trace root."""
        if self.step is None or self.trace_root is None:
            raise IllegalMove("game: no trace yet")
        c = self.claim
        return StepRoots(
            c.program_root,
            c.node_count,
            self.trace_root,
            c.tensor_count,
            self.before,
            self.after,
            c.state_count,
            c.data_root,
            c.data_count,
        )

    def about(self, tree: TreeKind) -> bytes:
        """What the trail of a descent into ``tree`` begins with: SHA-256 of what it is about, in words of 32 bytes."""
        c, step = self.claim, NO_STEP if self.step is None else self.step
        words = (c.job, c.attempt, c.segment, step, 1 << tree, self.tensor, *(self.run or (0, 0)))
        return sha256(b"".join(word.to_bytes(32, "big") for word in words)).digest()


# Rules ------------------------------------------------------------------------------------------------------------------


def _expect(condition: bool, reason: str) -> None:
    if not condition:
        raise IllegalMove(f"game: {reason}")


def _with_step(game: Game, opening: StepOpening, known_trace: bytes | None) -> Game:
    claim = game.claim
    _expect(0 <= opening.step < claim.length, "no such step")
    try:
        root = fold_range((opening.before, opening.after), opening.step, depth_of(claim.length + 1), opening.proof)
    except VerificationError:
        root = None
    _expect(root == claim.history_root, "bad history proof")
    owed = Owed.TRACE if known_trace is None else Owed.NOTHING
    return replace(
        game, step=opening.step, before=opening.before, after=opening.after, trace_root=known_trace, owed=owed, descent=None
    )


def _shown(game: Game, move: ShowStep, known_trace: bytes | None) -> Game:
    """The game with its step shown. With ``descend`` the trace is demanded at the same time, even while its root is owed."""
    _expect(game.step is None, "step already shown")
    shown = _with_step(game, move.opening, known_trace)
    if not move.descend:
        return shown
    _expect(game.claim.tensor_count > 1, "nothing to reveal")
    if shown.owed == Owed.TRACE:
        return replace(shown, demanded=shown.demanded | {TreeKind.TRACE})
    return _demand(shown, _trace_descent(shown))


def open_step(claim: Claim, opening: StepOpening, clocks: tuple[int, int], now: int, known_trace: bytes | None = None) -> Game:
    """A game about a shown step.

    ``clocks`` are the budgets of trainer and challenger; ``known_trace`` is the step's trace root, if it was posted before.
    """
    return _with_step(Game(claim, clocks[0], clocks[1], now, Owed.NOTHING), opening, known_trace)


def open_blind(claim: Claim, clocks: tuple[int, int], now: int) -> Game:
    """A game that starts with a descent into the history."""
    game = Game(claim, clocks[0], clocks[1], now, Owed.NOTHING)
    return _demand(game, start(TreeKind.HISTORY, claim.length + 1, claim.history_root, game.about(TreeKind.HISTORY)))


def apply(game: Game, move: Move, now: int, known_trace: Callable[[int], bytes | None] = lambda step: None) -> Game:
    """The game after ``move`` at time ``now``. Raises IllegalMove where the contract reverts.

    ``known_trace`` gives the trace root of a step that another game has had posted.
    """
    _expect(game.outcome == Outcome.LIVE, "over")
    spent = now - game.moved_at
    trainers_turn = game.owed != Owed.NOTHING
    left = (game.trainer_clock if trainers_turn else game.challenger_clock) - spent
    if isinstance(move, Timeout):
        _expect(left < 0, "clock still running")
        return replace(game, outcome=Outcome.CONVICTED if trainers_turn else Outcome.ACQUITTED)
    _expect(isinstance(move, TrainerMove) == trainers_turn, "not your turn")
    _expect(left >= 0, "clock used up")
    clocks = (left, game.challenger_clock) if trainers_turn else (game.trainer_clock, left)
    timed = replace(game, moved_at=now, trainer_clock=clocks[0], challenger_clock=clocks[1])
    if isinstance(move, ShowStep):
        return _shown(timed, move, known_trace(move.opening.step))
    return _play(move, timed)


@singledispatch
def _play(move: Move, game: Game) -> Game:
    raise IllegalMove(f"game: no such move: {type(move).__name__}")


@_play.register
def _(move: Pick, game: Game) -> Game:
    _expect(game.descent is not None, "no descent under way")
    assert game.descent is not None
    picked = below(game.descent, move.seal, move.child, game.claim.trainer)
    return replace(game, owed=_owed(picked), descent=picked)


def _owed(d: Descent) -> Owed:
    """What the trainer owes in a descent that waits for it."""
    if d.tree == TreeKind.RUN:
        return Owed.PARTS
    return Owed.CHILDREN if d.height else Owed.LEAF


def _demand(game: Game, descent: Descent) -> Game:
    _expect(descent.tree not in game.demanded, "already demanded")
    return replace(game, owed=_owed(descent), descent=descent, demanded=game.demanded | {descent.tree})


def _trace_descent(game: Game) -> Descent:
    assert game.trace_root is not None
    return start(TreeKind.TRACE, game.claim.tensor_count, game.trace_root, game.about(TreeKind.TRACE))


@_play.register
def _(move: Demand, game: Game) -> Game:
    _expect(game.trace_root is not None, "no trace yet")
    _expect(move.tree in (TreeKind.TRACE, TreeKind.STATE), "nothing to reveal")
    if move.tree == TreeKind.TRACE:
        return _demand(game, _trace_descent(game))
    return _demand(game, start(TreeKind.STATE, game.claim.state_count, game.after, game.about(TreeKind.STATE)))


@_play.register
def _(move: DemandTensor, game: Game) -> Game:
    tensor, nbytes = locate(game.roots, move.node, move.output)
    count = game.claim.tensor_count
    _expect(
        len(move.trace_proof) == depth_of(count) and fold(move.tensor_root, tensor, move.trace_proof) == game.trace_root,
        "bad trace proof",
    )
    noted = replace(game, tensor=tensor)
    about = noted.about(TreeKind.TENSOR)
    return _demand(noted, start(TreeKind.TENSOR, leaf_count(nbytes), move.tensor_root, about, tensor=tensor, nbytes=nbytes))


@_play.register
def _(move: DemandRun, game: Game) -> Game:
    place = locate_run(game.roots, move.node, move.position, move.claim)
    _expect(place.parts > 1, "run not too long")
    noted = replace(game, tensor=place.tensor, run=(move.node.index, move.position))
    root = place.claimed.to_bytes(32, "big", signed=True)
    about = noted.about(TreeKind.RUN)
    return _demand(noted, start(TreeKind.RUN, place.parts, root, about, tensor=place.tensor, takes_max=place.takes_max))


@_play.register
def _(move: Refute, game: Game) -> Game:
    d = game.descent
    _expect(d is not None and d.below is not None, "nothing revealed")
    assert d is not None
    told = (move.trail, move.picked, move.above, move.below)
    _expect(told == (d.origin, d.first, d.above, d.below), "something else revealed")
    _expect(not holds(d), "nothing to refute")
    return replace(game, outcome=Outcome.CONVICTED)


def _decided(game: Game, verdict: Verdict) -> Game:
    return replace(game, verdict=verdict, outcome=Outcome.CONVICTED if verdict.fraud else Outcome.ACQUITTED)


@_play.register
def _(move: Conclude, game: Game) -> Game:
    return _decided(game, judge(game.roots, move.witness))


@_play.register
def _(move: ConcludePart, game: Game) -> Game:
    d = game.descent
    _expect(d is not None and d.tree == TreeKind.RUN and d.levels == d.height and game.run is not None, "no parts revealed")
    assert d is not None and game.run is not None
    _expect((move.trail, move.parts) == (d.trail, d.below), "something else revealed")
    index, position = game.run
    _expect(move.node.index == index, "another node")
    parts = parts_of(move.parts)
    _expect(0 <= move.child < len(parts), "no such part")
    part = (d.position << d.levels) + move.child
    correct = judge_part(game.roots, PartWitness(move.node, position, part, move.inputs))
    return _decided(game, Verdict(index, 0, position, parts[move.child], correct))


@_play.register
def _(move: PostTrace, game: Game) -> Game:
    _expect(game.owed == Owed.TRACE, "no trace owed")
    _expect(move.root != EMPTY, "empty trace root")
    posted = replace(game, trace_root=move.root, owed=Owed.NOTHING)
    if TreeKind.TRACE in game.demanded:
        return _answered(replace(posted, descent=_trace_descent(posted)), move.payload)
    _expect(not move.payload, "nothing demanded")
    return posted


@_play.register
def _(move: Reveal, game: Game) -> Game:
    d = game.descent
    _expect(game.owed != Owed.TRACE and d is not None, "not owed")
    assert d is not None
    _expect((move.trail, move.picked) == (d.trail, d.picked), "not what the trainer owes")
    return _answered(game, move.payload)


def _answered(game: Game, payload: bytes) -> Game:
    """The game with a payload revealed, of which only the length is checked."""
    assert game.descent is not None
    _expect(len(payload) == owed_bytes(game.descent), "wrong length")
    return replace(game, owed=Owed.NOTHING, descent=replace(game.descent, below=payload))
