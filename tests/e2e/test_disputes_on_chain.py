"""Whole disputes about real training steps on the real contracts: a sample of the campaign in benchmarks/disputes.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks._execution import CHANGES, Execution, Forgery, Place, draw, incoherent, places
from benchmarks._hostile import STYLES, HostileChallenger
from benchmarks._world import PATHS, World, world
from benchmarks.disputes import completed, digits_runs, try_forgery
from benchmarks.gas import DISPUTE_TARGET, SIZE_TARGET, VERDICT_TARGET
from bisection.boundary import state_tensors
from bisection.game import Outcome
from bisection.program import Program
from contracts.build import artifact, names
from sims import digits
from tests.support.programs import counting_program
from trainer.executor import Executor

pytestmark = pytest.mark.xdist_group("disputes")

STEPS = 12
KINDS = ("input", "map", "gather", "reduce", "dot", "output")  # all that the digits program has


@pytest.fixture(scope="module")
def stage() -> Iterator[World]:
    with world("tester") as on_tester:
        yield on_tester


@pytest.fixture(scope="module")
def runs() -> Iterator[tuple[Execution, Execution]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small operations: threads would only wait for each other
    yield digits_runs(digits.job(0)[1], STEPS)
    torch.set_num_threads(threads)


def first_forgery(honest: Execution, choice: list[Place], rng: np.random.Generator, changes: list[str]) -> Forgery:
    """The first change, of places and kinds in random order, that a committed state shows."""
    for _ in range(200):
        place, change = choice[int(rng.integers(len(choice)))], changes[int(rng.integers(len(changes)))]
        if (forgery := draw(honest, place, change, rng)) is not None:
            return forgery
    raise AssertionError("no change of these places reaches the state")


def places_of(program: Program, kind: str) -> list[Place]:
    if kind == "output":
        return [place for place in places(program) if place.state]
    return [p for p in places(program) if not p.state and kind == program.nodes[program.producer[p.index]].NAME]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_wrong_element_is_found_and_convicted(stage: World, runs: tuple[Execution, Execution], kind: str, path: str) -> None:
    """At its step, node and element, however well its trainer plays; within the gas that a dispute may cost."""
    rng = np.random.default_rng(KINDS.index(kind))
    forgery = first_forgery(runs[0], places_of(runs[0].program, kind), rng, list(CHANGES))
    trial = try_forgery(stage, runs[0], forgery, path, rng)
    assert trial.findings == ()
    assert forgery.kind == kind
    assert trial.dispute.verdict_gas <= VERDICT_TARGET
    if path == "fast":
        assert len(trial.dispute.transactions) == 4
        assert trial.dispute.gas <= DISPUTE_TARGET
    else:
        assert trial.fibs > 0


@pytest.mark.parametrize("path", PATHS)
def test_the_costliest_node_stays_within_its_gas(stage: World, runs: tuple[Execution, Execution], path: str) -> None:
    """The update of the largest weight matrix by AdamW: eight inputs, soft-float square root and division."""
    honest, program = runs[0], runs[0].program
    largest = max(range(len(program.state)), key=lambda i: program.state[i].count)
    weights = Place(False, state_tensors(program)[largest])
    trial = try_forgery(
        stage, honest, first_forgery(honest, [weights], np.random.default_rng(1), ["lowest bit"]), path, np.random.default_rng(1)
    )
    assert trial.findings == ()
    assert trial.dispute.verdict_gas <= VERDICT_TARGET
    assert path == "slow" or trial.dispute.gas <= DISPUTE_TARGET


def test_every_contract_fits_on_chain() -> None:
    assert {name: artifact(name).runtime_size for name in names() if artifact(name).runtime_size > SIZE_TARGET} == {}


def test_the_payload_of_a_nan_counts(stage: World, runs: tuple[Execution, Execution]) -> None:
    """A training that has diverged is still bound to its bits."""
    diverged = runs[1]
    rng = np.random.default_rng(5)
    forgery = first_forgery(diverged, [place for place in places(diverged.program) if place.state], rng, ["NaN payload"])
    assert try_forgery(stage, diverged, forgery, "fast", rng).findings == ()


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_scattered_sum_is_convicted(stage: World, path: str) -> None:
    """The one kind of node that the digits program lacks."""
    program, state, data = counting_program()
    honest = Execution.honest(Executor(program, data), state, data, STEPS)
    rng = np.random.default_rng(0)
    forgery = first_forgery(honest, places_of(program, "scatter_add"), rng, ["lowest bit"])
    assert try_forgery(stage, honest, forgery, path, rng).findings == ()


@pytest.mark.parametrize("seed", range(2))
def test_claims_that_do_not_hang_together_are_convicted(stage: World, runs: tuple[Execution, Execution], seed: int) -> None:
    """A trace and a state with several wrong elements, and a data service that tells the truth, nothing or lies."""
    rng = np.random.default_rng(seed)
    forgery = next(drawn for drawn in iter(lambda: incoherent(runs[0], rng), 0) if isinstance(drawn, Forgery))
    assert try_forgery(stage, runs[0], forgery, None, rng).findings == ()


def test_an_honest_trainer_outlasts_every_hostile_challenger(stage: World, runs: tuple[Execution, Execution]) -> None:
    """True witnesses, forged ones, demands for everything, silence: all acquitted, and the trainer is paid in the end."""
    honest = runs[0]
    job = stage.post(honest)
    challenger = HostileChallenger(stage, job, honest, np.random.default_rng(3), forgeries=6)
    for style, kind in zip(STYLES, ("output", "map", "dot", "input"), strict=True):
        challenge = challenger.play(style, kind)
        assert challenge.findings == []
        assert challenge.outcome == Outcome.ACQUITTED
    assert completed(stage, job) == []
