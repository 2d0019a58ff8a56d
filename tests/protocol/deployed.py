"""The deployed contracts on a fast EVM: transactions in blocks whose time is chosen, and views whose answers are decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import pyrevm
from eth_abi.abi import decode, encode
from eth_abi.exceptions import EncodingError
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types

from contracts.bindings import GameView
from contracts.build import artifact
from contracts.deploy import Parameters, deploy
from contracts.jobs import NATIVE, Job, Segment
from contracts.values import build, plain
from sims.chain.evm import ERROR_STRING, GAS, RevmChain

__all__ = ["BOND", "CLOCKS", "NAMES", "PARAMETERS", "Deployed", "Refusal"]

PARAMETERS = Parameters(
    burn_share=2_500,
    reward_share=4_001,
    bond=10**16 + 3,
    trainer_clock=1_000,
    challenger_clock=600,
    delivery_bond=10**15 + 1,
    answer_period=400,
)
BOND = PARAMETERS.bond
CLOCKS = (PARAMETERS.trainer_clock, PARAMETERS.challenger_clock)
NAMES = ("owner", "requester", "honest", "liar", "watcher", "friend", "hostile", "copycat", "anyone")
PURSE = 10**30
KINDS = {"job": Job, "game": GameView, "segment": Segment}


class Refusal(Exception):
    """The contracts refuse, for this reason."""


@dataclass(frozen=True)
class Function:
    selector: bytes
    inputs: list[str]
    outputs: list[str]


@cache
def functions(contract: str) -> dict[str, Function]:
    entries: list[Any] = [entry for entry in artifact(contract).abi if entry["type"] == "function"]
    return {
        entry["name"]: Function(function_abi_to_4byte_selector(entry), get_abi_input_types(entry), get_abi_output_types(entry))
        for entry in entries
    }


@cache
def topics() -> dict[bytes, str]:
    """The names of all events."""
    entries: list[Any] = [
        entry for name in ("TaskRegistry", "DisputeGame", "Delivery") for entry in artifact(name).abi if entry["type"] == "event"
    ]
    return {event_abi_to_log_topic(entry): entry["name"] for entry in entries}


@lru_cache(maxsize=4096)
def calldata(contract: str, name: str, args: tuple[Any, ...]) -> bytes:
    """The input of a call. Arguments are hashable."""
    function = functions(contract)[name]
    return function.selector + encode(function.inputs, plain(args))


@lru_cache(maxsize=4096)
def decoded(contract: str, name: str, output: bytes) -> Any:
    """What a view says: a dataclass where there is one for it."""
    results = decode(functions(contract)[name].outputs, output)
    result = results[0] if len(results) == 1 else results
    return build(KINDS[name], result) if name in KINDS else result


class Deployed:
    """Registry, game, referee, delivery and a token, with funded accounts by name."""

    def __init__(self) -> None:
        chain = RevmChain(len(NAMES))
        self.accounts = dict(zip(NAMES, (str(sender.address) for sender in chain.senders), strict=True))
        book = deploy(chain.senders[0], PARAMETERS)  # type: ignore[arg-type]
        self.provider, self._evm = chain.provider, chain.provider.evm
        coin = self.provider.create(self.accounts["owner"], artifact("token_mock").bytecode)
        self.addresses = {
            "TaskRegistry": book.registry, "DisputeGame": book.game, "Delivery": book.delivery, "Referee": book.referee,
            "token_mock": coin,
        }  # fmt: skip
        self.coin, self.game = coin, book.game
        for account in self.accounts.values():
            self._evm.set_balance(account, PURSE)
            self.send(account, "token_mock", "mint", account, PURSE)
            self.send(account, "token_mock", "approve", book.registry, PURSE)
        self.mine(1)

    # Blocks

    @property
    def time(self) -> int:
        """The time of the present block."""
        return self.provider.time

    @property
    def block(self) -> int:
        """The number of the present block."""
        return self.provider.block

    def mine(self, seconds: int) -> None:
        """Begin another block, later by ``seconds``."""
        self.provider.block, self.provider.time = self.provider.block + 1, self.provider.time + seconds

    def snapshot(self) -> Any:
        """A mark that ``restore`` can go back to."""
        return self._evm.snapshot(), self.provider.block, self.provider.time

    def restore(self, mark: Any) -> None:
        """Forget all that happened after ``mark``."""
        checkpoint, self.provider.block, self.provider.time = mark
        self._evm.revert(checkpoint)

    # Calls

    def send(self, account: str, contract: str, name: str, *args: Any, value: int = 0) -> list[str]:
        """A transaction in the present block; the names of the events that it logs. Raises Refusal."""
        self._enter()
        try:
            self._evm.message_call(account, self.addresses[contract], calldata=calldata(contract, name, args), value=value, gas=GAS)
        except RuntimeError as error:
            raise Refusal(_reason(error)) from None
        except EncodingError as error:
            raise Refusal(f"no such number: {error}") from None
        finally:
            self._evm.reset_transient_storage()
        names = topics()
        assert self._evm.result is not None
        return [names[topic] for log in self._evm.result.logs if (topic := bytes.fromhex(str(log.topics[0])[2:])) in names]

    def view(self, contract: str, name: str, *args: Any) -> Any:
        """What a view says. Raises Refusal."""
        self._enter()
        to, data = self.addresses[contract], calldata(contract, name, args)
        try:
            return decoded(contract, name, bytes(self._evm.message_call(NATIVE, to, calldata=data, gas=GAS, is_static=True)))
        except RuntimeError as error:
            raise Refusal(_reason(error)) from None

    def _enter(self) -> None:
        self._evm.set_block_env(pyrevm.BlockEnv(number=self.provider.block, timestamp=self.provider.time))

    # Money

    @property
    def tokens(self) -> Sequence[str]:
        """Ether, and the token."""
        return (NATIVE, self.coin)

    def balance(self, token: str, account: str) -> int:
        """What an account has of a token."""
        if token == NATIVE:
            return int(self._evm.get_balance(account))
        return int(self.view("token_mock", "balanceOf", account))

    def credit(self, contract: str, token: str, account: str) -> int:
        """What a contract owes an account; for BURNT, what it has to burn."""
        return int(self.view(contract, "credit", token, account))


def _reason(error: RuntimeError) -> str:
    output = bytes.fromhex(str(error).partition("output: 0x")[2].partition(" ")[0])
    return str(decode(["string"], output[4:])[0]) if output[:4] == ERROR_STRING else "no reason"
