"""A mirror's folders, read from the index pages that a web server makes of them."""

from __future__ import annotations

import logging
from collections import deque
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

if TYPE_CHECKING:
    import httpx

__all__ = ["file_url", "files_listed"]

_MAX_PAGES = 200
_MAX_PAGE_BYTES = 8 << 20

log = logging.getLogger(__name__)


def file_url(base: str, name: str) -> str:
    """Returns the URL of a file directly in a mirror."""
    return base.rstrip("/") + "/" + quote(name)


def files_listed(client: httpx.Client, base: str) -> list[str]:
    """Returns the URLs of all files in a mirror and its subfolders, shallow ones first.

    A server that shows no index pages yields none.
    """
    start = base.rstrip("/") + "/"
    queue, seen = deque([start]), {start}
    files: list[str] = []
    for _ in range(_MAX_PAGES):
        if not queue:
            break
        for link in sorted(_links(client, queue.popleft())):
            if link not in seen and link.startswith(start):
                seen.add(link)
                (queue if link.endswith("/") else files).append(link)
    if queue:
        log.warning("%s has more than %d folders: the rest is not searched", base, _MAX_PAGES)
    return files


def _links(client: httpx.Client, page: str) -> set[str]:
    """Returns the absolute links of an index page, without query and fragment; none if it is no page."""
    import httpx

    try:
        with client.stream("GET", page) as response:
            if response.status_code != 200 or "html" not in response.headers.get(
                "Content-Type", ""
            ):
                return set()
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_PAGE_BYTES:
                    return set()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.info("no index page at %s: %s", page, error)
        return set()
    parser = _Anchors()
    parser.feed(body.decode("utf-8", errors="replace"))
    links = (urlsplit(urljoin(str(response.url), target)) for target in parser.targets)
    return {urlunsplit((*link[:3], "", "")) for link in links}


class _Anchors(HTMLParser):
    """Collects the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for key, value in attrs if tag == "a" and key == "href" and value]
