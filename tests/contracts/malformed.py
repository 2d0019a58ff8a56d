"""Malformed questions to the referee: node bytes, openings and raw calldata. Each campaign asks ``count`` of them and tallies.

An answer is right when the definition in Python gives it for what was asked. About an honest step none ever differs from the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from bisection.errors import IllegalMove, ProgramError, VerificationError
from bisection.merkle import Tree, leaf_digest
from bisection.nodes import Dot, Gather, Input, Map, Node, Output, Reduce, ScatterAdd
from bisection.witness import (
    NO_LEAF,
    BoundaryWitness,
    ElementWitness,
    Leaf,
    NodeProof,
    PartWitness,
    Run,
    RunWitness,
    StepRoots,
    Witness,
    boundary,
    judge_part,
    locate,
    locate_run,
    witness,
)
from contracts.values import plain
from tests.contracts.tally import Tally
from tests.differential.evm import Contract, Reverted, abi_types
from tests.differential.fuzzing import Posed, World, posed, questions
from tests.differential.scene import COMPUTING, Scene, judgement, parse
from tests.support.calldata import MODULUS, Undecodable, damaged, decode, encode

__all__ = ["malformed_calldata", "malformed_nodes", "malformed_openings", "meaning", "reopened"]

Rng = np.random.Generator
BEYOND_ABI = ""  # the reason of a refusal where a list or string is longer than its type allows, even if nobody would read it
LENIENT = ("map", "output")
"""Kinds of which the contract reads some encodings that are not canonical: spare operands of instructions, addresses past 2^62, the
number of a first output where there is none. They have one meaning, and no program holds them."""
WORLDS = 12  # honest steps that the questions are about
ABSURD = (*(1 << bits for bits in (8, 16, 31, 32, 40, 62, 63, 64, 128, 255)), MODULUS - 32, MODULUS - 1)


def pick(rng: Rng, options: Sequence[Any]) -> Any:
    """One of them."""
    return options[int(rng.integers(len(options)))]


# Node bytes -------------------------------------------------------------------------------------------------------------

Field = tuple[str, int, int]
"""What a field of a node's encoding is, where it begins, and how many bytes it has."""


def node_fields(node: Node) -> list[Field]:
    """All fields of the encoding of ``node``, in order (docs/program.md, "Encoding")."""
    sizes = [("kind", 1), ("number of inputs or outputs", 1), ("number of inputs or outputs", 1), ("tensor", 4)]
    for _ in node.inputs:
        sizes += [("tensor", 4), ("element type", 1), ("element count", 8)]
    for _ in node.outputs:
        sizes += [("element type", 1), ("element count", 8)]
    sizes += _body(node)
    placed, at = [], 0
    for name, size in sizes:
        placed.append((name, at, size))
        at += size
    assert at == len(node.encode())
    return placed


def _body(node: Node) -> list[tuple[str, int]]:
    if isinstance(node, Map):
        rank = len(node.iteration)
        sizes = [("rank", 1), *[("dimension", 4)] * rank, *[("register", 1)] * len(node.outputs)]
        sizes += [("number of constants", 1), *[("constant", 8)] * len(node.scalar.constants)]
        sizes += [("number of instructions", 1), *[("instruction", 1), *[("register", 1)] * 3] * len(node.scalar.ops)]
        for read in node.reads:
            sizes += [("number of conditions", 1), ("base", 8), *[("stride", 8)] * rank]
            sizes += [("condition", 8)] * (len(read.conditions) * (2 + rank))
        return sizes
    if isinstance(node, Input):
        return [("source", 1), ("component", 4)]
    if isinstance(node, Output):
        return [("component", 4)]
    if isinstance(node, Reduce):
        return [("operation", 1), ("length", 4)]
    return [("length", 4)] * {Gather: 1, ScatterAdd: 2, Dot: 3}[type(node)]


def damaged_code(node: Node, rng: Rng) -> tuple[str, bytes]:
    """(class, bytes that are not the encoding of ``node``)."""
    code = node.encode()
    way = rng.random()
    if way < 0.1:
        return "truncated", code[: int(rng.integers(len(code)))] if way < 0.05 else code[:-1]
    if way < 0.2:
        return "extended", code + (bytes(1) if way < 0.13 else rng.bytes(int(rng.integers(1, 2048 - len(code)))))
    if way < 0.25:
        at, size = int(rng.integers(len(code))), int(rng.integers(1, 9))
        return "bytes lost or doubled", code[:at] + (code[at + size :] if way < 0.225 else code[at : at + size] + code[at:])
    if way < 0.3:
        return "noise", rng.bytes(int(rng.integers(0, 300)))
    every = node_fields(node)
    name = pick(rng, sorted({name for name, _, _ in every}))
    _, at, size = pick(rng, [row for row in every if row[0] == name])
    own = int.from_bytes(code[at : at + size], "big")
    top = 1 << (8 * size)
    values = [
        0,
        1,
        2,
        own - 1,
        own + 1,
        2 * own,
        own ^ 1 << int(rng.integers(8 * size)),
        top - 1,
        top >> 1,
        (top >> 1) - 1,
        top - own,
    ]
    value = pick(rng, [value % top for value in values if value % top != own])
    return f"{name} altered", code[:at] + value.to_bytes(size, "big") + code[at + size :]


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


