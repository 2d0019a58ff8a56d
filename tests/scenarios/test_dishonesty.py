"""Lazy trainers, withheld data and collusion, with real verdicts: scenarios 30 to 32 and 34 (docs/assurance.md, "Attacks")."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bisection.agent import Answers, Challenger, Defender, Nothing
from bisection.boundary import Array, state_roots, state_tensors, tensor_bytes, tensor_roots
from bisection.errors import TransactionFailed
from bisection.merkle import Tree
from bisection.nodes import Output
from bisection.trace import MemoryTrace, Trace
from challenger.node import ChallengerNode, SegmentVerdict
from contracts.bindings import Phase
from contracts.events import BoundaryJudged
from contracts.index import Index
from contracts.jobs import JobStatus
from sims import digits
from sims.cheats import CHEATS, CheatingExecutor, cheat
from tests.scenarios.played import HandPlayed
from tests.support.market import BOUNTY, PARAMETERS, TERMS, Diary, Market, honest_trace, lying
from tests.support.model_chain import HonestService, roots_of
from tests.support.programs import counting_program
from trainer.capture import Captured
from trainer.executor import Executor
from trainer.node import TrainerNode

REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000
STEPS = 6
PROGRAM, STATE, DATA = counting_program()
HONEST = honest_trace(STEPS)
FALSIFIED = 3  # the step at which trainers lie here


def play(market: Market, game: int, challenger: Challenger, *defenders: Defender) -> Phase:
    """Play a game to its end, or until nobody moves."""
    for _ in range(80):
        before = market.chain.provider.block
        challenger.play(game)
        for defender in defenders:
            defender.play(game)
        phase = market.looking.game.game(game).phase
        if not phase.live or market.chain.provider.block == before:
            return phase
    raise AssertionError("the game does not come to an end")


def convicted(
    market: Market, played: HandPlayed, own: Trace, served: Answers, role: str = "challenger", defended: Trace | None = None
) -> int:
    """The step at which an honest challenger has the trainer convicted, which plays on as well as it can."""
    challenger = played.challenger(role, own, served)
    game = challenger.open()
    assert game is not None
    assert play(market, game, challenger, played.defender(defended)) == Phase.CONVICTED
    assert market.job(played.job).status == JobStatus.SLASHED
    assert market.looking.registry.credit(market.address(role)) == REWARD
    return market.looking.game.game(game).step


# 30: lazy trainers


class ExecutedTrace:
    """What an executor makes of a job, as bisection.trace.Trace."""

    def __init__(self, executor: Any, start: Mapping[str, Array], data: Mapping[str, Array], steps: int) -> None:
        self.program, self._executor, self._states = executor.program, executor, [start]
        self._data = Tree(tensor_roots([data[spec.name] for spec in executor.program.data]))
        for _ in range(steps):
            state, _ = executor.step(self._states[-1])
            self._states.append({name: np.array(value) for name, value in state.items()})
        self._tensors: Callable[[int], Sequence[Array]] = lru_cache(maxsize=4)(lambda step: executor.trace(self._states[step]))

    def history(self) -> Tree:
        return Tree([self.state(step).root for step in range(len(self._states))])

    def state(self, step: int) -> Tree:
        return Tree(state_roots(self.program, self._states[step]))

    def data(self) -> Tree:
        return self._data

    def tensors(self, step: int) -> Tree:
        return Tree(tensor_roots(self._tensors(step)))

    def tensor(self, step: int, number: int) -> bytes:
        return tensor_bytes(self._tensors(step)[number])


@pytest.fixture(scope="module")
def captured() -> Iterator[tuple[Captured, Captured]]:
    """The digits job, and the same with another learning rate."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small operations: threads would only wait for each other
    yield digits.job(0)[1], digits.job(0, 1.5 * digits.LEARNING_RATE)[1]
    torch.set_num_threads(threads)


