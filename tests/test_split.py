from __future__ import annotations

import itertools
import json
import logging
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fedprep.errors import EmptyDataError, RecipeError
from fedprep.recipe import Split
from fedprep.schema import SPLIT_DTYPE
from fedprep.split import METHODS, split
from fedprep.split.methods import Rows
from tests.real import movielens_1m
from tests.strategies import cleaned_frames, frame_of, shuffled

law = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 1000)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5])

LETTER = {"train": "-", "valid": "v", "test": "t"}


def histories(*times_of_users: list[int]) -> pl.DataFrame:
    """Returns users with rows at these times; items are new in each row, lines count up."""
    rows = [(user, time) for user, times in enumerate(times_of_users) for time in times]
    return frame_of([(user, n, 1.0, time, n + 1) for n, (user, time) in enumerate(rows)])


def parts(rows: pl.DataFrame, *, seed: int = 0, **options: Any) -> str:
    """Returns the parts in order of lines, a letter a row: - train, v valid, t test."""
    out, _, _ = split(rows, Split(**options), seed=seed)
    assert out.height == rows.height
    return "".join(LETTER[part] for part in out.sort("line")["split"])


def facts_of(rows: pl.DataFrame, **options: Any) -> dict[str, Any]:
    return split(rows, Split(**options), seed=0)[2]


# -- by hand ---------------------------------------------------------------------------------------


def test_leave_last_out_takes_the_last_rows_of_each_user() -> None:
    rows = histories([3, 1, 2, 4], [9, 7, 8], [5, 6], [1])
    assert parts(rows, n_valid=1, n_test=1) == "v--t" + "t-v" + "--" + "-"
    assert parts(rows, n_valid=0, n_test=2) == "t--t" + "t-t" + "--" + "-"
    assert parts(rows, n_valid=2, n_test=0) == "v--v" + "v-v" + "--" + "-"
    assert parts(rows, n_valid=0, n_test=0) == "-" * 10


def test_users_with_too_few_rows_stay_in_train_and_are_counted() -> None:
    facts = facts_of(histories([1, 2, 3], [1, 2], [1]))
    assert facts["users_kept_whole"] == 2
    assert facts["users_without_test"] == 2
    assert "users with fewer than 3 rows stay in train" in facts["rule"]
    assert facts["rows"] == {"train": 4, "valid": 1, "test": 1}


def test_more_rows_than_anybody_has_are_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    assert parts(histories([1, 2, 3]), n_test=10**30) == "---"
    assert "no row became test" in caplog.text


def test_the_frame_keeps_its_columns_and_gains_the_split() -> None:
    rows = histories([1, 2, 3]).with_columns(pl.lit(1, pl.Int8).alias("label"))
    out, steps, _ = split(rows, Split(), seed=0)
    assert out.schema == {**rows.schema, "split": SPLIT_DTYPE}
    assert_frame_equal(out.drop("split"), rows)
    assert steps == []


def test_rows_of_one_moment_are_sorted_by_item_too() -> None:
    rows = histories([1, 1, 2])
    assert_frame_equal(split(rows[[1, 0, 2]], Split(), seed=0)[0].drop("split"), rows)


def test_user_ratio_rounds_half_up_and_leaves_the_first_row_in_train() -> None:
    def held(n: int, valid: float, test: float) -> str:
        return parts(histories(list(range(n))), method="user_ratio", valid=valid, test=test)

    assert held(10, 0.2, 0.3) == "-----vvttt"
    assert held(5, 0.0, 0.1) == "----t"  # 0.5 of a row is one
    assert held(4, 0.0, 0.1) == "----"
    assert held(50, 0.0, 0.29) == "-" * 35 + "t" * 15  # 14.5, though not in binary
    assert held(2, 0.45, 0.45) == "-t"
    assert held(1, 0.45, 0.45) == "-"
    assert facts_of(histories([1]), method="user_ratio", test=0.4)["users_kept_whole"] == 1


