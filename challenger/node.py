"""The challenger node: replays every posted segment from verified material, and disputes the first step that is wrong.

A segment is *valid*, *fraudulent*, or *unverifiable* (its material cannot be had or understood). The last is an alert, never a
silent "valid". A killed node replays what it has not finished and goes on with its games. Fetching and replaying happen on
threads of their own: no game waits for a replay, and what fails in one job does not reach the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from bisection.agent import Challenger
from bisection.errors import UsageError
from bisection.solver import Ask, Decision
from contracts.bindings import Phase
from contracts.chain import GameChain
from contracts.deploy import Deployment
from contracts.index import Index
from contracts.jobs import NATIVE, Job
from contracts.settings import format_ether
from trainer.executor import Executor
from trainer.fetch import HttpServed
from trainer.files import KnownRoots
from trainer.package import Material
from trainer.recorder import Executes, RecordedTrace, Recorder
from trainer.runtime import Isolation, Log, collect, silent
from trainer.store import Store
from trainer.work import Work, fetch_material, recording_folder, span, under_way

__all__ = ["ChallengerNode", "Mode", "SegmentVerdict"]

SLICE_SECONDS = 1.0  # how long a node that replays waits before it looks at the chain again


class SegmentVerdict(Enum):
    """What an audit found."""

    VALID = "valid"
    FRAUDULENT = "fraudulent"
    UNVERIFIABLE = "unverifiable"


class Mode(Enum):
    """``watch`` reports only; ``challenge`` disputes as well."""

    WATCH = "watch"
    CHALLENGE = "challenge"


@dataclass
class Dispute:
    """A fraudulent segment, the agent that disputes it, and their game once it is open."""

    segment: int
    agent: Challenger
    game: int | None = None


class ChallengerNode:
    """A challenger over a deployment. In ``challenge`` mode it acts as ``account``, and the deployment must be able to send.

    At most ``max_jobs`` jobs are replayed at a time. ``verdicts`` holds what was found, by (job, segment); a segment that is not
    there has not been looked at, or comes after a fraudulent one. ``retry_seconds`` is the pause after a first failure.

    Raises UsageError when a game costs a bond of more than ``max_bond`` wei.
    """

    def __init__(
        self,
        deployment: Deployment,
        account: str | None,
        folder: Path,
        *,
        mode: Mode = Mode.CHALLENGE,
        max_bond: int = 10**18,
        max_jobs: int = 4,
        device: str = "cpu",
        checkpoint_every: int = 50,
        keep_checkpoints: int = 32,
        retry_seconds: float = 1.0,
        log: Log = silent,
        executor_of: Callable[[Material], Executes] | None = None,
    ) -> None:
        if mode == Mode.CHALLENGE and deployment.game.bond > max_bond:
            raise UsageError(
                f"a game costs a bond of {format_ether(deployment.game.bond)} ETH, more than max_bond allows "
                f"({format_ether(max_bond)}); raise it, or use --mode watch"
            )
        self.verdicts: dict[tuple[int, int], SegmentVerdict] = {}
        self._deployment, self._account, self._folder, self._mode = deployment, account, folder, mode
        self._max_jobs, self._log = max_jobs, log
        self._new_recorder = partial(Recorder, checkpoint_every=checkpoint_every, keep_checkpoints=keep_checkpoints)
        self._executor_of = executor_of or (lambda material: Executor(material.program, material.data, device))
        self._store = Store(folder / "store", KnownRoots(folder / "verified.json"))
        self._index = Index(deployment.registry.web3, deployment.book)
        self._chain = GameChain(deployment, self._index)
        self._isolation = Isolation(log, retry_seconds)
        self._work: dict[int, Work] = {}
        self._disputes: dict[int, Dispute] = {}
        self._attempts: dict[int, int] = {}  # by job, the attempt that this node is looking at
        self._done: dict[int, int] = {}  # by job, the attempt about which this node can or must do nothing more
        self._alerts: dict[int, str] = {}
        self._branch = 0

    def tick(self) -> bool:
        """Look at every job once. Returns whether there is more to do at once. Raises UnavailableError, ChainMismatch."""
        self._chain.tend()
        self._follow_branch()
        jobs = self._jobs()
        # Games have clocks: they come before audits.
        moved = [self._attempt(number, job) for number, job in sorted(jobs.items(), key=lambda item: item[0] not in self._disputes)]
        if self._account is not None:
            tokens = {NATIVE, *self._index.tokens.values()}
            moved.append(self._isolation.attempt("collect", partial(collect, self._deployment, self._account, tokens, self._log)))
        return any(moved) or under_way(self._work.values(), SLICE_SECONDS)

    def close(self) -> None:
        """End the steps under way, and release the folder."""
        for number in list(self._work):
            self._drop(number)

    def _follow_branch(self) -> None:
        """Look at everything afresh after a reorganisation: segments, attempts and the numbers of games can be others."""
        if self._branch != self._index.branch:
            self._branch = self._index.branch
            for known in (self.verdicts, self._disputes, self._attempts, self._done):
                known.clear()

    def _jobs(self) -> dict[int, Job]:
        """The jobs that have been claimed, and about which there may be something to do."""
        attempts = self._index.attempts
        numbers = sorted(
            number for number in self._index.job_uris if number in attempts and self._done.get(number) != attempts[number]
        )
        return {number: self._deployment.registry.job(number) for number in numbers}

    def _attempt(self, number: int, job: Job) -> bool:
        if number not in self._attempts:
            self._isolation.attempt(("reclaim", number), partial(self._reclaim, number, job), job=number)
            self._attempts[number] = job.attempt
        if self._attempts[number] != job.attempt or not job.status.disputable:
            act = self._leave
        else:
            act = self._contest if number in self._disputes else self._audit
        return self._isolation.attempt((act.__name__, number), partial(act, number, job), job=number)

    def _drop(self, number: int) -> None:
        if (work := self._work.pop(number, None)) is not None:
            work.close()

    def _finish(self, number: int) -> None:
        self._done[number] = self._attempts[number]
        self._disputes.pop(number, None)
        self._drop(number)

    # Auditing

    def _audit(self, number: int, job: Job) -> bool:
        """Replay the first posted segment that is not known to be valid."""
        if job.trainer == self._account:
            self._finish(number)
            return False
        posted = range(job.posted)
        segment = next((s for s in posted if self.verdicts.get((number, s)) != SegmentVerdict.VALID), None)
        if segment is None:
            self._drop(number)  # until another one is posted
            return False
        start, length = span(job.spec, segment)
        if not self._replayed(number, job, start + length):
            return False
        work = self._work[number]
        trace = work.trace(job.spec, segment)
        assert trace is not None
        honest = trace.history().root == self._chain.claim(number, segment).history_root
        verdict = SegmentVerdict.VALID if honest else SegmentVerdict.FRAUDULENT
        self.verdicts[number, segment] = verdict
        self._log("segment audited", job=number, segment=segment, verdict=verdict.value)
        if verdict == SegmentVerdict.FRAUDULENT:
            if self._mode == Mode.CHALLENGE:
                self._disputes[number] = Dispute(segment, self._agent(number, segment, work, trace))
            else:
                self._finish(number)  # what comes after a fraudulent segment is wrong from its start
        return True

    def _replayed(self, number: int, job: Job, until: int) -> bool:
        """Whether the job is replayed up to a step; if not, a thread sees to it as soon as there is room.

        Raises what kept it from that, after an alert that the job is unverifiable.
        """
        if number in self._work and self._work[number].job_hash != job.job_hash:
            self._drop(number)  # a reorganisation has given the number to another job
        if number not in self._work:
            if len(self._work) >= self._max_jobs:
                return False
            uris = [uris[number] for uris in (self._index.job_uris, self._index.service_uris) if number in uris]
            material = partial(fetch_material, self._store, job.spec, uris)
            self._work[number] = Work(job.job_hash, material, partial(self._recorder, number, job))
        work = self._work[number]
        try:
            return work.ready and work.run(until, partial(self._progress, number, job))
        except Exception as error:
            self._drop(number)  # the next attempt starts anew
            self._alert(number, job, str(error))
            raise

    def _progress(self, number: int, job: Job, step: int, metrics: Mapping[str, float]) -> None:
        self._log("step", job=number, step=step, steps=job.spec.steps, **metrics)

    def _recorder(self, number: int, job: Job, material: Material) -> Recorder:
        executor, folder = self._executor_of(material), recording_folder(self._folder, number, job)
        return self._new_recorder(folder, material.program, material.state, material.data, executor)

    def _alert(self, number: int, job: Job, reason: str) -> None:
        for segment in range(job.posted):
            self.verdicts.setdefault((number, segment), SegmentVerdict.UNVERIFIABLE)
        if self._alerts.get(number) != reason:
            self._alerts[number] = reason
            self._log("UNVERIFIABLE", job=number, reason=reason)

    # Disputing

    def _agent(self, number: int, segment: int, work: Work, trace: RecordedTrace) -> Challenger:
        def heard(decision: Decision) -> None:
            if decision.action is not None and not isinstance(decision.action, Ask):
                self._log("move", side="challenger", job=number, move=type(decision.action).__name__, rule=decision.rule)

        claim = self._chain.claim(number, segment)
        service = HttpServed(self._index.service_uris[number], number, segment, work.material.program, claim.length)
        return Challenger(self._chain, trace, claim, service, heard)

    def _contest(self, number: int, job: Job) -> bool:
        """Open the game about a fraudulent segment, or make the next move in it."""
        dispute = self._disputes[number]
        if dispute.game is None:
            dispute.game = self._enter(number, job, dispute)
        if dispute.game is None:
            return False
        self._isolation.attempt(("contend", number), partial(self._chain.contend, dispute.game), job=number, game=dispute.game)
        if self._chain.answered(dispute.game) or dispute.agent.play(dispute.game):
            return False
        phase = self._chain.view(dispute.game).phase
        self._log("game over", job=number, game=dispute.game, outcome=phase.name.lower())
        if phase == Phase.ACQUITTED:
            self._finish(number)
        return False

    def _enter(self, number: int, job: Job, dispute: Dispute) -> int | None:
        """The own game about the segment: the one that was opened before a restart, or else a new one, once it is open."""
        view = self._chain.view
        own = {game: view(game) for game in self._index.games[number] if self._index.segments[game] == dispute.segment}
        phases = {game: seen.phase for game, seen in own.items() if (seen.challenger, seen.attempt) == (self._account, job.attempt)}
        if live := [game for game, phase in phases.items() if phase.live]:
            return live[0]
        if phases:
            reason = "a game about it has been lost already"
        elif self._deployment.registry.clock() > self._deployment.registry.segment(number, dispute.segment).window_end:
            reason = "its challenge window is over"
        elif dispute.agent.disputes():
            return dispute.agent.open()
        else:
            reason = "there is nothing to dispute in it"
        self._log("too late", job=number, segment=dispute.segment, reason=reason)
        self._finish(number)
        return None

    def _leave(self, number: int, job: Job) -> bool:
        """The attempt is over: take back the bonds that another game's verdict has freed, and look afresh at what comes next."""
        if self._reclaim(number, job):
            return False
        if number in self._work:
            self._log("job over", job=number, status=job.status.name.lower())
        self._finish(number)
        if job.attempt > self._attempts[number]:
            self._attempts[number] = job.attempt
            for segment in [segment for of, segment in self.verdicts if of == number and segment >= job.finalised]:
                del self.verdicts[number, segment]
        return True

    def _reclaim(self, number: int, job: Job) -> bool:
        """Take back the bonds of own games about an attempt that is over. Returns whether any of that is under way."""
        under_way = False
        for game in self._index.games[number] if self._mode == Mode.CHALLENGE else ():
            view = self._chain.view(game)
            over = view.attempt < job.attempt or not job.status.disputable
            if over and view.challenger == self._account and view.phase.live:
                self._chain.reclaim(game)
                if self._chain.view(game).phase.live:
                    under_way = True
                else:
                    self._log("bond reclaimed", job=number, game=game)
        return under_way
