"""A protocol's id tells apart what changes numbers, and its warnings say what a reader must know."""

from __future__ import annotations

import polars as pl
import pytest

from fedeval import evaluate
from fedeval.policy import Policy
from fedeval.protocol import Protocol, digest_of
from fedprep.errors import EvaluationError

OTHERS = {
    "split": Protocol(split="global_time"),
    "relevant": Protocol(relevant="liked"),
    "candidates": Protocol(candidates="uniform", n_negatives=99),
    "more candidates": Protocol(candidates="uniform", n_negatives=100),
    "seed": Protocol(candidates="uniform", n_negatives=99, seed=1),
    "popularity": Protocol(candidates="popularity", n_negatives=99),
    "file": Protocol(candidates="file"),
    "another file": Protocol(candidates="file", digest="0b5c7a11"),
    "rows": Protocol(rows="valid"),
    "negative pool": Protocol(negative_pool="all"),
    "no negative pool": Protocol(negative_pool="none"),
    "seen": Protocol(seen="kept"),
    "ties": Protocol(policy=Policy(ties="average")),
    "users": Protocol(policy=Policy(users="truth")),
    "order": Protocol(policy=Policy(order="score")),
    "min_relevance": Protocol(policy=Policy(min_relevance=4)),
    "truth": Protocol(truth="0b5c7a11"),
    "unknown seen": Protocol(seen="unknown"),
}


def test_the_id_is_short_and_readable() -> None:
    assert Protocol(split="leave_last_out").id.startswith("leave_last_out/full/seen-excluded@")
    sampled = Protocol(split="global_time", candidates="uniform", n_negatives=99)
    assert sampled.id.startswith("global_time/uniform-99/seen-excluded@")


def test_the_id_tells_apart_all_that_changes_numbers_and_nothing_else() -> None:
    ids = [protocol.id for protocol in OTHERS.values()] + [Protocol().id]
    assert len(set(ids)) == len(ids)
    assert Protocol(k=(5, 10)).id == Protocol(k=(20,)).id == Protocol().id


def test_a_thousand_seeds_have_a_thousand_ids() -> None:
    ids = {Protocol(candidates="uniform", n_negatives=100, seed=seed).id for seed in range(1000)}
    assert len(ids) == 1000


def test_sampled_candidates_come_with_the_warning_and_its_source() -> None:
    warning = Protocol(candidates="popularity", n_negatives=99).warning()
    assert "99 sampled items" in warning
    assert "Krichene & Rendle" in warning
    assert "KDD 2020" in warning
    assert Protocol().warning() == ""
    assert "never drawn" in Protocol(negative_pool="all").warning()


def test_the_description_says_every_choice() -> None:
    for name in (
        "split",
        "rows",
        "relevant",
        "candidates",
        "negative pool",
        "seen",
        "ties",
        "users",
    ):
        assert OTHERS[name].describe() != Protocol().describe(), name


def test_the_description_is_sentences_and_not_the_names_of_fields() -> None:
    for protocol in [Protocol(split="leave_last_out"), *OTHERS.values()]:
        text = protocol.describe()
        assert all(part[:1].isupper() for part in text.removesuffix(".").split(". ")), text
        assert text.endswith(".") and "_" not in text.replace("leave_last_out", ""), text
    usual = Protocol(split="leave_last_out").describe()
    for words in (
        "what each user did last",
        "the best of all items of train",
        "item id",
        "scores 0",
    ):
        assert words in usual
    assert "discount is log2(r)" in Protocol(policy=Policy(discount="log2(r)")).describe()


def test_the_words_of_a_protocol_are_no_part_of_its_id() -> None:
    assert Protocol(split="leave_last_out").id == "leave_last_out/full/seen-excluded@5662cecd"
    assert OTHERS["negative pool"].id == "given/full/seen-excluded@c2bc98bd"


def test_a_protocol_is_plain_values_and_frozen() -> None:
    facts = Protocol(k=(5, 10)).to_dict()
    assert facts["k"] == [5, 10]
    assert facts["policy"]["ties"] == "item_id"
    with pytest.raises(AttributeError):
        Protocol().split = "ratio"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"candidates": "ful"}, "did you mean 'full'"),
        ({"candidates": "uniform"}, "n_negatives is 0"),
        ({"n_negatives": 99}, "n_negatives is 99"),
        ({"seen": "no"}, "no seen is called 'no'"),
        ({"rows": "vaild"}, "did you mean 'valid'"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(EvaluationError) as error:
        Protocol(**options)  # type: ignore[arg-type]
    assert told in str(error.value)


TRUTH = pl.DataFrame(
    {"user_id": [3, 1, 2], "item_id": [7, 8, 9]}, schema_overrides={"user_id": pl.Int32}
)

SAME = {
    "order of rows": TRUTH.reverse(),
    "order of columns": TRUTH.select("item_id", "user_id"),
    "width": TRUTH.cast(pl.Int64),
    "text": TRUTH.cast(pl.String),
    "relevance of 1": TRUTH.with_columns(relevance=1.0),
    "another column": TRUTH.with_columns(timestamp=5),
}

OTHER = {
    "item": TRUTH.with_columns(item_id=pl.Series([7, 8, 10])),
    "user": TRUTH.with_columns(user_id=pl.Series([3, 1, 4])),
    "row": TRUTH.head(2),
    "relevance": TRUTH.with_columns(relevance=pl.Series([1.0, 1.0, 2.0])),
    "swapped": TRUTH.with_columns(item_id=pl.Series([8, 7, 9])),
}


def test_a_truth_has_one_digest_however_it_is_written_and_another_truth_another() -> None:
    assert {name: digest_of(rows) for name, rows in SAME.items()} == dict.fromkeys(
        SAME, digest_of(TRUTH)
    )
    found = [digest_of(TRUTH), *(digest_of(rows) for rows in OTHER.values())]
    assert len(set(found)) == len(found)
    rated = [TRUTH.with_columns(rating=pl.Series(r)) for r in ([1, 2, 3], [1, 2, 4])]
    assert digest_of(rated[0]) == digest_of(rated[1])
    assert digest_of(rated[0], "rating") != digest_of(rated[1], "rating")


def test_an_evaluation_says_what_its_lists_hold() -> None:
    recs = pl.DataFrame({"user_id": [1, 1], "item_id": [8, 5], "rank": [1, 2]})
    told = Protocol()

    def seen(train: list[int] | None, depth: int = 2) -> str:
        rows = None if train is None else {"user_id": [1] * len(train), "item_id": train}
        protocol = evaluate(recs, TRUTH, [f"hr@{depth}"], protocol=told, train=rows).protocol
        assert protocol.truth == digest_of(TRUTH)
        return str(protocol.seen)

    assert seen([6]) == "excluded"
    assert seen([6, 5]) == "kept"  # one place of two
    assert seen([6, 5], depth=1) == "excluded"  # which was not looked at
    assert seen(None) == "unknown"
