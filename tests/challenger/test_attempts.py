"""A job that a trainer has failed at: the next one goes on from the last final state, and nodes look at every attempt afresh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from challenger.node import SegmentVerdict
from contracts.jobs import JobStatus
from tests.support.market import BOUNTY, PARAMETERS, TERMS, Diary, Market, honest_trace, lying
from trainer.node import TrainerPolicy

VALID, FRAUDULENT = SegmentVerdict.VALID, SegmentVerdict.FRAUDULENT
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000


@pytest.fixture(scope="module")
def chain_of_tests() -> Market:
    return Market()


@pytest.fixture
def market(chain_of_tests: Market) -> Iterator[Market]:
    with chain_of_tests.rehearsal() as market:
        yield market


def test_the_next_trainer_goes_on_from_the_last_final_state(market: Market, tmp_path: Path) -> None:
    job = market.open_job(tmp_path / "material", steps=6, segment_length=2, attempts=2)
    before = {role: market.balance(role) for role in ("trainer", "rival", "challenger")}
    with (
        market.trainer(tmp_path / "liar", executor_of=lying(5)) as liar,
        market.challenger(tmp_path / "challenger") as challenger,
    ):
        market.until(lambda: market.job(job).posted == 2, liar)
        market.chain.advance(TERMS.challenge_window + 1)
        market.until(lambda: market.job(job).finalised == 2, liar)
        market.until(lambda: market.job(job).attempt == 2, liar, challenger)
        assert market.job(job).status == JobStatus.OPEN
        assert market.job(job).state == honest_trace(4).state(4).root
        with market.trainer(tmp_path / "rival", role="rival") as rival:
            market.finish(liar, rival, challenger)
            market.settle(liar, rival, challenger)
        assert challenger.verdicts == {(job, segment): VALID for segment in range(3)}
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.job(job).trainer == market.address("rival")
    assert market.job(job).state == honest_trace(6).state(6).root
    earned = {role: market.balance(role) - before[role] for role in before}
    assert earned == {
        "trainer": BOUNTY * 4 // 6 - TERMS.stake,
        "rival": BOUNTY - BOUNTY * 4 // 6,
        "challenger": REWARD,
    }


def test_a_trainer_that_has_failed_does_not_try_again(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=4, attempts=2), Diary()
    with (
        market.trainer(tmp_path / "liar", executor_of=lying(1), log=diary) as liar,
        market.challenger(tmp_path / "challenger") as challenger,
    ):
        market.until(lambda: market.job(job).attempt == 2, liar, challenger)
        market.settle(liar, challenger)
        assert market.job(job).status == JobStatus.OPEN
        assert market.sent("trainer").count("claim") == 1


def test_a_lie_in_every_attempt_is_convicted_in_every_attempt(market: Market, tmp_path: Path) -> None:
    job, before = market.open_job(tmp_path / "material", steps=4, attempts=2), market.balance("challenger")
    with (
        market.trainer(tmp_path / "first", executor_of=lying(1)) as first,
        market.trainer(tmp_path / "second", role="rival", executor_of=lying(3)) as second,
        market.challenger(tmp_path / "challenger") as challenger,
    ):
        market.until(lambda: market.job(job).status == JobStatus.SLASHED, first, second, challenger)
        market.settle(first, second, challenger)
    assert sorted(market.looking.game.game(game).step for game in (1, 2)) == [1, 3]
    assert market.balance("challenger") == before + 2 * REWARD


def test_a_final_state_that_is_wrong_keeps_the_next_trainer_from_claiming(market: Market, tmp_path: Path) -> None:
    """Nobody watched the first segment, so that its end stands: whoever computes rightly could post nothing after it."""
    job, diary = market.open_job(tmp_path / "material", steps=4, segment_length=2, attempts=2), Diary()
    with market.trainer(tmp_path / "liar", executor_of=lying(1)) as liar:
        market.until(lambda: market.job(job).posted == 1, liar)
        market.chain.advance(TERMS.challenge_window + 1)
        market.until(lambda: market.job(job).finalised == 1, liar)
    market.chain.advance(TERMS.segment_period + 1)
    market.acting["requester"].registry.expire(job)
    with market.trainer(tmp_path / "rival", role="rival", log=diary) as rival:
        market.until(lambda: bool(diary.of("job refused")), rival)
    assert "do not end in the state" in diary.of("job refused")[0]["reason"]
    assert market.sent("rival") == []


def test_bonds_of_an_earlier_attempt_come_back_after_a_restart(market: Market, tmp_path: Path) -> None:
    job = market.open_job(tmp_path / "material", steps=4, attempts=2)
    before = market.balance("watcher")
    with (
        market.trainer(tmp_path / "liar", executor_of=lying(1)) as liar,
        market.challenger(tmp_path / "challenger") as challenger,
        market.challenger(tmp_path / "watcher", role="watcher") as watcher,
    ):
        market.settle(liar)
        market.until(lambda: market.looking.game.game_count() == 1, watcher)
        watcher.close()
        market.until(lambda: market.job(job).attempt == 2, liar, challenger)
    with (
        market.trainer(tmp_path / "rival", role="rival", policy=TrainerPolicy()) as rival,
        market.challenger(tmp_path / "again", role="watcher") as watcher,
    ):
        market.until(lambda: market.job(job).status == JobStatus.VERIFICATION, rival)
        market.settle(rival, watcher)
        assert market.sent("watcher").count("reclaim") == 1
    assert market.balance("watcher") == before + REWARD  # it was the first to commit to the opening
