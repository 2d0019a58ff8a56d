"""An HTTP server on a thread that answers JSON-RPC for a chain in this process, or says what a test wants it to say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from web3 import Web3
from web3.types import RPCEndpoint

from tests.contracts.revm import RevmProvider

Answer = Callable[[dict[str, Any]], bytes]
METHOD_NOT_FOUND = {"code": -32601, "message": "the method does not exist"}


def chain_answers(provider: RevmProvider, asked: list[str]) -> Answer:
    """What a node of this chain says to those who only look. ``asked`` hears the methods."""
    lock = Lock()

    def answer(request: dict[str, Any]) -> bytes:
        method = request["method"]
        with lock:
            asked.append(method)
            if method == "eth_getTransactionCount":
                outcome: Any = {"result": "0x0"}
            elif hasattr(provider, method):
                outcome = provider.make_request(RPCEndpoint(method), request["params"])
            else:
                outcome = {"error": METHOD_NOT_FOUND}
        return Web3.to_json({"jsonrpc": "2.0", **outcome, "id": request["id"]}).encode()

    return answer


@contextmanager
def http_server(answer: Answer) -> Iterator[str]:
    """The URL of a server that answers every POST, each with a JSON document, so; it runs until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

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
