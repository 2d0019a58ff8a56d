"""One whole step as a program: the batch, the traced forward and backward pass, the optimizer, the counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bisection.program import Program, TensorSpec
from trainer import clipping, optimizers
from trainer.lowering.builder import Builder, Value
from trainer.lowering.expression import apply, real
from trainer.lowering.interpret import Results, draws, interpret
from trainer.lowering.order import batch_indices
from trainer.lowering.randomness import keys
from trainer.lowering.table import DTYPES, convert
from trainer.lowering.trace import Trace
from trainer.lowering.views import narrow, reshape

__all__ = ["BUFFER", "RATE", "STEP", "Step", "Tensors"]

Tensors = dict[str, np.ndarray]

STEP = "step"  # the state tensor that counts steps
BUFFER = "buffer."  # begins the name of a buffer, in the state if the step changes it, else in the data
RATE = "schedule.lr"  # the learning rates of group 0; those of group n have .n after it

_NUMPY = {"float32": "f32", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64"}


@dataclass(frozen=True)
class Step:
    """A traced step with its optimizer, and the tensors at its boundary before the first step.

    ``state`` holds parameters, what the optimizer keeps, the buffers that the model changes and the counter. ``data`` holds the
    examples, batched along their first dimension, constants (other buffers, and ``constant.<name>``) and learning rates.
    ``notes`` gives at least ``operand_bits``, ``batch_size`` and ``seed``; ``accumulate``, ``clip_norm`` and ``clip_value`` count
    where they are given.
    """

    traced: Trace
    groups: Sequence[optimizers.Group]
    state: Tensors
    data: Tensors
    notes: Mapping[str, Any]

    def lower(self, show: Sequence[str] = ()) -> Program:
        """The program of this step.

        ``show`` names tensors that become metrics beside the loss: ``examples`` (the indices of the batch) and
        ``gradient.<parameter>`` (before clipping).
        """
        builder = Builder()
        state_specs, data_specs = _specs(self.state), _specs(self.data)
        held = {t.name: builder.input("state", i, t.dtype, t.shape) for i, t in enumerate(state_specs)}
        given = {t.name: builder.input("data", i, t.dtype, t.shape) for i, t in enumerate(data_specs)}
        examples = self._examples(builder, held[STEP], given)
        found = self._passes(builder, held, given, examples)
        metrics, gradients = {"loss": found.loss, **found.metrics}, found.gradients
        if "clip_norm" in self.notes:
            gradients, metrics["grad_norm"] = clipping.by_norm(builder, gradients, self.notes["clip_norm"])
        elif "clip_value" in self.notes:
            gradients = clipping.by_value(gradients, self.notes["clip_value"])
        new = {STEP: Value((), "i64", apply("add64", held[STEP].expr, 1))}
        new |= {BUFFER + name: value for name, value in found.buffers.items()}
        at = optimizers.Update(builder, held[STEP], held, gradients, self._rates(builder, held[STEP], given), new)
        for group in self.groups:
            optimizers.update(group, at)
        for i, spec in enumerate(state_specs):
            builder.output(i, new.get(spec.name, held[spec.name]), spec.dtype)
        shown = {"examples": examples, **{f"gradient.{name}": value for name, value in found.gradients.items()}}
        metrics |= {name: value for name, value in shown.items() if name in show and value is not None}
        return builder.finish(state_specs, data_specs, metrics, self.notes)

    def _examples(self, builder: Builder, step: Value, given: Mapping[str, Value]) -> Value | None:
        """The indices of the examples of all micro-batches; None if the step reads none."""
        used = next((name for _, kind, name in self.traced.leaves() if kind == "data"), None)
        if used is None:
            return None
        count = self.notes["batch_size"] * self.notes.get("accumulate", 1)
        return batch_indices(builder, step, count, given[used].shape[0], self.notes["seed"])

    def _rates(self, builder: Builder, step: Value, given: Mapping[str, Value]) -> dict[int, Value]:
        """The learning rate of each group that follows a schedule, whose last value stays."""
        rates = {}
        for group in self.groups:
            if (table := given.get(group.scalar(RATE))) is not None:
                last = table.count - 1
                at = apply("select64", apply("lt64", step.expr, last), step.expr, last)
                rates[group.number] = builder.gather(table, Value((), "i64", at))
        return rates

    def _passes(self, builder: Builder, held: Mapping[str, Value], given: Mapping[str, Value], examples: Value | None) -> Results:
        """Forward and backward for every micro-batch: buffers go from one to the next, all else becomes the mean."""
        count, size = self.notes.get("accumulate", 1), self.notes["batch_size"]
        drawn = len(draws(self.traced))
        every_key = keys(builder, held[STEP], self.notes["seed"], count * drawn) if drawn else None
        values = {("parameter", name): value for name, value in held.items()}
        values |= {(kind, name): given[f"{kind}.{name}"] for _, kind, name in self.traced.leaves() if f"{kind}.{name}" in given}
        values |= {("buffer", name): held[BUFFER + name] for name in self.traced.buffers}
        total: Results | None = None
        for i in range(count):
            batch = None if examples is None else narrow(examples, 0, i * size, size)
            leaves = {}
            for node, kind, name in self.traced.leaves():
                value = builder.gather(given[name], batch) if kind == "data" and batch is not None else values[kind, name]
                leaves[node] = _typed(value, node)
            own = [reshape(builder, narrow(every_key, 0, i * drawn + d, 1), ()) for d in range(drawn)] if every_key else []
            found = interpret(builder, self.traced, leaves, self.notes["operand_bits"], own)
            values |= {("buffer", name): value for name, value in found.buffers.items()}
            total = found if total is None else _sum(builder, total, found)
        assert total is not None
        return total if count == 1 else _mean(total, count)


def _typed(value: Value, node: torch.fx.Node) -> Value:
    """``value`` as the element type that PyTorch gives ``node``."""
    return Value(value.shape, DTYPES[node.meta["val"].dtype], value.expr)


def _sum(builder: Builder, a: Results, b: Results) -> Results:
    """Loss, metrics and gradients added up, the buffers of ``b``."""

    def plus(x: Value, y: Value) -> Value:
        exprs = (convert(v.expr, v.dtype, "f32") for v in (x, y))
        return builder.keep(Value(x.shape, "f32", apply("fadd", *exprs)))

    def each(x: Mapping[str, Value], y: Mapping[str, Value]) -> dict[str, Value]:
        return {name: plus(value, y[name]) for name, value in x.items()}

    return Results(plus(a.loss, b.loss), each(a.metrics, b.metrics), each(a.gradients, b.gradients), b.buffers)


def _mean(total: Results, count: int) -> Results:
    """Loss, metrics and gradients divided by ``count``."""

    def part(x: Value) -> Value:
        return Value(x.shape, "f32", apply("fdiv", x.expr, real(count)))

    def each(values: Mapping[str, Value]) -> dict[str, Value]:
        return {name: part(value) for name, value in values.items()}

    return Results(part(total.loss), each(total.metrics), each(total.gradients), total.buffers)


def _specs(tensors: Tensors) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, _NUMPY[str(t.dtype)], tuple(t.shape)) for name, t in tensors.items())
