from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.build import artifact
from contracts.client import local_chain
from contracts.deploy import deploy
from contracts.sender import TransactionSender
from tests.contracts.stage import PARAMETERS, Stage


@pytest.fixture(scope="session")
def theatre() -> Stage:
    """One deployment for all tests, with a referee that says what it is told."""
    chain = local_chain()
    book = deploy(TransactionSender(chain.web3, chain.accounts[0]), PARAMETERS, artifact("referee_mock"))
    return Stage(chain, book)


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """The deployment as it was at first."""
    mark = theatre.chain.snapshot()
    yield theatre
    theatre.chain.restore(mark)
