"""Descents: how far a reveal goes, what a seal covers, and which payloads hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

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
    Game,
    Owed,
    TreeKind,
)
from bisection.merkle import EMPTY, LEAF_BYTES, Tree, blob_tree
from bisection.numbers import wrap
from bisection.trace import MemoryTrace
from tests.support.model_chain import TRAINER, claim_of
from tests.support.programs import counting_program

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
