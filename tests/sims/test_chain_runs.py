"""Jobs of simulated disputes and their executions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bisection.errors import UsageError
from bisection.trace import MemoryTrace
from sims.chain.kinds import SMALL
from sims.chain.runs import work


@pytest.mark.parametrize("program", SMALL)
def test_an_honest_run_is_what_the_reference_makes_of_it(program: str) -> None:
    job = work(program, 40, 3, 3)
    (span,) = job.spans(job.honest)
    trace = MemoryTrace(job.program, job.start, job.data, 3)
    assert span.history().root == trace.history().root
    assert (span.data().root, span.tensors(1).root, span.state(2).root) == (
        trace.data().root, trace.tensors(1).root, trace.state(2).root,
    )  # fmt: skip
    assert all(span.tensor(2, k) == trace.tensor(2, k) for k in range(len(job.program.tensors)))


def test_segments_are_as_long_as_the_job_says_and_the_last_is_the_rest() -> None:
    job = work("counting", 16, 5, 2)
    spans = job.spans(job.honest)
    assert [span.length for span in spans] == [2, 2, 1] and job.spec.segments == 3
    assert all(a.posting()[2] == b.history().node(0, 0) for a, b in pairwise(spans))


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(UsageError, match="no program 'gpt'"):
        work("gpt", 16, 5, 2)
