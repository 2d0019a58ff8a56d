"""A deployment with a scripted referee for whole folders of tests; their conftest.py imports these fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.build import artifact
from contracts.deploy import deploy
from sims.chain.evm import RevmChain
from tests.contracts.stage import PARAMETERS, Stage

__all__ = ["stage", "theatre"]


@pytest.fixture(scope="session")
def theatre() -> Stage:
    """One deployment for all tests, with a referee that says what it is told."""
    chain = RevmChain()
    return Stage(chain, deploy(chain.senders[0], PARAMETERS, artifact("referee_mock")))


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """The deployment as it was at first."""
    mark = theatre.chain.snapshot()
    yield theatre
    theatre.chain.restore(mark)
