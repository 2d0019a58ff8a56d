"""The bindings on a real chain: every function has its method, every struct its dataclass, and gas stays in its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pytest

from bisection import witness as openings
from bisection.descent import Descent, holds, parts_payload
from bisection.errors import TransactionFailed
from bisection.merkle import LEAF_BYTES, Tree, blob_tree
from bisection.moves import Refute, ShowStep
from bisection.trace import MemoryTrace
from contracts import bindings, jobs, registry, values
from contracts.bindings import Phase
from contracts.build import artifact
from contracts.chain import GameChain
from contracts.client import local_chain
from contracts.contract import Contract
from contracts.deploy import attach, deploy
from contracts.index import Index
from contracts.jobs import JobStatus, claim_commitment
from contracts.sender import TransactionSender
from contracts.values import build, plain
from tests.contracts.stage import (
    BOUNTY,
    PARAMETERS,
    TERMS,
    ModelRun,
    Stage,
    TrainerRun,
    boundary_witness,
    element_witness,
    part_conclusion,
    run_demand,
    run_witness,
)
from tests.support.programs import counting_program

RUN = TrainerRun(steps=300, segment_length=150)

# What a transaction may cost, calldata included; the verdicts without the referee's own work.
GAS_LIMITS = {
    "pause": 80_000,
    "unpause": 35_000,
    "open_job": 325_000,
    "cancel": 65_000,
    "commit": 75_000,
    "claim": 90_000,
    "post_segment": 145_000,
    "finalise": 125_000,
    "expire": 90_000,
    "release": 60_000,
    "withdraw": 35_000,
    "burn": 65_000,
    "demand": 180_000,
    "answer": 180_000,
    "give_up": 130_000,
    "open_step": 240_000,
    "open_blind": 230_000,
    "show_step": 155_000,
    "demand_trace": 72_000,
    "demand_state": 72_000,
    "demand_tensor": 100_000,
    "demand_run": 112_000,
    "pick": 42_000,
    "post_trace": 82_000,
    "reveal": 95_000,
    "refute": 135_000,
    "conclude_boundary": 110_000,
    "conclude_part": 290_000,
    "conclude_element": 325_000,
    "conclude_run": 300_000,
    "timeout": 72_000,
    "reclaim": 95_000,
    "contend": 40_000,
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


# What the contracts call of each other, and what people read elsewhere: in `job`, `shares` and `clocks`.
REFERRED = {"game_opened", "game_closed", "convict", "demand_opened", "demand_closed", "withhold"}
INCLUDED = {"spec", "pending_owner", "games", "burn_share", "reward_share", "trainer_clock", "challenger_clock", "demand_count"}
# Functions of Python.
COMPUTED = {"claim_commitment": claim_commitment}
BINDINGS = (registry.TaskRegistry, registry.Delivery, bindings.DisputeGame, bindings.Referee)


@pytest.mark.parametrize("binding", BINDINGS)
def test_every_function_has_a_method(binding: type[Contract]) -> None:
    functions = {entry["name"] for entry in artifact(binding.NAME).abi if entry["type"] == "function"}
    assert functions - REFERRED - INCLUDED - set(COMPUTED) <= set(dir(binding))


STRUCTS = {
    ("TaskRegistry", "job"): jobs.Job,
    ("TaskRegistry", "segment"): jobs.Segment,
    ("TaskRegistry", "spec"): jobs.JobSpec,
    ("TaskRegistry", "standing"): jobs.Standing,
    ("TaskRegistry", "model"): jobs.Model,
    ("Delivery", "demand_of"): jobs.Demand,
    ("DisputeGame", "game"): bindings.GameView,
    ("Referee", "boundary"): openings.Boundary,
    ("Referee", "locate_run"): openings.RunPlace,
}


@pytest.mark.parametrize(("function", "kind"), STRUCTS.items())
def test_every_struct_has_its_dataclass(function: tuple[str, str], kind: type) -> None:
    contract, name = function
    (entry,) = (entry for entry in artifact(contract).abi if entry["type"] == "function" and entry["name"] == name)
    same_fields(entry["outputs"][0], kind)


def test_every_status_has_its_number(real: Stage) -> None:
    """The registry's flags, in the order of their declaration."""
    run = TrainerRun(steps=1, segment_length=1)
    job = real.opened(run)
    found = [real.registry.job(job).status]
    real.claim(job)
    found.append(real.registry.job(job).status)
    real.post(job, run, 0)
    found.append(real.registry.job(job).status)
    assert found == [JobStatus.OPEN, JobStatus.TRAINING, JobStatus.VERIFICATION]
    real.chain.advance(TERMS.challenge_window + 1)
    real.stranger.registry.finalise(job)
    assert real.registry.job(job).status == JobStatus.COMPLETED


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
    hints = values._hints(kind)
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
            real.trainer.game.call("post_trace", 1, bytes(32), root, b"")


