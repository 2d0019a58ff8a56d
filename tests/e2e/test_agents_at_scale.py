"""Fifty games at once in one process, as trainer and as challenger: none is lost by the honest side.

The deep versions have 50 games, those of ``make test`` a few. Blocks come when the test says so.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisection.agent import Nothing
from bisection.trace import MemoryTrace
from contracts.jobs import JobStatus
from tests.e2e.anvil import require_anvil
from tests.support.arena import Arena, Party, TheChallenger, TheTrainer, arena
from tests.support.model_chain import HonestService
from tests.support.nuisance import STYLES, FalseGame, Nuisance
from tests.support.programs import counting_program

pytestmark = [pytest.mark.xdist_group("agents"), pytest.mark.timeout(600)]

SEGMENT = 4
PROGRAM, STATE, DATA = counting_program()
SIZES = [pytest.param(8, id="few"), pytest.param(50, id="50", marks=pytest.mark.deep)]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Arena]:
    require_anvil()
    with arena(tmp_path) as made:
        yield made


def run_of(segments: int, lie: int | None = None, seed: int = 0) -> list[MemoryTrace]:
    """The traces of all segments of a run that falsifies one number at step ``lie``, if any."""
    traces: list[MemoryTrace] = []
    state: Mapping[str, Any] = STATE
    for segment in range(segments):
        step = None if lie is None else lie - segment * SEGMENT
        tamper = {step: tampering(seed)} if step is not None and 0 <= step < SEGMENT else None
        traces.append(MemoryTrace(PROGRAM, state, DATA, SEGMENT, tamper))
        state = traces[-1]._states[-1]
    return traces


def tampering(seed: int) -> Any:
    """A lie in one weight."""
    node = PROGRAM.producer[next(n for n in reversed(PROGRAM.nodes) if n.NAME == "output" and n.index == 1).inputs[0].tensor]

    def tamper(number: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
        if number == node:
            outputs = [outputs[0].copy(), *outputs[1:]]
            outputs[0][seed % outputs[0].size] += np.float32(1)
        return outputs

    return tamper


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
    jobs = stage.post(trainer, [run] * max(1, games // 10))
    nuisances = [stage.party(Nuisance) for _ in range(5)]
    for first, nuisance in enumerate(nuisances):
        nuisance.false_games = [
            FalseGame((jobs[i % len(jobs)], i // len(jobs) % 2), run[i // len(jobs) % 2], STYLES[i % len(STYLES)], i)
            for i in range(first, games, len(nuisances))
        ]
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
