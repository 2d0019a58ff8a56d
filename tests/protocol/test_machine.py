"""The protocol as a whole: whatever anybody does in whatever order, the contracts do what docs/protocol.md says (machine.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.protocol.deployed import Deployed
from tests.protocol.machine import Protocol


PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]  # explanations would take longer than all the rest


@pytest.fixture(scope="module")
def chain() -> Deployed:
    return Deployed()


def run(chain: Deployed, histories: int, steps: int) -> Counter[str]:
    """What happened in so many histories."""
    tally: Counter[str] = Counter()
    machine: Callable[[], RuleBasedStateMachine] = lambda: Protocol(chain, tally)  # noqa: E731
    limits = settings(
        max_examples=histories,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=PHASES,
    )
    run_state_machine_as_test(machine, settings=limits)  # type: ignore[arg-type]
    return tally


def test_the_contracts_do_what_the_protocol_says(chain: Deployed) -> None:
    tally = run(chain, histories=60, steps=50)
    for k, v in tally.most_common(): print(k, v)
