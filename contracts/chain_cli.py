"""``refstep chain …``: putting the contracts on a chain, watching them work, and what owners and creditors can do."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from web3 import Web3
from web3.exceptions import Web3Exception

from bisection.errors import UnavailableError, UsageError
from contracts.cli import acting, command, looking
from contracts.client import NodeProvider, Patience, connect
from contracts.contract import Ledger
from contracts.deploy import PEAK_FEE, Deployment, Parameters, deploy
from contracts.economics import GWEI, delivery_bond, game_bond
from contracts.events import Event, Paused, Rewound, Unpaused
from contracts.jobs import NATIVE, NOBODY
from contracts.keys import load_key
from contracts.narration import job_of, line
from contracts.observer import Lookup, observe, read_coin
from contracts.overview import as_json
from contracts.overview_text import deployment_text, job_text
from contracts.reader import EventReader, decode
from contracts.sender import TransactionSender
from contracts.settings import KINDS, ChainSettings, KeySettings, Wei, format_ether, setting
from contracts.token import Token
from contracts.words import harmless, moment

__all__ = ["add_commands"]


# refstep chain deploy ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeploySettings(ChainSettings, KeySettings):
    """Where to deploy, and with which parameters."""

    contracts: Path = setting("where to write the address book, in a new file", Path("refstep-contracts.json"))
    chain_id: int | None = setting("refuse any chain but this", None)
    burn_share: int = setting("the share of a slashed stake that is burnt, in basis points", Parameters.burn_share)
    reward_share: int = setting("the share that a successful challenger gets, in basis points", Parameters.reward_share)
    peak_fee: float = setting("the dearest gas that is foreseen, in gwei: bonds repay games at it", PEAK_FEE / GWEI, least=0.0)
    bond: Wei | None = setting("what a challenger stakes on a game, in ether; default: by peak_fee", None)
    trainer_clock: int = setting("the trainer's time for all its moves in one game, in seconds", Parameters.trainer_clock)
    challenger_clock: int = setting("the challenger's, in seconds", Parameters.challenger_clock)
    delivery_bond: Wei | None = setting("what a demand for a leaf of a final state costs, in ether; default: by peak_fee", None)
    answer_period: int = setting("the trainer's time for an answer to it, in seconds", Parameters.answer_period)


def _deploy(settings: DeploySettings, arguments: Namespace) -> None:
    fee = int(settings.peak_fee * GWEI)
    parameters = Parameters(
        burn_share=settings.burn_share,
        reward_share=settings.reward_share,
        bond=game_bond(fee) if settings.bond is None else settings.bond,
        trainer_clock=settings.trainer_clock,
        challenger_clock=settings.challenger_clock,
        delivery_bond=delivery_bond(fee) if settings.delivery_bond is None else settings.delivery_bond,
        answer_period=settings.answer_period,
    )
    account = load_key(settings.keystore, settings.password_file)
    sender = TransactionSender(connect(settings.rpc_url, settings.chain_id), account)
    with _reserved(settings.contracts):
        book = deploy(sender, parameters)
        book.save(settings.contracts)
    print(f"chain    {book.chain_id}\nregistry {book.registry}\ngame     {book.game}\nreferee  {book.referee}")
    print(f"bonds    {format_ether(parameters.bond)} ETH a game, {format_ether(parameters.delivery_bond)} ETH a demand")
    print(f"delivery {book.delivery}\nowner    {sender.address}\naddress book written to {settings.contracts}")


@contextmanager
def _reserved(path: Path) -> Iterator[None]:
    """Make sure that ``path`` can be written before anything is sent; if what follows fails, nothing is left there."""
    try:
        path.open("x").close()
    except FileExistsError:
        raise UsageError(f"{path} is there already; name another file with --contracts, or move it away") from None
    except OSError as error:
        raise UsageError(f"the address book cannot be written to {path}: {error.strerror}") from None
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


# refstep chain show, refstep chain watch --------------------------------------------------------------------------------


@dataclass(frozen=True)
class WatchSettings(ChainSettings):
    """What to watch."""

    from_block: int | None = setting("the first block; default: the next one, with --once the deployment's first", None, least=0)
    poll_seconds: float = setting("how often to look at the chain, in seconds", 2.0, least=0.1)


SOON = Patience(retries=1)  # a watch says that it waits, and asks again by itself


def _show(settings: ChainSettings, arguments: Namespace) -> None:
    overview = observe(looking(settings), arguments.job)
    if arguments.json:
        print(json.dumps(as_json(overview), indent=2))
    elif arguments.job is None:
        print(deployment_text(overview))
    else:
        print(job_text(overview, overview.jobs[0]))


def _watch(settings: WatchSettings, arguments: Namespace) -> None:
    deployment = looking(settings)
    count = deployment.registry.job_count()
    if arguments.job is not None and not 1 <= arguments.job <= count:
        raise UsageError(f"there is no job {arguments.job}; `refstep chain show` shows all {count}")
    first = _first_block(settings, arguments, deployment)
    watch = Watch(deployment, first, arguments.job, arguments.json)
    try:
        if arguments.once:
            watch.catch_up()
        else:
            provider = deployment.registry.web3.provider
            if isinstance(provider, NodeProvider):
                provider.patience = SOON
            _aside(f"watching from block {first} on; Ctrl-C ends it")
            watch.follow(settings.poll_seconds)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever reads has had enough. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _first_block(settings: WatchSettings, arguments: Namespace, deployment: Deployment) -> int:
    latest = deployment.registry.web3.eth.block_number
    if settings.from_block is None:
        return deployment.book.block if arguments.once else latest + 1
    if settings.from_block > latest + 1:
        raise UsageError(f"there is no block {settings.from_block} yet; the latest is {latest}")
    return max(settings.from_block, deployment.book.block)


def _aside(text: str) -> None:
    """Say something that is not about the chain, where it does not disturb what is."""
    print(f"refstep: {harmless(text)}", file=sys.stderr, flush=True)


class Watch:
    """Prints what happens, one line an event: of one job, or of all."""

    def __init__(self, deployment: Deployment, first_block: int, job: int | None, as_documents: bool) -> None:
        book = deployment.book
        addresses = [book.registry, book.game, book.delivery]
        self._reader = EventReader(deployment.registry.web3, addresses, first_block)
        self._lookup = Lookup(deployment)
        self._job, self._as_documents = job, as_documents
        self._untold: deque[Event | Rewound] = deque()

    def catch_up(self) -> None:
        """Print what has happened since the last time. Raises UnavailableError, and Web3Exception where the node refuses."""
        while True:
            # What cannot be looked up for an event now is looked up the next time: nothing that was read gets lost.
            while self._untold:
                self._print(self._untold[0])
                self._untold.popleft()
            position = self._reader.position
            self._untold += self._reader.poll()
            if not self._untold and self._reader.position == position:
                return

    def follow(self, poll_seconds: float) -> None:
        """Print what happens as it happens, and wait for a node that is away."""
        away = False
        while True:
            try:
                self.catch_up()
            except (UnavailableError, Web3Exception) as error:
                if not away:
                    _aside(f"waiting: {' '.join(str(error).split())[:300]}")
                away = True
            else:
                if away:
                    _aside("the node answers again")
                away = False
            sleep(poll_seconds)

    def _print(self, event: Event | Rewound) -> None:
        if isinstance(event, Rewound):
            self._lookup.forget()
            told = f"REORGANISED: what was told of the blocks after {event.block:,} did not happen; what did follows"
            print(json.dumps({"event": "Rewound", "block": event.block}) if self._as_documents else told, flush=True)
            return
        self._lookup.learn(event)
        if self._job is not None and not isinstance(event, Paused | Unpaused) and job_of(event, self._lookup) != self._job:
            return
        when = self._lookup.time(event.block)
        if self._as_documents:
            document = {"event": type(event).__name__, "time": moment(when), **as_json(event)}
            print(json.dumps(document), flush=True)
        else:
            print(line(event, when, self._lookup), flush=True)


# What the owner can do --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ActingSettings(ChainSettings, KeySettings):
    """On which chain to act, with which key."""


@dataclass(frozen=True)
class MoneySettings(ActingSettings):
    """Whose money, and of which token."""

    token: str | None = setting("the token's address; default: ether", None)


def _owning(settings: ActingSettings) -> Deployment:
    """The deployment, to act on as its owner. Raises UsageError for any other key."""
    deployment, sender = acting(settings, settings)
    owner = deployment.registry.owner()
    if sender.address != owner:
        raise UsageError(f"{sender.address} is not the owner, which is {'nobody' if owner == NOBODY else owner}; use its key")
    return deployment


def _pause(settings: ActingSettings, arguments: Namespace) -> None:
    registry = _owning(settings).registry
    if registry.paused():
        raise UsageError("the clocks stand still already")
    (told,) = (event for event in map(decode, registry.pause()["logs"]) if isinstance(event, Paused))
    print(f"paused: all clocks stand still until `refstep chain unpause`, or {moment(told.until)} at the latest")


def _unpause(settings: ActingSettings, arguments: Namespace) -> None:
    registry = _owning(settings).registry
    if not registry.paused():
        raise UsageError("the clocks are running")
    registry.unpause()
    print("all clocks go on")


def _transfer_ownership(settings: ActingSettings, arguments: Namespace) -> None:
    pending = _address(arguments.address)
    _owning(settings).registry.transfer_ownership(pending)
    if pending == NOBODY:
        print("the offer of the ownership is taken back")
    else:
        print(f"the ownership is offered to {pending}, which takes it with `refstep chain accept-ownership`")


def _accept_ownership(settings: ActingSettings, arguments: Namespace) -> None:
    deployment, sender = acting(settings, settings)
    if deployment.registry.pending_owner() != sender.address:
        raise UsageError(f"the ownership is not offered to {sender.address}")
    deployment.registry.accept_ownership()
    print(f"{sender.address} is the owner")


# What anybody can do ----------------------------------------------------------------------------------------------------


def _withdraw(settings: MoneySettings, arguments: Namespace) -> None:
    token = _token(settings.token)
    deployment, sender = acting(settings, settings)
    coin = read_coin(sender.web3, token)
    owed = [(contract, contract.credit(sender.address, token)) for contract in _ledgers(deployment)]
    for contract, amount in owed:
        if amount:
            contract.withdraw(token)
            print(f"{coin.amount(amount)} withdrawn from {contract.NAME}")
    if not any(amount for _, amount in owed):
        print(f"nothing of {coin.name} is owed to {sender.address}")


def _burn(settings: MoneySettings, arguments: Namespace) -> None:
    token = _token(settings.token)
    deployment, sender = acting(settings, settings)
    coin = read_coin(sender.web3, token)
    amount = deployment.registry.burnable(token)  # only stakes are slashed, and the registry holds them
    if amount:
        deployment.registry.burn(token)
        print(f"{coin.amount(amount)} burnt")
    else:
        print(f"nothing of {coin.name} is to be burnt")


def _approve(settings: ActingSettings, arguments: Namespace) -> None:
    address = _address(arguments.token)
    try:
        amount = KINDS[Wei].read(arguments.amount)
    except (ValueError, TypeError, ArithmeticError):
        raise UsageError(f"the amount must be a number of tokens such as 0.5, not {arguments.amount!r}") from None
    if address == NATIVE:
        raise UsageError("ether needs no allowance: it is sent along")
    deployment, sender = acting(settings, settings)
    coin = read_coin(sender.web3, address)
    if coin.decimals is None:
        raise UsageError(f"there is no ERC-20 token at {address}, or none that says how its amounts are written; check the address")
    token = Token(sender.web3, address, sender)
    units = token.units(amount)
    token.set_allowance(sender.address, deployment.registry.address, units)
    print(f"the registry may take {coin.amount(units)} from {sender.address}")


def _ledgers(deployment: Deployment) -> tuple[Ledger, ...]:
    return deployment.registry, deployment.game, deployment.delivery


def _token(text: str | None) -> str:
    return NATIVE if text is None else _address(text)


def _address(text: str) -> str:
    """An address with its checksum. Raises UsageError for what is none, or has a wrong checksum."""
    if not (text.startswith("0x") and Web3.is_address(text.lower()) and (text == text.lower() or Web3.is_checksum_address(text))):
        raise UsageError(f"{text!r} is no address: 0x and 40 hexadecimal digits, in the right case or all in lower case")
    return Web3.to_checksum_address(text)


# All of them ------------------------------------------------------------------------------------------------------------


def add_commands(commands: Any) -> None:
    """Add ``chain`` to the command line."""
    says = "put the contracts on a chain, watch them work, pause them, move money"
    chain = commands.add_parser("chain", help=says, description=says).add_subparsers(required=True, metavar="COMMAND")
    command(chain, "deploy", "deploy all contracts and write the address book", DeploySettings, _deploy)
    shown = command(chain, "show", "the whole deployment, or one job in full", ChainSettings, _show)
    watched = command(chain, "watch", "print what happens as it happens, until Ctrl-C", WatchSettings, _watch)
    for parser in (shown, watched):
        parser.add_argument("job", nargs="?", type=int, help="a job's number; default: all")
    shown.add_argument("--json", action="store_true", help="print one JSON object instead")
    watched.add_argument("--json", action="store_true", help="print one JSON object a line instead")
    watched.add_argument("--once", action="store_true", help="end after what has happened so far")
    owner: tuple[tuple[str, str, Callable[[ActingSettings, Namespace], None]], ...] = (
        ("pause", "stop all clocks for a while, as the owner", _pause),
        ("unpause", "let all clocks go on, as the owner", _unpause),
        ("accept-ownership", "become the owner, where the owner has offered it", _accept_ownership),
    )
    for name, text, run in owner:
        command(chain, name, text, ActingSettings, run)
    transfer = command(chain, "transfer-ownership", "offer the ownership, as the owner", ActingSettings, _transfer_ownership)
    transfer.add_argument("address", help="who may accept it; the zero address takes an offer back")
    command(chain, "withdraw", "have all that the key's account is owed paid out", MoneySettings, _withdraw)
    command(chain, "burn", "destroy what was slashed and belongs to nobody", MoneySettings, _burn)
    approve = command(
        chain, "approve", "let the registry take that much of a token, for bounties and stakes", ActingSettings, _approve
    )
    approve.add_argument("token", help="the token's address")
    approve.add_argument("amount", help="how many tokens, such as 0.5")
