"""A deployment with a scripted referee, people in their roles, and a trainer's run to dispute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import pytest
from web3 import Web3
from web3.types import TxReceipt

from bisection.errors import TransactionFailed
from bisection.merkle import LEAF_BYTES, Tree, blob_tree
from bisection.moves import ConcludePart, DemandRun, StepOpening
from bisection.witness import BoundaryWitness, ElementWitness, Leaf, NodeProof, Run, RunWitness, StepRoots
from contracts.bindings import BLIND, DisputeGame, step_commitment
from contracts.build import artifact
from contracts.contract import Contract, Ledger
from contracts.deploy import AddressBook, Parameters
from contracts.events import Event
from contracts.jobs import NATIVE, NOBODY, JobSpec, JobStatus, Segment, Terms, claim_commitment
from contracts.reader import decode
from contracts.registry import Delivery, TaskRegistry
from contracts.sender import Call
from contracts.values import build
from sims.chain.evm import RevmChain, RevmSender

PARAMETERS = Parameters(
    burn_share=2_500,
    reward_share=4_001,
    bond=10**16 + 3,
    trainer_clock=1_000,
    challenger_clock=600,
    delivery_bond=10**15 + 1,
    answer_period=400,
)
# The game contract is filled in at the opening: it is the stage's.
TERMS = Terms(stake=10**18 + 7, game=NOBODY, segment_period=10_000, challenge_window=5_000)
BOUNTY = 3 * 10**18 + 1
UNPAID = (JobStatus.OPEN, JobStatus.TRAINING, JobStatus.VERIFICATION)
SALT = bytes(range(32))
BURNT = Web3.to_checksum_address("0x000000000000000000000000000000000000dEaD")


def digest(*name: object) -> bytes:
    """A digest that stands for something."""
    return sha256(repr(name).encode()).digest()


class TrainerRun:
    """What a trainer commits to: states of components, histories over states, traces over tensors."""

    def __init__(self, steps: int = 10, segment_length: int = 4, tensors: int = 37, components: int = 5, name: str = "run") -> None:
        self.name, self.tensors = name, tensors
        self.states = [Tree([digest(name, "component", k, c) for c in range(components)]) for k in range(steps + 1)]
        self.histories = [
            Tree([state.root for state in self.states[first : first + segment_length + 1]])
            for first in range(0, steps, segment_length)
        ]
        self.spec = JobSpec(
            program_root=digest(name, "program"),
            node_count=20,
            tensor_count=tensors,
            initial_state=self.states[0].root,
            state_count=components,
            data_root=digest(name, "data"),
            data_count=2,
            steps=steps,
            segment_length=segment_length,
            numerics_version=7,  # the scripted referee's
        )

    def claim(self, segment: int) -> tuple[bytes, list[bytes], bytes, list[bytes]]:
        """What a trainer posts of a segment: root, path of the first state, last state and its path."""
        tree = self.histories[segment]
        last = tree.count - 1
        return tree.root, tree.prove(0), tree.levels[0][last], tree.prove(last)

    def trace(self, step: int) -> Tree:
        """The trace of a step, counted from the start of the run."""
        return Tree([digest(self.name, "tensor", step, number) for number in range(self.tensors)])

    def opening(self, segment: int, step: int) -> StepOpening:
        """A step of a segment with its proof."""
        tree = self.histories[segment]
        before, after = tree.levels[0][step], tree.levels[0][step + 1]
        return StepOpening(step, before, after, tuple(tree.prove_range(step, 2)))

    def roots(self, segment: int, step: int) -> StepRoots:
        """All that is committed about a step of a segment."""
        at = segment * self.spec.segment_length + step
        return StepRoots(
            self.spec.program_root, self.spec.node_count, self.trace(at).root, self.spec.tensor_count, self.states[at].root,
            self.states[at + 1].root, self.spec.state_count, self.spec.data_root, self.spec.data_count,
        )  # fmt: skip


class ModelRun(TrainerRun):
    """A run whose states are known to the byte: components of these sizes."""

    def __init__(self, sizes: Sequence[int], steps: int = 1, segment_length: int = 1, name: str = "model") -> None:
        super().__init__(steps, segment_length, components=len(sizes), name=name)
        self.content = [[self._component(size, step, c) for c, size in enumerate(sizes)] for step in range(steps + 1)]
        self.states = [Tree([blob_tree(data).root for data in components]) for components in self.content]
        self.histories = [
            Tree([state.root for state in self.states[first : first + segment_length + 1]])
            for first in range(0, steps, segment_length)
        ]
        self.spec = replace(self.spec, initial_state=self.states[0].root)

    def _component(self, size: int, step: int, number: int) -> bytes:
        start = digest(self.name, step, number)[0]
        return bytes((start + k) % 251 for k in range(size))

    def shown(self, component: int, leaf: int, step: int = -1) -> tuple[NodeProof, bytes, list[bytes], bytes, list[bytes]]:
        """What an answer to a demand consists of, by default of an honest one about the last state."""
        content = self.content[step][component]
        data = content[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
        tree = blob_tree(content)
        return NODE, tree.root, self.states[step].prove(component), data, tree.prove(leaf)


@dataclass
class Actor:
    """Somebody with a key: ``registry``, ``game`` and ``delivery`` act in its name."""

    sender: RevmSender
    registry: TaskRegistry
    game: DisputeGame
    delivery: Delivery

    @property
    def address(self) -> Any:
        return self.sender.address

    def commits(self, job: int, segment: int, step: int, salt: bytes = SALT) -> None:
        """Commit to an opening."""
        self.game.commit(step_commitment(self.address, job, segment, step, salt))

    def opens(self, job: int, segment: int, opening: StepOpening) -> int:
        """A game on one step, committed to before."""
        self.commits(job, segment, opening.step)
        return self.game.open_step(job, segment, opening, SALT)

    def opens_blind(self, job: int, segment: int) -> int:
        """A game on a segment, committed to before."""
        self.commits(job, segment, BLIND)
        return self.game.open_blind(job, segment, SALT)


class Referee(Contract):
    """The scripted referee."""

    NAME = "referee_mock"


class ScriptedGame(Contract):
    """The scripted game contract: it opens, closes and convicts when it is told."""

    NAME = "game_mock"

    def open(self, job: int, segment: int) -> tuple[int, Segment]:
        """Open a game: the attempt and the segment that the registry told."""
        self.send("open", job, segment)
        return self.simulate("attempt"), build(Segment, self.simulate("disputed"))

    def close(self, job: int, attempt: int, segment: int) -> TxReceipt:
        """End a game in the trainer's favour."""
        return self.send("close", job, attempt, segment)

    def convict(self, job: int, attempt: int, beneficiary: str) -> TxReceipt:
        """End a game against the trainer."""
        return self.send("convict", job, attempt, beneficiary)


