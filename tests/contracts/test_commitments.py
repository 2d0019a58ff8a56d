"""Commit and reveal: nobody takes a job by copying what it sees (docs/protocol.md, "Claiming")."""

from __future__ import annotations

import pytest

from contracts.events import Committed
from contracts.jobs import JobStatus, claim_commitment
from tests.contracts.stage import SALT, TERMS, Actor, Stage, TrainerRun, digest, refused

RUN = TrainerRun()
COMMIT_SECONDS = 600


@pytest.fixture
def stage(scripted: Stage) -> Stage:
    return scripted


def commit(actor: Actor, job: int, salt: bytes = SALT) -> None:
    actor.registry.commit(claim_commitment(actor.address, job, salt))


def claim(stage: Stage, actor: Actor, job: int, salt: bytes = SALT) -> None:
    actor.registry.claim(job, "", stage.registry.job(job), salt)


def simulated_claim(actor: Actor, job: int) -> None:
    """The claim in the latest block, whatever its number and time."""
    offer = actor.registry.job(job).offer
    actor.registry.simulate("claim", job, offer, SALT, "", account=actor.address, value=TERMS.stake)


def test_the_commitment_is_what_the_registry_says(stage: Stage) -> None:
    for salt in (SALT, bytes(32)):
        for account in stage.accounts:
            assert stage.registry.simulate("claim_commitment", account, 7, salt) == claim_commitment(account, 7, salt)


def test_a_commitment_tells_of_itself_and_only_of_its_account(stage: Stage) -> None:
    commitment = claim_commitment(stage.trainer.address, 1, SALT)
    (told,) = stage.events(stage.trainer.registry.commit(commitment))
    assert isinstance(told, Committed)
    assert (told.commitment, told.account) == (commitment, stage.trainer.address)


def test_a_contract_wallets_commitments_are_its_own(stage: Stage) -> None:
    wallet, commitment = stage.wallet(stage.trainer), digest("commitment")
    commits = stage.registry.call("commit", commitment)
    (told,) = stage.events(wallet.does(commits))
    assert isinstance(told, Committed)
    assert told.account == wallet.address
    with refused("commitments: already made"):
        wallet.does(commits)
    stage.trainer.registry.commit(commitment)


def test_a_claim_is_revealed_in_a_later_block(stage: Stage) -> None:
    job = stage.opened(RUN)
    commit(stage.trainer, job)
    with refused("commitments: made in this block"):
        simulated_claim(stage.trainer, job)
    claim(stage, stage.trainer, job)
    assert stage.registry.job(job).trainer == stage.trainer.address


def test_a_commitment_can_be_revealed_up_to_its_last_second(stage: Stage) -> None:
    job = stage.opened(RUN)
    commit(stage.trainer, job)
    made = stage.now()
    stage.opened(RUN)  # another block
    stage.at(made + COMMIT_SECONDS)
    simulated_claim(stage.trainer, job)
    stage.at(made + COMMIT_SECONDS + 1)
    with refused("commitments: expired"):
        simulated_claim(stage.trainer, job)


def test_an_expired_commitment_can_be_made_again_and_a_live_one_cannot(stage: Stage) -> None:
    job = stage.opened(RUN)
    commit(stage.trainer, job)
    made = stage.now()
    commitment = claim_commitment(stage.trainer.address, job, SALT)
    stage.at(made + COMMIT_SECONDS)
    with refused("commitments: already made"):
        stage.registry.simulate("commit", commitment, account=stage.trainer.address)
    stage.at(made + COMMIT_SECONDS + 1)
    commit(stage.trainer, job)
    claim(stage, stage.trainer, job)


def test_a_commitment_is_used_up_by_its_claim(stage: Stage) -> None:
    job = stage.opened(RUN, stage.terms(attempts=2))
    commit(stage.trainer, job)
    claim(stage, stage.trainer, job)
    stage.chain.advance(TERMS.segment_period + 1)
    stage.stranger.registry.expire(job)
    assert stage.registry.job(job).status == JobStatus.OPEN
    with refused("commitments: none made"):
        claim(stage, stage.trainer, job)
    commit(stage.trainer, job)
    claim(stage, stage.trainer, job)


