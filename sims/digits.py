"""The demo's job: a multi-layer perceptron on real handwritten digits."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch
from torch import Tensor, nn

from trainer.capture import Captured, capture

__all__ = ["accuracy", "digits", "job", "model"]

TRAINING_EXAMPLES = 1500
BATCH_SIZE = 64
LEARNING_RATE = 3e-3

Examples = dict[str, Tensor]


def digits() -> tuple[Examples, Examples]:
    """(training, test) examples: images f32 [n, 64] in 0 … 1 and labels i64 [n]; 1,500 and 297 of them, in a fixed random order."""
    with (files("sims") / "data" / "digits.npz").open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        images, labels = archive["images"], archive["labels"]
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = torch.from_numpy(images[order]).float() / 16, torch.from_numpy(labels[order]).long()
    cut = TRAINING_EXAMPLES
    return {"images": x[:cut], "labels": y[:cut]}, {"images": x[cut:], "labels": y[cut:]}


def model(seed: int) -> nn.Module:
    """64 → 128 → 10 with a ReLU between."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def loss(model: nn.Module, batch: Examples) -> Tensor:
    """Cross-entropy of the labels."""
    return nn.functional.cross_entropy(model(batch["images"]), batch["labels"])


def job(seed: int, learning_rate: float = LEARNING_RATE) -> tuple[nn.Module, Captured]:
    """The model as it starts, and its captured training step."""
    start = model(seed)
    optimizer = torch.optim.AdamW(start.parameters(), lr=learning_rate)
    return start, capture(start, loss, optimizer, digits()[0], BATCH_SIZE, seed=seed)


def accuracy(trained: nn.Module) -> float:
    """The share of test examples that ``trained`` gets right."""
    _, test = digits()
    with torch.no_grad():
        return float((trained(test["images"]).argmax(1) == test["labels"]).double().mean())
