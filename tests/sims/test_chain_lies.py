"""What dishonest trainers claim in simulated disputes: a run with one lie of every kind, at its step."""

from __future__ import annotations

from typing import get_args

import pytest

from bisection.errors import UsageError
from sims.chain.kinds import SMALL, Lies
from sims.chain.lies import LIES, Lie, lying
from sims.chain.runs import work


@pytest.mark.parametrize("program", SMALL)
@pytest.mark.parametrize("kind", LIES)
def test_every_lie_is_at_its_step_and_not_before(program: str, kind: str) -> None:
    job = work(program, 40, 5, 2)
    run = lying(job, Lie(kind, 3, seed=7))
    assert run.first_difference(job.honest) == 3
    roots = [[span.history().root for span in job.spans(execution)] for execution in (run, job.honest)]
    assert [ours == theirs for ours, theirs in zip(*roots, strict=True)][:2] == [True, False]


@pytest.mark.parametrize(
    ("kind", "only"), [("moment", "exp_avg"), ("other-model", ("0.", "2.", "bias_correction")), ("batch-order", "")]
)
def test_a_lie_about_a_captured_job_changes_what_it_says(kind: str, only: str | tuple[str, ...]) -> None:
    job = work("digits", 1, 2, 2)
    run = lying(job, Lie(kind, 1))
    assert run.first_difference(job.honest) == 1
    changed = [name for name, values in run.values(2).items() if values.tobytes() != job.honest.values(2)[name].tobytes()]
    assert changed and all(name.startswith(only) for name in changed)
    if kind == "moment":
        (name,) = changed
        ours, theirs = (int.from_bytes(execution.values(2)[name].tobytes(), "big") for execution in (run, job.honest))
        assert (ours ^ theirs).bit_count() == 1


def test_every_lie_can_be_told_in_a_scenario() -> None:
    assert set(get_args(Lies)) == {"none", *LIES}


@pytest.mark.parametrize("lie", [Lie("rumour", 0), Lie("map", 5)])
def test_what_is_no_lie_of_this_job_is_refused(lie: Lie) -> None:
    with pytest.raises(UsageError, match="no lie of kind"):
        lying(work("counting", 16, 5, 2), lie)
