"""What both nodes share: the log, the loop that ticks until it is told to stop, and what keeps one job's failure to itself."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from web3.exceptions import Web3Exception

from bisection.errors import ChainMismatch, RefstepError, UnavailableError
from contracts.contract import Ledger
from contracts.deploy import Deployment
from contracts.jobs import NATIVE
from contracts.sender import TransactionSender

__all__ = [
    "Isolation",
    "Log",
    "Node",
    "await_earlier_transactions",
    "collect",
    "console_log",
    "node_log",
    "run",
    "silent",
    "sparing",
    "stop_signals",
]

MOST_SECONDS = 60.0  # between two attempts at something that keeps failing
PROGRESS_SECONDS = 5.0


class Log(Protocol):
    """Takes one event: what happened, and its fields. Values are str, int, float or bool; never a key. Any thread may call."""

    def __call__(self, event: str, **fields: Any) -> None:
        """Record the event."""


class Node(Protocol):
    """A program that advances by ticks."""

    def tick(self) -> bool:
        """Do what there is to do now. Returns whether there is more to do at once."""

    def close(self) -> None:
        """Persist and release everything."""


# Logs -------------------------------------------------------------------------------------------------------------------


def silent(event: str, **fields: Any) -> None:
    """A log that keeps nothing."""


def console_log(stream: TextIO | None = None) -> Log:
    """Lines for people where ``stream`` (standard error) is a terminal, JSON lines otherwise."""
    out = sys.stderr if stream is None else stream
    line = _line_for_people if out.isatty() else _line_for_machines

    def log(event: str, **fields: Any) -> None:
        # In one write, so that the lines of two threads do not mix.
        out.write(line(datetime.now(UTC), event, fields) + "\n")
        out.flush()

    return log


def _line_for_people(time_now: datetime, event: str, fields: dict[str, Any]) -> str:
    shown = (f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in fields.items())
    line = f"{time_now:%H:%M:%S}  {event:<18} {'  '.join(shown)}".rstrip()
    # Some texts come from strangers, who must not move the cursor.
    return "".join(c if c.isprintable() else "?" for c in line)


def _line_for_machines(time_now: datetime, event: str, fields: dict[str, Any]) -> str:
    document = {"time": time_now.isoformat(), "event": event, **fields}
    finite = {name: str(v) if isinstance(v, float) and not math.isfinite(v) else v for name, v in document.items()}
    return json.dumps(finite)  # JSON knows no NaN, which is what a loss can become


def sparing(log: Log, seconds: float = PROGRESS_SECONDS, clock: Callable[[], float] = time.monotonic) -> Log:
    """``log``, but in place of each job's "step" events it hears a "progress" every ``seconds``, and one at the last step.

    A progress is the step's event with ``steps_per_second`` since the last one.
    """
    told: dict[int, tuple[float, int]] = {}

    def heard(event: str, **fields: Any) -> None:
        if event != "step":
            log(event, **fields)
            return
        job, step, time_now = fields["job"], fields["step"], clock()
        since, first = told.setdefault(job, (time_now, step))
        if time_now - since >= seconds or step == fields["steps"]:
            told[job] = (time_now, step)
            pace = {"steps_per_second": round((step - first) / (time_now - since), 3)} if time_now > since else {}
            log("progress", **fields, **pace)

    return heard


class _PassOn(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log(record.levelname.lower(), reason=record.getMessage(), source=record.name)


def node_log(stream: TextIO | None = None) -> Log:
    """The log of a node that is a process of its own. It also hears what any module warns of, so that no other lines mix in."""
    log = sparing(console_log(stream))
    logging.basicConfig(level=logging.WARNING, handlers=[_PassOn(log)], force=True)
    logging.captureWarnings(True)
    return log


# Failures ---------------------------------------------------------------------------------------------------------------


@dataclass
class _Failure:
    reason: str
    count: int
    again_at: float


class Isolation:
    """Keeps what fails in one matter from stopping the others: it is logged, and tried again ever less often.

    A failure is told when its reason changes, and else at its 2nd, 4th, 8th … time in a row. The first retry comes after
    ``first_seconds``, the others after twice as long each, up to a minute.
    """

    def __init__(self, log: Log, first_seconds: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._first_seconds, self._clock = log, first_seconds, clock
        self._failures: dict[Hashable, _Failure] = {}

    def resting(self, matter: Hashable) -> bool:
        """Whether it is too early to try again."""
        failure = self._failures.get(matter)
        return failure is not None and self._clock() < failure.again_at

    def attempt(self, matter: Hashable, act: Callable[[], bool], **fields: Any) -> bool:
        """What ``act`` returns, or False where it fails or rests; ``fields`` say in the log what it is about.

        Raises ChainMismatch, after which nothing that this node believes can be relied on.
        """
        if self.resting(matter):
            return False
        try:
            result = act()
        except ChainMismatch:
            raise
        except Exception as error:
            self._note(matter, error, fields)
            return False
        self._failures.pop(matter, None)
        return result

    def _note(self, matter: Hashable, error: Exception, fields: dict[str, Any]) -> None:
        reason = str(error) if isinstance(error, RefstepError) else f"{type(error).__name__}: {error}"
        last = self._failures.get(matter)
        count = 1 if last is None else last.count + 1
        seconds = min(self._first_seconds * 2 ** min(count - 1, 20), MOST_SECONDS)
        self._failures[matter] = _Failure(reason, count, self._clock() + seconds)
        if last is None or last.reason != reason or count & (count - 1) == 0:
            self._log("failed", **fields, kind=type(error).__name__, reason=reason, times=count, again_in=seconds)


# Money ------------------------------------------------------------------------------------------------------------------


def collect(deployment: Deployment, account: str, tokens: Iterable[str], log: Log) -> bool:
    """Withdraw what the contracts owe ``account`` in each of ``tokens``. Returns whether there was anything."""
    collected = False
    owing: list[tuple[Ledger, str]] = [(deployment.game, NATIVE), (deployment.delivery, NATIVE)]
    for contract, token in owing + [(deployment.registry, token) for token in sorted(tokens)]:
        if owed := contract.credit(account, token):
            contract.withdraw(token)
            log("withdrawn", contract=contract.NAME, amount=owed, **({} if token == NATIVE else {"token": token}))
            collected = True
    return collected


# The loop ---------------------------------------------------------------------------------------------------------------


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set. A second one ends the process at once: nothing is lost by that but time."""
    stop = threading.Event()

    def hear(number: int, frame: Any) -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()


