"""What a verdict about a node costs, so that capture makes no node whose verdict would pass 600,000 gas.

The format allows more: runs of 1,024 elements of any type, and maps of 128 instructions with eight inputs. The figures bound what
`python -m benchmarks.referee_gas` measures for the referee (in a trace of depth 8 and tensors of depth 14), and the game's part;
tests hold them.
"""

from __future__ import annotations

from bisection.nodes import DTYPES, MAX_LENGTH
from bisection.scalar import BY_CODE, ScalarProgram

__all__ = ["MOST_GAS", "longest_run", "map_gas"]

MOST_GAS = 600_000
RUN_BYTES = 6_144  # of all operands of a node together

GAME = 60_000  # finding the step, deciding, paying
BASE = 95_000  # proofs of the node and of the claimed element
READ = 38_000  # one opened leaf
FLOAT, INTEGER = 2_900, 900  # one instruction


def longest_run(*dtypes: str) -> int:
    """How many elements a run over operands of these types may have."""
    return min(MAX_LENGTH, RUN_BYTES // sum(DTYPES[dtype].size for dtype in dtypes))


def map_gas(scalar: ScalarProgram) -> int:
    """A bound on the gas of a verdict about a map that runs ``scalar``."""
    floats = sum(BY_CODE[op.code].code < 0x10 for op in scalar.ops)
    return GAME + BASE + READ * scalar.reads + FLOAT * floats + INTEGER * (len(scalar.ops) - floats)
