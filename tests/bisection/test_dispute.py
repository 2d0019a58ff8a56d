"""Whole disputes over the pure game: every single wrong number is convicted by both paths, no honest trainer ever is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bisection.agent import Challenger, Defender, Nothing, Served
from bisection.boundary import tensor_bytes
from bisection.descent import span
from bisection.errors import IllegalMove
from bisection.game import (
    Demand,
    Game,
    Outcome,
    Owed,
    PostTrace,
    Reveal,
    ShowStep,
    TreeKind,
    apply,
    open_blind,
    open_step,
)
from bisection.merkle import Tree
from bisection.nodes import DTYPES, Input, Output
from bisection.solver import Decision
from bisection.trace import MemoryTrace
from bisection.witness import Boundary, Source, boundary, node_proof
from tests.support.model_chain import HonestService, ModelChain, claim_of, opening_of
from tests.support.programs import counting_program

STEPS = 20
PROGRAM, STATE, DATA = counting_program()
HONEST = MemoryTrace(PROGRAM, STATE, DATA, STEPS)


def flipped(array: np.ndarray, element: int, bit: int = 0) -> np.ndarray:
    """The array with one bit of one element changed: the smallest lie there is."""
    data = bytearray(tensor_bytes(array))
    data[element * array.dtype.itemsize + bit // 8] ^= 1 << bit % 8
    return np.frombuffer(bytes(data), array.dtype).reshape(array.shape).copy()


def forged(step: int, tensor: int, element: int, bit: int = 0) -> MemoryTrace:
    """The trace of a trainer that falsifies one bit of one tensor at one step and goes on from there consistently."""
    number = PROGRAM.producer[tensor]
    output = tensor - PROGRAM.nodes[number].outputs[0].tensor

    def tamper(node: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
        if node == number:
            outputs = list(outputs)
            outputs[output] = flipped(outputs[output], element, bit)
        return outputs

    return MemoryTrace(PROGRAM, STATE, DATA, STEPS, {step: tamper})


def dispute(trainer: MemoryTrace, served: Served) -> tuple[ModelChain, Game | None]:
    """Play a dispute between a trainer with this trace and an honest challenger to its end."""
    chain = ModelChain()
    challenger = Challenger(chain, HONEST, claim_of(PROGRAM, trainer, STEPS), served)
    defender = Defender(chain, trainer)
    game = challenger.open()
    if game is None:
        return chain, None
    while challenger.play(game) and defender.play(game):
        assert chain.moves < 60
    return chain, chain.game(game)


def effective_forgery(tensor: int) -> MemoryTrace:
    """A forgery in this tensor that reaches the state: some bits, like the low ones of an unused row, change nothing committed."""
    rng = np.random.default_rng(tensor)
    ref = PROGRAM.tensors[tensor]
    for _ in range(100):
        bit = int(rng.integers(8 * DTYPES[ref.dtype].size))
        trainer = forged(int(rng.integers(STEPS)), tensor, int(rng.integers(ref.count)), bit)
        if trainer.history().root != HONEST.history().root:
            return trainer
    raise AssertionError(f"no bit of tensor {tensor} reaches the state")


@pytest.mark.parametrize("path", ["fast", "slow"])
@pytest.mark.parametrize("tensor", range(len(PROGRAM.tensors)))
def test_a_wrong_bit_in_any_tensor_of_the_trace_is_convicted(tensor: int, path: str) -> None:
    trainer = effective_forgery(tensor)
    chain, game = dispute(trainer, HonestService(trainer) if path == "fast" else Nothing())
    assert game is not None and game.outcome == Outcome.CONVICTED and game.verdict is not None
    assert game.verdict.node == PROGRAM.producer[tensor]
    assert game.verdict.claimed != game.verdict.correct
    if path == "fast":
        assert chain.moves == 3


@pytest.mark.parametrize("path", ["fast", "slow"])
@pytest.mark.parametrize("component", range(len(PROGRAM.state)))
def test_a_state_that_does_not_follow_from_its_trace_is_convicted(component: int, path: str) -> None:
    """The trainer's trace of the step is right, but it commits and goes on from something else."""
    trainer = MemoryTrace(PROGRAM, STATE, DATA, STEPS)
    wrong = dict(trainer._states[7])
    name = PROGRAM.state[component].name
    wrong[name] = flipped(wrong[name], 0)
    later = MemoryTrace(PROGRAM, wrong, DATA, STEPS - 7)
    trainer._states = [*trainer._states[:7], *later._states]
    trainer._history = Tree([trainer.state(step).root for step in range(STEPS + 1)])
    _, game = dispute(trainer, HonestService(trainer) if path == "fast" else Nothing())
    assert game is not None and game.outcome == Outcome.CONVICTED
    assert game.step == 6 and isinstance(PROGRAM.nodes[game.verdict.node], Output)


