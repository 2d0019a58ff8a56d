"""Small training tasks, and a captured program run side by side with PyTorch in binary64 on the same batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from bisection import reference
from bisection.boundary import metrics_of, next_state
from trainer.capture import prepare

Loss = Callable[[nn.Module, Mapping[str, Tensor]], Any]


@dataclass(frozen=True)
class Task:
    """A model, its loss and its data."""

    model: nn.Module
    loss: Loss
    data: dict[str, Tensor]
    batch_size: int = 32


def classify(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The cross-entropy of the labels."""
    return F.cross_entropy(model(batch["x"]), batch["y"])


def regress(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The squared error of the targets."""
    return F.mse_loss(model(batch["x"]), batch["t"])


def task(
    model: Callable[[], nn.Module], loss: Loss = classify, inputs: tuple[int, ...] = (30,), outputs: int = 7, batch: int = 32
) -> Task:
    """150 random examples of ``inputs`` with labels below ``outputs``, or targets of that many numbers for ``regress``."""
    torch.manual_seed(0)
    x = torch.randn(150, *inputs)
    data = {"x": x, "y": torch.randint(0, outputs, (150,)), "t": torch.randn(150, *inputs[:-1], outputs)}
    used = {name: data[name] for name in (("x", "t") if loss is regress else ("x", "y"))}
    return Task(model(), loss, used, batch)


def mlp(activation: nn.Module, hidden: int = 40, bias: bool = True) -> Callable[[], nn.Module]:
    """30 → hidden → 7."""
    return lambda: nn.Sequential(nn.Linear(30, hidden, bias=bias), activation, nn.Linear(hidden, 7, bias=bias))


def batch_of(data: Mapping[str, Tensor], examples: np.ndarray, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """The rows ``examples`` of every tensor, floats as ``dtype``."""
    picked = {name: tensor[torch.from_numpy(examples)] for name, tensor in data.items()}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in picked.items()}


def relative_error(found: Any, exact: Tensor) -> float:
    """|found - exact| / |exact|, Frobenius."""
    difference = torch.as_tensor(np.asarray(found)).double().reshape(exact.shape) - exact.double()
    return float(difference.norm() / exact.double().norm())


@dataclass(frozen=True)
class Followed:
    """A program's state and metrics, and PyTorch's model and metrics in binary64, after the same steps on the same batches."""

    first: dict[str, Tensor]
    state: dict[str, np.ndarray]
    metrics: list[dict[str, float]]
    exact: nn.Module
    exact_metrics: list[dict[str, float]]

    def deviations(self) -> dict[str, float]:
        """For every parameter and every changed buffer of floats, the distance to PyTorch's over the way travelled."""
        found = {}
        for name, tensor in [*self.exact.named_parameters(), *self.exact.named_buffers()]:
            array = self.state.get(name, self.state.get(f"buffer.{name}"))
            if array is not None and tensor.is_floating_point():
                travelled = (tensor.detach() - self.first[name].double()).norm()
                found[name] = float((torch.from_numpy(array).double() - tensor.detach()).norm() / travelled)
        return found


def follow(
    given: Task,
    optimizer_of: Callable[[Any], torch.optim.Optimizer],
    steps: int,
    *,
    schedule_of: Callable[[torch.optim.Optimizer], Any] | None = None,
    rate_of: Callable[[int], float] | None = None,
    operand_bits: int = 24,
    **settings: Any,
) -> Followed:
    """Run both for ``steps`` steps. ``schedule_of`` gives a torch scheduler for an optimizer; ``rate_of`` sets PyTorch's learning
    rate by the step where the program's schedule is a list. Other ``settings`` are those of ``capture``."""
    optimizer = optimizer_of(given.model.parameters())
    if schedule_of is not None:
        settings |= {"schedule": schedule_of(optimizer), "steps": settings.get("steps", steps)}
    step = prepare(given.model, given.loss, optimizer, given.data, given.batch_size, operand_bits, 1, **settings)
    program = step.lower(["examples"])
    exact = copy.deepcopy(given.model).double()
    optimizer = optimizer_of(exact.parameters())
    scheduler = schedule_of(optimizer) if schedule_of is not None else None
    first = {name: t.detach().clone() for name, t in [*given.model.named_parameters(), *given.model.named_buffers()]}
    state, metrics, exact_metrics = dict(step.state), [], []
    for number in range(steps):
        tensors = reference.trace(program, state, step.data)
        metrics.append(metrics_of(program, tensors))
        if rate_of is not None:
            for group in optimizer.param_groups:
                group["lr"] = rate_of(number)
        examples = tensors[program.metrics["examples"]].reshape(settings.get("accumulate", 1), -1)
        exact_metrics.append(_exact_step(exact, given, optimizer, examples, settings))
        if scheduler is not None:
            scheduler.step()
        state = next_state(program, tensors)
    return Followed(first, state, metrics, exact, exact_metrics)


def _exact_step(
    model: nn.Module, given: Task, optimizer: torch.optim.Optimizer, examples: np.ndarray, settings: Mapping[str, Any]
) -> dict[str, float]:
    """The usual training loop's step over the micro-batches ``examples``."""
    optimizer.zero_grad()
    total: dict[str, float] = {}
    for micro in examples:
        found = given.loss(model, batch_of(given.data, micro))
        loss, extra = found if isinstance(found, tuple) else (found, {})
        (loss / len(examples)).backward()
        for name, value in {"loss": loss, **extra}.items():
            total[name] = total.get(name, 0.0) + float(value.detach()) / len(examples)
    if settings.get("clip_norm") is not None:
        total["grad_norm"] = float(nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"]))
    if settings.get("clip_value") is not None:
        nn.utils.clip_grad_value_(model.parameters(), settings["clip_value"])
    optimizer.step()
    return total
