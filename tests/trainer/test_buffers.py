"""Buffers that a model changes are state: batch norm's statistics, moving averages, counters, power iterations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bisection import reference
from bisection.errors import UnsupportedOperator, UsageError
from tests.support.training import batch_of, classify, follow, mlp, regress, relative_error, task
from trainer.capture import Captured, capture, prepare
from trainer.executor import Executor


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2)


class Average(nn.Module):
    """A moving average of activations, kept by in-place arithmetic or by assignment, with and without no_grad."""

    average: Tensor
    calls: Tensor
    seen: Tensor

    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.last, self.way = nn.Linear(30, 5), nn.Linear(5, 7), way
        self.register_buffer("average", torch.zeros(5))
        self.register_buffer("calls", torch.tensor(3, dtype=torch.int32))
        self.register_buffer("seen", torch.tensor(False))
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 5))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        if self.way == "in place":
            with torch.no_grad():
                self.average.mul_(0.9).add_(hidden.mean(0), alpha=0.1)
        elif self.way == "into a view":
            self.average.view(5, 1)[:, 0].lerp_(hidden.detach().mean(0), 0.1)
        elif self.way == "assigned":
            self.average = 0.9 * self.average + 0.1 * hidden.detach().mean(0)
        else:
            self.average.data = self.average.data * 0.9 + hidden.data.mean(0) * 0.1
        self.calls += 1
        self.seen.fill_(True)
        return self.last((hidden - self.average.clone()) * self.scale)


@pytest.mark.parametrize("way", ["in place", "into a view", "assigned"])
def test_moving_averages_follow_pytorchs(way: str) -> None:
    followed = follow(task(lambda: Average(way)), adamw, 6)
    deviations = followed.deviations()
    assert set(deviations) == {"average", "first.weight", "first.bias", "last.weight", "last.bias"}
    assert max(deviations.values()) < 1e-3
    assert followed.state["buffer.calls"] == 9 and followed.state["buffer.calls"].dtype == np.int32
    assert followed.state["buffer.seen"] == 1 and "buffer.scale" not in followed.state


def test_an_assignment_to_data_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match=r"\.data, in the model \(Average\) .*use copy_"):
        small(lambda: Average("data"))


def normalised(norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(30, 8, bias=False), norm(), nn.Tanh(), nn.Linear(8, 7))


NORMS: dict[str, Callable[[], nn.Module]] = {
    "one dimension": normalised(lambda: nn.BatchNorm1d(8)),
    "other momentum and eps": normalised(lambda: nn.BatchNorm1d(8, eps=1e-2, momentum=0.3)),
    "no weights": normalised(lambda: nn.BatchNorm1d(8, affine=False)),
    "two dimensions": lambda: nn.Sequential(
        nn.Linear(30, 24, bias=False), nn.Unflatten(1, (4, 3, 2)), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(24, 7)
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_batch_norms_statistics_follow_pytorchs(name: str) -> None:
    followed = follow(task(NORMS[name]), adamw, 6)
    deviations = followed.deviations()
    assert sum(name.endswith(("running_mean", "running_var")) for name in deviations) == 2
    assert max(deviations.values()) < 1e-3
    (count,) = (array for key, array in followed.state.items() if key.endswith("num_batches_tracked"))
    assert count == 6 and count.dtype == np.int64


def gradients(model: nn.Module) -> tuple[dict[str, np.ndarray], nn.Module]:
    """(those of the first step of the program, a copy of the model in binary64 after the same)."""
    given = task(lambda: model)
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    step = prepare(model, given.loss, sgd, given.data, 32, 22, 0)
    program = step.lower(["examples", *(f"gradient.{name}" for name, _ in model.named_parameters())])
    trace = reference.trace(program, step.state, step.data)
    exact = copy.deepcopy(model).double()
    classify(exact, batch_of(given.data, trace[program.metrics["examples"]])).backward()
    return {name: trace[program.metrics[f"gradient.{name}"]] for name, _ in model.named_parameters()}, exact


@pytest.mark.parametrize("kind", ["trained", "evaluated", "without statistics"])
def test_gradients_through_batch_norm_are_autograds(kind: str) -> None:
    torch.manual_seed(1)
    model = normalised(lambda: nn.BatchNorm1d(8, track_running_stats=kind != "without statistics"))()
    found, exact = gradients(model.eval() if kind == "evaluated" else model)
    for name, p in exact.named_parameters():
        assert p.grad is not None and relative_error(found[name], p.grad) < 1e-4


def small(model: Callable[[], nn.Module]) -> tuple[nn.Module, Captured]:
    given = task(model)
    return given.model, capture(given.model, given.loss, adamw(given.model.parameters()), given.data, 32)


def test_evaluation_mode_changes_no_buffer() -> None:
    _, captured = small(lambda: NORMS["one dimension"]().eval())
    assert not any(spec.name.startswith("buffer.") for spec in captured.program.state)
    assert {"buffer.1.running_mean", "buffer.1.running_var"} <= set(captured.data)


def test_training_statistics_are_in_the_state_and_not_in_the_data() -> None:
    _, captured = small(NORMS["one dimension"])
    assert [s.name for s in captured.program.state if s.name.startswith("buffer.")] == [
        "buffer.1.running_mean",
        "buffer.1.running_var",
        "buffer.1.num_batches_tracked",
    ]
    assert set(captured.data) == {"x", "y"}


def test_capturing_leaves_the_model_as_it_is() -> None:
    model = Average("assigned")
    before = {name: t.clone() for name, t in model.state_dict().items()}
    small(lambda: model)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model.average is dict(model.named_buffers())["average"]


def test_buffers_load_back_into_the_model_and_evaluate_as_pytorchs_do() -> None:
    model, captured = small(NORMS["two dimensions"])
    executor = Executor(captured.program, captured.data)
    state = dict(captured.state)
    for _ in range(5):
        state, _ = executor.step(state)
    captured.load_into(model, state)
    for name, tensor in model.named_buffers():
        assert np.array_equal(tensor.numpy(), state[f"buffer.{name}"])
    assert torch.isfinite(model.eval()(torch.randn(3, 30))).all()


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norms_vectors_follow_pytorchs(norm: Callable[[nn.Module], nn.Module]) -> None:
    followed = follow(task(lambda: nn.Sequential(norm(nn.Linear(30, 8)), nn.Tanh(), nn.Linear(8, 7))), adamw, 5)
    deviations = followed.deviations()
    assert len(deviations) == 6 and max(deviations.values()) < 1e-3


def test_a_model_that_spoils_its_batch_trains_on_fresh_ones() -> None:
    class Spoiling(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(1).mul_(2).clone())

    followed = follow(task(lambda: Spoiling(30, 7)), adamw, 5)
    assert max(followed.deviations().values()) < 1e-3


def test_a_nan_in_the_statistics_stays_there() -> None:
    _, captured = small(NORMS["one dimension"])
    state = dict(captured.state)
    state["buffer.1.running_var"] = np.array([np.nan, *np.ones(7)], np.float32)
    state, metrics = reference.step(captured.program, state, captured.data)
    assert np.isnan(state["buffer.1.running_var"]).tolist() == [True, *[False] * 7]
    assert np.isfinite(metrics["loss"])


def test_a_program_with_statistics_learns() -> None:
    given = task(lambda: nn.Sequential(nn.Linear(30, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 7)), regress)
    captured = capture(given.model, given.loss, adamw(given.model.parameters()), given.data, 32)
    executor = Executor(captured.program, captured.data)
    state, losses = dict(captured.state), []
    for _ in range(40):
        state, metrics = executor.step(state)
        losses.append(metrics["loss"])
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])


def test_a_name_that_a_parameter_has_taken_is_refused() -> None:
    class Taken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.buffer = nn.Linear(30, 7)
            self.register_buffer("weight", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.weight += 1
            return self.buffer(x)

    with pytest.raises(UsageError, match=r"'buffer\.weight' is taken"):
        small(Taken)


def test_mlp_has_no_buffers() -> None:
    _, captured = small(mlp(nn.ReLU()))
    assert not any(spec.name.startswith("buffer.") for spec in captured.program.state)
