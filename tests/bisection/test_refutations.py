"""Refutations: exactly the reveals that do not hold are refuted, and the honest challenger refutes each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.agent import Challenger, Defender, Nothing
from bisection.descent import Descent, holds, owed_bytes, parts_payload
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
from bisection.merkle import Tree
from bisection.nodes import Dot, Output, Reduce
from bisection.solver import Decision, defend
from bisection.trace import MemoryTrace
from bisection.witness import node_proof
from tests.bisection.test_descents import changed, digests_of
from tests.support.model_chain import TRAINER, ModelChain, claim_of, opening_of
from tests.support.programs import counting_program, run_program

STEPS = 70  # a history of 71 leaves: two reveals
PROGRAM, STATE, DATA = counting_program()


@cache
def honest() -> MemoryTrace:
    return MemoryTrace(PROGRAM, STATE, DATA, STEPS)


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
