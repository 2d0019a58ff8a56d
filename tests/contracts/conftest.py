from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.build import artifact
from contracts.deploy import deploy
from sims.chain.evm import RevmChain
from tests.contracts.stage import PARAMETERS, Stage
from tests.support.theatre import stage, theatre

__all__ = ["stage", "theatre"]


@pytest.fixture(scope="session")
def scripted_theatre() -> Stage:
    """One deployment for all tests of the registry, with a referee and a game contract that do what they are told."""
    chain = RevmChain()
    return Stage(chain, deploy(chain.senders[0], PARAMETERS, artifact("referee_mock"), artifact("game_mock")))


@pytest.fixture
def scripted(scripted_theatre: Stage) -> Iterator[Stage]:
    """The deployment with the scripted game contract, as it was at first."""
    mark = scripted_theatre.chain.snapshot()
    yield scripted_theatre
    scripted_theatre.chain.restore(mark)
