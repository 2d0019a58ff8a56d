"""Connections to a chain: a node over HTTP, or a whole chain in this process.

Both speak alike. What eth-tester raises is turned into the JSON-RPC errors that a node would answer, and a node that cannot be
reached raises UnavailableError, so that no other module needs to know which of the two it talks to.

This is the one place where requests are repeated. A node that fails for the moment is asked again, and what it then says is all
that the caller sees; when it goes on failing, that is UnavailableError and never an answer. What a contract says is an answer,
a refusal included, and is not asked for twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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

__all__ = [
    "TEST_MNEMONIC",
    "Fault",
    "LocalChain",
    "Patience",
    "connect",
    "development_accounts",
    "is_local",
    "is_remote",
    "local_chain",
    "now",
    "pass_time",
    "persist",
]

TIMEOUT_SECONDS = 30.0
TEST_MNEMONIC = "test test test test test test test test test test test junk"  # the one that every development chain funds
TEST_PATH = "m/44'/60'/0'/0"


# What nodes say, in lower case, when it is they who fail. Geth gives most of these the code -32000, which it also gives refusals.
FAULTY = ("header not found", "unknown block", "rate limit", "too many requests", "timed out", "timeout exceeded", "unavailable")
LIMIT_EXCEEDED, INTERNAL_ERROR, TOO_MANY_REQUESTS = -32005, -32603, 429
REFUSAL = ("nonce", "already", "underpriced", "funds", "gas")  # words of a pool; some call its refusals internal errors
TOO_LONG_AN_ANSWER = "query returned more"  # some give this the code of a rate limit, but it never passes


class Fault(UnavailableError):
    """A request met with a fault that may pass. ``pause`` is how many seconds the node wants to be left alone."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


@dataclass(frozen=True)
class Patience:
    """How often a request is repeated: up to ``retries`` times, and not after ``seconds``.

    The first pause is ``first`` seconds and every other one twice as long, but at most ``longest``; each is shortened by chance, by
    up to half, so that many that failed together do not come back together.
    """

    retries: int = 10
    first: float = 0.1
    longest: float = 5.0
    seconds: float = 60.0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number ``attempt``, counted from 0."""
        return random.uniform(0.5, 1.0) * min(self.first * float(2**attempt), self.longest)


NO_PATIENCE = Patience(retries=0)
PROBE_SECONDS = 2.0  # a URL that is wrong should be told soon


def persist(request: Callable[[], RPCResponse], patience: Patience) -> RPCResponse:
    """What ``request`` returns, made again where it meets with a Fault. Raises the last one when patience is at its end."""
    deadline = time.monotonic() + patience.seconds
    for attempt in range(patience.retries):
        try:
            return request()
        except Fault as fault:
            pause = max(patience.pause(attempt), min(fault.pause, patience.longest))
            if time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
    return request()


def _repeatable(method: str) -> bool:
    """Whether a request does the same when it is made twice: raw transactions do, what moves a development chain does not."""
    return method.startswith(("eth_", "net_", "web3_")) and method != "eth_sendTransaction"


def _is_fault(error: Any) -> bool:
    """Whether a JSON-RPC error tells of the node's own trouble, and not what it thinks of the request."""
    if not isinstance(error, dict):
        return False
    code, message = error.get("code"), str(error.get("message")).lower()
    if "revert" in message or "data" in error or TOO_LONG_AN_ANSWER in message:
        return False
    if code == INTERNAL_ERROR:
        return not any(word in message for word in REFUSAL)
    return code in (LIMIT_EXCEEDED, TOO_MANY_REQUESTS) or any(phrase in message for phrase in FAULTY)


