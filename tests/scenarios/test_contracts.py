"""Attacks on the moves of a dispute, played on the deployed contracts: scenarios 1 to 12 (docs/assurance.md, "Attacks")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisection import game as rules
from bisection.boundary import state_tensors
from bisection.descent import Descent, below
from bisection.errors import IllegalMove, TransactionFailed
from bisection.game import ShowStep, StepOpening
from bisection.merkle import Tree, blob_tree
from contracts.bindings import BLIND, Phase, step_commitment
from contracts.jobs import NATIVE, JobStatus, claim_commitment
from contracts.sender import Call
from contracts.values import plain
from sims.chain import evm as revm
from tests.contracts.descending import Descending, leaf_of, raw, refutation, shown
from tests.contracts.moves import challenger_moves, trainer_moves
from tests.contracts.stage import (
    BOUNTY,
    BURNT,
    PARAMETERS,
    SALT,
    TERMS,
    Actor,
    Stage,
    TrainerRun,
    digest,
    element_witness,
    refused,
)
from tests.scenarios.played import Fortunes, HandPlayed, concludes, same_second, settle
from tests.support.market import PARAMETERS as MARKET
from tests.support.market import Market, honest_trace, lying
from tests.support.programs import counting_program

RUN, TALL = TrainerRun(), TrainerRun(100, 100, name="tall")  # the history of the second takes two reveals
REWARD = TERMS.stake * PARAMETERS.reward_share // 10_000
STEPS = 6
PROGRAM, STATE, DATA = counting_program()


# 2: the last second


def test_scenario_02_who_is_answered_in_the_last_second_still_has_its_whole_clock(stage: Stage) -> None:
    """Wait to the last second, counter, resolve in the same block: every answer gives the other side its time."""
    job = stage.posted(RUN)
    game = stage.challenger.opens_blind(job, 0)
    history = Descending(stage, game, RUN.histories[0].root)
    stage.chain.next_block_at(stage.now() + PARAMETERS.trainer_clock)
    history.answer(RUN.histories[0])
    for act in (lambda: stage.trainer.game.timeout(game), lambda: stage.trainer.registry.finalise(job)):
        same_second(stage.chain)
        with pytest.raises(TransactionFailed, match=r"clock not used up|live games"):
            act()
    stage.chain.next_block_at(stage.now() + PARAMETERS.challenger_clock)
    stage.challenger.game.show_step(game, ShowStep(RUN.opening(0, 1)))
    same_second(stage.chain)
    with refused("game: clock not used up"):
        stage.challenger.game.timeout(game)
    # The trainer's clock has no second left: it may answer in this one, and loses in the next.
    same_second(stage.chain)
    stage.trainer.game.post_trace(game, RUN.trace(1).root)
    assert stage.game.game(game).phase == Phase.CHALLENGER


def test_scenario_02_a_game_opened_in_the_last_second_of_the_window_holds_the_segment(stage: Stage) -> None:
    """Nobody finalises past a challenger that came in the last second, in the same second or later."""
    job = stage.posted(RUN)
    last = stage.registry.segment(job, 0).window_end
    stage.at(last - 10)
    stage.challenger.commits(job, 0, BLIND)
    stage.chain.next_block_at(last)
    stage.challenger.game.open_blind(job, 0, SALT)
    same_second(stage.chain)
    with refused("registry: live games"):
        stage.trainer.registry.finalise(job)
    stage.chain.advance(PARAMETERS.trainer_clock)
    with refused("registry: live games"):
        stage.trainer.registry.finalise(job)


# 3: freeloading


def test_scenario_03_who_plays_against_itself_shields_nothing_and_saves_no_bond(stage: Stage) -> None:
    """A cheating trainer acquits itself in its own game: its bond only comes back, and the honest game beside it still convicts."""
    job, fortunes = stage.posted(RUN), Fortunes(stage)
    own = stage.trainer.opens(job, 0, RUN.opening(0, 1))
    stage.trainer.game.post_trace(own, RUN.trace(1).root)
    stage.referee.send("rule", True, 7, 7)
    concludes(stage, RUN, stage.trainer, own)  # some right element of the wrong step
    assert stage.game.game(own).phase == Phase.ACQUITTED
    assert fortunes.gain(stage.trainer) == 0
    game = stage.challenger.opens(job, 0, RUN.opening(0, 1))
    stage.referee.send("rule", False, 1, 2)
    concludes(stage, RUN, stage.challenger, game)
    assert fortunes.gain(stage.challenger) == REWARD
    assert fortunes.gain(stage.trainer) == 0  # its stake was paid in before, and nothing of it comes back


# 4 to 6: special paths, and what was resolved


def test_scenario_04_nothing_is_accepted_in_a_game_that_is_resolved(stage: Stage) -> None:
    """Neither after an acquittal nor after a conviction."""
    acquitted_in, convicted_in = stage.posted(RUN), stage.posted(RUN)
    acquitted = stage.traced(acquitted_in, RUN)
    stage.referee.send("rule", True, 7, 7)
    concludes(stage, RUN, stage.challenger, acquitted)
    for game in (acquitted, stage.convicted(convicted_in, RUN)):
        for actor, moves in ((stage.challenger, challenger_moves(game)), (stage.trainer, trainer_moves(game))):
            for name, args in moves.items():
                with refused("game: not owed" if name == "reveal" else "game: over"):
                    stage.game.simulate(name, *args, account=actor.address)
        for name in ("timeout", "reclaim", "contend"):
            with refused("game: over"):
                stage.game.simulate(name, game)


def test_scenario_04_moves_beside_a_conviction_move_no_money(stage: Stage) -> None:
    """The games beside it can go on in form, for whoever does not know yet. No verdict, refutation or timeout is given in them."""
    job = stage.posted(RUN)
    beside = stage.traced(job, RUN, step=2, challenger=stage.watcher)
    stage.convicted(job, RUN)
    before = stage.credits()
    with refused("game: attempt is over"):
        concludes(stage, RUN, stage.watcher, beside)
    stage.watcher.game.demand_trace(beside, RUN.roots(0, 2))
    trace = Descending(stage, beside, RUN.trace(2).root, challenger=stage.watcher)
    trace.reveal(bytes(len(shown(RUN.trace(2), trace.d))))
    with refused("game: attempt is over"):
        trace.refute()
    stage.chain.advance(10 * PARAMETERS.challenger_clock)
    with refused("game: attempt is over"):
        stage.stranger.game.timeout(beside)
    assert stage.credits() == before
    stage.stranger.game.reclaim(beside)
    assert stage.game.credit(stage.watcher.address) == PARAMETERS.bond


@pytest.mark.parametrize("attempts", [1, 2])
def test_scenario_05_no_special_path_fires_between_a_game_and_its_job(stage: Stage, attempts: int) -> None:
    """Expiry, finality and cancelling wait for live games; after a conviction neither they nor a second verdict change anything."""
    job = stage.posted(RUN, segments=1, terms=replace(TERMS, attempts=attempts))
    fortunes, game = Fortunes(stage), stage.traced(job, RUN)
    beside = stage.watcher.opens_blind(job, 0)
    stage.chain.advance(500)
    assert stage.registry.job(job).live_games == 2
    ends = {"finalise": stage.trainer, "expire": stage.requester, "cancel": stage.requester}
    for name, actor in ends.items():
        with pytest.raises(TransactionFailed):
            actor.registry.send(name, job)
    stage.referee.send("rule", False, 1, 2)
    concludes(stage, RUN, stage.challenger, game)
    stage.chain.advance(TERMS.segment_period + TERMS.challenge_window)
    for name, actor in ends.items():
        if (name, attempts) != ("cancel", 2):
            with pytest.raises(TransactionFailed):
                actor.registry.send(name, job)
    with refused("game: attempt is over"):
        stage.stranger.game.timeout(beside)
    stage.watcher.game.reclaim(beside)
    if attempts == 2:
        stage.requester.registry.cancel(job)
    settle(stage)
    assert stage.registry.job(job).status == (JobStatus.SLASHED if attempts == 1 else JobStatus.CANCELLED)
    assert stage.held() == 0
    assert (fortunes.gain(stage.challenger), fortunes.gain(stage.watcher)) == (REWARD, 0)


def test_scenario_05_a_late_job_does_not_expire_past_a_live_game(stage: Stage) -> None:
    """The stake of a cheat that is late as well is the challenger's to win, not the requester's alone."""
    job = stage.posted(RUN, segments=1)
    game = stage.traced(job, RUN)
    stage.chain.next_block_at(stage.now() + PARAMETERS.challenger_clock)
    stage.challenger.game.demand_trace(game, RUN.roots(0, 1))
    stage.chain.next_block_at(stage.registry.job(job).deadline + 1)
    with refused("registry: live games"):
        stage.requester.registry.expire(job)
    stage.challenger.game.timeout(game)
    assert stage.registry.credit(stage.challenger.address) == REWARD


def test_scenario_06_whoever_wins_elsewhere_the_honest_bond_comes_back(stage: Stage) -> None:
    """A friend of the trainer convicts first while the honest challenger waits for an answer: its bond is its own, to the wei."""
    job, fortunes = stage.posted(RUN), Fortunes(stage)
    honest = stage.challenger.opens_blind(job, 0)
    friend = stage.traced(job, RUN, challenger=stage.watcher)
    stage.referee.send("rule", False, 1, 2)
    concludes(stage, RUN, stage.watcher, friend)
    stage.chain.advance(100 * PARAMETERS.challenger_clock)
    stage.stranger.game.reclaim(honest)
    assert fortunes.gain(stage.challenger) == fortunes.gain(stage.stranger) == 0
    assert stage.game.credit(stage.challenger.address) == PARAMETERS.bond


# 7, 8: numbers out of range

BEYOND = [2**exponent for exponent in (8, 16, 32, 40, 48, 64, 128, 160, 255)]


@pytest.mark.parametrize("beyond", BEYOND)
def test_scenario_07_no_number_is_taken_for_another_by_cutting_it_short(stage: Stage, beyond: int) -> None:
    """Job, segment, step and game are stored in few bits: none that differs above them reaches the same place."""
    job = stage.posted(RUN)
    opening = RUN.opening(0, 1)
    for place in ((job + beyond, 0, 1), (job, beyond, 1), (job, 0, 1 + beyond)):
        stage.challenger.commits(*place)
        with pytest.raises(TransactionFailed):
            stage.challenger.game.open_step(*place[:2], replace(opening, step=place[2]), SALT)
    game = stage.traced(job, RUN)
    other = dict.fromkeys(("reclaim", "timeout", "contend"), (game + beyond,))
    for name, args in (challenger_moves(game + beyond) | other).items():
        with refused("game: unknown game"):
            stage.game.simulate(name, *args, account=stage.challenger.address)
    assert stage.game.trace_root(job, 1, 0, 1) != bytes(32)
    for place in ((job + beyond, 1, 0, 1), (job, 1 + beyond, 0, 1), (job, 1, beyond, 1), (job, 1, 0, 1 + beyond)):
        assert stage.game.trace_root(*place) == bytes(32)


def test_scenario_08_a_maximal_number_blocks_nobody(stage: Stage) -> None:
    """Openings, picks and commitments with the greatest numbers there are fail or mean nothing: what comes next is as before."""
    job, most = stage.posted(TALL), 2**256 - 1
    for place in ((most, 0, 1), (job, most, 1), (job, 0, most)):
        stage.watcher.commits(*place)
        with pytest.raises(TransactionFailed):
            stage.watcher.game.open_step(*place[:2], replace(TALL.opening(0, 1), step=place[2]), SALT)
    stage.watcher.game.commit(most.to_bytes(32, "big"))
    blind = stage.watcher.game.open_blind(job, 0, SALT)  # to which the greatest number of a step is the commitment
    history = Descending(stage, blind, TALL.histories[0].root, challenger=stage.watcher)
    history.answer(TALL.histories[0])
    for child in (most, 2**128, 13):
        with refused("descent: no such child"):
            stage.watcher.game.pick(blind, history.seal, child)
    history.pick(12)
    history.answer(TALL.histories[0])
    fortunes = Fortunes(stage)
    stage.convicted(job, TALL)
    assert fortunes.gain(stage.challenger) == REWARD


# 9: contract wallets


def test_scenario_09_a_contract_wallet_plays_and_is_paid_itself(stage: Stage) -> None:
    """Who signed the transaction is nobody: the wallet is the challenger, even when its owner changes in mid-game."""
    job, wallet = stage.posted(RUN), stage.wallet(stage.challenger)
    wallet.does(stage.game.call("commit", step_commitment(wallet.address, job, 0, 1, SALT)))
    wallet.does(stage.game.call("open_step", job, 0, *plain(RUN.opening(0, 1)), SALT, value=PARAMETERS.bond))
    game = stage.game.game_count()
    stage.trainer.game.post_trace(game, RUN.trace(1).root)
    with refused("game: not the challenger"):
        concludes(stage, RUN, stage.challenger, game)
    wallet.send("hand_over", stage.watcher.address)
    heir = type(wallet)(stage.chain.web3, wallet.address, stage.watcher.sender)
    stage.referee.send("rule", False, 1, 2)
    w = element_witness()
    heir.does(stage.game.call("conclude_element", game, RUN.roots(0, 1), w.node, w.output, w.position, w.claim, ()))
    assert stage.registry.credit(wallet.address) == REWARD
    assert stage.registry.credit(stage.challenger.address) == stage.registry.credit(stage.watcher.address) == 0
    for ledger in (stage.registry, stage.game):
        heir.does(ledger.call("withdraw", NATIVE))
    assert stage.balance(wallet.address) == REWARD + PARAMETERS.bond


# 10: deadlines


@pytest.mark.parametrize("trainers_turn", [True, False])
@pytest.mark.parametrize("late", [-1, 0, 1])
def test_scenario_10_at_the_shortest_game_either_the_mover_or_the_timeout_has_the_second(
    stage: Stage, trainers_turn: bool, late: int
) -> None:
    """There are no extensions to bound; at a deadline exactly one of the two is possible, and the node's model says the same."""
    run = TrainerRun(steps=1, segment_length=1, tensors=2, components=2)
    job = stage.posted(run)
    game = stage.challenger.opens_blind(job, 0)
    history = Descending(stage, game, run.histories[0].root)
    pure = rules.open_blind(PURE_CLAIM, (PARAMETERS.trainer_clock, PARAMETERS.challenger_clock), stage.now())
    if not trainers_turn:
        history.answer(run.histories[0])
        pure = replace(pure, owed=rules.Owed.NOTHING, moved_at=stage.now())
    clock = PARAMETERS.trainer_clock if trainers_turn else PARAMETERS.challenger_clock
    stage.at(stage.now() + clock + late)
    assert possible(stage, stage.stranger, "timeout", game) == (late > 0) == allowed(pure, stage.now())
    if trainers_turn:
        move: tuple[Any, ...] = ("reveal", game, history.d.trail, history.d.picked, shown(run.histories[0], history.d))
    else:
        move = ("show_step", game, *plain(run.opening(0, 0)), False)
    assert possible(stage, stage.trainer if trainers_turn else stage.challenger, *move) == (late <= 0)


