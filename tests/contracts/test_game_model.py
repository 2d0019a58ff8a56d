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
from bisection.errors import IllegalMove, TransactionFailed
from bisection.merkle import LEAF_BYTES, Tree, blob_tree
from bisection.witness import RunPlace
from contracts.bindings import NO_PICK, GameView, Phase
from contracts.bindings import Tree as Which
from contracts.values import plain
from tests.contracts.stage import LEAF, PARAMETERS, Stage, TrainerRun, digest, element_witness, reveal_of, run_witness, siblings_of

STEPS, TENSOR = 20, 7
DATA = bytes(i * i % 251 for i in range(5_000))
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
KIND = {
    Which.HISTORY: model.TreeKind.HISTORY,
    Which.TRACE: model.TreeKind.TRACE,
    Which.STATE: model.TreeKind.STATE,
    Which.TENSOR: model.TreeKind.TENSOR,
    Which.RUN: model.TreeKind.RUN,
}


def trace_of(step: int) -> Tree:
    """The trace of a step, in which tensor 7 has bytes."""
    leaves = RUN.trace(step).levels[0]
    return Tree([*leaves[:TENSOR], blob_tree(DATA).root, *leaves[TENSOR + 1 :]])


def tree_of(view: GameView) -> Tree:
    """The tree that is being descended."""
    return {
        Which.HISTORY: RUN.histories[0],
        Which.TRACE: trace_of(view.step),
        Which.STATE: RUN.states[view.step + 1],
        Which.TENSOR: blob_tree(DATA),
    }[view.descent.tree]


def state_of(game: model.Game) -> tuple[Any, ...]:
    """What the model and the contract must agree on."""
    if game.outcome != model.Outcome.LIVE:
        return (game.outcome,)
    d = game.descent
    descent = None if d is None else (d.tree, d.node, d.height, d.position, d.count, d.picked, d.tensor, d.nbytes, d.takes_max)
    shown = (game.step, game.before, game.after, game.trace_root) if game.step is not None else None
    return (game.owed, game.trainer_clock, game.challenger_clock, game.moved_at, game.demanded, shown, descent, game.run)


def state_on_chain(view: GameView) -> tuple[Any, ...]:
    """The same, from the contract."""
    if view.phase in OUTCOME:
        return (OUTCOME[view.phase],)
    d, descent = view.descent, None
    # While a trace root is owed, the contract may already have noted that the trace is to be descended.
    if d.tree and view.phase != Phase.TRACE:
        # In a tensor of one leaf the leaf is owed at once, which the contract stores as its first descendant.
        picked = None if d.picked == NO_PICK or d.height == 0 else d.picked
        tensor = d.tensor if d.tree in (Which.TENSOR, Which.RUN) else 0
        size = d.size if d.tree == Which.TENSOR else 0
        takes_max = d.tree == Which.RUN and d.size == 1
        descent = (KIND[d.tree], d.node, d.height, d.position, d.count, picked, tensor, size, takes_max)
    shown = (view.step, view.before, view.after, view.trace_root if any(view.trace_root) else None) if view.shown else None
    demanded = frozenset(KIND[which] for which in view.descended)
    run = (view.run_node, view.run_position) if Which.RUN in view.descended else None
    return (OWED[view.phase], view.trainer_clock, view.challenger_clock, view.moved_at, demanded, shown, descent, run)


