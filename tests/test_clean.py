from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fedprep.clean import MAX_CLASSES, class_values, clean, core, core_of, largest_core
from fedprep.errors import EmptyDataError, RecipeError
from fedprep.recipe import Clean
from fedprep.schema import INTERACTIONS, Step
from tests.real import movielens_1m
from tests.strategies import frame_of, interaction_frames, shuffled

law = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 1000)

DAY = 86_400


def step(steps: list[Step], name: str) -> Step:
    return next(s for s in steps if s.name == name)


def kept_lines(rows: pl.DataFrame, **options: Any) -> list[int]:
    return sorted(clean(rows, Clean(**options))[0]["line"].to_list())


# -- by hand ---------------------------------------------------------------------------------------

SMALL = frame_of(
    [
        # user, item, rating, timestamp, line
        (0, 0, 5.0, 100, 1),
        (0, 1, 3.0, 50, 2),
        (1, 0, 4.0, 70, 3),
        (1, 1, 1.0, 70, 4),
        (2, 2, 2.0, 10, 5),
    ]
)


def test_rows_leave_sorted_by_user_time_and_item_with_an_int8_label() -> None:
    rows, steps = clean(SMALL, Clean())
    assert rows.schema == {**INTERACTIONS, "label": pl.Int8()}
    assert rows.rows() == [
        (0, 1, 3.0, 50, 2, 0),
        (0, 0, 5.0, 100, 1, 1),
        (1, 0, 4.0, 70, 3, 1),
        (1, 1, 1.0, 70, 4, 0),
        (2, 2, 2.0, 10, 5, 0),
    ]
    assert [(s.name, s.rows_in, s.rows_out, s.examples) for s in steps] == [
        ("missing or broken ratings", 5, 5, ()),
        ("missing timestamps", 5, 5, ()),
        ("repeated (user, item)", 5, 5, ()),
    ]


def test_missing_and_broken_ratings_are_dropped_and_the_first_three_named() -> None:
    bad = [None, float("nan"), float("inf"), float("-inf")]
    rows = frame_of(
        [(0, 0, 3.0, 1, 9), *[(0, 1 + n, value, 2, 20 - n) for n, value in enumerate(bad)]]
    )
    out, steps = clean(rows, Clean())
    assert out["line"].to_list() == [9]
    dropped = step(steps, "missing or broken ratings")
    assert (dropped.rows_in, dropped.rows_out, dropped.dropped) == (5, 1, 4)
    assert dropped.examples == ("line 17", "line 18", "line 19")


def test_implicit_data_need_no_rating_but_a_broken_one_still_goes() -> None:
    rows = frame_of([(0, 0, None, 1, 1), (0, 1, 2.0, 1, 2), (0, 2, float("nan"), 1, 3)])
    out, steps = clean(rows, Clean(label="implicit"))
    assert out["line"].to_list() == [1, 2]
    assert out["rating"].to_list() == [None, 2.0]
    assert out["label"].to_list() == [1, 1]
    assert step(steps, "broken ratings").examples == ("line 3",)


def test_a_row_without_a_timestamp_goes_where_others_have_one() -> None:
    rows = frame_of([(0, 0, 1.0, None, 1), (0, 1, 1.0, 5, 2), (0, 2, 1.0, None, 3)])
    out, steps = clean(rows, Clean())
    assert out["line"].to_list() == [2]
    assert step(steps, "missing timestamps").examples == ("line 1", "line 3")


def test_a_source_without_any_timestamp_keeps_its_rows_sorted_by_item() -> None:
    rows = frame_of([(1, 2, 1.0, None, 1), (1, 0, 1.0, None, 2), (0, 2, 1.0, None, 3)])
    out, _ = clean(rows, Clean())
    assert out["line"].to_list() == [3, 2, 1]
    assert out["timestamp"].null_count() == 3


def test_both_ends_of_the_rating_range_are_included_at_float32() -> None:
    rows = frame_of([(0, n, value, 1, n + 1) for n, value in enumerate([3.2, 3.3, 4.0, 4.7, 4.8])])
    assert kept_lines(rows, min_rating=3.3, max_rating=4.7) == [2, 3, 4]
    assert kept_lines(rows, min_rating=4.0) == [3, 4, 5]
    assert kept_lines(rows, max_rating=3.2) == [1]


