"""A job of the zoo: a model as people write it, with the loss, optimizer and data that it trains with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bisection import reference
from bisection.program import Program
from trainer.capture import prepare
from trainer.lowering.step import Step, Tensors

__all__ = ["Capture", "Job", "adam", "adamw", "sgd"]

Loss = Callable[[nn.Module, dict[str, Tensor]], Any]
Optimizer = Callable[[nn.Module], torch.optim.Optimizer]


def adamw(lr: float = 3e-3, **options: Any) -> Optimizer:
    return lambda model: torch.optim.AdamW(model.parameters(), lr=lr, **options)


def adam(lr: float = 3e-3, **options: Any) -> Optimizer:
    return lambda model: torch.optim.Adam(model.parameters(), lr=lr, **options)


def sgd(lr: float = 0.05, momentum: float = 0.9, **options: Any) -> Optimizer:
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, **options)


@dataclass(frozen=True)
class Job:
    """``fall`` is what must be left of the first steps' mean loss after ``steps`` steps. ``schedule`` makes a scheduler of torch
    for the optimizer; ``settings`` are further ones of ``capture``.

    ``checked`` is the number of examples with which gradients are compared, if not ``batch_size``. It is small for networks with
    many kinks (ReLU, max pooling): an input that lies as near to a kink as the error of 15 bits may fall on its other side, which
    changes that element's gradient wholly. Among few examples that is rare. (The denoiser's last bias is one number, which
    bfloat16 can hit by luck.)
    """

    model: Callable[[], nn.Module]
    loss: Loss
    data: Callable[[], dict[str, Tensor]]
    batch_size: int = 16
    optimizer: Optimizer = field(default_factory=adamw)
    steps: int = 100
    fall: float = 0.8
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    checked: int | None = None

    @cached_property
    def capture(self) -> Capture:
        """The captured job, always the same."""
        torch.manual_seed(0)
        model = self.model()
        optimizer = self.optimizer(model)
        settings = dict(self.settings)
        if self.schedule is not None:
            settings |= {"schedule": self.schedule(optimizer), "steps": self.steps}
        return Capture(self, model, prepare(model, self.loss, optimizer, self.data(), self.batch_size, 15, 0, **settings))

    @property
    def few(self) -> Job:
        """The job with the number of examples that gradients are compared with."""
        return self if self.checked is None else replace(self, batch_size=self.checked)


class Capture:
    """A model before training and its traced step; the programs lowered from it show every gradient and the examples."""

    def __init__(self, job: Job, model: nn.Module, step: Step) -> None:
        self.job, self.model, self.step = job, model, step
        pairs = zip(step.traced.differentiated, step.traced.gradients, strict=True)
        self.trained = [name for name, gradient in pairs if gradient is not None]

    @property
    def state(self) -> Tensors:
        """The state before the first step."""
        return self.step.state

    @cached_property
    def program(self) -> Program:
        """At 15 operand bits."""
        return self.lower(15)

    @cached_property
    def first(self) -> list[np.ndarray]:
        """The first step's trace of ``program``, by the reference executor."""
        return reference.trace(self.program, self.state, self.step.data)

    def lower(self, operand_bits: int) -> Program:
        """The program at that many operand bits."""
        shown = ["examples", *(f"gradient.{name}" for name in self.trained)]
        return replace(self.step, notes={**self.step.notes, "operand_bits": operand_bits}).lower(shown)

    def gradients(self, operand_bits: int) -> dict[str, Tensor]:
        """Those of the first step, in binary64."""
        if operand_bits == 15:
            program, trace = self.program, self.first
        else:
            program = self.lower(operand_bits)
            trace = reference.trace(program, self.state, self.step.data)
        found = {name: trace[program.metrics[f"gradient.{name}"]].reshape(self.state[name].shape) for name in self.trained}
        return {name: torch.from_numpy(gradient).double() for name, gradient in found.items()}

    @property
    def examples(self) -> Tensor:
        """The indices of the first step's examples."""
        return torch.from_numpy(self.first[self.program.metrics["examples"]])