PURE_CLAIM = rules.Claim(1, 1, 0, bytes(20), 0, 1, digest("history"), digest("program"), 1, 2, 2, digest("data"), 1)


def possible(stage: Stage, actor: Any, name: str, *args: Any) -> bool:
    """Whether the contract would accept a move in the latest block."""
    try:
        stage.game.simulate(name, *args, account=actor.address)
    except TransactionFailed:
        return False
    return True


def allowed(game: rules.Game, now: int) -> bool:
    """Whether the node's model of the game would accept a timeout."""
    try:
        rules.apply(game, rules.Timeout(), now)
    except IllegalMove:
        return False
    return True


def test_scenario_10_a_node_calls_the_timeout_in_the_first_second_that_the_chain_allows(market: Market, tmp_path: Any) -> None:
    """It sends nothing that would be refused, and leaves a silent trainer no second more."""
    market.open_job(tmp_path / "material", steps=4)
    with market.trainer(tmp_path / "trainer", executor_of=lying(2)) as trainer:
        market.settle(trainer)
    with market.challenger(tmp_path / "challenger") as challenger:
        market.until(lambda: market.looking.game.game_count() == 1, challenger)
        opened = market.looking.game.game(1).moved_at
        market.chain.advance(opened + MARKET.trainer_clock - market.chain.now())
        market.settle(challenger)
        assert "timeout" not in market.sent("challenger")
        market.chain.advance(1)
        challenger.tick()
        assert "timeout" in market.sent("challenger")