def test_an_unknown_rating_lies_in_no_range() -> None:
    rows = frame_of([(0, 0, None, 1, 1), (0, 1, 5.0, 1, 2)])
    assert kept_lines(rows, label="implicit", min_rating=1.0) == [2]


def test_the_date_range_includes_its_first_second_and_excludes_its_last() -> None:
    noon = 10_957 * DAY  # 2000-01-01
    rows = frame_of([(0, n, 1.0, noon + s, n + 1) for n, s in enumerate([-1, 0, DAY - 1, DAY])])
    assert kept_lines(rows, from_date="2000-01-01", to_date="2000-01-02") == [2, 3]
    assert kept_lines(rows, from_date="2000-01-02T02:00:00+02:00") == [4]
    assert kept_lines(rows, to_date="2000-01-01") == [1]


def test_an_unknown_time_lies_in_no_date_range() -> None:
    with pytest.raises(EmptyDataError, match="no row has one"):
        clean(frame_of([(0, 0, 1.0, None, 1)]), Clean(from_date="2000-01-01"))


def test_rows_of_items_without_metadata_go_when_asked() -> None:
    has_metadata = np.array([True, False, True])
    out, steps = clean(SMALL, Clean(metadata="drop"), has_metadata=has_metadata)
    assert sorted(out["line"]) == [1, 3, 5]
    assert step(steps, "items without metadata").examples == ("line 2", "line 4")
    assert clean(SMALL, Clean(), has_metadata=has_metadata)[0].height == 5


REPEATED = frame_of(
    [
        (0, 0, 1.0, 10, 4),
        (0, 0, 4.0, 30, 2),  # the last two are tied in time: the line decides
        (0, 0, 2.5, 30, 3),
        (0, 1, 5.0, 20, 1),
    ]
)


@pytest.mark.parametrize(
    ("which", "kept", "dropped"),
    [
        ("last", (0, 0, 2.5, 30, 3), ("line 2", "line 4")),
        ("first", (0, 0, 1.0, 10, 4), ("line 2", "line 3")),
        ("mean", (0, 0, 2.5, 30, 3), ("line 2", "line 4")),
        ("max", (0, 0, 4.0, 30, 3), ("line 2", "line 4")),
        ("min", (0, 0, 1.0, 30, 3), ("line 2", "line 4")),
        ("sum", (0, 0, 7.5, 30, 3), ("line 2", "line 4")),
    ],
)
def test_of_a_repeated_pair_one_row_stays(which: Any, kept: tuple[Any, ...], dropped: Any) -> None:
    out, steps = clean(REPEATED, Clean(duplicates=which))
    assert sorted(row[:5] for row in out.rows()) == [kept, (0, 1, 5.0, 20, 1)]
    repeated = step(steps, "repeated (user, item)")
    assert (repeated.rows_in, repeated.rows_out, repeated.examples) == (4, 2, dropped)


def test_counted_rows_are_the_rating_also_of_a_pair_that_is_alone() -> None:
    out, _ = clean(REPEATED, Clean(duplicates="count", label="implicit"))
    assert sorted(row[:5] for row in out.rows()) == [(0, 0, 3.0, 30, 3), (0, 1, 1.0, 20, 1)]


@pytest.mark.parametrize(("which", "made"), [("max", 5.0), ("min", 4.0), ("sum", 9.0)])
def test_what_is_made_of_ratings_passes_over_missing_ones(which: Any, made: float) -> None:
    given = [(0, 5.0), (0, 4.0), (0, None), (1, None), (1, None)]
    rows = frame_of([(0, item, rating, n, n) for n, (item, rating) in enumerate(given, start=1)])
    out, _ = clean(rows, Clean(duplicates=which, label="implicit"))
    assert out.select("item_id", "rating", "line").rows() == [(0, made, 3), (1, None, 5)]


