"""A simulated chain: blocks on an EVM in this process, a mempool, and whoever decides what goes into a block and when it is undone.

Time goes on in blocks. Every actor is asked once a block and hands in transactions; the builder orders them. Where nobody has
anything to do, no blocks are made until somebody has. Gas is not charged inside the EVM but booked beside it, so that what the
contracts move stays exact to the wei.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3

from bisection.game import Claim, Move
from contracts.chain import GameChain
from contracts.deploy import Deployment, Parameters, attach
from contracts.index import Index
from contracts.jobs import Job, Segment
from contracts.sender import Call
from sims.chain.blocks import Block, Blocks, Done, State, copied, ground

__all__ = ["FUNDS", "Actor", "Builder", "Receipt", "Reorg", "Transaction", "View", "World"]

T = TypeVar("T")

FUNDS = 10**24  # wei that everybody has at first
BLOCK_GAS = 36_000_000


# Transactions -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction. ``reason`` is None where it did what it should."""

    block: int
    time: int
    gas: int
    reason: str | None

    @property
    def ok(self) -> bool:
        """Whether it was not reverted."""
        return self.reason is None


@dataclass(eq=False)
class Transaction:
    """A transaction: an account by name, and what it bids in wei per gas. ``number`` is given in the order of arrival.

    A reorganisation can change its receipt, or take it away for a while.
    """

    sender: str
    call: Call
    fee: int
    number: int = 0
    receipt: Receipt | None = None


@dataclass(frozen=True)
class View:
    """What an actor sees of a block's making: the time of the last block, the earliest of the next one, and the mempool so far."""

    now: int
    next: int
    pool: Sequence[Transaction]


class Actor(Protocol):
    """Somebody who acts. Who is asked later sees in the mempool what those before have handed in."""

    def act(self, view: View) -> Iterable[Transaction]:
        """The transactions to hand in now."""

    def due(self) -> int | None:
        """When it wants to be asked again even if nothing happens, in seconds; None: not before something does."""


# Who makes blocks -------------------------------------------------------------------------------------------------------


@dataclass
class Builder:
    """Orders the mempool by what is bid, and by arrival among equals; an account's own transactions stay in order.

    favoured  accounts that come first, whatever they bid
    censored  accounts whose transactions are left out, as long as ``budget`` seconds last
    slices    seconds after which one block lets everything through; 0: the budget is spent in one piece
    """

    favoured: tuple[str, ...] = ()
    censored: tuple[str, ...] = ()
    budget: int = 0
    slices: int = 0
    spent: int = 0
    _running: int = 0

    def holds(self, sender: str) -> bool:
        """Whether an account's transactions are left out of the next block."""
        if sender not in self.censored or self.spent >= self.budget:
            return False
        return self.slices == 0 or self._running < self.slices

    def pick(self, pool: Sequence[Transaction], elapsed: int) -> list[Transaction]:
        """What goes into a block that comes ``elapsed`` seconds after the last, in order."""
        held = [tx for tx in pool if self.holds(tx.sender)]
        if held:
            self.spent, self._running = self.spent + elapsed, self._running + elapsed
        else:
            self._running = 0
        queues: dict[str, list[Transaction]] = {}
        for tx in pool:
            if tx not in held:
                queues.setdefault(tx.sender, []).append(tx)
        taken = []
        while queues:
            sender = min(queues, key=lambda name: (name not in self.favoured, -queues[name][0].fee, queues[name][0].number))
            taken.append(queues[sender].pop(0))
            if not queues[sender]:
                del queues[sender]
        return taken


@dataclass(frozen=True)
class Reorg:
    """Once so many ``blocks`` are made, the last ``depth`` of them are made anew, their transactions in another order."""

    blocks: int
    depth: int

    @property
    def kept(self) -> int:
        """How many blocks stay as they are."""
        return max(0, self.blocks - self.depth)


# The world -------------------------------------------------------------------------------------------------------------


