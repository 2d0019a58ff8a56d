"""What a verdict about a node costs, so that capture makes no node whose verdict would pass 600,000 gas.

The format allows more: runs of any length, and maps of 128 instructions with eight inputs. Runs are cut at what one verdict reads,
which costs nothing, as integer sums may be split anywhere; a longer one would take a dispute more rounds. The figures bound what
`python -m benchmarks.referee_gas` measures for the referee, and the game's part; tests hold them. A large model is deep, and every
level of a tree is one digest more in each opening: the bounds are for programs and traces of up to 2^14 nodes and tensors, those of
maps for the tensors as they are, those of runs for tensors of up to 2^18 leaves (64 MiB).
"""

from __future__ import annotations

from collections.abc import Sequence

from bisection.merkle import depth_of, leaf_count
from bisection.nodes import DTYPES, MAX_LENGTH
from bisection.scalar import BY_CODE, ScalarProgram

__all__ = ["MOST_GAS", "longest_run", "map_gas"]

MOST_GAS = 600_000
RUN_BYTES = 4_608  # of all operands of a node together
TRACE_DEPTH = 14  # how many tensors there will be is not known while maps are cut

GAME = 112_000  # what the game does: finding the step, deciding, paying accounts that have been paid before
HANDED_ON = 2_200  # one opened leaf or run, by the game to the referee
BASE = 55_000  # checking the node and its place
CODE = 60  # one byte of the encoded node
OPENING = 10_500  # one opened leaf: the claimed element's, or one read, by the referee
LEVEL = 1_170  # one digest of a path
FLOAT, INTEGER = 2_900, 900  # one instruction


def longest_run(*dtypes: str) -> int:
    """How many elements a run over operands of these types may have."""
    return min(MAX_LENGTH, RUN_BYTES // sum(DTYPES[dtype].size for dtype in dtypes))


def map_gas(scalar: ScalarProgram, code: int, opened: Sequence[int]) -> int:
    """A bound on the gas of a verdict about a map that runs ``scalar`` and is encoded in ``code`` bytes. ``opened`` gives the sizes
    in bytes of the tensors that the verdict opens: one that is written, and each that is read."""
    floats = sum(BY_CODE[op.code].code < 0x10 for op in scalar.ops)
    levels = sum(TRACE_DEPTH + depth_of(leaf_count(size)) for size in opened)
    openings = (HANDED_ON + OPENING) * len(opened) + LEVEL * levels
    return GAME + BASE + CODE * code + openings + FLOAT * floats + INTEGER * (len(scalar.ops) - floats)
