"""Who gains by what, played on the deployed contracts: scenarios 24 to 29 (docs/assurance.md, "Attacks").

Gas is free on the quick chain, so that gains are the protocol's alone; where gas is the matter, eth-tester's receipts count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisection.errors import TransactionFailed
from bisection.game import ShowStep
from bisection.merkle import Tree
from challenger.node import SegmentVerdict
from contracts.bindings import BLIND, Phase, step_commitment
from contracts.build import artifact
from contracts.deploy import deploy
from contracts.economics import GWEI, LIMITS, game_bond, least_stake, trainer_gas
from contracts.jobs import JobStatus
from contracts.sender import Call
from sims.demo import Withholding
from tests.contracts.descending import Descending, shown
from tests.contracts.stage import (
    BOUNTY,
    PARAMETERS,
    SALT,
    TERMS,
    Actor,
    Stage,
    TrainerRun,
    digest,
    refused,
)
from tests.contracts.test_game_gas import RealChain
from tests.scenarios.played import Attacker, Fortunes, concludes, overtaken, same_second, settle
from tests.support.market import PARAMETERS as MARKET
from tests.support.market import TERMS as OFFER
from tests.support.market import Diary, Market, lying

RUN = TrainerRun()
WIDE = TrainerRun(100, 100, tensors=100, name="wide")  # history and trace take two reveals each
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000
BURN = TERMS.stake * PARAMETERS.burn_share // 10_000
CLOCKS = PARAMETERS.trainer_clock + PARAMETERS.challenger_clock


def convict(stage: Stage, actor: Actor, game: int, run: TrainerRun = RUN) -> None:
    """Have the trainer convicted, its trace root posted first if it is owed."""
    if stage.game.game(game).phase == Phase.TRACE:
        stage.trainer.game.post_trace(game, run.trace(stage.game.game(game).step).root)
    stage.referee.send("rule", False, 1, 2)
    concludes(stage, run, actor, game)


def revealed(stage: Stage, game: int, tree: Tree) -> Descending:
    """A game's descent into a tree, with the first reveal."""
    line = Descending(stage, game, tree.root)
    line.answer(tree)
    return line


# 24, 25: front-running


def test_scenario_24_a_node_whose_every_move_is_overtaken_keeps_to_its_own_game(market: Market, tmp_path: Path) -> None:
    """Somebody sends each of its moves first, and opens games of its own in between: the node convicts, and is rewarded."""
    job, before = market.open_job(tmp_path / "material", steps=6), market.balance("challenger")
    attacker = Attacker(market.senders["watcher"], {})

    def attack(call: Call) -> None:
        attacker.copy(call)
        if call.name in ("pick", "show_step"):
            blind_by(market, "watcher", job)

    with (
        market.trainer(tmp_path / "trainer", executor_of=lying(3), served_of=Withholding) as trainer,
        market.challenger(tmp_path / "challenger") as challenger,
        overtaken(market.senders["challenger"], attack),
    ):
        market.finish(trainer, challenger)
    assert market.job(job).status == JobStatus.SLASHED
    assert attacker.through.keys() <= {"commit", "withdraw"}
    mine = [game for game in range(1, market.looking.game.game_count() + 1) if convicted(market, game)]
    assert [market.looking.game.game(game).challenger for game in mine] == [market.address("challenger")]
    assert market.looking.game.game_count() > 2
    assert market.balance("challenger") == before + OFFER.stake * MARKET.reward_share // 10_000


def blind_by(market: Market, role: str, job: int) -> int:
    """A game on the first segment of a job, committed to before."""
    game = market.acting[role].game
    game.commit(step_commitment(market.address(role), job, 0, BLIND, SALT))
    return game.open_blind(job, 0, SALT)


def convicted(market: Market, game: int) -> bool:
    return market.looking.game.game(game).phase == Phase.CONVICTED


