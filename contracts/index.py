"""What the events tell and the contracts do not keep: where data lies, which games a job has, what was revealed in them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import singledispatchmethod

from eth_typing import ChecksumAddress
from web3 import Web3

from bisection import moves as rules
from bisection.descent import LAST_PART_OF_WORD
from bisection.moves import Revelation, TreeKind
from contracts.bindings import Tree
from contracts.deploy import AddressBook
from contracts.events import (
    Answered,
    BoundaryJudged,
    Demanded,
    DemandReclaimed,
    Event,
    GameOpened,
    JobClaimed,
    JobExpired,
    JobOpened,
    JobSlashed,
    Judged,
    LeafDemanded,
    Picked,
    Revealed,
    Rewound,
    RunDemanded,
    StepShown,
    Unanswered,
)
from contracts.reader import EventReader

__all__ = ["TREE_KINDS", "Course", "Index"]

TREE_KINDS = {
    Tree.HISTORY: TreeKind.HISTORY,
    Tree.TRACE: TreeKind.TRACE,
    Tree.STATE: TreeKind.STATE,
    Tree.TENSOR: TreeKind.TENSOR,
    Tree.RUN: TreeKind.RUN,
}


@dataclass
class Course:
    """How the last descent of a game has gone.

    tensor    what is noted as the tensor demanded last
    revealed  what was picked and what was then revealed of it, in order; it begins with 0 and the root as one word
    picked    what was picked last
    answered  whether that has been revealed
    """

    tensor: int
    revealed: list[tuple[int, bytes]]
    picked: int
    answered: bool = False


class Index:
    """Follows the events of a deployment from its first block. After a reorganisation it reads anew, and then forgets.

    job_uris      by job, where its material was said to be
    service_uris  by job, its present trainer's data service
    tokens        by job, what its bounty and stake are in
    attempts      by job, the attempt that was claimed last
    failed        by job, the trainers that were convicted or missed a deadline
    demands       by job, the open demands for leaves of its final state, by number
    games         by job, its games in order
    segments      by game, the segment that it is about
    shown         by game, the states before and after its step
    courses       by game, how its last descent has gone
    revelations   by game, everything demanded and revealed in it, in order
    verdicts      by game, what the referee found
    events        by game, how many there were about it: as long as that stays, so does the game
    branch        how many reorganisations were met
    """

    def __init__(self, web3: Web3, book: AddressBook) -> None:
        self._web3, self._book = web3, book
        self._reader = EventReader(self._web3, [self._book.registry, self._book.game, self._book.delivery], self._book.block)
        self._rewound = False
        self.job_uris: dict[int, str] = {}
        self.service_uris: dict[int, str] = {}
        self.tokens: dict[int, ChecksumAddress] = {}
        self.attempts: dict[int, int] = {}
        self.failed: defaultdict[int, set[ChecksumAddress]] = defaultdict(set)
        self.demands: defaultdict[int, dict[int, LeafDemanded]] = defaultdict(dict)
        self.games: defaultdict[int, list[int]] = defaultdict(list)
        self.segments: dict[int, int] = {}
        self.shown: dict[int, tuple[bytes, bytes]] = {}
        self.courses: dict[int, Course] = {}
        self.revelations: defaultdict[int, list[Revelation]] = defaultdict(list)
        self.verdicts: dict[int, Judged | BoundaryJudged] = {}
        self.events: Counter[int] = Counter()
        self.branch = 0

    @property
    def block(self) -> int:
        """The last block whose events were taken in."""
        return self._reader.position

    def update(self) -> None:
        """Take in all events up to the latest block. Raises as ``EventReader.poll``; then what it tells is what it told before."""
        while not self._rewound and (events := self._reader.poll()):
            self._rewound = isinstance(events[0], Rewound)
            for event in () if self._rewound else events:
                self._take(event)
                if isinstance(game := getattr(event, "game", None), int):
                    self.events[game] += 1
        if self._rewound:
            anew = Index(self._web3, self._book)
            anew.update()
            anew.branch += self.branch + 1
            vars(self).update(vars(anew))

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        """Events that nobody asks the index about."""

    @_take.register
    def _(self, event: JobOpened) -> None:
        self.job_uris[event.job] = event.uri
        self.tokens[event.job] = event.terms.token

    @_take.register
    def _(self, event: JobClaimed) -> None:
        self.service_uris[event.job] = event.uri
        self.attempts[event.job] = event.attempt

    @_take.register(JobExpired)
    @_take.register(JobSlashed)
    def _(self, event: JobExpired | JobSlashed) -> None:
        self.failed[event.job].add(event.trainer)

    @_take.register
    def _(self, event: LeafDemanded) -> None:
        self.demands[event.job][event.demand] = event

    @_take.register(Answered)
    @_take.register(Unanswered)
    @_take.register(DemandReclaimed)
    def _(self, event: Answered | Unanswered | DemandReclaimed) -> None:
        self.demands[event.job].pop(event.demand, None)

    @_take.register
    def _(self, event: GameOpened) -> None:
        self.games[event.job].append(event.game)
        self.segments[event.game] = event.segment

    @_take.register
    def _(self, event: StepShown) -> None:
        self.shown[event.game] = event.before, event.after
        self.courses.pop(event.game, None)

    @_take.register
    def _(self, event: Demanded) -> None:
        kind = TREE_KINDS[event.tree]
        picked = LAST_PART_OF_WORD if kind == TreeKind.RUN else 0
        self.courses[event.game] = Course(event.tensor, [(0, event.root)], picked)
        self.revelations[event.game].append(rules.Demanded(kind, event.tensor, event.root))

    @_take.register
    def _(self, event: RunDemanded) -> None:
        self.revelations[event.game].append(rules.RunDemanded(event.tensor, event.tensor_root, tuple(event.trace_proof)))

    @_take.register
    def _(self, event: Picked) -> None:
        course = self.courses[event.game]
        course.picked, course.answered = event.child, False

    @_take.register
    def _(self, event: Revealed) -> None:
        course = self.courses[event.game]
        course.revealed.append((course.picked, event.payload))
        course.answered = True
        revealed = rules.Revealed(TREE_KINDS[event.tree], course.tensor, event.height, event.position, event.payload)
        self.revelations[event.game].append(revealed)

    @_take.register(Judged)
    @_take.register(BoundaryJudged)
    def _(self, event: Judged | BoundaryJudged) -> None:
        self.verdicts[event.game] = event
