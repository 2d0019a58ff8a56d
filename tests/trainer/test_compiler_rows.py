"""Rows, groups, places and memory: what the compiler claims about them, checked element by element."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisection import reference
from bisection.nodes import Dot, Gather, Input, Map, Node, Output, Read, Reduce, Ref, ScatterAdd
from bisection.scalar import ScalarProgram
from tests.support.chains import random_job
from tests.support.programs import random_node
from trainer.compiler import groups
from trainer.compiler.groups import Group, form_groups
from trainer.compiler.memory import ALIGNMENT, Buffer, assign
from trainer.compiler.places import Pattern, RowAffine, patterns
from trainer.compiler.rows import View, local_view, natural_rows, split_map


def computing(seed: int) -> list[Node]:
    rng = np.random.default_rng(seed)
    program, _, _ = random_job(rng, int(rng.integers(3, 14)))
    return [node for node in program.nodes if not isinstance(node, Input | Output)]


# Element by element -----------------------------------------------------------------------------------------------------


def rows_of(view: View, rows: int) -> np.ndarray:
    """For every element of a tensor in ``view``, the row that it belongs to."""
    return np.broadcast_to(np.arange(rows)[None, :, None], (view.outer, rows, view.inner)).reshape(-1)


def grid_of(node: Map) -> list[np.ndarray]:
    return np.meshgrid(*(np.arange(n) for n in node.iteration), indexing="ij", sparse=True)


def addresses(node: Map, read: Read, count: int) -> np.ndarray:
    """For every element of the output the address that it reads, -1 where it reads none."""
    numbered = Read(read.base, read.strides, read.conditions)
    found = reference._read(numbered, np.arange(1, count + 1), grid_of(node)) - 1
    return np.broadcast_to(found, node.iteration).reshape(-1)


def dependencies(node: Node) -> Iterator[tuple[Ref, np.ndarray, np.ndarray]]:
    """(input, elements of the output, the elements of the input that each of them needs), one pair a row."""
    (y, *_) = node.outputs
    out = np.arange(y.count)
    match node:
        case Map():
            for read, ref in zip(node.reads, node.inputs, strict=True):
                found = addresses(node, read, ref.count)
                yield ref, out[found >= 0], found[found >= 0]
        case Reduce():
            yield node.inputs[0], np.repeat(out, node.length), np.arange(node.inputs[0].count)
        case ScatterAdd():
            runs = np.arange(node.inputs[0].count).reshape(-1, node.length)
            yield node.inputs[0], np.repeat(out, node.length), np.repeat(runs, node.bins, axis=0).reshape(-1)
            yield node.inputs[1], np.tile(out, node.length), np.repeat(np.arange(node.length), y.count)
        case Gather():
            yield node.inputs[1], out, out // node.width
            yield node.inputs[0], np.repeat(out, node.inputs[0].count), np.tile(np.arange(node.inputs[0].count), y.count)
        case Dot():
            a = np.arange(node.inputs[0].count).reshape(-1, node.k)
            yield node.inputs[0], np.repeat(out, node.k), np.repeat(a, node.n, axis=0).reshape(-1)
            yield node.inputs[1], np.repeat(out, node.inputs[1].count), np.tile(np.arange(node.inputs[1].count), y.count)


def assert_row_local(group: Group, nodes: list[Node]) -> None:
    """Row r of what a node writes needs only row r of what the group has made before."""
    for number in group.nodes:
        node = nodes[number]
        own = rows_of(group.views[node.outputs[0].tensor], group.rows)
        made = {ref.tensor for earlier in group.nodes if earlier < number for ref in nodes[earlier].outputs}
        if not made.intersection(ref.tensor for ref in node.inputs):
            continue
        for ref, outputs, inputs in dependencies(node):
            if ref.tensor in made:
                assert (own[outputs] == rows_of(group.views[ref.tensor], group.rows)[inputs]).all(), node


# Groups -----------------------------------------------------------------------------------------------------------------

LIMITS = [{}, {"ROW_BYTES": 1000, "FINEST_ROW": 1}, {"ROW_BYTES": 1 << 22, "FINEST_ROW": 8192, "SHORTEST_RUN": 1, "FEWEST_ROWS": 1}]


@pytest.mark.parametrize("limits", LIMITS)
def test_groups_are_row_local_and_in_an_order_that_works(monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(groups, name, value)
    joined = spread = 0
    for seed in range(60):
        nodes = computing(seed)
        found = form_groups(nodes)
        assert sorted(number for group in found for number in group.nodes) == list(range(len(nodes)))
        made_by = {ref.tensor: number for number, node in enumerate(nodes) for ref in node.outputs}
        done: set[int] = set()
        for group in found:
            assert group.nodes == sorted(group.nodes)
            for number in group.nodes:
                assert {made_by[ref.tensor] for ref in nodes[number].inputs if ref.tensor in made_by} <= done
                done.add(number)
                assert all(group.views[ref.tensor].each * group.rows == ref.count for ref in nodes[number].outputs)
            assert_row_local(group, nodes)
            joined += len(group.nodes) > 1
            spread += any(view.outer > 1 for view in group.views.values())
    assert joined > 50 and spread > 5


def test_groups_of_the_same_nodes_are_the_same() -> None:
    first, again = form_groups(computing(3)), form_groups(computing(3))
    assert [(g.rows, g.nodes, g.views) for g in first] == [(g.rows, g.nodes, g.views) for g in again]


def test_a_node_does_not_join_across_a_group_between() -> None:
    """The third reads the first, and the second, which reads the first turned: with the first it would make a cycle."""
    x, a, b, c = (Ref(i, "f32", 512 * 512) for i in range(4))
    stay, turn = Read(0, (512, 1)), Read(0, (1, 512))
    copy, second = ScalarProgram(1, 2, (), (), (0,)), ScalarProgram(2, 2, (), (), (1,))
    nodes = [
        Map((x,), (a,), (512, 512), (stay,), copy),
        Map((a,), (b,), (512, 512), (turn,), copy),
        Map((a, b), (c,), (512, 512), (stay, stay), second),
    ]
    assert [group.nodes for group in form_groups(nodes)] == [[0], [1, 2]]


# Rows -------------------------------------------------------------------------------------------------------------------

X, Y = Ref(0, "f32", 24), Ref(1, "f32", 24)
WITHIN = {0: View(1, 6)}  # four rows of six


def turned(read: Read, shape: tuple[int, ...] = (4, 6)) -> Map:
    return Map((X,), (Y,), shape, (read,), ScalarProgram(1, len(shape), (), (), (0,)))


@pytest.mark.parametrize(
    ("node", "view"),
    [
        (turned(Read(0, (6, 1))), View(1, 6)),
        (turned(Read(5, (6, -1))), None),
        (turned(Read(2, (3, -1)), (8, 3)), None),
        (turned(Read(0, (6, 0))), View(1, 6)),
        (turned(Read(3, (6, 0))), View(1, 6)),
        (turned(Read(0, (1, 4))), None),
        (turned(Read(6, (6, 1))), None),
        (turned(Read(18, (-6, 1))), None),
        (turned(Read(0, (3, 6, 1)), (2, 4, 3)), View(2, 3)),
        (turned(Read(0, (1,)), (24,)), View(1, 6)),
        (turned(Read(0, (2, 1)), (12, 2)), View(1, 6)),
        (turned(Read(0, (1, 6)), (6, 4)), View(6, 1)),
        (turned(Read(0, (0, 6, 1)), (1, 4, 6)), View(1, 6)),
        (Reduce((Ref(0, "i32", 24),), (Ref(1, "i64", 4),), "sum", 6), View(1, 1)),
        (Reduce((Ref(0, "i32", 24),), (Ref(1, "i64", 8),), "sum", 3), View(1, 2)),
        (Reduce((Ref(0, "i32", 24),), (Ref(1, "i64", 2),), "sum", 12), None),
        (Gather((Ref(9, "f32", 10), Ref(0, "i32", 24)), (Ref(1, "f32", 48),), 2), View(1, 12)),
        (Gather((X, Ref(9, "i32", 24)), (Ref(1, "f32", 48),), 2), None),
    ],
)
def test_local_views(node: Node, view: View | None) -> None:
    assert local_view(node, 4, WITHIN) == view


def test_a_node_alone_is_local_to_its_natural_rows() -> None:
    for seed in range(200):
        node = random_node(np.random.default_rng(seed), [Map, Reduce, Dot, Gather, ScatterAdd][seed % 5])[0].nodes[-2]
        rows = natural_rows(node)
        view = local_view(node, rows, {})
        assert view is not None and view.each * rows == node.outputs[0].count


# Places -----------------------------------------------------------------------------------------------------------------


def value_of(affine: RowAffine, row: int) -> int:
    """As trainer/kernels/rows.hpp computes it."""
    if len(affine.digits) == 1:
        return affine.base + row * affine.digits[0][1]
    total = affine.base
    for size, stride in affine.digits:
        total += row % size * stride
        row //= size
    return total


def steps_of(sizes: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """Σ stride·index over the loops of a row, in order."""
    loops = [index.reshape(-1) for index in np.indices(sizes)] if sizes else []
    return sum((stride * index for stride, index in zip(strides, loops, strict=True)), np.zeros(1, np.int64))


def read_by(pattern: Pattern, x: np.ndarray, rows: int) -> np.ndarray:
    """What ``pattern`` reads, row after row; 0 where a condition fails."""
    out = []
    for row in range(rows):
        at = value_of(pattern.row, row) + steps_of(pattern.sizes, pattern.strides)
        inside = np.ones(at.shape, bool)
        for condition in pattern.conditions:
            where = value_of(condition.row, row) + steps_of(pattern.sizes, condition.strides)
            inside = inside & (where >= 0) & (where < condition.size)
        out.append(np.where(inside, x[np.where(inside, at, 0)], 0))
    return np.concatenate(out)


def by_rows(x: np.ndarray, view: View, rows: int) -> np.ndarray:
    return x.reshape(view.outer, rows, view.inner).transpose(1, 0, 2).reshape(-1)


@pytest.mark.parametrize("in_scratch", [False, True])
def test_patterns_read_what_the_node_reads(in_scratch: bool) -> None:
    """From memory, or from scratch memory where each row of what the group made lies side by side."""
    scattered = 0
    for seed in range(60):
        nodes = computing(seed)
        for group in form_groups(nodes):
            made: set[int] = set()
            for node in (nodes[number] for number in group.nodes):
                if isinstance(node, Map):
                    nest = split_map(node, group.rows, group.views)
                    assert nest is not None
                    stored = [group.views[ref.tensor] if in_scratch and ref.tensor in made else None for ref in node.inputs]
                    reads, own = patterns(node, nest, stored, group.rows)
                    for read, ref, view, pattern in zip(node.reads, node.inputs, stored, reads, strict=True):
                        x = np.arange(1, ref.count + 1)
                        found = read_by(pattern, by_rows(x, view, group.rows) if view else x, group.rows)
                        assert np.array_equal(found, by_rows(addresses(node, read, ref.count) + 1, nest.view, group.rows))
                        scattered += view is not None and view.outer > 1
                    for axis, pattern in zip(grid_of(node), own, strict=True):
                        wanted = by_rows(np.broadcast_to(axis, node.iteration).reshape(-1), nest.view, group.rows)
                        for row, part in enumerate(wanted.reshape(group.rows, -1)):
                            assert (value_of(pattern.row, row) + steps_of(pattern.sizes, pattern.strides) == part).all()
                made |= {ref.tensor for ref in node.outputs}
    assert scattered > 0 or not in_scratch


# Memory -----------------------------------------------------------------------------------------------------------------

BUFFERS = st.lists(
    st.builds(
        lambda size, a, b: Buffer(size, min(a, b), max(a, b)), *[st.integers(0, 5000), st.integers(0, 12), st.integers(0, 12)]
    )
)


@given(BUFFERS)
def test_buffers_that_live_at_once_do_not_overlap(buffers: list[Buffer]) -> None:
    offsets, total = assign(buffers)
    for i, a in enumerate(buffers):
        assert offsets[i] % ALIGNMENT == 0 and offsets[i] + a.size <= total
        for j, b in enumerate(buffers[:i]):
            apart = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
            assert apart or a.last < b.first or b.last < a.first
    alone = sum(-(-b.size // ALIGNMENT) * ALIGNMENT for b in buffers)
    assert total <= alone


def test_memory_is_used_again() -> None:
    """A chain in which each buffer is read by the next needs two at a time."""
    _, total = assign([Buffer(1000, i, i + 1) for i in range(50)])
    assert total == 2 * 1024
