"""Schedules: any scheduler of torch becomes a table of rates that the program follows, with its last rate after the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR, StepLR

from bisection import reference
from bisection.errors import UnsupportedOperator, UsageError
from tests.support.training import follow, mlp, task
from trainer import schedules
from trainer.capture import Captured, capture

Make = Callable[[torch.optim.Optimizer], Any]

SCHEDULERS: dict[str, Make] = {
    "LambdaLR": lambda o: LambdaLR(o, lambda t: 0.9**t + 0.1 * (t % 2)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.8),
    "StepLR": lambda o: StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5], gamma=0.3),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.25, 4),
    "LinearLR": lambda o: LinearLR(o, 0.1, total_iters=5),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 12, 2.0),
    "CosineAnnealingLR": lambda o: CosineAnnealingLR(o, 8, eta_min=1e-4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, 3, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.02, 12, cycle_momentum=False),
    "SequentialLR": lambda o: SequentialLR(o, [LinearLR(o, 0.1, total_iters=4), CosineAnnealingLR(o, 8)], [4]),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler([LinearLR(o, 0.1, total_iters=4), StepLR(o, 3)], o),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 1e-3, 4),
}


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_table_is_what_the_scheduler_sets(name: str) -> None:
    optimizer, other = (adamw([nn.Parameter(torch.ones(2))]) for _ in range(2))
    scheduler = SCHEDULERS[name](optimizer)
    before = optimizer.param_groups[0]["lr"]
    (table,) = schedules.tables(scheduler, 12, optimizer)
    driven = SCHEDULERS[name](other)
    for rate in table:
        assert rate == np.float32(other.param_groups[0]["lr"])
        other.step()
        driven.step()
    assert table.dtype == np.float32 and len(table) == 12 and len(set(table)) > 1
    assert optimizer.param_groups[0]["lr"] == before and getattr(scheduler, "last_epoch", 0) == 0


@pytest.mark.parametrize("name", ["LambdaLR", "OneCycleLR", "SequentialLR"])
def test_programs_follow_schedulers(name: str) -> None:
    """Decoupled decay and step size follow the rate, as in binary64."""
    followed = follow(task(mlp(nn.Tanh(), hidden=10)), adamw, 12, schedule_of=SCHEDULERS[name])
    assert max(followed.deviations().values()) < 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1),
        lambda p: torch.optim.Adamax(p, lr=1e-2),
        lambda p: torch.optim.RMSprop(p, lr=1e-2),
        lambda p: torch.optim.Adagrad(p, lr=1e-1, lr_decay=0.1),
        lambda p: torch.optim.Adadelta(p, lr=0.5),
    ],
)
def test_every_optimizer_follows(make: Any) -> None:
    followed = follow(task(mlp(nn.Tanh(), hidden=10)), make, 6, schedule_of=SCHEDULERS["LinearLR"])
    assert max(followed.deviations().values()) < 1e-3


def test_groups_have_their_own_rates() -> None:
    def grouped(parameters: Any) -> torch.optim.Optimizer:
        first, *rest = parameters
        return torch.optim.AdamW([{"params": [first], "lr": 1e-2}, {"params": rest, "lr": 1e-3}])

    def scheduler(optimizer: torch.optim.Optimizer) -> Any:
        return LambdaLR(optimizer, [lambda t: 0.9**t, lambda t: 1 / (t + 1)])

    followed = follow(task(mlp(nn.Tanh(), hidden=10)), grouped, 6, schedule_of=scheduler)
    assert max(followed.deviations().values()) < 1e-3


def test_after_its_end_a_schedule_keeps_the_last_rate() -> None:
    factors = [1.0, 0.5, 0.25]
    followed = follow(
        task(mlp(nn.Tanh(), hidden=10)),
        lambda p: torch.optim.SGD(p, lr=0.1),
        6,
        schedule=factors,
        rate_of=lambda t: 0.1 * factors[min(t, 2)],
    )
    assert max(followed.deviations().values()) < 1e-3


def captured(make: Make | None = None, **settings: Any) -> Captured:
    given = task(mlp(nn.ReLU(), hidden=4))
    optimizer = adamw(given.model.parameters())
    scheduler = {} if make is None else {"schedule": make(optimizer)}
    return capture(given.model, given.loss, optimizer, given.data, 32, **scheduler, **settings)


def test_the_rates_are_committed_data_and_the_schedule_is_noted() -> None:
    found = captured(SCHEDULERS["StepLR"], steps=7)
    assert np.allclose(found.data["schedule.lr"], [1e-2] * 3 + [5e-3] * 3 + [2.5e-3])
    assert found.program.notes["schedule"] == {"class": "StepLR", "steps": 7}
    assert "schedule" not in captured().program.notes


def test_a_constant_schedule_gives_the_same_bits_as_none() -> None:
    """At a rate and a decay that binary32 holds."""

    def run(**settings: Any) -> dict[str, np.ndarray]:
        given = task(mlp(nn.ReLU(), hidden=4))
        optimizer = torch.optim.AdamW(given.model.parameters(), lr=2**-7, weight_decay=2**-3)
        found = capture(given.model, given.loss, optimizer, given.data, 32, **settings)
        state = dict(found.state)
        for _ in range(4):
            state, _ = reference.step(found.program, state, found.data)
        return state

    plain, scheduled = run(), run(schedule=schedules.constant(3))
    assert all(plain[name].tobytes() == scheduled[name].tobytes() for name in plain)


# The factors


def test_warm_up_then_cosine() -> None:
    factors = schedules.cosine(110, warmup=10, floor=0.1)
    assert factors[:10] == pytest.approx([(t + 1) / 10 for t in range(10)])
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    table = schedules.tables(CosineAnnealingLR(optimizer, 100, eta_min=0.1), 100, optimizer)[0]
    assert factors[10:] == pytest.approx(table.tolist(), rel=1e-6)


def test_warm_up_then_linear() -> None:
    factors = schedules.linear(14, warmup=4, floor=0.5)
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1.0, *(1 - 0.05 * t for t in range(10))])


def test_warm_up_then_steps() -> None:
    factors = schedules.stepped(103, every=4, factor=0.5, warmup=2)
    assert factors == pytest.approx([0.5, 1.0, *(0.5 ** (t // 4) for t in range(101))])


def test_no_warm_up_begins_at_the_full_rate() -> None:
    assert schedules.cosine(5)[0] == schedules.linear(5)[0] == schedules.stepped(5, 2)[0] == 1.0
    assert schedules.constant(3) == [1.0, 1.0, 1.0]


# What is refused


def test_a_scheduler_of_the_loss_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperator, match="ReduceLROnPlateau depends on the loss"):
        captured(lr_scheduler.ReduceLROnPlateau, steps=5)


@pytest.mark.parametrize(
    "make", [lambda o: lr_scheduler.OneCycleLR(o, 0.02, 12), lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, 3)]
)
def test_a_scheduler_that_cycles_momentum_is_refused(make: Make) -> None:
    with pytest.raises(UnsupportedOperator, match=r"changes betas .*cycle_momentum=False"):
        captured(make, steps=5)


def test_a_run_longer_than_the_scheduler_allows() -> None:
    with pytest.raises(UsageError, match="OneCycleLR cannot run for 14 steps"):
        captured(SCHEDULERS["OneCycleLR"], steps=14)


@pytest.mark.parametrize("steps", [None, 0, -3, 2.0, True])
def test_a_scheduler_needs_the_number_of_steps(steps: Any) -> None:
    with pytest.raises(UsageError, match="steps must be a whole number from 1"):
        captured(SCHEDULERS["StepLR"], steps=steps)


def test_steps_without_a_schedule() -> None:
    with pytest.raises(UsageError, match="give a schedule="):
        captured(steps=5)


def test_a_scheduler_of_another_optimizer() -> None:
    other = StepLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), 3)
    with pytest.raises(UsageError, match="drives another optimizer"):
        captured(lambda _: other, steps=5)


@pytest.mark.parametrize("name", ["StepLR", "SequentialLR", "ChainedScheduler"])
def test_a_scheduler_that_has_already_stepped(name: str) -> None:
    def stepped(optimizer: torch.optim.Optimizer) -> Any:
        scheduler = SCHEDULERS[name](optimizer)
        optimizer.step()
        scheduler.step()
        return scheduler

    with pytest.raises(UsageError, match="already taken steps"):
        captured(stepped, steps=5)


@pytest.mark.parametrize("schedule", [None, [1.0, 0.5]])
def test_an_optimizer_whose_scheduler_is_not_given(schedule: Any) -> None:
    given = task(mlp(nn.ReLU(), hidden=4))
    optimizer = adamw(given.model.parameters())
    StepLR(optimizer, 3)
    with pytest.raises(UsageError, match="give it as schedule="):
        capture(given.model, given.loss, optimizer, given.data, 32, schedule=schedule)


@pytest.mark.parametrize("schedule", [[], "cosine", 3, [None], object()])
def test_a_schedule_that_is_none(schedule: Any) -> None:
    with pytest.raises(UsageError, match="factors"):
        captured(schedule=schedule)


def test_a_list_of_another_length_than_the_steps() -> None:
    with pytest.raises(UsageError, match="3 factors"):
        captured(schedule=[1.0, 1.0, 1.0], steps=4)


def test_a_rate_that_is_no_number() -> None:
    with pytest.raises(UsageError, match="group 0 at step 1 is nan"):
        captured(schedule=[1.0, float("nan")])


def test_a_warm_up_longer_than_the_run() -> None:
    with pytest.raises(UsageError, match="warm-up of 5 steps"):
        schedules.cosine(5, warmup=5)
    with pytest.raises(UsageError, match="every"):
        schedules.stepped(5, 0)


def test_data_cannot_take_the_name_of_the_rates() -> None:
    given = task(mlp(nn.ReLU(), hidden=4))
    with pytest.raises(UsageError, match="cannot have the name"):
        capture(given.model, given.loss, adamw(given.model.parameters()), {**given.data, "schedule.lr": given.data["x"]}, 32)
