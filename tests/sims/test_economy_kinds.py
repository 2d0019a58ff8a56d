"""The kinds of the economic level as a user meets them: parameters, outcomes, costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bisection.errors import UsageError
from sims.economy.costs import Costs, Side, costs, read
from sims.economy.kinds import KINDS
from sims.kinds import Kind
from sims.parameters import build, parameters_of, values_of
from sims.result import Result

SMALL = {"episodes": 64, "months": 3, "jobs_per_month": 40}


def small(kind: Kind) -> object:
    return build(kind.parameters, {name: count for name, count in SMALL.items() if name in parameters_of(kind.parameters)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_parameter_says_what_it_is(kind: Kind) -> None:
    for name, parameter in parameters_of(kind.parameters).items():
        assert parameter.help, name
        assert parameter.choices or parameter.type is bool or (parameter.least is not None and parameter.most is not None), name
        assert parameter.read(parameter.default) == parameter.default, name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_equal_seeds_give_equal_bytes_and_others_do_not(kind: Kind) -> None:
    def bytes_of(seed: int) -> bytes:
        outcome = kind.run(small(kind), seed)
        return Result("test", kind.name, 0, values_of(small(kind)), outcome.metrics, outcome.tables).to_bytes()

    assert bytes_of(1) == bytes_of(1)
    assert bytes_of(1) != bytes_of(2)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_means_lie_between_their_bounds(kind: Kind) -> None:
    metrics = kind.run(small(kind), 4).metrics
    bounded = [name.removesuffix("_low") for name in metrics if name.endswith("_low")]
    assert bounded or kind.name == "economy.dilemma"
    for name in bounded:
        low, mean, high = (metrics[key] for key in (f"{name}_low", name, f"{name}_high"))
        assert (low is mean is high is None) or low <= mean <= high, name  # type: ignore[operator]


def test_tables_have_a_sentence_for_every_column() -> None:
    for kind in KINDS:
        for table in kind.run(small(kind), 4).tables.values():
            assert all(column.help for column in table.columns)
            assert table.rows


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


def test_costs_are_those_that_were_measured(tmp_path: Path) -> None:
    measured = {"verdict": 1, "slow_trainer": {"gas": 2, "transactions": 3}, "source": "somewhere"}
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(measured), encoding="utf-8")
    found = costs(path)
    assert (found.verdict, found.slow_trainer, found.claim) == (1, Side(2, 3), Costs().claim)
    assert costs(tmp_path / "none.json") == Costs()


@pytest.mark.parametrize(
    "document",
    [{"verdict": 0}, {"verdict": 1.5}, {"verdict": True}, {"fast_trainer": 5}, {"fast_trainer": {"gas": 5}}, {"claim": {"gas": 5}}],
)
def test_costs_that_are_no_counts_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"the costs have {next(iter(document))} = .*; expected gas"):
        read(document)


def test_files_without_costs_are_refused(tmp_path: Path) -> None:
    for text, message in (("{", "is no JSON"), ("[]", "holds no object")):
        path = tmp_path / f"{len(text)}.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=message):
            costs(path)


def test_sides_and_paths() -> None:
    known = Costs()
    assert (known.challenger("slow"), known.trainer("fast")) == (known.slow_challenger, known.fast_trainer)
    assert known.opening("fast") == known.commit + known.open_step < known.fast_challenger.gas
    assert known.opening("slow") == known.commit + known.open_blind < known.slow_challenger.gas
