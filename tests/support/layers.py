"""Layers under test: values and gradients of a captured step against binary64 and bfloat16 autograd on the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainer.capture import prepare
from trainer.executor import Executor
from trainer.lowering.step import Step


class Holder(nn.Module):
    """A parameter ``x``, perhaps a layer, and a function of both; the result is weighted and summed to a scalar."""

    def __init__(self, function: Callable[..., Tensor], shape: tuple[int, ...], layer: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.x = nn.Parameter(torch.randn(shape))
        self.layer = layer
        self.function = function

    def forward(self) -> Tensor:
        """The weighted sum of the function's result."""
        result = self.function(self.x) if self.layer is None else self.function(self.layer, self.x)
        weights = torch.arange(result.numel(), dtype=self.x.dtype).cos().reshape(result.shape)
        return (result.to(self.x.dtype) * weights).sum()


@dataclass
class Case:
    """A function of a tensor of ``shape``, or of a layer and such a tensor."""

    shape: tuple[int, ...]
    function: Callable[..., Tensor]
    layer: Callable[[], nn.Module] | None = None
    steps: dict[int, tuple[Holder, Step]] = field(default_factory=dict)

    def step(self, operand_bits: int) -> tuple[Holder, Step]:
        """The model and its traced step."""
        if operand_bits not in self.steps:
            torch.manual_seed(1)
            model = Holder(self.function, self.shape, self.layer() if self.layer else None)
            optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
            data = {"unused": torch.zeros(2, 1)}
            self.steps[operand_bits] = model, prepare(model, lambda m, _: m(), optimizer, data, 1, operand_bits, 0)
        return self.steps[operand_bits]

    def operators(self) -> set[str]:
        """The ATen operators in its trace."""
        graph = self.step(24)[1].traced.graph
        return {str(node.target) for node in graph.nodes if node.op == "call_function"}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Those of eager PyTorch, in binary64, and the loss itself."""
    model.zero_grad()
    loss = model()
    loss.backward()
    return {"loss": loss.detach().double(), **{n: p.grad.double() for n, p in model.named_parameters() if p.grad is not None}}


def lowered(case: Case, operand_bits: int) -> dict[str, Tensor]:
    """The same of the program."""
    model, step = case.step(operand_bits)
    names = [name for name, _ in model.named_parameters()]
    program = step.lower([f"gradient.{name}" for name in names])
    trace = Executor(program, step.data).trace(step.state)
    found = {"loss": torch.from_numpy(trace[program.metrics["loss"]]).double().reshape(())}
    for name, parameter in model.named_parameters():
        if f"gradient.{name}" in program.metrics:
            found[name] = torch.from_numpy(trace[program.metrics[f"gradient.{name}"]]).double().reshape(parameter.shape)
    return found


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """The relative Frobenius error of each gradient."""
    names = [name for name in exact if name != "loss"]
    assert names and set(found) == set(exact)
    return {name: float((found[name] - exact[name]).norm() / exact[name].norm().clamp(min=1e-30)) for name in names}


def check_exact(case: Case, bound: float = 3e-6) -> None:
    """Value and gradients within ``bound`` of binary64, at 24 operand bits."""
    found = lowered(case, 24)
    exact = gradients(copy.deepcopy(case.step(24)[0]).double())
    scale = 1 + abs(exact["loss"].item()) + float(exact.get("x", torch.zeros(1)).norm())
    assert abs(float(found["loss"] - exact["loss"])) < 2 * bound * scale
    worst = errors(found, exact)
    assert max(worst.values()) < bound, worst


def check_products(case: Case) -> dict[str, Any]:
    """Gradients within 3e-3 and a fifth of bfloat16 autocast's error at 15 bits, 1e-4 and a hundredth at 20."""
    model, _ = case.step(15)
    exact = gradients(copy.deepcopy(model).double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = errors(gradients(copy.deepcopy(model)), exact)
    worst = {}
    for bits, part, bound in ((15, 1 / 5, 3e-3), (20, 1 / 100, 1e-4)):
        for name, error in errors(lowered(case, bits), exact).items():
            assert error < bound, (name, bits, error)
            # what autocast computes in float32 (biases, of sums) has no error to take a part of
            assert rough[name] < 1e-4 or error < part * rough[name], (name, bits, error, rough[name])
            worst[f"{name} {bits}"] = error, rough[name]
    return worst
