"""The solver: the honest next move, from the game, one's own trace, and what is known of the other side's claims.

Pure: it performs nothing and fetches nothing. It returns a decision with the name of the rule that made it. Where the other
side's digests are missing it answers ``Ask``, once for each tree, so that the agent can try the data service before the chain
is made to force them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from bisection.boundary import LITTLE_ENDIAN, state_tensors
from bisection.cut import combined, run_starts
from bisection.descent import Descent, digests, holds, parts_of, parts_payload, span
from bisection.errors import VerificationError
from bisection.game import (
    Claim,
    Conclude,
    ConcludePart,
    Demand,
    Demanded,
    DemandRun,
    DemandTensor,
    Game,
    Move,
    Owed,
    Pick,
    PostTrace,
    Refute,
    Reveal,
    Revealed,
    Revelation,
    RunDemanded,
    ShowStep,
    StepOpening,
    Timeout,
    TreeKind,
)
from bisection.merkle import LEAF_BYTES, Content, Tree, blob_tree, joined_proofs, leaf_count, leaf_digest
from bisection.nodes import DTYPES, MAX_LENGTH, Input, Output, RunNode
from bisection.partial import Blocked, PartialTree
from bisection.program import Program
from bisection.reference import part_results
from bisection.trace import Trace
from bisection.witness import Leaf, boundary_witness, node_proof, part_witness, witness

__all__ = ["Ask", "Decision", "Knowledge", "Open", "challenge", "defend", "open_game", "own_parts", "parts_below"]


@dataclass(frozen=True, slots=True)
class Ask:
    """Try to get a tree's leaves (of TENSOR ``tensor``: its bytes) from the trainer's data service."""

    tree: TreeKind
    tensor: int | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """Open a game: at a step with its proofs, or blind."""

    opening: StepOpening | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and the rule that says so. ``action`` is None where there is nothing to do."""

    action: Move | Ask | Open | None
    rule: str


@dataclass
class Knowledge:
    """What a challenger knows of the trainer's claims about one segment of ``program``: verified digests only.

    ``leaves`` are bytes revealed by tensor and leaf, ``contents`` whole tensors from the data service; ``parts`` are the partial
    results revealed of the run in dispute, by the height and position that they lie below. ``asked`` says of all that the data
    service was asked for whether it gave it, and truly.
    """

    claim: Claim
    program: Program
    history: PartialTree = field(init=False)
    trace: PartialTree | None = None
    state: PartialTree | None = None
    tensors: dict[int, PartialTree] = field(default_factory=dict)
    leaves: dict[tuple[int, int], bytes] = field(default_factory=dict)
    contents: dict[int, Content] = field(default_factory=dict)
    parts: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    asked: dict[Ask, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.history = PartialTree(self.claim.history_root, self.claim.length + 1)

    def enter(self, game: Game) -> None:
        """Note the roots that the game has fixed by now."""
        if self.trace is None and game.trace_root is not None:
            self.trace = PartialTree(game.trace_root, self.claim.tensor_count)
        if self.state is None and game.step is not None:
            self.state = PartialTree(game.after, self.claim.state_count)

    def tree(self, kind: TreeKind, tensor: int | None = None) -> PartialTree:
        """The known part of a tree. Raises LookupError when its root is not known yet."""
        found = {TreeKind.HISTORY: self.history, TreeKind.TRACE: self.trace, TreeKind.STATE: self.state}.get(kind)
        if kind == TreeKind.TENSOR and tensor is not None:
            found = self.tensors.get(tensor)
        if found is None:
            raise LookupError(f"the root of the {kind.name} tree is not known yet")
        return found

    def learn(self, revelation: Revelation) -> None:
        """Take in what a move on chain has taught everybody; of what was revealed, what holds."""
        if isinstance(revelation, Demanded):
            if revelation.tree == TreeKind.TENSOR and revelation.tensor not in self.tensors:
                count = leaf_count(self.program.tensors[revelation.tensor].nbytes)
                self.tensors[revelation.tensor] = PartialTree(revelation.root, count)
        elif isinstance(revelation, RunDemanded):
            self.tree(TreeKind.TRACE).learn_path(revelation.tensor, revelation.root, revelation.trace_proof)
        else:
            with suppress(VerificationError):  # it is to be refuted, not learnt
                self._learn_payload(revelation)

    def _learn_payload(self, shown: Revealed) -> None:
        """Take in what was revealed of a node. Raises VerificationError when it does not hold."""
        if shown.tree == TreeKind.RUN:
            self.parts[shown.height, shown.position] = parts_of(shown.payload)
            return
        tree = self.tree(shown.tree, shown.tensor)
        if shown.height:
            tree.learn(shown.height, shown.position, digests(shown.payload))
        elif leaf_digest(shown.payload) == tree.leaf(shown.position):
            self.leaves[shown.tensor, shown.position] = shown.payload

    def learn_tensor(self, number: int, data: Content) -> None:
        """Take in all bytes of a tensor. Raises VerificationError when they do not hash to its root."""
        self.tensors[number].learn_tree(blob_tree(data))
        self.contents[number] = data

    def leaf(self, number: int, leaf: int) -> bytes | None:
        """The bytes of one leaf of a tensor, when known."""
        data = self.contents.get(number)
        return self.leaves.get((number, leaf)) if data is None else data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]


