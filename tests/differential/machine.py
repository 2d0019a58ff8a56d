"""Runs a stored job in a process of its own and says what came out: the target of test_machines.py.

    python -m tests.differential.machine FOLDER STEPS THREADS    with the job's specification as JSON on standard input

FOLDER is a trainer.store.Store that holds the job's material. Prints JSON: ``root``, the history root over STEPS steps;
``capability``, the instruction set that torch says it uses; ``eager``, a digest of what ordinary float32 training of a like model
arrives at in the same process, for comparison.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from typing import Any

import torch

from bisection.boundary import state_root
from bisection.merkle import Tree
from trainer.executor import Executor
from trainer.package import Commitments, Material, load
from trainer.store import Store

EAGER_STEPS = 20


def history_root(material: Material, steps: int) -> bytes:
    """The root over the state roots of ``steps`` steps on torch."""
    executor, state = Executor(material.program, material.data), material.state
    roots = [state_root(material.program, state)]
    for _ in range(steps):
        state, _ = executor.step(state)
        roots.append(state_root(material.program, state))
    return Tree(roots).root


def eager_digest() -> str:
    """What some steps of ordinary float32 training give: softmax, matrix products and AdamW as torch has them."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(256, 64, generator=generator), torch.randint(10, (256,), generator=generator)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(EAGER_STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def main(folder: str, steps: int, threads: int) -> None:
    """See above."""
    torch.set_num_threads(threads)
    spec: dict[str, Any] = {name: bytes.fromhex(v) if isinstance(v, str) else v for name, v in json.load(sys.stdin).items()}
    material = load(Store(folder), Commitments(**spec))
    root = history_root(material, steps)
    print(json.dumps({"root": root.hex(), "capability": torch.backends.cpu.get_cpu_capability(), "eager": eager_digest()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
