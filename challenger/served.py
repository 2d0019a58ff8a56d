"""What a trainer's data service has said, kept on the disk: a challenger that is restarted in mid-game knows what it knew before.

A trainer could fall silent in between, and a tree whose digests the service had shown can be demanded on chain only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bisection.agent import Served
from trainer.store import DIGEST_BYTES, write_atomically

__all__ = ["Remembered"]


class Remembered:
    """``served``, asked only for what ``folder`` does not hold yet: bisection.agent.Served.

    What is read back is believed no more than what a service says: the agent verifies it. Raises UnavailableError when the disk
    refuses.
    """

    def __init__(self, served: Served, folder: Path) -> None:
        self._served, self._folder = served, folder

    def history(self) -> Sequence[bytes] | None:
        """See Served."""
        return self._digests("history", self._served.history)

    def trace(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        return self._digests(f"trace-{step}", lambda: self._served.trace(step))

    def state(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        return self._digests(f"state-{step}", lambda: self._served.state(step))

    def tensor(self, step: int, number: int) -> bytes | None:
        """See Served."""
        return self._bytes(f"tensor-{step}-{number}", lambda: self._served.tensor(step, number))

    def _digests(self, name: str, ask: Callable[[], Sequence[bytes] | None]) -> Sequence[bytes] | None:
        data = self._bytes(name, lambda: None if (digests := ask()) is None else b"".join(digests))
        return None if data is None else [data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)]

    def _bytes(self, name: str, ask: Callable[[], bytes | None]) -> bytes | None:
        path = self._folder / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            data = ask()
        if data is not None:
            write_atomically(path, data)
        return data
