"""A job's material: what was published is loaded, and nothing else ever is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisection.boundary import data_root, state_root
from bisection.errors import NumericsMismatch, ProgramError, UnavailableError, VerificationError
from bisection.merkle import EMPTY
from bisection.nodes import Map
from bisection.program import Program
from tests.support.programs import counting_program, random_node
from trainer.package import Commitments, commit, load, load_state, publish, publish_state
from trainer.store import Store

PROGRAM, STATE, DATA = counting_program()


def same(found: Any, expected: Any) -> bool:
    return set(found) == set(expected) and all(
        found[name].dtype == expected[name].dtype
        and found[name].shape == expected[name].shape
        and np.array_equal(found[name], expected[name])
        for name in expected
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def spec(store: Store) -> Commitments:
    return publish(store, PROGRAM, STATE, DATA)


def test_published_material_is_loaded_as_it_was(store: Store, spec: Commitments) -> None:
    material = load(store, spec)
    assert material.program == PROGRAM
    assert same(material.state, STATE) and same(material.data, DATA)


def test_the_commitments_are_those_of_the_job(spec: Commitments) -> None:
    assert spec == commit(PROGRAM, STATE, DATA)
    assert (spec.program_root, spec.initial_state, spec.data_root) == (
        PROGRAM.root,
        state_root(PROGRAM, STATE),
        data_root(PROGRAM, DATA),
    )
    assert (spec.node_count, spec.tensor_count) == (len(PROGRAM.nodes), len(PROGRAM.tensors))


def test_random_programs_and_hostile_tensors_survive_the_way(store: Store) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        program, data = random_node(rng, Map)
        state = {"step": np.array(-1, np.int64)}
        material = load(store, publish(store, program, state, data))
        assert material.program == program
        assert all(material.data[name].tobytes() == array.tobytes() for name, array in data.items())


def test_a_job_without_data_has_the_empty_data_root(store: Store) -> None:
    program, state, _ = counting_program()
    nodes = tuple(node for node in program.nodes if node.NAME in ("input", "output"))[:1]
    lonely = Program((nodes[0], replace(program.nodes[-3], inputs=(nodes[0].outputs[0],))), program.state[:1], ())
    spec = publish(store, lonely, {"step": state["step"]}, {})
    assert spec.data_root == EMPTY and load(store, spec).data == {}


@pytest.mark.parametrize("field", ["node_count", "tensor_count", "state_count", "data_count"])
def test_counts_that_are_not_the_programs_make_a_job_that_nobody_touches(store: Store, spec: Commitments, field: str) -> None:
    with pytest.raises(VerificationError, match="nobody could dispute"):
        load(store, replace(spec, **{field: getattr(spec, field) + 1}))


def test_a_foreign_numerics_version_is_refused(store: Store, spec: Commitments) -> None:
    with pytest.raises(NumericsMismatch, match="version 2"):
        load(store, replace(spec, numerics_version=2))


def test_another_tensors_bytes_are_refused(store: Store, spec: Commitments) -> None:
    """A state that is some tree, but of tensors of other sizes than the program declares."""
    other = store.put_digests([store.put_blob(b"") for _ in PROGRAM.state])
    with pytest.raises(VerificationError, match="expected"):
        load(store, replace(spec, initial_state=other))


@pytest.mark.parametrize("field", ["program_root", "initial_state", "data_root"])
def test_material_that_is_not_there_is_said_to_be_missing(store: Store, spec: Commitments, field: str) -> None:
    with pytest.raises(UnavailableError, match="holds nothing"):
        load(store, replace(spec, **{field: bytes([9]) * 32}))


def test_every_damaged_file_is_found(tmp_path: Path, store: Store, spec: Commitments) -> None:
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(VerificationError):
            load(store, spec)
        path.write_bytes(good)
    load(store, spec)


def test_a_trained_state_is_published_and_loaded(store: Store) -> None:
    root = publish_state(store, PROGRAM, STATE)
    assert root == state_root(PROGRAM, STATE)
    assert same(load_state(store, PROGRAM, root), STATE)


def test_a_state_that_does_not_fit_is_refused(store: Store) -> None:
    with pytest.raises(ProgramError):
        publish(store, PROGRAM, {**STATE, "weights": STATE["weights"].astype(np.float64)}, DATA)
    with pytest.raises(ProgramError):
        publish_state(store, PROGRAM, {"weights": STATE["weights"]})
