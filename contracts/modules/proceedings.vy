# pragma version 0.4.3
# @title Proceedings: what the moves of a game are made of
# @license Apache-2.0
# @notice Opening, showing a step, demanding, answering, deciding: each begun here and ended by the external functions of DisputeGame.
# @custom:security Only `open` and `decide` change anything in the registry, and only they move bonds.

from interfaces import IDisputeGame
from interfaces import IReferee
from interfaces import ITaskRegistry
from modules import arity
from modules import checks
from modules import commitments
from modules import descent
from modules import ledger
from modules import merkle
from modules import places
from modules import records
from modules import turns

uses: commitments
uses: ledger
uses: places
uses: records

MAX_CLOCK: constant(uint256) = 2**31 - 1  # half of what can be stored of the seconds spent: pauses add to it
NATIVE: constant(address) = empty(address)  # ether, of which the bonds are

registry: public(immutable(ITaskRegistry))
referee: public(immutable(IReferee))
bond: public(immutable(uint256))
trainer_clock: public(immutable(uint256))
challenger_clock: public(immutable(uint256))

game_count: public(uint256)


@deploy
def __init__(registry_: address, referee_: address, bond_: uint256, trainer_clock_: uint256, challenger_clock_: uint256):
    assert registry_ != empty(address) and referee_ != empty(address), "game: no registry or referee"
    assert 1 <= bond_, "game: no bond"
    assert 1 <= trainer_clock_ and trainer_clock_ <= MAX_CLOCK, "game: bad trainer clock"
    assert 1 <= challenger_clock_ and challenger_clock_ <= MAX_CLOCK, "game: bad challenger clock"
    registry = ITaskRegistry(registry_)
    referee = IReferee(referee_)
    bond = bond_
    trainer_clock = trainer_clock_
    challenger_clock = challenger_clock_


# Who may move


@internal
@view
def live(game: uint256) -> turns.State:
    state: turns.State = records.load(game)
    if not turns.live(state.phase):
        checks.refuse("game: over")
    return state


@internal
@view
def challenger_moves(game: uint256) -> turns.State:
    return turns.challenger_moves(self.live(game), registry, challenger_clock)


@internal
@view
def challenger_moves_on_step(game: uint256, step: IReferee.Step) -> (turns.State, records.Subject):
    """
    @return The game, and what it is about, if the claims of its step live at `step`.
    """
    state: turns.State = self.challenger_moves(game)
    if not state.shown:
        checks.refuse("game: no step shown")
    subject: records.Subject = records.load_subject(game)
    known: bool = (
        places.places[places.of(state, subject.step)].trace_root == step.trace_root
        and self.digest(step) == records.load_roots(game)
    )
    self.expect(known)
    return state, subject


@internal
@view
def trainer_moves(state: turns.State) -> turns.State:
    return turns.trainer_moves(state, registry, trainer_clock)


@internal
@view
def silent(state: turns.State) -> bool:
    """
    @notice Whether it is the challenger whose clock has run out. Reverts when nobody's has.
    """
    return turns.silent(state, self.standing(state).clock, trainer_clock, challenger_clock)


@internal
@view
def standing(state: turns.State) -> ITaskRegistry.Standing:
    return turns.standing(state, registry)


@internal
@pure
def expect(found: bool):
    """
    @notice Reverts unless a move is about what it names: after a reorganisation the same numbers can stand for something else.
    """
    if not found:
        checks.refuse("game: another place")


# Parts of moves


@internal
@payable
def open(
    job: uint256, segment: uint256, step: uint256, salt: bytes32
) -> (uint256, uint256, turns.State, ITaskRegistry.Segment):
    """
    @notice Store a game whose rank is that of the caller's commitment.
    """
    rank: uint256 = commitments._consume(keccak256(abi_encode(msg.sender, job, segment, step, salt)))
    if msg.value != bond:
        checks.refuse("game: wrong bond")
    attempt: uint256 = 0
    disputed: ITaskRegistry.Segment = empty(ITaskRegistry.Segment)
    attempt, disputed = extcall registry.game_opened(job, segment)
    self.game_count += 1
    game: uint256 = self.game_count
    state: turns.State = empty(turns.State)
    state.challenger = msg.sender
    state.job = job
    state.attempt = attempt
    state.segment = segment
    state.phase = IDisputeGame.Phase.CHALLENGER
    state.moved_at = block.timestamp
    state.paused = block.timestamp - self.standing(state).clock
    records.create(game, state)
    log IDisputeGame.GameOpened(
        game=game, job=job, challenger=msg.sender, segment=segment, attempt=attempt, rank=rank
    )
    return game, rank, state, disputed


