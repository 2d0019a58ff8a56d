"""The bindings on a real chain: every function has its method, every struct its dataclass, and gas stays in its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest

from bisection import witness as openings
from bisection.errors import TransactionFailed
from bisection.merkle import Tree, blob_tree
from bisection.trace import MemoryTrace
from contracts import bindings
from contracts.bindings import Phase
from contracts.build import artifact
from contracts.client import local_chain
from contracts.deploy import deploy
from contracts.jobs import JobStatus
from contracts.sender import TransactionSender
from contracts.values import build, plain
from tests.contracts.stage import (
    BOUNTY,
    PARAMETERS,
    TERMS,
    Stage,
    TrainerRun,
    boundary_witness,
    element_witness,
    reveal_of,
    run_witness,
    siblings_of,
)
from tests.support.programs import counting_program

RUN = TrainerRun(steps=300, segment_length=150)

# What a transaction may cost, calldata included; the verdicts without the referee's own work.
GAS_LIMITS = {
    "set_game": 50_000,
    "open_job": 255_000,
    "cancel": 60_000,
    "claim": 60_000,
    "post_segment": 135_000,
    "finalise": 70_000,
    "expire": 55_000,
    "withdraw": 35_000,
    "open_step": 180_000,
    "open_blind": 175_000,
    "show_step": 130_000,
    "demand_trace": 90_000,
    "demand_state": 70_000,
    "demand_tensor": 100_000,
    "pick": 55_000,
    "post_trace": 70_000,
    "reveal": 95_000,
    "reveal_leaf": 65_000,
    "conclude_boundary": 120_000,
    "conclude_element": 280_000,
    "conclude_run": 290_000,
    "timeout": 60_000,
    "reclaim": 70_000,
}


class RealChain:
    """eth-tester with transaction senders, where Stage expects the quick EVM."""

    def __init__(self) -> None:
        self._chain = local_chain()
        self.web3 = self._chain.web3
        self.senders = [TransactionSender(self.web3, account) for account in self._chain.accounts]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)


@pytest.fixture(scope="module")
def tester() -> Stage:
    chain: Any = RealChain()
    return Stage(chain, deploy(chain.senders[0], PARAMETERS, artifact("referee_mock")))


@pytest.fixture
def real(tester: Stage) -> Iterator[Stage]:
    """A deployment on eth-tester, as it was at first."""
    mark = tester.chain.snapshot()
    yield tester
    tester.chain.restore(mark)


# Coverage


@pytest.mark.parametrize("name", ["TaskRegistry", "DisputeGame", "Referee"])
def test_every_function_has_a_method(name: str) -> None:
    # The game calls these; people read the others in `job`, `segment` and `clocks`.
    internal = {"game_opened", "game_closed", "convict", "spec", "standing", "deployer", "trainer_clock", "challenger_clock"}
    functions = {entry["name"] for entry in artifact(name).abi if entry["type"] == "function"}
    assert functions - internal <= set(dir(getattr(bindings, name)))


STRUCTS = {
    ("TaskRegistry", "job"): bindings.Job,
    ("TaskRegistry", "segment"): bindings.Segment,
    ("TaskRegistry", "spec"): bindings.JobSpec,
    ("DisputeGame", "game"): bindings.GameView,
}


@pytest.mark.parametrize(("function", "kind"), STRUCTS.items())
def test_every_struct_has_its_dataclass(function: tuple[str, str], kind: type) -> None:
    contract, name = function
    (entry,) = (entry for entry in artifact(contract).abi if entry["type"] == "function" and entry["name"] == name)
    same_fields(entry["outputs"][0], kind)


@pytest.mark.parametrize(
    ("name", "argument", "kind"),
    [
        ("judge_element", "step", openings.StepRoots),
        ("judge_element", "node", openings.NodeProof),
        ("judge_element", "claim", openings.Leaf),
        ("judge_run", "inputs", openings.Run),
    ],
)
def test_the_openings_of_the_model_are_the_structs_of_the_referee(name: str, argument: str, kind: type) -> None:
    (entry,) = (entry for entry in artifact("Referee").abi if entry.get("name") == name)
    (row,) = (row for row in entry["inputs"] if row["name"] == argument)
    same_fields(row, kind)


def same_fields(row: dict[str, Any], kind: type) -> None:
    hints = bindings._hints(kind)
    assert [component["name"] for component in row["components"]] == [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for component in row["components"]:
        if "components" in component:
            same_fields(component, hints[component["name"]])
        else:
            assert not is_dataclass(hints[component["name"]])


@dataclass(frozen=True)
class Inner:
    tree: bindings.Tree
    data: bytes


@dataclass(frozen=True)
class Outer:
    inner: Inner
    items: tuple[bytes, ...]
    number: int


def test_values_go_to_the_chain_and_come_back_the_same() -> None:
    value = Outer(Inner(bindings.Tree.TRACE | bindings.Tree.STATE, b"abc"), (b"x", b"y"), 7)
    assert plain(value) == ((6, b"abc"), [b"x", b"y"], 7)
    assert build(Outer, plain(value)) == value
    assert build(Outer, {"inner": {"data": b"abc", "tree": 6}, "number": 7, "items": [b"x", b"y"]}) == value


def test_a_root_of_another_length_is_not_padded(real: Stage) -> None:
    for root in (b"", b"\1" * 31, b"\1" * 33):
        with pytest.raises(Exception, match="bytes32"):
            real.trainer.game.call("post_trace", 1, root)


# Real transactions


def test_an_honest_job_on_a_real_chain(real: Stage) -> None:
    run = TrainerRun()
    job = real.opened(run)
    with pytest.raises(TransactionFailed, match=r"^claim: registry: wrong stake$"):
        real.trainer.registry.claim(job, "", 1)
    real.trainer.registry.claim(job, "", TERMS.stake)
    for segment in range(run.spec.segments):
        real.post(job, run, segment)
    real.chain.advance(TERMS.challenge_window + 1)
    real.stranger.registry.finalise(job)
    before = real.trainer.sender.balance()
    receipt = real.trainer.registry.withdraw()
    assert real.trainer.sender.balance() == before + BOUNTY + TERMS.stake - receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert real.registry.job(job).status == JobStatus.COMPLETED and real.held() == 0


def test_gas_stays_in_its_bounds(real: Stage) -> None:
    """Every function once, in a job of 300 steps whose tensors have thousands of leaves."""
    for actor in real.actors:
        actor.sender.sent.clear()
    play_everything(real)
    spent: dict[str, int] = {}
    for sent in (sent for actor in real.actors for sent in actor.sender.sent):  # type: ignore[attr-defined]
        spent[sent.name] = max(sent.gas_used, spent.get(sent.name, 0))
    spent["set_game"] = next(sent.gas_used for sent in deploying(real) if sent.name == "set_game")
    for name, limit in GAS_LIMITS.items():
        print(f"{name:20} {spent[name]:>9,} gas of {limit:>9,}")  # pytest -rP shows it
    assert {name for name, limit in GAS_LIMITS.items() if spent[name] > limit} == set()


def deploying(real: Stage) -> list[Any]:
    """What a deployment sends."""
    sender = TransactionSender(real.chain.web3, real.chain.accounts[9])  # type: ignore[attr-defined]
    deploy(sender, PARAMETERS, artifact("referee_mock"))
    return sender.sent


def play_everything(stage: Stage) -> None:
    trainer, challenger, watcher, requester = stage.trainer, stage.challenger, stage.watcher, stage.requester
    requester.registry.cancel(stage.opened(RUN))
    late = stage.claimed(RUN)
    stage.chain.advance(TERMS.training_period + 1)
    requester.registry.expire(late)
    done = stage.posted(RUN)
    stage.chain.advance(TERMS.challenge_window + 1)
    trainer.registry.finalise(done)
    requester.registry.withdraw()

    # A blind game down to a leaf.
    job, data = stage.posted(RUN), bytes(300_000)
    trace = Tree([*RUN.trace(7).levels[0][:30], blob_tree(data).root, *RUN.trace(7).levels[0][31:]])
    game = challenger.game.open_blind(job, 0)
    descend(stage, game, RUN.histories[0], 8)
    challenger.game.show_step(game, RUN.opening(0, 7))
    trainer.game.post_trace(game, trace.root)
    challenger.game.demand_trace(game)
    descend(stage, game, trace, 30)
    challenger.game.demand_state(game)
    trainer.game.reveal(game, *reveal_of(RUN.states[8], stage.game.game(game).descent))
    stage.referee.send("place", 30, len(data))
    challenger.game.demand_tensor(game, element_witness().node, 0, blob_tree(data).root, trace.prove(30))
    descend(stage, game, blob_tree(data), 1000)
    descent = stage.game.game(game).descent
    challenger.game.pick(game, descent.node, 1000 & ((1 << descent.height) - 1))
    trainer.game.reveal_leaf(game, data[1000 * 256 : 1001 * 256], siblings_of(blob_tree(data), 0, 1000, descent.height))

    # Verdicts that acquit, one that convicts, and a bond that goes back.
    stage.referee.send("rule", True, 1, 1)
    challenger.game.conclude_boundary(game, boundary_witness())
    challenger.game.conclude_run(stage.traced(job, RUN, step=1), run_witness())
    silent = stage.traced(job, RUN, step=2)
    stage.chain.advance(PARAMETERS.challenger_clock + 1)
    trainer.game.timeout(silent)
    other = watcher.game.open_step(job, 1, RUN.opening(1, 9))
    last = stage.traced(job, RUN, step=3)
    stage.referee.send("rule", False, 1, 2)
    challenger.game.conclude_element(last, element_witness(inputs=8))
    watcher.game.reclaim(other)
    watcher.game.withdraw()
    assert stage.game.game(last).phase == Phase.CONVICTED


def descend(stage: Stage, game: int, tree: Tree, leaf: int) -> None:
    while True:
        stage.trainer.game.reveal(game, *reveal_of(tree, stage.game.game(game).descent))
        descent = stage.game.game(game).descent
        if descent.height <= 4:
            return
        stage.challenger.game.pick(game, descent.node, (leaf >> (descent.height - 4)) & 15)


def test_the_referee_answers_without_a_game() -> None:
    chain = local_chain()
    sender = TransactionSender(chain.web3, chain.accounts[0])
    referee = bindings.Referee(chain.web3, deploy(sender).referee)
    program, state, data = counting_program()
    trace = MemoryTrace(program, state, data, 2)
    roots = openings.StepRoots(
        program.root, len(program.nodes), trace.tensors(0).root, len(program.tensors), trace.state(0).root, trace.state(1).root,
        len(program.state), trace.data().root, len(program.data),
    )  # fmt: skip
    for number in range(len(program.nodes)):
        if program.nodes[number].outputs:
            node = openings.node_proof(program, number)
            assert referee.locate(roots, node, 0) == openings.locate(roots, node, 0)
