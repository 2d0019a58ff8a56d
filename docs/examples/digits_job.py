"""What a requester wants trained: `refstep job open docs/examples/digits_job.py …` runs this file and takes `captured`."""

import torch
from torch import Tensor, nn

import trainer
from sims.digits import digits

training, _ = digits()  # images f32 [1500, 64], labels i64 [1500]

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of the labels."""
    return nn.functional.cross_entropy(model(batch["images"]), batch["labels"])


captured = trainer.capture(model, loss, optimizer, training, batch_size=64, seed=0)
