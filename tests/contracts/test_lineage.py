"""Lineage: a job can start where a completed one ended, and a completed one can be cited (docs/protocol.md, "Lineage")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.merkle import Tree
from contracts.events import JobCompleted, JobOpened
from contracts.jobs import JobStatus, Model
from tests.contracts.stage import BOUNTY, TERMS, Stage, TrainerRun, digest, refused

RUN = TrainerRun(steps=4)


class Continuation(TrainerRun):
    """A run of one segment from the final state of another."""

    def __init__(self, parent: TrainerRun) -> None:
        super().__init__(steps=4, name="child")
        self.states[0] = parent.states[-1]
        self.histories = [Tree([state.root for state in self.states])]
        self.spec = replace(self.spec, initial_state=self.states[0].root)


CHILD = Continuation(RUN)


@pytest.fixture
def stage(scripted: Stage) -> Stage:
    return scripted


def test_a_model_says_what_made_it(stage: Stage) -> None:
    job = stage.completed(RUN)
    assert stage.registry.model(job) == Model(
        state=RUN.states[-1].root,
        job_hash=RUN.spec.job_hash,
        program_root=RUN.spec.program_root,
        data_root=RUN.spec.data_root,
        requester=stage.requester.address,
        trainer=stage.trainer.address,
        parent=0,
        completed_at=stage.chain.web3.eth.block_number,
    )


def test_a_model_stays_what_it_is(stage: Stage) -> None:
    job = stage.completed(RUN, replace(TERMS, retained_share=1_000, delivery_period=50))
    model = stage.registry.model(job)
    stage.chain.advance(51)
    stage.stranger.registry.release(job)
    assert stage.registry.model(job) == model


def test_a_job_starts_where_its_parent_ended(stage: Stage) -> None:
    stage.opened(RUN)
    parent = stage.completed(RUN)
    job = stage.opened(CHILD, parent=parent)
    assert stage.registry.job(job).parent == parent
    stage.claim(job)
    stage.post(job, CHILD, 0)
    stage.chain.advance(TERMS.challenge_window + 1)
    completed = stage.events(stage.stranger.registry.finalise(job))[-1]
    assert isinstance(completed, JobCompleted)
    assert (completed.parent, completed.state, completed.job_hash) == (parent, CHILD.states[-1].root, CHILD.spec.job_hash)
    model = stage.registry.model(job)
    assert (model.parent, model.completed_at) == (parent, stage.chain.web3.eth.block_number)
    assert stage.registry.model(parent).parent == 0


def test_the_offer_tells_its_parent(stage: Stage) -> None:
    parent = stage.completed(RUN)
    (opened,) = stage.events(stage.requester.registry.send("open_job", CHILD.spec, stage.terms(), 0, parent, ""))
    assert isinstance(opened, JobOpened)
    assert opened.parent == parent


def test_many_jobs_can_start_from_one_and_anybody_may_offer_them(stage: Stage) -> None:
    parent = stage.completed(RUN)
    jobs = [actor.registry.open_job(CHILD.spec, stage.terms(), "", 0, parent) for actor in stage.actors]
    assert {stage.registry.job(job).parent for job in jobs} == {parent}


@pytest.mark.parametrize("start", [RUN.spec.initial_state, RUN.states[3].root, digest("another"), bytes(32)])
def test_a_parent_that_ends_in_another_state_is_refused(stage: Stage, start: bytes) -> None:
    parent = stage.completed(RUN)
    with refused("registry: parent ends in another state"):
        stage.requester.registry.open_job(replace(CHILD.spec, initial_state=start), stage.terms(), "", 0, parent)
    stage.requester.registry.open_job(replace(CHILD.spec, initial_state=start), stage.terms(), "", 0)


def test_only_a_completed_job_can_be_a_parent_or_a_model(stage: Stage) -> None:
    def refuses(job: int) -> None:
        with refused("registry: parent not completed"):
            stage.opened(CHILD, parent=job)
        with refused("registry: job not completed"):
            stage.registry.model(job)

    job = stage.opened(RUN)
    refuses(job)
    stage.claim(job)
    refuses(job)
    stage.post(job, RUN, 0)
    assert stage.registry.job(job).status == JobStatus.VERIFICATION
    refuses(job)
    stage.chain.advance(TERMS.challenge_window + 1)
    stage.stranger.registry.finalise(job)
    stage.opened(CHILD, parent=job)
    stage.registry.model(job)


def test_a_job_that_failed_is_nobodys_parent(stage: Stage) -> None:
    cancelled, expired, slashed = stage.opened(RUN), stage.claimed(RUN), stage.posted(RUN)
    stage.requester.registry.cancel(cancelled)
    stage.script.convict(slashed, 1, stage.challenger.address)
    stage.chain.advance(TERMS.segment_period + 1)
    stage.stranger.registry.expire(expired)
    for job, status in ((cancelled, JobStatus.CANCELLED), (expired, JobStatus.EXPIRED), (slashed, JobStatus.SLASHED)):
        assert stage.registry.job(job).status == status
        with refused("registry: parent not completed"):
            stage.opened(CHILD, parent=job)


def test_a_parent_must_exist(stage: Stage) -> None:
    stage.completed(RUN)
    for parent in (2, 2**40 + 1, 2**256 - 1):  # the next job, and what would be job 1 if it were cut off
        with refused("registry: unknown job"):
            stage.opened(CHILD, parent=parent)


def test_a_model_of_several_trainers_names_the_last(stage: Stage) -> None:
    run = TrainerRun(steps=8)
    job = stage.posted(run, segments=1, terms=replace(TERMS, attempts=2), bounty=BOUNTY)
    stage.at(stage.registry.segment(job, 0).window_end)
    stage.stranger.registry.finalise(job)
    stage.script.convict(job, 1, stage.challenger.address)
    stage.claim(job, stage.watcher)
    stage.post(job, run, 1, stage.watcher)
    stage.chain.advance(TERMS.challenge_window + 1)
    stage.stranger.registry.finalise(job)
    assert stage.registry.model(job).trainer == stage.watcher.address
