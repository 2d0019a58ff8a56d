# pragma version 0.4.3
# @title An owner who can stop the clocks for a while, and nothing else
# @license Apache-2.0
# @notice Protocol time is the time of the chain without what was spent paused, so that a pause moves every deadline by exactly its own
#         length and no deadline has to be touched.
# @custom:security A pause ends by itself after MAX_PAUSE, and the next one can only begin MIN_BETWEEN later: an owner that has lost its key, or
#                  its mind, delays and cannot lock. Pauses are at most a third of all time, because each is added to the clocks of both sides of a
#                  game: were they half of it, two sides that wait for each other could go on for ever. Nothing here can reach a balance.

from interfaces import IGovernance

implements: IGovernance

MAX_PAUSE: constant(uint256) = 14 * 24 * 60 * 60
MIN_BETWEEN: constant(uint256) = 28 * 24 * 60 * 60
U64: constant(uint256) = 2**64 - 1

owner: public(address)
pending_owner: public(address)
_pauses: uint256  # see `_load`


# Protocol time is asked for in every move of a game, so that all of this is one word.
struct Pauses:
    began: uint256  # when the last pause began; 0 before the first
    length: uint256  # how long it lasted; MAX_PAUSE until somebody has ended it
    before: uint256  # how long all pauses before the last one lasted together


@deploy
def __init__():
    self.owner = msg.sender
    log IGovernance.OwnershipTransferred(previous=empty(address), owner=msg.sender)


@external
@view
def paused() -> bool:
    """
    @notice Whether all clocks stand still.
    """
    return self._paused()


@external
@view
def clock() -> uint256:
    """
    @notice The time that all deadlines, windows and clocks are measured in: seconds, without those spent paused.
    """
    return self._clock()


@external
def transfer_ownership(pending: address):
    """
    @notice Offer the ownership, or withdraw the offer with the zero address.
    """
    self._check_owner()
    self.pending_owner = pending
    log IGovernance.OwnershipTransferStarted(owner=msg.sender, pending=pending)


@external
def accept_ownership():
    """
    @notice Become the owner, if the owner has offered it.
    """
    assert msg.sender == self.pending_owner, "governance: not the pending owner"
    log IGovernance.OwnershipTransferred(previous=self.owner, owner=msg.sender)
    self.owner = msg.sender
    self.pending_owner = empty(address)


@external
def renounce_ownership():
    """
    @notice Leave the contracts without an owner for good: no pause and no further game contract.
    """
    self._check_owner()
    self.owner = empty(address)
    self.pending_owner = empty(address)
    log IGovernance.OwnershipTransferred(previous=msg.sender, owner=empty(address))


@external
def pause():
    """
    @notice Stop all clocks, for at most MAX_PAUSE seconds.
    """
    self._check_owner()
    last: Pauses = self._load()
    free: uint256 = 0
    if last.began != 0:
        free = last.began + last.length + MIN_BETWEEN
    assert block.timestamp > free, "governance: too soon after the last pause"
    self._save(Pauses(began=block.timestamp, length=MAX_PAUSE, before=last.before + last.length))
    log IGovernance.Paused(until=block.timestamp + MAX_PAUSE)


@external
def unpause():
    """
    @notice Let the clocks go on.
    """
    self._check_owner()
    assert self._paused(), "governance: not paused"
    last: Pauses = self._load()
    last.length = block.timestamp - last.began
    self._save(last)
    log IGovernance.Unpaused()


@internal
@view
def _check_owner():
    assert msg.sender == self.owner, "governance: not the owner"


@internal
@view
def _require_running():
    """
    @notice Reverts during a pause.
    """
    assert not self._paused(), "governance: paused"


@internal
@view
def _paused() -> bool:
    paused: bool = False
    now: uint256 = 0
    paused, now = self._now()
    return paused


@internal
@view
def _clock() -> uint256:
    paused: bool = False
    now: uint256 = 0
    paused, now = self._now()
    return now


@internal
@view
def _now() -> (bool, uint256):
    """
    @notice Whether all clocks stand still, and protocol time.
    @custom:security Unchecked: no pause began after this block, and all pauses together are shorter than the time since the first.
    """
    last: Pauses = self._load()
    since: uint256 = unsafe_sub(block.timestamp, last.began)
    stood: uint256 = unsafe_add(last.before, min(since, last.length))
    return since < last.length, unsafe_sub(block.timestamp, stood)


@internal
@view
def _load() -> Pauses:
    """
    @notice All pauses so far, from one word: 64 bits each.
    """
    word: uint256 = self._pauses
    return Pauses(began=word & U64, length=(word >> 64) & U64, before=word >> 128)


@internal
def _save(pauses: Pauses):
    self._pauses = pauses.began | (pauses.length << 64) | (pauses.before << 128)
