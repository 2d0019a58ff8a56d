"""What trainers claim in simulated disputes: right runs, and one lie of every kind."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bisection.errors import UsageError
from bisection.trace import MemoryTrace
from sims.chain.runs import LIES, PROGRAMS, Lie, lying, work


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_honest_run_is_what_the_reference_makes_of_it(program: str) -> None:
    job = work(program, 40, 3, 3)
    (span,) = job.spans(job.honest)
    trace = MemoryTrace(job.program, job.start, job.data, 3)
    assert span.history().root == trace.history().root
    assert (span.data().root, span.tensors(1).root, span.state(2).root) == (
        trace.data().root, trace.tensors(1).root, trace.state(2).root,
    )  # fmt: skip
    assert all(span.tensor(2, k) == trace.tensor(2, k) for k in range(len(job.program.tensors)))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", LIES)
def test_every_lie_is_at_its_step_and_not_before(program: str, kind: str) -> None:
    job = work(program, 40, 5, 2)
    run = lying(job, Lie(kind, 3, seed=7))
    assert run.first_difference(job.honest) == 3
    assert [a.history().root == b.history().root for a, b in zip(job.spans(run), job.spans(job.honest), strict=True)][:2] == [
        True,
        False,
    ]


def test_segments_are_as_long_as_the_job_says_and_the_last_is_the_rest() -> None:
    job = work("counting", 16, 5, 2)
    spans = job.spans(job.honest)
    assert [span.length for span in spans] == [2, 2, 1] and job.spec.segments == 3
    assert all(a.posting()[2] == b.history().node(0, 0) for a, b in pairwise(spans))


@pytest.mark.parametrize("lie", [Lie("rumour", 0), Lie("map", 5)])
def test_what_is_no_lie_of_this_job_is_refused(lie: Lie) -> None:
    with pytest.raises(UsageError, match="no lie of kind"):
        lying(work("counting", 16, 5, 2), lie)


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(UsageError, match="no program 'gpt'"):
        work("gpt", 16, 5, 2)
