"""Random operators: their distributions, their independence, and masks that forward and backward share."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
import torch.utils.checkpoint
from torch import Tensor, nn

from bisection import reference
from bisection.errors import UnsupportedOperator
from tests.support.lowering import Workbench
from tests.support.training import classify, mlp, task
from trainer.capture import capture, prepare
from trainer.executor import Executor
from trainer.lowering.randomness import RANDOM, keys
from trainer.lowering.step import Step
from trainer.lowering.table import OPERATORS, Context
from trainer.lowering.views import narrow, reshape

N = 20_000


def drawn(
    name: str, *arguments: Any, draws: int = 1, seed: int = 0, steps: int = 1, count: int = N, dtype: Any = None
) -> np.ndarray:
    """[steps, draws, count]: the operator ``name`` used ``draws`` times in each of the first steps."""
    bench = Workbench()
    every = keys(bench.builder, bench.step, seed, draws)
    values = []
    for d in range(draws):
        key = reshape(bench.builder, narrow(every, 0, d, 1), ())
        like = torch.empty(count, dtype=dtype or torch.float32, device="meta")
        values.append(OPERATORS[name](Context(bench.builder, 15, name, "in a test", like, key), *arguments))
    bench.compile(*values)
    return np.array([bench.results(step) for step in range(steps)])


def normalised(sample: np.ndarray, mean: float, variance: float) -> float:
    """How many standard errors the mean of ``sample`` lies from ``mean``."""
    return float(abs(sample.mean() - mean) / sqrt(variance / sample.size))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli_has_its_probability(p: float) -> None:
    sample = drawn("aten.bernoulli.p", None, p)
    assert set(np.unique(sample)) <= {0.0, 1.0}
    assert (sample == p).all() if p in (0, 1) else normalised(sample, p, p * (1 - p)) < 4


def test_uniform_numbers_fill_the_unit_interval() -> None:
    sample = drawn("aten.rand.default")
    assert sample.min() >= 0 and sample.max() < 1
    counts = np.histogram(sample, 100, (0, 1))[0]
    chi_square = float(((counts - N / 100) ** 2 / (N / 100)).sum())
    assert abs(chi_square - 99) < 5 * sqrt(2 * 99)
    assert np.array_equal(sample * 2**24, np.round(sample * 2**24))


def test_uniform_between_two_numbers() -> None:
    sample = drawn("aten.uniform.default", None, -1.0, 3.0)
    assert sample.min() >= -1 and sample.max() <= 3 and normalised(sample, 1, 16 / 12) < 4


def test_normal_numbers_are_normal() -> None:
    sample = np.sort(drawn("aten.randn.default").ravel().astype(np.float64))
    theory = torch.special.ndtr(torch.from_numpy(sample)).numpy()
    kolmogorov = np.abs(theory - (np.arange(N) + 0.5) / N).max()
    assert kolmogorov < 1.95 / sqrt(N)  # one in a thousand
    other = drawn("aten.normal_functional.default", None, 2.0, 0.5)
    assert normalised(other, 2, 0.25) < 4 and float(other.std()) == pytest.approx(0.5, rel=0.03)


def test_exponential_numbers() -> None:
    sample = drawn("aten.exponential.default", None, 2.0)
    assert (sample >= 0).all() and normalised(sample, 0.5, 0.25) < 4
    assert normalised(sample > 0.5, np.exp(-1), np.exp(-1) * (1 - np.exp(-1))) < 4


@pytest.mark.parametrize(
    ("name", "arguments"), [("aten.randint.low", (-3, 7, None)), ("aten.randint_like.low_dtype", (None, -3, 7))]
)
def test_whole_numbers_are_equally_likely(name: str, arguments: tuple[Any, ...]) -> None:
    sample = drawn(name, *arguments, dtype=torch.int64)
    values, counts = np.unique(sample, return_counts=True)
    assert values.tolist() == list(range(-3, 7))
    assert float(((counts - N / 10) ** 2 / (N / 10)).sum()) < 9 + 5 * sqrt(18)


def test_too_many_whole_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match=r"2\^31"):
        drawn("aten.randint_like.default", None, 2**40, dtype=torch.int64)
    with pytest.raises(UnsupportedOperator, match="draw float32"):
        drawn("aten.rand.default", dtype=torch.int64)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """In standard errors."""
    return float(abs(np.corrcoef(a, b)[0, 1]) * sqrt(a.size))


def test_steps_operators_seeds_and_neighbours_are_independent() -> None:
    """Correlations of numbers, of their lowest bits, and between neighbours at several distances: below five standard errors."""
    sample = np.concatenate([drawn("aten.rand.default", draws=4, steps=3, seed=seed).reshape(-1, N) for seed in (0, 1)])
    bits = (sample * 2**24).astype(np.int64) & 1
    for rows in (sample, bits):
        assert max(correlation(a, b) for a, b in combinations(rows, 2)) < 5
        assert max(correlation(row[:-lag], row[lag:]) for row in rows for lag in (1, 2, 3, 16, 64, 256, 1024)) < 5
    assert len(np.unique(sample)) > 0.9 * sample.size


def test_pairs_of_neighbours_fill_the_square() -> None:
    sample = drawn("aten.rand.default").reshape(-1, 2)
    counts = np.histogram2d(sample[:, 0], sample[:, 1], 20, [[0, 1], [0, 1]])[0]
    expected = N / 2 / 400
    assert abs(float(((counts - expected) ** 2 / expected).sum()) - 399) < 5 * sqrt(2 * 399)


def test_every_bit_of_a_word_is_half_of_the_time_one() -> None:
    upper = drawn("aten.randint_like.default", None, 1 << 31, dtype=torch.int64).ravel()
    share = ((upper[:, None] >> np.arange(31)) & 1).mean(axis=0)
    assert np.abs(share - 0.5).max() < 4.5 * 0.5 / sqrt(N)


def test_a_large_step_and_a_negative_one_draw_too() -> None:
    bench = Workbench()
    every = keys(bench.builder, bench.step, 2**63 - 1, 2)
    bench.compile(every)
    found = {tuple(bench.results(step)[0].tolist()) for step in (0, 1, 2**62, -1)}
    assert len(found) == 4


# In models


class Masked(nn.Module):
    """Shows what a random layer did to ones, through a metric and through the gradient."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.x, self.layer = nn.Parameter(torch.ones(shape)), layer

    def forward(self) -> Tensor:
        return self.layer(self.x).sum()


