"""Closed forms of what sims/economy/model.py simulates: expectations, exact but for rounding.

Each follows from the same assumptions by another way than drawing. They check the simulation, and answer where it is too slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp

import numpy as np

from sims.economy.costs import costs
from sims.economy.draws import Floats, Ints, normal
from sims.economy.rules import ROLES, posted_and_paid
from sims.economy.setting import Cheats, Setting

__all__ = [
    "Plan",
    "break_even_audit_rate",
    "break_even_stake",
    "detected",
    "expected",
    "found",
    "fraud_pays",
    "gas_price_above",
    "last_ones",
    "mean_gas_price",
    "of_plan",
    "plan_of",
    "worst_plans",
    "worth",
]

HALVINGS = 50
NOTHING = 1e-15


def detected(segments: int, chance: float) -> float:
    """The probability that one of so many frauds is found, each with the probability ``chance``: 1 - (1 - chance)^segments."""
    return 1.0 - (1.0 - chance) ** segments


def found(setting: Setting) -> float:
    """The probability that a fraud in one segment is found and disputed in time."""
    if not setting.in_time:
        return 0.0
    passed = 1 - setting.held_up
    if setting.held_up_alike:
        return detected(setting.watchers, setting.audit_rate) * passed
    return detected(setting.watchers, setting.audit_rate * passed)


def mean_gas_price(median: float, spread: float) -> float:
    """The mean of a lognormal gas price."""
    return median * exp(spread * spread / 2)


def gas_price_above(price: float, median: float, spread: float) -> float:
    """The probability that a lognormal gas price exceeds ``price``."""
    if not median or not spread or price <= 0:
        return float(median > price)
    return 1 - normal(float(np.log(price / median)) / spread)


@dataclass(frozen=True)
class _Ways:
    """The ways in which a job can end: the segment first cheated in, the one convicted for, whether one is, and the probability."""

    first: Ints
    caught: Ints
    hit: Floats
    weight: Floats


def _ways(setting: Setting, plan: Plan) -> _Ways:
    chance, k = found(setting), np.arange(plan.count + 1)
    weight = (1 - chance) ** k * np.where(k < plan.count, chance, 1.0)
    firsts = np.asarray(plan.firsts, np.int64)
    first = np.repeat(firsts, len(k))
    return _Ways(
        first,
        first + np.tile(k, len(firsts)),
        np.tile((k < plan.count).astype(np.float64), len(firsts)),
        np.tile(weight, len(firsts)) / len(firsts),
    )


def expected(setting: Setting, cheats: Cheats | None) -> dict[str, float]:
    """The expectations of the columns of ``play`` but for delays, and of ``attacker``, for one sort of trainer."""
    return of_plan(setting, plan_of(setting, cheats))


def of_plan(setting: Setting, plan: Plan) -> dict[str, float]:
    """The same for a trainer with this plan."""
    total = _money(setting, plan)
    shared = sum(total[role] for role in setting.attackers)
    return total | {"attacker": shared + worth(setting) * (1 - total["caught"])}


@lru_cache(4096)
def worth(setting: Setting) -> float:
    """What a completed job is worth to the attackers, beside the money in it, in bounties.

    Nothing, unless the requester is one of them, so that its bounty changes no purse. Then it is what honest work costs them: if it
    were worth less, nobody would post the job, and if it is worth more, honest work, which is always completed, gains most by that.
    """
    if "requester" not in setting.attackers:
        return 0.0
    honest = _money(setting, plan_of(setting, None))
    return -sum(honest[role] for role in setting.attackers)


def _money(setting: Setting, plan: Plan) -> dict[str, float]:
    ways, total = _ways(setting, plan), dict.fromkeys((*ROLES, "caught", "stolen", "audits"), 0.0)
    for path, share in (("fast", 1 - setting.slow_share), ("slow", setting.slow_share)):
        for name, column in _columns(setting, path, plan.count, ways).items():
            total[name] += share * float(ways.weight @ column)
    return total


def _columns(s: Setting, path: str, count: int, ways: _Ways) -> dict[str, Floats]:
    """What ``play`` has in its columns on average, in each way of ending.

    The number of audits is that of posted segments times watchers times rate only when all ways are added up (Wald's identity).
    """
    cost, gas, chance, hit = costs(), s.gas_unit * mean_gas_price(s.gas_price, s.gas_spread), found(s), ways.hit
    posted, paid = posted_and_paid(s, ways.caught, np.full(len(hit), s.caught_after(path)))
    posted, paid = np.where(hit, posted, s.segments), np.where(hit, paid, s.segments)
    losers, friend = s.losers * (1 - hit), s.friend * hit
    seconds = s.rivals * (s.watchers * s.audit_rate * (1 - s.held_up) / chance - 1) * hit if chance else 0.0 * hit
    work = s.work_cost / s.segments * (posted - s.saved * np.clip(posted - ways.first, 0, count))
    audits = posted * (s.watchers * s.audit_rate)
    bounty, lost = paid / s.segments, s.stake * hit
    spent = {
        "trainer": gas * (cost.claim + cost.post_segment * posted + cost.finalise * paid + cost.trainer(path).gas * (hit + losers)),
        "friend": gas * cost.opening(path) * friend,
        "requester": gas * cost.open_job * np.ones_like(hit),
        "watchers": gas * (cost.challenger(path).gas * hit + cost.opening(path) * seconds),
        "losers": gas * cost.challenger(path).gas * losers,
    }
    return {
        "trainer": bounty - lost + s.bond * losers - work - spent["trainer"],
        "friend": s.reward_share * lost * friend - spent["friend"],
        "requester": (1 - s.burn_share - s.reward_share) * lost - bounty - spent["requester"],
        "watchers": s.reward_share * lost * (1 - friend) - s.replay * audits - spent["watchers"],
        "losers": -s.bond * losers - spent["losers"],
        "burnt": s.burn_share * lost,
        "gas": sum(spent.values(), np.zeros_like(hit)),
        "compute": work + s.replay * audits,
        "caught": hit,
        "stolen": np.clip(paid - ways.first, 0, count) / s.segments,
        "audits": audits,
    }


# What a trainer does, and when it does not ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A trainer cheats in ``count`` segments, from one of ``firsts`` on, which are equally likely."""

    firsts: Sequence[int]
    count: int


def last_ones(setting: Setting, count: int) -> Plan:
    """Cheating in so many of the last segments."""
    return Plan((setting.segments - count,), count)


@lru_cache(64)
def worst_plans(segments: int) -> tuple[Plan, ...]:
    """Cheating in some of the first segments, or in some of the last: among these is a plan that pays, if any does.

    Who is convicted early has spent little, who is convicted late has been paid most. In between a conviction costs more, so that a
    trainer that cheats there does better to cheat at one end. Of many numbers of segments these are those about an eighth apart.
    """
    counts, count = [], 1
    while count < segments:
        counts.append(count)
        count += max(1, count // 8)
    last = (Plan((segments - count,), count) for count in (*counts, segments))
    return (*last, *(Plan((0,), count) for count in counts))


@lru_cache(4096)
def plan_of(setting: Setting, cheats: Cheats | None) -> Plan:
    """What a trainer of this sort does in this setting; None is honest."""
    if cheats == "one":
        return Plan(range(setting.segments), 1)
    if cheats == "worst":
        return max(worst_plans(setting.segments), key=lambda plan: of_plan(setting, plan)["attacker"])
    count = {None: 0, "all": setting.segments, "last": min(setting.cheated, setting.segments)}[cheats]
    return last_ones(setting, count)


def fraud_pays(setting: Setting, cheats: Cheats) -> float:
    """By how much fraud is better than honest work for the attackers, in bounties."""
    return expected(setting, cheats)["attacker"] - expected(setting, None)["attacker"]


def break_even_stake(setting: Setting, cheats: Cheats) -> float | None:
    """The stake from which on fraud is no better than honest work, in bounties: 0 if it never pays, None if no stake deters it."""
    bare, unit = replace(setting, stake=0.0), replace(setting, stake=1.0)
    honest, needed = expected(bare, None)["attacker"], 0.0
    for plan in worst_plans(setting.segments) if cheats == "worst" else (plan_of(setting, cheats),):
        gained = of_plan(bare, plan)["attacker"] - honest
        per_stake = of_plan(bare, plan)["attacker"] - of_plan(unit, plan)["attacker"]
        if gained <= 0:
            continue
        if per_stake < NOTHING:
            return None
        needed = max(needed, gained / per_stake)
    return needed


def break_even_audit_rate(setting: Setting, cheats: Cheats) -> float | None:
    """The least audit rate of each watcher at which fraud does not pay: None if it pays at any."""

    def paying(plans: Sequence[Plan], rate: float) -> Sequence[Plan]:
        at = replace(setting, audit_rate=rate)
        honest = expected(at, None)["attacker"]
        return [plan for plan in plans if of_plan(at, plan)["attacker"] > honest]

    plans: Sequence[Plan] = worst_plans(setting.segments) if cheats == "worst" else (plan_of(setting, cheats),)
    if paying(plans, 1.0):
        return None
    plans = paying(plans, 0.0)
    if not plans:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if still := paying(plans, middle):
            low, plans = middle, still
        else:
            high = middle
    return high
