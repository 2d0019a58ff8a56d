"""The same job and an ordinary float32 training under several settings of threads, instruction sets and libraries.

python -m benchmarks.machines
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks._world import machine
from benchmarks.disputes import table
from sims import digits
from tests.differential.machine import EAGER_STEPS
from tests.differential.test_machines import MACHINES, STEPS, run_on
from trainer.package import publish
from trainer.store import Store


def main() -> None:
    """Print a table: one history root for all, and as many float32 results as there are."""
    captured = digits.job(0)[1]
    with tempfile.TemporaryDirectory(prefix="refstep-machines-") as name:
        spec = publish(Store(Path(name)), captured.program, captured.state, captured.data)
        settings = {"one thread": ({}, 1), **MACHINES}
        found = {setting: run_on(*row, Path(name), spec) for setting, row in settings.items()}
    rows = [(setting, said["capability"], said["root"][:16], said["eager"][:16]) for setting, said in found.items()]
    header = ("setting", "instruction set", f"history root, {STEPS} steps", f"eager float32, {EAGER_STEPS} steps")
    print(table(header, rows))
    for key, what in (("root", "history roots"), ("eager", "results of eager float32 training")):
        print(f"\nDifferent {what}: {len({said[key] for said in found.values()})}")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
