"""Real English text for training: data/kjv.txt.xz as bytes."""

from __future__ import annotations

import lzma
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["VOCABULARY", "corpus", "windows"]

VOCABULARY = 128
"""ASCII codes."""


def corpus() -> Tensor:
    """i64 [characters]: the text's bytes."""
    text = lzma.decompress((Path(__file__).parent / "data" / "kjv.txt.xz").read_bytes())
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def windows(text: Tensor, length: int) -> Tensor:
    """i64 [n, length + 1]: consecutive pieces of ``text``; the last element of each is also the first of the next."""
    return text[: (len(text) - 1) // length * length + 1].unfold(0, length + 1, length)
