"""Watching a model while it is traced: which module and source line calls an operator, and which tensors it keeps to itself."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from bisection.errors import UnsupportedOperator

__all__ = ["PLACE", "OtherRandomness", "OwnTensors", "Places", "uncompiled", "unvalidated"]

PLACE = "refstep_place"
"""The key under which ``Places`` notes on a node of the graph, in ``node.meta["custom"]``, where it was called."""

_REFUSED = (
    ("an assignment to .data", Tensor.data.__set__, "copy_() under torch.no_grad()"),  # type: ignore[attr-defined]
    ("random_()", Tensor.random_, "torch.randint"),
)
"""What tracing would miss (the first) or stumble over (the second)."""

_PYTORCH = str(Path(torch.__file__).parent)


class Places(TorchFunctionMode):
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
        if mode is None:  # PyTorch's own work beside the graph, such as setting up hooks
            return func(*args, **(kwargs or {}))
        graph = mode.tracer.graph
        last = next(reversed(graph.nodes), None)
        place = f"in {self.modules[-1] if self.modules else 'the loss'} ({_caller()})"
        for what, refused, instead in _REFUSED:
            if func == refused:
                raise UnsupportedOperator(f"{what}, {place}, has no lowering: use {instead}")
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
            node.meta.setdefault("custom", {}).setdefault(PLACE, place)
        return result


def _caller() -> str:
    """The innermost source line outside PyTorch and this file, as ``file:line``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_PYTORCH)):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class OwnTensors:
    """The tensors that modules keep as plain attributes. Leaving puts back those that tracing has replaced."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = list(model.named_modules())

    def _now(self) -> dict[tuple[str, str], Tensor]:
        kept = ((path, name, value) for path, module in self.modules for name, value in vars(module).items())
        return {(path, name): value for path, name, value in kept if isinstance(value, Tensor)}

    def __enter__(self) -> Self:
        self.before = self._now()
        return self

    def __exit__(self, *_: Any) -> None:
        modules = dict(self.modules)
        for (path, name), value in self._now().items():
            old = self.before.get((path, name))
            if old is None:
                delattr(modules[path], name)
            elif old is not value:
                setattr(modules[path], name, old)

    def name(self, tensor: Tensor) -> str:
        """What the model calls ``tensor``."""
        return next((repr(name) for (_, name), old in self.before.items() if old is tensor), "a tensor of its own")

    def replaced(self, tensor: Tensor) -> bool:
        """Whether the model has put another tensor where ``tensor`` was."""
        now = self._now()
        return any(old is tensor and now.get(place) is not old for place, old in self.before.items())


class OtherRandomness:
    """Raises UnsupportedOperator on leaving if Python's or numpy's own generator has been used: its numbers would be constants."""

    def _states(self) -> dict[str, Any]:
        return {"Python's random": random.getstate(), "numpy.random": pickle.dumps(np.random.get_state())}

    def __enter__(self) -> Self:
        self.before = self._states()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        for name, state in self._states().items():
            if kind is None and state != self.before[name]:
                raise UnsupportedOperator(f"the step draws from {name}, which has no lowering: draw with torch (torch.rand, …)")


@contextmanager
def unvalidated() -> Iterator[None]:
    """torch.distributions without its checks of arguments, which are decisions on values and no part of a step."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


@contextmanager
def uncompiled() -> Iterator[None]:
    """What torch.compile has wrapped runs as it was written."""
    from torch._dynamo import config  # here, as it takes seconds

    with config.patch(error_on_nested_fx_trace=False):
        yield
