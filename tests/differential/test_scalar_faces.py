"""Every scalar instruction has the same bits in the definition, the numpy reference, the torch executor and compiled kernels."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from bisection import reference
from bisection.scalar import INSTRUCTIONS, Instruction, Op, ScalarProgram, store
from tests.differential.operands import cases, seed_of
from tests.support.compiled import ISAS, Kernels, chain_for
from trainer import faces
from trainer.kernels.emit import KernelInput, kernel_source
from trainer.torch_route import prepare_scalar

CASES = 10_000
TYPES = {"F": "f32", "W": "i32", "L": "i64"}
PIECE = 5  # elements: fewer than any vector has, so that they take the way of a loop's end


def alone(row: Instruction) -> ScalarProgram:
    """The instruction on values that are read."""
    arity = len(row.operands)
    return ScalarProgram(arity, 0, (), (Op(row.code, *range(arity)),), (arity,))


@cache
def tabulated(row: Instruction) -> tuple[list[np.ndarray], list[int]]:
    """(registers of each operand, the definition's results)."""
    registers = [
        [store(v, kind) for v, kind in zip(case, row.operands, strict=True)] for case in cases(row.name, CASES, seed_of(row.name))
    ]
    program = alone(row)
    columns = list(np.ascontiguousarray(np.array(registers, np.int64).T))
    return columns, [program.run(case, [])[0] for case in registers]


def typed(column: np.ndarray, view: str) -> np.ndarray:
    """Registers as the elements of a tensor of a view's own type."""
    return column if view == "L" else np.ascontiguousarray(column.astype(np.int32)).view(np.dtype("<f4" if view == "F" else "<i4"))


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.name)
def test_numpy_and_torch_have_the_bits_of_the_definition(row: Instruction) -> None:
    columns, expected = tabulated(row)
    program = alone(row)
    by_numpy = reference.view(reference.run_scalar(program, columns, [])[0], "L")
    values = [torch.from_numpy(column.copy()) for column in columns]
    by_torch = faces.view(prepare_scalar(program, [], torch.device("cpu"))(values)[0], "L")
    assert len(expected) >= CASES
    assert by_numpy.tolist() == expected
    assert by_torch.tolist() == expected


@pytest.fixture(scope="module", params=ISAS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """For every instruction a kernel on operands of their own types, and one on operands that are all read as i64."""
    sources = {}
    for row in INSTRUCTIONS:
        own = [KernelInput(TYPES[view], "vector") for view in row.operands]
        sources[row.name] = kernel_source(alone(row), own, [TYPES[row.result]])
        sources[f"{row.name}_long"] = kernel_source(alone(row), [KernelInput("i64", "vector")] * len(own), ["i64"])
    return Kernels(chain_for(request.param), sources)


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.name)
def test_compiled_kernels_have_the_bits_of_the_definition(kernels: Kernels, row: Instruction) -> None:
    columns, expected = tabulated(row)
    own = [typed(column, view) for column, view in zip(columns, row.operands, strict=True)]
    for piece in (None, PIECE):
        (found,) = kernels.run(row.name, len(expected), own, [TYPES[row.result]], piece)
        assert np.array_equal(found.view(np.int32) if row.result == "F" else found, expected)
        (found,) = kernels.run(f"{row.name}_long", len(expected), columns, ["i64"], piece)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("row", [row for row in INSTRUCTIONS if "sh" in row.name], ids=lambda row: row.name)
def test_shifts_by_a_constant_have_the_bits_of_the_definition(row: Instruction) -> None:
    values = [case[0] for case in cases(row.name, 200, seed_of(row.name))]
    column = torch.tensor([store(v, row.operands[0]) for v in values])
    for amount in (*range(-2, 67), 1 << 31, 1 << 32, (1 << 32) + 1, -(1 << 63)):
        program = ScalarProgram(1, 0, (amount,), (Op(row.code, 0, 1),), (2,))
        expected = [program.run([v], [])[0] for v in column.tolist()]
        found = faces.view(prepare_scalar(program, [], torch.device("cpu"))([column])[0], "L")
        assert found.tolist() == expected, amount
