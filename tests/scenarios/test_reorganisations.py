"""Moves that were signed for one branch of the chain and are mined on another: scenario 1 (docs/assurance.md, "Attacks").

Whoever sends a move broadcasts the same bytes again after a reorganisation; by then the number in it can name something else.
"""

from __future__ import annotations

from typing import Any

import pytest

from bisection.errors import TransactionFailed
from bisection.game import ShowStep
from bisection.merkle import Tree
from bisection.witness import RunPlace
from contracts.bindings import BLIND, Phase
from contracts.jobs import claim_commitment
from contracts.values import plain
from tests.contracts.descending import Descending, refutation, shown, word
from tests.contracts.stage import SALT, Stage, TrainerRun, digest, refused, run_demand
from tests.scenarios.played import HandPlayed
from tests.support.market import Market, honest_trace
from tests.support.programs import counting_program

RUN, OTHER = TrainerRun(), TrainerRun(name="other")
TALL = TrainerRun(100, 100, name="tall")  # its history takes two reveals


def test_scenario_01_an_opening_after_a_reorganisation_cannot_land_on_another_claim(stage: Stage) -> None:
    """The trainer posts fraud until it is answered, and honest work on the other branch: openings prove what they are about."""
    job = stage.claimed(RUN)
    mark = stage.chain.snapshot()
    stage.post(job, RUN, 0)
    stage.challenger.commits(job, 0, 1)
    stage.chain.restore(mark)
    honest = replace_history(RUN, 0)
    stage.trainer.registry.post_segment(job, *honest)
    stage.challenger.commits(job, 0, 1)  # the same bytes, broadcast again
    with refused("merkle: proof of another root"):
        stage.challenger.game.open_step(job, 0, RUN.opening(0, 1), SALT)


def replace_history(run: TrainerRun, segment: int) -> tuple[bytes, list[bytes], bytes, list[bytes]]:
    """A claim about the segment that begins in the same state and goes on otherwise."""
    first, *others = run.histories[segment].levels[0][: run.histories[segment].count]
    tree = Tree([first, *(digest("otherwise", state) for state in others)])
    last = tree.count - 1
    return tree.root, tree.prove(0), tree.levels[0][last], tree.prove(last)


def test_scenario_01_a_pick_or_a_step_after_a_reorganisation_cannot_land_on_another_history(stage: Stage) -> None:
    """The game has the same number on both branches, and another history in it."""
    job = stage.claimed(RUN)
    mark = stage.chain.snapshot()
    stage.post(job, RUN, 0)
    game = stage.challenger.opens_blind(job, 0)
    history = Descending(stage, game, RUN.histories[0].root)
    history.answer(RUN.histories[0])
    stage.chain.restore(mark)
    root, *proofs = replace_history(RUN, 0)
    stage.trainer.registry.post_segment(job, root, *proofs)
    assert stage.challenger.opens_blind(job, 0) == game
    first, *others = RUN.histories[0].levels[0][: RUN.histories[0].count]
    otherwise = Tree([first, *(digest("otherwise", state) for state in others)])
    Descending(stage, game, root).answer(otherwise)
    with refused("descent: something else revealed"):
        stage.challenger.game.pick(game, history.seal, 1)
    with refused("merkle: proof of another root"):
        stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    assert stage.game.game(game).phase == Phase.CHALLENGER


def test_scenario_01_a_reveal_after_a_reorganisation_cannot_land_on_another_node(stage: Stage) -> None:
    """Two challengers' games change places: what the trainer reveals of one tree is no answer about the other."""
    job = stage.posted(RUN)
    mark = stage.chain.snapshot()
    order = [(stage.challenger, 0), (stage.watcher, 1)]
    mine = [actor.opens_blind(job, segment) for actor, segment in order]
    lines = [Descending(stage, game, RUN.histories[segment].root) for game, (_, segment) in zip(mine, order, strict=True)]
    stage.chain.restore(mark)
    assert [actor.opens_blind(job, segment) for actor, segment in reversed(order)] == mine
    for line, (_, segment) in zip(lines, order, strict=True):
        with refused("game: not what the trainer owes"):
            line.answer(RUN.histories[segment])


def test_scenario_01_a_reveal_after_a_reorganisation_cannot_answer_another_pick(stage: Stage) -> None:
    """On the other branch the challenger has picked otherwise: the trainer's answer to the first pick would convict it there."""
    job = stage.posted(TALL)
    game = stage.challenger.opens_blind(job, 0)
    history = Descending(stage, game, TALL.histories[0].root)
    history.answer(TALL.histories[0])
    mark, before = stage.chain.snapshot(), history.d
    history.pick(3)
    answer = history.d.trail, history.d.picked, shown(TALL.histories[0], history.d)
    stage.trainer.game.simulate("reveal", game, *answer, account=stage.trainer.address)
    stage.chain.restore(mark)
    history.d = before
    history.pick(4)
    with refused("game: another place"):
        stage.trainer.game.reveal(game, *answer)
    history.answer(TALL.histories[0])
    with refused("game: nothing to refute"):
        history.refute()


def test_scenario_01_a_pick_after_a_reorganisation_cannot_fall_on_another_reveal(stage: Stage) -> None:
    """On the other branch the trainer reveals something else, which the challenger has not seen: that is refuted, not picked on."""
    job = stage.posted(TALL)
    game = stage.challenger.opens_blind(job, 0)
    mark = stage.chain.snapshot()
    true, false = (Descending(stage, game, TALL.histories[0].root) for _ in range(2))
    true.answer(TALL.histories[0])
    stage.challenger.game.simulate("pick", game, true.seal, 3, account=stage.challenger.address)
    stage.chain.restore(mark)
    false.reveal(bytes([1]) + shown(TALL.histories[0], false.d)[1:])
    with refused("descent: something else revealed"):
        stage.challenger.game.pick(game, true.seal, 3)
    with refused("game: another place"):
        true.refute()
    false.refute()
    assert stage.game.game(game).phase == Phase.CONVICTED


