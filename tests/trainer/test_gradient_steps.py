"""Between backward and update: clipping, micro-batches, and further metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from bisection import reference
from bisection.errors import UsageError
from tests.support.lowering import Workbench
from tests.support.training import Task, classify, follow, mlp, regress, task
from trainer import clipping
from trainer.capture import capture, prepare
from trainer.executor import Executor


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.3, momentum=0.9)


# Clipping


@pytest.mark.parametrize("most", [0.05, 0.4, 100.0])
def test_clipping_by_norm_follows_pytorchs(most: float) -> None:
    followed = follow(task(mlp(nn.Tanh(), hidden=10)), sgd, 8, clip_norm=most)
    assert max(followed.deviations().values()) < 1e-3
    for found, exact in zip(followed.metrics, followed.exact_metrics, strict=True):
        assert found["grad_norm"] == pytest.approx(exact["grad_norm"], rel=1e-5)


def test_clipping_by_value_follows_pytorchs() -> None:
    followed = follow(task(mlp(nn.Tanh(), hidden=10)), sgd, 8, clip_value=0.01)
    assert max(followed.deviations().values()) < 1e-3
    assert "grad_norm" not in followed.metrics[0]


def clipped(most: float, *gradients: Any) -> list[np.ndarray]:
    """[norm, clipped gradients …]"""
    bench = Workbench()
    values = {str(i): bench.tensor(np.array(g, np.float32)) for i, g in enumerate(gradients)}
    found, norm = clipping.by_norm(bench.builder, values, most)
    return bench.run(norm, *found.values())


@pytest.mark.parametrize(
    "gradients",
    [
        [[3.0, 4.0], [12.0]],
        [[3.0], [4.0], [[0.0, 12.0]], [84.0]],
        [[0.0, -0.0], [0.0]],
        [[1e-3, 2e-3], [1e-4]],
        [[1e25, 1.0], [1.0]],
        [[float("inf"), 1.0], [-2.0]],
        [[1.0], [float("-inf")]],
        [[float("nan"), 1.0], [2.0]],
        [[float("nan")], [float("inf")]],
        [[1e-30, 1e-30], [0.0]],
    ],
)
def test_clipping_of_given_gradients_is_pytorchs(gradients: list[Any]) -> None:
    """Also where the norm is infinite or not a number, and where squares pass the range."""
    parameters = [nn.Parameter(torch.tensor(g)) for g in gradients]
    for p in parameters:
        p.grad = p.detach().clone()
    norm = nn.utils.clip_grad_norm_(parameters, 1.0, foreach=False)
    found = clipped(1.0, *gradients)
    assert found[0] == pytest.approx(float(norm), rel=1e-6, nan_ok=True)
    for array, p in zip(found[1:], parameters, strict=True):
        assert np.allclose(array, p.grad.numpy(), rtol=1e-6, atol=0, equal_nan=True)  # type: ignore[union-attr]


def test_many_gradients_have_one_norm() -> None:
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=rng.integers(1, 3000)) for _ in range(90)]
    exact = np.sqrt(sum((g.astype(np.float32).astype(np.float64) ** 2).sum() for g in gradients))
    assert float(clipped(1.0, *gradients)[0]) == pytest.approx(exact, rel=2e-7)


def test_values_beyond_the_bound_are_held_and_nan_stays() -> None:
    bench = Workbench()
    gradient = bench.tensor(np.array([-3, -0.5, 0.5, 3, np.inf, -np.inf, np.nan], np.float32))
    (found,) = bench.run(clipping.by_value({"g": gradient}, 0.75)["g"])
    assert found[:6].tolist() == [-0.75, -0.5, 0.5, 0.75, 0.75, -0.75] and np.isnan(found[6])


# Micro-batches


@pytest.mark.parametrize("accumulate", [2, 3])
def test_micro_batches_follow_the_usual_loop(accumulate: int) -> None:
    followed = follow(task(mlp(nn.Tanh(), hidden=10), batch=12), adamw, 6, accumulate=accumulate)
    assert max(followed.deviations().values()) < 1e-3
    for found, exact in zip(followed.metrics, followed.exact_metrics, strict=True):
        assert found["loss"] == pytest.approx(exact["loss"], rel=1e-5)


def test_everything_at_once_follows_the_usual_loop() -> None:
    """Batch norm's statistics go from one micro-batch to the next; schedule, clipping and metrics join in."""

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(batch["x"])
        penalty = output.square().mean()
        return F.cross_entropy(output, batch["y"]) + 0.1 * penalty, {"penalty": penalty, "largest": output.amax()}

    def schedule(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LinearLR(optimizer, 0.2, total_iters=3)

    given = task(lambda: nn.Sequential(nn.Linear(30, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 7)), loss, batch=16)
    followed = follow(given, adamw, 6, accumulate=2, schedule_of=schedule, clip_norm=0.5)
    assert max(followed.deviations().values()) < 1e-3
    assert followed.state["buffer.1.num_batches_tracked"] == 12
    for found, exact in zip(followed.metrics, followed.exact_metrics, strict=True):
        for name in ("loss", "penalty", "largest", "grad_norm"):
            assert found[name] == pytest.approx(exact[name], rel=1e-4)


def test_one_large_batch_and_its_micro_batches_learn_the_same() -> None:
    """A mean over 24 examples is the mean of three means over 8 of them, on the same examples in the same order."""

    def states(batch: int, accumulate: int) -> dict[str, np.ndarray]:
        given = task(mlp(nn.Tanh(), hidden=10))
        step = prepare(given.model, classify, sgd(given.model.parameters()), given.data, batch, 24, 5, accumulate=accumulate)
        program, state = step.lower(), dict(step.state)
        for _ in range(4):
            state, _ = reference.step(program, state, step.data)
        return state

    whole, parts = states(24, 1), states(8, 3)
    for name in ("0.weight", "2.bias"):
        assert np.allclose(whole[name], parts[name], rtol=0, atol=2e-5)


def test_micro_batches_may_hold_more_than_the_data_together() -> None:
    given = task(mlp(nn.ReLU(), hidden=4))
    step = prepare(given.model, classify, sgd(given.model.parameters()), given.data, 100, 15, 0, accumulate=2)
    program = step.lower(["examples"])
    examples = reference.trace(program, step.state, step.data)[program.metrics["examples"]]
    assert len(examples) == 200 and sorted(examples[:150]) == list(range(150))


def test_parameters_without_gradients_and_executors_agree_on_micro_batches() -> None:
    given = task(lambda: nn.Sequential(nn.Linear(30, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 7)), batch=8)
    given.model[0].requires_grad_(False)  # type: ignore[index]
    captured = capture(given.model, classify, adamw(given.model.parameters()), given.data, 8, accumulate=2, clip_norm=1.0)
    executor = Executor(captured.program, captured.data)
    state = dict(captured.state)
    for _ in range(3):
        expected, metrics = reference.step(captured.program, state, captured.data)
        state, same = executor.step(state)
        assert metrics == same and all(expected[name].tobytes() == state[name].tobytes() for name in state)
    assert np.array_equal(state["0.weight"], captured.state["0.weight"])


# Metrics


def test_further_metrics_are_shown_and_do_not_train() -> None:
    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Any:
        output = model(batch["x"])
        return F.mse_loss(output, batch["t"]), {"largest error": (output - batch["t"]).abs().amax()}

    plain = follow(task(mlp(nn.Tanh(), hidden=10), regress), sgd, 5)
    given = task(mlp(nn.Tanh(), hidden=10), regress)
    measured = follow(Task(given.model, loss, given.data), sgd, 5)
    assert all(plain.state[name].tobytes() == measured.state[name].tobytes() for name in plain.state)
    for found, exact in zip(measured.metrics, measured.exact_metrics, strict=True):
        assert found["largest error"] == pytest.approx(exact["largest error"], rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_integers_and_truth_values_are_metrics_too(accumulate: int) -> None:
    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Any:
        output = model(batch["x"])
        return F.cross_entropy(output, batch["y"]), {"labels": batch["y"].sum(), "some": (batch["y"] == 3).any()}

    given = task(mlp(nn.ReLU(), hidden=4), loss, batch=10)
    step = prepare(given.model, given.loss, sgd(given.model.parameters()), given.data, 10, 15, 0, accumulate=accumulate)
    program = step.lower(["examples"])
    trace = reference.trace(program, step.state, step.data)
    labels = given.data["y"].numpy()[trace[program.metrics["examples"]]].reshape(accumulate, 10)
    assert float(trace[program.metrics["labels"]][0]) == labels.sum(1).mean()
    assert float(trace[program.metrics["some"]][0]) == (labels == 3).any(1).mean()


# What is noted, and what is refused


def attempt(loss: Any = classify, **settings: Any) -> Any:
    given = task(mlp(nn.ReLU(), hidden=4))
    return capture(given.model, loss, sgd(given.model.parameters()), given.data, 32, **settings)


def test_settings_are_noted_only_where_they_are_used() -> None:
    notes = attempt(clip_norm=2, accumulate=3).program.notes
    assert (notes["clip_norm"], notes["accumulate"]) == (2.0, 3)
    assert attempt(clip_value=0.5).program.notes["clip_value"] == 0.5
    assert not {"clip_norm", "clip_value", "accumulate", "schedule"} & set(attempt(accumulate=1).program.notes)


@pytest.mark.parametrize("name", ["clip_norm", "clip_value"])
@pytest.mark.parametrize("bound", [0, -1.0, float("inf"), float("nan"), "1", True])
def test_a_bound_that_is_none(name: str, bound: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} must be a finite number above 0"):
        attempt(**{name: bound})


def test_two_ways_to_clip() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        attempt(clip_norm=1.0, clip_value=1.0)


@pytest.mark.parametrize("accumulate", [0, -2, 1.0, None, True])
def test_micro_batches_that_are_no_number(accumulate: Any) -> None:
    with pytest.raises(UsageError, match="accumulate must be a whole number"):
        attempt(accumulate=accumulate)


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ({"loss": torch.ones(())}, "cannot have the name 'loss'"),
        ({"grad_norm": torch.ones(())}, "cannot have the name 'grad_norm'"),
        ({"": torch.ones(())}, "cannot have the name ''"),
        ({3: torch.ones(())}, "cannot have the name 3"),
        ({"a": 1.0}, "'a' must be a scalar tensor"),
        ({"a": torch.ones(2)}, "'a' must be a scalar tensor"),
        (torch.ones(()), "must be a dict of metrics"),
    ],
)
def test_metrics_that_are_none(metrics: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        attempt(lambda m, b: (classify(m, b), metrics))
