"""What compiled kernels do in ways of their own keeps the reference's bits: constants, scalars, indices, narrow types, NaNs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bisection import reference
from bisection.boundary import LITTLE_ENDIAN
from bisection.nodes import DTYPES
from bisection.scalar import BY_NAME, INSTRUCTIONS, Instruction, Op, ScalarProgram, store
from tests.differential.operands import EDGES, cases, seed_of
from tests.support.compiled import ISAS, Kernels, chain_for
from trainer.kernels.emit import KernelInput, kernel_source

Array = np.ndarray[Any, Any]

TYPES = {"F": "f32", "W": "i32", "L": "i64"}
CASES = 1500
FAST = ("native", "x86-64-v2")
CONSTANTS: dict[str, list[int]] = {
    "F": [0x00000000, 0x80000000, 0x00000001, 0x3F800001, 0xFF7FFFFF, 0x7F800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF],
    "W": [0, 1, -1, 7, -3, 1 << 16, (1 << 31) - 1, -(1 << 31)],
    "L": [0, 1, -1, 7, -3, 1 << 32, (1 << 31) + 1, (1 << 63) - 1, -(1 << 63), 0x7F800001],
}
SHIFTS = [-1, 0, 1, 5, 31, 32, 33, 63, 64, 1 << 31, (1 << 31) - 1]
POWERS = [-(1 << 31), -601, -150, -149, -127, -126, -125, -24, -1, 0, 1, 23, 95, 96, 97, 126, 127, 128, 250, 600, (1 << 31) - 1]


def named(name: str) -> int:
    return BY_NAME[name].code


def columns_of(row: Instruction, count: int = CASES) -> list[Array]:
    """Registers of each operand."""
    registers = [
        [store(v, view) for v, view in zip(case, row.operands, strict=True)] for case in cases(row.name, count, seed_of(row.name))
    ]
    return [np.ascontiguousarray(column) for column in np.array(registers, np.int64).T]


def typed(column: Array, dtype: str) -> Array:
    """Registers as the elements of a tensor: their low bits."""
    if dtype == "f32":
        return np.ascontiguousarray(column.astype(np.int32)).view(np.float32)
    return np.ascontiguousarray(column.astype(LITTLE_ENDIAN[dtype]))


def expected_of(program: ScalarProgram, values: list[Array], outputs: list[str], indices: list[Array] | None = None) -> list[Array]:
    """The reference's outputs as elements. Values are tensors' elements."""
    registers = reference.run_scalar(program, [x if x.dtype == np.float32 else x.astype(np.int64) for x in values], indices or [])
    count = max([1, *(x.size for x in [*values, *(indices or [])])])
    bits = [np.broadcast_to(reference.view(register, "L"), (count,)) for register in registers]
    return [typed(x, dtype) for x, dtype in zip(bits, outputs, strict=True)]


def assert_same(found: list[Array], expected: list[Array], what: object) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), what


def with_constants(row: Instruction, place: int) -> ScalarProgram:
    """One result for each constant in operand ``place``; the other operands are read."""
    views = [view for i, view in enumerate(row.operands) if i != place]
    constants = CONSTANTS[row.operands[place]]
    if place == 1:
        constants = SHIFTS if "sh" in row.name else POWERS if row.name in ("ldexp", "scaled") else constants
    ops = []
    for i in range(len(constants)):
        operands = list(range(len(views)))
        operands.insert(place, len(views) + i)
        ops.append(Op(row.code, *operands))
    first = len(views) + len(constants)
    constants = [store(c, row.operands[place]) for c in constants]
    return ScalarProgram(len(views), 0, tuple(constants), tuple(ops), tuple(range(first, first + len(ops))))


PLACES = [(row, place) for row in INSTRUCTIONS for place in range(len(row.operands))]


def alone(row: Instruction) -> ScalarProgram:
    arity = len(row.operands)
    return ScalarProgram(arity, 0, (), (Op(row.code, *range(arity)),), (arity,))


def nan_programs() -> dict[str, ScalarProgram]:
    """Two floats and an integer are read. Some results are arithmetic, some are bits that only pass through."""
    fadd, fmul, select, and32, add64 = (named(n) for n in ("fadd", "fmul", "select32", "and32", "add64"))
    ldexp, scaled, select64 = named("ldexp"), named("scaled"), named("select64")
    signalling, all_ones, one = 0x7F800001, -1, 0x3F800000
    return {
        "copy": ScalarProgram(3, 0, (), (), (0, 1)),
        "chosen_as_read": ScalarProgram(3, 0, (), (Op(select, 2, 0, 1), Op(select64, 2, 0, 1)), (3, 4)),
        "sum": ScalarProgram(3, 0, (), (Op(fadd, 0, 1), Op(fmul, 3, 0)), (3, 4)),
        "bits_of_sum": ScalarProgram(3, 0, (all_ones,), (Op(fadd, 0, 1), Op(and32, 4, 3), Op(add64, 4, 4)), (5, 6)),
        "chosen_sum": ScalarProgram(3, 0, (one,), (Op(fadd, 0, 1), Op(select, 2, 4, 3), Op(fadd, 5, 1)), (5, 6)),
        "sum_or_read": ScalarProgram(3, 0, (), (Op(fadd, 0, 1), Op(select, 2, 3, 0), Op(select, 2, 1, 4), Op(fmul, 5, 5)), (4, 5)),
        "sum_or_constant_nan": ScalarProgram(3, 0, (signalling,), (Op(fadd, 0, 1), Op(select, 2, 4, 3), Op(fmul, 5, 0)), (5, 6)),
        "two_sums": ScalarProgram(3, 0, (), (Op(fadd, 0, 1), Op(fmul, 0, 1), Op(select, 2, 3, 4), Op(select, 0, 5, 4)), (5, 6)),
        "chosen_by_nan": ScalarProgram(3, 0, (), (Op(fadd, 0, 1), Op(select, 3, 0, 1), Op(select64, 3, 3, 0)), (4, 5)),
        "constants": ScalarProgram(3, 0, (signalling, all_ones, 0x7FC00001), (Op(fadd, 3, 4),), (3, 6)),
        "powers": ScalarProgram(3, 0, (3, 200), (Op(ldexp, 0, 3), Op(ldexp, 0, 4), Op(scaled, 0, 3)), (5, 6)),
    }


def narrow_program() -> ScalarProgram:
    """A word and a long, added, and scaled by constants: of a word one multiplication does."""
    add32, add64, scaled = named("add32"), named("add64"), named("scaled")
    ops = (
        Op(add32, 0, 1),
        Op(add64, 0, 1),
        Op(scaled, 5, 2),
        Op(scaled, 6, 2),
        Op(scaled, 0, 3),
        Op(scaled, 0, 4),
        Op(scaled, 5, 1),
    )
    return ScalarProgram(2, 0, (-20, 96, -140), ops, (5, 6, 7, 8, 9, 10, 11))


def index_program() -> ScalarProgram:
    """An index as it is, as a float's bits, and added to itself."""
    return ScalarProgram(0, 1, (), (Op(named("add64"), 0, 0), Op(named("scaled"), 0, 0), Op(named("fadd"), 0, 0)), (0, 1, 2, 3))


