"""Every error that Refstep raises on purpose.

    RefstepError                 exit code 1, the root
    ├── UsageError               2   a command line, file or value that the user can mend
    ├── ProgramError             3   a program, state or tensor that breaks the format
    ├── UnsupportedOperator      4   a PyTorch operator with no lowering
    ├── VerificationError        5   bytes that do not hash to the root they were asked for
    ├── UnavailableError         6   a server, file or chain that cannot be reached
    ├── ChainMismatch            7   a wrong chain id, or contracts that are not the expected ones
    ├── NumericsMismatch         8   a job in a numerics version that this build does not speak
    ├── KeyfileError             9   a missing or undecryptable key
    ├── TransactionFailed       10   a transaction that the chain refused
    └── IllegalMove             11   a move that the rules of the game forbid

Each carries one sentence for a person: what is wrong and what to do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ChainMismatch",
    "IllegalMove",
    "KeyfileError",
    "NumericsMismatch",
    "ProgramError",
    "RefstepError",
    "TransactionFailed",
    "UnavailableError",
    "UnsupportedOperator",
    "UsageError",
    "VerificationError",
]


class RefstepError(Exception):
    """The root of all expected failures; ``exit_code`` is what the command returns."""

    exit_code: ClassVar[int] = 1


class UsageError(RefstepError):
    """A command line, configuration file or value that the user can mend."""

    exit_code = 2


class ProgramError(RefstepError):
    """A program, state or tensor that breaks the format."""

    exit_code = 3


class UnsupportedOperator(RefstepError):
    """A PyTorch operator that has no lowering."""

    exit_code = 4


class VerificationError(RefstepError):
    """Bytes that do not hash to the root that they were asked for."""

    exit_code = 5


class UnavailableError(RefstepError):
    """A server, file or chain that cannot be reached."""

    exit_code = 6


class ChainMismatch(RefstepError):
    """A wrong chain id, or contracts that are not the expected ones."""

    exit_code = 7


class NumericsMismatch(RefstepError):
    """A job in a numerics version that this build does not speak."""

    exit_code = 8


class KeyfileError(RefstepError):
    """A missing key file, or one that the password does not open."""

    exit_code = 9


class TransactionFailed(RefstepError):
    """A transaction that the chain refused; the message holds the revert reason."""

    exit_code = 10


class IllegalMove(RefstepError):
    """A move that the rules of the game forbid."""

    exit_code = 11
