"""The Yelp Open Dataset: businesses, reviews, users and photos, as JSON lines.

What Yelp computed over all reviews is left out, as it knows the future of every split: a business's
`stars` and `review_count`, a user's `average_stars`, `review_count` and compliments. `is_open` and `fans`
are as of the release: for description, not for prediction. Names of users are personal and not read.

Dates have no time zone (they are local to nobody knows where) and are taken for UTC.

Reference: Yelp Open Dataset. https://business.yelp.com/data/resources/open-dataset/
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from fedprep import recipe
from fedprep.errors import SourceError
from fedprep.schema import Candidate, Progress, RawFile, RawTables, Step, silent
from fedprep.sources.facts import facts, terms_of
from fedprep.sources.items import plain_items
from fedprep.sources.jsonl import stage_jsonl
from fedprep.sources.kind import SourceKind
from fedprep.sources.tidy import null_if_empty, repeated, tidy_id, unusable
from fedprep.sources.times import seconds_of_text

__all__ = ["YELP", "read_yelp"]

MEMBERS = {
    "business": ("yelp_academic_dataset_business.json",),
    "review": ("yelp_academic_dataset_review.json",),
    "user": ("yelp_academic_dataset_user.json",),
    "photos": ("photos.json",),
    "pictures": ("photos/*.jpg", "photos/*.jpeg"),
}
"""What each role wants from the archives; all but the first two are optional."""

REVIEW = {"user": "user_id", "item": "business_id", "rating": "stars", "timestamp": "date"}
BUSINESS = {
    "item": "business_id",
    "title": "name",
    "categories": "categories",
    "city": "city",
    "state": "state",
    "postal_code": "postal_code",
    "latitude": "latitude",
    "longitude": "longitude",
    "is_open": "is_open",
    "attributes": "attributes",
}
USER = {"user": "user_id", "yelping_since": "yelping_since", "fans": "fans"}
PHOTO = {"photo": "photo_id", "item": "business_id", "label": "label"}

LABELS = ("food", "drink", "inside", "outside", "menu")
"""Photos that show best what a business offers come first; a menu is text."""


def read_yelp(
    paths: Mapping[str, Path], options: recipe.Source, work: Path, progress: Progress = silent
) -> RawTables:
    """Returns reviews as interactions, businesses as items, and users where their file is given.

    Items have `city`, `state`, `postal_code`, `latitude`, `longitude` (Float32), `is_open` (Boolean) and
    `attributes` (one text) as columns of their own; `image` is `photos/<photo_id>.jpg` of the
    business's first photo in the order of `LABELS`, then of `photo_id`, and null without photos.json.
    Users have `yelping_since` (Int64 seconds) and `fans` (Int32). Reviews without a user or a business,
    with stars that are not 1 to 5 or a date that is none, and businesses and users that come twice are
    dropped and counted.

    Args:
        paths: role (see `MEMBERS`) → the file, or a folder that holds it.
        options: `[source]` of the recipe.
        work: a folder to stage in.
        progress: told the bytes read.

    Raises:
        SourceError: a file is not there, or holds nothing that can be used.
    """
    share = options.max_bad_share
    rows, steps = _interactions(_file(paths, "review"), work, share, progress)
    items, more = _items(_file(paths, "business"), work, share, progress)
    steps += more
    image = pl.lit(None, pl.String()).alias("image")
    found: dict[str, Any] = {}
    if "photos" in paths:
        photos, more, found = _photos(_file(paths, "photos"), items, work, share, progress)
        steps += more
        items = items.join(photos, on="item", how="left", maintain_order="left")
        image = pl.col("image")
    users = pl.LazyFrame(schema={"user": pl.String()})
    if "user" in paths:
        users, more = _users(_file(paths, "user"), work, share, progress)
        steps += more
    first = ("item", "title", "categories")
    raw = RawTables(
        interactions=rows,
        items=items.select(*first, image, pl.exclude(*first, "image")),
        users=users,
        steps=steps,
        facts=found,
    )
    return plain_items(raw) if options.markup == "clean" else raw


def _file(paths: Mapping[str, Path], role: str) -> Path:
    """Returns the file of a role, which may lie in a folder."""
    path = paths[role]
    if not path.is_dir():
        return path
    (name,) = MEMBERS[role]
    found = sorted(path.rglob(name), key=lambda p: (len(p.parts), p.as_posix()))
    if not found:
        raise SourceError(f"there is no {name}", where=str(path))
    return found[0]


def _interactions(
    path: Path, work: Path, share: float, progress: Progress
) -> tuple[pl.LazyFrame, list[Step]]:
    staged, bad_lines = stage_jsonl(
        path, REVIEW, work / "review", name="reviews", max_bad_share=share, progress=progress
    )
    rows = staged.select(
        tidy_id(pl.col("user")),
        tidy_id(pl.col("item")),
        pl.col("rating").cast(pl.Float32, strict=False),
        seconds_of_text(pl.col("timestamp")),
        "line",
    )
    named = pl.col("user").is_not_null() & pl.col("item").is_not_null()
    rows, no_rating = unusable(
        rows,
        named & pl.col("rating").is_between(1, 5),
        "reviews",
        "no user, no business, or stars that are not 1 to 5",
        share,
    )
    rows, no_date = unusable(
        rows,
        pl.col("timestamp").is_not_null(),
        "dates of reviews",
        "no date such as 2014-02-28 13:05:09",
        share,
    )
    return rows, [bad_lines, no_rating, no_date]


def _items(
    path: Path, work: Path, share: float, progress: Progress
) -> tuple[pl.LazyFrame, list[Step]]:
    staged, bad_lines = stage_jsonl(
        path, BUSINESS, work / "business", name="businesses", max_bad_share=share, progress=progress
    )
    rows, twice = repeated(_without_blank(staged, "item"), "item", "businesses")
    text = [
        null_if_empty(pl.col(n).str.strip_chars())
        for n in ("title", "city", "state", "postal_code")
    ]
    # Older releases have a JSON list in place of one text.
    joined = pl.col("categories").str.replace_all(r'^\[|\]$|"', "")
    parts = joined.str.split(",").list.eval(pl.element().str.strip_chars())
    parts = parts.list.eval(pl.element().filter(pl.element() != "")).list.unique(
        maintain_order=True
    )
    items = rows.select(
        "item",
        *text,
        pl.when(parts.list.len() > 0).then(parts).alias("categories"),
        pl.col("latitude", "longitude").cast(pl.Float32, strict=False),
        pl.col("is_open").cast(pl.Int64, strict=False).cast(pl.Boolean),
        _flat_attributes(pl.col("attributes")),
    )
    return items, [bad_lines, twice]


def _flat_attributes(attributes: pl.Expr) -> pl.Expr:
    """Returns the attributes that hold as one text: `Wi Fi: free; Business Parking: lot, street`.

    Their values are texts that hold Python literals: `{"WiFi":"u'free'","BusinessParking":"{'lot': …}"}`.
    """
    text = attributes.str.replace_all(r'"\s*,\s*"', '";"')
    for pattern, with_ in (
        (r"u?'[^']*':\s*(?:False|None)(?:,\s*)?", ""),
        (r"u?'([^']*)':\s*True", "$1"),
        (r",\s*\}", "}"),
        (
            r""""[^"]+"\s*:\s*"(?:False|None|u?'(?:no|none)'|\{\s*\})"""  # what does not hold
            r'"',
            "",
        ),
        (r'"([^"]+)"\s*:\s*"True"', "$1"),
        (r'"([^"]+)"\s*:\s*"([^"]*)"', "$1: $2"),
        (r"u?'([^']*)'", "$1"),
        (r"[{}]", ""),
        (r"([a-z0-9])([A-Z])", "$1 $2"),
        (r"_", " "),
        (r"(?:\s*;\s*)+", "; "),
        (r"^[;\s]+|[;\s]+$", ""),
    ):
        text = text.str.replace_all(pattern, with_)
    return null_if_empty(text)


def _photos(
    path: Path, items: pl.LazyFrame, work: Path, share: float, progress: Progress
) -> tuple[pl.LazyFrame, list[Step], dict[str, Any]]:
    """Returns `item`, `image`: one photo a business; photos of no known business are counted."""
    staged, bad_lines = stage_jsonl(
        path, PHOTO, work / "photos", name="photos", max_bad_share=share, progress=progress
    )
    known = staged.join(items.select("item"), on="item", how="semi")
    counts = pl.collect_all([staged.select(pl.len()), known.select(pl.len())])
    n_photos, n_known = (count.item() for count in counts)
    rank = pl.col("label").replace_strict(
        {label: rank for rank, label in enumerate(LABELS)},
        default=len(LABELS),
        return_dtype=pl.Int8,
    )
    first = pl.col("photo").sort_by(rank, "photo").first()
    chosen = known.filter(pl.col("photo").is_not_null()).group_by("item").agg(first)
    images = chosen.select("item", pl.format("photos/{}.jpg", "photo").alias("image")).collect()
    step = Step(
        stage="read",
        name="photos of unknown businesses",
        rows_in=n_photos,
        rows_out=n_known,
        unit="images",
    )
    return images.lazy(), [bad_lines, step], {"businesses_with_photo": images.height}


def _users(
    path: Path, work: Path, share: float, progress: Progress
) -> tuple[pl.LazyFrame, list[Step]]:
    staged, bad_lines = stage_jsonl(
        path, USER, work / "user", name="users", max_bad_share=share, progress=progress
    )
    rows, twice = repeated(_without_blank(staged, "user"), "user", "users")
    since = seconds_of_text(pl.col("yelping_since"))
    users = rows.select("user", since, pl.col("fans").cast(pl.Int32, strict=False))
    return users, [bad_lines, twice]


def _without_blank(rows: pl.LazyFrame, key: str) -> pl.LazyFrame:
    return rows.with_columns(tidy_id(pl.col(key)))


def _raw_files(options: recipe.Source) -> tuple[RawFile, ...]:
    """Returns the roles; each may be had from an archive of any release, or as the file itself."""
    table = facts("yelp")
    archives = {
        name: Candidate(name=name, md5=known.get("md5", ""), sha256=known.get("sha256", ""))
        for name, known in table["files"].items()
    }
    files = []
    for role, members in MEMBERS.items():
        with_photos = role in ("photos", "pictures")
        candidates = [
            c for name, c in archives.items() if ("photos" in name.lower()) == with_photos
        ]
        if role != "pictures":
            candidates += [Candidate(name=name) for name in members]
        files.append(
            RawFile(
                role=role,
                candidates=tuple(candidates),
                members=members,
                optional=role not in ("business", "review"),
                form=table["form"],
            )
        )
    return tuple(files)


YELP = SourceKind(
    summary="Yelp Open Dataset: reviews of businesses, with photos; you have to ask Yelp for it first",
    files=_raw_files,
    read=read_yelp,
    terms=lambda options: terms_of(facts("yelp")),
    expected=lambda options: {},
)
