"""Does the suite notice when a contract is wrong? Mutation testing of the Vyper sources (docs/assurance.md).

python -m benchmarks.mutation [--only FILE ...] [--sample N --seed S] [--jobs 2] [--again STATUS ...] [--slow] [--results PATH]
python -m benchmarks.mutation --report [--results PATH]

Each mutant is one small edit of a source (benchmarks/_mutants.py); the tests that concern the file run on it until one fails
(benchmarks/_forks.py). Outcomes are kept as lines of JSON under a mutant's key, which changes with the source of its file: a run
goes on where the last one ended. ``--again survived`` runs the survivors alone once more, say after tests were added. Why a
survivor may live stands in benchmarks/data/survivors.toml.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks._forks import Outcome, Suite, run
from benchmarks._mutants import OPERATORS, Mutant, mutants_of
from benchmarks.disputes import table
from contracts.build import ROOT, names

PROJECT = ROOT.parent
RESULTS = PROJECT / "build" / "mutation.jsonl"
REASONS = PROJECT / "benchmarks" / "data" / "survivors.toml"
LIMIT = 900.0
"""Seconds after which a mutant is taken to run for ever."""

COUNTED = ("killed", "timeout", "survived")

UNITS = {
    "modules/merkle.vy": ("tests/differential/test_merkle_vyper.py", "tests/differential/test_neighbours_vyper.py"),
    "modules/records.vy": ("tests/contracts/test_game_records.py",),
    "modules/scalar_program.vy": ("tests/differential/test_scalar_vyper.py",),
    "modules/soft_float.vy": ("tests/differential/test_scalar_vyper.py",),
}
"""Tests of a module on its own, through a mock."""

REFEREE = tuple(f"test_{what}.py" for what in ("referee", "mutants_referee", "referee_nodes", "referee_malformed", "referee_*"))
DIFFERENTIAL = ("tests/differential/test_nodes_vyper.py",)
PROTOCOL = tuple(
    f"test_{what}.py"
    for what in (
        "registry", "ledger", "commitments", "game", "game_*", "attempts", "milestones", "tokens", "governance", "lineage",
        "delivery", "events", "bindings", "deploy",
    )
)  # fmt: skip
CONTRACTS: dict[str, tuple[str, ...]] = {
    "Referee": REFEREE,
    "DisputeGame": (
        "test_game.py",
        *(f"test_game_{what}.py" for what in ("openings", "descents", "reveals", "refutations", "runs", "clocks", "attempts")),
        *PROTOCOL,
    ),
    "TaskRegistry": PROTOCOL,
    "Delivery": ("test_delivery.py", *PROTOCOL),
}
"""The tests in tests/contracts of what a deployable contract does, the most specific first. The order only sets the pace."""

LEFT_OUT = ("test_referee_gas.py", "test_game_gas.py")
"""A mutant that does nothing but cost more gas is no wrong contract."""

WALL_CLOCK = (
    "tests/contracts/test_events.py::test_a_reorganisation_and_what_happened_instead_come_together",
    "tests/contracts/test_events.py::test_a_block_that_is_replaced_while_it_is_read_is_read_again",
)
"""They fail on a machine so busy that two blocks of eth-tester, which follows the clock, do not differ as they expect."""

SLOW = ("test_game_model.py", "test_ledger_solvency.py")
"""Random histories of minutes: last, and only with ``--slow``."""


@cache
def imported(file: str) -> frozenset[str]:
    """The modules that a source below contracts/ consists of, those that they import in turn, and itself."""
    found = re.findall(r"^from modules import (\w+)", (ROOT / file).read_text(), re.MULTILINE)
    return frozenset({file}.union(*(imported(f"modules/{name}.vy") for name in found)))


def suite(file: str, slow: bool) -> Suite:
    """What can kill a mutant of ``file``."""
    contracts = tuple(name for name in _deployable() if file in imported(f"{name}.vy"))
    mocks = tuple(path.stem for path in sorted(ROOT.glob("mocks/*.vy")) if file in imported(f"mocks/{path.name}"))
    units = UNITS.get(file, ())
    tests = list(units)
    for name in contracts:
        tests += [found for pattern in CONTRACTS[name] for found in _matching(pattern)]
        tests += DIFFERENTIAL if name == "Referee" else ()
    aside = {f"tests/contracts/{name}" for name in (*LEFT_OUT, *SLOW)}
    tests = [test for test in dict.fromkeys(tests) if test not in aside]
    if slow and contracts != ("Referee",):
        tests += [f"tests/contracts/{name}" for name in SLOW]
    return Suite(file, tuple(tests), frozenset(units), contracts, mocks)


def _deployable() -> list[str]:
    """The contracts, those whose tests are fastest first. Raises ValueError for one that has no tests in the table."""
    return sorted(names(), key=list(CONTRACTS).index)


def _matching(pattern: str) -> list[str]:
    return [str(path.relative_to(PROJECT)) for path in sorted(PROJECT.glob(f"tests/contracts/{pattern}"))]


def sources() -> list[str]:
    """The files under test, relative to contracts/."""
    return [str(path.relative_to(ROOT)) for path in (*sorted(ROOT.glob("*.vy")), *sorted(ROOT.glob("modules/*.vy")))]


def load(path: Path) -> dict[str, dict[str, Any]]:
    """The outcomes so far by key; of several the last. A line that was cut short is none."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["key"]] = row
    return found


