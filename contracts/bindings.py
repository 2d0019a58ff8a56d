"""DisputeGame and Referee as Python classes: one method for each function.

Functions that change something return the receipt, or the number of what they opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cached_property

from eth_abi.abi import encode
from eth_typing import ChecksumAddress
from eth_utils.crypto import keccak
from web3 import Web3
from web3.types import TxReceipt

from bisection.moves import ConcludePart, DemandRun, Refute, ShowStep, StepOpening
from bisection.witness import (
    Boundary,
    BoundaryWitness,
    ElementWitness,
    Leaf,
    NodeProof,
    PartWitness,
    RunPlace,
    RunWitness,
    StepRoots,
)
from contracts.contract import Contract, Ledger
from contracts.registry import TaskRegistry
from contracts.values import build, plain

__all__ = ["BLIND", "DescentView", "DisputeGame", "GameView", "Phase", "Referee", "Tree", "step_commitment"]

BLIND = 2**256 - 1  # stands for the step while none is shown


class Phase(IntEnum):
    """Whose turn it is in a game and what the trainer owes, or how it ended."""

    CHALLENGER = 1
    TRACE = 2
    CHILDREN = 4
    LEAF = 8
    PARTS = 16
    CONVICTED = 32
    ACQUITTED = 64
    CANCELLED = 128

    @property
    def live(self) -> bool:
        """Whether the game still goes on."""
        return self <= Phase.PARTS


class Tree(IntFlag):
    """A tree that can be descended, or a set of them."""

    HISTORY = 1
    TRACE = 2
    STATE = 4
    TENSOR = 8
    RUN = 16


@dataclass(frozen=True)
class DescentView:
    """Where a descent stands; ``tree`` is empty where none is under way.

    ``height`` and ``position`` are those of the node in question, and ``picked`` is its index in what was revealed before it.
    ``seal`` ties all of the descent to the trainer; it says nothing while the trace root is owed. ``tensor`` is the one that was
    demanded last, and ``size`` its bytes; in a run it says whether an element is a maximum (1) or a sum (0).
    """

    tree: Tree
    seal: bytes
    height: int
    position: int
    count: int
    picked: int
    tensor: int
    size: int


@dataclass(frozen=True)
class GameView:
    """A game.

    rank                     the least is rewarded among the games on one step
    first                    the game that counts as the first at the place: the step, or the segment while none is shown
    step                     counted within the segment
    roots                    the hash of where the claims of the step live, without the trace root
    trace_root               zero at first
    trainer_spent            the seconds of its clock used up at ``moved_at``, a time of the chain; so ``challenger_spent``
    paused                   for how many seconds the protocol's clocks had stood still in all when the game was opened
    run_node, run_position   the node and the position of the element whose run was demanded
    """

    job: int
    attempt: int
    segment: int
    challenger: ChecksumAddress
    rank: int
    first: int
    phase: Phase
    descended: Tree
    shown: bool
    step: int
    roots: bytes
    trace_root: bytes
    trainer_spent: int
    challenger_spent: int
    moved_at: int
    paused: int
    run_node: int
    run_position: int
    descent: DescentView

    @property
    def step_place(self) -> bytes:
        """What the trainer names with a trace root: 32 bytes that stand for the step."""
        return keccak(encode(["uint256"] * 4, [self.job, self.attempt, self.segment, self.step]))

    def clocks(self, budgets: tuple[int, int], standstill: int) -> tuple[int, int]:
        """What the clocks of trainer and challenger held at ``moved_at``, in seconds.

        ``standstill`` is for how long the protocol's clocks have stood still in all: what came after the opening adds to both.
        """
        added = max(standstill - self.paused, 0)
        return budgets[0] + added - self.trainer_spent, budgets[1] + added - self.challenger_spent


def step_commitment(challenger: str, job: int, segment: int, step: int, salt: bytes) -> bytes:
    """What ``challenger`` commits to before it opens a game on a step (BLIND: on none), with a random ``salt`` of 32 bytes.

    It has 32 bytes itself.
    """
    return keccak(encode(["address", "uint256", "uint256", "uint256", "bytes32"], [challenger, job, segment, step, salt]))


class DisputeGame(Ledger):
    """One claim against one challenger, any number at once."""

    NAME = "DisputeGame"

    @cached_property
    def bond(self) -> int:
        """What a challenger stakes on a game, in wei."""
        return int(self.simulate("bond"))

    @cached_property
    def clocks(self) -> tuple[int, int]:
        """The budgets of trainer and challenger, in seconds."""
        return int(self.simulate("trainer_clock")), int(self.simulate("challenger_clock"))

    def registry(self) -> ChecksumAddress:
        """The address of the registry."""
        return Web3.to_checksum_address(self.simulate("registry"))

    def referee(self) -> ChecksumAddress:
        """The address of the referee."""
        return Web3.to_checksum_address(self.simulate("referee"))

    def numerics_version(self) -> int:
        """The meaning of the numbers that the referee judges by."""
        return int(self.simulate("numerics_version"))

    def game_count(self) -> int:
        """How many games there are; they are numbered from 1."""
        return int(self.simulate("game_count"))

    def game(self, game: int) -> GameView:
        """All there is to know of a game."""
        return build(GameView, self.simulate("game", game))

    def trace_root(self, job: int, attempt: int, segment: int, step: int) -> bytes:
        """The trace root that the trainer posted for a step; 32 zero bytes where there is none."""
        return bytes(self.simulate("trace_root", job, attempt, segment, step))

    def commit(self, commitment: bytes) -> TxReceipt:
        """Commit to an opening (``step_commitment``) that is revealed in a later block."""
        return self.send("commit", commitment)

    def open_step(self, job: int, segment: int, opening: StepOpening, salt: bytes) -> int:
        """Challenge one step that was committed to with ``salt``; the number of the game."""
        return self.number(self.send("open_step", job, segment, *plain(opening), salt, value=self.bond), "GameOpened")

    def open_blind(self, job: int, segment: int, salt: bytes, history_root: bytes | None = None) -> int:
        """Challenge a segment whose states are not known, committed to with ``salt`` and the step BLIND; the number of the game.

        By default the history is the one posted now.
        """
        if history_root is None:
            history_root = TaskRegistry(self.web3, self.registry()).segment(job, segment).history_root
        return self.number(self.send("open_blind", job, segment, history_root, salt, value=self.bond), "GameOpened")

    def show_step(self, game: int, move: ShowStep) -> TxReceipt:
        """Point at one step of the segment."""
        return self.send("show_step", game, *plain(move.opening), move.descend)

    def demand_trace(self, game: int, step: StepRoots) -> TxReceipt:
        """Start down the trace of the step."""
        return self.send("demand_trace", game, step)

    def demand_state(self, game: int, step: StepRoots) -> TxReceipt:
        """Start down the state after the step."""
        return self.send("demand_state", game, step)

    def demand_tensor(
        self, game: int, step: StepRoots, node: NodeProof, output: int, tensor_root: bytes, trace_proof: Sequence[bytes]
    ) -> TxReceipt:
        """Start down one tensor of the trace."""
        return self.send("demand_tensor", game, step, node, output, tensor_root, trace_proof)

    def demand_run(self, game: int, step: StepRoots, move: DemandRun) -> TxReceipt:
        """Start down the run of one element."""
        return self.send("demand_run", game, step, *plain(move))

    def pick(self, game: int, seal: bytes, child: int) -> TxReceipt:
        """Choose one of the descendants that were revealed last, with which the descent has this seal."""
        return self.send("pick", game, seal, child)

    def refute(self, game: int, move: Refute) -> TxReceipt:
        """Convict the trainer of a reveal that is not what was picked."""
        return self.send("refute", game, *plain(move))

    def post_trace(self, game: int, root: bytes, payload: bytes = b"") -> TxReceipt:
        """Answer with the trace root of the step that the game is about now, and with its descendants if they are demanded too."""
        return self.send("post_trace", game, self.game(game).step_place, root, payload)

    def reveal(self, game: int, trail: bytes, picked: int, payload: bytes) -> TxReceipt:
        """Answer with what is owed at the end of ``trail``, where ``picked`` is in question."""
        return self.send("reveal", game, trail, picked, payload)

    def conclude_boundary(self, game: int, step: StepRoots, witness: BoundaryWitness) -> TxReceipt:
        """Have an input or output node judged."""
        return self.send("conclude_boundary", game, step, *plain(witness))

    def conclude_element(self, game: int, step: StepRoots, witness: ElementWitness) -> TxReceipt:
        """Have one element of a map or gather node judged."""
        return self.send("conclude_element", game, step, *plain(witness))

    def conclude_run(self, game: int, step: StepRoots, witness: RunWitness) -> TxReceipt:
        """Have one element of a reduce, dot or scatter_add node judged."""
        return self.send("conclude_run", game, step, *plain(witness))

    def conclude_part(self, game: int, step: StepRoots, move: ConcludePart) -> TxReceipt:
        """Have one part of a long run judged."""
        return self.send("conclude_part", game, step, *plain(move))

    def timeout(self, game: int) -> TxReceipt:
        """End a game whose mover has used up its clock."""
        return self.send("timeout", game)

    def reclaim(self, game: int) -> TxReceipt:
        """Take the bond back from a game whose attempt is over."""
        return self.send("reclaim", game)

    def contend(self, game: int) -> TxReceipt:
        """Note a live game as the first at its place, unless a live one of lower rank is."""
        return self.send("contend", game)


class Referee(Contract):
    """The judge, to be asked without a game: for dry runs and tests."""

    NAME = "Referee"

    def locate(self, step: StepRoots, node: NodeProof, output: int) -> tuple[int, int]:
        """The number in the trace and the size in bytes of a node's output."""
        tensor, size = self.simulate("locate", step, node, output)
        return tensor, size

    def locate_run(self, step: StepRoots, node: NodeProof, position: int, claim: Leaf) -> RunPlace:
        """The claimed element of a reduce, dot or scatter_add node, and how its run is judged."""
        return build(RunPlace, self.simulate("locate_run", step, node, position, claim))

    def boundary(self, step: StepRoots, node: NodeProof) -> Boundary:
        """What an input or output node joins."""
        return build(Boundary, self.simulate("boundary", step, node))

    def judge_boundary(self, step: StepRoots, witness: BoundaryWitness) -> bool:
        """Whether the tensor at a boundary node is the one that it must be."""
        return bool(self.simulate("judge_boundary", step, *plain(witness)))

    def judge_element(self, step: StepRoots, witness: ElementWitness) -> tuple[int, int]:
        """The claimed and the correct element of a map or gather node, as registers."""
        claimed, correct = self.simulate("judge_element", step, *plain(witness))
        return claimed, correct

    def judge_run(self, step: StepRoots, witness: RunWitness) -> tuple[int, int]:
        """The claimed and the correct element of a reduce, dot or scatter_add node, as registers."""
        claimed, correct = self.simulate("judge_run", step, *plain(witness))
        return claimed, correct

    def judge_part(self, step: StepRoots, witness: PartWitness) -> int:
        """The correct partial result of one part of an element's run."""
        return int(self.simulate("judge_part", step, *plain(witness)))

    def numerics_version(self) -> int:
        """The meaning of the numbers that are judged here."""
        return int(self.simulate("numerics_version"))
