# pragma version 0.4.3
# @title Turns: whose move it is in a game, and how much time each side has left
# @license Apache-2.0
# @notice Each side has one budget a game, like at chess. A move takes the time since the last one off it; a budget that is used up to
#         the last second still allows a move in that second.

from interfaces import IDisputeGame

U8: constant(uint256) = 2**8 - 1
U32: constant(uint256) = 2**32 - 1
U64: constant(uint256) = 2**64 - 1


struct State:
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


@internal
@view
def require_live(state: State):
    """
    @notice Reverts when the game has ended.
    """
    ended: bool = state.phase in (
        IDisputeGame.Phase.CONVICTED | IDisputeGame.Phase.ACQUITTED | IDisputeGame.Phase.CANCELLED
    )
    assert not ended, "game: over"


@internal
@view
def challenger_moves(start: State) -> State:
    """
    @notice The game with the time since the last move taken off the challenger's clock, if it is the challenger's turn.
    """
    state: State = start
    assert msg.sender == state.challenger, "game: not the challenger"
    assert state.phase == IDisputeGame.Phase.CHALLENGER, "game: not the challenger's turn"
    state.challenger_clock = self._left(state, state.challenger_clock)
    state.moved_at = block.timestamp
    return state


@internal
@view
def trainer_moves(start: State, trainer: address, owed: IDisputeGame.Phase) -> State:
    """
    @notice The game with the time since the last move taken off the trainer's clock, if the trainer owes just this; then it will be the
            challenger's turn.
    """
    state: State = start
    assert msg.sender == trainer, "game: not the trainer"
    assert state.phase == owed, "game: not owed"
    state.trainer_clock = self._left(state, state.trainer_clock)
    state.moved_at = block.timestamp
    state.phase = IDisputeGame.Phase.CHALLENGER
    return state


@internal
@view
def _left(state: State, clock: uint256) -> uint256:
    spent: uint256 = block.timestamp - state.moved_at
    assert spent <= clock, "game: clock used up"
    return clock - spent


@internal
@view
def silent(state: State) -> bool:
    """
    @notice Whether it is the challenger whose clock has run out. Reverts when nobody's has.
    """
    challengers_turn: bool = state.phase == IDisputeGame.Phase.CHALLENGER
    left: uint256 = state.challenger_clock if challengers_turn else state.trainer_clock
    assert block.timestamp - state.moved_at > left, "game: clock not used up"
    return challengers_turn


@internal
@view
def pack_parties(state: State) -> uint256:
    """
    @notice What never changes, in one word: challenger 160 bits, job 64, segment 32.
    """
    return convert(state.challenger, uint256) | (state.job << 160) | (state.segment << 224)


@internal
@view
def pack_play(state: State) -> uint256:
    """
    @notice What changes, in one word: phase 8 bits, trees 8, shown 8, step 32, clocks 32 each, last move 64.
    """
    return (
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
def unpack(parties: uint256, play: uint256) -> State:
    """
    @notice The game that was packed.
    """
    return State(
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