INDEX_OUTPUTS = ["i64", "i64", "f32", "f32"]
NARROW_OUTPUTS = ["i8", "i64", "f32", "f32", "f32", "f32", "i16"]
INTEGERS = ("i8", "i16", "i32", "i64")


@pytest.fixture(scope="module", params=[pytest.param(i, marks=[pytest.mark.deep] * (i not in FAST)) for i in ISAS])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    sources = {}
    for row, place in PLACES:
        program = with_constants(row, place)
        read = [KernelInput(TYPES[view], "vector") for i, view in enumerate(row.operands) if i != place]
        sources[f"{row.name}_constant{place}"] = kernel_source(program, read, [TYPES[row.result]] * len(program.results))
        mixed = [KernelInput(TYPES[view], "scalar" if i == place else "vector") for i, view in enumerate(row.operands)]
        sources[f"{row.name}_scalar{place}"] = kernel_source(alone(row), mixed, [TYPES[row.result]])
    for name, program in nan_programs().items():
        read = [KernelInput(dtype, "vector") for dtype in ("f32", "f32", "i32")]
        for dtype in ("f32", "i64"):
            sources[f"{name}_{dtype}"] = kernel_source(program, read, [dtype, dtype])
    for a in INTEGERS:
        for b in INTEGERS:
            given = [KernelInput(a, "vector"), KernelInput(b, "vector")]
            sources[f"narrow_{a}_{b}"] = kernel_source(narrow_program(), given, NARROW_OUTPUTS)
    words = with_constants(BY_NAME["scaled"], 1)
    sources["scaled_words"] = kernel_source(words, [KernelInput("i32", "vector")], ["f32"] * len(words.results))
    sources["index"] = kernel_source(index_program(), [KernelInput("i64", "index")], INDEX_OUTPUTS)
    return Kernels(chain_for(request.param), sources)


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.name)
def test_constants(kernels: Kernels, row: Instruction) -> None:
    columns = columns_of(row)
    for place in range(len(row.operands)):
        program = with_constants(row, place)
        read = [typed(x, TYPES[view]) for i, (x, view) in enumerate(zip(columns, row.operands, strict=True)) if i != place]
        outputs = [TYPES[row.result]] * len(program.results)
        count = len(columns[0]) if read else 1
        found = kernels.run(f"{row.name}_constant{place}", count, read, outputs)
        assert_same(found, expected_of(program, read, outputs), place)


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.name)
def test_scalars(kernels: Kernels, row: Instruction) -> None:
    """One element for a whole row of others."""
    columns = [typed(x, TYPES[view]) for x, view in zip(columns_of(row), row.operands, strict=True)]
    count = len(columns[0])
    for place, view in enumerate(row.operands):
        for value in EDGES[view]:
            given = list(columns)
            given[place] = typed(np.array([store(value, view)]), TYPES[view])
            length = count if len(given) > 1 else 1
            found = kernels.run(f"{row.name}_scalar{place}", length, given, [TYPES[row.result]])
            assert_same(found, expected_of(alone(row), given, [TYPES[row.result]]), (place, value))


