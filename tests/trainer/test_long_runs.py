"""Runs of many steps: checkpoints that do not fill the disk, kills at the worst moments, full disks, and numbers that overflow."""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import UnavailableError, UsageError
from bisection.nodes import Input, Map, Output, Read
from bisection.program import Program, TensorSpec
from bisection.scalar import Op, ScalarProgram
from bisection.trace import MemoryTrace
from tests.support.programs import Builder, counting_program
from tests.support.recording import ReferenceExecutor, record, record_until_event
from trainer.executor import Executor
from trainer.recorder import Recorder
from trainer.recording import kept

STEPS = 60
PROGRAM, STATE, DATA = counting_program()
HONEST = MemoryTrace(PROGRAM, STATE, DATA, STEPS)
LEAVES = HONEST.history().levels[0]


def recorder(folder: Path, **options: Any) -> Recorder:
    return Recorder(
        folder, PROGRAM, STATE, DATA, ReferenceExecutor(PROGRAM, DATA), **{"checkpoint_every": 2, "keep_checkpoints": 4, **options}
    )


def history(folder: Path) -> list[bytes]:
    data = (folder / "history").read_bytes()
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def stored(folder: Path) -> set[str]:
    return {path.name for path in (folder / "store").rglob("*") if path.is_file()}


def indexed(folder: Path) -> dict[int, str]:
    rows = json.loads((folder / "checkpoints.json").read_text())
    return {int(step): row["blob"] for step, row in rows.items()}


# Retention --------------------------------------------------------------------------------------------------------------


def test_the_checkpoints_of_a_long_run_stay_few_and_spread() -> None:
    held: list[int] = []
    for step in range(50, 100_001, 50):
        held = kept([*held, step], 0, 50, 32)
        assert len(held) <= 32 + 2
    assert held[-2:] == [99_950, 100_000]
    gaps = np.diff([0, *held])
    assert gaps.max() <= 2 * 100_000 / 32


@given(st.sets(st.integers(1, 3000), min_size=1), st.integers(0, 5), st.integers(1, 40), st.integers(1, 12), st.data())
def test_thinning_out_again_and_again_is_thinning_out_once(
    steps: set[int], start: int, every: int, most: int, data: st.DataObject
) -> None:
    ordered = sorted(start + step for step in steps)
    held: list[int] = []
    for step in ordered:
        held = kept([*held, step], start, every, most)
    assert held == kept(ordered, start, every, most)
    assert set(held) <= set(ordered) and set(ordered[-2:]) <= set(held) and len(held) <= most + 2
    span = every
    while (ordered[-1] - start) // span >= most:
        span *= 2
    at = data.draw(st.sampled_from(ordered))
    before = max((step for step in held if step <= at), default=None)
    assert at - (start if before is None else before) < 2 * span or not any(at - 2 * span < step <= at - span for step in ordered)


def test_old_checkpoints_leave_the_disk_and_every_step_can_be_replayed(tmp_path: Path) -> None:
    with recorder(tmp_path) as recording:
        recording.run(STEPS)
        assert list(recording.recording.checkpoints) == [2, 16, 32, 48, 58, 60]
        assert stored(tmp_path) == set(indexed(tmp_path).values())
        trace = recording.segment(0, STEPS)
        for step in (59, 31, 15, 0, 47, 1, 33):
            assert trace.tensors(step).levels == HONEST.tensors(step).levels


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    with recorder(tmp_path) as recording:
        recording.run(10)
    orphan = tmp_path / "store" / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"a checkpoint that never entered the index")
    (tmp_path / "store" / "blobs" / ".1234.tmp").write_bytes(b"half a checkpoint")
    with recorder(tmp_path) as recording:
        assert recording.step == 10
        recording.run(12)
    assert stored(tmp_path) == set(indexed(tmp_path).values())


