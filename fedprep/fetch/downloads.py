"""One URL to one file: streamed, hashed on the way, resumed after a break, retried with patience."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from fedprep.errors import FetchError
from fedprep.fetch.checksums import CHUNK, Digest
from fedprep.fetch.parts import Origin, Part
from fedprep.fetch.space import require_space, writing
from fedprep.network import refuse_inner_redirect
from fedprep.schema import Progress, silent

if TYPE_CHECKING:
    import httpx

__all__ = ["Network", "Patience", "Unreachable", "WrongSize", "download", "open_network"]

_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Unreachable(FetchError):
    """A URL does not give the file; another one may."""


class WrongSize(Unreachable):
    """A URL gives a file of another size than the official one."""

    def __init__(self, got: int, expected: int) -> None:
        super().__init__(f"has {got:,} bytes in place of {expected:,}")
        self.differing = (f"{got:,} bytes", f"{expected:,} bytes")


class _Interrupted(Exception):
    """An attempt failed that may go better the next time.

    answered: the server said something. wait: the seconds it asked for.
    """

    def __init__(self, reason: str, *, answered: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.answered = answered
        self.wait = wait


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for. Seconds; a wait doubles from `first_wait` to `longest_wait`.

    tries: attempts in a row that bring nothing new.
    unanswered: the same while the server has not answered once (no network, no such host).
    longest_ask: a server that asks for more than this (Retry-After) is given up.
    """

    tries: int = 5
    unanswered: int = 2
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_ask: float = 120.0
    timeout: float = 30.0

    def wait(self, failures: int, asked: float) -> float:
        """Returns the seconds to wait after so many failures, with jitter."""
        backoff = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return max(asked, backoff * random.uniform(0.5, 1.5))


@dataclass(frozen=True, kw_only=True)
class Network:
    """How servers are asked: a client, how long they are waited for, and who is told.

    `progress` is told `"download <name>"`, bytes so far, bytes in all. `listings`: the files of mirrors
    whose index pages were read.
    """

    client: httpx.Client
    patience: Patience
    progress: Progress = silent
    listings: dict[str, list[str]] = field(default_factory=dict)


@contextmanager
def open_network(patience: Patience, progress: Progress = silent) -> Iterator[Network]:
    """Gives a network that follows redirects and asks for bytes as they lie on the server.

    Raises:
        FetchError: the proxy or certificate settings of the environment cannot be used.
    """
    import httpx

    try:
        client = httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(patience.timeout, connect=min(10.0, patience.timeout)),
            headers={"User-Agent": "fedprep", "Accept": "*/*", "Accept-Encoding": "identity"},
            event_hooks={"response": [refuse_inner_redirect]},
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        raise FetchError(
            f"the network settings cannot be used: {error}",
            where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE",
        ) from None
    with client:
        yield Network(client=client, patience=patience, progress=progress)


def download(url: str, part: Part, network: Network, *, n_bytes: int = 0) -> Digest:
    """Returns the digest of a URL's bytes when all of them are in `part`.

    Args:
        url: http or https.
        part: what has arrived so far; it stays behind where this fails or is killed.
        network: how servers are asked.
        n_bytes: the size that the file must have; 0: any.

    Raises:
        Unreachable: the URL does not give the file; WrongSize: one of another size.
        OutputError: the disk is full or cannot be written to.
    """
    patience = network.patience
    failures, answered, furthest = 0, False, part.size
    while True:
        try:
            _attempt(url, part, network, n_bytes=n_bytes)
            return part.digest()
        except _Interrupted as problem:
            answered = answered or problem.answered or part.size > furthest
            failures = 1 if part.size >= furthest + CHUNK else failures + 1
            furthest = max(furthest, part.size)
            limit = patience.tries if answered else patience.unanswered
            if problem.wait > patience.longest_ask:
                raise Unreachable(f"{problem}; it asks to wait {problem.wait:.0f} s") from None
            if failures >= limit:
                raise Unreachable(f"{problem} (tried {failures} times)") from None
            time.sleep(patience.wait(failures, problem.wait))


