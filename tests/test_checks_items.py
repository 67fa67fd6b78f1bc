"""Checks of items: ids that number the rows, texts that are there and plain."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given, settings

from fedprep.checks import CHECKS, Tables
from tests.checked import items, result_of, users

law = settings(max_examples=60, deadline=None)

DATASET = {"name": "some Dataset"}


def of(frame: pl.DataFrame, **more: Any) -> Tables:
    return Tables.of_frames(**{"items": frame, "users": users(), "manifest": DATASET, **more})


def with_ids(ids: list[int | None]) -> pl.DataFrame:
    return items(len(ids)).with_columns(item_id=pl.Series(ids, dtype=pl.Int32))


def with_texts(texts: list[str | None]) -> Tables:
    return of(items(len(texts)).with_columns(text=pl.Series(texts, dtype=pl.String)))


def problems(tables: Tables) -> list[tuple[int, str]]:
    found = result_of("ids_are_dense_and_unique", tables)
    assert found.status == ("fail" if found.count else "pass")
    assert len(found.examples) == min(found.count, 3)
    return [(example["row"], example["problem"]) for example in found.examples]


# -- ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([0, 1, 2, 3], []),
        ([0, 1, 1, 3], [(2, "repeated")]),
        ([0, None, 2, 3], [(1, "missing")]),
        ([0, 1, 2, 4], [(3, "not below the number of rows")]),
        ([-1, 1, 2, 3], [(0, "not below the number of rows")]),
        ([0, 2, 1, 3], [(2, "out of order")]),
        ([1, 2, 3, 4], [(3, "not below the number of rows")]),
    ],
)
def test_ids_of_a_dataset_number_its_rows(
    ids: list[int | None], expected: list[tuple[int, str]]
) -> None:
    assert problems(of(with_ids(ids))) == expected


def test_ids_of_other_tables_need_only_be_there_once() -> None:
    frame = with_ids([7, 3, 99, 3, None])
    assert problems(of(frame, manifest=None)) == [(3, "repeated"), (4, "missing")]
    words = items(4).with_columns(item_id=pl.Series(["b", "a", "b", "c"]))
    assert problems(of(words, manifest=None)) == [(2, "repeated")]


def test_ids_of_users_are_asked_for_as_well_and_the_table_is_named() -> None:
    twice = users().with_columns(user_id=pl.col("user_id").clip(0, 17))
    found = result_of("ids_are_dense_and_unique", of(items(), users=twice))
    assert (found.count, found.denominator) == (2, 36)
    assert {example["table"] for example in found.examples} == {"users"}
    assert [example["id"] for example in found.examples] == ["17", "17"]


def test_without_items_and_users_there_is_nothing_to_ask() -> None:
    rows = pl.DataFrame({"user_id": [1], "item_id": [1]})
    found = result_of("ids_are_dense_and_unique", Tables.of_frames(interactions=rows))
    assert found.status == "skipped" and found.reason


@law
@given(st.lists(st.one_of(st.none(), st.integers(-2, 12)), max_size=12), st.booleans())
def test_ids_are_told_as_by_brute_force(ids: list[int | None], is_dataset: bool) -> None:
    seen: set[int] = set()
    wrong = 0
    for k in ids:
        dense = k is not None and 0 <= k < len(ids) and k >= max(seen, default=-1)
        wrong += k is None or k in seen or (is_dataset and not dense)
        seen |= {k} if k is not None else set()
    tables = of(with_ids(ids), users=None, manifest=DATASET if is_dataset else None)
    assert result_of("ids_are_dense_and_unique", tables).count == wrong


# -- texts -----------------------------------------------------------------------------------------


def test_missing_and_blank_texts_are_named_with_their_title() -> None:
    tables = with_texts(["a book", None, "", " \t\n", "x"])
    found = result_of("texts_are_present", tables)
    assert (found.status, found.severity, found.count, found.denominator) == ("warn", "warn", 3, 5)
    assert [(e["item_id"], e["title"]) for e in found.examples] == [
        (1, "title 1"),
        (2, "title 2"),
        (3, "title 3"),
    ]
    assert result_of("texts_are_present", tables, max_missing_text_share=0.6).status == "pass"
    gate = result_of("texts_are_present", tables, max_missing_text_share=0.5)
    assert (gate.status, gate.count) == ("fail", 3)


def test_items_without_a_column_of_texts_are_not_asked_for_them() -> None:
    found = result_of("texts_are_present", of(items().drop("text"), manifest=None))
    assert (found.status, found.reason) == ("skipped", "items have no column text")


MARKUP = [
    "<b>bold</b>", "a <br/> b", "line<BR>line", '<span class="a-size-medium">x</span>', "</div>",
    "x<!-- hidden -->y", "<!DOCTYPE html>", "Tom &amp; Jerry", "&#8230;", "caf&#xe9;", "a&nbsp;b",
    "<img src='x.jpg'>", "<a href=x>link</a>", "<h2>title</h2>", "<script\nsrc=x>", "&quot;quoted&quot;",
]  # fmt: skip
PLAIN = [
    "<Untitled>", "x < y and y > z", "AT&T; and others", "a <3 b", "R&B", "Q&A; more", "<unknown tag>",
    "5 > 4", "<blink182>", "black & white", "&lost;", "if a<b then c>d", "<3", "i <- 1", "", "<p",
]  # fmt: skip


@pytest.mark.parametrize("text", MARKUP)
def test_a_piece_of_a_web_page_is_markup(text: str) -> None:
    found = result_of("texts_are_not_markup", with_texts(["plain", text, None]))
    assert (found.status, found.count) == ("warn", 1)
    assert found.examples[0] == {"item_id": 1, "text": text[:120]}


@pytest.mark.parametrize("text", PLAIN)
def test_a_text_with_angles_and_ampersands_is_none(text: str) -> None:
    assert result_of("texts_are_not_markup", with_texts([text])).count == 0


def test_the_share_of_markup_is_of_the_items_that_have_a_text() -> None:
    tables = with_texts(["<b>x</b>", "plain", *[None] * 8])
    assert result_of("texts_are_not_markup", tables, max_markup_share=0.5).status == "pass"
    gate = result_of("texts_are_not_markup", tables, max_markup_share=0.4)
    assert (gate.status, gate.count) == ("fail", 1)
    long = with_texts(["<b>" + "x" * 1000])
    assert len(result_of("texts_are_not_markup", long).examples[0]["text"]) == 120


def test_every_check_of_items_has_a_test_here() -> None:
    names = {check.name for check in CHECKS.values() if check.group == "items"}
    assert names == {
        "ids_are_dense_and_unique",
        "texts_are_present",
        "texts_are_not_markup",
        "numbers_are_finite",  # tested where it is: test_checks_run.py
    }