@pytest.mark.parametrize("name", nan_programs())
def test_bits_that_pass_through_stay_and_arithmetic_has_one_nan(kernels: Kernels, name: str) -> None:
    """Signalling and negative NaNs among them."""
    edges = np.array([store(pattern, "F") for pattern in EDGES["F"]])
    a, b, c = (x.reshape(-1) for x in np.meshgrid(edges, edges, np.array([0, 1, -(1 << 31)]), indexing="ij"))
    given = [typed(a, "f32"), typed(b, "f32"), typed(c, "i32")]
    for dtype in ("f32", "i64"):
        expected = expected_of(nan_programs()[name], given, [dtype, dtype])
        for piece in (None, 3):  # whole vectors, and the way of a loop's end
            assert_same(kernels.run(f"{name}_{dtype}", len(a), given, [dtype, dtype], piece), expected, (dtype, piece))


def test_copies_keep_every_pattern_of_a_nan(kernels: Kernels) -> None:
    patterns = np.concatenate([np.arange(0x7F800000, 1 << 31, 997), np.arange(0xFF800000, 1 << 32, 997)]).astype(np.uint32)
    given = patterns.view(np.float32)
    choice = np.ones(len(given), np.int32)
    found = kernels.run("copy_f32", len(given), [given, given, choice], ["f32", "f32"])
    chosen = kernels.run("chosen_as_read_f32", len(given), [given, given, choice], ["f32", "f32"])
    assert all(x.tobytes() == patterns.tobytes() for x in (*found, *chosen))


@pytest.mark.parametrize("a", INTEGERS)
@pytest.mark.parametrize("b", INTEGERS)
def test_narrow_types_are_widened_and_cut(kernels: Kernels, a: str, b: str) -> None:
    fitting = [[x for x in EDGES["L"] if x.bit_length() < 8 * DTYPES[dtype].size] for dtype in (a, b)]
    given = [typed(x.reshape(-1), dtype) for x, dtype in zip(np.meshgrid(*fitting), (a, b), strict=True)]
    count = len(given[0])
    found = kernels.run(f"narrow_{a}_{b}", count, given, NARROW_OUTPUTS)
    assert_same(found, expected_of(narrow_program(), given, NARROW_OUTPUTS), (a, b))


def test_words_scaled_by_constants(kernels: Kernels) -> None:
    """Of a word, most constants need one multiplication only."""
    program = with_constants(BY_NAME["scaled"], 1)
    words = typed(np.concatenate([columns_of(BY_NAME["add32"])[0], EDGES["W"]]), "i32")
    outputs = ["f32"] * len(program.results)
    assert_same(kernels.run("scaled_words", len(words), [words], outputs), expected_of(program, [words], outputs), "scaled")


@pytest.mark.parametrize("start", [0, 7, (1 << 31) - 3, 1 << 40])
def test_indices_are_longs(kernels: Kernels, start: int) -> None:
    table = np.array([0, 5, 1, (1 << 31) - 1] * 9, np.int32)
    found = kernels.run("index", len(table), [np.array([start]), table], INDEX_OUTPUTS)
    assert_same(found, expected_of(index_program(), [], INDEX_OUTPUTS, [start + table.astype(np.int64)]), start)
