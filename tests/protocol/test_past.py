"""What was revealed in a descent that is over binds nobody any more."""

from __future__ import annotations

import pytest

from bisection.game import Demand, Move, Pick, Refute, Reveal, ShowStep, TreeKind
from tests.protocol.actors import opening_of
from tests.protocol.acts import Acts
from tests.protocol.test_places import blind


@pytest.mark.parametrize("right", [True, False])
def test_nothing_is_picked_or_refuted_of_a_descent_that_is_over(history: Acts, right: bool) -> None:
    """The seal of the history outlives its descent: no reveal of it, right or wrong, is refuted once a step is shown."""
    parties, world = history.parties, history.world
    number = blind(history, "hostile")
    game = world.games.games[number]
    if right:
        parties.defend(number)
    else:
        d = game.state.descent
        assert d is not None
        world.move("liar", number, Reveal(d.trail, d.picked, bytes(32 << d.levels)))
    d = game.state.descent
    assert d is not None and d.below is not None
    past: list[Move] = [Refute(d.origin, d.first, d.above, d.below), Pick(d.seal(game.state.claim.trainer), 0)]
    assert world.move("hostile", number, ShowStep(opening_of(parties.span(1, 1, 0), 0)))
    parties.defend(number)
    for move in past:
        assert not world.move("hostile", number, move)
    assert world.move("hostile", number, Demand(TreeKind.TRACE))
    assert not world.move("liar", number, Reveal(d.trail, d.picked, d.below))
    parties.defend(number)
    for move in past:
        assert not world.move("hostile", number, move)


def test_an_answer_lands_only_on_what_was_picked(history: Acts) -> None:
    """The trail is the same whichever item is picked of an answer: the index is named beside it."""
    world, number = history.world, blind(history, "hostile")
    d = world.games.games[number].state.descent
    assert d is not None
    payload = bytes(32 << d.levels)
    for move in (Reveal(d.trail, 1, payload), Reveal(bytes(32), 0, payload), Reveal(d.trail, 0, payload + bytes(32))):
        assert not world.move("liar", number, move)
    for who in ("hostile", "anyone", "honest"):
        assert not world.move(who, number, Reveal(d.trail, 0, payload))
    assert world.move("liar", number, Reveal(d.trail, 0, payload))