def test_the_mean_of_a_pair_decides_its_label_and_passes_over_missing_ratings() -> None:
    ratings = {0: [5.0, 4.0, None], 1: [None, None], 2: [3.0, None]}  # of an item, in order of time
    given = [(item, rating) for item, of_item in ratings.items() for rating in of_item]
    rows = frame_of([(0, item, rating, n, n) for n, (item, rating) in enumerate(given, start=1)])
    out, _ = clean(rows, Clean(duplicates="mean", label="implicit"))
    assert out.select("item_id", "rating", "line").rows() == [
        (0, 4.5, 3),
        (1, None, 5),
        (2, 3.0, 7),
    ]
    binary, _ = clean(rows, Clean(duplicates="mean", threshold=4.5))
    assert binary.select("item_id", "rating", "label").rows() == [(0, 4.5, 1), (2, 3.0, 0)]


def test_the_core_is_taken_to_the_fixed_point_after_repeats_are_gone() -> None:
    # User 2 has two rows, of which one is a repeat: user 2 goes, then item 2, then user 1's row of it.
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 2), (2, 2)]
    rows = frame_of([(*pair, 1.0, line, line) for line, pair in enumerate(pairs, start=1)])
    out, steps = clean(rows, Clean(k_core=2))
    assert sorted(out["line"]) == [1, 2, 3, 4]
    dropped = step(steps, "2-core")
    assert (dropped.rows_in, dropped.rows_out, dropped.examples) == (6, 4, ("line 5", "line 7"))


def test_user_core_and_item_core_stand_for_their_side() -> None:
    rows = frame_of([(0, n, 1, n, n + 1) for n in range(3)] + [(1, 0, 1, 1, 4)])
    assert kept_lines(rows, user_core=3) == [1, 2, 3]
    assert kept_lines(rows, item_core=2) == [1, 4]
    assert kept_lines(rows, k_core=2, item_core=1) == [1, 2, 3]
    users = step(clean(rows, Clean(user_core=3))[1], "(3, 0)-core")
    assert users.rows_out == 3
    assert users.why == "users with fewer than 3 rows, until none is left"
    items = step(clean(rows, Clean(item_core=2))[1], "(0, 2)-core")
    assert items.why == "items with fewer than 2 rows, until none is left"
    both = step(clean(rows, Clean(user_core=3, k_core=1))[1], "(3, 1)-core")
    assert both.why == users.why


def test_labels_follow_the_option() -> None:
    rows = frame_of([(0, n, value, n, n + 1) for n, value in enumerate([0.5, 4.0, 3.0, 4.0, 5.0])])
    labels = {
        name: clean(rows, Clean(label=name))[0]["label"].to_list()
        for name in ("binary", "classes", "implicit")
    }
    assert labels == {"binary": [0, 1, 0, 1, 1], "classes": [0, 2, 1, 2, 3], "implicit": [1] * 5}
    assert class_values(rows, Clean(label="classes")) == [0.5, 3.0, 4.0, 5.0]
    assert class_values(rows, Clean(label="binary")) == [0.0, 1.0]
    assert class_values(rows, Clean(label="implicit")) == [0.0, 1.0]


def test_the_threshold_is_compared_at_float32() -> None:
    rows = frame_of([(0, 0, 3.3, 1, 1), (0, 1, 3.2, 2, 2)])
    assert clean(rows, Clean(threshold=3.3))[0]["label"].to_list() == [1, 0]


def test_as_many_classes_as_a_label_holds_are_made_and_no_more() -> None:
    def graded(n: int) -> pl.DataFrame:
        return frame_of([(0, k, k / 4, k, k + 1) for k in range(n)])

    assert clean(graded(MAX_CLASSES), Clean(label="classes"))[0]["label"].max() == MAX_CLASSES - 1
    with pytest.raises(RecipeError, match=r"128 distinct ratings, 0 to 31\.75") as caught:
        clean(graded(MAX_CLASSES + 1), Clean(label="classes"))
    assert "at most 127" in str(caught.value)
    assert 'clean.label = "binary"' in str(caught.value)
    with pytest.raises(RecipeError, match='take "last"'):
        clean(graded(MAX_CLASSES + 1), Clean(label="classes", duplicates="mean"))