def swapped(captured: Captured, other: Mapping[str, Any], at: int) -> CheatingExecutor:
    """A trainer that goes on from another model's parameters after a step."""
    program = captured.program
    places = {tensor: i for i, tensor in enumerate(state_tensors(program)) if program.state[i].name in other}

    def tamper(number: int, outputs: list[Array]) -> list[Array]:
        refs = program.nodes[number].outputs
        chosen = [places.get(ref.tensor) for ref in refs]
        made = zip(outputs, chosen, strict=True)
        return [out if i is None else np.asarray(other[program.state[i].name]).reshape(-1) for out, i in made]

    return CheatingExecutor(Executor(program, captured.data), at, lambda old: tamper)


@pytest.mark.parametrize("kind", [*CHEATS, "model-swap"])
def test_scenario_30_every_kind_of_laziness_is_convicted_at_its_step(
    market: Market, captured: tuple[Captured, Captured], kind: str
) -> None:
    """Old checkpoints, another model, skipped steps, poisoned data order, another learning rate, one flipped bit of one moment."""
    job, other = captured
    rng = np.random.default_rng(len(kind))
    if kind == "model-swap":
        weights = digits.model(1).state_dict()
        cheating = swapped(job, {name: value.numpy() for name, value in weights.items()}, FALSIFIED)
    else:
        cheating = cheat(kind, job, other, FALSIFIED, rng)
    lazy = ExecutedTrace(cheating, job.state, job.data, STEPS)
    honest = ExecutedTrace(Executor(job.program, job.data), job.state, job.data, STEPS)
    played = HandPlayed.posted(market, lazy, job.state, job.data, STEPS)
    assert convicted(market, played, honest, HonestService(lazy)) == FALSIFIED


def test_scenario_30_another_model_from_the_start_cannot_even_be_posted(market: Market) -> None:
    """A segment starts where the one before ended, or in the job's initial state: there is nothing to dispute about it."""
    other = dict(STATE) | {"weights": STATE["weights"] * np.float32(2)}
    with pytest.raises(TransactionFailed, match="merkle: proof of another root"):
        HandPlayed.posted(market, MemoryTrace(PROGRAM, other, DATA, STEPS), STATE, DATA, STEPS)


# 31: withheld data


def lie(node: int, outputs: list[Array]) -> list[Array]:
    """One wrong weight."""
    if node != PROGRAM.producer[state_tensors(PROGRAM)[1]]:
        return outputs
    wrong = outputs[0].copy()
    wrong[70] += np.float32(1)
    return [wrong]


LYING = MemoryTrace(PROGRAM, STATE, DATA, STEPS, {FALSIFIED: lie})


class Selective(HonestService):
    """Serves a trace but for the parts named."""

    def __init__(self, trace: Trace, *withheld: str) -> None:
        super().__init__(trace)
        for name in withheld:
            setattr(self, name, lambda *place: None)


KINDS = ("history", "trace", "state", "tensor")


@pytest.mark.parametrize("withheld", [(), *((kind,) for kind in KINDS), ("history", "tensor"), KINDS])
def test_scenario_31_whatever_is_withheld_is_had_on_chain(market: Market, withheld: tuple[str, ...]) -> None:
    """History leaves, trace leaves, states, tensors: the trainer shows them in its games, or loses by its silence."""
    played = HandPlayed.posted(market, LYING, STATE, DATA, STEPS)
    assert convicted(market, played, HONEST, Selective(LYING, *withheld)) == FALSIFIED


@pytest.mark.parametrize("answers", range(8))
def test_scenario_31_a_trainer_that_falls_silent_anywhere_in_its_game_loses(market: Market, answers: int) -> None:
    """After so many answers it says nothing more, on chain or off: its clock decides."""
    played = HandPlayed.posted(market, LYING, STATE, DATA, STEPS)
    challenger, defender = played.challenger("challenger", HONEST, Nothing()), played.defender()
    game = challenger.open()
    assert game is not None
    for _ in range(answers):
        if market.looking.game.game(game).phase.live:
            defender.play(game)
            challenger.play(game)
    market.chain.advance(PARAMETERS.trainer_clock + 1)
    challenger.play(game)
    assert market.looking.game.game(game).phase == Phase.CONVICTED
    assert market.looking.registry.credit(market.address("challenger")) == REWARD


