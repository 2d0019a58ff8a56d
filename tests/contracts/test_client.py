"""A node over HTTP and a chain in this process answer alike."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError

from bisection.errors import ChainMismatch, TransactionFailed, UnavailableError
from contracts import client
from contracts.build import artifact
from contracts.client import (
    Fault,
    Patience,
    connect,
    development_accounts,
    is_local,
    is_remote,
    local_chain,
    now,
    pass_time,
    persist,
)
from contracts.sender import Call, TransactionSender, simulate
from tests.support.rpc import FAULTS, Response, error_answer, http_server


class Handler(BaseHTTPRequestHandler):
    """A node that knows its chain id and nothing else."""

    body: bytes | None = None
    requests = 0

    def do_POST(self) -> None:
        type(self).requests += 1
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = (
            {"result": "0x7"} if request["method"] == "eth_chainId" else {"error": {"code": -32601, "message": "unknown method"}}
        )
        body = self.body if self.body is not None else json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def handler() -> type[Handler]:
    return type("OneHandler", (Handler,), {})


@pytest.fixture
def url(handler: type[Handler]) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/secret-token"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_node_is_not_asked_for_its_chain_again_and_again(url: str, handler: type[Handler]) -> None:
    web3 = connect(url, expected_chain_id=7)
    asked = handler.requests
    assert [web3.eth.chain_id for _ in range(5)] == [7] * 5
    assert handler.requests <= asked + 1
    assert not is_local(web3)


def test_blocks_are_asked_for_anew(url: str, handler: type[Handler]) -> None:
    """Kept blocks would hide a reorganisation."""
    web3 = connect(url)
    before = handler.requests
    for _ in range(3):
        with pytest.raises(Web3RPCError):
            web3.eth.get_block(5)
    assert handler.requests == before + 3


def test_a_node_of_another_chain_is_refused(url: str) -> None:
    with pytest.raises(ChainMismatch, match="on chain 7, not on chain 1") as caught:
        connect(url, expected_chain_id=1)
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"jsonrpc": "2.0", "id": 0, "error": {"code": -1, "message": "no"}}'])
def test_a_server_that_is_no_node_is_unavailable(url: str, handler: type[Handler], body: bytes) -> None:
    handler.body = body
    with pytest.raises(UnavailableError) as caught:
        connect(url)
    assert "127.0.0.1" in str(caught.value) and "secret-token" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret-token", "nonsense", "ftp://127.0.0.1", "", "http://"])
def test_a_node_that_cannot_be_reached_is_unavailable_in_one_line(url: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        connect(url, timeout=0.5)
    assert "\n" not in str(caught.value) and "secret-token" not in str(caught.value)


def test_the_local_chain_has_funded_accounts_with_keys() -> None:
    chain = local_chain(3)
    assert is_local(chain.web3)
    assert chain.accounts == development_accounts(3)
    for account in chain.accounts:
        assert chain.web3.eth.get_balance(account.address) == 10**24


def test_the_local_chain_answers_errors_as_a_node_does() -> None:
    chain = local_chain(1)
    code = artifact("TaskRegistry").bytecode
    receipt = TransactionSender(chain.web3, chain.accounts[0]).send(Call("deploy", None, code + bytes(32)))
    withdraw = {"to": receipt["contractAddress"], "data": "0x51cff8d9" + 64 * "0", "from": chain.accounts[0].address}
    for ask in (chain.web3.eth.call, chain.web3.eth.estimate_gas):
        with pytest.raises(ContractLogicError, match="execution reverted: ledger: nothing to withdraw"):
            ask(withdraw)  # type: ignore[operator]
    stale = chain.accounts[0].sign_transaction(
        {
            "to": chain.accounts[0].address,
            "nonce": 0,
            "gas": 21_000,
            "gasPrice": 10**10,
            "value": 0,
            "chainId": chain.web3.eth.chain_id,
        }
    )
    with pytest.raises(Web3RPCError, match="nonce"):
        chain.web3.eth.send_raw_transaction(stale.raw_transaction)


def test_time_passes_to_the_second() -> None:
    chain = local_chain(1)
    start = chain.now()
    chain.advance(1_000)
    assert chain.now() == now(chain.web3) == start + 1_000
    pass_time(chain.web3, 1)
    assert chain.now() == start + 1_001
    chain.next_block_at(start + 5_000)
    TransactionSender(chain.web3, chain.accounts[0]).send(Call("gift", chain.accounts[0].address, b""))
    assert chain.now() == start + 5_000


def test_the_time_of_other_chains_cannot_be_moved(url: str) -> None:
    with pytest.raises(UnavailableError, match="cannot be moved"):
        pass_time(connect(url), 1)


def test_what_happened_after_a_mark_can_be_forgotten() -> None:
    chain = local_chain(1)
    mark, block = chain.snapshot(), chain.web3.eth.block_number
    chain.advance(10)
    chain.restore(mark)
    assert chain.web3.eth.block_number == block


# Faults that pass, and refusals that do not

QUICK = Patience(retries=3, first=0.001)


class Failing:
    """A node that knows its chain id; other requests meet with ``response``, the first ``times`` times."""

    def __init__(self, response: Callable[[dict[str, Any]], Response], times: int) -> None:
        self.response, self.left, self.heard = response, times, 0

    def __call__(self, request: dict[str, Any]) -> Response:
        if request["method"] == "eth_chainId":
            return answer("0x7")(request)
        self.heard += 1
        self.left -= 1
        return (self.response if self.left >= 0 else answer("0x10"))(request)


def answer(result: Any) -> Callable[[dict[str, Any]], Response]:
    return lambda request: Response(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode())


@contextmanager
def failing(
    response: Callable[[dict[str, Any]], Response], times: int, patience: Patience = QUICK
) -> Iterator[tuple[Web3, Failing]]:
    node = Failing(response, times)
    with http_server(node) as url:
        yield connect(url, patience=patience), node


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_pass_is_waited_for(fault: Callable[[dict[str, Any]], Response]) -> None:
    with failing(fault, 3) as (web3, node):
        assert web3.eth.block_number == 16
        assert node.heard == 4


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_pass_is_unavailable_and_no_answer(fault: Callable[[dict[str, Any]], Response]) -> None:
    """Were it an answer, a call that nobody could try would be one that the contract refuses."""
    with failing(fault, 1_000) as (web3, node):
        with pytest.raises(UnavailableError, match=r"the node at http://127\.0\.0\.1"):
            simulate(web3, Call("gift", development_accounts(1)[0].address, b""))
        assert node.heard == 4


REFUSALS = {
    "a revert": error_answer(3, "execution reverted: game: wrong bond", data="0x"),
    "a revert with a general code": error_answer(-32603, "VM Exception while processing transaction: reverted with reason string"),
    "a revert that speaks of time": error_answer(3, "execution reverted: game: commitment unavailable, request timed out"),
    "a pool": error_answer(-32603, "nonce too low"),
    "a method that is not there": error_answer(-32601, "the method does not exist"),
    "a history that is too long": error_answer(-32005, "query returned more than 10000 results"),
    "a wrong key": lambda request: Response(b"", 401),
    "a wrong path": lambda request: Response(b"", 404),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_not_asked_for_twice(refusal: Callable[[dict[str, Any]], Response]) -> None:
    with failing(refusal, 1_000) as (web3, node):
        with pytest.raises((TransactionFailed, UnavailableError)):
            simulate(web3, Call("gift", development_accounts(1)[0].address, b""))
        assert node.heard == 1


def test_a_server_that_asks_to_be_left_alone_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(client.time, "sleep", pauses.append)
    busy = lambda request: Response(b"", 429, {"Retry-After": "3"})  # noqa: E731
    with failing(busy, 2, Patience(retries=3, first=0.001)) as (web3, _):
        assert web3.eth.block_number == 16
    assert pauses == [3.0, 3.0]


def test_what_moves_a_development_chain_is_not_done_twice() -> None:
    with failing(lambda request: Response(b"", 503), 1_000) as (web3, node):
        with pytest.raises(UnavailableError):
            pass_time(web3, 1)
        assert node.heard == 1
        assert is_remote(web3) and not is_remote(local_chain(1).web3)


@given(st.builds(Patience, st.integers(0, 12), st.floats(0.01, 1.0), st.floats(0.01, 5.0), st.floats(0.0, 20.0)))
def test_patience_is_bounded(patience: Patience) -> None:
    clock, attempts = [0.0], 0

    def fails() -> Any:
        nonlocal attempts
        attempts += 1
        raise Fault("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.time, "monotonic", lambda: clock[0])
        patch.setattr(client.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
        with pytest.raises(Fault):
            persist(fails, patience)
    assert clock[0] <= patience.seconds and attempts <= patience.retries + 1


def test_pauses_double_up_to_the_longest_and_are_shortened_by_chance() -> None:
    patience = Patience(first=0.1, longest=5.0)
    for attempt in range(20):
        whole = min(0.1 * 2**attempt, 5.0)
        pauses = {patience.pause(attempt) for _ in range(20)}
        assert len(pauses) > 1 and all(whole / 2 <= pause <= whole for pause in pauses)
