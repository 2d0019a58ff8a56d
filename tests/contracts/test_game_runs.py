"""Long runs in a game: a trainer is made to take an element apart (docs/protocol.md, "Long runs")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bisection.cut import combined
from bisection.game import ARITY_BITS, RevealParts, ShowStep, parts_digest
from bisection.numbers import wrap
from bisection.witness import RunPlace
from contracts.bindings import NO_PICK, Phase, Tree
from contracts.events import Demanded, Judged, PartsRevealed, RunDemanded
from tests.contracts.stage import LEAF, NODE, Stage, TrainerRun, digest, part_conclusion, refused, reveal_of, run_demand

RUN = TrainerRun()
TENSOR = 9
LEAST, MOST = -(1 << 63), (1 << 63) - 1


def parts_of(count: int) -> tuple[int, ...]:
    """Partial results of every size; their sum wraps."""
    return tuple(wrap((i * i + 1) * 0x9E3779B97F4A7C15, 64) for i in range(count))


class RunGame:
    """A game in which the run of an element of so many parts was demanded."""

    def __init__(self, stage: Stage, parts: tuple[int, ...], takes_max: bool = False, claimed: int | None = None) -> None:
        self.stage, self.parts, self.takes_max = stage, parts, takes_max
        self.claimed = combined(parts, takes_max) if claimed is None else claimed
        self.game = stage.traced(stage.posted(RUN), RUN)
        stage.referee.send("cut", RunPlace(self.claimed, TENSOR, len(parts), takes_max))
        self.events = stage.events(stage.challenger.game.demand_run(self.game, run_demand()))

    def below(self, height: int, position: int) -> tuple[int, ...]:
        """The partial results that a reveal of the node there shows."""
        span = min(ARITY_BITS, height)
        low = height - span
        starts = [((position << span) + i) << low for i in range(1 << span)]
        return tuple(combined(self.parts[at : at + (1 << low)], self.takes_max) for at in starts if at < len(self.parts))

    def reveal(self, *parts: int, before: tuple[int, ...] = ()) -> PartsRevealed:
        (event,) = self.stage.events(self.stage.trainer.game.reveal_parts(self.game, RevealParts(parts, before)))
        assert isinstance(event, PartsRevealed)
        return event

    def pick(self, child: int) -> None:
        self.stage.challenger.game.pick(self.game, self.stage.game.game(self.game).descent.node, child)

    def conclude(self, child: int, parts: tuple[int, ...]) -> Judged:
        """Have a part judged."""
        receipt = self.stage.challenger.game.conclude_part(self.game, part_conclusion(child, parts))
        judged = self.stage.events(receipt)[0]
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
    assert (told.node, told.position, told.tensor) == (NODE.index, 11, TENSOR)
    assert (told.tensor_root, tuple(told.trace_proof)) == (LEAF.root, LEAF.trace_proof)
    view = stage.game.game(run.game)
    assert (view.phase, view.descended, view.run_node, view.run_position) == (Phase.PARTS, Tree.RUN, NODE.index, 11)
    d = view.descent
    assert (d.tree, d.height, d.position, d.count, d.picked, d.tensor, d.size) == (Tree.RUN, 7, 0, 70, NO_PICK, TENSOR, 0)


@pytest.mark.parametrize("takes_max", [False, True])
@pytest.mark.parametrize(("count", "part"), [(2, 0), (5, 4), (32, 31), (33, 32), (70, 69), (1024, 777), (1100, 1099)])
def test_a_descent_reaches_every_part_of_runs_of_any_length(stage: Stage, count: int, part: int, takes_max: bool) -> None:
    run = RunGame(stage, parts_of(count), takes_max)
    height, position, before = stage.game.game(run.game).descent.height, 0, ()
    while True:
        shown = run.below(height, position)
        event = run.reveal(*shown, before=before)
        assert (event.height, event.position, tuple(event.parts)) == (height, position, shown)
        assert stage.game.game(run.game).descent.node == parts_digest(shown)
        drop = min(ARITY_BITS, height)
        if height == drop:
            break
        height, before = height - drop, shown
        position = part >> height
        run.pick(position & ((1 << drop) - 1))
        assert run.phase == Phase.PARTS
    child = part & ((1 << height) - 1)
    stage.referee.send("expect_part", 11, part)
    stage.referee.send("rule", False, 0, wrap(shown[child] + 1, 64))
    judged = run.conclude(child, shown)
    assert (judged.node, judged.output, judged.position) == (NODE.index, 0, 11)
    assert (judged.claimed, judged.correct) == (shown[child], wrap(shown[child] + 1, 64))
    assert run.phase == Phase.CONVICTED


def test_a_right_part_acquits(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.reveal(3, 4)
    stage.referee.send("rule", False, 0, 4)
    run.conclude(1, (3, 4))
    assert run.phase == Phase.ACQUITTED


# Demands


def test_a_run_that_one_verdict_reads_is_not_demanded(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    stage.referee.send("cut", RunPlace(5, TENSOR, 1, False))
    with refused("game: run short enough to conclude"):
        stage.challenger.game.demand_run(game, run_demand())


def test_a_run_is_demanded_once_a_game(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.reveal(3, 4)
    with refused("game: tree already descended"):
        stage.challenger.game.demand_run(run.game, run_demand())


def test_a_run_is_demanded_of_the_step_in_question(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    stage.referee.send("cut", RunPlace(5, TENSOR, 2, False))
    stage.referee.send("expect", RUN.roots(0, 2))
    with refused("referee: another step"):
        stage.challenger.game.demand_run(game, run_demand())


def test_positions_of_forty_bits_are_kept(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    stage.referee.send("cut", RunPlace(-1, TENSOR, 1 << 24, True))
    stage.challenger.game.demand_run(game, run_demand((1 << 40) - 1))
    view = stage.game.game(game)
    assert (view.run_position, view.descent.count, view.descent.height, view.descent.size) == ((1 << 40) - 1, 1 << 24, 24, 1)


# Reveals


def test_parts_combine_to_the_element(stage: Stage) -> None:
    run = RunGame(stage, (3, 4, 5))
    for wrong in ((3, 4, 6), (12, 0, 1), (MOST, MOST, MOST)):
        with refused("partials: another result"):
            run.reveal(*wrong)
    run.reveal(12, 0, 0)  # a lie that combines: one of these is wrong


def test_sums_wrap_at_64_bits(stage: Stage) -> None:
    run = RunGame(stage, (MOST, 1, MOST, 1), claimed=0)
    run.reveal(MOST, 1, MOST, 1)
    assert run.phase == Phase.CHALLENGER


def test_a_maximum_does_not_add_up(stage: Stage) -> None:
    run = RunGame(stage, (-3, LEAST, -4), takes_max=True)
    assert run.claimed == -3
    for wrong in ((-3, 0, -4), (-4, -5, -6), (1, -4, 0)):
        with refused("partials: another result"):
            run.reveal(*wrong)
    run.reveal(LEAST, LEAST, -3)


@pytest.mark.parametrize("wrong", [(), (12,), (3, 9), (3, 4, 5, 0), (*(0,) * 31, 12)])
def test_there_are_as_many_parts_as_the_run_has(stage: Stage, wrong: tuple[int, ...]) -> None:
    run = RunGame(stage, (3, 4, 5))
    with refused("partials: wrong number of parts"):
        run.reveal(*wrong)


def test_below_the_end_of_the_run_there_are_only_the_parts_that_it_has(stage: Stage) -> None:
    run = RunGame(stage, parts_of(70))  # height 7: groups of four, of which the last has two
    first = run.below(7, 0)
    assert len(first) == 18
    with refused("partials: wrong number of parts"):
        run.reveal(*first, 0)
    run.reveal(*first)
    run.pick(17)
    with refused("partials: wrong number of parts"):
        run.reveal(*run.parts[68:70], 0, before=first)
    run.reveal(*run.parts[68:70], before=first)


def test_a_reveal_repeats_what_its_part_was_picked_from(stage: Stage) -> None:
    run = RunGame(stage, parts_of(70))
    first = run.below(7, 0)
    with refused("partials: not those in question"):
        run.reveal(*first, before=(run.claimed,))
    run.reveal(*first)
    run.pick(3)
    second = run.parts[12:16]
    for wrong in ((), first[:-1], (*first, 0), first[::-1], second):
        with refused("partials: not those in question"):
            run.reveal(*second, before=wrong)
    with refused("partials: another result"):
        run.reveal(*run.parts[16:20], before=first)
    run.reveal(*second, before=first)


def test_a_trainer_that_shows_no_parts_loses(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    for name, args in {
        "reveal": ([digest("child")] * 2, []),
        "reveal_leaf": (b"", []),
        "post_trace": (digest("place"), digest("root")),
    }.items():
        with refused("game: not owed"):
            stage.trainer.game.send(name, run.game, *args)
    stage.chain.advance(10_000)
    stage.stranger.game.timeout(run.game)
    assert run.phase == Phase.CONVICTED


# Picks and conclusions


def test_parts_are_concluded_and_not_picked(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.reveal(3, 4)
    with refused("descent: at the leaves"):
        run.pick(0)


def test_only_what_was_revealed_is_picked(stage: Stage) -> None:
    run = RunGame(stage, parts_of(70))
    run.reveal(*run.below(7, 0))
    for child in (18, 31, 32, 2**256 - 1):
        with refused("descent: no such child"):
            run.pick(child)
    with refused("descent: not the node in question"):
        stage.challenger.game.pick(run.game, parts_digest(run.parts[:18]), 0)


def test_only_parts_are_concluded(stage: Stage) -> None:
    run = RunGame(stage, parts_of(70))
    first = run.below(7, 0)
    run.reveal(*first)
    with refused("partials: not at the parts"):
        run.conclude(0, first)


def test_a_conclusion_is_about_a_part_that_was_revealed(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.reveal(3, 4)
    for wrong in ((), (3,), (4, 3), (3, 5)):
        with refused("partials: not those in question"):
            run.conclude(0, wrong)
    for child in (2, 31, 2**256 - 1):
        with refused("partials: no such part"):
            run.conclude(child, (3, 4))
    move = part_conclusion(0, (3, 4))
    with refused("game: another node"):
        stage.challenger.game.conclude_part(run.game, replace(move, node=replace(NODE, index=NODE.index + 1)))
    stage.referee.send("expect_part", 11, 5)
    with refused("referee: another part"):
        run.conclude(0, (3, 4))
    stage.referee.send("expect_part", 11, 1)
    run.conclude(1, (3, 4))


def test_another_demand_ends_the_descent_into_a_run(stage: Stage) -> None:
    run = RunGame(stage, (3, 4))
    run.reveal(3, 4)
    stage.challenger.game.demand_state(run.game)
    stage.trainer.game.reveal(run.game, *reveal_of(RUN.states[2], stage.game.game(run.game).descent))
    with refused("partials: no run under way"):
        run.conclude(0, (3, 4))


def test_before_a_run_is_demanded_no_part_is_concluded(stage: Stage) -> None:
    game = stage.traced(stage.posted(RUN), RUN)
    with refused("partials: no run under way"):
        stage.challenger.game.conclude_part(game, part_conclusion(0, (3, 4)))


# A step shown together with a demand for its trace


def blind(stage: Stage, job: int) -> int:
    """A blind game whose history was revealed."""
    game = stage.challenger.game.open_blind(job, 0)
    stage.trainer.game.reveal(game, *reveal_of(RUN.histories[0], stage.game.game(game).descent))
    return game


def test_with_the_step_the_trace_can_be_demanded(stage: Stage) -> None:
    game = blind(stage, stage.posted(RUN))
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1), descend=True))
    view = stage.game.game(game)
    assert (view.phase, view.descended) == (Phase.TRACE, Tree.HISTORY | Tree.TRACE)
    shown = stage.now()
    stage.chain.next_block_at(shown + 300)
    root = RUN.trace(1).root
    demanded = stage.events(stage.trainer.game.post_trace(game, root))[1]
    assert isinstance(demanded, Demanded)
    assert (demanded.tree, demanded.root, demanded.count) == (Tree.TRACE, root, RUN.tensors)
    view = stage.game.game(game)
    assert (view.phase, view.trainer_clock) == (Phase.CHILDREN, view.trainer_clock)
    # The trainer's clock goes on: two moves in a row.
    stage.chain.next_block_at(shown + 500)
    stage.trainer.game.reveal(game, *reveal_of(RUN.trace(1), view.descent))
    after = stage.game.game(game)
    assert (after.phase, after.trainer_clock) == (Phase.CHALLENGER, view.trainer_clock - 200)
    with refused("game: tree already descended"):
        stage.challenger.game.demand_trace(game)


def test_where_the_trace_root_is_known_its_descendants_are_owed_at_once(stage: Stage) -> None:
    job = stage.posted(RUN)
    stage.traced(job, RUN)
    game = blind(stage, job)
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1), descend=True))
    view = stage.game.game(game)
    assert (view.phase, view.descent.node, view.descent.tree) == (Phase.CHILDREN, RUN.trace(1).root, Tree.TRACE)


@pytest.mark.parametrize("known", [False, True])
def test_a_trace_of_one_tensor_is_not_demanded_with_the_step(stage: Stage, known: bool) -> None:
    """The trainer could not answer."""
    run = TrainerRun(tensors=1)
    job = stage.posted(run)
    if known:
        stage.traced(job, run)
    game = stage.challenger.game.open_blind(job, 0)
    stage.trainer.game.reveal(game, *reveal_of(run.histories[0], stage.game.game(game).descent))
    with refused("descent: nothing to reveal"):
        stage.challenger.game.show_step(game, ShowStep(run.opening(0, 1), descend=True))
    stage.challenger.game.show_step(game, ShowStep(run.opening(0, 1)))
