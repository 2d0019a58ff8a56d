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


@external
@view
def locate(step: IReferee.Step, node: IReferee.NodeProof, output: uint256) -> (uint256, uint256):
    """
    @notice Which tensor of the trace an output of a node is, and how many leaves it has.
    @param step The step in dispute.
    @param node The node, proved against the program root.
    @param output Which of the node's outputs.
    @return The number of the tensor in the trace, and its count of 256-byte leaves.
    """
    written: tensor.Ref = encoding.output(encoding.prove(step, node), output)
    return written.number, tensor.leaf_count(written)


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
    claimed: int256 = tensor.element(step, encoding.output(n, output), position, claim)
    if n.kind == encoding.MAP:
        return claimed, self._map(step, n, output, position, inputs)
    assert n.kind == encoding.GATHER, "referee: not a map or gather node"
    return claimed, self._gather(step, n, position, inputs)


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
    return claimed, self._run(step, n, position, inputs)


@internal
@pure
def _map(
    step: IReferee.Step, n: encoding.Node, output: uint256, position: uint256, inputs: DynArray[IReferee.Leaf, 8]
) -> int256:
    """
    @notice An element of a map: the scalar program on the elements read, the element's own indices and the constants.
    """
    written: tensor.Ref = encoding.output(n, output)
    registers: int256[256] = empty(int256[256])

    # Registers: one for each input, then the indices, the constants, the results of the instructions.
    at: uint256 = n.body
    rank: uint256 = convert(extract32(n.code, at), uint256) >> 248
    encoding.expect(rank <= MAX_RANK)
    at += 1
    rest: uint256 = position
    count: uint256 = 1
    for i: uint256 in range(rank, bound=MAX_RANK):
        axis: uint256 = rank - 1 - i
        size: uint256 = convert(extract32(n.code, at + 4 * axis), uint256) >> 224
        encoding.expect(size != 0)
        registers[n.inputs + axis] = convert(rest % size, int256)
        rest //= size
        count *= size
    encoding.expect(count == written.count)
    at += 4 * rank

    result: uint256 = convert(extract32(n.code, at + output), uint256) >> 248
    at += n.outputs

    used: uint256 = n.inputs + rank
    constants: uint256 = convert(extract32(n.code, at), uint256) >> 248
    at += 1
    encoding.expect(used + constants <= MAX_REGISTERS)
    for i: uint256 in range(constants, bound=MAX_REGISTERS):
        registers[used + i] = convert(extract32(n.code, at + 8 * i), int256) >> 192
    used += constants
    at += 8 * constants

    instructions: uint256 = convert(extract32(n.code, at), uint256) >> 248
    encoding.expect(instructions <= MAX_INSTRUCTIONS and used + instructions <= MAX_REGISTERS)
    program: uint256 = at + 1
    at = program + 4 * instructions

    for i: uint256 in range(n.inputs, bound=encoding.MAX_INPUTS):
        # First the address, which must lie in the tensor, then every condition: start + sum of factors * indices lies in 0 .. size-1.
        source: tensor.Ref = encoding.input(n, i)
        conditions: uint256 = convert(extract32(n.code, at), uint256) >> 248
        at += 1
        inside: bool = True
        target: int256 = 0
        for c: uint256 in range(conditions + 1, bound=256):
            reach: int256 = convert(extract32(n.code, at), int256) >> 192
            at += 8
            size: int256 = convert(source.count, int256)
            if c != 0:
                size = convert(extract32(n.code, at), int256) >> 192
                at += 8
            for axis: uint256 in range(rank, bound=MAX_RANK):
                reach += (convert(extract32(n.code, at), int256) >> 192) * registers[n.inputs + axis]
                at += 8
            inside = inside and reach >= 0 and reach < size
            if c == 0:
                target = reach
        if inside:
            registers[i] = tensor.element(step, source, convert(target, uint256), inputs[i])
    encoding.expect(at == n.length)

    for i: uint256 in range(instructions, bound=MAX_INSTRUCTIONS):
        word: uint256 = convert(extract32(n.code, program + 4 * i), uint256)
        a: uint256 = (word >> 240) & 255
        b: uint256 = (word >> 232) & 255
        c: uint256 = (word >> 224) & 255
        encoding.expect(max(a, max(b, c)) < used)
        registers[used] = scalar_program.apply(word >> 248, registers[a], registers[b], registers[c])
        used += 1
    encoding.expect(result < used)
    return scalar_program.wrap(registers[result], 8 * written.size)


