"""What the longest game costs: 2^20 states, a trace of 2^14 tensors, one of 2^30 elements, each a dot product of 2^20 pairs.

The real registry, game and referee. Nearly all leaves of a tree are alike, so that trees of any size cost nothing to set up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from web3 import Web3
from web3.types import TxReceipt

from bisection.cut import PART_LENGTH, combined, load
from bisection.descent import Descent, below, parts_payload
from bisection.merkle import LEAF_BYTES, joined_proofs, leaf_digest, parent
from bisection.moves import StepOpening
from bisection.nodes import Dot, Ref
from bisection.witness import Leaf, NodeProof, Run, StepRoots
from contracts.bindings import BLIND, Phase, step_commitment
from contracts.client import local_chain
from contracts.deploy import deploy
from contracts.jobs import JobSpec, JobStatus
from contracts.sender import TransactionSender
from contracts.values import plain
from tests.contracts.descending import begun, partials, raw, shown, word
from tests.contracts.stage import BOUNTY, PARAMETERS, SALT, TERMS, Actor, Stage, digest

FAST_PATH, SLOW_PATH, VERDICT = 1_200_000, 2_500_000, 400_000
TRANSACTIONS = 32
DEPLOYABLE = 24_576  # bytes, EIP-170


class RealChain:
    """eth-tester with transaction senders, where Stage expects the quick EVM: its gas is that of separate transactions."""

    def __init__(self) -> None:
        self._chain = local_chain()
        self.web3 = self._chain.web3
        self.senders = [TransactionSender(self.web3, account, poll=0.0) for account in self._chain.accounts]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)


class SparseTree:
    """A tree of 2^depth leaves that are all ``default`` but for a few."""

    def __init__(self, depth: int, default: bytes, leaves: Mapping[int, bytes]) -> None:
        self.depth, self._leaves = depth, dict(leaves)
        self._defaults = [default]
        for _ in range(depth):
            self._defaults.append(parent(self._defaults[-1], self._defaults[-1]))

    def node(self, height: int, position: int) -> bytes:
        """The digest at a place."""
        if all(leaf >> height != position for leaf in self._leaves):
            return self._defaults[height]
        if height == 0:
            return self._leaves[position]
        return parent(self.node(height - 1, 2 * position), self.node(height - 1, 2 * position + 1))

    @property
    def root(self) -> bytes:
        return self.node(self.depth, 0)

    def path(self, height: int, position: int, levels: int) -> list[bytes]:
        """The siblings from a node some levels up."""
        return [self.node(height + k, (position >> k) ^ 1) for k in range(levels)]

    def prove(self, leaf: int) -> tuple[bytes, ...]:
        return tuple(self.path(0, leaf, self.depth))


ROWS, LENGTH = 1 << 15, 1 << 20
X, Y, PRODUCT = Ref(4321, "i8", ROWS * LENGTH), Ref(8765, "i8", ROWS * LENGTH), Ref(12345, "i64", ROWS * ROWS)
DOT = Dot((X, Y), (PRODUCT,), ROWS, ROWS, LENGTH)
POSITION, WRONG_PART, STEP, NUMBER = 987_654_321, 777, 654_321, 11_111
PARTS = LENGTH // PART_LENGTH


@dataclass
class Lie:
    """A trainer's commitments, with one wrong partial result in one dot product."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        self.program = SparseTree(14, digest("node"), {NUMBER: leaf_digest(DOT.encode())})
        self.node = NodeProof(NUMBER, DOT.encode(), self.program.prove(NUMBER))
        self.leaves = [line * LENGTH // LEAF_BYTES + WRONG_PART for line in divmod(POSITION, ROWS)]  # a part is one leaf of i8
        self.operands = [self.rng.bytes(PART_LENGTH) for _ in self.leaves]
        self.tensors = [
            SparseTree(27, digest("leaf"), {leaf: leaf_digest(data)}) for leaf, data in zip(self.leaves, self.operands, strict=True)
        ]
        true = sum(a * b for a, b in zip(*(load(data, "i8") for data in self.operands), strict=True))
        self.parts = [int(part) for part in self.rng.integers(-(1 << 30), 1 << 30, PARTS)]
        self.parts[WRONG_PART] = true + 1
        element = combined(self.parts, False).to_bytes(8, "little", signed=True)
        self.leaf_number = POSITION * 8 // LEAF_BYTES
        at = POSITION * 8 % LEAF_BYTES
        self.leaf = self.rng.bytes(at) + element + self.rng.bytes(LEAF_BYTES - at - 8)
        self.product = SparseTree(25, digest("leaf"), {self.leaf_number: leaf_digest(self.leaf)})
        roots = [*(tree.root for tree in self.tensors), self.product.root]
        self.trace = SparseTree(14, digest("tensor"), {ref.tensor: root for ref, root in zip((X, Y, PRODUCT), roots, strict=True)})
        self.history = SparseTree(20, digest("state"), {STEP + 1: digest("another state")})
        self.spec = JobSpec(
            self.program.root, (1 << 14) - 1, 1 << 14, digest("state"), 64, digest("data"), 2, (1 << 20) - 1, (1 << 20) - 1, 1
        )

    def opening(self) -> StepOpening:
        h = self.history
        proof = joined_proofs(STEP, h.prove(STEP), h.prove(STEP + 1))
        return StepOpening(STEP, h.node(0, STEP), h.node(0, STEP + 1), tuple(proof))

    def claim(self) -> Leaf:
        return Leaf(self.product.root, self.trace.prove(PRODUCT.tensor), self.leaf, self.product.prove(self.leaf_number))

    def runs(self) -> tuple[Run, ...]:
        return tuple(
            Run(tree.root, self.trace.prove(ref.tensor), data, tree.prove(leaf))
            for ref, tree, leaf, data in zip((X, Y), self.tensors, self.leaves, self.operands, strict=True)
        )

    def roots(self) -> StepRoots:
        """What is committed about the disputed step."""
        spec, before, after = self.spec, self.history.node(0, STEP), self.history.node(0, STEP + 1)
        return StepRoots(
            spec.program_root, spec.node_count, self.trace.root, spec.tensor_count, before, after, spec.state_count,
            spec.data_root, spec.data_count,
        )  # fmt: skip


class Bill:
    """The transactions of a dispute and their gas, by name."""

    def __init__(self) -> None:
        self.items: list[tuple[str, int]] = []

    def add(self, name: str, receipt: TxReceipt) -> TxReceipt:
        self.items.append((name, receipt["gasUsed"]))
        return receipt

    @property
    def total(self) -> int:
        return sum(gas for _, gas in self.items)


@pytest.fixture(scope="module")
def lie() -> Lie:
    return Lie()


@pytest.fixture(scope="module")
def stage() -> Stage:
    """A deployment with the real referee."""
    chain: Any = RealChain()
    return Stage(chain, deploy(chain.senders[0], replace(PARAMETERS, trainer_clock=10_000, challenger_clock=10_000)))


def posted(stage: Stage, lie: Lie) -> int:
    """The lie as a posted segment of a job."""
    terms = replace(TERMS, game=Web3.to_checksum_address(stage.book.game))
    job = stage.requester.registry.open_job(lie.spec, terms, "", BOUNTY)
    stage.claim(job)
    last = (1 << 20) - 1
    h = lie.history
    stage.trainer.registry.post_segment(job, h.root, h.prove(0), h.node(0, last), h.prove(last))
    return job


class Dispute:
    """A dispute of the lie, with what every transaction cost."""

    def __init__(self, stage: Stage, lie: Lie) -> None:
        self.stage, self.lie, self.bill, self.job = stage, lie, Bill(), posted(stage, lie)
        self.game = stage.game.game_count() + 1

    def moves(self, actor: Actor, name: str, *args: Any, value: int = 0) -> None:
        self.bill.add(name, actor.game.send(name, *plain(args), value=value))

    def challenges(self, name: str, *args: Any) -> None:
        """A move of the challenger on the step."""
        self.moves(self.stage.challenger, name, self.game, self.lie.roots(), *args)

    def open(self, name: str, step: int, *shown: Any) -> None:
        """Commit to an opening, and open in the next block."""
        challenger = self.stage.challenger
        self.moves(challenger, "commit", step_commitment(challenger.address, self.job, 0, step, SALT))
        self.moves(challenger, name, self.job, 0, *shown, SALT, value=PARAMETERS.bond)

    def post_trace(self, payload: bytes = b"") -> None:
        place = self.stage.game.game(self.game).step_place
        self.moves(self.stage.trainer, "post_trace", self.game, place, self.lie.trace.root, payload)

    def begin(self, root: bytes) -> Descent:
        """The descent that was demanded."""
        return begun(self.stage.game.game(self.game), root)

    def reveal(self, d: Descent, payload: bytes) -> Descent:
        self.moves(self.stage.trainer, "reveal", self.game, d.trail, d.picked, payload)
        return replace(d, below=payload)

    def pick(self, d: Descent, leaf: int) -> Descent:
        """Pick the revealed descendant above a leaf."""
        trainer = raw(self.stage.trainer.address)
        child = leaf >> (d.height - d.levels) & ((1 << d.levels) - 1)
        self.moves(self.stage.challenger, "pick", self.game, d.seal(trainer), child)
        return below(d, d.seal(trainer), child, trainer)

    def descend(self, tree: SparseTree, leaf: int, d: Descent | None = None) -> Descent:
        """Down to the digest of a leaf, from what was revealed already, or from the root."""
        if d is None:
            root = self.begin(tree.root)
            d = self.reveal(root, shown(tree, root))
        while d.levels < d.height:
            d = self.pick(d, leaf)
            d = self.reveal(d, shown(tree, d))
        return d

    def demand_run(self) -> None:
        """Down to the part that is wrong, and its verdict."""
        lie = self.lie
        self.challenges("demand_run", lie.node, POSITION, lie.claim())
        d = self.begin(word(combined(lie.parts, False)))
        d = self.reveal(d, parts_payload(partials(lie.parts, d)))
        while d.levels < d.height:
            d = self.pick(d, WRONG_PART)
            d = self.reveal(d, parts_payload(partials(lie.parts, d)))
        child = WRONG_PART - (d.position << d.height)
        self.challenges("conclude_part", lie.node, d.trail, d.below, child, lie.runs())
        assert self.stage.game.game(self.game).phase == Phase.CONVICTED
        assert self.stage.registry.job(self.job).status == JobStatus.SLASHED


@pytest.fixture(scope="module")
def fast(stage: Stage, lie: Lie) -> Bill:
    """Everything known from the data service but the parts of the run. Between accounts that have been paid before."""
    for _ in range(2):
        dispute = Dispute(stage, lie)
        dispute.open("open_step", STEP, *plain(lie.opening()))
        dispute.post_trace()
        dispute.demand_run()
    return dispute.bill


@pytest.fixture(scope="module")
def slow(stage: Stage, lie: Lie, fast: Bill) -> Bill:
    """Everything withheld. Between accounts that have been paid before."""
    dispute = Dispute(stage, lie)
    dispute.open("open_blind", BLIND, lie.history.root)
    dispute.descend(lie.history, STEP + 1)
    dispute.moves(stage.challenger, "show_step", dispute.game, *plain(lie.opening()), True)
    first = b"".join(lie.trace.node(9, i) for i in range(32))  # the first reveal of a tree of depth 14 goes down five levels
    dispute.post_trace(first)
    dispute.descend(lie.trace, PRODUCT.tensor, replace(dispute.begin(lie.trace.root), below=first))
    dispute.challenges("demand_tensor", lie.node, 0, lie.product.root, lie.trace.prove(PRODUCT.tensor))
    d = dispute.pick(dispute.descend(lie.product, lie.leaf_number), lie.leaf_number)
    dispute.reveal(d, lie.leaf)
    dispute.demand_run()
    return dispute.bill


def test_the_contracts_can_be_deployed(stage: Stage) -> None:
    book = stage.book
    assert max(len(stage.chain.web3.eth.get_code(at)) for at in (book.game, book.referee, book.registry)) <= DEPLOYABLE


def test_the_fast_path_is_cheap(fast: Bill) -> None:
    assert fast.total <= FAST_PATH, fast.items


def test_the_slow_path_is_short_and_bearable(slow: Bill) -> None:
    assert len(slow.items) <= TRANSACTIONS
    assert slow.total <= SLOW_PATH, slow.items


def test_a_verdict_on_a_part_is_one_modest_transaction(fast: Bill) -> None:
    assert dict(fast.items)["conclude_part"] <= VERDICT, fast.items
