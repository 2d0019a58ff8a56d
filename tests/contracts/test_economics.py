"""Bonds repay the dearest game, and stakes make fraud a loss (docs/economics.md). test_scale.py compares the gas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import UsageError
from contracts.deploy import Parameters
from contracts.economics import ANSWER_GAS, GWEI, LIMITS, Depths, delivery_bond, game_bond, least_stake, trainer_gas

depths = st.builds(Depths, st.integers(0, 32), st.integers(0, 24), st.integers(0, 24), st.integers(0, 32), st.integers(0, 24))


@given(depths, depths)
def test_deeper_trees_cost_the_trainer_no_less(some: Depths, others: Depths) -> None:
    deeper = Depths(
        max(some.history, others.history),
        max(some.trace, others.trace),
        max(some.state, others.state),
        max(some.tensor, others.tensor),
        max(some.run, others.run),
    )
    assert max(trainer_gas(some), trainer_gas(others)) <= trainer_gas(deeper) <= trainer_gas(LIMITS)


@given(depths, st.integers(0, 1_000 * GWEI))
def test_a_bond_repays_the_gas_of_its_game(game: Depths, fee: int) -> None:
    assert game_bond(fee, game, safety=1) == trainer_gas(game) * fee
    assert game_bond(fee, game) >= trainer_gas(game) * fee
    assert delivery_bond(fee) >= ANSWER_GAS * fee


def test_the_default_bonds_are_those_of_a_busy_chain() -> None:
    assert 0.7 < Parameters().bond / game_bond(50 * GWEI) < 1.5
    assert 0.7 < Parameters().delivery_bond / delivery_bond(50 * GWEI) < 1.5


@given(
    bounty=st.integers(1, 10**24),
    detection=st.floats(0.01, 1),
    reward_share=st.integers(1, 9_999),
    work=st.floats(0, 1),
    dispute_cost=st.integers(0, 10**20),
)
def test_with_the_least_stake_fraud_is_worse_than_work_and_a_dispute_pays(
    bounty: int, detection: float, reward_share: int, work: float, dispute_cost: int
) -> None:
    stake, share = least_stake(bounty, detection, reward_share, dispute_cost), reward_share / 10_000
    honest = bounty * (1 - work)
    fraud = (1 - detection) * bounty - detection * (1 - share) * stake
    assert fraud <= honest + bounty * 1e-9
    assert stake * share >= dispute_cost * (1 - 1e-9)


@pytest.mark.parametrize(("detection", "reward_share"), [(0, 5_000), (1.5, 5_000), (0.5, 0), (0.5, 10_000)])
def test_what_no_stake_deters_is_refused(detection: float, reward_share: int) -> None:
    with pytest.raises(UsageError, match="no stake deters"):
        least_stake(1, detection, reward_share)
