"""Refutations: what was revealed is not what was picked, and the trainer is convicted (docs/protocol.md, "A descent")."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from bisection.descent import digests, parts_payload
from bisection.merkle import Tree, blob_tree
from bisection.moves import Refute, ShowStep
from bisection.witness import RunPlace
from contracts.bindings import Phase
from contracts.events import Convicted, JobSlashed, Refuted
from contracts.jobs import JobStatus
from tests.contracts.descending import Descending, blind, leaf_of, refutation, shown, word
from tests.contracts.stage import (
    NODE,
    PARAMETERS,
    TERMS,
    Stage,
    TrainerRun,
    digest,
    element_witness,
    refused,
    run_demand,
)

RUN = TrainerRun()
ROOTS = RUN.roots(0, 1)
DATA = bytes(i * i % 251 for i in range(70_000))  # 274 leaves: a root, its descendants, theirs
LEAST, MOST = -(1 << 63), (1 << 63) - 1
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000
CASES = ("history", "trace", "trace with its root", "state", "tensor", "leaf", "deeper", "sum", "maximum", "deeper sum")


def flipped(payload: bytes, at: int) -> bytes:
    return payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]


def of_tensor(stage: Stage, data: bytes, size: int | None = None) -> Descending:
    """A game in which a tensor with these bytes was demanded, of which the program says that there are ``size``."""
    tree = blob_tree(data)
    trace = Tree([*RUN.trace(1).levels[0][:7], tree.root, *RUN.trace(1).levels[0][8:]])
    game = stage.challenger.opens(stage.posted(RUN), 0, RUN.opening(0, 1))
    stage.trainer.game.post_trace(game, trace.root)
    stage.referee.send("place", 7, len(data) if size is None else size)
    roots = replace(ROOTS, trace_root=trace.root)
    stage.challenger.game.demand_tensor(game, roots, NODE, 0, tree.root, trace.prove(7))
    return Descending(stage, game, tree.root)


def of_run(stage: Stage, claimed: int, count: int, takes_max: bool = False) -> Descending:
    """A game in which the run of an element was demanded."""
    game = stage.traced(stage.posted(RUN), RUN)
    stage.referee.send("cut", RunPlace(claimed, 9, count, takes_max))
    stage.challenger.game.demand_run(game, ROOTS, run_demand())
    return Descending(stage, game, word(claimed))


def posted_with_its_trace(stage: Stage, payload: bytes) -> Descending:
    """A game in which the trainer has posted a trace root together with ``payload``."""
    line = blind(stage, RUN)
    line.answer(RUN.histories[0])
    stage.challenger.game.show_step(line.game, ShowStep(RUN.opening(0, 1), descend=True))
    stage.trainer.game.post_trace(line.game, RUN.trace(1).root, payload)
    return Descending(stage, line.game, RUN.trace(1).root).revealed(payload)


def right(stage: Stage, case: str) -> Descending:
    """A game in which the trainer has just revealed what is right."""
    return revealed(stage, case, lambda payload: payload)


def revealed(stage: Stage, case: str, change: Callable[[bytes], bytes]) -> Descending:
    """A game in which the last thing that was revealed is what is right, but for a change."""
    if case == "history":
        line, payload = blind(stage, RUN), None
        payload = shown(RUN.histories[0], line.d)
    elif case in ("trace", "state"):
        game = stage.traced(stage.posted(RUN), RUN)
        tree = {"trace": RUN.trace(1), "state": RUN.states[2]}[case]
        stage.challenger.game.send(f"demand_{case}", game, ROOTS)
        line = Descending(stage, game, tree.root)
        payload = shown(tree, line.d)
    elif case == "trace with its root":
        tree = RUN.trace(1)
        return posted_with_its_trace(stage, change(b"".join(tree.node(tree.depth - 6, i) for i in range(64))))
    elif case in ("tensor", "deeper", "leaf"):
        line, tree = of_tensor(stage, DATA), blob_tree(DATA)
        if case != "tensor":
            line.answer(tree)
            line.towards(150)
        if case == "leaf":
            line.answer(tree)
            line.towards(150)
        payload = leaf_of(DATA, 150) if case == "leaf" else shown(tree, line.d)
    elif case == "deeper sum":
        line = of_run(stage, 130, 130)
        line.show_parts(*(16 for _ in range(8)), 2)
        line.pick(3)
        payload = parts_payload((1,) * 16)
    else:
        line = of_run(stage, {"sum": 12, "maximum": -3}[case], 3, case == "maximum")
        payload = parts_payload({"sum": (3, 4, 5), "maximum": (-3, LEAST, -4)}[case])
    line.reveal(change(payload))
    return line


# What is wrong


@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("case", CASES)
def test_one_wrong_byte_convicts(stage: Stage, case: str, at: int) -> None:
    line = revealed(stage, case, lambda payload: flipped(payload, at % len(payload)))
    if case == "maximum" and at == -1:
        with refused("game: nothing to refute"):
            line.refute()  # it is still the same maximum
        return
    line.refute()
    assert stage.game.game(line.game).phase == Phase.CONVICTED


def test_a_refutation_is_paid_like_every_conviction(stage: Stage) -> None:
    line = revealed(stage, "history", lambda payload: flipped(payload, 0))
    job = stage.game.game(line.game).job
    told, slashed, _, convicted = line.refute()
    assert isinstance(told, Refuted) and isinstance(slashed, JobSlashed) and isinstance(convicted, Convicted)
    assert told.game == line.game
    assert (convicted.game, convicted.job, convicted.by_timeout) == (line.game, job, False)
    assert (slashed.job, slashed.trainer, slashed.beneficiary) == (job, stage.trainer.address, stage.challenger.address)
    assert stage.registry.job(job).status == JobStatus.SLASHED
    assert stage.game.credit(stage.challenger.address) == PARAMETERS.bond == stage.balance(stage.book.game)
    assert stage.registry.credit(stage.challenger.address) == REWARD
    assert stage.credits() == stage.held()


def test_the_reward_for_a_refutation_goes_to_the_first_at_the_place(stage: Stage) -> None:
    job = stage.posted(RUN)
    first = stage.watcher.opens_blind(job, 0)
    line = Descending(stage, stage.challenger.opens_blind(job, 0), RUN.histories[0].root)
    line.reveal(bytes(256))
    line.refute()
    assert stage.registry.credit(stage.watcher.address) == REWARD
    assert stage.registry.credit(stage.challenger.address) == 0
    assert stage.game.credit(stage.challenger.address) == PARAMETERS.bond
    stage.stranger.game.reclaim(first)


def test_every_digest_counts(stage: Stage) -> None:
    payload = shown(RUN.histories[0], blind(stage, RUN).d)
    for i in range(8):
        mark = stage.chain.snapshot()
        line = blind(stage, RUN)
        line.reveal(flipped(payload, 32 * i + 31))
        line.refute()
        stage.chain.restore(mark)


def test_digests_in_another_order_are_wrong(stage: Stage) -> None:
    line = revealed(stage, "trace", lambda payload: b"".join(digests(payload)[::-1]))
    line.refute()


def test_the_descendants_of_another_node_are_wrong(stage: Stage) -> None:
    tree = blob_tree(DATA)
    line = of_tensor(stage, DATA)
    line.answer(tree)
    line.pick(3)
    line.reveal(shown(tree, replace(line.d, position=4)))
    line.refute()


def committed(stage: Stage, run: TrainerRun, forged: Tree) -> Descending:
    """A blind game on a history that the trainer has committed to in the place of the run's own."""
    leaves = run.histories[0].levels[0]
    job, last = stage.claimed(run), run.histories[0].count - 1
    stage.trainer.registry.post_segment(job, forged.root, forged.prove(0), leaves[last], forged.prove(last))
    return Descending(stage, stage.challenger.opens_blind(job, 0), forged.root)


