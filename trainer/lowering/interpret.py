"""From a traced graph to values: every ATen operator through the one table."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch

from bisection.errors import UnsupportedOperator
from trainer.lowering import elementwise, lookups, shapes, sums  # noqa: F401  (importing them fills the table)
from trainer.lowering.builder import Builder, Value
from trainer.lowering.table import OPERATORS, Context
from trainer.lowering.trace import Trace

__all__ = ["SUPPORTED", "interpret"]

SUPPORTED: tuple[str, ...] = tuple(sorted(OPERATORS))
"""The ATen operators that can be lowered, by the names PyTorch's tracer gives them."""


def interpret(
    builder: Builder, trace: Trace, inputs: Mapping[torch.fx.Node, Value], operand_bits: int
) -> tuple[Value, dict[str, Value]]:
    """(loss, gradient of each parameter that has one), given the values of ``trace.leaves()``.

    Raises UnsupportedOperator, naming the first operator without a lowering.
    """
    _refuse_unknown(trace)
    known: dict[torch.fx.Node, Any] = dict(inputs)
    result: tuple[Any, ...] = ()
    for node in trace.graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            continue
        if node.op == "output":
            result = tuple(known[x] if isinstance(x, torch.fx.Node) else None for x in node.args[0])
        elif node.target is operator.getitem:
            known[node] = known[node.args[0]][node.args[1]]
        else:
            known[node] = _lowered(builder, trace, node, known, operand_bits)
    loss, *gradients = result
    return loss, {name: g for name, g in zip(trace.differentiated, gradients, strict=True) if g is not None}


def _lowered(builder: Builder, trace: Trace, node: torch.fx.Node, known: Mapping[torch.fx.Node, Any], operand_bits: int) -> Any:
    args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda x: known[x])
    ctx = Context(builder, operand_bits, str(node.target), trace.place(node), node.meta["val"])
    value = OPERATORS[str(node.target)](ctx, *args, **kwargs)
    if isinstance(value, Value) and uses(node) > 1:
        return builder.keep(value)
    return value


def uses(node: torch.fx.Node) -> int:
    """How many operators look at ``node``, directly or through views of it."""
    return sum(uses(user) if str(user.target) in shapes.VIEWS else 1 for user in node.users)


def _refuse_unknown(trace: Trace) -> None:
    for node in trace.graph.nodes:
        if node.op == "call_function" and node.target is not operator.getitem and str(node.target) not in OPERATORS:
            source = node.meta.get("original_aten", node.target)
            part = "" if str(source) == str(node.target) else f" (its part {node.target})"
            raise UnsupportedOperator(
                f"{source}{part}, used {trace.place(node)}, has no lowering; supported are {', '.join(SUPPORTED)}"
            )
