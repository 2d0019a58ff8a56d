"""What both nodes share: logs that people and machines can read, failures that stay where they are, and a loop that ends well."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web3.exceptions import Web3RPCError

from bisection.errors import ChainMismatch, TransactionFailed, UnavailableError
from contracts.sender import TransactionSender
from tests.support.market import Diary
from trainer.runtime import (
    MOST_SECONDS,
    Isolation,
    await_earlier_transactions,
    console_log,
    node_log,
    run,
    silent,
    sparing,
    stop_signals,
)


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


# Logs -------------------------------------------------------------------------------------------------------------------


def test_a_person_gets_lines_and_a_machine_gets_json() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        console_log(stream)("job claimed", job=3, loss=0.123456789)
    assert terminal.getvalue()[8:] == "  job claimed        job=3  loss=0.123457\n"
    document = json.loads(pipe.getvalue())
    assert document.pop("time").endswith("+00:00")
    assert document == {"event": "job claimed", "job": 3, "loss": 0.123456789}


def test_a_strangers_text_does_not_move_the_cursor() -> None:
    terminal = Terminal()
    console_log(terminal)("failed", reason="\x1b[2Jgone\nnew line\u202e")
    assert terminal.getvalue().endswith("reason=?[2Jgone?new line?\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_is_valid_even_where_training_diverges(value: float) -> None:
    pipe = io.StringIO()
    console_log(pipe)("progress", loss=value)
    assert json.loads(pipe.getvalue(), parse_constant=pytest.fail)["loss"] == str(value)


def test_lines_of_many_threads_do_not_mix() -> None:
    pipe = io.StringIO()
    log = console_log(pipe)
    threads = [threading.Thread(target=lambda n=n: [log("step", thread=n) for _ in range(200)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in pipe.getvalue().splitlines()]) == 800


def test_steps_are_told_as_progress_now_and_then_and_at_the_end() -> None:
    clock, diary = Clock(), Diary()
    log = sparing(diary, seconds=5.0, clock=clock)
    for step in range(1, 101):
        clock.time += 0.25
        log("step", job=1, step=step, steps=100, loss=1 / step)
        log("step", job=2, step=step, steps=1000)
    log("job over", job=1)
    told = [fields for fields in diary.of("progress") if fields["job"] == 1]
    assert [fields["step"] for fields in told] == [21, 41, 61, 81, 100]
    assert {fields["steps_per_second"] for fields in told} == {4.0}
    assert told[0]["loss"] == 1 / 21
    assert [fields["step"] for fields in diary.of("progress") if fields["job"] == 2] == [21, 41, 61, 81]
    assert diary.of("job over") == [{"job": 1}]


@pytest.fixture
def undisturbed_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])
    logging.captureWarnings(False)


@pytest.mark.usefixtures("undisturbed_logging")
def test_warnings_of_any_module_become_lines_of_the_log() -> None:
    pipe = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        node_log(pipe)("step", job=1, step=5, steps=5)
        logging.getLogger("trainer.recorder").warning("the checkpoint at step %d is not usable", 7)
        logging.getLogger("trainer.recorder").info("chatter")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    lines = [json.loads(line) for line in pipe.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["progress", "warning", "warning"]
    assert lines[1]["reason"] == "the checkpoint at step 7 is not usable"
    assert lines[1]["source"] == "trainer.recorder"


# Failures ---------------------------------------------------------------------------------------------------------------


def failing(error: Exception) -> Callable[[], bool]:
    def act() -> bool:
        raise error

    return act


def test_what_fails_is_told_and_rests_ever_longer_while_the_rest_goes_on() -> None:
    clock, diary = Clock(), Diary()
    isolation = Isolation(diary, first_seconds=1.0, clock=clock)
    calls: list[float] = []

    def refused() -> bool:
        calls.append(clock.time)
        raise TransactionFailed("claim: registry: job not open")

    for _ in range(4000):
        assert not isolation.attempt(("job", 1), refused, job=1)
        assert isolation.attempt(("job", 2), lambda: True, job=2)
        clock.time += 0.1
    pauses = [round(after - before, 6) for before, after in pairwise(calls)]
    assert pauses[:6] == pytest.approx([1, 2, 4, 8, 16, 32], abs=0.11)
    assert max(pauses) == pytest.approx(MOST_SECONDS, abs=0.11)
    told = diary.of("failed")
    assert [fields["times"] for fields in told] == [1, 2, 4, 8]
    assert told[0] == {
        "job": 1, "kind": "TransactionFailed", "reason": "claim: registry: job not open", "times": 1, "again_in": 1.0,
    }  # fmt: skip


def test_a_new_reason_is_told_at_once_and_success_ends_the_count() -> None:
    clock, diary = Clock(), Diary()
    isolation = Isolation(diary, clock=clock)
    for error in (ValueError("a"), ValueError("a"), ValueError("a"), KeyError("b")):
        clock.time += 100
        isolation.attempt("it", failing(error))
    assert [fields["reason"] for fields in diary.of("failed")] == ["ValueError: a", "ValueError: a", "KeyError: 'b'"]
    assert isolation.resting("it")
    clock.time += 100
    assert not isolation.resting("it")
    assert isolation.attempt("it", lambda: True)
    isolation.attempt("it", failing(ValueError("a")))
    assert diary.of("failed")[-1]["times"] == 1


@given(st.lists(st.booleans(), max_size=60))
def test_an_attempt_never_raises_and_returns_what_it_can(outcomes: list[bool]) -> None:
    clock = Clock()
    isolation = Isolation(silent, clock=clock)
    for outcome in outcomes:
        clock.time += MOST_SECONDS
        assert isolation.attempt("it", (lambda: True) if outcome else failing(RuntimeError("no"))) is outcome


def test_another_chain_is_no_matter_of_one_job() -> None:
    with pytest.raises(ChainMismatch):
        Isolation(silent).attempt("it", failing(ChainMismatch("another chain")))


# The loop ---------------------------------------------------------------------------------------------------------------


class Ticking:
    """A node whose ticks do what a list says: return a value or raise an error. The last one ends the loop."""

    def __init__(self, stop: threading.Event, *ticks: object) -> None:
        self.stop, self.ticks, self.closed = stop, list(ticks), 0

    def tick(self) -> bool:
        now = self.ticks.pop(0)
        if not self.ticks:
            self.stop.set()
        if isinstance(now, Exception):
            raise now
        return bool(now)

    def close(self) -> None:
        self.closed += 1


def test_the_loop_waits_for_a_chain_that_is_away_and_then_goes_on() -> None:
    stop, diary = threading.Event(), Diary()
    refusal = Web3RPCError("rate limit")
    node = Ticking(
        stop, UnavailableError("no answer"), refusal, UnavailableError("no answer"), True, UnavailableError("away"), False
    )
    run(node, 0.001, diary, stop)
    assert [fields["again_in"] for fields in diary.of("waiting")] == [0.001, 0.002, 0.004, 0.001]
    assert "rate limit" in diary.of("waiting")[1]["reason"]
    assert (node.ticks, node.closed) == ([], 1)
    assert diary.events[-1][0] == "stopping"


def test_any_other_error_closes_the_node_and_comes_out() -> None:
    stop = threading.Event()
    node = Ticking(stop, True, ChainMismatch("another chain"), True)
    with pytest.raises(ChainMismatch):
        run(node, 0.001, silent, stop)
    assert node.closed == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_loop_at_once_and_a_second_one_is_not_held_back(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda number, frame: heard.append(number))
    try:
        with stop_signals() as stop:
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            started = time.monotonic()
            run(Ticking(threading.Event(), False, False), 30.0, silent, stop)
            assert time.monotonic() - started < 10
            os.kill(os.getpid(), number)
            assert heard == [number]
    finally:
        signal.signal(number, before)


class Counting:
    """In the place of a sender: an account whose pending transactions are mined one by one as one looks."""

    address = "0x" + 40 * "1"

    def __init__(self, pending: int) -> None:
        self.left = pending
        self.web3 = self
        self.eth = self

    def get_transaction_count(self, address: str, block: str) -> int:
        if block == "latest":
            return 5
        self.left -= 1
        return 5 + max(0, self.left + 1)


@pytest.mark.parametrize("pending", [0, 3])
def test_transactions_of_an_earlier_run_are_awaited_before_anything_is_done_twice(pending: int) -> None:
    diary, account = Diary(), cast(Any, Counting(pending))
    await_earlier_transactions(cast(TransactionSender, account), 0.001, diary, threading.Event())
    assert account.left < 0
    assert [fields["transactions"] for fields in diary.of("waiting")] == [pending] * bool(pending)
