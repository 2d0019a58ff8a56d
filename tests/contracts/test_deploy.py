"""Deployments can be saved, found again, and are not taken for others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bisection.errors import ChainMismatch, UsageError
from contracts.build import artifact
from contracts.deploy import AddressBook, Parameters, attach, deploy
from tests.contracts.revm import RevmChain

PARAMETERS = Parameters(burn_share=1, bond=2, trainer_clock=3, challenger_clock=4)
SIZE_LIMIT = 24_576


@pytest.fixture(scope="module")
def chain() -> RevmChain:
    return RevmChain()


@pytest.fixture(scope="module")
def book(chain: RevmChain) -> AddressBook:
    return deploy(chain.senders[0], PARAMETERS)


def test_a_deployment_is_ready_to_use(chain: RevmChain, book: AddressBook) -> None:
    deployment = attach(chain.web3, book)
    assert deployment.registry.game() == deployment.game.address == book.game
    assert deployment.game.registry() == deployment.registry.address == book.registry
    assert deployment.game.referee() == deployment.referee.address == book.referee
    assert (deployment.registry.burn_share(), deployment.game.bond, deployment.game.clocks) == (1, 2, (3, 4))
    assert (deployment.registry.job_count(), deployment.game.game_count(), book.block) == (0, 0, 1)


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


@pytest.mark.parametrize("name", ["registry", "game", "referee"])
def test_an_empty_address_is_refused(chain: RevmChain, book: AddressBook, name: str) -> None:
    with pytest.raises(ChainMismatch, match="no contract at 0x0000000000000000000000000000000000000007"):
        attach(chain.web3, replace(book, **{name: "0x" + 39 * "0" + "7"}))


def test_contracts_of_different_deployments_do_not_mix(chain: RevmChain, book: AddressBook) -> None:
    other = deploy(chain.senders[0], PARAMETERS)
    for name in ("registry", "game", "referee"):
        with pytest.raises(ChainMismatch, match="joined otherwise"):
            attach(chain.web3, replace(book, **{name: getattr(other, name)}))
    for name in ("burn_share", "bond", "trainer_clock", "challenger_clock"):
        with pytest.raises(ChainMismatch, match="joined otherwise"):
            attach(chain.web3, replace(book, parameters=replace(PARAMETERS, **{name: 9})))


def test_contracts_of_another_kind_are_refused(chain: RevmChain, book: AddressBook) -> None:
    with pytest.raises(ChainMismatch, match="joined otherwise"):
        attach(chain.web3, replace(book, registry=book.game, game=book.registry))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"burn_share": -1}, "burn share"),
        ({"burn_share": 10_001}, "burn share"),
        ({"bond": 0}, "bond"),
        ({"trainer_clock": 0}, "clock"),
        ({"trainer_clock": 2**32}, "clock"),
        ({"challenger_clock": 0}, "clock"),
        ({"challenger_clock": 2**32}, "clock"),
    ],
)
def test_parameters_out_of_bounds_are_refused(change: dict[str, int], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        replace(Parameters(), **change)


@pytest.mark.parametrize("name", ["TaskRegistry", "DisputeGame"])
def test_the_contracts_fit_on_chain(name: str) -> None:
    assert artifact(name).runtime_size < SIZE_LIMIT
