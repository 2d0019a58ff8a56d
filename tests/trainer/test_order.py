"""Data order: every epoch shows every example once, in an order of its own that looks like chance."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisection.reference import run_scalar
from tests.support.lowering import Workbench
from trainer.lowering.assembly import assemble
from trainer.lowering.expression import Affine, Load, Slot
from trainer.lowering.order import batch_indices, mix, shuffled


def order(size: int, epoch: int, seed: int) -> np.ndarray:
    """The whole order of one epoch, from the expression itself."""
    place, at = (Load(Slot("i64", size), Affine(0, ())) for _ in range(2))
    assembly = assemble([shuffled(place, at, seed, size)], ())
    return run_scalar(assembly.scalar, [np.arange(size), np.full(size, epoch)], [])[0]


@given(st.integers(1, 400), st.integers(0, 2**40), st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation(size: int, epoch: int, seed: int) -> None:
    assert sorted(order(size, epoch, seed)) == list(range(size))


def test_a_large_epoch_is_a_permutation() -> None:
    assert np.array_equal(np.sort(order(100_003, 5, 1)), np.arange(100_003))


def test_epochs_and_seeds_give_different_orders() -> None:
    orders = [order(60, epoch, seed).tobytes() for epoch in range(10) for seed in range(10)]
    assert len(set(orders)) == 100


@pytest.mark.parametrize("size", [7, 16, 50])
def test_every_example_is_equally_likely_at_every_place(size: int) -> None:
    """Chi-square over (place, example) for 2,000 seeds: within five standard deviations of its mean."""
    seeds = 2000
    counts = np.zeros((size, size))
    for seed in range(seeds):
        counts[np.arange(size), order(size, 0, seed)] += 1
    expected = seeds / size
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = (size - 1) ** 2
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def test_small_orders_are_all_reached_equally() -> None:
    """All 24 orders of four examples, over 4,800 epochs of one seed."""
    counts = Counter(tuple(int(i) for i in order(4, epoch, 9)) for epoch in range(4800))
    chi_square = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert len(counts) == 24
    assert chi_square < 23 + 5 * np.sqrt(46)


def test_neighbours_are_not_kept_together() -> None:
    together = sum(int((np.abs(np.diff(order(1000, 0, seed))) == 1).sum()) for seed in range(20))
    assert together < 80  # 40 on average by chance


def test_the_mixer_flips_every_output_bit_half_of_the_time() -> None:
    x = Load(Slot("i64", 1), Affine(0, ()))
    scalar = assemble([mix(x)], ()).scalar
    words = np.random.default_rng(0).integers(-(2**63), 2**63, 2000)
    before = run_scalar(scalar, [words], [])[0]
    for bit in range(64):
        flipped = before ^ run_scalar(scalar, [words ^ np.int64(np.uint64(1 << bit).astype(np.int64))], [])[0]
        share = np.unpackbits(flipped.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
        assert 0.44 < share.min() and share.max() < 0.56


@pytest.mark.parametrize(("examples", "batch"), [(10, 4), (7, 7), (13, 5), (1, 1)])
def test_batches_run_through_the_epochs_without_a_seam(examples: int, batch: int) -> None:
    seen: list[int] = []
    for step in range(3 * examples):
        bench = Workbench()
        (indices,) = bench.run(batch_indices(bench.builder, bench.step, batch, examples, 5), step=step)
        seen += indices.tolist()
    for epoch in range(3 * batch):
        chunk = seen[epoch * examples : (epoch + 1) * examples]
        assert chunk == order(examples, epoch, 5).tolist()


def test_the_shuffle_takes_few_nodes() -> None:
    bench = Workbench()
    bench.run(batch_indices(bench.builder, bench.step, 8, 1000, 0))
    assert bench.program is not None
    assert sum(node.NAME == "map" for node in bench.program.nodes) <= 5
