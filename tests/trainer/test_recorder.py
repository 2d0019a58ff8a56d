"""A recording survives being killed at any moment, belongs to one job and one process, and answers for every step of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisection.boundary import state_roots
from bisection.errors import ProgramError, UnavailableError, UsageError, VerificationError
from bisection.nodes import Input, Output
from bisection.program import Program
from bisection.trace import MemoryTrace
from tests.support.programs import Builder, counting_program
from tests.support.recording import ReferenceExecutor, record
from trainer.executor import Executor
from trainer.recorder import Recorder, Tampered

STEPS = 30
PROGRAM, STATE, DATA = counting_program()
HONEST = MemoryTrace(PROGRAM, STATE, DATA, STEPS)
LEAVES = HONEST.history().levels[0]


def recorder(folder: Path, checkpoint_every: int = 7, **options: Any) -> Recorder:
    return Recorder(folder, PROGRAM, STATE, DATA, ReferenceExecutor(PROGRAM, DATA), checkpoint_every=checkpoint_every, **options)


def history(folder: Path) -> list[bytes]:
    data = (folder / "history").read_bytes()
    return [data[at : at + 32] for at in range(0, len(data), 32)]


@pytest.fixture
def done(tmp_path: Path) -> Iterator[Recorder]:
    with recorder(tmp_path) as recording:
        recording.run(STEPS)
        yield recording


# Recording


def test_every_state_is_committed_to(tmp_path: Path, done: Recorder) -> None:
    assert history(tmp_path) == LEAVES
    assert done.step == STEPS and done.root == LEAVES[-1]
    assert state_roots(PROGRAM, done.state) == HONEST.state(STEPS).levels[0]


def test_the_torch_executor_records_the_same_history(tmp_path: Path) -> None:
    with Recorder(tmp_path, PROGRAM, STATE, DATA, Executor(PROGRAM, DATA)) as recording:
        recording.run(5)
    assert history(tmp_path) == LEAVES[:6]


def test_checkpoints_are_safetensors_files_named_by_their_root(done: Recorder) -> None:
    assert list(done.recording.checkpoints) == [7, 14, 21, 28, 30]
    state = safetensors.numpy.load(done.recording.store.get_blob(done.recording.checkpoints[14].blob))
    assert state_roots(PROGRAM, state) == HONEST.state(14).levels[0]


def test_progress_is_told_the_next_step_and_the_metrics(tmp_path: Path) -> None:
    told = []
    with recorder(tmp_path) as recording:
        recording.run(3, lambda step, metrics: told.append((step, set(metrics))))
    assert told == [(1, {"largest"}), (2, {"largest"}), (3, {"largest"})]


def test_a_stopped_run_finishes_its_step_and_saves_it(tmp_path: Path) -> None:
    calls = iter([False, False, True])
    with recorder(tmp_path) as recording:
        recording.run(STEPS, stop=lambda: next(calls))
        assert recording.step == 2 and list(recording.recording.checkpoints) == [2]


def test_steps_may_start_anywhere(tmp_path: Path) -> None:
    with recorder(tmp_path / "first") as first:
        first.run(10)
        later = Recorder(tmp_path / "later", PROGRAM, first.state, DATA, ReferenceExecutor(PROGRAM, DATA), start=10)
    with later:
        later.run(STEPS)
        assert history(tmp_path / "later") == LEAVES[10:]
        assert later.segment(12, 5).history().levels[0] == LEAVES[12:18]


def test_a_state_tensor_that_is_only_carried_over_keeps_its_root(tmp_path: Path) -> None:
    """The program swaps two tensors and keeps a third; every root is still that of the tensor's bytes."""
    b = Builder()
    refs = [b.add(Input, (), [("f32", 300)], "state", i)[0] for i in range(3)]
    for after, before in enumerate((1, 0, 2)):
        b.add(Output, (refs[before],), [], after)
    specs = tuple(type(PROGRAM.state[0])(name, "f32", (300,)) for name in "abc")
    program = Program(tuple(b.nodes), specs, ())
    state = {name: np.full(300, i, np.float32) for i, name in enumerate("abc")}
    honest = MemoryTrace(program, state, {}, 5)
    wrong = Tampered(ReferenceExecutor(program, {}), lambda node, outputs: [array + (node == 2) for array in outputs])
    with Recorder(tmp_path / "honest", program, state, {}, ReferenceExecutor(program, {})) as recording:
        recording.run(5)
        assert recording.segment(0, 5).history().levels == honest.history().levels
    with Recorder(tmp_path / "wrong", program, state, {}, ReferenceExecutor(program, {}), swap={2: wrong}) as recording:
        recording.run(5)
        assert recording.segment(0, 5).history().levels[0][:3] == honest.history().levels[0][:3]
        assert recording.root == MemoryTrace(program, recording.state, {}, 0).history().root != honest.history().levels[0][-1]


