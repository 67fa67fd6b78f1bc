"""`fetch`: fills the roles of a source with checked files, from the nearest place that has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedprep.errors import FetchError
from fedprep.fetch.archives import is_archive
from fedprep.fetch.found import Fetched, Search
from fedprep.fetch.given import is_member
from fedprep.fetch.near import from_hand, from_near
from fedprep.fetch.places import mirrors as named_mirrors
from fedprep.fetch.servers import from_network
from fedprep.fetch.store import Tried, official_name
from fedprep.fetch.unpacked import keep_unpacked, root_of
from fedprep.files import cache_folder
from fedprep.schema import Progress, RawFile, silent

__all__ = ["fetch"]


def fetch(
    files: Sequence[RawFile],
    *,
    cache: Path | None = None,
    mirrors: Sequence[str] | None = None,
    by_hand: Path | None = None,
    allow_unverified: bool = False,
    progress: Progress = silent,
) -> dict[str, Fetched]:
    """Returns what fills each role; optional roles that cannot be had are left out.

    Each file is looked for in what is given by hand, the cache, the mirror folders, the mirrors' URLs
    and at its own URLs, in this order. Whatever its place, its bytes are checked before they are used;
    files of mirror folders and those given by hand are used where they lie. Archives are unpacked into
    the cache where a role names members.

    Args:
        files: the roles.
        cache: the cache folder; None: `cache_folder()`.
        mirrors: folders and URLs; None: those of FEDPREP_MIRROR.
        by_hand: a file, or a folder that is searched with its subfolders.
        allow_unverified: take files whose checksum is not the official one; they are marked "differs".
        progress: told what is downloaded, checked, unpacked.

    Raises:
        ChecksumError: a file's bytes are not the official ones.
        FetchError: a file cannot be had, or is damaged; what was tried and the ways out are named.
        OutputError: the cache is full or cannot be written to.
    """
    search = Search(
        cache=(cache or cache_folder()).absolute(),
        mirrors=tuple(named_mirrors() if mirrors is None else mirrors),
        names=frozenset(name for raw in files for name in _official_names(raw)),
        any_bytes=allow_unverified,
        progress=progress,
    )
    tried = {raw.role: Tried() for raw in files}
    found = from_hand(files, by_hand, search, tried) if by_hand is not None else {}
    for raw in files:
        if raw.role not in found and (near := from_near(raw, search, tried[raw.role])):
            found[raw.role] = near
    own = any(file.how in ("by hand", "mirror") for file in found.values())
    missing = [
        replace(raw, optional=raw.optional or (own and raw.beside))
        for raw in files
        if raw.role not in found
    ]
    if missing:
        found |= from_network(missing, search, tried)
    return _unpack([raw for raw in files if raw.role in found], found, search)


def _official_names(raw: RawFile) -> list[str]:
    """Returns the names by which mirrors are searched; what needs a form may lie there unpacked."""
    members = raw.members if raw.form and len(raw.members) == 1 else ()
    return [official_name(candidate) for candidate in raw.candidates] + list(members)


def _unpack(
    files: Sequence[RawFile], found: dict[str, Fetched], search: Search
) -> dict[str, Fetched]:
    """Returns the roles with archives unpacked; one that several roles share is unpacked once."""
    archives: dict[Path, list[RawFile]] = {}
    for raw in files:
        path = found[raw.role].path
        if not raw.members or path.is_dir() or is_member(raw, path):
            continue
        if not is_archive(path):
            raise FetchError(
                f"{path.name} is no archive",
                where=str(path),
                expected=f"a zip, tar or tar.gz file with {', '.join(raw.members)}",
            )
        archives.setdefault(path, []).append(raw)
    filled = dict(found)
    for path, sharing in archives.items():
        members = sorted({member for raw in sharing for member in raw.members})
        sha256 = found[sharing[0].role].sha256
        folder, inside = keep_unpacked(
            path, sha256, members, search.cache, progress=search.progress
        )
        for raw in sharing:
            root = root_of(folder, inside, raw.members)
            if root is not None:
                filled[raw.role] = replace(found[raw.role], path=root)
            elif raw.optional:
                del filled[raw.role]
            else:
                raise FetchError(
                    f"{path.name} holds none of the wanted files",
                    where=str(path),
                    expected=", ".join(raw.members),
                )
    return {raw.role: filled[raw.role] for raw in files if raw.role in filled}