def test_a_refused_claim_uses_nothing_up(stage: Stage) -> None:
    job = stage.opened(RUN)
    commit(stage.trainer, job)
    with refused("ledger: wrong value"):
        stage.trainer.registry.send("claim", job, stage.registry.job(job).offer, SALT, "", value=TERMS.stake - 1)
    claim(stage, stage.trainer, job)


@pytest.mark.parametrize("stake", [0, TERMS.stake - 1, TERMS.stake + 1])
def test_a_claim_brings_exactly_the_stake(stage: Stage, stake: int) -> None:
    job = stage.opened(RUN)
    commit(stage.trainer, job)
    with refused("ledger: wrong value"):
        stage.trainer.registry.send("claim", job, stage.registry.job(job).offer, SALT, "", value=stake)


def test_a_commitment_names_its_account_job_and_salt(stage: Stage) -> None:
    job, other = stage.opened(RUN), stage.opened(RUN)
    commit(stage.trainer, job)
    for actor, of, salt in ((stage.watcher, job, SALT), (stage.trainer, other, SALT), (stage.trainer, job, digest("other"))):
        with refused("commitments: none made"):
            claim(stage, actor, of, salt)
    claim(stage, stage.trainer, job)


def test_whoever_sees_a_claim_cannot_get_before_it(stage: Stage) -> None:
    """The watcher sees the trainer's claim in the mempool, and sends its own into an earlier place of the same block."""
    job = stage.opened(RUN)
    commit(stage.trainer, job)
    with refused("commitments: none made"):
        claim(stage, stage.watcher, job)
    commit(stage.watcher, job)
    with refused("commitments: made in this block"):
        simulated_claim(stage.watcher, job)
    claim(stage, stage.trainer, job)
    with refused("registry: job not open"):
        claim(stage, stage.watcher, job)


def test_whoever_copies_a_commitment_neither_gains_nor_hinders(stage: Stage) -> None:
    job = stage.opened(RUN)
    commitment = claim_commitment(stage.trainer.address, job, SALT)
    stage.watcher.registry.commit(commitment)
    with refused("commitments: none made"):
        claim(stage, stage.trainer, job)  # the copy is not its own
    stage.trainer.registry.commit(commitment)
    with refused("commitments: none made"):
        claim(stage, stage.watcher, job)
    claim(stage, stage.trainer, job)
    assert stage.registry.job(job).trainer == stage.trainer.address


def test_a_job_has_one_trainer(stage: Stage) -> None:
    job = stage.opened(RUN)
    for actor in (stage.trainer, stage.watcher):
        commit(actor, job)
    claim(stage, stage.trainer, job)
    with refused("registry: job not open"):
        claim(stage, stage.watcher, job)


# A job that names its trainer


def test_a_named_trainer_claims_without_a_commitment(stage: Stage) -> None:
    job = stage.opened(RUN, stage.terms(trainer=stage.trainer.address))
    stage.trainer.registry.claim(job, "", stage.registry.job(job))
    assert stage.registry.job(job).trainer == stage.trainer.address


def test_nobody_else_claims_a_job_that_names_its_trainer(stage: Stage) -> None:
    job = stage.opened(RUN, stage.terms(trainer=stage.trainer.address))
    commit(stage.watcher, job)
    for actor in (stage.watcher, stage.requester, stage.deployer):
        with refused("registry: the job names another trainer"):
            claim(stage, actor, job)
    assert stage.registry.job(job).status == JobStatus.OPEN


def test_the_named_trainer_may_try_again_and_still_nobody_else(stage: Stage) -> None:
    job = stage.opened(RUN, stage.terms(trainer=stage.trainer.address, attempts=2))
    claim(stage, stage.trainer, job)
    stage.chain.advance(TERMS.segment_period + 1)
    stage.stranger.registry.expire(job)
    commit(stage.watcher, job)
    with refused("registry: the job names another trainer"):
        claim(stage, stage.watcher, job)
    claim(stage, stage.trainer, job)
    assert stage.registry.job(job).attempt == 2
