"""Yelp raw files: businesses, reviews, users and photos as JSON lines, compact, with `\\/` for `/`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from fedprep.sources.synthetic.job import Job
from fedprep.sources.synthetic.lines import LineFile, filled, json_text
from fedprep.sources.synthetic.names import yelp_names
from fedprep.sources.synthetic.truth import generator
from fedprep.sources.synthetic.words import invented, review_words, take

__all__ = ["ids", "photo_ids", "write"]

STATES = ("PA", "FL", "TN", "IN", "MO", "LA", "AZ", "NV", "CA", "AB")
CITIES = tuple(
    f"{invented(500 + k).capitalize()}{end}" for k in range(10) for end in ("ton", "ville")
)
N_NAMES = 400
STARS = [f"{k / 2}" for k in range(11)]
NAMES = {
    "review": "yelp_academic_dataset_review.json",
    "business": "yelp_academic_dataset_business.json",
    "user": "yelp_academic_dataset_user.json",
    "photos": "photos.json",
}
COMPLIMENTS = "hot|more|profile|cute|list|note|plain|cool|funny|writer|photos"


def ids(n_users: int, n_items: int, seed: int) -> tuple[pl.Series, pl.Series]:
    """Returns the ids of users and businesses, 22 characters each."""
    return yelp_names(np.arange(n_users), seed, "user"), yelp_names(
        np.arange(n_items), seed, "business"
    )


def photo_ids(n_items: int, seed: int) -> pl.Series:
    """Returns the id of each business's photo."""
    return yelp_names(np.arange(n_items), seed, "photo")


def write(job: Job) -> dict[str, Path]:
    """Writes the files; returns `review`, `business`, `user`, and `photos` where there are pictures."""
    paths = {"review": job.folder / NAMES["review"]}
    with LineFile(paths["review"], job.form) as file:
        for rows in job.blocks():
            rows = rows.sort("variant", "row", maintain_order=True)
            lines = _review_fields(job, rows).select(job.broken_off(_review()))
            file.write(lines.to_series(), rows["mark"].to_numpy())
    job.tally.n_lines["review"] = file.n_lines
    job.note_rows(file)
    items = _placed(job, job.items().filter("listed"))
    shown = items.filter("pictured").unique("id", maintain_order=True)
    for role, frame, line in (
        ("business", items, _business()),
        ("user", _people(job), _user()),
        ("photos", shown.with_columns(photo=_photos(job, shown)), _photo()),
    ):
        if frame.is_empty():
            continue
        paths[role] = job.folder / NAMES[role]
        with LineFile(paths[role], job.form) as file:
            file.write(frame.select(line.alias("line")).to_series())
        job.tally.n_lines[role] = file.n_lines
    return paths


