"""What fraud earns, what deters it, and how surely it is found."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.economics import least_stake
from sims.economy import closed
from sims.economy.costs import costs
from sims.economy.draws import generator
from sims.economy.fraud import PRECISION, Detection, Fraud, found_at, run_detection, run_fraud, sufficient_stake
from sims.economy.model import jobs
from sims.economy.setting import Setting
from tests.sims.economy_support import ERRORS, agrees

SEED = 11
# The worst case that docs/economics.md is about: one milestone, all work saved, the friend always first.
WORST = Fraud(segments=1, work_cost=1.0, friend=1.0, gas_price=0.0, episodes=4_000)


@given(detection=st.floats(0.01, 1), reward_share=st.integers(1, 8_000))
@settings(deadline=None)
def test_break_even_stake_is_that_of_least_stake_in_the_worst_case(detection: float, reward_share: int) -> None:
    setting = replace(WORST, audit_rate=detection, reward_share=reward_share / 10_000)
    stake = closed.break_even_stake(setting, "all")
    assert stake == pytest.approx(least_stake(PRECISION, detection, reward_share) / PRECISION, rel=1e-6, abs=2 / PRECISION)


@given(
    st.builds(
        Setting,
        segments=st.integers(1, 12),
        work_cost=st.floats(0, 1),
        friend=st.floats(0, 1),
        saved=st.floats(0, 1),
        watchers=st.integers(1, 9),
        audit_rate=st.floats(0.01, 1),
        held_up=st.floats(0, 0.9),
        gas_price=st.floats(0, 20),
        reward_share=st.floats(0.01, 0.8),
        stalls=st.booleans(),
        segment_seconds=st.floats(1_000, 100_000),
    ),
    st.sampled_from(["all", "last", "one", "worst"]),
)
@settings(deadline=None, max_examples=200)
def test_the_stake_that_is_asked_for_deters_in_every_setting(setting: Setting, cheats: str) -> None:
    """What it takes is the detection in one segment, and one milestone."""
    stake = sufficient_stake(setting)
    assert stake is not None
    assert closed.fraud_pays(replace(setting, stake=stake), cheats) <= 1e-6  # type: ignore[arg-type]


def test_the_detection_of_the_job_as_a_whole_is_too_much_to_count_on() -> None:
    """Two segments, each found with 1/2, one of them with 3/4: that asks for too little, since the first milestone may be kept."""
    setting = Setting(segments=2, work_cost=1.0, friend=1.0, reward_share=0.5, gas_price=0.0, stalls=True)
    too_little = least_stake(PRECISION, closed.expected(setting, "all")["caught"], 5_000) / PRECISION
    assert closed.fraud_pays(replace(setting, stake=too_little), "all") == pytest.approx(0.125, abs=1e-6)
    enough = sufficient_stake(setting)
    assert enough == pytest.approx(1.0, abs=1e-6)
    assert closed.fraud_pays(replace(setting, stake=enough), "worst") <= 1e-6


@given(
    stake=st.floats(0.01, 20), rate=st.floats(0.02, 0.98), friend=st.floats(0, 1), cheats=st.sampled_from(["all", "last", "one"])
)
@settings(deadline=None, max_examples=40)
def test_fraud_pays_exactly_below_the_break_even(stake: float, rate: float, friend: float, cheats: str) -> None:
    setting = Setting(segments=4, stake=stake, audit_rate=rate, friend=friend, gas_price=3.0)
    needed = closed.break_even_stake(setting, cheats)  # type: ignore[arg-type]
    assert needed is not None
    if abs(stake - needed) > 1e-9:
        assert (closed.fraud_pays(setting, cheats) > 0) == (stake < needed)  # type: ignore[arg-type]
    least = closed.break_even_audit_rate(setting, cheats)  # type: ignore[arg-type]
    assert least is not None
    if abs(rate - least) > 1e-9:
        assert (closed.fraud_pays(setting, cheats) > 0) == (rate < least)  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_at_the_break_even_stake_a_simulated_fraud_earns_what_work_does(factor: float) -> None:
    bare = Fraud(segments=1, audit_rate=0.2, friend=0.7, gas_price=5.0, watchers=2, episodes=40_000)
    needed = closed.break_even_stake(bare, "all")
    assert needed is not None
    setting = replace(bare, stake=needed * factor)
    fraud, honest = jobs(setting, "all", 40_000, SEED, "fraud"), closed.expected(setting, None)["attacker"]
    assert agrees(fraud["attacker"], honest) == (factor == 1.0)
    outcome = run_fraud(setting, SEED).metrics
    low, high = outcome["advantage_low"], outcome["advantage_high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert (low > 0, high < 0) == (factor < 1, factor > 1)


def test_where_nothing_is_found_no_stake_deters() -> None:
    for setting in (replace(WORST, watchers=0), replace(WORST, audit_rate=0.0), replace(WORST, held_up=1.0)):
        assert closed.break_even_stake(setting, "all") is None
        assert sufficient_stake(setting) is None
        metrics = run_fraud(setting, SEED).metrics
        assert metrics["break_even_stake"] is metrics["least_stake"] is None
        assert metrics["detection"] == 0
        assert metrics["conviction_delay_seconds"] is None


def test_a_friend_that_gets_the_whole_stake_makes_fraud_free() -> None:
    assert closed.break_even_stake(replace(WORST, burn_share=0.0, reward_share=1.0), "all") is None


def test_the_stake_also_repays_a_dispute() -> None:
    setting = replace(WORST, audit_rate=1.0, gas_price=10.0, gas_spread=0.0)
    stake = sufficient_stake(setting)
    assert stake is not None
    assert stake * setting.reward_share == pytest.approx(costs().slow_challenger.gas * 10 * 1e-9 / setting.bounty_eth, rel=1e-6)


def earned(s: Fraud, cheated: tuple[int, ...]) -> float:
    """What the attackers earn, without gas and on the fast path, by cheating in any segments."""
    work, after = s.work_cost / s.segments, s.caught_after("fast")
    total, alive = 0.0, 1.0
    if s.requester_in_league:
        completed, milestone, lost = s.work_cost, 0.0, s.burn_share + (1 - s.friend) * s.reward_share
    else:
        completed, milestone, lost = 1.0, 1 / s.segments, 1 - s.friend * s.reward_share
    for segment in cheated:
        posted = min(s.segments, segment + 1 + floor(after / s.segment_seconds))
        paid = sum(i * s.segment_seconds + s.window_seconds < segment * s.segment_seconds + after for i in range(segment))
        spent = work * (posted - s.saved * sum(other < posted for other in cheated))
        total += alive * closed.found(s) * (paid * milestone - spent - s.stake * lost)
        alive *= 1 - closed.found(s)
    return total + alive * (completed - work * (s.segments - s.saved * len(cheated)))


@pytest.mark.parametrize("league", [False, True])
def test_if_any_choice_of_segments_pays_then_one_at_an_end_does(league: bool) -> None:
    """All subsets of up to seven segments, in settings near the break-even."""
    chance, paying = random.Random(SEED), 0
    for _ in range(150):
        setting = Fraud(
            requester_in_league=league,
            segments=chance.randint(1, 7),
            gas_price=0.0,
            slow_share=0.0,
            friend=chance.random(),
            stake=chance.choice([0.0, 0.02, 0.1, 0.3, 1.0]),
            audit_rate=chance.choice([0.01, 0.02, 0.05, 0.1, 0.2, 0.4]),
            work_cost=chance.uniform(0.1, 1),
            saved=chance.choice([0.3, 1.0]),
            segment_seconds=chance.choice(
                [5_000.0, 10_000.0, 20_000.0, 60_000.0, WAITING] if league else [5_000.0, 10_000.0, 20_000.0, 60_000.0]
            ),
            window_seconds=chance.choice([43_200.0, 100_000.0, 200_000.0]),
        )
        every = range(setting.segments)
        best = max(earned(setting, some) for count in every for some in combinations(every, count + 1)) - earned(setting, ())
        found = closed.fraud_pays(setting, "worst")
        assert found <= best + 1e-12
        assert (found > 1e-9) == (best > 1e-9)
        assert found == pytest.approx(best, abs=0.02) or best < 0
        paying += best > 0
    assert 30 < paying < 120


# A requester in league ----------------------------------------------------------------------------------------------------

LEAGUE = replace(WORST, requester_in_league=True, segments=4, work_cost=0.6)
WAITING = 1e8  # seconds for a segment: whoever waits for the verdict on one before it works on the next


@given(rate=st.floats(0.01, 0.99), burn=st.floats(0.01, 0.6), cost=st.floats(0.01, 2), segments=st.integers(1, 16))
@settings(deadline=None, max_examples=30)
def test_of_a_league_that_waits_for_verdicts_the_burnt_share_is_what_is_at_stake(
    rate: float, burn: float, cost: float, segments: int
) -> None:
    """least_stake, with the work on a segment for its milestone, and all but the burnt share for the reward."""
    waiting = replace(LEAGUE, audit_rate=rate, burn_share=burn, work_cost=cost, segments=segments, segment_seconds=WAITING)
    asked = cost / segments * (1 - rate) / (rate * burn)
    assert closed.break_even_stake(waiting, "worst") == pytest.approx(asked, rel=1e-9, abs=1e-12)
    half_lost = least_stake(round(cost / segments * 10**18), rate, 5_000) / 10**18
    assert asked == pytest.approx(half_lost * 0.5 / burn, rel=1e-9)
    assert closed.expected(waiting, None)["attacker"] == pytest.approx(0, abs=1e-12)


@given(rate=st.floats(0.01, 0.99), seconds=st.floats(1, 1e6), stalls=st.booleans())
@settings(deadline=None, max_examples=50)
def test_a_league_does_best_to_wait_and_not_to_stall(rate: float, seconds: float, stalls: bool) -> None:
    setting = replace(LEAGUE, audit_rate=rate, segment_seconds=seconds, stalls=stalls)
    assert closed.fraud_pays(setting, "worst") <= closed.fraud_pays(replace(setting, segment_seconds=WAITING), "worst") + 1e-12
    assert closed.fraud_pays(setting, "worst") <= closed.fraud_pays(replace(setting, stalls=False), "worst") + 1e-12


@given(worth=st.floats(0, 5), plan=st.integers(1, 4), friend=st.floats(0, 1), price=st.floats(0, 50), rate=st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_no_other_worth_of_the_job_makes_fraud_gain_a_league_more(
    worth: float, plan: int, friend: float, price: float, rate: float
) -> None:
    """Next to the better of honest work and no job at all."""
    setting = replace(LEAGUE, friend=friend, gas_price=price, audit_rate=rate)

    def money(count: int) -> tuple[float, float]:
        likely = closed.of_plan(setting, closed.last_ones(setting, count))
        return sum(likely[role] for role in ("trainer", "friend", "requester")), 1 - likely["caught"]

    (fraud, completed), (honest, always) = money(plan), money(0)
    assert always == 1
    gained = fraud + worth * completed - max(0.0, honest + worth)
    assert gained <= closed.of_plan(setting, closed.last_ones(setting, plan))["attacker"] + 1e-12


def test_where_nothing_is_burnt_slashing_is_free_to_a_league() -> None:
    free = replace(LEAGUE, burn_share=0.0)
    assert closed.break_even_stake(free, "worst") is None
    assert closed.fraud_pays(replace(free, stake=1e6), "worst") == pytest.approx(closed.fraud_pays(free, "worst"))
    assert closed.break_even_stake(replace(LEAGUE, burn_share=0.05), "worst") is not None


@pytest.mark.parametrize("cheats", ["all", "last", "one", "worst"])
def test_a_league_earns_what_the_closed_form_says(cheats: str) -> None:
    setting = replace(LEAGUE, cheats=cheats, friend=0.6, gas_price=20.0, watchers=2, audit_rate=0.2, losers=0.3, episodes=20_000)
    outcome, honest = run_fraud(setting, SEED).metrics, jobs(setting, None, 20_000, SEED, "honest")
    assert agrees(jobs(setting, setting.cheats, 20_000, SEED, "fraud")["attacker"], outcome["expected_attacker_profit"])  # type: ignore[arg-type]
    assert agrees(honest["attacker"], 0.0)
    assert outcome["least_stake"] is None


# Detection ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("held_up", "alike"), [(0.0, True), (0.3, True), (0.3, False)])
@pytest.mark.parametrize(("watchers", "rate"), [(0, 0.5), (1, 0.05), (4, 0.1), (60, 0.01)])
def test_detection_is_that_of_the_closed_form(watchers: int, rate: float, held_up: float, alike: bool) -> None:
    setting = Detection(watchers, rate, 12, held_up, alike, episodes=20_000)
    outcome = run_detection(setting, SEED)
    chance = 1 - (1 - rate * (1 if alike else 1 - held_up)) ** watchers
    chance *= 1 - held_up if alike else 1
    assert closed.found(setting.setting) == pytest.approx(chance)
    when = found_at(setting, 20_000, generator(SEED, "at once"))
    for k, found in enumerate(np.cumsum(when)[:-1] / 20_000):
        expected = 1 - (1 - chance) ** (k + 1)
        assert abs(found - expected) <= ERRORS * (expected * (1 - expected) / 20_000) ** 0.5
    assert len(outcome.tables["detection"].rows) == 12
    assert outcome.metrics["expected_detection"] == pytest.approx(1 - (1 - chance) ** 12)
    assert (outcome.metrics["segments_until_found"] is None) == (watchers == 0)


def test_censoring_each_watcher_apart_leaves_more_found() -> None:
    together, apart = (
        closed.found(Setting(watchers=5, audit_rate=0.5, held_up=0.5, held_up_alike=alike)) for alike in (True, False)
    )
    assert apart > together
