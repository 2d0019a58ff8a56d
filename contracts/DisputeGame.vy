# pragma version 0.4.3
# @title One claim against one challenger, any number of games at once
# @license Apache-2.0
# @notice docs/protocol.md, "A game". Games are numbered from 1. The contract holds exactly the bonds of live games and what it has
#         credited. Every move is bound to what it answers: a pick by the node that it names, all others by their proofs or by what
#         they repeat.
# @custom:security Bonds are ether, whatever the token of the job. A move needs a live attempt and running clocks: one call of the
#                  registry a move says both, and the time.

from interfaces import IDisputeGame
from interfaces import IReferee
from interfaces import ITaskRegistry
from modules import arity
from modules import checks
from modules import commitments
from modules import descent
from modules import ledger
from modules import merkle
from modules import partials
from modules import places
from modules import records
from modules import turns

implements: IDisputeGame

initializes: commitments
initializes: ledger
initializes: records
initializes: places[records := records]
exports: commitments.commit
exports: (ledger.credit, ledger.withdraw)

MAX_SECONDS: constant(uint256) = 2**32 - 1
MAX_TENSOR_LEAVES: constant(uint256) = 2**32
NATIVE: constant(address) = empty(address)  # ether, of which the bonds are

registry: public(immutable(ITaskRegistry))
referee: public(immutable(IReferee))
bond: public(immutable(uint256))
trainer_clock: public(immutable(uint256))
challenger_clock: public(immutable(uint256))

game_count: public(uint256)


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
    state: turns.State = records.load(game)
    subject: records.Subject = records.load_subject(game)
    d: descent.Descent = state.descent
    return IDisputeGame.Game(
        job=state.job,
        attempt=state.attempt,
        segment=state.segment,
        challenger=state.challenger,
        rank=subject.rank,
        phase=state.phase,
        descended=state.descended,
        shown=state.shown,
        step=subject.step,
        before=records.records[game].before,
        after=records.records[game].after,
        trace_root=places.places[places.of(state, subject.step)].trace_root,
        trainer_clock=state.trainer_clock,
        challenger_clock=state.challenger_clock,
        moved_at=state.moved_at,
        run_node=subject.run_node,
        run_position=subject.run_position,
        descent=IDisputeGame.Descent(
            tree=d.tree,
            node=d.node,
            height=d.height,
            position=d.position,
            count=d.count,
            picked=d.picked,
            tensor=subject.tensor,
            size=subject.size,
        ),
    )


@external
@view
def trace_root(job: uint256, attempt: uint256, segment: uint256, step: uint256) -> bytes32:
    """
    @notice The trace root that the trainer posted for a step; zero where there is none.
    """
    return places.places[places.key(job, attempt, segment, step)].trace_root


@external
@view
def numerics_version() -> uint256:
    """
    @notice The meaning of the numbers that the referee judges by.
    """
    return staticcall referee.numerics_version()


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
    salt: bytes32,
) -> uint256:
    """
    @notice Challenge one step that was committed to, with the bond as value. The trainer owes the trace root, unless it is known.
    @param step The step of the segment that leads from history leaf `step` to the next.
    @param salt That of the commitment, which the caller made in an earlier block.
    @return The number of the game.
    """
    rank: uint256 = commitments._consume(keccak256(abi_encode(msg.sender, job, segment, step, salt)))
    game: uint256 = 0
    state: turns.State = empty(turns.State)
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    game, state, disputed = self._open(job, segment, rank)
    state = self._show(game, state, disputed, rank, step, before, before_proof, after, after_proof)
    records.save(game, state)
    return game


