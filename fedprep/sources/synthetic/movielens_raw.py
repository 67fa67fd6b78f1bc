"""MovieLens raw files: `::`, tab and `|` separated in the old editions, CSV in the later ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from fedprep.sources.synthetic.job import Job
from fedprep.sources.synthetic.lines import Form, LineFile
from fedprep.sources.synthetic.names import movie_numbers
from fedprep.sources.synthetic.truth import generator
from fedprep.sources.synthetic.words import take

__all__ = ["FOLDERS", "form_of", "ids", "write"]

FOLDERS = {
    "100k": "ml-100k",
    "1m": "ml-1m",
    "10m": "ml-10M100K",
    "20m": "ml-20m",
    "25m": "ml-25m",
    "32m": "ml-32m",
    "latest-small": "ml-latest-small",
}
"""Edition → the folder inside its official zip."""

GENRES = (
    "Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|"
    "Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
OCCUPATIONS = (
    "administrator|artist|doctor|educator|engineer|entertainment|executive|healthcare|homemaker|"
    "lawyer|librarian|marketing|none|other|programmer|retired|salesman|scientist|student|"
    "technician|writer"
)
AGES = (1, 18, 25, 35, 45, 50, 56)
MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
N_TAGS = 5  # a tag for one movie in five


def form_of(edition: str) -> Form:
    """Returns line ends and encoding of an edition's files."""
    if edition in ("100k", "1m"):
        return Form(encoding="latin-1")
    return Form(newline="\r\n" if edition == "latest-small" else "\n")


def ids(edition: str, n_users: int, n_items: int, seed: int) -> tuple[pl.Series, pl.Series]:
    """Returns the ids of users and movies as strings: 1, 2, 3 …, movies with gaps but in 100k."""
    movies = movie_numbers(generator(seed, "movie numbers"), n_items, gaps=edition != "100k")
    return pl.Series(np.arange(1, n_users + 1)).cast(pl.String), pl.Series(movies).cast(pl.String)


def write(job: Job) -> dict[str, Path]:
    """Writes the members of the edition's zip; returns `archive`, the folder that they lie in."""
    folder = job.folder / FOLDERS[job.edition]
    if job.edition == "100k":
        _ratings(job, folder / "u.data", "\t", pack="integer")
        _write_100k_tables(job, folder)
    elif job.edition in ("1m", "10m"):
        _ratings(
            job, folder / "ratings.dat", "::", pack="integer" if job.edition == "1m" else "short"
        )
        movies = _movies(job)
        _table(job, folder / "movies.dat", movies.select(_joined("::", "id", "name", "genres")))
        if job.edition == "1m":
            _write_users(job, folder / "users.dat")
        else:
            _write_tags(job, folder / "tags.dat", "::", movies)
    else:
        _ratings(job, folder / "ratings.csv", ",", header="userId,movieId,rating,timestamp")
        movies = _movies(job).with_columns(name=_quoted("name"))
        lines = movies.select(_joined(",", "id", "name", "genres"))
        _table(job, folder / "movies.csv", lines, header="movieId,title,genres")
        _write_links(job, folder / "links.csv", movies)
        _write_tags(job, folder / "tags.csv", ",", movies, header="userId,movieId,tag,timestamp")
    return {"archive": job.folder}


def _ratings(job: Job, path: Path, separator: str, *, header: str = "", pack: str = "csv") -> None:
    """Writes ratings, grouped by user; stars as `4`, `3.5` / `4` (short) or `3.5` / `4.0` (csv)."""
    halves = [k / 2 for k in range(11)]
    pattern = {"csv": "{}", "short": "{:g}", "integer": "{:.0f}"}[pack]
    stars = [pattern.format(half) for half in halves]
    with LineFile(path, job.form) as file:
        if header:
            file.header(header)
        for rows in job.blocks():
            order = ["variant"] if job.edition == "100k" else ["user", "variant"]
            rows = rows.sort(*order, "timestamp", maintain_order=True)
            at = np.rint(rows["rating"].to_numpy() * 2).astype(np.int64)
            fields = rows.select(
                "hole",
                user=job.user_ids.gather(rows["user"]),
                item=job.item_ids.gather(rows["item"]),
                rating=take(stars, at),
                timestamp=pl.col("timestamp").cast(pl.String),
            )
            lines = job.emptied(fields, "").select(
                _joined(separator, "user", "item", "rating", "timestamp")
            )
            file.write(lines.to_series(), rows["mark"].to_numpy())
    job.tally.n_lines[path.name] = file.n_lines
    job.note_rows(file)


def _movies(job: Job) -> pl.DataFrame:
    """Returns the listed movies, `name` being title and year and `genres` joined by `|`.

    The first genre follows the topic; two movies in five have a second one.
    """
    items = job.items().filter("listed")
    noise = items["noise"].to_numpy().astype(np.int64)
    words = GENRES.split("|")
    first = items["topic"].to_numpy() % len(words)
    second = (first + 1 + (noise >> 8) % (len(words) - 1)) % len(words)
    genres = pl.concat_str(
        "first", pl.when("more").then(pl.format("|{}", "second")).otherwise(pl.lit(""))
    )
    none = "(no genres listed)" if job.edition not in ("100k", "1m", "10m") else ""
    return items.with_columns(
        first=take(words, first),
        second=take(words, second),
        more=pl.Series(noise % 5 < 2),
        first_genre=pl.Series(first),
        second_genre=pl.Series(second),
        name=pl.when(pl.col("title").fill_null("") == "")
        .then(pl.lit(""))
        .otherwise(pl.format("{} ({})", "title", "year")),
    ).with_columns(genres=pl.when(pl.col("theme").is_null()).then(pl.lit(none)).otherwise(genres))


