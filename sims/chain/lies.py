"""What dishonest trainers claim to have computed: runs with one lie in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from bisection import reference
from bisection.boundary import Array, state_tensors, tensor_bytes
from bisection.errors import UsageError
from bisection.merkle import blob_tree
from bisection.nodes import Gather, Input, Map, Output
from bisection.program import Program
from sims.chain.runs import Execution, State, Work

__all__ = ["LIES", "Lie", "lying"]

NODE_LIES = ("map", "dot", "reduce", "gather", "scatter_add", "input")
LIES = (
    *NODE_LIES, "element", "moment", "state", "batch-order", "other-constant", "other-model", "skipped-step", "old-checkpoint",
    "nonsense",
)  # fmt: skip
"""How a run can depart from its program, at one step.

    map … input       one bit of what a node of this kind makes is wrong
    element           the same of any tensor
    moment            the same of an optimizer's moment
    state             the trace is right, but the state after the step is not what it says
    batch-order       the step sees its batch's first example again and again
    other-constant    the step is run with another constant in a map, such as a learning rate
    other-model       the parameters after the step are another model's: the same numbers in another order
    skipped-step      the state after the step is the one before it
    old-checkpoint    the state after the step is the first one of the run
    nonsense          in place of the state after the step stands a root of which nobody can show anything
"""
TRIES = 64  # different numbers falsified before a node kind is given up: a change can vanish in a rounding or a maximum


@dataclass(frozen=True)
class Lie:
    """A departure from the program at a step: ``kind`` is one of LIES, ``seed`` says which number is made wrong."""

    kind: str
    step: int
    seed: int = 0


def lying(job: Work, lie: Lie) -> Execution:
    """A run with one lie in it, after which every state is another one. Everything that follows from the lie is computed rightly.

    Where a kind of lie cannot be told of this work (no such node, or nothing changes), the state itself is falsified.
    Raises UsageError for an unknown kind or step.
    """
    if lie.kind not in LIES or not 0 <= lie.step < job.steps:
        raise UsageError(f"no lie of kind {lie.kind!r} at step {lie.step} of {job.steps}; there are {', '.join(LIES)}")
    for options in _attempts(job, lie):
        made = Execution(job.program, job.start, job.data, job.steps, lie.step, **options)
        if made.first_difference(job.honest) is not None:
            return made
    return lying(job, Lie("state", lie.step, lie.seed))


def _attempts(job: Work, lie: Lie) -> Iterable[dict[str, Any]]:
    """Ways to tell a lie, as arguments of Execution, of which the first that changes anything is told."""
    program, rng = job.program, np.random.default_rng([lie.seed, lie.step])
    if lie.kind == "nonsense":
        yield {"nonsense": blob_tree(b"no state" + lie.seed.to_bytes(8, "big")).root}
    elif lie.kind == "state":
        while True:
            name = program.state[int(rng.integers(len(program.state)))].name
            bit = rng.random()
            yield {"restate": lambda state, name=name, bit=bit: {**state, name: _flipped(state[name], bit)}}
    elif lie.kind in ("skipped-step", "old-checkpoint"):
        yield {"tamper": _earlier(program, job.honest.values(lie.step if lie.kind == "skipped-step" else 0))}
    elif lie.kind == "other-model":
        yield {"tamper": _reordered(program)}
    elif lie.kind == "other-constant":
        maps = [k for k, node in enumerate(program.nodes) if isinstance(node, Map) and node.scalar.constants]
        for number in rng.permutation(maps):
            yield {"other": _with_other_constant(program, int(number))}
    elif lie.kind == "batch-order":
        for tensor in dict.fromkeys(node.inputs[1].tensor for node in program.nodes if isinstance(node, Gather)):
            yield {"tamper": _in_tensor(program, tensor, lambda indices: np.full_like(indices, indices[0]))}
    else:
        for tensor in _candidates(program, lie.kind, rng):
            yield {"tamper": _in_tensor(program, tensor, partial(_flipped, which=rng.random()))}


def _candidates(program: Program, kind: str, rng: np.random.Generator) -> list[int]:
    """TRIES tensors, with repetitions, in which this kind of lie is one wrong bit."""
    if kind == "moment":
        made = [tensor for i, tensor in enumerate(state_tensors(program)) if i in _moments(program)]
    else:
        made = [
            ref.tensor
            for node in program.nodes
            if not isinstance(node, Output) and kind in ("element", node.NAME) and (kind == "input" or not isinstance(node, Input))
            for ref in node.outputs
        ]
    return [int(tensor) for tensor in rng.choice(made, TRIES)] if made else []


def _moments(program: Program) -> set[int]:
    """The optimizer's moments in the state: they are called after their parameter, with a prefix before its name."""
    names = [spec.name for spec in program.state]
    return {i for i, name in enumerate(names) if any(name.endswith(f".{other}") for other in names)}


def _flipped(array: Array, which: float) -> Array:
    """The array with one bit changed, ``which`` of the way through it."""
    changed = bytearray(tensor_bytes(array))
    bit = int(which * 8 * len(changed))
    changed[bit // 8] ^= 1 << bit % 8
    return np.frombuffer(bytes(changed), array.dtype).reshape(array.shape).copy()


def _in_tensor(program: Program, tensor: int, change: Callable[[Array], Array]) -> reference.Tamper:
    """One tensor of the trace is what ``change`` makes of it."""
    number = program.producer[tensor]
    output = tensor - program.nodes[number].outputs[0].tensor

    def tamper(node: int, outputs: list[Array]) -> list[Array]:
        return [change(x) if (node, k) == (number, output) else x for k, x in enumerate(outputs)]

    return tamper


def _with_other_constant(program: Program, number: int) -> Program:
    """The program with another last constant in one map: a float about an eighth larger or smaller, or another integer."""
    node = program.nodes[number]
    assert isinstance(node, Map)
    *rest, last = node.scalar.constants
    changed = replace(node, scalar=replace(node.scalar, constants=(*rest, last ^ (1 << 20 if last >> 24 else 1))))
    return replace(program, nodes=(*program.nodes[:number], changed, *program.nodes[number + 1 :]))


def _earlier(program: Program, state: State) -> reference.Tamper:
    """Every tensor that becomes the next state is what it was in ``state``."""
    return _next_state(program, lambda index, made: state[program.state[index].name].reshape(-1))


def _reordered(program: Program) -> reference.Tamper:
    """The parameters that a step makes stand in another order."""
    moments = _moments(program)
    return _next_state(program, lambda index, made: made if index in moments else np.roll(made, 1))


def _next_state(program: Program, change: Callable[[int, Array], Array]) -> reference.Tamper:
    """Every tensor that becomes the next state is what ``change`` says of its number in the state and of what was made."""
    places = {tensor: index for index, tensor in enumerate(state_tensors(program))}

    def tamper(node: int, outputs: list[Array]) -> list[Array]:
        made = zip(program.nodes[node].outputs, outputs, strict=True)
        return [change(places[ref.tensor], x) if ref.tensor in places else x for ref, x in made]

    return tamper
