"""Fifty games at once in one process, as trainer and as challenger: none is lost by the honest side.

The deep versions have 50 games, those of ``make test`` a few. Blocks come when the test says so.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bisection.agent import Nothing
from bisection.trace import Trace
from contracts.events import Refuted, TracePosted
from contracts.jobs import JobStatus
from tests.e2e.anvil import require_anvil
from tests.support.arena import ETHER, PARAMETERS, Arena, Killed, Party, TheChallenger, TheTrainer, arena
from tests.support.copycat import Copycat
from tests.support.lies import COUNTING, LONG, SEGMENT, Fabricator, Garbler, Misstated, run_of
from tests.support.model_chain import HonestService
from tests.support.nuisance import STYLES, FalseGame, Nuisance
from tests.support.rpc import Proxy, http_server

pytestmark = [pytest.mark.xdist_group("agents"), pytest.mark.timeout(600)]

CHALLENGERS_MOVES = {
    *("commit", "open_step", "open_blind", "show_step", "demand_trace", "demand_state", "demand_tensor", "demand_run", "pick"),
    *("refute", "conclude_boundary", "conclude_element", "conclude_part", "timeout", "reclaim"),
}
TRAINERS_MOVES = {"post_trace", "reveal", "timeout"}
SIZES = [pytest.param(4, id="few"), pytest.param(50, id="50", marks=pytest.mark.deep)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Arena]:
    require_anvil()
    with arena(tmp_path) as made:
        yield made


def tell(stage: Arena, party: Party, rounds: int, started: float) -> None:
    """What it took, for those who run the tests with --log-cli-level=INFO."""
    moves, calls = len(party.sender.sent), party.wire.asked.total()
    logging.getLogger(__name__).info(
        f"{len(stage.games())} games, {rounds} blocks, {moves} transactions, {time.monotonic() - started:.1f} s, "
        f"{calls} calls: {calls / max(moves, 1):.1f} a transaction"
    )


def require_one_answer_each(stage: Arena, *parties: Party) -> None:
    """Nothing that these parties broadcast was doubled or contradicted, and nothing of it failed."""
    for party in parties:
        assert party.wire.contradictions() == []
        mined = stage.transactions(party.address)
        assert all(transaction["status"] == 1 for transaction in mined)
        deeds = Counter((transaction["to"], bytes(transaction["input"])) for transaction in mined)
        assert max(deeds.values()) == 1
        answers = [entry.place for entry in party.journal.mined(0) if entry.place is not None]
        assert len(answers) == len(set(answers)) and party.journal.sent() == []


def false_games(stage: Arena, trainer: TheTrainer, games: int) -> list[Nuisance]:
    """Hostile challengers with so many games between them, about several segments of several jobs."""
    run = run_of(2)
    jobs = stage.post(trainer, [run] * -(-games // 10))
    nuisances = [stage.party(Nuisance) for _ in range(5)]
    for first, nuisance in enumerate(nuisances):
        for i in range(first, games, len(nuisances)):
            job, segment = divmod(i // len(nuisances), 2)
            nuisance.false_games.append(FalseGame((jobs[job], segment), run[segment], STYLES[i % len(STYLES)], i))
    return nuisances


def lies(stage: Arena, liar: TheTrainer, challenger: TheChallenger, games: int) -> list[int]:
    """Jobs of two segments with a lie each, in the first or the second, that the challenger is to find; their numbers."""
    runs = [run_of(2, lie=i % (2 * SEGMENT), seed=i) for i in range(games)]
    jobs = stage.post(liar, runs)
    places = [(job, i % (2 * SEGMENT) // SEGMENT) for i, job in enumerate(jobs)]
    honest = run_of(2)
    challenger.traces = {place: honest[place[1]] for place in places}
    withheld = set(places[::2])
    challenger.served = lambda place: Nothing() if place in withheld else HonestService(liar.traces[place])
    return jobs


@pytest.mark.parametrize("games", SIZES)
def test_an_honest_trainer_wins_every_game_against_hostile_challengers(stage: Arena, games: int) -> None:
    trainer = stage.party(TheTrainer)
    nuisances = false_games(stage, trainer, games)
    started = time.monotonic()
    trainer.wire.asked.clear()
    rounds = stage.finish(trainer, *nuisances)
    tell(stage, trainer, rounds, started)
    assert stage.phases() == {"ACQUITTED": games} and not trainer.failures
    require_one_answer_each(stage, trainer)


@pytest.mark.parametrize("games", SIZES)
def test_an_honest_challenger_convicts_every_lie(stage: Arena, games: int) -> None:
    """Every other trainer withholds all its data."""
    liar, challenger = stage.party(TheTrainer), stage.party(TheChallenger)
    jobs = lies(stage, liar, challenger, games)
    started = time.monotonic()
    rounds = stage.finish(liar, challenger)
    tell(stage, challenger, rounds, started)
    assert stage.phases() == {"CONVICTED": games} and not challenger.failures
    assert {stage.looking.registry.job(job).status for job in jobs} == {JobStatus.SLASHED}
    require_one_answer_each(stage, challenger)


@pytest.mark.parametrize("games", SIZES)
def test_an_honest_challenger_refutes_all_garbage(stage: Arena, games: int) -> None:
    """Every other trainer withholds all its data, and then reveals garbage of the history, of the trace or of a tensor."""
    garbler, challenger = stage.party(Garbler), stage.party(TheChallenger)
    jobs = lies(stage, garbler, challenger, games)
    started = time.monotonic()
    rounds = stage.finish(garbler, challenger)
    tell(stage, challenger, rounds, started)
    assert stage.phases() == {"CONVICTED": games} and not challenger.failures
    assert {stage.looking.registry.job(job).status for job in jobs} == {JobStatus.SLASHED}
    refuted = [event.game for event in stage.events() if isinstance(event, Refuted)]
    assert sorted(stage.looking.game.game(game).job for game in refuted) == jobs[::2]
    require_one_answer_each(stage, challenger)


def test_games_in_which_nothing_happens_cost_no_calls(stage: Arena) -> None:
    """A look at the chain asks once for each job and for the block, not for each game."""
    calls = []
    for count in (1, 4):
        trainer, run = stage.party(TheTrainer), run_of(2)
        (job,) = stage.post(trainer, [run])
        hostile = [stage.party(Nuisance) for _ in range(count)]
        for nuisance in hostile:
            nuisance.false_games = [FalseGame((job, segment), run[segment], "stall", 0) for segment in range(2)]
        stage.rounds(6, trainer, *hostile)
        trainer.wire.asked.clear()
        trainer.tick()
        calls.append(trainer.wire.asked.total())
    assert len(stage.games()) == 10 and calls[0] == calls[1] <= 15


# Processes that are killed


class Reaper:
    """Kills a process twice at each transaction: before it is broadcast, and before anybody knows that it was."""

    def __init__(self) -> None:
        self._deaths: Counter[tuple[bytes, bool]] = Counter()

    def __call__(self, raw: bytes, broadcast: bool) -> None:
        self._deaths[raw, broadcast] += 1
        if self._deaths[raw, broadcast] == 1:
            raise Killed


class HistoryAlone(Nothing):
    """A data service that shows the history and nothing else."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def history(self) -> Sequence[bytes]:  # type: ignore[override]
        return self._trace.history().levels[0]