@pytest.mark.parametrize("role", ["trainer", "challenger"])
def test_scenario_24_a_node_whose_commitments_are_copied_gets_its_turn_all_the_same(
    market: Market, tmp_path: Path, role: str
) -> None:
    """Somebody makes each commitment first: it is alive then, and its account can use it. Else fraud could sit out its window."""
    job, attacker = market.open_job(tmp_path / "material", steps=6), Attacker(market.senders["watcher"], {})
    with (
        market.trainer(tmp_path / "trainer", executor_of=lying(3)) as trainer,
        market.challenger(tmp_path / "challenger") as challenger,
    ):
        if role == "challenger":
            market.until(lambda: market.job(job).status == JobStatus.VERIFICATION, trainer)
        with overtaken(market.senders[role], attacker.copy):
            for _ in range(60):
                trainer.tick()
                challenger.tick()
    assert market.job(job).status == JobStatus.SLASHED, f"{attacker.through['commit']} commitments were copied"


def test_scenario_25_who_copies_an_opening_and_a_verdict_from_the_mempool_gains_nothing(stage: Stage) -> None:
    """The copy is mined first each time. The reward is the one's that committed first; the copycat gets its own bond back."""
    job, fortunes = stage.posted(RUN), Fortunes(stage)
    stage.challenger.commits(job, 0, 1)
    copy = []

    def attack(call: Call) -> None:
        """Everything that a copycat can do with what it sees, before it is mined."""
        with pytest.raises(TransactionFailed):
            stage.watcher.sender.send(call)
        if call.name == "open_step":
            copy.append(stage.watcher.opens(job, 0, RUN.opening(0, 1)))
        if call.name == "conclude_element":
            convict(stage, stage.watcher, copy[0])

    with overtaken(stage.challenger.sender, attack):
        honest = stage.challenger.game.open_step(job, 0, RUN.opening(0, 1), SALT)
        assert copy[0] < honest
        stage.trainer.game.post_trace(honest, RUN.trace(1).root)
        with refused("game: attempt is over"):
            concludes(stage, RUN, stage.challenger, honest)
    stage.stranger.game.reclaim(honest)
    settle(stage)
    assert (fortunes.gain(stage.challenger), fortunes.gain(stage.watcher)) == (REWARD, 0)
    assert stage.held() == 0


def test_scenario_25_who_copies_a_commitment_or_a_timeout_gains_nothing(stage: Stage) -> None:
    """A commitment names its account, and it is the game that is rewarded for a silent trainer, not whoever says so."""
    job, fortunes = stage.posted(RUN), Fortunes(stage)
    with overtaken(stage.challenger.sender, Attacker(stage.watcher.sender, {}).copy):
        stage.challenger.commits(job, 0, 1)  # the copy is the copycat's own, and of no use to it
    with refused("commitments: none made"):
        stage.watcher.game.open_step(job, 0, RUN.opening(0, 1), SALT)
    game = stage.challenger.game.open_step(job, 0, RUN.opening(0, 1), SALT)
    stage.chain.advance(PARAMETERS.trainer_clock + 1)
    stage.watcher.game.timeout(game)
    assert (fortunes.gain(stage.challenger), fortunes.gain(stage.watcher)) == (REWARD, 0)


def test_scenario_25_who_copies_a_blind_opening_from_the_mempool_gains_nothing(stage: Stage) -> None:
    """Only who has seen a fraud opens blindly: whoever overtakes it and repeats its moves has computed nothing."""
    job, fortunes = stage.posted(RUN), Fortunes(stage)
    stage.challenger.commits(job, 0, BLIND)
    copies = []

    def attack(call: Call) -> None:
        """The opening cannot be copied; one with a commitment of its own, made in the same block at the earliest, is the second."""
        with refused("commitments: none made"):
            stage.watcher.sender.send(call)
        copies.append(stage.watcher.opens_blind(job, 0))

    with overtaken(stage.challenger.sender, attack):
        honest = stage.challenger.game.open_blind(job, 0, SALT)
    (copy,) = copies
    assert copy < honest and stage.game.game(honest).rank < stage.game.game(copy).rank
    for game in (copy, honest):
        revealed(stage, game, RUN.histories[0])
    stage.watcher.game.show_step(copy, ShowStep(RUN.opening(0, 1)))  # as seen in the mempool
    stage.challenger.game.show_step(honest, ShowStep(RUN.opening(0, 1)))
    convict(stage, stage.challenger, honest)
    stage.stranger.game.reclaim(copy)
    assert (fortunes.gain(stage.challenger), fortunes.gain(stage.watcher)) == (REWARD, 0)


