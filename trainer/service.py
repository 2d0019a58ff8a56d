"""The data service: read-only HTTP over what a trainer chooses to show, verified by whoever reads it.

    GET /healthz
    GET /v1/programs/{root}                     the encoded program
    GET /v1/digests/{root}/{count}              the leaves of a digest tree, 32 bytes each
    GET /v1/blobs/{root}                        a blob; ranges of bytes too (RFC 9110, section 14)
    GET /v1/jobs/{job}/segments/{segment}/…
        history                                 the state roots C_0 … C_n
        steps/{step}/trace                      the roots of all tensors of the step's trace
        steps/{step}/state                      the roots of the state's tensors before the step
        steps/{step}/tensors/{number}           one tensor of the trace
        steps/{step}/tensors/{number}/leaves/{leaf}   one 256-byte leaf of it, then its siblings, lowest first

Answers are raw octets, errors are {"error": one sentence}. One worker recomputes traces, and only so many requests may wait for
it: the rest are told to come back (503).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, TypeVar

from aiohttp import web

from bisection.agent import Served
from bisection.errors import RefstepError, UnavailableError, UsageError
from bisection.merkle import LEAF_BYTES, Tree
from bisection.trace import Trace
from trainer.background import BackgroundLoop
from trainer.kernels.hashing import tree_of
from trainer.store import Store

__all__ = ["Catalogue", "Offer", "ServedTrace", "ServiceThread", "application", "serve"]

log = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes read and sent at a time
WAITING = 16  # requests that may wait for the worker
TREES_KEPT = 4
OCTETS = "application/octet-stream"
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# What is shown ----------------------------------------------------------------------------------------------------------


class Offer(Protocol):
    """What a data service shows. Whatever is None is withheld, and answered as if it did not exist."""

    @property
    def store(self) -> Store | None:
        """The store whose programs, digests and blobs are shown."""

    def segment(self, job: int, segment: int) -> Served | None:
        """What is said about a segment. Called on the worker thread."""


@dataclass
class Catalogue:
    """An Offer out of a dictionary, which may change while it is served."""

    store: Store | None = None
    segments: dict[tuple[int, int], Served] = field(default_factory=dict)

    def segment(self, job: int, segment: int) -> Served | None:
        """See Offer."""
        return self.segments.get((job, segment))


class ServedTrace:
    """A trace shown as it is; None for a step or tensor that does not exist. To withhold something, override its method."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def history(self) -> Sequence[bytes] | None:
        """See Served."""
        return self._trace.history().levels[0]

    def trace(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        return self._trace.tensors(step).levels[0] if self._runs(step) else None

    def state(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        return self._trace.state(step).levels[0] if 0 <= step < self._trace.history().count else None

    def tensor(self, step: int, number: int) -> bytes | None:
        """See Served."""
        known = self._runs(step) and 0 <= number < len(self._trace.program.tensors)
        data = self._trace.tensor(step, number) if known else None
        assert data is None or isinstance(data, bytes), "what is sent is held as bytes"
        return data

    def _runs(self, step: int) -> bool:
        return 0 <= step < self._trace.history().count - 1


# The application --------------------------------------------------------------------------------------------------------


def application(offer: Offer) -> web.Application:
    """The data service over ``offer``, as an aiohttp application for ``serve`` or ``ServiceThread``."""
    handlers = _Handlers(offer)
    app = web.Application(middlewares=[_one_sentence], client_max_size=1)
    root, number = "{root:[0-9a-f]{64}}", r":\d{1,10}}"
    segment = "/v1/jobs/{job" + number + "/segments/{segment" + number
    tensor = segment + "/steps/{step" + number + "/tensors/{number" + number
    routes: dict[str, Handler] = {
        "/healthz": handlers.health,
        f"/v1/programs/{root}": handlers.program,
        f"/v1/digests/{root}/{{count{number}": handlers.digests,
        f"/v1/blobs/{root}": handlers.blob,
        f"{segment}/history": handlers.history,
        f"{segment}/steps/{{step{number}/trace": handlers.trace,
        f"{segment}/steps/{{step{number}/state": handlers.state,
        tensor: handlers.tensor,
        f"{tensor}/leaves/{{leaf{number}": handlers.leaf,
    }
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    app.cleanup_ctx.append(handlers.workers)
    return app


@web.middleware
async def _one_sentence(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into a status and one sentence; what went wrong inside stays in the log."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        text = error.text if error.text and not re.match(r"\d{3}: ", error.text) else "there is nothing at this address"
        return _refusal(error.status, text)
    except UnavailableError as error:
        log.info("%s: %s", request.path, error)
        return _refusal(404, "this is not (or not yet) here")
    except RefstepError as error:
        log.error("%s: %s", request.path, error)
        return _refusal(500, "this cannot be served as it should be: its owner has to look at the log")


def _refusal(status: int, sentence: str) -> web.Response:
    headers = {"Retry-After": "1"} if status == 503 else {}
    return web.json_response({"error": sentence}, status=status, headers=headers)


class _Handlers:
    """The routes. ``_worker`` recomputes, one request after another; ``_readers`` only read files."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._waiting = 0
        self._trees: OrderedDict[tuple[int, ...], tuple[bytes, Tree]] = OrderedDict()

    async def workers(self, app: web.Application) -> AsyncIterator[None]:
        """Start and stop the threads with the application."""
        self._worker = ThreadPoolExecutor(1, "recompute")
        self._readers = ThreadPoolExecutor(4, "read")
        yield
        for pool in (self._worker, self._readers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def health(self, request: web.Request) -> web.Response:
        """Whether the loop runs."""
        return web.json_response({"status": "ok"})

    # Content-addressed

    async def program(self, request: web.Request) -> web.Response:
        """The encoded program."""
        store, root = self._store(), bytes.fromhex(request.match_info["root"])
        return _octets(await self._read(lambda: store.get_program(root).encode()))

    async def digests(self, request: web.Request) -> web.Response:
        """The leaves of a digest tree."""
        store, root = self._store(), bytes.fromhex(request.match_info["root"])
        count = int(request.match_info["count"])
        return _octets(await self._read(lambda: b"".join(store.get_digests(root, count))))

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """A blob or a range of it, read and sent in chunks."""
        store, root = self._store(), bytes.fromhex(request.match_info["root"])
        size = await self._read(lambda: store.blob_size(root))
        start, stop = _range(request, size)
        partial = "Range" in request.headers
        response = web.StreamResponse(status=206 if partial else 200)
        response.headers.update({"Accept-Ranges": "bytes", "Content-Type": OCTETS, "ETag": f'"{root.hex()}"'})
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        response.content_length = stop - start
        await response.prepare(request)
        if request.method != "HEAD":
            for at in range(start, stop, CHUNK):
                await response.write(await self._read(_exactly, store, root, at, min(at + CHUNK, stop)))
        await response.write_eof()
        return response

    # Recomputed

    async def history(self, request: web.Request) -> web.Response:
        """The state roots of a segment."""
        return await self._digests(request, lambda served: served.history())

    async def trace(self, request: web.Request) -> web.Response:
        """The tensor roots of a step's trace."""
        step = int(request.match_info["step"])
        return await self._digests(request, lambda served: served.trace(step))

    async def state(self, request: web.Request) -> web.Response:
        """The tensor roots of the state before a step."""
        step = int(request.match_info["step"])
        return await self._digests(request, lambda served: served.state(step))

    async def tensor(self, request: web.Request) -> web.Response:
        """One tensor of a step's trace."""
        step, number = int(request.match_info["step"]), int(request.match_info["number"])
        return _octets(_shown(await self._recompute(request, lambda served: served.tensor(step, number))))

    async def leaf(self, request: web.Request) -> web.Response:
        """One leaf of a tensor, with its siblings behind it."""
        job, segment, step, number, leaf = (int(request.match_info[k]) for k in ("job", "segment", "step", "number", "leaf"))
        key = (job, segment, step, number)

        def prove(served: Served) -> bytes | None:
            data = served.tensor(step, number)
            if data is None or leaf * LEAF_BYTES >= len(data):
                return None
            if key not in self._trees or self._trees[key][0] != data:
                self._trees[key] = (data, tree_of(data))
                while len(self._trees) > TREES_KEPT:
                    self._trees.popitem(last=False)
            return data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES] + b"".join(self._trees[key][1].prove(leaf))

        return _octets(_shown(await self._recompute(request, prove)))

    async def _digests(self, request: web.Request, ask: Callable[[Served], Sequence[bytes] | None]) -> web.Response:
        return _octets(b"".join(_shown(await self._recompute(request, ask))))

    # Threads

    def _store(self) -> Store:
        return _shown(self._offer.store)

    async def _read(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, call, *arguments)

    async def _recompute(self, request: web.Request, ask: Callable[[Served], T | None]) -> T | None:
        """``ask`` about the request's segment, on the one worker; 503 when too many wait for it."""
        if self._waiting >= WAITING:
            raise web.HTTPServiceUnavailable(text="too many requests are waiting for this service: try again in a moment")
        job, segment = int(request.match_info["job"]), int(request.match_info["segment"])

        def answer() -> T | None:
            served = self._offer.segment(job, segment)
            return None if served is None else ask(served)

        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, answer)
        finally:
            self._waiting -= 1


def _shown(value: T | None) -> T:
    """``value``, or 404 where it is withheld or does not exist."""
    if value is None:
        raise web.HTTPNotFound(text="this service does not show that")
    return value


def _exactly(store: Store, root: bytes, start: int, stop: int) -> bytes:
    """A part of a blob. Once the head of an answer is sent, a part that cannot be had leaves nothing to do but to hang up."""
    try:
        data = store.read_blob(root, start, stop)
    except UnavailableError as error:
        raise ConnectionResetError(str(error)) from None
    if len(data) != stop - start:
        raise ConnectionResetError(f"blob {root.hex()} became shorter while it was served")
    return data


def _octets(data: bytes) -> web.Response:
    return web.Response(body=data, content_type=OCTETS)


def _range(request: web.Request, size: int) -> tuple[int, int]:
    """The bytes (start, stop) of a blob of ``size`` bytes that the request is about."""
    try:
        start, stop, _ = request.http_range.indices(size)
    except ValueError:
        start = stop = 0
    if start >= stop and "Range" in request.headers:
        raise web.HTTPRequestRangeNotSatisfiable(text=f"this blob has {size} bytes, and none of them is in the range asked for")
    return start, stop


# Running it -------------------------------------------------------------------------------------------------------------


async def _started(app: web.Application, host: str, port: int) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=30)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise UsageError(f"nothing can be served at {host}:{port}: {error.strerror or error}; choose another address") from None
    return runner


async def serve(app: web.Application, host: str, port: int, listening: Callable[[str], None] = lambda url: None) -> None:
    """Serve until cancelled; ``listening`` hears the base URL. Raises UsageError when the address cannot be used."""
    runner = await _started(app, host, port)
    try:
        listening(_url(runner))
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class ServiceThread:
    """Serves an application in a background thread, on a free port of this machine unless told otherwise.

    with ServiceThread(application(offer)) as url: ...
    """

    def __init__(self, app: web.Application, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app, self._host, self._port = app, host, port

    def start(self) -> str:
        """Start serving; returns the base URL. Raises UsageError when the address cannot be used."""
        self._background = BackgroundLoop("data service")
        try:
            self._runner = self._background.run(_started(self._app, self._host, self._port))
        except BaseException:
            self._background.close()
            raise
        return _url(self._runner)

    def stop(self) -> None:
        """Stop serving."""
        self._background.run(self._runner.cleanup())
        self._background.close()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
