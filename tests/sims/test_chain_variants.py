"""Disputes under another arity and leaf size, in copies of the sources."""

from __future__ import annotations

import re

import pytest

from bisection.errors import RefstepError
from sims.chain.kinds import Design, Scaled, design, scaled
from sims.chain.variants import ROOT, Variant, sources_of

SMALL = {"steps": 8, "nodes": 16, "elements": 1 << 12, "run_length": 128, "withheld": True}


@pytest.mark.parametrize("variant", [Variant(16, 1024), Variant(2, 4096)])
def test_a_variant_replaces_its_constants_and_nothing_else(variant: Variant) -> None:
    with sources_of(variant) as copy:
        game = (copy / "contracts/modules/arity.vy").read_text(encoding="utf-8")
        assert f"LEVELS: constant(uint256) = {variant.levels}\n" in game
        assert f"\nLEVELS = {variant.levels} " in (copy / "bisection/descent.py").read_text(encoding="utf-8")
        merkle = (copy / "bisection/merkle.py").read_text(encoding="utf-8")
        assert re.findall(r"^LEAF_BYTES = (\d+)$", merkle, re.MULTILINE) == [str(variant.leaf_bytes)]
        referee = (copy / "contracts/interfaces/IReferee.vyi").read_text(encoding="utf-8")
        assert f"data: Bytes[{variant.leaf_bytes}]" in referee and f"data: Bytes[{8192 + variant.leaf_bytes}]" in referee


def test_the_variant_in_use_is_the_sources_as_they_are() -> None:
    with sources_of(Variant(64, 256)) as copy:
        for path in (*ROOT.glob("contracts/**/*.vy*"), *ROOT.glob("bisection/*.py")):
            assert (copy / path.relative_to(ROOT)).read_bytes() == path.read_bytes(), path
    assert design(Design(**SMALL), 3).metrics == scaled(Scaled(**SMALL), 3).metrics


@pytest.mark.deep
def test_a_dispute_under_another_arity_takes_more_rounds() -> None:
    binary, used = (design(Design(**SMALL, arity=arity), 0).metrics for arity in (2, 64))
    assert binary["right"] and binary["money_conserved"]
    assert int(str(binary["dispute_transactions"])) > int(str(used["dispute_transactions"]))


def test_a_variant_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sims.chain.variants.sys.executable", "false")
    with pytest.raises(RefstepError, match=r"arity=32, leaf_bytes=256.+ failed"):
        design(Design(arity=32), 0)


@pytest.mark.parametrize("value", [{"arity": 48}, {"leaf_bytes": 300}, {"elements": 1_000}])
def test_only_powers_of_two_can_be_played(value: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is no power of two"):
        Design(**value)  # type: ignore[arg-type]
