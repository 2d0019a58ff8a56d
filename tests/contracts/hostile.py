"""Hostile calls of the contracts that hold jobs, games and money, in every situation of an honest job, by everybody.

A call is refused, or it does exactly what the canonical bytes of the arguments that it spells do for the same caller. Nobody moves
for another, or proves what is not so; no honest trainer is convicted; nobody has less afterwards but for what it sent itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tests.contracts.arena import Act, Arena, Outcome, functions, further, script
from tests.contracts.stage import Actor
from tests.contracts.tally import Tally
from tests.support.calldata import Calldata, Undecodable, damaged, decode, encode, is_dynamic

__all__ = ["hostile_calls"]

TRAINER = {"post_segment", "claim", "post_trace", "reveal"}
CHALLENGER = {
    "open_step", "open_blind", "show_step", "demand_trace", "demand_state", "demand_tensor", "demand_run", "pick", "refute",
    "conclude_boundary", "conclude_element", "conclude_run", "conclude_part",
}  # fmt: skip
OWNER = {"add_game", "retire_game", "set_delivery", "transfer_ownership", "renounce_ownership", "pause", "unpause"}
CONTRACTS = {"game_opened", "game_closed", "convict", "demand_opened", "demand_closed", "withhold", "accept_ownership"}
"""Whose calls these are; all others are anybody's. Those of contracts, and of a pending owner, which there is not, are nobody's."""


PROVED: dict[str, int | None] = {
    **dict.fromkeys(("post_segment", "open_step", "demand_trace", "demand_state", "demand_tensor", "answer")),
    **dict.fromkeys(("conclude_boundary", "conclude_run", "conclude_part")),
    **{"show_step": 5, "demand_run": 3, "conclude_element": 4, "reveal": 3},
}
"""Functions whose arguments the run determines, but for the number of the job, game or demand, which comes first, and for the
one whose number stands here: a wish; the position, as one leaf proves all its elements; a payload, which nobody has checked."""


def may(arena: Arena, who: Actor, function: str) -> bool:
    """Whether a function can be this actor's to call."""
    stage = arena.stage
    roles = (stage.trainer, TRAINER), (stage.challenger, CHALLENGER), (stage.deployer, OWNER), (stage.requester, {"cancel"})
    for role, own in roles:
        if function in own:
            return who is role
    return function not in CONTRACTS


@dataclass(frozen=True)
class Hostile:
    """A call as somebody hostile makes it: what was damaged, the act that it was made from, and the call itself."""

    damage: str
    act: Act
    who: Actor
    data: bytes
    value: int


def drawn(arena: Arena, due: Act, known: Sequence[Act], rng: np.random.Generator) -> Hostile:
    """The act that is due, mostly, or any other, mostly by its own actor: damaged, out of turn or put together falsely."""
    act = due if rng.random() < 0.5 else known[int(rng.integers(len(known)))]
    who = act.who if rng.random() < 0.75 else arena.stage.actors[int(rng.integers(len(arena.stage.actors)))]
    way = rng.random()
    if way < 0.06 and (act is not due or who is not act.who):
        return Hostile("out of turn", act, who, bytes(act.calldata), act.value)
    if way < 0.1:
        value = (1, act.value + 1, max(act.value - 1, 0), 2 * act.value, 10**18)[int(rng.integers(5))]
        if value != act.value:
            return Hostile("another value", act, who, bytes(act.calldata), value)
    if way < 0.25 and (false := spliced(act, known, rng)) is not None:
        return Hostile("argument of another call", act, who, bytes(false), act.value)
    damage, data = damaged(act.calldata, rng)
    return Hostile(damage, act, who, data, act.value)