def test_scenario_25_a_copy_that_comes_after_a_lost_game_ranks_behind_the_live_one(stage: Stage) -> None:
    """A third party's lost game leaves the place, and the copycat enters it: the honest game there is still the earlier one, and
    says so."""
    job = stage.posted(RUN)
    lost, honest = (actor.opens(job, 0, RUN.opening(0, 1)) for actor in (stage.stranger, stage.challenger))
    stage.trainer.game.post_trace(lost, RUN.trace(1).root)
    stage.referee.send("rule", True, 7, 7)
    concludes(stage, RUN, stage.stranger, lost)
    fortunes = Fortunes(stage)
    copy = stage.watcher.opens(job, 0, RUN.opening(0, 1))
    assert stage.game.game(honest).first == copy
    stage.stranger.game.contend(honest)
    stage.watcher.game.contend(copy)
    assert stage.game.game(copy).first == honest
    convict(stage, stage.watcher, copy)
    stage.stranger.game.reclaim(honest)
    assert fortunes.gain(stage.watcher) == 0
    assert fortunes.gain(stage.challenger) == REWARD + PARAMETERS.bond


def test_scenario_25_a_node_whose_place_was_left_and_taken_contends_for_it(market: Market, tmp_path: Path) -> None:
    """A stranger's game stood before the node's, and is lost; a copycat comes. Then the node says that its own is the first."""
    job, before = market.open_job(tmp_path / "material", steps=6), market.balance("challenger")
    with (
        market.trainer(tmp_path / "trainer", executor_of=lying(3), served_of=Withholding) as trainer,
        market.challenger(tmp_path / "challenger") as challenger,
    ):
        market.until(lambda: market.job(job).status == JobStatus.VERIFICATION, trainer)
        lost = blind_by(market, "rival", job)
        market.until(lambda: market.looking.game.game(lost).phase == Phase.CHALLENGER, trainer)
        market.chain.advance(MARKET.challenger_clock)
        market.until(lambda: market.looking.game.game_count() == 2, challenger)
        assert market.looking.game.game(2).first == lost
        market.acting["watcher"].game.timeout(lost)
        copy = blind_by(market, "watcher", job)
        assert market.looking.game.game(2).first == copy
        challenger.tick()
        assert market.looking.game.game(copy).first == 2
        market.finish(trainer, challenger)
        challenger.tick()
    assert market.sent("challenger").count("contend") == 1
    assert market.balance("challenger") == before + OFFER.stake * MARKET.reward_share // 10_000


# 26: the trainer challenges itself


@pytest.mark.parametrize("friend_is_first", [True, False])
def test_scenario_26_a_trainer_that_convicts_itself_loses_what_is_not_the_reward(stage: Stage, friend_is_first: bool) -> None:
    """At best it saves the reward's share of its stake, and only if it comes before every honest challenger."""
    fortunes, job = Fortunes(stage), stage.opened(RUN)
    stage.claim(job)
    stage.post(job, RUN, 0)
    order = [stage.watcher, stage.challenger] if friend_is_first else [stage.challenger, stage.watcher]
    games = {actor.address: actor.opens(job, 0, RUN.opening(0, 1)) for actor in order}
    convict(stage, stage.watcher, games[stage.watcher.address])
    stage.challenger.game.reclaim(games[stage.challenger.address])
    lost = TERMS.stake - (REWARD if friend_is_first else 0)
    assert fortunes.gain(stage.trainer, stage.watcher) == -lost
    assert lost * 10_000 >= TERMS.stake * (10_000 - PARAMETERS.reward_share)
    assert fortunes.gain(stage.challenger) == (0 if friend_is_first else REWARD)
    assert fortunes.gain(stage.requester) == TERMS.stake - BURN - REWARD
    assert fortunes.gain(stage.trainer, stage.watcher, stage.requester) == -BURN - (0 if friend_is_first else REWARD)


