"""The demo: one job, trained honestly, then with one falsified number, then with that number hidden as well.

Everything is the real thing on a chain in this process: contracts, nodes, HTTP data service. Only time is moved by hand.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import TxReceipt

from bisection.boundary import state_tensors
from bisection.cut import unravel
from bisection.errors import RefstepError
from bisection.program import Program
from bisection.scalar import read
from challenger.node import ChallengerNode
from contracts.client import LocalChain, local_chain
from contracts.deploy import AddressBook, Parameters, attach, deploy
from contracts.events import Judged
from contracts.index import Index
from contracts.jobs import NOBODY, JobStatus, Terms
from contracts.sender import Call, TransactionSender
from sims import digits
from sims.cheats import cheat
from trainer.capture import Captured
from trainer.node import TrainerNode
from trainer.package import Material, load_state, publish
from trainer.recorder import Executes
from trainer.runtime import Log
from trainer.service import Catalogue, ServedTrace, ServiceThread, application
from trainer.store import Store

__all__ = ["SCENARIOS", "Outcome", "Show", "World", "right", "run"]

ETHER = 10**18
BOUNTY, STAKE = 1 * ETHER, 2 * ETHER
PARAMETERS = Parameters(burn_share=2_000, reward_share=4_000, bond=ETHER // 5, trainer_clock=3_600, challenger_clock=3_600)
TERMS = Terms(stake=STAKE, game=NOBODY, segment_period=86_400, challenge_window=7_200)
ROLES = ("requester", "trainer", "challenger")
SCENARIOS = ("honest", "fraud", "withheld")
FINAL = (JobStatus.COMPLETED, JobStatus.SLASHED, JobStatus.EXPIRED, JobStatus.CANCELLED)
MOST_IDLE_ROUNDS = 10
DISPUTE_PREFIXES = (
    "open_step",
    "open_blind",
    "show_step",
    "demand_",
    "pick",
    "reveal",
    "refute",
    "post_trace",
    "conclude_",
    "timeout",
)


@dataclass
class Outcome:
    """How a scenario ended. Amounts in wei; ``claimed`` and ``correct`` are the disputed element's values."""

    scenario: str
    status: str
    steps: int
    loss: float
    accuracy: float | None = None
    cheated_step: int | None = None
    step: int | None = None
    node: int | None = None
    node_kind: str | None = None
    tensor: str | None = None
    element: int | None = None
    indices: list[int] | None = None
    claimed: float | int | str | None = None
    correct: float | int | str | None = None
    transactions: int = 0
    gas: int = 0
    verdict_gas: int = 0
    balances: dict[str, dict[str, int]] = field(default_factory=dict)


class Show(Protocol):
    """Who watches."""

    def begin(self, scenario: str, cheat: str, step: int | None) -> None:
        """A scenario begins; ``step`` is where its trainer cheats."""

    def log(self, side: str, program: Program) -> Log:
        """Where the node of one side reports."""

    def sent(self, side: str, name: str, gas: int) -> None:
        """A transaction was mined."""

    def end(self, outcome: Outcome) -> None:
        """The scenario is over."""


class Withholding(ServedTrace):
    """A trainer that shows nothing of its execution."""

    def history(self) -> None:
        """Withheld."""

    def trace(self, step: int) -> None:
        """Withheld."""

    def state(self, step: int) -> None:
        """Withheld."""

    def tensor(self, step: int, number: int) -> None:
        """Withheld."""


class WatchedSender(TransactionSender):
    """A sender whose transactions are shown."""

    def __init__(self, web3: Web3, account: LocalAccount, role: str, show: Show) -> None:
        super().__init__(web3, account, poll=0.01)
        self._role, self._show = role, show

    def send(self, call: Call) -> TxReceipt:
        """See TransactionSender."""
        receipt = super().send(call)
        self._show.sent(self._role, call.name, receipt["gasUsed"])
        return receipt


