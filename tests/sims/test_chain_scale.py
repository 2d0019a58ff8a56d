"""Disputes about jobs of any size on the real contracts, and the costs that are measured there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sims.chain.kinds import Scaled, scaled
from sims.chain.measure import FULL, MEASURED, measured, write

SMALL = Scaled(steps=8, nodes=16, elements=64, run_length=2_048)


@pytest.mark.parametrize("withheld", [False, True])
def test_a_dispute_at_full_scale_is_convicted_within_the_limits(withheld: bool) -> None:
    metrics = scaled(replace(FULL, withheld=withheld), 0).metrics
    assert metrics["right"] and metrics["money_conserved"] and metrics["transactions_failed"] == 0
    assert int(metrics["dispute_transactions"] or 0) <= 32 and int(metrics["dispute_gas"] or 0) <= 2_600_000


def test_a_larger_job_takes_more_rounds_and_no_more_than_its_depths() -> None:
    small, large = (scaled(Scaled(elements=elements, withheld=True), 0).metrics for elements in (1 << 12, 1 << 24))
    assert int(small["localised_seconds"] or 0) < int(large["localised_seconds"] or 0) <= 12 * 32


def test_only_powers_of_two_are_known_where_it_matters() -> None:
    with pytest.raises(ValueError, match="elements = 1000 is no power of two"):
        Scaled(elements=1_000)
    with pytest.raises(ValueError, match="run_length = 1000 is no power of two"):
        Scaled(run_length=1_000)


def test_the_costs_that_are_shipped_are_those_that_are_measured() -> None:
    assert json.loads(MEASURED.read_text(encoding="utf-8")) == measured()


def test_costs_are_written_whole(tmp_path: Path) -> None:
    write(tmp_path / "costs.json", SMALL)
    costs = json.loads((tmp_path / "costs.json").read_text(encoding="utf-8"))
    assert [path.name for path in tmp_path.iterdir()] == ["costs.json"]
    assert costs["fast_challenger"]["gas"] < costs["slow_challenger"]["gas"]
    assert costs["fast_trainer"]["transactions"] < costs["slow_trainer"]["transactions"]
