"""Games of several jobs side by side: each is about its own, and settles its own (docs/protocol.md, "A game")."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bisection.moves import ShowStep
from contracts.bindings import Phase
from contracts.events import Acquitted, Convicted, GameCancelled, JobSlashed, TracePosted
from contracts.jobs import JobStatus
from tests.contracts.descending import Descending
from tests.contracts.stage import PARAMETERS, TERMS, Stage, TrainerRun, element_witness, refused

RUNS = tuple(TrainerRun(name=name, tensors=tensors) for name, tensors in (("first", 40), ("second", 50), ("third", 60)))
RUN = RUNS[-1]
SEGMENT, STEP = 2, 1  # job 3, attempt 1: three different numbers
ROOTS = RUN.roots(SEGMENT, STEP)
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000


@dataclass
class Scene:
    """Three jobs of different runs, a blind game on each of the others, and one on the last whose trace is posted."""

    stage: Stage
    job: int
    game: int

    def judged(self, claimed: int, correct: int) -> list[object]:
        """Have an element judged; what the transaction told but for the judgement."""
        self.stage.referee.send("expect", ROOTS)
        self.stage.referee.send("rule", False, claimed, correct)
        _, *told = self.stage.events(self.stage.challenger.game.conclude_element(self.game, ROOTS, element_witness()))
        return list(told)

    @property
    def live_games(self) -> list[int]:
        return [self.stage.registry.job(job).live_games for job in (1, 2, 3)]


@pytest.fixture
def scene(stage: Stage) -> Scene:
    job = [stage.posted(run) for run in RUNS][-1]
    for other in (1, 2):
        stage.watcher.opens_blind(other, 0)
    game = stage.challenger.opens_blind(job, SEGMENT)
    Descending(stage, game, RUN.histories[SEGMENT].root).answer(RUN.histories[SEGMENT])
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(SEGMENT, STEP), descend=True))
    trace = RUN.trace(SEGMENT * RUN.spec.segment_length + STEP)
    posted = stage.events(stage.trainer.game.post_trace(game, trace.root, bytes(64 * 32)))[0]
    assert isinstance(posted, TracePosted)
    assert (posted.game, posted.job, posted.attempt, posted.segment, posted.step) == (game, job, 1, SEGMENT, STEP)
    return Scene(stage, job, game)


def test_an_acquittal_settles_a_game_of_its_own_job(scene: Scene) -> None:
    (told,) = scene.judged(7, 7)
    assert isinstance(told, Acquitted)
    assert (told.game, told.job) == (scene.game, scene.job)
    assert scene.live_games == [1, 1, 0]
    assert scene.stage.game.credit(scene.stage.trainer.address) == PARAMETERS.bond


@pytest.mark.parametrize("correct", [6, 8])
def test_a_conviction_ends_its_own_job(scene: Scene, correct: int) -> None:
    slashed, _, told = scene.judged(7, correct)
    assert isinstance(slashed, JobSlashed) and isinstance(told, Convicted)
    assert (slashed.job, slashed.attempt, slashed.beneficiary) == (scene.job, 1, scene.stage.challenger.address)
    assert (told.game, told.job, told.by_timeout) == (scene.game, scene.job, False)
    states = [scene.stage.registry.job(job).status for job in (1, 2, 3)]
    assert states == [JobStatus.VERIFICATION, JobStatus.VERIFICATION, JobStatus.SLASHED]
    assert scene.stage.registry.credit(scene.stage.challenger.address) == REWARD


def test_a_bond_is_reclaimed_when_the_attempt_at_its_own_job_is_over(scene: Scene) -> None:
    stage = scene.stage
    left, live = stage.stranger.opens_blind(scene.job, 0), stage.stranger.opens_blind(1, 0)
    scene.judged(7, 8)
    (told,) = stage.events(stage.requester.game.reclaim(left))
    assert isinstance(told, GameCancelled)
    assert (told.game, told.job) == (left, scene.job)
    with refused("game: attempt is not over"):
        stage.requester.game.reclaim(live)


def test_a_reveal_is_refuted_in_a_game_of_its_own_job(scene: Scene) -> None:
    line = Descending(scene.stage, scene.game, ROOTS.trace_root).revealed(bytes(64 * 32))
    line.refute()
    assert scene.stage.registry.job(scene.job).status == JobStatus.SLASHED
    assert scene.live_games[:2] == [1, 1]


def test_time_is_called_in_a_game_of_its_own_job(scene: Scene) -> None:
    scene.stage.chain.advance(PARAMETERS.challenger_clock + 1)
    (told,) = scene.stage.events(scene.stage.stranger.game.timeout(scene.game))
    assert isinstance(told, Acquitted)
    assert (told.game, told.job, told.by_timeout) == (scene.game, scene.job, True)
    assert (scene.stage.game.game(scene.game).phase, scene.live_games) == (Phase.ACQUITTED, [1, 1, 0])
