"""Who is rewarded, in the histories in which the state machine found it to matter."""

from __future__ import annotations

import pytest

from bisection.game import Demand, ShowStep, Timeout, TreeKind
from tests.protocol.actors import opening_of
from tests.protocol.acts import Acts
from tests.protocol.conftest import STAKE
from tests.protocol.deployed import PARAMETERS
from tests.protocol.parties import Parties

REWARD = STAKE * PARAMETERS.reward_share // 10_000


def rewarded(parties: Parties, who: str) -> bool:
    return parties.world.chain.credit("TaskRegistry", parties.world.chain.tokens[0], parties.world.address(who)) == REWARD


def blind(history: Acts, who: str) -> int:
    """A game on the only segment."""
    history.open(who, 1, 0, None)
    return len(history.world.games.games)


def at_step(history: Acts, who: str) -> int:
    """A game on the only step."""
    history.open(who, 1, 0, opening_of(history.parties.span(1, 1, 0), 0))
    return len(history.world.games.games)


def test_whoever_has_left_the_blind_place_is_not_first_there(history: Acts) -> None:
    parties, world = history.parties, history.world
    early, late = blind(history, "hostile"), blind(history, "watcher")
    parties.defend(early)
    world.move("hostile", early, ShowStep(opening_of(parties.span(1, 1, 0), 0)))
    parties.defend(early)
    parties.pass_time(500)
    world.move("hostile", early, Demand(TreeKind.TRACE))
    parties.pass_time(501)
    assert world.move("anyone", late, Timeout()), "the trainer has been silent in the later game"
    assert rewarded(parties, "watcher")


def test_whoever_was_first_blind_stays_first_while_it_is_there(history: Acts) -> None:
    parties, world = history.parties, history.world
    first, second = blind(history, "watcher"), blind(history, "copycat")
    parties.pass_time(1_001)
    assert world.move("anyone", second, Timeout()) and world.games.games[first].live
    assert rewarded(parties, "watcher")


@pytest.mark.parametrize(("contends", "winner"), [(False, "copycat"), (True, "watcher")])
def test_only_one_game_is_noted_at_a_place_until_another_contends(history: Acts, contends: bool, winner: str) -> None:
    """Once the noted game has been lost, the second is known to have come before the third only if it has contended."""
    parties, world = history.parties, history.world
    first = at_step(history, "friend")
    parties.defend(first)
    parties.pass_time(300)
    second = at_step(history, "watcher")
    third = parties.watch("copycat", 1, 0)
    assert third is not None
    while third.game is None:
        parties.pursue(third)
        parties.pass_time(1)
    parties.pass_time(299)
    assert world.move("anyone", first, Timeout())
    if contends:
        assert world.act("anyone", "DisputeGame", "contend", second)
    while world.games.games[third.game].live:
        parties.pursue(third)
        parties.defend(third.game)
    assert world.games.games[second].live and world.games.games[second].rank < world.games.games[third.game].rank
    assert rewarded(parties, winner)


def test_a_copied_blind_opening_comes_later(history: Acts) -> None:
    """The copycat sees the opening, which the miner holds back, commits to the same and opens first."""
    parties, world = history.parties, history.world
    assert history.commit("watcher", 1, 0, None)
    parties.pass_time(1)
    copy, original = blind(history, "copycat"), blind(history, "watcher")
    parties.pass_time(1_001)
    assert world.move("anyone", copy, Timeout()) and world.games.games[original].live
    assert rewarded(parties, "watcher")


def test_a_game_of_higher_rank_contends_in_vain(history: Acts) -> None:
    parties, world = history.parties, history.world
    first, second = blind(history, "watcher"), blind(history, "copycat")
    for game in (second, first, second):
        assert world.act("copycat", "DisputeGame", "contend", game)
        assert world.games.first[1, 1, 0, None] is world.games.games[first]
    parties.pass_time(1_001)
    assert world.move("anyone", first, Timeout())
    assert not world.act("copycat", "DisputeGame", "contend", first), "it is over"