class Wallet(Contract):
    """A contract wallet; what it does goes through its owner's sender."""

    NAME = "wallet_mock"

    def does(self, call: Call) -> TxReceipt:
        """Make ``call`` as the wallet."""
        return self.send("execute", call.to, call.data, call.value, value=call.value)


class Stage:
    """The chain, the contracts and the roles."""

    def __init__(self, chain: RevmChain, book: AddressBook) -> None:
        self.chain, self.book = chain, book
        self.actors = [self._actor(sender) for sender in chain.senders[:6]]
        self.deployer, self.requester, self.trainer, self.challenger, self.watcher, self.stranger = self.actors
        self.referee = Referee(chain.web3, book.referee, self.deployer.sender)
        self.script = ScriptedGame(chain.web3, book.game, self.deployer.sender)

    def _actor(self, sender: RevmSender) -> Actor:
        web3 = self.chain.web3
        return Actor(
            sender,
            TaskRegistry(web3, self.book.registry, sender),
            DisputeGame(web3, self.book.game, sender),
            Delivery(web3, self.book.delivery, sender),
        )

    @property
    def registry(self) -> TaskRegistry:
        """The registry, to look at."""
        return self.stranger.registry

    @property
    def game(self) -> DisputeGame:
        """The game contract, to look at."""
        return self.stranger.game

    @property
    def delivery(self) -> Delivery:
        """The delivery contract, to look at."""
        return self.stranger.delivery

    def create(self, owner: Actor, name: str, *args: object) -> str:
        """The address of a new contract."""
        built = artifact(name)
        data = self.chain.web3.eth.contract(abi=built.abi, bytecode=built.bytecode).constructor(*args).data_in_transaction
        return str(owner.sender.send(Call(f"deploy {name}", None, bytes.fromhex(data[2:])))["contractAddress"])

    def wallet(self, owner: Actor) -> Wallet:
        """A new contract wallet."""
        return Wallet(self.chain.web3, self.create(owner, "wallet_mock"), owner.sender)

    def salt(self) -> bytes:
        """Another salt in every block."""
        return digest("salt", self.chain.web3.eth.block_number)

    # The way to a dispute

    def terms(self, terms: Terms = TERMS, **changes: Any) -> Terms:
        """Terms that name this stage's game contract."""
        return replace(terms, **({"game": Web3.to_checksum_address(self.book.game)} | changes))

    def opened(self, run: TrainerRun, terms: Terms = TERMS, bounty: int = BOUNTY, parent: int = 0) -> int:
        """A job that is open. Where the terms name no game contract it is this stage's."""
        if terms.game == NOBODY:
            terms = self.terms(terms)
        return self.requester.registry.open_job(run.spec, terms, "https://requester.example", bounty, parent)

    def claim(self, job: int, trainer: Actor | None = None) -> TxReceipt:
        """Commit to a claim, and make it in the next block; as the trainer, if nobody else is named."""
        trainer, salt = trainer or self.trainer, self.salt()
        trainer.registry.commit(claim_commitment(trainer.address, job, salt))
        return trainer.registry.claim(job, "https://trainer.example", self.registry.job(job), salt)

    def claimed(self, run: TrainerRun, terms: Terms = TERMS, bounty: int = BOUNTY) -> int:
        """A job in training."""
        job = self.opened(run, terms, bounty)
        self.claim(job)
        return job

    def post(self, job: int, run: TrainerRun, segment: int, trainer: Actor | None = None) -> TxReceipt:
        """Post a segment, as the trainer if nobody else is named."""
        return (trainer or self.trainer).registry.post_segment(job, *run.claim(segment))

    def posted(self, run: TrainerRun, segments: int | None = None, terms: Terms = TERMS, bounty: int = BOUNTY) -> int:
        """A job with its first ``segments`` posted, or all."""
        job = self.claimed(run, terms, bounty)
        for segment in range(run.spec.segments if segments is None else segments):
            self.post(job, run, segment)
        return job

    def completed(self, run: TrainerRun, terms: Terms = TERMS, bounty: int = BOUNTY) -> int:
        """A job whose segments are all final."""
        job = self.posted(run, terms=terms, bounty=bounty)
        self.chain.advance(self.registry.segment(job, run.spec.segments - 1).window_end + 1 - self.registry.clock())
        for _ in range(run.spec.segments):
            self.stranger.registry.finalise(job)
        return job

    def traced(self, job: int, run: TrainerRun, segment: int = 0, step: int = 1, challenger: Actor | None = None) -> int:
        """A game on a step whose trace is posted: the challenger's turn."""
        game = (challenger or self.challenger).opens(job, segment, run.opening(segment, step))
        self.trainer.game.post_trace(game, run.trace(segment * run.spec.segment_length + step).root)
        return game

    def convicted(self, job: int, run: TrainerRun, challenger: Actor | None = None, step: int = 1) -> int:
        """A game that the referee decides against the trainer."""
        game = self.traced(job, run, step=step, challenger=challenger)
        self.referee.send("rule", False, 1, 2)
        (challenger or self.challenger).game.conclude_element(game, run.roots(0, step), element_witness())
        return game

    # Time and money

    def now(self) -> int:
        """The timestamp of the latest block, which is also the time of a simulation."""
        return self.chain.now()

    def at(self, timestamp: int) -> None:
        """Have the latest block at exactly this time."""
        self.chain.advance(timestamp - self.now())

    def balance(self, address: str) -> int:
        """What an address holds, in wei."""
        return int(self.chain.web3.eth.get_balance(self.chain.web3.to_checksum_address(address)))

    def owed(self, ledger: Ledger, *others: str, token: str = NATIVE) -> int:
        """What a contract owes to the roles and to ``others``, and what it has to burn."""
        return sum(ledger.credit(account, token) for account in (*self.accounts, *others, BURNT))

    @property
    def accounts(self) -> tuple[str, ...]:
        """The roles' addresses."""
        return tuple(actor.address for actor in self.actors)

    def credits(self, *others: str) -> int:
        """What the contracts owe to the roles and to ``others``, and what they have to burn, in wei."""
        return sum(self.owed(ledger, *others) for ledger in (self.registry, self.game, self.delivery))

    def escrow(self, token: str = NATIVE) -> int:
        """What jobs hold of a token in the registry: unpaid bounties until they are settled, stakes while somebody is at work."""
        jobs = [self.registry.job(number) for number in range(1, self.registry.job_count() + 1)]
        return sum(
            (job.bounty - job.paid) * (job.status in UNPAID or (job.status == JobStatus.COMPLETED and not job.settled))
            + job.terms.stake * job.status.disputable
            for job in jobs
            if job.terms.token == token
        )

    def held(self) -> int:
        """What the contracts hold, in wei."""
        return sum(self.balance(address) for address in self.addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The contracts that hold money."""
        return (self.book.registry, self.book.game, self.book.delivery)

    def events(self, receipt: TxReceipt) -> list[Event]:
        """What a transaction told."""
        return [decode(log) for log in receipt["logs"] if log["address"] in self.addresses]


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """The chain refuses what happens here, for this reason."""
    with pytest.raises(TransactionFailed) as caught:
        yield
    assert str(caught.value).partition(": ")[2] == reason


# Witnesses in the right form, for a referee that does not look at them

NODE = NodeProof(3, b"node", (digest("path"),) * 5)
LEAF = Leaf(digest("root"), (digest("path"),) * 6, bytes(256), (digest("path"),) * 3)


def element_witness(inputs: int = 2) -> ElementWitness:
    return ElementWitness(NODE, 0, 11, LEAF, (LEAF,) * inputs)


RUN_OPENING = Run(digest("root"), (digest("path"),) * 6, bytes(8448), (digest("path"),) * 10)


def run_witness() -> RunWitness:
    return RunWitness(NODE, 0, 11, LEAF, (RUN_OPENING, RUN_OPENING))


def run_demand(position: int = 11) -> DemandRun:
    return DemandRun(NODE, position, LEAF)


def part_conclusion(trail: bytes, parts: bytes, child: int) -> ConcludePart:
    return ConcludePart(NODE, trail, parts, child, (RUN_OPENING, RUN_OPENING))


def boundary_witness() -> BoundaryWitness:
    return BoundaryWitness(NODE, digest("tensor"), (digest("path"),) * 6, digest("component"), (digest("path"),) * 3)
