"""Whatever a data service does, a client ends in bounded time with the right bytes or with one clear error."""

from __future__ import annotations

import itertools
import logging
import random
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bisection.agent import Challenger, Defender
from bisection.errors import NumericsMismatch, UnavailableError, UsageError, VerificationError
from bisection.game import Outcome
from bisection.merkle import Tree
from bisection.trace import MemoryTrace
from tests.support.model_chain import ModelChain, claim_of
from tests.support.programs import counting_program
from tests.support.recording import ReferenceExecutor
from trainer.fetch import HttpServed, HttpSource, Limits, open_source
from trainer.package import load, publish
from trainer.recorder import Recorder, Tampered
from trainer.service import Catalogue, ServedTrace, ServiceThread, application
from trainer.store import Store

STEPS = 12
PROGRAM, STATE, DATA = counting_program()
TRACE = MemoryTrace(PROGRAM, STATE, DATA, STEPS)
IMPATIENT = Limits(attempts=3, backoff=0.01, connect=0.3, stall=0.3, patience=0.6, slowest_rate=1 << 20)
DIGESTS = [bytes([i]) * 32 for i in range(5)]

Answer = Callable[[socket.socket], None]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A server that answers every request with ``answer``, bytes as they are."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            with suppress(OSError):  # the client has hung up, as it should
                answer(self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def whole(body: bytes, status: str = "200 OK", headers: str = "", length: int | None = None) -> Answer:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n{headers}Connection: close\r\n\r\n"
    return lambda connection: connection.sendall(head.encode() + body)


def drip(data: bytes, pause: float = 0.05) -> Answer:
    def answer(connection: socket.socket) -> None:
        for byte in itertools.cycle(data):
            connection.sendall(bytes([byte]))
            time.sleep(pause)

    return answer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with ServiceThread(application(Catalogue(store, {(3, 1): ServedTrace(TRACE)}))) as base:
        yield base


# Honest services


def test_material_is_loaded_over_http(store: Store, url: str) -> None:
    material = load(open_source(url), publish(store, PROGRAM, STATE, DATA))
    assert material.program == PROGRAM
    for found, expected in ((material.state, STATE), (material.data, DATA)):
        assert all(np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in expected.items())


def test_a_blob_of_unknown_size_is_fetched_up_to_the_limit(store: Store, url: str) -> None:
    root = store.put_blob(bytes(2000))
    assert HttpSource(url).get_blob(root) == bytes(2000)
    with pytest.raises(VerificationError, match="at most 1999"):
        HttpSource(url, Limits(blob_bytes=1999)).get_blob(root)
    with pytest.raises(UnavailableError, match="fetches at most 1999"):
        HttpSource(url, Limits(blob_bytes=1999)).get_blob(root, 2000)


def test_what_a_service_does_not_hold_is_unavailable(url: str) -> None:
    source = HttpSource(url)
    for get in (source.get_program, source.get_blob, lambda root: source.get_digests(root, 2)):
        with pytest.raises(UnavailableError, match="status 404"):
            get(bytes(32))


def test_everything_said_about_a_segment_arrives(url: str) -> None:
    served = HttpServed(url + "/", 3, 1, PROGRAM, STEPS)
    assert served.history() == TRACE.history().levels[0]
    assert served.trace(4) == TRACE.tensors(4).levels[0]
    assert served.state(STEPS) == TRACE.state(STEPS).levels[0]
    for number, ref in enumerate(PROGRAM.tensors):
        data, root = TRACE.tensor(4, number), TRACE.tensors(4).levels[0][number]
        assert served.tensor(4, number) == data
        assert b"".join(served.leaf(4, number, leaf, root) or b"" for leaf in range(-(-ref.nbytes // 256))) == data
    assert served.leaf(4, 1, 2, TRACE.tensors(5).levels[0][1]) is None


def test_a_segment_of_another_length_is_no_answer(url: str) -> None:
    assert HttpServed(url, 3, 1, PROGRAM, STEPS + 1).history() is None
    assert HttpServed(url, 3, 2, PROGRAM, STEPS).history() is None


# Hostile services


def test_every_flipped_byte_is_caught() -> None:
    """Each answer differs from the right one in one bit, and none of them is believed."""
    blob = STATE["weights"].tobytes()
    root = Store("memory://flips").put_blob(blob)
    rng = random.Random(3)
    bodies: dict[str, bytes] = {"blob": blob, "digests": b"".join(DIGESTS), "program": PROGRAM.encode()}
    current = b""

    def answer(connection: socket.socket) -> None:
        whole(current)(connection)

    with answering(answer) as base:
        source = HttpSource(base)
        get = {
            "blob": lambda: source.get_blob(root, len(blob)),
            "digests": lambda: source.get_digests(Tree(DIGESTS).root, 5),
            "program": lambda: source.get_program(PROGRAM.root),
        }
        for kind, body in bodies.items():
            current = body
            get[kind]()
            for at in rng.sample(range(len(body)), 40):
                current = body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]
                with pytest.raises((VerificationError, NumericsMismatch)):
                    get[kind]()


GOOD = b"".join(DIGESTS)
MISBEHAVIOUR: dict[str, Answer] = {
    "truncated": whole(GOOD[:-1]),
    "truncated below its stated length": whole(GOOD[:-1], length=len(GOOD)),
    "oversized": whole(GOOD + b"!"),
    "endless": lambda connection: [
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        *(connection.sendall(bytes(1 << 16)) for _ in itertools.count()),
    ][0],
    "empty": whole(b""),
    "silent": lambda connection: time.sleep(5),
    "hangs up": lambda connection: connection.close(),
    "no http": lambda connection: connection.sendall(b"\x16\x03\x01 hello \r\n\r\n"),
    "drips its status line": drip(b"HTTP/1.1 200 OK"),
    "drips its headers": lambda connection: [
        connection.sendall(b"HTTP/1.1 200 OK\r\n"),
        drip(b"X-A: b\r\n")(connection),
    ][0],
    "drips its body": lambda connection: [
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 160\r\n\r\n"),
        drip(b"\x00")(connection),
    ][0],
    "endless headers": lambda connection: [
        connection.sendall(b"HTTP/1.1 200 OK\r\n"),
        *(connection.sendall(b"X-A: " + b"b" * 4000 + b"\r\n") for _ in itertools.count()),
    ][0],
    "compressed": whole(b"\x1f\x8b" + bytes(30), headers="Content-Encoding: gzip\r\n"),
    "redirects": whole(b"", "302 Found", "Location: http://127.0.0.1:1/elsewhere\r\n"),
    "always busy": whole(b"", "503 Service Unavailable"),
    "error": whole(b"{}", "500 Internal Server Error"),
    "negative length": whole(GOOD, length=-1),
    "chunked nonsense": lambda connection: connection.sendall(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nabc"
    ),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_misbehaviour_ends_in_one_clear_error_and_in_silence_for_the_agents(name: str) -> None:
    with answering(MISBEHAVIOUR[name]) as base:
        started = time.monotonic()
        with pytest.raises((UnavailableError, VerificationError), match=base):
            HttpSource(base, IMPATIENT).get_digests(Tree(DIGESTS).root, 5)
        assert HttpServed(base, 0, 0, PROGRAM, 4, IMPATIENT).history() is None
        assert time.monotonic() - started < 4 * IMPATIENT.patience


def test_a_redirect_is_not_followed(url: str) -> None:
    asked = threading.Event()

    def elsewhere(connection: socket.socket) -> None:
        asked.set()
        whole(GOOD)(connection)

    with (
        answering(elsewhere) as target,
        answering(whole(b"", "307 Temporary Redirect", f"Location: {target}/\r\n")) as base,
        pytest.raises(UnavailableError, match="status 307"),
    ):
        HttpSource(base).get_digests(Tree(DIGESTS).root, 5)
    assert not asked.is_set()


def test_a_service_that_comes_back_is_asked_again() -> None:
    answers = iter([lambda connection: connection.close(), whole(b"", "503 Service Unavailable"), whole(GOOD)])

    def answer(connection: socket.socket) -> None:
        next(answers)(connection)

    with answering(answer) as base:
        assert HttpSource(base, IMPATIENT).get_digests(Tree(DIGESTS).root, 5) == DIGESTS


def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="is the service running"):
            HttpSource(base, IMPATIENT).get_blob(bytes(32), 1)
        assert HttpServed(base, 0, 0, PROGRAM, 4, IMPATIENT).tensor(0, 0) is None


def test_a_foreign_numerics_version_is_said_to_be_one(store: Store, url: str) -> None:
    with pytest.raises(NumericsMismatch):
        load(HttpSource(url), replace(publish(store, PROGRAM, STATE, DATA), numerics_version=9))


# Addresses


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host/x",
        "",
        "http://",
        "http://user:key@host/",
        "http://host/?a=b",
        "http://host/#x",
        "http://[::1",
        "http://host:99999",
        "http://host/\n",
        "https://" + "a" * 3000,
        "github://org:repo@main/",
        "simplecache::http://host/",
        "zip::memory://x",
    ],
)
def test_an_address_that_is_none_is_refused_and_silent(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError):
        open_source(uri)
    with caplog.at_level(logging.WARNING):
        assert HttpServed(uri, 7, 0, PROGRAM, 4).history() is None
    assert "job 7" in caplog.text


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "xn--\u2603", "-" * 70])
def test_a_host_that_cannot_be_is_unavailable(host: str) -> None:
    assert HttpServed(f"http://{host}/", 0, 0, PROGRAM, 4, IMPATIENT).history() is None


