"""Descents: how far a reveal goes, what a seal covers, and that exactly the reveals that do not hold are refuted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bisection.agent import Challenger, Defender, Nothing
from bisection.descent import (
    LEVELS,
    Descent,
    below,
    digests,
    extended,
    holds,
    owed_bytes,
    parts_of,
    parts_payload,
    sealed,
    span,
    start,
)
from bisection.errors import IllegalMove
from bisection.game import (
    Demand,
    DemandTensor,
    Game,
    Move,
    Outcome,
    Owed,
    Pick,
    PostTrace,
    Refute,
    Reveal,
    ShowStep,
    TreeKind,
    apply,
)
from bisection.merkle import EMPTY, LEAF_BYTES, Tree, blob_tree
from bisection.nodes import Dot, Output, Reduce
from bisection.numbers import wrap
from bisection.solver import Decision, defend
from bisection.trace import MemoryTrace
from bisection.witness import node_proof
from tests.support.model_chain import TRAINER, ModelChain, claim_of, opening_of
from tests.support.programs import counting_program, run_program

STEPS = 70  # a history of 71 leaves: two reveals
PROGRAM, STATE, DATA = counting_program()
ABOUT = sha256(b"a game").digest()
bytes32 = st.binary(min_size=32, max_size=32)


@cache
def honest() -> MemoryTrace:
    return MemoryTrace(PROGRAM, STATE, DATA, STEPS)


# How far a reveal goes --------------------------------------------------------------------------------------------------


def spans(height: int) -> list[int]:
    """How far each reveal of a descent from this height goes."""
    found = []
    while height:
        found.append(span(height))
        height -= found[-1]
    return found


@pytest.mark.parametrize("height", range(65))
def test_a_descent_takes_the_fewest_reveals_and_these_are_of_one_size(height: int) -> None:
    found = spans(height)
    assert sum(found) == height and len(found) == -(-height // LEVELS)
    assert all(1 <= levels <= LEVELS for levels in found)
    assert found == sorted(found, reverse=True) and (not found or found[0] - found[-1] <= 1)


def test_a_leaf_has_nothing_below_it() -> None:
    assert span(0) == 0


# Trails and seals -------------------------------------------------------------------------------------------------------

answers = st.lists(st.tuples(st.integers(0, 63), st.binary(max_size=300)), max_size=4)


def followed(about: bytes, told: list[tuple[int, bytes]]) -> bytes:
    """The trail after all of this was picked and revealed."""
    trail = about
    for picked, payload in told:
        trail = extended(trail, picked, payload)
    return trail


@given(bytes32, answers, st.binary(min_size=20, max_size=20), bytes32, answers, st.binary(min_size=20, max_size=20))
def test_a_seal_is_of_one_history_and_one_trainer(
    about: bytes, told: list[tuple[int, bytes]], trainer: bytes, about2: bytes, told2: list[tuple[int, bytes]], trainer2: bytes
) -> None:
    alike = sealed(followed(about, told), trainer) == sealed(followed(about2, told2), trainer2)
    assert alike == ((about, told, trainer) == (about2, told2, trainer2))


@given(bytes32, answers.filter(bool), st.data())
def test_a_seal_covers_every_byte_and_every_pick(about: bytes, told: list[tuple[int, bytes]], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(told) - 1))
    picked, payload = told[at]
    changes: list[tuple[int, bytes]] = [(picked ^ 1 << data.draw(st.integers(0, 5)), payload), (picked, payload + b"\0")]
    if payload:
        changes += [(picked, changed(payload, data)), (picked, payload[:-1])]
    right = sealed(followed(about, told), TRAINER)
    for change in changes:
        assert sealed(followed(about, [*told[:at], change, *told[at + 1 :]]), TRAINER) != right
    assert sealed(followed(changed(about, data), told), TRAINER) != right
    assert sealed(followed(about, told), changed(TRAINER, data)) != right


def test_what_a_trail_is_about() -> None:
    """Job, attempt, segment, step, tree, tensor and run: whatever of these differs, no answer fits both."""
    claim = claim_of(PROGRAM, honest(), STEPS)
    game = Game(claim, 100, 100, 0, Owed.NOTHING, step=3, tensor=5, run=(6, 7))
    variants = [
        game,
        *(replace(game, claim=other) for other in (replace(claim, job=9), replace(claim, attempt=9), replace(claim, segment=9))),
        *(replace(game, step=step) for step in (0, 4, None)),
        *(replace(game, tensor=tensor) for tensor in (0, 6)),
        *(replace(game, run=run) for run in (None, (6, 8), (7, 7), (7, 6))),
    ]
    found = {variant.about(tree) for variant in variants for tree in TreeKind}
    assert len(found) == len(variants) * len(TreeKind)
    words = (0, 0, 0, 3, 1 << TreeKind.STATE, 5, 6, 7)
    assert game.about(TreeKind.STATE) == sha256(b"".join(word.to_bytes(32, "big") for word in words)).digest()


def test_a_descent_begins_with_its_root_as_the_first_payload() -> None:
    root = sha256(b"root").digest()
    d = start(TreeKind.TRACE, 5, root, ABOUT)
    assert (d.trail, d.picked, d.seal(TRAINER)) == (extended(ABOUT, 0, root), 0, sealed(d.trail, TRAINER))
    run = start(TreeKind.RUN, 5, (-7).to_bytes(32, "big", signed=True), ABOUT)
    assert (run.value, run.picked) == (-7, 3)


# What holds -------------------------------------------------------------------------------------------------------------


def changed(payload: bytes, data: st.DataObject) -> bytes:
    """The payload with one byte changed."""
    at = data.draw(st.integers(0, len(payload) - 1))
    return payload[:at] + bytes([payload[at] ^ data.draw(st.integers(1, 255))]) + payload[at + 1 :]


Shown = Callable[[Descent], bytes]


def digests_of(tree: Tree) -> Shown:
    """What a trainer shows of this tree."""

    def shown(d: Descent) -> bytes:
        low = d.height - d.levels
        return b"".join(tree.node(low, (d.position << d.levels) + at) for at in range(1 << d.levels))

    return shown


def walk(d: Descent, shown: Shown, data: st.DataObject) -> Iterator[Descent]:
    """Every node in question on a drawn way down, with what was revealed of it."""
    while True:
        d = replace(d, below=shown(d))
        yield d
        last = d.levels == d.height and d.tree != TreeKind.TENSOR
        if last or d.levels == 0:
            return
        d = below(d, d.seal(TRAINER), data.draw(st.integers(0, d.within - 1)), TRAINER)


def expect_exactly_this_to_hold(d: Descent, data: st.DataObject) -> None:
    """What was revealed holds, at its exact length, and with any byte of it changed it does not."""
    assert d.below is not None and holds(d) and len(d.below) == owed_bytes(d)
    if d.below:
        assert not holds(replace(d, below=changed(d.below, data)))


@given(st.integers(2, 5000), st.sampled_from([TreeKind.HISTORY, TreeKind.TRACE, TreeKind.STATE]), st.data())
def test_digests_hold_in_every_byte(count: int, kind: TreeKind, data: st.DataObject) -> None:
    tree = Tree([sha256(at.to_bytes(4, "big")).digest() for at in range(count)])
    for d in walk(start(kind, count, tree.root, ABOUT), digests_of(tree), data):
        expect_exactly_this_to_hold(d, data)
        assert d.below is not None
        assert set(digests(d.below)[d.within :]) <= {EMPTY}


@given(st.integers(2, 300), bytes32.filter(lambda digest: digest != EMPTY), st.data())
def test_a_digest_beyond_the_last_leaf_never_holds(count: int, digest: bytes, data: st.DataObject) -> None:
    """Even where the digests do hash to what was picked."""
    leaves = [sha256(at.to_bytes(4, "big")).digest() for at in range(count)]
    room = (1 << (count - 1).bit_length()) - count
    assume(room)
    padded = Tree([*leaves, *[EMPTY] * data.draw(st.integers(0, room - 1)), digest])
    d = start(TreeKind.TRACE, count, padded.root, ABOUT)
    while True:  # down the right edge: somewhere there the digest comes to light
        d = replace(d, below=digests_of(padded)(d))
        if any(found != EMPTY for found in digests(d.below or b"")[d.within :]):
            break
        assert holds(d)
        d = below(d, d.seal(TRAINER), d.within - 1, TRAINER)
    assert not holds(d)


@given(st.integers(0, 40_000), st.data())
def test_leaves_hold_in_every_byte(nbytes: int, data: st.DataObject) -> None:
    content = np.random.default_rng(nbytes).bytes(nbytes)
    tree = blob_tree(content)

    def shown(d: Descent) -> bytes:
        return digests_of(tree)(d) if d.height else content[d.position * LEAF_BYTES : (d.position + 1) * LEAF_BYTES]

    for d in walk(start(TreeKind.TENSOR, tree.count, tree.root, ABOUT, nbytes=nbytes), shown, data):
        expect_exactly_this_to_hold(d, data)


def combination(values: list[int], maximum: bool) -> int:
    return max(values) if maximum else wrap(sum(values), 64)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=200), st.booleans(), st.data())
def test_partial_results_hold_if_they_combine(parts: list[int], maximum: bool, data: st.DataObject) -> None:
    def shown(d: Descent) -> bytes:
        each, first = 1 << (d.height - d.levels), d.position << d.height
        ends = range(first, min(first + (1 << d.height), len(parts)), each)
        return parts_payload([combination(parts[at : at + each], maximum) for at in ends])

    root = combination(parts, maximum).to_bytes(32, "big", signed=True)
    for d in walk(start(TreeKind.RUN, len(parts), root, ABOUT, takes_max=maximum), shown, data):
        assert d.below is not None and holds(d) and len(d.below) == owed_bytes(d)
        other = changed(d.below, data)
        # One byte less or more changes every sum; a maximum only if it is one of the largest.
        assert holds(replace(d, below=other)) == (maximum and max(parts_of(other)) == d.value)


# Games against an honest trainer ----------------------------------------------------------------------------------------


def random_moves(game: Game, data: st.DataObject) -> Move:
    """Some legal move of a challenger that has no case, other than a verdict."""
    moves: list[Move] = []
    d, own = game.descent, honest()
    if d is not None and d.levels and (d.height > d.levels or d.tree == TreeKind.TENSOR):
        moves += [Pick(d.seal(TRAINER), data.draw(st.integers(0, d.within - 1)))]
    if game.step is None:
        return data.draw(
            st.sampled_from([*moves, ShowStep(opening_of(own, data.draw(st.integers(0, STEPS - 1))), data.draw(st.booleans()))])
        )
    moves += [Demand(tree) for tree in (TreeKind.TRACE, TreeKind.STATE) if tree not in game.demanded]
    if TreeKind.TENSOR not in game.demanded:
        tensor = data.draw(st.integers(0, len(PROGRAM.tensors) - 1))
        node, tree = PROGRAM.producer[tensor], own.tensors(game.step)
        output = tensor - PROGRAM.nodes[node].outputs[0].tensor
        moves.append(DemandTensor(node_proof(PROGRAM, node), output, tree.node(0, tensor), tuple(tree.prove(tensor))))
    return data.draw(st.sampled_from(moves)) if moves else Refute(b"", 0, b"", b"")


@given(st.data())
def test_an_honest_reveal_can_never_be_refuted(data: st.DataObject) -> None:
    chain = ModelChain()
    number = chain.open(claim_of(PROGRAM, honest(), STEPS), None)
    trainer = Defender(chain, honest())
    for _ in range(8):
        while chain.game(number).owed != Owed.NOTHING:
            with pytest.raises(IllegalMove, match="not your turn"):
                chain.move(number, Refute(bytes(32), 0, b"", b""))
            trainer.play(number)
        expect_no_refutation(chain.game(number), data)
        move = random_moves(chain.game(number), data)
        if isinstance(move, Refute):
            return
        chain.move(number, move)


def expect_no_refutation(game: Game, data: st.DataObject) -> None:
    d = game.descent
    if d is None or d.below is None:
        with pytest.raises(IllegalMove, match="nothing revealed"):
            apply(game, Refute(bytes(32), 0, bytes(32), b""), 0)
        return
    right = Refute(d.origin, d.first, d.above, d.below)
    with pytest.raises(IllegalMove, match="nothing to refute"):
        apply(game, right, 0)
    others = [
        replace(right, trail=changed(d.origin, data)),
        replace(right, picked=d.first ^ 1),
        replace(right, above=changed(d.above, data)),
        replace(right, above=d.above + bytes(32)),
        replace(right, below=changed(d.below, data)),
        replace(right, below=d.below[:-1]),
        replace(right, above=d.below, below=d.above),
    ]
    for other in others:
        with pytest.raises(IllegalMove, match="something else revealed"):
            apply(game, other, 0)


# Games against a trainer that reveals something else --------------------------------------------------------------------


def lying(tensor: int, element: int) -> MemoryTrace:
    """An execution with one wrong number in a tensor of the seventh step, and what follows from it."""
    number = PROGRAM.producer[tensor]
    output = tensor - PROGRAM.nodes[number].outputs[0].tensor

    def tamper(node: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
        if node == number:
            outputs = [made.copy() for made in outputs]
            outputs[output].reshape(-1)[element] += 1
        return outputs

    return MemoryTrace(PROGRAM, STATE, DATA, STEPS, {6: tamper})


class Misstated(MemoryTrace):
    """An execution whose eighth state is not what the seventh step has made."""

    def state(self, step: int) -> Tree:
        right = super().state(step).levels[0]
        return Tree([*right[:-1], bytes(32 * [7])] if step == 7 else right)


def long_job(kind: type[Dot | Reduce], op: str = "sum") -> tuple[MemoryTrace, MemoryTrace]:
    """The honest and a wrong execution of one run of 100 parts, which are two reveals."""
    dtypes = ("i64", "i64") if kind is Reduce else ("i8", "i8")
    program, state, data = run_program(np.random.default_rng(3), kind, 100 * 256, dtypes, op, rows=1)
    number = next(at for at, node in enumerate(program.nodes) if isinstance(node, kind))

    def tamper(node: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [outputs[0] - 1] if node == number else outputs

    return MemoryTrace(program, state, data, 2), MemoryTrace(program, state, data, 2, {0: tamper})


@cache
def cases() -> list[tuple[MemoryTrace, MemoryTrace]]:
    """(the honest execution, the trainer's): among them they make every sort of reveal."""
    written = [node.inputs[0] for node in PROGRAM.nodes if isinstance(node, Output)]
    wrong = [lying(ref.tensor, ref.count - 1) for ref in written]
    own = honest()
    return [
        *((own, trainer) for trainer in wrong),
        (own, Misstated(PROGRAM, STATE, DATA, STEPS)),
        long_job(Dot),
        long_job(Reduce, "max"),
    ]


class Forger:
    """A trainer that follows its own execution but reveals something else as its answer number ``at``.

    It defends a wrong element of a run with partial results that combine to it.
    """

    def __init__(self, chain: ModelChain, own: MemoryTrace, at: int, forge: Callable[[bytes], bytes]) -> None:
        self._chain, self._own, self._forge, self._left = chain, own, forge, at
        self.forged = False

    def play(self, number: int) -> bool:
        """Make the next move if there is one to make. Returns whether the game goes on."""
        game = self._chain.game(number)
        if game.outcome != Outcome.LIVE:
            return False
        move = defend(game, self._own, self._chain.now()).action
        if move is None and game.owed == Owed.PARTS:
            assert game.descent is not None
            move = fitting(game.descent)
        if isinstance(move, Reveal | PostTrace):
            self._chain.move(number, self._bent(move) if move.payload else move)
        return True

    def _bent(self, move: Reveal | PostTrace) -> Move:
        self.forged = self._left == 0
        self._left -= 1
        return replace(move, payload=self._forge(move.payload)) if self.forged else move


def fitting(d: Descent) -> Reveal:
    """Partial results that combine to a wrong one."""
    rest = -(2**63) if d.takes_max else 0
    return Reveal(d.trail, d.picked, parts_payload([d.value, *[rest] * (d.within - 1)]))


def refuted(own: MemoryTrace, trainer: MemoryTrace, at: int, forge: Callable[[bytes], bytes], restart: bool = False) -> Game | None:
    """Play a dispute with a forged answer to its end; None if it did not come to that answer.

    With ``restart`` the challenger that answers it has not played before.
    """
    chain, heard = ModelChain(), list[Decision]()
    claim = claim_of(trainer.program, trainer, len(trainer.history().levels[0]) - 1)
    challenger = Challenger(chain, own, claim, Nothing(), heard.append)
    number = challenger.open()
    assert number is not None
    forger = Forger(chain, trainer, at, forge)
    while challenger.play(number) and forger.play(number):
        assert chain.moves < 40
        if forger.forged:
            break
    if not forger.forged:
        assert chain.game(number).outcome == Outcome.CONVICTED
        return None
    d = chain.game(number).descent
    assert d is not None and d.below is not None
    sound = holds(d)
    if restart:
        challenger = Challenger(chain, own, claim, Nothing(), heard.append)
    heard.clear()
    challenger.play(number)
    assert isinstance(heard[0].action, Refute) != sound, "whatever else there is to do, what does not hold is refuted"
    while challenger.play(number) and forger.play(number):
        assert sound and chain.moves < 40
    game = chain.game(number)
    assert game.outcome == Outcome.CONVICTED
    assert sound or game.verdict is None
    return game


@pytest.mark.parametrize("restart", [False, True])
@given(st.data())
def test_any_changed_byte_of_any_answer_is_convicted(restart: bool, data: st.DataObject) -> None:
    own, trainer = data.draw(st.sampled_from(cases()))
    refuted(own, trainer, data.draw(st.integers(0, 5)), lambda payload: changed(payload, data), restart)


@given(st.data())
def test_garbage_of_the_right_length_is_convicted(data: st.DataObject) -> None:
    own, trainer = data.draw(st.sampled_from(cases()))
    seed = data.draw(st.integers(0, 2**32 - 1))
    garbage: st.SearchStrategy[Callable[[int], bytes]] = st.sampled_from(
        [lambda length: np.random.default_rng(seed).bytes(length), bytes, lambda length: b"\xff" * length]
    )
    refuted(own, trainer, data.draw(st.integers(0, 5)), lambda payload: data.draw(garbage)(len(payload)))


def test_every_sort_of_answer_is_refuted_in_every_round() -> None:
    """The examples above reach all of these."""
    found = set()
    for own, trainer in cases():
        for at in range(6):
            game = refuted(own, trainer, at, lambda payload: bytes([payload[0] ^ 1]) + payload[1:])
            if game is not None and game.descent is not None:
                found.add((game.descent.tree, game.descent.height == game.descent.levels, game.descent.height == 0))
    assert found == {
        (TreeKind.HISTORY, False, False),
        (TreeKind.HISTORY, True, False),
        (TreeKind.TRACE, True, False),
        (TreeKind.STATE, True, False),
        (TreeKind.TENSOR, True, False),
        (TreeKind.TENSOR, True, True),
        (TreeKind.RUN, False, False),
        (TreeKind.RUN, True, False),
    }


@given(st.data())
def test_what_a_challenger_overlooks_can_no_longer_be_refuted(data: st.DataObject) -> None:
    chain = ModelChain()
    number = chain.open(claim_of(PROGRAM, honest(), STEPS), None)
    d = chain.game(number).descent
    assert d is not None
    wrong = changed(digests_of(honest().history())(d), data)
    chain.move(number, Reveal(d.trail, 0, wrong))
    game = chain.game(number)
    refutation = Refute(d.origin, d.first, d.above, wrong)
    assert apply(game, refutation, 0).outcome == Outcome.CONVICTED
    assert game.descent is not None
    picked = apply(game, Pick(game.descent.seal(TRAINER), data.draw(st.integers(0, d.within - 1))), 0)
    with pytest.raises(IllegalMove, match="not your turn"):
        apply(picked, refutation, 0)
    shown = apply(game, ShowStep(opening_of(honest(), 4)), 0)
    with pytest.raises(IllegalMove, match="nothing revealed"):
        apply(replace(shown, owed=Owed.NOTHING), refutation, 0)
    node = picked.descent
    assert node is not None
    # What comes next is held against the wrong digests, of which no other has a preimage.
    on = apply(picked, Reveal(node.trail, node.picked, bytes(owed_bytes(node))), 0)
    with pytest.raises(IllegalMove, match="something else revealed"):
        apply(on, refutation, 0)
    later = Refute(node.origin, node.first, wrong, bytes(owed_bytes(node)))
    assert apply(on, later, 0).outcome == Outcome.CONVICTED


@given(st.data())
def test_an_answer_of_another_length_is_illegal(data: st.DataObject) -> None:
    own, trainer = data.draw(st.sampled_from(cases()))

    def longer_or_shorter(payload: bytes) -> bytes:
        return data.draw(st.sampled_from([b"", payload[:-1], payload + b"\0", payload[:-8], payload + bytes(32), payload * 2]))

    chain = ModelChain()
    claim = claim_of(trainer.program, trainer, len(trainer.history().levels[0]) - 1)
    challenger = Challenger(chain, own, claim, Nothing())
    number = challenger.open()
    assert number is not None
    forger = Forger(chain, trainer, data.draw(st.integers(0, 5)), longer_or_shorter)
    try:
        while challenger.play(number) and forger.play(number):
            assert not forger.forged
    except IllegalMove as error:
        assert forger.forged and "wrong length" in str(error)
    else:
        assert not forger.forged and chain.game(number).outcome == Outcome.CONVICTED


def test_picks_that_are_no_picks() -> None:
    tree = Tree([sha256(bytes([at])).digest() for at in range(100)])  # two reveals, of 4 and 3 levels
    d = start(TreeKind.TRACE, 100, tree.root, ABOUT)
    told = replace(d, below=digests_of(tree)(d))
    for seal, child, reason in [
        (d.seal(TRAINER), 0, "something else revealed"),
        (told.seal(bytes(20)), 0, "something else revealed"),
        (told.seal(TRAINER), 16, "no such child"),
        (told.seal(TRAINER), 13, "no such child"),  # 13 * 8 leaves are beyond the last
        (told.seal(TRAINER), -1, "no such child"),
    ]:
        with pytest.raises(IllegalMove, match=reason):
            below(told, seal, child, TRAINER)
    with pytest.raises(IllegalMove, match="something else revealed"):
        below(d, d.seal(TRAINER), 0, TRAINER)
    lower = below(told, told.seal(TRAINER), 12, TRAINER)
    leaves = replace(lower, below=digests_of(tree)(lower))
    with pytest.raises(IllegalMove, match="at the leaves"):
        below(leaves, leaves.seal(TRAINER), 0, TRAINER)
    with pytest.raises(IllegalMove, match="nothing to reveal"):
        start(TreeKind.STATE, 1, tree.root, ABOUT)
    with pytest.raises(ValueError, match="whole number"):
        digests(bytes(33))