def filled(decode: Callable[[bytes], Node]) -> Callable[[bytes], Node]:
    """``decode``, but no empty tensors: no program has any, and only a node by itself can."""

    def decoded(code: bytes) -> Node:
        node = decode(code)
        if any(ref.count == 0 for ref in (*node.inputs, *node.outputs)):
            raise ProgramError("an empty tensor")
        return node

    return decoded


def meaning(roots: StepRoots, w: Witness | PartWitness, decode: Callable[[bytes], Node] = parse) -> Any:
    """The judgement on a node as it is spelt: by default whether or not its fields fit each other."""
    try:
        with patch.object(Node, "decode", staticmethod(filled(decode))):
            return definition(roots, w)
    except (LookupError, ValueError, ArithmeticError, TypeError):
        return "refused"


@cache
def _scene(kind: type[Node], seed: int) -> Scene:
    return Scene.random(kind, seed)


def _of_scene(case: int, rng: Rng) -> tuple[Node, str, StepRoots, Witness | PartWitness]:
    """A damaged node among hostile tensors, with the openings that it asks for as it is."""
    scene = _scene(COMPUTING[case % len(COMPUTING)], int(rng.integers(40)))
    w = scene.witness(0, int(rng.integers(scene.node.outputs[0].count)))
    damage, code = damaged_code(scene.node, rng)
    return scene.node, damage, *scene.recoded(code, reopened(scene, code, w))


def _of_world(rng: Rng) -> tuple[Node, str, StepRoots, Witness | PartWitness]:
    """A damaged node of any kind in an honest step, with the openings that it had."""
    world, p = _question(rng)
    program, number = world.program, p.witness.node.index
    damage, code = damaged_code(program.nodes[number], rng)
    tree = Tree([*program.tree.levels[0][:number], leaf_digest(code), *program.tree.levels[0][number + 1 :]])
    proof = NodeProof(number, code, tuple(tree.prove(number)))
    return program.nodes[number], damage, replace(p.roots, program_root=tree.root), replace(p.witness, node=proof)


def malformed_nodes(referee: Contract, count: int, seed: int) -> Tally:
    """Programs that hold damaged nodes. The contract answers as their bytes mean, and as the definition where that accepts them."""
    tally = Tally()
    for case in range(count):
        rng = np.random.default_rng([seed, case])
        node, damage, roots, w = _of_scene(case, rng) if case % 2 else _of_world(rng)
        reason, found = refusal(lambda roots=roots, w=w: answer_of(referee, roots, w))
        gas = referee.computed
        strict, loose = meaning(roots, w, Node.decode), meaning(roots, w)
        findings = []
        if found not in ("refused", loose, strict) or (found not in ("refused", strict) and node.NAME not in LENIENT):
            findings = [f"node of case {seed}, {case}: {found}, defined as {strict}, spelt as {loose}"]
        elif found == "refused" and strict != "refused" and reason != BEYOND_ABI:
            findings = [f"node of case {seed}, {case}: refused for {reason!r}, defined as {strict}"]
        tally.note(f"{node.NAME} node", damage, reason, gas, findings)
    return tally


def answer_of(referee: Contract, roots: StepRoots, w: Witness | PartWitness) -> Any:
    """What the contract says. Raises Reverted."""
    (function, arguments), *_ = calls(Posed(roots, w))
    return referee.call(function, *arguments)


def refusal(asked: Callable[[], Any]) -> tuple[str | None, Any]:
    """(the reason of refusal, "refused"), or (None, what was answered)."""
    try:
        return None, asked()
    except Reverted as error:
        return str(error), "refused"


# Openings ---------------------------------------------------------------------------------------------------------------

Place = tuple[str | int, ...]
"""Names of fields and numbers of items on the way to a value inside another."""


