"""One worker of a data-parallel run, as a process that torchrun starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from bisection.boundary import Array, fitting
from bisection.errors import UnavailableError, UsageError
from bisection.merkle import Tree
from bisection.program import Program
from trainer.files import KnownRoots
from trainer.parallel.executor import ParallelExecutor
from trainer.recorder import Progress, Recorder
from trainer.store import byte_view

__all__ = ["run_worker"]


def run_worker(
    folder: str | Path,
    program: Program,
    state: Mapping[str, Array],
    data: Mapping[str, Array],
    until: int,
    *,
    device: str = "cpu",
    checkpoint_every: int = 100,
    timeout: float = 600,
    progress: Progress = lambda step, metrics: None,
) -> bytes | None:
    """Run the steps up to ``until`` together with the other workers; worker 0 records them in ``folder``.

    The environment says who this is, as torchrun sets it (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, LOCAL_RANK). ``device``
    "cuda" means the accelerator number LOCAL_RANK, and nccl; anything else gloo. ``timeout``: the seconds that a worker waits for
    the others before it gives up; longer than a checkpoint takes. Returns the root of the whole history on worker 0, else None.

    Raises UnavailableError when the workers do not find each other or one is lost, UsageError for an accelerator that is not there,
    and as ParallelExecutor and Recorder do.
    """
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("device 'cuda' cannot be used here: torch sees no accelerator")
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnavailableError(f"the workers did not find each other: start all of them with torchrun ({reason})") from None
    try:
        known = KnownRoots(Path(folder) / f"data-{dist.get_rank()}.json")
        root = Tree(known.roots_of([byte_view(array) for array in fitting(program.data, data, "data")])).root
        with ParallelExecutor(program, data, device=device, root=root) as executor:
            if executor.rank != 0:
                executor.follow()
                return None
            with Recorder(folder, program, state, data, executor, checkpoint_every=checkpoint_every) as recorder:
                recorder.run(until, progress)
                return Tree(recorder.recording.leaves(recorder.start, recorder.recording.count)).root
    finally:
        dist.destroy_process_group()
