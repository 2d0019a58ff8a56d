"""Programs: a whole training step as a list of nodes (docs/program.md).

A program is data. It has one binary encoding, a Merkle root over its encoded nodes, and no code of anybody's. Tensors are
numbered in the order in which the nodes produce them; a node may read only tensors with smaller numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from bisection.encoding import Reader, Writer
from bisection.errors import NumericsMismatch, ProgramError
from bisection.merkle import Tree, leaf_digest
from bisection.nodes import DTYPES, MAX_BYTES, MAX_NODE_BYTES, Input, Node, Output, Ref

__all__ = ["NUMERICS_VERSION", "Program", "TensorSpec"]

NUMERICS_VERSION = 1
MAGIC = b"RSTP"
MAX_NAME = 200  # characters


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor of the state or the data: name, element type and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Its number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Program:
    """A training step: (state, data) → (next state, metrics).

    ``state`` and ``data`` name the tensors at the boundary, in order; ``metrics`` names tensors of the trace worth showing;
    ``notes`` holds what else the requester wants committed (operand bits, seed, optimizer, …), as JSON values.
    """

    nodes: tuple[Node, ...]
    state: tuple[TensorSpec, ...]
    data: tuple[TensorSpec, ...]
    metrics: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check()

    def _check_specs(self, specs: Sequence[TensorSpec], what: str) -> None:
        for spec in specs:
            name_fits = isinstance(spec.name, str) and 0 < len(spec.name) <= MAX_NAME and not spec.name.startswith("__")
            shape_fits = all(type(size) is int and size > 0 for size in spec.shape)
            if not name_fits or spec.dtype not in DTYPES or not shape_fits or spec.count * DTYPES[spec.dtype].size > MAX_BYTES:
                raise ProgramError(f"the {what} declares {spec.name!r} as {spec.dtype}{list(spec.shape)}, which no tensor can be")
        if len({spec.name for spec in specs}) != len(specs):
            raise ProgramError(f"the {what} declares two tensors of the same name")

    def _check(self) -> None:
        self._check_specs(self.state, "state")
        self._check_specs(self.data, "data")
        tensors: list[Ref] = []
        written: list[int] = []
        specs = {"state": self.state, "data": self.data}
        for number, node in enumerate(self.nodes):
            where = f"node {number}: "
            if len(node.encode()) > MAX_NODE_BYTES:
                raise ProgramError(f"{where}a {node.NAME} node takes more than {MAX_NODE_BYTES} bytes")
            for ref in node.inputs:
                if ref.tensor >= len(tensors) or tensors[ref.tensor] != ref:
                    raise ProgramError(f"{where}input {ref} is not a tensor written before")
            for ref in node.outputs:
                if ref.tensor != len(tensors) or ref.count < 1 or ref.nbytes > MAX_BYTES:
                    raise ProgramError(f"{where}output {ref} is not the next tensor, is empty or passes 2^40 bytes")
                tensors.append(ref)
            try:
                node.check()
            except ProgramError as error:
                raise ProgramError(f"{where}{error}") from None
            if isinstance(node, Input):
                spec = specs[node.source][node.index] if node.index < len(specs[node.source]) else None
                if spec is None or (spec.dtype, spec.count) != (node.outputs[0].dtype, node.outputs[0].count):
                    raise ProgramError(f"{where}reads {node.source} tensor {node.index}, which the header does not declare so")
            if isinstance(node, Output):
                written.append(node.index)
                spec = self.state[node.index] if node.index < len(self.state) else None
                if spec is None or (spec.dtype, spec.count) != (node.inputs[0].dtype, node.inputs[0].count):
                    raise ProgramError(f"{where}writes state tensor {node.index}, which the header does not declare so")
        if sorted(written) != list(range(len(self.state))):
            raise ProgramError("a program writes every state tensor exactly once")
        if not self.nodes or not self.state:
            raise ProgramError("a program has at least one node and one state tensor")
        if any(type(tensor) is not int or not 0 <= tensor < len(tensors) for tensor in self.metrics.values()):
            raise ProgramError("a metric names a tensor that does not exist")

    @cached_property
    def tensors(self) -> tuple[Ref, ...]:
        """Every tensor of the trace, in order."""
        return tuple(ref for node in self.nodes for ref in node.outputs)

    @cached_property
    def producer(self) -> tuple[int, ...]:
        """For every tensor of the trace, the number of the node that writes it."""
        return tuple(number for number, node in enumerate(self.nodes) for _ in node.outputs)

    @cached_property
    def header(self) -> bytes:
        """The header: canonical JSON (sorted keys, no white space, ASCII)."""

        def specs(rows: Iterable[TensorSpec]) -> list[Any]:
            return [[row.name, row.dtype, list(row.shape)] for row in rows]

        document = {
            "numerics": NUMERICS_VERSION,
            "state": specs(self.state),
            "data": specs(self.data),
            "metrics": dict(self.metrics),
            "notes": dict(self.notes),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

    @cached_property
    def tree(self) -> Tree:
        """The tree over the encoded nodes, with the header as the leaf after the last node."""
        return Tree([leaf_digest(data) for data in [*(node.encode() for node in self.nodes), self.header]])

    @property
    def root(self) -> bytes:
        """The program root, 32 bytes."""
        return self.tree.root

    def encode(self) -> bytes:
        """The whole program as bytes: magic, header, nodes, each with its length before it."""
        out = Writer()
        out.raw(MAGIC).u32(len(self.header)).raw(self.header).u32(len(self.nodes))
        for node in self.nodes:
            data = node.encode()
            out.u16(len(data)).raw(data)
        return out.finish()

    @classmethod
    def decode(cls, data: bytes) -> Program:
        """The program that ``data`` encodes. Raises ProgramError or NumericsMismatch."""
        source = Reader(data)
        if source.raw(4) != MAGIC:
            raise ProgramError("these bytes are not a Refstep program")
        header = source.raw(source.u32())
        nodes = tuple(Node.decode(source.raw(source.u16())) for _ in range(source.u32()))
        source.end()
        try:
            document = json.loads(header)
            version = document["numerics"]
            if version != NUMERICS_VERSION:
                raise NumericsMismatch(f"the program speaks numerics version {version}; this build speaks {NUMERICS_VERSION}")
            state, data_specs = (
                tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in document[key]) for key in ("state", "data")
            )
            program = cls(nodes, state, data_specs, document["metrics"], document["notes"])
            canonical = program.header == header
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ProgramError(f"the program's header is malformed: {error!r}") from None
        if not canonical:
            raise ProgramError("the program's header is not in its canonical encoding")
        return program
