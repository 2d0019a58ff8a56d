"""Months of jobs by a mix of honest and dishonest trainers: what each role has in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sims.economy.draws import Tally, generator
from sims.economy.fraud import FATES, fates
from sims.economy.model import jobs
from sims.economy.setting import SHARE, Cheats, Setting, quantity
from sims.economy.told import mean_of, share_of, table, value
from sims.result import Column, Outcome, Value

__all__ = ["Jobs", "run_jobs"]

SORTS: dict[str, Cheats | None] = {"honest": None, "all": "all", "last": "last", "one": "one"}


@dataclass(frozen=True)
class Jobs(Setting):
    """Months of jobs by trainers of several sorts; whoever is of no other sort is honest. Raises ValueError for shares above 1."""

    months: int = quantity(12, "how long", "months", least=1, most=1200)
    jobs_per_month: int = quantity(1_000, "jobs posted in a month", "jobs", least=1, most=10_000_000)
    cheats_in_all: float = quantity(0.02, "share of trainers that cheat in all segments", "of trainers", **SHARE)
    cheats_in_last: float = quantity(0.02, "share of trainers that cheat in the last segment", "of trainers", **SHARE)
    cheats_in_one: float = quantity(0.02, "share of trainers that cheat in one segment, at random", "of trainers", **SHARE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(self.shares) > 1 + 1e-12:
            raise ValueError(f"shares of cheating trainers of {', '.join(map(str, self.shares))}; expected at most 1 together")

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of the dishonest sorts, in the order of SORTS."""
        return (self.cheats_in_all, self.cheats_in_last, self.cheats_in_one)


MONTHS = (
    Column("month", "months", "counted from 1"),
    Column("frauds", "jobs", "jobs in which the trainer cheated"),
    Column("caught", "jobs", "of them, those that ended in a conviction"),
    Column("stolen", "bounties", "paid for cheated segments"),
    Column("honest_profit", "bounties", "of an honest trainer, of a job on average"),
    Column("fraud_profit", "bounties", "of a cheating trainer with its friend, of a job on average"),
    Column("watcher_profit", "bounties", "of all watchers of a job together, on average"),
    Column("burnt", "bounties", "burnt in the month"),
    Column("gas", "bounties", "paid for gas in the month"),
)


BY_SORT = (
    Column("trainer", "", "honest, or where it cheats"),
    Column("jobs", "jobs", "by such trainers"),
    Column("caught", "of the jobs", "that ended in a conviction"),
    Column("attacker", "bounties", "profit of trainer and friend, on average"),
    Column("requester", "bounties", "what remains with the requester, on average; the worth of the model is not counted"),
    Column("watchers", "bounties", "profit of all watchers together, on average"),
)


def run_jobs(p: Jobs, seed: int) -> Outcome:
    """What each role has after months of such jobs."""
    by_sort: dict[str, Tally] = {sort: Tally() for sort in SORTS}
    rows = []
    for month in range(p.months):
        played = _played(p, seed, month)
        rows.append({"month": month + 1, **_row(played)})
        for sort, tally in played.items():
            by_sort[sort].merge(tally)
    everything, frauds, honest = _together(by_sort), _together(_dishonest(by_sort)), by_sort["honest"]
    metrics: dict[str, Value] = {
        "jobs": everything["caught"].count,
        "frauds": frauds["caught"].count,
        **share_of("detection", frauds["caught"]),
        **mean_of("attacker_profit", frauds["attacker"]),
        **mean_of("honest_profit", honest["attacker"]),
        **mean_of("watcher_profit", everything["watchers"]),
        **mean_of("requester_profit", everything["requester"]),
        **mean_of("burnt", everything["burnt"]),
        **mean_of("stolen", everything["stolen"]),
        **mean_of("completion_delay_seconds", honest["completion_delay_seconds"]),
        **mean_of("conviction_delay_seconds", frauds["conviction_delay_seconds"]),
        "imbalance": value(everything["imbalance"].mean),
    }
    shown = ("caught", "attacker", "requester", "watchers")
    sorts: list[dict[str, Value]] = [
        {"trainer": sort, "jobs": tally["caught"].count, **{name: tally[name].mean for name in shown}}
        for sort, tally in by_sort.items()
        if tally
    ]
    tables = {"months": table(MONTHS, rows), "roles": table(FATES, fates(everything)), "trainers": table(BY_SORT, sorts)}
    return Outcome(metrics, tables)


def _played(p: Jobs, seed: int, month: int) -> dict[str, Tally]:
    """One month's jobs, by sort of trainer."""
    honest = max(0.0, 1 - sum(p.shares))
    mix = [share / (honest + sum(p.shares)) for share in (honest, *p.shares)]
    counts = generator(seed, "mix", month).multinomial(p.jobs_per_month, mix)
    return {
        sort: jobs(p, cheats, int(count), seed, f"jobs {sort}", month)
        for (sort, cheats), count in zip(SORTS.items(), counts, strict=True)
    }


def _row(played: Mapping[str, Tally]) -> dict[str, Value]:
    everything, frauds = _together(played), _together(_dishonest(played))
    return {
        "frauds": frauds["caught"].count,
        "caught": round(frauds["caught"].total),
        "stolen": frauds["stolen"].total,
        "honest_profit": played["honest"]["attacker"].mean if played["honest"] else None,
        "fraud_profit": frauds["attacker"].mean if frauds else None,
        "watcher_profit": everything["watchers"].mean,
        "burnt": everything["burnt"].total,
        "gas": everything["gas"].total,
    }


def _dishonest(by_sort: Mapping[str, Tally]) -> dict[str, Tally]:
    return {sort: tally for sort, tally in by_sort.items() if sort != "honest"}


def _together(by_sort: Mapping[str, Tally]) -> Tally:
    whole = Tally()
    for tally in by_sort.values():
        whole.merge(tally)
    return whole
