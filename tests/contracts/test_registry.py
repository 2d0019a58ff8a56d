"""Jobs from their offer to their last segment, and who may do what (docs/protocol.md, "A job")."""

from __future__ import annotations

from dataclasses import replace

import pytest
from web3 import Web3

from bisection.errors import TransactionFailed
from contracts.build import artifact
from contracts.events import (
    DeliverySet,
    GameAdded,
    GameRetired,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobOpened,
    SegmentFinalised,
    SegmentPosted,
)
from contracts.jobs import NOBODY, JobStatus, claim_commitment
from contracts.reader import decode
from contracts.registry import TaskRegistry
from contracts.sender import Call
from tests.contracts.coins import Coin
from tests.contracts.stage import BOUNTY, PARAMETERS, SALT, TERMS, ScriptedGame, Stage, TrainerRun, digest, refused

RUN = TrainerRun()


@pytest.fixture
def stage(scripted: Stage) -> Stage:
    return scripted


def test_an_honest_job_runs_from_its_offer_to_its_payment(stage: Stage) -> None:
    job = stage.opened(RUN)
    assert stage.registry.job(job).status == JobStatus.OPEN
    stage.claim(job)
    claimed = stage.registry.job(job)
    assert (claimed.status, claimed.deadline) == (JobStatus.TRAINING, stage.now() + TERMS.segment_period)
    for segment in range(3):
        assert stage.registry.job(job).state == RUN.histories[segment].levels[0][0]
        stage.post(job, RUN, segment)
    posted = stage.registry.job(job)
    assert (posted.status, posted.deadline, posted.posted, posted.finalised) == (JobStatus.VERIFICATION, 0, 3, 0)
    stage.chain.advance(TERMS.challenge_window + 1)
    for _ in range(3):
        stage.stranger.registry.finalise(job)
    done = stage.registry.job(job)
    assert (done.status, done.posted, done.finalised, done.state) == (JobStatus.COMPLETED, 3, 3, RUN.states[10].root)
    assert (done.paid, done.settled, done.live_games, done.delivery_end) == (BOUNTY, True, 0, 0)
    assert stage.registry.credit(stage.trainer.address) == BOUNTY + TERMS.stake == stage.held()


def test_a_job_shows_what_was_agreed(stage: Stage) -> None:
    number = stage.opened(RUN)
    job = stage.registry.job(number)
    assert (job.spec, job.terms, job.bounty, job.job_hash) == (RUN.spec, stage.terms(), BOUNTY, RUN.spec.job_hash)
    assert (job.requester, job.trainer, job.attempt, job.paid, job.parent) == (stage.requester.address, NOBODY, 1, 0, 0)
    assert (job.state, job.posted, job.deadline, job.settled) == (RUN.states[0].root, 0, 0, False)
    stage.claim(number)
    assert stage.registry.job(number).trainer == stage.trainer.address


def test_every_transition_tells_of_itself(stage: Stage) -> None:
    requester, trainer = stage.requester, stage.trainer
    (opened,) = stage.events(requester.registry.send("open_job", RUN.spec, stage.terms(), 5, 0, "here", value=5))
    assert isinstance(opened, JobOpened)
    assert (opened.requester, opened.job_hash, opened.spec, opened.terms, opened.bounty, opened.parent, opened.uri) == (
        requester.address, RUN.spec.job_hash, RUN.spec, stage.terms(), 5, 0, "here",
    )  # fmt: skip
    (claimed,) = stage.events(stage.claim(opened.job))
    assert isinstance(claimed, JobClaimed)
    assert (claimed.trainer, claimed.attempt, claimed.deadline) == (trainer.address, 1, stage.now() + TERMS.segment_period)
    assert claimed.uri == "https://trainer.example"
    (posted,) = stage.events(stage.post(opened.job, RUN, 0))
    assert isinstance(posted, SegmentPosted)
    assert (posted.segment, posted.attempt, posted.history_root, posted.end_state) == (
        0,
        1,
        RUN.histories[0].root,
        RUN.states[4].root,
    )
    assert posted.window_end == stage.now() + TERMS.challenge_window
    for segment in (1, 2):
        stage.post(opened.job, RUN, segment)
    stage.chain.advance(TERMS.challenge_window + 1)
    for segment, milestone in ((0, 2), (1, 2)):
        (final,) = stage.events(requester.registry.finalise(opened.job))
        assert isinstance(final, SegmentFinalised)
        assert (final.segment, final.trainer, final.milestone) == (segment, trainer.address, milestone)
    last, completed = stage.events(requester.registry.finalise(opened.job))
    assert isinstance(last, SegmentFinalised) and isinstance(completed, JobCompleted)
    assert last.milestone == 1
    assert (completed.job, completed.trainer, completed.state) == (opened.job, trainer.address, RUN.states[10].root)
    assert (completed.job_hash, completed.data_root) == (RUN.spec.job_hash, RUN.spec.data_root)
    assert (completed.parent, completed.retained) == (0, 0)


