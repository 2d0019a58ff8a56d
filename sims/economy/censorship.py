"""A fraud whose challenger is censored: whether and when it gets through window and clock all the same, and what the censor pays.

A transaction goes into the next block unless that one is the censor's and there is budget left. A commitment that expires
meanwhile is assumed to be renewed in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log
from typing import Literal

import numpy as np

from sims.economy.costs import costs
from sims.economy.draws import Floats, Ints, Tally, blocks, generator, normal
from sims.economy.setting import OPENING, SHARE, quantity
from sims.economy.told import mean_of, share_of, value
from sims.result import Outcome, Value

__all__ = ["Censorship", "convicted", "play", "run_censorship", "simulate"]


@dataclass(frozen=True)
class Censorship:
    """The censor, the challenger's times, the protocol's, and what is at stake."""

    budget_seconds: float = quantity(
        43_200.0, "for how long the censor can keep transactions out, in all", "s", least=0.0, most=1e8
    )
    policy: Literal["window", "game", "even"] = quantity(
        "window", "window: at once, from the commitment on; game: at once, in the game; even: a slice before each transaction"
    )
    censored_blocks: float = quantity(1.0, "share of blocks that leave out what the censor wants out", "of blocks", **SHARE)
    bribe: float = quantity(
        0.0, "what the censor pays for a block that would have taken a transaction", "bounties", least=0.0, most=1.0
    )
    path: Literal["fast", "slow"] = quantity("fast", "path of the dispute")
    trainer_stalls: bool = quantity(True, "whether the trainer uses up its own clock too")
    replay_seconds: float = quantity(21_600.0, "median of what replaying the segment takes the watcher", "s", least=1.0, most=1e8)
    replay_spread: float = quantity(0.25, "standard deviation of the logarithm of that time", "", least=0.0, most=3.0)
    window_seconds: float = quantity(86_400.0, "challenge window", "s", least=1.0, most=1e8)
    trainer_clock: float = quantity(172_800.0, "the trainer's time in one game", "s", least=1.0, most=1e8)
    challenger_clock: float = quantity(172_800.0, "the challenger's time in one game", "s", least=1.0, most=1e8)
    block_seconds: float = quantity(12.0, "time between blocks", "s", least=0.1, most=3600.0)
    stake: float = quantity(1.0, "what the trainer stakes", "bounties", least=0.0, most=1e6)
    reward_share: float = quantity(0.4, "share of a slashed stake that the rewarded challenger gets", "of the stake", **SHARE)
    friend: float = quantity(0.0, "probability that the trainer's friend gets the reward", "probability", **SHARE)
    episodes: int = quantity(20_000, "frauds to play", "frauds", least=2, most=10_000_000)

    @property
    def moves(self) -> int:
        """The challenger's transactions in the game, after its opening."""
        return costs().challenger(self.path).transactions - OPENING

    @property
    def budget_blocks(self) -> int:
        """Whole blocks within the budget."""
        return int(self.budget_seconds / self.block_seconds)

    @property
    def trainer_seconds(self) -> float:
        """What the trainer spends of its clock."""
        own = costs().trainer(self.path).transactions * self.block_seconds
        return self.trainer_clock if self.trainer_stalls else min(own, self.trainer_clock)

    @property
    def bound_seconds(self) -> float:
        """From the segment to the last second in which it can be convicted."""
        return self.window_seconds + self.trainer_clock + self.challenger_clock


def _waits(p: Censorship, left: Ints, random: np.random.Generator) -> Ints:
    """For how many blocks one transaction is kept out, with so many left in the censor's budget."""
    if p.censored_blocks == 1:
        return left
    if p.censored_blocks == 0:
        return np.zeros_like(left)
    return np.minimum(random.geometric(1 - p.censored_blocks, left.shape) - 1, left)


