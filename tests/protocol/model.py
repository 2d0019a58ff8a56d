"""The protocol in Python, written from docs/protocol.md: jobs, money, time and deliveries. Games are in model_games.py.

Every function of the contracts has a method of the same name; ``account`` is who calls. A method raises IllegalMove where the
contract reverts, and then changes nothing. Accounts and tokens are addresses, times are seconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bisection.errors import IllegalMove
from bisection.merkle import LEAF_BYTES, depth_of, fold, leaf_count, leaf_digest
from bisection.witness import NodeProof, Source, StepRoots, boundary
from contracts.deploy import Parameters
from contracts.jobs import NATIVE, NOBODY, JobSpec, JobStatus, Terms, claim_commitment
from tests.contracts.stage import BURNT

__all__ = ["Calendar", "Commitments", "DeliveryModel", "Demand", "Job", "Ledger", "RegistryModel", "Segment", "member", "require"]

COMMIT_SECONDS = 600
MAX_PAUSE = 14 * 24 * 60 * 60
MIN_BETWEEN = 28 * 24 * 60 * 60
BASIS = 10_000
RUNNING = (JobStatus.TRAINING, JobStatus.VERIFICATION)


def require(condition: bool, reason: str) -> None:
    """Raises IllegalMove unless ``condition``."""
    if not condition:
        raise IllegalMove(reason)


def member(root: bytes, count: int, index: int, leaf: bytes, proof: tuple[bytes, ...]) -> None:
    """Raises IllegalMove unless ``leaf`` is number ``index`` of a tree of ``count`` leaves."""
    require(index < count and len(proof) == depth_of(count) and fold(leaf, index, proof) == root, "bad proof")


class Ledger:
    """What one contract has credited."""

    def __init__(self) -> None:
        self.credits: Counter[tuple[str, str]] = Counter()

    def credit(self, token: str, account: str, amount: int) -> None:
        self.credits[token, account] += amount

    def withdraw(self, account: str, token: str) -> None:
        """Pay the caller."""
        require(self.credits[token, account] > 0, "nothing to withdraw")
        del self.credits[token, account]

    def burn(self, account: str, token: str) -> None:
        """Destroy what belongs to nobody; anyone may call."""
        self.withdraw(BURNT, token)


@dataclass
class Calendar:
    """The time of the chain, and protocol time: the same less what was spent paused."""

    time: int
    block: int
    owner: str
    paused_at: int | None = None
    paused_until: int = 0  # the end of the last pause
    paused_before: int = 0  # how long all pauses before it lasted

    @property
    def paused(self) -> bool:
        return self.paused_at is not None and self.time < self.paused_until

    @property
    def clock(self) -> int:
        if self.paused_at is None:
            return self.time
        return self.time - self.paused_before - (min(self.time, self.paused_until) - self.paused_at)

    def running(self) -> None:
        """Raises IllegalMove during a pause."""
        require(not self.paused, "paused")

    def pause(self, account: str) -> None:
        """Ends by itself after MAX_PAUSE; the next one cannot begin within MIN_BETWEEN."""
        require(account == self.owner, "not the owner")
        require(self.paused_at is None or self.time > self.paused_until + MIN_BETWEEN, "too soon")
        if self.paused_at is not None:
            self.paused_before += self.paused_until - self.paused_at
        self.paused_at, self.paused_until = self.time, self.time + MAX_PAUSE

    def unpause(self, account: str) -> None:
        require(account == self.owner, "not the owner")
        require(self.paused, "not paused")
        self.paused_until = self.time


@dataclass
class Commitments:
    """Commitments of one contract: commitment → (ordinal, block, time)."""

    calendar: Calendar
    made: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)
    ordinals: int = 0

    def usable(self, commitment: bytes) -> bool:
        """Whether it could be revealed in this block."""
        if commitment not in self.made:
            return False
        _, block, time = self.made[commitment]
        return self.calendar.block > block and self.calendar.time <= time + COMMIT_SECONDS

    def alive(self, commitment: bytes) -> bool:
        """Whether it was made and has not expired."""
        return commitment in self.made and self.calendar.time <= self.made[commitment][2] + COMMIT_SECONDS

    def commit(self, account: str, commitment: bytes) -> None:
        require(not self.alive(commitment), "already made")
        self.made[commitment] = (self.ordinal(), self.calendar.block, self.calendar.time)

    def ordinal(self) -> int:
        self.ordinals += 1
        return self.ordinals


@dataclass(frozen=True)
class Segment:
    """A posted segment; a game on it can be opened up to and in ``window_end``."""

    first: int
    steps: int
    history_root: bytes
    end_state: bytes
    window_end: int


@dataclass
class Job:
    """A job."""

    spec: JobSpec
    terms: Terms
    bounty: int
    requester: str
    parent: int
    status: JobStatus = JobStatus.OPEN
    attempt: int = 1
    trainer: str = NOBODY
    paid: int = 0
    deadline: int = 0
    segments: list[Segment] = field(default_factory=list)
    finalised: int = 0
    delivery_end: int = 0
    settled: bool = False
    open_demands: int = 0
    live_games: Counter[int] = field(default_factory=Counter)  # by segment

    @property
    def state(self) -> bytes:
        """Where the next segment starts."""
        return self.segments[-1].end_state if self.segments else self.spec.initial_state

    @property
    def retained(self) -> int:
        """What of the bounty is paid only after delivery."""
        return self.bounty * self.terms.retained_share // BASIS

    @property
    def escrow(self) -> int:
        """What the registry holds for the job: the bounty as far as it is unpaid, and the stake while somebody is at work."""
        unpaid = self.status in (JobStatus.OPEN, *RUNNING) or (self.status == JobStatus.COMPLETED and not self.settled)
        return (self.bounty - self.paid) * unpaid + self.terms.stake * (self.status in RUNNING)

    def disputable(self, attempt: int) -> bool:
        """Whether this attempt can be disputed."""
        return self.status in RUNNING and self.attempt == attempt


class RegistryModel(Ledger):
    """TaskRegistry."""

    def __init__(self, calendar: Calendar, parameters: Parameters, game: str) -> None:
        super().__init__()
        self.calendar, self.parameters, self.game = calendar, parameters, game
        self.commitments = Commitments(calendar)
        self.commit = self.commitments.commit
        self.pause, self.unpause = calendar.pause, calendar.unpause
        self.jobs: dict[int, Job] = {}

    def job(self, number: int) -> Job:
        require(number in self.jobs, "unknown job")
        return self.jobs[number]

    def open_job(self, account: str, spec: JobSpec, terms: Terms, bounty: int, parent: int, uri: str, value: int = 0) -> None:
        self.calendar.running()
        require(terms.game == self.game, "unknown game")
        require((terms.retained_share == 0) == (terms.delivery_period == 0), "a retained share needs a delivery period")
        require(value == terms.value(bounty), "wrong value")
        if parent:
            require(self.job(parent).status == JobStatus.COMPLETED, "parent not completed")
            require(self.job(parent).state == spec.initial_state, "parent ends in another state")
        self.jobs[len(self.jobs) + 1] = Job(spec, terms, bounty, account, parent)

    def cancel(self, account: str, number: int) -> None:
        job = self.job(number)
        require(account == job.requester and job.status == JobStatus.OPEN, "not the requester's to cancel")
        job.status = JobStatus.CANCELLED
        self._refund(job)

    def claim(self, account: str, number: int, offer: bytes, salt: bytes, uri: str, value: int = 0) -> None:
        self.calendar.running()
        job = self.job(number)
        require(job.status == JobStatus.OPEN, "not open")
        commitment = claim_commitment(account, number, salt)
        if job.terms.trainer == NOBODY:
            require(self.commitments.usable(commitment), "no commitment")
        else:
            require(account == job.terms.trainer, "names another trainer")
        require(value == job.terms.value(job.terms.stake), "wrong value")
        if job.terms.trainer == NOBODY:
            del self.commitments.made[commitment]
        job.status, job.trainer = JobStatus.TRAINING, account
        job.deadline = self.calendar.clock + job.terms.segment_period

    def post_segment(
        self, account: str, number: int, root: bytes, start_proof: tuple[bytes, ...], end: bytes, end_proof: tuple[bytes, ...]
    ) -> None:
        self.calendar.running()
        job, clock = self.job(number), self.calendar.clock
        require(job.status == JobStatus.TRAINING and account == job.trainer, "not the trainer's to post")
        require(clock <= job.deadline, "deadline passed")
        first = len(job.segments) * job.spec.segment_length
        steps = min(job.spec.segment_length, job.spec.steps - first)
        member(root, steps + 1, 0, job.state, start_proof)
        member(root, steps + 1, steps, end, end_proof)
        job.segments.append(Segment(first, steps, root, end, clock + job.terms.challenge_window))
        last = first + steps == job.spec.steps
        job.status = JobStatus.VERIFICATION if last else JobStatus.TRAINING
        job.deadline = 0 if last else clock + job.terms.segment_period

    def finalise(self, account: str, number: int) -> None:
        self.calendar.running()
        job = self.job(number)
        require(job.status in RUNNING and job.finalised < len(job.segments), "nothing to finalise")
        segment = job.segments[job.finalised]
        require(job.live_games[job.finalised] == 0, "live games")
        require(self.calendar.clock > segment.window_end, "window not over")
        done = segment.first + segment.steps
        milestone = (job.bounty - job.retained) * done // job.spec.steps - job.paid
        job.paid += milestone
        job.finalised += 1
        self.credit(job.terms.token, job.trainer, milestone)
        if done == job.spec.steps:
            job.status, job.settled = JobStatus.COMPLETED, job.retained == 0
            job.delivery_end = self.calendar.clock + job.terms.delivery_period if job.retained else 0
            self.credit(job.terms.token, job.trainer, job.terms.stake)

    def expire(self, account: str, number: int) -> None:
        self.calendar.running()
        job = self.job(number)
        require(job.status == JobStatus.TRAINING and self.calendar.clock > job.deadline, "deadline not passed")
        require(not any(job.live_games.values()), "live games")
        self._slash(job, NOBODY, 0)
        self._end_attempt(job, JobStatus.EXPIRED)

    def release(self, account: str, number: int) -> None:
        self.calendar.running()
        job = self.job(number)
        require(job.status == JobStatus.COMPLETED and not job.settled, "nothing retained")
        require(self.calendar.clock > job.delivery_end and job.open_demands == 0, "still to be delivered")
        self._settle(job, job.trainer)

    def convict(self, job: Job, beneficiary: str) -> None:
        """A game ended against the trainer."""
        self._slash(job, beneficiary, job.terms.stake * self.parameters.reward_share // BASIS)
        self._end_attempt(job, JobStatus.SLASHED)

    def withhold(self, job: Job) -> None:
        """A demand was not answered."""
        self._settle(job, job.requester)

    def _settle(self, job: Job, account: str) -> None:
        self.credit(job.terms.token, account, job.bounty - job.paid)
        if account == job.trainer:
            job.paid = job.bounty
        job.settled = True

    def _slash(self, job: Job, beneficiary: str, reward: int) -> None:
        burnt = job.terms.stake * self.parameters.burn_share // BASIS
        self.credit(job.terms.token, BURNT, burnt)
        self.credit(job.terms.token, beneficiary, reward)
        self.credit(job.terms.token, job.requester, job.terms.stake - burnt - reward)

    def _end_attempt(self, job: Job, failed: JobStatus) -> None:
        del job.segments[job.finalised :]
        job.live_games.clear()
        job.deadline = 0
        if job.attempt < job.terms.attempts:
            job.attempt += 1
            job.status = JobStatus.OPEN
        else:
            job.status = failed
            self._refund(job)

    def _refund(self, job: Job) -> None:
        self.credit(job.terms.token, job.requester, job.bounty - job.paid)

    def held(self, token: str) -> int:
        """What the contract must have of a token."""
        escrow = sum(job.escrow for job in self.jobs.values() if job.terms.token == token)
        return escrow + sum(amount for (of, _), amount in self.credits.items() if of == token)


@dataclass
class Demand:
    """A demanded leaf."""

    job: int
    account: str
    component: int
    answer_by: int
    seed: int | None = None  # told by the chain's beacon
    open: bool = True


class DeliveryModel(Ledger):
    """Delivery."""

    def __init__(self, registry: RegistryModel, parameters: Parameters) -> None:
        super().__init__()
        self.registry, self.calendar, self.parameters = registry, registry.calendar, parameters
        self.demands: dict[int, Demand] = {}

    def demand(self, account: str, number: int, component: int, value: int = 0) -> None:
        self.calendar.running()
        job = self.registry.job(number)
        require(value == self.parameters.delivery_bond, "wrong bond")
        require(component < job.spec.state_count, "no such component")
        require(job.status == JobStatus.COMPLETED and not job.settled, "nothing retained")
        require(self.calendar.clock <= job.delivery_end, "delivery period over")
        job.open_demands += 1
        answer_by = self.calendar.clock + self.parameters.answer_period
        self.demands[len(self.demands) + 1] = Demand(number, account, component, answer_by)

    def open(self, number: int) -> tuple[Demand, Job]:
        require(number in self.demands and self.demands[number].open, "no open demand")
        return self.demands[number], self.registry.jobs[self.demands[number].job]

    def answer(
        self,
        account: str,
        number: int,
        node: NodeProof,
        tensor_root: bytes,
        component_proof: tuple[bytes, ...],
        data: bytes,
        leaf_proof: tuple[bytes, ...],
    ) -> None:
        demand, job = self.open(number)
        require(not job.settled and self.calendar.clock <= demand.answer_by, "too late")
        spec, nothing = job.spec, bytes(32)
        roots = StepRoots(spec.program_root, spec.node_count, nothing, spec.tensor_count, nothing, nothing, 0, nothing, 0)
        written = boundary(roots, node)
        require(written.source == Source.AFTER and written.index == demand.component, "another component")
        member(job.state, spec.state_count, demand.component, tensor_root, component_proof)
        assert demand.seed is not None
        count = leaf_count(written.size)
        leaf = demand.seed % count
        require(len(data) == min(LEAF_BYTES, written.size - leaf * LEAF_BYTES), "leaf of another length")
        member(tensor_root, count, leaf, leaf_digest(data), leaf_proof)
        self._close(demand, job, job.trainer)

    def give_up(self, account: str, number: int) -> None:
        """Answers are allowed during a pause, and so is noting that the time for them was over before."""
        demand, job = self.open(number)
        require(not job.settled and self.calendar.clock > demand.answer_by, "time for an answer")
        self._close(demand, job, demand.account)
        self.registry.withhold(job)

    def reclaim(self, account: str, number: int) -> None:
        demand, job = self.open(number)
        require(job.settled, "still to be answered")
        self._close(demand, job, demand.account)

    def _close(self, demand: Demand, job: Job, winner: str) -> None:
        demand.open = False
        job.open_demands -= 1
        self.credit(NATIVE, winner, self.parameters.delivery_bond)

    def held(self, token: str) -> int:
        """What the contract must have of a token."""
        bonds = self.parameters.delivery_bond * sum(demand.open for demand in self.demands.values()) * (token == NATIVE)
        return bonds + sum(amount for (of, _), amount in self.credits.items() if of == token)
