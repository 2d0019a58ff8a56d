# pragma version 0.4.3
# @title Turns: whose move it is in a game, and how much time each side has left
# @license Apache-2.0
# @notice Each side has one budget a game, like at chess. A move takes the time since the last one off it; a budget that is used up to
#         the last second still allows a move in that second. All times are protocol time, which stands still during a pause.

from interfaces import IDisputeGame
from modules import checks
from modules import descent


# A game in the middle of a move. `now` is the registry's and not stored with it.
struct State:
    challenger: address
    job: uint256
    attempt: uint256
    segment: uint256
    phase: IDisputeGame.Phase
    descended: IDisputeGame.Tree
    shown: bool
    trainer_clock: uint256
    challenger_clock: uint256
    moved_at: uint256
    descent: descent.Descent
    now: uint256


@internal
@view
def live(phase: IDisputeGame.Phase) -> bool:
    """
    @notice Whether a game in this phase still goes on.
    """
    return phase not in (
        IDisputeGame.Phase.CONVICTED | IDisputeGame.Phase.ACQUITTED | IDisputeGame.Phase.CANCELLED
    )


@internal
@view
def challenger_moves(start: State) -> State:
    """
    @notice The game with the time since the last move taken off the challenger's clock, if it is the challenger's turn.
    """
    state: State = start
    if msg.sender != state.challenger:
        checks.refuse("game: not the challenger")
    if state.phase != IDisputeGame.Phase.CHALLENGER:
        checks.refuse("game: not the challenger's turn")
    state.challenger_clock = self._left(state, state.challenger_clock)
    state.moved_at = state.now
    return state


@internal
@view
def trainer_moves(start: State, trainer: address, owed: IDisputeGame.Phase) -> State:
    """
    @notice The game with the time since the last move taken off the trainer's clock, if the trainer owes just this; then it will be the
            challenger's turn.
    """
    state: State = start
    if msg.sender != trainer:
        checks.refuse("game: not the trainer")
    if state.phase != owed:
        checks.refuse("game: not owed")
    state.trainer_clock = self._left(state, state.trainer_clock)
    state.moved_at = state.now
    state.phase = IDisputeGame.Phase.CHALLENGER
    return state


@internal
@pure
def _left(state: State, clock: uint256) -> uint256:
    spent: uint256 = state.now - state.moved_at
    if spent > clock:
        checks.refuse("game: clock used up")
    return clock - spent


@internal
@view
def silent(state: State) -> bool:
    """
    @notice Whether it is the challenger whose clock has run out. Reverts when nobody's has.
    """
    challengers_turn: bool = state.phase == IDisputeGame.Phase.CHALLENGER
    left: uint256 = state.challenger_clock if challengers_turn else state.trainer_clock
    if state.now - state.moved_at <= left:
        checks.refuse("game: clock not used up")
    return challengers_turn
