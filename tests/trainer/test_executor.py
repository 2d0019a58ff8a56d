"""The executor has the reference's bits on both routes: every node kind, hostile tensors, whole steps, any threads; its arrays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from bisection import reference, state_root
from bisection.boundary import tensor_bytes
from bisection.errors import ProgramError, UnavailableError, UsageError
from bisection.nodes import Dot, Gather, Input, Map, Node, Output, Read, Reduce, Ref, ScatterAdd
from bisection.numbers import wrap
from bisection.program import Program, TensorSpec
from bisection.scalar import ScalarProgram
from tests.support.programs import Builder, counting_program, random_node, run_program
from trainer import executor as module
from trainer.compiler import groups, plan
from trainer.executor import Executor, compiled_route
from trainer.kernels.toolchain import Toolchain

STATE = {"step": np.array(0, np.int64)}
KINDS = [Map, Reduce, Dot, Gather, ScatterAdd]
NO_COMPILER = "there is no compiler today"

needs_compiler = pytest.mark.skipif(not isinstance(compiled_route(), Toolchain), reason=str(compiled_route()))
ROUTES = ["library", pytest.param("compiled", marks=needs_compiler)]


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Executors take this route."""
    if request.param == "library":
        monkeypatch.setattr(module, "compiled_route", lambda: NO_COMPILER)
    return str(request.param)


def assert_same_trace(program: Program, state: dict[str, np.ndarray], data: dict[str, np.ndarray], route: str) -> None:
    expected = reference.trace(program, state, data)
    executor = Executor(program, data)
    assert executor.route == route
    for number, (a, b) in enumerate(zip(expected, executor.trace(state), strict=True)):
        assert a.dtype == b.dtype and tensor_bytes(a) == tensor_bytes(b), program.nodes[program.producer[number]]


@pytest.mark.parametrize("kind", KINDS)
def test_random_nodes_have_the_reference_bits(kind: type[Node], route: str) -> None:
    # Each map has a kernel of its own, which takes a while to compile.
    for seed in range(40 if kind is Map and route == "compiled" else 200):
        program, data = random_node(np.random.default_rng(seed), kind)
        assert_same_trace(program, STATE, data, route)


@needs_compiler
@pytest.mark.deep
def test_many_random_maps_compiled_have_the_reference_bits() -> None:
    for seed in range(40, 300):
        program, data = random_node(np.random.default_rng(seed), Map)
        assert_same_trace(program, STATE, data, "compiled")


