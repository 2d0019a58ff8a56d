"""Recording: running a job's steps, committing to every state, and answering for any step of it afterwards.

A recorder can be killed at any moment. A new one on the same folder goes on from the last checkpoint that verifies, and as a
step is a pure function, it ends with the identical history. Trainers and challengers record alike: a challenger's own replay is
a recording too.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from bisection.boundary import Array, bind, state_tensors
from bisection.errors import ProgramError, RefstepError, UsageError, VerificationError
from bisection.merkle import Tree
from bisection.nodes import Input
from bisection.program import Program
from bisection.reference import Tamper
from trainer.recording import Identity, Recording
from trainer.store import byte_view, root_of

__all__ = ["Executes", "RecordedTrace", "Recorder", "Tampered"]

log = logging.getLogger(__name__)

State = Mapping[str, Array]
Progress = Callable[[int, Mapping[str, float]], None]

STATES_KEPT = 4
TRACES_KEPT = 2


class Executes(Protocol):
    """What runs steps: trainer.Executor, or something that deviates from it."""

    def step(self, state: State) -> tuple[State, Mapping[str, float]]:
        """(next state, metrics)."""

    def trace(self, state: State) -> Sequence[Array]:
        """Every tensor of the step, flat, in the trace's order."""


class TakesTamper(Protocol):
    """An executor whose node outputs can be changed on the way, as trainer.Executor's can."""

    def step(self, state: State, tamper: Tamper | None = None) -> tuple[State, Mapping[str, float]]:
        """As Executes."""

    def trace(self, state: State, tamper: Tamper | None = None) -> Sequence[Array]:
        """As Executes."""


@dataclass(frozen=True, slots=True)
class Tampered:
    """The execution of a dishonest trainer: ``tamper`` maps (node number, outputs) to the outputs that it goes on with."""

    executor: TakesTamper
    tamper: Tamper

    def step(self, state: State) -> tuple[State, Mapping[str, float]]:
        """See Executes."""
        return self.executor.step(state, self.tamper)

    def trace(self, state: State) -> Sequence[Array]:
        """See Executes."""
        return self.executor.trace(state, self.tamper)


class Recorder:
    """Runs and records the steps of a job in ``folder``. Steps are absolute; ``state`` is the state before step ``start``.

    ``checkpoint_every``: steps between safetensors checkpoints. ``swap`` maps a step to what executes it instead of ``executor``.
    One process records in a folder at a time. Other threads may read traces while one thread runs steps.

    Raises UsageError when the folder is in use or belongs to another job, ProgramError when state or data do not fit the program,
    UnavailableError when the folder cannot be written to.
    """

    def __init__(
        self,
        folder: str | Path,
        program: Program,
        state: State,
        data: Mapping[str, Array],
        executor: Executes,
        *,
        start: int = 0,
        checkpoint_every: int = 100,
        swap: Mapping[int, Executes] | None = None,
    ) -> None:
        if checkpoint_every < 1:
            raise UsageError(f"checkpoints are made every 1 or more steps, not every {checkpoint_every}")
        self.program, self.start = program, start
        self._executor, self._swap, self._every = executor, dict(swap or {}), checkpoint_every
        self._executing = RLock()
        self._states: OrderedDict[int, tuple[State, Tree]] = OrderedDict()
        self._carried = _carried_over(program)
        boundary = bind(program, state, data)
        self.data = Tree([root_of(byte_view(array)) for array in boundary["data"]])
        first: State = {spec.name: array for spec, array in zip(program.state, boundary["state"], strict=True)}
        self._first = (first, self._tree(first))
        self._last = self._first
        initial = self._first[1].root
        self.recording = Recording(folder, Identity(program.root.hex(), initial.hex(), self.data.root.hex(), start))
        try:
            self._resume(initial)
        except BaseException:
            self.recording.close()
            raise

    def close(self) -> None:
        """Give the folder free."""
        self.recording.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Recording

    @property
    def step(self) -> int:
        """The next step to run."""
        return self.start + self.recording.count - 1

    @property
    def state(self) -> State:
        """The state before ``step``."""
        return self._last[0]

    @property
    def root(self) -> bytes:
        """The root of ``state``."""
        return self._last[1].root

    def run(self, until: int, progress: Progress = lambda step, metrics: None, stop: Callable[[], bool] = lambda: False) -> None:
        """Run steps until ``step`` is ``until``, or ``stop()``; then a checkpoint stands there.

        ``progress(step, metrics)`` is called after each step with the next step's number and the metrics of the one just done.
        Raises UnavailableError when the disk refuses; what was recorded stays good.
        """
        while self.step < until and not stop():
            step = self.step
            with self._executing:
                state, metrics = self._executes(step).step(self.state)
            tree = self._next_tree(step, state)
            self.recording.append(tree.root)
            self._last = (state, tree)
            if (step + 1 - self.start) % self._every == 0:
                self._checkpoint()
            progress(step + 1, metrics)
        if self.step > self.start and self.step not in self.recording.checkpoints:
            self._checkpoint()

    def segment(self, start: int, length: int) -> RecordedTrace:
        """The trace of the steps start … start+length-1. Raises UnavailableError where they are not recorded yet."""
        return RecordedTrace(self, start, length)

    def _executes(self, step: int) -> Executes:
        return self._swap.get(step, self._executor)

    def _checkpoint(self) -> None:
        self.recording.save(safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in self.state.items()}))

    def _tree(self, state: State) -> Tree:
        return Tree([root_of(byte_view(state[spec.name])) for spec in self.program.state])

    def _next_tree(self, step: int, state: State) -> Tree:
        """The state tree after ``step``: a tensor that the program only carries over keeps its root, the others are hashed."""
        carried = {} if step in self._swap else self._carried
        before, rows = self._last[1].levels[0], enumerate(self.program.state)
        return Tree([before[carried[i]] if i in carried else root_of(byte_view(state[spec.name])) for i, spec in rows])

    # Resuming

    def _resume(self, initial: bytes) -> None:
        if self.recording.count and self.recording.leaves(self.start, 1)[0] != initial:
            log.warning("the history does not begin with the first state: recording starts over")
            self.recording.truncate(0)
        if self.recording.count == 0:
            self.recording.append(initial)
        for step in sorted(self.recording.checkpoints, reverse=True):
            if (saved := self._saved(step)) is not None:
                self.recording.truncate(step - self.start + 1)
                self._last = saved
                log.info("recording goes on from the checkpoint at step %d", step)
                return
        self.recording.truncate(1)

    def _saved(self, step: int) -> tuple[State, Tree] | None:
        """The checkpoint at ``step``, when its bytes and the history up to it are what was recorded."""
        checkpoint = self.recording.checkpoints[step]
        try:
            if self.recording.history_digest(step) != checkpoint.history:
                raise VerificationError("the history before it is not the one that it was made with")
            state = safetensors.numpy.load(self.recording.store.get_blob(checkpoint.blob))
            if set(state) != {spec.name for spec in self.program.state}:
                raise VerificationError("it does not hold the program's tensors")
            return state, self._checked(step, state)
        except (RefstepError, SafetensorError) as error:
            log.warning("the checkpoint at step %d is not usable: %s", step, error)
            return None

    def _checked(self, step: int, state: State) -> Tree:
        tree = self._tree(state)
        if tree.root != self.recording.leaves(step, 1)[0]:
            raise VerificationError(f"the state before step {step} does not have the root that was recorded")
        return tree

    # Looking back

    def state_at(self, step: int) -> tuple[State, Tree]:
        """The state before ``step`` and its tree, recomputed from the nearest state that is known and checked against the history.

        Raises UnavailableError when ``step`` is not recorded, VerificationError when this machine does not repeat itself.
        """
        self.recording.leaves(step, 1)
        with self._executing:
            if step not in self._states:
                self._keep(self._states, step, self._recomputed(step), STATES_KEPT)
            self._states.move_to_end(step)
            return self._states[step]

    def _recomputed(self, step: int) -> tuple[State, Tree]:
        at = max((kept for kept in self._states if kept <= step), default=self.start)
        state, tree = self._states.get(at, self._first)
        for checkpoint in sorted((s for s in self.recording.checkpoints if at < s <= step), reverse=True):
            if (saved := self._saved(checkpoint)) is not None:
                at, (state, tree) = checkpoint, saved
                break
        if at == step:
            return state, tree
        for number in range(at, step):
            state, _ = self._executes(number).step(state)
        try:
            return state, self._checked(step, state)
        except VerificationError as error:
            raise VerificationError(f"{error}: this machine did not repeat its own steps") from None

    def trace_at(self, step: int) -> Sequence[Array]:
        """Every tensor of ``step``. Raises as ``state_at``, and UnavailableError for a step that has not run."""
        self.recording.leaves(step, 2)
        with self._executing:
            return self._executes(step).trace(self.state_at(step)[0])

    @staticmethod
    def _keep(cache: OrderedDict[int, Any], key: int, value: Any, size: int) -> None:
        cache[key] = value
        while len(cache) > size:
            cache.popitem(last=False)


