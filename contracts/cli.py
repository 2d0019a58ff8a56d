"""``refstep key …`` and ``refstep chain …``: keys, and putting the contracts on a chain."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from bisection.errors import UsageError
from contracts.client import connect
from contracts.deploy import AddressBook, Deployment, Parameters, attach, deploy
from contracts.keys import create_key, load_key
from contracts.sender import TransactionSender
from contracts.settings import ChainSettings, KeySettings, add_flags, printable, resolve, setting

__all__ = ["add_commands", "attached", "command", "format_ether", "wei"]

S = TypeVar("S")
ETHER = 10**18


def wei(text: str, name: str) -> int:
    """An amount in ether, as typed, in wei. Raises UsageError."""
    try:
        amount = Decimal(text) * ETHER
        if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
            raise InvalidOperation
    except InvalidOperation:
        raise UsageError(f"{name} must be an amount of ether such as 0.5, not {text!r}") from None
    return int(amount)


def format_ether(amount: int) -> str:
    """An amount in wei as ether, without trailing zeros."""
    return f"{Decimal(amount) / ETHER:f}".rstrip("0").rstrip(".") if amount % ETHER else str(amount // ETHER)


def command(parent: Any, name: str, help_text: str, settings: type[S], run: Callable[[S, Namespace], None]) -> ArgumentParser:
    """Add a command whose settings are ``settings`` to a group of sub-commands; ``run`` gets them and the parsed arguments."""
    parser: ArgumentParser = parent.add_parser(name, help=help_text, description=help_text)
    add_flags(parser, settings)

    def start(arguments: Namespace) -> None:
        resolved = resolve(settings, arguments)
        if arguments.print_config:
            print(printable(resolved))
        else:
            run(resolved, arguments)

    parser.set_defaults(start=start)
    return parser


def attached(chain: ChainSettings, keys: KeySettings | None = None, **options: Any) -> tuple[Deployment, TransactionSender | None]:
    """The deployment that the settings name, and a sender if there is a key. The key is unlocked before anything is sent."""
    book = AddressBook.load(chain.contracts)
    account = load_key(keys.keystore, keys.password_file) if keys is not None else None
    web3 = connect(chain.rpc_url, chain.chain_id if chain.chain_id is not None else book.chain_id)
    sender = TransactionSender(web3, account, **options) if account is not None else None
    return attach(web3, book, sender), sender


# refstep key new --------------------------------------------------------------------------------------------------------


def _new_key(settings: KeySettings, arguments: Namespace) -> None:
    print(f"address {create_key(settings.keystore, settings.password_file).address}")


# refstep chain deploy ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeploySettings(ChainSettings, KeySettings):
    """Where to deploy, and with which parameters."""

    bond: str = setting("what a challenger stakes on a game, in ether", format_ether(Parameters().bond))
    burn_share: int = setting("the share of a slashed stake that is burnt, in basis points", Parameters().burn_share)
    trainer_clock: int = setting("the trainer's time for all its moves in one game, in seconds", Parameters().trainer_clock)
    challenger_clock: int = setting("the challenger's, in seconds", Parameters().challenger_clock)


def _deploy(settings: DeploySettings, arguments: Namespace) -> None:
    if settings.contracts.exists():
        raise UsageError(f"{settings.contracts} is there already; name another file with --contracts, or move it away")
    parameters = Parameters(settings.burn_share, wei(settings.bond, "bond"), settings.trainer_clock, settings.challenger_clock)
    account = load_key(settings.keystore, settings.password_file)
    book = deploy(TransactionSender(connect(settings.rpc_url, settings.chain_id), account), parameters)
    book.save(settings.contracts)
    print(f"chain    {book.chain_id}\nregistry {book.registry}\ngame     {book.game}\nreferee  {book.referee}")
    print(f"address book written to {settings.contracts}")


def add_commands(commands: Any) -> None:
    """Add ``key`` and ``chain`` to the command line."""
    key = commands.add_parser("key", help="make keys").add_subparsers(required=True, metavar="COMMAND")
    command(key, "new", "make an encrypted keystore from a password file", KeySettings, _new_key)
    chain = commands.add_parser("chain", help="put the contracts on a chain").add_subparsers(required=True, metavar="COMMAND")
    command(chain, "deploy", "deploy all contracts and write the address book", DeploySettings, _deploy)
