"""How nodes have transactions sent that must not be sent twice, each under the *place* that it answers.

A sender with a journal remembers places: then nothing here waits for a block, and a process that was killed goes on with what it
had signed. With any other sender every transaction is waited for, and nothing is remembered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from web3.types import TxReceipt

from bisection.errors import TransactionFailed, UsageError
from contracts.contract import Contract
from contracts.journal import SALT_BYTES
from contracts.sender import Call, TransactionSender

__all__ = ["Outbox"]

SPENT = ("commitments: none", "commitments: expired")  # reasons that call for another commitment
MADE = "commitments: already made"


class Outbox:
    """Hands calls to the sender of ``contract``."""

    def __init__(self, contract: Contract) -> None:
        self._sender = contract.sender
        self._salts: dict[str, bytes] = {}  # without a journal: of commitments that were made and not yet revealed

    def tend(self) -> None:
        """See to it that everything on its way gets there, after a restart or a reorganisation as well."""
        if (sender := self._recording) is not None:
            sender.tend()

    def answered(self, place: str) -> bool:
        """Whether ``place`` has its answer, be it on its way. Raises TransactionFailed once when it had one that failed."""
        return (sender := self._recording) is not None and sender.answer(place) is not None

    def deliver(self, call: Call, place: str) -> TxReceipt | None:
        """Have ``call`` answer ``place``. The receipt, or None while it is on its way; it can be asked for again.

        Raises TransactionFailed when it would fail, has failed, or contradicts what answers the place.
        """
        if (sender := self._recording) is not None:
            return sender.submit(replace(call, place=place)).receipt
        if self._sender is None:
            raise UsageError(f"{call.name} needs a key, and there is none; give the contracts a sender")
        return self._sender.send(call)

    def reveal(self, name: str, commit: Callable[[bytes], Call], reveal: Callable[[bytes], Call]) -> TxReceipt | None:
        """Commit to a random salt, and in a later block reveal it: the receipt of the latter, or None while that is under way.

        ``name`` says for what: it is done once. A commitment that has expired, or is not there, is made anew at the next try.
        Raises TransactionFailed as ``deliver``.
        """
        place = f"{name}: revealed"
        try:
            if (sender := self._recording) is not None and (known := sender.answer(place)) is not None:
                return known.receipt
            if (salt := self._committed(name, commit)) is None:
                return None
            receipt = self.deliver(reveal(salt), place)
        except TransactionFailed as error:
            if any(reason in str(error) for reason in SPENT):
                self._forget(name)
            raise
        self._salts.pop(name, None)
        return receipt

    @property
    def _recording(self) -> TransactionSender | None:
        """The sender, if it keeps a journal."""
        sender = self._sender
        return sender if isinstance(sender, TransactionSender) and sender.journal is not None else None

    def _committed(self, name: str, commit: Callable[[bytes], Call]) -> bytes | None:
        """The salt that a block holds the commitment to, or None while that is on its way."""
        if name in self._salts:
            return self._salts[name]
        journal = None if self._recording is None else self._recording.journal
        # In a journal it is on the disk before anybody sees the commitment.
        salt = secrets.token_bytes(SALT_BYTES) if journal is None else journal.salt(name)
        call = commit(salt)
        try:
            if self.deliver(call, f"{name}: committed to {call.digest.hex()}") is None:
                return None
        except TransactionFailed as error:
            if MADE not in str(error):
                raise  # else it was made before a restart
        if journal is None:
            self._salts[name] = salt
        return salt

    def _forget(self, name: str) -> None:
        if (sender := self._recording) is not None:
            assert sender.journal is not None
            sender.journal.forget_salt(name)
        self._salts.pop(name, None)
