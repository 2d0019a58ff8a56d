# pragma version 0.4.3
# @title One claim against one challenger, any number of games at once
# @license Apache-2.0
# @notice docs/protocol.md, "A game". Games are numbered from 1. The contract holds exactly the bonds of live games and what it has
#         credited. Every move is bound to what it answers: a pick by the node that it names, all others by their proofs.

from interfaces import IDisputeGame
from interfaces import IReferee
from interfaces import ITaskRegistry
from modules import descent
from modules import ledger
from modules import merkle
from modules import turns

implements: IDisputeGame

initializes: ledger
exports: (ledger.credit, ledger.withdraw)

MAX_SECONDS: constant(uint256) = 2**32 - 1
MAX_TENSOR_LEAVES: constant(uint256) = 2**32


# A game as it is stored: what never changes and what changes (modules/turns.vy), the states around the step, and the node and the rest
# of the descent (modules/descent.vy).
struct Record:
    parties: uint256
    play: uint256
    before: bytes32
    after: bytes32
    node: bytes32
    descent: uint256


registry: public(immutable(ITaskRegistry))
referee: public(immutable(IReferee))
bond: public(immutable(uint256))
trainer_clock: public(immutable(uint256))
challenger_clock: public(immutable(uint256))

game_count: public(uint256)
_records: HashMap[uint256, Record]
# job -> segment -> step -> root
_traces: HashMap[uint256, HashMap[uint256, HashMap[uint256, bytes32]]]


@deploy
def __init__(registry_: address, referee_: address, bond_: uint256, trainer_clock_: uint256, challenger_clock_: uint256):
    """
    @param bond_ What a challenger stakes on a game, in wei.
    @param trainer_clock_ The trainer's time for all its moves in one game, in seconds.
    @param challenger_clock_ The challenger's time for all its moves in one game, in seconds.
    """
    assert registry_ != empty(address) and referee_ != empty(address), "game: no registry or referee"
    assert 1 <= bond_, "game: no bond"
    assert 1 <= trainer_clock_ and trainer_clock_ <= MAX_SECONDS, "game: bad trainer clock"
    assert 1 <= challenger_clock_ and challenger_clock_ <= MAX_SECONDS, "game: bad challenger clock"
    registry = ITaskRegistry(registry_)
    referee = IReferee(referee_)
    bond = bond_
    trainer_clock = trainer_clock_
    challenger_clock = challenger_clock_


@external
@view
def game(game: uint256) -> IDisputeGame.Game:
    """
    @notice All there is to know of a game.
    """
    state: turns.State = self._load(game)
    return IDisputeGame.Game(
        job=state.job,
        segment=state.segment,
        challenger=state.challenger,
        phase=state.phase,
        descended=state.descended,
        shown=state.shown,
        step=state.step,
        before=self._records[game].before,
        after=self._records[game].after,
        trace_root=self._trace(state) if state.shown else empty(bytes32),
        trainer_clock=state.trainer_clock,
        challenger_clock=state.challenger_clock,
        moved_at=state.moved_at,
        descent=self._load_descent(game),
    )


@external
@view
def trace_root(job: uint256, segment: uint256, step: uint256) -> bytes32:
    """
    @notice The trace root that the trainer posted for a step; zero where there is none.
    """
    return self._traces[job][segment][step]


# Opening


@external
@payable
@nonreentrant
def open_step(
    job: uint256,
    segment: uint256,
    step: uint256,
    before: bytes32,
    before_proof: DynArray[bytes32, 32],
    after: bytes32,
    after_proof: DynArray[bytes32, 32],
) -> uint256:
    """
    @notice Challenge one step, with the bond as value. The trainer owes the trace root, unless it is known.
    @param step The step of the segment that leads from history leaf `step` to the next.
    @return The number of the game.
    """
    game: uint256 = 0
    state: turns.State = empty(turns.State)
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    game, state, disputed = self._open(job, segment)
    self._show(game, state, disputed, step, before, before_proof, after, after_proof)
    return game


@external
@payable
@nonreentrant
def open_blind(job: uint256, segment: uint256) -> uint256:
    """
    @notice Challenge a segment whose states are not known, with the bond as value. The trainer owes the descendants of its history
            root.
    @return The number of the game.
    """
    game: uint256 = 0
    state: turns.State = empty(turns.State)
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    game, state, disputed = self._open(job, segment)
    self._demand(game, state, IDisputeGame.Tree.HISTORY, disputed.history_root, disputed.steps + 1, 0, 0)
    return game


# Moves of the challenger


