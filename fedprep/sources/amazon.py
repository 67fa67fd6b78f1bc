"""Amazon product reviews, editions 2014, 2018 and 2023, one category at a time.

Reference: R. He and J. McAuley, WWW 2016 (edition 2014). J. Ni, J. Li and J. McAuley, EMNLP 2019
(2018). Y. Hou et al., arXiv:2403.03952, 2024 (2023).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from fedprep import recipe
from fedprep.errors import RecipeError
from fedprep.schema import Candidate, Progress, RawFile, RawTables, Step
from fedprep.sources.amazon_items import no_items, read_items
from fedprep.sources.delimited import stage_delimited
from fedprep.sources.facts import chosen, facts, terms_of
from fedprep.sources.jsonl import stage_jsonl
from fedprep.sources.kind import SourceKind, Terms
from fedprep.sources.tidy import tidy_id, unusable, without_duplicates

__all__ = ["AMAZON"]

log = logging.getLogger(__name__)

EDITIONS = ("2014", "2018", "2023")
RATINGS = (1.0, 5.0)

KEYS_OLD = {
    "user": "reviewerID",
    "item": "asin",
    "rating": "overall",
    "timestamp": "unixReviewTime",
}
KEYS_2023 = {"user": "user_id", "item": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
TEXTS_OLD = ("summary", "reviewText")
TEXTS_2023 = ("title", "text")


def _edition(options: recipe.Source) -> str:
    return chosen("edition", options.edition, EDITIONS)


def _subset(options: recipe.Source) -> str:
    usual = "all" if _edition(options) == "2023" else "5core"
    return options.subset or usual


def files(options: recipe.Source) -> tuple[RawFile, ...]:
    """Returns the two files of a category: `reviews` and `meta`, without which items have no titles.

    Raises:
        RecipeError: no such edition, no such category in it, or no such subset of it.
    """
    edition = _edition(options)
    known = facts("amazon")[edition]
    category = chosen(
        "category", options.category, known.get("categories", known.get("reviews", ()))
    )
    find = {"2014": _files_2014, "2018": _files_2018, "2023": _files_2023}[edition]
    reviews, meta = find(known, category, _subset(options))
    return (
        RawFile(role="reviews", candidates=reviews),
        RawFile(role="meta", candidates=meta, beside=True),
    )


Candidates = tuple[Candidate, ...]


def _files_2014(
    known: Mapping[str, Any], category: str, subset: str
) -> tuple[Candidates, Candidates]:
    def candidates(name: str) -> Candidates:
        urls = tuple(url + name for url in known["urls"])
        return (Candidate(name=name, urls=urls, md5=known["md5"].get(name, "")),)

    core = "_5" if subset == "5core" else ""
    return candidates(f"reviews_{category}{core}.json.gz"), candidates(f"meta_{category}.json.gz")


def _files_2018(
    known: Mapping[str, Any], category: str, subset: str
) -> tuple[Candidates, Candidates]:
    def candidates(name: str, *folders: str) -> Candidates:
        urls = tuple(f"{url}{folder}/{name}" for folder in folders for url in known["urls"])
        return (Candidate(name=name, urls=urls),)

    meta = candidates(f"meta_{category}.json.gz", "metaFiles2", "metaFiles")
    if subset == "5core":
        return candidates(f"{category}_5.json.gz", "categoryFilesSmall"), meta
    return candidates(f"{category}.json.gz", "categoryFiles"), meta


def _files_2023(
    known: Mapping[str, Any], category: str, subset: str
) -> tuple[Candidates, Candidates]:
    def candidates(folder: str, name: str, fact: tuple[int, str]) -> Candidates:
        n_bytes, sha256 = fact
        path = f"{folder}/{name}"
        packed = tuple(f"{url}{path}.gz" for url in known["urls"])
        return (
            Candidate(name=name, urls=(known["hub"] + path,), n_bytes=n_bytes, sha256=sha256),
            Candidate(name=f"{name}.gz", urls=packed),
        )

    meta = candidates("raw/meta_categories", f"meta_{category}.jsonl", known["meta"][category])
    if subset == "all":
        fact = known["reviews"][category]
        return candidates("raw/review_categories", f"{category}.jsonl", fact), meta
    if category not in known["ratings_5core"]:
        raise RecipeError(
            f"Amazon 2023 has no 5-core of {category}: nothing is left of it",
            where="source.subset",
            hint='subset = "all" has every review; clean.k_core makes a core of your own',
        )
    fact = known["ratings_5core"][category]
    return candidates("benchmark/5core/rating_only", f"{category}.csv", fact), meta


def terms(options: recipe.Source) -> Terms:
    """Returns the terms of an edition: none of them states a licence."""
    return terms_of(facts("amazon")[_edition(options)])


def expected(options: recipe.Source) -> dict[str, int]:
    """Returns the counts that are confirmed for a reviews file; mostly none are."""
    reviews = files(options)[0].candidates[0].name
    counts: dict[str, dict[str, int]] = facts("amazon")[_edition(options)].get("counts", {})
    return dict(counts.get(reviews, {}))


def read(
    paths: Mapping[str, Path], options: recipe.Source, work: Path, progress: Progress
) -> RawTables:
    """Returns the tables of a category.

    interactions: without reviews that come twice, letter by letter. items: every product that the
    metadata describe, reviewed or not; `description`, `brand`, `price` f32, and from 2018 on
    `features`. In 2023 a product is a `parent_asin`, with all of its variants.

    Args:
        paths: `reviews` and `meta`; without `meta` there are no titles, texts, categories and pictures.

    Raises:
        SourceError: a file is not of its format, or nothing of it can be used.
    """
    edition = _edition(options)
    ratings_only = edition == "2023" and _subset(options) == "5core"
    stage = _stage_ratings if ratings_only else _stage_reviews
    share = options.max_bad_share
    rows, steps = stage(paths["reviews"], edition, work / "reviews", share, progress)
    needed = ("user", "item", "rating", "timestamp")
    usable = pl.all_horizontal(pl.col(*needed).is_not_null()) & pl.col("rating").is_between(
        *RATINGS
    )
    why = "no user, item, time, or rating from 1 to 5"
    rows, lost = unusable(rows, usable, "reviews", why, share)
    items, more = no_items(edition), list[Step]()
    if "meta" in paths:
        meta = paths["meta"]
        items, more = read_items(meta, edition, work / "meta", progress, share, options.markup)
    else:
        log.warning(
            "there is no file of metadata: items have no titles, texts, categories, pictures"
        )
    return RawTables(
        interactions=rows.select(*needed, "line"),
        items=items,
        users=pl.LazyFrame(schema={"user": pl.String}),
        steps=[*steps, lost, *more],
    )


def _stage_reviews(
    path: Path, edition: str, out: Path, max_bad_share: float, progress: Progress
) -> tuple[pl.LazyFrame, list[Step]]:
    keys, texts = (KEYS_2023, TEXTS_2023) if edition == "2023" else (KEYS_OLD, TEXTS_OLD)
    rows, bad = stage_jsonl(
        path,
        keys,
        out,
        name="reviews",
        digests={"digest": [*keys.values(), *texts]},
        transform=lambda rows: rows.with_columns(_typed(edition)),
        max_bad_share=max_bad_share,
        progress=progress,
    )
    rows, twice = without_duplicates(rows, [*keys], "reviews")
    return rows, [bad, twice]


def _stage_ratings(
    path: Path, edition: str, out: Path, max_bad_share: float, progress: Progress
) -> tuple[pl.LazyFrame, list[Step]]:
    rows, bad = stage_delimited(
        path, KEYS_2023, out, name="reviews", max_bad_share=max_bad_share, progress=progress
    )
    return rows.with_columns(_typed(edition)), [bad]


def _typed(edition: str) -> list[pl.Expr]:
    """Returns the columns with numbers as numbers and times in seconds; null where they are none."""
    time = pl.coalesce(
        pl.col("timestamp").cast(pl.Int64, strict=False),
        pl.col("timestamp").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
    )
    return [
        tidy_id(pl.col("user")),
        tidy_id(pl.col("item")),
        pl.col("rating").cast(pl.Float32, strict=False),
        (time // 1000 if edition == "2023" else time).alias("timestamp"),
    ]


AMAZON = SourceKind(
    summary="Amazon reviews and product metadata of one category: " + ", ".join(EDITIONS),
    files=files,
    read=read,
    terms=terms,
    expected=expected,
)
