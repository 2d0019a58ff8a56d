"""Games of attempts that are over (docs/protocol.md, "A job")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.moves import ShowStep
from contracts.bindings import Phase
from contracts.jobs import JobStatus
from contracts.values import plain
from tests.contracts.descending import Descending
from tests.contracts.stage import (
    PARAMETERS,
    SALT,
    TERMS,
    Stage,
    TrainerRun,
    boundary_witness,
    digest,
    element_witness,
    part_conclusion,
    refused,
    run_demand,
    run_witness,
)

RUN = TrainerRun()
TWO_ATTEMPTS = replace(TERMS, attempts=2)
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


def test_a_game_of_an_earlier_attempt_is_decided_no_more(stage: Stage) -> None:
    _, left = second_attempt(stage)
    roots = plain(RUN.roots(0, 2))
    verdicts = {
        "conclude_boundary": plain(boundary_witness()),
        "conclude_element": plain(element_witness()),
        "conclude_run": plain(run_witness()),
    }
    for joined, correct in ((True, 7), (False, 8)):
        stage.referee.send("rule", joined, 7, correct)
        for name, opened in verdicts.items():
            with refused("game: attempt is over"):
                stage.game.simulate(name, left, roots, *opened, account=stage.watcher.address)
    stage.chain.advance(10_000)
    with refused("game: attempt is over"):
        stage.requester.game.timeout(left)
    stage.requester.game.reclaim(left)
    assert stage.game.game(left).phase == Phase.CANCELLED
    assert stage.game.credit(stage.watcher.address) == PARAMETERS.bond


@pytest.mark.parametrize("again", [False, True])
def test_moves_after_the_end_of_an_attempt_move_no_money(stage: Stage, again: bool) -> None:
    """They are allowed, by whoever works on the job then, and settle nothing; the bond goes back as ever."""
    job = stage.posted(RUN, terms=TWO_ATTEMPTS)
    left, blind = stage.traced(job, RUN, step=2, challenger=stage.watcher), stage.watcher.opens_blind(job, 0)
    waiting = stage.watcher.opens(job, 0, RUN.opening(0, 3))
    line = Descending(stage, blind, RUN.histories[0].root, challenger=stage.watcher)
    stage.convicted(job, RUN)
    if again:
        stage.claim(job)
    before = stage.credits(), stage.held(), stage.registry.job(job), stage.registry.credit(stage.watcher.address)
    line.answer(RUN.histories[0])
    stage.watcher.game.demand_trace(left, RUN.roots(0, 2))
    trace = Descending(stage, left, RUN.trace(2).root, challenger=stage.watcher)
    trace.reveal(bytes(64 * 32))
    with refused("game: attempt is over"):
        trace.refute()
    stage.referee.send("cut", (7, 9, 2, False))
    stage.watcher.game.demand_run(left, RUN.roots(0, 2), run_demand())
    run = Descending(stage, left, (7).to_bytes(32, "big"), challenger=stage.watcher)
    run.show_parts(3, 4)
    stage.referee.send("rule", False, 3, 9)
    assert run.d.below is not None
    with refused("game: attempt is over"):
        stage.watcher.game.conclude_part(left, RUN.roots(0, 2), part_conclusion(run.d.trail, run.d.below, 0))
    stage.trainer.game.post_trace(waiting, RUN.trace(3).root)
    stage.watcher.game.contend(waiting)
    assert (stage.credits(), stage.held(), stage.registry.job(job), stage.registry.credit(stage.watcher.address)) == before
    for game in (left, blind, waiting):
        stage.stranger.game.reclaim(game)
    assert stage.game.credit(stage.watcher.address) == 3 * PARAMETERS.bond


def test_the_next_trainer_answers_in_no_game_of_the_last(stage: Stage) -> None:
    job = stage.posted(RUN, terms=TWO_ATTEMPTS)
    line = Descending(stage, stage.watcher.opens_blind(job, 0), RUN.histories[0].root, stage.stranger, stage.watcher)
    stage.convicted(job, RUN)
    stage.claim(job, stage.stranger)
    with refused("game: not what the trainer owes"):
        line.answer(RUN.histories[0])
    Descending(stage, line.game, RUN.histories[0].root, challenger=stage.watcher).answer(RUN.histories[0])
    with refused("registry: segment not posted"):
        stage.watcher.game.show_step(line.game, ShowStep(RUN.opening(0, 1)))


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
    stage.challenger.game.conclude_element(game, RUN.roots(0, 2), element_witness())
    assert stage.registry.credit(stage.challenger.address) == before + REWARD
    assert stage.registry.credit(stage.watcher.address) == 0


def test_a_commitment_can_be_opened_against_the_next_attempt(stage: Stage) -> None:
    job, _ = second_attempt(stage)
    stage.watcher.commits(job, 0, 1)
    assert stage.game.game(stage.watcher.game.open_step(job, 0, RUN.opening(0, 1), SALT)).attempt == 2
