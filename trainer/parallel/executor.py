"""One program executed by several workers, with the bits of one.

Worker 0 leads: it records, and each of its steps calls the others, who follow. Every worker ends a step with the whole state, so
the next one starts without an exchange. Traces, which only disputes ask for, are made by worker 0 alone with an ordinary executor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from bisection.boundary import LITTLE_ENDIAN, Array, data_root, fitting
from bisection.errors import UnavailableError, UsageError
from bisection.program import Program
from trainer.executor import Executor
from trainer.parallel.exchange import Exchange
from trainer.parallel.plan import Plan, shard
from trainer.parallel.stretch import MakeExecutor, Stretch

__all__ = ["ParallelExecutor"]

STOP, STEP, LOAD = range(3)  # what worker 0 says: stop; step from the state that all hold; take my state, then step

State = Mapping[str, Array]


class ParallelExecutor:
    """Runs a program's steps on all workers of a process group; on worker 0 it is a trainer.recorder.Executes.

    ``data``: as for trainer.Executor, the same on every worker. ``group``: an initialised torch.distributed group, by default all
    processes. ``device``: this worker's torch device. ``root``: the data root, if it is known; else it is computed. ``make`` builds
    what executes the stretches between exchanges.

    Worker 0 calls ``step`` as often as it likes, then ``close``, or uses this in a ``with``. The others call ``follow``.

    Raises UsageError when torch.distributed is not initialised, when the workers were given different programs or data, or when the
    batch cannot be cut into as many parts; UnavailableError, here and in every method, when another worker is gone or late.
    """

    def __init__(
        self,
        program: Program,
        data: Mapping[str, Any],
        group: dist.ProcessGroup | None = None,
        *,
        device: str = "cpu",
        root: bytes | None = None,
        make: MakeExecutor | None = None,
    ) -> None:
        if not dist.is_initialized():
            raise UsageError("torch.distributed is not initialised: start the workers with torchrun and parallel.run_worker")
        self.program, self._data, self._device = program, data, device
        self._exchange = Exchange(group, torch.device(device))
        self.rank, self.world = self._exchange.rank, self._exchange.world
        if not self._exchange.agree(program.root + (root or data_root(program, data))):
            raise UsageError("the workers were given different programs or data: give all of them the same")
        self.plan = shard(program, self.world, self.rank)
        arrays = fitting(program.data, data, "data")
        self._stretches = _stretches(self.plan, arrays, make or (lambda own, given: Executor(own, given, device)))
        self._expires = _expires(self.plan)
        self._held: State | None = None  # the state that all workers hold
        self._alone: Executor | None = None
        self._open = True

    def __enter__(self) -> ParallelExecutor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(*[UnavailableError] if error else []):  # the first error is the one to tell
            self.close()

    # The leading worker

    def step(self, state: State) -> tuple[State, dict[str, float]]:
        """One step on all workers: (next state by name, metrics by name). A state that ``step`` returned must not be changed."""
        if self.rank != 0:
            raise UsageError(f"worker {self.rank} calls follow: only worker 0 calls step")
        if state is self._held:
            self._say(STEP)
        else:
            names = (spec.name for spec in self.program.state)
            self._held = dict(zip(names, fitting(self.program.state, state, "state"), strict=True))
            self._say(LOAD)
            self._share_state()
        return self._step()

    def trace(self, state: State) -> Sequence[Array]:
        """Every tensor of the step from ``state``, flat, in the trace's order, computed by this worker alone."""
        self._alone = self._alone or Executor(self.program, self._data, self._device)
        return self._alone.trace(state)

    def close(self) -> None:
        """Let the other workers go. On a worker that follows this does nothing."""
        if self.rank == 0 and self._open:
            self._open = False
            self._say(STOP)

    # The others

    def follow(self) -> None:
        """Take part in worker 0's steps until it closes."""
        if self.rank == 0:
            raise UsageError("worker 0 leads: it calls step, and close at the end")
        while (said := self._say(STOP)) != STOP:
            if said == LOAD:
                self._held = {spec.name: np.zeros(spec.shape, LITTLE_ENDIAN[spec.dtype]) for spec in self.program.state}
                self._share_state()
            self._step()

    # All together

    def _say(self, word: int) -> int:
        """Worker 0's ``word``, on every worker."""
        return int(self._exchange.broadcast(torch.tensor([word]))[0])

    def _share_state(self) -> None:
        assert self._held is not None
        shared = {name: self._exchange.broadcast(torch.tensor(array)) for name, array in self._held.items()}
        self._held = {name: tensor.cpu().numpy() for name, tensor in shared.items()}

    def _step(self) -> tuple[State, dict[str, float]]:
        assert self._held is not None
        before = [self._held[spec.name].reshape(-1) for spec in self.program.state]
        tensors = {ref.tensor: before[index] for ref, source, index in self.plan.boundary if source == "state"}
        for number, (work, stretch) in enumerate(zip(self.plan.rounds, self._stretches, strict=True)):
            if stretch is not None:
                tensors |= stretch.run(tensors)
            sources = {tensor: torch.from_numpy(tensors[tensor]) for tensor in work.exchanged}
            found = self._exchange.run(work, self.plan.mesh, sources)
            tensors |= {tensor: value.cpu().numpy() for tensor, value in found.items()}
            for tensor in self._expires[number]:
                tensors.pop(tensor, None)
        rows = zip(self.program.state, self.plan.state, strict=True)
        self._held = {spec.name: tensors[ref.tensor].reshape(spec.shape) for spec, ref in rows}
        return self._held, {name: float(tensors[ref.tensor][0]) for name, ref in self.plan.metrics.items()}


def _uses(plan: Plan) -> list[set[int]]:
    """The tensors that each round's nodes and exchanges read, and last those that the step results in."""
    rounds = [work.exchanged.union(ref.tensor for node in work.nodes for ref in node.inputs) for work in plan.rounds]
    return [*rounds, {ref.tensor for ref in (*plan.state, *plan.metrics.values())}]


def _expires(plan: Plan) -> list[set[int]]:
    """For each round the tensors that nothing needs after it."""
    uses = _uses(plan)
    return [uses[i].difference(*uses[i + 1 :]) for i in range(len(plan.rounds))]


def _stretches(plan: Plan, data: Sequence[Array], make: MakeExecutor) -> list[Stretch | None]:
    """What runs each round's nodes; None where a round has none."""
    fixed = {ref.tensor: data[index] for ref, source, index in plan.boundary if source == "data"}
    uses, stretches = _uses(plan), list[Stretch | None]()
    for i, work in enumerate(plan.rounds):
        written = {ref.tensor: ref for node in work.nodes for ref in node.outputs}
        read = {ref.tensor: ref for node in work.nodes for ref in node.inputs if ref.tensor not in written}
        later = work.exchanged.union(*uses[i + 1 :])
        given = [read[tensor] for tensor in sorted(read.keys() - fixed.keys())]
        kept = [written[tensor] for tensor in sorted(written.keys() & later)]
        stretches.append(Stretch(work.nodes, fixed, given, kept, make) if work.nodes else None)
    return stretches
