"""Dishonest trainers: an executor that runs every step as it should but one, and commits to what it made up.

The lie is consistent: everything after it follows from it, so that only the falsified number itself is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bisection.boundary import Array, state_tensors
from bisection.nodes import Gather, Input
from bisection.program import Program
from trainer.capture import Captured
from trainer.executor import Executor
from trainer.lowering.step import BUFFER

__all__ = ["CHEATS", "CheatingExecutor", "cheat"]

Tamper = Callable[[int, list[Array]], list[Array]]
Forge = Callable[[Program, np.random.Generator], Callable[[Mapping[str, Array]], Tamper]]

OLD = 10  # how many steps back `replay-old-checkpoint` reaches


class CheatingExecutor:
    """An executor that lies at step ``at`` and nowhere else. It has the surface of trainer.Executor."""

    def __init__(
        self, honest: Executor, at: int, forge: Callable[[Mapping[str, Array]], Tamper], other: Executor | None = None
    ) -> None:
        self.program = honest.program
        self._honest, self._at, self._forge, self._other = honest, at, forge, other
        self._seen: dict[int, dict[str, Array]] = {}

    def _play(self, state: Mapping[str, Any]) -> tuple[Executor, Tamper | None]:
        step = int(state["step"])
        if step in (self._at, max(0, self._at - OLD)):
            self._seen.setdefault(step, {name: np.array(value) for name, value in state.items()})
        if step != self._at:
            return self._honest, None
        if self._other is not None:
            return self._other, None
        return self._honest, self._forge(self._seen[max(0, self._at - OLD)])

    def step(self, state: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, float]]:
        """See trainer.Executor."""
        executor, tamper = self._play(state)
        return executor.step(state, tamper)

    def trace(self, state: Mapping[str, Any]) -> list[Array]:
        """See trainer.Executor."""
        executor, tamper = self._play(state)
        return executor.trace(state, tamper)


def _trained(program: Program) -> list[int]:
    """The parameters and moments: all floats with more than one element that are no buffers."""
    tensors = enumerate(program.state)
    return [i for i, spec in tensors if spec.dtype == "f32" and spec.count > 1 and not spec.name.startswith(BUFFER)]


def _parameters(program: Program) -> list[int]:
    """Among those, the parameters: their moments carry a prefix before the name."""
    names = {program.state[i].name for i in _trained(program)}
    return [
        i
        for i in _trained(program)
        if not any(program.state[i].name.endswith("." + n) and n != program.state[i].name for n in names)
    ]


def _nudge(array: Array, element: int, by: int) -> Array:
    """The array with one element changed: a float by about a thousandth of itself, an integer by ``by``."""
    changed = array.copy()
    if changed.dtype == np.float32:
        changed.view(np.int32)[element] ^= 1 << 13
    else:
        changed[element] += by
    return changed


def _in_tensor(program: Program, tensor: int, rng: np.random.Generator, by: int = 1) -> Callable[[Mapping[str, Array]], Tamper]:
    """Change one random element of one tensor of the trace."""
    number = program.producer[tensor]
    output = tensor - program.nodes[number].outputs[0].tensor
    element = int(rng.integers(program.tensors[tensor].count))

    def tamper(node: int, outputs: list[Array]) -> list[Array]:
        if node != number:
            return outputs
        return [_nudge(array, element, by) if i == output else array for i, array in enumerate(outputs)]

    return lambda old: tamper


def _weight(program: Program, rng: np.random.Generator) -> Callable[[Mapping[str, Array]], Tamper]:
    return _in_tensor(program, state_tensors(program)[int(rng.choice(_parameters(program)))], rng)


def _moment(program: Program, rng: np.random.Generator) -> Callable[[Mapping[str, Array]], Tamper]:
    moments = sorted(set(_trained(program)) - set(_parameters(program)))
    return _in_tensor(program, state_tensors(program)[int(rng.choice(moments))], rng)


def _gradient(program: Program, rng: np.random.Generator) -> Callable[[Mapping[str, Array]], Tamper]:
    """A tensor that the update of a parameter reads and that is no state: its gradient, if the update still scales it in i64."""
    parameter = int(rng.choice(_parameters(program)))
    update = program.nodes[program.producer[state_tensors(program)[parameter]]]
    count = program.state[parameter].count
    computed = [
        ref.tensor
        for ref in update.inputs
        if ref.count == count and not isinstance(program.nodes[program.producer[ref.tensor]], Input)
    ]
    computed.sort(key=lambda tensor: program.tensors[tensor].dtype != "i64")  # beside it stand the exponents of its rows
    return _in_tensor(program, computed[0], rng, by=1 << 16)  # a lesser change could vanish in the rounding of the update


def _data_order(program: Program, rng: np.random.Generator) -> Callable[[Mapping[str, Array]], Tamper]:
    """The indices of the batch."""
    gather = next(node for node in program.nodes if isinstance(node, Gather))
    return _in_tensor(program, gather.inputs[1].tensor, rng)


def _old_state(program: Program, steps_back: int) -> Callable[[Mapping[str, Array]], Tamper]:
    """All parameters and moments are what they were some steps before (0: nothing was trained)."""
    places = {state_tensors(program)[i]: i for i in _trained(program)}

    def forge(old: Mapping[str, Array]) -> Tamper:
        before: dict[int, Array] = {}

        def tamper(number: int, outputs: list[Array]) -> list[Array]:
            node = program.nodes[number]
            if isinstance(node, Input) and node.source == "state":
                before[node.index] = outputs[0]
            replaced = list(outputs)
            for i, ref in enumerate(node.outputs):
                if ref.tensor in places:
                    index = places[ref.tensor]
                    replaced[i] = before[index] if steps_back == 0 else old[program.state[index].name].reshape(-1)
            return replaced

        return tamper

    return forge


CHEATS: dict[str, Forge | None] = {
    "weight": _weight,
    "moment": _moment,
    "gradient": _gradient,
    "data-order": _data_order,
    "skip-step": lambda program, rng: _old_state(program, 0),
    "learning-rate": None,  # runs another program
    "replay-old-checkpoint": lambda program, rng: _old_state(program, OLD),
}


def cheat(kind: str, captured: Captured, other: Captured, at: int, rng: np.random.Generator) -> CheatingExecutor:
    """The executor of a trainer that cheats by ``kind`` at step ``at``. ``other`` is the same job with another learning rate."""
    honest = Executor(captured.program, captured.data)
    forge = CHEATS[kind]
    if forge is None:
        return CheatingExecutor(honest, at, lambda old: lambda node, outputs: outputs, Executor(other.program, other.data))
    return CheatingExecutor(honest, at, forge(captured.program, rng))
