# pragma version 0.4.3
# @title One claim against one challenger, any number of games at once
# @license Apache-2.0
# @notice docs/protocol.md, "A game". Games are numbered from 1. The contract holds exactly the bonds of live games and what it has
#         credited. Every move is bound to what it answers: a reveal by the trail that it goes on from, a pick by the seal that it names, all
#         others by the roots of the step that they repeat and by their proofs.
# @custom:security Bonds are ether, whatever the token of the job. Games go on during a pause, and after the end of their attempt, but only
#                  a live attempt with running clocks has openings, verdicts and timeouts: no move before these moves money.

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
from modules import proceedings
from modules import records
from modules import turns

implements: IDisputeGame

initializes: commitments
initializes: ledger
initializes: records
initializes: places[records := records]
initializes: proceedings[commitments := commitments, ledger := ledger, places := places, records := records]
exports: commitments.commit
exports: (ledger.credit, ledger.withdraw)
exports: (
    proceedings.registry,
    proceedings.referee,
    proceedings.bond,
    proceedings.trainer_clock,
    proceedings.challenger_clock,
    proceedings.game_count,
)

MAX_TENSOR_LEAVES: constant(uint256) = 2**32


@deploy
def __init__(registry_: address, referee_: address, bond_: uint256, trainer_clock_: uint256, challenger_clock_: uint256):
    """
    @param bond_ What a challenger stakes on a game, in wei.
    @param trainer_clock_ The trainer's time for all its moves in one game, in seconds.
    @param challenger_clock_ The challenger's time for all its moves in one game, in seconds.
    """
    proceedings.__init__(registry_, referee_, bond_, trainer_clock_, challenger_clock_)


