"""Contract wallets in a game: they play every part, and gain nothing by calling back while they are paid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from contracts.bindings import BLIND, Phase, step_commitment
from contracts.events import GameOpened
from contracts.jobs import NATIVE, JobStatus, claim_commitment
from contracts.sender import Call
from contracts.values import plain
from tests.contracts.descending import Descending, begun, raw, refutation, shown, word
from tests.contracts.stage import (
    PARAMETERS,
    SALT,
    TERMS,
    Stage,
    TrainerRun,
    Wallet,
    boundary_witness,
    element_witness,
    part_conclusion,
    refused,
    run_demand,
    run_witness,
)

RUN = TrainerRun()
ROOTS = RUN.roots(0, 1)
BOND = PARAMETERS.bond
STEP = 1


def commits(stage: Stage, wallet: Wallet, job: int, step: int) -> None:
    wallet.does(stage.game.call("commit", step_commitment(wallet.address, job, 0, step, SALT)))


def blind_opening(stage: Stage, wallet: Wallet, job: int) -> Call:
    """The opening of a game on segment 0, committed to."""
    commits(stage, wallet, job, BLIND)
    return stage.game.call("open_blind", job, 0, RUN.histories[0].root, SALT, value=BOND)


def step_opening(stage: Stage, wallet: Wallet, job: int) -> Call:
    """The opening of a game on a step, committed to."""
    commits(stage, wallet, job, STEP)
    return stage.game.call("open_step", job, 0, *plain(RUN.opening(0, STEP)), SALT, value=BOND)


def opened(stage: Stage, wallet: Wallet, call: Call) -> int:
    wallet.does(call)
    return stage.game.game_count()


def traced(stage: Stage, wallet: Wallet, job: int) -> int:
    """A wallet's game on a step whose trace is posted."""
    game = opened(stage, wallet, step_opening(stage, wallet, job))
    stage.trainer.game.post_trace(game, RUN.trace(STEP).root)
    return game


# Calls that open or end a game, each due at once

Due = Callable[[Stage, Wallet, int], Call]


def refuting(stage: Stage, wallet: Wallet, job: int) -> Call:
    line = Descending(stage, opened(stage, wallet, blind_opening(stage, wallet, job)), RUN.histories[0].root)
    line.reveal(bytes(256))
    return stage.game.call("refute", line.game, *plain(refutation(line.d)))


def concluding(kind: str, witness: object) -> Due:
    return lambda stage, wallet, job: stage.game.call(f"conclude_{kind}", traced(stage, wallet, job), plain(ROOTS), *plain(witness))


def concluding_a_part(stage: Stage, wallet: Wallet, job: int) -> Call:
    game = traced(stage, wallet, job)
    stage.referee.send("cut", (7, 9, 2, False))
    wallet.does(stage.game.call("demand_run", game, plain(ROOTS), *plain(run_demand())))
    run = Descending(stage, game, word(7))
    run.show_parts(3, 4)
    assert run.d.below is not None
    move = replace(part_conclusion(run.d.trail, run.d.below, 0), inputs=())
    return stage.game.call("conclude_part", game, plain(ROOTS), *plain(move))


def calling_time(stage: Stage, wallet: Wallet, job: int) -> Call:
    game = opened(stage, wallet, blind_opening(stage, wallet, job))
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    return stage.game.call("timeout", game)


def reclaiming(stage: Stage, wallet: Wallet, job: int) -> Call:
    game = opened(stage, wallet, blind_opening(stage, wallet, job))
    stage.convicted(job, RUN)
    return stage.game.call("reclaim", game)


CALLS: dict[str, Due] = {
    "open_step": step_opening,
    "open_blind": blind_opening,
    "refute": refuting,
    "conclude_boundary": concluding("boundary", boundary_witness()),
    "conclude_element": concluding("element", element_witness()),
    "conclude_run": concluding("run", replace(run_witness(), inputs=())),
    "conclude_part": concluding_a_part,
    "timeout": calling_time,
    "reclaim": reclaiming,
}


@pytest.mark.parametrize("name", CALLS)
def test_no_game_is_opened_or_ended_while_a_bond_is_paid_out(stage: Stage, name: str) -> None:
    wallet = stage.wallet(stage.watcher)
    over, live = stage.posted(RUN), stage.posted(RUN)
    left = opened(stage, wallet, blind_opening(stage, wallet, over))
    stage.convicted(over, RUN)
    stage.stranger.game.reclaim(left)
    assert stage.game.credit(wallet.address) == BOND
    call = CALLS[name](stage, wallet, live)
    wallet.send("behave", False, call.data)
    wallet.send("spend", call.value)
    wallet.does(stage.game.call("withdraw", NATIVE))
    assert not wallet.simulate("called_back")
    assert (stage.game.credit(wallet.address), stage.balance(wallet.address)) == (0, BOND)
    wallet.does(call)


def test_a_wallet_is_the_challenger_of_its_games_and_not_its_owner(stage: Stage) -> None:
    wallet = stage.wallet(stage.watcher)
    call = blind_opening(stage, wallet, stage.posted(RUN))
    with refused("commitments: none made"):
        stage.watcher.sender.send(call)
    told = stage.events(wallet.does(call))[0]
    assert isinstance(told, GameOpened)
    assert told.challenger == stage.game.game(told.game).challenger == wallet.address
    with refused("commitments: none made"):
        wallet.does(call)
    line = Descending(stage, told.game, RUN.histories[0].root)
    line.answer(RUN.histories[0])
    show = stage.game.call("show_step", told.game, *plain(RUN.opening(0, STEP)), False)
    with refused("game: not the challenger"):
        stage.watcher.sender.send(show)
    wallet.does(show)
    assert stage.game.game(told.game).phase == Phase.TRACE


def trained(stage: Stage, wallet: Wallet) -> int:
    """A job whose first segment a wallet has posted."""
    job = stage.opened(RUN)
    wallet.does(stage.registry.call("commit", claim_commitment(wallet.address, job, SALT)))
    wallet.does(stage.registry.call("claim", job, stage.registry.job(job).offer, SALT, "", value=TERMS.stake))
    wallet.does(stage.registry.call("post_segment", job, *RUN.claim(0)))
    return job


def test_a_wallet_answers_as_the_trainer_and_its_owner_does_not(stage: Stage) -> None:
    """What it reveals is its own, and it answers for it."""
    wallet = stage.wallet(stage.trainer)
    job = trained(stage, wallet)
    game = stage.challenger.opens_blind(job, 0)
    d = begun(stage.game.game(game), RUN.histories[0].root)
    payload = shown(RUN.histories[0], d)
    answer = stage.game.call("reveal", game, d.trail, d.picked, payload)
    with refused("game: not what the trainer owes"):
        stage.trainer.sender.send(answer)
    wallet.does(answer)
    d = replace(d, below=payload)
    assert stage.game.game(game).descent.seal == d.seal(raw(wallet.address))
    show = stage.game.call("show_step", game, *plain(RUN.opening(0, STEP)), True)
    stage.challenger.sender.send(show)
    trace = RUN.trace(STEP)
    post = stage.game.call("post_trace", game, stage.game.game(game).step_place, trace.root, bytes(64 * 32))
    with refused("game: not the trainer"):
        stage.trainer.sender.send(post)
    wallet.does(post)
    d = replace(begun(stage.game.game(game), trace.root), below=bytes(64 * 32))
    assert stage.game.game(game).descent.seal == d.seal(raw(wallet.address))
    stage.challenger.game.refute(game, refutation(d))
    assert stage.registry.job(job).status == JobStatus.SLASHED
