"""Clocks of games, and pauses (docs/protocol.md, "A game" and "The owner")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from web3 import Web3

from bisection.moves import ShowStep
from contracts.bindings import BLIND, DisputeGame, GameView, Phase, Tree, step_commitment
from contracts.events import Acquitted, Convicted
from contracts.jobs import JobStatus
from contracts.values import plain
from tests.contracts.descending import Descending, begun, blind, refutation, shown
from tests.contracts.moves import VERDICTS, challenger_moves
from tests.contracts.stage import PARAMETERS, SALT, TERMS, Stage, TrainerRun, element_witness, part_conclusion, refused, run_demand

RUN = TrainerRun()
ROOTS = RUN.roots(0, 1)
BOND = PARAMETERS.bond
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000
TRAINER, CHALLENGER = PARAMETERS.trainer_clock, PARAMETERS.challenger_clock
DAY = 24 * 60 * 60
MAX_PAUSE = 14 * DAY


def timed(stage: Stage, game: int, seconds: int, move: Callable[[], object]) -> GameView:
    """Make a move exactly so many seconds after the last one."""
    stage.chain.next_block_at(stage.game.game(game).moved_at + seconds)
    move()
    assert stage.game.game(game).moved_at == stage.now()
    return stage.game.game(game)


def demands_trace(stage: Stage, game: int) -> None:
    stage.challenger.game.demand_trace(game, ROOTS)


# The last second


def test_a_silent_trainer_is_convicted_after_the_last_second_of_its_clock(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.challenger.opens(job, 0, RUN.opening(0, 1))
    opened = stage.now()
    answer = ("post_trace", game, stage.game.game(game).step_place, RUN.trace(1).root, b"")
    stage.at(opened + TRAINER)
    stage.game.simulate(*answer, account=stage.trainer.address)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", game)
    stage.at(opened + TRAINER + 1)
    with refused("game: clock used up"):
        stage.game.simulate(*answer, account=stage.trainer.address)
    events = stage.events(stage.stranger.game.timeout(game))
    assert [type(event).__name__ for event in events] == ["JobSlashed", "JobRefunded", "Convicted"]
    assert isinstance(events[-1], Convicted) and events[-1].by_timeout
    assert stage.registry.credit(stage.challenger.address) == REWARD
    assert stage.game.credit(stage.challenger.address) == BOND
    with refused("game: over"):
        stage.stranger.game.timeout(game)


def test_a_silent_challenger_loses_its_bond_after_the_last_second_of_its_clock(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN)
    answered = stage.now()
    demand = ("demand_trace", game, plain(ROOTS))
    stage.at(answered + CHALLENGER)
    stage.game.simulate(*demand, account=stage.challenger.address)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", game)
    stage.at(answered + CHALLENGER + 1)
    with refused("game: clock used up"):
        stage.game.simulate(*demand, account=stage.challenger.address)
    events = stage.events(stage.stranger.game.timeout(game))
    assert [type(event).__name__ for event in events] == ["Acquitted"]
    assert isinstance(events[-1], Acquitted) and events[-1].by_timeout
    assert stage.game.credit(stage.trainer.address) == BOND
    assert (stage.registry.job(job).status, stage.registry.job(job).live_games) == (JobStatus.VERIFICATION, 0)
    with refused("game: over"):
        stage.stranger.game.timeout(game)


def test_every_move_of_a_challenger_is_late_after_the_last_second(stage: Stage) -> None:
    """In whatever state the game is; what is not its turn anyway is not asked."""
    line = blind(stage, RUN)
    line.answer(RUN.histories[0])
    game = line.game
    stage.at(stage.now() + CHALLENGER + 1)
    for name, args in challenger_moves(game).items():
        with refused("game: clock used up"):
            stage.game.simulate(name, *args, account=stage.challenger.address)


def test_a_reveal_is_late_after_the_last_second(stage: Stage) -> None:
    line = blind(stage, RUN)
    opened = stage.now()
    answer = ("reveal", line.game, line.d.trail, 0, shown(RUN.histories[0], line.d))
    stage.at(opened + TRAINER)
    stage.game.simulate(*answer, account=stage.trainer.address)
    stage.at(opened + TRAINER + 1)
    with refused("game: clock used up"):
        stage.game.simulate(*answer, account=stage.trainer.address)


def test_each_move_takes_its_time_off_the_budget_of_whoever_makes_it(stage: Stage) -> None:
    line = blind(stage, RUN)
    game = line.game
    view = timed(stage, game, 400, lambda: line.answer(RUN.histories[0]))
    assert (view.trainer_spent, view.challenger_spent) == (400, 0)
    view = timed(stage, game, 599, lambda: stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1))))
    assert (view.trainer_spent, view.challenger_spent) == (400, 599)
    view = timed(stage, game, 600, lambda: stage.trainer.game.post_trace(game, RUN.trace(1).root))
    assert (view.trainer_spent, view.challenger_spent) == (1_000, 599)
    view = timed(stage, game, 1, lambda: demands_trace(stage, game))
    assert (view.trainer_spent, view.challenger_spent) == (1_000, 600)
    # Used up to the last second, a clock still allows a move in the same second, and no later one.
    line = Descending(stage, game, RUN.trace(1).root)
    answer = ("reveal", game, line.d.trail, 0, shown(RUN.trace(1), line.d))
    stage.game.simulate(*answer, account=stage.trainer.address)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", game)
    stage.chain.advance(1)
    with refused("game: clock used up"):
        stage.game.simulate(*answer, account=stage.trainer.address)
    stage.stranger.game.timeout(game)


def test_every_kind_of_move_is_timed(stage: Stage) -> None:
    """Picks, demands and reveals of all kinds add to what their side has spent."""
    run = TrainerRun(tensors=100)  # depth 7: reveals of four and three levels
    job = stage.posted(run)
    game, roots = stage.traced(job, run), run.roots(0, 1)
    view = timed(stage, game, 7, lambda: stage.challenger.game.demand_trace(game, roots))
    assert (view.trainer_spent, view.challenger_spent) == (1, 7)
    line = Descending(stage, game, run.trace(1).root)
    assert timed(stage, game, 11, lambda: line.answer(run.trace(1))).trainer_spent == 12
    assert timed(stage, game, 13, lambda: line.pick(2)).challenger_spent == 20
    assert timed(stage, game, 17, lambda: line.answer(run.trace(1))).trainer_spent == 29
    assert timed(stage, game, 19, lambda: stage.challenger.game.demand_state(game, roots)).challenger_spent == 39
    state = Descending(stage, game, run.states[2].root)
    assert timed(stage, game, 23, lambda: state.answer(run.states[2])).trainer_spent == 52
    stage.referee.send("cut", (7, 9, 2, False))
    assert timed(stage, game, 29, lambda: stage.challenger.game.demand_run(game, roots, run_demand())).challenger_spent == 68
    view = stage.game.game(game)
    assert (view.trainer_spent, view.challenger_spent, view.paused) == (52, 68, 0)


def test_games_side_by_side_have_clocks_of_their_own(stage: Stage) -> None:
    job = stage.posted(RUN)
    first = stage.traced(job, RUN)
    stage.chain.advance(CHALLENGER - 100)
    second = stage.traced(job, RUN, challenger=stage.watcher, step=2)
    stage.chain.advance(101)
    stage.stranger.game.timeout(first)
    with refused("game: clock not used up"):
        stage.stranger.game.timeout(second)


# Pauses


def pause(stage: Stage, at: int, length: int) -> None:
    """Stop the clocks from one second on, for so long."""
    stage.chain.next_block_at(at)
    stage.deployer.registry.pause()
    if length < MAX_PAUSE:
        stage.chain.next_block_at(at + length)
        stage.deployer.registry.unpause()


@pytest.mark.parametrize("length", [1, 10 * DAY, MAX_PAUSE])
@pytest.mark.parametrize("trainers_turn", [True, False])
def test_a_pause_in_mid_game_adds_to_both_budgets_exactly(stage: Stage, trainers_turn: bool, length: int) -> None:
    """Whoever's turn it was: the trainer has that much longer, and after its last move so has the challenger."""
    if trainers_turn:
        line, tree = blind(stage, RUN), RUN.histories[0]
    else:
        game = stage.traced(stage.posted(RUN), RUN)
    start = stage.now()
    pause(stage, start + 100, length)
    if not trainers_turn:
        before = stage.game.game(game).trainer_spent
        stage.at(start + CHALLENGER + length)
        with refused("game: clock not used up"):
            stage.game.simulate("timeout", game)
        timed(stage, game, CHALLENGER + length, lambda: demands_trace(stage, game))
        assert stage.game.game(game).challenger_spent == CHALLENGER + length
        line, tree = Descending(stage, game, RUN.trace(1).root), RUN.trace(1)
        start = stage.now() - before
    last = start + TRAINER + length
    answer = ("reveal", line.game, line.d.trail, 0, shown(tree, line.d))
    stage.at(last)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", line.game)
    stage.game.simulate(*answer, account=stage.trainer.address)
    stage.at(last + 1)
    with refused("game: clock used up"):
        stage.game.simulate(*answer, account=stage.trainer.address)
    stage.game.simulate("timeout", line.game)


