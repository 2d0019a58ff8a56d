"""Takes pictures of a deployment: asks the node for what an ``Overview`` holds, with few requests and several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from web3 import HTTPProvider, Web3
from web3.types import BlockData

from bisection.errors import TransactionFailed, UnavailableError, UsageError
from contracts.bindings import GameView, Tree
from contracts.chronicle import Chronicle, read
from contracts.contract import Ledger
from contracts.deploy import Deployment
from contracts.events import Event, GameOpened, JobOpened
from contracts.jobs import NATIVE, Job, JobStatus, Model
from contracts.overview import Account, Descending, GameState, Holding, JobState, OpenDemand, Overview, PostedSegment
from contracts.token import Token
from contracts.words import ETHER_COIN, UNKNOWN_COIN, Coin

__all__ = ["Lookup", "observe", "read_coin", "together"]

T = TypeVar("T")

WORKERS = 8  # requests on their way at once
TRIES = 3
NO_ROOT = bytes(32)


def observe(deployment: Deployment, job: int | None = None) -> Overview:
    """A picture of the whole deployment, or of one job and those who have to do with it.

    Where the chain goes on meanwhile it is taken again, a few times. Raises UsageError when there is no such job, and
    UnavailableError when the answers do not fit together.
    """
    eth = deployment.registry.web3.eth
    for tries_left in reversed(range(TRIES)):
        head = eth.get_block("latest")
        try:
            picture = _picture(deployment, head, job)
        except (TransactionFailed, KeyError) as error:  # one answer knows of a job, game or segment that another one does not
            if not tries_left:
                raise UnavailableError(f"the node's answers do not fit together ({error}); try again") from None
            continue
        if eth.get_block("latest")["hash"] == head["hash"]:
            break
        picture = replace(picture, steady=False)
    return picture


def read_coin(web3: Web3, token: str) -> Coin:
    """Ether, or a token with as many decimal places as it says, if that is sensible."""
    if token == NATIVE:
        return ETHER_COIN
    try:
        return Coin(token, Token(web3, token).decimals())
    except UsageError:
        return Coin(token, None)


def together(web3: Web3, requests: Iterable[Callable[[], T]]) -> list[T]:
    """The answers to requests: several at once where a node answers them, one after the other on a chain in this process."""
    if not isinstance(web3.provider, HTTPProvider):
        return [request() for request in requests]
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda request: request(), requests))


def _picture(deployment: Deployment, head: BlockData, only: int | None) -> Overview:
    registry, book = deployment.registry, deployment.book
    web3 = registry.web3
    requests: list[Callable[[], Any]] = [
        registry.clock,
        registry.paused,
        registry.owner,
        registry.pending_owner,
        registry.job_count,
    ]
    clock, paused, owner, pending, count = together(web3, requests)
    if only is not None and not 1 <= only <= count:
        raise UsageError(f"there is no job {only}; `refstep chain show` shows all {count}")
    numbers = range(1, count + 1) if only is None else [only]
    found = dict(zip(numbers, together(web3, [partial(registry.job, number) for number in numbers]), strict=True))
    # Events after jobs: then none is missing that has made a job what it was found to be.
    chronicle = read(web3, book, web3.eth.block_number)
    tokens = sorted({job.terms.token for job in found.values()} | {NATIVE})
    coins: dict[str, Coin] = dict(zip(tokens, together(web3, [partial(read_coin, web3, token) for token in tokens]), strict=True))
    games = _games(deployment, chronicle, found, head["timestamp"], clock, finished=only is not None)
    models = {only: registry.model(only) for only in found if only is not None and found[only].status == JobStatus.COMPLETED}
    jobs = tuple(_job(number, job, chronicle, games, coins, models) for number, job in found.items())
    accounts = _accounts(deployment, chronicle, jobs)
    return Overview(
        book=book,
        block=head["number"],
        time=head["timestamp"],
        clock=clock,
        paused_until=chronicle.paused_until if paused else None,
        owner=owner,
        pending_owner=pending,
        jobs=jobs,
        accounts=accounts,
        holdings=_holdings(deployment, jobs, accounts, [coins[token] for token in tokens]) if only is None else (),
    )


# Jobs and games ---------------------------------------------------------------------------------------------------------


def _games(
    deployment: Deployment, chronicle: Chronicle, jobs: dict[int, Job], time: int, clock: int, finished: bool
) -> list[GameState]:
    """The games about some jobs, with or without those that are over, at a time of the chain and of the protocol."""
    numbers = [game for job in jobs for game in chronicle.games[job] if finished or game not in chronicle.ended]
    contract = deployment.game
    views = together(contract.web3, [partial(contract.game, number) for number in numbers])
    return [
        _game(number, view, jobs[view.job], view.clocks(contract.clocks, time - clock), time)
        for number, view in zip(numbers, views, strict=True)
    ]


def _game(number: int, view: GameView, job: Job, clocks: tuple[int, int], time: int) -> GameState:
    on = job.status.disputable and job.attempt == view.attempt
    state = GameState(
        number=number,
        job=view.job,
        attempt=view.attempt,
        segment=view.segment,
        challenger=view.challenger,
        rank=view.rank,
        first=view.first,
        phase=view.phase,
        step=view.step if view.shown else None,
        trace_root=view.trace_root if view.trace_root != NO_ROOT else None,
        trainers_left=clocks[0],
        challengers_left=clocks[1],
        on=on,
        descent=_descent(view),
    )
    if not state.live:
        return state
    spent = time - view.moved_at
    if state.trainers_turn:
        return replace(state, trainers_left=state.trainers_left - spent)
    return replace(state, challengers_left=state.challengers_left - spent)


def _descent(view: GameView) -> Descending | None:
    d = view.descent
    if d.tree == Tree(0):
        return None
    run = (view.run_node, view.run_position) if d.tree == Tree.RUN else None
    return Descending(d.tree, d.height, d.position, d.count, d.tensor, d.size, run)


def _job(
    number: int, job: Job, chronicle: Chronicle, games: list[GameState], coins: dict[str, Coin], models: dict[int, Model]
) -> JobState:
    state = JobState(
        number=number,
        job=job,
        coin=coins[job.terms.token],
        uri=chronicle.opened[number].uri,
        service="" if job.status == JobStatus.OPEN else chronicle.services.get(number, ""),
        segments=(),
        games=tuple(game for game in games if game.job == number),
        demands=tuple(
            OpenDemand(demand, event.account, event.component, event.answer_by)
            for demand, event in chronicle.demands[number].items()
        ),
        model=models.get(number),
        ancestors=chronicle.ancestors(number),
        children=tuple(chronicle.children[number]),
    )
    return replace(state, segments=tuple(_segment(state, segment, chronicle) for segment in range(job.posted)))


def _segment(state: JobState, segment: int, chronicle: Chronicle) -> PostedSegment:
    event, spec = chronicle.posted[state.number, segment], state.job.spec
    first, final = segment * spec.segment_length, segment < state.job.finalised
    return PostedSegment(
        number=segment,
        first_step=first,
        steps=min(spec.segment_length, spec.steps - first),
        history_root=event.history_root,
        end_state=event.end_state,
        window_end=event.window_end,
        games=tuple(game.number for game in state.games if game.live and game.segment == segment),
        final=final,
        milestone=chronicle.milestones[state.number, segment] if final else state.milestone(segment),
    )


# Money ------------------------------------------------------------------------------------------------------------------


def _ledgers(deployment: Deployment) -> dict[str, Ledger]:
    return {"registry": deployment.registry, "game": deployment.game, "delivery": deployment.delivery}


def _accounts(deployment: Deployment, chronicle: Chronicle, jobs: Iterable[JobState]) -> tuple[Account, ...]:
    """What is owed to all who ever had to do with these jobs, where it is anything."""
    asked: set[tuple[str, str, Coin]] = set()
    for state in jobs:
        number, trainers = state.number, chronicle.trainers[state.number]
        asked |= {("registry", who, state.coin) for who in {state.job.requester} | trainers | chronicle.beneficiaries[number]}
        if chronicle.games[number]:
            players = trainers | {chronicle.challengers[game] for game in chronicle.games[number]}
            asked |= {("game", who, ETHER_COIN) for who in players}
        if chronicle.demanders[number]:
            asked |= {("delivery", who, ETHER_COIN) for who in trainers | chronicle.demanders[number]}
    ledgers, order = _ledgers(deployment), sorted(asked, key=lambda one: (one[1], one[0], one[2].address))
    requests = [partial(ledgers[contract].credit, who, coin.address) for contract, who, coin in order]
    amounts = together(deployment.registry.web3, requests)
    return tuple(Account(*one, amount) for one, amount in zip(order, amounts, strict=True) if amount)


def _holdings(
    deployment: Deployment, jobs: Iterable[JobState], accounts: Iterable[Account], coins: Iterable[Coin]
) -> tuple[Holding, ...]:
    """What each contract holds against what it owes."""
    jobs, parameters = list(jobs), deployment.book.parameters
    ours = [state for state in jobs if state.job.terms.game == deployment.game.address]
    bonds = parameters.bond * sum(game.bonded for state in ours for game in state.games)
    demands = parameters.delivery_bond * sum(len(state.demands) for state in jobs)
    deposits: list[tuple[str, Coin, dict[str, int]]] = []
    for coin in coins:
        paid_in = [state for state in jobs if state.coin == coin]
        held = {"bounties": sum(state.bounty_held for state in paid_in), "stakes": sum(state.stake_held for state in paid_in)}
        deposits.append(("registry", coin, held))
    deposits += [("game", ETHER_COIN, {"bonds": bonds}), ("delivery", ETHER_COIN, {"bonds": demands})]
    ledgers, web3 = _ledgers(deployment), deployment.registry.web3

    def holding(contract: str, coin: Coin, held: dict[str, int]) -> Holding:
        credits_of = sum(one.amount for one in accounts if (one.contract, one.coin) == (contract, coin))
        burnable = deployment.registry.burnable(coin.address) if contract == "registry" else 0
        return Holding(contract, coin, _balance(web3, coin, ledgers[contract].address), held, credits_of, burnable)

    return tuple(together(web3, [partial(holding, *one) for one in deposits]))


def _balance(web3: Web3, coin: Coin, account: str) -> int | None:
    if coin == ETHER_COIN:
        return web3.eth.get_balance(Web3.to_checksum_address(account))
    try:
        return Token(web3, coin.address).balance(account)
    except UsageError:
        return None


# Names ------------------------------------------------------------------------------------------------------------------


@dataclass
class Lookup:
    """Looks up what events do not say (narration.Names), once each; ``forget`` after a reorganisation."""

    deployment: Deployment

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Look everything up anew."""
        self._coins: dict[str, Coin] = {}
        self._tokens: dict[int, str] = {}
        self._jobs: dict[int, int] = {}
        self._times: dict[int, int] = {}

    def learn(self, event: Event) -> None:
        """Remember what an event tells, so that it need not be looked up."""
        if isinstance(event, JobOpened):
            self._tokens[event.job] = event.terms.token
        elif isinstance(event, GameOpened):
            self._jobs[event.game] = event.job

    def coin(self, token: str) -> Coin:
        """See Names."""
        if token not in self._coins:
            self._coins[token] = read_coin(self.deployment.registry.web3, token)
        return self._coins[token]

    def job_coin(self, job: int) -> Coin:
        """See Names. The coin of a job that is gone with a reorganisation is not known any more."""
        if job not in self._tokens:
            try:
                self._tokens[job] = self.deployment.registry.job(job).terms.token
            except TransactionFailed:
                return UNKNOWN_COIN
        return self.coin(self._tokens[job])

    def game_job(self, game: int) -> int | None:
        """See Names."""
        if game not in self._jobs:
            try:
                self._jobs[game] = self.deployment.game.game(game).job
            except TransactionFailed:
                return None
        return self._jobs[game]

    def time(self, block: int) -> int:
        """When a block was made."""
        if block not in self._times:
            self._times[block] = self.deployment.registry.web3.eth.get_block(block)["timestamp"]
        return self._times[block]
