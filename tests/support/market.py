"""A market on a fast chain in this process: people in their roles, jobs on the counting program, and nodes that work on them.

What signs, sends and pays for gas is no part of it: the demo does that on eth-tester, the end-to-end test over HTTP on anvil.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from web3 import Web3
from web3.types import TxReceipt

from bisection.boundary import Array, state_tensors
from bisection.trace import MemoryTrace
from challenger.node import ChallengerNode
from contracts.deploy import Deployment, Parameters, attach, deploy
from contracts.jobs import NOBODY, Job, JobStatus, Terms, claim_commitment
from contracts.sender import Call
from sims.chain.evm import RevmChain, RevmProvider, RevmSender
from tests.support.programs import counting_program
from trainer.executor import Executor
from trainer.node import TrainerNode
from trainer.package import Material, publish
from trainer.service import Catalogue, ServiceThread, application
from trainer.store import Store

ETHER = 10**18
PARAMETERS = Parameters(burn_share=2_500, bond=ETHER // 10, trainer_clock=3_600, challenger_clock=3_600)
TERMS = Terms(stake=2 * ETHER, game=NOBODY, segment_period=20_000, challenge_window=5_000)
BOUNTY = ETHER
ROLES = ("requester", "trainer", "rival", "challenger", "watcher")
ACTIVE = (JobStatus.OPEN, JobStatus.TRAINING, JobStatus.VERIFICATION)
MOST_ROUNDS = 200

Event = tuple[str, dict[str, Any]]


@dataclass
class Diary:
    """A log that keeps everything."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def of(self, *names: str) -> list[dict[str, Any]]:
        """The fields of the events with one of these names."""
        return [fields for event, fields in self.events if event in names]


class Liar:
    """An executor that makes one number of the next weights wrong, at some steps, and commits to it."""

    def __init__(self, material: Material, *steps: int) -> None:
        self._executor, self._steps = Executor(material.program, material.data), steps
        self._node = material.program.producer[state_tensors(material.program)[1]]

    def _lie(self, node: int, outputs: list[Array]) -> list[Array]:
        if node != self._node:
            return outputs
        wrong = outputs[0].copy()
        wrong[7] += np.float32(1)
        return [wrong]

    def step(self, state: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, float]]:
        return self._executor.step(state, self._lie if int(state["step"]) in self._steps else None)

    def trace(self, state: Mapping[str, Array]) -> list[Array]:
        return self._executor.trace(state, self._lie if int(state["step"]) in self._steps else None)


