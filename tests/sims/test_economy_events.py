"""The arrays of sims/economy/model.py against the same jobs told as events, one after the other, in plain words.

The two share neither code nor draws: the arrays compute at once what is posted, final and paid when a fraud convicts.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from sims.economy import closed
from sims.economy.costs import costs
from sims.economy.draws import Moments
from sims.economy.model import jobs
from sims.economy.setting import Cheats, Setting
from tests.sims.economy_support import agrees

JOBS = 3_000


class Told:
    """One job. Its money by role, in bounties."""

    def __init__(self, setting: Setting, cheated: set[int], chance: random.Random) -> None:
        self.setting, self.cheated, self.chance = setting, cheated, chance
        self.money: defaultdict[str, float] = defaultdict(float)
        self.path = "slow" if chance.random() < setting.slow_share else "fast"
        self.price = setting.gas_unit * setting.gas_price * chance.lognormvariate(0, setting.gas_spread)
        self.posted, self.final, self.disputed, self.convicted, self.audits = 0, 0, set[int](), False, 0
        self.spend("requester", costs().open_job)
        self.spend("trainer", costs().claim)
        self.run()

    def spend(self, role: str, gas: float) -> None:
        self.money[role] -= gas * self.price
        self.money["gas"] += gas * self.price

    def run(self) -> None:
        s = self.setting
        events: list[tuple[float, int, str, int]] = []
        for segment in range(s.segments):
            events.append((segment * s.segment_seconds, 1, "post", segment))
            events.append((segment * s.segment_seconds + s.window_seconds, 2, "window is over", segment))
        while events:
            events.sort()
            moment, _, what, segment = events.pop(0)
            if what == "post":
                finders = self.post(segment)
                if finders:
                    self.disputed.add(segment)
                    events.append((moment + s.caught_after(self.path), 0, f"convict {finders}", segment))
            elif what == "window is over":
                self.finalise(moment)
            else:
                self.convict(int(what.split()[1]))
                return

    def post(self, segment: int) -> int:
        """Returns how many watchers found it false, and can dispute it."""
        s, work = self.setting, self.setting.work_cost / self.setting.segments
        self.posted += 1
        done = work * (1 - s.saved) if segment in self.cheated else work
        self.money["trainer"] -= done
        self.money["compute"] += done
        self.spend("trainer", costs().post_segment)
        audits = sum(self.chance.random() < s.audit_rate for _ in range(s.watchers))
        self.audits += audits
        self.money["watchers"] -= audits * s.replay
        self.money["compute"] += audits * s.replay
        if segment not in self.cheated or s.replay_seconds + 2 * s.response_seconds > s.window_seconds:
            return 0
        if s.held_up_alike:
            return 0 if self.chance.random() < s.held_up else audits
        return sum(self.chance.random() >= s.held_up for _ in range(audits))

    def finalise(self, moment: float) -> None:
        """The oldest segments whose windows are over, as long as no game is about them."""
        s = self.setting
        while (
            self.final < self.posted
            and self.final * s.segment_seconds + s.window_seconds <= moment
            and self.final not in self.disputed
        ):
            self.final += 1
            self.money["trainer"] += 1 / s.segments
            self.money["requester"] -= 1 / s.segments
            self.spend("trainer", costs().finalise)

    def convict(self, finders: int) -> None:
        s, self.convicted = self.setting, True
        friend = self.chance.random() < s.friend
        self.money["trainer"] -= s.stake
        self.money["burnt"] += s.burn_share * s.stake
        self.money["friend" if friend else "watchers"] += s.reward_share * s.stake
        self.money["requester"] += (1 - s.burn_share - s.reward_share) * s.stake
        self.spend("trainer", costs().trainer(self.path).gas)
        self.spend("watchers", costs().challenger(self.path).gas)
        for _ in range(finders - 1):
            if self.chance.random() < s.rivals:
                self.spend("watchers", costs().opening(self.path))
        if friend:
            self.spend("friend", costs().opening(self.path))


SETTINGS = {
    "default": Setting(segments=6),
    "fast convictions": Setting(
        segments=8, watchers=2, audit_rate=0.15, replay_seconds=3_000.0, friend=0.4, gas_price=80.0, slow_share=0.3, saved=0.7
    ),
    "slow convictions": Setting(
        segments=12,
        audit_rate=0.2,
        segment_seconds=7_000.0,
        window_seconds=50_000.0,
        replay_seconds=45_000.0,
        stalls=True,
        bounty_eth=1.0,
    ),
    "long windows": Setting(
        segments=10, watchers=3, audit_rate=0.1, window_seconds=130_000.0, held_up=0.3, held_up_alike=False, rivals=0.5
    ),
    "too late": Setting(segments=3, replay_seconds=43_000.0, response_seconds=200.0),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("cheats", [None, "all", "last", "one"])
def test_arrays_and_events_agree(name: str, cheats: Cheats | None) -> None:
    setting = replace(SETTINGS[name], cheated=2)
    plan = closed.plan_of(setting, cheats)
    chance = random.Random(f"{name} {cheats}")
    told = []
    for _ in range(JOBS):
        first = chance.choice(plan.firsts)
        told.append(Told(setting, set(range(first, first + plan.count)), chance))
    drawn, expected = jobs(setting, cheats, JOBS, 1, name), closed.expected(setting, cheats)
    for role in ("trainer", "friend", "requester", "watchers", "burnt", "gas", "compute"):
        events = Moments.of(np.array([job.money[role] for job in told]))
        assert agrees(events, expected[role], scale=2 + setting.stake), role
        apart = Moments(JOBS, events.mean - drawn[role].mean, events.squares + drawn[role].squares)
        assert agrees(apart, 0.0, scale=2 + setting.stake), role
    assert agrees(Moments.of(np.array([job.convicted for job in told])), expected["caught"], share=True)
    assert agrees(Moments.of(np.array([job.audits for job in told])), expected["audits"], scale=setting.watchers * setting.segments)
    assert all(sum(job.money.values()) == pytest.approx(0, abs=1e-9) for job in told)
