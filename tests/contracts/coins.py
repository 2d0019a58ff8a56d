"""Tokens to play with: they behave as they are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from web3 import Web3

from contracts.contract import Contract
from contracts.sender import Call
from contracts.token import Token
from tests.contracts.stage import Actor, Stage

PURSE = 10**24


class Coin(Contract):
    """A token whose owner is nobody; the deployer tells it how to behave."""

    NAME = "token_mock"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.chain.web3, stage.create(stage.deployer, self.NAME), stage.deployer.sender)

    def balance(self, account: str) -> int:
        """What an account has."""
        return int(self.simulate("balanceOf", account))

    def fund(self, actor: Actor, spender: str) -> None:
        """Give an actor plenty, which ``spender`` may take."""
        self.send("mint", actor.address, PURSE)
        Token(self.web3, self.address, actor.sender).allow(actor.address, Web3.to_checksum_address(spender), PURSE)

    @contextmanager
    def calling(self, call: Call) -> Iterator[None]:
        """Every transfer makes ``call`` first, as the token. It need not succeed."""
        self.send("call_back", call.to, call.data)
        yield
        self.send("call_back", "0x" + 40 * "0", b"")


class SilentCoin(Coin):
    """A token that returns nothing, and changes an allowance only from or to zero."""

    NAME = "silent_token_mock"
