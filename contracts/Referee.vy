# pragma version 0.4.3
# @title The referee: one element of a training step, recomputed
# @license Apache-2.0
# @notice Given a node of the program and openings of the tensors that the trainer itself committed, says what one element of the node's
#         output must be, and what the trainer claimed it to be. The meaning is that of bisection/cut.py. No storage, no owner, no calls.
# @custom:security Every element of a node that bisection/nodes.py accepts has a value here. Anything else reverts: a node in no
#                  canonical encoding, an opening of another tensor, place, length or depth, bytes too many or too few.
#                  Sizes are at most 32 bits, strides, offsets and counts at most 64, so that no product or sum passes 2^110.

from interfaces import IReferee
from modules import checks
from modules import encoding
from modules import map_node
from modules import merkle
from modules import run_node
from modules import scalar_program
from modules import tensor

implements: IReferee

NUMERICS_VERSION: constant(uint256) = 1

# What a boundary joins a tensor of the trace to.
BEFORE: constant(uint256) = 0
DATA: constant(uint256) = 1
AFTER: constant(uint256) = 2


@external
@view
def numerics_version() -> uint256:
    """
    @notice The meaning of the numbers that are judged here: docs/numerics.md.
    """
    return NUMERICS_VERSION


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
def locate_run(
    step: IReferee.Step, node: IReferee.NodeProof, position: uint256, claim: IReferee.Leaf
) -> IReferee.RunPlace:
    """
    @notice The claimed element of a reduce, dot or scatter_add node, and how its run is judged.
    @param step The step in dispute.
    @param node The reduce, dot or scatter_add node, proved against the program root.
    @param position Which element of its output, in C order.
    @param claim The leaf of the output that holds the element.
    """
    n: encoding.Node = self._run_node(step, node)
    written: tensor.Ref = encoding.output(n, 0)
    claimed: int256 = tensor.element(step, written, position, claim)
    over: run_node.Runs = run_node.plan(n, position)
    return IReferee.RunPlace(
        claimed=claimed, tensor=written.number, parts=run_node.part_count(over), takes_max=over.takes_max
    )


@external
@view
def boundary(step: IReferee.Step, node: IReferee.NodeProof) -> IReferee.Boundary:
    """
    @notice What an input or output node joins.
    @param step The step in dispute.
    @param node The input or output node, proved against the program root.
    """
    return self._boundary(step, node)


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
    joined: IReferee.Boundary = self._boundary(step, node)
    root: bytes32 = step.state_before
    count: uint256 = step.state_count
    if joined.source == DATA:
        root = step.data_root
        count = step.data_count
    elif joined.source == AFTER:
        root = step.state_after
    tensor.check_root(step, joined.tensor, tensor_root, trace_proof)
    merkle.check(component_root, joined.index, count, component_proof, root)
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
    if n.kind != encoding.MAP and n.kind != encoding.GATHER:
        checks.refuse("referee: not a map or gather node")
    if len(inputs) != n.inputs:
        checks.refuse("referee: openings for another number of inputs")
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
    n: encoding.Node = self._run_node(step, node)
    if len(inputs) != n.inputs:
        checks.refuse("referee: openings for another number of inputs")
    written: tensor.Ref = encoding.output(n, output)
    claimed: int256 = tensor.element(step, written, position, claim)
    over: run_node.Runs = run_node.plan(n, position)
    if run_node.part_count(over) != 1:
        checks.refuse("referee: run too long")
    return claimed, self._total(step, n, over, inputs)


@external
@view
def judge_part(
    step: IReferee.Step,
    node: IReferee.NodeProof,
    position: uint256,
    part: uint256,
    inputs: DynArray[IReferee.Run, 2],
) -> int256:
    """
    @notice The correct partial result of one part of an element's run: its sum, wrapped to 64 bits, or its maximum.
    @param step The step in dispute.
    @param node The reduce, dot or scatter_add node, proved against the program root.
    @param position Which element of its output, in C order.
    @param part Which part of its run.
    @param inputs For each input of the node the neighbouring leaves that hold the elements read.
    """
    n: encoding.Node = self._run_node(step, node)
    if len(inputs) != n.inputs:
        checks.refuse("referee: openings for another number of inputs")
    if position >= encoding.output(n, 0).count:
        checks.refuse("referee: position outside the tensor")
    over: run_node.Runs = run_node.plan(n, position)
    if part >= run_node.part_count(over):
        checks.refuse("referee: no such part")
    return self._total(step, n, run_node.part(over, part), inputs)


@internal
@pure
def _boundary(step: IReferee.Step, node: IReferee.NodeProof) -> IReferee.Boundary:
    n: encoding.Node = encoding.prove(step, node)
    joined: tensor.Ref = empty(tensor.Ref)
    at: uint256 = n.body
    source: uint256 = AFTER
    if n.kind == encoding.INPUT:
        encoding.expect(n.inputs == 0 and n.outputs == 1)
        joined = encoding.output(n, 0)
        source = convert(extract32(n.code, at), uint256) >> 248
        encoding.expect(source == BEFORE or source == DATA)
        at += 1
    else:
        if n.kind != encoding.OUTPUT:
            checks.refuse("referee: not a boundary")
        encoding.expect(n.inputs == 1 and n.outputs == 0)
        joined = encoding.input(n, 0)
    encoding.expect(at + 4 == n.length)
    index: uint256 = convert(extract32(n.code, at), uint256) >> 224
    return IReferee.Boundary(source=source, index=index, tensor=joined.number, size=joined.count * joined.size)


@internal
@pure
def _run_node(step: IReferee.Step, node: IReferee.NodeProof) -> encoding.Node:
    n: encoding.Node = encoding.prove(step, node)
    known: bool = n.kind == encoding.REDUCE or n.kind == encoding.DOT or n.kind == encoding.SCATTER_ADD
    if not known:
        checks.refuse("referee: not a reduce, dot or scatter_add node")
    return n


@internal
@pure
def _total(
    step: IReferee.Step, n: encoding.Node, over: run_node.Runs, inputs: DynArray[IReferee.Run, 2]
) -> int256:
    """
    @notice The result over runs that `inputs` open, one for each input of the node.
    """
    at_x: uint256 = tensor.check_run(step, over.x, over.first_x, over.length, inputs[0])
    at_y: uint256 = at_x
    if n.kind != encoding.REDUCE:
        at_y = tensor.check_run(step, over.y, over.first_y, over.length, inputs[1])
    # Behind 32 more bytes, a whole word can be taken from any place.
    return run_node.total(
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
