"""A Dataset in other people's formats: CSV, RecBole's atomic files, Hugging Face, a folder per client."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl

from fedprep.dataset import Dataset
from fedprep.errors import FedprepError, nearest
from fedprep.files import Kind, checked_name, whole_folder
from fedprep.schema import (
    CLIENT_ID,
    ITEM_ID,
    RATING,
    SOURCE_ID,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    USER_ID,
    Progress,
    silent,
)

__all__ = ["EXPORTS", "export", "flat", "safe"]

MARKER = "exported-from.txt"
"""Names the Dataset and its id, and below that every file of the export."""


def _owns(folder: Path) -> list[str] | None:
    """Returns the files of an export where a folder is one, else None."""
    try:
        first, *files = (folder / MARKER).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return [MARKER, *files] if re.fullmatch(r".+ [0-9a-f]{64}", first) else None


EXPORT = Kind(name="export", owns=_owns)


PLACE = ("file", "row_group", "offset")
"""Columns of the index that say where a client's rows lie among the shards."""


def export(
    dataset: Dataset,
    out: Path,
    *,
    to: str,
    force: bool = False,
    safe_cells: bool = False,
    progress: Progress = silent,
) -> list[Path]:
    """Returns the files that it wrote below `out`, in the format `to` (see `EXPORTS`).

    Args:
        safe_cells: of CSV alone: no text is a formula to a spreadsheet, see `safe`.

    Raises:
        FedprepError: no such format, or no such cells in it. OutputError: `out` is taken, or cannot be
            written.
    """
    if to not in EXPORTS:
        raise FedprepError(f"no export is called '{to}'", hint=nearest(to, EXPORTS))
    if safe_cells and to != "csv":
        raise FedprepError(f"cells of '{to}' are read by programs as they are", hint="--to csv")
    write = partial(to_csv, safe_cells=True) if safe_cells else EXPORTS[to]
    with whole_folder(out, kind=EXPORT, force=force) as folder, dataset.blamed():
        write(dataset, folder, progress)
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        lines = "\n".join((f"{dataset.name} {dataset.id}", *names))
        (folder / MARKER).write_text(f"{lines}\n", encoding="utf-8")
    return sorted(path for path in out.rglob("*") if path.is_file())


def to_csv(dataset: Dataset, folder: Path, progress: Progress, *, safe_cells: bool = False) -> None:
    """interactions, items, users and clients as CSV; lists are joined by "|"."""
    tables = {
        "interactions": dataset.interactions(),
        "items": dataset.items(),
        "users": dataset.users(),
        "clients": dataset.index.lazy().drop(PLACE),
    }
    for name, table in tables.items():
        shown = safe(flat(table)) if safe_cells else flat(table)
        shown.sink_csv(folder / f"{name}.csv")


def to_recbole(dataset: Dataset, folder: Path, progress: Progress) -> None:
    """RecBole's atomic files: .inter, .item, .user and a .inter a split (benchmark_filename)."""
    name = checked_name(dataset.name, "the Dataset's name", where=str(dataset.path))
    columns = {
        f"{USER_ID}:token": USER_ID,
        f"{ITEM_ID}:token": ITEM_ID,
        f"{RATING}:float": RATING,
        f"{TIMESTAMP}:float": TIMESTAMP,
        f"{CLIENT_ID}:token": CLIENT_ID,
    }
    inter = [pl.col(column).alias(header) for header, column in columns.items()]
    dataset.interactions().select(inter).sink_csv(folder / f"{name}.inter", separator="\t")
    for split in SPLITS:
        rows = dataset.interactions(split).select(inter)
        rows.sink_csv(folder / f"{name}.{split}.inter", separator="\t")
    words = pl.col("categories").list.eval(pl.element().str.replace_all(r"\s+", "_")).list.join(" ")
    items = dataset.items().select(
        pl.col(ITEM_ID).alias("item_id:token"),
        _one_line("title").alias("title:token_seq"),
        _one_line("text").alias("text:token_seq"),
        words.alias("categories:token_seq"),
    )
    items.sink_csv(folder / f"{name}.item", separator="\t", quote_style="never")
    users = dataset.users().select(
        pl.col(USER_ID).alias("user_id:token"), pl.col(CLIENT_ID).alias("client_id:token")
    )
    users.sink_csv(folder / f"{name}.user", separator="\t")


