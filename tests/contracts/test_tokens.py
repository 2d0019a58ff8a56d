"""Tokens: any number beside ether, and whatever one of them does, it does only to those who named it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.errors import TransactionFailed, UsageError
from contracts.jobs import NATIVE, JobStatus, Terms, claim_commitment
from contracts.token import Token
from tests.contracts.coins import PURSE, Coin, SilentCoin
from tests.contracts.stage import BOUNTY, BURNT, PARAMETERS, SALT, TERMS, Stage, TrainerRun, refused

RUN = TrainerRun()


@pytest.fixture
def stage(scripted: Stage) -> Stage:
    return scripted


@pytest.fixture
def coin(stage: Stage) -> Coin:
    """A well-behaved token that everybody has."""
    return funded(Coin(stage), stage)


def funded(coin: Coin, stage: Stage) -> Coin:
    for actor in stage.actors:
        coin.fund(actor, stage.book.registry)
    return coin


def in_tokens(stage: Stage, coin: Coin, **changes: object) -> Terms:
    return stage.terms(token=coin.address, **changes)


def solvent(stage: Stage, coin: Coin, *others: str) -> bool:
    """Whether the registry has exactly what it owes, in ether and in the token."""
    return coin.balance(stage.book.registry) == stage.escrow(coin.address) + stage.owed(
        stage.registry, *others, token=coin.address
    ) and stage.balance(stage.book.registry) == stage.escrow() + stage.owed(stage.registry, *others)


@pytest.mark.parametrize("kind", [Coin, SilentCoin])
def test_a_job_is_paid_in_its_token_to_the_unit(stage: Stage, kind: type[Coin]) -> None:
    coin = funded(kind(stage), stage)
    job = stage.opened(RUN, in_tokens(stage, coin))
    assert coin.balance(stage.requester.address) == PURSE - BOUNTY
    stage.claim(job)
    assert coin.balance(stage.book.registry) == BOUNTY + TERMS.stake
    for segment in range(3):
        stage.post(job, RUN, segment)
    stage.chain.advance(TERMS.challenge_window + 1)
    for _ in range(3):
        stage.stranger.registry.finalise(job)
    stage.trainer.registry.withdraw(coin.address)
    assert coin.balance(stage.trainer.address) == PURSE + BOUNTY
    assert coin.balance(stage.book.registry) == stage.held() == 0


def test_jobs_in_ether_and_in_tokens_do_not_touch_each_other(stage: Stage, coin: Coin) -> None:
    other = funded(Coin(stage), stage)
    jobs = [
        stage.opened(RUN, stage.terms(token=token), bounty=100 + i) for i, token in enumerate((NATIVE, coin.address, other.address))
    ]
    for job in jobs:
        stage.requester.registry.cancel(job)
    credits = [stage.registry.credit(stage.requester.address, token) for token in (NATIVE, coin.address, other.address)]
    assert credits == [100, 101, 102]
    stage.requester.registry.withdraw(coin.address)
    with refused("ledger: nothing to withdraw"):
        stage.requester.registry.withdraw(coin.address)
    assert (stage.held(), coin.balance(stage.book.registry), other.balance(stage.book.registry)) == (100, 0, 102)
    stage.requester.registry.withdraw()
    stage.requester.registry.withdraw(other.address)
    assert (stage.held(), other.balance(stage.book.registry)) == (0, 0)


def test_a_deposit_in_tokens_needs_an_allowance_and_takes_no_ether(stage: Stage) -> None:
    coin = Coin(stage)
    terms = in_tokens(stage, coin)
    coin.send("mint", stage.requester.address, BOUNTY)
    with pytest.raises(TransactionFailed):
        stage.requester.registry.open_job(RUN.spec, terms, "", BOUNTY)
    Token(coin.web3, coin.address, stage.requester.sender).allow(stage.requester.address, stage.book.registry, BOUNTY)
    with refused("ledger: value besides a token"):
        stage.requester.registry.send("open_job", RUN.spec, terms, BOUNTY, 0, "", value=1)
    job = stage.requester.registry.open_job(RUN.spec, terms, "", BOUNTY)
    coin.fund(stage.trainer, stage.book.registry)
    stage.trainer.registry.commit(claim_commitment(stage.trainer.address, job, SALT))
    with refused("ledger: value besides a token"):
        stage.trainer.registry.send("claim", job, stage.registry.job(job).offer, SALT, "", value=TERMS.stake)
    stage.trainer.registry.claim(job, "", stage.registry.job(job), SALT)
    assert coin.balance(stage.book.registry) == BOUNTY + TERMS.stake


def test_an_account_without_code_is_no_token(stage: Stage) -> None:
    for token in (stage.stranger.address, stage.book.game, stage.book.registry):
        with pytest.raises(TransactionFailed):
            stage.requester.registry.open_job(RUN.spec, stage.terms(token=token), "", 0)


def test_a_contract_wallet_pays_with_its_own_tokens(stage: Stage, coin: Coin) -> None:
    wallet = stage.wallet(stage.stranger)
    coin.send("mint", wallet.address, BOUNTY)
    wallet.does(coin.call("approve", stage.book.registry, BOUNTY))
    wallet.does(stage.registry.call("open_job", RUN.spec, in_tokens(stage, coin), BOUNTY, 0, ""))
    assert (coin.balance(wallet.address), coin.balance(stage.book.registry)) == (0, BOUNTY)


def test_a_token_that_delivers_more_is_refused(stage: Stage, coin: Coin) -> None:
    with coin.calling(coin.call("mint", stage.book.registry, 1)), refused("ledger: the token delivers another amount"):
        stage.opened(RUN, in_tokens(stage, coin))
    stage.opened(RUN, in_tokens(stage, coin))


def test_a_token_that_takes_a_fee_is_refused(stage: Stage, coin: Coin) -> None:
    job = stage.opened(RUN, in_tokens(stage, coin))
    coin.send("behave", 1, False)
    with refused("ledger: the token delivers another amount"):
        stage.opened(RUN, in_tokens(stage, coin))
    with refused("ledger: the token delivers another amount"):
        stage.claim(job)
    coin.send("behave", 0, False)
    stage.claim(job)


def test_a_token_that_starts_to_take_a_fee_takes_it_from_the_recipient_alone(stage: Stage, coin: Coin) -> None:
    jobs = [stage.opened(RUN, in_tokens(stage, coin)) for _ in range(2)]
    coin.send("behave", 1, False)
    stage.requester.registry.cancel(jobs[0])
    stage.requester.registry.withdraw(coin.address)
    assert coin.balance(stage.book.registry) == BOUNTY == stage.escrow(coin.address)


def test_a_token_that_returns_false_is_refused_and_its_payments_stay_owed(stage: Stage, coin: Coin) -> None:
    job = stage.opened(RUN, in_tokens(stage, coin))
    stage.requester.registry.cancel(job)
    coin.send("behave", 0, True)
    with refused("ledger: deposit refused"):
        stage.opened(RUN, in_tokens(stage, coin))
    with refused("ledger: payment refused"):
        stage.requester.registry.withdraw(coin.address)
    assert stage.registry.credit(stage.requester.address, coin.address) == BOUNTY
    coin.send("behave", 0, False)
    stage.requester.registry.withdraw(coin.address)
    assert coin.balance(stage.requester.address) == PURSE


@pytest.mark.parametrize("banned", ["requester", "trainer", "challenger", "burnt", "registry"])
def test_an_account_that_the_token_bans_stands_in_nobodys_way(stage: Stage, coin: Coin, banned: str) -> None:
    job = stage.posted(RUN, segments=1, terms=in_tokens(stage, coin))
    stage.script.open(job, 0)
    addresses = {"burnt": BURNT, "registry": stage.book.registry}
    coin.send("ban", addresses.get(banned) or getattr(stage, banned).address, True)
    stage.script.convict(job, 1, stage.challenger.address)
    assert stage.registry.job(job).status == JobStatus.SLASHED
    for name in ("requester", "challenger", "burnt"):
        pay = stage.stranger.registry.burn if name == "burnt" else getattr(stage, name).registry.withdraw
        if banned in (name, "registry"):
            with refused("token: account banned"):
                pay(coin.address)
        else:
            pay(coin.address)
    assert solvent(stage, coin)


def test_what_is_slashed_in_tokens_goes_where_nobody_has_the_key(stage: Stage, coin: Coin) -> None:
    job = stage.posted(RUN, segments=1, terms=in_tokens(stage, coin))
    stage.script.convict(job, 1, stage.challenger.address)
    burnt = TERMS.stake * PARAMETERS.burn_share // 10_000
    assert stage.registry.burnable(coin.address) == burnt
    stage.stranger.registry.burn(coin.address)
    assert (coin.balance(BURNT), stage.registry.burnable(coin.address)) == (burnt, 0)
    with refused("ledger: nothing to withdraw"):
        stage.stranger.registry.burn(coin.address)


# A token that calls back


def test_a_requester_that_cancels_while_the_stake_arrives_does_not_get_the_bounty_twice(stage: Stage, coin: Coin) -> None:
    stage.opened(RUN, in_tokens(stage, coin))  # somebody else's bounty, to be had
    thief = stage.wallet(stage.requester)
    coin.send("mint", thief.address, BOUNTY)
    thief.does(
        Token(coin.web3, coin.address)._call("approve(address,uint256)", ["address", "uint256"], stage.book.registry, BOUNTY)
    )
    thief.does(stage.registry.call("open_job", RUN.spec, in_tokens(stage, coin), BOUNTY, 0, ""))
    job = stage.registry.job_count()
    cancel = thief.call("execute", stage.book.registry, stage.registry.call("cancel", job).data, 0)
    thief.send("hand_over", coin.address)
    with coin.calling(cancel):
        stage.claim(job)
    assert coin.simulate("called_back") == 0
    assert stage.registry.job(job).status == JobStatus.TRAINING
    assert solvent(stage, coin, thief.address)


@pytest.mark.parametrize("name", ["open_job", "claim", "withdraw", "burn"])
@pytest.mark.parametrize("during", ["opening", "claim", "withdrawal"])
def test_a_token_that_calls_back_comes_through_to_nothing_that_moves_money(
    stage: Stage, coin: Coin, name: str, during: str
) -> None:
    slashed = stage.posted(RUN, segments=1, terms=in_tokens(stage, coin))
    stage.script.convict(slashed, 1, coin.address)  # now the token has a credit, and there is something to burn
    job = stage.opened(RUN, in_tokens(stage, coin, trainer=coin.address))
    claimed = stage.opened(RUN, in_tokens(stage, coin))
    args = {
        "open_job": (RUN.spec, stage.terms(), 0, 0, ""),
        "claim": (job, stage.registry.job(job).offer, SALT, ""),
        "withdraw": (coin.address,),
        "burn": (coin.address,),
    }[name]
    with coin.calling(stage.registry.call(name, *args)):
        if during == "opening":
            stage.opened(RUN, in_tokens(stage, coin))
        elif during == "claim":
            stage.claim(claimed)
        else:
            stage.requester.registry.withdraw(coin.address)
    assert coin.simulate("called_back") == 0
    assert solvent(stage, coin, coin.address)


def test_an_attempt_that_ends_while_its_stake_arrives_pays_out_what_arrives(stage: Stage, coin: Coin) -> None:
    job = stage.opened(RUN, in_tokens(stage, coin))
    with coin.calling(stage.script.call("convict", job, 1, stage.challenger.address)):
        stage.claim(job)
    assert coin.simulate("called_back") == 1
    assert stage.registry.job(job).status == JobStatus.SLASHED
    assert solvent(stage, coin)
    for actor in (stage.challenger, stage.requester):
        actor.registry.withdraw(coin.address)
    stage.stranger.registry.burn(coin.address)
    assert coin.balance(stage.book.registry) == 0


def test_between_transfers_a_token_is_an_account_like_any_other(stage: Stage, coin: Coin) -> None:
    """The counterpart: the call that is refused during a deposit is allowed from a transfer that is none."""
    job = stage.posted(RUN, segments=1, terms=in_tokens(stage, coin))
    stage.script.convict(job, 1, coin.address)
    owed = stage.registry.credit(coin.address, coin.address)
    with coin.calling(stage.registry.call("claim_commitment", stage.stranger.address, 1, SALT)):
        stage.opened(RUN, in_tokens(stage, coin))
    assert coin.simulate("called_back") == 1
    with coin.calling(stage.registry.call("burn", NATIVE)):
        coin.send("transfer", stage.stranger.address, 0)
    assert stage.registry.credit(coin.address, coin.address) == owed > 0


# The binding


def test_an_allowance_is_given_once_and_changed_through_zero(stage: Stage) -> None:
    coin = SilentCoin(stage)
    sender, account = stage.requester.sender, stage.requester.address
    token = Token(coin.web3, coin.address, sender)
    sender.sent.clear()
    for amount in (5, 4, 9):
        token.allow(account, stage.book.registry, amount)
        assert token.allowance(account, stage.book.registry) >= amount
    assert sender.sent == ["approve"] * 3  # 5; nothing; 0 and 9


def test_amounts_that_people_write_become_units(stage: Stage, coin: Coin) -> None:
    token = Token(coin.web3, coin.address)
    assert (token.decimals(), token.units(25 * 10**17)) == (6, 2_500_000)
    with pytest.raises(UsageError, match="only 6 decimal places"):
        token.units(10**11)


def test_what_is_no_token_is_not_taken_for_one(stage: Stage) -> None:
    for address in (stage.book.registry, stage.stranger.address):
        with pytest.raises(UsageError, match="no ERC-20 token"):
            Token(stage.chain.web3, address).balance(stage.stranger.address)
    coin = Coin(stage)
    with pytest.raises(UsageError, match="needs a key"):
        Token(coin.web3, coin.address).allow(stage.requester.address, stage.book.registry, 1)


def test_terms_say_what_is_sent_as_value(stage: Stage, coin: Coin) -> None:
    assert stage.terms().value(7) == 7
    assert replace(stage.terms(), token=coin.address).value(7) == 0
