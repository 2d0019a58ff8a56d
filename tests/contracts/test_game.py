"""Turns, verdicts and ends of a game (docs/protocol.md, "A game")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from web3 import Web3
from web3.types import TxReceipt

from bisection.errors import TransactionFailed
from bisection.moves import ShowStep, StepOpening
from bisection.witness import StepRoots
from contracts.bindings import BLIND, Phase, Tree
from contracts.build import artifact
from contracts.events import (
    Acquitted,
    BoundaryJudged,
    Convicted,
    Demanded,
    Event,
    GameCancelled,
    GameOpened,
    JobSlashed,
    Judged,
    StepShown,
    TracePosted,
)
from contracts.jobs import NOBODY, JobStatus
from contracts.sender import Call
from contracts.values import plain
from tests.contracts.descending import Descending, shown
from tests.contracts.moves import all_refused, challenger_moves, trainer_moves
from tests.contracts.stage import (
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
        ((ANY, ANY, 1, 2**31, 1), "game: bad trainer clock"),
        ((ANY, ANY, 1, 1, 0), "game: bad challenger clock"),
        ((ANY, ANY, 1, 1, 2**31), "game: bad challenger clock"),
    ],
)
def test_parameters_out_of_bounds_are_refused(stage: Stage, arguments: tuple[object, ...], reason: str) -> None:
    built = artifact("DisputeGame")
    factory = stage.chain.web3.eth.contract(abi=built.abi, bytecode=built.bytecode)
    with refused(reason):
        stage.deployer.sender.send(Call("deploy", None, bytes.fromhex(factory.constructor(*arguments).data_in_transaction[2:])))


def test_parameters_at_their_bounds_are_taken(stage: Stage) -> None:
    for clocks in ((1, 1), (2**31 - 1, 2**31 - 1)):
        stage.create(stage.deployer, "DisputeGame", ANY, ANY, 1, *clocks)


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
    assert (game.phase, game.shown, game.step, game.first) == (Phase.TRACE, True, 2, 1)
    assert (game.trace_root, game.descended, game.moved_at) == (bytes(32), Tree(0), stage.now())
    assert (game.trainer_spent, game.challenger_spent, game.paused) == (0, 0, 0)
    assert stage.game.clocks == (1_000, 600)
    assert stage.registry.job(job).live_games == 1
    assert stage.balance(stage.book.game) == BOND == stage.game.bond


def test_a_blind_game_starts_with_the_history(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.challenger.commits(job, 2, BLIND)
    root = RUN.histories[2].root
    receipt = stage.challenger.game.send("open_blind", job, 2, root, SALT, value=BOND)
    opened, demanded = stage.events(receipt)
    assert isinstance(opened, GameOpened) and isinstance(demanded, Demanded)
    assert (opened.game, opened.job, opened.segment, opened.challenger) == (1, job, 2, stage.challenger.address)
    assert (opened.attempt, opened.rank) == (1, 1)
    assert (demanded.game, demanded.tree, demanded.root, demanded.count, demanded.tensor) == (1, Tree.HISTORY, root, 3, 0)
    game = stage.game.game(1)
    assert (game.phase, game.descended, game.shown, game.first) == (Phase.CHILDREN, Tree.HISTORY, False, 1)
    assert (game.rank, game.roots, game.moved_at) == (1, bytes(32), stage.now())
    assert (game.descent.tree, game.descent.count, game.descent.height, game.descent.position) == (Tree.HISTORY, 3, 2, 0)
    assert stage.registry.job(job).live_games == 1


def openings(job: int) -> tuple[tuple[Any, ...], ...]:
    """Both ways to open a game on segment 0."""
    step = ("open_step", job, 0, *plain(RUN.opening(0, 1)), SALT)
    return step, ("open_blind", job, 0, RUN.histories[0].root, SALT)


@pytest.mark.parametrize("value", [0, BOND - 1, BOND + 1])
def test_a_game_costs_exactly_the_bond(stage: Stage, value: int) -> None:
    job = stage.posted(RUN)
    stage.challenger.commits(job, 0, 1)
    stage.challenger.commits(job, 0, BLIND)
    for args in openings(job):
        with refused("game: wrong bond"):
            stage.challenger.game.send(*args, value=value)


def test_the_window_closes_after_its_last_second(stage: Stage) -> None:
    job = stage.posted(RUN)
    end = stage.registry.segment(job, 0).window_end
    stage.at(end - 10)
    for segment, step in ((0, 1), (0, BLIND), (2, BLIND)):
        stage.challenger.commits(job, segment, step)
    stage.at(end)
    for call in openings(job):
        stage.game.simulate(*call, account=stage.challenger.address, value=BOND)
    stage.at(end + 1)
    for call in openings(job):
        with refused("registry: window over"):
            stage.game.simulate(*call, account=stage.challenger.address, value=BOND)
    stage.challenger.game.open_blind(job, 2, SALT)  # the last segment came later


def blindly(stage: Stage, job: int, segment: int) -> None:
    """Open a game on a segment that there may not be."""
    salt = stage.salt()
    stage.challenger.commits(job, segment, BLIND, salt)
    stage.challenger.game.open_blind(job, segment, salt, RUN.histories[0].root)


def test_only_posted_segments_of_claimed_jobs_can_be_disputed(stage: Stage) -> None:
    with refused("registry: unknown job"):
        blindly(stage, 1, 0)
    job = stage.opened(RUN)
    with refused("registry: job not in dispute"):
        blindly(stage, job, 0)
    stage.claim(job)
    for segment in (0, 1, 2**32, 2**256 - 1):
        with refused("registry: segment not posted"):
            blindly(stage, job, segment)
    for segment in range(3):
        stage.post(job, RUN, segment)
    for alias in (job + 2**48, job + 2**64, job + 2**96, job + 2**160):  # the same number, were it cut to fewer bits
        with refused("registry: unknown job"):
            blindly(stage, alias, 0)
    blindly(stage, job, 0)


def test_a_blind_opening_is_about_the_history_that_it_names(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.challenger.commits(job, 0, BLIND)
    for wrong in (RUN.histories[1].root, bytes(32)):
        with refused("game: another place"):
            stage.challenger.game.open_blind(job, 0, SALT, wrong)
    stage.challenger.game.open_blind(job, 0, SALT, RUN.histories[0].root)


def fields_of(opening: StepOpening) -> dict[str, object]:
    """Its fields by name."""
    return {field.name: getattr(opening, field.name) for field in fields(opening)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": 4}, "game: no such step"),
        ({"step": 2**256 - 1}, "game: no such step"),
        ({"step": 2}, "merkle: proof of another depth"),
        ({"step": 3}, "merkle: proof of another depth"),
        ({**fields_of(RUN.opening(0, 0)), "step": 2}, "merkle: proof of another root"),
        ({"before": digest("forged")}, "merkle: proof of another root"),
        ({"after": digest("forged")}, "merkle: proof of another root"),
        ({"before": RUN.opening(0, 1).after, "after": RUN.opening(0, 1).before}, "merkle: proof of another root"),
        ({"proof": ()}, "merkle: proof of another depth"),
        ({"proof": RUN.opening(0, 1).proof[:-1]}, "merkle: proof of another depth"),
        ({"proof": (*RUN.opening(0, 1).proof, bytes(32))}, "merkle: proof of another depth"),
        ({"proof": RUN.opening(0, 1).proof[::-1]}, "merkle: proof of another root"),
        ({"proof": RUN.opening(0, 2).proof}, "merkle: proof of another depth"),
    ],
)
def test_a_step_is_shown_with_true_proofs(stage: Stage, change: dict[str, object], reason: str) -> None:
    job = stage.posted(RUN)
    with refused(reason):
        stage.challenger.opens(job, 0, replace(RUN.opening(0, 1), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 15, 16])
def test_every_step_is_shown_by_its_proof_and_by_no_other(stage: Stage, steps: int) -> None:
    run = TrainerRun(steps=steps, segment_length=steps)
    job = stage.posted(run)
    for step in range(steps):
        stage.challenger.commits(job, 0, step)
        honest = run.opening(0, step)
        lies = [(*honest.proof, bytes(32)), (*honest.proof, bytes(32), bytes(32))]
        lies += [honest.proof[:-1]] if honest.proof else []
        for at, sibling in enumerate(honest.proof):
            lies.append((*honest.proof[:at], bytes([sibling[0] ^ 1]) + sibling[1:], *honest.proof[at + 1 :]))
        for lie in lies:
            with pytest.raises(TransactionFailed, match=r"merkle: proof of another (root|depth)"):
                stage.challenger.game.open_step(job, 0, replace(honest, proof=lie), SALT)
        stage.challenger.game.open_step(job, 0, honest, SALT)


def test_the_padding_of_a_history_is_no_step(stage: Stage) -> None:
    job = stage.posted(RUN)
    tree = RUN.histories[0]  # five leaves, eight places
    with refused("game: no such step"):
        stage.challenger.opens(job, 0, StepOpening(4, tree.levels[0][4], bytes(32), tuple(tree.prove_range(4, 2))))


# The trace


def test_the_trainer_answers_with_the_trace_root(stage: Stage) -> None:
    jobs = [stage.posted(RUN) for _ in range(5)]
    for _ in range(3):
        stage.watcher.opens_blind(jobs[0], 0)
    game = stage.challenger.opens(jobs[-1], 2, RUN.opening(2, 0))
    root = RUN.trace(8).root
    (posted,) = stage.events(stage.trainer.game.post_trace(game, root))
    assert isinstance(posted, TracePosted)
    assert (posted.game, posted.job, posted.attempt, posted.segment, posted.step, posted.root) == (4, 5, 1, 2, 0, root)
    view = stage.game.game(game)
    assert (view.job, view.attempt, view.segment, view.step) == (5, 1, 2, 0)
    assert (view.phase, view.trace_root) == (Phase.CHALLENGER, root)
    assert stage.game.trace_root(5, 1, 2, 0) == root


def test_a_trace_root_is_posted_once_a_step_and_shared_by_all_games_on_it(stage: Stage) -> None:
    job = stage.posted(RUN)
    waiting = stage.watcher.opens(job, 0, RUN.opening(0, 1))
    stage.traced(job, RUN)
    later = stage.watcher.opens(job, 0, RUN.opening(0, 1))
    assert stage.game.game(later).phase == Phase.CHALLENGER
    assert stage.game.game(waiting).phase == Phase.TRACE
    for wrong in (digest("another"), bytes(32)):
        with refused("game: another trace root known"):
            stage.trainer.game.post_trace(waiting, wrong)
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


def test_a_trace_root_is_posted_for_the_step_that_it_names(stage: Stage) -> None:
    job = stage.posted(RUN)
    game, other = (actor.opens(job, 0, RUN.opening(0, 1)) for actor in (stage.challenger, stage.watcher))
    elsewhere = stage.stranger.opens(job, 0, RUN.opening(0, 2))
    root = RUN.trace(1).root
    for place in (stage.game.game(elsewhere).step_place, digest("place"), bytes(32)):
        with refused("game: another place"):
            stage.trainer.game.send("post_trace", game, place, root, b"")
    assert stage.game.game(other).step_place == stage.game.game(game).step_place
    stage.trainer.game.send("post_trace", game, stage.game.game(other).step_place, root, b"")


def test_with_a_trace_root_nothing_is_shown_that_was_not_demanded(stage: Stage) -> None:
    game = stage.challenger.opens(stage.posted(RUN), 0, RUN.opening(0, 1))
    tree = RUN.trace(1)
    for payload in (b"\0", tree.root, b"".join(tree.node(0, i) for i in range(64))):
        with refused("game: nothing demanded"):
            stage.trainer.game.post_trace(game, tree.root, payload)
    stage.trainer.game.post_trace(game, tree.root)


# Whose turn it is


def test_only_the_sides_move(stage: Stage) -> None:
    job = stage.posted(RUN)
    traced, waiting = stage.traced(job, RUN), stage.watcher.opens(job, 0, RUN.opening(0, 2))
    line = Descending(stage, stage.stranger.opens_blind(job, 0), RUN.histories[0].root)
    answers = (
        ("game: not the trainer", ("post_trace", waiting, stage.game.game(waiting).step_place, RUN.trace(2).root, b"")),
        ("game: not what the trainer owes", ("reveal", line.game, line.d.trail, 0, shown(RUN.histories[0], line.d))),
    )
    for actor in (stage.requester, stage.trainer, stage.watcher, stage.stranger):
        all_refused(stage, actor, challenger_moves(traced), "game: not the challenger")
    for actor in (stage.deployer, stage.requester, stage.challenger, stage.watcher, stage.stranger):
        for reason, answer in answers:
            with refused(reason):
                stage.game.simulate(*answer, account=actor.address)
    for _, answer in answers:
        stage.game.simulate(*answer, account=stage.trainer.address)


def test_nobody_moves_out_of_turn(stage: Stage) -> None:
    job = stage.posted(RUN)
    traced, waiting = stage.traced(job, RUN), stage.challenger.opens(job, 0, RUN.opening(0, 2))
    blind = stage.challenger.opens_blind(job, 0)
    for game in (waiting, blind):
        all_refused(stage, stage.challenger, challenger_moves(game), "game: not the challenger's turn")
    for game, owed in ((traced, ""), (waiting, "post_trace"), (blind, "reveal")):
        moves = trainer_moves(game)
        moves.pop(owed, None)
        all_refused(stage, stage.trainer, moves, "game: not owed")


def nothing_answered(stage: Stage, game: int, reason: str) -> None:
    """The trainer can answer nothing in a game that is not live; a reveal asks for nothing but what is owed."""
    moves = trainer_moves(game)
    all_refused(stage, stage.trainer, {"reveal": moves.pop("reveal")}, "game: not owed")
    all_refused(stage, stage.trainer, moves, reason)


def test_a_game_that_does_not_exist_cannot_be_moved(stage: Stage) -> None:
    others = ("timeout", "reclaim", "contend", "game")
    for game in (0, 1, 2**256 - 1):
        all_refused(stage, stage.challenger, challenger_moves(game), "game: unknown game")
        nothing_answered(stage, game, "game: unknown game")
        all_refused(stage, stage.stranger, dict.fromkeys(others, (game,)), "game: unknown game")


def blind(stage: Stage, job: int, actor: Actor | None = None) -> int:
    """A blind game on segment 0 whose history was revealed."""
    game = (actor or stage.challenger).opens_blind(job, 0)
    Descending(stage, game, RUN.histories[0].root).answer(RUN.histories[0])
    return game


def test_before_a_step_is_shown_nothing_about_it_can_be_demanded_or_concluded(stage: Stage) -> None:
    moves = challenger_moves(blind(stage, stage.posted(RUN)))
    for name in ("show_step", "pick", "refute"):
        del moves[name]
    all_refused(stage, stage.challenger, moves, "game: no step shown")


def test_a_step_is_shown_once(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = blind(stage, job)
    seal = stage.game.game(game).descent.seal
    (told,) = stage.events(stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1))))
    assert isinstance(told, StepShown)
    assert (told.game, told.step, told.before, told.after) == (game, 1, RUN.states[1].root, RUN.states[2].root)
    view = stage.game.game(game)
    assert (view.phase, view.shown, view.step, view.descent.tree) == (Phase.TRACE, True, 1, Tree(0))
    assert (view.rank, view.first) == (1, game)
    stage.trainer.game.post_trace(game, RUN.trace(1).root)
    with refused("game: step already shown"):
        stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 2)))
    for named in (seal, stage.game.game(game).descent.seal, bytes(32)):
        with refused("descent: none under way"):
            stage.challenger.game.pick(game, named, 0)


def test_a_shown_step_whose_trace_is_known_leaves_the_turn_with_the_challenger(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.traced(job, RUN)
    game = blind(stage, job, stage.watcher)
    stage.watcher.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    assert (stage.game.game(game).phase, stage.game.game(game).trace_root) == (Phase.CHALLENGER, RUN.trace(1).root)


# Verdicts

Conclusion = Callable[[Actor, int, StepRoots], TxReceipt]
CONCLUSIONS: dict[str, Conclusion] = {
    "boundary": lambda actor, game, roots: actor.game.conclude_boundary(game, roots, boundary_witness()),
    "element": lambda actor, game, roots: actor.game.conclude_element(game, roots, element_witness()),
    "run": lambda actor, game, roots: actor.game.conclude_run(game, roots, run_witness()),
}
ROOTS = RUN.roots(0, 1)


@pytest.mark.parametrize(("claimed", "correct"), [(-5, 7), (7, -5), (0, 1), (1, 0)])
@pytest.mark.parametrize("kind", CONCLUSIONS)
def test_a_wrong_number_convicts(stage: Stage, kind: str, claimed: int, correct: int) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN, segment=1, step=2)
    stage.referee.send("rule", False, claimed, correct)
    stage.referee.send("expect", RUN.roots(1, 2))
    events = stage.events(CONCLUSIONS[kind](stage.challenger, game, RUN.roots(1, 2)))
    assert names(events) == ["BoundaryJudged" if kind == "boundary" else "Judged", "JobSlashed", "JobRefunded", "Convicted"]
    judged, slashed, _, convicted = events
    if isinstance(judged, BoundaryJudged):
        assert (judged.node, judged.joined) == (3, False)
        assert (judged.tensor_root, judged.component_root) == (digest("tensor"), digest("component"))
    if isinstance(judged, Judged):
        assert (judged.node, judged.output, judged.position, judged.claimed, judged.correct) == (3, 0, 11, claimed, correct)
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
    game, other = stage.traced(job, RUN), stage.watcher.opens_blind(job, 0)
    stage.referee.send("rule", True, 7, 7)
    events = stage.events(CONCLUSIONS[kind](stage.challenger, game, ROOTS))
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
            conclude(stage.challenger, game, ROOTS)
    assert stage.game.game(game).phase == Phase.CHALLENGER


@pytest.mark.parametrize("kind", CONCLUSIONS)
def test_a_game_is_decided_once(stage: Stage, kind: str) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN)
    stage.referee.send("rule", True, 7, 7)
    CONCLUSIONS[kind](stage.challenger, game, ROOTS)
    owed = stage.credits()
    stage.chain.advance(10_000)
    all_refused(stage, stage.challenger, challenger_moves(game), "game: over")
    nothing_answered(stage, game, "game: over")
    all_refused(stage, stage.stranger, {"timeout": (game,), "reclaim": (game,), "contend": (game,)}, "game: over")
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
        blindly(stage, job, 0)


def test_training_goes_on_beside_a_game(stage: Stage) -> None:
    job = stage.posted(RUN, segments=1)
    game = stage.traced(job, RUN)
    stage.post(job, RUN, 1)
    stage.referee.send("rule", False, 0, 1)
    stage.challenger.game.conclude_element(game, ROOTS, element_witness())
    assert stage.registry.job(job).status == JobStatus.SLASHED


def test_a_conviction_ends_every_other_game_and_their_bonds_go_back(stage: Stage) -> None:
    job = stage.posted(RUN)
    others = [stage.traced(job, RUN, challenger=stage.watcher, step=2), stage.stranger.opens_blind(job, 1)]
    stage.convicted(job, RUN)
    paid = stage.credits()
    with refused("registry: job not in dispute"):
        blindly(stage, job, 0)
    with refused("game: attempt is over"):
        stage.watcher.game.conclude_element(others[0], RUN.roots(0, 2), element_witness())
    stage.chain.advance(10_000)
    for game, owner in zip(others, (stage.watcher, stage.stranger), strict=True):
        with refused("game: attempt is over"):
            stage.stranger.game.timeout(game)
        (cancelled,) = stage.events(stage.requester.game.reclaim(game))
        assert isinstance(cancelled, GameCancelled)
        assert (cancelled.game, cancelled.job) == (game, job)
        assert stage.game.credit(owner.address) == BOND
        assert stage.game.game(game).phase == Phase.CANCELLED
        with refused("game: over"):
            stage.requester.game.reclaim(game)
    assert stage.credits() == paid + 2 * BOND == stage.held()


def test_a_game_is_reclaimed_only_when_its_attempt_is_over(stage: Stage) -> None:
    game = stage.challenger.opens_blind(stage.posted(RUN), 0)
    stage.chain.advance(100_000)
    with refused("game: attempt is not over"):
        stage.challenger.game.reclaim(game)


def test_the_reward_goes_to_whoever_opened_the_game(stage: Stage) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN)
    stage.referee.send("rule", False, 0, 1)
    with refused("game: not the challenger"):
        stage.watcher.game.conclude_element(game, ROOTS, element_witness())
    stage.challenger.game.conclude_element(game, ROOTS, element_witness())
    assert stage.registry.credit(stage.watcher.address) == stage.game.credit(stage.watcher.address) == 0


# Two games, both with a case


def test_of_two_right_challengers_the_one_that_committed_first_is_rewarded(stage: Stage) -> None:
    job = stage.posted(RUN)
    games = [stage.traced(job, RUN), stage.watcher.opens(job, 0, RUN.opening(0, 1))]
    stage.referee.send("rule", False, 0, 1)
    stage.watcher.game.conclude_element(games[1], ROOTS, element_witness())
    with refused("game: attempt is over"):
        stage.challenger.game.conclude_element(games[0], ROOTS, element_witness())
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
