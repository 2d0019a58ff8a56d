"""Calldata with every class of damage, sent to every function of the contracts, by everybody, in every situation of an honest job.

Each call is refused cleanly, or has exactly the effect of the canonical bytes of what it spells. ``FUZZ_CALLS`` says how many the
deep test makes, ``FUZZ_SEED`` which.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from eth_abi import decode as strict_decode
from eth_abi import encode as plain_encode

from tests.contracts.arena import Act, Arena, functions, further, script
from tests.contracts.hostile import SITUATIONS, hostile_calls
from tests.contracts.malformed import malformed_calldata
from tests.contracts.tally import GAS_BOUND, Tally
from tests.differential.evm import Contract
from tests.support.calldata import DAMAGES, Undecodable, damaged, decode, encode

SEED = int(os.environ.get("FUZZ_SEED", "1"))
CALLS = int(os.environ.get("FUZZ_CALLS", "6000"))
PROCEDURES = ("pause", "unpause", "renounce_ownership", "accept_ownership")
"""Functions without arguments that do something."""
STATEFUL = ("TaskRegistry", "DisputeGame", "Delivery")


def assert_clean(tally: Tally) -> None:
    """Nothing went wrong, nothing was dear, and every class of damage was tried and refused."""
    assert tally.findings == []
    assert tally.most_gas < GAS_BOUND
    assert {damage for _, damage in tally.refused} >= set(DAMAGES) - {"extended"}


def test_the_referee_reads_damaged_calldata_as_what_it_spells_or_not_at_all() -> None:
    assert_clean(malformed_calldata(Contract("Referee"), 1_000, 0))


def test_jobs_games_and_money_are_safe_from_damaged_calldata() -> None:
    tally = hostile_calls(Arena(), 1_200, 0)
    assert_clean(tally)
    assert {name for name, _ in tally.refused} == set(STATEFUL)


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_very_many_damaged_calls() -> None:
    assert_clean(malformed_calldata(Contract("Referee"), CALLS // 2, SEED))
    assert_clean(hostile_calls(Arena(), CALLS, SEED))


def test_an_arena_knows_every_function() -> None:
    """Whatever a contract can be called for, somebody damages; what is left out only tells a number or an address."""
    arena = Arena()
    acts = list(further(arena))
    count = 0
    for act in script(arena):
        acts.append(act)
        arena.perform(act)
        acts += filter(None, [arena.slow.refutation()])
        count += 1
    assert count == SITUATIONS
    called = {(act.contract.NAME, act.function) for act in acts}
    for contract in STATEFUL:
        names = {name for name, kinds in functions(contract).values() if kinds or name in PROCEDURES}
        assert {name for name in names if (contract, name) not in called} == set()


def test_a_wrong_effect_would_be_found() -> None:
    """The campaign compares effects: a call that another one's bytes are taken for does not pass."""
    arena = Arena()
    act = next(iter(script(arena)))
    outcome = arena.attempt(act.who, act.contract, bytes(act.calldata), act.value)
    other = Act(act.who, act.contract, act.function, (*act.arguments[:-1], "https://other.example"), act.value)
    assert outcome.reason is None
    assert outcome.view[0] == bytes(32)
    assert arena.attempt(other.who, other.contract, bytes(other.calldata), other.value).logs != outcome.logs
    assert arena.attempt(act.who, act.contract, bytes(act.calldata), act.value) == outcome


# The tools themselves

KINDS = ["uint256", "(bytes32,bytes32[],bytes,bytes32[])[]", "(uint256,bytes,bytes32[])", "int64[]", "string", "bool", "address"]
LEAF = (bytes(range(32)), [b"\1" * 32], b"some bytes", [])
VALUES = [7, [LEAF, LEAF], (3, b"code" * 20, [b"\2" * 32] * 3), [-1, 2**63 - 1], "text", True, "0x" + "11" * 20]


def test_calldata_is_encoded_and_decoded_as_the_abi_says() -> None:
    call = encode(b"name", KINDS, VALUES)
    assert call.body == plain_encode(KINDS, VALUES)
    assert plain_encode(KINDS, decode_with_text(call.body)) == call.body
    assert sorted(word.at for word in call.words) == sorted({word.at for word in call.words}), "each word is described once"
    assert {word.at for word in call.words} == set(range(0, len(call.body), 32)), "and none is left out"


def decode_with_text(body: bytes) -> list[object]:
    """The values, with strings as text."""
    return [value.decode() if kind == "string" else value for kind, value in zip(KINDS, decode(KINDS, body), strict=True)]


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_leaves_nothing_as_it_was(name: str) -> None:
    rng = np.random.default_rng(0)
    call = encode(b"name", KINDS, VALUES)
    made = [DAMAGES[name](call, rng) for _ in range(100)]
    assert sum(data not in (None, bytes(call)) for data in made) > 50


def test_what_a_strict_decoder_reads_the_lenient_one_reads_alike() -> None:
    """And it refuses numbers that do not fit their types, as every decoder must."""
    call, read = encode(b"name", KINDS, VALUES), 0
    for seed in range(300):
        _, data = damaged(call, np.random.default_rng(seed))
        try:
            strict = strict_decode(KINDS, data[4:])
        except Exception:  # whatever a decoder raises at such bytes
            continue
        read += 1
        assert encode(b"", KINDS, decode(KINDS, data[4:])).body == plain_encode(KINDS, strict)
    assert read > 20
    for kind, word in (("bool", 2), ("address", 1 << 160), ("int64", 1 << 63)):
        with pytest.raises(Undecodable):
            decode([kind], word.to_bytes(32, "big"))
