"""Whatever anybody does in whatever order, the contracts hold exactly what they owe, and in the end everybody is paid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from bisection.descent import owed_bytes
from bisection.errors import TransactionFailed
from contracts.bindings import BLIND, step_commitment
from contracts.jobs import NATIVE, NOBODY, JobStatus, claim_commitment
from tests.contracts.coins import Coin
from tests.contracts.descending import begun
from tests.contracts.stage import BURNT, PARAMETERS, Actor, ModelRun, Stage, element_witness

RUNS = [ModelRun((300, 5), steps=3, segment_length=2, name=name) for name in ("a", "b")]
LAST = 1  # segment
COMPLETED_STATE = 2  # of Boundary.source
CONTRACTS = ("registry", "game", "delivery")
MAX_PAUSE = 14 * 24 * 60 * 60
SECONDS = st.sampled_from([1, 1, 401, PARAMETERS.challenger_clock + 1, PARAMETERS.trainer_clock + 1, 3_000, 20_000])
BOUNTIES = st.sampled_from([0, 1, 9_999, 10**18 + 1])
STAKES = st.sampled_from([1, 3, 10_001, 10**18 + 7])
TOKENS = st.integers(0, 1)
ATTEMPTS = st.integers(1, 3)
PICK = st.integers(0, 5)
TRAINERS = st.sampled_from([2, 2, 4])  # the trainer, and now and then the watcher
VERDICTS = st.sampled_from([None, 0, 1])
CHALLENGERS = st.integers(3, 4)


class Economy(RuleBasedStateMachine):
    """Everybody tries everything; what the contracts refuse changes nothing."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage, self.mark = stage, stage.chain.snapshot()
        self.coin = Coin(stage)
        for actor in stage.actors:
            self.coin.fund(actor, stage.book.registry)
        self.tokens = [NATIVE, self.coin.address]
        self.totals = [self.total(token) for token in self.tokens]
        self.runs: list[ModelRun] = []

    def total(self, token: str) -> int:
        """All there is of a token."""
        return sum(self.balance(account, token) for account in (*self.stage.accounts, *self.stage.addresses, BURNT))

    def balance(self, account: str, token: str) -> int:
        return self.stage.balance(account) if token == NATIVE else self.coin.balance(account)

    def tries(self, actor: Actor, contract: str, name: str, *args: object, value: int = 0) -> None:
        """Send something, which may be refused."""
        try:
            getattr(actor, contract).send(name, *args, value=value)
        except TransactionFailed:
            return

    def job(self, pick: int, *statuses: JobStatus) -> int:
        """A job of one of these statuses, or any where there is none."""
        numbers = range(1, len(self.runs) + 1)
        fitting = [number for number in numbers if self.stage.registry.job(number).status in statuses] or numbers
        return fitting[pick % len(fitting)]

    def game(self, pick: int) -> int:
        """A live game, or any where there is none."""
        numbers = range(1, self.stage.game.game_count() + 1)
        live = [number for number in numbers if self.stage.game.game(number).phase.live] or numbers
        return live[pick % len(live)]

    def games(self) -> bool:
        return self.stage.game.game_count() > 0

    def demands(self) -> int:
        return int(self.stage.delivery.simulate("demand_count"))

    # Jobs

    @initialize(bounty=BOUNTIES, stake=STAKES, token=TOKENS, attempts=ATTEMPTS, share=st.sampled_from([0, 3_333]))
    def begin(self, bounty: int, stake: int, token: int, attempts: int, share: int) -> None:
        self.open_job(RUNS[0], bounty, stake, token, attempts, share, named=False, progress=3)

    @rule(
        run=st.sampled_from(RUNS),
        bounty=BOUNTIES,
        stake=STAKES,
        token=TOKENS,
        attempts=ATTEMPTS,
        share=st.sampled_from([0, 3_333, 10_000]),
        named=st.booleans(),
        progress=st.integers(0, 3),
    )
    def open_job(
        self, run: ModelRun, bounty: int, stake: int, token: int, attempts: int, share: int, named: bool, progress: int
    ) -> None:
        terms = self.stage.terms(
            token=self.tokens[token],
            stake=stake,
            trainer=self.stage.trainer.address if named else NOBODY,
            attempts=attempts,
            segment_period=5_000,
            challenge_window=2_000,
            retained_share=share,
            delivery_period=50_000 * bool(share),
        )
        if self.stage.registry.paused():
            return
        self.stage.requester.registry.open_job(run.spec, terms, "", bounty)
        self.runs.append(run)
        for _ in range(progress):
            self.go_on(len(self.runs) - 1, who=2)

    @rule(pick=PICK, who=TRAINERS)
    def go_on(self, pick: int, who: int) -> None:
        """Claim a job, or post its next segment."""
        job, trainer = self.job(pick, JobStatus.OPEN, JobStatus.TRAINING), self.stage.actors[who]
        view = self.stage.registry.job(job)
        if view.status == JobStatus.OPEN:
            salt = self.stage.salt()
            self.tries(trainer, "registry", "commit", claim_commitment(trainer.address, job, salt))
            self.tries(trainer, "registry", "claim", job, view.offer, salt, "", value=view.terms.value(view.terms.stake))
        else:
            self.tries(trainer, "registry", "post_segment", job, *self.runs[job - 1].claim(min(view.posted, LAST)))

    @rule(pick=PICK, name=st.sampled_from(["cancel", "finalise", "finalise", "expire", "release"]))
    def end_job(self, pick: int, name: str) -> None:
        self.tries(self.stage.requester, "registry", name, self.job(pick))

    @rule(pick=PICK, demands=st.integers(0, 2), answered=st.booleans())
    def complete(self, pick: int, demands: int, answered: bool) -> None:
        """Nobody objects to what is posted; then leaves are demanded."""
        self.stage.chain.advance(2_001)
        job = self.job(pick, JobStatus.TRAINING, JobStatus.VERIFICATION)
        for _ in range(LAST + 1):
            self.tries(self.stage.stranger, "registry", "finalise", job)
        for who in range(3, 3 + demands):
            self.demands_leaf(job, who, 0)
        if answered and demands:
            self.answers(self.demands())

    # Games

    @rule(pick=PICK, segment=st.integers(0, LAST), who=CHALLENGERS, blind=st.booleans(), verdict=VERDICTS)
    def open_game(self, pick: int, segment: int, who: int, blind: bool, verdict: int | None) -> None:
        """Dispute a step; with ``verdict`` it goes on to the end, with what the referee then says."""
        job, challenger = self.job(pick, JobStatus.TRAINING, JobStatus.VERIFICATION), self.stage.actors[who]
        step, salt = BLIND if blind else 0, self.stage.salt()
        self.tries(challenger, "game", "commit", step_commitment(challenger.address, job, segment, step, salt))
        if blind:
            root = self.runs[job - 1].histories[segment].root
            self.tries(challenger, "game", "open_blind", job, segment, root, salt, value=PARAMETERS.bond)
        else:
            o = self.runs[job - 1].opening(segment, 0)
            opening = (o.step, o.before, o.after, o.proof, salt)
            self.tries(challenger, "game", "open_step", job, segment, *opening, value=PARAMETERS.bond)
        if verdict is not None and self.games():
            self.posts_trace(self.stage.game.game_count())
            self.concludes(self.stage.game.game_count(), verdict)

    @precondition(games)
    @rule(pick=PICK)
    def answer_game(self, pick: int) -> None:
        self.posts_trace(self.game(pick))

    def posts_trace(self, game: int) -> None:
        """The trainer posts the trace that it owes, or shows something of the history, which is not what is there."""
        view = self.stage.game.game(game)
        run = self.runs[view.job - 1]
        root = run.roots(view.segment, 0).trace_root
        owner = self.stage.registry.standing(view.job, view.attempt).trainer
        for trainer in (actor for actor in self.stage.actors if actor.address == owner):
            if view.shown:
                self.tries(trainer, "game", "post_trace", game, view.step_place, root, b"")
            else:
                d = begun(view, run.histories[view.segment].root)
                self.tries(trainer, "game", "reveal", game, d.trail, d.picked, bytes(owed_bytes(d)))

    @precondition(games)
    @rule(pick=PICK, correct=st.integers(0, 1))
    def conclude(self, pick: int, correct: int) -> None:
        self.concludes(self.game(pick), correct)

    def concludes(self, game: int, correct: int) -> None:
        """The challenger has an element judged, or refutes what was shown of the history."""
        view, w = self.stage.game.game(game), element_witness()
        run = self.runs[view.job - 1]
        (challenger,) = (actor for actor in self.stage.actors if actor.address == view.challenger)
        if view.shown:
            self.stage.referee.send("rule", correct == 0, 0, correct)
            opened = (run.roots(view.segment, 0), w.node, w.output, w.position, w.claim, w.inputs)
            self.tries(challenger, "game", "conclude_element", game, *opened)
        else:
            d = begun(view, run.histories[view.segment].root)
            self.tries(challenger, "game", "refute", game, d.origin, d.first, d.above, bytes(owed_bytes(d)))

    @precondition(games)
    @rule(pick=PICK, name=st.sampled_from(["timeout", "reclaim", "contend"]))
    def end_game(self, pick: int, name: str) -> None:
        self.tries(self.stage.stranger, "game", name, self.game(pick))

    # Deliveries

    @rule(pick=PICK, who=CHALLENGERS, component=st.integers(0, 1))
    def demand(self, pick: int, who: int, component: int) -> None:
        self.demands_leaf(self.job(pick, JobStatus.COMPLETED), who, component)

    def demands_leaf(self, job: int, who: int, component: int) -> None:
        self.tries(self.stage.actors[who], "delivery", "demand", job, component, value=PARAMETERS.delivery_bond)

    @precondition(demands)
    @rule(pick=PICK)
    def answer(self, pick: int) -> None:
        self.answers(1 + pick % self.demands())

    def answers(self, number: int) -> None:
        try:
            view = self.stage.delivery.demand_of(number)
        except TransactionFailed:
            return
        run = self.runs[view.job - 1]
        size = len(run.content[-1][view.component])
        self.stage.referee.send("join", COMPLETED_STATE, view.component)
        self.stage.referee.send("place", 0, size)
        shown = run.shown(view.component, view.seed % -(-size // 256))
        self.tries(self.stage.trainer, "delivery", "answer", number, *shown)

    @precondition(demands)
    @rule(pick=PICK, name=st.sampled_from(["give_up", "reclaim"]))
    def end_demand(self, pick: int, name: str) -> None:
        self.tries(self.stage.stranger, "delivery", name, 1 + pick % self.demands())

    # Money and time

    @rule(who=st.integers(1, 4), contract=st.sampled_from(CONTRACTS), token=TOKENS)
    def withdraw(self, who: int, contract: str, token: int) -> None:
        self.tries(self.stage.actors[who], contract, "withdraw", self.tokens[token])

    @rule(token=TOKENS)
    def burn(self, token: int) -> None:
        self.tries(self.stage.stranger, "registry", "burn", self.tokens[token])

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: int) -> None:
        self.stage.chain.advance(seconds)

    @rule(seconds=st.sampled_from([1, 1_000, MAX_PAUSE]))
    def pause(self, seconds: int) -> None:
        self.tries(self.stage.deployer, "registry", "pause")
        self.stage.chain.advance(seconds)

    @rule()
    def unpause(self) -> None:
        self.tries(self.stage.deployer, "registry", "unpause")

    @invariant()
    def each_contract_holds_exactly_what_it_owes(self) -> None:
        stage = self.stage
        for token in self.tokens:
            owed = stage.escrow(token) + stage.owed(stage.registry, token=token)
            assert self.balance(stage.book.registry, token) == owed
        games = [stage.game.game(number) for number in range(1, stage.game.game_count() + 1)]
        assert stage.balance(stage.book.game) == PARAMETERS.bond * sum(game.phase.live for game in games) + stage.owed(stage.game)
        jobs = {number: stage.registry.job(number) for number in range(1, len(self.runs) + 1)}
        unanswered = sum(job.open_demands for job in jobs.values())
        assert stage.balance(stage.book.delivery) == PARAMETERS.delivery_bond * unanswered + stage.owed(stage.delivery)
        for number, job in jobs.items():
            live = [game for game in games if (game.job, game.attempt) == (number, job.attempt) and game.phase.live]
            assert job.live_games == (len(live) if job.status.disputable else 0)
            for segment in range(job.posted if job.status.disputable else 0):
                assert stage.registry.segment(number, segment).live_games == sum(game.segment == segment for game in live)

    def teardown(self) -> None:
        try:
            self.settle()
            assert self.stage.held() == 0
            assert self.coin.balance(self.stage.book.registry) == 0
            assert [self.total(token) for token in self.tokens] == self.totals
        finally:
            self.stage.chain.restore(self.mark)

    def settle(self) -> None:
        """Let everything end, with everybody silent."""
        stage, numbers = self.stage, range(1, len(self.runs) + 1)
        stage.chain.advance(2 * MAX_PAUSE)
        for name in ("timeout", "reclaim"):
            for number in range(1, stage.game.game_count() + 1):
                self.tries(stage.stranger, "game", name, number)
        for name in ("give_up", "reclaim"):
            for number in range(1, self.demands() + 1):
                self.tries(stage.stranger, "delivery", name, number)
        for name in ("finalise", "finalise", "expire", "cancel"):
            for job in numbers:
                self.tries(stage.requester, "registry", name, job)
        stage.chain.advance(50_001)
        for job in numbers:
            self.tries(stage.requester, "registry", "release", job)
        for actor in stage.actors:
            for contract in CONTRACTS:
                for token in self.tokens:
                    self.tries(actor, contract, "withdraw", token)
        for token in self.tokens:
            self.tries(stage.stranger, "registry", "burn", token)


def run(stage: Stage, examples: int, steps: int) -> None:
    machine: Callable[[], RuleBasedStateMachine] = lambda: Economy(stage)  # noqa: E731
    limits = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=limits)  # type: ignore[arg-type]


def test_money_is_conserved(theatre: Stage) -> None:
    run(theatre, examples=10, steps=30)


@pytest.mark.deep
def test_money_is_conserved_in_long_histories(theatre: Stage) -> None:
    run(theatre, examples=150, steps=80)