@pytest.mark.parametrize("at", [5, 7])
def test_a_digest_smuggled_into_the_padding_convicts_although_it_hashes_to_the_root(stage: Stage, at: int) -> None:
    """All leaves of the history are honest, but beyond the last one stands a digest: another root, and no wrong leaf below it."""
    run = TrainerRun(steps=4, segment_length=4)
    leaves = run.histories[0].levels[0][:5]
    forged = Tree([*leaves, *[bytes(32)] * (at - 5), digest("smuggled")])
    line = committed(stage, run, forged)
    line.answer(forged)
    line.refute()
    assert stage.game.game(line.game).phase == Phase.CONVICTED


def test_the_same_padding_left_out_convicts_because_it_does_not_hash_to_the_root(stage: Stage) -> None:
    run = TrainerRun(steps=4, segment_length=4)
    forged = Tree([*run.histories[0].levels[0][:5], digest("smuggled")])
    line = committed(stage, run, forged)
    line.answer(run.histories[0])
    line.refute()


def test_a_digest_smuggled_in_above_the_leaves_convicts_too(stage: Stage) -> None:
    """The same in a tree of two reveals: the digest is an inner one, over nothing but padding."""
    run = TrainerRun(steps=69, segment_length=69)  # 70 of 128 places; the descendants of the root are eight leaves each
    forged = Tree([*run.histories[0].levels[0][:70], *[bytes(32)] * 57, digest("smuggled")])
    line = committed(stage, run, forged)
    line.answer(forged)
    line.refute()


