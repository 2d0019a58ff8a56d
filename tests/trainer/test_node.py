"""What a trainer node does: which jobs it takes, that it delivers, defends and collects, and that nothing of it stops the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.boundary import Array
from bisection.errors import ChainMismatch
from contracts.bindings import BLIND, Phase, step_commitment
from contracts.jobs import NOBODY, Job, JobSpec, JobStatus, Segment, Standing, Terms
from contracts.sender import Call
from tests.support.market import BOUNTY, ETHER, PARAMETERS, TERMS, Diary, Market, honest_trace, lying
from trainer.executor import Executor
from trainer.node import Action, TrainerPolicy, due, next_action
from trainer.package import Material
from trainer.work import recording_folder

ANYBODY = "0x" + 40 * "1"
SPEC = JobSpec(bytes(32), 1, 1, bytes(32), 1, bytes(32), 0, steps=10, segment_length=4, numerics_version=1)
GAME = "0x" + 40 * "2"
OFFER = Terms(stake=7, game=GAME, segment_period=100, challenge_window=50)
JOB = Job(
    status=JobStatus.OPEN, requester=ANYBODY, trainer=NOBODY, bounty=6, paid=1, attempt=1, deadline=0, posted=0, finalised=0,
    state=bytes(32), live_games=0, open_demands=0, delivery_end=0, settled=False, parent=0, job_hash=bytes(32), spec=SPEC,
    terms=OFFER,
)  # fmt: skip


@pytest.fixture(scope="module")
def chain_of_tests() -> Market:
    return Market()


@pytest.fixture
def market(chain_of_tests: Market) -> Iterator[Market]:
    with chain_of_tests.rehearsal() as market:
        yield market


# Decisions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"bounty": 5}, "min_bounty"),
        ({"paid": 2}, "min_bounty"),
        ({"terms": replace(OFFER, stake=9)}, "max_stake"),
        ({"terms": replace(OFFER, token=ANYBODY)}, "not in tokens"),
        ({"terms": replace(OFFER, token=GAME, stake=9)}, None),
        ({"terms": replace(OFFER, trainer=ANYBODY)}, None),
        ({"terms": replace(OFFER, trainer=GAME)}, "alone"),
        ({"terms": replace(OFFER, game=ANYBODY)}, "address book"),
        ({"spec": replace(SPEC, steps=11)}, "max_steps"),
        ({"spec": replace(SPEC, numerics_version=2)}, "numerics version 2"),
    ],
)
def test_the_policy_says_why_it_objects(changes: dict[str, object], words: str | None) -> None:
    policy = TrainerPolicy(min_bounty=5, max_stake=8, max_steps=10, tokens=frozenset({GAME}))
    objection = policy.objection(replace(JOB, **changes), ANYBODY, GAME)  # type: ignore[arg-type]
    assert objection is None if words is None else words in str(objection)


@pytest.mark.parametrize(
    ("status", "posted", "recorded", "live_games", "clock", "action"),
    [
        (JobStatus.TRAINING, 0, 0, 0, 10, Action.TRAIN),
        (JobStatus.TRAINING, 0, 3, 0, 10, Action.TRAIN),
        (JobStatus.TRAINING, 0, 4, 0, 10, Action.POST),
        (JobStatus.TRAINING, 1, 4, 0, 10, Action.TRAIN),
        (JobStatus.TRAINING, 2, 10, 0, 100, Action.POST),
        (JobStatus.TRAINING, 2, 10, 0, 101, Action.GIVE_UP),
        (JobStatus.TRAINING, 2, 10, 0, 201, Action.FINALISE),
        (JobStatus.TRAINING, 2, 10, 1, 201, Action.GIVE_UP),
        (JobStatus.VERIFICATION, 3, 10, 0, 200, Action.WAIT),
        (JobStatus.VERIFICATION, 3, 10, 1, 201, Action.WAIT),
        (JobStatus.VERIFICATION, 3, 10, 0, 201, Action.FINALISE),
        (JobStatus.VERIFICATION, 3, 9, 0, 200, Action.TRAIN),
        (JobStatus.COMPLETED, 3, 10, 0, 300, Action.WAIT),
        (JobStatus.COMPLETED, 3, 9, 0, 300, Action.TRAIN),
        (JobStatus.COMPLETED, 3, 10, 0, 301, Action.RELEASE),
    ],
)
def test_the_next_action(status: JobStatus, posted: int, recorded: int, live_games: int, clock: int, action: Action) -> None:
    final = 3 if status == JobStatus.COMPLETED else 0
    job = replace(JOB, status=status, posted=posted, finalised=final, live_games=live_games, deadline=100, delivery_end=300)
    oldest = Segment(0, 4, bytes(32), bytes(32), 200, live_games, False) if final < posted else None
    assert next_action(job, recorded, oldest, Standing(True, False, ANYBODY, clock)) == action  # type: ignore[arg-type]


def test_a_demanded_leaf_comes_before_the_retained_share() -> None:
    job = replace(JOB, status=JobStatus.COMPLETED, posted=3, finalised=3, delivery_end=300, open_demands=1)
    assert next_action(job, 10, None, Standing(False, False, ANYBODY, 301)) == Action.WAIT  # type: ignore[arg-type]


@given(recorded=st.integers(0, 10), clock=st.integers(0, 300))
def test_nothing_is_sent_during_a_pause(recorded: int, clock: int) -> None:
    job = replace(JOB, status=JobStatus.TRAINING, posted=2, deadline=100)
    oldest = Segment(0, 4, bytes(32), bytes(32), 200, 0, False)
    action = next_action(job, recorded, oldest, Standing(True, True, ANYBODY, clock))  # type: ignore[arg-type]
    assert action in (Action.TRAIN, Action.WAIT)


@given(
    steps=st.integers(1, 30), length=st.integers(1, 30), posted=st.integers(0, 30), recorded=st.integers(0, 30),
    clock=st.integers(0, 300),
)  # fmt: skip
def test_only_what_is_recorded_is_posted_and_all_that_is_posted_gets_recorded(
    steps: int, length: int, posted: int, recorded: int, clock: int
) -> None:
    length = min(length, steps)
    segments = -(-steps // length)
    posted, recorded = min(posted, segments), min(recorded, steps)
    status = JobStatus.VERIFICATION if posted == segments else JobStatus.TRAINING
    job = replace(JOB, status=status, posted=posted, deadline=100, spec=replace(SPEC, steps=steps, segment_length=length))
    oldest = Segment(0, length, bytes(32), bytes(32), 200, 0, False) if posted else None
    action = next_action(job, recorded, oldest, Standing(True, False, ANYBODY, clock))  # type: ignore[arg-type]
    assert min(posted * length, steps) <= due(job) <= steps
    if action == Action.POST:
        assert recorded >= due(job)
    if action == Action.TRAIN:
        assert recorded < due(job)


# A whole job ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "segment_length"), [(6, 6), (7, 3), (1, 1)])
def test_a_job_is_trained_posted_completed_and_paid(market: Market, tmp_path: Path, steps: int, segment_length: int) -> None:
    job, before, diary = market.open_job(tmp_path / "material", steps, segment_length), market.balance("trainer"), Diary()
    with market.trainer(tmp_path / "trainer", log=diary, checkpoint_every=2) as trainer:
        market.finish(trainer)
        trainer.tick()
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.job(job).state == honest_trace(steps).state(steps).root
    assert market.balance("trainer") == before + BOUNTY
    posts = -(-steps // segment_length)
    sent = market.sent("trainer")
    assert sent[:2] == ["commit", "claim"] and sent[-1] == "withdraw"
    assert [sent.count(name) for name in ("post_segment", "finalise")] == [posts, posts]
    assert [fields["step"] for fields in diary.of("step")] == list(range(1, steps + 1))
    assert not diary.of("failed")


def test_jobs_are_taken_one_after_the_other_as_the_policy_says(market: Market, tmp_path: Path) -> None:
    jobs = [market.open_job(tmp_path / "material") for _ in range(3)]
    with market.trainer(tmp_path / "trainer", policy=TrainerPolicy(max_jobs=2)) as trainer:
        market.settle(trainer)
        assert [market.job(job).status for job in jobs] == [JobStatus.VERIFICATION, JobStatus.VERIFICATION, JobStatus.OPEN]
        market.finish(trainer)
    assert [market.job(job).status for job in jobs] == [JobStatus.COMPLETED] * 3


# Jobs that are refused --------------------------------------------------------------------------------------------------


def test_a_refused_job_is_told_once_and_does_not_stand_before_the_others(market: Market, tmp_path: Path) -> None:
    refused = market.open_job(tmp_path / "material", trainer=market.address("rival"))
    taken, diary = market.open_job(tmp_path / "material"), Diary()
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.settle(trainer)
    (event,) = diary.of("job refused")
    assert event["job"] == refused
    assert "alone" in event["reason"]
    assert (market.job(refused).status, market.job(taken).status) == (JobStatus.OPEN, JobStatus.VERIFICATION)


@pytest.mark.parametrize("kind", ["blobs", "digests", "programs"])
def test_a_wrong_published_byte_keeps_the_trainer_from_claiming(market: Market, tmp_path: Path, kind: str) -> None:
    job, diary = market.open_job(tmp_path / "material"), Diary()
    damaged = max(
        (path for path in (tmp_path / "material" / kind).rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x55")
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.settle(trainer)
    assert "hash" in diary.of("job refused")[0]["reason"] or "root" in diary.of("job refused")[0]["reason"]
    assert market.sent("trainer") == []
    assert market.job(job).status == JobStatus.OPEN


def test_counts_that_do_not_belong_to_the_program_are_refused(market: Market, tmp_path: Path) -> None:
    diary = Diary()
    market.open_job(tmp_path / "material", node_count=99)
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.settle(trainer)
    assert "99 nodes" in diary.of("job refused")[0]["reason"]


def test_a_job_that_this_machine_would_not_finish_in_time_is_refused(market: Market, tmp_path: Path) -> None:
    diary = Diary()
    market.open_job(tmp_path / "material", steps=900_000, segment_period=1)
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.settle(trainer)
    assert "segment period of 1 s" in diary.of("job refused")[0]["reason"]
    assert market.sent("trainer") == []


def test_a_folder_that_holds_another_jobs_recording_is_left_alone(market: Market, tmp_path: Path) -> None:
    first, diary = market.open_job(tmp_path / "material"), Diary()
    with market.trainer(tmp_path / "trainer") as trainer:
        market.settle(trainer)
    job = market.open_job(tmp_path / "material")
    folder = recording_folder(tmp_path / "other", job, market.job(job))
    (tmp_path / "other").mkdir()
    shutil.move(recording_folder(tmp_path / "trainer", first, market.job(first)), folder)
    identity = folder / "job.json"
    identity.write_text(identity.read_text().replace('"program": "', '"program": "00'))
    kept = (folder / "history").read_bytes()
    with market.trainer(tmp_path / "other", role="rival", log=diary) as other:
        market.settle(other)
    assert "another job" in diary.of("job refused")[0]["reason"]
    assert market.job(job).status == JobStatus.OPEN
    assert (folder / "history").read_bytes() == kept


def test_a_number_that_a_reorganisation_gives_to_another_job_is_worked_on_as_that(market: Market, tmp_path: Path) -> None:
    """The node has the material of the first and is training it; then the number is that of a job with another program."""
    mark = market.chain.snapshot()
    with market.trainer(tmp_path / "trainer") as trainer:
        job = market.open_job(tmp_path / "small", steps=9, segment_length=3)
        market.until(lambda: market.job(job).posted == 1, trainer)
        with market.other_branch(mark):
            assert market.open_job(tmp_path / "large", size=400) == job
        market.finish(trainer)
    assert market.job(job).status == JobStatus.COMPLETED


def test_material_that_is_not_there_yet_is_waited_for(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material"), Diary()
    (tmp_path / "material").rename(tmp_path / "hidden")
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.until(lambda: bool(diary.of("failed")), trainer)
        assert "holds nothing" in diary.of("failed")[0]["reason"]
        (tmp_path / "hidden").rename(tmp_path / "material")
        market.until(lambda: market.job(job).status == JobStatus.VERIFICATION, trainer)


# Races and failures -----------------------------------------------------------------------------------------------------


def test_who_loses_the_race_for_a_job_goes_on_with_the_next(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, diary = market.open_job(tmp_path / "material"), market.open_job(tmp_path / "material"), Diary()
    registry = market.acting["trainer"].registry
    call = registry.call

    def raced(name: str, *arguments: object, **more: int) -> Call:
        if (name, *arguments[:1]) == ("claim", first):
            market.claim(first, "rival", "http://rival")
        return call(name, *arguments, **more)

    monkeypatch.setattr(registry, "call", raced)
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.until(lambda: market.job(second).status == JobStatus.VERIFICATION, trainer)
    assert [fields["reason"] for fields in diary.of("failed")] == ["claim: registry: job not open"]
    assert market.job(first).trainer == market.address("rival")
    assert market.sent("trainer") == ["commit", "commit", "claim", "post_segment"]


def test_a_job_that_somebody_else_finalises_is_collected_all_the_same(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, diary = market.open_job(tmp_path / "material"), Diary()
    registry = market.acting["trainer"].registry
    finalise = registry.finalise

    def raced(number: int) -> object:
        market.acting["requester"].registry.finalise(number)
        return finalise(number)

    monkeypatch.setattr(registry, "finalise", raced)
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.finish(trainer)
        market.settle(trainer)
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.sent("trainer")[-1] == "withdraw"
    assert diary.of("failed")[0]["kind"] == "TransactionFailed"


def test_who_is_too_late_says_so_once_and_only_collects_what_it_earned(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=6, segment_length=3), Diary()
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.until(lambda: market.job(job).posted == 1, trainer)
        market.chain.advance(TERMS.segment_period)
        market.settle(trainer)
        market.settle(trainer)
        assert len(diary.of("too late")) == 1
        assert market.sent("trainer") == ["commit", "claim", "post_segment", "finalise", "withdraw"]
        market.acting["requester"].registry.expire(job)
        market.settle(trainer)
    assert diary.of("job over") == [{"job": job, "status": "expired"}]


def test_a_move_that_the_chain_refuses_costs_no_gas_and_is_tried_ever_less_often(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.open_job(tmp_path / "material")
    diary, registry = Diary(), market.acting["trainer"].registry
    post = registry.post_segment
    monkeypatch.setattr(registry, "post_segment", lambda job, root, start, end, proof: post(job, bytes(32), start, end, proof))
    with market.trainer(tmp_path / "trainer", log=diary) as trainer:
        market.until(lambda: len(diary.of("failed")) == 4, trainer)
    assert [failure["times"] for failure in diary.of("failed")] == [1, 2, 4, 8]
    assert market.sent("trainer") == ["commit", "claim"]


def blind(market: Market, job: int, segment: int) -> int:
    """A blind game of the challenger's about a segment."""
    game, salt = market.acting["challenger"].game, bytes(32)
    game.commit(step_commitment(market.address("challenger"), job, segment, BLIND, salt))
    return game.open_blind(job, segment, salt)


