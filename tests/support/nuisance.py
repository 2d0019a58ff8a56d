"""Challengers of what is right: each game is played in one of several styles, by true proofs, until the contract ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks._hostile import honest_witness, kinds, nodes_of, pickable
from bisection.game import Conclude, Demand, DemandRun, DemandTensor, Game, Move, Owed, Pick, ShowStep, StepOpening, TreeKind
from bisection.merkle import LEAF_BYTES, blob_tree
from bisection.nodes import MAX_LENGTH, RunNode
from bisection.trace import Trace
from bisection.witness import Leaf, node_proof
from tests.support.arena import Party, Place
from tests.support.model_chain import opening_of

__all__ = ["STYLES", "FalseGame", "Nuisance"]

STYLES = ("conclude", "wander", "stall")


@dataclass
class FalseGame:
    """A challenge of a segment that is right.

    conclude  points at a step, and has an element judged
    wander    opens blind, has everything revealed in any order, and then has an element judged
    stall     as wander, but falls silent somewhere
    """

    place: Place
    trace: Trace
    style: str
    seed: int

    def rng(self, game: Game | None) -> np.random.Generator:
        """The same choices in the same state, whoever asks."""
        known = 0 if game is None else len(game.demanded) + 8 * (game.step or 0)
        return np.random.default_rng([self.seed, known])

    def opening(self, rng: np.random.Generator) -> StepOpening:
        return opening_of(self.trace, int(rng.integers(self.trace.history().count - 1)))

    def move(self, game: Game) -> Move | None:
        """The next one; None for silence."""
        rng, d = self.rng(game), game.descent
        if self.style == "stall" and len(game.demanded) > self.seed // 3 % 3:
            return None
        if d is not None and rng.random() < 0.9 and (children := pickable(d)):
            return Pick(d.seal(game.claim.trainer), int(rng.choice(children)))
        if game.step is None:
            return ShowStep(self.opening(rng), bool(rng.random() < 0.5))
        left = [tree for tree in (TreeKind.TRACE, TreeKind.STATE, TreeKind.TENSOR, TreeKind.RUN) if tree not in game.demanded]
        demands = [demand for tree in left if (demand := self._demand(tree, game.step, rng)) is not None]
        if demands and self.style != "conclude":
            return demands[int(rng.integers(len(demands)))]
        kind = str(rng.choice([kind for kind in kinds(self.trace.program) if not self._long(kind)]))
        return Conclude(honest_witness(self.trace, game.step, int(rng.choice(nodes_of(self.trace.program, kind))), rng))

    def _long(self, kind: str) -> bool:
        nodes = [self.trace.program.nodes[number] for number in nodes_of(self.trace.program, kind)]
        return any(isinstance(node, RunNode) and node.length > MAX_LENGTH for node in nodes)

    def _demand(self, tree: TreeKind, step: int, rng: np.random.Generator) -> Move | None:
        program, tensors = self.trace.program, self.trace.tensors(step)
        if tree in (TreeKind.TRACE, TreeKind.STATE):
            return Demand(tree) if (tensors if tree == TreeKind.TRACE else self.trace.state(step)).count > 1 else None
        if tree == TreeKind.TENSOR:
            tensor = int(rng.integers(len(program.tensors)))
            number = program.producer[tensor]
            output = tensor - program.nodes[number].outputs[0].tensor
            return DemandTensor(node_proof(program, number), output, tensors.node(0, tensor), tuple(tensors.prove(tensor)))
        for number, node in enumerate(program.nodes):
            if isinstance(node, RunNode) and node.length > MAX_LENGTH:
                return whole_run(self.trace, step, number)
        return None


def whole_run(trace: Trace, step: int, number: int) -> DemandRun:
    """A demand of the run of element 0 of node ``number``."""
    tensor = trace.program.nodes[number].outputs[0].tensor
    data, tree = trace.tensor(step, tensor), trace.tensors(step)
    blobs = blob_tree(data)
    claim = Leaf(blobs.root, tuple(tree.prove(tensor)), bytes(data[:LEAF_BYTES]), tuple(blobs.prove(0)))
    return DemandRun(node_proof(trace.program, number), 0, claim)


class Nuisance(Party):
    """Plays any number of false games at once."""

    def __init__(self, *arguments: Any) -> None:
        self.false_games: list[FalseGame] = []
        super().__init__(*arguments)

    def start(self) -> None:
        super().start()
        self.opened: dict[int, int] = {}  # by position in the list, its game

    def forget(self) -> None:
        """Begin anew, bound by nothing that was signed."""
        self.kill()
        self._journal.unlink()
        self.start()

    def act(self) -> None:
        for number, false in enumerate(self.false_games):
            self.attempt(lambda number=number, false=false: self._play(number, false))  # type: ignore[misc]

    def _play(self, number: int, false: FalseGame) -> None:
        if number not in self.opened:
            rng = false.rng(None)
            claim = self.chain.claim(*false.place)
            game = self.chain.open(claim, None if false.style != "conclude" else false.opening(rng))
            if game is not None:
                self.opened[number] = game
            return
        game, seen = self.opened[number], self.chain.game(self.opened[number])
        if seen.outcome != 0 or seen.owed != Owed.NOTHING or self.chain.answered(game):
            return
        if (move := false.move(seen)) is not None:
            self.chain.move(game, move)
