"""The agents: they turn the solver's decisions into moves, over whatever chain and data service they are given.

An agent keeps no secrets and no irreplaceable state: a new one, given the same chain, goes on where the old one stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bisection.errors import VerificationError
from bisection.game import Claim, Game, Move, Outcome, Revelation, StepOpening, TreeKind
from bisection.merkle import Content, Tree
from bisection.solver import Ask, Decision, Knowledge, Open, challenge, defend, open_game
from bisection.trace import Trace

__all__ = ["Answers", "Chain", "Challenger", "Defender", "Nothing", "Served"]


class Chain(Protocol):
    """What an agent needs of a chain."""

    def now(self) -> int:
        """The time of the latest block, in seconds."""

    def game(self, game: int) -> Game:
        """The state of a game."""

    def revelations(self, game: int) -> Sequence[Revelation]:
        """Everything revealed in a game so far, in order."""

    def open(self, claim: Claim, opening: StepOpening | None) -> int | None:
        """Open a game, at a step or blind; returns its number, or None while that is under way: then it is to be asked again."""

    def move(self, game: int, move: Move) -> None:
        """Make a move."""


class Served(Protocol):
    """What a trainer's data service says; None where it does not answer. Nothing of it is believed before it is verified."""

    def history(self) -> Sequence[bytes] | None:
        """The history's leaves."""

    def trace(self, step: int) -> Sequence[bytes] | None:
        """The roots of all tensors of a step's trace."""

    def state(self, step: int) -> Sequence[bytes] | None:
        """The roots of the state's tensors before a step."""

    def tensor(self, step: int, number: int) -> bytes | None:
        """The bytes of one tensor of a step's trace."""


class Answers(Protocol):
    """What a challenger is told: as by ``Served``, or trees and blobs for leaves and bytes, hashed on this side."""

    def history(self) -> Sequence[bytes] | Tree | None:
        """See Served."""

    def trace(self, step: int) -> Sequence[bytes] | Tree | None:
        """See Served."""

    def state(self, step: int) -> Sequence[bytes] | Tree | None:
        """See Served."""

    def tensor(self, step: int, number: int) -> Content | None:
        """See Served."""


class Nothing:
    """A data service that never answers."""

    def history(self) -> None:
        """No answer."""

    def trace(self, step: int) -> None:
        """No answer."""

    def state(self, step: int) -> None:
        """No answer."""

    def tensor(self, step: int, number: int) -> None:
        """No answer."""


Listener = Callable[[Decision], None]


class Challenger:
    """Plays the challenger's side about one claim. ``listener`` hears every decision, asks included."""

    def __init__(self, chain: Chain, own: Trace, claim: Claim, served: Answers, listener: Listener = lambda decision: None) -> None:
        self.knowledge = Knowledge(claim, own.program)
        self._chain, self._own, self._served, self._listener = chain, own, served, listener
        self._heard: list[Revelation] = []
        self._opening: Open | None = None

    def disputes(self) -> bool:
        """Whether there is something to dispute: then ``open`` opens a game."""
        while self._opening is None:
            decision = open_game(self.knowledge, self._own)
            self._listener(decision)
            if isinstance(decision.action, Ask):
                self._ask(decision.action, None)
            elif isinstance(decision.action, Open):
                self._opening = decision.action
            else:
                return False
        return True

    def open(self) -> int | None:
        """Open a game if there is something to dispute; returns its number once it is known."""
        if not self.disputes():
            return None
        assert self._opening is not None
        return self._chain.open(self.knowledge.claim, self._opening.opening)

    def play(self, game_id: int) -> bool:
        """Make the next move if there is one to make now. Returns whether the game goes on."""
        game = self._chain.game(game_id)
        if game.outcome != Outcome.LIVE:
            return False
        self._listen(game, list(self._chain.revelations(game_id)))
        while True:
            decision = challenge(game, self._own, self.knowledge, self._chain.now())
            self._listener(decision)
            if isinstance(decision.action, Ask):
                self._ask(decision.action, game.step)
                continue
            if decision.action is not None:
                assert not isinstance(decision.action, Open)
                self._chain.move(game_id, decision.action)
            return True

    def _listen(self, game: Game, told: list[Revelation]) -> None:
        """Learn what was revealed since the last time.

        After a reorganisation the game can have other roots, and other things revealed: then all is learnt anew.
        """
        if told[: len(self._heard)] != self._heard or not _of_one_branch(self.knowledge, game):
            self.knowledge, self._heard = Knowledge(self.knowledge.claim, self._own.program), []
        self.knowledge.enter(game)
        for revelation in told[len(self._heard) :]:
            self.knowledge.learn(revelation)
        self._heard = told

    def _ask(self, ask: Ask, step: int | None) -> None:
        """Learn from the data service what it will tell; a lie counts as silence."""
        try:
            self.knowledge.asked[ask] = self._learnt(ask, step)
        except VerificationError as error:
            self.knowledge.asked[ask] = False
            self._listener(Decision(None, f"the data service does not tell the truth about {ask.tree.name}: {error}"))

    def _learnt(self, ask: Ask, step: int | None) -> bool:
        """Whether the data service has answered. Raises VerificationError when its answer is a lie."""
        if ask.tree == TreeKind.TENSOR:
            assert step is not None and ask.tensor is not None
            data = self._served.tensor(step, ask.tensor)
            if data is not None:
                self.knowledge.learn_tensor(ask.tensor, data)
            return data is not None
        leaves = self._leaves(ask.tree, step)
        if leaves is not None:
            known = self.knowledge.tree(ask.tree)
            known.learn_tree(leaves) if isinstance(leaves, Tree) else known.learn_leaves(leaves)
        return leaves is not None

    def _leaves(self, tree: TreeKind, step: int | None) -> Sequence[bytes] | Tree | None:
        """What the data service says that the leaves of ``tree`` are."""
        if tree == TreeKind.HISTORY:
            return self._served.history()
        assert step is not None
        return self._served.trace(step) if tree == TreeKind.TRACE else self._served.state(step + 1)


def _of_one_branch(knowledge: Knowledge, game: Game) -> bool:
    """Whether the roots that were noted of a game are those that it has."""
    if knowledge.trace is not None and knowledge.trace.root != game.trace_root:
        return False
    return knowledge.state is None or (game.step is not None and knowledge.state.root == game.after)


class Defender:
    """Plays the trainer's side of any of its games."""

    def __init__(self, chain: Chain, own: Trace, listener: Listener = lambda decision: None) -> None:
        self._chain, self._own, self._listener = chain, own, listener

    def play(self, game_id: int) -> bool:
        """Make the next move if there is one to make now. Returns whether the game goes on."""
        game = self._chain.game(game_id)
        if game.outcome != Outcome.LIVE:
            return False
        decision = defend(game, self._own, self._chain.now())
        self._listener(decision)
        if decision.action is not None:
            assert not isinstance(decision.action, Ask | Open)
            self._chain.move(game_id, decision.action)
        return True