def _may_pass(error: Exception) -> bool:
    """Whether what kept an answer from coming may be over at the next request."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return status in (requests.codes.too_many_requests, requests.codes.request_timeout) or status >= 500
    return not isinstance(
        error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema | requests.exceptions.InvalidSchema
    )


def _retry_after(error: Exception) -> float:
    """The seconds for which a server asks to be left alone, or 0."""
    response = getattr(error, "response", None)
    wanted = "" if response is None else response.headers.get("Retry-After", "")
    return float(wanted) if wanted.isdecimal() else 0.0


class NodeProvider(HTTPProvider):
    """A node over HTTP, asked with ``patience``. Its URL can hold an access token, so that messages name the host alone."""

    patience = Patience()

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The node's answer. Raises UnavailableError when there is none that can be read."""
        return persist(lambda: self._ask(method, params), self.patience if _repeatable(method) else NO_PATIENCE)

    def _ask(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        host = _host(str(self.endpoint_uri))
        try:
            answer = super().make_request(method, params)
        except (requests.RequestException, BadResponseFormat, ValueError) as error:
            message = f"the node at {host} gives no answer ({type(error).__name__}); check the URL"
            raise (Fault(message, _retry_after(error)) if _may_pass(error) else UnavailableError(message)) from None
        if isinstance(answer, dict) and _is_fault(answer.get("error")):
            raise Fault(f"the node at {host} cannot answer: {answer['error']['message']}")
        return answer


class LocalProvider(EthereumTesterProvider):
    """A chain in this process that answers errors as a node does.

    Its estimate of gas is most of a block: eth-tester would search for the exact amount with a dozen runs, and gas is free here.
    One request at a time is let through, since eth-tester knows no threads.
    """

    def __init__(self, tester: EthereumTester) -> None:
        super().__init__(tester)
        self._lock = threading.RLock()

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The chain's answer; a refused transaction is an RPC error."""
        with self._lock:
            return self._answer(method, params)

    def _answer(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if method == "eth_estimateGas":
            gas = cast(EthereumTester, self.ethereum_tester).get_block_by_number("latest")["gas_limit"] * 3 // 4
            outcome = self._answer(RPCEndpoint("eth_call"), [{**params[0], "gas": gas}, *params[1:]])
            return outcome if "error" in outcome else {**outcome, "result": gas}
        try:
            return super().make_request(method, params)
        except (TesterFailure, TesterValidationError, VMValidationError) as error:
            code = 3 if isinstance(error, TesterFailure) else -32000
            return cast(RPCResponse, {"jsonrpc": "2.0", "id": 0, "error": {"code": code, "message": str(error)}})


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")


def connect(
    rpc_url: str, expected_chain_id: int | None = None, timeout: float = TIMEOUT_SECONDS, patience: Patience = Patience()
) -> Web3:
    """The node at ``rpc_url``, of which an answer has been seen. From then on faults are met with ``patience``.

    Raises UnavailableError when it does not answer within ``timeout`` seconds, ChainMismatch when it is another chain.
    """
    provider = NodeProvider(
        rpc_url,
        request_kwargs={"timeout": timeout},
        exception_retry_configuration=None,
        cache_allowed_requests=True,
        cacheable_requests={RPCEndpoint("eth_chainId")},  # the default also keeps blocks, which a reorganisation replaces
    )
    provider.patience = replace(patience, seconds=min(patience.seconds, PROBE_SECONDS))
    web3 = Web3(provider)
    try:
        found = web3.eth.chain_id
    except Web3RPCError as error:
        raise UnavailableError(f"the server at {_host(rpc_url)} is no Ethereum node: {error}") from None
    if expected_chain_id is not None and found != expected_chain_id:
        raise ChainMismatch(
            f"the node at {_host(rpc_url)} is on chain {found}, not on chain {expected_chain_id}; check the RPC URL"
        )
    provider.patience = patience
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


def is_remote(web3: Web3) -> bool:
    """Whether the chain is reached over HTTP: then several nodes can be behind the one address, not all of them equally far."""
    return isinstance(web3.provider, HTTPProvider)


def now(web3: Web3) -> int:
    """The chain's time: the timestamp of the latest block."""
    return web3.eth.get_block("latest")["timestamp"]


def pass_time(web3: Web3, seconds: int) -> None:
    """Let ``seconds``, or what has passed by itself, pass on a development chain, in this process or anvil's, and mine a block.

    Raises UnavailableError on a chain whose time is nobody's to move.
    """
    if isinstance(web3.provider, LocalProvider):
        tester = cast(EthereumTester, web3.provider.ethereum_tester)
        # eth-tester is told the time of the block after the one that it mines. Where the machine's clock has overtaken the chain's,
        # the next block cannot be earlier.
        tester.time_travel(max(now(web3) + seconds, tester.get_block_by_number("pending")["timestamp"]) + 1)
        return
    for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
        answer = web3.provider.make_request(RPCEndpoint(method), params)
        if "error" in answer:
            raise UnavailableError("this chain's time cannot be moved; only development chains like anvil can")
