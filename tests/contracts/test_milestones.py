"""Deadlines and windows of segments, and what is paid for them (docs/protocol.md, "A job")."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contracts.events import JobExpired, SegmentFinalised
from contracts.jobs import JobStatus
from tests.contracts.stage import BOUNTY, PARAMETERS, TERMS, Stage, TrainerRun, refused

RUN = TrainerRun()
BURNT = TERMS.stake * PARAMETERS.burn_share // 10_000
LONG_WINDOW = replace(TERMS, challenge_window=50_000)


@pytest.fixture
def stage(scripted: Stage) -> Stage:
    return scripted


def post(job: int, segment: int) -> tuple[object, ...]:
    return ("post_segment", job, *RUN.claim(segment))


# Deadlines


def test_the_deadline_is_the_last_second_for_a_segment_and_after_it_the_attempt_expires(stage: Stage) -> None:
    job = stage.claimed(RUN)
    for segment in range(3):
        deadline = stage.registry.job(job).deadline
        assert deadline == stage.now() + TERMS.segment_period
        stage.at(deadline)
        stage.registry.simulate(*post(job, segment), account=stage.trainer.address)
        with refused("registry: deadline not passed"):
            stage.registry.simulate("expire", job)
        stage.at(deadline + 1)
        with refused("registry: deadline passed"):
            stage.registry.simulate(*post(job, segment), account=stage.trainer.address)
        stage.registry.simulate("expire", job)
        stage.chain.next_block_at(deadline)
        stage.post(job, RUN, segment)


def test_after_its_last_segment_a_job_has_no_deadline(stage: Stage) -> None:
    job = stage.posted(RUN)
    assert stage.registry.job(job).deadline == 0
    stage.chain.advance(100 * TERMS.segment_period)
    with refused("registry: job not in training"):
        stage.stranger.registry.expire(job)
    stage.stranger.registry.finalise(job)


def test_an_expired_job_costs_the_stake_and_returns_the_bounty(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1)
    stage.chain.advance(TERMS.segment_period + 1)
    expired, _refunded = stage.events(stage.stranger.registry.expire(job))
    assert isinstance(expired, JobExpired)
    assert (expired.trainer, expired.attempt) == (stage.trainer.address, 1)
    assert expired.burnt == BURNT == stage.registry.burnable()
    assert stage.registry.credit(stage.requester.address) == BOUNTY + TERMS.stake - BURNT == stage.held() - BURNT
    assert stage.registry.job(job).status == JobStatus.EXPIRED
    with refused("registry: job not in training"):
        stage.stranger.registry.expire(job)
    with refused("registry: job not in training"):
        stage.post(job, RUN, 1)


def test_an_attempt_does_not_expire_while_a_game_is_live(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1, terms=replace(TERMS, segment_period=100))
    stage.script.open(job, 0)
    stage.chain.advance(101)
    with refused("registry: live games"):
        stage.stranger.registry.expire(job)
    stage.script.close(job, 1, 0)
    stage.stranger.registry.expire(job)


def test_an_open_job_neither_expires_nor_completes(stage: Stage) -> None:
    job = stage.opened(RUN)
    stage.chain.advance(10 * TERMS.segment_period)
    with refused("registry: job not in training"):
        stage.stranger.registry.expire(job)
    with refused("registry: job not under way"):
        stage.stranger.registry.finalise(job)


# Windows


def test_a_segment_is_final_only_after_the_last_second_of_its_window(stage: Stage) -> None:
    job = stage.posted(RUN)
    for segment in range(3):
        end = stage.registry.segment(job, segment).window_end
        stage.at(end)
        with refused("registry: window not over"):
            stage.registry.simulate("finalise", job)
        assert not stage.registry.segment(job, segment).final
        stage.chain.next_block_at(end + 1)
        stage.stranger.registry.finalise(job)
        assert stage.registry.segment(job, segment).final


def test_a_game_is_opened_up_to_the_last_second_of_the_window(stage: Stage) -> None:
    job = stage.posted(RUN, segments=2)
    end = stage.registry.segment(job, 0).window_end
    stage.at(end)
    stage.script.simulate("open", job, 0)
    stage.at(end + 1)
    with refused("registry: window over"):
        stage.script.simulate("open", job, 0)
    stage.script.simulate("open", job, 1)
    with refused("registry: segment not posted"):
        stage.script.simulate("open", job, 2)


def test_segments_become_final_one_after_the_other_while_training_goes_on(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1)
    stage.at(stage.registry.segment(job, 0).window_end + 1)
    stage.stranger.registry.finalise(job)
    assert stage.registry.job(job).status == JobStatus.TRAINING
    with refused("registry: no segment to finalise"):
        stage.stranger.registry.finalise(job)
    stage.post(job, RUN, 1)
    with refused("registry: window not over"):
        stage.stranger.registry.finalise(job)
    view = stage.registry.job(job)
    assert (view.posted, view.finalised, view.paid) == (2, 1, BOUNTY * 4 // 10)


def test_a_live_game_holds_its_segment_and_those_after_it(stage: Stage) -> None:
    job = stage.posted(RUN)
    for _ in range(2):
        stage.script.open(job, 1)
    assert stage.registry.segment(job, 1).live_games == 2 == stage.registry.job(job).live_games
    stage.chain.advance(TERMS.challenge_window + 1)
    stage.stranger.registry.finalise(job)
    for _ in range(2):
        with refused("registry: live games"):
            stage.stranger.registry.finalise(job)
        stage.script.close(job, 1, 1)
    assert stage.registry.segment(job, 1).live_games == 0 == stage.registry.job(job).live_games
    for _ in range(2):
        stage.stranger.registry.finalise(job)
    assert stage.registry.job(job).status == JobStatus.COMPLETED


def test_a_game_on_a_later_segment_does_not_hold_an_earlier_one(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.script.open(job, 2)
    stage.chain.advance(TERMS.challenge_window + 1)
    for _ in range(2):
        stage.stranger.registry.finalise(job)
    with refused("registry: live games"):
        stage.stranger.registry.finalise(job)


def test_a_game_learns_the_attempt_and_the_segment(stage: Stage) -> None:
    job = stage.posted(RUN, segments=2)
    attempt, segment = stage.script.open(job, 1)
    assert (attempt, segment) == (1, replace(stage.registry.segment(job, 1), live_games=0))
    assert (segment.first_step, segment.steps, segment.history_root) == (4, 4, RUN.histories[1].root)


def test_a_completed_job_is_over(stage: Stage) -> None:
    job = stage.completed(RUN)
    for name, reason in (("finalise", "job not under way"), ("expire", "job not in training"), ("release", "nothing retained")):
        with refused(f"registry: {reason}"):
            getattr(stage.stranger.registry, name)(job)
    with refused("registry: job not in dispute"):
        stage.script.open(job, 2)
    with refused("registry: job not in dispute"):
        stage.script.convict(job, 1, stage.challenger.address)
    with refused("registry: job not open"):
        stage.requester.registry.cancel(job)


# Milestones


@cache
def run_of(steps: int, segment_length: int) -> TrainerRun:
    return TrainerRun(steps=steps, segment_length=segment_length, tensors=1, components=1)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    steps=st.integers(1, 12),
    length=st.integers(1, 12),
    bounty=st.integers(0, 50) | st.integers(0, 10**20),
    retained_share=st.integers(0, 10_000),
)
@example(steps=7, length=3, bounty=1, retained_share=0)
@example(steps=3, length=1, bounty=10**18 + 1, retained_share=10_000)
@example(steps=12, length=1, bounty=9_999, retained_share=1)
def test_milestones_add_up_to_the_bounty_less_what_is_retained(
    scripted_theatre: Stage, steps: int, length: int, bounty: int, retained_share: int
) -> None:
    stage, mark = scripted_theatre, scripted_theatre.chain.snapshot()
    try:
        run = run_of(steps, min(length, steps))
        terms = stage.terms(retained_share=retained_share, delivery_period=100 * bool(retained_share))
        retained = bounty * retained_share // 10_000
        job = stage.posted(run, terms=terms, bounty=bounty)
        stage.chain.advance(TERMS.challenge_window + 1)
        done = paid = 0
        for segment in range(run.spec.segments):
            told = stage.events(stage.stranger.registry.finalise(job))[0]
            assert isinstance(told, SegmentFinalised)
            done, paid = done + stage.registry.segment(job, segment).steps, paid + told.milestone
            assert paid == (bounty - retained) * done // steps == stage.registry.job(job).paid
        view = stage.registry.job(job)
        assert (view.status, view.settled, paid) == (JobStatus.COMPLETED, retained == 0, bounty - retained)
        assert stage.registry.credit(stage.trainer.address) == paid + terms.stake
        assert stage.held() == stage.escrow() + stage.owed(stage.registry) == bounty + terms.stake
        if retained:
            stage.chain.advance(101)
            stage.stranger.registry.release(job)
        assert stage.registry.credit(stage.trainer.address) == bounty + terms.stake == stage.held()
    finally:
        stage.chain.restore(mark)


def test_a_milestone_can_be_withdrawn_while_training_goes_on(stage: Stage) -> None:
    job = stage.posted(RUN, segments=2)
    stage.chain.advance(TERMS.challenge_window + 1)
    for _ in range(2):
        stage.stranger.registry.finalise(job)
    stage.trainer.registry.withdraw()
    assert stage.held() == stage.escrow() == BOUNTY - BOUNTY * 8 // 10 + TERMS.stake


# What is retained


RETAINING = replace(TERMS, retained_share=2_000, delivery_period=700)
RETAINED = BOUNTY * 2_000 // 10_000


def test_what_is_retained_is_released_after_the_last_second_of_the_delivery_period(stage: Stage) -> None:
    job = stage.completed(RUN, RETAINING)
    view = stage.registry.job(job)
    assert (view.paid, view.settled, view.delivery_end) == (BOUNTY - RETAINED, False, stage.now() + 700)
    stage.at(view.delivery_end)
    with refused("registry: delivery period not over"):
        stage.registry.simulate("release", job)
    stage.at(view.delivery_end + 1)
    stage.stranger.registry.release(job)
    assert stage.registry.credit(stage.trainer.address) == BOUNTY + TERMS.stake == stage.held()
    assert stage.registry.job(job).settled
    with refused("registry: nothing retained"):
        stage.stranger.registry.release(job)


def test_nothing_is_released_before_completion(stage: Stage) -> None:
    job = stage.posted(RUN, terms=RETAINING)
    with refused("registry: nothing retained"):
        stage.stranger.registry.release(job)


def test_a_share_that_rounds_to_nothing_retains_nothing(stage: Stage) -> None:
    job = stage.completed(RUN, replace(RETAINING, retained_share=1), bounty=9_999)
    view = stage.registry.job(job)
    assert (view.settled, view.paid, view.delivery_end) == (True, 9_999, 0)
