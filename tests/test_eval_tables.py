"""Tables of any origin give the same numbers; bad ones are refused with what is wrong, where, and a hint."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from fedeval import Policy, evaluate
from fedeval.tables import read_table
from fedprep.errors import EvaluationError

METRICS = ["ndcg@3", "hr@3", "mrr@3"]


@pytest.fixture
def recs() -> pl.DataFrame:
    """Three users' lists of four, in order of rank and of score alike."""
    return pl.DataFrame(
        {
            "user_id": [u for u in (1, 2, 30) for _ in range(4)],
            "item_id": [5, 6, 7, 8, 6, 5, 8, 12, 7, 8, 5, 6],
            "rank": [1, 2, 3, 4] * 3,
            "score": [0.9, 0.8, 0.7, 0.6] * 3,
        }
    )


@pytest.fixture
def truth() -> pl.DataFrame:
    return pl.DataFrame(
        {"user_id": [1, 2, 2, 30], "item_id": [6, 12, 5, 7], "relevance": [1.0, 2.0, 1.0, 3.0]}
    )


def run_lines(recs: pl.DataFrame) -> str:
    return "".join(f"{u}  Q0\t{i} {r} {s} tag\n" for u, i, r, s in recs.rows())


WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "recs.parquet": lambda frame, path: frame.write_parquet(path),
    "recs.csv": lambda frame, path: frame.write_csv(path),
    "semicolons.csv": lambda frame, path: frame.write_csv(path, separator=";"),
    "recs.tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "recs.arrow": lambda frame, path: frame.write_ipc(path),
    "recs.run": lambda frame, path: path.write_text(run_lines(frame)),
    "recommendations.parquet": lambda frame, path: frame.write_parquet(path),
    "stream.arrows": lambda frame, path: frame.write_ipc_stream(path),
    "spark": lambda frame, path: in_parts(frame, path, "part-{}.parquet"),
    "hive": lambda frame, path: in_parts(frame, path, "fold={}/part.parquet"),
}


