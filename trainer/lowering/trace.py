"""Tracing: forward, loss and backward of a PyTorch model as one flat graph of ATen operators."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions, get_decompositions
from torch._decomp.decompositions import native_batch_norm_decomposition
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import transformer

from bisection.errors import UnsupportedOperator, UsageError
from trainer.lowering.watch import PLACE, OtherRandomness, OwnTensors, Places, uncompiled, unvalidated

__all__ = ["Loss", "Trace", "trace"]

Loss = Callable[[nn.Module, dict[str, Tensor]], Any]
"""loss(model, batch): a float32 scalar, or a pair of it and a dict of further scalars by name."""

_KEPT_WHOLE = (
    torch.ops.aten.nll_loss_forward.default,
    torch.ops.aten.nll_loss_backward.default,
    torch.ops.aten._log_softmax_backward_data.default,
    torch.ops.aten._softmax_backward_data.default,
    torch.ops.aten.embedding_dense_backward.default,
    torch.ops.aten.gelu_backward.default,
    torch.ops.aten.silu.default,
    torch.ops.aten.upsample_nearest1d.default,
    torch.ops.aten.upsample_nearest2d.default,
    torch.ops.aten.upsample_linear1d.default,
    torch.ops.aten.roll.default,
    torch.ops.aten.im2col.default,
    torch.ops.aten.col2im.default,
    torch.ops.aten.unfold_backward.default,
)
"""Operators that PyTorch could take apart but that lower better as they are."""

_STATISTICS = {torch.ops.aten.native_batch_norm.default: native_batch_norm_decomposition}
"""Its schema hides that it changes the running statistics; the operators that it becomes say so."""

_ALSO_APART = (
    torch.ops.aten._native_batch_norm_legit_functional.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
    torch.ops.aten._native_batch_norm_legit.default,
    torch.ops.aten._native_batch_norm_legit.no_stats,
)
"""Operators that PyTorch counts as core and that are taken apart."""


def _var_mean(x: Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    dims = list(range(x.dim())) if dim is None else dim
    return torch.var(x, dims, correction=correction, keepdim=keepdim), torch.mean(x, dims, keepdim)


@dataclass(frozen=True)
class Trace:
    """A traced step without its optimizer.

    ``graph`` takes the flat tensors ``inputs`` (parameters, buffers, batch, constants: pairs of kind and name) and returns the
    loss, a scalar for each of ``metrics``, one gradient, or None, for each of ``differentiated``, and the next value of each of
    ``buffers``, those that the step changes. ``constants`` are tensors that the model or the loss brought along.
    """

    graph: torch.fx.Graph
    inputs: tuple[tuple[str, str], ...]
    constants: Mapping[str, Tensor]
    metrics: tuple[str, ...]
    differentiated: tuple[str, ...]
    buffers: tuple[str, ...]

    @property
    def gradients(self) -> tuple[torch.fx.Node | None, ...]:
        """The gradient of each of ``differentiated``."""
        results: Any = self.graph.output_node().args[0]
        first = 1 + len(self.metrics)
        return tuple(results[first : first + len(self.differentiated)])

    def leaves(self) -> Iterator[tuple[torch.fx.Node, str, str]]:
        """The tensors that the graph reads, as (node, kind, name)."""
        for node, (kind, name) in zip(self.graph.find_nodes(op="placeholder"), self.inputs, strict=True):
            if node.users:
                yield node, kind, name

    @staticmethod
    def in_forward(node: torch.fx.Node) -> bool:
        """Whether the model or the loss called ``node``, not the backward pass."""
        return PLACE in node.meta.get("custom", {})

    @staticmethod
    def place(node: torch.fx.Node) -> str:
        """Where ``node`` comes from: the module and source line that use it, or the backward pass."""
        note: str | None = node.meta.get("custom", {}).get(PLACE)
        if note is not None:
            return note
        sources = (source.meta.get("custom", {}).get(PLACE) for source in node.all_input_nodes)
        origin = next((source for source in sources if source), None)
        return "in the backward pass" + (f" of what is used {origin}" if origin else "")


RESERVED_METRICS = ("loss", "grad_norm")


class _Step(nn.Module):
    """The loss as a module, so that the model's tensors can be swapped for traced ones."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: dict[str, Tensor]) -> Any:
        """loss(model, batch)."""
        return self.loss(self.model, batch)


