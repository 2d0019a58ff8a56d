# pragma version 0.4.3
# @title Commit and reveal, so that nobody profits from copying what it sees in the mempool
# @license Apache-2.0
# @notice A commitment is revealed in a later block, within COMMIT_SECONDS, by being consumed. Commitments are numbered in the order in which
#         they were made: the ordinal says who was first, whoever is revealed first.
# @custom:security A commitment is its account's: the same hash made by another neither helps nor hinders. The hash must contain the account,
#                  so that a copied one cannot be revealed by its copier. It expires soon, so that holding commitments in store against all that could be revealed costs gas without end.

from interfaces import ICommitments
from modules import checks

implements: ICommitments

# A commitment that is older can no longer be revealed; whoever was held up commits again.
COMMIT_SECONDS: constant(uint256) = 600
U64: constant(uint256) = 2**64 - 1

_ordinals: uint256
# account -> commitment -> ordinal 64 bits, block number 64, timestamp 64
_made: HashMap[address, HashMap[bytes32, uint256]]


@external
def commit(commitment: bytes32):
    """
    @notice Commit to something that is revealed in a later block.
    """
    # One that was never made reads as expired.
    if not self._expired(self._made[msg.sender][commitment]):
        checks.refuse("commitments: already made")
    self._made[msg.sender][commitment] = self._ordinal() | (block.number << 64) | (block.timestamp << 128)
    log ICommitments.Committed(commitment=commitment, account=msg.sender)


@internal
def _ordinal() -> uint256:
    """
    @notice The next place in the order of commitments, counted from 1.
    """
    self._ordinals += 1
    return self._ordinals


@internal
def _consume(commitment: bytes32) -> uint256:
    """
    @notice The ordinal of the caller's commitment, which is used up. Reverts unless it was made in an earlier block, and not long ago.
    """
    made: uint256 = self._made[msg.sender][commitment]
    if made == 0:
        checks.refuse("commitments: none made")
    if block.number <= (made >> 64) & U64:
        checks.refuse("commitments: made in this block")
    if self._expired(made):
        checks.refuse("commitments: expired")
    self._made[msg.sender][commitment] = 0
    return made & U64


@internal
@view
def _expired(made: uint256) -> bool:
    return block.timestamp > (made >> 128) + COMMIT_SECONDS
