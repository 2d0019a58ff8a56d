"""Indexing, rearranging, extremes and scans: value and gradients against binary64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor

from tests.support.layers import Case, check_exact, lowered
from tests.support.lowering import Workbench
from trainer.lowering.builder import Value
from trainer.lowering.expression import apply
from trainer.lowering.scans import scan

I = torch.tensor  # noqa: E741 (index)
SHAPE = (5, 6)


def case(function: Callable[[Tensor], Tensor], *shape: int) -> Case:
    return Case(shape or SHAPE, function)


def assigned(x: Tensor) -> Tensor:
    y = x * 2
    y[I([0, 3])] = x[:2]
    y[:, 1] = 0.0
    y[1, ::2] += x[2, ::2]
    return y


def window_attention(x: Tensor) -> Tensor:
    """Shifted windows, as Swin transformers take them."""
    shifted = torch.roll(x, (-1, -2), (1, 2))
    parts = shifted.view(2, 2, 2, 3, 2, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4)
    return parts @ parts.transpose(1, 2)


CASES = {
    # indexing
    "rows": case(lambda x: x[I([1, 1, 3])]),
    "rows, two dimensions of them": case(lambda x: x[I([[1, 1, 3], [0, 4, 1]])]),
    "columns": case(lambda x: x[:, I([1, 5, 1])].square()),
    "pairs": case(lambda x: x[I([1, 1, 3, 1]), I([0, 5, 2, 0])]),
    "outer": case(lambda x: x[I([[1], [4]]), I([0, 5, 2])]),
    "apart": case(lambda x: x[I([1, -1, 3]), :, I([0, -2, 1])], 5, 3, 4),
    "in the middle": case(lambda x: x[:, I([1, 1, -3, 0])], 2, 4, 3),
    "of one": case(lambda x: x[I([0])], 1, 1),
    "index_select": case(lambda x: x.index_select(1, I([1, 1, 3])) * x.index_select(0, I(2)).sum()),
    "take": case(lambda x: x.take_along_dim(I([[1, -1, 1]] * 5), 1)),
    "take, flat": case(lambda x: x.take(I([1, -2, 29, 1]))),
    "put, flat": case(lambda x: (x * 2).put(I([3, 1, 20]), x[0, :3]) * x),
    "put, added": case(lambda x: x.new_zeros(7, 6).index_put((I([1, 1, 3, 0, 1]),), x, accumulate=True)),
    "put, pairs added": case(lambda x: x.index_put((I([1, 1, 3]), I([0, 0, 2])), x[0, :3], accumulate=True)),
    "put": case(lambda x: x.new_ones(7, 6).index_put((I([1, 4, 3, 0, 6]),), x)),
    "put into columns": case(lambda x: x.index_put((torch.arange(5)[:, None], I([5, 2])), 2 * x[:, :2])),
    "index_add": case(lambda x: x.new_zeros(7, 6).index_add(0, I([1, 1, 3, 0, 2]), x, alpha=2)),
    "index_copy": case(lambda x: x.new_zeros(5, 8).index_copy(1, I([1, 4, 3, 0, 2, 7]), x)),
    "index_fill": case(lambda x: x.index_fill(1, I([1, 3]), 2.0) * x),
    "assignment": case(assigned),
    "scatter": case(lambda x: (x * 1).scatter(1, I([[1, 2]] * 4), x[1:, 1:3])),
    "scatter many": case(lambda x: x.new_ones(6, 9).scatter(1, I([[7, 2, 0, 8, 4, 1]] * 5), 2 * x)),
    "scatter columns": case(lambda x: (x * 1).scatter(0, I([[4, 2, 1], [0, 0, 0], [1, 1, 3], [3, 3, 4], [2, 4, 2]]), 2 * x[:, :3])),
    "scatter a number": case(lambda x: x * (x * 1).scatter(0, I([[1, 2, 0, 0, 1, 2]]), 3.0)),
    "gather": case(lambda x: x.gather(1, I([[1, 1, 5]] * 4)).square()),
    "scatter_add": case(lambda x: x.new_zeros(5, 6).scatter_add(1, I([[1, 1]] * 4), 2 * x[:4, :2])),
    "one hot": case(lambda x: x * F.one_hot(I([0, 3, 1, 5, 5]), 6)),
    # rearranging
    "roll": case(lambda x: x.roll((1, -2), (0, 1)) * x.roll(7, 1) + x.roll(3) + x.roll(6, 1)),
    "windows": case(window_attention, 2, 4, 6, 4),
    "tril, triu": case(lambda x: x.tril() + x.triu(1) * x),
    "diagonal": case(lambda x: x.diagonal() * x.diagonal(1).square() + x.diagonal(-2).sum()),
    "diagonal of others": case(lambda x: x.diagonal(1, 2, 0).square(), 4, 3, 5),
    "trace": case(lambda x: x.trace() * x[0]),
    "diag_embed": case(lambda x: torch.diag_embed(x, 1).square()),
    "unfold": case(lambda x: x.unfold(1, 3, 2) * x.unfold(1, 2, 2)[:, :3, :1], 5, 8),
    "unfold in front": case(lambda x: x.unfold(0, 2, 3).square(), 6, 3),
    "patches": case(lambda x: F.unfold(x, (3, 2), padding=1, stride=2).square(), 2, 3, 5, 6),
    "patches, dilated": case(lambda x: F.unfold(x, 2, dilation=2).square(), 2, 3, 5, 6),
    "fold": case(lambda x: F.fold(x, (5, 6), 2).square(), 2, 12, 20),
    "fold, stride": case(lambda x: F.fold(x, (5, 6), (3, 2), stride=2, padding=(1, 0)).square(), 2, 12, 9),
    "repeat": case(lambda x: x.repeat(2, 3) * x.tile(3).repeat(2, 1)),
    "repeat, new dimensions": case(lambda x: x.repeat(2, 1, 2).square()),
    "repeat_interleave": case(lambda x: x.repeat_interleave(3, 1).square()),
    "pixel shuffle": case(lambda x: F.pixel_shuffle(x, 2).square(), 2, 8, 3, 4),
    "pixel unshuffle": case(lambda x: F.pixel_unshuffle(x, 2) * F.channel_shuffle(x, 2).reshape(2, 16, 3, 2), 2, 4, 6, 4),
    "pad by reflection": case(lambda x: F.pad(x, (1, 2, 2, 0), "reflect").square(), 1, 2, 4, 5),
    "pad by replication": case(lambda x: F.pad(x, (1, 2, 0, 3), "replicate").square(), 1, 2, 4, 5),
    "pad by replication, 1d": case(lambda x: F.pad(x, (2, 1), "replicate").square(), 2, 3, 4),
    "pad around": case(lambda x: F.pad(x, (1, 2, 2, 0), "circular").square(), 1, 2, 4, 5),
    "meshgrid": case(lambda x: torch.stack(torch.meshgrid(x[0], x[1], indexing="ij")).square()),
    "movements": case(lambda x: x.movedim(0, -1).swapaxes(0, 1).flatten().unflatten(0, (10, 6)).square(), 5, 6, 2),
    # extremes
    "max, min": case(lambda x: x.max(1)[0] * x.min(1).values + x.max(0, keepdim=True)[0].sum() + x.max() * x.min()),
    "max of integers": case(lambda x: x * ((x * 10).int().max(1, keepdim=True)[0] + (x * 10).int().min(0)[0])),
    "argmax, argmin": case(lambda x: x.sum(1) * x.argmax(1) + x.argmin(1) * x[:, 0] + x.argmax() + x.argmin(0).sum()),
    "norm of order infinity": case(lambda x: x.norm(p=float("inf"), dim=1)),
    # scans
    "cumsum": case(lambda x: x.cumsum(1) * x.cumsum(0)),
    "cumsum, long": case(lambda x: x.cumsum(1), 2, 600),
    "cumsum of integers": case(lambda x: x * torch.arange(6).cumsum(0)),
    "cumprod": case(lambda x: x.cumprod(1) + x.cumprod(0)),
    "prod": case(lambda x: x.prod(1, keepdim=True) * x + x.prod()),
    "prod, long": case(lambda x: (1 + 0.1 * x).prod(0), 70, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_autograds(name: str) -> None:
    check_exact(CASES[name], 1e-5 if "prod" in name else 3e-6)


def test_of_several_values_for_one_place_the_last_one_stays() -> None:
    """PyTorch leaves it open; a program cannot."""
    found = []
    for count in (3, 7):
        index = torch.zeros(1, count, dtype=torch.int64)

        def scattered(x: Tensor, index: Tensor = index, count: int = count) -> Tensor:
            return torch.zeros(1, 8).scatter(1, index, torch.arange(count).float()[None] + 0 * x[:1, :1]).sum()

        found += [scattered, lambda x, i=index[0], n=count: torch.zeros(8).index_put((i,), torch.arange(n) + 0 * x[0, 0]).sum()]
    assert [float(lowered(case(function), 15)["loss"]) for function in found] == [2, 2, 6, 6]


def test_sums_of_any_length_scan_exactly() -> None:
    """The running sum of 2,000 elements is right to the last bit of binary32."""
    x = np.random.default_rng(0).integers(-(2**29), 2**29, (3, 2000))
    bench = Workbench()
    (found,) = bench.run(scan(bench.builder, Value(x.shape, "i64", bench.tensor(x).expr), lambda a, b: apply("add64", a, b), 0))
    assert np.array_equal(found, x.cumsum(1))
