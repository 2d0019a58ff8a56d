# pragma version 0.4.3
# @title How far down one reveal goes at most
# @license Apache-2.0
# @notice The only place where this is said. See benchmarks/scale.py for what other numbers would cost.

LEVELS: constant(uint256) = 6
WIDTH: constant(uint256) = 2**LEVELS  # the most descendants that are revealed at once
DIGEST: constant(uint256) = 32  # bytes
PAYLOAD: constant(uint256) = WIDTH * DIGEST  # the most bytes that are revealed at once