def trace(model: nn.Module, loss: Loss, batch: Mapping[str, Tensor], trained: tuple[str, ...]) -> Trace:
    """Trace ``loss(model, batch)`` and its gradients with respect to the parameters named ``trained``.

    Raises UsageError when the loss is no float32 scalar, or the model changes a parameter itself.
    """
    step = _Step(model, loss)
    tensors = {f"model.{name}": t for name, t in [*model.named_parameters(), *model.named_buffers()]}
    kinds = [("parameter", name) for name, _ in model.named_parameters()] + [("buffer", name) for name, _ in model.named_buffers()]
    names = [*kinds, *(("data", name) for name in batch)]
    metrics: list[str] = []

    def flat(*values: Tensor) -> tuple[Tensor | None, ...]:
        given = dict(zip(names, values, strict=True))
        swapped = {f"model.{name}": t for (kind, name), t in given.items() if kind != "data"}
        leaves = [swapped[f"model.{name}"] for name in trained]
        examples = {name: t for (kind, name), t in given.items() if kind == "data"}
        # Attention and recurrent layers in their plain forms, not as one operator of a library.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False), _masks_unread():
            with Places(model):
                value, extra = _scalars(torch.func.functional_call(step, swapped, (examples,)))
            if not value.requires_grad:
                raise UsageError("the loss does not depend on any parameter that the optimizer updates: there is nothing to train")
            gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        metrics[:] = extra
        # After the call ``swapped`` holds what the model has put in the place of its tensors.
        after = [_unlinked(swapped[f"model.{name}"]) for _, name in kinds]
        return (value.detach(), *(x.detach() for x in extra.values()), *gradients, *after)

    # Traced on the CPU wherever the model lies, so that the program does not depend on it. No value is looked at.
    blank = {name: torch.empty_like(tensor, device="cpu", requires_grad=False) for name, tensor in tensors.items()}
    values = [blank[f"model.{name}"].requires_grad_(name in trained) for _, name in kinds] + list(batch.values())
    with warnings.catch_warnings(), OwnTensors(model) as own:
        warnings.simplefilter("ignore")  # of the tracer's own
        with unvalidated(), OtherRandomness(), uncompiled():
            recorded = _tracer(flat, _STATISTICS)(*values)
        constants = _brought_along(recorded)
        graph = _functional(recorded, values, constants)
        numbered = {str(i): tensor for i, tensor in enumerate(constants.values())}
        names += [("constant", number) for number in numbered]
        changed = _changed(graph, names, len(kinds))
        for number, tensor in numbered.items():
            if ("constant", number) in changed or own.replaced(tensor):
                raise UsageError(
                    f"the model changes {own.name(tensor)}, which is no buffer of it: register it with register_buffer"
                )
    buffers = tuple(name for kind, name in changed if kind == "buffer")
    return Trace(graph, tuple(names), numbered, tuple(metrics), trained, buffers)


def _brought_along(module: torch.fx.GraphModule) -> dict[str, Tensor]:
    """The tensors that the step in ``module`` reads and that are none of its inputs, by their names there."""
    found = {}
    for node in module.graph.find_nodes(op="get_attr"):
        value = getattr(module, str(node.target))
        if not isinstance(value, Tensor):
            user = next(iter(node.users))
            raise UnsupportedOperator(
                f"{user.target}, used {Trace.place(user)}, takes a {type(value).__name__}, which has no lowering: leave it out"
            )
        found[str(node.target)] = value
    return found


def _unlinked(tensor: Tensor) -> Tensor:
    """``tensor`` without its history: a step's gradients end at the step's start."""
    return tensor.detach() if tensor.grad_fn is not None else tensor


