"""One history, whatever the machine: threads, instruction sets and libraries must not change a single bit of training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from bisection import reference
from bisection.boundary import state_root
from sims import digits
from tests.differential.machine import history_root
from trainer.executor import Executor
from trainer.package import Commitments, Material, commit, publish
from trainer.store import Store

pytestmark = pytest.mark.xdist_group("machines")

STEPS = 100
REFERENCE_STEPS = 10

# Each is another machine to torch, oneDNN or MKL. They are read when torch is imported, so that each needs a process of its own.
MACHINES: dict[str, tuple[dict[str, str], int]] = {
    "two threads": ({}, 2),
    "no vector instructions": ({"ATEN_CPU_CAPABILITY": "default"}, 1),
    "AVX2": ({"ATEN_CPU_CAPABILITY": "avx2"}, 1),
    "oneDNN held to AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, 1),
    "MKL in compatible mode": ({"MKL_CBWR": "COMPATIBLE"}, 1),
}
CAPABILITIES = {"default": "DEFAULT", "avx2": "AVX2"}


@pytest.fixture(scope="module")
def job() -> Material:
    captured = digits.job(0)[1]
    return Material(captured.program, captured.state, captured.data)


@pytest.fixture(scope="module")
def stored(job: Material, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Commitments]:
    folder = tmp_path_factory.mktemp("job")
    return folder, publish(Store(folder), job.program, job.state, job.data)


@pytest.fixture(scope="module")
def root(job: Material) -> str:
    """The history root in this process, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return history_root(job, STEPS).hex()
    finally:
        torch.set_num_threads(threads)


def run_on(variables: dict[str, str], threads: int, folder: Path, spec: Commitments) -> dict[str, str]:
    """What tests/differential/machine.py says under another environment."""
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in asdict(spec).items()}
    done = subprocess.run(
        [sys.executable, "-m", "tests.differential.machine", str(folder), str(STEPS), str(threads)],
        input=json.dumps(plain),
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **variables},  # else threads that wait burn the cores of other tests
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("machine", MACHINES)
def test_another_machine_arrives_at_the_same_history(machine: str, stored: tuple[Path, Commitments], root: str) -> None:
    variables, threads = MACHINES[machine]
    found = run_on(variables, threads, *stored)
    setting = variables.get("ATEN_CPU_CAPABILITY")
    assert setting is None or found["capability"] == CAPABILITIES[setting]
    assert found["root"] == root


def test_the_reference_arrives_at_the_same_states(job: Material) -> None:
    executor, mine, other = Executor(job.program, job.data), job.state, job.state
    for _ in range(REFERENCE_STEPS):
        mine, other = executor.step(mine)[0], reference.step(job.program, other, job.data)[0]
        assert state_root(job.program, mine) == state_root(job.program, other)


def test_capturing_again_gives_the_same_job(job: Material) -> None:
    again = digits.job(0)[1]
    assert commit(again.program, again.state, again.data) == commit(job.program, job.state, job.data)
