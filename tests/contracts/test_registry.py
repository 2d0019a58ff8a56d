"""The life of a job (docs/protocol.md, "A job")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.errors import TransactionFailed
from contracts.build import artifact
from contracts.events import (
    GameSet,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobExpired,
    JobOpened,
    JobSlashed,
    SegmentPosted,
    decode,
)
from contracts.jobs import JobStatus, Terms
from contracts.registry import TaskRegistry
from contracts.sender import Call
from tests.contracts.stage import BOUNTY, NOBODY, PARAMETERS, TERMS, Stage, TrainerRun, boundary_witness, digest, refused

RUN = TrainerRun()
BURNT = TERMS.stake * PARAMETERS.burn_share // 10_000


def test_an_honest_job_runs_from_its_offer_to_its_payment(stage: Stage) -> None:
    job = stage.opened(RUN)
    assert stage.registry.job(job).status == JobStatus.OPEN
    stage.trainer.registry.claim(job, "https://trainer.example", TERMS.stake)
    claimed = stage.registry.job(job)
    assert (claimed.status, claimed.deadline) == (JobStatus.TRAINING, stage.now() + TERMS.training_period)
    for segment in range(3):
        assert stage.registry.job(job).state == RUN.histories[segment].levels[0][0]
        stage.post(job, RUN, segment)
    assert stage.registry.job(job).status == JobStatus.VERIFICATION
    stage.chain.advance(TERMS.challenge_window + 1)
    stage.stranger.registry.finalise(job)
    done = stage.registry.job(job)
    assert (done.status, done.posted, done.state, done.live_games) == (JobStatus.COMPLETED, 3, RUN.states[10].root, 0)
    assert stage.registry.credit(stage.trainer.address) == BOUNTY + TERMS.stake == stage.held()


def test_a_job_shows_what_was_agreed(stage: Stage) -> None:
    job = stage.registry.job(stage.claimed(RUN))
    assert (job.spec, job.terms, job.bounty, job.job_hash) == (RUN.spec, TERMS, BOUNTY, RUN.spec.job_hash)
    assert (job.requester, job.trainer) == (stage.requester.address, stage.trainer.address)


def test_every_transition_tells_of_itself(stage: Stage) -> None:
    requester, trainer = stage.requester, stage.trainer
    (opened,) = stage.events(requester.registry.send("open_job", RUN.spec, TERMS, "here", value=5))
    assert isinstance(opened, JobOpened)
    assert (opened.requester, opened.job_hash, opened.spec, opened.terms, opened.bounty, opened.uri) == (
        requester.address, RUN.spec.job_hash, RUN.spec, TERMS, 5, "here",
    )  # fmt: skip
    (claimed,) = stage.events(trainer.registry.claim(opened.job, "there", TERMS.stake))
    assert isinstance(claimed, JobClaimed)
    assert (claimed.trainer, claimed.deadline, claimed.uri) == (trainer.address, stage.now() + TERMS.training_period, "there")
    (posted,) = stage.events(stage.post(opened.job, RUN, 0))
    assert isinstance(posted, SegmentPosted)
    assert (posted.segment, posted.history_root, posted.end_state) == (0, RUN.histories[0].root, RUN.states[4].root)
    assert posted.window_end == stage.now() + TERMS.challenge_window
    for segment in (1, 2):
        stage.post(opened.job, RUN, segment)
    stage.chain.advance(TERMS.challenge_window + 1)
    (completed,) = stage.events(requester.registry.finalise(opened.job))
    assert isinstance(completed, JobCompleted)
    assert (completed.job, completed.trainer, completed.state) == (opened.job, trainer.address, RUN.states[10].root)


def test_segments_cover_the_steps_and_the_last_may_be_shorter(stage: Stage) -> None:
    job = stage.posted(RUN)
    segments = [stage.registry.segment(job, i) for i in range(3)]
    assert [(s.first_step, s.steps) for s in segments] == [(0, 4), (4, 4), (8, 2)]
    assert [s.history_root for s in segments] == [tree.root for tree in RUN.histories]
    assert [s.end_state for s in segments] == [RUN.states[k].root for k in (4, 8, 10)]
    with refused("registry: segment not posted"):
        stage.registry.segment(job, 3)


@pytest.mark.parametrize("length", [1, 10])
def test_a_segment_can_be_one_step_or_the_whole_job(stage: Stage, length: int) -> None:
    job = stage.posted(TrainerRun(segment_length=length))
    assert stage.registry.job(job).status == JobStatus.VERIFICATION
    assert stage.registry.job(job).posted == 10 // length


# Opening


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"node_count": 0}, "bad node count"),
        ({"node_count": 2**24}, "bad node count"),
        ({"tensor_count": 0}, "bad tensor count"),
        ({"tensor_count": 2**24 + 1}, "bad tensor count"),
        ({"state_count": 0}, "bad state count"),
        ({"state_count": 2**24 + 1}, "bad state count"),
        ({"data_count": 2**24 + 1}, "bad data count"),
        ({"steps": 0}, "bad steps"),
        ({"steps": 2**32}, "bad steps"),
        ({"segment_length": 0}, "bad segment length"),
        ({"segment_length": 11}, "bad segment length"),
        ({"numerics_version": 2**32}, "bad numerics version"),
    ],
)
def test_a_specification_out_of_bounds_is_refused(stage: Stage, change: dict[str, int], reason: str) -> None:
    with refused(f"registry: {reason}"):
        stage.requester.registry.open_job(replace(RUN.spec, **change), TERMS, "", BOUNTY)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stake": 0}, "no stake"),
        ({"training_period": 0}, "bad training period"),
        ({"training_period": 2**32}, "bad training period"),
        ({"challenge_window": 0}, "bad challenge window"),
        ({"challenge_window": 2**32}, "bad challenge window"),
    ],
)
def test_terms_out_of_bounds_are_refused(stage: Stage, change: dict[str, int], reason: str) -> None:
    with refused(f"registry: {reason}"):
        stage.requester.registry.open_job(RUN.spec, replace(TERMS, **change), "", BOUNTY)


def test_the_largest_specification_is_stored_without_loss(stage: Stage) -> None:
    spec = replace(
        RUN.spec, node_count=2**24 - 1, tensor_count=2**24, state_count=2**24, data_count=2**24,
        steps=2**32 - 1, segment_length=2**32 - 1, numerics_version=2**32 - 1,
    )  # fmt: skip
    terms = Terms(2**255, 2**32 - 1, 2**32 - 1)
    job = stage.registry.job(stage.requester.registry.open_job(spec, terms, "", 0))
    assert (job.spec, job.terms, job.bounty, job.job_hash) == (spec, terms, 0, spec.job_hash)


def test_a_program_may_read_no_data(stage: Stage) -> None:
    spec = replace(RUN.spec, data_root=bytes(32), data_count=0)
    assert stage.registry.job(stage.requester.registry.open_job(spec, TERMS, "", 1)).spec == spec


def test_jobs_are_numbered_from_one(stage: Stage) -> None:
    assert [stage.opened(RUN) for _ in range(3)] == [1, 2, 3]
    assert stage.registry.job_count() == 3
    for unknown in (0, 4, 2**256 - 1):
        with refused("registry: unknown job"):
            stage.registry.job(unknown)


# Cancelling and claiming


def test_a_requester_takes_an_open_job_back(stage: Stage) -> None:
    job = stage.opened(RUN)
    (cancelled,) = stage.events(stage.requester.registry.cancel(job))
    assert isinstance(cancelled, JobCancelled)
    assert stage.registry.job(job).status == JobStatus.CANCELLED
    assert stage.registry.credit(stage.requester.address) == BOUNTY == stage.held()
    for act in (lambda: stage.requester.registry.cancel(job), lambda: stage.trainer.registry.claim(job, "", TERMS.stake)):
        with refused("registry: job not open"):
            act()


def test_nobody_else_takes_a_job_back_and_nobody_a_claimed_one(stage: Stage) -> None:
    job = stage.opened(RUN)
    with refused("registry: not the requester"):
        stage.stranger.registry.cancel(job)
    stage.trainer.registry.claim(job, "", TERMS.stake)
    with refused("registry: job not open"):
        stage.requester.registry.cancel(job)


def test_a_job_has_one_trainer(stage: Stage) -> None:
    job = stage.claimed(RUN)
    with refused("registry: job not open"):
        stage.watcher.registry.claim(job, "", TERMS.stake)


@pytest.mark.parametrize("stake", [0, TERMS.stake - 1, TERMS.stake + 1])
def test_a_claim_brings_exactly_the_stake(stage: Stage, stake: int) -> None:
    with refused("registry: wrong stake"):
        stage.trainer.registry.claim(stage.opened(RUN), "", stake)


# Posting segments


def test_a_segment_starts_where_the_last_one_ended(stage: Stage) -> None:
    job = stage.claimed(RUN)
    with refused("merkle: proof of another root"):
        stage.post(job, TrainerRun(name="another"), 0)
    with refused("merkle: proof of another root"):
        stage.post(job, RUN, 1)
    stage.post(job, RUN, 0)
    with refused("merkle: proof of another root"):
        stage.post(job, RUN, 0)


def test_the_proofs_of_a_segment_are_checked(stage: Stage) -> None:
    job, tree = stage.claimed(RUN), RUN.histories[0]
    start, end, state = tree.prove(0), tree.prove(4), tree.levels[0][4]
    post = stage.trainer.registry.post_segment
    for wrong in ([], start[:-1], [*start, bytes(32)], [bytes(32)] * 32):
        with refused("merkle: proof of another depth"):
            post(job, tree.root, wrong, state, end)
        with refused("merkle: proof of another depth"):
            post(job, tree.root, start, state, wrong)
    for args in ((end, state, end), (start, state, start), (start, tree.levels[0][3], tree.prove(3)), (start[::-1], state, end)):
        with refused("merkle: proof of another root"):
            post(job, tree.root, *args)
    with refused("merkle: proof of another root"):
        post(job, digest("another root"), start, state, end)
    post(job, tree.root, start, state, end)


def test_only_the_trainer_posts_and_only_in_training(stage: Stage) -> None:
    job, tree = stage.claimed(RUN), RUN.histories[0]
    args = (job, tree.root, tree.prove(0), tree.levels[0][4], tree.prove(4))
    with refused("registry: not the trainer"):
        stage.stranger.registry.post_segment(*args)
    for segment in range(3):
        stage.post(job, RUN, segment)
    with refused("registry: job not in training"):
        stage.trainer.registry.post_segment(*args)


def test_the_deadline_is_the_last_second_for_a_segment_and_after_it_the_job_expires(stage: Stage) -> None:
    job, tree = stage.claimed(RUN), RUN.histories[0]
    deadline = stage.registry.job(job).deadline
    post = ("post_segment", job, tree.root, tree.prove(0), tree.levels[0][4], tree.prove(4))
    stage.at(deadline)
    stage.registry.simulate(*post, account=stage.trainer.address)
    with refused("registry: deadline not passed"):
        stage.registry.simulate("expire", job)
    stage.at(deadline + 1)
    with refused("registry: deadline passed"):
        stage.registry.simulate(*post, account=stage.trainer.address)
    stage.registry.simulate("expire", job)


# Ends


def test_a_job_completes_only_after_the_last_second_of_the_last_window(stage: Stage) -> None:
    job = stage.posted(RUN)
    end = stage.registry.segment(job, 2).window_end
    stage.at(end)
    with refused("registry: window not over"):
        stage.registry.simulate("finalise", job)
    stage.at(end + 1)
    stage.registry.simulate("finalise", job)


def test_a_job_completes_only_with_all_segments_and_once(stage: Stage) -> None:
    job = stage.posted(RUN, segments=2)
    stage.chain.advance(TERMS.challenge_window + 1)
    with refused("registry: job not in verification"):
        stage.trainer.registry.finalise(job)
    stage.post(job, RUN, 2)
    stage.chain.advance(TERMS.challenge_window + 1)
    stage.trainer.registry.finalise(job)
    with refused("registry: job not in verification"):
        stage.trainer.registry.finalise(job)
    with refused("registry: job not in training"):
        stage.requester.registry.expire(job)


def test_an_expired_job_costs_the_stake_and_returns_the_bounty(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1)
    stage.chain.advance(TERMS.training_period + 1)
    ashes = stage.balance(NOBODY)
    (expired,) = stage.events(stage.stranger.registry.expire(job))
    assert isinstance(expired, JobExpired)
    assert expired.burnt == BURNT == stage.balance(NOBODY) - ashes
    assert stage.registry.credit(stage.requester.address) == BOUNTY + TERMS.stake - BURNT == stage.held()
    assert stage.registry.job(job).status == JobStatus.EXPIRED
    with refused("registry: job not in training"):
        stage.stranger.registry.expire(job)
    with refused("registry: job not in training"):
        stage.post(job, RUN, 1)


def test_an_open_job_neither_expires_nor_completes(stage: Stage) -> None:
    job = stage.opened(RUN)
    stage.chain.advance(10 * TERMS.training_period)
    with refused("registry: job not in training"):
        stage.stranger.registry.expire(job)
    with refused("registry: job not in verification"):
        stage.stranger.registry.finalise(job)


def test_a_conviction_slashes_the_stake_once_and_ends_the_job(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1)
    game = stage.traced(job, RUN)
    stage.referee.send("rule", False, 0, 0)
    ashes = stage.balance(NOBODY)
    receipt = stage.challenger.game.conclude_boundary(game, boundary_witness())
    slashed = next(event for event in stage.events(receipt) if isinstance(event, JobSlashed))
    assert (slashed.job, slashed.challenger, slashed.burnt) == (job, stage.challenger.address, BURNT)
    assert slashed.reward == TERMS.stake - BURNT == stage.registry.credit(stage.challenger.address)
    assert stage.registry.credit(stage.requester.address) == BOUNTY
    assert stage.balance(NOBODY) - ashes == BURNT
    assert stage.balance(stage.book.registry) == BOUNTY + TERMS.stake - BURNT
    assert (stage.registry.job(job).status, stage.registry.job(job).live_games) == (JobStatus.SLASHED, 0)
    with refused("registry: job not in training"):
        stage.post(job, RUN, 1)
    with refused("registry: job not in training"):
        stage.requester.registry.expire(job)


def test_one_job_never_pays_for_another(stage: Stage) -> None:
    lost, kept = stage.posted(RUN), stage.posted(TrainerRun(name="kept"))
    stage.convicted(lost, RUN)
    stage.chain.advance(TERMS.challenge_window + 1)
    stage.trainer.registry.finalise(kept)
    for actor in (stage.trainer, stage.requester, stage.challenger):
        actor.registry.withdraw()
    assert stage.balance(stage.book.registry) == 0
    stage.challenger.game.withdraw()
    assert stage.balance(stage.book.game) == 0


# Who may do what


def test_the_game_contract_is_named_once_by_the_deployer(stage: Stage) -> None:
    with refused("registry: not the deployer"):
        stage.stranger.registry.set_game(stage.stranger.address)
    with refused("registry: game already set"):
        stage.deployer.registry.set_game(stage.deployer.address)
    fresh = deploy_registry(stage, 0)
    with refused("registry: no game"):
        fresh.set_game(NOBODY)
    receipt = fresh.set_game(stage.stranger.address)
    (named,) = [decode(log) for log in receipt["logs"]]
    assert isinstance(named, GameSet)
    assert named.game == fresh.game() == stage.stranger.address


def deploy_registry(stage: Stage, burn_share: int) -> TaskRegistry:
    built = artifact("TaskRegistry")
    data = stage.chain.web3.eth.contract(abi=built.abi, bytecode=built.bytecode).constructor(burn_share).data_in_transaction
    receipt = stage.deployer.sender.send(Call("deploy", None, bytes.fromhex(data[2:])))
    return TaskRegistry(stage.chain.web3, str(receipt["contractAddress"]), stage.deployer.sender)


def test_a_burn_share_is_at_most_all_of_it(stage: Stage) -> None:
    assert deploy_registry(stage, 10_000).burn_share() == 10_000
    with refused("registry: burn share above 100%"):
        deploy_registry(stage, 10_001)


@pytest.mark.parametrize("name", ["game_opened", "game_closed", "convict"])
def test_only_the_game_contract_opens_closes_and_convicts(stage: Stage, name: str) -> None:
    job = stage.posted(RUN)
    args = {"game_opened": (0,), "game_closed": (), "convict": (stage.challenger.address,)}[name]
    for actor in stage.actors:
        with refused("registry: not the game"):
            actor.registry.send(name, job, *args)


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        (
            "TaskRegistry",
            {"open_job", "cancel", "claim", "post_segment", "finalise", "expire", "withdraw"}
            | {"set_game", "game_opened", "game_closed", "convict"},
        ),
        (
            "DisputeGame",
            {
                "open_step",
                "open_blind",
                "show_step",
                "demand_trace",
                "demand_state",
                "demand_tensor",
                "pick",
                "post_trace",
                "reveal",
            }
            | {"reveal_leaf", "conclude_boundary", "conclude_element", "conclude_run", "timeout", "reclaim", "withdraw"},
        ),
    ],
)
def test_nothing_else_can_change_a_contract(name: str, functions: set[str]) -> None:
    """No function was left open by mistake."""
    entries = [entry for entry in artifact(name).abi if entry["type"] not in ("event", "constructor")]
    assert {entry.get("name") for entry in entries if entry["stateMutability"] not in ("view", "pure")} == functions


def test_money_that_belongs_to_nothing_is_refused(stage: Stage) -> None:
    for address in (stage.book.registry, stage.book.game):
        with pytest.raises(TransactionFailed):
            stage.stranger.sender.send(Call("gift", stage.chain.web3.to_checksum_address(address), b"", 1))
    with pytest.raises(TransactionFailed):
        stage.stranger.registry.send("finalise", 1, value=1)
