"""The Merkle module of the contracts agrees with bisection/merkle.py on trees of every shape."""

from __future__ import annotations

import numpy as np
import pytest

from bisection.merkle import EMPTY, Tree, depth_of, leaf_digest, parent
from tests.differential.evm import Contract, Reverted

LEAF = bytes(range(32))
SIBLING = bytes(range(32, 64))
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 64, 100]


@pytest.fixture(scope="module")
def merkle() -> Contract:
    return Contract("merkle_mock")


def tree_of(count: int) -> Tree:
    return Tree([leaf_digest(i.to_bytes(4, "little")) for i in range(count)])


def test_digests(merkle: Contract) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.bytes(32), rng.bytes(32)
    for a, b in [(left, right), (left, EMPTY), (EMPTY, right), (EMPTY, EMPTY)]:
        assert merkle.call("parent", a, b) == parent(a, b)
    for length in (0, 1, 31, 32, 55, 56, 255, 256, 2048):
        data = rng.bytes(length)
        assert merkle.call("leaf_digest", data) == leaf_digest(data)


def test_depths(merkle: Contract) -> None:
    for count in {0, *(max(0, (1 << p) + d) for p in range(64) for d in (-1, 0, 1))}:
        assert merkle.call("depth_of", count) == depth_of(count)
    with pytest.raises(Reverted, match="merkle: too many leaves"):
        merkle.call("depth_of", (1 << 256) - 1)


@pytest.mark.parametrize("count", SIZES)
def test_every_leaf_is_proved_at_its_place_and_depth_only(merkle: Contract, count: int) -> None:
    tree = tree_of(count)
    for index in range(count):
        leaf, proof = tree.node(0, index), tree.prove(index)
        assert merkle.call("fold", leaf, index, proof) == tree.root
        merkle.call("check", leaf, index, count, proof, tree.root)
        for place, size, path, reason in [
            ((index + 1) % count, count, proof, "another root"),
            (index, count, [*proof, EMPTY], "another depth"),
            (index, 2 * count + 2, proof, "another depth"),
            (index + (1 << tree.depth), count, proof, "outside the tree"),
            (index, index, proof, "outside the tree"),
        ]:
            if place != index or size != count or path != proof:
                with pytest.raises(Reverted, match=reason):
                    merkle.call("check", leaf, place, size, path, tree.root)
        with pytest.raises(Reverted, match="merkle: index outside the tree"):
            merkle.call("fold", leaf, index + (1 << tree.depth), proof)


@pytest.mark.parametrize("count", SIZES)
def test_every_range_leads_to_the_root(merkle: Contract, count: int) -> None:
    tree = tree_of(count)
    rng = np.random.default_rng(count)
    for _ in range(40):
        first = int(rng.integers(count))
        width = int(rng.integers(1, min(33, count - first) + 1))
        leaves, proof = tree.levels[0][first : first + width], tree.prove_range(first, width)
        assert merkle.call("fold_range", leaves, first, tree.depth, proof) == tree.root
        for wrong in ([*proof, EMPTY], proof[:-1]):
            if wrong != proof:
                with pytest.raises(Reverted, match="merkle: range proof of another depth"):
                    merkle.call("fold_range", leaves, first, tree.depth, wrong)
        with pytest.raises(Reverted, match="merkle: range proof of another depth"):
            merkle.call("fold_range", leaves, first + (1 << tree.depth), tree.depth, proof)


@pytest.mark.parametrize("height", range(7))
def test_a_row_is_joined_to_the_node_above_it(merkle: Contract, height: int) -> None:
    """With empty places behind the leaves, as at the end of a tree, and anywhere else."""
    rng = np.random.default_rng(height)
    whole = [rng.bytes(32) for _ in range(1 << height)]
    rows = [whole[:count] + [EMPTY] * (len(whole) - count) for count in {0, 1, len(whole) // 2, len(whole) - 1, len(whole)}]
    rows += [[digest if rng.random() < 0.5 else EMPTY for digest in whole] for _ in range(5)]
    for row in rows:
        node = row
        while len(node) > 1:
            node = [parent(node[i], node[i + 1]) for i in range(0, len(node), 2)]
        assert merkle.call("join", row) == node[0]


# Limits


def test_the_deepest_tree(merkle: Contract) -> None:
    for count in ((1 << 254) + 1, 1 << 255):
        assert merkle.call("depth_of", count) == 255
    with pytest.raises(Reverted, match="merkle: too many leaves"):
        merkle.call("depth_of", (1 << 255) + 1)


def test_a_range_reaches_up_to_height_32(merkle: Contract) -> None:
    node, proof = LEAF, []
    for _ in range(32):
        node = parent(node, SIBLING)
        proof.append(SIBLING)
    assert merkle.call("fold_range", [LEAF], 0, 32, proof) == node
    with pytest.raises(Reverted, match="merkle: range in too deep a tree"):
        merkle.call("fold_range", [LEAF], 0, 33, [*proof, SIBLING])


def test_a_range_of_no_leaves_leads_nowhere(merkle: Contract) -> None:
    for depth, proof in [(0, []), (1, []), (1, [SIBLING])]:
        with pytest.raises(Reverted, match="merkle: range proof of another depth"):
            merkle.call("fold_range", [], 0, depth, proof)


def test_two_leaves_are_no_root(merkle: Contract) -> None:
    with pytest.raises(Reverted, match="merkle: range proof of another depth"):
        merkle.call("fold_range", [LEAF, SIBLING], 0, 0, [])


@pytest.mark.parametrize("first", [0, 1, 2, 31])
def test_a_range_of_as_many_leaves_as_a_run_has(merkle: Contract, first: int) -> None:
    """33 of 64 leaves: from an even place on, the lowest level has seventeen pairs, the last of which the proof completes."""
    tree = Tree([bytes([i]) * 32 for i in range(64)])
    leaves, proof = tree.levels[0][first : first + 33], tree.prove_range(first, 33)
    assert merkle.call("fold_range", leaves, first, 6, proof) == tree.root