def test_scenario_31_who_alone_is_denied_the_data_wins_all_the_same(market: Market) -> None:
    """One watcher is served, the other is not. Each convicts by itself; together the one takes the other's fraud off its hands."""
    played = HandPlayed.posted(market, LYING, STATE, DATA, STEPS)
    mark = market.chain.snapshot()
    for role, served in (("challenger", HonestService(LYING)), ("watcher", Nothing())):
        assert convicted(market, played, HONEST, served, role) == FALSIFIED
        market.chain.restore(mark)
        mark = market.chain.snapshot()
    denied = played.challenger("watcher", HONEST, Nothing())
    blind = denied.open()
    assert blind is not None
    convicted(market, played, HONEST, HonestService(LYING))
    market.acting["watcher"].game.reclaim(blind)
    assert market.looking.game.credit(market.address("watcher")) == PARAMETERS.bond


def test_scenario_31_withheld_material_is_an_alert_and_never_a_valid_segment(market: Market, tmp_path: Path) -> None:
    """The data set is there for one watcher and gone for the other: the one convicts, the other says that it cannot know."""
    job = market.open_job(tmp_path / "material", steps=4)
    with market.trainer(tmp_path / "trainer", executor_of=lying(2)) as trainer:
        market.settle(trainer)
        trainer.close()
        shutil.move(tmp_path / "material", tmp_path / "elsewhere")
        shutil.move(tmp_path / "trainer" / "store", tmp_path / "gone")
        with market.challenger(tmp_path / "denied", role="watcher", log=(diary := Diary())) as denied:
            market.until(lambda: bool(denied.verdicts), denied)
        shutil.move(tmp_path / "elsewhere", tmp_path / "material")
        with market.challenger(tmp_path / "challenger") as challenger:
            market.until(lambda: market.looking.game.game_count() == 1, challenger)
    assert denied.verdicts == {(job, 0): SegmentVerdict.UNVERIFIABLE}
    assert [event["job"] for event in diary.of("UNVERIFIABLE")] == [job]
    assert challenger.verdicts == {(job, 0): SegmentVerdict.FRAUDULENT}


# 32: collusion


class TwoFaced(MemoryTrace):
    """A trainer whose states are wrong and whose traces are right: each state follows from its trace but for the falsified one."""

    def __init__(self) -> None:
        vars(self).update(vars(LYING))

    def tensors(self, step: int) -> Tree:
        return HONEST.tensors(step)

    def tensor(self, step: int, number: int) -> bytes:
        return HONEST.tensor(step, number)


def test_scenario_32_a_friend_that_has_a_true_trace_posted_and_loses_hides_nothing(market: Market) -> None:
    """Trainer and friend fix the honest trace root for the false step, and have right elements of it acquitted."""
    played = HandPlayed.posted(market, LYING, STATE, DATA, STEPS)
    truth = HandPlayed(market, HONEST, STEPS, played.job)
    for position in (0, 70):
        game = played.opens("watcher", FALSIFIED)
        if market.looking.game.game(game).phase == Phase.TRACE:
            market.acting["trainer"].game.post_trace(game, HONEST.tensors(FALSIFIED).root)
        roots, witness = roots_of(TwoFaced(), FALSIFIED), truth.witness(FALSIFIED, state_tensors(PROGRAM)[1], position)
        market.acting["watcher"].game.conclude_element(game, roots, witness)
        assert market.looking.game.game(game).phase == Phase.ACQUITTED
    assert convicted(market, played, HONEST, Nothing(), defended=TwoFaced()) == FALSIFIED
    index = Index(market.chain.web3, market.book)
    index.update()
    verdict = index.verdicts[market.looking.game.game_count()]
    assert isinstance(verdict, BoundaryJudged) and not verdict.joined
    assert isinstance(PROGRAM.nodes[verdict.node], Output), "the state after the step is not what its trace wrote"


