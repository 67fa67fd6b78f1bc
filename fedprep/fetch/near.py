"""What fills a role without the network: what the user gives, the cache, mirror folders."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from fedprep.errors import ChecksumError, FetchError
from fedprep.fetch.checksums import (
    DIFFERS,
    OFFICIAL,
    UNKNOWN,
    digest_of,
    got_and_expected,
    judge,
    wants_md5,
)
from fedprep.fetch.found import Fetched, Search, fetched, names_of, of_stored
from fedprep.fetch.given import digest_of_folder, files_given, folder_given, is_member, is_renamed
from fedprep.fetch.places import files_below, is_file, is_folder, is_wild, mirror_folder, own_path
from fedprep.fetch.store import Tried, find_stored, official_name
from fedprep.schema import Candidate, RawFile

__all__ = ["from_hand", "from_near"]

log = logging.getLogger(__name__)


def from_hand(
    files: Sequence[RawFile], given: Path, search: Search, tried: dict[str, Tried]
) -> dict[str, Fetched]:
    """Returns the roles that a file or folder given by hand fills; at least one.

    Raises:
        ChecksumError: a file's bytes are not the official ones.
        FetchError: there is nothing at that path, or nothing that fills a role.
    """
    given = own_path(given).absolute()
    if not is_file(given) and not is_folder(given):
        raise FetchError(f"there is nothing at --from {given}, or it may not be read")
    inside = files_below(given) if is_folder(given) else [given]
    required = [raw for raw in files if not (raw.optional or raw.beside)]
    found = {}
    for raw in files:
        paths = files_given(raw, inside)
        folder = folder_given(raw, given, inside) if not paths and given.is_dir() else None
        if paths:
            found[raw.role] = _checked(raw, paths, search, how="by hand")
        elif folder is not None:
            found[raw.role] = _loose(raw, folder, search)
        elif given.name not in search.names and is_renamed(raw, given, alone=required == [raw]):
            found[raw.role] = _checked(raw, [given], search, how="by hand")
        else:
            tried[raw.role].add(f"--from {given}", "has no such file")
    if not found:
        raise FetchError(
            "what is given by hand holds none of the raw files",
            where=f"--from {given} ({len(inside):,} files)",
            expected="; ".join(names_of(raw) for raw in required or files),
        )
    return found


def from_near(raw: RawFile, search: Search, tried: Tried) -> Fetched | None:
    """Returns a role filled from the cache, a mirror folder, or a path that the recipe itself names.

    An official file in the cache is as good as a mirror's. One without an official checksum comes after
    the mirrors, which somebody has named.

    Raises:
        ChecksumError: a mirror's file has not the official bytes.
    """
    stored = _from_cache(raw, search)
    if stored is not None and stored.verified == OFFICIAL:
        return stored
    own = _of_recipe(raw, search)
    if own is not None:
        return own
    paths = [path for found in search.mirrored.values() for path in _of_role(raw, found)]
    if paths:
        return _checked(raw, paths, search, how="mirror")
    for place in search.mirrored:
        there = is_folder(mirror_folder(place))
        tried.add(f"mirror {place}", "has no such file" if there else "no such folder")
    return stored


def _of_recipe(raw: RawFile, search: Search) -> Fetched | None:
    """Returns a role filled by a path, or a pattern of paths, that has no URL: the user's own data."""
    for candidate in raw.candidates:
        path = own_path(candidate.name).absolute()
        if candidate.urls:
            continue
        if is_file(path) and is_wild(candidate.name):
            return _loose(raw, path.parent, search)  # a file that is called like a pattern
        if is_file(path):
            return _checked(raw, [path], search, how="by hand")
        if is_wild(candidate.name):
            said = own_path(candidate.name).parts  # the folders before it are no pattern
            fixed = list(takewhile(lambda part: not is_wild(part), said))
            folder = Path(*path.parts[: len(path.parts) - len(said)], *fixed)
            if any(folder.glob(path.relative_to(folder).as_posix())):
                return _loose(raw, folder, search)
    return None


def _loose(raw: RawFile, folder: Path, search: Search) -> Fetched:
    """Returns a role filled by its members, which lie unpacked in a folder."""
    digest = digest_of_folder(raw, folder, progress=search.progress)
    return fetched(raw, folder, folder.name, digest, UNKNOWN, how="by hand")


def _from_cache(raw: RawFile, search: Search) -> Fetched | None:
    found = []
    for candidate in raw.candidates:
        stored = find_stored(
            candidate, search.cache, any_bytes=search.any_bytes, progress=search.progress
        )
        if stored is not None:
            found.append(of_stored(raw, candidate, stored))
    return min(found, key=lambda fetched: fetched.verified != OFFICIAL, default=None)


def _of_role(raw: RawFile, paths: Sequence[Path]) -> list[Path]:
    """Returns the paths that have a name of the role: by candidate, then by likeness to its URLs.

    Likeness, as names repeat: `metaFiles2/meta_Books.json.gz` is no other edition's.
    """
    found: list[Path] = []
    for candidate in raw.candidates:
        named = [path for path in paths if path.name == official_name(candidate)]
        tails = [PurePosixPath(unquote(urlsplit(url).path)).parts[::-1] for url in candidate.urls]
        found += sorted(named, key=lambda path: -max((_shared(path, t) for t in tails), default=0))
    if not found and raw.form:
        return [path for path in paths if is_member(raw, path)]
    return list(dict.fromkeys(found))


def _shared(path: Path, tail: Sequence[str]) -> int:
    """Returns how many last parts a path shares with a URL, whose parts are given backwards."""
    differing = (n for n, (a, b) in enumerate(zip(path.parts[::-1], tail, strict=False)) if a != b)
    return next(differing, min(len(path.parts), len(tail)))


def _checked(raw: RawFile, paths: Sequence[Path], search: Search, *, how: str) -> Fetched:
    """Returns a role filled by the first path with the right bytes.

    Raises:
        ChecksumError: none has them, and others will not do.
    """
    others = []
    for path in paths:
        named = _candidates_of(raw, path)
        digest = digest_of(path, md5=wants_md5(named), progress=search.progress)
        candidate, verdict = judge(named, digest)
        if verdict != DIFFERS:
            name = official_name(candidate) if verdict == OFFICIAL else path.name
            return fetched(raw, path, name, digest, verdict, how=how)
        others.append((path, candidate, digest))
    path, candidate, digest = others[0]
    if search.any_bytes:
        log.warning("%s differs from the official file", path)
        return fetched(raw, path, path.name, digest, DIFFERS, how=how)
    got, expected = got_and_expected(candidate, digest)
    raise ChecksumError(
        f"{path.name} is not the official file: its bytes have {got}",
        where=", ".join(str(path) for path, _, _ in others),
        expected=expected,
        hint="fetch it anew, or take it as it is with --allow-unverified",
    )


def _candidates_of(raw: RawFile, path: Path) -> Sequence[Candidate]:
    """Returns what a file may be: those of its name, a member (has no checksum), else any."""
    named = [c for c in raw.candidates if official_name(c) == path.name]
    if not named and is_member(raw, path):
        return [Candidate(name=path.name)]
    return named or raw.candidates
