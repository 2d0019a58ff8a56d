"""A process that sends one transaction and is killed on the way: ``python -m tests.support.killed``.

Arguments: RPC URL, journal, and the moment of its death: ``before the record``, ``before the broadcast``, ``before the answer`` or
``before the receipt``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from web3 import Web3
from web3.types import RPCEndpoint, RPCResponse

from contracts.client import NodeProvider, connect, development_accounts
from contracts.journal import Entry, Journal
from contracts.sender import Call, TransactionSender

__all__ = ["MOMENTS", "MOVE"]

MOMENTS = ("before the record", "before the broadcast", "before the answer", "before the receipt")
MOVE = Call("gift", Web3.to_checksum_address("0x" + 40 * "7"), b"", 5, "game 12: answer to aa")


def die() -> None:
    """As a power cut would have it."""
    os.kill(os.getpid(), signal.SIGKILL)


class Doomed(Journal):
    """A journal whose process dies as it is about to write."""

    def record(self, entry: Entry) -> None:
        die()


def main(url: str, path: str, moment: str) -> None:
    """Send until death."""
    web3 = connect(url)
    provider = web3.provider
    assert isinstance(provider, NodeProvider)
    ask = provider.make_request

    def make_request(method: RPCEndpoint, params: Any) -> RPCResponse:
        if method == "eth_sendRawTransaction" and moment == "before the broadcast":
            die()
        answer = ask(method, params)
        if method == "eth_sendRawTransaction" and moment == "before the answer":
            die()
        return answer

    provider.make_request = make_request  # type: ignore[method-assign]
    journal = (Doomed if moment == "before the record" else Journal)(Path(path))
    sender = TransactionSender(web3, development_accounts(1)[0], journal=journal)
    sender.submit(MOVE)
    die()


if __name__ == "__main__":
    main(*sys.argv[1:])
