"""The contracts as the agents see them: bisection.agent.Chain over a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatchmethod

from bisection.errors import IllegalMove
from bisection.game import (
    Claim,
    Conclude,
    Demand,
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
    Revelation,
    ShowStep,
    StepOpening,
    Timeout,
    TreeKind,
)
from bisection.witness import BoundaryWitness, ElementWitness
from contracts.bindings import NO_PICK, DescentView, GameView, Phase, Tree
from contracts.client import now
from contracts.deploy import Deployment
from contracts.index import TREE_KINDS, Index

__all__ = ["GameChain"]

OWED = {
    Phase.CHALLENGER: Owed.NOTHING,
    Phase.TRACE: Owed.TRACE,
    Phase.CHILDREN: Owed.CHILDREN,
    Phase.LEAF: Owed.LEAF,
}
OUTCOMES = {Phase.CONVICTED: Outcome.CONVICTED, Phase.ACQUITTED: Outcome.ACQUITTED, Phase.CANCELLED: Outcome.CANCELLED}
NO_ROOT = bytes(32)


class GameChain:
    """A deployment, and the index that follows it, as bisection.agent.Chain."""

    def __init__(self, deployment: Deployment, index: Index) -> None:
        self._deployment, self._index = deployment, index

    def now(self) -> int:
        """See Chain."""
        return now(self._deployment.game.web3)

    def claim(self, job: int, segment: int) -> Claim:
        """The claim that a posted segment is."""
        spec = self._deployment.registry.job(job).spec
        posted = self._deployment.registry.segment(job, segment)
        return Claim(
            job=job,
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

    def game(self, game: int) -> Game:
        """See Chain."""
        view = self._deployment.game.game(game)
        return Game(
            claim=self.claim(view.job, view.segment),
            trainer_clock=view.trainer_clock,
            challenger_clock=view.challenger_clock,
            moved_at=view.moved_at,
            owed=OWED.get(view.phase, Owed.NOTHING),
            outcome=OUTCOMES.get(view.phase, Outcome.LIVE),
            step=view.step if view.shown else None,
            before=view.before,
            after=view.after,
            trace_root=view.trace_root if view.trace_root != NO_ROOT else None,
            descent=_descent(view),
            demanded=frozenset(kind for tree, kind in TREE_KINDS.items() if tree in view.descended),
        )

    def revelations(self, game: int) -> Sequence[Revelation]:
        """See Chain."""
        self._index.update()
        return self._index.revelations[game]

    def open(self, claim: Claim, opening: StepOpening | None) -> int:
        """See Chain."""
        games = self._deployment.game
        if opening is None:
            return games.open_blind(claim.job, claim.segment)
        return games.open_step(claim.job, claim.segment, opening)

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
        self._deployment.game.show_step(game, move.opening)

    @_send.register
    def _(self, move: Demand, game: int) -> None:
        games = self._deployment.game
        (games.demand_trace if move.tree == TreeKind.TRACE else games.demand_state)(game)

    @_send.register
    def _(self, move: DemandTensor, game: int) -> None:
        self._deployment.game.demand_tensor(game, move.node, move.output, move.tensor_root, move.trace_proof)

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
    def _(self, move: PostTrace, game: int) -> None:
        self._deployment.game.post_trace(game, move.root)

    @_send.register
    def _(self, move: Reveal, game: int) -> None:
        self._deployment.game.reveal(game, move.children, move.siblings)

    @_send.register
    def _(self, move: RevealLeaf, game: int) -> None:
        self._deployment.game.reveal_leaf(game, move.data, move.siblings)

    @_send.register
    def _(self, move: Timeout, game: int) -> None:
        self._deployment.game.timeout(game)


def _descent(view: GameView) -> Descent | None:
    d: DescentView = view.descent
    if d.tree == Tree(0):
        return None
    picked = None if d.picked == NO_PICK or d.height == 0 else d.picked
    return Descent(TREE_KINDS[d.tree], d.count, d.node, d.height, d.position, picked, d.tensor, d.size)