class LoggedProvider(RevmProvider):
    """An EVM that remembers its logs, for those who read events."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: list[dict[str, Any]] = []
        self.forks: list[int] = []  # the last common block of each branch and the one before it

    def eth_getBlockByNumber(self, number: str, _full: bool) -> dict[str, Any]:  # noqa: N802
        block = self.block if number == "latest" else int(number, 16)
        branch = sum(fork < block for fork in self.forks)
        return {"number": hex(block), "hash": f"0x{branch:032x}{block:032x}", "timestamp": hex(self.time)}

    def eth_getLogs(self, request: dict[str, Any]) -> list[dict[str, Any]]:  # noqa: N802
        ends = [request["blockHash"]] * 2 if "blockHash" in request else [request["fromBlock"], request["toBlock"]]
        low, high = (int(end, 16) % 2**128 for end in ends)
        wanted = {address.lower() for address in request["address"]}
        return [log for log in self.logs if low <= log["blockNumber"] <= high and log["address"].lower() in wanted]


class LoggedSender(RevmSender):
    """A sender whose transactions leave their logs behind."""

    def send(self, call: Call) -> TxReceipt:
        receipt = super().send(call)
        provider = self.chain.provider
        assert isinstance(provider, LoggedProvider)
        provider.logs += receipt["logs"]  # type: ignore[arg-type]
        return receipt


class LoggedChain(RevmChain):
    """A chain with events."""

    def __init__(self, accounts: int) -> None:
        super().__init__(accounts)
        self.provider: LoggedProvider = LoggedProvider()
        self.web3.provider = self.provider
        self.senders = [LoggedSender(self, sender.address) for sender in self.senders]
        for sender in self.senders:
            self.provider.evm.set_balance(sender.address, 10**24)

    def restore(self, mark: Any) -> None:
        super().restore(mark)
        self.provider.forks.append(self.provider.block)
        self.provider.logs = [log for log in self.provider.logs if log["blockNumber"] <= self.provider.block]


class Market:
    """One deployment, and a funded account for each role."""

    def __init__(self) -> None:
        self.chain = LoggedChain(1 + len(ROLES))
        web3, (deployer, *others) = self.chain.web3, cast(list[Any], self.chain.senders)
        self.book = deploy(deployer, PARAMETERS)
        self.senders: dict[str, RevmSender] = dict(zip(ROLES, others, strict=True))
        self.acting = {role: attach(web3, self.book, cast(Any, sender)) for role, sender in self.senders.items()}
        self.looking: Deployment = attach(web3, self.book)

    def job(self, job: int) -> Job:
        return self.looking.registry.job(job)

    def address(self, role: str) -> str:
        return self.senders[role].address

    def balance(self, role: str) -> int:
        return self.senders[role].balance()

    def sent(self, role: str) -> list[str]:
        """What the role has sent, by name."""
        return self.senders[role].sent

    @contextmanager
    def rehearsal(self) -> Iterator[Market]:
        """What happens in it is forgotten."""
        mark = self.chain.snapshot()
        for sender in self.senders.values():
            sender.sent.clear()
        yield self
        self.chain.restore(mark)

    @contextmanager
    def other_branch(self, mark: Any) -> Iterator[None]:
        """What happens in it happens in place of everything after a snapshot, on a branch that becomes the longer one."""
        head = self.chain.provider.block
        self.chain.restore(mark)
        yield
        while self.chain.provider.block <= head:
            self.chain.advance(1)

    # Jobs

    def open_job(self, place: Path, steps: int = 6, segment_length: int | None = None, size: int = 200, **changes: Any) -> int:
        """A job on the counting program, whose material is published at ``place``; ``changes`` are to its spec or terms."""
        roots = publish(Store(place), *counting_program(size))
        spec = roots.spec(steps, segment_length or steps)
        terms = replace(
            TERMS,
            game=Web3.to_checksum_address(self.book.game),
            **{name: changes.pop(name) for name in list(changes) if hasattr(TERMS, name)},
        )
        return self.acting["requester"].registry.open_job(replace(spec, **changes), terms, str(place), BOUNTY)

    def claim(self, job: int, role: str, uri: str) -> None:
        """Become the trainer of a job by hand."""
        registry, salt = self.acting[role].registry, bytes(32)
        registry.commit(claim_commitment(self.address(role), job, salt))
        registry.claim(job, uri, self.job(job), salt)

    # Nodes

    @contextmanager
    def trainer(self, folder: Path, role: str = "trainer", **options: Any) -> Iterator[TrainerNode]:
        """A trainer node with its data service."""
        catalogue = Catalogue(Store(folder / "store"))
        with ServiceThread(application(catalogue)) as uri:
            node = TrainerNode(self.acting[role], self.address(role), folder, uri, catalogue, retry_seconds=0.0, **options)
            try:
                yield node
            finally:
                node.close()

    @contextmanager
    def challenger(self, folder: Path, role: str = "challenger", **options: Any) -> Iterator[ChallengerNode]:
        """A challenger node."""
        node = ChallengerNode(self.acting[role], self.address(role), folder, retry_seconds=0.0, **options)
        try:
            yield node
        finally:
            node.close()

    # Time

    def until(self, reached: Callable[[], bool], *nodes: TrainerNode | ChallengerNode) -> None:
        """Let the nodes act, side by side, until something is reached."""
        for _ in range(MOST_ROUNDS):
            for node in nodes:
                node.tick()
            if reached():
                return
        raise AssertionError("the nodes do not get there")

    def settle(self, *nodes: TrainerNode | ChallengerNode) -> None:
        """Let the nodes act, side by side, until none has anything to do."""
        for _ in range(MOST_ROUNDS):
            block = self.chain.provider.block
            busy = [node.tick() for node in nodes]
            if not any(busy) and self.chain.provider.block == block:
                return
        raise AssertionError("the nodes do not come to rest")

    def finish(self, *nodes: TrainerNode | ChallengerNode) -> None:
        """Let the nodes act, and time pass where they have nothing to do, until every job is over and all is collected."""
        for _ in range(MOST_ROUNDS):
            self.settle(*nodes)
            registry = self.looking.registry
            if not any(registry.job(number).status in ACTIVE for number in range(1, registry.job_count() + 1)):
                return
            self.chain.advance(TERMS.challenge_window // 2)
        raise AssertionError("the jobs do not come to an end")


def honest_trace(steps: int) -> MemoryTrace:
    """What an honest run of the counting program is, by the reference."""
    return MemoryTrace(*counting_program(), steps)


def lying(*steps: int) -> Callable[[Material], Liar]:
    """For ``executor_of``: a trainer that lies at these steps."""
    return lambda material: Liar(material, *steps)
