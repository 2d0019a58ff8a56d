"""Games in Python, written from docs/protocol.md: the single game is bisection.game; here are ranks, places, bonds and attempts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bisection.game import (
    Claim,
    DemandRun,
    Game,
    LeafRevealed,
    Move,
    Outcome,
    PartsRevealed,
    PostTrace,
    Reveal,
    Revealed,
    RevealLeaf,
    RevealParts,
    Revelation,
    RunDemanded,
    StepOpening,
    Timeout,
    apply,
    open_blind,
    open_step,
)
from bisection.moves import TrainerMove
from contracts.bindings import step_commitment
from contracts.deploy import Parameters
from contracts.jobs import NATIVE, NOBODY
from tests.protocol.model import Commitments, Ledger, RegistryModel, require

__all__ = ["GameRecord", "GamesModel"]

Place = tuple[int, int, int, int | None]
"""(job, attempt, segment, step); None while no step is shown."""


@dataclass
class GameRecord:
    """A game among others. ``opened_at`` is protocol time."""

    job: int
    attempt: int
    segment: int
    challenger: str
    rank: int
    opened_at: int
    state: Game
    revelations: list[Revelation] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.state.outcome == Outcome.LIVE

    @property
    def place(self) -> Place:
        return (self.job, self.attempt, self.segment, self.state.step)


class GamesModel(Ledger):
    """DisputeGame."""

    def __init__(self, registry: RegistryModel, parameters: Parameters) -> None:
        super().__init__()
        self.registry, self.calendar, self.parameters = registry, registry.calendar, parameters
        self.commitments = Commitments(self.calendar)
        self.commit = self.commitments.commit
        self.games: dict[int, GameRecord] = {}
        self.traces: dict[Place, bytes] = {}
        self.rewarded = NOBODY  # by the last conviction
        self.passed_over = False  # whether it was at the cost of a lower rank at the place
        self.first: dict[Place, GameRecord] = {}  # whoever was noted as first at a place

    @property
    def clocks(self) -> tuple[int, int]:
        return self.parameters.trainer_clock, self.parameters.challenger_clock

    # Opening

    def open_step(self, account: str, job: int, segment: int, opening: StepOpening, salt: bytes, value: int = 0) -> None:
        commitment = step_commitment(account, job, segment, opening.step, salt)
        require(self.commitments.usable(commitment), "no commitment")
        claim = self._claim(job, segment, value)
        known = self.traces.get((job, claim.attempt, segment, opening.step))
        state = open_step(claim, opening, self.clocks, self.calendar.clock, known)
        rank, _, _ = self.commitments.made.pop(commitment)
        self._opened(account, state, rank)

    def open_blind(self, account: str, job: int, segment: int, history_root: bytes, value: int = 0) -> None:
        claim = self._claim(job, segment, value)
        require(history_root == claim.history_root, "another history")
        self._opened(account, open_blind(claim, self.clocks, self.calendar.clock), self.commitments.ordinal())

    def _claim(self, number: int, index: int, value: int) -> Claim:
        """What is disputed."""
        self.calendar.running()
        job = self.registry.job(number)
        require(value == self.parameters.bond, "wrong bond")
        require(job.disputable(job.attempt) and index < len(job.segments), "not in dispute")
        segment, spec = job.segments[index], job.spec
        require(self.calendar.clock <= segment.window_end, "window over")
        return Claim(
            number, job.attempt, index, segment.first, segment.steps, segment.history_root, spec.program_root, spec.node_count,
            spec.tensor_count, spec.state_count, spec.data_root, spec.data_count,
        )  # fmt: skip

    def _opened(self, account: str, state: Game, rank: int) -> None:
        claim = state.claim
        record = GameRecord(claim.job, claim.attempt, claim.segment, account, rank, self.calendar.clock, state)
        self.games[len(self.games) + 1] = record
        self._arrive(record)
        self.registry.jobs[claim.job].live_games[claim.segment] += 1

    # Moves

    def move(self, account: str, number: int, move: Move) -> None:
        """Any move of a game under way, ``timeout`` included."""
        require(number in self.games, "unknown game")
        record = self.games[number]
        require(record.live, "over")
        job = self.registry.jobs[record.job]
        require(job.disputable(record.attempt), "attempt is over")
        self.calendar.running()
        if not isinstance(move, Timeout):
            require(account == (job.trainer if isinstance(move, TrainerMove) else record.challenger), "not your game")
        *segment, _ = record.place
        known = lambda step: self.traces.get((segment[0], segment[1], segment[2], step))  # noqa: E731
        after = apply(record.state, move, self.calendar.clock, known)
        if isinstance(move, PostTrace):
            require(self.traces.get(record.place, move.root) == move.root, "another trace root is known")
            self.traces[record.place] = move.root
        record.revelations += _taught(record.state, move, after)
        arrived = after.step != record.state.step
        record.state = after
        if arrived:
            self._arrive(record)
        if after.outcome == Outcome.ACQUITTED:
            self.credit(NATIVE, job.trainer, self.parameters.bond)
            job.live_games[record.segment] -= 1
        if after.outcome == Outcome.CONVICTED:
            self.credit(NATIVE, record.challenger, self.parameters.bond)
            self.rewarded = self.beneficiary(record)
            self.registry.convict(job, self.rewarded)

    def reclaim(self, account: str, number: int) -> None:
        require(number in self.games, "unknown game")
        record = self.games[number]
        require(record.live and not self.registry.jobs[record.job].disputable(record.attempt), "attempt is not over")
        record.state = replace(record.state, outcome=Outcome.CANCELLED)
        self.credit(NATIVE, record.challenger, self.parameters.bond)

    def _there(self, place: Place) -> GameRecord | None:
        """The game that is noted as first at a place, if it goes on and still is there."""
        noted = self.first.get(place)
        return noted if noted is not None and noted.live and noted.place == place else None

    def _arrive(self, record: GameRecord) -> None:
        noted = self._there(record.place)
        if noted is None or record.rank < noted.rank:
            self.first[record.place] = record

    def beneficiary(self, convicting: GameRecord) -> str:
        """The challenger of the lowest rank among the convicting game and the live ones at its place.

        Only one game is noted at a place: once that one has been lost or has moved on, those that came after it are not known to
        have come before the convicting one.
        """
        noted = self._there(convicting.place)
        winner = noted if noted is not None and noted.rank < convicting.rank else convicting
        before = [game for game in self.games.values() if game.place[:3] == convicting.place[:3] and game.rank < winner.rank]
        there = [game for game in before if game.live and game.place == convicting.place]
        left = [game for game in before if game not in there]
        assert not there or left, "nobody of lower rank is passed over, but for a first one that has left"
        self.passed_over = bool(there)
        return winner.challenger

    def held(self, token: str) -> int:
        """What the contract must have of a token."""
        bonds = self.parameters.bond * sum(game.live for game in self.games.values()) * (token == NATIVE)
        return bonds + sum(amount for (of, _), amount in self.credits.items() if of == token)


def _taught(before: Game, move: Move, after: Game) -> list[Revelation]:
    """What a move has taught everybody."""
    d = after.descent
    if isinstance(move, Reveal) and d is not None:
        return [Revealed(d.tree, d.tensor, d.height, d.position, move.children)]
    if isinstance(move, DemandRun) and d is not None:
        return [RunDemanded(d.tensor, move.claim.root, move.claim.trace_proof)]
    if isinstance(move, RevealParts) and d is not None:
        return [PartsRevealed(d.height, d.position, move.parts)]
    if isinstance(move, RevealLeaf) and before.descent is not None:
        return [LeafRevealed(before.descent.tensor, before.descent.in_question[1], move.data)]
    return []
