"""Every scalar instruction has the same bits in the definition, the numpy reference and the torch executor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bisection import reference
from bisection.scalar import INSTRUCTIONS, Instruction, Op, ScalarProgram, store
from tests.differential.operands import cases, seed_of
from trainer import faces
from trainer.library import prepare_scalar

CASES = 10_000


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.name)
def test_numpy_and_torch_have_the_bits_of_the_definition(row: Instruction) -> None:
    arity = len(row.operands)
    operands = cases(row.name, CASES, seed_of(row.name))
    registers = [[store(v, kind) for v, kind in zip(case, row.operands, strict=True)] for case in operands]
    program = ScalarProgram(arity, 0, (), (Op(row.code, *range(arity)),), (arity,))
    expected = [program.run(case, [])[0] for case in registers]
    columns = np.array(registers, np.int64).T
    by_numpy = reference.view(reference.run_scalar(program, list(columns), [])[0], "L")
    values = [torch.from_numpy(column.copy()) for column in columns]
    by_torch = faces.view(prepare_scalar(program, [], torch.device("cpu"))(values)[0], "L")
    assert len(expected) >= CASES
    assert by_numpy.tolist() == expected
    assert by_torch.tolist() == expected


@pytest.mark.parametrize("row", [row for row in INSTRUCTIONS if "sh" in row.name], ids=lambda row: row.name)
def test_shifts_by_a_constant_have_the_bits_of_the_definition(row: Instruction) -> None:
    values = [case[0] for case in cases(row.name, 200, seed_of(row.name))]
    column = torch.tensor([store(v, row.operands[0]) for v in values])
    for amount in (*range(-2, 67), 1 << 31, 1 << 32, (1 << 32) + 1, -(1 << 63)):
        program = ScalarProgram(1, 0, (amount,), (Op(row.code, 0, 1),), (2,))
        expected = [program.run([v], [])[0] for v in column.tolist()]
        found = faces.view(prepare_scalar(program, [], torch.device("cpu"))([column])[0], "L")
        assert found.tolist() == expected, amount
