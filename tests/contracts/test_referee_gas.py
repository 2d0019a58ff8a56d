"""What the referee costs, as transactions that call it: limits, and figures that are written down (benchmarks/referee_gas.py)."""

from __future__ import annotations

import json

import pytest

from benchmarks.referee_gas import SNAPSHOT, snapshot
from bisection.scalar import INSTRUCTIONS
from contracts.build import artifact
from tests.differential.evm import BLOCK_GAS

CONTRACT_SIZE = 24_576  # EIP-170
TRANSACTION_GAS_CAP = 1 << 24  # EIP-7825

INSTRUCTION_GAS = 3_000
TOLERANCE = 0.02  # of a figure written down
WRITE = "python -m benchmarks.referee_gas --write"

LIMITS = {
    "input": 100_000,
    "what an input joins": 70_000,
    "output": 100_000,
    "what an output joins": 70_000,
    "map, 1 input, 1 instruction": 150_000,
    "map, 3 inputs, 37 instructions": 300_000,
    "AdamW: map, 6 inputs, 40 instructions, 3 outputs": 450_000,
    "map, 8 inputs, 128 instructions": 750_000,
    "gather": 180_000,
    "dot of 1,024 i8 pairs": 380_000,
    "dot of 1,024 i16 pairs": 450_000,
    "dot of 1,024 i32 pairs": 650_000,
    "sum of 1,024 i8": 350_000,
    "sum of 1,024 i32": 500_000,
    "sum of 1,024 i64": 700_000,
    "max of 1,024 i32": 500_000,
    "scatter_add of 1,024 i64": 900_000,
    "256 of a long sum, i8": 180_000,
    "what a long sum, i8 is": 120_000,
    "256 of a long sum, i64": 320_000,
    "what a long sum, i64 is": 120_000,
    "256 of a long max, i32": 280_000,
    "what a long max, i32 is": 120_000,
    "256 of a long dot, i16": 300_000,
    "what a long dot, i16 is": 150_000,
    "256 of a long dot, i32": 350_000,
    "what a long dot, i32 is": 150_000,
    "256 of a long scatter_add, i64": 400_000,
    "what a long scatter_add, i64 is": 150_000,
}


def test_the_referee_fits_the_chain() -> None:
    assert artifact("Referee").runtime_size < CONTRACT_SIZE


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, int]]:
    return snapshot()


def test_every_verdict_measured_has_a_limit(measured: dict[str, dict[str, int]]) -> None:
    assert measured["verdicts"].keys() == LIMITS.keys()


@pytest.mark.parametrize("what", LIMITS)
def test_a_verdict_stays_below_its_limit(measured: dict[str, dict[str, int]], what: str) -> None:
    assert measured["verdicts"][what] < LIMITS[what] < TRANSACTION_GAS_CAP < BLOCK_GAS


def test_no_instruction_costs_much(measured: dict[str, dict[str, int]]) -> None:
    assert measured["instructions"].keys() == {row.name for row in INSTRUCTIONS}
    assert max(measured["instructions"].values()) < INSTRUCTION_GAS


@pytest.mark.parametrize("table", ["verdicts", "instructions"])
def test_the_figures_are_those_written_down(measured: dict[str, dict[str, int]], table: str) -> None:
    written = json.loads(SNAPSHOT.read_text(encoding="utf-8"))[table]
    assert written.keys() == measured[table].keys(), WRITE
    moved = {what: (gas, written[what]) for what, gas in measured[table].items() if abs(gas - written[what]) > TOLERANCE * gas}
    assert not moved, WRITE
