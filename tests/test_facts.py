"""The facts of the raw data: complete, well formed, and of a size to read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedprep.errors import RecipeError
from fedprep.sources import facts as module
from fedprep.sources.facts import chosen, facts, terms_of

FOLDER = Path(module.__file__).parent


def leaves(table, path=()):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def test_every_edition_states_its_terms():
    tables = [facts("amazon")[edition] for edition in ("2014", "2018", "2023")] + [facts("yelp")]
    for terms in map(terms_of, tables):
        assert terms.licence and terms.licence_text and terms.citation
        assert terms.homepage.startswith("http")
        assert terms.redistribution is False


def test_categories_are_as_many_as_were_published():
    amazon = facts("amazon")
    assert [len(set(amazon[year]["categories"])) for year in ("2014", "2018")] == [24, 29]
    assert len(amazon["2023"]["reviews"]) == 34
    assert list(amazon["2023"]["meta"]) == list(amazon["2023"]["reviews"])
    assert len(amazon["2023"]["ratings_5core"]) == 28
    assert set(amazon["2023"]["ratings_5core"]) < set(amazon["2023"]["reviews"])


def test_checksums_and_sizes_are_well_formed_and_no_two_files_share_one():
    seen = []
    for source in ("movielens", "amazon", "yelp"):
        for path, value in leaves(facts(source)):
            if isinstance(value, list) and isinstance(value[0], int):
                assert value[0] > 10_000
                seen.append(value[1])
            elif {"md5", "sha256"} & set(path):
                seen.append(value)
    assert len(seen) == len(set(seen)) == 12 + 24 + 34 + 34 + 28 + 4
    assert all(re.fullmatch("[0-9a-f]{32}|[0-9a-f]{64}", value) for value in seen)


def test_md5s_are_of_files_of_known_categories():
    table = facts("amazon")["2014"]
    names = {f"{kind}_{c}.json.gz" for kind in ("reviews", "meta") for c in table["categories"]}
    assert set(table["md5"]) < names


def test_the_file_stays_small():
    assert (FOLDER / "facts.toml").stat().st_size < 100_000


def test_an_unknown_choice_names_the_nearest():
    assert chosen("edition", "1m", ["1m", "10m"]) == "1m"
    with pytest.raises(RecipeError, match="did you mean 'Gift_Cards'"):
        chosen("category", "gift_card", facts("amazon")["2018"]["categories"])
    with pytest.raises(RecipeError, match="names no edition") as error:
        chosen("edition", "", ["1m", "10m"])
    assert error.value.expected == "1m | 10m"
