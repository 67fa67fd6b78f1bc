"""Checks of embeddings: faults counted and named, clean vectors, and every count against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedprep.checks import CHECKS, Result, Tables, validate
from fedprep.errors import DatasetError
from fedprep.schema import embedding_schema
from tests.checked import items, result_of

law = settings(max_examples=60, deadline=None)

NAN, INF = float("nan"), float("inf")
DIM = 6
OF_VECTORS = [
    "embeddings_are_finite", "embeddings_have_norm", "embeddings_are_not_constant",
    "embeddings_are_distinct", "near_duplicates", "dimensions_are_alive",
]  # fmt: skip

Vector = Any  # list[float | None] | None


def units(n: int = 16, dim: int = DIM, seed: int = 0) -> list[Vector]:
    """Vectors of length 1 and far apart."""
    values = np.random.default_rng(seed).normal(size=(n, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).tolist()


def table(vectors: list[Vector], dim: int = DIM) -> pl.DataFrame:
    ids = np.arange(len(vectors), dtype=np.int32)
    return pl.DataFrame({"item_id": ids, "embedding": vectors}, schema=embedding_schema(dim))


def changed(vectors: list[Vector], **at: Any) -> list[Vector]:
    """`changed(v, _3=None)` gives the fourth vector another value."""
    return [at.get(f"_{k}", vector) for k, vector in enumerate(vectors)]


def told(normalise: str, vectors: list[Vector], **others: Any) -> dict[str, Any]:
    """A manifest that says of these vectors what is true."""
    values = np.array([v for v in vectors if v is not None])
    norms = np.linalg.norm(values, axis=1)
    after = {
        "n_zero": 0,
        "norm_min": norms.min(),
        "norm_median": float(np.median(norms)),
        "norm_max": norms.max(),
        "rms": np.sqrt(np.mean(values**2)),
        "mean_abs": np.abs(values).mean(),
    }
    n_missing = len(vectors) - len(values)
    encoder = {"normalise": normalise, "n_present": len(values), "n_missing": n_missing}
    return {"encoders": {"text": {**encoder, "statistics": {"after": after}, **others}}}


def of(vectors: list[Vector], normalise: str = "l2", **more: Any) -> Tables:
    manifest = more.pop("manifest", {"encoders": {"text": {"normalise": normalise}}})
    return Tables.of_frames(embeddings={"text": table(vectors)}, manifest=manifest, **more)


def ids(result: Result) -> list[int]:
    return [example["item_id"] for example in result.examples]


# -- finite ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF, -INF, None])
def test_one_value_that_is_no_number_fails_and_names_the_item(value: float | None) -> None:
    vectors = units()
    spoilt = changed(vectors, _7=[*vectors[7][:2], value, *vectors[7][3:]])
    found = result_of("embeddings_are_finite", of(spoilt))
    assert (found.status, found.count, found.denominator) == ("fail", 1, 16)
    assert found.examples[0]["item_id"] == 7
    assert found.examples[0]["dimension"] == 2
    assert found.examples[0]["modality"] == "text"


def test_a_missing_embedding_is_no_fault_of_values() -> None:
    for check in OF_VECTORS:
        found = result_of(check, of(changed(units(), _0=None, _15=None)))
        assert (found.status, found.count) == ("pass", 0), check
        assert check == "dimensions_are_alive" or found.denominator == 14


def test_values_beyond_32_bits_when_squared_are_finite_and_zero_is_zero() -> None:
    vectors = changed(units(), _1=[1e25] + [0.0] * 5, _2=[1e-25] + [0.0] * 5, _3=[0.0] * 6)
    assert result_of("embeddings_are_finite", of(vectors, "none")).count == 0
    found = result_of("embeddings_have_norm", of(vectors, "none"))
    assert ids(found) == [1, 3]
    assert found.examples[0]["norm"] == pytest.approx(1e25, rel=1e-6)
    assert ids(result_of("embeddings_have_norm", of(vectors, "l2"))) == [1, 2, 3]


# -- length ----------------------------------------------------------------------------------------


def test_l2_promises_length_one_within_the_limit() -> None:
    vectors = units()
    longer = [1.002 * x for x in vectors[4]]
    nearly = [1.0005 * x for x in vectors[5]]
    tables = of(changed(vectors, _4=longer, _5=nearly))
    found = result_of("embeddings_have_norm", tables)
    assert (found.status, ids(found)) == ("fail", [4])
    assert found.examples[0]["norm"] == pytest.approx(1.002, rel=1e-5)
    assert result_of("embeddings_have_norm", tables, max_norm_error=0.0001).count == 2
    assert result_of("embeddings_have_norm", tables, max_norm_error=0.01).count == 0


@pytest.mark.parametrize("normalise", ["standardize", "whiten", "none", ""])
def test_others_promise_no_vector_many_times_as_long_as_the_median(normalise: str) -> None:
    vectors = units()
    scaled = [[3.0 * x for x in v] for v in vectors]
    tables = of(
        changed(scaled, _2=[33.0] + [0.0] * 5, _3=[0.0] * 6, _4=[27.0] + [0.0] * 5), normalise
    )
    found = result_of("embeddings_have_norm", tables)
    assert ids(found) == [2, 3]
    assert [example["usual"] for example in found.examples] == pytest.approx([3.0, 3.0], rel=1e-5)
    assert ids(result_of("embeddings_have_norm", tables, max_norm_ratio=8)) == [2, 3, 4]


def test_most_vectors_being_zero_does_not_make_the_others_too_long() -> None:
    vectors = [[0.0] * 6] * 10 + units()[10:]
    assert result_of("embeddings_have_norm", of(vectors, "none")).count == 10


# -- constant, equal, alike, dead ------------------------------------------------------------------


def test_constant_vectors_are_found_but_zeros_and_single_numbers_are_not() -> None:
    c = 6**-0.5
    vectors = changed(units(), _1=[c] * 6, _2=[-c] * 6, _3=[0.0] * 6, _4=[c] * 5 + [c + 1e-4])
    found = result_of("embeddings_are_not_constant", of(vectors))
    assert (found.status, ids(found)) == ("fail", [1, 2])
    assert found.examples[0]["magnitude"] == pytest.approx(c)
    single = table([[1.0], [1.0], [-1.0]], dim=1)
    assert (
        result_of(
            "embeddings_are_not_constant", Tables.of_frames(embeddings={"text": single})
        ).count
        == 0
    )


def test_equal_vectors_are_named_with_the_one_that_they_equal() -> None:
    vectors = units()
    tables = of(changed(vectors, _5=vectors[2], _9=vectors[2], _11=[0.0] * 6, _12=[0.0] * 6))
    found = result_of("embeddings_are_distinct", tables)
    assert (found.status, found.severity, ids(found)) == ("warn", "warn", [2, 5, 9])
    assert [example["equal_to"] for example in found.examples] == [5, 2, 2]
    assert result_of("embeddings_are_distinct", tables, max_duplicate_share=3 / 16).count == 0
    gate = result_of("embeddings_are_distinct", tables, max_duplicate_share=0.1)
    assert (gate.status, gate.count) == ("fail", 3)


def test_vectors_that_differ_in_one_bit_or_sign_are_distinct() -> None:
    one = units()[0]
    assert one is not None
    flipped = [-x for x in one[:2]] + one[2:]
    swapped = [one[1], one[0], *one[2:]]
    next_to = [*one[:5], float(np.nextafter(np.float32(one[5]), np.float32(9)))]
    vectors = changed(units(), _1=flipped, _2=swapped, _3=next_to)
    assert result_of("embeddings_are_distinct", of(vectors)).count == 0


def test_nearly_equal_vectors_are_named_with_the_nearest_and_its_cosine() -> None:
    vectors = units()
    v = np.array(vectors[3])
    aside = np.array(vectors[4]) - (np.array(vectors[4]) @ v) * v
    aside /= np.linalg.norm(aside)
    near = (np.cos(0.01) * v + np.sin(0.01) * aside).tolist()  # cosine 0.99995
    far = (np.cos(0.02) * v + np.sin(0.02) * -aside).tolist()  # cosine 0.9998 to v, 0.9996 to near
    longer = (2 * np.array(vectors[6])).tolist()
    tables = of(changed(vectors, _8=near, _9=far, _10=longer, _11=vectors[12]), "none")
    found = result_of("near_duplicates", tables)
    assert (found.status, found.count) == ("warn", 4)
    assert [(e["item_id"], e["near_to"]) for e in found.examples] == [(3, 8), (6, 10), (8, 3)]
    assert found.examples[0]["cosine"] == pytest.approx(np.cos(0.01), abs=1e-6)
    wider = result_of("near_duplicates", tables, max_cosine=0.9997)
    assert (wider.status, wider.count) == ("fail", 5)
    assert result_of("near_duplicates", tables, max_cosine=1.0).count == 0


def test_no_cosine_is_beyond_one_whatever_the_rounding() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 64)).astype(np.float32)
    frame = table([*vectors.tolist(), *(1.5 * vectors).tolist()], dim=64)
    tables = Tables.of_frames(embeddings={"text": frame})
    assert result_of("near_duplicates", tables, max_cosine=1.0).count == 0
    assert result_of("near_duplicates", tables).count == 400


def test_too_many_vectors_are_not_compared_and_the_reason_is_told() -> None:
    found = result_of("near_duplicates", of(units()), max_compared_items=15)
    assert found.status == "skipped"
    assert "16 vectors of text" in found.reason and "max_compared_items = 15" in found.reason
    assert result_of("near_duplicates", of(units()), max_compared_items=16).status == "pass"


def test_dimensions_without_variation_are_named() -> None:
    vectors = [[0.0, *v[1:4], 0.5, v[5]] for v in units()]
    found = result_of("dimensions_are_alive", of(vectors, "none"))
    assert (found.status, found.count, found.denominator) == ("warn", 2, 6)
    assert [(e["dimension"], e["value"]) for e in found.examples] == [(0, 0.0), (4, 0.5)]
    assert result_of("dimensions_are_alive", of(vectors, "none"), max_dead_share=0.34).count == 0
    spoilt = changed(vectors, _0=[NAN, 9.0, 9.0, 9.0, 9.0, 9.0])
    assert result_of("dimensions_are_alive", of(spoilt, "none")).count == 2, (
        "not of what is not finite"
    )
    assert result_of("dimensions_are_alive", of(units()[:1])).count == 0, (
        "one vector varies nowhere"
    )


# -- scale -----------------------------------------------------------------------------------------


def modality(n: int, dim: int, norm: float, seed: int) -> pl.DataFrame:
    values = (norm * np.array(units(n, dim, seed))).tolist()
    return table(values, dim)


def users_with(scale: float, n: int = 30, dim: int = 40, dead: int = 0) -> pl.DataFrame:
    values = scale * np.random.default_rng(7).normal(size=(n, dim))
    values[:, :dead] = 0.0
    return pl.DataFrame(
        {"user_id": np.arange(n), "behavior": values},
        schema={"user_id": pl.Int32, "behavior": pl.Array(pl.Float32, dim)},
    )


def side_by_side(
    text: float, image: float, behavior: float, *, how: tuple[str, str, str], dead: int = 0
) -> Tables:
    encoders = dict(
        zip(("text", "image", "behavior"), ({"normalise": h} for h in how), strict=True)
    )
    return Tables.of_frames(
        embeddings={"text": modality(20, 12, text, 0), "image": modality(20, 40, image, 1)},
        users=users_with(behavior, dead=dead),
        manifest={"encoders": encoders},
    )


L2 = ("l2", "l2", "standardize")


@pytest.mark.parametrize(
    ("text", "image", "behavior", "how", "out"),
    [
        (1.0, 1.0, 1.0, L2, []),
        (1.0, 10.0, 1.0, L2, ["image"]),
        (10.0, 1.0, 1.0, L2, ["text"]),
        (1.0, 0.1, 1.0, L2, ["image"]),
        (1.0, 1.0, 20.0, L2, ["behavior"]),
        (10.0, 10.0, 1.0, L2, ["image", "text"]),
        (1.0, 4.5, 1.0, L2, []),
        (12**0.5, 1.0, 1.0, ("standardize", "l2", "standardize"), []),
        (12**0.5, 40**0.5, 1.0, ("whiten", "whiten", "standardize"), []),
        (1.0, 16.0, 1.0, ("l2", "none", "standardize"), ["image"]),
        (1.0, 1.0, 40**-0.5, ("l2", "l2", "l2"), []),
    ],
)
def test_a_modality_many_times_as_large_as_the_others_is_out_of_scale(
    text: float, image: float, behavior: float, how: tuple[str, str, str], out: list[str]
) -> None:
    found = result_of("modalities_share_a_scale", side_by_side(text, image, behavior, how=how))
    assert [example["modality"] for example in found.examples] == out
    assert (found.count, found.denominator) == (len(out), 3)
    assert found.status == ("fail" if out else "pass")


def test_the_scale_of_the_fault_that_gave_nan_fails() -> None:
    rng = np.random.default_rng(0)
    raw = {
        "text": table(rng.uniform(-1, 1, (30, 12)).tolist(), 12),
        "image": table(rng.uniform(-10, 10, (30, 40)).tolist(), 40),
    }
    tables = Tables.of_frames(embeddings=raw, users=users_with(0.58))
    found = result_of("modalities_share_a_scale", tables)
    assert (found.status, ids_of_modalities(found)) == ("fail", ["image"])


def ids_of_modalities(result: Result) -> list[str]:
    return [example["modality"] for example in result.examples]


def test_dead_dimensions_and_what_is_not_finite_do_not_change_the_scale() -> None:
    assert (
        result_of("modalities_share_a_scale", side_by_side(1.0, 1.0, 1.0, how=L2, dead=39)).count
        == 0
    )
    spoilt = changed(units(20), _0=[INF] * 6, _1=[NAN] * 6)
    tables = Tables.of_frames(embeddings={"text": table(spoilt), "image": table(units(20))})
    assert result_of("modalities_share_a_scale", tables).status == "pass"


def test_one_modality_alone_is_not_asked_for_a_shared_scale() -> None:
    found = result_of("modalities_share_a_scale", of(units()))
    assert found.status == "skipped" and found.reason
    ratio = result_of(
        "modalities_share_a_scale", side_by_side(1, 2, 1, how=L2), max_scale_ratio=1.5
    )
    assert ratio.count == 1


def test_what_the_manifest_says_of_scale_is_measured_again() -> None:
    vectors = changed(units(), _3=None)
    assert (
        result_of("scale_matches_manifest", of(vectors, manifest=told("l2", vectors))).status
        == "pass"
    )
    for planted, differs in (
        (changed(vectors, _4=None), "n"),
        (changed(vectors, _4=[NAN] * 6), "n"),
        (changed(vectors, _4=[0.0] * 6), "norm_min"),
        ([None if v is None else [1.2 * x for x in v] for v in vectors], "norm_min"),
        (changed(vectors, _4=[2.0] + [0.0] * 5), "norm_max"),
    ):
        found = result_of("scale_matches_manifest", of(planted, manifest=told("l2", vectors)))
        assert (found.status, found.count) == ("fail", 1)
        assert found.examples[0]["differs"].split(", ")[0] == differs
    larger = [None if v is None else [1.04 * x for x in v] for v in vectors]
    tables = of(larger, manifest=told("l2", vectors))
    assert result_of("scale_matches_manifest", tables).status == "pass", "within 5 %"
    assert result_of("scale_matches_manifest", tables, max_scale_error=0.03).status == "fail"


def test_every_statistic_of_the_manifest_is_compared() -> None:
    vectors = units()
    for name in ("norm_min", "norm_median", "norm_max", "rms", "mean_abs"):
        manifest = told("l2", vectors)
        manifest["encoders"]["text"]["statistics"]["after"][name] *= 1.2
        found = result_of("scale_matches_manifest", of(vectors, manifest=manifest))
        assert found.examples[0]["differs"] == name


def test_means_that_were_taken_before_zeros_became_null_are_not_compared() -> None:
    vectors = changed(units(), _3=None)
    manifest = told("l2", vectors)
    after = manifest["encoders"]["text"]["statistics"]["after"]
    after |= {"n_zero": 1, "norm_min": 0.0, "rms": 0.9 * after["rms"]}
    assert result_of("scale_matches_manifest", of(vectors, manifest=manifest)).status == "pass"
    after["norm_max"] = 2.0
    found = result_of("scale_matches_manifest", of(vectors, manifest=manifest))
    assert found.examples[0]["differs"] == "norm_max"


def test_the_manifest_without_encoders_has_no_scale_to_match() -> None:
    assert result_of("scale_matches_manifest", of(units(), manifest={})).status == "skipped"


@pytest.mark.parametrize(
    ("n_missing", "normalise"), [(0, "standardize"), (6, "standardize"), (6, "l2")]
)
def test_the_scale_of_behaviour_is_that_of_users_with_train_rows(
    n_missing: int, normalise: str
) -> None:
    users = users_with(1.0)
    values = users["behavior"].to_numpy().copy()
    values[:n_missing] = 0.0 if normalise == "standardize" else 1.0
    users = users.with_columns(behavior=pl.Series(values, dtype=users.schema["behavior"]))
    rms = float(np.sqrt(np.mean(values[n_missing:] ** 2)))
    encoder = {
        "normalise": normalise,
        "n_present": 30 - n_missing,
        "n_missing": n_missing,
        "rms": rms,
    }
    manifest = {"encoders": {"behavior": encoder}}
    found = result_of("scale_matches_manifest", Tables.of_frames(users=users, manifest=manifest))
    assert (found.status, found.count) == ("pass", 0)
    encoder["rms"] = 2 * rms
    found = result_of("scale_matches_manifest", Tables.of_frames(users=users, manifest=manifest))
    assert found.count == (1 if normalise == "standardize" else 0)
    encoder["n_present"] = 31 - n_missing
    found = result_of("scale_matches_manifest", Tables.of_frames(users=users, manifest=manifest))
    assert found.examples[0]["differs"].startswith("n")


# -- which items -----------------------------------------------------------------------------------


def test_zeros_in_place_of_null_are_named() -> None:
    found = result_of(
        "missing_modalities_are_null", of(changed(units(), _2=[0.0] * 6, _4=[0.0] * 6))
    )
    assert (found.status, ids(found)) == ("fail", [2, 4])
    assert {example["found"] for example in found.examples} == {"zeros"}


def test_an_embedding_of_a_text_that_is_not_there_is_named() -> None:
    blank = items().with_columns(
        text=pl.when(pl.col("item_id") == 3).then(None)
        .when(pl.col("item_id") == 5).then(pl.lit("  ")).otherwise("text")
    )  # fmt: skip
    found = result_of("missing_modalities_are_null", of(units(), items=blank))
    assert ids(found) == [3, 5]
    without = changed(units(), _3=None, _5=None)
    assert result_of("missing_modalities_are_null", of(without, items=blank)).count == 0


def test_a_text_without_an_embedding_is_named_where_the_manifest_counts_fewer() -> None:
    vectors = changed(units(), _6=None, _7=None)
    for n_missing, expected in ((2, []), (1, [6, 7])):
        manifest = told("l2", vectors, n_missing=n_missing)
        tables = of(vectors, items=items(), manifest=manifest)
        found = result_of("missing_modalities_are_null", tables)
        assert ids(found) == expected


def test_items_and_rows_of_embeddings_are_the_same() -> None:
    frame = table(units())
    assert result_of("embeddings_match_items", of(units(), items=items())).status == "pass"
    other = frame.with_columns(
        item_id=pl.when(pl.col("item_id") == 15).then(99)
        .when(pl.col("item_id") == 2).then(1).otherwise("item_id").cast(pl.Int32)
    )  # fmt: skip
    tables = Tables.of_frames(embeddings={"text": other}, items=items(), manifest={"name": "x"})
    found = result_of("embeddings_match_items", tables)
    assert (found.status, found.count) == ("fail", 4)
    assert [(e["item_id"], e["rows"]) for e in found.examples] == [(1, 2), (2, 0), (15, 0)]
    foreign = Tables.of_frames(embeddings={"text": other.head(10)}, items=items())
    assert result_of("embeddings_match_items", foreign).count == 1, (
        "a missing row may be missing there"
    )


# -- wherever they come from -----------------------------------------------------------------------


def forms(vectors: list[Vector], folder: Path) -> Iterator[tuple[str, Tables]]:
    """Yields the same vectors as frames, lists of 64 bits, a Parquet file, and a folder."""
    frame = table(vectors)
    yield "frame", Tables.of_frames(embeddings={"text": frame})
    lists = frame.with_columns(pl.col("embedding").cast(pl.List(pl.Float64)))
    yield "lists", Tables.of_frames(embeddings={"text": lists.lazy()})
    folder.mkdir(exist_ok=True)
    frame.write_parquet(folder / "text.parquet", row_group_size=3)
    yield "file", Tables.of_file(folder / "text.parquet")
    yield "folder", Tables.of_folder(folder)


def test_a_frame_lists_a_file_and_a_folder_give_the_same_counts(tmp_path: Path) -> None:
    vectors = units(40)
    c = 6**-0.5
    spoilt = changed(
        vectors,
        _1=[NAN] * 6,
        _2=[0.0] * 6,
        _3=[c] * 6,
        _9=vectors[4],
        _11=None,
        _30=[None] + [c] * 5,
    )
    expected = dict(zip(OF_VECTORS, (2, 1, 1, 2, 0, 0), strict=True))
    for name, tables in forms(spoilt, tmp_path / "embeddings"):
        counts = {check: result_of(check, tables).count for check in OF_VECTORS}
        assert counts == expected, name


def test_lists_of_different_lengths_are_an_error_and_never_a_pass() -> None:
    ragged = pl.DataFrame({"item_id": [0, 1], "embedding": [[1.0, 0.0], [1.0]]})
    tables = Tables.of_frames(embeddings={"text": ragged})
    found = result_of("embeddings_are_finite", tables)
    assert found.status == "error"
    assert "another length" in found.reason
    with pytest.raises(DatasetError):
        tables.vectors("text")


@pytest.mark.parametrize("vectors", [[], [None, None], [[0.5] * 6]])
def test_few_or_no_vectors_are_no_error(vectors: list[Vector]) -> None:
    for check in OF_VECTORS:
        assert (
            result_of(check, Tables.of_frames(embeddings={"text": table(vectors)})).status
            != "error"
        )


# -- laws ------------------------------------------------------------------------------------------


@st.composite
def dirty_vectors(draw: st.DrawFn) -> list[Vector]:
    """Vectors with everything wrong that one can have, here and there; few values, so that many are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, dim = draw(st.sampled_from(range(40))), draw(st.sampled_from(range(1, 6)))
    coarse = draw(st.booleans())
    share = draw(st.sampled_from([0.0, 0.1, 0.4]))
    values = rng.integers(-2, 3, (n, dim)) if coarse else rng.normal(size=(n, dim))
    values = values.astype(np.float32)
    if draw(st.booleans()):
        values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    vectors: list[Vector] = values.tolist()
    for k in np.flatnonzero(rng.random(n) < share).tolist():
        vector = list(vectors[k] or [])
        kind = rng.integers(8)
        wrong: dict[int, Vector] = {
            0: None,
            1: [0.0] * dim,
            2: [0.25] * dim,
            3: [*vector[:-1], NAN],
            4: [INF, *vector[1:]],
            5: [None, *vector[1:]],
            6: vectors[rng.integers(n)],
            7: [x if x is None else x * (1 + 1e-5) for x in vector],
        }
        vectors[k] = wrong[int(kind)]
    return vectors


