"""What a verdict may cost at most, as a transaction that calls the referee; benchmarks/referee_gas.py prints the figures."""

from __future__ import annotations

import pytest

from benchmarks.referee_gas import instructions, verdicts
from contracts.build import artifact
from tests.differential.evm import BLOCK_GAS, Contract

CONTRACT_SIZE = 24_576  # EIP-170
TRANSACTION_GAS_CAP = 1 << 24  # EIP-7825

LIMITS = {
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
}


def test_the_referee_fits_the_chain() -> None:
    assert artifact("Referee").runtime_size < CONTRACT_SIZE


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    return dict(verdicts(Contract("Referee")))


def test_every_verdict_measured_has_a_limit(measured: dict[str, int]) -> None:
    assert measured.keys() == LIMITS.keys()


@pytest.mark.parametrize("what", LIMITS)
def test_a_verdict_stays_below_its_limit(measured: dict[str, int], what: str) -> None:
    assert measured[what] < LIMITS[what] < TRANSACTION_GAS_CAP < BLOCK_GAS


def test_no_instruction_costs_much() -> None:
    assert max(gas for _, gas in instructions(Contract("scalar_mock"), samples=10)) < 3_000