def honest_moves(view: GameView) -> Iterator[model.Move]:
    """Moves that may well be legal now."""
    d = view.descent
    if view.phase == Phase.TRACE:
        yield model.PostTrace(trace_of(view.step).root)
    if view.phase == Phase.CHILDREN:
        children, siblings = reveal_of(tree_of(view), d)
        yield model.Reveal(tuple(children), tuple(siblings))
    if view.phase == Phase.LEAF:
        leaf = d.position << d.height | d.picked
        path = siblings_of(blob_tree(DATA), 0, leaf, d.height)
        yield model.RevealLeaf(DATA[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES], tuple(path))
    if view.phase == Phase.PARTS:
        yield model.RevealParts(*parts_of(view))
    if view.phase == Phase.CHALLENGER:
        if d.tree:
            yield from (model.Pick(d.node, child) for child in range(NO_PICK))
        if d.tree == Which.RUN:
            shown = partials(view, d.height, d.position)
            yield from (model.ConcludePart(NODE, child, shown, RUNS) for child in (0, len(shown) - 1))
        if not view.shown:
            yield from (model.ShowStep(RUN.opening(0, step), descend) for step in (0, 7, STEPS - 1) for descend in (False, True))
        else:
            yield model.Demand(model.TreeKind.TRACE)
            yield model.Demand(model.TreeKind.STATE)
            trace = trace_of(view.step)
            yield model.DemandTensor(NODE, 0, blob_tree(DATA).root, tuple(trace.prove(TENSOR)))
            yield model.DemandRun(NODE, ELEMENT, LEAF)


def partials(view: GameView, height: int, position: int) -> tuple[int, ...]:
    """The honest partial results below a node of the run."""
    span = min(model.ARITY_BITS, height)
    spans = [((position << span) + i) << (height - span) for i in range(1 << span)]
    parts = [PARTS[first : first + (1 << (height - span))] for first in spans if first < len(PARTS)]
    return tuple(combined(part, view.descent.size == 1) for part in parts)