def test_large_32_bit_products_stay_exact(route: str) -> None:
    """Beyond 2^53 the product goes through 16-bit halves."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        program, data = random_node(rng, Dot)
        if program.nodes[1].outputs[0].dtype == "i32":
            data["x0"][:] = np.int32(-(2**31))
        assert_same_trace(program, STATE, data, route)


@pytest.mark.parametrize("kind", [Reduce, Dot, ScatterAdd])
def test_random_long_nodes_have_the_reference_bits(kind: type[Node], route: str) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        program, data = random_node(rng, kind, int(rng.integers(1025, 5000)))
        assert_same_trace(program, STATE, data, route)


def extremes(dtype: str, count: int, pattern: str) -> np.ndarray:
    """The least number of a type, the greatest, or both in turn."""
    info = np.iinfo(reference.NUMPY_TYPES[dtype])
    return np.resize(
        np.array({"least": [info.min], "greatest": [info.max], "both": [info.min, info.max]}[pattern], dtype=info.dtype), count
    )


@pytest.mark.parametrize("pattern", ["least", "greatest", "both"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(kind, dtype) for kind in (Reduce, Dot, ScatterAdd) for dtype in ("i8", "i16", "i32", "i64") if (kind, dtype) != (Dot, "i64")],
)
def test_sums_of_a_million_extremes_wrap_at_64_bits_and_no_earlier(kind: type[Node], dtype: str, pattern: str, route: str) -> None:
    length = (1 << 20) + 7
    program, state, data = run_program(np.random.default_rng(0), kind, length, (dtype, dtype), rows=1)
    data = {name: extremes(dtype, x.size, pattern) for name, x in data.items()}
    if kind is ScatterAdd:
        data["x1"] = np.arange(length).astype(data["x1"].dtype) & 3
    assert_same_trace(program, state, data, route)
    result = int(reference.trace(program, state, data)[-1][0])
    terms = [int(v) for v in data["x0"][:2]]
    if kind is Reduce:
        assert result == wrap((length + 1) // 2 * terms[0] + length // 2 * terms[1], 64)
    if kind is Dot:
        assert result == wrap((length + 1) // 2 * terms[0] ** 2 + length // 2 * terms[1] ** 2, 64)


@pytest.mark.parametrize("op", ["i32", "i64"])
def test_the_maximum_of_a_long_run_may_stand_anywhere(op: str, route: str) -> None:
    program, state, data = run_program(np.random.default_rng(0), Reduce, 70_000, (op, op), "max", rows=3)
    for at in (0, 1023, 1024, 69_999):
        x = np.full(3 * 70_000, -5, data["x0"].dtype)
        x[70_000 + at] = -4
        assert_same_trace(program, state, {"x0": x}, route)
        assert reference.trace(program, state, {"x0": x})[-1].tolist() == [-5, -4, -5]


def test_four_million_halves_of_16_bits_are_summed_exactly(route: str) -> None:
    """Products of low halves alone pass 2^53 here: the library route takes a run of this length in pieces."""
    length = (1 << 22) + 3
    program, state, data = run_program(np.random.default_rng(0), Dot, length, ("i32", "i32"), rows=1)
    data = {name: np.full(length, value, np.int32) for name, value in (("x0", -65537), ("x1", 65535 - (1 << 31)))}
    assert_same_trace(program, state, data, route)
    assert reference.trace(program, state, data)[-1].tolist() == [wrap(-65537 * length * (65535 - (1 << 31)), 64)]


@pytest.mark.parametrize("length", [(1 << 17) - 1, 1 << 17])
def test_products_of_bytes_about_the_length_at_which_their_sum_leaves_32_bits(length: int, route: str) -> None:
    """A map alone reads the product, so the compiled route may keep it in 32 bits, but only while every sum fits."""
    b = Builder()
    a = b.add(Input, (), [("i8", length)], "data", 0)[0]
    (product,) = b.add(Dot, (a, a), [("i64", 1)], 1, 1, length)
    (result,) = b.add(Map, (product,), [("i64", 1)], (1,), (Read(0, (0,)),), ScalarProgram(1, 1, (), (), (0,)))
    b.add(Output, (result,), [], 0)
    program = Program(tuple(b.nodes), (TensorSpec("result", "i64", (1,)),), (TensorSpec("x0", "i8", (length,)),))
    executor = Executor(program, {"x0": np.full(length, -128, np.int8)})
    after, _ = executor.step({"result": np.zeros(1, np.int64)})
    assert executor.route == route and after["result"].tolist() == [length << 14]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_hundred_steps_have_the_reference_root(threads: int, route: str) -> None:
    program, state, data = counting_program()
    executor = Executor(program, data, threads=threads)
    mine = theirs = state
    for _ in range(100):
        mine, metrics = executor.step(mine)
        theirs, expected = reference.step(program, theirs, data)
        assert metrics == expected
    assert executor.route == route and state_root(program, mine) == state_root(program, theirs)


def test_threads_of_torch_change_nothing(route: str) -> None:
    program, state, data = counting_program()
    expected, _ = reference.step(program, state, data)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            after, _ = Executor(program, data).step(state)
            assert state_root(program, after) == state_root(program, expected)
    finally:
        torch.set_num_threads(before)


def test_a_step_that_is_tampered_with_goes_on_from_what_it_was_given(route: str) -> None:
    program, state, data = counting_program()

    def tamper(number: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [x + 1 for x in outputs] if program.nodes[number].NAME == "reduce" else outputs

    expected = reference.trace(program, state, data, tamper)
    executor = Executor(program, data)
    assert all(tensor_bytes(a) == tensor_bytes(b) for a, b in zip(executor.trace(state, tamper), expected, strict=True))
    after, _ = executor.step(state, tamper)
    honest, _ = executor.step(state)
    assert state_root(program, honest) == state_root(program, reference.step(program, state, data)[0])
    assert state_root(program, after) != state_root(program, honest)


@needs_compiler
def test_subnormal_numbers_count_whatever_the_thread_is_set_to() -> None:
    program, state, data = counting_program()
    state["weights"] = np.arange(200, dtype=np.uint32).view(np.float32)
    data["table"] = np.arange(16, dtype=np.uint32).view(np.float32)
    expected, _ = reference.step(program, state, data)
    executor = Executor(program, data, threads=2)
    flushes = torch.set_flush_denormal(True)
    try:
        after, _ = executor.step(state)
        assert not flushes or float(torch.tensor(1e-40) * 0.5) == 0.0, "the executor leaves the thread as it was"
    finally:
        torch.set_flush_denormal(False)
    assert state_root(program, after) == state_root(program, expected)


def test_arrays_anywhere_in_memory(route: str) -> None:
    """Not aligned, not contiguous, read-only."""
    program, state, data = counting_program()
    expected, _ = reference.step(program, state, data)

    def shifted(x: np.ndarray) -> np.ndarray:
        return np.frombuffer(b"!" + x.tobytes() + b"!", np.uint8)[1:-1].view(x.dtype).reshape(x.shape)

    def spread(x: np.ndarray) -> np.ndarray:
        return np.repeat(x, 2)[::2] if x.ndim else x

    for moved in (shifted, spread):
        executor = Executor(program, {name: moved(x) for name, x in data.items()})
        after, _ = executor.step({name: moved(x) for name, x in state.items()})
        assert state_root(program, after) == state_root(program, expected)


# Results stay as they are while somebody holds them ---------------------------------------------------------------------


HOLD: dict[str, Callable[[np.ndarray], object]] = {
    "the array": lambda x: x,
    "a view": lambda x: x.reshape(-1)[1:],
    "a memoryview": lambda x: memoryview(x.reshape(-1)),
    "a tensor": torch.from_numpy,
    "bytes seen": lambda x: np.frombuffer(memoryview(x).cast("B"), np.uint8),
    "a list of views": lambda x: [x.reshape(-1)[:1], x.reshape(-1)[1:].view()],
}


def contents(held: object) -> list[float]:
    return [v for part in held for v in contents(part)] if isinstance(held, list) else np.asarray(held).reshape(-1).tolist()


@pytest.mark.parametrize("way", HOLD)
def test_a_result_is_never_written_to_while_somebody_holds_it(way: str, route: str) -> None:
    program, state, data = counting_program()
    executor = Executor(program, data, threads=1)
    kept = []
    for number in range(12):
        state, _ = executor.step(state)
        if number % 3 != 2:
            held = HOLD[way](state["weights"])
            kept.append((held, contents(held)))
    assert all(contents(held) == then for held, then in kept)
    assert len({str(then) for _, then in kept}) == len(kept), "steps differ"


@needs_compiler
def test_memory_that_nobody_holds_is_used_again() -> None:
    program, state, data = counting_program()
    executor = Executor(program, data)
    places = set()
    for _ in range(20):
        state, _ = executor.step(state)
        places.add(state["weights"].ctypes.data)
    assert len(places) == 2


# Threads and processes --------------------------------------------------------------------------------------------------


def chain_of_steps(executor: Executor, start: int, steps: int) -> str:
    """The root after ``steps`` from a state of its own."""
    state = counting_program()[1]
    state["weights"] = state["weights"] + np.float32(start)
    for _ in range(steps):
        state, _ = executor.step(state)
    return state_root(executor.program, state).hex()


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even small programs are divided among threads."""
    for name in ("SMALL", "STREAM_BYTES", "BLOCK_BYTES"):
        monkeypatch.setattr(plan, name, 64)
    for name in ("FINEST_ROW", "ROW_BYTES"):
        monkeypatch.setattr(groups, name, 1)


