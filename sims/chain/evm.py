"""A chain in this process that is as fast as the contracts' rules need, with the interface of contracts.client.LocalChain.

Its senders run a call and are done: no signatures, no fees, no blocks to wait for. What those do is tested on eth-tester and anvil.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pyrevm
from eth_abi.abi import decode
from hexbytes import HexBytes
from web3 import Web3
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse, TxReceipt

from bisection.errors import TransactionFailed
from contracts.client import development_accounts
from contracts.sender import Call

ANYBODY = "0x" + 40 * "0"
ERROR_STRING = bytes.fromhex("08c379a0")
GAS = 30_000_000


class Reverted(Exception):
    """The call reverted, for this reason."""


class RevmProvider(BaseProvider):
    """What web3 asks for when it looks at contracts, answered by an EVM."""

    def __init__(self) -> None:
        super().__init__()
        self.evm = pyrevm.EVM(spec_id="PRAGUE")
        self.block, self.time = 0, 1_800_000_000

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The answer to one of the few requests that are known here."""
        try:
            return cast(RPCResponse, {"jsonrpc": "2.0", "id": 1, "result": getattr(self, method)(*params)})
        except Reverted as error:
            return cast(RPCResponse, {"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": f"execution reverted: {error}"}})

    def eth_chainId(self) -> str:  # noqa: N802
        """The chain's number."""
        return hex(31337)

    def eth_blockNumber(self) -> str:  # noqa: N802
        """The latest block."""
        return hex(self.block)

    def eth_getBalance(self, account: str, _block: str) -> str:  # noqa: N802
        """What an account holds."""
        return hex(self.evm.get_balance(account))

    def eth_getCode(self, account: str, _block: str) -> str:  # noqa: N802
        """A contract's code."""
        return "0x" + (self.evm.get_code(account) or b"").hex()

    def eth_call(self, call: dict[str, str], _block: str) -> str:
        """What a call returns; nothing is left of it."""
        mark = self.evm.snapshot()
        try:
            value = int(call.get("value", "0x0"), 16)
            return "0x" + self.run(call.get("from", ANYBODY), call["to"], bytes(HexBytes(call["data"])), value).hex()
        finally:
            self.evm.revert(mark)

    def run(self, caller: str, to: str, data: bytes, value: int) -> bytes:
        """Call a contract for good. Raises Reverted."""
        with self._transaction():
            return bytes(self.evm.message_call(caller, to, calldata=data, value=value, gas=GAS))

    def create(self, caller: str, code: bytes) -> str:
        """Deploy a contract; its address. Raises Reverted."""
        with self._transaction():
            return Web3.to_checksum_address(self.evm.deploy(caller, code, gas=GAS))

    @property
    def last(self) -> pyrevm.ExecutionResult:
        """What the last transaction used and told."""
        result = self.evm.result
        assert result is not None
        return result

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.evm.set_block_env(pyrevm.BlockEnv(number=self.block, timestamp=self.time))
        self.evm.reset_transient_storage()
        try:
            yield
        except RuntimeError as error:
            output = bytes.fromhex(str(error).partition("output: 0x")[2].partition(" ")[0])
            raise Reverted(decode(["string"], output[4:])[0] if output[:4] == ERROR_STRING else "no reason") from None


@dataclass
class RevmSender:
    """Acts as one account; in the place of a TransactionSender."""

    chain: RevmChain
    address: str
    sent: list[str] = field(default_factory=list)

    @property
    def web3(self) -> Web3:
        """What looks at the chain."""
        return self.chain.web3

    def balance(self) -> int:
        """What the account holds, in wei."""
        return int(self.web3.eth.get_balance(Web3.to_checksum_address(self.address)))

    def send(self, call: Call) -> TxReceipt:
        """Run a call in a block of its own."""
        provider = self.chain.provider
        provider.block, provider.time = provider.block + 1, self.chain.next_time()
        created = None
        try:
            if call.to is None:
                created = provider.create(self.address, call.data)
            else:
                provider.run(self.address, call.to, call.data, call.value)
        except Reverted as error:
            raise TransactionFailed(f"{call.name}: {error}") from None
        self.sent.append(call.name)
        place = {
            "blockNumber": provider.block,
            "blockHash": HexBytes(bytes(32)),
            "transactionHash": HexBytes(bytes(32)),
            "transactionIndex": 0,
        }
        logs = [
            {
                **place,
                "address": log.address,
                "topics": [HexBytes(topic) for topic in log.topics],
                "data": HexBytes(log.data[1]),
                "logIndex": i,
            }
            for i, log in enumerate(provider.last.logs)
        ]
        receipt = {**place, "contractAddress": created, "logs": logs, "status": 1, "gasUsed": provider.last.gas_used}
        return cast(TxReceipt, receipt)


class RevmChain:
    """An EVM with funded accounts, whose time goes on by a second with every transaction."""

    def __init__(self, accounts: int = 10) -> None:
        self.provider = RevmProvider()
        self.web3 = Web3(self.provider)
        for layer in ("validation", "gas_price_strategy"):
            self.web3.middleware_onion.remove(layer)
        self.senders = [RevmSender(self, account.address) for account in development_accounts(accounts)]
        for sender in self.senders:
            self.provider.evm.set_balance(sender.address, 10**24)
        self._next: int | None = None

    def next_time(self) -> int:
        """When the next transaction happens."""
        time, self._next = self._next or self.now() + 1, None
        return time

    def now(self) -> int:
        """The timestamp of the latest block."""
        return self.provider.time

    def advance(self, seconds: int) -> None:
        """Let ``seconds`` pass, and mine a block."""
        self.provider.block, self.provider.time = self.provider.block + 1, self.provider.time + seconds

    def next_block_at(self, timestamp: int) -> None:
        """Have the next transaction run in exactly this second."""
        self._next = timestamp

    def snapshot(self) -> Any:
        """A mark that ``restore`` can go back to."""
        return self.provider.evm.snapshot(), self.provider.block, self.provider.time

    def restore(self, mark: Any) -> None:
        """Forget all that happened after ``mark``."""
        checkpoint, self.provider.block, self.provider.time = mark
        self.provider.evm.revert(checkpoint)