def parts_of(view: GameView) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(parts, before): the honest answer in the descent into the run."""
    d = view.descent
    if d.picked == NO_PICK:
        return partials(view, d.height, d.position), ()
    drop = min(model.ARITY_BITS, d.height)
    return partials(view, d.height - drop, d.position << drop | d.picked), partials(view, d.height, d.position)


def other_moves(view: GameView) -> Iterator[model.Move]:
    """Moves that are mostly wrong, or out of turn."""
    yield model.Timeout()
    yield from (model.Pick(view.descent.node, child) for child in (0, NO_PICK, 2**64))
    yield model.Pick(digest("another node"), 0)
    yield model.ShowStep(RUN.opening(0, 3))
    yield model.ShowStep(replace(RUN.opening(0, 3), step=4))
    yield model.ShowStep(replace(RUN.opening(0, 3), before_proof=()))
    yield from (model.Demand(kind) for kind in (model.TreeKind.TRACE, model.TreeKind.STATE))
    yield model.DemandTensor(NODE, 0, digest("another tensor"), tuple(trace_of(view.step).prove(TENSOR)))
    yield model.PostTrace(trace_of(view.step).root)
    yield model.RevealLeaf(DATA[:LEAF_BYTES], (bytes(32),))
    yield model.Reveal((), ())
    yield model.RevealParts((1, 2), ())
    yield model.DemandRun(NODE, ELEMENT, LEAF)
    yield model.ConcludePart(NODE, 0, (1, 2), RUNS)
    for honest in honest_moves(view):
        if isinstance(honest, model.Reveal):
            yield replace(honest, children=(digest("lie"), *honest.children[1:]))
            yield replace(honest, children=(*honest.children[:-1], digest("lie")))
            yield replace(honest, children=honest.children[:-1])
            yield replace(honest, siblings=(*honest.siblings, bytes(32)))
        if isinstance(honest, model.RevealParts):
            yield replace(honest, parts=(honest.parts[0] ^ 1, *honest.parts[1:]))
            yield replace(honest, parts=honest.parts[:-1])
            yield replace(honest, parts=(*honest.parts, 0)[-(1 << model.ARITY_BITS) :])
            yield replace(honest, before=honest.before[:-1] if honest.before else (1,))
        if isinstance(honest, model.ConcludePart):
            yield replace(honest, child=len(honest.parts))
            yield replace(honest, parts=honest.parts[::-1])
            yield replace(honest, node=replace(NODE, index=NODE.index + 1))
        if isinstance(honest, model.RevealLeaf):
            yield replace(honest, data=honest.data[:-1])
            yield replace(honest, data=bytes(len(honest.data)))
            yield replace(honest, siblings=honest.siblings[:-1])


def calls(move: model.Move) -> tuple[Any, ...]:
    """A move as (function, arguments after the game's number)."""
    match move:
        case model.Demand(tree):
            return ("demand_trace" if tree == model.TreeKind.TRACE else "demand_state",)
        case model.ShowStep(opening, descend):
            return ("show_step", *plain(opening), descend)
        case model.Timeout():
            return ("timeout",)
        case _:
            name = {
                model.Pick: "pick",
                model.DemandTensor: "demand_tensor",
                model.DemandRun: "demand_run",
                model.RevealParts: "reveal_parts",
                model.ConcludePart: "conclude_part",
                model.PostTrace: "post_trace",
                model.Reveal: "reveal",
                model.RevealLeaf: "reveal_leaf",
            }[type(move)]
            return (name, *plain(move))


PLACES = {"post_trace": "step_place", "reveal_parts": "parts_place"}


def allowed_by_model(game: model.Game, move: model.Move, now: int) -> model.Game | None:
    try:
        return model.apply(game, move, now)
    except IllegalMove:
        return None


def place_of(stage: Stage, game: int, name: str) -> list[bytes]:
    """What the trainer's answer names besides, for it to land nowhere else."""
    return [getattr(stage.game.game(game), PLACES[name])] if name in PLACES else []


def allowed_on_chain(stage: Stage, game: int, move: model.Move, account: str) -> bool:
    name, *args = calls(move)
    try:
        stage.game.simulate(name, game, *place_of(stage, game, name), *args, account=account)
    except TransactionFailed:
        return False
    return True


def play(stage: Stage, data: st.DataObject, moves: int, patch: pytest.MonkeyPatch) -> None:
    """Play a game of random moves on both."""
    job = stage.posted(RUN)
    stage.referee.send("place", TENSOR, len(DATA))
    takes_max = data.draw(st.booleans(), label="maximum")
    place = RunPlace(combined(PARTS, takes_max), TENSOR, data.draw(st.sampled_from([len(PARTS), len(PARTS), 1])), takes_max)
    stage.referee.send("cut", place)
    correct = data.draw(st.sampled_from([PARTS[0], PARTS[-1], 0]), label="correct")
    stage.referee.send("rule", True, 0, correct)
    # Where things lie, and what is right, would take a real program to say.
    patch.setattr(model, "locate", lambda roots, node, output: (TENSOR, len(DATA)))
    patch.setattr(model, "locate_run", lambda roots, node, position, claim: place)
    patch.setattr(model, "judge_part", lambda roots, witness: correct)
    spec = RUN.spec
    claim = model.Claim(
        job, 1, 0, 0, STEPS, RUN.histories[0].root, spec.program_root, spec.node_count, spec.tensor_count,
        spec.state_count, spec.data_root, spec.data_count,
    )  # fmt: skip
    if data.draw(st.booleans(), label="blind"):
        number = stage.challenger.game.open_blind(job, 0)
        state = model.open_blind(claim, CLOCKS, stage.now())
    else:
        number = stage.challenger.opens(job, 0, RUN.opening(0, 7))
        state = model.open_step(claim, RUN.opening(0, 7), CLOCKS, stage.now())
    for _ in range(moves):
        view = stage.game.game(number)
        assert state_on_chain(view) == state_of(state)
        stage.chain.advance(data.draw(st.sampled_from([0, 1, 30, 30, 30, 200]), label="seconds"))
        source = data.draw(st.sampled_from([honest_moves, honest_moves, other_moves]), label="source")
        candidates = list(source(view)) or [model.Timeout()]
        move = data.draw(st.sampled_from(candidates), label="move")
        mover = stage.trainer if isinstance(move, model.TrainerMove) else stage.challenger
        now = stage.now()
        assert allowed_on_chain(stage, number, move, mover.address) == (allowed_by_model(state, move, now) is not None)
        # A transaction is mined a second later, when a clock may have run out.
        if allowed_by_model(state, move, now) is not None and allowed_by_model(state, move, now + 1) is not None:
            name, *args = calls(move)
            mover.game.send(name, number, *place_of(stage, number, name), *args)
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
