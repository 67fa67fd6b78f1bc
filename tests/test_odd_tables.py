"""Whatever a user's table holds: a Dataset in which every row is accounted for, or one clear error."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import hypothesis.strategies as st
import polars as pl
import pytest
from built import own_cache
from hypothesis import HealthCheck, given, settings

from fedprep.build import Hands, build_dataset
from fedprep.checks import validate
from fedprep.cli import main
from fedprep.dataset import Dataset
from fedprep.errors import FedprepError
from fedprep.recipe import parse_recipe
from fedprep.sources.tidy import BLANKS

Row = tuple[str, str, str, str]

IDS = (
    "0", "7", "007", "-1", "7.0", "1e3", "é", "用户", "😀 x", "a,b", 'say "hi"', "two\nlines", " pad ", "'",
    "\t", "NULL", "nan", "#", "\ufeffx", "\u202eabc", "\u2028", "true", str(2**63), "x" * 300, "",
)  # fmt: skip
FAIR = ("5", "4", "3", "1", "4.5")
UNFAIR = (
    "0",
    "-3",
    "1e30",
    "-1e30",
    "1e39",
    "1e-40",
    "nan",
    "inf",
    "",
    " 4 ",
    "4,5",
    "five",
    "1e400",
)
TIMES = {
    "seconds": ("1300000000", "1300000001", "1312345678"),
    "milliseconds": ("1300000000000", "1300000000999", "1312345678123"),
    "ISO": ("2011-03-13", "2011-03-13 07:06:40", "2011-03-13T07:06:40+02:00", "2012-02-29T00:00:00.5Z"),
    "before 1970": ("1912-04-15", "1969-12-31 23:59:59", "0001-01-01"),
    "negative": ("-1", "-999999999"),
    "one moment": ("1300000000",),
    "out of range": ("9" * 30, str(-(2**63)), "1e18", "9999-12-31", "10000-01-01"),
    "mixed": ("1300000000", "1300000000000", "2011-03-13", "yesterday", "2011-02-30", "", "nan"),
}  # fmt: skip
OF_THE_DATA = {"timestamps_are_plausible"}
"""Checks that may fail: what they find stood in the table."""


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Rows of user, item, rating and time as text: few ids and moments, so that rows repeat."""
    n_ids = st.integers(1, 6)
    odd = st.lists(st.sampled_from(IDS), min_size=1, max_size=6, unique=True)
    users, items = (draw(odd | n_ids.map(lambda n: [str(i) for i in range(n)])) for _ in range(2))
    ratings = draw(st.sampled_from([FAIR, FAIR, FAIR + UNFAIR, UNFAIR]))
    times = TIMES[draw(st.sampled_from(sorted(TIMES)))]
    row = st.tuples(*(st.sampled_from(values) for values in (users, items, ratings, times)))
    return draw(st.lists(row, min_size=1, max_size=40))


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    columns = {"user": "u", "item": "i", "rating": "r", "timestamp": "t"}
    for name in draw(st.sampled_from([(), (), (), ("rating",), ("timestamp",)])):
        del columns[name]
    split: dict[str, Any] = {
        "method": draw(st.sampled_from(["leave_last_out", "global_time", "user_ratio", "ratio"]))
    }
    if split["method"] == "leave_last_out":
        split |= {"n_valid": draw(st.integers(0, 1)), "n_test": draw(st.integers(0, 2))}
    return {
        "name": "odd",
        "source": {"name": "table", "columns": columns},
        "clean": {
            "label": draw(st.sampled_from(["binary", "classes", "implicit"])),
            "duplicates": draw(st.sampled_from(["last", "first", "mean"])),
            "k_core": draw(st.sampled_from([0, 0, 0, 2])),
        },
        "split": split | {"cold_items": draw(st.sampled_from(["keep", "drop"]))},
        "embed": {"text": {"encoder": "none"}, "behavior": {"dim": draw(st.sampled_from([0, 4]))}},
        "partition": draw(
            st.sampled_from(
                [
                    {"method": "by_user"},
                    {"method": "iid", "n_clients": 2},
                    {"method": "dirichlet", "n_clients": 2, "unit": "interaction"},
                ]
            )
        ),
    }


