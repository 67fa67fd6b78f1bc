"""Two Datasets side by side: what differs is listed, what does not is not, and the numbers are right."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fedprep.build import build_dataset, repartition
from fedprep.cli import main
from fedprep.dataset import Dataset
from fedprep.diff import FAIL_ON, diff, failures
from fedprep.diff.drift import chance_index, compared
from fedprep.errors import DatasetError
from fedprep.manifest import write_manifest
from fedprep.recipe import Partition, parse_recipe
from fedprep.show import show_diff

DAY = 86_400
MARCH_2003 = 1_046_476_800

# user, item, rating, days after 2003-03-01: hand-sized, so that every number below can be counted.
A = [("u1", "i1", 5, 0), ("u1", "i2", 4, 1), ("u1", "i3", 1, 2), ("u2", "i1", 3, 3),
     ("u2", "i2", 5, 4), ("u2", "i3", 2, 5), ("u3", "i1", 4, 6), ("u3", "i4", 4, 40)]  # fmt: skip
B = [("u1", "i1", 5, 0), ("u1", "i2", 5, 1), ("u1", "i3", 5, 2), ("u2", "i1", 5, 3),
     ("u2", "i2", 5, 4), ("u4", "i1", 1, 70), ("u5", "i5", 2, 71)]  # fmt: skip


def build(folder: Path, name: str, rows: Sequence[tuple[Any, ...]], **tables: Any) -> Dataset:
    """A Dataset of an own table, a client per user."""
    frame = pl.DataFrame(rows, schema=["user", "item", "rating", "day"], orient="row")
    frame = frame.select("user", "item", "rating", time=MARCH_2003 + DAY * pl.col("day"))
    raw = folder / f"{name}.csv"
    frame.write_csv(raw)
    columns = {"user": "user", "item": "item", "rating": "rating", "timestamp": "time"}
    source = {"name": "table", "file": str(raw), "columns": columns, "time_unit": "s"}
    tree: dict[str, Any] = {
        "name": "own",
        "source": source,
        "embed": {"text": {"encoder": "none"}, "behavior": {"dim": 4}},
        "split": {"method": "ratio"},
    }
    return build_dataset(parse_recipe({**tree, **tables}), folder / name)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("diff")
    return build(folder, "a", A), build(folder, "b", B)


def drift_of(found: dict[str, Any], what: str) -> dict[str, Any]:
    return next(one for one in found["drift"] if one["what"] == what)


def by_hand(a: Counter[str], b: Counter[str]) -> tuple[float, float]:
    """Jensen–Shannon in bits and the stability index, bin by bin."""
    n_a, n_b = a.total(), b.total()
    js = psi = 0.0
    for name in a.keys() | b.keys():
        p, q = a[name] / n_a, b[name] / n_b
        m = (p + q) / 2
        js += sum(x * math.log2(x / m) / 2 for x in (p, q) if x)
        p, q = (a[name] or 0.5) / n_a, (b[name] or 0.5) / n_b
        psi += (p - q) * math.log(p / q)
    return js, psi


def test_a_dataset_does_not_differ_from_itself(pair: tuple[Dataset, Dataset]) -> None:
    found = diff(pair[0], pair[0])
    assert not found["differs"]
    assert all(not found[key] for key in ("recipe", "raw_files", "split", "encoders", "partition"))
    assert all(one["js"] == one["psi"] == 0 and one["widest"] is None for one in found["drift"]
               if one["js"] is not None)  # fmt: skip


def test_a_second_build_elsewhere_does_not_differ(tmp_path: Path) -> None:
    first = build(tmp_path, "a", A)
    second = build_dataset(parse_recipe(first.manifest["recipe"]), tmp_path / "again")
    assert first.manifest["created"] != "" and first.path != second.path
    assert not diff(first, second)["differs"]


# --- a gate -------------------------------------------------------------------------------------------


def drawn(seed: int, *, fives: float = 0.2, n_users: int = 60) -> list[tuple[Any, ...]]:
    """Rows of twelve of 80 items a user, ratings 1 to 5, a share of them 5."""
    rng = np.random.default_rng(seed)
    rest = [(1 - fives) / 4] * 4
    return [
        (f"u{u}", f"i{i}", int(rng.choice(5, p=[*rest, fives]) + 1), k)
        for u in range(n_users)
        for k, i in enumerate(rng.choice(80, 12, replace=False))
    ]


def test_two_samples_of_one_world_do_not_fail_by_chance(tmp_path: Path) -> None:
    made = [build(tmp_path, f"s{seed}", drawn(seed)) for seed in range(4)]
    for a, b in itertools.combinations(made, 2):
        assert failures(diff(a, b), ["drift"]) == []


def test_the_smallest_drift_that_a_gate_promises_to_find_fails_it(tmp_path: Path) -> None:
    """Fives of 20 % to 36 %: a stability index of 0.13 in expectation, of ratings alone."""
    for seed in range(2):
        a, b = (
            build(tmp_path, f"{name}{seed}", drawn(seed + place, fives=fives, n_users=400))
            for name, place, fives in (("a", 0, 0.2), ("b", 100, 0.36))
        )
        found = diff(a, b)
        assert [text.partition(" ")[0] for text in failures(found, ["drift"])] == ["ratings"]
        assert failures(found, ["drift"], max_psi=0.3) == []


def test_what_only_one_side_has_is_drift_and_time_is_none(pair: tuple[Dataset, Dataset]) -> None:
    found = diff(*pair)
    found["drift"] = [
        {**one, "psi": None, "why": "b has none"}
        if one["what"] == "ratings"
        else {**one, "psi": 9.0}
        for one in found["drift"]
        if one["what"] in ("ratings", "time")
    ]
    assert [text.partition(" ")[0] for text in failures(found, ["drift"])] == ["ratings"]


@pytest.mark.parametrize(
    ("changed", "fails_on"),
    [
        ({"seed": 5}, {"recipe", "any"}),
        ({"partition": {"method": "iid", "n_clients": 2}}, {"recipe", "facts", "any"}),
    ],
)
def test_each_gate_shuts_for_its_own_difference(
    tmp_path: Path, changed: Any, fails_on: set[str]
) -> None:
    a, b = build(tmp_path, "a", A), build(tmp_path, "b", A, **changed)
    found = diff(a, b)
    assert {gate for gate in FAIL_ON if failures(found, [gate])} == fails_on
    same = diff(a, a)
    assert failures(same, FAIL_ON) == [] and failures(found, []) == []


@pytest.mark.parametrize(
    ("gate", "code"), [((), 0), (("--fail-on", "recipe"), 1), (("--fail-on", "drift"), 0)]
)
def test_the_command_exits_by_its_gates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gate: tuple[str, ...], code: int
) -> None:
    a, b = build(tmp_path, "a", A), build(tmp_path, "b", A, seed=5)
    with pytest.raises(SystemExit) as exit_:
        main(["diff", str(a.path), str(b.path), "--json", *gate])
    assert int(exit_.value.code or 0) == code
    out = capsys.readouterr()
    assert len(json.loads(out.out)["failures"]) == code == out.err.count("failed:")


def test_the_index_of_chance_is_the_one_that_samples_stay_below() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(20, 5.0))
    a, b = (rng.multinomial(n, shares, 4_000) for n in (2_000, 3_000))
    p, q = a / 2_000, b / 3_000
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.nansum((p - q) * np.log(p / q), axis=1)
    assert (index > chance_index(20, 2_000, 3_000)).mean() == pytest.approx(0.001, abs=0.0015)


def test_it_is_json_without_nan(pair: tuple[Dataset, Dataset]) -> None:
    found = diff(*pair)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("what", "bins_of_a", "bins_of_b"),
    [
        ("ratings", [str(row[2]) for row in A], [str(row[2]) for row in B]),
        ("labels", [str(row[2] >= 4) for row in A], [str(row[2] >= 4) for row in B]),
        ("rows per client", ["2-3", "2-3", "2-3"], ["2-3", "2-3", "1", "1"]),
        ("time", ["March"] * 7 + ["April"], ["March"] * 5 + ["May"] * 2),
        (
            "item popularity",
            ["i1"] * 3 + ["i2"] * 2 + ["i3"] * 2,
            ["i1"] * 3 + ["i2"] * 2 + ["i3"],
        ),
    ],
)
def test_drift_is_what_can_be_counted_by_hand(
    pair: tuple[Dataset, Dataset], what: str, bins_of_a: list[str], bins_of_b: list[str]
) -> None:
    one = drift_of(diff(*pair), what)
    js, psi = by_hand(Counter(bins_of_a), Counter(bins_of_b))
    assert one["js"] == pytest.approx(js, abs=1e-6) and js > 0
    assert one["psi"] == pytest.approx(psi, abs=1e-6)
    assert one["bins"] == len({*bins_of_a, *bins_of_b})


def test_the_bin_that_lies_furthest_apart_is_named(pair: tuple[Dataset, Dataset]) -> None:
    found = diff(*pair)
    assert drift_of(found, "ratings")["widest"] == {"bin": "5.0", "a": 0.25, "b": 0.714286}
    assert drift_of(found, "time")["widest"]["bin"] == "2003-05"
    assert drift_of(found, "rows per client")["widest"]["bin"] == "1 to 1"


def test_rows_without_categories_have_no_drift_of_categories(
    pair: tuple[Dataset, Dataset],
) -> None:
    one = drift_of(diff(*pair), "categories")
    assert one["js"] is None and one["why"] == "neither has any"


def test_new_and_gone_items_and_users_are_counted_and_named(pair: tuple[Dataset, Dataset]) -> None:
    found = diff(*pair)
    assert found["items"] == {
        "a": 4, "b": 4, "shared": 3,
        "new": {"count": 1, "examples": ["i5"]},
        "gone": {"count": 1, "examples": ["i4"]},
    }  # fmt: skip
    assert found["users"]["new"] == {"count": 2, "examples": ["u4", "u5"]}
    assert found["users"]["gone"] == {"count": 1, "examples": ["u3"]}


def test_facts_stand_side_by_side(pair: tuple[Dataset, Dataset]) -> None:
    facts = {fact["key"]: fact for fact in diff(*pair)["facts"]}
    assert facts["n_interactions"] == {"key": "n_interactions", "a": 8, "b": 7, "differs": True}
    assert not facts["n_items"]["differs"]
    assert facts["last_timestamp"]["b"] == MARCH_2003 + 71 * DAY


def test_other_clients_differ_in_the_partition_and_in_nothing_of_the_rows(
    pair: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    other = repartition(pair[0], tmp_path / "other", Partition(method="iid", n_clients=2))
    found = diff(pair[0], other)
    assert [one["key"] for one in found["recipe"]] == ["partition.method", "partition.n_clients"]
    assert {"key": "n_clients", "a": 3, "b": 2} in found["partition"]
    drifted = {one["what"] for one in found["drift"] if one["js"]}
    assert drifted == {"rows per client"}
    assert found["items"]["new"]["count"] == found["users"]["gone"]["count"] == 0
    assert "items.parquet" not in found["files"]["changed"]["examples"]


def test_labels_of_another_meaning_are_not_compared(tmp_path: Path) -> None:
    first = build(tmp_path, "a", A)
    second = build(tmp_path, "stricter", A, clean={"threshold": 5.0})
    one = drift_of(diff(first, second), "labels")
    assert one["js"] is None and "does not mean the same" in one["why"]


def test_an_encoder_of_one_side_is_one_line_and_last_digits_of_statistics_are_none(
    pair: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    def with_rms(name: str, rms: float) -> Dataset:
        shutil.copytree(pair[0].path, tmp_path / name)
        kept = {k: v for k, v in pair[0].manifest.items() if k not in ("id", "format")}
        counted = {"dim": 8, "normalise": "l2", "n_present": 0, "n_missing": 0}
        encoders = {"text": {"name": "x", **counted, "statistics": {"after": {"rms": rms}}}}
        write_manifest(tmp_path / name, {**kept, "encoders": encoders})
        return Dataset.open(tmp_path / name)

    one, close, far = with_rms("one", 0.051031), with_rms("close", 0.051032), with_rms("far", 0.06)
    assert diff(pair[0], one)["encoders"] == [
        {"key": "behavior", "a": "train rows of the user", "b": None},
        {"key": "text", "a": None, "b": "x"},
    ]
    assert diff(one, close)["encoders"] == []
    assert [row["key"] for row in diff(one, far)["encoders"]] == ["text.statistics.after.rms"]


def test_broken_ratings_and_times_are_bins_of_their_own(
    pair: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    shutil.copytree(pair[0].path, tmp_path / "dirty")
    shard = tmp_path / "dirty" / "clients" / "part-00000.parquet"
    rows = pl.read_parquet(shard)
    worse = rows.with_columns(
        pl.Series("rating", [math.nan, math.inf, None], dtype=pl.Float32),
        pl.Series("timestamp", [None, MARCH_2003 * 1_000, 2**62], dtype=pl.Int64),
    )
    worse.write_parquet(shard)
    found = diff(pair[0], Dataset.open(tmp_path / "dirty", allow_changed=True))
    assert drift_of(found, "ratings")["bins"] == 5 + 3
    assert drift_of(found, "time")["bins"] == 2 + 2
    assert drift_of(found, "time")["widest"]["bin"] == "2003-03"


def test_half_stars_have_a_bin_each(tmp_path: Path) -> None:
    stars = [("u", f"i{n}", n / 2, n) for n in range(1, 11)]
    one = drift_of(diff(build(tmp_path, "a", stars), build(tmp_path, "b", stars[:5])), "ratings")
    assert one["bins"] == 10
    assert one["widest"]["bin"] == "0.5"


def test_a_manifest_that_lacks_an_entry_is_named(
    pair: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    shutil.copytree(pair[0].path, tmp_path / "poor")
    write_manifest(
        tmp_path / "poor", {k: v for k, v in pair[0].manifest.items() if k not in ("id", "split")}
    )
    with pytest.raises(DatasetError, match="lacks split"):
        diff(pair[0], Dataset.open(tmp_path / "poor"))


histograms = st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 1_000), min_size=1)


@settings(deadline=None, max_examples=60)
@given(histograms, histograms)
def test_both_measures_equal_the_sum_bin_by_bin(a: dict[str, int], b: dict[str, int]) -> None:
    frames = [
        pl.DataFrame({"bin": list(x), "n": list(x.values())}, schema={"bin": pl.String, "n": pl.Int64})
        for x in (a, b)
    ]  # fmt: skip
    found, turned = compared("x", "rows", *frames), compared("x", "rows", *reversed(frames))
    js, psi = by_hand(Counter(a), Counter(b))
    assert found["js"] == pytest.approx(js, abs=2e-6)
    assert found["psi"] == pytest.approx(psi, abs=2e-6)
    assert 0 <= found["js"] <= 1 and found["psi"] >= 0
    assert (found["js"], found["psi"]) == (turned["js"], turned["psi"])


def shown(found: dict[str, Any]) -> str:
    console = Console(width=160, file=None)
    with console.capture() as text:
        console.print(show_diff(found))
    return text.get()


def test_the_sheet_says_what_differs(pair: tuple[Dataset, Dataset]) -> None:
    text = shown(diff(*pair))
    for part in (
        "source.file",
        "interactions",
        "-12.5%",
        "item popularity",
        "1 new: i5",
        "2003-05",
    ):
        assert part in text
    assert "no difference" in shown(diff(pair[0], pair[0]))