@pytest.mark.parametrize("trainers_turn", [True, False])
def test_a_clock_runs_out_as_much_later_as_the_pause_was_long(stage: Stage, trainers_turn: bool) -> None:
    game = blind(stage, RUN).game if trainers_turn else stage.traced(stage.posted(RUN), RUN)
    moved = stage.now()
    pause(stage, moved + 1, 3 * DAY)
    last = moved + 3 * DAY + (TRAINER if trainers_turn else CHALLENGER)
    stage.at(last)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", game)
    stage.at(last + 1)
    stage.game.simulate("timeout", game)


def test_all_pauses_since_the_opening_count(stage: Stage) -> None:
    line = blind(stage, RUN)
    opened = stage.now()
    pause(stage, opened + 10, 100)
    again = opened + 110 + 2 * MAX_PAUSE + 10  # the next pause cannot begin before
    line_last = opened + TRAINER + 100
    stage.at(line_last)
    stage.game.simulate("reveal", line.game, line.d.trail, 0, bytes(256), account=stage.trainer.address)
    stage.at(line_last + 1)
    stage.game.simulate("timeout", line.game)
    later = stage.watcher.opens_blind(stage.posted(RUN), 0)
    assert stage.game.game(later).paused == 100
    pause(stage, again, 1_000)
    stage.at(again + 1_000)
    other = stage.stranger.opens_blind(stage.posted(TrainerRun(name="later")), 0)
    assert stage.game.game(other).paused == 1_100
    assert stage.game.game(line.game).paused == 0


