"""Attacks on results, money and time, played on the deployed contracts: scenarios 13 to 23 (docs/assurance.md, "Attacks")."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from web3.constants import ADDRESS_ZERO

from bisection.boundary import state_tensors
from bisection.descent import span
from bisection.errors import TransactionFailed
from bisection.game import ShowStep
from bisection.merkle import Tree
from bisection.trace import MemoryTrace
from contracts.bindings import BLIND, Phase, step_commitment
from contracts.build import artifact
from contracts.jobs import NATIVE, JobStatus
from contracts.values import plain
from tests.contracts.descending import Descending, refutation, shown
from tests.contracts.stage import (
    BOUNTY,
    PARAMETERS,
    SALT,
    TERMS,
    Stage,
    TrainerRun,
    digest,
    element_witness,
    refused,
)
from tests.scenarios.played import Fortunes, HandPlayed, concludes, settle
from tests.support.market import PARAMETERS as MARKET
from tests.support.market import Market, honest_trace
from tests.support.programs import counting_program

RUN = TrainerRun()
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000
BURN = TERMS.stake * PARAMETERS.burn_share // 10_000
STEPS = 6
PROGRAM, STATE, DATA = counting_program()
WEIGHTS = state_tensors(PROGRAM)[1]


def acquit(stage: Stage, game: int) -> None:
    """Have the challenger lose."""
    stage.referee.send("rule", True, 7, 7)
    concludes(stage, RUN, stage.challenger, game)


# 13: the same result


@pytest.mark.parametrize("position", [0, 70, 199])
def test_scenario_13_a_challenger_that_finds_what_the_trainer_found_loses(market: Market, position: int) -> None:
    """No result is claimed against another one: the referee recomputes, and an equal element acquits. The bond is the trainer's."""
    played = HandPlayed.posted(market, honest_trace(STEPS), STATE, DATA, STEPS)
    game = played.traced("challenger", 2)
    market.acting["challenger"].game.conclude_element(game, played.roots(2), played.witness(2, WEIGHTS, position))
    assert market.looking.game.game(game).phase == Phase.ACQUITTED
    assert market.looking.game.credit(market.address("trainer")) == MARKET.bond
    assert market.looking.game.credit(market.address("challenger")) == 0
    assert market.job(played.job).status == JobStatus.VERIFICATION


# 14 to 17: who may end, take, overwrite and govern


def test_scenario_14_what_is_resolved_is_resolved_once(stage: Stage) -> None:
    """Every end is called again, by everybody: no credit grows, and the contracts hold what they owe to the wei."""
    lost, won = stage.posted(RUN), stage.posted(RUN)
    games = [stage.convicted(lost, RUN), stage.traced(won, RUN)]
    acquit(stage, games[1])
    stage.chain.advance(TERMS.challenge_window + 1)
    for _ in range(RUN.spec.segments):
        stage.stranger.registry.finalise(won)
    owed = stage.credits()
    assert owed == stage.held()
    for _ in range(2):
        for actor in stage.actors:
            for game in games:
                for name in ("timeout", "reclaim"):
                    with refused("game: over"):
                        actor.game.send(name, game)
                with refused("game: over"):
                    concludes(stage, RUN, actor, game)
            for job in (lost, won):
                for name in ("finalise", "expire", "cancel", "release"):
                    with pytest.raises(TransactionFailed):
                        actor.registry.send(name, job)
        assert stage.credits() == owed
    settle(stage)
    assert stage.held() == 0
    for actor in stage.actors:
        with refused("ledger: nothing to withdraw"):
            actor.registry.withdraw()


def test_scenario_15_nobody_takes_money_out_of_a_dispute_under_way(stage: Stage) -> None:
    """Neither owner, requester nor trainer: what the contracts hold stays until the game is over."""
    job = stage.posted(RUN)
    game, held = stage.traced(job, RUN), stage.held()
    with refused("registry: job not open"):
        stage.requester.registry.cancel(job)
    for actor in stage.actors:
        for ledger in (actor.registry, actor.game, actor.delivery):
            with refused("ledger: nothing to withdraw"):
                ledger.withdraw()
        with refused("ledger: nothing to withdraw"):
            actor.registry.burn()
    stage.deployer.registry.retire_game(stage.book.game)
    stage.deployer.registry.transfer_ownership(stage.stranger.address)
    stage.stranger.registry.accept_ownership()
    stage.stranger.registry.renounce_ownership()
    assert stage.held() == held == BOUNTY + TERMS.stake + PARAMETERS.bond
    stage.referee.send("rule", False, 1, 2)
    concludes(stage, RUN, stage.challenger, game)
    assert stage.registry.credit(stage.challenger.address) == REWARD


