"""Amazon's metadata: three editions, one form; what the scraper left is taken out and counted."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from fedprep.schema import silent
from fedprep.sources.amazon_items import read_items


def read(tmp_path: Path, edition: str, lines: list[dict | str]):
    write = repr if edition == "2014" else json.dumps
    path = tmp_path / "meta"
    path.write_text("\n".join(line if isinstance(line, str) else write(line) for line in lines))
    rows, steps = read_items(path, edition, tmp_path / "out", silent)
    return rows.collect(), {step.name: step for step in steps}


def test_2014_python_dicts_are_read(tmp_path):
    items, steps = read(
        tmp_path,
        "2014",
        [
            {
                "asin": "I1",
                "title": 'Kettle\'s "best" &amp; cup',
                "description": "A <b>steel</b> kettle\nfor two.",
                "price": 29.99,
                "imUrl": "http://i.example/I/1.jpg",
                "related": {"also_bought": ["I2"]},
                "salesRank": {"Home": 7},
                "brand": "Quay",
                "categories": [["Home & Kitchen", "Kettles"], ["Home & Kitchen", "Gifts"]],
            },
            {"asin": "I2"},
        ],
    )
    assert items.schema == {
        "item": pl.String,
        "title": pl.String,
        "categories": pl.List(pl.String),
        "image": pl.String,
        "description": pl.String,
        "brand": pl.String,
        "price": pl.Float32,
    }
    assert items.row(0)[:6] == (
        "I1",
        'Kettle\'s "best" & cup',
        ["Home & Kitchen", "Kettles", "Gifts"],
        "http://i.example/I/1.jpg",
        "A steel kettle for two.",
        "Quay",
    )
    assert items["price"][0] == pytest.approx(29.99)
    assert items.row(1) == ("I2", *[None] * 6)
    assert all(step.dropped == 0 for step in steps.values())


def test_2018_both_releases_and_strings_or_lists_are_read(tmp_path):
    items, _ = read(
        tmp_path,
        "2018",
        [
            {"asin": "I1", "title": "Kettle", "description": ["Steel.", "For &quot;two&quot;."],
             "feature": ["a", "b"], "brand": "Quay", "price": "$1,250.00",
             "category": ["Home", "Home", "", "Kettles"],
             "imageURL": ["http://i.example/1._SS40_.jpg"],
             "imageURLHighRes": ["http://i.example/1.jpg"]},
            {"asin": "I2", "title": ["Cup"], "description": "Blue.", "feature": "c", "brand": "", "price": "",
             "category": "Cups", "image": ["http://i.example/2.jpg", "http://i.example/3.jpg"]},
            {"asin": "I3", "description": [], "category": [], "image": [], "imageURLHighRes": []},
        ],
    )  # fmt: skip
    assert items["title"].to_list() == ["Kettle", "Cup", None]
    assert items["description"].to_list() == ['Steel. For "two".', "Blue.", None]
    assert items["features"].to_list() == ["a b", "c", None]
    assert items["brand"].to_list() == ["Quay", None, None]
    assert items["price"].to_list() == [1250.0, None, None]
    assert items["categories"].to_list() == [["Home", "Kettles"], ["Cups"], None]
    assert items["image"].to_list() == [
        "http://i.example/1.jpg",
        "http://i.example/2.jpg",
        None,
    ]


def test_2023_takes_the_main_picture_and_the_main_category_where_there_is_no_other(tmp_path):
    def picture(variant, large, hi_res):
        return {
            "thumb": "http://i.example/t.jpg",
            "large": large,
            "variant": variant,
            "hi_res": hi_res,
        }

    one, two, three = (f"http://i.example/{n}.jpg" for n in (1, 2, 3))
    items, _ = read(
        tmp_path,
        "2023",
        [
            {"parent_asin": "P1", "categories": ["Beauty", "Soap"], "main_category": "All Beauty",
             "store": "Quay", "price": 9.5, "features": [],
             "images": [picture("PT01", one, None), picture("MAIN", two, three)]},
            {"parent_asin": "P2", "categories": [], "main_category": "All Beauty", "price": None,
             "images": [picture("MAIN", two, None)]},
            {"parent_asin": "P3", "categories": [], "main_category": None, "price": "from 14.99",
             "images": [picture("PT01", one, None)]},
            {"parent_asin": "P4", "images": []},
        ],
    )  # fmt: skip
    assert items["image"].to_list() == [three, two, one, None]
    assert items["categories"].to_list() == [["Beauty", "Soap"], ["All Beauty"], None, None]
    assert items["price"].to_list() == [9.5, None, None, None]
    assert items["brand"].to_list() == ["Quay", None, None, None]


def test_what_the_scraper_left_is_counted(tmp_path):
    markup = '<span class="a-size-medium a-color-secondary"'
    items, steps = read(
        tmp_path,
        "2018",
        [
            {"asin": "I1", "title": markup, "price": ".a-box-inner{background-color:#fff}"},
            {"asin": "I2", "title": markup + ">Kettle</span>", "price": "$3.00"},
            {"asin": "I3", "title": "(new Date()).getTime();", "price": "$1.00 - $2.00"},
            {"asin": "I4", "title": "Cup", "price": ""},
            {"asin": "I4", "title": "The same", "price": "$9.00"},
            {"asin": "", "title": "Nobody's"},
            '{"asin": "I5',
            {"asin": "I6"},
        ],
    )
    assert items["item"].to_list() == ["I1", "I2", "I3", "I4", "I6"]
    assert items["title"].to_list() == [None, "Kettle", None, "Cup", None]
    assert items["price"].to_list() == [None, 3.0, None, None, None]
    counts = {name: (step.rows_in, step.rows_out, step.examples) for name, step in steps.items()}
    assert counts == {
        "bad lines in metadata": (8, 7, ("line 7",)),
        "repeated metadata": (7, 5, ("line 5", "line 6")),
        "unreadable titles": (4, 2, ("item I1", "item I3")),
        "unreadable prices": (3, 1, ("item I1", "item I3")),
    }
    assert steps["unreadable titles"].unit == "titles"
    assert "1 had HTML taken out" in steps["unreadable titles"].why


def test_dicts_in_place_of_json_are_read(tmp_path):
    items, _ = read(tmp_path, "2018", ["{'asin': u' I1\\xa0', 'title': 'Kettle'}"])
    assert items.select("item", "title").rows() == [("I1", "Kettle")]
