"""Amazon reviews: which files an edition needs, and what is read of its reviews."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from fedprep.errors import RecipeError, SourceError
from fedprep.recipe import Source
from fedprep.schema import silent
from fedprep.sources import SOURCES
from tests.real import raw_file

AMAZON = SOURCES["amazon"]
DAY = 1_500_000_000


def source(edition: str, category: str = "Gift_Cards", subset: str = "") -> Source:
    return Source(
        name="amazon", edition=edition, category=category, subset=subset, max_bad_share=1.0
    )


def old(user, item, rating, time=DAY, **more):
    return {"reviewerID": user, "asin": item, "overall": rating, "unixReviewTime": time, **more}


def new(user, item, rating, time=DAY * 1000 + 999, **more):
    return {
        "user_id": user,
        "parent_asin": item,
        "asin": "V1",
        "rating": rating,
        "timestamp": time,
        **more,
    }


def read(tmp_path: Path, edition: str, reviews: list[dict | str], **options):
    lines = [line if isinstance(line, str) else json.dumps(line) for line in reviews]
    (tmp_path / "reviews").write_bytes(gzip.compress("\n".join(lines).encode()))
    key = "parent_asin" if edition == "2023" else "asin"
    (tmp_path / "meta").write_bytes(
        gzip.compress(json.dumps({key: "I1", "title": "Kettle"}).encode())
    )
    paths = {role: tmp_path / role for role in ("reviews", "meta")}
    raw = AMAZON.read(paths, source(edition, **options), tmp_path / "work", silent)
    return raw, raw.interactions.collect()


COLUMNS = {
    "user": pl.String,
    "item": pl.String,
    "rating": pl.Float32,
    "timestamp": pl.Int64,
    "line": pl.UInt32,
}


@pytest.mark.parametrize("edition", ["2014", "2018"])
def test_the_old_editions_are_read_by_product_and_in_seconds(tmp_path, edition):
    raw, rows = read(tmp_path, edition, [old("U1", "I1", 5.0), old("U2", "I1", 1.0, vote="1,234")])
    assert rows.schema == COLUMNS
    assert rows.rows() == [("U1", "I1", 5.0, DAY, 1), ("U2", "I1", 1.0, DAY, 2)]
    assert sum(step.dropped for step in raw.steps) == 0
    assert raw.users.collect().height == 0


def test_2023_is_read_by_parent_product_and_milliseconds_become_seconds(tmp_path):
    _, rows = read(tmp_path, "2023", [new("U1", "P1", 4.0)])
    assert rows.schema == COLUMNS
    assert rows.rows() == [("U1", "P1", 4.0, DAY, 1)]


def test_dirt_in_reviews_is_dropped_counted_and_named(tmp_path):
    text = {"reviewText": "a fine kettle", "summary": "fine"}
    raw, rows = read(
        tmp_path,
        "2018",
        [
            old("U1", "I1", 5.0, **text),
            old("U1", "I1", 5.0, **text),  # equal
            old("U1", "I1", 5.0, **text | {"reviewText": "another"}),  # the same pair, another text
            old("U1", "I1", 4.0, **text),  # the same pair, another rating
            old("U2", "I1", 5.0, **text, vote="2"),
            old("U2", "I1", 5.0, **text),  # equal in all that counts
            '{"reviewerID": "U3", "as',
            old("", "I1", 5.0),
            old("U3", None, 5.0),
            old("U3", "I1", 0.0),
            old("U3", "I1", 5.0, None),
            old("U3", "I1", "five"),
            old("U3", "I1", 3),
        ],
    )
    assert rows["line"].to_list() == [1, 3, 4, 5, 13]
    steps = {step.name: (step.rows_in, step.dropped, step.examples) for step in raw.steps}
    assert steps["bad lines in reviews"] == (13, 1, ("line 7",))
    assert steps["duplicate reviews"] == (12, 2, ("line 2", "line 6"))
    assert steps["unusable reviews"] == (10, 5, ("line 8", "line 9", "line 10"))


def test_duplicates_are_told_by_their_texts_in_2023_too(tmp_path):
    raw, rows = read(tmp_path, "2023", [new("U", "P", 5.0, text=t) for t in ("a", "b", "a")])
    assert rows["line"].to_list() == [1, 2]
    assert raw.steps[1].dropped == 1


def test_implausible_times_are_left_for_the_checks_to_find(tmp_path):
    _, rows = read(
        tmp_path, "2014", [old("U", "I1", 5.0, DAY * 1000), old("U", "I2", 5.0, DAY * 3)]
    )
    assert rows["timestamp"].to_list() == [DAY * 1000, DAY * 3]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_2023_core_is_a_table_of_ratings(tmp_path, pack):
    csv = "user_id,parent_asin,rating,timestamp\nU1,P1,4.0,1500000000999\nU2,P1,0.0,1500000000999\nU3,P1\n"
    (tmp_path / "reviews").write_bytes(pack(csv.encode()))
    (tmp_path / "meta").write_text(json.dumps({"parent_asin": "P1"}))
    paths = {role: tmp_path / role for role in ("reviews", "meta")}
    raw = AMAZON.read(paths, source("2023", subset="5core"), tmp_path / "work", silent)
    rows = raw.interactions.collect()
    assert rows.schema == COLUMNS
    assert rows.rows() == [("U1", "P1", 4.0, DAY, 2)]
    assert [step.dropped for step in raw.steps[:2]] == [1, 1]


def test_a_file_cut_short_is_refused_with_its_name(tmp_path):
    (tmp_path / "reviews").write_bytes(
        gzip.compress(json.dumps(old("U", "I", 5.0)).encode() * 99)[:-20]
    )
    (tmp_path / "meta").write_text("{}")
    with pytest.raises(SourceError, match="reviews: the gzip file is cut short") as error:
        AMAZON.read(
            {r: tmp_path / r for r in ("reviews", "meta")},
            source("2018"),
            tmp_path / "work",
            silent,
        )
    assert str(tmp_path / "reviews") in str(error.value)


def names(options: Source) -> list[list[str]]:
    return [[c.name for c in file.candidates] for file in AMAZON.files(options)]


def test_each_edition_names_its_files():
    assert names(source("2014", "Beauty")) == [
        ["reviews_Beauty_5.json.gz"],
        ["meta_Beauty.json.gz"],
    ]
    assert names(source("2014", "Beauty", "all"))[0] == ["reviews_Beauty.json.gz"]
    assert names(source("2018")) == [["Gift_Cards_5.json.gz"], ["meta_Gift_Cards.json.gz"]]
    assert names(source("2018", subset="all"))[0] == ["Gift_Cards.json.gz"]
    assert names(source("2023")) == [
        ["Gift_Cards.jsonl", "Gift_Cards.jsonl.gz"],
        ["meta_Gift_Cards.jsonl", "meta_Gift_Cards.jsonl.gz"],
    ]
    assert names(source("2023", subset="5core"))[0] == ["Gift_Cards.csv", "Gift_Cards.csv.gz"]


def test_addresses_and_checksums_are_those_of_the_facts():
    reviews, meta = AMAZON.files(source("2023"))
    hub, packed = reviews.candidates
    assert hub.urls[0].endswith("/resolve/main/raw/review_categories/Gift_Cards.jsonl")
    assert (hub.n_bytes, len(hub.sha256)) == (50_231_035, 64)
    assert packed.urls[0].endswith("/amazon_2023/raw/review_categories/Gift_Cards.jsonl.gz")
    assert (packed.n_bytes, packed.sha256) == (0, "")
    _, meta = AMAZON.files(source("2018"))
    assert [url.split("/")[-2] for url in meta.candidates[0].urls] == ["metaFiles2"] * 4 + [
        "metaFiles"
    ] * 4
    reviews, _ = AMAZON.files(source("2014", "Automotive", "all"))
    assert len(reviews.candidates[0].md5) == 32
    assert AMAZON.expected(source("2014", "Musical_Instruments")) == {"interactions": 10_261}
    assert AMAZON.expected(source("2018")) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (source("2019"), "did you mean '2018' or '2014'"),
        (source(""), "names no edition"),
        (source("2018", ""), "names no category"),
        (source("2018", "gift_card"), "did you mean 'Gift_Cards'"),
        (source("2014", "Gift_Cards"), "no category is called"),
        (source("2023", "Digital_Music", "5core"), "has no 5-core of Digital_Music"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest_names(options, message):
    with pytest.raises(RecipeError) as error:
        AMAZON.files(options)
    assert message in str(error.value)


def test_no_edition_states_a_licence_and_all_ask_for_a_citation():
    for edition in ("2014", "2018", "2023"):
        terms = AMAZON.terms(source(edition))
        assert (terms.licence, terms.redistribution) == ("none stated", False)
        assert "McAuley" in terms.citation


def fingerprint(frame: pl.DataFrame) -> str:
    three = [frame.row(position) for position in (0, 9, -1)]
    return hashlib.sha256(repr(three).encode()).hexdigest()[:16]


@pytest.mark.realdata
def test_the_official_gift_cards_have_their_published_counts(mirror, tmp_path):
    paths = {
        "reviews": raw_file(mirror, "Gift_Cards_5.json.gz"),
        "meta": raw_file(mirror, "meta_Gift_Cards.json.gz"),
    }
    raw = AMAZON.read(paths, source("2018"), tmp_path, silent)
    rows, items = raw.interactions.collect(), raw.items.collect()
    assert (rows.height, rows["user"].n_unique(), rows["item"].n_unique()) == (2972, 458, 148)
    assert rows.select("user", "item").n_unique() == 2965
    assert (items.height, items["item"].n_unique()) == (1547, 1547)
    assert set(rows["item"]) <= set(items["item"])
    assert items["image"].count() == 660
    assert items["description"].null_count() == 742
    assert items["price"].max() == 1250.0
    assert {step.name: step.dropped for step in raw.steps if step.dropped} == {
        "unreadable prices": 4
    }
    assert not items["description"].str.contains("<[a-z]+ |&amp;").any()
    # The first, the tenth and the last record, by their hash: the rows themselves are not ours.
    assert fingerprint(rows.drop("line")) == "9cd4746bedca03f0"
    assert fingerprint(items.select("item", "title", "categories", "price")) == "0a9a894a89040629"


@pytest.mark.parametrize("edition", ["2014", "2018", "2023"])
def test_without_metadata_there_are_reviews_and_no_titles_and_it_is_said_once(
    tmp_path, edition, caplog
):
    row = new if edition == "2023" else old
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(json.dumps(row("u", f"i{n}", 4)) for n in range(5)))
    with caplog.at_level("WARNING"):
        tables = SOURCES["amazon"].read(
            {"reviews": path}, source(edition), tmp_path / "alone", silent
        )
    whole, _ = read(tmp_path, edition, [row("u", "i", 4)])
    assert tables.interactions.collect().height == 5
    assert tables.items.collect().height == 0
    assert tables.items.collect_schema() == whole.items.collect_schema()
    assert sum("metadata" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("edition", ["2014", "2018", "2023"])
def test_metadata_may_lack_where_reviews_are_given_and_never_else(tmp_path, edition):
    from fedprep import fetch
    from fedprep.errors import FetchError

    unreachable = [
        replace(raw, candidates=tuple(replace(c, urls=()) for c in raw.candidates))
        for raw in SOURCES["amazon"].files(
            source(edition, "Baby" if edition == "2014" else "Gift_Cards")
        )
    ]
    with pytest.raises(FetchError):
        fetch.fetch(unreachable, cache=tmp_path / "cache", mirrors=[])
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / unreachable[0].candidates[-1].name).write_text("{}")
    for given, mirrors in ((folder, []), (next(folder.iterdir()), []), (None, [str(folder)])):
        found = fetch.fetch(
            unreachable,
            cache=tmp_path / "cache",
            mirrors=mirrors,
            by_hand=given,
            allow_unverified=True,
        )
        assert set(found) == {"reviews"}