def in_parts(frame: pl.DataFrame, folder: Path, name: str) -> None:
    """A folder as other programs write one: a file of Parquet for each two rows, and an empty mark."""
    for part in range(0, frame.height, 2):
        file = folder / name.format(part)
        file.parent.mkdir(parents=True, exist_ok=True)
        frame[part : part + 2].write_parquet(file)
    (folder / "_SUCCESS").touch()


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_numbers(
    name: str, recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    path = Path("run") / name
    path.parent.mkdir()
    WRITERS[name](recs, path)
    found = evaluate(path.parent if name == "recommendations.parquet" else path, truth, METRICS)
    wanted = evaluate(recs, truth, METRICS)
    assert found.per_user.equals(wanted.per_user)
    both = (
        found.counts.keys() & wanted.counts.keys()
    )  # a run of TREC goes by score, the others by rank
    assert {n: found.counts[n] for n in both} == {n: wanted.counts[n] for n in both}


@pytest.mark.parametrize("kind", ["pandas", "arrow", "dict", "lazy"])
def test_every_frame_gives_the_same_numbers(
    kind: str, recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    frames = {
        "pandas": lambda f: f.to_pandas(),
        "arrow": lambda f: f.to_arrow(),
        "dict": lambda f: f.to_dict(as_series=False),
        "lazy": lambda f: f.lazy(),
    }
    if kind == "pandas":
        pytest.importorskip("pandas")
    found = evaluate(frames[kind](recs), frames[kind](truth), METRICS)
    assert found.mean == evaluate(recs, truth, METRICS).mean


def test_the_index_of_pandas_is_read_where_it_has_a_name(
    recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    pytest.importorskip("pandas")
    indexed = recs.to_pandas().set_index(["user_id", "item_id"])
    doubled = recs.to_pandas().set_index("user_id", drop=False)
    for frame in (indexed, doubled):
        assert evaluate(frame, truth, METRICS).mean == evaluate(recs, truth, METRICS).mean


def test_a_score_may_be_missing_where_ranks_are_the_order(
    recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    holed = recs.with_columns(score=pl.when(pl.col("rank") < 3).then("score"))
    assert evaluate(holed, truth, METRICS).mean == evaluate(recs, truth, METRICS).mean
    with pytest.raises(EvaluationError, match="'score' of the recommendations is missing"):
        evaluate(holed.drop("rank"), truth, METRICS)


def test_qrels_are_a_truth_and_text_ids_stay_text_beside_text(
    recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    Path("truth.qrels").write_text("".join(f"{u} 0 {i} {g:g}\n" for u, i, g in truth.rows()))
    Path("recs.run").write_text(run_lines(recs))
    wanted = evaluate(recs, truth, METRICS).mean
    assert evaluate("recs.run", "truth.qrels", METRICS).mean == wanted
    as_text = truth.with_columns(pl.col("user_id", "item_id").cast(pl.String))
    assert evaluate("recs.run", as_text, METRICS).mean == wanted
    assert evaluate("recs.run", as_text, METRICS).per_user["user_id"].to_list() == ["1", "2", "30"]
    recs_as_text = recs.with_columns(pl.col("user_id", "item_id").cast(pl.String))
    assert evaluate(recs_as_text, "truth.qrels", METRICS).mean == wanted


def test_ids_of_text_that_are_not_all_integers_stay_text() -> None:
    Path("recs.csv").write_text("user_id,item_id,rank\nu1,007,1\nu1,7,2\n")
    truth = {"user_id": ["u1"], "item_id": ["7"]}
    assert evaluate("recs.csv", truth, "mrr@2").mean["mrr@2"] == 0.5


def test_ids_of_text_are_integers_as_long_as_they_fit_into_64_bits() -> None:
    largest = 2**63 - 1
    for user, kind in ((largest, pl.Int64), (largest + 1, pl.String)):
        Path("recs.csv").write_text(f"user_id,item_id,rank\n{user},7,1\n")
        assert read_table("recs.csv", "recommendations").schema["user_id"] == kind
    recs = {"user_id": [largest], "item_id": [7], "rank": [1]}
    assert evaluate(recs, {"user_id": [largest], "item_id": [7]}, "hr@1").mean["hr@1"] == 1


def test_foreign_columns_are_named(recs: pl.DataFrame, truth: pl.DataFrame) -> None:
    foreign = recs.rename({"user_id": "uid", "item_id": "asin", "rank": "pos"})
    names = {"user_id": "uid", "item_id": "asin", "rank": "pos"}
    foreign.write_csv("foreign.csv")
    own = truth.rename({"relevance": "grade"})
    found = evaluate(
        "foreign.csv", own, METRICS, columns=names, truth_columns={"relevance": "grade"}
    )
    assert found.mean == evaluate(recs, truth, METRICS).mean


def test_types_of_every_width_are_read(recs: pl.DataFrame, truth: pl.DataFrame) -> None:
    wanted = evaluate(recs, truth, METRICS).mean
    for ids, rank in ((pl.UInt8, pl.UInt16), (pl.UInt64, pl.Float64), (pl.Int16, pl.Int64)):
        cast = recs.with_columns(pl.col("user_id", "item_id").cast(ids), pl.col("rank").cast(rank))
        assert evaluate(cast, truth, METRICS).mean == wanted
    categorical = recs.with_columns(
        pl.col("user_id", "item_id").cast(pl.String).cast(pl.Categorical)
    )
    text = truth.with_columns(pl.col("user_id", "item_id").cast(pl.String))
    assert evaluate(categorical, text, METRICS).mean == wanted


def edited(
    column: str, values: list[Any], **options: Any
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(pl.Series(column, values, **options))


BAD: dict[str, tuple[Callable[[pl.DataFrame], Any], str]] = {
    "a column is misnamed": (lambda f: f.rename({"user_id": "userId"}), "did you mean 'userId'?"),
    "no rank and no score": (lambda f: f.drop("rank", "score"), "neither a rank nor a score"),
    "ids are fractions": (lambda f: f.with_columns(pl.col("user_id") / 2), "expected: integers or text"),
    "ids are lists": (lambda f: f.with_columns(pl.concat_list("item_id")), "expected: integers or text"),
    "scores are dates": (lambda f: f.with_columns(score=pl.lit("2020-01-01").str.to_date()), "'score'"),
    "the table is empty": (lambda f: f.head(0), "has no row"),
    "an id is missing": (lambda f: f.with_columns(item_id=pl.Series([None, *f["item_id"][1:]])), "'item_id'"),
    "a rank is missing": (lambda f: f.with_columns(rank=pl.Series([None, *f["rank"][1:]])), "'rank'"),
    "a rank is a fraction": (lambda f: f.with_columns(pl.col("rank") + 0.5), "'rank'"),
    "a score is NaN": (lambda f: edited("score", [*f["score"][:-1], math.nan])(f), "user 30, item 6"),
    "ranks start at 0": (lambda f: f.with_columns(pl.col("rank") - 1), "must start at 1"),
    "ranks count from 0": (
        lambda f: f.with_columns(pl.col("rank") - 1), "there are ranks of 0",
    ),
    "a rank is negative": (
        lambda f: f.with_columns(pl.col("rank") - 4), "hint: add 1 to ranks that count from 0",
    ),
    "ranks start at 2": (lambda f: f.with_columns(pl.col("rank") + 1), "starts at rank 2"),
    "ranks start behind k": (lambda f: f.with_columns(pl.col("rank") + 5), "starts at rank 6"),
    "no user in common": (lambda f: f.with_columns(pl.col("user_id") + 100), "no user in common"),
    "ids of another kind": (
        lambda f: f.with_columns(pl.col("item_id").cast(pl.String)),
        "'item_id' is String in the table of recommendations and Int64 in the table of truth",
    ),
    "a list of numbers": (lambda f: [1, 2, 3], "of type list is no table"),
    "an item with the one id that is taken": (
        lambda f: f.with_columns(item_id=pl.lit(-(2**31), pl.Int32)).lazy(), "cannot have the id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_bad_recommendations_are_refused_with_what_is_wrong(
    fault: str, recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    spoil, told = BAD[fault]
    with pytest.raises(EvaluationError) as error:
        evaluate(spoil(recs), truth, METRICS)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "fault",
    [
        "a score is NaN",
        "an id is missing",
        "ranks start at 2",
        "ranks count from 0",
        "a rank is missing",
    ],
)
def test_files_are_refused_alike(fault: str, recs: pl.DataFrame, truth: pl.DataFrame) -> None:
    spoil, told = BAD[fault]
    spoil(recs).write_parquet("recs.parquet")
    with pytest.raises(EvaluationError) as error:
        evaluate("recs.parquet", truth, METRICS)
    assert told in str(error.value)
    spoil(recs).write_csv("recs.csv")
    with pytest.raises(EvaluationError):
        evaluate("recs.csv", truth, METRICS)


def test_bad_truth_is_refused(recs: pl.DataFrame, truth: pl.DataFrame) -> None:
    faults = {
        "'item_id' of the truth is missing": truth.with_columns(item_id=pl.Series([None, 1, 2, 3])),
        "'relevance' of the truth is missing": truth.with_columns(relevance=pl.lit(math.nan)),
        "no user has a relevant item": truth.with_columns(relevance=pl.lit(0.0)),
        "expected: a value in every row, none infinite": truth.with_columns(
            relevance=pl.lit(math.inf)
        ),
        "has no row": truth.head(0),
        "the table of truth has no row": {"user_id": [], "item_id": []},
        "did you mean 'item'?": truth.rename({"item_id": "item"}),
    }
    for told, spoilt in faults.items():
        with pytest.raises(EvaluationError) as error:
            evaluate(recs, spoilt, METRICS)
        assert told in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("absent.parquet", None, "no such file"),
        ("recs.parquet", "not a parquet file", "no format that is known"),
        ("recs.run", "a line of prose\n", "no format that is known"),
        ("recs.run", "a line of prose has six\n", "no format that is known"),
        ("recs.csv", "", "an empty file"),
        ("recs.parquet", "", "an empty file"),
        ("recs.csv", b"\xff\xfeu\x00s\x00", "no text in UTF-8"),
        ("recs.csv", "user_id,item_id,rank\n1,2,1,9\n", "more fields"),
        ("recs.csv", "user_id,item_id,rank\n1,2,first\n", "'rank'"),
        ("recs.csv", "user_id,item_id,rank\n1,2\n", "'rank'"),
        (
            "recs.csv",
            "user_id,item_id,rank\n1,2,1\n,2,2\n",
            "'user_id' of the recommendations is missing",
        ),
    ],
)
def test_files_that_cannot_be_read_are_refused(
    name: str, text: str | bytes | None, told: str, truth: pl.DataFrame
) -> None:
    if text is not None:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EvaluationError) as error:
        evaluate(name, truth, METRICS)
    assert told in str(error.value)
    assert name in str(error.value)


def test_qrels_are_no_run_and_a_folder_is_no_table(truth: pl.DataFrame) -> None:
    Path("truth.qrels").write_text("1 0 6 1\n")
    with pytest.raises(EvaluationError, match="no format that is known"):
        evaluate("truth.qrels", truth, METRICS)
    Path("folder").mkdir()
    with pytest.raises(EvaluationError, match=r"a folder without recommendations.parquet"):
        evaluate("folder", truth, METRICS)
    # A Dataset's tables are no parts of one.
    Path("folder/manifest.json").write_text("{}")
    truth.write_parquet("folder/users.parquet")
    with pytest.raises(EvaluationError, match=r"a folder without recommendations.parquet"):
        evaluate("folder", truth, METRICS)


def test_a_file_that_is_not_there_has_a_neighbour() -> None:
    Path("recs.csv").write_text("user_id,item_id,rank\n1,2,1\n")
    with pytest.raises(EvaluationError, match=r"did you mean 'recs.csv'\?"):
        read_table("rec.csv", "recommendations")
    with pytest.raises(EvaluationError, match="there is no folder nowhere"):
        read_table("nowhere/recs.csv", "recommendations")


@pytest.mark.parametrize("source", [{"user_id": [1, "1"]}, {"user_id": [1], "item_id": [1, 2]}])
def test_columns_that_make_no_table_are_refused(source: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match="the table of recommendations cannot be read"):
        read_table(source, "recommendations")


def test_train_and_items_without_an_id_are_refused(recs: pl.DataFrame, truth: pl.DataFrame) -> None:
    train = {"user_id": [1, None], "item_id": [5, 6]}
    with pytest.raises(EvaluationError, match="'user_id' of the table of training rows is missing"):
        evaluate(recs, truth, "arp@2", train=train)
    with pytest.raises(EvaluationError, match="'item_id' of the table of items is missing"):
        evaluate(recs, truth, "coverage_all@2", items={"item_id": [5, None]})


def test_a_column_that_is_no_use_is_refused(recs: pl.DataFrame) -> None:
    with pytest.raises(EvaluationError, match="has no use for a column 'usr_id'"):
        read_table(recs, "recommendations", {"usr_id": "user_id"})


def test_k_longer_than_the_lists_is_counted_and_told(
    recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    found = evaluate(recs, truth, ["hr@4", "hr@10"])
    assert found.counts["short_lists"] == 3
    assert "3 of 3 lists are shorter than 10 items" in found.warnings
    assert evaluate(recs, truth, "hr@4").counts["short_lists"] == 0


def test_repeats_gaps_and_ties_are_settled_counted_and_told(truth: pl.DataFrame) -> None:
    recs = {
        "user_id": [1, 1, 1, 2, 2, 2, 30, 30],
        "item_id": [5, 5, 6, 12, 5, 7, 9, 7],
        "rank": [1, 2, 3, 1, 4, 5, 1, 1],
    }
    found = evaluate(recs, truth, ["mrr@3", "recall@2"])
    assert found.per_user["mrr@3"].to_list() == [0.5, 1.0, 1.0]
    assert found.per_user["recall@2"].to_list() == [1.0, 1.0, 1.0]
    assert {k: found.counts[k] for k in ("duplicates", "rank_gaps", "tied_ranks")} == {
        "duplicates": 1, "rank_gaps": 1, "tied_ranks": 1,
    }  # fmt: skip
    assert len(found.warnings) == 4  # and one of short lists


@pytest.mark.parametrize("ranks", [[1, 1, 1], [1, 2, 2_000_000_000]])
def test_a_whole_list_is_as_long_as_its_rows_whatever_its_last_rank(ranks: list[int]) -> None:
    recs = {"user_id": [1] * 3, "item_id": [5, 6, 7], "rank": ranks}
    found = evaluate(recs, {"user_id": [1, 1], "item_id": [6, 7]}, ["ndcg@3", "recall"]).mean
    assert found == {"ndcg@3": pytest.approx(0.693426, abs=1e-6), "recall": 1.0}


def test_users_without_a_list_score_0_and_those_without_truth_are_left_out(
    recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    some = recs.filter(pl.col("user_id") != 2)
    few = truth.filter(pl.col("user_id") != 30)
    found = evaluate(some, few, "hr@3")
    assert found.per_user.rows() == [(1, 1.0), (2, 0.0)]
    assert found.counts["users_without_list"] == 1
    assert found.counts["users_without_truth"] == 1
    assert found.warnings == ("1 of 2 users have no list: they score 0",)


def test_a_rank_that_counts_from_0_can_be_passed_over_for_the_score(
    recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    by_score = evaluate(
        recs.with_columns(rank=pl.lit(0)), truth, METRICS, policy=Policy(order="score")
    )
    assert by_score.mean == evaluate(recs, truth, METRICS).mean


def test_the_policy_refuses_a_choice_that_is_none() -> None:
    with pytest.raises(EvaluationError, match="no policy for ties is called 'items'"):
        Policy(ties="items")
    with pytest.raises(EvaluationError, match="needs ties='average'"):
        Policy(unlisted="tied")
    with pytest.raises(EvaluationError, match="needs duplicates"):
        Policy(ties="average", duplicates="keep")


def test_a_file_of_many_row_groups_in_any_order_is_read_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fedeval.evaluation.passes
    import fedeval.tables

    rng = np.random.default_rng(0)
    n, length = 2_000, 10
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(n, dtype=np.int32), length),
            "item_id": rng.integers(0, 500, n * length, dtype=np.int32),
            "rank": np.tile(np.arange(1, length + 1, dtype=np.int32), n),
        }
    )
    truth = pl.DataFrame({"user_id": np.arange(n), "item_id": rng.integers(0, 500, n)})
    wanted = evaluate(frame, truth, METRICS)
    monkeypatch.setattr(fedeval.evaluation.passes, "CELLS", 3_000)
    monkeypatch.setattr(fedeval.tables, "BLOCK", 1_000)
    for name, rows in (("sorted", frame), ("shuffled", frame[rng.permutation(frame.height)])):
        pq.write_table(rows.to_arrow(), f"{name}.parquet", row_group_size=700)
        found = evaluate(f"{name}.parquet", truth, METRICS)
        assert found.per_user.equals(wanted.per_user)
        assert found.counts == wanted.counts


# --- rank against score ---------------------------------------------------------------------------------


def test_a_run_of_trec_goes_by_score_whatever_its_ranks_say(
    recs: pl.DataFrame, truth: pl.DataFrame, tmp_path: Path
) -> None:
    found = []
    for name, rank in (
        ("good", pl.col("rank")),
        ("zero", pl.lit(0)),
        ("reversed", 5 - pl.col("rank")),
    ):
        path = tmp_path / f"{name}.run"
        path.write_text(run_lines(recs.with_columns(rank=rank)))
        found.append(evaluate(path, truth, METRICS))
    assert found[0].mean == found[1].mean == found[2].mean
    assert [one.counts["contradictions"] for one in found] == [
        0,
        6,
        6,
    ]  # two pairs of three places a user
    assert [any("contradict" in text for text in one.warnings) for one in found] == [
        False,
        True,
        True,
    ]


def test_equal_scores_of_a_run_stand_in_trec_evals_order(
    truth: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "tied.run"
    path.write_text("".join(f"1 Q0 {i} {r} 1.0 t\n" for r, i in enumerate((10, 9, 5, 6), 1)))
    found = evaluate(path, truth, ["mrr"])  # as text, descending: 9, 6, 5, 10
    assert found.per_user["mrr"][0] == 0.5
    assert found.counts["tied_scores"] == 3
    assert evaluate(path, truth, ["mrr"], order="rank").per_user["mrr"][0] == 0.25


@pytest.mark.parametrize("place", range(3))
def test_one_place_where_rank_and_score_disagree_is_counted(
    recs: pl.DataFrame, truth: pl.DataFrame, place: int
) -> None:
    scores = recs["score"].to_list()
    scores[place + 1] = scores[place] + 0.05  # above its neighbour in front
    swapped = recs.with_columns(pl.Series("score", scores))
    for order, key in ((None, "rank"), ("rank", "rank"), ("score", "score")):
        found = evaluate(swapped, truth, ["mrr@4"], order=order)  # type: ignore[arg-type]
        assert found.counts["contradictions"] == 1
        assert any(f"ordered by {key}" in text for text in found.warnings)
    assert evaluate(recs, truth, ["mrr@4"]).counts["contradictions"] == 0


def test_an_order_by_a_column_that_is_not_there_is_refused(
    recs: pl.DataFrame, truth: pl.DataFrame
) -> None:
    for order in ("rank", "score"):
        with pytest.raises(EvaluationError, match=f"ordered by {order}"):
            evaluate(recs.drop(order), truth, METRICS, order=order)  # type: ignore[arg-type]


# --- truth of lines without a header --------------------------------------------------------------------

HEADLESS = {
    "1\t6\n2\t12\n30\t7\n": True,
    "1\t6\t5\n2\t12\t3\n30\t7\t1\n": True,
    "1\t6\t5\t978300000\n2\t12\t3\t978300077\n30\t7\t1\t978300154\n": True,
    "1 0 6 1\n2 0 12 1\n30 0 7 2\n": True,
    "1 Q0 6 1\n2 Q0 12 1\n30 Q0 7 2\n": True,
    "1 6 5 17\n2 12 3 18\n30 7 1 19\n": False,  # a time, or qrels of three iterations
    "1 6\n2 12 3\n30 7\n": False,
    "1 0 6 one\n": False,
}


@pytest.mark.parametrize("lines", HEADLESS)
def test_lines_of_truth_are_told_apart_by_what_they_hold(
    lines: str, recs: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "mine.test.rating"
    path.write_text(lines)
    if not HEADLESS[lines]:
        with pytest.raises(EvaluationError, match="no format that is known"):
            evaluate(recs, path, METRICS)
        return
    wanted = pl.DataFrame({"user_id": [1, 2, 30], "item_id": [6, 12, 7]})
    assert evaluate(recs, path, METRICS).mean == evaluate(recs, wanted, METRICS).mean


# --- a relevance from which on rows count ---------------------------------------------------------------


@pytest.mark.parametrize("column", ["relevance", "rating"])
def test_rows_below_the_least_relevance_do_not_count(recs: pl.DataFrame, column: str) -> None:
    rows = {"user_id": [1, 1, 2, 30], "item_id": [5, 6, 12, 7], column: [3.9, 4.0, 5.0, 1.0]}
    found = evaluate(recs, rows, ["hr@1", "recall@2"], min_relevance=4)
    assert found.counts["users"] == 2
    assert found.counts["users_without_relevant"] == 1
    assert found.mean == {"hr@1": 0.0, "recall@2": 0.5}
    assert evaluate(recs, rows, ["hr@1"]).mean["hr@1"] > 0


@pytest.mark.parametrize("least", [0, -1.0, float("nan"), float("inf")])
def test_a_least_relevance_that_is_none_is_refused(
    recs: pl.DataFrame, truth: pl.DataFrame, least: float
) -> None:
    with pytest.raises(EvaluationError, match="min_relevance"):
        evaluate(recs, truth, METRICS, min_relevance=least)
    with pytest.raises(EvaluationError, match="neither relevance nor"):
        evaluate(recs, truth.drop("relevance"), METRICS, min_relevance=4)
