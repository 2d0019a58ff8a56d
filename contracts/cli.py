"""``refstep key …``, and what all commands on a chain share; ``refstep chain …`` is in chain_cli.py."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any, TypeVar

from web3 import Web3
from web3.exceptions import Web3Exception

from bisection.errors import UnavailableError, UsageError
from contracts.client import connect
from contracts.deploy import AddressBook, Deployment, attach
from contracts.keys import create_key, load_key
from contracts.sender import TransactionSender
from contracts.settings import ChainSettings, KeySettings, add_flags, format_ether, gather, printable, resolve

__all__ = ["acting", "add_commands", "command", "format_ether", "looking"]

S = TypeVar("S")


def command(parent: Any, name: str, help_text: str, settings: type[S], run: Callable[[S, Namespace], None]) -> ArgumentParser:
    """Add a command whose settings are ``settings`` to a group of sub-commands; ``run`` gets them and the parsed arguments."""
    parser: ArgumentParser = parent.add_parser(name, help=help_text, description=help_text)
    add_flags(parser, settings)

    def start(arguments: Namespace) -> None:
        if arguments.print_config:
            print(printable(settings, gather(settings, arguments)))
            return
        try:
            run(resolve(settings, arguments), arguments)
        except Web3Exception as error:
            raise UnavailableError(f"the node refuses to answer: {_one_line(error)}") from None

    parser.set_defaults(start=start)
    return parser


def looking(chain: ChainSettings) -> Deployment:
    """The deployment that the settings name, to look at. Raises UsageError, UnavailableError, ChainMismatch."""
    book = _book(chain)
    return attach(_connected(chain, book), book)


def acting(chain: ChainSettings, keys: KeySettings, confirmations: int = 1) -> tuple[Deployment, TransactionSender]:
    """The deployment that the settings name, and who acts on it. The key is unlocked before the node hears anything.

    Raises as ``looking``, and KeyfileError.
    """
    book = _book(chain)
    account = load_key(keys.keystore, keys.password_file)
    sender = TransactionSender(_connected(chain, book), account, confirmations=confirmations)
    return attach(sender.web3, book, sender), sender


def _book(chain: ChainSettings) -> AddressBook:
    book = AddressBook.load(chain.contracts)
    if not all(Web3.is_address(address) for address in (book.registry, book.game, book.referee, book.delivery)):
        raise UsageError(f"{chain.contracts} is no address book: it holds something else in place of an address")
    return book


def _connected(chain: ChainSettings, book: AddressBook) -> Web3:
    try:
        return connect(chain.rpc_url, book.chain_id if chain.chain_id is None else chain.chain_id)
    except (AttributeError, TypeError, ValueError):
        # web3 stumbles in many ways over answers that are JSON and nothing more.
        raise UnavailableError("the server at rpc_url does not speak JSON-RPC as an Ethereum node does; check the URL") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


# refstep key new --------------------------------------------------------------------------------------------------------


def _new_key(settings: KeySettings, arguments: Namespace) -> None:
    print(f"address {create_key(settings.keystore, settings.password_file).address}")


def add_commands(commands: Any) -> None:
    """Add ``key`` and ``chain`` to the command line."""
    from contracts import chain_cli

    key = commands.add_parser("key", help="make keys").add_subparsers(required=True, metavar="COMMAND")
    command(key, "new", "make an encrypted keystore from a password file", KeySettings, _new_key)
    chain_cli.add_commands(commands)