@internal
def show(
    game: uint256,
    showing: turns.State,
    disputed: ITaskRegistry.Segment,
    spec: ITaskRegistry.JobSpec,
    rank: uint256,
    step: uint256,
    before: bytes32,
    after: bytes32,
    proof: DynArray[bytes32, 64],
) -> turns.State:
    """
    @notice Note which step the game is about. The trainer owes its trace root, unless it is known.
    """
    state: turns.State = showing
    if step >= disputed.steps:
        checks.refuse("game: no such step")
    merkle.check_neighbours(before, after, step, disputed.steps + 1, proof, disputed.history_root)
    subject: records.Subject = empty(records.Subject)
    subject.rank = rank
    subject.step = step
    records.save_subject(game, subject)
    records.save_roots(
        game,
        self.digest(
            IReferee.Step(
                program_root=spec.program_root,
                node_count=spec.node_count,
                trace_root=empty(bytes32),
                tensor_count=spec.tensor_count,
                state_before=before,
                state_after=after,
                state_count=spec.state_count,
                data_root=spec.data_root,
                data_count=spec.data_count,
            )
        ),
    )
    state.shown = True
    place: bytes32 = places.of(state, step)
    places.arrive(place, game, rank, True)
    if places.places[place].trace_root == empty(bytes32):
        state.phase = IDisputeGame.Phase.TRACE
    log IDisputeGame.StepShown(game=game, step=step, before=before, after=after)
    return state


@internal
@pure
def digest(step: IReferee.Step) -> bytes32:
    """
    @notice What is stored of where the claims of a step live; the trace root is its place's.
    """
    rest: IReferee.Step = step
    rest.trace_root = empty(bytes32)
    return sha256(abi_encode(rest))


@internal
def demand(
    game: uint256,
    demanding: turns.State,
    subject: records.Subject,
    tree: IDisputeGame.Tree,
    root: bytes32,
    count: uint256,
) -> turns.State:
    """
    @notice Start down a tree: the trainer owes what the descent begins with.
    """
    state: turns.State = demanding
    if tree in state.descended:
        checks.refuse("game: tree already descended")
    state.descended |= tree
    state.descent = descent.start(tree, count)
    state.phase = descent.owed(state.descent)
    trail: bytes32 = self.begin(game, state, subject, root)
    trainer: address = self.standing(state).trainer
    records.save_seal(game, descent.sealed(trail, trainer))
    return state


@internal
def begin(game: uint256, state: turns.State, subject: records.Subject, root: bytes32) -> bytes32:
    """
    @notice The trail that a descent begins with: the hash of what it is about, and then the root as if it had been revealed.
    """
    d: descent.Descent = state.descent
    about: bytes32 = sha256(
        abi_encode(
            state.job,
            state.attempt,
            state.segment,
            subject.step if state.shown else places.BLIND,
            d.tree,
            subject.tensor,
            subject.run_node,
            subject.run_position,
        )
    )
    log IDisputeGame.Demanded(game=game, tree=d.tree, root=root, count=d.count, tensor=subject.tensor)
    return descent.extended(about, 0, abi_encode(root))


@internal
def answer(
    game: uint256,
    state: turns.State,
    subject: records.Subject,
    trail: bytes32,
    payload: Bytes[arity.PAYLOAD],
):
    """
    @notice Note what the trainer has revealed, of which only the length is checked.
    """
    d: descent.Descent = state.descent
    if len(payload) != descent.owed_bytes(d, subject.size):
        checks.refuse("game: wrong length")
    records.save_seal(game, descent.sealed(descent.extended(trail, d.picked, payload), msg.sender))
    log IDisputeGame.Revealed(game=game, tree=d.tree, height=d.height, position=d.position, payload=payload)


@internal
def judged(
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
    self.decide(game, state, claimed == correct, False)


@internal
def decide(game: uint256, decided: turns.State, acquitted: bool, by_timeout: bool):
    """
    @notice End a game for the trainer or against it. The bond goes to the winner; the reward to whoever was first at the place.
    """
    state: turns.State = decided
    standing: ITaskRegistry.Standing = self.standing(state)
    if not standing.live:
        checks.refuse("game: attempt is over")
    if standing.paused:
        checks.refuse("game: paused")
    if acquitted:
        state.phase = IDisputeGame.Phase.ACQUITTED
        records.save(game, state)
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
