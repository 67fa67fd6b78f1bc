"""How far the rows of one Dataset lie from those of another: histograms over the same bins.

With shares p and q of the two and m = (p + q) / 2:

- Jensen–Shannon, in bits: sum(p log2(p / m) + q log2(q / m)) / 2, from 0 (equal) to 1 (nothing shared);
- population stability index: sum((p - q) ln(p / q)). A bin that one side lacks counts as half a row
  there, so that the index stays finite. Under 0.1 is commonly read as stable, over 0.25 as shifted.

Rows are read streaming, and only counts are kept: memory follows the bins and the items, not the rows.

Reference: J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information
Theory 37 (1), 1991. N. Siddiqi, Credit Risk Scorecards, Wiley, 2006 (the index and its bounds).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from fedprep.dataset import Dataset
from fedprep.schema import ITEM_ID, LABEL, RATING, SOURCE_ID, TIMESTAMP

__all__ = ["chance_index", "compared", "drift"]

RATING_BINS = 200
"""Equal bins from the lowest to the highest rating of both; each number of stars has a bin of its own."""

YEAR_1, YEAR_10000 = -62_135_596_800, 253_402_300_800
MISSING, NOT_A_NUMBER, INFINITE, OUT_OF_RANGE = -1, -2, -3, -4
ODD = {
    MISSING: "missing",
    NOT_A_NUMBER: "NaN",
    INFINITE: "infinite",
    OUT_OF_RANGE: "no date of the years 1 to 9999",
}


def drift(a: Dataset, b: Dataset) -> list[dict[str, Any]]:
    """Returns the drift of ratings, labels, categories, rows per client, time and item popularity.

    Each is `{"what", "unit", "bins", "js", "psi", "chance", "widest": {"bin", "a", "b"}, "why"}`: the number
    of bins, both measures to six digits, the index that chance alone stays below (`chance_index`), and the
    bin whose share differs most. `js`, `psi`, `chance` and `widest` are None where the two cannot be
    compared, and `why` says so. Ratings and times that are missing, NaN or nowhere near a date are bins as
    well. A row counts for each category of its item.
    """
    lowest, highest = _rating_range(a, b)
    rows = [_counts(dataset, lowest, highest) for dataset in (a, b)]
    meanings = [_meaning_of_labels(dataset) for dataset in (a, b)]
    popularity = [_popularity(d, of["items"]) for d, of in zip((a, b), rows, strict=True)]
    categories = [_categories(d, of["items"]) for d, of in zip((a, b), rows, strict=True)]
    shared = popularity[0].join(popularity[1], on="bin", how="semi")
    return [
        compared("ratings", "rows", *_rating_bins(*(of["ratings"] for of in rows))),
        compared("labels", "rows", *(of["labels"] for of in rows))
        if meanings[0] == meanings[1]
        else _unmeasured("labels", "rows", "a label does not mean the same in both"),
        compared("categories", "rows and categories", *categories),
        compared("rows per client", "clients", *(_client_sizes(dataset) for dataset in (a, b))),
        compared("time", "rows by month", *(_months(of["time"]) for of in rows)),
        compared(
            "item popularity",
            "rows of shared items",
            *(table.join(shared, on="bin", how="semi") for table in popularity),
        ),
    ]


def _meaning_of_labels(dataset: Dataset) -> tuple[Any, ...]:
    clean = dataset.manifest["recipe"]["clean"]
    threshold = clean["threshold"] if clean["label"] == "binary" else None
    return clean["label"], threshold, dataset.manifest["classes"]


def _rating_range(a: Dataset, b: Dataset) -> tuple[float, float]:
    """Returns the lowest and the highest finite rating of both; zeros where there is none."""
    finite = pl.col(RATING).filter(pl.col(RATING).is_finite())
    ends = (finite.min().alias("low"), finite.max().alias("high"))
    wanted = [dataset.interactions().select(ends) for dataset in (a, b)]
    ranges = pl.concat(pl.collect_all(wanted, engine="streaming"))
    low, high = ranges.select(pl.col("low").min(), pl.col("high").max()).row(0)
    return (0.0, 0.0) if low is None else (low, high)


def _counts(dataset: Dataset, lowest: float, highest: float) -> dict[str, pl.DataFrame]:
    """Returns rows per rating, label, month and item: frames of the bin and `n`."""
    rows = dataset.interactions()
    rating, moment = pl.col(RATING), pl.col(TIMESTAMP)
    width = (highest - lowest) / RATING_BINS or 1.0
    place = ((rating.cast(pl.Float64) - lowest) / width).floor().clip(0, RATING_BINS - 1)
    stars = (
        pl.when(rating.is_null()).then(MISSING)
        .when(rating.is_nan()).then(NOT_A_NUMBER)
        .when(rating.is_infinite()).then(INFINITE)
        .otherwise(place).cast(pl.Int64).alias("bin")
    )  # fmt: skip
    dated = moment.is_between(YEAR_1, YEAR_10000, closed="left")
    date = pl.from_epoch(pl.when(dated).then(moment), time_unit="s").dt
    month = (
        pl.when(moment.is_null()).then(MISSING)
        .when(~dated).then(OUT_OF_RANGE)
        .otherwise(date.year().cast(pl.Int64) * 12 + date.month() - 1).alias("bin")
    )  # fmt: skip
    label = pl.col(LABEL).cast(pl.String).fill_null("missing").alias("bin")
    n = pl.len().cast(pl.Int64).alias("n")
    grouped = {
        "ratings": rows.group_by(stars).agg(n, rating.min().alias("low")),
        "labels": rows.group_by(label).agg(n),
        "time": rows.group_by(month).agg(n),
        "items": rows.group_by(ITEM_ID).agg(n),
    }
    frames = pl.collect_all(list(grouped.values()), engine="streaming")
    return dict(zip(grouped, frames, strict=True))


def _rating_bins(a: pl.DataFrame, b: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns both histograms with their bins named after the lowest rating that lies in them."""
    lowest = pl.col("low").min().cast(pl.Float64).round(4).cast(pl.String)
    names = pl.concat([a, b]).group_by("bin").agg(lowest)
    named = [table.drop("low").join(names, on="bin") for table in (a, b)]
    return _named(named[0], pl.col("low")), _named(named[1], pl.col("low"))


