"""The simulated chain: what goes into a block and in which order, what a reorganisation changes, what gas and time are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from contracts.client import local_chain
from contracts.deploy import Parameters, attach, deploy
from contracts.jobs import Terms, claim_commitment
from contracts.sender import Call, TransactionSender
from sims.chain.runs import work
from sims.chain.world import FUNDS, Builder, Reorg, Transaction, View, World, shuffled

PARAMETERS = Parameters(bond=10**17)
SALT = bytes(range(32))


def tx(sender: str, fee: int, number: int = 0) -> Transaction:
    return Transaction(sender, Call("nothing", None, b""), fee, number)


def pay(world: World, sender: str, to: str, value: int) -> Transaction:
    """A transfer. Contracts refuse it."""
    world.account(sender)
    recipient = world.deployment.registry.address if to == "registry" else world.account(to)
    return Transaction(sender, Call("pay", recipient, b"", value), 1)


@dataclass
class Payer:
    """Hands in what it is told to, each at its time."""

    plan: dict[int, list[Transaction]]
    asked: list[int] = field(default_factory=list)

    def act(self, view: View) -> Iterable[Transaction]:
        self.asked.append(view.now)
        return [tx for time in sorted(self.plan) if time <= view.now for tx in self.plan.pop(time)]

    def due(self) -> int | None:
        return min(self.plan, default=None)


# Order


def test_whoever_bids_more_comes_first_and_an_account_keeps_its_order() -> None:
    pool = [tx("a", 1, 1), tx("b", 5, 2), tx("a", 9, 3), tx("c", 5, 4)]
    assert [tx.number for tx in Builder().pick(pool, 12)] == [2, 4, 1, 3]


def test_who_is_favoured_comes_before_who_bids_more() -> None:
    pool = [tx("a", 9, 1), tx("b", 1, 2)]
    assert [tx.number for tx in Builder(favoured=("b",)).pick(pool, 12)] == [2, 1]


def test_censorship_lasts_as_long_as_its_budget_and_costs_nothing_while_there_is_nothing_to_censor() -> None:
    builder = Builder(censored=("victim",), budget=36)
    assert builder.pick([tx("a", 1, 1)], 1_000) and builder.spent == 0
    blocks = [len(builder.pick([tx("victim", 1, 1)], 12)) for _ in range(4)]
    assert blocks == [0, 0, 0, 1] and builder.spent == 36


def test_censorship_in_slices_lets_a_block_through_after_each() -> None:
    builder = Builder(censored=("victim",), budget=60, slices=24)
    blocks = [len(builder.pick([tx("victim", 1, 1)], 12)) for _ in range(8)]
    assert blocks == [0, 0, 1, 0, 0, 1, 0, 1]


def test_another_order_keeps_that_of_each_account() -> None:
    pool = [tx(name, 1, number) for number, name in enumerate("aabbabccab")]
    mixed = shuffled(pool, np.random.default_rng(1))
    assert mixed != pool and sorted(tx.number for tx in mixed) == list(range(10))
    for name in "abc":
        own = [tx.number for tx in mixed if tx.sender == name]
        assert own == sorted(own)


# Blocks and time


def test_blocks_come_when_there_is_something_to_do() -> None:
    world = World(PARAMETERS)
    start = world.now
    payer = Payer({start: [pay(world, "a", "b", 5)], start + 1_000: [pay(world, "a", "b", 7)]})
    while world.step([payer]):
        pass
    assert [tx.receipt.time - start for tx in world.mined if tx.receipt] == [12, 1_020]
    assert [time - start for time in payer.asked] == [0, 12, 1_008, 1_020]
    assert world.balance(world.account("b")) == FUNDS + 12


def test_what_is_refused_or_not_covered_changes_nothing_and_is_told() -> None:
    world = World(PARAMETERS)
    payer = Payer({world.now: [pay(world, "a", "registry", 1), pay(world, "a", "b", 2 * FUNDS)]})
    world.step([payer])
    first, second = [tx.receipt for tx in world.mined]
    assert first is not None and second is not None
    assert not first.ok and first.gas > 21_000 and second.reason == "no funds"
    assert world.balance(world.account("a")) == FUNDS


def test_what_is_left_out_of_a_full_block_comes_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sims.chain.world.BLOCK_GAS", 30_000)
    world = World(PARAMETERS)
    payer = Payer({world.now: [pay(world, "a", "b", 1) for _ in range(5)]})
    while world.step([payer]):
        pass
    assert [len(block.transactions) for block in world.provider.made] == [2, 2, 1]


def test_worlds_do_not_see_each_other() -> None:
    first, second = World(PARAMETERS), World(PARAMETERS)
    first.step([Payer({first.now: [pay(first, "a", "b", 5)]})])
    assert first.balance(first.account("b")) == FUNDS + 5 and second.balance(second.account("b")) == FUNDS


def test_gas_is_that_of_separate_transactions() -> None:
    """As eth-tester has it, from the offer to the second segment."""
    job = work("counting", 200, 8, 4)
    chain = local_chain()
    senders = [TransactionSender(chain.web3, account, poll=0.0) for account in chain.accounts[:3]]
    book = deploy(senders[0], PARAMETERS)
    real = [attach(chain.web3, book, sender).registry for sender in senders]
    world = World(PARAMETERS)
    terms = Terms(stake=2 * 10**18, game=world.deployment.game.address, segment_period=20_000, challenge_window=5_000)

    def calls(registry: Any, trainer: str, game: Any) -> Iterable[tuple[int, Call]]:
        yield 1, registry.call("open_job", job.spec, replace(terms, game=game), 10**18, 0, "", value=10**18)
        yield 2, registry.call("commit", claim_commitment(trainer, 1, SALT))
        yield 2, registry.call("claim", 1, registry.job(1).offer, SALT, "here", value=terms.stake)
        for span in job.spans(job.honest):
            yield 2, registry.call("post_segment", 1, *span.posting())

    found, expected = [], []
    for who, call in calls(real[1], senders[2].address, book.game):
        expected.append(senders[who].send(call)["gasUsed"])
    for who, call in calls(world.deployment.registry, world.account("2"), world.book.game):
        world.account(str(who))
        world.pool.append(Transaction(str(who), call, 1))
        world.step(())
        receipt = list(world.mined)[-1].receipt
        assert receipt is not None and receipt.ok
        found.append(receipt.gas)
    assert all(abs(a - b) <= 24 for a, b in zip(found, expected, strict=True)), "but for zero bytes in addresses"


# Reorganisations


def test_a_reorganisation_makes_the_last_blocks_anew_in_another_order() -> None:
    world = World(PARAMETERS, reorgs=[Reorg(4, 3)])
    start = world.now
    plan = {start + 12 * k: [pay(world, name, "c", 1) for name in ("a", "b")] for k in range(6)}
    hashes = []
    payer = Payer(plan)
    while world.step([payer]):
        hashes.append([block.hash for block in world.provider.made])
    assert hashes[3][:1] == hashes[2][:1] and hashes[3][1] != hashes[2][1], "the first block stays"
    numbers = [tx.number for tx in world.mined]
    assert sorted(numbers) == list(range(1, 13)) and numbers != sorted(numbers)
    times = [block.time for block in world.provider.made]
    assert times == sorted(set(times)) and world.balance(world.account("c")) == FUNDS + 12
    assert world.index.branch == 1, "who reads events has noticed"
