# pragma version 0.4.3
# @title One claim against one challenger, any number of games at once
# @license Apache-2.0
# @notice docs/protocol.md, "A game". Games are numbered from 1. The contract holds exactly the bonds of live games and what it has
#         credited. Every move is bound to what it answers: a pick by the node that it names, all others by their proofs.

from interfaces import IDisputeGame
from interfaces import IReferee
from interfaces import ITaskRegistry
from modules import ledger
from modules import merkle

implements: IDisputeGame

initializes: ledger
exports: (ledger.credit, ledger.withdraw)

# A reveal goes this many levels down, or to the leaves where they are nearer.
LEVELS: constant(uint256) = 4
NO_PICK: constant(uint256) = 16  # in place of a picked descendant: the next reveal is of the node itself
MAX_SECONDS: constant(uint256) = 2**32 - 1
MAX_TENSOR_LEAVES: constant(uint256) = 2**32
U8: constant(uint256) = 2**8 - 1
U32: constant(uint256) = 2**32 - 1
U40: constant(uint256) = 2**40 - 1
U64: constant(uint256) = 2**64 - 1


# A game as it is stored. `parties` never changes; `play` changes with every move; see _load and _load_descent.
struct Record:
    parties: uint256
    play: uint256
    before: bytes32
    after: bytes32
    node: bytes32
    descent: uint256


struct State:
    trainer: address  # not stored: the registry's
    challenger: address
    job: uint256
    segment: uint256
    phase: IDisputeGame.Phase
    descended: IDisputeGame.Tree
    shown: bool
    step: uint256
    trainer_clock: uint256
    challenger_clock: uint256
    moved_at: uint256


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
    state: State = self._load(game)
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
    state: State = empty(State)
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    game, state, disputed = self._open(job, segment)
    state = self._show(game, state, disputed, step, before, before_proof, after, after_proof)
    self._save(game, state)
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
    state: State = empty(State)
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    game, state, disputed = self._open(job, segment)
    state = self._demand(game, state, IDisputeGame.Tree.HISTORY, disputed.history_root, disputed.steps + 1, 0, 0)
    self._save(game, state)
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
    state: State = self._challenger_moves(game)
    assert not state.shown, "game: step already shown"
    disputed: ITaskRegistry.Segment = staticcall registry.segment(state.job, state.segment)
    state = self._show(game, state, disputed, step, before, before_proof, after, after_proof)
    self._save(game, state)
    # The descent that found the step is over.
    self._records[game].descent = 0


@external
def demand_trace(game: uint256):
    """
    @notice Start down the trace of the step. The trainer owes the descendants of the trace root.
    """
    state: State = self._challenger_moves(game)
    assert state.shown, "game: no step shown"
    spec: ITaskRegistry.JobSpec = staticcall registry.spec(state.job)
    state = self._demand(game, state, IDisputeGame.Tree.TRACE, self._trace(state), spec.tensor_count, 0, 0)
    self._save(game, state)