def test_an_honest_trainer_is_not_challenged() -> None:
    chain, game = dispute(HONEST, HonestService(HONEST))
    assert game is None and chain.moves == 0


def test_a_silent_trainer_loses_when_its_clock_is_used_up() -> None:
    trainer = forged(3, 2, 1)
    chain = ModelChain()
    challenger = Challenger(chain, HONEST, claim_of(PROGRAM, trainer, STEPS), Nothing())
    game = challenger.open()
    assert game is not None
    challenger.play(game)
    assert chain.game(game).outcome == Outcome.LIVE
    chain.time = ModelChain.CLOCKS[0] + 1
    challenger.play(game)
    assert chain.game(game).outcome == Outcome.CONVICTED


def test_a_data_service_that_lies_is_no_better_than_a_silent_one() -> None:
    trainer = forged(5, 10, 0)

    class Liar(HonestService):
        def history(self) -> list[bytes]:
            return [bytes([7]) * 32 for _ in range(STEPS + 1)]

        def trace(self, step: int) -> list[bytes]:
            return [bytes([7]) * 32 for _ in PROGRAM.tensors]

        def tensor(self, step: int, number: int) -> bytes:
            return b"no"

    _, game = dispute(trainer, Liar(trainer))
    assert game is not None and game.outcome == Outcome.CONVICTED


def test_a_digest_in_the_padding_is_refuted() -> None:
    """A root that differs only beyond the last leaf holds no wrong element; whoever reveals it is convicted of the reveal."""

    class Padded(MemoryTrace):
        def history(self) -> Tree:
            tree = super().history()
            padded = Tree([*tree.levels[0], b"\x01" * 32])
            padded.count = tree.count
            return padded

    chain, game = dispute(Padded(PROGRAM, STATE, DATA, STEPS), Nothing())
    assert game is not None and game.outcome == Outcome.CONVICTED and game.verdict is None
    assert chain.moves == 3, "opening, reveal, refutation"


class Fickle(HonestService):
    """Serves everything but tensors until ``silent``, then nothing."""

    silent = False

    def history(self) -> Sequence[bytes] | None:
        return None if self.silent else super().history()

    def trace(self, step: int) -> Sequence[bytes] | None:
        return None if self.silent else super().trace(step)

    def state(self, step: int) -> Sequence[bytes] | None:
        return None if self.silent else super().state(step)

    def tensor(self, step: int, number: int) -> None:
        return None


@pytest.mark.parametrize("silent_after", range(8))
@pytest.mark.parametrize("tensor", range(len(PROGRAM.tensors)))
def test_a_new_agent_at_every_move_goes_on_even_when_the_service_falls_silent(tensor: int, silent_after: int) -> None:
    trainer = effective_forgery(tensor)
    served = Fickle(trainer)
    chain = ModelChain()
    claim = claim_of(PROGRAM, trainer, STEPS)
    game = Challenger(chain, HONEST, claim, served).open()
    assert game is not None
    while Challenger(chain, HONEST, claim, served).play(game) and Defender(chain, trainer).play(game):
        served.silent = chain.moves >= silent_after
        assert chain.moves < 60
    assert chain.game(game).outcome == Outcome.CONVICTED


# A step shown together with the demand of its trace ---------------------------------------------------------------------


CLOCKS = (100, 100)


def blind_game(trainer: MemoryTrace) -> Game:
    """A blind game in which the trainer has revealed its history."""
    chain = ModelChain()
    number = chain.open(claim_of(PROGRAM, trainer, STEPS), None)
    Defender(chain, trainer).play(number)
    return chain.game(number)


def test_a_trace_demanded_with_its_step_is_owed_with_its_root() -> None:
    game, tree = blind_game(HONEST), HONEST.tensors(4)
    payload = b"".join(tree.node(0, at) for at in range(1 << span(tree.depth)))
    shown = apply(game, ShowStep(opening_of(HONEST, 4), descend=True), 0)
    assert shown.owed == Owed.TRACE and shown.descent is None
    posted = apply(shown, PostTrace(tree.root, payload), 7)
    assert posted.owed == Owed.NOTHING and posted.trainer_clock == shown.trainer_clock - 7
    demanded = apply(apply(apply(game, ShowStep(opening_of(HONEST, 4)), 0), PostTrace(tree.root), 7), Demand(TreeKind.TRACE), 7)
    assert demanded.descent is not None and demanded.owed == Owed.CHILDREN
    revealed = apply(demanded, Reveal(demanded.descent.trail, 0, payload), 7)
    assert posted == revealed, "the same state as that of four moves"


