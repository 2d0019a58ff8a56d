"""``refstep challenger …``: watching over jobs."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from bisection.errors import UsageError
from contracts.cli import attached, command, wei
from contracts.settings import setting
from trainer.cli import NodeSettings

__all__ = ["add_commands"]


@dataclass(frozen=True)
class ChallengerSettings(NodeSettings):
    """A challenger node."""

    mode: str = setting("`challenge`: dispute what is wrong; `watch`: report it only", "challenge")
    max_bond: str = setting("stake no more than this on one game, in ether", "1")


def _run(settings: ChallengerSettings, arguments: Namespace) -> None:
    from challenger.node import ChallengerNode, Mode
    from trainer.runtime import console_log, run

    if settings.mode not in {mode.value for mode in Mode}:
        raise UsageError(f"mode must be `challenge` or `watch`, not {settings.mode!r}")
    max_bond = wei(settings.max_bond, "max_bond")
    deployment, sender = attached(settings, settings, confirmations=settings.confirmations)
    assert sender is not None
    log = console_log()
    node = ChallengerNode(
        deployment,
        sender.address,
        settings.folder,
        mode=Mode(settings.mode),
        max_bond=max_bond,
        device=settings.device,
        checkpoint_every=settings.checkpoint_every,
        log=log,
    )
    log("challenger started", account=sender.address, mode=settings.mode, chain=deployment.book.chain_id)
    run(node, settings.poll_seconds, log)


def add_commands(commands: Any) -> None:
    """Add ``challenger`` to the command line."""
    group = commands.add_parser("challenger", help="run a challenger node").add_subparsers(required=True, metavar="COMMAND")
    command(group, "run", "replay every posted segment, and dispute the first wrong number", ChallengerSettings, _run)
