"""Descents: how a silent or lying trainer is made to show its digests (docs/protocol.md, "A game")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.game import ARITY_BITS, ShowStep, StepOpening
from bisection.merkle import EMPTY, LEAF_BYTES, Tree, blob_tree, fold
from contracts.bindings import NO_PICK, Phase
from contracts.bindings import Tree as Which
from contracts.events import Demanded, LeafRevealed, Picked, Revealed
from tests.contracts.stage import (
    TERMS,
    Stage,
    TrainerRun,
    children_of,
    digest,
    element_witness,
    refused,
    reveal_of,
    siblings_of,
)

RUN = TrainerRun()
NODE = element_witness().node


def reveal(stage: Stage, game: int, tree: Tree) -> Revealed:
    """Answer honestly in a descent of ``tree``."""
    (revealed,) = stage.events(stage.trainer.game.reveal(game, *reveal_of(tree, stage.game.game(game).descent)))
    assert isinstance(revealed, Revealed)
    return revealed


def pick_towards(stage: Stage, game: int, leaf: int) -> Picked:
    """Pick the descendant above ``leaf``, or the leaf."""
    descent = stage.game.game(game).descent
    drop = min(ARITY_BITS, descent.height)
    child = (leaf >> (descent.height - drop)) & ((1 << drop) - 1)
    (picked,) = stage.events(stage.challenger.game.pick(game, descent.node, child))
    assert isinstance(picked, Picked)
    return picked


def descend(stage: Stage, game: int, tree: Tree, leaf: int) -> bytes:
    """Go down to ``leaf`` with honest answers; the digest that was revealed for it."""
    revealed = reveal(stage, game, tree)
    while revealed.height > ARITY_BITS:
        pick_towards(stage, game, leaf)
        revealed = reveal(stage, game, tree)
    first = revealed.position << min(ARITY_BITS, revealed.height)
    return revealed.children[leaf - first]


# Histories, traces, states


@pytest.mark.parametrize(
    ("steps", "leaf"), [(1, 1), (2, 0), (14, 9), (15, 15), (16, 16), (17, 3), (40, 40), (255, 200), (300, 300), (1100, 1099)]
)
def test_a_descent_reaches_every_leaf_of_trees_of_any_size(stage: Stage, steps: int, leaf: int) -> None:
    run = TrainerRun(steps=steps, segment_length=steps)
    game = stage.challenger.game.open_blind(stage.posted(run), 0)
    tree = run.histories[0]
    assert descend(stage, game, tree, leaf) == tree.levels[0][leaf]
    view = stage.game.game(game)
    assert (view.phase, view.descent.picked) == (Phase.CHALLENGER, NO_PICK)
    with refused("descent: at the leaves"):
        stage.challenger.game.pick(game, view.descent.node, 0)
    stage.challenger.game.show_step(game, ShowStep(run.opening(0, max(leaf - 1, 0))))


def test_reveals_name_their_place_so_that_the_tree_can_be_put_together(stage: Stage) -> None:
    run = TrainerRun(steps=1100, segment_length=1100)
    tree = run.histories[0]  # 1,101 leaves, depth 11
    game = stage.challenger.game.open_blind(stage.posted(run), 0)
    first = reveal(stage, game, tree)
    assert (first.tree, first.node, first.height, first.position) == (Which.HISTORY, tree.root, 11, 0)
    assert list(first.children) == [tree.node(6, i) for i in range(32)]
    picked = pick_towards(stage, game, 1099)
    assert (picked.child, picked.height, picked.position) == (17, 6, 17)
    second = reveal(stage, game, tree)
    assert (second.node, second.height, second.position) == (tree.node(6, 17), 6, 17)
    assert list(second.children) == [tree.node(1, 17 * 32 + i) for i in range(32)]
    assert (pick_towards(stage, game, 1099).height, stage.game.game(game).descent.node) == (1, tree.node(6, 17))
    last = reveal(stage, game, tree)
    assert (last.height, last.position, list(last.children)) == (1, 549, [tree.node(0, 1098), tree.node(0, 1099)])


@pytest.mark.parametrize("which", [Which.TRACE, Which.STATE])
def test_trace_and_state_can_be_descended_once(stage: Stage, which: Which) -> None:
    job = stage.posted(RUN)
    game = stage.traced(job, RUN, step=1)
    name = {Which.TRACE: "demand_trace", Which.STATE: "demand_state"}[which]
    tree = {Which.TRACE: RUN.trace(1), Which.STATE: RUN.states[2]}[which]
    (demanded,) = stage.events(stage.challenger.game.send(name, game))
    assert isinstance(demanded, Demanded)
    assert (demanded.tree, demanded.root, demanded.count, demanded.tensor) == (which, tree.root, tree.count, 0)
    assert descend(stage, game, tree, tree.count - 1) == tree.levels[0][-1]
    with refused("game: tree already descended"):
        stage.challenger.game.send(name, game)
    assert stage.game.game(game).descended == which


def test_the_history_is_not_descended_twice(stage: Stage) -> None:
    game = stage.challenger.game.open_blind(stage.posted(RUN), 0)
    reveal(stage, game, RUN.histories[0])
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 0)))
    stage.trainer.game.post_trace(game, RUN.trace(0).root)
    stage.challenger.game.demand_state(game)
    reveal(stage, game, RUN.states[1])
    stage.challenger.game.demand_trace(game)
    reveal(stage, game, RUN.trace(0))
    assert stage.game.game(game).descended == Which.HISTORY | Which.STATE | Which.TRACE


def test_a_tree_of_one_leaf_has_nothing_to_reveal(stage: Stage) -> None:
    run = TrainerRun(tensors=1, components=1)
    game = stage.traced(stage.posted(run), run)
    for demand in (stage.challenger.game.demand_trace, stage.challenger.game.demand_state):
        with refused("descent: nothing to reveal"):
            demand(game)


# Picks


def test_a_pick_is_bound_to_the_node_that_it_answers(stage: Stage) -> None:
    run = TrainerRun(steps=1100, segment_length=1100)
    tree = run.histories[0]
    game = stage.challenger.game.open_blind(stage.posted(run), 0)
    reveal(stage, game, tree)
    with refused("descent: not the node in question"):
        stage.challenger.game.pick(game, tree.node(6, 3), 0)
    stage.challenger.game.pick(game, tree.root, 3)
    reveal(stage, game, tree)
    with refused("descent: not the node in question"):
        stage.challenger.game.pick(game, tree.root, 3)
    stage.challenger.game.pick(game, tree.node(6, 3), 3)


def test_only_a_descendant_above_some_leaf_can_be_picked(stage: Stage) -> None:
    run = TrainerRun(steps=1099, segment_length=1099)  # 1,100 leaves of 2,048 places: descendants 0 to 17 of 32 stand over leaves
    game = stage.challenger.game.open_blind(stage.posted(run), 0)
    reveal(stage, game, run.histories[0])
    for child in (18, 31, 32, 2**200, 2**256 - 1):
        with refused("descent: no such child"):
            stage.challenger.game.pick(game, run.histories[0].root, child)
    stage.challenger.game.pick(game, run.histories[0].root, 3)
    node = reveal(stage, game, run.histories[0]).node
    # One descendant more is another node's first: the trainer could never tie it to this one.
    for child in (32, 33, 2**256 - 1):
        with refused("descent: no such child"):
            stage.challenger.game.pick(game, node, child)
    stage.challenger.game.pick(game, node, 31)


# Lies


def test_descendants_that_do_not_hash_to_the_node_are_refused(stage: Stage) -> None:
    tree = RUN.histories[0]
    game = stage.challenger.game.open_blind(stage.posted(RUN), 0)
    honest = children_of(tree, 3, 0)
    for wrong in ([digest("lie"), *honest[1:]], honest[::-1], children_of(RUN.histories[1], 3, 0)):
        with refused("descent: padding not empty" if wrong[5:] != honest[5:] else "descent: wrong children"):
            stage.trainer.game.reveal(game, wrong, [])
    stage.trainer.game.reveal(game, honest, [])


def test_a_reveal_has_its_exact_size(stage: Stage) -> None:
    tree = RUN.histories[0]  # 5 leaves: height 3, so 8 descendants
    game = stage.challenger.game.open_blind(stage.posted(RUN), 0)
    for wrong in (
        [],
        [tree.root],
        children_of(tree, 3, 0)[:4],
        children_of(tree, 3, 0) + [EMPTY] * 8,
        children_of(tree, 3, 0) + [EMPTY] * 24,
        [tree.node(1, i) for i in range(4)],
    ):
        with refused("descent: wrong number of children"):
            stage.trainer.game.reveal(game, wrong, [])
    with refused("descent: wrong proof length"):
        stage.trainer.game.reveal(game, children_of(tree, 3, 0), [EMPTY])


def test_a_digest_cannot_be_smuggled_into_the_padding(stage: Stage) -> None:
    """All leaves of the history are honest, but beyond the last one stands a digest: another root, and no wrong leaf below it."""
    run = TrainerRun(steps=4, segment_length=4)
    leaves = run.histories[0].levels[0]
    forged = Tree([*leaves, digest("smuggled")])
    job = stage.claimed(run)
    stage.trainer.registry.post_segment(job, forged.root, forged.prove(0), leaves[4], forged.prove(4))
    game = stage.challenger.game.open_blind(job, 0)
    with refused("descent: padding not empty"):
        stage.trainer.game.reveal(game, children_of(forged, 3, 0), [])
    with refused("descent: wrong children"):
        stage.trainer.game.reveal(game, children_of(run.histories[0], 3, 0), [])
    stage.chain.advance(10_000)
    stage.challenger.game.timeout(game)
    assert stage.game.game(game).phase == Phase.CONVICTED


def test_a_digest_cannot_be_smuggled_in_above_the_leaves_either(stage: Stage) -> None:
    """The same in a tree of two reveals: the digest would be an inner one, over nothing but padding."""
    run = TrainerRun(steps=39, segment_length=39)
    leaves = run.histories[0].levels[0]  # 40 of 64 places; the descendants of the root are pairs, from the 21st on over padding
    forged = Tree([*leaves, *[EMPTY] * 23, digest("smuggled")])
    job = stage.claimed(run)
    stage.trainer.registry.post_segment(job, forged.root, forged.prove(0), leaves[39], forged.prove(39))
    game = stage.challenger.game.open_blind(job, 0)
    with refused("descent: padding not empty"):
        stage.trainer.game.reveal(game, children_of(forged, 6, 0), [])


def test_the_second_reveal_is_tied_to_the_first(stage: Stage) -> None:
    run = TrainerRun(steps=300, segment_length=300)
    tree = run.histories[0]
    game = stage.challenger.game.open_blind(stage.posted(run), 0)
    reveal(stage, game, tree)
    stage.challenger.game.pick(game, tree.root, 5)
    honest, siblings = reveal_of(tree, stage.game.game(game).descent)
    for children, path in (
        ([digest("lie"), *honest[1:]], siblings),
        (children_of(tree, 4, 6), siblings_of(tree, 4, 6, 5)),  # another child, truly proved
        (honest, siblings_of(tree, 4, 4, 5)),
        (honest, siblings[::-1]),
    ):
        with refused("descent: wrong children"):
            stage.trainer.game.reveal(game, children, path)
    for path in ([], siblings[:4]):
        with refused("descent: wrong proof length"):
            stage.trainer.game.reveal(game, honest, path)
    stage.trainer.game.reveal(game, honest, siblings)


def test_a_lying_tree_can_be_revealed_and_then_it_is_nailed_down(stage: Stage) -> None:
    """The trainer may commit to wrong states, and must then show exactly those."""
    honest = TrainerRun(steps=40, segment_length=40)
    leaves = list(honest.histories[0].levels[0])
    leaves[23] = digest("wrong state")
    lie = Tree(leaves)
    job = stage.claimed(honest)
    stage.trainer.registry.post_segment(job, lie.root, lie.prove(0), leaves[40], lie.prove(40))
    game = stage.challenger.game.open_blind(job, 0)
    assert descend(stage, game, lie, 23) == digest("wrong state")
    opening = StepOpening(22, leaves[22], tuple(lie.prove(22)), leaves[23], tuple(lie.prove(23)))
    stage.challenger.game.show_step(game, ShowStep(opening))
    assert stage.game.game(game).after == digest("wrong state")


# Tensors

SIZES = [1, 255, 256, 257, 300, 32 * 256, 32 * 256 + 1, 33 * 256, 70_000, 300_000]


def demanded_tensor(stage: Stage, data: bytes, size: int | None = None) -> int:
    """A game in which tensor 7 of the trace, with these bytes, has been demanded."""
    run = TrainerRun()
    job = stage.posted(run)
    game = stage.challenger.opens(job, 0, run.opening(0, 1))
    trace = Tree([*run.trace(1).levels[0][:7], blob_tree(data).root, *run.trace(1).levels[0][8:]])
    stage.trainer.game.post_trace(game, trace.root)
    stage.referee.send("place", 7, len(data) if size is None else size)
    stage.referee.send("expect", replace(run.roots(0, 1), trace_root=trace.root))
    (demanded,) = stage.events(stage.challenger.game.demand_tensor(game, NODE, 0, blob_tree(data).root, trace.prove(7)))
    assert isinstance(demanded, Demanded)
    assert (demanded.tree, demanded.tensor) == (Which.TENSOR, 7)
    return game


def bytes_of(size: int) -> bytes:
    return bytes(i * i % 251 for i in range(size))


def leaf_of(data: bytes, leaf: int) -> bytes:
    return data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]


@pytest.mark.parametrize("size", SIZES)
def test_a_tensor_can_be_descended_to_the_bytes_of_its_last_leaf(stage: Stage, size: int) -> None:
    data = bytes_of(size)
    tree, last = blob_tree(data), (size - 1) // LEAF_BYTES
    game = demanded_tensor(stage, data)
    view = stage.game.game(game)
    assert (view.descent.count, view.descent.tensor, view.descent.size) == (tree.count, 7, size)
    if tree.depth:
        descend(stage, game, tree, last)
        pick_towards(stage, game, last)
    descent = stage.game.game(game).descent
    siblings = siblings_of(tree, 0, last, min(ARITY_BITS, descent.height))
    for wrong in (leaf_of(data, last)[:-1], b"", b"?" * 256):
        if len(wrong) != len(leaf_of(data, last)):
            with refused("descent: wrong leaf length"):
                stage.trainer.game.reveal_leaf(game, wrong, siblings)
    (told,) = stage.events(stage.trainer.game.reveal_leaf(game, leaf_of(data, last), siblings))
    assert isinstance(told, LeafRevealed)
    assert (told.tensor, told.position, told.data) == (7, last, leaf_of(data, last))
    view = stage.game.game(game)
    assert (view.phase, view.descent.tree) == (Phase.CHALLENGER, Which(0))
    with refused("descent: none under way"):
        stage.challenger.game.pick(game, view.descent.node, 0)
    with refused("game: tree already descended"):
        trace = Tree([*RUN.trace(1).levels[0][:7], tree.root, *RUN.trace(1).levels[0][8:]])
        stage.challenger.game.demand_tensor(game, NODE, 0, tree.root, trace.prove(7))


def test_a_leaf_that_is_not_the_last_is_whole(stage: Stage) -> None:
    data = bytes_of(300)
    tree = blob_tree(data)
    game = demanded_tensor(stage, data)
    reveal(stage, game, tree)
    pick_towards(stage, game, 0)
    with refused("descent: wrong leaf length"):
        stage.trainer.game.reveal_leaf(game, data[:44], siblings_of(tree, 0, 0, 1))
    with refused("descent: wrong leaf"):
        stage.trainer.game.reveal_leaf(game, bytes(256), siblings_of(tree, 0, 0, 1))
    with refused("descent: wrong leaf"):
        stage.trainer.game.reveal_leaf(game, data[:256], [bytes(32)])
    for siblings in ([], siblings_of(tree, 0, 0, 1) * 2):
        with refused("descent: wrong proof length"):
            stage.trainer.game.reveal_leaf(game, data[:256], siblings)
    stage.trainer.game.reveal_leaf(game, data[:256], siblings_of(tree, 0, 0, 1))


@pytest.mark.parametrize("leaves", [5, 19, 39])
def test_a_leaf_beyond_the_last_cannot_be_demanded(stage: Stage, leaves: int) -> None:
    """No bytes would answer it, and the trainer would lose without a fault."""
    tree = blob_tree(bytes_of(leaves * 256))
    game = demanded_tensor(stage, bytes_of(leaves * 256))
    descend(stage, game, tree, leaves - 1)
    descent = stage.game.game(game).descent
    beyond = leaves & ((1 << descent.height) - 1)
    for child in range(beyond, 33):
        with refused("descent: no such child"):
            stage.challenger.game.pick(game, descent.node, child)
    stage.challenger.game.pick(game, descent.node, beyond - 1)


def test_a_root_over_bytes_of_another_length_leaves_the_trainer_without_an_answer(stage: Stage) -> None:
    """The trainer committed to 40 bytes where the program says 44: no bytes of the right length have that digest."""
    data = bytes_of(40)
    game = demanded_tensor(stage, data, size=44)
    for attempt, reason in ((data, "wrong leaf length"), (data + bytes(4), "wrong leaf")):
        with refused(f"descent: {reason}"):
            stage.trainer.game.reveal_leaf(game, attempt, [])
    stage.chain.advance(10_000)
    stage.stranger.game.timeout(game)
    assert stage.game.game(game).phase == Phase.CONVICTED


def test_a_tensor_without_bytes_has_one_empty_leaf(stage: Stage) -> None:
    game = demanded_tensor(stage, b"")
    stage.trainer.game.reveal_leaf(game, b"", [])


def test_a_tensor_is_demanded_with_its_place_in_the_trace(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    trace = RUN.trace(1)
    stage.referee.send("place", 7, 1_000)
    demand = stage.challenger.game.demand_tensor
    with refused("merkle: proof of another root"):
        demand(game, NODE, 0, trace.levels[0][8], trace.prove(8))
    with refused("merkle: proof of another root"):
        demand(game, NODE, 0, digest("lie"), trace.prove(7))
    with refused("merkle: proof of another depth"):
        demand(game, NODE, 0, trace.levels[0][7], trace.prove(7)[:-1])
    stage.referee.send("place", RUN.tensors, 1_000)
    with refused("merkle: index outside the tree"):
        demand(game, NODE, 0, EMPTY, trace.prove(7))
    stage.referee.send("place", 7, 2**40 + 1)
    with refused("game: tensor too large"):
        demand(game, NODE, 0, trace.levels[0][7], trace.prove(7))
    stage.referee.send("place", 7, 2**40)
    demand(game, NODE, 0, trace.levels[0][7], trace.prove(7))
    view = stage.game.game(game)
    assert (view.descent.height, view.descent.count, view.descent.size) == (32, 2**32, 2**40)


def test_the_deepest_tensor_keeps_its_places_apart(stage: Stage) -> None:
    """2^32 leaves, all alike: positions grow to 32 bits without running into their neighbours."""
    levels = [digest("leaf")]
    for _ in range(32):
        levels.append(fold(levels[-1], 0, [levels[-1]]))
    run = TrainerRun(tensors=1)
    game = stage.challenger.opens(stage.posted(run), 0, run.opening(0, 1))
    stage.trainer.game.post_trace(game, levels[32])
    stage.referee.send("place", 0, 2**40)
    stage.challenger.game.demand_tensor(game, NODE, 0, levels[32], [])
    for height in range(32, 0, -ARITY_BITS):
        siblings = [] if height == 32 else [levels[height + k] for k in range(ARITY_BITS)]
        span = min(ARITY_BITS, height)
        stage.trainer.game.reveal(game, [levels[height - span]] * (1 << span), siblings)
        stage.challenger.game.pick(game, levels[height], (1 << span) - 1)
    view = stage.game.game(game)
    assert (view.phase, view.descent.position, view.descent.height) == (Phase.LEAF, 2**30 - 1, 2)
    with refused("descent: wrong leaf"):
        stage.trainer.game.reveal_leaf(game, bytes(256), [levels[k] for k in range(2)])


def test_the_whole_slow_path_from_a_blind_opening_to_the_verdict(stage: Stage) -> None:
    data = bytes_of(5_000)
    run = TrainerRun(steps=40, segment_length=40, tensors=40)
    trace = Tree([*run.trace(23).levels[0][:30], blob_tree(data).root, *run.trace(23).levels[0][31:]])
    job = stage.posted(run, terms=replace(TERMS, challenge_window=100))
    game = stage.challenger.game.open_blind(job, 0)
    stage.chain.advance(200)  # the window closes, the game goes on
    descend(stage, game, run.histories[0], 24)
    stage.challenger.game.show_step(game, ShowStep(run.opening(0, 23)))
    stage.trainer.game.post_trace(game, trace.root)
    stage.challenger.game.demand_trace(game)
    assert descend(stage, game, trace, 30) == blob_tree(data).root
    stage.referee.send("place", 30, len(data))
    stage.challenger.game.demand_tensor(game, NODE, 0, blob_tree(data).root, trace.prove(30))
    descend(stage, game, blob_tree(data), 17)
    pick_towards(stage, game, 17)
    stage.trainer.game.reveal_leaf(game, leaf_of(data, 17), siblings_of(blob_tree(data), 0, 17, 5))
    stage.referee.send("expect", replace(run.roots(0, 23), trace_root=trace.root))
    stage.referee.send("rule", False, 1, 2)
    stage.challenger.game.conclude_element(game, element_witness())
    assert stage.game.game(game).phase == Phase.CONVICTED
