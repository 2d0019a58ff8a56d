"""The trainer node: claims jobs, trains them, posts and serves their segments, defends its games, and collects.

Everything that it must remember is on the chain or in its folder, so a killed node goes on where it stopped. Deciding is in
``next_action``, which is pure; the rest performs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bisection.agent import Defender, Served
from bisection.errors import NumericsMismatch, RefstepError, UsageError, VerificationError
from bisection.program import NUMERICS_VERSION
from bisection.solver import Decision
from contracts.bindings import Job, JobStatus
from contracts.chain import GameChain
from contracts.client import now
from contracts.deploy import Deployment
from contracts.index import Index
from trainer.executor import Executor
from trainer.fetch import open_source
from trainer.package import Material, load, publish, publish_state
from trainer.recorder import Executes, RecordedTrace, Recorder
from trainer.runtime import Log, silent
from trainer.service import Catalogue, ServedTrace
from trainer.store import Store

__all__ = ["Action", "TrainerNode", "TrainerPolicy", "next_action"]

SLICE_SECONDS = 1.0  # how long a node trains before it looks at the chain again


@dataclass(frozen=True)
class TrainerPolicy:
    """Which jobs to claim. Amounts in wei."""

    min_bounty: int = 0
    max_stake: int = 10 * 10**18
    max_steps: int = 1_000_000
    max_jobs: int = 1

    def accepts(self, job: Job) -> bool:
        """Whether an open job is worth claiming, by its terms alone."""
        return (
            job.status == JobStatus.OPEN
            and job.spec.numerics_version == NUMERICS_VERSION
            and job.bounty >= self.min_bounty
            and job.terms.stake <= self.max_stake
            and job.spec.steps <= self.max_steps
        )


class Action(Enum):
    """What a trainer can do about a job of its own."""

    TRAIN = "train"
    POST = "post"
    FINALISE = "finalise"
    WAIT = "wait"
    LEAVE = "leave"


def next_action(job: Job, recorded: int, window_end: int, time_now: int) -> Action:
    """What to do about one's own job. ``recorded``: steps run so far; ``window_end``: of the last posted segment, in seconds."""
    if job.status == JobStatus.TRAINING:
        due = min((job.posted + 1) * job.spec.segment_length, job.spec.steps)
        return Action.POST if recorded >= due else Action.TRAIN
    if job.status == JobStatus.VERIFICATION:
        return Action.FINALISE if time_now > window_end and job.live_games == 0 else Action.WAIT
    return Action.LEAVE


class Work:
    """One job that this node trains: its material and its recording."""

    def __init__(self, material: Material, recorder: Recorder) -> None:
        self.material, self.recorder = material, recorder
        self.traces: dict[int, RecordedTrace] = {}


ExecutorOf = Callable[[Material], Executes]
ServedOf = Callable[[RecordedTrace], Served]