def spliced(act: Act, known: Sequence[Act], rng: np.random.Generator) -> Calldata | None:
    """The act with an argument that another call has, or with one byte of a payload one more; None where nothing fits."""
    kinds, arguments = act.kinds, list(act.spelt)
    places = [i for i, kind in enumerate(kinds) if i and (is_dynamic(kind) or kind == "bytes32")]
    if not places:
        return None
    at = places[int(rng.integers(len(places)))]
    if kinds[at] == "bytes" and arguments[at] and rng.random() < 0.5:
        item = int(rng.integers(len(arguments[at])))
        arguments[at] = bytes((byte + (i == item)) % 256 for i, byte in enumerate(arguments[at]))
    else:
        rows = [other.spelt[i] for other in known for i, kind in enumerate(other.kinds) if kind == kinds[at]]
        arguments[at] = rows[int(rng.integers(len(rows)))]
    return encode(bytes(act.calldata)[:4], kinds, arguments) if arguments != list(act.spelt) else None


def hostile_calls(arena: Arena, count: int, seed: int) -> Tally:
    """At least ``count`` calls, in every situation and most before a judgement. The arena must be fresh."""
    tally = Tally()
    known = list(further(arena))
    each = -(-count // (SITUATIONS + (WEIGHT - 1) * JUDGED))
    for situation, due in enumerate(script(arena)):
        known.append(due)
        wealth = arena.wealth()
        for case in range(each * (WEIGHT if due.function.startswith("conclude") else 1)):
            call = drawn(arena, due, known, np.random.default_rng([seed, situation, case]))
            outcome = arena.attempt(call.who, call.act.contract, call.data, call.value)
            findings = []
            if outcome.reason is None:
                where = f"case {seed}, {situation}, {case} ({call.damage} {call.act.function})"
                findings = [f"{where}: {told}" for told in wrongs(arena, call, outcome, wealth, known)]
            tally.note(call.act.contract.NAME, call.damage, outcome.reason, outcome.gas, findings)
        arena.perform(due)
        if (refutation := arena.slow.refutation()) is not None:
            known.append(refutation)
    return tally


SITUATIONS = 46  # of the script
JUDGED = 6  # of these are before a judgement, where more calls are tried
WEIGHT = 6


def wrongs(arena: Arena, call: Hostile, outcome: Outcome, wealth: Sequence[int], honest: Sequence[Act]) -> Iterator[str]:
    """What is wrong with what an accepted call did; ``wealth`` is what everybody had before, ``honest`` are true acts."""
    known = functions(call.act.contract.NAME)
    if call.data[:4] not in known:
        yield "accepted without a function"
        return
    function, kinds = known[call.data[:4]]
    try:
        arguments = decode(kinds, call.data[4:])
    except Undecodable as error:
        yield f"the ABI does not allow {error}"
        return
    if not may(arena, call.who, function):
        yield f"{function} is not for {call.who.address}"
    if function in PROVED and proof(function, arguments) not in proofs(function, kinds, honest):
        yield f"{function} proves what is not so"
    if outcome.convicts:
        yield "an honest trainer convicted"
    for actor, before, after in zip(arena.stage.actors, wealth, outcome.wealth, strict=True):
        if after < before - (call.value if actor is call.who else 0):
            yield f"{actor.address} has lost {before - after} wei"
    canonical = arena.attempt(call.who, call.act.contract, bytes(encode(call.data[:4], kinds, arguments)), call.value)
    if (canonical.reason, canonical.returned, canonical.logs, canonical.view) != (
        None,
        outcome.returned,
        outcome.logs,
        outcome.view,
    ):
        yield "canonical bytes of the same arguments do something else"


def proof(function: str, arguments: Sequence[object]) -> list[object]:
    """What a call of a proved function proves."""
    return [argument for i, argument in enumerate(arguments) if i not in (0, PROVED[function])]


def proofs(function: str, kinds: Sequence[str], honest: Sequence[Act]) -> list[list[object]]:
    """What honest calls of the function prove."""
    return [proof(function, decode(kinds, act.calldata.body)) for act in honest if act.function == function]