def _months(counts: pl.DataFrame) -> pl.DataFrame:
    month = (pl.col("bin") % 12 + 1).cast(pl.String).str.zfill(2)
    return _named(counts, pl.format("{}-{}", pl.col("bin") // 12, month))


def _named(counts: pl.DataFrame, name: pl.Expr) -> pl.DataFrame:
    odd = pl.col("bin").replace_strict(ODD, default=None, return_dtype=pl.String)
    return counts.select(pl.coalesce(odd, name).alias("bin"), "n")


def _popularity(dataset: Dataset, items: pl.DataFrame) -> pl.DataFrame:
    """Returns rows per item under its source id."""
    names = dataset.items().select(ITEM_ID, pl.col(SOURCE_ID).alias("bin"))
    named = items.lazy().join(names, on=ITEM_ID).group_by("bin").agg(pl.col("n").sum())
    return named.collect(engine="streaming")


def _categories(dataset: Dataset, items: pl.DataFrame) -> pl.DataFrame:
    """Returns rows per category; a row counts for each category of its item, one without for none."""
    of_items = dataset.items().select(ITEM_ID, pl.col("categories").alias("bin"))
    return (
        items.lazy()
        .join(of_items, on=ITEM_ID)
        .explode("bin", empty_as_null=False, keep_nulls=False)
        .group_by("bin")
        .agg(pl.col("n").sum())
        .collect(engine="streaming")
    )


def _client_sizes(dataset: Dataset) -> pl.DataFrame:
    """Returns clients per size, in bins that double: 1, 2 to 3, 4 to 7 …"""
    power = 31 - dataset.index["n_rows"].cast(pl.Int32).bitwise_leading_zeros().cast(pl.Int32)
    low = pl.lit(2, dtype=pl.Int64).pow(pl.col("power"))
    return (
        power.alias("power").value_counts(name="n").select(
            pl.format("{} to {}", low, 2 * low - 1).alias("bin"), pl.col("n").cast(pl.Int64)
        )
    )  # fmt: skip


def compared(what: str, unit: str, a: pl.DataFrame, b: pl.DataFrame) -> dict[str, Any]:
    """Returns the drift between two histograms: frames of `bin` (str, each once) and `n` (int64)."""
    bins = a.join(b, on="bin", how="full", coalesce=True, suffix="_b").fill_null(0).sort("bin")
    left, right = bins["n"].to_numpy().astype(np.float64), bins["n_b"].to_numpy()
    totals = left.sum(), right.sum()
    if min(totals, default=0) == 0:
        who = "neither has any" if not any(totals) else f"{'ab'[int(totals[0] > 0)]} has none"
        return _unmeasured(what, unit, who)
    p, q = left / totals[0], right / totals[1]
    widest = int(np.abs(p - q).argmax())
    named = {
        "bin": bins["bin"][widest],
        "a": round(float(p[widest]), 6),
        "b": round(float(q[widest]), 6),
    }
    return {
        "what": what,
        "unit": unit,
        "bins": bins.height,
        "js": round(_jensen_shannon(p, q), 6),
        "psi": round(_stability_index(p, q, *totals), 6),
        "chance": round(chance_index(bins.height, *totals), 6),
        "widest": named if p[widest] != q[widest] else None,
        "why": "",
    }


def _unmeasured(what: str, unit: str, why: str) -> dict[str, Any]:
    return {
        "what": what, "unit": unit, "bins": 0, "js": None, "psi": None, "chance": None, "widest": None,
        "why": why,
    }  # fmt: skip


def chance_index(n_bins: int, n_a: float, n_b: float) -> float:
    """Returns the stability index that two samples of one distribution stay below 999 times in 1,000.

    The index times n_a n_b / (n_a + n_b) is about chi-squared with n_bins - 1 degrees of freedom, whose
    quantile is Wilson and Hilferty's. Rows of a user are alike, so that few users vary by more.

    Reference: Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of
    Risk Model Validation 14 (4), 2020.
    """
    degrees = max(n_bins - 1, 1)
    spread = 2 / (9 * degrees)
    quantile = degrees * (1 - spread + 3.0902 * np.sqrt(spread)) ** 3
    return float(quantile * (1 / n_a + 1 / n_b))


def _jensen_shannon(p: Any, q: Any) -> float:
    """Returns the divergence of two distributions, float64 (n_bins,) each, in bits."""
    m = (p + q) / 2
    terms = [x[x > 0] * np.log2(x[x > 0] / m[x > 0]) for x in (p, q)]
    return float(np.clip(sum(term.sum() for term in terms) / 2, 0.0, 1.0))


def _stability_index(p: Any, q: Any, n_p: float, n_q: float) -> float:
    """Returns the population stability index; a bin that one side lacks counts as half a row there."""
    p, q = np.where(p > 0, p, 0.5 / n_p), np.where(q > 0, q, 0.5 / n_q)
    return float(((p - q) * np.log(p / q)).sum())
