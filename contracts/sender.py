"""Sends transactions and sees them through: explicit nonces, estimated gas, fees that rise until a block takes them.

The sender knows no contract. A ``Call`` says what is to be done; ``simulate`` asks a node what that would do, and
``TransactionSender.send`` does it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import Nonce, TxParams, TxReceipt, Wei

from bisection.errors import TransactionFailed, UnavailableError

__all__ = ["Call", "Intent", "Sent", "TransactionSender", "simulate"]

T = TypeVar("T")

BUMP_PERCENT = 125  # nodes ask of a replacement at least 110
STRANGER_POLLS = 5  # a node may count a transaction shortly before it can show its receipt

# What nodes say, in lower case, of a transaction that is not to be given up for it.
TAKEN = ("already known", "already imported", "known transaction", "nonce too low", "invalid transaction nonce")
UNDERPRICED = ("underpriced", "fee too low")


@dataclass(frozen=True)
class Call:
    """A transaction yet to be sent: a name for people, the contract (None deploys one), its input, and the value in wei."""

    name: str
    to: ChecksumAddress | None
    data: bytes
    value: int = 0


@dataclass(frozen=True)
class Intent:
    """What is about to be broadcast, for a journal."""

    call: Call
    nonce: int
    transaction: bytes  # its hash


@dataclass(frozen=True)
class Sent:
    """A mined transaction: what it cost (``fee`` in wei) and how often it was broadcast."""

    name: str
    transaction: bytes  # its hash
    nonce: int
    block: int
    gas_used: int
    fee: int
    broadcasts: int


@dataclass
class _Delivery:
    """A call on its way: its place in the account's order, what it bids for gas, and the hashes under which it was broadcast."""

    call: Call
    nonce: int
    gas: int
    tip: int
    cap: int
    hashes: list[HexBytes] = field(default_factory=list)