def to_hf(dataset: Dataset, folder: Path, progress: Progress) -> None:
    """A folder for `datasets.load_dataset(folder, "interactions" | "items" | …)`: Parquet, a file a split."""
    data = folder / "data"
    data.mkdir()
    for split in SPLITS:
        rows = dataset.interactions(split).with_columns(pl.col(SPLIT).cast(pl.String))
        rows.sink_parquet(data / f"{split}.parquet")
    clients = dataset.index.lazy().drop(PLACE)  # rows lie in files of splits, no longer in shards
    tables = {"items": dataset.items(), "users": dataset.users(), "clients": clients}
    for modality in dataset.modalities:
        checked_name(modality, "a modality", where=str(dataset.path))
        tables[f"embeddings_{modality}"] = dataset.embeddings(modality)
    for name, table in tables.items():
        table.sink_parquet(folder / f"{name}.parquet")
    splits = "".join(
        f"      - split: {_hf_split(s)}\n        path: data/{s}.parquet\n" for s in SPLITS
    )
    configs = f"  - config_name: interactions\n    default: true\n    data_files:\n{splits}"
    configs += "".join(
        f"  - config_name: {name}\n    data_files: {name}.parquet\n" for name in tables
    )
    source = dataset.manifest["source"]
    (folder / "README.md").write_text(
        f"---\nconfigs:\n{configs}---\n\n# {dataset.name}\n\n"
        f"Dataset {dataset.id}, made by fedprep from {source['name']} ({source['homepage']}).\n\n"
        f"Terms of the data: {source['licence']}\n\nPlease cite: {source['citation']}\n",
        encoding="utf-8",
    )


def _hf_split(split: str) -> str:
    return "validation" if split == "valid" else split


def to_client_files(dataset: Dataset, folder: Path, progress: Progress) -> None:
    """A folder a client with its own rows, users and the items (with embeddings) that it knows of.

    For real nodes that must see their own shard alone. Thousands of clients give thousands of folders.
    """
    items = dataset.items().collect()
    for modality in dataset.modalities:
        vectors = (
            dataset.embeddings(modality).collect().rename({"embedding": f"{modality}_embedding"})
        )
        items = items.join(vectors, on=ITEM_ID, how="left", maintain_order="left")
    items.write_parquet(folder / "items.parquet")
    users = dataset.users().collect()
    n_clients = len(dataset.client_ids())
    for client_id, rows in dataset.clients():
        place = folder / f"client-{client_id:05d}"
        place.mkdir()
        rows.write_parquet(place / "interactions.parquet")
        own = rows[USER_ID].unique().implode()
        users.filter(pl.col(USER_ID).is_in(own)).drop(SOURCE_ID).write_parquet(
            place / "users.parquet"
        )
        if client_id % 100 == 0:
            progress("export", client_id, n_clients)
    progress("export", n_clients, n_clients)


def flat(table: pl.LazyFrame) -> pl.LazyFrame:
    """Returns the table with lists, arrays and structs as text, which CSV can hold."""
    schema = table.collect_schema()
    texts = []
    for name, dtype in schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Array):
            column, dtype = column.arr.to_list(), pl.List(dtype.inner)
        if isinstance(dtype, pl.Struct):
            texts.append(column.struct.json_encode().alias(name))
        elif isinstance(dtype, pl.List) and pl.Series(dtype=dtype.inner).dtype.is_nested():
            texts.append(pl.struct(column).struct.json_encode().alias(name))
        elif isinstance(dtype, pl.List):
            texts.append(column.cast(pl.List(pl.String)).list.join("|").alias(name))
    return table.with_columns(texts)


def safe(table: pl.LazyFrame) -> pl.LazyFrame:
    """Returns the table with a `'` before each text, and each column's name, that a spreadsheet may run.

    Those are the ones that begin with `=`, `+`, `-`, `@`, a tab or a carriage return, blanks before it or
    not. Numbers stay numbers.

    Source: OWASP, CSV Injection.
    """
    return table.with_columns(
        pl.col(pl.String).str.replace(r"^(\s*[=+\-@＝＋－＠\t\r])", "'$1")
    ).rename(lambda name: f"'{name}" if name.lstrip()[:1] in set("=+-@") else name)


def _one_line(column: str) -> pl.Expr:
    return pl.col(column).str.replace_all(r"\s+", " ")


EXPORTS: dict[str, Callable[[Dataset, Path, Progress], None]] = {
    "csv": to_csv,
    "recbole": to_recbole,
    "hf": to_hf,
    "client-files": to_client_files,
}