def test_global_time_cuts_all_users_at_the_same_moments() -> None:
    rows = histories([1, 4, 7, 10], [2, 5, 8], [3, 6, 9])
    assert parts(rows, method="global_time", valid=0.2, test=0.2) == "--vt" + "--v" + "--t"
    facts = facts_of(rows, method="global_time", valid=0.2, test=0.2)
    assert (facts["valid_from"], facts["test_from"]) == (7, 9)
    assert facts["time"] == {"train": [1, 6], "valid": [7, 8], "test": [9, 10]}


def test_global_time_never_parts_rows_of_one_timestamp_and_cuts_at_the_nearest() -> None:
    def cut(times: list[int], test: float) -> str:
        return parts(histories(*[[t] for t in times]), method="global_time", valid=0, test=test)

    assert (
        cut([1, 2, 3, 3, 3, 3, 3, 4, 5, 6], 0.4) == "-------ttt"
    )  # 3 rows are nearer to 4 than 8 are
    assert cut([1, 2, 3, 3, 3, 3, 3, 4, 5, 6], 0.7) == "--tttttttt"
    assert (
        cut([1, 2, 3, 3, 4, 4], 0.5) == "--tttt"
    )  # 2 and 4 rows are as near to 3: the earlier cut
    assert cut([1, 2, 2, 2, 2], 0.1) == "-tttt"  # a part that is asked for is not empty
    assert cut([1, 1, 1, 1, 2], 0.9) == "----t"  # nor is train


def test_global_time_cuts_at_dates_where_they_are_given() -> None:
    day = 86_400
    rows = histories([n * day for n in range(10)])
    dates = {
        "method": "global_time",
        "valid_from": "1970-01-04",
        "test_from": "1970-01-06T00:00:01",
    }
    assert parts(rows, **dates) == "---vvvtttt"
    assert facts_of(rows, **dates)["test_from"] == 5 * day + 1
    assert parts(rows, method="global_time", test_from="1970-01-09", valid=0.3) == "-----vvvtt"
    assert (
        parts(rows, method="global_time", test_from="1970-01-09", valid=0.3, test=0.9)
        == "-----vvvtt"
    )
    assert parts(rows, method="global_time", test_from="1970-01-09", valid=0) == "--------tt"
    assert parts(rows, method="global_time", valid_from="1970-01-05", test=0.2) == "----vvvvtt"


def test_ratio_draws_as_many_rows_as_the_shares_say() -> None:
    drawn = parts(histories(list(range(20))), method="ratio", valid=0.25, test=0.1)
    assert (drawn.count("v"), drawn.count("t")) == (5, 2)
    assert drawn != "-" * 13 + "v" * 5 + "t" * 2
    assert parts(histories([1, 2]), method="ratio", valid=0.4, test=0.4).count("-") == 1


def test_ratio_works_without_timestamps_and_then_measures_no_leak() -> None:
    rows = histories(list(range(20))).with_columns(pl.lit(None, pl.Int64).alias("timestamp"))
    out, _, facts = split(rows, Split(method="ratio"), seed=0)
    assert out["timestamp"].null_count() == 20
    assert facts["leak"] is None
    assert facts["tied_rows"] is None
    assert facts["time"] == {"train": None, "valid": None, "test": None}
    kept, (step,), _ = split(rows, Split(method="ratio", cold_items="drop"), seed=0)
    assert (
        kept.height == step.rows_out == (out["split"] == "train").sum()
    )  # each item stands in one row


def test_the_draw_is_the_same_for_ever() -> None:
    rows = histories([1] * 30)
    assert parts(rows, method="ratio", seed=1) == "---v----v-------vt--t-------t-"
    assert parts(rows, n_valid=2, n_test=2, seed=1) == "-------t-------t--v-----v-----"


def slow_draw(seed: int, user: int, item: int) -> int:
    """SplitMix64's finaliser over the two ids, once for each of two keys."""
    mixed = user << 32 | item
    for key in np.random.SeedSequence([seed, *b"split"]).generate_state(2, np.uint64).tolist():
        mixed ^= key
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) % 2**64
        mixed ^= mixed >> 31
    return mixed


