"""Disputes at full scale: what they cost at most, from receipts; and that the synthetic jobs they are about are real ones.

benchmarks/scale.py prints the figures.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._world import PATHS, World
from benchmarks.scale import FULL, Cost, measured, play
from bisection.agent import Answers, Challenger, Nothing
from bisection.boundary import Array
from bisection.game import Outcome
from bisection.merkle import LEAF_BYTES, Tree, blob_tree, leaf_digest
from bisection.trace import MemoryTrace
from contracts.client import local_chain
from contracts.economics import MOVE_GAS, Depths, trainer_gas
from sims.chain.synthetic import LINE, Scale, Shown, SyntheticTrace, Uniform, UniformTree
from tests.support.liar import Liar, balanced
from tests.support.model_chain import ModelChain, claim_of

SMALL = Scale(steps=5, nodes=9, elements=64, length=2048)

# Gas and transactions from the opening to the verdict, between accounts that have been paid before.
MOST_GAS = {"fast": 1_200_000, "slow": 2_500_000}
MOST_VERDICT_GAS = 450_000
TRANSACTIONS = {"fast": 8, "slow": 32}
FULL_DEPTHS = Depths(history=21, trace=14, state=0, tensor=25, run=12)
TRANSACTION_GAS_CAP = 1 << 24  # EIP-7825


# Synthetic jobs ---------------------------------------------------------------------------------------------------------


def executed(scale: Scale, lie: int) -> MemoryTrace:
    """The same job, executed."""
    program, (rows, columns), per_line = scale.program, scale.shape, LINE // 2
    left, right = (
        np.frombuffer(line * (size * scale.length // per_line), "<i2").reshape(size, scale.length)
        for line, size in zip(scale.lines, (rows, columns), strict=True)
    )
    data = {"left": left, "right": right, "number": np.zeros(1, np.int64)}

    def tamper(number: int, outputs: list[Array]) -> list[Array]:
        if number == SyntheticTrace(scale).product_node:
            outputs[0][scale.position] += lie
        return outputs

    return MemoryTrace(program, {"product": np.full(scale.shape, scale.value)}, data, scale.steps, {scale.step: tamper})


@pytest.mark.parametrize("lie", [0, 1, -(2**40)])
@pytest.mark.parametrize("scale", [SMALL, Scale(steps=4, nodes=12, elements=2, length=128)])
def test_a_synthetic_job_is_what_its_execution_is(scale: Scale, lie: int) -> None:
    synthetic, real = SyntheticTrace(scale, lie), executed(scale, lie)
    assert len(scale.program.nodes) == len(scale.program.tensors) == scale.nodes
    assert synthetic.history().root == real.history().root
    assert synthetic.data().root == real.data().root
    for step in range(scale.steps):
        assert synthetic.state(step).root == real.state(step).root
        assert synthetic.tensors(step).root == real.tensors(step).root
        for number in range(scale.nodes):
            data = synthetic.tensor(step, number)
            assert data[0 : len(data)] == real.tensor(step, number)
            assert blob_tree(data).root == blob_tree(real.tensor(step, number)).root


def test_the_lie_makes_one_element_wrong() -> None:
    honest, trainer = SyntheticTrace(SMALL), SyntheticTrace(SMALL, lie=1)
    differing = [step for step in range(SMALL.steps) if honest.tensors(step).root != trainer.tensors(step).root]
    assert differing == [SMALL.step]
    product = honest.program.nodes[-1].inputs[0].tensor
    ours, theirs = (np.frombuffer(t.tensor(SMALL.step, product)[0 : 8 * SMALL.elements], "<i8") for t in (honest, trainer))
    assert list(np.flatnonzero(ours != theirs)) == [SMALL.position]


@given(st.integers(1, 70), st.data())
def test_a_uniform_tree_is_the_whole_tree(count: int, data: st.DataObject) -> None:
    leaf = leaf_digest(b"leaf")
    others = {index: leaf_digest(bytes([index])) for index in data.draw(st.sets(st.integers(0, count - 1), max_size=4))}
    uniform, whole = UniformTree(count, leaf, others), Tree([others.get(index, leaf) for index in range(count)])
    assert (uniform.count, uniform.depth, uniform.root) == (whole.count, whole.depth, whole.root)
    places = [(height, at) for height in range(whole.depth + 1) for at in range(1 << (whole.depth - height))]
    assert [uniform.node(*place) for place in places] == [whole.node(*place) for place in places]
    first = data.draw(st.integers(0, count - 1))
    length = data.draw(st.integers(1, count - first))
    assert uniform.prove(first) == whole.prove(first)
    assert uniform.prove_range(first, length) == whole.prove_range(first, length)


@given(st.integers(0, 5 * LEAF_BYTES), st.data())
def test_a_uniform_blob_reads_like_its_bytes(size: int, data: st.DataObject) -> None:
    line = bytes(range(LINE))
    changes = {}
    if size:
        place = data.draw(st.integers(0, size - 1))
        changes[place] = data.draw(st.binary(min_size=1, max_size=size - place))
    uniform = Uniform(size, line, changes)
    plain = bytearray((line * (size // LINE + 1))[:size])
    for place, changed in changes.items():
        plain[place : place + len(changed)] = changed
    part = slice(*sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size + 9)))))
    assert len(uniform) == size and uniform[part] == bytes(plain)[part]
    assert blob_tree(uniform).root == blob_tree(bytes(plain)).root


# Disputes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("length", [128, 1024, 1 << 11, 1 << 20])
def test_the_rules_convict_at_the_wrong_element(path: str, length: int) -> None:
    scale = Scale(steps=1000, nodes=100, elements=1 << 30, length=length)
    honest, trainer, chain = SyntheticTrace(scale), SyntheticTrace(scale, lie=1), ModelChain()
    served: Answers = Shown(trainer) if path == "fast" else Nothing()
    challenger = Challenger(chain, honest, claim_of(scale.program, trainer, scale.steps), served)
    liar = Liar(chain, trainer, lambda parts, value, maximum: balanced(parts, len(parts) // 2, value, maximum))
    game = challenger.open()
    assert game is not None
    while challenger.play(game) and liar.play(game):
        assert chain.moves < 100
    verdict = chain.game(game).verdict
    assert chain.game(game).outcome == Outcome.CONVICTED and verdict is not None
    assert (verdict.node, verdict.position) == (honest.product_node, scale.position)


@pytest.fixture(scope="module")
def costs() -> dict[str, Cost]:
    return measured("tester", FULL)


@pytest.mark.parametrize("path", PATHS)
def test_a_dispute_at_full_scale_stays_below_its_limits(costs: dict[str, Cost], path: str) -> None:
    cost = costs[path]
    assert len(cost.moves) <= TRANSACTIONS[path], [move.name for move in cost.moves]
    assert cost.gas <= MOST_GAS[path], cost.moves
    assert cost.verdict <= MOST_VERDICT_GAS
    assert max(move.gas for move in cost.moves) < TRANSACTION_GAS_CAP


def test_every_transaction_is_somebodys_and_its_calldata_is_paid_for(costs: dict[str, Cost]) -> None:
    for cost in costs.values():
        assert cost.gas == cost.gas_of("challenger") + cost.gas_of("trainer")
        assert cost.moves[-1].name == "conclude_part"
        for move in cost.moves:
            assert move.gas >= 21_000 + 10 * move.tokens, "EIP-7623"


def test_the_bond_counts_with_what_the_trainers_moves_cost(costs: dict[str, Cost]) -> None:
    """The bounds that contracts/economics.py computes bonds from hold, and are not far above."""
    dearest: dict[str, int] = {}
    for cost in costs.values():
        for move in cost.moves:
            if move.by == "trainer":
                dearest[move.name] = max(dearest.get(move.name, 0), move.gas)
    assert dearest.keys() == MOVE_GAS.keys()
    for name, bound in MOVE_GAS.items():
        assert bound * 2 // 3 <= dearest[name] <= bound, name
    assert costs["slow"].gas_of("trainer") <= trainer_gas(FULL_DEPTHS) <= trainer_gas()


def test_a_dispute_grows_with_the_depth_of_the_trees_only() -> None:
    stage = World(local_chain(4).web3, "eth-tester with py-evm")
    small = play(stage, Scale(steps=40, nodes=40, elements=1 << 12, length=1 << 15), "slow")
    assert len(small.moves) <= 16 and small.gas <= 1_700_000