def test_a_challenger_that_is_killed_at_every_kind_of_move_goes_on(stage: Arena) -> None:
    liar, fabricator, silent = stage.party(TheTrainer), stage.party(Fabricator), stage.party(TheTrainer)
    garbler, challenger, rival = stage.party(Garbler), stage.party(TheChallenger), stage.party(TheChallenger)
    program, state, data = COUNTING
    withheld, served, misstated = stage.post(liar, [run_of(1, 2), run_of(1, 1), [Misstated(program, state, data, SEGMENT)]])
    (long,) = stage.post(fabricator, [run_of(1, 3, job=LONG)])
    (garbled,) = stage.post(garbler, [run_of(1, 2)])
    left, contested = stage.post(silent, [run_of(1, 0), run_of(1, 0, seed=1)])
    honest = {job: run_of(1)[0] for job in (withheld, served, misstated, garbled, left, contested)} | {long: run_of(1, job=LONG)[0]}
    challenger.traces = {(job, 0): trace for job, trace in honest.items()}
    challenger.served = lambda place: HistoryAlone(liar.traces[place]) if place == (served, 0) else Nothing()
    rival.traces = {(contested, 0): honest[contested]}
    challenger.wire.doom = Reaper()
    stage.finish(liar, fabricator, garbler, rival, challenger)
    challenger.sender.recover()
    names = Counter(entry.name for entry in challenger.journal.mined(0))
    assert names.keys() >= CHALLENGERS_MOVES
    assert challenger.restarts == 2 * names.total() and not challenger.failures
    phases = stage.phases()
    assert phases == {"CONVICTED": 7, "CANCELLED": 1}
    require_one_answer_each(stage, challenger)


