"""Every gradient of every model of the zoo against eager autograd in binary64, next to bfloat16 autocast's error."""

from __future__ import annotations

import torch

from tests.zoo.catalogue import JOBS, each_job
from tests.zoo.eager import eager_gradients

BOUNDS = {15: (1 / 5, 3e-3), 20: (1 / 100, 1e-4)}
"""Operand bits → the largest part of bfloat16's error, and the largest error."""

CANCELLED = 1e-5
"""The relative error of eager float32 from which on a gradient counts as zero in exact arithmetic, or nearly: what is left when all
terms cancel, as with the bias before a batch norm, the key's bias in attention, or a scale that the next norm takes out again."""

IN_FLOAT32 = 1e-4
"""What autocast does not compute in bfloat16 (a model without products) has no error to take a part of."""


@each_job
def test_every_gradient_agrees_with_binary64(name: str) -> None:
    captured = JOBS[name].few.capture
    exact, single, rough = eager_gradients(captured, torch.float64, torch.float32, torch.bfloat16)
    assert set(exact) == set(captured.trained)
    largest = max(gradient.norm() for gradient in exact.values())
    for bits, (part, bound) in BOUNDS.items():
        for parameter, found in captured.gradients(bits).items():
            true = exact[parameter]
            cancelled = (single[parameter] - true).norm() > CANCELLED * true.norm()
            size = largest if cancelled else true.norm()
            error, bfloat16 = ((gradient - true).norm() / size for gradient in (found, rough[parameter]))
            assert error < bound, (parameter, bits, error, cancelled)
            assert cancelled or bfloat16 < IN_FLOAT32 or error < part * bfloat16, (parameter, bits, error, bfloat16)
