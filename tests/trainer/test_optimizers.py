"""Optimizers: a program's updates are PyTorch's, step for step, in binary64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bisection import reference
from tests.support.training import follow, mlp, relative_error, task
from trainer.capture import capture
from trainer.lowering.expression import Const
from trainer.optimizers import RULES, next_correction

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd, momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd, dampening and decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.4, weight_decay=0.01),
    "sgd, nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.02),
    "sgd, maximize": lambda p: torch.optim.SGD(p, lr=0.01, maximize=True),
    "adam": lambda p: torch.optim.Adam(p, lr=3e-3),
    "adam, decay": lambda p: torch.optim.Adam(p, lr=3e-3, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.05),
    "adam, decoupled decay": lambda p: torch.optim.Adam(p, lr=3e-3, weight_decay=0.05, decoupled_weight_decay=True),
    "adam, amsgrad": lambda p: torch.optim.Adam(p, lr=3e-2, betas=(0.5, 0.3), amsgrad=True, weight_decay=0.05),
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.1),
    "adamw, amsgrad": lambda p: torch.optim.AdamW(p, lr=3e-2, betas=(0.5, 0.3), amsgrad=True),
    "adamw, foreach": lambda p: torch.optim.AdamW(p, lr=3e-3, foreach=True),
    "adamw, rate in a tensor": lambda p: torch.optim.AdamW(p, lr=torch.tensor(3e-3)),
    "adamax": lambda p: torch.optim.Adamax(p, lr=3e-3, betas=(0.8, 0.5), weight_decay=0.05),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=3e-3),
    "rmsprop, momentum": lambda p: torch.optim.RMSprop(p, lr=3e-3, alpha=0.9, momentum=0.5, weight_decay=0.01),
    "rmsprop, centered": lambda p: torch.optim.RMSprop(p, lr=3e-3, alpha=0.8, eps=1e-3, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=3e-2),
    "adagrad, rate decay": lambda p: torch.optim.Adagrad(
        p, lr=0.1, lr_decay=0.2, initial_accumulator_value=0.05, weight_decay=0.01
    ),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.5, rho=0.8, weight_decay=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_follow_pytorchs_for_many_steps(name: str) -> None:
    """Across epochs, at 24 operand bits: the distance to binary64 is below a thousandth of the way travelled."""
    followed = follow(task(mlp(nn.Tanh(), hidden=10)), OPTIMIZERS[name], 12)
    assert followed.state["step"] == 12
    deviations = followed.deviations()
    assert len(deviations) == 4 and max(deviations.values()) < 1e-3


def test_every_optimizer_is_followed() -> None:
    used = {type(make([nn.Parameter(torch.ones(1))])) for make in OPTIMIZERS.values()}
    assert used == set(RULES)


def test_the_larger_moment_is_kept_by_amsgrad() -> None:
    followed = follow(task(mlp(nn.Tanh(), hidden=10)), OPTIMIZERS["adamw, amsgrad"], 6)
    now, most = (followed.state[f"{kind}.0.weight"] for kind in ("exp_avg_sq", "max_exp_avg_sq"))
    assert (most >= now).all() and (most > now).mean() > 0.5


def test_a_nan_in_the_moment_stays_in_the_largest() -> None:
    given = task(mlp(nn.Tanh(), hidden=10))
    captured = capture(given.model, given.loss, OPTIMIZERS["adamw, amsgrad"](given.model.parameters()), given.data, 32)
    state = dict(captured.state)
    state["exp_avg_sq.2.bias"] = np.array([np.nan, *np.zeros(6)], np.float32)
    state, _ = reference.step(captured.program, state, captured.data)
    assert np.isnan(state["max_exp_avg_sq.2.bias"]).tolist() == [True, *[False] * 6]


def test_parameter_groups_keep_their_own_settings() -> None:
    def grouped(parameters: Any) -> torch.optim.Optimizer:
        first, *rest = parameters
        return torch.optim.AdamW(
            [{"params": [first], "lr": 1e-2, "betas": (0.7, 0.9)}, {"params": rest, "weight_decay": 0.3}], lr=1e-3
        )

    followed = follow(task(mlp(nn.Tanh(), hidden=10)), grouped, 8)
    for parameter, p in followed.exact.named_parameters():
        assert relative_error(followed.state[parameter], p.detach()) < 1e-5
    assert {"bias_correction1", "bias_correction2.1"} <= set(followed.state)


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.99, 0.999, 0.9999])
def test_bias_corrections_do_not_drift(beta: float) -> None:
    c: Any = Const(0)
    for t in range(1, 5001):
        c = next_correction(c, beta)
        assert c.value / 2**32 == pytest.approx(1 - beta**t, rel=1e-5)
