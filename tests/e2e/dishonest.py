"""A trainer that falsifies one weight and then hides all its data, as a process of its own: ``python -m tests.e2e.dishonest``.

Arguments: RPC URL, address book, keystore, password file, folder, HOST:PORT, and the step at which it lies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from contracts.cli import acting
from contracts.settings import ChainSettings, KeySettings
from sims.cheats import cheat
from sims.demo import Withholding
from trainer.capture import Captured
from trainer.node import TrainerNode
from trainer.package import Material
from trainer.recorder import Executes
from trainer.runtime import node_log, run, stop_signals
from trainer.service import Catalogue, ServiceThread, application
from trainer.store import Store


def main(rpc_url: str, book: str, keystore: str, password_file: str, folder: str, listen: str, step: str) -> None:
    """Run until told to stop."""

    def executor_of(material: Material) -> Executes:
        captured = Captured(material.program, material.state, material.data)
        return cheat("weight", captured, captured, int(step), np.random.default_rng(0))

    keys = KeySettings(keystore=Path(keystore), password_file=Path(password_file))
    deployment, sender = acting(ChainSettings(rpc_url=rpc_url, contracts=Path(book)), keys)
    host, _, port = listen.rpartition(":")
    catalogue = Catalogue(Store(Path(folder) / "store"))
    with stop_signals() as stop, ServiceThread(application(catalogue), host, int(port)) as url:
        options = {"executor_of": executor_of, "served_of": Withholding, "log": node_log()}
        run(TrainerNode(deployment, sender.address, Path(folder), url, catalogue, **options), 0.2, options["log"], stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