def test_scenario_32_watchers_that_copy_a_wrong_verdict_pay_for_it_each(market: Market) -> None:
    """One sees fraud where there is none, the others trust it: each loses its bond to the trainer, and the job completes."""
    played = HandPlayed.posted(market, HONEST, STATE, DATA, STEPS)
    roles = ("challenger", "watcher", "rival", "requester")
    before = {role: market.balance(role) for role in roles}
    for role in roles:
        game = played.traced(role, FALSIFIED)
        witness = played.witness(FALSIFIED, state_tensors(PROGRAM)[1], 70)
        market.acting[role].game.conclude_element(game, played.roots(FALSIFIED), witness)
        assert market.looking.game.game(game).phase == Phase.ACQUITTED
    assert {role: market.balance(role) - before[role] for role in roles} == dict.fromkeys(roles, -PARAMETERS.bond)
    assert market.looking.game.credit(market.address("trainer")) == len(roles) * PARAMETERS.bond
    market.chain.advance(TERMS.challenge_window + 1)
    market.acting["watcher"].registry.finalise(played.job)
    assert market.job(played.job).status == JobStatus.COMPLETED
    assert market.looking.registry.credit(market.address("trainer")) == BOUNTY + TERMS.stake


def test_scenario_32_watchers_that_copy_a_right_verdict_earn_nothing_by_it(market: Market) -> None:
    """They get their bonds back: only replaying, and committing first, is paid for."""
    played = HandPlayed.posted(market, LYING, STATE, DATA, STEPS)
    games = [played.traced(role, FALSIFIED) for role in ("challenger", "watcher", "rival")]
    witness = played.witness(FALSIFIED, state_tensors(PROGRAM)[1], 70)
    market.acting["rival"].game.conclude_element(games[2], played.roots(FALSIFIED), witness)
    for game in games[:2]:
        market.acting["rival"].game.reclaim(game)
    assert [market.looking.registry.credit(market.address(role)) for role in ("challenger", "watcher", "rival")] == [REWARD, 0, 0]
    credits = {market.looking.game.credit(market.address(role)) for role in ("challenger", "watcher", "rival")}
    assert credits == {PARAMETERS.bond}


# 34: another version of the verifier


def test_scenario_34_a_node_that_sees_fraud_in_honest_work_loses_one_bond_and_nothing_else(market: Market, tmp_path: Path) -> None:
    """Its numbers are others than the job's. The trainer is paid the bond and its bounty, and the node does not try again."""
    job = market.open_job(tmp_path / "material", steps=4)
    before = {role: market.balance(role) for role in ("trainer", "challenger")}
    with (
        market.trainer(tmp_path / "trainer") as trainer,
        market.challenger(tmp_path / "challenger", executor_of=lying(2)) as wrong,
    ):
        market.finish(trainer, wrong)
        gains = settled(market, before, trainer, wrong)
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.looking.game.game_count() == 1
    assert gains == {"trainer": BOUNTY + PARAMETERS.bond, "challenger": -PARAMETERS.bond}


def settled(market: Market, before: Mapping[str, int], *nodes: TrainerNode | ChallengerNode) -> dict[str, int]:
    """What roles have gained once their nodes have collected."""
    for node in nodes:
        node.tick()
    return {role: market.balance(role) - had for role, had in before.items()}


def test_scenario_34_who_does_not_speak_a_jobs_numerics_touches_it_not(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry has no job in other numerics than its game's; a node of another version neither trains nor disputes."""
    with pytest.raises(TransactionFailed, match="registry: numerics of another game"):
        market.open_job(tmp_path / "other", numerics_version=2)
    job = market.open_job(tmp_path / "material", steps=4)
    with market.trainer(tmp_path / "trainer", executor_of=lying(2)) as trainer:
        market.settle(trainer)
    fresh = market.open_job(tmp_path / "material", steps=4)
    for module in ("trainer.package", "trainer.node"):
        monkeypatch.setattr(f"{module}.NUMERICS_VERSION", 2)
    diary = Diary()
    with (
        market.trainer(tmp_path / "rival", role="rival", log=diary) as rival,
        market.challenger(tmp_path / "challenger", log=diary) as challenger,
    ):
        market.until(lambda: bool(challenger.verdicts), rival, challenger)
    assert challenger.verdicts == {(job, 0): SegmentVerdict.UNVERIFIABLE}
    assert [event["job"] for event in diary.of("job refused")] == [fresh]
    assert market.sent("rival") == market.sent("challenger") == []