class World:
    """A chain with the contracts on it, and a funded account for each role."""

    def __init__(self, show: Show) -> None:
        self.chain: LocalChain = local_chain(1 + len(ROLES))
        self.book: AddressBook = deploy(TransactionSender(self.chain.web3, self.chain.accounts[0], poll=0.01), PARAMETERS)
        self.senders = {
            role: WatchedSender(self.chain.web3, account, role, show)
            for role, account in zip(ROLES, self.chain.accounts[1:], strict=True)
        }
        self.deployments = {role: attach(self.chain.web3, self.book, sender) for role, sender in self.senders.items()}

    def balances(self) -> dict[str, int]:
        """What each role holds, in wei."""
        return {role: sender.balance() for role, sender in self.senders.items()}

    def dispute_transactions(self, since: dict[str, int]) -> list[tuple[str, int]]:
        """(name, gas) of every dispute transaction after each role's first ``since`` ones."""
        recent = [(role, sent) for role, sender in self.senders.items() for sent in sender.sent[since[role] :]]
        # A challenger commits to an opening; a trainer to its claim, which is no dispute.
        prefixes = {role: (*DISPUTE_PREFIXES, "commit") if role == "challenger" else DISPUTE_PREFIXES for role in ROLES}
        return [(sent.name, sent.gas_used) for role, sent in recent if sent.name.startswith(prefixes[role])]


def run(scenario: str, world: World, captured: Captured, other: Captured, options: Options, show: Show) -> Outcome:
    """Play one scenario to its end."""
    rng = np.random.default_rng([options.seed, SCENARIOS.index(scenario)])
    cheated = None if scenario == "honest" else int(rng.integers(1, options.steps))
    show.begin(scenario, options.cheat, cheated)

    def executor_of(material: Material) -> Executes:
        assert cheated is not None
        return cheat(options.cheat, captured, other, cheated, rng)

    before, since = world.balances(), {role: len(sender.sent) for role, sender in world.senders.items()}
    with tempfile.TemporaryDirectory(prefix="refstep-demo-") as folder:
        job = open_job(world, captured, options.steps, Path(folder) / "published")
        catalogue = Catalogue(Store(Path(folder) / "trainer" / "store"))
        losses: dict[str, float] = {}
        with ServiceThread(application(catalogue)) as uri:
            trainer = TrainerNode(
                world.deployments["trainer"],
                world.senders["trainer"].address,
                Path(folder) / "trainer",
                uri,
                catalogue,
                log=_remembering(show.log("trainer", captured.program), losses),
                executor_of=None if cheated is None else executor_of,
                served_of=Withholding if scenario == "withheld" else ServedTrace,
            )
            challenger = ChallengerNode(
                world.deployments["challenger"],
                world.senders["challenger"].address,
                Path(folder) / "challenger",
                log=show.log("challenger", captured.program),
            )
            status = play(world, job, trainer, challenger)
            outcome = Outcome(scenario, status.name.capitalize(), options.steps, losses["loss"], cheated_step=cheated)
            collect(world, trainer, challenger)
            if status == JobStatus.COMPLETED:
                outcome.accuracy = accuracy(world, job, captured, Store(Path(folder) / "trainer" / "store"), options.seed)
            trainer.close()
            challenger.close()
    report(world, job, captured.program, outcome)
    sent = world.dispute_transactions(since)
    outcome.transactions, outcome.gas = len(sent), sum(gas for _, gas in sent)
    outcome.verdict_gas = sum(gas for name, gas in sent if name.startswith("conclude_"))
    outcome.balances = {"before": before, "after": world.balances()}
    show.end(outcome)
    return outcome


@dataclass(frozen=True)
class Options:
    """What the command line chooses."""

    steps: int = 200
    seed: int = 0
    cheat: str = "weight"


