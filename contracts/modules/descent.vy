# pragma version 0.4.3
# @title Descents: how a trainer is made to show what a tree holds, from its root to one leaf
# @license Apache-2.0
# @notice A reveal gives the descendants of a node LEVELS levels down, or at the leaves where they are nearer. Only the node is kept: a
#         pick names one descendant by its index, and the next reveal carries the siblings that tie that one to the node. The tree over
#         the parts of a run holds numbers in the place of digests: modules/partials.vy.

from interfaces import IDisputeGame
from modules import arity
from modules import checks
from modules import merkle

NO_PICK: constant(uint256) = arity.WIDTH  # in place of a picked descendant: the next reveal is of the node itself


# Where a descent stands; see IDisputeGame.Descent.
struct Descent:
    tree: IDisputeGame.Tree
    node: bytes32
    height: uint256
    position: uint256
    count: uint256
    picked: uint256


@internal
@view
def start(tree: IDisputeGame.Tree, root: bytes32, count: uint256) -> Descent:
    """
    @notice A descent from the root of a tree of `count` leaves. Only a tensor can be its own leaf.
    """
    height: uint256 = merkle.depth_of(count)
    only_leaf: bool = height == 0
    if only_leaf and tree != IDisputeGame.Tree.TENSOR:
        checks.refuse("descent: nothing to reveal")
    return Descent(
        tree=tree, node=root, height=height, position=0, count=count, picked=0 if only_leaf else NO_PICK
    )


@internal
@view
def pick(start: Descent, node: bytes32, child: uint256) -> Descent:
    """
    @notice The descent with one descendant of `node` picked.
    """
    d: Descent = start
    if d.tree == empty(IDisputeGame.Tree):
        checks.refuse("descent: none under way")
    if d.node != node:
        checks.refuse("descent: not the node in question")
    if child >> min(arity.LEVELS, d.height) != 0:
        checks.refuse("descent: no such child")
    d.picked = child
    height: uint256 = 0
    position: uint256 = 0
    height, position = self.in_question(d)
    if position << height >= d.count:
        checks.refuse("descent: no such child")
    if height == 0 and d.tree != IDisputeGame.Tree.TENSOR:
        checks.refuse("descent: at the leaves")
    return d


@internal
@pure
def in_question(d: Descent) -> (uint256, uint256):
    """
    @notice Height and position of the node that the next reveal is about: the picked descendant, or the node itself.
    """
    if d.picked == NO_PICK:
        return d.height, d.position
    drop: uint256 = min(arity.LEVELS, d.height)
    return d.height - drop, (d.position << drop) + d.picked


@internal
@view
def owed(d: Descent) -> IDisputeGame.Phase:
    """
    @notice What the trainer owes in a descent that waits for it.
    """
    if d.tree == IDisputeGame.Tree.RUN:
        return IDisputeGame.Phase.PARTS
    if d.picked != NO_PICK and d.height <= arity.LEVELS:
        return IDisputeGame.Phase.LEAF
    return IDisputeGame.Phase.CHILDREN


@internal
@pure
def reveal(
    start: Descent, children: DynArray[bytes32, arity.WIDTH], siblings: DynArray[bytes32, arity.LEVELS]
) -> Descent:
    """
    @notice The descent at the node whose descendants are `children`, which must be the one in question.
    """
    d: Descent = start
    index: uint256 = 0
    drop: uint256 = 0
    if d.picked != NO_PICK:
        index = d.picked
        drop = min(arity.LEVELS, d.height)
    if len(siblings) != drop:
        checks.refuse("descent: wrong proof length")
    d.height, d.position = self.in_question(d)

    span: uint256 = min(arity.LEVELS, d.height)
    if len(children) != 1 << span:
        checks.refuse("descent: wrong number of children")
    # A digest beyond the last leaf would change the root without any wrong element below it.
    for i: uint256 in range(self.within(d), len(children), bound=arity.WIDTH):
        if children[i] != merkle.EMPTY:
            checks.refuse("descent: padding not empty")
    node: bytes32 = merkle.join(children)
    if merkle.fold(node, index, siblings) != d.node:
        checks.refuse("descent: wrong children")
    d.node = node
    d.picked = NO_PICK
    return d


@internal
@pure
def within(d: Descent) -> uint256:
    """
    @notice How many of the descendants of the node have a leaf of the tree below them.
    """
    span: uint256 = min(arity.LEVELS, d.height)
    low: uint256 = d.height - span
    return min(1 << span, ((d.count + (1 << low) - 1) >> low) - (d.position << span))


@internal
@view
def reveal_leaf(
    start: Descent, size: uint256, data: Bytes[256], siblings: DynArray[bytes32, arity.LEVELS]
) -> (Descent, uint256):
    """
    @notice The ended descent, and the number of the leaf, whose bytes must be `data` at their exact length.
    @param size The bytes of the tensor.
    """
    d: Descent = start
    if len(siblings) != d.height:
        checks.refuse("descent: wrong proof length")
    leaf: uint256 = (d.position << d.height) + d.picked
    if len(data) != min(merkle.LEAF_BYTES, size - leaf * merkle.LEAF_BYTES):
        checks.refuse("descent: wrong leaf length")
    if merkle.fold(merkle.leaf_digest(data), d.picked, siblings) != d.node:
        checks.refuse("descent: wrong leaf")
    d.tree = empty(IDisputeGame.Tree)
    return d, leaf
