"""Workers in one process: the plans of all of them run together on the reference, with the exchanges done by numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bisection import reference
from bisection.boundary import Array, bind
from bisection.program import Program
from trainer.parallel.mesh import Held, Mesh
from trainer.parallel.plan import Plan


def sent(part: Array, wire: str) -> Array:
    """``part`` as it goes over the wire, where it must fit."""
    narrow = part.astype(reference.NUMPY_TYPES[wire])
    assert narrow.astype(part.dtype).tobytes() == part.tobytes()
    return narrow


def places(count: int, cuts: Held, mesh: Mesh, rank: int) -> Array:
    """The addresses that ``rank`` holds of a tensor of ``count`` elements."""
    address = np.arange(count)
    at = mesh.coordinates(rank)
    inside = np.ones(count, bool)
    for size, block, own in zip(mesh.sizes, cuts or (), at, strict=bool(cuts)):
        inside &= address // block % size == own
    return address[inside]


def assembled(parts: Sequence[Array], cuts: Held, mesh: Mesh) -> Array:
    """The whole tensor from every worker's part. Whole tensors must be equal."""
    if cuts is None:
        assert all(part.tobytes() == parts[0].tobytes() for part in parts)
        return parts[0]
    whole = np.zeros(sum(part.size for part in parts), parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[places(whole.size, cuts, mesh, rank)] = part
    return whole


def run(plans: Sequence[Plan], given: Sequence[dict[int, Array]]) -> list[dict[int, Array]]:
    """Every worker's tensors after all rounds, from its tensors before."""
    tensors = [dict(own) for own in given]
    for number in range(len(plans[0].rounds)):
        for plan, own in zip(plans, tensors, strict=True):
            for node in plan.rounds[number].nodes:
                outputs = reference.run_node(node, [own[ref.tensor] for ref in node.inputs])
                own.update({ref.tensor: output for ref, output in zip(node.outputs, outputs, strict=True)})
        exchange = plans[0].rounds[number]
        for collect in exchange.collects:
            whole = assembled([sent(own[collect.source.tensor], collect.wire) for own in tensors], collect.cuts, plans[0].mesh)
            whole = whole.astype(reference.NUMPY_TYPES[collect.target.dtype])
            for own in tensors:
                own[collect.target.tensor] = whole
        for combine in exchange.combines:
            stacked = np.stack([sent(own[combine.source.tensor], combine.wire) for own in tensors])
            bits = stacked.view(np.int32) if combine.wire == "f32" else stacked
            total = (bits.sum(0, dtype=bits.dtype) if combine.op == "sum" else bits.max(0)).view(stacked.dtype)
            total = total.astype(reference.NUMPY_TYPES[combine.target.dtype])
            for own in tensors:
                own[combine.target.tensor] = total
    return tensors


def simulate(plans: Sequence[Plan], program: Program, state: Mapping[str, Array], data: Mapping[str, Array]) -> list[Array]:
    """The trace of one step as the workers compute it: every tensor of the program, put together."""
    boundary = bind(program, state, data)
    given = {ref.tensor: boundary[source][index].reshape(-1) for ref, source, index in plans[0].boundary}
    tensors = run(plans, [given] * len(plans))
    return [
        assembled(
            [own[plan.held[i][0].tensor] for plan, own in zip(plans, tensors, strict=True)], plans[0].held[i][1], plans[0].mesh
        )
        for i in range(len(program.tensors))
    ]
