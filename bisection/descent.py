"""Descents: how a trainer is made to show what a tree holds (docs/protocol.md, "A descent"). On chain: modules/descent.vy.

A reveal shows the descendants of a node some levels down, or the bytes of a leaf; a pick names one of them, and the next reveal
is about that. What is revealed is a *payload* of bytes:

    digests            32 bytes each; beyond the last leaf EMPTY
    partial results    8 bytes each, most significant first; of a run of several parts
    a leaf             its bytes

The *trail* of a descent is a hash of all that was revealed and picked in it. Nobody but the challenger checks a payload; who finds
that it does not hold refutes it with the payload above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from bisection.cut import combined
from bisection.errors import IllegalMove
from bisection.merkle import EMPTY, LEAF_BYTES, Tree, depth_of, leaf_digest
from bisection.moves import TreeKind
from bisection.numbers import wrap

__all__ = [
    "LEVELS",
    "Descent",
    "below",
    "digests",
    "extended",
    "holds",
    "owed_bytes",
    "parts_of",
    "parts_payload",
    "sealed",
    "span",
    "start",
]

LEVELS = 6  # that one reveal goes down at most
DIGEST_BYTES = 32
PART_BYTES = 8  # of a partial result in a payload
LAST_PART_OF_WORD = 3


def span(height: int) -> int:
    """How many levels a reveal of a node at ``height`` goes down: as few reveals as possible, as evenly as possible."""
    return -(-height // -(-height // LEVELS)) if height else 0


def extended(trail: bytes, picked: int, payload: bytes) -> bytes:
    """The trail after a reveal: SHA-256(trail ‖ index picked, as 32 bytes ‖ SHA-256(payload))."""
    return sha256(trail + picked.to_bytes(32, "big") + sha256(payload).digest()).digest()


def sealed(trail: bytes, trainer: bytes) -> bytes:
    """What the contract stores of a trail that ``trainer`` (20 bytes) is to follow: SHA-256(trail ‖ trainer, as 32 bytes)."""
    return sha256(trail + trainer.rjust(32, b"\0")).digest()


def digests(payload: bytes) -> tuple[bytes, ...]:
    """The digests in a payload. Raises ValueError for another length than whole digests have."""
    if len(payload) % DIGEST_BYTES:
        raise ValueError(f"{len(payload)} bytes are no whole number of digests")
    return tuple(payload[at : at + DIGEST_BYTES] for at in range(0, len(payload), DIGEST_BYTES))


def parts_payload(parts: Sequence[int]) -> bytes:
    """The payload that shows partial results. Raises IllegalMove for one that has more than 64 bits."""
    if any(part != wrap(part, 64) for part in parts):
        raise IllegalMove("game: a part of more than 64 bits")
    return b"".join(part.to_bytes(PART_BYTES, "big", signed=True) for part in parts)


def parts_of(payload: bytes) -> tuple[int, ...]:
    """The partial results in a payload."""
    return tuple(int.from_bytes(payload[at : at + PART_BYTES], "big", signed=True) for at in range(0, len(payload), PART_BYTES))


@dataclass(frozen=True, slots=True)
class Descent:
    """Where the descent into a tree of ``count`` leaves stands.

    ``height`` and ``position`` are those of the node in question. It is item ``picked`` of the payload ``above``; at first that is
    the root as one word. ``origin`` is the trail before ``above`` was revealed, ``first`` what had been picked then. ``below`` is
    what was revealed of the node, None while the trainer owes it. In TENSOR, ``tensor`` is its number in the trace, ``nbytes``
    its size.

    In RUN the leaves are the parts of one element's run, and ``tensor`` holds the element; ``takes_max`` says that they combine
    to a maximum, not a sum.
    """

    tree: TreeKind
    count: int
    height: int
    position: int
    picked: int
    origin: bytes
    first: int
    above: bytes
    below: bytes | None = None
    tensor: int = 0
    nbytes: int = 0
    takes_max: bool = False

    @property
    def levels(self) -> int:
        """How many levels a reveal of the node goes down."""
        return span(self.height)

    @property
    def trail(self) -> bytes:
        """The trail up to what the node was picked from."""
        return extended(self.origin, self.first, self.above)

    def seal(self, trainer: bytes) -> bytes:
        """What the contract stores."""
        return sealed(self.trail if self.below is None else extended(self.trail, self.picked, self.below), trainer)

    @property
    def value(self) -> int:
        """In RUN: the partial result that the node stands for."""
        return parts_of(self.above)[self.picked]

    @property
    def within(self) -> int:
        """How many of the descendants of the node have a leaf of the tree below them."""
        low = self.height - self.levels
        return min(1 << self.levels, -(-self.count >> low) - (self.position << self.levels))


def start(
    tree: TreeKind, count: int, root: bytes, about: bytes, tensor: int = 0, nbytes: int = 0, takes_max: bool = False
) -> Descent:
    """A descent from the ``root`` (32 bytes) of a tree, in a game that is ``about`` this.

    The root of a run is the claimed element, of which the last eight bytes are the partial result. Raises IllegalMove for a tree
    of one leaf, unless it is a tensor's.
    """
    height = depth_of(count)
    if height == 0 and tree != TreeKind.TENSOR:
        raise IllegalMove("game: nothing to reveal")
    picked = LAST_PART_OF_WORD if tree == TreeKind.RUN else 0
    return Descent(tree, count, height, 0, picked, about, 0, root, None, tensor, nbytes, takes_max)


def below(d: Descent, seal: bytes, child: int, trainer: bytes) -> Descent:
    """The descent with ``child`` picked of what was revealed last. Raises IllegalMove where there is no such child."""
    if d.below is None or seal != d.seal(trainer):
        raise IllegalMove("game: something else revealed")
    height, position = d.height - d.levels, (d.position << d.levels) + child
    if d.levels == 0 or (height == 0 and d.tree != TreeKind.TENSOR):
        raise IllegalMove("game: at the leaves")
    if not 0 <= child < 1 << d.levels or position << height >= d.count:
        raise IllegalMove("game: no such child")
    return Descent(d.tree, d.count, height, position, child, d.trail, d.picked, d.below, None, d.tensor, d.nbytes, d.takes_max)


def owed_bytes(d: Descent) -> int:
    """How long the payload is that shows what is in question."""
    if d.tree == TreeKind.RUN:
        return PART_BYTES * d.within
    if d.height == 0:
        return min(LEAF_BYTES, d.nbytes - d.position * LEAF_BYTES)
    return DIGEST_BYTES << d.levels


def holds(d: Descent) -> bool:
    """Whether what was revealed is what the node in question stands for. Something must have been revealed."""
    assert d.below is not None
    if d.tree == TreeKind.RUN:
        return combined(parts_of(d.below), d.takes_max) == d.value
    node = digests(d.above)[d.picked]
    if d.height == 0:
        return leaf_digest(d.below) == node
    shown = digests(d.below)
    # A digest beyond the last leaf would change the root without any wrong element below it.
    return all(digest == EMPTY for digest in shown[d.within :]) and Tree(shown).root == node
