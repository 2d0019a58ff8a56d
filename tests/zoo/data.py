"""What the zoo's models train on: real digits and real text."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from benchmarks.text import corpus, windows
from sims.digits import digits

__all__ = ["images", "pixels", "sequences", "words"]

Data = dict[str, Tensor]


def images(scale: int = 1) -> Data:
    """1,500 digits: ``image`` f32 [n, 1, 8·scale, 8·scale] in 0 … 1, each pixel repeated, and ``label`` i64 [n]."""
    examples, _ = digits()
    image = examples["images"].reshape(-1, 1, 8, 8).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return {"image": image, "label": examples["labels"]}


def sequences(length: int) -> Data:
    """1,000 pieces of text: ``text`` i64 [n, length + 1]."""
    return {"text": windows(corpus()[: 1000 * length + 1], length)}


def pixels() -> Data:
    """The digits as ratings: ``user`` (the image) and ``item`` (the pixel), i64 [n], and ``rating`` f32 [n] in 0 … 1."""
    table = digits()[0]["images"][:200]
    user = torch.arange(200).repeat_interleave(64)
    return {"user": user, "item": torch.arange(64).repeat(200), "rating": table.flatten()}


@cache
def words(vocabulary: int, reach: int) -> tuple[tuple[str, ...], Tensor]:
    """The ``vocabulary`` most frequent words of the text, and i64 [n, 2·reach + 1]: each of its first words between neighbours.

    The last word stands for all that are rarer.
    """
    text = bytes(corpus()[:60_000].tolist()).decode().lower()
    spoken = "".join(c if c.isalpha() else " " for c in text).split()
    counts: dict[str, int] = {}
    for word in spoken:
        counts[word] = counts.get(word, 0) + 1
    known = sorted(counts, key=lambda word: (-counts[word], word))[: vocabulary - 1]
    numbers = {word: number for number, word in enumerate(known)}
    stream = torch.tensor([numbers.get(word, vocabulary - 1) for word in spoken])
    return (*known, "…"), stream.unfold(0, 2 * reach + 1, 1)
