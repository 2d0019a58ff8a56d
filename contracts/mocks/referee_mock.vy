# pragma version 0.4.3
# @title A referee that says what it was told to
# @license Apache-2.0

from interfaces import IReferee

implements: IReferee

expected_step: bytes32
tensor: uint256
size: uint256
joined: bool
claimed: int256
correct: int256
run: IReferee.RunPlace
judged: uint256[2]
joint: uint256[2]


@external
def place(tensor: uint256, size: uint256):
    """
    @notice What `locate` answers.
    """
    self.tensor = tensor
    self.size = size


@external
def join(source: uint256, index: uint256):
    """
    @notice What `boundary` answers: which tensor is joined; its size is that of `place`.
    """
    self.joint = [source, index]


@external
def cut(run: IReferee.RunPlace):
    """
    @notice What `locate_run` answers.
    """
    self.run = run


@external
def expect_part(position: uint256, part: uint256):
    """
    @notice The only part that is judged from now on; 0, 0 lifts it.
    """
    self.judged = [position, part]


@external
def rule(joined: bool, claimed: int256, correct: int256):
    """
    @notice What the judgements answer.
    """
    self.joined = joined
    self.claimed = claimed
    self.correct = correct


@external
def expect(step: IReferee.Step):
    """
    @notice The only step that is judged from now on.
    """
    self.expected_step = keccak256(abi_encode(step))


@internal
@view
def _check(step: IReferee.Step):
    if self.expected_step != empty(bytes32):
        assert keccak256(abi_encode(step)) == self.expected_step, "referee: another step"


@external
@view
def numerics_version() -> uint256:
    """
    @notice One that no real referee has.
    """
    return 7


@external
@view
def locate(step: IReferee.Step, node: IReferee.NodeProof, output: uint256) -> (uint256, uint256):
    """
    @notice As told.
    """
    self._check(step)
    return self.tensor, self.size


@external
@view
def locate_run(
    step: IReferee.Step, node: IReferee.NodeProof, position: uint256, claim: IReferee.Leaf
) -> IReferee.RunPlace:
    """
    @notice As told.
    """
    self._check(step)
    return self.run


@external
@view
def boundary(step: IReferee.Step, node: IReferee.NodeProof) -> IReferee.Boundary:
    """
    @notice As told.
    """
    self._check(step)
    return IReferee.Boundary(source=self.joint[0], index=self.joint[1], tensor=self.tensor, size=self.size)


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
    @notice As told.
    """
    self._check(step)
    return self.joined


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
    @notice As told.
    """
    self._check(step)
    return self.claimed, self.correct


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
    @notice As told.
    """
    self._check(step)
    return self.claimed, self.correct


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
    @notice As told.
    """
    self._check(step)
    if self.judged[0] != 0 or self.judged[1] != 0:
        assert self.judged[0] == position and self.judged[1] == part, "referee: another part"
    return self.correct
