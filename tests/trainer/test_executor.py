"""The torch executor has the reference's bits: every node kind, hostile tensors, whole steps, any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bisection import reference, state_root
from bisection.boundary import tensor_bytes
from bisection.errors import ProgramError, UsageError
from bisection.nodes import Dot, Gather, Map, Node, Reduce, ScatterAdd
from bisection.program import Program
from tests.support.programs import counting_program, random_node
from trainer.executor import Executor

STATE = {"step": np.array(0, np.int64)}


def assert_same_trace(program: Program, state: dict[str, np.ndarray], data: dict[str, np.ndarray]) -> None:
    expected = reference.trace(program, state, data)
    found = Executor(program, data).trace(state)
    for number, (a, b) in enumerate(zip(expected, found, strict=True)):
        assert a.dtype == b.dtype and tensor_bytes(a) == tensor_bytes(b), program.nodes[program.producer[number]]


@pytest.mark.parametrize("kind", [Map, Reduce, Dot, Gather, ScatterAdd])
def test_random_nodes_have_the_reference_bits(kind: type[Node]) -> None:
    for seed in range(200):
        program, data = random_node(np.random.default_rng(seed), kind)
        assert_same_trace(program, STATE, data)


def test_large_32_bit_products_stay_exact() -> None:
    """Beyond 2^53 the product goes through 16-bit halves."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        program, data = random_node(rng, Dot)
        if program.nodes[1].outputs[0].dtype == "i32":
            data["x0"][:] = np.int32(-(2**31))
        assert_same_trace(program, STATE, data)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_hundred_steps_have_the_reference_root(threads: int) -> None:
    program, state, data = counting_program()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        executor = Executor(program, data)
        mine = theirs = state
        for _ in range(100):
            mine, metrics = executor.step(mine)
            theirs, expected = reference.step(program, theirs, data)
            assert metrics == expected
        assert state_root(program, mine) == state_root(program, theirs)
    finally:
        torch.set_num_threads(before)


def test_a_device_that_is_not_there_is_one_clear_error() -> None:
    program, _, data = counting_program()
    with pytest.raises(UsageError, match="warp"):
        Executor(program, data, device="warp")


def test_data_of_another_shape_is_refused() -> None:
    program, _, data = counting_program()
    with pytest.raises(ProgramError, match="table"):
        Executor(program, {**data, "table": data["table"][:3]})
