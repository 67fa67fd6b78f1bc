"""Amazon raw files: reviews and metadata of one category, in the formats of 2014, 2018 and 2023."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl

from fedprep.sources.synthetic.job import Job
from fedprep.sources.synthetic.lines import LineFile, filled, json_text, literal_text
from fedprep.sources.synthetic.names import amazon_items, amazon_users
from fedprep.sources.synthetic.truth import Ints
from fedprep.sources.synthetic.words import invented, review_words, take

__all__ = ["FILES", "ids", "write"]

FILES = {
    "2014": ("reviews_{}_5.json.gz", "meta_{}.json.gz"),
    "2018": ("{}_5.json.gz", "meta_{}.json.gz"),
    "2023": ("{}.jsonl.gz", "meta_{}.jsonl.gz"),
}
"""Edition → the official names of reviews and metadata."""

ADDRESS = "https://images.example.com/I/"  # a domain that can never be anyone's
VARIANTS = 3  # 2023: every tenth product is sold in three variants, each with an asin of its own
N_NAMES = 400
STARS = [f"{k / 2}" for k in range(11)]


def ids(edition: str, n_users: int, n_items: int, seed: int) -> tuple[pl.Series, pl.Series]:
    """Returns the ids of users and products."""
    users = amazon_users(np.arange(n_users), seed, long=edition == "2023")
    return users, amazon_items(np.arange(n_items), seed)


def write(job: Job) -> dict[str, Path]:
    """Writes both files; returns `reviews` and `meta`."""
    names = [name.format(job.category) for name in FILES[job.edition]]
    reviews, meta = (job.folder / name for name in names)
    line = {"2014": _review_2014, "2018": _review_2018, "2023": _review_2023}[job.edition]
    with LineFile(reviews, job.form) as file:
        for rows in job.blocks():
            rows = rows.sort("variant", "row", maintain_order=True)
            lines = _review_fields(job, rows).select(job.broken_off(line()))
            file.write(lines.to_series(), rows["mark"].to_numpy())
    job.tally.n_lines["reviews"] = file.n_lines
    job.note_rows(file)
    described = {"2014": _meta_2014, "2018": _meta_2018, "2023": _meta_2023}[job.edition]
    with LineFile(meta, job.form) as file:
        items = _with_shared_fields(job, job.items().filter("listed"))
        file.write(items.select(described(job).alias("line")).to_series())
    job.tally.n_lines["meta"] = file.n_lines
    return {"reviews": reviews, "meta": meta}


# Reviews -----------------------------------------------------------------------------------------


def _review_fields(job: Job, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns rows with every field as text, ready to be put together."""
    noise = rows["variant"].to_numpy().astype(np.int64)
    user = rows["user"].to_numpy().astype(np.int64)
    words = review_words(job.truth, rows["item"], rows["rating"], rows["variant"])
    names = [invented(k).capitalize() for k in range(N_NAMES)]
    stars = np.rint(rows["rating"].to_numpy() * 2).astype(np.int64)
    frame = rows.with_columns(
        words,
        user=job.user_ids.gather(rows["user"]),
        item=job.item_ids.gather(rows["item"]),
        variant_item=_variant_ids(job, rows["item"].to_numpy(), noise),
        reviewer=take(names, user * 7919 % N_NAMES),
        rating=take(STARS, stars),
        day=_days(rows["timestamp"]) if job.edition != "2023" else pl.lit(""),
        timestamp=pl.col("timestamp").cast(pl.String),
        votes=pl.Series(noise >> 24),
    )
    return job.emptied(frame.with_columns(user=pl.format('"{}"', "user")), "null")


def _variant_ids(job: Job, item: Ints, noise: Ints) -> pl.Series:
    """Returns the asin of each review: the product's own, or one of its variants'."""
    which = np.where(item % 10 == 9, noise % VARIANTS, 0)
    numbers = np.arange(job.truth.size.n_items * VARIANTS)  # 0 … n - 1 are the products themselves
    return amazon_items(numbers, job.truth.seed).gather(item + which * job.truth.size.n_items)


