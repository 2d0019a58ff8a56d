"""Who may stop the clocks, for how long, and that this is all (docs/protocol.md, "Pauses")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisection.errors import TransactionFailed
from contracts.events import OwnershipTransferred, OwnershipTransferStarted, Paused, Unpaused
from contracts.jobs import NOBODY, JobStatus, claim_commitment
from tests.contracts.stage import BOUNTY, PARAMETERS, SALT, TERMS, Actor, Stage, TrainerRun, refused

RUN = TrainerRun()
DAY = 24 * 60 * 60
MAX_PAUSE = 14 * DAY
MIN_BETWEEN = 28 * DAY
RETAINING = replace(TERMS, retained_share=2_000, delivery_period=700)


@pytest.fixture
def stage(scripted: Stage) -> Stage:
    return scripted


def pause(stage: Stage, at: int | None = None) -> None:
    if at is not None:
        stage.chain.next_block_at(at)
    stage.deployer.registry.pause()


def unpause(stage: Stage, at: int | None = None) -> None:
    if at is not None:
        stage.chain.next_block_at(at)
    stage.deployer.registry.unpause()


# The owner


def test_whoever_deploys_is_the_owner(stage: Stage) -> None:
    assert stage.registry.owner() == stage.deployer.address
    assert int(stage.registry.simulate("pending_owner"), 16) == 0
    assert not stage.registry.paused()


def test_ownership_changes_in_two_steps(stage: Stage) -> None:
    old, new = stage.deployer, stage.watcher
    (started,) = stage.events(old.registry.transfer_ownership(new.address))
    assert isinstance(started, OwnershipTransferStarted)
    assert (started.owner, started.pending) == (old.address, new.address)
    assert stage.registry.owner() == old.address
    with refused("governance: not the owner"):
        new.registry.pause()
    for actor in (old, stage.stranger):
        with refused("governance: not the pending owner"):
            actor.registry.accept_ownership()
    (transferred,) = stage.events(new.registry.accept_ownership())
    assert isinstance(transferred, OwnershipTransferred)
    assert (transferred.previous, transferred.owner) == (old.address, new.address)
    assert stage.registry.owner() == new.address
    with refused("governance: not the owner"):
        old.registry.pause()
    with refused("governance: not the pending owner"):
        new.registry.accept_ownership()
    new.registry.pause()


def test_a_contract_wallet_can_own_and_leave(stage: Stage) -> None:
    """Who calls counts, not who signed the transaction."""
    wallet = stage.wallet(stage.watcher)
    stage.deployer.registry.transfer_ownership(wallet.address)
    (taken,) = stage.events(wallet.does(stage.registry.call("accept_ownership")))
    assert isinstance(taken, OwnershipTransferred)
    assert (taken.previous, taken.owner) == (stage.deployer.address, wallet.address)
    with refused("governance: not the owner"):
        stage.watcher.registry.pause()
    (started,) = stage.events(wallet.does(stage.registry.call("transfer_ownership", stage.stranger.address)))
    assert isinstance(started, OwnershipTransferStarted)
    assert started.owner == wallet.address
    (left,) = stage.events(wallet.does(stage.registry.call("renounce_ownership")))
    assert isinstance(left, OwnershipTransferred)
    assert (left.previous, left.owner) == (wallet.address, NOBODY)


def test_an_offer_can_be_changed_and_withdrawn(stage: Stage) -> None:
    stage.deployer.registry.transfer_ownership(stage.watcher.address)
    stage.deployer.registry.transfer_ownership(stage.stranger.address)
    with refused("governance: not the pending owner"):
        stage.watcher.registry.accept_ownership()
    stage.deployer.registry.transfer_ownership(NOBODY)
    with refused("governance: not the pending owner"):
        stage.stranger.registry.accept_ownership()
    assert stage.registry.owner() == stage.deployer.address


def test_without_an_owner_nobody_ever_pauses(stage: Stage) -> None:
    stage.deployer.registry.transfer_ownership(stage.watcher.address)
    (transferred,) = stage.events(stage.deployer.registry.renounce_ownership())
    assert isinstance(transferred, OwnershipTransferred)
    assert (transferred.previous, transferred.owner) == (stage.deployer.address, NOBODY)
    assert stage.registry.owner() == NOBODY
    with refused("governance: not the pending owner"):
        stage.watcher.registry.accept_ownership()
    stage.chain.advance(10 * MAX_PAUSE)
    for actor in stage.actors:
        with refused("governance: not the owner"):
            actor.registry.pause()
    stage.completed(RUN)


def test_a_pause_outlives_its_owner_and_ends_all_the_same(stage: Stage) -> None:
    pause(stage)
    begun = stage.now()
    stage.deployer.registry.renounce_ownership()
    assert stage.registry.paused()
    with refused("governance: not the owner"):
        stage.deployer.registry.unpause()
    stage.at(begun + MAX_PAUSE)
    assert not stage.registry.paused()


@pytest.mark.parametrize(
    ("name", "args"), [("pause", ()), ("unpause", ()), ("renounce_ownership", ()), ("transfer_ownership", (NOBODY,))]
)
def test_only_the_owner_governs(stage: Stage, name: str, args: tuple[str, ...]) -> None:
    for actor in stage.actors[1:]:
        with refused("governance: not the owner"):
            getattr(actor.registry, name)(*args)


# The clock


def test_the_clock_is_the_time_of_the_chain_until_it_is_stopped(stage: Stage) -> None:
    assert stage.registry.clock() == stage.now()
    (paused,) = stage.events(stage.deployer.registry.pause())
    begun = stage.now()
    assert isinstance(paused, Paused)
    assert paused.until == begun + MAX_PAUSE
    for seconds in (0, 1, 1_000):
        stage.chain.advance(seconds)
        assert (stage.registry.clock(), stage.registry.paused()) == (begun, True)
    (unpaused,) = stage.events(stage.deployer.registry.unpause())
    assert isinstance(unpaused, Unpaused)
    assert (stage.registry.clock(), stage.registry.paused()) == (begun, False)
    lost = stage.now() - begun
    stage.chain.advance(50)
    assert stage.registry.clock() == begun + 50 == stage.now() - lost


def test_a_pause_ends_by_itself(stage: Stage) -> None:
    pause(stage)
    begun = stage.now()
    stage.at(begun + MAX_PAUSE - 1)
    assert (stage.registry.clock(), stage.registry.paused()) == (begun, True)
    stage.at(begun + MAX_PAUSE)
    assert (stage.registry.clock(), stage.registry.paused()) == (begun, False)
    stage.at(begun + MAX_PAUSE + 1)
    assert stage.registry.clock() == begun + 1
    with refused("governance: not paused"):
        unpause(stage)


def test_a_pause_can_be_ended_up_to_its_last_second(stage: Stage) -> None:
    pause(stage)
    begun = stage.now()
    unpause(stage, at=begun + MAX_PAUSE - 1)
    assert stage.registry.clock() == begun
    with refused("governance: not paused"):
        unpause(stage)


@pytest.mark.parametrize("length", [0, 1, 500, MAX_PAUSE])
def test_a_pause_is_not_renewed_at_once(stage: Stage, length: int) -> None:
    pause(stage)
    begun = stage.now()
    if length < MAX_PAUSE:
        with refused("governance: too soon after the last pause"):
            stage.deployer.registry.simulate("pause", account=stage.deployer.address)
        unpause(stage, at=begun + length)
    stage.at(begun + length + MIN_BETWEEN)
    with refused("governance: too soon after the last pause"):
        stage.deployer.registry.simulate("pause", account=stage.deployer.address)
    pause(stage, at=begun + length + MIN_BETWEEN + 1)
    assert stage.registry.clock() == stage.now() - length


def test_a_pause_is_not_renewed_while_it_lasts(stage: Stage) -> None:
    pause(stage)
    stage.chain.advance(MAX_PAUSE - 2)
    assert stage.registry.paused()
    with refused("governance: too soon after the last pause"):
        pause(stage)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(waits=st.lists(st.tuples(st.integers(1, MAX_PAUSE + 5), st.integers(1, 3 * MIN_BETWEEN), st.booleans()), max_size=6))
def test_the_clock_leaves_out_exactly_what_was_spent_paused(scripted_theatre: Stage, waits: list[tuple[int, int, bool]]) -> None:
    stage, mark = scripted_theatre, scripted_theatre.chain.snapshot()
    try:
        lost, last = 0, stage.now()
        for seconds, between, ended in waits:
            begun = stage.now() + 1
            try:
                pause(stage)
            except TransactionFailed:
                stage.chain.advance(between)
                continue
            stage.chain.advance(seconds)
            if ended and seconds + 1 < MAX_PAUSE:
                unpause(stage)
            if not ended:
                stage.at(max(stage.now(), begun + MAX_PAUSE))
            lost += min(stage.now() - begun, MAX_PAUSE)
            assert last <= stage.registry.clock() == stage.now() - lost
            last = stage.registry.clock()
            stage.chain.advance(between)
            assert stage.registry.clock() == stage.now() - lost
    finally:
        stage.chain.restore(mark)


# What a pause moves


Act = tuple[int, Callable[[], object]]  # a last second, and what is done in it or after it


def posting(stage: Stage) -> Act:
    job = stage.claimed(RUN)
    post = partial(stage.registry.simulate, "post_segment", job, *RUN.claim(0), account=stage.trainer.address)
    return stage.registry.job(job).deadline, post


def challenging(stage: Stage) -> Act:
    job = stage.posted(RUN, segments=1)
    return stage.registry.segment(job, 0).window_end, partial(stage.script.simulate, "open", job, 0)


def demanding(stage: Stage) -> Act:
    job = stage.completed(RUN, RETAINING)
    demand = partial(stage.delivery.simulate, "demand", job, 0, account=stage.watcher.address, value=stage.delivery.bond)
    return stage.registry.job(job).delivery_end, demand


def expiring(stage: Stage) -> Act:
    job = stage.claimed(RUN)
    return stage.registry.job(job).deadline, partial(stage.registry.simulate, "expire", job)


def finalising(stage: Stage) -> Act:
    job = stage.posted(RUN, segments=1)
    return stage.registry.segment(job, 0).window_end, partial(stage.registry.simulate, "finalise", job)


def releasing(stage: Stage) -> Act:
    job = stage.completed(RUN, RETAINING)
    return stage.registry.job(job).delivery_end, partial(stage.registry.simulate, "release", job)


def giving_up(stage: Stage) -> Act:
    demand = stage.watcher.delivery.demand(stage.completed(RUN, RETAINING), 0)
    return stage.delivery.demand_of(demand).answer_by, partial(stage.delivery.simulate, "give_up", demand)


UP_TO = {
    "registry: deadline passed": posting,
    "registry: window over": challenging,
    "registry: delivery period over": demanding,
}
AFTER = {
    "registry: deadline not passed": expiring,
    "registry: window not over": finalising,
    "registry: delivery period not over": releasing,
    "delivery: time for an answer": giving_up,
}


@pytest.mark.parametrize("length", [1, 77, MAX_PAUSE])
@pytest.mark.parametrize("reason", UP_TO)
def test_a_pause_moves_every_last_second_by_its_length(stage: Stage, reason: str, length: int) -> None:
    end, act = UP_TO[reason](stage)
    suspend(stage, length)
    stage.at(end + length)
    act()
    stage.at(end + length + 1)
    with refused(reason):
        act()


@pytest.mark.parametrize("length", [1, 77, MAX_PAUSE])
@pytest.mark.parametrize("reason", AFTER)
def test_a_pause_moves_the_first_second_after_by_its_length(stage: Stage, reason: str, length: int) -> None:
    end, act = AFTER[reason](stage)
    suspend(stage, length)
    stage.at(end + length)
    with refused(reason):
        act()
    stage.at(end + length + 1)
    act()


def test_after_a_pause_everything_is_set_in_protocol_time(stage: Stage) -> None:
    suspend(stage, MAX_PAUSE)
    stage.chain.advance(MAX_PAUSE)
    clock, registry = stage.registry.clock, stage.registry
    job = stage.claimed(RUN)
    assert registry.job(job).deadline == clock() + TERMS.segment_period == stage.now() - MAX_PAUSE + TERMS.segment_period
    stage.post(job, RUN, 0)
    assert registry.segment(job, 0).window_end == clock() + TERMS.challenge_window
    assert registry.job(job).deadline == clock() + TERMS.segment_period
    done = stage.completed(RUN, RETAINING)
    assert registry.job(done).delivery_end == clock() + RETAINING.delivery_period
    demand = stage.watcher.delivery.demand(done, 0)
    assert stage.delivery.demand_of(demand).answer_by == clock() + PARAMETERS.answer_period


def suspend(stage: Stage, length: int) -> None:
    """Stop the clocks for so many seconds."""
    stage.chain.advance(100)
    pause(stage)
    if length < MAX_PAUSE:
        unpause(stage, at=stage.now() + length)


def test_what_ends_during_a_pause_can_be_done_in_the_first_second_after_it(stage: Stage) -> None:
    job = stage.claimed(RUN)
    deadline = stage.registry.job(job).deadline
    pause(stage, at=deadline)
    stage.chain.advance(10 * TERMS.segment_period)
    unpause(stage)
    stage.registry.simulate("post_segment", job, *RUN.claim(0), account=stage.trainer.address)
    with refused("registry: deadline not passed"):
        stage.registry.simulate("expire", job)


# What a pause stops, and what not


def test_nothing_goes_on_during_a_pause(stage: Stage) -> None:
    offered, claimed, posted = stage.opened(RUN), stage.claimed(RUN), stage.posted(RUN, terms=replace(TERMS, challenge_window=50))
    done = stage.completed(RUN, RETAINING)
    stage.at(stage.registry.job(claimed).deadline + 1)  # everything is due
    stage.trainer.registry.commit(claim_commitment(stage.trainer.address, offered, SALT))
    acts: dict[str, Callable[[Actor], object]] = {
        "open_job": lambda actor: actor.registry.open_job(RUN.spec, stage.terms(), "", 0),
        "claim": lambda actor: actor.registry.claim(offered, "", stage.registry.job(offered), SALT),
        "post_segment": lambda actor: actor.registry.post_segment(claimed, *RUN.claim(0)),
        "finalise": lambda actor: actor.registry.finalise(posted),
        "expire": lambda actor: actor.registry.expire(claimed),
        "release": lambda actor: actor.registry.release(done),
        "game_opened": lambda _actor: stage.script.open(posted, 0),
        "demand": lambda actor: actor.delivery.demand(done, 0),
    }
    pause(stage)
    for act in acts.values():
        with refused("governance: paused"):
            act(stage.trainer)
    unpause(stage)
    for name in ("open_job", "claim", "finalise", "expire", "release"):
        acts[name](stage.trainer)


def test_a_pause_holds_nobodys_money(stage: Stage) -> None:
    """Withdrawing, burning, cancelling and reclaiming go on, and so do answers: the trainer's time for them does not run out."""
    slashed, offered = stage.posted(RUN, segments=1), stage.opened(RUN)
    stage.script.convict(slashed, 1, stage.challenger.address)
    job = stage.completed(RUN, RETAINING)
    demands = [stage.watcher.delivery.demand(job, 0) for _ in range(2)]
    stage.chain.advance(PARAMETERS.answer_period + 1)
    stage.stranger.delivery.give_up(demands[0])
    pause(stage)
    stage.requester.registry.cancel(offered)
    stage.stranger.delivery.reclaim(demands[1])
    for actor in (stage.requester, stage.trainer, stage.challenger):
        actor.registry.withdraw()
    stage.watcher.delivery.withdraw()
    stage.stranger.registry.burn()
    assert stage.registry.paused()
    assert stage.held() == 0


