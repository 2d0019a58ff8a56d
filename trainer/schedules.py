"""Learning-rate schedules as data: the rate of every step, computed once, in binary32.

Any scheduler of ``torch.optim.lr_scheduler`` that looks at nothing but the number of steps becomes such a table, exactly: a copy of
it is run ahead. The functions here give common shapes as factors of the optimizer's own rates, without a scheduler object. After
its last step a schedule stays where it is.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from math import cos, isfinite, pi
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from bisection.errors import UnsupportedOperator, UsageError

__all__ = ["Schedule", "constant", "cosine", "linear", "stepped", "tables"]

Schedule = LRScheduler | Sequence[float]
"""A scheduler of torch on the optimizer, or one factor of the optimizer's learning rates for each step."""


def constant(steps: int, warmup: int = 0) -> list[float]:
    """1, after a linear rise over the first ``warmup`` of ``steps`` steps: step t of them has (t + 1) / warmup."""
    return _factors(steps, warmup, lambda progress: 1.0)


def cosine(steps: int, warmup: int = 0, floor: float = 0.0) -> list[float]:
    """From 1 down towards ``floor`` along half a cosine, after the rise of ``constant``."""
    return _factors(steps, warmup, lambda progress: floor + (1 - floor) * (1 + cos(pi * progress)) / 2)


def linear(steps: int, warmup: int = 0, floor: float = 0.0) -> list[float]:
    """From 1 down towards ``floor`` in equal steps, after the rise of ``constant``."""
    return _factors(steps, warmup, lambda progress: floor + (1 - floor) * (1 - progress))


def stepped(steps: int, every: int, factor: float = 0.1, warmup: int = 0) -> list[float]:
    """1, multiplied by ``factor`` every so many steps, after the rise of ``constant``."""
    if every < 1:
        raise UsageError(f"every must be at least one step, not {every!r}")
    return _factors(steps, warmup, lambda progress: factor ** (round(progress * (steps - warmup)) // every))


def _factors(steps: int, warmup: int, after: Callable[[float], float]) -> list[float]:
    if not 0 <= warmup < steps:
        raise UsageError(f"a warm-up of {warmup} steps does not fit into {steps} steps: it must end before the run does")
    return [(t + 1) / warmup if t < warmup else after((t - warmup) / (steps - warmup)) for t in range(steps)]


def tables(schedule: Schedule, steps: int | None, optimizer: torch.optim.Optimizer) -> list[np.ndarray]:
    """f32 [steps] for each parameter group of ``optimizer``: its learning rate at every step.

    Raises UsageError when schedule, steps and optimizer do not fit together, and UnsupportedOperator for a scheduler that looks at
    more than the number of steps or drives more than the learning rate.
    """
    rates = _run(schedule, steps, optimizer) if isinstance(schedule, LRScheduler) else _scaled(schedule, steps, optimizer)
    for number, group in enumerate(rates):
        for t, rate in enumerate(group):
            if not isfinite(rate):
                raise UsageError(f"the learning rate of group {number} at step {t} is {rate}: it must be a finite number")
    return [np.array(group, np.float32) for group in rates]


def _scaled(schedule: Any, steps: int | None, optimizer: torch.optim.Optimizer) -> list[list[float]]:
    try:
        factors = [float(x) for x in schedule]
    except (TypeError, ValueError):
        raise UsageError(
            f"schedule must be a scheduler of torch.optim.lr_scheduler or a list of factors, not {type(schedule).__name__}"
        ) from None
    if not factors or steps not in (None, len(factors)):
        raise UsageError(f"the schedule holds {len(factors)} factors: give one for every step, and no other number as steps=")
    return [[float(group["lr"]) * factor for factor in factors] for group in optimizer.param_groups]


def _run(schedule: LRScheduler, steps: int | None, optimizer: torch.optim.Optimizer) -> list[list[float]]:
    """The rates that ``schedule`` sets, from running a copy of it and of its optimizer (without the parameters)."""
    name = type(schedule).__name__
    if isinstance(schedule, ReduceLROnPlateau):
        raise UnsupportedOperator(f"the scheduler {name} depends on the loss, which has no lowering: use one of the steps alone")
    if schedule.optimizer is not optimizer:
        raise UsageError(f"the scheduler {name} drives another optimizer: build it on the one that is captured")
    if any(getattr(part, "last_epoch", 0) > 0 for part in (schedule, *getattr(schedule, "_schedulers", ()))):
        raise UsageError(f"the scheduler {name} has already taken steps: capture it before its first step")
    if type(steps) is not int or steps < 1:
        raise UsageError(f"steps must be a whole number from 1, the steps of the run, for the scheduler {name}, not {steps!r}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    running = copy.deepcopy(schedule, {id(p): p for p in parameters})
    groups = running.optimizer.param_groups
    first = [_other_options(group) for group in groups]
    rates: list[list[float]] = [[] for _ in groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer steps in between
        for t in range(steps):
            for group, known, found in zip(groups, first, rates, strict=True):
                found.append(float(group["lr"]))
                changed = [option for option, value in _other_options(group).items() if value != known[option]]
                if changed:
                    raise UnsupportedOperator(
                        f"the scheduler {name} changes {changed[0]} beside the learning rate, which has no lowering: "
                        "switch that off (cycle_momentum=False)"
                    )
            if t + 1 < steps:
                try:
                    running.step()
                except (TypeError, ValueError) as error:
                    raise UsageError(f"the scheduler {name} cannot run for {steps} steps: {str(error).splitlines()[0]}") from None
    return rates


def _other_options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "lr")}
