# pragma version 0.4.3
# @title Turns: whose move it is in a game, and how much time each side has spent
# @license Apache-2.0
# @notice Each side has one budget a game, like at chess. A move adds the time since the last one to what its side has spent; a budget that
#         is used up to the last second still allows a move in that second. Times are the chain's; what the clocks of the protocol have
#         stood still since the game was opened is added to both budgets. So a move has to ask for it only where its budget is used up.

from interfaces import IDisputeGame
from interfaces import IGovernance
from interfaces import ITaskRegistry
from modules import checks
from modules import descent


# A game in the middle of a move. `paused` is for how long the protocol's clocks had stood still in all when it was opened.
struct State:
    challenger: address
    job: uint256
    attempt: uint256
    segment: uint256
    phase: IDisputeGame.Phase
    descended: IDisputeGame.Tree
    shown: bool
    trainer_spent: uint256
    challenger_spent: uint256
    moved_at: uint256
    paused: uint256
    descent: descent.Descent


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
def standing(state: State, registry: ITaskRegistry) -> ITaskRegistry.Standing:
    """
    @notice What the registry says of the game's attempt.
    """
    return staticcall registry.standing(state.job, state.attempt)


@internal
@view
def paused_since(state: State, clock: uint256) -> uint256:
    """
    @notice For how long the protocol's clocks have stood still since the game was opened, in seconds.
    @param clock What they show.
    """
    return block.timestamp - clock - state.paused


@internal
@view
def challenger_moves(start: State, registry: ITaskRegistry, budget: uint256) -> State:
    """
    @notice The game with the time since the last move spent by the challenger, if it is the challenger's turn.
    """
    state: State = start
    if msg.sender != state.challenger:
        checks.refuse("game: not the challenger")
    if state.phase != IDisputeGame.Phase.CHALLENGER:
        checks.refuse("game: not the challenger's turn")
    state.challenger_spent = self._spent(state, registry, state.challenger_spent, budget)
    state.moved_at = block.timestamp
    return state


@internal
@view
def trainer_moves(start: State, registry: ITaskRegistry, budget: uint256) -> State:
    """
    @notice The game with the time since the last move spent by the trainer; it will be the challenger's turn.
    """
    state: State = start
    state.trainer_spent = self._spent(state, registry, state.trainer_spent, budget)
    state.moved_at = block.timestamp
    state.phase = IDisputeGame.Phase.CHALLENGER
    return state


@internal
@view
def _spent(state: State, registry: ITaskRegistry, before: uint256, budget: uint256) -> uint256:
    spent: uint256 = before + block.timestamp - state.moved_at
    if spent > budget:
        if spent > budget + self.paused_since(state, staticcall IGovernance(registry.address).clock()):
            checks.refuse("game: clock used up")
    return spent


@internal
@view
def silent(state: State, clock: uint256, trainer_budget: uint256, challenger_budget: uint256) -> bool:
    """
    @notice Whether it is the challenger whose clock has run out. Reverts when nobody's has.
    @param clock What the clocks of the protocol show.
    """
    challengers_turn: bool = state.phase == IDisputeGame.Phase.CHALLENGER
    budget: uint256 = challenger_budget if challengers_turn else trainer_budget
    spent: uint256 = state.challenger_spent if challengers_turn else state.trainer_spent
    if spent + block.timestamp - state.moved_at <= budget + self.paused_since(state, clock):
        checks.refuse("game: clock not used up")
    return challengers_turn
