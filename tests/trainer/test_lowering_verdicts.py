"""Capture makes no node whose verdict would pass 600,000 gas, the game's own part included."""

from __future__ import annotations

import pytest
import torch

from benchmarks.referee_gas import ADAMW, LARGE, SMALL, Size, bound_of, captured_verdicts, in_game, map_gas_of, map_node
from bisection.nodes import DTYPES, Dot, Map, Reduce, ScatterAdd
from bisection.program import Program
from tests.differential.evm import Contract
from trainer.capture import capture
from trainer.lowering.verdicts import MOST_GAS, longest_run


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small step", "largest step"])
def test_the_dearest_nodes_that_capture_makes_stay_below(referee: Contract, size: Size) -> None:
    for what, gas in captured_verdicts(referee, size):
        assert gas < MOST_GAS, what


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small step", "largest step"])
@pytest.mark.parametrize(
    ("inputs", "length", "spread"),
    [
        (1, 1, 0),
        (1, 1, 6),
        (1, 128, 0),
        (3, 37, 0),
        (4, 60, 6),
        (6, 40, 0),
        (8, 1, 0),
        (8, 1, 4),
        (8, 20, 0),
        (8, 40, 3),
        (8, 128, 0),
    ],
)
def test_the_bound_for_maps_is_a_bound(referee: Contract, inputs: int, length: int, spread: int, size: Size) -> None:
    node = map_node(inputs, length, 1, ADAMW, size, spread)
    map_gas_of(referee, node, size)
    assert in_game(referee, inputs) < bound_of(node) < 1.35 * in_game(referee, inputs)


def checked(program: Program) -> None:
    for node in program.nodes:
        dtypes = [ref.dtype for ref in node.inputs]
        if isinstance(node, Map):
            assert bound_of(node) <= MOST_GAS
        elif isinstance(node, Reduce | ScatterAdd):
            assert node.length <= longest_run(*dtypes)
        elif isinstance(node, Dot):
            assert node.k <= longest_run(*dtypes)


@pytest.mark.parametrize(("bits", "k"), [(15, 1500), (20, 900), (24, 3000)])
def test_long_products_are_split_by_the_size_of_their_operands(bits: int, k: int) -> None:
    model = torch.nn.Linear(k, 3)
    data = {"x": torch.randn(8, k), "y": torch.randn(8, 3)}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    captured = capture(model, lambda m, b: ((m(b["x"]) - b["y"]) ** 2).mean(), optimizer, data, 4, operand_bits=bits)
    checked(captured.program)


def test_long_elementwise_chains_are_cut_by_their_gas() -> None:
    class Chain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = torch.nn.ParameterList([torch.randn(6) for _ in range(7)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for scale in self.scales:
                x = torch.tanh(x * scale) + torch.sigmoid(x - scale)
            return x

    model = Chain()
    optimizer = torch.optim.AdamW(model.parameters())
    captured = capture(model, lambda m, b: m(b["x"]).square().mean(), optimizer, {"x": torch.randn(8, 6)}, 4)
    checked(captured.program)
    assert any(isinstance(node, Map) and len(node.inputs) > 4 for node in captured.program.nodes)


def test_runs_get_shorter_as_elements_get_larger() -> None:
    assert [longest_run(dtype) for dtype in DTYPES] == [1024, 1024, 1024, 1024, 576]
    assert longest_run("i16", "i16") == 1024 and longest_run("i32", "i32") == 576 and longest_run("i32", "i64") == 384