def _remembering(log: Log, losses: dict[str, float]) -> Log:
    def remember(event: str, **fields: Any) -> None:
        if "loss" in fields:
            losses["loss"] = fields["loss"]
        log(event, **fields)

    return remember


def open_job(world: World, captured: Captured, steps: int, folder: Path) -> int:
    """The requester publishes the material and opens the job; its number."""
    roots = publish(Store(folder), captured.program, captured.state, captured.data)
    spec = roots.spec(steps, steps)
    deployment = world.deployments["requester"]
    return deployment.registry.open_job(spec, replace(TERMS, game=deployment.game.address), str(folder), BOUNTY)


def play(world: World, job: int, trainer: TrainerNode, challenger: ChallengerNode) -> JobStatus:
    """Let both nodes act until the job is over; when neither has anything to do, let time pass."""
    registry = world.deployments["requester"].registry
    idle = 0
    while (status := registry.job(job).status) not in FINAL:
        before = world.chain.web3.eth.block_number
        busy = [trainer.tick(), challenger.tick()]
        idle = 0 if any(busy) or world.chain.web3.eth.block_number != before else idle + 1
        if idle:
            world.chain.advance(TERMS.challenge_window // 2)
        if idle > MOST_IDLE_ROUNDS:
            raise RefstepError(f"nobody acts on job {job} any more, which is {status.name.lower()}")
    return status


def collect(world: World, trainer: TrainerNode, challenger: ChallengerNode) -> None:
    """Everybody withdraws what it is owed."""
    trainer.tick()
    challenger.tick()
    requester = world.deployments["requester"].registry
    if requester.credit(world.senders["requester"].address):
        requester.withdraw()


def accuracy(world: World, job: int, captured: Captured, store: Store, seed: int) -> float:
    """The test accuracy of the model that the completed job delivered, fetched by the state root that stands on chain."""
    state = world.deployments["requester"].registry.job(job).state
    trained = digits.model(seed)
    captured.load_into(trained, load_state(store, captured.program, state))
    return digits.accuracy(trained)


def report(world: World, job: int, program: Program, outcome: Outcome) -> None:
    """Write what the winning game was about into ``outcome``."""
    index = Index(world.chain.web3, world.book)
    index.update()
    for game in index.games[job]:
        outcome.step = world.deployments["requester"].game.game(game).step
        verdict = index.verdicts.get(game)
        if isinstance(verdict, Judged):
            node = program.nodes[verdict.node]
            ref = node.outputs[verdict.output]
            outcome.node, outcome.node_kind, outcome.element = verdict.node, node.NAME, verdict.position
            outcome.indices = unravel(verdict.position, node.shape)
            outcome.tensor = tensor_name(program, ref.tensor)
            outcome.claimed, outcome.correct = (value_of(v, ref.dtype) for v in (verdict.claimed, verdict.correct))
        elif verdict is not None:
            outcome.node, outcome.node_kind = verdict.node, program.nodes[verdict.node].NAME
            outcome.claimed, outcome.correct = verdict.tensor_root.hex(), verdict.component_root.hex()


def tensor_name(program: Program, tensor: int) -> str:
    """What a tensor of the trace is to a person: the state that it becomes, or its number."""
    names = dict(zip(state_tensors(program), (spec.name for spec in program.state), strict=True))
    return f"next {names[tensor]}" if tensor in names else f"tensor {tensor}"


def value_of(register: int, dtype: str) -> float | int | str:
    """A register as a number; floats that JSON cannot hold as text."""
    if dtype != "f32":
        return register
    value = float(np.array(read(register, "F"), np.uint32).view(np.float32))
    return value if np.isfinite(value) else str(value)


def right(outcome: Outcome) -> bool:
    """Whether the verdict is the right one."""
    if outcome.scenario == "honest":
        return outcome.status == "Completed" and outcome.transactions == 0
    return outcome.status == "Slashed" and outcome.step == outcome.cheated_step and outcome.claimed != outcome.correct
