"""The numpy reference computes what the one-element cut says, on hostile tensors, element for element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bisection import reference
from bisection.boundary import tensor_bytes
from bisection.cut import element, load
from bisection.errors import ProgramError
from bisection.nodes import Dot, Gather, Input, Map, Node, Output, Reduce, ScatterAdd
from bisection.program import Program
from tests.support.programs import counting_program, random_node

STATE = {"step": np.array(0, np.int64)}


def assert_cut_agrees(program: Program, tensors: Sequence[np.ndarray]) -> None:
    """Every element of every computed tensor equals its one-element cut."""
    registers = [load(tensor_bytes(t), ref.dtype) for t, ref in zip(tensors, program.tensors, strict=True)]
    for node in program.nodes:
        if isinstance(node, Input | Output):
            continue

        def fetch(i: int, first: int, count: int, node: Node = node) -> list[int]:
            return registers[node.inputs[i].tensor][first : first + count]

        for output, ref in enumerate(node.outputs):
            for position in range(ref.count):
                assert element(node, output, position, fetch) == registers[ref.tensor][position], (node.NAME, output, position)


@pytest.mark.parametrize("kind", [Map, Reduce, Dot, Gather, ScatterAdd])
def test_random_nodes_agree_with_the_cut(kind: type[Node]) -> None:
    for seed in range(200):
        program, data = random_node(np.random.default_rng(seed), kind)
        assert_cut_agrees(program, reference.trace(program, STATE, data))


def test_a_whole_program_agrees_with_the_cut() -> None:
    program, state, data = counting_program()
    for _ in range(2):
        assert_cut_agrees(program, reference.trace(program, state, data))
        state, _ = reference.step(program, state, data)
    assert state["step"] == 2


def test_state_of_another_shape_type_or_name_is_refused() -> None:
    program, state, data = counting_program()
    for broken, reason in [
        ({**state, "step": np.array(0, np.int32)}, "int32"),
        ({**state, "weights": state["weights"][:-1]}, "f32\\[200\\]"),
        ({k: v for k, v in state.items() if k != "totals"}, "totals"),
        ({**state, "more": state["totals"]}, "more"),
    ]:
        with pytest.raises(ProgramError, match=reason):
            reference.step(program, broken, data)
