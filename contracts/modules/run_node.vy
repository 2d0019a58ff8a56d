# pragma version 0.4.3
# @title Reduce, dot and scatter_add nodes: one pass over a run of elements, or over two side by side
# @license Apache-2.0
# @notice Their elements in bisection/cut.py. Sums are exact and wrap to 64 bits at the end, so that their order does not matter, and a long
#         run can be judged part by part.

from modules import encoding
from modules import scalar_program
from modules import tensor

MAX_LENGTH: constant(uint256) = 1024  # elements that one verdict reads
PART_BYTES: constant(uint256) = 2048  # of the wider operand, that a part of a longer run has at most
LOW_32: constant(uint256) = 2**32 - 1


# What one element goes over.
struct Runs:
    x: tensor.Ref
    y: tensor.Ref  # a reduce has one input only: the same again
    first_x: uint256
    first_y: uint256
    length: uint256
    row: int256  # of a scatter_add: the index that counts
    takes_max: bool


@internal
@pure
def plan(n: encoding.Node, position: uint256) -> Runs:
    """
    @notice The runs that element `position` of a reduce, dot or scatter_add node goes over.
    @custom:security Products are unchecked: counts and the position have 64 bits, and the node's fields 32.
    """
    encoding.expect(n.inputs == (1 if n.kind == encoding.REDUCE else 2) and n.outputs == 1)
    over: Runs = empty(Runs)
    over.x = encoding.input(n, 0)
    over.y = encoding.input(n, n.inputs - 1)
    written: tensor.Ref = encoding.output(n, 0)
    fields: uint256 = convert(extract32(n.code, n.body), uint256)
    end: uint256 = n.body
    fits: bool = False
    if n.kind == encoding.REDUCE:
        encoding.expect(fields >> 248 < 2)
        over.takes_max = fields >> 248 == 1
        over.length = (fields >> 216) & LOW_32
        end += 5
        over.first_x = unsafe_mul(position, over.length)
        fits = unsafe_mul(written.count, over.length) == over.x.count and (not over.takes_max or over.x.dtype >= tensor.I32)
    elif n.kind == encoding.DOT:
        rows: uint256 = fields >> 224
        columns: uint256 = (fields >> 192) & LOW_32
        over.length = (fields >> 160) & LOW_32
        end += 12
        encoding.expect(rows != 0 and columns != 0)
        area: uint256 = unsafe_mul(rows, columns)
        over.first_x = unsafe_mul(position // columns, over.length)
        over.first_y = unsafe_mul(unsafe_add(unsafe_mul(position // area, columns), position % columns), over.length)
        fits = (
            written.count % area == 0
            and unsafe_mul(over.x.count, columns) == unsafe_mul(written.count, over.length)
            and unsafe_mul(over.y.count, rows) == unsafe_mul(written.count, over.length)
            and max(over.x.dtype, over.y.dtype) != tensor.I64
        )
    else:
        over.length = fields >> 224
        rows: uint256 = (fields >> 192) & LOW_32
        end += 8
        encoding.expect(over.length != 0 and rows != 0)
        over.first_x = unsafe_mul(position // rows, over.length)
        over.row = convert(position % rows, int256)
        fits = (
            over.y.count == over.length
            and over.x.count % over.length == 0
            and unsafe_mul(written.count, over.length) == unsafe_mul(over.x.count, rows)
        )
    encoding.expect(end == n.length and fits and over.length != 0)
    encoding.expect(min(over.x.dtype, over.y.dtype) != tensor.F32)
    encoding.expect(written.dtype == (over.x.dtype if over.takes_max else tensor.I64))
    return over


@internal
@pure
def part_length(over: Runs) -> uint256:
    """
    @notice How many elements a part has; the last may have fewer. What one verdict reads whole is one part.
    """
    if over.length <= MAX_LENGTH:
        return over.length
    return min(MAX_LENGTH, PART_BYTES // max(over.x.size, over.y.size))


@internal
@pure
def part_count(over: Runs) -> uint256:
    """
    @notice How many parts the runs have.
    """
    length: uint256 = self.part_length(over)
    return (over.length + length - 1) // length


@internal
@pure
def part(whole: Runs, number: uint256) -> Runs:
    """
    @notice The runs cut down to one of their parts.
    """
    over: Runs = whole
    length: uint256 = self.part_length(whole)
    first: uint256 = number * length
    over.first_x += first
    over.first_y += first
    over.length = min(length, whole.length - first)
    return over


@internal
@pure
def total(kind: uint256, over: Runs, run_x: Bytes[8480], at_x: uint256, run_y: Bytes[8480], at_y: uint256) -> int256:
    """
    @notice The sum, maximum, dot product or selected sum over the runs that begin at these bytes. Wraps at 64 bits.
    @custom:security Unchecked: a product is below 2^62 and a sum of 1,024 values below 2^73.
    """
    bits_x: uint256 = 8 * over.x.size
    bits_y: uint256 = 8 * over.y.size
    spare_x: uint256 = 256 - bits_x
    spare_y: uint256 = 256 - bits_y
    row: int256 = over.row
    takes_max: bool = over.takes_max
    so_far: int256 = min_value(int256) if takes_max else 0
    # As many elements at a time as a word of 32 bytes holds of the wider type; a word gives its elements from the top.
    at_once: uint256 = 32 // max(over.x.size, over.y.size)
    left: uint256 = over.length
    x: uint256 = at_x
    y: uint256 = at_y
    for _: uint256 in range(MAX_LENGTH):
        if left == 0:
            break
        count: uint256 = min(at_once, left)
        left = unsafe_sub(left, count)
        word_x: int256 = tensor.elements(extract32(run_x, x), over.x.size)
        x = unsafe_add(x, unsafe_mul(at_once, over.x.size))
        if kind == encoding.REDUCE:
            for _i: uint256 in range(count, bound=32):
                element: int256 = word_x >> spare_x
                word_x = word_x << bits_x
                so_far = max(so_far, element) if takes_max else unsafe_add(so_far, element)
            continue
        word_y: int256 = tensor.elements(extract32(run_y, y), over.y.size)
        y = unsafe_add(y, unsafe_mul(at_once, over.y.size))
        if kind == encoding.DOT:
            # Two at a time. Zeros in the place of what is not in the run add nothing.
            beyond: uint256 = unsafe_sub(256, unsafe_mul(bits_x, count))
            word_x = (word_x >> beyond) << beyond
            for _i: uint256 in range((count + 1) // 2, bound=16):
                so_far = unsafe_add(so_far, unsafe_mul(word_x >> spare_x, word_y >> spare_y))
                so_far = unsafe_add(so_far, unsafe_mul((word_x << bits_x) >> spare_x, (word_y << bits_y) >> spare_y))
                word_x = word_x << (bits_x << 1)
                word_y = word_y << (bits_y << 1)
        else:
            for _i: uint256 in range(count, bound=32):
                if word_y >> spare_y == row:
                    so_far = unsafe_add(so_far, word_x >> spare_x)
                word_x = word_x << bits_x
                word_y = word_y << bits_y
    return scalar_program.wrap(so_far, 64)
