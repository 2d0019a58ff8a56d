"""What a reveal is bound to: its trainer, what was revealed and picked before, the subject (docs/protocol.md, "A descent")."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from eth_abi.abi import encode

from bisection.merkle import blob_tree
from bisection.moves import ShowStep
from bisection.witness import RunPlace
from contracts.bindings import Phase, Tree
from contracts.events import Demanded, Revealed, TracePosted
from contracts.values import plain
from tests.contracts.descending import Descending, blind, leaf_of, raw, shown, word
from tests.contracts.moves import challenger_moves
from tests.contracts.stage import NODE, TERMS, Stage, TrainerRun, digest, refused, run_demand

RUN = TrainerRun()
ROOTS = RUN.roots(0, 1)
MANY = TrainerRun(steps=300, segment_length=300)  # 301 leaves, depth 9: reveals of five and four levels


def picked(stage: Stage, child: int = 3) -> Descending:
    """A game that waits for a second reveal."""
    line = blind(stage, MANY)
    line.answer(MANY.histories[0])
    line.pick(child)
    return line


def told(line: Descending, trail: bytes, index: int, payload: bytes) -> None:
    line.trainer.game.reveal(line.game, trail, index, payload)


# The trail


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def hashed(data: bytes) -> bytes:
    return sha256(data).digest()


def test_the_seal_is_the_hash_of_all_that_was_said(stage: Stage) -> None:
    """Written out once, without what the agents use."""
    line = blind(stage, MANY)
    job, trainer = stage.game.game(line.game).job, bytes(12) + raw(stage.trainer.address)

    def sealed(trail: bytes) -> bytes:
        return hashed(trail + trainer)

    root = MANY.histories[0].root
    trail = hashed(hashed(words(job, 1, 0, 2**256 - 1, 1, 0, 0, 0)) + words(0) + hashed(root))
    assert stage.game.game(line.game).descent.seal == sealed(trail)
    payload = line.answer(MANY.histories[0]).payload
    trail = hashed(trail + words(0) + hashed(payload))
    assert stage.game.game(line.game).descent.seal == sealed(trail)
    line.pick(6)
    assert stage.game.game(line.game).descent.seal == sealed(trail)
    payload = line.answer(MANY.histories[0]).payload
    trail = hashed(trail + words(6) + hashed(payload))
    assert stage.game.game(line.game).descent.seal == sealed(trail)


@pytest.mark.parametrize(("segment", "step"), [(0, 1), (1, 3)])
def test_the_seal_of_a_demand_says_what_it_is_about(stage: Stage, segment: int, step: int) -> None:
    job = stage.posted(RUN)
    game, roots = stage.traced(job, RUN, segment, step), RUN.roots(segment, step)
    trainer = bytes(12) + raw(stage.trainer.address)

    def seal(tree: int, tensor: int, node: int, position: int, root: bytes) -> bytes:
        about = hashed(words(job, 1, segment, step, tree, tensor, node, position))
        return hashed(hashed(about + words(0) + hashed(root)) + trainer)

    stage.challenger.game.demand_trace(game, roots)
    assert stage.game.game(game).descent.seal == seal(2, 0, 0, 0, roots.trace_root)
    Descending(stage, game, roots.trace_root).reveal(bytes(64 * 32))
    stage.challenger.game.demand_state(game, roots)
    assert stage.game.game(game).descent.seal == seal(4, 0, 0, 0, roots.state_after)
    Descending(stage, game, roots.state_after).reveal(bytes(8 * 32))
    trace = RUN.trace(4 * segment + step)
    stage.referee.send("place", 7, 1_000)
    stage.challenger.game.demand_tensor(game, roots, NODE, 0, trace.node(0, 7), trace.prove(7))
    assert stage.game.game(game).descent.seal == seal(8, 7, 0, 0, trace.node(0, 7))
    Descending(stage, game, trace.node(0, 7)).reveal(bytes(4 * 32))
    stage.referee.send("cut", RunPlace(-5, 9, 3, False))
    stage.challenger.game.demand_run(game, roots, run_demand(13))
    assert stage.game.game(game).descent.seal == seal(16, 9, NODE.index, 13, word(-5))


def test_the_same_answer_in_every_game_has_another_seal(stage: Stage) -> None:
    """Of two jobs, two segments, two steps and two attempts."""
    job, twin = stage.posted(RUN, terms=replace(TERMS, attempts=2)), stage.posted(RUN)
    lines = [
        Descending(stage, stage.challenger.opens_blind(where, segment), RUN.histories[segment].root)
        for where, segment in ((job, 0), (job, 1), (twin, 0))
    ]
    seals = {line.seal for line in lines}
    stage.convicted(job, RUN)
    stage.claim(job)
    stage.post(job, RUN, 0)
    seals.add(Descending(stage, stage.challenger.opens_blind(job, 0), RUN.histories[0].root).seal)
    assert len(seals) == 4


# Who, and after what


def test_only_the_trainer_answers(stage: Stage) -> None:
    line = blind(stage, MANY)
    payload = shown(MANY.histories[0], line.d)
    for actor in (stage.challenger, stage.watcher, stage.requester, stage.deployer, stage.stranger):
        with refused("game: not what the trainer owes"):
            actor.game.reveal(line.game, line.d.trail, 0, payload)
    line.reveal(payload)


def test_a_copied_answer_is_worth_nothing_and_hinders_nobody(stage: Stage) -> None:
    line = picked(stage)
    answer = (line.game, line.d.trail, line.d.picked, shown(MANY.histories[0], line.d))
    with refused("game: not what the trainer owes"):
        stage.watcher.game.reveal(*answer)
    stage.trainer.game.reveal(*answer)


@pytest.mark.parametrize("second", [False, True])
def test_an_answer_names_its_trail(stage: Stage, second: bool) -> None:
    line = picked(stage) if second else blind(stage, MANY)
    d = line.d
    payload = shown(MANY.histories[0], d)
    wrong = [digest("trail"), bytes(32), line.seal, d.origin, bytes([d.trail[0] ^ 1]) + d.trail[1:], d.above[:32]]
    for trail in wrong:
        with refused("game: not what the trainer owes"):
            told(line, trail, d.picked, payload)
    line.reveal(payload)


@pytest.mark.parametrize("second", [False, True])
def test_an_answer_names_what_was_picked(stage: Stage, second: bool) -> None:
    line = picked(stage) if second else blind(stage, MANY)
    payload = shown(MANY.histories[0], line.d)
    for index in (line.d.picked + 1, line.d.picked ^ 2, line.d.picked + 256, 2**256 - 1):
        with refused("game: another place"):
            told(line, line.d.trail, index, payload)
    line.reveal(payload)


def test_an_answer_to_one_pick_is_none_to_another(stage: Stage) -> None:
    """After a reorganisation the challenger picks something else: what the trainer has sent is refused."""
    line = blind(stage, MANY)
    line.answer(MANY.histories[0])
    mark, start = stage.chain.snapshot(), line.d
    line.pick(3)
    answer = (line.d.trail, line.d.picked, shown(MANY.histories[0], line.d))
    stage.chain.restore(mark)
    line.d = start
    line.pick(4)
    with refused("game: another place"):
        told(line, *answer)
    line.answer(MANY.histories[0])


def test_an_answer_in_one_game_is_none_in_another(stage: Stage) -> None:
    job, twin = stage.posted(MANY), stage.posted(MANY)
    lines = [Descending(stage, stage.challenger.opens_blind(where, 0), MANY.histories[0].root) for where in (job, twin)]
    payload = shown(MANY.histories[0], lines[0].d)
    for one, other in (lines, lines[::-1]):
        with refused("game: not what the trainer owes"):
            told(other, one.d.trail, 0, payload)
    # Two games about the same segment ask the same, and are answered alike.
    same = Descending(stage, stage.watcher.opens_blind(job, 0), MANY.histories[0].root)
    assert same.d == lines[0].d
    told(same, lines[0].d.trail, 0, payload)


def test_an_answer_is_given_once(stage: Stage) -> None:
    line = blind(stage, MANY)
    first = (line.d.trail, 0, shown(MANY.histories[0], line.d))
    line.reveal(first[2])
    with refused("game: not owed"):
        told(line, *first)
    line.pick(0)
    with refused("game: not what the trainer owes"):
        told(line, *first)
    with refused("game: wrong length"):  # the payload is another node's
        told(line, line.d.trail, 0, first[2])
    line.answer(MANY.histories[0])


def test_the_same_payload_twice_is_sealed_twice(stage: Stage) -> None:
    """A trainer may say the same again, of another node."""
    line = blind(stage, TrainerRun(steps=8_000, segment_length=8_000, components=1))  # reveals of five, four and four levels
    line.reveal(bytes(1024))
    line.pick(0)
    seals = []
    for _ in range(2):
        line.reveal(bytes(512))
        seals.append(stage.game.game(line.game).descent.seal)
        assert seals[-1] == line.seal
        if len(seals) == 1:
            first = (line.d.trail, line.d.picked, bytes(512))
            line.pick(0)
            with refused("game: not what the trainer owes"):
                told(line, *first)
    assert seals[0] != seals[1]


# What is shown


def test_a_reveal_has_its_exact_length(stage: Stage) -> None:
    line = blind(stage, RUN)  # 5 leaves: height 3, so 8 descendants
    payload = shown(RUN.histories[0], line.d)
    for wrong in (b"", payload[:-1], payload[:32], payload[:160], payload + b"\0", payload + bytes(32), payload * 2, payload * 8):
        with refused("game: wrong length"):
            told(line, line.d.trail, 0, wrong)
    with refused("no reason"):
        told(line, line.d.trail, 0, bytes(2049))
    event = line.reveal(payload)
    assert (event.game, event.tree, event.height, event.position) == (line.game, Tree.HISTORY, 3, 0)
    assert event.payload == payload


def test_anything_of_the_right_length_is_taken(stage: Stage) -> None:
    """Whether it is right is for the challenger to find."""
    line = blind(stage, RUN)
    line.reveal(bytes(256))
    assert stage.game.game(line.game).phase == Phase.CHALLENGER
    line = blind(stage, MANY)
    line.reveal(bytes(1024))
    line.pick(4)


def test_each_kind_of_answer_is_owed_in_its_phase(stage: Stage) -> None:
    data = bytes(range(256)) * 3
    job = stage.posted(RUN)
    game = stage.traced(job, RUN)
    tree, trace = blob_tree(data), RUN.trace(1)
    stage.referee.send("place", 7, len(data))
    stage.challenger.game.demand_tensor(game, ROOTS, NODE, 0, trace.node(0, 7), trace.prove(7))
    line = Descending(stage, game, trace.node(0, 7))
    assert stage.game.game(game).phase == Phase.CHILDREN
    line.answer(tree)
    line.pick(2)
    assert stage.game.game(game).phase == Phase.LEAF
    line.reveal(leaf_of(data, 2))
    stage.referee.send("cut", RunPlace(7, 9, 2, False))
    stage.challenger.game.demand_run(game, ROOTS, run_demand())
    assert stage.game.game(game).phase == Phase.PARTS
    Descending(stage, game, word(7)).show_parts(3, 4)


# The trace root with its descendants


def shown_with_its_trace(stage: Stage, run: TrainerRun = RUN) -> int:
    """A game whose step was shown together with the demand of its trace."""
    line = blind(stage, run)
    line.answer(run.histories[0])
    stage.challenger.game.show_step(line.game, ShowStep(run.opening(0, 1), descend=True))
    return line.game


def test_with_the_step_the_trace_can_be_demanded(stage: Stage) -> None:
    game = shown_with_its_trace(stage)
    view = stage.game.game(game)
    assert (view.phase, view.descended) == (Phase.TRACE, Tree.HISTORY | Tree.TRACE)
    assert (view.descent.tree, view.descent.height, view.descent.count) == (Tree.TRACE, 6, RUN.tensors)
    tree = RUN.trace(1)
    payload = b"".join(tree.node(0, i) for i in range(64))
    for wrong in (b"", payload[:-1], payload[:32], payload[: 32 * RUN.tensors]):
        with refused("game: wrong length"):
            stage.trainer.game.post_trace(game, tree.root, wrong)
    posted, demanded, revealed = stage.events(stage.trainer.game.post_trace(game, tree.root, payload))
    assert isinstance(posted, TracePosted) and isinstance(demanded, Demanded) and isinstance(revealed, Revealed)
    assert (posted.game, posted.root) == (game, tree.root)
    assert (demanded.game, demanded.tree, demanded.root, demanded.count, demanded.tensor) == (game, Tree.TRACE, tree.root, 37, 0)
    assert (revealed.tree, revealed.height, revealed.position, revealed.payload) == (Tree.TRACE, 6, 0, payload)
    line = Descending(stage, game, tree.root).revealed(payload)
    view = stage.game.game(game)
    assert (view.phase, view.descent.seal) == (Phase.CHALLENGER, line.seal)
    with refused("game: tree already descended"):
        stage.challenger.game.demand_trace(game, ROOTS)


def test_a_trace_that_is_posted_with_its_step_goes_on_like_any_other(stage: Stage) -> None:
    run = TrainerRun(tensors=300)
    game, tree = shown_with_its_trace(stage, run), run.trace(1)
    payload = b"".join(tree.node(4, i) for i in range(32))
    stage.trainer.game.post_trace(game, tree.root, payload)
    line = Descending(stage, game, tree.root).revealed(payload)
    with refused("game: nothing to refute"):
        line.refute()
    line.towards(299)
    assert line.down(tree, 299) == tree.node(0, 299)


def test_where_the_trace_root_is_known_its_descendants_are_owed_at_once(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.traced(job, RUN)
    game = stage.challenger.opens_blind(job, 0)
    Descending(stage, game, RUN.histories[0].root).answer(RUN.histories[0])
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1), descend=True))
    view = stage.game.game(game)
    line = Descending(stage, game, RUN.trace(1).root)
    assert (view.phase, view.descent.seal, view.descent.tree) == (Phase.CHILDREN, line.seal, Tree.TRACE)
    line.answer(RUN.trace(1))


def test_another_game_has_posted_the_trace_in_the_meantime(stage: Stage) -> None:
    """The descendants are owed all the same, with the root that is known."""
    game = shown_with_its_trace(stage)
    job = stage.game.game(game).job
    stage.traced(job, RUN, challenger=stage.watcher)
    tree = RUN.trace(1)
    payload = b"".join(tree.node(0, i) for i in range(64))
    with refused("game: another trace root known"):
        stage.trainer.game.post_trace(game, digest("another"), payload)
    with refused("game: wrong length"):
        stage.trainer.game.post_trace(game, tree.root)
    stage.trainer.game.post_trace(game, tree.root, payload)


@pytest.mark.parametrize("known", [False, True])
def test_a_trace_of_one_tensor_is_not_demanded_with_the_step(stage: Stage, known: bool) -> None:
    """The trainer could not answer."""
    run = TrainerRun(tensors=1)
    job = stage.posted(run)
    if known:
        stage.traced(job, run)
    game = stage.challenger.opens_blind(job, 0)
    Descending(stage, game, run.histories[0].root).answer(run.histories[0])
    with refused("descent: nothing to reveal"):
        stage.challenger.game.show_step(game, ShowStep(run.opening(0, 1), descend=True))
    stage.challenger.game.show_step(game, ShowStep(run.opening(0, 1)))


# Where the claims of the step live


CHANGES: dict[str, object] = {
    "program_root": digest("another program"),
    "node_count": RUN.spec.node_count + 1,
    "trace_root": digest("another trace"),
    "tensor_count": RUN.spec.tensor_count + 1,
    "state_before": digest("another state"),
    "state_after": digest("another state"),
    "state_count": RUN.spec.state_count + 1,
    "data_root": digest("other data"),
    "data_count": RUN.spec.data_count + 1,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_move_on_a_step_repeats_all_that_is_committed_about_it(stage: Stage, field: str) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    wrong = replace(ROOTS, **{field: CHANGES[field]})  # type: ignore[arg-type]
    for name, (_, _, *rest) in on_the_step(game).items():
        with refused("game: another place"):
            stage.game.simulate(name, game, plain(wrong), *rest, account=stage.challenger.address)


def test_a_move_on_a_step_is_about_the_step_of_its_game(stage: Stage) -> None:
    """Another step, segment or job has other roots, however right they are there."""
    job, other = stage.posted(RUN), stage.posted(TrainerRun(name="other"))
    game = stage.traced(job, RUN)
    stage.traced(other, TrainerRun(name="other"), challenger=stage.watcher)
    stage.traced(job, RUN, segment=1, step=1, challenger=stage.watcher)
    stage.traced(job, RUN, segment=0, step=2, challenger=stage.watcher)
    for wrong in (RUN.roots(0, 2), RUN.roots(1, 1), TrainerRun(name="other").roots(0, 1)):
        for name, (_, _, *rest) in on_the_step(game).items():
            with refused("game: another place"):
                stage.game.simulate(name, game, plain(wrong), *rest, account=stage.challenger.address)


def test_the_roots_of_a_step_are_kept_as_their_hash(stage: Stage) -> None:
    job = stage.posted(RUN)
    view = stage.game.game(stage.challenger.opens(job, 1, RUN.opening(1, 2)))
    kinds = ["bytes32", "uint256", "bytes32", "uint256", "bytes32", "bytes32", "uint256", "bytes32", "uint256"]
    assert view.roots == hashed(encode(kinds, plain(replace(RUN.roots(1, 2), trace_root=bytes(32)))))


def on_the_step(game: int) -> dict[str, tuple[object, ...]]:
    """The moves of the challenger that name the roots of the step."""
    return {name: args for name, args in challenger_moves(game).items() if name not in ("show_step", "pick", "refute")}


def test_before_the_trace_root_is_posted_no_step_has_its_roots(stage: Stage) -> None:
    """A game that waits for the root is not the challenger's to move in, and one without a step has none."""
    game = shown_with_its_trace(stage)
    for name, (_, _, *rest) in on_the_step(game).items():
        with refused("game: not the challenger's turn"):
            stage.game.simulate(name, game, plain(replace(ROOTS, trace_root=bytes(32))), *rest, account=stage.challenger.address)
