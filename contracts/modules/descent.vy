# pragma version 0.4.3
# @title Descents: how a trainer is made to show what a tree holds, from its root to one leaf
# @license Apache-2.0
# @notice A reveal shows the descendants of a node some levels down, or the bytes of a leaf; a pick names one of them, and the next reveal
#         is about that. Nothing of what is revealed is checked or kept but a hash: whoever finds that it does not hold refutes it.
#
#         The *trail* of a descent is the hash of all that was revealed and picked in it, and begins with the hash of what it is
#         about. A reveal makes sha256(trail, index picked, sha256(payload)) of it; the root, as one word, is what was revealed first. The
#         *seal* that is stored is sha256(trail, trainer): an answer that names the trail is the trainer's, and about just this.

from interfaces import IDisputeGame
from modules import arity
from modules import checks
from modules import merkle
from modules import partials


# Where a descent stands; see IDisputeGame.Descent.
struct Descent:
    tree: IDisputeGame.Tree
    seal: bytes32
    height: uint256
    position: uint256
    count: uint256
    picked: uint256


@internal
@view
def start(tree: IDisputeGame.Tree, count: uint256) -> Descent:
    """
    @notice A descent from the root of a tree of `count` leaves. Only a tensor can be its own leaf.
    """
    height: uint256 = merkle.depth_of(count)
    if height == 0 and tree != IDisputeGame.Tree.TENSOR:
        checks.refuse("descent: nothing to reveal")
    # The element of a run is the last of the four partial results that there is room for in a word.
    picked: uint256 = 3 if tree == IDisputeGame.Tree.RUN else 0
    return Descent(tree=tree, seal=empty(bytes32), height=height, position=0, count=count, picked=picked)


@internal
@pure
def extended(trail: bytes32, picked: uint256, payload: Bytes[arity.PAYLOAD]) -> bytes32:
    """
    @notice The trail after a reveal.
    """
    return sha256(concat(trail, convert(picked, bytes32), sha256(payload)))


@internal
@pure
def sealed(trail: bytes32, trainer: address) -> bytes32:
    """
    @notice What is stored of a trail that this trainer is to follow.
    """
    return sha256(concat(trail, convert(convert(trainer, uint256), bytes32)))


@internal
@pure
def span(height: uint256) -> uint256:
    """
    @notice How many levels a reveal of a node at this height goes down: as few reveals as possible, as evenly as possible.
    """
    if height <= arity.LEVELS:
        return height
    reveals: uint256 = (height + arity.LEVELS - 1) // arity.LEVELS
    return (height + reveals - 1) // reveals


@internal
@view
def pick(start: Descent, seal: bytes32, child: uint256) -> Descent:
    """
    @notice The descent with one of the descendants picked that were revealed last.
    """
    d: Descent = start
    if d.tree == empty(IDisputeGame.Tree):
        checks.refuse("descent: none under way")
    if d.seal != seal:
        checks.refuse("descent: something else revealed")
    levels: uint256 = self.span(d.height)
    d.height -= levels
    d.position = (d.position << levels) + child
    if levels == 0 or (d.height == 0 and d.tree != IDisputeGame.Tree.TENSOR):
        checks.refuse("descent: at the leaves")
    if child >> levels != 0 or d.position << d.height >= d.count:
        checks.refuse("descent: no such child")
    d.picked = child
    return d


@internal
@view
def owed(d: Descent) -> IDisputeGame.Phase:
    """
    @notice What the trainer owes in a descent that waits for it.
    """
    if d.tree == IDisputeGame.Tree.RUN:
        return IDisputeGame.Phase.PARTS
    return IDisputeGame.Phase.LEAF if d.height == 0 else IDisputeGame.Phase.CHILDREN


@internal
@pure
def within(d: Descent) -> uint256:
    """
    @notice How many of the descendants of the node have a leaf of the tree below them.
    """
    levels: uint256 = self.span(d.height)
    low: uint256 = d.height - levels
    return min(1 << levels, ((d.count + (1 << low) - 1) >> low) - (d.position << levels))


@internal
@view
def owed_bytes(d: Descent, size: uint256) -> uint256:
    """
    @notice How long the payload is that shows what is in question.
    @param size The bytes of the tensor, where it is one.
    """
    if d.tree == IDisputeGame.Tree.RUN:
        return partials.BYTES * self.within(d)
    if d.height == 0:
        return min(merkle.LEAF_BYTES, size - d.position * merkle.LEAF_BYTES)
    return arity.DIGEST << self.span(d.height)


@internal
@view
def holds(d: Descent, above: Bytes[arity.PAYLOAD], below: Bytes[arity.PAYLOAD], takes_max: bool) -> bool:
    """
    @notice Whether the payload `below` is what the picked item of the payload `above` stands for.
    @param takes_max Whether the partial results of a run are maxima.
    """
    if d.tree == IDisputeGame.Tree.RUN:
        return partials.combine(below, takes_max) == partials.at(above, d.picked)
    node: bytes32 = extract32(above, arity.DIGEST * d.picked)
    if d.height == 0:
        return merkle.leaf_digest(below) == node
    digests: DynArray[bytes32, arity.WIDTH] = []
    inside: uint256 = self.within(d)
    for i: uint256 in range(len(below) // arity.DIGEST, bound=arity.WIDTH):
        digest: bytes32 = extract32(below, arity.DIGEST * i)
        # A digest beyond the last leaf would change the root without any wrong element below it.
        if i >= inside and digest != merkle.EMPTY:
            return False
        digests.append(digest)
    return merkle.join(digests) == node
