"""The verifier's dilemma: watchers that audit as long as it pays, and trainers that cheat as long as it pays."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import exp, log
from typing import Literal

from sims.economy import closed
from sims.economy.draws import Tally, generator
from sims.economy.model import jobs
from sims.economy.setting import SHARE, Cheats, Setting, quantity
from sims.economy.told import table, value
from sims.result import Column, Outcome, Value

__all__ = ["Dilemma", "Month", "equilibrium", "run_dilemma"]


@dataclass(frozen=True)
class Dilemma(Setting):
    """Watchers that audit as long as it pays, trainers that cheat as long as it pays, month by month."""

    stake: float = quantity(0.5, "what the trainer stakes", "bounties", least=0.0, most=1e6)
    cheats: Literal["all", "last", "one", "worst"] = quantity(
        "all",
        "where a dishonest trainer cheats: all segments, the last ones, one at random, or as many at either end as earn most",
    )
    months: int = quantity(120, "how long", "months", least=2, most=10_000)
    jobs_per_month: int = quantity(500, "jobs posted in a month", "jobs", least=1, most=1_000_000)
    fraud_share: float = quantity(0.05, "share of dishonest trainers in the first month", "of trainers", **SHARE)
    dynamics: Literal["replicator", "best_response"] = quantity(
        "replicator",
        "replicator: what pays better spreads in proportion; best_response: each month some change to what pays",
    )
    speed: float = quantity(1.0, "replicator: growth of the odds, per bounty of advantage and month", "", least=0.0, most=100.0)
    change: float = quantity(0.1, "best_response: share that reconsiders in a month", "of those", **SHARE)
    memory: float = quantity(0.5, "weight of earlier months in what watchers take an audit to be worth", "", least=0.0, most=0.99)
    floor: float = quantity(0.001, "share that audits, and that cheats, whatever it costs", "of those", least=0.0, most=0.5)
    planted: float = quantity(
        0.0,
        "attention checks: share of jobs that the requester trains itself and cheats in, to reward who audits",
        "of jobs",
        **SHARE,
    )
    audit_fee: float = quantity(
        0.0, "what the requester pays a watcher for an audit, beside the protocol", "bounties", least=0.0, most=100.0
    )


DILEMMA = (
    Column("month", "months", "counted from 1"),
    Column("audit_rate", "probability", "with which a watcher replayed a segment"),
    Column("fraud_share", "of trainers", "that cheated"),
    Column("detection", "probability", "with which a fraud was found, by the closed form"),
    Column("frauds", "jobs", "in which a trainer cheated, without planted ones"),
    Column("caught", "jobs", "of them, convicted"),
    Column("stolen", "of bounties", "share of all bounties that was paid for cheated segments"),
    Column("watcher_profit", "bounties", "of all watchers of a job together, on average"),
    Column("overhead", "bounties", "what planted frauds and fees cost the requester, of a job on average"),
)


@dataclass(frozen=True)
class Month:
    """What happened in one month; the fields are the columns of DILEMMA."""

    month: int
    audit_rate: float
    fraud_share: float
    detection: float
    frauds: int
    caught: int
    stolen: float
    watcher_profit: float
    overhead: float


def run_dilemma(p: Dilemma, seed: int) -> Outcome:
    """How audit rate and frauds develop, against the rates at which neither side would change."""
    audits, frauds, worth = _kept(p, p.audit_rate), _kept(p, p.fraud_share), 0.0
    months: list[Month] = []
    for number in range(p.months):
        now = replace(p, audit_rate=audits, fraud_share=frauds)
        month = _month(now, seed, number)
        months.append(month)
        earned = month.watcher_profit / (p.watchers * audits) if p.watchers and audits else 0.0
        worth = earned if not number else p.memory * worth + (1 - p.memory) * earned
        audits, frauds = _moved(p, audits, worth), _moved(p, frauds, closed.fraud_pays(now, p.cheats))
    later, count = months[p.months // 2 :], len(months)
    stable = equilibrium(p)
    total, caught = sum(month.frauds for month in months), sum(month.caught for month in months)
    metrics: dict[str, Value] = {
        "mean_audit_rate": value(sum(month.audit_rate for month in later) / len(later)),
        "mean_fraud_share": value(sum(month.fraud_share for month in later) / len(later)),
        "final_audit_rate": value(months[-1].audit_rate),
        "final_fraud_share": value(months[-1].fraud_share),
        "highest_fraud_share": value(max(month.fraud_share for month in months)),
        "equilibrium_audit_rate": value(stable[0]),
        "equilibrium_fraud_share": value(stable[1]),
        "frauds": total,
        "undetected_share": value((total - caught) / total) if total else None,
        "stolen_share": value(sum(month.stolen for month in months) / count),
        "watcher_profit": value(sum(month.watcher_profit for month in months) / count),
        "requester_overhead": value(sum(month.overhead for month in months) / count),
    }
    return Outcome(metrics, {"months": table(DILEMMA, map(asdict, months))})


def _month(p: Dilemma, seed: int, number: int) -> Month:
    """One month's jobs, at the audit rate and the share of frauds that ``p`` has."""
    mix = [p.planted, (1 - p.planted) * p.fraud_share, (1 - p.planted) * (1 - p.fraud_share)]
    counts = generator(seed, "dilemma", number).multinomial(p.jobs_per_month, mix)
    planted, frauds, honest = (
        jobs(p, cheats, int(count), seed, f"dilemma {name}", number)
        for name, cheats, count in zip(("planted", "fraud", "honest"), (p.cheats, p.cheats, None), counts, strict=True)
    )
    everything = Tally()
    for tally in (planted, frauds, honest):
        everything.merge(tally)
    fees = p.audit_fee * everything["audits"].mean
    # Of a planted job the requester is both sides.
    spent = -(planted["attacker"].total + planted["requester"].total)
    return Month(
        month=number + 1,
        audit_rate=p.audit_rate,
        fraud_share=p.fraud_share,
        detection=closed.expected(p, p.cheats)["caught"],
        frauds=int(counts[1]),
        caught=round(frauds["caught"].total),
        stolen=frauds["stolen"].total / p.jobs_per_month,
        watcher_profit=everything["watchers"].mean + fees,
        overhead=spent / p.jobs_per_month + fees,
    )