@external
def show_step(
    game: uint256,
    step: uint256,
    before: bytes32,
    before_proof: DynArray[bytes32, 32],
    after: bytes32,
    after_proof: DynArray[bytes32, 32],
):
    """
    @notice Point at one step of the segment. The trainer owes its trace root, unless it is known.
    """
    state: turns.State = self._challenger_moves(game)
    assert not state.shown, "game: step already shown"
    disputed: ITaskRegistry.Segment = staticcall registry.segment(state.job, state.segment)
    self._show(game, state, disputed, step, before, before_proof, after, after_proof)
    # The descent that found the step is over.
    self._records[game].descent = 0


@external
def demand_trace(game: uint256):
    """
    @notice Start down the trace of the step. The trainer owes the descendants of the trace root.
    """
    state: turns.State = self._challenger_moves_on_step(game)
    spec: ITaskRegistry.JobSpec = staticcall registry.spec(state.job)
    self._demand(game, state, IDisputeGame.Tree.TRACE, self._trace(state), spec.tensor_count, 0, 0)


@external
def demand_state(game: uint256):
    """
    @notice Start down the state after the step. The trainer owes the descendants of its root.
    """
    state: turns.State = self._challenger_moves_on_step(game)
    spec: ITaskRegistry.JobSpec = staticcall registry.spec(state.job)
    self._demand(game, state, IDisputeGame.Tree.STATE, self._records[game].after, spec.state_count, 0, 0)


