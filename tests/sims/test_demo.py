"""The demo's three stories, told with every kind of lie: the verdict is right, and the money goes where the protocol says."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from contracts.deploy import Parameters
from refstep import main
from sims import demo, digits
from sims.cheats import CHEATS
from sims.cli import CHEATS as OFFERED
from sims.demo import Options, Outcome, World
from sims.show import Quiet, Terminal
from trainer.capture import Captured

STEPS = 6


@pytest.fixture(scope="module")
def captured() -> tuple[Captured, Captured]:
    return digits.job(0)[1], digits.job(0, 1.5 * digits.LEARNING_RATE)[1]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def played(scenario: str, captured: tuple[Captured, Captured], cheat: str = "weight") -> Outcome:
    return demo.run(scenario, World(Quiet()), *captured, Options(STEPS, 0, cheat), Quiet())


def test_the_command_offers_every_cheat() -> None:
    assert tuple(CHEATS) == OFFERED


def test_an_honest_trainer_is_paid(captured: tuple[Captured, Captured]) -> None:
    outcome = played("honest", captured)
    assert demo.right(outcome) and outcome.accuracy is not None
    assert outcome.balances["after"]["trainer"] > outcome.balances["before"]["trainer"]
    assert outcome.balances["after"]["challenger"] == outcome.balances["before"]["challenger"]


@pytest.mark.parametrize("kind", CHEATS)
def test_every_lie_is_convicted_at_its_step(captured: tuple[Captured, Captured], kind: str) -> None:
    outcome = played("fraud", captured, kind)
    assert demo.right(outcome)
    assert (outcome.step, outcome.transactions) == (outcome.cheated_step, 4)
    assert outcome.element is not None and outcome.claimed != outcome.correct
    assert outcome.gas < 1_500_000 and outcome.verdict_gas < 600_000


def test_a_trainer_that_hides_its_history_is_bisected_and_convicted(captured: tuple[Captured, Captured]) -> None:
    outcome = played("withheld", captured, "moment")
    assert demo.right(outcome) and outcome.transactions > 4
    change = {role: outcome.balances["after"][role] - before for role, before in outcome.balances["before"].items()}
    gas_fees = 10**16
    reward = demo.STAKE * demo.PARAMETERS.reward_share // 10_000
    assert reward - gas_fees < change["challenger"] < reward
    assert -demo.STAKE - gas_fees < change["trainer"] < -demo.STAKE
    compensation = demo.STAKE * (10_000 - demo.PARAMETERS.reward_share - demo.PARAMETERS.burn_share) // 10_000
    assert compensation - gas_fees < change["requester"] < compensation, "the bounty came back, and its share of the stake"


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


def test_json_is_one_object_and_bad_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--steps", "1"], ["--steps", "x"], ["--cheat", "nothing"], ["--unknown"]):
        with pytest.raises(SystemExit) as stopped:
            main(["demo", *wrong])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    main(["demo", "--json", "--steps", "3", "--cheat", "skip-step"])
    result = json.loads(capsys.readouterr().out)
    assert [result[name]["status"] for name in ("honest", "fraud", "withheld")] == ["Completed", "Slashed", "Slashed"]
    for name in ("fraud", "withheld"):
        assert {"steps", "step", "node", "element", "claimed", "correct", "transactions", "gas", "balances"} <= set(result[name])


def test_the_demo_uses_the_documented_burn_share() -> None:
    assert demo.PARAMETERS.burn_share == Parameters().burn_share
