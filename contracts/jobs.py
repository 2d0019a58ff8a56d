"""Jobs as the registry tells them (ITaskRegistry.vyi). Roots have 32 bytes; amounts are in a token's smallest units; time in s."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import cast

from eth_abi.abi import encode
from eth_typing import ChecksumAddress
from eth_utils.crypto import keccak

from contracts.values import plain

__all__ = ["NATIVE", "NOBODY", "Demand", "Job", "JobSpec", "JobStatus", "Model", "Segment", "Standing", "Terms", "claim_commitment"]

NOBODY = cast(ChecksumAddress, "0x" + 40 * "0")
NATIVE = NOBODY  # in place of a token: ether


class JobStatus(IntEnum):
    """Where a job stands."""

    OPEN = 1
    TRAINING = 2
    VERIFICATION = 4
    COMPLETED = 8
    CANCELLED = 16
    EXPIRED = 32
    SLASHED = 64

    @property
    def disputable(self) -> bool:
        """Whether a trainer is at it, whose segments can be challenged."""
        return self in (JobStatus.TRAINING, JobStatus.VERIFICATION)


@dataclass(frozen=True)
class JobSpec:
    """What the result of a job depends on (docs/protocol.md, "A job")."""

    program_root: bytes
    node_count: int
    tensor_count: int
    initial_state: bytes
    state_count: int
    data_root: bytes
    data_count: int
    steps: int
    segment_length: int
    numerics_version: int

    @property
    def job_hash(self) -> bytes:
        """The hash that names the job's content, 32 bytes."""
        types = ",".join("bytes32" if field.type == "bytes" else "uint256" for field in fields(self))
        return keccak(encode([f"({types})"], [plain(self)]))

    @property
    def segments(self) -> int:
        """How many segments a whole run has."""
        return -(-self.steps // self.segment_length)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Money and time.

    token             of bounty and stake
    stake             of a trainer
    trainer           the only one that may claim; NOBODY: anybody
    game              the game contract that judges the job
    attempts          how many trainers may try, one after the other
    segment_period    seconds from the claim, or from a segment, to the next segment
    challenge_window  seconds from a segment to its finality
    retained_share    of the bounty, in basis points: paid only after the delivery period
    delivery_period   seconds after completion in which leaves of the final state can be demanded
    """

    token: ChecksumAddress = NATIVE
    stake: int
    trainer: ChecksumAddress = NOBODY
    game: ChecksumAddress
    attempts: int = 1
    segment_period: int
    challenge_window: int
    retained_share: int = 0
    delivery_period: int = 0

    def value(self, amount: int) -> int:
        """What of an amount is sent as value: all of it in ether, nothing in tokens."""
        return amount if self.token == NATIVE else 0


@dataclass(frozen=True)
class Job:
    """A job.

    paid         what of the bounty has been credited to trainers
    attempt      counted from 1
    deadline     the last second for the next segment; 0 before a claim
    posted       segments of this attempt, and final ones before it
    finalised    segments that can no longer be disputed
    state        the end of the last posted segment, or the initial state
    settled      whether what was retained of the bounty has found its owner
    parent       the job whose final state this one starts from; 0 is none
    """

    status: JobStatus
    requester: ChecksumAddress
    trainer: ChecksumAddress
    bounty: int
    paid: int
    attempt: int
    deadline: int
    posted: int
    finalised: int
    state: bytes
    live_games: int
    open_demands: int
    delivery_end: int
    settled: bool
    parent: int
    job_hash: bytes
    spec: JobSpec
    terms: Terms

    @property
    def offer(self) -> bytes:
        """What a claim names, so that it cannot land on another job: the hash of specification, terms and bounty, 32 bytes."""
        spec = ",".join("bytes32" if field.type == "bytes" else "uint256" for field in fields(self.spec))
        terms = ",".join("uint256" if field.type == "int" else "address" for field in fields(self.terms))
        return keccak(encode([f"({spec})", f"({terms})", "uint256"], [plain(self.spec), plain(self.terms), self.bounty]))


@dataclass(frozen=True)
class Segment:
    """A posted segment; a game on it can be opened up to and in the second ``window_end``."""

    first_step: int
    steps: int
    history_root: bytes
    end_state: bytes
    window_end: int
    live_games: int
    final: bool


@dataclass(frozen=True)
class Standing:
    """Whether an attempt at a job can still be disputed (``live``), and what time it is."""

    live: bool
    paused: bool
    trainer: ChecksumAddress
    clock: int


@dataclass(frozen=True)
class Model:
    """What a completed job has made: the root of its final state, and where that comes from. ``completed_at`` is a block."""

    state: bytes
    job_hash: bytes
    program_root: bytes
    data_root: bytes
    requester: ChecksumAddress
    trainer: ChecksumAddress
    parent: int
    completed_at: int


@dataclass(frozen=True)
class Demand:
    """A demanded leaf: number ``seed`` modulo the component's leaves; ``answer_by`` is the last second for the answer."""

    job: int
    account: ChecksumAddress
    component: int
    seed: int
    answer_by: int


def claim_commitment(account: str, job: int, salt: bytes) -> bytes:
    """What ``account`` commits to before it claims a job with ``salt``: 32 bytes."""
    return keccak(encode(["address", "uint256", "bytes32"], [account, job, salt]))
