"""The recommended parameters of the three named settings (docs/economics.md) hold, with a factor of two to spare."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import sims
from sims.economy import closed
from sims.economy.censorship import Censorship, safe_budget
from sims.economy.costs import costs
from sims.economy.fraud import Fraud, run_fraud
from sims.economy.sybils import Sybils, run_sybils
from sims.parameters import build

HOUR = 3600
PEAK_FEES = {"job-10m-l2": 0.1, "job-1b-l2": 0.1, "job-mainnet": 50.0}  # gwei


@pytest.fixture(params=sorted(PEAK_FEES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def setting(name: str) -> Fraud:
    path = Path(sims.__file__).parent / "scenarios" / f"{name}.toml"
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    assert document["kind"] == "economy.fraud"
    return build(Fraud, document["parameters"])  # type: ignore[no-any-return]


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("cheats", ["all", "last", "one", "worst"])
def test_fraud_is_worse_than_work_even_with_half_the_stake_or_half_the_audits(setting: Fraud, cheats: str, stalls: bool) -> None:
    for less in (replace(setting, stake=setting.stake / 2), replace(setting, audit_rate=setting.audit_rate / 2)):
        assert closed.fraud_pays(replace(less, stalls=stalls), cheats) < 0  # type: ignore[arg-type]
    assert closed.fraud_pays(replace(setting, gas_price=0.0, friend=0.0), cheats) < 0  # type: ignore[arg-type]


def test_the_simulation_agrees(setting: Fraud) -> None:
    advantage = run_fraud(setting, 0).metrics["advantage_high"]
    assert isinstance(advantage, float)
    assert advantage < 0


def test_the_reward_repays_five_disputes_at_the_peak_fee(name: str, setting: Fraud) -> None:
    dispute = costs().slow_challenger.gas * PEAK_FEES[name] * setting.gas_unit
    assert setting.reward_share * setting.stake > 5 * dispute


def test_bonds_repay_the_trainer_up_to_the_peak_fee(name: str, setting: Fraud) -> None:
    attack = Sybils(
        64,
        bond_eth=setting.bond_eth,
        gas_price=PEAK_FEES[name],
        gas_spread=0.0,
        trainer_clock=setting.trainer_clock,
        challenger_clock=setting.challenger_clock,
        episodes=20,
    )
    metrics = run_sybils(attack, 0).metrics
    assert metrics["trainer_gained"] == 1
    assert metrics["trainer_lost"] == 0
    assert metrics["longest_delay_seconds"] <= metrics["bound_seconds"]  # type: ignore[operator]
    assert closed.gas_price_above(PEAK_FEES[name], setting.gas_price, setting.gas_spread) < 0.01


def test_windows_and_clocks_bear_hours_of_censorship(name: str, setting: Fraud) -> None:
    attack = Censorship(
        path="slow",
        replay_seconds=setting.replay_seconds,
        window_seconds=setting.window_seconds,
        trainer_clock=setting.trainer_clock,
        challenger_clock=setting.challenger_clock,
        block_seconds=12.0 if name == "job-mainnet" else 2.0,
    )
    assert safe_budget(attack) > {"job-10m-l2": 5, "job-1b-l2": 11, "job-mainnet": 23}[name] * HOUR


def test_gas_is_a_small_part_of_an_honest_job(setting: Fraud) -> None:
    assert closed.expected(setting, None)["gas"] < 0.005


def test_the_stake_that_a_stalling_trainer_needs_is_that_of_one_milestone(setting: Fraud) -> None:
    """docs/economics.md's formula, with the work on one segment as what is saved, and the milestone as what is lost besides."""
    free = replace(setting, gas_price=0.0, cheats="last")
    saved, rate = setting.work_cost / setting.segments, setting.audit_rate
    expected = (saved / rate - 1 / setting.segments) / (1 - setting.reward_share)
    assert closed.break_even_stake(free, "last") == pytest.approx(expected)
    assert closed.break_even_stake(free, "worst") == pytest.approx(expected)