def test_segments_cover_the_steps_and_the_last_may_be_shorter(stage: Stage) -> None:
    job = stage.posted(RUN)
    segments = [stage.registry.segment(job, i) for i in range(3)]
    assert [(s.first_step, s.steps) for s in segments] == [(0, 4), (4, 4), (8, 2)]
    assert [s.history_root for s in segments] == [tree.root for tree in RUN.histories]
    assert [s.end_state for s in segments] == [RUN.states[k].root for k in (4, 8, 10)]
    assert [(s.live_games, s.final) for s in segments] == [(0, False)] * 3
    with refused("registry: segment not posted"):
        stage.registry.segment(job, 3)


@pytest.mark.parametrize("length", [1, 10])
def test_a_segment_can_be_one_step_or_the_whole_job(stage: Stage, length: int) -> None:
    job = stage.posted(TrainerRun(segment_length=length))
    assert stage.registry.job(job).status == JobStatus.VERIFICATION
    assert stage.registry.job(job).posted == 10 // length


# Opening


@pytest.mark.parametrize(
    ("name", "wrong", "right", "reason"),
    [
        ("node_count", 0, 1, "bad node count"),
        ("node_count", 2**24, 2**24 - 1, "bad node count"),
        ("tensor_count", 0, 1, "bad tensor count"),
        ("tensor_count", 2**24 + 1, 2**24, "bad tensor count"),
        ("state_count", 0, 1, "bad state count"),
        ("state_count", 2**24 + 1, 2**24, "bad state count"),
        ("data_count", 2**24 + 1, 2**24, "bad data count"),
        ("steps", 0, 10, "bad steps"),
        ("steps", 2**32, 2**32 - 1, "bad steps"),
        ("segment_length", 0, 1, "bad segment length"),
        ("segment_length", 11, 10, "bad segment length"),
        ("numerics_version", 0, 7, "numerics of another game"),
        ("numerics_version", 8, 7, "numerics of another game"),
    ],
)
def test_a_specification_has_bounds(stage: Stage, name: str, wrong: int, right: int, reason: str) -> None:
    with refused(f"registry: {reason}"):
        stage.requester.registry.open_job(replace(RUN.spec, **{name: wrong}), stage.terms(), "", BOUNTY)
    stage.requester.registry.open_job(replace(RUN.spec, **{name: right}), stage.terms(), "", BOUNTY)


@pytest.mark.parametrize(
    ("name", "wrong", "right", "reason"),
    [
        ("stake", 0, 1, "bad stake"),
        ("stake", 2**128, 2**128 - 1, "bad stake"),
        ("attempts", 0, 1, "bad attempts"),
        ("attempts", 256, 255, "bad attempts"),
        ("segment_period", 0, 1, "bad segment period"),
        ("segment_period", 2**32, 2**32 - 1, "bad segment period"),
        ("challenge_window", 0, 1, "bad challenge window"),
        ("challenge_window", 2**32, 2**32 - 1, "bad challenge window"),
        ("retained_share", 10_001, 10_000, "bad retained share"),
        ("retained_share", 0, 1, "a retained share needs a delivery period"),
        ("delivery_period", 2**32, 2**32 - 1, "bad delivery period"),
        ("delivery_period", 0, 1, "a retained share needs a delivery period"),
        ("game", NOBODY, None, "unknown game"),
    ],
)
def test_terms_have_bounds(stage: Stage, name: str, wrong: object, right: object, reason: str) -> None:
    terms = stage.terms(retained_share=1_000, delivery_period=100)
    with refused(f"registry: {reason}"):
        stage.requester.registry.open_job(RUN.spec, replace(terms, **{name: wrong}), "", BOUNTY)  # type: ignore[arg-type]
    stage.requester.registry.open_job(RUN.spec, replace(terms, **{} if right is None else {name: right}), "", BOUNTY)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [0, BOUNTY - 1, BOUNTY + 1])
def test_an_offer_brings_exactly_its_bounty(stage: Stage, amount: int) -> None:
    with refused("ledger: wrong value"):
        stage.requester.registry.send("open_job", RUN.spec, stage.terms(), BOUNTY, 0, "", value=amount)


