"""A descent as its players follow it: the trail of all that was revealed and picked, and what an honest trainer shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Protocol

from bisection.cut import combined
from bisection.descent import Descent, below, parts_payload, start
from bisection.merkle import LEAF_BYTES
from bisection.moves import Refute, TreeKind
from contracts.bindings import BLIND, GameView, Tree
from contracts.events import Event, Picked, Revealed
from tests.contracts.stage import Actor, Stage, TrainerRun

__all__ = ["KIND", "Descending", "Nodes", "about", "begun", "blind", "leaf_of", "partials", "raw", "refutation", "shown", "word"]

KIND = {
    Tree.HISTORY: TreeKind.HISTORY,
    Tree.TRACE: TreeKind.TRACE,
    Tree.STATE: TreeKind.STATE,
    Tree.TENSOR: TreeKind.TENSOR,
    Tree.RUN: TreeKind.RUN,
}


class Nodes(Protocol):
    """A Merkle tree."""

    def node(self, height: int, position: int) -> bytes:
        """The digest at a place."""


def raw(address: str) -> bytes:
    """The 20 bytes of an address."""
    return bytes.fromhex(address[2:])


def word(value: int) -> bytes:
    """A number as 32 bytes in two's complement: the root of a run."""
    return value.to_bytes(32, "big", signed=True)


def about(view: GameView) -> bytes:
    """What the trail of the game's descent begins with."""
    step = view.step if view.shown else BLIND
    d = view.descent
    words = (view.job, view.attempt, view.segment, step, int(d.tree), d.tensor, view.run_node, view.run_position)
    return sha256(b"".join(number.to_bytes(32, "big") for number in words)).digest()


def begun(view: GameView, root: bytes) -> Descent:
    """The game's descent as it began, from the ``root`` of the tree (a word)."""
    d = view.descent
    kind = KIND[d.tree]
    tensor = d.tensor if kind in (TreeKind.TENSOR, TreeKind.RUN) else 0
    nbytes = d.size if kind == TreeKind.TENSOR else 0
    return start(kind, d.count, root, about(view), tensor, nbytes, kind == TreeKind.RUN and d.size == 1)


def shown(tree: Nodes, d: Descent) -> bytes:
    """The descendants of the node in question, as a payload."""
    return b"".join(tree.node(d.height - d.levels, (d.position << d.levels) + i) for i in range(1 << d.levels))


def leaf_of(data: bytes, leaf: int) -> bytes:
    """The bytes of a leaf."""
    return data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]


def partials(parts: Sequence[int], d: Descent) -> tuple[int, ...]:
    """The partial results below the one in question, of a run with these ``parts``."""
    each = 1 << (d.height - d.levels)
    first, last = d.position << d.height, min((d.position + 1) << d.height, len(parts))
    return tuple(combined(parts[at : at + each], d.takes_max) for at in range(first, last, each))


def refutation(d: Descent) -> Refute:
    """The claim that what was revealed last is not what was picked."""
    assert d.below is not None
    return Refute(d.origin, d.first, d.above, d.below)


class Descending:
    """A descent that is under way in a game, and both sides' moves in it.

    ``d`` is where it stands. The payloads are whatever the test gives; ``trainer`` and ``challenger`` send.
    """

    def __init__(self, stage: Stage, game: int, root: bytes, trainer: Actor | None = None, challenger: Actor | None = None) -> None:
        self.stage, self.game = stage, game
        self.trainer, self.challenger = trainer or stage.trainer, challenger or stage.challenger
        self.d = begun(stage.game.game(game), root)

    @property
    def seal(self) -> bytes:
        """What the contract has stored of the trail."""
        return self.d.seal(raw(self.trainer.address))

    def reveal(self, payload: bytes) -> Revealed:
        """Answer with ``payload``."""
        receipt = self.trainer.game.reveal(self.game, self.d.trail, self.d.picked, payload)
        self.d = replace(self.d, below=payload)
        (event,) = self.stage.events(receipt)
        assert isinstance(event, Revealed)
        return event

    def answer(self, tree: Nodes) -> Revealed:
        """Answer with the digests that ``tree`` has."""
        return self.reveal(shown(tree, self.d))

    def show_parts(self, *parts: int) -> Revealed:
        """Answer with partial results."""
        return self.reveal(parts_payload(parts))

    def revealed(self, payload: bytes) -> Descending:
        """Note what was revealed by other means."""
        self.d = replace(self.d, below=payload)
        return self

    def pick(self, child: int) -> Picked:
        """Pick one of what was revealed last."""
        receipt = self.challenger.game.pick(self.game, self.seal, child)
        self.d = below(self.d, self.seal, child, raw(self.trainer.address))
        (event,) = self.stage.events(receipt)
        assert isinstance(event, Picked)
        return event

    def towards(self, leaf: int) -> Picked:
        """Pick the descendant above ``leaf``, or the leaf."""
        d = self.d
        return self.pick((leaf >> (d.height - d.levels)) & ((1 << d.levels) - 1))

    def down(self, tree: Nodes, leaf: int) -> bytes:
        """Go down to ``leaf`` with the digests that ``tree`` has; the one that was revealed for it."""
        event = self.answer(tree)
        while self.d.levels < self.d.height:
            self.towards(leaf)
            event = self.answer(tree)
        first = event.position << event.height
        return event.payload[32 * (leaf - first) : 32 * (leaf - first + 1)]

    def refute(self) -> list[Event]:
        """Have the trainer convicted of what it revealed last; what the transaction told."""
        return self.stage.events(self.challenger.game.refute(self.game, refutation(self.d)))


def blind(stage: Stage, run: TrainerRun, segment: int = 0) -> Descending:
    """A game on a segment of a new job, which waits for the descendants of the history's root."""
    return Descending(stage, stage.challenger.opens_blind(stage.posted(run), segment), run.histories[segment].root)
