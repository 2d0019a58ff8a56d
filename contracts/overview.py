"""What stands on the chain at one block: a deployment with its jobs, games and money, as plain data.

Nothing here asks a node: observer.py takes such a picture, overview_text.py writes it for people, ``as_json`` for programs.
All seconds are protocol time where nothing else is said; all amounts are in a token's smallest units (wei).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Flag, IntEnum
from typing import Any, ClassVar

from contracts.bindings import Phase, Tree
from contracts.deploy import AddressBook
from contracts.jobs import NOBODY, Job, JobStatus, Model
from contracts.words import Coin

__all__ = [
    "BASIS",
    "Account",
    "Descending",
    "GameState",
    "Holding",
    "JobState",
    "OpenDemand",
    "Overview",
    "PostedSegment",
    "as_json",
]

BASIS = 10_000


@dataclass(frozen=True)
class Descending:
    """Where a descent stands.

    ``height`` is that of the node in question above the leaves. In a tensor, ``size`` is that of tensor ``tensor`` in bytes; in a
    run, ``run`` is the number of its node and the position of the element.
    """

    tree: Tree
    height: int
    position: int
    count: int
    tensor: int
    size: int
    run: tuple[int, int] | None


@dataclass(frozen=True)
class GameState:
    """A game.

    rank, first      the least rank is rewarded at one place; the number of the game that counts as the first there
    step             within the segment; None while none is shown
    trainers_left    what the trainer's clock holds at the moment of the picture; negative: it is used up
    challengers_left the same of the challenger
    on               whether the attempt that the game is about goes on; if not, only the bond is to be given back
    """

    number: int
    job: int
    attempt: int
    segment: int
    challenger: str
    rank: int
    first: int
    phase: Phase
    step: int | None
    trace_root: bytes | None
    trainers_left: int
    challengers_left: int
    on: bool
    descent: Descending | None
    TOLD: ClassVar = ("live", "trainers_turn")

    @property
    def live(self) -> bool:
        """Whether somebody has to move."""
        return self.phase.live and self.on

    @property
    def trainers_turn(self) -> bool:
        """Whether it is the trainer who owes something; else the challenger, if the game is live."""
        return self.phase != Phase.CHALLENGER

    @property
    def left(self) -> int:
        """What the clock of the side whose turn it is holds."""
        return self.trainers_left if self.trainers_turn else self.challengers_left

    @property
    def bonded(self) -> bool:
        """Whether the game contract still holds the bond."""
        return self.phase.live


@dataclass(frozen=True)
class PostedSegment:
    """A posted segment. ``milestone`` is what its finality pays or has paid; ``games`` are the live ones about it."""

    number: int
    first_step: int
    steps: int
    history_root: bytes
    end_state: bytes
    window_end: int
    games: tuple[int, ...]
    final: bool
    milestone: int


@dataclass(frozen=True)
class OpenDemand:
    """A demand for a leaf of the final state that nobody has answered or ended."""

    number: int
    account: str
    component: int
    answer_by: int


@dataclass(frozen=True)
class JobState:
    """A job with all that is posted, disputed and demanded of it.

    uri        where the requester said that the material is: a stranger's text
    service    where the trainer said that its data service is: a stranger's text
    games      those that are not over; all of them where the job alone was asked for
    model      what it has made, once completed
    ancestors  its parent, that one's parent, and so on
    children   the jobs that start from its model
    """

    number: int
    job: Job
    coin: Coin
    uri: str
    service: str
    segments: tuple[PostedSegment, ...]
    games: tuple[GameState, ...]
    demands: tuple[OpenDemand, ...]
    model: Model | None
    ancestors: tuple[int, ...]
    children: tuple[int, ...]
    TOLD: ClassVar = ("retained", "bounty_held", "stake_held")

    @property
    def status(self) -> JobStatus:
        """Where the job stands."""
        return self.job.status

    @property
    def trainer(self) -> str | None:
        """Who is or was the trainer of the present or last attempt."""
        return None if self.job.trainer == NOBODY else self.job.trainer

    @property
    def retained(self) -> int:
        """What of the bounty is paid only after the delivery period."""
        return self.job.bounty * self.job.terms.retained_share // BASIS

    @property
    def bounty_held(self) -> int:
        """What of the bounty the registry still holds."""
        over = self.status in (JobStatus.CANCELLED, JobStatus.EXPIRED, JobStatus.SLASHED) or self.job.settled
        return 0 if over else self.job.bounty - self.job.paid

    @property
    def stake_held(self) -> int:
        """The stake, while the registry holds it."""
        return self.job.terms.stake if self.status.disputable else 0

    def milestone(self, segment: int) -> int:
        """What a segment that is not final will pay, if those before it are final by then."""
        whole, steps = self.job.bounty - self.retained, self.job.spec.steps
        first = min(segment * self.job.spec.segment_length, steps)
        last = min(first + self.job.spec.segment_length, steps)
        return whole * last // steps - whole * first // steps


@dataclass(frozen=True)
class Account:
    """What a contract owes to an account of a token, to be withdrawn."""

    contract: str
    account: str
    coin: Coin
    amount: int


@dataclass(frozen=True)
class Holding:
    """What a contract holds of a token against what it owes: deposits by name, credits of accounts, and what is to be burnt.

    ``held`` is None where the token does not say.
    """

    contract: str
    coin: Coin
    held: int | None
    deposits: Mapping[str, int]
    credits: int
    burnable: int
    TOLD: ClassVar = ("owed", "solvent")

    @property
    def owed(self) -> int:
        """All that the contract will have to pay."""
        return sum(self.deposits.values()) + self.credits + self.burnable

    @property
    def solvent(self) -> bool:
        """Whether it can. It may hold more: nobody can be kept from giving."""
        return self.held is not None and self.held >= self.owed


@dataclass(frozen=True)
class Overview:
    """A deployment at one block.

    time          the block's, as the chain has it
    clock         protocol time: what deadlines are measured in
    paused_until  the second of the chain in which a pause ends by itself; None while the clocks run
    steady        whether the chain stood still while the picture was taken; else amounts may not fit together
    holdings      empty where one job alone was asked for
    """

    book: AddressBook
    block: int
    time: int
    clock: int
    paused_until: int | None
    owner: str
    pending_owner: str
    jobs: tuple[JobState, ...]
    accounts: tuple[Account, ...]
    holdings: tuple[Holding, ...]
    steady: bool = True

    @property
    def paused(self) -> bool:
        """Whether all clocks stand still."""
        return self.paused_until is not None

    @property
    def games(self) -> list[GameState]:
        """The games, in order."""
        return sorted((game for job in self.jobs for game in job.games), key=lambda game: game.number)

    def in_chain_time(self, second: int) -> int:
        """A second of protocol time as the chain's, if there is no further pause (and the present one ends at once)."""
        return second + self.time - self.clock


def as_json(value: Any) -> Any:
    """Data as JSON has it: bytes in hex, flags and enumerations by name in lower case, whole numbers of any size.

    Of a dataclass that is all fields, and the properties that its ``TOLD`` names.
    """
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)] + list(getattr(value, "TOLD", ()))
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, Flag):
        return [flag.name.lower() for flag in type(value) if flag in value and flag.name]
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    return value
