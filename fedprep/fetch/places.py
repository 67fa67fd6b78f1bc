"""Where raw files may lie: the user's cache, the mirrors, folders searched by official name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote, urlsplit

__all__ = [
    "ends_as",
    "files_below",
    "find_file",
    "is_file",
    "is_folder",
    "is_url",
    "is_wild",
    "mirror_folder",
    "mirrors",
    "own_path",
]

WILD = frozenset("*?[")

_URL = r"(?:https?|file)://(?:[^\s,;/@]*@)?(?:\[[^\]]*\]|[^\s,;:/]*)(?::\d+)?"


def mirrors() -> tuple[str, ...]:
    """Returns the folders and URLs that FEDPREP_MIRROR names, in its order.

    They are separated by `os.pathsep`, commas, semicolons or spaces; a folder that exists may have
    spaces in its name.
    """
    return split_places(os.environ.get("FEDPREP_MIRROR", ""))


def split_places(text: str, separator: str = os.pathsep) -> tuple[str, ...]:
    """Returns the folders and URLs in a text; `https://host:8080/x` and `C:\\x` stay whole.

    Example:
        >>> split_places("/data/raw:https://host:8080/x,/more", ":")
        ('/data/raw', 'https://host:8080/x', '/more')
    """
    if text.strip() and is_folder(own_path(text.strip())):
        return (text.strip(),)
    stops = ",;\n" + (separator if separator == ":" else "")
    # A URL's own colons (scheme, port) are inside `_URL`; a later one separates.
    token = rf"{_URL}[^\s{stops}]*|(?:(?!(?:https?|file)://)[^{stops}])+"
    places: list[str] = []
    for piece in re.findall(token, text):
        piece = piece.strip()
        whole = is_url(piece) or is_folder(own_path(piece))
        places += [piece] if whole and piece else piece.split()
    return tuple(dict.fromkeys(places))


def is_url(place: str) -> bool:
    """Returns whether a mirror is reached over HTTP; a `file://` URL is a folder."""
    return place.startswith(("http://", "https://"))


def mirror_folder(place: str) -> Path:
    """Returns the folder that a mirror names as a path or a `file://` URL."""
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return own_path(place).absolute()


def files_below(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[Path]:
    """Returns the files in a folder and its subfolders whose name is wanted, shallow ones first.

    Links to folders are followed, each folder once. A folder that cannot be read counts as empty.
    """
    found = [path for path, is_folder in _below(folder) if not is_folder and wanted(path.name)]
    return sorted(found, key=lambda path: (len(path.parts), path.as_posix()))


def is_file(path: Path) -> bool:
    """Returns whether a file can be seen there; a name that no disk takes is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Returns whether a folder can be seen there."""
    try:
        return path.is_dir()
    except OSError:
        return False


def own_path(name: str | Path) -> Path:
    """Returns what a name stands for: the path that is there, else with `~` as the user's home folder."""
    path = Path(name)
    return path if is_file(path) or is_folder(path) else path.expanduser()


def is_wild(member: str) -> bool:
    """Returns whether a member is a pattern rather than a name."""
    return not WILD.isdisjoint(member)


def ends_as(path: PurePath, member: str) -> bool:
    """Returns whether a path ends as a member: a name, with or without folders, or a pattern."""
    called = PurePosixPath(member).parts
    if path.parts[-len(called) :] == called:
        return True
    # The name alone decides nearly always, and is much quicker.
    return fnmatchcase(path.name, PurePosixPath(member).name) and path.match(member)


def find_file(
    name: str | Path, *, folders: Sequence[Path] = (), mirrors: Sequence[str] | None = None
) -> Path | None:
    """Returns the file or folder of that name: as given, in the folders, or below a mirror folder.

    Args:
        name: a path, or a file name with or without folders before it.
        folders: looked into in turn, without their subfolders; a file among them stands for itself.
        mirrors: folders searched with their subfolders; None: those that FEDPREP_MIRROR names.
    """
    own = own_path(name)
    for path in (own, *(Path(folder) / own for folder in folders)):
        if is_file(path) or is_folder(path):
            return path.absolute()
    for folder in map(Path, folders):
        if folder.name == own.name and is_file(folder):
            return folder.absolute()
    places = split_places(os.environ.get("FEDPREP_MIRROR", "")) if mirrors is None else mirrors
    tail = PurePosixPath(own.as_posix()).parts
    for place in places:
        if is_url(place) or own.is_absolute():
            continue
        below = _below(mirror_folder(place))
        matches = [path for path, _ in below if path.parts[-len(tail) :] == tail]
        if matches:
            return min(matches, key=lambda path: (len(path.parts), path.as_posix())).absolute()
    return None


def _below(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yields every path below a folder, and whether it is a folder."""
    visited = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        status = Path(at).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from ((Path(at, name), True) for name in folders)
        yield from ((Path(at, name), False) for name in files)
