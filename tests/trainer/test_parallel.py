"""One, two and four processes give the same history; a lost worker ends the others; a run goes on with another number of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from bisection import reference, state_root
from bisection.errors import UnavailableError, UsageError
from bisection.merkle import Tree
from tests.support.jobs import JOBS
from tests.support.workers import Job, Run, free_port, gather, start_workers
from trainer.executor import Executor
from trainer.parallel import ParallelExecutor, run_worker

STEPS = 4
NAMES = ("mlp", "normed", "transformer")


def jobs(*names: str) -> dict[str, Job]:
    captured = {name: JOBS[name]() for name in names}
    return {name: (job.program, job.state, job.data) for name, job in captured.items()}


def history(job: Job, steps: int) -> bytes:
    """The history root that one ordinary executor comes to."""
    program, state, data = job
    executor, roots = Executor(program, data), [state_root(program, state)]
    for _ in range(steps):
        state, _ = executor.step(state)
        roots.append(state_root(program, state))
    return Tree(roots).root


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process the only worker."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)


def test_one_two_and_four_workers_give_the_same_history_root_or_refuse_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = jobs(*NAMES)
    expected = {name: history(job, STEPS) for name, job in tasks.items()}
    for name, job in tasks.items():
        alone(monkeypatch)
        assert run_worker(tmp_path / name, *job, STEPS) == expected[name]
    runs = [Run(world, job, tmp_path / f"{name}-{world}", free_port()) for world in (2, 4) for name, job in tasks.items()]
    different = Run(2, tasks["mlp"], tmp_path / "different", free_port(), others=tasks["normed"])
    found = gather(*start_workers([different, *runs], STEPS), sum(run.world for run in [different, *runs]))
    results = {(folder.name, rank): result for folder, rank, result in found}
    for rank in range(2):
        error = results.pop(("different", rank))
        assert isinstance(error, UsageError) and "different programs or data" in str(error)
    assert results == {
        (run.folder.name, rank): expected[run.folder.name.split("-")[0]] if rank == 0 else None
        for run in runs
        for rank in range(run.world)
    }


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_lost_worker_ends_the_others_and_the_run_goes_on_with_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs("normed")["normed"]
    folder, steps = tmp_path / "run", tmp_path / "run.steps"
    processes, results = start_workers([Run(2, job, folder, free_port())], 1_000_000)
    try:
        wait_for(lambda: steps.exists() and steps.read_text() not in ("", "1"))
        processes[1].kill()
    finally:
        found = gather(processes, results, 1)
    ((_, rank, error),) = found
    assert rank == 0 and isinstance(error, UnavailableError) and "gone or late" in str(error)
    alone(monkeypatch)
    assert run_worker(folder, *job, STEPS) == history(job, STEPS)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch):
    alone(monkeypatch)
    dist.init_process_group("gloo")
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_it_executes_any_state_and_traces_as_the_reference() -> None:
    program, first, data = jobs("mlp")["mlp"]
    with ParallelExecutor(program, data) as executor:
        second, metrics = executor.step(first)
        expected, its_metrics = reference.step(program, first, data)
        assert state_root(program, second) == state_root(program, expected) and metrics == its_metrics
        third, _ = executor.step(second)
        again, _ = executor.step(first)
        assert state_root(program, again) == state_root(program, expected) != state_root(program, third)
        trace = reference.trace(program, first, data)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(executor.trace(first), trace, strict=True))


@pytest.mark.usefixtures("group")
def test_the_first_worker_leads() -> None:
    program, _, data = jobs("mlp")["mlp"]
    with ParallelExecutor(program, data) as executor, pytest.raises(UsageError, match="worker 0 leads"):
        executor.follow()


def test_without_a_group_it_says_what_to_do() -> None:
    program, _, data = jobs("mlp")["mlp"]
    with pytest.raises(UsageError, match="torchrun"):
        ParallelExecutor(program, data)


def test_without_other_workers_it_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "2")
    program, state, data = jobs("mlp")["mlp"]
    with pytest.raises(UnavailableError, match="did not find each other"):
        run_worker(tmp_path, program, state, data, 1, timeout=2)


def test_an_accelerator_that_is_not_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="no accelerator"):
        run_worker(tmp_path, *jobs("mlp")["mlp"], 1, device="cuda")