class Failing:
    """An executor whose device is lost for a while, each time it comes to a certain step."""

    def __init__(self, material: Material, step: int, times: int) -> None:
        self._executor, self._step, self._times = Executor(material.program, material.data), step, times

    def step(self, state: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, float]]:
        if int(state["step"]) == self._step and self._times:
            self._times -= 1
            raise RuntimeError("device lost")
        return self._executor.step(state)

    def trace(self, state: Mapping[str, Array]) -> list[Array]:
        return self._executor.trace(state)


def test_training_that_fails_is_taken_up_again_with_the_same_history(market: Market, tmp_path: Path) -> None:
    job, diary = market.open_job(tmp_path / "material", steps=9), Diary()
    with market.trainer(
        tmp_path / "trainer", log=diary, checkpoint_every=2, executor_of=lambda material: Failing(material, 5, 2)
    ) as trainer:
        market.until(lambda: market.job(job).status == JobStatus.VERIFICATION, trainer)
    assert diary.of("failed")[0]["reason"] == "RuntimeError: device lost"
    assert market.looking.registry.segment(job, 0).history_root == honest_trace(9).history().root


def test_a_job_that_keeps_failing_does_not_stop_the_defence_of_another(market: Market, tmp_path: Path) -> None:
    sound = market.open_job(tmp_path / "material")
    with market.trainer(tmp_path / "trainer") as trainer:
        market.settle(trainer)
    broken, diary = market.open_job(tmp_path / "material", steps=8), Diary()
    opened = blind(market, sound, 0)
    folder = tmp_path / "trainer"
    options = {"policy": TrainerPolicy(max_jobs=2), "executor_of": lambda material: Failing(material, 7, 10**9)}
    with market.trainer(folder, log=diary, **options) as trainer:
        market.until(lambda: len(diary.of("failed")) == 3, trainer)
        assert market.job(broken).status == JobStatus.TRAINING
        assert market.looking.game.game(opened).phase == Phase.CHALLENGER
        assert {fields["job"] for fields in diary.of("failed")} == {broken}


