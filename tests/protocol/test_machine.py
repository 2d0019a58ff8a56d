"""The protocol as a whole: whatever anybody does in whatever order, the contracts do what docs/protocol.md says (machine.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.protocol.acts import ACTS
from tests.protocol.deployed import Deployed, topics
from tests.protocol.machine import Protocol

PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]  # explanations would take longer than all the rest
DEEP = 100_000
EVENTS = sorted(
    set(topics().values()) - {"OwnershipTransferStarted", "OwnershipTransferred", "GameAdded", "GameRetired", "DeliverySet"}
)
WAYS = [
    *("convicted by verdict", "convicted by timeout", "acquitted by verdict", "acquitted by timeout"),
    *("convicted in Conclude", "convicted in ConcludePart", "convicted in Timeout", "convicted in Refute"),
    *("attempt 1 of honest", "attempt 2 of honest", "attempt 3 of honest", "attempt 2 of liar", "attempt 3 of liar"),
    *(
        "at the last moment",
        "copied moves",
        "rewarded: another challenger",
        "a lie has become final",
        "a pause has ended by itself",
        "a move during a pause",
        "a move after the end of the attempt",
        "a clock that a pause has extended",
        "contended when due",
        "refused in Refute",
    ),
    *("refused a job that stands at a wrong state", "completed after a conviction", "a model of a model"),
]


def live(chain: Deployed, tally: Counter[str], histories: int, acts: int) -> None:
    """So many histories of so many acts each. What happens is counted."""
    machine: Callable[[], RuleBasedStateMachine] = lambda: Protocol(chain, tally)  # noqa: E731
    limits = settings(
        max_examples=histories,
        stateful_step_count=acts,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=PHASES,
    )
    run_state_machine_as_test(machine, settings=limits)  # type: ignore[arg-type]


def test_the_contracts_do_what_the_protocol_says(chain: Deployed) -> None:
    tally: Counter[str] = Counter()
    live(chain, tally, histories=30, acts=60)
    assert tally["acts"] > 1_000 and tally["Convicted"] and tally["Acquitted"] and tally["JobCompleted"]


@pytest.mark.deep
@pytest.mark.timeout(4 * 60 * 60)
def test_the_contracts_do_what_the_protocol_says_in_long_histories(chain: Deployed) -> None:
    """At least 100,000 acts, in which everything happens that can: an end that nobody has reached would be an end untested."""
    tally: Counter[str] = Counter()
    while tally["acts"] < DEEP or (missing(tally) and tally["acts"] < 2 * DEEP):
        live(chain, tally, histories=100, acts=80)
    print()
    for what, times in tally.most_common():
        print(f"{times:9,}  {what}")
    assert not missing(tally), "everything that can happen has happened"


def missing(tally: Counter[str]) -> list[str]:
    """What has not happened, but could have."""
    return [what for what in (*(f"act: {act.name}" for act in ACTS), *EVENTS, *WAYS) if not tally[what]]
