from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import fedprep
import fedprep.checks
from fedprep.checks import CHECKS, Check, Limits, Tables, limits_from, plain, validate
from fedprep.checks.recommendations import RECOMMENDATION_CHECKS
from fedprep.checks.result import STATUSES, Result, Validation
from fedprep.checks.tables import SIZES
from fedprep.dataset import Dataset
from fedprep.errors import DatasetError, RecipeError
from fedprep.faults import plant
from tests.checked import (
    MANIFEST,
    N_USERS,
    changed,
    interactions,
    items,
    tables_of,
    users,
    write_dataset,
)

EVERY = CHECKS | RECOMMENDATION_CHECKS
ROOT = Path(__file__).parent.parent
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("run") / "whole", interactions())


@pytest.fixture
def one_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Puts one made-up check in the place of all."""

    def put(function: Any, **options: Any) -> None:
        about = {"unit": "rows", "of": "interactions", "means": "It is red.", "todo": "Mend it."}
        check = Check(name="made_up", group="interactions", function=function, **about | options)
        monkeypatch.setattr(fedprep.checks, "CHECKS", {"made_up": check})

    return put


# -- what can be validated --------------------------------------------------------------------------

BAD_ROWS = pl.DataFrame(
    {
        "user_id": [0, 0, 1, 1],
        "item_id": [0, 1, 0, 1],
        "rating": [1.0, NAN, 3.0, 4.0],
        "timestamp": [1, 2, 3, 4],
    }
)


def frames() -> dict[str, Any]:
    arrow = BAD_ROWS.to_arrow()
    return {
        "polars": BAD_ROWS, "lazy": BAD_ROWS.lazy(), "arrow": arrow, "batches": arrow.to_reader(),
        "mapping": BAD_ROWS.to_dict(as_series=False),
    }  # fmt: skip


@pytest.mark.parametrize("kind", frames())
def test_a_frame_of_any_library_is_checked(kind: str) -> None:
    found = fedprep.validate(frames()[kind])
    assert found["numbers_are_finite"].count + found["ratings_are_finite"].count >= 1
    assert found.verdict == "fail"


def test_a_frame_of_pandas_is_checked_with_its_index() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(BAD_ROWS.to_dict(as_series=False)).set_index("user_id")
    found = fedprep.validate(frame)
    assert found["no_missing_values"].count == 1  # NaN is how pandas says that a value is missing
    assert found["users_have_enough_history"].denominator == 2


def test_paths_are_validated_as_the_command_does(whole: Path) -> None:
    of_path = fedprep.validate(whole)
    assert (of_path.kind, of_path.verdict) == ("dataset", validate(Dataset.open(whole)).verdict)
    assert fedprep.validate(str(whole / "items.parquet")).kind == "tables"


def test_what_is_no_table_is_a_type_error_and_what_has_no_ids_is_told() -> None:
    for nothing in (42, None, object(), [1, 2]):
        with pytest.raises(TypeError, match="taken are a frame of polars"):
            fedprep.validate(nothing)
    with pytest.raises(DatasetError, match="no table that can be checked"):
        fedprep.validate(pl.DataFrame({"a": [1]}))


# -- every check -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_every_check_says_what_it_is(name: str) -> None:
    check = EVERY[name]
    assert check.name == name and re.fullmatch(r"[a-z_]+", name)
    for sentence in (check.means, check.todo):
        assert sentence[0].isupper() and sentence.endswith("."), sentence
    assert (check.function.__doc__ or "").strip()
    assert check.of in SIZES
    assert set(check.limits) <= set(Limits.__struct_fields__)
    known = {field.name for field in dataclasses.fields(Tables)}
    assert {need.partition(".")[0] for need in check.needs} <= known
    assert not check.blocks or any(need.startswith("interactions") for need in check.needs)
    assert EVERY[name] is check and len(EVERY) == len(CHECKS) + len(RECOMMENDATION_CHECKS)


@pytest.mark.parametrize("name", EVERY)
def test_every_check_has_its_line_of_documentation_and_its_test(name: str) -> None:
    page = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    _, finds, limits, severity, todo = (cell.strip() for cell in line.strip("|").split("|"))
    check = EVERY[name]
    assert finds
    assert (severity, todo) == (check.severity, check.todo)
    told = dict(part.partition(" = ")[::2] for part in limits.split(", ") if part)
    defaults = {f"`{limit}`": getattr(Limits(), limit) for limit in check.limits}
    assert {n: float(v.replace(",", "")) if v else None for n, v in told.items()} == defaults
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_checks_*.py")]
    assert any(f'"{name}"' in text for text in tests)


def test_every_limit_is_looked_at_by_a_check() -> None:
    used = {limit for check in EVERY.values() for limit in check.limits}
    assert used == set(Limits.__struct_fields__)


def test_checks_run_from_the_schema_over_values_to_files() -> None:
    first = {}
    for place, check in enumerate(CHECKS.values()):
        first.setdefault(check.group, place)
    groups = ["schema", "interactions", "clients", "splits", "embeddings", "files"]
    assert [first[group] for group in groups] == sorted(first[group] for group in groups)
    order = [
        "schema_matches",
        "ratings_are_finite",
        "ratings_are_in_range",
        "pairs_are_unique",
        "items_exist",
    ]
    assert [name for name in CHECKS if name in order] == order


# -- status ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", ["", "rows", "users"])
@pytest.mark.parametrize("lazily", [False, True])
def test_a_check_that_cannot_run_is_an_error_and_never_a_pass(
    one_check: Any, blocks: str, lazily: bool
) -> None:
    def fails(tables: Tables, limits: Limits) -> pl.LazyFrame:
        if not lazily:
            raise ValueError("no words")
        return tables.interactions.select("no such column")  # type: ignore[union-attr]

    one_check(fails, blocks=blocks, needs=("interactions",))
    validation = validate(tables_of(interactions()))
    assert (validation.verdict, validation["made_up"].status) == ("error", "error")
    assert ("no such column" if lazily else "ValueError: no words") in validation["made_up"].reason


@pytest.mark.parametrize("blocks", ["", "rows", "users"])
def test_a_fault_of_the_program_is_no_verdict_on_the_data(one_check: Any, blocks: str) -> None:
    def fails(tables: Tables, limits: Limits) -> pl.LazyFrame:
        raise ZeroDivisionError

    one_check(fails, blocks=blocks, needs=("interactions",))
    with pytest.raises(ZeroDivisionError):
        validate(tables_of(interactions()))


def test_a_manifest_that_does_not_say_how_labels_are_made_is_an_error() -> None:
    for clean in ({}, {"label": "binary"}):
        tables = tables_of(interactions(), manifest={**MANIFEST, "recipe": {"clean": clean}})
        found = validate(tables, only=["labels_match_ratings"])["labels_match_ratings"]
        assert (found.status, "recipe.clean" in found.reason) == ("error", True)


def test_a_denominator_that_cannot_be_counted_is_an_error(one_check: Any) -> None:
    one_check(lambda tables, limits: pl.LazyFrame({"x": []}), of="no such thing")
    assert validate(tables_of(interactions()))["made_up"].status == "error"


def test_a_check_whose_table_or_column_is_not_there_is_skipped_with_its_reason() -> None:
    validation = validate(Tables.of_frames(interactions=interactions().drop("rating", "client_id")))
    assert validation["ratings_are_finite"].status == "skipped"
    assert validation["ratings_are_finite"].reason == "interactions have no column rating"
    assert validation["items_exist"].reason == "no items table"
    assert validation["labels_match_ratings"].reason == "interactions have no column rating"
    assert validation["files_are_known"].reason == "there is no folder"
    assert validation["pairs_are_unique"].status == "pass"
    assert validation.verdict == "pass"


def test_nothing_that_could_be_looked_at_is_no_pass() -> None:
    validation = validate(Tables.of_frames(items=items()), only=["pairs_are_unique"])
    assert (validation.counts["skipped"], validation.verdict) == (1, "error")


@pytest.mark.parametrize("fault", ["wrong_dtype", "missing_column"])
def test_where_a_schema_fails_the_other_checks_of_that_table_are_skipped(
    fault: str, whole: Path, tmp_path: Path
) -> None:
    planted = plant(whole, tmp_path / "damaged", fault)
    validation = validate(Dataset.unchecked(tmp_path / "damaged"))
    schema = validation["schema_matches"]
    assert (schema.status, schema.count, schema.unit) == ("fail", 1, "columns")
    assert schema.examples[0]["column"] == planted["first"][0]
    assert schema.examples[0]["file"] == "part-00000.parquet"
    for check in CHECKS.values():
        if check.group in ("interactions", "clients"):
            result = validation[check.name]
            assert result.status == "skipped", check.name
            assert result.reason == "the schema of interactions does not match"
    assert validation["numbers_are_finite"].status == "pass"


@pytest.mark.parametrize(
    ("table", "column", "dtype"),
    [
        ("items", "item_id", pl.Int64),
        ("items", "categories", pl.List(pl.Int32)),
        ("items", "title", pl.Int8),
        ("users", "behavior", pl.Array(pl.Float64, 2)),
        ("users", "client_id", pl.UInt32),
        ("clients/index", "label_counts", pl.List(pl.Int32)),
        ("clients/index", "divergence", pl.Float64),
        ("clients/index", "offset", None),
        ("items", "source_id", None),
    ],
)
def test_every_table_of_a_dataset_has_the_columns_of_its_format(
    table: str, column: str, dtype: Any, tmp_path: Path
) -> None:
    path = write_dataset(tmp_path / "x", interactions()) / f"{table}.parquet"
    frame = pl.read_parquet(path)
    values = pl.lit(None, dtype)
    frame = frame.drop(column) if dtype is None else frame.with_columns(values.alias(column))
    frame.write_parquet(path)
    found = validate(Dataset.unchecked(tmp_path / "x"), only=["schema_matches"])["schema_matches"]
    (example,) = found.examples
    name = table.rpartition("/")[2]
    assert (found.count, example["table"], example["column"]) == (1, name, column)
    assert example["found"] == ("no such column" if dtype is None else str(frame.schema[column]))


@pytest.mark.parametrize(
    ("column", "dtype"),
    [("rating", pl.String), ("timestamp", pl.String), ("user_id", pl.Float64), ("split", pl.Int8),
     ("label", pl.Float32), ("client_id", pl.Float32)],
)  # fmt: skip
def test_foreign_columns_must_be_of_a_kind_and_of_no_exact_type(column: str, dtype: Any) -> None:
    wrong = interactions().with_columns(pl.col(column).cast(pl.String).cast(dtype, strict=False))
    assert validate(Tables.of_frames(interactions=wrong), only=["schema_matches"]).verdict == "fail"
    wide = interactions().cast(
        {
            "user_id": pl.Int64,
            "item_id": pl.String,
            "rating": pl.Float64,
            "label": pl.UInt16,
            "split": pl.String,
        }
    )
    assert validate(Tables.of_frames(interactions=wide), only=["schema_matches"]).verdict == "pass"


def test_foreign_times_and_truths_are_read_as_seconds_and_labels(tmp_path: Path) -> None:
    late = changed(interactions(), [3], timestamp=2**40)
    other = late.with_columns(
        pl.from_epoch("timestamp", "s").dt.cast_time_unit("ms"), pl.col("label").cast(pl.Boolean)
    )
    other.write_parquet(tmp_path / "rows.parquet", row_group_size=9)
    expected = validate(Tables.of_frames(interactions=late))
    for tables in (Tables.of_frames(interactions=other), Tables.of_file(tmp_path / "rows.parquet")):
        found = validate(
            tables, {}, only=["timestamps_are_plausible", "classes_are_balanced_per_client"]
        )
        assert [(r.status, r.count) for r in found.results] == [
            (expected[r.name].status, expected[r.name].count) for r in found.results
        ]
        assert found["timestamps_are_plausible"].examples[0]["timestamp"] == 2**40
    own = validate(tables_of(other), only=["schema_matches"])["schema_matches"]
    assert {example["column"] for example in own.examples} == {"timestamp", "label"}


def test_a_table_without_a_row_is_no_pass(tmp_path: Path) -> None:
    empty = interactions().clear()
    empty.write_parquet(tmp_path / "rows.parquet")
    for tables in (Tables.of_frames(interactions=empty), Tables.of_file(tmp_path / "rows.parquet")):
        validation = validate(tables)
        assert validation.verdict == "fail"
        assert validation["schema_matches"].examples[0]["found"] == "no row"


# -- limits ----------------------------------------------------------------------------------------


def test_a_limit_has_a_name_and_a_wrong_one_is_told_the_nearest() -> None:
    assert limits_from({"max_class_share": 1, "min_client_rows": 7}).min_client_rows == 7
    with pytest.raises(RecipeError, match="did you mean 'max_class_share'"):
        limits_from({"max_clas_share": 0.5})
    with pytest.raises(RecipeError, match="did you mean 'pairs_are_unique'"):
        validate(tables_of(interactions()), only=["pairs_are_uniqe"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_class_share", 1.5), ("max_class_share", -0.1), ("min_client_rows", 2.5), ("min_client_rows", -1),
     ("max_class_share", "much"), ("max_class_share", NAN), ("max_rating", INF), ("min_client_rows", True)],
)  # fmt: skip
def test_a_limit_of_a_wrong_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=name):
        limits_from({name: value})


def test_a_statement_about_the_world_warns_until_its_limit_is_set() -> None:
    one_class = interactions().with_columns(
        label=pl.lit(1, pl.Int8), rating=pl.lit(5.0, pl.Float32)
    )
    tables = Tables.of_frames(interactions=one_class)
    by_default = validate(tables)
    assert by_default["classes_are_balanced"].status == by_default.verdict == "warn"
    assert validate(tables, {"min_class_share": 0.01})["classes_are_balanced"].status == "fail"
    assert validate(tables, {"min_class_share": 0.01})["label_drift_is_bounded"].severity == "warn"
    assert validate(tables, Limits(max_class_share=0.9))["classes_are_balanced"].status == "fail"
    loose = validate(tables, {"max_class_share": 1.0, "min_class_share": 0.0})[
        "classes_are_balanced"
    ]
    assert (loose.status, loose.severity) == ("pass", "fail")


def test_the_recipes_limits_are_gates_and_those_of_the_call_lie_over_them() -> None:
    recipe = {
        **MANIFEST["recipe"],
        "validate": {"limits": {"min_client_rows": 33, "min_user_history": 9}},
    }
    tables = tables_of(interactions(), manifest={**MANIFEST, "recipe": recipe})
    found = validate(tables)
    assert (found["clients_have_enough_rows"].status, found["clients_have_enough_rows"].count) == (
        "fail",
        5,
    )
    assert found["users_have_enough_history"].limits == {"min_user_history": 9}
    found = validate(tables, {"min_client_rows": 5})
    assert found["clients_have_enough_rows"].status == "pass"
    assert found["users_have_enough_history"].status == "fail"


# -- the result ------------------------------------------------------------------------------------


def result(**about: Any) -> Result:
    given = {"name": "x", "group": "g", "status": "pass", "severity": "fail", "count": 0, "unit": "rows",
             "denominator": 9, "limits": {}, "means": "M.", "todo": "T."}  # fmt: skip
    return Result(**given | about)


def validation_of(*statuses: str) -> Validation:
    results = tuple(result(name=f"c{k}", status=status) for k, status in enumerate(statuses))
    return Validation(kind="tables", subject="s", id=None, results=results)


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (["pass", "skipped"], "pass"),
        (["pass", "warn"], "warn"),
        (["warn", "fail", "pass"], "fail"),
        (["fail", "error", "warn"], "error"),
        (["skipped"], "error"),
        ([], "error"),
    ],
)
def test_the_verdict_is_the_worst_status(statuses: list[str], verdict: str) -> None:
    validation = validation_of(*statuses)
    assert validation.verdict == verdict
    assert validation.counts == {status: statuses.count(status) for status in STATUSES}


def test_the_result_is_valid_json_whatever_the_values() -> None:
    rows = interactions()
    for k, value in enumerate((NAN, INF, -INF)):
        rows = changed(rows, [k], rating=value)
    found = validate(tables_of(rows), only=["ratings_are_finite"]).to_dict()
    text = json.dumps(found, allow_nan=False)
    assert [e["rating"] for e in json.loads(text)["checks"][0]["examples"]] == [
        "NaN",
        "Infinity",
        "-Infinity",
    ]
    assert found.keys() == {
        "format",
        "files",
        "verdict",
        "subject",
        "strict",
        "counts",
        "limits",
        "seconds",
        "checks",
    }
    assert found["checks"][0].keys() == {
        "name", "group", "status", "severity", "count", "unit", "denominator", "limits", "means", "todo",
        "examples", "seconds", "reason",
    }  # fmt: skip
    assert found["format"] == 1 and found["subject"]["name"] == "tables"


def test_values_become_plain() -> None:
    import datetime as dt

    value = {1: (math.nan, [dt.date(2020, 1, 2)]), "x": Path("y"), "b": True, "n": None}
    assert plain(value) == {"1": ["NaN", ["2020-01-02"]], "x": "y", "b": True, "n": None}


def test_a_result_has_three_examples_from_whatever_blocks_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fedprep.checks.rows.BLOCK_ROWS", 11)
    rows = changed(interactions(), [0, 60, 61, 62, 150], rating=NAN)
    found = validate(Tables.of_frames(interactions=rows), only=["ratings_are_finite"])[
        "ratings_are_finite"
    ]
    assert (found.count, len(found.examples)) == (5, 3)
    assert all(math.isnan(example["rating"]) for example in found.examples)


def test_the_subject_is_named_with_its_id(whole: Path) -> None:
    dataset = Dataset.unchecked(whole)
    found = validate(dataset, strict=True).to_dict()
    assert found["subject"] == {"kind": "dataset", "name": "tiny", "id": dataset.id}
    assert found["strict"] is True
    foreign = validate(Tables.of_folder(whole / "clients")).to_dict()
    assert foreign["subject"] == {"kind": "tables", "name": "clients", "id": None}


def test_progress_tells_rows_and_checks(whole: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    validate(Dataset.unchecked(whole), progress=lambda *about: told.append(about))
    assert ("rows checked", 160, 160) in told
    assert any(task.startswith("check ") for task, *_ in told)


# -- files -----------------------------------------------------------------------------------------


def test_validation_writes_nothing(whole: Path) -> None:
    def state() -> dict[str, tuple[str, int]]:
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in sorted(whole.rglob("*"))
            if path.is_file()
        }

    before = state()
    validate(Dataset.unchecked(whole))
    assert state() == before


@pytest.mark.parametrize("fault", ["corrupt_shard", "missing_file", "newer_format"])
def test_a_dataset_that_cannot_be_opened_is_a_clear_error(
    fault: str, whole: Path, tmp_path: Path
) -> None:
    plant(whole, tmp_path / "damaged", fault)
    with pytest.raises(DatasetError) as error:
        validate(Dataset.unchecked(tmp_path / "damaged"))
    words = {"corrupt_shard": "part-00004", "missing_file": "missing", "newer_format": "format 2"}
    assert words[fault] in str(error.value)


def test_pages_that_cannot_be_read_are_an_error_of_every_check_of_the_rows(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "x", interactions()) / "clients" / "part-00002.parquet"
    pl.read_parquet(path).write_parquet(path, compression="zstd", statistics=False)
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196  # pages; the footer stays
    path.write_bytes(data)
    validation = validate(
        Dataset.unchecked(tmp_path / "x"), only=["ratings_are_finite", "sizes_are_bounded"]
    )
    assert [r.status for r in validation.results] == ["error", "error"]
    assert validation.verdict == "error" and validation.results[0].reason


def test_foreign_files_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    frames = {
        "a": interactions().head(80),
        "deep/b": interactions().tail(80),
        "c": items(),
        "d": users(),
    }
    for name, frame in frames.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
    vectors = pl.DataFrame({"item_id": [0], "embedding": [[1.0, 0.0]]})
    vectors.write_parquet(tmp_path / "text.parquet")
    tables = Tables.of_folder(tmp_path)
    assert {name: len(paths) for name, paths in tables.files.items()} == {
        "interactions": 2, "items": 1, "users": 1, "embeddings/text": 1,
    }  # fmt: skip
    assert tables.rows.n_rows == 160
    assert validate(tables)["users_exist"].status == "pass"
    assert validate(tables)["files_are_known"].status == "pass"


def test_foreign_files_that_are_no_table_are_told(tmp_path: Path) -> None:
    interactions().write_parquet(tmp_path / "rows.parquet")
    pl.DataFrame({"userId": [1], "movieId": [2]}).write_parquet(tmp_path / "other.parquet")
    found = validate(Tables.of_folder(tmp_path))["files_are_known"]
    assert (found.status, found.count, found.denominator) == ("warn", 1, 2)
    assert found.examples == ({"file": "other.parquet", "columns": "userId, movieId"},)


def test_a_place_without_a_table_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        Tables.of_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no file"):
        Tables.of_file(tmp_path / "nowhere.parquet")
    with pytest.raises(DatasetError, match="holds no table that can be checked"):
        Tables.of_folder(tmp_path)
    (tmp_path / "x.parquet").write_text("this is no Parquet")
    with pytest.raises(DatasetError, match=r"x\.parquet cannot be read as Parquet"):
        Tables.of_folder(tmp_path)


def test_a_folder_with_a_manifest_is_a_dataset(whole: Path) -> None:
    assert Tables.of_folder(whole).manifest is not None
    assert validate(Tables.of_folder(whole)).kind == "dataset"


# -- NaN, Inf and null -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("column", ["behavior", "age"])
def test_a_number_of_a_user_that_is_none_fails_and_names_its_row(value: float, column: str) -> None:
    behavior = np.ones((N_USERS, 2), dtype=np.float32)
    age = np.full(N_USERS, 30.0)
    (behavior[:, 1] if column == "behavior" else age)[13] = value
    table = users().with_columns(
        behavior=pl.Series(behavior, dtype=pl.Array(pl.Float32, 2)), age=pl.Series(age)
    )
    found = validate(tables_of(interactions(), users=table), only=["numbers_are_finite"])[
        "numbers_are_finite"
    ]
    assert (found.status, found.count, found.denominator) == ("fail", 1, N_USERS + 16)
    assert found.examples == ({"table": "users", "id": "13", "columns": column},)


def test_a_number_that_is_not_known_is_null_and_no_fault() -> None:
    table = items().with_columns(price=pl.lit(None, pl.Float64), year=pl.lit(1999))
    found = validate(tables_of(interactions(), items=table), only=["numbers_are_finite"])[
        "numbers_are_finite"
    ]
    assert (found.status, found.count) == ("pass", 0)
    no_fraction = Tables.of_frames(users=users().drop("behavior"), items=items())
    assert (
        validate(no_fraction, only=["numbers_are_finite"])["numbers_are_finite"].status == "skipped"
    )


@pytest.mark.parametrize("value", [NAN, INF, None])
def test_a_rating_that_is_nan_infinite_or_null_shuts_the_gate_and_names_its_row(
    value: float | None, tmp_path: Path
) -> None:
    path = write_dataset(tmp_path / "x", interactions()) / "clients" / "part-00001.parquet"
    rows = changed(pl.read_parquet(path), [5], rating=value)
    rows.write_parquet(path)
    validation = validate(Dataset.unchecked(tmp_path / "x"))
    found = validation["no_missing_values" if value is None else "ratings_are_finite"]
    assert (found.status, found.count) == ("fail", 1)
    assert validation.verdict == "fail"
    row = rows.row(5, named=True)
    assert {k: found.examples[0][k] for k in ("user_id", "item_id")} == {
        k: row[k] for k in ("user_id", "item_id")
    }


@pytest.mark.parametrize(
    ("recipe", "check", "status"),
    [
        ({"split": {"method": "leave_last_out"}}, "train_precedes_test_globally", "note"),
        ({"split": {"method": "global_time"}}, "train_precedes_test_globally", "warn"),
        ({}, "train_precedes_test_globally", "warn"),
        ({"partition": {"method": "by_user"}}, "classes_are_balanced_per_client", "note"),
        ({"partition": {"method": "dirichlet"}}, "classes_are_balanced_per_client", "warn"),
    ],
)
def test_what_the_recipe_asks_for_is_noted_and_never_the_verdict(
    recipe: dict[str, Any], check: str, status: str
) -> None:
    day = 24 * 3600
    early = pl.int_range(pl.len()) < 8  # a user long before all others, who likes everything
    rows = interactions().with_columns(
        timestamp=pl.when(early).then(pl.col("timestamp") - 900 * day).otherwise("timestamp"),
        label=pl.lit(1, pl.Int8),
    )
    tables = tables_of(rows, manifest={"recipe": recipe})
    found = validate(tables)
    assert (found[check].status, found[check].count > 0) == (status, True)
    assert found.verdict != "note"
    (limit, *_) = found[check].limits
    assert validate(tables, {limit: 0.0})[check].status == "fail"  # a limit that is set is a gate