def places(value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """All lists, byte strings and numbers inside a dataclass."""
    if is_dataclass(value):
        for field in fields(value):
            yield from places(getattr(value, field.name), (*at, field.name))
        return
    yield at, value
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        for i, item in enumerate(value):
            yield from places(item, (*at, i))


def put(value: Any, at: Place, item: Any) -> Any:
    """``value`` with another item in one place."""
    if not at:
        return item
    first, *rest = at
    if isinstance(first, int):
        return (*value[:first], put(value[first], tuple(rest), item), *value[first + 1 :])
    return replace(value, **{first: put(getattr(value, first), tuple(rest), item)})


def damaged_opening(roots: StepRoots, w: Any, rng: Rng) -> tuple[str, StepRoots, Any]:
    """(class, roots, openings), of which one place is another."""
    if rng.random() < 0.12:
        at, value = pick(rng, list(places(roots)))
        damage, item = _damaged_value(value, rng, None)
        return f"step: {damage}", put(roots, at, item), w
    by_name: dict[str | int, list[tuple[Place, Any]]] = {}
    for at, value in places(w):
        by_name.setdefault(at[-1], []).append((at, value))
    name = pick(rng, list(by_name))
    full = [row for row in by_name[name] if row[1] != ()]
    at, value = pick(rng, full if full and rng.random() < 0.9 else by_name[name])
    damage, item = _damaged_value(value, rng, NO_LEAF if name == "inputs" else bytes(32))
    return f"{str(name).replace('_', ' ')}: {damage}", roots, put(w, at, item)


def _damaged_value(value: Any, rng: Rng, item: Any) -> tuple[str, Any]:
    """``item`` is something that an empty list could hold."""
    if isinstance(value, tuple):
        return _damaged_list(value, rng, item)
    if isinstance(value, bytes):
        return _damaged_bytes(value, rng)
    other = pick(rng, [n for n in (0, 1, value - 1, value + 1, value ^ 1, 2 * value, *ABSURD) if n not in (value, -1)])
    return ("absurd" if other in ABSURD else "another"), other


def _damaged_list(row: tuple[Any, ...], rng: Rng, item: Any) -> tuple[str, tuple[Any, ...]]:
    filler = row[0] if row else item
    way = int(rng.integers(6))
    if not row or way == 0:
        return "one more", (*row, filler)
    if way == 1:
        return "one less", pick(rng, [row[1:], row[:-1]])
    if way == 2:
        return "empty", ()
    if way == 3:
        return "as long as the ABI allows, or longer", (*row, *(filler,) * (pick(rng, [2, 8, 24, 25, 32, 33, 64, 65]) - len(row)))
    a, b = int(rng.integers(len(row))), int(rng.integers(len(row)))
    if way == 4 and row[a] != row[b]:
        swapped = list(row)
        swapped[a], swapped[b] = swapped[b], swapped[a]
        return "two swapped", tuple(swapped)
    if isinstance(row[a], bytes):
        return "one changed", (*row[:a], _damaged_bytes(row[a], rng)[1], *row[a + 1 :])
    return "one twice", (*row[:a], row[a], *row[a:])


def _damaged_bytes(data: bytes, rng: Rng) -> tuple[str, bytes]:
    if len(data) == 32 and rng.random() < 0.3:
        return "empty", bytes(32)
    if len(data) != 32:
        way = int(rng.integers(5))
        if way == 0 or not data:
            return "longer", data + rng.bytes(pick(rng, [1, 4, 32, 256, 257, 2049, 8449]))
        if way == 1:
            return "shorter", data[: int(rng.integers(len(data)))]
        if way == 2:
            return "shorter", data[:-1]
    at = int(rng.integers(len(data)))
    return "a bit changed", data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]


@cache
def _honest() -> dict[tuple[str, str], list[tuple[World, Posed]]]:
    """The honest questions about some programs, by what is asked and by the kind of the node."""
    found: dict[tuple[str, str], list[tuple[World, Posed]]] = {}
    for world in map(World, range(WORLDS)):
        for q in questions(world):
            if not q.altered:
                p = posed(world, q)
                found.setdefault((type(p.witness).__name__, world.program.nodes[q.node].NAME), []).append((world, p))
    return found


def _question(rng: Rng) -> tuple[World, Posed]:
    """An honest question, each sort as likely as the others."""
    return pick(rng, pick(rng, list(_honest().values())))


def definition(roots: StepRoots, w: Witness | PartWitness) -> Any:
    """What Python's judge says, or "refused"."""
    try:
        return judge_part(roots, w) if isinstance(w, PartWitness) else judgement(roots, w)
    except IllegalMove:
        return "refused"


