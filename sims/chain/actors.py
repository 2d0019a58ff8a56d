"""Those who keep to the protocol: the requester, trainers that post what they have run, watchers that replay it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bisection.agent import Answers, Challenger, Defender
from bisection.game import Owed
from contracts.bindings import Phase
from contracts.jobs import Job, JobSpec, JobStatus, Terms, claim_commitment
from sims.chain.runs import Posted
from sims.chain.seat import Seat
from sims.chain.world import Transaction, View, World

__all__ = ["Conduct", "Defending", "Requester", "Service", "Trainer", "Watcher", "live_games", "over"]

JOB = 1  # every world has one job
GRACE = 60  # seconds that the requester leaves to others before it brings about what is due

Service = Callable[[str, Posted], Answers]
"""(who asks, the segment) → what the trainer's data service tells."""


def over(job: Job) -> bool:
    """Whether nothing more can happen to a job."""
    return job.status in (JobStatus.COMPLETED, JobStatus.SLASHED, JobStatus.EXPIRED, JobStatus.CANCELLED)


def opened(world: World) -> bool:
    """Whether the job has been offered."""
    return JOB in world.index.job_uris


def live_games(world: World, job: Job) -> list[int]:
    """The games about the present attempt that are not over."""
    if not job.status.disputable:
        return []
    views = {game: world.eyes.view(game) for game in world.index.games[JOB]}
    return [game for game, view in views.items() if view.phase.live and view.attempt == job.attempt]


class Conduct(Protocol):
    """How a trainer behaves in a game about a segment of its own."""

    def play(self, seat: Seat, game: int, span: Posted) -> None:
        """Do what is to be done now."""

    def due(self, seat: Seat, game: int) -> int | None:
        """When there will be something to do although nothing happens; None: never."""


class Defending:
    """Answers everything at once, with what its execution has, and ends games whose challenger is silent."""

    def play(self, seat: Seat, game: int, span: Posted) -> None:
        """See Conduct."""
        Defender(seat, span).play(game)

    def due(self, seat: Seat, game: int) -> int | None:
        """See Conduct."""
        return seat.world.limit(game) + 1 if seat.game(game).owed == Owed.NOTHING else None


class Requester:
    """Offers the job, takes it back if nobody claims it, and brings about what is due and nobody else does."""

    def __init__(self, seat: Seat, spec: JobSpec, terms: Terms, bounty: int) -> None:
        self.seat, self._offer = seat, (spec, terms, bounty, 0, "")

    def act(self, view: View) -> Iterable[Transaction]:
        """See Actor."""
        registry = self.seat.world.deployment.registry
        if not opened(self.seat.world):
            self.seat.hand_in(registry.call("open_job", *self._offer, value=self._offer[2]), "offer")
        else:
            for name, due in self._ends():
                if view.now >= due:
                    function, _, number = name.partition(" ")
                    contract = self.seat.world.deployment.game if function == "timeout" else registry
                    self.seat.hand_in(contract.call(function, int(number)), f"{name} {due}")
        return self.seat.take()

    def due(self) -> int | None:
        """See Actor."""
        return min((due for _, due in self._ends() if due > self.seat.now()), default=None)

    def _ends(self) -> list[tuple[str, int]]:
        """What anybody may bring about once its time has come, and when."""
        world = self.seat.world
        if not opened(world):
            return []
        job = world.job(JOB)
        games = live_games(world, job)
        if job.status == JobStatus.OPEN:
            offer = self.seat.acted("offer").done
            return [] if offer is None else [(f"cancel {JOB}", offer.time + job.terms.segment_period)]
        ends = [(f"timeout {game}", world.limit(game) + 1 + GRACE) for game in games]
        if job.status == JobStatus.TRAINING and not games:
            ends.append((f"expire {JOB}", job.deadline + 1 + GRACE))
        if job.status.disputable and job.finalised < job.posted:
            oldest = world.segment(JOB, job.finalised)
            if not oldest.live_games:
                ends.append((f"finalise {JOB}", oldest.window_end + 1 + GRACE))
        return ends


class Trainer:
    """Claims the job, posts what it has run every ``pace`` seconds, and takes its milestones. ``conduct`` is how it plays games."""

    def __init__(self, seat: Seat, spans: Sequence[Posted], conduct: Conduct | None = None, pace: int = 600) -> None:
        self.seat, self.spans, self.conduct, self.pace = seat, spans, conduct or Defending(), pace
        self._next = 0

    def act(self, view: View) -> Iterable[Transaction]:
        """See Actor."""
        world = self.seat.world
        if opened(world):
            job = world.job(JOB)
            if job.status == JobStatus.OPEN:
                self._claim(job)
            elif job.trainer == self.seat.address and job.status.disputable:
                self._go_on(job, view)
        return self.seat.take()

    def due(self) -> int | None:
        """See Actor."""
        world = self.seat.world
        if not opened(world) or (job := world.job(JOB)).trainer != self.seat.address or not job.status.disputable:
            return None
        dues = [self.conduct.due(self.seat, game) for game in live_games(world, job)]
        dues.append(self._next if job.status == JobStatus.TRAINING else None)
        if job.finalised < job.posted and not (oldest := world.segment(JOB, job.finalised)).live_games:
            dues.append(oldest.window_end + 1)
        return min((due for due in dues if due is not None and due > self.seat.now()), default=None)

    def _claim(self, job: Job) -> None:
        seat, registry = self.seat, self.seat.world.deployment.registry
        seat.reveal(
            f"attempt {job.attempt}: claim",
            lambda salt: registry.call("commit", claim_commitment(seat.address, JOB, salt)),
            lambda salt: registry.call("claim", JOB, job.offer, salt, seat.name, value=job.terms.stake),
        )

    def _go_on(self, job: Job, view: View) -> None:
        seat, world = self.seat, self.seat.world
        registry = world.deployment.registry
        for game in live_games(world, job):
            if not seat.answered(game):
                self.conduct.play(seat, game, self.spans[world.index.segments[game]])
        place = f"attempt {job.attempt}: posted {job.posted}"
        if job.status == JobStatus.TRAINING and view.now >= self._next and not seat.acted(place).pending:
            seat.hand_in(registry.call("post_segment", JOB, *self.spans[job.posted].posting()), place)
            self._next = view.next + self.pace
        if job.finalised < job.posted:
            oldest = world.segment(JOB, job.finalised)
            if view.now > oldest.window_end and not oldest.live_games:
                seat.hand_in(registry.call("finalise", JOB), f"attempt {job.attempt}: final {job.finalised}")


