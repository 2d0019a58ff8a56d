"""A job's material: publishing program, data and initial state, and loading them from a place that nobody trusts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from bisection.boundary import LITTLE_ENDIAN, Array, bind, fitting
from bisection.errors import NumericsMismatch, VerificationError
from bisection.nodes import DTYPES
from bisection.program import NUMERICS_VERSION, Program, TensorSpec
from contracts.jobs import JobSpec
from trainer.commit import tensor_tree
from trainer.kernels.hashing import Bytes
from trainer.store import Source, Store, byte_view

__all__ = ["Commitments", "JobRoots", "Material", "commit", "load", "load_state", "mirror", "publish", "publish_state"]

Fetch = Callable[[bytes, int | None], Bytes]


class JobRoots(Protocol):
    """The part of a job's specification that says what its material is (docs/protocol.md, "A job")."""

    @property
    def program_root(self) -> bytes:
        """The program's root, 32 bytes."""

    @property
    def node_count(self) -> int:
        """The number of the program's nodes."""

    @property
    def tensor_count(self) -> int:
        """The number of tensors in a trace."""

    @property
    def initial_state(self) -> bytes:
        """The root of state 0, 32 bytes."""

    @property
    def state_count(self) -> int:
        """The number of tensors in a state."""

    @property
    def data_root(self) -> bytes:
        """The root over the roots of the data tensors, 32 bytes; EMPTY without data."""

    @property
    def data_count(self) -> int:
        """The number of data tensors."""

    @property
    def numerics_version(self) -> int:
        """The meaning of the numbers."""


@dataclass(frozen=True, slots=True)
class Commitments:
    """The JobRoots of some material."""

    program_root: bytes
    node_count: int
    tensor_count: int
    initial_state: bytes
    state_count: int
    data_root: bytes
    data_count: int
    numerics_version: int = NUMERICS_VERSION

    def spec(self, steps: int, segment_length: int) -> JobSpec:
        """The specification of a job of so many steps on the material."""
        return JobSpec(**asdict(self), steps=steps, segment_length=segment_length)


@dataclass(frozen=True)
class Material:
    """What a job's steps are a function of: the program, state 0 and the data, by name, in the declared types and shapes.

    Data that comes from a folder is mapped and read-only: it may be larger than memory.
    """

    program: Program
    state: Mapping[str, Array]
    data: Mapping[str, Array]


def commit(program: Program, state: Mapping[str, Array], data: Mapping[str, Array]) -> Commitments:
    """The roots and counts of a job on this material. Raises ProgramError when state or data do not fit the program."""
    boundary = bind(program, state, data)
    return _commitments(program, tensor_tree(boundary["state"]).root, tensor_tree(boundary["data"]).root)


def publish(store: Store, program: Program, state: Mapping[str, Array], data: Mapping[str, Array]) -> Commitments:
    """Put everything that a trainer needs to claim the job into ``store``. Raises ProgramError when state or data do not fit."""
    boundary = bind(program, state, data)
    store.put_program(program)
    return _commitments(program, _publish_tensors(store, boundary["state"]), _publish_tensors(store, boundary["data"]))


def publish_state(store: Store, program: Program, state: Mapping[str, Array]) -> bytes:
    """Put one state into ``store``, such as the trained model; returns its root. Raises ProgramError when it does not fit."""
    return _publish_tensors(store, fitting(program.state, state, "state"))


def load(source: Source, spec: JobRoots) -> Material:
    """Fetch and verify a job's material.

    Raises NumericsMismatch for a version that this build does not speak, VerificationError when a byte or a count is wrong,
    UnavailableError when something cannot be had.
    """
    program = _load_program(source, spec)
    state = _load_tensors(source, spec.initial_state, program.state)
    return Material(program, state, _load_tensors(source, spec.data_root, program.data, _unread(source)))


def mirror(source: Source, store: Store, spec: JobRoots) -> None:
    """Fetch a job's material into ``store``, verified, with one tensor at a time in memory. Raises as ``load``."""
    program = _load_program(source, spec)
    for root, specs in ((spec.initial_state, program.state), (spec.data_root, program.data)):
        roots = source.get_digests(root, len(specs))
        for digest, tensor in zip(roots, specs, strict=True):
            store.put_blob(_unread(source)(digest, _size(tensor)))
        store.put_digests(roots)
    store.put_program(program)


def _unread(source: Source) -> Fetch:
    """How to get a blob from ``source`` without reading it into memory, if there is a way."""
    return source.map_blob if isinstance(source, Store) else source.get_blob


def _load_program(source: Source, spec: JobRoots) -> Program:
    if spec.numerics_version != NUMERICS_VERSION:
        raise NumericsMismatch(f"the job speaks numerics version {spec.numerics_version}; this build speaks {NUMERICS_VERSION}")
    program = source.get_program(spec.program_root)
    counts = {
        "nodes": (spec.node_count, len(program.nodes)),
        "tensors in a trace": (spec.tensor_count, len(program.tensors)),
        "state tensors": (spec.state_count, len(program.state)),
        "data tensors": (spec.data_count, len(program.data)),
    }
    for what, (stated, found) in counts.items():
        if stated != found:
            raise VerificationError(f"the job states {stated} {what}, but its program has {found}; nobody could dispute such a job")
    return program


def load_state(source: Source, program: Program, root: bytes) -> dict[str, Array]:
    """The state under ``root``, verified. Raises VerificationError, or UnavailableError when something cannot be had."""
    return _load_tensors(source, root, program.state)


def _commitments(program: Program, state_root: bytes, data_root: bytes) -> Commitments:
    return Commitments(
        program.root, len(program.nodes), len(program.tensors), state_root, len(program.state), data_root, len(program.data)
    )


def _publish_tensors(store: Store, arrays: Sequence[Array]) -> bytes:
    return store.put_digests([store.put_blob(byte_view(array)) for array in arrays])


def _load_tensors(source: Source, root: bytes, specs: Sequence[TensorSpec], fetch: Fetch | None = None) -> dict[str, Array]:
    roots, fetch = source.get_digests(root, len(specs)), fetch or source.get_blob
    return {spec.name: _tensor(fetch(digest, _size(spec)), spec) for spec, digest in zip(specs, roots, strict=True)}


def _tensor(data: Bytes, spec: TensorSpec) -> Array:
    return np.frombuffer(data, LITTLE_ENDIAN[spec.dtype]).reshape(spec.shape)


def _size(spec: TensorSpec) -> int:
    return spec.count * DTYPES[spec.dtype].size
