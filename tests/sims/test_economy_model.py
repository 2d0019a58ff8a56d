"""Jobs as arrays: books that balance, and means that are those of the closed forms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.deploy import Parameters
from sims.economy import closed
from sims.economy.draws import BLOCK, Moments, Tally, blocks, generator, interval
from sims.economy.jobs import Jobs, run_jobs
from sims.economy.model import at_once, derived, first_cheats, jobs, play
from sims.economy.rules import ROLES, posted_and_paid
from sims.economy.setting import Cheats, Setting
from tests.sims.economy_support import ERRORS, agrees

SORTS: tuple[Cheats | None, ...] = (None, "all", "last", "one", "worst")
SEED = 5

SETTINGS = {
    "default": Setting(),
    "one segment": Setting(segments=1, watchers=2, audit_rate=0.3, friend=1.0),
    "crowd": Setting(segments=6, watchers=40, audit_rate=0.02, rivals=0.5, friend=0.3, gas_price=50.0),
    "censored": Setting(segments=9, watchers=3, audit_rate=0.2, held_up=0.4, bounty_eth=1.0),
    "censored one by one": Setting(segments=9, watchers=3, audit_rate=0.2, held_up=0.4, held_up_alike=False, saved=0.5),
    "stalling": Setting(segments=30, audit_rate=0.1, stalls=True, losers=0.7, slow_share=0.8, gas_spread=1.0, gas_price=20.0),
    "short segments": Setting(segments=50, audit_rate=0.05, segment_seconds=600.0, window_seconds=30_000.0, replay_seconds=900.0),
    "nobody watches": Setting(watchers=0, losers=1.5),
    "never audited": Setting(audit_rate=0.0),
    "always audited": Setting(audit_rate=1.0, watchers=4, friend=0.5),
    "always censored": Setting(held_up=1.0),
    "replayed too late": Setting(replay_seconds=43_100.0),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_means_lie_in_the_confidence_interval_of_their_closed_forms(name: str) -> None:
    setting = SETTINGS[name]
    for sort in SORTS:
        found, expected = jobs(setting, sort, 20_000, SEED, name), closed.expected(setting, sort)
        for column, mean in expected.items():
            scale = setting.segments * max(1, setting.watchers) if column == "audits" else 2 + setting.stake
            assert agrees(found[column], mean, share=column == "caught", scale=scale), (sort, column)


def any_setting() -> st.SearchStrategy[Setting]:
    share = st.floats(0, 1)
    return st.builds(
        Setting,
        segments=st.integers(1, 40),
        work_cost=st.floats(0, 3),
        stake=st.floats(0, 50),
        burn_share=st.floats(0, 0.5),
        reward_share=st.floats(0, 0.5),
        friend=share,
        saved=share,
        watchers=st.integers(0, 30),
        audit_rate=share,
        rivals=share,
        held_up=share,
        held_up_alike=st.booleans(),
        losers=st.floats(0, 5),
        slow_share=share,
        gas_price=st.floats(0, 500),
        segment_seconds=st.floats(1, 1e6),
        window_seconds=st.floats(1, 1e6),
        replay_seconds=st.floats(0, 1e6),
        stalls=st.booleans(),
    )


@given(any_setting(), st.sampled_from(SORTS), st.integers(0, 2**63))
@settings(deadline=None, max_examples=60)
def test_every_payment_has_a_payer_and_a_payee(setting: Setting, sort: Cheats | None, seed: int) -> None:
    random = generator(seed, "books")
    plan = closed.plan_of(setting, sort)
    columns = play(setting, first_cheats(plan, 64, random), plan.count, random)
    assert np.max(derived(setting, columns)["imbalance"]) < 1e-9 * (1 + setting.stake)
    assert all(column.shape == (64,) for column in columns.values())
    assert (columns["burnt"] >= 0).all()
    assert (columns["gas"] >= 0).all()
    assert (columns["compute"] >= -1e-12).all()
    assert ((columns["stolen"] >= 0) & (columns["stolen"] <= 1)).all()
    caught = columns["caught"] == 1
    assert (columns["burnt"][~caught] == 0).all()
    assert np.array_equal(caught, ~np.isnan(columns["conviction_delay_seconds"]))
    assert np.array_equal(caught, np.isnan(columns["completion_delay_seconds"]))
    late = columns["completion_delay_seconds"][~caught]
    assert ((late >= 0) & (late <= setting.trainer_clock + setting.challenger_clock)).all()
    if sort is None:
        assert not caught.any()
        assert (columns["stolen"] == 0).all()
    expected = closed.expected(setting, sort)
    assert sum(expected[role] for role in ROLES) == pytest.approx(0, abs=1e-9 * (1 + setting.stake))
    assert -1e-12 <= expected["caught"] <= 1 + 1e-12


@pytest.mark.parametrize(
    ("caught", "after", "posted", "paid"),
    [
        (0, 50.0, 1, 0),  # at once: nothing else was posted, nothing is final
        (5, 49.0, 6, 4),
        (5, 50.0, 6, 4),  # in the last second of the window of segment 4
        (5, 51.0, 6, 5),
        (5, 199.0, 7, 5),
        (5, 1_000.0, 10, 5),  # and none from the caught one on, however late
        (9, 300.0, 10, 9),
    ],
)
def test_what_is_posted_and_final_when_a_fraud_convicts(caught: int, after: float, posted: int, paid: int) -> None:
    setting = Setting(segments=10, segment_seconds=100.0, window_seconds=150.0)
    found = posted_and_paid(setting, np.array([caught]), np.array([after]))
    assert tuple(int(array[0]) for array in found) == (posted, paid)
    final = [i for i in range(caught) if i * 100 + 150 < caught * 100 + after]
    assert len(final) == paid


def test_without_risk_an_honest_trainer_has_the_bounty_less_its_work() -> None:
    found = jobs(Setting(gas_price=0.0), None, 100, SEED, "honest")
    assert found["attacker"].mean == pytest.approx(0.4)
    assert found["requester"].mean == -1


def test_losers_pay_the_trainer_more_than_its_gas_at_the_peak_fee_that_the_bond_is_for() -> None:
    with_losers = jobs(Setting(losers=2.0, gas_price=50.0, gas_spread=0.0, slow_share=1.0), None, 4_000, SEED, "losers")
    without = jobs(Setting(gas_price=50.0, gas_spread=0.0, slow_share=1.0), None, 4_000, SEED, "losers")
    assert with_losers["trainer"].mean > without["trainer"].mean
    assert with_losers["losers"].mean < 0


def test_defaults_are_those_of_a_deployment() -> None:
    ours, theirs = Setting(), Parameters()
    assert (ours.burn_share, ours.reward_share) == (theirs.burn_share / 10_000, theirs.reward_share / 10_000)
    assert (ours.trainer_clock, ours.challenger_clock) == (theirs.trainer_clock, theirs.challenger_clock)
    assert ours.bond_eth == pytest.approx(theirs.bond / 10**18, rel=0.01)


def test_shares_of_more_than_the_stake_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 1"):
        Setting(burn_share=0.7, reward_share=0.4)


# Random numbers and their sums --------------------------------------------------------------------------------------------


def parts(setting: Setting, episodes: int, order: int) -> Iterator[tuple[int, Tally]]:
    """The tallies of single blocks, computed in the order given."""
    for number, size in list(blocks(episodes, at_once(setting.segments)))[::order]:
        random = generator(SEED, "cut", number)
        plan = closed.plan_of(setting, "one")
        columns = play(setting, first_cheats(plan, size, random), plan.count, random)
        tally = Tally()
        tally.add(columns | derived(setting, columns))
        yield number, tally


@pytest.mark.parametrize("order", [1, -1])
def test_blocks_may_be_played_anywhere_and_in_any_order(order: int) -> None:
    setting, episodes = replace(SETTINGS["crowd"], segments=3), 3 * BLOCK + 17
    pooled = Tally()
    for _, tally in sorted(parts(setting, episodes, order), key=lambda part: part[0]):
        pooled.merge(tally)
    assert pooled == jobs(setting, "one", episodes, SEED, "cut")


def test_seed_and_label_are_what_draws_depend_on() -> None:
    setting = SETTINGS["crowd"]
    again, same, seed, label = (
        jobs(setting, "one", 500, *key)
        for key in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))  # type: ignore[arg-type]
    )
    assert again == same
    assert again["trainer"] != seed["trainer"] != label["trainer"] != again["trainer"]


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), max_size=5))
def test_moments_of_parts_are_those_of_the_whole(samples: list[list[float]]) -> None:
    pooled = sum((Moments.of(np.array(sample)) for sample in samples), Moments())
    whole = np.array([x for sample in samples for x in sample])
    assert pooled.count == whole.size
    if whole.size > 1:
        assert pooled.mean == pytest.approx(whole.mean(), abs=1e-6)
        assert pooled.error == pytest.approx(whole.std(ddof=1) / whole.size**0.5, rel=1e-6, abs=1e-4)


def test_numbers_that_are_missing_are_no_sample() -> None:
    assert Moments.of(np.array([1.0, np.nan, 3.0])) == Moments.of(np.array([1.0, 3.0]))
    assert Moments.of(np.array([np.nan])) == Moments()


def test_intervals_hold_what_they_promise() -> None:
    """Of 2,000 intervals of 95 %, about 1,900 hold the truth, also of a rare event."""
    random, truth = np.random.default_rng(3), 0.02
    shares = [interval(Moments.of(random.random(400) < truth), share=True) for _ in range(2_000)]
    means = [interval(Moments.of(random.normal(5, 2, 50))) for _ in range(2_000)]
    assert 1_860 < sum(low <= truth <= high for low, high in shares) < 1_970
    assert 1_860 < sum(low <= 5 <= high for low, high in means) < 1_940
    assert interval(Moments.of(np.zeros(100)), ERRORS, share=True)[0] == 0


# Months of jobs -----------------------------------------------------------------------------------------------------------


def test_a_million_jobs_take_less_than_a_minute() -> None:
    since = time.perf_counter()
    outcome = run_jobs(Jobs(jobs_per_month=83_334, watchers=3, losers=0.1), SEED)
    assert outcome.metrics["jobs"] == 1_000_008
    assert time.perf_counter() - since < 60


def test_months_add_up() -> None:
    setting = Jobs(months=5, jobs_per_month=300, cheats_in_all=0.2, cheats_in_last=0.3, cheats_in_one=0.1)
    outcome = run_jobs(setting, SEED)
    months, trainers = outcome.tables["months"], outcome.tables["trainers"]
    column = [spec.name for spec in months.columns].index
    assert len(months.rows) == 5
    assert sum(row[column("frauds")] for row in months.rows) == outcome.metrics["frauds"]  # type: ignore[misc]
    assert sum(int(row[1]) for row in trainers.rows) == outcome.metrics["jobs"] == 1_500  # type: ignore[arg-type]
    assert 0.5 * 1_500 < outcome.metrics["frauds"] < 0.7 * 1_500  # type: ignore[operator]
    assert outcome.metrics["imbalance"] < 1e-12  # type: ignore[operator]


@pytest.mark.parametrize("shares", [(0.0, 0.0, 0.0), (0.3, 0.3, 0.4)])
def test_months_with_one_side_only(shares: tuple[float, float, float]) -> None:
    setting = Jobs(months=2, jobs_per_month=20, cheats_in_all=shares[0], cheats_in_last=shares[1], cheats_in_one=shares[2])
    outcome = run_jobs(setting, SEED)
    honest = not any(shares)
    assert (outcome.metrics["honest_profit"] is None) == (not honest)
    assert (outcome.metrics["attacker_profit"] is None) == honest
    assert outcome.metrics["frauds"] == (0 if honest else 40)


def test_more_cheats_than_trainers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 1 together"):
        Jobs(cheats_in_all=0.6, cheats_in_last=0.6)