@pytest.mark.parametrize("scale", [1, 1_000, 10**9, 2**60])
def test_times_that_no_clock_has_shown_are_sorted_all_the_same(scale: int) -> None:
    times = [3, -2, 7, 0, -7, 7]
    rows = frame_of([(2**31 - 1 - n % 2, n, 1.0, t * scale, n + 1) for n, t in enumerate(times)])
    out, _ = clean(rows, Clean())
    assert_frame_equal(out.drop("label"), rows.sort("user_id", "timestamp", "item_id"))


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"from_date": "1.2.2003"}, ["clean.from_date: '1.2.2003' is no date", "ISO"]),
        ({"to_date": "tomorrow"}, ["clean.to_date: 'tomorrow' is no date"]),
        (
            {"from_date": "2003-01-01", "to_date": "2003-01-01"},
            ["clean.from_date = 2003-01-01 is not before", "to_date is not"],
        ),
        (
            {"min_rating": 4.0, "max_rating": 3.0},
            ["clean.min_rating = 4 is above clean.max_rating = 3"],
        ),
        ({"min_rating": float("nan")}, ["clean.min_rating is NaN"]),
        ({"threshold": float("nan")}, ["clean.threshold is NaN"]),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(options: Any, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        clean(SMALL, Clean(**options))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"min_rating": 6.0},
            [
                "after 'rating range'",
                "all 5 rows",
                "within 6 to …",
                "ratings, 1 to 5",
                "clean.min_rating",
            ],
        ),
        (
            {"to_date": "1970-01-01"},
            [
                "after 'date range'",
                "… to 1970-01-01",
                "1970-01-01T00:00:10Z to 1970-01-01T00:01:40Z",
            ],
        ),
        ({"metadata": "drop"}, ["after 'items without metadata'", 'clean.metadata = "keep"']),
    ],
)
def test_a_step_that_leaves_nothing_is_named_with_what_the_rows_hold(
    options: Any, words: list[str]
) -> None:
    with pytest.raises(EmptyDataError) as caught:
        clean(SMALL, Clean(**options), has_metadata=np.zeros(3, dtype=np.bool_))
    assert [word for word in words if word not in str(caught.value)] == []


def test_data_without_ratings_are_pointed_to_implicit_labels() -> None:
    rows = SMALL.with_columns(pl.lit(None, pl.Float32).alias("rating"))
    with pytest.raises(EmptyDataError, match=r'"implicit"'):
        clean(rows, Clean())


def test_a_source_without_rows_is_refused() -> None:
    with pytest.raises(EmptyDataError, match="no interaction"):
        clean(SMALL.clear(), Clean())


def test_an_empty_core_says_up_to_which_k_something_is_left() -> None:
    # A 3 × 4 block of users and items is a 3-core (of 4 rows a user), all else is thinner.
    block = [(u, i, 1.0, u, 10 * u + i + 1) for u in range(3) for i in range(4)]
    rows = frame_of([*block, (3, 0, 1.0, 9, 98), (3, 1, 1.0, 9, 99)])
    with pytest.raises(EmptyDataError) as caught:
        clean(rows, Clean(k_core=50))
    assert "the 50-core is empty: all 14 rows go" in str(caught.value)
    assert "k = 3 is the largest that leaves something: 12 rows" in str(caught.value)
    with pytest.raises(EmptyDataError, match="k = 4 is the largest") as apart:
        clean(rows, Clean(user_core=7, item_core=3))
    assert "with user_core = 4 and item_core = 3" in str(apart.value)


# -- laws ------------------------------------------------------------------------------------------


def slow_core(pairs: list[tuple[int, int]], user_core: int, item_core: int) -> set[tuple[int, int]]:
    left = set(pairs)
    while True:
        of_user = Counter(user for user, _ in left)
        of_item = Counter(item for _, item in left)
        stay = {(u, i) for u, i in left if of_user[u] >= user_core and of_item[i] >= item_core}
        if stay == left:
            return left
        left = stay