def convicts(found: Any, w: Witness | PartWitness) -> bool:
    """Whether an answer says that the trainer's claim is wrong."""
    if found == "refused" or isinstance(w, PartWitness):
        return False
    return found is False if isinstance(w, BoundaryWitness) else found[0] != found[1]


def malformed_openings(referee: Contract, count: int, seed: int) -> Tally:
    """Questions about an honest step with one place of their openings damaged. The contract answers as the definition does."""
    tally = Tally()
    for case in range(count):
        rng = np.random.default_rng([seed, case])
        _, p = _question(rng)
        damage, roots, w = damaged_opening(p.roots, p.witness, rng)
        reason, found = refusal(lambda roots=roots, w=w: answer_of(referee, roots, w))
        expected = definition(roots, w)
        right = found == expected or reason == BEYOND_ABI
        findings = [] if right else [f"opening of case {seed}, {case}: {found} instead of {expected}"]
        findings += [f"opening of case {seed}, {case}: an honest trainer convicted"] if convicts(found, w) else []
        tally.note(type(w).__name__, damage, reason, referee.computed, findings)
    return tally


# Calldata ---------------------------------------------------------------------------------------------------------------


def calls(p: Posed) -> list[tuple[str, tuple[Any, ...]]]:
    """The calls of the referee that are about a question: its judgement, then whatever else it can be asked."""
    roots, w = p.roots, p.witness
    if isinstance(w, BoundaryWitness):
        return [("judge_boundary", (roots, *(getattr(w, f.name) for f in fields(w)))), ("boundary", (roots, w.node))]
    if isinstance(w, PartWitness):
        asked = [("judge_part", (roots, w.node, w.position, w.part, w.inputs))]
        return [*asked, ("locate_run", (roots, w.node, w.position, p.claim))]
    function = "judge_element" if isinstance(w, ElementWitness) else "judge_run"
    return [(function, (roots, w.node, w.output, w.position, w.claim, w.inputs)), ("locate", (roots, w.node, w.output))]


def defined(function: str, arguments: Sequence[Any]) -> Any:
    """What the definition says to a call of the referee, as the ABI gives results."""
    roots, node, *rest = StepRoots(*arguments[0]), NodeProof(*arguments[1]), *arguments[2:]
    if function == "judge_boundary":
        return judgement(roots, BoundaryWitness(node, *rest))
    if function in ("judge_element", "judge_run"):
        output, position, claim, inputs = rest
        kind, opening = (ElementWitness, Leaf) if function == "judge_element" else (RunWitness, Run)
        return judgement(roots, kind(node, output, position, Leaf(*claim), tuple(opening(*row) for row in inputs)))
    if function == "judge_part":
        position, part, inputs = rest
        return definition(roots, PartWitness(node, position, part, tuple(Run(*row) for row in inputs)))
    if function == "locate":
        return locate(roots, node, rest[0])
    found = boundary(roots, node) if function == "boundary" else locate_run(roots, node, rest[0], Leaf(*rest[1]))
    return plain(found)


def malformed_calldata(referee: Contract, count: int, seed: int) -> Tally:
    """Damaged calldata of every function. An answer is that to the arguments which the bytes spell, read leniently."""
    tally = Tally()
    for case in range(count):
        rng = np.random.default_rng([seed, case])
        function, arguments = pick(rng, calls(_question(rng)[1]))
        kinds = abi_types(referee.functions[function]["inputs"])
        call = encode(referee.selector(function), kinds, plain(arguments))
        damage, data = damaged(call, rng)
        reason, found = refusal(lambda data=data: referee.send(data))
        gas = referee.computed
        findings = []
        if reason is None:
            findings = [f"calldata of case {seed}, {case}: {told}" for told in _misread(referee, function, kinds, data, found)]
        tally.note(function, damage, reason, gas, findings)
    return tally


def _misread(referee: Contract, function: str, kinds: Sequence[str], data: bytes, returned: bytes) -> list[str]:
    """What is wrong with an answer to damaged calldata."""
    if data[:4] != referee.selector(function):
        return ["another function answers"]
    try:
        arguments = decode(kinds, data[4:])
    except Undecodable as error:
        return [f"the ABI does not allow {error}"]
    reason, canonical = refusal(lambda: referee.send(bytes(encode(data[:4], kinds, arguments))))
    if reason is not None or canonical != returned:
        return [f"canonical bytes of the same arguments are answered otherwise: {reason or canonical.hex()}"]
    found = referee.results(function, returned)
    expected = defined(function, arguments)
    told = [] if found == expected else [f"{found} instead of {expected}"]
    if function.startswith("judge") and function != "judge_part":
        told += ["an honest trainer convicted"] if found is False or (found is not True and found[0] != found[1]) else []
    return told
