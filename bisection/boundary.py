"""The boundary of a program: named state and data on the outside, numbered tensors and their roots on the inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bisection.errors import ProgramError
from bisection.merkle import Tree, blob_root
from bisection.nodes import Output
from bisection.program import Program, TensorSpec

__all__ = [
    "Array",
    "bind",
    "data_root",
    "fitting",
    "metrics_of",
    "next_state",
    "state_root",
    "state_roots",
    "state_tensors",
    "tensor_bytes",
    "tensor_from_bytes",
    "tensor_roots",
]

Array = NDArray[Any]
LITTLE_ENDIAN = {"f32": "<f4", "i8": "<i1", "i16": "<i2", "i32": "<i4", "i64": "<i8"}


def fitting(specs: Sequence[TensorSpec], arrays: Mapping[str, Array], what: str) -> list[Array]:
    """``arrays`` in the order of ``specs``, contiguous. Raises ProgramError for a missing, extra or unfitting one."""
    if set(arrays) != {spec.name for spec in specs}:
        missing = sorted({spec.name for spec in specs} ^ set(arrays))
        raise ProgramError(
            f"the {what} must hold exactly the tensors that the program declares; these differ: {', '.join(missing)}"
        )
    fitting = []
    for spec in specs:
        array = np.asarray(arrays[spec.name])
        if array.dtype != np.dtype(LITTLE_ENDIAN[spec.dtype]) or array.shape != spec.shape:
            found = f"{array.dtype}{list(array.shape)}"
            raise ProgramError(f"the {what} tensor {spec.name!r} is {found}; the program declares {spec.dtype}{list(spec.shape)}")
        fitting.append(np.ascontiguousarray(array).reshape(spec.shape))
    return fitting


def bind(program: Program, state: Mapping[str, Array], data: Mapping[str, Array]) -> dict[str, list[Array]]:
    """State and data arrays in the program's order. Raises ProgramError when one is missing, extra, or of another type or shape."""
    return {"state": fitting(program.state, state, "state"), "data": fitting(program.data, data, "data")}


def state_tensors(program: Program) -> list[int]:
    """For each state tensor, the number of the trace's tensor that becomes its next value."""
    sources = {node.index: node.inputs[0].tensor for node in program.nodes if isinstance(node, Output)}
    return [sources[i] for i in range(len(program.state))]


def next_state(program: Program, tensors: Sequence[Array] | Mapping[int, Array]) -> dict[str, Array]:
    """The state after the step, from the trace's flat tensors by number."""
    rows = zip(program.state, state_tensors(program), strict=True)
    return {spec.name: tensors[number].reshape(spec.shape) for spec, number in rows}


def metrics_of(program: Program, tensors: Sequence[Array] | Mapping[int, Array]) -> dict[str, float]:
    """Each metric's first element, as a Python float."""
    return {name: float(tensors[number].reshape(-1)[0]) for name, number in program.metrics.items()}


def tensor_bytes(array: Array) -> bytes:
    """A tensor's committed bytes: little-endian, C order."""
    array = np.ascontiguousarray(array)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def tensor_from_bytes(data: bytes, dtype: str, shape: Sequence[int]) -> Array:
    """The tensor that ``data`` holds. Raises ProgramError when the size does not fit."""
    array = np.frombuffer(data, LITTLE_ENDIAN[dtype])
    if array.size != int(np.prod(shape, dtype=np.int64)):
        raise ProgramError(f"{len(data)} bytes are no {dtype} tensor of shape {list(shape)}")
    return array.reshape(shape)


def tensor_roots(arrays: Sequence[Array]) -> list[bytes]:
    """Each tensor's root."""
    return [blob_root(tensor_bytes(array)) for array in arrays]


def state_roots(program: Program, state: Mapping[str, Array]) -> list[bytes]:
    """The root of each state tensor, in the program's order: the leaves of the state tree."""
    return tensor_roots(fitting(program.state, state, "state"))


def state_root(program: Program, state: Mapping[str, Array]) -> bytes:
    """The commitment to a whole state, 32 bytes."""
    return Tree(state_roots(program, state)).root


def data_root(program: Program, data: Mapping[str, Array]) -> bytes:
    """The commitment to all data tensors, 32 bytes; EMPTY when there are none."""
    return Tree(tensor_roots(fitting(program.data, data, "data"))).root
