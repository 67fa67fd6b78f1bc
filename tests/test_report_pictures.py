"""Pictures of a Dataset: the numbers behind them are right and bounded, and what cannot be drawn says why."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from fedprep import report
from fedprep.dataset import Dataset
from fedprep.partition import heterogeneity
from fedprep.report.pictures import PICTURES, Aggregates, canvas
from fedprep.report.pictures.view import View
from fedprep.schema import (
    CLIENT_ID,
    ITEM_ID,
    ITEMS,
    LABEL,
    RATING,
    SHARD,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    USER_ID,
)
from fedprep.shards import write_shards
from tests.test_report import check, validation

DAY = 86_400
GENRES = ("Drama", "Comedy", "Noir", "War")


def rows_of(
    n_rows: int, n_clients: int, n_items: int = 40, *, seed: int = 0, n_classes: int = 5
) -> pl.DataFrame:
    """Rows as a shard has them: every client has at least one, a pair may repeat."""
    rng = np.random.default_rng(seed)
    client = np.concatenate([np.arange(n_clients), rng.integers(0, n_clients, n_rows - n_clients)])
    label = rng.choice(
        n_classes, n_rows, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum()
    )
    return pl.DataFrame(
        {
            CLIENT_ID: client, USER_ID: client, ITEM_ID: np.minimum(rng.geometric(0.1, n_rows), n_items) - 1,
            RATING: label + 1.0, LABEL: label, TIMESTAMP: 10**9 + DAY * rng.integers(0, 1000, n_rows),
            SPLIT: rng.choice(SPLITS, n_rows, p=(0.8, 0.1, 0.1)),
        },
        schema=SHARD,
    )  # fmt: skip


def items_of(n_items: int = 40, categories: tuple[str, ...] = GENRES) -> pl.DataFrame:
    n = max(len(categories), 1)
    some = [
        [categories[i % n], categories[(i + i // n) % n]] if categories and i % 10 else None
        for i in range(n_items)
    ]
    fixed = {
        name: [f"{name} {i}" for i in range(n_items)] for name in ("source_id", "title", "text")
    }
    return pl.DataFrame(
        {ITEM_ID: range(n_items), **fixed, "categories": some, "image": [None] * n_items},
        schema=ITEMS,
    )


def made(
    folder: Path, rows: pl.DataFrame, items: pl.DataFrame, *, n_classes: int = 5, vectors: bool = True,
    **manifest: Any,
) -> Dataset:  # fmt: skip
    """A Dataset with just what pictures look at."""
    per_client, _ = heterogeneity(rows, items, n_classes=n_classes, min_rows=1)
    write_shards(rows, folder / "clients", per_client=per_client)
    items.write_parquet(folder / "items.parquet")
    n_users = int(rows[USER_ID].max()) + 1  # type: ignore[arg-type]
    users = pl.DataFrame({USER_ID: np.arange(n_users, dtype=np.int32)})
    rng = np.random.default_rng(0)
    if vectors:
        behavior = rng.normal(size=(n_users, 4)).astype(np.float32)
        users = users.with_columns(behavior=pl.Series(behavior, dtype=pl.Array(pl.Float32, 4)))
        embed(folder, "text", rng.normal(size=(items.height, 8)))
    users.write_parquet(folder / "users.parquet")
    (folder / "manifest.json").write_text(
        json.dumps({"format": 1, "id": "0" * 64, "name": "made", **manifest})
    )
    return Dataset.unchecked(folder)


def embed(folder: Path, modality: str, values: Any, missing: tuple[int, ...] = ()) -> None:
    dtype = pl.Array(pl.Float32, np.shape(values)[1])
    frame = pl.DataFrame({ITEM_ID: np.arange(len(values), dtype=np.int32)}).with_columns(
        embedding=pl.Series(np.asarray(values, dtype=np.float32), dtype=dtype)
    )
    absent = pl.col(ITEM_ID).is_in(missing)
    frame = frame.with_columns(pl.when(~absent).then("embedding").alias("embedding"))
    (folder / "embeddings").mkdir(exist_ok=True)
    frame.write_parquet(folder / "embeddings" / f"{modality}.parquet", row_group_size=16)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rows = rows_of(3_000, 70)
    recipe = {"clean": {"label": "classes"}}
    return made(
        tmp_path / "made", rows, items_of(), recipe=recipe, classes=[1.0, 2.0, 3.0, 4.0, 5.0]
    )


def part(dataset: Dataset, name: str) -> Any:
    return PICTURES[name].measure(View(dataset))


# --- the whole -----------------------------------------------------------------------------------------


def test_a_whole_dataset_has_every_picture_with_its_words(dataset: Dataset) -> None:
    pictures = report.draw(report.aggregates(dataset))
    assert list(pictures) == list(PICTURES)
    for name, picture in pictures.items():
        assert picture.name == name and not picture.reason
        assert picture.alt and re.search(r"\d", picture.measured) and len(picture.look_for) > 40
        root = ElementTree.fromstring(picture.image)
        assert root.tag.endswith("svg")
        links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert all(link.startswith(("#", "data:image/png")) for link in links)


def test_pictures_have_the_same_bytes_every_time_whatever_the_users_settings(
    dataset: Dataset,
) -> None:
    import matplotlib

    names = ("ratings", "drift_per_client")
    found = report.aggregates(dataset)
    few = Aggregates(parts={name: found.parts[name] for name in names}, reasons={})
    once = report.draw(few)
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30}):
        twice = report.draw(Aggregates(parts=few.parts, reasons={}))
        assert matplotlib.rcParams["font.size"] == 30
    assert list(once) == list(names)
    assert [p.image for p in once.values()] == [p.image for p in twice.values()]


def test_a_hundred_thousand_clients_give_a_page_below_two_megabytes(tmp_path: Path) -> None:
    rows = rows_of(300_000, 100_000)
    dataset = made(tmp_path / "large", rows, items_of())
    pictures = report.draw(report.aggregates(dataset))
    assert all(picture.image for picture in pictures.values())
    checks = [check(f"c{i}", "fail", examples=[{"title": "x" * 10_000}] * 3) for i in range(60)]
    page = report.page(validation(*checks), pictures, dataset.manifest)
    assert len(page.encode()) < 2_000_000


def test_category_names_from_hell_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ("$\\frac{$", "<script>]]>&", "\x00\x0b\x1b tab", "電影", "   ", "x" * 300)
    dataset = made(tmp_path / "hell", rows_of(600, 12), items_of(categories=names))
    found = report.aggregates(dataset)
    chosen = {name: found.parts[name] for name in ("client_categories", "components")}
    pictures = report.draw(Aggregates(parts=chosen, reasons={}))
    for picture in pictures.values():
        assert not picture.reason
        ElementTree.fromstring(picture.image)
    text = "".join(ElementTree.fromstring(pictures["client_categories"].image).itertext())
    assert "電影" in text and "$\\frac{$" in text and "(blank)" in text


# --- the numbers ---------------------------------------------------------------------------------------


def test_ratings_are_counted_and_those_that_are_none_are_told(tmp_path: Path) -> None:
    rows = rows_of(500, 5)
    bad = pl.when(pl.int_range(pl.len()) < 7).then(float("nan")).otherwise(RATING).cast(pl.Float32)
    dataset = made(tmp_path / "bad", rows.with_columns(bad.alias(RATING)), items_of())
    found = part(dataset, "ratings")
    counts = rows[7:][RATING].value_counts().sort(RATING)
    assert found.names == tuple(f"{value:g}" for value in counts[RATING])
    assert found.counts.tolist() == counts["count"].to_list()
    assert found.n_unusable == 7
    assert found.mean == pytest.approx(rows[7:][RATING].mean())


def test_ratings_of_many_values_become_bars_of_equal_span(tmp_path: Path) -> None:
    rows = rows_of(5_000, 5)
    values = np.random.default_rng(0).normal(0, 1, rows.height).astype(np.float32)
    values[0] = 1e30
    dataset = made(tmp_path / "many", rows.with_columns(pl.Series(RATING, values)), items_of())
    found = part(dataset, "ratings")
    assert not found.exact and len(found.counts) == 24
    assert found.counts.sum() == rows.height
    assert found.counts[8:16].sum() > 0.4 * rows.height  # not pressed into one bar by the outlier


def test_sizes_and_classes_of_clients_are_those_of_their_rows(dataset: Dataset) -> None:
    rows = dataset.interactions().collect()
    sizes = rows.group_by(CLIENT_ID).len()["len"]
    found = part(dataset, "rows_per_client")
    assert found.counts.sum() == found.n_clients == 70
    assert found.quantiles[[0, 2, 4]].tolist() == [sizes.min(), sizes.median(), sizes.max()]
    assert found.top_share == pytest.approx(sizes.max() / rows.height)  # type: ignore[operator]

    classes = part(dataset, "classes_per_client")
    mine = rows.group_by(CLIENT_ID).agg(pl.col(LABEL).mean()).sort(LABEL)[LABEL]
    assert classes.shares @ np.arange(5) == pytest.approx(mine.to_numpy())
    assert classes.whole == pytest.approx(np.bincount(rows[LABEL].to_numpy()) / rows.height)
    assert classes.names[0] == "0 (rating 1)"


def test_many_clients_share_columns_whose_mean_is_that_of_all(tmp_path: Path) -> None:
    dataset = made(tmp_path / "many", rows_of(5_000, 1_234), items_of())
    found = part(dataset, "classes_per_client")
    assert found.shares.shape == (200, 5)
    assert found.shares.sum(axis=1) == pytest.approx(1)
    counts = dataset.index["label_counts"].to_numpy()
    mean = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    assert found.shares.mean(axis=0) == pytest.approx(mean, abs=2e-3)


def test_rows_over_time_lose_no_row_and_a_global_cut_parts_the_curves(tmp_path: Path) -> None:
    rows = rows_of(2_000, 5).with_columns(
        pl.when(pl.col(TIMESTAMP) < 10**9 + 800 * DAY).then(pl.lit("train")).otherwise(pl.lit("test"))
        .cast(SHARD[SPLIT]).alias(SPLIT)
    )  # fmt: skip
    dataset = made(tmp_path / "cut", rows, items_of(), split={"method": "global_time"})
    found = part(dataset, "rows_over_time")
    by_split = dict(rows.group_by(pl.col(SPLIT).cast(pl.String)).len().iter_rows())
    assert found.counts.sum(axis=1).tolist() == [by_split["train"], 0, by_split["test"]]
    assert found.n_outside == 0 and found.cuts
    later = found.edges[:-1] >= found.first[2]
    assert found.counts[0, later].sum() == 0


def test_a_few_rows_far_off_in_time_do_not_press_the_others_into_one_bin(tmp_path: Path) -> None:
    rows = rows_of(4_000, 5)
    far = pl.when(pl.int_range(pl.len()) < 3).then(pl.col(TIMESTAMP) * 1000).otherwise(TIMESTAMP)
    found = part(made(tmp_path / "ms", rows.with_columns(far), items_of()), "rows_over_time")
    assert found.n_outside == 3
    assert found.counts.sum(axis=0).max() < 0.1 * rows.height
    drawn = PICTURES["rows_over_time"].draw(found)
    assert "3 rows without a time or far off" in drawn.measured


def test_popularity_is_the_sorted_count_of_rows(dataset: Dataset) -> None:
    rows = dataset.interactions().collect()
    counts = np.sort(np.bincount(rows[ITEM_ID].to_numpy(), minlength=40))[::-1]
    found = part(dataset, "popularity")
    assert found.rows.tolist() == counts[found.rank - 1].tolist()
    assert found.share[-1] == pytest.approx(1)
    assert found.head == pytest.approx([counts[:n].sum() / rows.height for n in (1, 4, 20)])


def test_clients_and_categories_show_shares_of_the_rows_that_have_one(dataset: Dataset) -> None:
    rows = dataset.interactions().collect()
    kinds = dataset.items().select(ITEM_ID, "categories").collect()
    found = part(dataset, "client_categories")
    joined = rows.join(kinds, on=ITEM_ID).drop_nulls("categories")
    for line, client in ((0, None), (1, int(found.clients[0])), (-1, int(found.clients[-1]))):
        mine = joined if client is None else joined.filter(pl.col(CLIENT_ID) == client)
        shares = [mine["categories"].list.contains(name).mean() for name in found.categories]
        assert found.shares[line] == pytest.approx(shares)
    assert len(found.clients) == 30 and found.n_known == 70
    assert (np.diff(found.shares[0]) <= 0).all()
    nearest = dataset.index.sort("category_divergence", CLIENT_ID)[CLIENT_ID]
    assert (found.clients[0], found.clients[-1]) == (str(nearest[0]), str(nearest[-1]))


def test_clients_drawn_at_random_lie_above_the_chance_line_once_in_twenty(tmp_path: Path) -> None:
    dataset = made(tmp_path / "iid", rows_of(60_000, 1_500), items_of())
    found = part(dataset, "drift_per_client")
    assert 0.02 < found.n_above / found.labels.n_known < 0.07
    for one, column in ((found.labels, "divergence"), (found.categories, "category_divergence")):
        assert one.median == pytest.approx(dataset.index[column].median())
        assert one.counts.sum() == 1_500
    skewed = rows_of(60_000, 1_500).with_columns(
        pl.when(pl.col(CLIENT_ID) % 2 == 0).then(LABEL).otherwise(4 - pl.col(LABEL)).alias(LABEL)
    )
    found = part(made(tmp_path / "skewed", skewed, items_of()), "drift_per_client")
    assert found.n_above / found.labels.n_known > 0.5


def test_norms_are_measured_after_and_taken_from_the_manifest_before(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(40, 8))
    values[3], values[4, 2], values[5, 0] = 0, np.nan, np.inf
    before = {"norm_min": 2.0, "norm_median": 3.0, "norm_max": 9.0, "rms": 1.0}
    encoders = {"text": {"normalise": "none", "statistics": {"before": before}}}
    dataset = made(tmp_path / "norms", rows_of(100, 3), items_of(), encoders=encoders)
    embed(dataset.path, "text", values, missing=(0, 1))
    found = part(dataset, "norms")
    text, behavior = found.modalities
    usable = np.linalg.norm(np.delete(values, [0, 1, 3, 4, 5], axis=0), axis=1)
    assert text.before.tolist() == [2.0, 3.0, 9.0] and np.isnan(behavior.before).all()
    assert text.counts.sum() == len(usable)
    assert text.after == pytest.approx(np.percentile(usable, [0, 50, 100]), rel=1e-6)
    assert text.rms == pytest.approx(np.sqrt((usable**2).mean() / 8), rel=1e-6)
    assert text.note == "2 missing, 2 with NaN or infinity, 1 all zeros"


def test_the_norm_of_behaviour_before_follows_from_its_deviations(tmp_path: Path) -> None:
    encoders = {
        "behavior": {"normalise": "standardize", "mean": [3.0, 0.0], "deviation": [0.0, 4.0]}
    }
    dataset = made(tmp_path / "b", rows_of(100, 3), items_of(), encoders=encoders)
    assert part(dataset, "norms").modalities[-1].before_rms == pytest.approx(5.0)


def test_the_two_components_are_those_of_the_covariance(tmp_path: Path) -> None:
    dataset = made(tmp_path / "pca", rows_of(100, 3), items_of())
    values = np.random.default_rng(2).normal(size=(40, 8)) * [9, 5, 1, 1, 1, 1, 1, 1]
    embed(dataset.path, "text", values, missing=(7,))
    (cloud,) = part(dataset, "components").clouds
    there = np.delete(values, 7, axis=0)
    variance = np.sort(np.linalg.eigvalsh(np.cov(there.T)))[::-1]
    assert cloud.explained == pytest.approx(variance[:2] / variance.sum(), rel=1e-4)
    assert cloud.points.var(axis=0, ddof=1) == pytest.approx(variance[:2], rel=1e-4)
    assert len(cloud.points) == len(cloud.colour) == 39


def test_an_item_is_coloured_by_the_commonest_of_its_categories(dataset: Dataset) -> None:
    names = View(dataset).categories.names
    (cloud,) = part(dataset, "components").clouds
    kinds = dataset.items().collect()["categories"].to_list()
    expected = [min((names.index(name) for name in own or ()), default=len(names)) for own in kinds]
    assert cloud.colour.tolist() == expected


# --- what is not there ---------------------------------------------------------------------------------


def test_what_the_data_do_not_hold_is_left_out_with_its_reason(tmp_path: Path) -> None:
    rows = rows_of(200, 1, n_classes=1).with_columns(
        pl.lit(None, pl.Float32).alias(RATING), pl.lit(0, pl.Int64).alias(TIMESTAMP)
    )
    dataset = made(tmp_path / "bare", rows, items_of(categories=()), n_classes=1, vectors=False)
    pictures = report.draw(report.aggregates(dataset))
    reasons = {name: picture.reason for name, picture in pictures.items() if not picture.image}
    assert reasons == {
        "ratings": "no row has a rating",
        "classes_per_client": "there is one class alone: every row is a positive one",
        "drift_per_client": "there is one client alone: nothing can drift from it",
        "client_categories": "no item has a category",
        "rows_over_time": "all rows have one time, 0 seconds since 1970",
        "norms": "there are no embeddings",
        "components": "fewer than three items have an embedding",
    }
    page = report.page(validation(check("p1", "pass")), pictures, dataset.manifest)
    assert all(reason.split(":")[0] in page for reason in reasons.values())


def test_a_category_that_every_item_has_tells_nothing_and_is_left_aside(tmp_path: Path) -> None:
    items = items_of()
    with_all = items.with_columns(pl.col("categories").list.concat(pl.lit(["Gift Cards"])))
    dataset = made(tmp_path / "aside", rows_of(400, 4), with_all)
    assert part(dataset, "client_categories").common == ("Gift Cards",)
    assert "Gift Cards" not in part(dataset, "client_categories").categories

    alone = items.with_columns(categories=pl.lit(["Gift Cards"]))
    found = report.aggregates(made(tmp_path / "alone", rows_of(400, 4), alone))
    assert "nearly every item has one category" in found.reasons["client_categories"]
    assert found.parts["components"].categories == ()


def test_broken_data_cost_their_own_pictures_alone(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    shard = next((dataset.path / "clients").glob("part-*.parquet"))
    shard.write_bytes(b"no parquet at all")
    with caplog.at_level(logging.WARNING):
        found = report.aggregates(Dataset.unchecked(dataset.path))
    assert "the data cannot be drawn" in found.reasons["ratings"]
    assert {"rows_per_client", "classes_per_client", "drift_per_client", "norms"} <= set(
        found.parts
    )
    assert "the picture ratings is left out" in caplog.text


def test_colours_of_classes_differ_in_lightness_and_those_of_categories_in_shape() -> None:
    def lightness(colour: tuple[float, ...]) -> float:
        return float(np.dot(colour[:3], [0.2126, 0.7152, 0.0722]))

    for count in range(2, 11):
        steps = np.diff([lightness(colour) for colour in canvas.ordered_colours(count)])
        assert (steps < -0.02).all()  # darker with each class, also in print
    assert len(set(canvas.PALETTE)) == len(set(canvas.MARKERS)) == len(canvas.PALETTE)


@pytest.mark.parametrize(
    ("low", "high"),
    [(1, 10), (0.9, 1.1), (4, 32), (900, 1_600), (1, 10**9), (1e-3, 2e-3), (7, 7.001)],
)
def test_a_log_axis_has_a_few_round_ticks_however_short_or_long(low: float, high: float) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    canvas.log_ticks(axes, "x", low, high)
    ticks = axes.xaxis.get_majorticklocs()
    assert 2 <= len(ticks) <= 8
    assert (low <= ticks).all() and (ticks <= high).all()
