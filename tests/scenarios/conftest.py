from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.market import Market
from tests.support.theatre import stage, theatre

__all__ = ["stage", "theatre"]


@pytest.fixture(scope="session")
def fair() -> Market:
    """One deployment for all scenarios, with the real referee."""
    return Market()


@pytest.fixture
def market(fair: Market) -> Iterator[Market]:
    """The deployment as it was at first."""
    with fair.rehearsal() as market:
        yield market
