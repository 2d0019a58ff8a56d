"""What cannot be captured is refused at once, by name and place, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bisection.errors import UnsupportedOperator, UsageError
from trainer.capture import capture
from trainer.lowering.interpret import SUPPORTED

DATA = {"x": torch.arange(48.0).reshape(12, 4), "y": torch.arange(12) % 3}


def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def attempt(
    model: nn.Module | None = None,
    loss: Callable[..., Any] = loss,
    optimizer: Callable[..., torch.optim.Optimizer] = lambda p: torch.optim.SGD(p, lr=0.1),
    data: Any = DATA,
    batch_size: Any = 4,
    **settings: Any,
) -> None:
    model = model if model is not None else nn.Linear(4, 3)
    capture(model, loss, optimizer(list(model.parameters())), data, batch_size, **settings)


class Sorting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(self.linear(x), 1)[0]


class Counting(nn.Linear):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Branching(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


# Operators


def test_an_operator_without_a_lowering_is_named_with_its_module_and_line_and_where_the_list_is() -> None:
    with pytest.raises(UnsupportedOperator) as refusal:
        attempt(nn.Sequential(Sorting()))
    message = str(refusal.value)
    assert "aten.sort" in message
    assert "module '0' (Sorting)" in message
    assert "test_capture_refusals.py:" in message
    assert "refstep doctor --operators" in message and str(len(SUPPORTED)) in message and len(message) < 400


def test_an_operator_that_only_the_loss_uses_is_placed_there() -> None:
    with pytest.raises(UnsupportedOperator, match=r"aten\.sort.*in the loss .*test_capture_refusals.py:"):
        attempt(loss=lambda m, b: m(b["x"]).sort(0)[0].mean())


def test_dropout_in_evaluation_mode_is_nothing() -> None:
    attempt(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).eval())


def test_a_variant_of_an_operator_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedOperator, match=r"aten\.convolution\.default in the loss .*of one and two dimensions"):
        attempt(loss=lambda m, b: nn.functional.conv3d(m(b["x"]).reshape(1, 1, 2, 2, 3), torch.ones(1, 1, 1, 1, 1)).mean())


def test_complex_numbers_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperator, match=r"aten\.view_as_complex\.default, used in the loss"):
        attempt(nn.Linear(4, 2), loss=lambda m, b: torch.view_as_complex(m(b["x"])).abs().mean())


def test_truth_values_as_an_index_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match=r"aten\.\w+.*, used in the loss .*may not depend on values"):
        attempt(loss=lambda m, b: m(b["x"])[b["y"] > 0].mean())


def test_a_half_precision_model_part_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="float16"):
        attempt(loss=lambda m, b: m(b["x"]).half().float().mean())


def test_control_flow_on_values_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match=r"the model \(Branching\).*may not depend on values"):
        attempt(Branching(4, 3))


def test_values_taken_out_of_the_graph_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match=r"aten\._local_scalar_dense.*in the loss"):
        attempt(loss=lambda m, b: m(b["x"]).mean() * b["x"].sum().item())


# Models


class Shrinking(Counting):
    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + torch.ones(3)
        return nn.Linear.forward(self, x)


class Decaying(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.99)
        return super().forward(x)


class Unregistered(nn.Linear):
    def __init__(self, in_place: bool) -> None:
        super().__init__(4, 3)
        self.in_place, self.mean = in_place, torch.zeros(3)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.in_place:
            self.mean[:2].mul_(0.9).add_(y.detach().mean())
        else:
            self.mean = 0.9 * self.mean + y.detach().mean(0)
        return y - self.mean


def test_a_buffer_that_changes_its_shape_is_named() -> None:
    with pytest.raises(UsageError, match=r"buffer 'calls'.*keep its type and shape"):
        attempt(Shrinking())


def test_a_parameter_that_the_model_changes_is_named() -> None:
    with pytest.raises(UsageError, match="parameter 'weight' in the forward pass"):
        attempt(Decaying(4, 3))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_changing_tensor_that_is_no_buffer_is_named_and_stays_as_it_was(in_place: bool) -> None:
    model = Unregistered(in_place)
    with pytest.raises(UsageError, match=r"'mean'.*register_buffer"):
        attempt(model)
    assert torch.equal(model.mean, torch.zeros(3))


def test_a_buffer_of_a_type_without_a_lowering_is_named() -> None:
    counting = Counting()
    counting.calls = counting.calls.double()
    with pytest.raises((UsageError, UnsupportedOperator), match="float64"):
        attempt(counting)


def test_batch_norm_without_momentum_depends_on_a_value() -> None:
    with pytest.raises(UnsupportedOperator, match=r"module '1' \(BatchNorm1d\).*may not depend on values"):
        attempt(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_model_that_is_not_float32(dtype: torch.dtype) -> None:
    with pytest.raises(UsageError, match=r"model\.float"):
        attempt(nn.Linear(4, 3).to(dtype))


@pytest.mark.parametrize("way", ["register_hook", "register_post_accumulate_grad_hook"])
def test_a_parameter_with_a_gradient_hook(way: str) -> None:
    model = nn.Linear(4, 3)
    getattr(model.weight, way)(lambda gradient: None)
    with pytest.raises(UnsupportedOperator, match="'weight' has a gradient hook"):
        attempt(model)


def test_a_parameter_with_a_name_of_the_state() -> None:
    model = nn.Linear(4, 3)
    model.register_parameter("step", nn.Parameter(torch.ones(3)))
    with pytest.raises(UsageError, match="'step' is taken"):
        attempt(model, lambda m, b: loss(m, b) + m.step.sum())


# Losses


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m, b: m(b["x"]),
        lambda m, b: m(b["x"]).mean(0),
        lambda m, b: m(b["x"]).mean().double(),
        lambda m, b: 1.0,
        lambda m, b: None,
        lambda m, b: (m(b["x"]).mean(),),
    ],
)
def test_a_loss_that_is_no_float32_scalar(wrong: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="scalar float32"):
        attempt(loss=wrong)


def test_a_loss_that_does_not_depend_on_what_is_trained() -> None:
    with pytest.raises(UsageError, match="does not depend"):
        attempt(loss=lambda m, b: b["x"].mean())


# Optimizers


@pytest.mark.parametrize("name", ["NAdam", "RAdam", "Rprop", "ASGD", "LBFGS"])
def test_other_optimizers_are_named_with_what_is_supported(name: str) -> None:
    with pytest.raises(UnsupportedOperator, match=f"{name}.*SGD, Adam, AdamW"):
        attempt(optimizer=getattr(torch.optim, name))


def test_a_subclass_may_do_anything_and_is_refused() -> None:
    class Mine(torch.optim.SGD):
        pass

    with pytest.raises(UnsupportedOperator, match="Mine"):
        attempt(optimizer=lambda p: Mine(p, lr=0.1))


def test_options_without_a_lowering_are_named() -> None:
    with pytest.raises(UnsupportedOperator, match="differentiable"):
        attempt(optimizer=lambda p: torch.optim.AdamW(p, differentiable=True))


def test_a_beta_too_close_to_one() -> None:
    with pytest.raises(UsageError, match="beta"):
        attempt(optimizer=lambda p: torch.optim.Adam(p, betas=(0.9, 1 - 1e-9)))


def test_an_optimizer_with_hooks() -> None:
    def hooked(parameters: Any) -> torch.optim.Optimizer:
        sgd = torch.optim.SGD(parameters, lr=0.1)
        sgd.register_step_pre_hook(lambda *_: None)
        return sgd

    with pytest.raises(UnsupportedOperator, match="hooks"):
        attempt(optimizer=hooked)


def test_an_optimizer_that_has_already_stepped() -> None:
    model = nn.Linear(4, 3)
    adam = torch.optim.Adam(model.parameters())
    model(DATA["x"]).sum().backward()
    adam.step()
    with pytest.raises(UsageError, match="already taken steps"):
        capture(model, loss, adam, DATA, 4)


def test_an_optimizer_over_other_parameters() -> None:
    with pytest.raises(UsageError, match=r"model\.parameters"):
        attempt(optimizer=lambda p: torch.optim.SGD([*p, nn.Parameter(torch.ones(2))], lr=0.1))


# Data and settings


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({}, "at least one"),
        ({**DATA, "y": DATA["y"][:5]}, "different numbers of examples"),
        ({"x": torch.tensor(1.0)}, "first dimension"),
        ({"x": torch.zeros(0, 4)}, "first dimension"),
        ({"x": np.zeros((12, 4))}, "must be a tensor"),
        ({"x": torch.zeros(12, 4, dtype=torch.complex64)}, "complex64"),
        ({"x" * 300: DATA["x"]}, "name"),
        ({"buffer.x": DATA["x"]}, "name"),
        ({"": DATA["x"]}, "name"),
    ],
)
def test_data_that_does_not_fit(data: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        attempt(data=data)


@pytest.mark.parametrize("batch_size", [0, -1, 13, 4.0, True, "4"])
def test_a_batch_size_that_does_not_fit(batch_size: Any) -> None:
    with pytest.raises(UsageError, match="batch_size must be a whole number from 1 to the 12 examples"):
        attempt(batch_size=batch_size)


@pytest.mark.parametrize("operand_bits", [1, 25, 15.0, "15", None, True])
def test_operand_bits_that_do_not_fit(operand_bits: Any) -> None:
    with pytest.raises(UsageError, match="operand_bits must be a whole number from 2 to 24"):
        attempt(operand_bits=operand_bits)


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5, None])
def test_a_seed_that_does_not_fit(seed: Any) -> None:
    with pytest.raises(UsageError, match="seed must be a whole number"):
        attempt(seed=seed)


def test_arguments_of_another_kind() -> None:
    with pytest.raises(UsageError, match=r"torch\.nn\.Module"):
        capture(lambda x: x, loss, torch.optim.SGD([nn.Parameter(torch.ones(1))]), DATA, 4)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"torch\.optim"):
        capture(nn.Linear(4, 3), loss, object(), DATA, 4)  # type: ignore[arg-type]


def test_a_state_of_another_program_is_not_loaded() -> None:
    model = nn.Linear(4, 3)
    captured = capture(model, loss, torch.optim.SGD(model.parameters(), lr=0.1), DATA, 4)
    with pytest.raises(UsageError, match="weight"):
        captured.load_into(nn.Linear(5, 3), captured.state)