def test_a_node_on_the_edge_of_the_padding_is_not_padding(stage: Stage) -> None:
    """One digest short of the last leaf would be refused, one more is padding."""
    run = TrainerRun(
        steps=64, segment_length=64
    )  # 65 leaves: of 16 descendants of the root, eight leaves each, nine stand over leaves
    line = Descending(stage, stage.challenger.opens_blind(stage.posted(run), 0), run.histories[0].root)
    line.answer(run.histories[0])
    with refused("game: nothing to refute"):
        line.refute()
    line.pick(8)
    line.answer(run.histories[0])
    with refused("game: nothing to refute"):
        line.refute()


# Leaves


@pytest.mark.parametrize("size", [1, 255, 256])
def test_a_tensor_that_is_its_own_leaf_is_refuted_by_its_root(stage: Stage, size: int) -> None:
    line = of_tensor(stage, DATA[:size])
    line.reveal(flipped(DATA[:size], size - 1))
    line.refute()


def test_a_root_over_bytes_of_another_length_leaves_the_trainer_without_an_answer(stage: Stage) -> None:
    """The trainer committed to 40 bytes where the program says 44: no bytes of the right length have that digest."""
    line = of_tensor(stage, DATA[:40], size=44)
    with refused("game: wrong length"):
        line.reveal(DATA[:40])
    line.reveal(DATA[:40] + bytes(4))
    line.refute()


# Partial results


@pytest.mark.parametrize("parts", [(3, 4, 6), (3, 4, 4), (12, 0, 1), (0, 0, 0), (MOST, MOST, MOST), (12 - 2**62, 2**62, 1)])
def test_a_sum_that_is_another_convicts(stage: Stage, parts: tuple[int, ...]) -> None:
    line = of_run(stage, 12, 3)
    line.show_parts(*parts)
    line.refute()


@pytest.mark.parametrize("parts", [(12, 0, 0), (3, 4, 5), (MOST, MOST, 14), (LEAST, LEAST, 12)])
def test_a_sum_that_wraps_to_the_claim_holds(stage: Stage, parts: tuple[int, ...]) -> None:
    """And where these are lies, one of them is wrong by itself."""
    line = of_run(stage, 12, 3)
    line.show_parts(*parts)
    with refused("game: nothing to refute"):
        line.refute()


@pytest.mark.parametrize(
    ("claimed", "parts"), [(LEAST, (MOST, 1)), (0, (LEAST, LEAST)), (-2, (MOST, MOST)), (-1, (MOST, LEAST)), (MOST, (LEAST, -1))]
)
def test_sums_wrap_at_64_bits_both_ways(stage: Stage, claimed: int, parts: tuple[int, ...]) -> None:
    for wrong in (0, 1):
        line = of_run(stage, claimed, 2)
        line.show_parts(parts[0] ^ wrong, parts[1])
        if wrong:
            line.refute()
        else:
            with refused("game: nothing to refute"):
                line.refute()


