"""Descents: how a silent or lying trainer is made to show its digests (docs/protocol.md, "A descent")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.merkle import EMPTY, Tree, blob_tree, fold
from bisection.moves import ShowStep, StepOpening
from contracts.bindings import Phase
from contracts.bindings import Tree as Which
from contracts.events import Demanded
from tests.contracts.descending import Descending, blind, leaf_of
from tests.contracts.stage import TERMS, Stage, TrainerRun, digest, element_witness, refused, run_demand

RUN = TrainerRun()
MANY = TrainerRun(steps=8_000, segment_length=8_000, components=1)  # 8,001 leaves, depth 13: reveals of five, four and four levels
ROOTS = RUN.roots(0, 1)
NODE = element_witness().node


# Histories, traces, states


@pytest.mark.parametrize(
    ("steps", "leaf"), [(1, 1), (2, 0), (14, 9), (15, 15), (16, 16), (17, 3), (63, 63), (64, 64), (65, 0), (300, 300), (1100, 1099)]
)
def test_a_descent_reaches_every_leaf_of_trees_of_any_size(stage: Stage, steps: int, leaf: int) -> None:
    run = TrainerRun(steps=steps, segment_length=steps)
    line, tree = blind(stage, run), run.histories[0]
    assert line.down(tree, leaf) == tree.levels[0][leaf]
    assert stage.game.game(line.game).phase == Phase.CHALLENGER
    for child in (0, 1, 2**255):
        with refused("descent: at the leaves"):
            stage.challenger.game.pick(line.game, line.seal, child)
    stage.challenger.game.show_step(line.game, ShowStep(run.opening(0, max(leaf - 1, 0))))


def test_reveals_name_their_place_so_that_the_tree_can_be_put_together(stage: Stage) -> None:
    tree = MANY.histories[0]
    line = blind(stage, MANY)
    first = line.answer(tree)
    assert (first.game, first.tree, first.height, first.position) == (line.game, Which.HISTORY, 13, 0)
    assert first.payload == b"".join(tree.node(8, i) for i in range(32))
    picked = line.towards(8_000)
    assert (picked.game, picked.child, picked.height, picked.position) == (line.game, 31, 8, 31)
    d = stage.game.game(line.game).descent
    assert (d.height, d.position, d.picked, d.count) == (8, 31, 31, 8_001)
    second = line.answer(tree)
    assert (second.height, second.position) == (8, 31)
    assert second.payload == b"".join(tree.node(4, 31 * 16 + i) for i in range(16))
    picked = line.towards(8_000)
    assert (picked.child, picked.height, picked.position) == (4, 4, 500)
    last = line.answer(tree)
    assert (last.height, last.position) == (4, 500)
    assert last.payload == b"".join(tree.node(0, 8_000 + i) for i in range(16))
    d = stage.game.game(line.game).descent
    assert (d.height, d.position, d.picked) == (4, 500, 4)


@pytest.mark.parametrize("which", [Which.TRACE, Which.STATE])
def test_trace_and_state_can_be_descended_once(stage: Stage, which: Which) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN, step=1)
    name = {Which.TRACE: "demand_trace", Which.STATE: "demand_state"}[which]
    tree = {Which.TRACE: RUN.trace(1), Which.STATE: RUN.states[2]}[which]
    (demanded,) = stage.events(stage.challenger.game.send(name, game, ROOTS))
    assert isinstance(demanded, Demanded)
    assert (demanded.game, demanded.tree, demanded.root, demanded.count, demanded.tensor) == (game, which, tree.root, tree.count, 0)
    line = Descending(stage, game, tree.root)
    assert line.down(tree, tree.count - 1) == tree.levels[0][tree.count - 1]
    with refused("game: tree already descended"):
        stage.challenger.game.send(name, game, ROOTS)
    assert stage.game.game(game).descended == which


def test_the_history_is_not_descended_twice(stage: Stage) -> None:
    line = blind(stage, RUN)
    line.answer(RUN.histories[0])
    game, roots = line.game, RUN.roots(0, 0)
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 0)))
    stage.trainer.game.post_trace(game, RUN.trace(0).root)
    for name, tree in (("demand_state", RUN.states[1]), ("demand_trace", RUN.trace(0))):
        stage.challenger.game.send(name, game, roots)
        Descending(stage, game, tree.root).answer(tree)
    assert stage.game.game(game).descended == Which.HISTORY | Which.STATE | Which.TRACE


def test_a_tree_of_one_leaf_has_nothing_to_reveal(stage: Stage) -> None:
    run = TrainerRun(tensors=1, components=1)
    game = stage.traced(stage.posted(run), run)
    for demand in (stage.challenger.game.demand_trace, stage.challenger.game.demand_state):
        with refused("descent: nothing to reveal"):
            demand(game, run.roots(0, 1))


# How far a reveal goes

SPANS = {
    **{height: height for height in range(1, 7)},
    **{7: 4, 8: 4, 9: 5, 10: 5, 11: 6, 12: 6, 13: 5, 14: 5, 15: 5, 16: 6, 17: 6, 18: 6, 19: 5, 20: 5, 21: 6},
    **{22: 6, 23: 6, 24: 6, 25: 5, 26: 6, 27: 6, 30: 6, 31: 6, 32: 6},
}
"""The height of a node → the levels that a reveal of it goes down: in as few steps as steps of six, and as even as can be."""


def alike(depth: int) -> list[bytes]:
    """A tree of 2^depth leaves that are all alike: its digests, from the leaves up."""
    levels = [digest("leaf")]
    for _ in range(depth):
        levels.append(fold(levels[-1], 0, [levels[-1]]))
    return levels


def uniform(stage: Stage, levels: list[bytes]) -> Descending:
    """A game in which a tensor with that tree was demanded."""
    run = TrainerRun(tensors=1)
    game = stage.challenger.opens(stage.posted(run), 0, run.opening(0, 1))
    stage.trainer.game.post_trace(game, levels[-1])
    stage.referee.send("place", 0, 256 << (len(levels) - 1))
    stage.challenger.game.demand_tensor(game, replace(run.roots(0, 1), trace_root=levels[-1]), NODE, 0, levels[-1], [])
    return Descending(stage, game, levels[-1])


@pytest.mark.parametrize("height", SPANS)
def test_reveals_are_few_and_even(stage: Stage, height: int) -> None:
    span, levels = SPANS[height], alike(height)
    line = uniform(stage, levels)
    assert stage.game.game(line.game).descent.height == height
    payload = levels[height - span] * (1 << span)
    for wrong in (
        payload[:-32],
        payload[:-1],
        payload[: len(payload) // 2],
        b"",
        payload + b"\0",
        payload + bytes(32),
        payload * 2,
    ):
        if len(wrong) <= 2048:
            with refused("game: wrong length"):
                stage.trainer.game.reveal(line.game, line.d.trail, 0, wrong)
    line.reveal(payload)
    with refused("game: nothing to refute"):
        line.refute()
    for child in (1 << span, (1 << span) + 1, 2**16, 2**255):
        with refused("descent: no such child"):
            stage.challenger.game.pick(line.game, line.seal, child)
    line.pick((1 << span) - 1)
    d = stage.game.game(line.game).descent
    assert (d.height, d.position, d.picked) == (height - span, (1 << span) - 1, (1 << span) - 1)


@pytest.mark.parametrize("height", [6, 13, 21, 24, 26, 32])
def test_the_deepest_trees_keep_their_places_apart(stage: Stage, height: int) -> None:
    """Positions grow to 32 bits without running into their neighbours."""
    levels = alike(height)
    line = uniform(stage, levels)
    assert stage.game.game(line.game).descent.count == 1 << height
    reveals = 0
    while line.d.height:
        span = SPANS[line.d.height]
        line.reveal(levels[line.d.height - span] * (1 << span))
        line.pick((1 << span) - 1)
        reveals += 1
    view = stage.game.game(line.game)
    assert reveals == -(-height // 6)
    assert (view.phase, view.descent.height, view.descent.position) == (Phase.LEAF, 0, (1 << height) - 1)
    assert (view.descended, view.descent.count, view.descent.size) == (Which.TENSOR, 1 << height, 256 << height)
    line.reveal(bytes(256))
    line.refute()


# Picks


def test_a_pick_is_bound_to_what_was_revealed(stage: Stage) -> None:
    tree = MANY.histories[0]
    line = blind(stage, MANY)
    before = line.seal
    line.answer(tree)
    for wrong in (before, tree.root, bytes(32), line.d.seal(bytes(20))):
        with refused("descent: something else revealed"):
            stage.challenger.game.pick(line.game, wrong, 0)
    first = line.seal
    assert stage.game.game(line.game).descent.seal == first
    line.pick(3)
    line.answer(tree)
    with refused("descent: something else revealed"):
        stage.challenger.game.pick(line.game, first, 3)
    line.pick(3)


def test_what_was_revealed_otherwise_has_another_seal(stage: Stage) -> None:
    """After a reorganisation in which the trainer says something else, a pick that is on its way is refused."""
    line = blind(stage, TrainerRun(steps=1100, segment_length=1100))
    mark, start = stage.chain.snapshot(), line.d
    line.reveal(bytes(2048))
    old = line.seal
    stage.chain.restore(mark)
    line.d = start
    line.reveal(bytes(2047) + b"\1")
    with refused("descent: something else revealed"):
        stage.challenger.game.pick(line.game, old, 3)
    line.pick(3)


def test_only_a_descendant_above_some_leaf_can_be_picked(stage: Stage) -> None:
    run = TrainerRun(steps=1099, segment_length=1099)  # 1,100 leaves of 2,048 places: descendants 0 to 34 of 64 stand over leaves
    line, tree = blind(stage, run), run.histories[0]
    line.answer(tree)
    for child in (35, 63, 64, 2**200, 2**256 - 1):
        with refused("descent: no such child"):
            stage.challenger.game.pick(line.game, line.seal, child)
    line.pick(34)
    line.answer(tree)  # 32 leaves further down, of which 12 are leaves of the tree
    with refused("descent: at the leaves"):
        line.pick(0)


def test_one_descendant_more_is_another_nodes_first(stage: Stage) -> None:
    """The trainer could never show that."""
    line, tree = blind(stage, MANY), MANY.histories[0]
    line.answer(tree)
    line.pick(3)
    line.answer(tree)
    for child in (16, 17, 2**64):
        with refused("descent: no such child"):
            stage.challenger.game.pick(line.game, line.seal, child)
    with refused("no reason"):  # beyond what a position can be
        stage.challenger.game.pick(line.game, line.seal, 2**256 - 1)
    line.pick(15)


def test_without_a_descent_there_is_nothing_to_pick(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    for seal in (bytes(32), stage.game.game(game).descent.seal):
        with refused("descent: none under way"):
            stage.challenger.game.pick(game, seal, 0)


def test_a_lying_tree_can_be_revealed_and_then_it_is_nailed_down(stage: Stage) -> None:
    """The trainer may commit to wrong states, and must then show exactly those."""
    honest = TrainerRun(steps=40, segment_length=40)
    leaves = list(honest.histories[0].levels[0])
    leaves[23] = digest("wrong state")
    lie = Tree(leaves)
    job = stage.claimed(honest)
    stage.trainer.registry.post_segment(job, lie.root, lie.prove(0), leaves[40], lie.prove(40))
    line = Descending(stage, stage.challenger.opens_blind(job, 0), lie.root)
    assert line.down(lie, 23) == digest("wrong state")
    with refused("game: nothing to refute"):
        line.refute()
    opening = StepOpening(22, leaves[22], leaves[23], tuple(lie.prove_range(22, 2)))
    stage.challenger.game.show_step(line.game, ShowStep(opening))
    roots = replace(honest.roots(0, 22), trace_root=digest("trace"), state_after=digest("wrong state"))
    stage.trainer.game.post_trace(line.game, digest("trace"))
    stage.challenger.game.demand_trace(line.game, roots)


# Tensors

SIZES = [1, 255, 256, 257, 300, 64 * 256, 64 * 256 + 1, 65 * 256, 70_000, 300_000, 1_100_000]


def traced(stage: Stage, data: bytes) -> tuple[int, Tree]:
    """(a game, the trace) where tensor 7 has these bytes."""
    game = stage.challenger.opens(stage.posted(RUN), 0, RUN.opening(0, 1))
    trace = Tree([*RUN.trace(1).levels[0][:7], blob_tree(data).root, *RUN.trace(1).levels[0][8:]])
    stage.trainer.game.post_trace(game, trace.root)
    return game, trace


def demanded_tensor(stage: Stage, data: bytes) -> Descending:
    """A game in which tensor 7 of the trace, with these bytes, has been demanded."""
    game, trace = traced(stage, data)
    roots = replace(ROOTS, trace_root=trace.root)
    stage.referee.send("place", 7, len(data))
    stage.referee.send("expect", roots)
    tree = blob_tree(data)
    (demanded,) = stage.events(stage.challenger.game.demand_tensor(game, roots, NODE, 0, tree.root, trace.prove(7)))
    assert isinstance(demanded, Demanded)
    assert (demanded.tree, demanded.tensor, demanded.root, demanded.count) == (Which.TENSOR, 7, tree.root, tree.count)
    return Descending(stage, game, tree.root)


def bytes_of(size: int) -> bytes:
    return bytes(i * i % 251 for i in range(size))


@pytest.mark.parametrize("size", SIZES)
def test_a_tensor_can_be_descended_to_the_bytes_of_its_last_leaf(stage: Stage, size: int) -> None:
    data = bytes_of(size)
    tree, last = blob_tree(data), (size - 1) // 256
    line = demanded_tensor(stage, data)
    view = stage.game.game(line.game)
    assert (view.descent.count, view.descent.tensor, view.descent.size) == (tree.count, 7, size)
    assert view.phase == (Phase.CHILDREN if tree.depth else Phase.LEAF)
    if tree.depth:
        line.down(tree, last)
        line.towards(last)
    assert stage.game.game(line.game).phase == Phase.LEAF
    leaf = leaf_of(data, last)
    for wrong in (leaf[:-1], leaf + b"\0", b"?" * 256, b"?" * 512):
        if len(wrong) != len(leaf):
            with refused("game: wrong length"):
                stage.trainer.game.reveal(line.game, line.d.trail, line.d.picked, wrong)
    told = line.reveal(leaf)
    assert (told.tree, told.height, told.position, told.payload) == (Which.TENSOR, 0, last, leaf)
    assert stage.game.game(line.game).phase == Phase.CHALLENGER
    with refused("game: nothing to refute"):
        line.refute()
    with refused("descent: at the leaves"):
        stage.challenger.game.pick(line.game, line.seal, 0)
    roots, trace = replace(ROOTS, trace_root=stage.game.game(line.game).trace_root), RUN.trace(1).levels[0]
    proof = Tree([*trace[:7], tree.root, *trace[8:]]).prove(7)
    with refused("game: tree already descended"):
        stage.challenger.game.demand_tensor(line.game, roots, NODE, 0, tree.root, proof)


def test_a_leaf_that_is_not_the_last_is_whole(stage: Stage) -> None:
    data = bytes_of(300)
    line = demanded_tensor(stage, data)
    line.answer(blob_tree(data))
    line.pick(0)
    for wrong in (data[:44], data[:255], data[:257], data):
        with refused("game: wrong length"):
            stage.trainer.game.reveal(line.game, line.d.trail, 0, wrong)
    line.reveal(data[:256])


@pytest.mark.parametrize("leaves", [5, 19, 39])
def test_a_leaf_beyond_the_last_cannot_be_demanded(stage: Stage, leaves: int) -> None:
    """No bytes would answer it, and the trainer would lose without a fault."""
    line = demanded_tensor(stage, bytes_of(leaves * 256))
    line.answer(blob_tree(bytes_of(leaves * 256)))
    for child in range(leaves, 65):
        with refused("descent: no such child"):
            stage.challenger.game.pick(line.game, line.seal, child)
    line.pick(leaves - 1)


def test_a_tensor_without_bytes_has_one_empty_leaf(stage: Stage) -> None:
    line = demanded_tensor(stage, b"")
    with refused("game: wrong length"):
        stage.trainer.game.reveal(line.game, line.d.trail, 0, b"\0")
    line.reveal(b"")
    with refused("game: nothing to refute"):
        line.refute()


def test_a_tensor_is_demanded_with_its_place_in_the_trace(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    trace = RUN.trace(1)
    stage.referee.send("place", 7, 1_000)

    def demand(root: bytes, proof: list[bytes]) -> None:
        stage.challenger.game.demand_tensor(game, ROOTS, NODE, 0, root, proof)

    with refused("merkle: proof of another root"):
        demand(trace.levels[0][8], trace.prove(8))
    with refused("merkle: proof of another root"):
        demand(digest("lie"), trace.prove(7))
    with refused("merkle: proof of another depth"):
        demand(trace.levels[0][7], trace.prove(7)[:-1])
    stage.referee.send("place", RUN.tensors, 1_000)
    with refused("merkle: index outside the tree"):
        demand(EMPTY, trace.prove(7))
    stage.referee.send("place", 7, 2**40 + 1)
    with refused("game: tensor too large"):
        demand(trace.levels[0][7], trace.prove(7))
    stage.referee.send("place", 7, 2**40)
    demand(trace.levels[0][7], trace.prove(7))
    view = stage.game.game(game)
    assert (view.descent.height, view.descent.count, view.descent.size) == (32, 2**32, 2**40)


def test_what_a_demand_notes_stays_until_the_next(stage: Stage) -> None:
    """It is part of what later trails of the game are about."""
    data = bytes_of(300)
    line = demanded_tensor(stage, data)
    line.answer(blob_tree(data))
    roots = replace(ROOTS, trace_root=stage.game.game(line.game).trace_root)
    (told,) = stage.events(stage.challenger.game.demand_state(line.game, roots))
    assert isinstance(told, Demanded)
    assert told.tensor == stage.game.game(line.game).descent.tensor == 7
    Descending(stage, line.game, RUN.states[2].root).answer(RUN.states[2])
    stage.referee.send("cut", (5, 9, 2, False))
    stage.challenger.game.demand_run(line.game, roots, run_demand())
    view = stage.game.game(line.game)
    assert (view.descent.tensor, view.descent.size, view.run_node, view.run_position) == (9, 0, NODE.index, 11)
    assert view.step == 1 and view.rank == 1


def test_the_whole_slow_path_from_a_blind_opening_to_the_verdict(stage: Stage) -> None:
    data = bytes_of(5_000)
    run = TrainerRun(steps=400, segment_length=400, tensors=90)
    trace = Tree([*run.trace(23).levels[0][:30], blob_tree(data).root, *run.trace(23).levels[0][31:]])
    job = stage.posted(run, terms=replace(TERMS, challenge_window=100))
    game = stage.challenger.opens_blind(job, 0)
    stage.chain.advance(200)  # the window closes, the game goes on
    Descending(stage, game, run.histories[0].root).down(run.histories[0], 24)
    stage.challenger.game.show_step(game, ShowStep(run.opening(0, 23), descend=True))
    first = b"".join(trace.node(3, i) for i in range(16))
    stage.trainer.game.post_trace(game, trace.root, first)
    line = Descending(stage, game, trace.root).revealed(first)
    line.towards(30)
    assert line.down(trace, 30) == blob_tree(data).root
    stage.referee.send("place", 30, len(data))
    roots = replace(run.roots(0, 23), trace_root=trace.root)
    stage.challenger.game.demand_tensor(game, roots, NODE, 0, blob_tree(data).root, trace.prove(30))
    line = Descending(stage, game, blob_tree(data).root)
    line.down(blob_tree(data), 17)
    line.towards(17)
    line.reveal(leaf_of(data, 17))
    stage.referee.send("expect", roots)
    stage.referee.send("rule", False, 1, 2)
    stage.challenger.game.conclude_element(game, roots, element_witness())
    assert stage.game.game(game).phase == Phase.CONVICTED
