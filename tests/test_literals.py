"""Python dicts as JSON: the fast way means what Python reads, or leaves the line to the slow way."""

from __future__ import annotations

import json

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.sources.literals import eval_literals, json_of_literals

TEXT = st.text(st.sampled_from("ab'\"\\/nxuN0{}[]:, é\n\t\r\x01\x04\x7f\xa0 😀"), max_size=12)
VALUES = st.recursive(
    TEXT
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def lines(*texts: str) -> pl.DataFrame:
    return pl.DataFrame(
        {"line": range(1, len(texts) + 1), "text": texts},
        schema={"line": pl.UInt32, "text": pl.String},
    )


def read(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_quotes_and_escapes_are_rewritten():
    texts = [
        r"""{'a': 'plain', 'b': 1.5, 'c': [['x'], []]}""",
        r"""{'a': "it's", 'b': 'a "b"', 'c': 'it\'s "b"'}""",
        r"""{'a': 'caf\xe9 \u20ac \n \\ \\n \\\''}""",
    ]
    found = json_of_literals(lines(*texts))
    assert found["line"].to_list() == [1, 2, 3]
    assert list(map(read, found["text"])) == [
        {"a": "plain", "b": 1.5, "c": [["x"], []]},
        {"a": "it's", "b": 'a "b"', "c": 'it\'s "b"'},
        {"a": "café € \n \\ \\n \\'"},
    ]


def test_lines_that_mean_something_else_in_json_are_not_touched():
    texts = [r"{'a': 'b\/c'}", '{"a": "b\\/c"}', "{'a': 'raw \x02'}"]
    assert json_of_literals(lines(*texts))["text"].to_list() == texts


def test_python_reads_the_rest_and_refuses_what_is_no_dict():
    texts = [
        "{'a': None, 'b': (1, 2)}",
        "['a']",
        "{'a': open('x')}",
        "{'a'",
        "{1: {}}",
        "(" * 500,
        "{[]: 1}",
    ]
    found = eval_literals(lines(*texts))
    assert found["line"].to_list() == [1, 5]
    assert list(map(read, found["text"])) == [{"a": None, "b": [1, 2]}, {"1": {}}]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=4), min_size=1, max_size=6))
def test_a_rewritten_dict_is_the_same_or_no_json(dicts):
    found = json_of_literals(lines(*map(repr, dicts)))
    assert found["line"].to_list() == list(range(1, len(dicts) + 1))
    for meant, text in zip(dicts, found["text"], strict=True):
        assert read(text) in (meant, None)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(TEXT, TEXT | st.floats(-9, 9), max_size=4), min_size=1, max_size=6))
def test_dicts_of_clean_texts_and_numbers_need_no_slow_way(dicts):
    clean = [{k: v for k, v in d.items() if "\\/" not in repr((k, v))} for d in dicts]
    found = json_of_literals(lines(*map(repr, clean)))
    assert list(map(read, found["text"])) == clean
