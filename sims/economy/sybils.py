"""N challengers of one purse that open games about honest work in the last second of its window: what they cost and delay."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from sims.economy import closed
from sims.economy.costs import Side, costs
from sims.economy.draws import Floats, Tally, blocks, generator
from sims.economy.setting import quantity
from sims.economy.told import mean_of, share_of, value
from sims.result import Outcome, Value

__all__ = ["Sybils", "play", "run_sybils", "simulate", "trainer_gains"]

GAMES = 1 << 18  # games held at once


@dataclass(frozen=True)
class Sybils:
    """The attack, the trainer's means, and the chain. Raises ValueError for more games than can be played in reasonable time."""

    sybils: int = quantity(16, "identities of the attacker, each with a game and a bond", "games", least=1, most=100_000)
    path: Literal["fast", "slow"] = quantity("slow", "which kind of game they open; the slow one costs most")
    stalls: bool = quantity(True, "whether they use up their clocks, to the last second")
    bond_eth: float = quantity(0.221, "the bond of a game", "ETH", least=0.0, most=1e9)
    gas_price: float = quantity(1.0, "median of the gas price", "gwei", least=0.0, most=1e6)
    gas_spread: float = quantity(0.5, "standard deviation of the logarithm of the gas price", "", least=0.0, most=3.0)
    trainer_clock: float = quantity(172_800.0, "the trainer's time in one game", "s", least=1.0, most=1e9)
    challenger_clock: float = quantity(172_800.0, "the challenger's time in one game", "s", least=1.0, most=1e9)
    block_seconds: float = quantity(12.0, "time between blocks", "s", least=0.1, most=3600.0)
    trainer_slots: int = quantity(20, "transactions of the trainer that one block takes", "transactions", least=1, most=100_000)
    latency_seconds: float = quantity(30.0, "mean time in which the trainer finds an answer, exponential", "s", least=0.0, most=1e6)
    episodes: int = quantity(1_000, "attacks to play", "attacks", least=2, most=10_000_000)

    def __post_init__(self) -> None:
        if self.sybils * self.episodes > 2 * 10**8:
            raise ValueError(f"{self.sybils} games in {self.episodes} attacks; expected at most 200,000,000 in all")

    @property
    def sides(self) -> tuple[Side, Side]:
        """The trainer's side of each game, and the challenger's."""
        return costs().trainer(self.path), costs().challenger(self.path)

    @property
    def bound_seconds(self) -> float:
        """What the protocol promises: however many games run side by side, they are over when both clocks are."""
        return self.trainer_clock + self.challenger_clock


def play(p: Sybils, size: int, random: np.random.Generator) -> dict[str, Floats]:
    """So many attacks: delay of the job in seconds, whether a game was lost to the trainer's clock, the most that it had to
    spend of it, and money of both sides in ETH.

    All games are at the same move at the same time, as is worst for the trainer: its answers queue for places in blocks.
    """
    trainer, challenger = p.sides
    spent = np.zeros((size, p.sybils))
    rounds = ceil(p.sybils / p.trainer_slots)
    for _ in range(trainer.transactions):
        queue = 1 + random.integers(0, rounds, spent.shape)
        spent += random.exponential(p.latency_seconds, spent.shape) + queue * p.block_seconds
    stalled = p.challenger_clock if p.stalls else min(p.challenger_clock, challenger.transactions * p.block_seconds)
    late = spent > p.trainer_clock
    lost = late.any(axis=1)
    # The first game that convicts ends the attempt, and all other games with it.
    ends = np.minimum(spent, p.trainer_clock) + stalled
    gwei = p.gas_price * np.exp(p.gas_spread * random.standard_normal(size)) * 1e-9
    kept = np.where(lost, 0, p.sybils)  # bonds that the trainer wins
    attacker = -kept * p.bond_eth - gwei * p.sybils * challenger.gas
    honest = kept * p.bond_eth - gwei * p.sybils * trainer.gas
    return {
        "delay_seconds": ends.max(axis=1),
        "trainer_lost": lost.astype(np.float64),
        "trainer_spent_seconds": spent.max(axis=1),
        "attacker_profit_eth": attacker,
        "trainer_profit_eth": honest,
        "trainer_gained": (honest >= 0).astype(np.float64),
    }


def simulate(p: Sybils, seed: int) -> tuple[Tally, float]:
    """The moments of all columns, and the longest delay of all."""
    tally, longest = Tally(), 0.0
    for number, size in blocks(p.episodes, max(1, min(8192, GAMES // p.sybils))):
        columns = play(p, size, generator(seed, "sybils", number))
        longest = max(longest, float(columns["delay_seconds"].max()))
        tally.add(columns)
    return tally, longest


def trainer_gains(p: Sybils) -> float:
    """The probability that a bond repays the trainer's gas, if no clock runs out: that of a gas price below bond / gas."""
    return 1 - closed.gas_price_above(p.bond_eth / p.sides[0].gas * 1e9, p.gas_price, p.gas_spread)


def run_sybils(p: Sybils, seed: int) -> Outcome:
    """Delay against the protocol's bound, and money of both sides, without what is slashed if a clock runs out."""
    tally, longest = simulate(p, seed)
    gas = closed.mean_gas_price(p.gas_price, p.gas_spread) * 1e-9
    trainer, challenger = p.sides
    metrics: dict[str, Value] = {
        **mean_of("delay_seconds", tally["delay_seconds"]),
        "longest_delay_seconds": value(longest),
        "bound_seconds": value(p.bound_seconds),
        **share_of("trainer_lost", tally["trainer_lost"]),
        **mean_of("trainer_spent_seconds", tally["trainer_spent_seconds"]),
        **mean_of("attacker_profit_eth", tally["attacker_profit_eth"]),
        **mean_of("trainer_profit_eth", tally["trainer_profit_eth"]),
        **share_of("trainer_gained", tally["trainer_gained"]),
        "expected_attacker_profit_eth": value(-p.sybils * (p.bond_eth + gas * challenger.gas)),
        "expected_trainer_profit_eth": value(p.sybils * (p.bond_eth - gas * trainer.gas)),
        "expected_trainer_gained": value(trainer_gains(p)),
        "attacker_cost_per_hour_eth": value(-tally["attacker_profit_eth"].mean / tally["delay_seconds"].mean * 3600),
        "gas": p.sybils * (trainer.gas + challenger.gas),
        "transactions": p.sybils * (trainer.transactions + challenger.transactions),
    }
    return Outcome(metrics)
