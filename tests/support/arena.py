"""Many games at once on an anvil that mines when it is told to, between people whose processes can be killed and started anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from web3 import Web3
from web3.types import RPCEndpoint, RPCResponse, TxReceipt

from bisection.agent import Challenger, Defender, Nothing, Served
from bisection.errors import TransactionFailed
from bisection.game import Outcome
from bisection.program import NUMERICS_VERSION
from bisection.trace import Trace
from contracts.chain import GameChain
from contracts.client import NodeProvider, Patience, connect, development_accounts, pass_time
from contracts.contract import Contract
from contracts.deploy import Deployment, Parameters, attach, deploy
from contracts.index import Index
from contracts.jobs import NOBODY, JobSpec, Terms, claim_commitment
from contracts.journal import Journal
from contracts.reader import EventReader
from contracts.sender import Call, TransactionSender
from tests.e2e.anvil import running_anvil

__all__ = ["ETHER", "PARAMETERS", "Arena", "Killed", "Party", "TheChallenger", "TheTrainer", "arena"]

ETHER = 10**18
CLOCK_SECONDS = 36_000
PARAMETERS = Parameters(burn_share=2_000, bond=ETHER // 5, trainer_clock=CLOCK_SECONDS, challenger_clock=CLOCK_SECONDS)
TERMS = Terms(stake=2 * ETHER, game=NOBODY, segment_period=10_000_000, challenge_window=100_000_000)
BOUNTY = ETHER
MOST_ROUNDS = 150
IDLE_ROUNDS = 4
Place = tuple[int, int]  # a job and a segment of it
P = TypeVar("P", bound="Party")


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Wire:
    """What goes between a process and its node: how many requests, and everything that was broadcast, in order.

    ``doom`` is asked before and after every broadcast (with the bytes and whether it has happened), and may raise Killed.
    """

    asked: Counter[str] = field(default_factory=Counter)
    raw: list[bytes] = field(default_factory=list)
    doom: Callable[[bytes, bool], None] = lambda raw, broadcast: None

    def tap(self, web3: Web3) -> Web3:
        """``web3``, over this wire."""
        provider = web3.provider
        assert isinstance(provider, NodeProvider)
        ask = provider._ask

        def asked(method: RPCEndpoint, params: Any) -> RPCResponse:
            self.asked[method] += 1
            if method != "eth_sendRawTransaction":
                return ask(method, params)
            raw = bytes(HexBytes(params[0]))
            self.doom(raw, False)
            self.raw.append(raw)
            answer = ask(method, params)
            self.doom(raw, True)
            return answer

        provider._ask = asked  # type: ignore[method-assign]
        return web3

    def contradictions(self) -> list[int]:
        """The nonces under which two transactions were broadcast that do different things."""
        deeds: dict[int, set[tuple[Any, ...]]] = {}
        for raw in self.raw:
            fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
            deeds.setdefault(fields["nonce"], set()).add((bytes(fields["to"]), fields["value"], bytes(HexBytes(fields["data"]))))
        return [nonce for nonce, done in deeds.items() if len(done) > 1]


class Party:
    """Somebody with a key, a journal and a process."""

    def __init__(self, arena: Arena, account: LocalAccount, folder: Path, url: str | None = None) -> None:
        self.arena, self.wire, self.failures = arena, Wire(), Counter[str]()
        self.restarts, self.index = -1, Index(connect(url or arena.url), arena.book)  # a new one would tell the same, later
        self._account, self._journal, self._url = account, folder / f"{account.address}.sqlite", url or arena.url
        self.start()

    @property
    def address(self) -> str:
        return self._account.address

    @property
    def progress(self) -> tuple[int, int]:
        """What changes as long as there is something to do: transactions in blocks, and restarts."""
        return self.arena.web3.eth.get_transaction_count(self._account.address), self.restarts

    def start(self) -> None:
        """Begin a process that knows what the journal and the chain tell."""
        web3 = self.wire.tap(connect(self._url, patience=Patience(first=0.001, longest=0.05)))
        self.journal = Journal(self._journal)
        self.sender = TransactionSender(web3, self._account, journal=self.journal, resend_after=0.5)
        self.deployment: Deployment = attach(web3, self.arena.book, self.sender)
        self.chain = GameChain(self.deployment, self.index)
        self.restarts += 1

    def kill(self) -> None:
        """End the process as a power cut would."""
        self.journal.close()

    def tick(self) -> None:
        """What a node does in one look at the chain. A process that is killed in it is started again."""
        try:
            self.chain.tend()
            self.act()
        except Killed:
            self.kill()
            self.start()

    def act(self) -> None:
        """One look at all games."""

    def attempt(self, act: Callable[[], object]) -> None:
        """Do something that the contract may refuse."""
        try:
            act()
        except TransactionFailed as error:
            self.failures[str(error)] += 1

    def calls(self, calls: Sequence[Call]) -> list[TxReceipt]:
        """Have all of them in one block."""
        pendings = [self.sender.submit(call) for call in calls]
        self.arena.mine()
        return [self.sender.settle(pending) for pending in pendings]


class TheTrainer(Party):
    """Defends segments with ``traces``, as the trainer node does."""

    traces: Mapping[Place, Trace] = {}

    def act(self) -> None:
        for job, games in list(self.index.games.items()):
            for game in games:
                if (trace := self.traces.get((job, self.index.segments[game]))) is not None:
                    self.attempt(lambda game=game, trace=trace: self._play(game, trace))  # type: ignore[misc]

    def _play(self, game: int, trace: Trace) -> None:
        if not self.chain.answered(game):
            Defender(self.chain, trace).play(game)


class TheChallenger(Party):
    """Disputes segments of which it has ``traces`` of its own, as the challenger node does."""

    traces: Mapping[Place, Trace] = {}
    served: Callable[[Place], Served] = staticmethod(lambda place: Nothing())

    def start(self) -> None:
        super().start()
        self._agents: dict[Place, Challenger] = {}
        self._branch = 0

    def act(self) -> None:
        if self._branch != self.index.branch:
            self._branch = self.index.branch
            self._agents.clear()
        for place, trace in self.traces.items():
            self.attempt(lambda place=place, trace=trace: self._contest(place, trace))  # type: ignore[misc]

    def _contest(self, place: Place, trace: Trace) -> None:
        job, segment = place
        mine = [game for game in self.index.games[job] if self.index.segments[game] == segment and self._own(game)]
        if mine and (game := self.chain.game(mine[0])).outcome != Outcome.LIVE:
            if game.outcome == Outcome.CANCELLED and self.chain.view(mine[0]).phase.live:
                self.chain.reclaim(mine[0])
            return
        if place not in self._agents:
            self._agents[place] = Challenger(self.chain, trace, self.chain.claim(job, segment), self.served(place))
        if not mine:
            self._agents[place].open()
            return
        self.chain.contend(mine[0])
        if not self.chain.answered(mine[0]):
            self._agents[place].play(mine[0])

    def _own(self, game: int) -> bool:
        return self.chain.view(game).challenger == self.address


class Arena:
    """A deployment, whose time stands still but for the blocks that are asked for."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.web3, self._folder = url, connect(url), folder
        accounts = iter(development_accounts(20))
        self.book = deploy(TransactionSender(self.web3, next(accounts), poll=0.002), PARAMETERS)
        self.looking = attach(self.web3, self.book)
        self._accounts = accounts
        self.rpc("evm_setAutomine", False)
        self.requester = self.party(Party)
        self.blocks = 0

    def party(self, kind: type[P], url: str | None = None) -> P:
        """Somebody, with an account of their own."""
        return kind(self, next(self._accounts), self._folder, url)

    def rpc(self, method: str, *params: Any) -> Any:
        answer = self.web3.provider.make_request(RPCEndpoint(method), list(params))
        assert "error" not in answer, answer
        return answer["result"]

    def mine(self) -> None:
        """One block with all that is pending, or as much as it holds."""
        self.rpc("evm_mine")
        self.blocks += 1

    def pass_time(self, seconds: int = CLOCK_SECONDS + 1) -> None:
        pass_time(self.web3, seconds)

    def post(self, trainer: TheTrainer, runs: Sequence[Sequence[Trace]]) -> list[int]:
        """A job for each run that the trainer has claimed and posted, a trace for each segment; their numbers."""
        terms, registry = replace(TERMS, game=Web3.to_checksum_address(self.book.game)), self.looking.registry
        requester = self.requester.deployment.registry
        opened = [
            requester.call("open_job", spec(run), terms, BOUNTY, 0, "https://requester.example", value=BOUNTY) for run in runs
        ]
        jobs = [registry.number(receipt, "JobOpened") for receipt in self.requester.calls(opened)]
        trainer.calls([registry.call("commit", claim_commitment(trainer.address, job, bytes(32))) for job in jobs])
        claim = "https://trainer.example"
        trainer.calls([registry.call("claim", job, registry.job(job).offer, bytes(32), claim, value=terms.stake) for job in jobs])
        for segment in range(max(map(len, runs))):
            posts = [(job, run[segment].history()) for job, run in zip(jobs, runs, strict=True) if segment < len(run)]
            trainer.calls([post(registry, job, history) for job, history in posts])
        posted = {(job, segment): trace for job, run in zip(jobs, runs, strict=True) for segment, trace in enumerate(run)}
        trainer.traces = {**trainer.traces, **posted}
        return jobs

    def until(self, reached: Callable[[], bool], *parties: Party) -> int:
        """Let everybody act, and mine, until something is reached; how many rounds that took."""
        for round_number in range(MOST_ROUNDS):
            if reached():
                return round_number
            for party in parties:
                party.tick()
            self.mine()
        raise AssertionError(f"this never happened; failures: {[party.failures for party in parties]}")

    def rounds(self, count: int, *parties: Party) -> None:
        """Let everybody act, and mine, so many times."""
        for _ in range(count):
            for party in parties:
                party.tick()
            self.mine()

    def rollback(self, depth: int) -> None:
        """Forget the last blocks and what is in the pool, and replace them with empty ones of their own."""
        self.rpc("anvil_rollback", depth)
        self.rpc("anvil_dropAllTransactions")
        for _ in range(depth + 1):
            self.mine()

    def events(self) -> list[Any]:
        """All that the contracts have told."""
        reader = EventReader(self.web3, [self.book.registry, self.book.game], self.book.block)
        found: list[Any] = []
        while events := reader.poll():
            found += events
        return found

    def finish(self, *parties: Party) -> int:
        """Let everybody act, and time pass where nobody does, until all games are over; how many rounds that took."""
        idle = 0
        for round_number in range(MOST_ROUNDS):
            before = [party.progress for party in parties]
            for party in parties:
                party.tick()
            self.mine()
            waits = any(party.sender._flight for party in parties)
            idle = idle + 1 if not waits and before == [party.progress for party in parties] else 0
            if idle == IDLE_ROUNDS:
                if not any(self._live(game) for game in self.games()):
                    return round_number
                self.pass_time()
                idle = 0
        raise AssertionError(f"the games do not end: {self.phases()}; failures: {[party.failures for party in parties]}")

    def _live(self, game: int) -> bool:
        view = self.looking.game.game(game)
        return view.phase.live and self.looking.registry.standing(view.job, view.attempt).live

    def games(self) -> list[int]:
        return list(range(1, self.looking.game.game_count() + 1))

    def phases(self) -> Counter[str]:
        """How the games stand."""
        return Counter(self.looking.game.game(game).phase.name for game in self.games())

    def transactions(self, address: str) -> list[dict[str, Any]]:
        """All transactions of an account that are in a block, with their status."""
        found = []
        for number in range(self.book.block, self.web3.eth.block_number + 1):
            block: Any = self.web3.eth.get_block(number, True)
            for transaction in block["transactions"]:
                if transaction["from"] == address:
                    receipt = self.web3.eth.get_transaction_receipt(transaction["hash"])
                    found.append({**transaction, "status": receipt["status"]})
        return found


def spec(run: Sequence[Trace]) -> JobSpec:
    """The job that the traces of all its segments, of equal length, are a run of."""
    program, length = run[0].program, run[0].history().count - 1
    return JobSpec(
        program_root=program.root,
        node_count=len(program.nodes),
        tensor_count=len(program.tensors),
        initial_state=run[0].state(0).root,
        state_count=len(program.state),
        data_root=run[0].data().root,
        data_count=len(program.data),
        steps=length * len(run),
        segment_length=length,
        numerics_version=NUMERICS_VERSION,
    )


def post(registry: Contract, job: int, history: Any) -> Call:
    """The transaction that posts a segment."""
    last = history.count - 1
    return registry.call("post_segment", job, history.root, history.prove(0), history.node(0, last), history.prove(last))


@contextmanager
def arena(folder: Path) -> Iterator[Arena]:
    """A fresh one."""
    with running_anvil("--gas-limit", "60000000", accounts=20) as url:
        yield Arena(url, folder)
