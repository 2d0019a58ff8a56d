"""The executor: a program's steps with the reference's bits, by the fastest route that this machine has (docs/executor.md).

    compiled   generated C++ kernels on the processor, nodes fused into passes over rows (trainer/compiler)
    library    torch, one node after the other, on any device (trainer/torch_route)

Both give the same bits. ``refstep doctor`` says which route is taken and why.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import torch

from bisection.boundary import LITTLE_ENDIAN, Array, fitting, metrics_of, next_state, state_tensors
from bisection.errors import UnavailableError, UsageError
from bisection.nodes import Input, Output, Ref
from bisection.program import Program
from bisection.reference import Tamper
from trainer.compiler.run import Compiled
from trainer.kernels import dot
from trainer.kernels.toolchain import Toolchain, toolchain
from trainer.torch_route import LibraryRoute

__all__ = ["Executor", "compiled_route"]

log = logging.getLogger(__name__)


@cache
def compiled_route() -> Toolchain | str:
    """The toolchain of the compiled route, its products checked on this machine, or the reason why it cannot be taken."""
    chain = toolchain()
    if isinstance(chain, str):
        return chain
    try:
        wrong = dot.probe(dot.load(chain))
    except UnavailableError as error:
        return str(error)
    return f"this machine computes products wrongly: {wrong[0]}" if wrong else chain


class Executor:
    """Runs a program's steps.

    ``data`` maps the program's data names to numpy arrays or tensors of the declared type and shape. ``device`` is a torch device.
    The processor uses ``threads`` threads (default: as many as torch). States go in and come out as numpy arrays by name; those
    that come out are never written to again while anybody holds them. ``route`` is "compiled" or "library".

    Raises ProgramError when data or a state does not fit, UsageError for a device that is not there.
    """

    def __init__(self, program: Program, data: Mapping[str, Any], device: str = "cpu", threads: int | None = None) -> None:
        self.program = program
        try:
            self._device = torch.device(device)
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
        self._data = _flat(fitting(program.data, data, "data"))
        self._threads = threads or torch.get_num_threads()
        chain = compiled_route() if self._device.type == "cpu" else f"it runs on the processor, not on {self._device.type}"
        self._chain = chain
        self._nodes = [node for node in program.nodes if not isinstance(node, Input | Output)]
        self._made = {ref.tensor for node in self._nodes for ref in node.outputs}
        self._buffers = _Buffers()
        self._library: LibraryRoute | None = None
        self._step: Compiled | None = None
        self._trace: Compiled | None = None
        if isinstance(chain, str) and self._device.type == "cpu":
            log.warning("steps take the library route, which is slower: %s", chain)
        if isinstance(chain, Toolchain):
            self._step = Compiled(self._nodes, self._made.intersection([*state_tensors(program), *program.metrics.values()]), chain)

    @property
    def route(self) -> str:
        """The name of the route taken."""
        return "library" if self._step is None else "compiled"

    def trace(self, state: Mapping[str, Any], tamper: Tamper | None = None) -> list[Array]:
        """Every tensor of the step from ``state``, as flat numpy arrays in the trace's order.

        ``tamper`` maps (node number, outputs) to the outputs to go on with; such a step takes the library route.
        """
        before = self._before(state)
        if tamper is not None or not isinstance(self._chain, Toolchain):
            self._library = self._library or LibraryRoute(self.program, self._data, self._device)
            return self._library.trace(before, tamper)
        if self._trace is None:
            self._trace = Compiled(self._nodes, self._made, self._chain)
        tensors = self._run(self._trace, before, lambda ref: np.empty(ref.count, LITTLE_ENDIAN[ref.dtype]))
        return [tensors[number] for number in range(len(self.program.tensors))]

    def step(self, state: Mapping[str, Any], tamper: Tamper | None = None) -> tuple[dict[str, Array], dict[str, float]]:
        """One step: (next state by name, metrics by name)."""
        if self._step is None or tamper is not None:
            tensors: Mapping[int, Array] = dict(enumerate(self.trace(state, tamper)))
        else:
            tensors = self._run(self._step, self._before(state), self._buffers.take)
        return next_state(self.program, tensors), metrics_of(self.program, tensors)

    def _before(self, state: Mapping[str, Any]) -> list[Array]:
        return _flat(fitting(self.program.state, state, "state"))

    def _run(self, compiled: Compiled, before: list[Array], new: Callable[[Ref], Array]) -> dict[int, Array]:
        given = {
            node.outputs[0].tensor: (before if node.source == "state" else self._data)[node.index]
            for node in self.program.nodes
            if isinstance(node, Input)
        }
        made = {tensor: new(self.program.tensors[tensor]) for tensor in compiled.plan.wanted}
        compiled.run(given, made, self._threads)
        return given | made


def _flat(arrays: Iterable[Array]) -> list[Array]:
    """``arrays`` without their shapes, each where its elements are aligned: kernels may rely on that."""
    return [np.require(array.reshape(-1), requirements="A") for array in arrays]


class _Buffers:
    """Arrays for results. One is taken again when nobody holds it any more: fresh memory costs a page fault every 4 KiB."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], list[Array]] = {}
        self._turn = Lock()

    def take(self, ref: Ref) -> Array:
        """An array for the tensor ``ref`` with any contents, which nobody else holds."""
        with self._turn:  # between looking and taking
            known = self._known.setdefault((ref.count, ref.dtype), [])
            free = next((i for i in range(len(known)) if sys.getrefcount(known[i]) <= _HELD_BY_A_LIST), len(known))
            if free == len(known):
                known.append(np.empty(ref.count, LITTLE_ENDIAN[ref.dtype]))
            return known[free].view()


_UNHELD = [np.empty(0)]
_HELD_BY_A_LIST = sys.getrefcount(_UNHELD[0])  # and by the call that counts, which Python's versions do differently
