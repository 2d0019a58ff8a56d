"""The training tasks that are timed: ordinary PyTorch models with random examples, made anew from one seed on every call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["TASKS", "Task"]

Batch = Mapping[str, Tensor]
BATCHES = 8  # of examples that a task has


@dataclass(frozen=True)
class Task:
    """What is trained. ``optimizer(model, fused)`` makes torch's ordinary or fused one; ``examples`` the data for so many examples,
    float tensors in float32, integers in int64."""

    what: str
    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Batch], Tensor]
    optimizer: Callable[[nn.Module, bool], torch.optim.Optimizer]
    examples: Callable[[int], dict[str, Tensor]]
    batch: int

    def make(self, fused: bool = False) -> tuple[nn.Module, torch.optim.Optimizer, dict[str, Tensor]]:
        """(model, optimizer, data), the same on every call."""
        torch.manual_seed(0)
        model = self.model()
        return model, self.optimizer(model, fused), self.examples(BATCHES * self.batch)


def _adamw(model: nn.Module, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)


def _momentum(model: nn.Module, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, fused=fused)


# Images -----------------------------------------------------------------------------------------------------------------


def _classes(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch["x"]), batch["y"])


def _images(*shape: int) -> Callable[[int], dict[str, Tensor]]:
    return lambda count: {"x": torch.randn(count, *shape), "y": torch.randint(0, 10, (count,))}


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


class _Residual(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = after // before
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for _ in range(2))
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.skip(x))


def _resnet() -> nn.Module:
    stages = [_Residual(16, 16), _Residual(16, 32), _Residual(32, 64)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


# Text -------------------------------------------------------------------------------------------------------------------

CONTEXT = 256
VOCABULARY = 256


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.before(x)).split(width, 2)
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.between(x))


class _GPT(nn.Module):
    def __init__(self, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def _next_byte(model: nn.Module, batch: Batch) -> Tensor:
    tokens = batch["text"].long()
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def _text(count: int) -> dict[str, Tensor]:
    return {"text": torch.randint(0, VOCABULARY, (count, CONTEXT + 1))}


def _gpt(layers: int, width: int, heads: int, batch: int = 8) -> Task:
    what = f"GPT, {layers} layers of {width}, {heads} heads, {batch} x {CONTEXT} bytes, AdamW"
    return Task(what, lambda: _GPT(layers, width, heads), _next_byte, _adamw, _text, batch)


TASKS = {
    "mlp": Task("MLP, 784-512-512-10, 128 images, AdamW", _mlp, _classes, _adamw, _images(784), 128),
    "resnet": Task("ResNet-8 with BatchNorm, 32 images of 3 x 32 x 32, SGD", _resnet, _classes, _momentum, _images(3, 32, 32), 32),
    "gpt-1m": _gpt(5, 128, 4),
    "gpt": _gpt(6, 384, 6),
    "gpt-30m": _gpt(6, 640, 10),
    "gpt-16k": _gpt(6, 384, 6, batch=64),
}
"""By name. ``gpt`` has about 10 million parameters and 2,048 tokens a step, ``gpt-16k`` 16,384 tokens."""
