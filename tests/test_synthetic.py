"""Made-up raw files: what was promised, what was planted, and that the readers find it again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep import recipe
from fedprep.clean import clean
from fedprep.embed.decode import DAMAGED, NO_PICTURE, TOO_MANY_PIXELS, UnusablePicture, decode
from fedprep.embed.pictures import FolderStore, match_pictures
from fedprep.errors import RecipeError, SourceError
from fedprep.schema import SOURCE_ID, RawTables, Step, silent
from fedprep.sources.synthetic import FAULTS, LAWS, PlantedTruth, planted_truth, write_raw
from fedprep.sources.synthetic import rows as rows_module
from fedprep.sources.synthetic.laws import law_of
from fedprep.sources.synthetic.names import amazon_items, amazon_users, yelp_names
from fedprep.sources.synthetic.rows import row_blocks
from fedprep.sources.synthetic.source import FAMILIES, SYNTHETIC
from fedprep.sources.synthetic.truth import Truth, plant_truth
from fedprep.sources.synthetic.words import item_words, lexicon_of

EDITIONS = [(family, edition) for family in LAWS for edition in LAWS[family]]
ONE_EACH = [("movielens", "25m"), ("amazon", "2018"), ("yelp", "")]


def size_of(**changes: Any) -> recipe.Synthetic:
    values = {"n_users": 60, "n_items": 80, "n_interactions": 1500, "images": 0.0, **changes}
    return recipe.Synthetic(**values)


def written(
    folder: Path, family: str, edition: str, *, seed: int = 0, **changes: Any
) -> dict[str, Path]:
    return write_raw(
        folder,
        family=family,
        edition=edition,
        category="Gift_Cards" if family == "amazon" else "",
        size=size_of(**changes),
        seed=seed,
    )


def read_back(
    folder: Path, family: str, edition: str, *faults: str, **changes: Any
) -> tuple[RawTables, PlantedTruth]:
    """Raw files with faults, as the family's reader reads them, and what was planted."""
    paths = written(folder / "raw", family, edition, faults=list(faults), **changes)
    category = "Gift_Cards" if family == "amazon" else ""
    source = recipe.Source(name=family, edition=edition, category=category, max_bad_share=1.0)
    tables = FAMILIES[family].read(paths, source, folder / "work", silent)
    return tables, planted_truth(folder / "raw")


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def truth_of(
    family: str = "amazon", edition: str = "2018", *, seed: int = 0, **changes: Any
) -> Truth:
    return plant_truth(size_of(**changes), law_of(family, edition), seed=seed)


def all_rows(truth: Truth) -> pl.DataFrame:
    return pl.concat(row_blocks(truth))


