"""What is given for a market of jobs: terms, watchers, chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sims.economy.costs import Side, costs

__all__ = ["OPENING", "PATHS", "SHARE", "Cheats", "Setting", "quantity"]

PATHS = ("fast", "slow")
OPENING = 2  # transactions: a commitment, and the opening that uses it
SHARE = {"least": 0.0, "most": 1.0}

Cheats = Literal["all", "last", "one", "worst"]
"""In which segments a trainer cheats: in all, in the last ``Setting.cheated`` ones, in one at random, or in as many of the
first or last ones as earn it most on average."""


def quantity(default: Any, help: str, unit: str = "", **bounds: float) -> Any:
    """A field of parameters, with ``least`` and ``most`` as bounds."""
    return field(default=default, metadata={"help": help, "unit": unit, **bounds})


@dataclass(frozen=True)
class Setting:
    """A job and its market. Raises ValueError where burn and reward share exceed the stake."""

    segments: int = quantity(20, "segments of a job, each with its milestone", "segments", least=1, most=1024)
    work_cost: float = quantity(0.6, "what honest work costs the trainer", "bounties", least=0.0, most=1000.0)
    stake: float = quantity(1.0, "what the trainer stakes", "bounties", least=0.0, most=1e6)
    burn_share: float = quantity(0.2, "share of a slashed stake that is burnt", "of the stake", **SHARE)
    reward_share: float = quantity(0.4, "share of a slashed stake that the rewarded challenger gets", "of the stake", **SHARE)
    friend: float = quantity(
        0.0, "probability that a friend of the trainer outranks the honest challengers and gets the reward", "probability", **SHARE
    )
    saved: float = quantity(1.0, "share of the work on a segment that cheating in it saves", "of the work", **SHARE)
    cheated: int = quantity(
        1, "in how many of the last segments a trainer that cheats in the last ones does", "segments", least=1, most=1024
    )
    watchers: int = quantity(1, "watchers of each job", "watchers", least=0, most=10_000)
    audit_rate: float = quantity(0.5, "probability that a watcher replays a segment", "probability", **SHARE)
    replay_cost: float = quantity(
        1.0, "what replaying a segment costs, next to working on it", "of the work", least=0.0, most=100.0
    )
    rivals: float = quantity(
        1.0, "share of the watchers that found a fraud and come second, but open a game too", "of those", **SHARE
    )
    held_up: float = quantity(
        0.0, "probability that censorship holds challengers up until a segment's window is over", "probability", **SHARE
    )
    held_up_alike: bool = quantity(True, "whether censorship holds up all challengers or none, rather than each by itself")
    losers: float = quantity(
        0.0,
        "wrong challenges of a job on average (other versions, grievers), each of which loses its bond",
        "games",
        least=0.0,
        most=1e4,
    )
    slow_share: float = quantity(0.5, "share of disputes on the slow path", "of disputes", **SHARE)
    bounty_eth: float = quantity(10.0, "the bounty", "ETH", least=1e-9, most=1e9)
    bond_eth: float = quantity(0.221, "the bond of a game", "ETH", least=0.0, most=1e9)
    gas_price: float = quantity(1.0, "median of the gas price", "gwei", least=0.0, most=1e6)
    gas_spread: float = quantity(0.5, "standard deviation of the logarithm of the gas price", "", least=0.0, most=3.0)
    segment_seconds: float = quantity(21_600.0, "what a segment takes the trainer", "s", least=1.0, most=1e9)
    window_seconds: float = quantity(43_200.0, "challenge window", "s", least=1.0, most=1e9)
    replay_seconds: float = quantity(21_600.0, "what replaying a segment takes a watcher", "s", least=0.0, most=1e9)
    response_seconds: float = quantity(60.0, "from one transaction of a dispute to the next", "s", least=0.0, most=1e6)
    trainer_clock: float = quantity(172_800.0, "the trainer's time in one game", "s", least=1.0, most=1e9)
    challenger_clock: float = quantity(172_800.0, "the challenger's time in one game", "s", least=1.0, most=1e9)
    stalls: bool = quantity(False, "whether the dishonest side of a game uses up its whole clock")

    def __post_init__(self) -> None:
        if self.burn_share + self.reward_share > 1 + 1e-12:
            raise ValueError(f"burn_share = {self.burn_share} and reward_share = {self.reward_share}; expected at most 1, together")

    @property
    def attackers(self) -> tuple[str, ...]:
        """The roles that plan a fraud together and share what it earns."""
        return ("trainer", "friend")

    @property
    def gas_unit(self) -> float:
        """What a gas costs at a price of 1 gwei, in bounties."""
        return 1e-9 / self.bounty_eth

    @property
    def bond(self) -> float:
        """The bond in bounties."""
        return self.bond_eth / self.bounty_eth

    @property
    def replay(self) -> float:
        """What replaying a segment costs a watcher, in bounties."""
        return self.replay_cost * self.work_cost / self.segments

    @property
    def in_time(self) -> bool:
        """Whether a watcher that is not held up can replay a segment, commit and open a game within the window."""
        return self.replay_seconds + OPENING * self.response_seconds <= self.window_seconds

    def dispute_seconds(self, path: str, stalling: Literal["trainer", "challenger"]) -> float:
        """From the commitment to the end of a dispute in which ``stalling`` is the dishonest side; no side exceeds its clock."""
        sides = {
            "trainer": (costs().trainer(path), self.trainer_clock),
            "challenger": (costs().challenger(path), self.challenger_clock),
        }

        def spent(name: str, side: Side, clock: float) -> float:
            return clock if self.stalls and name == stalling else min(clock, side.transactions * self.response_seconds)

        return sum(spent(name, side, clock) for name, (side, clock) in sides.items())

    def caught_after(self, path: str) -> float:
        """From a fraudulent segment's being posted to its conviction, in seconds."""
        return self.replay_seconds + self.dispute_seconds(path, "trainer")
