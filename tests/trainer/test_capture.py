"""Capture: the program's step is PyTorch's step: gradients, updates, trajectories against binary64 autograd on the same batches."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own name for it)
from torch import Tensor, nn

from bisection import cut, reference
from bisection.nodes import Input, Node, Output
from bisection.program import Program
from tests.support.training import Loss, Task, batch_of, classify, mlp, regress, relative_error, task
from trainer.capture import Captured, capture, prepare
from trainer.executor import Executor
from trainer.lowering.trace import trace


@dataclass(frozen=True)
class Shown:
    """A captured step whose batch and gradients can be read."""

    program: Program
    trace: list[np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.trace[self.program.metrics[name]]


def shown(given: Task, operand_bits: int = 15) -> Shown:
    sgd = torch.optim.SGD(given.model.parameters(), lr=1.0)
    step = prepare(given.model, given.loss, sgd, given.data, given.batch_size, operand_bits, 3)
    program = step.lower(["examples", *(f"gradient.{name}" for name, _ in given.model.named_parameters())])
    return Shown(program, reference.trace(program, step.state, step.data))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(30, 30), nn.Linear(30, 30)
        self.norm, self.last = nn.LayerNorm(30), nn.Linear(30, 7)
        self.gate = nn.Parameter(torch.ones(30))
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 30))

    def forward(self, x: Tensor) -> Tensor:
        hidden = x + self.gate * torch.tanh(self.first(x) * self.scale)
        hidden = hidden + F.gelu(self.second(hidden))
        return self.last(self.norm(hidden))


class Tied(nn.Module):
    """An autoencoder whose decoder is the encoder's transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 30) * 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x @ self.weight.t()) @ self.weight


class Shared(nn.Module):
    """An embedding and a projection that share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 12), nn.Linear(12, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, symbols: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(symbols)))


def shared() -> Task:
    torch.manual_seed(0)
    data = {"x": torch.randint(0, 7, (50,)), "y": torch.randint(0, 7, (50,))}
    return Task(Shared(), classify, data, 16)


class Attention(nn.Module):
    """A causal attention block over embedded symbols."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(11, 16), nn.Parameter(torch.randn(6, 16))
        self.projections, self.last = nn.Linear(16, 48), nn.Linear(16, 7)

    def forward(self, symbols: Tensor) -> Tensor:
        x = self.embedding(symbols) + self.positions
        heads = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.projections(x).split(16, -1))
        attended = F.scaled_dot_product_attention(*heads, is_causal=True)
        return self.last(attended.transpose(1, 2).flatten(-2))


def attention() -> Task:
    torch.manual_seed(0)
    data = {"x": torch.randint(0, 11, (50, 6)), "y": torch.randint(0, 7, (50, 6))}
    return Task(Attention(), lambda m, b: F.cross_entropy(m(b["x"]).flatten(0, 1), b["y"].flatten()), data, 16)


