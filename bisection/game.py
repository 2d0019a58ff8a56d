"""The dispute game as a pure state machine (docs/protocol.md, "A game"). DisputeGame.vy is the same machine on chain.

A ``Game`` is immutable. ``open_step`` and ``open_blind`` start one, ``apply`` makes a move, and each raises IllegalMove where
the contract reverts. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import singledispatch
from hashlib import sha256

from bisection.cut import combined
from bisection.errors import IllegalMove
from bisection.merkle import EMPTY, LEAF_BYTES, Tree, depth_of, fold, leaf_count, leaf_digest
from bisection.moves import (
    Conclude,
    ConcludePart,
    Demand,
    DemandRun,
    DemandTensor,
    LeafRevealed,
    Move,
    PartsRevealed,
    Pick,
    PostTrace,
    Reveal,
    Revealed,
    RevealLeaf,
    RevealParts,
    Revelation,
    RunDemanded,
    ShowStep,
    StepOpening,
    Timeout,
    TrainerMove,
    TreeKind,
)
from bisection.numbers import wrap
from bisection.witness import PartWitness, StepRoots, Verdict, judge, judge_part, locate, locate_run

__all__ = [
    "ARITY_BITS",
    "Claim",
    "Conclude",
    "ConcludePart",
    "Demand",
    "DemandRun",
    "DemandTensor",
    "Descent",
    "Game",
    "LeafRevealed",
    "Move",
    "Outcome",
    "Owed",
    "PartsRevealed",
    "Pick",
    "PostTrace",
    "Reveal",
    "RevealLeaf",
    "RevealParts",
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
    "parts_digest",
]

ARITY_BITS = 5  # how many levels a reveal goes down: 2^ARITY_BITS descendants


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
class Descent:
    """Where the descent into a tree of ``count`` leaves stands.

    ``node`` is the digest at ``height`` and ``position``. After a reveal the challenger may pick one of its descendants;
    ``picked`` is that one's index until the trainer answers. In TENSOR, ``tensor`` is its number in the trace, ``nbytes`` its size.

    In RUN the leaves are the parts of one element's run, and ``tensor`` holds the element. ``node`` is the claimed element (as a
    signed 256-bit integer) until partial results are revealed, then the digest of all those revealed last (``parts_digest``), which
    are the descendants of the node at ``height`` and ``position``. ``takes_max`` says that they combine to a maximum, not a sum.
    """

    tree: TreeKind
    count: int
    node: bytes
    height: int
    position: int = 0
    picked: int | None = None
    tensor: int = 0
    nbytes: int = 0
    takes_max: bool = False

    @property
    def levels(self) -> int:
        """How many levels the next reveal below ``node`` goes down."""
        return min(ARITY_BITS, self.height)

    @property
    def in_question(self) -> tuple[int, int]:
        """(height, position) of the node that a pick is about: the picked descendant, or the node itself."""
        if self.picked is None:
            return self.height, self.position
        return self.height - self.levels, self.position << self.levels | self.picked


@dataclass(frozen=True, slots=True)
class Game:
    """One claim against one challenger. ``step`` is None until shown; ``trace_root`` until posted.

    ``run`` is the element whose run was demanded: the number of its node and its position.
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


# Rules ------------------------------------------------------------------------------------------------------------------


def _expect(condition: bool, reason: str) -> None:
    if not condition:
        raise IllegalMove(f"game: {reason}")


def _with_step(game: Game, opening: StepOpening, known_trace: bytes | None) -> Game:
    claim = game.claim
    depth = depth_of(claim.length + 1)
    _expect(0 <= opening.step < claim.length, "no such step")
    for leaf, index, proof in (
        (opening.before, opening.step, opening.before_proof),
        (opening.after, opening.step + 1, opening.after_proof),
    ):
        _expect(len(proof) == depth and fold(leaf, index, proof) == claim.history_root, "bad history proof")
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
    descent = Descent(TreeKind.HISTORY, claim.length + 1, claim.history_root, depth_of(claim.length + 1))
    return Game(claim, clocks[0], clocks[1], now, Owed.CHILDREN, descent=descent, demanded=frozenset({TreeKind.HISTORY}))


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
    d = game.descent
    _expect(d is not None and d.picked is None, "nothing to pick")
    assert d is not None
    _expect(move.node == d.node, "the game has moved on")
    _expect(0 <= move.child < 1 << d.levels, "no such child")
    at_leaves = d.levels == d.height
    _expect(not at_leaves or d.tree == TreeKind.TENSOR, "already at the leaves")
    picked = replace(d, picked=move.child)
    height, position = picked.in_question
    _expect(position << height < d.count, "no such child")
    return replace(game, owed=_owed(picked), descent=picked)


def _owed(d: Descent) -> Owed:
    """What the trainer owes in a descent that waits for it."""
    if d.tree == TreeKind.RUN:
        return Owed.PARTS
    return Owed.CHILDREN if d.in_question[0] else Owed.LEAF


def _demand(game: Game, descent: Descent) -> Game:
    _expect(game.trace_root is not None, "no trace yet")
    _expect(descent.tree not in game.demanded, "already demanded")
    return replace(game, owed=_owed(descent), descent=descent, demanded=game.demanded | {descent.tree})


def _trace_descent(game: Game) -> Descent:
    assert game.trace_root is not None
    count = game.claim.tensor_count
    return Descent(TreeKind.TRACE, count, game.trace_root, depth_of(count))


