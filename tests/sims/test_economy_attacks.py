"""Sybils (27) and censorship (28): bounds that no run crosses, and the closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.economics import GWEI, game_bond
from sims.economy import censorship, sybils
from sims.economy.censorship import Censorship, run_censorship, safe_budget
from sims.economy.draws import generator
from sims.economy.sybils import Sybils, run_sybils
from tests.sims.economy_support import agrees

SEED = 3


@given(
    number=st.integers(1, 60),
    slots=st.integers(1, 60),
    latency=st.floats(0, 40_000),
    clocks=st.tuples(st.floats(1, 200_000), st.floats(1, 200_000)),
    stalls=st.booleans(),
    path=st.sampled_from(["fast", "slow"]),
)
@settings(deadline=None, max_examples=60)
def test_no_number_of_sybils_holds_a_job_up_beyond_both_clocks(
    number: int, slots: int, latency: float, clocks: tuple[float, float], stalls: bool, path: str
) -> None:
    setting = Sybils(
        number,
        path,
        stalls,
        trainer_clock=clocks[0],
        challenger_clock=clocks[1],
        trainer_slots=slots,
        latency_seconds=latency,
        episodes=20,  # type: ignore[arg-type]
    )
    tally, longest = sybils.simulate(setting, SEED)
    assert longest <= setting.bound_seconds
    assert tally["delay_seconds"].mean <= longest * (1 + 1e-12)
    columns = sybils.play(setting, 20, generator(SEED, "each"))
    lost = columns["trainer_lost"] == 1
    assert np.array_equal(lost, columns["trainer_spent_seconds"] > clocks[0])
    assert np.all(columns["delay_seconds"][lost] <= setting.bound_seconds)
    if stalls:
        assert np.all(columns["delay_seconds"][lost] == setting.bound_seconds)


@pytest.mark.parametrize("number", [1, 20])
def test_without_latency_the_delay_is_the_stalled_clock_and_a_block_for_each_answer(number: int) -> None:
    setting = Sybils(number, latency_seconds=0.0, episodes=10)
    tally, longest = sybils.simulate(setting, SEED)
    answers = setting.sides[0].transactions
    assert longest == tally["delay_seconds"].mean == setting.challenger_clock + answers * setting.block_seconds


def test_answers_of_more_games_than_a_block_takes_wait() -> None:
    few, many = (sybils.simulate(Sybils(number, latency_seconds=0.0, episodes=50), SEED)[0] for number in (20, 400))
    answers = Sybils().sides[0].transactions
    assert few["trainer_spent_seconds"].mean == answers * 12
    assert answers * 12 * 12 < many["trainer_spent_seconds"].mean <= answers * 20 * 12


@pytest.mark.parametrize(("path", "price"), [("fast", 1.0), ("slow", 5.0), ("slow", 180.0)])
def test_what_sybils_cost_is_what_the_closed_form_says(path: str, price: float) -> None:
    setting = Sybils(5, path, gas_price=price, gas_spread=0.8, episodes=20_000)  # type: ignore[arg-type]
    tally, _ = sybils.simulate(setting, SEED)
    metrics = run_sybils(setting, SEED).metrics
    for name in ("attacker_profit_eth", "trainer_profit_eth"):
        assert agrees(tally[name], metrics[f"expected_{name}"], scale=5)  # type: ignore[arg-type]
    assert agrees(tally["trainer_gained"], sybils.trainer_gains(setting), share=True)


def test_up_to_the_fee_that_a_bond_is_for_every_sybil_pays_the_trainer() -> None:
    for peak in (0.1, 5.0, 50.0):
        setting = Sybils(64, bond_eth=game_bond(round(peak * GWEI)) / 1e18, gas_price=peak, gas_spread=0.0, episodes=10)
        metrics = run_sybils(setting, SEED).metrics
        assert metrics["trainer_gained"] == 1
        assert metrics["trainer_profit_eth"] > 0  # type: ignore[operator]
        assert metrics["attacker_profit_eth"] < -64 * setting.bond_eth  # type: ignore[operator]


def test_more_games_than_can_be_played_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 200,000,000"):
        Sybils(100_000, episodes=100_000)


# Censorship ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["window", "game", "even"])
@pytest.mark.parametrize("path", ["fast", "slow"])
def test_convictions_under_full_censorship_are_those_of_the_closed_form(policy: str, path: str) -> None:
    for budget in (0.0, 40_000.0, 62_000.0, 70_000.0, 172_000.0, 190_000.0):
        setting = Censorship(budget, policy, path=path)  # type: ignore[arg-type]
        expected = censorship.convicted(setting)
        assert expected is not None
        assert agrees(censorship.simulate(setting, SEED)[0]["convicted"], expected, share=True), budget


@given(
    budget=st.floats(0, 400_000),
    policy=st.sampled_from(["window", "game", "even"]),
    share=st.floats(0, 1),
    path=st.sampled_from(["fast", "slow"]),
    stalls=st.booleans(),
    replay=st.floats(1, 200_000),
)
@settings(deadline=None, max_examples=80)
def test_no_censor_delays_beyond_window_and_clocks_or_exceeds_its_budget(
    budget: float, policy: str, share: float, path: str, stalls: bool, replay: float
) -> None:
    setting = Censorship(budget, policy, share, 0.001, path, stalls, replay, episodes=100)  # type: ignore[arg-type]
    columns = censorship.play(setting, 100, generator(SEED, "bounds"))
    assert (columns["delay_seconds"] <= setting.bound_seconds).all()
    assert (columns["censored_blocks"] * setting.block_seconds <= budget + 1e-6).all()
    assert (columns["convicted"] <= columns["opened"]).all()
    wins = columns["convicted"] == 0
    assert columns["attacker_profit"] == pytest.approx(np.where(wins, 1.0, -1.0) - 0.001 * columns["censored_blocks"])


@pytest.mark.parametrize("policy", ["window", "game", "even"])
@pytest.mark.parametrize("window", [30_000.0, 86_400.0, 400_000.0])
def test_within_the_safe_budget_a_watcher_of_known_speed_always_convicts(policy: str, window: float) -> None:
    setting = Censorship(policy=policy, replay_spread=0.0, window_seconds=window, path="slow", episodes=10)  # type: ignore[arg-type]
    safe = safe_budget(setting)
    assert run_censorship(replace(setting, budget_seconds=safe), SEED).metrics["detection"] == 1
    if policy == ("window" if window < 200_000 else "game"):
        assert run_censorship(replace(setting, budget_seconds=safe + 24), SEED).metrics["detection"] == 0


def test_a_censor_with_a_part_of_the_blocks_delays_less() -> None:
    half, most, all_of_them = (
        run_censorship(Censorship(60_000.0, censored_blocks=share, path="slow"), SEED).metrics for share in (0.5, 0.99, 1.0)
    )
    assert half["censored_blocks"] < most["censored_blocks"] < all_of_them["censored_blocks"]  # type: ignore[operator]
    assert half["censored_blocks"] == pytest.approx(17, rel=0.05)  # one block on average for each of 17 transactions
    assert half["detection"] >= all_of_them["detection"]  # type: ignore[operator]
    assert half["expected_detection"] is None
