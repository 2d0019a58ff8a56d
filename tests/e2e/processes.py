"""Commands that run beside the test: started with a log, watched through its JSON lines, ended kindly or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["Process", "wait_until"]

SECONDS = 90.0


def wait_until(reached: Callable[[], Any], what: str) -> Any:
    """What ``reached`` returns, once it is true. Fails as soon as a process has ended that should not have."""
    deadline = time.monotonic() + SECONDS
    while not (value := reached()):
        for process in Process.running:
            process.require_alive()
        assert time.monotonic() < deadline, f"this never happened: {what}"
        time.sleep(0.02)
    return value


class Process:
    """A Python module that runs as a program with ``log.parent`` as its folder; what it says goes to ``log``."""

    running: ClassVar[list[Process]] = []

    def __init__(self, log: Path, *arguments: str, **environment: str) -> None:
        self._log = log
        # -P: what lies in the folder must not stand in for a package.
        command = [sys.executable, "-P", "-m", *arguments]
        with log.open("ab") as out:
            self._popen = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | environment, cwd=log.parent)
        self.running.append(self)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def require_alive(self) -> None:
        """Raises AssertionError with its last words when it has ended."""
        if self._popen.poll() is not None:
            raise AssertionError(f"the process has ended with {self._popen.returncode}: {self._log.read_text()[-2000:]}")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of one name so far."""
        whole = [line for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [event for event in map(json.loads, whole) if event["event"] == name]

    def await_event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first event of that name with these fields."""

        def found() -> dict[str, Any] | None:
            return next((event for event in self.events(name) if fields.items() <= event.items()), None)

        event: dict[str, Any] = wait_until(found, f"{name} {fields} in {self._log.name}")
        return event

    def kill(self) -> None:
        """End it as a power cut would."""
        self._popen.kill()
        self._popen.wait()
        if self in self.running:
            self.running.remove(self)

    def end(self) -> int:
        """Tell it to end; its exit code."""
        self._popen.send_signal(signal.SIGTERM)
        try:
            return self._popen.wait(SECONDS)
        finally:
            self.kill()