# The challenger's rules -------------------------------------------------------------------------------------------------


def _obtain(knowledge: Knowledge, ask: Ask, otherwise: Move | Open, rule: str) -> Decision:
    """Ask the data service first; when it has been asked in vain, the chain."""
    if ask not in knowledge.asked:
        return Decision(ask, "ask before you force: the data service is free")
    return Decision(otherwise, rule)


def _descend(game: Game, kind: TreeKind, blocked: Blocked, start: Move, ask: Ask, knowledge: Knowledge) -> Decision:
    """Get below ``blocked``: pick it if a descent into this tree runs, else start one."""
    d = game.descent
    if d is not None and d.tree == kind and kind in game.demanded:
        return Decision(_pick(game, d, blocked.position - (d.position << d.levels)), "follow the leftmost difference")
    return _obtain(knowledge, ask, start, "what is withheld is revealed on chain or lost by silence")


def _pick(game: Game, d: Descent, child: int) -> Pick:
    return Pick(d.seal(game.claim.trainer), child)


def _opening(knowledge: Knowledge, own: Trace, leaf: int) -> StepOpening:
    before, after = knowledge.history.leaf(leaf - 1) or own.history().node(0, leaf - 1), knowledge.history.leaf(leaf)
    assert after is not None
    proofs = (knowledge.history.prove(index, own.history()) for index in (leaf - 1, leaf))
    return StepOpening(leaf - 1, before, after, tuple(joined_proofs(leaf - 1, *proofs)))


def open_game(knowledge: Knowledge, own: Trace) -> Decision:
    """Whether and how to challenge a segment that has just been replayed."""
    found = knowledge.history.first_difference(own.history())
    if found is None:
        return Decision(None, "an equal history root leaves nothing to dispute")
    if isinstance(found, Blocked):
        return _obtain(knowledge, Ask(TreeKind.HISTORY), Open(None), "a withheld history is bisected on chain")
    if found == 0:
        return Decision(None, "a segment that starts from another state is disputed where that state came about: in an earlier one")
    return Decision(Open(_opening(knowledge, own, found)), "open at the first wrong state: the one before is agreed")


def challenge(game: Game, own: Trace, knowledge: Knowledge, now: int) -> Decision:
    """The challenger's next action."""
    knowledge.enter(game)
    if game.owed != Owed.NOTHING:
        if now - game.moved_at > game.trainer_clock:
            return Decision(Timeout(), "silence loses")
        return Decision(None, "it is the trainer's turn")
    d = game.descent
    if d is not None and d.below is not None and not holds(d):
        return Decision(Refute(d.origin, d.first, d.above, d.below), "what was revealed is not what was asked for")
    if game.step is None:
        found = knowledge.history.first_difference(own.history())
        if isinstance(found, Blocked):
            assert game.descent is not None
            return _descend(game, TreeKind.HISTORY, found, Demand(TreeKind.HISTORY), Ask(TreeKind.HISTORY), knowledge)
        if not found:
            return Decision(None, "this segment has no first wrong step: it is right, or wrong from its start")
        return _show_step(knowledge, _opening(knowledge, own, found))
    if (unfinished := _finish_tensor(game, own, knowledge)) is not None:
        return unfinished
    if (unfinished := _finish_run(game, own, knowledge)) is not None:
        return unfinished
    assert knowledge.trace is not None
    first = knowledge.trace.first_difference(own.tensors(game.step))
    if first is None:
        return _dispute_state_after(game, own, knowledge)
    if isinstance(first, Blocked):
        return _descend(game, TreeKind.TRACE, first, Demand(TreeKind.TRACE), Ask(TreeKind.TRACE), knowledge)
    node = own.program.nodes[own.program.producer[first]]
    return _dispute_input(game, own, knowledge, first) if isinstance(node, Input) else _dispute_tensor(game, own, knowledge, first)


