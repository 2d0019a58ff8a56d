"""Every scalar instruction has the same bits in the definition, the numpy reference and the torch executor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bisection import reference
from bisection.scalar import INSTRUCTIONS, Instruction, Op, ScalarProgram, store
from tests.differential.operands import cases, seed_of
from trainer import faces
from trainer.executor import prepare_scalar

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