@law
@given(
    interaction_frames(unique_pairs=True, n_users=9),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from([0, 1, core.SWEEPS]),
)
def test_the_core_is_the_fixed_point_of_taking_the_weak_away(
    rows: pl.DataFrame, user_core: int, item_core: int, n_sweeps: int
) -> None:
    users, items = rows["user_id"].to_numpy(), rows["item_id"].to_numpy()
    pairs = list(zip(users.tolist(), items.tolist(), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "SWEEPS", n_sweeps)
        in_core = core_of(users, items, user_core, item_core)
    assert {pair for pair, stays in zip(pairs, in_core, strict=True) if stays} == slow_core(
        pairs, user_core, item_core
    )


@law
@given(interaction_frames(unique_pairs=True, n_users=9), st.integers(1, 9), st.integers(1, 9))
def test_the_largest_core_is_filled_and_the_next_is_empty(
    rows: pl.DataFrame, user_core: int, item_core: int
) -> None:
    users, items = rows["user_id"].to_numpy(), rows["item_id"].to_numpy()
    if core_of(users, items, user_core, item_core).any():
        return
    k, n_rows = largest_core(users, items, user_core, item_core)
    assert n_rows == core_of(users, items, min(k, user_core), min(k, item_core)).sum() > 0
    assert not core_of(users, items, min(k + 1, user_core), min(k + 1, item_core)).any()


@pytest.mark.parametrize("n_links", [4, 8, 9, 40, 3_000])
def test_a_chain_is_taken_apart_link_by_link(n_links: int) -> None:
    # user 0 - item 0 - user 1 - item 1 - …: only the ends are weak, so one row goes a side at a time.
    users = np.repeat(np.arange(n_links, dtype=np.int32), 2)[1:]
    items = np.repeat(np.arange(n_links, dtype=np.int32), 2)[:-1]
    assert not core_of(users, items, 2, 2).any()
    ring_users, ring_items = np.append(users, np.int32(0)), np.append(items, np.int32(n_links - 1))
    assert core_of(ring_users, ring_items, 2, 2).all()


def one_of_each_pair(
    rows: pl.DataFrame, which: str
) -> dict[tuple[int, int], tuple[float, int, int]]:
    pairs = defaultdict(list)
    for user, item, rating, timestamp, line in rows.rows():
        pairs[user, item].append((timestamp, line, rating))
    kept = {}
    for pair, group in pairs.items():
        timestamp, line, rating = min(group) if which == "first" else max(group)
        given = [r for _, _, r in group]
        made = {"mean": np.mean, "max": max, "min": min, "sum": sum, "count": len}
        if which in made:
            rating = float(np.float32(made[which](given)))
        kept[pair] = (rating, timestamp, line)
    return kept


@law
@given(
    interaction_frames(), st.sampled_from(["last", "first", "mean", "max", "min", "sum", "count"])
)
def test_each_pair_keeps_the_row_that_brute_force_keeps(rows: pl.DataFrame, which: Any) -> None:
    out, steps = clean(rows, Clean(duplicates=which))
    kept = {(u, i): rest for u, i, *rest, _ in out.rows()}
    expected = one_of_each_pair(rows, which)
    assert kept.keys() == expected.keys()
    for pair, (rating, timestamp, line) in expected.items():
        assert kept[pair][1:] == [timestamp, line]
        assert kept[pair][0] == pytest.approx(rating, rel=1e-6)
    assert step(steps, "repeated (user, item)").dropped == rows.height - len(expected)


options = st.builds(
    Clean,
    duplicates=st.sampled_from(["last", "first", "mean"]),
    k_core=st.integers(0, 2),
    min_rating=st.none() | st.just(1.0),
    from_date=st.sampled_from(["", "2000-04-27"]),
    label=st.sampled_from(["binary", "classes", "implicit"]),
    metadata=st.sampled_from(["keep", "drop"]),
)


@law
@given(interaction_frames(null_ratings=True, null_timestamps=True), options, seeds)
def test_the_order_of_the_rows_changes_nothing(
    rows: pl.DataFrame, options: Clean, seed: int
) -> None:
    has_metadata = np.arange(8) != 3
    try:
        expected, steps = clean(rows, options, has_metadata=has_metadata)
    except EmptyDataError as error:
        with pytest.raises(EmptyDataError) as again:
            clean(shuffled(rows, seed), options, has_metadata=has_metadata)
        assert str(again.value) == str(error)
        return
    out, steps_again = clean(shuffled(rows, seed), options, has_metadata=has_metadata)
    assert_frame_equal(out, expected)
    assert steps_again == steps


@law
@given(interaction_frames(null_ratings=True, null_timestamps=True), options)
def test_every_row_is_kept_or_counted_and_steps_follow_on_each_other(
    rows: pl.DataFrame, options: Clean
) -> None:
    try:
        out, steps = clean(rows, options, has_metadata=np.arange(8) != 3)
    except EmptyDataError:
        return
    assert [s.rows_in for s in steps] == [rows.height, *[s.rows_out for s in steps[:-1]]]
    assert steps[-1].rows_out == out.height
    assert out.select("user_id", "item_id").is_unique().all()
    assert out.sort("user_id", "timestamp", "item_id", "line").equals(out)
    if options.duplicates != "mean":
        assert_frame_equal(
            out.drop("label"), rows.join(out.select("line"), on="line"), check_row_order=False
        )


@law
@given(interaction_frames(), st.sampled_from(["binary", "classes", "implicit"]))
def test_a_label_is_an_index_into_the_class_values(rows: pl.DataFrame, label: Any) -> None:
    out, _ = clean(rows, Clean(label=label))
    values = class_values(out, Clean(label=label))
    assert out["label"].is_between(0, len(values) - 1).all()
    if label == "classes":
        assert (
            np.array(values, dtype=np.float32)[out["label"].to_numpy()].tolist()
            == out["rating"].to_list()
        )


# -- real ------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_movielens_1m_keeps_all_its_rows_and_has_the_cores_that_brute_force_finds(
    mirror: Path,
) -> None:
    rows = movielens_1m(mirror)
    out, steps = clean(rows, Clean(label="classes"))
    assert out.height == 1_000_209
    assert out["user_id"].n_unique() == 6_040
    assert out["item_id"].n_unique() == 3_706
    assert all(s.dropped == 0 for s in steps)
    assert class_values(out, Clean(label="classes")) == [1.0, 2.0, 3.0, 4.0, 5.0]
    counts = out.group_by("label").len().sort("label")["len"].to_list()
    assert counts == [56_174, 107_557, 261_197, 348_971, 226_310]
    dense, _ = clean(rows, Clean(k_core=20))
    left = rows
    while True:
        n_user, n_item = pl.len().over("user_id"), pl.len().over("item_id")
        stay = left.filter((n_user >= 20) & (n_item >= 20))
        if stay.height == left.height:
            break
        left = stay
    assert_frame_equal(dense.drop("label"), left.sort("user_id", "timestamp", "item_id"))


@pytest.mark.parametrize("which", ["last", "first"])
def test_pairs_whose_rows_are_of_one_time_are_counted(which: Any) -> None:
    times = {"last": [5, 9, 9], "first": [5, 5, 9]}[which]
    rows = REPEATED.clear()
    made = pl.DataFrame(
        {
            "user_id": [0, 0, 0, 1, 1, 2],
            "item_id": [0, 0, 0, 0, 0, 0],
            "rating": [1.0, 2.0, 3.0, 4.0, 5.0, 1.0],
            "timestamp": [*times, 1, 2, 3],
            "line": [1, 2, 3, 4, 5, 6],
        }
    ).select(pl.col(name).cast(dtype) for name, dtype in rows.schema.items())
    _, steps = clean(made, Clean(duplicates=which))
    (why,) = [step.why for step in steps if step.name == "repeated (user, item)"]
    assert "of 1 of them" in why
    apart = made.with_columns(timestamp=pl.int_range(6, dtype=rows.schema["timestamp"]))
    _, steps = clean(apart, Clean(duplicates=which))
    assert all("of them" not in step.why for step in steps)
