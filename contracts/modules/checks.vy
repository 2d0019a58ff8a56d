# pragma version 0.4.3
# @title Refusals with a reason
# @license Apache-2.0
# @notice Every `assert` that names its reason is some 100 bytes of code. A call is less than half, and code is limited.


@internal
@pure
def require(condition: bool, reason: String[64]):
    """
    @notice Reverts with `reason` unless `condition`.
    """
    assert condition, reason
