# pragma version 0.4.3
# @title Elements of committed tensors
# @license Apache-2.0
# @notice A tensor is a leaf of the trace tree; its bytes, little-endian in C order, stand in 256-byte leaves of a tree of their own.
#         An element is a register: its stored bits as a signed integer. See bisection/cut.py.

from interfaces import IReferee
from modules import checks
from modules import merkle

# Nibble t is the size in bytes of element type t: f32 4, i8 1, i16 2, i32 4, i64 8.
SIZES: constant(uint256) = 4 + (1 << 4) + (2 << 8) + (4 << 12) + (8 << 16)
F32: constant(uint256) = 0
I32: constant(uint256) = 3
I64: constant(uint256) = 4

ONE_LANE: constant(uint256) = 256  # bits of a lane that is a whole word

# Every second byte, pair of bytes, four and eight bytes of a word, from the lowest on.
BYTES: constant(uint256) = max_value(uint256) // (2**8 + 1)
PAIRS: constant(uint256) = max_value(uint256) // (2**16 + 1)
FOURS: constant(uint256) = max_value(uint256) // (2**32 + 1)
EIGHTS: constant(uint256) = max_value(uint256) // (2**64 + 1)


# A tensor as a node sees it: its number in the trace, element type, size of an element in bytes, and element count.
struct Ref:
    number: uint256
    dtype: uint256
    size: uint256
    count: uint256


@internal
@pure
def leaf_count(tensor: Ref) -> uint256:
    """
    @notice How many leaves the tensor has.
    @custom:security Unchecked, here and below: counts have 64 bits, a size is at most 8 and a run at most 1,024 elements long.
    """
    return unsafe_add(unsafe_mul(tensor.count, tensor.size), merkle.LEAF_BYTES - 1) // merkle.LEAF_BYTES


@internal
@pure
def check_root(step: IReferee.Step, number: uint256, root: bytes32, proof: DynArray[bytes32, 24]):
    """
    @notice Reverts unless tensor `number` of the step's trace has this root.
    """
    merkle.check(root, number, step.tensor_count, proof, step.trace_root)


@internal
@pure
def element(step: IReferee.Step, tensor: Ref, position: uint256, leaf: IReferee.Leaf) -> int256:
    """
    @notice Element `position` of the tensor, proved by the leaf that holds it.
    """
    if position >= tensor.count:
        checks.refuse("referee: position outside the tensor")
    at: uint256 = unsafe_mul(position, tensor.size)
    index: uint256 = at // merkle.LEAF_BYTES
    length: uint256 = min(
        merkle.LEAF_BYTES,
        unsafe_sub(unsafe_mul(tensor.count, tensor.size), unsafe_mul(index, merkle.LEAF_BYTES)),
    )
    if len(leaf.data) != length:
        checks.refuse("referee: opening of another length")
    digest: bytes32 = merkle.leaf_digest(leaf.data)
    merkle.check(digest, index, self.leaf_count(tensor), leaf.leaf_proof, leaf.root)
    self.check_root(step, tensor.number, leaf.root, leaf.trace_proof)
    # Behind 32 more bytes, a whole word can be taken from any place.
    word: bytes32 = extract32(concat(leaf.data, empty(bytes32)), at % merkle.LEAF_BYTES)
    bits: uint256 = 8 * tensor.size
    return convert(convert(self.turned(word, bits, ONE_LANE), bytes32), int256) >> (256 - bits)


@internal
@pure
def check_run(step: IReferee.Step, tensor: Ref, first: uint256, count: uint256, run: IReferee.Run) -> uint256:
    """
    @notice Reverts unless `run` is exactly the leaves that hold `count` elements from `first` on. Returns the byte in the run's data
            where they begin.
    """
    if first + count > tensor.count:
        checks.refuse("referee: position outside the tensor")
    begin: uint256 = unsafe_mul(first, tensor.size)
    low: uint256 = begin // merkle.LEAF_BYTES
    end: uint256 = unsafe_add(begin, unsafe_mul(count, tensor.size))
    high: uint256 = unsafe_add(end, merkle.LEAF_BYTES - 1) // merkle.LEAF_BYTES
    length: uint256 = unsafe_sub(
        min(unsafe_mul(high, merkle.LEAF_BYTES), unsafe_mul(tensor.count, tensor.size)),
        unsafe_mul(low, merkle.LEAF_BYTES),
    )
    if len(run.data) != length:
        checks.refuse("referee: opening of another length")
    digests: DynArray[bytes32, 33] = []
    for i: uint256 in range(unsafe_sub(high, low), bound=33):
        at: uint256 = unsafe_mul(i, merkle.LEAF_BYTES)
        leaf: Bytes[merkle.LEAF_BYTES] = convert(
            slice(run.data, at, min(merkle.LEAF_BYTES, unsafe_sub(length, at))), Bytes[merkle.LEAF_BYTES]
        )
        digests.append(merkle.leaf_digest(leaf))
    depth: uint256 = merkle.depth_of(self.leaf_count(tensor))
    if merkle.fold_range(digests, low, depth, run.range_proof) != run.root:
        checks.refuse("merkle: proof of another root")
    self.check_root(step, tensor.number, run.root, run.trace_proof)
    return begin % merkle.LEAF_BYTES


@internal
@pure
def turned(word: bytes32, bits: uint256, lane: uint256) -> uint256:
    """
    @notice The word with the bytes of each element of `bits` turned round: the first element is on top, its highest byte first. Then,
            unless a lane is the whole word, the lanes of `lane` bits, 4 elements each, in the opposite order.
    @custom:security Halves change places within every 16, 32, 64, 128, 256 bits: those within an element, and those of several lanes.
    """
    x: uint256 = convert(word, uint256)
    if bits > 8:
        x = ((x & BYTES) << 8) | ((x >> 8) & BYTES)
        if bits > 16:
            x = ((x & PAIRS) << 16) | ((x >> 16) & PAIRS)
    if bits > 32 or lane <= 32:
        x = ((x & FOURS) << 32) | ((x >> 32) & FOURS)
    if lane < ONE_LANE:
        if lane <= 64:
            x = ((x & EIGHTS) << 64) | ((x >> 64) & EIGHTS)
        x = (x << 128) | (x >> 128)
    return x
