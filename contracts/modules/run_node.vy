# pragma version 0.4.3
# @title Reduce, dot and scatter_add nodes: one pass over a run of elements, or over two side by side
# @license Apache-2.0
# @notice Their elements in bisection/cut.py. Sums are exact and wrap to 64 bits at the end, so that their order does not matter, and a long
#         run can be judged part by part.

from modules import encoding
from modules import scalar_program
from modules import tensor

MAX_LENGTH: constant(uint256) = 1024  # elements that one verdict reads
PART_LENGTH: constant(uint256) = 256  # elements that a part of a longer run has
LOW_32: constant(uint256) = 2**32 - 1
ALL: constant(uint256) = max_value(uint256)


# What one element goes over.
struct Runs:
    x: tensor.Ref
    y: tensor.Ref  # a reduce has one input only: the same again
    first_x: uint256
    first_y: uint256
    length: uint256
    row: int256  # of a scatter_add: the index that counts
    takes_max: bool


# How one multiplication adds up the products of several pairs; see `_lanes`.
struct Lanes:
    signs: uint256  # the sign bits of all elements of a word
    mask_x: uint256  # the lowest element of every lane
    mask_y: uint256
    bias_x: uint256  # its sign bit
    bias_y: uint256
    top: uint256  # bits below the uppermost lane
    half: uint256  # of that lane's unit


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
    return over.length if over.length <= MAX_LENGTH else PART_LENGTH


@internal
@pure
def part_count(over: Runs) -> uint256:
    """
    @notice How many parts the runs have.
    """
    length: uint256 = self.part_length(over)
    return unsafe_div(unsafe_add(over.length, unsafe_sub(length, 1)), length)


@internal
@pure
def part(whole: Runs, number: uint256) -> Runs:
    """
    @notice The runs cut down to one of their parts, of those that there are.
    @custom:security Unchecked: a part begins within the run, whose length has 32 bits, and the runs at most at 2^96.
    """
    over: Runs = whole
    length: uint256 = self.part_length(whole)
    first: uint256 = unsafe_mul(number, length)
    over.first_x = unsafe_add(over.first_x, first)
    over.first_y = unsafe_add(over.first_y, first)
    over.length = min(length, unsafe_sub(whole.length, first))
    return over


@internal
@pure
def _lanes(bits: uint256, sums: bool) -> Lanes:
    """
    @notice What it takes to multiply many pairs of elements of the same type at once. A word is cut into n lanes of 4 elements, which make
            4 numbers X_0 .. X_3: X_g has element g of every lane as its digits x_0 .. x_n-1 in base B = 2^lane. With the digits of
            Y_g in the opposite order, digit n-1 of X_g Y_g is x_0 y_n-1 + .. + x_n-1 y_0: the products of n pairs. To `sum` without
            a second operand, all digits of Y_g are 1.
    @custom:security Digits are signed, but arithmetic modulo 2^256 = B^n is exact, and drops digit n and above. So the sum over all words and g is
                     t B^(n-1) + r, where t is the result and r comes of the digits below. Of 1,024 products of w bits at most none of these
                     digits passes 2^(2w - 2 + 10) in size, which is at most B / 2^8: w is 8, 16 or 32 and lane 4w. So r is less than B^(n-1) / 2
                     in size, t fits its lane, and (t B^(n-1) + r + B^(n-1) / 2) >> (lane (n-1)) is t. A sign bit turned over makes
                     x + 2^(w-1) of x, which is not negative.
    """
    lane: uint256 = bits << 2
    top: uint256 = unsafe_sub(256, lane)
    sign: uint256 = unsafe_sub(bits, 1)
    ones: uint256 = self._ones(lane)
    mask: uint256 = unsafe_sub(ones << bits, ones)
    bias: uint256 = ones << sign
    return Lanes(
        signs=self._ones(bits) << sign,
        mask_x=mask,
        mask_y=0 if sums else mask,
        bias_x=bias,
        bias_y=unsafe_sub(0, ones) if sums else bias,
        top=top,
        half=(1 << top) >> 1,
    )


@internal
@pure
def _ones(spacing: uint256) -> uint256:
    """
    @notice A word with a 1 every so many bits, which divide 256.
    """
    return unsafe_div(ALL, ALL >> unsafe_sub(256, spacing))


