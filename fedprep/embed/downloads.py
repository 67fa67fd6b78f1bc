"""Pictures behind URLs, fetched once: many hosts at a time, each host at a bounded rate.

The cache holds a file a URL, named by the URL's SHA-256: the picture's bytes, or `*.failed`, a note of
why there is none. A note of what will not change soon (404, no picture, too large) is believed for a
week, one of what may (time-outs, server errors) for an hour.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl

from fedprep.embed.ahead import ahead
from fedprep.embed.decode import NO_PICTURE, UnusablePicture, looks_like_a_picture
from fedprep.embed.pictures import TOO_MANY_BYTES, UNREADABLE
from fedprep.errors import OutputError
from fedprep.files import whole_file
from fedprep.network import NotPublic, public_client_transport
from fedprep.schema import Progress, silent

if TYPE_CHECKING:
    import httpx

__all__ = ["NOT_FOUND", "NOT_PUBLIC", "NO_ADDRESS", "UNREACHABLE", "UrlStore"]

NO_ADDRESS = "no http or https address"
NOT_PUBLIC = "address not public, and not in embed.image.allow_hosts"
NOT_FOUND = "not found, or refused by the server"
TOO_MANY_REDIRECTS = "too many redirects"
UNREACHABLE = "server or network failed, several times"

LASTING = (NO_ADDRESS, NOT_FOUND, TOO_MANY_REDIRECTS, TOO_MANY_BYTES, NO_PICTURE)
LASTING_SECONDS = 7 * 86_400.0
PASSING_SECONDS = 3_600.0

PARALLEL = 16
ATTEMPTS = 4
REDIRECTS = 5
READ_SECONDS = 20.0
WHOLE_SECONDS = 120.0  # of one attempt: a server that drips is no server
LONGEST_WAIT = 60.0  # that a Retry-After may ask for
BUSY = (408, 425, 429)

logger = logging.getLogger(__name__)


class UrlStore:
    """Pictures whose names are URLs; `fetch` them, then `read` them.

    Args:
        cache: the folder of fetched pictures.
        max_bytes: more are not read.
        per_second: requests to one host.
        allow_hosts: hosts, or `host:port`, that may be asked though their address is not public.
        backoff: seconds before the second attempt; doubled for each one after it.
    """

    def __init__(
        self,
        cache: Path,
        *,
        max_bytes: int,
        per_second: float,
        allow_hosts: Collection[str] = (),
        backoff: float = 1.0,
    ) -> None:
        self.cache = cache
        self.max_bytes = max_bytes
        self.backoff = backoff
        self.allow_hosts = tuple(allow_hosts)
        self._refused: set[str] = set()  # not noted in the cache: another recipe may allow them
        self._pace = _Pace(1.0 / per_second)
        self._stopped = threading.Event()

    def read(self, name: str) -> bytes:
        """Returns the bytes of a fetched picture.

        Raises:
            UnusablePicture: it could not be fetched, or is not fetched.
        """
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            refused = NOT_PUBLIC if name in self._refused else ""
            raise UnusablePicture(refused or self._noted(name) or UNREACHABLE) from None
        except OSError as error:
            raise UnusablePicture(UNREADABLE) from error
        if len(data) > self.max_bytes:
            raise UnusablePicture(TOO_MANY_BYTES)
        return data

    def close(self) -> None:
        """Has nothing to let go of."""

    def fetch(self, urls: list[str], *, progress: Progress = silent) -> None:
        """Fetches what the cache does not hold; failures are noted, and never raised.

        Raises:
            OutputError: the cache cannot be written, or the disk is full.
        """
        import httpx

        known = [self._path(url).exists() or bool(self._noted(url)) for url in urls]
        wanted = pl.Series("url", urls).filter(~pl.Series(known, dtype=pl.Boolean))
        progress("pictures fetched", len(urls) - len(wanted), len(urls))
        if wanted.is_empty():
            return
        client = httpx.Client(
            timeout=READ_SECONDS,
            follow_redirects=True,
            max_redirects=REDIRECTS,
            transport=public_client_transport(self.allow_hosts, connections=PARALLEL),
            headers={"User-Agent": "fedprep", "Accept": "image/*", "Accept-Encoding": "identity"},
        )
        jobs = ahead(
            lambda url: self._fetch_one(client, url),
            _hosts_in_turn(wanted),
            threads=PARALLEL,
            depth=4 * PARALLEL,
        )
        with contextlib.ExitStack() as stack:
            stack.callback(self._stopped.clear)
            stack.enter_context(client)
            fetched = stack.enter_context(jobs)
            stack.callback(self._stopped.set)  # after Ctrl-C nobody sleeps on
            for done, _ in enumerate(fetched, start=len(urls) - len(wanted) + 1):
                progress("pictures fetched", done, len(urls))

    def _fetch_one(self, client: httpx.Client, url: str) -> None:
        try:
            data = self._with_retries(lambda: self._get(client, url), url)
        except UnusablePicture as failure:
            if self._stopped.is_set():
                return
            if failure.reason == NOT_PUBLIC:
                self._refused.add(url)
                return
            note = {
                "url": url,
                "reason": failure.reason,
                "at": time.time(),
                "max_bytes": self.max_bytes,
            }
            _write(self._note_path(url), json.dumps(note).encode())
            return
        _write(self._path(url), data)
        self._note_path(url).unlink(missing_ok=True)

    def _with_retries(self, get: Callable[[], bytes], url: str) -> bytes:
        host = _host_of(url)
        if not host:
            raise UnusablePicture(NO_ADDRESS)
        wait = self.backoff
        for attempt in range(1, ATTEMPTS + 1):
            self._sleep(self._pace.seconds_to_wait(host))
            try:
                return get()
            except _Passing as failure:
                logger.debug("attempt %d for %s: %s", attempt, url, failure)
                if attempt < ATTEMPTS:
                    self._sleep(min(max(wait, failure.retry_after), LONGEST_WAIT))
                wait *= 2
        raise UnusablePicture(UNREACHABLE)

    def _get(self, client: httpx.Client, url: str) -> bytes:
        """Returns the body of one GET.

        Raises:
            _Passing: it may work another time.
            UnusablePicture: it will not.
        """
        import httpx

        deadline = time.monotonic() + WHOLE_SECONDS
        try:
            with client.stream("GET", url) as response:
                if response.status_code in BUSY or response.status_code >= 500:
                    raise _Passing(f"status {response.status_code}", _retry_after(response))
                if response.status_code != 200:
                    raise UnusablePicture(NOT_FOUND)
                data = bytearray()
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > self.max_bytes:
                        raise UnusablePicture(TOO_MANY_BYTES)
                    if time.monotonic() > deadline or self._stopped.is_set():
                        raise _Passing("too slow")
        except NotPublic as error:
            logger.debug("%s: %s", url, error)
            raise UnusablePicture(NOT_PUBLIC) from None
        except httpx.TooManyRedirects:
            raise UnusablePicture(TOO_MANY_REDIRECTS) from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError):
            raise UnusablePicture(NO_ADDRESS) from None
        except httpx.HTTPError as error:
            raise _Passing(str(error) or type(error).__name__) from error
        if not looks_like_a_picture(bytes(data[:16])):
            raise UnusablePicture(NO_PICTURE)
        return bytes(data)

    def _noted(self, url: str) -> str:
        """Returns the reason of a failure that is still believed, or nothing."""
        try:
            note: dict[str, Any] = json.loads(self._note_path(url).read_text(encoding="utf-8"))
            reason, at, limit = str(note["reason"]), float(note["at"]), int(note["max_bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        lasts = LASTING_SECONDS if reason in LASTING else PASSING_SECONDS
        too_old = time.time() - at > lasts
        small_limit = reason == TOO_MANY_BYTES and limit < self.max_bytes
        return "" if too_old or small_limit else reason

    def _path(self, url: str) -> Path:
        digest = hashlib.sha256(url.encode()).hexdigest()
        return self.cache / digest[:2] / digest

    def _note_path(self, url: str) -> Path:
        return self._path(url).with_suffix(".failed")

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(max(seconds, 0.0)):
            raise UnusablePicture(UNREACHABLE)


class _Passing(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, what: str, retry_after: float = 0.0) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class _Pace:
    """Gives each host its next free moment."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._free_at: defaultdict[str, float] = defaultdict(float)

    def seconds_to_wait(self, host: str) -> float:
        with self._lock:
            now = time.monotonic()
            at = max(self._free_at[host], now)
            self._free_at[host] = at + self._interval
            return at - now


def _host_of(url: str) -> str:
    """Returns the host of an http or https address, else nothing."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""


def _write(path: Path, data: bytes) -> None:
    try:
        with whole_file(path) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise OutputError(
            f"a picture cannot be kept in the cache: {error.strerror or error}",
            where=str(path.parent),
            hint="free some space, or name another folder with FEDPREP_CACHE",
        ) from error


def _retry_after(response: httpx.Response) -> float:
    """Returns the seconds that a server asks to wait; 0 where it names none (or a date)."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0


def _hosts_in_turn(urls: pl.Series) -> list[str]:
    """Returns the URLs with the hosts in turn, so that no host's pace holds up the others."""
    host = pl.col("url").str.extract(r"^[^:]*://([^/?#]*)").fill_null("")
    turn = pl.int_range(pl.len()).over(host)
    return urls.to_frame().with_row_index("row").sort(turn, "row")["url"].to_list()
