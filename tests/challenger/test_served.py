"""A challenger remembers what a data service said, so that its silence later on changes nothing."""

from __future__ import annotations

from pathlib import Path

from bisection.agent import Nothing
from challenger.served import Remembered
from tests.support.market import honest_trace
from trainer.service import ServedTrace


class Once(ServedTrace):
    """A service that answers every question once."""

    def __init__(self, steps: int) -> None:
        super().__init__(honest_trace(steps))
        self.asked: set[tuple[object, ...]] = set()

    def _first(self, *question: object) -> bool:
        before = question in self.asked
        self.asked.add(question)
        return not before

    def history(self):  # type: ignore[no-untyped-def]
        return super().history() if self._first("history") else None

    def trace(self, step: int):  # type: ignore[no-untyped-def]
        return super().trace(step) if self._first("trace", step) else None

    def state(self, step: int):  # type: ignore[no-untyped-def]
        return super().state(step) if self._first("state", step) else None

    def tensor(self, step: int, number: int):  # type: ignore[no-untyped-def]
        return super().tensor(step, number) if self._first("tensor", step, number) else None


def test_what_was_said_once_is_known_after_a_restart(tmp_path: Path) -> None:
    truth, service = ServedTrace(honest_trace(2)), Once(2)
    for served in (Remembered(service, tmp_path), Remembered(service, tmp_path), Remembered(Nothing(), tmp_path)):
        assert list(served.history() or ()) == list(truth.history() or ())
        assert list(served.trace(1) or ()) == list(truth.trace(1) or ())
        assert list(served.state(2) or ()) == list(truth.state(2) or ())
        assert served.tensor(1, 3) == truth.tensor(1, 3)


def test_silence_is_not_remembered(tmp_path: Path) -> None:
    assert Remembered(Nothing(), tmp_path).tensor(0, 0) is None
    assert Remembered(ServedTrace(honest_trace(1)), tmp_path).tensor(0, 0) is not None