def measure(mutants: Sequence[Mutant], results: Path, jobs: int, slow: bool) -> None:
    """Run the suites on ``mutants`` and append the outcomes to ``results``. Raises RuntimeError where a suite fails without any."""
    results.parent.mkdir(parents=True, exist_ok=True)
    suites = {file: suite(file, slow) for file in dict.fromkeys(mutant.file for mutant in mutants)}
    texts = {file: (ROOT / file).read_text() for file in suites}
    files = sorted({test for each in suites.values() for test in each.tests})
    sound: list[Outcome] = []

    def said(mutant: Mutant | None, outcome: Outcome) -> None:
        if mutant is None:
            print(f"the sources as they are: {outcome.status} {outcome.by} in {outcome.processor:.0f} s", flush=True)
            sound.append(outcome)
            return
        text = texts[mutant.file]
        first, last = text.rfind("\n", 0, mutant.start) + 1, text.find("\n", mutant.end)
        row = {
            "key": mutant.key, "file": mutant.file, "line": mutant.line, "operator": mutant.operator,
            "old": text[first:last], "new": text[first : mutant.start] + mutant.new + text[mutant.end : last], **asdict(outcome),
        }  # fmt: skip
        with results.open("a") as out:
            out.write(json.dumps(row) + "\n")
        print(f"{outcome.status:10} {outcome.processor:6.1f} s  {mutant.key}  {outcome.by}", flush=True)

    def work() -> Iterator[tuple[Mutant | None, Suite]]:
        everything = Suite("", tuple(dict.fromkeys(t for s in suites.values() for t in s.tests)), frozenset(), (), ())
        yield None, everything
        for mutant in mutants:
            if any(outcome.status != "survived" for outcome in sound):
                return
            yield mutant, suites[mutant.file]

    run(files, work(), jobs, LIMIT, said, WALL_CLOCK)
    if not sound or sound[0].status != "survived":
        raise RuntimeError("the tests fail without any mutant")


def report(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown: totals by file and by operator, then every survivor with its edit and the reason known for it."""
    rows = list(rows)
    order = [*sources(), "all"]
    by_file = _totals(((row["file"], row["status"]) for row in rows), order)
    by_operator = _totals(((row["operator"], row["status"]) for row in rows), [*OPERATORS, "all"])
    reasons = _reasons()
    text = [table(_head("file"), by_file), "", table(_head("operator"), by_operator), "", "## Survivors", ""]
    for row in sorted((row for row in rows if row["status"] == "survived"), key=lambda row: (row["file"], row["line"])):
        reason = reasons.get(_edit(row["file"], row["old"], row["new"]), "no reason known")
        text += [f"`{row['file']}:{row['line']}` ({row['operator']}): {reason}", "", "```diff"]
        text += [f"-{line}" for line in row["old"].splitlines()] + [f"+{line}" for line in row["new"].splitlines()] + ["```", ""]
    return "\n".join(text)


def _head(what: str) -> list[str]:
    return [what, "mutants", "killed", "survived", "score", "same bytecode", "not compiling"]


def _totals(pairs: Iterable[tuple[str, str]], order: Sequence[str]) -> list[list[str]]:
    """A row of counts for each name that has any, and one of all."""
    counts = Counter(pairs)
    rows = []
    for name in order:
        by = Counter({status: n for (one, status), n in counts.items() if one == name}) if name != "all" else Counter()
        if name == "all":
            for (_, status), n in counts.items():
                by[status] += n
        total = sum(by[status] for status in COUNTED)
        if by:
            killed = total - by["survived"]
            score = f"{100 * killed / total:.1f}%" if total else "-"
            rows.append(
                [name, f"{total:,}", f"{killed:,}", f"{by['survived']:,}", score, str(by["equivalent"]), str(by["stillborn"])]
            )
    return rows


Edit = tuple[str, str, str]


def _edit(file: str, old: str, new: str) -> Edit:
    return file, " ".join(old.split()), " ".join(new.split())


def _reasons() -> dict[Edit, str]:
    """The known survivors: file, line of code before and after (spaces apart), and why no test can or need notice."""
    entries = tomllib.loads(REASONS.read_text())["survivor"] if REASONS.exists() else []
    return {_edit(entry["file"], entry["old"], new): entry["reason"] for entry in entries for new in entry["new"]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.mutation", description="Mutation testing of the contracts.")
    parser.add_argument(
        "--only", nargs="+", choices=sources(), default=sources(), metavar="FILE", help="of contracts/, such as modules/merkle.vy"
    )
    parser.add_argument("--sample", type=int, help="so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", nargs="+", default=[], metavar="STATUS", help="run those once more, such as survived or broken")
    parser.add_argument("--slow", action="store_true", help="also the random histories, minutes for each survivor")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="run nothing, print what is known")
    options = parser.parse_args()

    mutants = [mutant for file in options.only for mutant in mutants_of(ROOT, file)]
    if options.sample is not None:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    known = load(options.results)
    if not options.report:
        todo = [m for m in mutants if (known[m.key]["status"] in options.again if m.key in known else not options.again)]
        print(f"{len(mutants):,} mutants, {len(mutants) - len(todo):,} known", flush=True)
        if todo:
            measure(todo, options.results, options.jobs, options.slow)
            known = load(options.results)
    print(report(known[mutant.key] for mutant in mutants if mutant.key in known))


if __name__ == "__main__":
    main()
