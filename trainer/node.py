"""The trainer node: claims jobs, trains them, posts and serves their segments, defends its games, and collects.

Everything that it must remember is on the chain or in its folder, so a killed node goes on where it stopped. Deciding is in
``next_action``, which is pure; the rest performs. Fetching and training happen on threads of their own: what has a deadline on
chain never waits for a step, and what fails in one job does not reach the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path

from web3.types import TxReceipt

from bisection.agent import Defender, Served
from bisection.errors import NumericsMismatch, ProgramError, UnavailableError, UsageError, VerificationError
from bisection.program import NUMERICS_VERSION
from bisection.solver import Decision
from contracts.chain import GameChain
from contracts.deploy import Deployment
from contracts.index import Index
from contracts.jobs import NATIVE, NOBODY, Job, JobStatus, Segment, Standing, claim_commitment
from contracts.outbox import Outbox
from contracts.sender import Call
from contracts.settings import format_ether
from contracts.token import Token
from trainer.delivery import show_leaf
from trainer.executor import Executor
from trainer.package import Material, publish_state
from trainer.recorder import Executes, RecordedTrace, Recorder
from trainer.runtime import Isolation, Log, collect, silent
from trainer.service import Catalogue, ServedTrace
from trainer.store import Store
from trainer.work import Work, fetch_material, recording_folder, under_way

__all__ = ["Action", "TrainerNode", "TrainerPolicy", "due", "next_action"]

SLICE_SECONDS = 1.0  # how long a node that trains waits before it looks at the chain again
SPARE_TIME = 2.0  # a job is claimed if training a segment takes at most the segment period divided by this


@dataclass(frozen=True)
class TrainerPolicy:
    """Which jobs to claim. Amounts in wei.

    Of a job in tokens it asks only that the token is one of ``tokens``: how much is staked in them is limited by what the account
    allows the registry to take.
    """

    min_bounty: int = 0
    max_stake: int = 10 * 10**18
    max_steps: int = 1_000_000
    max_jobs: int = 1
    tokens: frozenset[str] = frozenset()

    def objection(self, job: Job, account: str, game: str) -> str | None:
        """Why ``account`` should not claim an open job, by its terms alone; None if it can. ``game`` is the known game contract."""
        if job.spec.numerics_version != NUMERICS_VERSION:
            return f"it speaks numerics version {job.spec.numerics_version}; this build speaks {NUMERICS_VERSION}"
        if job.terms.game != game:
            return f"it is judged by the contract at {job.terms.game}, which is not the one in the address book"
        if job.terms.trainer not in (NOBODY, account):
            return f"it is for the trainer {job.terms.trainer} alone"
        if job.spec.steps > self.max_steps:
            return f"it has {job.spec.steps} steps, more than max_steps ({self.max_steps})"
        if job.terms.token != NATIVE:
            return None if job.terms.token in self.tokens else f"it pays in the token {job.terms.token}, which is not in tokens"
        left = job.bounty - job.paid
        if left < self.min_bounty:
            return f"it pays {format_ether(left)} ETH, less than min_bounty ({format_ether(self.min_bounty)})"
        if job.terms.stake > self.max_stake:
            return f"its stake is {format_ether(job.terms.stake)} ETH, more than max_stake ({format_ether(self.max_stake)})"
        return None


class Action(Enum):
    """What a trainer can do about a job of its own."""

    TRAIN = "train"
    POST = "post"
    FINALISE = "finalise"
    RELEASE = "release"
    WAIT = "wait"
    GIVE_UP = "give up"


def due(job: Job) -> int:
    """The step up to which a job of one's own has to be trained now: to the end of the next segment to post."""
    return min((job.posted + 1) * job.spec.segment_length, job.spec.steps)


def next_action(job: Job, recorded: int, oldest: Segment | None, standing: Standing) -> Action:
    """What to do about one's own job. ``recorded``: steps run so far; ``oldest``: the first posted segment that is not final.

    A recording that was lost is made again even when all is posted: without it nothing could be defended or delivered.
    """
    if standing.paused:
        return Action.TRAIN if recorded < due(job) else Action.WAIT
    if job.status == JobStatus.COMPLETED:
        if recorded < due(job):
            return Action.TRAIN
        return Action.RELEASE if standing.clock > job.delivery_end and job.open_demands == 0 else Action.WAIT
    if oldest is not None and standing.clock > oldest.window_end and oldest.live_games == 0:
        return Action.FINALISE
    if job.status == JobStatus.TRAINING and standing.clock > job.deadline:
        return Action.GIVE_UP
    if recorded < due(job):
        return Action.TRAIN
    return Action.POST if job.status == JobStatus.TRAINING else Action.WAIT