@given(
    seed=st.integers(0, 2**70),
    ids=st.lists(st.tuples(*[st.integers(0, 2**31 - 1)] * 2), min_size=1),
)
def test_draws_are_those_of_the_plain_definition(seed: int, ids: list[tuple[int, int]]) -> None:
    users, items = np.array(ids, dtype=np.int32).T
    rows = Rows(users=users, items=items, times=None, seed=seed)
    assert rows.draws(slice(None)).tolist() == [slow_draw(seed, *pair) for pair in ids]


def test_rows_tied_at_the_cut_are_drawn_and_counted() -> None:
    rows = histories([1, 2, 2], [1, 1, 5], [3, 3, 3])
    facts = facts_of(rows, n_valid=0)
    assert facts["tied_rows"] == 7
    assert facts["repeated_moments"] == 4
    assert facts["users_cut_in_a_tie"] == 2
    assert "hash of (seed, user_id, item_id)" in facts["tie_rule"]
    held = {parts(rows, n_valid=0, seed=seed) for seed in range(40)}
    assert {h[:3] for h in held} == {"-t-", "--t"}
    assert {h[3:6] for h in held} == {"--t"}
    assert {h[6:] for h in held} == {"t--", "-t-", "--t"}


def test_cold_items_are_counted_and_dropped_when_asked() -> None:
    pairs = [
        (0, 0, 1),
        (0, 1, 2),
        (0, 5, 3),
        (1, 0, 1),
        (1, 5, 2),
        (1, 1, 3),
        (2, 0, 1),
        (2, 6, 2),
        (2, 6 + 1, 3),
    ]
    rows = frame_of([(u, i, 1.0, t, n) for n, (u, i, t) in enumerate(pairs, start=1)])
    kept, no_steps, facts = split(rows, Split(), seed=0)
    assert kept.height == 9
    assert no_steps == []
    assert facts["cold"] == {
        "rule": "keep",
        "rows": {"valid": 3, "test": 3},
        "items": {"valid": 3, "test": 3},
    }
    out, steps, facts = split(rows, Split(cold_items="drop"), seed=0)
    assert out["line"].to_list() == [1, 4, 7]
    assert [(s.stage, s.name, s.rows_in, s.rows_out, s.examples) for s in steps] == [
        ("split", "cold items", 9, 3, ("line 2", "line 3", "line 5"))
    ]
    assert facts["cold"]["rule"] == "drop"
    assert facts["cold"]["rows"] == {"valid": 3, "test": 3}
    assert facts["rows"] == {"train": 3, "valid": 0, "test": 0}
    assert facts["items"] == {"train": 1, "valid": 0, "test": 0}


def test_the_leak_of_a_hand_made_split_is_what_one_counts() -> None:
    # train at 1, 2 and 10, 11; test at 3 and 12: two of four train rows are later than 3, none than 12.
    leak = facts_of(histories([1, 2, 3], [10, 11, 12]), n_valid=0)["leak"]
    assert leak == {
        "train_rows_after_first_test_row": 2 / 4,
        "test_rows_before_last_train_row": 1 / 2,
        "pairs_out_of_order": 2 / 8,
        "users_with_train_after_test": 0,
    }


def test_there_is_no_leak_to_measure_without_test_rows() -> None:
    assert facts_of(histories([1, 2, 3]), n_valid=0, n_test=0)["leak"] is None


# -- messages --------------------------------------------------------------------------------------


def test_no_rows_cannot_be_split() -> None:
    with pytest.raises(EmptyDataError, match="no row to split"):
        split(histories([1]).clear(), Split(), seed=0)


@pytest.mark.parametrize("method", ["leave_last_out", "global_time", "user_ratio"])
def test_a_method_that_needs_time_says_which_one_does_not(method: str) -> None:
    rows = histories([1, 2, 3]).with_columns(pl.Series("timestamp", [1, None, 3]))
    with pytest.raises(
        RecipeError, match=f"'{method}' needs timestamps, and 1 of 3 rows"
    ) as caught:
        split(rows, Split(method=method), seed=0)  # type: ignore[arg-type]
    assert 'split.method = "ratio"' in str(caught.value)