def test_scenario_26_a_friend_that_fills_the_place_keeps_nobody_out(stage: Stage) -> None:
    """Ten games of the trainer's friend, each as slow as can be: an honest challenger plays beside them and ends them all."""
    job, fortunes = stage.posted(RUN), Fortunes(stage)
    for _ in range(10):
        stage.watcher.opens(job, 0, RUN.opening(0, 1))
        stage.watcher.opens_blind(job, 0)
    stage.chain.advance(10)
    before = stage.now()
    convict(stage, stage.challenger, stage.challenger.opens(job, 0, RUN.opening(0, 1)))
    assert stage.registry.job(job).status == JobStatus.SLASHED
    assert stage.now() - before < 10
    assert fortunes.gain(stage.challenger) == 0, "the friend was first, so that the reward is its; the bond is not"
    assert fortunes.gain(stage.challenger, stage.watcher, stage.trainer) == REWARD - 20 * PARAMETERS.bond


# 27: Sybils


@pytest.mark.parametrize("sybils", [1, 4, 16])
def test_scenario_27_any_number_of_sybils_delay_a_job_by_both_clocks_and_pay_for_each_game(stage: Stage, sybils: int) -> None:
    """All come in the last second of the window; both sides play as slowly as they can. The games run side by side."""
    job = stage.posted(RUN, segments=1)
    stage.post(job, RUN, 1)
    stage.post(job, RUN, 2)
    fortunes, window = Fortunes(stage), stage.registry.segment(job, 2).window_end
    crowd = [stage.challenger, stage.watcher, stage.stranger]
    games = []
    stage.at(window - 100)
    for number in range(sybils):
        crowd[number % 3].game.commit(step_commitment(crowd[number % 3].address, job, 2, BLIND, digest("salt", number)))
    for number in range(sybils):
        stage.chain.next_block_at(window)
        games.append(crowd[number % 3].game.open_blind(job, 2, digest("salt", number)))
    stage.chain.advance(PARAMETERS.trainer_clock - 1)
    for game in games:
        stage.chain.next_block_at(window + PARAMETERS.trainer_clock)
        revealed(stage, game, RUN.histories[2])
    for game in games:
        stage.chain.next_block_at(window + CLOCKS + 1)
        stage.stranger.game.timeout(game)
    for _ in range(RUN.spec.segments):
        same_second(stage.chain)
        stage.stranger.registry.finalise(job)
    assert stage.registry.job(job).status == JobStatus.COMPLETED
    assert stage.now() == window + CLOCKS + 1
    assert fortunes.gain(*crowd) == -sybils * PARAMETERS.bond
    assert fortunes.gain(stage.trainer) == BOUNTY + TERMS.stake + sybils * PARAMETERS.bond


@pytest.fixture(scope="module")
def metered() -> Iterator[Stage]:
    """A deployment on eth-tester, whose gas is real."""
    chain: Any = RealChain()
    yield Stage(chain, deploy(chain.senders[0], replace(PARAMETERS, bond=game_bond(50 * GWEI)), artifact("referee_mock")))


def test_scenario_27_what_sybils_cost_the_trainer_in_gas_is_less_than_the_bonds_that_it_wins(metered: Stage) -> None:
    """Each Sybil has the whole history and trace revealed, at 50 gwei, and then falls silent."""
    stage, sybils = metered, 2
    job, fee, gas = stage.posted(WIDE, segments=1), 50 * GWEI, 0
    games = [stage.challenger.opens_blind(job, 0) for _ in range(sybils)]
    before = stage.game.credit(stage.trainer.address)
    for game in games:
        history = Descending(stage, game, WIDE.histories[0].root)
        gas += answered(history, WIDE.histories[0])
        history.pick(1)
        gas += answered(history, WIDE.histories[0])
        stage.challenger.game.show_step(game, ShowStep(WIDE.opening(0, 1)))
        if stage.game.game(game).phase == Phase.TRACE:
            gas += stage.trainer.game.post_trace(game, WIDE.trace(1).root)["gasUsed"]
        stage.challenger.game.demand_trace(game, WIDE.roots(0, 1))
        trace = Descending(stage, game, WIDE.trace(1).root)
        gas += answered(trace, WIDE.trace(1))
        trace.pick(1)
        gas += answered(trace, WIDE.trace(1))
    stage.chain.advance(PARAMETERS.challenger_clock + 1)
    for game in games:
        gas += stage.trainer.game.timeout(game)["gasUsed"]
    won = stage.game.credit(stage.trainer.address) - before
    assert won == sybils * stage.game.bond
    assert 0 < gas * fee < won
    assert gas < sybils * trainer_gas(LIMITS)