def test_an_overdue_demand_can_be_given_up_during_a_pause(stage: Stage) -> None:
    job = stage.completed(RUN, RETAINING)
    demand = stage.watcher.delivery.demand(job, 0)
    end = stage.delivery.demand_of(demand).answer_by
    pause(stage, at=end + 1)
    stage.stranger.delivery.give_up(demand)
    assert stage.registry.job(job).settled


def test_a_game_that_is_decided_has_its_effect_during_a_pause(stage: Stage) -> None:
    """The game contract decides what may happen in a pause; the registry does not lose its verdict."""
    job = stage.posted(RUN, segments=1)
    stage.script.open(job, 0)
    pause(stage)
    assert stage.registry.standing(job, 1).paused
    assert stage.registry.standing(job, 1).clock == stage.registry.clock() == stage.now()
    stage.script.convict(job, 1, stage.challenger.address)
    assert stage.registry.job(job).status == JobStatus.SLASHED
    assert stage.held() == stage.owed(stage.registry) == BOUNTY + TERMS.stake


def test_the_owner_has_no_function_that_reaches_a_balance(stage: Stage) -> None:
    """All that the owner alone may call, each with everything in the registry at stake: nothing moves."""
    stage.opened(RUN)
    held, owed = stage.held(), stage.owed(stage.registry)
    owner = stage.deployer.registry
    owner.add_game(stage.stranger.address)
    owner.retire_game(stage.stranger.address)
    owner.pause()
    owner.unpause()
    owner.transfer_ownership(stage.watcher.address)
    with refused("registry: delivery already set"):
        owner.set_delivery(stage.stranger.address)
    for name, args in (("convict", (1, 1, stage.deployer.address)), ("game_closed", (1, 1, 0)), ("game_opened", (1, 0))):
        with refused("registry: not the game"):
            owner.send(name, *args)
    with refused("ledger: nothing to withdraw"):
        owner.withdraw()
    owner.renounce_ownership()
    assert (stage.held(), stage.owed(stage.registry)) == (held, owed) == (stage.escrow(), 0)


def test_a_contract_can_be_the_owner(stage: Stage) -> None:
    """It is the caller that counts, not whoever has signed the transaction: neither its owner nor the wallet acts for the other."""
    wallet = stage.wallet(stage.stranger)
    stage.deployer.registry.transfer_ownership(wallet.address)
    with refused("governance: not the pending owner"):
        stage.stranger.registry.accept_ownership()
    wallet.does(stage.registry.call("accept_ownership"))
    with refused("governance: not the owner"):
        stage.stranger.registry.pause()
    (told,) = stage.events(wallet.does(stage.registry.call("transfer_ownership", stage.watcher.address)))
    assert isinstance(told, OwnershipTransferStarted)
    assert (told.owner, told.pending) == (wallet.address, stage.watcher.address)
    wallet.does(stage.registry.call("pause"))
    assert stage.registry.paused()
