"""The state machine: everybody does everything in any order, and after every act the contracts are where docs/protocol.md has them.

A rule lets one party act. What it does, of all that makes sense for it now, and about what, follows from one drawn number, so that
every example is short and repeatable. In the end everybody who is left does what anyone may, until nothing is under way.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bisection.game import Timeout
from contracts.jobs import JobStatus
from tests.protocol.acts import ACTS, Acts
from tests.protocol.deployed import Deployed
from tests.protocol.sights import UNDER_WAY

__all__ = ["Protocol"]

DAY = 24 * 60 * 60
SEEDS = st.integers(0, 2**24)


class Protocol(RuleBasedStateMachine):
    """Requesters, trainers, challengers, anybody, a miner and the owner."""

    def __init__(self, chain: Deployed, tally: Counter[str]) -> None:
        super().__init__()
        self.acts = Acts(chain, tally)
        self.parties, self.world, self.tally = self.acts.parties, self.acts.world, tally
        self.world.tell = note
        self.agreed = False

    @initialize(
        seed=SEEDS,
        who=st.sampled_from(["honest", "liar", "liar"]),
        segments=st.integers(0, 3),
        never=st.sets(st.sampled_from(sorted(act.name for act in ACTS)), max_size=8),
    )
    def begin(self, seed: int, who: str, segments: int, never: set[str]) -> None:
        """A job that somebody has begun to work on; some acts will never happen in this history."""
        self.acts.never = never
        random = Random(seed)
        self.acts.open_job(random)
        for _ in range(2):
            if self.acts.jobs(JobStatus.OPEN):
                self.parties.claim(1, who, random)
                self.parties.pass_time(1)
        for _ in range(segments):
            if self.acts.training(who):
                self.parties.post(1)

    @rule(seed=SEEDS)
    def somebody_acts(self, seed: int) -> None:
        self.agreed = False
        self.acts.one_of(seed)

    @invariant()
    def the_contracts_are_where_the_model_is(self) -> None:
        self.agreed = False
        self.world.check()
        self.agreed = True

    def teardown(self) -> None:
        try:
            if self.agreed:  # else the history has failed already
                self.settle()
                self.world.check()
                self.nobody_honest_has_lost()
        finally:
            self.world.close()

    def settle(self) -> None:
        """Everything ends, with nobody doing more than anybody may, and everything is paid out."""
        self.tally["histories"] += 1
        for _ in range(60):
            self.bring_about_ends()
            if self.parties.over():
                break
            self.parties.pass_time(14 * DAY if self.world.calendar.paused else max(5_001, self.longest_silence() + 1))
        assert self.parties.over(), "everything ends"
        self.count_ends()
        accounts, chain = self.world.chain.accounts.values(), self.world.chain
        for contract, ledger in self.world.models.items():
            for token, account in [key for key, amount in ledger.credits.items() if amount]:
                if account in accounts:
                    assert self.world.act(self.world.name(account), contract, "withdraw", token)
                else:
                    assert self.world.act("anyone", contract, "burn", token)
            for token in chain.tokens:
                assert chain.balance(token, chain.addresses[contract]) == 0, "nothing is left behind"

    def longest_silence(self) -> int:
        """For how many seconds somebody can still leave a game without a move; a pause adds to that."""
        return max((self.world.games.left(number) for number in self.acts.disputed()), default=0)

    def count_ends(self) -> None:
        """Ends that no event tells of."""
        for number, job in self.world.registry.jobs.items():
            execution = self.parties.attempts[number, job.attempt].execution if job.status == JobStatus.COMPLETED else None
            work = self.parties.works[number]
            done = sum(steps for _, steps in work.segments[: job.finalised])
            self.tally["a lie has become final"] += job.state != work.honest.root(done) and job.finalised > 0
            self.tally["completed after a conviction"] += execution is not None and job.attempt > 1
            self.tally["a model of a model"] += execution is not None and job.parent > 0

    def bring_about_ends(self) -> None:
        """What anyone may do, and the requester's right to cancel."""
        for number in self.acts.jobs(JobStatus.OPEN):
            self.world.act("requester", "TaskRegistry", "cancel", number)
        for number in [n for n, game in self.world.games.games.items() if game.live]:
            if not self.world.act("anyone", "DisputeGame", "reclaim", number):
                self.world.move("anyone", number, Timeout())
        for number in self.acts.jobs(*UNDER_WAY, JobStatus.COMPLETED):
            for name in ("expire", "finalise", "release"):
                self.world.act("anyone", "TaskRegistry", name, number)
        for number in [n for n, demand in self.world.delivery.demands.items() if demand.open]:
            for name in ("give_up", "reclaim"):
                self.world.act("anyone", "Delivery", name, number)

    def nobody_honest_has_lost(self) -> None:
        """A trainer and a challenger that do what the solver says, and whoever does nothing, have at least what they began with."""
        for who in ("honest", "watcher", "anyone", "owner"):
            now, before = self.world.wealth(who), self.world.purses[who]
            assert all(now[token] >= before[token] for token in now), f"{who} has lost money"
