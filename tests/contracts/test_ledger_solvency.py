"""Whatever anybody does in whatever order, the contracts hold exactly what they owe, and in the end everybody is paid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from bisection.errors import TransactionFailed
from contracts.events import JobExpired, JobSlashed, Withdrawn
from contracts.jobs import JobStatus, Terms
from tests.contracts.stage import NOBODY, PARAMETERS, Actor, Stage, TrainerRun, element_witness

RUNS = [TrainerRun(steps=2, segment_length=1, name=name) for name in ("a", "b")]
ESCROWED = {JobStatus.OPEN, JobStatus.TRAINING, JobStatus.VERIFICATION}
STAKED = {JobStatus.TRAINING, JobStatus.VERIFICATION}
SECONDS = st.sampled_from([1, PARAMETERS.challenger_clock + 1, PARAMETERS.trainer_clock + 1, 3_000, 20_000])
BOUNTIES = st.sampled_from([0, 1, 10**18 + 1])
STAKES = st.sampled_from([1, 3, 10_001, 10**18 + 7])
PICK = st.integers(0, 5)
CHALLENGERS = st.integers(3, 4)


class Economy(RuleBasedStateMachine):
    """Everybody tries everything; what the contracts refuse changes nothing."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.mark = stage.chain.snapshot()
        self.ashes = stage.balance(NOBODY)
        self.runs: list[TrainerRun] = []
        self.paid_in = self.withdrawn = self.burnt = 0

    def attempt(self, actor: Actor, contract: str, name: str, *args: object, value: int = 0) -> None:
        """Send something, and keep the books if it succeeds."""
        try:
            receipt = getattr(actor, contract).send(name, *args, value=value)
        except TransactionFailed:
            return
        self.paid_in += value
        for event in self.stage.events(receipt):
            if isinstance(event, Withdrawn):
                self.withdrawn += event.amount
            if isinstance(event, JobExpired | JobSlashed):
                self.burnt += event.burnt

    def job(self, pick: int) -> int:
        return 1 + pick % len(self.runs)

    def game(self, pick: int) -> int:
        return 1 + pick % self.stage.game.game_count()

    def games(self) -> bool:
        return self.stage.game.game_count() > 0

    # Jobs

    @initialize(bounty=BOUNTIES, stake=STAKES)
    def begin(self, bounty: int, stake: int) -> None:
        self.open_job(RUNS[0], bounty, stake, progress=3)

    @rule(run=st.sampled_from(RUNS), bounty=BOUNTIES, stake=STAKES, progress=st.integers(0, 3))
    def open_job(self, run: TrainerRun, bounty: int, stake: int, progress: int) -> None:
        self.attempt(self.stage.requester, "registry", "open_job", run.spec, Terms(stake, 5_000, 2_000), "", value=bounty)
        self.runs.append(run)
        for _ in range(progress):
            self.go_on(len(self.runs) - 1)

    @rule(pick=PICK)
    def go_on(self, pick: int) -> None:
        """Claim a job, or post its next segment."""
        job = self.job(pick)
        view = self.stage.registry.job(job)
        if view.status == JobStatus.OPEN:
            self.attempt(self.stage.trainer, "registry", "claim", job, "", value=view.terms.stake)
        else:
            tree = self.runs[job - 1].histories[min(view.posted, 1)]
            proofs = (tree.root, tree.prove(0), tree.levels[0][1], tree.prove(1))
            self.attempt(self.stage.trainer, "registry", "post_segment", job, *proofs)

    @rule(pick=PICK, name=st.sampled_from(["cancel", "finalise", "expire"]))
    def end_job(self, pick: int, name: str) -> None:
        self.attempt(self.stage.requester, "registry", name, self.job(pick))

    # Games

    @rule(pick=PICK, segment=st.integers(0, 1), who=CHALLENGERS, blind=st.booleans(), answered=st.booleans())
    def open_game(self, pick: int, segment: int, who: int, blind: bool, answered: bool) -> None:
        job, challenger = self.job(pick), self.stage.actors[who]
        o = self.runs[job - 1].opening(segment, 0)
        if blind:
            self.attempt(challenger, "game", "open_blind", job, segment, value=PARAMETERS.bond)
        else:
            opening = (o.step, o.before, o.before_proof, o.after, o.after_proof)
            self.attempt(challenger, "game", "open_step", job, segment, *opening, value=PARAMETERS.bond)
        if answered and self.games():
            self.post_trace(self.stage.game.game_count() - 1)

    @precondition(games)
    @rule(pick=PICK)
    def post_trace(self, pick: int) -> None:
        view = self.stage.game.game(self.game(pick))
        root = self.runs[view.job - 1].trace(view.segment).root
        self.attempt(self.stage.trainer, "game", "post_trace", self.game(pick), root)

    @precondition(games)
    @rule(pick=PICK, correct=st.integers(0, 1))
    def conclude(self, pick: int, correct: int) -> None:
        w, owner = element_witness(), self.stage.game.game(self.game(pick)).challenger
        (challenger,) = (actor for actor in self.stage.actors if actor.address == owner)
        self.stage.referee.send("rule", correct == 0, 0, correct)
        args = (w.node, w.output, w.position, w.claim, w.inputs)
        self.attempt(challenger, "game", "conclude_element", self.game(pick), *args)

    @precondition(games)
    @rule(pick=PICK, name=st.sampled_from(["timeout", "reclaim"]))
    def end_game(self, pick: int, name: str) -> None:
        self.attempt(self.stage.stranger, "game", name, self.game(pick))

    # Money and time

    @rule(who=st.integers(1, 4), contract=st.sampled_from(["registry", "game"]))
    def withdraw(self, who: int, contract: str) -> None:
        self.attempt(self.stage.actors[who], contract, "withdraw")

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: int) -> None:
        self.stage.chain.advance(seconds)

    @invariant()
    def each_contract_holds_exactly_what_it_owes(self) -> None:
        stage = self.stage
        jobs = [stage.registry.job(number) for number in range(1, len(self.runs) + 1)]
        games = [stage.game.game(number) for number in range(1, stage.game.game_count() + 1)]
        escrow = sum(job.bounty for job in jobs if job.status in ESCROWED)
        stakes = sum(job.terms.stake for job in jobs if job.status in STAKED)
        bonds = PARAMETERS.bond * sum(game.phase.live for game in games)
        credits = [sum(contract.credit(actor.address) for actor in stage.actors) for contract in (stage.registry, stage.game)]
        assert stage.balance(stage.book.registry) == escrow + stakes + credits[0]
        assert stage.balance(stage.book.game) == bonds + credits[1]
        assert self.paid_in == self.withdrawn + self.burnt + stage.held()
        assert stage.balance(NOBODY) - self.ashes == self.burnt
        for number, job in enumerate(jobs, 1):
            live = sum(game.job == number and game.phase.live for game in games)
            assert job.live_games == (live if job.status in STAKED else 0)

    def teardown(self) -> None:
        try:
            self.settle()
            assert self.stage.held() == 0
            assert self.paid_in == self.withdrawn + self.burnt
        finally:
            self.stage.chain.restore(self.mark)

    def settle(self) -> None:
        """Let everything end, with everybody silent."""
        self.stage.chain.advance(1_000_000)
        for name in ("timeout", "reclaim"):
            for game in range(1, self.stage.game.game_count() + 1):
                self.attempt(self.stage.stranger, "game", name, game)
        for name in ("cancel", "finalise", "expire"):
            for job in range(1, len(self.runs) + 1):
                self.attempt(self.stage.requester, "registry", name, job)
        for actor in self.stage.actors:
            for contract in ("registry", "game"):
                self.attempt(actor, contract, "withdraw")


def run(stage: Stage, examples: int, steps: int) -> None:
    machine: Callable[[], RuleBasedStateMachine] = lambda: Economy(stage)  # noqa: E731
    limits = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=limits)  # type: ignore[arg-type]


def test_money_is_conserved(theatre: Stage) -> None:
    run(theatre, examples=10, steps=30)


@pytest.mark.deep
def test_money_is_conserved_in_long_histories(theatre: Stage) -> None:
    run(theatre, examples=150, steps=80)
