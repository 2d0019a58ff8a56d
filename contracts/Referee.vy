# pragma version 0.4.3
# @title The referee: one element of a training step, recomputed
# @license Apache-2.0
# @notice Given a node of the program and openings of the tensors that the trainer itself committed, says what one element of the node's
#         output must be, and what the trainer claimed it to be. The meaning is that of bisection/cut.py. No storage, no owner, no calls.
# @custom:security Every element of a node that bisection/program.py accepts has a value here. Anything else reverts: a node in no
#                  canonical encoding, an opening of another tensor, place, length or depth, bytes too many or too few.
#                  Sizes are at most 32 bits, strides, offsets and counts at most 64, so that no product or sum passes 2^110.

from interfaces import IReferee
from modules import encoding
from modules import merkle
from modules import scalar_program
from modules import tensor

implements: IReferee

MAX_RANK: constant(uint256) = 8
MAX_INSTRUCTIONS: constant(uint256) = 128
MAX_REGISTERS: constant(uint256) = 256
MAX_LENGTH: constant(uint256) = 1024

LOW_32: constant(uint256) = 2**32 - 1


# Where a map reads for one element. A target of -1 reads nothing: the value is 0.
struct Reads:
    indices: int256[8]
    targets: int256[8]


# What one element of a reduce, dot or scatter_add goes over.
struct Runs:
    x: tensor.Ref
    y: tensor.Ref  # a reduce has one input only: the same again
    first_x: uint256
    first_y: uint256
    length: uint256
    row: int256  # of a scatter_add: the index that counts
    takes_max: bool


@external
@view
def locate(step: IReferee.Step, node: IReferee.NodeProof, output: uint256) -> (uint256, uint256):
    """
    @notice Which tensor of the trace an output of a node is, and its size in bytes.
    @param step The step in dispute.
    @param node The node, proved against the program root.
    @param output Which of the node's outputs.
    @return The number of the tensor in the trace, and its size in bytes.
    """
    written: tensor.Ref = encoding.output(encoding.prove(step, node), output)
    return written.number, written.count * written.size


@external
@view
def judge_boundary(
    step: IReferee.Step,
    node: IReferee.NodeProof,
    tensor_root: bytes32,
    trace_proof: DynArray[bytes32, 24],
    component_root: bytes32,
    component_proof: DynArray[bytes32, 24],
) -> bool:
    """
    @notice Whether an input or output node joins the trace to the state or data as it must.
    @param step The step in dispute.
    @param node The input or output node, proved against the program root.
    @param tensor_root The root of the tensor that the node writes (input) or reads (output).
    @param trace_proof The path of `tensor_root` to the trace root.
    @param component_root The root of the tensor of the state before, of the data, or of the state after that the node names.
    @param component_proof The path of `component_root` to the root of that state or data.
    @return Whether the two roots are equal.
    """
    n: encoding.Node = encoding.prove(step, node)
    joined: tensor.Ref = empty(tensor.Ref)
    at: uint256 = n.body
    root: bytes32 = step.state_after
    count: uint256 = step.state_count
    if n.kind == encoding.INPUT:
        encoding.expect(n.inputs == 0 and n.outputs == 1)
        joined = encoding.output(n, 0)
        source: uint256 = convert(extract32(n.code, at), uint256) >> 248
        encoding.expect(source < 2)
        root = step.state_before
        if source == 1:
            root = step.data_root
            count = step.data_count
        at += 1
    else:
        assert n.kind == encoding.OUTPUT, "referee: not a boundary"
        encoding.expect(n.inputs == 1 and n.outputs == 0)
        joined = encoding.input(n, 0)
    index: uint256 = convert(extract32(n.code, at), uint256) >> 224
    encoding.expect(at + 4 == n.length)
    tensor.check_root(step, joined.number, tensor_root, trace_proof)
    merkle.check(component_root, index, count, component_proof, root)
    return tensor_root == component_root


