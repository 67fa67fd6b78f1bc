"""MovieLens, editions 100k to 32m and latest-small: GroupLens' archives, each in its own format.

Movie ids of 1m, 10m, 20m, 25m, 32m and latest-small agree; 100k numbers its movies differently.

Reference: F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. ACM TiiS 5 (4),
2015. https://doi.org/10.1145/2827872
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from fedprep import recipe
from fedprep.errors import SourceError
from fedprep.schema import Candidate, Progress, RawFile, RawTables, Step
from fedprep.sources.delimited import Dialect, stage_delimited
from fedprep.sources.encoding import encoding_of
from fedprep.sources.facts import chosen, facts, terms_of
from fedprep.sources.items import plain_items
from fedprep.sources.kind import SourceKind, Terms
from fedprep.sources.tidy import null_if_empty, repeated, unusable

__all__ = ["MOVIELENS"]

log = logging.getLogger(__name__)

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
"""What the 19 flags at the end of a line of `u.item` mean, in their order."""

OCCUPATIONS_1M = (
    "other or not specified", "academic/educator", "artist", "clerical/admin",
    "college/grad student", "customer service", "doctor/health care", "executive/managerial",
    "farmer", "homemaker", "K-12 student", "lawyer", "programmer", "retired", "sales/marketing",
    "scientist", "self-employed", "technician/engineer", "tradesman/craftsman", "unemployed",
    "writer",
)  # fmt: skip
"""What the codes 0 to 20 in `users.dat` mean."""

NO_GENRES = ("(no genres listed)", "unknown", "")
YEAR = r"\s*\((\d{4})(?:\s?[-–]\s?(?:\d{4})?)?\)$"
RATINGS = (0.5, 5.0)


@dataclass(frozen=True, kw_only=True)
class _Format:
    """The files of an edition below its folder: our column → their column's name or 0-based number."""

    folder: str
    ratings: str
    movies: str
    users: str = ""
    rating_fields: Mapping[str, str | int]
    movie_fields: Mapping[str, str | int]
    rating_dialect: Dialect
    movie_dialect: Dialect
    user_fields: Mapping[str, str | int] | None = None

    @property
    def members(self) -> tuple[str, ...]:
        files = (self.ratings, self.movies, self.users)
        return tuple(f"{self.folder}/{file}" for file in files if file)


