"""``refstep challenger …``: watching over jobs."""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisection.errors import UsageError
from contracts.cli import acting, command, looking
from contracts.settings import ETHER, KeySettings, Wei, setting
from trainer.cli import JOURNAL, NodeSettings, require_device

__all__ = ["add_commands"]


@dataclass(frozen=True)
class ChallengerSettings(NodeSettings):
    """A challenger node."""

    keystore: Path | None = setting("an encrypted keystore file; not needed to watch", None)
    password_file: Path | None = setting("a file that holds the keystore's password; not needed to watch", None)
    mode: str = setting("`challenge`: dispute what is wrong; `watch`: only report it", "challenge")
    max_bond: Wei = setting("stake no more than this on one game, in ether", Wei(ETHER))
    max_jobs: int = setting("how many jobs to replay at once", 4, least=1)


def _keys(settings: ChallengerSettings) -> KeySettings:
    if settings.keystore is None or settings.password_file is None:
        raise UsageError("keystore and password_file must be set to challenge; --mode watch needs neither")
    return KeySettings(keystore=settings.keystore, password_file=settings.password_file)


def _run(settings: ChallengerSettings, arguments: Namespace) -> None:
    from challenger.node import ChallengerNode, Mode
    from contracts.journal import Journal
    from trainer.folder import node_folder
    from trainer.runtime import await_earlier_transactions, node_log, run, stop_signals

    if settings.mode not in {mode.value for mode in Mode}:
        raise UsageError(f"mode must be `challenge` or `watch`, not {settings.mode!r}")
    require_device(settings.device)
    sender = None
    if settings.mode == Mode.WATCH.value:
        deployment = looking(settings)
    else:
        deployment, sender = acting(settings, _keys(settings), settings.confirmations)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        folder = stack.enter_context(node_folder(settings.folder, "challenger", deployment.book))
        if sender is not None:
            sender.journal = stack.enter_context(Journal(folder / JOURNAL))
        log, account = node_log(), None if sender is None else sender.address
        node = ChallengerNode(
            deployment,
            account,
            folder,
            mode=Mode(settings.mode),
            max_bond=settings.max_bond,
            max_jobs=settings.max_jobs,
            device=settings.device,
            checkpoint_every=settings.checkpoint_every,
            keep_checkpoints=settings.keep_checkpoints,
            log=log,
        )
        log("challenger started", account=account, mode=settings.mode, chain=deployment.book.chain_id)
        if sender is not None:
            sender.recover()
            await_earlier_transactions(sender, settings.poll_seconds, log, stop)
        run(node, settings.poll_seconds, log, stop)


def add_commands(commands: Any) -> None:
    """Add ``challenger`` to the command line."""
    group = commands.add_parser("challenger", help="run a challenger node").add_subparsers(required=True, metavar="COMMAND")
    command(group, "run", "replay every posted segment, and dispute the first wrong number", ChallengerSettings, _run)
