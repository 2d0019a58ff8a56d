"""One whole step as a program: the batch, the traced forward and backward pass, the optimizer, the counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bisection.program import Program, TensorSpec
from trainer import optimizers
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import apply
from trainer.lowering.interpret import interpret
from trainer.lowering.order import batch_indices
from trainer.lowering.table import DTYPES
from trainer.lowering.trace import Trace

__all__ = ["STEP", "Step", "Tensors"]

Tensors = dict[str, np.ndarray]

STEP = "step"  # the state tensor that counts steps

_NUMPY = {"float32": "f32", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64"}


@dataclass(frozen=True)
class Step:
    """A traced step with its optimizer, and the tensors at its boundary before the first step.

    ``data`` holds the examples, batched along their first dimension, and constants named ``buffer.<name>`` and ``constant.<name>``.
    ``notes`` gives at least ``operand_bits``, ``batch_size`` and ``seed``.
    """

    traced: Trace
    groups: Sequence[optimizers.Group]
    state: Tensors
    data: Tensors
    notes: Mapping[str, Any]

    def lower(self, show: Sequence[str] = ()) -> Program:
        """The program of this step.

        ``show`` names tensors that become metrics beside the loss: ``examples`` (the indices of the batch) and
        ``gradient.<parameter>``.
        """
        builder = Builder()
        state_specs, data_specs = _specs(self.state), _specs(self.data)
        held = {t.name: builder.input("state", i, t.dtype, t.shape) for i, t in enumerate(state_specs)}
        given = {t.name: builder.input("data", i, t.dtype, t.shape) for i, t in enumerate(data_specs)}
        leaves = {}
        batch: Value | None = None
        for node, kind, name in self.traced.leaves():
            if kind == "data" and batch is None:
                batch = batch_indices(builder, held[STEP], self.notes["batch_size"], given[name].shape[0], self.notes["seed"])
            value = held[name] if kind == "parameter" else given[name if kind == "data" else f"{kind}.{name}"]
            if kind == "data" and batch is not None:
                value = builder.gather(value, batch)
            leaves[node] = Value(value.shape, DTYPES[node.meta["val"].dtype], value.expr)
        loss, gradients = interpret(builder, self.traced, leaves, self.notes["operand_bits"])
        new = {STEP: Value((), "i64", apply("add64", held[STEP].expr, 1))}
        at = optimizers.Update(builder, held[STEP], held, gradients, new)
        for group in self.groups:
            optimizers.update(group, at)
        for i, spec in enumerate(state_specs):
            builder.output(i, new.get(spec.name, held[spec.name]), spec.dtype)
        shown = {"examples": batch, **{f"gradient.{name}": value for name, value in gradients.items()}}
        metrics = {"loss": loss, **{name: value for name, value in shown.items() if name in show and value is not None}}
        return builder.finish(state_specs, data_specs, metrics, self.notes)


def _specs(tensors: Tensors) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, _NUMPY[str(t.dtype)], tuple(t.shape)) for name, t in tensors.items())