@external
@payable
@nonreentrant
def open_blind(job: uint256, segment: uint256, history_root: bytes32) -> uint256:
    """
    @notice Challenge a segment whose states are not known, with the bond as value. The trainer owes the descendants of its history
            root.
    @param history_root The segment's, so that the opening cannot land on another history after a reorganisation.
    @return The number of the game.
    """
    rank: uint256 = commitments._ordinal()
    game: uint256 = 0
    state: turns.State = empty(turns.State)
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    game, state, disputed = self._open(job, segment, rank)
    self._expect(disputed.history_root, history_root)
    records.save_subject(game, records.Subject(rank=rank, step=0, tensor=0, size=0, run_node=0, run_position=0))
    places.arrive(places.of(state, 0), game, rank, False)
    self._demand(game, state, IDisputeGame.Tree.HISTORY, disputed.history_root, disputed.steps + 1, 0)
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
    descend: bool,
):
    """
    @notice Point at one step of the segment. The trainer owes its trace root, unless it is known.
    @param descend Start down the trace at once: the trainer then owes the descendants of the trace root as well.
    """
    state: turns.State = self._challenger_moves(game)
    if state.shown:
        checks.refuse("game: step already shown")
    disputed: ITaskRegistry.Segment = staticcall registry.segment(state.job, state.segment)
    rank: uint256 = records.load_subject(game).rank
    state = self._show(game, state, disputed, rank, step, before, before_proof, after, after_proof)
    # The descent that found the step is over.
    state.descent = empty(descent.Descent)
    if not descend:
        records.save(game, state)
        return
    count: uint256 = (staticcall registry.spec(state.job)).tensor_count
    if state.phase == IDisputeGame.Phase.CHALLENGER:
        root: bytes32 = places.places[places.of(state, step)].trace_root
        self._demand(game, state, IDisputeGame.Tree.TRACE, root, count, 0)
    else:
        # It waits for its root, with which the trainer starts it.
        state.descended |= IDisputeGame.Tree.TRACE
        state.descent = descent.start(IDisputeGame.Tree.TRACE, empty(bytes32), count)
        records.save(game, state)


