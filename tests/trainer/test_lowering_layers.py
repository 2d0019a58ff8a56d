"""Layers, activations and losses as models use them: value and gradients against binary64, products next to bfloat16's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from tests.support.layers import Case, check_exact, check_products

SHAPE = (5, 6)
IMAGES = (3, 4, 5, 6)
HALVES = torch.linspace(0.1, 0.9, 30).reshape(SHAPE)
CLASSES = torch.tensor([1, 2, -100, 0, 5])


def case(function: Callable[[Tensor], Tensor], *shape: int) -> Case:
    return Case(shape or SHAPE, function)


def of(layer: Callable[[], nn.Module], *shape: int) -> Case:
    return Case(shape or SHAPE, lambda m, x: m(x), layer)


def constant(x: Tensor, values: Tensor) -> Tensor:
    """``values`` in the type of x, with the digits of binary32."""
    return values.to(x.dtype)


class Weighted(nn.Module):
    """A norm with weights that are not all one."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        for parameter in norm.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return y + 0.3 * y * y


NORMS = {
    "group norm": of(lambda: Weighted(nn.GroupNorm(2, 4)), *IMAGES),
    "group norm, one group": of(lambda: Weighted(nn.GroupNorm(1, 4)), 2, 4, 7),
    "group norm, no weights": of(lambda: Weighted(nn.GroupNorm(4, 4, affine=False)), *IMAGES),
    "instance norm": of(lambda: Weighted(nn.InstanceNorm2d(4, affine=True)), *IMAGES),
    "instance norm 1d": of(lambda: Weighted(nn.InstanceNorm1d(4)), 2, 4, 7),
    "batch norm 1d": of(lambda: Weighted(nn.BatchNorm1d(6))),
    "batch norm 1d of sequences": of(lambda: Weighted(nn.BatchNorm1d(4)), 3, 4, 7),
    "batch norm 2d": of(lambda: Weighted(nn.BatchNorm2d(4)), *IMAGES),
    "batch norm without statistics": of(lambda: Weighted(nn.BatchNorm2d(4, track_running_stats=False)), *IMAGES),
    "batch norm in evaluation": of(lambda: Weighted(nn.BatchNorm2d(4)).eval(), *IMAGES),
    "batch norm, wide": of(lambda: Weighted(nn.BatchNorm2d(2)), 3, 2, 40, 30),
    "layer norm": of(lambda: Weighted(nn.LayerNorm(7)), 3, 1, 7),
    "layer norm, three dimensions": of(lambda: Weighted(nn.LayerNorm((4, 5, 6), bias=False)), *IMAGES),
    "layer norm, no weights": of(lambda: Weighted(nn.LayerNorm(6, elementwise_affine=False))),
    "rms norm": of(lambda: Weighted(nn.RMSNorm(6))),
    "rms norm by hand": Case(SHAPE, lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * x[0]),
    "weight norm": of(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))),
    "weight norm along the inputs": of(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 3), dim=1)),
    "normalize": case(lambda x: F.normalize(x, dim=1) * F.normalize(x, p=1, dim=0)),
}
ACTIVATIONS = {
    "rectifiers": case(
        lambda x: F.relu(x) + F.leaky_relu(x, 0.2) + F.relu6(3 * x) + F.hardtanh(x, -0.3, 0.4) + F.threshold(x, 0.1, 0.2)
    ),
    "prelu": of(lambda: nn.PReLU(3), 2, 3, 4),
    "prelu with one weight": of(nn.PReLU),
    "exponential": case(lambda x: F.elu(x, 0.7) + F.selu(x) + F.celu(x, 1.3)),
    "smooth": case(lambda x: F.gelu(x) + F.gelu(x, approximate="tanh") + F.silu(x) + F.mish(x) + F.softplus(x, 2, 1)),
    "saturating": case(lambda x: F.sigmoid(x) + torch.tanh(x) + F.softsign(x) + F.logsigmoid(x) + F.tanhshrink(x)),
    "hard": case(lambda x: F.hardswish(3 * x) + F.hardsigmoid(3 * x) + F.softshrink(x, 0.3) + F.hardshrink(x, 0.4)),
    "gated": case(lambda x: F.glu(x, 1)),
    "softmax": case(lambda x: F.softmax(x, 1) * F.log_softmax(x, 0) + F.softmin(x, 1)),
}
FUNCTIONS = {
    "rounding": case(lambda x: x * ((3 * x).floor() + (3 * x).ceil() * (2 * x).round() + (5 * x).trunc()) + (3 * x).frac()),
    "remainders": case(
        lambda x: (
            x % 0.7 + torch.fmod(x, 0.3) + x * torch.remainder(x.detach(), x.detach().flip(0)) + torch.fmod(x, x.flip(1).detach())
        )
    ),
    "rounded quotients": case(
        lambda x: (
            x * (torch.div(x, 0.3, rounding_mode="floor") + torch.div(x, x.flip(0), rounding_mode="trunc") + x.detach() // 0.2)
        )
    ),
    "remainders of integers": case(
        lambda x: (
            x
            * (
                (torch.arange(-3, 3) % 4)
                + (torch.arange(-3, 3) // 4)
                + torch.fmod(torch.arange(-3, 3), 4)
                + torch.div(torch.arange(-3, 3), 2, rounding_mode="trunc")
                + torch.arange(6) ** 2
            )
        )
    ),
    "powers": case(
        lambda x: (x.abs() + 0.1) ** 1.7 + 2.0**x + (x.abs() + 0.1) ** x + x**9 + (x.abs() + 0.5) ** -0.3 + torch.pow(x, 3.0)
    ),
    "not finite": case(
        lambda x: x.masked_fill(x.isnan() | x.isinf() | ~x.isfinite(), 0) + x * (x / x.relu()).detach().nan_to_num(0.5, 0.25, -0.25)
    ),
    "xlogy": case(lambda x: torch.xlogy(x.abs(), x.abs() + 1) + torch.special.xlog1py(x, x.square())),
    "truth values": case(lambda x: x * ((x > 0) * (x < 1)) + x * ((x > 1) + (x < 0)) + x * (x > -1).all(1, keepdim=True)),
    "interpolation": case(lambda x: torch.lerp(x, x * x, 0.3) + torch.lerp(x, x * x, x) + torch.addcmul(x, x, x) + 1 - x),
    "division by addition": case(lambda x: torch.addcdiv(x, x, x.abs() + 1) + torch.rsub(x, 2)),
    "clamps": case(lambda x: x.clamp_min(0.1) + x.clamp_max(0.3) + torch.clamp(x, max=x.square())),
    "deviations": case(lambda x: x.std(1, keepdim=True) * x + torch.var_mean(x, 0)[0] + torch.std_mean(x, 1, keepdim=True)[1]),
    "other bases": case(lambda x: torch.exp2(x) + torch.log2(x.abs() + 1) + torch.log10(x.abs() + 1)),
    "circular": case(
        lambda x: torch.tan(x) * 0.1 + torch.atan(x) + torch.asin(x / 9) + torch.acos(x / 9) + torch.atan2(x, x.flip(0))
    ),
    "hyperbolic": case(lambda x: torch.sinh(x) + torch.cosh(x) + torch.atanh(x / 9) + torch.asinh(x) + torch.acosh(x.abs() + 1.5)),
    "distances": case(lambda x: torch.cdist(x, x[1:] * x[1:]) + torch.cdist(x, x.flip(1), p=1)[:, :4]),
    "distances in batches": case(lambda x: torch.cdist(x, x.square()[:, :2]), 2, 3, 4),
    "bilinear": Case(SHAPE, lambda m, x: m(x, x[:, :4] ** 2), lambda: nn.Bilinear(6, 4, 3)),
    "norms of other orders": case(
        lambda x: (
            x.norm(p=3, dim=1, keepdim=True) * x
            + torch.linalg.vector_norm(x, ord=-float("inf"), dim=1).sum()
            + torch.linalg.vector_norm(x, ord=0) * x
            + torch.linalg.vector_norm(x, ord=1.5)
        )
    ),
    "norms": case(lambda x: x.norm(dim=1, keepdim=True) * x.norm(p=1) + torch.linalg.vector_norm(x, ord=2) + x.logsumexp((0, 1))),
    "rotations": case(
        lambda x: (
            torch.cat((-x[..., 4:], x[..., :4]), -1) * constant(x, torch.arange(5).float() * 1000.0).cos()[:, None]
            + x * constant(x, torch.arange(5).float() * 12345.0).sin()[:, None]
        ),
        2,
        5,
        8,
    ),
}
LOSSES = {
    "cross entropy": case(lambda x: F.cross_entropy(x, CLASSES)),
    "cross entropy, smoothed": case(lambda x: F.cross_entropy(x, CLASSES, label_smoothing=0.1)),
    "cross entropy, weighted": case(lambda x: F.cross_entropy(x, CLASSES, constant(x, HALVES[0]), label_smoothing=0.1)),
    "cross entropy of distributions": case(lambda x: F.cross_entropy(x, constant(x, HALVES))),
    "cross entropy of images": case(lambda x: F.cross_entropy(x, torch.arange(90).reshape(3, 5, 6) % 4), *IMAGES),
    "cross entropy of sequences": case(
        lambda x: F.cross_entropy(x, torch.arange(8).reshape(2, 4) % 3, ignore_index=1, reduction="sum"), 2, 3, 4
    ),
    "cross entropy of images, weighted": case(
        lambda x: F.cross_entropy(x, torch.arange(90).reshape(3, 5, 6) % 4, constant(x, HALVES[0, :4]), ignore_index=2), *IMAGES
    ),
    "nll": case(
        lambda x: F.nll_loss(x.log_softmax(1), CLASSES, ignore_index=-100) + F.nll_loss(x, CLASSES, reduction="none").sum()
    ),
    "differences": case(
        lambda x: F.mse_loss(x, x * x) + F.l1_loss(x, x * x) + F.smooth_l1_loss(x, x * x) + F.huber_loss(x, x * x, delta=0.7)
    ),
    "binary": case(lambda x: F.binary_cross_entropy(x.sigmoid(), constant(x, HALVES))),
    "binary of logits": case(
        lambda x: F.binary_cross_entropy_with_logits(
            x, constant(x, HALVES), pos_weight=constant(x, HALVES[1]), weight=constant(x, HALVES[2])
        )
    ),
    "divergence": case(lambda x: F.kl_div(x.log_softmax(1), constant(x, HALVES), reduction="batchmean")),
    "divergence of logarithms": case(
        lambda x: F.kl_div(x.log_softmax(1), constant(x, HALVES.log()), log_target=True, reduction="sum")
    ),
    "cosines": case(lambda x: F.cosine_similarity(x, x * x) + F.cosine_embedding_loss(x, x * x, torch.tensor([1, -1, 1, -1, 1]))),
    "margins": case(lambda x: F.margin_ranking_loss(x[0], x[1], x[2].sign().detach()) + F.soft_margin_loss(x, x.sign().detach())),
    "triplets": case(lambda x: F.triplet_margin_loss(x, x * x, x.flip(0)) + F.pairwise_distance(x, x * x).sum()),
    "counts": case(lambda x: F.poisson_nll_loss(x, constant(x, HALVES)) + F.hinge_embedding_loss(x, x.sign().detach())),
}
CASES = {**NORMS, **ACTIVATIONS, **FUNCTIONS, **LOSSES}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_autograds(name: str) -> None:
    check_exact(CASES[name], 2e-5 if name in NORMS else 5e-6)


def attention(x: Tensor, **options: object) -> Tensor:
    return F.scaled_dot_product_attention(x, x * x, x + 1, **options)


class Tied(nn.Module):
    """An embedding whose table is also the output layer."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8, padding_idx=padding)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embedding(torch.tensor([[1, 2, 0], [7, 1, 8]])) * x)


def rotary(x: Tensor) -> Tensor:
    """Rotary position embedding before attention, as LLaMA does it."""
    angles = torch.outer(torch.arange(5).to(x.dtype), 10000.0 ** (-torch.arange(0, 8, 2).to(x.dtype) / 8))
    cos, sin = (torch.cat((f(angles), f(angles)), -1) for f in (torch.cos, torch.sin))
    q = x * cos + torch.cat((-x[..., 4:], x[..., :4]), -1) * sin
    return F.scaled_dot_product_attention(q, q, x, is_causal=True)


ATTENTION = {
    "attention": case(attention, 2, 3, 5, 8),
    "attention, causal": case(lambda x: attention(x, is_causal=True), 2, 3, 5, 8),
    "attention, mask": case(lambda x: attention(x, attn_mask=torch.ones(5, 5).tril(1) > 0), 2, 3, 5, 8),
    "attention, float mask, scale": case(
        lambda x: attention(x, attn_mask=constant(x, torch.linspace(0, 1, 25).reshape(5, 5)), scale=0.3), 2, 3, 5, 8
    ),
    "attention, grouped": case(lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, 2:], enable_gqa=True), 2, 4, 5, 8),
    "rotary attention": case(rotary, 2, 3, 5, 8),
    "multi-head attention": Case(
        (2, 5, 8), lambda m, x: m(x, x, x, need_weights=False)[0], lambda: nn.MultiheadAttention(8, 2, batch_first=True)
    ),
    "multi-head attention, padded": Case(
        (2, 5, 8),
        lambda m, x: m(x, x, x, key_padding_mask=torch.tensor([[False] * 4 + [True]] * 2))[0],
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    "encoder layer": Case(
        (2, 5, 8),
        lambda m, x: m(x, is_causal=True, src_mask=nn.Transformer.generate_square_subsequent_mask(5, dtype=x.dtype)),
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation="gelu"),
    ),
    "decoder layer": Case(
        (2, 5, 8), lambda m, x: m(x, x * x), lambda: nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    ),
    "tied embedding": of(lambda: Tied(None), 2, 3, 8),
    "tied embedding with padding": of(lambda: Tied(0), 2, 3, 8),
    "einsum": case(lambda x: torch.einsum("bij,bkj->bik", x, x * x), 2, 5, 6),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_gradients_are_better_than_bfloat16s(name: str) -> None:
    check_products(ATTENTION[name])
