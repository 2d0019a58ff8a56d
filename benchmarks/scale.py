"""What a dispute costs when everything about it is as large as it may get: 2^20 steps, 2^14 nodes and tensors, a tensor of 2^30
elements, each of them a product of two runs of 2^20.

The job is synthetic (sims/chain/synthetic.py): its trees are those of a real execution, known where it matters. All else is real:
the contracts, the solver and the agents, the transactions. The trainer defends its wrong element with partial results that combine
to it, so that the game goes on to the last part. A small dispute comes before: the first of all writes to the parties' credits for
the first time, which costs more.

    python -m benchmarks.scale    # both paths at full scale, and how they grow

Other arities and leaf sizes: refstep sims sweep arity, and leaf-size.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks._world import CHAINS, PATHS, World, machine, world
from benchmarks.disputes import spread, table
from bisection.agent import Challenger, Nothing
from bisection.errors import RefstepError
from bisection.game import Outcome
from sims.chain.synthetic import Scale, Shown, SyntheticTrace
from tests.support.liar import Liar, balanced

__all__ = ["FULL", "TARGETS", "Cost", "Move", "measured", "play"]

RESULTS = Path(__file__).parent / "results"
FULL = Scale()
SMALL = Scale(steps=10, nodes=10, elements=16, length=128)
GROWTH = {
    "steps": (1 << 10, 1 << 15, (1 << 20) - 1, 1 << 20),
    "nodes": (1 << 4, 1 << 9, 1 << 14),
    "elements": (1 << 10, 1 << 20, 1 << 30),
    "length": (1 << 10, 1 << 15, 1 << 20),
}
TARGETS = {"fast": {"gas": 1_500_000}, "slow": {"gas": 2_500_000, "transactions": 32}, "verdict": {"gas": 600_000}}
MOST_ROUNDS = 400
TOKEN, FLOOR_TOKEN, TRANSACTION = 4, 10, 21_000  # gas, with EIP-7623


@dataclass(frozen=True)
class Move:
    """One transaction of a dispute: what it is, whose, its gas, the bytes of its calldata, and how many of them are zero."""

    name: str
    by: str
    gas: int
    bytes: int
    zeros: int

    @property
    def tokens(self) -> int:
        """EIP-7623's measure of calldata: a zero byte is one token, any other four."""
        return 4 * self.bytes - 3 * self.zeros


@dataclass(frozen=True)
class Cost:
    """A dispute that ended in a conviction."""

    path: str
    scale: Scale
    moves: tuple[Move, ...]

    @property
    def gas(self) -> int:
        """What it cost both sides together."""
        return sum(move.gas for move in self.moves)

    def gas_of(self, by: str) -> int:
        """What it cost one side."""
        return sum(move.gas for move in self.moves if move.by == by)

    @property
    def verdict(self) -> int:
        """The gas of the last transaction, in which the referee judges."""
        return self.moves[-1].gas


