# pragma version 0.4.3
# @title The functions of modules/merkle, for tests
# @license Apache-2.0

from modules import arity
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
def join(digests: DynArray[bytes32, arity.WIDTH]) -> bytes32:
    """
    @notice See modules/merkle.
    """
    return merkle.join(digests)


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


@external
@pure
def leaf_digest(data: Bytes[2048]) -> bytes32:
    """
    @notice See modules/merkle.
    """
    return merkle.leaf_digest(data)


@external
@pure
def check(digest: bytes32, index: uint256, count: uint256, proof: DynArray[bytes32, 32], root: bytes32):
    """
    @notice See modules/merkle.
    """
    merkle.check(digest, index, count, proof, root)


@external
@pure
def check_neighbours(
    left: bytes32, right: bytes32, first: uint256, count: uint256, proof: DynArray[bytes32, 64], root: bytes32
):
    """
    @notice See modules/merkle.
    """
    merkle.check_neighbours(left, right, first, count, proof, root)


@external
@pure
def fold_range(digests: DynArray[bytes32, 33], first: uint256, depth: uint256, proof: DynArray[bytes32, 64]) -> bytes32:
    """
    @notice See modules/merkle.
    """
    return merkle.fold_range(digests, first, depth, proof)