def await_earlier_transactions(sender: TransactionSender, poll_seconds: float, log: Log, stop: threading.Event) -> None:
    """Wait until no transaction of an earlier run is pending: acting beside it could do the same thing twice."""
    eth, told = sender.web3.eth, False
    while not stop.is_set():
        pending = eth.get_transaction_count(sender.address, "pending") - eth.get_transaction_count(sender.address, "latest")
        if pending <= 0:
            return
        if not told:
            log("waiting", reason="transactions of an earlier run are not mined yet", transactions=pending)
        told = True
        stop.wait(poll_seconds)


def run(node: Node, poll_seconds: float, log: Log, stop: threading.Event) -> None:
    """Tick until ``stop``; then close the node and return.

    A chain that cannot be reached, or refuses to answer, is waited for, ever longer up to a minute. Any other error closes the
    node and is raised.
    """
    wait = poll_seconds
    try:
        while not stop.is_set():
            started = time.monotonic()
            try:
                more = node.tick()
            except (UnavailableError, Web3Exception) as error:
                log("waiting", reason=str(error), again_in=wait)
                stop.wait(wait)
                wait = min(2 * wait, MOST_SECONDS)
                continue
            wait = poll_seconds
            if not more:
                stop.wait(max(0.0, poll_seconds - (time.monotonic() - started)))
        log("stopping")
    finally:
        node.close()
