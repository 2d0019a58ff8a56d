"""Deployments can be saved, found again, and are not taken for others."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bisection.errors import ChainMismatch, UsageError
from contracts.build import artifact, names
from contracts.deploy import AddressBook, Parameters, attach, deploy
from sims.chain.evm import RevmChain

PARAMETERS = Parameters(burn_share=1, reward_share=2, bond=3, trainer_clock=4, challenger_clock=5, delivery_bond=6, answer_period=7)
SIZE_LIMIT = 24_576


@pytest.fixture(scope="module")
def chain() -> RevmChain:
    return RevmChain()


@pytest.fixture(scope="module")
def book(chain: RevmChain) -> AddressBook:
    return deploy(chain.senders[0], PARAMETERS)


def test_a_deployment_is_ready_to_use(chain: RevmChain, book: AddressBook) -> None:
    deployment = attach(chain.web3, book)
    registry, game, delivery = deployment.registry, deployment.game, deployment.delivery
    assert registry.has_game(game.address) and game.address == book.game
    assert registry.delivery() == delivery.address == book.delivery
    assert game.registry() == delivery.registry() == registry.address == book.registry
    assert game.referee() == deployment.referee.address == book.referee
    assert (registry.shares(), game.bond, game.clocks) == ((1, 2), 3, (4, 5))
    assert (delivery.bond, delivery.answer_period) == (6, 7)
    assert registry.owner() == chain.senders[0].address
    assert (registry.job_count(), game.game_count(), delivery.simulate("demand_count"), book.block) == (0, 0, 0, 1)


def test_a_deployment_without_parameters_has_the_usual_ones(chain: RevmChain) -> None:
    book = deploy(chain.senders[0])
    assert book.parameters == Parameters()
    attach(chain.web3, book)


def test_without_a_sender_nothing_can_be_changed(chain: RevmChain, book: AddressBook) -> None:
    with pytest.raises(UsageError, match="needs a key"):
        attach(chain.web3, book).registry.finalise(1)


def test_an_address_book_survives_its_file(book: AddressBook, tmp_path: Path) -> None:
    book.save(tmp_path / "book.json")
    assert AddressBook.load(tmp_path / "book.json") == book


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"chain_id": 1, "parameters": {}}', '{"parameters": {"bond": "x"}}', '{"parameters": {"bonds": 1}}'],
)
def test_another_file_is_no_address_book(tmp_path: Path, content: str) -> None:
    (tmp_path / "book.json").write_text(content)
    with pytest.raises(UsageError, match="no address book"):
        AddressBook.load(tmp_path / "book.json")
    with pytest.raises(UsageError, match="cannot be read"):
        AddressBook.load(tmp_path / "missing.json")


def test_another_chain_is_refused(chain: RevmChain, book: AddressBook) -> None:
    with pytest.raises(ChainMismatch, match="for chain 5, the node is on chain 31337"):
        attach(chain.web3, replace(book, chain_id=5))


@pytest.mark.parametrize("name", ["registry", "game", "referee", "delivery"])
def test_an_empty_address_is_refused(chain: RevmChain, book: AddressBook, name: str) -> None:
    with pytest.raises(ChainMismatch, match="no contract at 0x0000000000000000000000000000000000000007"):
        attach(chain.web3, replace(book, **{name: "0x" + 39 * "0" + "7"}))


def test_contracts_of_different_deployments_do_not_mix(chain: RevmChain, book: AddressBook) -> None:
    other = deploy(chain.senders[0], PARAMETERS)
    for name in ("registry", "game", "referee", "delivery"):
        with pytest.raises(ChainMismatch, match="joined otherwise"):
            attach(chain.web3, replace(book, **{name: getattr(other, name)}))
    for name in asdict(PARAMETERS):
        with pytest.raises(ChainMismatch, match="joined otherwise"):
            attach(chain.web3, replace(book, parameters=replace(PARAMETERS, **{name: 9})))


def test_contracts_of_another_kind_are_refused(chain: RevmChain, book: AddressBook) -> None:
    with pytest.raises(ChainMismatch, match="joined otherwise"):
        attach(chain.web3, replace(book, registry=book.game, game=book.registry))
    with pytest.raises(ChainMismatch, match="joined otherwise"):
        attach(chain.web3, replace(book, delivery=book.referee))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"burn_share": -1}, "not parts of 10,000"),
        ({"reward_share": -1}, "not parts of 10,000"),
        ({"burn_share": 6_001, "reward_share": 4_000}, "not parts of 10,000"),
        ({"bond": 0}, "bond"),
        ({"delivery_bond": 0}, "bond"),
        ({"trainer_clock": 0}, "clock"),
        ({"trainer_clock": 2**31}, "clock"),
        ({"challenger_clock": 0}, "clock"),
        ({"challenger_clock": 2**31}, "clock"),
        ({"answer_period": 0}, "clock"),
        ({"answer_period": 2**32}, "clock"),
    ],
)
def test_parameters_out_of_bounds_are_refused(change: dict[str, int], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        replace(Parameters(), **change)


def test_parameters_at_their_bounds_make_a_deployment(chain: RevmChain) -> None:
    longest, answer = 2**31 - 1, 2**32 - 1
    for parameters in (Parameters(10_000, 0, 1, 1, 1, 1, 1), Parameters(0, 10_000, 2**96, longest, longest, 2**96, answer)):
        attach(chain.web3, deploy(chain.senders[0], parameters))


@pytest.mark.parametrize("name", names())
def test_the_contracts_fit_on_chain(name: str) -> None:
    assert artifact(name).runtime_size < SIZE_LIMIT
