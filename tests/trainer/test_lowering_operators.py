"""Every operator in the table: value and gradient against binary64 autograd, through small functions of one parameter."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from bisection import reference
from tests.trainer.test_lowering_convolution import CASES as CONVOLUTIONS
from tests.trainer.test_lowering_indexing import CASES as INDEXING
from tests.trainer.test_lowering_layers import CASES as LAYERS
from tests.trainer.test_lowering_pooling import CASES as POOLING
from trainer.capture import prepare
from trainer.lowering.interpret import SUPPORTED
from trainer.lowering.randomness import RANDOM
from trainer.lowering.step import Step

Function = Callable[[Tensor], Tensor]
SHAPE = (4, 5, 6)


def written(x: Tensor) -> Tensor:
    result = torch.zeros(4, 5, 6, dtype=x.dtype)
    result[1:3, ::2] = x[:2, :3] * 2
    result[:, 1] += x[:, 0].square()
    return result


FUNCTIONS: dict[str, Function] = {
    # arithmetic
    "add, sub, mul, div": lambda x: (x + 2 * x - x * x) / (3 + x * x) - (1 - x) + torch.add(x, x, alpha=0.3),
    "neg, abs, reciprocal": lambda x: (-x).abs() + 1 / (x.abs() + 1),
    "powers": lambda x: x**2 + x.pow(3) + (x.abs() + 1) ** 0.5 + (x.abs() + 1) ** -1.5 + x**1 + x**0,
    "exp, log": lambda x: torch.exp(x) + torch.log(x.abs() + 0.1) + torch.log1p(x.abs()) + torch.expm1(x),
    "sqrt, rsqrt": lambda x: (x.abs() + 0.5).sqrt() + (x.abs() + 0.5).rsqrt(),
    "sin, cos": lambda x: torch.sin(3 * x) * torch.cos(x),
    "tanh, sigmoid, erf": lambda x: torch.tanh(x) + torch.sigmoid(x) + torch.erf(x),
    "activations": lambda x: (
        F.relu(x) + F.leaky_relu(x, 0.2) + F.silu(x) + F.elu(x) + F.hardtanh(x) + F.softplus(x) + F.hardswish(x)
    ),
    "gelu": lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"),
    "sign": lambda x: torch.sign(x) * x,
    "clamp": lambda x: x.clamp(x * 0.5, x.square()) + x.clamp(-0.5, 0.7) + x.clamp(min=0.1) + x.clamp(max=-0.1),
    "maximum, minimum": lambda x: torch.maximum(x, x * x) + torch.minimum(x, 0.5 * x + 1),
    # choices
    "where, comparisons": lambda x: torch.where(x > 0.2, x * 2, x * 3) + torch.where((x >= 0) & (x < 1) | ~(x <= -1), x, x * 0.5),
    "masked fill": lambda x: x.masked_fill(x != x.abs(), 0.25),
    "logical": lambda x: (
        torch.where(torch.logical_xor(x > 0, x < 1) | torch.logical_not(x > 0.5), x, x * x)
        + x * torch.logical_or(x >= x * x, x <= x.flip(0)) * torch.logical_and(x != 0.5, (x > 0) ^ (x > 1))
    ),
    "any": lambda x: torch.where((x > 1).any(1, keepdim=True), x, 2 * x) * ((x > 1.5).any() * x) + x * (x > 1).any(dim=(0, 1)),
    "equality": lambda x: x * (torch.arange(6) == 3) + x * torch.eq(torch.arange(6), torch.arange(6).flip(0)),
    # views
    "permute, transpose": lambda x: x.permute(2, 0, 1).transpose(0, 2) * 2,
    "view of a permuted tensor": lambda x: x.transpose(0, 1).reshape(20, 6) ** 2,
    "unsqueeze, squeeze, expand": lambda x: (x.unsqueeze(1).expand(4, 3, 5, 6) * 2).sum(1).unsqueeze(0).squeeze(0),
    "broadcasting": lambda x: x * x[0] + x[:, :1] * x[:, :, :1],
    "slices": lambda x: x[1:3, ::2, -4:] * 2 + x[0:2, 1:4, 2:],
    "select": lambda x: x[2] * x[-1] + x[:, 3].sum(0),
    "flip": lambda x: x.flip(0, 2) * x,
    "cat": lambda x: torch.cat([x, 2 * x[:, :2], x.square()], 1),
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "split": lambda x: operator.mul(*x.split(3, 2)) + x.chunk(2, 2)[1],
    "unbind": lambda x: sum((i + 1) * part for i, part in enumerate(x.unbind(1))),  # type: ignore[misc,return-value]
    "pad": lambda x: F.pad(x, (1, 2, -1, 1), value=0.5) ** 2,
    "arange": lambda x: x * torch.arange(6) + torch.arange(0.5, 3.5, 0.5) * x,
    "empty tensors that are filled": lambda x: x * torch.empty(6).fill_(2.0) + torch.empty_like(x).fill_(3.0) * x,
    "scatter into views": lambda x: torch.select_scatter(x, x[0] * 2, 0, 1) * torch.slice_scatter(x, x[:2] * 3, 0, 1, 3),
    "writing into a slice": written,
    "constants": lambda x: x * torch.ones(6) + torch.zeros_like(x) + torch.full((5, 6), 2.0) * x,
    "conversions": lambda x: x * (x * 10).to(torch.int32).float() + x * (x * 3).long() + x * (x > 0).float(),
    "integers": lambda x: (
        x * ((torch.arange(6) * 7 - 3) & 5 | 2 | 2 ^ torch.arange(6)).float()
        + x * (torch.arange(6) ^ 3)
        + x * (~torch.arange(6)).abs()
    ),
    # reductions
    "sums": lambda x: x.sum(0).sum(-1, keepdim=True) + x.square().sum((0, 2)) + x.sum(),
    "means": lambda x: x.mean(1) + x.square().mean() + x.mean((1, 2), keepdim=True)[..., 0],
    "amax, amin": lambda x: x.amax(1) + x.amin(1) + x.amax((1, 2), keepdim=True)[..., 0],
    "softmax": lambda x: x.softmax(-1) + x.softmax(0) * x,
    "log softmax": lambda x: x.log_softmax(1) * x + F.logsigmoid(x),
    "logsumexp": lambda x: x.logsumexp(-1),
    "layer norm": lambda x: F.layer_norm(x, (5, 6)) * x + F.layer_norm(x, (6,), torch.linspace(0.5, 1.5, 6).to(x.dtype)),
    "variance": lambda x: x.var(1) + x.var((0, 1), unbiased=False).sum() + x.std(1),
    "norm": lambda x: x.norm(dim=1) + F.normalize(x, dim=2).sum(1),
    # products
    "mm, mv, dot": lambda x: (x[0] @ x[1].t()) @ x[2, :, 0] * (x[0, 0] @ x[1, 1]),
    "bmm": lambda x: x @ x.transpose(1, 2),
    "addmm": lambda x: torch.addmm(x[0, :, :5], x[1], x[2].t(), beta=0.5, alpha=2.0) + torch.baddbmm(x[:, :, :5], x, x.mT)[0],
    "linear": lambda x: F.linear(x, x[0, :3], x[1, 0, :3]),
    "outer": lambda x: torch.outer(x[0, 0], x[1, 1]),
    "addmv": lambda x: torch.addmv(x[0, :, 0], x[1], x[2, 0]),
    # lookups
    "gather": lambda x: x.gather(2, torch.tensor([[[0, 5, 2]] * 5] * 4)).square(),
    "embedding": lambda x: F.embedding(torch.tensor([[3, 1, 1], [0, 3, 3]]), x[0]).square(),
}


class Holder(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.x = nn.Parameter(torch.randn(SHAPE))
        self.function = function

    def forward(self) -> Tensor:
        result = self.function(self.x)
        weights = torch.linspace(0.5, 1.5, result.numel(), dtype=result.dtype).reshape(result.shape)
        return (result * weights).sum()


def total(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return model()


@cache
def step_of(name: str) -> tuple[Holder, Step]:
    model = Holder(FUNCTIONS[name])
    return model, prepare(model, total, torch.optim.SGD(model.parameters(), lr=1.0), {"unused": torch.zeros(2, 1)}, 1, 24, 0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_gradient_are_autograds(name: str) -> None:
    model, step = step_of(name)
    program = step.lower(["gradient.x"])
    trace = reference.trace(program, step.state, step.data)
    exact = copy.deepcopy(model).double()
    value = exact()
    value.backward()
    assert exact.x.grad is not None
    scale = float(value.detach().abs()) + float(exact.x.detach().norm())
    assert abs(float(trace[program.metrics["loss"]][0]) - value.item()) < 2e-6 * scale
    found = torch.from_numpy(trace[program.metrics["gradient.x"]]).reshape(SHAPE)
    assert float((found - exact.x.grad).norm() / exact.x.grad.norm()) < 3e-6


def test_the_functions_here_and_the_losses_elsewhere_use_the_whole_table() -> None:
    used: set[str] = set()
    for name in FUNCTIONS:
        _, step = step_of(name)
        used |= {str(node.target) for node in step.traced.graph.nodes if node.op == "call_function"}
    for case in [*CONVOLUTIONS.values(), *POOLING.values(), *INDEXING.values(), *LAYERS.values()]:
        used |= case.operators()
    elsewhere = {name for name in SUPPORTED if "nll_loss" in name} | RANDOM
    assert sorted(set(SUPPORTED) - used - elsewhere) == []


def value_of(function: Callable[..., Tensor], *inputs: Any) -> np.ndarray:
    """function(*inputs) as the program computes it, through a constant's path."""
    tensors = [torch.as_tensor(x) for x in inputs]
    model = Holder(lambda x: x * 0)

    def loss(m: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return m() + function(*tensors)

    step = prepare(model, loss, torch.optim.SGD(model.parameters(), lr=1.0), {"unused": torch.zeros(2, 1)}, 1, 15, 0)
    program = step.lower()
    return reference.trace(program, step.state, step.data)[program.metrics["loss"]][0]


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (torch.relu, [float("nan")]),
        (torch.maximum, [float("nan"), 1.0]),
        (torch.minimum, [1.0, float("nan")]),
        (lambda x: x.clamp(0, 1), [float("nan")]),
        (F.leaky_relu, [float("nan")]),
        (F.elu, [float("nan")]),
        (lambda x: x.softmax(0).sum(), [[1.0, float("nan")]]),
        (lambda x: x.sum(), [[1.0, float("inf")]]),
    ],
)
def test_nan_is_carried_through(function: Callable[..., Tensor], inputs: list[Any]) -> None:
    assert np.isnan(value_of(function, *inputs))