@pytest.mark.parametrize("parts", [(-4, -5, -6), (-2, LEAST, -4), (-3, 0, -4), (1, -4, 0), (MOST, -3, -3)])
def test_another_maximum_convicts(stage: Stage, parts: tuple[int, ...]) -> None:
    line = of_run(stage, -3, 3, takes_max=True)
    line.show_parts(*parts)
    line.refute()


@pytest.mark.parametrize("parts", [(-3, LEAST, -4), (LEAST, LEAST, -3), (-3, -3, -3)])
def test_the_same_maximum_holds(stage: Stage, parts: tuple[int, ...]) -> None:
    line = of_run(stage, -3, 3, takes_max=True)
    line.show_parts(*parts)
    with refused("game: nothing to refute"):
        line.refute()


def test_the_least_of_all_maxima_holds(stage: Stage) -> None:
    line = of_run(stage, LEAST, 2, takes_max=True)
    line.show_parts(LEAST, LEAST)
    with refused("game: nothing to refute"):
        line.refute()


@pytest.mark.parametrize("child", [0, 3, 8])
def test_partial_results_below_another_are_wrong(stage: Stage, child: int) -> None:
    parts = tuple(range(130))
    line = of_run(stage, sum(parts), 130)
    line.show_parts(*(sum(parts[at : at + 16]) for at in range(0, 130, 16)))
    line.pick(child)
    other = 4 if child != 8 else 7
    line.show_parts(*parts[16 * other : 16 * other + (2 if child == 8 else 16)])
    line.refute()


# What is right, and what is not about it


@pytest.mark.parametrize("case", CASES)
def test_what_is_right_cannot_be_refuted(stage: Stage, case: str) -> None:
    line = right(stage, case)
    held = stage.held()
    with refused("game: nothing to refute"):
        line.refute()
    assert stage.game.game(line.game).phase == Phase.CHALLENGER
    assert (stage.credits(), stage.held()) == (0, held)


def distortions(move: Refute) -> Iterator[Refute]:
    """The refutation with one of its arguments another."""
    for trail in (digest("trail"), bytes(32), flipped(move.trail, 31)):
        yield replace(move, trail=trail)
    for picked in (move.picked + 1, move.picked ^ 1, move.picked + 2**8, 2**256 - 1):
        yield replace(move, picked=picked)
    for above in (b"", move.above[:-1], move.above + b"\0", flipped(move.above, 0), flipped(move.above, len(move.above) - 1)):
        yield replace(move, above=above)
    for payload in (b"", move.below[:-1], move.below + b"\0", flipped(move.below, 0), flipped(move.below, len(move.below) - 1)):
        yield replace(move, below=payload)
    yield replace(move, above=move.below, below=move.above)


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_refutation_repeats_exactly_what_was_revealed(stage: Stage, case: str, wrong: bool) -> None:
    line = revealed(stage, case, (lambda payload: flipped(payload, 0)) if wrong else (lambda payload: payload))
    honest = refutation(line.d)
    for move in distortions(honest):
        if len(move.above) <= 2048 and len(move.below) <= 2048 and move != honest:
            with refused("game: another place"):
                stage.challenger.game.refute(line.game, move)


def test_more_than_a_reveal_can_show_is_no_refutation(stage: Stage) -> None:
    line = right(stage, "history")
    honest = refutation(line.d)
    for move in (replace(honest, below=bytes(2049)), replace(honest, above=bytes(2049))):
        with refused("no reason"):
            stage.challenger.game.refute(line.game, move)


def test_a_game_is_not_refuted_by_what_was_revealed_in_another(stage: Stage) -> None:
    job = stage.posted(RUN)
    lines = [Descending(stage, stage.challenger.opens_blind(job, segment), RUN.histories[segment].root) for segment in (0, 1)]
    lines[0].answer(RUN.histories[0])
    lines[1].reveal(bytes(256))
    with refused("game: another place"):
        stage.challenger.game.refute(lines[0].game, refutation(lines[1].d))
    lines[1].refute()


