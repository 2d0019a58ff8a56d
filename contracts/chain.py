"""The contracts as the agents see them: bisection.agent.Chain over a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce, singledispatchmethod
from hashlib import sha256
from typing import Any

from web3.types import BlockIdentifier

from bisection.descent import Descent, extended
from bisection.errors import IllegalMove, UnavailableError
from bisection.game import (
    Claim,
    Conclude,
    ConcludePart,
    Demand,
    DemandRun,
    DemandTensor,
    Game,
    Move,
    Outcome,
    Owed,
    Pick,
    PostTrace,
    Refute,
    Reveal,
    Revelation,
    ShowStep,
    StepOpening,
    Timeout,
    TreeKind,
)
from bisection.witness import BoundaryWitness, ElementWitness, RunWitness
from contracts.bindings import BLIND, GameView, Phase, Tree, step_commitment
from contracts.deploy import Deployment
from contracts.index import TREE_KINDS, Course, Index
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
    """What was seen of one branch of the chain, as of ``block``.

    time        the block's
    standstill  for how many seconds the protocol's clocks had stood still in all by then
    views       by game, with the number of events about it until then: only what these tell of is as of ``block``
    specs       by job
    segments    by job, attempt and number
    standings   by job and attempt: this holds for the one block
    """

    branch: int
    block: BlockIdentifier
    time: int
    standstill: int
    views: dict[int, tuple[int, GameView]] = field(default_factory=dict)
    specs: dict[int, JobSpec] = field(default_factory=dict)
    segments: dict[tuple[int, int, int], Segment] = field(default_factory=dict)
    standings: dict[tuple[int, int], Standing] = field(default_factory=dict)


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
        self._sight = Sight(index.branch, index.block, *self._times(index.block))
        if known is not None and known.branch == index.branch:
            self._sight.views, self._sight.specs, self._sight.segments = known.views, known.specs, known.segments

    @property
    def _seen(self) -> Sight:
        """What has been looked at; nothing where nobody tends."""
        return self._sight or Sight(0, "latest", 0, 0)

    def _times(self, block: BlockIdentifier) -> tuple[int, int]:
        """The time of a block, and for how long the protocol's clocks had stood still in all by then, in seconds."""
        registry = self._deployment.registry
        time = registry.web3.eth.get_block(block)["timestamp"]
        return time, time - int(registry.simulate("clock", block=block))

    def now(self) -> int:
        """See Chain: the time of the block that is seen, in which the clocks of games run."""
        return self._times("latest")[0] if self._sight is None else self._sight.time

    def claim(self, job: int, segment: int) -> Claim:
        """The claim that a posted segment of the job's present attempt is."""
        found = self._deployment.registry.job(job)
        return _claim(job, found.attempt, segment, found.trainer, found.spec, self._deployment.registry.segment(job, segment))

    def view(self, game: int) -> GameView:
        """The contract's own view of a game, as of the last event about it: ``first`` and ``trace_root`` can have changed since."""
        seen, now = self._seen, self._index.events[game]
        events, view = seen.views.get(game, (-1, None))
        if view is None or events != now:
            view = build(GameView, self._deployment.game.simulate("game", game, block=seen.block))
            seen.views[game] = now, view
        return view

    def game(self, game: int) -> Game:
        """See Chain. A game whose attempt is over counts as cancelled, and its claim is empty: the registry has forgotten it.

        Where nobody has to move any more, nothing is descended either. Raises UnavailableError when the events and the state are of
        different blocks: then it is to be asked again.
        """
        if self._sight is None:
            self._index.update()
        view = self.view(game)
        standing = self._standing(view.job, view.attempt)
        posted = self._segment(view) if standing.live else FORGOTTEN
        standstill = self._times("latest")[1] if self._sight is None else self._sight.standstill
        trainer_clock, challenger_clock = view.clocks(self._deployment.game.clocks, standstill)
        before, after = self._index.shown.get(game, (NO_ROOT, NO_ROOT))
        found = Game(
            claim=_claim(view.job, view.attempt, view.segment, standing.trainer, self._spec(view.job), posted),
            trainer_clock=trainer_clock,
            challenger_clock=challenger_clock,
            moved_at=view.moved_at,
            owed=OWED.get(view.phase, Owed.NOTHING),
            outcome=OUTCOMES.get(view.phase, Outcome.LIVE if standing.live else Outcome.CANCELLED),
            step=view.step if view.shown else None,
            before=before,
            after=after,
            trace_root=view.trace_root if view.trace_root != NO_ROOT else None,
            demanded=frozenset(kind for tree, kind in TREE_KINDS.items() if tree in view.descended),
            tensor=view.descent.tensor,
            run=(view.run_node, view.run_position) if Tree.RUN in view.descended else None,
        )
        if found.outcome != Outcome.LIVE:
            return found
        found = replace(found, descent=_descent(found, view, self._index.courses.get(game)))
        if not _of_one_block(found, view, game in self._index.shown):
            raise UnavailableError(f"the events and the state of game {game} are of different blocks; try again")
        return found

    def revelations(self, game: int) -> Sequence[Revelation]:
        """See Chain."""
        if self._sight is None:
            self._index.update()
        return self._index.revelations[game]

    def answered(self, game: int) -> bool:
        """Whether one's own move in a game is on its way. Raises TransactionFailed once when the last one failed."""
        view = self.view(game)
        return view.phase.live and self._standing(view.job, view.attempt).live and self._outbox.answered(self._place(game))

    def open(self, claim: Claim, opening: StepOpening | None) -> int | None:
        """See Chain. An opening that is refused, perhaps because no block has passed since its commitment, can be tried again."""
        games, segment = self._deployment.game, (claim.job, claim.segment)
        name, step, function, shown = "blind", BLIND, "open_blind", (claim.history_root,)
        if opening is not None:
            name, step, function, shown = f"step {opening.step}", opening.step, "open_step", plain(opening)
        receipt = self._outbox.reveal(
            f"job {claim.job} attempt {claim.attempt} segment {claim.segment} {name}",
            lambda salt: games.call("commit", step_commitment(games.account, *segment, step, salt)),
            lambda salt: games.call(function, *segment, *shown, salt, value=games.bond),
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

    def contend(self, game: int) -> bool:
        """Have a live game noted as the first at its place, where it is not but should be. Returns whether that was due.

        Another game can be noted there although it is over, has left for a step, or is of higher rank: nothing but a transaction
        moves it, and no event tells of it. Raises as ``move``.
        """
        known = self.view(game)
        alone = not any(other != game and self._index.segments[other] == known.segment for other in self._index.games[known.job])
        if alone or not known.phase.live or not self._standing(known.job, known.attempt).live:
            return False
        view = build(GameView, self._deployment.game.simulate("game", game, block=self._seen.block))
        if view.first == game:
            return False
        first = self.view(view.first)
        if first.phase.live and first.shown == view.shown and first.rank < view.rank:
            return False
        place = "step" if view.shown else "segment"
        self._deliver(self._described("contend", game), f"game {game}: first at its {place} after {view.first}")
        return True

    def _deliver(self, call: Call, place: str) -> None:
        if self._outbox.deliver(call, place) is not None and self._sight is not None:
            self._look()  # what was seen of the game is past

    def _standing(self, job: int, attempt: int) -> Standing:
        known = self._seen
        if (job, attempt) not in known.standings:
            standing = build(Standing, self._deployment.registry.simulate("standing", job, attempt, block=known.block))
            known.standings[job, attempt] = standing
        return known.standings[job, attempt]

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
        """The name of the state that a game is in. It leaves out when the game came there: a reorganisation can change that.

        It also leaves out what other games change.
        """
        view = self.view(game)
        root = NO_ROOT if view.phase == Phase.TRACE else view.trace_root  # another game on the step may have it posted first
        timeless = replace(view, trainer_spent=0, challenger_spent=0, moved_at=0, paused=0, first=0, trace_root=root)
        state = sha256(repr((timeless, self._segment(view).history_root)).encode()).hexdigest()
        return f"game {game}: answer to {state}"

    @singledispatchmethod
    def _call(self, move: Move, game: int) -> Call:
        """The transaction that makes a move."""
        raise IllegalMove(f"no such move: {type(move).__name__}")

    @_call.register
    def _(self, move: Pick, game: int) -> Call:
        return self._described("pick", game, *plain(move))

    @_call.register
    def _(self, move: ShowStep, game: int) -> Call:
        return self._described("show_step", game, *plain(move.opening), move.descend)

    @_call.register
    def _(self, move: Demand, game: int) -> Call:
        return self._on_step("demand_trace" if move.tree == TreeKind.TRACE else "demand_state", game)

    @_call.register
    def _(self, move: DemandTensor, game: int) -> Call:
        return self._on_step("demand_tensor", game, *plain(move))

    @_call.register
    def _(self, move: DemandRun, game: int) -> Call:
        return self._on_step("demand_run", game, *plain(move))

    @_call.register
    def _(self, move: Refute, game: int) -> Call:
        return self._described("refute", game, *plain(move))

    @_call.register
    def _(self, move: Conclude, game: int) -> Call:
        kinds = {BoundaryWitness: "conclude_boundary", ElementWitness: "conclude_element", RunWitness: "conclude_run"}
        return self._on_step(kinds[type(move.witness)], game, *plain(move.witness))

    @_call.register
    def _(self, move: ConcludePart, game: int) -> Call:
        return self._on_step("conclude_part", game, *plain(move))

    @_call.register
    def _(self, move: PostTrace, game: int) -> Call:
        return self._described("post_trace", game, self.view(game).step_place, *plain(move))

    @_call.register
    def _(self, move: Reveal, game: int) -> Call:
        return self._described("reveal", game, *plain(move))

    @_call.register
    def _(self, move: Timeout, game: int) -> Call:
        return self._described("timeout", game)

    def _on_step(self, name: str, game: int, *arguments: Any) -> Call:
        """A move that repeats where the claims of the step live."""
        return self._described(name, game, self.game(game).roots, *arguments)

    def _described(self, name: str, *arguments: Any) -> Call:
        return self._deployment.game.call(name, *arguments)


def _descent(game: Game, view: GameView, course: Course | None) -> Descent | None:
    """The descent of a live game, by its state and by how the events tell that it has gone."""
    d = view.descent
    if d.tree == Tree(0) or view.phase == Phase.TRACE or course is None:
        return None  # a trace that has no root yet cannot be descended
    tree = TREE_KINDS[d.tree]
    known = course.revealed[:-1] if course.answered else course.revealed
    first, above = known[-1]
    of_tensor = d.tree in (Tree.TENSOR, Tree.RUN)
    return Descent(
        tree=tree,
        count=d.count,
        height=d.height,
        position=d.position,
        picked=d.picked,
        origin=reduce(lambda trail, revealed: extended(trail, *revealed), known[:-1], game.about(tree)),
        first=first,
        above=above,
        below=course.revealed[-1][1] if course.answered else None,
        tensor=d.tensor if of_tensor else 0,
        nbytes=d.size if d.tree == Tree.TENSOR else 0,
        takes_max=d.tree == Tree.RUN and d.size == 1,
    )


def _of_one_block(game: Game, view: GameView, shown: bool) -> bool:
    """Whether a live game, of which events tell a part (so whether a step is ``shown``), is as its state says."""
    if view.shown != shown:
        return False
    d = game.descent
    if d is None:
        return view.descent.tree == Tree(0) or view.phase == Phase.TRACE
    owed = view.phase != Phase.CHALLENGER
    return (d.below is None) == owed and d.seal(game.claim.trainer) == view.descent.seal


def _claim(job: int, attempt: int, segment: int, trainer: str, spec: JobSpec, posted: Segment) -> Claim:
    return Claim(
        job=job,
        attempt=attempt,
        segment=segment,
        trainer=bytes.fromhex(trainer[2:]),
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
