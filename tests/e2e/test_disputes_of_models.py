"""Disputes about a convolutional network and a GPT, captured, and recorded by the compiled executor, on the real contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import pytest
import torch

from benchmarks._execution import Execution, Forgery, Place, draw
from benchmarks._hostile import HostileChallenger, kinds, nodes_of
from benchmarks._world import PATHS, World, world
from benchmarks.disputes import completed, try_forgery
from benchmarks.gas import DISPUTE_TARGET, VERDICT_TARGET
from benchmarks.referee_gas import in_game
from bisection.cut import load
from bisection.game import Outcome
from bisection.merkle import Tree, blob_tree
from bisection.nodes import DTYPES, MAX_INPUTS
from bisection.witness import judge
from sims import demo
from sims.cheats import CHEATS
from sims.demo import Options
from sims.show import Quiet
from tests.differential.evm import Contract
from tests.differential.scene import Scene, ask
from tests.e2e.models import JOBS, PLACES
from trainer.capture import Captured
from trainer.executor import Executor
from trainer.recorder import RecordedTrace, Recorder

pytestmark = pytest.mark.xdist_group("disputes of models")

STEPS = 4
CHANGES = ("any bit", "any bits", "lowest bit")
SAMPLE = {
    "gpt": {
        "attention: product of queries and keys": ["fast"],
        "attention: softmax, quantised": ["fast", "slow"],
        "optimizer: second moment": ["fast"],
        "data order": ["fast"],
    },
    "cnn": {
        "convolution: product": ["fast"],
        "max pooling, backward": ["fast"],
        "batch norm: running variance": ["fast"],
        "share of the gradients that clipping leaves": ["fast"],
        "dropout": ["fast"],
        "data order": ["fast", "slow"],
    },
}
"""What every run disputes, on which paths; the rest is for deep runs."""
CASES = [
    pytest.param(name, place, path, marks=() if path in SAMPLE[name].get(place, ()) else pytest.mark.deep)
    for name, places in PLACES.items()
    for place in places
    for path in PATHS
]
LIES = {("gpt", "data-order"), ("cnn", "gradient")}  # that nodes tell in every run
ELEMENTS = 30  # of each job, judged by the referee alone


@dataclass
class Job:
    """A job and its honest run: in memory, to depart from, and as a node has recorded it."""

    captured: Captured
    honest: Execution
    recorded: RecordedTrace

    @cached_property
    def scene(self) -> Scene:
        """The honest trace of the last step."""
        program = self.honest.program
        return Scene(program, 0, [self.honest.tensor(STEPS - 1, ref.tensor) for ref in program.tensors])


JobOf = Callable[[str], Job]


@pytest.fixture(scope="module")
def stage() -> Iterator[World]:
    with world("tester") as on_tester:
        yield on_tester


@pytest.fixture(scope="module")
def referee() -> Contract:
    return Contract("Referee")


@pytest.fixture(scope="module")
def job_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobOf]:
    """The job of a name, made once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small operations: threads would only wait for each other
    with ExitStack() as stack:

        @cache
        def made(name: str) -> Job:
            captured = JOBS[name]()
            material = captured.program, captured.state, captured.data
            executor = Executor(captured.program, captured.data)
            recorder = stack.enter_context(Recorder(tmp_path_factory.mktemp(name), *material, executor, checkpoint_every=2))
            recorder.run(STEPS)
            honest = Execution.honest(executor, captured.state, captured.data, STEPS)
            return Job(captured, honest, recorder.segment(0, STEPS))

        yield made
    torch.set_num_threads(threads)


def forgery_of(honest: Execution, tensor: int, rng: np.random.Generator) -> Forgery:
    """The first change of ``tensor`` that a committed state shows."""
    drawn = (draw(honest, Place(False, tensor), change, rng) for _ in range(20) for change in CHANGES)
    return next(forgery for forgery in drawn if forgery is not None)


@pytest.mark.parametrize(("name", "place", "path"), CASES)
def test_a_corrupted_element_is_convicted(stage: World, job_of: JobOf, name: str, place: str, path: str) -> None:
    """At its step, node and element, by a challenger that has recorded the job itself."""
    job = job_of(name)
    rng = np.random.default_rng(list(PLACES[name]).index(place))
    forgery = forgery_of(job.honest, PLACES[name][place](job.honest.program), rng)
    trial = try_forgery(stage, job.recorded, forgery, path, rng)
    assert trial.findings == ()
    assert trial.dispute.verdict_gas <= VERDICT_TARGET
    if path == "fast":
        assert len(trial.dispute.transactions) == 4
        assert trial.dispute.gas <= DISPUTE_TARGET


