"""A protocol's id tells apart what changes numbers, and its warnings say what a reader must know."""

from __future__ import annotations

import pytest

from fedeval.policy import Policy
from fedeval.protocol import Protocol
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
