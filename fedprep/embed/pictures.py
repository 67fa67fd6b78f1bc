"""Where pictures lie, a folder or a zip, and which picture is an item's."""

from __future__ import annotations

import os
import zipfile
import zlib
from itertools import takewhile
from pathlib import Path
from typing import Protocol

import polars as pl

from fedprep.embed.decode import DAMAGED, UnusablePicture
from fedprep.errors import SourceError
from fedprep.schema import SOURCE_ID, Step

__all__ = [
    "TOO_MANY_BYTES",
    "UNREADABLE",
    "FolderStore",
    "PictureStore",
    "ZipStore",
    "match_pictures",
    "open_store",
]

SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File names that may match an item by their stem, in any case; content is judged when it is decoded."""

TOO_MANY_BYTES = "more than embed.image.max_bytes"
UNREADABLE = "cannot be read"


class PictureStore(Protocol):
    """Pictures by name."""

    def read(self, name: str) -> bytes:
        """Returns a picture's bytes; safe to call from several threads.

        Raises:
            UnusablePicture: it cannot be had, or is larger than the store allows.
        """

    def close(self) -> None:
        """Lets go of open files."""


class FolderStore:
    """The files in a folder and the folders below it."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def names(self) -> list[str]:
        """Returns the names of all files, sorted, with `/` between folders."""
        names = []
        for at, _, files in os.walk(self.folder):
            relative = Path(at).relative_to(self.folder).as_posix()
            prefix = "" if relative == "." else f"{relative}/"
            names += [prefix + file for file in files if self._is_inside(Path(at, file))]
        # A name that is no UTF-8 has surrogates here, and cannot be any item's.
        return sorted(name for name in names if name.isascii() or _is_unicode(name))

    def _is_inside(self, path: Path) -> bool:
        """Says whether a file is one of the folder's and no link to another place."""
        return not path.is_symlink() or path.resolve().is_relative_to(self.folder.resolve())

    def read(self, name: str) -> bytes:
        try:
            with (self.folder / name).open("rb") as file:
                data = file.read(self.max_bytes + 1)
        except OSError as error:
            raise UnusablePicture(UNREADABLE) from error
        return _bounded(data, self.max_bytes)

    def close(self) -> None:
        """Has nothing to let go of."""


class ZipStore:
    """The members of a zip file, read in place; their names are keys and never become paths."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        try:
            self._zip = zipfile.ZipFile(path)  # its members may be read by several threads
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise SourceError(
                f"the zip file of pictures cannot be read: {error}",
                where=str(path),
                hint="it may be cut short: copy or download it again",
            ) from error
        self._members = {m.filename: m for m in self._zip.infolist() if not m.is_dir()}

    def names(self) -> list[str]:
        """Returns the names of all members but folders, sorted."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        member = self._members[name]
        if member.file_size > self.max_bytes:
            raise UnusablePicture(TOO_MANY_BYTES)
        try:
            with self._zip.open(member) as file:
                data = file.read(self.max_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UnusablePicture(DAMAGED) from error
        except (
            OSError,
            RuntimeError,
            NotImplementedError,
        ) as error:  # encrypted, unknown compression
            raise UnusablePicture(UNREADABLE) from error
        return _bounded(data, self.max_bytes)

    def close(self) -> None:
        self._zip.close()


def open_store(path: Path, *, max_bytes: int) -> FolderStore | ZipStore:
    """Returns the store in a folder or a zip file (told by its content, not by its name).

    Raises:
        SourceError: nothing is there, or it is neither.
    """
    if path.is_dir():
        return FolderStore(path, max_bytes=max_bytes)
    if not path.is_file():
        raise SourceError(
            "there is no folder or zip file of pictures",
            where=str(path),
            hint="set embed.image.images",
        )
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] != b"PK" and not zipfile.is_zipfile(path):
        raise SourceError(
            "the store of pictures is neither a folder nor a zip file",
            where=str(path),
            expected='a folder, a .zip, or embed.image.images = "urls"',
        )
    return ZipStore(path, max_bytes=max_bytes)


