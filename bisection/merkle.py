"""Positional Merkle trees over SHA-256 (docs/program.md, "Commitments").

A tree of n leaves has depth ⌈log2 n⌉, and every proof is checked at that exact depth and position.

    leaf digest of bytes    SHA-256(0x00 ‖ bytes)
    inner digest            SHA-256(0x01 ‖ left ‖ right), but EMPTY over two empty children
    EMPTY                   32 zero bytes: every place beyond the last leaf

Two sorts of tree use it. A *blob* tree stands over the 256-byte leaves of some bytes (the last leaf is as long as what is
left, never padded). A *digest* tree stands over 32-byte digests, which are its leaf digests as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

from bisection.errors import VerificationError

__all__ = [
    "EMPTY",
    "LEAF_BYTES",
    "Blob",
    "Content",
    "Tree",
    "blob_root",
    "blob_tree",
    "depth_of",
    "fold",
    "fold_range",
    "joined_proofs",
    "leaf_count",
    "leaf_digest",
    "parent",
]

LEAF_BYTES = 256
EMPTY = bytes(32)


def depth_of(count: int) -> int:
    """The depth of a tree of ``count`` leaves: the least d with 2^d >= count."""
    return max(count - 1, 0).bit_length()


def leaf_count(nbytes: int) -> int:
    """How many leaves a blob of ``nbytes`` bytes has."""
    return max(1, -(-nbytes // LEAF_BYTES))


def leaf_digest(data: bytes | memoryview) -> bytes:
    """The digest of one blob leaf."""
    return sha256(b"\x00" + data).digest()


def parent(left: bytes, right: bytes) -> bytes:
    """The digest above two digests."""
    if left == EMPTY and right == EMPTY:
        return EMPTY
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A whole tree over ``leaves``, a sequence of 32-byte digests.

    ``levels[h][p]`` is the digest at height h (0 for leaves) and position p; places beyond the last are EMPTY and not stored.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.count = len(leaves)
        self.depth = depth_of(len(leaves))
        self.levels: list[list[bytes]] = [list(leaves)]
        for _ in range(self.depth):
            below = self.levels[-1]
            if len(below) % 2:
                below = [*below, EMPTY]
            self.levels.append([parent(below[i], below[i + 1]) for i in range(0, len(below), 2)])

    @property
    def root(self) -> bytes:
        """The digest at the top; EMPTY for a tree without leaves."""
        return self.node(self.depth, 0)

    def node(self, height: int, position: int) -> bytes:
        """The digest at ``height`` and ``position``."""
        level = self.levels[height]
        return level[position] if position < len(level) else EMPTY

    def prove(self, index: int) -> list[bytes]:
        """The siblings from leaf ``index`` to the root, lowest first."""
        return [self.node(h, (index >> h) ^ 1) for h in range(self.depth)]

    def prove_range(self, first: int, count: int) -> list[bytes]:
        """The siblings that lead from leaves first … first+count-1 to the root: by level, left before right."""
        siblings, low, high = [], first, first + count
        for h in range(self.depth):
            if low % 2:
                siblings.append(self.node(h, low - 1))
            if high % 2:
                siblings.append(self.node(h, high))
            low, high = low // 2, (high + 1) // 2
        return siblings


class Blob(Protocol):
    """Bytes that are made as they are read, and the tree that stands over them: a tensor larger than any memory."""

    def __len__(self) -> int:
        """How many bytes there are."""

    def __getitem__(self, part: slice, /) -> bytes:
        """The bytes from ``part.start`` to ``part.stop``, as of a bytes object."""

    def tree(self) -> Tree:
        """The tree over the 256-byte leaves."""


Content = bytes | Blob
"""What a tensor's bytes are given as."""


def fold(digest: bytes, index: int, siblings: Sequence[bytes]) -> bytes:
    """The root that ``digest`` at leaf ``index`` and its ``siblings`` lead to."""
    for sibling in siblings:
        digest = parent(sibling, digest) if index % 2 else parent(digest, sibling)
        index //= 2
    return digest


def fold_range(digests: Sequence[bytes], first: int, depth: int, siblings: Sequence[bytes]) -> bytes:
    """The root that neighbouring leaf ``digests`` starting at ``first`` lead to.

    Raises VerificationError when ``siblings`` is not exactly as long as the range and depth demand.
    """
    rest = iter(siblings)
    row, low = list(digests), first
    try:
        for _ in range(depth):
            if low % 2:
                row.insert(0, next(rest))
            if len(row) % 2:
                row.append(next(rest))
            row = [parent(row[i], row[i + 1]) for i in range(0, len(row), 2)]
            low //= 2
    except StopIteration:
        raise VerificationError("the Merkle proof is too short for its depth") from None
    if len(row) != 1 or next(rest, None) is not None:
        raise VerificationError("the Merkle proof does not have the length that its depth demands")
    return row[0]


def joined_proofs(first: int, left: Sequence[bytes], right: Sequence[bytes]) -> list[bytes]:
    """The siblings that lead from leaves ``first`` and first + 1 together to the root, for ``fold_range``, given those of each."""
    apart = (first ^ (first + 1)).bit_length() - 1  # levels below the one where the two are siblings
    pairs = zip(left[:apart], right[:apart], strict=True)
    return [*(sibling for pair in pairs for sibling in pair), *left[apart + 1 :]]


def blob_tree(data: Content | memoryview) -> Tree:
    """The tree over the 256-byte leaves of ``data``; no bytes at all make one empty leaf."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        return data.tree()
    view = memoryview(data).cast("B")
    return Tree([leaf_digest(view[at : at + LEAF_BYTES]) for at in range(0, max(len(view), 1), LEAF_BYTES)])


def blob_root(data: bytes | memoryview) -> bytes:
    """The root over the 256-byte leaves of ``data``."""
    return blob_tree(data).root