def test_a_trainer_that_is_killed_at_every_kind_of_move_goes_on(stage: Arena) -> None:
    trainer, nuisance, silent = stage.party(TheTrainer), stage.party(Nuisance), stage.party(Nuisance)
    run, long = run_of(1), run_of(1, job=LONG)
    job, long_job = stage.post(trainer, [run, long])
    nuisance.false_games = [FalseGame((job, 0), run[0], style, seed) for seed, style in enumerate(("conclude", "wander"))]
    nuisance.false_games += [FalseGame((long_job, 0), long[0], "wander", 0)]
    silent.false_games = [FalseGame((job, 0), run[0], "stall", 3)]
    posting = len(trainer.journal.mined(0))
    trainer.wire.doom = Reaper()
    stage.finish(trainer, nuisance, silent)
    trainer.sender.recover()
    names = Counter(entry.name for entry in trainer.journal.mined(0))
    assert names.keys() >= TRAINERS_MOVES
    assert trainer.restarts == 2 * (names.total() - posting) and not trainer.failures
    assert stage.phases() == {"ACQUITTED": 4}
    require_one_answer_each(stage, trainer)


# Opponents that read the pool


@pytest.mark.parametrize("games", SIZES)
def test_who_copies_every_move_for_higher_fees_is_not_rewarded(stage: Arena, games: int) -> None:
    """Openings that were committed to, the moves after them and the verdicts; the copies come first in every block."""
    liar, challenger, copycat = stage.party(TheTrainer), stage.party(TheChallenger), stage.party(Copycat)
    jobs = lies(stage, liar, challenger, games)
    challenger.served = lambda place: HonestService(liar.traces[place])
    copycat.victim = challenger.address
    started = time.monotonic()
    rounds = stage.finish(liar, challenger, copycat)
    tell(stage, challenger, rounds, started)
    assert {stage.looking.registry.job(job).status for job in jobs} == {JobStatus.SLASHED}
    assert copycat.copied.keys() >= {"commit", "open_step", "conclude_element"}
    reward = 2 * ETHER * PARAMETERS.reward_share // 10_000
    assert stage.looking.registry.credit(challenger.address) == games * reward
    assert stage.looking.registry.credit(copycat.address) == 0


# Nodes that fail, and a chain that goes back


