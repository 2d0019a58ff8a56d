"""What a job and its disputes cost: the tables of docs/gas.md, from receipts.

The job is the digits MLP at the demo's 200 steps. For each kind of node, the one whose verdict has the most calldata is falsified,
and disputed on both paths. A dispute before all others is left out of the tables of disputes: it is the first to pay the parties,
and to write to an account's credit for the first time costs more.

    python -m benchmarks.gas [--steps 200] [--seed 0] [--chain auto|anvil|tester]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import torch

from benchmarks._execution import CHANGES, Execution, Forgery, Place, draw
from benchmarks._hostile import honest_witness, kinds, nodes_of
from benchmarks._world import CHAINS, PATHS, TERMS, Dispute, World, machine, world
from benchmarks.disputes import digits_runs, spread, table
from bisection.nodes import Output
from bisection.witness import BoundaryWitness, ElementWitness, StepRoots, Witness
from contracts.bindings import DisputeGame
from contracts.build import artifact, names
from contracts.values import plain
from sims import digits
from tests.support.model_chain import roots_of

__all__ = ["DISPUTE_TARGET", "SIZE_TARGET", "VERDICT_TARGET", "forgery_at", "largest_node"]

DISPUTE_TARGET, VERDICT_TARGET, SIZE_TARGET = 1_500_000, 600_000, 24_576
LEAF_SIZES = (128, 256, 512, 1024)
TRANSACTION, TOKEN, FLOOR_TOKEN = 21_000, 4, 10  # gas, with EIP-7623
MOST_DRAWS = 200


# Which nodes ------------------------------------------------------------------------------------------------------------


def conclusion(games: DisputeGame, roots: StepRoots, true: Witness) -> bytes:
    """The calldata of the verdict."""
    kind = "boundary" if isinstance(true, BoundaryWitness) else "element" if isinstance(true, ElementWitness) else "run"
    return games.call(f"conclude_{kind}", 1, roots, *plain(true)).data


def largest_node(honest: Execution, games: DisputeGame, kind: str) -> int:
    """The number of the node of ``kind`` whose verdict has the most calldata."""

    def size(number: int) -> int:
        return len(conclusion(games, roots_of(honest, 0), honest_witness(honest, 0, number, np.random.default_rng(0))))

    return max(nodes_of(honest.program, kind), key=size)


def forgery_at(honest: Execution, number: int, rng: np.random.Generator) -> Forgery:
    """A forgery at node ``number``."""
    node = honest.program.nodes[number]
    place = Place(True, node.index) if isinstance(node, Output) else Place(False, node.outputs[0].tensor)
    drawn = (draw(honest, place, change, rng) for _ in range(MOST_DRAWS) for change in CHANGES)
    return next(forgery for forgery in drawn if forgery is not None)


# Tables -----------------------------------------------------------------------------------------------------------------


def sizes() -> str:
    """The contracts' code."""
    rows = [(name, f"{artifact(name).runtime_size:,}") for name in names()]
    return table(["contract", f"bytes of code, of {SIZE_TARGET:,}"], rows)


def disputes(honest: Execution, stage: World, seed: int) -> Iterator[tuple[str, str, Dispute]]:
    """(path, kind, dispute) for every kind of node on both paths."""
    for kind in kinds(honest.program):
        number = largest_node(honest, stage.deployments["challenger"].game, kind)
        forgery = forgery_at(honest, number, np.random.default_rng(seed))
        for path in PATHS:
            job = stage.post(forgery.trainer)
            yield path, kind, stage.dispute(job, forgery.trainer, honest, stage.served(path, forgery.trainer))


def honest_life(honest: Execution, stage: World) -> None:
    """A job that nobody disputes, paid out; and one that is taken back."""
    job = stage.post(honest)
    stage.pass_time(TERMS.challenge_window + 1)
    stage.deployments["trainer"].registry.finalise(job)
    stage.settle()


def by_move(stage: World) -> str:
    """Gas of every kind of transaction that was sent."""
    costs: defaultdict[str, list[int]] = defaultdict(list)
    for sent in stage.sent:
        costs[sent.name].append(sent.gas_used)
    return table(["transaction", "times", "gas: least / median / greatest"], [(n, len(c), spread(c)) for n, c in costs.items()])


def by_dispute(rows: Sequence[tuple[str, str, Dispute]]) -> str:
    """Whole disputes."""
    return table(
        ["path, node kind", "transactions", "gas", "of it the trainer's", "of it the verdict"],
        [
            (f"{path}, {kind}", len(d.transactions), f"{d.gas:,}", f"{d.trainer_gas:,}", f"{d.verdict_gas:,}")
            for path, kind, d in rows
        ],
    )


def targets(rows: Sequence[tuple[str, str, Dispute]]) -> str:
    """The greatest figures against their targets."""
    found = [
        ("fast path, in all", max(d.gas for path, _, d in rows if path == "fast"), DISPUTE_TARGET),
        ("verdict", max(d.verdict_gas for _, _, d in rows), VERDICT_TARGET),
        ("bytes of a contract", max(artifact(name).runtime_size for name in names()), SIZE_TARGET),
    ]
    return table(["greatest", "found", "target"], [(what, f"{value:,}", f"{most:,}") for what, value, most in found])


def tokens(data: bytes) -> int:
    """EIP-7623's measure of calldata: a zero byte is one token, any other four."""
    return 4 * len(data) - 3 * data.count(0)


def by_leaf_size(honest: Execution, games: DisputeGame) -> str:
    """What the verdict's calldata would be under other leaf sizes: (bytes, gas, least gas of the whole transaction)."""
    rows = []
    for kind in (kind for kind in kinds(honest.program) if kind not in ("input", "output")):
        number = largest_node(honest, games, kind)
        row: list[object] = [kind]
        for size in LEAF_SIZES:
            data = conclusion(games, roots_of(honest, 0), _under(size, honest, number))
            row.append(f"{len(data):,} B, {TOKEN * tokens(data):,}, {TRANSACTION + FLOOR_TOKEN * tokens(data):,}")
        rows.append(row)
    return table(["node kind", *(f"leaves of {size} B" for size in LEAF_SIZES)], rows)


def _under(size: int, honest: Execution, number: int) -> Witness:
    """A witness at node ``number`` as it would be if leaves had ``size`` bytes."""
    with ExitStack() as stack:
        for module in ("bisection.merkle", "bisection.witness", "benchmarks._hostile"):
            stack.enter_context(patch(f"{module}.LEAF_BYTES", size))
        return honest_witness(honest, 0, number, np.random.default_rng(0))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chain", choices=CHAINS, default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    captured = digits.job(0)[1]
    honest, _ = digits_runs(captured, options.steps)
    with world(options.chain) as stage:
        games = stage.deployments["challenger"].game
        path, kind, first = next(disputes(honest, stage, options.seed))
        rows = list(disputes(honest, stage, options.seed))
        honest_life(honest, stage)
        sections = {
            "Targets": targets(rows),
            "Contracts": sizes(),
            "Disputes": f"{by_dispute(rows)}\n\nThe dispute before all others ({path}, {kind}): {first.gas:,}.",
            "Transactions": by_move(stage),
            "Leaf size": by_leaf_size(honest, games),
        }
        for title, text in sections.items():
            print(f"## {title}\n\n{text}\n")
        print(f"{options.steps} steps of program {captured.program.root.hex()[:16]}…, on {stage.name}; {machine()}")


if __name__ == "__main__":
    main()
