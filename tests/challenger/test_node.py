"""What a challenger node does: it stays silent about honest work, convicts the first wrong number, and never pays twice for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bisection.errors import UsageError
from bisection.merkle import Tree
from challenger.node import ChallengerNode, Mode, SegmentVerdict
from contracts.bindings import Phase
from contracts.jobs import JobStatus
from contracts.sender import Call
from tests.support.market import ETHER, PARAMETERS, TERMS, Diary, Market, lying
from trainer.node import TrainerPolicy
from trainer.service import ServedTrace

VALID, FRAUDULENT, UNVERIFIABLE = SegmentVerdict.VALID, SegmentVerdict.FRAUDULENT, SegmentVerdict.UNVERIFIABLE
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000


@pytest.fixture(scope="module")
def chain_of_tests() -> Market:
    return Market()


@pytest.fixture
def market(chain_of_tests: Market) -> Iterator[Market]:
    with chain_of_tests.rehearsal() as market:
        yield market


class Withheld(ServedTrace):
    """A trainer that shows nothing, so that everything has to be forced out on chain."""

    def history(self) -> None:
        return None

    def trace(self, step: int) -> None:
        return None

    def state(self, step: int) -> None:
        return None

    def tensor(self, step: int, number: int) -> None:
        return None


# Verdicts ---------------------------------------------------------------------------------------------------------------


def test_honest_segments_are_found_valid_in_silence(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=7, segment_length=3), Diary()
    with market.trainer(tmp_path / "trainer") as trainer, market.challenger(tmp_path / "challenger", log=diary) as challenger:
        market.finish(trainer, challenger)
        assert challenger.verdicts == {(job, segment): VALID for segment in range(3)}
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.sent("challenger") == []
    assert not diary.of("failed", "UNVERIFIABLE")


@pytest.mark.parametrize(("step", "shown"), [(0, ServedTrace), (3, Withheld), (4, ServedTrace), (6, Withheld)])
def test_a_lie_in_any_segment_is_convicted_and_later_segments_are_left_alone(
    market: Market, tmp_path: Path, step: int, shown: type[ServedTrace]
) -> None:
    job, before = market.open_job(tmp_path / "material", steps=7, segment_length=3), market.balance("challenger")
    with (
        market.trainer(tmp_path / "trainer", executor_of=lying(step), served_of=shown) as trainer,
        market.challenger(tmp_path / "challenger") as challenger,
    ):
        market.settle(trainer)  # everything is posted before anybody looks
        market.finish(trainer, challenger)
        challenger.tick()
        first = {(job, segment): VALID for segment in range(step // 3)}
        assert challenger.verdicts == first | {(job, step // 3): FRAUDULENT}
    assert market.job(job).status == JobStatus.SLASHED
    assert [view.step for view in [market.looking.game.game(1)]] == [step % 3]
    assert market.looking.game.game_count() == 1
    assert market.balance("challenger") == before + REWARD


def test_who_only_watches_needs_no_key_and_sends_nothing(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=4, segment_length=2), Diary()
    with market.trainer(tmp_path / "trainer", executor_of=lying(1)) as trainer:
        market.settle(trainer)
        watcher = ChallengerNode(market.looking, None, tmp_path / "watcher", mode=Mode.WATCH, log=diary)
        market.settle(watcher)
        watcher.close()
    assert watcher.verdicts == {(job, 0): FRAUDULENT}
    assert market.looking.game.game_count() == 0
    assert market.job(job).status == JobStatus.VERIFICATION
    assert not diary.of("failed")


def test_a_job_that_cannot_be_verified_is_an_alert_and_no_hindrance(market: Market, tmp_path: Path) -> None:
    hidden, seen = market.open_job(tmp_path / "hidden", steps=3, size=208), market.open_job(tmp_path / "material", steps=4)
    diary = Diary()
    with market.trainer(tmp_path / "trainer", policy=TrainerPolicy(max_jobs=2), executor_of=lying(2)) as trainer:
        market.settle(trainer)
        trainer.close()
        shutil.move(tmp_path / "hidden", tmp_path / "elsewhere")
        shutil.move(tmp_path / "trainer" / "store", tmp_path / "gone")
        with market.challenger(tmp_path / "challenger", log=diary) as challenger:
            market.until(lambda: market.looking.game.game_count() == 1, challenger)
            assert challenger.verdicts == {(hidden, 0): UNVERIFIABLE, (seen, 0): FRAUDULENT}
            assert [event["job"] for event in diary.of("UNVERIFIABLE")] == [hidden]
            shutil.move(tmp_path / "elsewhere", tmp_path / "hidden")
            market.until(lambda: challenger.verdicts[hidden, 0] != UNVERIFIABLE, challenger)
            assert challenger.verdicts[hidden, 0] == FRAUDULENT


def test_a_job_in_unknown_numerics_is_unverifiable(market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=1), Diary()
    history = Tree([market.job(job).spec.initial_state, bytes(32)])
    market.claim(job, "rival", "http://rival.invalid")
    market.acting["rival"].registry.post_segment(job, history.root, history.prove(0), bytes(32), history.prove(1))
    monkeypatch.setattr("trainer.package.NUMERICS_VERSION", 9)
    with market.challenger(tmp_path / "challenger", log=diary) as challenger:
        market.until(lambda: bool(challenger.verdicts), challenger)
    assert challenger.verdicts == {(job, 0): UNVERIFIABLE}
    assert "numerics version 1" in diary.of("UNVERIFIABLE")[0]["reason"]


def test_no_more_jobs_are_replayed_at_once_than_allowed_and_none_is_forgotten(market: Market, tmp_path: Path) -> None:
    jobs = [market.open_job(tmp_path / "material", steps=steps) for steps in (3, 4, 5)]
    with market.trainer(tmp_path / "trainer", policy=TrainerPolicy(max_jobs=3)) as trainer:
        market.settle(trainer)
        with market.challenger(tmp_path / "challenger", max_jobs=1) as challenger:
            market.until(lambda: len(challenger.verdicts) == 3, challenger)
            assert challenger.verdicts == {(job, 0): VALID for job in jobs}


def test_a_bond_that_is_too_high_is_refused_at_once(market: Market, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.1 ETH, more than max_bond allows \(0\.05\)"):
        ChallengerNode(market.acting["challenger"], market.address("challenger"), tmp_path, max_bond=ETHER // 20)
    ChallengerNode(market.looking, None, tmp_path, max_bond=ETHER // 20, mode=Mode.WATCH).close()


def test_nobody_challenges_oneself(market: Market, tmp_path: Path) -> None:
    job = market.open_job(tmp_path / "material")
    with (
        market.trainer(tmp_path / "trainer", executor_of=lying(2)) as trainer,
        market.challenger(tmp_path / "challenger", role="trainer") as challenger,
    ):
        market.finish(trainer, challenger)
    assert market.job(job).status == JobStatus.COMPLETED
    assert challenger.verdicts == {}


# Games that do not go straight ------------------------------------------------------------------------------------------


def test_a_number_that_a_reorganisation_gives_to_another_job_is_replayed_as_that(market: Market, tmp_path: Path) -> None:
    """Who replayed the first would take honest work on the second for fraud, and lose a bond."""

    def opened(size: int) -> int:
        return market.open_job(tmp_path / str(size), steps=4, segment_length=2, size=size)

    mark = market.chain.snapshot()
    with market.challenger(tmp_path / "challenger") as challenger:

        def found_valid(job: int, folder: str) -> None:
            with market.trainer(tmp_path / folder) as trainer:
                market.until(lambda: challenger.verdicts == {(job, 0): VALID, (job, 1): VALID}, trainer, challenger)

        found_valid(opened(200), "first")
        with market.other_branch(mark):
            job = opened(400)
        found_valid(job, "second")
    assert market.looking.game.game_count() == 0


@pytest.mark.parametrize("folder_is_lost", [False, True])
def test_a_restarted_challenger_goes_on_with_its_open_game(market: Market, tmp_path: Path, folder_is_lost: bool) -> None:
    job, before = market.open_job(tmp_path / "material", steps=6, segment_length=3), market.balance("challenger")
    with market.trainer(tmp_path / "trainer", executor_of=lying(4), served_of=Withheld) as trainer:
        with market.challenger(tmp_path / "challenger") as challenger:
            market.until(lambda: market.sent("challenger").count("pick") == 1, trainer, challenger)
        if folder_is_lost:
            shutil.rmtree(tmp_path / "challenger")
        with market.challenger(tmp_path / "challenger") as challenger:
            market.finish(trainer, challenger)
            challenger.tick()
    assert market.job(job).status == JobStatus.SLASHED
    assert market.looking.game.game_count() == 1
    assert market.balance("challenger") == before + REWARD


class TensorsWithheld(ServedTrace):
    """A trainer that shows digests, but no tensor."""

    def tensor(self, step: int, number: int) -> None:
        return None


def test_a_service_that_falls_silent_during_a_restart_gains_nothing(market: Market, tmp_path: Path) -> None:
    # By then the tensor is demanded on chain; the digests that led to it, which were only ever served, are demanded after it.
    job = market.open_job(tmp_path / "material", steps=4)
    with (
        market.trainer(tmp_path / "trainer", executor_of=lying(2), served_of=TensorsWithheld) as trainer,
        market.challenger(tmp_path / "challenger") as challenger,
    ):
        market.until(lambda: "demand_tensor" in market.sent("challenger"), trainer, challenger)
    with (
        market.trainer(tmp_path / "trainer", executor_of=lying(2), served_of=Withheld) as trainer,
        market.challenger(tmp_path / "challenger") as challenger,
    ):
        market.finish(trainer, challenger)
    assert market.job(job).status == JobStatus.SLASHED
    moves = market.sent("challenger")
    assert moves.index("demand_tensor") < moves.index("demand_trace") < moves.index("conclude_element")


def test_a_trainer_that_falls_silent_loses_by_its_clock(market: Market, tmp_path: Path) -> None:
    job = market.open_job(tmp_path / "material", steps=4)
    with market.trainer(tmp_path / "trainer", executor_of=lying(2), served_of=Withheld) as trainer:
        market.settle(trainer)
    with market.challenger(tmp_path / "challenger") as challenger:
        market.settle(challenger)
        market.chain.advance(PARAMETERS.trainer_clock + 1)
        market.settle(challenger)
    assert market.job(job).status == JobStatus.SLASHED
    assert market.sent("challenger") == ["commit", "open_blind", "timeout", "withdraw", "withdraw"]


def test_who_is_beaten_to_the_conviction_takes_its_bond_back(market: Market, tmp_path: Path) -> None:
    job, before = market.open_job(tmp_path / "material", steps=4), market.balance("watcher")
    with market.trainer(tmp_path / "trainer", executor_of=lying(2)) as trainer:
        market.settle(trainer)
        with (
            market.challenger(tmp_path / "challenger") as challenger,
            market.challenger(tmp_path / "watcher", role="watcher") as second,
        ):
            market.until(lambda: market.looking.game.game_count() == 2, challenger, second)
            market.finish(trainer, challenger)
            market.settle(second)
    assert market.job(job).status == JobStatus.SLASHED
    assert market.sent("watcher")[-2:] == ["reclaim", "withdraw"]
    assert market.balance("watcher") == before


def test_a_lost_game_is_not_paid_for_twice(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=4), Diary()
    with market.trainer(tmp_path / "trainer") as trainer:
        market.settle(trainer)
        for run in range(2):
            folder, log = tmp_path / f"challenger-{run}", diary if run else Diary()
            with market.challenger(folder, executor_of=lying(2), log=log) as wrong:
                market.settle(trainer, wrong)
    assert market.looking.game.game(1).phase == Phase.ACQUITTED
    assert market.looking.game.game_count() == 1
    assert market.job(job).status == JobStatus.VERIFICATION
    assert "lost already" in diary.of("too late")[0]["reason"]


def test_fraud_that_is_found_after_the_window_is_told_and_costs_nothing(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=6, segment_length=3), Diary()
    with market.trainer(tmp_path / "trainer", executor_of=lying(1)) as trainer:
        market.until(lambda: market.job(job).posted == 2, trainer)
        trainer.close()
    market.chain.advance(TERMS.challenge_window + 1)
    with market.challenger(tmp_path / "challenger", log=diary) as challenger:
        market.settle(challenger)
        market.settle(challenger)
    assert [event["reason"] for event in diary.of("too late")] == ["its challenge window is over"]
    assert market.sent("challenger") == []


def test_a_window_that_closes_just_before_the_opening_is_no_accident(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.open_job(tmp_path / "material", steps=4)
    diary, games = Diary(), market.acting["challenger"].game
    call = games.call

    def late(name: str, *arguments: object, **more: int) -> Call:
        if name == "open_step":
            market.chain.advance(TERMS.challenge_window + 1)
        return call(name, *arguments, **more)

    monkeypatch.setattr(games, "call", late)
    with (
        market.trainer(tmp_path / "trainer", executor_of=lying(2)) as trainer,
        market.challenger(tmp_path / "challenger", log=diary) as challenger,
    ):
        market.settle(trainer)
        market.until(lambda: bool(diary.of("too late")), challenger)
    assert [event["reason"] for event in diary.of("failed")] == ["open_step: commitments: expired"]
    assert market.sent("challenger") == ["commit"]