def dim_of(vectors: list[Vector]) -> int:
    return next((len(v) for v in vectors if v is not None), 2)


def sound(vectors: list[Vector]) -> dict[int, np.ndarray]:
    """The finite vectors by item, as they lie on disk."""
    kept = {}
    for k, v in enumerate(vectors):
        if v is not None and all(x is not None and np.isfinite(np.float32(x)) for x in v):
            kept[k] = np.array(v, dtype=np.float32)
    return kept


def by_brute_force(vectors: list[Vector], max_cosine: float) -> dict[str, int]:
    good = sound(vectors)
    nonzero = {k: v for k, v in good.items() if np.linalg.norm(v.astype(float)) > 0}
    same = [
        k
        for k, v in nonzero.items()
        if sum(v.tobytes() == w.tobytes() for w in nonzero.values()) > 1
    ]
    once = {v.tobytes(): v.astype(float) for v in nonzero.values()}
    alike = set()
    for (a, x), (b, y) in itertools.combinations(once.items(), 2):
        if x @ y / np.linalg.norm(x) / np.linalg.norm(y) > max_cosine:
            alike |= {a, b}
    stacked = np.array(list(good.values()))
    return {
        "embeddings_are_finite": sum(v is not None for v in vectors) - len(good),
        "embeddings_have_norm": sum(
            abs(np.linalg.norm(v.astype(float)) - 1) > 0.001 for v in good.values()
        ),
        "embeddings_are_not_constant": sum(len(v) > 1 and np.ptp(v) == 0 for v in nonzero.values()),
        "embeddings_are_distinct": len(same),
        "near_duplicates": len(alike),
        "dimensions_are_alive": int((np.ptp(stacked, axis=0) == 0).sum()) if len(good) > 1 else 0,
    }


