"""Capture: an ordinary PyTorch model, loss and optimizer become a program (docs/program.md).

The program is the whole step: which examples, forward, loss, backward, update. Nothing of Python is left in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from bisection.errors import UnsupportedOperator, UsageError
from bisection.program import MAX_NAME, Program
from trainer import optimizers, schedules
from trainer.lowering.reductions import OPERAND_BITS
from trainer.lowering.step import BUFFER, RATE, STEP, Step, Tensors
from trainer.lowering.table import DTYPES
from trainer.lowering.trace import Loss, Trace, trace
from trainer.schedules import Schedule

__all__ = ["Captured", "capture", "prepare"]


@dataclass(frozen=True)
class Captured:
    """A program with the state to start from and the data it reads.

    ``state`` and ``data`` hold one numpy array for every tensor that ``program.state`` and ``program.data`` name, in order.
    """

    program: Program
    state: Tensors
    data: Tensors

    def load_into(self, model: nn.Module, state: Mapping[str, np.ndarray]) -> None:
        """Copy the parameters and the buffers in ``state`` (a state of this program) into ``model``. Raises UsageError if one is
        missing or has another shape."""
        changed = {spec.name for spec in self.program.state}
        targets: dict[str, Tensor] = dict(model.named_parameters())
        targets |= {BUFFER + name: buffer for name, buffer in model.named_buffers() if BUFFER + name in changed}
        with torch.no_grad():
            for name, target in targets.items():
                value = state.get(name)
                if value is None or tuple(value.shape) != tuple(target.shape):
                    raise UsageError(f"the state holds no tensor {name!r} of shape {tuple(target.shape)}")
                target.copy_(torch.from_numpy(np.array(value)))


def capture(
    model: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    data: Mapping[str, Tensor],
    batch_size: int,
    *,
    operand_bits: int = 15,
    seed: int = 0,
    schedule: Schedule | None = None,
    steps: int | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
) -> Captured:
    """The training step of ``model`` as a program.

    ``loss(model, batch)`` gives a float32 scalar, or that and a dict of further scalars, which become metrics; ``batch`` holds
    ``batch_size`` examples of every tensor of ``data``, whose first dimension counts the examples. ``optimizer`` is a fresh one
    over ``model.parameters()``. Matrix products are quantised to ``operand_bits``; ``seed`` fixes the order of the data and all
    random draws. Float data of any width is stored as float32, integers in the smallest type that holds them. The model keeps its
    training or evaluation mode; buffers that it changes become part of the state.

    ``schedule`` sets the learning rate of every step: a scheduler of torch on ``optimizer``, run ahead for ``steps`` steps, or a
    list of factors (``trainer.schedules``). After its end the last rate stays. The gradients of ``accumulate`` micro-batches, each
    of ``batch_size``, are averaged for one update, then clipped to ``clip_norm`` all together (the norm becomes the metric
    ``grad_norm``) or each element to ``clip_value``.

    Raises UsageError for arguments that do not fit together and UnsupportedOperator for anything that has no lowering.
    """
    step = prepare(
        *(model, loss, optimizer, data, batch_size, operand_bits, seed),
        schedule=schedule,
        steps=steps,
        clip_norm=clip_norm,
        clip_value=clip_value,
        accumulate=accumulate,
    )
    return Captured(step.lower(), step.state, step.data)


def prepare(
    model: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    data: Mapping[str, Tensor],
    batch_size: int,
    operand_bits: int,
    seed: int,
    *,
    schedule: Schedule | None = None,
    steps: int | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
) -> Step:
    """Everything that ``capture`` needs to know of its arguments, checked and traced, before it is lowered."""
    _check_settings(model, optimizer, operand_bits, seed)
    examples, stored = _stored_data(data, batch_size)
    parameters = dict(model.named_parameters())
    names = {id(p): name for name, p in parameters.items()}
    groups = optimizers.groups_of(optimizer, names, isinstance(schedule, LRScheduler))
    notes = {
        "operand_bits": operand_bits,
        "seed": seed,
        "batch_size": batch_size,
        "optimizer": [{"class": group.optimizer, **group.options} for group in groups],
        "torch": torch.__version__.split("+")[0],
        **_gradient_notes(clip_norm, clip_value, accumulate),
    }
    if schedule is not None:
        rates = schedules.tables(schedule, steps, optimizer)
        stored |= {group.scalar(RATE): table for group, table in zip(groups, rates, strict=True)}
        notes["schedule"] = {"class": type(schedule).__name__, "steps": len(rates[0])}
    elif steps is not None:
        raise UsageError("steps= says how long the schedule is: leave it out, or give a schedule=")
    trained = tuple(name for group in groups for name in group.parameters if parameters[name].requires_grad)
    traced = trace(model, loss, {name: tensor[:batch_size] for name, tensor in examples.items()}, trained)
    stored |= _constants(model, traced)
    return Step(traced, groups, _first_state(model, groups, traced), stored, notes)


def _check_settings(model: nn.Module, optimizer: torch.optim.Optimizer, operand_bits: int, seed: int) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"optimizer must be one of torch.optim over model.parameters(), not {type(optimizer).__name__}")
    if type(operand_bits) is not int or operand_bits not in OPERAND_BITS:
        raise UsageError(f"operand_bits must be a whole number from {OPERAND_BITS[0]} to {OPERAND_BITS[-1]}, not {operand_bits!r}")
    if type(seed) is not int or not 0 <= seed < 1 << 63:
        raise UsageError(f"seed must be a whole number from 0 to 2^63 - 1, not {seed!r}")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise UsageError(f"the parameter {name!r} is {parameter.dtype}: convert the model with model.float()")
        if parameter.numel() == 0:
            raise UsageError(f"the parameter {name!r} is empty")
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise UnsupportedOperator(f"the parameter {name!r} has a gradient hook, which has no lowering: remove it")


_TAKEN = ("__", BUFFER, "constant.", RATE)  # beginnings of names that data cannot have


def _gradient_notes(clip_norm: float | None, clip_value: float | None, accumulate: int) -> dict[str, Any]:
    """What is done with gradients between backward and update, as far as anything is."""
    if clip_norm is not None and clip_value is not None:
        raise UsageError("clip_norm and clip_value exclude each other: give one of them")
    notes: dict[str, Any] = {}
    for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if bound is not None:
            if type(bound) not in (int, float) or not 0 < bound < float("inf"):
                raise UsageError(f"{name} must be a finite number above 0, not {bound!r}")
            notes[name] = float(bound)
    if type(accumulate) is not int or accumulate < 1:
        raise UsageError(f"accumulate must be a whole number from 1, the micro-batches of one step, not {accumulate!r}")
    return notes if accumulate == 1 else {**notes, "accumulate": accumulate}


def _stored_data(data: Mapping[str, Tensor], batch_size: int) -> tuple[dict[str, Tensor], Tensors]:
    """The examples as the model will see them, and as the program stores them."""
    if not data:
        raise UsageError("data is empty: give at least one named tensor of examples")
    counts = {}
    for name, tensor in data.items():
        if not isinstance(name, str) or not name or len(name) > MAX_NAME or name.startswith(_TAKEN):
            raise UsageError(
                f"data cannot have the name {name!r}: use 1 to {MAX_NAME} characters that do not begin with {', '.join(_TAKEN)}"
            )
        if not isinstance(tensor, Tensor) or tensor.dim() == 0 or tensor.numel() == 0:
            raise UsageError(f"data[{name!r}] must be a tensor with the examples along its first dimension")
        counts[name] = len(tensor)
    if len(set(counts.values())) > 1:
        raise UsageError(f"the data tensors hold different numbers of examples: {counts}")
    examples = len(next(iter(data.values())))
    if type(batch_size) is not int or not 1 <= batch_size <= examples:
        raise UsageError(f"batch_size must be a whole number from 1 to the {examples} examples, not {batch_size!r}")
    seen = {name: t.detach().cpu().to(torch.float32) if t.is_floating_point() else t.detach().cpu() for name, t in data.items()}
    return seen, {name: _stored(f"data[{name!r}]", tensor) for name, tensor in seen.items()}


def _stored(what: str, tensor: Tensor) -> np.ndarray:
    """``tensor`` in an element type of programs: float32, or the smallest integer type that holds it."""
    array = _typed(what, tensor)
    if array.dtype == np.float32:
        return array
    low, high = int(array.min()), int(array.max())
    fitting = (kind for kind in (np.int8, np.int16, np.int32, np.int64) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return array.astype(next(fitting))


def _typed(what: str, tensor: Tensor) -> np.ndarray:
    """A copy of ``tensor`` in the element type of programs that holds all values of its own."""
    if tensor.dtype not in DTYPES:
        raise UsageError(f"{what} is {tensor.dtype}, which no program holds: use float32, bool or a signed integer type")
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype({torch.bool: np.int8, torch.uint8: np.int16}.get(tensor.dtype, array.dtype))


def _constants(model: nn.Module, traced: Trace) -> Tensors:
    """The buffers and other tensors that the step reads and never changes: data that is not cut into batches."""
    buffers = dict(model.named_buffers())
    found = {}
    for _, kind, name in traced.leaves():
        if kind in ("buffer", "constant") and name not in traced.buffers:
            tensor = buffers[name] if kind == "buffer" else traced.constants[name]
            found[f"{kind}.{name}"] = _stored(f"the {kind} {name!r}", tensor)
    return found


def _first_state(model: nn.Module, groups: Sequence[optimizers.Group], traced: Trace) -> Tensors:
    """Parameters, optimizer state, changing buffers and step counter before the first step."""
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    state = {name: p.detach().cpu().contiguous().numpy().copy() for name, p in parameters.items()}
    pairs = zip(traced.differentiated, traced.gradients, strict=True)
    shapes = {name: tuple(parameters[name].shape) for name, gradient in pairs if gradient is not None}
    parts = [optimizers.state_of(group, shapes) for group in groups]
    parts.append({BUFFER + name: _typed(f"the buffer {name!r}", buffers[name]) for name in traced.buffers})
    parts.append({STEP: np.zeros((), np.int64)})
    for part in parts:
        for name, value in part.items():
            if name in state:
                raise UsageError(f"the parameter name {name!r} is taken by the rest of the state: rename the parameter")
            state[name] = value
    return state
