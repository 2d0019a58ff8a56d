"""Disputes with a cast drawn at random: a sample of what ``make sims`` plays a thousand of."""

from __future__ import annotations

from dataclasses import asdict
from typing import get_args, get_type_hints

import pytest

from sims.chain.kinds import KINDS, SMALL, Dispute, RandomDispute, drawn, random_dispute
from sims.result import Result


@pytest.mark.parametrize("seed", range(2_000, 2_016))
def test_every_verdict_is_right_the_money_is_all_there_and_no_bound_is_crossed(seed: int) -> None:
    metrics = random_dispute(RandomDispute(), seed).metrics
    assert metrics["right"] and metrics["money_conserved"] and metrics["within_bound"], drawn(RandomDispute(), seed)


def test_the_same_seed_gives_the_same_bytes_whatever_was_played_before() -> None:
    def told(seed: int) -> bytes:
        outcome = random_dispute(RandomDispute(), seed)
        return Result("", "chain.random", seed, {}, outcome.metrics, outcome.tables).to_bytes()

    first = told(7)
    told(8)
    assert told(7) == first


def test_what_is_drawn_varies() -> None:
    casts = [asdict(drawn(RandomDispute(), seed)) for seed in range(200)]
    assert {cast["program"] for cast in casts} == set(SMALL)
    for name in ("lie", "conduct", "serves", "friend", "grief", "censored"):
        assert {cast[name] for cast in casts} == set(get_args(get_type_hints(Dispute)[name]))


def test_every_parameter_says_what_it_is() -> None:
    for kind in KINDS.values():
        for name, parameter in kind.parameters.__dataclass_fields__.items():
            assert parameter.metadata["help"], name
            least, most = parameter.metadata.get("least"), parameter.metadata.get("most")
            assert least is None or parameter.default >= least
            assert most is None or parameter.default <= most