@law
@given(dirty_vectors(), st.sampled_from([(8192, 1024, 1024), (5, 3, 4), (1, 1, 1)]))
def test_every_count_is_that_of_brute_force_whatever_the_blocks(
    vectors: list[Vector], sizes: tuple[int, int, int]
) -> None:
    manifest = {"encoders": {"text": {"normalise": "l2"}}}
    rows, tile, block = sizes
    with (
        mock.patch("fedprep.checks.vectors.BLOCK_ROWS", rows),
        mock.patch("fedprep.checks.vectors.TILE_ROWS", tile),
        mock.patch("fedprep.checks.neighbours.BLOCK", block),
    ):
        tables = Tables.of_frames(
            embeddings={"text": table(vectors, dim_of(vectors))}, manifest=manifest
        )
        validation = validate(tables, {"max_cosine": 0.97}, only=OF_VECTORS)
    counts = {check: validation[check].count for check in OF_VECTORS}
    assert {r.status for r in validation.results} <= {"pass", "warn", "fail"}
    assert counts == by_brute_force(vectors, 0.97)


@law
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=6), st.floats(1.0, 20.0))
def test_what_is_left_shares_a_scale_and_no_fewer_need_to_go(
    scales: list[float], ratio: float
) -> None:
    from fedprep.checks.scale import _out_of_scale

    out = _out_of_scale(np.array(scales), ratio)
    left = np.array(scales)[~out]
    assert left.max() / left.min() <= ratio * (1 + 1e-9)
    if out.any():
        assert max(scales) / min(scales) > ratio
    distance = np.abs(np.log(scales))
    assert not out.any() or distance[out].min() >= distance[~out].max()


def test_every_check_of_embeddings_has_a_test_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    names = [check.name for check in CHECKS.values() if check.group == "embeddings"]
    assert len(names) == 10
    assert [name for name in names if f'"{name}"' not in source] == []