def step_of(layer: nn.Module, shape: tuple[int, ...], **settings: Any) -> Step:
    model = Masked(layer, shape)
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    return prepare(model, lambda m, b: m(), sgd, {"unused": torch.zeros(2, 1)}, 1, 24, 0, **settings)


P = torch.linspace(0.1, 0.9, N)
BLANK = torch.zeros(N)
DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(N) * torch.rand_like(BLANK),
    "randn": lambda: torch.randn(N) + torch.randn_like(BLANK),
    "randint": lambda: 1.0 * torch.randint(3, 9, (N,)) + torch.randint_like(BLANK, 5) + torch.randint_like(BLANK, -2, 2),
    "bernoulli": lambda: torch.bernoulli(P) + torch.empty(N).bernoulli_(P) + 2 * torch.empty(N).bernoulli_(0.3),
    "uniform, exponential": lambda: torch.empty(N).uniform_(-1, 2) + torch.empty(N).exponential_(3),
    "normal": lambda: torch.normal(1.0, 0.5, (N,)) + torch.normal(P, 2.0) + torch.empty(N).normal_(-1, 0.5),
    "normal with deviations": lambda: torch.normal(P, 3 * P) + torch.normal(0.5, P),
    "permutation": lambda: torch.randperm(N).float() / N * P,
    "distributions": lambda: torch.distributions.Normal(P, 2 * P).rsample() + torch.distributions.Bernoulli(P).sample(),
    "dropout": lambda: F.dropout(P, 0.3) + F.alpha_dropout(P, 0.2, True),
}