def test_a_bounty_has_a_bound_and_may_be_nothing(stage: Stage) -> None:
    coin = Coin(stage)
    coin.fund(stage.requester, stage.book.registry)
    coin.send("mint", stage.requester.address, 2**128)
    stage.requester.sender.send(coin.call("approve", stage.book.registry, 2**129))
    with refused("registry: bad bounty"):
        stage.opened(RUN, stage.terms(token=coin.address), bounty=2**128)
    job = stage.opened(RUN, stage.terms(token=coin.address), bounty=2**128 - 1)
    assert stage.registry.job(job).bounty == 2**128 - 1
    assert stage.registry.job(stage.opened(RUN, bounty=0)).bounty == 0


def test_the_largest_specification_and_terms_are_stored_without_loss(stage: Stage) -> None:
    stage.script.send("speak", 2**64 - 1)
    spec = replace(
        RUN.spec, node_count=2**24 - 1, tensor_count=2**24, state_count=2**24, data_count=2**24,
        steps=2**32 - 1, segment_length=2**32 - 1, numerics_version=2**64 - 1,
    )  # fmt: skip
    terms = stage.terms(
        stake=2**128 - 1, attempts=255, segment_period=2**32 - 1, challenge_window=2**32 - 1, retained_share=10_000,
        delivery_period=2**32 - 1, trainer=stage.trainer.address,
    )  # fmt: skip
    job = stage.registry.job(stage.requester.registry.open_job(spec, terms, "", 0))
    assert (job.spec, job.terms, job.bounty, job.job_hash) == (spec, terms, 0, spec.job_hash)


def test_the_longest_limits_stay_apart_while_a_job_goes_on(stage: Stage) -> None:
    longest = 2**32 - 1
    terms = stage.terms(
        attempts=255, segment_period=longest, challenge_window=longest, retained_share=10_000, delivery_period=longest
    )
    job = stage.completed(RUN, terms)
    done = stage.registry.job(job)
    assert (done.status, done.attempt, done.posted, done.finalised) == (JobStatus.COMPLETED, 1, 3, 3)
    assert (done.delivery_end, done.deadline, done.settled, done.paid) == (stage.now() + longest, 0, False, 0)


def test_a_program_may_read_no_data(stage: Stage) -> None:
    spec = replace(RUN.spec, data_root=bytes(32), data_count=0)
    job = stage.requester.registry.open_job(spec, stage.terms(), "", 1)
    assert stage.registry.job(job).spec == spec


def test_an_offer_returns_the_jobs_number(stage: Stage) -> None:
    stage.opened(RUN)
    arguments = (RUN.spec, stage.terms(), BOUNTY, 0, "")
    assert stage.registry.simulate("open_job", *arguments, account=stage.requester.address, value=BOUNTY) == 2


def test_jobs_are_numbered_from_one(stage: Stage) -> None:
    assert [stage.opened(RUN) for _ in range(3)] == [1, 2, 3]
    assert stage.registry.job_count() == 3
    for unknown in (0, 4, 2**256 - 1):
        for name, args in (("job", ()), ("spec", ()), ("segment", (0,)), ("model", ()), ("standing", (1,))):
            with refused("registry: unknown job"):
                stage.registry.simulate(name, unknown, *args)


# Cancelling


def test_a_requester_takes_an_open_job_back(stage: Stage) -> None:
    job = stage.opened(RUN)
    (cancelled,) = stage.events(stage.requester.registry.cancel(job))
    assert isinstance(cancelled, JobCancelled)
    assert cancelled.refund == BOUNTY
    assert stage.registry.job(job).status == JobStatus.CANCELLED
    assert stage.registry.credit(stage.requester.address) == BOUNTY == stage.held()
    for act in (lambda: stage.requester.registry.cancel(job), lambda: stage.claim(job)):
        with refused("registry: job not open"):
            act()


def test_nobody_else_takes_a_job_back_and_nobody_a_claimed_one(stage: Stage) -> None:
    job = stage.opened(RUN)
    with refused("registry: not the requester"):
        stage.stranger.registry.cancel(job)
    stage.claim(job)
    with refused("registry: job not open"):
        stage.requester.registry.cancel(job)


# Claiming