def written(rows: Sequence[Row], form: str, folder: Path) -> Path:
    """Writes the rows as a file of that form: quoted CSV, one JSON object a line, or Parquet of text."""
    path = folder / f"rows.{form}"
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerows([("u", "i", "r", "t"), *rows])
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    elif form == "jsonl":
        lines = [json.dumps(dict(zip("uirt", row, strict=True))) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
    else:
        pl.DataFrame(rows, schema=list("uirt"), orient="row").write_parquet(path)
    return path


def accounted(dataset: Dataset, rows: Sequence[Row]) -> None:
    """Every row read is dropped by one step or stands in the Dataset, under ids that the table has."""
    left = len(rows)
    for step in dataset.manifest["steps"]:
        if step["unit"] == "rows":
            assert step["rows_in"] == left, step
            assert step["rows_in"] - step["rows_out"] == step["dropped"], step
            left = step["rows_out"]
    kept = dataset.interactions().collect()
    assert kept.height == left == dataset.manifest["facts"]["n_interactions"] > 0
    for table, column in ((dataset.users(), 0), (dataset.items(), 1)):
        ids = table.collect()["source_id"].to_list()
        assert len(set(ids)) == len(ids)
        # Blanks at the ends are cut, letters composed, whole numbers spelled in one way.
        tidy = {normalize("NFC", row[column].strip(BLANKS)) for row in rows}
        assert set(ids) <= tidy | {text.removesuffix(".0") for text in tidy}


def build_or_refuse(rows: Sequence[Row], tree: dict[str, Any], form: str) -> str:
    """Builds, and returns what was refused in one sentence; "" where a Dataset came of it."""
    with tempfile.TemporaryDirectory() as name, own_cache(Path(name)):
        folder = Path(name)
        raw = written(rows, form, folder)
        recipe = parse_recipe(tree | {"source": tree["source"] | {"file": raw.name}})
        try:
            dataset = build_dataset(recipe, folder / "out", hands=Hands(given=raw))
        except FedprepError as error:
            assert not (folder / "out").exists()
            assert error.what.strip()
            return error.what
        accounted(dataset, rows)
        failed = {
            check["name"]
            for check in validate(dataset).to_dict()["checks"]
            if check["status"] == "fail"
        }
        assert not failed - OF_THE_DATA
        return ""


SLOW = [HealthCheck.too_slow]


@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
@given(rows=tables(), tree=recipes(), form=st.sampled_from(["csv", "jsonl", "parquet"]))
def test_any_table_becomes_a_valid_dataset_or_one_error(
    rows: list[Row], tree: dict[str, Any], form: str
) -> None:
    build_or_refuse(rows, tree, form)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(rows=tables(), tree=recipes(), form=st.sampled_from(["csv", "jsonl", "parquet"]))
def test_any_table_becomes_a_valid_dataset_or_one_error_however_odd(
    rows: list[Row], tree: dict[str, Any], form: str
) -> None:
    build_or_refuse(rows, tree, form)


def test_texts_asked_of_items_that_have_none_end_the_command_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = written([("1", "2", "5", "1300000000")], "csv", tmp_path)
    recipe = tmp_path / "odd.toml"
    recipe.write_text(
        '[source]\nname = "table"\nfile = "rows.csv"\n'
        'columns = {user = "u", item = "i", rating = "r", timestamp = "t"}\n'
        '[embed.text]\nencoder = "hashing"\n'
    )
    with pytest.raises(SystemExit) as exit_:
        main(["build", str(recipe), "--from", str(raw), "--out", str(tmp_path / "out")])
    assert exit_.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "none of 1 items has a text to embed" in told
    assert 'embed.text.encoder = "none"' in told
    assert not (tmp_path / "out").exists()
