"""A stage on a chain that keeps its blocks' times and logs, takes signed transactions, and answers for them as a node does."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from web3 import Web3

from contracts.build import artifact
from contracts.deploy import deploy
from contracts.sender import Call
from tests.contracts.stage import PARAMETERS, Stage
from tests.support.market import LoggedChain, LoggedProvider, LoggedSender

FEES = {"gasLimit": hex(30_000_000), "baseFeePerGas": hex(7)}


class WatchedProvider(LoggedProvider):
    """Blocks have the times at which they were made, and logs are found by address, first topic and block."""

    def __init__(self) -> None:
        super().__init__()
        self.chain: WatchedChain | None = None
        self.receipts: dict[str, dict[str, Any]] = {}
        self.nonces: Counter[str] = Counter()
        self.branch = 0  # counts reorganisations: blocks made after one have other hashes
        self.blocks: dict[int, tuple[int, int]] = {}  # by number, when and on which branch it was made

    def eth_getBlockByNumber(self, number: str, _full: bool) -> dict[str, Any] | None:  # noqa: N802
        block = self.block if number == "latest" else int(number, 16)
        if block > self.block:
            return None
        self._note()
        time, branch = self.blocks.get(block, (0, 0))
        return {"number": hex(block), "hash": f"0x{branch:02x}{block:062x}", "timestamp": hex(time), **FEES}

    def run(self, caller: str, to: str, data: bytes, value: int) -> bytes:
        self._note()
        return super().run(caller, to, data, value)

    def create(self, caller: str, code: bytes) -> str:
        self._note()
        return super().create(caller, code)

    def _note(self) -> None:
        """Time can pass, and a block be made, without a transaction."""
        self.blocks[self.block] = (self.time, self.blocks.get(self.block, (0, self.branch))[1])

    def eth_getLogs(self, request: dict[str, Any]) -> list[dict[str, Any]]:  # noqa: N802
        addresses = {address.lower() for address in request["address"]}
        topics = {bytes(HexBytes(topic)) for topic in request.get("topics", [[]])[0]}
        if "blockHash" in request:
            low = high = int(bytes(HexBytes(request["blockHash"]))[1:].hex(), 16)
        else:
            low, high = int(request["fromBlock"], 16), int(request["toBlock"], 16)
        return [
            log
            for log in self.logs
            if low <= log["blockNumber"] <= high
            and log["address"].lower() in addresses
            and (not topics or bytes(log["topics"][0]) in topics)
        ]

    def eth_maxPriorityFeePerGas(self) -> str:  # noqa: N802
        return hex(1)

    def eth_estimateGas(self, call: dict[str, str], _block: str = "latest") -> str:  # noqa: N802
        if "to" in call:
            self.eth_call(call, "latest")
        return hex(1_000_000)

    def eth_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        """Mine a signed transaction at once; one that reverts is refused, since nobody here sends any without an estimate."""
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        to, name = bytes(fields["to"] or b""), Web3.to_hex(Web3.keccak(HexBytes(raw)))
        call = Call("signed", Web3.to_checksum_address(to) if to else None, bytes(HexBytes(fields["data"])), int(fields["value"]))
        sender = Account.recover_transaction(raw)
        receipt = LoggedSender(cast(Any, self.chain), sender).send(call)
        self.nonces[sender.lower()] += 1
        self.receipts[name] = cast(dict[str, Any], receipt) | {"transactionHash": name, "effectiveGasPrice": hex(8)}
        return name

    def eth_getTransactionCount(self, account: str, _block: str) -> str:  # noqa: N802
        return hex(self.nonces[account.lower()])

    def eth_getTransactionReceipt(self, transaction: str) -> dict[str, Any] | None:  # noqa: N802
        return self.receipts.get(transaction)

    def reorganise(self, block: int) -> None:
        """Say that the blocks after ``block`` were never made; what is sent from now on takes their places."""
        self.branch += 1
        self.block = block
        self.blocks = {number: made for number, made in self.blocks.items() if number <= block}
        self.logs = [log for log in self.logs if log["blockNumber"] <= block]


class WatchedChain(LoggedChain):
    """A chain whose provider is watched."""

    def __init__(self, accounts: int) -> None:
        super().__init__(accounts)
        self.provider: WatchedProvider = WatchedProvider()
        self.provider.chain = self
        self.web3.provider = self.provider
        for sender in self.senders:
            self.provider.evm.set_balance(sender.address, 10**24)


def watched_stage() -> Stage:
    """A deployment with a referee that says what it is told, on a watched chain."""
    chain = WatchedChain(8)
    return Stage(chain, deploy(chain.senders[0], PARAMETERS, artifact("referee_mock")))  # type: ignore[arg-type]