def _kept(p: Dilemma, share: float) -> float:
    """``share``, but for those that never change."""
    return min(1 - p.floor, max(p.floor, share))


def _moved(p: Dilemma, share: float, advantage: float) -> float:
    """The next month's share of those that do what is better by ``advantage``."""
    if p.dynamics == "best_response":
        return _kept(p, share + p.change * (float(advantage > 0) - share)) if advantage else share
    if share in (0.0, 1.0):
        return share
    odds = max(-500.0, min(500.0, log(share / (1 - share)) + p.speed * advantage))
    return _kept(p, 1 / (1 + exp(-odds)))


def equilibrium(p: Dilemma) -> tuple[float | None, float | None]:
    """The audit rate at which fraud is as good as work, and the share of fraud at which an audit costs what it earns.

    None where there is none: fraud pays at any audit rate, or watching at no share of fraud. A share of 0 says that watching pays
    without fraud; an audit rate of 0 that fraud never pays.
    """
    rate = closed.break_even_audit_rate(p, p.cheats)
    if rate is None:
        return None, None
    at = replace(p, audit_rate=rate) if rate > 0 else replace(p, audit_rate=1e-9)
    bad, good = (_watching(at, sort) for sort in (p.cheats, None))
    base = p.planted * bad + (1 - p.planted) * good
    if base >= 0:
        return rate, 0.0
    slope = (1 - p.planted) * (bad - good)
    share = -base / slope if slope > 0 else 2.0
    return rate, share if share <= 1 else None


def _watching(p: Dilemma, cheats: Cheats | None) -> float:
    likely = closed.expected(p, cheats)
    return likely["watchers"] + p.audit_fee * likely["audits"]
