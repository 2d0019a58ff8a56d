"""A job under way: got ready and run on a thread, with every failure coming out where it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bisection.boundary import Array
from bisection.errors import NumericsMismatch, UnavailableError, UsageError, VerificationError
from contracts.jobs import JobSpec
from tests.support.programs import counting_program
from tests.support.recording import ReferenceExecutor
from trainer.package import Material, publish
from trainer.recorder import Executes, Recorder
from trainer.store import Store
from trainer.work import Work, fetch_material, span, under_way

SECONDS = 10.0


def spec_of(place: Path, **changes: int) -> JobSpec:
    roots = publish(Store(place), *counting_program())
    fields = {name: getattr(roots, name) for name in roots.__slots__}
    return JobSpec(**{**fields, "steps": 7, "segment_length": 3, **changes})


def material() -> Material:
    return Material(*counting_program())


def recorder_in(folder: Path, executor_of: Callable[[Material], Executes] | None = None) -> Callable[[Material], Recorder]:
    def open_recorder(found: Material) -> Recorder:
        executor = executor_of(found) if executor_of else ReferenceExecutor(found.program, found.data)
        return Recorder(folder, found.program, found.state, found.data, executor)

    return open_recorder


JOB_HASH = bytes(32)


def ignored(step: int, metrics: Mapping[str, float]) -> None:
    """A progress that nobody hears."""


# Material ---------------------------------------------------------------------------------------------------------------


def test_material_comes_from_the_first_place_that_has_it_and_then_from_the_own_store(tmp_path: Path) -> None:
    spec, own = spec_of(tmp_path / "there"), Store(tmp_path / "own")
    found = fetch_material(own, spec, [str(tmp_path / "nowhere"), "gopher://what", str(tmp_path / "there")])
    assert found.program.root == spec.program_root
    assert fetch_material(own, spec, []).program.root == spec.program_root


def test_a_damaged_copy_in_the_own_store_is_fetched_again(tmp_path: Path) -> None:
    spec, own = spec_of(tmp_path / "there"), Store(tmp_path / "own")
    fetch_material(own, spec, [str(tmp_path / "there")])
    for path in (tmp_path / "own" / "blobs").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    fetch_material(own, spec, [str(tmp_path / "there")])
    assert fetch_material(own, spec, []).program.root == spec.program_root


def test_what_will_never_come_is_told_from_what_may(tmp_path: Path) -> None:
    spec, own = spec_of(tmp_path / "there"), Store(tmp_path / "own")
    with pytest.raises(NumericsMismatch):
        fetch_material(own, spec_of(tmp_path / "there", numerics_version=2), [str(tmp_path / "there")])
    with pytest.raises(UnavailableError, match=r"nowhere: .*holds nothing"):
        fetch_material(own, spec, [str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="gopher"):
        fetch_material(own, spec, ["gopher://what"])
    program = next(path for path in (tmp_path / "there" / "programs").rglob("*") if path.is_file())
    program.write_bytes(program.read_bytes()[:-1])
    with pytest.raises(VerificationError):
        fetch_material(own, spec, [str(tmp_path / "there")])
    with pytest.raises(UnavailableError):
        fetch_material(own, spec, [str(tmp_path / "there"), str(tmp_path / "nowhere")])


# Running ----------------------------------------------------------------------------------------------------------------


def finished(work: Work, until: int) -> bool:
    """Run to a step, and say whether it was reached before anything failed."""
    while not work.run(until, ignored):
        assert under_way([work], SECONDS)
    return True


def opened(work: Work) -> Work:
    while not work.ready:
        assert under_way([work], SECONDS)
    return work


def test_a_job_is_got_ready_and_run_segment_by_segment(tmp_path: Path) -> None:
    work = opened(Work(JOB_HASH, material, recorder_in(tmp_path / "job")))
    spec = spec_of(tmp_path / "there")
    assert [span(spec, segment) for segment in range(3)] == [(0, 3), (3, 3), (6, 1)]
    assert work.trace(spec, 0) is None
    assert finished(work, 3)
    first = work.trace(spec, 0)
    assert first is not None and first is work.trace(spec, 0)
    assert finished(work, 7)
    last = work.trace(spec, 2)
    assert last is not None and last.length == 1
    assert finished(work, 2)
    work.close()


def test_what_has_come_to_its_end_is_news_once(tmp_path: Path) -> None:
    work = opened(Work(JOB_HASH, material, recorder_in(tmp_path / "job")))
    while under_way([work], SECONDS):
        pass
    assert not under_way([work], SECONDS)
    assert not work.run(2, ignored)
    assert under_way([work], SECONDS)
    assert work.run(2, ignored) or under_way([work], SECONDS)
    work.close()


def test_what_keeps_a_job_from_getting_ready_comes_out(tmp_path: Path) -> None:
    def nothing() -> Material:
        raise UnavailableError("nobody has it")

    work = Work(JOB_HASH, nothing, recorder_in(tmp_path / "job"))
    with pytest.raises(UnavailableError, match="nobody has it"):
        opened(work)
    work.close()


class Stubborn(ReferenceExecutor):
    """An executor that fails once, and waits at another step until it is let go."""

    def __init__(self, found: Material) -> None:
        super().__init__(found.program, found.data)
        self.failures, self.reached, self.gate = 1, threading.Event(), threading.Event()

    def trace(self, state: Mapping[str, Array], tamper: object = None) -> list[Array]:
        if int(state["step"]) == 1 and self.failures:
            self.failures = 0
            raise RuntimeError("device lost")
        if int(state["step"]) == 3:
            self.reached.set()
            assert self.gate.wait(SECONDS)
        return super().trace(state)


def test_a_failed_run_comes_out_once_and_can_be_taken_up_again(tmp_path: Path) -> None:
    work = opened(Work(JOB_HASH, material, recorder_in(tmp_path / "job", Stubborn)))
    with pytest.raises(RuntimeError, match="device lost"):
        finished(work, 3)
    assert finished(work, 3)
    work.close()


def test_closing_ends_the_step_under_way_and_keeps_it(tmp_path: Path) -> None:
    executors: list[Stubborn] = []

    def executor_of(found: Material) -> Stubborn:
        executors.append(Stubborn(found))
        executors[0].failures = 0
        return executors[0]

    work = opened(Work(JOB_HASH, material, recorder_in(tmp_path / "job", executor_of)))
    assert not work.run(100, ignored)
    assert executors[0].reached.wait(SECONDS)
    closing = threading.Thread(target=work.close)
    closing.start()
    executors[0].gate.set()
    closing.join(SECONDS)
    assert not closing.is_alive()
    again = opened(Work(JOB_HASH, material, recorder_in(tmp_path / "job")))
    assert again.recorder.step == 4
    again.close()
