# pragma version 0.4.3
# @title Partial results: how a trainer is made to take a long run apart
# @license Apache-2.0
# @notice The parts of a run are the leaves of a tree. Every node of it stands for the partial result over the parts below: their sum, or
#         their maximum, of 64 bits. A payload has one after the other, the most significant byte first.

from modules import arity
from modules import checks

BYTES: constant(uint256) = 8  # of a partial result


@internal
@pure
def at(payload: Bytes[arity.PAYLOAD], index: uint256) -> int256:
    """
    @notice One of the partial results of a payload.
    """
    if BYTES * (index + 1) > len(payload):
        checks.refuse("partials: no such part")
    return self._at(concat(payload, empty(bytes32)), index)


@internal
@pure
def combine(payload: Bytes[arity.PAYLOAD], takes_max: bool) -> int256:
    """
    @notice The maximum of the partial results of a payload, or their sum, which wraps at 64 bits.
    """
    padded: Bytes[arity.PAYLOAD + 32] = concat(payload, empty(bytes32))
    so_far: int256 = min_value(int256) if takes_max else 0
    for i: uint256 in range(len(payload) // BYTES, bound=arity.WIDTH):
        value: int256 = self._at(padded, i)
        so_far = max(so_far, value) if takes_max else so_far + value
    return so_far if takes_max else (so_far << 192) >> 192


@internal
@pure
def _at(padded: Bytes[arity.PAYLOAD + 32], index: uint256) -> int256:
    return convert(extract32(padded, BYTES * index), int256) >> 192
