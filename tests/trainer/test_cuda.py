"""On a CUDA device a run has the bits of one on the processor: MLP, CNN and GPT, a hundred steps each."""

from __future__ import annotations

import pytest
import torch

from bisection import state_root
from tests.zoo.catalogue import JOBS
from trainer.executor import Executor

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device can be reached")


@pytest.mark.parametrize("name", ["mlp", "lenet", "gpt"])
def test_a_hundred_steps_have_the_processors_root(name: str) -> None:
    captured = JOBS[name].capture
    ends = []
    for device in ("cpu", "cuda"):
        executor = Executor(captured.program, captured.step.data, device)
        state = captured.state
        for _ in range(100):
            state, _ = executor.step(state)
        ends.append(state_root(captured.program, state))
    assert ends[0] == ends[1]


def test_every_tensor_of_a_step_has_the_processors_bits() -> None:
    captured = JOBS["gpt"].capture
    traces = [Executor(captured.program, captured.step.data, device).trace(captured.state) for device in ("cpu", "cuda")]
    for number, (a, b) in enumerate(zip(*traces, strict=True)):
        assert a.tobytes() == b.tobytes(), f"tensor {number}"
