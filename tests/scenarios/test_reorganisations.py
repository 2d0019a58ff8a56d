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
from contracts.bindings import Phase
from contracts.jobs import claim_commitment
from contracts.values import plain
from tests.contracts.stage import SALT, Stage, TrainerRun, digest, refused, reveal_of, run_demand
from tests.scenarios.played import HandPlayed
from tests.support.market import Market, honest_trace
from tests.support.programs import counting_program

RUN, OTHER = TrainerRun(), TrainerRun(name="other")
NOT_REFUSED = pytest.fail.Exception


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
    game = stage.challenger.game.open_blind(job, 0)
    stage.trainer.game.reveal(game, *reveal_of(RUN.histories[0], stage.game.game(game).descent))
    node = stage.game.game(game).descent.node
    stage.chain.restore(mark)
    root, *proofs = replace_history(RUN, 0)
    stage.trainer.registry.post_segment(job, root, *proofs)
    assert stage.challenger.game.open_blind(job, 0) == game
    first, *others = RUN.histories[0].levels[0][: RUN.histories[0].count]
    otherwise = Tree([first, *(digest("otherwise", state) for state in others)])
    stage.trainer.game.reveal(game, *reveal_of(otherwise, stage.game.game(game).descent))
    with refused("descent: not the node in question"):
        stage.challenger.game.pick(game, node, 1)
    with refused("merkle: proof of another root"):
        stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    assert stage.game.game(game).phase == Phase.CHALLENGER


def test_scenario_01_a_reveal_after_a_reorganisation_cannot_land_on_another_node(stage: Stage) -> None:
    """Two challengers' games change places: what the trainer reveals of one tree is no answer about the other."""
    job = stage.posted(RUN)
    mark = stage.chain.snapshot()
    order = [(stage.challenger, 0), (stage.watcher, 1)]
    mine = [actor.game.open_blind(job, segment) for actor, segment in order]
    answers = [
        reveal_of(RUN.histories[segment], stage.game.game(game).descent) for game, (_, segment) in zip(mine, order, strict=True)
    ]
    stage.chain.restore(mark)
    assert [actor.game.open_blind(job, segment) for actor, segment in reversed(order)] == mine
    for game, answer in zip(mine, answers, strict=True):
        with refused("descent: wrong children"):
            stage.trainer.game.reveal(game, *answer)


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
            stage.trainer.game.send("post_trace", game, view.step_place, RUN.trace(view.step).root)


def test_scenario_01_partial_results_after_a_reorganisation_cannot_land_on_another_element(stage: Stage) -> None:
    """Two elements of one value, as maxima often are: the parts of the one would convict an honest trainer about the other."""
    job = stage.posted(RUN)
    stage.referee.send("cut", RunPlace(7, 9, 2, True))  # the claimed element, its tensor, how many parts, a maximum
    game = stage.traced(job, RUN)
    mark = stage.chain.snapshot()
    stage.challenger.game.demand_run(game, run_demand(position=11))
    parts_of_11 = game, stage.game.game(game).parts_place, [7, 3], []
    stage.trainer.game.simulate("reveal_parts", *parts_of_11, account=stage.trainer.address)
    stage.chain.restore(mark)
    stage.challenger.game.demand_run(game, run_demand(position=12))  # whose parts are 5 and 7
    with refused("game: another place"):
        stage.trainer.game.send("reveal_parts", *parts_of_11)


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
    opening = stage.challenger.game.call("open_blind", job, 0, stage.registry.segment(job, 0).history_root, value=stage.game.bond)
    stage.chain.restore(mark)
    stage.post(job, RUN, 0)
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
    with pytest.raises(TransactionFailed, match="merkle: proof of another root"):
        market.looking.game.simulate(*verdict(played, game), account=market.address("challenger"))


def verdict(played: HandPlayed, game: int) -> tuple[Any, ...]:
    """A true verdict about the first element of the first tensor that a map writes."""
    tensor = next(node.outputs[0].tensor for node in played.trace.program.nodes if node.NAME == "map")
    return ("conclude_element", game, *plain(played.witness(2, tensor, 0)))