def test_a_pause_before_the_opening_adds_nothing(stage: Stage) -> None:
    job = stage.posted(RUN)
    start = stage.now()
    pause(stage, start + 1, 2 * DAY)
    line = Descending(stage, stage.challenger.opens_blind(job, 0), RUN.histories[0].root)
    view = stage.game.game(line.game)
    assert (view.moved_at, view.paused, view.descended) == (stage.now(), 2 * DAY, Tree.HISTORY)
    opened = stage.now()
    stage.at(opened + TRAINER + 1)
    with refused("game: clock used up"):
        line.answer(RUN.histories[0])
    stage.game.simulate("timeout", line.game)


def test_a_pause_that_has_not_ended_counts_up_to_now(stage: Stage) -> None:
    line = blind(stage, RUN)
    opened = stage.now()
    stage.chain.next_block_at(opened + 400)
    stage.deployer.registry.pause()
    for seconds in (TRAINER, TRAINER + 1, MAX_PAUSE):
        stage.at(opened + seconds)
        stage.game.simulate("reveal", line.game, line.d.trail, 0, bytes(256), account=stage.trainer.address)
    # It ends by itself.
    stage.at(opened + TRAINER + MAX_PAUSE)
    stage.game.simulate("reveal", line.game, line.d.trail, 0, bytes(256), account=stage.trainer.address)
    with refused("game: clock not used up"):
        stage.game.simulate("timeout", line.game)
    stage.at(opened + TRAINER + MAX_PAUSE + 1)
    stage.game.simulate("timeout", line.game)


def test_a_clock_that_had_run_out_before_the_pause_is_called_after_it(stage: Stage) -> None:
    game = blind(stage, RUN).game
    stage.chain.advance(TRAINER + 5)
    stage.deployer.registry.pause()
    with refused("game: paused"):
        stage.stranger.game.timeout(game)
    stage.deployer.registry.unpause()
    stage.stranger.game.timeout(game)
    assert stage.game.game(game).phase == Phase.CONVICTED


# During a pause


def test_games_are_played_on_during_a_pause(stage: Stage) -> None:
    """All moves but those that end a game."""
    line = blind(stage, RUN)
    game = line.game
    stage.deployer.registry.pause()
    stage.chain.advance(5 * DAY)
    line.answer(RUN.histories[0])
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1), descend=True))
    payload = b"".join(RUN.trace(1).node(0, i) for i in range(64))
    stage.trainer.game.post_trace(game, RUN.trace(1).root, payload)
    stage.challenger.game.demand_state(game, ROOTS)
    Descending(stage, game, RUN.states[2].root).answer(RUN.states[2])
    stage.referee.send("place", 7, 256 * 100)
    trace = RUN.trace(1)
    stage.challenger.game.demand_tensor(game, ROOTS, element_witness().node, 0, trace.node(0, 7), trace.prove(7))
    line = Descending(stage, game, trace.node(0, 7))
    line.reveal(bytes(16 * 32))
    line.pick(3)
    line.reveal(bytes(8 * 32))
    stage.referee.send("cut", (7, 9, 2, False))
    stage.challenger.game.demand_run(game, ROOTS, run_demand())
    stage.stranger.game.contend(game)
    assert stage.game.game(game).phase == Phase.PARTS


