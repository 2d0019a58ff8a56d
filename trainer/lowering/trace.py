"""Tracing: forward, loss and backward of a PyTorch model as one flat graph of ATen operators."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.fx.traceback import preserve_node_meta
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from bisection.errors import UnsupportedOperator, UsageError

__all__ = ["Loss", "Trace", "trace"]

Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]

_KEPT_WHOLE = (
    torch.ops.aten.nll_loss_forward.default,
    torch.ops.aten.nll_loss_backward.default,
    torch.ops.aten._log_softmax_backward_data.default,
    torch.ops.aten._softmax_backward_data.default,
    torch.ops.aten.embedding_dense_backward.default,
    torch.ops.aten.gelu_backward.default,
    torch.ops.aten.silu.default,
)
"""Operators that PyTorch could take apart but that lower better as they are."""


@dataclass(frozen=True)
class Trace:
    """A traced step without its optimizer.

    ``graph`` takes the flat tensors ``inputs`` (parameters, buffers, batch: pairs of kind and name) and returns the loss and one
    gradient, or None, for each of ``differentiated``. ``module`` holds tensors that the model or loss brought along.
    """

    module: torch.fx.GraphModule
    inputs: tuple[tuple[str, str], ...]
    differentiated: tuple[str, ...]

    @property
    def graph(self) -> torch.fx.Graph:
        """The operators in order."""
        return self.module.graph

    def leaves(self) -> Iterator[tuple[torch.fx.Node, str, str]]:
        """The tensors that the graph reads, as (node, kind, name); "constant" is the kind of those in ``module``."""
        names = iter(self.inputs)
        for node in self.graph.nodes:
            if node.op == "placeholder":
                kind, name = next(names)
                if node.users:
                    yield node, kind, name
            elif node.op == "get_attr":
                yield node, "constant", str(node.target)

    @staticmethod
    def place(node: torch.fx.Node) -> str:
        """Where ``node`` comes from: the module and source line that use it, or the backward pass."""
        note: str | None = node.meta.get("custom", {}).get(_PLACE)
        if note is not None:
            return note
        sources = (source.meta.get("custom", {}).get(_PLACE) for source in node.all_input_nodes)
        origin = next((source for source in sources if source), None)
        return "in the backward pass" + (f" of what is used {origin}" if origin else "")


_PLACE = "refstep_place"
_PYTORCH = str(Path(torch.__file__).parent)


class _Places(TorchFunctionMode):
    """While active, notes on every operator of the graph under construction which module and which source line called it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.modules: list[str] = []
        self.hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for path, module in self.model.named_modules():
            label = f"module {path!r} ({type(module).__name__})" if path else f"the model ({type(module).__name__})"
            self.hooks.append(module.register_forward_pre_hook(partial(self._enter, label), prepend=True))
            self.hooks.append(module.register_forward_hook(self._leave, always_call=True))
        return super().__enter__()  # type: ignore[no-untyped-call,no-any-return]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self.hooks:
            hook.remove()

    def _enter(self, label: str, *_: Any) -> None:
        self.modules.append(label)

    def _leave(self, *_: Any) -> None:
        self.modules.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        mode = get_proxy_mode()
        assert mode is not None, "places are noted while a graph is traced"
        graph = mode.tracer.graph
        last = next(reversed(graph.nodes), None)
        place = f"in {self.modules[-1] if self.modules else 'the loss'} ({_caller()})"
        try:
            result = func(*args, **(kwargs or {}))
        except (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode):
            name = getattr(func, "__name__", str(func))
            raise UnsupportedOperator(
                f"{name}, used {place}, has no lowering: what a program does may not depend on values"
            ) from None
        for node in reversed(graph.nodes):
            if node is last:
                break
            node.meta.setdefault("custom", {}).setdefault(_PLACE, place)
        return result


def _caller() -> str:
    """The innermost source line outside PyTorch and this file, as ``file:line``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_PYTORCH)):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _Step(nn.Module):
    """The loss as a module, so that the model's tensors can be swapped for traced ones."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """loss(model, batch)."""
        return self.loss(self.model, batch)


def trace(model: nn.Module, loss: Loss, batch: Mapping[str, Tensor], trained: tuple[str, ...]) -> Trace:
    """Trace ``loss(model, batch)`` and its gradients with respect to the parameters named ``trained``.

    Raises UsageError when the loss is no float32 scalar, or the model changes a buffer or parameter itself.
    """
    step = _Step(model, loss)
    tensors = {f"model.{name}": t for name, t in [*model.named_parameters(), *model.named_buffers()]}
    kinds = [("parameter", name) for name, _ in model.named_parameters()] + [("buffer", name) for name, _ in model.named_buffers()]
    names = [*kinds, *(("data", name) for name in batch)]

    def flat(*values: Tensor) -> tuple[Tensor | None, ...]:
        given = dict(zip(names, values, strict=True))
        swapped = {f"model.{name}": t for (kind, name), t in given.items() if kind != "data"}
        leaves = [swapped[f"model.{name}"] for name in trained]
        examples = {name: t for (kind, name), t in given.items() if kind == "data"}
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            with _Places(model):
                value = torch.func.functional_call(step, swapped, (examples,))
            _check_loss(value)
            if not value.requires_grad:
                raise UsageError("the loss does not depend on any parameter that the optimizer updates: there is nothing to train")
            gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        return (value.detach(), *gradients)

    values = [tensors[f"model.{name}"].detach().requires_grad_(name in trained) for _, name in kinds] + list(batch.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer's own
        module = _functional(_tracer(flat, {})(*values), values)
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.copy_.default and node.args[0] in inputs:
            kind, name = names[inputs.index(node.args[0])]
            raise UsageError(f"the model changes its {kind} {name!r} in the forward pass, which has no lowering: make it constant")
    module.graph.eliminate_dead_code()
    return Trace(module, tuple(names), trained)


def _tracer(function: Callable[..., Any], table: Mapping[Any, Callable[..., Any]]) -> Callable[..., torch.fx.GraphModule]:
    return make_fx(function, table, tracing_mode="fake", _allow_non_fake_inputs=True)


def _functional(module: torch.fx.GraphModule, values: list[Tensor]) -> torch.fx.GraphModule:
    """``module`` without mutations, in core ATen operators. A second pass, as autograd does not run under functionalisation."""
    table = dict(core_aten_decompositions())
    for operator in _KEPT_WHOLE:
        table.pop(operator, None)

    def run(*inputs: Tensor) -> Any:
        return torch.fx.Interpreter(module).run(*inputs)

    with preserve_node_meta():
        return _tracer(torch.func.functionalize(run, remove="mutations"), table)(*(value.detach() for value in values))


def _check_loss(value: Any) -> None:
    if not isinstance(value, Tensor) or value.dim() != 0 or value.dtype != torch.float32:
        got = f"a {value.dtype} tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"loss(model, batch) must give a scalar float32 tensor, not {got}: reduce it with mean() or sum()")
