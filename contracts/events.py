"""The contracts' events as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

from eth_typing import ChecksumAddress

from contracts.bindings import Tree
from contracts.jobs import JobSpec, Terms

__all__ = [
    "KINDS",
    "SOURCES",
    "Acquitted",
    "Answered",
    "BoundaryJudged",
    "Burnt",
    "Committed",
    "Convicted",
    "DeliverySet",
    "DemandReclaimed",
    "Demanded",
    "Event",
    "GameAdded",
    "GameCancelled",
    "GameOpened",
    "GameRetired",
    "JobCancelled",
    "JobClaimed",
    "JobCompleted",
    "JobExpired",
    "JobOpened",
    "JobRefunded",
    "JobSlashed",
    "Judged",
    "LeafDemanded",
    "OwnershipTransferStarted",
    "OwnershipTransferred",
    "Paused",
    "Picked",
    "Refuted",
    "RetainedReleased",
    "RetainedWithheld",
    "Revealed",
    "Rewound",
    "RunDemanded",
    "SegmentFinalised",
    "SegmentPosted",
    "StepShown",
    "TracePosted",
    "Unanswered",
    "Unpaused",
    "Withdrawn",
]

SOURCES = ("TaskRegistry", "DisputeGame", "Delivery")


@dataclass(frozen=True)
class Event:
    """What happened, and where it stands on the chain: ``contract`` is the address, ``transaction`` the hash."""

    block: int
    index: int
    transaction: bytes
    contract: ChecksumAddress


@dataclass(frozen=True)
class Rewound:
    """The chain was reorganised: what was read from blocks after ``block`` did not happen. What did follows."""

    block: int


@dataclass(frozen=True)
class OwnershipTransferStarted(Event):
    """The owner offered the ownership."""

    owner: ChecksumAddress
    pending: ChecksumAddress


@dataclass(frozen=True)
class OwnershipTransferred(Event):
    """Who may pause is somebody else."""

    previous: ChecksumAddress
    owner: ChecksumAddress


@dataclass(frozen=True)
class Paused(Event):
    """All clocks stand still, at most up to the second ``until``, in which they go on."""

    until: int


@dataclass(frozen=True)
class Unpaused(Event):
    """The clocks go on."""


@dataclass(frozen=True)
class Committed(Event):
    """An account committed to a claim or opening that it will reveal."""

    commitment: bytes
    account: ChecksumAddress


@dataclass(frozen=True)
class GameAdded(Event):
    """New jobs may name this game contract."""

    game: ChecksumAddress


@dataclass(frozen=True)
class GameRetired(Event):
    """New jobs may no longer name this game contract."""

    game: ChecksumAddress


@dataclass(frozen=True)
class DeliverySet(Event):
    """The owner named the delivery contract."""

    delivery: ChecksumAddress


@dataclass(frozen=True)
class JobOpened(Event):
    """A requester offers a job."""

    job: int
    requester: ChecksumAddress
    job_hash: bytes
    spec: JobSpec
    terms: Terms
    bounty: int
    parent: int
    uri: str


@dataclass(frozen=True)
class JobClaimed(Event):
    """A trainer took a job; ``deadline`` is the last second for its next segment."""

    job: int
    trainer: ChecksumAddress
    attempt: int
    deadline: int
    uri: str


@dataclass(frozen=True)
class JobCancelled(Event):
    """The requester took back what was left of a bounty."""

    job: int
    refund: int


@dataclass(frozen=True)
class SegmentPosted(Event):
    """The trainer committed to a segment; games on it can be opened up to and in the second ``window_end``."""

    job: int
    segment: int
    attempt: int
    history_root: bytes
    end_state: bytes
    window_end: int


@dataclass(frozen=True)
class SegmentFinalised(Event):
    """A segment can no longer be disputed; the trainer gets ``milestone`` for it."""

    job: int
    segment: int
    trainer: ChecksumAddress
    milestone: int


@dataclass(frozen=True)
class JobCompleted(Event):
    """A job ended well, in ``state``; ``retained`` of the bounty is still to be earned by delivery."""

    job: int
    trainer: ChecksumAddress
    state: bytes
    job_hash: bytes
    data_root: bytes
    parent: int
    retained: int


@dataclass(frozen=True)
class JobExpired(Event):
    """The trainer missed a deadline; ``burnt`` of its stake belongs to nobody."""

    job: int
    trainer: ChecksumAddress
    attempt: int
    burnt: int


@dataclass(frozen=True)
class JobSlashed(Event):
    """The trainer was convicted; of its stake ``reward`` is the beneficiary's, ``burnt`` belongs to nobody."""

    job: int
    trainer: ChecksumAddress
    beneficiary: ChecksumAddress
    attempt: int
    reward: int
    burnt: int