def _table(job: Job, path: Path, lines: pl.DataFrame, *, header: str = "") -> None:
    """Writes the only column of a frame as lines."""
    with LineFile(path, job.form) as file:
        if header:
            file.header(header)
        file.write(lines.to_series())
    job.tally.n_lines[path.name] = file.n_lines


def _joined(separator: str, *columns: str) -> pl.Expr:
    return pl.concat_str(*columns, separator=separator).alias("line")


def _quoted(column: str) -> pl.Expr:
    """Returns CSV fields, in quotes where they hold a comma or a quote."""
    text = pl.col(column)
    quoted = pl.format('"{}"', text.str.replace_all('"', '""', literal=True))
    return pl.when(text.str.contains('[",]')).then(quoted).otherwise(text)


def _write_users(job: Job, path: Path) -> None:
    rng, n = generator(job.truth.seed, "people"), job.truth.size.n_users
    frame = pl.DataFrame(
        {
            "user": job.user_ids,
            "gender": take(("M", "F"), (rng.random(n) < 0.28).astype(np.int64)),
            "age": np.array(AGES)[rng.integers(0, len(AGES), n)],
            "occupation": rng.integers(0, 21, n),
            "zip": pl.Series(rng.integers(1000, 99_999, n)).cast(pl.String).str.zfill(5),
        }
    )
    long = pl.int_range(pl.len()) % 100 == 99  # one zip code in 100: 12345-6789
    zips = pl.when(long).then(pl.concat_str("zip", pl.lit("-6789"))).otherwise("zip")
    frame = frame.with_columns(zip=zips)
    _table(job, path, frame.select(_joined("::", *frame.columns)))


def _write_tags(
    job: Job, path: Path, separator: str, movies: pl.DataFrame, *, header: str = ""
) -> None:
    """Writes a tag, the topic's word for the movie, for one movie in five by some user."""
    rng = generator(job.truth.seed, "tags")
    users = job.user_ids.gather(rng.integers(0, len(job.user_ids), movies.height))
    law = job.truth.law
    tags = movies.select(
        user=users,
        id="id",
        tag=pl.col("kind").str.to_lowercase(),
        time=pl.Series(rng.integers(law.first, law.last, movies.height)),
    ).gather_every(N_TAGS)
    _table(job, path, tags.select(_joined(separator, "user", "id", "tag", "time")), header=header)


def _write_links(job: Job, path: Path, movies: pl.DataFrame) -> None:
    """Writes imdbId with leading zeros and tmdbId, which one movie in 50 lacks."""
    number = pl.col("item") + 100_000
    tmdb = (
        pl.when(pl.col("item") % 50 == 49).then(pl.lit("")).otherwise((number * 3).cast(pl.String))
    )
    links = movies.select("id", imdb=number.cast(pl.String).str.zfill(7), tmdb=tmdb)
    _table(
        job, path, links.select(_joined(",", "id", "imdb", "tmdb")), header="movieId,imdbId,tmdbId"
    )


def _write_100k_tables(job: Job, folder: Path) -> None:
    """Writes u.item (24 fields, 19 of them flags), u.user, u.genre, u.occupation and u.info."""
    movies = _movies(job)
    noise = movies["noise"].to_numpy().astype(np.int64)
    unknown = pl.col("theme").is_null()
    flags = [unknown.cast(pl.Int8).alias("g0")]
    genres, occupations = GENRES.split("|"), OCCUPATIONS.split("|")
    for k in range(len(genres)):
        has = (pl.col("first_genre") == k) | (pl.col("more") & (pl.col("second_genre") == k))
        flags.append((has & ~unknown).cast(pl.Int8).alias(f"g{k + 1}"))
    day = pl.Series(noise % 28 + 1).cast(pl.String).str.zfill(2)
    movies = movies.with_columns(day=day, month=take(MONTHS.split("|"), (noise >> 5) % 12))
    address = pl.format(
        "http://us.imdb.com/M/title-exact?{}", pl.col("name").str.replace_all(" ", "%20")
    )
    lines = movies.select(
        "id",
        "name",
        pl.format("{}-{}-{}", "day", "month", "year").alias("released"),
        pl.lit("").alias("video"),
        address.alias("url"),
        *flags,
    )
    _table(job, folder / "u.item", lines.select(pl.concat_str(pl.all(), separator="|")))
    rng, n = generator(job.truth.seed, "people"), job.truth.size.n_users
    people = pl.DataFrame(
        {
            "user": job.user_ids,
            "age": rng.integers(7, 74, n),
            "gender": take(("M", "F"), (rng.random(n) < 0.29).astype(np.int64)),
            "occupation": take(occupations, rng.integers(0, len(occupations), n)),
            "zip": pl.Series(rng.integers(1000, 99_999, n)).cast(pl.String).str.zfill(5),
        }
    )
    _table(job, folder / "u.user", people.select(_joined("|", *people.columns)))
    numbered = [f"{name}|{k}" for k, name in enumerate(["unknown", *genres])] + [""]
    size = job.truth.size
    info = [f"{size.n_users} users", f"{size.n_items} items", f"{size.n_interactions} ratings"]
    for name, small in (("u.genre", numbered), ("u.occupation", occupations), ("u.info", info)):
        _table(job, folder / name, pl.DataFrame({"line": small}))
