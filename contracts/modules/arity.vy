# pragma version 0.4.3
# @title How far down one reveal goes
# @license Apache-2.0
# @notice The only place where this is said. See benchmarks/gas.py for what other numbers would cost.

LEVELS: constant(uint256) = 5
WIDTH: constant(uint256) = 2**LEVELS  # the most descendants that are revealed at once
