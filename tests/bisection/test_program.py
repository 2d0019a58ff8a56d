"""The encoding is canonical, total for what is well formed, and refuses everything else with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import NumericsMismatch, ProgramError
from bisection.merkle import depth_of, fold, leaf_digest
from bisection.nodes import Dot, Gather, Map, Node, Reduce, Ref, ScatterAdd
from bisection.program import Program, TensorSpec
from bisection.scalar import Op, ScalarProgram
from tests.support.programs import counting_program, random_node

PROGRAM, _, _ = counting_program()


@pytest.mark.parametrize("kind", [Map, Reduce, Dot, Gather, ScatterAdd])
@given(seed=st.integers(0, 2**32 - 1))
def test_encoding_and_decoding_are_inverse(kind: type[Node], seed: int) -> None:
    program, _ = random_node(np.random.default_rng(seed), kind)
    assert Program.decode(program.encode()) == program
    for node in program.nodes:
        assert Node.decode(node.encode()) == node


@given(st.integers(0, len(PROGRAM.encode()) - 1), st.integers(0, 7))
def test_a_flipped_bit_changes_the_root_or_is_refused(at: int, bit: int) -> None:
    data = bytearray(PROGRAM.encode())
    data[at] ^= 1 << bit
    try:
        other = Program.decode(bytes(data))
    except (ProgramError, NumericsMismatch):
        return
    assert other.root != PROGRAM.root


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    for decode in (Program.decode, Node.decode):
        with pytest.raises(ProgramError):
            decode(noise)


@pytest.mark.parametrize("cut", [0, 3, 10, 200, -1])
def test_a_truncated_program_is_refused(cut: int) -> None:
    with pytest.raises(ProgramError):
        Program.decode(PROGRAM.encode()[:cut])


def test_the_root_stands_over_the_nodes_with_the_header_after_the_last() -> None:
    count = len(PROGRAM.nodes)
    for index, node in enumerate(PROGRAM.nodes):
        proof = PROGRAM.tree.prove(index)
        assert len(proof) == depth_of(count + 1)
        assert fold(leaf_digest(node.encode()), index, proof) == PROGRAM.root
    assert fold(leaf_digest(PROGRAM.header), count, PROGRAM.tree.prove(count)) == PROGRAM.root


def test_names_shapes_and_notes_are_committed() -> None:
    renamed = replace(PROGRAM, state=(replace(PROGRAM.state[0], name="clock"), *PROGRAM.state[1:]))
    noted = replace(PROGRAM, notes={"seed": 1})
    assert len({PROGRAM.root, renamed.root, noted.root}) == 3


def with_header(change: dict[str, Any]) -> bytes:
    """The encoded program with some of its header's fields replaced."""
    header = json.dumps(json.loads(PROGRAM.header) | change, sort_keys=True, separators=(",", ":")).encode()
    data = PROGRAM.encode()
    return data[:4] + len(header).to_bytes(4, "big") + header + data[8 + len(PROGRAM.header) :]


def test_another_numerics_version_is_refused() -> None:
    with pytest.raises(NumericsMismatch, match="99"):
        Program.decode(with_header({"numerics": 99}))


STATE = json.loads(PROGRAM.header)["state"]
DATA = json.loads(PROGRAM.header)["data"]


@pytest.mark.parametrize(
    "change",
    [
        {"numerics": True},
        {"metrics": {"loss": 10**9}},
        {"metrics": {"loss": 0.0}},
        {"metrics": []},
        {"notes": 7},
        {"state": 7},
        {"state": [["step", "i64", [], 1]]},
        {"state": [*STATE[:2], [STATE[1][0], *STATE[2][1:]]]},
        {"data": [["table", "f32", [-4, -4]], DATA[1]]},
        {"data": [["table", "f32", [float("inf")]], DATA[1]]},
        {"data": [["table", "f32", [16.0]], DATA[1]]},
        {"data": [["table", "f32", [True, 16]], DATA[1]]},
        {"data": [*DATA, ["unread", "f99", [1]]]},
        {"data": [*DATA, ["unread", "f32", [1 << 50]]]},
        {"data": [*DATA, ["__metadata__", "f32", [1]]]},
        {"data": [*DATA, ["", "f32", [1]]]},
        {"data": [*DATA, [["unread"], ["f32"], [1]]]},
    ],
    ids=repr,
)
def test_hostile_headers_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProgramError):
        Program.decode(with_header(change))


def test_a_program_must_write_its_whole_state() -> None:
    with pytest.raises(ProgramError, match="every state tensor exactly once"):
        replace(PROGRAM, nodes=PROGRAM.nodes[:-1])


def test_a_node_may_only_read_what_was_written_before() -> None:
    nodes = list(PROGRAM.nodes)
    nodes[5] = replace(nodes[5], inputs=(Ref(99, "i64", 1),))
    with pytest.raises(ProgramError, match="node 5: input"):
        replace(PROGRAM, nodes=tuple(nodes))


def test_a_state_tensor_must_have_the_declared_type() -> None:
    with pytest.raises(ProgramError, match="does not declare so"):
        replace(PROGRAM, state=(TensorSpec("step", "i32", ()), *PROGRAM.state[1:]))


@pytest.mark.parametrize(
    ("ops", "reason"),
    [
        ((Op(0x99, 0),), "does not exist"),
        ((Op(0x01, 0, 1),), "not yet written"),
        ((Op(0x05, 0, 0, 1),), "not yet written"),
        (tuple(Op(0x05, 0) for _ in range(129)), "129 instructions"),
    ],
)
def test_malformed_scalar_programs_are_refused(ops: tuple[Op, ...], reason: str) -> None:
    with pytest.raises(ProgramError, match=reason):
        ScalarProgram(1, 0, (), ops, (0,)).check()