def test_a_claim_says_what_it_claims(stage: Stage) -> None:
    """So that it cannot land on another job after a reorganisation."""
    job, other = stage.opened(RUN), stage.opened(TrainerRun(name="another"))
    registry, salt = stage.trainer.registry, stage.salt()
    registry.commit(claim_commitment(stage.trainer.address, job, salt))
    for offer in (stage.registry.job(other), replace(stage.registry.job(job), bounty=BOUNTY - 1)):
        with refused("registry: another job"):
            registry.claim(job, "", offer, salt)
    registry.claim(job, "", stage.registry.job(job), salt)


def test_a_contract_wallet_offers_and_trains(stage: Stage) -> None:
    """Who calls counts, not who signed the transaction."""
    requester, trainer = stage.wallet(stage.requester), stage.wallet(stage.stranger)
    terms = stage.terms(trainer=trainer.address)
    (opened,) = stage.events(requester.does(stage.registry.call("open_job", RUN.spec, terms, 5, 0, "", value=5)))
    assert isinstance(opened, JobOpened)
    assert opened.requester == stage.registry.job(opened.job).requester == requester.address
    offer = stage.registry.job(opened.job).offer
    claim = stage.registry.call("claim", opened.job, offer, SALT, "", value=terms.stake)
    with refused("registry: the job names another trainer"):
        stage.stranger.registry.claim(opened.job, "", stage.registry.job(opened.job), SALT)
    (claimed,) = stage.events(trainer.does(claim))
    assert isinstance(claimed, JobClaimed)
    assert claimed.trainer == stage.registry.job(opened.job).trainer == trainer.address


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
    job = stage.opened(RUN)
    with refused("registry: job not in training"):
        stage.post(job, RUN, 0)
    stage.claim(job)
    with refused("registry: not the trainer"):
        stage.post(job, RUN, 0, stage.stranger)
    for segment in range(3):
        stage.post(job, RUN, segment)
    with refused("registry: job not in training"):
        stage.post(job, RUN, 2)


# Who may do what


def fresh(stage: Stage, burn_share: int = 0, reward_share: int = 0) -> TaskRegistry:
    """Another registry, without a game or a delivery contract; the deployer is its owner."""
    address = stage.create(stage.deployer, "TaskRegistry", burn_share, reward_share)
    return TaskRegistry(stage.chain.web3, address, stage.deployer.sender)


def test_shares_of_a_stake_are_at_most_all_of_it(stage: Stage) -> None:
    assert stage.registry.shares() == (PARAMETERS.burn_share, PARAMETERS.reward_share)
    for shares in ((10_000, 0), (0, 10_000), (4_000, 6_000)):
        assert fresh(stage, *shares).shares() == shares
    for shares in ((10_001, 0), (0, 10_001), (4_000, 6_001)):
        with refused("registry: shares above 100%"):
            fresh(stage, *shares)


def test_the_owner_names_games_for_jobs_to_come(stage: Stage) -> None:
    registry, game = fresh(stage), Web3.to_checksum_address(stage.book.game)
    assert not registry.has_game(game)
    with refused("registry: unknown game"):
        registry.retire_game(game)
    with refused("registry: no game"):
        registry.add_game(NOBODY)
    (added,) = [decode(log) for log in registry.add_game(game)["logs"]]
    assert isinstance(added, GameAdded)
    assert (added.game, registry.has_game(game)) == (game, True)
    with refused("registry: game already added"):
        registry.add_game(game)
    (retired,) = [decode(log) for log in registry.retire_game(game)["logs"]]
    assert isinstance(retired, GameRetired)
    assert (retired.game, registry.has_game(game)) == (game, False)
    registry.add_game(game)


def test_a_retired_game_gets_no_new_jobs_and_judges_the_old_ones(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1)
    stage.deployer.registry.retire_game(stage.book.game)
    with refused("registry: unknown game"):
        stage.opened(RUN)
    stage.script.open(job, 0)
    stage.script.convict(job, 1, stage.challenger.address)
    assert stage.registry.job(job).status == JobStatus.SLASHED


def test_jobs_of_different_games_are_judged_by_their_own(stage: Stage) -> None:
    other = ScriptedGame(
        stage.chain.web3,
        stage.create(stage.deployer, "game_mock", stage.book.registry, stage.book.referee, 1, 1, 1),
        stage.deployer.sender,
    )
    other.send("speak", 8)
    stage.deployer.registry.add_game(other.address)
    old = stage.posted(RUN, segments=1)
    later = TrainerRun(name="later")
    later.spec = replace(later.spec, numerics_version=8)
    job = stage.posted(later, segments=1, terms=stage.terms(game=other.address))
    with refused("registry: numerics of another game"):
        stage.opened(later)
    for script, of in ((other, old), (stage.script, job)):
        with refused("registry: not the game"):
            script.open(of, 0)
    other.open(job, 0)
    stage.script.open(old, 0)


