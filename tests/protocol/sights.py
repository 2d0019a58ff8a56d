"""What anybody can see of a history: the jobs, games and deliveries that something can be done about now."""

from __future__ import annotations

from collections import Counter

from bisection.game import Owed
from contracts.jobs import JobStatus
from tests.protocol.deployed import Deployed
from tests.protocol.model_games import GameRecord
from tests.protocol.parties import Parties, Watch

__all__ = ["CHALLENGERS", "UNDER_WAY", "Sights"]

CHALLENGERS = ("friend", "hostile", "copycat")
UNDER_WAY = (JobStatus.TRAINING, JobStatus.VERIFICATION)


class Sights:
    """One history, as far as it has come."""

    def __init__(self, chain: Deployed, tally: Counter[str]) -> None:
        self.parties = Parties(chain, tally)
        self.world, self.tally = self.parties.world, tally

    def jobs(self, *statuses: JobStatus) -> list[int]:
        return [number for number, job in self.world.registry.jobs.items() if job.status in statuses]

    def game(self, number: int) -> GameRecord:
        return self.world.games.games[number]

    def disputed(self) -> list[int]:
        """Games that go on."""
        return [n for n, g in self.world.games.games.items() if g.live and self.parties.job(g.job).disputable(g.attempt)]

    def owing(self, who: str) -> list[int]:
        """Games in which it is a trainer's turn."""
        return [n for n in self.disputed() if self.trainer(n) == who and self.game(n).state.owed != Owed.NOTHING]

    def trainer(self, number: int) -> str:
        return self.parties.attempts[self.game(number).job, self.game(number).attempt].who

    def in_window(self) -> list[tuple[int, int]]:
        """Segments that can be disputed."""
        return [
            (number, k)
            for number in self.jobs(*UNDER_WAY)
            for k, segment in enumerate(self.parties.job(number).segments)
            if self.world.clock <= segment.window_end
        ]

    def training(self, who: str) -> list[int]:
        """Jobs whose trainer has a segment to post."""
        found = [(number, self.parties.attempt(number)) for number in self.jobs(JobStatus.TRAINING)]
        return [number for number, attempt in found if attempt is not None and attempt.who == who]

    def watches(self, *who: str) -> list[Watch]:
        """Disputes that somebody pursues, and has something to do in."""

        def turn(number: int) -> bool:
            return self.game(number).live and (self.game(number).state.owed == Owed.NOTHING or self.silent(number))

        return [
            w for w in self.parties.watches
            if w.who in who and self.parties.job(w.job).disputable(w.attempt)
            and (self.world.clock <= w.window_end if w.game is None else turn(w.game))
        ]  # fmt: skip

    def silent(self, number: int) -> bool:
        """Whether the mover of a game has used up its clock."""
        return self.world.games.left(number) < 0

    def spoilt(self) -> list[int]:
        """Open jobs that stand at a wrong state: a fraud has become final."""
        return [
            number for number in self.jobs(JobStatus.OPEN) if self.parties.works[number].honest not in self.parties.fitting(number)
        ]

    def acting(self, who: str) -> bool:
        """Whether an honest party can act now."""
        return self.parties.free(who)

    def lies(self) -> list[tuple[int, int]]:
        """Segments of the liar's that can be disputed."""
        jobs = self.world.registry.jobs
        return [(n, k) for n, k in self.in_window() if self.parties.attempts[n, jobs[n].attempt].who == "liar"]

    def pending(self) -> list[Watch]:
        """Openings that the honest challenger has committed to and not made."""
        alive = self.world.games.commitments.alive
        return [watch for watch in self.watches("watcher") if watch.game is None and alive(self.parties.commitment(watch))]

    def refutable(self) -> list[int]:
        """Games of somebody hostile in which something has been revealed."""
        states = [(n, self.game(n).state) for n in self.hostile_games()]
        return [n for n, state in states if state.descent is not None and state.descent.below is not None]

    def past(self) -> list[int]:
        """Games whose attempt is over, and whose bonds nobody has claimed."""
        games = self.world.games.games.items()
        return [n for n, game in games if game.live and not self.parties.job(game.job).disputable(game.attempt)]

    def hostile_games(self) -> list[int]:
        """Games of somebody hostile in which it is the challenger's turn."""
        honest = self.world.address("watcher")
        return [n for n in self.disputed() if self.game(n).challenger != honest and self.game(n).state.owed == Owed.NOTHING]

    def delivering(self) -> list[int]:
        """Jobs whose result can be demanded."""
        found = [(number, self.parties.job(number)) for number in self.jobs(JobStatus.COMPLETED)]
        return [
            number for number, job in found if not job.settled and self.world.clock <= job.delivery_end and job.open_demands < 3
        ]

    def ready(self) -> list[int]:
        """Jobs with a segment that nobody can dispute any more."""
        found = [(number, self.parties.job(number)) for number in self.jobs(*UNDER_WAY)]
        return [
            number for number, job in found
            if job.finalised < len(job.segments) and not job.live_games[job.finalised]
            and self.world.clock > job.segments[job.finalised].window_end
        ]  # fmt: skip

    def creditors(self) -> list[str]:
        """Contracts that owe something."""
        return [contract for contract, ledger in self.world.models.items() if any(ledger.credits.values())]
