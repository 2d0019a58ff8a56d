"""What one knows of a tree that somebody else committed: its root, and whatever digests have been shown to hash to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bisection.errors import VerificationError
from bisection.merkle import EMPTY, Tree, depth_of, fold, parent

__all__ = ["Blocked", "PartialTree"]


@dataclass(frozen=True, slots=True)
class Blocked:
    """A node that differs from one's own tree and whose children are not known."""

    height: int
    position: int


class PartialTree:
    """The known part of a tree of ``count`` leaves under ``root``. It holds verified digests only."""

    def __init__(self, root: bytes, count: int) -> None:
        self.count = count
        self.depth = depth_of(count)
        self._known: dict[tuple[int, int], bytes] = {(self.depth, 0): root}
        self._whole: Tree | None = None

    @property
    def root(self) -> bytes:
        """The committed root."""
        return self._known[self.depth, 0]

    def learn(self, height: int, position: int, descendants: Sequence[bytes]) -> None:
        """Take in the 2^r descendants r levels below a known node.

        Raises VerificationError when they do not hash to it, or when a place beyond the last leaf is not EMPTY.
        """
        levels = len(descendants).bit_length() - 1
        if len(descendants) != 1 << levels or levels > height or self._digest(height, position) is None:
            raise VerificationError("the descendants do not belong below a known node of the tree")
        found: dict[tuple[int, int], bytes] = {}
        row, low = list(descendants), height - levels
        for h in range(low, height + 1):
            first = position << (height - h)
            for i, digest in enumerate(row):
                if (first + i) << h >= self.count and digest != EMPTY:
                    raise VerificationError("a digest stands beyond the tree's last leaf")
                found[h, first + i] = digest
            row = [parent(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        if found[height, position] != self._digest(height, position):
            raise VerificationError("the digests do not hash to the root that was committed")
        self._known |= found

    def learn_leaves(self, leaves: Sequence[bytes]) -> None:
        """Take in all leaves. Raises VerificationError when they do not hash to the root."""
        if len(leaves) != self.count:
            raise VerificationError(f"{len(leaves)} digests were given for a tree of {self.count}")
        self.learn_tree(Tree(leaves))

    def learn_tree(self, tree: Tree) -> None:
        """Take in the whole tree. Raises VerificationError when it does not have the root; its digests must belong together."""
        if tree.count != self.count or tree.root != self.root:
            raise VerificationError("the digests do not hash to the root that was committed")
        self._whole = tree

    def learn_path(self, index: int, leaf: bytes, siblings: Sequence[bytes]) -> None:
        """Take in leaf ``index`` and the siblings on its path to the root. Raises VerificationError when they do not lead there."""
        if len(siblings) != self.depth or fold(leaf, index, siblings) != self.root:
            raise VerificationError("the siblings do not lead from the leaf to the root of the tree")
        digest = leaf
        for height, sibling in enumerate(siblings):
            at = index >> height
            self._known[height, at], self._known[height, at ^ 1] = digest, sibling
            digest = fold(digest, at & 1, [sibling])

    def _digest(self, height: int, position: int) -> bytes | None:
        """The digest at ``height`` and ``position``, when known."""
        return self._known.get((height, position)) if self._whole is None else self._whole.node(height, position)

    def leaf(self, index: int) -> bytes | None:
        """Leaf ``index``, when known."""
        return self._digest(0, index)

    def first_difference(self, own: Tree) -> int | Blocked | None:
        """The leftmost leaf that differs from ``own``, the node below which it must lie, or None when the roots are equal."""
        height, position = self.depth, 0
        if self.root == own.root:
            return None
        while height:
            left, right = self._digest(height - 1, 2 * position), self._digest(height - 1, 2 * position + 1)
            if left is None or right is None:
                return Blocked(height, position)
            height, position = height - 1, 2 * position
            if left == own.node(height, position):
                position += 1
        return position

    def prove(self, index: int, own: Tree) -> list[bytes]:
        """The siblings from leaf ``index`` to the root, lowest first; where a subtree equals ``own``, from there.

        Raises LookupError when too little is known.
        """
        siblings: list[bytes] = []
        for height in range(self.depth, 0, -1):
            at = index >> height
            if self._digest(height, at) == own.node(height, at):
                return own.prove(index)[:height] + siblings[::-1]
            sibling = self._digest(height - 1, (index >> (height - 1)) ^ 1)
            if sibling is None:
                raise LookupError(f"the path of leaf {index} is not known at height {height - 1}")
            siblings.append(sibling)
        return siblings[::-1]
