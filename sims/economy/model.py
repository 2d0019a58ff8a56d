"""A job as an episode: who has gained what at its end, for as many jobs at once as memory holds.

A trainer works on segment after segment and posts each; it cheats in some. Each watcher replays each posted segment with
probability ``audit_rate``, and disputes what it finds false, unless it is held up until the window is over. The first fraud
so disputed convicts: that the contracts give right verdicts is what the chain level tests. By then, ``Setting.caught_after``
after the segment was posted, later segments may have been posted, and earlier ones may be final and paid. A job without
conviction is paid in full.

Every payment has a payer and a payee, so that the columns of ``ROLES`` add up to zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sims.economy.closed import Plan, plan_of, worth
from sims.economy.costs import costs
from sims.economy.draws import BLOCK, Floats, Ints, Tally, blocks, generator
from sims.economy.rules import ROLES, posted_and_paid
from sims.economy.setting import Cheats, Setting

__all__ = ["at_once", "derived", "first_cheats", "jobs", "looks", "play"]


DRAWS = 1 << 19


def at_once(segments: int) -> int:
    """How many jobs of so many segments are played at once: few enough for the draws of each segment to fit a processor's cache."""
    return max(BLOCK // 32, min(BLOCK, DRAWS // segments))


def first_cheats(plan: Plan, size: int, random: np.random.Generator) -> Ints:
    """In which segment each of ``size`` trainers cheats first."""
    firsts = np.asarray(plan.firsts, np.int64)
    return firsts[random.integers(0, len(firsts), size)]


def looks(setting: Setting, size: int, count: int, random: np.random.Generator) -> tuple[Ints, Ints]:
    """For each of ``count`` frauds of ``size`` jobs, how many watchers replay it, and how many of those can dispute it in time."""
    auditors = random.binomial(setting.watchers, setting.audit_rate, (size, count))
    if not setting.in_time:
        return auditors, np.zeros_like(auditors)
    if setting.held_up_alike:
        return auditors, auditors * (random.random((size, count)) >= setting.held_up)
    return auditors, random.binomial(auditors, 1 - setting.held_up)


def play(setting: Setting, first: Ints, count: int, random: np.random.Generator) -> dict[str, Floats]:
    """Jobs whose trainers cheat in ``count`` segments from ``first`` (one number a job) on. Each column has one number a job:

    the ROLES         what remains with each, in bounties
    caught            1 or 0
    stolen            what was paid for cheated segments, in bounties
    audits            segments replayed, by all watchers together
    conviction_delay_seconds   from the posting of the segment to its conviction; NaN without one
    completion_delay_seconds   from when the job could have been completed at the earliest; NaN with a conviction
    """
    size, s, cost = len(first), setting, costs()
    gas = s.gas_unit * s.gas_price * np.exp(s.gas_spread * random.standard_normal(size))
    slow = random.random(size) < s.slow_share

    auditors, finders = looks(s, size, count, random)
    disputed = finders > 0
    hit = disputed.any(axis=1)
    which = np.where(hit, disputed.argmax(axis=1) if count else 0, count - 1)  # the last cheat that anyone could look at
    caught = first + which

    after = np.where(slow, s.caught_after("slow"), s.caught_after("fast"))
    posted, paid = posted_and_paid(s, caught, after)
    posted, paid = np.where(hit, posted, s.segments), np.where(hit, paid, s.segments)
    seen = np.arange(count) <= which[:, None]
    looked = (auditors * seen).sum(axis=1) + random.binomial(s.watchers * (posted - seen.sum(axis=1)), s.audit_rate)
    convicting = finders[np.arange(size), which] * hit if count else np.zeros(size, np.int64)
    seconds = random.binomial(np.maximum(convicting - 1, 0), s.rivals)
    outranked = hit & (random.random(size) < s.friend)
    losers = random.poisson(s.losers, size) * ~hit

    def by_path(fast: int, other: int) -> Floats:
        return np.where(slow, other, fast).astype(np.float64)

    opening = by_path(cost.opening("fast"), cost.opening("slow"))
    game_of_trainer = by_path(cost.fast_trainer.gas, cost.slow_trainer.gas)
    game_of_challenger = by_path(cost.fast_challenger.gas, cost.slow_challenger.gas)

    cheated = np.clip(posted - first, 0, count)
    work = s.work_cost / s.segments * (posted - s.saved * cheated)
    bounty, lost = paid / s.segments, s.stake * hit
    reward = s.reward_share * lost
    gas_of = {
        "trainer": gas * (cost.claim + cost.post_segment * posted + cost.finalise * paid + game_of_trainer * (hit + losers)),
        "friend": gas * opening * outranked,
        "requester": gas * cost.open_job,
        "watchers": gas * (game_of_challenger * hit + opening * seconds),
        "losers": gas * game_of_challenger * losers,
    }
    compute = {"trainer": work, "watchers": s.replay * looked}
    before = {
        "trainer": bounty - lost + s.bond * losers,
        "friend": reward * outranked,
        "requester": (1 - s.burn_share - s.reward_share) * lost - bounty,
        "watchers": reward * ~outranked,
        "losers": -s.bond * losers,
        "burnt": s.burn_share * lost,
        "gas": sum(gas_of.values(), np.zeros(size)),
        "compute": work + compute["watchers"],
    }
    columns = {role: before[role] - gas_of.get(role, 0.0) - compute.get(role, 0.0) for role in ROLES}
    columns["caught"] = hit.astype(np.float64)
    columns["stolen"] = np.clip(paid - first, 0, count) / s.segments
    columns["audits"] = looked.astype(np.float64)
    columns["conviction_delay_seconds"] = np.where(hit, after, np.nan)
    columns["completion_delay_seconds"] = np.where(hit, np.nan, _held_up_by(s, losers, slow, random))
    return columns


def _held_up_by(s: Setting, losers: Ints, slow: NDArray[np.bool_], random: np.random.Generator) -> Floats:
    """By how much wrong challenges, each opened in the last second of some segment's window, put off the completion, in seconds."""
    latest = np.floor(s.segments * random.random(len(losers)) ** (1 / np.maximum(losers, 1)))  # the greatest of so many segments
    takes = np.where(slow, s.dispute_seconds("slow", "challenger"), s.dispute_seconds("fast", "challenger"))
    return np.maximum(0.0, takes - (s.segments - 1 - latest) * s.segment_seconds) * (losers > 0)


def jobs(setting: Setting, cheats: Cheats | None, episodes: int, seed: int, label: str, *numbers: int) -> Tally:
    """The moments of all columns of ``play``, and of ``attacker``, over so many jobs of one sort of trainer.

    ``label`` and ``numbers`` name the draws: other names, other draws.
    """
    tally, plan = Tally(), plan_of(setting, cheats)
    for number, size in blocks(episodes, at_once(setting.segments)):
        random = generator(seed, label, *numbers, number)
        columns = play(setting, first_cheats(plan, size, random), plan.count, random)
        tally.add(columns | derived(setting, columns))
    return tally


def derived(setting: Setting, columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """Sums of columns that are asked for: what the attackers have together, and how far the books are from zero."""
    shared = np.sum([columns[role] for role in setting.attackers], axis=0)
    return {
        "attacker": shared + worth(setting) * (1 - columns["caught"]),
        "imbalance": np.abs(np.sum([columns[role] for role in ROLES], axis=0)),
    }
