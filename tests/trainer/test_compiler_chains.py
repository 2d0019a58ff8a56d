"""Programs of many nodes, compiled, have the reference's bits, tensor by tensor, on every path that the compiler can take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from bisection import reference
from bisection.boundary import tensor_bytes
from bisection.nodes import DTYPES, Dot
from bisection.program import Program
from tests.support.chains import random_job
from trainer.compiler import groups, plan
from trainer.compiler.plan import Operation, Plan
from trainer.executor import Executor, compiled_route
from trainer.kernels.toolchain import Toolchain

pytestmark = pytest.mark.skipif(not isinstance(compiled_route(), Toolchain), reason=str(compiled_route()))

LIMITS: dict[str, dict[str, int]] = {
    "as they are": {},
    "small blocks": {"BLOCK_BYTES": 2048, "STREAM_BYTES": 512, "SMALL": 64, "MOST_TILE": 4096, "ROW_BYTES": 4096, "FINEST_ROW": 8},
    "no tiles": {"BLOCK_BYTES": 1024, "STREAM_BYTES": 64, "SMALL": 0, "MOST_TILE": 64, "ROW_BYTES": 600, "FINEST_ROW": 1},
    "large groups": {"ROW_BYTES": 1 << 20, "FINEST_ROW": 4096, "SHORTEST_RUN": 1, "FEWEST_ROWS": 1},
}
"""Limits of the compiler, which choose paths and may not change a bit."""
EVERYWHERE = {
    *(kind.name for kind in Operation),
    "rows as they stand",
    "rows across",
    "several nodes",
    "left widened",
    "right widened",
}
PATHS = {
    "as they are": EVERYWHERE | {"sums of 32 bits", "loop innermost"},
    "small blocks": EVERYWHERE | {"several blocks", "last block shorter", "loop innermost"},
    "no tiles": (EVERYWHERE - {"rows across"}) | {"several blocks", "last block shorter"},
    "large groups": EVERYWHERE | {"sums of 32 bits", "loop innermost"},
}
STAGING = {-1: "rows as they stand", -2: "rows across"}


def limit(monkeypatch: pytest.MonkeyPatch, limits: Mapping[str, int]) -> None:
    for name, value in limits.items():
        for module in (groups, plan):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


def paths(program: Program, step: Plan) -> Counter[str]:
    """What the plan of a program does, counted."""
    found: Counter[str] = Counter()
    for stage in step.stages:
        found["several blocks"] += stage.rows > stage.block
        found["last block shorter"] += stage.rows > stage.block and stage.rows % stage.block > 0
        found["several nodes"] += sum(op[0] != Operation.STAGE for op in stage.operations) > 1
        for code, *words in stage.operations:
            found[Operation(code).name] += 1
            if code == Operation.STAGE:
                found[STAGING.get(words[2], "loop innermost")] += 1
            found["sums of 32 bits"] += code == Operation.DOT and words[3] == 4
    for node in program.nodes:
        if isinstance(node, Dot):
            left, right = (DTYPES[ref.dtype].size for ref in node.inputs)
            found["left widened"] += left < right
            found["right widened"] += left > right
    return found


def assert_same(program: Program, found: list[np.ndarray], expected: list[np.ndarray], seed: int) -> None:
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == b.dtype and tensor_bytes(a) == tensor_bytes(b), (seed, program.nodes[program.producer[number]])


def run(seeds: range) -> Counter[str]:
    taken: Counter[str] = Counter()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        program, state, data = random_job(rng, int(rng.integers(3, 14)))
        executor = Executor(program, data, threads=1 + seed % 2)
        expected = reference.trace(program, state, data)
        assert_same(program, executor.trace(state), expected, seed)
        after, metrics = executor.step(state)
        wanted, wanted_metrics = reference.step(program, state, data)
        assert repr(metrics) == repr(wanted_metrics)
        for name, array in wanted.items():
            assert tensor_bytes(after[name]) == tensor_bytes(array), (seed, name)
        assert executor._step is not None
        taken += paths(program, executor._step.plan)
    return taken


@pytest.mark.parametrize("limits", LIMITS)
def test_chains_have_the_reference_bits(monkeypatch: pytest.MonkeyPatch, limits: str) -> None:
    limit(monkeypatch, LIMITS[limits])
    taken = run(range(80))
    assert {path for path in PATHS[limits] if not taken[path]} == set()


@pytest.mark.deep
@pytest.mark.parametrize("limits", LIMITS)
def test_many_more_chains_have_the_reference_bits(monkeypatch: pytest.MonkeyPatch, limits: str) -> None:
    limit(monkeypatch, LIMITS[limits])
    run(range(80, 1200))
