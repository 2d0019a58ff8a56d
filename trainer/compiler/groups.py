"""Groups: which nodes pass over their rows together (docs/executor.md).

Nodes are taken in order. Each joins the group that made one of its inputs if it is row-local there (joining rows of the group
where that helps) and if no cycle of groups arises; else it begins a group of its own. What passes between the nodes of a group
stays in cache and, if nobody else wants it, never reaches memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import prod

from bisection.nodes import DTYPES, Map, Node, Reduce
from trainer.compiler.rows import View, coarser_rows, local_view, natural_rows, nest_of

__all__ = ["Group", "form_groups"]

ROW_BYTES = 64 * 1024  # of all tensors that a group makes, for one row: a block of rows is to fit a core's own cache
WIDER_TO_REDUCE = 4  # times ROW_BYTES, for a node that makes little of much: what it reads need not go through memory
FEWEST_ROWS = 16  # below, threads would wait for each other; groups smaller than ROW_BYTES in all may have fewer
SHORTEST_RUN = 16  # elements that lie side by side in what a group writes: else its reader had better fetch them
FINEST_ROW = 256  # elements; shorter rows are joined before a group is compiled
LONGEST_JOINED = 6 * 1024  # elements that a row may come to by that


@dataclass(eq=False, slots=True)
class Group:
    """Nodes (by number, in order), the number of rows, and the view of every tensor made."""

    rows: int
    nodes: list[int] = field(default_factory=list)
    views: dict[int, View] = field(default_factory=dict)
    needs: int = 0  # the groups that must run before, directly or not, as a bit mask


def form_groups(nodes: Sequence[Node]) -> list[Group]:
    """The groups of ``nodes``, in an order in which they can run. Tensors that no node makes are given."""
    groups: list[Group] = []
    maker: dict[int, int] = {}
    for number, node in enumerate(nodes):
        made_by = {ref.tensor: maker[ref.tensor] for ref in node.inputs if ref.tensor in maker}
        chosen = next((g for g in sorted(set(made_by.values()), reverse=True) if _join(groups, g, number, nodes, made_by)), None)
        if chosen is None:
            chosen = len(groups)
            groups.append(_alone(number, node))
            _depend(groups, chosen, made_by.values())
        maker.update((ref.tensor, chosen) for ref in node.outputs)
    for group in groups:
        _join_short_rows(group, nodes)
    return _ordered(groups)


def _alone(number: int, node: Node) -> Group:
    rows = natural_rows(node)
    view = local_view(node, rows, {})
    assert view is not None, "a node by itself is local to its natural rows"
    return Group(rows, [number], {ref.tensor: view for ref in node.outputs})


def _join(groups: list[Group], g: int, number: int, nodes: Sequence[Node], made_by: Mapping[int, int]) -> bool:
    """Let node ``number`` join group ``g`` if it can."""
    group, node = groups[g], nodes[number]
    others = [h for h in made_by.values() if h != g]
    if any(groups[h].needs >> g & 1 for h in others):
        return False
    for across, along in coarser_rows(node, group.rows, group.views):
        rows = group.rows // (across * along)
        views = {tensor: view.coarser(across, along) for tensor, view in group.views.items()}
        view = local_view(node, rows, views)
        if view is None or (view.outer > 1 and view.inner < SHORTEST_RUN):
            continue
        views |= {ref.tensor: view for ref in node.outputs}
        most = ROW_BYTES * (WIDER_TO_REDUCE if isinstance(node, Reduce) else 1)
        if not _small_enough(rows, views, [*group.nodes, number], nodes, most):
            return False
        if not _all_local(group.nodes, rows, views, nodes):
            continue
        group.rows, group.views = rows, views
        group.nodes.append(number)
        _depend(groups, g, others)
        return True
    return False


def _all_local(members: Sequence[int], rows: int, views: Mapping[int, View], nodes: Sequence[Node]) -> bool:
    return all(local_view(nodes[number], rows, views) == views[nodes[number].outputs[0].tensor] for number in members)


def _small_enough(rows: int, views: Mapping[int, View], members: Sequence[int], nodes: Sequence[Node], most: int) -> bool:
    size = {ref.tensor: DTYPES[ref.dtype].size for number in members for ref in nodes[number].outputs}
    row = sum(view.each * size[tensor] for tensor, view in views.items())
    return row <= most and (rows >= FEWEST_ROWS or rows * row <= ROW_BYTES)


def _depend(groups: list[Group], g: int, others: Iterable[int]) -> None:
    """Group ``g`` needs ``others``, and so does what needs ``g``."""
    added = 0
    for h in others:
        added |= 1 << h | groups[h].needs
    groups[g].needs |= added
    for group in groups:
        if group.needs >> g & 1:
            group.needs |= groups[g].needs


def _join_short_rows(group: Group, nodes: Sequence[Node]) -> None:
    """Make rows of at least FINEST_ROW elements where that is possible."""
    longest = max(view.each for view in group.views.values())
    if longest >= FINEST_ROW or group.rows == 1:
        return
    natural, possible = _coarser(group, nodes)
    fitting = [rows for rows in natural | possible if longest * (group.rows // rows) <= LONGEST_JOINED]
    for rows in sorted(fitting, key=lambda rows: (longest * (group.rows // rows) < FINEST_ROW, rows not in natural, -rows)):
        views = {tensor: view.coarser(1, group.rows // rows) for tensor, view in group.views.items()}
        if _all_local(group.nodes, rows, views, nodes):
            group.rows, group.views = rows, views
            return


def _coarser(group: Group, nodes: Sequence[Node]) -> tuple[set[int], set[int]]:
    """Numbers of rows to try: those at which loops of the group's maps begin, and any divisor up to a size."""
    natural = set()
    for node in (nodes[number] for number in group.nodes):
        if isinstance(node, Map):
            sizes = nest_of(node).sizes
            natural |= {prod(sizes[:d]) for d in range(len(sizes))}
    return {rows for rows in natural if group.rows % rows == 0}, {group.rows // b for b in range(1, 4097) if group.rows % b == 0}


def _ordered(groups: Sequence[Group]) -> list[Group]:
    """``groups`` after what they need, and as near as possible to the order of their last nodes."""
    waiting = {g: group.needs for g, group in enumerate(groups)}
    ready = [(groups[g].nodes[-1], g) for g, needs in waiting.items() if not needs]
    heapify(ready)
    done = 0
    order = []
    for _, g in ready:
        del waiting[g]
    while ready:
        _, g = heappop(ready)
        order.append(groups[g])
        done |= 1 << g
        for h in [h for h, needs in waiting.items() if needs & ~done == 0]:
            del waiting[h]
            heappush(ready, (groups[h].nodes[-1], h))
    return order