@pytest.mark.parametrize("shared", [True, False])
def test_several_threads_step_at_once(many_blocks: None, shared: bool, route: str) -> None:
    program, _, data = counting_program()
    executors = (
        [Executor(program, data, threads=2)] * 4 if shared else [Executor(program, data, threads=1 + i % 2) for i in range(4)]
    )
    expected = [chain_of_steps(executors[0], start, 60) for start in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: chain_of_steps(executors[start], start, 60), range(4)))
    assert found == expected and len(set(found)) == 4


@needs_compiler
def test_a_step_that_no_memory_holds_is_refused_before_it_is_asked_for() -> None:
    """A table of 256 GiB, of which one element is looked up."""
    step, table, found = Ref(0, "i64", 1), Ref(1, "f32", 1 << 36), Ref(2, "f32", 1)
    nodes = (
        Input((), (step,), "state", 0),
        Map((), (table,), (1 << 18, 1 << 18), (), ScalarProgram(0, 2, (1,), (), (2,))),
        Gather((table, step), (found,), 1),
        Output((step,), (), 0),
    )
    program = Program(nodes, (TensorSpec("step", "i64", ()),), (), {"found": 2})
    with pytest.raises(UnavailableError, match=r"a step needs 2\d\d\.\d GB of memory"):
        Executor(program, {})


@needs_compiler
def test_a_fork_has_threads_of_its_own(many_blocks: None) -> None:
    """The child's steps, from two of its threads at once, and the parent's afterwards."""
    program, _, data = counting_program()
    executor, other = Executor(program, data, threads=2), Executor(program, data, threads=2)
    assert executor._step is not None and any(stage.rows > stage.block for stage in executor._step.plan.stages)
    expected = [chain_of_steps(executor, start, 10) for start in range(2)]
    child = os.fork()
    if child == 0:
        try:
            with ThreadPoolExecutor(2) as pool:
                found = list(pool.map(lambda start: chain_of_steps((executor, other)[start], start, 10), range(2)))
            os._exit(0 if found == expected else 3)
        finally:
            os._exit(4)
    assert chain_of_steps(executor, 0, 10) == expected[0]
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0


# What is refused --------------------------------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_one_clear_error() -> None:
    program, _, data = counting_program()
    with pytest.raises(UsageError, match="warp"):
        Executor(program, data, device="warp")


def test_data_of_another_shape_is_refused() -> None:
    program, _, data = counting_program()
    with pytest.raises(ProgramError, match="table"):
        Executor(program, {**data, "table": data["table"][:3]})
