"""The referee answers what bisection/witness.py answers, and refuses an opening that is not exactly right, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bisection.merkle import Tree
from bisection.nodes import Input, Node, Output
from bisection.witness import ElementWitness, Leaf, Run, RunWitness, StepRoots, locate, node_proof
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import COMPUTING, BoundaryScene, Scene, answer, ask, judgement


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


@pytest.fixture(scope="module")
def step() -> BoundaryScene:
    return BoundaryScene()


def test_an_honest_boundary_holds(referee: Contract, step: BoundaryScene) -> None:
    assert {type(step.program.nodes[i]) for i in step.boundary} == {Input, Output}
    for number in step.boundary:
        w = step.witness(number)
        assert judgement(step.roots, w) is True
        assert answer(referee, step.roots, w) is True


def test_a_boundary_that_joins_the_wrong_tensor_does_not_hold(referee: Contract, step: BoundaryScene) -> None:
    """A trainer whose trace does not begin with the state before, or end with the state after, is found out."""
    for number in step.boundary:
        node = step.program.nodes[number]
        leaves = list(step.tensors.levels[0])
        leaves[(node.outputs or node.inputs)[0].tensor] = bytes(range(32))
        lie = BoundaryScene()
        lie.tensors = Tree(leaves)
        lie.roots = replace(step.roots, trace_root=lie.tensors.root)
        assert judgement(lie.roots, lie.witness(number)) is False
        assert answer(referee, lie.roots, lie.witness(number)) is False


def test_locate_names_the_tensor_and_its_size(referee: Contract, step: BoundaryScene) -> None:
    for number, node in enumerate(step.program.nodes):
        proof = node_proof(step.program, number)
        for output, ref in enumerate(node.outputs):
            found = referee.call("locate", step.roots, proof, output)
            assert found == locate(step.roots, proof, output) == (ref.tensor, ref.nbytes)
        with pytest.raises(Reverted, match="referee: output outside the node"):
            referee.call("locate", step.roots, proof, len(node.outputs))


# Refusals -------------------------------------------------------------------------------------------------------------


def longer(proof: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (*proof, bytes(32))


def swapped_first(w: Any, change: Callable[[Any], Any]) -> Any:
    """The witness with its first opened input changed."""
    at = next(i for i, opening in enumerate(w.inputs) if opening.data)
    return replace(w, inputs=tuple(change(opening) if i == at else opening for i, opening in enumerate(w.inputs)))


def proof_field(opening: Leaf | Run) -> str:
    return "leaf_proof" if isinstance(opening, Leaf) else "range_proof"


REFUSALS: dict[str, tuple[Callable[[StepRoots, Any], tuple[StepRoots, Any]], str]] = {
    "the header in the place of a node": (
        lambda r, w: (replace(r, node_count=w.node.index), w), "referee: node outside the program",
    ),
    "a node with a short proof": (
        lambda r, w: (r, replace(w, node=replace(w.node, proof=w.node.proof[1:]))), "merkle: proof of another depth",
    ),
    "a node with a long proof": (
        lambda r, w: (r, replace(w, node=replace(w.node, proof=longer(w.node.proof)))), "merkle: proof of another depth",
    ),
    "another node": (
        lambda r, w: (r, replace(w, node=replace(w.node, code=w.node.code + b"\0"))), "merkle: proof of another root",
    ),
    "another place in the program": (
        lambda r, w: (r, replace(w, node=replace(w.node, index=w.node.index - 1))), "merkle: proof of another root",
    ),
    "an output that the node lacks": (lambda r, w: (r, replace(w, output=9)), "referee: output outside the node"),
    "an element past the end": (lambda r, w: (r, replace(w, position=1 << 40)), "referee: position outside the tensor"),
    "too few inputs": (lambda r, w: (r, replace(w, inputs=w.inputs[1:])), "referee: openings for another number of inputs"),
    "a short claim": (
        lambda r, w: (r, replace(w, claim=replace(w.claim, data=w.claim.data[:-1]))), "referee: opening of another length",
    ),
    "a false claim": (
        lambda r, w: (r, replace(w, claim=replace(w.claim, data=bytes(len(w.claim.data))))), "merkle: proof of another root",
    ),
    "a claim deeper than its tensor": (
        lambda r, w: (r, replace(w, claim=replace(w.claim, leaf_proof=longer(w.claim.leaf_proof)))),
        "merkle: proof of another depth",
    ),
    "a claim with a short path to the trace": (
        lambda r, w: (r, replace(w, claim=replace(w.claim, trace_proof=w.claim.trace_proof[1:]))), "merkle: proof of another depth",
    ),
    "a trace without that tensor": (lambda r, w: (replace(r, tensor_count=1), w), "merkle: index outside the tree"),
    "a trace of another size": (lambda r, w: (replace(r, tensor_count=1 << 20), w), "merkle: proof of another depth"),
    "a short input": (
        lambda r, w: (r, swapped_first(w, lambda x: replace(x, data=x.data[:-1]))), "referee: opening of another length",
    ),
    "a false input": (
        lambda r, w: (r, swapped_first(w, lambda x: replace(x, data=bytes(b ^ 1 for b in x.data)))),
        "merkle: proof of another root",
    ),
    "an input of another tensor": (
        lambda r, w: (r, swapped_first(w, lambda x: replace(x, trace_proof=w.claim.trace_proof))), "merkle: proof of another root",
    ),
    "an input deeper than its tensor": (
        lambda r, w: (r, swapped_first(w, lambda x: replace(x, **{proof_field(x): longer(getattr(x, proof_field(x)))}))),
        "merkle: (range )?proof of another depth",
    ),
}  # fmt: skip


def refusable(kind: type[Node]) -> tuple[Scene, ElementWitness | RunWitness]:
    """A scene and a witness that opens at least one input, none of it all zeros."""
    for seed in range(100):
        scene = Scene.random(kind, seed)
        w = scene.witness(0, 0)
        opened = [x for x in w.inputs if x.data]
        if (
            opened
            and any(w.claim.data)
            and all(len(x.data) > 1 for x in (*opened, w.claim))
            and w.claim.trace_proof != opened[0].trace_proof
        ):
            return scene, w
    raise AssertionError("no such node")


@pytest.mark.parametrize("kind", COMPUTING, ids=lambda kind: kind.NAME)
@pytest.mark.parametrize("what", REFUSALS)
def test_a_malformed_opening_is_refused_with_its_reason(referee: Contract, kind: type[Node], what: str) -> None:
    change, reason = REFUSALS[what]
    scene, w = refusable(kind)
    assert answer(referee, scene.roots, w) == scene.expected(0, 0)
    with pytest.raises(Reverted, match=reason):
        ask(referee, *change(scene.roots, w))
    assert judgement(*change(scene.roots, w)) == "refused"


@pytest.mark.parametrize("kind", COMPUTING, ids=lambda kind: kind.NAME)
def test_a_node_of_another_kind_is_refused(referee: Contract, kind: type[Node], step: BoundaryScene) -> None:
    scene, w = refusable(kind)
    claim, node = w.claim, w.node
    if isinstance(w, ElementWitness):
        with pytest.raises(Reverted, match="referee: not a reduce, dot or scatter_add node"):
            referee.call("judge_run", scene.roots, node, 0, 0, claim, [])
    else:
        with pytest.raises(Reverted, match="referee: not a map or gather node"):
            referee.call("judge_element", scene.roots, node, 0, 0, claim, [])
    with pytest.raises(Reverted, match="referee: not a boundary"):
        referee.call("judge_boundary", scene.roots, node, bytes(32), [], bytes(32), [])
    for number in step.boundary:
        with pytest.raises(Reverted, match="referee: not a map or gather node"):
            referee.call("judge_element", step.roots, node_proof(step.program, number), 0, 0, claim, [])
        with pytest.raises(Reverted, match="referee: not a reduce, dot or scatter_add node"):
            referee.call("judge_run", step.roots, node_proof(step.program, number), 0, 0, claim, [])