@dataclass
class Dispute:
    """A segment that is wrong by one's own account, the agent that disputes it, and their game once it is open."""

    segment: int
    agent: Challenger
    game: int | None = None


class Watcher:
    """Replays every segment, and disputes the first that is another one than its own.

    spans     its own execution, segment by segment
    service   what the trainer's data service tells it
    delay     seconds from a segment to the end of its replay
    """

    def __init__(self, seat: Seat, spans: Sequence[Posted], service: Service, delay: int = 0) -> None:
        self.seat, self.spans, self._service, self._delay = seat, spans, service, delay
        self.forget()

    def forget(self) -> None:
        """Start anew, as after a crash: everything else is on chain."""
        self._seen: set[int] = set()
        self._dispute: Dispute | None = None
        self._lost: set[int] = set()
        self._branch = self.seat.world.index.branch

    def act(self, view: View) -> Iterable[Transaction]:
        """See Actor."""
        world = self.seat.world
        if opened(world):
            if self._branch != world.index.branch:  # segments and the numbers of games can be others
                self.forget()
            job = world.job(JOB)
            if job.status.disputable:
                if self._dispute is None:
                    self._audit(job, view)
                if self._dispute is not None:
                    self._contest(self._dispute, view)
            self._reclaim(job)
        return self.seat.take()

    def due(self) -> int | None:
        """See Actor."""
        world = self.seat.world
        if not opened(world) or not (job := world.job(JOB)).status.disputable:
            return None
        if self._dispute is None:
            dues = [self._replayed(job, k) for k in range(job.posted) if k not in self._seen]
        elif self._dispute.game is not None and world.eyes.view(self._dispute.game).phase.live:
            waits = self.seat.game(self._dispute.game).owed != Owed.NOTHING
            dues = [world.limit(self._dispute.game) + 1] if waits else []
        else:
            dues = []
        return min((due for due in dues if due > self.seat.now()), default=None)

    def _replayed(self, job: Job, segment: int) -> int:
        return self.seat.world.segment(JOB, segment).window_end - job.terms.challenge_window + self._delay

    def _audit(self, job: Job, view: View) -> None:
        for segment in range(job.posted):
            if segment in self._seen or segment in self._lost or view.now < self._replayed(job, segment):
                continue
            self._seen.add(segment)
            posted = self.seat.world.segment(JOB, segment)
            if posted.history_root != self.spans[segment].history().root:
                self._dispute = Dispute(segment, self._agent(segment))
                return

    def _agent(self, segment: int) -> Challenger:
        claim, own = self.seat.world.claim(JOB, segment), self.spans[segment]
        return Challenger(self.seat, own, claim, self._service(self.seat.name, own))

    def _contest(self, dispute: Dispute, view: View) -> None:
        seat, world = self.seat, self.seat.world
        if dispute.game is None:
            ended = world.segment(JOB, dispute.segment).window_end < view.now
            if (ended and seat.own(dispute.agent.knowledge.claim) is None) or not dispute.agent.disputes():
                self._give_up(dispute)
                return
            dispute.game = dispute.agent.open()
        if dispute.game is None:
            return
        seen = world.eyes.view(dispute.game)
        if seen.phase == Phase.ACQUITTED:
            self._give_up(dispute)
        elif seen.phase.live and not seat.answered(dispute.game):
            dispute.agent.play(dispute.game)
        if seen.phase.live and (call := world.eyes.contention(dispute.game)) is not None:
            seat.hand_in(call, f"contend {dispute.game} {world.eyes.place(dispute.game)}")

    def _give_up(self, dispute: Dispute) -> None:
        self._lost.add(dispute.segment)
        self._dispute = None

    def _reclaim(self, job: Job) -> None:
        """Take back the bonds of own games about an attempt that is over."""
        world = self.seat.world
        for game in world.index.games[JOB]:
            view = world.eyes.view(game)
            if view.challenger == self.seat.address and view.phase.live and (view.attempt < job.attempt or over(job)):
                self.seat.hand_in(world.deployment.game.call("reclaim", game), f"reclaim {game}")
