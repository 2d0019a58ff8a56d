# pragma version 0.4.3
# @title Positional Merkle trees over SHA-256
# @license Apache-2.0
# @notice The trees of bisection/merkle.py. A tree of n leaves has depth ceil(log2 n); whoever checks a proof also checks that it
#         has exactly that length, and that the index lies below n.

# The digest of every place beyond the last leaf, and of every inner node that stands over two such places.
EMPTY: constant(bytes32) = empty(bytes32)

LEAF_BYTES: constant(uint256) = 256


@internal
@pure
def leaf_digest(data: Bytes[2048]) -> bytes32:
    """
    @notice SHA-256(0 || data).
    """
    return sha256(concat(b"\x00", data))


@internal
@pure
def parent(left: bytes32, right: bytes32) -> bytes32:
    """
    @notice SHA-256(1 || left || right), but EMPTY over two empty children.
    """
    if left == EMPTY and right == EMPTY:
        return EMPTY
    return sha256(concat(b"\x01", left, right))


@internal
@pure
def depth_of(count: uint256) -> uint256:
    """
    @notice The depth of a tree of `count` leaves: the least d with 2^d >= count.
    """
    depth: uint256 = 0
    for step: uint256 in [128, 64, 32, 16, 8, 4, 2, 1]:
        # 2^(step + depth - 1) < count means that `step` more levels are needed to come near `count`.
        if count > 1 and ((count - 1) >> (depth + step - 1)) != 0:
            depth += step
    return depth


@internal
@pure
def fold(digest: bytes32, index: uint256, proof: DynArray[bytes32, 32]) -> bytes32:
    """
    @notice The root that `digest` at leaf `index` and its siblings, lowest first, lead to.
    """
    assert index >> len(proof) == 0, "merkle: index outside the tree"
    node: bytes32 = digest
    place: uint256 = index
    for sibling: bytes32 in proof:
        if place & 1 == 1:
            node = self.parent(sibling, node)
        else:
            node = self.parent(node, sibling)
        place >>= 1
    return node
