"""What fills a role over HTTP: mirrors, else the file's own URLs; and the error where nothing does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from fedprep.errors import ChecksumError, FetchError
from fedprep.fetch.downloads import Network, Patience, open_network
from fedprep.fetch.found import Fetched, Search, names_of, of_stored
from fedprep.fetch.listings import file_url, files_listed
from fedprep.fetch.places import is_url
from fedprep.fetch.store import Tried, official_name, store
from fedprep.schema import Candidate, RawFile

__all__ = ["PATIENCE", "from_network"]

PATIENCE = Patience()
"""How long servers are waited for."""

WAYS_OUT = (
    "--from PATH takes the file or its folder, and so does FEDPREP_MIRROR;"
    " --from synthetic makes data up in its place"
)

log = logging.getLogger(__name__)


def from_network(
    files: Sequence[RawFile], search: Search, tried: dict[str, Tried]
) -> dict[str, Fetched]:
    """Returns the roles filled over HTTP: from mirrors, else from the files' own URLs.

    Raises:
        ChecksumError: every server has other bytes than the official ones.
        FetchError: a required role cannot be filled.
        OutputError: the cache is full or cannot be written to.
    """
    served = [raw for raw in files if _has_server(raw, search)]
    for raw in files:
        if raw not in served and not raw.optional:
            raise _not_had(raw, tried[raw.role], after=[])
    found: dict[str, Fetched] = {}
    if not served:
        return found
    with open_network(PATIENCE, search.progress) as network:
        for at, raw in enumerate(served):
            fetched = _from_servers(raw, search, tried[raw.role], network)
            if fetched is not None:
                found[raw.role] = fetched
            elif raw.optional and raw.beside:
                log.info("%s is left out: it cannot be had", names_of(raw))
            elif raw.optional:
                log.warning("%s is left out: it cannot be had", names_of(raw))
            else:
                after = [names_of(other) for other in served[at + 1 :] if not other.optional]
                raise _not_had(raw, tried[raw.role], after)
    return found


def _has_server(raw: RawFile, search: Search) -> bool:
    return any(c.urls for c in raw.candidates) or any(map(is_url, search.mirrors))


def _from_servers(raw: RawFile, search: Search, tried: Tried, network: Network) -> Fetched | None:
    for candidate in raw.candidates:
        if not candidate.urls and not any(map(is_url, search.mirrors)):
            continue
        urls = _urls(candidate, search, network)
        stored = store(
            candidate, urls, search.cache, network=network, tried=tried, any_bytes=search.any_bytes
        )
        if stored is not None:
            return of_stored(raw, candidate, stored)
    return None


def _urls(candidate: Candidate, search: Search, network: Network) -> Iterator[tuple[str, str]]:
    """Yields the URLs to ask, each with the one to write down."""
    name = official_name(candidate)
    for place in filter(is_url, search.mirrors):
        direct = file_url(place, name)
        yield direct, ""
        if place not in network.listings:
            network.listings[place] = files_listed(network.client, place)
        for url in network.listings[place]:
            if url != direct and unquote(url.rpartition("/")[2]) == name:
                yield url, ""
    yield from ((url, url) for url in candidate.urls)


def _not_had(raw: RawFile, tried: Tried, after: Sequence[str]) -> FetchError:
    """Returns the error that says what was tried for a role, and the ways out."""
    name = official_name(raw.candidates[0])
    where = "\n         ".join(tried.lines or ["no mirror is named (FEDPREP_MIRROR)"])
    more = f"; after it are wanted: {'; '.join(after)}" if after else ""
    if tried.wrong:
        got, expected = tried.wrong[0]
        return ChecksumError(
            f"{name} is had with other bytes than the official ones only: {got}",
            where=where,
            expected=expected,
            hint=f"--allow-unverified takes these bytes; {WAYS_OUT}",
        )
    if raw.form:
        return FetchError(
            f"{name} has to be asked for by hand{more}",
            where=where,
            expected=names_of(raw),
            hint=f"get it on {raw.form}; then {WAYS_OUT}",
        )
    return FetchError(f"{name} cannot be had{more}", where=where, hint=WAYS_OUT)
