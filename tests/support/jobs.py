"""Small training jobs with batches that several workers can share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from trainer.capture import Captured, capture


def _classified(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["x"]), batch["y"])


def _classifier(model: nn.Module, inputs: tuple[int, ...], batch: int) -> Captured:
    data = {"x": torch.randn(2 * batch + 7, *inputs), "y": torch.randint(0, 10, (2 * batch + 7,))}
    return capture(model, _classified, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), data, batch)


def mlp(batch: int = 256) -> Captured:
    """Two layers, dropout and ReLU between them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Dropout(0.2), nn.ReLU(), nn.Linear(64, 10))
    return _classifier(model, (32,), batch)


def normed(batch: int = 128) -> Captured:
    """Layer norm, batch norm, GELU and softmax."""
    torch.manual_seed(0)
    parts = nn.Linear(16, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, 12), nn.BatchNorm1d(12), nn.Softmax(-1), nn.Linear(12, 10)
    return _classifier(nn.Sequential(*parts), (16,), batch)


def convolution(batch: int = 8) -> Captured:
    """Padded and strided windows, pooling."""
    torch.manual_seed(0)
    features = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()
    return _classifier(nn.Sequential(*features, nn.Flatten(), nn.Linear(32, 10)), (1, 8, 8), batch)


class Attention(nn.Module):
    """Causal self-attention with two heads."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.heads, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("mask", torch.tril(torch.ones(length, length)).bool())

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (part.view(batch, length, 2, width // 2).transpose(1, 2) for part in self.heads(x).split(width, 2))
        scores = (q @ k.transpose(-1, -2) / math.sqrt(width // 2)).masked_fill(~self.mask, float("-inf"))
        return self.mixed((torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(x.shape))


class Transformer(nn.Module):
    """A language model of one block: embeddings, attention, GELU, residuals and norms."""

    def __init__(self, tokens: int = 24, width: int = 16, length: int = 16) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(tokens, width), nn.Parameter(torch.randn(length, width) * 0.02)
        self.attention, self.norms = Attention(width, length), nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.wide, self.out = (
            nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width)),
            nn.Linear(width, tokens, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.tokens(x) + self.places
        hidden = hidden + self.attention(self.norms[0](hidden))
        hidden = hidden + self.wide(self.norms[1](hidden))
        return self.out(self.norms[2](hidden))


def transformer(batch: int = 16) -> Captured:
    """Next-token prediction with AdamW."""
    torch.manual_seed(0)
    model = Transformer()

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        scores = model(batch["x"][:, :-1])
        return F.cross_entropy(scores.flatten(0, 1), batch["x"][:, 1:].flatten())

    return capture(model, loss, torch.optim.AdamW(model.parameters()), {"x": torch.randint(0, 24, (50, 17))}, batch, operand_bits=8)


JOBS = {job.__name__: job for job in (mlp, normed, convolution, transformer)}
