# pragma version 0.4.3
# @title The functions of modules/merkle, for tests
# @license Apache-2.0

from modules import merkle


@external
@pure
def parent(left: bytes32, right: bytes32) -> bytes32:
    """
    @notice See modules/merkle.
    """
    return merkle.parent(left, right)


@external
@pure
def depth_of(count: uint256) -> uint256:
    """
    @notice See modules/merkle.
    """
    return merkle.depth_of(count)


@external
@pure
def fold(digest: bytes32, index: uint256, proof: DynArray[bytes32, 32]) -> bytes32:
    """
    @notice See modules/merkle.
    """
    return merkle.fold(digest, index, proof)
