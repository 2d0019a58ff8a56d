"""Nodes: the kinds of work that a step is made of, and their encoding (docs/program.md, "Nodes" and "Encoding")."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from bisection.encoding import Reader, Writer
from bisection.errors import ProgramError
from bisection.scalar import Op, ScalarProgram

__all__ = [
    "DTYPES",
    "MAX_BYTES",
    "MAX_LENGTH",
    "MAX_NODE_BYTES",
    "MAX_RUN",
    "Condition",
    "DType",
    "Dot",
    "Gather",
    "Input",
    "Map",
    "Node",
    "Output",
    "Read",
    "Reduce",
    "Ref",
    "RunNode",
    "ScatterAdd",
]

MAX_INPUTS = 8
MAX_RANK = 8
MAX_NODE_BYTES = 2048
MAX_LENGTH = 1024  # the most elements of a run that one verdict reads: a longer run is first cut into parts (bisection/cut.py)
MAX_RUN = (1 << 32) - 1  # the most elements of a run
MAX_BYTES = 1 << 40
MAX_ADDRESS = 1 << 62


@dataclass(frozen=True, slots=True)
class DType:
    """An element type: its code in the encoding, name, and size in bytes."""

    code: int
    name: str
    size: int


DTYPES = {
    name: DType(code, name, size) for code, (name, size) in enumerate([("f32", 4), ("i8", 1), ("i16", 2), ("i32", 4), ("i64", 8)])
}
_DTYPE_BY_CODE = {dtype.code: dtype for dtype in DTYPES.values()}
INTEGERS = ("i8", "i16", "i32", "i64")


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor as a node sees it: its number, element type and element count."""

    tensor: int
    dtype: str
    count: int

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.count * DTYPES[self.dtype].size


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on an iteration index: 0 <= offset + Σ coefficients·index < size."""

    offset: int
    size: int
    coefficients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """An affine read: the element at base + Σ strides·index, or 0 where a condition fails or the address lies outside."""

    base: int
    strides: tuple[int, ...]
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Node(ABC):
    """What all kinds share: the tensors read, and the number, element types and counts of the tensors written."""

    KIND: ClassVar[int]
    NAME: ClassVar[str]

    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape that every output has."""

    @abstractmethod
    def write_body(self, out: Writer) -> None:
        """Append this kind's own fields."""

    @classmethod
    @abstractmethod
    def read_body(cls, body: Reader, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Node:
        """The node whose own fields come next in ``body``."""

    @abstractmethod
    def check(self) -> None:
        """Raise ProgramError unless the node's fields fit each other."""

    def expect(self, condition: bool, reason: str) -> None:
        """Raise ProgramError with ``reason`` unless ``condition``."""
        if not condition:
            raise ProgramError(f"a {self.NAME} node {reason}")

    def expect_arity(self, inputs: int, outputs: int) -> None:
        """Raise ProgramError unless the node has these numbers of inputs and outputs."""
        self.expect(len(self.inputs) == inputs and len(self.outputs) == outputs, f"has {inputs} inputs and {outputs} outputs")

    def expect_integers(self, *refs: Ref) -> None:
        """Raise ProgramError unless all ``refs`` hold integers."""
        self.expect(all(ref.dtype in INTEGERS for ref in refs), "works on integers")

    def encode(self) -> bytes:
        """The canonical bytes (docs/program.md, "Encoding")."""
        out = Writer()
        first = self.outputs[0].tensor if self.outputs else 0
        out.u8(self.KIND).u8(len(self.inputs)).u8(len(self.outputs)).u32(first)
        for ref in self.inputs:
            out.u32(ref.tensor).u8(DTYPES[ref.dtype].code).u64(ref.count)
        for ref in self.outputs:
            out.u8(DTYPES[ref.dtype].code).u64(ref.count)
        self.write_body(out)
        return out.finish()

    @staticmethod
    def decode(data: bytes) -> Node:
        """The node that ``data`` encodes. Raises ProgramError when it encodes none."""
        source = Reader(data)
        kind, n_inputs, n_outputs, first = source.u8(), source.u8(), source.u8(), source.u32()
        if kind not in KINDS:
            raise ProgramError(f"node kind {kind} does not exist")
        inputs = tuple(Ref(source.u32(), _dtype(source.u8()), source.u64()) for _ in range(n_inputs))
        outputs = tuple(Ref(first + i, _dtype(source.u8()), source.u64()) for i in range(n_outputs))
        node = KINDS[kind].read_body(source, inputs, outputs)
        source.end()
        node.check()
        if node.encode() != data:
            raise ProgramError(f"a {node.NAME} node is not in its canonical encoding")
        return node


@dataclass(frozen=True, slots=True)
class Input(Node):
    """A boundary: the output is tensor ``index`` of the state at the start of the step, or of the data."""

    KIND = 0
    NAME = "input"

    source: Literal["state", "data"]
    index: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Flat: the named shape stands in the program's header."""
        return (self.outputs[0].count,)

    def write_body(self, out: Writer) -> None:
        """source (0 state, 1 data) u8, index u32."""
        out.u8(int(self.source == "data")).u32(self.index)

    @classmethod
    def read_body(cls, body: Reader, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Input:
        """See write_body."""
        return cls(inputs, outputs, "data" if body.u8() else "state", body.u32())

    def check(self) -> None:
        """One output, nothing read."""
        self.expect_arity(0, 1)


@dataclass(frozen=True, slots=True)
class Output(Node):
    """A boundary: the input is tensor ``index`` of the state at the end of the step."""

    KIND = 1
    NAME = "output"

    index: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Flat: the named shape stands in the program's header."""
        return (self.inputs[0].count,)

    def write_body(self, out: Writer) -> None:
        """index u32."""
        out.u32(self.index)

    @classmethod
    def read_body(cls, body: Reader, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Output:
        """See write_body."""
        return cls(inputs, outputs, body.u32())

    def check(self) -> None:
        """One input, nothing written."""
        self.expect_arity(1, 0)


@dataclass(frozen=True, slots=True)
class Map(Node):
    """A scalar program for every index of ``iteration``, the shape of every output; read i takes input i at an affine position."""

    KIND = 2
    NAME = "map"

    iteration: tuple[int, ...]
    reads: tuple[Read, ...]
    scalar: ScalarProgram

    @property
    def shape(self) -> tuple[int, ...]:
        """The iteration shape."""
        return self.iteration

    def write_body(self, out: Writer) -> None:
        """rank u8, dims u32; result registers u8; constants u8 · i64; instructions u8 · 4 bytes; then each read."""
        out.u8(len(self.iteration))
        for size in self.iteration:
            out.u32(size)
        for register in self.scalar.results:
            out.u8(register)
        out.u8(len(self.scalar.constants))
        for constant in self.scalar.constants:
            out.i64(constant)
        out.u8(len(self.scalar.ops))
        for op in self.scalar.ops:
            out.u8(op.code).u8(op.a).u8(op.b).u8(op.c)
        for r in self.reads:
            out.u8(len(r.conditions)).i64(r.base)
            for stride in r.strides:
                out.i64(stride)
            for condition in r.conditions:
                out.i64(condition.offset).i64(condition.size)
                for coefficient in condition.coefficients:
                    out.i64(coefficient)

    @classmethod
    def read_body(cls, body: Reader, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Map:
        """See write_body."""
        rank = body.u8()
        iteration = tuple(body.u32() for _ in range(rank))
        results = tuple(body.u8() for _ in outputs)
        constants = tuple(body.i64() for _ in range(body.u8()))
        ops = tuple(Op(body.u8(), body.u8(), body.u8(), body.u8()) for _ in range(body.u8()))

        def one_read() -> Read:
            n_conditions, base = body.u8(), body.i64()
            strides = tuple(body.i64() for _ in range(rank))
            return Read(
                base,
                strides,
                tuple(Condition(body.i64(), body.i64(), tuple(body.i64() for _ in range(rank))) for _ in range(n_conditions)),
            )

        reads = tuple(one_read() for _ in inputs)
        return cls(inputs, outputs, iteration, reads, ScalarProgram(len(inputs), rank, constants, ops, results))

    def check(self) -> None:
        """Counts match the iteration shape, the scalar program is well formed, addresses stay far below 2^63."""
        self.expect(len(self.iteration) <= MAX_RANK and all(self.iteration), "has at most 8 dimensions, none of them empty")
        self.expect(
            len(self.inputs) <= MAX_INPUTS and 1 <= len(self.outputs) <= MAX_INPUTS, "has at most 8 inputs and 1 to 8 outputs"
        )
        self.expect(len(self.reads) == len(self.inputs), "reads each of its inputs once")
        self.expect(all(ref.count == prod(self.iteration) for ref in self.outputs), "writes one element for each index")
        s = self.scalar
        self.expect(
            (s.reads, s.rank, len(s.results)) == (len(self.inputs), len(self.iteration), len(self.outputs)),
            "has a scalar program for other inputs, indices or outputs",
        )
        self.scalar.check()
        for r in self.reads:
            for start, factors in [(r.base, r.strides), *((c.offset, c.coefficients) for c in r.conditions)]:
                self.expect(len(factors) == len(self.iteration), "has a read of another rank")
                reach = abs(start) + sum(abs(f) * (n - 1) for f, n in zip(factors, self.iteration, strict=True))
                self.expect(reach < MAX_ADDRESS, "has a read whose address could pass 2^62")


@dataclass(frozen=True, slots=True)
class Reduce(Node):
    """``sum`` (to i64, wrapping) or ``max`` (i32 or i64, kept) over each run of ``length`` elements."""

    KIND = 3
    NAME = "reduce"

    op: Literal["sum", "max"]
    length: int

    @property
    def shape(self) -> tuple[int, ...]:
        """One element a run."""
        return (self.outputs[0].count,)

    def write_body(self, out: Writer) -> None:
        """op (0 sum, 1 max) u8, length u32."""
        out.u8(int(self.op == "max")).u32(self.length)

    @classmethod
    def read_body(cls, body: Reader, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Reduce:
        """See write_body."""
        return cls(inputs, outputs, "max" if body.u8() else "sum", body.u32())

    def check(self) -> None:
        """Integers in; the runs fill the input."""
        self.expect_arity(1, 1)
        (x,), (y,) = self.inputs, self.outputs
        self.expect_integers(x)
        self.expect(y.dtype == ("i64" if self.op == "sum" else x.dtype), "sums to i64 and keeps the type of a maximum")
        self.expect(self.op == "sum" or x.dtype in ("i32", "i64"), "takes the maximum of i32 or i64")
        self.expect(1 <= self.length <= MAX_RUN, f"runs over 1 to {MAX_RUN} elements")
        self.expect(y.count * self.length == x.count, "does not fit its input")


@dataclass(frozen=True, slots=True)
class Dot(Node):
    """C[b,m,n] = Σ_k A[b,m,k]·B[b,n,k], exact and wrapping in i64; A and B hold integers of at most 32 bits."""

    KIND = 4
    NAME = "dot"

    m: int
    n: int
    k: int

    @property
    def length(self) -> int:
        """The number of products that an element sums."""
        return self.k

    @property
    def batch(self) -> int:
        """The number of independent products."""
        return self.outputs[0].count // (self.m * self.n)

    @property
    def shape(self) -> tuple[int, ...]:
        """(batch, m, n)."""
        return (self.batch, self.m, self.n)

    def write_body(self, out: Writer) -> None:
        """m, n, k u32."""
        out.u32(self.m).u32(self.n).u32(self.k)

    @classmethod
    def read_body(cls, body: Reader, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Dot:
        """See write_body."""
        return cls(inputs, outputs, body.u32(), body.u32(), body.u32())

    def check(self) -> None:
        """Integers in, i64 out; both operands hold the same number of matrices."""
        self.expect_arity(2, 1)
        (a, b), (c,) = self.inputs, self.outputs
        self.expect_integers(a, b)
        self.expect("i64" not in (a.dtype, b.dtype) and c.dtype == "i64", "multiplies integers of at most 32 bits into i64")
        self.expect(self.m > 0 and self.n > 0 and 1 <= self.k <= MAX_RUN, f"runs over 1 to {MAX_RUN} products")
        batch = self.batch
        self.expect(
            (a.count, b.count, c.count) == (batch * self.m * self.k, batch * self.n * self.k, batch * self.m * self.n)
            and batch > 0,
            "does not fit its inputs",
        )


@dataclass(frozen=True, slots=True)
class Gather(Node):
    """out[i,c] = table[index[i],c]; 0 where the index lies outside the table. Inputs: table, index (integers)."""

    KIND = 5
    NAME = "gather"

    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of indices, width)."""
        return (self.inputs[1].count, self.width)

    def write_body(self, out: Writer) -> None:
        """width u32."""
        out.u32(self.width)

    @classmethod
    def read_body(cls, body: Reader, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> Gather:
        """See write_body."""
        return cls(inputs, outputs, body.u32())

    def check(self) -> None:
        """Integer indices; the output has the table's type."""
        self.expect_arity(2, 1)
        (table, index), (y,) = self.inputs, self.outputs
        self.expect_integers(index)
        self.expect(y.dtype == table.dtype, "keeps the type of its table")
        self.expect(self.width > 0 and table.count % self.width == 0, "has a table of whole rows")
        self.expect(y.count == index.count * self.width and y.count > 0, "does not fit its inputs")


@dataclass(frozen=True, slots=True)
class ScatterAdd(Node):
    """out[c,r] = Σ over i with index[i] = r of values[c,i], wrapping in i64. Inputs: values (integers), index (integers).

    The sum runs along the last axis, so that one element needs one run of values and the indices: both contiguous.
    """

    KIND = 6
    NAME = "scatter_add"

    length: int
    bins: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, bins)."""
        return (self.inputs[0].count // self.length, self.bins)

    def write_body(self, out: Writer) -> None:
        """length, bins u32."""
        out.u32(self.length).u32(self.bins)

    @classmethod
    def read_body(cls, body: Reader, inputs: tuple[Ref, ...], outputs: tuple[Ref, ...]) -> ScatterAdd:
        """See write_body."""
        return cls(inputs, outputs, body.u32(), body.u32())

    def check(self) -> None:
        """Integers in, i64 out; one index for each element of a run."""
        self.expect_arity(2, 1)
        (values, index), (y,) = self.inputs, self.outputs
        self.expect_integers(values, index)
        self.expect(y.dtype == "i64", "sums to i64")
        self.expect(1 <= self.length <= MAX_RUN and self.bins > 0, f"runs over 1 to {MAX_RUN} elements into at least one bin")
        self.expect(index.count == self.length and values.count % self.length == 0, "has one index for each element of a run")
        self.expect(y.count == values.count // self.length * self.bins and y.count > 0, "does not fit its inputs")


RunNode = Reduce | Dot | ScatterAdd
"""The kinds whose elements go over a run of ``length`` neighbouring elements of each input."""

KINDS: dict[int, type[Node]] = {kind.KIND: kind for kind in (Input, Output, Map, Reduce, Dot, Gather, ScatterAdd)}


def _dtype(code: int) -> str:
    if code not in _DTYPE_BY_CODE:
        raise ProgramError(f"element type {code} does not exist")
    return _DTYPE_BY_CODE[code].name
