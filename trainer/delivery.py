"""Delivery: what shows that a demanded leaf of a final state is there (docs/protocol.md, "Delivery")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bisection.boundary import Array, fitting, state_roots, tensor_bytes
from bisection.merkle import LEAF_BYTES, Tree, blob_tree
from bisection.nodes import Output
from bisection.program import Program
from bisection.witness import NodeProof, node_proof

__all__ = ["ShownLeaf", "show_leaf"]


@dataclass(frozen=True)
class ShownLeaf:
    """One leaf of one component of a state, with its paths; ``node`` is the output node that writes the component."""

    node: NodeProof
    tensor_root: bytes
    component_proof: tuple[bytes, ...]
    data: bytes
    leaf_proof: tuple[bytes, ...]


def show_leaf(program: Program, state: Mapping[str, Array], component: int, seed: int) -> ShownLeaf:
    """Leaf number ``seed`` modulo the leaves of ``component``. Raises ProgramError when the state does not fit the program."""
    node = next(i for i, node in enumerate(program.nodes) if isinstance(node, Output) and node.index == component)
    roots = Tree(state_roots(program, state))
    data = tensor_bytes(fitting(program.state, state, "state")[component])
    tree = blob_tree(data)
    leaf = seed % tree.count
    return ShownLeaf(
        node_proof(program, node),
        tree.root,
        tuple(roots.prove(component)),
        data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES],
        tuple(tree.prove(leaf)),
    )
