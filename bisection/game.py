"""The dispute game as a pure state machine (docs/protocol.md, "A game"). DisputeGame.vy is the same machine on chain.

A ``Game`` is immutable. ``open_step`` and ``open_blind`` start one, ``apply`` makes a move, and each raises IllegalMove where
the contract reverts. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import singledispatch

from bisection.errors import IllegalMove
from bisection.merkle import EMPTY, LEAF_BYTES, Tree, depth_of, fold, leaf_count, leaf_digest
from bisection.witness import NodeProof, StepRoots, Verdict, Witness, judge, locate

__all__ = [
    "ARITY_BITS",
    "Claim",
    "Conclude",
    "Demand",
    "DemandTensor",
    "Descent",
    "Game",
    "LeafRevealed",
    "Move",
    "Outcome",
    "Owed",
    "Pick",
    "PostTrace",
    "Reveal",
    "RevealLeaf",
    "Revealed",
    "Revelation",
    "ShowStep",
    "StepOpening",
    "Timeout",
    "TreeKind",
    "apply",
    "open_blind",
    "open_step",
]

ARITY_BITS = 4  # a reveal goes four levels down: 16 descendants


class TreeKind(IntEnum):
    """The trees that a challenger can have revealed."""

    HISTORY = 0
    TRACE = 1
    STATE = 2
    TENSOR = 3


class Owed(IntEnum):
    """What the trainer owes; with NOTHING it is the challenger's turn."""

    NOTHING = 0
    CHILDREN = 1
    TRACE = 2
    LEAF = 3


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
    """

    tree: TreeKind
    count: int
    node: bytes
    height: int
    position: int = 0
    picked: int | None = None
    tensor: int = 0
    nbytes: int = 0

    @property
    def levels(self) -> int:
        """How many levels the next reveal below ``node`` goes down."""
        return min(ARITY_BITS, self.height)


@dataclass(frozen=True, slots=True)
class StepOpening:
    """A step of the segment with the proofs of the history leaves before and after it."""

    step: int
    before: bytes
    before_proof: tuple[bytes, ...]
    after: bytes
    after_proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Game:
    """One claim against one challenger. ``step`` is None until shown; ``trace_root`` until posted."""

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


# Moves ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pick:
    """Challenger: descend into descendant ``child`` of ``node``."""

    node: bytes
    child: int


@dataclass(frozen=True, slots=True)
class ShowStep:
    """Challenger: this is the step."""

    opening: StepOpening


@dataclass(frozen=True, slots=True)
class Demand:
    """Challenger: reveal the trace's or the state's tree."""

    tree: TreeKind


@dataclass(frozen=True, slots=True)
class DemandTensor:
    """Challenger: reveal the tree of output ``output`` of a node."""

    node: NodeProof
    output: int
    tensor_root: bytes
    trace_proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Conclude:
    """Challenger: let the referee judge."""

    witness: Witness


@dataclass(frozen=True, slots=True)
class Reveal:
    """Trainer: the descendants of the node in question, and the path that ties a picked node to the stored one."""

    children: tuple[bytes, ...]
    siblings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PostTrace:
    """Trainer: the root of the step's trace."""

    root: bytes


@dataclass(frozen=True, slots=True)
class RevealLeaf:
    """Trainer: the bytes of the picked leaf."""

    data: bytes
    siblings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Timeout:
    """Anyone: the mover's clock is used up."""


ChallengerMove = Pick | ShowStep | Demand | DemandTensor | Conclude
TrainerMove = Reveal | PostTrace | RevealLeaf
Move = ChallengerMove | TrainerMove | Timeout


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a reveal taught everybody: the descendants of the node at ``height`` and ``position`` of a tree."""

    tree: TreeKind
    tensor: int
    height: int
    position: int
    children: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LeafRevealed:
    """What a revealed leaf taught everybody: the bytes of leaf ``leaf`` of a tensor."""

    tensor: int
    leaf: int
    data: bytes


Revelation = Revealed | LeafRevealed


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
        _expect(game.step is None, "step already shown")
        return _with_step(timed, move.opening, known_trace(move.opening.step))
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
    _expect((d.position << d.levels | move.child) << (d.height - d.levels) < d.count, "no such child")
    return replace(game, owed=Owed.LEAF if at_leaves else Owed.CHILDREN, descent=replace(d, picked=move.child))


def _demand(game: Game, descent: Descent) -> Game:
    _expect(game.trace_root is not None, "no trace yet")
    _expect(descent.tree not in game.demanded, "already demanded")
    owed = Owed.CHILDREN if descent.height else Owed.LEAF
    return replace(game, owed=owed, descent=descent, demanded=game.demanded | {descent.tree})


@_play.register
def _(move: Demand, game: Game) -> Game:
    _expect(game.trace_root is not None, "no trace yet")
    assert game.trace_root is not None
    claim = game.claim
    root, count = (game.trace_root, claim.tensor_count) if move.tree == TreeKind.TRACE else (game.after, claim.state_count)
    _expect(move.tree in (TreeKind.TRACE, TreeKind.STATE) and count > 1, "nothing to reveal")
    return _demand(game, Descent(move.tree, count, root, depth_of(count)))


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
def _(move: Conclude, game: Game) -> Game:
    verdict = judge(game.roots, move.witness)
    return replace(game, verdict=verdict, outcome=Outcome.CONVICTED if verdict.fraud else Outcome.ACQUITTED)


@_play.register
def _(move: PostTrace, game: Game) -> Game:
    _expect(game.owed == Owed.TRACE, "no trace owed")
    _expect(move.root != EMPTY, "empty trace root")
    return replace(game, trace_root=move.root, owed=Owed.NOTHING)


def _entered(d: Descent, digest: bytes, siblings: tuple[bytes, ...]) -> Descent:
    """The descent after stepping into the picked child, whose digest the siblings must tie to the stored node."""
    if d.picked is None:
        _expect(digest == d.node and not siblings, "not the digests asked for")
        return d
    _expect(len(siblings) == d.levels and fold(digest, d.picked, siblings) == d.node, "not the digests asked for")
    return replace(d, node=digest, height=d.height - d.levels, position=d.position << d.levels | d.picked, picked=None)


@_play.register
def _(move: Reveal, game: Game) -> Game:
    _expect(game.owed == Owed.CHILDREN and game.descent is not None, "no digests owed")
    d = game.descent
    assert d is not None
    height = d.height if d.picked is None else d.height - d.levels
    position = d.position if d.picked is None else d.position << d.levels | d.picked
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