@external
def demand_trace(game: uint256):
    """
    @notice Start down the trace of the step. The trainer owes the descendants of the trace root.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    step: IReferee.Step = empty(IReferee.Step)
    state, subject, step = self._challenger_moves_on_step(game)
    self._demand(game, state, IDisputeGame.Tree.TRACE, step.trace_root, step.tensor_count, 0)


@external
def demand_state(game: uint256):
    """
    @notice Start down the state after the step. The trainer owes the descendants of its root.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    step: IReferee.Step = empty(IReferee.Step)
    state, subject, step = self._challenger_moves_on_step(game)
    self._demand(game, state, IDisputeGame.Tree.STATE, step.state_after, step.state_count, 0)


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
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    step: IReferee.Step = empty(IReferee.Step)
    state, subject, step = self._challenger_moves_on_step(game)
    subject.tensor, subject.size = staticcall referee.locate(step, node, output)
    merkle.check(tensor_root, subject.tensor, step.tensor_count, trace_proof, step.trace_root)
    if subject.size > MAX_TENSOR_LEAVES * merkle.LEAF_BYTES:
        checks.refuse("game: tensor too large")
    records.save_subject(game, subject)
    # A tensor without bytes has one empty leaf.
    count: uint256 = max((subject.size + merkle.LEAF_BYTES - 1) // merkle.LEAF_BYTES, 1)
    self._demand(game, state, IDisputeGame.Tree.TENSOR, tensor_root, count, subject.tensor)


@external
def demand_run(game: uint256, node: IReferee.NodeProof, position: uint256, claim: IReferee.Leaf):
    """
    @notice Start down the run of one element, which is too long for one verdict. The trainer owes the partial results that the element
            is made of.
    @param node The reduce, dot or scatter_add node that writes the element.
    @param claim The leaf that holds the element.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    step: IReferee.Step = empty(IReferee.Step)
    state, subject, step = self._challenger_moves_on_step(game)
    place: IReferee.RunPlace = staticcall referee.locate_run(step, node, position, claim)
    if place.parts <= 1:
        checks.refuse("game: run short enough to conclude")
    subject.tensor = place.tensor
    subject.size = convert(place.takes_max, uint256)
    subject.run_node = node.index
    subject.run_position = position
    records.save_subject(game, subject)
    claimed: bytes32 = convert(place.claimed, bytes32)
    self._demand(game, state, IDisputeGame.Tree.RUN, claimed, place.parts, place.tensor)
    log IDisputeGame.RunDemanded(
        game=game,
        node=node.index,
        position=position,
        tensor=place.tensor,
        tensor_root=claim.root,
        trace_proof=claim.trace_proof,
    )


@external
def pick(game: uint256, node: bytes32, child: uint256):
    """
    @notice Choose one of the revealed descendants. The trainer owes that one's descendants or, where it is a leaf of a tensor, its
            bytes.
    @param node The node whose descendants were revealed, so that the move cannot land on another state of the game.
    """
    state: turns.State = self._challenger_moves(game)
    state.descent = descent.pick(state.descent, node, child)
    state.phase = descent.owed(state.descent)
    records.save(game, state)
    height: uint256 = 0
    position: uint256 = 0
    height, position = descent.in_question(state.descent)
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
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    step: IReferee.Step = empty(IReferee.Step)
    state, subject, step = self._challenger_moves_on_step(game)
    joined: bool = staticcall referee.judge_boundary(
        step, node, tensor_root, trace_proof, component_root, component_proof
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
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    step: IReferee.Step = empty(IReferee.Step)
    state, subject, step = self._challenger_moves_on_step(game)
    claimed: int256 = 0
    correct: int256 = 0
    claimed, correct = staticcall referee.judge_element(step, node, output, position, claim, inputs)
    self._judged(game, state, node.index, output, position, claimed, correct)


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
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    step: IReferee.Step = empty(IReferee.Step)
    state, subject, step = self._challenger_moves_on_step(game)
    claimed: int256 = 0
    correct: int256 = 0
    claimed, correct = staticcall referee.judge_run(step, node, output, position, claim, inputs)
    self._judged(game, state, node.index, output, position, claimed, correct)


@external
@nonreentrant
def conclude_part(
    game: uint256,
    node: IReferee.NodeProof,
    child: uint256,
    parts: DynArray[int64, arity.WIDTH],
    inputs: DynArray[IReferee.Run, 2],
):
    """
    @notice Have one part of a long run judged: the partial result that was revealed must be the recomputed one.
    @param node The node whose element's run was demanded.
    @param child Which of the partial results that were revealed last.
    @param parts All of these.
    @param inputs For each input of the node the neighbouring leaves that hold the part's elements.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    step: IReferee.Step = empty(IReferee.Step)
    state, subject, step = self._challenger_moves_on_step(game)
    part: uint256 = 0
    claimed: int256 = 0
    part, claimed = partials.part(state.descent, parts, child)
    if node.index != subject.run_node:
        checks.refuse("game: another node")
    position: uint256 = subject.run_position
    correct: int256 = staticcall referee.judge_part(step, node, position, part, inputs)
    self._judged(game, state, node.index, 0, position, claimed, correct)


# Moves of the trainer


@external
def post_trace(game: uint256, place: bytes32, root: bytes32):
    """
    @notice Answer with the trace root of the step. It is the same in all games on the step.
    @param place The hash of job, attempt, segment and step, so that the answer cannot land on another step after a reorganisation.
    """
    state: turns.State = self._trainer_moves(game, IDisputeGame.Phase.TRACE)
    step: uint256 = records.load_subject(game).step
    self._expect(places.of(state, step), place)
    known: bytes32 = places.places[place].trace_root
    if known == empty(bytes32):
        if root == empty(bytes32):
            checks.refuse("game: empty trace root")
        places.places[place].trace_root = root
    else:
        if root != known:
            checks.refuse("game: another trace root is known")
    log IDisputeGame.TracePosted(
        game=game, job=state.job, attempt=state.attempt, segment=state.segment, step=step, root=root
    )
    if IDisputeGame.Tree.TRACE in state.descended:
        # The challenger has demanded the trace while it showed the step.
        state.descent.node = root
        self._descend(game, state, 0)
    else:
        records.save(game, state)


@external
def reveal(game: uint256, children: DynArray[bytes32, arity.WIDTH], siblings: DynArray[bytes32, arity.LEVELS]):
    """
    @notice Answer with the descendants of the node in question, five levels down or at the leaves.
    @param siblings The path from the picked node to the one that the contract knows; nothing at the root.
    """
    state: turns.State = self._trainer_moves(game, IDisputeGame.Phase.CHILDREN)
    state.descent = descent.reveal(state.descent, children, siblings)
    records.save(game, state)
    records.save_node(game, state.descent.node)
    d: descent.Descent = state.descent
    log IDisputeGame.Revealed(
        game=game,
        tree=d.tree,
        tensor=records.load_subject(game).tensor if d.tree == IDisputeGame.Tree.TENSOR else 0,
        node=d.node,
        height=d.height,
        position=d.position,
        children=children,
    )


@external
def reveal_leaf(game: uint256, data: Bytes[256], siblings: DynArray[bytes32, arity.LEVELS]):
    """
    @notice Answer with the bytes of the leaf in question, at their exact length. This ends the descent.
    @param siblings The path from the leaf to the node that the contract knows.
    """
    state: turns.State = self._trainer_moves(game, IDisputeGame.Phase.LEAF)
    subject: records.Subject = records.load_subject(game)
    leaf: uint256 = 0
    state.descent, leaf = descent.reveal_leaf(state.descent, subject.size, data, siblings)
    records.save(game, state)
    log IDisputeGame.LeafRevealed(game=game, tensor=subject.tensor, position=leaf, data=data)


@external
def reveal_parts(
    game: uint256, place: bytes32, parts: DynArray[int64, arity.WIDTH], before: DynArray[int64, arity.WIDTH]
):
    """
    @notice Answer with the partial results below the one in question, five levels down or of the parts themselves.
    @param place The hash of the step's place, node, element, and height and position of the partial result in question: equal values
                 are common, and the answer must not land on another one after a reorganisation.
    @param before The partial results that the one in question was picked from; nothing for the element itself.
    """
    state: turns.State = self._trainer_moves(game, IDisputeGame.Phase.PARTS)
    subject: records.Subject = records.load_subject(game)
    height: uint256 = 0
    position: uint256 = 0
    height, position = descent.in_question(state.descent)
    self._expect(
        keccak256(abi_encode(places.of(state, subject.step), subject.run_node, subject.run_position, height, position)), place
    )
    state.descent = partials.reveal(state.descent, subject.size == 1, parts, before)
    records.save(game, state)
    records.save_node(game, state.descent.node)
    log IDisputeGame.PartsRevealed(
        game=game, height=state.descent.height, position=state.descent.position, parts=parts
    )


# Ends that anyone may bring about


@external
@nonreentrant
def timeout(game: uint256):
    """
    @notice End a game against the side whose turn it is, once more time has passed than its clock had left.
    """
    state: turns.State = self._running(game)
    self._decide(game, state, turns.silent(state), True)


@external
@nonreentrant
def reclaim(game: uint256):
    """
    @notice Credit the bond of a game back to its challenger when the attempt that it disputes is over.
    """
    state: turns.State = records.load(game)
    if not turns.live(state.phase):
        checks.refuse("game: over")
    live: bool = False
    paused: bool = False
    now: uint256 = 0
    live, paused, now = staticcall registry.moment(state.job, state.attempt)
    if live:
        checks.refuse("game: attempt is not over")
    state.phase = IDisputeGame.Phase.CANCELLED
    records.save(game, state)
    ledger._credit(NATIVE, state.challenger, bond)
    log IDisputeGame.GameCancelled(game=game, job=state.job)


# Who may move


@internal
@view
def _running(game: uint256) -> turns.State:
    """
    @notice A game that is live, on an attempt that is, while the clocks run.
    """
    state: turns.State = records.load(game)
    if not turns.live(state.phase):
        checks.refuse("game: over")
    live: bool = False
    paused: bool = False
    live, paused, state.now = staticcall registry.moment(state.job, state.attempt)
    self._check_running(live, paused)
    return state


@internal
@pure
def _check_running(live: bool, paused: bool):
    if not live:
        checks.refuse("game: attempt is over")
    if paused:
        checks.refuse("game: paused")


@internal
@view
def _challenger_moves(game: uint256) -> turns.State:
    return turns.challenger_moves(self._running(game))


@internal
@view
def _challenger_moves_on_step(game: uint256) -> (turns.State, records.Subject, IReferee.Step):
    """
    @return The game, what it is about, and where the claims of its step live.
    """
    state: turns.State = self._challenger_moves(game)
    if not state.shown:
        checks.refuse("game: no step shown")
    subject: records.Subject = records.load_subject(game)
    spec: ITaskRegistry.JobSpec = staticcall registry.spec(state.job)
    return state, subject, IReferee.Step(
        program_root=spec.program_root,
        node_count=spec.node_count,
        trace_root=places.places[places.of(state, subject.step)].trace_root,
        tensor_count=spec.tensor_count,
        state_before=records.records[game].before,
        state_after=records.records[game].after,
        state_count=spec.state_count,
        data_root=spec.data_root,
        data_count=spec.data_count,
    )


@internal
@view
def _trainer_moves(game: uint256, owed: IDisputeGame.Phase) -> turns.State:
    state: turns.State = records.load(game)
    if not turns.live(state.phase):
        checks.refuse("game: over")
    standing: ITaskRegistry.Standing = staticcall registry.standing(state.job, state.attempt)
    self._check_running(standing.live, standing.paused)
    state.now = standing.clock
    return turns.trainer_moves(state, standing.trainer, owed)


# Parts of moves


@internal
@payable
def _open(job: uint256, segment: uint256, rank: uint256) -> (uint256, turns.State, ITaskRegistry.Segment):
    if msg.value != bond:
        checks.refuse("game: wrong bond")
    attempt: uint256 = 0
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    attempt, disputed = extcall registry.game_opened(job, segment)
    live: bool = False
    paused: bool = False
    now: uint256 = 0
    live, paused, now = staticcall registry.moment(job, attempt)
    self.game_count += 1
    game: uint256 = self.game_count
    state: turns.State = empty(turns.State)
    state.challenger = msg.sender
    state.job = job
    state.attempt = attempt
    state.segment = segment
    state.phase = IDisputeGame.Phase.CHALLENGER
    state.trainer_clock = trainer_clock
    state.challenger_clock = challenger_clock
    state.moved_at = now
    records.create(game, state)
    log IDisputeGame.GameOpened(
        game=game, job=job, challenger=msg.sender, segment=segment, attempt=attempt, rank=rank
    )
    return game, state, disputed


@internal
@pure
def _expect(found: bytes32, named: bytes32):
    """
    @notice Reverts unless a move is about what it names: after a reorganisation the same numbers can stand for something else.
    """
    if found != named:
        checks.refuse("game: another place")


@internal
def _show(
    game: uint256,
    showing: turns.State,
    disputed: ITaskRegistry.Segment,
    rank: uint256,
    step: uint256,
    before: bytes32,
    before_proof: DynArray[bytes32, 32],
    after: bytes32,
    after_proof: DynArray[bytes32, 32],
) -> turns.State:
    """
    @notice Store which step the game is about. The trainer owes its trace root, unless it is known.
    """
    state: turns.State = showing
    if step >= disputed.steps:
        checks.refuse("game: no such step")
    merkle.check(before, step, disputed.steps + 1, before_proof, disputed.history_root)
    merkle.check(after, step + 1, disputed.steps + 1, after_proof, disputed.history_root)
    records.save_states(game, before, after)
    records.save_subject(game, records.Subject(rank=rank, step=step, tensor=0, size=0, run_node=0, run_position=0))
    state.shown = True
    place: bytes32 = places.of(state, step)
    places.arrive(place, game, rank, True)
    if places.places[place].trace_root == empty(bytes32):
        state.phase = IDisputeGame.Phase.TRACE
    log IDisputeGame.StepShown(game=game, step=step, before=before, after=after)
    return state


@internal
def _demand(
    game: uint256,
    demanding: turns.State,
    tree: IDisputeGame.Tree,
    root: bytes32,
    count: uint256,
    tensor: uint256,
):
    """
    @notice Start down a tree, and end the move.
    """
    state: turns.State = demanding
    if tree in state.descended:
        checks.refuse("game: tree already descended")
    state.descended |= tree
    state.descent = descent.start(tree, root, count)
    self._descend(game, state, tensor)


@internal
def _descend(game: uint256, descending: turns.State, tensor: uint256):
    """
    @notice Have the trainer owe what the descent begins with, and end the move.
    """
    state: turns.State = descending
    d: descent.Descent = state.descent
    state.phase = descent.owed(d)
    records.save(game, state)
    records.save_node(game, d.node)
    log IDisputeGame.Demanded(game=game, tree=d.tree, root=d.node, count=d.count, tensor=tensor)


@internal
def _judged(
    game: uint256,
    state: turns.State,
    node: uint256,
    output: uint256,
    position: uint256,
    claimed: int256,
    correct: int256,
):
    """
    @notice End a game by what the referee found.
    """
    log IDisputeGame.Judged(game=game, node=node, output=output, position=position, claimed=claimed, correct=correct)
    self._decide(game, state, claimed == correct, False)


@internal
def _decide(game: uint256, decided: turns.State, acquitted: bool, by_timeout: bool):
    """
    @notice End a game for the trainer or against it. The bond goes to the winner; the reward to whoever was first at the place.
    """
    state: turns.State = decided
    if acquitted:
        state.phase = IDisputeGame.Phase.ACQUITTED
        records.save(game, state)
        standing: ITaskRegistry.Standing = staticcall registry.standing(state.job, state.attempt)
        ledger._credit(NATIVE, standing.trainer, bond)
        extcall registry.game_closed(state.job, state.attempt, state.segment)
        log IDisputeGame.Acquitted(game=game, job=state.job, by_timeout=by_timeout)
    else:
        state.phase = IDisputeGame.Phase.CONVICTED
        records.save(game, state)
        ledger._credit(NATIVE, state.challenger, bond)
        subject: records.Subject = records.load_subject(game)
        place: bytes32 = places.of(state, subject.step)
        beneficiary: address = places.beneficiary(place, subject.rank, state.challenger, state.shown)
        extcall registry.convict(state.job, state.attempt, beneficiary)
        log IDisputeGame.Convicted(game=game, job=state.job, by_timeout=by_timeout)
