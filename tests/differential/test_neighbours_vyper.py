"""Two neighbouring leaves are shown by the proof of their range, at their place in a tree of this size and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bisection.merkle import EMPTY, Tree, leaf_digest, parent
from tests.differential.evm import Contract, Reverted

COUNTS = [2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64]
DEPTH, ROOT = "merkle: proof of another depth", "merkle: proof of another root"
SIBLINGS = [leaf_digest(bytes([i])) for i in range(64)]


@pytest.fixture(scope="module")
def merkle() -> Contract:
    return Contract("merkle_mock")


def tree_of(count: int) -> Tree:
    return Tree([leaf_digest(i.to_bytes(4, "little")) for i in range(count)])


def climbed(left: bytes, right: bytes, first: int, proof: Sequence[bytes]) -> bytes:
    """The root that two neighbours lead to by a proof of their range."""
    rest = list(proof)
    while first % 2:
        left, right, first = parent(rest.pop(0), left), parent(right, rest.pop(0)), first // 2
    node, first = parent(left, right), first // 2
    for sibling in rest:
        node = parent(sibling, node) if first % 2 else parent(node, sibling)
        first //= 2
    return node


@pytest.mark.parametrize("count", COUNTS)
def test_neighbours_are_shown_by_the_proof_of_their_range(merkle: Contract, count: int) -> None:
    tree = tree_of(count)
    leaves = tree.levels[0]
    for first in range(count - 1):
        pair, proof = (leaves[first], leaves[first + 1]), tree.prove_range(first, 2)
        assert climbed(*pair, first, proof) == tree.root
        merkle.call("check_neighbours", *pair, first, count, proof, tree.root)
        for wrong in (pair[::-1], (EMPTY, pair[1]), (pair[0], EMPTY), (pair[0], pair[0]), (pair[1], pair[1])):
            with pytest.raises(Reverted, match=ROOT):
                merkle.call("check_neighbours", *wrong, first, count, proof, tree.root)
        for at in range(len(proof)):
            with pytest.raises(Reverted, match=ROOT):
                merkle.call("check_neighbours", *pair, first, count, [*proof[:at], SIBLINGS[0], *proof[at + 1 :]], tree.root)
        for longer in ([*proof, EMPTY], [*proof, EMPTY, EMPTY]):
            with pytest.raises(Reverted, match=DEPTH):
                merkle.call("check_neighbours", *pair, first, count, longer, tree.root)
        for shorter in (proof[:-1], proof[:-2]):
            if len(shorter) < len(proof):
                with pytest.raises(Reverted, match=DEPTH):
                    merkle.call("check_neighbours", *pair, first, count, shorter, tree.root)
        with pytest.raises(Reverted, match=ROOT):
            merkle.call("check_neighbours", *pair, first, count, proof, SIBLINGS[0])


@pytest.mark.parametrize("count", COUNTS)
def test_neighbours_are_shown_at_no_other_place(merkle: Contract, count: int) -> None:
    tree = tree_of(count)
    leaves = tree.levels[0]
    for first in range(count - 1):
        for place in range(count - 1):
            if place != first:
                with pytest.raises(Reverted, match=f"{DEPTH}|{ROOT}"):
                    proof = tree.prove_range(first, 2)
                    merkle.call("check_neighbours", leaves[first], leaves[first + 1], place, count, proof, tree.root)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("deeper", [False, True])
def test_a_tree_of_another_depth_shows_nothing(merkle: Contract, count: int, deeper: bool) -> None:
    """However truly its root is reached: the trainer may have committed to any digest."""
    tree = tree_of(count)
    leaves = tree.levels[0]
    for first in range(count - 1):
        proof = tree.prove_range(first, 2)
        proof = [*proof, EMPTY] if deeper else proof[:-1]
        if not deeper and (tree.depth < 2 or first >= 1 << (tree.depth - 1)):
            continue
        if (first ^ (first + 1)) >> (tree.depth - 1 + deeper):
            continue  # they meet above the shallower tree
        root = climbed(leaves[first], leaves[first + 1], first, proof)
        with pytest.raises(Reverted, match=DEPTH):
            merkle.call("check_neighbours", leaves[first], leaves[first + 1], first, count, proof, root)


@pytest.mark.parametrize("ones", [1, 2, 3, 4])
def test_a_pair_of_siblings_is_none_that_has_two_parents(merkle: Contract, ones: int) -> None:
    """A proof that ends before both meet would show the first two nodes of a level as its second and third."""
    tree = tree_of(2 << ones)
    first = (1 << ones) - 1
    honest = tree.prove_range(first, 2)
    assert len(honest) == 2 * ones
    for cut in range(len(honest)):
        leaves = tree.levels[0]
        with pytest.raises(Reverted, match=DEPTH):
            merkle.call("check_neighbours", leaves[first], leaves[first + 1], first, tree.count, honest[:cut], tree.root)
    left, right, used = tree.levels[0][0], tree.levels[0][1], honest[: 2 * ones - 2]
    for at in range(0, len(used), 2):
        left, right = parent(used[at], left), parent(right, used[at + 1])
    root = parent(parent(left, right), SIBLINGS[0])
    with pytest.raises(Reverted, match=DEPTH):
        merkle.call("check_neighbours", tree.levels[0][0], tree.levels[0][1], first, tree.count, [*used, SIBLINGS[0]], root)


@pytest.mark.parametrize("first", [2**32 - 1, 2**31 - 1, 2**32 - 2, 2**33 - 3, 0])
def test_neighbours_may_be_as_deep_as_a_proof_is_long(merkle: Contract, first: int) -> None:
    depth, ones = 33, (first ^ (first + 1)).bit_length() - 1
    proof = SIBLINGS[: 2 * ones + depth - ones - 1]
    left, right = leaf_digest(b"left"), leaf_digest(b"right")
    root = climbed(left, right, first, proof)
    for count in (2**32 + 1, 2**33):
        merkle.call("check_neighbours", left, right, first, count, proof, root)
    for count in (2**32, 2**33 + 1):
        with pytest.raises(Reverted, match=DEPTH):
            merkle.call("check_neighbours", left, right, first, count, proof, root)
