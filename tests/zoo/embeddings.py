"""Models around embeddings: words, ratings, advertisements, pairs of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn


class SkipGram(nn.Module):
    """After Mikolov et al., "Distributed representations of words and phrases" (2013), with negative sampling."""

    def __init__(self, vocab: int = 200, dim: int = 16) -> None:
        super().__init__()
        self.vocab = vocab
        self.center = nn.Embedding(vocab, dim)
        self.context = nn.Embedding(vocab, dim)
        for table in (self.center, self.context):
            table.weight.data.uniform_(-0.5, 0.5)

    def forward(self, center: Tensor, context: Tensor, negative: Tensor) -> Tensor:
        v = self.center(center)
        positive = torch.einsum("bd,bcd->bc", v, self.context(context))
        noise = torch.bmm(self.context(negative), v.unsqueeze(2)).squeeze(2)
        return -(F.logsigmoid(positive).sum(1) + F.logsigmoid(-noise).sum(1)).mean()


def skip_gram(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Neighbours against words drawn at random."""
    window = batch["words"]
    middle = window.size(1) // 2
    context = torch.cat([window[:, :middle], window[:, middle + 1 :]], dim=1)
    negative = torch.randint(0, model.vocab, (window.size(0), 8), device=window.device)
    return model(window[:, middle], context, negative)


class MatrixFactorization(nn.Module):
    """After Koren et al., "Matrix factorization techniques for recommender systems" (2009)."""

    def __init__(self, users: int = 200, items: int = 64, factors: int = 8) -> None:
        super().__init__()
        self.user_factors = nn.Embedding(users, factors)
        self.item_factors = nn.Embedding(items, factors)
        self.user_bias = nn.Embedding(users, 1)
        self.item_bias = nn.Embedding(items, 1)
        self.mean = nn.Parameter(torch.zeros(()))
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        dot = (self.user_factors(user) * self.item_factors(item)).sum(1)
        return dot + self.user_bias(user).squeeze() + self.item_bias(item).squeeze() + self.mean


def ratings(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The Huber loss of the ratings."""
    return F.huber_loss(model(batch["user"], batch["item"]), batch["rating"], delta=0.5)


class DLRM(nn.Module):
    """After Naumov et al., "Deep learning recommendation model" (2019): dense and categorical features and their dot products."""

    def __init__(self, dense: int = 16, tables: int = 6, rows: int = 17, dim: int = 8) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(rows, dim) for _ in range(tables)])
        self.bottom = nn.Sequential(nn.Linear(dense, 16), nn.ReLU(), nn.Linear(16, dim), nn.ReLU())
        pairs = (tables + 1) * tables // 2
        self.top = nn.Sequential(nn.Linear(dim + pairs, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = self.bottom(dense)
        vectors = torch.stack([x] + [table(sparse[:, i]) for i, table in enumerate(self.embeddings)], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        count = vectors.size(1)
        li = torch.tensor([i for i in range(count) for j in range(i)])
        lj = torch.tensor([j for i in range(count) for j in range(i)])
        return self.top(torch.cat([x, products[:, li, lj]], dim=1)).squeeze(1)


def clicks(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Is the digit above 4? Sixteen pixels are numbers, six are categories."""
    image = batch["image"].flatten(1)
    sparse = (image[:, 20:44:4] * 16).long()
    target = (batch["label"] > 4).float()
    return F.binary_cross_entropy_with_logits(model(image[:, 2::4], sparse), target)


class Siamese(nn.Module):
    """One network for both of a pair, compared by the cosine of the angle."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.PReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 32),
            nn.Tanh(),
            nn.Linear(32, 16),
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return F.cosine_similarity(self.net(a), self.net(b), dim=1)


def pairs(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Each image with the next one of the batch: pulled together if they show the same digit, apart if not."""
    image, label = batch["image"], batch["label"]
    same = (label == label.roll(1)).float()
    similarity = model(image, image.roll(1, dims=0))
    return (same * (1 - similarity) + (1 - same) * F.relu(similarity - 0.2)).mean()


def info_nce(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Each image finds its noisy copy among those of the batch (van den Oord et al., 2018)."""
    image = batch["image"]
    a = F.normalize(model.net(image), dim=1)
    b = F.normalize(model.net(image + 0.2 * torch.randn_like(image)), dim=1)
    logits = a @ b.t() / 0.1
    target = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2
