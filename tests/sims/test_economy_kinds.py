"""The kinds of the economic level as a user meets them: parameters, outcomes, costs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from bisection.errors import UsageError
from contracts.economics import GWEI, MOVE_GAS, SAFETY, Depths, game_bond, trainer_gas
from sims.economy.costs import MEASURED, Costs, Side, costs
from sims.economy.kinds import KINDS
from sims.kinds import Kind
from sims.parameters import build, parameters_of, values_of
from sims.result import Result

SMALL = {"episodes": 64, "months": 3, "jobs_per_month": 40}


def small(kind: Kind) -> object:
    return build(kind.parameters, {name: count for name, count in SMALL.items() if name in parameters_of(kind.parameters)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_number_has_bounds_and_every_column_a_sentence(kind: Kind) -> None:
    for name, parameter in parameters_of(kind.parameters).items():
        assert parameter.choices or parameter.type is bool or (parameter.least is not None and parameter.most is not None), name
    outcome = kind.run(small(kind), 4)
    assert all(table.rows and all(column.help for column in table.columns) for table in outcome.tables.values())
    bounded = [name.removesuffix("_low") for name in outcome.metrics if name.endswith("_low")]
    assert bounded or kind.name == "economy.dilemma"
    for name in bounded:
        low, mean, high = (outcome.metrics[key] for key in (f"{name}_low", name, f"{name}_high"))
        assert (low is mean is high is None) or low <= mean <= high, name  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_equal_seeds_give_equal_bytes_and_others_do_not(kind: Kind) -> None:
    def bytes_of(seed: int) -> bytes:
        outcome = kind.run(small(kind), seed)
        return Result("test", kind.name, 0, values_of(small(kind)), outcome.metrics, outcome.tables).to_bytes()

    assert bytes_of(1) == bytes_of(1)
    assert bytes_of(1) != bytes_of(2)


def test_a_run_imports_nothing_heavy() -> None:
    lines = (
        "import sys",
        "from sims.economy.kinds import KINDS",
        "KINDS[2].run(KINDS[2].parameters(episodes=10), 0)",
        "print([name for name in ('torch', 'web3', 'vyper', 'eth_tester', 'pyrevm', 'matplotlib') if name in sys.modules])",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


# Costs --------------------------------------------------------------------------------------------------------------------

SHIPPED = json.loads(MEASURED.read_text(encoding="utf-8"))
# The trees of a dispute at full scale, as tests/contracts/test_scale.py has them.
FULL = Depths(history=21, trace=14, state=0, tensor=25, run=12)


def test_costs_are_those_of_the_file_and_of_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(SHIPPED | {"verdict": 1, "slow_trainer": {"gas": 2, "transactions": 3}, "source": "somewhere"}))
    found = costs(path)
    assert (found.verdict, found.slow_trainer, found.claim) == (1, Side(2, 3), SHIPPED["claim"])
    assert {spec.name for spec in fields(Costs)} == SHIPPED.keys()
    assert all(spec.default is MISSING for spec in fields(Costs))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{", "no JSON"),
        ("[]", "a list; expected an object"),
        ("{}", "open_job = None; expected gas above 0"),
        *(
            (json.dumps(SHIPPED | {name: value}), f"{name} = .*; expected gas")
            for name, value in (
                ("verdict", 0),
                ("verdict", 1.5),
                ("verdict", True),
                ("claim", {"gas": 5}),
                ("fast_trainer", 5),
                ("fast_trainer", {"gas": 5}),
            )
        ),
    ],
)
def test_a_file_without_costs_is_one_error_that_says_how_to_mend_it(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "costs.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"costs.json: {said}.*; python -m sims.chain.measure writes them") as caught:
        costs(path)
    assert "\n" not in str(caught.value)


def test_what_was_measured_lies_within_what_bonds_are_computed_from() -> None:
    """contracts/economics.py bounds the gas of the trainer's moves: the shipped costs keep the bounds, and are not far below."""
    known = costs()
    assert known.fast_trainer.gas < known.slow_trainer.gas <= trainer_gas(FULL) <= 2 * known.slow_trainer.gas
    reveals = (trainer_gas(FULL) - MOVE_GAS["post_trace"]) // MOVE_GAS["reveal"]
    assert known.fast_trainer.transactions < known.slow_trainer.transactions <= 1 + reveals
    for fee in (0.1, 5, 50):
        assert game_bond(round(fee * GWEI)) > SAFETY * known.slow_trainer.gas * fee * GWEI


def test_a_side_is_dearer_than_its_opening_and_its_verdict() -> None:
    known = costs()
    for path, opened in (("fast", known.open_step), ("slow", known.open_blind)):
        assert known.opening(path) == known.commit + opened
        assert known.challenger(path).gas > known.opening(path)
    assert known.slow_challenger.gas > known.opening("slow") + known.verdict
    assert (known.challenger("slow"), known.trainer("fast")) == (known.slow_challenger, known.fast_trainer)
