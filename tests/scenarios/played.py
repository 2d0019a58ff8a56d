"""What the scenarios share: who has how much in the end, the mempool as an attacker sees it, disputes played by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from web3 import Web3
from web3.types import TxReceipt

from bisection.agent import Answers, Challenger, Defender
from bisection.errors import TransactionFailed
from bisection.merkle import LEAF_BYTES, blob_tree
from bisection.nodes import DTYPES
from bisection.trace import Trace
from bisection.witness import ElementWitness, Leaf, RunWitness, StepRoots, witness
from contracts.bindings import BLIND, step_commitment
from contracts.chain import GameChain
from contracts.contract import Ledger
from contracts.index import Index
from contracts.jobs import JobSpec
from contracts.sender import Call
from sims.chain.evm import RevmChain, RevmSender
from tests.contracts.stage import BURNT, SALT, Actor, Stage, TrainerRun, element_witness
from tests.support.arena import spec
from tests.support.market import BOUNTY, TERMS, Market
from tests.support.model_chain import opening_of, roots_of
from trainer.package import commit

__all__ = [
    "Attacker",
    "Fortunes",
    "HandPlayed",
    "concludes",
    "overtaken",
    "roots_in",
    "same_second",
    "settle",
]


# Who has how much -------------------------------------------------------------------------------------------------------


class Fortunes:
    """What everybody has gained since this was made, in wei: what they hold and what they are owed. Gas is free on this chain."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._before = {account: self._has(account) for account in stage.accounts}

    def _has(self, account: str) -> int:
        ledgers: tuple[Ledger, ...] = (self._stage.registry, self._stage.game, self._stage.delivery)
        return self._stage.balance(account) + sum(ledger.credit(account) for ledger in ledgers)

    def gain(self, *actors: Actor) -> int:
        """What these actors have gained together."""
        return sum(self._has(actor.address) - self._before[actor.address] for actor in actors)


def settle(stage: Stage) -> None:
    """Everybody takes what it is owed, and what is slashed is burnt: the contracts hold what jobs and live games still need."""
    for actor in stage.actors:
        for ledger in (actor.registry, actor.game, actor.delivery):
            if ledger.credit(actor.address):
                ledger.withdraw()
    if stage.registry.credit(BURNT):
        stage.stranger.registry.burn()


# Time and the mempool ---------------------------------------------------------------------------------------------------


def same_second(chain: RevmChain) -> None:
    """Have the next transaction in the second of the last one."""
    chain.next_block_at(chain.now())


@contextmanager
def overtaken(victim: RevmSender, attack: Callable[[Call], None]) -> Iterator[None]:
    """Whatever the victim sends, ``attack`` has seen and may act on before it is mined."""
    send = victim.send

    def seen(call: Call) -> TxReceipt:
        attack(call)
        return send(call)

    victim.send = seen  # type: ignore[method-assign]
    try:
        yield
    finally:
        del victim.send  # type: ignore[attr-defined]


@dataclass
class Attacker:
    """Sends what it sees others send, in its own name; ``through`` counts what was accepted, by name."""

    sender: RevmSender
    through: dict[str, int]

    def copy(self, call: Call) -> None:
        """Send the same."""
        try:
            self.sender.send(call)
        except TransactionFailed:
            return
        self.through[call.name] = self.through.get(call.name, 0) + 1


# Disputes with scripted verdicts ----------------------------------------------------------------------------------------


def roots_in(stage: Stage, run: TrainerRun, game: int) -> StepRoots:
    """All that is committed about the step that a game has shown."""
    view = stage.game.game(game)
    return run.roots(view.segment, view.step)


def concludes(stage: Stage, run: TrainerRun, actor: Actor, game: int) -> None:
    """Have an element of the step judged that a game has shown."""
    actor.game.conclude_element(game, roots_in(stage, run, game), element_witness())


# Disputes with real verdicts --------------------------------------------------------------------------------------------