class TrainerNode:
    """A trainer over a deployment that it can act on.

    ``account`` is its address, ``uri`` its data service's. ``catalogue`` is what that service offers: the node fills it.
    ``executor_of`` and ``served_of`` are for the dishonest: how steps are run, and how a trace is shown.
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
        log: Log = silent,
        executor_of: ExecutorOf | None = None,
        served_of: ServedOf = ServedTrace,
    ) -> None:
        self._catalogue = catalogue
        self._deployment, self._account, self._folder, self._uri = deployment, account, folder, uri
        self._policy, self._checkpoint_every, self._log = policy, checkpoint_every, log
        self._executor_of = executor_of or (lambda material: Executor(material.program, material.data, device))
        self._served_of = served_of
        self._store = catalogue.store or Store(folder / "store")
        self._index = Index(deployment.registry.web3, deployment.book)
        self._chain = GameChain(deployment, self._index)
        self._work: dict[int, Work] = {}
        self._refused: set[int] = set()
        self._over: set[int] = set()

    def tick(self) -> bool:
        """Look at every job once. Returns whether there is more to do at once."""
        self._index.update()
        registry = self._deployment.registry
        own: list[tuple[int, Job]] = []
        offers: list[tuple[int, Job]] = []
        for number in range(1, registry.job_count() + 1):
            if number in self._over:
                continue
            job = registry.job(number)
            if job.trainer == self._account:
                own.append((number, job))
            elif job.status == JobStatus.OPEN:
                offers.append((number, job))
            else:
                self._over.add(number)
        busy = [self._advance(number, job) for number, job in own]
        active = sum(job.status in (JobStatus.TRAINING, JobStatus.VERIFICATION) for _, job in own)
        if active < self._policy.max_jobs:
            busy += [self._consider(number, job) for number, job in offers[: self._policy.max_jobs - active]]
        return any(busy)

    def close(self) -> None:
        """Release the folder."""
        for work in self._work.values():
            work.recorder.close()
        self._work.clear()

    # Claiming

    def _consider(self, number: int, job: Job) -> bool:
        if number in self._refused:
            return False
        try:
            if not self._policy.accepts(job):
                raise UsageError(_why_not(job, self._policy))
            self._open_work(number, job)
        except (UsageError, VerificationError, NumericsMismatch) as error:
            self._refused.add(number)
            self._log("job refused", job=number, reason=str(error))
            return False
        self._deployment.registry.claim(number, self._uri, job.terms.stake)
        self._log("job claimed", job=number, stake=job.terms.stake, bounty=job.bounty, steps=job.spec.steps)
        return True

    def _open_work(self, number: int, job: Job) -> Work:
        """Fetch and verify a job's material (once: afterwards it is in the own store), and open its recording."""
        if number in self._work:
            return self._work[number]
        store = self._store
        try:
            material = load(store, job.spec)
        except RefstepError:
            material = load(open_source(self._index.job_uris[number]), job.spec)
            publish(store, material.program, material.state, material.data)
        recorder = Recorder(
            self._folder / f"job-{number}",
            material.program,
            material.state,
            material.data,
            self._executor_of(material),
            checkpoint_every=self._checkpoint_every,
        )
        self._work[number] = Work(material, recorder)
        return self._work[number]

    # One's own jobs

    def _advance(self, number: int, job: Job) -> bool:
        registry = self._deployment.registry
        if job.status not in (JobStatus.TRAINING, JobStatus.VERIFICATION):
            return self._leave(number, job)
        work = self._open_work(number, job)
        for segment in range(job.posted):
            self._offer(number, job, segment, work)
        self._defend(number, work)
        window_end = registry.segment(number, job.posted - 1).window_end if job.posted else 0
        action = next_action(job, work.recorder.step, window_end, now(registry.web3))
        if action == Action.TRAIN:
            self._train(number, job, work)
        elif action == Action.POST:
            self._post(number, job, work)
        elif action == Action.FINALISE:
            registry.finalise(number)
            self._log("job finalised", job=number, bounty=job.bounty)
        return action in (Action.TRAIN, Action.POST, Action.FINALISE)

    def _train(self, number: int, job: Job, work: Work) -> None:
        due = min((job.posted + 1) * job.spec.segment_length, job.spec.steps)
        stop_at = time.monotonic() + SLICE_SECONDS
        work.recorder.run(
            due,
            lambda step, metrics: self._log("step", job=number, step=step, steps=job.spec.steps, **metrics),
            lambda: time.monotonic() > stop_at,
        )

    def _post(self, number: int, job: Job, work: Work) -> None:
        start = job.posted * job.spec.segment_length
        length = min(job.spec.segment_length, job.spec.steps - start)
        trace = work.recorder.segment(start, length)
        history = trace.history()
        publish_state(self._store, work.material.program, work.recorder.state)
        self._deployment.registry.post_segment(
            number, history.root, history.prove(0), history.node(0, length), history.prove(length)
        )
        self._log("segment posted", job=number, segment=job.posted, steps=length, history_root=history.root.hex())
        self._offer(number, job, job.posted, work)

    def _offer(self, number: int, job: Job, segment: int, work: Work) -> None:
        if segment not in work.traces:
            start = segment * job.spec.segment_length
            trace = work.recorder.segment(start, min(job.spec.segment_length, job.spec.steps - start))
            work.traces[segment] = trace
            self._catalogue.segments[number, segment] = self._served_of(trace)

    def _defend(self, number: int, work: Work) -> None:
        for game in self._index.games[number]:
            trace = work.traces[self._index.segments[game]]

            def heard(decision: Decision, game: int = game) -> None:
                if decision.action is not None:
                    self._log("move", side="trainer", game=game, move=type(decision.action).__name__, rule=decision.rule)

            Defender(self._chain, trace, heard).play(game)

    def _leave(self, number: int, job: Job) -> bool:
        """The job is over: collect what is owed."""
        for contract in (self._deployment.registry, self._deployment.game):
            owed = contract.credit(self._account)
            if owed:
                contract.withdraw()
                self._log("withdrawn", contract=contract.NAME, amount=owed)
        self._over.add(number)
        if (work := self._work.pop(number, None)) is not None:
            work.recorder.close()
            self._log("job over", job=number, status=job.status.name.lower())
        return False


def _why_not(job: Job, policy: TrainerPolicy) -> str:
    if job.spec.numerics_version != NUMERICS_VERSION:
        return f"it speaks numerics version {job.spec.numerics_version}; this build speaks {NUMERICS_VERSION}"
    return f"its terms do not fit the policy {policy}"
