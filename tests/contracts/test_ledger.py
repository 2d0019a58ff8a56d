"""Pull payments: who is owed something takes it, once, and nobody can stand in anybody's way."""

from __future__ import annotations

import pytest

from bisection.errors import TransactionFailed
from contracts.bindings import step_commitment
from contracts.events import Burnt, Withdrawn
from contracts.jobs import NATIVE, JobStatus, claim_commitment
from tests.contracts.stage import (
    BOUNTY,
    BURNT,
    PARAMETERS,
    SALT,
    TERMS,
    Actor,
    Stage,
    TrainerRun,
    Wallet,
    element_witness,
    refused,
)

RUN = TrainerRun()


def offer(stage: Stage, wallet: Wallet, bounty: int = BOUNTY) -> int:
    """A job whose requester is a contract wallet."""
    wallet.does(stage.registry.call("open_job", RUN.spec, stage.terms(), bounty, 0, "", value=bounty))
    return stage.registry.job_count()


def claim(stage: Stage, wallet: Wallet, job: int) -> None:
    """Become the trainer as a contract wallet."""
    wallet.does(stage.registry.call("commit", claim_commitment(wallet.address, job, SALT)))
    wallet.does(stage.registry.call("claim", job, stage.registry.job(job).offer, SALT, "", value=TERMS.stake))


def withdraw(ledger: object, wallet: Wallet) -> None:
    wallet.does(ledger.call("withdraw", NATIVE))  # type: ignore[attr-defined]


def wallet_with_bounty(stage: Stage) -> Wallet:
    """A contract wallet that a cancelled job owes its bounty."""
    wallet = stage.wallet(stage.requester)
    wallet.does(stage.registry.call("cancel", offer(stage, wallet)))
    assert stage.registry.credit(wallet.address) == BOUNTY
    return wallet


def test_a_credit_is_paid_out_once_to_the_wei(stage: Stage) -> None:
    stage.requester.registry.cancel(stage.opened(RUN))
    before = stage.requester.sender.balance()
    (withdrawn,) = stage.events(stage.requester.registry.withdraw())
    assert isinstance(withdrawn, Withdrawn)
    assert (withdrawn.token, withdrawn.account, withdrawn.amount) == (NATIVE, stage.requester.address, BOUNTY)
    assert stage.requester.sender.balance() == before + BOUNTY
    assert stage.registry.credit(stage.requester.address) == stage.held() == 0
    with refused("ledger: nothing to withdraw"):
        stage.requester.registry.withdraw()


def test_credits_add_up(stage: Stage) -> None:
    for bounty in (1, 20, 300):
        stage.requester.registry.cancel(stage.opened(RUN, bounty=bounty))
    assert stage.registry.credit(stage.requester.address) == 321


def test_nobody_withdraws_what_another_is_owed(stage: Stage) -> None:
    stage.requester.registry.cancel(stage.opened(RUN))
    for actor in stage.actors:
        ledgers = (actor.registry, actor.game, actor.delivery) if actor is not stage.requester else (actor.game, actor.delivery)
        for ledger in ledgers:
            with refused("ledger: nothing to withdraw"):
                ledger.withdraw()
    stage.requester.registry.withdraw()


def test_what_is_slashed_is_burnt_once_and_by_anybody(stage: Stage) -> None:
    burnt = TERMS.stake * PARAMETERS.burn_share // 10_000
    job = stage.claimed(RUN)
    with refused("ledger: nothing to withdraw"):
        stage.stranger.registry.burn()
    stage.chain.advance(TERMS.segment_period + 1)
    stage.stranger.registry.expire(job)
    assert stage.registry.burnable() == burnt == stage.registry.credit(BURNT)
    (told,) = stage.events(stage.stranger.registry.burn())
    assert isinstance(told, Burnt)
    assert (told.token, told.amount) == (NATIVE, burnt)
    assert (stage.balance(BURNT), stage.registry.burnable()) == (burnt, 0)
    with refused("ledger: nothing to withdraw"):
        stage.stranger.registry.burn()


def test_payments_return_their_amount(stage: Stage) -> None:
    stage.requester.registry.cancel(stage.opened(RUN))
    assert stage.registry.simulate("withdraw", NATIVE, account=stage.requester.address) == BOUNTY
    job = stage.claimed(RUN)
    stage.chain.advance(TERMS.segment_period + 1)
    stage.stranger.registry.expire(job)
    assert stage.registry.simulate("burn", NATIVE) == stage.registry.burnable() > 0


def test_a_contract_wallet_withdraws_what_is_its_own(stage: Stage) -> None:
    wallet = wallet_with_bounty(stage)
    (told,) = stage.events(wallet.does(stage.registry.call("withdraw", NATIVE)))
    assert isinstance(told, Withdrawn)
    assert (told.account, told.amount) == (wallet.address, BOUNTY)


def test_a_refused_payment_stays_owed(stage: Stage) -> None:
    wallet = wallet_with_bounty(stage)
    wallet.send("behave", True, b"")
    with pytest.raises(TransactionFailed, match="ledger: payment refused"):
        withdraw(stage.registry, wallet)
    assert stage.registry.credit(wallet.address) == BOUNTY == stage.held()
    wallet.send("behave", False, b"")
    withdraw(stage.registry, wallet)
    assert stage.balance(wallet.address) == BOUNTY


