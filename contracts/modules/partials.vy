# pragma version 0.4.3
# @title Partial results: how a trainer is made to take a long run apart
# @license Apache-2.0
# @notice The parts of a run are the leaves of a tree. Every node of it stands for the partial result over the parts below: their sum, or
#         their maximum. The node of a descent is first the claimed element itself, and after a reveal the hash of all partial results
#         that were revealed: the next move repeats them.

from interfaces import IDisputeGame
from modules import arity
from modules import checks
from modules import descent


@internal
@pure
def reveal(
    start: descent.Descent, takes_max: bool, parts: DynArray[int64, arity.WIDTH], before: DynArray[int64, arity.WIDTH]
) -> descent.Descent:
    """
    @notice The descent at the node whose descendants have the partial results `parts`, which must be the one in question.
    @param before The partial results that it was picked from; none for the element itself.
    """
    d: descent.Descent = start
    whole: int256 = convert(d.node, int256)
    if d.picked == descent.NO_PICK:
        if len(before) != 0:
            checks.refuse("partials: not those in question")
    else:
        if self.digest(before) != d.node:
            checks.refuse("partials: not those in question")
        whole = convert(before[d.picked], int256)
    d.height, d.position = descent.in_question(d)
    if len(parts) != descent.within(d):
        checks.refuse("partials: wrong number of parts")
    if self._combine(parts, takes_max) != whole:
        checks.refuse("partials: another result")
    d.node = self.digest(parts)
    d.picked = descent.NO_PICK
    return d


@internal
@view
def part(d: descent.Descent, parts: DynArray[int64, arity.WIDTH], child: uint256) -> (uint256, int256):
    """
    @notice The number of one part, and the partial result that was revealed for it among `parts`.
    """
    if d.tree != IDisputeGame.Tree.RUN:
        checks.refuse("partials: no run under way")
    if d.height > arity.LEVELS:
        checks.refuse("partials: not at the parts")
    if self.digest(parts) != d.node:
        checks.refuse("partials: not those in question")
    if child >= len(parts):
        checks.refuse("partials: no such part")
    return (d.position << d.height) + child, convert(parts[child], int256)


@internal
@pure
def digest(parts: DynArray[int64, arity.WIDTH]) -> bytes32:
    """
    @notice What is kept of revealed partial results.
    """
    return sha256(abi_encode(parts))


@internal
@pure
def _combine(parts: DynArray[int64, arity.WIDTH], takes_max: bool) -> int256:
    """
    @notice The maximum of the partial results, or their sum, which wraps at 64 bits.
    """
    so_far: int256 = min_value(int256) if takes_max else 0
    for result: int64 in parts:
        value: int256 = convert(result, int256)
        so_far = max(so_far, value) if takes_max else so_far + value
    return so_far if takes_max else (so_far << 192) >> 192