@internal
@pure
def _gather(step: IReferee.Step, n: encoding.Node, position: uint256, inputs: DynArray[IReferee.Leaf, 8]) -> int256:
    """
    @notice An element of a gather: out[i, c] = table[index[i], c], or 0 where the index lies outside the table.
    """
    encoding.expect(n.inputs == 2 and n.outputs == 1)
    table: tensor.Ref = encoding.input(n, 0)
    indices: tensor.Ref = encoding.input(n, 1)
    written: tensor.Ref = encoding.output(n, 0)
    width: uint256 = convert(extract32(n.code, n.body), uint256) >> 224
    encoding.expect(n.body + 4 == n.length)
    encoding.expect(indices.dtype != tensor.F32 and table.dtype == written.dtype)
    encoding.expect(width != 0 and table.count % width == 0 and written.count == indices.count * width)
    index: int256 = tensor.element(step, indices, position // width, inputs[1])
    if index < 0 or index >= convert(table.count // width, int256):
        return 0
    return tensor.element(step, table, convert(index, uint256) * width + position % width, inputs[0])


@internal
@pure
def _run(step: IReferee.Step, n: encoding.Node, position: uint256, inputs: DynArray[IReferee.Run, 2]) -> int256:
    """
    @notice An element of a reduce, dot or scatter_add: one pass over a run of the first input, and beside it one of the second.
    """
    encoding.expect(n.inputs == (1 if n.kind == encoding.REDUCE else 2) and n.outputs == 1)
    x: tensor.Ref = encoding.input(n, 0)
    y: tensor.Ref = encoding.input(n, n.inputs - 1)
    written: tensor.Ref = encoding.output(n, 0)
    fields: uint256 = convert(extract32(n.code, n.body), uint256)

    # Per kind: how many elements, where the runs begin, which index counts (scatter_add), and whether the sizes fit.
    length: uint256 = 0
    first_x: uint256 = 0
    first_y: uint256 = 0
    row: int256 = 0
    takes_max: bool = False
    end: uint256 = n.body
    fits: bool = False
    if n.kind == encoding.REDUCE:
        encoding.expect(fields >> 248 < 2)
        takes_max = fields >> 248 == 1
        length = (fields >> 216) & LOW_32
        end += 5
        first_x = position * length
        fits = written.count * length == x.count and (not takes_max or x.dtype >= tensor.I32)
    elif n.kind == encoding.DOT:
        rows: uint256 = fields >> 224
        columns: uint256 = (fields >> 192) & LOW_32
        length = (fields >> 160) & LOW_32
        end += 12
        encoding.expect(rows != 0 and columns != 0)
        batches: uint256 = written.count // (rows * columns)
        batch: uint256 = position // (rows * columns)
        first_x = position // columns * length
        first_y = (batch * columns + position % columns) * length
        fits = (
            written.count == batches * rows * columns
            and x.count == batches * rows * length
            and y.count == batches * columns * length
            and x.dtype != tensor.I64
            and y.dtype != tensor.I64
        )
    else:
        assert n.kind == encoding.SCATTER_ADD, "referee: not a reduce, dot or scatter_add node"
        length = fields >> 224
        rows: uint256 = (fields >> 192) & LOW_32
        end += 8
        encoding.expect(length != 0 and rows != 0)
        first_x = position // rows * length
        row = convert(position % rows, int256)
        fits = y.count == length and written.count * length == x.count * rows and x.count % length == 0
    encoding.expect(end == n.length)
    encoding.expect(length != 0 and length <= MAX_LENGTH and fits)
    encoding.expect(x.dtype != tensor.F32 and y.dtype != tensor.F32)
    encoding.expect(written.dtype == (x.dtype if takes_max else tensor.I64))

    at_x: uint256 = tensor.check_run(step, x, first_x, length, inputs[0])
    at_y: uint256 = at_x
    if n.kind != encoding.REDUCE:
        at_y = tensor.check_run(step, y, first_y, length, inputs[1])
    run_x: Bytes[8480] = concat(inputs[0].data, empty(bytes32))
    run_y: Bytes[8480] = concat(inputs[n.inputs - 1].data, empty(bytes32))

    # Words of 32 bytes, turned so that the first element is lowest, give their elements one after the other.
    # Unchecked: a product is below 2^62 and a sum of 1,024 values below 2^73.
    word_x: uint256 = 0
    word_y: uint256 = 0
    total: int256 = min_value(int256) if takes_max else 0
    for i: uint256 in range(length, bound=MAX_LENGTH):
        if i & (32 // x.size - 1) == 0:
            word_x = tensor.little_endian(extract32(run_x, at_x + i * x.size))
        a: int256 = tensor.lowest(word_x, x.size)
        word_x = word_x >> (8 * x.size)
        if takes_max:
            total = max(total, a)
        elif n.kind == encoding.REDUCE:
            total = unsafe_add(total, a)
        else:
            if i & (32 // y.size - 1) == 0:
                word_y = tensor.little_endian(extract32(run_y, at_y + i * y.size))
            b: int256 = tensor.lowest(word_y, y.size)
            word_y = word_y >> (8 * y.size)
            if n.kind == encoding.DOT:
                total = unsafe_add(total, unsafe_mul(a, b))
            elif b == row:
                total = unsafe_add(total, a)
    return scalar_program.wrap(total, 64)