def test_scenario_16_a_result_cannot_be_overwritten(stage: Stage) -> None:
    """Not a segment, not a trace root, not a completed model: by strangers, by the trainer itself, or through an old game."""
    job = stage.posted(RUN)
    for actor in stage.actors:
        for segment in range(RUN.spec.segments):
            with refused("registry: job not in training"):
                actor.registry.post_segment(job, *RUN.claim(segment))
    game = stage.traced(job, RUN)
    again = stage.watcher.opens(job, 0, RUN.opening(0, 1))
    for number in (game, again):
        with refused("game: not owed"):
            stage.trainer.game.post_trace(number, digest("another trace"))
    assert stage.game.trace_root(job, 1, 0, 1) == RUN.trace(1).root
    for number in (game, again):
        stage.chain.advance(PARAMETERS.challenger_clock + 1)
        stage.stranger.game.timeout(number)
    stage.chain.advance(TERMS.challenge_window)
    for _ in range(RUN.spec.segments):
        stage.stranger.registry.finalise(job)
    model = stage.registry.model(job)
    for actor in stage.actors:
        with refused("registry: job not in training"):
            actor.registry.post_segment(job, *RUN.claim(2))
        with refused("registry: job not open"):
            stage.claim(job, actor)
    assert stage.registry.model(job) == model


ANYBODYS = {
    "TaskRegistry": "accept_ownership burn cancel claim commit expire finalise open_job post_segment release withdraw",
    "DisputeGame": "commit conclude_boundary conclude_element conclude_part conclude_run contend demand_run demand_state "
    "demand_tensor demand_trace open_blind open_step pick post_trace reclaim refute reveal show_step timeout withdraw",
    "Delivery": "answer demand give_up reclaim withdraw",
    "Referee": "",
}
OWNERS = {
    "add_game": (ADDRESS_ZERO,),
    "pause": (),
    "renounce_ownership": (),
    "retire_game": (ADDRESS_ZERO,),
    "set_delivery": (ADDRESS_ZERO,),
    "transfer_ownership": (ADDRESS_ZERO,),
    "unpause": (),
}
GAMES = {"convict": (1, 1, ADDRESS_ZERO), "game_closed": (1, 1, 0), "game_opened": (1, 0)}
DELIVERYS = {"demand_closed": (1,), "demand_opened": (1,), "withhold": (1,)}


@pytest.mark.parametrize("contract", ANYBODYS)
def test_scenario_17_every_function_that_changes_something_is_meant_for_whoever_can_call_it(contract: str) -> None:
    """What is not listed here as anybody's is the owner's or a contract's, and the next test sees that it is guarded."""
    changing = {
        f["name"] for f in artifact(contract).abi if f["type"] == "function" and f["stateMutability"] not in ("view", "pure")
    }
    guarded = {*OWNERS, *GAMES, *DELIVERYS} if contract == "TaskRegistry" else set()
    assert changing == guarded | set(ANYBODYS[contract].split())


def test_scenario_17_what_is_the_owners_or_a_contracts_is_refused_to_everybody_else(stage: Stage) -> None:
    """Even to the owner, where the function is the game's or the delivery's."""
    stage.posted(RUN)
    for actor in stage.actors:
        reasons = {"governance: not the owner": OWNERS if actor is not stage.deployer else {}}
        reasons |= {"registry: not the game": GAMES, "registry: not the delivery": DELIVERYS}
        for reason, functions in reasons.items():
            for name, args in functions.items():
                with refused(reason):
                    actor.registry.send(name, *args)


# 18 to 21: everything ends, and everybody is paid


@pytest.mark.parametrize("trainers_turn", [True, False])
def test_scenario_18_when_nobody_moves_for_years_nothing_locks(stage: Stage, trainers_turn: bool) -> None:
    """Only the mover's clock runs: whoever comes by, and whenever, ends the game against it, then the job, and all is paid out."""
    job = stage.posted(RUN)
    game = stage.challenger.opens_blind(job, 0) if trainers_turn else stage.traced(job, RUN)
    stage.chain.advance(10 * 365 * 24 * 3600)
    stage.stranger.game.timeout(game)
    assert stage.game.game(game).phase == (Phase.CONVICTED if trainers_turn else Phase.ACQUITTED)
    if not trainers_turn:
        for _ in range(RUN.spec.segments):
            stage.stranger.registry.finalise(job)
    assert stage.registry.job(job).status == (JobStatus.SLASHED if trainers_turn else JobStatus.COMPLETED)
    settle(stage)
    assert stage.held() == 0