def test_nothing_is_opened_or_decided_during_a_pause(stage: Stage) -> None:
    job = stage.posted(RUN)
    line = Descending(stage, stage.challenger.opens_blind(job, 0), RUN.histories[0].root)
    late = stage.watcher.opens_blind(job, 0)
    line.reveal(bytes(256))
    game = stage.traced(job, RUN)
    stage.referee.send("cut", (7, 9, 2, False))
    stage.challenger.game.demand_run(game, ROOTS, run_demand())
    run = Descending(stage, game, (7).to_bytes(32, "big"))
    run.show_parts(3, 4)
    for step in (1, BLIND):
        stage.stranger.commits(job, 0, step)
    stage.deployer.registry.pause()
    held, owed = stage.held(), stage.credits()
    calls = {name: args for name, args in challenger_moves(game).items() if name in VERDICTS}
    assert run.d.below is not None
    calls["refute"] = (line.game, *plain(refutation(line.d)))
    calls["conclude_part"] = (game, plain(ROOTS), *plain(part_conclusion(run.d.trail, run.d.below, 0)))
    for joined, correct in ((False, 1), (True, 3)):
        stage.referee.send("rule", joined, 3, correct)
        for name, args in calls.items():
            with refused("game: paused"):
                stage.game.simulate(name, *args, account=stage.challenger.address)
    for call in (("open_step", job, 0, *plain(RUN.opening(0, 1)), SALT), ("open_blind", job, 0, RUN.histories[0].root, SALT)):
        with refused("governance: paused"):
            stage.game.simulate(*call, account=stage.stranger.address, value=BOND)
    stage.chain.advance(TRAINER + 5)
    with refused("game: clock not used up"):
        stage.stranger.game.timeout(late)
    with refused("game: attempt is not over"):
        stage.stranger.game.reclaim(late)
    assert (stage.held(), stage.credits()) == (held, owed)
    stage.deployer.registry.unpause()
    line.refute()


def test_a_bond_is_reclaimed_during_a_pause(stage: Stage) -> None:
    job = stage.posted(RUN)
    left = stage.watcher.opens_blind(job, 0)
    stage.convicted(job, RUN)
    stage.deployer.registry.pause()
    stage.stranger.game.reclaim(left)
    stage.watcher.game.withdraw()
    assert stage.game.credit(stage.watcher.address) == 0


# A clock as long as one can be


def test_the_longest_clocks_count_to_their_last_second(stage: Stage) -> None:
    longest = 2**31 - 1
    address = stage.create(stage.deployer, "DisputeGame", stage.book.registry, stage.book.referee, BOND, longest, longest)
    stage.deployer.registry.add_game(address)
    games = DisputeGame(stage.chain.web3, address, stage.challenger.sender)
    job = stage.posted(RUN, terms=replace(TERMS, game=Web3.to_checksum_address(address)))
    games.commit(step_commitment(stage.challenger.address, job, 0, BLIND, SALT))
    game = games.open_blind(job, 0, SALT)
    opened = stage.now()
    stage.at(opened + longest)
    with refused("game: clock not used up"):
        games.simulate("timeout", game)
    mark = stage.chain.snapshot()
    stage.chain.advance(1)
    games.timeout(game)
    assert games.game(game).phase == Phase.CONVICTED
    stage.chain.restore(mark)
    view = games.game(game)
    d = begun(view, RUN.histories[0].root)
    stage.chain.next_block_at(opened + longest)
    DisputeGame(stage.chain.web3, address, stage.trainer.sender).reveal(game, d.trail, d.picked, shown(RUN.histories[0], d))
    stage.chain.next_block_at(opened + 2 * longest)
    games.show_step(game, ShowStep(RUN.opening(0, 1)))
    after = games.game(game)
    assert (after.trainer_spent, after.challenger_spent, after.moved_at) == (longest, longest, opened + 2 * longest)
    assert (after.phase, after.descended, after.shown, after.paused) == (Phase.TRACE, Tree.HISTORY, True, 0)
