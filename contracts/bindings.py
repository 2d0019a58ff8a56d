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

from bisection.game import ARITY_BITS, ConcludePart, DemandRun, RevealParts, ShowStep, StepOpening
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

__all__ = ["NO_PICK", "DescentView", "DisputeGame", "GameView", "Phase", "Referee", "Tree", "step_commitment"]

NO_PICK = 1 << ARITY_BITS  # DescentView.picked where no descendant has been picked


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

    ``size`` is in bytes; in a run it says whether an element is a maximum (1) or a sum (0). ``node`` is zero while the root of a
    trace that is to be descended is owed.
    """

    tree: Tree
    node: bytes
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
    step                     counted within the segment
    trace_root               zero at first
    trainer_clock            the seconds left at ``moved_at``, in protocol time; so ``challenger_clock``
    run_node, run_position   the node and the position of the element whose run was demanded
    """

    job: int
    attempt: int
    segment: int
    challenger: ChecksumAddress
    rank: int
    phase: Phase
    descended: Tree
    shown: bool
    step: int
    before: bytes
    after: bytes
    trace_root: bytes
    trainer_clock: int
    challenger_clock: int
    moved_at: int
    run_node: int
    run_position: int
    descent: DescentView

    @property
    def step_place(self) -> bytes:
        """What the trainer names with a trace root: 32 bytes that stand for the step."""
        return keccak(encode(["uint256"] * 4, [self.job, self.attempt, self.segment, self.step]))

    @property
    def parts_place(self) -> bytes:
        """What the trainer names with partial results: 32 bytes that stand for the one in question."""
        d = self.descent
        height, position = d.height, d.position
        if d.picked != NO_PICK:
            drop = min(ARITY_BITS, d.height)
            height, position = height - drop, (position << drop) + d.picked
        numbers = [self.run_node, self.run_position, height, position]
        return keccak(encode(["bytes32", *["uint256"] * 4], [self.step_place, *numbers]))


def step_commitment(challenger: str, job: int, segment: int, step: int, salt: bytes) -> bytes:
    """What ``challenger`` commits to before it opens a game on a step, with a random ``salt`` of 32 bytes: 32 bytes."""
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

    def open_blind(self, job: int, segment: int, history_root: bytes | None = None) -> int:
        """Challenge a segment whose states are not known; the number of the game. By default the history is the one posted now."""
        if history_root is None:
            history_root = TaskRegistry(self.web3, self.registry()).segment(job, segment).history_root
        return self.number(self.send("open_blind", job, segment, history_root, value=self.bond), "GameOpened")

    def show_step(self, game: int, move: ShowStep) -> TxReceipt:
        """Point at one step of the segment."""
        return self.send("show_step", game, *plain(move.opening), move.descend)

    def demand_trace(self, game: int) -> TxReceipt:
        """Start down the trace of the step."""
        return self.send("demand_trace", game)

    def demand_state(self, game: int) -> TxReceipt:
        """Start down the state after the step."""
        return self.send("demand_state", game)

    def demand_tensor(self, game: int, node: NodeProof, output: int, tensor_root: bytes, trace_proof: Sequence[bytes]) -> TxReceipt:
        """Start down one tensor of the trace."""
        return self.send("demand_tensor", game, node, output, tensor_root, trace_proof)

    def demand_run(self, game: int, move: DemandRun) -> TxReceipt:
        """Start down the run of one element."""
        return self.send("demand_run", game, *plain(move))

    def pick(self, game: int, node: bytes, child: int) -> TxReceipt:
        """Choose one of the revealed descendants of ``node``."""
        return self.send("pick", game, node, child)

    def post_trace(self, game: int, root: bytes) -> TxReceipt:
        """Answer with the trace root of the step that the game is about now."""
        return self.send("post_trace", game, self.game(game).step_place, root)

    def reveal(self, game: int, children: Sequence[bytes], siblings: Sequence[bytes]) -> TxReceipt:
        """Answer with the descendants of the node in question."""
        return self.send("reveal", game, children, siblings)

    def reveal_leaf(self, game: int, data: bytes, siblings: Sequence[bytes]) -> TxReceipt:
        """Answer with the bytes of the leaf in question."""
        return self.send("reveal_leaf", game, data, siblings)

    def reveal_parts(self, game: int, move: RevealParts) -> TxReceipt:
        """Answer with the partial results below the one that is in question now."""
        return self.send("reveal_parts", game, self.game(game).parts_place, *plain(move))

    def conclude_boundary(self, game: int, witness: BoundaryWitness) -> TxReceipt:
        """Have an input or output node judged."""
        return self.send("conclude_boundary", game, *plain(witness))

    def conclude_element(self, game: int, witness: ElementWitness) -> TxReceipt:
        """Have one element of a map or gather node judged."""
        return self.send("conclude_element", game, *plain(witness))

    def conclude_run(self, game: int, witness: RunWitness) -> TxReceipt:
        """Have one element of a reduce, dot or scatter_add node judged."""
        return self.send("conclude_run", game, *plain(witness))

    def conclude_part(self, game: int, move: ConcludePart) -> TxReceipt:
        """Have one part of a long run judged."""
        return self.send("conclude_part", game, *plain(move))

    def timeout(self, game: int) -> TxReceipt:
        """End a game whose mover has used up its clock."""
        return self.send("timeout", game)

    def reclaim(self, game: int) -> TxReceipt:
        """Take the bond back from a game whose attempt is over."""
        return self.send("reclaim", game)


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
