"""Where somebody sits: an account, what it sees of the chain, and what it has handed in. The agents play from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from bisection.game import Claim, Game, Move, Revelation, StepOpening
from contracts.bindings import BLIND, step_commitment
from contracts.sender import Call
from contracts.values import plain
from sims.chain.world import Receipt, Transaction, World

__all__ = ["GWEI", "Seat"]

GWEI = 10**9
TRIES = 6  # of one act that is refused, before it is given up
COMMITTED = 600 - 60  # seconds for which a commitment is counted on


@dataclass
class Act:
    """Something to be done once: how often it was handed in, and the last transaction."""

    tries: int = 0
    last: Transaction | None = None

    @property
    def pending(self) -> bool:
        """Whether it is on its way."""
        return self.last is not None and self.last.receipt is None

    @property
    def done(self) -> Receipt | None:
        """Its receipt, if it is mined and was not refused."""
        receipt = None if self.last is None else self.last.receipt
        return receipt if receipt is not None and receipt.ok else None


@dataclass
class Seat:
    """An account's place at the table: bisection.agent.Chain over the mempool. ``fee`` is what it bids, in wei per gas."""

    world: World
    name: str
    fee: int = GWEI
    _acts: dict[str, Act] = field(default_factory=dict)
    _out: list[Transaction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.address = self.world.account(self.name)

    # What an agent needs

    def now(self) -> int:
        """See Chain."""
        return self.world.now

    def game(self, game: int) -> Game:
        """See Chain."""
        return self.world.eyes.game(game)

    def revelations(self, game: int) -> Sequence[Revelation]:
        """See Chain."""
        return self.world.eyes.revelations(game)

    def move(self, game: int, move: Move) -> None:
        """See Chain: hand the move in, unless the answer to this state is on its way."""
        self.hand_in(self.world.eyes.transaction(game, move), self.world.eyes.place(game))

    def open(self, claim: Claim, opening: StepOpening | None) -> int | None:
        """See Chain: commit, open in a later block, and then see the game."""
        if (own := self.own(claim)) is not None:
            return own
        step = BLIND if opening is None else opening.step
        name = f"job {claim.job} attempt {claim.attempt} segment {claim.segment} step {step}"
        self.reveal(name, lambda salt: self._commitment(claim, step, salt), lambda salt: self._opening(claim, opening, salt))
        return None

    def _commitment(self, claim: Claim, step: int, salt: bytes) -> Call:
        games = self.world.deployment.game
        return games.call("commit", step_commitment(self.address, claim.job, claim.segment, step, salt))

    def _opening(self, claim: Claim, opening: StepOpening | None, salt: bytes) -> Call:
        games = self.world.deployment.game
        shown = (claim.history_root,) if opening is None else plain(opening)
        function = "open_blind" if opening is None else "open_step"
        return games.call(function, claim.job, claim.segment, *shown, salt, value=games.bond)

    # What the rest needs

    def reveal(self, name: str, commit: Callable[[bytes], Call], shown: Callable[[bytes], Call]) -> None:
        """Commit to a salt, and show it in a later block; with another one where that was refused or came too late."""
        for round in range(TRIES):
            made, told = self.acted(f"{name}: commitment {round}"), self.acted(f"{name}: shown {round}")
            if made.pending or told.pending:
                return
            if told.tries or (made.tries and (made.done is None or self.now() > made.done.time + COMMITTED)):
                continue
            salt = sha256(f"{self.name} {name} {round}".encode()).digest()
            if made.done is None:
                self.hand_in(commit(salt), f"{name}: commitment {round}")
            else:
                self.hand_in(shown(salt), f"{name}: shown {round}")
            return

    def own(self, claim: Claim) -> int | None:
        """The number of one's own live game about a claim."""
        world = self.world
        for game in world.index.games[claim.job]:
            view = world.eyes.view(game)
            if (view.challenger, view.attempt, view.segment) == (self.address, claim.attempt, claim.segment) and view.phase.live:
                return game
        return None

    def answered(self, game: int) -> bool:
        """Whether one's own move in a game is on its way, or has been refused too often."""
        act = self._acts.get(self.world.eyes.place(game), Act())
        return act.pending or act.tries >= TRIES

    def acted(self, place: str) -> Act:
        """What has become of what was handed in under a name."""
        return self._acts.get(place, Act())

    def hand_in(self, call: Call, place: str) -> None:
        """Have ``call`` mined, once at a time for each ``place``."""
        act = self._acts.setdefault(place, Act())
        if not act.pending and act.tries < TRIES:
            act.tries += 1
            act.last = Transaction(self.name, call, self.fee)
            self._out.append(act.last)

    def take(self) -> list[Transaction]:
        """What was handed in since the last time, for the mempool."""
        taken, self._out = self._out, []
        return taken
