"""Connections to a chain: a node over HTTP, or a whole chain in this process.

Both speak alike. What eth-tester raises is turned into the JSON-RPC errors that a node would answer, and a node that cannot be
reached raises UnavailableError, so that no other module needs to know which of the two it talks to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed as TesterFailure
from eth_tester.exceptions import ValidationError as TesterValidationError
from eth_utils.exceptions import ValidationError as VMValidationError
from web3 import EthereumTesterProvider, HTTPProvider, Web3
from web3.exceptions import BadResponseFormat, Web3RPCError
from web3.types import RPCEndpoint, RPCResponse

from bisection.errors import ChainMismatch, UnavailableError

__all__ = ["TEST_MNEMONIC", "LocalChain", "connect", "development_accounts", "is_local", "local_chain", "now", "pass_time"]

TIMEOUT_SECONDS = 30.0
TEST_MNEMONIC = "test test test test test test test test test test test junk"  # the one that every development chain funds
TEST_PATH = "m/44'/60'/0'/0"


class NodeProvider(HTTPProvider):
    """A node over HTTP. Its URL can hold an access token, so that messages name the host alone."""

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The node's answer. Raises UnavailableError when there is none that can be read."""
        try:
            return super().make_request(method, params)
        except (requests.RequestException, BadResponseFormat, ValueError) as error:
            raise UnavailableError(
                f"the node at {_host(str(self.endpoint_uri))} gives no answer ({type(error).__name__}); check the URL"
            ) from None


class LocalProvider(EthereumTesterProvider):
    """A chain in this process that answers errors as a node does.

    Its estimate of gas is most of a block: eth-tester would search for the exact amount with a dozen runs, and gas is free here.
    """

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The chain's answer; a refused transaction is an RPC error."""
        if method == "eth_estimateGas":
            gas = cast(EthereumTester, self.ethereum_tester).get_block_by_number("latest")["gas_limit"] * 3 // 4
            outcome = self.make_request(RPCEndpoint("eth_call"), [{**params[0], "gas": gas}, "pending"])
            return outcome if "error" in outcome else {**outcome, "result": gas}
        try:
            return super().make_request(method, params)
        except (TesterFailure, TesterValidationError, VMValidationError) as error:
            code = 3 if isinstance(error, TesterFailure) else -32000
            return cast(RPCResponse, {"jsonrpc": "2.0", "id": 0, "error": {"code": code, "message": str(error)}})


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")


def connect(rpc_url: str, expected_chain_id: int | None = None, timeout: float = TIMEOUT_SECONDS) -> Web3:
    """The node at ``rpc_url``, of which an answer has been seen.

    Raises UnavailableError when it does not answer within ``timeout`` seconds, ChainMismatch when it is another chain.
    """
    web3 = Web3(
        NodeProvider(
            rpc_url,
            request_kwargs={"timeout": timeout},
            exception_retry_configuration=None,
            cache_allowed_requests=True,
            cacheable_requests={RPCEndpoint("eth_chainId")},  # the default also keeps blocks, which a reorganisation replaces
        )
    )
    try:
        found = web3.eth.chain_id
    except Web3RPCError as error:
        raise UnavailableError(f"the server at {_host(rpc_url)} is no Ethereum node: {error}") from None
    if expected_chain_id is not None and found != expected_chain_id:
        raise ChainMismatch(
            f"the node at {_host(rpc_url)} is on chain {found}, not on chain {expected_chain_id}; check the RPC URL"
        )
    return web3


@dataclass(frozen=True)
class LocalChain:
    """A chain in this process that mines every transaction at once, one second after the last.

    ``accounts`` own a million ether each; their keys are public knowledge.
    """

    web3: Web3
    accounts: tuple[LocalAccount, ...]
    tester: EthereumTester

    def now(self) -> int:
        """The timestamp of the latest block."""
        return now(self.web3)

    def advance(self, seconds: int) -> None:
        """Let ``seconds`` pass."""
        pass_time(self.web3, seconds)

    def next_block_at(self, timestamp: int) -> None:
        """Have the next transaction mined in exactly this second, which lies after the latest block."""
        self.tester.time_travel(timestamp)

    def snapshot(self) -> Any:
        """A mark that ``restore`` can go back to."""
        return self.tester.take_snapshot()

    def restore(self, mark: Any) -> None:
        """Forget all that happened after ``mark``."""
        self.tester.revert_to_snapshot(mark)


def local_chain(accounts: int = 10) -> LocalChain:
    """A fresh chain in this process."""
    tester = EthereumTester(PyEVMBackend.from_mnemonic(TEST_MNEMONIC, num_accounts=accounts, hd_path=TEST_PATH))
    return LocalChain(Web3(LocalProvider(tester)), development_accounts(accounts), tester)


def development_accounts(count: int) -> tuple[LocalAccount, ...]:
    """The accounts that every development chain funds."""
    Account.enable_unaudited_hdwallet_features()
    return tuple(Account.from_mnemonic(TEST_MNEMONIC, account_path=f"{TEST_PATH}/{i}") for i in range(count))


def is_local(web3: Web3) -> bool:
    """Whether the chain lives in this process."""
    return isinstance(web3.provider, LocalProvider)


def now(web3: Web3) -> int:
    """The chain's time: the timestamp of the latest block."""
    return web3.eth.get_block("latest")["timestamp"]


def pass_time(web3: Web3, seconds: int) -> None:
    """Let ``seconds`` pass on a development chain, in this process or anvil's, and mine a block.

    Raises UnavailableError on a chain whose time is nobody's to move.
    """
    if isinstance(web3.provider, LocalProvider):
        # eth-tester is told the time of the block after the one that it mines.
        cast(EthereumTester, web3.provider.ethereum_tester).time_travel(now(web3) + seconds + 1)
        return
    for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
        answer = web3.provider.make_request(RPCEndpoint(method), params)
        if "error" in answer:
            raise UnavailableError("this chain's time cannot be moved; only development chains like anvil can")
