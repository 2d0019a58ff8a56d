"""A trainer that defends a wrong element of a long run with partial results of its own making."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bisection.agent import Chain, Defender
from bisection.descent import parts_payload
from bisection.game import Outcome, Owed, Reveal
from bisection.numbers import wrap
from bisection.solver import own_parts, parts_below
from bisection.trace import Trace

__all__ = ["Choice", "Liar", "balanced"]

Choice = Callable[[tuple[int, ...], int, bool], Sequence[int]]
"""(one's own partial results, what they must combine to, whether to a maximum) → those to show."""


class Liar:
    """A trainer that defends a wrong element with partial results of its choice; whatever else it says is consistent."""

    def __init__(self, chain: Chain, own: Trace, choose: Choice) -> None:
        self._chain, self._own, self._choose = chain, own, choose

    def play(self, number: int) -> bool:
        game = self._chain.game(number)
        if game.outcome != Outcome.LIVE or game.owed != Owed.PARTS:
            return Defender(self._chain, self._own).play(number)
        d = game.descent
        assert d is not None
        parts = self._choose(parts_below(own_parts(game, self._own), d), d.value, d.takes_max)
        self._chain.move(number, Reveal(d.trail, d.picked, parts_payload(parts)))
        return True


def balanced(parts: Sequence[int], at: int, value: int, maximum: bool) -> list[int]:
    """``parts`` with number ``at`` (and for a maximum those above it) changed so that they combine to ``value``."""
    made = [min(part, value) for part in parts] if maximum else list(parts)
    made[at] = value if maximum else wrap(value - sum(made[:at]) - sum(made[at + 1 :]), 64)
    return made
