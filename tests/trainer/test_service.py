"""The data service shows what its offer shows, in whole or in ranges, and answers everything else with one sentence."""

from __future__ import annotations

import asyncio
import http.client
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from bisection.errors import UsageError
from bisection.merkle import depth_of, fold, leaf_digest
from bisection.trace import MemoryTrace
from tests.support.programs import counting_program
from trainer import service
from trainer.package import publish
from trainer.service import Catalogue, ServedTrace, ServiceThread, application, serve
from trainer.store import Store

STEPS = 6
PROGRAM, STATE, DATA = counting_program()
TRACE = MemoryTrace(PROGRAM, STATE, DATA, STEPS)
BLOB = os.urandom(3 * service.CHUNK + 1234)
SEGMENT = "/v1/jobs/3/segments/1"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with ServiceThread(application(Catalogue(store, {(3, 1): ServedTrace(TRACE)}))) as base:
        yield base


def sentence(response: requests.Response) -> str:
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


# Content


def test_programs_digests_and_blobs_are_served_by_root(store: Store, url: str) -> None:
    spec = publish(store, PROGRAM, STATE, DATA)
    assert requests.get(f"{url}/v1/programs/{spec.program_root.hex()}").content == PROGRAM.encode()
    roots = requests.get(f"{url}/v1/digests/{spec.initial_state.hex()}/{spec.state_count}").content
    assert roots == b"".join(TRACE.state(0).levels[0])
    assert requests.get(f"{url}/v1/blobs/{roots[32:64].hex()}").content == STATE["weights"].tobytes()


def test_a_big_blob_is_served_in_chunks(store: Store, url: str) -> None:
    answer = requests.get(f"{url}/v1/blobs/{store.put_blob(BLOB).hex()}")
    assert answer.content == BLOB and answer.headers["Accept-Ranges"] == "bytes"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.one_of(st.none(), st.integers(0, 2000)))
def test_ranges_of_a_blob(store: Store, url: str, first: int, last: int | None) -> None:
    address = f"{url}/v1/blobs/{store.put_blob(BLOB[:1000]).hex()}"
    answer = requests.get(address, headers={"Range": f"bytes={first}-{'' if last is None else last}"})
    expected = BLOB[:1000][first : None if last is None else last + 1]
    if expected:
        assert (answer.status_code, answer.content) == (206, expected)
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/1000"
    else:
        assert answer.status_code == 416


def test_the_end_of_a_blob_can_be_asked_for(store: Store, url: str) -> None:
    address = f"{url}/v1/blobs/{store.put_blob(BLOB).hex()}"
    assert requests.get(address, headers={"Range": "bytes=-7"}).content == BLOB[-7:]
    over_a_border = {"Range": f"bytes={service.CHUNK - 2}-{service.CHUNK + 1}"}
    assert requests.get(address, headers=over_a_border).content == BLOB[service.CHUNK - 2 : service.CHUNK + 2]


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=5-3", "bytes=a-b", "bytes=0-1,4-5", "lines=0-1"])
def test_ranges_that_hold_nothing_are_refused(store: Store, url: str, asked: str) -> None:
    answer = requests.get(f"{url}/v1/blobs/{store.put_blob(BLOB[:1000]).hex()}", headers={"Range": asked})
    assert answer.status_code == 416 and "1000 bytes" in sentence(answer)


def test_the_size_of_a_blob_can_be_asked_for_alone(store: Store, url: str) -> None:
    answer = requests.head(f"{url}/v1/blobs/{store.put_blob(BLOB).hex()}")
    assert int(answer.headers["Content-Length"]) == len(BLOB) and answer.content == b""


def test_an_empty_blob_is_served(store: Store, url: str) -> None:
    answer = requests.get(f"{url}/v1/blobs/{store.put_blob(b'').hex()}")
    assert (answer.status_code, answer.content) == (200, b"")


# Segments


def test_everything_about_a_segment_is_served(url: str) -> None:
    assert requests.get(f"{url}{SEGMENT}/history").content == b"".join(TRACE.history().levels[0])
    for step in range(STEPS):
        below = f"{url}{SEGMENT}/steps/{step}"
        assert requests.get(f"{below}/trace").content == b"".join(TRACE.tensors(step).levels[0])
        assert requests.get(f"{below}/state").content == b"".join(TRACE.state(step).levels[0])
    for number in range(len(PROGRAM.tensors)):
        assert requests.get(f"{url}{SEGMENT}/steps/2/tensors/{number}").content == TRACE.tensor(2, number)
    assert requests.get(f"{url}{SEGMENT}/steps/{STEPS}/state").content == b"".join(TRACE.state(STEPS).levels[0])