def test_another_chain_in_the_place_of_this_one_ends_the_node(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.open_job(tmp_path / "material")

    def mismatch(_: Call) -> None:
        raise ChainMismatch("another chain")

    monkeypatch.setattr(market.senders["trainer"], "send", mismatch)
    with market.trainer(tmp_path / "trainer") as trainer, pytest.raises(ChainMismatch):
        market.settle(trainer)


# Games ------------------------------------------------------------------------------------------------------------------


def test_a_false_challenge_is_answered_to_its_end_and_its_bond_collected(market: Market, tmp_path: Path) -> None:
    job, before = market.open_job(tmp_path / "material", steps=5), market.balance("trainer")
    with (
        market.trainer(tmp_path / "trainer") as trainer,
        market.challenger(tmp_path / "challenger", executor_of=lying(3)) as wrong,
    ):
        market.finish(trainer, wrong)
        trainer.tick()
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.looking.game.game(1).phase == Phase.ACQUITTED
    assert market.balance("trainer") == before + BOUNTY + PARAMETERS.bond


def test_a_challenger_that_falls_silent_loses_its_bond(market: Market, tmp_path: Path) -> None:
    job, before = market.open_job(tmp_path / "material"), market.balance("trainer")
    with market.trainer(tmp_path / "trainer") as trainer:
        market.settle(trainer)
        game = blind(market, job, 0)
        market.settle(trainer)
        market.chain.advance(PARAMETERS.challenger_clock + 1)
        market.finish(trainer)
        trainer.tick()
    assert market.looking.game.game(game).phase == Phase.ACQUITTED
    assert market.balance("trainer") == before + BOUNTY + PARAMETERS.bond


def test_a_recording_that_was_lost_is_made_again_and_defended(market: Market, tmp_path: Path) -> None:
    job = market.open_job(tmp_path / "material", steps=6, segment_length=2)
    with market.trainer(tmp_path / "trainer") as trainer:
        market.settle(trainer)
    shutil.rmtree(tmp_path / "trainer")
    game = blind(market, job, 2)
    with market.trainer(tmp_path / "trainer") as trainer:
        market.settle(trainer)
        assert market.looking.game.game(game).phase == Phase.CHALLENGER


def test_nothing_is_withdrawn_where_nothing_is_owed(market: Market, tmp_path: Path) -> None:
    job = market.open_job(tmp_path / "material")
    with (
        market.trainer(tmp_path / "trainer") as trainer,
        market.trainer(tmp_path / "rival", role="rival", policy=TrainerPolicy(min_bounty=2 * ETHER)) as rival,
    ):
        market.finish(trainer, rival)
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.sent("rival") == []
