"""Whole disputes over the pure game: every single wrong number is convicted by both paths, no honest trainer ever is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bisection.agent import Challenger, Defender, Nothing, Served
from bisection.boundary import tensor_bytes
from bisection.errors import IllegalMove
from bisection.game import Game, Outcome, Timeout
from bisection.merkle import Tree
from bisection.nodes import DTYPES, Output
from bisection.trace import MemoryTrace
from tests.support.model_chain import HonestService, ModelChain, claim_of
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


def test_a_digest_in_the_padding_cannot_be_revealed() -> None:
    """A root that differs only beyond the last leaf holds no wrong element; its owner cannot reveal it and loses by silence."""

    class Padded(MemoryTrace):
        def history(self) -> Tree:
            tree = super().history()
            padded = Tree([*tree.levels[0], b"\x01" * 32])
            padded.count = tree.count
            return padded

    trainer = Padded(PROGRAM, STATE, DATA, STEPS)
    chain = ModelChain()
    challenger = Challenger(chain, HONEST, claim_of(PROGRAM, trainer, STEPS), Nothing())
    game = challenger.open()
    assert game is not None
    with pytest.raises(IllegalMove, match=r"beyond the last leaf|not the digests"):
        for _ in range(10):
            Defender(chain, trainer).play(game)
            challenger.play(game)
    chain.time += ModelChain.CLOCKS[0] + 1
    chain.move(game, Timeout())
    assert chain.game(game).outcome == Outcome.CONVICTED


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
