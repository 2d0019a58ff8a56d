"""The limits of encodings and openings at the referee: the last value that is taken, the first that is refused, and why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bisection.nodes import Map, Node, Read, Reduce, Ref
from bisection.scalar import ScalarProgram
from bisection.witness import ElementWitness, RunWitness
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import Scene, ask, judgement, program_around

WHOLE = Read(0, (1,))
MALFORMED = "referee: malformed node"


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


def copy_of(inputs: int) -> ScalarProgram:
    """Gives the first input, of so many."""
    return ScalarProgram(inputs, 1, (), (), (0,))


@pytest.fixture(scope="module")
def copying() -> Scene:
    """A map that copies eight words."""
    return Scene.of(program_around(Map, [("i32", 8)], [("i32", 8)], (8,), (WHOLE,), copy_of(1)), {}, np.random.default_rng(0))


# Encodings


def instead(scene: Scene, node: Node) -> tuple[object, ElementWitness | RunWitness]:
    """A question about ``node`` in the place of the scene's own, with the same claim."""
    return scene.recoded(node.encode(), scene.witness(0, 0))


def test_a_node_has_at_most_eight_inputs(referee: Contract, copying: Scene) -> None:
    (source,), outputs = copying.node.inputs, copying.node.outputs
    w = copying.witness(0, 0)
    for count in (8, 9):
        node = Map((source,) * count, outputs, (8,), (WHOLE,) * count, copy_of(count))
        roots, question = copying.recoded(node.encode(), replace(w, inputs=w.inputs * min(count, 8)))
        if count == 8:
            assert ask(referee, roots, question) == copying.expected(0, 0)
        else:
            with pytest.raises(Reverted, match=MALFORMED):
                ask(referee, roots, question)


def test_a_node_has_at_most_eight_outputs(referee: Contract, copying: Scene) -> None:
    (written,) = copying.node.outputs
    for count in (8, 9):
        outputs = tuple(replace(written, tensor=written.tensor + i) for i in range(count))
        node = Map(copying.node.inputs, outputs, (8,), (WHOLE,), ScalarProgram(1, 1, (), (), (0,) * count))
        roots, question = instead(copying, node)
        if count == 8:
            assert ask(referee, roots, question) == copying.expected(0, 0)
        else:
            with pytest.raises(Reverted, match=MALFORMED):
                ask(referee, roots, question)
            assert judgement(roots, question) == "refused"


def test_a_node_that_ends_with_its_head_is_refused(referee: Contract, copying: Scene) -> None:
    """Its own fields would begin where its bytes end."""
    code = copying.node.encode()
    head = 7 + 13 * len(copying.node.inputs) + 9 * len(copying.node.outputs)
    for end in (head, head - 1, 7, 3):
        with pytest.raises(Reverted, match=MALFORMED):
            ask(referee, *copying.recoded(code[:end], copying.witness(0, 0)))


def test_an_element_type_beyond_the_last_is_refused(referee: Contract, copying: Scene) -> None:
    code = bytearray(copying.node.encode())
    kind_of_input = 7 + 4
    for dtype in (5, 6, 255):
        code[kind_of_input] = dtype
        with pytest.raises(Reverted, match=MALFORMED):
            ask(referee, *copying.recoded(bytes(code), copying.witness(0, 0)))


# Openings


def test_a_run_may_end_where_its_tensor_ends_and_no_further(referee: Contract) -> None:
    scene = Scene.of(program_around(Reduce, [("i32", 8)], [("i64", 2)], "sum", 4), {}, np.random.default_rng(0))
    assert ask(referee, scene.roots, scene.witness(0, 1)) == scene.expected(0, 1)
    node = scene.node
    taller = Reduce((Ref(node.inputs[0].tensor, "i32", 7),), node.outputs, "sum", 4)
    with pytest.raises(Reverted):
        ask(referee, *scene.recoded(taller.encode(), scene.witness(0, 1)))


def test_the_element_behind_the_last_is_refused(referee: Contract, copying: Scene) -> None:
    last = copying.witness(0, 7)
    assert ask(referee, copying.roots, last) == copying.expected(0, 7)
    with pytest.raises(Reverted, match="referee: position outside the tensor"):
        ask(referee, copying.roots, replace(last, position=8))