@external
@view
def judge_element(
    step: IReferee.Step,
    node: IReferee.NodeProof,
    output: uint256,
    position: uint256,
    claim: IReferee.Leaf,
    inputs: DynArray[IReferee.Leaf, 8],
) -> (int256, int256):
    """
    @notice The claimed and the correct element of a map or gather node, as registers.
    @param step The step in dispute.
    @param node The map or gather node, proved against the program root.
    @param output Which of the node's outputs.
    @param position Which element of it, in C order.
    @param claim The leaf of the output that holds the element.
    @param inputs For each input of the node the leaf that holds the element read; ignored where the read gives 0.
    @return The element as the trainer committed it, and as it must be.
    """
    n: encoding.Node = encoding.prove(step, node)
    assert len(inputs) == n.inputs, "referee: openings for another number of inputs"
    written: tensor.Ref = encoding.output(n, output)
    claimed: int256 = tensor.element(step, written, position, claim)
    if n.kind == encoding.MAP:
        reads: Reads = self._map_reads(n, position, written.count)
        values: int256[8] = empty(int256[8])
        for i: uint256 in range(n.inputs, bound=encoding.MAX_INPUTS):
            if reads.targets[i] >= 0:
                values[i] = tensor.element(step, encoding.input(n, i), convert(reads.targets[i], uint256), inputs[i])
        register: int256 = self._map_result(n, output, reads.indices, values)
        return claimed, scalar_program.wrap(register, 8 * written.size)

    assert n.kind == encoding.GATHER, "referee: not a map or gather node"
    width: uint256 = self._gather_width(n)
    index: int256 = tensor.element(step, encoding.input(n, 1), position // width, inputs[1])
    table: tensor.Ref = encoding.input(n, 0)
    if index < 0 or index >= convert(table.count // width, int256):
        return claimed, 0
    return claimed, tensor.element(step, table, convert(index, uint256) * width + position % width, inputs[0])


@external
@view
def judge_run(
    step: IReferee.Step,
    node: IReferee.NodeProof,
    output: uint256,
    position: uint256,
    claim: IReferee.Leaf,
    inputs: DynArray[IReferee.Run, 2],
) -> (int256, int256):
    """
    @notice The claimed and the correct element of a reduce, dot or scatter_add node, as registers.
    @param step The step in dispute.
    @param node The reduce, dot or scatter_add node, proved against the program root.
    @param output Which of the node's outputs; these have one.
    @param position Which element of it, in C order.
    @param claim The leaf of the output that holds the element.
    @param inputs For each input of the node the neighbouring leaves that hold the elements read.
    @return The element as the trainer committed it, and as it must be.
    """
    n: encoding.Node = encoding.prove(step, node)
    assert len(inputs) == n.inputs, "referee: openings for another number of inputs"
    claimed: int256 = tensor.element(step, encoding.output(n, output), position, claim)
    over: Runs = self._runs(n, position)
    at_x: uint256 = tensor.check_run(step, over.x, over.first_x, over.length, inputs[0])
    at_y: uint256 = at_x
    if n.kind != encoding.REDUCE:
        at_y = tensor.check_run(step, over.y, over.first_y, over.length, inputs[1])
    # Behind 32 more bytes, a whole word can be taken from any place.
    return claimed, self._total(
        n.kind, over, concat(inputs[0].data, empty(bytes32)), at_x, concat(inputs[n.inputs - 1].data, empty(bytes32)), at_y
    )


@internal
@pure
def _map_reads(n: encoding.Node, position: uint256, count: uint256) -> Reads:
    """
    @notice The indices of an element of a map with `count` elements, and the element of each input that it reads.
    """
    reads: Reads = empty(Reads)
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
        reads.indices[axis] = convert(rest % size, int256)
        rest //= size
        places *= size
    encoding.expect(places == count)

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
                reach += (convert(extract32(n.code, at), int256) >> 192) * reads.indices[axis]
                at += 8
            if c == 0:
                reads.targets[i] = reach
            if reach < 0 or reach >= size:
                reads.targets[i] = -1
    encoding.expect(at == n.length)
    return reads


@internal
@pure
def _map_result(n: encoding.Node, output: uint256, indices: int256[8], values: int256[8]) -> int256:
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
    result: uint256 = convert(extract32(n.code, at + output), uint256) >> 248
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
    encoding.expect(result < used)
    return registers[result]


@internal
@pure
def _gather_width(n: encoding.Node) -> uint256:
    """
    @notice The length of a row of a gather: out[i, c] = table[index[i], c], or 0 where the index lies outside the table.
    """
    encoding.expect(n.inputs == 2 and n.outputs == 1 and n.body + 4 == n.length)
    width: uint256 = convert(extract32(n.code, n.body), uint256) >> 224
    table: tensor.Ref = encoding.input(n, 0)
    index: tensor.Ref = encoding.input(n, 1)
    written: tensor.Ref = encoding.output(n, 0)
    encoding.expect(index.dtype != tensor.F32 and table.dtype == written.dtype)
    encoding.expect(width != 0 and table.count % width == 0 and written.count == index.count * width)
    return width


@internal
@pure
def _runs(n: encoding.Node, position: uint256) -> Runs:
    """
    @notice The runs that an element of a reduce, dot or scatter_add goes over.
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
        over.first_x = position * over.length
        fits = written.count * over.length == over.x.count and (not over.takes_max or over.x.dtype >= tensor.I32)
    elif n.kind == encoding.DOT:
        rows: uint256 = fields >> 224
        columns: uint256 = (fields >> 192) & LOW_32
        over.length = (fields >> 160) & LOW_32
        end += 12
        encoding.expect(rows != 0 and columns != 0)
        batches: uint256 = written.count // (rows * columns)
        batch: uint256 = position // (rows * columns)
        over.first_x = position // columns * over.length
        over.first_y = (batch * columns + position % columns) * over.length
        fits = (
            written.count == batches * rows * columns
            and over.x.count == batches * rows * over.length
            and over.y.count == batches * columns * over.length
            and max(over.x.dtype, over.y.dtype) != tensor.I64
        )
    else:
        assert n.kind == encoding.SCATTER_ADD, "referee: not a reduce, dot or scatter_add node"
        over.length = fields >> 224
        rows: uint256 = (fields >> 192) & LOW_32
        end += 8
        encoding.expect(over.length != 0 and rows != 0)
        over.first_x = position // rows * over.length
        over.row = convert(position % rows, int256)
        fits = (
            over.y.count == over.length
            and over.x.count % over.length == 0
            and written.count * over.length == over.x.count * rows
        )
    encoding.expect(end == n.length and fits and over.length != 0 and over.length <= MAX_LENGTH)
    encoding.expect(min(over.x.dtype, over.y.dtype) != tensor.F32)
    encoding.expect(written.dtype == (over.x.dtype if over.takes_max else tensor.I64))
    return over


@internal
@pure
def _total(kind: uint256, over: Runs, run_x: Bytes[8480], at_x: uint256, run_y: Bytes[8480], at_y: uint256) -> int256:
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
    total: int256 = min_value(int256) if takes_max else 0
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
                total = max(total, element) if takes_max else unsafe_add(total, element)
            continue
        word_y: int256 = tensor.elements(extract32(run_y, y), over.y.size)
        y = unsafe_add(y, unsafe_mul(at_once, over.y.size))
        if kind == encoding.DOT:
            # Two at a time. Zeros in the place of what is not in the run add nothing.
            beyond: uint256 = unsafe_sub(256, unsafe_mul(bits_x, count))
            word_x = (word_x >> beyond) << beyond
            for _i: uint256 in range((count + 1) // 2, bound=16):
                total = unsafe_add(total, unsafe_mul(word_x >> spare_x, word_y >> spare_y))
                total = unsafe_add(total, unsafe_mul((word_x << bits_x) >> spare_x, (word_y << bits_y) >> spare_y))
                word_x = word_x << (bits_x << 1)
                word_y = word_y << (bits_y << 1)
        else:
            for _i: uint256 in range(count, bound=32):
                if word_y >> spare_y == row:
                    total = unsafe_add(total, word_x >> spare_x)
                word_x = word_x << bits_x
                word_y = word_y << bits_y
    return scalar_program.wrap(total, 64)