@external
def demand_state(game: uint256):
    """
    @notice Start down the state after the step. The trainer owes the descendants of its root.
    """
    state: State = self._challenger_moves(game)
    assert state.shown, "game: no step shown"
    spec: ITaskRegistry.JobSpec = staticcall registry.spec(state.job)
    state = self._demand(game, state, IDisputeGame.Tree.STATE, self._records[game].after, spec.state_count, 0, 0)
    self._save(game, state)


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
    state: State = self._challenger_moves(game)
    assert state.shown, "game: no step shown"
    step: IReferee.Step = self._step(game, state)
    tensor: uint256 = 0
    size: uint256 = 0
    tensor, size = staticcall referee.locate(step, node, output)
    merkle.check(tensor_root, tensor, step.tensor_count, trace_proof, step.trace_root)
    assert size <= MAX_TENSOR_LEAVES * merkle.LEAF_BYTES, "game: tensor too large"
    # A tensor without bytes has one empty leaf.
    count: uint256 = max((size + merkle.LEAF_BYTES - 1) // merkle.LEAF_BYTES, 1)
    state = self._demand(game, state, IDisputeGame.Tree.TENSOR, tensor_root, count, tensor, size)
    self._save(game, state)


@external
def pick(game: uint256, node: bytes32, child: uint256):
    """
    @notice Choose one of the revealed descendants. The trainer owes that one's descendants or, where it is a leaf of a tensor, its
            bytes.
    @param node The node whose descendants were revealed, so that the move cannot land on another state of the game.
    """
    state: State = self._challenger_moves(game)
    descent: IDisputeGame.Descent = self._load_descent(game)
    assert descent.tree != empty(IDisputeGame.Tree), "game: no descent"
    assert descent.node == node, "game: not the node in question"
    drop: uint256 = min(LEVELS, descent.height)
    assert child >> drop == 0, "game: no such child"
    height: uint256 = descent.height - drop
    position: uint256 = (descent.position << drop) + child
    assert position << height < descent.count, "game: no such child"
    if height != 0:
        state.phase = IDisputeGame.Phase.CHILDREN
    else:
        assert descent.tree == IDisputeGame.Tree.TENSOR, "game: at the leaves"
        state.phase = IDisputeGame.Phase.LEAF
    descent.picked = child
    self._save_descent(game, descent)
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
    state: State = self._challenger_moves(game)
    assert state.shown, "game: no step shown"
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
    state: State = self._challenger_moves(game)
    assert state.shown, "game: no step shown"
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
    state: State = self._challenger_moves(game)
    assert state.shown, "game: no step shown"
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
    state: State = self._trainer_moves(game, IDisputeGame.Phase.TRACE)
    known: bytes32 = self._trace(state)
    if known == empty(bytes32):
        assert root != empty(bytes32), "game: empty trace root"
        self._traces[state.job][state.segment][state.step] = root
    else:
        assert root == known, "game: another trace root is known"
    state.phase = IDisputeGame.Phase.CHALLENGER
    self._save(game, state)
    log IDisputeGame.TracePosted(game=game, job=state.job, segment=state.segment, step=state.step, root=root)


@external
def reveal(game: uint256, children: DynArray[bytes32, 16], siblings: DynArray[bytes32, 4]):
    """
    @notice Answer with the descendants of the node in question, four levels down or at the leaves.
    @param siblings The path from the picked node to the one that the contract knows; nothing at the root.
    """
    state: State = self._trainer_moves(game, IDisputeGame.Phase.CHILDREN)
    descent: IDisputeGame.Descent = self._load_descent(game)
    if descent.picked != NO_PICK:
        drop: uint256 = min(LEVELS, descent.height)
        assert len(siblings) == drop, "game: wrong proof length"
        descent.height -= drop
        descent.position = (descent.position << drop) + descent.picked
    else:
        assert len(siblings) == 0, "game: wrong proof length"
        descent.picked = 0

    span: uint256 = min(LEVELS, descent.height)
    assert len(children) == 1 << span, "game: wrong number of children"
    first: uint256 = descent.position << span
    for i: uint256 in range(len(children), bound=16):
        # A digest beyond the last leaf would change the root without any wrong element below it.
        if (first + i) << (descent.height - span) >= descent.count:
            assert children[i] == merkle.EMPTY, "game: padding not empty"
    node: bytes32 = self._join(children)
    assert merkle.fold(node, descent.picked, siblings) == descent.node, "game: wrong children"

    descent.node = node
    descent.picked = NO_PICK
    self._save_descent(game, descent)
    state.phase = IDisputeGame.Phase.CHALLENGER
    self._save(game, state)
    log IDisputeGame.Revealed(
        game=game,
        tree=descent.tree,
        tensor=descent.tensor,
        node=node,
        height=descent.height,
        position=descent.position,
        children=children,
    )


@external
def reveal_leaf(game: uint256, data: Bytes[256], siblings: DynArray[bytes32, 4]):
    """
    @notice Answer with the bytes of the leaf in question, at their exact length. This ends the descent.
    @param siblings The path from the leaf to the node that the contract knows.
    """
    state: State = self._trainer_moves(game, IDisputeGame.Phase.LEAF)
    descent: IDisputeGame.Descent = self._load_descent(game)
    assert len(siblings) == descent.height, "game: wrong proof length"
    position: uint256 = (descent.position << descent.height) + descent.picked
    assert len(data) == min(merkle.LEAF_BYTES, descent.size - position * merkle.LEAF_BYTES), "game: wrong leaf length"
    assert merkle.fold(merkle.leaf_digest(data), descent.picked, siblings) == descent.node, "game: wrong leaf"
    descent.tree = empty(IDisputeGame.Tree)
    self._save_descent(game, descent)
    state.phase = IDisputeGame.Phase.CHALLENGER
    self._save(game, state)
    log IDisputeGame.LeafRevealed(game=game, tensor=descent.tensor, position=position, data=data)


# Ends that anyone may bring about


@external
@nonreentrant
def timeout(game: uint256):
    """
    @notice End a game against the side whose turn it is, once more time has passed than its clock had left.
    """
    state: State = self._load_live(game)
    spent: uint256 = block.timestamp - state.moved_at
    challenger_moves: bool = state.phase == IDisputeGame.Phase.CHALLENGER
    left: uint256 = state.challenger_clock if challenger_moves else state.trainer_clock
    assert spent > left, "game: clock not used up"
    self._decide(game, state, challenger_moves, True)


@external
@nonreentrant
def reclaim(game: uint256):
    """
    @notice Credit the bond of a game back to its challenger when another game has ended the job.
    """
    state: State = self._load(game)
    self._require_live(state)
    disputable: bool = False
    disputable, state.trainer = staticcall registry.standing(state.job)
    assert not disputable, "game: job is not over"
    state.phase = IDisputeGame.Phase.CANCELLED
    self._save(game, state)
    ledger._credit(state.challenger, bond)
    log IDisputeGame.GameCancelled(game=game, job=state.job)


# Turns and clocks


@internal
@view
def _require_live(state: State):
    assert (
        state.phase
        not in (IDisputeGame.Phase.CONVICTED | IDisputeGame.Phase.ACQUITTED | IDisputeGame.Phase.CANCELLED)
    ), "game: over"


@internal
@view
def _load_live(game: uint256) -> State:
    """
    @notice A game that is still live, in a job that is.
    """
    state: State = self._load(game)
    self._require_live(state)
    disputable: bool = False
    disputable, state.trainer = staticcall registry.standing(state.job)
    assert disputable, "game: job is over"
    return state


@internal
@view
def _challenger_moves(game: uint256) -> State:
    """
    @notice The game, with the time since the last move taken off the challenger's clock, if the caller is the challenger and it is
            its turn.
    """
    state: State = self._load_live(game)
    assert msg.sender == state.challenger, "game: not the challenger"
    assert state.phase == IDisputeGame.Phase.CHALLENGER, "game: not the challenger's turn"
    spent: uint256 = block.timestamp - state.moved_at
    assert spent <= state.challenger_clock, "game: clock used up"
    state.challenger_clock -= spent
    state.moved_at = block.timestamp
    return state


@internal
@view
def _trainer_moves(game: uint256, owed: IDisputeGame.Phase) -> State:
    """
    @notice The game, with the time since the last move taken off the trainer's clock, if the caller is the trainer and owes just
            this.
    """
    state: State = self._load_live(game)
    assert msg.sender == state.trainer, "game: not the trainer"
    assert state.phase == owed, "game: not owed"
    spent: uint256 = block.timestamp - state.moved_at
    assert spent <= state.trainer_clock, "game: clock used up"
    state.trainer_clock -= spent
    state.moved_at = block.timestamp
    return state


# Parts of moves


@internal
@payable
def _open(job: uint256, segment: uint256) -> (uint256, State, ITaskRegistry.Segment):
    assert msg.value == bond, "game: wrong bond"
    disputed: ITaskRegistry.Segment = extcall registry.game_opened(job, segment)
    self.game_count += 1
    game: uint256 = self.game_count
    self._records[game].parties = convert(msg.sender, uint256) | (job << 160) | (segment << 224)
    log IDisputeGame.GameOpened(game=game, job=job, challenger=msg.sender, segment=segment)
    state: State = State(
        trainer=empty(address),
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
    return game, state, disputed


@internal
def _show(
    game: uint256,
    shown: State,
    disputed: ITaskRegistry.Segment,
    step: uint256,
    before: bytes32,
    before_proof: DynArray[bytes32, 32],
    after: bytes32,
    after_proof: DynArray[bytes32, 32],
) -> State:
    state: State = shown
    assert step < disputed.steps, "game: no such step"
    merkle.check(before, step, disputed.steps + 1, before_proof, disputed.history_root)
    merkle.check(after, step + 1, disputed.steps + 1, after_proof, disputed.history_root)
    self._records[game].before = before
    self._records[game].after = after
    state.shown = True
    state.step = step
    if self._trace(state) == empty(bytes32):
        state.phase = IDisputeGame.Phase.TRACE
    log IDisputeGame.StepShown(game=game, step=step, before=before, after=after)
    return state


@internal
def _demand(
    game: uint256,
    demanding: State,
    tree: IDisputeGame.Tree,
    root: bytes32,
    count: uint256,
    tensor: uint256,
    size: uint256,
) -> State:
    """
    @notice Start down a tree.
    """
    state: State = demanding
    assert tree not in state.descended, "game: tree already descended"
    state.descended |= tree
    height: uint256 = merkle.depth_of(count)
    only_leaf: bool = height == 0
    assert not only_leaf or tree == IDisputeGame.Tree.TENSOR, "game: nothing to reveal"
    state.phase = IDisputeGame.Phase.LEAF if only_leaf else IDisputeGame.Phase.CHILDREN
    self._save_descent(
        game,
        IDisputeGame.Descent(
            tree=tree,
            node=root,
            height=height,
            position=0,
            count=count,
            picked=0 if only_leaf else NO_PICK,
            tensor=tensor,
            size=size,
        ),
    )
    log IDisputeGame.Demanded(game=game, tree=tree, root=root, count=count, tensor=tensor)
    return state


@internal
def _decide(game: uint256, decided: State, acquitted: bool, by_timeout: bool):
    """
    @notice End a game for the trainer or against it. The bond goes to the winner.
    """
    state: State = decided
    if acquitted:
        state.phase = IDisputeGame.Phase.ACQUITTED
        self._save(game, state)
        ledger._credit(state.trainer, bond)
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
def _step(game: uint256, state: State) -> IReferee.Step:
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
def _trace(state: State) -> bytes32:
    return self._traces[state.job][state.segment][state.step]


@internal
@pure
def _join(children: DynArray[bytes32, 16]) -> bytes32:
    """
    @notice The node above 1, 2, 4, 8 or 16 descendants.
    """
    row: DynArray[bytes32, 16] = children
    width: uint256 = len(children)
    for _: uint256 in range(LEVELS):
        width >>= 1
        for i: uint256 in range(width, bound=8):
            row[i] = merkle.parent(row[2 * i], row[2 * i + 1])
    return row[0]


# Storage


@internal
@view
def _load(game: uint256) -> State:
    """
    @notice A game, from two words. parties: challenger 160 bits, job 64, segment 32. play: phase 8, trees 8, shown 8, step 32,
            clocks 32 each, last move 64.
    """
    parties: uint256 = self._records[game].parties
    assert parties != 0, "game: unknown game"
    play: uint256 = self._records[game].play
    return State(
        trainer=empty(address),
        challenger=convert(parties & (2**160 - 1), address),
        job=(parties >> 160) & U64,
        segment=parties >> 224,
        phase=convert(play & U8, IDisputeGame.Phase),
        descended=convert((play >> 8) & U8, IDisputeGame.Tree),
        shown=(play >> 16) & 1 == 1,
        step=(play >> 24) & U32,
        trainer_clock=(play >> 56) & U32,
        challenger_clock=(play >> 88) & U32,
        moved_at=play >> 120,
    )


@internal
def _save(game: uint256, state: State):
    self._records[game].play = (
        convert(state.phase, uint256)
        | (convert(state.descended, uint256) << 8)
        | (convert(state.shown, uint256) << 16)
        | (state.step << 24)
        | (state.trainer_clock << 56)
        | (state.challenger_clock << 88)
        | (state.moved_at << 120)
    )


@internal
@view
def _load_descent(game: uint256) -> IDisputeGame.Descent:
    """
    @notice A descent, from two words: the node, and tree 8 bits, height 8, picked 8, position 40, count 40, tensor 32, size 48.
    """
    word: uint256 = self._records[game].descent
    return IDisputeGame.Descent(
        tree=convert(word & U8, IDisputeGame.Tree),
        node=self._records[game].node,
        height=(word >> 8) & U8,
        position=(word >> 24) & U40,
        count=(word >> 64) & U40,
        picked=(word >> 16) & U8,
        tensor=(word >> 104) & U32,
        size=word >> 136,
    )


@internal
def _save_descent(game: uint256, descent: IDisputeGame.Descent):
    self._records[game].node = descent.node
    self._records[game].descent = (
        convert(descent.tree, uint256)
        | (descent.height << 8)
        | (descent.picked << 16)
        | (descent.position << 24)
        | (descent.count << 64)
        | (descent.tensor << 104)
        | (descent.size << 136)
    )