def play(p: Censorship, size: int, random: np.random.Generator) -> dict[str, Floats]:
    """So many frauds: whether each was opened in time, and convicted; what the attacker has, in bounties; and the delay in
    seconds from the segment to the verdict, or to the end of the window or of the challenger's clock.
    """
    opened_at = p.replay_seconds * np.exp(p.replay_spread * random.standard_normal(size))
    in_game = np.zeros(size)
    total = OPENING + p.moves
    left = np.full(size, p.budget_blocks)
    used = np.zeros(size, np.int64)
    for number in range(total):
        if p.policy == "even":
            share = p.budget_blocks * (number + 1) // total - p.budget_blocks * number // total
            waits = _waits(p, np.full(size, share), random)
        elif p.policy == "game" and number < OPENING:
            waits = np.zeros(size, np.int64)
        else:
            waits = _waits(p, left, random)
            left = left - waits
        seconds = (waits + 1) * p.block_seconds
        if number < OPENING:
            opened_at += seconds
            used += waits
            in_time = opened_at <= p.window_seconds
        else:
            used += np.where(in_time & (in_game <= p.challenger_clock), waits, 0)
            in_game += seconds
    moved = in_game <= p.challenger_clock
    convicted = in_time & moved
    profit = np.where(convicted, -(1 - p.friend * p.reward_share) * p.stake, 1.0) - p.bribe * used
    ends = np.where(in_time, opened_at + np.minimum(in_game, p.challenger_clock) + p.trainer_seconds, p.window_seconds)
    return {
        "opened": in_time.astype(np.float64),
        "convicted": convicted.astype(np.float64),
        "delay_seconds": ends,
        "censored_blocks": used.astype(np.float64),
        "attacker_profit": profit,
    }


def simulate(p: Censorship, seed: int) -> tuple[Tally, float]:
    """The moments of all columns, and the longest delay of all."""
    tally, longest = Tally(), 0.0
    for number, size in blocks(p.episodes):
        columns = play(p, size, generator(seed, "censorship", number))
        longest = max(longest, float(columns["delay_seconds"].max()))
        tally.add(columns)
    return tally, longest


def convicted(p: Censorship) -> float | None:
    """The probability of a conviction, where every block within the budget is the censor's; None elsewhere.

    The replay has to end early enough to leave time for what is censored before the opening, and the clock has to hold what is
    censored after it.
    """
    if p.censored_blocks != 1:
        return None
    total = OPENING + p.moves
    before = {"window": p.budget_blocks, "game": 0, "even": p.budget_blocks * OPENING // total}[p.policy]
    if (p.budget_blocks - before + p.moves) * p.block_seconds > p.challenger_clock:
        return 0.0
    spare = p.window_seconds - (before + OPENING) * p.block_seconds
    margin = log(spare / p.replay_seconds) if spare > 0 else -inf
    return normal(margin / p.replay_spread) if p.replay_spread and spare > 0 else float(margin >= 0)


def run_censorship(p: Censorship, seed: int) -> Outcome:
    """How often the fraud is convicted all the same, how late, and what it earns."""
    tally, longest = simulate(p, seed)
    metrics: dict[str, Value] = {
        **share_of("detection", tally["convicted"]),
        **share_of("opened", tally["opened"]),
        **mean_of("delay_seconds", tally["delay_seconds"]),
        "longest_delay_seconds": value(longest),
        "bound_seconds": value(p.bound_seconds),
        **mean_of("attacker_profit", tally["attacker_profit"]),
        **mean_of("censored_blocks", tally["censored_blocks"]),
        "expected_detection": value(convicted(p)),
        "safe_budget_seconds": value(safe_budget(p)),
    }
    return Outcome(metrics)


def safe_budget(p: Censorship) -> float:
    """The longest censorship that a watcher of median speed survives, whenever the censor spends it."""
    before = p.window_seconds - p.replay_seconds - OPENING * p.block_seconds
    return max(0.0, min(before, p.challenger_clock - p.moves * p.block_seconds))
