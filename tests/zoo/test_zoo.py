"""Models as people write them: each is captured as it is, trained by the executor, and learns; its bits are the reference's."""

from __future__ import annotations

from statistics import mean

from bisection import state_root
from bisection.boundary import next_state
from tests.zoo.catalogue import JOBS, each_job
from trainer.executor import Executor


@each_job
def test_a_model_trains_with_the_reference_bits_on_any_number_of_threads(name: str) -> None:
    job = JOBS[name]
    captured = job.capture
    program = captured.program
    executors = [Executor(program, captured.step.data, threads=threads) for threads in (1, 2)]
    state, metrics = executors[1].step(captured.state)
    assert state_root(program, state) == state_root(program, next_state(program, captured.first))
    losses = [metrics["loss"]]
    for _ in range(job.steps - 2):
        state, metrics = executors[0].step(state)
        losses.append(metrics["loss"])
    ends = [executor.step(state)[0] for executor in executors]
    assert state_root(program, ends[0]) == state_root(program, ends[1])
    assert mean(losses[-10:]) < job.fall * mean(losses[:3])


def test_the_zoo_is_large_enough() -> None:
    """Seven named kinds, and at least ten modules as they are commonly written."""
    assert len(JOBS) >= 17 and all(job.steps >= 100 for job in JOBS.values())
