# pragma version 0.4.3
# @title The functions of modules/records, for tests
# @license Apache-2.0

from modules import records
from modules import turns

initializes: records


@external
def keep(game: uint256, state: turns.State, subject: records.Subject, roots: bytes32):
    """
    @notice Store all that there is of a game.
    """
    records.create(game, state)
    records.save(game, state)
    records.save_seal(game, state.descent.seal)
    records.save_subject(game, subject)
    records.save_roots(game, roots)


@external
@view
def kept(game: uint256) -> (turns.State, records.Subject, bytes32):
    """
    @notice All that is stored of a game.
    """
    return records.load(game), records.load_subject(game), records.load_roots(game)


@external
@view
def play(game: uint256) -> turns.State:
    """
    @notice See modules/records.
    """
    return records.load_play(game)


@external
@view
def contender(game: uint256, shown: bool) -> (bool, uint256, address):
    """
    @notice See modules/records.
    """
    return records.contender(game, shown)
