"""Reads the contracts' events, block after block and again where the chain was reorganised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, cast

from eth_abi.codec import ABICodec
from eth_abi.decoding import StringDecoder
from eth_abi.registry import BaseEquals
from eth_abi.registry import registry as default_registry
from eth_typing import ABIEvent
from eth_utils.abi import event_abi_to_log_topic
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import BlockNotFound
from web3.types import FilterParams, LogReceipt

from bisection.errors import ChainMismatch, UnavailableError
from contracts.build import artifact
from contracts.client import is_local, is_remote
from contracts.events import KINDS, SOURCES, Event, Rewound
from contracts.values import build

__all__ = ["Cursor", "EventReader", "decode"]

NEAR = 16  # blocks below the head that are read one by one: they can be replaced, and not every node has them yet


@dataclass(frozen=True)
class Cursor:
    """How far a reader has read: some blocks (number, hash), oldest first, the last of which is the last one read."""

    blocks: tuple[tuple[int, bytes], ...] = ()


class AnyText(StringDecoder):
    """A text that need not be UTF-8: the contracts take any bytes from anybody, and no text may stop a reader."""

    @staticmethod
    def decoder_fn(data: bytes, handle_string_errors: str = "replace") -> str:
        """See StringDecoder."""
        return data.decode(errors="replace")


def _tolerant() -> Web3:
    registry = default_registry.copy()  # type: ignore[no-untyped-call]
    registry.unregister_decoder("string")
    registry.register_decoder(BaseEquals("string"), AnyText, label="string")  # type: ignore[no-untyped-call]
    web3 = Web3()
    web3.codec = ABICodec(registry)
    return web3


@cache
def _decoders() -> dict[bytes, Any]:
    """For each event's topic, what web3 decodes it with."""
    decoders = {}
    for name in SOURCES:
        contract = _tolerant().eth.contract(abi=artifact(name).abi)
        for entry in artifact(name).abi:
            if entry["type"] == "event":
                decoders[event_abi_to_log_topic(cast(ABIEvent, entry))] = contract.events[entry["name"]]
    return decoders


def decode(log: LogReceipt) -> Event:
    """The event that a log of one of the contracts tells. Raises ChainMismatch when this build does not know it."""
    decoder = _decoders().get(bytes(log["topics"][0]) if log["topics"] else b"")
    if decoder is None:
        raise ChainMismatch(f"the contract at {log['address']} tells an event that this build does not know; update one of them")
    told = decoder().process_log(log)
    place = {
        "block": log["blockNumber"],
        "index": log["logIndex"],
        "transaction": bytes(log["transactionHash"]),
        "contract": log["address"],
    }
    return build(KINDS[told["event"]], {**told["args"], **place})


class EventReader:
    """Reads all events of some contracts, in order and without a gap, as often as ``poll`` is called.

    addresses  the contracts
    start      the first block to read
    cursor     where another reader stopped
    span       how many blocks one request covers; eth-tester takes ever longer over several at once
    most       how many such requests one poll makes, so that a long history comes in parts
    depth      how many of the blocks read last are remembered, to find the way back after a reorganisation
    """

    def __init__(
        self,
        web3: Web3,
        addresses: Sequence[str],
        start: int,
        *,
        cursor: Cursor | None = None,
        span: int | None = None,
        most: int = 1000,
        depth: int = 128,
    ) -> None:
        self._web3 = web3
        self._addresses = [Web3.to_checksum_address(address) for address in addresses]
        self._start = start
        self._span = span or (1 if is_local(web3) else 2000)
        self._most = most
        self._depth = depth
        self._blocks = (cursor or Cursor()).blocks

    @property
    def cursor(self) -> Cursor:
        """Where another reader can go on."""
        return Cursor(self._blocks)

    @property
    def position(self) -> int:
        """The last block that has been read."""
        return self._blocks[-1][0] if self._blocks else self._start - 1

    def poll(self) -> list[Event | Rewound]:
        """What is new, oldest first; after a reorganisation it starts with a ``Rewound``. If it raises, nothing counts as read.

        Raises UnavailableError when the node is behind what was read, which contradicts nothing but is no ground to act on, and
        ChainMismatch when no remembered block is on the chain any more, or a contract tells an unknown event.
        """
        head = self._web3.eth.block_number
        if head < self.position or (self._blocks and self._hash(self.position) is None):
            raise UnavailableError(f"the node does not know block {self.position}, which it has shown: it is behind")
        blocks = self._common_blocks()
        found: list[Event | Rewound] = []
        if len(blocks) < len(self._blocks):
            found.append(Rewound(blocks[-1][0]))
        first = blocks[-1][0] + 1 if blocks else self._start
        for low, high in islice(self._ranges(first, head), self._most):
            end = self._hash(high)
            logs = self._logs(low, high, end)
            if end is None or self._hash(high) != end:
                break  # reorganised in between: the next poll reads these blocks
            found += map(decode, logs)
            blocks = (*blocks, (high, end))[-self._depth :]
        self._blocks = blocks
        return found

    def _ranges(self, first: int, head: int) -> Iterator[tuple[int, int]]:
        """What one request each covers, both ends included."""
        while first <= head:
            last = first if first > head - NEAR else min(first + self._span - 1, head - NEAR)
            yield first, last
            first = last + 1

    def _logs(self, low: int, high: int, end: bytes | None) -> list[LogReceipt]:
        place: FilterParams = {"fromBlock": low, "toBlock": high}
        if low == high and end is not None and is_remote(self._web3):
            # By its number, a node that does not have the block yet would say that nothing happened in it.
            place = {"blockHash": HexBytes(end)}
        return self._web3.eth.get_logs({**place, "address": self._addresses})

    def _common_blocks(self) -> tuple[tuple[int, bytes], ...]:
        """The remembered blocks that are still on the chain."""
        for kept in range(len(self._blocks), 0, -1):
            number, known = self._blocks[kept - 1]
            if self._hash(number) == known:
                return self._blocks[:kept]
        if self._blocks:
            raise ChainMismatch(
                f"block {self._blocks[0][0]} is another one than was read before: the chain was reset, or reorganised too deeply; "
                "start again without the saved cursor"
            )
        return ()

    def _hash(self, number: int) -> bytes | None:
        try:
            return bytes(self._web3.eth.get_block(number)["hash"])
        except BlockNotFound:
            return None
