"""What Refstep ships: every kind, scenario and sweep can be used, and every scenario says what the protocol promises."""

from __future__ import annotations

import pickle
import re
from functools import cache
from pathlib import Path

import pytest

from sims.kinds import kinds
from sims.parameters import parameters_of, values_of
from sims.result import Outcome, Result
from sims.scenario import Scenario, names
from sims.sweep import Job, Sweep, sweep_names
from sims.workers import in_processes

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.xdist_group("shipped scenarios")  # each is run once
WATCHED = {"chain.dispute", "chain.random"}


@cache
def result(name: str) -> Result:
    """What the scenario of this name finds, run once."""
    return Scenario.named(name).run()


def test_a_kind_says_what_it_takes_and_reaches_other_processes() -> None:
    for kind in kinds().values():
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
    known = {int(number) for number in re.findall(r"^\| (\d+) \|", (DOCS / "attacks.md").read_text(), re.MULTILINE)}
    assert {one.attack for one in scenarios if one.attack} <= known
    assert all(one.title.endswith("?") for one in scenarios)
    assert len({one.title for one in scenarios}) == len(scenarios)


def test_every_scenario_runs_and_keeps_what_the_protocol_promises() -> None:
    for name in names():
        found = result(name)
        metrics = found.metrics
        assert metrics
        if found.kind not in WATCHED:
            continue
        assert metrics["right"] and metrics["money_conserved"] and metrics["within_bound"], name
        assert {"attacker_profit_wei", "honest_profit_wei", "delay_seconds", "gas", "transactions", "verdict"} <= metrics.keys()
        attacker, honest, fees = (metrics[key] for key in ("attacker_profit_wei", "honest_profit_wei", "fees_wei"))
        assert attacker <= 0 <= honest + fees, name  # type: ignore[operator]


def test_a_sweep_asks_for_what_its_scenario_says() -> None:
    for name in sweep_names():
        sweep = Sweep.named(name)
        found = result(sweep.scenario.name)
        sweep.check_figures(Outcome(found.metrics, found.tables))
        assert sweep.figures and sweep.title.endswith("?")


def test_both_levels_give_the_same_bytes_in_another_process() -> None:
    for name in ("random-cast", "year-of-jobs"):
        scenario = Scenario.named(name)
        [(_, outcome)] = in_processes(1)(scenario.kind, [Job("", scenario.parameters, scenario.seed, 0)])
        assert isinstance(outcome, Outcome)
        assert scenario.result(scenario.seed, outcome).to_bytes() == result(name).to_bytes()


def test_the_pictures_of_the_docs_are_figures_of_sweeps() -> None:
    """``make sims`` draws those that lie there."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    shown = re.findall(r"!\[(.+)\]\(figures/([\w-]+)/([\w-]+)\.png\)", text)
    there = {(path.parent.name, path.stem): path.stat().st_size for path in DOCS.glob("figures/*/*.png")}
    assert {(sweep, figure) for _, sweep, figure in shown} == there.keys()
    assert max(there.values()) < 120_000
    for words, sweep, figure in shown:
        assert figure in {one["name"] for one in Sweep.named(sweep).figures}
        assert len(words) > 20
