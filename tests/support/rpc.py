"""HTTP servers on a thread that answer JSON-RPC: for a chain in this process, for a node, or as a test wants it.

``Proxy`` stands before a node and has the faults of those that are rented out: it fails at random, limits the rate, loses answers
after the node has acted on them, and is several nodes that are not equally far.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import requests
from web3 import Web3
from web3.types import RPCEndpoint

from sims.chain.evm import RevmProvider

Answer = Callable[[dict[str, Any]], "bytes | Response"]
METHOD_NOT_FOUND = {"code": -32601, "message": "the method does not exist"}


@dataclass(frozen=True)
class Response:
    """What a server says. Without a status it hangs up."""

    body: bytes = b""
    status: int | None = 200
    headers: dict[str, str] = field(default_factory=dict)


def error_answer(code: int, message: str, **more: Any) -> Callable[[dict[str, Any]], Response]:
    """A JSON-RPC error."""

    def answer(request: dict[str, Any]) -> Response:
        error = {"code": code, "message": message, **more}
        return Response(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode())

    return answer


FAULTS: tuple[Callable[[dict[str, Any]], Response], ...] = (
    lambda request: Response(status=None),
    lambda request: Response(b"<html>Bad Gateway</html>", 502),
    lambda request: Response(b"", 503),
    lambda request: Response(b"slow down", 429, {"Retry-After": "0"}),
    lambda request: Response(b"<html>"),
    error_answer(-32005, "daily request count exceeded, request rate limited"),
    error_answer(-32603, "backend unavailable"),
    error_answer(-32000, "header not found"),
)


class Proxy:
    """A node's answers, of which the share ``rate`` is lost: one half before the node hears the request, the other half after.

    failed   how many were, by method
    asked    how many came, by method
    instead  what happens to a request before the node hears it; None lets it pass
    """

    def __init__(self, url: str, rate: float = 0.0, seed: int = 0) -> None:
        self.failed: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.instead: Callable[[dict[str, Any]], Response | None] = lambda request: None
        self._url, self._rate, self._rng = url, rate, random.Random(seed)
        self._lock = Lock()

    def __call__(self, request: dict[str, Any]) -> Response:
        method = request["method"]
        with self._lock:
            self.asked[method] += 1
            fault = self._rng.choice(FAULTS) if self._rng.random() < self._rate else None
            before = self._rng.random() < 0.5
            self.failed[method] += fault is not None
        if fault is not None and before:
            return fault(request)
        if (instead := self.instead(request)) is not None:
            return instead
        body = requests.post(self._url, json=request, timeout=30).content
        return Response(body) if fault is None else fault(request)


def chain_answers(provider: RevmProvider, asked: list[str]) -> Answer:
    """What a node of this chain says to those who only look. ``asked`` hears the methods."""
    lock = Lock()

    def answer(request: dict[str, Any]) -> bytes:
        method = request["method"]
        with lock:
            asked.append(method)
            if hasattr(provider, method):
                outcome: Any = provider.make_request(RPCEndpoint(method), request["params"])
            elif method == "eth_getTransactionCount":
                outcome = {"result": "0x0"}
            else:
                outcome = {"error": METHOD_NOT_FOUND}
        return Web3.to_json({"jsonrpc": "2.0", **outcome, "id": request["id"]}).encode()

    return answer


@contextmanager
def http_server(answer: Answer) -> Iterator[str]:
    """The URL of a server that gives these answers to POST requests, each with a JSON document; it runs until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answered = answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            response = Response(answered) if isinstance(answered, bytes) else answered
            if response.status is None:
                return
            self.send_response(response.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(response.body)))
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *arguments: object) -> None:
            """Nobody listens."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