# Killed


def test_killed_at_random_moments_it_ends_with_the_identical_history(tmp_path: Path) -> None:
    """SIGKILL, again and again, between any two system calls."""
    steps, rng = 300, random.Random(os.urandom(8))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.recording"])
    killed = 0
    for _ in range(20):
        process = context.Process(target=record, args=(tmp_path, steps, 5))
        process.start()
        while process.is_alive() and not (tmp_path / "checkpoints.json").exists():
            time.sleep(0.01)
        process.join(rng.uniform(0, 0.25))
        if process.exitcode is None:
            process.kill()
            killed += 1
        process.join()
        if process.exitcode == 0:
            break
    record(tmp_path, steps, 5)
    record(tmp_path / "undisturbed", steps, 1000)
    assert killed
    assert history(tmp_path) == history(tmp_path / "undisturbed")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["history", "checkpoints.json", "blob"]), st.sampled_from(["cut", "flip", "zero", "remove"]), st.data())
def test_whatever_happens_to_a_file_the_history_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, what: str, damage: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("job")
    with recorder(folder, checkpoint_every=3) as recording:
        recording.run(10)
    blobs = sorted((folder / "store" / "blobs").rglob("*/*"))
    path = data.draw(st.sampled_from(blobs)) if what == "blob" else folder / what
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if damage == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif damage == "zero":
        content[at:] = bytes(len(content) - at)
    else:
        del content[at:]
    path.unlink()
    if damage != "remove":
        path.write_bytes(content)
    with recorder(folder, checkpoint_every=3) as recording:
        recording.run(12)
        assert history(folder) == LEAVES[:13]
        assert recording.segment(0, 12).state(11).root == LEAVES[11]


def test_it_goes_on_from_the_last_checkpoint_that_verifies(tmp_path: Path) -> None:
    with recorder(tmp_path) as recording:
        recording.run(16)
        newest = recording.recording.checkpoints[16].blob.hex()
    path = tmp_path / "store" / "blobs" / newest[:2] / newest
    path.write_bytes(path.read_bytes()[:-1])
    with (tmp_path / "history").open("ab") as file:
        file.write(b"torn")
    with recorder(tmp_path) as recording:
        assert recording.step == 14
        assert history(tmp_path) == LEAVES[:15]


def test_a_checkpoint_of_another_state_is_not_believed(tmp_path: Path) -> None:
    """Its bytes are what the index says, but they are not the state that the history says."""
    with recorder(tmp_path) as recording:
        recording.run(14)
    index = json.loads((tmp_path / "checkpoints.json").read_text())
    index["14"]["blob"] = index["7"]["blob"]
    (tmp_path / "checkpoints.json").write_text(json.dumps(index))
    with recorder(tmp_path) as recording:
        assert recording.step == 7


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with recorder(tmp_path, checkpoint_every=1000) as recording:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10 * 32 + 5, limits[1]))
        try:
            with pytest.raises(UnavailableError, match="no room left"):
                recording.run(STEPS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert recording.step == 9 and history(tmp_path) == LEAVES[:10]
        recording.run(STEPS)
    assert history(tmp_path) == LEAVES


# One job, one process


def test_a_folder_of_another_job_is_refused(tmp_path: Path) -> None:
    recorder(tmp_path).close()
    program, state, data = counting_program(size=240)
    cases: list[tuple[str, Any]] = [
        ("program, initial state", (program, state, data, 0)),
        ("initial state", (PROGRAM, {**STATE, "step": np.array(1, np.int64)}, DATA, 0)),
        ("data", (PROGRAM, STATE, {**DATA, "index": DATA["index"] + 1}, 0)),
        ("first step", (PROGRAM, STATE, DATA, 4)),
    ]
    for words, (p, s, d, start) in cases:
        with pytest.raises(UsageError, match=f"not the same {words}"):
            Recorder(tmp_path, p, s, d, ReferenceExecutor(p, d), start=start)
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        recorder(tmp_path)


def test_a_history_without_an_owner_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history").write_bytes(bytes(32))
    with pytest.raises(UsageError, match="says whose"):
        recorder(tmp_path)
    assert (tmp_path / "history").read_bytes() == bytes(32)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with recorder(tmp_path), pytest.raises(UsageError, match="another process"):
        recorder(tmp_path)
    recorder(tmp_path).close()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=record, args=(tmp_path, 100_000, 50))
    process.start()
    while not (tmp_path / "checkpoints.json").exists():
        time.sleep(0.01)
    with pytest.raises(UsageError, match="another process"):
        recorder(tmp_path)
    process.kill()
    process.join()
    recorder(tmp_path).close()


