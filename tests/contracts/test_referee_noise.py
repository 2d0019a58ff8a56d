"""Whatever is sent, the referee answers as the definition does or refuses, within a block's gas."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pytest

from bisection.nodes import Node
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import COMPUTING, BoundaryScene, Scene, answer, judgement

T = TypeVar("T")


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


def mutated(value: T, rng: np.random.Generator) -> T:
    """The value with one small change somewhere inside."""
    if is_dataclass(value) and not isinstance(value, type):
        name = fields(value)[int(rng.integers(len(fields(value))))].name
        return replace(value, **{name: mutated(getattr(value, name), rng)})  # type: ignore[return-value]
    if isinstance(value, tuple):
        return _mutated_tuple(value, rng)  # type: ignore[return-value]
    if isinstance(value, bytes):
        return _mutated_bytes(value, rng)  # type: ignore[return-value]
    assert isinstance(value, int)
    return int(rng.choice([0, 1, max(value - 1, 0), value + 1, value * 2, int(rng.integers(1 << 62))]))  # type: ignore[return-value]


def _mutated_tuple(value: tuple[Any, ...], rng: np.random.Generator) -> tuple[Any, ...]:
    if not value or rng.random() < 0.3:
        return value[1:] if rng.random() < 0.5 else value[:-1]
    at = int(rng.integers(len(value)))
    return (*value[:at], mutated(value[at], rng), *value[at + 1 :])


def _mutated_bytes(value: bytes, rng: np.random.Generator) -> bytes:
    if len(value) != 32 and rng.random() < 0.2:
        return value[:-1] if rng.random() < 0.5 else value + b"\0"
    if not value:
        return value
    at = int(rng.integers(len(value)))
    return value[:at] + bytes([value[at] ^ 1 << int(rng.integers(8))]) + value[at + 1 :]


@pytest.mark.parametrize("kind", COMPUTING, ids=lambda kind: kind.NAME)
def test_a_small_change_anywhere_has_the_answer_of_the_definition(referee: Contract, kind: type[Node]) -> None:
    """Mostly a refusal; but some changes are harmless, and some make another well-formed question."""
    answers = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        scene = Scene.random(kind, seed)
        w = scene.witness(0, int(rng.integers(scene.node.outputs[0].count)))
        for _ in range(12):
            asked = (mutated(scene.roots, rng), w) if rng.random() < 0.2 else (scene.roots, mutated(w, rng))
            answers.append(judgement(*asked))
            assert answer(referee, *asked) == answers[-1], f"at seed {seed}"
    assert answers.count("refused") > len(answers) // 2


def test_a_small_change_at_a_boundary_has_the_answer_of_the_definition(referee: Contract) -> None:
    step = BoundaryScene()
    rng = np.random.default_rng(0)
    for _ in range(300):
        w = step.witness(int(rng.choice(step.boundary)))
        asked = (mutated(step.roots, rng), w) if rng.random() < 0.3 else (step.roots, mutated(w, rng))
        assert answer(referee, *asked) == judgement(*asked)


def test_noise_is_refused_within_a_block(referee: Contract) -> None:
    rng = np.random.default_rng(0)
    for function in ("locate", "judge_boundary", "judge_element", "judge_run"):
        for length in (0, 32, 1000, 5000):
            for mask in (0x00, 0x01, 0xFF):
                noise = bytes(byte & mask for byte in rng.bytes(length))
                with pytest.raises(Reverted):
                    referee.send(referee.selector(function) + noise)