def test_the_descendants_are_posted_with_the_root_if_they_are_owed() -> None:
    game, root = blind_game(HONEST), HONEST.tensors(4).root
    both = apply(game, ShowStep(opening_of(HONEST, 4), descend=True), 0)
    for payload in (b"", bytes(32)):
        with pytest.raises(IllegalMove, match="wrong length"):
            apply(both, PostTrace(root, payload), 0)
    with pytest.raises(IllegalMove, match="nothing demanded"):
        apply(apply(game, ShowStep(opening_of(HONEST, 4)), 0), PostTrace(root, bytes(32)), 0)


def test_a_known_trace_demanded_with_its_step_is_owed_at_once() -> None:
    root = HONEST.tensors(4).root
    game = apply(blind_game(HONEST), ShowStep(opening_of(HONEST, 4), descend=True), 0, lambda step: root)
    assert game.owed == Owed.CHILDREN and game.descent is not None and game.descent.above == root


def test_a_trace_can_be_demanded_only_once_either_way() -> None:
    chain = ModelChain()
    number = chain.open(claim_of(PROGRAM, HONEST, STEPS), None)
    trainer = Defender(chain, HONEST)
    trainer.play(number)
    chain.move(number, ShowStep(opening_of(HONEST, 4), descend=True))
    while chain.game(number).owed != Owed.NOTHING:
        trainer.play(number)
    with pytest.raises(IllegalMove, match="already demanded"):
        chain.move(number, Demand(TreeKind.TRACE))
    with pytest.raises(IllegalMove, match="already shown"):
        chain.move(number, ShowStep(opening_of(HONEST, 4)))


def test_a_trace_of_one_tensor_has_nothing_to_reveal() -> None:
    claim = replace(claim_of(PROGRAM, HONEST, STEPS), tensor_count=1)
    game = replace(open_blind(claim, CLOCKS, 0), owed=Owed.NOTHING)
    with pytest.raises(IllegalMove, match="nothing to reveal"):
        apply(game, ShowStep(opening_of(HONEST, 4), descend=True), 0)


def moves_of(trainer: MemoryTrace, served: Served) -> list[object]:
    """The challenger's moves in a dispute."""
    made: list[object] = []

    def hear(decision: Decision) -> None:
        made.append(decision.action)

    chain = ModelChain()
    challenger = Challenger(chain, HONEST, claim_of(PROGRAM, trainer, STEPS), served, hear)
    number = challenger.open()
    assert number is not None
    while challenger.play(number) and Defender(chain, trainer).play(number):
        assert chain.moves < 60
    assert chain.game(number).outcome == Outcome.CONVICTED
    return made


def test_who_withholds_the_history_is_asked_for_the_trace_along_with_the_step() -> None:
    made = moves_of(effective_forgery(6), Nothing())
    assert [move.descend for move in made if isinstance(move, ShowStep)] == [True]
    assert Demand(TreeKind.TRACE) not in made


def test_a_service_that_is_back_is_asked_first() -> None:
    """A new agent in a blind game cannot know why it is blind: asking costs nothing."""
    trainer = effective_forgery(6)
    chain = ModelChain()
    claim = claim_of(PROGRAM, trainer, STEPS)
    number = Challenger(chain, HONEST, claim, Nothing()).open()
    assert number is not None
    Defender(chain, trainer).play(number)
    Challenger(chain, HONEST, claim, HonestService(trainer)).play(number)
    assert chain.game(number).owed == Owed.TRACE and TreeKind.TRACE not in chain.game(number).demanded


# What boundary nodes join -----------------------------------------------------------------------------------------------


def test_the_referee_says_what_each_boundary_node_joins() -> None:
    claim = claim_of(PROGRAM, HONEST, STEPS)
    roots = open_step(claim, opening_of(HONEST, 4), CLOCKS, 0, HONEST.tensors(4).root).roots
    for number, node in enumerate(PROGRAM.nodes):
        proof = node_proof(PROGRAM, number)
        if isinstance(node, Input):
            spec = (PROGRAM.data if node.source == "data" else PROGRAM.state)[node.index]
            source = Source.DATA if node.source == "data" else Source.BEFORE
            expected = Boundary(source, node.index, node.outputs[0].tensor, spec.count * DTYPES[spec.dtype].size)
        elif isinstance(node, Output):
            spec = PROGRAM.state[node.index]
            expected = Boundary(Source.AFTER, node.index, node.inputs[0].tensor, spec.count * DTYPES[spec.dtype].size)
        else:
            with pytest.raises(IllegalMove, match="not a boundary node"):
                boundary(roots, proof)
            continue
        assert boundary(roots, proof) == expected
    with pytest.raises(IllegalMove, match="bad node proof"):
        boundary(roots, replace(node_proof(PROGRAM, 0), proof=()))