@internal
@pure
def total(kind: uint256, over: Runs, run_x: Bytes[8480], at_x: uint256, run_y: Bytes[8480], at_y: uint256) -> int256:
    """
    @notice The sum, maximum, dot product or selected sum over the runs that begin at these bytes. Wraps at 64 bits.
    @custom:security Unchecked: a product is below 2^62 and a sum of 1,024 values below 2^73; for the lanes see `_lanes`.
    """
    bits_x: uint256 = over.x.size << 3
    bits_y: uint256 = over.y.size << 3
    spare_x: uint256 = unsafe_sub(256, bits_x)
    spare_y: uint256 = unsafe_sub(256, bits_y)
    row: int256 = over.row
    takes_max: bool = over.takes_max
    reduces: bool = kind == encoding.REDUCE
    selects: bool = kind == encoding.SCATTER_ADD
    in_lanes: bool = not selects and over.x.size == over.y.size and over.x.dtype != tensor.I64 and not takes_max
    lane_y: uint256 = bits_y << 2 if in_lanes else tensor.ONE_LANE
    lanes: Lanes = self._lanes(bits_x, reduces)
    products: uint256 = 0
    so_far: int256 = min_value(int256) if takes_max else 0
    # As many elements at a time as a word of 32 bytes holds of the wider type; a word gives its elements from the top.
    at_once: uint256 = unsafe_div(256, max(bits_x, bits_y))
    left: uint256 = over.length
    x: uint256 = at_x
    y: uint256 = at_y
    for _: uint256 in range(MAX_LENGTH):
        if left == 0:
            break
        count: uint256 = min(at_once, left)
        left = unsafe_sub(left, count)
        turned_x: uint256 = tensor.turned(extract32(run_x, x), bits_x, tensor.ONE_LANE)
        turned_y: uint256 = 0
        x = unsafe_add(x, unsafe_mul(at_once, over.x.size))
        if not reduces:
            turned_y = tensor.turned(extract32(run_y, y), bits_y, lane_y)
            y = unsafe_add(y, unsafe_mul(at_once, over.y.size))
        if in_lanes:
            # Zeros in the place of what is not in the run add nothing.
            beyond: uint256 = unsafe_sub(256, unsafe_mul(bits_x, count))
            turned_x = ((turned_x >> beyond) << beyond) ^ lanes.signs
            turned_y = turned_y ^ lanes.signs
            for _g: uint256 in range(2):
                products = unsafe_add(
                    products,
                    unsafe_add(
                        unsafe_mul(
                            unsafe_sub(turned_x & lanes.mask_x, lanes.bias_x),
                            unsafe_sub(turned_y & lanes.mask_y, lanes.bias_y),
                        ),
                        unsafe_mul(
                            unsafe_sub((turned_x >> bits_x) & lanes.mask_x, lanes.bias_x),
                            unsafe_sub((turned_y >> bits_x) & lanes.mask_y, lanes.bias_y),
                        ),
                    ),
                )
                turned_x = turned_x >> (bits_x << 1)
                turned_y = turned_y >> (bits_x << 1)
            continue
        word_x: int256 = convert(convert(turned_x, bytes32), int256)
        if reduces:
            for _i: uint256 in range(count, bound=32):
                element: int256 = word_x >> spare_x
                word_x = word_x << bits_x
                so_far = max(so_far, element) if takes_max else unsafe_add(so_far, element)
            continue
        word_y: int256 = convert(convert(turned_y, bytes32), int256)
        if selects:
            for _i: uint256 in range(count, bound=32):
                if word_y >> spare_y == row:
                    so_far = unsafe_add(so_far, word_x >> spare_x)
                word_x = word_x << bits_x
                word_y = word_y << bits_y
            continue
        for _i: uint256 in range(count, bound=32):
            so_far = unsafe_add(so_far, unsafe_mul(word_x >> spare_x, word_y >> spare_y))
            word_x = word_x << bits_x
            word_y = word_y << bits_y
    if in_lanes:
        so_far = convert(convert(unsafe_add(products, lanes.half), bytes32), int256) >> lanes.top
    return scalar_program.wrap(so_far, 64)
