"""Closed forms of what sims/economy/model.py simulates: expectations, exact but for rounding.

Each follows from the same assumptions by another way than drawing. They check the simulation, and answer where it is too slow.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import exp

import numpy as np

from sims.economy.costs import costs
from sims.economy.draws import normal
from sims.economy.model import ROLES, posted_and_paid
from sims.economy.setting import PATHS, Cheats, Setting

__all__ = [
    "break_even_audit_rate",
    "break_even_stake",
    "detected",
    "expected",
    "found",
    "fraud_pays",
    "gas_price_above",
    "mean_gas_price",
]

HALVINGS = 60


def detected(segments: int, chance: float) -> float:
    """The probability that one of so many frauds is found, each with the probability ``chance``: 1 - (1 - chance)^segments."""
    return 1.0 - (1.0 - chance) ** segments


def found(setting: Setting) -> float:
    """The probability that a fraud in one segment is found and disputed in time."""
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


def _cheats(setting: Setting, cheats: Cheats | None) -> tuple[list[int], int]:
    """The segments in which the first cheat may be, equally likely, and the number of cheats."""
    if cheats is None:
        return [setting.segments], 0
    if cheats == "all":
        return [0], setting.segments
    return ([setting.segments - 1] if cheats == "last" else list(range(setting.segments))), 1


def expected(setting: Setting, cheats: Cheats | None) -> dict[str, float]:
    """The expectations of the columns of ``play``, and of ``attacker``, for one sort of trainer. Without ``delay_seconds``."""
    s, (firsts, count), chance = setting, _cheats(setting, cheats), found(setting)
    total = dict.fromkeys((*ROLES, "caught", "stolen", "audits"), 0.0)
    for path, first in product(PATHS, firsts):
        weight = (s.slow_share if path == "slow" else 1 - s.slow_share) / len(firsts)
        for k in range(count):
            posted, paid = posted_and_paid(s, np.array([first + k]), np.array([s.caught_after(path)]))
            likely = (1 - chance) ** k * chance
            _add(total, weight * likely, s, path, first, count, int(posted[0]), int(paid[0]), True)
        _add(total, weight * (1 - chance) ** count, s, path, first, count, s.segments, s.segments, False)
    return total | {"attacker": total["trainer"] + total["friend"]}


def _add(
    total: dict[str, float], weight: float, s: Setting, path: str, first: int, count: int, posted: int, paid: int, hit: bool
) -> None:
    """Add one outcome's conditional expectations, with its weight.

    The number of audits is that of posted segments times watchers times rate only when all outcomes are added up (Wald's identity).
    """
    if not weight:
        return
    cost, gas = costs(), s.gas_unit * mean_gas_price(s.gas_price, s.gas_spread)
    losers, friend = (0.0 if hit else s.losers), s.friend * hit
    chance = found(s)
    seconds = s.rivals * (s.watchers * s.audit_rate * (1 - s.held_up) / chance - 1) if hit else 0.0
    cheated = min(max(posted - first, 0), count)
    work = s.work_cost / s.segments * (posted - s.saved * cheated)
    audits = posted * s.watchers * s.audit_rate
    bounty, lost = paid / s.segments, s.stake * hit
    spent = {
        "trainer": gas * (cost.claim + cost.post_segment * posted + cost.finalise * paid + cost.trainer(path).gas * (hit + losers)),
        "friend": gas * cost.opening(path) * friend,
        "requester": gas * cost.open_job,
        "watchers": gas * (cost.challenger(path).gas * hit + cost.opening(path) * seconds),
        "losers": gas * cost.challenger(path).gas * losers,
    }
    row = {
        "trainer": bounty - lost + s.bond * losers - work - spent["trainer"],
        "friend": s.reward_share * lost * friend - spent["friend"],
        "requester": (1 - s.burn_share - s.reward_share) * lost - bounty - spent["requester"],
        "watchers": s.reward_share * lost * (1 - friend) - s.replay * audits - spent["watchers"],
        "losers": -s.bond * losers - spent["losers"],
        "burnt": s.burn_share * lost,
        "gas": sum(spent.values()),
        "compute": work + s.replay * audits,
        "caught": float(hit),
        "stolen": min(max(paid - first, 0), count) / s.segments,
        "audits": audits,
    }
    for name, value in row.items():
        total[name] += weight * value


def fraud_pays(setting: Setting, cheats: Cheats) -> float:
    """By how much fraud is better than honest work for a trainer and its friend, in bounties."""
    return expected(setting, cheats)["attacker"] - expected(setting, None)["attacker"]


def break_even_stake(setting: Setting, cheats: Cheats) -> float | None:
    """The stake at which fraud is as good as honest work, in bounties: 0 if it never pays, None if no stake deters it."""
    bare = fraud_pays(replace(setting, stake=0.0), cheats)
    per_stake = bare - fraud_pays(replace(setting, stake=1.0), cheats)
    if bare <= 0:
        return 0.0
    return bare / per_stake if per_stake > 1e-15 else None


def break_even_audit_rate(setting: Setting, cheats: Cheats) -> float | None:
    """The least audit rate of each watcher at which fraud does not pay: None if it pays at any."""

    def pays(rate: float) -> bool:
        return fraud_pays(replace(setting, audit_rate=rate), cheats) > 0

    if pays(1.0):
        return None
    low, high = 0.0, 1.0
    if not pays(low):
        return 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if pays(middle) else (low, middle)
    return high
