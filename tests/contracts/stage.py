"""A deployment with a scripted referee, people in their roles, and a trainer's run to dispute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import pytest
from web3 import Web3
from web3.types import TxReceipt

from bisection.errors import TransactionFailed
from bisection.game import ARITY_BITS, ConcludePart, DemandRun, StepOpening
from bisection.merkle import Tree
from bisection.witness import BoundaryWitness, ElementWitness, Leaf, NodeProof, Run, RunWitness, StepRoots
from contracts.bindings import NO_PICK, DisputeGame, step_commitment
from contracts.build import artifact
from contracts.contract import Contract
from contracts.deploy import AddressBook, Parameters
from contracts.events import Event, decode
from contracts.jobs import JobSpec, Terms, claim_commitment
from contracts.registry import TaskRegistry
from contracts.sender import Call
from tests.contracts.revm import RevmChain, RevmSender

PARAMETERS = Parameters(burn_share=2_500, reward_share=4_000, bond=10**16 + 3, trainer_clock=1_000, challenger_clock=600)
NOBODY = Web3.to_checksum_address("0x" + 40 * "0")
TERMS = Terms(stake=10**18 + 7, game=NOBODY, segment_period=10_000, challenge_window=5_000)  # the game is the stage's
BOUNTY = 3 * 10**18 + 1
SALT = bytes(range(32))


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

    def trace(self, step: int) -> Tree:
        """The trace of a step, counted from the start of the run."""
        return Tree([digest(self.name, "tensor", step, number) for number in range(self.tensors)])

    def opening(self, segment: int, step: int) -> StepOpening:
        """A step of a segment with its proofs."""
        tree = self.histories[segment]
        before, after = tree.levels[0][step], tree.levels[0][step + 1]
        return StepOpening(step, before, tuple(tree.prove(step)), after, tuple(tree.prove(step + 1)))

    def roots(self, segment: int, step: int) -> StepRoots:
        """All that is committed about a step of a segment."""
        at = segment * self.spec.segment_length + step
        return StepRoots(
            self.spec.program_root, self.spec.node_count, self.trace(at).root, self.spec.tensor_count, self.states[at].root,
            self.states[at + 1].root, self.spec.state_count, self.spec.data_root, self.spec.data_count,
        )  # fmt: skip


@dataclass
class Actor:
    """Somebody with a key: ``registry`` and ``game`` act in its name."""

    sender: RevmSender
    registry: TaskRegistry
    game: DisputeGame

    @property
    def address(self) -> str:
        return self.sender.address

    def commits(self, job: int, segment: int, step: int, salt: bytes = SALT) -> None:
        """Commit to an opening."""
        self.game.commit(step_commitment(self.address, job, segment, step, salt))

    def opens(self, job: int, segment: int, opening: StepOpening) -> int:
        """A game on one step, committed to before."""
        self.commits(job, segment, opening.step)
        return self.game.open_step(job, segment, opening, SALT)


class Referee(Contract):
    """The scripted referee."""

    NAME = "referee_mock"


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

    def _actor(self, sender: RevmSender) -> Actor:
        web3 = self.chain.web3
        return Actor(sender, TaskRegistry(web3, self.book.registry, sender), DisputeGame(web3, self.book.game, sender))

    @property
    def registry(self) -> TaskRegistry:
        """The registry, to look at."""
        return self.stranger.registry

    @property
    def game(self) -> DisputeGame:
        """The game contract, to look at."""
        return self.stranger.game

    def wallet(self, owner: Actor) -> Wallet:
        """A new contract wallet."""
        built = artifact("wallet_mock")
        receipt = owner.sender.send(Call("deploy wallet", None, built.bytecode))
        return Wallet(self.chain.web3, str(receipt["contractAddress"]), owner.sender)

    # The way to a dispute

    def opened(self, run: TrainerRun, terms: Terms = TERMS, bounty: int = BOUNTY) -> int:
        """A job that is open; ``terms`` that name no game name the stage's."""
        if terms.game == NOBODY:
            terms = replace(terms, game=Web3.to_checksum_address(self.book.game))
        return self.requester.registry.open_job(run.spec, terms, "https://requester.example", bounty)

    def claimed(self, run: TrainerRun, terms: Terms = TERMS, bounty: int = BOUNTY) -> int:
        """A job in training."""
        job = self.opened(run, terms, bounty)
        self.claim(job)
        return job

    def claim(self, job: int, trainer: Actor | None = None) -> TxReceipt:
        """Become the trainer of a job."""
        trainer = trainer or self.trainer
        trainer.registry.commit(claim_commitment(trainer.address, job, SALT))
        return trainer.registry.claim(job, "https://trainer.example", self.registry.job(job).terms, SALT)

    def post(self, job: int, run: TrainerRun, segment: int, trainer: Actor | None = None) -> TxReceipt:
        """Post a segment as the trainer."""
        tree = run.histories[segment]
        last = tree.count - 1
        registry = (trainer or self.trainer).registry
        return registry.post_segment(job, tree.root, tree.prove(0), tree.levels[0][last], tree.prove(last))

    def posted(self, run: TrainerRun, segments: int | None = None, terms: Terms = TERMS) -> int:
        """A job with its first ``segments`` posted, or all."""
        job = self.claimed(run, terms)
        for segment in range(run.spec.segments if segments is None else segments):
            self.post(job, run, segment)
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
        (challenger or self.challenger).game.conclude_element(game, element_witness())
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

    def credits(self, *others: str) -> int:
        """What both contracts owe to the roles and to ``others``, and what is to be burnt."""
        accounts = [actor.address for actor in self.actors] + list(others)
        return self.registry.burnable() + sum(self.registry.credit(account) + self.game.credit(account) for account in accounts)

    def held(self) -> int:
        """What both contracts hold."""
        return self.balance(self.book.registry) + self.balance(self.book.game)

    def events(self, receipt: TxReceipt) -> list[Event]:
        """What a transaction told."""
        ours = (self.book.registry, self.book.game)
        return [decode(log) for log in receipt["logs"] if log["address"] in ours]


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """The chain refuses what happens here, for this reason."""
    with pytest.raises(TransactionFailed) as caught:
        yield
    assert str(caught.value).partition(": ")[2] == reason


# What a trainer reveals


def children_of(tree: Tree, height: int, position: int) -> list[bytes]:
    """The descendants that a reveal of this node gives."""
    span = min(ARITY_BITS, height)
    return [tree.node(height - span, (position << span) + i) for i in range(1 << span)]


def reveal_of(tree: Tree, descent: Any) -> tuple[list[bytes], list[bytes]]:
    """(children, siblings): the honest answer in a descent of ``tree``."""
    if descent.picked == NO_PICK:
        return children_of(tree, descent.height, descent.position), []
    drop = min(ARITY_BITS, descent.height)
    height, position = descent.height - drop, descent.position << drop | descent.picked
    return children_of(tree, height, position), siblings_of(tree, height, position, drop)


def siblings_of(tree: Tree, height: int, position: int, levels: int) -> list[bytes]:
    """The path from a node to its ancestor some levels up."""
    return [tree.node(height + k, (position >> k) ^ 1) for k in range(levels)]


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


def part_conclusion(child: int, parts: tuple[int, ...]) -> ConcludePart:
    return ConcludePart(NODE, child, parts, (RUN_OPENING, RUN_OPENING))


def boundary_witness() -> BoundaryWitness:
    return BoundaryWitness(NODE, digest("tensor"), (digest("path"),) * 6, digest("component"), (digest("path"),) * 3)
