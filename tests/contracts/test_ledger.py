"""Pull payments: who is owed something takes it, once, and nobody can stand in anybody's way."""

from __future__ import annotations

import pytest
from web3 import Web3

from bisection.errors import TransactionFailed
from contracts.events import Withdrawn
from contracts.jobs import JobStatus, Terms
from tests.contracts.stage import BOUNTY, PARAMETERS, TERMS, Stage, TrainerRun, Wallet, element_witness, refused

RUN = TrainerRun()
WITHDRAW = Web3.keccak(text="withdraw()")[:4]


def wallet_with_bounty(stage: Stage) -> Wallet:
    """A contract wallet that a cancelled job owes its bounty."""
    wallet = stage.wallet(stage.requester)
    wallet.does(stage.registry.call("open_job", RUN.spec, TERMS, "", value=BOUNTY))
    wallet.does(stage.registry.call("cancel", stage.registry.job_count()))
    assert stage.registry.credit(wallet.address) == BOUNTY
    return wallet


def test_a_credit_is_paid_out_once_to_the_wei(stage: Stage) -> None:
    job = stage.opened(RUN)
    stage.requester.registry.cancel(job)
    before = stage.requester.sender.balance()
    receipt = stage.requester.registry.withdraw()
    assert stage.requester.sender.balance() == before + BOUNTY
    (withdrawn,) = stage.events(receipt)
    assert isinstance(withdrawn, Withdrawn)
    assert (withdrawn.account, withdrawn.amount) == (stage.requester.address, BOUNTY)
    assert stage.registry.credit(stage.requester.address) == stage.held() == 0
    with refused("ledger: nothing to withdraw"):
        stage.requester.registry.withdraw()


def test_credits_add_up(stage: Stage) -> None:
    for bounty in (1, 20, 300):
        stage.requester.registry.cancel(stage.opened(RUN, bounty=bounty))
    assert stage.registry.credit(stage.requester.address) == 321


def test_nobody_withdraws_what_another_is_owed(stage: Stage) -> None:
    stage.requester.registry.cancel(stage.opened(RUN))
    for ledger in (stage.stranger.registry, stage.stranger.game):
        with refused("ledger: nothing to withdraw"):
            ledger.withdraw()


def test_a_refused_payment_stays_owed(stage: Stage) -> None:
    wallet = wallet_with_bounty(stage)
    wallet.send("behave", True, b"")
    with pytest.raises(TransactionFailed, match="ledger: payment refused"):
        wallet.does(stage.registry.call("withdraw"))
    assert stage.registry.credit(wallet.address) == BOUNTY == stage.held()
    wallet.send("behave", False, b"")
    wallet.does(stage.registry.call("withdraw"))
    assert stage.balance(wallet.address) == BOUNTY


@pytest.mark.parametrize("call", [WITHDRAW, b""])
def test_calling_back_during_a_payment_gains_nothing(stage: Stage, call: bytes) -> None:
    stage.opened(RUN)  # somebody else's bounty, to be had
    wallet = wallet_with_bounty(stage)
    wallet.send("behave", False, call)
    wallet.does(stage.registry.call("withdraw"))
    assert not wallet.simulate("called_back")
    assert stage.balance(wallet.address) == BOUNTY == stage.balance(stage.book.registry)


def test_a_loser_that_refuses_money_cannot_stop_its_conviction(stage: Stage) -> None:
    requester = stage.wallet(stage.requester)
    requester.does(stage.registry.call("open_job", RUN.spec, TERMS, "", value=BOUNTY))
    requester.send("behave", True, b"")
    job = stage.registry.job_count()
    trainer = stage.wallet(stage.trainer)
    trainer.does(stage.registry.call("claim", job, "", value=TERMS.stake))
    trainer.send("behave", True, b"")
    tree = RUN.histories[0]
    trainer.does(stage.registry.call("post_segment", job, tree.root, tree.prove(0), tree.levels[0][4], tree.prove(4)))
    game = stage.challenger.game.open_step(job, 0, RUN.opening(0, 1))
    trainer.does(stage.game.call("post_trace", game, RUN.trace(1).root))
    stage.referee.send("rule", False, 3, 4)
    stage.challenger.game.conclude_element(game, element_witness())
    assert stage.registry.job(job).status == JobStatus.SLASHED
    assert stage.registry.credit(requester.address) == BOUNTY
    stage.challenger.registry.withdraw()
    stage.challenger.game.withdraw()
    assert stage.held() == BOUNTY


def test_contract_wallets_play_every_part(stage: Stage) -> None:
    requester, trainer, challenger = (stage.wallet(actor) for actor in (stage.requester, stage.trainer, stage.challenger))
    requester.does(stage.registry.call("open_job", RUN.spec, Terms(5, 1_000, 1_000), "", value=7))
    job = stage.registry.job_count()
    trainer.does(stage.registry.call("claim", job, "", value=5))
    for tree in RUN.histories:
        last = tree.count - 1
        trainer.does(stage.registry.call("post_segment", job, tree.root, tree.prove(0), tree.levels[0][last], tree.prove(last)))
    o = RUN.opening(0, 1)
    opening = (job, 0, o.step, o.before, o.before_proof, o.after, o.after_proof)
    challenger.does(stage.game.call("open_step", *opening, value=PARAMETERS.bond))
    game = stage.game.game_count()
    trainer.does(stage.game.call("post_trace", game, RUN.trace(1).root))
    stage.referee.send("rule", True, 4, 4)
    w = element_witness()
    challenger.does(stage.game.call("conclude_element", game, w.node, w.output, w.position, w.claim, ()))
    stage.chain.advance(1_001)
    stage.stranger.registry.finalise(job)
    trainer.does(stage.registry.call("withdraw"))
    trainer.does(stage.game.call("withdraw"))
    assert stage.balance(trainer.address) == 5 + 7 + PARAMETERS.bond
    assert stage.held() == 0
