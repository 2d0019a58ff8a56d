"""What Refstep ships: every kind, scenario and sweep can be used, and every scenario says what the protocol promises."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from sims.kinds import kinds
from sims.parameters import parameters_of, values_of
from sims.scenario import Scenario, names
from sims.sweep import Sweep, sweep_names
from sims.sweeping import RESULTS, Untold, run_sweep
from sims.workers import in_processes, in_this_process

ATTACKS = Path(__file__).parents[2] / "docs" / "attacks.md"
WATCHED = {"chain.dispute", "chain.random"}


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.name)
def test_a_kind_says_what_it_takes_and_reaches_other_processes(kind: Any) -> None:
    assert kind.name.startswith(f"{kind.level}.") and len(kind.summary) > 20
    assert pickle.loads(pickle.dumps(kind)) == kind  # noqa: S301
    for name, value in values_of(kind.parameters()).items():
        parameter = parameters_of(kind.parameters)[name]
        assert parameter.read(value) == value and len(parameter.help) > 5, name
    scenario = Scenario.named(kind.name)
    assert Scenario.from_toml(scenario.to_toml(), kind.name).parameters == scenario.parameters


def test_every_economic_and_collusion_attack_has_a_scenario() -> None:
    scenarios = [Scenario.named(name) for name in names()]
    assert {one.attack for one in scenarios} >= set(range(24, 33))
    known = {int(number) for number in re.findall(r"^\| (\d+) \|", ATTACKS.read_text(), re.MULTILINE)}
    assert {one.attack for one in scenarios if one.attack} <= known
    assert all(one.title.endswith("?") for one in scenarios)
    assert len({one.title for one in scenarios}) == len(scenarios)


@pytest.mark.parametrize("name", names())
def test_a_scenario_runs_and_keeps_what_the_protocol_promises(name: str) -> None:
    scenario = Scenario.named(name)
    metrics = scenario.run().metrics
    if scenario.kind.name not in WATCHED:
        return
    assert metrics["right"] and metrics["money_conserved"] and metrics["within_bound"], metrics
    assert {"attacker_profit_wei", "honest_profit_wei", "delay_seconds", "gas", "transactions", "verdict"} <= metrics.keys()
    assert metrics["attacker_profit_wei"] <= 0 <= metrics["honest_profit_wei"] + metrics["fees_wei"]  # type: ignore[operator]


def test_both_levels_give_the_same_bytes_in_other_processes(tmp_path: Path) -> None:
    for name in ("random-cast", "year-of-jobs"):
        (tmp_path / f"{name}.toml").write_text(f'title = "Twice"\nscenario = "{name}"\nrepeats = 2\n')
        sweep = Sweep.load(tmp_path / f"{name}.toml")
        for count, workers in ((1, in_this_process), (2, in_processes(2))):
            assert run_sweep(sweep, tmp_path / f"{name}{count}", workers, Untold()) == ()
        assert (tmp_path / f"{name}1" / RESULTS).read_bytes() == (tmp_path / f"{name}2" / RESULTS).read_bytes()


@pytest.mark.parametrize("name", sweep_names())
def test_a_sweep_asks_for_what_its_runs_say(name: str) -> None:
    sweep = Sweep.named(name)
    job = next(sweep.jobs())
    sweep.check_figures(sweep.scenario.kind.run(job.parameters, job.seed))
    assert sweep.figures and sweep.title.endswith("?")
