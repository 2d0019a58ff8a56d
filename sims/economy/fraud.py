"""One sort of fraud: what it earns, next to honest work; and how surely it is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from bisection.errors import UsageError
from contracts.economics import least_stake
from sims.economy import closed
from sims.economy.costs import costs
from sims.economy.draws import Ints, Moments, Tally, blocks, generator
from sims.economy.model import at_once, jobs, looks
from sims.economy.rules import ROLES
from sims.economy.setting import PATHS, SHARE, Setting, quantity
from sims.economy.told import mean_of, share_of, table, value
from sims.result import Column, Outcome, Value

__all__ = ["Detection", "Fraud", "fates", "run_detection", "run_fraud"]

PRECISION = 10**9  # least_stake counts in whole units of money: a bounty has so many


@dataclass(frozen=True)
class Fraud(Setting):
    """One fraud, played again and again. The attackers are the trainer and its friend, and the requester if it is in league."""

    cheats: Literal["all", "last", "one", "worst"] = quantity(
        "all",
        "where a dishonest trainer cheats: all segments, the last ones, one at random, or as many at either end as earn most",
    )
    requester_in_league: bool = quantity(
        False, "whether the requester shares in the fraud: then a completed job is worth to all three what honest work costs them"
    )
    episodes: int = quantity(20_000, "jobs to play", "jobs", least=2, most=100_000_000)

    @property
    def attackers(self) -> tuple[str, ...]:
        """See Setting."""
        return (*super().attackers, "requester") if self.requester_in_league else super().attackers


def fates(tally: Tally, roles: Sequence[str] = ROLES) -> list[dict[str, Value]]:
    """What each role has in the end, on average, with its uncertainty."""
    return [{"role": role, **mean_of("mean", tally[role])} for role in roles]


FATES = (
    Column("role", "", "who: gas went to block builders, compute to whoever sells it"),
    Column("mean", "bounties", "what remains with it of a job, on average"),
    Column("mean_low", "bounties", "lower bound of the 95 % confidence interval"),
    Column("mean_high", "bounties", "upper bound"),
)


def run_fraud(p: Fraud, seed: int) -> Outcome:
    """What a fraud earns the attackers, next to honest work; what stake would deter it."""
    fraud, honest = jobs(p, p.cheats, p.episodes, seed, "fraud"), jobs(p, None, p.episodes, seed, "honest")
    advantage = Moments(
        p.episodes, fraud["attacker"].mean - honest["attacker"].mean, fraud["attacker"].squares + honest["attacker"].squares
    )
    likely = closed.expected(p, p.cheats)
    metrics = {
        **mean_of("attacker_profit", fraud["attacker"]),
        **mean_of("honest_profit", honest["attacker"]),
        **mean_of("advantage", advantage),
        **mean_of("watcher_profit", fraud["watchers"]),
        **mean_of("requester_profit", fraud["requester"]),
        **mean_of("burnt", fraud["burnt"]),
        **mean_of("stolen", fraud["stolen"]),
        **share_of("detection", fraud["caught"]),
        **mean_of("conviction_delay_seconds", fraud["conviction_delay_seconds"]),
        "expected_attacker_profit": value(likely["attacker"]),
        "expected_advantage": value(closed.fraud_pays(p, p.cheats)),
        "expected_detection": value(likely["caught"]),
        "break_even_stake": value(closed.break_even_stake(p, p.cheats)),
        "break_even_audit_rate": value(closed.break_even_audit_rate(p, p.cheats)),
        "least_stake": None if p.requester_in_league else value(sufficient_stake(p)),
        "imbalance": value(max(fraud["imbalance"].mean, honest["imbalance"].mean)),
    }
    return Outcome(metrics, {"fraud": table(FATES, fates(fraud)), "honest": table(FATES, fates(honest))})


def sufficient_stake(setting: Setting) -> float | None:
    """What ``contracts.economics.least_stake`` asks for one milestone, in bounties; None where no stake is enough.

    It is enough wherever a trainer cheats that gains by honest work, whatever work that saves, with the quickest of friends. The
    detection is that of a fraud in one segment: what was paid before a later one is found stays with the trainer.
    """
    gas = setting.gas_unit * closed.mean_gas_price(setting.gas_price, setting.gas_spread)
    dispute = gas * max(costs().challenger(path).gas for path in PATHS)
    milestone, reward_share = ceil(PRECISION / setting.segments), round(setting.reward_share * 10_000)
    try:
        return least_stake(milestone, closed.found(setting), reward_share, round(dispute * PRECISION)) / PRECISION
    except UsageError:
        return None


@dataclass(frozen=True)
class Detection:
    """A trainer that cheats in ``cheated`` segments, and watchers that audit each of them independently."""

    watchers: int = quantity(1, "watchers of each job", "watchers", least=0, most=10_000)
    audit_rate: float = quantity(0.1, "probability that a watcher replays a segment", "probability", **SHARE)
    cheated: int = quantity(10, "segments in which the trainer cheats", "segments", least=1, most=1024)
    held_up: float = quantity(
        0.0, "probability that censorship holds challengers up until a segment's window is over", "probability", **SHARE
    )
    held_up_alike: bool = quantity(True, "whether censorship holds up all challengers or none, rather than each by itself")
    episodes: int = quantity(20_000, "jobs to play", "jobs", least=2, most=100_000_000)

    @property
    def setting(self) -> Setting:
        """The same as a setting of jobs."""
        return Setting(
            segments=self.cheated,
            watchers=self.watchers,
            audit_rate=self.audit_rate,
            held_up=self.held_up,
            held_up_alike=self.held_up_alike,
        )


DETECTION = (
    Column("segments", "segments", "frauds committed so far"),
    Column("detection", "probability", "share of jobs in which one of them was found and disputed in time"),
    Column("detection_low", "probability", "lower bound of the 95 % confidence interval"),
    Column("detection_high", "probability", "upper bound"),
    Column("expected", "probability", "by the closed form"),
)


def run_detection(p: Detection, seed: int) -> Outcome:
    """How surely fraud is found, by the number of frauds so far."""
    when = np.zeros(p.cheated + 1, np.int64)
    for number, size in blocks(p.episodes, at_once(p.cheated)):
        when += found_at(p, size, generator(seed, "detection", number))
    by = np.cumsum(when)[:-1]
    chance = closed.found(p.setting)
    rows: list[dict[str, Value]] = [
        {
            "segments": k + 1,
            **share_of("detection", _share(int(caught), p.episodes)),
            "expected": value(closed.detected(k + 1, chance)),
        }
        for k, caught in enumerate(by)
    ]
    last = rows[-1]
    named = ("detection", "detection_low", "detection_high")
    first = float((when[:-1] * np.arange(1, p.cheated + 1)).sum() / by[-1]) if by[-1] else None
    metrics = {
        **{name: last[name] for name in named},
        "expected_detection": last["expected"],
        "segment_detection": rows[0]["detection"],
        "expected_segment_detection": value(chance),
        "segments_until_found": value(first),
    }
    return Outcome(metrics, {"detection": table(DETECTION, rows)})


def found_at(p: Detection, size: int, random: np.random.Generator) -> Ints:
    """How many of ``size`` jobs are found out at each cheated segment; the last entry counts those that never are."""
    _, finders = looks(p.setting, size, p.cheated, random)
    disputed = finders > 0
    at = np.where(disputed.any(axis=1), disputed.argmax(axis=1), p.cheated)
    return np.bincount(at, minlength=p.cheated + 1)


def _share(hits: int, episodes: int) -> Moments:
    """The moments of so many ones among zeros."""
    mean = hits / episodes
    return Moments(episodes, mean, episodes * mean * (1 - mean))
