"""What is revealed is not what was asked for, or not by whom: scenario 35 (docs/attacks.md).

Nobody but the challenger checks a reveal. So whatever is wrong with it must convict, in every tree and at every round, and nothing
that is right may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks._hostile import Garbling
from bisection.agent import Challenger, Nothing
from bisection.descent import Descent, parts_payload
from bisection.game import ShowStep
from bisection.merkle import Tree, blob_tree
from bisection.witness import RunPlace
from contracts.bindings import Phase
from contracts.events import Convicted, Refuted
from contracts.jobs import JobStatus
from sims.chain.synthetic import Scale, SyntheticTrace
from sims.demo import Withholding
from tests.contracts.descending import Descending, leaf_of, partials, refutation, shown, word
from tests.contracts.stage import NODE, PARAMETERS, TERMS, Stage, TrainerRun, digest, refused, run_demand
from tests.scenarios.played import Attacker, Fortunes, HandPlayed, overtaken
from tests.support.liar import Liar, balanced
from tests.support.market import PARAMETERS as MARKET
from tests.support.market import TERMS as OFFER
from tests.support.market import Market, lying

RUN = TrainerRun(100, 100, tensors=100, components=100, name="wide")  # history, trace and state take two reveals each
TENSOR, CONTENT = 5, bytes(range(256)) * 70  # two reveals, and the bytes of a leaf
TRACE = Tree([blob_tree(CONTENT).root if i == TENSOR else digest("tensor", i) for i in range(RUN.tensors)])
ROOTS = replace(RUN.roots(0, 1), trace_root=TRACE.root)
PARTS = tuple(range(-50, 50))  # two reveals
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000
Payload = Callable[[Descent], bytes]
"""What an honest trainer shows of the node in question."""


# Demands of every tree, under a referee that says what it is told


def of_history(stage: Stage, game: int) -> tuple[bytes, Payload]:
    return RUN.histories[0].root, lambda d: shown(RUN.histories[0], d)


def of_trace(stage: Stage, game: int) -> tuple[bytes, Payload]:
    step_shown(stage, game)
    stage.challenger.game.demand_trace(game, ROOTS)
    return TRACE.root, lambda d: shown(TRACE, d)


def of_state(stage: Stage, game: int) -> tuple[bytes, Payload]:
    step_shown(stage, game)
    stage.challenger.game.demand_state(game, ROOTS)
    return RUN.states[2].root, lambda d: shown(RUN.states[2], d)


def of_tensor(stage: Stage, game: int) -> tuple[bytes, Payload]:
    step_shown(stage, game)
    stage.referee.send("place", TENSOR, len(CONTENT))
    tree = blob_tree(CONTENT)
    stage.challenger.game.demand_tensor(game, ROOTS, NODE, 0, tree.root, TRACE.prove(TENSOR))
    return tree.root, lambda d: shown(tree, d) if d.height else leaf_of(CONTENT, d.position)


def of_run(stage: Stage, game: int, maximum: bool = False) -> tuple[bytes, Payload]:
    step_shown(stage, game)
    claimed = max(PARTS) if maximum else sum(PARTS)
    stage.referee.send("cut", RunPlace(claimed, TENSOR, len(PARTS), maximum))
    stage.challenger.game.demand_run(game, ROOTS, run_demand())
    return word(claimed), lambda d: parts_payload(partials(PARTS, d))


def of_maximum(stage: Stage, game: int) -> tuple[bytes, Payload]:
    return of_run(stage, game, maximum=True)


def step_shown(stage: Stage, game: int) -> None:
    """Have the history revealed, point at the step, and have its trace root posted."""
    Descending(stage, game, RUN.histories[0].root).reveal(first_digests(RUN.histories[0]))
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    stage.trainer.game.post_trace(game, TRACE.root)


def first_digests(tree: Tree) -> bytes:
    """What the first reveal of a tree of 65 to 256 leaves shows."""
    return b"".join(tree.node(tree.depth - 4, at) for at in range(16))


Demand = Callable[[Stage, int], tuple[bytes, Payload]]
ROUNDS: dict[Demand, int] = {of_history: 2, of_trace: 2, of_state: 2, of_tensor: 3, of_run: 2, of_maximum: 2}


def begun(stage: Stage, demand: Demand) -> tuple[Descending, Payload]:
    """A game in which a tree has just been demanded, on a job of its own."""
    job = stage.posted(RUN, segments=1)
    game = stage.challenger.opens_blind(job, 0)
    root, payload = demand(stage, game)
    return Descending(stage, game, root), payload


def false_payloads(true: bytes, d: Descent) -> Iterator[bytes]:
    """Noise, nothing, and the truth but for one byte."""
    rng = np.random.default_rng(len(true) + d.height)
    yield rng.bytes(len(true))
    yield bytes(len(true)) if any(true) else bytes([1]) * len(true)
    if d.takes_max:
        # The greatest partial result alone is bound: another that is wrong, but no greater, is picked and judged.
        yield b"\x7f" + true[1:]
        yield true[:-8] + word(-(2**40))[-8:]
        return
    for at in (0, len(true) - 1, *rng.integers(len(true), size=3)):
        yield true[:at] + bytes([true[at] ^ 1 << int(rng.integers(8))]) + true[at + 1 :]


def last_child(d: Descent) -> int:
    """The last descendant that there is."""
    return d.within - 1


@pytest.mark.parametrize("demand", ROUNDS, ids=lambda demand: demand.__name__)
def test_scenario_35_whatever_is_wrong_with_a_reveal_convicts_and_nothing_that_is_right(stage: Stage, demand: Demand) -> None:
    """In every tree, at every round: noise, zeros, one bit of one byte."""
    line, payload = begun(stage, demand)
    for number in range(1, ROUNDS[demand] + 1):
        asked, mark = line.d, stage.chain.snapshot()
        for false in false_payloads(payload(asked), asked):
            fortunes = Fortunes(stage)
            line.reveal(false)
            assert [type(event) for event in line.refute()][-1:] == [Convicted]
            assert stage.game.game(line.game).phase == Phase.CONVICTED
            assert fortunes.gain(stage.challenger) == REWARD + PARAMETERS.bond
            line.d = asked
            stage.chain.restore(mark)
            mark = stage.chain.snapshot()
        line.reveal(payload(asked))
        with refused("game: nothing to refute"):
            line.refute()
        if number < ROUNDS[demand]:
            line.pick(last_child(line.d))
    with refused("descent: at the leaves"):
        line.pick(0)


def test_scenario_35_a_refutation_tells_that_it_was_one(stage: Stage) -> None:
    """No element is judged: the event says why the trainer was convicted."""
    line, payload = begun(stage, of_history)
    line.reveal(bytes(len(payload(line.d))))
    assert any(isinstance(event, Refuted) for event in line.refute())


# False refutations


@pytest.mark.parametrize("demand", ROUNDS, ids=lambda demand: demand.__name__)
def test_scenario_35_who_refutes_what_is_right_gains_nothing_by_any_preimage(stage: Stage, demand: Demand) -> None:
    """With the truth, a lie put in its place, one payload for the other: refused. The clock runs on, and the bond is lost."""
    line, payload = begun(stage, demand)
    line.reveal(payload(line.d))
    fortunes, true = Fortunes(stage), refutation(line.d)
    with refused("game: nothing to refute"):
        stage.challenger.game.refute(line.game, true)
    for lie in (
        replace(true, below=bytes(len(true.below))),
        replace(true, above=true.below),
        replace(true, above=true.below, below=true.above),
        replace(true, picked=true.picked + 1),
        replace(true, trail=line.d.trail),
    ):
        with refused("game: another place"):
            stage.challenger.game.refute(line.game, lie)
    for actor in (stage.watcher, stage.trainer):
        with refused("game: not the challenger"):
            actor.game.refute(line.game, true)
    stage.chain.advance(PARAMETERS.challenger_clock)
    stage.stranger.game.timeout(line.game)
    assert (fortunes.gain(stage.challenger), fortunes.gain(stage.trainer)) == (0, PARAMETERS.bond)


def test_scenario_35_a_descent_that_is_over_is_refuted_no_more(stage: Stage) -> None:
    """What was shown of the history is past once the step is shown: its seal, which nothing has replaced yet, convicts nobody."""
    job = stage.posted(RUN, segments=1)
    game = stage.challenger.opens_blind(job, 0)
    history = Descending(stage, game, RUN.histories[0].root)
    history.answer(RUN.histories[0])
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    with refused("game: not the challenger's turn"):
        history.refute()
    stage.trainer.game.post_trace(game, TRACE.root)
    with refused("descent: none under way"):
        history.refute()


def test_scenario_35_what_was_picked_on_is_refuted_no_more(stage: Stage) -> None:
    """A challenger that overlooks garbage has the node that it picked shown, and nothing above it."""
    line, payload = begun(stage, of_trace)
    garbage = line.reveal(digest("not in the trace") + payload(line.d)[32:]).payload
    first = refutation(line.d)
    line.pick(1)
    with refused("game: not the challenger's turn"):
        stage.challenger.game.refute(line.game, first)
    assert line.d.above == garbage
    line.reveal(payload(line.d))
    with refused("game: another place"):
        stage.challenger.game.refute(line.game, first)
    with refused("game: nothing to refute"):
        line.refute()


# Answers of others


def test_scenario_35_nobody_answers_for_the_trainer(stage: Stage) -> None:
    """Neither the truth nor garbage, by nobody but the trainer of the attempt; nor with another game's or another job's trail."""
    line, payload = begun(stage, of_state)
    other, _ = begun(stage, of_state)
    true = line.d.trail, line.d.picked, payload(line.d)
    for actor in stage.actors:
        for answer in (true, (*true[:2], bytes(len(true[2])))):
            if actor is not stage.trainer:
                with refused("game: not what the trainer owes"):
                    actor.game.reveal(line.game, *answer)
    with refused("game: not what the trainer owes"):
        stage.trainer.game.reveal(line.game, other.d.trail, *true[1:])
    for length in (0, len(true[2]) - 1, len(true[2]) + 1, len(true[2]) + 32):
        with refused("game: wrong length"):
            stage.trainer.game.reveal(line.game, *true[:2], true[2].ljust(length, b"\0")[:length])
    stage.trainer.game.reveal(line.game, *true)
    with refused("game: not owed"):
        stage.trainer.game.reveal(line.game, *true)


def test_scenario_35_a_trainer_whose_every_answer_is_overtaken_defends_itself(market: Market, tmp_path: Path) -> None:
    """Somebody sends each of its answers first: none is accepted, and the honest trainer keeps job and bond."""
    job, before = market.open_job(tmp_path / "material", steps=6), market.balance("trainer")
    attacker = Attacker(market.senders["watcher"], {})
    with market.trainer(tmp_path / "trainer") as trainer:
        market.until(lambda: market.job(job).status == JobStatus.VERIFICATION, trainer)
    with (
        market.trainer(tmp_path / "trainer", served_of=Withholding) as trainer,
        market.challenger(tmp_path / "challenger", executor_of=lying(3)) as wrong,
        overtaken(market.senders["trainer"], attacker.copy),
    ):
        market.finish(trainer, wrong)
        trainer.tick()
    assert {"reveal", "post_trace"} <= set(market.sent("trainer"))
    assert attacker.through.keys() <= {"commit", "finalise", "timeout"}
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.balance("trainer") == before + market.job(job).bounty + MARKET.bond


# Agents, with the real referee

SMALL = Scale(steps=100, nodes=100, elements=1 << 14, length=1 << 15)  # every tree on the way takes two reveals
ANSWERS = 9  # history, trace (the first with its root), tensor and leaf, run


def disputed(market: Market, which: int, seed: int) -> tuple[int, bool]:
    """A game on the slow path whose trainer lies in one element, and in answer number ``which``; whether it came so far."""
    honest, trainer = SyntheticTrace(SMALL), SyntheticTrace(SMALL, lie=1)
    played = HandPlayed.synthetic(market, trainer)
    challenger: Challenger = played.challenger("challenger", honest, Nothing())
    chain = Garbling(played.chain("trainer"), np.random.default_rng(seed), which)
    liar = Liar(chain, trainer, lambda parts, value, maximum: balanced(parts, len(parts) * 3 // 5, value, maximum))
    game = opened(challenger)
    while challenger.play(game):
        liar.play(game)
    return game, chain.garbled


def opened(challenger: Challenger) -> int:
    game = challenger.open()
    assert game is not None
    return game


@pytest.mark.parametrize("which", range(ANSWERS + 1))
def test_scenario_35_an_agent_refutes_garbage_at_every_round_of_the_slow_path(market: Market, which: int) -> None:
    """The challenger's next move after it is the refutation; after the last answer there is none, and an element is judged."""
    mark = market.chain.snapshot()
    for seed in range(3):
        game, garbled = disputed(market, which, seed)
        assert garbled == (which < ANSWERS)
        assert market.sent("challenger")[-1] == ("refute" if garbled else "conclude_part")
        assert sum(name in ("reveal", "post_trace") for name in market.sent("trainer")) == min(which + 1, ANSWERS)
        assert market.looking.game.game(game).phase == Phase.CONVICTED
        assert market.looking.registry.credit(market.address("challenger")) == OFFER.stake * MARKET.reward_share // 10_000
        market.chain.restore(mark)
        mark = market.chain.snapshot()
        for sender in market.senders.values():
            sender.sent.clear()
