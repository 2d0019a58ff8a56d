"""Games of attempts that are over, and games during a pause (docs/protocol.md, "A job" and "The owner")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.game import ShowStep
from contracts.bindings import Phase, Tree
from contracts.jobs import JobStatus
from tests.contracts.moves import all_refused, challenger_moves, trainer_moves
from tests.contracts.stage import (
    PARAMETERS,
    SALT,
    TERMS,
    Stage,
    TrainerRun,
    digest,
    element_witness,
    refused,
    reveal_of,
)

RUN = TrainerRun()
TWO_ATTEMPTS = replace(TERMS, attempts=2)
DAY = 24 * 60 * 60
MAX_PAUSE = 14 * DAY
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000


# Attempts


def second_attempt(stage: Stage) -> tuple[int, int]:
    """(job, a game that the first attempt left behind): the first trainer was convicted, another has posted everything again."""
    job = stage.posted(RUN, terms=TWO_ATTEMPTS)
    left = stage.traced(job, RUN, step=2, challenger=stage.watcher)
    stage.convicted(job, RUN)
    assert stage.registry.job(job).status == JobStatus.OPEN
    stage.claim(job, stage.stranger)
    for segment in range(RUN.spec.segments):
        stage.post(job, RUN, segment, stage.stranger)
    return job, left


def test_a_game_of_an_earlier_attempt_can_only_be_reclaimed(stage: Stage) -> None:
    _, left = second_attempt(stage)
    all_refused(stage, stage.watcher, challenger_moves(left), "game: attempt is over")
    for trainer in (stage.trainer, stage.stranger):
        all_refused(stage, trainer, trainer_moves(left), "game: attempt is over")
    stage.chain.advance(10_000)
    with refused("game: attempt is over"):
        stage.requester.game.timeout(left)
    stage.requester.game.reclaim(left)
    assert stage.game.game(left).phase == Phase.CANCELLED
    assert stage.game.credit(stage.watcher.address) == PARAMETERS.bond


def test_a_new_attempt_owes_its_own_traces(stage: Stage) -> None:
    job, _ = second_attempt(stage)
    assert stage.game.trace_root(job, 1, 0, 1) == RUN.trace(1).root
    assert stage.game.trace_root(job, 2, 0, 1) == bytes(32)
    game = stage.challenger.opens(job, 0, RUN.opening(0, 1))
    view = stage.game.game(game)
    assert (view.attempt, view.phase, view.trace_root) == (2, Phase.TRACE, bytes(32))
    with refused("game: not the trainer"):
        stage.trainer.game.post_trace(game, RUN.trace(1).root)
    stage.stranger.game.post_trace(game, digest("another trace"))
    assert stage.game.trace_root(job, 2, 0, 1) == digest("another trace")
    assert stage.game.trace_root(job, 1, 0, 1) == RUN.trace(1).root


def test_a_game_of_an_earlier_attempt_has_no_claim_to_the_reward(stage: Stage) -> None:
    """It ranks lower than any game of the next attempt, and was never ended."""
    job, left = second_attempt(stage)
    before = stage.registry.credit(stage.challenger.address)
    game = stage.challenger.opens(job, 0, RUN.opening(0, 2))
    assert stage.game.game(left).rank < stage.game.game(game).rank
    stage.stranger.game.post_trace(game, RUN.trace(2).root)
    stage.challenger.game.conclude_element(game, element_witness())
    assert stage.registry.credit(stage.challenger.address) == before + REWARD
    assert stage.registry.credit(stage.watcher.address) == 0


def test_a_commitment_can_be_opened_against_the_next_attempt(stage: Stage) -> None:
    job, _ = second_attempt(stage)
    stage.watcher.commits(job, 0, 1)
    assert stage.game.game(stage.watcher.game.open_step(job, 0, RUN.opening(0, 1), SALT)).attempt == 2


# Pauses


@pytest.mark.parametrize("length", [1, 10 * DAY, MAX_PAUSE])
def test_a_pause_in_mid_game_leaves_both_clocks_exactly_where_they_were(stage: Stage, length: int) -> None:
    game = stage.challenger.game.open_blind(stage.posted(RUN), 0)
    start = stage.now()
    stage.chain.next_block_at(start + 100)
    stage.deployer.registry.pause()
    if length < MAX_PAUSE:
        stage.chain.next_block_at(start + 100 + length)
        stage.deployer.registry.unpause()
    stage.chain.next_block_at(start + length + 350)
    stage.trainer.game.reveal(game, *reveal_of(RUN.histories[0], stage.game.game(game).descent))
    view = stage.game.game(game)
    assert (view.trainer_clock, view.challenger_clock) == (PARAMETERS.trainer_clock - 350, PARAMETERS.challenger_clock)
    stage.chain.next_block_at(start + length + 400)
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    assert stage.game.game(game).challenger_clock == PARAMETERS.challenger_clock - 50
    assert stage.game.game(game).moved_at == stage.registry.clock() == stage.now() - length


@pytest.mark.parametrize("trainers_turn", [True, False])
def test_a_clock_runs_out_as_much_later_as_the_pause_was_long(stage: Stage, trainers_turn: bool) -> None:
    job = stage.posted(RUN)
    game = stage.challenger.game.open_blind(job, 0) if trainers_turn else stage.traced(job, RUN)
    moved = stage.now()
    stage.deployer.registry.pause()
    paused = stage.now()
    stage.chain.next_block_at(paused + 3 * DAY)
    stage.deployer.registry.unpause()
    last = moved + 3 * DAY + (PARAMETERS.trainer_clock if trainers_turn else PARAMETERS.challenger_clock)
    stage.at(last)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", game)
    stage.at(last + 1)
    stage.game.simulate("timeout", game)


def test_nobody_moves_and_nobody_loses_during_a_pause(stage: Stage) -> None:
    job = stage.posted(RUN)
    waiting, traced = stage.challenger.game.open_blind(job, 0), stage.traced(job, RUN)
    stage.deployer.registry.pause()
    stage.chain.advance(5 * DAY)
    all_refused(stage, stage.challenger, challenger_moves(traced), "game: paused")
    all_refused(stage, stage.trainer, trainer_moves(waiting), "game: paused")
    for game in (waiting, traced):
        with refused("game: paused"):
            stage.stranger.game.timeout(game)
        with refused("game: attempt is not over"):
            stage.stranger.game.reclaim(game)
    with refused("governance: paused"):
        stage.watcher.game.open_blind(job, 0)


def test_a_clock_that_had_run_out_before_the_pause_is_called_after_it(stage: Stage) -> None:
    game = stage.challenger.game.open_blind(stage.posted(RUN), 0)
    stage.chain.advance(PARAMETERS.trainer_clock + 5)
    stage.deployer.registry.pause()
    with refused("game: paused"):
        stage.stranger.game.timeout(game)
    stage.deployer.registry.unpause()
    stage.stranger.game.timeout(game)
    assert stage.game.game(game).phase == Phase.CONVICTED


def test_a_bond_is_reclaimed_during_a_pause(stage: Stage) -> None:
    job = stage.posted(RUN)
    left = stage.watcher.game.open_blind(job, 0)
    stage.convicted(job, RUN)
    stage.deployer.registry.pause()
    stage.stranger.game.reclaim(left)
    stage.watcher.game.withdraw()
    assert stage.game.credit(stage.watcher.address) == 0


def test_a_game_opened_after_a_pause_starts_in_protocol_time(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.deployer.registry.pause()
    stage.chain.advance(2 * DAY)
    stage.deployer.registry.unpause()
    game = stage.challenger.game.open_blind(job, 0)
    view = stage.game.game(game)
    assert (view.moved_at, view.descended) == (stage.registry.clock(), Tree.HISTORY)
    assert view.moved_at < stage.now() - 2 * DAY + 5
    stage.trainer.game.reveal(game, *reveal_of(RUN.histories[0], view.descent))
    assert stage.game.game(game).trainer_clock == PARAMETERS.trainer_clock - 1