def test_scenario_01_a_refutation_after_a_reorganisation_cannot_fall_on_the_truth(stage: Stage) -> None:
    """Garbage on the one branch, the truth on the other: the same bytes convict nobody there."""
    job = stage.posted(TALL)
    game = stage.challenger.opens_blind(job, 0)
    mark = stage.chain.snapshot()
    true, false = (Descending(stage, game, TALL.histories[0].root) for _ in range(2))
    false.reveal(bytes(len(shown(TALL.histories[0], false.d))))
    stage.challenger.game.simulate("refute", game, *plain(refutation(false.d)), account=stage.challenger.address)
    stage.chain.restore(mark)
    true.answer(TALL.histories[0])
    with refused("game: another place"):
        false.refute()
    with refused("game: nothing to refute"):
        true.refute()
    assert stage.game.game(game).phase == Phase.CHALLENGER


def test_scenario_01_a_trace_root_after_a_reorganisation_cannot_land_on_another_step(stage: Stage) -> None:
    """Two challengers' games change places while the trainer's answers are under way: that must not convict an honest trainer."""
    job = stage.posted(RUN)
    challengers = [(stage.challenger, 1), (stage.watcher, 2)]
    for actor, step in challengers:
        actor.commits(job, 0, step)
    mark = stage.chain.snapshot()
    games = [actor.game.open_step(job, 0, RUN.opening(0, step), SALT) for actor, step in challengers]
    seen = [stage.game.game(game) for game in games]
    stage.chain.restore(mark)
    for actor, step in reversed(challengers):
        actor.game.open_step(job, 0, RUN.opening(0, step), SALT)
    for game, view in zip(games, seen, strict=True):
        with refused("game: another place"):
            stage.trainer.game.send("post_trace", game, view.step_place, RUN.trace(view.step).root, b"")


def test_scenario_01_partial_results_after_a_reorganisation_cannot_land_on_another_element(stage: Stage) -> None:
    """Two elements of one value, as maxima often are: the parts of the one would convict an honest trainer about the other."""
    job = stage.posted(RUN)
    stage.referee.send("cut", RunPlace(7, 9, 2, True))  # the claimed element, its tensor, how many parts, a maximum
    game = stage.traced(job, RUN)
    mark = stage.chain.snapshot()
    stage.challenger.game.demand_run(game, RUN.roots(0, 1), run_demand(position=11))
    parts_of_11 = Descending(stage, game, word(7))
    stage.chain.restore(mark)
    stage.challenger.game.demand_run(game, RUN.roots(0, 1), run_demand(position=12))  # whose parts are 5 and 7
    with refused("game: not what the trainer owes"):
        parts_of_11.show_parts(7, 3)


def test_scenario_01_a_claim_after_a_reorganisation_cannot_land_on_another_job(stage: Stage) -> None:
    """The requester swaps two jobs: whoever claimed the first has staked on one whose material it has never seen."""
    mark = stage.chain.snapshot()
    job = stage.opened(RUN)
    stage.trainer.registry.commit(claim_commitment(stage.trainer.address, job, SALT))
    offered = stage.registry.job(job)
    claim = stage.trainer.registry.call("claim", job, offered.offer, SALT, "", value=offered.terms.stake)
    stage.chain.restore(mark)
    assert stage.opened(OTHER, stage.terms(segment_period=1)) == job
    stage.trainer.registry.commit(claim_commitment(stage.trainer.address, job, SALT))
    with refused("registry: another job"):
        stage.trainer.sender.send(claim)


def test_scenario_01_a_blind_opening_after_a_reorganisation_cannot_land_on_honest_work(stage: Stage) -> None:
    """The trainer posts fraud until somebody opens blindly, and honest work on the other branch: the bond would be its own."""
    job = stage.claimed(RUN)
    mark = stage.chain.snapshot()
    stage.trainer.registry.post_segment(job, *replace_history(RUN, 0))
    root = stage.registry.segment(job, 0).history_root
    opening = stage.challenger.game.call("open_blind", job, 0, root, SALT, value=stage.game.bond)
    stage.chain.restore(mark)
    stage.post(job, RUN, 0)
    stage.challenger.commits(job, 0, BLIND)
    with refused("game: another place"):
        stage.challenger.sender.send(opening)


def test_scenario_01_a_verdict_after_a_reorganisation_cannot_land_on_another_trace(market: Market) -> None:
    """On the other branch the trainer posts another trace root: the openings of the first one prove nothing there."""
    _, state, data = counting_program()
    played = HandPlayed.posted(market, honest_trace(4), state, data, 4)
    game = played.opens("challenger", 2)
    mark = market.chain.snapshot()
    post = market.acting["trainer"].game.post_trace
    post(game, played.trace.tensors(2).root)
    market.looking.game.simulate(*verdict(played, game), account=market.address("challenger"))
    market.chain.restore(mark)
    post(game, played.trace.tensors(1).root)
    with pytest.raises(TransactionFailed, match="game: another place"):
        market.looking.game.simulate(*verdict(played, game), account=market.address("challenger"))


def verdict(played: HandPlayed, game: int) -> tuple[Any, ...]:
    """A true verdict about the first element of the first tensor that a map writes."""
    tensor = next(node.outputs[0].tensor for node in played.trace.program.nodes if node.NAME == "map")
    return ("conclude_element", game, played.roots(2), *plain(played.witness(2, tensor, 0)))
