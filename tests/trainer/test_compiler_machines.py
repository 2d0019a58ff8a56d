"""The same history on every instruction set, with and without a compiler, on one and two threads, whatever Python's hashes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.compiled import ISAS, features
from trainer.kernels.toolchain import Toolchain, toolchain

SCRIPT = """
import sys
from hashlib import sha256
from bisection import state_root
from tests.support import jobs
from trainer.executor import Executor
_, name, batch, steps = sys.argv
captured = getattr(jobs, name)(int(batch))
for threads in (1, 2):
    executor = Executor(captured.program, captured.data, threads=threads)
    history, state = sha256(), captured.state
    for _ in range(int(steps)):
        state, metrics = executor.step(state)
        history.update(state_root(captured.program, state) + repr(sorted(metrics.items())).encode())
    print(executor.route, captured.program.root.hex(), history.hexdigest())
"""


def said(job: str, batch: int, steps: int, isas: Iterable[str]) -> dict[str, list[list[str]]]:
    """For every machine that this one can stand for, (route, program root, history) on one and on two threads."""
    machines = {isa: {"REFSTEP_ISA": isa} for isa in isas if not ISAS[isa] or ISAS[isa] in features()}
    if not isinstance(toolchain(), Toolchain):
        machines = {}
    found = {}
    for number, (name, settings) in enumerate({**machines, "no compiler": {"REFSTEP_CXX": "none"}}.items()):
        environment = {**os.environ, "PYTHONHASHSEED": str(number), **settings}
        command = [sys.executable, "-c", SCRIPT, job, str(batch), str(steps)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=root)
        assert done.returncode == 0, done.stderr
        found[name] = [line.split() for line in done.stdout.splitlines()]
    return found


def assert_one_history(found: dict[str, list[list[str]]]) -> None:
    assert all(line[0] == ("library" if name == "no compiler" else "compiled") for name, lines in found.items() for line in lines)
    assert all(len(lines) == 2 for lines in found.values())
    assert len({tuple(line[1:]) for lines in found.values() for line in lines}) == 1, found


def test_twenty_steps_have_one_history() -> None:
    assert_one_history(said("mlp", 32, 20, ("native", "x86-64-v2")))


@pytest.mark.deep
@pytest.mark.parametrize(("job", "batch"), [("mlp", 64), ("normed", 32), ("convolution", 8), ("transformer", 4)])
def test_a_hundred_steps_have_one_history(job: str, batch: int) -> None:
    assert_one_history(said(job, batch, 100, ISAS))
