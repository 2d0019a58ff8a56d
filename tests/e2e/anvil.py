"""Starts anvil, a real JSON-RPC node whose chain lives in memory, on a free port, and ends it again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bisection.errors import UnavailableError
from contracts.client import TEST_MNEMONIC

__all__ = ["anvil_command", "require_anvil", "running_anvil"]

START_SECONDS = 20.0
END_SECONDS = 5.0
STATES_KEPT = 64  # thousands of blocks would otherwise fill the memory
LISTENING = re.compile(r"Listening on ([0-9.]+:[0-9]+)")


def anvil_command() -> str | None:
    """The anvil that REFSTEP_ANVIL names, else the one that ``make test`` installs into the virtual environment, else the one on
    the path, else None."""
    if named := os.environ.get("REFSTEP_ANVIL"):
        return named
    installed = Path(sys.prefix) / "anvil" / "node_modules" / ".bin" / "anvil"
    return str(installed) if installed.exists() else shutil.which("anvil")


def require_anvil() -> None:
    """Skip the test where anvil cannot be had for want of npm; where it could have been installed, and in CI, fail it."""
    import pytest

    if anvil_command() is not None:
        return
    if shutil.which("npm") is None and os.environ.get("CI") != "true":
        pytest.skip("anvil is not installed, and there is no npm that could install it")
    pytest.fail("anvil is not installed: `make test` installs it, or REFSTEP_ANVIL says where it is")


@contextmanager
def running_anvil(*options: str, accounts: int = 10) -> Iterator[str]:
    """The URL of a fresh anvil that mines every transaction at once; each development account owns a million ether.

    Raises UnavailableError where anvil is not installed or does not start.
    """
    command = anvil_command()
    if command is None:
        raise UnavailableError("anvil is not installed; make test installs it where npm is")
    with tempfile.TemporaryDirectory(prefix="refstep-anvil-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    command,
                    *("--port", "0", "--mnemonic", TEST_MNEMONIC, "--accounts", str(accounts), "--balance", "1000000"),
                    *("--prune-history", str(STATES_KEPT), *options),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,  # npm's launcher starts the node itself as a child: both must go
            )
        try:
            yield f"http://{_address(process, log)}"
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher and the node that it started; the launcher is given the time to wait for its child."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where the node listens, once it says so."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8", errors="replace")
        if found := LISTENING.search(text):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise UnavailableError(f"anvil did not start: {text.strip()[-500:] or 'it said nothing'}")
