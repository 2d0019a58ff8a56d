"""How large bonds and stakes have to be (docs/economics.md has the reasoning). Gas in units, fees in wei per gas, amounts in wei.

The gas of moves are bounds that tests/contracts/test_economics.py compares with what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from bisection.descent import LEVELS
from bisection.errors import UsageError

__all__ = [
    "ANSWER_GAS",
    "GWEI",
    "LIMITS",
    "MOVE_GAS",
    "SAFETY",
    "Depths",
    "delivery_bond",
    "game_bond",
    "least_stake",
    "trainer_gas",
]

GWEI = 10**9
SAFETY = 1.5

# What each of the trainer's moves costs it at most, with the longest payload.
MOVE_GAS = {"post_trace": 145_000, "reveal": 112_000}
# What an answer to a demand for a leaf costs at most.
ANSWER_GAS = 250_000


@dataclass(frozen=True)
class Depths:
    """How deep the trees of one game are, in levels above their leaves."""

    history: int
    trace: int
    state: int
    tensor: int
    run: int


# The deepest trees that the contracts admit.
LIMITS = Depths(history=32, trace=24, state=24, tensor=32, run=24)


def trainer_gas(depths: Depths = LIMITS) -> int:
    """What a game costs the trainer that is asked for everything that can be asked, in gas."""
    levels = (depths.history, depths.trace, depths.state, depths.tensor, depths.run)
    reveals = sum(ceil(depth / LEVELS) for depth in levels) + 1  # the last is that of a leaf
    return MOVE_GAS["post_trace"] + reveals * MOVE_GAS["reveal"]


def game_bond(peak_fee: int, depths: Depths = LIMITS, safety: float = SAFETY) -> int:
    """The bond that repays the trainer's gas of any game, at the dearest fee that is foreseen."""
    return ceil(trainer_gas(depths) * peak_fee * safety)


def delivery_bond(peak_fee: int, safety: float = SAFETY) -> int:
    """The bond that repays an answer to a demand for a leaf."""
    return ceil(ANSWER_GAS * peak_fee * safety)


def least_stake(bounty: int, detection: float, reward_share: int, dispute_cost: int = 0) -> int:
    """The stake from which on fraud does not pay, and watching does.

    A trainer that saves all its work wins the bounty unless it is caught, with probability ``detection``; then it loses the stake
    but for the reward, which a friend may collect. ``reward_share`` in basis points. The reward also has to repay
    ``dispute_cost``, what a dispute costs the challenger. Raises UsageError where no stake is enough.
    """
    if not 0 < detection <= 1 or not 0 < reward_share < 10_000:
        raise UsageError("no stake deters where nothing is detected, or where a friend gets all of it or a watcher nothing")
    share = reward_share / 10_000
    deterrent = bounty * (1 - detection) / (detection * (1 - share))
    return max(ceil(deterrent), ceil(dispute_cost / share), 1)