def _changed(graph: torch.fx.Graph, names: list[tuple[str, str]], lasting: int) -> list[tuple[str, str]]:
    """The inputs that the graph changes. Its outputs are reduced to those of them that are buffers among the first ``lasting``."""
    inputs = graph.find_nodes(op="placeholder")
    output = graph.output_node()
    results: Any = output.args[0]
    kept, after = list(results[:-lasting]), results[-lasting:]
    changed = []
    for (kind, name), before, now in zip(names, inputs, after, strict=False):
        if now is before:
            continue
        if kind == "parameter":
            raise UsageError(f"the model changes its parameter {name!r} in the forward pass, which has no lowering: use a buffer")
        old, new = before.meta["val"], now.meta["val"]
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            raise UsageError(
                f"the model turns its buffer {name!r} from {old.dtype}{list(old.shape)} into {new.dtype}{list(new.shape)}: "
                "keep its type and shape"
            )
        changed.append((kind, name))
        kept.append(now)
    output.args = (tuple(kept),)
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default):  # functionalisation's writing back
        place = names[inputs.index(node.args[0])]
        if place[0] == "constant":
            changed.append(place)
        graph.erase_node(node)  # buffers are known above, and changes of a batch are seen by nobody
    graph.eliminate_dead_code()
    return changed


@contextmanager
def _masks_unread() -> Iterator[None]:
    """While active, transformer layers do not look into a mask for whether it is causal: to them that is a hint for speed only."""
    detect = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = detect


def _tracer(function: Callable[..., Any], table: Mapping[Any, Callable[..., Any]]) -> Callable[..., torch.fx.GraphModule]:
    return make_fx(function, table, tracing_mode="fake", _allow_non_fake_inputs=True)


class _Given(torch.fx.Interpreter):
    """Runs a graph with some of its module's tensors given from outside."""

    def __init__(self, module: torch.fx.GraphModule, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(module)
        self.tensors = tensors

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Tensor:
        """The tensor that is given for ``target``."""
        return self.tensors[target]


def _functional(module: torch.fx.GraphModule, values: list[Tensor], constants: Mapping[str, Tensor]) -> torch.fx.Graph:
    """The graph of ``module`` without mutations, in core ATen operators, with ``constants`` as further inputs.

    A second pass, as autograd does not run under functionalisation.
    """
    table = dict(core_aten_decompositions())
    table.update(get_decompositions(_ALSO_APART))
    table[torch.ops.aten.var_mean.correction] = _var_mean
    for operator in _KEPT_WHOLE:
        table.pop(operator, None)

    def run(*inputs: Tensor) -> Any:
        return _Given(module, dict(zip(constants, inputs[len(values) :], strict=True))).run(*inputs[: len(values)])

    with preserve_node_meta():
        functional = _tracer(torch.func.functionalize(run, remove="mutations"), table)
        graph: torch.fx.Graph = functional(*(value.detach() for value in [*values, *constants.values()])).graph
    assert not graph.find_nodes(op="get_attr"), "a decomposition brought a tensor along"
    return graph


def _scalars(value: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """(the loss, further metrics) of what loss(model, batch) gave."""
    extra: Any = {}
    if isinstance(value, tuple) and len(value) == 2:
        value, extra = value
    if not isinstance(value, Tensor) or value.dim() != 0 or value.dtype != torch.float32:
        got = f"a {value.dtype} tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(
            f"loss(model, batch) must give a scalar float32 tensor, or that and a dict of metrics, not {got}: "
            "reduce it with mean() or sum()"
        )
    if not isinstance(extra, Mapping):
        raise UsageError(f"the second thing that loss(model, batch) gives must be a dict of metrics, not {type(extra).__name__}")
    for name, metric in extra.items():
        if not isinstance(name, str) or not name or name in RESERVED_METRICS:
            raise UsageError(f"a metric cannot have the name {name!r}: use a string other than {', '.join(RESERVED_METRICS)}")
        if not isinstance(metric, Tensor) or metric.dim() != 0:
            raise UsageError(f"the metric {name!r} must be a scalar tensor: reduce it with mean() or sum()")
    return value, dict(extra)
