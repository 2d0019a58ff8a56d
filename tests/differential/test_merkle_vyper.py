"""The Merkle module of the contracts agrees with bisection/merkle.py on trees of every shape."""

from __future__ import annotations

import numpy as np
import pytest

from bisection.merkle import EMPTY, Tree, depth_of, leaf_digest, parent
from tests.differential.evm import Contract, Reverted

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