def answered(line: Descending, tree: Tree) -> int:
    """The gas of an honest answer."""
    payload = shown(tree, line.d)
    gas = line.trainer.game.reveal(line.game, line.d.trail, line.d.picked, payload)["gasUsed"]
    line.revealed(payload)
    return int(gas)


def test_scenario_27_a_trainer_node_answers_every_sybil(market: Market, tmp_path: Path) -> None:
    """Six strangers' games in the last seconds of the window: an honest node lets none run out, and keeps every bond."""
    job, before = market.open_job(tmp_path / "material", steps=4), market.balance("trainer")
    sybils = ("challenger", "watcher", "rival")
    with market.trainer(tmp_path / "trainer") as trainer:
        market.until(lambda: market.job(job).status == JobStatus.VERIFICATION, trainer)
        market.chain.advance(market.looking.registry.segment(job, 0).window_end - market.chain.now() - 15)
        for role in 2 * sybils:
            blind_by(market, role, job)
        market.finish(trainer)
        trainer.tick()
    assert market.job(job).status == JobStatus.COMPLETED
    assert market.balance("trainer") == before + market.job(job).bounty + 6 * MARKET.bond


# 28: censorship


def test_scenario_28_who_is_censored_for_its_whole_clock_in_any_slices_still_wins(stage: Stage) -> None:
    """The honest challenger's moves are held up for its clock in all, at once or in slices, and the trainer's never."""
    mark = stage.chain.snapshot()

    @settings(max_examples=25)
    @given(cuts=st.lists(st.integers(0, PARAMETERS.challenger_clock), min_size=3, max_size=3))
    def wins(cuts: list[int]) -> None:
        nonlocal mark
        stage.chain.restore(mark)
        mark = stage.chain.snapshot()
        job, fortunes = stage.posted(WIDE), Fortunes(stage)
        game = slow_dispute(stage, job, slices(cuts))
        assert stage.game.game(game).phase == Phase.CONVICTED
        assert stage.game.game(game).challenger_spent == PARAMETERS.challenger_clock
        assert fortunes.gain(stage.challenger) == REWARD

    wins()


def slices(cuts: list[int]) -> list[int]:
    """The whole clock cut at these seconds."""
    ends = [0, *sorted(cuts), PARAMETERS.challenger_clock]
    return [end - start for start, end in pairwise(ends)]


def slow_dispute(stage: Stage, job: int, delays: list[int]) -> int:
    """A blind game whose challenger makes its four moves after these delays, and whose trainer answers in the same second."""
    me, trainer = stage.challenger.game, stage.trainer.game
    stage.referee.send("rule", False, 1, 2)
    game = stage.challenger.opens_blind(job, 0)

    def held_up(delay: int) -> None:
        stage.chain.next_block_at(stage.now() + delay)

    def answer(line: Descending, tree: Tree) -> None:
        same_second(stage.chain)
        line.answer(tree)

    answer(Descending(stage, game, WIDE.histories[0].root), WIDE.histories[0])
    held_up(delays[0])
    me.show_step(game, ShowStep(WIDE.opening(0, 1)))
    same_second(stage.chain)
    trainer.post_trace(game, WIDE.trace(1).root)
    held_up(delays[1])
    me.demand_trace(game, WIDE.roots(0, 1))
    trace = Descending(stage, game, WIDE.trace(1).root)
    answer(trace, WIDE.trace(1))
    held_up(delays[2])
    trace.pick(1)
    answer(trace, WIDE.trace(1))
    held_up(delays[3])
    concludes(stage, WIDE, stage.challenger, game)
    return game


