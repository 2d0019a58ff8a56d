"""The parameters that docs/economics.md recommends for three named settings hold, and the page says of them what is so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import sims
from contracts.economics import GWEI, game_bond
from sims.economy import closed
from sims.economy.censorship import Censorship, safe_budget
from sims.economy.costs import costs
from sims.economy.fraud import Fraud, run_fraud
from sims.economy.sybils import Sybils, run_sybils
from sims.parameters import build
from sims.sweep import sweep_names

HOUR = 3600
PEAK_FEES = {"job-10m-l2": 0.1, "job-1b-l2": 0.1, "job-mainnet": 50.0}  # gwei
PAGE = Path(sims.__file__).parents[1] / "docs" / "economics.md"


def recommended(name: str) -> Fraud:
    document = tomllib.loads((Path(sims.__file__).parent / "scenarios" / f"{name}.toml").read_text(encoding="utf-8"))
    assert document["kind"] == "economy.fraud"
    return build(Fraud, document["parameters"])  # type: ignore[no-any-return]


def league(setting: Fraud) -> Fraud:
    """Trainer, friend and requester, at their worst: they wait for each verdict before they work on."""
    return replace(setting, requester_in_league=True, segment_seconds=1e8)


@pytest.fixture(params=sorted(PEAK_FEES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def setting(name: str) -> Fraud:
    return recommended(name)


@pytest.mark.parametrize("stalls", [False, True])
def test_fraud_is_worse_than_work_even_with_half_the_stake_or_half_the_audits(setting: Fraud, stalls: bool) -> None:
    for cheats in ("all", "last", "one", "worst"):
        for less in (replace(setting, stake=setting.stake / 2), replace(setting, audit_rate=setting.audit_rate / 2)):
            assert closed.fraud_pays(replace(less, stalls=stalls), cheats) < 0  # type: ignore[arg-type]
        assert closed.fraud_pays(replace(setting, gas_price=0.0, friend=0.0), cheats) < 0  # type: ignore[arg-type]


def test_a_league_with_the_requester_loses_too_and_would_not_if_nothing_were_burnt(setting: Fraud) -> None:
    for together in (league(setting), replace(setting, requester_in_league=True, stalls=False)):
        assert closed.fraud_pays(together, "worst") < 0
        assert closed.fraud_pays(replace(together, stake=setting.stake / 1.25), "worst") < 0
        assert closed.fraud_pays(replace(together, burn_share=0.0), "worst") > 0


def test_the_simulation_agrees(setting: Fraud) -> None:
    for attackers in (setting, replace(league(setting), episodes=100_000)):
        advantage = run_fraud(attackers, 0).metrics["advantage_high"]
        assert isinstance(advantage, float)
        assert advantage < 0


def test_the_reward_repays_five_disputes_at_the_peak_fee(name: str, setting: Fraud) -> None:
    dispute = costs().slow_challenger.gas * PEAK_FEES[name] * setting.gas_unit
    assert setting.reward_share * setting.stake > 5 * dispute


def test_bonds_are_those_of_the_peak_fee_which_is_rarely_exceeded(name: str, setting: Fraud) -> None:
    assert setting.bond_eth == pytest.approx(game_bond(round(PEAK_FEES[name] * GWEI)) / 1e18, rel=0.01)
    assert closed.gas_price_above(PEAK_FEES[name], setting.gas_price, setting.gas_spread) < 0.01


def test_gas_is_a_small_part_of_an_honest_job(setting: Fraud) -> None:
    assert closed.expected(setting, None)["gas"] < 0.005


def test_the_stake_that_a_stalling_trainer_needs_is_that_of_one_milestone(setting: Fraud) -> None:
    """docs/economics.md's formula, with the work on one segment as what is saved, and the milestone as what is lost besides."""
    free = replace(setting, gas_price=0.0, cheats="last")
    saved, rate = setting.work_cost / setting.segments, setting.audit_rate
    expected = (saved / rate - 1 / setting.segments) / (1 - setting.reward_share)
    assert closed.break_even_stake(free, "last") == pytest.approx(expected)
    assert closed.break_even_stake(free, "worst") == pytest.approx(expected)