def test_a_leaf_comes_with_the_proof_of_its_place(url: str) -> None:
    root, size = TRACE.tensors(4).levels[0][1], PROGRAM.tensors[1].nbytes
    for leaf in range(-(-size // 256)):
        answer = requests.get(f"{url}{SEGMENT}/steps/4/tensors/1/leaves/{leaf}").content
        length = min(256, size - 256 * leaf)
        proof = [answer[at : at + 32] for at in range(length, len(answer), 32)]
        assert len(proof) == depth_of(-(-size // 256))
        assert fold(leaf_digest(answer[:length]), leaf, proof) == root


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/3/segments/2/history",
        "/v1/jobs/4/segments/1/history",
        f"{SEGMENT}/steps/{STEPS}/trace",
        f"{SEGMENT}/steps/{STEPS + 1}/state",
        f"{SEGMENT}/steps/0/tensors/{len(PROGRAM.tensors)}",
        f"{SEGMENT}/steps/9999999999/tensors/0",
        f"{SEGMENT}/steps/0/tensors/0/leaves/1",
        f"{SEGMENT}/steps/-1/trace",
        f"{SEGMENT}/steps/99999999999999999999999/trace",
        "/v1/blobs/" + "0" * 64,
        "/v1/programs/" + "0" * 64,
        "/v1/digests/" + "0" * 64 + "/3",
        "/",
    ],
)
def test_what_does_not_exist_is_answered_with_one_sentence(url: str, path: str) -> None:
    answer = requests.get(url + path)
    assert answer.status_code == 404 and 10 < len(sentence(answer)) < 100


@pytest.mark.parametrize(
    "path",
    [
        "/v1/blobs/../../../../etc/passwd",
        "/v1/blobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/blobs/" + "%2e%2e%2f" * 21 + "a",
        "/v1/blobs/" + "0" * 63,
        "/v1/blobs/" + "0" * 65,
        "/v1/blobs/" + "G" * 64,
        "/v1/blobs/" + "AB" * 32,
        "/v1/blobs/" + "0" * 64 + "/../../secret",
        "/v1/digests/" + "0" * 64 + "/-1",
        "/v1/digests/" + "0" * 64 + "/..",
        "//etc/passwd",
    ],
)
def test_malformed_roots_and_paths_that_climb_are_refused(url: str, store: Store, path: str) -> None:
    """Sent as they are: an ordinary client would tidy them up."""
    secret = Path(store.location) / "secret"
    secret.write_text("secret")
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.putrequest("GET", path)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (400, 404) and b"root:" not in body and body != b"secret"


def test_it_is_read_only(url: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = requests.request(method, f"{url}/v1/blobs/" + "0" * 64)
        assert answer.status_code == 405


def test_health(url: str) -> None:
    assert requests.get(f"{url}/healthz").json() == {"status": "ok"}


def test_what_is_damaged_on_the_disk_is_not_served_as_good(tmp_path: Path) -> None:
    store = Store(tmp_path)
    root = store.put_program(PROGRAM)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-1])
    with ServiceThread(application(Catalogue(store))) as base:
        answer = requests.get(f"{base}/v1/programs/{root.hex()}")
    assert answer.status_code == 500 and str(tmp_path) not in sentence(answer)


# Withholding


def test_what_is_withheld_looks_as_if_it_did_not_exist() -> None:
    class Withholding(ServedTrace):
        def history(self) -> Sequence[bytes] | None:
            return None

    with ServiceThread(application(Catalogue(None, {(3, 1): Withholding(TRACE)}))) as base:
        assert requests.get(f"{base}{SEGMENT}/history").status_code == 404
        assert requests.get(f"{base}{SEGMENT}/steps/1/trace").status_code == 200
        assert requests.get(f"{base}/v1/programs/{PROGRAM.root.hex()}").status_code == 404


def test_an_offer_may_change_while_it_is_served() -> None:
    catalogue = Catalogue()
    with ServiceThread(application(catalogue)) as base:
        assert requests.get(f"{base}{SEGMENT}/history").status_code == 404
        catalogue.segments[3, 1] = ServedTrace(TRACE)
        assert requests.get(f"{base}{SEGMENT}/history").status_code == 200


# Load


def test_recomputing_is_one_at_a_time_and_only_so_many_may_wait() -> None:
    running, most = 0, 0
    go, started = threading.Event(), threading.Event()

    class Slow(ServedTrace):
        def trace(self, step: int) -> Sequence[bytes] | None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            started.set()
            go.wait(20)
            running -= 1
            return super().trace(step)

    statuses: list[int] = []
    with ServiceThread(application(Catalogue(None, {(3, 1): Slow(TRACE)}))) as base:
        asked = [
            threading.Thread(target=lambda: statuses.append(requests.get(f"{base}{SEGMENT}/steps/1/trace").status_code))
            for _ in range(service.WAITING + 5)
        ]
        for thread in asked:
            thread.start()
        assert started.wait(20)
        while len(statuses) < 5:
            threading.Event().wait(0.01)
        assert requests.get(f"{base}/healthz").status_code == 200, "a waiting worker must not stall the loop"
        refused = requests.get(f"{base}{SEGMENT}/history")
        assert refused.status_code == 503 and "Retry-After" in refused.headers and "try again" in sentence(refused)
        go.set()
        for thread in asked:
            thread.join()
    assert sorted(statuses) == [200] * service.WAITING + [503] * 5 and most == 1


# Running


async def test_a_node_serves_until_it_is_cancelled(store: Store) -> None:
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(application(Catalogue(store)), "127.0.0.1", 0, listening.set_result))
    base = await listening
    assert (await asyncio.to_thread(requests.get, f"{base}/healthz")).status_code == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(requests.ConnectionError):
        await asyncio.to_thread(requests.get, f"{base}/healthz")


def test_an_address_in_use_is_one_clear_error(url: str) -> None:
    port = urlsplit(url).port
    assert port is not None
    with pytest.raises(UsageError, match="choose another address"):
        ServiceThread(application(Catalogue()), port=port).start()