def _show_step(knowledge: Knowledge, opening: StepOpening) -> Decision:
    """Point at the step; from a service that withholds the history no trace is expected either, so that is demanded with it."""
    ask = Ask(TreeKind.HISTORY)
    if ask not in knowledge.asked:
        return Decision(ask, "ask before you force: the data service is free")
    descend = not knowledge.asked[ask] and knowledge.claim.tensor_count > 1
    return Decision(ShowStep(opening, descend), "show the first wrong state: the one before is agreed")


def _finish_tensor(game: Game, own: Trace, knowledge: Knowledge) -> Decision | None:
    """The next pick in a tensor that the game has descended into, if it has and its first wrong leaf is not known yet."""
    d = game.descent
    if d is None or d.tree != TreeKind.TENSOR or game.step is None:
        return None
    found = knowledge.tree(d.tree, d.tensor).first_difference(blob_tree(own.tensor(game.step, d.tensor)))
    if found is None:
        return None
    if not isinstance(found, Blocked) and knowledge.leaf(d.tensor, found) is not None:
        return None
    position = found.position if isinstance(found, Blocked) else found
    return Decision(_pick(game, d, position - (d.position << d.levels)), "finish a descent: no tree can be demanded twice")


def _finish_run(game: Game, own: Trace, knowledge: Knowledge) -> Decision | None:
    """The next pick among the partial results of a run that the game has descended into, or the verdict on a part."""
    d = game.descent
    if d is None or d.tree != TreeKind.RUN or game.run is None:
        return None
    assert game.step is not None and knowledge.trace is not None
    step, (index, position) = game.step, game.run
    theirs, ours = knowledge.parts[d.height, d.position], parts_below(own_parts(game, own), d)
    child = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b), None)
    if child is None:
        return Decision(None, "every part of this run is right, and so is the element")
    if d.levels < d.height:
        return Decision(_pick(game, d, child), "one of the partial results is wrong: follow the first")
    prove = _prover(knowledge.trace, own.tensors(step))
    assert d.below is not None
    part = (d.position << d.levels) + child
    w = part_witness(own.program, index, position, part, lambda number: own.tensor(step, number), prove)
    move = ConcludePart(w.node, d.trail, d.below, child, w.inputs)
    return Decision(move, "one part is wrong and its inputs are agreed: recompute it")


def _dispute_state_after(game: Game, own: Trace, knowledge: Knowledge) -> Decision:
    """The trace is right, so the state after the step does not follow from it."""
    assert knowledge.state is not None and game.step is not None
    found = knowledge.state.first_difference(own.state(game.step + 1))
    if found is None:
        return Decision(None, "this step is right in every tensor")
    if isinstance(found, Blocked):
        return _descend(game, TreeKind.STATE, found, Demand(TreeKind.STATE), Ask(TreeKind.STATE), knowledge)
    index = next(i for i, n in enumerate(own.program.nodes) if isinstance(n, Output) and n.index == found)
    tensor = state_tensors(own.program)[found]
    trace = own.tensors(game.step)
    claimed = knowledge.state.leaf(found) or knowledge.state.root
    component = (claimed, knowledge.state.prove(found, own.state(game.step + 1)))
    w = boundary_witness(own.program, index, (trace.node(0, tensor), trace.prove(tensor)), component)
    return Decision(Conclude(w), "a state must be what its trace says")


def _dispute_input(game: Game, own: Trace, knowledge: Knowledge, tensor: int) -> Decision:
    """The trace starts from something else than the agreed state or the data."""
    assert knowledge.trace is not None and game.step is not None
    number = own.program.producer[tensor]
    node = own.program.nodes[number]
    assert isinstance(node, Input)
    source = own.data() if node.source == "data" else own.state(game.step)
    claimed = knowledge.trace.leaf(tensor) or knowledge.trace.root
    proof = knowledge.trace.prove(tensor, own.tensors(game.step))
    w = boundary_witness(own.program, number, (claimed, proof), (source.node(0, node.index), source.prove(node.index)))
    return Decision(Conclude(w), "a trace must start from the committed state and data")


