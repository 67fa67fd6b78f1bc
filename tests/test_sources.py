"""The contract that every source keeps: the recipes' names, one line of words, files, terms, tables."""

from __future__ import annotations

from typing import get_args, get_type_hints

import polars as pl
import pytest

from fedprep.recipe import Source, Synthetic
from fedprep.schema import silent
from fedprep.sources import SOURCES
from fedprep.sources.facts import facts
from fedprep.sources.synthetic import write_raw

EDITIONS = [
    *(("movielens", edition, "") for edition in ("100k", "1m", "10m", "25m", "latest-small")),
    *(("amazon", edition, "Gift_Cards") for edition in ("2018", "2023")),
    ("amazon", "2014", "Beauty"),
    ("yelp", "", ""),
]


def test_sources_are_those_that_recipes_may_name():
    names = get_args(get_type_hints(Source)["name"])
    assert set(SOURCES) == set(names)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_summed_up_in_one_line(name):
    assert 10 < len(SOURCES[name].summary) < 120
    assert "\n" not in SOURCES[name].summary


@pytest.mark.parametrize(("name", "edition", "category"), EDITIONS)
def test_files_have_roles_and_names_and_terms_have_a_citation(name, edition, category):
    options = Source(name=name, edition=edition, category=category)
    files = SOURCES[name].files(options)
    assert len({file.role for file in files}) == len(files) > 0
    assert all(candidate.name for file in files for candidate in file.candidates)
    assert all(file.form or candidate.urls for file in files for candidate in file.candidates)
    terms = SOURCES[name].terms(options)
    assert terms.citation and terms.licence and terms.licence_text
    assert all(count > 0 for count in SOURCES[name].expected(options).values())


@pytest.mark.parametrize(("name", "edition", "category"), EDITIONS)
def test_tables_have_the_columns_that_the_build_asks_for(name, edition, category, tmp_path):
    size = Synthetic(n_users=40, n_items=30, n_interactions=400)
    paths = write_raw(
        tmp_path / "raw",
        family=name,
        edition=edition,
        category=category,
        size=size,
        seed=3,
        progress=silent,
    )
    options = Source(name=name, edition=edition, category=category)
    raw = SOURCES[name].read(paths, options, tmp_path / "work", silent)
    rows, items, users = raw.interactions.collect(), raw.items.collect(), raw.users.collect()
    ids = rows.schema["item"]
    assert ids in (pl.String, pl.Int64)
    assert rows.columns == ["user", "item", "rating", "timestamp", "line"]
    assert rows.dtypes == [ids, ids, pl.Float32, pl.Int64, pl.UInt32]
    assert rows.null_count().row(0) == (0,) * 5
    assert rows["line"].is_sorted()
    assert items.schema["item"] == ids and items["item"].is_unique().all()
    assert items.schema["title"] == items.schema["image"] == pl.String
    assert items.schema["categories"] == pl.List(pl.String)
    strings = items.select(pl.col(pl.String))
    assert not strings.select(pl.any_horizontal((pl.all() == "").any())).item()
    assert not (items["categories"].list.len() == 0).any()
    assert users.schema["user"] == ids and users["user"].is_unique().all()
    assert set(rows["item"]) <= set(items["item"])
    assert raw.steps and all(step.stage == "read" and step.dropped == 0 for step in raw.steps)


def test_every_file_of_a_role_is_named_once_among_the_facts():
    names = [edition["file"] for edition in facts("movielens")["editions"].values()]
    assert len(set(names)) == len(names) == 7
