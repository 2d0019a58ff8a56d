"""What the transactions of jobs and disputes cost, measured on the real contracts: sims/data/costs.json, for the economic level.

    python -m sims.chain.measure [FILE]

A dispute is about a job of 2^20 steps, 2^14 tensors and 2^30 elements, each the sum of 2^20 products, and counts from the
commitment to the verdict. It is the first that its parties have, so that it writes to their credits for the first time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sims.chain.kinds import Dispute, Scaled, dispute, scaled
from sims.result import Outcome

__all__ = ["FULL", "MEASURED", "measured", "write"]

MEASURED = Path(__file__).parent.parent / "data" / "costs.json"
FULL = Scaled(steps=1 << 20, nodes=1 << 14, elements=1 << 30, run_length=1 << 20)
PLAIN = ("open_job", "claim", "commit", "post_segment", "finalise")
AROUND = ("open_job", "claim", "post_segment", "finalise", "withdraw", "burn")  # no part of a dispute


def measured(full: Scaled = FULL) -> dict[str, Any]:
    """The costs, by the names of sims.economy.costs.Costs. Of what happens several times the first counts."""
    honest = dispute(Dispute(lie="none", watchers=0), 0)
    fast, slow = (scaled(replace(full, withheld=withheld), 0) for withheld in (False, True))
    costs: dict[str, Any] = {name: _first(honest, name) for name in PLAIN}
    costs["open_step"], costs["open_blind"] = _first(fast, "open_step"), _first(slow, "open_blind")
    costs["verdict"] = max(gas for outcome in (fast, slow) for _, name, gas in _calls(outcome) if name.startswith("conclude"))
    for path, outcome in (("fast", fast), ("slow", slow)):
        for side, account in (("challenger", "watcher-0"), ("trainer", "trainer")):
            costs[f"{path}_{side}"] = _side(outcome, account)
    return costs


def _calls(outcome: Outcome) -> list[tuple[str, str, int]]:
    """(account, function, gas) of every transaction."""
    return [(str(who), str(name), int(gas or 0)) for _, who, name, gas, _ in outcome.tables["transactions"].rows]


def _first(outcome: Outcome, function: str) -> int:
    return next(gas for _, name, gas in _calls(outcome) if name == function)


def _side(outcome: Outcome, account: str) -> Mapping[str, int]:
    claimed = ["commit"] if account == "trainer" else []  # the trainer's only commitment is that of its claim
    gas = [gas for who, name, gas in _calls(outcome) if who == account and name not in (*AROUND, *claimed)]
    return {"gas": sum(gas), "transactions": len(gas)}


def write(path: Path = MEASURED, full: Scaled = FULL) -> None:
    """Measure, and put it at ``path``, whole or not at all."""
    made = path.with_suffix(".part")
    made.write_text(json.dumps(measured(full), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    made.replace(path)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else MEASURED)