class Eyes(GameChain):
    """What everybody sees of the games, looked at once a block; and moves as the transactions that make them."""

    def transaction(self, game: int, move: Move) -> Call:
        """The transaction that makes a move."""
        return self._call(move, game)

    def place(self, game: int) -> str:
        """The name of the state that a game is in, whenever it came there."""
        return self._place(game)

    def contention(self, game: int) -> Call | None:
        """The transaction that has a game noted as the first at its place, where it is not but should be."""
        self._due: Call | None = None
        self.contend(game)
        return self._due

    def _deliver(self, call: Call, place: str) -> None:
        self._due = call


def _address(name: str) -> ChecksumAddress:
    return Web3.to_checksum_address(sha256(b"account " + name.encode()).digest()[-20:])


class World:
    """One history of the chain, on a deployment with these parameters.

    names   whose account an address is
    pool    the mempool, in the order of arrival
    reorgs  those that are still to come
    """

    def __init__(
        self, parameters: Parameters, builder: Builder | None = None, block_seconds: int = 12, reorgs: Sequence[Reorg] = ()
    ) -> None:
        state, self.book, time = ground(parameters)
        self.provider = Blocks(copied(state), self.book.block - 1, time)
        self.web3 = Web3(self.provider)
        for layer in ("validation", "gas_price_strategy"):
            self.web3.middleware_onion.remove(layer)
        self.builder, self.block_seconds = builder or Builder(), block_seconds
        self.names: dict[ChecksumAddress, str] = {}
        self.pool: list[Transaction] = []
        self.deployment: Deployment = attach(self.web3, self.book)
        self.index = Index(self.web3, self.book)
        self.eyes = Eyes(self.deployment, self.index)
        self.reorgs = sorted(reorgs, key=lambda reorg: reorg.blocks)
        self._marks: dict[int, State] = {}  # by how many blocks were made then
        self._arrived = 0
        self._version = 0
        self._known: dict[Any, tuple[int, Any]] = {}

    # Accounts

    def account(self, name: str) -> ChecksumAddress:
        """The account of somebody, with its funds."""
        address = _address(name)
        if address not in self.names:
            self.names[address] = name
            self.provider.fund(address, FUNDS)
        return address

    def balance(self, address: str) -> int:
        """What an address holds, in wei."""
        return int(self.provider.evm.get_balance(address))

    # What everybody sees

    @property
    def now(self) -> int:
        """The time of the last block."""
        return self.provider.time

    @property
    def mined(self) -> Iterator[Transaction]:
        """All transactions in blocks, in order."""
        return (tx for block in self.provider.made for tx in block.transactions)

    def job(self, job: int) -> Job:
        """A job as it is."""
        return self._once(("job", job), lambda: self.deployment.registry.job(job))

    def segment(self, job: int, segment: int) -> Segment:
        """A posted segment as it is."""
        return self._once(("segment", job, segment), lambda: self.deployment.registry.segment(job, segment))

    def claim(self, job: int, segment: int) -> Claim:
        """A posted segment of the present attempt as the claim that it is."""
        return self._once(("claim", job, segment), lambda: self.eyes.claim(job, segment))

    def limit(self, game: int) -> int:
        """The last second in which whoever is to move in a live game can move."""
        state = self.eyes.game(game)
        return state.moved_at + (state.challenger_clock if state.owed == 0 else state.trainer_clock)

    def _once(self, key: Any, look: Callable[[], T]) -> T:
        """What was seen since the last transaction, or a look."""
        version, value = self._known.get(key, (-1, None))
        if version != self._version:
            value = look()
            self._known[key] = self._version, value
        return cast(T, value)

    # Time

    def step(self, actors: Sequence[Actor]) -> bool:
        """Ask everybody, and make a block. Returns False where nobody will ever do anything again."""
        if not self.provider.made:
            self.eyes.tend()
        for actor in actors:
            self._ask(actor)
        if self.pool:
            self._make(self.now + self.block_seconds)
        else:
            dues = [due for actor in actors if (due := actor.due()) is not None]
            if not dues:
                return False
            blocks = max(1, -(-(min(dues) - self.now) // self.block_seconds))
            self._make(self.now + blocks * self.block_seconds)
        self._reorganise()
        self.eyes.tend()
        return True

    def _ask(self, actor: Actor) -> None:
        for tx in actor.act(View(self.now, self.now + self.block_seconds, tuple(self.pool))):
            self._arrived += 1
            tx.number = self._arrived
            self.pool.append(tx)

    def _make(self, time: int) -> None:
        """Make a block of what the builder picks, at ``time``."""
        chosen = self.builder.pick(self.pool, time - self.now)
        self._block(chosen, time)
        self.pool = [tx for tx in self.pool if tx.receipt is None]

    def _block(self, chosen: Sequence[Transaction], time: int) -> Sequence[Transaction]:
        """Make a block of transactions as long as there is gas for them; those that are left over."""
        provider = self.provider
        self._mark()
        provider.block, provider.time = provider.block + 1, time
        logs: list[dict[str, Any]] = []
        used = taken = 0
        while taken < len(chosen) and used < BLOCK_GAS:
            used += self._run(chosen[taken], logs)
            taken += 1
        parent = provider.made[-1].hash if provider.made else bytes(32)
        told = b"".join(tx.number.to_bytes(8, "big") for tx in chosen[:taken])
        block = Block(provider.block, time, sha256(parent + time.to_bytes(8, "big") + told).digest(), tuple(chosen[:taken]), ())
        provider.made.append(replace(block, logs=tuple({**log, "blockHash": HexBytes(block.hash)} for log in logs)))
        self._version += taken > 0
        return chosen[taken:]

    def _run(self, tx: Transaction, logs: list[dict[str, Any]]) -> int:
        """Run one transaction; its gas."""
        provider, call, sender = self.provider, tx.call, _address(tx.sender)
        assert call.to is not None
        if self.balance(sender) < call.value:
            done = Done(0, "no funds", ())
        else:
            done = provider.transact(sender, call.to, call.data, call.value)
        for log in done.logs:
            place = {
                "blockNumber": provider.block,
                "transactionHash": HexBytes(sha256(tx.number.to_bytes(8, "big")).digest()),
                "transactionIndex": 0,
                "address": log.address,
                "topics": [HexBytes(topic) for topic in log.topics],
                "data": HexBytes(log.data[1]),
                "logIndex": len(logs),
            }
            logs.append(place)
        tx.receipt = Receipt(provider.block, provider.time, done.gas, done.reason)
        return done.gas

    # Reorganisations

    def _mark(self) -> None:
        """Keep the states that the coming reorganisations go back to."""
        made = len(self.provider.made)
        if any(reorg.kept == made for reorg in self.reorgs):
            self._marks[made] = copied(self.provider.state)

    def _reorganise(self) -> None:
        """Make the last blocks anew if that is due: their transactions in another order, each account's own in the same."""
        provider = self.provider
        due = [reorg for reorg in self.reorgs if reorg.blocks <= len(provider.made)]
        for reorg in due:
            self.reorgs.remove(reorg)
            undone = provider.back_to(self._marks.pop(reorg.kept), reorg.kept)
            self._version += 1
            self._redo(undone, np.random.default_rng([reorg.blocks, reorg.depth]))

    def _redo(self, undone: Sequence[Block], rng: np.random.Generator) -> None:
        queue = shuffled([tx for block in undone for tx in block.transactions], rng)
        for tx in queue:
            tx.receipt = None
        each = -(-len(queue) // len(undone))
        for block in undone:
            queue = [*self._block(queue[:each], block.time), *queue[each:]]
        self.pool = [*queue, *self.pool]

    # The books

    def tally(self) -> tuple[Counter[str], Counter[str], Counter[str], Counter[str]]:
        """By account: gas, fees in wei, transactions, and how many of these failed."""
        gas, fees, sent, failed = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        for tx in self.mined:
            assert tx.receipt is not None
            name = tx.sender
            gas[name] += tx.receipt.gas
            fees[name] += tx.receipt.gas * tx.fee
            sent[name] += 1
            failed[name] += not tx.receipt.ok
        return gas, fees, sent, failed


def shuffled(transactions: Sequence[Transaction], rng: np.random.Generator) -> list[Transaction]:
    """In another order, in which the transactions of each account are still one after the other."""
    order = [transactions[int(k)].sender for k in rng.permutation(len(transactions))]
    queues: dict[str, Iterator[Transaction]] = {}
    for name in dict.fromkeys(order):
        queues[name] = iter([tx for tx in transactions if tx.sender == name])
    return [next(queues[name]) for name in order]
