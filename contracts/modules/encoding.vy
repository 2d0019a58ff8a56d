# pragma version 0.4.3
# @title One node of a program, read from its encoding
# @license Apache-2.0
# @notice What all kinds of nodes share: their proof, their head, the tensors they read and write. See bisection/nodes.py.

from interfaces import IReferee
from modules import checks
from modules import merkle
from modules import tensor

INPUT: constant(uint256) = 0
OUTPUT: constant(uint256) = 1
MAP: constant(uint256) = 2
REDUCE: constant(uint256) = 3
DOT: constant(uint256) = 4
GATHER: constant(uint256) = 5
SCATTER_ADD: constant(uint256) = 6

MAX_INPUTS: constant(uint256) = 8

HEAD_BYTES: constant(uint256) = 7  # kind, inputs, outputs u8; number of the first output u32
INPUT_BYTES: constant(uint256) = 13  # number u32, element type u8, count u64
OUTPUT_BYTES: constant(uint256) = 9  # element type u8, count u64


# A proved node: its encoding with 32 more bytes behind it, so that a word can be taken from any place; the true length; the head;
# and the place where the kind's own fields begin.
struct Node:
    code: Bytes[2080]
    length: uint256
    kind: uint256
    inputs: uint256
    outputs: uint256
    first: uint256
    body: uint256


@internal
@pure
def expect(condition: bool):
    """
    @notice Reverts unless `condition`, which every node of a program that bisection/nodes.py accepts fulfils.
    """
    if not condition:
        checks.refuse("referee: malformed node")


@internal
@pure
def prove(step: IReferee.Step, claim: IReferee.NodeProof) -> Node:
    """
    @notice The node, proved to stand in the program. The last leaf of a program tree is its header, which is no node.
    """
    if claim.index >= step.node_count:
        checks.refuse("referee: node outside the program")
    digest: bytes32 = merkle.leaf_digest(claim.code)
    merkle.check(digest, claim.index, step.node_count + 1, claim.proof, step.program_root)
    code: Bytes[2080] = concat(claim.code, empty(bytes32))
    head: uint256 = convert(extract32(code, 0), uint256)
    inputs: uint256 = (head >> 240) & 255
    outputs: uint256 = (head >> 232) & 255
    body: uint256 = HEAD_BYTES + INPUT_BYTES * inputs + OUTPUT_BYTES * outputs
    self.expect(inputs <= MAX_INPUTS and outputs <= MAX_INPUTS and body < len(claim.code))
    return Node(
        code=code,
        length=len(claim.code),
        kind=head >> 248,
        inputs=inputs,
        outputs=outputs,
        first=(head >> 200) & (2**32 - 1),
        body=body,
    )


@internal
@pure
def input(n: Node, i: uint256) -> tensor.Ref:
    """
    @notice Input `i` of the node, which has that many.
    """
    field: uint256 = convert(extract32(n.code, HEAD_BYTES + INPUT_BYTES * i), uint256)
    return self._ref(field >> 224, field << 32)


@internal
@pure
def output(n: Node, i: uint256) -> tensor.Ref:
    """
    @notice Output `i` of the node. The tensors that a node writes follow each other in the trace.
    """
    if i >= n.outputs:
        checks.refuse("referee: output outside the node")
    return self._ref(n.first + i, convert(extract32(n.code, HEAD_BYTES + INPUT_BYTES * n.inputs + OUTPUT_BYTES * i), uint256))


@internal
@pure
def _ref(number: uint256, field: uint256) -> tensor.Ref:
    """
    @notice The tensor whose element type (u8) and element count (u64) come first in `field`.
    """
    dtype: uint256 = field >> 248
    count: uint256 = (field >> 184) & (2**64 - 1)
    self.expect(dtype <= tensor.I64 and count != 0)
    return tensor.Ref(number=number, dtype=dtype, size=(tensor.SIZES >> (4 * dtype)) & 15, count=count)
