"""What both nodes share: the log, and the loop that ticks until it is told to stop."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from bisection.errors import UnavailableError

__all__ = ["Log", "Node", "console_log", "run", "silent"]

MAX_BACKOFF_SECONDS = 60.0


class Log(Protocol):
    """Takes one event: what happened, and its fields. Values are str, int, float or bool; never a key."""

    def __call__(self, event: str, **fields: Any) -> None:
        """Record the event."""


class Node(Protocol):
    """A program that advances by ticks."""

    def tick(self) -> bool:
        """Do what there is to do now. Returns whether there is more to do at once."""

    def close(self) -> None:
        """Persist and release everything."""


def silent(event: str, **fields: Any) -> None:
    """A log that keeps nothing."""


def console_log(stream: TextIO = sys.stderr) -> Log:
    """Lines for people on a terminal, JSON lines otherwise."""

    def for_people(event: str, **fields: Any) -> None:
        rest = "  ".join(f"{name}={value}" for name, value in fields.items())
        print(f"{datetime.now(UTC):%H:%M:%S}  {event:<28} {rest}".rstrip(), file=stream, flush=True)

    def for_machines(event: str, **fields: Any) -> None:
        print(json.dumps({"time": datetime.now(UTC).isoformat(), "event": event, **fields}), file=stream, flush=True)

    return for_people if stream.isatty() else for_machines


def run(node: Node, poll_seconds: float, log: Log, until: Callable[[], bool] = lambda: False) -> None:
    """Tick until SIGINT or SIGTERM, or until ``until()``; then close the node and return.

    A chain or server that cannot be reached is waited for, ever longer up to a minute. Any other error closes the node and is raised.
    """
    stop = threading.Event()
    before = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    backoff = poll_seconds
    try:
        while not stop.is_set() and not until():
            started = time.monotonic()
            try:
                more = node.tick()
                backoff = poll_seconds
            except UnavailableError as error:
                log("waiting", reason=str(error), seconds=backoff)
                stop.wait(backoff)
                backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
                continue
            if not more:
                stop.wait(max(0.0, poll_seconds - (time.monotonic() - started)))
        log("stopping")
    finally:
        node.close()
        for s, handler in before.items():
            signal.signal(s, handler)
