"""What `clients/index.parquet` says of the clients, against their rows."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.schema import CLIENT_ID, LABEL, SPLITS

__all__ = ["index_matches_shards"]

CLIENTS_AT_ONCE = 200_000
COUNTED = "_counted"
COUNTS = ("n_rows", *(f"n_{split}" for split in SPLITS), "n_users")
PLACE = ("file", "row_group", "offset", "n_rows")


def index_matches_shards(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Clients of whom the index says something else than the rows: counts, places, or measures that are no
    shares. `differs` names its columns."""
    parts = [_differences(tables, stretch).collect() for stretch in _stretches(tables)]
    return pl.concat(parts).lazy()


def _stretches(tables: Tables) -> Iterator[pl.Expr]:
    """Yields conditions that cut the clients into pieces; nulls go with the first."""
    client = pl.col(CLIENT_ID)
    ids = tables.totals.clients[CLIENT_ID]
    bounds = ids.gather_every(CLIENTS_AT_ONCE).to_list()[1:]
    lower = [client.is_not_null(), *(client >= bound for bound in bounds)]
    upper = [*(client < bound for bound in bounds), client.is_not_null()]
    for number, (low, high) in enumerate(zip(lower, upper, strict=True)):
        yield (low & high) | client.is_null() if number == 0 else low & high


def _differences(tables: Tables, stretch: pl.Expr) -> pl.LazyFrame:
    """Returns the clients of a stretch that differ, in order."""
    assert tables.index is not None
    has = tables.columns("index")
    index = tables.index.with_row_index("row_of_index").filter(stretch)
    index = index.with_columns(entries=pl.len().over(CLIENT_ID)).unique(CLIENT_ID, keep="first")
    counted = tables.totals.clients.lazy().filter(stretch)
    both = index.join(counted, on=CLIENT_ID, how="full", coalesce=True, suffix=COUNTED)
    wrong = {CLIENT_ID: (pl.col("entries") > 1) | pl.col(CLIENT_ID).is_null()}
    if tables.manifest is not None:  # ids are dense: the place in the index is the id
        wrong[CLIENT_ID] |= pl.col("row_of_index") != pl.col(CLIENT_ID)
    for name in (name for name in COUNTS if name in has):
        wrong[name] = pl.col(name).fill_null(0) != pl.col(name + COUNTED).fill_null(0)
    if "label_counts" in has and LABEL in tables.rows.columns:
        wrong["label_counts"] = _labels_differ(tables)
    if tables.rows.files and set(PLACE) <= has.keys():
        both = both.join(_groups(tables), on=["file", "row_group"], how="left")
        wrong["offset"] = _is_elsewhere()
    if "divergence" in has:
        wrong["divergence"] = ~pl.col("divergence").is_between(0, 1).fill_null(False)
    if "category_divergence" in has:
        both, wrong["category_divergence"] = _category_divergence(tables, both)
    names = [pl.when(is_wrong).then(pl.lit(name)) for name, is_wrong in wrong.items()]
    differs = pl.concat_str(names, separator=", ", ignore_nulls=True).alias("differs")
    shown = [name for name in ("n_rows", "n_train") if name in has]
    return (
        both.filter(pl.any_horizontal(wrong.values()))
        .with_columns(differs)
        .sort(CLIENT_ID)
        .select(CLIENT_ID, "differs", *shown, *(pl.col(name + COUNTED) for name in shown))
    )


def _labels_differ(tables: Tables) -> pl.Expr:
    """Returns whether the counts of an index row are not those of the labels."""
    counted = [name for name in tables.totals.clients.columns if name.startswith("label_")]
    dtype = tables.columns("index")["label_counts"]
    n_classes = dtype.shape[0] if isinstance(dtype, pl.Array) else 0
    said = {f"label_{k}": pl.col("label_counts").arr.get(k) for k in range(n_classes)}
    zero = pl.lit(0)
    return pl.any_horizontal(
        said.get(name, zero).fill_null(0)
        != (pl.col(name).fill_null(0) if name in counted else zero)
        for name in sorted({*said, *counted})
    )


def _groups(tables: Tables) -> pl.LazyFrame:
    """Returns `file`, `row_group`, the number of its first row among all, and its rows."""
    rows = []
    begin = 0
    for number, footer in enumerate(tables.rows.files.values()):
        for group, n_rows in enumerate(footer.groups):
            rows.append((number, group, begin, n_rows))
            begin += n_rows
    schema = {"file": pl.Int32, "row_group": pl.Int32, "begin": pl.Int64, "rows_of_group": pl.Int64}
    return pl.LazyFrame(rows, schema=schema, orient="row")


def _is_elsewhere() -> pl.Expr:
    """Returns whether a client's rows are not the `n_rows` from `offset` on in its row group."""
    first = pl.col("begin") + pl.col("offset")
    last = first + pl.col("n_rows") - 1
    inside = pl.col("offset") + pl.col("n_rows") <= pl.col("rows_of_group")
    here = (pl.col("row_first") == first) & (pl.col("row_last") == last) & inside
    return ~here.fill_null(False)


def _category_divergence(tables: Tables, both: pl.LazyFrame) -> tuple[pl.LazyFrame, pl.Expr]:
    """Returns the table and whether the measure is no share, or null for a client that has categories."""
    said = pl.col("category_divergence")
    no_share = ~said.is_between(0, 1).fill_null(True)
    assert tables.index is not None
    n_null = tables.index.select(said.null_count()).collect().item()
    if not n_null or tables.lacks("items.categories"):
        return both, no_share
    both = both.join(tables.category_drift.lazy(), on=CLIENT_ID, how="left")
    return both, no_share | (said.is_null() & pl.col("drift").is_not_null())
