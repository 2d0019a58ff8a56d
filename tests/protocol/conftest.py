"""The contracts, deployed once for each module, and a history that has begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from contracts.jobs import Terms
from tests.protocol.acts import Acts
from tests.protocol.deployed import Deployed
from tests.protocol.executions import WORKS

STAKE = 10**18


@pytest.fixture(scope="module")
def chain() -> Deployed:
    return Deployed()


@pytest.fixture
def history(chain: Deployed) -> Iterator[Acts]:
    """A job of one step, of which a liar has posted the only segment."""
    history = Acts(chain, Counter())
    parties, world = history.parties, history.world
    terms = Terms(stake=STAKE, game=chain.game, segment_period=10_000, challenge_window=5_000)  # type: ignore[arg-type]
    world.act("requester", "TaskRegistry", "open_job", WORKS[3].spec, terms, 1_000, 0, "", value=1_000)
    parties.works[1] = WORKS[3]
    for _ in range(2):
        parties.claim(1, "liar", Random(1))
        parties.pass_time(1)
    parties.post(1)
    yield history
    world.check()
    world.close()