def simulate(web3: Web3, call: Call, account: str | None = None) -> bytes:
    """What ``call`` would return to ``account``, or to anybody. Raises TransactionFailed with the reason if it would revert."""
    try:
        return bytes(web3.eth.call(_draft(call, account)))
    except Web3Exception as error:
        raise TransactionFailed(f"{call.name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """The reason in what a node says of a refused call, like "game: wrong bond"."""
    answer = getattr(error, "rpc_response", None) or {}
    message = str(answer.get("error", {}).get("message") or getattr(error, "message", None) or error)
    return message.rpartition("execution reverted")[2].strip(": '\"") or message


def _draft(call: Call, account: str | None) -> TxParams:
    draft: TxParams = {"data": HexBytes(call.data), "value": Wei(call.value)}
    if account is not None:
        draft["from"] = Web3.to_checksum_address(account)
    if call.to is not None:
        draft["to"] = call.to
    return draft


class TransactionSender:
    """Sends the transactions of one account, one after the other.

    No other process may use the account at the same time: the sender notices, and refuses to go on. ``journal`` is called
    before every broadcast, and what it raises keeps the transaction from being sent. Safe to call from several threads.

    confirmations   how many blocks must hold a transaction, its own included
    gas_margin      what the estimated gas is multiplied with
    resend_after    seconds without a receipt after which the transaction is sent again with higher fees
    max_broadcasts  how often that is done
    poll            seconds between looks for a receipt
    retries         how often an unreachable node is asked again, after ``backoff`` seconds and then after twice as long each time
    """

    def __init__(
        self,
        web3: Web3,
        account: LocalAccount,
        *,
        confirmations: int = 1,
        gas_margin: float = 1.25,
        resend_after: float = 60.0,
        max_broadcasts: int = 10,
        poll: float = 0.5,
        retries: int = 6,
        backoff: float = 0.5,
        journal: Callable[[Intent], None] | None = None,
    ) -> None:
        self.web3 = web3
        self.sent: list[Sent] = []
        self._account = account
        self._confirmations = confirmations
        self._gas_margin = gas_margin
        self._resend_after = resend_after
        self._max_broadcasts = max_broadcasts
        self._poll = poll
        self._retries = retries
        self._backoff = backoff
        self._journal = journal
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"TransactionSender({self.address})"

    @property
    def address(self) -> ChecksumAddress:
        """The account's address."""
        return self._account.address

    def balance(self) -> int:
        """What the account holds, in wei."""
        return self._ask(lambda: self.web3.eth.get_balance(self.address))

    def send(self, call: Call) -> TxReceipt:
        """The receipt of ``call``, once it is mined and confirmed.

        Raises TransactionFailed with the revert reason when it would fail (then nothing was sent), failed, or found no place in a
        block, and UnavailableError when the node stays out of reach.
        """
        with self._lock:
            delivery = self._prepare(call)
            while True:
                receipt = self._await_receipt(delivery) if self._broadcast(delivery) else None
                if receipt is not None:
                    return self._finish(delivery, receipt)
                if len(delivery.hashes) >= self._max_broadcasts:
                    raise TransactionFailed(
                        f"{call.name}: no block took it in {len(delivery.hashes)} broadcasts; look at the node and the fees"
                    )
                tip, cap = self._fees()
                delivery.tip = max(tip, delivery.tip * BUMP_PERCENT // 100 + 1)
                delivery.cap = max(cap, delivery.cap * BUMP_PERCENT // 100 + 1)

    def _ask(self, request: Callable[[], T]) -> T:
        """The answer of a node that may be out of reach for a while."""
        for attempt in range(self._retries):
            try:
                return request()
            except UnavailableError:
                time.sleep(self._backoff * 2**attempt)
        return request()

    def _prepare(self, call: Call) -> _Delivery:
        try:
            gas = self._ask(lambda: self.web3.eth.estimate_gas(_draft(call, self.address)))
        except Web3Exception as error:
            raise TransactionFailed(f"{call.name}: {_reason(error)}") from None
        # Asked for every time: after a reorganisation it can be lower than what was sent.
        nonce = self._ask(lambda: self.web3.eth.get_transaction_count(self.address, "pending"))
        limit = self._ask(lambda: self.web3.eth.get_block("latest"))["gasLimit"]
        return _Delivery(call, nonce, min(int(gas * self._gas_margin), limit), *self._fees())

    def _fees(self) -> tuple[int, int]:
        """(tip, cap) in wei per gas: room for the base fee to double."""
        tip = self._ask(lambda: self.web3.eth.max_priority_fee)
        return tip, 2 * self._ask(lambda: self.web3.eth.get_block("latest"))["baseFeePerGas"] + tip

    def _broadcast(self, delivery: _Delivery) -> bool:
        """Hand the transaction to the node. False when the node wants higher fees at once."""
        draft = _draft(delivery.call, self.address)
        draft["chainId"] = self._ask(lambda: self.web3.eth.chain_id)
        draft["nonce"] = Nonce(delivery.nonce)
        draft["gas"] = delivery.gas
        draft["maxPriorityFeePerGas"] = Wei(delivery.tip)
        draft["maxFeePerGas"] = Wei(delivery.cap)
        signed = self._account.sign_transaction(cast(dict[str, Any], draft))
        if self._journal is not None:
            self._journal(Intent(delivery.call, delivery.nonce, bytes(signed.hash)))
        delivery.hashes.append(signed.hash)
        try:
            self._ask(lambda: self.web3.eth.send_raw_transaction(signed.raw_transaction))
        except Web3RPCError as error:
            message = str(error).lower()
            if any(phrase in message for phrase in UNDERPRICED):
                return False
            # An earlier broadcast may still be mined, whatever the node has against this one.
            if len(delivery.hashes) == 1 and not any(phrase in message for phrase in TAKEN):
                raise TransactionFailed(f"{delivery.call.name}: {_reason(error)}") from None
        return True

    def _await_receipt(self, delivery: _Delivery) -> TxReceipt | None:
        """The confirmed receipt of one of the broadcasts; None when none is in a block for too long."""
        deadline = time.monotonic() + self._resend_after
        strangers = 0
        while True:
            # The head first: a receipt seen later, so many blocks below it, is that deep for certain.
            head = self._ask(lambda: self.web3.eth.block_number)
            count = self._ask(lambda: self.web3.eth.get_transaction_count(self.address, "latest"))
            receipt = self._receipt(delivery)
            if receipt is not None:
                if head - receipt["blockNumber"] + 1 >= self._confirmations:
                    return receipt
                deadline = time.monotonic() + self._resend_after
            elif time.monotonic() > deadline:
                return None
            strangers = strangers + 1 if receipt is None and count > delivery.nonce else 0
            if strangers == STRANGER_POLLS:
                raise TransactionFailed(f"{delivery.call.name}: another process uses the key of {self.address}; stop one of them")
            time.sleep(self._poll)

    def _receipt(self, delivery: _Delivery) -> TxReceipt | None:
        for transaction in delivery.hashes:
            try:
                return self._ask(lambda which=transaction: self.web3.eth.get_transaction_receipt(which))  # type: ignore[misc]
            except TransactionNotFound:
                continue
        return None

    def _finish(self, delivery: _Delivery, receipt: TxReceipt) -> TxReceipt:
        call, gas, block = delivery.call, receipt["gasUsed"], receipt["blockNumber"]
        fee = gas * receipt["effectiveGasPrice"]
        self.sent.append(Sent(call.name, bytes(receipt["transactionHash"]), delivery.nonce, block, gas, fee, len(delivery.hashes)))
        if receipt["status"] == 1:
            return receipt
        try:
            # The transaction changed nothing, so that its block shows the state that refused it.
            self._ask(lambda: self.web3.eth.call(_draft(call, self.address), block))
        except Web3Exception as error:
            raise TransactionFailed(f"{call.name}: {_reason(error)}") from None
        raise TransactionFailed(f"{call.name}: it reverted when it was mined, for a reason that the node cannot tell any more")