# Real transactions


def test_an_honest_job_on_a_real_chain(real: Stage) -> None:
    run = TrainerRun()
    job = real.opened(run)
    with pytest.raises(TransactionFailed, match=r"^claim: commitments: none made$"):
        real.trainer.registry.claim(job, "", real.registry.job(job))
    real.claim(job)
    for segment in range(run.spec.segments):
        real.post(job, run, segment)
    real.chain.advance(TERMS.challenge_window + 1)
    for _ in range(run.spec.segments):
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
    for name, limit in GAS_LIMITS.items():
        print(f"{name:20} {spent[name]:>9,} gas of {limit:>9,}")  # pytest -rP shows it
    assert {name for name, limit in GAS_LIMITS.items() if spent[name] > limit} == set()


def play_everything(stage: Stage) -> None:
    play_registry(stage)
    play_game(stage)
    play_delivery(stage)


def play_registry(stage: Stage) -> None:
    requester, trainer, owner = stage.requester, stage.trainer, stage.deployer
    requester.registry.cancel(stage.opened(RUN))
    late = stage.claimed(RUN)
    owner.registry.pause()
    owner.registry.unpause()
    stage.chain.advance(TERMS.segment_period + 1)
    requester.registry.expire(late)
    done = stage.posted(RUN)
    stage.chain.advance(TERMS.challenge_window + 1)
    for _ in range(2):
        trainer.registry.finalise(done)
    requester.registry.withdraw()
    requester.registry.burn()


def play_delivery(stage: Stage) -> None:
    run, terms = ModelRun((300_000,)), replace(TERMS, retained_share=2_000, delivery_period=20_000)
    kept, lost = stage.completed(run, terms), stage.completed(run, terms)
    demands = [stage.watcher.delivery.demand(job, 0) for job in (kept, lost, lost)]
    stage.referee.send("join", 2, 0)
    stage.referee.send("place", 0, 300_000)
    seed = stage.delivery.demand_of(demands[0]).seed
    stage.trainer.delivery.answer(demands[0], *run.shown(0, seed % 1172))
    stage.chain.advance(PARAMETERS.answer_period + 1)
    stage.stranger.delivery.give_up(demands[1])
    stage.stranger.delivery.reclaim(demands[2])
    stage.chain.advance(terms.delivery_period)
    stage.stranger.registry.release(kept)
    stage.watcher.delivery.withdraw()