def _review_fields(job: Job, rows: pl.DataFrame) -> pl.DataFrame:
    noise = rows["variant"].to_numpy().astype(np.int64)
    words = review_words(job.truth, rows["item"], rows["rating"], rows["variant"])
    stars = np.rint(rows["rating"].to_numpy() * 2).astype(np.int64)
    written = pl.from_epoch("timestamp", time_unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")
    fields = rows.with_columns(
        words,
        id=yelp_names(rows["row"].to_numpy(), job.truth.seed, "review"),
        user=job.user_ids.gather(rows["user"]),
        item=job.item_ids.gather(rows["item"]),
        rating=take(STARS, stars),
        timestamp=written,
        useful=pl.Series(np.maximum(noise % 12 - 8, 0)),
        funny=pl.Series(np.maximum((noise >> 4) % 24 - 22, 0)),
        cool=pl.Series(np.maximum((noise >> 9) % 18 - 15, 0)),
    )
    quoted = {name: pl.format('"{}"', name) for name in ("user", "timestamp")}
    return job.emptied(fields.with_columns(**quoted), "null")


def _review() -> pl.Expr:
    return filled(
        '{"review_id":"<id>","user_id":<user>,"business_id":"<item>","stars":<rating>,'
        '"useful":<useful>,"funny":<funny>,"cool":<cool>,"text":"<text>","date":<timestamp>}'
    )


def _placed(job: Job, items: pl.DataFrame) -> pl.DataFrame:
    """Returns the items with a state, which leans on the topic, a city and coordinates."""
    noise = items["noise"].to_numpy().astype(np.int64)
    leaning = items["topic"].to_numpy() % len(STATES)
    anywhere = (noise >> 6) % 97 * (noise >> 13) % 97 * len(STATES) // 97
    state = np.where(noise % 10 < 4, leaning, anywhere % len(STATES))
    city = state * 2 + (noise >> 21) % 2
    return items.with_columns(
        state=take(STATES, state),
        city=take(CITIES, city),
        street=pl.Series(noise % 9000 + 1),
        post=pl.Series((noise >> 3) % 90_000 + 10_000),
        north=pl.Series(27.0 + state * 2 + ((noise >> 7) % 100_000) / 1e6),
        west=pl.Series(-120.0 + city * 2 + ((noise >> 11) % 100_000) / 1e6),
        half_stars=(pl.col("stars") * 2).round() / 2,
        open=pl.Series((noise % 5 != 0).astype(np.int8)),
    )


def _business() -> pl.Expr:
    noise = pl.col("noise")
    categories = filled('"<theme>, Shops \\/ Local Services"')
    as_list = filled('["<theme>", "Shops \\/ Local Services"]')
    attributes = (
        """{"RestaurantsTakeOut":"True","WiFi":"u'no'","BusinessParking":"{'lot': True}"}"""
    )
    return filled(
        '{"business_id":"<id>","name":<named>,"address":"<street> <kind> St","city":"<city>",'
        '"state":"<state>","postal_code":"<post>","latitude":<north>,"longitude":<west>,'
        '"stars":<half_stars>,"review_count":<n_rows>,"is_open":<open>,"attributes":<attributes>,'
        '"categories":<categories>,"hours":<hours>}',
        named=json_text("title"),
        attributes=pl.when(noise % 11 == 5).then(pl.lit("null")).otherwise(pl.lit(attributes)),
        categories=pl.when(pl.col("theme").is_null())
        .then(pl.lit("null"))
        .otherwise(pl.when("swapped").then(as_list).otherwise(categories)),
        hours=pl.when(noise % 7 == 5)
        .then(pl.lit("null"))
        .otherwise(pl.lit('{"Monday":"8:0-18:30","Saturday":"9:0-14:0"}')),
    )


def _people(job: Job) -> pl.DataFrame:
    n, tally = job.truth.size.n_users, job.tally
    rng = generator(job.truth.seed, "people")
    names = tuple(invented(k).capitalize() for k in range(N_NAMES))
    days = rng.integers(job.truth.law.first, job.truth.law.first + 10**8, n)
    return pl.DataFrame(
        {
            "id": job.user_ids,
            "name": take(names, rng.integers(0, N_NAMES, n)),
            "n_rows": tally.user_rows,
            "mean": (tally.user_stars / np.maximum(tally.user_rows, 1)).round(2),
            "since": pl.Series(days),
            "elite": take(
                ("", "2018,2019", "2019,20,20"), np.maximum(rng.integers(0, 30, n) - 27, 0)
            ),
            "friend": job.user_ids.gather(rng.integers(0, n, n)),
            "second": job.user_ids.gather(rng.integers(0, n, n)),
            "n_friends": rng.integers(0, 3, n),
            "useful": rng.integers(0, 40, n),
            "fans": np.maximum(rng.integers(0, 40, n) - 35, 0),
        }
    )


def _user() -> pl.Expr:
    friends = pl.col("n_friends")
    compliments = "".join(f',"compliment_{name}":0' for name in COMPLIMENTS.split("|"))
    return filled(
        '{"user_id":"<id>","name":"<name>","review_count":<n_rows>,"yelping_since":"<joined>",'
        '"useful":<useful>,"funny":0,"cool":0,"elite":"<elite>","friends":"<friends>","fans":<fans>,'
        '"average_stars":<mean>' + compliments + "}",
        joined=pl.from_epoch("since", time_unit="s").dt.strftime("%Y-%m-%d %H:%M:%S"),
        friends=pl.when(friends == 0)
        .then(pl.lit("None"))
        .when(friends == 1)
        .then(pl.col("friend"))
        .otherwise(filled("<friend>, <second>")),
    )


def _photos(job: Job, items: pl.DataFrame) -> pl.Series:
    return photo_ids(job.truth.size.n_items, job.truth.seed).gather(items["item"])


def _photo() -> pl.Expr:
    return filled('{"photo_id":"<photo>","business_id":"<id>","caption":"","label":"inside"}')
