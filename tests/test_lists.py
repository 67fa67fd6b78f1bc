"""Lists inside of texts."""

from __future__ import annotations

import polars as pl
import pytest

from fedprep.errors import SourceError
from fedprep.sources.lists import strings_of_lists


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['Ale', 'Sci-Fi']", ["Ale", "Sci-Fi"]),
        ('["Ale","Sci-Fi"]', ["Ale", "Sci-Fi"]),
        ("""['it\\'s', "Tom's", 'a, b', 'say "x"']""", ["it's", "Tom's", "a, b", 'say "x"']),
        ("['Ale' 'Sci-Fi'\n 'Tea']", ["Ale", "Sci-Fi", "Tea"]),
        ("('Ale',)", ["Ale"]),
        ("{'Ale', 'Tea'}", ["Ale", "Tea"]),
        ("[u'Ale']", ["Ale"]),
        ('[{"id": 18, "name": "Drama"}, {"id": 1, "name": "Tea"}]', ["Drama", "Tea"]),
        ("[{'id': 18, 'name': 'Drama'}]", ["Drama"]),
        ('{"id": 18, "name": "Drama"}', ["Drama"]),
        ("[['Ale', 'Tea'], ['Ale', 'Rum']]", ["Ale", "Tea", "Ale", "Rum"]),
        ("[1, 2]", ["1", "2"]),
        ("[]", []),
        ("()", []),
        ("[cut", None),
        ("[deleted]", None),
        ("(a) thing", None),
        ("A|B", None),
        ("", None),
        (None, None),
    ],
)
def test_lists_are_read_however_they_are_spelled(text, expected):
    texts = pl.Series("categories", ["plain", text], dtype=pl.String)
    assert strings_of_lists(texts).to_list() == [None, expected]


def test_objects_without_a_name_are_refused_and_shown():
    with pytest.raises(SourceError, match="id") as caught:
        strings_of_lists(pl.Series("categories", ['[{"name": "x"}]', '[{"id": 18}]']))
    assert "18" in str(caught.value)
