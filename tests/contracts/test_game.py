"""Turns, clocks, verdicts and ends of a game (docs/protocol.md, "A game")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from web3 import Web3

from bisection.game import ShowStep, StepOpening
from contracts.bindings import GameView, Phase, Tree
from contracts.build import artifact
from contracts.events import (
    Acquitted,
    BoundaryJudged,
    Convicted,
    Event,
    GameCancelled,
    GameOpened,
    JobSlashed,
    Judged,
    StepShown,
    TracePosted,
)
from contracts.jobs import JobStatus
from contracts.sender import Call
from contracts.values import plain
from tests.contracts.moves import all_refused, challenger_moves, trainer_moves
from tests.contracts.stage import (
    NOBODY,
    PARAMETERS,
    SALT,
    TERMS,
    Actor,
    Stage,
    TrainerRun,
    boundary_witness,
    digest,
    element_witness,
    refused,
    reveal_of,
    run_witness,
)

RUN = TrainerRun()
BOND = PARAMETERS.bond
ANY = Web3.to_checksum_address("0x" + 40 * "7")
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


# Deployment


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((NOBODY, ANY, 1, 1, 1), "game: no registry or referee"),
        ((ANY, NOBODY, 1, 1, 1), "game: no registry or referee"),
        ((ANY, ANY, 0, 1, 1), "game: no bond"),
        ((ANY, ANY, 1, 0, 1), "game: bad trainer clock"),
        ((ANY, ANY, 1, 2**32, 1), "game: bad trainer clock"),
        ((ANY, ANY, 1, 1, 0), "game: bad challenger clock"),
        ((ANY, ANY, 1, 1, 2**32), "game: bad challenger clock"),
    ],
)
def test_parameters_out_of_bounds_are_refused(stage: Stage, arguments: tuple[object, ...], reason: str) -> None:
    built = artifact("DisputeGame")
    factory = stage.chain.web3.eth.contract(abi=built.abi, bytecode=built.bytecode)
    with refused(reason):
        stage.deployer.sender.send(Call("deploy", None, bytes.fromhex(factory.constructor(*arguments).data_in_transaction[2:])))


# Opening


def test_a_challenger_opens_a_game_on_a_step_and_the_trainer_owes_its_trace(stage: Stage) -> None:
    job = stage.posted(RUN)
    opening = RUN.opening(1, 2)
    stage.challenger.commits(job, 1, 2)
    receipt = stage.challenger.game.send("open_step", job, 1, *plain(opening), SALT, value=BOND)
    opened, shown = stage.events(receipt)
    assert isinstance(opened, GameOpened)
    assert (opened.game, opened.job, opened.segment, opened.challenger) == (1, job, 1, stage.challenger.address)
    assert (opened.attempt, opened.rank) == (1, 1)
    assert isinstance(shown, StepShown)
    assert (shown.game, shown.step, shown.before, shown.after) == (1, 2, RUN.states[6].root, RUN.states[7].root)
    game = stage.game.game(1)
    assert (game.job, game.attempt, game.segment, game.challenger, game.rank) == (job, 1, 1, stage.challenger.address, 1)
    assert (game.phase, game.shown, game.step, game.before, game.after) == (Phase.TRACE, True, 2, opening.before, opening.after)
    assert (game.trace_root, game.descended, game.moved_at) == (bytes(32), Tree(0), stage.now())
    assert (game.trainer_clock, game.challenger_clock) == stage.game.clocks == (1_000, 600)
    assert stage.registry.job(job).live_games == 1
    assert stage.balance(stage.book.game) == BOND == stage.game.bond


def test_a_blind_game_starts_with_the_history(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.game.game(stage.challenger.game.open_blind(job, 2))
    assert (game.phase, game.descended, game.shown) == (Phase.CHILDREN, Tree.HISTORY, False)
    assert (game.descent.tree, game.descent.node, game.descent.count) == (Tree.HISTORY, RUN.histories[2].root, 3)


@pytest.mark.parametrize("value", [0, BOND - 1, BOND + 1])
def test_a_game_costs_exactly_the_bond(stage: Stage, value: int) -> None:
    job = stage.posted(RUN)
    stage.challenger.commits(job, 0, 1)
    for args in (("open_step", job, 0, *plain(RUN.opening(0, 1)), SALT), ("open_blind", job, 0, RUN.histories[0].root)):
        with refused("game: wrong bond"):
            stage.challenger.game.send(*args, value=value)


def test_the_window_closes_after_its_last_second(stage: Stage) -> None:
    job = stage.posted(RUN)
    end = stage.registry.segment(job, 0).window_end
    calls = [("open_step", job, 0, *plain(RUN.opening(0, 1)), SALT), ("open_blind", job, 0, RUN.histories[0].root)]
    stage.at(end - 10)
    stage.challenger.commits(job, 0, 1)
    stage.at(end)
    for call in calls:
        stage.game.simulate(*call, account=stage.challenger.address, value=BOND)
    stage.at(end + 1)
    for call in calls:
        with refused("registry: window over"):
            stage.game.simulate(*call, account=stage.challenger.address, value=BOND)
    stage.challenger.game.open_blind(job, 2)  # the last segment came later


def test_only_posted_segments_of_claimed_jobs_can_be_disputed(stage: Stage) -> None:
    root = RUN.histories[0].root
    with refused("registry: unknown job"):
        stage.challenger.game.open_blind(1, 0, root)
    job = stage.opened(RUN)
    with refused("registry: job not in dispute"):
        stage.challenger.game.open_blind(job, 0, root)
    stage.claim(job)
    for segment in (0, 1, 2**32, 2**256 - 1):
        with refused("registry: segment not posted"):
            stage.challenger.game.open_blind(job, segment, root)
    for segment in range(3):
        stage.post(job, RUN, segment)
    for alias in (job + 2**64, job + 2**96, job + 2**160):  # the same number, were it cut to fewer bits
        with refused("registry: unknown job"):
            stage.challenger.game.open_blind(alias, 0, root)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": 4}, "game: no such step"),
        ({"step": 2**256 - 1}, "game: no such step"),
        ({"step": 2}, "merkle: proof of another root"),
        ({"before": digest("forged")}, "merkle: proof of another root"),
        ({"after": digest("forged")}, "merkle: proof of another root"),
        ({"before_proof": ()}, "merkle: proof of another depth"),
        ({"after_proof": (*RUN.opening(0, 1).after_proof, bytes(32))}, "merkle: proof of another depth"),
        ({"before_proof": RUN.opening(0, 1).before_proof[::-1]}, "merkle: proof of another root"),
        ({"before_proof": RUN.opening(0, 1).after_proof}, "merkle: proof of another root"),
    ],
)
def test_a_step_is_shown_with_true_proofs(stage: Stage, change: dict[str, object], reason: str) -> None:
    job = stage.posted(RUN)
    with refused(reason):
        stage.challenger.opens(job, 0, replace(RUN.opening(0, 1), **change))  # type: ignore[arg-type]


def test_the_padding_of_a_history_is_no_step(stage: Stage) -> None:
    job = stage.posted(RUN)
    tree = RUN.histories[0]  # five leaves, eight places
    with refused("game: no such step"):
        stage.challenger.opens(job, 0, StepOpening(4, tree.levels[0][4], tuple(tree.prove(4)), bytes(32), tuple(tree.prove(5))))


# The trace


def test_the_trainer_answers_with_the_trace_root(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.challenger.opens(job, 1, RUN.opening(1, 2))
    root = RUN.trace(6).root
    (posted,) = stage.events(stage.trainer.game.post_trace(game, root))
    assert isinstance(posted, TracePosted)
    assert (posted.game, posted.job, posted.attempt, posted.segment, posted.step, posted.root) == (game, job, 1, 1, 2, root)
    view = stage.game.game(game)
    assert (view.phase, view.trace_root) == (Phase.CHALLENGER, root)
    assert stage.game.trace_root(job, 1, 1, 2) == root


def test_a_trace_root_is_posted_once_a_step_and_shared_by_all_games_on_it(stage: Stage) -> None:
    job = stage.posted(RUN)
    waiting = stage.watcher.opens(job, 0, RUN.opening(0, 1))
    stage.traced(job, RUN)
    later = stage.watcher.opens(job, 0, RUN.opening(0, 1))
    assert stage.game.game(later).phase == Phase.CHALLENGER
    assert stage.game.game(waiting).phase == Phase.TRACE
    with refused("game: another trace root is known"):
        stage.trainer.game.post_trace(waiting, digest("another"))
    stage.trainer.game.post_trace(waiting, RUN.trace(1).root)
    elsewhere = stage.watcher.opens(job, 0, RUN.opening(0, 2))
    assert (stage.game.game(elsewhere).phase, stage.game.game(elsewhere).trace_root) == (Phase.TRACE, bytes(32))


def test_traces_of_other_jobs_and_segments_are_not_mixed_up(stage: Stage) -> None:
    job = stage.posted(RUN)
    twin = stage.posted(RUN)
    stage.traced(job, RUN, segment=0, step=1)
    for where in ((job, 1, RUN.opening(1, 1)), (twin, 0, RUN.opening(0, 1))):
        assert stage.game.game(stage.watcher.opens(*where)).phase == Phase.TRACE


def test_an_empty_trace_root_is_no_answer(stage: Stage) -> None:
    game = stage.challenger.opens(stage.posted(RUN), 0, RUN.opening(0, 1))
    with refused("game: empty trace root"):
        stage.trainer.game.post_trace(game, bytes(32))


# Whose turn it is


def test_only_the_sides_move(stage: Stage) -> None:
    job = stage.posted(RUN)
    waiting, traced = stage.challenger.game.open_blind(job, 0), stage.traced(job, RUN)
    for actor in (stage.requester, stage.trainer, stage.watcher, stage.stranger):
        all_refused(stage, actor, challenger_moves(traced), "game: not the challenger")
    for actor in (stage.requester, stage.challenger, stage.watcher, stage.stranger):
        all_refused(stage, actor, trainer_moves(waiting), "game: not the trainer")


def test_nobody_moves_out_of_turn(stage: Stage) -> None:
    job = stage.posted(RUN)
    waiting, traced = stage.challenger.game.open_blind(job, 0), stage.traced(job, RUN)
    all_refused(stage, stage.challenger, challenger_moves(waiting), "game: not the challenger's turn")
    all_refused(stage, stage.trainer, trainer_moves(traced), "game: not owed")
    owed = trainer_moves(waiting)
    del owed["reveal"]
    all_refused(stage, stage.trainer, owed, "game: not owed")


def test_a_game_that_does_not_exist_cannot_be_moved(stage: Stage) -> None:
    for game in (0, 1, 2**256 - 1):
        all_refused(stage, stage.challenger, challenger_moves(game), "game: unknown game")
        all_refused(stage, stage.trainer, trainer_moves(game), "game: unknown game")
        all_refused(stage, stage.stranger, {"timeout": (game,), "reclaim": (game,), "game": (game,)}, "game: unknown game")


def test_before_a_step_is_shown_nothing_about_it_can_be_demanded_or_concluded(stage: Stage) -> None:
    game = stage.challenger.game.open_blind(stage.posted(RUN), 0)
    stage.trainer.game.reveal(game, *reveal_of(RUN.histories[0], stage.game.game(game).descent))
    moves = challenger_moves(game)
    for name in ("show_step", "pick"):
        del moves[name]
    all_refused(stage, stage.challenger, moves, "game: no step shown")


def test_a_step_is_shown_once(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.challenger.game.open_blind(job, 0)
    stage.trainer.game.reveal(game, *reveal_of(RUN.histories[0], stage.game.game(game).descent))
    (shown,) = stage.events(stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1))))
    assert isinstance(shown, StepShown)
    view = stage.game.game(game)
    assert (view.phase, view.shown, view.step, view.descent.tree) == (Phase.TRACE, True, 1, Tree(0))
    stage.trainer.game.post_trace(game, RUN.trace(1).root)
    with refused("game: step already shown"):
        stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 2)))
    with refused("descent: none under way"):
        stage.challenger.game.pick(game, RUN.histories[0].root, 0)


def test_a_shown_step_whose_trace_is_known_leaves_the_turn_with_the_challenger(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.traced(job, RUN)
    game = stage.watcher.game.open_blind(job, 0)
    stage.trainer.game.reveal(game, *reveal_of(RUN.histories[0], stage.game.game(game).descent))
    stage.watcher.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    assert (stage.game.game(game).phase, stage.game.game(game).trace_root) == (Phase.CHALLENGER, RUN.trace(1).root)


# Verdicts

Conclusion = Callable[[Actor, int], object]
CONCLUSIONS: dict[str, Conclusion] = {
    "boundary": lambda actor, game: actor.game.conclude_boundary(game, boundary_witness()),
    "element": lambda actor, game: actor.game.conclude_element(game, element_witness()),
    "run": lambda actor, game: actor.game.conclude_run(game, run_witness()),
}


@pytest.mark.parametrize("kind", CONCLUSIONS)
def test_a_wrong_number_convicts(stage: Stage, kind: str) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN, segment=1, step=2)
    stage.referee.send("rule", False, -5, 7)
    stage.referee.send("expect", RUN.roots(1, 2))
    events = stage.events(CONCLUSIONS[kind](stage.challenger, game))  # type: ignore[arg-type]
    assert names(events) == ["BoundaryJudged" if kind == "boundary" else "Judged", "JobSlashed", "JobRefunded", "Convicted"]
    judged, slashed, _, convicted = events
    if isinstance(judged, BoundaryJudged):
        assert (judged.node, judged.joined) == (3, False)
        assert (judged.tensor_root, judged.component_root) == (digest("tensor"), digest("component"))
    if isinstance(judged, Judged):
        assert (judged.node, judged.output, judged.position, judged.claimed, judged.correct) == (3, 0, 11, -5, 7)
    assert isinstance(slashed, JobSlashed) and isinstance(convicted, Convicted)
    assert (slashed.beneficiary, convicted.game, convicted.job, convicted.by_timeout) == (
        stage.challenger.address,
        game,
        job,
        False,
    )
    assert (stage.game.game(game).phase, stage.registry.job(job).status) == (Phase.CONVICTED, JobStatus.SLASHED)
    assert stage.game.credit(stage.challenger.address) == BOND == stage.balance(stage.book.game)
    assert stage.registry.credit(stage.challenger.address) == REWARD
    assert stage.credits() == stage.held()


@pytest.mark.parametrize("kind", CONCLUSIONS)
def test_a_right_number_acquits_and_settles_only_this_game(stage: Stage, kind: str) -> None:
    job = stage.posted(RUN)
    game, other = stage.traced(job, RUN), stage.watcher.game.open_blind(job, 0)
    stage.referee.send("rule", True, 7, 7)
    events = stage.events(CONCLUSIONS[kind](stage.challenger, game))  # type: ignore[arg-type]
    assert names(events)[1:] == ["Acquitted"]
    assert isinstance(events[-1], Acquitted)
    assert (events[-1].game, events[-1].job, events[-1].by_timeout) == (game, job, False)
    assert (stage.game.game(game).phase, stage.game.game(other).phase) == (Phase.ACQUITTED, Phase.CHILDREN)
    assert (stage.registry.job(job).status, stage.registry.job(job).live_games) == (JobStatus.VERIFICATION, 1)
    assert stage.game.credit(stage.trainer.address) == BOND
    assert stage.game.credit(stage.challenger.address) == stage.registry.credit(stage.challenger.address) == 0
    stage.convicted(job, RUN, challenger=stage.watcher, step=2)  # nobody is locked out


def test_a_claim_that_the_referee_refuses_costs_only_time(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    stage.referee.send("expect", RUN.roots(0, 2))
    for conclude in CONCLUSIONS.values():
        with refused("referee: another step"):
            conclude(stage.challenger, game)
    assert stage.game.game(game).phase == Phase.CHALLENGER


def test_the_referee_is_asked_about_the_programs_of_the_job_in_question(stage: Stage) -> None:
    stage.posted(TrainerRun(name="another"))
    game = stage.traced(stage.posted(RUN), RUN)
    stage.referee.send("expect", replace(RUN.roots(0, 1), program_root=TrainerRun(name="another").spec.program_root))
    with refused("referee: another step"):
        stage.challenger.game.conclude_element(game, element_witness())


@pytest.mark.parametrize("kind", CONCLUSIONS)
def test_a_game_is_decided_once(stage: Stage, kind: str) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN)
    stage.referee.send("rule", True, 7, 7)
    CONCLUSIONS[kind](stage.challenger, game)
    owed = stage.credits()
    stage.chain.advance(10_000)
    all_refused(stage, stage.challenger, challenger_moves(game), "game: over")
    all_refused(stage, stage.trainer, trainer_moves(game), "game: over")
    all_refused(stage, stage.stranger, {"timeout": (game,), "reclaim": (game,)}, "game: over")
    assert stage.credits() == owed


# A job with a live game, and one that has ended


def test_a_job_waits_for_its_live_games(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN)
    stage.chain.advance(TERMS.challenge_window + 1)
    with refused("registry: live games"):
        stage.trainer.registry.finalise(job)
    stage.trainer.game.timeout(game)
    for _ in range(RUN.spec.segments):
        stage.trainer.registry.finalise(job)
    assert stage.registry.job(job).status == JobStatus.COMPLETED


def test_a_late_job_waits_for_its_live_games_before_it_expires(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1, terms=replace(TERMS, challenge_window=20_000))
    stage.chain.advance(TERMS.segment_period + 1)
    game = stage.traced(job, RUN)
    with refused("registry: live games"):
        stage.stranger.registry.expire(job)
    stage.chain.advance(PARAMETERS.challenger_clock + 1)
    stage.trainer.game.timeout(game)
    stage.stranger.registry.expire(job)
    with refused("registry: job not in dispute"):
        stage.challenger.game.open_blind(job, 0, RUN.histories[0].root)


def test_training_goes_on_beside_a_game(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1)
    game = stage.traced(job, RUN)
    stage.post(job, RUN, 1)
    stage.referee.send("rule", False, 0, 1)
    stage.challenger.game.conclude_element(game, element_witness())
    assert stage.registry.job(job).status == JobStatus.SLASHED


def test_a_conviction_ends_every_other_game_and_their_bonds_go_back(stage: Stage) -> None:
    job = stage.posted(RUN)
    others = [stage.traced(job, RUN, challenger=stage.watcher, step=2), stage.stranger.game.open_blind(job, 1)]
    stage.convicted(job, RUN)
    paid = stage.credits()
    for game, owner in zip(others, (stage.watcher, stage.stranger), strict=True):
        all_refused(stage, owner, challenger_moves(game), "game: attempt is over")
        all_refused(stage, stage.trainer, trainer_moves(game), "game: attempt is over")
    with refused("registry: job not in dispute"):
        stage.stranger.game.open_blind(job, 0, RUN.histories[0].root)
    stage.chain.advance(10_000)
    for game, owner in zip(others, (stage.watcher, stage.stranger), strict=True):
        with refused("game: attempt is over"):
            stage.stranger.game.timeout(game)
        (cancelled,) = stage.events(stage.requester.game.reclaim(game))
        assert isinstance(cancelled, GameCancelled)
        assert stage.game.credit(owner.address) == BOND
        assert stage.game.game(game).phase == Phase.CANCELLED
        with refused("game: over"):
            stage.requester.game.reclaim(game)
    assert stage.credits() == paid + 2 * BOND == stage.held()


def test_a_game_is_reclaimed_only_when_its_attempt_is_over(stage: Stage) -> None:
    game = stage.challenger.game.open_blind(stage.posted(RUN), 0)
    stage.chain.advance(100_000)
    with refused("game: attempt is not over"):
        stage.challenger.game.reclaim(game)


def test_the_reward_goes_to_whoever_opened_the_game(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN)
    stage.referee.send("rule", False, 0, 1)
    with refused("game: not the challenger"):
        stage.watcher.game.conclude_element(game, element_witness())
    stage.challenger.game.conclude_element(game, element_witness())
    assert stage.registry.credit(stage.watcher.address) == stage.game.credit(stage.watcher.address) == 0


# Clocks


def test_a_silent_trainer_is_convicted_after_the_last_second_of_its_clock(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.challenger.opens(job, 0, RUN.opening(0, 1))
    opened = stage.now()
    answer = ("post_trace", game, stage.game.game(game).step_place, RUN.trace(1).root)
    stage.at(opened + PARAMETERS.trainer_clock)
    stage.game.simulate(*answer, account=stage.trainer.address)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", game)
    stage.at(opened + PARAMETERS.trainer_clock + 1)
    with refused("game: clock used up"):
        stage.game.simulate(*answer, account=stage.trainer.address)
    events = stage.events(stage.stranger.game.timeout(game))
    assert names(events) == ["JobSlashed", "JobRefunded", "Convicted"]
    assert isinstance(events[-1], Convicted) and events[-1].by_timeout
    assert stage.registry.credit(stage.challenger.address) == REWARD
    assert stage.game.credit(stage.challenger.address) == BOND
    with refused("game: over"):
        stage.stranger.game.timeout(game)


def test_a_silent_challenger_loses_its_bond_after_the_last_second_of_its_clock(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN)
    answered = stage.now()
    stage.at(answered + PARAMETERS.challenger_clock)
    stage.game.simulate("demand_trace", game, account=stage.challenger.address)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", game)
    stage.at(answered + PARAMETERS.challenger_clock + 1)
    with refused("game: clock used up"):
        stage.game.simulate("demand_trace", game, account=stage.challenger.address)
    events = stage.events(stage.stranger.game.timeout(game))
    assert names(events) == ["Acquitted"]
    assert isinstance(events[-1], Acquitted) and events[-1].by_timeout
    assert stage.game.credit(stage.trainer.address) == BOND
    assert (stage.registry.job(job).status, stage.registry.job(job).live_games) == (JobStatus.VERIFICATION, 0)
    with refused("game: over"):
        stage.stranger.game.timeout(game)


def timed(stage: Stage, game: int, seconds: int, move: Callable[[], object]) -> GameView:
    """Make a move exactly so many seconds after the last one."""
    stage.chain.next_block_at(stage.game.game(game).moved_at + seconds)
    move()
    return stage.game.game(game)


def test_each_move_takes_its_time_off_the_budget_of_whoever_makes_it(stage: Stage) -> None:
    game = stage.challenger.game.open_blind(stage.posted(RUN), 0)
    tree = RUN.histories[0]
    view = timed(stage, game, 400, lambda: stage.trainer.game.reveal(game, *reveal_of(tree, stage.game.game(game).descent)))
    assert (view.trainer_clock, view.challenger_clock, view.moved_at) == (600, 600, stage.now())
    view = timed(stage, game, 599, lambda: stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1))))
    assert (view.trainer_clock, view.challenger_clock) == (600, 1)
    view = timed(stage, game, 600, lambda: stage.trainer.game.post_trace(game, RUN.trace(1).root))
    assert (view.trainer_clock, view.challenger_clock) == (0, 1)
    view = timed(stage, game, 1, lambda: stage.challenger.game.demand_trace(game))
    assert (view.trainer_clock, view.challenger_clock) == (0, 0)
    # Used up to the last second, a clock still allows a move in the same second, and no later one.
    answer = ("reveal", game, *reveal_of(RUN.trace(1), view.descent))
    stage.game.simulate(*answer, account=stage.trainer.address)
    stage.chain.advance(1)
    with refused("game: clock used up"):
        stage.game.simulate(*answer, account=stage.trainer.address)
    stage.stranger.game.timeout(game)


def test_games_side_by_side_have_clocks_of_their_own(stage: Stage) -> None:
    job = stage.posted(RUN)
    first = stage.traced(job, RUN)
    stage.chain.advance(PARAMETERS.challenger_clock - 100)
    second = stage.traced(job, RUN, challenger=stage.watcher, step=2)
    stage.chain.advance(101)
    stage.stranger.game.timeout(first)
    with refused("game: clock not used up"):
        stage.stranger.game.timeout(second)


# Two games, both with a case


def test_of_two_right_challengers_the_one_that_committed_first_is_rewarded(stage: Stage) -> None:
    job = stage.posted(RUN)
    games = [stage.traced(job, RUN), stage.watcher.opens(job, 0, RUN.opening(0, 1))]
    stage.referee.send("rule", False, 0, 1)
    stage.watcher.game.conclude_element(games[1], element_witness())
    with refused("game: attempt is over"):
        stage.challenger.game.conclude_element(games[0], element_witness())
    stage.challenger.game.reclaim(games[0])
    assert stage.game.credit(stage.challenger.address) == stage.game.credit(stage.watcher.address) == BOND
    assert stage.registry.credit(stage.challenger.address) == REWARD
    assert stage.registry.credit(stage.watcher.address) == 0
    for actor in (stage.challenger, stage.watcher):
        actor.game.withdraw()
    for actor in (stage.requester, stage.challenger):
        actor.registry.withdraw()
    stage.stranger.registry.burn()
    assert stage.held() == 0