# 11: proofs


def damaged(proof: tuple[bytes, ...], kind: str, at: int) -> tuple[bytes, ...]:
    """A proof with one thing wrong with it."""
    at %= len(proof)
    if kind == "shorter":
        return proof[:at] + proof[at + 1 :]
    if kind == "longer":
        return (*proof[:at], proof[at], *proof[at:])
    if kind == "swapped":
        return tuple(reversed(proof))
    return (*proof[:at], bytes(b ^ 1 for b in proof[at]), *proof[at + 1 :])


DAMAGE = st.sampled_from(["shorter", "longer", "swapped", "bits"])


def test_scenario_11_a_step_is_proved_by_its_own_path_only(stage: Stage) -> None:
    """Siblings swapped, dropped or doubled, another index, a place beyond the last leaf: all refused."""
    job = stage.posted(RUN)
    for step in range(12):
        stage.challenger.commits(job, 0, step)
    stage.chain.advance(1)

    @settings(max_examples=60)
    @given(kind=DAMAGE, at=st.integers(0, 7), step=st.integers(0, 3), shift=st.sampled_from([0, 1, 2, 4, 8]))
    def refused_proofs(kind: str, at: int, step: int, shift: int) -> None:
        true = RUN.opening(0, step)
        wrong = replace(true, step=step + shift) if shift else replace(true, proof=damaged(true.proof, kind, at))
        opening = (job, 0, *plain(wrong), SALT)
        with pytest.raises(TransactionFailed, match=r"merkle: |game: no such step"):
            stage.game.simulate("open_step", *opening, account=stage.challenger.address, value=PARAMETERS.bond)

    refused_proofs()
    for step in range(4):
        stage.challenger.game.open_step(job, 0, RUN.opening(0, step), SALT)