def _carried_over(program: Program) -> dict[int, int]:
    """The state tensors whose next value is, by the program, a state tensor as it was: {next: before}."""
    carried = {}
    for after, tensor in enumerate(state_tensors(program)):
        node = program.nodes[program.producer[tensor]]
        if isinstance(node, Input) and node.source == "state":
            carried[after] = node.index
    return carried


class RecordedTrace:
    """One segment of a recording, as bisection.trace.Trace: steps count from 0 within it; the last few traces stay in memory.

    It works while its recorder is open. Raises UnavailableError where the segment is not recorded yet.
    """

    def __init__(self, recorder: Recorder, start: int, length: int) -> None:
        self._recorder, self._start, self.length = recorder, start, length
        self._history = Tree(recorder.recording.leaves(start, length + 1))
        self._traces: OrderedDict[int, tuple[Sequence[Array], Tree]] = OrderedDict()
        self._lock = RLock()

    @property
    def program(self) -> Program:
        """See Trace."""
        return self._recorder.program

    def history(self) -> Tree:
        """See Trace."""
        return self._history

    def state(self, step: int) -> Tree:
        """See Trace. Raises ProgramError for a step outside the segment."""
        self._expect(0 <= step <= self.length, step)
        return self._recorder.state_at(self._start + step)[1]

    def data(self) -> Tree:
        """See Trace."""
        return self._recorder.data

    def tensors(self, step: int) -> Tree:
        """See Trace. Raises ProgramError for a step outside the segment."""
        return self._trace(step)[1]

    def tensor(self, step: int, number: int) -> bytes:
        """See Trace. Raises ProgramError for a step outside the segment, IndexError for a number that no tensor has."""
        return bytes(byte_view(self._trace(step)[0][number]))

    def _trace(self, step: int) -> tuple[Sequence[Array], Tree]:
        self._expect(0 <= step < self.length, step)
        with self._lock:
            if step not in self._traces:
                arrays = self._recorder.trace_at(self._start + step)
                tree = Tree([root_of(byte_view(array)) for array in arrays])
                Recorder._keep(self._traces, step, (arrays, tree), TRACES_KEPT)
            self._traces.move_to_end(step)
            return self._traces[step]

    def _expect(self, inside: bool, step: int) -> None:
        if not inside:
            raise ProgramError(f"a segment of {self.length} steps has no step {step}")
