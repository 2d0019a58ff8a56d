"""Sends transactions and sees them through: explicit nonces, estimated gas, fees that rise until a block takes them.

The sender knows no contract. A ``Call`` says what is to be done; ``simulate`` asks a node what that would do, and
``TransactionSender`` does it. Any number can be on their way at once: ``submit`` returns as soon as a transaction is broadcast,
``settle`` waits for its receipt, and ``send`` is one after the other.

With a journal nothing is broadcast that is not recorded, a place is never answered in two ways, and what a killed process or a
reorganisation left behind is broadcast again, as the same bytes.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import BlockIdentifier, Nonce, TxParams, TxReceipt, Wei

from bisection.errors import TransactionFailed, UnavailableError
from contracts.client import is_remote
from contracts.journal import Entry, Journal, State, contradiction

__all__ = ["Call", "Pending", "Sent", "TransactionSender", "simulate"]

BUMP_PERCENT = 125  # nodes ask of a replacement at least 110

# What nodes say, in lower case, of a transaction that is not to be given up for it.
TAKEN = ("already known", "alreadyknown", "already imported", "known transaction", "nonce too low", "invalid transaction nonce")
UNDERPRICED = ("underpriced", "fee too low")


@dataclass(frozen=True)
class Call:
    """A transaction yet to be sent: a name for people, the contract (None deploys one), its input, and the value in wei.

    ``place`` names what it answers, such as one state of one game, if that must be answered only once.
    """

    name: str
    to: ChecksumAddress | None
    data: bytes
    value: int = 0
    place: str | None = None

    @property
    def digest(self) -> bytes:
        """The same for all calls that do the same."""
        recipient = b"" if self.to is None else bytes(HexBytes(self.to))
        return bytes(Web3.keccak(bytes([len(recipient)]) + recipient + self.value.to_bytes(32, "big") + self.data))


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


@dataclass(eq=False)
class Pending:
    """A call on its way: its place in the account's order, what it bids for gas, and the hashes under which it was broadcast.

    ``receipt`` or ``failure`` is there once its end is known. The rest is the sender's.
    """

    call: Call
    nonce: int
    gas: int
    tip: int
    cap: int
    hashes: list[HexBytes] = field(default_factory=list)
    receipt: TxReceipt | None = None
    failure: str | None = None
    raw: bytes = b""  # the last one signed
    deadline: float = 0.0  # when it is broadcast again, on the monotonic clock
    seen: bool = False  # in a block, that a reorganisation can still replace
    stuck: bool = False  # broadcast as often as is sensible
    abandoned: bool = False  # nobody waits for it any more
    told: bool = False  # it was mined before, so that its cost is known

    @property
    def over(self) -> bool:
        """Whether its end is known."""
        return self.receipt is not None or self.failure is not None


def simulate(web3: Web3, call: Call, account: str | None = None, block: BlockIdentifier = "latest") -> bytes:
    """What ``call`` would return to ``account``, or to anybody, after ``block``.

    Raises TransactionFailed with the reason if it would revert.
    """
    try:
        return bytes(web3.eth.call(_draft(call, account), block))
    except Web3Exception as error:
        raise TransactionFailed(f"{call.name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """The reason in what a node says of a refused call, like "game: wrong bond"."""
    answer = getattr(error, "rpc_response", None) or {}
    message = str(answer.get("error", {}).get("message") or getattr(error, "message", None) or error)
    return message.rpartition("execution reverted")[2].strip(": '\"") or message


def _underpriced(objection: Web3RPCError) -> bool:
    """Whether the node would take the transaction for higher fees."""
    return any(phrase in str(objection).lower() for phrase in UNDERPRICED)


def _draft(call: Call, account: str | None) -> TxParams:
    draft: TxParams = {"data": HexBytes(call.data), "value": Wei(call.value)}
    if account is not None:
        draft["from"] = Web3.to_checksum_address(account)
    if call.to is not None:
        draft["to"] = call.to
    return draft


def _revived(versions: list[Entry]) -> Pending:
    """What an earlier process, or an earlier branch of the chain, had on its way."""
    last = versions[-1]
    fields = TypedTransaction.from_bytes(HexBytes(last.raw)).as_dict()
    to = None if last.recipient is None else Web3.to_checksum_address(last.recipient)
    call = Call(last.name, to, bytes(HexBytes(fields["data"])), fields["value"], last.place)
    hashes = [HexBytes(version.hash) for version in versions]
    bid = fields["gas"], fields["maxPriorityFeePerGas"], fields["maxFeePerGas"]
    return Pending(call, last.nonce, *bid, hashes, raw=last.raw, abandoned=True)


class TransactionSender:
    """Sends the transactions of one account, any number at once and from any thread.

    No other process may use the account at the same time: the sender notices, and refuses to go on. ``journal`` can be set until
    the first transaction. Faults of the connection are the provider's matter; what gets past it ends the wait for a transaction,
    which stays on its way, and the next one is sent only after it.

    confirmations   how many blocks must hold a transaction, its own included
    gas_margin      what the estimated gas is multiplied with
    resend_after    seconds without a receipt after which a transaction is sent again, where it helps with higher fees
    max_broadcasts  how often that is done
    poll            seconds between looks for receipts
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
        journal: Journal | None = None,
    ) -> None:
        self.web3 = web3
        self.sent: list[Sent] = []
        self.journal = journal
        self._account = account
        self._confirmations = confirmations
        self._gas_margin = gas_margin
        self._resend_after = resend_after
        self._max_broadcasts = max_broadcasts
        self._poll = poll
        self._lock = threading.RLock()
        self._flight: dict[int, Pending] = {}  # by nonce
        self._unheard: dict[str, str] = {}  # by place, why an answer failed for which nobody waits
        self._recovered = False
        self._count_seen = 0
        self._next_look = 0.0
        self._height_seen = 0

    def __repr__(self) -> str:
        return f"TransactionSender({self.address})"

    @property
    def address(self) -> ChecksumAddress:
        """The account's address."""
        return self._account.address

    def balance(self) -> int:
        """What the account holds, in wei."""
        return self.web3.eth.get_balance(self.address)

    def send(self, call: Call) -> TxReceipt:
        """The receipt of ``call``, once it is mined and confirmed. Raises as ``submit`` and ``settle``."""
        return self.settle(self.submit(call))

    def submit(self, call: Call) -> Pending:
        """Have ``call`` on its way. A place that it answers already, or has answered, is not answered again.

        A call without a place could be one that is on its way already and that nobody waits for any more: for its wait ended in an
        error, or its process did. So it is looked at only once all of these are mined.

        Raises TransactionFailed with the revert reason when it would fail, when the node refuses it, or when its place is answered
        otherwise (then nothing was sent), and UnavailableError when node or journal stay out of reach.
        """
        with self._lock:
            self.recover()
            if self._flight:
                self._look()
            if (known := self._answer(call)) is not None:
                return known
            placed = self.journal is not None and call.place is not None
            abandoned = [] if placed else [pending for pending in self._flight.values() if pending.abandoned]
            for pending in abandoned:
                self._resend(pending)
        for pending in abandoned:
            self._wait(pending)
        try:
            gas = self.web3.eth.estimate_gas(_draft(call, self.address), "pending")
        except Web3Exception as error:
            raise TransactionFailed(f"{call.name}: {_reason(error)}") from None
        with self._lock:
            return self._answer(call) or self._dispatch(call, gas)

    def settle(self, pending: Pending) -> TxReceipt:
        """The receipt of a call on its way, once it is mined and confirmed.

        Raises TransactionFailed when it failed or found no place in a block, and UnavailableError when the node stays out of reach.
        """
        self._wait(pending)
        if pending.receipt is None:
            self._unheard.pop(pending.call.place or "", None)
            raise TransactionFailed(str(pending.failure))
        return pending.receipt

    def answer(self, place: str) -> Pending | None:
        """What answers ``place``: on its way, or mined, with its receipt. None where nothing does. For those who do not wait.

        Raises TransactionFailed when no block takes it, and once when it failed: then the place is free.
        """
        with self._lock:
            self.recover()
            if (failure := self._unheard.pop(place, None)) is not None:
                raise TransactionFailed(failure)
            if self.journal is None or (entry := self.journal.answer(place)) is None:
                return None
            pending = self._stand_by(entry)
            if pending.stuck:
                pending.stuck = False
                raise TransactionFailed(self._no_block(pending))
            return pending

    def answered(self, place: str) -> bool:
        """Whether ``place`` has its answer, be it on its way."""
        with self._lock:
            self.recover()
            return self.journal is not None and self.journal.answer(place) is not None

    def tend(self) -> None:
        """See how everything on its way stands, and to it that it gets there: for those who submit and do not wait."""
        with self._lock:
            self.recover()
            if self._flight or self.journal is not None:
                self._next_look = 0.0
                self._look()

    def recover(self) -> None:
        """Broadcast again what an earlier process left in the journal. Once is enough, and sending sees to it."""
        with self._lock:
            if self._recovered or self.journal is None:
                return
            self.journal.enter(self.address, self.web3.eth.chain_id, bytes(self.web3.eth.get_block(0)["hash"]))
            for entry in self.journal.sent():
                self._resend(self._take_up(entry))
            self._recovered = True

    # On the way out

    def _answer(self, call: Call) -> Pending | None:
        """What answers the place of ``call``. Raises TransactionFailed when that is something else."""
        if self.journal is None or call.place is None or (entry := self.journal.answer(call.place)) is None:
            return None
        if entry.digest != call.digest:
            raise TransactionFailed(contradiction(entry, call.name))
        return self._stand_by(entry)

    def _stand_by(self, entry: Entry) -> Pending:
        """How a recorded transaction stands. One that was mined is looked at again: a reorganisation may have dropped it."""
        if (pending := self._flight.get(entry.nonce)) is None:
            pending = self._take_up(entry)
            head = self._height()
            self._follow(pending, head, self._count())
        return pending

    def _take_up(self, entry: Entry) -> Pending:
        """Follow a recorded transaction again."""
        assert self.journal is not None
        pending = _revived(self.journal.versions(entry))
        pending.seen = pending.told = entry.state == State.MINED
        pending.deadline = time.monotonic() + self._resend_after
        self._flight[entry.nonce] = pending
        return pending

    def _dispatch(self, call: Call, gas: int) -> Pending:
        nonce = self._nonce()
        limit, tip, cap = self._offer()
        pending = Pending(call, nonce, min(int(gas * self._gas_margin), limit), tip, cap)
        try:
            while (objection := self._broadcast(pending)) is not None:
                if not _underpriced(objection):
                    self._drop(pending)
                    raise TransactionFailed(f"{call.name}: {_reason(objection)}")
                if len(pending.hashes) >= self._max_broadcasts:
                    self._drop(pending)
                    raise TransactionFailed(self._no_block(pending))
                self._raise_bid(pending)
        except BaseException:
            pending.abandoned = True
            raise
        return pending

    def _nonce(self) -> int:
        """The first that is free: after a reorganisation it can be lower than what was sent."""
        self._height()
        nonce = self._count()
        while nonce in self._flight:
            nonce += 1
        if nonce <= max(self._flight, default=-1):
            return nonce
        return max(nonce, self.web3.eth.get_transaction_count(self.address, "pending"))

    def _count(self) -> int:
        """The first nonce that no block holds. What a reorganisation has dropped is on its way again when this returns."""
        count: int = self.web3.eth.get_transaction_count(self.address, "latest")
        if self.journal is not None and (count < self._count_seen or self._count_seen == 0):
            for entry in self.journal.mined(count):
                if entry.nonce not in self._flight:
                    self._resend(self._take_up(entry))
        if self.journal is not None and count < self._count_seen:
            for nonce in sorted(self._flight):
                self._resend(self._flight[nonce])  # its pool may have forgotten what came after, too
        self._count_seen = count
        return count

    def _offer(self) -> tuple[int, int, int]:
        """(most gas, tip, cap), the latter in wei per gas: room for the base fee to double."""
        latest, tip = self.web3.eth.get_block("latest"), self.web3.eth.max_priority_fee
        return latest["gasLimit"], tip, 2 * latest["baseFeePerGas"] + tip

    def _raise_bid(self, pending: Pending) -> None:
        _, tip, cap = self._offer()
        pending.tip = max(tip, pending.tip * BUMP_PERCENT // 100 + 1)
        pending.cap = max(cap, pending.cap * BUMP_PERCENT // 100 + 1)

    def _broadcast(self, pending: Pending) -> Web3RPCError | None:
        """Sign, record, and hand the transaction to the node. What the node has against it."""
        call = pending.call
        draft = _draft(call, self.address)
        draft["chainId"] = self.web3.eth.chain_id
        draft["nonce"] = Nonce(pending.nonce)
        draft["gas"] = pending.gas
        draft["maxPriorityFeePerGas"] = Wei(pending.tip)
        draft["maxFeePerGas"] = Wei(pending.cap)
        signed = self._account.sign_transaction(cast(dict[str, Any], draft))
        raw, mark = bytes(signed.raw_transaction), bytes(signed.hash)
        if self.journal is not None:
            self.journal.record(Entry(pending.nonce, call.place, call.name, call.to, call.digest, mark, raw))
        pending.hashes.append(signed.hash)
        pending.raw = raw
        self._flight[pending.nonce] = pending
        return self._resend(pending)

    def _resend(self, pending: Pending) -> Web3RPCError | None:
        """Hand the node the bytes that were signed last. What it has against them."""
        pending.seen, pending.deadline = False, time.monotonic() + self._resend_after
        try:
            self.web3.eth.send_raw_transaction(HexBytes(pending.raw))
        except Web3RPCError as objection:
            return None if any(phrase in str(objection).lower() for phrase in TAKEN) else objection
        return None

    def _drop(self, pending: Pending) -> None:
        """Free the nonce of a transaction that will not be mined."""
        if self.journal is not None:
            self.journal.settle(pending.nonce, bytes(pending.hashes[-1]), State.DROPPED)
        del self._flight[pending.nonce]

    # On the way to a block

    def _wait(self, pending: Pending) -> None:
        """Return when the end of a call on its way is known."""
        self._next_look = 0.0
        try:
            while True:
                with self._lock:
                    if not pending.over:
                        self._look()
                    if pending.over:
                        return
                    if pending.stuck:
                        pending.stuck = False
                        raise TransactionFailed(self._no_block(pending))
                time.sleep(self._poll)
        except BaseException:
            pending.abandoned = True
            raise

    def _no_block(self, pending: Pending) -> str:
        return f"{pending.call.name}: no block took it in {len(pending.hashes)} broadcasts; look at the node and the fees"

    def _look(self) -> None:
        """See how everything that is on its way stands, for all who wait."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._poll
        # The head first: a receipt seen later, so many blocks below it, is that deep for certain.
        head, count = self._height(), self._count()
        for nonce in sorted(self._flight):
            self._follow(self._flight[nonce], head, count)

    def _height(self) -> int:
        """The number of the latest block, once the node is no further back than it was.

        Of several nodes behind one address some may be behind, and show what is past. Raises UnavailableError when they stay there.
        """
        deadline = time.monotonic() + self._resend_after
        while (head := self.web3.eth.block_number) < self._height_seen:
            if not is_remote(self.web3):
                break  # somebody has sent the chain back
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the node is at block {head} and has shown block {self._height_seen}: it is behind, or its chain was reset"
                )
            time.sleep(self._poll)
        self._height_seen = head
        return head

    def _follow(self, pending: Pending, head: int, count: int) -> None:
        """``count`` is the first nonce that no block holds."""
        receipt = self._receipt(pending) if pending.nonce < count else None
        overdue = time.monotonic() > pending.deadline
        if receipt is not None:
            pending.seen = True
            pending.deadline = time.monotonic() + self._resend_after
            if head - receipt["blockNumber"] + 1 >= self._confirmations:
                self._finish(pending, receipt)
        elif pending.seen and pending.nonce >= count:
            self._resend(pending)  # a reorganisation has dropped it
        elif overdue and pending.nonce < count:
            pending.failure = f"{pending.call.name}: another process uses the key of {self.address}; stop one of them"
            self._drop(pending)
            self._note(pending)
        elif overdue:
            self._insist(pending, count)

    def _insist(self, pending: Pending, count: int) -> None:
        """Bid more where that is what may be missing. Those behind the first in line wait for it, whatever they bid."""
        if pending.nonce > count and pending.cap >= self._offer()[2]:
            self._resend(pending)
        elif len(pending.hashes) < self._max_broadcasts:
            self._raise_bid(pending)
            objection = self._broadcast(pending)
            if objection is not None and _underpriced(objection):
                pending.deadline = 0.0
        else:
            pending.stuck = True

    def _receipt(self, pending: Pending) -> TxReceipt | None:
        for transaction in pending.hashes:
            try:
                return self.web3.eth.get_transaction_receipt(transaction)
            except TransactionNotFound:
                continue
        return None

    def _finish(self, pending: Pending, receipt: TxReceipt) -> None:
        call, block, mark = pending.call, receipt["blockNumber"], bytes(receipt["transactionHash"])
        gas, fee = receipt["gasUsed"], receipt["gasUsed"] * receipt["effectiveGasPrice"]
        failure = None if receipt["status"] == 1 else self._failure(call, block)
        if self.journal is not None:
            end = State.MINED if failure is None else State.FAILED
            self.journal.settle(pending.nonce, mark, end, block)
        if not pending.told:
            self.sent.append(Sent(call.name, mark, pending.nonce, block, gas, fee, len(pending.hashes)))
        del self._flight[pending.nonce]
        if failure is None:
            pending.receipt = receipt
        else:
            pending.failure = failure
            self._note(pending)

    def _note(self, pending: Pending) -> None:
        """Keep the failure of an answer until somebody asks about its place."""
        if pending.call.place is not None:
            self._unheard[pending.call.place] = str(pending.failure)

    def _failure(self, call: Call, block: int) -> str:
        """Why a mined transaction failed. It changed nothing, so that its block shows the state that refused it."""
        try:
            self.web3.eth.call(_draft(call, self.address), block)
        except Web3Exception as error:
            return f"{call.name}: {_reason(error)}"
        return f"{call.name}: it reverted when it was mined, for a reason that the node cannot tell any more"
