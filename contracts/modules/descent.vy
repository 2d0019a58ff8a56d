# pragma version 0.4.3
# @title Descents: how a trainer is made to show the digests of a tree, from its root to one leaf
# @license Apache-2.0
# @notice A reveal gives the descendants of a node four levels down, or at the leaves where they are nearer. Only the node is kept: a
#         pick names one descendant by its index, and the next reveal carries the siblings that tie that one to the node.

from interfaces import IDisputeGame
from modules import merkle

LEVELS: constant(uint256) = 4
NO_PICK: constant(uint256) = 16  # in place of a picked descendant: the next reveal is of the node itself
U8: constant(uint256) = 2**8 - 1
U32: constant(uint256) = 2**32 - 1
U40: constant(uint256) = 2**40 - 1


@internal
@view
def start(
    tree: IDisputeGame.Tree, root: bytes32, count: uint256, tensor: uint256, size: uint256
) -> (IDisputeGame.Descent, IDisputeGame.Phase):
    """
    @notice A descent from the root of a tree of `count` leaves, and what the trainer owes. A tensor can be its only leaf.
    """
    height: uint256 = merkle.depth_of(count)
    only_leaf: bool = height == 0
    assert not only_leaf or tree == IDisputeGame.Tree.TENSOR, "descent: nothing to reveal"
    d: IDisputeGame.Descent = IDisputeGame.Descent(
        tree=tree,
        node=root,
        height=height,
        position=0,
        count=count,
        picked=0 if only_leaf else NO_PICK,
        tensor=tensor,
        size=size,
    )
    return d, IDisputeGame.Phase.LEAF if only_leaf else IDisputeGame.Phase.CHILDREN


@internal
@view
def pick(
    start: IDisputeGame.Descent, node: bytes32, child: uint256
) -> (IDisputeGame.Descent, IDisputeGame.Phase, uint256, uint256):
    """
    @notice The descent with one descendant of `node` picked, what the trainer owes, and the picked one's height and position.
    """
    d: IDisputeGame.Descent = start
    assert d.tree != empty(IDisputeGame.Tree), "descent: none under way"
    assert d.node == node, "descent: not the node in question"
    drop: uint256 = min(LEVELS, d.height)
    assert child >> drop == 0, "descent: no such child"
    height: uint256 = d.height - drop
    position: uint256 = (d.position << drop) + child
    assert position << height < d.count, "descent: no such child"
    assert height != 0 or d.tree == IDisputeGame.Tree.TENSOR, "descent: at the leaves"
    d.picked = child
    return d, IDisputeGame.Phase.LEAF if height == 0 else IDisputeGame.Phase.CHILDREN, height, position


@internal
@view
def reveal(
    start: IDisputeGame.Descent, children: DynArray[bytes32, 16], siblings: DynArray[bytes32, 4]
) -> IDisputeGame.Descent:
    """
    @notice The descent at the node whose descendants are `children`, which must be the one in question.
    """
    d: IDisputeGame.Descent = start
    index: uint256 = 0
    drop: uint256 = 0
    if d.picked != NO_PICK:
        index = d.picked
        drop = min(LEVELS, d.height)
        d.height -= drop
        d.position = (d.position << drop) + index
    assert len(siblings) == drop, "descent: wrong proof length"

    span: uint256 = min(LEVELS, d.height)
    assert len(children) == 1 << span, "descent: wrong number of children"
    first: uint256 = d.position << span
    for i: uint256 in range(len(children), bound=16):
        # A digest beyond the last leaf would change the root without any wrong element below it.
        if (first + i) << (d.height - span) >= d.count:
            assert children[i] == merkle.EMPTY, "descent: padding not empty"
    node: bytes32 = self._join(children)
    assert merkle.fold(node, index, siblings) == d.node, "descent: wrong children"
    d.node = node
    d.picked = NO_PICK
    return d


@internal
@view
def reveal_leaf(
    start: IDisputeGame.Descent, data: Bytes[256], siblings: DynArray[bytes32, 4]
) -> (IDisputeGame.Descent, uint256):
    """
    @notice The ended descent, and the number of the leaf, whose bytes must be `data` at their exact length.
    """
    d: IDisputeGame.Descent = start
    assert len(siblings) == d.height, "descent: wrong proof length"
    leaf: uint256 = (d.position << d.height) + d.picked
    assert len(data) == min(merkle.LEAF_BYTES, d.size - leaf * merkle.LEAF_BYTES), "descent: wrong leaf length"
    assert merkle.fold(merkle.leaf_digest(data), d.picked, siblings) == d.node, "descent: wrong leaf"
    d.tree = empty(IDisputeGame.Tree)
    return d, leaf


@internal
@pure
def _join(children: DynArray[bytes32, 16]) -> bytes32:
    """
    @notice The node above 1, 2, 4, 8 or 16 descendants.
    """
    row: DynArray[bytes32, 16] = children
    width: uint256 = len(children)
    for _: uint256 in range(LEVELS):
        width >>= 1
        for i: uint256 in range(width, bound=8):
            row[i] = merkle.parent(row[2 * i], row[2 * i + 1])
    return row[0]


@internal
@view
def pack(d: IDisputeGame.Descent) -> uint256:
    """
    @notice All but the node in one word: tree 8 bits, height 8, picked 8, position 40, count 40, tensor 32, size 48.
    """
    return (
        convert(d.tree, uint256)
        | (d.height << 8)
        | (d.picked << 16)
        | (d.position << 24)
        | (d.count << 64)
        | (d.tensor << 104)
        | (d.size << 136)
    )


@internal
@view
def unpack(node: bytes32, word: uint256) -> IDisputeGame.Descent:
    """
    @notice The descent that was packed.
    """
    return IDisputeGame.Descent(
        tree=convert(word & U8, IDisputeGame.Tree),
        node=node,
        height=(word >> 8) & U8,
        position=(word >> 24) & U40,
        count=(word >> 64) & U40,
        picked=(word >> 16) & U8,
        tensor=(word >> 104) & U32,
        size=word >> 136,
    )