def play_game(stage: Stage) -> None:
    trainer, challenger, watcher = stage.trainer, stage.challenger, stage.watcher
    chain = GameChain(attach(stage.chain.web3, stage.book, challenger.sender), Index(stage.chain.web3, stage.book))

    # A blind game down to a leaf, and down to the parts of a run.
    job, data = stage.posted(RUN), bytes(300_000)
    trace = Tree([*RUN.trace(7).levels[0][:30], blob_tree(data).root, *RUN.trace(7).levels[0][31:]])
    game = challenger.opens_blind(job, 0)
    descend(stage, chain, game, RUN.histories[0], 8)
    challenger.game.show_step(game, ShowStep(RUN.opening(0, 7), False))
    trainer.game.post_trace(game, trace.root)
    roots = chain.game(game).roots
    challenger.game.demand_trace(game, roots)
    descend(stage, chain, game, trace, 30)
    challenger.game.demand_state(game, roots)
    descend(stage, chain, game, RUN.states[8], 0)
    stage.referee.send("place", 30, len(data))
    challenger.game.demand_tensor(game, roots, element_witness().node, 0, blob_tree(data).root, trace.prove(30))
    descend(stage, chain, game, blob_tree(data), 1000)
    d = pick(stage, chain, game, 1000)
    trainer.game.reveal(game, d.trail, d.picked, data[1000 * LEAF_BYTES : 1001 * LEAF_BYTES])
    stage.referee.send("cut", openings.RunPlace(tensor=30, claimed=sum(range(64)), parts=64, takes_max=False))
    challenger.game.demand_run(game, roots, run_demand())
    d = descent_of(chain, game)
    parts = parts_payload(range(64))
    trainer.game.reveal(game, d.trail, d.picked, parts)

    # Verdicts that acquit, ones that convict, and a bond that goes back.
    stage.referee.send("rule", True, 1, 1)
    challenger.game.conclude_part(game, roots, part_conclusion(d.trail, parts, 1))
    challenger.game.conclude_boundary(stage.traced(job, RUN, step=4), RUN.roots(0, 4), boundary_witness())
    challenger.game.conclude_run(stage.traced(job, RUN, step=1), RUN.roots(0, 1), run_witness())
    silent = stage.traced(job, RUN, step=2)
    stage.chain.advance(PARAMETERS.challenger_clock + 1)
    trainer.game.timeout(silent)
    other = watcher.opens(job, 1, RUN.opening(1, 9))
    watcher.game.contend(other)
    last = stage.traced(job, RUN, step=3)
    stage.referee.send("rule", False, 1, 2)
    challenger.game.conclude_element(last, RUN.roots(0, 3), element_witness(inputs=8))
    watcher.game.reclaim(other)
    watcher.game.withdraw()
    refuted = challenger.opens_blind(stage.posted(RUN), 0)
    d = descent_of(chain, refuted)
    trainer.game.reveal(refuted, d.trail, d.picked, bytes(32 << d.levels))
    move = challenge_of(chain, refuted)
    challenger.game.refute(refuted, move)
    assert stage.game.game(last).phase == stage.game.game(refuted).phase == Phase.CONVICTED


def descent_of(chain: GameChain, game: int) -> Descent:
    """The descent under way."""
    d = chain.game(game).descent
    assert d is not None
    return d


def challenge_of(chain: GameChain, game: int) -> Refute:
    """The claim that what was revealed last does not hold."""
    d = descent_of(chain, game)
    assert d.below is not None and not holds(d)
    return Refute(d.origin, d.first, d.above, d.below)


def pick(stage: Stage, chain: GameChain, game: int, leaf: int) -> Descent:
    """Pick what is above ``leaf``; where the descent stands then."""
    d = descent_of(chain, game)
    child = (leaf >> (d.height - d.levels)) - (d.position << d.levels)
    stage.challenger.game.pick(game, stage.game.game(game).descent.seal, child)
    return descent_of(chain, game)


def descend(stage: Stage, chain: GameChain, game: int, tree: Tree, leaf: int) -> None:
    """Have the trainer reveal all digests down to the level of ``leaf``."""
    d = descent_of(chain, game)
    while True:
        nodes = [tree.node(d.height - d.levels, (d.position << d.levels) + i) for i in range(1 << d.levels)]
        stage.trainer.game.reveal(game, d.trail, d.picked, b"".join(nodes))
        if d.levels == d.height:
            return
        d = pick(stage, chain, game, leaf)


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
