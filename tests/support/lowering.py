"""A workbench for lowering: give tensors, build values, run the program that computes them on the reference executor."""

from __future__ import annotations

from typing import Any

import numpy as np

from bisection import reference
from bisection.program import Program, TensorSpec
from trainer.lowering.builder import Builder, Value

TYPES = {"float32": "f32", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64"}


class Workbench:
    """One program under construction whose inputs are arrays."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.data: dict[str, np.ndarray] = {}
        self.step = self.builder.input("state", 0, "i64", ())
        self.values: tuple[Value, ...] = ()
        self.program: Program | None = None

    def tensor(self, array: Any) -> Value:
        """``array`` as an input of the program."""
        array = np.asarray(array)
        self.data[f"x{len(self.data)}"] = array
        return self.builder.input("data", len(self.data) - 1, TYPES[str(array.dtype)], array.shape)

    def compile(self, *values: Value) -> Program:
        """The program that computes ``values``."""
        state = (TensorSpec("step", "i64", ()),)
        specs = tuple(TensorSpec(name, TYPES[str(a.dtype)], a.shape) for name, a in self.data.items())
        self.builder.output(0, self.step, "i64")
        self.values = values
        self.program = self.builder.finish(state, specs, {str(i): value for i, value in enumerate(values)}, {})
        return self.program

    def results(self, step: int = 0) -> list[np.ndarray]:
        """The arrays that the values come to."""
        assert self.program is not None, "compile first"
        tensors = reference.trace(self.program, {"step": np.array(step, np.int64)}, self.data)
        return [tensors[self.program.metrics[str(i)]].reshape(value.shape) for i, value in enumerate(self.values)]

    def run(self, *values: Value) -> list[np.ndarray]:
        """Both in one."""
        self.compile(*values)
        return self.results()
