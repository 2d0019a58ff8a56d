"""The kinds of simulation at the economic level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sims.economy.censorship import Censorship, run_censorship
from sims.economy.dilemma import Dilemma, run_dilemma
from sims.economy.fraud import Detection, Fraud, run_detection, run_fraud
from sims.economy.jobs import Jobs, run_jobs
from sims.economy.sybils import Sybils, run_sybils
from sims.kinds import Kind
from sims.result import Outcome

__all__ = ["KINDS"]


def _kind(name: str, parameters: type[Any], run: Callable[[Any, int], Outcome], summary: str) -> Kind:
    return Kind(f"economy.{name}", "economy", parameters, run, summary)


KINDS = (
    _kind("jobs", Jobs, run_jobs, "months of jobs by honest and dishonest trainers: what each role has in the end"),
    _kind("fraud", Fraud, run_fraud, "one sort of fraud: its profit next to honest work, and the stake that deters it"),
    _kind("detection", Detection, run_detection, "how surely fraud is found, by audit rate, watchers and censorship"),
    _kind("dilemma", Dilemma, run_dilemma, "the verifier's dilemma: watchers and trainers follow their profit for months"),
    _kind("sybils", Sybils, run_sybils, "N challengers of one purse at the end of the window: cost and delay"),
    _kind("censorship", Censorship, run_censorship, "a censored challenger: whether and when it gets through, and what that costs"),
)
