"""Fetching from data services that nobody trusts: every byte is verified, every answer is bounded in size and time.

``HttpSource`` is a trainer.store.Source over HTTP. ``HttpServed`` is what a trainer says about a segment, for dispute agents: it
never raises for what the other side does, because a service that misbehaves is no better than a silent one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import aiohttp

from bisection.errors import RefstepError, UnavailableError, UsageError, VerificationError
from bisection.merkle import LEAF_BYTES, depth_of, fold, leaf_digest
from bisection.program import Program
from trainer.background import BackgroundLoop
from trainer.store import DIGEST_BYTES, Source, Store, verified_blob, verified_digests, verified_program

__all__ = ["HttpServed", "HttpSource", "Limits", "open_source"]

log = logging.getLogger(__name__)

STORES = ("file", "memory", "s3", "gs", "az", "ipfs")
CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client puts up with. Times in seconds, sizes in bytes.

    A request takes at most ``patience`` plus the time that its expected bytes take at ``slowest_rate`` (bytes a second), all
    attempts together.
    """

    attempts: int = 4
    backoff: float = 0.2
    connect: float = 5.0
    stall: float = 10.0
    patience: float = 30.0
    slowest_rate: int = 1 << 17
    program_bytes: int = 1 << 26
    blob_bytes: int = 1 << 34


DEFAULT_LIMITS = Limits()


class _Retriable(Exception):
    """A failure that may pass."""


@cache
def _background() -> BackgroundLoop:
    return BackgroundLoop("fetch")


class HttpClient:
    """GET requests below ``base_url``. Raises UsageError unless it is a plain http or https URL without credentials."""

    def __init__(self, base_url: str, limits: Limits) -> None:
        self.base_url, self.limits = _checked_url(base_url), limits

    def get(self, path: str, limit: int, exact: bool = True) -> bytes:
        """The body at ``path``, which is ``limit`` bytes long, or at most that when not ``exact``.

        Raises VerificationError for a body of another size, UnavailableError for anything else that goes wrong.
        """
        return _background().run(self._get(path, limit, exact))

    async def _get(self, path: str, limit: int, exact: bool) -> bytes:
        deadline = self.limits.patience + limit / self.limits.slowest_rate if exact else self.limits.patience
        url = self.base_url + path
        try:
            async with asyncio.timeout(deadline):
                for attempt in range(1, self.limits.attempts + 1):
                    try:
                        return await self._attempt(url, limit, exact)
                    except _Retriable as error:
                        if attempt == self.limits.attempts:
                            raise UnavailableError(f"{url} cannot be fetched ({error}): is the service running?") from None
                    await asyncio.sleep(self.limits.backoff * 2 ** (attempt - 1))
        except TimeoutError:
            raise UnavailableError(f"{url} did not answer within {deadline:.0f} s") from None
        raise AssertionError("a last attempt returns or raises")

    async def _attempt(self, url: str, limit: int, exact: bool) -> bytes:
        timeout = aiohttp.ClientTimeout(sock_connect=self.limits.connect, sock_read=self.limits.stall)
        headers = {"Accept-Encoding": "identity"}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers, auto_decompress=False) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status == 503:
                    raise _Retriable("it is busy")
                if response.status != 200:
                    raise UnavailableError(f"{url} is not served (HTTP status {response.status})")
                return await self._body(response, url, limit, exact)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _Retriable(str(error) or type(error).__name__) from None

    async def _body(self, response: aiohttp.ClientResponse, url: str, limit: int, exact: bool) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK):
            body += chunk
            if len(body) > limit:
                break
        if len(body) > limit or (exact and len(body) < limit):
            size = f"{'more than' if len(body) > limit else 'only'} {min(len(body), limit)}"
            raise VerificationError(f"{url} answers with {size} bytes instead of {'' if exact else 'at most '}{limit}")
        return bytes(body)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment or len(url) > 2048 or not url.isprintable():
        raise UsageError(f"{url[:200]!r} is no address of a data service: give an http or https URL without credentials, ? and #")
    return url.rstrip("/")