def test_scenario_11_an_inner_node_is_no_leaf(stage: Stage) -> None:
    """The two states below an inner node cannot be skipped by proving the node in their place."""
    job, tree = stage.posted(RUN), RUN.histories[0]
    inner = StepOpening(0, tree.node(1, 0), tree.node(1, 1), (tree.node(2, 1),))
    stage.challenger.commits(job, 0, 0)
    with refused("merkle: proof of another depth"):
        stage.challenger.game.open_step(job, 0, inner, SALT)


@pytest.mark.parametrize("kind", ["shorter", "longer", "swapped", "bits", "another step", "another element"])
def test_scenario_11_a_verdict_stands_on_true_openings_only(market: Market, kind: str) -> None:
    """With the real referee: each damaged opening of a true witness is refused, and costs only time."""
    played = HandPlayed.posted(market, honest_trace(STEPS), STATE, DATA, STEPS)
    game = played.traced("challenger", 2)
    tensor = state_tensors(PROGRAM)[1]
    true = played.witness(2, tensor, 70)
    if kind == "another step":
        forged = [played.witness(3, tensor, 70)]
    elif kind == "another element":
        forged = [replace(true, position=position) for position in (64 + 70, 3, 200, 2**32)]
    else:
        forged = [
            replace(true, claim=replace(true.claim, trace_proof=damaged(true.claim.trace_proof, kind, 1))),
            replace(
                true, inputs=(replace(true.inputs[0], trace_proof=damaged(true.inputs[0].trace_proof, kind, 0)), *true.inputs[1:])
            ),
            replace(true, node=replace(true.node, proof=damaged(true.node.proof, kind, 2))),
        ]
    games = market.acting["challenger"].game
    for witness in forged:
        with pytest.raises(TransactionFailed, match=r"merkle: |referee: "):
            games.simulate("conclude_element", game, played.roots(2), *plain(witness), account=market.address("challenger"))
    games.conclude_element(game, played.roots(2), true)
    assert market.looking.game.game(game).phase == Phase.ACQUITTED


