"""The cache of unpacked archives: `unpacked/<first 16 of its sha256>/`, with a mark of what is whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from fedprep.fetch.archives import unpack
from fedprep.fetch.space import writing
from fedprep.fetch.store import alone
from fedprep.files import whole_file
from fedprep.schema import Progress, silent

__all__ = ["keep_unpacked", "root_of"]


def keep_unpacked(
    archive: Path,
    sha256: str,
    members: Sequence[str],
    cache: Path,
    progress: Progress = silent,
) -> Path:
    """Returns the folder that holds the wanted members of an archive, unpacked now or before.

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
    done = _whole(folder, mark, sha256)
    if done is not None and done.issuperset(members):
        return folder
    with alone(folder, progress=progress):
        done = _whole(folder, mark, sha256) or set()  # another process may have been here
        missing = sorted(set(members) - done)
        if not missing:
            return folder
        _clear_away(folder)
        if not done:
            with writing(folder.parent, folder.name):
                mark.unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
        unpack(archive, folder, members=missing, progress=progress)
        _write_mark(folder, mark, sha256, done.union(missing))
    return folder


def root_of(folder: Path, members: Iterable[str]) -> Path | None:
    """Returns the folder below `folder` from which `members` are relative paths; None where none is.

    So `root_of(…, ["ratings.dat"]) / "ratings.dat"` is a file, wherever it lay in the archive.
    """
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    roots = []
    for member in members:
        depth = len(PurePosixPath(member).parts)
        matches = [path for path in files if PurePosixPath(path.as_posix()).match(member)]
        if matches:
            first = min(matches, key=lambda path: (len(path.parts), path.as_posix()))
            roots.append(folder.joinpath(*first.parts[:-depth]))
    return Path(os.path.commonpath(roots)) if roots else None


def _whole(folder: Path, mark: Path, sha256: str) -> set[str] | None:
    """Returns the members that were unpacked before; None where a file of them is not as it was."""
    try:
        entry = json.loads(mark.read_text(encoding="utf-8"))
        if entry["sha256"] == sha256 and entry["files"] == _state(folder, entry["files"]):
            return set(entry["members"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no mark, or not a whole one: nothing counts as unpacked
    return None


def _write_mark(folder: Path, mark: Path, sha256: str, members: set[str]) -> None:
    with writing(folder.parent, mark.name):
        folder.mkdir(exist_ok=True)  # no member was found
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        entry = {
            "sha256": sha256,
            "members": sorted(members),
            "files": _state(folder, sorted(names)),
        }
        with whole_file(mark) as beside:
            beside.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")


def _state(folder: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """Returns size and time of last change of each file."""
    states = ((name, (folder / name).stat()) for name in names)
    return {name: [status.st_size, status.st_mtime_ns] for name, status in states}


def _clear_away(folder: Path) -> None:
    """Removes what killed processes left beside a folder; its lock is ours, so nobody writes there."""
    with suppress(OSError):
        for stale in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(stale, ignore_errors=True)
