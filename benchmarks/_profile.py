"""Where a compiled step's time goes, by kind of operation and by operation (trainer/compiler/plan.py)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from benchmarks._models import Task
from bisection.boundary import LITTLE_ENDIAN, state_tensors
from bisection.nodes import Input, Output
from trainer import capture
from trainer.compiler.plan import Kernel, Operation, Place, Word
from trainer.compiler.run import Compiled
from trainer.kernels.toolchain import toolchain

__all__ = ["profile"]

STEPS = 3


def profile(task: Task, bits: int, threads: int, most: int) -> str:
    """A report in Markdown: milliseconds that all threads together spend in each kind of operation, and in the ``most`` dearest."""
    captured = capture(*_arguments(task), operand_bits=bits)
    program = captured.program
    chain = toolchain()
    if isinstance(chain, str):
        raise SystemExit(chain)
    nodes = [node for node in program.nodes if not isinstance(node, Input | Output)]
    made = {ref.tensor for node in nodes for ref in node.outputs}
    wanted = made.intersection([*state_tensors(program), *program.metrics.values()])
    compiled = Compiled(nodes, wanted, chain)
    sources = {"state": list(captured.state.values()), "data": list(captured.data.values())}
    given = {n.outputs[0].tensor: sources[n.source][n.index] for n in program.nodes if isinstance(n, Input)}
    results = {number: np.empty(ref.count, LITTLE_ENDIAN[ref.dtype]) for number in wanted for ref in [program.tensors[number]]}
    compiled.run(given, results, threads)
    spent = np.zeros(sum(len(stage.operations) for stage in compiled.plan.stages), np.int64)
    for _ in range(STEPS):
        compiled.run(given, results, threads, spent)
    return _report(compiled, spent / STEPS / 1e6, most)


def _arguments(task: Task) -> tuple[torch.nn.Module, object, torch.optim.Optimizer, dict[str, torch.Tensor], int]:
    model, optimizer, data = task.make()
    return model, task.loss, optimizer, data, task.batch


def _report(compiled: Compiled, milliseconds: np.ndarray, most: int) -> str:
    stages = compiled.plan.stages
    kernels = {source: number for number, source in enumerate(compiled.plan.sources)}
    rows = [(stage, operation) for stage in stages for operation in stage.operations]
    kinds: Counter[str] = Counter()
    alike: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for (stage, operation), spent in zip(rows, milliseconds, strict=True):
        name = f"{Operation(operation[0]).name.lower()} {_described(operation, kernels)} | {stage.rows:,} / {stage.block:,}"
        kinds[Operation(operation[0]).name.lower()] += spent
        alike[name] += spent
        count[name] += 1
    total = sum(kinds.values())
    lines = [
        f"{total:.1f} ms a step in {len(stages):,} groups, {len(rows):,} operations, {len(kernels)} kernels; "
        f"{compiled.plan.memory / 1e6:.0f} MB between groups.",
        "",
        "| operation | ms | % |",
        "|---|---:|---:|",
        *(f"| {kind} | {spent:.1f} | {100 * spent / total:.0f} |" for kind, spent in kinds.most_common()),
        "",
        "| operation | rows / of a block | how many | ms | % |",
        "|---|---:|---:|---:|---:|",
        *(f"| {name} | {count[name]} | {spent:.1f} | {100 * spent / total:.1f} |" for name, spent in alike.most_common(most)),
    ]
    return "\n".join(lines)


def _described(operation: list[Word], kernels: dict[str, int]) -> str:
    """An operation's shapes: the words that trainer/compiler/plan.py lays out, slots and tables left out."""
    _, *words = operation
    sizes = "→".join(str(word.size) for word in words if isinstance(word, Place))
    numbers = [word for word in words if isinstance(word, int)]
    match operation[0]:
        case Operation.MAP:
            kernel = next(word for word in words if isinstance(word, Kernel))
            inputs, outputs, flat, each = numbers[:4]
            lines = kernel.source.count("const ")
            return f"#{kernels[kernel.source]}: {inputs} in, {outputs} out, {lines} lines, {each} a row{'' if flat else ', by row'}"
        case Operation.STAGE:
            return f"{sizes} bytes, {_listed(numbers[:12])}"
        case Operation.DOT:
            size, out_size, _, _, m, n, k, rows, outer, each = numbers[:10]
            return f"{size}→{out_size} bytes, {rows * outer * each // m} x [{m} x {n} x {k}], {outer} x {each} of A a row"
        case Operation.PACK:
            return f"{numbers[0]} bytes, {_listed(numbers[4:])}"
        case _:
            return f"{sizes} bytes, {_listed(numbers)}"


def _listed(numbers: list[int]) -> str:
    return " ".join(map(str, numbers))
