"""Pooling and resampling: value and gradients of every form against binary64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)

from tests.support.layers import Case, check_exact, lowered

SHAPE = (2, 3, 7, 8)
CASES = {
    "max 2x2": Case(SHAPE, lambda x: F.max_pool2d(x, 2)),
    "max 3x3 stride 2": Case(SHAPE, lambda x: F.max_pool2d(x, 3, 2, 1)),
    "max overlapping": Case(SHAPE, lambda x: F.max_pool2d(x, (4, 3), 1)),
    "max ceil": Case(SHAPE, lambda x: F.max_pool2d(x, 2, ceil_mode=True)),
    "max dilated": Case(SHAPE, lambda x: F.max_pool2d(x, 2, (1, 2), dilation=(3, 2))),
    "max with gaps": Case(SHAPE, lambda x: F.max_pool2d(x, 2, 3)),
    "max large": Case((1, 2, 11, 12), lambda x: F.max_pool2d(x, (10, 9), 1, 3)),
    "max unbatched": Case((3, 6, 6), lambda x: F.max_pool2d(x, 2)),
    "max of one": Case((1, 1, 1, 1), lambda x: F.max_pool2d(x, 1)),
    "max 1d": Case((2, 3, 9), lambda x: F.max_pool1d(x, 3, 2, 1)),
    "max places": Case(SHAPE, lambda x: x[..., :3, :4] * F.max_pool2d(x, 2, return_indices=True)[1]),
    "avg 2x2": Case(SHAPE, lambda x: F.avg_pool2d(x, 2)),
    "avg padded": Case(SHAPE, lambda x: F.avg_pool2d(x, 3, 2, 1)),
    "avg padded, padding not counted": Case(SHAPE, lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "avg ceil": Case(SHAPE, lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    "avg ceil, padding not counted": Case(SHAPE, lambda x: F.avg_pool2d(x, 2, 2, 0, ceil_mode=True, count_include_pad=False)),
    "avg divisor": Case(SHAPE, lambda x: F.avg_pool2d(x, (2, 4), divisor_override=3)),
    "avg 3d": Case((1, 2, 5, 4, 6), lambda x: F.avg_pool3d(x, (3, 2, 2), (2, 2, 1), (1, 0, 1))),
    "local response": Case(SHAPE, lambda x: F.local_response_norm(x, 3, alpha=0.5)),
    "avg 1d": Case((2, 3, 9), lambda x: F.avg_pool1d(x, 4, 3, 2)),
    "adaptive avg": Case(SHAPE, lambda x: F.adaptive_avg_pool2d(x, (3, 5))),
    "adaptive avg, even": Case((2, 3, 6, 8), lambda x: F.adaptive_avg_pool2d(x, (3, 2))),
    "adaptive avg, more than there are": Case((2, 3, 3, 5), lambda x: F.adaptive_avg_pool2d(x, (7, 6))),
    "adaptive avg, one": Case(SHAPE, lambda x: F.adaptive_avg_pool2d(x, 1)),
    "adaptive avg 1d": Case((2, 3, 9), lambda x: F.adaptive_avg_pool1d(x, 4)),
    "adaptive max": Case(SHAPE, lambda x: F.adaptive_max_pool2d(x, (3, 5))),
    "adaptive max, even": Case((2, 3, 6, 8), lambda x: F.adaptive_max_pool2d(x, (3, 2))),
    "adaptive max 1d": Case((2, 3, 9), lambda x: F.adaptive_max_pool1d(x, 4)),
    "nearest by 2": Case((2, 3, 4, 5), lambda x: F.interpolate(x, scale_factor=2)),
    "nearest to a size": Case((2, 3, 4, 5), lambda x: F.interpolate(x, size=(7, 13))),
    "nearest by a fraction": Case((2, 3, 4, 5), lambda x: F.interpolate(x, scale_factor=2.3)),
    "nearest, smaller": Case((2, 3, 7, 8), lambda x: F.interpolate(x, size=(3, 5))),
    "linear by 2": Case((2, 3, 4, 5), lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "linear to a size": Case((2, 3, 4, 5), lambda x: F.interpolate(x, size=(9, 7), mode="bilinear")),
    "linear, corners": Case((2, 3, 4, 5), lambda x: F.interpolate(x, size=(7, 12), mode="bilinear", align_corners=True)),
    "linear, smaller": Case((2, 3, 7, 9), lambda x: F.interpolate(x, size=(3, 4), mode="bilinear")),
    "linear by a fraction": Case((2, 3, 5, 4), lambda x: F.interpolate(x, scale_factor=(1.7, 3.3), mode="bilinear")),
    "linear from one": Case((2, 3, 1, 2), lambda x: F.interpolate(x, size=(3, 1), mode="bilinear", align_corners=True)),
    "linear 1d": Case((2, 3, 4), lambda x: F.interpolate(x, scale_factor=3, mode="linear")),
    "nearest 1d": Case((2, 3, 4), lambda x: F.interpolate(x, scale_factor=3) * F.interpolate(x.square(), size=12)),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_autograds(name: str) -> None:
    check_exact(CASES[name])


@pytest.mark.parametrize("name", ["max 2x2", "max 3x3 stride 2"])
def test_the_first_of_equal_elements_is_the_largest(name: str) -> None:
    function = CASES[name].function
    case = Case(SHAPE, lambda x: function((torch.round(x).detach() + 0.5) * torch.exp(x - x.detach())))
    check_exact(case)


def test_a_nan_wins_its_windows() -> None:
    case = Case((1, 1, 4, 4), lambda x: F.max_pool2d(torch.where(torch.arange(16).reshape(4, 4) == 5, float("nan"), x), 2))
    assert torch.isnan(lowered(case, 15)["loss"])
