"""Convolutions: value and gradients of every form against binary64, and next to bfloat16 autocast's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from bisection import reference
from tests.support.layers import Case, check_exact, check_products
from tests.trainer.test_lowering_verdicts import checked
from trainer.executor import Executor


def conv(layer: Callable[[], nn.Module], *shape: int) -> Case:
    return Case(shape, lambda m, x: m(x), layer)


CASES = {
    "1d": conv(lambda: nn.Conv1d(4, 6, 3, padding=1), 2, 4, 9),
    "1d stride 2, no bias": conv(lambda: nn.Conv1d(4, 6, 3, stride=2, bias=False), 3, 4, 10),
    "1d dilated, causal": Case((2, 4, 9), lambda m, x: m(F.pad(x, (4, 0))), lambda: nn.Conv1d(4, 6, 3, dilation=2)),
    "1d unbatched": conv(lambda: nn.Conv1d(4, 6, 3), 4, 7),
    "2d": conv(lambda: nn.Conv2d(3, 5, 3, padding=1), 2, 3, 6, 7),
    "2d 1x1": conv(lambda: nn.Conv2d(3, 5, 1), 2, 3, 6, 7),
    "2d 1x1 stride 2": conv(lambda: nn.Conv2d(3, 5, 1, stride=2, bias=False), 2, 3, 7, 6),
    "2d patches": conv(lambda: nn.Conv2d(3, 8, 4, stride=4), 2, 3, 8, 12),
    "2d same, even kernel": conv(lambda: nn.Conv2d(4, 6, 4, padding="same", groups=2), 2, 4, 9, 8),
    "2d stride 2": conv(lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1), 2, 3, 7, 8),
    "2d stride 3, kernel 2": conv(lambda: nn.Conv2d(3, 5, 2, stride=3, padding=1), 1, 3, 9, 11),
    "2d stride and dilation": conv(lambda: nn.Conv2d(3, 5, (3, 2), stride=(2, 3), padding=(2, 1), dilation=(2, 3)), 2, 3, 11, 12),
    "2d different in each direction": conv(lambda: nn.Conv2d(3, 5, (5, 2), stride=(1, 2), padding=(2, 0)), 2, 3, 6, 9),
    "2d depthwise": conv(lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6), 2, 6, 5, 5),
    "2d depthwise, stride 2, two of each": conv(lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3), 2, 3, 6, 5),
    "2d groups": conv(lambda: nn.Conv2d(4, 6, 3, groups=2), 2, 4, 5, 6),
    "2d circular": conv(lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), 2, 2, 5, 4),
    "2d one of everything": conv(lambda: nn.Conv2d(1, 1, 1), 1, 1, 1, 1),
    "2d whole image": conv(lambda: nn.Conv2d(2, 4, 5), 1, 2, 5, 5),
    "2d unused rows at the end": conv(lambda: nn.Conv2d(2, 3, 2, stride=3), 2, 2, 10, 10),
    "transposed 1d": conv(lambda: nn.ConvTranspose1d(4, 3, 3, stride=2), 2, 4, 5),
    "transposed 2d": conv(lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), 2, 4, 4, 5),
    "transposed 2d, stride 1": conv(lambda: nn.ConvTranspose2d(4, 3, 3, bias=False), 2, 4, 4, 3),
    "transposed 2d, groups": conv(lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), 2, 4, 4, 5),
    "transposed 2d, dilation": conv(lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, dilation=2, padding=1), 2, 2, 4, 3),
    "transposed 2d, stride over kernel": conv(lambda: nn.ConvTranspose2d(2, 3, 2, stride=3, output_padding=2), 1, 2, 3, 3),
}
LONG = {
    "long windows": conv(lambda: nn.Conv2d(130, 4, 3, padding=1), 2, 130, 5, 5),  # 1,170 elements in a window
    "one long row": conv(lambda: nn.Conv1d(2, 3, 1500), 2, 2, 1502),
    "long weight gradients": conv(lambda: nn.Conv2d(3, 4, 3, padding=1), 6, 3, 20, 23),  # 2,760 places
    "long rows": conv(lambda: nn.Conv1d(2, 3, 3), 2, 2, 1100),
    "long groups": conv(lambda: nn.Conv2d(260, 4, 3, stride=2, padding=1, groups=2), 9, 260, 13, 9),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_autograds(name: str) -> None:
    check_exact(CASES[name])


@pytest.mark.parametrize("name", LONG)
def test_reductions_of_any_length_are_split(name: str) -> None:
    check_exact(LONG[name])


def stack(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *layers)


class Residual(nn.Module):
    """A residual network with batch normalisation. Smooth, as a rectifier's gradient jumps: where rounding moves an element across
    0, all of its gradient comes or goes, in any arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.AvgPool2d(3, 2, 1))
        self.first = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8))
        self.shortcut = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.silu(self.second(self.first(x)) + self.shortcut(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1)).log_softmax(1)


class Skipping(nn.Module):
    """Down, up and across: group normalisation, pooling, a transposed convolution and an upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU())
        self.inner = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.GroupNorm(3, 6), nn.GELU())
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.out = nn.Conv2d(14, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        low = self.inner(F.avg_pool2d(high, 2))
        return self.out(torch.cat([high, self.up(low), F.interpolate(low, scale_factor=2)], 1))


ACCURACY = {
    "residual network": conv(Residual, 6, 1, 13, 12),
    "network with skips": conv(Skipping, 2, 2, 8, 6),
    "convolutions": conv(lambda: stack(nn.Conv2d(8, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 1)), 4, 3, 10, 9),
    "depthwise": conv(lambda: stack(nn.Conv2d(8, 8, 3, groups=8), nn.SiLU(), nn.Conv2d(8, 4, 1)), 4, 3, 9, 8),
    "transposed": conv(lambda: stack(nn.ConvTranspose2d(8, 4, 3, stride=2), nn.Tanh(), nn.ConvTranspose2d(4, 2, 2)), 3, 3, 6, 5),
    "sequence": conv(lambda: nn.Sequential(nn.Conv1d(5, 8, 3, padding=2, dilation=2), nn.GELU(), nn.Conv1d(8, 4, 4)), 4, 5, 20),
}


@pytest.mark.parametrize("name", ACCURACY)
def test_gradients_are_better_than_bfloat16s(name: str) -> None:
    check_products(ACCURACY[name])


@pytest.mark.parametrize("name", ACCURACY)
def test_every_node_is_cheap_to_judge_and_has_the_references_bits(name: str) -> None:
    _, step = ACCURACY[name].step(15)
    program = step.lower()
    checked(program)
    fast = Executor(program, step.data).trace(step.state)
    for found, exact in zip(fast, reference.trace(program, step.state, step.data), strict=True):
        assert np.array_equal(found.reshape(-1).view(np.uint8), exact.reshape(-1).view(np.uint8))
