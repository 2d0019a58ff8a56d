"""Gradients of a job's first step against PyTorch's own: the same examples, the same random draws, any precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.lowering import Workbench
from tests.zoo.job import Capture
from trainer.lowering.interpret import draws
from trainer.lowering.randomness import keys
from trainer.lowering.step import Step
from trainer.lowering.table import OPERATORS, Context
from trainer.lowering.views import narrow, reshape

__all__ = ["Comparison", "compare", "eager_gradients"]

CANCELLED = 1e-5
"""The relative error of eager float32 from which on a gradient counts as zero in exact arithmetic, or nearly: what is left when all
terms cancel, as with the bias before a batch norm, the key's bias in attention, or a scale that the next norm takes out again."""


@dataclass(frozen=True)
class Comparison:
    """Relative errors (Frobenius) of one parameter's gradient in a program and in eager PyTorch with bfloat16 autocast.

    Errors of ``cancelled`` gradients are relative to the largest gradient in the model.
    """

    parameter: str
    operand_bits: int
    error: float
    bfloat16: float
    cancelled: bool


def compare(captured: Capture, *operand_bits: int) -> Iterator[Comparison]:
    """Every parameter's gradient at each of ``operand_bits`` against eager autograd in binary64."""
    exact, single, rough = eager_gradients(captured, torch.float64, torch.float32, torch.bfloat16)
    assert set(exact) == set(captured.trained)
    largest = max(gradient.norm() for gradient in exact.values())
    for bits in operand_bits:
        for name, found in captured.gradients(bits).items():
            true = exact[name]
            cancelled = bool((single[name] - true).norm() > CANCELLED * true.norm())
            size = largest if cancelled else true.norm()
            error, bfloat16 = (float((gradient - true).norm() / size) for gradient in (found, rough[name]))
            yield Comparison(name, bits, error, bfloat16, cancelled)


def eager_gradients(captured: Capture, *types: torch.dtype) -> list[dict[str, Tensor]]:
    """In each of ``types``: float64, float32, or bfloat16 for what autocast makes of it. The results are in binary64."""
    data = captured.job.data()
    batches = [{name: t[part] for name, t in data.items()} for part in captured.examples.split(captured.job.batch_size)]
    drawn = _draws(captured.step, len(batches))
    return [_gradients(captured, batches, drawn, dtype) for dtype in types]


def _gradients(
    captured: Capture, batches: list[dict[str, Tensor]], drawn: list[list[Tensor]], dtype: torch.dtype
) -> dict[str, Tensor]:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    model = copy.deepcopy(captured.model).to(wide)
    for batch, draws_of_batch in zip(batches, drawn, strict=True):
        given = {name: t.to(wide) if t.is_floating_point() else t for name, t in batch.items()}
        with _default(wide), _Replay(draws_of_batch), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = captured.job.loss(model, given)
        (found[0] if isinstance(found, tuple) else found).div(len(batches)).backward()
    return {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}


def _draws(step: Step, batches: int) -> list[list[Tensor]]:
    """What each random operator of each micro-batch draws in the first step."""
    nodes = draws(step.traced)
    if not nodes:
        return [[] for _ in range(batches)]
    bench = Workbench()
    every = keys(bench.builder, bench.step, step.notes["seed"], batches * len(nodes))
    values = []
    for number, node in enumerate(nodes * batches):
        key = reshape(bench.builder, narrow(every, 0, number, 1), ())
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda _: None)
        context = Context(bench.builder, 15, str(node.target), "in a test", node.meta["val"], key)
        values.append(OPERATORS[context.name](context, *args, **kwargs))
    results = [torch.from_numpy(array) for array in bench.run(*values)]
    return [results[i * len(nodes) :][: len(nodes)] for i in range(batches)]


class _Replay(TorchDispatchMode):
    """While active, random operators give ``draws``, one after the other."""

    def __init__(self, draws: list[Tensor]) -> None:
        super().__init__()
        self.left = list(draws)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags or "attention" in func.name():  # which draws nothing of its own
            return func(*args, **(kwargs or {}))
        drawn = self.left.pop(0)
        if func._schema.is_mutable:
            return args[0].copy_(drawn)
        return drawn.to(args[0].dtype) if isinstance(args[0], Tensor) else drawn

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        assert error[0] is not None or not self.left, "PyTorch drew less often than the program"


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
