"""A contract at an address: its functions called, described and sent by name, bytes and dataclasses in and out.

Functions that change something go through a sender. ``call`` describes such a transaction without sending it, ``simulate`` says
what it would return.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol, cast

from eth_typing import ABIEvent, ABIFunction
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types
from web3 import Web3
from web3.types import BlockIdentifier, TxReceipt

from bisection.errors import UsageError
from contracts.build import artifact
from contracts.jobs import NATIVE
from contracts.sender import Call, simulate
from contracts.values import plain

__all__ = ["Contract", "Ledger", "Sender"]


@dataclass(frozen=True)
class _Function:
    """A function of a contract: its selector, and the types of its arguments and results."""

    selector: bytes
    inputs: list[str]
    outputs: list[str]


@cache
def _functions(contract: str) -> dict[str, _Function]:
    entries = [cast(ABIFunction, entry) for entry in artifact(contract).abi if entry["type"] == "function"]
    return {
        entry["name"]: _Function(function_abi_to_4byte_selector(entry), get_abi_input_types(entry), get_abi_output_types(entry))
        for entry in entries
    }


@cache
def _topic(contract: str, event: str) -> bytes:
    (entry,) = (cast(ABIEvent, entry) for entry in artifact(contract).abi if entry["type"] == "event" and entry["name"] == event)
    return event_abi_to_log_topic(entry)


class Sender(Protocol):
    """Who sends transactions: a TransactionSender, or what stands in for one."""

    @property
    def address(self) -> str:
        """The account that sends them."""

    def send(self, call: Call) -> TxReceipt:
        """The receipt of ``call``. Raises TransactionFailed if it reverts."""


class Contract:
    """A contract at an address. Without a sender it can only be looked at."""

    NAME: ClassVar[str]

    def __init__(self, web3: Web3, address: str, sender: Sender | None = None) -> None:
        self.web3 = web3
        self.address = Web3.to_checksum_address(address)
        self.sender = sender

    @property
    def account(self) -> str:
        """The account that acts here. Raises UsageError where there is no sender."""
        return self._acting("acting").address

    def _acting(self, what: str) -> Sender:
        if self.sender is None:
            raise UsageError(f"{what} needs a key, and this {self.NAME} has none; give it a sender")
        return self.sender

    def call(self, name: str, *args: Any, value: int = 0) -> Call:
        """The transaction that calls function ``name``, with ``value`` in wei."""
        function = _functions(self.NAME)[name]
        return Call(name, self.address, function.selector + self.web3.codec.encode(function.inputs, plain(args)), value)

    def simulate(self, name: str, *args: Any, account: str | None = None, value: int = 0, block: BlockIdentifier = "latest") -> Any:
        """What function ``name`` would return to ``account``, or to anybody, after ``block``.

        Raises TransactionFailed if it would revert.
        """
        returned = simulate(self.web3, self.call(name, *args, value=value), account, block)
        results = self.web3.codec.decode(_functions(self.NAME)[name].outputs, returned)
        return results[0] if len(results) == 1 else results

    def send(self, name: str, *args: Any, value: int = 0) -> TxReceipt:
        """The receipt of a transaction that calls function ``name``. Raises TransactionFailed if it reverts."""
        return self._acting(name).send(self.call(name, *args, value=value))

    def number(self, receipt: TxReceipt, event: str) -> int:
        """The number that ``event`` gives to what was opened: its first indexed argument."""
        topic = _topic(self.NAME, event)
        (log,) = (log for log in receipt["logs"] if log["address"] == self.address and log["topics"][0] == topic)
        return int.from_bytes(log["topics"][1], "big")


class Ledger(Contract):
    """What every contract has that holds money. The token at the zero address is ether."""

    def credit(self, account: str, token: str = NATIVE) -> int:
        """What ``account`` can withdraw of a token, in its smallest units (wei)."""
        return int(self.simulate("credit", token, account))

    def withdraw(self, token: str = NATIVE) -> TxReceipt:
        """Have all that the sender is owed of a token paid out."""
        return self.send("withdraw", token)
