"""What a message says of a word that nobody knows."""

from __future__ import annotations

from fedprep.errors import nearest


def test_the_closest_words_are_offered_whatever_their_case() -> None:
    assert nearest("NDGC", ["ndcg", "hr", "mrr"]) == "did you mean 'ndcg'?"


def test_known_words_are_listed_where_none_is_close() -> None:
    assert nearest("zzz", ["hr", "auc"]) == "known: auc, hr"


def test_of_a_thousand_known_words_a_few_are_listed_with_their_number() -> None:
    said = nearest("zzz", (f"model{number:04d}" for number in range(1_000)))
    assert said.startswith("1,000 are known: model0000, model0001, ")
    assert said.endswith("model0019, …")
