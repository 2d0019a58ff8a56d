"""The demo's three stories: the verdict is right, the money goes where the protocol says, and every kind of lie is one lie."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from bisection.boundary import Array
from contracts.deploy import Parameters
from refstep import main
from sims import demo, digits
from sims.cheats import CHEATS, cheat
from sims.cli import CHEATS as OFFERED
from sims.demo import Outcome
from sims.show import Terminal
from trainer.executor import Executor
from trainer.recorder import Executes

pytestmark = pytest.mark.xdist_group("demo")  # it is played once
STEPS = 6
FALSIFIED = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the command prints as JSON, with a lie that only a replay finds."""
    with redirect_stdout(io.StringIO()) as printed:
        main(["demo", "--json", "--steps", str(STEPS), "--cheat", "learning-rate"])
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def test_the_command_offers_every_cheat() -> None:
    assert tuple(CHEATS) == OFFERED


def test_an_honest_trainer_is_paid(told: dict[str, Any]) -> None:
    outcome = Outcome(**told["honest"])
    assert demo.right(outcome) and outcome.accuracy is not None
    assert outcome.balances["after"]["trainer"] > outcome.balances["before"]["trainer"]
    assert outcome.balances["after"]["challenger"] == outcome.balances["before"]["challenger"]


def test_a_lie_is_convicted_at_its_step(told: dict[str, Any]) -> None:
    outcome = Outcome(**told["fraud"])
    assert demo.right(outcome)
    assert (outcome.step, outcome.transactions) == (outcome.cheated_step, 4)
    assert outcome.node is not None and outcome.element is not None and outcome.claimed != outcome.correct
    assert outcome.gas < 1_500_000 and outcome.verdict_gas < 600_000


def test_a_trainer_that_hides_its_history_is_bisected_and_convicted(told: dict[str, Any]) -> None:
    outcome = Outcome(**told["withheld"])
    assert demo.right(outcome) and outcome.transactions > 4
    change = {role: outcome.balances["after"][role] - before for role, before in outcome.balances["before"].items()}
    gas_fees = 10**16
    reward = demo.STAKE * demo.PARAMETERS.reward_share // 10_000
    assert reward - gas_fees < change["challenger"] < reward
    assert -demo.STAKE - gas_fees < change["trainer"] < -demo.STAKE
    compensation = demo.STAKE * (10_000 - demo.PARAMETERS.reward_share - demo.PARAMETERS.burn_share) // 10_000
    assert compensation - gas_fees < change["requester"] < compensation, "the bounty came back, and its share of the stake"


def test_every_cheat_departs_from_the_program_at_its_step_alone() -> None:
    captured, other = digits.job(0)[1], digits.job(0, 1.5 * digits.LEARNING_RATE)[1]
    honest = Executor(captured.program, captured.data)
    right = ran(honest, captured.state)
    for kind in CHEATS:
        states = ran(cheat(kind, captured, other, FALSIFIED, np.random.default_rng(0)), captured.state)
        assert [equal(*pair) for pair in zip(states, right, strict=True)] == [k <= FALSIFIED for k in range(STEPS + 1)], kind
        follows = [equal(after(honest, state), then) for state, then in pairwise(states)]
        assert follows == [step != FALSIFIED for step in range(STEPS)], kind


def ran(executor: Executes, start: Mapping[str, Array]) -> list[Mapping[str, Array]]:
    """The states of a run."""
    states = [start]
    for _ in range(STEPS):
        states.append(after(executor, states[-1]))
    return states


def after(executor: Executes, state: Mapping[str, Array]) -> Mapping[str, Array]:
    return {name: np.array(value) for name, value in executor.step(state)[0].items()}


def equal(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_a_wrong_verdict_is_not_called_right() -> None:
    outcome = Outcome("fraud", "Slashed", STEPS, 0.1, cheated_step=3, step=3, claimed=1, correct=2)
    assert demo.right(outcome)
    for wrong in ({"status": "Completed"}, {"step": 4}, {"correct": 1}):
        assert not demo.right(replace(outcome, **wrong))
    honest = Outcome("honest", "Completed", STEPS, 0.1)
    assert demo.right(honest)
    for wrong in ({"status": "Slashed"}, {"transactions": 3}):
        assert not demo.right(replace(honest, **wrong))


def test_the_terminal_shows_the_way_down_to_the_element() -> None:
    console = Console(file=io.StringIO(), width=100)
    show = Terminal(console)
    show.begin("fraud", "weight", 3)
    show.log("challenger", None)("segment audited", verdict="fraudulent")
    show.sent("challenger", "conclude_element", 380_000)
    balances = {"before": {"trainer": 10**18}, "after": {"trainer": 0}}
    show.end(
        Outcome(
            "fraud",
            "Slashed",
            STEPS,
            0.1,
            None,
            3,
            3,
            81,
            "map",
            "next 0.weight",
            7,
            [0, 7],
            1.5,
            1.25,
            3,
            600_000,
            380_000,
            balances,
        )
    )
    text = console.file.getvalue()
    for expected in ("step 3", "node 81", "element [0, 7]", "claimed 1.5, correct 1.25", "380,000 gas", "-1.0000 ETH"):
        assert expected in text


def test_bad_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--steps", "1"], ["--steps", "x"], ["--cheat", "nothing"], ["--unknown"]):
        with pytest.raises(SystemExit) as stopped:
            main(["demo", *wrong])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_demo_uses_the_documented_burn_share() -> None:
    assert demo.PARAMETERS.burn_share == Parameters().burn_share
