"""Data-parallel training with the bits of one worker (docs/parallel.md)."""

from trainer.parallel.executor import ParallelExecutor
from trainer.parallel.launch import run_worker
from trainer.parallel.plan import Plan, shard

__all__ = ["ParallelExecutor", "Plan", "run_worker", "shard"]
