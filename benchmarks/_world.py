"""The real contracts on a development chain with a requester, a trainer and a challenger, and disputes played on them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from web3 import Web3

from bisection.agent import Chain, Challenger, Defender, Nothing, Served
from bisection.errors import RefstepError, TransactionFailed
from bisection.game import Game
from bisection.program import NUMERICS_VERSION
from bisection.trace import Trace
from contracts.chain import GameChain
from contracts.client import connect, development_accounts, local_chain, pass_time
from contracts.deploy import Parameters, attach, deploy
from contracts.events import BoundaryJudged, Judged
from contracts.index import Index
from contracts.jobs import NOBODY, JobSpec, Terms, claim_commitment
from contracts.sender import Sent, TransactionSender
from tests.e2e.anvil import anvil_command, running_anvil
from tests.support.model_chain import HonestService

__all__ = ["ANSWERS", "CHAINS", "PATHS", "Dispute", "World", "machine", "world"]

ETHER = 10**18
CLOCK_SECONDS = 3_600
PARAMETERS = Parameters(burn_share=2_000, bond=ETHER // 5, trainer_clock=CLOCK_SECONDS, challenger_clock=CLOCK_SECONDS)
TERMS = Terms(stake=2 * ETHER, game=NOBODY, segment_period=86_400, challenge_window=100_000_000)
BOUNTY = ETHER
ROLES = ("requester", "trainer", "challenger")
CHAINS = ("auto", "anvil", "tester")
PATHS = ("fast", "slow")
ANSWERS = ("post_trace", "reveal")
MOST_ROUNDS = 100


@dataclass(frozen=True)
class Dispute:
    """A dispute that has ended: the game, what the referee found, and its transactions in order."""

    job: int
    game: Game
    verdict: Judged | BoundaryJudged | None
    transactions: tuple[Sent, ...]

    @property
    def gas(self) -> int:
        """What the dispute cost both sides together."""
        return sum(sent.gas_used for sent in self.transactions)

    @property
    def trainer_gas(self) -> int:
        """What the trainer's answers cost."""
        return sum(sent.gas_used for sent in self.transactions if sent.name in ANSWERS)

    @property
    def verdict_gas(self) -> int:
        """What the transaction cost that called the referee to judge."""
        return sum(sent.gas_used for sent in self.transactions if sent.name.startswith("conclude_"))


class World:
    """A fresh deployment on ``web3``, and the roles with an account of their own each."""

    def __init__(self, web3: Web3, name: str) -> None:
        self.web3, self.name = web3, name
        senders = [TransactionSender(web3, account, poll=0.002) for account in development_accounts(1 + len(ROLES))]
        self.book = deploy(senders[0], PARAMETERS)
        self.senders = dict(zip(ROLES, senders[1:], strict=True))
        self.deployments = {role: attach(web3, self.book, sender) for role, sender in self.senders.items()}
        self.index = Index(web3, self.book)
        self.chains = {role: GameChain(deployment, self.index) for role, deployment in self.deployments.items()}

    @property
    def sent(self) -> list[Sent]:
        """Every transaction of the roles, in the order in which they were mined."""
        return sorted((sent for sender in self.senders.values() for sent in sender.sent), key=lambda sent: sent.block)

    def post(self, trace: Trace) -> int:
        """A job of one segment that a trainer with this trace has claimed and posted; its number."""
        program, history = trace.program, trace.history()
        steps = history.count - 1
        spec = JobSpec(
            program_root=program.root,
            node_count=len(program.nodes),
            tensor_count=len(program.tensors),
            initial_state=trace.state(0).root,
            state_count=len(program.state),
            data_root=trace.data().root,
            data_count=len(program.data),
            steps=steps,
            segment_length=steps,
            numerics_version=NUMERICS_VERSION,
        )
        terms = replace(TERMS, game=Web3.to_checksum_address(self.book.game))
        job = self.deployments["requester"].registry.open_job(spec, terms, "https://requester.example", BOUNTY)
        registry, salt = self.deployments["trainer"].registry, bytes(32)
        registry.commit(claim_commitment(self.senders["trainer"].address, job, salt))
        self.pass_time(1)  # a commitment counts from the next block on
        registry.claim(job, "https://trainer.example", registry.job(job), salt)
        registry.post_segment(job, history.root, history.prove(0), history.node(0, steps), history.prove(steps))
        return job

    def dispute(self, job: int, trainer: Trace, own: Trace, served: Served, answers: Chain | None = None) -> Dispute:
        """Let the agents play: a challenger whose own execution is ``own`` against the trainer of ``job``. ``answers`` is the chain
        as the trainer sees it."""
        since = len(self.sent)
        chain = self.chains["challenger"]
        challenger = Challenger(chain, own, chain.claim(job, 0), served)
        defender = Defender(answers or self.chains["trainer"], trainer)
        game = self.opened(challenger)
        for _ in range(MOST_ROUNDS):
            if not (challenger.play(game) and defender.play(game)):
                self.index.update()
                return Dispute(job, chain.game(game), self.index.verdicts.get(game), tuple(self.sent[since:]))
        raise RefstepError(f"game {game} did not end in {MOST_ROUNDS} rounds")

    def opened(self, challenger: Challenger) -> int:
        """The game that the challenger opens, in the block after its commitment if it makes one."""
        try:
            game = challenger.open()
        except TransactionFailed:
            self.pass_time(1)
            game = challenger.open()
        if game is None:
            raise RefstepError("the challenger found nothing to dispute")
        return game

    def served(self, path: str, trainer: Trace) -> Served:
        """The trainer's data service on the fast path; on the slow one there is none."""
        return HonestService(trainer) if path == "fast" else Nothing()

    def pass_time(self, seconds: int) -> None:
        """Let ``seconds`` pass."""
        pass_time(self.web3, seconds)

    def settle(self) -> tuple[int, int]:
        """Everybody withdraws; returns what registry and game still hold, in wei: the stakes and bonds of what is not over."""
        for role, deployment in self.deployments.items():
            for contract in (deployment.registry, deployment.game):
                if contract.credit(self.senders[role].address):
                    contract.withdraw()
        if self.deployments["requester"].registry.burnable():
            self.deployments["requester"].registry.burn()
        held = [self.web3.eth.get_balance(Web3.to_checksum_address(a)) for a in (self.book.registry, self.book.game)]
        return int(held[0]), int(held[1])


@contextmanager
def world(chain: str) -> Iterator[World]:
    """A world on ``chain``, one of CHAINS; ``auto`` is anvil where that is installed."""
    if chain == "anvil" or (chain == "auto" and anvil_command() is not None):
        with running_anvil() as url:
            web3 = connect(url)
            yield World(web3, web3.client_version.replace("/", " "))
    else:
        yield World(local_chain(1 + len(ROLES)).web3, "eth-tester with py-evm")


def machine() -> str:
    """What this runs on: processor, cores, Python and torch."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = f"{models[0]}, {len(models)} cores" if models else platform.processor()
    return f"{processor}; {platform.system()}; Python {platform.python_version()}, torch {torch.__version__}"
