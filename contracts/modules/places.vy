# pragma version 0.4.3
# @title Places: what all games on one step share
# @license Apache-2.0
# @notice A place is a step of a segment that one trainer posted, or the segment as long as no step is shown. It has one trace root, and one
#         game that was first there. Rank decides who was first, not the order of transactions: copying an opening or a verdict gains
#         nothing, because the copy ranks later.
# @custom:security Games of an ended attempt are at other places, so that neither their trace roots nor their ranks count in the next one.

from modules import records
from modules import turns

uses: records

BLIND: constant(uint256) = max_value(uint256)  # in the place of the step while none is shown


struct Place:
    trace_root: bytes32
    first: uint256


places: HashMap[bytes32, Place]


@internal
@pure
def key(job: uint256, attempt: uint256, segment: uint256, step: uint256) -> bytes32:
    """
    @notice The place of a step; BLIND stands for none.
    """
    return keccak256(abi_encode(job, attempt, segment, step))


@internal
@pure
def of(state: turns.State, step: uint256) -> bytes32:
    """
    @notice The place where a game is, of whose step `step` is the number if it is shown.
    """
    return self.key(state.job, state.attempt, state.segment, step if state.shown else BLIND)


@internal
def arrive(place: bytes32, game: uint256, rank: uint256, shown: bool):
    """
    @notice Note a game as the first at a place, unless a live one of lower rank is there.
    @param shown Whether the place is a step.
    """
    live: bool = False
    least: uint256 = 0
    challenger: address = empty(address)
    live, least, challenger = records.contender(self.places[place].first, shown)
    if not live or rank < least:
        self.places[place].first = game


@internal
@view
def beneficiary(place: bytes32, rank: uint256, challenger: address, shown: bool) -> address:
    """
    @notice Who is rewarded for a conviction at a place by a game of this rank and challenger: whoever was first there, if its game
            goes on and has not left for a step.
    @param shown Whether the place is a step.
    """
    live: bool = False
    least: uint256 = 0
    first: address = empty(address)
    live, least, first = records.contender(self.places[place].first, shown)
    return first if live and least < rank else challenger
