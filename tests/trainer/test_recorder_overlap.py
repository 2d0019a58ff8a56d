"""Committing to a state goes on beside the next step: one step behind, in order, and nothing of it is lost or seen half-done."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisection.boundary import Array
from bisection.errors import UnavailableError
from bisection.merkle import Tree
from bisection.trace import MemoryTrace
from tests.support.programs import counting_program
from tests.support.recording import ReferenceExecutor
from trainer.commit import Beside, StateTrees
from trainer.recorder import Recorder

STEPS = 24
PROGRAM, STATE, DATA = counting_program()
HONEST = MemoryTrace(PROGRAM, STATE, DATA, STEPS)
LEAVES = HONEST.history().levels[0]


def history(folder: Path) -> list[bytes]:
    data = (folder / "history").read_bytes()
    return [data[at : at + 32] for at in range(0, len(data), 32)]


class Thrifty(ReferenceExecutor):
    """Writes every state into one of two sets of arrays, so that a state is good for one more step and no longer."""

    def __init__(self) -> None:
        super().__init__(PROGRAM, DATA)
        self._buffers = [{name: np.array(array) for name, array in STATE.items()} for _ in range(2)]

    def step(self, state: Mapping[str, Array], tamper: Any = None) -> tuple[dict[str, Array], dict[str, float]]:
        after, metrics = super().step(state, tamper)
        buffers = self._buffers[0]
        for name, array in buffers.items():
            array[...] = after[name]
        self._buffers.reverse()
        return buffers, metrics


def test_a_state_is_hashed_while_the_next_step_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the second step nor the hashing of the first one's state ends before the other has begun."""
    both, hash_after = threading.Barrier(2, timeout=20), StateTrees.after

    class Meets(ReferenceExecutor):
        def step(self, state: Any, tamper: Any = None) -> Any:
            if 1 <= self.steps < 5:
                both.wait()
            return super().step(state, tamper)

    def after(trees: StateTrees, before: Tree, state: Mapping[str, Array]) -> Tree:
        if executor.steps < 5 or both.n_waiting:
            both.wait()
        return hash_after(trees, before, state)

    monkeypatch.setattr(StateTrees, "after", after)
    executor = Meets(PROGRAM, DATA)
    with Recorder(tmp_path, PROGRAM, STATE, DATA, executor) as recording:
        recording.run(5)
    assert history(tmp_path) == LEAVES[:6]


def test_a_step_is_told_when_it_is_recorded_and_in_order(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with Recorder(tmp_path, PROGRAM, STATE, DATA, ReferenceExecutor(PROGRAM, DATA)) as recording:
        recording.run(6, lambda step, metrics: told.append((step, recording.recording.count - 1)))
    assert [step for step, _ in told] == [1, 2, 3, 4, 5, 6]
    assert all(recorded in (step, step + 1) for step, recorded in told)


def test_an_executor_may_write_over_states_that_are_two_steps_old(tmp_path: Path) -> None:
    with Recorder(tmp_path, PROGRAM, STATE, DATA, Thrifty(), checkpoint_every=5) as recording:
        recording.run(9)
        nine = recording.state
        assert recording.segment(0, 9).tensors(2).levels == HONEST.tensors(2).levels
        assert recording.segment(0, 9).state(8).levels == HONEST.state(8).levels
        recording.run(STEPS)
        assert recording.segment(0, STEPS).state(9).root == StateTrees(PROGRAM).of(nine).root == LEAVES[9]
    assert history(tmp_path) == LEAVES


def test_others_may_look_back_while_such_an_executor_runs(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def look(recording: Recorder) -> None:
        try:
            for step in (3, 7, 0, 5, 8, 1) * 3:
                assert recording.segment(0, 9).tensors(step).levels == HONEST.tensors(step).levels
                assert recording.segment(0, 9).state(step).levels == HONEST.state(step).levels
        except BaseException as error:
            errors.append(error)

    with Recorder(tmp_path, PROGRAM, STATE, DATA, Thrifty(), checkpoint_every=4) as recording:
        recording.run(9)
        threads = [threading.Thread(target=look, args=(recording,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        recording.run(STEPS)
        for thread in threads:
            thread.join()
    assert not errors and history(tmp_path) == LEAVES


@pytest.mark.parametrize("kind", [ReferenceExecutor, Thrifty])
def test_a_step_that_fails_is_raised_and_the_steps_before_it_are_recorded(tmp_path: Path, kind: Any) -> None:
    told: list[int] = []

    class Fails(kind):  # type: ignore[misc]
        def step(self, state: Any, tamper: Any = None) -> Any:
            if self.steps == 7:
                self.steps += 1
                raise ArithmeticError("a device was lost")
            return super().step(state, tamper)

    executor = Fails(PROGRAM, DATA) if kind is ReferenceExecutor else Fails()
    with Recorder(tmp_path, PROGRAM, STATE, DATA, executor, checkpoint_every=5) as recording:
        with pytest.raises(ArithmeticError, match="a device was lost"):
            recording.run(STEPS, lambda step, metrics: told.append(step))
        assert recording.step == 7 and told == [1, 2, 3, 4, 5, 6, 7] and history(tmp_path) == LEAVES[:8]
        recording.run(STEPS)
    assert history(tmp_path) == LEAVES


@pytest.mark.parametrize("kind", [ReferenceExecutor, Thrifty])
def test_a_commitment_that_fails_is_raised_and_nothing_after_it_is_recorded(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    executor = kind(PROGRAM, DATA) if kind is ReferenceExecutor else kind()
    with Recorder(tmp_path, PROGRAM, STATE, DATA, executor, checkpoint_every=5) as recording:
        append = recording.recording.append

        def refuse(leaf: bytes) -> None:
            if recording.recording.count == 8:
                raise UnavailableError("the disk is gone")
            append(leaf)

        monkeypatch.setattr(recording.recording, "append", refuse)
        with pytest.raises(UnavailableError, match="the disk is gone"):
            recording.run(STEPS, lambda step, metrics: told.append(step))
        assert recording.step == 7 and told == [1, 2, 3, 4, 5, 6, 7]
        assert recording.root == LEAVES[7] == StateTrees(PROGRAM).of(recording.state).root
        monkeypatch.undo()
        recording.run(STEPS)
    assert history(tmp_path) == LEAVES


def test_what_a_progress_raises_ends_the_run(tmp_path: Path) -> None:
    def progress(step: int, metrics: Mapping[str, float]) -> None:
        told.append(step)
        if step == 3:
            raise KeyboardInterrupt

    told: list[int] = []
    with Recorder(tmp_path, PROGRAM, STATE, DATA, ReferenceExecutor(PROGRAM, DATA)) as recording:
        with pytest.raises(KeyboardInterrupt):
            recording.run(STEPS, progress)
        assert told == [1, 2, 3]
        recording.run(STEPS)
    assert history(tmp_path) == LEAVES


def test_calls_beside_are_made_one_after_the_other() -> None:
    order: list[int] = []
    with Beside() as beside:
        for i in range(20):
            beside.do(lambda i=i: order.append(i))  # type: ignore[misc]
    assert order == list(range(20))


def test_what_a_call_beside_raises_comes_out() -> None:
    def fails() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"), Beside() as beside:
        beside.do(fails)
        beside.wait()
        with pytest.raises(ValueError, match="wrong"):
            beside.do(lambda: None)