@pytest.mark.parametrize("method", ["global_time", "user_ratio", "ratio"])
def test_shares_that_leave_nothing_for_train_are_refused(method: Any) -> None:
    with pytest.raises(
        RecipeError, match=r"valid = 0\.5 and split\.test = 0\.5 leave no row for train"
    ):
        split(histories([1, 2, 3]), Split(method=method, valid=0.5, test=0.5), seed=0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"test_from": "soon"}, RecipeError, ["split.test_from: 'soon' is no date"]),
        (
            {"test_from": "1971-01-01"},
            EmptyDataError,
            ["split.test_from = 1971-01-01", "1970-01-01T00:00:01Z to 1970-01-01T00:00:05Z"],
        ),
        ({"test_from": "1970-01-01"}, EmptyDataError, ["split.test_from = 1970-01-01"]),
        (
            {"test_from": "1970-01-01T00:00:05", "valid_from": "1970-01-02"},
            EmptyDataError,
            ["split.valid_from"],
        ),
        (
            {"test_from": "1970-01-01T00:00:02", "valid": 0.2},
            EmptyDataError,
            ["split.valid asks for 1 rows"],
        ),
    ],
)
def test_cuts_in_time_that_part_nothing_are_refused(
    options: Any, error: Any, words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        split(histories([1, 2, 3, 4, 5]), Split(method="global_time", **options), seed=0)
    assert [word for word in words if word not in str(caught.value)] == []


def test_one_moment_for_all_rows_cannot_be_cut() -> None:
    with pytest.raises(EmptyDataError, match="all 20 rows are of 1970-01-01T00:00:07Z"):
        split(histories([7] * 20), Split(method="global_time"), seed=0)


def test_a_part_that_stays_empty_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        split(histories([1, 2], [1]), Split(), seed=0)
    assert [record.getMessage() for record in caplog.records] == [
        f"no row became {part}, though split.method = 'leave_last_out' asks for 1: users or rows are too few"
        for part in ("valid", "test")
    ]


# -- laws ------------------------------------------------------------------------------------------

any_split = st.builds(
    Split,
    method=st.sampled_from(sorted(METHODS)),
    n_valid=st.integers(0, 2),
    n_test=st.integers(0, 2),
    valid=shares,
    test=shares.filter(lambda share: share < 0.5),
    cold_items=st.sampled_from(["keep", "drop"]),
)


def split_or_discard(rows: pl.DataFrame, options: Split, seed: int) -> Any:
    try:
        return split(rows, options, seed=seed)
    except EmptyDataError:
        assume(False)


@law
@given(cleaned_frames(), any_split, seeds)
def test_no_row_is_lost_or_changed_but_cold_ones_on_request(
    rows: pl.DataFrame, options: Split, seed: int
) -> None:
    out, steps, facts = split_or_discard(rows, options, seed)
    assert sum(facts["rows"].values()) == out.height
    assert json.loads(json.dumps(facts)) == facts
    train = out.filter(pl.col("split") == "train")
    assert train.height > 0
    held_out = out.filter(pl.col("split") != "train")
    is_known = held_out["item_id"].is_in(train["item_id"].implode())
    if options.cold_items == "drop":
        assert is_known.all()
        assert steps[0].rows_in == rows.height
        assert steps[0].dropped == rows.height - out.height == sum(facts["cold"]["rows"].values())
        assert_frame_equal(rows.join(out, on="line", how="semi"), out.drop("split"))
    else:
        assert steps == []
        assert_frame_equal(out.drop("split"), rows)
        assert (~is_known).sum() == sum(facts["cold"]["rows"].values())


@law
@given(cleaned_frames(), any_split, seeds, seeds)
def test_the_order_of_the_rows_changes_nothing(
    rows: pl.DataFrame, options: Split, seed: int, order: int
) -> None:
    expected, steps, facts = split_or_discard(rows, options, seed)
    out, steps_again, facts_again = split(shuffled(rows, order), options, seed=seed)
    assert_frame_equal(out, expected)
    assert (steps_again, facts_again) == (steps, facts)


def half_up(share: float, n: int) -> int:
    return int(Fraction(str(share)) * n + Fraction(1, 2))


@law
@given(cleaned_frames(), st.integers(0, 3), st.integers(0, 3), seeds)
def test_leave_last_out_holds_out_the_latest_rows_of_each_user(
    rows: pl.DataFrame, n_valid: int, n_test: int, seed: int
) -> None:
    out, _, _ = split(rows, Split(n_valid=n_valid, n_test=n_test), seed=seed)
    of_user = defaultdict(list)
    for user, timestamp, part in out.select("user_id", "timestamp", "split").rows():
        of_user[user].append((timestamp, ("train", "valid", "test").index(part)))
    for history in of_user.values():
        n_held = n_valid + n_test if len(history) > n_valid + n_test else 0
        counts = [sum(part == p for _, part in history) for p in range(3)]
        assert counts == [len(history) - n_held, n_valid if n_held else 0, n_test if n_held else 0]
        assert_never_earlier(history)


def assert_never_earlier(history: list[tuple[int, int]]) -> None:
    """A row of a later part never has an earlier timestamp than one of an earlier part."""
    assert all(a[0] <= b[0] for a in history for b in history if a[1] < b[1])


@law
@given(cleaned_frames(), shares, shares, seeds)
def test_user_ratio_holds_out_the_latest_share_of_each_user(
    rows: pl.DataFrame, valid: float, test: float, seed: int
) -> None:
    assume(valid + test < 1)
    out, _, _ = split(rows, Split(method="user_ratio", valid=valid, test=test), seed=seed)
    for (_,), history in out.group_by("user_id"):
        n = history.height
        n_test = min(half_up(test, n), n - 1)
        n_valid = min(half_up(valid, n), n - 1 - n_test)
        held = history["split"].to_list()
        assert (held.count("valid"), held.count("test")) == (n_valid, n_test)
        places = [("train", "valid", "test").index(part) for part in held]
        assert_never_earlier(list(zip(history["timestamp"], places, strict=True)))


@law
@given(cleaned_frames(min_rows=2), shares, shares, seeds)
def test_global_time_puts_all_of_train_before_all_of_valid_before_all_of_test(
    rows: pl.DataFrame, valid: float, test: float, seed: int
) -> None:
    assume(0 < valid + test < 1)
    _, _, facts = split_or_discard(rows, Split(method="global_time", valid=valid, test=test), seed)
    ranges = [facts["time"][part] for part in ("train", "valid", "test") if facts["time"][part]]
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(ranges))
    if facts["leak"]:
        assert set(facts["leak"].values()) == {0}
    wanted = half_up(test, rows.height)
    if wanted:  # no moment of all cuts nearer to the share
        held = [int((rows["timestamp"] >= moment).sum()) for moment in rows["timestamp"].unique()]
        nearest = min(abs(n - wanted) for n in held if n < rows.height)
        assert abs(facts["rows"]["test"] - wanted) == nearest


