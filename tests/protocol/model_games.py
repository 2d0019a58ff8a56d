"""Games in Python, written from docs/protocol.md: the single game is bisection.game; here are ranks, places, bonds and attempts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bisection.game import (
    Claim,
    Conclude,
    ConcludePart,
    Demand,
    Demanded,
    DemandRun,
    DemandTensor,
    Descent,
    Game,
    Move,
    Outcome,
    Owed,
    PostTrace,
    Refute,
    Reveal,
    Revealed,
    Revelation,
    RunDemanded,
    ShowStep,
    StepOpening,
    Timeout,
    apply,
    open_blind,
    open_step,
)
from contracts.bindings import BLIND, step_commitment
from contracts.deploy import Parameters
from contracts.jobs import NATIVE, NOBODY
from tests.protocol.model import Commitments, Job, Ledger, RegistryModel, require

__all__ = ["ENDS", "GameRecord", "GamesModel"]

Place = tuple[int, int, int, int | None]
"""(job, attempt, segment, step); None while no step is shown."""


ENDS = Refute | Conclude | ConcludePart | Timeout  # moves that settle something
DEMANDS = Demand | DemandTensor | DemandRun | ShowStep | PostTrace  # moves with which a descent may begin


@dataclass
class GameRecord:
    """A game among others.

    ``opened_at`` is the time of the chain, ``paused`` how long protocol time had stood still by then. The clocks of ``state`` are
    the budgets less what has been spent; what was paused since the opening comes on top of them.
    """

    job: int
    attempt: int
    segment: int
    challenger: str
    rank: int
    opened_at: int
    paused: int
    state: Game
    revelations: list[Revelation] = field(default_factory=list)
    answered: list[Descent] = field(default_factory=list)  # as they stood after each answer

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
        self.rewarded: str = NOBODY  # by the last conviction
        self.passed_over = False  # whether it was at the cost of a lower rank at the place
        self.first: dict[Place, GameRecord] = {}  # whoever was noted as first at a place

    @property
    def clocks(self) -> tuple[int, int]:
        return self.parameters.trainer_clock, self.parameters.challenger_clock

    # Time

    def added(self, record: GameRecord) -> int:
        """How many seconds the pauses since the opening have added to both clocks."""
        return self.calendar.time - self.calendar.clock - record.paused

    def timed(self, record: GameRecord) -> Game:
        """The game with the time that is on its clocks, pauses included, as of its last move."""
        added, state = self.added(record), record.state
        return replace(state, trainer_clock=state.trainer_clock + added, challenger_clock=state.challenger_clock + added)

    def left(self, number: int) -> int:
        """How many seconds whoever is to move in a game still has; negative where its clock is used up."""
        state = self.timed(self.games[number])
        clock = state.challenger_clock if state.owed == Owed.NOTHING else state.trainer_clock
        return clock - (self.calendar.time - state.moved_at)

    # Opening

    def open_step(self, account: str, job: int, segment: int, opening: StepOpening, salt: bytes, value: int = 0) -> None:
        commitment = step_commitment(account, job, segment, opening.step, salt)
        require(self.commitments.usable(commitment), "no commitment")
        claim = self._claim(job, segment, value)
        known = self.traces.get((job, claim.attempt, segment, opening.step))
        state = open_step(claim, opening, self.clocks, self.calendar.time, known)
        self._opened(account, state, commitment)

    def open_blind(self, account: str, job: int, segment: int, history_root: bytes, salt: bytes, value: int = 0) -> None:
        commitment = step_commitment(account, job, segment, BLIND, salt)
        require(self.commitments.usable(commitment), "no commitment")
        claim = self._claim(job, segment, value)
        require(history_root == claim.history_root, "another history")
        self._opened(account, open_blind(claim, self.clocks, self.calendar.time), commitment)

    def _claim(self, number: int, index: int, value: int) -> Claim:
        """What is disputed."""
        self.calendar.running()
        job = self.registry.job(number)
        require(value == self.parameters.bond, "wrong bond")
        require(job.disputable(job.attempt) and index < len(job.segments), "not in dispute")
        segment, spec = job.segments[index], job.spec
        require(self.calendar.clock <= segment.window_end, "window over")
        return Claim(
            number, job.attempt, index, packed(job.trainer), segment.first, segment.steps, segment.history_root, spec.program_root,
            spec.node_count, spec.tensor_count, spec.state_count, spec.data_root, spec.data_count,
        )  # fmt: skip

    def _opened(self, account: str, state: Game, commitment: bytes) -> None:
        claim, now = state.claim, self.calendar.time
        rank, _, _ = self.commitments.made.pop(commitment)
        record = GameRecord(claim.job, claim.attempt, claim.segment, account, rank, now, now - self.calendar.clock, state)
        record.revelations += _taught(None, state)
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
        if isinstance(move, ENDS):
            require(job.disputable(record.attempt), "attempt is over")
            self.calendar.running()
        state = self._of_present(record, job, move)
        if not isinstance(move, Timeout):
            trainers = isinstance(move, Reveal | PostTrace)
            require(packed(account) == (state.claim.trainer if trainers else packed(record.challenger)), "not your game")
        *segment, _ = record.place
        known = lambda step: self.traces.get((segment[0], segment[1], segment[2], step))  # noqa: E731
        after = apply(state, move, self.calendar.time, known)
        if isinstance(move, PostTrace):
            require(self.traces.get(record.place, move.root) == move.root, "another trace root is known")
            self.traces[record.place] = move.root
        record.revelations += _taught(move, after)
        if isinstance(move, Reveal | PostTrace) and after.descent is not None:
            record.answered.append(after.descent)
        added = self.added(record)
        after = replace(after, trainer_clock=after.trainer_clock - added, challenger_clock=after.challenger_clock - added)
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

    def _of_present(self, record: GameRecord, job: Job, move: Move) -> Game:
        """The game as ``move`` finds it, with the time on its clocks.

        A game whose attempt is over settles nothing any more, and the job may have another trainer and other segments by now: who
        begins a descent begins it with that trainer, and a step is one of those segments.
        """
        state = self.timed(record)
        if isinstance(move, ShowStep):
            require(record.segment < len(job.segments), "no such segment")
            posted = job.segments[record.segment]
            state = replace(state, claim=replace(state.claim, length=posted.steps, history_root=posted.history_root))
        if isinstance(move, DEMANDS):
            state = replace(state, claim=replace(state.claim, trainer=packed(job.trainer)))
        return state

    def contend(self, account: str, number: int) -> None:
        """Anyone may call: the game is noted as the first at its place, unless a live one of lower rank is."""
        require(number in self.games and self.games[number].live, "no live game")
        self._arrive(self.games[number])

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

    def due(self, record: GameRecord) -> bool:
        """Whether a game should be noted as the first at its place, but is not."""
        noted = self._there(record.place)
        return noted is None or record.rank < noted.rank

    def _arrive(self, record: GameRecord) -> None:
        if self.due(record):
            self.first[record.place] = record

    def beneficiary(self, convicting: GameRecord) -> str:
        """The challenger of the lowest rank among the convicting game and the live ones at its place.

        Only one game is noted at a place: once that one has been lost or has moved on, those that came after it are known to have
        come before the convicting one only when one of them has contended.
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


def packed(address: str) -> bytes:
    """An address as 20 bytes."""
    return bytes.fromhex(address[2:])


def _taught(move: Move | None, after: Game) -> list[Revelation]:
    """What a move, or an opening where it is None, has taught everybody."""
    d, found = after.descent, list[Revelation]()
    if d is None:
        return found
    opened = move is None or (isinstance(move, ShowStep) and move.descend)
    if opened or isinstance(move, Demand | DemandTensor | DemandRun) or (isinstance(move, PostTrace) and d.below is not None):
        found.append(Demanded(d.tree, d.tensor, d.above))
    if isinstance(move, DemandRun):
        found.append(RunDemanded(d.tensor, move.claim.root, move.claim.trace_proof))
    if isinstance(move, Reveal | PostTrace) and d.below is not None:
        found.append(Revealed(d.tree, d.tensor, d.height, d.position, d.below))
    return found
