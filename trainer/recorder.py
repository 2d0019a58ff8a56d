"""Recording: running a job's steps, committing to every state, and answering for any step of it afterwards.

While a step is executed, the state before it is hashed, entered into the history, and saved where a checkpoint is due.

A recorder can be killed at any moment. A new one on the same folder goes on from the last checkpoint that verifies, and as a
step is a pure function, it ends with the identical history. Trainers and challengers record alike: a challenger's own replay is
a recording too.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError

from bisection.boundary import Array, bind
from bisection.errors import ProgramError, RefstepError, UsageError, VerificationError
from bisection.merkle import Tree
from bisection.program import Program
from bisection.reference import Tamper
from trainer.commit import Beside, FixedTensors, StateTrees
from trainer.files import KnownRoots
from trainer.recording import Identity, Recording
from trainer.store import byte_view
from trainer.tensorfile import file_parts

__all__ = ["Executes", "RecordedTrace", "Recorder", "Tampered"]

log = logging.getLogger(__name__)

State = Mapping[str, Array]
Progress = Callable[[int, Mapping[str, float]], None]

STATES_KEPT = 4
TRACES_KEPT = 2


class Executes(Protocol):
    """What runs steps: trainer.Executor, or something that deviates from it. One thread calls it at a time."""

    def step(self, state: State) -> tuple[State, Mapping[str, float]]:
        """(next state, metrics). The arrays stay as they are until two more steps have been run; nobody writes to them."""

    def trace(self, state: State) -> Sequence[Array]:
        """Every tensor of the step, flat, in the trace's order. The arrays are the caller's."""


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

    ``checkpoint_every``: steps between safetensors checkpoints. ``keep_checkpoints``: how many of them stay, besides the newest two
    (trainer.recording.kept): so looking back in a recording of n steps runs about 2 · n / ``keep_checkpoints`` steps at most, or
    ``checkpoint_every``. ``swap`` maps a step to what executes it instead of ``executor``.
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
        keep_checkpoints: int = 32,
        swap: Mapping[int, Executes] | None = None,
    ) -> None:
        if checkpoint_every < 1 or keep_checkpoints < 1:
            found = f"{checkpoint_every} and {keep_checkpoints}"
            raise UsageError(f"checkpoints are made every 1 or more steps, and 1 or more of them are kept, not {found}")
        self.program, self.start = program, start
        self._executor, self._swap = executor, dict(swap or {})
        self._every, self._most = checkpoint_every, keep_checkpoints
        self._executing = RLock()
        self._states: OrderedDict[int, tuple[State, Tree]] = OrderedDict()
        self._trees = StateTrees(program)
        self._beside: Beside | None = None
        self.not_finite: dict[str, int] = {}
        """The metrics that have become infinite or NaN since the recorder was made, each with the first step in which it was."""
        boundary = bind(program, state, data)
        first: State = {spec.name: array for spec, array in zip(program.state, boundary["state"], strict=True)}
        self._first = (first, self._trees.of(first))
        self._last: tuple[State, Tree] | None = self._first  # what is recorded last
        self._newest, self._lent = first, False  # what is executed last, and whether its arrays are the executor's own
        roots = KnownRoots(Path(folder) / "data.json").roots_of([byte_view(array) for array in boundary["data"]])
        self.data = FixedTensors(boundary["data"], roots)
        initial = self._first[1].root
        self.recording = Recording(folder, Identity(program.root.hex(), initial.hex(), self.data.tree.root.hex(), start))
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
        with self._executing:
            self._shelter()
            return self._standing()[0]

    @property
    def root(self) -> bytes:
        """The root of ``state``."""
        return self.recording.leaves(self.step, 1)[0]

    def run(self, until: int, progress: Progress = lambda step, metrics: None, stop: Callable[[], bool] = lambda: False) -> None:
        """Run steps until ``step`` is ``until``, or ``stop()``; then a checkpoint stands there.

        ``progress(step, metrics)`` is called when a step is recorded, with the next step's number and the metrics of the one done;
        by then the step after it may have been executed. Raises UnavailableError when the disk refuses: what is recorded stays.
        """
        heard: Callable[[], None] | None = None
        with self._executing:
            step, self._newest = self.step, self._standing()[0]
        try:
            with Beside() as self._beside:
                try:
                    while step < until and not stop():
                        with self._executing:
                            state, metrics = self._executes(step).step(self._newest)
                            self._beside.finish()
                            before, self._last = self._standing()[1], None  # its arrays can serve the next step
                            self._beside.do(partial(self._commit, step, before, state))
                            self._newest, self._lent = state, True
                        tell, heard = heard, None
                        if tell is not None:
                            tell()
                        heard = partial(self._hear, progress, step, metrics)
                        step += 1
                finally:
                    self._beside.finish()
                    if heard is not None:
                        heard()
            with self._executing:
                if self.step > self.start and self.step not in self.recording.checkpoints:
                    self._checkpoint(self._standing()[0])
        except BaseException:
            with self._executing:
                if self._lent:
                    self._last, self._lent = None, False  # the executor may have written over it
            raise

    def segment(self, start: int, length: int) -> RecordedTrace:
        """The trace of the steps start … start+length-1. Raises UnavailableError where they are not recorded yet."""
        return RecordedTrace(self, start, length)

    def _executes(self, step: int) -> Executes:
        return self._swap.get(step, self._executor)

    def _commit(self, step: int, before: Tree, state: State) -> None:
        """Record the state after ``step``; ``before`` is the tree of the one before it."""
        tree = self._trees.of(state) if step in self._swap else self._trees.after(before, state)
        self.recording.append(tree.root)
        self._last = (state, tree)
        if (step + 1 - self.start) % self._every == 0:
            self._checkpoint(state)

    def _checkpoint(self, state: State) -> None:
        self.recording.save(file_parts(state), self._every, self._most)

    def _hear(self, progress: Progress, step: int, metrics: Mapping[str, float]) -> None:
        for name in [name for name, value in metrics.items() if not math.isfinite(value) and name not in self.not_finite]:
            self.not_finite[name] = step
            message = "%s of step %d is %s, in the recording in %s: the steps go on, with the bits that the program defines"
            log.warning(message, name, step, metrics[name], self.recording.folder)
        progress(step + 1, metrics)

    def _standing(self) -> tuple[State, Tree]:
        """The state before ``step`` and its tree, recomputed where a run that failed has left none."""
        if self._last is None:
            self._last, self._lent = self.state_at(self.step), False
        return self._last

    def _shelter(self) -> None:
        """Copy the run's newest state, which the executor may write over in steps that are not the run's. For who has the lock."""
        if self._beside is not None:
            self._beside.wait()
        if self._lent:
            newest, self._newest, self._lent = self._newest, _copied(self._newest), False
            if self._last is not None and self._last[0] is newest:
                self._last = (self._newest, self._last[1])

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
                self.recording.sweep()
                log.info("recording goes on from the checkpoint at step %d", step)
                return
        self.recording.truncate(1)

    def _saved(self, step: int) -> tuple[State, Tree] | None:
        """The checkpoint at ``step``, when its bytes and the history up to it are what was recorded."""
        checkpoint = self.recording.checkpoints[step]
        try:
            if self.recording.history_digest(step) != checkpoint.history:
                raise VerificationError("the history before it is not the one that it was made with")
            state = self.recording.load(step)
            if set(state) != {spec.name for spec in self.program.state}:
                raise VerificationError("it does not hold the program's tensors")
            return state, self._checked(step, state)
        except (RefstepError, SafetensorError, OSError) as error:
            log.warning("the checkpoint at step %d is not usable: %s", step, error)
            return None

    def _checked(self, step: int, state: State) -> Tree:
        tree = self._trees.of(state)
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
        self._shelter()
        for number in range(at, step):
            state, _ = self._executes(number).step(state)
        try:
            return _copied(state), self._checked(step, state)
        except VerificationError as error:
            raise VerificationError(f"{error}: this machine did not repeat its own steps") from None

    def trace_at(self, step: int) -> Sequence[Array]:
        """Every tensor of ``step``. Raises as ``state_at``, and UnavailableError for a step that has not run."""
        self.recording.leaves(step, 2)
        with self._executing:
            self._shelter()
            return self._executes(step).trace(self.state_at(step)[0])

    @staticmethod
    def _keep(cache: OrderedDict[int, Any], key: int, value: Any, size: int) -> None:
        cache[key] = value
        while len(cache) > size:
            cache.popitem(last=False)


def _copied(state: State) -> State:
    return {name: np.array(array) for name, array in state.items()}


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
        return self._recorder.data.tree

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
                Recorder._keep(self._traces, step, (arrays, self._recorder.data.tree_with(arrays)), TRACES_KEPT)
            self._traces.move_to_end(step)
            return self._traces[step]

    def _expect(self, inside: bool, step: int) -> None:
        if not inside:
            raise ProgramError(f"a segment of {self.length} steps has no step {step}")