def test_scenario_19_any_number_of_games_on_one_step_share_one_trace_and_one_end(stage: Stage) -> None:
    """Duplicate openings cost the trainer one trace root; one verdict frees all bonds, and there is one reward."""
    job, fortunes = stage.posted(RUN), Fortunes(stage)
    crowd = [stage.challenger, stage.watcher, stage.stranger, stage.requester]
    early = [actor.opens(job, 0, RUN.opening(0, 1)) for actor in crowd]
    stage.trainer.game.post_trace(early[0], RUN.trace(1).root)
    for game in early[1:]:
        with refused("game: another trace root known"):
            stage.trainer.game.post_trace(game, digest("another trace"))
        stage.trainer.game.post_trace(game, RUN.trace(1).root)
    late = [actor.opens(job, 0, RUN.opening(0, 1)) for actor in crowd]
    assert {stage.game.game(game).phase for game in late} == {Phase.CHALLENGER}
    stage.referee.send("rule", False, 1, 2)
    concludes(stage, RUN, stage.stranger, late[2])
    for game in {*early, *late} - {late[2]}:
        stage.deployer.game.reclaim(game)
    settle(stage)
    assert stage.held() == 0
    assert [fortunes.gain(actor) for actor in crowd[:3]] == [REWARD, 0, 0]
    assert fortunes.gain(stage.requester) == BOUNTY + TERMS.stake - BURN - REWARD


def test_scenario_20_a_recipient_that_reverts_or_calls_back_stops_nobody_and_gains_nothing(stage: Stage) -> None:
    """The challenger's wallet refuses money, then calls back into every ledger while it is paid: solvent to the wei throughout."""
    job, wallet = stage.posted(RUN), stage.wallet(stage.challenger)
    wallet.send("behave", True, b"")
    stage.watcher.opens_blind(job, 0)
    wallet.does(stage.game.call("commit", step_commitment(wallet.address, job, 0, BLIND, SALT)))
    wallet.does(stage.game.call("open_blind", job, 0, RUN.histories[0].root, SALT, value=PARAMETERS.bond))
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    stage.stranger.game.timeout(1)
    stage.stranger.game.reclaim(2)
    with pytest.raises(TransactionFailed, match="ledger: payment refused"):
        wallet.does(stage.game.call("withdraw", NATIVE))
    settle(stage)
    assert stage.held() == stage.game.credit(wallet.address) == PARAMETERS.bond
    wallet.send("behave", False, stage.game.call("withdraw", NATIVE).data)
    wallet.does(stage.game.call("withdraw", NATIVE))
    assert not wallet.simulate("called_back")
    assert (stage.balance(wallet.address), stage.held()) == (PARAMETERS.bond, 0)


def test_scenario_21_a_reward_always_has_an_owner(stage: Stage) -> None:
    """Whoever was first at the place has lost, timed out or belongs to an attempt that is over: nothing is credited to nobody."""
    job = stage.posted(RUN, terms=replace(TERMS, attempts=2))
    acquit(stage, stage.traced(job, RUN))
    silent = stage.watcher.opens(job, 0, RUN.opening(0, 1))
    left = stage.requester.opens(job, 0, RUN.opening(0, 2))
    stage.chain.advance(PARAMETERS.challenger_clock + 1)
    stage.stranger.game.timeout(silent)
    for attempt in (1, 2):
        fortunes = Fortunes(stage)
        game = stage.challenger.opens(job, 0, RUN.opening(0, attempt))
        if stage.game.game(game).phase == Phase.TRACE:
            stage.trainer.game.post_trace(game, RUN.trace(attempt).root)
        stage.referee.send("rule", False, 1, 2)
        concludes(stage, RUN, stage.challenger, game)
        assert fortunes.gain(stage.challenger) == REWARD
        if attempt == 1:
            stage.claim(job)
            stage.post(job, RUN, 0)
    assert stage.game.game(left).phase == Phase.TRACE
    stage.stranger.game.reclaim(left)
    assert [ledger.credit(ADDRESS_ZERO) for ledger in (stage.registry, stage.game)] == [0, 0]
    settle(stage)
    assert stage.held() == 0


# 22: pauses


