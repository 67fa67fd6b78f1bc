"""MovieLens: every edition's format, its dirt, and the official archive."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import polars as pl
import pytest

from fedprep.errors import RecipeError, SourceError
from fedprep.recipe import Source
from fedprep.schema import silent
from fedprep.sources import SOURCES
from fedprep.sources.movielens import FORMATS, GENRES_100K
from tests.real import raw_file

MOVIELENS = SOURCES["movielens"]

# Invented movies and people, written as each edition writes them.
FLAGS = {"Drama": "0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0", "none": "1" + "|0" * 18}
CSV_RATINGS = (
    "userId,movieId,rating,timestamp\n2,10,3.0,978300760\n1,30,5.0,978300761\n1,10,0.5,978300760\n"
)
CSV_MOVIES = (
    'movieId,title,genres\n10,"Quay, The (1999)",Drama|Sci-Fi\n20,Nought,(no genres listed)\n'
    '30,"A ""Б"" (2001–2004)",Comedy\n'
)
DAT_RATINGS = "2::10::3::978300760\n1::30::5::978300761\n1::10::1::978300760\n"
DAT_MOVIES = (
    "10::Quay, The (1999)::Drama|Sci-Fi\n20::Nought::Comedy\n30::Café: Più (2001)::Comedy\n"
)


def write(folder: Path, edition: str) -> Path:
    root = folder / FORMATS[edition].folder
    root.mkdir(parents=True)
    if edition == "100k":
        (root / "u.data").write_text(
            "2\t10\t3\t978300760\n1\t30\t5\t978300761\n1\t10\t1\t978300760\n"
        )
        movies = (
            f"10|Quay, The (1999)|01-Jan-1999||http://example.com/?(1999)|{FLAGS['Drama']}\n"
            f"20|unknown||||{FLAGS['none']}\n"
            f"30|Café: Più (2001)|01-Jan-2001|||{FLAGS['Drama']}\n"
        )
        (root / "u.item").write_bytes(movies.encode("latin-1"))
        (root / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|T8H1N\n")
    elif edition in ("1m", "10m"):
        encoding = "latin-1" if edition == "1m" else "utf-8"
        (root / "ratings.dat").write_text(
            DAT_RATINGS.replace("::5::", "::4.5::") if edition == "10m" else DAT_RATINGS
        )
        (root / "movies.dat").write_bytes(DAT_MOVIES.encode(encoding))
        if edition == "1m":
            (root / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-123\n")
    else:
        newline = "\r\n" if edition == "latest-small" else "\n"
        (root / "ratings.csv").write_text(CSV_RATINGS, newline=newline)
        (root / "movies.csv").write_text(CSV_MOVIES, encoding="utf-8", newline=newline)
    return folder


def read(folder: Path, edition: str):
    raw = MOVIELENS.read(
        {"archive": folder},
        Source(name="movielens", edition=edition, max_bad_share=1.0),
        folder / ".work",
        silent,
    )
    return raw, raw.interactions.collect(), raw.items.collect().sort("item"), raw.users.collect()


@pytest.mark.parametrize("edition", FORMATS)
def test_every_edition_is_read_in_its_own_format(tmp_path, edition):
    raw, rows, items, users = read(write(tmp_path, edition), edition)
    assert rows.schema == {
        "user": pl.Int64,
        "item": pl.Int64,
        "rating": pl.Float32,
        "timestamp": pl.Int64,
        "line": pl.UInt32,
    }
    assert rows["user"].to_list() == [2, 1, 1]
    assert rows["item"].to_list() == [10, 30, 10]
    assert rows["timestamp"].to_list() == [978300760, 978300761, 978300760]
    header = 1 if edition in ("20m", "25m", "32m", "latest-small") else 0
    assert rows["line"].to_list() == [1 + header, 2 + header, 3 + header]
    assert items["item"].to_list() == [10, 20, 30]
    assert items["title"][0] == "Quay, The"
    assert items["year"].to_list() == [1999, None, 2001]
    assert items["image"].null_count() == 3
    assert users.height == (2 if edition in ("100k", "1m") else 0)
    assert sum(step.dropped for step in raw.steps) == 0


def test_genres_become_categories_and_none_of_them_null(tmp_path):
    def categories(edition):
        return read(write(tmp_path / edition, edition), edition)[2]["categories"].to_list()

    assert categories("25m") == [["Drama", "Sci-Fi"], None, ["Comedy"]]
    assert categories("1m") == [["Drama", "Sci-Fi"], ["Comedy"], ["Comedy"]]
    assert categories("100k") == [["Drama"], None, ["Drama"]]
    assert len(GENRES_100K) == 19


def test_tags_and_entities_are_taken_out_of_titles_and_genres(tmp_path):
    folder = write(tmp_path, "1m")
    path = folder / "ml-1m" / "movies.dat"
    text = "10::Caf&eacute; &amp; <b>Bar</b> (1999)::Drama|Q&amp;A\n20::AT&T <3 you::Comedy\n"
    path.write_text(text, encoding="utf-8")
    raw, _, items, _ = read(folder, "1m")
    assert items["title"].to_list() == ["Café & Bar", "AT&T <3 you"]
    assert items["categories"].to_list() == [["Drama", "Q&A"], ["Comedy"]]
    assert items["year"].to_list() == [1999, None]
    assert "markup in items" in [step.name for step in raw.steps]


def test_accents_survive_in_latin1_and_in_utf8(tmp_path):
    assert read(write(tmp_path / "a", "1m"), "1m")[2]["title"][2] == "Café: Più"
    assert read(write(tmp_path / "b", "10m"), "10m")[2]["title"][2] == "Café: Più"
    assert read(write(tmp_path / "c", "25m"), "25m")[2]["title"][2] == 'A "Б"'
    again = write(tmp_path / "d", "1m")
    (again / "ml-1m" / "movies.dat").write_text(DAT_MOVIES, encoding="utf-8")
    assert read(again, "1m")[2]["title"][2] == "Café: Più"
    latin = write(tmp_path / "e", "25m")
    text = CSV_MOVIES.replace("Б", "é").replace("–", "-")
    (latin / "ml-25m" / "movies.csv").write_bytes(text.encode("latin-1"))
    assert read(latin, "25m")[2]["title"][2] == 'A "é"'


def test_users_have_their_columns_and_codes_their_words(tmp_path):
    _, _, _, users = read(write(tmp_path / "1m", "1m"), "1m")
    assert users.rows(named=True) == [
        {"user": 1, "gender": "F", "age": 1, "occupation": "K-12 student", "zip": "48067"},
        {"user": 2, "gender": "M", "age": 56, "occupation": "self-employed", "zip": "70072-123"},
    ]
    _, _, _, users = read(write(tmp_path / "100k", "100k"), "100k")
    assert users.row(1) == (2, "F", 53, "other", "T8H1N")


def test_dirt_is_dropped_counted_and_named(tmp_path):
    folder = write(tmp_path, "1m")
    dirt = "1::10\n\n1:10::3::978300760\nx::10::3::978300760\n"  # no ratings
    dirt += "::10::3::978300760\n1::20::0::978300760\n1::20::3::\n"  # no user, no stars, no time
    (folder / "ml-1m" / "ratings.dat").write_text(DAT_RATINGS + dirt)
    (folder / "ml-1m" / "movies.dat").write_bytes(
        (DAT_MOVIES + "10::Another Quay (2000)::Drama\n40::Broken\n").encode("latin-1")
    )
    raw, rows, items, _ = read(folder, "1m")
    assert rows.height == 3
    assert items["title"].to_list() == ["Quay, The", "Nought", "Café: Più"]
    steps = {step.name: (step.dropped, step.examples) for step in raw.steps}
    assert steps == {
        "bad lines in ratings": (3, ("line 4", "line 6", "line 7")),
        "unusable ratings": (3, ("line 8", "line 9", "line 10")),
        "bad lines in movies": (1, ("line 5",)),
        "repeated movies": (1, ("line 4",)),
        "bad lines in users": (0, ()),
        "repeated users": (0, ()),
    }


def test_implausible_times_are_left_for_the_checks_to_find(tmp_path):
    folder = write(tmp_path, "1m")
    (folder / "ml-1m" / "ratings.dat").write_text("1::10::3::978300760000\n1::20::3::9783007600\n")
    raw, rows, _, _ = read(folder, "1m")
    assert rows["timestamp"].to_list() == [978300760000, 9783007600]
    assert raw.steps[1].dropped == 0


def test_members_are_found_wherever_the_archive_was_unpacked(tmp_path):
    flat = write(tmp_path / "a", "1m") / "ml-1m"
    assert read(flat, "1m")[1].height == 3
    write(tmp_path / "b" / "deep" / "er", "1m")
    assert read(tmp_path / "b", "1m")[1].height == 3


def test_another_editions_archive_and_a_wrong_header_are_refused(tmp_path):
    folder = write(tmp_path, "25m")
    with pytest.raises(SourceError, match=r"no 'ml-1m/ratings\.dat'"):
        read(folder, "1m")
    (folder / "ml-25m" / "ratings.csv").write_text("user,movieId,rating,timestamp\n1,1,1,1\n")
    with pytest.raises(SourceError, match="userId"):
        read(folder, "25m")


@pytest.mark.parametrize("edition", FORMATS)
def test_without_movies_there_are_ratings_and_no_titles_and_it_is_said_once(
    tmp_path, edition, caplog
):
    _, rows, items, _ = read(write(tmp_path / "whole", edition), edition)
    folder = write(tmp_path / "part", edition)
    form = FORMATS[edition]
    (folder / form.folder / form.movies).unlink()
    with caplog.at_level("WARNING"):
        _, alone, none, _ = read(folder, edition)
    assert alone.equals(rows)
    assert none.is_empty()
    assert none.schema == items.schema
    assert [form.movies in record.message for record in caplog.records] == [True]
    _, of_file, _, _ = read_file(folder / form.folder / form.ratings, edition, tmp_path)
    assert of_file.equals(rows)


def test_without_ratings_the_file_that_is_missing_is_named(tmp_path):
    folder = write(tmp_path, "latest-small")
    (folder / "ml-latest-small" / "ratings.csv").unlink()
    with pytest.raises(SourceError) as caught:
        read(folder, "latest-small")
    assert "ratings.csv" in caught.value.what
    with pytest.raises(SourceError) as caught:
        read_file(folder / "ml-latest-small" / "movies.csv", "latest-small", tmp_path)
    assert "ratings.csv" in caught.value.what


def read_file(path: Path, edition: str, work: Path):
    options = Source(name="movielens", edition=edition, max_bad_share=1.0)
    raw = MOVIELENS.read({"archive": path}, options, work / ".work-of-file", silent)
    return raw, raw.interactions.collect(), raw.items.collect(), raw.users.collect()


def test_ratings_of_which_none_can_be_used_are_refused(tmp_path):
    folder = write(tmp_path, "1m")
    (folder / "ml-1m" / "ratings.dat").write_text("1::10::0::978300760\n1::20::9::978300760\n")
    with pytest.raises(SourceError, match="none of the 2 rows"):
        read(folder, "1m")


def test_every_edition_has_its_archive_its_members_and_its_terms():
    for edition, form in FORMATS.items():
        options = Source(name="movielens", edition=edition)
        (archive,) = MOVIELENS.files(options)
        (candidate,) = archive.candidates
        address = f"files.grouplens.org/datasets/movielens/{candidate.name}"
        assert candidate.urls == (f"https://{address}", f"http://{address}")
        assert candidate.sha256 or candidate.md5, "plain http needs a checksum to go by"
        assert candidate.md5 or candidate.sha256
        assert archive.members == form.members
        assert MOVIELENS.expected(options)["interactions"] >= 100_000
        allowed = MOVIELENS.terms(options)
        assert ("may not redistribute" in allowed.licence_text) != allowed.redistribution
    with pytest.raises(RecipeError, match="did you mean '25m'"):
        MOVIELENS.files(Source(name="movielens", edition="25M"))


def fingerprint(frame: pl.DataFrame) -> str:
    three = [frame.row(position) for position in (0, 9, -1)]
    return hashlib.sha256(repr(three).encode()).hexdigest()[:16]


@pytest.mark.realdata
def test_the_official_ml_1m_has_its_published_counts(mirror, tmp_path):
    with zipfile.ZipFile(raw_file(mirror, "ml-1m.zip")) as archive:
        archive.extractall(tmp_path)
    raw, rows, items, users = read(tmp_path, "1m")
    expected = MOVIELENS.expected(Source(name="movielens", edition="1m"))
    assert (rows.height, rows["user"].n_unique(), items.height) == tuple(expected.values())
    assert users.height == 6040
    assert rows["item"].n_unique() == 3706
    assert sum(step.dropped for step in raw.steps) == 0
    counts = rows["rating"].value_counts().sort("rating")["count"].to_list()
    assert counts == [56_174, 107_557, 261_197, 348_971, 226_310]
    assert (rows["timestamp"].min(), rows["timestamp"].max()) == (956703932, 1046454590)
    assert rows["line"].equals(
        pl.int_range(1, rows.height + 1, eager=True, dtype=pl.UInt32).alias("line")
    )
    # The first, the tenth and the last record, by their hash: the rows themselves may not be passed on.
    assert fingerprint(rows.drop("line")) == "cc16d7aa17a334c2"
    assert fingerprint(items.drop("image")) == "b08e0700156eff86"
    assert fingerprint(users) == "6a9df30168244d34"
    assert items["categories"].explode().n_unique() == 18
    assert items["year"].null_count() == 0