@external
def demand_tensor(
    game: uint256,
    node: IReferee.NodeProof,
    output: uint256,
    tensor_root: bytes32,
    trace_proof: DynArray[bytes32, 24],
):
    """
    @notice Start down one tensor of the trace. The trainer owes the descendants of its root, or the bytes of its only leaf.
    @param node The node that writes the tensor, as output number `output`.
    """
    state: turns.State = self._challenger_moves_on_step(game)
    step: IReferee.Step = self._step(game, state)
    tensor: uint256 = 0
    size: uint256 = 0
    tensor, size = staticcall referee.locate(step, node, output)
    merkle.check(tensor_root, tensor, step.tensor_count, trace_proof, step.trace_root)
    assert size <= MAX_TENSOR_LEAVES * merkle.LEAF_BYTES, "game: tensor too large"
    # A tensor without bytes has one empty leaf.
    count: uint256 = max((size + merkle.LEAF_BYTES - 1) // merkle.LEAF_BYTES, 1)
    self._demand(game, state, IDisputeGame.Tree.TENSOR, tensor_root, count, tensor, size)


@external
def pick(game: uint256, node: bytes32, child: uint256):
    """
    @notice Choose one of the revealed descendants. The trainer owes that one's descendants or, where it is a leaf of a tensor, its
            bytes.
    @param node The node whose descendants were revealed, so that the move cannot land on another state of the game.
    """
    state: turns.State = self._challenger_moves(game)
    d: IDisputeGame.Descent = self._load_descent(game)
    height: uint256 = 0
    position: uint256 = 0
    d, state.phase, height, position = descent.pick(d, node, child)
    self._save_descent(game, d)
    self._save(game, state)
    log IDisputeGame.Picked(game=game, child=child, height=height, position=position)


@external
@nonreentrant
def conclude_boundary(
    game: uint256,
    node: IReferee.NodeProof,
    tensor_root: bytes32,
    trace_proof: DynArray[bytes32, 24],
    component_root: bytes32,
    component_proof: DynArray[bytes32, 24],
):
    """
    @notice Have an input or output node judged: its tensor must have the root of its component of the state or data.
    """
    state: turns.State = self._challenger_moves_on_step(game)
    joined: bool = staticcall referee.judge_boundary(
        self._step(game, state), node, tensor_root, trace_proof, component_root, component_proof
    )
    log IDisputeGame.BoundaryJudged(
        game=game, node=node.index, tensor_root=tensor_root, component_root=component_root, joined=joined
    )
    self._decide(game, state, joined, False)


@external
@nonreentrant
def conclude_element(
    game: uint256,
    node: IReferee.NodeProof,
    output: uint256,
    position: uint256,
    claim: IReferee.Leaf,
    inputs: DynArray[IReferee.Leaf, 8],
):
    """
    @notice Have one element of a map or gather node judged: the claimed value must be the recomputed one.
    """
    state: turns.State = self._challenger_moves_on_step(game)
    claimed: int256 = 0
    correct: int256 = 0
    claimed, correct = staticcall referee.judge_element(self._step(game, state), node, output, position, claim, inputs)
    log IDisputeGame.Judged(game=game, node=node.index, output=output, position=position, claimed=claimed, correct=correct)
    self._decide(game, state, claimed == correct, False)


@external
@nonreentrant
def conclude_run(
    game: uint256,
    node: IReferee.NodeProof,
    output: uint256,
    position: uint256,
    claim: IReferee.Leaf,
    inputs: DynArray[IReferee.Run, 2],
):
    """
    @notice Have one element of a reduce, dot or scatter_add node judged: the claimed value must be the recomputed one.
    """
    state: turns.State = self._challenger_moves_on_step(game)
    claimed: int256 = 0
    correct: int256 = 0
    claimed, correct = staticcall referee.judge_run(self._step(game, state), node, output, position, claim, inputs)
    log IDisputeGame.Judged(game=game, node=node.index, output=output, position=position, claimed=claimed, correct=correct)
    self._decide(game, state, claimed == correct, False)


# Moves of the trainer


@external
def post_trace(game: uint256, root: bytes32):
    """
    @notice Answer with the trace root of the step. It is the same in all games on the step.
    """
    state: turns.State = self._trainer_moves(game, IDisputeGame.Phase.TRACE)
    known: bytes32 = self._trace(state)
    if known == empty(bytes32):
        assert root != empty(bytes32), "game: empty trace root"
        self._traces[state.job][state.segment][state.step] = root
    else:
        assert root == known, "game: another trace root is known"
    self._save(game, state)
    log IDisputeGame.TracePosted(game=game, job=state.job, segment=state.segment, step=state.step, root=root)


@external
def reveal(game: uint256, children: DynArray[bytes32, 16], siblings: DynArray[bytes32, 4]):
    """
    @notice Answer with the descendants of the node in question, four levels down or at the leaves.
    @param siblings The path from the picked node to the one that the contract knows; nothing at the root.
    """
    state: turns.State = self._trainer_moves(game, IDisputeGame.Phase.CHILDREN)
    d: IDisputeGame.Descent = descent.reveal(self._load_descent(game), children, siblings)
    self._save_descent(game, d)
    self._save(game, state)
    log IDisputeGame.Revealed(
        game=game,
        tree=d.tree,
        tensor=d.tensor,
        node=d.node,
        height=d.height,
        position=d.position,
        children=children,
    )


@external
def reveal_leaf(game: uint256, data: Bytes[256], siblings: DynArray[bytes32, 4]):
    """
    @notice Answer with the bytes of the leaf in question, at their exact length. This ends the descent.
    @param siblings The path from the leaf to the node that the contract knows.
    """
    state: turns.State = self._trainer_moves(game, IDisputeGame.Phase.LEAF)
    d: IDisputeGame.Descent = self._load_descent(game)
    leaf: uint256 = 0
    d, leaf = descent.reveal_leaf(d, data, siblings)
    self._save_descent(game, d)
    self._save(game, state)
    log IDisputeGame.LeafRevealed(game=game, tensor=d.tensor, position=leaf, data=data)


# Ends that anyone may bring about


@external
@nonreentrant
def timeout(game: uint256):
    """
    @notice End a game against the side whose turn it is, once more time has passed than its clock had left.
    """
    state: turns.State = self._load(game)
    self._trainer_in(state)
    self._decide(game, state, turns.silent(state), True)


@external
@nonreentrant
def reclaim(game: uint256):
    """
    @notice Credit the bond of a game back to its challenger when another game has ended the job.
    """
    state: turns.State = self._load(game)
    turns.require_live(state)
    disputable: bool = False
    trainer: address = empty(address)
    disputable, trainer = staticcall registry.standing(state.job)
    assert not disputable, "game: job is not over"
    state.phase = IDisputeGame.Phase.CANCELLED
    self._save(game, state)
    ledger._credit(state.challenger, bond)
    log IDisputeGame.GameCancelled(game=game, job=state.job)


# Who may move


@internal
@view
def _trainer_in(state: turns.State) -> address:
    """
    @notice The trainer in a game that is live, on a job that is.
    """
    turns.require_live(state)
    disputable: bool = False
    trainer: address = empty(address)
    disputable, trainer = staticcall registry.standing(state.job)
    assert disputable, "game: job is over"
    return trainer


@internal
@view
def _challenger_moves(game: uint256) -> turns.State:
    state: turns.State = self._load(game)
    self._trainer_in(state)
    return turns.challenger_moves(state)


@internal
@view
def _challenger_moves_on_step(game: uint256) -> turns.State:
    state: turns.State = self._challenger_moves(game)
    assert state.shown, "game: no step shown"
    return state


@internal
@view
def _trainer_moves(game: uint256, owed: IDisputeGame.Phase) -> turns.State:
    state: turns.State = self._load(game)
    return turns.trainer_moves(state, self._trainer_in(state), owed)


# Parts of moves


@internal
@payable
def _open(job: uint256, segment: uint256) -> (uint256, turns.State, ITaskRegistry.Segment):
    assert msg.value == bond, "game: wrong bond"
    disputed: ITaskRegistry.Segment = extcall registry.game_opened(job, segment)
    self.game_count += 1
    game: uint256 = self.game_count
    state: turns.State = turns.State(
        challenger=msg.sender,
        job=job,
        segment=segment,
        phase=IDisputeGame.Phase.CHALLENGER,
        descended=empty(IDisputeGame.Tree),
        shown=False,
        step=0,
        trainer_clock=trainer_clock,
        challenger_clock=challenger_clock,
        moved_at=block.timestamp,
    )
    self._records[game].parties = turns.pack_parties(state)
    log IDisputeGame.GameOpened(game=game, job=job, challenger=msg.sender, segment=segment)
    return game, state, disputed


@internal
def _show(
    game: uint256,
    showing: turns.State,
    disputed: ITaskRegistry.Segment,
    step: uint256,
    before: bytes32,
    before_proof: DynArray[bytes32, 32],
    after: bytes32,
    after_proof: DynArray[bytes32, 32],
):
    """
    @notice Store which step the game is about, and end the challenger's move.
    """
    state: turns.State = showing
    assert step < disputed.steps, "game: no such step"
    merkle.check(before, step, disputed.steps + 1, before_proof, disputed.history_root)
    merkle.check(after, step + 1, disputed.steps + 1, after_proof, disputed.history_root)
    self._records[game].before = before
    self._records[game].after = after
    state.shown = True
    state.step = step
    if self._trace(state) == empty(bytes32):
        state.phase = IDisputeGame.Phase.TRACE
    self._save(game, state)
    log IDisputeGame.StepShown(game=game, step=step, before=before, after=after)


@internal
def _demand(
    game: uint256,
    demanding: turns.State,
    tree: IDisputeGame.Tree,
    root: bytes32,
    count: uint256,
    tensor: uint256,
    size: uint256,
):
    """
    @notice Start down a tree, and end the challenger's move.
    """
    state: turns.State = demanding
    assert tree not in state.descended, "game: tree already descended"
    state.descended |= tree
    d: IDisputeGame.Descent = empty(IDisputeGame.Descent)
    d, state.phase = descent.start(tree, root, count, tensor, size)
    self._save_descent(game, d)
    self._save(game, state)
    log IDisputeGame.Demanded(game=game, tree=tree, root=root, count=count, tensor=tensor)


@internal
def _decide(game: uint256, decided: turns.State, acquitted: bool, by_timeout: bool):
    """
    @notice End a game for the trainer or against it. The bond goes to the winner.
    """
    state: turns.State = decided
    if acquitted:
        state.phase = IDisputeGame.Phase.ACQUITTED
        self._save(game, state)
        ledger._credit(self._trainer_in(decided), bond)
        extcall registry.game_closed(state.job)
        log IDisputeGame.Acquitted(game=game, job=state.job, by_timeout=by_timeout)
    else:
        state.phase = IDisputeGame.Phase.CONVICTED
        self._save(game, state)
        ledger._credit(state.challenger, bond)
        extcall registry.convict(state.job, state.challenger)
        log IDisputeGame.Convicted(game=game, job=state.job, by_timeout=by_timeout)


@internal
@view
def _step(game: uint256, state: turns.State) -> IReferee.Step:
    """
    @notice Where the claims of the step live.
    """
    spec: ITaskRegistry.JobSpec = staticcall registry.spec(state.job)
    return IReferee.Step(
        program_root=spec.program_root,
        node_count=spec.node_count,
        trace_root=self._trace(state),
        tensor_count=spec.tensor_count,
        state_before=self._records[game].before,
        state_after=self._records[game].after,
        state_count=spec.state_count,
        data_root=spec.data_root,
        data_count=spec.data_count,
    )


@internal
@view
def _trace(state: turns.State) -> bytes32:
    return self._traces[state.job][state.segment][state.step]


# Storage


@internal
@view
def _load(game: uint256) -> turns.State:
    parties: uint256 = self._records[game].parties
    assert parties != 0, "game: unknown game"
    return turns.unpack(parties, self._records[game].play)


@internal
def _save(game: uint256, state: turns.State):
    self._records[game].play = turns.pack_play(state)


@internal
@view
def _load_descent(game: uint256) -> IDisputeGame.Descent:
    return descent.unpack(self._records[game].node, self._records[game].descent)


@internal
def _save_descent(game: uint256, d: IDisputeGame.Descent):
    self._records[game].node = d.node
    self._records[game].descent = descent.pack(d)
