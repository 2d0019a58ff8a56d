"""Games as they are stored: no field runs into another, whatever both hold (contracts/modules/records.vy)."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.bindings import Phase
from contracts.jobs import NOBODY
from tests.contracts.stage import digest
from tests.differential.evm import Contract, Reverted

WIDTHS: dict[str, int] = {
    **{"challenger": 160, "job": 48, "attempt": 16, "segment": 32},
    **{"phase": 8, "descended": 5, "shown": 1, "trainer_spent": 32, "challenger_spent": 32, "moved_at": 40, "paused": 32},
    **{"tree": 5, "height": 8, "position": 32, "count": 40, "picked": 8},
    **{"rank": 64, "step": 32, "tensor": 32, "size": 48, "run_node": 32, "run_position": 48},
}
"""The fields of a game → the bits that each is stored in."""

FIXED = ("challenger", "job", "attempt", "segment")
STATE = (*FIXED, "phase", "descended", "shown", "trainer_spent", "challenger_spent", "moved_at", "paused")
SUBJECT = ("rank", "step", "tensor", "size", "run_node", "run_position")
DESCENT = ("tree", "seal", "height", "position", "count", "picked")
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def stored() -> Contract:
    return Contract("records_mock")


def game_of(**values: int) -> Fields:
    """A game with these numbers in its fields, and zero in all others."""
    game: Fields = {name: values.get(name, 0) for name in WIDTHS}
    game["challenger"] = "0x" + game["challenger"].to_bytes(20, "big").hex()
    game["shown"] = bool(game["shown"])
    return {**game, "seal": digest("seal", *values.items()), "roots": digest("roots", *values.items())}


def full(name: str) -> int:
    """The largest number of a field."""
    return (1 << WIDTHS[name]) - 1


def keep(stored: Contract, number: int, game: Fields) -> None:
    state = *(game[name] for name in STATE), tuple(game[name] for name in DESCENT)
    stored.call("keep", number, state, tuple(game[name] for name in SUBJECT), game["roots"])


def fields_of(state: tuple[Any, ...]) -> Fields:
    return {**dict(zip(STATE, state, strict=False)), **dict(zip(DESCENT, state[-1], strict=True))}


def kept(stored: Contract, number: int) -> Fields:
    state, subject, roots = stored.call("kept", number)
    return {**fields_of(state), **dict(zip(SUBJECT, subject, strict=True)), "roots": roots}


@pytest.mark.parametrize("name", WIDTHS)
def test_a_field_is_kept_to_its_last_bit_beside_all_others(stored: Contract, name: str) -> None:
    alone = {name: full(name)} if name in FIXED else {name: full(name), "job": 1}
    besides = {other: full(other) for other in WIDTHS if other != name}
    both = {other: full(other) for other in WIDTHS}
    odd, even = ({other: full(other) // 3 << shift for other in WIDTHS} for shift in (0, 1))
    for number, values in enumerate((alone, besides, both, {**odd, "job": 1}, {**even, "job": 2})):
        game = game_of(**values)
        keep(stored, number, game)
        assert kept(stored, number) == game


def test_games_are_kept_apart(stored: Contract) -> None:
    numbers = (1, 2, 3, 2**64, 2**256 - 1)
    for number in numbers:
        keep(stored, number, game_of(job=number % 1000 + 1, step=number % 7))
    for number in numbers:
        assert kept(stored, number) == game_of(job=number % 1000 + 1, step=number % 7)


def test_what_changes_is_loaded_without_what_does_not(stored: Contract) -> None:
    game = game_of(**{name: full(name) for name in WIDTHS})
    keep(stored, 9, game)
    assert fields_of(stored.call("play", 9)) == {
        **{name: game[name] for name in (*STATE, *DESCENT)},
        **{"challenger": NOBODY, "job": 0, "attempt": 0, "segment": 0},
    }


def test_a_game_that_is_not_there_is_in_no_phase_and_no_contender() -> None:
    stored = Contract("records_mock")
    for number in (0, 1, 2**256 - 1):
        with pytest.raises(Reverted, match="game: unknown game"):
            stored.call("kept", number)
        assert set(fields_of(stored.call("play", number)).values()) == {0, NOBODY, bytes(32)}
        for shown in (False, True):
            assert stored.call("contender", number, shown) == (False, 0, NOBODY)


LIVE = (Phase.CHALLENGER, Phase.TRACE, Phase.CHILDREN, Phase.LEAF, Phase.PARTS)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("others", [0, 1])
def test_a_contender_is_live_and_where_it_is_asked_for(stored: Contract, phase: Phase, shown: bool, others: int) -> None:
    """Whatever its other fields hold."""
    values = {name: full(name) * others for name in WIDTHS}
    game = game_of(**{**values, "phase": int(phase), "shown": int(shown), "job": 1, "rank": 5, "challenger": 7})
    keep(stored, 4, game)
    for asked in (False, True):
        assert stored.call("contender", 4, asked) == (phase in LIVE and shown == asked, 5, game["challenger"])


def test_a_contender_has_all_of_its_rank_and_address(stored: Contract) -> None:
    game = game_of(**{name: full(name) for name in WIDTHS})
    keep(stored, 4, game)
    assert stored.call("contender", 4, True)[1:] == (full("rank"), game["challenger"])
