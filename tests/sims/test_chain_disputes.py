"""Disputes on the real contracts, simulated: every strategy by itself, with the verdict and where the money goes."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from sims.chain.kinds import Conducts, Dispute, Lies, Services, dispute
from sims.result import Outcome

ETHER = 10**18
STAKE, BOUNTY, BOND = 2 * ETHER, ETHER, ETHER // 10
BURNT, REWARD = STAKE // 5, 2 * STAKE // 5


def played(seed: int = 3, **parameters: Any) -> Outcome:
    """A dispute that ends as it should."""
    outcome = dispute(Dispute(**parameters), seed)
    metrics = outcome.metrics
    assert metrics["right"] and metrics["money_conserved"] and metrics["within_bound"]
    return outcome


def gains(outcome: Outcome) -> dict[str, int]:
    """What everybody has gained before gas, in wei."""
    rows = outcome.tables["accounts"].rows
    return {str(name): int(profit or 0) + int(fees or 0) for name, _, _, _, _, fees, profit in rows}


def calls(outcome: Outcome, *senders: str) -> list[str]:
    """The functions that accounts have called, refused calls left out."""
    return [str(call) for _, who, call, _, refused in outcome.tables["transactions"].rows if who in senders and not refused]


def test_an_honest_job_is_paid_and_nobody_is_heard() -> None:
    outcome = played(lie="none")
    assert outcome.metrics["verdict"] == "completed" and outcome.metrics["games"] == 0
    assert gains(outcome) == {"requester": -BOUNTY, "trainer": BOUNTY, "watcher-0": 0}
    assert calls(outcome, "trainer") == ["commit", "claim", "post_segment", "post_segment", "finalise", "finalise", "withdraw"]


FORGED = {"requester": STAKE - BURNT - REWARD, "trainer": -STAKE, "watcher-0": REWARD}


def test_a_forged_element_is_convicted_on_the_fast_path() -> None:
    outcome = played()
    assert outcome.metrics["verdict"] == "convicted" and outcome.metrics["burnt_wei"] == BURNT
    assert gains(outcome) == FORGED
    assert calls(outcome, "watcher-0")[:3] == ["commit", "open_step", "conclude_element"]


def test_a_forged_element_is_convicted_on_the_slow_path() -> None:
    outcome = played(serves="nothing")
    assert outcome.metrics["verdict"] == "convicted" and gains(outcome) == FORGED
    told = calls(outcome, "watcher-0")
    assert told[:3] == ["commit", "open_blind", "show_step"] and "demand_tensor" in told and "conclude_element" in told


@pytest.mark.parametrize("lie", [lie for lie in get_args(Lies) if lie not in ("none", "element")])
@pytest.mark.parametrize("serves", ["all", "nothing"])
def test_every_lie_is_convicted(lie: str, serves: str) -> None:
    assert gains(played(lie=lie, serves=serves)) == FORGED


@pytest.mark.parametrize("conduct", get_args(Conducts))
def test_however_a_liar_plays_it_is_convicted(conduct: str) -> None:
    assert gains(played(conduct=conduct, serves="nothing")) == FORGED


@pytest.mark.parametrize("serves", get_args(Services))
def test_whatever_a_liar_serves_it_is_convicted(serves: str) -> None:
    assert gains(played(serves=serves)) == FORGED


def test_made_up_parts_of_a_long_run_are_convicted() -> None:
    outcome = played(
        program="long-dot", size=40_000, steps=1, segment_steps=1, lie_step=0, lie="dot", conduct="fabricate", serves="all"
    )
    assert gains(outcome) == FORGED and "conclude_part" in calls(outcome, "watcher-0")


def test_a_liar_that_nobody_watches_gets_away() -> None:
    outcome = dispute(Dispute(watchers=0), 3)
    assert (outcome.metrics["verdict"], outcome.metrics["right"]) == ("completed", False)
    assert gains(outcome)["trainer"] == BOUNTY


# Those who challenge what is right


@pytest.mark.parametrize("grief", ["point", "wander", "silent", "stall"])
@pytest.mark.parametrize("late", [False, True])
def test_false_challenges_cost_their_bonds_and_delay_no_longer_than_the_bound(grief: str, late: bool) -> None:
    outcome = played(lie="none", sybils=3, grief=grief, late=late)
    assert outcome.metrics["games"] == 3 and gains(outcome)["trainer"] == BOUNTY + 3 * BOND
    assert [gains(outcome)[f"sybil-{k}"] for k in range(3)] == [-BOND] * 3


def test_more_silent_sybils_delay_no_longer_than_one() -> None:
    alone, many = (played(lie="none", sybils=n, grief="silent", late=True).metrics["delay_seconds"] for n in (1, 8))
    assert alone == many


def test_a_watcher_of_another_version_loses_its_bond_and_no_more() -> None:
    outcome = played(lie="none", mistaken=1)
    assert gains(outcome) == {"requester": -BOUNTY, "trainer": BOUNTY + BOND, "watcher-0": 0, "mistaken-0": -BOND}


# Those who are after the reward


@pytest.mark.parametrize("friend", ["hold", "convict"])
def test_a_friend_of_the_trainer_saves_it_the_reward_and_no_more(friend: str) -> None:
    outcome = played(friend=friend)
    assert gains(outcome)["trainer"] + gains(outcome)["friend"] == -STAKE + REWARD
    assert gains(outcome)["watcher-0"] == 0


@pytest.mark.parametrize("serves", ["all", "nothing"])
def test_whoever_copies_a_watcher_gains_nothing(serves: str) -> None:
    outcome = played(copycats=2, serves=serves)
    assert gains(outcome) == {**FORGED, "copycat-0": 0, "copycat-1": 0}
    assert "open_step" in calls(outcome, "copycat-0") or "open_blind" in calls(outcome, "copycat-0")


@pytest.mark.parametrize("order", ["attackers", "honest"])
def test_whoever_orders_the_blocks_the_reward_is_the_watchers(order: str) -> None:
    assert gains(played(copycats=1, serves="nothing", order=order)) == {**FORGED, "copycat-0": 0}


def test_one_of_several_watchers_is_rewarded_and_the_others_get_their_bonds_back() -> None:
    outcome = played(watchers=3, refuses=1, serves="all")
    assert sorted(gains(outcome)[f"watcher-{k}"] for k in range(3)) == [0, 0, REWARD]


# Mishaps


def test_a_watcher_that_was_down_goes_on_with_its_game() -> None:
    outcome = played(serves="nothing", outage_after_seconds=130, outage_seconds=1_500)
    assert gains(outcome) == FORGED and calls(outcome, "watcher-0").count("open_blind") == 1
    assert int(outcome.metrics["delay_seconds"] or 0) > 1_500


@pytest.mark.parametrize("slice_seconds", [0, 120])
def test_censorship_for_less_than_window_and_clock_saves_no_liar(slice_seconds: int) -> None:
    outcome = played(serves="nothing", censored="watchers", censorship_seconds=2_400, slice_seconds=slice_seconds)
    assert gains(outcome) == FORGED


def test_censorship_for_longer_than_the_window_does() -> None:
    outcome = dispute(Dispute(censored="watchers", censorship_seconds=6_000), 3)
    assert outcome.metrics["verdict"] == "completed" and not outcome.metrics["right"] and outcome.metrics["money_conserved"]


def test_a_claim_that_was_censored_for_as_long_as_its_commitment_lives_is_committed_to_anew() -> None:
    outcome = played(lie="none", censored="trainer", censorship_seconds=1_200, slice_seconds=600)
    assert gains(outcome)["trainer"] == BOUNTY and calls(outcome, "trainer")[:2] != ["commit", "claim"]


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_reorganisations_change_no_verdict(blocks: int) -> None:
    outcome = played(serves="nothing", copycats=1, reorgs=3, reorg_blocks=blocks)
    assert gains(outcome) == {**FORGED, "copycat-0": 0}


def test_a_reorganisation_that_undoes_the_end_is_made_good() -> None:
    outcome = played(lie="none", steps=1, segment_steps=1, lie_step=0, reorgs=1, reorg_blocks=4)
    assert gains(outcome)["trainer"] == BOUNTY
