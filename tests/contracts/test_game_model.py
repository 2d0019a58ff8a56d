"""The contract and bisection.game are the same machine: they allow and refuse the same moves, and move to the same states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisection import game as model
from bisection.cut import combined
from bisection.descent import owed_bytes, parts_payload
from bisection.errors import IllegalMove, TransactionFailed
from bisection.merkle import Tree, blob_tree
from bisection.moves import TrainerMove
from bisection.witness import RunPlace
from contracts.bindings import GameView, Phase
from contracts.bindings import Tree as Which
from contracts.values import plain
from tests.contracts.descending import KIND, leaf_of, partials, raw, refutation, shown
from tests.contracts.stage import LEAF, PARAMETERS, Stage, TrainerRun, digest, element_witness, run_witness

STEPS, TENSOR, OTHER = 20, 7, 9
DATA = bytes(i * i % 251 for i in range(50_000))  # 196 leaves: two reveals, and the leaf
RUN = TrainerRun(steps=STEPS, segment_length=STEPS)
NODE, ELEMENT, RUNS = element_witness().node, 11, run_witness().inputs
PARTS = [int(part) for part in np.random.default_rng(0).integers(-(1 << 62), 1 << 62, 70)]  # more than one reveal shows
CLOCKS = (PARAMETERS.trainer_clock, PARAMETERS.challenger_clock)
OWED = {
    Phase.CHALLENGER: model.Owed.NOTHING,
    Phase.TRACE: model.Owed.TRACE,
    Phase.CHILDREN: model.Owed.CHILDREN,
    Phase.LEAF: model.Owed.LEAF,
    Phase.PARTS: model.Owed.PARTS,
}
OUTCOME = {Phase.CONVICTED: model.Outcome.CONVICTED, Phase.ACQUITTED: model.Outcome.ACQUITTED}


def trace_of(step: int) -> Tree:
    """The trace of a step, in which tensor 7 has bytes."""
    leaves = RUN.trace(step).levels[0]
    return Tree([*leaves[:TENSOR], blob_tree(DATA).root, *leaves[TENSOR + 1 :]])


def tree_of(game: model.Game) -> Tree:
    """The tree that is being descended."""
    assert game.descent is not None
    tree, step = game.descent.tree, game.step or 0
    if tree == model.TreeKind.HISTORY:
        return RUN.histories[0]
    if tree == model.TreeKind.TRACE:
        return trace_of(step)
    return RUN.states[step + 1] if tree == model.TreeKind.STATE else blob_tree(DATA)


def right(game: model.Game) -> bytes:
    """What an honest trainer shows."""
    d = game.descent
    assert d is not None
    if d.tree == model.TreeKind.RUN:
        return parts_payload(partials(PARTS, d))
    return shown(tree_of(game), d) if d.height else leaf_of(DATA, d.position)


def state_of(game: model.Game) -> tuple[Any, ...]:
    """What the model and the contract must agree on."""
    if game.outcome != model.Outcome.LIVE:
        return (game.outcome,)
    d = game.descent
    descent: tuple[Any, ...] | None = None
    if d is not None:
        descent = (d.tree, d.seal(game.claim.trainer), d.height, d.position, d.count, d.picked)
        if d.tree in (model.TreeKind.TENSOR, model.TreeKind.RUN):
            descent = (*descent, d.tensor, d.nbytes, d.takes_max)
    step = (game.step, game.trace_root) if game.step is not None else None
    return (
        game.owed,
        game.trainer_clock,
        game.challenger_clock,
        game.moved_at,
        game.demanded,
        step,
        descent,
        game.run,
        game.tensor,
    )


def state_on_chain(view: GameView) -> tuple[Any, ...]:
    """The same, from the contract."""
    if view.phase in OUTCOME:
        return (OUTCOME[view.phase],)
    d = view.descent
    descent: tuple[Any, ...] | None = None
    # While a trace root is owed, the contract may already have noted that the trace is to be descended.
    if d.tree and view.phase != Phase.TRACE:
        descent = (KIND[d.tree], d.seal, d.height, d.position, d.count, d.picked)
        if d.tree in (Which.TENSOR, Which.RUN):
            in_run = d.tree == Which.RUN
            descent = (*descent, d.tensor, 0 if in_run else d.size, in_run and d.size == 1)
    step = (view.step, view.trace_root if any(view.trace_root) else None) if view.shown else None
    demanded = frozenset(KIND[which] for which in view.descended)
    run = (view.run_node, view.run_position) if Which.RUN in view.descended else None
    trainer, challenger = view.clocks(CLOCKS, 0)
    return (OWED[view.phase], trainer, challenger, view.moved_at, demanded, step, descent, run, d.tensor)


def demands(game: model.Game) -> Iterator[model.Move]:
    """All that can be asked about a step."""
    yield model.Demand(model.TreeKind.TRACE)
    yield model.Demand(model.TreeKind.STATE)
    yield model.DemandTensor(NODE, 0, blob_tree(DATA).root, tuple(trace_of(game.step or 0).prove(TENSOR)))
    yield model.DemandRun(NODE, ELEMENT, LEAF)


def honest_moves(game: model.Game) -> Iterator[model.Move]:
    """Moves that may well be legal now."""
    d = game.descent
    if game.owed == model.Owed.TRACE:
        tree = trace_of(game.step or 0)
        payload = b"".join(tree.node(0, i) for i in range(64)) if model.TreeKind.TRACE in game.demanded else b""
        yield model.PostTrace(tree.root, payload)
    elif game.owed != model.Owed.NOTHING:
        assert d is not None
        yield model.Reveal(d.trail, d.picked, right(game))
    else:
        if d is not None:
            yield from (model.Pick(d.seal(game.claim.trainer), child) for child in range(1 << d.levels))
            yield refutation(d)
            assert d.below is not None
            if d.tree == model.TreeKind.RUN:
                last = len(d.below) // 8 - 1
                yield from (model.ConcludePart(NODE, d.trail, d.below, child, RUNS) for child in (0, last))
        if game.step is None:
            yield from (model.ShowStep(RUN.opening(0, step), descend) for step in (0, 7, STEPS - 1) for descend in (False, True))
        else:
            yield from demands(game)


def garbage(game: model.Game) -> Iterator[model.Move]:
    """Answers that are wrong, and taken."""
    d = game.descent
    if game.owed in (model.Owed.CHILDREN, model.Owed.LEAF, model.Owed.PARTS):
        assert d is not None
        payload = right(game)
        yield model.Reveal(d.trail, d.picked, bytes(len(payload)))
        yield model.Reveal(d.trail, d.picked, payload[:-1] + bytes([payload[-1] ^ 1]))
        yield model.Reveal(d.trail, d.picked, payload[32:] + payload[:32])
    elif game.owed == model.Owed.TRACE:
        yield model.PostTrace(digest("wrong"), bytes(64 * 32) if model.TreeKind.TRACE in game.demanded else b"")
    else:
        yield from honest_moves(game)


def other_moves(game: model.Game) -> Iterator[model.Move]:
    """Moves that are mostly wrong, or out of turn."""
    d, trainer = game.descent, game.claim.trainer
    yield model.Timeout()
    yield model.Pick(digest("another seal"), 0)
    yield model.ShowStep(RUN.opening(0, 3))
    yield model.ShowStep(replace(RUN.opening(0, 3), step=4))
    yield model.ShowStep(replace(RUN.opening(0, 3), proof=()))
    yield from demands(game)
    yield model.DemandTensor(NODE, 0, digest("another tensor"), tuple(trace_of(game.step or 0).prove(TENSOR)))
    for payload in (b"", bytes(32), bytes(64 * 32)):
        yield model.PostTrace(trace_of(game.step or 0).root, payload)
    yield model.PostTrace(bytes(32))
    yield model.Reveal(digest("another trail"), 0, bytes(64))
    yield model.Refute(digest("another trail"), 0, bytes(32), bytes(64))
    yield model.ConcludePart(NODE, digest("another trail"), bytes(16), 0, RUNS)
    if d is None:
        return
    yield from (model.Pick(d.seal(trainer), child) for child in (0, 1 << d.levels, 2**64))
    yield from (model.Pick(seal, 0) for seal in (d.seal(bytes(20)), d.trail))
    honest = model.Reveal(d.trail, d.picked, bytes(owed_bytes(d)))
    yield from (honest, replace(honest, trail=d.origin), replace(honest, picked=d.picked + 1))
    yield from (replace(honest, payload=honest.payload[:-1]), replace(honest, payload=honest.payload + b"\0"))
    if d.below is None:
        return
    refute = refutation(d)
    yield from (replace(refute, trail=d.trail), replace(refute, picked=d.first + 1))
    yield from (replace(refute, above=refute.below), replace(refute, below=refute.above))
    part = model.ConcludePart(NODE, d.trail, d.below, 0, RUNS)
    yield from (part, replace(part, child=len(d.below) // 8), replace(part, parts=d.below[::-1]), replace(part, trail=d.origin))
    yield replace(part, node=replace(NODE, index=NODE.index + 1))


def calls(game: model.Game, view: GameView, move: model.Move) -> tuple[Any, ...]:
    """A move as (function, arguments after the game's number)."""
    c = game.claim
    roots = (
        c.program_root, c.node_count, game.trace_root or bytes(32), c.tensor_count, game.before, game.after, c.state_count,
        c.data_root, c.data_count,
    )  # fmt: skip
    match move:
        case model.Demand(tree):
            return ("demand_trace" if tree == model.TreeKind.TRACE else "demand_state", roots)
        case model.ShowStep(opening, descend):
            return ("show_step", *plain(opening), descend)
        case model.Timeout():
            return ("timeout",)
        case model.PostTrace(root, payload):
            return ("post_trace", view.step_place, root, payload)
        case model.DemandTensor() | model.DemandRun() | model.ConcludePart():
            name = {model.DemandTensor: "demand_tensor", model.DemandRun: "demand_run", model.ConcludePart: "conclude_part"}
            return (name[type(move)], roots, *plain(move))
        case _:
            return ({model.Pick: "pick", model.Refute: "refute", model.Reveal: "reveal"}[type(move)], *plain(move))


def allowed_by_model(game: model.Game, move: model.Move, now: int) -> model.Game | None:
    try:
        return model.apply(game, move, now)
    except IllegalMove:
        return None


def allowed_on_chain(stage: Stage, number: int, call: tuple[Any, ...], account: str) -> bool:
    name, *args = call
    try:
        stage.game.simulate(name, number, *args, account=account)
    except TransactionFailed:
        return False
    return True


def play(stage: Stage, data: st.DataObject, moves: int, patch: pytest.MonkeyPatch) -> None:
    """Play a game of random moves on both."""
    job = stage.posted(RUN)
    stage.referee.send("place", TENSOR, len(DATA))
    takes_max = data.draw(st.booleans(), label="maximum")
    place = RunPlace(combined(PARTS, takes_max), OTHER, data.draw(st.sampled_from([len(PARTS), len(PARTS), 1])), takes_max)
    stage.referee.send("cut", place)
    correct = data.draw(st.sampled_from([PARTS[0], PARTS[-1], 0]), label="correct")
    stage.referee.send("rule", True, 0, correct)
    # Where things lie, and what is right, would take a real program to say.
    patch.setattr(model, "locate", lambda roots, node, output: (TENSOR, len(DATA)))
    patch.setattr(model, "locate_run", lambda roots, node, position, claim: place)
    patch.setattr(model, "judge_part", lambda roots, witness: correct)
    spec = RUN.spec
    claim = model.Claim(
        job, 1, 0, raw(stage.trainer.address), 0, STEPS, RUN.histories[0].root, spec.program_root, spec.node_count,
        spec.tensor_count, spec.state_count, spec.data_root, spec.data_count,
    )  # fmt: skip
    if data.draw(st.booleans(), label="blind"):
        number = stage.challenger.opens_blind(job, 0)
        state = model.open_blind(claim, CLOCKS, stage.now())
    else:
        number = stage.challenger.opens(job, 0, RUN.opening(0, 7))
        state = model.open_step(claim, RUN.opening(0, 7), CLOCKS, stage.now())
    for _ in range(moves):
        view = stage.game.game(number)
        assert state_on_chain(view) == state_of(state)
        stage.chain.advance(data.draw(st.sampled_from([0, 1, 30, 30, 30, 200]), label="seconds"))
        source = data.draw(st.sampled_from([honest_moves, honest_moves, garbage, other_moves]), label="source")
        candidates = list(source(state)) if state.outcome == model.Outcome.LIVE else []
        move = data.draw(st.sampled_from(candidates or [model.Timeout()]), label="move")
        mover = stage.trainer if isinstance(move, TrainerMove) else stage.challenger
        now, call = stage.now(), calls(state, view, move)
        assert allowed_on_chain(stage, number, call, mover.address) == (allowed_by_model(state, move, now) is not None)
        # A transaction is mined a second later, when a clock may have run out.
        if allowed_by_model(state, move, now) is not None and allowed_by_model(state, move, now + 1) is not None:
            name, *args = call
            mover.game.send(name, number, *args)
            state = model.apply(state, move, stage.now())
    assert state_on_chain(stage.game.game(number)) == state_of(state)


def check(theatre: Stage, examples: int, moves: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def whole_games(data: st.DataObject) -> None:
        mark = theatre.chain.snapshot()
        try:
            with pytest.MonkeyPatch.context() as patch:
                play(theatre, data, moves, patch)
        finally:
            theatre.chain.restore(mark)

    whole_games()


def test_the_contract_plays_as_the_model_does(theatre: Stage) -> None:
    check(theatre, examples=40, moves=20)


@pytest.mark.deep
def test_the_contract_plays_as_the_model_does_in_many_games(theatre: Stage) -> None:
    check(theatre, examples=300, moves=40)