def test_the_delivery_contract_is_named_once(stage: Stage) -> None:
    registry = fresh(stage)
    registry.add_game(stage.book.game)
    terms = stage.terms(retained_share=1, delivery_period=1)
    offer = TaskRegistry(stage.chain.web3, registry.address, stage.requester.sender)
    with refused("registry: no delivery contract"):
        offer.open_job(RUN.spec, terms, "", 0)
    offer.open_job(RUN.spec, stage.terms(), "", 0)
    with refused("registry: no delivery"):
        registry.set_delivery(NOBODY)
    (named,) = [decode(log) for log in registry.set_delivery(stage.book.delivery)["logs"]]
    assert isinstance(named, DeliverySet)
    assert named.delivery == registry.delivery() == stage.book.delivery
    with refused("registry: delivery already set"):
        registry.set_delivery(stage.stranger.address)
    offer.open_job(RUN.spec, terms, "", 0)


@pytest.mark.parametrize("name", ["demand_opened", "withhold"])
def test_the_delivery_contract_cannot_take_what_is_not_retained(stage: Stage, name: str) -> None:
    registry = fresh(stage)
    registry.add_game(stage.book.game)
    registry.set_delivery(stage.stranger.address)
    as_requester, as_delivery = (
        TaskRegistry(stage.chain.web3, registry.address, actor.sender) for actor in (stage.requester, stage.stranger)
    )
    terms = stage.terms(replace(TERMS, retained_share=1_000, delivery_period=50))
    job = as_requester.open_job(RUN.spec, terms, "", BOUNTY)
    with refused("registry: nothing retained"):
        as_delivery.send(name, job)


@pytest.mark.parametrize("name", ["add_game", "retire_game", "set_delivery"])
def test_only_the_owner_names_contracts(stage: Stage, name: str) -> None:
    for actor in stage.actors[1:]:
        with refused("governance: not the owner"):
            actor.registry.send(name, stage.book.game)


CALLBACKS = {"game_opened": (0,), "game_closed": (1, 0), "convict": (1, NOBODY)}


@pytest.mark.parametrize(("name", "args"), CALLBACKS.items())
def test_only_the_game_contract_opens_closes_and_convicts(stage: Stage, name: str, args: tuple[object, ...]) -> None:
    job = stage.posted(RUN)
    for actor in stage.actors:
        with refused("registry: not the game"):
            actor.registry.send(name, job, *args)


@pytest.mark.parametrize("name", ["demand_opened", "demand_closed", "withhold"])
def test_only_the_delivery_contract_asks_for_leaves(stage: Stage, name: str) -> None:
    job = stage.completed(RUN, stage.terms(retained_share=1, delivery_period=1_000))
    for actor in stage.actors:
        with refused("registry: not the delivery"):
            actor.registry.send(name, job)


GOVERNANCE = {"transfer_ownership", "accept_ownership", "renounce_ownership", "pause", "unpause"}
OWNER = {"add_game", "retire_game", "set_delivery"}
JOBS = {"open_job", "cancel", "claim", "post_segment", "finalise", "expire", "release"}
REFERRED = {*CALLBACKS, "demand_opened", "demand_closed", "withhold"}


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        ("TaskRegistry", {"commit", "withdraw", "burn"} | GOVERNANCE | OWNER | JOBS | REFERRED),
        ("Delivery", {"demand", "answer", "give_up", "reclaim", "withdraw"}),
    ],
)
def test_nothing_else_can_change_a_contract(name: str, functions: set[str]) -> None:
    """No function was left open by mistake."""
    entries = [entry for entry in artifact(name).abi if entry["type"] not in ("event", "constructor")]
    assert {entry.get("name") for entry in entries if entry["stateMutability"] not in ("view", "pure")} == functions


def test_money_that_belongs_to_nothing_is_refused(stage: Stage) -> None:
    for address in (stage.book.registry, stage.book.delivery):
        with pytest.raises(TransactionFailed):
            stage.stranger.sender.send(Call("gift", Web3.to_checksum_address(address), b"", 1))
    for name, args in (
        ("finalise", (1,)),
        ("commit", (SALT,)),
        ("cancel", (1,)),
        ("release", (1,)),
        ("expire", (1,)),
        ("burn", (NOBODY,)),
    ):
        with refused("no reason"):
            stage.stranger.registry.send(name, *args, value=1)
