"""What the events tell of a deployment and its contracts do not keep: who had part in it, what was posted, what is still open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import singledispatchmethod
from typing import cast

from eth_typing import ABIEvent
from eth_utils.abi import event_abi_to_log_topic
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.types import LogReceipt

from contracts.build import artifact
from contracts.deploy import AddressBook
from contracts.events import (
    SOURCES,
    Acquitted,
    Answered,
    Convicted,
    DemandReclaimed,
    Event,
    GameCancelled,
    GameOpened,
    JobClaimed,
    JobOpened,
    JobSlashed,
    LeafDemanded,
    Paused,
    SegmentFinalised,
    SegmentPosted,
    Unanswered,
)
from contracts.reader import decode

__all__ = ["KINDS", "Chronicle", "read"]

KINDS: tuple[type[Event], ...] = (
    JobOpened,
    JobClaimed,
    SegmentPosted,
    SegmentFinalised,
    JobSlashed,
    GameOpened,
    Convicted,
    Acquitted,
    GameCancelled,
    LeafDemanded,
    Answered,
    Unanswered,
    DemandReclaimed,
    Paused,
)


class Chronicle:
    """What some events, in order, tell.

    opened        by job, its offer
    services      by job, the data service of its last trainer
    trainers      by job, all who claimed it
    children      by job, those that start from its model
    posted        by job and segment, what was posted last
    milestones    by job and segment, what was paid when it became final
    games         by job, its games in order
    challengers   by game
    ended         the games that are over
    demands       by job, the open demands in order
    demanders     by job, all who ever demanded a leaf
    beneficiaries by job, who got rewards
    paused_until  when the last pause ends at the latest, in the chain's time; 0 without any
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.opened: dict[int, JobOpened] = {}
        self.services: dict[int, str] = {}
        self.trainers: defaultdict[int, set[str]] = defaultdict(set)
        self.children: defaultdict[int, list[int]] = defaultdict(list)
        self.posted: dict[tuple[int, int], SegmentPosted] = {}
        self.milestones: dict[tuple[int, int], int] = {}
        self.games: defaultdict[int, list[int]] = defaultdict(list)
        self.challengers: dict[int, str] = {}
        self.ended: set[int] = set()
        self.demands: defaultdict[int, dict[int, LeafDemanded]] = defaultdict(dict)
        self.demanders: defaultdict[int, set[str]] = defaultdict(set)
        self.beneficiaries: defaultdict[int, set[str]] = defaultdict(set)
        self.paused_until = 0
        for event in events:
            self._take(event)

    def ancestors(self, job: int) -> tuple[int, ...]:
        """The job's parent, that one's parent, and so on."""
        found: list[int] = []
        while (offer := self.opened.get(found[-1] if found else job)) is not None and offer.parent:
            found.append(offer.parent)
        return tuple(found)

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        """Events that nobody asks about here."""

    @_take.register
    def _(self, event: JobOpened) -> None:
        self.opened[event.job] = event
        if event.parent:
            self.children[event.parent].append(event.job)

    @_take.register
    def _(self, event: JobClaimed) -> None:
        self.services[event.job] = event.uri
        self.trainers[event.job].add(event.trainer)

    @_take.register
    def _(self, event: SegmentPosted) -> None:
        self.posted[event.job, event.segment] = event

    @_take.register
    def _(self, event: SegmentFinalised) -> None:
        self.milestones[event.job, event.segment] = event.milestone

    @_take.register
    def _(self, event: JobSlashed) -> None:
        self.beneficiaries[event.job].add(event.beneficiary)

    @_take.register
    def _(self, event: GameOpened) -> None:
        self.games[event.job].append(event.game)
        self.challengers[event.game] = event.challenger

    @_take.register(Convicted)
    @_take.register(Acquitted)
    @_take.register(GameCancelled)
    def _(self, event: Convicted | Acquitted | GameCancelled) -> None:
        self.ended.add(event.game)

    @_take.register
    def _(self, event: LeafDemanded) -> None:
        self.demands[event.job][event.demand] = event
        self.demanders[event.job].add(event.account)

    @_take.register(Answered)
    @_take.register(Unanswered)
    @_take.register(DemandReclaimed)
    def _(self, event: Answered | Unanswered | DemandReclaimed) -> None:
        self.demands[event.job].pop(event.demand, None)

    @_take.register
    def _(self, event: Paused) -> None:
        self.paused_until = event.until


# Reading ----------------------------------------------------------------------------------------------------------------


def read(web3: Web3, book: AddressBook, last: int) -> Chronicle:
    """What the deployment's events up to block ``last`` tell. Asks in one request where the node answers one as large."""
    topics = _topics(KINDS)
    addresses = [Web3.to_checksum_address(address) for address in (book.registry, book.game, book.delivery)]

    def logs(low: int, high: int) -> list[LogReceipt]:
        try:
            return web3.eth.get_logs({"fromBlock": low, "toBlock": high, "address": addresses, "topics": [topics]})
        except Web3RPCError:  # many nodes refuse more than some number of blocks or logs
            if low == high:
                raise
            middle = (low + high) // 2
            return [*logs(low, middle), *logs(middle + 1, high)]

    return Chronicle(decode(log) for log in (logs(book.block, last) if last >= book.block else []))


def _topics(kinds: Iterable[type[Event]]) -> list[HexBytes]:
    names = {kind.__name__ for kind in kinds}
    entries = [entry for source in SOURCES for entry in artifact(source).abi if entry["type"] == "event" and entry["name"] in names]
    return [HexBytes(event_abi_to_log_topic(cast(ABIEvent, entry))) for entry in entries]