@pytest.mark.parametrize("name", ["withdraw", "burn", "nothing"])
def test_calling_back_during_a_payment_gains_nothing(stage: Stage, name: str) -> None:
    late = stage.claimed(RUN)
    stage.chain.advance(TERMS.segment_period + 1)
    stage.stranger.registry.expire(late)  # something to burn, and somebody else's money
    held = stage.held()
    wallet = wallet_with_bounty(stage)
    wallet.send("behave", False, stage.registry.call(name, NATIVE).data if name != "nothing" else b"\0")
    withdraw(stage.registry, wallet)
    assert not wallet.simulate("called_back")
    assert (stage.balance(wallet.address), stage.held()) == (BOUNTY, held)


def test_a_call_back_that_moves_no_money_comes_through(stage: Stage) -> None:
    wallet = wallet_with_bounty(stage)
    wallet.send("behave", False, stage.registry.call("commit", SALT).data)
    withdraw(stage.registry, wallet)
    assert wallet.simulate("called_back")


def test_a_loser_that_refuses_money_cannot_stop_its_conviction(stage: Stage) -> None:
    requester, trainer = stage.wallet(stage.requester), stage.wallet(stage.trainer)
    job = offer(stage, requester)
    claim(stage, trainer, job)
    for wallet in (requester, trainer):
        wallet.send("behave", True, b"")
    trainer.does(stage.registry.call("post_segment", job, *RUN.claim(0)))
    game = stage.challenger.opens(job, 0, RUN.opening(0, 1))
    trainer.does(stage.game.call("post_trace", game, stage.game.game(game).step_place, RUN.trace(1).root, b""))
    stage.referee.send("rule", False, 3, 4)
    stage.challenger.game.conclude_element(game, RUN.roots(0, 1), element_witness())
    assert stage.registry.job(job).status == JobStatus.SLASHED
    burnt, reward = (TERMS.stake * share // 10_000 for share in (PARAMETERS.burn_share, PARAMETERS.reward_share))
    assert stage.registry.credit(requester.address) == BOUNTY + TERMS.stake - burnt - reward
    stage.challenger.registry.withdraw()
    stage.challenger.game.withdraw()
    stage.stranger.registry.burn()
    assert stage.held() == BOUNTY + TERMS.stake - burnt - reward


def test_contract_wallets_play_every_part(stage: Stage) -> None:
    requester, trainer, challenger = (stage.wallet(actor) for actor in (stage.requester, stage.trainer, stage.challenger))
    job = offer(stage, requester, bounty=7)
    claim(stage, trainer, job)
    for segment in range(3):
        trainer.does(stage.registry.call("post_segment", job, *RUN.claim(segment)))
    o = RUN.opening(0, 1)
    commitment = step_commitment(challenger.address, job, 0, o.step, SALT)
    challenger.does(stage.game.call("commit", commitment))
    opening = (job, 0, o.step, o.before, o.after, o.proof, SALT)
    challenger.does(stage.game.call("open_step", *opening, value=PARAMETERS.bond))
    game = stage.game.game_count()
    trainer.does(stage.game.call("post_trace", game, stage.game.game(game).step_place, RUN.trace(1).root, b""))
    stage.referee.send("rule", True, 4, 4)
    w = element_witness()
    challenger.does(stage.game.call("conclude_element", game, RUN.roots(0, 1), w.node, w.output, w.position, w.claim, ()))
    stage.chain.advance(TERMS.challenge_window + 1)
    for _ in range(3):
        stage.stranger.registry.finalise(job)
    for ledger in (stage.registry, stage.game):
        withdraw(ledger, trainer)
    assert stage.balance(trainer.address) == TERMS.stake + 7 + PARAMETERS.bond
    assert stage.held() == 0


def test_a_contract_wallet_cancels_between_attempts(stage: Stage) -> None:
    wallet = stage.wallet(stage.requester)
    wallet.does(stage.registry.call("open_job", RUN.spec, stage.terms(attempts=2), BOUNTY, 0, "", value=BOUNTY))
    job = stage.registry.job_count()
    stage.claim(job)
    stage.chain.advance(TERMS.segment_period + 1)
    stage.stranger.registry.expire(job)
    wallet.does(stage.registry.call("cancel", job))
    withdraw(stage.registry, wallet)
    assert stage.balance(wallet.address) == BOUNTY + TERMS.stake - TERMS.stake * PARAMETERS.burn_share // 10_000
    assert stage.held() == stage.registry.burnable()


def test_who_plays_several_parts_is_owed_the_sum(stage: Stage) -> None:
    """A trainer that convicts itself gets its reward and loses what is burnt."""
    everybody: Actor = stage.requester
    job = stage.opened(RUN)
    stage.claim(job, everybody)
    stage.post(job, RUN, 0, everybody)
    game = everybody.opens(job, 0, RUN.opening(0, 1))
    everybody.game.post_trace(game, RUN.trace(1).root)
    stage.referee.send("rule", False, 3, 4)
    everybody.game.conclude_element(game, RUN.roots(0, 1), element_witness())
    burnt = TERMS.stake * PARAMETERS.burn_share // 10_000
    assert stage.registry.credit(everybody.address) == BOUNTY + TERMS.stake - burnt
    assert stage.game.credit(everybody.address) == PARAMETERS.bond
