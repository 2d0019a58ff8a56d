"""Positional trees: a proof shows one digest at one place of a tree of one depth, and nothing else."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection.errors import VerificationError
from bisection.merkle import EMPTY, LEAF_BYTES, Tree, blob_root, blob_tree, depth_of, fold, fold_range, leaf_digest, parent
from bisection.partial import Blocked, PartialTree

digests = st.binary(min_size=32, max_size=32).filter(lambda d: d != EMPTY)
trees = st.lists(digests, min_size=1, max_size=40).map(Tree)


def test_the_digests_are_what_the_specification_says() -> None:
    left, right = leaf_digest(b"a"), leaf_digest(b"b")
    assert left == sha256(b"\x00a").digest()
    assert parent(left, right) == sha256(b"\x01" + left + right).digest()
    assert parent(EMPTY, EMPTY) == EMPTY
    assert parent(left, EMPTY) == sha256(b"\x01" + left + EMPTY).digest()


@pytest.mark.parametrize(("count", "depth"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 20, 20), ((1 << 20) + 1, 21)])
def test_depth(count: int, depth: int) -> None:
    assert depth_of(count) == depth


@given(trees, st.data())
def test_a_proof_leads_to_the_root_from_its_own_place_only(tree: Tree, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, tree.count - 1))
    leaf, proof = tree.node(0, index), tree.prove(index)
    assert len(proof) == tree.depth and fold(leaf, index, proof) == tree.root
    for other in range(tree.count):
        if other != index and tree.node(0, other) != leaf:
            assert fold(leaf, other, proof) != tree.root
    assert fold(leaf_digest(leaf), index, proof) != tree.root


@given(trees, st.data())
def test_a_range_proof_has_exactly_the_siblings_that_it_needs(tree: Tree, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, tree.count - 1))
    count = data.draw(st.integers(1, tree.count - first))
    leaves = tree.levels[0][first : first + count]
    siblings = tree.prove_range(first, count)
    assert fold_range(leaves, first, tree.depth, siblings) == tree.root
    with pytest.raises(VerificationError):
        fold_range(leaves, first, tree.depth, [*siblings, EMPTY])
    if siblings:
        with pytest.raises(VerificationError):
            fold_range(leaves, first, tree.depth, siblings[:-1])
    if count == 1:
        assert siblings == tree.prove(first)


@pytest.mark.parametrize("size", [0, 1, LEAF_BYTES, LEAF_BYTES + 1, 5 * LEAF_BYTES - 1])
def test_the_last_leaf_of_a_blob_is_not_padded(size: int) -> None:
    data = bytes(range(256)) * 6
    tree = blob_tree(data[:size])
    assert tree.count == max(1, -(-size // LEAF_BYTES))
    assert tree.node(0, tree.count - 1) == leaf_digest(data[(tree.count - 1) * LEAF_BYTES : size])
    assert blob_root(data[:size]) != blob_root(data[:size] + b"\x00")


@given(trees, st.data())
def test_the_first_difference_is_found_and_can_be_proved_on_both_sides(mine: Tree, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, mine.count - 1))
    leaves = list(mine.levels[0])
    for i in range(index, mine.count):
        leaves[i] = leaf_digest(leaves[i])
    theirs = Tree(leaves)
    known = PartialTree(theirs.root, theirs.count)
    while isinstance(found := known.first_difference(mine), Blocked):
        r = min(2, found.height)
        row = [theirs.node(found.height - r, (found.position << r) + i) for i in range(1 << r)]
        known.learn(found.height, found.position, row)
    assert found == index
    for i in range(index + 1):
        leaf = known.leaf(i) or mine.node(0, i)
        assert fold(leaf, i, known.prove(i, mine)) == theirs.root


@given(trees)
def test_only_what_hashes_to_the_root_is_learnt(tree: Tree) -> None:
    known = PartialTree(tree.root, tree.count)
    wrong = [leaf_digest(d) for d in tree.levels[0]]
    with pytest.raises(VerificationError):
        known.learn_leaves(wrong)
    with pytest.raises(VerificationError):
        known.learn_leaves(tree.levels[0][1:])
    known.learn_leaves(tree.levels[0])
    assert [known.leaf(i) for i in range(tree.count)] == tree.levels[0]


@given(trees)
def test_only_the_tree_that_was_committed_is_learnt(tree: Tree) -> None:
    known = PartialTree(tree.root, tree.count)
    for wrong in (Tree([leaf_digest(d) for d in tree.levels[0]]), Tree([*tree.levels[0], EMPTY])):
        with pytest.raises(VerificationError, match="do not hash to the root"):
            known.learn_tree(wrong)
    assert tree.count == 1 or known.leaf(0) is None
    known.learn_tree(tree)
    assert [known.leaf(i) for i in range(tree.count)] == tree.levels[0]
    assert known.first_difference(tree) is None


def test_a_digest_beyond_the_last_leaf_is_refused() -> None:
    tree = Tree([leaf_digest(bytes([i])) for i in range(4)])
    known = PartialTree(tree.root, 3)
    with pytest.raises(VerificationError, match="beyond the tree's last leaf"):
        known.learn(2, 0, tree.levels[0])


@given(trees, st.data())
def test_a_path_teaches_enough_to_prove_every_leaf_before_the_first_difference(mine: Tree, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, mine.count - 1))
    theirs = Tree([leaf_digest(d) if i >= index else d for i, d in enumerate(mine.levels[0])])
    known = PartialTree(theirs.root, theirs.count)
    wrong = data.draw(digests)
    if wrong != theirs.node(0, index):
        with pytest.raises(VerificationError, match="do not lead"):
            known.learn_path(index, wrong, theirs.prove(index))
    with pytest.raises(VerificationError, match="do not lead"):
        known.learn_path(index, theirs.node(0, index), [*theirs.prove(index), EMPTY])
    known.learn_path(index, theirs.node(0, index), theirs.prove(index))
    assert known.first_difference(mine) == index
    for i in range(index + 1):
        assert fold(known.leaf(i) or mine.node(0, i), i, known.prove(i, mine)) == theirs.root