def test_scenario_22_a_pause_in_mid_game_gives_and_takes_no_second(stage: Stage) -> None:
    """However long it lasts, and in whatever phase games are: after it, each side has exactly the seconds that it had before."""
    job = stage.posted(RUN)
    games = [stage.challenger.opens_blind(job, 0), stage.traced(job, RUN, challenger=stage.watcher)]
    stage.chain.advance(200)
    mark = stage.chain.snapshot()

    @settings(max_examples=20)
    @given(length=st.integers(1, 20 * 24 * 3600), later=st.integers(0, 300))
    def as_before(length: int, later: int) -> None:
        nonlocal mark
        stage.chain.restore(mark)
        mark = stage.chain.snapshot()
        start = stage.now()
        stage.chain.next_block_at(start + 1)
        stage.deployer.registry.pause()
        stage.at(start + 1 + length)
        if stage.registry.paused():
            stage.chain.next_block_at(start + 1 + length)
            stage.deployer.registry.unpause()
        length = min(length, 14 * 24 * 3600)
        for game, clock in zip(games, (PARAMETERS.trainer_clock, PARAMETERS.challenger_clock), strict=True):
            moved = stage.game.game(game).moved_at
            assert stage.registry.clock() == stage.now() - length
            stage.at(max(moved + clock + length, stage.now()))
            if stage.now() == moved + clock + length:
                with refused("game: clock not used up"):
                    stage.game.simulate("timeout", game)
            stage.chain.advance(1 + later)
            stage.game.simulate("timeout", game)

    as_before()


