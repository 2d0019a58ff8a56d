"""Long runs in a game: a trainer is made to take an element apart (docs/protocol.md, "Long runs")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.cut import combined
from bisection.descent import parts_payload
from bisection.numbers import wrap
from bisection.witness import RunPlace
from contracts.bindings import Phase, Tree
from contracts.events import Demanded, Judged, Revealed, RunDemanded
from tests.contracts.descending import Descending, partials, word
from tests.contracts.stage import LEAF, NODE, Stage, TrainerRun, digest, part_conclusion, refused, run_demand

RUN = TrainerRun()
ROOTS = RUN.roots(0, 1)
TENSOR = 9
LEAST, MOST = -(1 << 63), (1 << 63) - 1


def parts_of(count: int) -> tuple[int, ...]:
    """Partial results of every size; their sum wraps."""
    return tuple(wrap((i * i + 1) * 0x9E3779B97F4A7C15, 64) for i in range(count))


class RunGame(Descending):
    """A game in which the run of an element of so many parts was demanded."""

    def __init__(self, stage: Stage, parts: tuple[int, ...], takes_max: bool = False, claimed: int | None = None) -> None:
        self.parts = parts
        self.claimed = combined(parts, takes_max) if claimed is None else claimed
        game = stage.traced(stage.posted(RUN), RUN)
        stage.referee.send("cut", RunPlace(self.claimed, TENSOR, len(parts), takes_max))
        self.events = stage.events(stage.challenger.game.demand_run(game, ROOTS, run_demand()))
        super().__init__(stage, game, word(self.claimed))

    def honest(self) -> Revealed:
        """Answer with what the parts combine to."""
        return self.show_parts(*partials(self.parts, self.d))

    def refused_length(self, *parts: int) -> None:
        """The contract does not take these partial results, which are too many or too few."""
        with refused("game: wrong length"):
            self.stage.trainer.game.reveal(self.game, self.d.trail, self.d.picked, parts_payload(parts))

    def conclude(self, child: int, parts: tuple[int, ...] | None = None, trail: bytes | None = None) -> Judged:
        """Have a part judged; by default one of those that were revealed last."""
        assert self.d.below is not None
        payload = self.d.below if parts is None else parts_payload(parts)
        move = part_conclusion(self.d.trail if trail is None else trail, payload, child)
        judged = self.stage.events(self.stage.challenger.game.conclude_part(self.game, ROOTS, move))[0]
        assert isinstance(judged, Judged)
        return judged

    @property
    def phase(self) -> Phase:
        return self.stage.game.game(self.game).phase


def test_a_run_is_demanded_with_its_element(stage: Stage) -> None:
    run = RunGame(stage, parts_of(70))
    demanded, told = run.events
    assert isinstance(demanded, Demanded) and isinstance(told, RunDemanded)
    assert (demanded.tree, demanded.count, demanded.tensor) == (Tree.RUN, 70, TENSOR)
    assert int.from_bytes(demanded.root, "big", signed=True) == run.claimed
    assert (told.game, told.node, told.position, told.tensor) == (run.game, NODE.index, 11, TENSOR)
    assert (told.tensor_root, tuple(told.trace_proof)) == (LEAF.root, LEAF.trace_proof)
    view = stage.game.game(run.game)
    assert (view.phase, view.descended, view.run_node, view.run_position) == (Phase.PARTS, Tree.RUN, NODE.index, 11)
    d = view.descent
    assert (d.tree, d.height, d.position, d.count, d.picked, d.tensor, d.size) == (Tree.RUN, 7, 0, 70, 3, TENSOR, 0)
    assert d.seal == run.seal


SHAPES = [(2, 0), (5, 4), (33, 32), (64, 63), (65, 64), (70, 69), (1024, 777), (1100, 1099), (4096, 4095), (8193, 8192)]


@pytest.mark.parametrize("takes_max", [False, True])
@pytest.mark.parametrize(("count", "part"), SHAPES)
def test_a_descent_reaches_every_part_of_runs_of_any_length(stage: Stage, count: int, part: int, takes_max: bool) -> None:
    run = RunGame(stage, parts_of(count), takes_max)
    while True:
        height, position, expected = run.d.height, run.d.position, partials(run.parts, run.d)
        event = run.honest()
        assert (event.game, event.tree, event.height, event.position) == (run.game, Tree.RUN, height, position)
        assert event.payload == parts_payload(expected)
        with refused("game: nothing to refute"):
            run.refute()
        if run.d.levels == run.d.height:
            break
        run.towards(part)
        assert run.phase == Phase.PARTS
    child = part - (run.d.position << run.d.height)
    stage.referee.send("expect_part", 11, part)
    stage.referee.send("rule", False, 0, wrap(expected[child] + 1, 64))
    judged = run.conclude(child)
    assert (judged.node, judged.output, judged.position) == (NODE.index, 0, 11)
    assert (judged.claimed, judged.correct) == (run.parts[part], wrap(run.parts[part] + 1, 64))
    assert run.phase == Phase.CONVICTED


@pytest.mark.parametrize("part", [LEAST, MOST, -1, 0, 1])
def test_a_right_part_acquits(stage: Stage, part: int) -> None:
    run = RunGame(stage, (3, part))
    run.honest()
    stage.referee.send("rule", False, 0, part)
    judged = run.conclude(1)
    assert (judged.claimed, judged.correct) == (part, part)
    assert run.phase == Phase.ACQUITTED


# Demands


@pytest.mark.parametrize("parts", [0, 1])
def test_a_run_that_one_verdict_reads_is_not_demanded(stage: Stage, parts: int) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    stage.referee.send("cut", RunPlace(5, TENSOR, parts, False))
    with refused("game: run not too long"):
        stage.challenger.game.demand_run(game, ROOTS, run_demand())


def test_a_run_is_demanded_once_a_game(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.honest()
    with refused("game: tree already descended"):
        stage.challenger.game.demand_run(run.game, ROOTS, run_demand())


def test_a_run_is_demanded_of_the_step_in_question(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    stage.referee.send("cut", RunPlace(5, TENSOR, 2, False))
    stage.referee.send("expect", RUN.roots(0, 2))
    with refused("referee: another step"):
        stage.challenger.game.demand_run(game, ROOTS, run_demand())


def test_the_largest_numbers_of_a_run_are_kept_apart(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN, segment=1, step=2)
    node, position = replace(NODE, index=(1 << 32) - 1), (1 << 40) - 1
    stage.referee.send("cut", RunPlace(-1, (1 << 32) - 1, 1 << 24, True))
    before = stage.game.game(game)
    stage.challenger.game.demand_run(game, RUN.roots(1, 2), replace(run_demand(position), node=node))
    view = stage.game.game(game)
    d = view.descent
    assert (view.run_node, view.run_position, d.tensor) == (node.index, position, (1 << 32) - 1)
    assert (d.tree, d.count, d.height, d.position, d.picked, d.size) == (Tree.RUN, 1 << 24, 24, 0, 3, 1)
    assert (view.rank, view.step, view.first) == (before.rank, 2, before.first)
    run = Descending(stage, game, word(-1))
    for width in (64, 64, 64, 64):
        run.show_parts(*(-1,) * width)
        if run.d.levels < run.d.height:
            run.pick(width - 1)
    d = stage.game.game(game).descent
    assert (d.position, d.height, d.picked, d.count) == ((1 << 18) - 1, 6, 63, 1 << 24)
    assert run.d.below is not None
    stage.referee.send("expect_part", position, (1 << 24) - 1)
    stage.referee.send("rule", False, 0, -1)
    move = replace(part_conclusion(run.d.trail, run.d.below, 63), node=node)
    stage.challenger.game.conclude_part(game, RUN.roots(1, 2), move)
    assert stage.game.game(game).phase == Phase.ACQUITTED


# Reveals


@pytest.mark.parametrize("wrong", [(), (12,), (3, 9), (3, 4, 5, 0), (*(0,) * 31, 12)])
def test_there_are_as_many_parts_as_the_run_has(stage: Stage, wrong: tuple[int, ...]) -> None:
    RunGame(stage, (3, 4, 5)).refused_length(*wrong)


def test_a_part_has_eight_bytes(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    for size in (0, 8, 15, 17, 24, 64):
        with refused("game: wrong length"):
            stage.trainer.game.reveal(run.game, run.d.trail, 3, bytes(size))
    run.honest()


def test_below_the_end_of_the_run_there_are_only_the_parts_that_it_has(stage: Stage) -> None:
    run = RunGame(stage, parts_of(70))  # height 7: groups of eight, of which the last has six
    first = partials(run.parts, run.d)
    assert len(first) == 9
    run.refused_length(*first, 0)
    run.refused_length(*first[:-1])
    run.honest()
    run.pick(8)
    run.refused_length(*run.parts[64:70], 0)
    run.refused_length(*run.parts[64:70], 0, 0)
    assert run.honest().payload == parts_payload(run.parts[64:70])


def test_a_trainer_that_shows_no_parts_loses(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    with refused("game: not owed"):
        stage.trainer.game.post_trace(run.game, digest("root"))
    stage.chain.advance(10_000)
    stage.stranger.game.timeout(run.game)
    assert run.phase == Phase.CONVICTED


# Picks and conclusions


def test_parts_are_concluded_and_not_picked(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.honest()
    with refused("descent: at the leaves"):
        run.pick(0)


def test_only_what_was_revealed_is_picked(stage: Stage) -> None:
    run = RunGame(stage, parts_of(70))
    run.honest()
    for child in (9, 15, 16, 64, 2**256 - 1):
        with refused("descent: no such child"):
            stage.challenger.game.pick(run.game, run.seal, child)
    with refused("descent: something else revealed"):
        stage.challenger.game.pick(run.game, digest("seal"), 0)
    run.pick(8)


def test_only_parts_are_concluded(stage: Stage) -> None:
    run = RunGame(stage, parts_of(70))
    run.honest()
    with refused("game: no parts revealed"):
        run.conclude(0)
    run.pick(0)
    run.honest()
    run.conclude(0)


def test_a_conclusion_is_about_a_part_that_was_revealed(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.honest()
    for wrong in ((), (3,), (4, 3), (3, 5), (3, 4, 0)):
        with refused("game: another place"):
            run.conclude(0, wrong)
    for trail in (digest("trail"), bytes(32), run.d.origin, run.seal):
        with refused("game: another place"):
            run.conclude(0, trail=trail)
    for child in (2, 63, 64, 2**200):
        with refused("partials: no such part"):
            run.conclude(child)
    with refused("no reason"):  # beyond what a number can be
        run.conclude(2**256 - 1)
    assert run.d.below is not None
    move = part_conclusion(run.d.trail, run.d.below, 0)
    for index in (NODE.index + 1, NODE.index - 1, NODE.index + 2**32):
        with refused("game: another node"):
            stage.challenger.game.conclude_part(run.game, ROOTS, replace(move, node=replace(NODE, index=index)))
    stage.referee.send("expect_part", 11, 5)
    with refused("referee: another part"):
        run.conclude(0)
    stage.referee.send("expect_part", 11, 1)
    run.conclude(1)


def test_a_conclusion_is_about_the_parts_below_what_was_picked(stage: Stage) -> None:
    """The same parts elsewhere in the run have another trail."""
    run = RunGame(stage, (5,) * 70)
    run.honest()
    run.pick(2)
    run.honest()
    with refused("game: another place"):
        run.conclude(0, trail=run.d.origin)
    stage.referee.send("expect_part", 11, 19)
    run.conclude(3)


def test_another_demand_ends_the_descent_into_a_run(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.honest()
    stage.challenger.game.demand_state(run.game, ROOTS)
    Descending(stage, run.game, RUN.states[2].root).answer(RUN.states[2])
    with refused("game: no parts revealed"):
        run.conclude(0)


def test_before_a_run_is_demanded_no_part_is_concluded(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    with refused("game: no parts revealed"):
        stage.challenger.game.conclude_part(game, ROOTS, part_conclusion(bytes(32), parts_payload((3, 4)), 0))