@law
@given(cleaned_frames(), shares, shares, seeds)
def test_ratio_gives_each_row_its_part_by_its_own_ids(
    rows: pl.DataFrame, valid: float, test: float, seed: int
) -> None:
    assume(valid + test < 1)
    options = Split(method="ratio", valid=valid, test=test)
    out, _, facts = split(rows, options, seed=seed)
    assert facts["rows"]["test"] == min(half_up(test, rows.height), rows.height - 1)
    elsewhere = rows.with_columns(pl.col("timestamp").reverse(), pl.col("rating").reverse())
    again, _, _ = split(elsewhere, options, seed=seed)
    assert_frame_equal(
        again.sort("line").select("line", "split"), out.sort("line").select("line", "split")
    )


@law
@given(cleaned_frames(), any_split, seeds)
def test_the_leak_is_what_counting_every_pair_gives(
    rows: pl.DataFrame, options: Split, seed: int
) -> None:
    out, _, facts = split_or_discard(rows, options, seed)
    train = out.filter(split="train").select("user_id", "timestamp").rows()
    test = out.filter(split="test").select("user_id", "timestamp").rows()
    if not test:
        assert facts["leak"] is None
        return
    later = [[t > s for _, t in train] for _, s in test]
    users = {u for u, t in train for v, s in test if u == v and t > s}
    assert facts["leak"] == {
        "train_rows_after_first_test_row": pytest.approx(np.any(later, axis=0).mean()),
        "test_rows_before_last_train_row": pytest.approx(np.any(later, axis=1).mean()),
        "pairs_out_of_order": pytest.approx(np.mean(later)),
        "users_with_train_after_test": len(users),
    }


