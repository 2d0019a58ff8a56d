"""Delivery: a trainer node shows the leaves of its result that are demanded, and earns what was retained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bisection.boundary import state_root, state_roots, tensor_bytes
from bisection.errors import ProgramError
from bisection.merkle import LEAF_BYTES, Tree, blob_tree, depth_of, fold, leaf_count, leaf_digest
from contracts.jobs import JobStatus
from tests.support.market import BOUNTY, TERMS, Diary, Market, honest_trace
from tests.support.programs import counting_program
from trainer.delivery import show_leaf

RETAINED = {"retained_share": 1_000, "delivery_period": 50_000}


@pytest.fixture(scope="module")
def chain_of_tests() -> Market:
    return Market()


@pytest.fixture
def market(chain_of_tests: Market) -> Iterator[Market]:
    with chain_of_tests.rehearsal() as market:
        yield market


@pytest.mark.parametrize("component", range(3))
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 10**70])
def test_what_is_shown_leads_to_the_state(component: int, seed: int) -> None:
    program, state, _ = counting_program(200)
    shown = show_leaf(program, state, component, seed)
    data = tensor_bytes(state[program.state[component].name])
    leaf = seed % leaf_count(len(data))
    assert shown.data == data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
    assert len(shown.leaf_proof) == depth_of(blob_tree(data).count)
    assert fold(leaf_digest(shown.data), leaf, shown.leaf_proof) == shown.tensor_root
    assert fold(shown.tensor_root, component, shown.component_proof) == state_root(program, state)
    assert Tree(state_roots(program, state)).root == state_root(program, state)
    assert program.nodes[shown.node.index].encode() == shown.node.code


def test_a_state_of_another_program_is_refused() -> None:
    program, state, _ = counting_program(200)
    with pytest.raises(ProgramError):
        show_leaf(program, dict(list(state.items())[1:]), 0, 0)


def test_demanded_leaves_are_shown_and_what_was_retained_is_earned(market: Market, tmp_path: Path) -> None:
    job, diary, before = market.open_job(tmp_path / "material", steps=5, **RETAINED), Diary(), market.balance("trainer")
    delivery = market.acting["watcher"].delivery
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.finish(trainer)
        market.settle(trainer)
        assert market.balance("trainer") == before + BOUNTY * 9 // 10
        demands = [delivery.demand(job, component) for component in (0, 1, 2)]
        market.settle(trainer)
        assert [event["demand"] for event in diary.of("leaf delivered")] == demands
        assert market.job(job).open_demands == 0 and not market.job(job).settled
        market.chain.advance(RETAINED["delivery_period"] + 1)
        market.settle(trainer)
        assert market.job(job).settled
    assert market.balance("trainer") == before + BOUNTY + 3 * delivery.bond


def test_a_restarted_trainer_still_delivers(market: Market, tmp_path: Path) -> None:
    job = market.open_job(tmp_path / "material", steps=5, **RETAINED)
    with market.trainer(tmp_path / "trainer") as trainer:
        market.finish(trainer)
    demand = market.acting["requester"].delivery.demand(job, 1)
    with market.trainer(tmp_path / "trainer") as trainer:
        market.until(lambda: market.job(job).open_demands == 0, trainer)
    assert market.sent("trainer").count("answer") == demand


def test_a_trainer_that_is_gone_loses_what_was_retained(market: Market, tmp_path: Path) -> None:
    job, before = market.open_job(tmp_path / "material", steps=5, **RETAINED), market.balance("requester")
    requester = market.acting["requester"]
    with market.trainer(tmp_path / "trainer") as trainer:
        market.finish(trainer)
    demand = requester.delivery.demand(job, 0)
    market.chain.advance(requester.delivery.answer_period + 1)
    requester.delivery.give_up(demand)
    requester.delivery.withdraw()
    requester.registry.withdraw()
    assert market.job(job).settled
    assert market.balance("requester") == before + BOUNTY // 10


def test_a_job_without_a_retained_share_is_left_at_once(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=5), Diary()
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.finish(trainer)
        trainer.tick()
    assert market.job(job).status == JobStatus.COMPLETED and market.job(job).settled
    assert diary.of("job over") == [{"job": job, "status": "completed"}]
    assert market.job(job).state == honest_trace(5).state(5).root
    assert TERMS.retained_share == 0
