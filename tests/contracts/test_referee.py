"""The referee answers what bisection/witness.py answers, and refuses whatever is not exactly a well-formed opening."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import pytest

from bisection.errors import IllegalMove, ProgramError, VerificationError
from bisection.nodes import Dot, Gather, Input, Map, Node, Output, Reduce, ScatterAdd
from bisection.trace import MemoryTrace
from bisection.witness import (
    BoundaryWitness,
    ElementWitness,
    Leaf,
    Run,
    RunWitness,
    StepRoots,
    Witness,
    boundary_witness,
    judge,
    locate,
    node_proof,
    witness,
)
from tests.differential.evm import Contract, Reverted
from tests.differential.scene import Scene, ask, parse
from tests.support.programs import counting_program, random_node

KINDS = (Map, Reduce, Dot, Gather, ScatterAdd)
T = TypeVar("T")


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


def scene_of(kind: type[Node], seed: int = 5) -> Scene:
    rng = np.random.default_rng([seed, kind.KIND])
    return Scene.of(*random_node(rng, kind), rng)


def answer(referee: Contract, roots: StepRoots, w: Witness) -> tuple[int, int] | bool | str:
    """What the contract says, or "refused"."""
    try:
        if isinstance(w, BoundaryWitness):
            return referee.call("judge_boundary", roots, *(getattr(w, field.name) for field in fields(w)))
        return ask(referee, roots, w)
    except Reverted:
        return "refused"


def judgement(roots: StepRoots, w: Witness) -> tuple[int, int] | bool | str:
    """What the definition says, or "refused"."""
    try:
        verdict = judge(roots, w)
    except IllegalMove:
        return "refused"
    return verdict.claimed == verdict.correct if isinstance(w, BoundaryWitness) else (verdict.claimed, verdict.correct)


# The boundary ---------------------------------------------------------------------------------------------------------


class Step:
    """Step 0 of a small program, honest but for what a test replaces."""

    def __init__(self) -> None:
        self.program, state, data = counting_program()
        trace = MemoryTrace(self.program, state, data, 1)
        self.trees = {"state": trace.state(0), "data": trace.data(), "after": trace.state(1)}
        self.tensors = trace.tensors(0)
        self.roots = StepRoots(
            self.program.root, len(self.program.nodes), self.tensors.root, len(self.program.tensors),
            self.trees["state"].root, self.trees["after"].root, len(self.program.state),
            self.trees["data"].root, len(self.program.data),
        )  # fmt: skip

    def witness(self, number: int) -> BoundaryWitness:
        node = self.program.nodes[number]
        tree = self.trees[node.source if isinstance(node, Input) else "after"]
        ref = node.outputs[0] if isinstance(node, Input) else node.inputs[0]
        component = tree.levels[0][node.index], tree.prove(node.index)
        return boundary_witness(
            self.program, number, (self.tensors.levels[0][ref.tensor], self.tensors.prove(ref.tensor)), component
        )

    @property
    def boundary(self) -> list[int]:
        return [i for i, node in enumerate(self.program.nodes) if isinstance(node, Input | Output)]


@pytest.fixture(scope="module")
def step() -> Step:
    return Step()


def test_an_honest_boundary_holds(referee: Contract, step: Step) -> None:
    assert {type(step.program.nodes[i]) for i in step.boundary} == {Input, Output}
    for number in step.boundary:
        w = step.witness(number)
        assert judgement(step.roots, w) is True
        assert answer(referee, step.roots, w) is True


def test_a_boundary_that_joins_the_wrong_tensor_does_not_hold(referee: Contract, step: Step) -> None:
    """A trainer whose trace does not begin with the state before, or end with the state after, is found out."""
    lie = Step()
    lie.tensors.levels[0] = list(lie.tensors.levels[0])
    for number in step.boundary:
        node = step.program.nodes[number]
        tensor = (node.outputs or node.inputs)[0].tensor
        leaves = list(step.tensors.levels[0])
        leaves[tensor] = bytes(31) + b"\x01"
        lie.tensors = type(step.tensors)(leaves)
        lie.roots = replace(step.roots, trace_root=lie.tensors.root)
        assert judgement(lie.roots, lie.witness(number)) is False
        assert answer(referee, lie.roots, lie.witness(number)) is False


def test_locate_names_the_tensor_and_its_size(referee: Contract, step: Step) -> None:
    for number, node in enumerate(step.program.nodes):
        proof = node_proof(step.program, number)
        for output, ref in enumerate(node.outputs):
            assert (
                referee.call("locate", step.roots, proof, output) == locate(step.roots, proof, output) == (ref.tensor, ref.nbytes)
            )
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
        scene = scene_of(kind, seed)
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


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.NAME)
@pytest.mark.parametrize("what", REFUSALS)
def test_a_malformed_opening_is_refused_with_its_reason(referee: Contract, kind: type[Node], what: str) -> None:
    change, reason = REFUSALS[what]
    scene, w = refusable(kind)
    assert answer(referee, scene.roots, w) == scene.expected(0, 0)
    with pytest.raises(Reverted, match=reason):
        ask(referee, *change(scene.roots, w))
    assert judgement(*change(scene.roots, w)) == "refused"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.NAME)
def test_a_node_of_another_kind_is_refused(referee: Contract, kind: type[Node], step: Step) -> None:
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


# Anything at all ------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.NAME)
def test_a_small_change_anywhere_has_the_answer_of_the_definition(referee: Contract, kind: type[Node]) -> None:
    """Mostly a refusal; but some changes are harmless, and some make another well-formed question."""
    answers = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        scene = scene_of(kind, seed)
        w = scene.witness(0, int(rng.integers(scene.node.outputs[0].count)))
        for _ in range(12):
            asked = (mutated(scene.roots, rng), w) if rng.random() < 0.2 else (scene.roots, mutated(w, rng))
            answers.append(judgement(*asked))
            assert answer(referee, *asked) == answers[-1], f"at seed {seed}"
    assert answers.count("refused") > len(answers) // 2


def test_a_small_change_at_a_boundary_has_the_answer_of_the_definition(referee: Contract, step: Step) -> None:
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


def meaning(roots: StepRoots, w: ElementWitness | RunWitness) -> tuple[int, int] | bool | str:
    """The judgement on a node as it is spelt, whether or not its fields fit each other."""
    try:
        with patch.object(Node, "decode", staticmethod(parse_filled)):
            return judgement(roots, w)
    except (LookupError, ValueError, ArithmeticError, TypeError):
        return "refused"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.NAME)
def test_a_changed_node_has_the_meaning_of_its_bytes_or_none(referee: Contract, kind: type[Node]) -> None:
    """What the contract answers is what the bytes mean, and it answers on every node that decodes.

    Only a map has much that can change alone; the others say everything twice, so that a change makes them contradict themselves.
    """
    answered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = scene_of(kind, seed)
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