@_play.register
def _(move: Demand, game: Game) -> Game:
    _expect(game.trace_root is not None, "no trace yet")
    _expect(move.tree in (TreeKind.TRACE, TreeKind.STATE), "nothing to reveal")
    count = game.claim.state_count
    state = Descent(TreeKind.STATE, count, game.after, depth_of(count))
    descent = _trace_descent(game) if move.tree == TreeKind.TRACE else state
    _expect(descent.height > 0, "nothing to reveal")
    return _demand(game, descent)


@_play.register
def _(move: DemandTensor, game: Game) -> Game:
    tensor, nbytes = locate(game.roots, move.node, move.output)
    count = game.claim.tensor_count
    _expect(
        len(move.trace_proof) == depth_of(count) and fold(move.tensor_root, tensor, move.trace_proof) == game.trace_root,
        "bad trace proof",
    )
    leaves = leaf_count(nbytes)
    return _demand(game, Descent(TreeKind.TENSOR, leaves, move.tensor_root, depth_of(leaves), tensor=tensor, nbytes=nbytes))


@_play.register
def _(move: DemandRun, game: Game) -> Game:
    place = locate_run(game.roots, move.node, move.position, move.claim)
    _expect(place.parts > 1, "run short enough to conclude")
    node = place.claimed.to_bytes(32, "big", signed=True)
    height = depth_of(place.parts)
    descent = Descent(TreeKind.RUN, place.parts, node, height, tensor=place.tensor, takes_max=place.takes_max)
    return _demand(replace(game, run=(move.node.index, move.position)), descent)


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
    _expect(parts_digest(move.parts) == d.node, "not the parts in question")
    index, position = game.run
    _expect(move.node.index == index, "another node")
    _expect(0 <= move.child < len(move.parts), "no such part")
    part = d.position << d.levels | move.child
    correct = judge_part(game.roots, PartWitness(move.node, position, part, move.inputs))
    return _decided(game, Verdict(index, 0, position, move.parts[move.child], correct))


@_play.register
def _(move: PostTrace, game: Game) -> Game:
    _expect(game.owed == Owed.TRACE, "no trace owed")
    _expect(move.root != EMPTY, "empty trace root")
    posted = replace(game, trace_root=move.root, owed=Owed.NOTHING)
    if TreeKind.TRACE not in game.demanded:
        return posted
    return replace(posted, owed=Owed.CHILDREN, descent=_trace_descent(posted))


def _entered(d: Descent, digest: bytes, siblings: tuple[bytes, ...]) -> Descent:
    """The descent after stepping into the picked child, whose digest the siblings must tie to the stored node."""
    if d.picked is None:
        _expect(digest == d.node and not siblings, "not the digests asked for")
        return d
    _expect(len(siblings) == d.levels and fold(digest, d.picked, siblings) == d.node, "not the digests asked for")
    height, position = d.in_question
    return replace(d, node=digest, height=height, position=position, picked=None)


@_play.register
def _(move: Reveal, game: Game) -> Game:
    _expect(game.owed == Owed.CHILDREN and game.descent is not None, "no digests owed")
    d = game.descent
    assert d is not None
    height, position = d.in_question
    _expect(len(move.children) == 1 << min(ARITY_BITS, height), "wrong number of digests")
    low = height - min(ARITY_BITS, height)
    beyond = [c for i, c in enumerate(move.children) if ((position << (height - low)) + i) << low >= d.count]
    _expect(not any(c != EMPTY for c in beyond), "a digest beyond the last leaf")
    return replace(game, owed=Owed.NOTHING, descent=_entered(d, Tree(move.children).root, move.siblings))


@_play.register
def _(move: RevealLeaf, game: Game) -> Game:
    _expect(game.owed == Owed.LEAF and game.descent is not None, "no leaf owed")
    d = game.descent
    assert d is not None
    entered = _entered(d, leaf_digest(move.data), move.siblings)
    start = entered.position * LEAF_BYTES
    _expect(len(move.data) == min(LEAF_BYTES, d.nbytes - start), "wrong leaf length")
    # The leaf's digest need not stay: its path is known, and the verdict proves it again.
    return replace(game, owed=Owed.NOTHING, descent=None)


@_play.register
def _(move: RevealParts, game: Game) -> Game:
    _expect(game.owed == Owed.PARTS and game.descent is not None, "no parts owed")
    d = game.descent
    assert d is not None
    height, position = d.in_question
    drop = min(ARITY_BITS, height)
    below = -(-d.count >> (height - drop)) - (position << drop)  # descendants from the first one on that lie within the run
    _expect(len(move.parts) == min(1 << drop, below), "wrong number of parts")
    node = parts_digest(move.parts)
    _expect(combined(move.parts, d.takes_max) == _value_in_question(d, move.before), "parts of another result")
    entered = replace(d, node=node, height=height, position=position, picked=None)
    return replace(game, owed=Owed.NOTHING, descent=entered)


def _value_in_question(d: Descent, before: Sequence[int]) -> int:
    """The partial result that is to be taken apart: the element itself, or the picked one of those revealed before."""
    if d.picked is None:
        _expect(not before, "not the parts in question")
        return int.from_bytes(d.node, "big", signed=True)
    _expect(parts_digest(before) == d.node, "not the parts in question")
    return before[d.picked]


def parts_digest(parts: Sequence[int]) -> bytes:
    """What is stored of partial results: SHA-256 of the ABI's encoding of their list (offset, length, elements; 32 bytes each)."""
    _expect(all(part == wrap(part, 64) for part in parts), "a part of more than 64 bits")
    return sha256(b"".join(word.to_bytes(32, "big", signed=True) for word in (32, len(parts), *parts))).digest()