# The page -----------------------------------------------------------------------------------------------------------------


def censored(setting: Fraud) -> Censorship:
    return Censorship(
        path="slow",
        replay_seconds=setting.replay_seconds,
        window_seconds=setting.window_seconds,
        challenger_clock=setting.challenger_clock,
    )


def clock_borne(setting: Fraud) -> float:
    """Hours of censorship in the game, by a censor that waits for it."""
    return safe_budget(replace(censored(setting), window_seconds=1e8)) / HOUR


# What is recommended, and the numbers in parentheses behind it.
SAYS: dict[str, tuple[Callable[[Fraud], float], Callable[[Fraud], tuple[float | None, ...]]]] = {
    "stake": (
        lambda s: s.stake,
        lambda s: (closed.break_even_stake(s, "worst"), closed.break_even_stake(league(s), "worst")),
    ),
    "audit rate": (
        lambda s: s.audit_rate,
        lambda s: (closed.break_even_audit_rate(s, "worst"), closed.break_even_audit_rate(league(s), "worst")),
    ),
    "burn share": (
        lambda s: s.burn_share * 100,
        lambda s: tuple(closed.fraud_pays(replace(league(s), burn_share=burn), "worst") for burn in (0.0, s.burn_share)),
    ),
    "reward share": (
        lambda s: s.reward_share * 100,
        lambda s: tuple(closed.break_even_stake(replace(s, reward_share=share), "worst") for share in (0.1, 0.6)),
    ),
    "bond": (lambda s: s.bond_eth, lambda s: (s.bond_eth / costs().slow_trainer.gas * GWEI,)),
    "window": (lambda s: s.window_seconds / HOUR, lambda s: (safe_budget(censored(s)) / HOUR,)),
    "challenger's clock": (lambda s: s.challenger_clock / HOUR, lambda s: (clock_borne(s),)),
    "trainer's clock": (lambda s: s.trainer_clock / HOUR, lambda s: ()),  # see the next test
}


def rows() -> dict[str, list[str]]:
    """The rows of the table of recommendations by name: a cell for each setting, what else it says, and sweeps."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|") and "job-10m-l2" in line)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:] if line.startswith("|")]
    return {row[0]: row[1:] for row in cells if len(row) == len(PEAK_FEES) + 3}


@pytest.mark.parametrize("what", SAYS)
def test_the_page_recommends_what_the_scenarios_have_and_says_why(what: str) -> None:
    value, reasons = SAYS[what]
    for name, cell in zip(sorted(PEAK_FEES), rows()[what], strict=False):
        said = [float(number.replace("−", "-").replace(",", "")) for number in re.findall(r"[−\d][\d.,]*", cell.replace("%", ""))]
        found = (value(recommended(name)), *reasons(recommended(name)))
        assert said[: len(found)] == pytest.approx(found, rel=0.055, abs=5e-5), (name, cell)


@pytest.mark.parametrize("column", range(len(PEAK_FEES)))
def test_clocks_suffice_for_as_many_sybils_as_the_page_says(column: int) -> None:
    name = sorted(PEAK_FEES)[column]
    setting = recommended(name)
    games = int(re.findall(r"\(([\d,]+)\)", rows()["trainer's clock"][column])[0].replace(",", ""))
    attack = Sybils(
        games,
        trainer_clock=setting.trainer_clock,
        challenger_clock=setting.challenger_clock,
        block_seconds=12.0 if name == "job-mainnet" else 2.0,
        episodes=2,
    )
    metrics = run_sybils(attack, 0).metrics
    assert metrics["trainer_lost"] == 0
    assert metrics["longest_delay_seconds"] <= metrics["bound_seconds"]  # type: ignore[operator]


def test_every_recommendation_names_sweeps_that_there_are() -> None:
    table = rows()
    assert table.keys() >= SAYS.keys()
    for what in SAYS:
        linked = re.findall(r"\.\./sims/sweeps/([\w-]+)\.toml", table[what][-1])
        assert linked, what
        assert set(linked) <= set(sweep_names()), what
