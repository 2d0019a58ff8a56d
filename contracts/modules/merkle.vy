# pragma version 0.4.3
# @title Positional Merkle trees over SHA-256
# @license Apache-2.0
# @notice The trees of bisection/merkle.py. A tree of n leaves has depth ceil(log2 n); whoever checks a proof also checks that it
#         has exactly that length, and that the index lies below n.

from modules import arity
from modules import checks

# The digest of every place beyond the last leaf, and of every inner node that stands over two such places.
EMPTY: constant(bytes32) = empty(bytes32)

LEAF_BYTES: constant(uint256) = 256

# What comes before the bytes of a leaf, and before two digests, when they are hashed.
LEAF: constant(bytes1) = 0x00
INNER: constant(bytes1) = 0x01


@internal
@pure
def leaf_digest(data: Bytes[2048]) -> bytes32:
    """
    @notice SHA-256(0 || data), of a leaf of a tensor or the encoding of a node.
    """
    return sha256(concat(LEAF, data))


@internal
@pure
def parent(left: bytes32, right: bytes32) -> bytes32:
    """
    @notice SHA-256(1 || left || right), but EMPTY over two empty children.
    """
    if left == EMPTY and right == EMPTY:
        return EMPTY
    return sha256(concat(INNER, left, right))


@internal
@pure
def join(digests: DynArray[bytes32, arity.WIDTH]) -> bytes32:
    """
    @notice The node above neighbouring digests, whose number is a power of two.
    @custom:security Unchecked: twice an index stays below WIDTH.
    """
    row: DynArray[bytes32, arity.WIDTH] = digests
    width: uint256 = len(digests)
    for _: uint256 in range(arity.LEVELS):
        width = width >> 1
        at: uint256 = 0
        for i: uint256 in range(width, bound=arity.WIDTH):
            # `parent`, without the cost of a call.
            left: bytes32 = row[at]
            right: bytes32 = row[unsafe_add(at, 1)]
            row[i] = EMPTY if left == EMPTY and right == EMPTY else sha256(concat(INNER, left, right))
            at = unsafe_add(at, 2)
    return row[0]


@internal
@pure
def depth_of(count: uint256) -> uint256:
    """
    @notice The depth of a tree of `count` leaves: the least d with 2^d >= count.
    """
    for depth: uint256 in range(256):
        if count <= 1 << depth:
            return depth
    raise "merkle: too many leaves"


@internal
@pure
def fold(digest: bytes32, index: uint256, proof: DynArray[bytes32, 32]) -> bytes32:
    """
    @notice The root that `digest` at leaf `index` and its siblings, lowest first, lead to.
    """
    if index >> len(proof) != 0:
        checks.refuse("merkle: index outside the tree")
    node: bytes32 = digest
    place: uint256 = index
    for sibling: bytes32 in proof:
        node = self.parent(node, sibling) if place & 1 == 0 else self.parent(sibling, node)
        place = place >> 1
    return node


@internal
@pure
def check(digest: bytes32, index: uint256, count: uint256, proof: DynArray[bytes32, 32], root: bytes32):
    """
    @notice Reverts unless `proof` shows that leaf `index` of the tree of `count` leaves under `root` is `digest`.
    """
    if index >= count:
        checks.refuse("merkle: index outside the tree")
    # The exact depth: 2^d leaves are enough, half of them are not.
    places: uint256 = 1 << len(proof)
    if places < count or places >> 1 >= count:
        checks.refuse("merkle: proof of another depth")
    if self.fold(digest, index, proof) != root:
        checks.refuse("merkle: proof of another root")


@internal
@pure
def check_neighbours(
    left: bytes32, right: bytes32, first: uint256, count: uint256, proof: DynArray[bytes32, 64], root: bytes32
):
    """
    @notice Reverts unless `proof` shows that leaves `first` and first + 1 of the tree of `count` leaves under `root` are these. It is a
            proof of that range: see `fold_range`. The tree must have these leaves.
    """
    a: bytes32 = left
    b: bytes32 = right
    place: uint256 = first
    used: uint256 = 0
    # As long as the first of both is a right child, they have different parents.
    for _: uint256 in range(32):
        if place & 1 == 0 or used + 1 >= len(proof):
            break
        a = self.parent(proof[used], a)
        b = self.parent(b, proof[used + 1])
        used += 2
        place = place >> 1
    levels: uint256 = used // 2 + 1 + len(proof) - used
    places: uint256 = 1 << levels
    if place & 1 != 0 or places < count or places >> 1 >= count:
        checks.refuse("merkle: proof of another depth")
    node: bytes32 = self.parent(a, b)
    for i: uint256 in range(used, len(proof), bound=64):
        place = place >> 1
        node = self.parent(node, proof[i]) if place & 1 == 0 else self.parent(proof[i], node)
    if node != root:
        checks.refuse("merkle: proof of another root")


@internal
@pure
def fold_range(digests: DynArray[bytes32, 33], first: uint256, depth: uint256, proof: DynArray[bytes32, 64]) -> bytes32:
    """
    @notice The root at height `depth` that neighbouring leaves from `first` on lead to. `proof` holds, level by level, the sibling on the
            left and the sibling on the right where there is one.
    """
    if depth > 32:
        checks.refuse("merkle: range in too deep a tree")
    row: DynArray[bytes32, 33] = digests
    width: uint256 = len(digests)
    place: uint256 = first
    used: uint256 = 0
    for _: uint256 in range(depth, bound=32):
        # Parents take the places of their children from the front, each written after both were read. Only the first can lack its left
        # child, which then stands before the row, and only the last its right one.
        odd: uint256 = place & 1
        parents: uint256 = unsafe_add(unsafe_add(width, odd), 1) >> 1
        for i: uint256 in range(parents, bound=17):
            left: uint256 = unsafe_sub(i << 1, odd)
            right: uint256 = unsafe_add(left, 1)
            if left < width and right < width:
                row[i] = self.parent(row[left], row[right])
                continue
            if used >= len(proof):
                checks.refuse("merkle: range proof of another depth")
            row[i] = self.parent(row[left], proof[used]) if left < width else self.parent(proof[used], row[0])
            used = unsafe_add(used, 1)
        width = parents
        place = place >> 1
    if width != 1 or place != 0 or used != len(proof):
        checks.refuse("merkle: range proof of another depth")
    return row[0]
