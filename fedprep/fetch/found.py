"""A role that is filled, and the frame of the search for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fedprep.fetch.checksums import Digest
from fedprep.fetch.places import files_below, is_url, mirror_folder
from fedprep.fetch.store import Stored, official_name
from fedprep.schema import Candidate, Progress, RawFile

__all__ = ["Fetched", "Search", "fetched", "names_of", "of_stored"]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A role that is filled.

    path: the file, or the folder with the members of an archive: `path / member` is there for each
        member that the archive has.
    name: the official file name. url: where it came from; empty for a mirror's or one given by hand.
    how: "download", "mirror", "by hand", "cache".
    n_bytes, sha256: of the file or the archive; of a folder given by hand, see `digest_of_folder`.
    verified: "official", "no official checksum", "differs".
    """

    role: str
    path: Path
    name: str
    url: str
    how: str
    n_bytes: int
    sha256: str
    verified: str


@dataclass(frozen=True, kw_only=True)
class Search:
    """Where is searched, for which official names, and whether other bytes will do."""

    cache: Path
    mirrors: tuple[str, ...]
    names: frozenset[str]
    any_bytes: bool
    progress: Progress

    @cached_property
    def mirrored(self) -> dict[str, list[Path]]:
        """The files of those names in each mirror folder; each folder is walked once."""
        return {
            place: files_below(mirror_folder(place), self.names.__contains__)
            for place in self.mirrors
            if not is_url(place)
        }


def fetched(
    raw: RawFile, path: Path, name: str, digest: Digest, verdict: str, *, how: str, url: str = ""
) -> Fetched:
    """Returns the record of a role that is filled by a file or folder."""
    return Fetched(
        role=raw.role,
        path=path,
        name=name,
        url=url,
        how=how,
        n_bytes=digest.n_bytes,
        sha256=digest.sha256,
        verified=verdict,
    )


def of_stored(raw: RawFile, candidate: Candidate, stored: Stored) -> Fetched:
    """Returns the record of a role that is filled by a file in the cache."""
    how = ("download" if stored.url else "mirror") if stored.fresh else "cache"
    name = official_name(candidate)
    return fetched(raw, stored.path, name, stored.digest, stored.verdict, how=how, url=stored.url)


def names_of(raw: RawFile) -> str:
    """Returns the official names of a role in words, with those of its members."""
    names = " or ".join(dict.fromkeys(official_name(c) for c in raw.candidates))
    loose = [member for member in raw.members if member not in names]
    return names + (f" (or unpacked: {', '.join(loose)})" if loose else "")
