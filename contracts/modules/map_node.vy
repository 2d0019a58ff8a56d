# pragma version 0.4.3
# @title Map nodes: which elements one element reads, and what it makes of them
# @license Apache-2.0
# @notice The element of a map in bisection/cut.py, and the scalar program of bisection/scalar.py.
# @custom:security Dimensions have 32 bits, indices stay below them, and all other numbers have 64: no address passes 2^100, and the
#                  sums of products that make it up are unchecked.

from modules import encoding
from modules import scalar_program
from modules import tensor

MAX_RANK: constant(uint256) = 8
MAX_INSTRUCTIONS: constant(uint256) = 128
MAX_REGISTERS: constant(uint256) = 256


# An element's indices, and the position it reads in each input; -1 reads nothing, and the value is 0.
struct Reads:
    indices: int256[8]
    targets: int256[8]


@internal
@pure
def reads(n: encoding.Node, position: uint256) -> Reads:
    """
    @notice The indices of element `position` of every output, and which element it reads of each input.
    """
    found: Reads = empty(Reads)
    at: uint256 = n.body
    rank: uint256 = convert(extract32(n.code, at), uint256) >> 248
    encoding.expect(rank <= MAX_RANK)
    at += 1
    rest: uint256 = position
    places: uint256 = 1
    for i: uint256 in range(rank, bound=MAX_RANK):
        axis: uint256 = rank - 1 - i
        size: uint256 = convert(extract32(n.code, at + 4 * axis), uint256) >> 224
        encoding.expect(size != 0)
        found.indices[axis] = convert(rest % size, int256)
        rest //= size
        places *= size
    for i: uint256 in range(n.outputs, bound=encoding.MAX_INPUTS):
        written: tensor.Ref = encoding.output(n, i)
        encoding.expect(written.count == places)

    # Over the result registers, the constants and the instructions.
    at += 4 * rank + n.outputs
    at += 1 + 8 * (convert(extract32(n.code, at), uint256) >> 248)
    at += 1 + 4 * (convert(extract32(n.code, at), uint256) >> 248)

    for i: uint256 in range(n.inputs, bound=encoding.MAX_INPUTS):
        # The address, which must lie in the tensor, and every condition: start + sum of factors * indices lies in 0 .. size-1.
        source: tensor.Ref = encoding.input(n, i)
        size: int256 = convert(source.count, int256)
        conditions: uint256 = convert(extract32(n.code, at), uint256) >> 248
        at += 1
        for c: uint256 in range(conditions + 1, bound=256):
            reach: int256 = convert(extract32(n.code, at), int256) >> 192
            at += 8
            if c != 0:
                size = convert(extract32(n.code, at), int256) >> 192
                at += 8
            for axis: uint256 in range(rank, bound=MAX_RANK):
                factor: int256 = convert(extract32(n.code, at), int256) >> 192
                reach = unsafe_add(reach, unsafe_mul(factor, found.indices[axis]))
                at += 8
            if c == 0:
                found.targets[i] = reach
            if reach < 0 or reach >= size:
                found.targets[i] = -1
    encoding.expect(at == n.length)
    return found


@internal
@pure
def result(n: encoding.Node, output: uint256, indices: int256[8], values: int256[8]) -> int256:
    """
    @notice The register of an output, from the values read and the element's indices: the scalar program.
    """
    # Registers: one for each input, then the indices, the constants, the results of the instructions.
    registers: int256[256] = empty(int256[256])
    used: uint256 = 0
    for i: uint256 in range(n.inputs, bound=encoding.MAX_INPUTS):
        registers[used] = values[i]
        used += 1
    rank: uint256 = convert(extract32(n.code, n.body), uint256) >> 248
    for axis: uint256 in range(rank, bound=MAX_RANK):
        registers[used] = indices[axis]
        used += 1
    at: uint256 = n.body + 1 + 4 * rank
    results: uint256 = at
    at += n.outputs
    constants: uint256 = convert(extract32(n.code, at), uint256) >> 248
    at += 1
    encoding.expect(used + constants <= MAX_REGISTERS)
    for i: uint256 in range(constants, bound=MAX_REGISTERS):
        registers[used] = convert(extract32(n.code, at), int256) >> 192
        used += 1
        at += 8
    instructions: uint256 = convert(extract32(n.code, at), uint256) >> 248
    at += 1
    encoding.expect(instructions <= MAX_INSTRUCTIONS and used + instructions <= MAX_REGISTERS)
    for i: uint256 in range(instructions, bound=MAX_INSTRUCTIONS):
        word: uint256 = convert(extract32(n.code, at), uint256)
        a: uint256 = (word >> 240) & 255
        b: uint256 = (word >> 232) & 255
        c: uint256 = (word >> 224) & 255
        encoding.expect(max(a, max(b, c)) < used)
        registers[used] = scalar_program.apply(word >> 248, registers[a], registers[b], registers[c])
        used += 1
        at += 4
    for i: uint256 in range(n.outputs, bound=encoding.MAX_INPUTS):
        encoding.expect(convert(extract32(n.code, results + i), uint256) >> 248 < used)
    return registers[convert(extract32(n.code, results + output), uint256) >> 248]
