"""Whatever is sent, the referee answers as the definition does or refuses, within a block's gas."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import pytest

from bisection.errors import ProgramError, VerificationError
from bisection.nodes import Map, Node
from bisection.witness import ElementWitness, RunWitness, StepRoots, witness
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import COMPUTING, Answer, BoundaryScene, Scene, answer, judgement, parse

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


def reopened(scene: Scene, code: bytes, w: ElementWitness | RunWitness) -> ElementWitness | RunWitness:
    """The openings that the changed node asks for, or the old ones where it asks for what there is not."""
    tensor = scene.node.outputs[w.output].tensor
    try:
        nodes = list(scene.program.nodes)
        nodes[scene.number] = parse(code)
        if nodes[scene.number].outputs[w.output].tensor != tensor:
            return w
        program = SimpleNamespace(nodes=nodes, producer=scene.program.producer, tree=scene.program.tree)
        return witness(program, tensor, w.position, w.claim, scene.contents.__getitem__, scene.trace.prove)  # type: ignore[arg-type]
    except (ProgramError, VerificationError, LookupError, ValueError, ArithmeticError, TypeError):
        return w


def parse_filled(code: bytes) -> Node:
    """The node that ``code`` spells. Raises ProgramError where it spells none, or has an empty tensor as no program does."""
    node = parse(code)
    if any(ref.count == 0 for ref in (*node.inputs, *node.outputs)):
        raise ProgramError("an empty tensor")
    return node


def meaning(roots: StepRoots, w: ElementWitness | RunWitness) -> Answer:
    """The judgement on a node as it is spelt, whether or not its fields fit each other."""
    try:
        with patch.object(Node, "decode", staticmethod(parse_filled)):
            return judgement(roots, w)
    except (LookupError, ValueError, ArithmeticError, TypeError):
        return "refused"


@pytest.mark.parametrize("kind", COMPUTING, ids=lambda kind: kind.NAME)
def test_a_changed_node_has_the_meaning_of_its_bytes_or_none(referee: Contract, kind: type[Node]) -> None:
    """What the contract answers is what the bytes mean, and it answers on every node that decodes.

    Only a map has much that can change alone; the others say everything twice, so that a change makes them contradict themselves.
    """
    answered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = Scene.random(kind, seed)
        w = scene.witness(0, 0)
        for _ in range(10):
            code = _mutated_bytes(w.node.code, rng)
            asked = scene.recoded(code, reopened(scene, code, w))
            strict, loose = judgement(*asked), meaning(*asked)
            found = answer(referee, *asked)
            assert found in ("refused", loose), f"at seed {seed}"
            assert found == strict or "refused" in (strict, loose), f"at seed {seed}"
            answered += found != "refused"
    assert answered > 100 or kind is not Map


def test_noise_is_refused_within_a_block(referee: Contract) -> None:
    rng = np.random.default_rng(0)
    for function in ("locate", "judge_boundary", "judge_element", "judge_run"):
        for length in (0, 32, 1000, 5000):
            for mask in (0x00, 0x01, 0xFF):
                noise = bytes(byte & mask for byte in rng.bytes(length))
                with pytest.raises(Reverted):
                    referee.send(referee.selector(function) + noise)