def _bounded(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise UnusablePicture(TOO_MANY_BYTES)
    return data


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def match_pictures(items: pl.DataFrame, names: list[str]) -> tuple[pl.Series, list[Step]]:
    """Returns the name of each item's picture (null where there is none), in the order of the items.

    An item's picture is the one at the path `image`; or at that path once the folders that all paths
    of the items, and all names of the store, have in common are left out; or the one whose file name
    up to the last dot is `source_id`, letter by letter. Where several have that stem, the one in the
    fewest folders, then the first by name, is taken, and the step counts the others.

    Args:
        items: `source_id`, and `image` (a relative path, or null; a URL is no path).
        names: of the files in the store.
    """
    image = pl.col("image").cast(pl.String).str.strip_prefix("./")
    wanted = items.select(
        SOURCE_ID, path=pl.when(~image.str.contains("://", literal=True)).then(image)
    ).with_row_index("row")
    stored = pl.DataFrame({"name": names}, schema={"name": pl.String})
    below_wanted = _below_common_folder(wanted["path"])
    below_stored = _below_common_folder(stored["name"])
    by_path = _looked_up(wanted["path"], stored["name"], stored["name"])
    by_rest = _looked_up(below_wanted, below_stored, stored["name"])
    stems = _stems(stored)
    by_stem = _looked_up(wanted[SOURCE_ID], stems["stem"], stems["name"])
    found = pl.select(pl.coalesce(by_path, by_rest, by_stem)).to_series().rename("name")
    # Of the items that were found by their stem, those with a choice.
    chosen = wanted.filter(by_path.is_null() & by_rest.is_null()).join(
        stems.filter(pl.col("files") > 1), left_on=SOURCE_ID, right_on="stem", maintain_order="left"
    )
    if chosen.is_empty():
        return found, []
    step = Step(
        stage="embed",
        name="pictures of one item",
        rows_in=int(chosen["files"].sum()),
        rows_out=chosen.height,
        unit="images",
        why="several files are named like the item: the one in the fewest folders, then by name",
        examples=tuple(f"item {source_id}" for source_id in chosen[SOURCE_ID].head(3)),
    )
    return found, [step]


def _looked_up(keys: pl.Series, known: pl.Series, names: pl.Series) -> pl.Series:
    """Returns for each key the name that belongs to it, or null."""
    table = pl.DataFrame({"key": known, "name": names}).unique(
        "key", keep="first", maintain_order=True
    )
    return pl.DataFrame({"key": keys}).join(table, on="key", how="left", maintain_order="left")[
        "name"
    ]


def _below_common_folder(paths: pl.Series) -> pl.Series:
    """Returns the paths without the folders in which all of them lie."""
    first, last = paths.min(), paths.max()
    if not isinstance(first, str) or not isinstance(last, str):
        return paths
    # What the first and the last have in common, all between them have too.
    folders = zip(first.split("/")[:-1], last.split("/")[:-1], strict=False)
    common = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], folders)]
    return paths.str.strip_prefix("".join(f"{folder}/" for folder in common))


def _stems(stored: pl.DataFrame) -> pl.DataFrame:
    """Returns `stem`, `name` and `files` (how many have that stem), a row a stem, of picture files."""
    file = pl.col("name").str.extract(r"([^/]*)$")
    return (
        stored.with_columns(
            depth=pl.col("name").str.count_matches("/", literal=True),
            stem=file.str.extract(r"^(.*)\.[^.]*$"),
            suffix=file.str.extract(r"(\.[^.]*)$").str.to_lowercase(),
        )
        .filter(pl.col("suffix").is_in(SUFFIXES))
        .sort("depth", "name")
        .with_columns(files=pl.len().over("stem"))
        .unique("stem", keep="first", maintain_order=True)
        .select("stem", "name", "files")
    )