# What is promised -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "edition"), EDITIONS)
def test_the_reader_of_the_edition_reads_back_what_was_promised(
    tmp_path: Path, family: str, edition: str
) -> None:
    tables, truth = read_back(tmp_path, family, edition)
    rows, items = tables.interactions.collect(), tables.items.collect()
    assert rows.height == 1500
    assert rows["user"].n_unique() == 60
    assert items.height == items["item"].n_unique() == 80
    assert [step for step in tables.steps if step.dropped] == []
    drawn = all_rows(truth_of(family, edition))
    drawn = drawn.select(
        user=truth.users["source_id"].gather(drawn["user"]),
        item=truth.items["source_id"].gather(drawn["item"]),
        rating="rating",
        timestamp=pl.col("timestamp") // (1000 if edition == "2023" else 1),
    )
    read = rows.select(pl.col("user", "item").cast(pl.String), "rating", "timestamp")
    assert read.sort("user", "item").equals(drawn.sort("user", "item"))
    law = LAWS[family][edition]
    assert rows["timestamp"].min() >= law.first - law.grain
    assert rows["timestamp"].max() <= law.last
    assert rows["rating"].min() >= law.lowest
    assert rows["rating"].max() <= 5.0
    assert items["title"].null_count() <= 2 and items["categories"].null_count() == 0


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_synthetic_source_reads_what_it_makes_up(tmp_path: Path, family: str) -> None:
    source = recipe.Source(name="synthetic", synthetic=size_of(family=family))
    assert SYNTHETIC.files(source) == ()
    tables = SYNTHETIC.read({}, source, tmp_path, silent)
    rows = tables.interactions.select("user", "item").collect()
    assert SYNTHETIC.expected(source) == {
        "interactions": rows.height,
        "users": rows["user"].n_unique(),
        "items": tables.items.collect().height,
    }
    assert SYNTHETIC.terms(source).redistribution


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_equal_arguments_give_equal_bytes(tmp_path: Path, family: str, edition: str) -> None:
    faults = [name for name, fault in FAULTS.items() if family in fault.families]
    for name in ("one", "two"):
        written(tmp_path / name, family, edition, seed=3, images=0.3, faults=faults)
    written(tmp_path / "other", family, edition, seed=4, images=0.3, faults=faults)
    one, two, other = (digests(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_a_gzip_holds_no_time(tmp_path: Path) -> None:
    paths = written(tmp_path / "raw", "amazon", "2018")
    assert [paths[role].read_bytes()[:8] for role in ("reviews", "meta")] == [
        b"\x1f\x8b\x08" + bytes(5)
    ] * 2


def test_raw_files_that_are_there_are_kept_and_others_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    first = written(folder, "yelp", "")
    times = {path: path.stat().st_mtime_ns for path in first.values()}
    assert written(folder, "yelp", "") == first
    assert {path: path.stat().st_mtime_ns for path in first.values()} == times
    assert set(written(folder, "movielens", "1m")) == {"archive"}
    assert not first["review"].exists()


def test_the_edition_and_category_may_be_left_to_the_family(tmp_path: Path) -> None:
    paths = write_raw(
        tmp_path / "raw", family="amazon", edition="", category="", size=size_of(), seed=0
    )
    assert paths["reviews"].name == "All_Beauty.jsonl.gz"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n_interactions": 59}, "59 interactions"),
        ({"n_interactions": 4801}, "4,801 interactions"),
        ({"faults": ["zero_rating"]}, "zero_ratings"),
        ({"faults": ["bad_json_lines"]}, "amazon | yelp"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(RecipeError, match=word.replace("|", r"\|")):
        written(tmp_path / "raw", "movielens", "1m", **changes)
    assert not (tmp_path / "raw").exists()


def test_an_unknown_edition_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'25m'"):
        written(tmp_path / "raw", "movielens", "24m")


def test_a_folder_of_something_else_holds_no_truth(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no synthetic raw files"):
        planted_truth(tmp_path)


# Laws of the planted truth --------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    n_users=st.integers(1, 40),
    n_items=st.integers(1, 40),
    fill=st.floats(0.0, 1.0),
    n_topics=st.integers(1, 50),
    power=st.floats(0.1, 4.0),
    family=st.sampled_from(ONE_EACH),
    seed=st.integers(0, 10**9),
)
def test_every_size_gives_exactly_its_rows_and_no_pair_twice(
    n_users: int,
    n_items: int,
    fill: float,
    n_topics: int,
    power: float,
    family: tuple[str, str],
    seed: int,
) -> None:
    n = n_users + round(fill * (n_users * n_items - n_users))
    sizes = {"n_users": n_users, "n_items": n_items, "n_interactions": n}
    truth = truth_of(*family, seed=seed, n_topics=n_topics, power=power, **sizes)
    rows = all_rows(truth)
    assert rows.height == rows.select("user", "item").n_unique() == n
    assert rows["user"].n_unique() == n_users
    assert rows["row"].to_list() == list(range(n))
    assert rows["item"].is_between(0, n_items - 1).all()
    words = item_words(truth)
    assert words["title"].n_unique() == n_items


def test_blocks_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = truth_of(faults=[])
    monkeypatch.setattr(rows_module, "BLOCK_ROWS", 200)
    blocks = list(row_blocks(truth))
    assert len(blocks) > 5
    assert all(block.height <= 200 or block["user"].n_unique() == 1 for block in blocks)
    rows = pl.concat(blocks)
    assert rows.height == rows.select("user", "item").n_unique() == 1500
    assert np.bincount(rows["user"], minlength=60).tolist() == truth.activity.tolist()


@pytest.mark.parametrize("power", [0.6, 1.0])
def test_popularity_is_a_power_law_of_the_exponent_asked_for(power: float) -> None:
    # Sparse enough that hardly anyone would rate an item twice, which would flatten the head.
    truth = truth_of("yelp", "", n_users=30_000, n_items=3000, n_interactions=120_000, power=power)
    counts = np.sort(np.bincount(all_rows(truth)["item"], minlength=3000))[::-1]
    ranks = np.arange(10, 600)
    slope = np.polyfit(np.log(ranks), np.log(counts[ranks - 1]), 1)[0]
    assert slope == pytest.approx(-power, abs=0.06)


def test_activity_is_heavy_tailed() -> None:
    activity = np.sort(
        truth_of("yelp", "", n_users=5000, n_items=2000, n_interactions=50_000).activity
    )
    assert activity.sum() == 50_000
    assert activity[0] >= 1
    assert activity[-500:].sum() > 0.3 * 50_000
    assert activity[-1] > 20 * np.median(activity)


def test_ratings_follow_the_planted_factors(tmp_path: Path) -> None:
    def explained(noise: float) -> float:
        tables, truth = read_back(
            tmp_path / str(noise), "movielens", "25m", noise=noise, drift=0.0, n_interactions=3000
        )
        rows = tables.interactions.with_columns(pl.col("user", "item").cast(pl.String)).collect()
        users = rows.select(source_id="user").join(
            truth.users, on="source_id", maintain_order="left"
        )
        items = rows.select(source_id="item").join(
            truth.items, on="source_id", maintain_order="left"
        )
        tastes, factors = users["first_factors"].to_numpy(), items["factors"].to_numpy()
        affinity = (tastes * factors).sum(axis=1) / np.sqrt(factors.shape[1])
        planted = 0.9 * affinity + users["bias"].to_numpy() + items["bias"].to_numpy()
        return float(np.corrcoef(planted, rows["rating"].to_numpy())[0, 1])

    assert explained(0.0) > 0.95
    assert 0.7 < explained(0.7) < explained(0.0)


def test_drift_moves_users_from_their_first_topic_to_their_last() -> None:
    def share_of_last_topic(drift: float) -> tuple[float, float]:
        truth = truth_of("yelp", "", n_users=3000, n_items=800, n_interactions=40_000, drift=drift)
        moved = truth.favourite[:, 0] != truth.favourite[:, 1]
        rows = all_rows(truth)
        rows = rows.filter(pl.Series(moved[rows["user"].to_numpy()]))
        last = truth.topic[rows["item"].to_numpy()] == truth.favourite[rows["user"].to_numpy(), 1]
        late = (rows["timestamp"] > (truth.law.first + truth.law.last) // 2).to_numpy()
        return float(last[~late].mean()), float(last[late].mean())

    early, late = share_of_last_topic(1.0)
    assert late > early + 0.2
    early, late = share_of_last_topic(0.0)
    assert late == pytest.approx(early, abs=0.03)


def test_some_topics_go_out_of_fashion() -> None:
    truth = truth_of("yelp", "", n_users=3000, n_items=800, n_interactions=40_000, drift=1.0)
    rows = all_rows(truth)
    late = (rows["timestamp"] > (truth.law.first + truth.law.last) // 2).to_numpy()
    topic = truth.topic[rows["item"].to_numpy()]
    shares = [np.bincount(topic[when], minlength=8) / when.sum() for when in (~late, late)]
    assert shares[1][0] < 0.8 * shares[0][0]
    assert shares[1][7] > 1.2 * shares[0][7]


def test_words_tell_the_topic() -> None:
    truth = truth_of(n_items=400, n_interactions=4000, n_topics=20)
    words = item_words(truth)
    texts = (words["title"] + " " + words["description"]).str.to_lowercase().str.extract_all(r"\w+")
    hashed = np.zeros((400, 512))
    for item, tokens in enumerate(texts.to_list()):
        for token in tokens:
            hashed[item, int(hashlib.md5(token.encode()).hexdigest(), 16) % 512] += 1
    assert accuracy_of_nearest_centroid(hashed, truth.topic) > 0.95


def test_no_noun_belongs_to_two_topics() -> None:
    nouns = lexicon_of(60).nouns.ravel().tolist()
    assert len(set(nouns)) == len(nouns)
    assert len(set(lexicon_of(60).makers.ravel().tolist())) == 60 * 5


def test_colours_of_pictures_tell_the_topic(tmp_path: Path) -> None:
    from PIL import Image

    written(tmp_path / "raw", "amazon", "2018", images=1.0, image_size=32, n_items=120)
    truth = planted_truth(tmp_path / "raw").items
    means = []
    for name in truth["source_id"]:
        with Image.open(tmp_path / "raw" / "pictures" / "images" / f"{name}.jpg") as picture:
            assert picture.size == (32, 32) and picture.mode == "RGB"
            means.append(np.asarray(picture, dtype=np.float64).mean(axis=(0, 1)))
    colours = np.array(means)
    hue = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    assert accuracy_of_nearest_centroid(hue, truth["topic"].to_numpy()) > 0.9


def accuracy_of_nearest_centroid(features: np.ndarray, topic: np.ndarray) -> float:
    """Of the odd rows, by the means of the even ones."""
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    known, asked = np.arange(0, len(topic), 2), np.arange(1, len(topic), 2)
    topics = np.unique(topic[known])
    centres = np.stack([features[known][topic[known] == t].mean(axis=0) for t in topics])
    distance = np.linalg.norm(features[asked][:, None] - centres[None], axis=2)
    return float((topics[distance.argmin(axis=1)] == topic[asked]).mean())


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.integers(0, 2**40))
def test_ids_are_distinct_and_of_the_official_shape(seed: int, start: int) -> None:
    numbers = np.arange(start, start + 3000)
    for names, pattern in (
        (amazon_items(numbers, seed), r"^B0[0-9A-Z]{8}$"),
        (amazon_users(numbers, seed, long=False), r"^A[0-9A-Z]{13}$"),
        (amazon_users(numbers, seed, long=True), r"^AE[0-9A-Z]{26}$"),
        (yelp_names(numbers, seed, "review"), r"^[A-Za-z0-9_-]{22}$"),
    ):
        assert names.n_unique() == 3000
        assert names.str.contains(pattern).all()


# Planted faults, found by the readers and the cleaning ---------------------------------------------------


def dropped(steps: list[Step], *words: str) -> int:
    """Rows that the steps with one of the words in their name have dropped."""
    return sum(step.dropped for step in steps if any(word in step.name for word in words))


def examples(steps: list[Step], word: str) -> list[str]:
    """The first three culprits that such steps name, in the order of their lines."""
    named = {line for step in steps if word in step.name for line in step.examples}
    return sorted(named, key=lambda line: int(line.removeprefix("line ")))[:3]


def places(truth: PlantedTruth, fault: str, unit: str) -> tuple[int, list[Any]]:
    planted = truth.facts["faults"][fault][unit]
    return planted["count"], planted["first"]


def lines(truth: PlantedTruth, fault: str) -> list[str]:
    return [f"line {line}" for line in places(truth, fault, "rows")[1]]


def cleaned(tables: RawTables) -> tuple[pl.DataFrame, list[Step]]:
    codes = (
        pl.col(name).rank("dense").cast(pl.Int32).alias(f"{name}_id") for name in ("user", "item")
    )
    return clean(
        tables.interactions.with_columns(*codes).drop("user", "item").collect(), recipe.Clean()
    )


@pytest.mark.parametrize(("family", "edition"), ONE_EACH[1:])
def test_bad_json_lines_are_dropped_and_named(tmp_path: Path, family: str, edition: str) -> None:
    tables, truth = read_back(tmp_path, family, edition, "bad_json_lines")
    count, _ = places(truth, "bad_json_lines", "rows")
    assert count == dropped(tables.steps, "bad lines") == 30
    assert examples(tables.steps, "bad lines") == lines(truth, "bad_json_lines")
    assert tables.interactions.collect().height == 1500


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="truncated"):
        read_back(tmp_path, "amazon", "2023", "truncated_gz")


def test_a_gz_that_is_no_gzip_is_read_as_what_it_is(tmp_path: Path) -> None:
    tables, truth = read_back(tmp_path, "amazon", "2023", "not_gzip")
    assert places(truth, "not_gzip", "files")[0] == 2
    reviews = tmp_path / "raw" / truth.facts["paths"]["reviews"]
    assert reviews.suffix == ".gz" and reviews.read_bytes()[:1] == b"{"
    assert tables.interactions.collect().height == 1500


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_duplicate_rows_are_dropped_and_counted(tmp_path: Path, family: str, edition: str) -> None:
    tables, truth = read_back(tmp_path, family, edition, "duplicate_rows")
    rows, steps = cleaned(tables)
    count, _ = places(truth, "duplicate_rows", "rows")
    assert count == dropped(tables.steps + steps, "duplicate", "repeated") == 30
    assert rows.height == 1500


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_of_repeated_pairs_the_later_rating_is_kept(
    tmp_path: Path, family: str, edition: str
) -> None:
    tables, truth = read_back(tmp_path, family, edition, "repeated_pairs")
    before = tables.interactions.collect()
    rows, steps = cleaned(tables)
    count, _ = places(truth, "repeated_pairs", "rows")
    assert count == dropped(steps, "repeated (user, item)") == 30
    assert before.height == 1530 and rows.height == 1500
    latest = before.sort("timestamp").group_by("user", "item").last()["rating"].sum()
    assert rows["rating"].sum() == latest


@pytest.mark.parametrize("edition", LAWS["amazon"])
def test_titles_of_html_become_null(tmp_path: Path, edition: str) -> None:
    tables, truth = read_back(tmp_path, "amazon", edition, "html_titles")
    count, first = places(truth, "html_titles", "items")
    found = next(step for step in tables.steps if step.name == "unreadable titles")
    titles = tables.items.filter(pl.col("item").is_in(first)).collect()["title"]
    assert titles.null_count() == len(first)
    if edition == "2014":  # some items have no title at all there, so it cannot be HTML
        assert 0 < found.dropped <= count
    else:
        assert found.dropped == count == 4


@pytest.mark.parametrize("edition", ["2018", "2023"])
def test_prices_that_are_style_sheets_become_null(tmp_path: Path, edition: str) -> None:
    tables, truth = read_back(tmp_path, "amazon", edition, "html_prices")
    count, _ = places(truth, "html_prices", "items")
    assert dropped(tables.steps, "unreadable prices") == count == 4


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_rated_items_without_metadata_are_known(tmp_path: Path, family: str, edition: str) -> None:
    tables, truth = read_back(tmp_path, family, edition, "missing_metadata")
    count, _ = places(truth, "missing_metadata", "items")
    assert tables.items.collect().height == 80 - count
    unknown = tables.interactions.join(tables.items, on="item", how="anti").collect()
    assert unknown["item"].n_unique() == count == 4


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_rows_with_null_fields_are_dropped_and_named(
    tmp_path: Path, family: str, edition: str
) -> None:
    tables, truth = read_back(tmp_path, family, edition, "null_fields")
    count, _ = places(truth, "null_fields", "rows")
    assert count == dropped(tables.steps, "unusable") == 30
    assert examples(tables.steps, "unusable") == lines(truth, "null_fields")
    untitled, _ = places(truth, "null_fields", "items")
    assert untitled <= tables.items.collect()["title"].null_count() <= untitled + 2


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_line_ends_of_windows_change_nothing(tmp_path: Path, family: str, edition: str) -> None:
    tables, truth = read_back(tmp_path / "crlf", family, edition, "crlf")
    usual, _ = read_back(tmp_path / "usual", family, edition)
    assert places(truth, "crlf", "files")[0] >= 2
    assert tables.interactions.collect().equals(usual.interactions.collect())
    assert tables.items.collect().equals(usual.items.collect(), null_equal=True)


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_titles_in_latin_1_are_read_as_such(tmp_path: Path, family: str, edition: str) -> None:
    tables, truth = read_back(tmp_path, family, edition, "latin1")
    count, _ = places(truth, "latin1", "items")
    titles = tables.items.collect()["title"]
    assert int(titles.str.starts_with("Café ").sum()) == count == 4
    assert int(titles.str.contains(r"[^ -~é]").sum()) == 0
    if family != "movielens":
        assert any("4 lines had bytes that are no UTF-8" in step.why for step in tables.steps)


@pytest.mark.parametrize(("family", "edition"), ONE_EACH[1:])
def test_strings_in_place_of_lists_and_lists_of_strings_are_read(
    tmp_path: Path, family: str, edition: str
) -> None:
    tables, truth = read_back(tmp_path / "swapped", family, edition, "string_or_list_fields")
    usual, _ = read_back(tmp_path / "usual", family, edition)
    assert places(truth, "string_or_list_fields", "items")[0] == 4
    column = "categories" if family == "yelp" else "description"
    swapped, expected = (t.items.collect().sort("item")[column] for t in (tables, usual))
    assert swapped.equals(expected)


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_ratings_of_no_star_are_dropped_and_named(
    tmp_path: Path, family: str, edition: str
) -> None:
    tables, truth = read_back(tmp_path, family, edition, "zero_ratings")
    count, _ = places(truth, "zero_ratings", "rows")
    assert count == dropped(tables.steps, "unusable") == 30
    assert examples(tables.steps, "unusable") == lines(truth, "zero_ratings")


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_damaged_pictures_are_refused_one_by_one(tmp_path: Path, family: str, edition: str) -> None:
    kinds = ("missing_images", "corrupt_images", "huge_image", "image_that_is_text")
    tables, truth = read_back(tmp_path, family, edition, *kinds, images=0.5, image_size=64)
    counts = {kind: places(truth, kind, "pictures")[0] for kind in kinds}
    assert counts == dict(zip(kinds, (2, 2, 1, 2), strict=True))
    items = tables.items.collect().rename({"item": SOURCE_ID}).cast({SOURCE_ID: pl.String})
    store = FolderStore(tmp_path / "raw" / "pictures", max_bytes=1_000_000)
    names, _ = match_pictures(items.select(SOURCE_ID, "image"), store.names())
    pictured = set(truth.items.filter("pictured")["source_id"])
    found = dict(zip(items[SOURCE_ID], names, strict=True))
    assert sum(name is None for item, name in found.items() if item in pictured) == 2
    reasons = [reason_against(store.read(name)) for name in names.drop_nulls()]
    assert reasons.count(DAMAGED) == 2
    assert reasons.count(NO_PICTURE) == 2
    assert reasons.count(TOO_MANY_PIXELS) == 1
    assert reasons.count("") == 40 - 7


def reason_against(data: bytes) -> str:
    try:
        decode(data)
    except UnusablePicture as error:
        return error.reason
    return ""


@pytest.mark.parametrize(("family", "edition"), ONE_EACH[:2])
def test_times_a_thousand_times_too_large_are_where_they_are_said_to_be(
    tmp_path: Path, family: str, edition: str
) -> None:
    tables, truth = read_back(tmp_path, family, edition, "millisecond_timestamps")
    count, first = places(truth, "millisecond_timestamps", "rows")
    late = tables.interactions.filter(pl.col("timestamp") > 10 * LAWS[family][edition].last)
    assert late.collect().height == count == 30
    assert late.collect()["line"].sort().head(3).to_list() == first


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_times_of_the_future_are_where_they_are_said_to_be(
    tmp_path: Path, family: str, edition: str
) -> None:
    tables, truth = read_back(tmp_path, family, edition, "future_timestamps")
    count, first = places(truth, "future_timestamps", "rows")
    late = tables.interactions.filter(pl.col("timestamp") > LAWS[family][edition].last)
    assert late.collect().height == count == 30
    assert late.collect()["line"].sort().head(3).to_list() == first


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_items_described_twice_are_counted(tmp_path: Path, family: str, edition: str) -> None:
    tables, truth = read_back(tmp_path, family, edition, "duplicate_metadata")
    count, _ = places(truth, "duplicate_metadata", "items")
    names = [step.name for step in tables.steps if step.dropped]
    assert len(names) == 1
    assert dropped(tables.steps, "repeated", "duplicate") == count == 4
    assert tables.items.collect().height == 80


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_items_without_any_text_have_nulls(tmp_path: Path, family: str, edition: str) -> None:
    tables, truth = read_back(tmp_path, family, edition, "empty_texts")
    count, _ = places(truth, "empty_texts", "items")
    items = tables.items.collect()
    texts = [
        c for c in ("title", "description", "features", "brand", "categories") if c in items.columns
    ]
    nothing = pl.all_horizontal(pl.col(column).is_null() for column in texts)
    assert items.filter(nothing).height == count == 4


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_users_with_one_time_for_all_are_found(tmp_path: Path, family: str, edition: str) -> None:
    tables, truth = read_back(tmp_path, family, edition, "tie_timestamps")
    count, _ = places(truth, "tie_timestamps", "rows")
    users = tables.interactions.group_by("user").agg(pl.len(), pl.col("timestamp").n_unique())
    tied = users.filter((pl.col("timestamp") == 1) & (pl.col("len") > 1)).collect()
    assert tied.height == 6
    assert tied["len"].sum() == count


@pytest.mark.parametrize(("family", "edition"), ONE_EACH)
def test_users_items_and_ratings_of_a_bad_law_are_counted(
    tmp_path: Path, family: str, edition: str
) -> None:
    law = ("tiny_clients", "one_hit_items", "extreme_imbalance")
    tables, truth = read_back(tmp_path, family, edition, *law, n_interactions=1000)
    rows = tables.interactions.collect()
    single = [int((rows[key].value_counts()["count"] == 1).sum()) for key in ("user", "item")]
    assert [
        places(truth, "tiny_clients", "users")[0],
        places(truth, "one_hit_items", "items")[0],
    ] == single
    assert single[0] >= 30 and single[1] >= 24
    assert places(truth, "extreme_imbalance", "rows")[0] == int((rows["rating"] == 5.0).sum()) > 980


@pytest.mark.parametrize(("family", "edition"), EDITIONS)
def test_counts_hold_with_all_faults_at_once(tmp_path: Path, family: str, edition: str) -> None:
    faults = [
        name
        for name, fault in FAULTS.items()
        if family in fault.families
        and (not fault.editions or edition in fault.editions)
        and name != "truncated_gz"
    ]
    tables, truth = read_back(tmp_path, family, edition, *faults, n_interactions=2400)
    rows, steps = cleaned(tables)
    planted = {
        name: found["rows"]["count"]
        for name, found in truth.facts["faults"].items()
        if "rows" in found
    }
    assert dropped(tables.steps, "bad lines in r") == planted.get("bad_json_lines", 0)
    assert dropped(tables.steps, "unusable") == planted["null_fields"] + planted["zero_ratings"]
    twice = dropped(tables.steps, "duplicate", "repeated r") + dropped(
        steps, "repeated (user, item)"
    )
    assert twice == planted["duplicate_rows"] + planted["repeated_pairs"]
    assert rows.height == 2400 - planted["null_fields"] - planted["zero_ratings"]


def test_every_fault_has_a_test_a_line_of_words_and_one_of_documentation() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    page = Path(__file__).parent.parent / "docs" / "synthetic.md"
    documented = page.read_text(encoding="utf-8")
    for name, fault in FAULTS.items():
        assert f'"{name}"' in tests, f"{name} has no test"
        assert f"| `{name}` | {fault.doc} |" in documented, f"{name} is not documented"
        assert fault.doc and len(fault.doc) < 80
