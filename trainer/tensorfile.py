"""Tensors in one safetensors file: written without joining them in memory, and mapped instead of read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from bisection.boundary import Array
from bisection.errors import UsageError
from trainer.files import map_file
from trainer.kernels.hashing import Bytes
from trainer.store import byte_view

__all__ = ["file_parts", "map_tensors", "read_tensors"]

NAMES = {"<f4": "F32", "|i1": "I8", "<i2": "I16", "<i4": "I32", "<i8": "I64"}
TYPES = {name: np.dtype(text) for text, name in NAMES.items()}
ALIGNMENT = 8


def file_parts(tensors: Mapping[str, Array]) -> list[Bytes]:
    """The bytes of a safetensors file that holds ``tensors``, in parts that are views of them where they lie in C order.

    The widest types come first, so that every tensor is aligned.
    """
    rows = sorted(tensors.items(), key=lambda row: -row[1].dtype.itemsize)
    header: dict[str, Any] = {}
    parts: list[Bytes] = []
    end = 0
    for name, array in rows:
        parts.append(byte_view(array))
        start, end = end, end + array.nbytes
        dtype = NAMES[array.dtype.newbyteorder("<").str]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return [len(text).to_bytes(8, "little") + text, *parts]


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file, in memory. Raises SafetensorError, OSError."""
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def map_tensors(path: str | Path) -> dict[str, Array]:
    """The tensors of a safetensors file, read-only, in memory only as far as they are looked at.

    Float tensors are float32, integers have 8 to 64 bits. Raises UsageError when the file cannot be read so.
    """
    try:
        with safe_open(path, "np") as file:
            specs = [(name, file.get_slice(name)) for name in file.offset_keys()]
            rows = [(name, TYPES[part.get_dtype()], part.get_shape()) for name, part in specs]
        data = map_file(Path(path))
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} cannot be read as a safetensors file: {error}") from None
    except KeyError as error:
        raise UsageError(f"{path} holds a tensor of type {error}; data are {', '.join(TYPES)}") from None
    at = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, dtype, shape in rows:
        count = int(np.prod(shape, dtype=np.int64))
        tensors[name] = np.frombuffer(data, dtype, count, at).reshape(shape)
        at += tensors[name].nbytes
    return tensors