def vector(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """A Linear on one vector."""
    return (model(batch["x"][0]) - batch["t"][0]).square().sum() if "t" in batch else model(batch["x"][0]).square().sum()


class Straight(torch.autograd.Function):
    """The sign, with a gradient of its own: a custom autograd function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 0.5 * gradient


class Passing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Straight.apply(x)


def hooked() -> nn.Module:
    """Hooks of modules, forward and backward, are part of what is traced."""
    model = mlp(nn.Tanh())()
    model[1].register_forward_hook(lambda module, given, output: output * 3)  # type: ignore[index,operator]
    model[1].register_full_backward_hook(lambda module, given, output: (given[0] * 0.5,))  # type: ignore[index,operator]
    return model


TASKS: dict[str, Callable[[], Task]] = {
    "relu": lambda: task(mlp(nn.ReLU())),
    "relu in place, no biases": lambda: task(mlp(nn.ReLU(inplace=True), bias=False)),
    "tanh": lambda: task(mlp(nn.Tanh())),
    "gelu": lambda: task(mlp(nn.GELU())),
    "gelu by tanh, squared error": lambda: task(mlp(nn.GELU(approximate="tanh")), regress),
    "sigmoid": lambda: task(mlp(nn.Sigmoid())),
    "silu": lambda: task(mlp(nn.SiLU())),
    "leaky relu, squared error": lambda: task(mlp(nn.LeakyReLU()), regress),
    "softplus": lambda: task(mlp(nn.Softplus())),
    "elu": lambda: task(mlp(nn.ELU())),
    "softmax inside": lambda: task(mlp(nn.Softmax(-1))),
    "wider than one dot": lambda: task(mlp(nn.Tanh(), hidden=1100)),
    "batch longer than one dot": lambda: task(lambda: nn.Linear(30, 3), regress, (9, 30), outputs=3, batch=120),
    "three dimensions": lambda: task(mlp(nn.Tanh()), regress, (5, 30)),
    "one dimension": lambda: task(lambda: nn.Linear(30, 7), vector),
    "residual, layer norm, buffer": lambda: task(Residual),
    "tied weights": lambda: task(Tied, lambda m, b: F.mse_loss(m(b["x"]), b["x"])),
    "modules that share a weight": shared,
    "attention": attention,
    "custom autograd function": lambda: task(mlp(Passing())),
    "hooks of modules": lambda: task(hooked),
    "bottleneck of one": lambda: task(mlp(nn.Tanh(), hidden=1)),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_gradient_is_autograds(name: str) -> None:
    """Within 1e-3 of binary64 and a fifth of the error of bfloat16 autocast, at 15 operand bits."""
    given = TASKS[name]()
    found = shown(given)
    exact_model, bf16_model = copy.deepcopy(given.model).double(), copy.deepcopy(given.model)
    exact_loss = given.loss(exact_model, batch_of(given.data, found["examples"]))
    exact_loss.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bf16_loss = given.loss(bf16_model, batch_of(given.data, found["examples"], torch.float32))
    bf16_loss.backward()
    assert float(found["loss"][0]) == pytest.approx(exact_loss.item(), rel=1e-4)
    for (parameter, exact), other in zip(exact_model.named_parameters(), bf16_model.parameters(), strict=True):
        assert exact.grad is not None and other.grad is not None
        error = relative_error(found[f"gradient.{parameter}"], exact.grad)
        assert error <= 1e-3
        assert error <= relative_error(other.grad.float(), exact.grad) / 5


def test_more_operand_bits_give_a_hundredth_of_the_error() -> None:
    given = TASKS["tanh"]()
    errors = []
    for operand_bits in (8, 15, 22):
        found = shown(given, operand_bits)
        exact = copy.deepcopy(given.model).double()
        given.loss(exact, batch_of(given.data, found["examples"])).backward()
        weight = exact[0].weight  # type: ignore[index]
        assert weight.grad is not None
        errors.append(relative_error(found["gradient.0.weight"], weight.grad))
    assert errors[1] < errors[0] / 60 and errors[2] < errors[1] / 60


LOSSES: dict[str, Loss] = {
    "l1": lambda m, b: F.l1_loss(m(b["x"]), b["t"]),
    "huber": lambda m, b: F.huber_loss(m(b["x"]), b["t"], delta=0.7),
    "smooth l1": lambda m, b: F.smooth_l1_loss(m(b["x"]), b["t"]),
    "binary cross-entropy with logits": lambda m, b: F.binary_cross_entropy_with_logits(m(b["x"]), (b["t"] > 0).to(b["t"].dtype)),
    "label smoothing": lambda m, b: F.cross_entropy(m(b["x"]), b["y"], label_smoothing=0.1),
    "ignored targets": lambda m, b: F.cross_entropy(m(b["x"]), b["y"], ignore_index=2),
    "sum": lambda m, b: F.cross_entropy(m(b["x"]), b["y"], reduction="sum"),
    "soft targets": lambda m, b: F.cross_entropy(m(b["x"]), b["t"].softmax(-1)),
    "auxiliary": lambda m, b: classify(m, b) + 1e-2 * sum(p.square().sum() for p in m.parameters()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    torch.manual_seed(1)
    data = {"x": torch.randn(60, 30), "y": torch.randint(0, 7, (60,)), "t": torch.randn(60, 7)}
    given = Task(mlp(nn.Tanh())(), LOSSES[name], data, 20)
    found = shown(given)
    exact = copy.deepcopy(given.model).double()
    loss = given.loss(exact, batch_of(data, found["examples"]))
    loss.backward()
    assert float(found["loss"][0]) == pytest.approx(loss.item(), rel=1e-4)
    for parameter, p in exact.named_parameters():
        assert p.grad is not None
        assert relative_error(found[f"gradient.{parameter}"], p.grad) <= 1e-3


# What a captured step is


def small() -> tuple[nn.Module, Captured]:
    given = task(mlp(nn.ReLU(), hidden=16))
    adamw = torch.optim.AdamW(given.model.parameters(), lr=1e-2)
    return given.model, capture(given.model, given.loss, adamw, given.data, 32, seed=7)


def everything() -> tuple[nn.Module, Captured]:
    """What a step may have: statistics, dropout, draws, metrics, micro-batches, clipping, a schedule, two groups."""

    def loss(m: nn.Module, b: Mapping[str, Tensor]) -> Any:
        noisy = m(b["x"] + 0.01 * torch.randn_like(b["x"]))
        return F.cross_entropy(noisy, b["y"]), {"size": noisy.square().mean()}

    layers = [nn.Linear(30, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 7)]
    given = task(lambda: nn.Sequential(*layers), loss)
    first, *rest = given.model.parameters()
    optimizer = torch.optim.AdamW([{"params": [first], "lr": 1e-2}, {"params": rest}], lr=1e-3, amsgrad=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=4)
    captured = capture(
        *(given.model, loss, optimizer, given.data, 12), seed=7, schedule=schedule, steps=10, clip_norm=1.0, accumulate=2
    )
    return given.model, captured


@pytest.mark.parametrize("make", [small, everything])
def test_the_executor_runs_it_with_the_references_bits(make: Callable[[], tuple[nn.Module, Captured]]) -> None:
    _, captured = make()
    executor = Executor(captured.program, captured.data)
    expected, found = dict(captured.state), dict(captured.state)
    for _ in range(6):
        expected, loss = reference.step(captured.program, expected, captured.data)
        found, same_loss = executor.step(found)
        assert loss == same_loss
        assert all(expected[name].tobytes() == found[name].tobytes() for name in expected)


@pytest.mark.parametrize("make", [small, everything])
def test_single_elements_of_the_trace_follow_from_the_cut(make: Callable[[], tuple[nn.Module, Captured]]) -> None:
    """What the referee would recompute, at random places of every node."""
    _, captured = make()
    program = captured.program
    trace = reference.trace(program, captured.state, captured.data)
    rng = np.random.default_rng(0)

    def fetch(node: Node) -> cut.Fetch:
        flat = [trace[ref.tensor].reshape(-1) for ref in node.inputs]
        return lambda i, first, count: cut.load(flat[i][first : first + count].tobytes(), node.inputs[i].dtype)

    for node in program.nodes:
        for output, ref in enumerate(() if isinstance(node, Input | Output) else node.outputs):
            position = int(rng.integers(ref.count))
            committed = trace[ref.tensor].reshape(-1)[position : position + 1]
            assert cut.element(node, output, position, fetch(node)) == cut.load(committed.tobytes(), ref.dtype)[0]


def test_training_learns_and_loads_back_into_the_model() -> None:
    model, captured = small()
    executor = Executor(captured.program, captured.data)
    state, losses = dict(captured.state), []
    for _ in range(40):
        state, metrics = executor.step(state)
        losses.append(metrics["loss"])
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    captured.load_into(model, state)
    assert np.array_equal(model[0].weight.detach().numpy(), state["0.weight"])  # type: ignore[index,union-attr]


def test_a_small_network_takes_about_a_hundred_nodes() -> None:
    _, captured = small()
    boundary = sum(node.NAME in ("input", "output") for node in captured.program.nodes)
    assert len(captured.program.nodes) - boundary <= 72


def test_state_data_and_notes_are_named() -> None:
    _, captured = small()
    names = [spec.name for spec in captured.program.state]
    assert names[:4] == ["0.weight", "0.bias", "2.weight", "2.bias"] and names[-1] == "step"
    assert {"exp_avg.0.weight", "exp_avg_sq.2.bias", "bias_correction1", "bias_correction2"} <= set(names)
    assert list(captured.state) == names and list(captured.data) == ["x", "y"]
    assert captured.data["y"].dtype == np.int8
    notes = captured.program.notes
    assert (notes["operand_bits"], notes["seed"], notes["batch_size"]) == (15, 7, 32)
    assert notes["optimizer"][0]["class"] == "AdamW" and notes["optimizer"][0]["lr"] == 1e-2
    assert list(captured.program.metrics) == ["loss"]


def test_data_of_every_type_is_stored_in_the_smallest_that_holds_it() -> None:
    data = {
        "x": torch.randn(20, 4, dtype=torch.float64),
        "half": torch.randn(20, 4).half(),
        "pixels": torch.randint(0, 256, (20, 4), dtype=torch.uint8),
        "small": torch.randint(-5, 5, (20, 4)),
        "large": torch.full((20, 4), 2**40),
        "mask": torch.rand(20, 4) > 0.5,
    }
    model = nn.Linear(4, 2)

    def loss(m: nn.Module, b: Mapping[str, Tensor]) -> Tensor:
        x = b["x"] + b["half"] + b["pixels"] / 255 + (b["small"] + b["large"]).float() * 1e-12 + b["mask"]
        return m(x).square().mean()

    captured = capture(model, loss, torch.optim.SGD(model.parameters(), lr=0.1), data, 5)
    assert {name: str(array.dtype) for name, array in captured.data.items()} == {
        "x": "float32",
        "half": "float32",
        "pixels": "int16",
        "small": "int8",
        "large": "int64",
        "mask": "int8",
    }
    _, metrics = reference.step(captured.program, captured.state, captured.data)
    assert np.isfinite(metrics["loss"])


def test_parameters_that_are_frozen_or_unused_stay_as_they_are() -> None:
    model = nn.ModuleDict({"used": nn.Linear(4, 2), "frozen": nn.Linear(2, 2), "unused": nn.Linear(3, 3)})
    model["frozen"].requires_grad_(False)

    def loss(m: Any, b: Mapping[str, Tensor]) -> Tensor:
        return m["frozen"](m["used"](b["x"])).square().mean()

    captured = capture(model, loss, torch.optim.AdamW(model.parameters()), {"x": torch.randn(9, 4)}, 3)
    state, _ = reference.step(captured.program, captured.state, captured.data)
    changed = {name for name in captured.state if not np.array_equal(captured.state[name], state[name])}
    assert {"used.weight", "used.bias"} <= changed
    assert not any(name.startswith(("frozen", "unused")) for name in changed)
    assert "exp_avg.unused.weight" not in captured.state


def test_a_nan_in_training_shows_in_the_loss() -> None:
    _, captured = small()
    state = dict(captured.state)
    state["0.weight"] = np.full_like(state["0.weight"], np.nan)
    _, metrics = reference.step(captured.program, state, captured.data)
    assert np.isnan(metrics["loss"])


def test_a_causal_mask_is_applied_though_nobody_looks_whether_it_is_one() -> None:
    """PyTorch's encoder compares the mask's values to choose a faster way, which a traced model cannot."""

    class Encoder(nn.Module):
        def __init__(self, hint: bool | None) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True), 1)
            self.hint = hint

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, mask=nn.Transformer.generate_square_subsequent_mask(x.size(1)), is_causal=self.hint)

    def roots(hint: bool | None) -> bytes:
        torch.manual_seed(0)
        model = Encoder(hint)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss: Loss = lambda model, batch: model(batch["x"]).square().mean()  # noqa: E731
        return capture(model, loss, optimizer, {"x": torch.randn(4, 3, 8)}, 2).program.root

    assert roots(None) == roots(False)


def test_what_torch_compile_wraps_is_captured_as_it_was_written() -> None:
    class Model(nn.Module):
        def __init__(self, wrap: Callable[[Any], Any]) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last, self.act = wrap(nn.Linear(4, 6)), nn.Linear(6, 2), wrap(lambda x: x.tanh() * 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.act(self.first(x)))

    programs = []
    for model in (Model(lambda part: part), Model(torch.compile), torch.compile(Model(lambda part: part))):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        captured = capture(model, lambda m, b: m(b["x"]).square().mean(), sgd, {"x": torch.randn(9, 4)}, 3)
        captured.load_into(model, captured.state)
        programs.append(captured.program)
    assert programs[0].nodes == programs[1].nodes == programs[2].nodes


def test_the_graph_does_not_depend_on_where_the_model_lies() -> None:
    graphs = []
    for device in ("cpu", "meta"):
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2)).to(device)
        names = tuple(name for name, _ in model.named_parameters())
        graphs.append(trace(model, lambda m, b: m(b["x"]).square().mean(), {"x": torch.zeros(3, 4)}, names).graph)
    assert str(graphs[0]) == str(graphs[1])


SCRIPT = """
from tests.trainer.test_capture import everything
print(everything()[1].program.root.hex())
"""


def test_the_program_does_not_depend_on_the_process() -> None:
    root = Path(__file__).parents[2]
    environments = [{**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)} for seed in ("1", "2")]
    runs = [subprocess.Popen([sys.executable, "-c", SCRIPT], env=env, cwd=root, stdout=subprocess.PIPE) for env in environments]
    first, second = (run.communicate()[0] for run in runs)
    assert first == second and len(first.strip()) == 64