ITEMS = {
    "item": pl.Int64(),
    "title": pl.String(),
    "categories": pl.List(pl.String()),
    "image": pl.String(),
    "year": pl.Int32(),
}
IN_ORDER = {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
COLONS = Dialect(separator="::", header=False, quote="none")
BARS = Dialect(separator="|", header=False, quote="none")

CSV = _Format(
    folder="",
    ratings="ratings.csv",
    movies="movies.csv",
    rating_fields={
        "user": "userId",
        "item": "movieId",
        "rating": "rating",
        "timestamp": "timestamp",
    },
    movie_fields={"item": "movieId", "title": "title", "genres": "genres"},
    rating_dialect=Dialect(),
    movie_dialect=Dialect(),
)
FORMATS = {
    "100k": _Format(
        folder="ml-100k",
        ratings="u.data",
        movies="u.item",
        users="u.user",
        rating_fields=IN_ORDER,
        movie_fields={"item": 0, "title": 1} | {name: 5 + n for n, name in enumerate(GENRES_100K)},
        user_fields={"user": 0, "age": 1, "gender": 2, "occupation": 3, "zip": 4},
        rating_dialect=Dialect(separator="\t", header=False, quote="none"),
        movie_dialect=BARS,
    ),
    "1m": _Format(
        folder="ml-1m",
        ratings="ratings.dat",
        movies="movies.dat",
        users="users.dat",
        rating_fields=IN_ORDER,
        movie_fields={"item": 0, "title": 1, "genres": 2},
        user_fields={"user": 0, "gender": 1, "age": 2, "occupation": 3, "zip": 4},
        rating_dialect=COLONS,
        movie_dialect=COLONS,
    ),
    "10m": _Format(
        folder="ml-10M100K",
        ratings="ratings.dat",
        movies="movies.dat",
        rating_fields=IN_ORDER,
        movie_fields={"item": 0, "title": 1, "genres": 2},
        rating_dialect=COLONS,
        movie_dialect=COLONS,
    ),
    "20m": replace(CSV, folder="ml-20m"),
    "25m": replace(CSV, folder="ml-25m"),
    "32m": replace(CSV, folder="ml-32m"),
    "latest-small": replace(CSV, folder="ml-latest-small"),
}


def _edition(options: recipe.Source) -> str:
    return chosen("edition", options.edition, FORMATS)


def files(options: recipe.Source) -> tuple[RawFile, ...]:
    """Returns the one archive of an edition, and which of its members are needed.

    Raises:
        RecipeError: no such edition.
    """
    edition = _edition(options)
    known = facts("movielens")
    fact = known["editions"][edition]
    archive = Candidate(
        name=fact["file"],
        urls=tuple(url + fact["file"] for url in known["urls"]),
        n_bytes=fact["bytes"],
        sha256=fact.get("sha256", ""),
        md5=fact.get("md5", ""),
    )
    return (RawFile(role="archive", candidates=(archive,), members=FORMATS[edition].members),)


def terms(options: recipe.Source) -> Terms:
    """Returns the terms that the edition's README states."""
    known = facts("movielens")
    redistribution = known["editions"][_edition(options)]["redistribution"]
    clause = known["redistribution_yes" if redistribution else "redistribution_no"]
    text = f"{known['licence_text']} {clause}"
    return terms_of({**known, "licence_text": text, "redistribution": redistribution})


def expected(options: recipe.Source) -> dict[str, int]:
    """Returns the counts that the edition's README states."""
    return dict(facts("movielens")["editions"][_edition(options)]["counts"])


def read(
    paths: Mapping[str, Path], options: recipe.Source, work: Path, progress: Progress
) -> RawTables:
    """Returns the tables of an edition.

    items: `title` without its year, `categories` (genres), `year` i32. users: for 100k and 1m `gender`,
    `age` i32 (of 1m the youngest age of its bracket), `occupation`, `zip`.

    Args:
        paths: `archive` → the folder that it was unpacked to, or any folder that holds its members, or
            the file of ratings alone. Without the file of movies items have no titles.

    Raises:
        SourceError: the ratings are missing, or a member is not of its format.
    """
    form = FORMATS[_edition(options)]
    folder = paths["archive"]
    interactions, steps = _interactions(form, folder, work, options, progress)
    items = pl.DataFrame(schema=ITEMS)
    if _find(folder, form, form.movies):
        items, more = _movies(form, folder, work, options, progress)
        steps += more
    else:
        _without(form.movies, "items have no titles and no categories")
    users = pl.DataFrame(schema={"user": pl.Int64})
    if form.user_fields is not None and not _find(folder, form, form.users):
        _without(form.users, "nothing is known of users but their ratings")
    elif form.user_fields is not None:
        users, more = _users(form, folder, work, options, progress)
        steps += more
    raw = RawTables(interactions=interactions, items=items.lazy(), users=users.lazy(), steps=steps)
    return plain_items(raw) if options.markup == "clean" else raw


def _interactions(
    form: _Format, folder: Path, work: Path, options: recipe.Source, progress: Progress
) -> tuple[pl.LazyFrame, list[Step]]:
    types = {
        "user": pl.Int64(),
        "item": pl.Int64(),
        "rating": pl.Float32(),
        "timestamp": pl.Int64(),
    }
    rows, step = stage_delimited(
        _member(folder, form, form.ratings),
        form.rating_fields,
        work / "ratings",
        name="ratings",
        dialect=form.rating_dialect,
        dtypes=types,
        max_bad_share=options.max_bad_share,
        progress=progress,
    )
    usable = pl.all_horizontal(pl.col(*types).is_not_null()) & pl.col("rating").is_between(*RATINGS)
    why = "no user, item, time, or rating from 0.5 to 5"
    rows, lost = unusable(rows, usable, "ratings", why, options.max_bad_share)
    return rows.select(*types, "line"), [step, lost]


def _movies(
    form: _Format, folder: Path, work: Path, options: recipe.Source, progress: Progress
) -> tuple[pl.DataFrame, list[Step]]:
    staged, step = stage_delimited(
        path := _member(folder, form, form.movies),
        form.movie_fields,
        work / "movies",
        name="movies",
        dialect=replace(form.movie_dialect, encoding=encoding_of(path.read_bytes())),
        dtypes={"item": pl.Int64()},
        max_bad_share=options.max_bad_share,
        progress=progress,
    )
    title = pl.col("title").str.strip_chars()
    genres = (
        _flagged_genres() if "genres" not in form.movie_fields else pl.col("genres").str.split("|")
    )
    kept = genres.list.eval(pl.element().filter(~pl.element().is_in(NO_GENRES)))
    described = staged.select(
        "item",
        null_if_empty(title.str.replace(YEAR, "")).alias("title"),
        pl.when(kept.list.len() > 0).then(kept).alias("categories"),
        pl.lit(None, dtype=pl.String).alias("image"),
        title.str.extract(YEAR).cast(pl.Int32).alias("year"),
        "line",
    ).collect()
    movies, twice = repeated(described.lazy(), "item", "movies")
    return movies.drop("line").collect(), [step, twice]


def _flagged_genres() -> pl.Expr:
    named = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in GENRES_100K]
    return pl.concat_list(named).list.drop_nulls()


def _users(
    form: _Format, folder: Path, work: Path, options: recipe.Source, progress: Progress
) -> tuple[pl.DataFrame, list[Step]]:
    staged, step = stage_delimited(
        path := _member(folder, form, form.users),
        form.user_fields or {},
        work / "users",
        name="users",
        dialect=replace(form.movie_dialect, encoding=encoding_of(path.read_bytes())),
        dtypes={"user": pl.Int64(), "age": pl.Int32()},
        max_bad_share=options.max_bad_share,
        progress=progress,
    )
    names = {str(code): name for code, name in enumerate(OCCUPATIONS_1M)}
    rows, twice = repeated(staged, "user", "users")
    users = rows.select(
        "user", "gender", "age", pl.col("occupation").replace(names), "zip"
    ).collect()
    return users, [step, twice]


def _member(folder: Path, form: _Format, name: str) -> Path:
    """Returns the path of a member (see `_find`).

    Raises:
        SourceError: it is not there.
    """
    path = _find(folder, form, name)
    if path is None:
        raise SourceError(
            f"there is no '{form.folder}/{name}'",
            where=str(folder),
            hint="is it another edition? `source.edition` says which is read",
        )
    return path


def _find(folder: Path, form: _Format, name: str) -> Path | None:
    """Returns the path of a member, in the archive's own folder or wherever it lies below `folder`.

    `folder` may be one member itself, given as a file by hand: then the others are not there.
    """
    if folder.is_file():
        plain = folder.name.removesuffix(".gz")
        return folder if plain == name else None
    paths = (folder / form.folder / name, folder / name, *sorted(folder.rglob(name)))
    return next((path for path in paths if path.is_file()), None)


def _without(name: str, what: str) -> None:
    log.warning("there is no %s: %s", name, what)


MOVIELENS = SourceKind(
    summary="MovieLens ratings of GroupLens: " + ", ".join(FORMATS),
    files=files,
    read=read,
    terms=terms,
    expected=expected,
)
