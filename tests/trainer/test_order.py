"""Data order: every epoch shows every example once, in an order of its own that looks like chance."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisection.reference import run_scalar
from bisection.scalar import ScalarProgram
from tests.support.lowering import Workbench
from trainer.lowering.assembly import assemble
from trainer.lowering.expression import Affine, Load, Slot
from trainer.lowering.order import batch_indices, mix, shuffled


@cache
def scalar_program(size: int) -> tuple[ScalarProgram, tuple[int, ...]]:
    """The shuffle of ``size`` as one scalar program (longer than a map allows), and which of place, epoch, seed each read is."""
    loads = [Load(Slot("i64", size), Affine(0, ())) for _ in range(3)]
    assembly = assemble([shuffled(*loads, size)], ())
    return assembly.scalar, tuple([load.slot for load in loads].index(slot) for slot in assembly.slots)


def orders(size: int, epoch: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """[keys, size]: the whole order for each pair of epoch and seed."""
    scalar, reads = scalar_program(size)
    epochs, seeds, places = (x.ravel() for x in np.broadcast_arrays(epoch[:, None], seed[:, None], np.arange(size)[None]))
    values = [places, epochs, seeds]
    return run_scalar(scalar, [values[i] for i in reads], [])[0].reshape(-1, size)


def order(size: int, epoch: int, seed: int) -> np.ndarray:
    """The whole order of one epoch."""
    return orders(size, np.array([epoch]), np.array([seed]))[0]


@given(st.integers(1, 400), st.integers(0, 2**40), st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation(size: int, epoch: int, seed: int) -> None:
    assert sorted(order(size, epoch, seed)) == list(range(size))


def test_a_large_epoch_is_a_permutation() -> None:
    assert np.array_equal(np.sort(order(100_003, 5, 1)), np.arange(100_003))


def test_epochs_and_seeds_give_different_orders() -> None:
    pairs = np.arange(100)
    assert len(np.unique(orders(60, pairs // 10, pairs % 10), axis=0)) == 100


@pytest.mark.parametrize("size", [7, 16, 50])
def test_every_example_is_equally_likely_at_every_place(size: int) -> None:
    """Chi-square over (place, example) for 2,000 seeds: within five standard deviations of its mean."""
    seeds = 2000
    counts = np.zeros((size, size))
    for found in orders(size, np.zeros(seeds, np.int64), np.arange(seeds)):
        counts[np.arange(size), found] += 1
    expected = seeds / size
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = (size - 1) ** 2
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def test_small_orders_are_all_reached_equally() -> None:
    """All 24 orders of four examples, over 4,800 epochs of one seed."""
    counts = Counter(tuple(found) for found in orders(4, np.arange(4800), np.full(4800, 9)).tolist())
    chi_square = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert len(counts) == 24
    assert chi_square < 23 + 5 * np.sqrt(46)


def test_neighbours_are_not_kept_together() -> None:
    found = orders(1000, np.zeros(20, np.int64), np.arange(20))
    assert (np.abs(np.diff(found, axis=1)) == 1).sum() < 80  # 40 on average by chance


def test_the_mixer_flips_every_output_bit_half_of_the_time() -> None:
    x = Load(Slot("i64", 1), Affine(0, ()))
    scalar = assemble([mix(x)], ()).scalar
    words = np.random.default_rng(0).integers(-(2**63), 2**63, 2000)
    before = run_scalar(scalar, [words], [])[0]
    for bit in range(64):
        flipped = before ^ run_scalar(scalar, [words ^ np.int64(np.uint64(1 << bit).astype(np.int64))], [])[0]
        share = np.unpackbits(flipped.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
        assert share.min() > 0.44 and share.max() < 0.56


@pytest.mark.parametrize(("examples", "batch"), [(10, 4), (7, 7), (13, 5), (1, 1)])
def test_batches_run_through_the_epochs_without_a_seam(examples: int, batch: int) -> None:
    bench = Workbench()
    bench.compile(batch_indices(bench.builder, bench.step, batch, examples, 5))
    seen = [int(i) for step in range(3 * examples) for i in bench.results(step)[0]]
    for epoch in range(3 * batch):
        chunk = seen[epoch * examples : (epoch + 1) * examples]
        assert chunk == order(examples, epoch, 5).tolist()


def test_the_shuffle_takes_few_nodes() -> None:
    bench = Workbench()
    program = bench.compile(batch_indices(bench.builder, bench.step, 8, 1000, 0))
    assert sum(node.NAME == "map" for node in program.nodes) <= 5
