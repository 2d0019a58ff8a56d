# pragma version 0.4.3
# @title One scalar instruction on many operands, for tests
# @license Apache-2.0

from modules import scalar_program

MAX_CASES: constant(uint256) = 2048


@external
@pure
def apply(code: uint256, operands: DynArray[int256[3], MAX_CASES]) -> DynArray[int256, MAX_CASES]:
    """
    @notice The result of instruction `code` for each triple of registers.
    """
    results: DynArray[int256, MAX_CASES] = []
    for triple: int256[3] in operands:
        results.append(scalar_program.apply(code, triple[0], triple[1], triple[2]))
    return results


@external
@view
def cost(code: uint256, triple: int256[3]) -> uint256:
    """
    @notice The gas that instruction `code` takes on one triple of registers, call and dispatch included.
    """
    before: uint256 = msg.gas
    result: int256 = scalar_program.apply(code, triple[0], triple[1], triple[2])
    after: uint256 = msg.gas
    # Using the result keeps the compiler from dropping the call.
    return before - after if result != min_value(int256) else 0
