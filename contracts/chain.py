"""The contracts as the agents see them: bisection.agent.Chain over a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatchmethod
from hashlib import sha256
from typing import Any

from web3.types import BlockIdentifier

from bisection.errors import IllegalMove
from bisection.game import (
    Claim,
    Conclude,
    ConcludePart,
    Demand,
    DemandRun,
    DemandTensor,
    Descent,
    Game,
    Move,
    Outcome,
    Owed,
    Pick,
    PostTrace,
    Reveal,
    RevealLeaf,
    RevealParts,
    Revelation,
    ShowStep,
    StepOpening,
    Timeout,
    TreeKind,
)
from bisection.witness import BoundaryWitness, ElementWitness, RunWitness
from contracts.bindings import NO_PICK, DescentView, GameView, Phase, Tree, step_commitment
from contracts.deploy import Deployment
from contracts.index import TREE_KINDS, Index
from contracts.jobs import JobSpec, Segment, Standing
from contracts.outbox import Outbox
from contracts.sender import Call
from contracts.values import build, plain

__all__ = ["GameChain"]

OWED = {
    Phase.CHALLENGER: Owed.NOTHING,
    Phase.TRACE: Owed.TRACE,
    Phase.CHILDREN: Owed.CHILDREN,
    Phase.LEAF: Owed.LEAF,
    Phase.PARTS: Owed.PARTS,
}
OUTCOMES = {Phase.CONVICTED: Outcome.CONVICTED, Phase.ACQUITTED: Outcome.ACQUITTED, Phase.CANCELLED: Outcome.CANCELLED}
NO_ROOT = bytes(32)
FORGOTTEN = Segment(0, 0, NO_ROOT, NO_ROOT, 0, 0, False)


@dataclass
class Sight:
    """What was seen of one branch of the chain, as of ``block`` and the ``time`` then.

    views     by game, with the number of events about it until then
    specs     by job
    segments  by job, attempt and number
    live      by job and attempt, whether it can be disputed: this holds for the one block
    """

    branch: int
    block: BlockIdentifier
    time: int
    views: dict[int, tuple[int, GameView]] = field(default_factory=dict)
    specs: dict[int, JobSpec] = field(default_factory=dict)
    segments: dict[tuple[int, int, int], Segment] = field(default_factory=dict)
    live: dict[tuple[int, int], bool] = field(default_factory=dict)


class GameChain:
    """A deployment, and the index that follows it, as bisection.agent.Chain.

    Every transaction goes out under the place that it answers: a game's state, without its times, or an opening. Where the sender
    keeps a journal, moves are on their way when ``move`` returns, and no restart or reorganisation has a state answered twice.
    Otherwise moves are waited for.

    A node calls ``tend`` each time that it looks at its games: all of them are then seen as of the same block, and only those are
    fetched that something happened to. Who never calls it sees each game as it is.
    """

    def __init__(self, deployment: Deployment, index: Index) -> None:
        self._deployment, self._index = deployment, index
        self._outbox = Outbox(deployment.game)
        self._sight: Sight | None = None

    def tend(self) -> None:
        """See to one's own transactions, and look at the chain. Raises as ``Index.update``."""
        self._outbox.tend()
        self._look()

    def _look(self) -> None:
        self._index.update()
        index, known = self._index, self._sight
        self._sight = Sight(index.branch, index.block, self._deployment.registry.simulate("clock", block=index.block))
        if known is not None and known.branch == index.branch:
            self._sight.views, self._sight.specs, self._sight.segments = known.views, known.specs, known.segments

    @property
    def _seen(self) -> Sight:
        """What has been looked at; nothing where nobody tends."""
        return self._sight or Sight(0, "latest", 0)

    def now(self) -> int:
        """See Chain: protocol time, in which the clocks of games run."""
        return self._deployment.registry.clock() if self._sight is None else self._sight.time

    def claim(self, job: int, segment: int) -> Claim:
        """The claim that a posted segment of the job's present attempt is."""
        found = self._deployment.registry.job(job)
        return _claim(job, found.attempt, segment, found.spec, self._deployment.registry.segment(job, segment))

    def view(self, game: int) -> GameView:
        """The contract's own view of a game."""
        seen, now = self._seen, self._index.events[game]
        events, view = seen.views.get(game, (-1, None))
        if view is None or events != now:
            view = build(GameView, self._deployment.game.simulate("game", game, block=seen.block))
            seen.views[game] = now, view
        return view

    def game(self, game: int) -> Game:
        """See Chain. A game whose attempt is over counts as cancelled, and its claim is empty: the registry has forgotten it."""
        view = self.view(game)
        live = self._live(view.job, view.attempt)
        posted = self._segment(view) if live else FORGOTTEN
        return Game(
            claim=_claim(view.job, view.attempt, view.segment, self._spec(view.job), posted),
            trainer_clock=view.trainer_clock,
            challenger_clock=view.challenger_clock,
            moved_at=view.moved_at,
            owed=OWED.get(view.phase, Owed.NOTHING),
            outcome=OUTCOMES.get(view.phase, Outcome.LIVE if live else Outcome.CANCELLED),
            step=view.step if view.shown else None,
            before=view.before,
            after=view.after,
            trace_root=view.trace_root if view.trace_root != NO_ROOT else None,
            descent=_descent(view),
            demanded=frozenset(kind for tree, kind in TREE_KINDS.items() if tree in view.descended),
            run=(view.run_node, view.run_position) if Tree.RUN in view.descended else None,
        )

    def revelations(self, game: int) -> Sequence[Revelation]:
        """See Chain."""
        if self._sight is None:
            self._index.update()
        return self._index.revelations[game]

    def answered(self, game: int) -> bool:
        """Whether one's own move in a game is on its way. Raises TransactionFailed once when the last one failed."""
        view = self.view(game)
        return view.phase.live and self._live(view.job, view.attempt) and self._outbox.answered(self._place(game))

    def open(self, claim: Claim, opening: StepOpening | None) -> int | None:
        """See Chain. An opening that is refused, perhaps because no block has passed since its commitment, can be tried again."""
        games, segment = self._deployment.game, (claim.job, claim.segment)
        name = f"job {claim.job} attempt {claim.attempt} segment {claim.segment}"
        if opening is None:
            receipt = self._outbox.deliver(
                games.call("open_blind", *segment, claim.history_root, value=games.bond), f"{name}: blind opening"
            )
        else:
            receipt = self._outbox.reveal(
                f"{name} step {opening.step}",
                lambda salt: games.call("commit", step_commitment(games.account, *segment, opening.step, salt)),
                lambda salt: games.call("open_step", *segment, *plain(opening), salt, value=games.bond),
            )
        if receipt is None:
            return None
        if self._sight is not None:
            self._look()  # what was seen knows no such game
        return games.number(receipt, "GameOpened")

    def move(self, game: int, move: Move) -> None:
        """See Chain. Raises TransactionFailed with the contract's reason where the move is refused."""
        self._deliver(self._call(move, game), self._place(game))

    def reclaim(self, game: int) -> None:
        """Take the bond back from a game whose attempt is over. Raises as ``move``."""
        self._deliver(self._described("reclaim", game), f"game {game}: reclaimed")

    def _deliver(self, call: Call, place: str) -> None:
        if self._outbox.deliver(call, place) is not None and self._sight is not None:
            self._look()  # what was seen of the game is past

    def _live(self, job: int, attempt: int) -> bool:
        known = self._seen
        if (job, attempt) not in known.live:
            standing = build(Standing, self._deployment.registry.simulate("standing", job, attempt, block=known.block))
            known.live[job, attempt] = standing.live
        return known.live[job, attempt]

    def _spec(self, job: int) -> JobSpec:
        known = self._seen
        if job not in known.specs:
            known.specs[job] = build(JobSpec, self._deployment.registry.simulate("spec", job, block=known.block))
        return known.specs[job]

    def _segment(self, view: GameView) -> Segment:
        """The disputed segment, of an attempt that lives."""
        known, number = self._seen, (view.job, view.attempt, view.segment)
        if number not in known.segments:
            posted = self._deployment.registry.simulate("segment", view.job, view.segment, block=known.block)
            known.segments[number] = build(Segment, posted)
        return known.segments[number]

    def _place(self, game: int) -> str:
        """The name of the state that a game is in. It leaves out when the game came there: a reorganisation can change that."""
        view = self.view(game)
        root = NO_ROOT if view.phase == Phase.TRACE else view.trace_root  # another game on the step may have it posted first
        timeless = replace(view, trainer_clock=0, challenger_clock=0, moved_at=0, trace_root=root)
        state = sha256(repr((timeless, self._segment(view).history_root)).encode()).hexdigest()
        return f"game {game}: answer to {state}"

    @singledispatchmethod
    def _call(self, move: Move, game: int) -> Call:
        """The transaction that makes a move."""
        raise IllegalMove(f"no such move: {type(move).__name__}")

    @_call.register
    def _(self, move: Pick, game: int) -> Call:
        return self._described("pick", game, move.node, move.child)

    @_call.register
    def _(self, move: ShowStep, game: int) -> Call:
        return self._described("show_step", game, *plain(move.opening), move.descend)

    @_call.register
    def _(self, move: Demand, game: int) -> Call:
        return self._described("demand_trace" if move.tree == TreeKind.TRACE else "demand_state", game)

    @_call.register
    def _(self, move: DemandTensor, game: int) -> Call:
        return self._described("demand_tensor", game, *plain(move))

    @_call.register
    def _(self, move: DemandRun, game: int) -> Call:
        return self._described("demand_run", game, *plain(move))

    @_call.register
    def _(self, move: Conclude, game: int) -> Call:
        kinds = {BoundaryWitness: "conclude_boundary", ElementWitness: "conclude_element", RunWitness: "conclude_run"}
        return self._described(kinds[type(move.witness)], game, *plain(move.witness))

    @_call.register
    def _(self, move: ConcludePart, game: int) -> Call:
        return self._described("conclude_part", game, *plain(move))

    @_call.register
    def _(self, move: PostTrace, game: int) -> Call:
        return self._described("post_trace", game, self.view(game).step_place, move.root)

    @_call.register
    def _(self, move: Reveal, game: int) -> Call:
        return self._described("reveal", game, *plain(move))

    @_call.register
    def _(self, move: RevealLeaf, game: int) -> Call:
        return self._described("reveal_leaf", game, *plain(move))

    @_call.register
    def _(self, move: RevealParts, game: int) -> Call:
        return self._described("reveal_parts", game, self.view(game).parts_place, *plain(move))

    @_call.register
    def _(self, move: Timeout, game: int) -> Call:
        return self._described("timeout", game)

    def _described(self, name: str, *arguments: Any) -> Call:
        return self._deployment.game.call(name, *arguments)


def _descent(view: GameView) -> Descent | None:
    d: DescentView = view.descent
    if d.tree == Tree(0) or view.phase == Phase.TRACE:
        return None  # a trace that has no root yet cannot be descended
    picked = None if d.picked == NO_PICK or d.height == 0 else d.picked
    of_tensor = d.tree in (Tree.TENSOR, Tree.RUN)
    return Descent(
        tree=TREE_KINDS[d.tree],
        count=d.count,
        node=d.node,
        height=d.height,
        position=d.position,
        picked=picked,
        tensor=d.tensor if of_tensor else 0,
        nbytes=d.size if d.tree == Tree.TENSOR else 0,
        takes_max=d.tree == Tree.RUN and d.size == 1,
    )


def _claim(job: int, attempt: int, segment: int, spec: JobSpec, posted: Segment) -> Claim:
    return Claim(
        job=job,
        attempt=attempt,
        segment=segment,
        start=posted.first_step,
        length=posted.steps,
        history_root=posted.history_root,
        program_root=spec.program_root,
        node_count=spec.node_count,
        tensor_count=spec.tensor_count,
        state_count=spec.state_count,
        data_root=spec.data_root,
        data_count=spec.data_count,
    )
