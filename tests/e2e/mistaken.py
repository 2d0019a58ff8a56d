"""A challenger whose own replay is wrong in one weight, as a process of its own: ``python -m tests.e2e.mistaken``.

Arguments: RPC URL, address book, keystore, password file, folder, and the step that it recomputes falsely.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from challenger.node import ChallengerNode
from contracts.cli import acting
from contracts.settings import ChainSettings, KeySettings
from sims.cheats import cheat
from trainer.capture import Captured
from trainer.package import Material
from trainer.recorder import Executes
from trainer.runtime import node_log, run, stop_signals


def main(rpc_url: str, book: str, keystore: str, password_file: str, folder: str, step: str) -> None:
    """Run until told to stop."""

    def executor_of(material: Material) -> Executes:
        captured = Captured(material.program, material.state, material.data)
        return cheat("weight", captured, captured, int(step), np.random.default_rng(0))

    keys = KeySettings(keystore=Path(keystore), password_file=Path(password_file))
    deployment, sender = acting(ChainSettings(rpc_url=rpc_url, contracts=Path(book)), keys)
    with stop_signals() as stop:
        log = node_log()
        run(ChallengerNode(deployment, sender.address, Path(folder), log=log, executor_of=executor_of), 0.2, log, stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
