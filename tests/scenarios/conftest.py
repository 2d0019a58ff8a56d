from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.build import artifact
from contracts.deploy import deploy
from tests.contracts.revm import RevmChain
from tests.contracts.stage import PARAMETERS, Stage
from tests.support.market import Market


@pytest.fixture(scope="session")
def theatre() -> Stage:
    """One deployment for all scenarios, with a referee that says what it is told."""
    chain = RevmChain()
    return Stage(chain, deploy(chain.senders[0], PARAMETERS, artifact("referee_mock")))


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """The deployment as it was at first."""
    mark = theatre.chain.snapshot()
    yield theatre
    theatre.chain.restore(mark)


@pytest.fixture(scope="session")
def fair() -> Market:
    """One deployment for all scenarios, with the real referee."""
    return Market()


@pytest.fixture
def market(fair: Market) -> Iterator[Market]:
    """The deployment as it was at first."""
    with fair.rehearsal() as market:
        yield market
