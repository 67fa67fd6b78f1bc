"""The cache of downloaded files: one folder a file, one writer at a time, a record beside it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fedprep import files
from fedprep.fetch.checksums import (
    DIFFERS,
    OFFICIAL,
    Digest,
    digest_of,
    got_and_expected,
    judge,
    read_record,
    wants_md5,
    write_record,
)
from fedprep.fetch.downloads import Network, Unreachable, WrongSize, download
from fedprep.fetch.parts import Part
from fedprep.fetch.places import is_file
from fedprep.fetch.space import writing
from fedprep.schema import Candidate, Progress, silent

__all__ = ["Stored", "Tried", "alone", "find_stored", "official_name", "place_of", "store"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A whole file in the cache. `url` is empty where it came from a mirror; `fresh`: just now."""

    path: Path
    digest: Digest
    verdict: str
    url: str
    fresh: bool = False


@dataclass(kw_only=True)
class Tried:
    """What was tried for a file, in order, and how it went."""

    lines: list[str] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)  # (got, expected) of wrong bytes

    def add(self, place: str, reason: str) -> None:
        self.lines.append(f"{place}: {reason}")
        log.info("%s: %s", place, reason)


def official_name(candidate: Candidate) -> str:
    """Returns a candidate's file name; a recipe's own file may be named with folders."""
    return PurePosixPath(candidate.name.replace("\\", "/")).name


def place_of(candidate: Candidate, cache: Path) -> Path:
    """Returns where the cache keeps a candidate.

    Names alone do not tell files apart: two editions of Amazon have a `meta_Books.json.gz`.
    """
    known = candidate.sha256 or candidate.md5 or "".join(candidate.urls[:1]) or candidate.name
    key = hashlib.sha256(known.lower().encode()).hexdigest()[:16]
    return cache / "files" / key / official_name(candidate)


@contextmanager
def alone(path: Path, *, progress: Progress = silent) -> Iterator[None]:
    """Lets one process at a time pass for a path; the lock of a killed process is free.

    Raises:
        OutputError: the folder cannot be written to.
    """
    with writing(path.parent, path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
    with files.alone(path, progress=progress):
        yield


def find_stored(
    candidate: Candidate, cache: Path, *, any_bytes: bool, progress: Progress = silent
) -> Stored | None:
    """Returns a candidate that the cache holds, by its bytes."""
    path = place_of(candidate, cache)
    if not is_file(path):
        return None
    digest = digest_of(path, md5=wants_md5([candidate]), progress=progress)
    known = read_record(_record(path))
    ours = known is not None and known[0].sha256 == digest.sha256
    _, verdict = judge([candidate], digest)
    # Without an official checksum a file is known by its record alone: a changed one is not ours.
    if (verdict == DIFFERS and not any_bytes) or (not ours and verdict != OFFICIAL):
        return None
    url = known[1].get("url", "") if known is not None and ours else ""
    return Stored(path=path, digest=digest, verdict=verdict, url=url)


def store(
    candidate: Candidate,
    urls: Iterable[tuple[str, str]],
    cache: Path,
    *,
    network: Network,
    tried: Tried,
    any_bytes: bool = False,
) -> Stored | None:
    """Returns the candidate in the cache, downloaded from the first URL that gives the right bytes.

    Args:
        candidate: what is wanted.
        urls: pairs of the URL to ask and the URL to write down (empty for a mirror's).
        cache: the cache folder.
        network: how servers are asked.
        tried: takes what went wrong; where nothing is returned, it says why.
        any_bytes: where no URL has the official bytes, take the first others that are whole.

    Raises:
        OutputError: the disk is full or cannot be written to.
    """
    path = place_of(candidate, cache)
    with alone(path, progress=network.progress):
        ready = find_stored(candidate, cache, any_bytes=any_bytes, progress=network.progress)
        if ready is not None:
            return ready  # another process has just fetched it
        aside = path.with_name(f"{path.name}.differs")
        other: tuple[Digest, str] | None = None
        part = Part(
            path.with_name(f"{path.name}.part"),
            md5=wants_md5([candidate]),
            checked=bool(candidate.sha256 or candidate.md5),
            progress=network.progress,
        )
        for url, origin in urls:
            try:
                digest = _whole(url, part, candidate, network, any_bytes=any_bytes)
            except Unreachable as error:
                tried.add(url, str(error))
                tried.wrong += [error.differing] if isinstance(error, WrongSize) else []
                continue
            _, verdict = judge([candidate], digest)
            if verdict != DIFFERS:
                part.sync()
                stored = _keep(part.path, path, digest, verdict, origin)
                part.forget()
                return stored
            got, expected = got_and_expected(candidate, digest)
            tried.add(url, f"other bytes, {got}")
            tried.wrong.append((got, expected))
            if any_bytes and other is None:
                with writing(path.parent, path.name):
                    part.path.replace(aside)
                other = (digest, origin)
            part.forget()
        return other and _keep(aside, path, other[0], DIFFERS, other[1])


def _whole(
    url: str, part: Part, candidate: Candidate, network: Network, *, any_bytes: bool
) -> Digest:
    """Returns the digest of a whole download; a resumed one that differs is fetched anew, once."""
    n_bytes = 0 if any_bytes else candidate.n_bytes
    digest = download(url, part, network, n_bytes=n_bytes)
    if part.resumed and judge([candidate], digest)[1] == DIFFERS:
        log.info("%s was resumed to other bytes: it is fetched anew", candidate.name)
        part.forget()
        digest = download(url, part, network, n_bytes=n_bytes)
    return digest


def _keep(arrived: Path, path: Path, digest: Digest, verdict: str, url: str) -> Stored:
    """Gives a whole file its name. Its record is there first: a kill in between loses nothing."""
    with writing(path.parent, path.name):
        write_record(_record(path), digest, url=url)
        arrived.replace(path)
    return Stored(path=path, digest=digest, verdict=verdict, url=url, fresh=True)


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
