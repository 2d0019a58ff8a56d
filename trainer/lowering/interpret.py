"""From a traced graph to values: every ATen operator through the one table."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bisection.errors import UnsupportedOperator
from trainer.lowering import (  # noqa: F401  (importing them fills the table)
    convolution,
    elementwise,
    extremes,
    indexing,
    lookups,
    pairs,
    pooling,
    rearranging,
    resampling,
    rounding,
    scans,
    shapes,
    sums,
)
from trainer.lowering.builder import Builder, Value
from trainer.lowering.randomness import RANDOM
from trainer.lowering.table import OPERATORS, Context
from trainer.lowering.trace import Trace

__all__ = ["SUPPORTED", "Results", "draws", "interpret"]

SUPPORTED: tuple[str, ...] = tuple(sorted(OPERATORS))
"""The ATen operators that can be lowered, by the names PyTorch's tracer gives them."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a traced step comes to: the loss and further metrics, the gradients that exist, and the buffers that it changes."""

    loss: Value
    metrics: Mapping[str, Value]
    gradients: Mapping[str, Value]
    buffers: Mapping[str, Value]


def interpret(
    builder: Builder, trace: Trace, inputs: Mapping[torch.fx.Node, Value], operand_bits: int, keys: Sequence[Value] = ()
) -> Results:
    """The results of ``trace``, given the values of ``trace.leaves()`` and a key for each of its ``draws``.

    Raises UnsupportedOperator, naming the first operator without a lowering.
    """
    _refuse_unknown(trace)
    known: dict[torch.fx.Node, Any] = dict(inputs)
    key_of = dict(zip(draws(trace), keys, strict=True))
    result: tuple[Any, ...] = ()
    for node in trace.graph.nodes:
        if node.op == "placeholder":
            continue
        if node.op == "output":
            result = tuple(known[x] if isinstance(x, torch.fx.Node) else None for x in node.args[0])
        elif node.target is operator.getitem:
            known[node] = known[node.args[0]][node.args[1]]
        else:
            known[node] = _lowered(builder, trace, node, known, operand_bits, key_of.get(node))
    loss, *rest = result
    named = iter(rest)
    metrics, gradients, buffers = (
        {n: next(named) for n in names} for names in (trace.metrics, trace.differentiated, trace.buffers)
    )
    return Results(loss, metrics, {name: g for name, g in gradients.items() if g is not None}, buffers)


def draws(trace: Trace) -> list[torch.fx.Node]:
    """The random operators of ``trace``, in order.

    Raises UnsupportedOperator for one in the backward pass: forward's draw is meant again, but another would be made.
    """
    found = [node for node in trace.graph.nodes if str(node.target) in RANDOM]
    for node in found:
        if not trace.in_forward(node):
            raise UnsupportedOperator(f"{node.target} is drawn again in the backward pass: switch activation checkpointing off")
    return found


def _lowered(
    builder: Builder, trace: Trace, node: torch.fx.Node, known: Mapping[torch.fx.Node, Any], operand_bits: int, key: Value | None
) -> Any:
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda x: known[x])
    ctx = Context(builder, operand_bits, str(node.target), trace.place(node), node.meta["val"], key)
    value = OPERATORS[str(node.target)](ctx, *args, **kwargs)
    if isinstance(value, Value) and uses(node) > 1:
        return builder.keep(value)
    return value


def uses(node: torch.fx.Node) -> int:
    """How many operators look at ``node``, directly or through views of it."""
    return sum(uses(user) if str(user.target) in shapes.VIEWS else 1 for user in node.users)


def _refuse_unknown(trace: Trace) -> None:
    for node in trace.graph.nodes:
        if node.op != "call_function":
            continue
        if _depends_on_values(node.meta.get("val")):
            raise UnsupportedOperator(
                f"{node.target}, used {trace.place(node)}, has no lowering: the size of its result may not depend on values; "
                "use torch.where instead of an index of truth values"
            )
        if node.target is not operator.getitem and str(node.target) not in OPERATORS:
            source = node.meta.get("original_aten", node.target)
            part = "" if str(source) == str(node.target) else f" (its part {node.target})"
            raise UnsupportedOperator(
                f"{source}{part}, used {trace.place(node)}, has no lowering; "
                f"`refstep doctor --operators` lists the {len(SUPPORTED)} operators that have one"
            )


def _depends_on_values(result: Any) -> bool:
    """Whether a dimension of ``result``, as PyTorch describes it, is known only when the program runs."""
    tensors = result if isinstance(result, tuple | list) else [result]
    return any(isinstance(size, torch.SymInt) for t in tensors if isinstance(t, torch.Tensor) for size in t.shape)