def test_the_one_before_the_last_is_there_when_the_last_is_damaged(tmp_path: Path) -> None:
    with recorder(tmp_path) as recording:
        recording.run(STEPS)
    last = indexed(tmp_path)[STEPS]
    (tmp_path / "store" / "blobs" / last[:2] / last).write_bytes(b"torn")
    with recorder(tmp_path) as recording:
        assert recording.step == STEPS - 2
        recording.run(STEPS)
    assert history(tmp_path) == LEAVES


def test_keeping_no_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 or more of them are kept"):
        recorder(tmp_path, keep_checkpoints=0)


# Kills and full disks ---------------------------------------------------------------------------------------------------


def test_killed_at_every_sort_of_moment_it_ends_with_the_identical_history(tmp_path: Path) -> None:
    """While a state is hashed, between the parts of a checkpoint, before it is moved, before and after it enters the index …"""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.recording"])
    steps, killed, last = 8, 0, 1
    while True:
        folder = tmp_path / str(last)
        process = context.Process(target=record_until_event, args=(folder, steps, 2, 1, last))
        process.start()
        process.join()
        record(folder, steps, 2, keep_checkpoints=1)
        assert history(folder) == LEAVES[: steps + 1], f"killed at event {last}"
        assert stored(folder) == set(indexed(folder).values()), f"killed at event {last}"
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        last += random.randint(1, 13)
    assert killed > 10


def test_a_full_disk_at_a_checkpoint_stops_the_run_and_the_older_ones_stay(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    program, state, data = counting_program(size=4_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Recorder(tmp_path, program, state, data, ReferenceExecutor(program, data), checkpoint_every=3) as recording:
        recording.run(3)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            with pytest.raises(UnavailableError, match="no room left"):
                recording.run(9)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert recording.step == 6 and list(recording.recording.checkpoints) == [3]
        assert stored(tmp_path) == set(indexed(tmp_path).values())
        recording.run(9)
        assert list(recording.recording.checkpoints) == [3, 9]
    assert history(tmp_path) == MemoryTrace(program, state, data, 9).history().levels[0]


# Numbers that overflow --------------------------------------------------------------------------------------------------


def squaring_program() -> tuple[Program, dict[str, np.ndarray[Any, Any]]]:
    """x becomes x · x; its metrics are the new x, which overflows, and the new x less itself, which is then not a number."""
    b = Builder()
    (x,) = b.add(Input, (), [("f32", 4)], "state", 0)
    square = ScalarProgram(1, 1, (), (Op(0x03, 0, 0),), (2,))
    difference = ScalarProgram(1, 1, (), (Op(0x02, 0, 0),), (2,))
    (squared,) = b.add(Map, (x,), [("f32", 4)], (4,), (Read(0, (1,)),), square)
    (nothing,) = b.add(Map, (squared,), [("f32", 4)], (4,), (Read(0, (1,)),), difference)
    b.add(Output, (squared,), [], 0)
    program = Program(tuple(b.nodes), (TensorSpec("x", "f32", (4,)),), (), {"loss": nothing.tensor, "x": squared.tensor})
    return program, {"x": np.array([2, 1, -3, 0.5], np.float32)}


@pytest.mark.parametrize("executor", [ReferenceExecutor, Executor])
def test_numbers_that_overflow_are_told_once_and_the_steps_go_on(
    tmp_path: Path, executor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    program, state = squaring_program()
    told: list[tuple[int, float]] = []
    with caplog.at_level(logging.WARNING), Recorder(tmp_path, program, state, {}, executor(program, {})) as recording:
        recording.run(12, lambda step, metrics: told.append((step, metrics["x"])))
        assert recording.not_finite == {"loss": 6, "x": 6}
    assert [step for step, _ in told] == list(range(1, 13)) and told[-1][1] == np.inf
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["loss of step 6 is nan", "x of step 6 is inf"]
    assert history(tmp_path) == MemoryTrace(program, state, {}, 12).history().levels[0]