def _days(timestamps: pl.Series) -> pl.Series:
    """Returns `MM D, YYYY` of Unix seconds; a day out of any calendar's reach is left at its bound."""
    days = (timestamps // 86_400).clip(0, 2_900_000)
    distinct = days.unique().sort()
    epoch = dt.date(1970, 1, 1).toordinal()
    written = [_day(epoch + day) for day in distinct.to_list()]
    return pl.Series(written, dtype=pl.String).gather(distinct.search_sorted(days))


def _day(ordinal: int) -> str:
    day = dt.date.fromordinal(min(ordinal, dt.date.max.toordinal()))
    return f"{day.month:02d} {day.day}, {day.year}"


def _review_2014() -> pl.Expr:
    return filled(
        '{"reviewerID": <user>, "asin": "<item>", <name>"helpful": [<up>, <all>], '
        '"reviewText": "<text>", "overall": <rating>, "summary": "<summary>", '
        '"unixReviewTime": <timestamp>, "reviewTime": "<day>"}',
        name=_sometimes(pl.col("votes") % 256 != 17, '"reviewerName": "<reviewer>", '),
        up=pl.col("votes") % 4 // 2,
        all=pl.col("votes") % 4,
    )


def _review_2018() -> pl.Expr:
    votes = pl.col("votes")
    return filled(
        '{"overall": <rating>, <vote>"verified": <verified>, "reviewTime": "<day>", '
        '"reviewerID": <user>, "asin": "<item>", <style>"reviewerName": "<reviewer>", '
        '<body>"summary": "<summary>", "unixReviewTime": <timestamp>}',
        vote=_sometimes(votes % 16 == 3, '"vote": "<n>", ', n=_vote(votes)),
        verified=pl.when(votes % 8 != 1).then(pl.lit("true")).otherwise(pl.lit("false")),
        style=_sometimes(votes % 4 == 0, '"style": {"Format:": " Boxed"}, '),
        body=_sometimes(votes != 255, '"reviewText": "<text>", '),
    )


def _review_2023() -> pl.Expr:
    votes = pl.col("votes")
    return filled(
        '{"rating": <rating>, "title": "<summary>", "text": "<text>", "images": [], '
        '"asin": "<variant_item>", "parent_asin": "<item>", "user_id": <user>, '
        '"timestamp": <timestamp>, "helpful_vote": <helpful>, "verified_purchase": <verified>}',
        helpful=pl.when(votes % 8 == 3).then(votes % 7).otherwise(0),
        verified=pl.when(votes % 8 != 1).then(pl.lit("true")).otherwise(pl.lit("false")),
    )


def _vote(votes: pl.Expr) -> pl.Expr:
    """Returns a count as the site wrote it, some with a comma for thousands."""
    return pl.when(votes == 3).then(pl.lit("1,234")).otherwise(votes.cast(pl.String))


def _sometimes(condition: pl.Expr, template: str, **columns: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(filled(template, **columns)).otherwise(pl.lit(""))


# Metadata ----------------------------------------------------------------------------------------


def _with_shared_fields(job: Job, items: pl.DataFrame) -> pl.DataFrame:
    """Returns the items with the columns that all editions of metadata use."""
    after = (items["item"].to_numpy().astype(np.int64) + 1) % job.truth.size.n_items
    return items.with_columns(
        next=job.item_ids.gather(after),
        root=pl.lit(job.category.replace("_", " ")),
        place=pl.col("noise").cast(pl.Int64) % 900_000 + 1,
        number=pl.col("price").str.strip_prefix("$").str.replace_all(",", ""),
        picture=pl.concat_str(pl.lit(ADDRESS), "id"),
    )


def _meta_2014(job: Job) -> pl.Expr:
    """One Python literal a line; a field that an item lacks is left out."""
    description = literal_text("description")
    return filled(
        "{'asin': '<id>', <titled>'description': <described>, <priced><shown>"
        "'related': {'also_bought': ['<next>']}, 'salesRank': {'<root>': <place>}, "
        "'brand': <brand>, 'categories': [<path>]}",
        titled=_sometimes(pl.col("noise") % 80 != 7, "'title': <t>, ", t=literal_text("title")),
        described=pl.when("swapped").then(_listed(description)).otherwise(description),
        priced=_sometimes(pl.col("number").is_not_null(), "'price': <n>, ", n=_number()),
        shown=_sometimes(pl.col("pictured"), "'imUrl': '<picture>.jpg', "),
        brand=literal_text("maker"),
        path=pl.when(pl.col("theme").is_null())
        .then(pl.lit("[]"))
        .otherwise(filled("['<root>', '<theme>']")),
    )


def _meta_2018(job: Job) -> pl.Expr:
    def text(column: str) -> pl.Expr:
        return json_text(column, ascii_only=job.form.encoding == "utf-8")

    description = text("description")
    rank = filled("<p> in <root> (", p=pl.col("place").cast(pl.String))
    return filled(
        '{"category": <path>, "tech1": "", "description": <described>, "fit": "", '
        '"title": <titled>, "also_buy": ["<next>"], "tech2": "", "brand": <brand>, '
        '"feature": <features>, "rank": <rank>, "also_view": [], '
        '"details": {"Shipping Weight:": "3 ounces", "ASIN: ": "<id>"}, "main_cat": "<root>", '
        '"similar_item": "", "date": "", "price": <priced>, "asin": "<id>", '
        '"imageURL": [<small>], "imageURLHighRes": [<large>]}',
        path=_path(),
        described=pl.when("swapped").then(description).otherwise(_listed(description)),
        titled=text("title"),
        brand=text("maker"),
        features=_list_of_text("feature"),
        rank=pl.when(pl.col("noise") % 2 == 0)
        .then(_quoted(rank))
        .otherwise(_listed(_quoted(pl.concat_str(pl.lit(">#"), rank)))),
        priced=pl.when(pl.col("price").is_null()).then(pl.lit('""')).otherwise(json_text("price")),
        small=_sometimes(pl.col("pictured"), '"<picture>._SS40_.jpg"'),
        large=_sometimes(pl.col("pictured"), '"<picture>.jpg"'),
    )


def _meta_2023(job: Job) -> pl.Expr:
    description = json_text("description")
    address = '{"thumb": "<picture>._SS40_.jpg", "large": "<picture>.jpg", "variant": "MAIN", "hi_res": <hi>}'
    return filled(
        '{"main_category": <main>, "title": <titled>, "average_rating": <mean>, '
        '"rating_number": <n_rows>, "features": <features>, "description": <described>, '
        '"price": <priced>, "images": [<images>], "videos": [], "store": <store>, '
        '"categories": <path>, "details": {"Brand": <store>}, "parent_asin": "<id>", '
        '"bought_together": null}',
        main=pl.when((pl.col("noise") % 50 == 3) | pl.col("theme").is_null())
        .then(pl.lit("null"))
        .otherwise(filled('"<root>"')),
        titled=json_text("title"),
        mean=pl.col("stars").round(1),
        features=_list_of_text("feature"),
        described=pl.when("swapped").then(description).otherwise(_listed(description)),
        priced=pl.when(pl.col("price").str.starts_with("$"))
        .then(_number())
        .otherwise(json_text("price")),
        images=_sometimes(
            pl.col("pictured"),
            address,
            hi=pl.when(pl.col("noise") % 3 == 0)
            .then(pl.lit("null"))
            .otherwise(filled('"<picture>.jpg"')),
        ),
        store=json_text("maker"),
        path=_path(),
    )


def _path() -> pl.Expr:
    """Returns the list of categories; where swapped, one string in its place; empty without a theme."""
    whole = filled('["<root>", "<theme>"]')
    single = filled('"<root>, <theme>"')
    chosen = pl.when("swapped").then(single).otherwise(whole)
    return pl.when(pl.col("theme").is_null()).then(pl.lit("[]")).otherwise(chosen)


def _number() -> pl.Expr:
    """Returns the price as a JSON number: no zero at the end, as `json.dumps` writes it."""
    return pl.col("number").cast(pl.Float64, strict=False).cast(pl.String)


def _list_of_text(column: str) -> pl.Expr:
    empty = pl.col(column).fill_null("") == ""
    return pl.when(empty).then(pl.lit("[]")).otherwise(_listed(json_text(column)))


def _listed(text: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit("["), text, pl.lit("]"))


def _quoted(text: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit('"'), text, pl.lit('"'))