def test_a_verdict_costs_no_more_than_what_bounds_count_on(stage: World, job_of: JobOf, referee: Contract) -> None:
    """What the referee costs alone, and the game's part of it, between accounts that have been paid before."""
    rng, honest = np.random.default_rng(0), job_of("gpt").honest
    program = honest.program
    for place in ("data order", "optimizer: second moment"):  # the first pays the accounts, the second is dear
        forgery = forgery_of(honest, PLACES["gpt"][place](program), rng)
        dispute = try_forgery(stage, honest, forgery, "fast", rng).dispute
    scene = Scene(program, forgery.node, [forgery.trainer.tensor(forgery.step, ref.tensor) for ref in program.tensors])
    ask(referee, scene.roots, scene.witness(forgery.output, forgery.element))
    inputs = len(scene.node.inputs)
    assert inputs == MAX_INPUTS
    assert 0.95 * in_game(referee, inputs) < dispute.verdict_gas < in_game(referee, inputs)


@pytest.mark.parametrize(
    ("name", "lie"),
    [pytest.param(name, lie, marks=() if (name, lie) in LIES else pytest.mark.deep) for name in JOBS for lie in CHEATS],
)
def test_nodes_convict_every_lie(job_of: JobOf, name: str, lie: str) -> None:
    """The whole of it, as in the demo: trainer and challenger nodes, recordings, data service."""
    captured = job_of(name).captured
    other = JOBS[name](learning_rate=0.01) if CHEATS[lie] is None else captured
    outcome = demo.run("fraud", demo.World(Quiet()), captured, other, Options(STEPS, 0, lie), Quiet())
    assert demo.right(outcome) and outcome.transactions == 4
    assert outcome.gas <= DISPUTE_TARGET and outcome.verdict_gas <= VERDICT_TARGET


@pytest.mark.parametrize(("name", "style", "kind"), [("gpt", "conclude", "dot"), ("cnn", "wander", "map")])
def test_a_false_challenge_is_acquitted(stage: World, job_of: JobOf, name: str, style: str, kind: str) -> None:
    """The trainer shows what it has recorded, and is paid in the end."""
    job = job_of(name)
    number = stage.post(job.recorded)
    challenge = HostileChallenger(stage, number, job.recorded, np.random.default_rng(0), forgeries=4).play(style, kind)
    assert challenge.findings == []
    assert challenge.outcome == Outcome.ACQUITTED
    assert completed(stage, number) == []


def corrupted(honest: Scene, number: int, output: int, position: int, rng: np.random.Generator) -> Scene:
    """The scene around node ``number``, committed with one bit of one element wrong."""
    scene = copy(honest)
    scene.number, scene.node = number, honest.program.nodes[number]
    ref = scene.node.outputs[output]
    content = bytearray(honest.contents[ref.tensor])
    content[position * (size := DTYPES[ref.dtype].size) + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
    scene.contents = [bytes(content) if i == ref.tensor else other for i, other in enumerate(honest.contents)]
    scene.trees = [blob_tree(bytes(content)) if i == ref.tensor else other for i, other in enumerate(honest.trees)]
    scene.trace = Tree([tree.root for tree in scene.trees])
    scene.roots = replace(honest.roots, trace_root=scene.trace.root)
    return scene


def judged(honest: Scene, number: int, referee: Contract, rng: np.random.Generator) -> int:
    """What the verdict on a random element of node ``number`` costs, which is wrong and found to be."""
    outputs = honest.program.nodes[number].outputs
    output = int(rng.integers(len(outputs)))
    position = int(rng.integers(outputs[output].count))
    size = DTYPES[outputs[output].dtype].size
    (value,) = load(honest.contents[outputs[output].tensor][position * size : (position + 1) * size], outputs[output].dtype)
    scene = corrupted(honest, number, output, position, rng)
    witness, (claimed, correct) = scene.witness(output, position), scene.expected(output, position)
    verdict = judge(scene.roots, witness)
    assert claimed != correct == value
    assert ask(referee, scene.roots, witness) == (verdict.claimed, verdict.correct) == (claimed, correct)
    return in_game(referee, len(scene.node.inputs))


@pytest.mark.parametrize("name", JOBS)
def test_elements_of_every_kind_of_node_are_judged_within_their_gas(job_of: JobOf, referee: Contract, name: str) -> None:
    job = job_of(name)
    rng = np.random.default_rng(0)
    computing = [kind for kind in kinds(job.honest.program) if kind not in ("input", "output")]
    for i in range(ELEMENTS):
        numbers = nodes_of(job.honest.program, computing[i % len(computing)])
        assert judged(job.scene, int(rng.choice(numbers)), referee, rng) <= VERDICT_TARGET


@pytest.mark.deep
@pytest.mark.parametrize("name", JOBS)
def test_elements_of_every_node_are_judged_within_their_gas(job_of: JobOf, referee: Contract, name: str) -> None:
    job = job_of(name)
    for number, node in enumerate(job.honest.program.nodes):
        if node.NAME not in ("input", "output"):
            assert judged(job.scene, number, referee, np.random.default_rng(number)) <= VERDICT_TARGET
