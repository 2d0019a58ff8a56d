"""A node over HTTP and a chain in this process answer alike."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from web3.exceptions import ContractLogicError, Web3RPCError

from bisection.errors import ChainMismatch, UnavailableError
from contracts.build import artifact
from contracts.client import connect, development_accounts, is_local, local_chain, now, pass_time
from contracts.sender import Call, TransactionSender


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
    withdraw = {"to": receipt["contractAddress"], "data": "0x3ccfd60b", "from": chain.accounts[0].address}
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