def test_checkpoints_every_no_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        recorder(tmp_path, checkpoint_every=0)


# Looking back


@pytest.mark.parametrize("start, length", [(0, STEPS), (9, 14)])
def test_a_recorded_trace_says_what_a_trace_in_memory_says(done: Recorder, start: int, length: int) -> None:
    trace = done.segment(start, length)
    assert trace.history().levels[0] == LEAVES[start : start + length + 1]
    assert trace.data().levels == HONEST.data().levels
    for step in (0, 5, 6, 12, 3, length - 1):
        assert trace.state(step).levels == HONEST.state(start + step).levels
        assert trace.tensors(step).levels == HONEST.tensors(start + step).levels
        for number in range(len(PROGRAM.tensors)):
            assert trace.tensor(step, number) == HONEST.tensor(start + step, number)
    assert trace.state(length).root == LEAVES[start + length]


def test_looking_back_costs_no_more_than_the_way_from_a_checkpoint(tmp_path: Path) -> None:
    executor = ReferenceExecutor(PROGRAM, DATA)
    with Recorder(tmp_path, PROGRAM, STATE, DATA, executor, checkpoint_every=7) as recording:
        recording.run(STEPS)
        trace, before = recording.segment(0, STEPS), executor.steps
        trace.tensors(18)
        assert executor.steps == before + 4 + 1
        for number in range(len(PROGRAM.tensors)):
            trace.tensor(18, number)
        trace.state(18)
        assert executor.steps == before + 4 + 1


def test_a_step_outside_the_segment_or_the_recording_is_an_error(done: Recorder) -> None:
    trace = done.segment(5, 10)
    for step in (-1, 11):
        with pytest.raises(ProgramError, match="no step"):
            trace.state(step)
    with pytest.raises(ProgramError, match="no step"):
        trace.tensors(10)
    with pytest.raises(UnavailableError, match="are asked for"):
        done.segment(STEPS - 2, 3)


def test_a_dishonest_recording_is_consistent_with_itself(tmp_path: Path) -> None:
    """The same lie in the trace as in the history, before and after a restart: what a cheating trainer would serve."""
    node = PROGRAM.producer[9]

    def tamper(number: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [outputs[0] + 1] if number == node else outputs

    liar = MemoryTrace(PROGRAM, STATE, DATA, STEPS, {11: tamper})
    swap = {11: Tampered(ReferenceExecutor(PROGRAM, DATA), tamper)}
    for until in (12, STEPS):
        with recorder(tmp_path, swap=swap) as recording:
            recording.run(until)
            trace = recording.segment(0, until)
            assert trace.tensors(11).levels == liar.tensors(11).levels != HONEST.tensors(11).levels
    assert history(tmp_path) == liar.history().levels[0]


def test_a_trainer_that_goes_on_from_an_old_checkpoint_can_be_played(tmp_path: Path) -> None:
    """``swap`` takes any execution: here the trace of step 11 is right, but the state after it is an old one."""

    class Replays(ReferenceExecutor):
        def step(self, state: Any, tamper: Any = None) -> Any:
            return old, {}

    with recorder(tmp_path / "honest") as honest:
        honest.run(4)
        old = honest.state
    with recorder(tmp_path / "replays", swap={11: Replays(PROGRAM, DATA)}) as recording:
        recording.run(20)
        trace = recording.segment(0, 20)
        assert trace.tensors(11).levels == HONEST.tensors(11).levels
        assert trace.history().levels[0][12:] == LEAVES[4:13]
        assert trace.state(15).root == LEAVES[7]


def test_a_machine_that_does_not_repeat_itself_is_noticed(tmp_path: Path) -> None:
    class Flaky(ReferenceExecutor):
        def trace(self, state: Any, tamper: Any = None) -> Any:
            tensors = super().trace(state, tamper)
            flip = self.steps > STEPS
            return [tensor + flip if tensor.dtype == np.int64 else tensor for tensor in tensors]

    with Recorder(tmp_path, PROGRAM, STATE, DATA, Flaky(PROGRAM, DATA)) as recording:
        recording.run(STEPS)
        with pytest.raises(VerificationError, match="did not repeat"):
            recording.segment(0, STEPS).tensors(10)


def test_other_threads_may_look_back_while_it_runs(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def look(recording: Recorder) -> None:
        try:
            for step in random.sample(range(9), 9) * 2:
                assert recording.segment(0, 10).tensors(step).root == HONEST.tensors(step).root
        except BaseException as error:
            errors.append(error)

    with recorder(tmp_path) as recording:
        recording.run(10)
        threads = [threading.Thread(target=look, args=(recording,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        recording.run(STEPS)
        for thread in threads:
            thread.join()
    assert not errors and history(tmp_path) == LEAVES