@pytest.mark.parametrize("games", SIZES)
def test_over_a_node_that_fails_a_fifth_of_its_calls_nothing_is_lost(stage: Arena, games: int) -> None:
    """Half of the faults lose the answer only: the node has acted."""
    proxies = [Proxy(stage.url, rate=0.2, seed=seed) for seed in range(2)]
    with http_server(proxies[0]) as first, http_server(proxies[1]) as second:
        trainer, challenger = stage.party(TheTrainer, first), stage.party(TheChallenger, second)
        liar = stage.party(TheTrainer)
        nuisances = false_games(stage, trainer, games // 2)
        jobs = lies(stage, liar, challenger, games // 2)
        started = time.monotonic()
        rounds = stage.finish(trainer, challenger, liar, *nuisances)
    for party in (trainer, challenger):
        tell(stage, party, rounds, started)
        assert not party.failures
        require_one_answer_each(stage, party)
    assert stage.phases() == {"ACQUITTED": games // 2, "CONVICTED": games // 2}
    assert {stage.looking.registry.job(job).status for job in jobs} == {JobStatus.SLASHED}
    assert all(proxy.failed.total() > 0.15 * proxy.asked.total() for proxy in proxies)


@pytest.mark.parametrize("games", SIZES)
def test_moves_of_a_branch_that_is_gone_land_on_no_other_state(stage: Arena, games: int) -> None:
    """Five blocks are replaced in mid-game, three times in the deep version; then the hostile are first, and choose otherwise."""
    trainer, liar, challenger = stage.party(TheTrainer), stage.party(TheTrainer), stage.party(TheChallenger)
    nuisances = false_games(stage, trainer, games // 2)
    jobs = lies(stage, liar, challenger, games // 2)
    right = {(place, step): trace.tensors(step).root for place, trace in trainer.traces.items() for step in range(SEGMENT)}
    started = time.monotonic()
    for seed in range(1 if games < 50 else 3):
        stage.rounds(8, trainer, liar, challenger, *nuisances)
        stage.rollback(5)
        for nuisance in nuisances:
            nuisance.forget()
            nuisance.false_games = [replace(false, seed=false.seed + 100 * (seed + 1)) for false in reversed(nuisance.false_games)]
        stage.rounds(1, *nuisances)
    rounds = stage.finish(trainer, liar, challenger, *nuisances)
    tell(stage, trainer, rounds, started)
    posted = [event for event in stage.events() if isinstance(event, TracePosted) and (event.job, event.segment) in trainer.traces]
    assert posted and all(event.root == right[(event.job, event.segment), event.step] for event in posted)
    outcomes = {job: stage.looking.registry.job(job).status for job in jobs}
    assert set(outcomes.values()) == {JobStatus.SLASHED}
    assert not stage.phases().keys() - {"ACQUITTED", "CONVICTED", "CANCELLED"}
    assert all(stage.looking.registry.job(job).status.disputable for job, _ in trainer.traces)
    assert trainer.wire.contradictions() == challenger.wire.contradictions() == []


def test_a_trace_is_not_posted_for_another_step_that_a_reorganisation_has_put_in_its_place(stage: Arena) -> None:
    """The hostile opens a game of the same number about another step, before the trainer looks again."""
    trainer, hostile = stage.party(TheTrainer), stage.party(Nuisance)
    run = run_of(1)
    (job,) = stage.post(trainer, [run])
    choices = [FalseGame((job, 0), run[0], "conclude", seed) for seed in range(20)]
    about = {choice.opening(choice.rng(None)).step: choice for choice in choices}
    hostile.false_games = [about[0]]
    stage.rounds(4)
    stage.until(lambda: bool(traces_posted(stage)), trainer, hostile)
    stage.rollback(4)
    assert stage.games() == []
    hostile.forget()
    hostile.false_games = [about[2]]
    stage.until(lambda: stage.games() == [1], hostile)
    stage.finish(trainer, hostile)
    assert [(event.step, event.root) for event in traces_posted(stage)] == [(2, run[0].tensors(2).root)]
    assert stage.phases() == {"ACQUITTED": 1}


def traces_posted(stage: Arena) -> list[TracePosted]:
    return [event for event in stage.events() if isinstance(event, TracePosted)]
