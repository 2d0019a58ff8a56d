"""Blocks of transactions on an EVM in this process, with the gas that separate transactions use.

An EVM keeps what one transaction has touched warm for the next. So every transaction gets an EVM of its own, into which the
state is put; what it has changed is read from the EVM's journal. The state is a dictionary: going back is keeping a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

import pyrevm

from contracts.deploy import AddressBook, Parameters, deploy
from sims.chain.evm import Reverted, RevmChain, RevmProvider

__all__ = ["Block", "Blocks", "Held", "State", "ground"]

STORED = re.compile(r"StorageChange \{ address: (0x[0-9a-f]{40}), key: (\w+)")
MOVED = re.compile(r"BalanceTransfer \{ from: (0x[0-9a-f]{40}), to: (0x[0-9a-f]{40})")


@dataclass
class Held:
    """What an account holds."""

    balance: int = 0
    code: bytes | None = None
    storage: dict[int, int] = field(default_factory=dict)


State = dict[str, Held]
"""By address, in lower case."""


def copied(state: State) -> State:
    """A copy that shares nothing that changes."""
    return {address: replace(held, storage=dict(held.storage)) for address, held in state.items()}


def _loaded(state: State) -> pyrevm.EVM:
    """An EVM in which all of this is, and nothing has been touched."""
    evm = pyrevm.EVM(spec_id="PRAGUE")
    for address, held in state.items():
        if held.code is not None:
            evm.insert_account_info(address, pyrevm.AccountInfo(nonce=1, code=held.code))
        for slot, value in held.storage.items():
            # Inserting loads the account, and what is inserted into a loaded account counts as written by the next transaction.
            mark = evm.snapshot()
            evm.insert_account_storage(address, slot, value)
            evm.revert(mark)
        if held.balance:
            evm.set_balance(address, held.balance)
    return evm


def _take(state: State, evm: pyrevm.EVM) -> None:
    """Note in ``state`` what was changed in an EVM."""
    told = evm.journal_str
    journal = told[told.rindex("journal: [") :]
    for address, key in set(STORED.findall(journal)):
        slot = int(key, 0)
        state.setdefault(address, Held()).storage[slot] = evm.storage(address, slot)
    for address in {address for pair in MOVED.findall(journal) for address in pair}:
        state.setdefault(address, Held()).balance = evm.get_balance(address)


@dataclass(frozen=True)
class Block:
    """A block: the numbers of its transactions in order, and what they told."""

    number: int
    time: int
    hash: bytes
    transactions: tuple[Any, ...]
    logs: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Done:
    """What a transaction came to: its gas, why it was reverted, if it was, and what it told."""

    gas: int
    reason: str | None
    logs: tuple[pyrevm.Log, ...]


class Blocks(RevmProvider):
    """What web3 asks for, over a state and the blocks that were ``made`` after block ``base``."""

    def __init__(self, state: State, base: int, time: int) -> None:
        super().__init__()
        self.state, self.base = state, base
        self.block, self.time = base, time
        self.evm = _loaded(state)
        self.made: list[Block] = []

    def fund(self, address: str, amount: int) -> None:
        """Give an account what it holds, in wei."""
        self.state.setdefault(address.lower(), Held()).balance = amount
        self.evm.set_balance(address, amount)

    def transact(self, caller: str, to: str, data: bytes, value: int) -> Done:
        """Run one transaction for good. Where it is reverted nothing has changed."""
        before, self.evm = self.evm, _loaded(self.state)
        try:
            self.run(caller, to, data, value)
        except Reverted as error:
            done, self.evm = Done(self.last.gas_used, str(error), ()), before
            return done
        _take(self.state, self.evm)
        return Done(self.last.gas_used, None, tuple(self.last.logs))

    def back_to(self, state: State, blocks: int) -> list[Block]:
        """Forget all but so many of the blocks, after which the state was this; the blocks that were forgotten."""
        undone = self.made[blocks:]
        del self.made[blocks:]
        self.state, self.evm = state, _loaded(state)
        self.block = self.base + blocks
        return undone

    def eth_getBlockByNumber(self, number: str, _full: bool) -> dict[str, Any] | None:  # noqa: N802
        """A block; None where there is none yet."""
        at = self.block if number == "latest" else int(number, 16)
        if at > self.block:
            return None
        if at <= self.base:
            return {"number": hex(at), "hash": "0x" + f"{at:064x}", "timestamp": hex(self.time)}
        block = self.made[at - self.base - 1]
        return {"number": hex(at), "hash": "0x" + block.hash.hex(), "timestamp": hex(block.time)}

    def eth_getLogs(self, request: dict[str, Any]) -> list[dict[str, Any]]:  # noqa: N802
        """What some contracts told in a range of blocks."""
        low, high = (int(request[end], 16) - self.base for end in ("fromBlock", "toBlock"))
        wanted = {address.lower() for address in request["address"]}
        return [
            log for block in self.made[max(low - 1, 0) : max(high, 0)] for log in block.logs if log["address"].lower() in wanted
        ]


@lru_cache(maxsize=32)
def ground(parameters: Parameters) -> tuple[State, AddressBook, int]:
    """A deployment with nothing done on it: the state, where the contracts are, and the time of the last block."""
    chain = RevmChain(1)
    book = deploy(cast(Any, chain.senders[0]), parameters)
    evm, state = chain.provider.evm, cast(State, {})
    _take(state, evm)
    for address in contracts_of(book):
        state.setdefault(address.lower(), Held()).code = evm.get_code(address)
    state.pop(chain.senders[0].address.lower(), None)
    return state, replace(book, block=chain.provider.block + 1), chain.provider.time


def contracts_of(book: AddressBook) -> Iterable[str]:
    """The addresses of the contracts."""
    return book.registry, book.game, book.referee, book.delivery