def test_no_item_is_favoured_where_a_cut_falls_into_a_tie() -> None:
    # 6,000 users rate the same 12 items at one moment: each is held out about 500 times, high ids or low.
    n_users, n_items = 6_000, 12
    rows = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(n_users, dtype=np.int32), n_items),
            "item_id": np.tile(np.arange(n_items, dtype=np.int32), n_users),
            "timestamp": np.zeros(n_users * n_items, dtype=np.int64),
            "line": np.arange(n_users * n_items, dtype=np.uint32),
        }
    )
    for seed in range(3):
        out, _, _ = split(rows, Split(n_valid=0), seed=seed)
        counts = out.filter(split="test").group_by("item_id").len()["len"].to_numpy()
        chi_square = float(((counts - 500.0) ** 2 / 500.0).sum())
        assert chi_square < 31.3  # 99.9 % of chi-square with 11 degrees of freedom


def test_draws_of_ratio_are_spread_evenly_over_users_and_items() -> None:
    n_users, n_items = 300, 300
    rows = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(n_users, dtype=np.int32), n_items),
            "item_id": np.tile(np.arange(n_items, dtype=np.int32), n_users),
            "timestamp": np.zeros(n_users * n_items, dtype=np.int64),
            "line": np.arange(n_users * n_items, dtype=np.uint32),
        }
    )
    held = [
        split(rows, Split(method="ratio", valid=0.0, test=0.2), seed=s)[0]["split"] == "test"
        for s in (0, 1)
    ]
    table = held[0].to_numpy().reshape(n_users, n_items)
    deviation = np.sqrt(300 * 0.2 * 0.8)
    for axis in (0, 1):  # sums of 300 draws each: their spread is that of the binomial
        assert np.abs(table.sum(axis=axis) - 60).max() < 5 * deviation
        assert 0.8 * deviation < table.sum(axis=axis).std() < 1.2 * deviation
    assert abs((held[0] & held[1]).mean() - 0.04) < 0.005  # another seed, another draw


# -- real ------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_movielens_1m_has_its_known_ties_and_a_test_row_a_user(mirror: Path) -> None:
    rows = movielens_1m(mirror)
    out, _, facts = split(rows, Split(), seed=0)
    assert facts["repeated_moments"] == 529_046
    assert facts["tied_rows"] == int(
        rows.select(pl.struct("user_id", "timestamp").is_duplicated().sum()).item()
    )
    assert facts["rows"] == {"train": 988_129, "valid": 6_040, "test": 6_040}
    assert facts["users"] == {"train": 6_040, "valid": 6_040, "test": 6_040}
    assert facts["users_kept_whole"] == 0
    tests = out.filter(split="test")
    last = rows.group_by("user_id").agg(pl.col("timestamp").max())
    assert_frame_equal(tests.select("user_id", "timestamp"), last.sort("user_id"))
    assert facts["users_cut_in_a_tie"] == 3_707  # as docs/splits.md has it


@pytest.mark.realdata
@pytest.mark.parametrize("method", METHODS)
def test_the_leak_of_movielens_1m_is_the_documented_one(mirror: Path, method: str) -> None:
    page = (Path(__file__).parent.parent / "docs" / "splits.md").read_text(encoding="utf-8")
    documented = next(
        line for line in page.splitlines() if line.startswith(f"| `{method}` |") and "%" in line
    )
    leak = facts_of(movielens_1m(mirror), method=method)["leak"]
    shares = [leak[key] for key in list(leak)[:3]]
    cells = [
        f"`{method}`",
        *[f"{share:.1%}" for share in shares],
        f"{leak['users_with_train_after_test']:,}",
    ]
    assert documented == "| " + " | ".join(cells) + " |"
