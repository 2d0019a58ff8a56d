"""The contracts as the agents see them: bisection.agent.Chain over a deployment."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import singledispatchmethod

from bisection.errors import IllegalMove, TransactionFailed
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
from bisection.witness import BoundaryWitness, ElementWitness
from contracts.bindings import NO_PICK, DescentView, GameView, Phase, Tree, step_commitment
from contracts.deploy import Deployment
from contracts.index import TREE_KINDS, Index
from contracts.jobs import JobSpec, Segment

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
SPENT = ("commitments: none", "commitments: expired")  # reasons that call for another commitment


class GameChain:
    """A deployment, and the index that follows it, as bisection.agent.Chain."""

    def __init__(self, deployment: Deployment, index: Index) -> None:
        self._deployment, self._index = deployment, index
        self._salts: dict[tuple[int, int, int], bytes] = {}  # by job, segment, step: of openings that were committed to

    def now(self) -> int:
        """See Chain: protocol time, in which the clocks of games run."""
        return self._deployment.registry.clock()

    def claim(self, job: int, segment: int) -> Claim:
        """The claim that a posted segment of the job's present attempt is."""
        found = self._deployment.registry.job(job)
        return _claim(job, found.attempt, segment, found.spec, self._deployment.registry.segment(job, segment))

    def game(self, game: int) -> Game:
        """See Chain. A game whose attempt is over counts as cancelled, and its claim is empty: the registry has forgotten it."""
        view = self._deployment.game.game(game)
        job = self._deployment.registry.job(view.job)
        live = job.status.disputable and job.attempt == view.attempt
        posted = self._deployment.registry.segment(view.job, view.segment) if live else FORGOTTEN
        return Game(
            claim=_claim(view.job, view.attempt, view.segment, job.spec, posted),
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
        self._index.update()
        return self._index.revelations[game]

    def open(self, claim: Claim, opening: StepOpening | None) -> int:
        """See Chain. An opening that is refused, perhaps because no block has passed since its commitment, can be tried again."""
        games = self._deployment.game
        if opening is None:
            return games.open_blind(claim.job, claim.segment)
        place = (claim.job, claim.segment, opening.step)
        if place not in self._salts:
            salt = secrets.token_bytes(32)
            games.commit(step_commitment(games.account, *place, salt))
            self._salts[place] = salt
        try:
            game = games.open_step(claim.job, claim.segment, opening, self._salts[place])
        except TransactionFailed as error:
            if any(reason in str(error) for reason in SPENT):
                del self._salts[place]
            raise
        del self._salts[place]
        return game

    def move(self, game: int, move: Move) -> None:
        """See Chain. Raises TransactionFailed with the contract's reason where the move is refused."""
        self._send(move, game)

    @singledispatchmethod
    def _send(self, move: Move, game: int) -> None:
        raise IllegalMove(f"no such move: {type(move).__name__}")

    @_send.register
    def _(self, move: Pick, game: int) -> None:
        self._deployment.game.pick(game, move.node, move.child)

    @_send.register
    def _(self, move: ShowStep, game: int) -> None:
        self._deployment.game.show_step(game, move)

    @_send.register
    def _(self, move: Demand, game: int) -> None:
        games = self._deployment.game
        (games.demand_trace if move.tree == TreeKind.TRACE else games.demand_state)(game)

    @_send.register
    def _(self, move: DemandTensor, game: int) -> None:
        self._deployment.game.demand_tensor(game, move.node, move.output, move.tensor_root, move.trace_proof)

    @_send.register
    def _(self, move: DemandRun, game: int) -> None:
        self._deployment.game.demand_run(game, move)

    @_send.register
    def _(self, move: Conclude, game: int) -> None:
        games = self._deployment.game
        if isinstance(move.witness, BoundaryWitness):
            games.conclude_boundary(game, move.witness)
        elif isinstance(move.witness, ElementWitness):
            games.conclude_element(game, move.witness)
        else:
            games.conclude_run(game, move.witness)

    @_send.register
    def _(self, move: ConcludePart, game: int) -> None:
        self._deployment.game.conclude_part(game, move)

    @_send.register
    def _(self, move: PostTrace, game: int) -> None:
        self._deployment.game.post_trace(game, move.root)

    @_send.register
    def _(self, move: Reveal, game: int) -> None:
        self._deployment.game.reveal(game, move.children, move.siblings)

    @_send.register
    def _(self, move: RevealLeaf, game: int) -> None:
        self._deployment.game.reveal_leaf(game, move.data, move.siblings)

    @_send.register
    def _(self, move: RevealParts, game: int) -> None:
        self._deployment.game.reveal_parts(game, move)

    @_send.register
    def _(self, move: Timeout, game: int) -> None:
        self._deployment.game.timeout(game)


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
