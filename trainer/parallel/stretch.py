"""A stretch of a plan as a program of its own, so that whatever executes programs executes stretches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from bisection.boundary import LITTLE_ENDIAN, Array
from bisection.nodes import Input, Node, Output, Ref
from bisection.program import Program, TensorSpec

__all__ = ["MakeExecutor", "Steps", "Stretch"]


class Steps(Protocol):
    """An executor of one program, as trainer.Executor."""

    def step(self, state: Mapping[str, Any], /) -> tuple[Mapping[str, Array], Mapping[str, float]]:
        """(next state, metrics)."""


MakeExecutor = Callable[[Program, Mapping[str, Array]], Steps]
"""From a program and its data to its executor."""


class Stretch:
    """Nodes that run without an exchange between them.

    ``data``: the arrays of tensors that never change. ``given``: the other tensors that the nodes read. ``kept``: the tensors to
    hand out. Each is flat, and numbered as in ``nodes``.
    """

    def __init__(
        self, nodes: Sequence[Node], data: Mapping[int, Array], given: Sequence[Ref], kept: Sequence[Ref], make: MakeExecutor
    ) -> None:
        self._given, self._kept = given, kept
        # A program writes all of its state: what is only read is written as it was, what is only written starts as zeros.
        self._zeros = {_name(ref): np.zeros(ref.count, LITTLE_ENDIAN[ref.dtype]) for ref in kept}
        self._executor = make(*self._program(nodes, data))

    def _program(self, nodes: Sequence[Node], data: Mapping[int, Array]) -> tuple[Program, dict[str, Array]]:
        """The program with its data. Its tensors are numbered anew: what is given, the data, what the nodes write."""
        renamed: dict[int, Ref] = {}
        read = {ref.tensor: ref for node in nodes for ref in node.inputs}
        fixed = [read[tensor] for tensor in sorted(data.keys() & read.keys())]
        listed: list[Node] = []

        def number(ref: Ref) -> Ref:
            return renamed.setdefault(ref.tensor, Ref(len(renamed), ref.dtype, ref.count))

        for source, refs in (("state", self._given), ("data", fixed)):
            listed += [Input((), (number(ref),), source, i) for i, ref in enumerate(refs)]  # type: ignore[arg-type]
        for node in nodes:
            inputs = tuple(renamed[ref.tensor] for ref in node.inputs)
            listed.append(replace(node, inputs=inputs, outputs=tuple(number(ref) for ref in node.outputs)))
        state = [*self._given, *self._kept]
        listed += [Output((renamed[ref.tensor],), (), i) for i, ref in enumerate(state)]
        specs, data_specs = ([TensorSpec(_name(ref), ref.dtype, (ref.count,)) for ref in refs] for refs in (state, fixed))
        program = Program(tuple(listed), tuple(specs), tuple(data_specs))
        return program, {_name(ref): data[ref.tensor].reshape(-1) for ref in fixed}

    def run(self, tensors: Mapping[int, Array]) -> dict[int, Array]:
        """The kept tensors, from the given ones."""
        given = {_name(ref): tensors[ref.tensor] for ref in self._given}
        after, _ = self._executor.step({**self._zeros, **given})
        return {ref.tensor: after[_name(ref)] for ref in self._kept}


def _name(ref: Ref) -> str:
    return f"t{ref.tensor}"
