"""The zoo: every job by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import data, embeddings, images, language, patches, restore, sequences
from tests.zoo.job import Job, adam, adamw, sgd

__all__ = ["JOBS", "each_job"]


def _padded() -> dict[str, Tensor]:
    """Texts cut at different lengths, 0 behind their ends."""
    text = data.sequences(20)["text"]
    length = 6 + torch.arange(len(text)) % 15
    return {"text": text.masked_fill(torch.arange(text.size(1)) >= length[:, None], 0)}


def _warm_cosine(optimizer: torch.optim.Optimizer) -> Any:
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[10])


def _decay_of_matrices_only(model: nn.Module) -> torch.optim.Optimizer:
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=5e-3, betas=(0.9, 0.95))


JOBS = {
    "mlp": Job(lambda: images.MLP(64, 32, 10), images.classify, data.images, 32),
    "lenet": Job(images.LeNet, images.classify, lambda: data.images(2)),
    "resnet": Job(images.ResNet, images.classify, data.images, optimizer=sgd(weight_decay=1e-4, nesterov=True)),
    "gpt": Job(
        language.GPT,
        language.next_token,
        lambda: data.sequences(32),
        8,
        optimizer=_decay_of_matrices_only,
        schedule=_warm_cosine,
        settings={"clip_norm": 1.0},
    ),
    "llama": Job(language.Llama, language.next_token, lambda: data.sequences(32), 8),
    "autoencoder": Job(restore.Autoencoder, restore.reconstruct, data.images, optimizer=adam(1e-2), fall=0.6),
    "wavenet": Job(sequences.WaveNet, language.next_token, lambda: data.sequences(32), 8, optimizer=adam(5e-3)),
    # As they are commonly written:
    "temporal convolutions": Job(sequences.TCN, language.next_token, lambda: data.sequences(32), 8),
    "transformer encoder": Job(sequences.EncoderClassifier, images.classify, data.images),
    "encoder language model": Job(sequences.EncoderLanguageModel, language.next_token, lambda: data.sequences(24), 8, adamw(5e-3)),
    "lstm": Job(sequences.LSTMClassifier, images.classify, data.images, 32, adam(1e-2)),
    "masked attention": Job(sequences.MaskedAttention, sequences.padded_next_token, _padded),
    "mobilenet": Job(images.MobileNet, images.classify, data.images, optimizer=sgd(), checked=2),
    "squeeze and excite": Job(lambda: images.MobileNet(nn.Hardswish, excite=True), images.classify, data.images),
    "group norm": Job(images.GroupNormNet, images.classify, data.images, 8),
    "u-net": Job(restore.UNet, restore.segment, data.images, 8, checked=2),
    "vit": Job(patches.ViT, images.classify, data.images, 32, adamw(1e-2, weight_decay=0.05)),
    "mixer": Job(patches.Mixer, images.classify, data.images),
    "vae": Job(restore.VAE, restore.evidence, data.images, 32, optimizer=adam(), fall=0.9),
    "denoiser": Job(restore.Denoiser, restore.denoise, data.images, checked=4),
    "skip-gram": Job(embeddings.SkipGram, embeddings.skip_gram, lambda: {"words": data.words(200, 2)[1]}, 32, adam(1e-2), fall=0.9),
    "matrix factorisation": Job(
        embeddings.MatrixFactorization, embeddings.ratings, data.pixels, 128, adam(1e-2, weight_decay=1e-5)
    ),
    "dlrm": Job(embeddings.DLRM, embeddings.clicks, data.images, 32, adam(1e-2)),
    "siamese": Job(embeddings.Siamese, embeddings.pairs, data.images, 32),
    "contrastive": Job(embeddings.Siamese, embeddings.info_nce, data.images),
    "mixture of experts": Job(
        language.MixtureModel, language.smoothed_with_balance, lambda: data.sequences(16), 8, settings={"accumulate": 2}
    ),
    "tied highway": Job(language.TiedModel, language.last_token, lambda: data.sequences(8), 32, settings={"clip_value": 0.5}),
}

each_job = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(f"zoo {name}")) for name in JOBS])
"""Parametrises a test by the job's name; tests of one job run in one process and share its capture."""