def play(stage: World, scale: Scale, path: str) -> Cost:
    """A dispute about a job of this size, played by the agents on ``path``. Raises RefstepError unless it convicts at the lie."""
    honest, trainer = SyntheticTrace(scale), SyntheticTrace(scale, lie=1)
    job = stage.post(trainer)
    since = {role: len(sender.sent) for role, sender in stage.senders.items()}
    chain = stage.chains["challenger"]
    challenger = Challenger(chain, honest, chain.claim(job, 0), Shown(trainer) if path == "fast" else Nothing())
    liar = Liar(
        stage.chains["trainer"], trainer, lambda parts, value, maximum: balanced(parts, len(parts) * 3 // 5, value, maximum)
    )
    game = stage.opened(challenger)
    for _ in range(MOST_ROUNDS):
        if not (challenger.play(game) and liar.play(game)):
            break
    stage.index.update()
    verdict = stage.index.verdicts.get(game)
    at = (verdict.node, verdict.position) if verdict is not None and hasattr(verdict, "position") else None
    if chain.game(game).outcome != Outcome.CONVICTED or at != (honest.product_node, scale.position):
        raise RefstepError(f"game {game} did not end in a verdict on the wrong element")
    return Cost(path, scale, tuple(_moves(stage, since)))


def _moves(stage: World, since: dict[str, int]) -> list[Move]:
    """The transactions sent since each role had sent so many, in order."""
    sent = [(s.block, role, s) for role, sender in stage.senders.items() for s in sender.sent[since[role] :]]
    moves = []
    for _, role, s in sorted(sent, key=lambda row: row[0]):
        data = bytes(stage.web3.eth.get_transaction(s.transaction)["input"])
        moves.append(Move(s.name, role, s.gas_used, len(data), data.count(0)))
    return moves


def measured(chain: str, scale: Scale) -> dict[str, Cost]:
    """The dispute on each path, between accounts that have been paid before."""
    with world(chain) as stage:
        play(stage, SMALL, "fast")
        return {path: play(stage, scale, path) for path in PATHS}


def first_surcharge(chain: str) -> int:
    """How much more gas the first dispute of all costs than the same one after it."""
    with world(chain) as stage:
        first, second = (play(stage, SMALL, "fast") for _ in range(2))
    return first.gas - second.gas


# Tables -----------------------------------------------------------------------------------------------------------------


def by_target(costs: dict[str, Cost]) -> str:
    """The figures that have a target."""
    rows = [(f"{path}, gas", f"{costs[path].gas:,}", f"{TARGETS[path]['gas']:,}") for path in PATHS]
    rows.append(("slow, transactions", str(len(costs["slow"].moves)), str(TARGETS["slow"]["transactions"])))
    rows.append(("verdict, gas", f"{max(cost.verdict for cost in costs.values()):,}", f"{TARGETS['verdict']['gas']:,}"))
    return table(["", "found", "target"], rows)


def by_path(costs: dict[str, Cost]) -> str:
    """Whole disputes."""
    header = ["path", "transactions", "gas", "of it the challenger's", "of it the trainer's", "of it the verdict"]
    rows = [
        (p, len(c.moves), f"{c.gas:,}", f"{c.gas_of('challenger'):,}", f"{c.gas_of('trainer'):,}", f"{c.verdict:,}")
        for p, c in costs.items()
    ]
    return table(header, rows)


def by_move(costs: dict[str, Cost]) -> str:
    """Gas and calldata of every kind of transaction, over both paths. The floor is the least that so much calldata can cost."""
    kinds: defaultdict[str, list[Move]] = defaultdict(list)
    for cost in costs.values():
        for move in cost.moves:
            kinds[move.name].append(move)
    rows = []
    for name, moves in kinds.items():
        largest = max(moves, key=lambda move: move.gas)
        times = " + ".join(str(sum(move.name == name for move in cost.moves)) for cost in costs.values())
        floor = TRANSACTION + FLOOR_TOKEN * largest.tokens
        rows.append(
            (
                f"{name} ({largest.by})",
                times,
                spread([move.gas for move in moves]),
                f"{largest.bytes:,} ({largest.zeros:,})",
                f"{TOKEN * largest.tokens:,}",
                f"{floor:,}",
            )
        )
    header = ["transaction", "times: fast + slow", "gas: least / median / greatest"]
    return table([*header, "bytes of calldata (zero)", "gas of calldata", "floor"], rows)


def growth(chain: str) -> list[tuple[str, int, dict[str, Cost]]]:
    """(what is smaller, how large it is, disputes) for each of the four sizes, the others at full scale."""
    return [
        (name, size, measured(chain, replace(FULL, **{name: size})))
        for name, sizes in GROWTH.items()
        for size in sizes
        if size != getattr(FULL, name)
    ]


def by_size(rows: Sequence[tuple[str, int, dict[str, Cost]]], full: dict[str, Cost]) -> str:
    """How disputes grow."""
    named = {"nodes": "nodes and tensors", "length": "length of the run"}
    lines = [(f"{size:,} {named.get(name, name)}", costs) for name, size, costs in rows] + [("full scale", full)]
    header = ["", "fast: transactions", "fast: gas", "slow: transactions", "slow: gas", "verdict"]
    return table(
        header,
        [
            (what, *(cell for p in PATHS for cell in (len(c[p].moves), f"{c[p].gas:,}")), f"{c['slow'].verdict:,}")
            for what, c in lines
        ],
    )


def as_json(costs: dict[str, Cost]) -> dict[str, list[dict[str, object]]]:
    """Every transaction of every path."""
    return {path: [asdict(move) for move in cost.moves] for path, cost in costs.items()}


def main() -> None:
    """Print the tables and write benchmarks/results/scale.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", choices=CHAINS, default="auto")
    options = parser.parse_args()
    full = measured(options.chain, FULL)
    smaller = growth(options.chain)
    sections = {
        "Targets": by_target(full),
        "Paths": f"{by_path(full)}\n\nThe first dispute of all costs {first_surcharge(options.chain):,} more.",
        "Transactions": by_move(full),
        "Growth": by_size(smaller, full),
    }
    document: dict[str, object] = {
        "machine": machine(),
        "full": {"scale": asdict(FULL), "disputes": as_json(full)},
        "growth": [{"scale": asdict(c["fast"].scale), "disputes": as_json(c)} for _, _, c in smaller],
    }
    for title, text in sections.items():
        print(f"## {title}\n\n{text}\n")
    print(machine())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
