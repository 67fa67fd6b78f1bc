"""The cache of unpacked archives: `unpacked/<first 16 of its sha256>/`, with a mark of what is whole."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fedprep.fetch.archives import unpack
from fedprep.fetch.places import ends_as, files_below
from fedprep.fetch.space import writing
from fedprep.fetch.store import alone
from fedprep.files import sha256_of, whole_file
from fedprep.schema import Progress, silent

__all__ = ["keep_unpacked", "root_of"]


def keep_unpacked(
    archive: Path,
    sha256: str,
    members: Sequence[str],
    cache: Path,
    progress: Progress = silent,
) -> tuple[Path, list[str]]:
    """Returns the folder that holds the wanted members of an archive, and all files in it.

    Args:
        archive: zip or tar.
        sha256: of the archive; the folder is named by it.
        members: see `unpack`; those of an earlier call stay there too.
        cache: the cache folder.
        progress: told while bytes are written.

    Raises:
        FetchError: see `unpack`.
        OutputError: the disk is full or cannot be written to.
    """
    folder = cache / "unpacked" / sha256[:16]
    mark = folder.with_name(f"{folder.name}.json")
    members = tuple(sorted(set(members)))
    done = _whole(folder, mark, sha256)
    if done is not None and done.members.issuperset(members):
        return folder, done.files
    with alone(folder, progress=progress):
        done = _whole(folder, mark, sha256)  # another process may have been here
        if done is None:
            with writing(folder.parent, folder.name):
                mark.unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
            done = _Done(members=frozenset(), files=[])
        missing = sorted(set(members) - done.members)
        if missing:
            _clear_away(folder)
            unpack(archive, folder, members=missing, progress=progress)
            done = _write_mark(folder, mark, sha256, done.members.union(missing))
    return folder, done.files


def root_of(folder: Path, files: Iterable[str], members: Iterable[str]) -> Path | None:
    """Returns the folder below `folder` from which `members` are relative paths; None where none is.

    So `root_of(…, ["ratings.dat"]) / "ratings.dat"` is a file, wherever it lay in the archive.

    Args:
        folder: an unpacked archive.
        files: the paths in it.
        members: what is wanted.
    """
    paths = [PurePosixPath(file) for file in files]
    roots = []
    for member in members:
        matches = [path for path in paths if ends_as(path, member)]
        if matches:
            first = min(matches, key=lambda path: (len(path.parts), path))
            roots.append(folder / first.parents[len(PurePosixPath(member).parts) - 1])
    return Path(os.path.commonpath(roots)) if roots else None


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What was unpacked before."""

    members: frozenset[str]
    files: list[str]


def _whole(folder: Path, mark: Path, sha256: str) -> _Done | None:
    """Returns what was unpacked before; None where a file of it is not as it was."""
    try:
        entry = json.loads(mark.read_text(encoding="utf-8"))
        if entry["sha256"] == sha256 and entry["files"] == _digests(folder, entry["files"]):
            return _Done(members=frozenset(entry["members"]), files=list(entry["files"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # no mark, or not a whole one: nothing counts as unpacked
    return None


def _write_mark(folder: Path, mark: Path, sha256: str, members: frozenset[str]) -> _Done:
    with writing(folder.parent, mark.name):
        names = sorted(path.relative_to(folder).as_posix() for path in files_below(folder))
        entry = {"sha256": sha256, "members": sorted(members), "files": _digests(folder, names)}
        with whole_file(mark) as beside:
            beside.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    return _Done(members=members, files=names)


def _digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the SHA-256 of each file: what is read of an archive is what was in it."""
    return {name: sha256_of(folder / name) for name in names}


def _clear_away(folder: Path) -> None:
    """Removes what killed processes left beside a folder; its lock is ours, so nobody writes there."""
    with suppress(OSError):
        for stale in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
            shutil.rmtree(stale, ignore_errors=True)