ExecutorOf = Callable[[Material], Executes]
ServedOf = Callable[[RecordedTrace], Served]


class TrainerNode:
    """A trainer over a deployment that it can act on.

    ``account`` is its address, ``uri`` its data service's. ``catalogue`` is what that service offers: the node fills it.
    ``retry_seconds`` is the pause after a first failure. ``executor_of`` and ``served_of`` are for the dishonest: how steps are
    run, and how a trace is shown.
    """

    def __init__(
        self,
        deployment: Deployment,
        account: str,
        folder: Path,
        uri: str,
        catalogue: Catalogue,
        *,
        policy: TrainerPolicy = TrainerPolicy(),
        device: str = "cpu",
        checkpoint_every: int = 50,
        keep_checkpoints: int = 32,
        retry_seconds: float = 1.0,
        log: Log = silent,
        executor_of: ExecutorOf | None = None,
        served_of: ServedOf = ServedTrace,
    ) -> None:
        self._catalogue = catalogue
        self._deployment, self._account, self._folder, self._uri = deployment, account, folder, uri
        self._policy, self._log = policy, log
        self._new_recorder = partial(Recorder, checkpoint_every=checkpoint_every, keep_checkpoints=keep_checkpoints)
        self._executor_of = executor_of or (lambda material: Executor(material.program, material.data, device))
        self._served_of = served_of
        self._store = catalogue.store or Store(folder / "store")
        self._index = Index(deployment.registry.web3, deployment.book)
        self._chain = GameChain(deployment, self._index)
        self._isolation = Isolation(log, retry_seconds)
        self._work: dict[int, Work] = {}
        self._passed: set[int] = set()  # jobs that this node has nothing to do with, any more or for good
        self._late: set[int] = set()
        self._claims = Outbox(deployment.registry)
        self._branch = 0
        self._perform: dict[Action, Callable[[int, Job, Work], bool]] = {
            Action.TRAIN: self._train,
            Action.POST: self._post,
            Action.FINALISE: self._finalise,
            Action.RELEASE: self._release,
            Action.WAIT: lambda number, job, work: False,
            Action.GIVE_UP: self._give_up,
        }

    def tick(self) -> bool:
        """Look at every job once. Returns whether there is more to do at once. Raises UnavailableError, ChainMismatch."""
        self._chain.tend()
        if self._branch != self._index.branch:
            self._branch = self._index.branch
            self._passed.clear()  # what is over can be open again after a reorganisation
        own, offers = self._jobs()
        ready = [(number, job) for number, job in own.items() if self._attempt("open", number, partial(self._ready, number, job))]
        for number, job in ready:
            self._defend(number, job)
            self._deliver(number, job)
        moved = [self._attempt("advance", number, partial(self._advance, number, job)) for number, job in ready]
        busy = sum(job.status.disputable for job in own.values())
        for number, job in self._candidates(offers)[: max(0, self._policy.max_jobs - busy)]:
            moved.append(self._attempt("claim", number, partial(self._consider, number, job)))
        tokens = {NATIVE, *self._index.tokens.values()}
        moved.append(self._isolation.attempt("collect", partial(collect, self._deployment, self._account, tokens, self._log)))
        return any(moved) or under_way(self._work.values(), SLICE_SECONDS)

    def _attempt(self, what: str, number: int, act: Callable[[], bool]) -> bool:
        return self._isolation.attempt((what, number), act, job=number)

    def close(self) -> None:
        """End the step under way, and release the folder."""
        for number in list(self._work):
            self._drop(number)

    def _jobs(self) -> tuple[dict[int, Job], dict[int, Job]]:
        """(own jobs that are not over, open jobs) by number."""
        registry = self._deployment.registry
        own, offers = {}, {}
        for number in sorted(self._index.job_uris.keys() - self._passed):
            job = registry.job(number)
            if job.trainer == self._account and (job.status.disputable or (job.status == JobStatus.COMPLETED and not job.settled)):
                own[number] = job
            elif job.status == JobStatus.OPEN and self._account not in self._index.failed[number]:
                offers[number] = job
            elif not job.status.disputable or job.attempt == job.terms.attempts or job.trainer == self._account:
                if number in self._work:
                    self._log("job over", job=number, status=job.status.name.lower())
                self._pass(number)
        return own, offers

    def _pass(self, number: int) -> None:
        self._passed.add(number)
        self._drop(number)

    def _drop(self, number: int) -> None:
        for key in [key for key in self._catalogue.segments if key[0] == number]:
            del self._catalogue.segments[key]
        if (work := self._work.pop(number, None)) is not None:
            work.close()

    # Claiming

    def _candidates(self, offers: dict[int, Job]) -> list[tuple[int, Job]]:
        """The offers that can be worked on now: first those whose material is on its way."""
        able = [(number, job) for number, job in offers.items() if not self._isolation.resting(("claim", number))]
        return sorted(able, key=lambda offer: (offer[0] not in self._work, offer[0]))

    def _consider(self, number: int, job: Job) -> bool:
        try:
            if (objection := self._policy.objection(job, self._account, self._deployment.book.game)) is not None:
                raise UsageError(objection)
            if not (self._ready(number, job) and self._agrees(number, job)):
                return False
        except (UsageError, VerificationError, NumericsMismatch, ProgramError) as error:
            self._pass(number)
            self._log("job refused", job=number, reason=str(error))
            return True
        if job.terms.token != NATIVE:
            self._require_allowance(job)
        if self._claim(number, job) is None:
            return False
        self._log("job claimed", job=number, stake=job.terms.stake, bounty=job.bounty - job.paid, steps=job.spec.steps)
        return True

    def _claim(self, number: int, job: Job) -> TxReceipt | None:
        """The receipt of the claim, or None while that is under way."""
        registry, name = self._deployment.registry, f"claim of job {number} attempt {job.attempt}"

        def claim(salt: bytes) -> Call:
            return registry.call("claim", number, job.offer, salt, self._uri, value=job.terms.value(job.terms.stake))

        if job.terms.trainer != NOBODY:
            return self._claims.deliver(claim(bytes(32)), name)
        return self._claims.reveal(name, lambda salt: registry.call("commit", claim_commitment(self._account, number, salt)), claim)

    def _agrees(self, number: int, job: Job) -> bool:
        """Whether the final segments of an earlier trainer were trained here too, with the same end; if not, a thread sees to it.

        Raises VerificationError when they end otherwise: then no segment that could be posted would be accepted.
        """
        if job.posted == 0:
            return True
        if not self._train(number, replace(job, posted=job.posted - 1), self._work[number]):
            return False
        last = self._work[number].trace(job.spec, job.posted - 1)
        assert last is not None
        if last.history().node(0, last.length) != job.state:
            raise VerificationError(f"its {job.posted} final segments do not end in the state that they come to here")
        return True

    def _require_allowance(self, job: Job) -> None:
        """Raises UnavailableError while the stake in tokens is not there, or not allowed to be taken."""
        token, registry = Token(self._deployment.registry.web3, job.terms.token), self._deployment.registry.address
        have = min(token.balance(self._account), token.allowance(self._account, registry))
        if have < job.terms.stake:
            raise UnavailableError(
                f"its stake is {job.terms.stake} units of the token {token.address}, of which the registry may take {have}; "
                "`refstep chain approve` lets it"
            )

    def _ready(self, number: int, job: Job) -> bool:
        """Whether the job's material and recording are there; if not, a thread sees to it. Raises what kept it from that."""
        if number in self._work and self._work[number].job_hash != job.job_hash:
            self._drop(number)  # a reorganisation has given the number to another job
        if number not in self._work:
            material = partial(fetch_material, self._store, job.spec, [self._index.job_uris[number]])
            self._work[number] = Work(job.job_hash, material, partial(self._recorder, number, job))
        try:
            return self._work[number].ready
        except Exception:
            self._drop(number)  # the next attempt starts anew
            raise

    def _recorder(self, number: int, job: Job, material: Material) -> Recorder:
        executor = self._executor_of(material)
        if job.status == JobStatus.OPEN:
            _require_pace(executor, material, job)
        folder = recording_folder(self._folder, number, job)
        return self._new_recorder(folder, material.program, material.state, material.data, executor)

    # One's own jobs

    def _defend(self, number: int, job: Job) -> None:
        """Show every posted segment that is recorded, and make the move that is owed in every game about one."""
        traces = {segment: self._work[number].trace(job.spec, segment) for segment in range(job.posted)}
        for segment, trace in traces.items():
            if trace is not None and (number, segment) not in self._catalogue.segments:
                self._catalogue.segments[number, segment] = self._served_of(trace)
        for game in self._index.games[number]:
            segment = self._index.segments[game]
            if segment in traces and (trace := traces[segment]) is not None:
                self._isolation.attempt(("game", game), partial(self._play, game, trace), job=number, game=game)

    def _play(self, game: int, trace: RecordedTrace) -> bool:
        def heard(decision: Decision) -> None:
            if decision.action is not None:
                self._log("move", side="trainer", game=game, move=type(decision.action).__name__, rule=decision.rule)

        if self._chain.answered(game):
            return False
        Defender(self._chain, trace, heard).play(game)
        return False

    def _deliver(self, number: int, job: Job) -> None:
        """Show every leaf of the final state that is demanded."""
        if job.open_demands and self._work[number].recorder.step == job.spec.steps:
            for demand in list(self._index.demands[number]):
                self._isolation.attempt(("demand", demand), partial(self._show, number, demand), job=number, demand=demand)

    def _show(self, number: int, demand: int) -> bool:
        delivery, work = self._deployment.delivery, self._work[number]
        asked = delivery.demand_of(demand)
        leaf = show_leaf(work.material.program, work.recorder.state, asked.component, asked.seed)
        delivery.answer(demand, leaf.node, leaf.tensor_root, leaf.component_proof, leaf.data, leaf.leaf_proof)
        self._log("leaf delivered", job=number, demand=demand, component=asked.component)
        return True

    def _advance(self, number: int, job: Job) -> bool:
        registry, work = self._deployment.registry, self._work[number]
        oldest = registry.segment(number, job.finalised) if job.finalised < job.posted else None
        action = next_action(job, work.recorder.step, oldest, registry.standing(number, job.attempt))
        return self._perform[action](number, job, work)

    def _train(self, number: int, job: Job, work: Work) -> bool:
        """Whether the next segment is trained; if not, a thread is at it."""
        return work.run(due(job), lambda step, metrics: self._log("step", job=number, step=step, steps=job.spec.steps, **metrics))

    def _post(self, number: int, job: Job, work: Work) -> bool:
        if not self._train(number, job, work):
            return False  # its last checkpoint is being written
        trace = work.trace(job.spec, job.posted)
        assert trace is not None
        history = trace.history()
        publish_state(self._store, work.material.program, work.recorder.state)
        proofs = history.prove(0), history.node(0, trace.length), history.prove(trace.length)
        self._deployment.registry.post_segment(number, history.root, *proofs)
        self._log("segment posted", job=number, segment=job.posted, steps=trace.length, history_root=history.root.hex())
        return True

    def _finalise(self, number: int, job: Job, work: Work) -> bool:
        self._deployment.registry.finalise(number)
        self._log("segment finalised", job=number, segment=job.finalised)
        return True

    def _release(self, number: int, job: Job, work: Work) -> bool:
        self._deployment.registry.release(number)
        self._log("retained share released", job=number, amount=job.bounty - job.paid)
        return True

    def _give_up(self, number: int, job: Job, work: Work) -> bool:
        if number not in self._late:
            self._late.add(number)
            self._log("too late", job=number, reason="the deadline has passed without the next segment; the stake is lost")
        return False


def _require_pace(executor: Executes, material: Material, job: Job) -> None:
    """Raises UsageError when this machine would hardly train the job in time, by the second of two steps that are thrown away."""
    for _ in range(2):
        started = time.monotonic()
        executor.step(material.state)
        seconds = (time.monotonic() - started) * job.spec.segment_length
    if seconds * SPARE_TIME > job.terms.segment_period:
        raise UsageError(
            f"the {job.spec.segment_length} steps of a segment would take about {seconds:.0f} s here, too near to its segment "
            f"period of {job.terms.segment_period} s"
        )