@pytest.mark.parametrize("trainers_turn", [True, False])
def test_scenario_22_a_pause_in_mid_game_extends_both_clocks_and_nobody_loses_by_it(stage: Stage, trainers_turn: bool) -> None:
    """Whoever moves during the pause, or in the last second after it, has spent nothing that the pause did not give."""
    job, length = stage.posted(RUN), 8 * 24 * 3600
    game = stage.challenger.opens_blind(job, 0)
    history = Descending(stage, game, RUN.histories[0].root)
    stage.deployer.registry.pause()
    if not trainers_turn:
        stage.chain.advance(length // 2)
        history.answer(RUN.histories[0])  # longer after the opening than its clock, and in the pause
    stage.chain.next_block_at(stage.now() + length)
    stage.deployer.registry.unpause()
    view = stage.game.game(game)
    left = dict(zip((True, False), view.clocks(stage.game.clocks, stage.now() - stage.registry.clock()), strict=True))
    last = view.moved_at + left[trainers_turn]
    stage.at(last)
    with refused("game: clock not used up"):
        stage.stranger.game.simulate("timeout", game)
    stage.chain.next_block_at(last)
    if trainers_turn:
        history.answer(RUN.histories[0])
    else:
        stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    view = stage.game.game(game)
    spent = (view.trainer_spent, view.challenger_spent)[not trainers_turn]
    assert spent == stage.game.clocks[not trainers_turn] + stage.now() - stage.registry.clock()
    assert view.phase == (Phase.CHALLENGER if trainers_turn else Phase.TRACE)


def test_scenario_22_an_owner_decides_no_game_by_pausing(stage: Stage) -> None:
    """No verdict, refutation, timeout or opening falls in the pause; moves do, and after it everything is as it was."""
    job = stage.posted(RUN)
    garbage = Descending(stage, stage.watcher.opens_blind(job, 0), RUN.histories[0].root, challenger=stage.watcher)
    silent = stage.stranger.opens_blind(job, 1)
    stage.chain.advance(PARAMETERS.trainer_clock - 10)
    stage.watcher.commits(job, 0, 2)
    stage.referee.send("rule", False, 1, 2)
    garbage.reveal(bytes(len(shown(RUN.histories[0], garbage.d))))
    judged = stage.traced(job, RUN)
    stage.at(stage.game.game(silent).moved_at + PARAMETERS.trainer_clock + 1)
    stage.chain.next_block_at(stage.now())
    stage.deployer.registry.pause()
    before = stage.credits()
    ends = {
        "conclude_element": (stage.challenger, judged, RUN.roots(0, 1), *plain(element_witness())),
        "refute": (stage.watcher, garbage.game, *plain(refutation(garbage.d))),
        "timeout": (stage.stranger, silent),
    }
    for hour in range(3):
        for name, (actor, *args) in ends.items():
            with refused("game: paused"):
                stage.game.simulate(name, *args, account=actor.address)
        opening = (job, 0, *plain(RUN.opening(0, 2)), SALT)
        with refused("governance: paused" if hour < 1 else "commitments: expired"):
            stage.game.simulate("open_step", *opening, account=stage.watcher.address, value=PARAMETERS.bond)
        stage.chain.advance(3600)
    stage.challenger.game.demand_trace(judged, RUN.roots(0, 1))
    Descending(stage, judged, RUN.trace(1).root).answer(RUN.trace(1))
    assert stage.credits() == before
    stage.deployer.registry.unpause()
    for name, (actor, *args) in ends.items():
        stage.game.simulate(name, *args, account=actor.address)


# 23: stale roots and foreign programs


def test_scenario_23_a_trace_root_counts_for_its_step_and_attempt_alone(stage: Stage) -> None:
    """Another step, segment, job or attempt owes a trace of its own, whatever was posted elsewhere."""
    job = stage.posted(RUN, terms=replace(TERMS, attempts=2))
    twin = stage.posted(RUN)
    stage.traced(job, RUN, step=1)
    for other, segment, step in ((job, 0, 2), (job, 1, 1), (twin, 0, 1)):
        game = stage.watcher.opens(other, segment, RUN.opening(segment, step))
        assert stage.game.game(game).phase == Phase.TRACE
        with refused("game: no step shown" if not stage.game.game(game).shown else "game: not the challenger's turn"):
            stage.watcher.game.conclude_element(game, RUN.roots(segment, step), element_witness())
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    stage.stranger.game.timeout(stage.game.game_count() - 2)
    stage.claim(job)
    stage.post(job, RUN, 0)
    assert stage.game.game(stage.watcher.opens(job, 0, RUN.opening(0, 1))).phase == Phase.TRACE


def test_scenario_23_a_blind_game_cannot_bring_a_known_root_to_another_step(stage: Stage) -> None:
    """It shows one step, and the trace that it descends is that step's."""
    job = stage.posted(RUN)
    stage.traced(job, RUN, step=1)
    blind = stage.watcher.opens_blind(job, 0)
    Descending(stage, blind, RUN.histories[0].root).answer(RUN.histories[0])
    stage.watcher.game.show_step(blind, ShowStep(RUN.opening(0, 2), descend=True))
    assert (stage.game.game(blind).phase, stage.game.game(blind).trace_root) == (Phase.TRACE, bytes(32))
    with refused("game: wrong length"):
        stage.trainer.game.post_trace(blind, RUN.trace(2).root)
    stage.trainer.game.post_trace(blind, RUN.trace(2).root, shown_at_once(RUN.trace(2)))
    with refused("game: step already shown"):
        stage.watcher.game.show_step(blind, ShowStep(RUN.opening(0, 1)))
    assert stage.game.game(blind).trace_root == RUN.trace(2).root


def shown_at_once(trace: Tree) -> bytes:
    """The first descendants of a trace's root."""
    levels = span(trace.depth)
    return b"".join(trace.node(trace.depth - levels, at) for at in range(1 << levels))


def test_scenario_23_a_node_of_another_jobs_program_proves_nothing(market: Market) -> None:
    """With the real referee: a true witness of a like job is refused in this one, and the trace of another step is too."""
    program, state, data = counting_program(208)
    foreign = HandPlayed.posted(market, MemoryTrace(program, state, data, STEPS), state, data, STEPS)
    played = HandPlayed.posted(market, honest_trace(STEPS), STATE, DATA, STEPS)
    game = played.traced("challenger", 2)
    games, account = market.acting["challenger"].game, market.address("challenger")
    true = played.witness(2, WEIGHTS, 70)
    forgeries = [
        foreign.witness(2, WEIGHTS, 70),
        replace(true, node=foreign.witness(2, WEIGHTS, 70).node),
        played.witness(4, WEIGHTS, 70),
    ]
    roots = played.roots(2)
    for forged in forgeries:
        with pytest.raises(TransactionFailed, match="merkle: proof of another root"):
            games.simulate("conclude_element", game, roots, *plain(forged), account=account)
    demand = (forgeries[1].node, 0, true.claim.root, true.claim.trace_proof)
    with pytest.raises(TransactionFailed, match="merkle: proof of another root"):
        games.simulate("demand_tensor", game, roots, *demand, account=account)
    for elsewhere in (foreign.roots(2), played.roots(4), replace(roots, program_root=foreign.roots(2).program_root)):
        with pytest.raises(TransactionFailed, match="game: another place"):
            games.simulate("conclude_element", game, elsewhere, *plain(true), account=account)
    games.simulate("conclude_element", game, roots, *plain(true), account=account)