def test_only_the_last_reveal_is_refuted(stage: Stage) -> None:
    """Whoever goes on from a wrong reveal has accepted it."""
    tree = blob_tree(DATA)
    line = of_tensor(stage, DATA)
    line.reveal(flipped(shown(tree, line.d), 0))
    missed = refutation(line.d)
    line.pick(3)
    line.answer(tree)
    for move in (missed, replace(refutation(line.d), below=missed.below)):
        with refused("game: another place"):
            stage.challenger.game.refute(line.game, move)
    with refused("game: nothing to refute"):
        line.refute()


def test_only_the_challenger_refutes_and_only_in_its_turn(stage: Stage) -> None:
    line = of_tensor(stage, DATA)
    line.reveal(flipped(shown(blob_tree(DATA), line.d), 0))
    for actor in (stage.trainer, stage.watcher, stage.stranger):
        with refused("game: not the challenger"):
            actor.game.refute(line.game, refutation(line.d))
    move = refutation(line.d)
    line.pick(1)
    with refused("game: not the challenger's turn"):
        stage.challenger.game.refute(line.game, move)


def test_a_refuted_game_is_over(stage: Stage) -> None:
    line = revealed(stage, "leaf", lambda payload: bytes(len(payload)))
    line.refute()
    with refused("game: over"):
        line.refute()


def test_a_refutation_in_a_game_of_an_ended_attempt_moves_no_money(stage: Stage) -> None:
    """Nor while the same trainer works on the next attempt."""
    job = stage.posted(RUN, terms=replace(TERMS, attempts=2))
    line = Descending(stage, stage.challenger.opens_blind(job, 0), RUN.histories[0].root)
    line.reveal(bytes(256))
    stage.convicted(job, RUN, challenger=stage.watcher)
    paid = stage.credits()
    with refused("game: attempt is over"):
        line.refute()
    stage.claim(job)
    with refused("game: attempt is over"):
        line.refute()
    assert stage.credits() == paid


def test_the_next_trainer_does_not_pay_for_what_the_last_one_revealed(stage: Stage) -> None:
    job = stage.posted(RUN, terms=replace(TERMS, attempts=2))
    line = Descending(stage, stage.challenger.opens_blind(job, 0), RUN.histories[0].root)
    line.reveal(bytes(256))
    stage.convicted(job, RUN, challenger=stage.watcher)
    stage.claim(job, stage.stranger)
    with refused("game: another place"):
        line.refute()


# Where there is nothing to refute


def test_no_game_is_refuted_in_which_nothing_was_revealed(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    with refused("descent: none under way"):
        stage.challenger.game.refute(game, Refute(bytes(32), 0, bytes(32), bytes(64)))


@pytest.mark.parametrize("known", [False, True])
def test_a_history_that_led_to_a_step_is_not_refuted_afterwards(stage: Stage, known: bool) -> None:
    """The descent is over, and with it what was revealed in it."""
    job = stage.posted(RUN)
    if known:
        stage.traced(job, RUN, challenger=stage.watcher)
    line = Descending(stage, stage.challenger.opens_blind(job, 0), RUN.histories[0].root)
    line.answer(RUN.histories[0])
    stage.challenger.game.show_step(line.game, ShowStep(RUN.opening(0, 1)))
    if not known:
        stage.trainer.game.post_trace(line.game, RUN.trace(1).root)
    move = refutation(line.d)
    for asked in (move, replace(move, above=move.below)):
        with refused("descent: none under way"):
            stage.challenger.game.refute(line.game, asked)
    assert stage.game.game(line.game).phase == Phase.CHALLENGER


def test_a_reveal_that_was_left_for_another_demand_is_not_refuted_afterwards(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    stage.challenger.game.demand_trace(game, ROOTS)
    trace = Descending(stage, game, RUN.trace(1).root)
    trace.reveal(bytes(64 * 32))
    stage.challenger.game.demand_state(game, ROOTS)
    state = Descending(stage, game, RUN.states[2].root)
    state.answer(RUN.states[2])
    with refused("game: another place"):
        trace.refute()
    with refused("game: nothing to refute"):
        state.refute()
    stage.referee.send("rule", True, 7, 7)
    stage.challenger.game.conclude_element(game, ROOTS, element_witness())