@external
@view
def game(game: uint256) -> IDisputeGame.Game:
    """
    @notice All there is to know of a game.
    """
    state: turns.State = records.load(game)
    subject: records.Subject = records.load_subject(game)
    d: descent.Descent = state.descent
    place: places.Place = places.places[places.of(state, subject.step)]
    return IDisputeGame.Game(
        job=state.job,
        attempt=state.attempt,
        segment=state.segment,
        challenger=state.challenger,
        rank=subject.rank,
        first=place.first,
        phase=state.phase,
        descended=state.descended,
        shown=state.shown,
        step=subject.step,
        roots=records.load_roots(game),
        trace_root=place.trace_root,
        trainer_spent=state.trainer_spent,
        challenger_spent=state.challenger_spent,
        moved_at=state.moved_at,
        paused=state.paused,
        run_node=subject.run_node,
        run_position=subject.run_position,
        descent=IDisputeGame.Descent(
            tree=d.tree,
            seal=d.seal,
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
    return staticcall proceedings.referee.numerics_version()


# Opening


@external
@payable
@nonreentrant
def open_step(
    job: uint256,
    segment: uint256,
    step: uint256,
    before: bytes32,
    after: bytes32,
    proof: DynArray[bytes32, 64],
    salt: bytes32,
) -> uint256:
    """
    @notice Challenge one step that was committed to, with the bond as value. The trainer owes the trace root, unless it is known.
    @param step The step of the segment that leads from history leaf `step` to the next.
    @param salt That of the commitment, which the caller made in an earlier block.
    @return The number of the game.
    """
    game: uint256 = 0
    rank: uint256 = 0
    state: turns.State = empty(turns.State)
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    game, rank, state, disputed = proceedings.open(job, segment, step, salt)
    spec: ITaskRegistry.JobSpec = staticcall proceedings.registry.spec(job)
    state = proceedings.show(game, state, disputed, spec, rank, step, before, after, proof)
    records.save(game, state)
    return game


@external
@payable
@nonreentrant
def open_blind(job: uint256, segment: uint256, history_root: bytes32, salt: bytes32) -> uint256:
    """
    @notice Challenge a segment whose states are not known, with the bond as value. The trainer owes the descendants of its history
            root.
    @param history_root The segment's, so that the opening cannot land on another history after a reorganisation.
    @param salt That of the commitment, which the caller made in an earlier block, with BLIND for the step.
    @return The number of the game.
    """
    game: uint256 = 0
    rank: uint256 = 0
    state: turns.State = empty(turns.State)
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    game, rank, state, disputed = proceedings.open(job, segment, places.BLIND, salt)
    proceedings.expect(disputed.history_root == history_root)
    subject: records.Subject = empty(records.Subject)
    subject.rank = rank
    records.save_subject(game, subject)
    places.arrive(places.of(state, 0), game, rank, False)
    state = proceedings.demand(game, state, subject, IDisputeGame.Tree.HISTORY, disputed.history_root, disputed.steps + 1)
    records.save(game, state)
    return game


# Moves of the challenger


@external
def show_step(
    game: uint256,
    step: uint256,
    before: bytes32,
    after: bytes32,
    proof: DynArray[bytes32, 64],
    descend: bool,
):
    """
    @notice Point at one step of the segment. The trainer owes its trace root, unless it is known.
    @param descend Start down the trace at once: the trainer then owes the descendants of the trace root as well.
    """
    state: turns.State = proceedings.challenger_moves(game)
    if state.shown:
        checks.refuse("game: step already shown")
    disputed: ITaskRegistry.Segment = staticcall proceedings.registry.segment(state.job, state.segment)
    spec: ITaskRegistry.JobSpec = staticcall proceedings.registry.spec(state.job)
    rank: uint256 = records.load_subject(game).rank
    state = proceedings.show(game, state, disputed, spec, rank, step, before, after, proof)
    # The descent that found the step is over.
    state.descent = empty(descent.Descent)
    if descend:
        if state.phase == IDisputeGame.Phase.CHALLENGER:
            subject: records.Subject = records.load_subject(game)
            root: bytes32 = places.places[places.of(state, step)].trace_root
            state = proceedings.demand(game, state, subject, IDisputeGame.Tree.TRACE, root, spec.tensor_count)
        else:
            # It waits for its root, with which the trainer starts it.
            state.descended |= IDisputeGame.Tree.TRACE
            state.descent = descent.start(IDisputeGame.Tree.TRACE, spec.tensor_count)
    records.save(game, state)


@external
def demand_trace(game: uint256, step: IReferee.Step):
    """
    @notice Start down the trace of the step. The trainer owes the descendants of the trace root.
    @param step Where the claims of the step live.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    state, subject = proceedings.challenger_moves_on_step(game, step)
    records.save(game, proceedings.demand(game, state, subject, IDisputeGame.Tree.TRACE, step.trace_root, step.tensor_count))


@external
def demand_state(game: uint256, step: IReferee.Step):
    """
    @notice Start down the state after the step. The trainer owes the descendants of its root.
    @param step Where the claims of the step live.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    state, subject = proceedings.challenger_moves_on_step(game, step)
    records.save(game, proceedings.demand(game, state, subject, IDisputeGame.Tree.STATE, step.state_after, step.state_count))


@external
def demand_tensor(
    game: uint256,
    step: IReferee.Step,
    node: IReferee.NodeProof,
    output: uint256,
    tensor_root: bytes32,
    trace_proof: DynArray[bytes32, 24],
):
    """
    @notice Start down one tensor of the trace. The trainer owes the descendants of its root, or the bytes of its only leaf.
    @param step Where the claims of the step live.
    @param node The node that writes the tensor, as output number `output`.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    state, subject = proceedings.challenger_moves_on_step(game, step)
    subject.tensor, subject.size = staticcall proceedings.referee.locate(step, node, output)
    merkle.check(tensor_root, subject.tensor, step.tensor_count, trace_proof, step.trace_root)
    if subject.size > MAX_TENSOR_LEAVES * merkle.LEAF_BYTES:
        checks.refuse("game: tensor too large")
    records.save_subject(game, subject)
    # A tensor without bytes has one empty leaf.
    count: uint256 = max((subject.size + merkle.LEAF_BYTES - 1) // merkle.LEAF_BYTES, 1)
    records.save(game, proceedings.demand(game, state, subject, IDisputeGame.Tree.TENSOR, tensor_root, count))


@external
def demand_run(
    game: uint256, step: IReferee.Step, node: IReferee.NodeProof, position: uint256, claim: IReferee.Leaf
):
    """
    @notice Start down the run of one element, which is too long for one verdict. The trainer owes the partial results that the element
            is made of.
    @param step Where the claims of the step live.
    @param node The reduce, dot or scatter_add node that writes the element.
    @param claim The leaf that holds the element.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    state, subject = proceedings.challenger_moves_on_step(game, step)
    run: IReferee.RunPlace = staticcall proceedings.referee.locate_run(step, node, position, claim)
    if run.parts <= 1:
        checks.refuse("game: run not too long")
    subject.tensor = run.tensor
    subject.size = convert(run.takes_max, uint256)
    subject.run_node = node.index
    subject.run_position = position
    records.save_subject(game, subject)
    claimed: bytes32 = convert(run.claimed, bytes32)
    records.save(game, proceedings.demand(game, state, subject, IDisputeGame.Tree.RUN, claimed, run.parts))
    log IDisputeGame.RunDemanded(
        game=game,
        node=node.index,
        position=position,
        tensor=run.tensor,
        tensor_root=claim.root,
        trace_proof=claim.trace_proof,
    )


@external
def pick(game: uint256, seal: bytes32, child: uint256):
    """
    @notice Choose one of the revealed descendants. The trainer owes that one's descendants or, where it is a leaf of a tensor, its
            bytes.
    @param seal That of what was revealed, so that the move cannot land on anything else.
    """
    state: turns.State = proceedings.challenger_moves(game)
    state.descent = descent.pick(state.descent, seal, child)
    state.phase = descent.owed(state.descent)
    records.save(game, state)
    log IDisputeGame.Picked(game=game, child=child, height=state.descent.height, position=state.descent.position)


@external
@nonreentrant
def refute(
    game: uint256,
    trail: bytes32,
    picked: uint256,
    above: Bytes[arity.PAYLOAD],
    below: Bytes[arity.PAYLOAD],
):
    """
    @notice Convict the trainer of a reveal that is not what was picked.
    @param trail The trail before `above` was revealed.
    @param picked What was picked before `above` was revealed.
    @param above What the node in question was picked from.
    @param below What was revealed last.
    """
    state: turns.State = proceedings.challenger_moves(game)
    # The seal outlives its descent.
    if state.descent.tree == empty(IDisputeGame.Tree):
        checks.refuse("descent: none under way")
    trainer: address = proceedings.standing(state).trainer
    last: bytes32 = descent.extended(descent.extended(trail, picked, above), state.descent.picked, below)
    proceedings.expect(descent.sealed(last, trainer) == state.descent.seal)
    takes_max: bool = records.load_subject(game).size == 1
    if descent.holds(state.descent, above, below, takes_max):
        checks.refuse("game: nothing to refute")
    log IDisputeGame.Refuted(game=game)
    proceedings.decide(game, state, False, False)


@external
@nonreentrant
def conclude_boundary(
    game: uint256,
    step: IReferee.Step,
    node: IReferee.NodeProof,
    tensor_root: bytes32,
    trace_proof: DynArray[bytes32, 24],
    component_root: bytes32,
    component_proof: DynArray[bytes32, 24],
):
    """
    @notice Have an input or output node judged: its tensor must have the root of its component of the state or data.
    @param step Where the claims of the step live.
    """
    state: turns.State = proceedings.challenger_moves_on_step(game, step)[0]
    joined: bool = staticcall proceedings.referee.judge_boundary(
        step, node, tensor_root, trace_proof, component_root, component_proof
    )
    log IDisputeGame.BoundaryJudged(
        game=game, node=node.index, tensor_root=tensor_root, component_root=component_root, joined=joined
    )
    proceedings.decide(game, state, joined, False)


@external
@nonreentrant
def conclude_element(
    game: uint256,
    step: IReferee.Step,
    node: IReferee.NodeProof,
    output: uint256,
    position: uint256,
    claim: IReferee.Leaf,
    inputs: DynArray[IReferee.Leaf, 8],
):
    """
    @notice Have one element of a map or gather node judged: the claimed value must be the recomputed one.
    @param step Where the claims of the step live.
    """
    state: turns.State = proceedings.challenger_moves_on_step(game, step)[0]
    claimed: int256 = 0
    correct: int256 = 0
    claimed, correct = staticcall proceedings.referee.judge_element(step, node, output, position, claim, inputs)
    proceedings.judged(game, state, node.index, output, position, claimed, correct)


@external
@nonreentrant
def conclude_run(
    game: uint256,
    step: IReferee.Step,
    node: IReferee.NodeProof,
    output: uint256,
    position: uint256,
    claim: IReferee.Leaf,
    inputs: DynArray[IReferee.Run, 2],
):
    """
    @notice Have one element of a reduce, dot or scatter_add node judged: the claimed value must be the recomputed one.
    @param step Where the claims of the step live.
    """
    state: turns.State = proceedings.challenger_moves_on_step(game, step)[0]
    claimed: int256 = 0
    correct: int256 = 0
    claimed, correct = staticcall proceedings.referee.judge_run(step, node, output, position, claim, inputs)
    proceedings.judged(game, state, node.index, output, position, claimed, correct)


@external
@nonreentrant
def conclude_part(
    game: uint256,
    step: IReferee.Step,
    node: IReferee.NodeProof,
    trail: bytes32,
    parts: Bytes[arity.PAYLOAD],
    child: uint256,
    inputs: DynArray[IReferee.Run, 2],
):
    """
    @notice Have one part of a long run judged: the partial result that was revealed must be the recomputed one.
    @param step Where the claims of the step live.
    @param node The node whose element's run was demanded.
    @param trail The trail before the partial results of the parts were revealed.
    @param parts All of these.
    @param child Which of them.
    @param inputs For each input of the node the neighbouring leaves that hold the part's elements.
    """
    state: turns.State = empty(turns.State)
    subject: records.Subject = empty(records.Subject)
    state, subject = proceedings.challenger_moves_on_step(game, step)
    d: descent.Descent = state.descent
    levels: uint256 = descent.span(d.height)
    if d.tree != IDisputeGame.Tree.RUN or levels != d.height:
        checks.refuse("game: no parts revealed")
    trainer: address = proceedings.standing(state).trainer
    proceedings.expect(descent.sealed(descent.extended(trail, d.picked, parts), trainer) == d.seal)
    claimed: int256 = partials.at(parts, child)
    if node.index != subject.run_node:
        checks.refuse("game: another node")
    position: uint256 = subject.run_position
    correct: int256 = staticcall proceedings.referee.judge_part(step, node, position, (d.position << levels) + child, inputs)
    proceedings.judged(game, state, node.index, 0, position, claimed, correct)


# Moves of the trainer


@external
def post_trace(game: uint256, place: bytes32, root: bytes32, payload: Bytes[arity.PAYLOAD]):
    """
    @notice Answer with the trace root of the step. It is the same in all games on the step.
    @param place The hash of job, attempt, segment and step, so that the answer cannot land on another step after a reorganisation.
    @param payload The descendants of the root, if the challenger demanded the trace while it showed the step; else nothing.
    """
    state: turns.State = proceedings.live(game)
    if state.phase != IDisputeGame.Phase.TRACE:
        checks.refuse("game: not owed")
    trainer: address = proceedings.standing(state).trainer
    if msg.sender != trainer:
        checks.refuse("game: not the trainer")
    state = proceedings.trainer_moves(state)
    subject: records.Subject = records.load_subject(game)
    proceedings.expect(places.of(state, subject.step) == place)
    known: bytes32 = places.places[place].trace_root
    if known == empty(bytes32):
        if root == empty(bytes32):
            checks.refuse("game: empty trace root")
        places.places[place].trace_root = root
    else:
        if root != known:
            checks.refuse("game: another trace root known")
    log IDisputeGame.TracePosted(
        game=game, job=state.job, attempt=state.attempt, segment=state.segment, step=subject.step, root=root
    )
    if IDisputeGame.Tree.TRACE in state.descended:
        trail: bytes32 = proceedings.begin(game, state, subject, root)
        proceedings.answer(game, state, subject, trail, payload)
    else:
        if len(payload) != 0:
            checks.refuse("game: nothing demanded")
    records.save(game, state)


@external
def reveal(game: uint256, trail: bytes32, picked: uint256, payload: Bytes[arity.PAYLOAD]):
    """
    @notice Answer with what is owed: the descendants of the node in question, as digests or as partial results, or the bytes of the leaf
            in question, each at its exact length. Whether they are these is not checked: see `refute`.
    @param trail The trail so far, and what was picked, so that the answer cannot land on anything else.
    """
    state: turns.State = records.load_play(game)
    owed: bool = state.phase in (IDisputeGame.Phase.CHILDREN | IDisputeGame.Phase.LEAF | IDisputeGame.Phase.PARTS)
    if not owed:
        checks.refuse("game: not owed")
    if descent.sealed(trail, msg.sender) != state.descent.seal:
        checks.refuse("game: not what the trainer owes")
    proceedings.expect(state.descent.picked == picked)
    subject: records.Subject = empty(records.Subject)
    if state.phase == IDisputeGame.Phase.LEAF:
        subject = records.load_subject(game)
    state = proceedings.trainer_moves(state)
    proceedings.answer(game, state, subject, trail, payload)
    records.save(game, state)


# Ends that anyone may bring about


@external
@nonreentrant
def timeout(game: uint256):
    """
    @notice End a game against the side whose turn it is, once more time has passed than its clock had left.
    """
    state: turns.State = proceedings.live(game)
    proceedings.decide(game, state, proceedings.silent(state), True)


@external
@nonreentrant
def reclaim(game: uint256):
    """
    @notice Credit the bond of a game back to its challenger when the attempt that it disputes is over.
    """
    state: turns.State = proceedings.live(game)
    if proceedings.standing(state).live:
        checks.refuse("game: attempt is not over")
    state.phase = IDisputeGame.Phase.CANCELLED
    records.save(game, state)
    ledger._credit(proceedings.NATIVE, state.challenger, proceedings.bond)
    log IDisputeGame.GameCancelled(game=game, job=state.job)


@external
def contend(game: uint256):
    """
    @notice Note a live game as the first at its place, unless a live one of lower rank is. An opening does this itself; another game's end
            can make it due once more.
    """
    state: turns.State = proceedings.live(game)
    subject: records.Subject = records.load_subject(game)
    places.arrive(places.of(state, subject.step), game, subject.rank, state.shown)