class HttpSource:
    """A data service as a Source: programs, digests and blobs, verified. Raises UsageError for an address that is none."""

    def __init__(self, base_url: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self._client, self._limits = HttpClient(base_url, limits), limits

    def get_program(self, root: bytes) -> Program:
        """The program under ``root``. Raises UnavailableError, VerificationError, NumericsMismatch."""
        return verified_program(self._client.get(f"/v1/programs/{root.hex()}", self._limits.program_bytes, exact=False), root)

    def get_digests(self, root: bytes, count: int) -> list[bytes]:
        """The ``count`` leaves of the digest tree under ``root``. Raises UnavailableError, VerificationError."""
        return verified_digests(self._client.get(f"/v1/digests/{root.hex()}/{count}", count * DIGEST_BYTES), root, count)

    def get_blob(self, root: bytes, size: int | None = None) -> bytes:
        """The bytes under ``root``. Raises UnavailableError (also when they pass ``Limits.blob_bytes``), VerificationError."""
        most = self._limits.blob_bytes
        if size is not None and size > most:
            raise UnavailableError(f"blob {root.hex()} has {size} bytes, and this node fetches at most {most} at once")
        data = self._client.get(f"/v1/blobs/{root.hex()}", most if size is None else size, exact=size is not None)
        verified_blob(data, root)
        return data


class HttpServed:
    """What the data service at ``base_url`` says about a segment of ``length`` steps of ``program``: bisection.agent.Served.

    Everything has an exact size, and None stands for any other answer, for none, and for an address that is none. Nothing but
    ``leaf`` verifies here: the agent does that against what stands on chain.
    """

    def __init__(
        self, base_url: str, job: int, segment: int, program: Program, length: int, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._program, self._length = program, length
        self._below = f"/v1/jobs/{job}/segments/{segment}"
        self._client: HttpClient | None = None
        try:
            self._client = HttpClient(base_url, limits)
        except UsageError as error:
            log.warning("the trainer of job %d cannot be asked: %s", job, error)

    def history(self) -> Sequence[bytes] | None:
        """See Served."""
        return self._digests("/history", self._length + 1)

    def trace(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        return self._digests(f"/steps/{step}/trace", len(self._program.tensors))

    def state(self, step: int) -> Sequence[bytes] | None:
        """See Served."""
        return self._digests(f"/steps/{step}/state", len(self._program.state))

    def tensor(self, step: int, number: int) -> bytes | None:
        """See Served."""
        return self._get(f"/steps/{step}/tensors/{number}", self._program.tensors[number].nbytes)

    def leaf(self, step: int, number: int, leaf: int, tensor_root: bytes) -> bytes | None:
        """One 256-byte leaf of a tensor of ``step``'s trace, proved against that tensor's root; None for anything else."""
        size = self._program.tensors[number].nbytes
        leaves = -(-size // LEAF_BYTES)
        length, depth = min(LEAF_BYTES, size - leaf * LEAF_BYTES), depth_of(leaves)
        answer = self._get(f"/steps/{step}/tensors/{number}/leaves/{leaf}", length + depth * DIGEST_BYTES)
        if answer is None:
            return None
        data, rest = answer[:length], answer[length:]
        siblings = [rest[at : at + DIGEST_BYTES] for at in range(0, len(rest), DIGEST_BYTES)]
        return data if fold(leaf_digest(data), leaf, siblings) == tensor_root else None

    def _digests(self, path: str, count: int) -> Sequence[bytes] | None:
        data = self._get(path, count * DIGEST_BYTES)
        return None if data is None else [data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)]

    def _get(self, path: str, size: int) -> bytes | None:
        if self._client is None:
            return None
        try:
            return self._client.get(self._below + path, size)
        except RefstepError as error:
            log.info("the trainer does not say: %s", error)
            return None


def open_source(uri: str, limits: Limits = DEFAULT_LIMITS) -> Source:
    """Where a job's material is: a data service (http, https), or a store (a local folder or an fsspec URL of a common kind).

    ``uri`` comes from a chain, so nothing more exotic is opened for it. Raises UsageError.
    """
    scheme, separator, _ = uri.partition("://")
    if uri and not separator and "::" not in uri:
        return Store(uri)
    if scheme in ("http", "https"):
        return HttpSource(uri, limits)
    if scheme in STORES and "::" not in uri:
        return Store(uri)
    raise UsageError(f"material cannot be fetched from {uri[:200]!r}: use http, https, a folder, or one of {', '.join(STORES)}")
