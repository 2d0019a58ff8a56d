"""Measures one task in a process of its own, which prints what it found as JSON: all figures of one answer share that process.

A contender's turn is a few steps; the contenders take turns, so that what disturbs the machine disturbs them alike.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks._models import TASKS, Task
from trainer import capture
from trainer.capture import Captured
from trainer.executor import Executor
from trainer.kernels.hashing import roots_of
from trainer.recorder import Recorder
from trainer.store import byte_view

__all__ = ["COMMITTED", "COMPILED", "DETERMINISTIC", "EAGER", "ask"]

EAGER, DETERMINISTIC, COMPILED = "float32", "float32, deterministic", "float32, torch.compile"
COMMITTED = ", committed"
"""Contenders by name. Refstep's are the operand bits, then the same with commitments every step."""

TURN_SECONDS = 0.3
MOST_STEPS = 50  # in a turn
FEWEST_REPEATS = 3
NEVER = 1 << 40  # steps between checkpoints: commitments are measured by themselves

Moment = tuple[float, float]
Turn = Callable[[int], Moment]
"""Runs so many steps; (wall seconds, processor seconds of all threads) a step."""


def ask(question: str, task: str, environment: Mapping[str, str] | None = None, **options: Any) -> dict[str, Any]:
    """What a new process finds: ``question`` is one of QUESTIONS, whose arguments are the options."""
    asked = json.dumps([question, task, options])
    command = [sys.executable, "-m", "benchmarks._timing", asked]
    said = subprocess.run(command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(said.stdout.splitlines()[-1])


# Contenders -------------------------------------------------------------------------------------------------------------


def _now() -> Moment:
    return time.perf_counter(), time.process_time()


def _since(start: Moment, steps: int) -> Moment:
    wall, processor = _now()
    return (wall - start[0]) / steps, (processor - start[1]) / steps


def _turns(step: Callable[[], None]) -> Turn:
    def turn(steps: int) -> Moment:
        start = _now()
        for _ in range(steps):
            step()
        return _since(start, steps)

    return turn


def _plain(task: Task, compiled: bool = False) -> Callable[[], None]:
    """A step as plain PyTorch does it; the compiled one also has torch's fused optimizer."""
    model, optimizer, data = task.make(fused=compiled)
    loss = torch.compile(task.loss) if compiled else task.loss
    count = len(next(iter(data.values())))

    def step() -> None:
        chosen = torch.randint(0, count, (task.batch,))
        optimizer.zero_grad()
        loss(model, {name: tensor[chosen] for name, tensor in data.items()}).backward()
        optimizer.step()

    return step


def _deterministic(task: Task) -> Callable[[], None]:
    plain = _plain(task)

    def step() -> None:
        torch.use_deterministic_algorithms(True)
        plain()
        torch.use_deterministic_algorithms(False)

    return step


def _captured(task: Task, bits: int) -> Captured:
    model, optimizer, data = task.make()
    return capture(model, task.loss, optimizer, data, task.batch, operand_bits=bits)


def _executed(captured: Captured, threads: int) -> Callable[[], None]:
    executor, state = Executor(captured.program, captured.data, threads=threads), captured.state

    def step() -> None:
        nonlocal state
        state, _ = executor.step(state)

    return step


@contextmanager
def _recorded(captured: Captured, threads: int) -> Iterator[Turn]:
    """Turns of a recorder. A step's time is that from the recording of one step to that of the next, while steps go on: each has
    the hashing of the state before it beside it."""
    executor = Executor(captured.program, captured.data, threads=threads)
    with TemporaryDirectory(prefix="refstep-bench-") as folder:
        arguments = (folder, captured.program, captured.state, captured.data, executor)
        with Recorder(*arguments, checkpoint_every=NEVER, keep_checkpoints=1) as recorder:

            def turn(steps: int) -> Moment:
                marks: list[Moment] = []
                recorder.run(recorder.step + steps + 2, lambda step, metrics: marks.append(_now()))
                first, last = marks[0], marks[-2]  # no step is executed before the last mark
                return (last[0] - first[0]) / steps, (last[1] - first[1]) / steps

            yield turn


# Questions --------------------------------------------------------------------------------------------------------------


def _steps(task: Task, bits: Sequence[int], threads: int, repeats: int, seconds: float, compiled: bool) -> dict[str, Any]:
    """Time of a step of every contender in every repeat, of which there are ``repeats``, or what ``seconds`` allow, or three.

    ``compiled``: whether torch.compile is among them. ``bits`` is not empty.
    """
    torch.set_num_threads(threads)
    turns = {EAGER: _turns(_plain(task)), DETERMINISTIC: _turns(_deterministic(task))}
    if compiled:
        turns[COMPILED] = _turns(_plain(task, compiled=True))
    with ExitStack() as stack:
        for b in bits:
            captured = _captured(task, b)
            turns[str(b)] = _turns(_executed(captured, threads))
            turns[f"{b}{COMMITTED}"] = stack.enter_context(_recorded(captured, threads))
        for turn in turns.values():
            turn(2)
        steps = min(MOST_STEPS, max(1, round(TURN_SECONDS / turns[EAGER](1)[0])))
        taken: dict[str, list[Moment]] = {name: [] for name in turns}
        started = time.perf_counter()
        for done in range(repeats):
            if done >= FEWEST_REPEATS and time.perf_counter() - started > seconds:
                break
            for name, turn in turns.items():
                taken[name].append(turn(steps))
    state = [byte_view(array) for array in captured.state.values()]
    found = {name: {"wall": [w for w, _ in row], "cpu": [c for _, c in row]} for name, row in taken.items()}
    parameters = sum(parameter.numel() for parameter in task.make()[0].parameters())
    hashing = median(_turns(lambda: roots_of(state) and None)(1)[1] for _ in range(5))
    return {"parameters": parameters, "taken": found, "hashing": hashing, "state": sum(len(part) for part in state)}


def _memory(task: Task, contender: str) -> dict[str, Any]:
    """Most bytes of memory in a few steps, above what the process had before there was a model."""
    warm = torch.randn(64, 64, requires_grad=True)
    (warm @ warm).sum().backward()
    before = _resident()["RssAnon"]
    with ExitStack() as stack:
        if contender == EAGER:
            turn = _turns(_plain(task))
        else:
            captured = _captured(task, int(contender.removesuffix(COMMITTED)))
            threads = torch.get_num_threads()
            committed = contender.endswith(COMMITTED)
            turn = stack.enter_context(_recorded(captured, threads)) if committed else _turns(_executed(captured, threads))
            del captured
        turn(2)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what capture has left unused
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        turn(3)
        after = _resident()
        return {"bytes": after["VmHWM"] - after["RssFile"] - before}


def _resident() -> dict[str, int]:
    """This process's resident memory in bytes: peak (VmHWM), anonymous (RssAnon), and mapped files such as libraries (RssFile)."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) << 10 for row in rows if row and row[0] in ("VmHWM:", "RssAnon:", "RssFile:")}


def _first(task: Task, bits: int) -> dict[str, Any]:
    """Seconds of capture, and from there to the end of the first step."""
    started = time.perf_counter()
    captured = _captured(task, bits)
    between = time.perf_counter()
    _executed(captured, torch.get_num_threads())()
    return {"capture": between - started, "first": time.perf_counter() - between}


QUESTIONS: dict[str, Callable[..., dict[str, Any]]] = {"steps": _steps, "memory": _memory, "first": _first}


def main() -> None:
    """Answer."""
    question, task, options = json.loads(sys.argv[1])
    print(json.dumps(QUESTIONS[question](TASKS[task], **options)))


if __name__ == "__main__":
    main()
