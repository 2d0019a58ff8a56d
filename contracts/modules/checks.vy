# pragma version 0.4.3
# @title Refusals with a reason
# @license Apache-2.0
# @notice Every `assert` that names its reason is some 100 bytes of code. A call is less than half, and code is limited. The condition stays
#         outside, because a reason that is not needed should not cost gas.


@internal
@pure
def refuse(reason: String[64]):
    """
    @notice Reverts with `reason`.
    """
    assert False, reason
