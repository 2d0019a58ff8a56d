# pragma version 0.4.3
# @title The referee: one element of a training step, recomputed
# @license Apache-2.0
# @notice Given a node of the program and openings of the tensors that the trainer itself committed, says what one element of the node's
#         output must be, and what the trainer claimed it to be. The meaning is that of bisection/cut.py. No storage, no owner, no calls.
# @custom:security Every element of a node that bisection/nodes.py accepts has a value here. Anything else reverts: a node in no
#                  canonical encoding, an opening of another tensor, place, length or depth, bytes too many or too few.
#                  Sizes are at most 32 bits, strides, offsets and counts at most 64, so that no product or sum passes 2^110.

from interfaces import IReferee
from modules import encoding
from modules import map_node
from modules import merkle
from modules import run_node
from modules import scalar_program
from modules import tensor

implements: IReferee

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
    n: encoding.Node = encoding.prove(step, node)
    written: tensor.Ref = encoding.output(n, output)
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
    assert n.kind == encoding.MAP or n.kind == encoding.GATHER, "referee: not a map or gather node"
    assert len(inputs) == n.inputs, "referee: openings for another number of inputs"
    written: tensor.Ref = encoding.output(n, output)
    claimed: int256 = tensor.element(step, written, position, claim)
    if n.kind == encoding.MAP:
        reads: map_node.Reads = map_node.reads(n, position)
        values: int256[8] = empty(int256[8])
        for i: uint256 in range(n.inputs, bound=encoding.MAX_INPUTS):
            if reads.targets[i] >= 0:
                source: tensor.Ref = encoding.input(n, i)
                values[i] = tensor.element(step, source, convert(reads.targets[i], uint256), inputs[i])
        register: int256 = map_node.result(n, output, reads.indices, values)
        return claimed, scalar_program.wrap(register, 8 * written.size)

    width: uint256 = self._gather_width(n)
    table: tensor.Ref = encoding.input(n, 0)
    indices: tensor.Ref = encoding.input(n, 1)
    index: int256 = tensor.element(step, indices, position // width, inputs[1])
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
    assert (
        n.kind == encoding.REDUCE or n.kind == encoding.DOT or n.kind == encoding.SCATTER_ADD
    ), "referee: not a reduce, dot or scatter_add node"
    assert len(inputs) == n.inputs, "referee: openings for another number of inputs"
    written: tensor.Ref = encoding.output(n, output)
    claimed: int256 = tensor.element(step, written, position, claim)
    over: run_node.Runs = run_node.plan(n, position)
    at_x: uint256 = tensor.check_run(step, over.x, over.first_x, over.length, inputs[0])
    at_y: uint256 = at_x
    if n.kind != encoding.REDUCE:
        at_y = tensor.check_run(step, over.y, over.first_y, over.length, inputs[1])
    # Behind 32 more bytes, a whole word can be taken from any place.
    return claimed, run_node.total(
        n.kind, over, concat(inputs[0].data, empty(bytes32)), at_x, concat(inputs[n.inputs - 1].data, empty(bytes32)), at_y
    )


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