def test_material_may_be_in_a_folder_or_a_store(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "folder"), f"file://{tmp_path}/file", "memory://open-source"):
        spec = publish(Store(uri), PROGRAM, STATE, DATA)
        assert load(open_source(uri), spec).program == PROGRAM


# Disputes


@pytest.mark.parametrize("path", ["fast", "slow"])
def test_a_recorded_lie_served_over_http_is_convicted(tmp_path: Path, path: str) -> None:
    """A trainer that falsifies one number and serves it (or hides its history), against a challenger's own recording."""
    node = PROGRAM.producer[9]

    def tamper(number: int, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [outputs[0] + 1] if number == node else outputs

    class Hiding(ServedTrace):
        def history(self) -> None:
            return None

    honest = ReferenceExecutor(PROGRAM, DATA)
    with (
        Recorder(tmp_path / "trainer", PROGRAM, STATE, DATA, honest, swap={17: Tampered(honest, tamper)}) as trainer,
        Recorder(tmp_path / "challenger", PROGRAM, STATE, DATA, honest, checkpoint_every=8) as challenger,
    ):
        trainer.run(25)
        challenger.run(25)
        claimed, own = trainer.segment(10, 15), challenger.segment(10, 15)
        shown = ServedTrace(claimed) if path == "fast" else Hiding(claimed)
        chain = ModelChain()
        claim = claim_of(PROGRAM, claimed, 15)
        with ServiceThread(application(Catalogue(None, {(0, 0): shown}))) as base:
            agent, defender = Challenger(chain, own, claim, HttpServed(base, 0, 0, PROGRAM, 15)), Defender(chain, claimed)
            game = agent.open()
            assert game is not None
            while agent.play(game) and defender.play(game):
                assert chain.moves < 60
    result = chain.game(game)
    assert result.outcome == Outcome.CONVICTED and result.step == 7
    assert result.verdict is not None and result.verdict.node == node
    assert path == "slow" or chain.moves == 3