def measured(draw: Callable[[], Tensor]) -> Step:
    """A step whose metrics are the mean and the mean square of a draw."""
    model = nn.Linear(1, 1)

    def loss(m: nn.Module, b: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        sample = draw()
        return m(b["x"]).sum(), {"mean": sample.mean(), "square": sample.square().mean()}

    return prepare(model, loss, torch.optim.SGD(model.parameters(), lr=0.0), {"x": torch.zeros(2, 1)}, 1, 15, 0)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_have_torchs_mean_and_variance(name: str) -> None:
    step = measured(DRAWS[name])
    _, metrics = reference.step(step.lower(), step.state, step.data)
    torch.manual_seed(0)
    theirs = DRAWS[name]().double()
    for metric, sample in (("mean", theirs), ("square", theirs.square())):
        assert abs(metrics[metric] - float(sample.mean())) < 4 * sqrt(2 / N) * float(sample.std()) + 1e-6


def test_these_use_every_random_operator() -> None:
    used = {str(node.target) for draw in DRAWS.values() for node in measured(draw).traced.graph.nodes}
    assert used >= RANDOM


def test_a_permutation_is_one_and_differs_by_step() -> None:
    sample = drawn("aten.randperm.default", 1000, steps=2, count=1000, dtype=torch.int64)[:, 0]
    assert all(np.array_equal(np.sort(row), np.arange(1000)) for row in sample)
    assert correlation(sample[0], sample[1]) < 4 and correlation(sample[0], np.arange(1000)) < 4


def masks(layer: nn.Module, shape: tuple[int, ...], steps: int = 1, **settings: Any) -> tuple[np.ndarray, list[float]]:
    """([steps, …] the gradients of ones, which are the masks; the losses, their sums)."""
    step = step_of(layer, shape, **settings)
    program = step.lower(["gradient.x"])
    state, found, losses = dict(step.state), [], []
    for number in range(steps):
        trace = reference.trace(program, state | {"step": np.array(number, np.int64)}, step.data)
        found.append(trace[program.metrics["gradient.x"]].reshape(shape))
        losses.append(float(trace[program.metrics["loss"]][0]))
    return np.array(found), losses


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_dropout_scales_what_it_keeps_and_uses_its_mask_again_backwards(p: float) -> None:
    found, losses = masks(nn.Dropout(p), (80, 50), 2)
    kept = np.float32(1) / np.float32(1 - p)
    assert set(np.unique(found)) == {np.float32(0), kept}
    assert normalised(found > 0, 1 - p, p * (1 - p)) < 4
    assert losses == pytest.approx(found.sum((1, 2), dtype=np.float64), rel=1e-6)
    assert correlation((found[0] > 0).ravel(), (found[1] > 0).ravel()) < 4


def test_dropout_of_everything_and_of_nothing() -> None:
    assert (masks(nn.Dropout(1.0), (5, 4))[0] == 0).all()
    assert (masks(nn.Dropout(0.0), (5, 4))[0] == 1).all()
    assert (masks(nn.Dropout(0.9).eval(), (5, 4))[0] == 1).all()


def test_channel_dropout_drops_whole_channels() -> None:
    (found,), _ = masks(nn.Dropout2d(0.4), (20, 10, 3, 2))
    flat = found.reshape(200, 6)
    assert (flat == flat[:, :1]).all() and normalised(flat[:, 0] > 0, 0.6, 0.24) < 4


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    class Standard(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            noise = F.alpha_dropout(torch.randn(200, 100) * x, 0.3, True)
            return torch.stack([noise.mean(), noise.square().mean()])

    model = Masked(Standard(), (1,))
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)

    def loss(m: nn.Module, b: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        mean, square = m.layer(m.x)  # type: ignore[union-attr,operator]
        return mean, {"square": square}

    captured = capture(model, loss, sgd, {"unused": torch.zeros(2, 1)}, 1)
    _, metrics = reference.step(captured.program, captured.state, captured.data)
    assert abs(metrics["loss"]) < 0.03 and metrics["square"] == pytest.approx(1, abs=0.04)


def test_micro_batches_draw_differently() -> None:
    (found,), _ = masks(nn.Dropout(0.5), (60, 50), accumulate=2)
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [0.0, 1.0, 2.0]  # the mean of two masks of 0 and 2
    assert np.abs(counts / 3000 - [0.25, 0.5, 0.25]).max() < 0.04


def test_two_layers_draw_differently_and_the_seed_matters() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([F.dropout(x[:50]), F.dropout(x[50:])])

    (found,), _ = masks(Pair(), (100, 40))
    assert correlation((found[:50] > 0).ravel(), (found[50:] > 0).ravel()) < 4
    given = task(lambda: nn.Sequential(nn.Linear(30, 8), nn.Dropout(0.5), nn.Linear(8, 7)))
    roots = set()
    for seed in (0, 1):
        sgd = torch.optim.SGD(given.model.parameters(), lr=0.1)
        roots.add(capture(given.model, classify, sgd, given.data, 32, seed=seed).program.root)
    assert len(roots) == 2


class Attention(nn.Module):
    """Multi-head attention with dropout on its weights, and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.last = nn.MultiheadAttention(12, 3, dropout=0.3, batch_first=True), nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x.unflatten(-1, (5, 6))] * 2, -1)
        return self.last(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_attention_dropout_trains_in_the_executor_with_the_references_bits() -> None:
    given = task(Attention, batch=8)
    captured = capture(given.model, given.loss, torch.optim.Adam(given.model.parameters()), given.data, 8)
    executor = Executor(captured.program, captured.data)
    state = dict(captured.state)
    for _ in range(3):
        expected, loss = reference.step(captured.program, state, captured.data)
        state, same = executor.step(state)
        assert loss == same and all(expected[name].tobytes() == state[name].tobytes() for name in state)


def test_gradients_under_dropout_are_autograds_under_the_same_mask() -> None:
    """The mask is read off a metric, and the model without dropout is differentiated with it."""
    given = task(lambda: nn.Sequential(nn.Linear(30, 6), nn.Tanh(), nn.Linear(6, 7)), batch=4)
    seen: list[str] = [f"{i}" for i in range(24)]

    def loss(m: Any, b: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        mask = F.dropout(torch.ones(4, 6), 0.5)
        return F.cross_entropy(m[2](m[1](m[0](b["x"])) * mask), b["y"]), dict(zip(seen, mask.flatten().unbind(), strict=True))

    sgd = torch.optim.SGD(given.model.parameters(), lr=1.0)
    step = prepare(given.model, loss, sgd, given.data, 4, 24, 0)
    program = step.lower(["examples", "gradient.0.weight"])
    trace = reference.trace(program, step.state, step.data)
    mask = torch.tensor([float(trace[program.metrics[name]][0]) for name in seen]).reshape(4, 6)
    batch = {name: tensor[torch.from_numpy(trace[program.metrics["examples"]])] for name, tensor in given.data.items()}
    model: Any = given.model.double()
    F.cross_entropy(model[2](model[1](model[0](batch["x"].double())) * mask.double()), batch["y"]).backward()
    found = torch.from_numpy(trace[program.metrics["gradient.0.weight"]]).reshape(6, 30)
    assert float((found - model[0].weight.grad).norm() / model[0].weight.grad.norm()) < 1e-5


def test_dropout_drawn_again_in_the_backward_pass_is_refused() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = mlp(nn.Dropout(0.5))(), nn.Linear(7, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.utils.checkpoint.checkpoint(self.first, x, use_reentrant=False))

    given = task(Checkpointed)
    with pytest.raises(UnsupportedOperator, match=r"drawn again in the backward pass: switch activation checkpointing off"):
        capture(given.model, given.loss, torch.optim.SGD(given.model.parameters(), lr=0.1), given.data, 8)


@pytest.mark.parametrize("draw", [torch.poisson, lambda x: torch.rand(4, generator=torch.Generator())])
def test_draws_without_a_lowering_are_named(draw: Callable[[Tensor], Tensor]) -> None:
    given = task(mlp(nn.ReLU()))
    with pytest.raises(UnsupportedOperator, match=r"aten\.(rand|poisson).*in the loss"):
        sgd = torch.optim.SGD(given.model.parameters(), lr=0.1)
        capture(given.model, lambda m, b: classify(m, b) * draw(b["x"]).sum(), sgd, given.data, 8)


@pytest.mark.parametrize(
    ("draw", "complaint"),
    [
        (random.random, "Python's random.*draw with torch"),
        (np.random.rand, r"numpy\.random.*draw with torch"),
        (lambda: torch.zeros(3, dtype=torch.int64).random_(0, 5).sum(), r"random_\(\), in the loss .*torch\.randint"),
    ],
)
def test_draws_that_would_be_constants_are_refused(draw: Callable[[], Any], complaint: str) -> None:
    given = task(mlp(nn.ReLU()))
    sgd = torch.optim.SGD(given.model.parameters(), lr=0.1)
    with pytest.raises(UnsupportedOperator, match=complaint):
        capture(given.model, lambda m, b: classify(m, b) * draw(), sgd, given.data, 8)


def test_distributions_check_their_arguments_again_after_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)  # torch.compile switches it off for good
    measured(DRAWS["distributions"])
    with pytest.raises(ValueError, match="scale"):
        torch.distributions.Normal(0.0, -1.0)


def test_a_random_operator_takes_few_nodes() -> None:
    def nodes(p: float) -> int:
        given = task(lambda: nn.Sequential(nn.Linear(30, 8), nn.Dropout(p), nn.Linear(8, 7)))
        return len(capture(given.model, classify, torch.optim.SGD(given.model.parameters(), lr=0.1), given.data, 32).program.nodes)

    assert nodes(0.5) - nodes(0.0) <= 4


def test_values_are_ones_own() -> None:
    """A draw is a function of seed, step, operator and place alone, whatever surrounds it."""
    bench = Workbench()
    key = reshape(bench.builder, narrow(keys(bench.builder, bench.step, 3, 2), 0, 1, 1), ())
    like = torch.empty(6, 7, device="meta")
    sample = OPERATORS["aten.rand.default"](Context(bench.builder, 15, "aten.rand.default", "in a test", like, key))
    assert np.array_equal(bench.run(sample)[0].ravel(), drawn("aten.rand.default", draws=2, seed=3, count=42)[0, 1])
