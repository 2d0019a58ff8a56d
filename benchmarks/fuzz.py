"""The fuzzing campaign: the referee against the numpy reference on whole random programs, all contracts against malformed calls.

Questions are those of tests/differential/fuzzing.py, about honest claims and altered ones; malformed calls those of
tests/contracts/malformed.py and hostile.py. All of it follows from the seed. ``corpus`` chooses the questions of
tests/vectors/fuzz_corpus.json anew, which is needed whenever the generator of programs changes.

    python -m benchmarks.fuzz [--programs 1000] [--calls 20000] [--seed 1]
    python -m benchmarks.fuzz corpus [--programs 600]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks._world import machine
from benchmarks.disputes import table
from tests.contracts.arena import Arena
from tests.contracts.hostile import hostile_calls
from tests.contracts.malformed import malformed_calldata, malformed_nodes, malformed_openings
from tests.contracts.tally import Tally
from tests.differential.evm import Contract
from tests.differential.fuzz_coverage import WANTED, coverage, write_corpus
from tests.differential.fuzzing import World, differences, questions

REFEREE: dict[str, Callable[[Contract, int, int], Tally]] = {
    "damaged nodes": malformed_nodes,
    "damaged openings": malformed_openings,
    "damaged calldata of the referee": malformed_calldata,
}
"""The campaigns against the referee; each makes as many calls as the others."""
REASONS = 15  # that are listed


def main() -> None:
    """Run what the arguments ask for; the exit status says whether anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["campaign", "corpus"], default="campaign")
    parser.add_argument("--programs", type=int, help="how many random programs (1000; for the corpus 600)")
    parser.add_argument("--calls", type=int, default=20_000, help="how many malformed calls, half of them to the referee")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.what == "corpus":
        print(f"{write_corpus(range(args.programs or 600))} questions meet all {len(WANTED)}")
        return
    findings = programs(range(args.seed, args.seed + (args.programs or 1_000)))
    findings += malformed(args.calls, args.seed)
    print(f"\nFindings: {len(findings) or 'none'}.\n\n{machine()}")
    for told in findings:
        print(f"- {told}")
    sys.exit(bool(findings))


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took."""
    start = time.perf_counter()
    yield
    print(f"\n{what}: {time.perf_counter() - start:.0f} s.\n", flush=True)


def programs(seeds: range) -> list[str]:
    """Ask everything about these programs, and print a table; the differences."""
    referee, findings = Contract("Referee"), list[str]()
    asked: Counter[tuple[str, bool]] = Counter()
    met: Counter[str] = Counter()
    gas: dict[str, int] = {}
    with timed(f"{len(seeds):,} programs"):
        for seed in seeds:
            world = World(seed)
            for q in questions(world):
                findings += differences(referee, world, q)
                name = world.program.nodes[q.node].NAME + (", part of a long run" if q.part is not None else "")
                asked[name, q.altered] += 1
                gas[name] = max(gas.get(name, 0), referee.executed)
                met.update(coverage(world, q))
    rows = [(name, f"{asked[name, False]:,}", f"{asked[name, True]:,}", f"{gas[name]:,}") for name in sorted(gas)]
    total = [f"{sum(n for (_, altered), n in asked.items() if altered == which):,}" for which in (False, True)]
    print(table(("node", "honest claims", "altered claims", "most gas"), [*rows, ("all", *total, f"{max(gas.values()):,}")]))
    least = min(WANTED, key=lambda name: met[name])
    print(
        f"\nMet {sum(met[name] > 0 for name in WANTED)} of {len(WANTED)} hard features; the rarest, {least!r}, {met[least]} times."
    )
    return findings


def malformed(calls: int, seed: int) -> list[str]:
    """Make malformed calls, and print tables; what they did that they should not."""
    tallies = []
    with timed(f"{calls:,} malformed calls"):
        referee = Contract("Referee")
        each = -(-calls // (2 * len(REFEREE)))
        for name, campaign in REFEREE.items():
            tallies.append((name, campaign(referee, each, seed)))
        tallies.append(("damaged calldata of jobs, games and deliveries", hostile_calls(Arena(), calls // 2, seed)))
    rows = [(name, f"{t.calls:,}", f"{t.refused.total():,}", f"{t.answered.total():,}", f"{t.most_gas:,}") for name, t in tallies]
    print(table(("calls", "made", "refused", "answered as what they spell", "most gas beyond calldata"), rows))
    reasons: Counter[str] = Counter()
    for name, tally in tallies:
        damages: Counter[str] = Counter()
        for _, damage, refused, answered in tally.rows():
            damages[damage.partition(":")[0] if "openings" in name else damage] += refused + answered
        print(
            f"\n{name.capitalize()}, by what was damaged: " + ", ".join(f"{what} {n:,}" for what, n in damages.most_common()) + "."
        )
        reasons += tally.reasons
    print()
    print(table(("reason of refusal", "times"), [(reason, f"{n:,}") for reason, n in reasons.most_common(REASONS)]))
    print(f"\nAnd {len(reasons) - REASONS} rarer reasons.")
    return [told for _, tally in tallies for told in tally.findings]


if __name__ == "__main__":
    main()