@dataclass(frozen=True)
class JobRefunded(Event):
    """After the last attempt the requester got back what was left of the bounty."""

    job: int
    refund: int


@dataclass(frozen=True)
class RetainedReleased(Event):
    """The trainer got what was retained."""

    job: int
    trainer: ChecksumAddress
    amount: int


@dataclass(frozen=True)
class RetainedWithheld(Event):
    """The requester got what was retained: a leaf was not shown."""

    job: int
    requester: ChecksumAddress
    amount: int


@dataclass(frozen=True)
class LeafDemanded(Event):
    """Somebody demands a leaf of a final state."""

    demand: int
    job: int
    account: ChecksumAddress
    component: int
    seed: int
    answer_by: int


@dataclass(frozen=True)
class Answered(Event):
    """The leaf was shown."""

    demand: int
    job: int
    leaf: int
    data: bytes


@dataclass(frozen=True)
class Unanswered(Event):
    """The leaf was not shown in time."""

    demand: int
    job: int


@dataclass(frozen=True)
class DemandReclaimed(Event):
    """Somebody took its bond back from a demand that another one had settled."""

    demand: int
    job: int


@dataclass(frozen=True)
class Withdrawn(Event):
    """An account was paid what it was owed of a token."""

    token: ChecksumAddress
    account: ChecksumAddress
    amount: int


@dataclass(frozen=True)
class Burnt(Event):
    """What was slashed and belonged to nobody was destroyed."""

    token: ChecksumAddress
    amount: int


@dataclass(frozen=True)
class GameOpened(Event):
    """A challenger disputes a segment."""

    game: int
    job: int
    challenger: ChecksumAddress
    segment: int
    attempt: int
    rank: int


@dataclass(frozen=True)
class StepShown(Event):
    """The challenger pointed at a step of the segment."""

    game: int
    step: int
    before: bytes
    after: bytes


@dataclass(frozen=True)
class TracePosted(Event):
    """The trainer answered with the trace root of a step of the segment."""

    game: int
    job: int
    attempt: int
    segment: int
    step: int
    root: bytes


@dataclass(frozen=True)
class Demanded(Event):
    """The challenger starts down a tree of ``count`` leaves. A run's root is its element.

    ``tensor`` is the number in the trace of the tensor that was demanded last, or of the one with the run.
    """

    game: int
    tree: Tree
    root: bytes
    count: int
    tensor: int


@dataclass(frozen=True)
class RunDemanded(Event):
    """The challenger starts down the run of one element of a node, whose tensor has this root and path to the trace root."""

    game: int
    node: int
    position: int
    tensor: int
    tensor_root: bytes
    trace_proof: tuple[bytes, ...]


@dataclass(frozen=True)
class Picked(Event):
    """The challenger chose descendant ``child``, which is at this height and position."""

    game: int
    child: int
    height: int
    position: int


@dataclass(frozen=True)
class Revealed(Event):
    """The trainer showed what the node at this height and position stands for.

    ``payload`` has its descendants as digests of 32 bytes or partial results of 8, or the bytes of a leaf.
    """

    game: int
    tree: Tree
    height: int
    position: int
    payload: bytes


@dataclass(frozen=True)
class Refuted(Event):
    """The challenger showed that what was revealed last was not what had been picked."""

    game: int


@dataclass(frozen=True)
class Judged(Event):
    """The referee compared an element, as registers, or a part of a run, as partial results."""

    game: int
    node: int
    output: int
    position: int
    claimed: int
    correct: int


@dataclass(frozen=True)
class BoundaryJudged(Event):
    """The referee compared a tensor with its component of the state or data."""

    game: int
    node: int
    tensor_root: bytes
    component_root: bytes
    joined: bool


@dataclass(frozen=True)
class Convicted(Event):
    """A game ended against the trainer."""

    game: int
    job: int
    by_timeout: bool


@dataclass(frozen=True)
class Acquitted(Event):
    """A game ended against the challenger."""

    game: int
    job: int
    by_timeout: bool


@dataclass(frozen=True)
class GameCancelled(Event):
    """A challenger took its bond back from a game whose attempt was over."""

    game: int
    job: int


KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