def test_scenario_28_a_second_more_of_censorship_costs_the_bond_and_no_more(stage: Stage) -> None:
    """The clock is what an operator must outlast; past it, that game alone is lost, and the fraud can be disputed anew."""
    job, fortunes = stage.posted(WIDE), Fortunes(stage)
    with refused("game: clock used up"):
        slow_dispute(stage, job, [0, 0, 0, PARAMETERS.challenger_clock + 1])
    stage.stranger.game.timeout(1)
    assert fortunes.gain(stage.challenger) == -PARAMETERS.bond
    convict(stage, stage.challenger, stage.challenger.opens(job, 0, WIDE.opening(0, 1)), WIDE)
    assert fortunes.gain(stage.challenger) == REWARD - PARAMETERS.bond


def test_scenario_28_a_censored_trainer_has_its_own_whole_clock_too(stage: Stage) -> None:
    """Held up to the last second of its budget, in slices, an honest trainer still answers everything."""
    job = stage.posted(RUN)
    game = stage.challenger.opens_blind(job, 0)
    stage.chain.next_block_at(stage.now() + 400)
    revealed(stage, game, RUN.histories[0])
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    stage.chain.next_block_at(stage.now() + 300)
    stage.trainer.game.post_trace(game, RUN.trace(1).root)
    stage.challenger.game.demand_trace(game, RUN.roots(0, 1))
    stage.chain.next_block_at(stage.now() + PARAMETERS.trainer_clock - 700)
    revealed(stage, game, RUN.trace(1))
    assert (stage.game.game(game).trainer_spent, stage.game.game(game).phase) == (PARAMETERS.trainer_clock, Phase.CHALLENGER)


# 29: the verifier's dilemma


def test_scenario_29_after_many_honest_jobs_the_first_fraud_is_still_convicted(market: Market, tmp_path: Path) -> None:
    """A watcher's silent audits cost it no transaction, and the one fraud among them pays it the reward."""
    diary, before = Diary(), market.balance("challenger")
    with (
        market.trainer(tmp_path / "trainer", executor_of=lying_in_job(5)) as trainer,
        market.challenger(tmp_path / "challenger", log=diary) as challenger,
    ):
        for number in range(5):
            assert market.sent("challenger") == []
            market.open_job(tmp_path / "material", steps=2 + number)
            market.finish(trainer, challenger)
            market.chain.advance(1_000_000)
        found = [challenger.verdicts[job, 0] for job in range(1, 6)]
    assert not diary.of("failed", "UNVERIFIABLE")
    assert found == 4 * [SegmentVerdict.VALID] + [SegmentVerdict.FRAUDULENT]
    assert [market.job(job).status for job in range(1, 6)] == 4 * [JobStatus.COMPLETED] + [JobStatus.SLASHED]
    assert market.balance("challenger") == before + OFFER.stake * MARKET.reward_share // 10_000


def lying_in_job(number: int) -> Any:
    """A trainer that is honest in all jobs that it takes but the last of so many."""
    taken = []

    def executor_of(material: Any) -> Any:
        taken.append(material)
        return lying(1)(material) if len(taken) == number else lying()(material)

    return executor_of


@given(
    bounty=st.integers(1, 10**21),
    audited=st.floats(0.01, 1),
    share=st.integers(1, 9_999),
    saved=st.floats(0, 1),
)
def test_scenario_29_at_the_stake_that_the_formula_gives_no_audit_rate_makes_fraud_pay(
    bounty: int, audited: float, share: int, saved: float
) -> None:
    """Whatever part of the work a cheat saves, and with a friend that always takes the reward: it expects less than honest work."""
    stake = least_stake(bounty, audited, share)
    honest = bounty - saved * bounty
    fraud = (1 - audited) * bounty - audited * (1 - share / 10_000) * stake
    assert fraud <= honest + bounty * 1e-9