def _attempt(url: str, part: Part, network: Network, *, n_bytes: int) -> None:
    """Asks once; on return the part is whole."""
    import httpx

    if part.origin is not None and part.continues(url) and part.size == part.origin.total:
        return  # killed between the last byte and the rename
    try:
        with network.client.stream("GET", url, headers=_range(part, url)) as response:
            origin = _begin_or_continue(url, part, response)
            if n_bytes and origin.total and origin.total != n_bytes:
                part.forget()
                raise WrongSize(origin.total, n_bytes)
            _receive(response, part, total=origin.total or n_bytes, progress=network.progress)
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise Unreachable(str(error)) from None
    except httpx.ConnectError as error:
        if "CERTIFICATE" in str(error).upper():
            raise Unreachable(f"its TLS certificate is refused: {error}") from None
        raise _Interrupted(f"no connection: {error}") from None
    except httpx.TimeoutException as error:
        raise _Interrupted(f"no answer in time ({type(error).__name__})") from None
    except httpx.TransportError as error:
        raise _Interrupted(f"the connection broke: {error}") from None


def _range(part: Part, url: str) -> dict[str, str]:
    """Returns the headers that ask for the rest only, and for all if the file has changed."""
    origin = part.origin
    if origin is None or not part.continues(url):
        return {}
    strong = origin.etag if not origin.etag.startswith("W/") else ""
    version = (strong or origin.modified) if url == origin.url else ""
    return {"Range": f"bytes={part.size}-"} | ({"If-Range": version} if version else {})


def _begin_or_continue(url: str, part: Part, response: httpx.Response) -> Origin:
    """Returns where the bytes come from, with the part ready to take them."""
    status = response.status_code
    origin = _origin_of(url, response)
    if status == 206 and part.origin is not None:
        starts = f"bytes {part.size}-"
        if response.headers.get("Content-Range", "").startswith(starts) and part.origin.agrees(
            origin
        ):
            part.resumed = True
            return origin
    if status in (206, 416):
        part.forget()
        raise _Interrupted(f"HTTP {status}: the file there is not the one begun", answered=True)
    if status in _BUSY:
        reason = f"HTTP {status} {response.reason_phrase}".rstrip()
        raise _Interrupted(reason, answered=True, wait=_asked_wait(response))
    if status != 200:
        raise Unreachable(f"HTTP {status} {response.reason_phrase}".rstrip())
    with writing(part.path.parent, part.path.name):
        part.begin(origin)
    return origin


def _origin_of(url: str, response: httpx.Response) -> Origin:
    headers = response.headers
    size = headers.get("Content-Length", "")
    if response.status_code == 206:
        size = headers.get("Content-Range", "").rpartition("/")[2]
    return Origin(
        url=url,
        total=int(size) if size.isdecimal() else 0,
        etag=headers.get("ETag", ""),
        modified=headers.get("Last-Modified", ""),
    )


def _asked_wait(response: httpx.Response) -> float:
    """Returns the seconds of Retry-After (a number or a date), 0 where there is none."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0


def _receive(response: httpx.Response, part: Part, *, total: int, progress: Progress) -> None:
    """Appends the body to the part; `total` is the whole file's size, 0 where it is unknown."""
    folder, name = part.path.parent, part.path.name.removesuffix(".part")
    require_space(folder, max(0, total - part.size), name)
    page = "text/html" in response.headers.get("Content-Type", "")
    with writing(folder, name), part.open() as file:
        for chunk in response.iter_raw():
            if page and part.size == 0 and chunk.lstrip()[:1] == b"<":
                raise Unreachable("answers with a web page in place of the file")
            part.append(file, chunk)
            if total and part.size > total:
                break
            progress(f"download {name}", part.size, total or None)
    if total and part.size != total:
        got = part.size
        if got > total:
            part.forget()
        raise _Interrupted(f"the connection ended at {got:,} of {total:,} bytes", answered=True)
