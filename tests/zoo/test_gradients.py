"""Every gradient of every model of the zoo against eager autograd in binary64, next to bfloat16 autocast's error."""

from __future__ import annotations

from tests.zoo.catalogue import JOBS, each_job
from tests.zoo.eager import compare

BOUNDS = {15: (1 / 5, 3e-3), 20: (1 / 100, 1e-4)}
"""Operand bits → the largest part of bfloat16's error, and the largest error."""

IN_FLOAT32 = 1e-4
"""What autocast does not compute in bfloat16 (a model without products) has no error to take a part of."""


@each_job
def test_every_gradient_agrees_with_binary64(name: str) -> None:
    for found in compare(JOBS[name].few.capture, *BOUNDS):
        part, bound = BOUNDS[found.operand_bits]
        assert found.error < bound, found
        assert found.cancelled or found.bfloat16 < IN_FLOAT32 or found.error < part * found.bfloat16, found
