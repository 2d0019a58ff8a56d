"""The challenger node: replays every posted segment from verified material, and disputes the first step that is wrong.

A segment is *valid*, *fraudulent*, or *unverifiable* (its material cannot be had or understood). The last is an alert, never a
silent "valid". A killed node replays what it has not finished and goes on with its games.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from bisection.agent import Challenger, Served
from bisection.errors import NumericsMismatch, UnavailableError, UsageError, VerificationError
from bisection.solver import Ask, Decision
from contracts.bindings import Job, JobStatus
from contracts.chain import GameChain
from contracts.client import now
from contracts.deploy import Deployment
from contracts.index import Index
from trainer.executor import Executor
from trainer.fetch import HttpServed, open_source
from trainer.package import Material, load, publish
from trainer.recorder import Executes, RecordedTrace, Recorder
from trainer.runtime import Log, silent
from trainer.store import Store

__all__ = ["Audit", "ChallengerNode", "Mode", "SegmentVerdict"]

SLICE_SECONDS = 1.0  # how long a node replays before it looks at the chain again


class SegmentVerdict(Enum):
    """What an audit found."""

    PENDING = "pending"
    VALID = "valid"
    FRAUDULENT = "fraudulent"
    UNVERIFIABLE = "unverifiable"


class Mode(Enum):
    """``watch`` reports only; ``challenge`` disputes as well."""

    WATCH = "watch"
    CHALLENGE = "challenge"


@dataclass
class Audit:
    """One segment under audit; ``agent`` and ``game`` exist once it is disputed."""

    segment: int
    verdict: SegmentVerdict = SegmentVerdict.PENDING
    agent: Challenger | None = None
    game: int | None = None


@dataclass
class Replay:
    """One job under audit: its material, the own recording of it, and its segments."""

    material: Material
    recorder: Recorder
    audits: dict[int, Audit] = field(default_factory=dict)


class ChallengerNode:
    """A challenger over a deployment. In ``challenge`` mode the deployment must be able to send."""

    def __init__(
        self,
        deployment: Deployment,
        account: str,
        folder: Path,
        *,
        mode: Mode = Mode.CHALLENGE,
        max_bond: int = 10**18,
        device: str = "cpu",
        checkpoint_every: int = 50,
        log: Log = silent,
        executor_of: Callable[[Material], Executes] | None = None,
    ) -> None:
        if mode == Mode.CHALLENGE and deployment.game.bond > max_bond:
            raise UsageError(
                f"a game costs a bond of {deployment.game.bond} wei, more than max_bond allows; raise it, or use --mode watch"
            )
        self.verdicts: dict[tuple[int, int], SegmentVerdict] = {}
        self._deployment, self._account, self._folder, self._mode = deployment, account, folder, mode
        self._checkpoint_every, self._log = checkpoint_every, log
        self._executor_of = executor_of or (lambda material: Executor(material.program, material.data, device))
        self._store = Store(folder / "store")
        self._index = Index(deployment.registry.web3, deployment.book)
        self._chain = GameChain(deployment, self._index)
        self._replays: dict[int, Replay] = {}
        self._over: set[int] = set()
        self._alerted: set[int] = set()

    def tick(self) -> bool:
        """Look at every job once. Returns whether there is more to do at once."""
        self._index.update()
        registry = self._deployment.registry
        busy = False
        for number in range(1, registry.job_count() + 1):
            if number in self._over:
                continue
            job = registry.job(number)
            if job.status in (JobStatus.TRAINING, JobStatus.VERIFICATION):
                busy |= self._audit(number, job)
            elif job.status != JobStatus.OPEN:
                self._leave(number, job)
        return busy

    def close(self) -> None:
        """Release the folder."""
        for replay in self._replays.values():
            replay.recorder.close()
        self._replays.clear()

    # Auditing

    def _audit(self, number: int, job: Job) -> bool:
        if not job.posted:
            return False
        replay = self._open_replay(number, job)
        if replay is None:
            return False
        busy = False
        for segment in range(job.posted):
            audit = replay.audits.setdefault(segment, Audit(segment))
            if audit.game is None:
                self._adopt(number, audit, replay, job)
            if audit.game is not None:
                self._play(audit)
            elif audit.verdict == SegmentVerdict.PENDING:
                busy |= self._replay(number, job, audit, replay)
        return busy

    def _open_replay(self, number: int, job: Job) -> Replay | None:
        if number in self._replays:
            return self._replays[number]
        material = self._material(number, job)
        if material is None:
            return None
        recorder = Recorder(
            self._folder / f"job-{number}",
            material.program,
            material.state,
            material.data,
            self._executor_of(material),
            checkpoint_every=self._checkpoint_every,
        )
        self._replays[number] = Replay(material, recorder)
        return self._replays[number]

    def _material(self, number: int, job: Job) -> Material | None:
        """A job's verified material: from the own store, the requester or the trainer. None, with an alert, if nobody has it."""
        reasons = []
        for uri in (None, self._index.job_uris[number], self._index.service_uris[number]):
            try:
                if uri is None:
                    return load(self._store, job.spec)
                material = load(open_source(uri), job.spec)
                publish(self._store, material.program, material.state, material.data)
                return material
            except (UnavailableError, VerificationError, NumericsMismatch, UsageError) as error:
                if uri is not None:
                    reasons.append(f"{uri}: {error}")
        for segment in range(job.posted):
            self.verdicts[number, segment] = SegmentVerdict.UNVERIFIABLE
        if number not in self._alerted:
            self._alerted.add(number)
            self._log("UNVERIFIABLE", job=number, reason="; ".join(reasons))
        return None

    def _replay(self, number: int, job: Job, audit: Audit, replay: Replay) -> bool:
        start, length = _span(job, audit.segment)
        stop_at = time.monotonic() + SLICE_SECONDS
        replay.recorder.run(
            start + length,
            lambda step, metrics: self._log("step", job=number, step=step, steps=job.spec.steps, **metrics),
            lambda: time.monotonic() > stop_at,
        )
        if replay.recorder.step < start + length:
            return True
        claim = self._chain.claim(number, audit.segment)
        trace = replay.recorder.segment(start, length)
        honest = trace.history().root == claim.history_root
        self._conclude(number, audit, SegmentVerdict.VALID if honest else SegmentVerdict.FRAUDULENT)
        if honest or self._mode == Mode.WATCH:
            return False
        if now(self._deployment.registry.web3) > self._deployment.registry.segment(number, audit.segment).window_end:
            self._log("too late", job=number, segment=audit.segment, reason="the challenge window is over")
            return False
        audit.agent = self._agent(number, job, audit.segment, replay, trace)
        audit.game = audit.agent.open()
        return True

    def _conclude(self, number: int, audit: Audit, verdict: SegmentVerdict) -> None:
        audit.verdict = self.verdicts[number, audit.segment] = verdict
        self._log("segment audited", job=number, segment=audit.segment, verdict=verdict.value)

    # Disputing

    def _agent(self, number: int, job: Job, segment: int, replay: Replay, trace: RecordedTrace) -> Challenger:
        def heard(decision: Decision) -> None:
            if decision.action is not None and not isinstance(decision.action, Ask):
                self._log("move", side="challenger", segment=segment, move=type(decision.action).__name__, rule=decision.rule)

        claim = self._chain.claim(number, segment)
        served: Served = HttpServed(self._index.service_uris[number], number, segment, replay.material.program, claim.length)
        return Challenger(self._chain, trace, claim, served, heard)

    def _adopt(self, number: int, audit: Audit, replay: Replay, job: Job) -> None:
        """Find a game of one's own that was opened before a restart, once the replay has come that far again."""
        start, length = _span(job, audit.segment)
        for game in self._index.games[number]:
            view = self._deployment.game.game(game)
            if view.segment == audit.segment and view.challenger == self._account and view.phase.live:
                replay.recorder.run(start + length)
                trace = replay.recorder.segment(start, length)
                audit.agent = self._agent(number, job, audit.segment, replay, trace)
                audit.game = game
                self._conclude(number, audit, SegmentVerdict.FRAUDULENT)

    def _play(self, audit: Audit) -> None:
        assert audit.agent is not None and audit.game is not None
        audit.agent.play(audit.game)

    def _leave(self, number: int, job: Job) -> None:
        """The job is over: take back bonds that another game's verdict has freed, and collect what is owed."""
        games = self._deployment.game
        if self._mode == Mode.CHALLENGE:
            for game in self._index.games[number]:
                view = games.game(game)
                if view.challenger == self._account and view.phase.live:
                    games.reclaim(game)
            for contract in (self._deployment.registry, games):
                owed = contract.credit(self._account)
                if owed:
                    contract.withdraw()
                    self._log("withdrawn", contract=contract.NAME, amount=owed)
        self._over.add(number)
        if (replay := self._replays.pop(number, None)) is not None:
            replay.recorder.close()
            self._log("job over", job=number, status=job.status.name.lower())


def _span(job: Job, segment: int) -> tuple[int, int]:
    """(first step, number of steps) of a segment."""
    start = segment * job.spec.segment_length
    return start, min(job.spec.segment_length, job.spec.steps - start)
