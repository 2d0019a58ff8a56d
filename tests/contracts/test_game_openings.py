"""Who is rewarded for a conviction: not who copies (docs/protocol.md, "Opening, and who is rewarded")."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from web3 import Web3

from bisection.moves import ShowStep
from contracts.bindings import BLIND, Phase, step_commitment
from contracts.values import plain
from tests.contracts.descending import Descending
from tests.contracts.stage import PARAMETERS, SALT, TERMS, Actor, Stage, TrainerRun, digest, element_witness, refused

RUN = TrainerRun()
STEP, OTHER_STEP = 1, 2
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000
COMMIT_SECONDS = 600


@pytest.fixture
def job(stage: Stage) -> int:
    return stage.posted(RUN)


def trace(stage: Stage, game: int) -> None:
    """Answer with the trace root, where it is owed."""
    if stage.game.game(game).phase == Phase.TRACE:
        stage.trainer.game.post_trace(game, RUN.trace(stage.game.game(game).step).root)


def convict(stage: Stage, actor: Actor, game: int) -> None:
    """Have the trainer convicted."""
    trace(stage, game)
    stage.referee.send("rule", False, 1, 2)
    actor.game.conclude_element(game, RUN.roots(0, stage.game.game(game).step), element_witness())
    assert stage.game.game(game).phase == Phase.CONVICTED


def acquit(stage: Stage, actor: Actor, game: int) -> None:
    """Have the challenger lose a game."""
    trace(stage, game)
    stage.referee.send("rule", True, 7, 7)
    actor.game.conclude_element(game, RUN.roots(0, stage.game.game(game).step), element_witness())


def rewarded(stage: Stage) -> list[Actor]:
    """Who was paid for the conviction."""
    return [actor for actor in stage.actors if stage.registry.credit(actor.address) == REWARD]


def points_at(stage: Stage, actor: Actor, game: int, step: int = STEP) -> None:
    """A blind game, in which nothing was revealed yet, goes on to a step."""
    Descending(stage, game, RUN.histories[0].root).answer(RUN.histories[0])
    actor.game.show_step(game, ShowStep(RUN.opening(0, step)))


def show(stage: Stage, actor: Actor, job: int, step: int) -> int:
    """A blind game of an actor in which a step was shown."""
    game = actor.opens_blind(job, 0)
    points_at(stage, actor, game, step)
    return game


# Commitments


def open_with(stage: Stage, actor: Actor, job: int, salt: bytes = SALT) -> int:
    return actor.game.open_step(job, 0, RUN.opening(0, STEP), salt)


def test_the_commitment_is_what_the_contract_says(stage: Stage, job: int) -> None:
    place = (stage.challenger.address, job, 0, STEP, SALT)
    assert step_commitment(*place) == Web3.keccak(encode(["address", "uint256", "uint256", "uint256", "bytes32"], place))


def test_an_opening_returns_the_number_of_its_game(stage: Stage, job: int) -> None:
    stage.watcher.opens_blind(job, 0)
    for step in (STEP, BLIND):
        stage.challenger.commits(job, 0, step)
    stage.watcher.commits(job, 1, STEP)  # the next block
    for call in (("open_step", job, 0, *plain(RUN.opening(0, STEP)), SALT), ("open_blind", job, 0, RUN.histories[0].root, SALT)):
        assert stage.game.simulate(*call, account=stage.challenger.address, value=PARAMETERS.bond) == 2


def test_an_opening_without_a_commitment_is_refused(stage: Stage, job: int) -> None:
    with refused("commitments: none made"):
        open_with(stage, stage.challenger, job)


def test_an_opening_comes_in_a_later_block_than_its_commitment(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, STEP)
    args = ("open_step", job, 0, *plain(RUN.opening(0, STEP)), SALT)
    with refused("commitments: made in this block"):
        stage.game.simulate(*args, account=stage.challenger.address, value=PARAMETERS.bond)
    open_with(stage, stage.challenger, job)


def test_a_commitment_can_be_opened_up_to_its_last_second(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, STEP)
    committed = stage.now()
    args = ("open_step", job, 0, *plain(RUN.opening(0, STEP)), SALT)
    stage.at(committed + COMMIT_SECONDS)
    stage.game.simulate(*args, account=stage.challenger.address, value=PARAMETERS.bond)
    stage.at(committed + COMMIT_SECONDS + 1)
    with refused("commitments: expired"):
        stage.game.simulate(*args, account=stage.challenger.address, value=PARAMETERS.bond)


def test_a_commitment_opens_one_game(stage: Stage, job: int) -> None:
    stage.challenger.opens(job, 0, RUN.opening(0, STEP))
    with refused("commitments: none made"):
        open_with(stage, stage.challenger, job)


def test_another_accounts_commitment_and_a_copied_opening_are_worth_nothing(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, STEP)
    with refused("commitments: none made"):
        open_with(stage, stage.watcher, job)
    stolen = step_commitment(stage.challenger.address, job, 0, STEP, SALT)
    stage.watcher.game.commit(stolen)
    open_with(stage, stage.challenger, job)
    with refused("commitments: none made"):
        open_with(stage, stage.watcher, job)


@pytest.mark.parametrize("change", ["job", "segment", "step", "salt"])
def test_a_commitment_is_to_one_step_of_one_segment(stage: Stage, job: int, change: str) -> None:
    twin = stage.posted(RUN)
    stage.challenger.commits(job, 0, STEP)
    with refused("commitments: none made"):
        stage.challenger.game.open_step(
            twin if change == "job" else job,
            1 if change == "segment" else 0,
            RUN.opening(0, OTHER_STEP if change == "step" else STEP),
            digest("salt") if change == "salt" else SALT,
        )


def test_a_refused_opening_leaves_the_commitment_as_it_was(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, STEP)
    with refused("game: wrong bond"):
        stage.challenger.game.send("open_step", job, 0, *plain(RUN.opening(0, STEP)), SALT, value=1)
    open_with(stage, stage.challenger, job)


# Rank


def test_ranks_follow_the_commitments(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, STEP)
    stage.watcher.commits(job, 0, BLIND)
    stage.stranger.commits(job, 0, STEP)
    blind = stage.watcher.game.open_blind(job, 0, SALT)
    late = open_with(stage, stage.stranger, job)
    early = open_with(stage, stage.challenger, job)
    assert [stage.game.game(game).rank for game in (early, blind, late)] == [1, 2, 3]


def test_a_copycat_that_wins_the_race_earns_nothing(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, STEP)
    honest = open_with(stage, stage.challenger, job)
    copy = stage.watcher.opens(job, 0, RUN.opening(0, STEP))
    trace(stage, honest)
    convict(stage, stage.watcher, copy)
    assert rewarded(stage) == [stage.challenger]
    stage.stranger.game.reclaim(honest)
    assert stage.game.credit(stage.challenger.address) == stage.game.credit(stage.watcher.address) == PARAMETERS.bond


def test_an_opening_that_is_overtaken_after_its_commitment_keeps_its_place(stage: Stage, job: int) -> None:
    """The copycat saw the opening before it was mined, and had a commitment in the same block that revealed it."""
    stage.challenger.commits(job, 0, STEP)
    stage.watcher.commits(job, 0, STEP)
    copy = open_with(stage, stage.watcher, job)
    honest = open_with(stage, stage.challenger, job)
    convict(stage, stage.watcher, copy)
    assert rewarded(stage) == [stage.challenger]
    assert stage.game.game(honest).phase == Phase.TRACE


def test_the_first_is_rewarded_for_its_own_conviction_too(stage: Stage, job: int) -> None:
    honest = stage.challenger.opens(job, 0, RUN.opening(0, STEP))
    stage.watcher.opens(job, 0, RUN.opening(0, STEP))
    convict(stage, stage.challenger, honest)
    assert rewarded(stage) == [stage.challenger]


def test_games_on_other_steps_have_no_claim(stage: Stage, job: int) -> None:
    stage.challenger.opens(job, 0, RUN.opening(0, OTHER_STEP))
    stage.stranger.opens(job, 1, RUN.opening(1, STEP))
    game = stage.watcher.opens(job, 0, RUN.opening(0, STEP))
    convict(stage, stage.watcher, game)
    assert rewarded(stage) == [stage.watcher]


def test_a_lost_game_loses_its_claim(stage: Stage, job: int) -> None:
    lost = stage.challenger.opens(job, 0, RUN.opening(0, STEP))
    copy = stage.watcher.opens(job, 0, RUN.opening(0, STEP))
    acquit(stage, stage.challenger, lost)
    convict(stage, stage.watcher, copy)
    assert rewarded(stage) == [stage.watcher]


def test_after_a_lost_game_the_next_to_come_is_the_first(stage: Stage, job: int) -> None:
    lost = stage.challenger.opens(job, 0, RUN.opening(0, STEP))
    acquit(stage, stage.challenger, lost)
    second = stage.watcher.opens(job, 0, RUN.opening(0, STEP))
    third = stage.stranger.opens(job, 0, RUN.opening(0, STEP))
    convict(stage, stage.stranger, third)
    assert rewarded(stage) == [stage.watcher]
    assert stage.game.game(second).phase == Phase.CHALLENGER


def test_a_silent_first_loses_its_claim_with_its_clock(stage: Stage, job: int) -> None:
    silent = stage.challenger.opens(job, 0, RUN.opening(0, STEP))
    trace(stage, silent)
    stage.chain.advance(PARAMETERS.challenger_clock + 1)
    copy = stage.watcher.opens(job, 0, RUN.opening(0, STEP))
    stage.stranger.game.timeout(silent)
    convict(stage, stage.watcher, copy)
    assert rewarded(stage) == [stage.watcher]


# Blind openings


def test_a_blind_opening_is_committed_to(stage: Stage, job: int) -> None:
    with refused("commitments: none made"):
        stage.challenger.game.open_blind(job, 0, SALT)
    place = (stage.challenger.address, job, 0, 2**256 - 1, SALT)
    stage.challenger.game.commit(Web3.keccak(encode(["address", "uint256", "uint256", "uint256", "bytes32"], place)))
    stage.challenger.game.open_blind(job, 0, SALT)
    with refused("commitments: none made"):
        stage.challenger.game.open_blind(job, 0, SALT)


def test_a_blind_opening_comes_in_a_later_block_than_its_commitment(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, BLIND)
    args = ("open_blind", job, 0, RUN.histories[0].root, SALT)
    with refused("commitments: made in this block"):
        stage.game.simulate(*args, account=stage.challenger.address, value=PARAMETERS.bond)
    committed = stage.now()
    stage.at(committed + COMMIT_SECONDS)
    stage.game.simulate(*args, account=stage.challenger.address, value=PARAMETERS.bond)
    stage.at(committed + COMMIT_SECONDS + 1)
    with refused("commitments: expired"):
        stage.game.simulate(*args, account=stage.challenger.address, value=PARAMETERS.bond)


@pytest.mark.parametrize("change", ["job", "segment", "salt", "account", "step"])
def test_a_blind_commitment_is_to_one_segment(stage: Stage, job: int, change: str) -> None:
    twin = stage.posted(RUN)
    stage.challenger.commits(job, 0, STEP if change == "step" else BLIND)
    with refused("commitments: none made"):
        (stage.watcher if change == "account" else stage.challenger).game.open_blind(
            twin if change == "job" else job, 1 if change == "segment" else 0, digest("salt") if change == "salt" else SALT
        )


def test_a_blind_commitment_opens_no_step(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, BLIND)
    with refused("commitments: none made"):
        open_with(stage, stage.challenger, job)


def test_no_step_is_opened_by_the_number_that_stands_for_none(stage: Stage, job: int) -> None:
    stage.challenger.commits(job, 0, BLIND)
    opening = RUN.opening(0, STEP)
    with refused("game: no such step"):
        stage.challenger.game.send("open_step", job, 0, BLIND, *plain(opening)[1:], SALT, value=PARAMETERS.bond)


def test_a_copied_blind_opening_ranks_later(stage: Stage, job: int) -> None:
    """The copycat sees the opening before it is mined; its own needs a commitment, which is made after the other."""
    stage.challenger.commits(job, 0, BLIND)
    with refused("commitments: none made"):
        stage.watcher.game.open_blind(job, 0, SALT)
    stage.watcher.commits(job, 0, BLIND)
    copy = stage.watcher.game.open_blind(job, 0, SALT)
    honest = stage.challenger.game.open_blind(job, 0, SALT)
    assert stage.game.game(honest).rank < stage.game.game(copy).rank
    assert stage.game.game(copy).first == stage.game.game(honest).first == honest
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    stage.stranger.game.timeout(copy)
    assert rewarded(stage) == [stage.challenger]


# Blind games


def test_of_blind_games_the_first_is_rewarded_for_silence(stage: Stage, job: int) -> None:
    first = stage.challenger.opens_blind(job, 0)
    stage.chain.advance(10)
    second = stage.watcher.opens_blind(job, 0)
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    stage.stranger.game.timeout(second)
    assert rewarded(stage) == [stage.challenger]
    assert stage.game.game(first).phase == Phase.CHILDREN


def test_a_blind_game_of_another_segment_has_no_claim(stage: Stage, job: int) -> None:
    stage.challenger.opens_blind(job, 1)
    stage.chain.advance(10)
    game = stage.watcher.opens_blind(job, 0)
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    stage.stranger.game.timeout(game)
    assert rewarded(stage) == [stage.watcher]


def test_a_blind_game_that_shows_a_step_keeps_its_rank_there(stage: Stage, job: int) -> None:
    blind = stage.challenger.opens_blind(job, 0)
    copy = stage.watcher.opens(job, 0, RUN.opening(0, STEP))
    points_at(stage, stage.challenger, blind)
    assert stage.game.game(copy).first == stage.game.game(blind).first == blind
    trace(stage, blind)
    convict(stage, stage.watcher, copy)
    assert rewarded(stage) == [stage.challenger]


def test_of_two_blind_games_that_show_a_step_the_first_opened_is_rewarded(stage: Stage, job: int) -> None:
    first = stage.challenger.opens_blind(job, 0)
    copy = show(stage, stage.watcher, job, STEP)
    points_at(stage, stage.challenger, first)
    convict(stage, stage.watcher, copy)
    assert rewarded(stage) == [stage.challenger]


def test_a_blind_game_has_no_claim_on_a_step_that_it_has_not_shown(stage: Stage, job: int) -> None:
    stage.challenger.opens_blind(job, 0)
    game = stage.watcher.opens(job, 0, RUN.opening(0, STEP))
    convict(stage, stage.watcher, game)
    assert rewarded(stage) == [stage.watcher]


def test_a_game_that_has_gone_on_to_a_step_has_no_claim_on_the_segment(stage: Stage, job: int) -> None:
    show(stage, stage.challenger, job, STEP)
    later = stage.watcher.opens_blind(job, 0)
    assert stage.game.game(later).first == later
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    stage.stranger.game.timeout(later)
    assert rewarded(stage) == [stage.watcher]


# Contending for a place


def three(stage: Stage, job: int) -> tuple[int, int, int]:
    """Three games on one step, in the order of their ranks."""
    first, second, third = (
        actor.opens(job, 0, RUN.opening(0, STEP)) for actor in (stage.challenger, stage.watcher, stage.stranger)
    )
    return first, second, third


def test_when_the_first_is_lost_the_next_contends(stage: Stage, job: int) -> None:
    first, second, third = three(stage, job)
    acquit(stage, stage.challenger, first)
    assert stage.game.game(second).first == first
    stage.requester.game.contend(second)  # anybody may
    assert [stage.game.game(game).first for game in (second, third)] == [second, second]
    convict(stage, stage.stranger, third)
    assert rewarded(stage) == [stage.watcher]


def test_without_contending_the_winner_is_rewarded_itself(stage: Stage, job: int) -> None:
    first, _, third = three(stage, job)
    acquit(stage, stage.challenger, first)
    convict(stage, stage.stranger, third)
    assert rewarded(stage) == [stage.stranger]


def test_a_winner_is_not_passed_over_for_a_later_game_that_has_contended(stage: Stage, job: int) -> None:
    first, second, third = three(stage, job)
    acquit(stage, stage.challenger, first)
    stage.stranger.game.contend(third)
    convict(stage, stage.watcher, second)
    assert rewarded(stage) == [stage.watcher]


def test_the_better_rank_takes_the_place_whoever_contends_first(stage: Stage, job: int) -> None:
    first, second, third = three(stage, job)
    acquit(stage, stage.challenger, first)
    stage.stranger.game.contend(third)
    assert stage.game.game(second).first == third
    stage.watcher.game.contend(second)
    assert stage.game.game(second).first == second
    stage.stranger.game.contend(third)
    assert stage.game.game(second).first == second
    stage.watcher.game.contend(second)
    assert stage.game.game(second).first == second


def test_nobody_contends_with_a_live_first(stage: Stage, job: int) -> None:
    first, second, third = three(stage, job)
    for game in (third, second):
        stage.watcher.game.contend(game)
        assert stage.game.game(game).first == first
    convict(stage, stage.stranger, third)
    assert rewarded(stage) == [stage.challenger]


def test_a_blind_game_contends_for_its_segment_after_the_first_has_left(stage: Stage, job: int) -> None:
    first = stage.challenger.opens_blind(job, 0)
    second, third = stage.watcher.opens_blind(job, 0), stage.stranger.opens_blind(job, 0)
    points_at(stage, stage.challenger, first)
    assert [stage.game.game(game).first for game in (first, second, third)] == [first, first, first]
    stage.stranger.game.contend(second)
    assert [stage.game.game(game).first for game in (first, second, third)] == [first, second, second]
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    stage.stranger.game.timeout(third)
    assert rewarded(stage) == [stage.watcher]


def test_contending_changes_nothing_else(stage: Stage, job: int) -> None:
    first, second, _ = three(stage, job)
    acquit(stage, stage.challenger, first)
    before, owed = stage.game.game(second), stage.credits()
    assert stage.events(stage.stranger.game.contend(second)) == []
    after = stage.game.game(second)
    assert (after.first, before.first) == (second, first)
    assert {**vars(after), "first": 0} == {**vars(before), "first": 0}
    assert stage.credits() == owed


def test_only_a_live_game_contends(stage: Stage, job: int) -> None:
    first, second, third = three(stage, job)
    acquit(stage, stage.challenger, first)
    with refused("game: over"):
        stage.challenger.game.contend(first)
    convict(stage, stage.stranger, third)
    stage.watcher.game.contend(second)  # of an attempt that is over: it gains nothing
    assert rewarded(stage) == [stage.stranger]
    stage.watcher.game.reclaim(second)
    with refused("game: over"):
        stage.watcher.game.contend(second)