# 12: out of gas


class Look:
    """All that the contracts tell, as bytes."""

    def __init__(self, stage: Stage) -> None:
        registry, game = stage.registry, stage.game
        credits = [ledger.call("credit", NATIVE, a) for ledger in (registry, game) for a in (*stage.accounts, BURNT)]
        jobs = [call for job in (1, 2, 3) for call in (registry.call("job", job), registry.call("segment", job, 0))]
        self._calls = [*credits, *jobs, *(game.call("game", number) for number in (1, 2, 3, 4)), game.call("game_count")]
        self._stage = stage

    def __call__(self) -> list[str]:
        provider = self._stage.chain.provider
        return [*map(self._told, self._calls), *map(str, map(provider.evm.get_balance, self._stage.accounts))]

    def _told(self, call: Call) -> str:
        try:
            return self._stage.chain.provider.eth_call({"to": str(call.to), "data": "0x" + call.data.hex()}, "latest")
        except revm.Reverted as error:
            return str(error)


def test_scenario_12_a_move_without_gas_has_its_whole_effect_or_none(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transaction of two jobs' lives is given any part of the gas that it takes: half an effect is never left behind."""
    look = Look(stage)
    failures = [starve(stage, look, actor.sender, call, monkeypatch) for actor, call in life(stage)]
    assert all(failures)


def life(stage: Stage) -> Any:
    """(actor, transaction) one after the other: a slow dispute that convicts, a refutation, a bond that is reclaimed, a milestone,
    an expiry."""
    me, trainer, game = stage.challenger, stage.trainer, stage.game
    for number in (1, 2, 3):
        salt = digest("salt", number)
        yield stage.requester, stage.registry.call("open_job", RUN.spec, stage.terms(), BOUNTY, 0, "", value=BOUNTY)
        yield trainer, stage.registry.call("commit", claim_commitment(trainer.address, number, salt))
        yield trainer, stage.registry.call("claim", number, stage.registry.job(number).offer, salt, "", value=TERMS.stake)
        yield trainer, stage.registry.call("post_segment", number, *RUN.claim(0))
    yield from opening(stage, stage.watcher, 1)
    yield from opening(stage, me, 1)
    yield from slow_path(stage, me, 2)
    yield stage.stranger, game.call("reclaim", 1)
    yield me, stage.registry.call("withdraw", NATIVE)
    yield me, game.call("withdraw", NATIVE)
    yield stage.stranger, stage.registry.call("burn", NATIVE)
    yield from opening(stage, me, 2)
    yield from answer(stage, Descending(stage, 3, RUN.histories[0].root), shown)
    yield from opening(stage, me, 3)
    garbage = Descending(stage, 4, RUN.histories[0].root)
    yield from answer(stage, garbage, lambda tree, d: bytes(len(shown(tree, d))))
    yield me, game.call("refute", 4, *plain(refutation(garbage.d)))
    stage.chain.advance(TERMS.challenge_window + 1)
    yield stage.stranger, game.call("timeout", 3)
    yield stage.stranger, stage.registry.call("finalise", 2)
    stage.chain.advance(TERMS.segment_period)
    yield stage.stranger, stage.registry.call("expire", 2)


def opening(stage: Stage, actor: Actor, job: int) -> Any:
    """A blind opening and its commitment."""
    yield actor, stage.game.call("commit", step_commitment(actor.address, job, 0, BLIND, SALT))
    yield actor, stage.game.call("open_blind", job, 0, RUN.histories[0].root, SALT, value=PARAMETERS.bond)


def answer(stage: Stage, line: Descending, payload_of: Callable[[Tree, Descent], bytes], tree: Tree = RUN.histories[0]) -> Any:
    """The trainer's reveal in a descent."""
    payload = payload_of(tree, line.d)
    yield stage.trainer, stage.game.call("reveal", line.game, line.d.trail, line.d.picked, payload)
    line.revealed(payload)


def slow_path(stage: Stage, me: Actor, number: int) -> Any:
    """A blind game's way down to a leaf of a tensor, and its verdict."""
    game, data = stage.game, bytes(range(256)) * 70
    tensor = blob_tree(data)
    trace = Tree([tensor.root if number == 5 else root for number, root in enumerate(RUN.trace(1).levels[0][: RUN.tensors])])
    roots, node = replace(RUN.roots(0, 1), trace_root=trace.root), element_witness().node
    yield from answer(stage, Descending(stage, number, RUN.histories[0].root), shown)
    yield me, game.call("show_step", number, *plain(RUN.opening(0, 1)), True)
    first = b"".join(trace.node(0, at) for at in range(1 << trace.depth))
    yield stage.trainer, game.call("post_trace", number, game.game(number).step_place, trace.root, first)
    stage.referee.send("place", 5, len(data))  # the number of the node's tensor, and its size
    yield me, game.call("demand_tensor", number, roots, node, 0, tensor.root, trace.prove(5))
    line = Descending(stage, number, tensor.root)
    yield from answer(stage, line, shown, tensor)
    while line.d.height:
        yield me, game.call("pick", number, line.seal, 1)
        line.d = below(line.d, line.seal, 1, raw(stage.trainer.address))
        yield from answer(stage, line, shown if line.d.height else lambda tree, d: leaf_of(data, d.position), tensor)
    stage.referee.send("rule", False, 1, 2)
    yield me, game.call("conclude_element", number, roots, *plain(element_witness()))


def starve(stage: Stage, look: Look, sender: revm.RevmSender, call: Call, monkeypatch: pytest.MonkeyPatch, parts: int = 12) -> int:
    """Send a call with every part of its gas, and then in earnest; how often it failed."""
    before, mark = look(), stage.chain.snapshot()
    gas = sender.send(call)["gasUsed"]
    after = look()
    assert after != before or call.name == "commit"
    failed = 0
    for part in range(1, parts + 2):
        stage.chain.restore(mark)
        mark = stage.chain.snapshot()
        with monkeypatch.context() as patch:
            patch.setattr(revm, "GAS", gas * part // parts)
            refusals = 0
            try:
                sender.send(call)
            except TransactionFailed:
                refusals = 1
        assert look() == (before if refusals else after)
        failed += refusals
    stage.chain.restore(mark)
    sender.send(call)
    return failed