@dataclass
class HandPlayed:
    """A job of one segment, posted as ``trace`` says it went; its trainer and challengers act by hand or by their agents."""

    market: Market
    trace: Trace
    steps: int
    job: int

    @classmethod
    def posted(
        cls, market: Market, trace: Trace, state: Mapping[str, Any], data: Mapping[str, Any], steps: int, **terms: Any
    ) -> HandPlayed:
        """Offer, claim and post the job."""
        return cls._offered(market, trace, steps, commit(trace.program, state, data).spec(steps, steps), terms)

    @classmethod
    def synthetic(cls, market: Market, trace: Trace) -> HandPlayed:
        """The same of a job that nobody but ``trace`` knows."""
        return cls._offered(market, trace, trace.history().count - 1, spec([trace]), {})

    @classmethod
    def _offered(cls, market: Market, trace: Trace, steps: int, spec: JobSpec, terms: Mapping[str, Any]) -> HandPlayed:
        agreed = replace(TERMS, game=Web3.to_checksum_address(market.book.game), **terms)
        job = market.acting["requester"].registry.open_job(spec, agreed, "", BOUNTY)
        played = cls(market, trace, steps, job)
        market.claim(job, "trainer", "")
        played.post()
        return played

    def post(self, role: str = "trainer") -> None:
        """Post the segment."""
        history = self.trace.history()
        end = history.node(0, self.steps)
        self.market.acting[role].registry.post_segment(self.job, history.root, history.prove(0), end, history.prove(self.steps))

    # By hand

    def commits(self, role: str, step: int) -> None:
        """Commit to an opening."""
        commitment = step_commitment(self.market.address(role), self.job, 0, step, SALT)
        self.market.acting[role].game.commit(commitment)

    def opens(self, role: str, step: int) -> int:
        """A game on a step of the posted segment, committed to before."""
        self.commits(role, step)
        return self.market.acting[role].game.open_step(self.job, 0, opening_of(self.trace, step), SALT)

    def opens_blind(self, role: str) -> int:
        """A game on the posted segment, committed to before."""
        self.commits(role, BLIND)
        return self.market.acting[role].game.open_blind(self.job, 0, SALT)

    def traced(self, role: str, step: int) -> int:
        """A game on a step, with the trainer's trace root."""
        game = self.opens(role, step)
        if self.market.looking.game.game(game).trace_root == bytes(32):
            self.market.acting["trainer"].game.post_trace(game, self.trace.tensors(step).root)
        return game

    def roots(self, step: int) -> StepRoots:
        """All that is committed about a step."""
        return roots_of(self.trace, step)

    def witness(self, step: int, tensor: int, position: int) -> ElementWitness | RunWitness:
        """What the trainer's own trace of a step says of one element, opened."""
        program, tree = self.trace.program, self.trace.tensors(step)
        ref = program.tensors[tensor]
        data = self.trace.tensor(step, tensor)[0 : ref.nbytes]
        leaf, blob = position * DTYPES[ref.dtype].size // LEAF_BYTES, blob_tree(data)
        shown = data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
        claim = Leaf(blob.root, tuple(tree.prove(tensor)), shown, tuple(blob.prove(leaf)))
        return witness(program, tensor, position, claim, lambda number: self.trace.tensor(step, number), tree.prove)

    # By agents

    def challenger(self, role: str, own: Trace, served: Answers) -> Challenger:
        """An agent that challenges the posted segment, in which it has recomputed ``own``."""
        chain = self.chain(role)
        return Challenger(chain, own, chain.claim(self.job, 0), served)

    def defender(self, trace: Trace | None = None) -> Defender:
        """The trainer's agent."""
        return Defender(self.chain("trainer"), trace or self.trace)

    def chain(self, role: str) -> GameChain:
        """The chain as a role sees it."""
        return GameChain(self.market.acting[role], Index(self.market.chain.web3, self.market.book))
