"""Recording without torch: the reference as an executor, and a process that records until it is killed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bisection import reference
from bisection.boundary import Array, metrics_of, next_state
from bisection.program import Program
from tests.support.programs import counting_program
from trainer.recorder import Recorder


class ReferenceExecutor:
    """trainer.recorder.TakesTamper over bisection.reference. ``steps`` counts how many steps were run or traced."""

    def __init__(self, program: Program, data: Mapping[str, Array]) -> None:
        self.program, self.data, self.steps = program, data, 0

    def trace(self, state: Mapping[str, Array], tamper: reference.Tamper | None = None) -> list[Array]:
        self.steps += 1
        return reference.trace(self.program, state, self.data, tamper)

    def step(self, state: Mapping[str, Array], tamper: reference.Tamper | None = None) -> tuple[dict[str, Array], dict[str, float]]:
        tensors = self.trace(state, tamper)
        return next_state(self.program, tensors), metrics_of(self.program, tensors)


def record(folder: Path, until: int, checkpoint_every: int) -> None:
    """Record the counting program up to step ``until``: the target of processes that are killed on the way."""
    program, state, data = counting_program()
    with Recorder(folder, program, state, data, ReferenceExecutor(program, data), checkpoint_every=checkpoint_every) as recorder:
        recorder.run(until)
