"""Jobs that pay in a token: a trainer node takes those that it was told to, where the registry may take the stake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from web3 import Web3

from contracts.build import artifact
from contracts.jobs import JobStatus
from contracts.sender import Call
from contracts.token import Token
from tests.contracts.coins import Coin
from tests.support.market import BOUNTY, TERMS, Diary, Market
from trainer.node import TrainerPolicy


@pytest.fixture(scope="module")
def chain_of_tests() -> Market:
    return Market()


@pytest.fixture
def market(chain_of_tests: Market) -> Iterator[Market]:
    with chain_of_tests.rehearsal() as market:
        yield market


@pytest.fixture
def coin(market: Market) -> Token:
    """A token of which requester and trainer have plenty."""
    requester = market.senders["requester"]
    built = artifact(Coin.NAME)
    receipt = requester.send(Call("deploy", None, built.bytecode))
    token = Token(market.chain.web3, str(receipt["contractAddress"]), requester)
    factory = market.chain.web3.eth.contract(abi=built.abi)
    for role in ("requester", "trainer"):
        data = factory.encode_abi("mint", [market.address(role), 10 * BOUNTY + 10 * TERMS.stake])
        requester.send(Call("mint", token.address, bytes.fromhex(data[2:])))
    token.allow(market.address("requester"), market.book.registry, BOUNTY)
    return token


def allow(market: Market, coin: Token, amount: int) -> None:
    """The trainer lets the registry take an amount."""
    trainer = Token(market.chain.web3, coin.address, market.senders["trainer"])
    trainer.allow(market.address("trainer"), market.book.registry, amount)


def test_a_job_in_a_token_is_trained_and_paid_in_it(market: Market, coin: Token, tmp_path: Path) -> None:
    job, before = market.open_job(tmp_path / "material", token=coin.address), coin.balance(market.address("trainer"))
    allow(market, coin, TERMS.stake)
    policy = TrainerPolicy(tokens=frozenset({coin.address}))
    with market.trainer(tmp_path / "trainer", policy=policy) as trainer:
        market.finish(trainer)
        market.settle(trainer)
    assert market.job(job).status == JobStatus.COMPLETED
    assert coin.balance(market.address("trainer")) == before + BOUNTY
    assert coin.balance(market.book.registry) == 0


def test_a_stake_that_may_not_be_taken_is_waited_for(market: Market, coin: Token, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", token=coin.address), Diary()
    allow(market, coin, TERMS.stake - 1)
    policy = TrainerPolicy(tokens=frozenset({coin.address}))
    with market.trainer(tmp_path / "trainer", policy=policy, log=diary) as trainer:
        market.until(lambda: bool(diary.of("failed")), trainer)
        assert "refstep chain approve" in diary.of("failed")[0]["reason"]
        assert market.sent("trainer") == ["approve"]
        allow(market, coin, TERMS.stake)
        market.until(lambda: market.job(job).status == JobStatus.VERIFICATION, trainer)


def test_a_token_that_nobody_named_is_refused(market: Market, coin: Token, tmp_path: Path) -> None:
    diary = Diary()
    market.open_job(tmp_path / "material", token=coin.address)
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.settle(trainer)
    assert "not in tokens" in diary.of("job refused")[0]["reason"]
    assert Web3.is_checksum_address(coin.address)
