"""Puts the contracts on a chain, and finds them again: an ``AddressBook`` says where they are and with which parameters."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from eth_abi.exceptions import DecodingError
from web3 import Web3

from bisection.errors import ChainMismatch, TransactionFailed, UsageError
from contracts.bindings import DisputeGame, Referee
from contracts.build import Artifact, artifact
from contracts.contract import Sender
from contracts.economics import GWEI, delivery_bond, game_bond
from contracts.registry import Delivery, TaskRegistry
from contracts.sender import Call, TransactionSender
from contracts.values import plain

__all__ = ["PEAK_FEE", "AddressBook", "Deployment", "Parameters", "attach", "deploy"]

PEAK_FEE = 50 * GWEI  # wei per gas, of a busy Ethereum
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Parameters:
    """What a deployment fixes for all its jobs and games.

    burn_share        of a slashed stake, in basis points: nobody gets it
    reward_share      of a slashed stake, in basis points: what the challenger gets; the requester gets the rest
    bond              in wei: more than a whole game costs the trainer in gas
    trainer_clock     the trainer's time for all its moves in one game, in seconds
    challenger_clock  the challenger's, in seconds
    delivery_bond     in wei: more than an answer to a demand for a leaf costs the trainer in gas
    answer_period     the time for such an answer, in seconds
    """

    burn_share: int = 2_000
    reward_share: int = 4_000
    bond: int = game_bond(PEAK_FEE)
    trainer_clock: int = 2 * DAY
    challenger_clock: int = 2 * DAY
    delivery_bond: int = delivery_bond(PEAK_FEE)
    answer_period: int = DAY

    def __post_init__(self) -> None:
        if self.burn_share < 0 or self.reward_share < 0 or self.burn_share + self.reward_share > 10_000:
            raise UsageError(
                f"a burn share of {self.burn_share} and a reward share of {self.reward_share} basis points are not parts of 10,000"
            )
        if self.bond < 1 or self.delivery_bond < 1:
            raise UsageError("a bond is at least 1 wei")
        if not all(1 <= seconds < 2**31 for seconds in (self.trainer_clock, self.challenger_clock)):
            raise UsageError("a clock holds at least 1 second and less than 2^31")
        if not 1 <= self.answer_period < 2**32:
            raise UsageError("the clock of an answer holds at least 1 second and less than 2^32")


@dataclass(frozen=True)
class AddressBook:
    """Where a deployment is: its chain, the addresses, and ``block``, before which there are no events of it."""

    chain_id: int
    registry: str
    game: str
    referee: str
    delivery: str
    block: int
    parameters: Parameters

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> AddressBook:
        """The address book that lies at ``path``. Raises UsageError when there is none."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls(**(document | {"parameters": Parameters(**document["parameters"])}))
        except OSError as error:
            raise UsageError(
                f"the address book {path} cannot be read: {error.strerror}; `refstep chain deploy` writes one"
            ) from None
        except (ValueError, TypeError, KeyError):
            raise UsageError(
                f"{path} is no address book; its fields are {', '.join(field.name for field in fields(cls))}"
            ) from None


@dataclass(frozen=True)
class Deployment:
    """The contracts of an address book, ready to use."""

    book: AddressBook
    registry: TaskRegistry
    game: DisputeGame
    referee: Referee
    delivery: Delivery


def deploy(
    sender: TransactionSender,
    parameters: Parameters | None = None,
    referee: Artifact | None = None,
    game: Artifact | None = None,
) -> AddressBook:
    """Put all contracts on the sender's chain. ``referee`` and ``game`` stand in for the real ones in tests."""
    parameters = parameters or Parameters()
    first = sender.web3.eth.block_number + 1
    judge = _create(sender, referee or artifact("Referee"))
    registry = _create(sender, artifact("TaskRegistry"), parameters.burn_share, parameters.reward_share)
    judged = game or artifact("DisputeGame")
    clocks = (parameters.trainer_clock, parameters.challenger_clock)
    arbiter = _create(sender, judged, registry, judge, parameters.bond, *clocks)
    delivery = _create(sender, artifact("Delivery"), registry, parameters.delivery_bond, parameters.answer_period)
    owned = TaskRegistry(sender.web3, registry, sender)
    owned.add_game(arbiter)
    owned.set_delivery(delivery)
    return AddressBook(sender.web3.eth.chain_id, registry, arbiter, judge, delivery, first, parameters)


def _create(sender: TransactionSender, built: Artifact, *args: Any) -> str:
    factory = sender.web3.eth.contract(abi=built.abi, bytecode=built.bytecode)
    data = factory.constructor(*plain(args)).data_in_transaction
    receipt = sender.send(Call(f"deploy {built.name}", None, bytes.fromhex(data[2:])))
    address = receipt["contractAddress"]
    assert address is not None
    return str(address)


def attach(web3: Web3, book: AddressBook, sender: Sender | None = None) -> Deployment:
    """The contracts of ``book``; with ``sender`` they can be acted on.

    Raises ChainMismatch when ``web3`` is another chain, or when what lives at the addresses is not this deployment.
    """
    found = web3.eth.chain_id
    if found != book.chain_id:
        raise ChainMismatch(f"the address book is for chain {book.chain_id}, the node is on chain {found}; change one of them")
    for address in (book.registry, book.game, book.referee, book.delivery):
        if not web3.eth.get_code(Web3.to_checksum_address(address)):
            raise ChainMismatch(f"there is no contract at {address}; the address book is of another chain or of one since reset")
    registry, game = TaskRegistry(web3, book.registry, sender), DisputeGame(web3, book.game, sender)
    delivery = Delivery(web3, book.delivery, sender)
    stated = (book.delivery, book.registry, book.registry, book.referee, book.parameters)
    try:
        parameters = Parameters(*registry.shares(), game.bond, *game.clocks, delivery.bond, delivery.answer_period)
        actual = (registry.delivery(), game.registry(), delivery.registry(), game.referee(), parameters)
    except (TransactionFailed, DecodingError, UsageError):
        actual = None  # other contracts altogether
    if actual != stated:
        raise ChainMismatch("the contracts are joined otherwise than the address book says; it belongs to another deployment")
    return Deployment(book, registry, game, Referee(web3, book.referee, sender), delivery)
