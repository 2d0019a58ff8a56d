"""Sequences: causal convolutions, PyTorch's own transformer layers with masks and dropout, and an LSTM."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn


class CausalConv1d(nn.Conv1d):
    def __init__(self, i: int, o: int, kernel_size: int, dilation: int) -> None:
        super().__init__(i, o, kernel_size, dilation=dilation)
        self.left = (kernel_size - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.left, 0)))


class GatedResidual(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.filter = CausalConv1d(channels, channels, 2, dilation)
        self.gate = CausalConv1d(channels, channels, 2, dilation)
        self.residual = nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.tanh(self.filter(x)) * torch.sigmoid(self.gate(x))
        return x + self.residual(z), self.skip(z)


class WaveNet(nn.Module):
    """After van den Oord et al., "WaveNet" (2016)."""

    def __init__(self, vocab: int = 128, channels: int = 16, layers: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, channels)
        self.blocks = nn.ModuleList([GatedResidual(channels, 2**i) for i in range(layers)])
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(channels, 32, 1), nn.ReLU(), nn.Conv1d(32, vocab, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).transpose(1, 2)
        skips = 0
        for block in self.blocks:
            x, skip = block(x)
            skips = skips + skip
        return self.out(skips).transpose(1, 2)


class Chomp1d(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.size].contiguous()


class TCN(nn.Module):
    """After Bai et al., "An empirical evaluation of generic convolutional and recurrent networks for sequence modeling" (2018)."""

    def __init__(self, vocab: int = 128, channels: int = 24, levels: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, channels)
        layers: list[nn.Module] = []
        for i in range(levels):
            pad = 2 * 2**i
            conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(channels, channels, 3, padding=pad, dilation=2**i))
            layers += [conv, Chomp1d(pad), nn.ReLU(), nn.Dropout(0.1)]
        self.net = nn.Sequential(*layers)
        self.decoder = nn.Linear(channels, vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).transpose(1, 2)
        return self.decoder((self.net(x) + x).transpose(1, 2))


class PositionalEncoding(nn.Module):
    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 64) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.pe[:, : x.size(1)])


class EncoderClassifier(nn.Module):
    """Rows of an image as a sequence through ``nn.TransformerEncoder`` with dropout."""

    def __init__(self, d_model: int = 24, classes: int = 10) -> None:
        super().__init__()
        self.embed = nn.Linear(8, d_model)
        self.pos = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead=4, dim_feedforward=48, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.fc = nn.Linear(d_model, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pos(self.embed(x.squeeze(1)) * math.sqrt(self.embed.out_features))
        return self.fc(self.encoder(x).mean(dim=1))


class EncoderLanguageModel(nn.Module):
    """A language model out of ``nn.TransformerEncoder`` with a causal mask, normalised first."""

    def __init__(self, vocab: int = 128, d_model: int = 24) -> None:
        super().__init__()
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab, d_model)
        self.pos_encoder = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, 2, 48, 0.1, activation="gelu", batch_first=True, norm_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.linear = nn.Linear(d_model, vocab)

    def forward(self, src: Tensor) -> Tensor:
        x = self.pos_encoder(self.embedding(src) * math.sqrt(self.d_model))
        mask = nn.Transformer.generate_square_subsequent_mask(src.size(1), device=src.device)
        return self.linear(self.transformer_encoder(x, mask))


class LSTMClassifier(nn.Module):
    """Rows of an image as a sequence, read in both directions; the last states of both name the digit."""

    def __init__(self, hidden: int = 12, classes: int = 10) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x.squeeze(1))
        return self.fc(torch.cat([h[-2], h[-1]], dim=1))


class MaskedAttention(nn.Module):
    """``nn.MultiheadAttention`` over texts of different lengths, padded with 0."""

    def __init__(self, vocab: int = 128, dim: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, dim, padding_idx=0)
        self.pos = nn.Embedding(32, dim)
        self.attn = nn.MultiheadAttention(dim, 4, dropout=0.1, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, vocab)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        t = tokens.size(1)
        mask = torch.arange(t, device=tokens.device)[None, :] >= lengths[:, None]
        x = self.embed(tokens) + self.pos(torch.arange(t, device=tokens.device))
        causal = torch.triu(torch.ones(t, t, dtype=torch.bool, device=tokens.device), diagonal=1)
        y, _ = self.attn(x, x, x, key_padding_mask=mask, attn_mask=causal, need_weights=False)
        return self.fc(self.norm(x + y))


def padded_next_token(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The cross-entropy of each next character up to the end of each text; what lies behind it is masked and ignored."""
    tokens = batch["text"]
    lengths = (tokens[:, :-1] != 0).sum(dim=1)
    logits = model(tokens[:, :-1], lengths)
    target = tokens[:, 1:].masked_fill(tokens[:, 1:] == 0, -100)
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), target.reshape(-1), ignore_index=-100)