def _dispute_tensor(game: Game, own: Trace, knowledge: Knowledge, tensor: int) -> Decision:
    """All inputs of this tensor's node are agreed: one of its elements is wrong."""
    assert knowledge.trace is not None and game.step is not None
    program, step = own.program, game.step
    ref = program.tensors[tensor]
    mine = own.tensor(step, tensor)
    own_trace, own_tree = own.tensors(step), blob_tree(mine)
    root = knowledge.trace.leaf(tensor) or knowledge.trace.root
    claimed = knowledge.tensors.setdefault(tensor, PartialTree(root, own_tree.count))
    trace_proof = tuple(knowledge.trace.prove(tensor, own_trace))
    number = program.producer[tensor]
    output = tensor - program.nodes[number].outputs[0].tensor
    start = DemandTensor(node_proof(program, number), output, root, trace_proof)
    ask = Ask(TreeKind.TENSOR, tensor)
    leaf = claimed.first_difference(own_tree)
    assert leaf is not None
    theirs = None if isinstance(leaf, Blocked) else knowledge.leaf(tensor, leaf)
    if theirs is None or isinstance(leaf, Blocked):
        return _obtain(knowledge, ask, start, "what is withheld is revealed on chain or lost by silence")
    size = DTYPES[ref.dtype].size
    ours = mine[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
    at = next(at for at in range(0, len(ours), size) if ours[at : at + size] != theirs[at : at + size])
    position = (leaf * LEAF_BYTES + at) // size
    claim = Leaf(root, trace_proof, theirs, tuple(claimed.prove(leaf, own_tree)))
    node = program.nodes[number]
    if isinstance(node, RunNode) and node.length > MAX_LENGTH:
        return Decision(DemandRun(start.node, position, claim), "a run too long for one verdict is taken apart first")
    prove = _prover(knowledge.trace, own_trace)
    w = witness(program, tensor, position, claim, lambda number: own.tensor(step, number), prove)
    return Decision(Conclude(w), "one element is wrong and its inputs are agreed: the referee recomputes it")


def _prover(trace: PartialTree, own: Tree) -> Callable[[int], list[bytes]]:
    return lambda number: trace.prove(number, own)


# Partial results, for both sides ------------------------------------------------------------------------------------------


def own_parts(game: Game, own: Trace) -> list[int]:
    """One's own partial results of all parts of the run in dispute."""
    assert game.run is not None and game.step is not None
    index, position = game.run
    node = own.program.nodes[index]
    assert isinstance(node, RunNode)
    runs = []
    for ref, start in zip(node.inputs, run_starts(node, position), strict=True):
        size = DTYPES[ref.dtype].size
        data = own.tensor(game.step, ref.tensor)[start * size : (start + node.length) * size]
        runs.append(np.frombuffer(data, LITTLE_ENDIAN[ref.dtype]))
    return part_results(node, runs, position)


def parts_below(parts: Sequence[int], d: Descent) -> tuple[int, ...]:
    """What a reveal of the node in question shows: partial results one reveal further down, given those of all ``parts``."""
    each = 1 << (d.height - d.levels)
    first, last = d.position << d.height, min((d.position + 1) << d.height, len(parts))
    return tuple(combined(parts[at : at + each], d.takes_max) for at in range(first, last, each))


# The trainer's rules ----------------------------------------------------------------------------------------------------


def defend(game: Game, own: Trace, now: int) -> Decision:
    """The trainer's next action."""
    if game.owed == Owed.NOTHING:
        if now - game.moved_at > game.challenger_clock:
            return Decision(Timeout(), "silence loses")
        return Decision(None, "it is the challenger's turn")
    if game.owed == Owed.TRACE:
        assert game.step is not None
        tree = own.tensors(game.step)
        payload = _digests_below(tree, tree.depth, 0) if TreeKind.TRACE in game.demanded else b""
        return Decision(PostTrace(tree.root, payload), "post the trace that one's own execution has")
    d = game.descent
    assert d is not None
    payload, rule = _shown(game, d, own)
    if d.tree == TreeKind.RUN and combined(parts_of(payload), d.takes_max) != d.value:
        return Decision(None, "a wrong element cannot be defended: its parts do not combine to it")
    return Decision(Reveal(d.trail, d.picked, payload), rule)


def _shown(game: Game, d: Descent, own: Trace) -> tuple[bytes, str]:
    """What one's own execution has in the place of the node in question, as a payload, and the rule that says to show it."""
    if d.tree == TreeKind.RUN:
        return parts_payload(parts_below(own_parts(game, own), d)), "reveal the partial results asked for"
    if d.height == 0:
        assert game.step is not None
        data = own.tensor(game.step, d.tensor)[d.position * LEAF_BYTES : (d.position + 1) * LEAF_BYTES]
        return data, "show the leaf that was asked for"
    return _digests_below(_own_tree(game.step, d, own), d.height, d.position), "reveal the digests that were asked for"


def _digests_below(tree: Tree, height: int, position: int) -> bytes:
    """The payload that shows the descendants of a node."""
    levels = span(height)
    return b"".join(tree.node(height - levels, (position << levels) + i) for i in range(1 << levels))


def _own_tree(step: int | None, descent: Descent, own: Trace) -> Tree:
    if descent.tree == TreeKind.HISTORY:
        return own.history()
    assert step is not None
    if descent.tree == TreeKind.TRACE:
        return own.tensors(step)
    if descent.tree == TreeKind.STATE:
        return own.state(step + 1)
    return blob_tree(own.tensor(step, descent.tensor))
