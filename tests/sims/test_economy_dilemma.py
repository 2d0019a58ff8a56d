"""The verifier's dilemma (29): where neither side would change, and where months of change lead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sims.economy import closed
from sims.economy.dilemma import Dilemma, equilibrium, run_dilemma
from sims.economy.draws import Moments
from sims.economy.model import jobs
from tests.sims.economy_support import agrees

SEED = 7
PLAIN = Dilemma(segments=1, watchers=1, gas_price=0.0, months=40, jobs_per_month=200)


def rows(p: Dilemma, seed: int = SEED) -> list[dict[str, float]]:
    table = run_dilemma(p, seed).tables["months"]
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]  # type: ignore[arg-type]


@given(
    cost=st.floats(0.05, 0.9),
    stake=st.floats(0.5, 10),
    friend=st.floats(0, 0.9),
    reward=st.floats(0.2, 0.8),
    replay=st.floats(0.05, 0.3),
)
@settings(deadline=None, max_examples=50)
def test_the_equilibrium_of_one_watcher_and_one_segment(
    cost: float, stake: float, friend: float, reward: float, replay: float
) -> None:
    """The inspection game: honest work is worth 1 - c, fraud (1 - p) - p (1 - f r) S, an audit r (1 - f) S of a fraud less k c."""
    setting = replace(PLAIN, work_cost=cost, stake=stake, friend=friend, reward_share=reward, replay_cost=replay)
    rate, share = equilibrium(setting)
    assert rate == pytest.approx(cost / (1 + (1 - friend * reward) * stake))
    fraud = replay * cost / (reward * (1 - friend) * stake)
    assume(abs(fraud - 1) > 1e-9)
    assert share == (pytest.approx(fraud, rel=1e-6) if fraud <= 1 else None)


@pytest.mark.parametrize(
    "setting",
    [
        replace(PLAIN, replay_cost=0.2),
        Dilemma(watchers=3),
        Dilemma(segments=6, watchers=2, planted=0.02, gas_price=5.0, cheats="worst", replay_cost=0.01),
    ],
)
def test_in_the_equilibrium_neither_side_gains_by_a_change(setting: Dilemma) -> None:
    rate, share = equilibrium(setting)
    assert rate is not None
    assert share is not None
    at = replace(setting, audit_rate=rate)
    fraud, planted = (jobs(at, setting.cheats, 40_000, SEED, label) for label in ("fraud", "planted"))
    honest = jobs(at, None, 40_000, SEED, "honest")
    gained = Moments(
        40_000, fraud["attacker"].mean - honest["attacker"].mean, fraud["attacker"].squares + honest["attacker"].squares
    )
    assert agrees(gained, 0.0)
    parts = (
        (setting.planted, planted["watchers"]),
        ((1 - setting.planted) * share, fraud["watchers"]),
        ((1 - setting.planted) * (1 - share), honest["watchers"]),
    )
    mixed = Moments(40_000, sum(w * part.mean for w, part in parts), sum(w * w * part.squares for w, part in parts))
    assert agrees(mixed, 0.0)


def test_there_is_no_equilibrium_where_fraud_always_pays_or_watching_never_does() -> None:
    assert equilibrium(replace(PLAIN, held_up=1.0)) == (None, None)
    rate, share = equilibrium(replace(PLAIN, replay_cost=50.0))
    assert rate is not None
    assert share is None
    assert equilibrium(replace(PLAIN, work_cost=0.0, saved=0.0))[1] == 0


def test_watchers_who_find_nothing_stop_and_fraud_comes_back() -> None:
    """Months of honest traffic, then fraud: what no protocol without paid audits prevents."""
    months = rows(replace(PLAIN, fraud_share=0.001, audit_rate=0.9, months=200, jobs_per_month=500))
    assert months[0]["audit_rate"] == 0.9
    asleep = min(range(100), key=lambda month: months[month]["audit_rate"])
    assert months[asleep]["audit_rate"] < 0.2
    assert max(month["fraud_share"] for month in months[asleep:]) > 0.3


@pytest.mark.parametrize("dynamics", ["replicator", "best_response"])
def test_paid_audits_keep_watchers_awake_and_trainers_honest(dynamics: str) -> None:
    bare = Dilemma(segments=4, watchers=2, months=80, jobs_per_month=300, speed=2.0, dynamics=dynamics, replay_cost=0.2)  # type: ignore[arg-type]
    paid = replace(bare, audit_fee=1.2 * bare.replay)
    left, kept = run_dilemma(bare, SEED).metrics, run_dilemma(paid, SEED).metrics
    assert kept["final_audit_rate"] > 0.9  # type: ignore[operator]
    assert kept["final_fraud_share"] < 0.01  # type: ignore[operator]
    assert left["stolen_share"] > 5 * kept["stolen_share"]  # type: ignore[operator]
    assert kept["requester_overhead"] > 0 == left["requester_overhead"]  # type: ignore[operator]
    assert equilibrium(paid)[1] == 0


def test_planted_frauds_repay_audits() -> None:
    bare = Dilemma(segments=4, watchers=1, replay_cost=0.1, gas_price=0.0)
    rate, share = equilibrium(bare)
    assert rate is not None
    assert share is not None
    enough = replace(bare, planted=min(0.5, share * 1.5))
    assert equilibrium(enough)[1] == 0
    planted = rows(replace(enough, months=3, jobs_per_month=4_000))
    assert planted[0]["overhead"] > 0
    # A planted fraud that is found costs its requester what is burnt, and what the watchers get.
    likely = closed.expected(enough, "all")
    lost = -(likely["attacker"] + likely["requester"]) * enough.planted
    assert planted[0]["overhead"] == pytest.approx(lost, rel=0.1)


def test_whoever_never_changes_stays() -> None:
    still = rows(replace(PLAIN, dynamics="best_response", change=0.0, audit_rate=0.3, fraud_share=0.2, months=4))
    assert {(row["audit_rate"], row["fraud_share"]) for row in still} == {(0.3, 0.2)}
    gone = rows(replace(PLAIN, watchers=0, floor=0.0, fraud_share=0.0, months=3))
    assert [row["frauds"] for row in gone] == [0, 0, 0]
    assert all(row["fraud_share"] == 0 for row in gone)
    assert all(0.01 <= row["audit_rate"] <= 0.99 for row in rows(replace(PLAIN, floor=0.01, speed=100.0)))
