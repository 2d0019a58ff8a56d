"""Attempts: what is final stays, the rest is dropped, and the next trainer goes on from there (docs/protocol.md, "Attempts")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from contracts.events import JobCancelled, JobClaimed, JobExpired, JobRefunded, JobSlashed, SegmentPosted
from contracts.jobs import JobStatus
from tests.contracts.stage import BOUNTY, PARAMETERS, TERMS, Stage, TrainerRun, refused

RUN = TrainerRun(steps=9, segment_length=2)  # 5 segments
OTHER = TrainerRun(steps=9, segment_length=2, name="other")
TWICE = replace(TERMS, attempts=2)
BURNT = TERMS.stake * PARAMETERS.burn_share // 10_000
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000


@pytest.fixture
def stage(scripted: Stage) -> Stage:
    return scripted


@pytest.fixture
def real(theatre: Stage) -> Iterator[Stage]:
    """The deployment with the real game contract, as it was at first."""
    mark = theatre.chain.snapshot()
    yield theatre
    theatre.chain.restore(mark)


def half_final(stage: Stage, terms: object = TWICE) -> int:
    """A job with segments 0 and 1 final, 2 and 3 posted, and a game live on both of these."""
    job = stage.posted(RUN, segments=2, terms=terms)  # type: ignore[arg-type]
    stage.at(stage.registry.segment(job, 1).window_end + 1)
    for segment in (2, 3):
        stage.stranger.registry.finalise(job)
        stage.post(job, RUN, segment)
    for segment in (2, 3):
        stage.script.open(job, segment)
    return job


def convict(stage: Stage, job: int, attempt: int = 1) -> None:
    stage.script.convict(job, attempt, stage.challenger.address)


def finished(stage: Stage, job: int, trainer: object) -> None:
    """Post what is missing and let it all become final."""
    for segment in range(stage.registry.job(job).posted, 5):
        stage.post(job, RUN, segment, trainer)  # type: ignore[arg-type]
    stage.chain.advance(TERMS.challenge_window + 1)
    while stage.registry.job(job).status != JobStatus.COMPLETED:
        stage.stranger.registry.finalise(job)


# The stake


def test_a_conviction_divides_the_stake(stage: Stage) -> None:
    job = half_final(stage)
    (slashed,) = stage.events(stage.script.convict(job, 1, stage.challenger.address))
    assert isinstance(slashed, JobSlashed)
    assert (slashed.job, slashed.trainer, slashed.beneficiary) == (job, stage.trainer.address, stage.challenger.address)
    assert (slashed.attempt, slashed.reward, slashed.burnt) == (1, REWARD, BURNT)
    assert stage.registry.credit(stage.challenger.address) == REWARD
    assert stage.registry.credit(stage.requester.address) == TERMS.stake - REWARD - BURNT
    assert stage.registry.burnable() == BURNT
    assert stage.held() == stage.escrow() + stage.owed(stage.registry)


def test_an_expiry_divides_the_stake_without_a_reward(stage: Stage) -> None:
    job = stage.claimed(RUN, TWICE)
    stage.chain.advance(TERMS.segment_period + 1)
    (expired,) = stage.events(stage.stranger.registry.expire(job))
    assert isinstance(expired, JobExpired)
    assert (expired.trainer, expired.attempt, expired.burnt) == (stage.trainer.address, 1, BURNT)
    assert stage.registry.credit(stage.requester.address) == TERMS.stake - BURNT
    assert stage.held() == stage.escrow() + stage.owed(stage.registry) == BOUNTY + TERMS.stake


def test_one_unit_of_stake_is_nobodys_loss_but_the_trainers(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1, terms=replace(TWICE, stake=1))
    convict(stage, job)
    assert stage.registry.credit(stage.requester.address) == 1
    assert stage.held() == stage.escrow() + stage.owed(stage.registry) == BOUNTY + 1


# What is left of an attempt


def test_a_conviction_keeps_what_is_final_and_drops_the_rest(stage: Stage) -> None:
    job = half_final(stage)
    kept = [stage.registry.segment(job, segment) for segment in (0, 1)]
    convict(stage, job)
    view = stage.registry.job(job)
    assert (view.status, view.attempt, view.posted, view.finalised) == (JobStatus.OPEN, 2, 2, 2)
    assert (view.live_games, view.deadline, int(view.trainer, 16)) == (0, 0, 0)
    assert view.state == RUN.states[4].root
    assert [stage.registry.segment(job, segment) for segment in (0, 1)] == kept
    assert all(segment.final for segment in kept)
    with refused("registry: segment not posted"):
        stage.registry.segment(job, 2)


def test_an_expiry_keeps_what_is_final_and_drops_the_rest(stage: Stage) -> None:
    job = half_final(stage)
    for segment in (2, 3):
        stage.script.close(job, 1, segment)
    stage.at(stage.registry.job(job).deadline + 1)
    assert stage.now() > stage.registry.segment(job, 3).window_end  # nobody has finalised it in time
    stage.stranger.registry.expire(job)
    view = stage.registry.job(job)
    assert (view.status, view.attempt, view.posted, view.state) == (JobStatus.OPEN, 2, 2, RUN.states[4].root)


def test_the_next_trainer_goes_on_from_the_last_final_state(stage: Stage) -> None:
    job = half_final(stage)
    convict(stage, job)
    (claimed,) = stage.events(stage.claim(job, stage.watcher))
    assert isinstance(claimed, JobClaimed)
    assert (claimed.trainer, claimed.attempt, claimed.deadline) == (stage.watcher.address, 2, stage.now() + TERMS.segment_period)
    with refused("registry: not the trainer"):
        stage.post(job, RUN, 2, stage.trainer)
    for run, segment in ((RUN, 0), (RUN, 3), (OTHER, 2)):
        with refused("merkle: proof of another root"):
            stage.post(job, run, segment, stage.watcher)
    (posted,) = stage.events(stage.post(job, RUN, 2, stage.watcher))
    assert isinstance(posted, SegmentPosted)
    assert (posted.segment, posted.attempt, posted.window_end) == (2, 2, stage.now() + TERMS.challenge_window)
    assert stage.registry.segment(job, 2).live_games == 0


def test_each_trainer_is_paid_for_its_own_segments_once(stage: Stage) -> None:
    job = half_final(stage)
    convict(stage, job)
    before = stage.registry.credit(stage.trainer.address)
    assert before == BOUNTY * 4 // 9
    stage.claim(job, stage.watcher)
    finished(stage, job, stage.watcher)
    assert stage.registry.credit(stage.trainer.address) == before
    assert stage.registry.credit(stage.watcher.address) == BOUNTY - before + TERMS.stake
    assert stage.registry.job(job).paid == BOUNTY
    assert stage.held() == stage.owed(stage.registry)


def test_the_requester_gets_what_is_left_after_the_last_attempt(stage: Stage) -> None:
    job = half_final(stage)
    convict(stage, job)
    stage.claim(job, stage.watcher)
    stage.post(job, RUN, 2, stage.watcher)
    slashed, refunded = stage.events(stage.script.convict(job, 2, stage.challenger.address))
    assert isinstance(slashed, JobSlashed) and isinstance(refunded, JobRefunded)
    assert (slashed.trainer, slashed.attempt) == (stage.watcher.address, 2)
    assert refunded.refund == BOUNTY - BOUNTY * 4 // 9
    view = stage.registry.job(job)
    assert (view.status, view.posted, view.finalised) == (JobStatus.SLASHED, 2, 2)
    assert stage.registry.credit(stage.requester.address) == refunded.refund + 2 * (TERMS.stake - REWARD - BURNT)
    assert stage.held() == stage.owed(stage.registry)
    for act in (lambda: stage.claim(job), lambda: stage.requester.registry.cancel(job)):
        with refused("registry: job not open"):
            act()


def test_a_last_attempt_that_expires_is_refunded_too(stage: Stage) -> None:
    job = stage.claimed(RUN)
    stage.chain.advance(TERMS.segment_period + 1)
    expired, refunded = stage.events(stage.stranger.registry.expire(job))
    assert isinstance(expired, JobExpired) and isinstance(refunded, JobRefunded)
    assert refunded.refund == BOUNTY
    assert stage.registry.job(job).status == JobStatus.EXPIRED


def test_a_requester_cancels_between_attempts_and_loses_only_what_is_paid(stage: Stage) -> None:
    job = half_final(stage)
    with refused("registry: job not open"):
        stage.requester.registry.cancel(job)
    convict(stage, job)
    owed = stage.registry.credit(stage.requester.address)
    (cancelled,) = stage.events(stage.requester.registry.cancel(job))
    assert isinstance(cancelled, JobCancelled)
    assert cancelled.refund == BOUNTY - BOUNTY * 4 // 9
    assert stage.registry.credit(stage.requester.address) == owed + cancelled.refund
    assert stage.held() == stage.owed(stage.registry)
    with refused("registry: job not open"):
        stage.claim(job, stage.watcher)


def test_a_job_has_as_many_attempts_as_were_agreed(stage: Stage) -> None:
    job = stage.opened(RUN, replace(TERMS, attempts=255, segment_period=1))
    for attempt in range(1, 256):
        assert (stage.registry.job(job).status, stage.registry.job(job).attempt) == (JobStatus.OPEN, attempt)
        stage.claim(job)
        stage.chain.advance(2)
        stage.stranger.registry.expire(job)
    assert (stage.registry.job(job).status, stage.registry.job(job).attempt) == (JobStatus.EXPIRED, 255)
    assert stage.held() == stage.owed(stage.registry) == BOUNTY + 255 * TERMS.stake


def test_the_same_trainer_may_try_again(stage: Stage) -> None:
    job = half_final(stage)
    convict(stage, job)
    stage.claim(job)
    finished(stage, job, stage.trainer)
    assert stage.registry.credit(stage.trainer.address) == BOUNTY + TERMS.stake


# Games of one attempt and of another


def test_games_belong_to_their_attempt(stage: Stage) -> None:
    job = half_final(stage)
    convict(stage, job)
    for attempt in (1, 2):
        with refused("registry: job not in dispute"):
            stage.script.close(job, attempt, 2)
        with refused("registry: job not in dispute"):
            convict(stage, job, attempt)
    with refused("registry: job not in dispute"):
        stage.script.open(job, 2)
    stage.claim(job, stage.watcher)
    stage.post(job, RUN, 2, stage.watcher)
    attempt, segment = stage.script.open(job, 2)
    assert (attempt, segment.live_games) == (2, 0)
    for name, args in (("close", (2,)), ("convict", (stage.challenger.address,))):
        for wrong in (0, 1, 3):
            with refused("registry: job not in dispute"):
                getattr(stage.script, name)(job, wrong, *args)
    stage.script.close(job, 2, 2)
    convict(stage, job, 2)


def test_a_real_game_ends_an_attempt_and_the_games_beside_it(real: Stage) -> None:
    job = real.posted(RUN, segments=3, terms=TWICE)
    beside = real.watcher.opens(job, 2, RUN.opening(2, 0))
    with refused("game: attempt is not over"):
        real.stranger.game.reclaim(beside)
    real.convicted(job, RUN)
    view = real.registry.job(job)
    assert (view.status, view.attempt, view.posted, view.live_games) == (JobStatus.OPEN, 2, 0, 0)
    real.claim(job)
    for segment in range(3):
        real.post(job, RUN, segment)
    real.stranger.game.reclaim(beside)
    assert (real.registry.job(job).live_games, real.registry.segment(job, 2).live_games) == (0, 0)
    again = real.watcher.opens(job, 2, RUN.opening(2, 0))
    assert (real.game.game(again).attempt, real.registry.segment(job, 2).live_games) == (2, 1)
    assert real.game.credit(real.watcher.address) == PARAMETERS.bond
    real.at(real.registry.segment(job, 1).window_end + 1)
    for _ in range(2):
        real.stranger.registry.finalise(job)
    assert real.registry.credit(real.trainer.address) == BOUNTY * 4 // 9


@pytest.mark.parametrize("paused", [False, True])
def test_a_standing_tells_the_time(stage: Stage, paused: bool) -> None:
    job = stage.opened(RUN, TWICE)
    stage.claim(job)
    stage.chain.advance(1_000)
    stage.deployer.registry.pause()
    stage.chain.advance(1_000)
    if not paused:
        stage.deployer.registry.unpause()
    for attempt in range(3):
        standing = stage.registry.standing(job, attempt)
        assert (standing.live, standing.paused, standing.clock) == (attempt == 1, paused, stage.registry.clock())
        assert standing.trainer == stage.trainer.address


def test_a_standing_says_whether_an_attempt_can_be_disputed(stage: Stage) -> None:
    def live(job: int) -> list[bool]:
        return [stage.registry.standing(job, attempt).live for attempt in range(4)]

    job = stage.opened(RUN, TWICE)
    assert live(job) == [False] * 4
    stage.claim(job)
    assert live(job) == [False, True, False, False]
    stage.post(job, RUN, 0)
    assert stage.registry.standing(job, 1).trainer == stage.trainer.address
    convict(stage, job)
    assert live(job) == [False] * 4
    stage.claim(job, stage.watcher)
    assert live(job) == [False, False, True, False]
    assert stage.registry.standing(job, 2).trainer == stage.watcher.address
    finished(stage, job, stage.watcher)
    assert live(job) == [False] * 4


def test_closing_more_games_than_are_live_is_refused(stage: Stage) -> None:
    job = stage.posted(RUN, segments=2)
    stage.script.open(job, 1)
    with refused("no reason"):
        stage.script.close(job, 1, 0)
    stage.script.close(job, 1, 1)
    with refused("no reason"):
        stage.script.close(job, 1, 1)


def test_one_job_never_pays_for_another(stage: Stage) -> None:
    lost, kept = stage.posted(RUN, segments=1), stage.posted(OTHER)
    convict(stage, lost)
    finished(stage, kept, stage.trainer)
    for actor in (stage.trainer, stage.requester, stage.challenger):
        actor.registry.withdraw()
    stage.stranger.registry.burn()
    assert stage.held() == 0
