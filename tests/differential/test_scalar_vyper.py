"""Every scalar instruction in the contract gives the bits that bisection/scalar.py defines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bisection.scalar import BY_CODE, INSTRUCTIONS, Instruction, read, store
from tests.differential.evm import Contract, Reverted
from tests.differential.operands import cases, seed_of

BATCH = 2048  # MAX_CASES of the mock
CASES = 10_000


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract("scalar_mock")


def words(values: np.ndarray) -> bytes:
    """ABI words of signed 64-bit integers."""
    out = np.empty((values.size, 4), ">i8")
    out[:, :3] = (values.reshape(-1) >> 63)[:, None]
    out[:, 3] = values.reshape(-1)
    return out.tobytes()


def apply(contract: Contract, code: int, registers: np.ndarray) -> list[int]:
    """The registers that the contract makes of each row of three."""
    results: list[int] = []
    for at in range(0, len(registers), BATCH):
        batch = registers[at : at + BATCH]
        head = b"".join(int(x).to_bytes(32, "big") for x in (code, 64, len(batch)))
        returned = contract.send(contract.selector("apply") + head + words(batch), gas=1 << 36)
        words_back = np.frombuffer(returned, ">i8").reshape(-1, 4)[2:]
        assert (words_back[:, :3] == words_back[:, 3:] >> 63).all(), "a register holds a signed 64-bit value"
        results += words_back[:, 3].tolist()
    return results


def registers_of(row: Instruction, operands: Sequence[tuple[int, ...]], seed: int) -> np.ndarray:
    """Registers whose views are the operands. The bits that a view does not read are random, as are operands it does not have."""
    rng = np.random.default_rng(seed)
    registers = rng.integers(-(1 << 63), (1 << 63) - 1, (len(operands), 3), endpoint=True)
    values = np.array(operands, dtype=np.int64)
    for place, view in enumerate(row.operands):
        if view == "L":
            registers[:, place] = values[:, place]
        else:
            high = registers[:, place] >> 32 << 32
            registers[:, place] = high | (values[:, place] & 0xFFFFFFFF)
    return registers


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.name)
def test_an_instruction_agrees_with_its_definition(contract: Contract, row: Instruction) -> None:
    operands = cases(row.name, CASES, seed_of(row.name))
    results = apply(contract, row.code, registers_of(row, operands, seed=2))
    wrong = [
        (values, got, expected)
        for values, got in zip(operands, results, strict=True)
        if got != (expected := store(row.meaning(*values), row.result))
    ]
    assert not wrong, f"{len(wrong)} of {CASES} differ, such as (operands, contract, definition) {wrong[0]}"


def test_the_operands_are_read_back_from_registers() -> None:
    for row in INSTRUCTIONS:
        operands = cases(row.name, 500, seed=3)
        registers = registers_of(row, operands, seed=4).tolist()
        assert [tuple(read(r, v) for r, v in zip(three, row.operands, strict=False)) for three in registers] == operands


def test_a_code_that_does_not_exist_reverts(contract: Contract) -> None:
    for code in set(range(257)) - set(BY_CODE):
        with pytest.raises(Reverted, match="referee: unknown instruction"):
            contract.call("apply", code, [(1, 2, 3)])
